//! The metrics that the market itself emits.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::{Rejected, Resume};

/// Quotes that this node stamped.
pub const QUOTES_INGESTED: &str = "tickwire_quotes_ingested_total";
/// Quotes that were not taken, by `reason`: the code of the rejection. Counted where the reason arose.
pub const QUOTES_REJECTED: &str = "tickwire_quotes_rejected_total";
/// Quotes that had come before.
pub const QUOTES_DUPLICATE: &str = "tickwire_quotes_duplicate_total";
/// Quotes sent on to the node that owns their symbol.
pub const QUOTES_FORWARDED: &str = "tickwire_quotes_forwarded_total";
/// Symbols that this node keeps.
pub const SYMBOLS: &str = "tickwire_symbols";
/// Symbols whose value is live.
pub const SYMBOLS_LIVE: &str = "tickwire_symbols_live";
/// Bytes that the updates kept for resuming clients take.
pub const RING_BYTES: &str = "tickwire_ring_bytes";
/// Shards that crashed and went on in a new epoch.
pub const SHARD_RESTARTS: &str = "tickwire_shard_restarts_total";
/// Snapshots given to joining clients, by `resume`: how the resume ended.
pub const SNAPSHOTS: &str = "tickwire_snapshots_total";

/// Describes them to the exporter.
pub fn describe() {
    describe_counter!(QUOTES_INGESTED, Unit::Count, "Quotes stamped by this node");
    describe_counter!(QUOTES_REJECTED, Unit::Count, "Quotes not taken, by reason");
    describe_counter!(QUOTES_DUPLICATE, Unit::Count, "Quotes that had come before and changed nothing");
    describe_counter!(QUOTES_FORWARDED, Unit::Count, "Quotes sent on to the owner of their symbol");
    describe_gauge!(SYMBOLS, Unit::Count, "Symbols kept by this node");
    describe_gauge!(SYMBOLS_LIVE, Unit::Count, "Symbols kept by this node whose value is live");
    describe_gauge!(RING_BYTES, Unit::Bytes, "Room taken by the updates kept for resuming clients");
    describe_counter!(SHARD_RESTARTS, Unit::Count, "Shards that crashed and went on in a new epoch");
    describe_counter!(SNAPSHOTS, Unit::Count, "Snapshots given to joining clients, by how their resume ended");
    // What is there from the start can be watched from the start.
    for name in [QUOTES_INGESTED, QUOTES_DUPLICATE, QUOTES_FORWARDED, SHARD_RESTARTS] {
        counter!(name).increment(0);
    }
}

pub(crate) fn taken(stamped: u64, duplicates: u64) {
    if stamped > 0 {
        counter!(QUOTES_INGESTED).increment(stamped);
    }
    if duplicates > 0 {
        counter!(QUOTES_DUPLICATE).increment(duplicates);
    }
}

pub(crate) fn rejected(rejected: &[Rejected]) {
    for same in rejected.chunk_by(|left, right| left.rejection.label() == right.rejection.label()) {
        counter!(QUOTES_REJECTED, "reason" => same[0].rejection.label()).increment(same.len() as u64);
    }
}

pub(crate) fn forwarded(quotes: usize) {
    counter!(QUOTES_FORWARDED).increment(quotes as u64);
}

pub(crate) fn shard_restarted() {
    counter!(SHARD_RESTARTS).increment(1);
}

pub(crate) fn snapshot(resume: Resume) {
    counter!(SNAPSHOTS, "resume" => resume.as_str()).increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and exact up to 2^53")]
pub(crate) fn kept(symbols: usize, live: usize, ring_bytes: usize) {
    gauge!(SYMBOLS).set(symbols as f64);
    gauge!(SYMBOLS_LIVE).set(live as f64);
    gauge!(RING_BYTES).set(ring_bytes as f64);
}
