/** Wires the parts: the listing says which symbols there are, channels bring their updates, the grid shows them. */

import { CatalogError, readCatalog, type Catalog } from "./catalog";
import { formatCount } from "./format";
import { Grid } from "./grid";
import { RateMeter } from "./meter";
import type { Listing } from "./protocol";
import { applySnapshot, applyState, applyUpdate, fromListing, refreshed, type Step, type Ticker } from "./quotes";
import { describe, FRESH_ROUND, isRecovered, withReply } from "./resume";
import { Session, type Connection, type Rate } from "./session";
import { bindTheme } from "./theme";

/** More rows than anyone reads, and well below the channels that one socket may have. */
const SYMBOLS_MAX = 500;

/** How soon a symbol that is published for the first time shows up. */
const CATALOG_MS = 5000;

function find<T extends HTMLElement>(id: string, kind: new () => T): T {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new TypeError(`the page has no ${kind.name} #${id}`);
  return element;
}

const page = {
  connection: find("connection", HTMLElement),
  resume: find("resume", HTMLElement),
  simulated: find("simulated", HTMLElement),
  problem: find("problem", HTMLElement),
  filter: find("filter", HTMLInputElement),
  rate: find("rate", HTMLSelectElement),
  drop: find("drop", HTMLButtonElement),
  updates: find("updates", HTMLElement),
  conflated: find("conflated", HTMLElement),
  lost: find("lost", HTMLElement),
  card: find("card", HTMLElement),
  grid: find("grid", HTMLElement),
  nomatch: find("nomatch", HTMLElement),
  truncated: find("truncated", HTMLElement),
  empty: find("empty", HTMLElement),
  example: find("example", HTMLElement),
};

bindTheme(find("theme", HTMLButtonElement));

const token = new URLSearchParams(location.search).get("token");
const tickers = new Map<string, Ticker>();
const grid = new Grid(find("rows", HTMLElement), tickers);
const meter = new RateMeter();
const totals = { received: 0, conflated: 0, lost: 0 };
let round = FRESH_ROUND;

function store(ticker: Ticker): void {
  tickers.set(ticker.symbol, ticker);
  grid.invalidate(ticker.symbol);
}

/** Applies a message to its symbol, and answers how many updates it brought. */
function apply(symbol: string, change: (ticker: Ticker, nowMs: number) => Step): number {
  const before = tickers.get(symbol);
  if (before === undefined) return 0;
  const now = performance.now();
  const { ticker, tally } = change(before, now);
  totals.received += tally.received;
  totals.conflated += tally.conflated;
  totals.lost += tally.lost;
  meter.add(tally.received);
  grid.row(symbol)?.remember(ticker, now);
  store(ticker);
  return tally.received;
}

function showRound(): void {
  const recovered = isRecovered(round);
  page.resume.textContent = describe(round);
  if (recovered === null) {
    delete page.resume.dataset.recovered;
    delete page.resume.dataset.missed;
  } else {
    page.resume.dataset.recovered = String(recovered);
    page.resume.dataset.missed = String(round.missed);
  }
}

function showConnection(state: Connection): void {
  page.connection.textContent = state;
  page.connection.dataset.state = state;
  // Prices of a page without a connection are old, whatever their age says.
  page.grid.dataset.live = String(state === "live");
  page.drop.disabled = state !== "live";
}

const session = new Session(
  { endpoint: "/socket", token, rate: page.rate.value as Rate },
  {
    position: (symbol) => tickers.get(symbol)?.position ?? null,
    connection: showConnection,
    interrupted() {
      round = FRESH_ROUND;
      showRound();
    },
    joined(symbol, snapshot, resuming) {
      grid.row(symbol)?.refuse(null);
      const missed = apply(symbol, (ticker, now) => applySnapshot(ticker, snapshot, now));
      if (!resuming) return;
      round = withReply(round, snapshot.recovered, missed);
      showRound();
    },
    refused(symbol, reason) {
      grid.row(symbol)?.refuse(reason);
      grid.invalidate(symbol);
    },
    update: (symbol, update) => void apply(symbol, (ticker, now) => applyUpdate(ticker, update, now)),
    snapshot: (symbol, snapshot) => void apply(symbol, (ticker, now) => applySnapshot(ticker, snapshot, now)),
    feedState(symbol, state) {
      const ticker = tickers.get(symbol);
      if (ticker !== undefined) store(applyState(ticker, state));
    },
  },
);

function list(listing: Listing, nowMs: number): void {
  const known = tickers.get(listing.symbol);
  if (known !== undefined) {
    store(refreshed(known, listing, nowMs));
    return;
  }
  if (tickers.size >= SYMBOLS_MAX) return;
  const ticker = fromListing(listing, nowMs);
  grid.add(ticker.symbol).remember(ticker, nowMs);
  store(ticker);
  session.add(ticker.symbol);
}

function showCatalog({ listings, truncated }: Catalog): void {
  const now = performance.now();
  for (const listing of listings) list(listing, now);
  const all = [...tickers.values()];
  const simulated = all.filter((ticker) => ticker.simulated).length;
  const mixed = simulated > 0 && simulated < all.length;
  page.simulated.hidden = simulated === 0;
  page.simulated.textContent = mixed ? "partly simulated" : "simulated market";
  page.grid.dataset.mixed = String(mixed);
  page.card.hidden = all.length === 0;
  page.empty.hidden = all.length > 0;
  page.truncated.hidden = !truncated;
  page.truncated.textContent = `The first ${SYMBOLS_MAX} symbols are shown; the server has more.`;
  page.example.textContent = `ticker:${all[0]?.symbol ?? "EURUSD"}`;
  applyFilter();
}

async function refreshCatalog(): Promise<void> {
  try {
    showCatalog(await readCatalog(token, SYMBOLS_MAX));
    page.problem.hidden = true;
  } catch (error) {
    // A server that is away is what the connection state says; only an answer that refuses needs words.
    page.problem.hidden = !(error instanceof CatalogError);
    page.problem.textContent = error instanceof CatalogError ? error.message : "";
  }
}

async function pollCatalog(): Promise<void> {
  if (!document.hidden) await refreshCatalog();
  setTimeout(() => void pollCatalog(), CATALOG_MS);
}

function applyFilter(): void {
  page.nomatch.hidden = grid.filter(page.filter.value) > 0 || tickers.size === 0;
}

function showTotals(elapsedMs: number): void {
  page.updates.textContent = formatCount(meter.tick(elapsedMs));
  page.updates.dataset.total = String(totals.received);
  for (const name of ["conflated", "lost"] as const) {
    page[name].textContent = formatCount(totals[name]);
    page[name].dataset.total = String(totals[name]);
  }
  page.lost.classList.toggle("bad", totals.lost > 0);
}

function onKey(event: KeyboardEvent): void {
  const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    page.filter.select();
    page.filter.focus();
  }
  if (event.key === "Escape" && (event.target === page.filter || page.filter.value !== "")) {
    page.filter.value = "";
    applyFilter();
    grid.focus();
  }
}

page.rate.addEventListener("change", () => session.setRate(page.rate.value as Rate));
page.drop.addEventListener("click", () => session.drop());
page.filter.addEventListener("input", applyFilter);
page.filter.addEventListener("keydown", (event) => {
  if (event.key !== "ArrowDown" && event.key !== "Enter") return;
  event.preventDefault();
  grid.focus();
});
document.addEventListener("keydown", onKey);
for (const change of ["online", "offline"]) addEventListener(change, () => session.report());

let tickedAtMs = performance.now();
setInterval(() => {
  const now = performance.now();
  showTotals(now - tickedAtMs);
  tickedAtMs = now;
  grid.paintAges(now);
}, 1000);

session.connect();
void pollCatalog();
