/**
 * The glue between the page and the `phoenix` client: one socket, one `ticker` channel per symbol.
 *
 * Join params are given as a function, which the client reads again at every join: that alone makes each rejoin, after
 * a dropped socket, a crashed channel or a changed rate, resume from the last update applied.
 */

import { Socket, type Channel, type SocketConnectOption } from "phoenix";
import { parseFeedState, parseSnapshot, parseUpdate } from "./protocol";
import type { FeedState, Position, Snapshot, Update } from "./protocol";

export type Connection = "connecting" | "live" | "reconnecting" | "offline";

/** At most one update per interval and symbol; `raw` asks for every one. */
export type Rate = "raw" | "100ms" | "250ms" | "1s";

export interface SessionEvents {
  /** Where a join of `symbol` resumes from. */
  position(symbol: string): Position | null;
  connection(state: Connection): void;
  /** All channels are about to join again. */
  interrupted(): void;
  /** The reply to a join; `resuming` if the join had asked for what it missed. */
  joined(symbol: string, snapshot: Snapshot, resuming: boolean): void;
  refused(symbol: string, reason: string): void;
  update(symbol: string, update: Update): void;
  snapshot(symbol: string, snapshot: Snapshot): void;
  feedState(symbol: string, state: FeedState): void;
}

export interface SessionOptions {
  readonly endpoint: string;
  readonly token: string | null;
  readonly rate: Rate;
  /** Replaces the browser's WebSocket where there is none. */
  readonly transport?: SocketConnectOption["transport"];
}

/** A private close code, so that a log can tell the button from a failure. */
const DROPPED_BY_USER = 4000;

/** How long the page stays away after "Drop me": long enough to miss updates and to see it happen. */
const DROP_PAUSE_MS = 1500;

/** The client's own first retry comes after 10 ms, from every page at once when a server restarts. */
const RETRY_MS = [250, 500, 1000, 2000, 5000] as const;

/** Half of the delay is fixed and half is chance, so that clients of a restarted server come back spread out. */
function retryAfterMs(tries: number): number {
  const delay = RETRY_MS[Math.min(tries, RETRY_MS.length) - 1] ?? RETRY_MS[0];
  return delay / 2 + (Math.random() * delay) / 2;
}

export class Session {
  private readonly socket: Socket;
  private readonly channels = new Map<string, Channel>();
  private readonly events: SessionEvents;
  private rate: Rate;
  private wasLive = false;
  private dropping = false;

  constructor(options: SessionOptions, events: SessionEvents) {
    this.events = events;
    this.rate = options.rate;
    this.socket = new Socket(options.endpoint, {
      reconnectAfterMs: (tries) => (this.dropping && tries === 1 ? DROP_PAUSE_MS : retryAfterMs(tries)),
      // Not as a parameter, which would stand in the address and so in the log of every proxy on the way.
      ...(options.token === null ? {} : { authToken: options.token }),
      ...(options.transport === undefined ? {} : { transport: options.transport }),
    });
    this.socket.onOpen(() => this.opened());
    this.socket.onClose(() => this.closed());
    this.socket.onError(() => this.closed());
  }

  connect(): void {
    this.report();
    this.socket.connect();
  }

  /** Tells the state again; the browser going on or off line changes what a missing connection means. */
  report(): void {
    this.events.connection(this.state());
  }

  add(symbol: string): void {
    if (!this.channels.has(symbol)) this.join(symbol);
  }

  /** Leaves and joins every channel, since `max_rate` belongs to a join. */
  setRate(rate: Rate): void {
    if (rate === this.rate) return;
    this.rate = rate;
    this.events.interrupted();
    for (const [symbol, channel] of this.channels) {
      channel.leave();
      this.join(symbol);
    }
  }

  /** Closes the transport under the client, as a failing network would, so that it recovers by itself. */
  drop(): void {
    this.dropping = true;
    // The typings do not show the transport of the current connection, which the client documents.
    const { conn } = this.socket as unknown as { conn: { close(code: number, reason: string): void } | null };
    conn?.close(DROPPED_BY_USER, "dropped by the user");
  }

  disconnect(): void {
    this.socket.disconnect();
  }

  private state(): Connection {
    if (this.socket.isConnected()) return "live";
    if (globalThis.navigator?.onLine === false) return "offline";
    return this.wasLive ? "reconnecting" : "connecting";
  }

  private opened(): void {
    this.wasLive = true;
    this.dropping = false;
    this.events.interrupted();
    this.report();
  }

  private closed(): void {
    this.report();
  }

  private join(symbol: string): void {
    const { events } = this;
    let resuming = false;
    const params = (): object => {
      const since = events.position(symbol);
      resuming = since !== null;
      return { ...(since && { since }), ...(this.rate !== "raw" && { max_rate: this.rate }) };
    };
    const channel = this.socket.channel(`ticker:${symbol}`, params);
    this.channels.set(symbol, channel);
    // Broadcasts carry no join reference. Until this join is answered they belong to the one before it, and the reply
    // repeats what they hold; once the channel is being left they are not wanted.
    const current = (): boolean => channel.state === "joined" && this.channels.get(symbol) === channel;
    const on = <T>(event: string, parse: (payload: unknown) => T | null, handle: (value: T) => void): void => {
      channel.on(event, (payload: unknown) => {
        const value = current() ? parse(payload) : null;
        if (value !== null) handle(value);
      });
    };
    on("update", parseUpdate, (update) => events.update(symbol, update));
    on("snapshot", parseSnapshot, (snapshot) => events.snapshot(symbol, snapshot));
    on("status", parseFeedState, (state) => events.feedState(symbol, state));
    channel
      .join()
      .receive("ok", (reply: unknown) => {
        const snapshot = current() ? parseSnapshot(reply) : null;
        if (snapshot !== null) events.joined(symbol, snapshot, resuming);
      })
      .receive("error", (reply: { reason?: unknown } | undefined) => {
        if (this.channels.get(symbol) === channel) events.refused(symbol, String(reply?.reason ?? "refused"));
      });
  }
}
