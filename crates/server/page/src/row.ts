/** One row of the grid: builds its cells once, then writes only what changed. */

import { compare, significantScale, subtract, withScale } from "./decimal";
import { formatAge, formatPercent } from "./format";
import { changePercent, middle, shownState, type Ticker } from "./quotes";
import { History, Sparkline } from "./sparkline";

type Side = "bid" | "ask";

/** A flash has to be over before the eye waits for it. */
const FLASH_MS = 280;

/** A line moves less than a pixel between frames, so it is drawn less often than prices are written. */
const DRAW_MS = 200;

/** Longer prices are set smaller where room is scarce. */
const LONG_PRICE = 10;

const UNKNOWN = "–";

const calm = matchMedia("(prefers-reduced-motion: reduce)");

function cell(name: string, role = "gridcell"): HTMLElement {
  const element = document.createElement("div");
  element.className = `cell ${name}`;
  element.dataset.cell = name;
  element.setAttribute("role", role);
  return element;
}

function write(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export class Row {
  readonly element = document.createElement("div");
  readonly symbol: string;
  private readonly mark = document.createElement("span");
  private readonly cells = {
    bid: cell("bid"),
    ask: cell("ask"),
    spread: cell("spread"),
    change: cell("change"),
    age: cell("age"),
  };
  private readonly sparkline = new Sparkline();
  private readonly history = new History();
  private shown: Partial<Record<Side, string>> = {};
  /** The finest step seen in this symbol's prices, so that the spread neither wobbles nor trails a publisher's zeros. */
  private priceScale = 0;
  private refusal: string | null = null;
  private drawnAtMs = Number.NEGATIVE_INFINITY;
  private lineIsOld = false;

  constructor(symbol: string) {
    this.symbol = symbol;
    const { element, cells } = this;
    element.className = "row";
    element.tabIndex = -1;
    element.dataset.testid = `row-${symbol}`;
    element.dataset.symbol = symbol;
    element.setAttribute("role", "row");

    const name = document.createElement("span");
    name.className = "name";
    name.textContent = symbol;
    const simulated = document.createElement("span");
    simulated.className = "tag sim";
    simulated.textContent = "sim";
    simulated.title = "This price is simulated";
    this.mark.className = "tag mark";
    const head = cell("symbol", "rowheader");
    head.append(name, simulated, this.mark);

    const trend = cell("trend");
    trend.setAttribute("aria-label", "recent prices");
    trend.append(this.sparkline.element);
    element.append(head, cells.bid, cells.ask, cells.spread, cells.change, trend, cells.age);
  }

  /** Keeps a price for the line even when the frame that would show it never comes, as in a hidden tab. */
  remember(ticker: Ticker, nowMs: number): void {
    const mid = middle(ticker.quote);
    if (mid === null) return;
    this.history.add(mid, nowMs);
    this.lineIsOld = true;
  }

  /** Why the server does not let this page follow the symbol; `null` once it does. */
  refuse(reason: string | null): void {
    this.refusal = reason;
  }

  paint(ticker: Ticker, nowMs: number): void {
    const { quote, position } = ticker;
    const state = shownState(ticker);
    this.paintPrice("bid", quote?.bid);
    this.paintPrice("ask", quote?.ask);
    this.paintSpread(quote?.bid, quote?.ask);
    this.paintChange(changePercent(ticker));
    if (nowMs - this.drawnAtMs >= DRAW_MS) this.draw(nowMs);
    this.element.dataset.state = state;
    this.element.dataset.simulated = String(ticker.simulated);
    if (position !== null) this.element.dataset.seq = String(position.seq);
    write(this.mark, this.refusal ?? (state === "ok" ? "" : state));
    this.paintAge(ticker, nowMs);
  }

  /** The part that moves on without any update: the age, and a line that was not due in the last frame. */
  paintAge(ticker: Ticker, nowMs: number): void {
    const { heardAtMs } = ticker;
    write(this.cells.age, heardAtMs === null ? UNKNOWN : formatAge(nowMs - heardAtMs));
    if (this.lineIsOld && nowMs - this.drawnAtMs >= DRAW_MS) this.draw(nowMs);
  }

  private draw(nowMs: number): void {
    this.sparkline.draw(this.history);
    this.drawnAtMs = nowMs;
    this.lineIsOld = false;
  }

  private paintPrice(side: Side, price: string | undefined): void {
    const before = this.shown[side];
    if (price === before && price !== undefined) return;
    const element = this.cells[side];
    write(element, price ?? UNKNOWN);
    element.classList.toggle("long", (price?.length ?? 0) > LONG_PRICE);
    if (price === undefined) {
      delete this.shown[side];
      delete element.dataset.direction;
      return;
    }
    this.shown[side] = price;
    const order = before === undefined ? 0 : compare(price, before);
    if (order !== 0) flash(element, order > 0 ? "up" : "down");
  }

  private paintSpread(bid: string | undefined, ask: string | undefined): void {
    const { spread } = this.cells;
    if (bid === undefined || ask === undefined) {
      write(spread, UNKNOWN);
      return;
    }
    this.priceScale = Math.max(this.priceScale, significantScale(bid), significantScale(ask));
    const difference = withScale(subtract(ask, bid), this.priceScale);
    write(spread, difference);
    spread.classList.toggle("crossed", difference.startsWith("-"));
    spread.title = difference.startsWith("-") ? "Crossed: the bid is above the ask" : "";
  }

  private paintChange(percent: number | null): void {
    const { change } = this.cells;
    write(change, percent === null ? UNKNOWN : formatPercent(percent));
    const shown = percent === null ? 0 : Number(percent.toFixed(3));
    const trend = shown > 0 ? "up" : shown < 0 ? "down" : "flat";
    if (change.dataset.direction !== trend) {
      change.dataset.direction = trend;
      this.element.dataset.trend = trend;
    }
  }
}

function flash(element: HTMLElement, direction: "up" | "down"): void {
  // The arrow that belongs to the direction stays; only the tint fades.
  element.dataset.direction = direction;
  if (calm.matches) return;
  element.animate([{ backgroundColor: `var(--${direction}-tint)` }, { backgroundColor: "transparent" }], {
    duration: FLASH_MS,
    easing: "ease-out",
  });
}
