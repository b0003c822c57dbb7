//! The state of a shard's symbols and the only place that stamps. Pure: time comes in, publications come out.

use std::{
    cell::OnceCell,
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use hashbrown::HashMap;
use tickwire_pubsub::{Epoch, EpochTag, Role, Stamp, Topic};

use crate::{
    JoinSnapshot, Latest, MarketConfig, Moment, OutOfOrder, Quote, Rejection, Resume, Since, State, Status, Symbol,
    TapUpdate,
    dedupe::{PublisherMarks, RecentIds},
    publication::Publications,
    ring::Ring,
    value::Value,
};

/// What became of a quote that was not rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It got a stamp; the slot is its symbol's.
    Stamped(Slot),
    /// It came before and changed nothing.
    Duplicate,
}

/// A symbol's place in its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(u32);

/// How many symbols all shards together may still take.
#[derive(Debug)]
pub(crate) struct SymbolBudget {
    limit: usize,
    taken: AtomicUsize,
}

impl SymbolBudget {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, taken: AtomicUsize::new(0) }
    }

    fn take(&self) -> Result<(), Rejection> {
        let more = |taken: usize| (taken < self.limit).then_some(taken + 1);
        match self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(()),
            Err(_) => Err(Rejection::TooManySymbols { limit: self.limit }),
        }
    }

    /// How many symbols there are.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// Room for the text of nearly every update.
const TEXT_BYTES: usize = 256;

#[derive(Debug)]
struct SymbolState {
    symbol: Symbol,
    topic: Topic,
    value: Value,
    /// The value's text, once somebody asked for it: the next one who joins gets the same.
    shown: OnceCell<Bytes>,
    stamp: Stamp,
    tag: EpochTag,
    ring: Ring,
    marks: PublisherMarks,
    accepted: Moment,
    status: Status,
}

impl SymbolState {
    fn set_state(&mut self, state: State, since_us: i64, out: &mut Publications<'_>) {
        self.status = Status { state, since_us };
        out.push(&self.topic, Role::Status, self.stamp, || self.status.to_json());
    }

    /// The text of an update of this symbol and epoch.
    fn text(&self, seq: u64, value: &Value) -> Bytes {
        value.to_json(&mut Vec::with_capacity(TEXT_BYTES), &self.symbol, seq, &self.tag)
    }

    /// The value's text; `None` until the first quote is taken.
    fn shown(&self) -> Option<Bytes> {
        let known = self.value.is_known();
        known.then(|| self.shown.get_or_init(|| self.text(self.stamp.seq, &self.value)).clone())
    }

    fn snapshot(&self, now: Moment) -> JoinSnapshot {
        JoinSnapshot {
            quote: self.shown(),
            epoch: self.tag,
            seq: self.stamp.seq,
            floor: Some(self.stamp),
            resume: Resume::NotAsked,
            missed: Vec::new(),
            status: self.status,
            age: self.value.is_known().then(|| now.since(self.accepted)),
        }
    }

    /// The updates after `since`, if every one of them is there.
    fn missed(&self, since: &Since, resume_max: usize) -> Result<Vec<Bytes>, Resume> {
        if since.epoch() != self.tag.as_str() {
            return Err(Resume::OtherEpoch);
        }
        let missed = self.stamp.seq.checked_sub(since.seq()).ok_or(Resume::Ahead)?;
        if missed > resume_max as u64 {
            return Err(Resume::TooMany);
        }
        let kept = self.ring.after(since.seq()).ok_or(Resume::RingExceeded)?;
        Ok(kept.map(|(seq, value)| self.text(seq, value)).collect())
    }
}

/// The symbols of a shard.
#[derive(Debug)]
pub(crate) struct Aggregator {
    config: Arc<MarketConfig>,
    budget: Arc<SymbolBudget>,
    /// The epoch that new symbols start in. Joins of symbols that were never quoted are told this one, so that they need no state.
    epoch: Epoch,
    tag: EpochTag,
    opened: Moment,
    /// Whether an epoch came before: clients that joined a symbol before its first quote may have been told that one.
    reopened: bool,
    index: HashMap<Symbol, u32>,
    /// The same in order, so that a page of the list costs what it holds and not what there is: everybody may ask for pages.
    names: BTreeMap<Symbol, u32>,
    symbols: Vec<SymbolState>,
    ids: RecentIds,
    ring_bytes: usize,
    /// The symbol that next gives up its oldest update when the rings take too much room together.
    hand: usize,
    scratch: Vec<u8>,
    /// Quotes of this symbol crash the shard when they have half changed it.
    #[cfg(test)]
    pub(crate) crash_on: Option<Symbol>,
}

impl Aggregator {
    pub(crate) fn new(config: Arc<MarketConfig>, budget: Arc<SymbolBudget>, epoch: Epoch, now: Moment) -> Self {
        let ids = RecentIds::new(config.ids_max.div_ceil(config.shards.max(1)), config.ids_age);
        Self {
            config,
            budget,
            epoch,
            tag: epoch.tag(),
            opened: now,
            reopened: false,
            index: HashMap::new(),
            names: BTreeMap::new(),
            symbols: Vec::new(),
            ids,
            ring_bytes: 0,
            hand: 0,
            scratch: Vec::new(),
            #[cfg(test)]
            crash_on: None,
        }
    }

    /// Applies a quote: checks it against what is known, stamps it, keeps it, and says what must be published.
    ///
    /// The update goes out before the `ok` that ends staleness: an old price is at no time shown as live.
    pub(crate) fn apply(
        &mut self,
        quote: &Quote,
        now: Moment,
        out: &mut Publications<'_>,
    ) -> Result<Applied, Rejection> {
        let ahead_max = i64::try_from(self.config.ts_ahead_max.as_micros()).unwrap_or(i64::MAX);
        if let Some(ts) = quote.ts().filter(|ts| *ts > now.unix_us.saturating_add(ahead_max)) {
            let problem = "is too far ahead of the node's clock (market.ts_ahead_max)";
            return Err(Rejection::ts(problem, ts.to_string().as_bytes()));
        }
        let slot = self.slot(quote.symbol(), now, out)?;
        let state = &self.symbols[slot as usize];
        let known_id = quote.id().is_some_and(|id| self.ids.contains(slot, id));
        if known_id || quote.mark().is_some_and(|mark| state.marks.covers(mark)) {
            return Ok(Applied::Duplicate);
        }
        if let (Some(seen), Some(current)) = (quote.ts(), state.value.ts)
            && seen < current
            && self.config.out_of_order == OutOfOrder::Reject
        {
            return Err(Rejection::OutOfOrder { seen, current });
        }
        self.stamp(slot, quote, now, out);
        if let Some(id) = quote.id() {
            self.ids.insert(slot, id, now.instant);
        }
        Ok(Applied::Stamped(Slot(slot)))
    }

    fn stamp(&mut self, slot: u32, quote: &Quote, now: Moment, out: &mut Publications<'_>) {
        let state = &mut self.symbols[slot as usize];
        let value = state.value.with(quote);
        let stamp = Stamp { seq: state.stamp.seq + 1, ..state.stamp };
        let ring_bytes = state.ring.bytes();
        state.ring.push(value, now.instant, self.config.ring);
        state.ring.expire(now.instant, self.config.ring_age);
        self.ring_bytes = self.ring_bytes - ring_bytes + state.ring.bytes();
        #[cfg(test)]
        assert!(self.crash_on.as_ref() != Some(&state.symbol), "told to crash");
        (state.value, state.stamp, state.accepted) = (value, stamp, now);
        state.shown.take();
        if let Some(mark) = quote.mark() {
            state.marks.note(mark);
        }
        let scratch = &mut self.scratch;
        out.push(&state.topic, Role::Update, stamp, || value.to_json(scratch, &state.symbol, stamp.seq, &state.tag));
        if state.status.state != State::Ok {
            state.set_state(State::Ok, now.unix_us, out);
        }
        self.bound_rings();
    }

    /// The place of a symbol, a new one if need be.
    fn slot(&mut self, symbol: &Symbol, now: Moment, out: &mut Publications<'_>) -> Result<u32, Rejection> {
        if let Some(&slot) = self.index.get(symbol) {
            return Ok(slot);
        }
        if !self.config.symbols.take(symbol) {
            return Err(Rejection::UnknownSymbol(symbol.clone()));
        }
        self.budget.take()?;
        let slot =
            u32::try_from(self.symbols.len()).map_err(|_| Rejection::TooManySymbols { limit: self.symbols.len() })?;
        let state = SymbolState {
            symbol: symbol.clone(),
            topic: symbol.ticker_topic(),
            value: Value::default(),
            shown: OnceCell::new(),
            stamp: Stamp { epoch: self.epoch, seq: 0 },
            tag: self.tag,
            ring: Ring::default(),
            marks: PublisherMarks::default(),
            accepted: now,
            status: Status { state: State::Stale, since_us: self.opened.unix_us },
        };
        if self.reopened {
            out.push(&state.topic, Role::Snapshot, state.stamp, || state.snapshot(now).to_json());
        }
        self.symbols.push(state);
        self.index.insert(symbol.clone(), slot);
        self.names.insert(symbol.clone(), slot);
        Ok(slot)
    }

    /// Lets one symbol after the other give up its oldest update until all rings together take no more room than they may.
    fn bound_rings(&mut self) {
        let limit = self.config.ring_bytes / self.config.shards.max(1);
        while self.ring_bytes > limit {
            self.hand = (self.hand + 1) % self.symbols.len();
            let ring = &mut self.symbols[self.hand].ring;
            let before = ring.bytes();
            ring.pop();
            self.ring_bytes -= before - ring.bytes();
        }
    }

    /// Marks silent symbols stale and lets go of what is too old to be kept.
    pub(crate) fn sweep(&mut self, now: Moment, out: &mut Publications<'_>) {
        let mut ring_bytes = 0;
        for state in &mut self.symbols {
            state.ring.expire(now.instant, self.config.ring_age);
            ring_bytes += state.ring.bytes();
            if state.status.state == State::Ok && now.since(state.accepted) >= self.config.stale_after {
                state.set_state(State::Stale, state.accepted.unix_us, out);
            }
        }
        self.ring_bytes = ring_bytes;
        self.ids.expire(now.instant);
    }

    /// Goes on in a new epoch from the values as they are, after a crash that may have left a symbol half changed: no stamp of the old
    /// epoch is given any more.
    pub(crate) fn reopen(&mut self, epoch: Epoch, now: Moment, out: &mut Publications<'_>) {
        (self.epoch, self.tag, self.opened, self.reopened) = (epoch, epoch.tag(), now, true);
        self.ring_bytes = 0;
        for state in &mut self.symbols {
            state.stamp = Stamp { epoch, seq: 0 };
            state.tag = self.tag;
            state.ring = Ring::default();
            state.shown.take();
            out.push(&state.topic, Role::Snapshot, state.stamp, || state.snapshot(now).to_json());
        }
    }

    /// What a client that joins gets: the newest value and, if it can, all that the client missed.
    pub(crate) fn snapshot(&self, symbol: &Symbol, since: Option<&Since>, now: Moment) -> JoinSnapshot {
        let Some(state) = self.state(symbol) else { return self.empty_snapshot(since) };
        let mut snapshot = state.snapshot(now);
        if let Some(since) = since {
            match state.missed(since, self.config.resume_max) {
                Ok(missed) => (snapshot.resume, snapshot.missed) = (Resume::Recovered, missed),
                Err(reason) => snapshot.resume = reason,
            }
        }
        snapshot
    }

    /// The snapshot of a symbol that was never quoted: its first update will be the first of the shard's epoch.
    fn empty_snapshot(&self, since: Option<&Since>) -> JoinSnapshot {
        let resume = match since {
            None => Resume::NotAsked,
            Some(since) if since.epoch() != self.tag.as_str() => Resume::OtherEpoch,
            Some(since) if since.seq() > 0 => Resume::Ahead,
            Some(_) => Resume::Recovered,
        };
        JoinSnapshot {
            quote: None,
            epoch: self.tag,
            seq: 0,
            floor: Some(Stamp { epoch: self.epoch, seq: 0 }),
            resume,
            missed: Vec::new(),
            status: Status { state: State::Stale, since_us: self.opened.unix_us },
            age: None,
        }
    }

    /// The newest value of a symbol; `None`: never quoted.
    pub(crate) fn latest(&self, symbol: &str, now: Moment) -> Option<Latest> {
        let state = &self.symbols[*self.index.get(symbol)? as usize];
        let quote = state.shown()?;
        Some(Latest { symbol: state.symbol.clone(), quote, status: state.status, age: now.since(state.accepted) })
    }

    /// The symbols that were quoted and whose names come after the given one, in order.
    pub(crate) fn quoted_after(&self, after: Option<&str>) -> impl Iterator<Item = &Symbol> {
        let names = self.names.range::<str, _>((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        names.filter(|(_, slot)| self.symbols[**slot as usize].value.is_known()).map(|(symbol, _)| symbol)
    }

    /// The symbol's newest update as derived computations see it.
    pub(crate) fn tap_update(&self, slot: Slot) -> TapUpdate {
        let state = &self.symbols[slot.0 as usize];
        TapUpdate {
            symbol: state.symbol.clone(),
            stamp: state.stamp,
            bid: state.value.sides.bid,
            ask: state.value.sides.ask,
            ts: state.value.ts,
            accepted_us: state.accepted.unix_us,
        }
    }

    /// How many bytes the kept updates take.
    pub(crate) fn ring_bytes(&self) -> usize {
        self.ring_bytes
    }

    /// How many symbols were quoted of late.
    pub(crate) fn live(&self) -> usize {
        self.symbols.iter().filter(|state| state.status.state == State::Ok).count()
    }

    fn state(&self, symbol: &Symbol) -> Option<&SymbolState> {
        self.index.get(symbol).map(|&slot| &self.symbols[slot as usize])
    }
}

#[cfg(test)]
mod tests;
