//! Logs and metrics of the process.
//!
//! Both are global by nature: [`init`] is called once, by the binary, before anything else is built. Tests build many nodes in one process
//! and share the recorder that [`recorder`] installs.

use std::{
    collections::BTreeMap,
    fmt,
    io::IsTerminal as _,
    panic::PanicHookInfo,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ::metrics::counter;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;
use tracing_subscriber::{
    EnvFilter, Registry, filter::filter_fn, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::{
    config::{LogConfig, LogFormat},
    metrics,
};

/// The process cannot log or count.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error(
        "log.level: {seen:?} is not a level (error, warn, info, debug, trace) or a list of directives such as \"info,tickwire_market=debug\": {source}"
    )]
    Level {
        /// What was set.
        seen: String,
        /// What the parser says.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Somebody else logs already.
    #[error("the process has a logger already")]
    Taken,
}

/// Starts logging to standard error, in colour if that is a terminal and `color` says so, and counting; panics go there too.
///
/// # Errors
/// If the level is not one, or the process has a logger already.
pub fn init(config: &LogConfig, color: bool) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&config.level)
        .map_err(|source| TelemetryError::Level { seen: config.level.clone(), source })?;
    let text = match config.format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let discreet = filter_fn(|line| *line.level() <= tracing::Level::INFO || !tells_the_wire(line.target()));
    let registry = tracing_subscriber::registry().with(filter).with(discreet);
    let started = if text {
        registry.with(lines.with_ansi(color && std::io::stderr().is_terminal()).with_target(false)).try_init()
    } else {
        registry.with(lines.json().flatten_event(true).with_current_span(true).with_span_list(false)).try_init()
    };
    started.map_err(|_| TelemetryError::Taken)?;
    let _ = FILTER.set(handle);
    recorder();
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Whether the lines of a library below INFO hold what clients send, their credentials among it: no level brings those into a log.
fn tells_the_wire(target: &str) -> bool {
    const LIBRARIES: [&str; 9] =
        ["h2", "hyper", "hyper_util", "tonic", "tower", "axum", "reqwest", "rustls", "tokio_tungstenite"];
    let library = target.split("::").next().unwrap_or(target);
    LIBRARIES.contains(&library)
}

/// The filter of the process's logs, where [`init`] has been called.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Logs at another level from now on; one that the configuration has checked.
pub(crate) fn set_level(level: &str) {
    let Some(filter) = FILTER.get() else { return };
    let changed = EnvFilter::try_new(level).map(|level| filter.reload(level));
    if !matches!(changed, Ok(Ok(()))) {
        tracing::error!(level, "the log level could not be changed");
    }
}

/// The process's metrics, installed on the first call.
pub(crate) fn recorder() -> &'static PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &metrics::SECONDS)
            .expect("the buckets are not empty")
            .build_recorder();
        let handle = recorder.handle();
        // Another recorder can only be a test's own; then this one renders nothing, which that test wants.
        let _ = ::metrics::set_global_recorder(recorder);
        metrics::describe();
        metrics_process::Collector::default().describe();
        handle
    })
}

/// Bytes of memory that the process has in RAM, where the system tells.
pub(crate) fn resident_bytes() -> Option<u64> {
    metrics_process::collector::collect().resident_memory_bytes
}

/// Panics are caught at the edge of their unit; what is left to do is to tell and to count them.
fn log_panic(info: &PanicHookInfo<'_>) {
    static TOLD: Throttle = Throttle::new(Duration::from_millis(100));
    counter!(metrics::PANICS).increment(1);
    // A client that knows how to make us panic must not write our log.
    let Some(held_back) = TOLD.pass(Instant::now()) else { return };
    let message = info.payload_as_str().unwrap_or("a panic without words");
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let backtrace = std::backtrace::Backtrace::capture();
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        tracing::error!(thread = thread.name(), location, held_back, %backtrace, "panic: {message}");
    } else {
        tracing::error!(thread = thread.name(), location, held_back, "panic: {message}");
    }
}

/// Counts a refusal and tells of it, each code at most once a second: many of one kind neither fill the log nor hide another.
pub(crate) fn refused(code: &'static str, what: &'static str, reason: &dyn fmt::Display) {
    static TOLD: Mutex<BTreeMap<&'static str, Throttle>> = Mutex::new(BTreeMap::new());
    metrics::refused(code);
    let passed = TOLD.lock().entry(code).or_insert_with(|| Throttle::new(Duration::from_secs(1))).pass(Instant::now());
    if let Some(held_back) = passed {
        tracing::warn!(code, %reason, held_back, "{what}");
    }
}

/// Lets a log line through once per interval and says how many were held back: what a client can provoke must not fill the disk.
#[derive(Debug)]
pub(crate) struct Throttle {
    interval: Duration,
    last: Mutex<Option<Instant>>,
    held_back: AtomicU64,
}

impl Throttle {
    /// One line per `interval`.
    pub(crate) const fn new(interval: Duration) -> Self {
        Self { interval, last: Mutex::new(None), held_back: AtomicU64::new(0) }
    }

    /// Whether to write the line, and how many were held back since the last one.
    pub(crate) fn pass(&self, now: Instant) -> Option<u64> {
        let mut last = self.last.lock();
        if last.is_some_and(|last| now.saturating_duration_since(last) < self.interval) {
            self.held_back.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *last = Some(now);
        Some(self.held_back.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttled_line_tells_what_it_held_back() {
        let throttle = Throttle::new(Duration::from_secs(1));
        let start = Instant::now();
        assert_eq!(throttle.pass(start), Some(0));
        assert_eq!(throttle.pass(start + Duration::from_millis(10)), None);
        assert_eq!(throttle.pass(start + Duration::from_millis(999)), None);
        assert_eq!(throttle.pass(start + Duration::from_secs(1)), Some(2));
    }
}
