// phoenix.js in a real browser behind a gateway that lets no WebSocket through: it falls back to long polling and stays there.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { chromium } from "playwright-core";
import { CHROMIUM } from "./browser.mjs";
import { Proxy } from "./proxy.mjs";
import { eventually, mint, Server } from "./server.mjs";

const bundle = createRequire(import.meta.url).resolve("phoenix18").replace("phoenix.cjs.js", "phoenix.js");

describe("phoenix.js in Chromium without WebSockets", () => {
  let server, proxy, browser, page;
  const problems = [];
  before(async () => {
    server = await Server.start();
    proxy = await Proxy.to(server.http, { refuseUpgrades: true });
    browser = await chromium.launch(CHROMIUM);
    page = await browser.newPage({ bypassCSP: true });
    page.on("pageerror", (error) => problems.push(String(error)));
    await page.goto(proxy.url("/v1/quotes"));
    await page.addScriptTag({ path: bundle });
    await server.publish({ symbol: "EURUSD", bid: "1.1", ask: "1.2" });
    await page.evaluate((authToken) => {
      const seen = { joins: [], updates: [], last: null, refused: [] };
      const socket = new Phoenix.Socket("/socket", { longPollFallbackMs: 2_000, authToken, reconnectAfterMs: () => 100, rejoinAfterMs: () => 100 });
      socket.connect();
      const channel = socket.channel("ticker:EURUSD", () => (seen.last ? { since: seen.last } : {}));
      const apply = (update) => {
        seen.updates.push(update);
        seen.last = { epoch: update.epoch, seq: update.seq };
      };
      channel.on("update", apply);
      channel.join().receive("ok", (reply) => {
        seen.joins.push(reply);
        reply.missed.forEach(apply);
        seen.last = { epoch: reply.epoch, seq: reply.seq };
      }).receive("error", (reason) => seen.refused.push(reason));
      Object.assign(window, { seen, socket });
    }, mint({ sub: "anna", exp: Date.now() / 1000 + 3600, allow: ["ticker:*"] }));
  });
  after(async () => {
    await browser?.close();
    await proxy?.stop();
    await server?.stop();
  });

  const seen = () => page.evaluate(() => window.seen);
  const joined = (times) => eventually(async () => (await seen()).joins.length >= times, { what: `join ${times}`, within: 40_000, detail: () => problems.join() });
  const bid = (price) => eventually(async () => (await seen()).updates.at(-1)?.bid === price, { what: `a bid of ${price}` });

  test("it joins, and updates arrive", async () => {
    await joined(1);
    assert.ok(proxy.refused > 0, "it tried a WebSocket first");
    assert.equal(await page.evaluate(() => window.socket.conn.constructor.name === "WebSocket"), false);
    assert.equal((await seen()).joins[0].quote.bid, "1.1");
    for (let i = 1; i <= 20; i++) await server.publish({ symbol: "EURUSD", bid: `1.${100 + i}`, ask: "2" });
    await bid("1.120");
    const { updates, joins } = await seen();
    assert.equal(updates.reduce((sum, { n = 1 }) => sum + n, 0), updates.at(-1).seq - joins[0].seq);
  });

  // Chromium itself repeats a poll whose connection was reset, so that the library does not notice. Either way nothing is missing.
  test("no reset of its connections loses anything", async () => {
    for (let i = 1; i <= 10; i++) {
      proxy.cut();
      await server.publish({ symbol: "EURUSD", bid: `3.${100 + i}`, ask: "4" });
      await bid(`3.${100 + i}`);
    }
    const { joins, updates } = await seen();
    assert.ok(joins.slice(1).every(({ recovered }) => recovered));
    assert.equal(updates.reduce((sum, { n = 1 }) => sum + n, 0), updates.at(-1).seq - joins[0].seq, "each one, once");
  });

  for (const signal of ["SIGTERM", "SIGKILL"]) {
    test(`${signal} and a new start are survived, and told: another epoch`, async () => {
      const before = await seen();
      await server.restart(signal);
      await joined(before.joins.length + 1);
      const after = await seen();
      assert.equal(after.joins.at(-1).recovered, false);
      assert.notEqual(after.joins.at(-1).epoch, before.joins.at(-1).epoch);
      const price = signal === "SIGTERM" ? "5" : "6";
      await server.publish({ symbol: "EURUSD", bid: price, ask: "7" });
      await bid(price);
      assert.deepEqual([problems, after.refused], [[], []]);
    });
  }
});
