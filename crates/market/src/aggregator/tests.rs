//! The rules of stamping, keeping, forgetting and resuming.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    Symbols,
    fixtures::{epoch, mark, quote, quote_with, said, symbol},
    publication::Publication,
};

/// An aggregator and the time, with what was published kept.
struct Bench {
    aggregator: Aggregator,
    now: Moment,
    published: Vec<Publication>,
}

impl Bench {
    fn new(config: MarketConfig) -> Self {
        let now = Moment::now();
        let budget = Arc::new(SymbolBudget::new(config.symbols_max));
        let config = MarketConfig { shards: 1, ..config };
        Self { aggregator: Aggregator::new(Arc::new(config), budget, epoch(1), now), now, published: Vec::new() }
    }

    /// `stamped`, `duplicate`, or the code of the rejection.
    fn apply(&mut self, quote: &Quote) -> String {
        let mut out = Publications::new(&|_| true);
        let applied = self.aggregator.apply(quote, self.now, &mut out);
        self.published.extend(out.take());
        match applied {
            Ok(Applied::Stamped(_)) => "stamped".to_owned(),
            Ok(Applied::Duplicate) => "duplicate".to_owned(),
            Err(rejection) => rejection.code().to_owned(),
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
        let mut out = Publications::new(&|_| true);
        self.aggregator.sweep(self.now, &mut out);
        self.published.extend(out.take());
    }

    fn reopen(&mut self, clock: u64) {
        let mut out = Publications::new(&|_| true);
        self.aggregator.reopen(epoch(clock), self.now, &mut out);
        self.published.extend(out.take());
    }

    /// What was published since the last call: role, `seq` of the stamp, and the bid or the state that it tells.
    fn published(&mut self) -> Vec<(Role, u64, String)> {
        let tell = |publication: Publication| {
            let key = if publication.role == Role::Status { "state" } else { "bid" };
            (publication.role, publication.stamp.seq, said(&publication.payload, key))
        };
        self.published.drain(..).map(tell).collect()
    }

    /// How a resume ends, and the bids that it tells.
    fn resume(&self, name: &str, clock: u64, seq: u64) -> (Resume, Vec<String>) {
        let since = Since::new(epoch(clock).tag().as_str(), seq).unwrap();
        let snapshot = self.aggregator.snapshot(&symbol(name), Some(&since), self.now);
        (snapshot.resume, snapshot.missed.iter().map(|update| said(update, "bid")).collect())
    }

    fn quote_of(&self, name: &str) -> Option<Bytes> {
        self.aggregator.snapshot(&symbol(name), None, self.now).quote
    }
}

fn bids(bids: std::ops::RangeInclusive<u64>) -> Vec<String> {
    bids.map(|bid| bid.to_string()).collect()
}

#[test]
fn each_symbol_counts_by_itself_and_its_first_update_makes_it_live() {
    let mut bench = Bench::new(MarketConfig::default());
    for (name, bid) in [("A", 1), ("B", 2), ("A", 3)] {
        assert_eq!(bench.apply(&quote(name, bid)), "stamped");
    }
    let ok = || "ok".to_owned();
    assert_eq!(
        bench.published(),
        [
            (Role::Update, 1, "1".to_owned()),
            (Role::Status, 1, ok()),
            (Role::Update, 1, "2".to_owned()),
            (Role::Status, 1, ok()),
            (Role::Update, 2, "3".to_owned()),
        ]
    );
}

#[test]
fn what_nobody_wants_is_stamped_and_kept_but_not_published() {
    let mut bench = Bench::new(MarketConfig::default());
    for bid in 1..=3 {
        let wanted = |topic: &Topic| topic.as_str() == "ticker:B" || bid == 3;
        let mut out = Publications::new(&wanted);
        for name in ["A", "B"] {
            bench.aggregator.apply(&quote(name, bid), bench.now, &mut out).unwrap();
        }
        bench.published.extend(out.take());
    }
    let told: Vec<_> = bench.published().into_iter().filter(|(role, ..)| *role == Role::Update).collect();
    let update = |seq: u64| (Role::Update, seq, seq.to_string());
    assert_eq!(told, [update(1), update(2), update(3), update(3)]);
    assert_eq!(said(&bench.quote_of("A").unwrap(), "bid"), "3");
    assert_eq!(
        bench.resume("A", 1, 0),
        (Resume::Recovered, bids(1..=3)),
        "those that were not written are kept as well"
    );
}

#[test]
fn a_retry_is_harmless_by_id_and_by_pseq() {
    let mut bench = Bench::new(MarketConfig::default());
    let with_id = |bid| quote_with("A", bid, |fields| fields.id = Some("x".into()));
    let with_mark = |publisher: &str, pseq| quote_with("A", 9, |fields| fields.mark = Some(mark(publisher, pseq)));
    assert_eq!([bench.apply(&with_id(1)), bench.apply(&with_id(2))], ["stamped", "duplicate"]);
    assert_eq!(bench.apply(&quote_with("B", 1, |fields| fields.id = Some("x".into()))), "stamped");
    let told =
        [("p", 5), ("p", 5), ("p", 4), ("q", 4), ("p", 9)].map(|(name, pseq)| bench.apply(&with_mark(name, pseq)));
    assert_eq!(told, ["stamped", "duplicate", "duplicate", "stamped", "stamped"]);
    bench.wait(Duration::from_secs(301));
    assert_eq!(bench.apply(&with_id(3)), "stamped", "an id is forgotten after its time");
}

#[test]
fn late_quotes_follow_the_rule() {
    let at = |ts| quote_with("A", 1, |fields| fields.ts = Some(ts));
    for (out_of_order, late) in [(OutOfOrder::Reject, "out_of_order"), (OutOfOrder::Accept, "stamped")] {
        let mut bench = Bench::new(MarketConfig { out_of_order, ..MarketConfig::default() });
        let told = [at(10), at(10), at(9)].map(|quote| bench.apply(&quote));
        assert_eq!(told, ["stamped", "stamped", late]);
    }
}

#[test]
fn a_quote_from_the_far_future_does_not_make_all_others_late() {
    let mut bench = Bench::new(MarketConfig::default());
    let ahead = |hours: i64| bench.now.unix_us + hours * 3_600_000_000;
    let [near, far] = [ahead(23), ahead(25)].map(|ts| quote_with("A", 1, |fields| fields.ts = Some(ts)));
    assert_eq!([bench.apply(&far), bench.apply(&near)], ["invalid_ts", "stamped"]);
}

#[test]
fn symbols_are_bounded_and_may_be_listed() {
    let mut bench = Bench::new(MarketConfig { symbols_max: 2, ..MarketConfig::default() });
    let told = ["A", "B", "C", "A"].map(|name| bench.apply(&quote(name, 1)));
    assert_eq!(told, ["stamped", "stamped", "too_many_symbols", "stamped"]);
    let symbols = Symbols::Listed([symbol("A")].into_iter().collect());
    let mut bench = Bench::new(MarketConfig { symbols, ..MarketConfig::default() });
    assert_eq!(["A", "B"].map(|name| bench.apply(&quote(name, 1))), ["stamped", "unknown_symbol"]);
}

#[test]
fn a_resume_gives_all_that_was_missed_or_says_why_not() {
    let mut bench = Bench::new(MarketConfig { ring: 10, resume_max: 5, ..MarketConfig::default() });
    assert_eq!(bench.resume("A", 1, 0), (Resume::Recovered, vec![]), "nothing happened yet");
    assert_eq!(bench.resume("A", 1, 1).0, Resume::Ahead);
    for bid in 1..=20 {
        bench.apply(&quote("A", bid));
    }
    assert_eq!(bench.resume("A", 1, 20), (Resume::Recovered, vec![]));
    assert_eq!(bench.resume("A", 1, 17), (Resume::Recovered, bids(18..=20)));
    assert_eq!(bench.resume("A", 1, 15), (Resume::Recovered, bids(16..=20)));
    assert_eq!(bench.resume("A", 1, 14), (Resume::TooMany, vec![]));
    assert_eq!(bench.resume("A", 1, 21), (Resume::Ahead, vec![]));
    assert_eq!(bench.resume("A", 2, 17), (Resume::OtherEpoch, vec![]));
    bench.wait(Duration::from_secs(61));
    assert_eq!(bench.resume("A", 1, 19), (Resume::RingExceeded, vec![]));
    assert_eq!(bench.resume("A", 1, 20), (Resume::Recovered, vec![]));
    let fresh = bench.aggregator.snapshot(&symbol("A"), None, bench.now);
    assert_eq!((fresh.resume, fresh.seq, fresh.missed.len()), (Resume::NotAsked, 20, 0));
}

#[test]
fn a_silent_symbol_turns_stale_and_the_next_update_comes_before_the_ok() {
    let mut bench = Bench::new(MarketConfig { stale_after: Duration::from_secs(10), ..MarketConfig::default() });
    bench.apply(&quote("A", 1));
    let accepted = bench.now.unix_us;
    bench.published();
    bench.wait(Duration::from_secs(9));
    assert_eq!(bench.published(), []);
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.published(), [(Role::Status, 1, "stale".to_owned())]);
    let snapshot = bench.aggregator.snapshot(&symbol("A"), None, bench.now);
    assert_eq!(snapshot.status, Status { state: State::Stale, since_us: accepted });
    assert_eq!((snapshot.age, bench.aggregator.live()), (Some(Duration::from_secs(10)), 0));
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.published(), [], "said once");
    bench.apply(&quote("A", 2));
    assert_eq!(bench.published(), [(Role::Update, 2, "2".to_owned()), (Role::Status, 2, "ok".to_owned())]);
}

#[test]
fn rings_together_take_no_more_room_than_they_may() {
    let mut bench = Bench::new(MarketConfig { ring_bytes: 4_000, ..MarketConfig::default() });
    for bid in 1..=200 {
        bench.apply(&quote(["A", "B", "C"][(bid % 3) as usize], bid));
        assert!(bench.aggregator.ring_bytes() <= 4_000);
    }
    assert!(bench.aggregator.ring_bytes() > 3_000);
    assert_eq!(bench.resume("A", 1, 63).0, Resume::Recovered);
    assert_eq!(bench.resume("A", 1, 3).0, Resume::RingExceeded);
}

#[test]
fn a_reopened_shard_goes_on_from_its_values_in_a_new_epoch() {
    let mut bench = Bench::new(MarketConfig::default());
    bench.apply(&quote("A", 1));
    bench.apply(&quote("A", 2));
    bench.published();
    bench.reopen(2);
    let kept = bench.quote_of("A").unwrap();
    assert_eq!(
        (said(&kept, "bid"), said(&kept, "seq"), said(&kept, "epoch")),
        ("2".into(), "0".into(), epoch(2).tag().to_string())
    );
    let snapshot = bench.published.pop().unwrap();
    assert_eq!((snapshot.role, snapshot.stamp), (Role::Snapshot, Stamp { epoch: epoch(2), seq: 0 }));
    assert_eq!(bench.resume("A", 1, 2).0, Resume::OtherEpoch);
    assert_eq!(bench.resume("A", 2, 0), (Resume::Recovered, vec![]));
    bench.apply(&quote("A", 3));
    assert_eq!(bench.published(), [(Role::Update, 1, "3".to_owned())]);
    assert_eq!(bench.resume("A", 2, 0), (Resume::Recovered, bids(3..=3)));
}

/// Clients may have joined a symbol before its first quote, and before the shard reopened.
#[test]
fn a_symbol_that_first_appears_after_a_reopening_says_so() {
    let mut bench = Bench::new(MarketConfig::default());
    let before = bench.aggregator.snapshot(&symbol("A"), None, bench.now);
    assert_eq!((before.quote.clone(), before.seq, before.status.state), (None, 0, State::Stale));
    bench.reopen(2);
    bench.apply(&quote("A", 1));
    let roles: Vec<_> = bench.published.iter().map(|publication| (publication.role, publication.stamp)).collect();
    let stamp = |seq| Stamp { epoch: epoch(2), seq };
    assert_eq!(roles, [(Role::Snapshot, stamp(0)), (Role::Update, stamp(1)), (Role::Status, stamp(1))]);
    assert_eq!(said(&bench.published[0].payload, "quote"), "");
}

proptest! {
    /// Whatever comes in, stamps rise by one, each accepted quote shows, and what is not accepted leaves no trace.
    #[test]
    fn every_stamp_is_the_next_one(quotes in proptest::collection::vec((0..3_usize, 1..50_u64, 0..20_i64, 0..8_u64), 0..200)) {
        let mut bench = Bench::new(MarketConfig { ring: 7, ..MarketConfig::default() });
        let mut expected = [0_u64; 3];
        for (name, bid, ts, pseq) in quotes {
            let quote = quote_with(["A", "B", "C"][name], bid, |fields| {
                fields.ts = Some(ts);
                fields.mark = (pseq > 0).then(|| mark("p", pseq));
            });
            let told = bench.apply(&quote);
            let updates: Vec<_> = bench.published().into_iter().filter(|(role, ..)| *role == Role::Update).collect();
            if told == "stamped" {
                expected[name] += 1;
                prop_assert_eq!(updates, [(Role::Update, expected[name], bid.to_string())]);
            } else {
                prop_assert!(updates.is_empty());
            }
        }
        for (name, seq) in ["A", "B", "C"].into_iter().zip(expected) {
            let missed = bench.resume(name, 1, seq.saturating_sub(7));
            prop_assert_eq!((missed.0, missed.1.len() as u64), (Resume::Recovered, seq.min(7)));
        }
    }
}
