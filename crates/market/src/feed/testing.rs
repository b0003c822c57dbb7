//! A sink that keeps what it is offered, and other things that tests of feeds need.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Offered, QuoteSink, SinkError};
use crate::Quote;

/// Keeps every quote with the moment at which it came. Misbehaves as told, so many times, before it works.
#[derive(Debug, Default)]
pub(super) struct TestSink {
    pub(super) quotes: Mutex<Vec<(Instant, Quote)>>,
    pub(super) panics: AtomicU32,
    pub(super) errors: AtomicU32,
    pub(super) busy: AtomicU32,
}

impl TestSink {
    pub(super) fn count(&self) -> usize {
        self.quotes.lock().len()
    }

    pub(super) fn taken(&self) -> Vec<Quote> {
        self.quotes.lock().iter().map(|(_, quote)| quote.clone()).collect()
    }
}

fn take_one(counter: &AtomicU32) -> bool {
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

impl QuoteSink for TestSink {
    async fn offer(&self, mut quotes: Vec<Quote>) -> Result<Offered, SinkError> {
        assert!(!take_one(&self.panics), "told to panic");
        if take_one(&self.errors) {
            let error: Box<dyn std::error::Error + Send + Sync> = "the server is gone".into();
            return Err(error.into());
        }
        // Without room, half of what is offered is taken and the rest is given back.
        let rest = if take_one(&self.busy) { quotes.split_off(quotes.len() / 2) } else { Vec::new() };
        let now = Instant::now();
        let accepted = quotes.len() as u64;
        self.quotes.lock().extend(quotes.into_iter().map(|quote| (now, quote)));
        Ok(Offered { accepted, rejected: 0, rest, retry_after: None })
    }
}

pub(super) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Where recorded data is; `None`, said aloud, where there is none.
pub(super) fn recorded_data() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("TICKWIRE_DATA").filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    assert!(
        std::env::var_os("TICKWIRE_REQUIRE_DATA").is_none_or(|value| value != "1"),
        "TICKWIRE_DATA is required and not set"
    );
    println!("skipped: TICKWIRE_DATA not set");
    None
}

/// Waits until it holds, and fails the test if it does not within a generous time.
pub(super) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
