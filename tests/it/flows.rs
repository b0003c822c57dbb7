//! The ways in and out beside sockets: server-sent events and gRPC, with everything counted.

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tickwire_proto::v1::{self as pb, market_service_client::MarketServiceClient, subscribe_response::Message};
use tickwire_tests::{PUBLISH_KEY, Process, eventually, soon};
use tokio_util::bytes::BytesMut;

/// A reader of server-sent events, as a browser's `EventSource` is one.
struct Events {
    bytes: futures_util::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    buffer: BytesMut,
}

#[derive(Debug)]
struct Event {
    name: String,
    id: Option<String>,
    data: Value,
}

impl Events {
    async fn open(server: &Process, query: &str, last_event_id: Option<&str>) -> Self {
        let mut request = server.client.get(server.url(&format!("/v1/stream?{query}")));
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &"text/event-stream".parse().unwrap())
        );
        Self { bytes: answer.bytes_stream().boxed(), buffer: BytesMut::new() }
    }

    async fn next(&mut self) -> Event {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|bytes| bytes == b"\n\n") {
                let block = self.buffer.split_to(end + 2);
                if let Some(event) = read(std::str::from_utf8(&block).unwrap()) {
                    return event;
                }
                continue;
            }
            let chunk = soon("an event", self.bytes.next()).await.expect("the stream goes on").unwrap();
            self.buffer.extend_from_slice(&chunk);
        }
    }

    async fn named(&mut self, name: &str) -> Event {
        loop {
            let event = self.next().await;
            if event.name == name {
                return event;
            }
        }
    }
}

/// `None` for comments and `retry`.
fn read(block: &str) -> Option<Event> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let data = serde_json::from_str(field("data")?).unwrap();
    Some(Event { name: field("event")?.to_owned(), id: field("id").map(str::to_owned), data })
}

async fn publish_numbers(server: &Process, symbol: &str, numbers: std::ops::RangeInclusive<u64>) {
    let quotes: Vec<_> = numbers.map(|number| json!({"symbol": symbol, "bid": number.to_string()})).collect();
    let answer = server.publish(json!(quotes)).await;
    assert_eq!(answer["accepted"], quotes.len());
}

#[tokio::test]
async fn an_event_stream_resumes_from_its_last_event() {
    let server = Process::start(&["market.ring=50"]).await;
    publish_numbers(&server, "S", 1..=5).await;
    let mut events = Events::open(&server, "topics=ticker:S", None).await;
    let first = events.named("snapshot").await;
    assert_eq!(
        (&first.data["seq"], &first.data["quote"]["bid"], &first.data["topic"]),
        (&json!(5), &json!("5"), &json!("ticker:S"))
    );
    publish_numbers(&server, "S", 6..=6).await;
    let update = events.named("update").await;
    assert_eq!((&update.data["seq"], &update.data["bid"]), (&json!(6), &json!("6")));
    drop(events);

    // The browser's own behaviour: it sends the id of the last event it saw.
    publish_numbers(&server, "S", 7..=40).await;
    let id = update.id.unwrap();
    let mut events = Events::open(&server, "topics=ticker:S", Some(&id)).await;
    let resumed = events.named("snapshot").await;
    assert_eq!((&resumed.data["recovered"], &resumed.data["seq"]), (&json!(true), &json!(40)));
    let missed: Vec<_> =
        resumed.data["missed"].as_array().unwrap().iter().map(|update| update["seq"].as_u64().unwrap()).collect();
    assert_eq!(missed, (7..=40).collect::<Vec<_>>());
    publish_numbers(&server, "S", 41..=41).await;
    assert_eq!(events.named("update").await.data["seq"], 41);

    // Too far back, and an epoch of another life: the state to go on from, and no claim of completeness.
    publish_numbers(&server, "S", 42..=200).await;
    let (epoch, _) = id.rsplit_once('/').unwrap();
    for id in [id.clone(), "zzzz/100".to_owned(), format!("{epoch}/999999")] {
        let mut events = Events::open(&server, "topics=ticker:S", Some(&id)).await;
        let fresh = events.named("snapshot").await;
        assert_eq!(
            (&fresh.data["recovered"], &fresh.data["missed"], &fresh.data["seq"]),
            (&json!(false), &json!([]), &json!(200))
        );
    }
}

/// Every update of a stream says how many it stands for, however slow its reader.
#[tokio::test]
async fn an_event_stream_counts_what_it_merges() {
    let server = Process::start(&[]).await;
    publish_numbers(&server, "S", 1..=1).await;
    let mut events = Events::open(&server, "topics=ticker:S&max_rate=20ms", None).await;
    let mut seq = events.named("snapshot").await.data["seq"].as_u64().unwrap();
    for block in 0..20 {
        publish_numbers(&server, "S", block * 100 + 2..=block * 100 + 101).await;
    }
    let mut updates = 0;
    while seq < 2_001 {
        let update = events.named("update").await.data;
        seq += update["n"].as_u64().unwrap_or(1);
        assert_eq!((update["seq"].as_u64(), update["bid"].as_str()), (Some(seq), Some(&*seq.to_string())));
        updates += 1;
    }
    assert!(updates < 2_000, "at most one in an interval");
}

fn quote(symbol: &str, bid: u64) -> pb::Quote {
    pb::Quote { symbol: symbol.to_owned(), bid: bid.to_string(), ..pb::Quote::default() }
}

fn authorized<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {PUBLISH_KEY}").parse().unwrap());
    request
}

/// Ten thousand quotes in, each acknowledged; all of them out again, as updates or in their `n`; and the metrics tell the same numbers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_quotes_are_acknowledged_and_arrive_by_grpc() {
    const BATCHES: u64 = 100;
    const ROWS: u64 = 100;
    let server = Process::start(&[]).await;
    let channel =
        tonic::transport::Endpoint::from_shared(format!("http://{}", server.grpc)).unwrap().connect().await.unwrap();
    let mut client = MarketServiceClient::new(channel);
    let topics = ["G0", "G1", "G2", "G3"].map(|symbol| format!("ticker:{symbol}"));
    let wish = pb::SubscribeRequest { topics: topics.to_vec(), max_rate_ms: 0 };
    let mut updates = client.subscribe(wish).await.unwrap().into_inner();
    for _ in &topics {
        let first = soon("a snapshot", updates.message()).await.unwrap().unwrap();
        assert!(matches!(first.message, Some(Message::Snapshot(pb::Snapshot { quote: None, .. }))), "{first:?}");
    }
    let watch = async {
        let (mut received, mut at) = (0, std::collections::HashMap::<String, u64>::new());
        while received < BATCHES * ROWS {
            let answer = soon("an update", updates.message()).await.unwrap().unwrap();
            let Some(Message::Update(update)) = answer.message else { continue };
            let seq = at.entry(answer.topic).or_default();
            *seq += update.n;
            assert_eq!((update.seq, update.bid.as_str()), (*seq, &*seq.to_string()));
            received += update.n;
        }
        at
    };
    // Row r of batch b is quote number b × 25 + r / 4 + 1 of one of four symbols; a bad one is hidden in every tenth batch.
    let batch = |batch: u64| {
        let good = (0..ROWS).map(move |row| quote(&format!("G{}", row % 4), batch * ROWS / 4 + row / 4 + 1));
        let bad = batch.is_multiple_of(10).then(|| quote("not a symbol", 1));
        pb::PublishRequest { quotes: good.chain(bad).collect() }
    };
    let mut publisher = client.clone();
    let publish = async {
        let batches = futures_util::stream::iter((0..BATCHES / 2).map(batch));
        let answer = publisher.publish(authorized(batches)).await.unwrap().into_inner();
        assert_eq!((answer.accepted, answer.rejected_total), (BATCHES / 2 * ROWS, 5));
        // Places count through the whole stream.
        assert_eq!(answer.rejected.iter().map(|bad| bad.index).collect::<Vec<_>>(), [100, 1_101, 2_102, 3_103, 4_104]);
        let batches = futures_util::stream::iter((BATCHES / 2..BATCHES).map(batch));
        let mut answers = publisher.publish_acked(authorized(batches)).await.unwrap().into_inner();
        let mut acknowledged = Vec::new();
        while let Some(answer) = soon("an acknowledgement", answers.message()).await.unwrap() {
            acknowledged.push((answer.accepted, answer.rejected_total));
        }
        let expected: Vec<_> =
            (BATCHES / 2..BATCHES).map(|batch| (ROWS, u64::from(batch.is_multiple_of(10)))).collect();
        assert_eq!(acknowledged, expected);
    };
    let (at, ()) = tokio::join!(watch, publish);
    assert!(topics.iter().all(|topic| at[topic] == BATCHES * ROWS / 4), "{at:?}");
    let latest = client.get_quote(pb::GetQuoteRequest { symbol: "G3".to_owned() }).await.unwrap().into_inner();
    assert_eq!(latest.quote.unwrap().bid, (BATCHES * ROWS / 4).to_string());
    #[expect(clippy::cast_precision_loss, reason = "ten thousand")]
    let accepted = (BATCHES * ROWS) as f64;
    eventually("the metrics tell the same", async || {
        let ingested = server.metric("tickwire_quotes_ingested_total", "").await;
        (ingested >= accepted).then_some(ingested)
    })
    .await;
}
