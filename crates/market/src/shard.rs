//! A part of the symbols behind one lock, and the edge at which its crashes are caught.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use tickwire_pubsub::{Broadcast, EpochClock, Payload, PubSub, Role};

use crate::{
    Clock, IngestReport, Moment, Rejection, TapUpdate, UpdateTap,
    aggregator::{Aggregator, Applied, Publication},
    batch::Indexed,
    metrics,
    unit::panic_text,
};

/// What a shard needs of its surroundings.
pub(crate) struct Outlet {
    pub(crate) pubsub: PubSub,
    pub(crate) clock: Clock,
    pub(crate) epochs: EpochClock,
    pub(crate) tap: Option<Arc<dyn UpdateTap>>,
    update: Arc<str>,
    snapshot: Arc<str>,
    status: Arc<str>,
}

impl Outlet {
    pub(crate) fn new(pubsub: PubSub, clock: Clock, epochs: EpochClock, tap: Option<Arc<dyn UpdateTap>>) -> Self {
        let [update, snapshot, status] = ["update", "snapshot", "status"].map(Arc::from);
        Self { pubsub, clock, epochs, tap, update, snapshot, status }
    }

    fn publish(&self, publications: Vec<Publication>, now: Moment) {
        let broadcasts: Vec<_> = publications
            .into_iter()
            .map(|Publication { topic, role, payload, stamp }| {
                let event = match role {
                    Role::Update => &self.update,
                    Role::Snapshot => &self.snapshot,
                    Role::Status => &self.status,
                };
                let payload = Payload::Json(payload);
                Arc::new(Broadcast::latest(topic, Arc::clone(event), payload, role, stamp, now.instant))
            })
            .collect();
        self.pubsub.broadcast(&broadcasts);
    }

    fn tap(&self, updates: &[TapUpdate]) {
        let Some(tap) = &self.tap else { return };
        // The updates are published: whatever a derived computation does with them, the quotes flow on.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| tap.offer(updates))) {
            tracing::error!(panic = panic_text(&*panic), "a derived computation crashed while it took updates");
        }
    }
}

/// Some of the symbols. Whoever brings quotes applies, stamps and publishes them while holding the shard, so that the order of stamps is
/// the order of publication.
pub(crate) struct Shard(Mutex<Aggregator>);

impl Shard {
    pub(crate) fn new(aggregator: Aggregator) -> Self {
        Self(Mutex::new(aggregator))
    }

    /// Looks at the shard between two batches.
    pub(crate) fn state(&self) -> MutexGuard<'_, Aggregator> {
        self.0.lock()
    }

    /// Applies quotes in order and publishes what follows from them.
    pub(crate) fn ingest<'a>(
        &self,
        quotes: impl ExactSizeIterator<Item = &'a Indexed>,
        outlet: &Outlet,
        report: &mut IngestReport,
    ) {
        let mut publications = Vec::with_capacity(quotes.len());
        let mut tapped = Vec::with_capacity(if outlet.tap.is_some() { quotes.len() } else { 0 });
        let mut aggregator = self.0.lock();
        // Read once the shard is held: acceptance times rise with the stamps.
        let now = outlet.clock.now();
        for Indexed { index, quote } in quotes {
            let whole = publications.len();
            match catch_unwind(AssertUnwindSafe(|| aggregator.apply(quote, now, &mut publications))) {
                Ok(Ok(Applied::Stamped(slot))) => {
                    report.accepted += 1;
                    if outlet.tap.is_some() {
                        tapped.push(aggregator.tap_update(slot));
                    }
                }
                Ok(Ok(Applied::Duplicate)) => {
                    report.accepted += 1;
                    report.duplicates += 1;
                }
                Ok(Err(rejection)) => report.reject(*index, rejection),
                Err(panic) => {
                    let panic = panic_text(&*panic);
                    tracing::error!(symbol = %quote.symbol(), panic, "a shard crashed and goes on in a new epoch");
                    metrics::shard_restarted();
                    // What was stamped before the crash is good; what the crashing quote left half done is not.
                    publications.truncate(whole);
                    aggregator.reopen(open_epoch(outlet, now), now, &mut publications);
                    report.reject(*index, Rejection::Internal);
                }
            }
        }
        if !publications.is_empty() {
            outlet.publish(publications, now);
        }
        if !tapped.is_empty() {
            outlet.tap(&tapped);
        }
    }

    /// Marks silent symbols stale and lets go of what is too old.
    pub(crate) fn sweep(&self, outlet: &Outlet) {
        let mut publications = Vec::new();
        let mut aggregator = self.0.lock();
        let now = outlet.clock.now();
        aggregator.sweep(now, &mut publications);
        if !publications.is_empty() {
            outlet.publish(publications, now);
        }
    }
}

/// Opens an epoch at a moment.
pub(crate) fn open_epoch(outlet: &Outlet, now: Moment) -> tickwire_pubsub::Epoch {
    outlet.epochs.open(now.unix_us.unsigned_abs())
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shard")
    }
}
