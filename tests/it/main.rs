//! Tests of the whole: architecture, real processes, real data.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod model;
mod tidy;
