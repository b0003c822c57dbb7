// A network that fails on demand: a TCP proxy that can cut its connections, or refuse every upgrade as some company's gateway does.
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { eventually } from "./server.mjs";

/** Time enough for a client to come back. */
const CUT_AGAIN_MS = 3_000;

export class Proxy {
  /** @param {number} target port @param {{ refuseUpgrades?: boolean }} options */
  static async to(target, { refuseUpgrades = false } = {}) {
    const proxy = new Proxy();
    proxy.pairs = new Set();
    proxy.refused = 0;
    proxy.server = createServer({ allowHalfOpen: true }, (client) => {
      const upstream = connect({ port: target, host: "127.0.0.1", allowHalfOpen: true });
      const pair = { client, upstream };
      proxy.pairs.add(pair);
      const end = () => {
        client.destroy();
        upstream.destroy();
        proxy.pairs.delete(pair);
      };
      for (const socket of [client, upstream]) socket.on("error", end).on("close", end).setNoDelay(true);
      upstream.pipe(client);
      if (!refuseUpgrades) {
        client.pipe(upstream);
        return;
      }
      client.on("data", (chunk) => {
        if (/^upgrade: *websocket/im.test(chunk.toString("latin1"))) {
          proxy.refused += 1;
          client.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
          upstream.destroy();
        } else {
          upstream.write(chunk);
        }
      });
      client.on("end", () => upstream.end());
    });
    proxy.server.listen(0, "127.0.0.1");
    await once(proxy.server, "listening");
    proxy.port = proxy.server.address().port;
    return proxy;
  }

  url(path = "/") { return `http://127.0.0.1:${this.port}${path}`; }
  socket(path = "/socket") { return `ws://127.0.0.1:${this.port}${path}`; }

  /**
   * Resets connections until `noticed`. One that is just being made, as a client that polls does all the time, escapes the first cut, and
   * its client loses nothing.
   */
  async cutUntil(noticed, what) {
    let next = 0;
    await eventually(() => {
      if (noticed()) return true;
      if (Date.now() >= next) {
        this.cut();
        next = Date.now() + CUT_AGAIN_MS;
      }
      return false;
    }, { what, within: 40_000 });
  }

  /** Resets every connection there is; new ones work. */
  cut() {
    for (const { client, upstream } of this.pairs) {
      client.resetAndDestroy();
      upstream.destroy();
    }
  }

  async stop() {
    this.server.close();
    this.cut();
    await once(this.server, "close");
  }
}
