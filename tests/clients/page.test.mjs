// The page in a real browser.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { chromium } from "playwright-core";
import { CHROMIUM } from "./browser.mjs";
import { eventually, Server } from "./server.mjs";

describe("the page in Chromium", () => {
  let server, browser, page;
  const problems = [];
  before(async () => {
    server = await Server.start(`
[[feed]]
kind = "simulated"
seed = 7
`);
    browser = await chromium.launch(CHROMIUM);
    page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
    page.on("pageerror", (error) => problems.push(String(error)));
    await page.goto(server.url("/"));
  });
  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  const total = async () => Number(await page.getByTestId("updates").getAttribute("data-total"));
  const state = () => page.getByTestId("connection").getAttribute("data-state");
  const cell = (symbol, name) => page.getByTestId(`row-${symbol}`).locator(`[data-cell="${name}"]`).textContent();
  const symbols = async () => {
    const ids = await page.locator('[data-testid^="row-"]').evaluateAll((rows) => rows.map((row) => row.dataset.testid));
    return ids.map((id) => id.slice("row-".length));
  };

  test("prices move, and are told to be simulated", async () => {
    await eventually(async () => (await state()) === "live", { what: "live" });
    const all = await eventually(async () => { const list = await symbols(); return list.length > 20 && list; }, { what: "rows" });
    const before = new Map(await Promise.all(all.map(async (symbol) => [symbol, await cell(symbol, "bid")])));
    await eventually(async () => {
      for (const symbol of all) if ((await cell(symbol, "bid")) !== before.get(symbol)) return true;
    }, { what: "a price moved" });
    assert.ok(await page.getByTestId("simulated").isVisible());
  });

  test("a dropped connection comes back and resumes", async () => {
    await page.getByTestId("drop").click();
    await eventually(async () => (await page.getByTestId("resume").getAttribute("data-recovered")) === "true", { what: "resumed" });
    await eventually(async () => (await state()) === "live", { what: "live again" });
  });

  test("a server restart is survived", async () => {
    await server.restart();
    await eventually(async () => (await state()) === "live", { what: "live after the restart", within: 30_000 });
    await eventually(async () => (await page.getByTestId("resume").getAttribute("data-recovered")) === "false", { what: "told that it is another epoch" });
    const before = await total();
    await eventually(async () => (await total()) > before, { what: "updates flow" });
  });

  test("a chosen rate is obeyed and the page fits a phone", async () => {
    await page.getByTestId("rate").selectOption("1s");
    await eventually(async () => (await state()) === "live", { what: "live at 1 s" });
    await page.setViewportSize({ width: 390, height: 844 });
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok(overflow <= 0, `${overflow} px wider than the phone`);
    assert.deepEqual(problems, []);
  });
});
