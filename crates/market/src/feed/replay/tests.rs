//! Playing fixtures and, where they are, recorded files: nothing lost, nothing changed, in order.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use parking_lot::Mutex;

use super::*;
use crate::feed::testing::{TestSink, fixture, recorded_data};

#[derive(Default)]
struct Notes {
    problems: Mutex<Vec<Problem>>,
    reports: AtomicU64,
}

impl Observer for Notes {
    fn progress(&self, _: &Progress) {
        self.reports.fetch_add(1, Ordering::Relaxed);
    }

    fn problem(&self, problem: &Problem) {
        self.problems.lock().push(problem.clone());
    }
}

struct Played {
    progress: Progress,
    sink: TestSink,
    problems: Vec<Problem>,
}

impl Played {
    fn count_by_symbol(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for quote in self.sink.taken() {
            *counts.entry(quote.symbol().to_string()).or_default() += 1;
        }
        counts
    }

    fn bids(&self) -> Vec<String> {
        self.sink.taken().iter().map(|quote| quote.sides().unwrap().bid.unwrap().to_string()).collect()
    }
}

async fn play_into(sink: TestSink, config: ReplayConfig) -> Played {
    let notes = Notes::default();
    let replay = Replay::open(config).unwrap();
    let progress = replay
        .play("test", &sink, &notes, &TaskTracker::new(), &CancellationToken::new())
        .await
        .expect("the sink works");
    assert!(notes.reports.into_inner() > 0, "progress is told");
    Played { progress, sink, problems: notes.problems.into_inner() }
}

async fn play(config: ReplayConfig) -> Played {
    play_into(TestSink::default(), config).await
}

fn at_once(paths: Vec<PathBuf>) -> ReplayConfig {
    ReplayConfig { speed: Speed::MAX, ..ReplayConfig::new(paths) }
}

/// All ticks of a playback, without the clock.
fn ticks(config: &ReplayConfig, most: usize) -> Vec<Tick> {
    let mut timeline = Timeline::new(Replay::open(config.clone()).unwrap().tracks);
    std::iter::from_fn(|| timeline.next_tick()).take(most).collect()
}

fn gzipped(content: &[u8], path: &Path) {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    std::fs::write(path, encoder.finish().unwrap()).unwrap();
}

#[tokio::test]
async fn every_fixture_is_found_and_played_under_its_symbol() {
    let whole = play(ReplayConfig { csv_start: None, ..at_once(vec![fixture("")]) }).await;
    let lines: BTreeMap<_, _> = whole.count_by_symbol();
    let books = |name: &str| std::fs::read_to_string(fixture(name)).unwrap().matches("@bookTicker").count();
    assert_eq!(lines["BTCUSDT"], books("spot-btcusdt_20240101.jsonl") + books("spot-btcusdt_20240102.jsonl"));
    assert_eq!(lines["BTCUSDT.P"], books("usdm-btcusdt_20240102.jsonl"));
    assert_eq!(lines["BTCUSD.P"], books("cm-btcusd_perp_20240102.jsonl"));
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert!(["EURUSD", "EURUSD.FXCM", "XAUUSD"].iter().all(|symbol| lines[*symbol] == 40), "{lines:?}");
    assert_eq!((whole.progress.problems, whole.progress.passes), (0, 1));
    assert_eq!(whole.progress.bytes_read, whole.progress.bytes_total);
    assert_eq!(whole.progress.accepted, whole.sink.count() as u64);
}

#[tokio::test]
async fn a_quote_csv_starts_at_the_busy_hour_of_its_own_zone() {
    for file in ["oanda-eurusd-20240102-quote.csv", "fxcm-eurusd-20240102-quote.csv"] {
        let busy = play(at_once(vec![fixture(file)])).await.sink.count();
        assert!((28..=32).contains(&busy), "{busy} of {file}");
    }
    let late = ReplayConfig {
        csv_start: Some(Duration::from_secs(23 * 3600)),
        ..at_once(vec![fixture("oanda-eurusd-20240102-quote.csv")])
    };
    assert_eq!(play(late).await.sink.count(), 40, "a file that ends before the start is played whole");
}

#[tokio::test]
async fn gzipped_and_plain_files_play_the_same_digits() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["spot-btcusdt_20240102.jsonl", "oanda-xauusd-20240102-quote.csv"] {
        // The name promises nothing: a packed file need not say so.
        let packed = folder.path().join(name);
        gzipped(&std::fs::read(fixture(name)).unwrap(), &packed);
        let (plain, packed) = (play(at_once(vec![fixture(name)])).await, play(at_once(vec![packed])).await);
        assert_eq!(plain.bids(), packed.bids());
        assert!(plain.sink.count() > 20);
    }
}

#[tokio::test(start_paused = true)]
async fn ticks_play_at_their_pace_and_carry_times_of_now() {
    let config = ReplayConfig {
        speed: "2".parse().unwrap(),
        ..ReplayConfig::new(vec![fixture("usdm-btcusdt_20240102.jsonl"), fixture("spot-btcusdt_20240102.jsonl")])
    };
    let recorded = ticks(&config, usize::MAX);
    let (began, began_us) = (tokio::time::Instant::now(), unix_us());
    let played = play(config).await.sink.quotes.into_inner();
    assert_eq!(played.len(), recorded.len());
    for ((when, quote), tick) in played.iter().zip(&recorded) {
        let due = began + tick.at / 2;
        assert!(*when >= due && *when < due + Duration::from_millis(5), "{:?} late", *when - due);
        let ts = quote.ts().unwrap() - began_us;
        let event = i64::try_from((tick.event / 2).as_micros()).unwrap();
        // The wall clock is not paused, so it may have moved between the two looks at it.
        assert!((event..event + 5_000_000).contains(&ts), "ts is {ts} µs after the start, recorded {event}");
    }
}

#[test]
fn two_days_of_one_instrument_are_one_track() {
    let days = ["spot-btcusdt_20240102.jsonl", "spot-btcusdt_20240101.jsonl"].map(fixture).to_vec();
    let both = ticks(&ReplayConfig::new(days), usize::MAX);
    let first = ticks(&ReplayConfig::new(vec![fixture("spot-btcusdt_20240101.jsonl")]), usize::MAX);
    assert!(both.len() > first.len());
    assert!(both.iter().zip(&first).all(|(a, b)| a.at == b.at), "the earlier day plays first, however they are named");
    assert!(both.windows(2).all(|pair| pair[0].at <= pair[1].at && pair[0].event <= pair[1].event));
    assert!(both[first.len()].at - first[first.len() - 1].at <= Duration::from_secs(1));
}

#[test]
fn tracks_loop_by_themselves_and_time_goes_on() {
    let config = ReplayConfig { repeat: true, ..ReplayConfig::new(vec![fixture("")]) };
    let looped = ticks(&config, 5_000);
    assert_eq!(looped.len(), 5_000, "it goes on for ever");
    assert!(looped.windows(2).all(|pair| pair[0].at <= pair[1].at));
    let mut events: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for tick in &looped {
        events.entry(tick.quote.symbol().as_str()).or_default().push(tick.event);
    }
    for (symbol, events) in &events {
        assert!(events.windows(2).all(|pair| pair[0] <= pair[1]), "event time of {symbol} goes back");
    }
    let short = events["BTCUSDT.P"].len() / 29;
    let long = events["EURUSD"].len() / 32;
    assert!(short > long, "the shorter track has looped more often: {short}, {long}");
}

#[tokio::test]
async fn a_repeated_file_without_quotes_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spot-x_20240101.jsonl");
    std::fs::write(&path, "5 {\"stream\":\"x@trade\",\"data\":{}}\n").unwrap();
    let nothing = play(ReplayConfig { repeat: true, ..at_once(vec![path]) }).await;
    assert_eq!((nothing.sink.count(), nothing.progress.passes), (0, 1));
}

#[tokio::test]
async fn bad_lines_are_told_with_their_numbers_and_the_rest_is_played() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("oanda-eurusd-20240102-quote.csv");
    std::fs::write(&csv, "1,1.1,1.2\nrubbish\n2,1.1,1.2\n3,0,1.2\n4,1.1,1.2,7\n\n5,1.10,1.3\n6,1.10,1.2").unwrap();
    let stream = folder.path().join("spot-btcusdt_20240102.jsonl");
    let whole = std::fs::read_to_string(fixture("spot-btcusdt_20240102.jsonl")).unwrap();
    std::fs::write(&stream, &whole[..whole.len() - 30]).unwrap();
    let played = play(ReplayConfig { csv_start: None, ..at_once(vec![csv, stream]) }).await;
    let told: Vec<_> = played.problems.iter().map(ToString::to_string).collect();
    let told_of = |file: &str| told.iter().filter(|text| text.contains(file)).cloned().collect::<Vec<_>>();
    let of_csv = told_of("oanda-eurusd");
    assert_eq!(of_csv.len(), 4, "{told:#?}");
    for (text, word) in of_csv.iter().zip([
        ".csv:2: 1 columns",
        ".csv:4: bid must be above zero",
        ".csv:5: 4 columns",
        ".csv:8: half-written",
    ]) {
        assert!(text.contains(word), "{text} lacks {word}");
    }
    let of_stream = told_of("spot-btcusdt");
    assert!(of_stream.len() == 1 && of_stream[0].contains(".jsonl:40: "), "{of_stream:?}");
    assert_eq!(played.progress.problems, 5);
    assert_eq!(played.count_by_symbol()["EURUSD"], 3);
    assert_eq!(
        played.count_by_symbol()["BTCUSDT"],
        whole.matches("@bookTicker").count() - usize::from(whole.lines().last().unwrap().contains("bookTicker"))
    );
}

#[tokio::test]
async fn thousands_of_bad_lines_do_not_flood_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.csv");
    std::fs::write(&path, format!("1,1.1,1.2\n{}", "rubbish\n".repeat(5_000))).unwrap();
    let played = play(ReplayConfig { repeat: false, csv_start: None, ..at_once(vec![path]) }).await;
    assert_eq!(played.progress.problems, 5_000);
    assert_eq!(played.problems.len(), 20);
    assert!(played.problems[19].what.contains("only counted"));
}

#[tokio::test]
async fn a_truncated_gzip_is_told_and_played_as_far_as_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oanda-eurusd-20240102-quote.csv.gz");
    let content: String = (0..50_000).map(|i| format!("{},1.{:05},2.00000\n", i * 10, i * 7919 % 100_000)).collect();
    gzipped(content.as_bytes(), &path);
    let packed = std::fs::read(&path).unwrap();
    std::fs::write(&path, &packed[..packed.len() / 2]).unwrap();
    let played = play(ReplayConfig { csv_start: None, ..at_once(vec![path]) }).await;
    assert!(played.sink.count() > 10_000, "{} quotes", played.sink.count());
    assert_eq!(played.problems.len(), 1);
    assert_eq!(played.problems[0].kind, BadInput::Truncated);
    assert_eq!(played.problems[0].line, played.sink.count() as u64 + 1);
}

#[tokio::test]
async fn a_sink_without_room_is_waited_for_and_nothing_is_lost_or_swapped() {
    let config = at_once(vec![fixture("usdm-btcusdt_20240102.jsonl")]);
    let easy = play(config.clone()).await;
    let hard = play_into(TestSink { busy: 7.into(), ..TestSink::default() }, config).await;
    assert_eq!(hard.bids(), easy.bids());
}

#[tokio::test]
async fn a_sink_that_is_gone_ends_the_replay() {
    let sink = TestSink { errors: 1.into(), ..TestSink::default() };
    let replay = Replay::open(at_once(vec![fixture("")])).unwrap();
    let error = replay.play("test", &sink, &(), &TaskTracker::new(), &CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "the server is gone");
}

#[tokio::test]
async fn cancelling_ends_an_endless_replay() {
    let tracker = TaskTracker::new();
    let cancel = CancellationToken::new();
    let config = ReplayConfig { repeat: true, ..ReplayConfig::new(vec![fixture("")]) };
    let replay = Replay::open(config).unwrap();
    cancel.cancel();
    replay.play("test", &TestSink::default(), &(), &tracker, &cancel).await.unwrap();
    tracker.close();
    tokio::time::timeout(Duration::from_secs(20), tracker.wait()).await.expect("the reader ends with the playback");
}

#[tokio::test]
async fn only_the_wanted_symbols_are_played() {
    let config = ReplayConfig {
        only: vec!["XAUUSD".parse().unwrap(), "BTCUSDT.P".parse().unwrap()],
        ..at_once(vec![fixture("")])
    };
    let symbols: Vec<_> = play(config).await.count_by_symbol().into_keys().collect();
    assert_eq!(symbols, ["BTCUSDT.P", "XAUUSD"]);
}

/// Lines, best bid and ask quotes of each recorded file, as counted when the recordings were made.
const RECORDED: [(&str, usize); 12] = [
    ("binance-raw/usdm-btcusdt_20240808.jsonl.gz", 66_089),
    ("binance-raw/usdm-ethusdt_20240808.jsonl.gz", 53_992),
    ("binance-raw/spot-btcusdt_20240808.jsonl.gz", 28_040),
    ("binance-raw/spot-btcusdt_20240809.jsonl.gz", 45_134),
    ("binance-raw/spot-ethusdt_20240808.jsonl.gz", 24_077),
    ("binance-raw/cm-btcusd_perp_20240808.jsonl.gz", 19_136),
    ("binance-raw/cm-btcusd_perp_20240809.jsonl.gz", 29_219),
    ("fx-ticks/fxcm-eurusd-20140508-quote.csv.gz", 167_466),
    ("fx-ticks/fxcm-nzdusd-20140508-quote.csv.gz", 103_173),
    ("fx-ticks/oanda-eurusd-20140508-quote.csv.gz", 87_833),
    ("fx-ticks/oanda-nzdusd-20140508-quote.csv.gz", 49_874),
    ("fx-ticks/oanda-xauusd-20140508-quote.csv.gz", 199_123),
];

#[test]
fn recorded_files_give_every_quote_in_order() {
    let Some(data) = recorded_data() else { return };
    for (file, count) in RECORDED {
        let config = ReplayConfig { csv_start: None, ..ReplayConfig::new(vec![data.join(file)]) };
        let mut timeline = Timeline::new(Replay::open(config).unwrap().tracks);
        let (mut seen, mut previous) = (0, Duration::ZERO);
        while let Some(tick) = timeline.next_tick() {
            assert!(tick.at >= previous, "{file} goes back");
            previous = tick.at;
            seen += 1;
        }
        assert_eq!(seen, count, "{file}");
        assert_eq!(timeline.take_problems().counted, 0, "{file}");
    }
}

/// The prices and sizes of a recording, cut out of its text without any of the code under test.
fn recorded_texts(path: &Path) -> Vec<Vec<String>> {
    let mut text = String::new();
    std::io::Read::read_to_string(
        &mut flate2::read::MultiGzDecoder::new(std::fs::File::open(path).unwrap()),
        &mut text,
    )
    .unwrap();
    let field = |line: &str, key: &str| {
        let start = line.find(&format!("\"{key}\":\"")).unwrap() + key.len() + 4;
        line[start..].split('"').next().unwrap().to_owned()
    };
    text.lines()
        .filter(|line| !line.contains('{') || line.contains("@bookTicker\""))
        .map(|line| match line.contains('{') {
            true => ["b", "a", "B", "A"].map(|key| field(line, key)).to_vec(),
            false => line.split(',').skip(1).map(str::to_owned).collect(),
        })
        .collect()
}

#[test]
fn recorded_digits_come_through_unchanged() {
    let Some(data) = recorded_data() else { return };
    for file in [
        "binance-raw/spot-ethusdt_20240808.jsonl.gz",
        "binance-raw/cm-btcusd_perp_20240808.jsonl.gz",
        "fx-ticks/oanda-xauusd-20140508-quote.csv.gz",
    ] {
        let config = ReplayConfig { csv_start: None, ..ReplayConfig::new(vec![data.join(file)]) };
        let texts = recorded_texts(&data.join(file));
        let ticks = ticks(&config, usize::MAX);
        assert_eq!(ticks.len(), texts.len(), "{file}");
        for (line, (tick, expected)) in ticks.iter().zip(&texts).enumerate() {
            let sides = tick.quote.sides().unwrap();
            let seen: Vec<_> = [sides.bid, sides.ask, sides.bid_size, sides.ask_size]
                .iter()
                .flatten()
                .map(ToString::to_string)
                .collect();
            assert_eq!(&seen, expected, "quote {line} of {file}");
        }
    }
}

#[test]
fn a_folder_of_recordings_plays_as_one_market() {
    let Some(data) = recorded_data() else { return };
    let config = ReplayConfig { repeat: true, ..ReplayConfig::new(vec![data]) };
    let ticks = ticks(&config, 100_000);
    let symbols: std::collections::BTreeSet<_> = ticks.iter().map(|tick| tick.quote.symbol().as_str()).collect();
    for symbol in [
        "BTCUSD.P",
        "BTCUSDT",
        "BTCUSDT.P",
        "ETHUSDT",
        "ETHUSDT.P",
        "EURUSD",
        "EURUSD.FXCM",
        "NZDUSD",
        "NZDUSD.FXCM",
        "XAUUSD",
    ] {
        assert!(symbols.contains(symbol), "{symbol} is missing from {symbols:?}");
    }
    let first_minute = ticks.iter().take_while(|tick| tick.at < Duration::from_secs(60)).count();
    assert!(first_minute > 20_000, "{first_minute} quotes in the first minute");
}
