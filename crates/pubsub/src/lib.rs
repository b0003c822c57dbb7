//! Who wants a topic, and one message to all of them.
//!
//! Start from [`PubSub`], the node's switchboard, and [`Broadcast`], the message that it hands to every [`Sink`] subscribed to a topic.
//! A sink is a worker with thousands of sockets, or a [`Mailroom`] with thousands of readers that are a task each. Other nodes are reached through [`Peers`] and
//! [`Members`] only, so this crate, and all that build on it, know nothing of networks.
//!
//! This crate deliberately does not know what a payload means, how a socket is written or how nodes find each other.

mod broadcast;
mod conflate;
mod crashes;
mod interest;
mod mailroom;
pub mod metrics;
mod node;
mod peers;
mod registry;
mod stamp;
#[cfg(feature = "testing")]
pub mod testing;
mod topic;
pub mod wire;

pub use broadcast::{Broadcast, Class, FRAME_SLOTS, OriginId, Payload, RARE_FRAME_SLOTS, Role};
pub use conflate::{Cursor, Track};
pub use crashes::CrashBudget;
pub use interest::InterestTable;
pub use mailroom::{Delivery, Mailbox, MailboxEnd, MailboxSubscription, Mailroom};
pub use node::{LoneNode, NodeId};
pub use peers::{Lane, Members, Peers, RequestError, Route, SendError};
pub use registry::{Busy, Pressure, PubSub, Sink, SinkId, Subscription};
pub use stamp::{Epoch, EpochClock, EpochTag, Stamp};
pub use topic::{Topic, TopicError};
