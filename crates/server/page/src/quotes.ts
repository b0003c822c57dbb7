/**
 * What the page knows about one symbol, and how each message changes it. Pure: time is an argument.
 *
 * Within an epoch `seq` rises by one per update. A step of more than one is conflation as far as `n` explains it, and
 * loss beyond that; both are counted, so that the page can show that nothing went missing.
 */

import type { FeedState, Listing, Position, Quote, Snapshot, Update } from "./protocol";

export interface Ticker {
  readonly symbol: string;
  readonly quote: Quote | null;
  /** The last update applied; a rejoin resumes from here. */
  readonly position: Position | null;
  /** What the server said last; see `shownState`. */
  readonly state: FeedState;
  /** Whether the quote is from before a restart and the server no longer knows it. */
  readonly orphaned: boolean;
  /** When the newest quote was accepted, on this page's clock. */
  readonly heardAtMs: number | null;
  /** The first middle price that this page saw, the base of the change. */
  readonly firstMid: number | null;
  readonly simulated: boolean;
}

/** What a message was worth: updates that reached the page, on their own or merged into another, and lost ones. */
export interface Tally {
  readonly received: number;
  readonly conflated: number;
  readonly lost: number;
}

export interface Step {
  readonly ticker: Ticker;
  readonly tally: Tally;
}

const NOTHING: Tally = { received: 0, conflated: 0, lost: 0 };

function add(a: Tally, b: Tally): Tally {
  return { received: a.received + b.received, conflated: a.conflated + b.conflated, lost: a.lost + b.lost };
}

/** The middle of bid and ask, else whichever price is known. A float: only for percentages and drawings. */
export function middle(quote: Quote | null): number | null {
  if (quote === null) return null;
  const { bid, ask, last } = quote;
  if (bid !== undefined && ask !== undefined) return (Number(bid) + Number(ask)) / 2;
  const only = bid ?? ask ?? last;
  return only === undefined ? null : Number(only);
}

/** Percent between the first middle price seen and the current one. */
export function changePercent(ticker: Ticker): number | null {
  const mid = middle(ticker.quote);
  if (mid === null || ticker.firstMid === null || ticker.firstMid === 0) return null;
  return (mid / ticker.firstMid - 1) * 100;
}

/** How the quote is to be shown: a price that nobody vouches for is as old as a stale one. */
export function shownState(ticker: Ticker): FeedState {
  return ticker.orphaned ? "stale" : ticker.state;
}

function withQuote(ticker: Ticker, quote: Quote, position: Position, nowMs: number): Ticker {
  const firstMid = ticker.firstMid ?? middle(quote);
  return { ...ticker, quote, position, orphaned: false, heardAtMs: nowMs, firstMid };
}

/** A row as the listing describes it. It has no position: only a join starts a stream that can be resumed. */
export function fromListing(listing: Listing, nowMs: number): Ticker {
  return {
    symbol: listing.symbol,
    quote: listing.quote,
    position: null,
    state: listing.state ?? "ok",
    orphaned: false,
    heardAtMs: listing.ageMs === null ? null : nowMs - listing.ageMs,
    firstMid: middle(listing.quote),
    simulated: listing.simulated,
  };
}

/** Takes from a later listing what pushes do not tell: where quotes come from, and how old the current one really is. */
export function refreshed(ticker: Ticker, listing: Listing, nowMs: number): Ticker {
  const same = ticker.position?.epoch === listing.position?.epoch && ticker.position?.seq === listing.position?.seq;
  const heardAtMs = same && listing.ageMs !== null ? nowMs - listing.ageMs : ticker.heardAtMs;
  return { ...ticker, heardAtMs, simulated: listing.simulated };
}

export function applyUpdate(ticker: Ticker, update: Update, nowMs: number): Step {
  const { position, quote, n } = update;
  const before = ticker.position;
  if (before === null || before.epoch !== position.epoch) {
    const tally = { received: n, conflated: n - 1, lost: 0 };
    return { ticker: withQuote(ticker, quote, position, nowMs), tally };
  }
  const gap = position.seq - before.seq;
  // What a resume already brought is not news.
  if (gap <= 0) return { ticker, tally: NOTHING };
  const received = Math.min(n, gap);
  const tally = { received, conflated: received - 1, lost: gap - received };
  return { ticker: withQuote(ticker, quote, position, nowMs), tally };
}

export function applySnapshot(ticker: Ticker, snapshot: Snapshot, nowMs: number): Step {
  const current = { ...ticker, state: snapshot.state ?? ticker.state };
  if (snapshot.recovered) {
    return snapshot.missed.reduce<Step>(
      (step, update) => {
        const next = applyUpdate(step.ticker, update, nowMs);
        return { ticker: next.ticker, tally: add(step.tally, next.tally) };
      },
      { ticker: current, tally: NOTHING },
    );
  }
  const { quote, position } = snapshot;
  // Without a value to go on from, the old price stays in sight, marked, and the next join starts afresh.
  if (quote === null || position === null) {
    return { ticker: { ...current, position: null, orphaned: middle(ticker.quote) !== null }, tally: NOTHING };
  }
  const known = ticker.position?.epoch === position.epoch && ticker.position.seq === position.seq;
  // A first snapshot repeats what the listing showed, whose age is the better one.
  const seeded = ticker.position === null && ticker.heardAtMs !== null && middle(ticker.quote) === middle(quote);
  const heardAtMs = known || seeded ? (ticker.heardAtMs ?? nowMs) : nowMs;
  return { ticker: withQuote(current, quote, position, heardAtMs), tally: NOTHING };
}

export function applyState(ticker: Ticker, state: FeedState): Ticker {
  return { ...ticker, state };
}
