//! Turns of a worker without its sockets, for the micro-benchmarks.

use std::{fmt, io::Write, sync::Arc, time::Instant};

use tickwire_pubsub::{Broadcast, OriginId, Stamp, Track};

use crate::{
    outbox::{Bursts, Outbox, Tally},
    serializer::WireFormat,
};

/// Sockets that have joined one topic, and what was published on it.
pub struct Turns {
    outboxes: Vec<Outbox>,
    track: Track,
    bursts: Bursts,
    tally: Tally,
}

impl Turns {
    /// So many sockets, joined before the first update of the first epoch.
    #[must_use]
    pub fn joined(sockets: usize, format: WireFormat) -> Self {
        let (mut track, now, floor) = (Track::default(), Instant::now(), Some(Stamp::default()));
        let socket = || {
            let mut outbox = Outbox::new(format);
            outbox.open(0, OriginId(0));
            outbox.start(0, track.join(floor), floor, None, now);
            outbox
        };
        let outboxes = std::iter::repeat_with(socket).take(sockets).collect();
        Self { outboxes, track, bursts: Bursts::default(), tally: Tally::default() }
    }

    /// Takes a batch of updates and writes to each socket once, as a worker does in one turn.
    ///
    /// # Panics
    /// If the writer is broken.
    pub fn turn(&mut self, batch: &[Arc<Broadcast>], socket: &mut impl Write) {
        let Self { outboxes, track, bursts, tally } = self;
        let mut updates = batch.iter().filter_map(|message| Some((message, track.receive(message.stamp?)?)));
        let Some((first, number)) = updates.next() else { return };
        let burst = bursts.begin(Arc::clone(first), number, false);
        for (message, number) in updates {
            bursts.extend(burst, message, number);
        }
        let now = Instant::now();
        for outbox in &mut *outboxes {
            if outbox.owe(0, burst, bursts) {
                continue;
            }
            let messages = (0..).map_while(|index| bursts.message(burst, index));
            for (message, number, since) in messages {
                outbox.offer(0, &message, number, since, now);
            }
        }
        for outbox in outboxes {
            if !outbox.is_blocked() {
                outbox.write(socket, bursts, tally).expect("a writer of a benchmark takes all or nothing");
            }
        }
        bursts.end(tally);
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns").field("sockets", &self.outboxes.len()).finish_non_exhaustive()
    }
}
