//! Servers of others, measured beside ours with the same work: the same payloads, sockets, schedule and checks.
//!
//! None of them stamps what it delivers, so that the publisher does: symbols count from 1 in one epoch, [`EPOCH`], and every subscription
//! begins at 0. Nothing is published before all have subscribed.

mod centrifugo;
mod link;
mod nats;
mod socketio;
#[cfg(test)]
mod testing;

use std::time::Duration;

pub(crate) use self::{centrifugo::Centrifugo, nats::Nats, socketio::SocketIo};

/// The epoch of all that is published, as long as ours are.
const EPOCH: &str = "bench-of-peer";
/// How long a publisher waits for a server that does not follow.
const PATIENCE: Duration = Duration::from_secs(10);
