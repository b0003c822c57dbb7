// The demo endpoint, on which the behaviours can be provoked that a well-behaved product does not show: crashes, stops, refusals, bytes.
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { libraries, PhoenixClient } from "./adapters/phoenix.mjs";
import { closeAll, play } from "./behaviours.mjs";
import { Proxy } from "./proxy.mjs";
import { eventually, Server } from "./server.mjs";

const bytes = (...values) => new Uint8Array(values).buffer;
const numbers = (buffer) => [...new Uint8Array(buffer)];

const behaviours = [
  {
    name: "a channel that crashes is joined again, and nobody else notices",
    needs: ["push", "rejoin"],
    async run({ open, own }) {
      const [left, right] = [open(), open()];
      const [crashing, neighbour, other] = await Promise.all([left.join(`room:${own}`), left.join(`room:${own}-neighbour`), right.join(`room:${own}`)]);
      for (let i = 1; i <= 3; i++) {
        left.cast(`room:${own}`, i === 2 ? "stop_reason" : "crash");
        await eventually(() => crashing.joins.length === 1 + i, { what: `join ${1 + i}` });
        assert.deepEqual(await left.push(`room:${own}`, "echo", { i }), { i });
      }
      assert.deepEqual(await left.push(`room:${own}-neighbour`, "echo", { there: 1 }), { there: 1 });
      assert.deepEqual([neighbour.joins.length, other.joins.length], [1, 1]);
    },
  },
  {
    name: "a join that is refused, and one that crashes, say why",
    needs: [],
    async run({ open }) {
      const connection = open();
      await assert.rejects(connection.join("room:forbidden"), ({ status, response }) => status === "error" && /unauthorized/.test(JSON.stringify(response)));
      await assert.rejects(connection.join("room:crash_join"), ({ status, response }) => status === "error" && /join crashed/.test(JSON.stringify(response)));
    },
  },
  {
    name: "replies are ok, error, empty or late",
    needs: ["push"],
    async run({ open, own }) {
      const connection = open();
      const topic = `room:${own}`;
      await connection.join(topic);
      await assert.rejects(connection.push(topic, "echo_error", { no: "way" }), { status: "error", response: { no: "way" } });
      assert.deepEqual(await connection.push(topic, "reply_status_only", { a: 1 }), {});
      const [late, soon] = await Promise.all([
        connection.push(topic, "late_reply", { late: 1 }).then((reply) => ({ reply, at: performance.now() })),
        connection.push(topic, "echo", { soon: 1 }).then((reply) => ({ reply, at: performance.now() })),
      ]);
      assert.deepEqual([late.reply, soon.reply], [{ late: 1 }, { soon: 1 }]);
      assert.ok(soon.at < late.at, "the late one held nobody up");
    },
  },
  {
    name: "pushes are one's own, broadcasts everybody's, in order",
    needs: ["push", "order", "reply"],
    async run({ open, own }) {
      const [left, right] = [open(), open()];
      const topic = `room:${own}`;
      const [mine, theirs] = await Promise.all([left.join(topic), right.join(topic)]);
      await left.push(topic, "shout_reply", { to: "all" });
      left.cast(topic, "shout_from", { to: "others" });
      left.cast(topic, "push_me", { to: "me" });
      await left.push(topic, "push_n", { n: 1000 });
      await left.push(topic, "shout_n", { n: 1000 });
      await eventually(() => theirs.of("seq").length === 1000, { what: "a thousand broadcasts" });
      await eventually(() => mine.of("seq").length === 2000, { what: "a thousand pushes and a thousand broadcasts" });
      const counted = Array.from({ length: 1000 }, (_, i) => i);
      assert.deepEqual(mine.of("seq").map(({ i }) => i), [...counted, ...counted]);
      assert.deepEqual(theirs.of("seq").map(({ i }) => i), counted);
      assert.deepEqual([mine.of("shout"), mine.of("shout_from"), mine.of("pushed")], [[{ to: "all" }], [], [{ to: "me" }]]);
      assert.deepEqual([theirs.of("shout"), theirs.of("shout_from"), theirs.of("pushed")], [[{ to: "all" }], [{ to: "others" }], []]);
    },
  },
  {
    name: "a channel that stops is closed, stays so, and can be joined again",
    needs: ["push", "ends"],
    async run({ open, own }) {
      const connection = open();
      for (const [i, event] of ["stop", "stop_noreply", "stop_shutdown"].entries()) {
        const topic = await connection.join(`room:${own}`);
        if (event === "stop") assert.deepEqual(await connection.push(`room:${own}`, event, { i }), { i });
        else connection.cast(`room:${own}`, event);
        await eventually(() => topic.closes === 1, { what: `a close after ${event}` });
        assert.equal(topic.joins.length, 1);
      }
    },
  },
  {
    name: "join parameters arrive as they were",
    needs: ["params", "reply"],
    async run({ open, own }) {
      const params = { echo_params: true, deep: { list: [1, "zwei", false] }, text: "äöü €" };
      assert.deepEqual((await open().join(`room:${own}`, params)).first, { params });
      const topic = await open().join(`room:${own}`, { push_on_join: true });
      await eventually(() => topic.of("hello").length === 1, { what: "the push right after the join" });
    },
  },
  {
    name: "connection parameters arrive as they were",
    needs: ["push"],
    async run({ open, own }) {
      const connection = open({ colour: "grün & blau", "user[id]": "7" });
      await connection.join(`room:${own}`);
      const { params, auth_token } = await connection.push(`room:${own}`, "connect_info");
      assert.deepEqual([params.colour, params["user[id]"], auth_token], ["grün & blau", "7", null]);
    },
  },
  {
    name: "bytes go there and back, to others, and out",
    needs: ["binary"],
    async run({ open, own }) {
      const [left, right] = [open(), open()];
      const topic = `room:${own}`;
      const [mine, theirs] = await Promise.all([left.join(topic), right.join(topic)]);
      const sent = Array.from({ length: 256 }, (_, i) => i);
      assert.deepEqual(numbers(await left.push(topic, "binary_echo", bytes(...sent))), sent);
      await assert.rejects(left.push(topic, "binary_error", bytes(1, 2)), ({ status, response }) => status === "error" && numbers(response).join() === "1,2");
      left.cast(topic, "binary_shout", bytes(0, 255, 10));
      left.cast(topic, "binary_push", bytes());
      await left.push(topic, "binary_out", { n: 3, b: 7, event: "out" });
      await eventually(() => theirs.of("binary_shout").length === 1, { what: "a broadcast of bytes" });
      assert.deepEqual([mine.of("binary_shout"), mine.of("binary_pushed"), mine.of("out")].map(([got]) => numbers(got)), [[0, 255, 10], [], [7, 7, 7]]);
      assert.deepEqual(numbers(theirs.of("binary_shout")[0]), [0, 255, 10]);
    },
  },
  {
    name: "five megabytes go there and back",
    needs: ["push", "big"],
    async run({ open, own }) {
      const connection = open();
      await connection.join(`room:${own}`);
      const text = "0123456789abcdef".repeat(327_680);
      assert.ok((await connection.push(`room:${own}`, "echo", { text })).text === text);
    },
  },
  {
    name: "a socket that is disconnected by its name comes back",
    needs: ["push", "reconnect", "anew"],
    async run({ server, open, own }) {
      const connection = open({ socket_id: own });
      const topic = await connection.join(`room:${own}`);
      const answer = await fetch(server.url(`/demo/disconnect?id=users_socket:${own}`), { method: "POST" });
      assert.ok(answer.ok, `${answer.status}`);
      await eventually(() => topic.joins.length === 2, { what: "joined again", within: 30_000, detail: () => connection.log ?? "" });
      assert.deepEqual(await connection.push(`room:${own}`, "echo", { back: 1 }), { back: 1 });
    },
  },
];

let server;
before(async () => { server = await Server.startFile("config/demo.toml"); });
after(async () => { await server?.stop(); });

play(behaviours, () => ({ server }));

describe("transports", () => {
  const connections = [];
  afterEach(() => closeAll(connections));
  const phoenix = (library, options) => {
    const connection = new PhoenixClient(libraries[library](), { url: server.socket(), ...options });
    connections.push(connection);
    return connection;
  };

  test("a websocket stays while heartbeats come, and is closed when none do", async () => {
    const url = server.socket("/socket_fast");
    const [lively, idle] = [400, 60_000].map((heartbeatIntervalMs) => phoenix("phoenix.js 1.8", { url, heartbeatIntervalMs }));
    const [kept, lost] = await Promise.all([lively.join("room:lively"), idle.join("room:idle")]);
    await eventually(() => lost.joins.length >= 3, { what: "two idle timeouts" });
    assert.equal(kept.joins.length, 1);
  });

  test("a long poll whose token expires starts over and joins again", async () => {
    const connection = phoenix("phoenix.js 1.8", { url: server.socket("/socket_fast"), transport: "longpoll" });
    const topic = await connection.join("room:poll");
    await eventually(() => topic.joins.length >= 3, { what: "two tokens expired", within: 40_000 });
    assert.deepEqual(await connection.push("room:poll", "echo", { still: 1 }), { still: 1 });
  });

  for (const transport of ["websocket", "longpoll"]) {
    test(`authToken arrives over ${transport}`, async () => {
      const authToken = "opaque-to-the-server";
      const connection = phoenix("phoenix.js 1.8", { transport, authToken, params: { token: "another" } });
      await connection.join("room:auth");
      const { auth_token, params } = await connection.push("room:auth", "connect_info");
      assert.equal(auth_token, authToken);
      assert.equal(params.token, "another");
    });
  }

  test("compression is offered and used where the mount has it", async () => {
    const text = "compress me ".repeat(20_000);
    for (const [path, extension] of [["/socket_compress", "permessage-deflate"], ["/socket", ""]]) {
      const connection = phoenix("phoenix.js 1.8", { url: server.socket(path) });
      await connection.join("room:deflate");
      assert.equal(connection.socket.conn.extensions, extension);
      assert.equal((await connection.push("room:deflate", "echo", { text })).text, text);
    }
  });

  for (const library of ["phoenix.js 1.7", "phoenix.js 1.8"]) {
    test(`${library} falls back to long polling where upgrades are refused, and survives a restart there`, async () => {
      const proxy = await Proxy.to(server.http, { refuseUpgrades: true });
      try {
        const stored = new Map();
        const sessionStorage = { getItem: (key) => stored.get(key) ?? null, setItem: (key, value) => stored.set(key, value) };
        const connection = phoenix(library, { url: proxy.socket(), longPollFallbackMs: 1_000, sessionStorage });
        const topic = await connection.join("room:fallback");
        assert.ok(proxy.refused > 0, "it tried");
        assert.deepEqual(await connection.push("room:fallback", "echo", { by: "poll" }), { by: "poll" });
        await server.restart();
        await eventually(() => topic.joins.length >= 2, { what: "joined again", within: 30_000 });
        assert.deepEqual(await connection.push("room:fallback", "echo", { by: "poll" }), { by: "poll" });
        await closeAll(connections);
      } finally {
        await proxy.stop();
      }
    });
  }
});
