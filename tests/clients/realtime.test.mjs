// supabase's clients: their own event inside the channel's, acknowledgements on demand, protocol version 1 with a join_ref.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import WebSocket from "ws";
import { DriverClient } from "./adapters/driver.mjs";
import { realtimePython } from "./clients.mjs";
import { eventually, Server } from "./server.mjs";

const { RealtimeClient } = createRequire(import.meta.url)("@supabase/realtime-js");

/** One client on one topic. */
class Member {
  states = [];
  heard = [];

  constructor(server, name, broadcast) {
    this.client = new RealtimeClient(server.socket(), {
      params: { apikey: "anon" },
      transport: WebSocket,
      timeout: 5_000,
      reconnectAfterMs: () => 50,
    });
    this.channel = this.client.channel(name, { config: { broadcast } });
    this.channel.on("broadcast", { event: "shout" }, ({ payload }) => this.heard.push(payload));
    this.channel.subscribe((state) => this.states.push(state));
  }

  subscribed(times = 1) {
    const count = () => this.states.filter((state) => state === "SUBSCRIBED").length >= times;
    return eventually(count, { what: `subscribed ${times} times`, within: 40_000, detail: () => String(this.states) });
  }

  send(payload) {
    return this.channel.send({ type: "broadcast", event: "shout", payload });
  }
}

describe("supabase's realtime", () => {
  let server;
  let members;
  before(async () => {
    server = await Server.startFile("config/demo.toml");
    members = [
      new Member(server, "talk", { ack: true, self: true }),
      new Member(server, "talk", { ack: true, self: false }),
      new Member(server, "talk", { ack: false, self: false }),
    ];
    await Promise.all(members.map((member) => member.subscribed()));
  });
  after(async () => {
    for (const { client } of members ?? []) client.disconnect();
    await server?.stop();
  });

  test("broadcasts reach the others, oneself if wanted, and are acknowledged if wanted", async () => {
    const [echoing, acknowledged, silent] = members;
    assert.equal(await echoing.send({ from: "echoing" }), "ok");
    assert.equal(await acknowledged.send({ from: "acknowledged" }), "ok");
    assert.equal(await silent.send({ from: "silent" }), "ok", "taken for sent");
    const heard = (member) => member.heard.map(({ from }) => from).sort();
    await eventually(() => members.every((member) => member.heard.length >= 2), { what: "what the others said" });
    await eventually(() => echoing.heard.length === 3, { what: "what it said itself" });
    assert.deepEqual(members.map(heard), [["acknowledged", "echoing", "silent"], ["echoing", "silent"], ["acknowledged", "echoing"]]);
  });

  test("a heartbeat is answered", async () => {
    const states = [];
    members[0].client.onHeartbeat((state) => states.push(state));
    await members[0].client.sendHeartbeat();
    await eventually(() => states.includes("ok"), { what: "an answer", detail: () => String(states) });
  });

  test("what is left can be subscribed again", async () => {
    const member = new Member(server, "left", { ack: true, self: true });
    await member.subscribed();
    assert.equal(await member.channel.unsubscribe(), "ok");
    const again = member.client.channel("left", { config: { broadcast: { ack: true, self: true } } });
    await new Promise((joined) => again.subscribe((state) => state === "SUBSCRIBED" && joined()));
    assert.equal(await again.send({ type: "broadcast", event: "shout", payload: {} }), "ok");
    member.client.disconnect();
  });

  for (const signal of ["SIGTERM", "SIGKILL"]) {
    test(`${signal} and a new start are survived`, async () => {
      const before = members.map(({ states }) => states.filter((state) => state === "SUBSCRIBED").length);
      await server.restart(signal);
      await Promise.all(members.map((member, i) => member.subscribed(before[i] + 1)));
      const count = members[2].heard.length;
      assert.equal(await eventually(async () => (await members[0].send({ after: signal })) === "ok", { what: "a broadcast taken" }), true);
      await eventually(() => members[2].heard.length > count, { what: "a broadcast heard" });
    });
  }

  test("its Python sibling talks to it, before and after a restart", { skip: realtimePython.missing }, async () => {
    const python = new DriverClient(realtimePython.command, { url: server.socket() });
    try {
      const topic = await python.join("realtime:talk");
      for (let i = 0; i < 2; i++) {
        const [said, heard] = [members[0].heard.length, topic.messages.length];
        await python.push("realtime:talk", "shout", { from: "Python" });
        await eventually(() => members[0].heard.slice(said).some(({ from }) => from === "Python"), { what: "heard from Python" });
        await members[0].send({ from: "Node" });
        await eventually(() => topic.of("shout").slice(heard).some(({ from }) => from === "Node"), { what: "heard in Python", detail: () => python.log });
        if (i > 0) break;
        const before = members[0].states.filter((state) => state === "SUBSCRIBED").length;
        await server.restart();
        await members[0].subscribed(before + 1);
        await eventually(() => topic.joins.length > 1, { what: "subscribed again in Python", within: 30_000, detail: () => python.log });
      }
    } finally {
      await python.close();
    }
  });
});
