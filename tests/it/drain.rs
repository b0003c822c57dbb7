//! The end of a server and its next beginning, as clients and operators live through them.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::json;
use tickwire_client::{Backoff, Change, Client, Follow, Options, Snapshot, Ticker};
use tickwire_tests::{
    PUBLISH_KEY, Process, Signal, command, eventually,
    fixtures::{quote_csv, write},
    socket::{End, Socket},
    soon,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    task::JoinSet,
};

const SOCKETS: usize = 200;
const SPREAD: Duration = Duration::from_secs(2);

/// All at once would send all clients to the next node in the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_closes_all_sockets_with_1012_in_a_spread_and_ends_well() {
    let mut server = Process::start(&["drain.spread=2s", "drain.deadline=30s"]).await;
    server.publish(json!({"symbol": "EURUSD", "bid": "1.10"})).await;
    let mut sockets = JoinSet::new();
    for _ in 0..SOCKETS {
        let mut socket = Socket::open(&server).await;
        socket.join("ticker:EURUSD", &json!({})).await.unwrap();
        sockets.spawn(async move { (socket.end().await, Instant::now()) });
    }
    server.signal(Signal::TERM);
    let mut closed = Vec::new();
    while let Some(ended) = sockets.join_next().await {
        let (end, at) = ended.unwrap();
        assert_eq!(end, End::Closed(1012, "shutdown".to_owned()));
        closed.push(at);
    }
    assert_eq!(server.ended().await.code(), Some(0));
    closed.sort();
    let spread = closed[SOCKETS - 1] - closed[0];
    assert!(spread > SPREAD / 4, "all of them within {spread:?}");
    assert!(server.log().contains("\"ended\""), "{}", server.log());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut server = Process::start(&["drain.spread=1h", "drain.deadline=2h"]).await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(Socket::open(&server).await);
    }
    server.signal(Signal::TERM);
    // Unready from the first moment on, while it still serves those who are there.
    eventually("the node is unready", async || (server.admin("/readyz").await.0 == 503).then_some(())).await;
    server.signal(Signal::TERM);
    // Two hours are the alternative.
    assert_eq!(server.ended().await.code(), Some(0));
    assert!(server.log().contains("the drain is cut short"), "{}", server.log());
}

/// A request that never comes to its end is not waited for for ever.
#[tokio::test]
async fn the_deadline_ends_a_drain_that_takes_too_long() {
    let mut server = Process::start(&["drain.spread=0s", "drain.deadline=1s"]).await;
    let mut request = TcpStream::connect(server.http).await.unwrap();
    let head = format!(
        "POST /v1/quotes HTTP/1.1\r\nhost: tickwire\r\nauthorization: Bearer {PUBLISH_KEY}\r\n\
         content-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 1000\r\n\r\n"
    );
    request.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    soon("the server reads the body", request.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");
    assert_eq!(server.drain().await, Some(0));
    assert!(server.log().contains("the drain has reached its deadline"), "{}", server.log());
}

/// A client that comes back gets all that is new, and is told that the old order of numbers has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_come_back_after_a_restart_in_a_new_epoch() {
    for signal in [Signal::TERM, Signal::KILL] {
        let mut server = Process::start(&[]).await;
        server.publish(json!([{"symbol": "EURUSD", "bid": "1.10"}, {"symbol": "EURUSD", "bid": "1.20"}])).await;
        let mut options = Options::new(&server.socket()).unwrap();
        options.reconnect = Some(Backoff { first: Duration::from_millis(20), cap: Duration::from_millis(200) });
        let client = Client::connect(options).await.unwrap();
        let mut ticker = Ticker::join(&client, "EURUSD", Follow::default()).await.unwrap();
        let Some(Change::Snapshot(before)) = ticker.next().await else { panic!("the join's reply comes first") };
        assert_eq!((before.mark.seq, before.quote.unwrap().bid.as_deref()), (2, Some("1.20")));

        server.restart(signal).await;
        let after = eventually_snapshot(&mut ticker).await;
        assert_ne!(after.mark.epoch, before.mark.epoch);
        assert!(!after.recovered && after.missed.is_empty());
        server.publish(json!({"symbol": "EURUSD", "bid": "1.30"})).await;
        loop {
            match soon("an update", ticker.next()).await.unwrap() {
                Change::Update { update, fault } => {
                    assert_eq!((update.quote.bid.as_deref(), fault), (Some("1.30"), None));
                    break;
                }
                Change::Status(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let tally = ticker.tally();
        assert_eq!((tally.lost, tally.disordered), (0, 0), "{tally:?}");
    }
}

async fn eventually_snapshot(ticker: &mut Ticker) -> Snapshot {
    loop {
        match soon("a snapshot", ticker.next()).await.unwrap() {
            Change::Snapshot(snapshot) => return snapshot,
            Change::Interrupted(_) | Change::Status(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// What `make run DATA=path` does once everything is built.
#[tokio::test]
async fn run_local_plays_a_recording_and_says_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "oanda-eurusd-20140508-quote.csv.gz", &quote_csv(1_000).0);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/run-local");
    let mut run = command(script);
    run.arg(tickwire_tests::binary()).args(["", file.to_str().unwrap(), "1"]).env("XDG_RUNTIME_DIR", folder.path());
    for port in ["HTTP", "GRPC", "ADMIN"] {
        run.env(format!("TICKWIRE_LISTEN__{port}"), "127.0.0.1:0");
    }
    let mut child = run.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let url = loop {
        let line = soon("the address", lines.next_line()).await.unwrap().expect("it says where it is");
        if let Some((_, url)) = line.split_once(" is at ") {
            break url.trim().to_owned();
        }
    };
    let client = reqwest::Client::new();
    let answer = eventually("quotes are played", async || {
        let answer = client.get(format!("{url}v1/quotes/EURUSD")).send().await.ok()?;
        answer.status().is_success().then_some(answer)
    })
    .await;
    assert!(answer.text().await.unwrap().contains("\"bid\":\"1.3"));
    assert!(client.get(&url).send().await.unwrap().status().is_success(), "the page is there");
    child.kill().await.unwrap();

    for (feed, data, word) in [("nonsense", "", "FEED=nonsense"), ("", "/no/such/path", "DATA=/no/such/path")] {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/run-local");
        let output = command(script).arg(tickwire_tests::binary()).args([feed, data, "1"]).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(word));
    }
}
