//! `[market]`: the state behind the quotes, and how its updates reach a socket.

use std::time::Duration;

use tickwire_channels::WorkersConfig;
use tickwire_market::{MarketConfig, OutOfOrder, Symbol, Symbols};

use super::{DAY, millis, secs};
use crate::config::reader::Section;
use crate::config::settings::DeliveryConfig;
use crate::config::values::Size;

/// The market's own defaults are the ones that hold here.
pub(super) fn market(s: &Section<'_>) -> MarketConfig {
    let default = MarketConfig::default();
    let million = 1_000_000;
    let lateness = [("reject", OutOfOrder::Reject), ("accept", OutOfOrder::Accept)];
    MarketConfig {
        symbols: symbols(s),
        symbols_max: s.between("symbols_max", default.symbols_max, 1, 100 * million),
        shards: s.between("shards", default.shards, 1, 1_024),
        ring: s.between("ring", default.ring, 1, million),
        ring_age: s.between("ring_age", default.ring_age, millis(100), DAY),
        ring_bytes: s.between("ring_bytes", Size(default.ring_bytes), Size(64 << 10), Size(1 << 40)).0,
        resume_max: s.between("resume_max", default.resume_max, 0, million),
        stale_after: s.between("stale_after", default.stale_after, millis(100), DAY),
        out_of_order: s.choice("out_of_order", default.out_of_order, &lateness),
        ts_ahead_max: s.between("ts_ahead_max", default.ts_ahead_max, Duration::ZERO, 366 * DAY),
        ids_max: s.between("dedupe_ids", default.ids_max, 0, 100 * million),
        ids_age: s.between("dedupe_age", default.ids_age, secs(1), DAY),
        batch_max: s.between("batch_max", default.batch_max, 1, million),
        // There is no other node to wait for in this version.
        owner_timeout: default.owner_timeout,
    }
}

fn symbols(s: &Section<'_>) -> Symbols {
    let open = s.choice("symbols", true, &[("open", true), ("listed", false)]);
    let listed: Vec<Symbol> = s.value("listed", Vec::new());
    if open && s.is_sound("symbols") && !listed.is_empty() {
        s.problem("listed", format!("has no effect while {} is \"open\"; set that to \"listed\"", s.key("symbols")));
    }
    if !open && s.is_sound("listed") && listed.is_empty() {
        s.problem("symbols", format!("is \"listed\", and {} names none", s.key("listed")));
    }
    if open { Symbols::Open } else { Symbols::Listed(listed.into_iter().collect()) }
}

pub(super) fn delivery(s: &Section<'_>) -> DeliveryConfig {
    let default = WorkersConfig::default();
    DeliveryConfig {
        conflate_after: s.between("conflate_after", default.conflate_after, Duration::ZERO, secs(60)),
        join_deadline: s.between("join_deadline", default.join_timeout, millis(10), secs(60)),
    }
}
