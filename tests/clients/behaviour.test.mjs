// Every client library, over every transport it knows, finds the same server.
import { after, afterEach, before, describe, test } from "node:test";
import { behaviours, closeAll } from "./behaviours.mjs";
import { clients } from "./clients.mjs";
import { Proxy } from "./proxy.mjs";
import { mint, Server } from "./server.mjs";

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
      const connection = client.open({ url: server.socket(), params, ...options });
      connections.push(connection);
      return connection;
    };
    for (const { name, needs, run } of behaviours) {
      if (!needs.every((what) => client.can.has(what))) continue;
      test(name, () => run({ server, proxy, client, open, token, own: `OWN${(names += 1)}` }));
    }
  });
}
