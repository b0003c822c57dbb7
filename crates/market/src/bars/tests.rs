//! The roller against a model that keeps every quote, and the workers when they crash, lag and stop.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use tickwire_faults::{Unit, arm, hush};
use tickwire_pubsub::{EpochClock, LoneNode, NodeId, PubSub, Stamp};

use super::roller::{Applied, Bounds, Roller};
use super::*;
use crate::{
    Answer, BackOffBounds, Clock, Decimal, Market, MarketConfig, MarketSeams, Quote, QuoteFields, Symbol, TapUpdate,
    UpdateTap,
};

const SECOND: i64 = 1_000_000;
const BOUNDS: Bounds = Bounds { seconds: 1_000, minutes: 1_000, symbols: 3 };

fn symbol(name: &str) -> Symbol {
    name.parse().unwrap()
}

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn all(roller: &Roller, interval: Interval) -> Vec<Bar> {
    roller.bars(&symbol("X"), interval, i64::MIN, i64::MAX, usize::MAX)
}

/// Open, high, low, close, count and revision, as text.
fn shown(bar: &Bar) -> String {
    let Bar { start, open, high, low, close, count, revision, gap } = bar;
    format!("{start} {open} {high} {low} {close} ×{count} r{revision}{}", if *gap { " gap" } else { "" })
}

fn rolled(prices: &[(i64, &str)]) -> Roller {
    let mut roller = Roller::new(BOUNDS);
    for (ts, price) in prices {
        roller.apply(&symbol("X"), *ts, decimal(price));
    }
    roller
}

#[test]
fn bars_open_close_and_begin_by_event_time() {
    let roller = rolled(&[(10, "1.5"), (20, "1.7"), (30, "1.4"), (SECOND + 1, "2"), (61 * SECOND, "3.00")]);
    let seconds: Vec<_> = all(&roller, Interval::Second).iter().map(shown).collect();
    assert_eq!(seconds, ["0 1.5 1.7 1.4 1.4 ×3 r0", "1000000 2 2 2 2 ×1 r0", "61000000 3.00 3.00 3.00 3.00 ×1 r0"]);
    let minutes: Vec<_> = all(&roller, Interval::Minute).iter().map(shown).collect();
    assert_eq!(minutes, ["0 1.5 2 1.4 2 ×4 r0", "60000000 3.00 3.00 3.00 3.00 ×1 r0"]);
}

#[test]
fn a_late_price_revises_the_bar_before_the_open_one_and_no_older_one() {
    let mut roller = rolled(&[(SECOND / 2, "5"), (SECOND + 5, "6"), (2 * SECOND, "7")]);
    let late = |roller: &mut Roller, ts, price| roller.apply(&symbol("X"), ts, decimal(price));
    late(&mut roller, SECOND + 1, "9");
    late(&mut roller, SECOND + 9, "4");
    late(&mut roller, 3, "100");
    let seconds: Vec<_> = all(&roller, Interval::Second).iter().map(shown).collect();
    assert_eq!(seconds, ["0 5 5 5 5 ×1 r0", "1000000 9 9 4 4 ×3 r2", "2000000 7 7 7 7 ×1 r0"]);
    // The minute is still open, so there the price of the third microsecond is its open, and nothing is revised.
    let minutes: Vec<_> = all(&roller, Interval::Minute).iter().map(shown).collect();
    assert_eq!(minutes, ["0 100 100 4 7 ×6 r0"]);
    assert_eq!(roller.day(&symbol("X")).map(|day| (day.high, day.low)), Some((decimal("100"), decimal("4"))));
    late(&mut roller, 3 * 86_400 * SECOND, "1");
    assert_eq!(late(&mut roller, SECOND, "1"), Applied::Late);
}

#[test]
fn a_late_price_makes_the_bar_that_was_missing() {
    let mut roller = rolled(&[(5 * SECOND, "5"), (9 * SECOND, "9")]);
    roller.apply(&symbol("X"), 8 * SECOND, decimal("8"));
    let seconds: Vec<_> = all(&roller, Interval::Second).iter().map(shown).collect();
    assert_eq!(seconds, ["5000000 5 5 5 5 ×1 r0", "8000000 8 8 8 8 ×1 r1", "9000000 9 9 9 9 ×1 r0"]);
}

#[test]
fn of_equal_times_the_first_opens_and_the_last_closes() {
    let roller = rolled(&[(7, "1"), (7, "2"), (7, "3")]);
    assert_eq!(shown(&all(&roller, Interval::Second)[0]), "0 1 3 1 3 ×3 r0");
}

#[test]
fn the_day_changes_at_midnight_utc() {
    let day = 86_400 * SECOND;
    let mut roller = rolled(&[(day - 2, "50"), (day - 1, "90"), (day + 1, "60")]);
    let high = |roller: &Roller| roller.day(&symbol("X")).map(|range| (range.start, range.high.to_string()));
    assert_eq!(high(&roller), Some((day, "60".into())));
    roller.apply(&symbol("X"), day - 1, decimal("99"));
    assert_eq!(high(&roller), Some((day, "60".into())), "a late price of yesterday is no high of today");
}

#[test]
fn what_is_kept_is_bounded() {
    let mut roller = Roller::new(Bounds { seconds: 10, minutes: 2, symbols: 2 });
    for second in 0..1_000 {
        assert_eq!(roller.apply(&symbol("X"), second * SECOND, decimal("1")), Applied::Rolled);
    }
    let kept = all(&roller, Interval::Second);
    assert_eq!((kept.len(), kept[0].start), (10, 990 * SECOND));
    assert_eq!(all(&roller, Interval::Minute).len(), 2);
    assert_eq!(roller.apply(&symbol("Y"), 0, decimal("1")), Applied::Rolled);
    assert_eq!(roller.apply(&symbol("Z"), 0, decimal("1")), Applied::Refused);
}

#[test]
fn a_query_gives_the_newest_bars_of_its_range_oldest_first() {
    let prices: Vec<_> = (0..20).map(|second| (second * SECOND, "1")).collect();
    let roller = rolled(&prices);
    let starts = |from: i64, to: i64, limit| -> Vec<i64> {
        let bars = roller.bars(&symbol("X"), Interval::Second, from * SECOND, to * SECOND, limit);
        bars.iter().map(|bar| bar.start / SECOND).collect()
    };
    assert_eq!(starts(5, 9, 100), [5, 6, 7, 8]);
    assert_eq!(starts(5, 9, 2), [7, 8]);
    assert_eq!(starts(18, 99, 100), [18, 19]);
    assert!(starts(9, 5, 100).is_empty() && starts(0, 20, 0).is_empty());
}

#[test]
fn a_gap_marks_the_open_bar_and_the_next_one() {
    let mut roller = rolled(&[(0, "1"), (SECOND, "1")]);
    roller.mark_gap();
    for second in 2..4 {
        roller.apply(&symbol("X"), second * SECOND, decimal("1"));
    }
    let gaps: Vec<_> = all(&roller, Interval::Second).iter().map(|bar| bar.gap).collect();
    assert_eq!(gaps, [false, true, true, false]);
    assert!(roller.day(&symbol("X")).is_some_and(|day| day.gap));
}

/// The model: every price that came, with the bar it belongs to and whether that was already behind the newest.
fn model(prices: &[(i64, u128)], length: i64) -> Vec<Bar> {
    let mut newest = i64::MIN;
    let mut taken: Vec<(i64, i64, Decimal, bool)> = Vec::new();
    for &(ts, mantissa) in prices {
        let start = ts - ts.rem_euclid(length);
        if newest != i64::MIN && start < newest - length {
            continue;
        }
        taken.push((start, ts, Decimal::from_parts(mantissa, 2).unwrap(), start < newest));
        newest = newest.max(start);
    }
    let mut starts: Vec<_> = taken.iter().map(|price| price.0).collect();
    starts.sort_unstable();
    starts.dedup();
    let bar = |start: i64| {
        let mut own: Vec<_> = taken.iter().filter(|price| price.0 == start).collect();
        let prices = || taken.iter().filter(|price| price.0 == start).map(|price| price.2);
        let revision = own.iter().filter(|price| price.3).count();
        // A stable sort keeps the order of arrival among equal times.
        own.sort_by_key(|price| price.1);
        Bar {
            start,
            open: own[0].2,
            high: prices().max().unwrap(),
            low: prices().min().unwrap(),
            close: own[own.len() - 1].2,
            count: own.len() as u64,
            revision: u32::try_from(revision).unwrap(),
            gap: false,
        }
    };
    starts.into_iter().map(bar).collect()
}

proptest! {
    #[test]
    fn bars_are_those_of_a_model_that_keeps_every_price(
        steps in proptest::collection::vec((-150_i64..250, 1_u128..500), 1..300),
        unit in prop::sample::select(vec![10_000_i64, 1_000_000, 10_000_000]),
    ) {
        let mut now = 1_700_000_000 * SECOND;
        let prices: Vec<_> = steps.iter().map(|&(step, price)| { now += step * unit / 100; (now, price) }).collect();
        let mut roller = Roller::new(BOUNDS);
        for &(ts, mantissa) in &prices {
            roller.apply(&symbol("X"), ts, Decimal::from_parts(mantissa, 2).unwrap());
        }
        for interval in Interval::ALL {
            prop_assert_eq!(all(&roller, interval), model(&prices, interval.micros()));
        }
    }
}

#[test]
fn intervals_are_read_by_name() {
    assert_eq!("1m".parse(), Ok(Interval::Minute));
    assert_eq!("5m".parse::<Interval>().unwrap_err().to_string(), "interval is \"5m\", expected 1s or 1m");
}

fn stamp() -> Stamp {
    let clock = EpochClock::new(&NodeId { name: "test".into(), incarnation: 1 });
    Stamp { epoch: clock.open(1), seq: 1 }
}

fn update(name: &str, ts: Option<i64>, accepted_us: i64, bid: &str, ask: &str) -> TapUpdate {
    TapUpdate {
        symbol: symbol(name),
        stamp: stamp(),
        bid: Some(decimal(bid)),
        ask: Some(decimal(ask)),
        ts,
        accepted_us,
    }
}

fn quick() -> BarsConfig {
    let back_off = BackOffBounds { first: Duration::from_millis(1), cap: Duration::from_millis(10) };
    BarsConfig { back_off, ..BarsConfig::default() }
}

fn seconds_of(bars: &Bars, name: &str) -> BarsAnswer {
    bars.query(&symbol(name), BarsQuery { interval: Interval::Second, from: None, to: None, limit: 1_000 })
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn updates_become_bars_on_every_number_of_threads() {
    for threads in [1, 3] {
        let (bars, _workers) = Bars::start(&BarsConfig { threads, ..quick() }).unwrap();
        let names: Vec<_> = (0..20).map(|index| format!("S{index}")).collect();
        let updates: Vec<_> = names.iter().map(|name| update(name, Some(SECOND), 0, "1.1", "1.2")).collect();
        bars.offer(&updates);
        for name in &names {
            eventually("every symbol has its bar", || seconds_of(&bars, name).bars.len() == 1);
            assert_eq!(seconds_of(&bars, name).bars[0].open.to_string(), "1.15");
        }
    }
}

#[test]
fn the_time_of_acceptance_stands_in_for_a_missing_or_impossible_one() {
    let (bars, _workers) = Bars::start(&quick()).unwrap();
    let mut one_sided = update("X", Some(SECOND), SECOND, "1", "1");
    one_sided.ask = None;
    let far_ahead = update("X", Some(500 * SECOND), 3 * SECOND, "3", "3");
    bars.offer(&[
        one_sided,
        update("X", None, 2 * SECOND, "2", "2"),
        far_ahead,
        update("X", Some(4 * SECOND), 3 * SECOND, "4", "4"),
    ]);
    eventually("three bars", || seconds_of(&bars, "X").bars.len() == 3);
    let starts: Vec<_> = seconds_of(&bars, "X").bars.iter().map(|bar| bar.start / SECOND).collect();
    assert_eq!(starts, [2, 3, 4]);
}

#[test]
fn a_panic_is_survived_the_bars_before_it_are_kept_and_the_gap_is_marked() {
    let (bars, _workers) = Bars::start(&quick()).unwrap();
    bars.offer(&[update("X", Some(SECOND), 0, "1", "1"), update("X", Some(2 * SECOND), 0, "1", "1")]);
    eventually("two bars", || seconds_of(&bars, "X").bars.len() == 2);
    let armed = arm(Unit::Bars, "BAD-ONCE", u64::MAX);
    bars.offer(&[update("BAD-ONCE", None, 0, "1", "1")]);
    eventually("the panic shows as a gap", || seconds_of(&bars, "X").bars.last().is_some_and(|bar| bar.gap));
    drop(armed);
    bars.offer(&[update("X", Some(3 * SECOND), 0, "1", "1"), update("X", Some(4 * SECOND), 0, "1", "1")]);
    eventually("bars go on", || seconds_of(&bars, "X").bars.len() == 4);
    let gaps: Vec<_> = seconds_of(&bars, "X").bars.iter().map(|bar| bar.gap).collect();
    assert_eq!(gaps, [false, true, true, false]);
}

#[test]
fn a_worker_that_keeps_panicking_starts_with_nothing_and_never_gives_up() {
    let (bars, _workers) = Bars::start(&quick()).unwrap();
    bars.offer(&[update("X", Some(SECOND), 0, "1", "1")]);
    eventually("a bar", || seconds_of(&bars, "X").bars.len() == 1);
    let armed = arm(Unit::Bars, "BAD-TWICE", u64::MAX);
    eventually("the bars are thrown away", || {
        bars.offer(&[update("BAD-TWICE", None, 0, "1", "1")]);
        seconds_of(&bars, "X").bars.is_empty()
    });
    drop(armed);
    eventually("bars go on", || {
        bars.offer(&[update("X", Some(9 * SECOND), 0, "1", "1")]);
        seconds_of(&bars, "X").bars.len() == 1
    });
    let answer = seconds_of(&bars, "X");
    assert!(answer.bars[0].gap && answer.day.is_some_and(|day| day.gap), "what was thrown away may belong to them");
}

#[test]
fn ten_thousand_panics_leave_a_worker_that_works() {
    hush();
    let back_off = BackOffBounds { first: Duration::ZERO, cap: Duration::ZERO };
    let (bars, _workers) = Bars::start(&BarsConfig { back_off, ..BarsConfig::default() }).unwrap();
    let armed = arm(Unit::Bars, "BAD-OFTEN", 10_000);
    eventually("it has panicked so often", || {
        bars.offer(&[update("BAD-OFTEN", None, 0, "1", "1")]);
        armed.fired() == 10_000
    });
    assert!(!bars.is_healthy());
    eventually("bars go on", || {
        bars.offer(&[update("X", Some(SECOND), 0, "1", "1")]);
        !seconds_of(&bars, "X").bars.is_empty()
    });
}

#[test]
fn a_queue_without_room_refuses_at_once_and_the_gap_is_marked() {
    let (bars, _workers) = Bars::start(&BarsConfig { queue: 100, ..quick() }).unwrap();
    let flood: Vec<_> = (0..101).map(|index| update("X", Some(SECOND + index), 0, "1", "1")).collect();
    // More than the queue holds at once is refused however quick the worker is.
    bars.offer(&flood);
    eventually("the gap is marked", || {
        seconds_of(&bars, "X").bars.last().is_some_and(|bar| bar.gap && bar.count == 100)
    });
    bars.offer(&[update("X", Some(9 * SECOND), 0, "1", "1"), update("X", Some(10 * SECOND), 0, "1", "1")]);
    eventually("bars go on", || {
        seconds_of(&bars, "X").bars.last().is_some_and(|bar| bar.start == 10 * SECOND && !bar.gap)
    });
}

/// The symbols are divided among the threads, and each thread has one queue: what one symbol gets, it gets in order.
#[test]
fn several_threads_roll_up_each_symbol_in_order() {
    let (bars, workers) = Bars::start(&BarsConfig { threads: 4, ..quick() }).unwrap();
    let names: Vec<_> = (0..50).map(|index| format!("S{index}")).collect();
    for round in 0..200_i64 {
        let price = (round + 1).to_string();
        let batch: Vec<_> = names.iter().map(|name| update(name, Some(SECOND + round), 0, &price, &price)).collect();
        bars.offer(&batch);
    }
    drop(workers);
    for name in &names {
        let answer = seconds_of(&bars, name);
        let [bar] = &answer.bars[..] else { panic!("{name}: {answer:?}") };
        assert_eq!(shown(bar), "1000000 1 200 1 200 ×200 r0", "{name}");
    }
}

#[test]
fn stopping_finishes_what_waits_and_later_offers_are_harmless() {
    let (bars, workers) = Bars::start(&quick()).unwrap();
    let updates: Vec<_> = (0..5_000).map(|index| update("X", Some(SECOND + index), 0, "1", "1")).collect();
    bars.offer(&updates);
    drop(workers);
    assert_eq!(seconds_of(&bars, "X").bars[0].count, 5_000);
    bars.offer(&updates);
}

/// A market of one node with these bars on its tap.
fn market_with(bars: &Bars) -> Market {
    let node = std::sync::Arc::new(LoneNode::new(NodeId::new("test", 1)));
    let seams = MarketSeams {
        members: node.clone(),
        peers: node.clone(),
        pubsub: PubSub::new(node),
        clock: Clock::default(),
        tap: Some(std::sync::Arc::new(bars.clone())),
    };
    Market::new(MarketConfig::default(), seams)
}

fn quote(name: &str, bid: &str, ask: &str) -> Quote {
    let fields = QuoteFields { bid: Some(decimal(bid)), ask: Some(decimal(ask)), ..QuoteFields::new(symbol(name)) };
    Quote::new(fields).unwrap()
}

#[tokio::test]
async fn quotes_flow_on_while_their_bars_crash_and_crash_again() {
    let (bars, workers) = Bars::start(&quick()).unwrap();
    let market = market_with(&bars);
    let armed = arm(Unit::Bars, "BAD-MARKET", u64::MAX);
    for round in 1..=100 {
        let report =
            market.ingest(vec![quote("BAD-MARKET", "1", "2"), quote("X", "1", &format!("{round}.5"))].into()).await;
        assert_eq!((report.accepted, report.rejected.len()), (2, 0));
    }
    let latest = market.latest(&symbol("X")).wait().await.unwrap();
    assert!(format!("{latest:?}").contains("100.5"), "{latest:?}");
    drop(armed);
    eventually("bars go on", || {
        let report = market.offer(vec![quote("X", "3", "4")].into());
        assert!(matches!(report, Answer::Ready(report) if report.accepted == 1));
        seconds_of(&bars, "X").bars.last().is_some_and(|bar| bar.close == decimal("3.5"))
    });
    drop(workers);
    assert_eq!(market.ingest(vec![quote("X", "5", "6")].into()).await.accepted, 1, "without the computation, too");
}
