//! What the configuration means to the crates that this one wires, where it is not written in their own types.

use std::{num::NonZeroU32, time::Duration};

use rustix::process::{Resource, Rlimit};
use tickwire_channels::{MountLimits, WorkersConfig, websocket};
use tickwire_market::{
    Batch, Market, Quote, Rejection,
    bars::BarsConfig,
    feed::{Offered, QuoteSink, SinkError},
};

use crate::{
    config::{Config, SocketMount},
    layout::Layout,
};

/// Lets the process open as many files as its hard limit allows: each connection is one, and the usual soft limit is for programs that
/// wait with `select`. Called by the binary; a library has no business with limits of its process.
pub fn raise_open_files() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// How many files the process may have open.
pub(crate) fn open_files() -> u64 {
    rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Those of derived computations.
pub(crate) fn bars(layout: &Layout) -> BarsConfig {
    BarsConfig { threads: layout.compute_threads(), ..BarsConfig::default() }
}

/// The socket workers'.
pub(crate) fn workers(config: &Config, layout: &Layout) -> WorkersConfig {
    /// The market answers a slow join within its own deadline, with what this node has: this one is for what hangs altogether.
    const BEYOND_MARKET: Duration = Duration::from_secs(3);
    WorkersConfig {
        workers: layout.workers(),
        conflate_after: config.delivery.conflate_after,
        outbox_bytes_max: config.limits.outbox_bytes,
        join_timeout: config.delivery.join_deadline + BEYOND_MARKET,
        joins_per_second: NonZeroU32::new(config.limits.joins_per_second),
        on_thread_start: layout.on_worker_start(),
        ..WorkersConfig::default()
    }
}

/// The bounds of a mount's sockets.
pub(crate) fn mount_limits(config: &Config, mount: &SocketMount) -> MountLimits {
    MountLimits {
        idle_timeout: mount.idle_timeout,
        websocket: websocket::Limits { frame_max: mount.max_frame, message_max: mount.max_message },
        channels_max: mount.max_channels,
        messages_per_second: NonZeroU32::new(config.limits.messages_per_second),
    }
}

/// The market as feeds see it.
#[derive(Debug)]
pub(crate) struct MarketSink(pub(crate) Market);

impl QuoteSink for MarketSink {
    async fn offer(&self, quotes: Vec<Quote>) -> Result<Offered, SinkError> {
        // Kept for those that come back: a feed offers them again.
        let report = self.0.ingest(Batch::from(quotes.clone())).await;
        let mut offered = Offered { accepted: report.accepted, ..Offered::default() };
        let mut quotes: Vec<_> = quotes.into_iter().map(Some).collect();
        for rejected in report.rejected {
            let again =
                matches!(rejected.rejection, Rejection::Busy | Rejection::OwnerUnreachable | Rejection::NotOwner);
            match quotes.get_mut(rejected.index as usize).and_then(Option::take) {
                Some(quote) if again => offered.rest.push(quote),
                _ => offered.rejected += 1,
            }
        }
        Ok(offered)
    }
}
