import { expect, it } from "vitest";
import { parseFeedState, parseListingPage, parseSnapshot, parseUpdate } from "../src/protocol";

it("reads an update, with n absent meaning one", () => {
  const payload = { symbol: "X", bid: "1.10", ask: "1.20", ts: 1, epoch: "a", seq: 3 };
  expect(parseUpdate(payload)).toEqual({ position: { epoch: "a", seq: 3 }, quote: { bid: "1.10", ask: "1.20" }, n: 1 });
  expect(parseUpdate({ ...payload, n: 7 })?.n).toBe(7);
});

it("reads a join reply, with its status as a word or an object", () => {
  const reply = { quote: null, epoch: "a", seq: 0, recovered: true, missed: [{ epoch: "a", seq: 1, bid: "2" }, 5] };
  expect(parseSnapshot({ ...reply, status: "stale" })).toMatchObject({ recovered: true, quote: null, state: "stale" });
  expect(parseSnapshot({ ...reply, status: { state: "ok", since_us: 1 } })?.state).toBe("ok");
  expect(parseSnapshot(reply)?.missed).toHaveLength(1);
});

it("reads a listing, and leaves out items that it does not understand", () => {
  const page = parseListingPage({
    quotes: [
      { symbol: "A", bid: "1", epoch: "a", seq: 1, age_us: 2500, status: "ok", source: "simulated" },
      { bid: "1" },
      { symbol: "B", bid: 1.5, status: "unheard-of" },
    ],
    next: "B",
  });
  expect(page?.next).toBe("B");
  expect(page?.quotes).toMatchObject([
    { symbol: "A", quote: { bid: "1" }, ageMs: 2.5, simulated: true },
    // A price that is not a string has lost the publisher's digits.
    { symbol: "B", quote: {}, state: null, simulated: false },
  ]);
});

it.each([null, undefined, 5, "x", [], {}])("refuses %j", (payload) => {
  expect(parseUpdate(payload)).toBeNull();
  expect(parseListingPage(payload)).toBeNull();
  expect(parseFeedState(payload)).toBeNull();
});
