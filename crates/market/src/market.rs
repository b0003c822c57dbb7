//! The market of this node: the handle that everybody uses.

use std::{collections::BTreeMap, fmt, hash::BuildHasher as _, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use tickwire_faults::{Unit, point};
use tickwire_pubsub::{EpochClock, Lane, Members, NodeId, Peers, PubSub, RequestError, Route};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{
    Answer, Batch, Clock, IngestReport, JoinSnapshot, Latest, MarketConfig, Rejected, Rejection, Resume, Since, State,
    Status, Symbol, UpdateTap,
    aggregator::{Aggregator, SymbolBudget},
    batch::{Indexed, Shares},
    metrics,
    shard::{Outlet, Shard, open_epoch},
    wire,
};

/// What the market needs of its surroundings.
#[derive(Debug)]
pub struct MarketSeams {
    /// Who owns which symbol.
    pub members: Arc<dyn Members>,
    /// The way to other owners.
    pub peers: Arc<dyn Peers>,
    /// Where updates are published.
    pub pubsub: PubSub,
    /// The time.
    pub clock: Clock,
    /// Who else sees every update that this node stamps.
    pub tap: Option<Arc<dyn UpdateTap>>,
}

/// A client joins a symbol.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    /// Which one.
    pub symbol: Symbol,
    /// The last update that the client saw, if it returns.
    pub since: Option<Since>,
    /// Whether all that it missed is to be merged into one update, because it has limited its rate.
    pub merge_missed: bool,
}

/// Why a join is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefusal {
    /// Only listed symbols are served, and this is none.
    #[error("unknown symbol")]
    UnknownSymbol,
}

/// Why there is no latest value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LatestError {
    /// Never quoted here, or not listed.
    #[error("unknown symbol")]
    UnknownSymbol,
    /// The owner did not answer.
    #[error("the symbol's owner cannot be reached")]
    OwnerUnreachable,
}

/// The market of this node. Cloning is cheap; all clones are one.
#[derive(Clone)]
pub struct Market(Arc<Inner>);

struct Inner {
    config: Arc<MarketConfig>,
    members: Arc<dyn Members>,
    peers: Arc<dyn Peers>,
    shards: Box<[Shard]>,
    budget: Arc<SymbolBudget>,
    outlet: Outlet,
    hasher: hashbrown::DefaultHashBuilder,
}

/// The quotes of a batch that go to one owner, by their place in the batch.
type Places = Vec<u32>;

/// How often silent symbols are looked for: often beside any sensible `stale_after`, seldom beside the quotes.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

impl Market {
    /// The most symbols that [`list`](Self::list) gives at once.
    pub const LIST_MAX: usize = 1_000;

    /// An empty market.
    #[must_use]
    pub fn new(config: MarketConfig, seams: MarketSeams) -> Self {
        let MarketSeams { members, peers, pubsub, clock, tap } = seams;
        let config = Arc::new(config);
        let budget = Arc::new(SymbolBudget::new(config.symbols_max));
        let epochs = EpochClock::new(members.local());
        let outlet = Outlet::new(pubsub, clock, epochs, tap);
        let now = outlet.clock.now();
        let shard = |_| {
            let epoch = open_epoch(&outlet, now);
            Shard::new(Aggregator::new(Arc::clone(&config), Arc::clone(&budget), epoch, now))
        };
        let shards = (0..config.shards.max(1)).map(shard).collect();
        Self(Arc::new(Inner { config, members, peers, shards, budget, outlet, hasher: Default::default() }))
    }

    /// Takes quotes in: those that this node owns at once, the others by their owners. Returns what became of each.
    ///
    /// May be dropped midway: what was asked of the owners is done all the same.
    pub async fn ingest(&self, batch: Batch) -> IngestReport {
        self.offer(batch).wait().await
    }

    /// As [`ingest`](Self::ingest), without waiting: when this returns, the quotes of this node are published and those of others on
    /// their way, in the order of the calls.
    pub fn offer(&self, batch: Batch) -> Answer<IngestReport> {
        let Batch { quotes, rejected, .. } = batch;
        note_rejected(&rejected);
        let mut report = IngestReport { rejected, ..IngestReport::default() };
        if self.0.outlet.pubsub.admit().is_err() {
            let busy = quotes.iter().map(|quote| Rejected { index: quote.index, rejection: Rejection::Busy });
            let turned_away: Vec<_> = busy.collect();
            note_rejected(&turned_away);
            report.rejected.extend(turned_away);
            return Answer::Ready(sorted(report));
        }
        let (local, remote) = self.split(&quotes);
        // The owners' answers take longest, so they are asked first.
        let asked: Vec<_> = remote.into_iter().map(|(owner, places)| self.forward(&owner, &quotes, &places)).collect();
        self.ingest_local(&quotes, local, &mut report);
        if asked.is_empty() {
            return Answer::Ready(sorted(report));
        }
        Answer::Waiting(Box::pin(async move {
            for answer in join_all(asked).await {
                report.accepted += answer.accepted;
                report.duplicates += answer.duplicates;
                report.rejected.extend(answer.rejected);
            }
            sorted(report)
        }))
    }

    /// The quotes of this node by shard, and those of others by owner; in each, the order of the batch stays.
    fn split(&self, quotes: &[Indexed]) -> (Shares, BTreeMap<NodeId, Places>) {
        let mut local = Shares::new(self.0.shards.len(), quotes.len());
        let mut remote = BTreeMap::<NodeId, Places>::new();
        for (quote, place) in quotes.iter().zip(0..) {
            let symbol = quote.quote.symbol();
            match self.0.members.route_of(symbol.as_str()) {
                Route::Local => local.push(self.shard_of(symbol), place),
                Route::Remote(owner) => remote.entry(owner).or_default().push(place),
            }
        }
        (local, remote)
    }

    fn ingest_local(&self, quotes: &[Indexed], shares: Shares, report: &mut IngestReport) {
        let before = report.rejected.len();
        for (shard, places) in shares.by_shard() {
            let quotes = places.iter().map(|&place| &quotes[place as usize]);
            self.0.shards[shard].ingest(quotes, &self.0.outlet, report);
        }
        metrics::taken(report.accepted - report.duplicates, report.duplicates);
        note_rejected(&report.rejected[before..]);
    }

    /// Asks an owner to take quotes; its answer comes with the places of the publisher's batch.
    fn forward(&self, owner: &NodeId, quotes: &[Indexed], places: &[u32]) -> BoxFuture<'static, IngestReport> {
        let indexes: Vec<u32> = places.iter().map(|&place| quotes[place as usize].index).collect();
        let request = wire::encode_forward(places.iter().map(|&place| &quotes[place as usize]));
        let answer = self.0.peers.request(owner, Lane::Ingest, request, self.0.config.owner_timeout);
        metrics::forwarded(indexes.len());
        let owner = owner.clone();
        Box::pin(async move {
            let reason = match answer.await {
                Ok(bytes) => match wire::decode_report(bytes, indexes.len()) {
                    Ok(mut report) => {
                        for rejected in &mut report.rejected {
                            rejected.index = indexes[rejected.index as usize];
                        }
                        return report;
                    }
                    Err(error) => {
                        tracing::warn!(%owner, %error, "an owner's answer to forwarded quotes makes no sense");
                        Rejection::OwnerUnreachable
                    }
                },
                Err(RequestError::Full) => Rejection::Busy,
                Err(RequestError::Unreachable | RequestError::Timeout) => Rejection::OwnerUnreachable,
            };
            let rejected: Vec<_> =
                indexes.into_iter().map(|index| Rejected { index, rejection: reason.clone() }).collect();
            note_rejected(&rejected);
            IngestReport { rejected, ..IngestReport::default() }
        })
    }

    /// What a client that joins gets. Subscribe first, then call this: what the snapshot contains is dropped from the stream by its
    /// [`floor`](JoinSnapshot::floor).
    ///
    /// If the owner does not answer in time, the answer is what this node knows by itself, marked stale.
    pub fn join(&self, request: JoinRequest) -> Answer<Result<JoinSnapshot, JoinRefusal>> {
        let JoinRequest { symbol, since, merge_missed } = request;
        if !self.0.config.symbols.take(&symbol) {
            return Answer::Ready(Err(JoinRefusal::UnknownSymbol));
        }
        let finish = move |mut snapshot: JoinSnapshot| {
            if merge_missed {
                snapshot.merge_missed();
            }
            snapshot
        };
        match self.0.members.route_of(symbol.as_str()) {
            Route::Local => Answer::Ready(Ok(finish(self.snapshot(&symbol, since.as_ref())))),
            Route::Remote(owner) => {
                let answer = self.ask_snapshot(&owner, &symbol, since.as_ref());
                let market = self.clone();
                Answer::Waiting(Box::pin(async move {
                    match answer.await {
                        Some(snapshot) => snapshot.map(finish).ok_or(JoinRefusal::UnknownSymbol),
                        None => Ok(market.own_stale_snapshot(&symbol)),
                    }
                }))
            }
        }
    }

    /// A snapshot by this node as the owner.
    fn snapshot(&self, symbol: &Symbol, since: Option<&Since>) -> JoinSnapshot {
        let now = self.0.outlet.clock.now();
        let snapshot = self.0.shards[self.shard_of(symbol)].state().snapshot(symbol, since, now);
        metrics::snapshot(snapshot.resume);
        snapshot
    }

    /// What this node knows of a symbol whose owner is silent. It has no floor: whatever the owner sends next is news.
    fn own_stale_snapshot(&self, symbol: &Symbol) -> JoinSnapshot {
        let now = self.0.outlet.clock.now();
        let mut snapshot = self.0.shards[self.shard_of(symbol)].state().snapshot(symbol, None, now);
        (snapshot.floor, snapshot.resume) = (None, Resume::OwnerUnreachable);
        if snapshot.status.state != State::Stale {
            snapshot.status = Status { state: State::Stale, since_us: now.unix_us };
        }
        metrics::snapshot(snapshot.resume);
        snapshot
    }

    /// Asks an owner for a snapshot: `None` if it does not answer, `Some(None)` if it does not serve the symbol.
    fn ask_snapshot(
        &self,
        owner: &NodeId,
        symbol: &Symbol,
        since: Option<&Since>,
    ) -> BoxFuture<'static, Option<Option<JoinSnapshot>>> {
        let request = wire::encode_snapshot_request(symbol, since);
        // The lane of interest: the owner knows that this node listens before it takes the snapshot.
        let answer = self.0.peers.request(owner, Lane::Control, request, self.0.config.owner_timeout);
        let (market, owner) = (self.clone(), owner.clone());
        Box::pin(async move {
            match wire::decode_snapshot(answer.await.ok()?) {
                Ok(snapshot) => {
                    if let Some(floor) = snapshot.as_ref().and_then(|snapshot| snapshot.floor) {
                        market.0.outlet.epochs.observe(floor.epoch);
                    }
                    Some(snapshot)
                }
                Err(error) => {
                    tracing::warn!(%owner, %error, "an owner's snapshot makes no sense");
                    None
                }
            }
        })
    }

    /// The newest value of a symbol.
    pub fn latest(&self, symbol: &Symbol) -> Answer<Result<Latest, LatestError>> {
        match self.0.members.route_of(symbol.as_str()) {
            Route::Local => {
                let now = self.0.outlet.clock.now();
                let latest = self.0.shards[self.shard_of(symbol)].state().latest(symbol.as_str(), now);
                Answer::Ready(latest.ok_or(LatestError::UnknownSymbol))
            }
            Route::Remote(owner) => {
                let answer = self.ask_snapshot(&owner, symbol, None);
                let symbol = symbol.clone();
                Answer::Waiting(Box::pin(async move {
                    let snapshot = answer.await.ok_or(LatestError::OwnerUnreachable)?;
                    let JoinSnapshot { quote, status, age, .. } = snapshot.ok_or(LatestError::UnknownSymbol)?;
                    let (quote, age) = quote.zip(age).ok_or(LatestError::UnknownSymbol)?;
                    Ok(Latest { symbol, quote, status, age })
                }))
            }
        }
    }

    /// The newest values of this node's symbols in the order of their names: at most `limit`, and at most [`LIST_MAX`](Self::LIST_MAX),
    /// of those after `after`.
    #[must_use]
    pub fn list(&self, after: Option<&str>, limit: usize) -> Vec<Latest> {
        let limit = limit.min(Self::LIST_MAX);
        let mut names = Vec::new();
        for shard in &self.0.shards {
            names.extend(shard.state().quoted_after(after).take(limit).cloned());
        }
        names.sort_unstable();
        names.truncate(limit);
        let now = self.0.outlet.clock.now();
        let latest = |symbol: &Symbol| self.0.shards[self.shard_of(symbol)].state().latest(symbol.as_str(), now);
        names.iter().filter_map(latest).collect()
    }

    /// Answers a request of another node's market. The work is done when this returns, so that requests take effect in the order of the
    /// calls; the future only carries the answer. What makes no sense is answered by nothing.
    pub fn handle_request(&self, from: &NodeId, request: Bytes) -> BoxFuture<'static, Bytes> {
        let answer = match wire::decode_request(request) {
            Ok(wire::Request::Forward(batch)) => wire::encode_report(&self.take_forwarded(batch)),
            Ok(wire::Request::Snapshot { symbol, since }) => {
                let served = self.0.config.symbols.take(&symbol);
                wire::encode_snapshot(served.then(|| self.snapshot(&symbol, since.as_ref())))
            }
            Err(error) => {
                tracing::warn!(%from, %error, "a peer's request makes no sense");
                Bytes::new()
            }
        };
        Box::pin(std::future::ready(answer))
    }

    /// Takes what a peer sent here. A quote is sent on once at most: what this node does not own either goes back.
    fn take_forwarded(&self, batch: Batch) -> IngestReport {
        let Batch { quotes, rejected, .. } = batch;
        let mut report = IngestReport { rejected, ..IngestReport::default() };
        let busy = self.0.outlet.pubsub.admit().is_err();
        let mut owned = Shares::new(self.0.shards.len(), quotes.len());
        for (quote, place) in quotes.iter().zip(0..) {
            let symbol = quote.quote.symbol();
            match self.0.members.route_of(symbol.as_str()) {
                Route::Remote(_) => report.reject(quote.index, Rejection::NotOwner),
                Route::Local if busy => report.reject(quote.index, Rejection::Busy),
                Route::Local => owned.push(self.shard_of(symbol), place),
            }
        }
        note_rejected(&report.rejected);
        self.ingest_local(&quotes, owned, &mut report);
        report
    }

    /// Marks silent symbols stale, lets go of what is too old and reports what is kept. [`run`](Self::run) calls it.
    pub fn sweep(&self) {
        let (mut live, mut ring_bytes) = (0, 0);
        for shard in &self.0.shards {
            shard.sweep(&self.0.outlet);
            let state = shard.state();
            live += state.live();
            ring_bytes += state.ring_bytes();
        }
        metrics::kept(self.symbols(), live, ring_bytes);
    }

    /// Sweeps until told to end.
    pub async fn run(self, cancel: CancellationToken) {
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
            point(Unit::Upkeep, || "market sweep");
            self.sweep();
        }
    }

    /// Whether its shards crash no more often than a node that is well may.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        !self.0.outlet.crashes.is_exhausted(std::time::Instant::now())
    }

    /// How many symbols this node keeps.
    #[must_use]
    pub fn symbols(&self) -> usize {
        self.0.budget.taken()
    }

    /// The bounds and rules that are in force.
    #[must_use]
    pub fn config(&self) -> &MarketConfig {
        &self.0.config
    }

    fn shard_of(&self, symbol: &Symbol) -> usize {
        let shard = self.0.hasher.hash_one(symbol.as_str()) % self.0.shards.len() as u64;
        usize::try_from(shard).expect("below the number of shards")
    }
}

/// Counts what was not taken, and says why to those who look closely.
fn note_rejected(rejected: &[Rejected]) {
    metrics::rejected(rejected);
    for Rejected { index, rejection } in rejected {
        tracing::debug!(index, code = rejection.code(), %rejection, "a quote was not taken");
    }
}

fn sorted(mut report: IngestReport) -> IngestReport {
    report.rejected.sort_by_key(|rejected| rejected.index);
    report
}

impl fmt::Debug for Market {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Market").field("symbols", &self.symbols()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
