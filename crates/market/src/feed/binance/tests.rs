//! The feed against a venue of our own, which plays recorded lines and misbehaves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::SinkExt;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_util::task::TaskTracker;

use super::*;
use crate::feed::testing::{TestSink, eventually, fixture, recorded_data};
use crate::feed::{FeedConfig, FeedKind, FeedStatus, Feeds, RestartPolicy};

/// What the venue does with a connection.
#[derive(Debug, Clone)]
enum Act {
    /// Sends this text as a message.
    Say(String),
    /// Sends bytes as a binary message.
    Bytes(Vec<u8>),
    /// Closes the connection properly.
    Close,
    /// Lets the connection fall.
    Drop,
    /// Keeps it open and says nothing more.
    Silence,
    /// Does not even answer the handshake.
    Ignore,
    /// Answers the handshake with a refusal.
    Refuse,
}

/// A venue that treats its first connection as the first script says, the second as the second, and all later ones as the last.
struct Venue {
    address: SocketAddr,
    connections: Arc<AtomicU32>,
    /// What the newest connection asked for.
    asked: Arc<parking_lot::Mutex<String>>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Venue {
    async fn open(scripts: Vec<Vec<Act>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let venue = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            asked: Arc::default(),
            tracker: TaskTracker::new(),
            cancel: CancellationToken::new(),
        };
        let (connections, asked, cancel) = (venue.connections.clone(), venue.asked.clone(), venue.cancel.clone());
        let tracker = venue.tracker.clone();
        venue.tracker.spawn(async move {
            while let Some(Ok((stream, _))) = cancel.run_until_cancelled(listener.accept()).await {
                let turn = connections.fetch_add(1, Ordering::Relaxed) as usize;
                let script = scripts[turn.min(scripts.len() - 1)].clone();
                let (asked, cancel) = (asked.clone(), cancel.clone());
                tracker.spawn(async move { cancel.run_until_cancelled(perform(stream, script, &asked)).await });
            }
        });
        venue
    }

    fn url(&self) -> String {
        format!("ws://{}/stream", self.address)
    }

    fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn perform(stream: TcpStream, script: Vec<Act>, asked: &parking_lot::Mutex<String>) {
    if matches!(script.first(), Some(Act::Ignore)) {
        return std::future::pending().await;
    }
    let refuse = matches!(script.first(), Some(Act::Refuse));
    #[expect(clippy::result_large_err, reason = "the signature is the library's")]
    let answer = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        *asked.lock() = request.uri().to_string();
        if refuse { Err(ErrorResponse::new(Some("no".to_owned()))) } else { Ok(response) }
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, answer).await else { return };
    for act in script {
        let sent = match act {
            Act::Say(text) => socket.send(Message::text(text)).await,
            Act::Bytes(bytes) => socket.send(Message::binary(bytes)).await,
            Act::Close => socket.close(None).await,
            Act::Drop => return,
            Act::Silence | Act::Ignore | Act::Refuse => return std::future::pending().await,
        };
        if sent.is_err() {
            return;
        }
    }
    // Answers what the other side still says, as a venue that waits for the closing handshake does.
    while let Some(Ok(_)) = socket.next().await {}
}

/// The messages of a recording, without their receive times.
fn recorded(name: &str) -> Vec<Act> {
    let text = std::fs::read_to_string(fixture(name)).unwrap();
    text.lines().filter_map(|line| line.split_once(' ')).map(|(_, message)| Act::Say(message.to_owned())).collect()
}

fn quote(bid: &str) -> Act {
    Act::Say(format!(
        r#"{{"stream":"btcusdt@bookTicker","data":{{"u":1,"s":"BTCUSDT","b":"{bid}","B":"1.50","a":"99999.00","A":"2"}}}}"#
    ))
}

/// A running feed of this venue.
struct Run {
    sink: Arc<TestSink>,
    feeds: Feeds,
    cancel: CancellationToken,
    tracker: TaskTracker,
}

impl Run {
    fn start(url: &str, change: impl FnOnce(&mut BinanceConfig)) -> Self {
        let mut binance = BinanceConfig::of(url, [Symbol::new("BTCUSDT").unwrap()]);
        // Generous beside what a loaded machine needs for a handshake, so that only those that are to fail do.
        binance.silence = Duration::from_secs(1);
        binance.connect_timeout = Duration::from_millis(1_500);
        binance.back_off = BackOffBounds { first: Duration::from_millis(2), cap: Duration::from_millis(20) };
        change(&mut binance);
        let config = FeedConfig {
            name: "live".to_owned(),
            kind: FeedKind::Binance(binance),
            restart: RestartPolicy {
                back_off: BackOffBounds { first: Duration::from_millis(2), ..Default::default() },
                ..Default::default()
            },
        };
        let (sink, tracker, cancel) = (Arc::<TestSink>::default(), TaskTracker::new(), CancellationToken::new());
        let feeds = Feeds::start(vec![config], &sink, &tracker, &cancel);
        Self { sink, feeds, cancel, tracker }
    }

    fn status(&self) -> FeedStatus {
        self.feeds.status().remove(0)
    }

    fn bids(&self) -> Vec<String> {
        self.sink.taken().iter().map(|quote| quote.sides().unwrap().bid.unwrap().to_string()).collect()
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.tracker.close();
        tokio::time::timeout(Duration::from_secs(20), self.tracker.wait()).await.expect("a cancelled feed ends");
        assert_eq!(self.feeds.status()[0].state, FeedState::Ended);
    }
}

#[tokio::test]
async fn recorded_messages_arrive_with_exact_digits_and_the_venues_time() {
    let mut script = recorded("usdm-btcusdt_20240102.jsonl");
    script.push(Act::Silence);
    let venue = Venue::open(vec![script]).await;
    let run = Run::start(&venue.url(), |config| config.silence = Duration::from_secs(60));
    let text = std::fs::read_to_string(fixture("usdm-btcusdt_20240102.jsonl")).unwrap();
    let expected = text.matches("@bookTicker").count();
    eventually("all quotes", || run.sink.count() == expected).await;
    assert_eq!(run.status().state, FeedState::Up);
    assert_eq!(venue.asked.lock().as_str(), "/stream?streams=btcusdt@bookTicker");
    for quote in run.sink.taken() {
        let ms = quote.ts().unwrap() / 1000;
        assert!(text.contains(&format!("\"T\":{ms},")), "{ms} is none of the venue's times");
        let bid = quote.sides().unwrap().bid.unwrap();
        assert!(text.contains(&format!("\"b\":\"{bid}\"")), "{bid} is none of the venue's prices");
    }
    run.stop().await;
}

#[tokio::test]
async fn spot_messages_carry_the_time_of_their_arrival() {
    let venue = Venue::open(vec![vec![quote("1.10"), Act::Silence]]).await;
    let run = Run::start(&venue.url(), |_| {});
    let before = unix_us();
    eventually("a quote", || run.sink.count() == 1).await;
    let ts = run.sink.taken()[0].ts().unwrap();
    assert!((before - 1_000_000..=unix_us()).contains(&ts));
    run.stop().await;
}

#[tokio::test]
async fn a_connection_that_ends_is_dialled_again_however_it_ended() {
    let scripts = vec![
        vec![quote("1"), Act::Drop],
        vec![quote("2"), Act::Close],
        vec![Act::Refuse],
        vec![Act::Ignore],
        vec![quote("3"), Act::Silence],
        vec![Act::Silence],
        vec![quote("4"), Act::Silence],
    ];
    let venue = Venue::open(scripts).await;
    let run = Run::start(&venue.url(), |_| {});
    eventually("quotes of every connection that has any", || run.bids().contains(&"4".to_owned())).await;
    assert_eq!(run.bids()[..3], ["1", "2", "3"]);
    let status = run.status();
    assert!(status.reconnects >= 6 && status.restarts == 0, "{status:?}");
    assert!(venue.connections() >= 7);
    run.stop().await;
}

#[tokio::test]
async fn garbage_is_passed_over_and_does_not_end_the_connection() {
    let garbage = [
        Act::Say("rubbish".to_owned()),
        Act::Say("{\"stream\":\"btcusdt@bookTicker\",\"data\":{\"s\":\"BTCUSDT\",\"b\":\"1e5\"".to_owned()),
        Act::Say(r#"{"stream":"x@bookTicker","data":{"s":"NOBODY","b":"1","B":"1","a":"1","A":"1"}}"#.to_owned()),
        Act::Say(r#"{"result":null,"id":1}"#.to_owned()),
        Act::Bytes(vec![0xff; 100]),
        Act::Say(String::new()),
        quote("0.00"),
    ];
    let mut script = vec![quote("1")];
    script.extend(garbage.iter().cycle().take(700).cloned());
    script.extend([quote("2"), Act::Silence]);
    let venue = Venue::open(vec![script]).await;
    let run = Run::start(&venue.url(), |config| config.silence = Duration::from_secs(60));
    eventually("the quote behind the garbage", || run.bids() == ["1", "2"]).await;
    assert_eq!((venue.connections(), run.status().reconnects), (1, 0));
    run.stop().await;
}

#[tokio::test]
async fn a_venue_that_only_talks_rubbish_counts_as_silent() {
    let talk: Vec<_> = (0..5).map(|_| Act::Say("rubbish".to_owned())).chain([Act::Silence]).collect();
    let venue = Venue::open(vec![talk]).await;
    let run = Run::start(&venue.url(), |_| {});
    eventually("dialled again", || venue.connections() >= 2).await;
    assert!(run.status().last_error.unwrap().contains("no quote for"), "{:?}", run.status());
    run.stop().await;
}

#[tokio::test]
async fn a_venue_that_is_not_there_is_dialled_until_it_is() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let run = Run::start(&format!("ws://{address}/stream"), |_| {});
    eventually("several tries", || run.status().reconnects >= 3).await;
    assert_eq!(run.status().state, FeedState::Reconnecting);
    assert!(run.status().last_error.unwrap().contains("cannot connect"));
    run.stop().await;
}

/// TLS needs a crypto provider chosen at build time; without one, the first `wss` connection would panic.
#[tokio::test]
async fn a_venue_that_breaks_off_the_tls_handshake_is_dialled_again() {
    let venue = Venue::open(vec![vec![Act::Drop]]).await;
    let run = Run::start(&format!("wss://{}/stream", venue.address), |_| {});
    eventually("several tries", || run.status().reconnects >= 2).await;
    let status = run.status();
    assert_eq!((status.restarts, status.state == FeedState::Failed), (0, false), "{status:?}");
    run.stop().await;
}

#[tokio::test]
async fn what_cannot_work_fails_at_once_and_says_why() {
    let cases = [
        ("http://example.org/stream", "ws://"),
        ("not a url", "expected a WebSocket address"),
        ("wss:///stream", "wss://"),
    ];
    for (url, word) in cases {
        let run = Run::start(url, |_| {});
        eventually("given up", || run.status().state == FeedState::Failed).await;
        let error = run.status().last_error.unwrap();
        assert!(error.contains(url) && error.contains(word), "{error}");
    }
    let run = Run::start(BinanceConfig::URL, |config| config.symbols.clear());
    eventually("given up", || run.status().state == FeedState::Failed).await;
    assert!(run.status().last_error.unwrap().contains("no symbols"));
}

#[tokio::test]
async fn a_market_without_room_for_a_moment_costs_nothing() {
    let venue = Venue::open(vec![vec![quote("1"), quote("2"), quote("3"), Act::Silence]]).await;
    let run = Run::start(&venue.url(), |config| config.silence = Duration::from_secs(60));
    run.sink.busy.store(3, Ordering::Relaxed);
    eventually("the quotes when there is room again", || run.bids().last().is_some_and(|bid| bid == "3")).await;
    assert_eq!(venue.connections(), 1);
    run.stop().await;
}

#[test]
fn urls_name_every_stream_unless_they_name_their_own() {
    let symbols = ["BTCUSDT", "ETHUSDT"].map(|name| Symbol::new(name).unwrap());
    let url = |base: &str| BinanceConfig::of(base, symbols.clone()).stream_url();
    assert_eq!(url("wss://x/stream"), "wss://x/stream?streams=btcusdt@bookTicker/ethusdt@bookTicker");
    assert_eq!(url("wss://x/stream?key=1"), "wss://x/stream?key=1&streams=btcusdt@bookTicker/ethusdt@bookTicker");
    assert_eq!(url("wss://x/stream?streams=a@bookTicker"), "wss://x/stream?streams=a@bookTicker");
    assert_eq!(BinanceConfig::default().symbols.len(), BinanceConfig::SYMBOLS.len());
}

#[tokio::test(start_paused = true)]
async fn complaints_are_a_few_a_minute_and_say_how_many_were_kept_back() {
    let mut complaints = Complaints::default();
    let said = (0..1_000).filter(|_| complaints.say(Instant::now()).is_some()).count();
    assert_eq!(said, 5);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(complaints.say(Instant::now()), Some(995));
}

#[tokio::test]
async fn a_recorded_session_of_the_venue_comes_through() {
    let Some(data) = recorded_data() else { return };
    let mut text = String::new();
    let file = std::fs::File::open(data.join("binance-raw/spot-btcusdt_20240808.jsonl.gz")).unwrap();
    std::io::Read::read_to_string(&mut flate2::read::MultiGzDecoder::new(file), &mut text).unwrap();
    let script: Vec<_> = text.lines().filter_map(|line| Some(Act::Say(line.split_once(' ')?.1.to_owned()))).collect();
    let venue = Venue::open(vec![script]).await;
    let run = Run::start(&venue.url(), |config| config.silence = Duration::from_secs(60));
    eventually("every quote", || run.sink.count() == 28_040).await;
    run.stop().await;
}
