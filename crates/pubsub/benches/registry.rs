//! What it costs to want a topic, and to hand a message to all who do.

use std::{sync::Arc, time::Instant};

use divan::{Bencher, black_box, counter::ItemsCount};
use tickwire_pubsub::{Broadcast, LoneNode, NodeId, Payload, PubSub, Sink, SinkId, Topic};

/// Allocations are counted beside the time.
#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

/// As many topics as there are in the market of docs/performance.md.
const TOPICS: usize = 500;

/// A sink that looks at what it gets.
#[derive(Debug)]
struct Nowhere;

impl Sink for Nowhere {
    fn deliver(&self, batch: &[Arc<Broadcast>]) {
        black_box(batch);
    }
}

fn pubsub(sinks: usize) -> (PubSub, Vec<SinkId>) {
    let pubsub = PubSub::new(Arc::new(LoneNode::new(NodeId::new("bench", 1))));
    let sinks = (0..sinks).map(|_| pubsub.attach(Arc::new(Nowhere))).collect();
    (pubsub, sinks)
}

fn topics() -> Vec<Topic> {
    (0..TOPICS).map(|number| Topic::new(&format!("ticker:SYM{number:03}")).expect("a good topic")).collect()
}

fn messages(topics: &[Topic]) -> Vec<Arc<Broadcast>> {
    let (now, event) = (Instant::now(), Arc::<str>::from("update"));
    let message = |topic: &Topic| Broadcast::lossless(topic.clone(), Arc::clone(&event), Payload::empty(), now);
    topics.iter().map(|topic| Arc::new(message(topic))).collect()
}

/// The first subscriber of a topic, which comes and goes.
#[divan::bench]
fn subscribe_and_unsubscribe(bencher: Bencher<'_, '_>) {
    let ((pubsub, sinks), topic) = (pubsub(1), topics().swap_remove(0));
    bencher.bench(|| pubsub.subscribe(black_box(&topic), sinks[0]));
}

/// One message of a topic that so many sinks want.
#[divan::bench(args = [1, 2, 16])]
fn dispatch_one(bencher: Bencher<'_, '_>, wanted_by: usize) {
    let ((pubsub, sinks), topics) = (pubsub(wanted_by), topics());
    let _wishes: Vec<_> = sinks.iter().map(|&sink| pubsub.subscribe(&topics[0], sink)).collect();
    let messages = messages(&topics[..1]);
    bencher.bench(|| pubsub.dispatch(black_box(&messages)));
}

/// A message of every topic in one batch, each wanted by every sink.
#[divan::bench(args = [1, 2, 16])]
fn dispatch_all(bencher: Bencher<'_, '_>, sinks: usize) {
    let ((pubsub, sinks), topics) = (pubsub(sinks), topics());
    let wish = |topic| sinks.iter().map(|&sink| pubsub.subscribe(topic, sink)).collect::<Vec<_>>();
    let _wishes: Vec<_> = topics.iter().flat_map(wish).collect();
    let messages = messages(&topics);
    bencher.counter(ItemsCount::new(TOPICS)).bench(|| pubsub.dispatch(black_box(&messages)));
}

/// The same batch, and nobody wants it.
#[divan::bench]
fn dispatch_unwanted(bencher: Bencher<'_, '_>) {
    let ((pubsub, _), messages) = (pubsub(1), messages(&topics()));
    bencher.counter(ItemsCount::new(TOPICS)).bench(|| pubsub.dispatch(black_box(&messages)));
}
