//! Clients that join, leave, join anew and dawdle at random, while updates are published as fast as they go: each join gets what follows its
//! snapshot, without hole or repeat, whatever is merged on the way.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tickwire_channels::{
    Context, Endpoint, Flow, JoinRequest, Joined, Joining, MountLimits, Payload, Router, Workers, WorkersConfig,
};
use tickwire_pubsub::{LoneNode, NodeId, PubSub};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_util::task::TaskTracker;

use crate::support::{Client, stamp, update};

const TOPICS: [&str; 3] = ["ticker:A", "ticker:B", "ticker:C"];

/// The owner of the topics: an update gets its number and is published under one lock, so that a number that a join reads says
/// what was published before.
#[derive(Clone, Default)]
struct Market(Arc<HashMap<&'static str, Mutex<u64>>>);

impl Market {
    fn new() -> Self {
        Self(Arc::new(TOPICS.into_iter().map(|topic| (topic, Mutex::new(0))).collect()))
    }

    fn publish(&self, pubsub: &PubSub, topic: &str) {
        let mut seq = self.0[topic].lock();
        *seq += 1;
        pubsub.broadcast(&[update(topic, *seq)]);
    }

    /// Answers with the last number, half of the time only after others had theirs.
    fn join(&self, request: JoinRequest) -> Joining {
        let market = self.clone();
        let joined = move || {
            let seq = *market.0[request.topic.as_str()].lock();
            let reply = Payload::Json(format!("{{\"seq\":{seq}}}").into());
            Ok(Joined::new(|_: &str, _: &Payload, _: &mut Context<'_>| Flow::Continue).reply(reply).floor(stamp(seq)))
        };
        if fastrand::bool() {
            return joined().into();
        }
        Joining::later(async move {
            tokio::time::sleep(Duration::from_micros(fastrand::u64(0..3_000))).await;
            joined()
        })
    }
}

/// A client's view of one topic.
#[derive(Default)]
struct View {
    joined: bool,
    last: u64,
}

struct Walker {
    client: Client,
    rng: fastrand::Rng,
    views: HashMap<&'static str, View>,
    updates: u64,
}

impl Walker {
    /// Sends something, then reads until its answer.
    fn step(&mut self, number: u64) {
        let topic = TOPICS[self.rng.usize(..TOPICS.len())];
        // A leave without a reference is for whatever join there is.
        let (join_ref, event) = match self.rng.u8(..4) {
            0 => ("null".to_owned(), "phx_leave"),
            _ => (format!("\"{number}\""), "phx_join"),
        };
        self.client.send(&format!(r#"[{join_ref},"{number}","{topic}","{event}",{{}}]"#));
        // Now and then the kernel's buffers fill up meanwhile.
        if self.rng.u8(..8) == 0 {
            std::thread::yield_now();
        }
        while !self.take(number) {}
        for _ in 0..self.rng.u64(..40) {
            if self.views.values().any(|view| view.joined) {
                self.take(number);
            }
        }
    }

    /// Takes one message; tells whether it answers the last that was sent.
    fn take(&mut self, number: u64) -> bool {
        let text = self.client.text();
        let (_, msg_ref, topic, event, payload): (Option<String>, Option<String>, String, String, serde_json::Value) =
            serde_json::from_str(&text).unwrap();
        let topic = TOPICS.into_iter().find(|known| **known == topic).unwrap();
        let view = self.views.entry(topic).or_default();
        match event.as_str() {
            "update" => {
                assert!(view.joined, "an update of a topic that is not joined: {text}");
                let (seq, n) = (payload["seq"].as_u64().unwrap(), payload["n"].as_u64().unwrap_or(1));
                assert_eq!(seq, view.last + n, "after {}", view.last);
                view.last = seq;
                self.updates += 1;
            }
            "phx_reply" => {
                assert_eq!(payload["status"], "ok");
                let seq = payload["response"]["seq"].as_u64();
                *view = View { joined: seq.is_some(), last: seq.unwrap_or(0) };
            }
            "phx_close" => {}
            _ => panic!("unexpected: {text}"),
        }
        event == "phx_reply" && msg_ref == Some(number.to_string())
    }
}

#[test]
fn no_join_has_a_hole_or_a_repeat() {
    let market = Market::new();
    let runtime = Runtime::new().unwrap();
    let pubsub = PubSub::new(Arc::new(LoneNode::new(NodeId::new("test", 1))));
    let joining = market.clone();
    let router = Router::new().on("ticker:*", move |request: JoinRequest| joining.join(request)).unwrap();
    let config = WorkersConfig {
        workers: 2,
        inbox_capacity: 256,
        send_buffer: Some(4_096),
        conflate_after: Duration::from_millis(1),
        ..WorkersConfig::default()
    };
    let workers = Workers::start(config, router, &pubsub, runtime.handle(), &TaskTracker::new()).unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = Endpoint::new("/socket").limits(MountLimits::default());
    let listening = runtime.spawn(tickwire_channels::listen(listener, endpoint, workers.clone()));

    let done = Arc::new(AtomicBool::new(false));
    let publishing = std::thread::spawn({
        let (done, market, pubsub) = (Arc::clone(&done), market.clone(), pubsub.clone());
        move || {
            while !done.load(Ordering::Relaxed) {
                if pubsub.admit().is_err() || fastrand::u8(..16) == 0 {
                    std::thread::yield_now();
                    continue;
                }
                for topic in TOPICS {
                    market.publish(&pubsub, topic);
                }
            }
        }
    });
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let walking: Vec<_> = (0..4)
        .map(|index| {
            std::thread::spawn(move || {
                let client = Client::connect(address, "vsn=2.0.0");
                let rng = fastrand::Rng::with_seed(seed + index);
                let mut walker = Walker { client, rng, views: HashMap::new(), updates: 0 };
                for number in 1..=150 {
                    walker.step(number);
                }
                walker.updates
            })
        })
        .collect();
    let updates: Vec<_> = walking.into_iter().map(std::thread::JoinHandle::join).collect();
    done.store(true, Ordering::Relaxed);
    publishing.join().unwrap();
    listening.abort();
    workers.shutdown();
    assert!(updates.into_iter().all(|updates| updates.unwrap() > 100));
}
