// The official Phoenix clients, unchanged, under Node.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import WebSocket from "ws";
import { eventually, Server, TOKEN_SECRET } from "./server.mjs";

const require = createRequire(import.meta.url);
const versions = { "1.5": "phoenix15", "1.6": "phoenix16", "1.7": "phoenix17", "1.8": "phoenix18" };

const ROOMS = `
[[channel]]
pattern = "ticker:*"
kind = "ticker"

[[channel]]
pattern = "room:*"
kind = "room"
broadcast = ["shout"]
echo = ["echo"]
history = 3
`;

/** A push or a join as a promise; a refusal rejects. */
function answer(push) {
  return new Promise((ok, no) => {
    push
      .receive("ok", ok)
      .receive("error", (reason) => no(new Error(JSON.stringify(reason))))
      .receive("timeout", () => no(new Error("timeout")));
  });
}

/** A client token, as an application's own server makes them. */
function mint(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ ...claims, exp: Math.floor(claims.exp) })}`;
  return `${text}.${createHmac("sha256", TOKEN_SECRET).update(text).digest("base64url")}`;
}

for (const [version, name] of Object.entries(versions)) {
  describe(`phoenix.js ${version}`, () => {
    const { Socket } = require(name);
    const sockets = [];
    let server;
    before(async () => { server = await Server.start(ROOMS); });
    after(async () => {
      for (const socket of sockets) socket.disconnect();
      await server?.stop();
    });

    function connect(params = {}) {
      const socket = new Socket(server.socket(), {
        params,
        transport: WebSocket,
        reconnectAfterMs: () => 50,
        rejoinAfterMs: () => 50,
      });
      socket.connect();
      sockets.push(socket);
      return socket;
    }

    /** Follows a symbol and keeps what arrives, resuming as a stock client does: params as a function. */
    function follow(socket, symbol) {
      const seen = { joins: [], updates: [], last: null };
      const channel = socket.channel(`ticker:${symbol}`, () => (seen.last ? { since: seen.last } : {}));
      const apply = (update) => {
        seen.updates.push(update);
        seen.last = { epoch: update.epoch, seq: update.seq };
      };
      channel.on("update", apply);
      const joined = answer(channel.join().receive("ok", (reply) => {
        seen.joins.push(reply);
        for (const missed of reply.missed ?? []) apply(missed);
        seen.last = { epoch: reply.epoch, seq: reply.seq };
      }));
      return { channel, seen, joined };
    }

    test("a join gets the value there is, then every update", async () => {
      await server.publish({ symbol: "EURUSD", bid: "1.1000", ask: "1.1002" });
      const { channel, seen, joined } = follow(connect(), "EURUSD");
      const reply = await joined;
      assert.equal(reply.quote.bid, "1.1000", "the publisher's own digits");
      assert.equal(reply.recovered, false);
      assert.deepEqual(reply.missed, []);
      for (let i = 1; i <= 20; i++) await server.publish({ symbol: "EURUSD", bid: `1.10${10 + i}`, ask: "1.2000" });
      await eventually(() => seen.last.seq === reply.seq + 20, { what: "20 updates" });
      const counted = seen.updates.reduce((sum, update) => sum + (update.n ?? 1), 0);
      assert.equal(counted, 20);
      assert.ok(seen.updates.every((update) => update.epoch === reply.epoch));
      await answer(channel.leave());
    });

    test("ping is answered with pong", async () => {
      const { channel, joined } = follow(connect(), "PINGED");
      await joined;
      const pong = new Promise((heard) => channel.on("pong", heard));
      channel.push("ping", {});
      assert.ok(Math.abs((await pong).timestamp - Date.now()) < 60_000);
    });

    test("a lost connection is resumed without a hole", async () => {
      await server.publish({ symbol: "RESUME", bid: "1", ask: "2" });
      const socket = connect();
      const { seen, joined } = follow(socket, "RESUME");
      await joined;
      for (let i = 1; i <= 5; i++) {
        socket.conn.terminate();
        await server.publish({ symbol: "RESUME", bid: String(10 + i), ask: "200" });
        await eventually(() => seen.updates.at(-1)?.bid === String(10 + i), { what: `resume ${i}` });
      }
      assert.ok(seen.joins.length > 1, "it joined again");
      assert.ok(seen.joins.slice(1).every((reply) => reply.recovered), "each time from where it was");
      const bids = seen.updates.map((update) => update.bid);
      assert.deepEqual(bids, ["11", "12", "13", "14", "15"]);
    });

    test("a restart is survived, and told: another epoch", async () => {
      const { seen, joined } = follow(connect(), "RESTART");
      const first = await joined;
      await server.restart();
      await eventually(() => seen.joins.length > 1, { what: "joined again" });
      assert.equal(seen.joins.at(-1).recovered, false);
      await server.publish({ symbol: "RESTART", bid: "7", ask: "8" });
      await eventually(() => seen.updates.at(-1)?.bid === "7", { what: "an update after the restart" });
      assert.notEqual(seen.updates.at(-1).epoch, first.epoch);
    });

    test("a room broadcasts to the others, echoes, and remembers", async () => {
      const token = mint({ sub: "anna", exp: Date.now() / 1000 + 60, allow: ["room:*"] });
      const [left, right] = [connect({ token }), connect({ token })].map((socket) => socket.channel("room:talk", {}));
      await answer(left.join());
      await answer(right.join());
      const heard = [];
      right.on("shout", (payload) => heard.push(payload));
      left.on("shout", () => assert.fail("the sender does not hear itself"));
      for (let i = 0; i < 5; i++) await answer(left.push("shout", { i, text: "grüß dich 🚀" }));
      await eventually(() => heard.length === 5, { what: "five shouts" });
      assert.deepEqual(heard.map(({ i }) => i), [0, 1, 2, 3, 4]);
      assert.equal(heard[0].text, "grüß dich 🚀");
      assert.deepEqual(await answer(left.push("echo", { deep: [1, { two: null }] })), { deep: [1, { two: null }] });
      await assert.rejects(answer(left.push("no_such_event", {})));
      const stranger = connect().channel("room:talk", {});
      await answer(stranger.join());
      await assert.rejects(answer(stranger.push("shout", {})), /unauthorized/, "a stranger may read, nothing more");
      const late = connect({ token }).channel("room:talk", {});
      const reply = await answer(late.join());
      assert.deepEqual(reply.history.map(({ payload }) => payload.i), [2, 3, 4]);
    });

    test("a second join of a topic replaces the first", async () => {
      const socket = connect();
      const first = follow(socket, "TWICE");
      await first.joined;
      const second = follow(socket, "TWICE");
      await second.joined;
      await server.publish({ symbol: "TWICE", bid: "3", ask: "4" });
      await eventually(() => second.seen.updates.length === 1, { what: "an update on the second join" });
      assert.equal(second.seen.updates[0].bid, "3");
    });

    test("a topic without a route is refused with its reason", async () => {
      await assert.rejects(answer(connect().channel("nosuch:topic", {}).join()), /unmatched topic/);
    });

    test("max_rate merges and ends on the latest", async () => {
      const socket = connect();
      const channel = socket.channel("ticker:SLOWLY", { max_rate: "200ms" });
      const updates = [];
      channel.on("update", (update) => updates.push(update));
      const reply = await answer(channel.join());
      for (let i = 1; i <= 30; i++) await server.publish({ symbol: "SLOWLY", bid: String(i), ask: "100" });
      await eventually(() => updates.at(-1)?.bid === "30", { what: "the last one" });
      assert.ok(updates.length < 30, "some were merged");
      assert.equal(updates.reduce((sum, update) => sum + (update.n ?? 1), 0), updates.at(-1).seq - reply.seq);
    });
  });
}
