/**
 * What the joins after an interruption amounted to, added up over all channels. Pure.
 *
 * A round starts when channels have to join again and collects the replies to joins that asked to resume; a channel
 * that had nothing to resume from says nothing about recovery.
 */

export interface Round {
  readonly resumed: number;
  readonly snapshots: number;
  /** Updates that were missed meanwhile and brought by the replies. */
  readonly missed: number;
}

export const FRESH_ROUND: Round = { resumed: 0, snapshots: 0, missed: 0 };

export function withReply(round: Round, recovered: boolean, missed: number): Round {
  return recovered
    ? { ...round, resumed: round.resumed + 1, missed: round.missed + missed }
    : { ...round, snapshots: round.snapshots + 1 };
}

/** Whether every reply so far resumed its stream; `null` while there is nothing to tell. */
export function isRecovered(round: Round): boolean | null {
  return round.resumed + round.snapshots === 0 ? null : round.snapshots === 0;
}

export function describe(round: Round): string {
  const joins = round.resumed + round.snapshots;
  switch (isRecovered(round)) {
    case null:
      return "";
    case true:
      return `resumed, ${round.missed} missed`;
    case false:
      return round.resumed === 0 ? "snapshot" : `snapshot for ${round.snapshots} of ${joins}`;
  }
}
