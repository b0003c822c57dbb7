//! What a worker's turn costs without its sockets: a batch of updates of one topic, owed by every joined socket and written once to each.
//!
//! The outbox is private. A feature shows one turn of it (`testing::Turns`), rather than the outbox itself, whose shape is nobody else's
//! business and changes.

use std::{
    io::{self, Write},
    sync::Arc,
    time::Instant,
};

use divan::{Bencher, counter::ItemsCount};
use tickwire_channels::{WireFormat, testing::Turns};
use tickwire_pubsub::{Broadcast, Epoch, Payload, Role, Stamp, Topic};

/// Allocations are counted beside the time.
#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

const SOCKETS: usize = 1_000;

/// A socket that takes nothing.
struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Updates of one topic, one after the other for ever.
struct Updates {
    topic: Topic,
    event: Arc<str>,
    payload: Payload,
    seq: u64,
}

impl Updates {
    fn new() -> Self {
        let topic = Topic::new("ticker:EURUSD").expect("a good topic");
        let payload = Payload::Json(format!(r#"{{"symbol":"EURUSD","bid":"{}"}}"#, "1".repeat(150)).into());
        Self { topic, event: "update".into(), payload, seq: 0 }
    }

    fn next(&mut self, count: usize) -> Vec<Arc<Broadcast>> {
        let now = Instant::now();
        let update = || {
            self.seq += 1;
            let stamp = Stamp { epoch: Epoch::default(), seq: self.seq };
            let (topic, event) = (self.topic.clone(), Arc::clone(&self.event));
            Arc::new(Broadcast::latest(topic, event, self.payload.clone(), Role::Update, stamp, now))
        };
        std::iter::repeat_with(update).take(count).collect()
    }
}

/// Sockets that keep up.
#[divan::bench(args = [1, 16])]
fn offer_and_write(bencher: Bencher<'_, '_>, updates: usize) {
    let (mut turns, mut source) = (Turns::joined(SOCKETS, WireFormat::V2), Updates::new());
    bencher
        .counter(ItemsCount::new(SOCKETS * updates))
        .with_inputs(|| source.next(updates))
        .bench_local_values(|batch| turns.turn(&batch, &mut io::sink()));
}

/// Sockets that take nothing any more: each update takes the place of the one that waits.
#[divan::bench(args = [1, 16])]
fn conflate_blocked(bencher: Bencher<'_, '_>, updates: usize) {
    let (mut turns, mut source) = (Turns::joined(SOCKETS, WireFormat::V2), Updates::new());
    turns.turn(&source.next(1), &mut Full);
    bencher
        .counter(ItemsCount::new(SOCKETS * updates))
        .with_inputs(|| source.next(updates))
        .bench_local_values(|batch| turns.turn(&batch, &mut Full));
}
