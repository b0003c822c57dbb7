//! Recorded quotes through a real server, once from recordings made up here and once from the real ones: every row is accounted for, and
//! every price that a client sees has the digits of the file.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::Output,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use flate2::bufread::MultiGzDecoder;
use serde_json::{Value, json};
use tickwire_client::{Snapshot, Update, wire::Body};
use tickwire_tests::{
    PUBLISH_KEY, Process, data, eventually,
    fixtures::{Pair, book_tickers, quote_csv, write},
    socket::{Socket, json as text},
    soon,
};

/// The best bids and asks of recorded files, one file after the other and then from the start again, read as they are needed.
struct Rows {
    files: Vec<PathBuf>,
    next_file: usize,
    lines: Box<dyn BufRead + Send>,
    passes: usize,
}

impl Rows {
    fn of(files: &[PathBuf]) -> Self {
        Self { files: files.to_vec(), next_file: 0, lines: Box::new(std::io::empty()), passes: 0 }
    }

    /// All rows, once.
    fn all(files: &[PathBuf]) -> Vec<Pair> {
        let mut rows = Self::of(files);
        std::iter::from_fn(|| Some(rows.next()).filter(|_| rows.passes < 2)).collect()
    }

    fn next(&mut self) -> Pair {
        let mut line = String::new();
        loop {
            line.clear();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                self.open_next();
            } else if let Some(pair) = pair(line.trim_end()) {
                return pair;
            }
        }
    }

    fn open_next(&mut self) {
        self.passes += usize::from(self.next_file == 0);
        let path = &self.files[self.next_file];
        let plain = BufReader::new(File::open(path).unwrap());
        let gzipped = path.extension().is_some_and(|extension| extension == "gz");
        self.lines = if gzipped { Box::new(BufReader::new(MultiGzDecoder::new(plain))) } else { Box::new(plain) };
        self.next_file = (self.next_file + 1) % self.files.len();
    }

    /// Goes on to the next row that is this pair.
    fn advance_to(&mut self, wanted: &Pair) {
        let until = self.passes + 2;
        while self.next() != *wanted {
            assert!(self.passes <= until, "no row of {:?} has {wanted:?}", self.files);
        }
    }
}

/// What a line of either format holds, byte for byte.
fn pair(line: &str) -> Option<Pair> {
    if line.contains('{') {
        let field = |name: &str| {
            let from = line.find(name)? + name.len();
            line[from..].split('"').next().map(str::to_owned)
        };
        return line.contains("@bookTicker").then(|| Some((field(r#""b":""#)?, field(r#""a":""#)?)))?;
    }
    let mut columns = line.split(',').skip(1).map(str::to_owned);
    Some((columns.next()?, columns.next()?))
}

fn shown(quote: &tickwire_client::Quote) -> Pair {
    (quote.bid.clone().unwrap(), quote.ask.clone().unwrap())
}

async fn replay(server: &Process, file: &Path, more: &[&str]) -> Output {
    let mut command = server.cli(&["replay"]);
    command.arg(file).env("TICKWIRE_KEY", PUBLISH_KEY);
    let defaults = ["--speed", "max", "--from-start", "--json"];
    let grpc = format!("grpc://{}", server.grpc);
    if !more.contains(&"--to") {
        command.args(["--to", &grpc]);
    }
    if !more.contains(&"--speed") {
        command.args(&defaults[..2]);
    }
    soon("the replay ends", command.args(&defaults[2..]).args(more).output()).await.unwrap()
}

fn report(output: &Output) -> Value {
    let talk = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}: {talk}"))
}

/// Plays a whole file while a client watches: the k-th update is the k-th row.
async fn every_row_is_accounted_for(file: &Path, symbol: &str) {
    let rows = Rows::all(&[file.to_owned()]);
    let server = Process::start(&[]).await;
    let mut socket = Socket::open(&server).await;
    socket.join(&format!("ticker:{symbol}"), &json!({})).await.unwrap();
    let watch = async {
        let (mut seq, mut seen) = (0, 0);
        while seq < rows.len() as u64 {
            let Body::Event { event, payload } = soon("an update", socket.next()).await.unwrap().body else { panic!() };
            if event == "update" {
                let update = Update::parse(&text(&payload)).unwrap();
                assert_eq!(update.mark.seq, seq + update.n);
                seq = update.mark.seq;
                assert_eq!(shown(&update.quote), rows[usize::try_from(seq).unwrap() - 1], "row {seq} of {symbol}");
                seen += 1;
            }
        }
        seen
    };
    let (seen, output) = tokio::join!(watch, replay(&server, file, &[]));
    let told = report(&output);
    assert_eq!((told["accepted"].as_u64(), told["rejected"].as_u64()), (Some(rows.len() as u64), Some(0)), "{told}");
    assert_eq!((told["bad_input"].as_u64(), output.status.code()), (Some(0), Some(0)), "{told}");
    assert!(!output.stderr.contains(&0x1b) && !output.stderr.contains(&b'\r'), "no bar into a pipe: {output:?}");
    let (status, latest) = server.get(&format!("/v1/quotes/{symbol}")).await;
    let last = rows.last().unwrap();
    assert_eq!((status, &latest["bid"], &latest["ask"]), (200, &json!(last.0), &json!(last.1)));
    assert_eq!(latest["seq"], rows.len());
    assert!(seen > 0);
}

/// Plays a folder as a feed, in a loop: what clients see is rows of the files, in their order.
async fn a_feed_shows_the_digits_of_its_files(folder: &Path, speed: &str, recordings: Vec<(&str, Vec<PathBuf>)>) {
    const UPDATES: usize = 8;
    let feed = format!("feed=[{{kind=\"replay\", path={folder:?}, speed={speed}, loop=true}}]");
    let server = Process::start(&[&feed]).await;
    let mut socket = Socket::open(&server).await;
    for (symbol, files) in &recordings {
        let mut rows = Rows::of(files);
        let topic = format!("ticker:{symbol}");
        let (join_ref, reply) = socket.join(&topic, &json!({})).await.unwrap();
        if let Some(quote) = Snapshot::parse(&reply).unwrap().quote {
            rows.advance_to(&shown(&quote));
        }
        let mut seen = 0;
        while seen < UPDATES {
            let message = soon("an update", socket.next()).await.unwrap();
            let Body::Event { event, payload } = message.body else { panic!("an answer to nothing") };
            if event == "update" && message.topic == topic {
                rows.advance_to(&shown(&Update::parse(&text(&payload)).unwrap().quote));
                seen += 1;
            }
        }
        let leave = socket.send(Some(join_ref), &topic, "phx_leave", &json!({})).await;
        socket.reply(leave).await;
        let (_, latest) = server.get(&format!("/v1/quotes/{symbol}")).await;
        rows.advance_to(&(latest["bid"].as_str().unwrap().to_owned(), latest["ask"].as_str().unwrap().to_owned()));
    }
    let (_, page) = server.get("/v1/quotes").await;
    let listed: BTreeSet<_> =
        page["quotes"].as_array().unwrap().iter().map(|quote| quote["symbol"].as_str().unwrap()).collect();
    assert_eq!(listed, recordings.iter().map(|(symbol, _)| *symbol).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_of_a_recording_is_accounted_for() {
    let folder = tempfile::tempdir().unwrap();
    let csv = write(folder.path(), "oanda-eurusd-20140508-quote.csv", &quote_csv(3_000).0);
    let stream = write(folder.path(), "usdm-btcusdt_20240808.jsonl.gz", &book_tickers("BTCUSDT", 3_000).0);
    tokio::join!(every_row_is_accounted_for(&csv, "EURUSD"), every_row_is_accounted_for(&stream, "BTCUSDT.P"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_of_the_real_recordings_is_accounted_for() {
    let Some(folder) = data::folder("every_row_of_the_real_recordings_is_accounted_for") else { return };
    let csv = folder.join("fx-ticks/oanda-nzdusd-20140508-quote.csv.gz");
    let stream = folder.join("binance-raw/spot-ethusdt_20240808.jsonl.gz");
    tokio::join!(every_row_is_accounted_for(&csv, "NZDUSD"), every_row_is_accounted_for(&stream, "ETHUSDT"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_plays_recordings_with_their_digits() {
    let folder = tempfile::tempdir().unwrap();
    let csv = write(folder.path(), "fxcm-eurusd-20140508-quote.csv.gz", &quote_csv(2_000).0);
    let stream = write(folder.path(), "spot-btcusdt_20240808.jsonl", &book_tickers("BTCUSDT", 2_000).0);
    write(folder.path(), "README.txt", "not a recording\n");
    let recordings = vec![("EURUSD.FXCM", vec![csv]), ("BTCUSDT", vec![stream])];
    a_feed_shows_the_digits_of_its_files(folder.path(), "2", recordings).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_plays_the_real_recordings_with_their_digits() {
    let Some(folder) = data::folder("a_feed_plays_the_real_recordings_with_their_digits") else { return };
    let fx = |venue: &str| vec![folder.join(format!("fx-ticks/{venue}-20140508-quote.csv.gz"))];
    let stream = |name: &str, days: &[&str]| {
        days.iter().map(|day| folder.join(format!("binance-raw/{name}_{day}.jsonl.gz"))).collect::<Vec<_>>()
    };
    let recordings = vec![
        ("EURUSD", fx("oanda-eurusd")),
        ("EURUSD.FXCM", fx("fxcm-eurusd")),
        ("NZDUSD", fx("oanda-nzdusd")),
        ("NZDUSD.FXCM", fx("fxcm-nzdusd")),
        ("XAUUSD", fx("oanda-xauusd")),
        ("BTCUSDT", stream("spot-btcusdt", &["20240808", "20240809"])),
        ("ETHUSDT", stream("spot-ethusdt", &["20240808"])),
        ("BTCUSDT.P", stream("usdm-btcusdt", &["20240808"])),
        ("ETHUSDT.P", stream("usdm-ethusdt", &["20240808"])),
        ("BTCUSD.P", stream("cm-btcusd_perp", &["20240808", "20240809"])),
    ];
    a_feed_shows_the_digits_of_its_files(&folder, "5", recordings).await;
}

/// A venue's clock that goes back within a recording is no reason to lose a quote. Another publisher that is ahead of the replay is:
/// then `market.out_of_order` decides, and every row is either accepted or rejected with its reason.
#[tokio::test]
async fn late_rows_follow_the_policy_and_are_counted() {
    let line = |row: u64, symbol: &str, ms: u64| {
        let (ns, event) = (1_723_161_253_000_000_000 + row * 5_000_000, 1_723_161_250_000 + ms);
        let lower = symbol.to_lowercase();
        format!(
            r#"{ns} {{"stream":"{lower}@bookTicker","data":{{"e":"bookTicker","u":{row},"s":"{symbol}","b":"{}.50","B":"1","a":"99.50","A":"1","T":{event},"E":{event}}}}}
"#,
            row + 1
        )
    };
    let times = [1_000, 1_010, 1_005, 1_020, 1_020, 1_015, 1_030];
    let lines: String =
        (0..).zip(times).flat_map(|(row, ms)| ["BTCUSDT", "ETHUSDT"].map(|symbol| line(row, symbol, ms))).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "usdm-both_20240808.jsonl", &lines);
    let in_an_hour = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(3_600);
    for (policy, rejected, code, bid) in [("reject", 7, 1, "0.25"), ("accept", 0, 0, "7.50")] {
        let server = Process::start(&[&format!("market.out_of_order={policy}")]).await;
        let ts = u64::try_from(in_an_hour.as_micros()).unwrap();
        server.publish(json!({"symbol": "ETHUSDT.P", "bid": "0.25", "ts": ts})).await;
        let output = replay(&server, &file, &["--speed", "1"]).await;
        let told = report(&output);
        assert_eq!(
            (told["accepted"].as_u64(), told["rejected"].as_u64()),
            (Some(14 - rejected), Some(rejected)),
            "{told}"
        );
        assert_eq!(output.status.code(), Some(code), "{told}");
        if rejected > 0 {
            assert_eq!(told["reasons"]["out_of_order"]["count"], rejected, "{told}");
        }
        assert_eq!(server.get("/v1/quotes/BTCUSDT.P").await.1["bid"], "7.50");
        assert_eq!(server.get("/v1/quotes/ETHUSDT.P").await.1["bid"], bid);
    }
}

/// A writer was stopped in the middle of a line, a copy in the middle of a gzip: both are told, and the rest is played.
#[tokio::test]
async fn a_broken_end_is_told_and_the_rest_is_played() {
    let folder = tempfile::tempdir().unwrap();
    let (csv, rows) = quote_csv(500);
    let (stream, _) = book_tickers("BTCUSDT", 500);
    let half_csv = &csv[..csv.len() - 4];
    let half_stream = &stream[..stream.len() - 20];
    let server = Process::start(&[]).await;
    let http = server.url("");
    for (name, content, line, played) in [
        ("oanda-eurusd-20140508-quote.csv", half_csv, csv.lines().count(), 499),
        ("oanda-eurusd-20140509-quote.csv.gz", half_csv, csv.lines().count(), 499),
        ("spot-btcusdt_20240808.jsonl", half_stream, stream.lines().count(), 499),
        ("spot-btcusdt_20240809.jsonl.gz", half_stream, stream.lines().count(), 499),
    ] {
        let file = write(folder.path(), name, content);
        let output = replay(&server, &file, &["--to", &http]).await;
        let (told, talk) = (report(&output), String::from_utf8_lossy(&output.stderr).into_owned());
        assert_eq!(
            (told["accepted"].as_u64(), told["bad_input"].as_u64()),
            (Some(played), Some(1)),
            "{name}: {told} {talk}"
        );
        assert!(talk.contains(&format!("{name}:{line}: ")), "{name}:{line} is named: {talk}");
        assert_eq!(output.status.code(), Some(1));
    }
    assert_eq!(server.get("/v1/quotes/EURUSD").await.1["bid"], rows[498].0);

    let whole = write(folder.path(), "oanda-nzdusd-20140508-quote.csv.gz", &quote_csv(20_000).0);
    let mut packed = Vec::new();
    File::open(&whole).unwrap().read_to_end(&mut packed).unwrap();
    std::fs::write(&whole, &packed[..packed.len() / 2]).unwrap();
    let output = replay(&server, &whole, &["--to", &http]).await;
    let (told, talk) = (report(&output), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(told["accepted"].as_u64().unwrap() > 1_000 && talk.contains("truncated"), "{told} {talk}");
    assert_eq!(output.status.code(), Some(1));
}

/// A recording that is not there, or none, is a wrong argument of a command and a failure of a server before it serves.
#[tokio::test]
async fn what_cannot_be_played_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let noise = write(folder.path(), "notes.txt", "remember the milk\n");
    let server = Process::start(&[]).await;
    for (path, word) in [(folder.path().join("absent.csv"), "absent.csv"), (noise, "no known format")] {
        let output = replay(&server, &path, &[]).await;
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{talk}");
        assert!(talk.contains(word) && talk.contains("expected") || talk.contains("cannot be opened"), "{talk}");
    }
    // The feed of a server is supervised like any other: the node serves, and its readiness says what is wrong.
    let feed = format!("feed=[{{kind=\"replay\", name=\"archive\", path={:?}}}]", folder.path().join("absent.csv"));
    let broken = Process::start(&[&feed]).await;
    let told = eventually("the failed feed shows", async || {
        let (_, verbose) = broken.admin("/readyz?verbose").await;
        verbose.contains("absent.csv").then_some(verbose)
    })
    .await;
    assert!(told.contains("feed archive"), "{told}");
    broken.publish(json!({"symbol": "A", "bid": "1"})).await;
    assert_eq!(broken.get("/v1/quotes/A").await.0, 200);
}
