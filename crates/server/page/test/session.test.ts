// The real client against a stand-in for a node: what a join sends, and what the page makes of the answers.

import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { WebSocket } from "ws";
import { applySnapshot, applyState, applyUpdate, fromListing, type Step, type Ticker } from "../src/quotes";
import type { Position } from "../src/protocol";
import { Session, type Connection } from "../src/session";
import { MockNode } from "./mock.mjs";

const SYMBOL = "EURUSD";
const WITHIN = { timeout: 10_000, interval: 10 };

let node: MockNode;
let session: Session;
let ticker: Ticker;
let connection: Connection;
let replies: { recovered: boolean; missed: number; resuming: boolean }[];
let total: { received: number; conflated: number; lost: number };

function apply({ ticker: next, tally }: Step): number {
  ticker = next;
  total.received += tally.received;
  total.conflated += tally.conflated;
  total.lost += tally.lost;
  return tally.received;
}

beforeEach(async () => {
  node = new MockNode();
  node.publish(SYMBOL, { bid: "1.0", ask: "1.2" });
  const port = await node.listen();
  const nothing = { symbol: SYMBOL, position: null, quote: {}, state: null, ageMs: null, simulated: false };
  ticker = fromListing(nothing, 0);
  connection = "connecting";
  replies = [];
  total = { received: 0, conflated: 0, lost: 0 };
  const transport = WebSocket as unknown as new (endpoint: string) => object;
  const options = { endpoint: `ws://127.0.0.1:${port}/socket`, token: "secret", rate: "raw", transport } as const;
  session = new Session(options, {
    position: (): Position | null => ticker.position,
    connection: (state) => (connection = state),
    interrupted: () => {},
    joined(_, snapshot, resuming) {
      const missed = apply(applySnapshot(ticker, snapshot, 0));
      replies.push({ recovered: snapshot.recovered, missed, resuming });
    },
    refused: () => {},
    update: (_, update) => void apply(applyUpdate(ticker, update, 0)),
    snapshot: (_, snapshot) => void apply(applySnapshot(ticker, snapshot, 0)),
    feedState: (_, state) => (ticker = applyState(ticker, state)),
  });
  session.add(SYMBOL);
  session.connect();
  await vi.waitFor(() => expect(replies).toHaveLength(1), WITHIN);
});

afterEach(async () => {
  session.disconnect();
  await node.close();
});

function publish(count: number): void {
  for (let i = 0; i < count; i += 1) node.publish(SYMBOL, { bid: `1.${i}`, ask: `2.${i}` });
}

it("starts from the snapshot and follows updates", async () => {
  expect(node.seen).toEqual([{ symbol: SYMBOL, params: {} }]);
  expect(replies).toEqual([{ recovered: false, missed: 0, resuming: false }]);
  expect(connection).toBe("live");
  publish(5);
  await vi.waitFor(() => expect(ticker.position).toEqual({ epoch: "e1", seq: 6 }), WITHIN);
  expect(total).toEqual({ received: 5, conflated: 0, lost: 0 });
});

it("resumes from the last update applied after the socket was dropped", async () => {
  publish(2);
  await vi.waitFor(() => expect(ticker.position?.seq).toBe(3), WITHIN);
  session.drop();
  await vi.waitFor(() => expect(connection).toBe("reconnecting"), WITHIN);
  publish(7);
  await vi.waitFor(() => expect(replies).toHaveLength(2), WITHIN);
  expect(node.seen.at(-1)?.params).toEqual({ since: { epoch: "e1", seq: 3 } });
  expect(replies[1]).toEqual({ recovered: true, missed: 7, resuming: true });
  expect(total).toEqual({ received: 9, conflated: 0, lost: 0 });
});

it("goes on from a snapshot where the epoch is another one", async () => {
  session.drop();
  await vi.waitFor(() => expect(connection).toBe("reconnecting"), WITHIN);
  node.reopen(SYMBOL);
  publish(2);
  await vi.waitFor(() => expect(replies).toHaveLength(2), WITHIN);
  expect(replies[1]).toEqual({ recovered: false, missed: 0, resuming: true });
  expect(ticker.position).toEqual({ epoch: "e1'", seq: 2 });
});

it("changes the rate without a hole", async () => {
  session.setRate("100ms");
  publish(20);
  await vi.waitFor(() => expect(replies).toHaveLength(2), WITHIN);
  publish(20);
  await vi.waitFor(() => expect(ticker.position?.seq).toBe(41), WITHIN);
  expect(node.seen.at(-1)?.params).toMatchObject({ max_rate: "100ms", since: { epoch: "e1" } });
  expect(total).toMatchObject({ received: 40, lost: 0 });
  expect(total.conflated).toBeGreaterThan(0);
});

it("follows the feed's state and a new epoch under a joined channel", async () => {
  node.mark(SYMBOL, "stale");
  await vi.waitFor(() => expect(ticker.state).toBe("stale"), WITHIN);
  node.mark(SYMBOL, "ok");
  node.reopen(SYMBOL);
  publish(1);
  await vi.waitFor(() => expect(ticker).toMatchObject({ state: "ok", position: { epoch: "e1'", seq: 1 } }), WITHIN);
  expect(total.lost).toBe(0);
});
