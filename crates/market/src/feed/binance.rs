//! The live best bid and ask of Binance, from its public combined stream.
//!
//! One connection carries all symbols. It ends in many ways: the venue closes it once a day, a network drops it, a middle box lets it fall
//! silent while it seems open. Each way leads to the same place: dial again, after a pause that doubles up to a cap and has jitter. What
//! arrives and cannot be read is counted, told in the log a few times a minute at most, and does not end the connection.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{self, Message, protocol::WebSocketConfig};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

use super::book_ticker;
use super::delivery::{Delivery, Patience};
use super::supervisor::{FeedState, Reporter, RunError};
use super::{QuoteSink, SinkError, metrics as names, unix_us};
use crate::rejection::excerpt;
use crate::unit::{BackOff, BackOffBounds};
use crate::{Quote, QuoteFields, Symbol};

/// Which stream to follow and how.
#[derive(Debug, Clone, PartialEq)]
pub struct BinanceConfig {
    /// Where the combined stream is. Unless it names its own `streams`, they are added from `symbols`. Spot is the default;
    /// `wss://fstream.binance.com/stream` has the USDⓈ-M futures, `wss://dstream.binance.com/stream` the COIN-M ones.
    pub url: String,
    /// The venue's names of the instruments and their symbols here.
    pub symbols: BTreeMap<String, Symbol>,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// A connection without one good quote for this long is taken for dead. Longer than the pauses of the quietest market, taken together.
    pub silence: Duration,
    /// A connection that lasted this long was a good one: the next pause is the shortest again.
    pub settled_after: Duration,
    /// The pauses before dialling again.
    pub back_off: BackOffBounds,
}

impl BinanceConfig {
    /// Public market data of the spot market, without an account.
    pub const URL: &'static str = "wss://data-stream.binance.vision/stream";
    /// What is followed unless something else is named.
    pub const SYMBOLS: [&'static str; 10] =
        ["BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT", "DOGEUSDT", "ADAUSDT", "LINKUSDT", "LTCUSDT", "ETHBTC"];

    /// A stream of these instruments, each under the venue's own name.
    #[must_use]
    pub fn of(url: &str, symbols: impl IntoIterator<Item = Symbol>) -> Self {
        Self {
            url: url.to_owned(),
            symbols: symbols.into_iter().map(|symbol| (symbol.to_string(), symbol)).collect(),
            connect_timeout: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            settled_after: Duration::from_secs(30),
            back_off: BackOffBounds::default(),
        }
    }

    /// The URL to dial, with the streams of all symbols.
    fn stream_url(&self) -> String {
        if self.url.contains("streams=") {
            return self.url.clone();
        }
        let streams: Vec<String> =
            self.symbols.keys().map(|instrument| format!("{}@bookTicker", instrument.to_lowercase())).collect();
        let joint = if self.url.contains('?') { '&' } else { '?' };
        format!("{}{joint}streams={}", self.url, streams.join("/"))
    }
}

impl Default for BinanceConfig {
    fn default() -> Self {
        Self::of(Self::URL, Self::SYMBOLS.iter().filter_map(|symbol| symbol.parse().ok()))
    }
}

/// Why the feed cannot run at all. A connection that fails is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum BinanceError {
    /// No instrument is configured.
    #[error("no symbols to follow; name some, for example symbols = [\"BTCUSDT\"]")]
    NoSymbols,
    /// The URL is none.
    #[error("url is {url:?}, expected a WebSocket address such as {expected}: {problem}", expected = BinanceConfig::URL)]
    Url {
        /// As configured.
        url: String,
        /// What is wrong.
        problem: String,
    },
}

/// How a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("cannot connect: {0}")]
    Connect(Box<tungstenite::Error>),
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    #[error("no quote for {0:?}")]
    Silent(Duration),
    #[error("the venue closed the connection")]
    Closed,
    #[error("connection lost: {0}")]
    Lost(Box<tungstenite::Error>),
}

impl Ended {
    fn label(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::ConnectTimeout(_) => "connect_timeout",
            Self::Silent(_) => "silent",
            Self::Closed => "closed",
            Self::Lost(_) => "lost",
        }
    }
}

/// Why a connection is left: it ended, or there is nowhere to put its quotes.
enum Left {
    Ended(Ended),
    Sink(SinkError),
}

impl From<SinkError> for Left {
    fn from(error: SinkError) -> Self {
        Self::Sink(error)
    }
}

/// The largest message that is read. A quote has some 200 bytes.
const MESSAGE_MAX: usize = 1 << 20;
/// Quotes that are offered at once when they arrive in a burst.
const BURST_MAX: usize = 256;
/// How long a quote may wait for room in the market.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the age of the last message is shown.
const AGE_EVERY: Duration = Duration::from_secs(1);

/// Follows the stream until cancelled.
pub(super) async fn run<S: QuoteSink>(
    config: &BinanceConfig,
    sink: &S,
    reporter: &Reporter,
    rng: &mut fastrand::Rng,
    cancel: &CancellationToken,
) -> Result<(), RunError> {
    let url = checked_url(config)?;
    let feed = reporter.name();
    let mut back_off = BackOff::new(config.back_off);
    let mut follower = Follower {
        config,
        reporter,
        delivery: Delivery::new(&feed, sink, Patience::For(PATIENCE)),
        symbols: config.symbols.iter().map(|(name, symbol)| (name.to_uppercase(), symbol.clone())).collect(),
        complaints: Complaints::default(),
        age: ::metrics::gauge!(names::AGE, "feed" => feed.to_string()),
    };
    loop {
        let began = Instant::now();
        let ended = match cancel.run_until_cancelled(follower.follow(&url)).await {
            None => return Ok(()),
            Some(Left::Sink(error)) => return Err(error.into()),
            Some(Left::Ended(ended)) => ended,
        };
        if began.elapsed() >= config.settled_after {
            back_off.reset();
        }
        let pause = back_off.next_pause(rng);
        tracing::warn!(feed = &*feed, reason = %ended, ?pause, "feed disconnected, dialling again");
        ::metrics::counter!(names::RECONNECTS, "feed" => feed.to_string(), "reason" => ended.label()).increment(1);
        reporter.enter(FeedState::Reconnecting, Some(ended.to_string()));
        if cancel.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Ok(());
        }
    }
}

fn checked_url(config: &BinanceConfig) -> Result<String, BinanceError> {
    if config.symbols.is_empty() {
        return Err(BinanceError::NoSymbols);
    }
    let url = config.stream_url();
    let refused = |problem: String| BinanceError::Url { url: config.url.clone(), problem };
    let uri: tungstenite::http::Uri = url.parse().map_err(|error| refused(format!("{error}")))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("ws" | "wss"), Some(_)) => Ok(url),
        _ => Err(refused("it must begin with ws:// or wss:// and name a host".to_owned())),
    }
}

/// What one feed keeps from connection to connection.
struct Follower<'a, S> {
    config: &'a BinanceConfig,
    reporter: &'a Reporter,
    delivery: Delivery<'a, S>,
    /// By the venue's names, in capitals as the venue writes them.
    symbols: BTreeMap<String, Symbol>,
    complaints: Complaints,
    age: ::metrics::Gauge,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl<S: QuoteSink> Follower<'_, S> {
    /// One connection, from dialling to its end. May be dropped at any point.
    async fn follow(&mut self, url: &str) -> Left {
        let mut socket = match self.connect(url).await {
            Ok(socket) => socket,
            Err(ended) => return Left::Ended(ended),
        };
        tracing::info!(feed = &*self.reporter.name(), url = self.config.url, "feed connected");
        let Err(left) = self.read(&mut socket).await;
        // The venue is told, but not waited for: it may be the one that does not answer.
        let _ = socket.close(None).now_or_never();
        left
    }

    async fn connect(&self, url: &str) -> Result<Socket, Ended> {
        let limits = WebSocketConfig::default().max_message_size(Some(MESSAGE_MAX)).max_frame_size(Some(MESSAGE_MAX));
        let dial = tokio_tungstenite::connect_async_with_config(url, Some(limits), true);
        match tokio::time::timeout(self.config.connect_timeout, Box::pin(dial)).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(error)) => Err(Ended::Connect(Box::new(error))),
            Err(_) => Err(Ended::ConnectTimeout(self.config.connect_timeout)),
        }
    }

    /// Reads until the connection ends; the feed counts as up from its first good quote.
    async fn read(&mut self, socket: &mut Socket) -> Result<std::convert::Infallible, Left> {
        let mut last_quote = Instant::now();
        let mut up = false;
        let mut show_age = tokio::time::interval(AGE_EVERY);
        loop {
            let silent_at = last_quote + self.config.silence;
            let message = tokio::select! {
                message = socket.next() => message,
                _ = show_age.tick() => {
                    self.age.set(last_quote.elapsed().as_secs_f64());
                    continue;
                }
                () = tokio::time::sleep_until(silent_at) => return Err(Left::Ended(Ended::Silent(self.config.silence))),
            };
            let (quotes, end) = self.take_burst(socket, message);
            if !quotes.is_empty() {
                last_quote = Instant::now();
                if !std::mem::replace(&mut up, true) {
                    self.reporter.enter(FeedState::Up, None);
                }
                self.delivery.deliver(quotes).await?;
            }
            if let Some(ended) = end {
                return Err(Left::Ended(ended));
            }
        }
    }

    /// The quotes of this message and of those that have already arrived behind it, and how the connection ended if it did.
    fn take_burst(
        &mut self,
        socket: &mut Socket,
        first: Option<Result<Message, tungstenite::Error>>,
    ) -> (Vec<Quote>, Option<Ended>) {
        let mut quotes = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Some(Ok(Message::Text(text))) => quotes.extend(self.quote(text.as_bytes())),
                Some(Ok(Message::Close(_))) | None => return (quotes, Some(Ended::Closed)),
                // Pings are answered by the library; binary frames and pongs say nothing here.
                Some(Ok(Message::Binary(bytes))) => self.complain("a binary message", &bytes),
                Some(Ok(_)) => {}
                Some(Err(error)) => return (quotes, Some(Ended::Lost(Box::new(error)))),
            }
            next = (quotes.len() < BURST_MAX).then(|| socket.next().now_or_never()).flatten();
        }
        (quotes, None)
    }

    /// The quote of a message, if it is one. Spot messages carry no time; theirs is when they arrive.
    fn quote(&mut self, message: &[u8]) -> Option<Quote> {
        let ticker = match book_ticker::parse(message) {
            Ok(ticker) => ticker?,
            Err(error) => {
                self.complain(&error.to_string(), message);
                return None;
            }
        };
        let Some(symbol) = self.symbols.get(ticker.instrument) else {
            self.complain("a quote of an instrument that was not asked for", message);
            return None;
        };
        let quote = Quote::new(QuoteFields {
            bid: Some(ticker.bid),
            ask: Some(ticker.ask),
            bid_size: Some(ticker.bid_size),
            ask_size: Some(ticker.ask_size),
            ts: Some(ticker.venue_ms.map_or_else(unix_us, |ms| ms.saturating_mul(1000))),
            ..QuoteFields::new(symbol.clone())
        });
        quote.inspect_err(|rejection| self.complain(&rejection.to_string(), message)).ok()
    }

    fn complain(&mut self, problem: &str, message: &[u8]) {
        self.delivery.bad_input("message");
        if let Some(unsaid) = self.complaints.say(Instant::now()) {
            let feed = self.reporter.name();
            tracing::warn!(feed = &*feed, problem, message = excerpt(message), unsaid, "feed message cannot be read");
        }
    }
}

/// Bounds how often the log hears of bad messages: a venue that changes its format sends thousands a second.
#[derive(Debug, Default)]
struct Complaints {
    window: Option<Instant>,
    in_window: u32,
    unsaid: u64,
}

impl Complaints {
    const WINDOW: Duration = Duration::from_secs(60);
    const IN_WINDOW: u32 = 5;

    /// Whether to say this one; how many were kept back since the last one that was said.
    fn say(&mut self, now: Instant) -> Option<u64> {
        if self.window.is_none_or(|began| now.duration_since(began) >= Self::WINDOW) {
            self.window = Some(now);
            self.in_window = 0;
        }
        self.in_window += 1;
        if self.in_window <= Self::IN_WINDOW {
            return Some(std::mem::take(&mut self.unsaid));
        }
        self.unsaid += 1;
        None
    }
}

#[cfg(test)]
mod tests;
