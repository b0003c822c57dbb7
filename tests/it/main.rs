//! Tests of the whole: architecture, real processes, real data.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod drain;
mod flows;
mod model;
mod replay;
mod tidy;
mod wire;
