import { describe, expect, it } from "vitest";
import type { Listing, Snapshot, Update } from "../src/protocol";
import {
  applySnapshot,
  applyState,
  applyUpdate,
  changePercent,
  fromListing,
  refreshed,
  shownState,
  type Ticker,
} from "../src/quotes";

const listing: Listing = {
  symbol: "EURUSD",
  position: { epoch: "a", seq: 4 },
  quote: { bid: "1.0", ask: "1.2" },
  state: "ok",
  ageMs: 300,
  simulated: false,
};

function update(seq: number, n = 1, epoch = "a"): Update {
  return { position: { epoch, seq }, quote: { bid: `1.${seq}`, ask: `2.${seq}` }, n };
}

function snapshot(given: Partial<Snapshot>): Snapshot {
  return { position: null, quote: null, recovered: false, missed: [], state: "ok", ...given };
}

/** A ticker that has applied `seq` 5 of epoch `a`. */
function joined(): Ticker {
  const reply = snapshot({ position: { epoch: "a", seq: 5 }, quote: { bid: "1.5", ask: "2.5" } });
  return applySnapshot(fromListing(listing, 1000), reply, 1000).ticker;
}

describe("updates", () => {
  it("applies the next one", () => {
    const { ticker, tally } = applyUpdate(joined(), update(6), 2000);
    expect(ticker.quote).toEqual({ bid: "1.6", ask: "2.6" });
    expect(ticker.position).toEqual({ epoch: "a", seq: 6 });
    expect(ticker.heardAtMs).toBe(2000);
    expect(tally).toEqual({ received: 1, conflated: 0, lost: 0 });
  });

  it("explains a gap by n", () => {
    expect(applyUpdate(joined(), update(9, 4), 0).tally).toEqual({ received: 4, conflated: 3, lost: 0 });
  });

  it("counts the part of a gap that n does not explain as lost", () => {
    expect(applyUpdate(joined(), update(9, 3), 0).tally).toEqual({ received: 3, conflated: 2, lost: 1 });
    expect(applyUpdate(joined(), update(9), 0).tally).toEqual({ received: 1, conflated: 0, lost: 3 });
  });

  it("ignores what it has already applied", () => {
    const before = joined();
    for (const seq of [4, 5]) {
      const { ticker, tally } = applyUpdate(before, update(seq), 0);
      expect(ticker).toBe(before);
      expect(tally.received).toBe(0);
    }
  });

  it("never counts a gap across epochs", () => {
    const { ticker, tally } = applyUpdate(joined(), update(100, 1, "b"), 0);
    expect(ticker.position).toEqual({ epoch: "b", seq: 100 });
    expect(tally.lost).toBe(0);
  });
});

describe("snapshots", () => {
  it("brings what was missed, one by one", () => {
    const reply = snapshot({ recovered: true, position: { epoch: "a", seq: 8 }, missed: [update(6), update(7), update(8)] });
    const { ticker, tally } = applySnapshot(joined(), reply, 0);
    expect(ticker.position?.seq).toBe(8);
    expect(ticker.quote?.bid).toBe("1.8");
    expect(tally).toEqual({ received: 3, conflated: 0, lost: 0 });
  });

  it("brings what was missed as one, with max_rate", () => {
    const { tally } = applySnapshot(joined(), snapshot({ recovered: true, missed: [update(8, 3)] }), 0);
    expect(tally).toEqual({ received: 3, conflated: 2, lost: 0 });
  });

  it("goes on from the quote where nothing could be recovered, even backwards", () => {
    const reply = snapshot({ position: { epoch: "b", seq: 0 }, quote: { bid: "7", ask: "8" }, state: "stale" });
    const { ticker, tally } = applySnapshot(joined(), reply, 9000);
    expect(ticker).toMatchObject({ position: { epoch: "b", seq: 0 }, quote: { bid: "7", ask: "8" }, state: "stale" });
    expect(tally).toEqual({ received: 0, conflated: 0, lost: 0 });
  });

  it("keeps an old price only as a stale one when the server has none", () => {
    const { ticker } = applySnapshot(joined(), snapshot({}), 0);
    expect(ticker).toMatchObject({ position: null, quote: { bid: "1.5" } });
    expect(shownState(ticker)).toBe("stale");
    expect(shownState(applyUpdate(ticker, update(1, 1, "b"), 0).ticker)).toBe("ok");
  });

  it("takes the first update of a symbol that had no quote", () => {
    const empty = fromListing({ ...listing, quote: {}, position: null, ageMs: null }, 0);
    const waiting = applySnapshot(empty, snapshot({}), 0).ticker;
    expect(shownState(waiting)).toBe("ok");
    expect(applyUpdate(waiting, update(1), 50).ticker).toMatchObject({ position: { seq: 1 }, heardAtMs: 50 });
  });
});

describe("what goes with a quote", () => {
  it("takes its state from the server alone", () => {
    const stale = applyState(joined(), "stale");
    expect(applyUpdate(stale, update(6), 0).ticker.state).toBe("stale");
    expect(applyState(stale, "ok").state).toBe("ok");
  });

  it("measures change from the first middle price seen", () => {
    const ticker = joined();
    expect(ticker.firstMid).toBeCloseTo(1.1);
    expect(changePercent(ticker)).toBeCloseTo((2 / 1.1 - 1) * 100);
    expect(changePercent(fromListing({ ...listing, quote: {} }, 0))).toBeNull();
  });

  it("corrects the age by a listing of the same quote only", () => {
    const at = (seq: number): Listing => ({ ...listing, position: { epoch: "a", seq }, ageMs: 700 });
    expect(refreshed(joined(), at(5), 10_000).heardAtMs).toBe(9300);
    expect(refreshed(joined(), at(4), 10_000).heardAtMs).toBe(1000);
  });

  it("shows the age of the listing after a first join", () => {
    const reply = snapshot({ position: { epoch: "a", seq: 4 }, quote: listing.quote });
    expect(applySnapshot(fromListing(listing, 1000), reply, 1500).ticker.heardAtMs).toBe(700);
  });
});
