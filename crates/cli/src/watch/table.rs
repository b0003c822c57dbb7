//! The live table's content: what each row shows, at any time. No terminal in here.

use std::time::{Duration, Instant};

use tickwire_client::{Change, Event, Fault, FeedState, Quote};
use tickwire_market::Decimal;

use super::Seen;

/// How long a changed price is marked.
pub(super) const FLASH: Duration = Duration::from_millis(300);

/// Over how long the rate of updates is averaged: the weight of the past halves in this time.
const RATE_HALF_LIFE: f64 = 2.0;

/// Where a price went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

/// A price and its last move.
#[derive(Debug, Clone, Default)]
pub(super) struct Price {
    pub(super) text: String,
    value: Option<Decimal>,
    moved: Option<(Direction, Instant)>,
}

impl Price {
    fn set(&mut self, text: Option<&str>, now: Instant) {
        let value = text.and_then(|text| text.parse::<Decimal>().ok());
        if let (Some(old), Some(new)) = (self.value, value)
            && old != new
        {
            self.moved = Some((if new > old { Direction::Up } else { Direction::Down }, now));
        }
        self.value = value;
        text.unwrap_or_default().clone_into(&mut self.text);
    }

    /// Where it went, while that is news.
    pub(super) fn flash(&self, now: Instant) -> Option<Direction> {
        self.moved.filter(|(_, at)| now.duration_since(*at) < FLASH).map(|(direction, _)| direction)
    }
}

/// One topic.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) bid: Price,
    pub(super) ask: Price,
    pub(super) last: Price,
    pub(super) spread: String,
    /// The last event of a topic that is no ticker.
    pub(super) note: String,
    pub(super) lost: u64,
    feed: Option<FeedState>,
    interrupted: bool,
    simulated: bool,
    updated_at: Option<Instant>,
    rate: f64,
    rate_at: Option<Instant>,
}

impl Row {
    pub(super) fn new(topic: &str) -> Self {
        Self { name: topic.strip_prefix("ticker:").unwrap_or(topic).to_owned(), ..Self::default() }
    }

    /// Takes what arrived; tells whether it was data.
    pub(super) fn apply(&mut self, seen: Seen, now: Instant) -> bool {
        match seen {
            Seen::Ticker(change) => return self.change(change, now),
            Seen::Joined(_) | Seen::Plain(Event::Rejoined(_)) => self.interrupted = false,
            Seen::Plain(Event::Message { event, payload }) => {
                self.arrived(1, now);
                self.note = format!("{event} {}", String::from_utf8_lossy(payload.bytes()));
            }
            Seen::Plain(Event::Interrupted(_) | Event::Ended) => {
                self.interrupted = true;
                return false;
            }
        }
        true
    }

    fn change(&mut self, change: Change, now: Instant) -> bool {
        match change {
            Change::Snapshot(snapshot) => {
                self.interrupted = false;
                self.feed = snapshot.status.map(|feed| feed.state);
                if let Some(quote) = &snapshot.quote {
                    self.show(quote, now);
                    // A snapshot does not tell its own age: it is counted from its arrival.
                    self.updated_at = Some(now);
                }
            }
            Change::Resumed { status, .. } => {
                self.interrupted = false;
                self.feed = status.map(|feed| feed.state).or(self.feed);
                return false;
            }
            Change::Update { update, fault } => {
                if let Some(Fault::Lost { updates }) = fault {
                    self.lost += updates;
                }
                self.show(&update.quote, now);
                self.arrived(update.n, now);
            }
            Change::Status(feed) => self.feed = Some(feed.state),
            Change::Interrupted(_) => {
                self.interrupted = true;
                return false;
            }
            Change::Other { .. } | Change::Malformed(_) => return false,
        }
        true
    }

    fn show(&mut self, quote: &Quote, now: Instant) {
        self.bid.set(quote.bid.as_deref(), now);
        self.ask.set(quote.ask.as_deref(), now);
        self.last.set(quote.last.as_deref(), now);
        self.simulated = quote.source.as_deref() == Some("simulated");
        self.spread = match (self.bid.value, self.ask.value) {
            (Some(bid), Some(ask)) => difference(ask, bid),
            _ => String::new(),
        };
    }

    /// Counts updates, those merged into others included, into a rate that forgets the past.
    fn arrived(&mut self, updates: u64, now: Instant) {
        self.rate = self.rate(now);
        self.rate_at = Some(now);
        self.updated_at = Some(now);
        self.rate += f64::from(u32::try_from(updates).unwrap_or(u32::MAX)) * std::f64::consts::LN_2 / RATE_HALF_LIFE;
    }

    /// Updates per second, of late.
    pub(super) fn rate(&self, now: Instant) -> f64 {
        let idle = self.rate_at.map_or(0.0, |at| now.duration_since(at).as_secs_f64());
        self.rate * (-idle / RATE_HALF_LIFE).exp2()
    }

    /// How long ago the last value arrived.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        self.updated_at.map(|at| now.duration_since(at))
    }

    /// Whether the value may be taken for the current one.
    pub(super) fn is_live(&self) -> bool {
        !self.interrupted && self.feed.is_none_or(|feed| feed == FeedState::Ok)
    }

    /// Whether there has never been a quote.
    fn is_empty(&self) -> bool {
        [&self.bid, &self.ask, &self.last].iter().all(|price| price.text.is_empty())
    }

    pub(super) fn state(&self) -> &'static str {
        match self.feed {
            _ if self.interrupted => "offline",
            Some(FeedState::Ok) | None if self.simulated => "simulated",
            Some(FeedState::Ok) => "live",
            // Most often a name that nobody publishes: a stale value would have been seen.
            Some(FeedState::Stale) if self.is_empty() => "no quote",
            Some(feed) => feed.as_str(),
            None => "",
        }
    }
}

/// `a - b`, exact.
fn difference(a: Decimal, b: Decimal) -> String {
    let scale = a.scale().max(b.scale());
    let at_scale = |value: Decimal| {
        let factor = 10i128.checked_pow(u32::from(scale - value.scale()))?;
        i128::try_from(value.mantissa()).ok()?.checked_mul(factor)
    };
    let Some(difference) = at_scale(a).zip(at_scale(b)).and_then(|(a, b)| a.checked_sub(b)) else {
        return String::new();
    };
    let sign = if difference < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", difference.unsigned_abs(), width = usize::from(scale) + 1);
    let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// An age as people read it.
pub(super) fn show_age(age: Duration) -> String {
    match age.as_secs() {
        0 => format!("{} ms", age.as_millis() / 100 * 100),
        seconds @ 1..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use tickwire_client::Follower;

    use super::*;

    fn apply(row: &mut Row, follower: &mut Follower, event: &str, json: &str, now: Instant) {
        let payload = tickwire_client::Payload::Json(bytes::Bytes::copy_from_slice(json.as_bytes()));
        let event = match event {
            "reply" => Event::Rejoined(payload),
            event => Event::Message { event: event.to_owned(), payload },
        };
        for change in follower.apply(event) {
            row.apply(Seen::Ticker(change), now);
        }
    }

    #[test]
    fn spreads_are_exact() {
        for (ask, bid, spread) in [
            ("1.0843", "1.0842", "0.0001"),
            ("1.10", "1.1", "0.00"),
            ("1.1", "1.25", "-0.15"),
            ("61250", "61249", "1"),
            ("999999999999999999.000000000000000001", "1", "999999999999999998.000000000000000001"),
        ] {
            assert_eq!(difference(ask.parse().unwrap(), bid.parse().unwrap()), spread);
        }
    }

    #[test]
    fn a_price_flashes_when_it_moves_and_a_stale_one_says_so() {
        let (mut row, mut follower, start) = (Row::new("ticker:EURUSD"), Follower::default(), Instant::now());
        apply(
            &mut row,
            &mut follower,
            "reply",
            r#"{"quote":{"bid":"1.1","ask":"1.2"},"epoch":"a","seq":1,"status":"ok"}"#,
            start,
        );
        assert_eq!((row.name.as_str(), row.spread.as_str(), row.state()), ("EURUSD", "0.1", "live"));
        assert_eq!(row.bid.flash(start), None);
        assert_eq!((row.age(start + FLASH), row.rate(start)), (Some(FLASH), 0.0), "it has an age, but is no update");
        apply(&mut row, &mut follower, "update", r#"{"bid":"1.10","ask":"1.1","epoch":"a","seq":2}"#, start);
        assert_eq!((row.bid.flash(start), row.ask.flash(start)), (None, Some(Direction::Down)));
        assert_eq!(row.ask.flash(start + FLASH), None);
        apply(&mut row, &mut follower, "status", r#"{"state":"stale","since_us":1}"#, start);
        assert!(!row.is_live());
        assert_eq!(row.state(), "stale");
    }

    #[test]
    fn a_symbol_that_nobody_quotes_is_not_called_stale() {
        let (mut row, mut follower, now) = (Row::new("ticker:EURUDS"), Follower::default(), Instant::now());
        apply(&mut row, &mut follower, "reply", r#"{"quote":null,"epoch":"a","seq":0,"status":"stale"}"#, now);
        assert_eq!((row.is_live(), row.state(), row.age(now)), (false, "no quote", None));
    }

    #[test]
    fn the_rate_settles_and_fades() {
        let (mut row, start) = (Row::new("room:a"), Instant::now());
        for millis in (0..20_000).step_by(100) {
            row.arrived(1, start + Duration::from_millis(millis));
        }
        let end = start + Duration::from_secs(20);
        assert!((9.0..11.0).contains(&row.rate(end)), "{}", row.rate(end));
        assert!(row.rate(end + Duration::from_secs(20)) < 0.1);
    }
}
