// permessage-deflate with a client library that knows nothing of Phoenix: what it sends and reads is compressed by zlib itself.
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import WebSocket from "ws";
import { Server } from "./server.mjs";

const CONFIG = `
[auth.anonymous]
write = true

[[socket]]
path = "/socket"
compress = true

[[socket]]
path = "/plain"

[[channel]]
pattern = "room:*"
kind = "room"
broadcast = ["shout"]
echo = ["echo"]
`;

/** A socket that hands out its messages one after the other. */
class Client {
  constructor(url, options) {
    this.socket = new WebSocket(url, options);
    this.messages = [];
    this.socket.on("message", (data, isBinary) => {
      this.messages.push(isBinary ? data : JSON.parse(data));
      this.wake?.();
    });
  }

  static async open(server, path, options) {
    const client = new Client(`ws://127.0.0.1:${server.http}${path}/websocket?vsn=2.0.0`, options);
    await once(client.socket, "open");
    return client;
  }

  send(message, options) {
    this.socket.send(JSON.stringify(message), options);
  }

  async next() {
    const deadline = Date.now() + 10_000;
    while (this.messages.length === 0) {
      assert.ok(Date.now() < deadline, "nothing came in time");
      await new Promise((wake) => { this.wake = wake; setTimeout(wake, 100); });
    }
    return this.messages.shift();
  }

  async join(topic) {
    this.send(["1", "1", topic, "phx_join", {}]);
    const reply = await this.next();
    assert.equal(reply[4].status, "ok");
  }

  async close() {
    this.socket.close(1000);
    const [code] = await once(this.socket, "close");
    assert.equal(code, 1000);
  }
}

const text = (length) => Array.from({ length }, (_, i) => "Habe nun, ach! Philosophie, ".charAt((i * 7 + i % 13) % 28)).join("");

describe("permessage-deflate", () => {
  let server;
  before(async () => { server = await Server.start(CONFIG); });
  after(async () => { await server?.stop(); });

  const kinds = {
    "as ws offers it": {},
    "with a threshold of nothing": { threshold: 0 },
    "with small windows": { threshold: 0, serverMaxWindowBits: 9, clientMaxWindowBits: 9 },
    "with the smallest window": { threshold: 0, serverMaxWindowBits: 8 },
    "without context by itself": { threshold: 0, serverNoContextTakeover: true, clientNoContextTakeover: true },
  };
  for (const [name, perMessageDeflate] of Object.entries(kinds)) {
    test(`echoes of every size come back ${name}`, async () => {
      const client = await Client.open(server, "/socket", { perMessageDeflate });
      assert.match(client.socket.extensions, /permessage-deflate/);
      await client.join("room:a");
      for (const length of [0, 1, 20, 1_000, 70_000, 600_000]) {
        for (const compress of [true, false]) {
          client.send(["1", "2", "room:a", "echo", { t: text(length) }], { compress });
          assert.deepEqual(await client.next(), ["1", "2", "room:a", "phx_reply", { status: "ok", response: { t: text(length) } }]);
        }
      }
      client.socket.ping("are you there");
      const [pong] = await once(client.socket, "pong");
      assert.equal(pong.toString(), "are you there");
      await client.close();
    });
  }

  test("a broadcast reaches compressed and plain sockets alike", async () => {
    const clients = await Promise.all([
      ...Object.values(kinds).map((perMessageDeflate) => Client.open(server, "/socket", { perMessageDeflate })),
      Client.open(server, "/socket", { perMessageDeflate: false }),
      Client.open(server, "/plain", {}),
    ]);
    assert.equal(clients.at(-1).socket.extensions, "", "a mount without compress negotiates nothing");
    for (const client of clients) await client.join("room:all");
    for (let i = 0; i < 50; i++) {
      const payload = { i, t: text(i * 100) };
      const sender = clients[i % clients.length];
      sender.send(["1", "2", "room:all", "shout", payload]);
      // Who sends to a room is answered, the others get it.
      for (const client of clients) {
        const message = await client.next();
        if (client === sender) assert.equal(message[4].status, "ok");
        else assert.deepEqual(message, [null, null, "room:all", "shout", payload]);
      }
    }
    await Promise.all(clients.map((client) => client.close()));
  });

  test("a message in fragments is compressed as one", async () => {
    const client = await Client.open(server, "/socket", { perMessageDeflate: { threshold: 0 } });
    await client.join("room:a");
    const message = JSON.stringify(["1", "2", "room:a", "echo", { t: text(5_000) }]);
    for (let at = 0; at < message.length; at += 700) {
      client.socket.send(message.slice(at, at + 700), { fin: at + 700 >= message.length });
    }
    assert.equal((await client.next())[4].response.t, text(5_000));
    await client.close();
  });

  test("a message that is too big once it is inflated is refused, 1009", async () => {
    const client = await Client.open(server, "/socket", { perMessageDeflate: { threshold: 0 } });
    client.send(["1", "2", "room:a", "echo", "x".repeat(5_000_000)]);
    const [code, reason] = await once(client.socket, "close");
    assert.deepEqual([code, reason.toString()], [1009, "message_too_big"]);
  });
});
