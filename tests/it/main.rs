//! Tests of the whole: architecture, real processes, real data.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod drain;
mod examples;
mod flows;
mod model;
mod refusals;
mod reload;
mod replay;
mod runtime;
mod secrets;
mod supervision;
mod tidy;
mod wire;
