//! Real sockets against real workers: what arrives, byte for byte and in which order, and what does not.

#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests, helpers included")]

mod delivery;
mod faults;
mod lifecycle;
mod model;
mod polling;
mod protocol;
mod renewal;
mod support;
