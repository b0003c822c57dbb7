//! A made-up market: some forty symbols that move as markets do, for a first look without any data.
//!
//! The model is a random walk with the traits that make a quote screen look alive, no more: volatility comes in clusters (a
//! mean-reverting state with rare shocks), the symbols of a class move together (a common factor), the spread widens with volatility and
//! returns to its usual width, busy symbols quote more often, and a weak pull keeps a price in the region of its start for months.
//!
//! Every quote carries [`Source::Simulated`], so that nobody takes it for a real one. The same seed gives the same market.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use tickwire_faults::{Unit, point};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::delivery::{Delivery, Patience};
use super::pace::{Pacer, Speed};
use super::{QuoteSink, SinkError, Tick, unix_us};
use crate::{Decimal, Quote, QuoteFields, Source, Symbol};

/// Which market to make up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimulatedConfig {
    /// The same seed gives the same quotes at the same offsets.
    pub seed: u64,
    /// Quotes a second, all symbols together, on average.
    pub rate: f64,
    /// How many symbols: those of [`SimulatedConfig::NAMED`] first, then `SIM41`, `SIM42` and so on.
    pub count: usize,
}

impl SimulatedConfig {
    /// How many symbols have the names, prices and habits of known instruments.
    pub const NAMED: usize = LISTINGS.len();
}

impl Default for SimulatedConfig {
    fn default() -> Self {
        Self { seed: 1, rate: 200.0, count: Self::NAMED }
    }
}

/// What moves together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Fx,
    Crypto,
    Metal,
    Index,
    Stock,
}

impl Class {
    const COUNT: usize = 5;
}

/// An instrument as it is at the start.
#[derive(Debug, Clone, Copy)]
struct Listing {
    symbol: &'static str,
    class: Class,
    price: f64,
    /// Digits after the point.
    scale: u8,
    /// The usual spread in units of the last digit.
    spread: f64,
    /// Standard deviation of a day's return.
    daily_volatility: f64,
    /// How often it quotes beside the others.
    rate: f64,
    /// The usual size at the best price, and its digits after the point.
    size: (f64, u8),
}

const fn listing(symbol: &'static str, class: Class, price: (f64, u8), spread: f64, rate: f64) -> Listing {
    let (daily_volatility, size) = match class {
        Class::Fx => (0.005, (2e6, 0)),
        Class::Crypto => (0.03, (1.5, 4)),
        Class::Metal => (0.01, (300.0, 0)),
        Class::Index => (0.01, (40.0, 1)),
        Class::Stock => (0.018, (400.0, 0)),
    };
    Listing { symbol, class, price: price.0, scale: price.1, spread, daily_volatility, rate, size }
}

const LISTINGS: [Listing; 40] = [
    listing("EURUSD", Class::Fx, (1.08254, 5), 6.0, 8.0),
    listing("GBPUSD", Class::Fx, (1.26417, 5), 9.0, 6.0),
    listing("USDJPY", Class::Fx, (151.382, 3), 8.0, 7.0),
    listing("USDCHF", Class::Fx, (0.88215, 5), 10.0, 4.0),
    listing("AUDUSD", Class::Fx, (0.65824, 5), 8.0, 5.0),
    listing("NZDUSD", Class::Fx, (0.60512, 5), 11.0, 3.0),
    listing("USDCAD", Class::Fx, (1.35761, 5), 10.0, 4.0),
    listing("EURGBP", Class::Fx, (0.85631, 5), 9.0, 4.0),
    listing("EURJPY", Class::Fx, (163.874, 3), 12.0, 5.0),
    listing("GBPJPY", Class::Fx, (191.372, 3), 18.0, 5.0),
    listing("EURCHF", Class::Fx, (0.95492, 5), 12.0, 3.0),
    listing("USDSEK", Class::Fx, (10.48211, 5), 220.0, 2.0),
    listing("USDMXN", Class::Fx, (16.78342, 5), 380.0, 2.0),
    listing("BTCUSDT", Class::Crypto, (64_218.40, 2), 12.0, 20.0),
    listing("ETHUSDT", Class::Crypto, (3_142.75, 2), 4.0, 15.0),
    listing("SOLUSDT", Class::Crypto, (148.62, 2), 2.0, 9.0),
    listing("BNBUSDT", Class::Crypto, (571.30, 2), 8.0, 5.0),
    listing("XRPUSDT", Class::Crypto, (0.5218, 4), 1.0, 6.0),
    listing("ADAUSDT", Class::Crypto, (0.4517, 4), 1.0, 4.0),
    listing("DOGEUSDT", Class::Crypto, (0.12874, 5), 3.0, 6.0),
    listing("LTCUSDT", Class::Crypto, (83.17, 2), 2.0, 3.0),
    listing("LINKUSDT", Class::Crypto, (14.283, 3), 4.0, 3.0),
    listing("XAUUSD", Class::Metal, (2_338.45, 2), 28.0, 8.0),
    listing("XAGUSD", Class::Metal, (27.412, 3), 18.0, 5.0),
    listing("XPTUSD", Class::Metal, (968.40, 2), 160.0, 1.0),
    listing("US500", Class::Index, (5_214.6, 1), 4.0, 8.0),
    listing("NAS100", Class::Index, (18_142.3, 1), 12.0, 9.0),
    listing("US30", Class::Index, (39_512.0, 1), 22.0, 6.0),
    listing("GER40", Class::Index, (18_492.7, 1), 12.0, 6.0),
    listing("UK100", Class::Index, (8_147.2, 1), 11.0, 4.0),
    listing("JP225", Class::Index, (38_920.0, 1), 80.0, 3.0),
    listing("AAPL", Class::Stock, (184.32, 2), 1.0, 6.0),
    listing("MSFT", Class::Stock, (412.18, 2), 3.0, 5.0),
    listing("NVDA", Class::Stock, (903.56, 2), 9.0, 9.0),
    listing("AMZN", Class::Stock, (182.47, 2), 2.0, 5.0),
    listing("GOOGL", Class::Stock, (168.93, 2), 2.0, 4.0),
    listing("META", Class::Stock, (471.05, 2), 6.0, 4.0),
    listing("TSLA", Class::Stock, (176.84, 2), 2.0, 8.0),
    listing("JPM", Class::Stock, (196.21, 2), 2.0, 2.0),
    listing("XOM", Class::Stock, (117.64, 2), 1.0, 2.0),
];

/// Relaxation times of the model, in seconds.
const VOLATILITY_RETURNS_S: f64 = 180.0;
const SPREAD_RETURNS_S: f64 = 5.0;
const PRICE_RETURNS_S: f64 = 5.0 * 86_400.0;
/// How often news comes to a symbol, on average, and by how much it multiplies its volatility.
const SHOCK_EVERY_S: f64 = 1_800.0;
const SHOCK: f64 = 3.0;
/// How much of a symbol's variance is that of its class.
const COMMON_SHARE: f64 = 0.5;
/// How much more often than in a usual hour a symbol quotes on average, given the shocks above.
const ACTIVITY_MEAN: f64 = 1.2;
const DAY_S: f64 = 86_400.0;

/// One symbol on its way.
struct Instrument {
    symbol: Symbol,
    listing: Listing,
    /// The value around which it quotes.
    mid: f64,
    /// Volatility as a multiple of the usual one.
    volatility: f64,
    /// Spread as a multiple of the usual one.
    spread: f64,
    quoted_at: Duration,
    /// The common factor of its class when it last quoted.
    common_seen: f64,
}

/// The market as a generator: pure, endless, the same for the same seed.
pub struct Simulation {
    rng: fastrand::Rng,
    instruments: Vec<Instrument>,
    order: BinaryHeap<Reverse<(Duration, usize)>>,
    /// For each class the path of its common factor, in standard deviations of a day, and when it last moved.
    common: [(f64, Duration); Class::COUNT],
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation").field("instruments", &self.instruments.len()).finish_non_exhaustive()
    }
}

impl Simulation {
    /// The market of this configuration, before its first quote.
    #[must_use]
    pub fn new(config: SimulatedConfig) -> Self {
        let mut rng = fastrand::Rng::with_seed(config.seed);
        let mut instruments: Vec<_> = (0..config.count).map(|index| Instrument::new(index, &mut rng)).collect();
        let weights: f64 = instruments.iter().map(|instrument| instrument.listing.rate).sum();
        for instrument in &mut instruments {
            instrument.listing.rate *= config.rate / (weights * ACTIVITY_MEAN);
        }
        // Every symbol shows within the first second, so that a page is never half empty.
        let order = (0..instruments.len()).map(|index| Reverse((Duration::from_secs_f64(rng.f64()), index))).collect();
        Self { rng, instruments, order, common: [(0.0, Duration::ZERO); Class::COUNT] }
    }

    /// The symbols that it quotes.
    pub fn symbols(&self) -> impl Iterator<Item = &Symbol> {
        self.instruments.iter().map(|instrument| &instrument.symbol)
    }

    /// The next quote; `None` only if the market has no symbol.
    pub fn next_tick(&mut self) -> Option<Tick> {
        let Reverse((at, index)) = self.order.pop()?;
        let instrument = &mut self.instruments[index];
        let (common, moved_at) = &mut self.common[instrument.listing.class as usize];
        *common += normal(&mut self.rng) * (seconds_between(*moved_at, at) / DAY_S).sqrt();
        *moved_at = at;
        instrument.step(at, *common, &mut self.rng);
        let quote = instrument.quote(&mut self.rng);
        // Exponential waiting times; quotes come more often when the market is nervous.
        let rate = instrument.listing.rate * instrument.volatility.clamp(0.4, 4.0);
        let wait = -(1.0 - self.rng.f64()).ln() / rate;
        self.order.push(Reverse((at + Duration::from_secs_f64(wait.clamp(1e-6, 3600.0)), index)));
        Some(Tick { at, event: at, quote })
    }
}

impl Instrument {
    fn new(index: usize, rng: &mut fastrand::Rng) -> Self {
        let mut listing = LISTINGS[index % LISTINGS.len()];
        let mut name = listing.symbol.to_owned();
        if index >= LISTINGS.len() {
            name = format!("SIM{}", index + 1);
            listing.price *= 0.5 + rng.f64();
        }
        Self {
            symbol: Symbol::new(&name).expect("letters and digits, and few of them, are a symbol"),
            listing,
            mid: listing.price,
            volatility: 1.0,
            spread: 1.0,
            quoted_at: Duration::ZERO,
            common_seen: 0.0,
        }
    }

    /// Moves value, volatility and spread to this time.
    fn step(&mut self, at: Duration, common: f64, rng: &mut fastrand::Rng) {
        let seconds = seconds_between(self.quoted_at, at);
        self.quoted_at = at;
        if rng.f64() < seconds / SHOCK_EVERY_S {
            self.volatility *= SHOCK;
        }
        let wobble = 0.25 * normal(rng) * (seconds / VOLATILITY_RETURNS_S).sqrt();
        self.volatility += (1.0 - self.volatility) * towards(seconds, VOLATILITY_RETURNS_S) + self.volatility * wobble;
        self.volatility = self.volatility.clamp(0.3, 8.0);

        let own = normal(rng) * (seconds / DAY_S).sqrt();
        let moved = COMMON_SHARE.sqrt() * (common - self.common_seen) + (1.0 - COMMON_SHARE).sqrt() * own;
        self.common_seen = common;
        let pull = (self.listing.price / self.mid - 1.0) * towards(seconds, PRICE_RETURNS_S);
        self.mid *= 1.0 + self.listing.daily_volatility * self.volatility * moved + pull;
        // Far outside of anything the pull allows; keeps the price positive whatever the seed.
        self.mid = self.mid.clamp(self.listing.price / 10.0, self.listing.price * 10.0);

        let usual = 0.5 + 0.5 * self.volatility;
        self.spread += (usual - self.spread) * towards(seconds, SPREAD_RETURNS_S) + 0.15 * normal(rng);
        self.spread = self.spread.clamp(0.4, 10.0);
    }

    fn quote(&self, rng: &mut fastrand::Rng) -> Quote {
        let &Listing { scale, spread, size: (size, size_scale), .. } = &self.listing;
        let unit = 10f64.powi(i32::from(scale));
        let units = whole((spread * self.spread).max(1.0));
        let bid = whole((self.mid * unit - spread * self.spread / 2.0).max(1.0));
        // Sizes spread over an order of magnitude around the usual one, and are never nothing.
        let mut size =
            || whole((size * 10f64.powi(i32::from(size_scale)) * (0.3 + 2.2 * rng.f64() * rng.f64())).max(1.0));
        Quote::new(QuoteFields {
            bid: Decimal::from_parts(bid, scale),
            ask: Decimal::from_parts(bid + units, scale),
            bid_size: Decimal::from_parts(size(), size_scale),
            ask_size: Decimal::from_parts(size(), size_scale),
            source: Some(Source::Simulated),
            ..QuoteFields::new(self.symbol.clone())
        })
        .expect("prices are at least one unit, and sizes stand beside their prices")
    }
}

/// How far a mean-reverting quantity returns in this time.
fn towards(seconds: f64, relaxation_s: f64) -> f64 {
    (seconds / relaxation_s).min(1.0)
}

/// A standard normal number, near enough: the sum of twelve uniform ones (Irwin–Hall), which unlike those with logarithms is the same to
/// the last bit on every machine.
fn normal(rng: &mut fastrand::Rng) -> f64 {
    (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0
}

fn seconds_between(from: Duration, to: Duration) -> f64 {
    to.saturating_sub(from).as_secs_f64()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive and far below 2^53, see the callers"
)]
fn whole(value: f64) -> u128 {
    value.round() as u128
}

/// What is due is collected for this long and offered together: no screen sees a finer clock, and the market is asked less often.
const TURN: Duration = Duration::from_millis(10);

/// Plays the market until cancelled.
pub(super) async fn run<S: QuoteSink>(
    config: &SimulatedConfig,
    name: &str,
    sink: &S,
    cancel: &CancellationToken,
) -> Result<(), SinkError> {
    let mut market = Simulation::new(*config);
    let delivery = Delivery::new(name, sink, Patience::Endless);
    let mut pacer = Pacer::new(Speed::RECORDED, Instant::now(), unix_us());
    let played = cancel.run_until_cancelled(async {
        let Some(mut tick) = market.next_tick() else { return Ok(()) };
        loop {
            if let Some(due) = pacer.due(tick.at) {
                tokio::time::sleep_until(due + TURN).await;
                pacer.slip(due, Instant::now());
            }
            point(Unit::Feed, || name);
            let now = Instant::now();
            let mut quotes = Vec::new();
            while quotes.len() < OFFER_MAX && pacer.due(tick.at).is_none_or(|due| due <= now) {
                let quote = tick.quote.with_ts(pacer.stamp(tick.event, now));
                quotes.push(quote);
                let Some(next) = market.next_tick() else { return Ok(()) };
                tick = next;
            }
            delivery.deliver(quotes).await?;
        }
    });
    played.await.unwrap_or(Ok(()))
}

/// The most that is offered at once.
const OFFER_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;
    use crate::feed::testing::TestSink;

    fn ticks(seed: u64, count: usize) -> Vec<Tick> {
        let mut market = Simulation::new(SimulatedConfig { seed, ..SimulatedConfig::default() });
        (0..count).map(|_| market.next_tick().unwrap()).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_market_and_another_seed_another() {
        let shown = |seed| ticks(seed, 2000).iter().map(|tick| format!("{tick:?}")).collect::<Vec<_>>();
        assert_eq!(shown(7), shown(7));
        assert_ne!(shown(7), shown(8));
    }

    #[test]
    fn every_symbol_quotes_within_the_first_second_and_says_that_it_is_simulated() {
        let symbols: HashSet<_> = LISTINGS.iter().map(|listing| listing.symbol).collect();
        assert_eq!(symbols.len(), LISTINGS.len(), "symbols are unique");
        let mut market = Simulation::new(SimulatedConfig::default());
        let mut seen = HashSet::new();
        while let Some(tick) = market.next_tick().filter(|tick| tick.at < Duration::from_secs(1)) {
            assert_eq!(tick.quote.source(), Some(Source::Simulated));
            seen.insert(tick.quote.symbol().to_string());
        }
        assert_eq!(seen.len(), LISTINGS.len());
    }

    #[test]
    fn an_hour_of_it_is_plausible() {
        let mut market = Simulation::new(SimulatedConfig { seed: 3, ..SimulatedConfig::default() });
        let mut previous = Duration::ZERO;
        let mut range: HashMap<String, (Decimal, Decimal)> = HashMap::new();
        let mut count = 0_u32;
        while let Some(tick) = market.next_tick().filter(|tick| tick.at < Duration::from_secs(3600)) {
            assert!(tick.at >= previous, "time went back");
            previous = tick.at;
            count += 1;
            let sides = tick.quote.sides().unwrap();
            let (bid, ask) = (sides.bid.unwrap(), sides.ask.unwrap());
            assert!(bid < ask, "{} is crossed", tick.quote.symbol());
            let (low, high) = range.entry(tick.quote.symbol().to_string()).or_insert((bid, ask));
            *low = (*low).min(bid);
            *high = (*high).max(ask);
        }
        let rate = f64::from(count) / 3600.0;
        assert!((170.0..230.0).contains(&rate), "{rate} quotes a second instead of 200");
        for listing in &LISTINGS {
            let (low, high) = range[listing.symbol];
            let (low, high): (f64, f64) = (low.to_string().parse().unwrap(), high.to_string().parse().unwrap());
            let moved = high / low - 1.0;
            assert!(moved > 0.0001 && moved < 0.2, "{} moved by {moved} in an hour", listing.symbol);
        }
    }

    #[test]
    fn a_market_can_be_smaller_or_larger_than_the_known_instruments() {
        let symbols = |count| -> Vec<String> {
            let market = Simulation::new(SimulatedConfig { count, ..SimulatedConfig::default() });
            market.symbols().map(ToString::to_string).collect()
        };
        assert_eq!(symbols(2), ["EURUSD", "GBPUSD"]);
        assert_eq!(symbols(500).iter().collect::<HashSet<_>>().len(), 500);
        assert_eq!(symbols(500)[499], "SIM500");
        assert!(Simulation::new(SimulatedConfig { count: 0, ..SimulatedConfig::default() }).next_tick().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn it_plays_at_its_rate_until_cancelled() {
        let (sink, cancel) = (TestSink::default(), CancellationToken::new());
        let config = SimulatedConfig::default();
        let played = run(&config, "test", &sink, &cancel);
        let stop = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            cancel.cancel();
        };
        tokio::join!(async { played.await.unwrap() }, stop);
        assert!((6_000..24_000).contains(&sink.count()), "{} quotes in a minute", sink.count());
    }
}
