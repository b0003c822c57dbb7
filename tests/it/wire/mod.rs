//! The Phoenix wire, from outside: real sockets, raw bytes, nothing taken from the code under test but its doors.
//!
//! `upgrade` and `product` ask the product; the other tests ask a server of the library's public API with a channel that can be made to do
//! anything. Every file names the behaviour that it pins down; nothing is proved by waiting.

mod abuse;
mod autobahn;
mod binary;
mod client;
mod delivery;
mod deflate;
mod demo;
mod endings;
mod frames;
mod joins;
mod json;
mod playground;
mod product;
mod upgrade;
