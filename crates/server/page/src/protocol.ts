/**
 * The payloads of a `ticker` channel and of `GET /v1/quotes`, checked once where they enter the page.
 *
 * A parser answers `null` for what it does not understand: a page must survive a server that is newer than itself.
 */

import { isDecimal } from "./decimal";

/** What the server says about the feed behind a symbol. */
export type FeedState = "ok" | "stale" | "halted" | "closed";

/** A place in one symbol's stream. Epochs are opaque: compared for equality only. */
export interface Position {
  readonly epoch: string;
  readonly seq: number;
}

/** The prices of a symbol, in the publisher's own digits; what is not known is absent. */
export interface Quote {
  readonly bid?: string;
  readonly ask?: string;
  readonly last?: string;
}

export interface Update {
  readonly position: Position;
  readonly quote: Quote;
  /** How many received updates this one stands for, itself included. */
  readonly n: number;
}

/** A join reply, or the push that replaces it when the epoch changes under a joined client. */
export interface Snapshot {
  readonly position: Position | null;
  readonly quote: Quote | null;
  readonly recovered: boolean;
  readonly missed: readonly Update[];
  readonly state: FeedState | null;
}

/** One item of `GET /v1/quotes`. */
export interface Listing {
  readonly symbol: string;
  readonly position: Position | null;
  readonly quote: Quote;
  readonly state: FeedState | null;
  /** How long ago the owner accepted the newest quote. */
  readonly ageMs: number | null;
  readonly simulated: boolean;
}

export interface ListingPage {
  readonly quotes: readonly Listing[];
  readonly next: string | null;
}

type Fields = Readonly<Record<string, unknown>>;

function fields(value: unknown): Fields | null {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : null;
}

function parsePosition(from: Fields): Position | null {
  const { epoch, seq } = from;
  return typeof epoch === "string" && typeof seq === "number" ? { epoch, seq } : null;
}

function parseQuote(from: Fields): Quote {
  const price = (name: "bid" | "ask" | "last"): Quote => {
    const value = from[name];
    return typeof value === "string" && isDecimal(value) ? { [name]: value } : {};
  };
  return { ...price("bid"), ...price("ask"), ...price("last") };
}

/** A state on its own, as in a listing, or inside `{state, since_us}`, as in a push. */
export function parseFeedState(value: unknown): FeedState | null {
  const state = fields(value)?.state ?? value;
  return state === "ok" || state === "stale" || state === "halted" || state === "closed" ? state : null;
}

export function parseUpdate(payload: unknown): Update | null {
  const from = fields(payload);
  const position = from && parsePosition(from);
  if (!from || !position) return null;
  return { position, quote: parseQuote(from), n: typeof from.n === "number" ? from.n : 1 };
}

export function parseSnapshot(payload: unknown): Snapshot | null {
  const from = fields(payload);
  if (!from) return null;
  const quote = fields(from.quote);
  const missed = Array.isArray(from.missed) ? from.missed.map(parseUpdate) : [];
  return {
    position: parsePosition(from),
    quote: quote && parseQuote(quote),
    recovered: from.recovered === true,
    missed: missed.filter((update) => update !== null),
    state: parseFeedState(from.status),
  };
}

function parseListing(item: unknown): Listing | null {
  const from = fields(item);
  if (!from || typeof from.symbol !== "string") return null;
  return {
    symbol: from.symbol,
    position: parsePosition(from),
    quote: parseQuote(from),
    state: parseFeedState(from.status),
    ageMs: typeof from.age_us === "number" ? from.age_us / 1000 : null,
    simulated: from.source === "simulated",
  };
}

export function parseListingPage(body: unknown): ListingPage | null {
  const from = fields(body);
  if (!from || !Array.isArray(from.quotes)) return null;
  return {
    quotes: from.quotes.map(parseListing).filter((listing) => listing !== null),
    next: typeof from.next === "string" ? from.next : null,
  };
}
