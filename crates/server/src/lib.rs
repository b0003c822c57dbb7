//! The composition root: configuration, HTTP, gRPC, topics, telemetry, lifecycle.
//!
//! Start from [`App`]: [`App::build`] makes every part from a [`config::Config`] and binds its ports, [`App::run`] serves until it is
//! drained. What a topic does on join is in `topics`, what an endpoint answers in `http`, `grpc` and `admin`.
//!
//! This crate deliberately holds no protocol and no market logic: it wires crates that never see each other.

mod access;
mod admin;
mod admission;
mod app;
pub mod auth;
pub mod config;
mod demo;
mod feeds;
mod follow;
mod grpc;
mod http;
mod idempotency;
mod layout;
mod lifecycle;
mod listener;
mod live;
mod metrics;
mod reload;
mod renewal;
mod settings;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod tls;
mod topics;

pub use admission::Network;
pub use app::{Addresses, App, BuildError};
pub use layout::Layout;
pub use lifecycle::{Failed, Stop};
pub use listener::BindError;
pub use settings::raise_open_files;
pub use tls::IdentityError;
