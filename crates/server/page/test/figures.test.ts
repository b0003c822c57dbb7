import { describe, expect, it } from "vitest";
import { formatAge, formatCount, formatPercent } from "../src/format";
import { RateMeter } from "../src/meter";
import { describe as words, FRESH_ROUND, isRecovered, withReply } from "../src/resume";
import { History } from "../src/sparkline";

it.each([
  [-5, "now"],
  [999, "now"],
  [1000, "1 s"],
  [59_999, "59 s"],
  [60_000, "1 min"],
  [3_600_000, "1 h"],
  [90_000_000, "1 d"],
])("words an age of %d ms as %s", (ageMs, text) => expect(formatAge(ageMs)).toBe(text));

it.each([
  [0, "0.000%"],
  [-0.0001, "0.000%"],
  [0.0125, "+0.013%"],
  [-1.5, "−1.500%"],
])("signs %d percent as %s", (percent, text) => expect(formatPercent(percent)).toBe(text));

it("groups the digits of a count", () => {
  expect(formatCount(1234567)).toBe("1\u202f234\u202f567");
  expect(formatCount(999)).toBe("999");
});

it("averages a rate over three seconds", () => {
  const meter = new RateMeter();
  meter.add(30);
  expect(meter.tick(1000)).toBe(10);
  meter.add(30);
  expect(meter.tick(500)).toBe(30);
  expect([meter.tick(1000), meter.tick(1000), meter.tick(1000)]).toEqual([30, 20, 0]);
});

describe("a round of joins", () => {
  it("says nothing before the first reply", () => {
    expect(isRecovered(FRESH_ROUND)).toBeNull();
    expect(words(FRESH_ROUND)).toBe("");
  });

  it("adds up what was missed", () => {
    const round = withReply(withReply(FRESH_ROUND, true, 3), true, 4);
    expect(isRecovered(round)).toBe(true);
    expect(words(round)).toBe("resumed, 7 missed");
  });

  it("is not recovered if one symbol is not", () => {
    const round = withReply(withReply(FRESH_ROUND, true, 3), false, 0);
    expect(isRecovered(round)).toBe(false);
    expect(words(round)).toBe("snapshot for 1 of 2");
    expect(words(withReply(FRESH_ROUND, false, 0))).toBe("snapshot");
  });
});

describe("the line", () => {
  it("is bounded, and keeps the newest price of a moment", () => {
    const history = new History();
    for (let at = 0; at < 1000; at += 1) history.add(at, at * 1000);
    expect(history.path()).toHaveLength(64);
    history.add(2000, 999_001);
    expect(history.path()).toHaveLength(64);
    expect(history.path().at(-1)?.y).toBe(3);
  });

  it("runs along the middle while nothing moves", () => {
    const history = new History();
    history.add(5, 0);
    history.add(5, 1000);
    expect(history.path().map(({ y }) => y)).toEqual([14, 14]);
  });
});
