// The server restarts, drains, is killed, or the network resets every connection, while every client library is connected at once
// and quotes keep coming: each library comes back by itself, and what it was told about what it missed is true.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { closeAll, follow } from "./behaviours.mjs";
import { clients } from "./clients.mjs";
import { Proxy } from "./proxy.mjs";
import { eventually, mint, PUBLISH_KEY, Server } from "./server.mjs";

const CHANNELS = `
# Slow machines miss more while a library comes back.
[market]
ring = 8192
resume_max = 8192

[[channel]]
pattern = "ticker:*"
kind = "ticker"

[[channel]]
pattern = "room:*"
kind = "room"
echo = ["echo"]
`;

const faults = {
  "a restart": async ({ server }) => { await server.restart("SIGTERM"); },
  "a drain asked for over HTTP": async ({ server }) => {
    const answer = await fetch(`http://127.0.0.1:${server.admin}/drain`, { method: "POST", headers: { authorization: `Bearer ${PUBLISH_KEY}` } });
    assert.ok(answer.ok, `POST /drain: ${answer.status}`);
    assert.equal(await server.ended(), 0);
    await server.up();
  },
  "a kill": async ({ server }) => { await server.restart("SIGKILL"); },
  "a reset of every connection": async ({ proxy, back }) => { await proxy.cutUntil(back, "everyone joined again").catch(() => {}); },
};

/** Publishes without a pause, whatever happens to the server, until it is told to stop. */
class Feed {
  constructor(server) {
    this.server = server;
    this.last = 0;
    this.running = true;
    this.done = this.run();
  }

  async run() {
    for (let i = 1; this.running; i++) {
      await this.server.publish({ symbol: "EURUSD", bid: String(i), ask: "1000000" }).then(() => { this.last = i; }, () => {});
      await new Promise((later) => setTimeout(later, 10));
    }
  }

  /** The last bid that the server took. */
  async stop() {
    this.running = false;
    await this.done;
    // One more, so that every client has an update to see after it came back.
    this.last += 1_000_000;
    await eventually(() => this.server.publish({ symbol: "EURUSD", bid: String(this.last), ask: "9000000" }).then(() => true), { what: "a last quote" });
    return String(this.last);
  }
}

const able = clients.filter(({ can }) => can.has("reconnect"));

for (const [fault, strike] of Object.entries(faults)) {
  describe(`after ${fault}`, () => {
    const cut = fault.startsWith("a reset");
    const drained = fault.startsWith("a drain") || fault.startsWith("a restart");
    const token = mint({ sub: "anna", exp: Date.now() / 1000 + 3600, allow: ["room:*", "ticker:*"] });
    const connections = [];
    const states = new Map();
    let server;
    let proxy;
    let last;
    before(async () => {
      server = await Server.start(CHANNELS);
      proxy = await Proxy.to(server.http);
      const url = cut ? proxy.socket() : server.socket();
      await Promise.all(able.filter(({ missing }) => !missing).map(async (client) => {
        const connection = client.open({ url, params: { token } });
        connections.push(connection);
        const codes = [];
        // Over long polling old versions say nothing more than that it happened.
        connection.socket?.onClose((event) => codes.push(event?.code));
        const room = await connection.join("room:all");
        const ticker = client.can.has("reply") && client.can.has("order")
          ? await follow(client, connection, "EURUSD")
          : { topic: await connection.join("ticker:EURUSD") };
        states.set(client, { connection, codes, room, ...ticker });
      }));
      const feed = new Feed(server);
      const flowing = () => [...states.values()].every(({ topic }) => topic.of("update").length > 2);
      await eventually(flowing, { what: "updates for everyone" });
      const back = () => [...states.values()].every(({ topic, room }) => topic.joins.length > 1 && room.joins.length > 1);
      await strike({ server, proxy, back });
      // Each client's own test says which one it was that did not come back.
      await eventually(back, { within: 40_000 }).catch(() => {});
      last = await feed.stop();
    });
    after(async () => {
      await closeAll(connections);
      await proxy?.stop();
      await server?.stop();
    });

    for (const client of able) {
      test(client.name, { skip: client.missing }, async () => {
        const { connection, codes, topic, room, ledger } = states.get(client);
        await eventually(() => topic.joins.length > 1, { what: "joined the ticker again", detail: () => connection.log ?? "" });
        await eventually(() => room.joins.length > 1, { what: "joined the room again" });
        await eventually(() => topic.of("update").some(({ bid }) => bid === last), { what: `the last quote, ${last}` });
        if (client.can.has("push")) assert.deepEqual(await eventually(() => connection.push("room:all", "echo", { still: "here" }), { what: "an echo" }), { still: "here" });
        const heard = room.of("news").length;
        await server.broadcast("room:all", "news", { heard });
        await eventually(() => room.of("news").length > heard, { what: "a broadcast" });
        if (drained && connection.socket && client.transport === "websocket") assert.equal(codes[0], 1012, "told that the service restarts");
        if (!ledger) return;
        ledger.honest();
        const rejoins = topic.joins.slice(1);
        if (cut && client.can.has("resume")) {
          assert.ok(rejoins.every(({ recovered }) => recovered), "the server kept what was missed");
          assert.equal(ledger.recoveries, rejoins.length);
        } else {
          assert.ok(rejoins.every(({ recovered }) => !recovered), "another epoch, or no since: nothing is claimed");
        }
        if (!cut) assert.notEqual(topic.joins[0].epoch, topic.joins.at(-1).epoch);
      });
    }
  });
}
