//! The Phoenix wire, from outside: real sockets, raw bytes, nothing taken from the code under test but its doors.
//!
//! `product` is a node within the test, `playground` the real binary with `config/demo.toml`, `demo` either that or a server of the library alone.
//! Every file names the behaviour that it pins down; nothing is proved by waiting.

mod abuse;
mod autobahn;
mod binary;
mod client;
mod deflate;
mod delivery;
mod demo;
mod endings;
mod frames;
mod joins;
mod json;
mod playground;
mod product;
mod upgrade;
