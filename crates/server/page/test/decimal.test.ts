import { describe, expect, it } from "vitest";
import { compare, isDecimal, significantScale, subtract, withScale } from "../src/decimal";

describe("subtract", () => {
  it.each([
    ["1.08424", "1.08412", "0.00012"],
    ["0.3", "0.1", "0.2"],
    ["1.2", "1.10", "0.10"],
    ["1.10", "1.2", "-0.10"],
    ["5", "5.000", "0.000"],
    ["-1.5", "2", "-3.5"],
    // Both sides at the longest that a quote may be: far beyond what a float can tell apart.
    ["999999999999999999.000000000000000002", "999999999999999999.000000000000000001", "0.000000000000000001"],
  ])("%s - %s = %s", (left, right, difference) => {
    expect(subtract(left, right)).toBe(difference);
  });
});

describe("compare", () => {
  it.each([
    ["1.10", "1.1", 0],
    ["9.9", "10", -1],
    ["100.000000000000000001", "100.000000000000000000", 1],
    ["-2", "-1", -1],
  ] as const)("%s against %s is %d", (left, right, order) => {
    expect(compare(left, right)).toBe(order);
  });
});

describe("scales", () => {
  it("counts the digits that say something", () => {
    expect(significantScale("67123.45000000")).toBe(2);
    expect(significantScale("100")).toBe(0);
    expect(significantScale("0.000")).toBe(0);
  });

  it("pads and trims zeros but never a digit", () => {
    expect(withScale("0.01000000", 2)).toBe("0.01");
    expect(withScale("0.1", 2)).toBe("0.10");
    expect(withScale("0.125", 2)).toBe("0.125");
    expect(withScale("-0.0010", 0)).toBe("-0.001");
  });
});

describe("what a decimal is", () => {
  it.each(["0", "1.0", "-3.25", "000.1"])("takes %s", (text) => expect(isDecimal(text)).toBe(true));
  it.each(["", ".", "1.", ".5", "1e5", "+1", "NaN", "1,5", " 1"])("refuses %j", (text) => {
    expect(isDecimal(text)).toBe(false);
    expect(() => subtract(text, "1")).toThrow(RangeError);
  });
});
