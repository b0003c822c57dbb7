//! What crashes crashes alone: a fault on purpose in each kind of unit, as often as it takes for a leak to show.
//!
//! The tests take turns, since a fault is armed for the whole process and what leaks is counted for it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and tells how long it took"
)]

#[expect(dead_code, reason = "the other suite uses more of it")]
#[path = "../it/node.rs"]
mod node;

mod sockets;
mod streams;
mod upkeep;
mod witness;
