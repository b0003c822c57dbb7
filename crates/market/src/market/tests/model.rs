//! Clients join, fall behind, drop and resume at random while quotes flow and shards crash: there is no hole that nothing explains and no
//! repeat, whatever the order.

use std::collections::HashMap;

use super::*;

const NAMES: [&str; 3] = ["A", "B", "C"];
const RING: usize = 8;
const RESUME_MAX: usize = 6;

/// One client's view of one symbol.
#[derive(Default)]
struct View {
    /// The epoch and `seq` of the last update that it saw. It outlives connections.
    last: Option<(String, u64)>,
    bid: String,
}

#[derive(Default)]
struct Client {
    mailbox: Option<Mailbox>,
    views: [View; 3],
    joined: [bool; 3],
}

struct Model {
    rng: fastrand::Rng,
    market: Market,
    pubsub: PubSub,
    clients: [Client; 3],
    /// The bid of every update that was stamped, by symbol, epoch and `seq`.
    history: HashMap<(usize, String, u64), String>,
    next_bid: u64,
}

impl Model {
    fn new(seed: u64) -> Self {
        let config = MarketConfig { shards: 2, ring: RING, resume_max: RESUME_MAX, ..MarketConfig::default() };
        let (market, pubsub, _) = lone_market(config);
        let rng = fastrand::Rng::with_seed(seed);
        Self { rng, market, pubsub, clients: Default::default(), history: HashMap::new(), next_bid: 1 }
    }

    fn step(&mut self) {
        let (client, name) = (self.rng.usize(..3), self.rng.usize(..3));
        match self.rng.u8(..100) {
            0..40 => self.publish(),
            40..60 => self.join(client, name),
            60..88 => self.read(client),
            88..97 => self.leave(client),
            _ => self.crash(name),
        }
    }

    /// Publishes a few quotes and notes what the owner made of them.
    fn publish(&mut self) {
        for _ in 0..self.rng.usize(1..=3) {
            let (name, bid) = (self.rng.usize(..3), self.next_bid);
            self.next_bid += 1;
            assert_eq!(take(&self.market, vec![quote(NAMES[name], bid)]).accepted, 1);
            let made = snapshot_of(&self.market, NAMES[name], None);
            let before = self.history.insert((name, made.epoch.to_string(), made.seq), bid.to_string());
            assert_eq!(before, None, "a stamp is given once");
        }
    }

    fn crash(&mut self, name: usize) {
        let shard = &self.market.0.shards[self.market.shard_of(&symbol(NAMES[name]))];
        shard.state().crash_on = Some(symbol(NAMES[name]));
        assert_eq!(take(&self.market, vec![quote(NAMES[name], 1)]).accepted, 0);
        shard.state().crash_on = None;
        for (name, text) in NAMES.iter().enumerate() {
            let made = snapshot_of(&self.market, text, None);
            if let (Some(inherited), 0) = (&made.quote, made.seq) {
                self.history.insert((name, made.epoch.to_string(), 0), said(inherited, "bid"));
            }
        }
    }

    /// Subscribes first and takes the snapshot second, with quotes between the steps.
    fn join(&mut self, client: usize, name: usize) {
        if self.clients[client].joined[name] {
            return;
        }
        let pubsub = self.pubsub.clone();
        let mut mailbox = self.clients[client].mailbox.take().unwrap_or_else(|| Mailbox::new(&pubsub, 16, None));
        let subscription = mailbox.subscribe(&symbol(NAMES[name]).ticker_topic()).unwrap();
        if self.rng.bool() {
            self.publish();
        }
        let asks = self.rng.u8(..10) > 0;
        let last = self.clients[client].views[name].last.clone().filter(|_| asks);
        let since = last.as_ref().map(|(epoch, seq)| Since::new(epoch, *seq).unwrap());
        let merge_missed = self.rng.bool();
        let request = JoinRequest { symbol: symbol(NAMES[name]), since, merge_missed };
        let snapshot = self.market.join(request).wait().now_or_never().unwrap().unwrap();
        if self.rng.bool() {
            self.publish();
        }
        subscription.start(snapshot.floor);
        self.take_snapshot((client, name), last, &snapshot, merge_missed);
        self.clients[client].mailbox = Some(mailbox);
        self.clients[client].joined[name] = true;
    }

    fn take_snapshot(
        &mut self,
        view: (usize, usize),
        last: Option<(String, u64)>,
        snapshot: &JoinSnapshot,
        merged: bool,
    ) {
        let epoch = snapshot.epoch.to_string();
        let kept = last.filter(|(known, _)| *known == epoch).map(|(_, seq)| seq);
        let expected = kept.is_some_and(|seq| snapshot.seq - seq <= RING.min(RESUME_MAX) as u64);
        assert_eq!(
            snapshot.recovered(),
            expected,
            "recovered if and only if the epoch is the same and the ring reaches back"
        );
        if let (true, Some(mut seq)) = (expected, kept) {
            assert!(!merged || snapshot.missed.len() <= 1);
            for update in &snapshot.missed {
                let n: u64 = said(update, "n").parse().unwrap_or(1);
                assert!(merged || n == 1);
                seq += n;
                assert_eq!(said(update, "seq"), seq.to_string(), "nothing is missing and nothing repeated");
                self.show(view, &epoch, seq, update);
            }
            assert_eq!(seq, snapshot.seq);
        } else if let Some(quote) = &snapshot.quote {
            self.show(view, &epoch, snapshot.seq, quote);
        }
        self.clients[view.0].views[view.1].last = Some((epoch, snapshot.seq));
    }

    fn show(&mut self, (client, name): (usize, usize), epoch: &str, seq: u64, payload: &[u8]) {
        let bid = said(payload, "bid");
        let stamped = self.history.get(&(name, epoch.to_owned(), seq));
        assert_eq!(stamped, Some(&bid), "what is shown is what was stamped");
        self.clients[client].views[name].bid = bid;
    }

    fn read(&mut self, client: usize) {
        let deliveries = self.clients[client].mailbox.as_ref().map(pending).unwrap_or_default();
        for delivery in deliveries {
            let topic = delivery.message.topic.as_str().trim_start_matches("ticker:");
            let name = NAMES.iter().position(|text| *text == topic).unwrap();
            let stamp = delivery.message.stamp.unwrap();
            let epoch = stamp.epoch.tag().to_string();
            let (known, seq) = self.clients[client].views[name].last.clone().unwrap();
            let payload = delivery.message.payload.bytes();
            match role_of(&delivery) {
                Role::Status => continue,
                Role::Snapshot => {
                    assert_ne!(known, epoch, "a snapshot is pushed when the epoch changes");
                    let quote = said(payload, "quote");
                    if !quote.is_empty() {
                        self.show((client, name), &epoch, stamp.seq, quote.as_bytes());
                    }
                }
                Role::Update => {
                    assert_eq!(known, epoch, "no update of another epoch without its snapshot");
                    assert_eq!(seq + delivery.n, stamp.seq, "n explains every gap, and nothing is repeated");
                    self.show((client, name), &epoch, stamp.seq, payload);
                }
            }
            self.clients[client].views[name].last = Some((epoch, stamp.seq));
        }
    }

    fn leave(&mut self, client: usize) {
        let client = &mut self.clients[client];
        (client.mailbox, client.joined) = (None, [false; 3]);
    }

    /// Once all is read, everybody shows the newest value.
    fn settle(&mut self) {
        for client in 0..self.clients.len() {
            self.read(client);
            let Client { views, joined, .. } = &self.clients[client];
            for (view, name) in views.iter().zip(NAMES).zip(joined).filter_map(|(view, joined)| joined.then_some(view))
            {
                let newest = snapshot_of(&self.market, name, None);
                // Of a symbol without a quote nobody is told that its shard reopened.
                if let Some(quote) = newest.quote {
                    assert_eq!(view.last, Some((newest.epoch.to_string(), newest.seq)));
                    assert_eq!(view.bid, said(&quote, "bid"));
                }
            }
        }
    }
}

#[tokio::test]
async fn no_hole_and_no_repeat_whatever_the_order() {
    for seed in 0..300 {
        let run = || {
            let mut model = Model::new(seed);
            for _ in 0..120 {
                model.step();
            }
            model.settle();
        };
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
            println!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// The same with threads that really race: one publishes, one joins, reads, drops and resumes.
#[tokio::test]
async fn a_client_that_comes_and_goes_misses_nothing_of_a_running_stream() {
    const QUOTES: u64 = 5_000;
    let config = MarketConfig { ring: 100_000, resume_max: 100_000, ..MarketConfig::default() };
    let (market, pubsub, _) = lone_market(config);
    let publisher = {
        let market = market.clone();
        std::thread::spawn(move || {
            for bid in 1..=QUOTES {
                assert_eq!(take(&market, vec![quote("A", bid)]).accepted, 1);
                std::thread::yield_now();
            }
        })
    };
    let topic = symbol("A").ticker_topic();
    let (mut seq, mut epoch) = (0, snapshot_of(&market, "A", None).epoch);
    while seq < QUOTES {
        let mut mailbox = Mailbox::new(&pubsub, 16, None);
        let subscription = mailbox.subscribe(&topic).unwrap();
        let snapshot = snapshot_of(&market, "A", Some(Since::new(epoch.as_str(), seq).unwrap()));
        subscription.start(snapshot.floor);
        assert!(snapshot.recovered());
        assert_eq!(snapshot.missed.len() as u64, snapshot.seq - seq);
        (seq, epoch) = (snapshot.seq, snapshot.epoch);
        for _ in 0..20 {
            for delivery in pending(&mailbox).iter().filter(|delivery| role_of(delivery) == Role::Update) {
                seq += delivery.n;
                assert_eq!(delivery.message.stamp.unwrap().seq, seq, "n explains every gap");
            }
            std::thread::yield_now();
        }
    }
    publisher.join().unwrap();
}
