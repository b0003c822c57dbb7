//! A node as its clients see it: built in this process on ports of the system's choice.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod admin;
mod admission;
mod api;
mod docs;
mod grpc;
mod http;
mod limits;
mod node;
mod sockets;
mod stream;
mod tls;
mod tokens;
mod upgrades;
