//! The Phoenix Channels protocol, and the workers that own the sockets.
//!
//! Start from [`Kind`] and [`Channel`], which an application writes, [`Router`], which says what topics they serve, and [`Workers`], which
//! serve them: [`Workers::adopt`] takes a connection after its upgrade from whatever HTTP server there is.
//!
//! ```
//! use tickwire_channels::{Context, Flow, JoinRequest, Joined, Joining, Payload, Router, Status};
//!
//! // A channel that answers each event with its payload, for every topic that begins with `echo:`.
//! fn echo(_event: &str, payload: &Payload, context: &mut Context<'_>) -> Flow {
//!     context.reply(Status::Ok, payload.clone());
//!     Flow::Continue
//! }
//! let router = Router::new().on("echo:*", |_: JoinRequest| Joining::from(Joined::new(echo)))?;
//! assert!(router.find("echo:anything").is_some());
//! # Ok::<(), tickwire_channels::BadPattern>(())
//! ```
//!
//! `examples/echo.rs` is the whole program.
//!
//! This crate deliberately knows no market, no cluster and no HTTP framework.

pub mod channel;
pub mod close;
pub mod deflate;
mod guard;
mod handle;
pub mod handshake;
pub mod json;
mod lag;
mod listen;
mod log;
pub mod longpoll;
pub mod message;
pub mod metrics;
mod outbox;
pub mod router;
pub mod serializer;
mod session;
mod socket;
#[cfg(feature = "testing")]
pub mod testing;
pub mod websocket;
mod worker;

pub use channel::{
    Channel, ChannelHandle, Common, Context, Flow, HandleError, JoinRequest, Joined, Joining, Kind, Left, Refusal,
    Renewal, ReplyHandle, Stop,
};
pub use close::{CloseCode, CloseReason};
pub use lag::LagSnapshot;
pub use listen::{Endpoint, listen};
pub use message::Payload;
pub use router::{BadPattern, Pattern, Router};
pub use serializer::{Status, Wire, WireFormat};
pub use socket::{MountLimits, SocketInfo};
pub use worker::{
    AdoptError, Adopting, JoinLimit, PollAnswer, PollId, PollMessage, PublishAnswer, Transport, Workers, WorkersConfig,
};
