// Every client library, over every transport it knows, finds the same server.
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { behaviours, closeAll, play } from "./behaviours.mjs";
import { clients } from "./clients.mjs";
import { Proxy } from "./proxy.mjs";
import { eventually, mint, Server } from "./server.mjs";

const CHANNELS = `
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

let server;
let proxy;
const token = mint({ sub: "anna", exp: Date.now() / 1000 + 3600, allow: ["room:*", "ticker:*"] });
before(async () => {
  server = await Server.start(CHANNELS);
  proxy = await Proxy.to(server.http);
});
after(async () => {
  await proxy?.stop();
  await server?.stop();
});

play(behaviours, () => ({ server, proxy, token }));

describe("authToken", () => {
  const connections = [];
  afterEach(() => closeAll(connections));
  for (const client of clients.filter(({ library }) => library === "phoenix.js 1.8")) {
    test(`gives its bearer's rights over ${client.transport}, and stays out of the address`, async () => {
      const connection = client.open({ url: server.socket(), authToken: token });
      connections.push(connection);
      await connection.join("room:auth");
      await connection.push("room:auth", "shout", { by: "anna" });
      assert.ok(!connection.socket.endPointURL().includes(token));
      const forged = client.open({ url: server.socket(), authToken: `${token}x`, timeout: 1_000 });
      connections.push(forged);
      let refused = 0;
      forged.socket.onError(() => { refused += 1; });
      await eventually(() => refused > 0, { what: "a refusal" });
      assert.ok(!forged.socket.isConnected());
    });
  }
});
