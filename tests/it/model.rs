//! Clients join, drop and resume at random while numbered quotes are published, and every join is held against the model: no hole, no
//! repeat, nothing goes back, `recovered` exactly when all is there.
//!
//! The bid of a symbol's k-th quote is k, and one publisher publishes all of them in order, so that a quote's bid must equal its `seq`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde_json::json;
use tickwire_client::{
    Mark, Snapshot, Update,
    wire::{Body, Incoming},
};
use tickwire_proto::v1::{self as pb, market_service_client::MarketServiceClient};
use tickwire_tests::{
    PUBLISH_KEY, Process, eventually,
    socket::{Socket, json as text},
    soon,
};
use tokio::{sync::mpsc, task::JoinSet};

const SYMBOLS: [&str; 4] = ["M0", "M1", "M2", "M3"];
const CLIENTS: usize = 8;
const STEPS: usize = 400;
/// `market.ring` and `market.resume_max`, of which either may be the limit. Small, so that resumes often come too late.
const BOUNDS: [(u64, u64); 2] = [(96, 64), (64, 96)];
const RESUMABLE: u64 = 64;

/// What all clients together have seen, so that a run that never got into a case fails.
#[derive(Debug, Default)]
struct Seen {
    joins: usize,
    rejoins: usize,
    leaves: usize,
    drops: usize,
    recovered: usize,
    refused: usize,
    missed: usize,
    merged_missed: usize,
    updates: usize,
    conflated: u64,
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.joins += other.joins;
        self.rejoins += other.rejoins;
        self.leaves += other.leaves;
        self.drops += other.drops;
        self.recovered += other.recovered;
        self.refused += other.refused;
        self.missed += other.missed;
        self.merged_missed += other.merged_missed;
        self.updates += other.updates;
        self.conflated += other.conflated;
    }
}

/// One join as the model sees it.
#[derive(Debug)]
struct Join {
    join_ref: u64,
    at: Mark,
}

/// The last place of which everything before was seen, by topic; it outlives joins and sockets.
type Marks = BTreeMap<String, Mark>;

struct ModelClient {
    server: Arc<Process>,
    random: fastrand::Rng,
    socket: Socket,
    joined: BTreeMap<String, Join>,
    marks: Marks,
    /// Replaced joins whose `phx_close` has to come next on their topic.
    closing: BTreeMap<String, u64>,
    seen: Seen,
}

impl ModelClient {
    async fn new(server: Arc<Process>, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let socket = open(&server, &mut random).await;
        Self {
            server,
            random,
            socket,
            joined: BTreeMap::new(),
            marks: Marks::new(),
            closing: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    async fn step(&mut self) {
        match self.random.u8(0..100) {
            0..45 => self.join().await,
            45..55 => self.leave().await,
            55..70 => self.drop_socket().await,
            // Reads nothing for a while: what is published meanwhile is conflated, or waits in the kernel.
            70..72 => tokio::time::sleep(Duration::from_millis(self.random.u64(5..60))).await,
            _ => self.read().await,
        }
    }

    async fn join(&mut self) {
        let topic = format!("ticker:{}", self.random.choice(SYMBOLS).unwrap());
        let since = self.choose_since(&topic);
        let merges = self.random.u8(0..4) == 0;
        let mut params = json!({});
        if let Some(since) = &since {
            params["since"] = json!(since);
        }
        if merges {
            params["max_rate"] = json!(format!("{}ms", self.random.u8(1..40)));
        }
        let join_ref = self.socket.send(None, &topic, "phx_join", &params).await;
        let response = self.until_reply(join_ref).await;
        let at = self.check_reply(&response, since.as_ref(), merges);
        self.marks.insert(topic.clone(), at.clone());
        self.seen.joins += 1;
        if let Some(old) = self.joined.insert(topic.clone(), Join { join_ref, at }) {
            self.seen.rejoins += 1;
            self.closing.insert(topic, old.join_ref);
        }
    }

    /// Usually the last place, sometimes one that cannot be resumed from, or none.
    fn choose_since(&mut self, topic: &str) -> Option<Mark> {
        let mark = self.marks.get(topic)?.clone();
        let seq = mark.seq;
        match self.random.u8(0..20) {
            0 => None,
            1 => Some(Mark { epoch: "zzzz".to_owned(), seq }),
            2 => Some(Mark { seq: seq + 1_000_000, ..mark }),
            3..6 => Some(Mark { seq: seq.saturating_sub(self.random.u64(0..2 * RESUMABLE)), ..mark }),
            _ => Some(mark),
        }
    }

    /// Holds a join reply against the model, and returns the place from which the join goes on.
    fn check_reply(&mut self, response: &Bytes, since: Option<&Mark>, merges: bool) -> Mark {
        let reply = Snapshot::parse(response).unwrap();
        let here = reply.mark.clone();
        let context = || format!("since {since:?}: {}", String::from_utf8_lossy(response));
        if here.seq > 0 {
            assert_eq!(reply.quote.as_ref().unwrap().bid.as_deref(), Some(&*here.seq.to_string()), "{}", context());
        }
        let within =
            |since: &Mark| since.epoch == here.epoch && since.seq <= here.seq && here.seq - since.seq <= RESUMABLE;
        let complete = since.is_some_and(within);
        assert_eq!(reply.recovered, complete, "{}", context());
        if let Some(since) = since.filter(|_| complete) {
            self.seen.recovered += 1;
            let mut at = since.clone();
            for update in &reply.missed {
                assert!(merges || update.n == 1, "{}", context());
                advance(&mut at, update);
            }
            assert_eq!(at, here, "{}", context());
            assert!(!merges || reply.missed.len() <= 1, "{}", context());
            if merges { self.seen.merged_missed += reply.missed.len() } else { self.seen.missed += reply.missed.len() }
        } else {
            assert!(reply.missed.is_empty(), "{}", context());
            self.seen.refused += usize::from(since.is_some());
        }
        here
    }

    async fn leave(&mut self) {
        let Some(topic) = self.random.choice(self.joined.keys()).cloned() else { return };
        let join_ref = self.joined[&topic].join_ref;
        let leave = self.socket.send(Some(join_ref), &topic, "phx_leave", &json!({})).await;
        self.until_reply(leave).await;
        self.joined.remove(&topic);
        self.closing.insert(topic, join_ref);
        self.seen.leaves += 1;
    }

    /// The connection breaks, and another one is opened.
    async fn drop_socket(&mut self) {
        let socket = open(&self.server, &mut self.random).await;
        std::mem::replace(&mut self.socket, socket).abort();
        self.joined.clear();
        self.closing.clear();
        self.seen.drops += 1;
    }

    /// Reads some messages, if something is joined.
    async fn read(&mut self) {
        if self.joined.is_empty() {
            return;
        }
        for _ in 0..self.random.u8(1..30) {
            let message = soon("an update", self.socket.next()).await.unwrap();
            self.check(message);
        }
    }

    async fn until_reply(&mut self, msg_ref: u64) -> Bytes {
        loop {
            let message = soon("a reply", self.socket.next()).await.unwrap();
            match message.body {
                Body::Reply { ok, response } if message.msg_ref == Some(msg_ref.to_string()) => {
                    assert!(ok, "{response:?}");
                    return text(&response);
                }
                _ => self.check(message),
            }
        }
    }

    fn check(&mut self, message: Incoming) {
        let Incoming { join_ref, msg_ref, topic, body } = message;
        let Body::Event { event, payload } = body else { panic!("an answer to nothing: {msg_ref:?} {topic}") };
        // A replaced or left join says goodbye before anything of a later one is heard.
        if let Some(old) = self.closing.remove(&topic) {
            assert_eq!((event.as_str(), join_ref), ("phx_close", Some(old.to_string())), "{topic}");
            assert_eq!(msg_ref, Some(old.to_string()));
            return;
        }
        let join = self.joined.get_mut(&topic).unwrap_or_else(|| panic!("{event} on {topic}, which is not joined"));
        assert_eq!((join_ref, msg_ref), (None, None), "a broadcast has no refs");
        match event.as_str() {
            "update" => {
                let update = Update::parse(&text(&payload)).unwrap();
                advance(&mut join.at, &update);
                self.seen.updates += 1;
                self.seen.conflated += update.n - 1;
                self.marks.insert(topic, update.mark);
            }
            "status" => {}
            other => panic!("{other} on {topic}"),
        }
    }

    /// Reads until every joined topic has come to its end: the newest update is always delivered.
    async fn converge(&mut self, last: u64) {
        for topic in SYMBOLS.map(|symbol| format!("ticker:{symbol}")) {
            if !self.joined.contains_key(&topic) {
                continue;
            }
            while self.joined[&topic].at.seq < last {
                let message = soon("the last update", self.socket.next()).await.unwrap();
                self.check(message);
            }
        }
    }
}

/// Some clients have next to no room for what they do not read.
async fn open(server: &Process, random: &mut fastrand::Rng) -> Socket {
    Socket::open_with(server, random.bool().then_some(4096)).await
}

/// Takes an update: it must be the next one, or say how many it stands for.
fn advance(at: &mut Mark, update: &Update) {
    let json = String::from_utf8_lossy(&update.json);
    assert_eq!(update.mark.epoch, at.epoch, "no epoch changes without a snapshot: {json}");
    assert_eq!(Some(update.mark.seq), at.seq.checked_add(update.n), "behind {at:?}: {json}");
    assert!(update.n > 0, "{json}");
    assert_eq!(update.quote.bid.as_deref(), Some(&*update.mark.seq.to_string()), "{json}");
    *at = update.mark.clone();
}

/// Publishes numbered quotes in acknowledged batches until told to stop; returns the number of the last.
async fn publish(server: Arc<Process>, stop: Arc<AtomicBool>, mut random: fastrand::Rng) -> u64 {
    let mut client = MarketServiceClient::connect(format!("http://{}", server.grpc)).await.unwrap();
    let (batches, outgoing) = mpsc::channel::<pb::PublishRequest>(1);
    let mut request = tonic::Request::new(futures_util::stream::unfold(outgoing, async |mut outgoing| {
        outgoing.recv().await.map(|batch| (batch, outgoing))
    }));
    request.metadata_mut().insert("authorization", format!("Bearer {PUBLISH_KEY}").parse().unwrap());
    let mut answers = client.publish_acked(request).await.unwrap().into_inner();
    let mut number = 0_u64;
    while !stop.load(Ordering::Acquire) {
        let rows = random.u64(1..8);
        let quote = |row: u64, symbol: &str| pb::Quote {
            symbol: symbol.to_owned(),
            bid: row.to_string(),
            ..pb::Quote::default()
        };
        let quotes: Vec<_> =
            (number + 1..=number + rows).flat_map(|row| SYMBOLS.map(|symbol| quote(row, symbol))).collect();
        number += rows;
        let sent = quotes.len() as u64;
        batches.send(pb::PublishRequest { quotes }).await.unwrap();
        let answer = soon("an acknowledgement", answers.message()).await.unwrap().unwrap();
        assert_eq!((answer.accepted, answer.rejected_total), (sent, 0));
        tokio::time::sleep(Duration::from_millis(random.u64(0..6))).await;
    }
    number
}

fn seed() -> u64 {
    std::env::var("TICKWIRE_SEED").ok().map_or_else(|| fastrand::u64(..), |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_drops_and_resumes_leave_no_hole_and_no_repeat() {
    let seed = seed();
    println!("TICKWIRE_SEED={seed}");
    let (ring, resume_max) = BOUNDS[usize::from(seed % 2 == 1)];
    let sets =
        [format!("market.ring={ring}"), format!("market.resume_max={resume_max}"), "market.stale_after=1h".to_owned()];
    let server = Arc::new(Process::start(&sets.each_ref().map(String::as_str)).await);
    let stop = Arc::new(AtomicBool::new(false));
    let mut publisher = JoinSet::new();
    publisher.spawn(publish(server.clone(), stop.clone(), fastrand::Rng::with_seed(seed)));
    eventually("the first quotes", async || (server.get("/v1/quotes/M3").await.0 == 200).then_some(())).await;

    let busy = Arc::new(AtomicUsize::new(CLIENTS));
    let (end, ended) = tokio::sync::watch::channel(None);
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (server, busy, mut ended) = (server.clone(), busy.clone(), ended.clone());
        clients.spawn(async move {
            let mut client = ModelClient::new(server, seed.wrapping_add(number as u64 + 1)).await;
            for _ in 0..STEPS {
                client.step().await;
            }
            busy.fetch_sub(1, Ordering::AcqRel);
            let last = loop {
                tokio::select! {
                    last = ended.wait_for(Option::is_some) => break last.unwrap().unwrap(),
                    message = client.socket.next() => client.check(message.unwrap()),
                }
            };
            client.converge(last).await;
            client.seen
        });
    }
    let mut seen = Seen::default();
    let mut wait = tokio::time::interval(Duration::from_millis(20));
    while busy.load(Ordering::Acquire) > 0 {
        tokio::select! {
            _ = wait.tick() => {}
            Some(failed) = clients.join_next() => panic!("a client failed: {:?}", failed.err()),
        }
    }
    stop.store(true, Ordering::Release);
    let last = publisher.join_next().await.unwrap().unwrap();
    end.send_replace(Some(last));
    while let Some(client) = clients.join_next().await {
        seen.add(&client.unwrap());
    }
    println!("{last} quotes of each symbol; {seen:?}");
    for (what, count) in [
        ("joins", seen.joins),
        ("rejoins", seen.rejoins),
        ("leaves", seen.leaves),
        ("drops", seen.drops),
        ("recovered", seen.recovered),
        ("refused", seen.refused),
        ("missed", seen.missed),
        ("merged missed", seen.merged_missed),
        ("updates", seen.updates),
    ] {
        assert!(count > 0, "no {what} in this run: {seen:?}");
    }
    assert!(seen.conflated > 0, "nothing was conflated: {seen:?}");
}
