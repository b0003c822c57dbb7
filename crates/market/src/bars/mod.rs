//! Open, high, low and close of the mid price, by the second and by the minute, and the day's high and low: the first derived computation.
//!
//! Bars hang on the market as an [`UpdateTap`](crate::UpdateTap) and can fail without touching it. [`Bars`] takes updates into bounded
//! queues and answers queries; threads of their own roll them up ([`BarsWorkers`], which stops them when dropped). A queue without room
//! refuses, and is counted; a thread that panics is counted, and goes on after a pause; either way the bars that may lack a quote say so
//! ([`Bar::gap`]), and quotes flow on.
//!
//! Bars are of **event time**: a quote belongs to the interval of its `ts`, whenever it arrives; one without `ts` to that of its acceptance.
//! A bar is open until a quote of a later interval arrives. A late quote still changes the bar before the open one, which then counts a
//! [`revision`](Bar::revision); one that is later still is left out and counted. Intervals without quotes have no bar. Of quotes with the
//! same time, the first to arrive makes the open and the last the close. Quotes without both sides have no mid and make no bar.

mod bar;
pub mod metrics;
mod queue;
mod roller;
#[cfg(test)]
mod tests;
mod worker;

pub use bar::{Bar, DayRange, Interval, IntervalError};
pub use worker::{Bars, BarsAnswer, BarsConfig, BarsQuery, BarsWorkers};
