// What every client library must find this server to do. Each one is a fact; `needs` is what a library must be able to do to see it.
import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { clients } from "./clients.mjs";
import { Ledger } from "./ledger.mjs";
import { eventually } from "./server.mjs";

/**
 * @typedef {object} Stage what a behaviour plays on
 * @property {import("./server.mjs").Server} server
 * @property {object} client the row of the table
 * @property {string} own a name that no other test uses
 * @property {(params?: object, options?: object) => object} open a new connection
 * @property {string} token lets its bearer shout in rooms
 */

/** Joins a ticker and keeps a ledger of it. */
export async function follow(client, connection, symbol) {
  const ledger = new Ledger(client.can.has("resume"));
  const joining = connection.join(`ticker:${symbol}`, client.can.has("resume") ? () => ledger.params() : ledger.params());
  // The topic is there before the answer, and so the ledger sees the first reply.
  await eventually(() => connection.topics.has(`ticker:${symbol}`), { what: "a join" });
  ledger.follow(connection.topics.get(`ticker:${symbol}`));
  return { topic: await joining, ledger };
}

export const behaviours = [
  {
    name: "a join gets the value there is, then every update",
    needs: ["reply", "order"],
    async run({ server, client, open, own }) {
      await server.publish({ symbol: own, bid: "1.1000", ask: "1.1002" });
      const { topic, ledger } = await follow(client, open(), own);
      assert.equal(topic.first.quote.bid, "1.1000", "the publisher's own digits");
      assert.equal(topic.first.recovered, false);
      for (let i = 1; i <= 20; i++) await server.publish({ symbol: own, bid: `1.10${10 + i}`, ask: "1.2000" });
      await eventually(() => ledger.last.seq === topic.first.seq + 20, { what: "20 updates" });
      assert.equal(ledger.quote.bid, "1.1030");
      ledger.honest();
    },
  },
  {
    name: "updates arrive, also without a reply to look at",
    needs: ["order"],
    async run({ server, open, own }) {
      const topic = await open().join(`ticker:${own}`);
      for (let i = 1; i <= 5; i++) await server.publish({ symbol: own, bid: String(i), ask: "9" });
      await eventually(() => topic.of("update").at(-1)?.bid === "5", { what: "the last update" });
    },
  },
  {
    name: "ping is answered with pong",
    needs: ["push"],
    async run({ open, own }) {
      const connection = open();
      const topic = await connection.join(`ticker:${own}`);
      connection.cast(`ticker:${own}`, "ping");
      await eventually(() => topic.of("pong").length === 1, { what: "a pong" });
      assert.ok(Math.abs(topic.of("pong")[0].timestamp - Date.now()) < 60_000);
    },
  },
  {
    name: "a room broadcasts to the others in order, acknowledges and echoes",
    needs: ["push", "order"],
    async run({ open, own, token }) {
      const [left, right] = [open({ token }), open({ token })];
      const [mine, theirs] = await Promise.all([left.join(`room:${own}`), right.join(`room:${own}`)]);
      for (let i = 0; i < 5; i++) await left.push(`room:${own}`, "shout", { i, text: "grüß dich 🚀 \u0000\u2028 漢" });
      await eventually(() => theirs.of("shout").length === 5, { what: "five shouts" });
      assert.deepEqual(theirs.of("shout").map(({ i }) => i), [0, 1, 2, 3, 4]);
      assert.equal(theirs.of("shout")[0].text, "grüß dich 🚀 \u0000\u2028 漢");
      assert.deepEqual(mine.of("shout"), [], "the sender does not hear itself");
      const deep = { deep: [1, null, { two: "drei" }], empty: {} };
      assert.deepEqual(await left.push(`room:${own}`, "echo", deep), deep);
    },
  },
  {
    name: "a late member gets what was said before",
    needs: ["push", "reply"],
    async run({ open, own, token }) {
      const early = open({ token });
      await early.join(`room:${own}`);
      for (let i = 0; i < 5; i++) await early.push(`room:${own}`, "shout", { i });
      const { first } = await open({ token }).join(`room:${own}`);
      assert.deepEqual(first.history.map(({ payload }) => payload.i), [2, 3, 4]);
    },
  },
  {
    name: "an event that a room does not take, and one that is not allowed, are refused with a reason",
    needs: ["push"],
    async run({ open, own, token }) {
      const bearer = open({ token });
      await bearer.join(`room:${own}`);
      await assert.rejects(bearer.push(`room:${own}`, "no_such_event"), ({ status, response }) => status === "error" && typeof response.reason === "string");
      const stranger = open();
      await stranger.join(`room:${own}`);
      await assert.rejects(stranger.push(`room:${own}`, "shout"), { response: { reason: "unauthorized" } });
    },
  },
  {
    name: "a topic without a route is refused, and the connection goes on",
    needs: ["refusal"],
    async run({ server, open, own }) {
      const connection = open();
      await assert.rejects(connection.join(`nosuch:${own}`), (refusal) => {
        assert.equal(refusal.status, "error");
        return /unmatched topic/.test(JSON.stringify(refusal.response));
      });
      const topic = await connection.join(`ticker:${own}`);
      await server.publish({ symbol: own, bid: "1", ask: "2" });
      await eventually(() => topic.of("update").length === 1, { what: "an update" });
    },
  },
  {
    name: "what was left stays silent, and can be joined again",
    needs: ["leave"],
    async run({ server, open, own }) {
      const connection = open();
      const before = await connection.join(`ticker:${own}`);
      const witness = await open().join(`ticker:${own}`);
      await connection.leave(`ticker:${own}`);
      await server.publish({ symbol: own, bid: "1", ask: "2" });
      await eventually(() => witness.of("update").length === 1, { what: "an update for those who stay" });
      const again = await connection.join(`ticker:${own}`);
      await server.publish({ symbol: own, bid: "3", ask: "4" });
      await eventually(() => again.of("update").length === 1, { what: "an update after the second join" });
      assert.equal(again.of("update")[0].bid, "3");
      assert.deepEqual(before.of("update"), []);
    },
  },
  {
    name: "a second join of a topic replaces the first",
    needs: ["again"],
    async run({ server, open, own }) {
      const connection = open();
      await connection.join(`ticker:${own}`);
      const second = await connection.join(`ticker:${own}`);
      await server.publish({ symbol: own, bid: "3", ask: "4" });
      await eventually(() => second.of("update").length === 1, { what: "an update on the second join" });
      await server.publish({ symbol: own, bid: "5", ask: "6" });
      await eventually(() => second.of("update").length === 2, { what: "one more" });
      assert.equal(second.joins.length, 1, "it did not have to join again");
    },
  },
  {
    name: "max_rate merges and ends on the latest",
    needs: ["params", "reply", "order"],
    async run({ server, open, own }) {
      const topic = await open().join(`ticker:${own}`, { max_rate: "200ms" });
      for (let i = 1; i <= 30; i++) await server.publish({ symbol: own, bid: String(i), ask: "100" });
      await eventually(() => topic.of("update").at(-1)?.bid === "30", { what: "the last one" });
      const updates = topic.of("update");
      assert.ok(updates.length < 30, "some were merged");
      assert.equal(updates.reduce((sum, { n = 1 }) => sum + n, 0), updates.at(-1).seq - topic.first.seq);
    },
  },
  {
    name: "200 pushes at once are answered, each with its own",
    needs: ["push"],
    async run({ open, own, token }) {
      const connection = open({ token });
      await connection.join(`room:${own}`);
      const answers = await Promise.all(Array.from({ length: 200 }, (_, i) => connection.push(`room:${own}`, "echo", { i })));
      assert.deepEqual(answers.map(({ i }) => i), Array.from({ length: 200 }, (_, i) => i));
    },
  },
  {
    name: "half a megabyte goes there and back",
    needs: ["push"],
    async run({ open, own, token }) {
      const connection = open({ token });
      await connection.join(`room:${own}`);
      const text = "0123456789abcdé".repeat(32_768);
      assert.equal((await connection.push(`room:${own}`, "echo", { text })).text, text);
    },
  },
  {
    name: "twenty channels on one connection do not mix",
    needs: [],
    async run({ server, open, own }) {
      const connection = open();
      const names = Array.from({ length: 20 }, (_, i) => `${own}.${i}`);
      const topics = await Promise.all(names.map((name) => connection.join(`ticker:${name}`)));
      await server.publish(...names.map((symbol, i) => ({ symbol, bid: String(i + 1), ask: "100" })));
      await eventually(() => topics.every((topic) => topic.of("update").length === 1), { what: "an update on each" });
      assert.deepEqual(topics.map((topic) => topic.of("update")[0].bid), names.map((_, i) => String(i + 1)));
    },
  },
  {
    name: "heartbeats are answered",
    needs: ["heartbeat"],
    async run({ open, own }) {
      const connection = open({}, { heartbeatIntervalMs: 150 });
      let beats = 0;
      connection.socket.onMessage(({ topic, event, payload }) => {
        if (topic === "phoenix" && event === "phx_reply" && payload.status === "ok") beats += 1;
      });
      await connection.join(`ticker:${own}`);
      await eventually(() => beats >= 4, { what: "four heartbeats answered" });
    },
  },
  {
    name: "a lost connection is resumed without a hole",
    needs: ["reconnect", "reply", "order"],
    async run({ server, client, open, own, proxy }) {
      await server.publish({ symbol: own, bid: "1", ask: "200" });
      const { topic, ledger } = await follow(client, open({}, { url: proxy.socket() }), own);
      for (let i = 1; i <= 3; i++) {
        const joins = topic.joins.length;
        proxy.cut();
        await server.publish({ symbol: own, bid: String(10 + i), ask: "200" });
        await proxy.cutUntil(() => topic.joins.length > joins, `join ${joins + 1}`);
        await eventually(() => ledger.quote?.bid === String(10 + i), { what: `what was missed ${i}` });
      }
      ledger.honest();
      if (!client.can.has("resume")) return;
      assert.equal(ledger.recoveries, topic.joins.length - 1, "each time from where it was");
      assert.equal(ledger.last.seq, topic.first.seq + 3, "every one, once");
    },
  },
];

/** Ends connections and waits for those that are programs. */
export async function closeAll(connections) {
  await Promise.all(connections.splice(0).map((connection) => connection.close()));
}

/**
 * Plays each behaviour with each client that is able to. `stage` is asked once the suite has begun, and says what there is beside the client: the
 * server at least.
 */
export function play(behaviours, stage) {
  let names = 0;
  for (const client of clients) {
    if (client.missing) {
      test(client.name, { skip: client.missing });
      continue;
    }
    describe(client.name, () => {
      const connections = [];
      afterEach(() => closeAll(connections));
      const open = (params = {}, options = {}) => {
        const connection = client.open({ url: stage().server.socket(), params, ...options });
        connections.push(connection);
        return connection;
      };
      for (const { name, needs, run } of behaviours) {
        if (!needs.every((what) => client.can.has(what))) continue;
        test(name, () => run({ ...stage(), client, open, own: `OWN${(names += 1)}` }));
      }
    });
  }
}
