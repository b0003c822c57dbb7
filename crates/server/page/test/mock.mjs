/**
 * A stand-in for a node: `GET /v1/quotes` and `ticker` channels over Phoenix V2 frames, driven by the test. It knows
 * the part of the contract that the page relies on, so that the page can be tested where no server has been built.
 */

import { createServer } from "node:http";
import { WebSocketServer } from "ws";

/** Updates kept per symbol for joins that resume. */
const RING_MAX = 1000;

export class MockNode {
  constructor() {
    this.symbols = new Map();
    this.joins = new Set();
    /** Params of every join, in order, as `{symbol, params}`. */
    this.seen = [];
    this.http = createServer((request, response) => this.serve(request, response));
    this.sockets = new WebSocketServer({ server: this.http, path: "/socket/websocket" });
    this.sockets.on("connection", (socket) => this.accept(socket));
  }

  async listen(port = 0) {
    await new Promise((resolve) => this.http.listen(port, "127.0.0.1", resolve));
    return this.http.address().port;
  }

  async close() {
    for (const socket of this.sockets.clients) socket.terminate();
    await new Promise((resolve) => this.http.close(resolve));
  }

  /** Publishes a quote, `{bid, ask}` as decimal strings. */
  publish(symbol, quote, now = Date.now()) {
    const state = this.state(symbol);
    const update = { symbol, ...quote, ts: now * 1000, epoch: state.epoch, seq: ++state.seq };
    state.quote = update;
    state.acceptedAt = now;
    state.ring.push(update);
    if (state.ring.length > RING_MAX) state.ring.shift();
    for (const join of this.joined(symbol)) this.offer(join, update);
  }

  /** Marks the feed of a symbol, and tells everyone who has joined it. */
  mark(symbol, status) {
    this.state(symbol).status = status;
    for (const join of this.joined(symbol)) this.push(join, "status", { state: status, since_us: Date.now() * 1000 });
  }

  /** A new owner: the epoch changes under joined clients, and nothing before it can be resumed. */
  reopen(symbol) {
    const state = this.state(symbol);
    Object.assign(state, { epoch: `${state.epoch}'`, seq: 0, ring: [] });
    for (const join of this.joined(symbol)) this.push(join, "snapshot", this.reply(symbol, {}));
  }

  state(symbol) {
    const known = this.symbols.get(symbol);
    if (known) return known;
    const state = { epoch: "e1", seq: 0, ring: [], quote: null, status: "ok", acceptedAt: Date.now(), source: undefined };
    this.symbols.set(symbol, state);
    return state;
  }

  joined(symbol) {
    return [...this.joins].filter((join) => join.symbol === symbol);
  }

  serve(request, response) {
    const path = new URL(request.url, "http://mock").pathname;
    if (path !== "/v1/quotes") return void response.writeHead(404).end();
    const quotes = [...this.symbols].map(([symbol, { quote, epoch, seq, status, acceptedAt, source }]) => {
      return { symbol, ...quote, epoch, seq, age_us: (Date.now() - acceptedAt) * 1000, status, source };
    });
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ quotes, next: null }));
  }

  accept(socket) {
    socket.on("message", (text) => {
      const [joinRef, ref, topic, event, payload] = JSON.parse(text);
      const answer = (response, status = "ok") =>
        socket.send(JSON.stringify([joinRef, ref, topic, "phx_reply", { status, response }]));
      const symbol = topic.replace("ticker:", "");
      if (event === "phx_join") {
        this.seen.push({ symbol, params: payload });
        answer(this.reply(symbol, payload));
        this.joins.add({ socket, symbol, joinRef, everyMs: Number.parseInt(payload.max_rate ?? "0", 10), merged: 0 });
      } else if (event === "phx_leave") {
        this.forget((join) => join.socket === socket && join.joinRef === joinRef);
        answer({});
      } else if (event === "heartbeat") {
        answer({});
      }
    });
    socket.on("close", () => this.forget((join) => join.socket === socket));
  }

  forget(which) {
    for (const join of this.joins) {
      if (!which(join)) continue;
      clearTimeout(join.timer);
      this.joins.delete(join);
    }
  }

  reply(symbol, { since, max_rate }) {
    const { quote, epoch, seq, status, ring } = this.state(symbol);
    const oldest = ring[0]?.seq ?? seq + 1;
    const recovered = since?.epoch === epoch && since.seq <= seq && since.seq + 1 >= oldest;
    let missed = recovered ? ring.filter((update) => update.seq > since.seq) : [];
    if (max_rate && missed.length > 1) missed = [{ ...missed.at(-1), n: missed.length }];
    return { quote: recovered ? null : quote, epoch, seq, recovered, missed, status };
  }

  /** Sends an update, or keeps it until the interval of the join's `max_rate` is over. */
  offer(join, update) {
    join.merged += 1;
    join.pending = update;
    if (join.timer !== undefined) return;
    this.flush(join);
    if (join.everyMs === 0) return;
    const again = () => {
      join.timer = join.pending ? setTimeout(again, join.everyMs) : undefined;
      if (join.pending) this.flush(join);
    };
    join.timer = setTimeout(again, join.everyMs);
  }

  flush(join) {
    this.push(join, "update", join.merged > 1 ? { ...join.pending, n: join.merged } : join.pending);
    join.pending = null;
    join.merged = 0;
  }

  push({ socket, symbol }, event, payload) {
    socket.send(JSON.stringify([null, null, `ticker:${symbol}`, event, payload]));
  }
}
