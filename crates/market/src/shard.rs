//! A part of the symbols behind one lock, and the edge at which its crashes are caught.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use tickwire_faults::{Unit, point};
use tickwire_pubsub::{Broadcast, CrashBudget, EpochClock, Payload, PubSub, Role, Topic};

use crate::{
    Clock, IngestReport, Moment, Rejection, TapUpdate, UpdateTap,
    aggregator::{Aggregator, Applied},
    batch::Indexed,
    metrics,
    publication::{Publication, Publications},
    unit::panic_text,
};

/// Crashes of shards that a node may have within ten minutes and still be trusted with new clients: each of them makes the clients of all
/// of the shard's symbols begin anew.
const CRASHES_MAX: u32 = 100;

/// What a shard needs of its surroundings.
pub(crate) struct Outlet {
    pub(crate) pubsub: PubSub,
    pub(crate) clock: Clock,
    pub(crate) epochs: EpochClock,
    pub(crate) tap: Option<Arc<dyn UpdateTap>>,
    pub(crate) crashes: CrashBudget,
    update: Arc<str>,
    snapshot: Arc<str>,
    status: Arc<str>,
}

impl Outlet {
    pub(crate) fn new(pubsub: PubSub, clock: Clock, epochs: EpochClock, tap: Option<Arc<dyn UpdateTap>>) -> Self {
        let [update, snapshot, status] = ["update", "snapshot", "status"].map(Arc::from);
        Self { pubsub, clock, epochs, tap, crashes: CrashBudget::new(CRASHES_MAX), update, snapshot, status }
    }

    /// Publishes, or says what the panic said. Who has got what is not known then.
    fn try_publish(&self, publications: Vec<Publication>, now: Moment) -> Result<(), String> {
        catch_unwind(AssertUnwindSafe(|| self.publish(publications, now))).map_err(|panic| panic_text(&*panic))
    }

    fn publish(&self, publications: Vec<Publication>, now: Moment) {
        if publications.is_empty() {
            return;
        }
        point(Unit::Publish, || publications.first().map(|first| first.topic.to_string()).unwrap_or_default());
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

    /// After a crash of a shard: counts and tells it, and begins a new epoch.
    fn reopen(&self, aggregator: &mut Aggregator, now: Moment, panic: &str, publications: &mut Publications<'_>) {
        metrics::shard_restarted();
        if self.crashes.crashed(now.instant) {
            tracing::error!(panic, "a shard crashed and goes on in a new epoch");
        }
        aggregator.reopen(open_epoch(self, now), now, publications);
    }

    fn tap(&self, updates: &[TapUpdate]) {
        let Some(tap) = &self.tap else { return };
        // The updates are published: whatever a derived computation does with them, the quotes flow on.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| tap.offer(updates)))
            && self.crashes.crashed(std::time::Instant::now())
        {
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
        let wanted = |topic: &Topic| outlet.pubsub.wants(topic);
        let mut publications = Publications::new(&wanted);
        let mut tapped = Vec::with_capacity(if outlet.tap.is_some() { quotes.len() } else { 0 });
        let mut aggregator = self.0.lock();
        // Read once the shard is held: acceptance times rise with the stamps.
        let now = outlet.clock.now();
        for Indexed { index, quote } in quotes {
            let whole = publications.len();
            let applied = catch_unwind(AssertUnwindSafe(|| {
                point(Unit::Shard, || quote.symbol());
                aggregator.apply(quote, now, &mut publications)
            }));
            match applied {
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
                    // What was stamped before the crash is good; what the crashing quote left half done is not.
                    publications.truncate(whole);
                    outlet.reopen(&mut aggregator, now, &panic_text(&*panic), &mut publications);
                    report.reject(*index, Rejection::Internal);
                }
            }
        }
        if let Err(panic) = outlet.try_publish(publications.take(), now) {
            // The values are taken; whoever has missed one learns all of them from the new epoch's snapshots.
            outlet.reopen(&mut aggregator, now, &panic, &mut publications);
            if outlet.try_publish(publications.take(), now).is_err() {
                outlet.crashes.crashed(now.instant);
            }
        }
        if !tapped.is_empty() {
            outlet.tap(&tapped);
        }
    }

    /// Marks silent symbols stale and lets go of what is too old.
    pub(crate) fn sweep(&self, outlet: &Outlet) {
        let wanted = |topic: &Topic| outlet.pubsub.wants(topic);
        let mut publications = Publications::new(&wanted);
        let mut aggregator = self.0.lock();
        let now = outlet.clock.now();
        aggregator.sweep(now, &mut publications);
        outlet.publish(publications.take(), now);
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
