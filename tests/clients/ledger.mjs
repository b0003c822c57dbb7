// What a careful application would check of a ticker: nothing lost but what `n` or an honest `recovered: false` explains.
import assert from "node:assert/strict";

export class Ledger {
  /** Where the next join resumes from, as a stock client gives it. */
  last = null;
  quote = null;
  asked = null;
  recoveries = 0;
  problems = [];

  /** @param {boolean} resumes whether the client reads its join parameters again at each join */
  constructor(resumes) {
    this.resumes = resumes;
  }

  /** Join parameters. */
  params() {
    this.asked = this.resumes ? this.last : null;
    return this.asked ? { since: this.asked } : {};
  }

  follow(topic) {
    topic.observers.add({
      join: (reply, asked) => this.join(reply, asked),
      message: (event, payload) => {
        if (event === "update") this.update(payload, "update");
        if (event === "snapshot") this.join({ ...payload, recovered: false, missed: [] });
      },
    });
  }

  join({ quote, epoch, seq, recovered, missed }, asked = this.asked) {
    this.asked = null;
    if (recovered) {
      this.recoveries += 1;
      this.check(asked !== null, "recovered without a since");
      this.check(asked?.epoch === epoch, `recovered across epochs ${asked?.epoch} and ${epoch}`);
      this.check(missed.length === seq - asked?.seq, `recovered from ${asked?.seq} to ${seq} with ${missed.length} missed`);
      this.check(missed.every(({ n }) => n === undefined), "a missed update with n");
      this.last = asked;
      for (const update of missed) this.update(update, "missed");
      this.check(this.last?.seq === seq, `missed ends at ${this.last?.seq}, the reply says ${seq}`);
    } else {
      this.check(missed.length === 0, "missed updates without recovery");
      this.quote = quote ?? this.quote;
    }
    this.last = { epoch, seq };
  }

  update(update, what) {
    const { epoch, seq, n = 1 } = update;
    this.check(this.last !== null, `an ${what} before the join's reply`);
    this.check(epoch === this.last?.epoch, `${what} of epoch ${epoch} in ${this.last?.epoch}`);
    this.check(seq === this.last?.seq + n, `${what} ${seq} with n ${n} after ${this.last?.seq}`);
    this.last = { epoch, seq };
    this.quote = update;
  }

  check(holds, what) {
    if (!holds) this.problems.push(what);
  }

  honest() {
    assert.deepEqual(this.problems, []);
  }
}
