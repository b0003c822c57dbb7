//! Recorded quotes, played at their own pace.
//!
//! Two formats are read, plain or gzipped, told by content and not by name:
//!
//! - **quote CSV**: `milliseconds since local midnight,bid,ask`, no header; the milliseconds may have a fraction;
//! - **stream lines**: `<Unix nanoseconds> <message>`, a recorded Binance combined stream, of which the `bookTicker` messages are played.
//!
//! Files of one source and several days (`spot-btcusdt_20240808`, `spot-btcusdt_20240809`) make one *track*, played one after the other. All
//! tracks start together: a stream at its first tick, a quote CSV at [`ReplayConfig::csv_start`], since a trading day begins with hours in
//! which little happens. With [`ReplayConfig::repeat`] each track loops by itself, a second after its end, while time goes on rising.
//!
//! Ticks are played in the order in which they were received. The event time of a track's first tick is shifted to the start of the
//! playback and the distances between event times are kept (scaled by the speed); it is the venue's time where the recording has it.
//!
//! A line that cannot be read, a truncated gzip, a half-written last line are told with file and line ([`Observer::problem`]) and counted;
//! the rest is played. Memory does not depend on the size of the files.

mod lines;
mod naming;
mod recording;
mod row;
#[cfg(test)]
mod tests;
mod timeline;
mod track;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::delivery::{Delivery, Patience};
use super::pace::{Pacer, Speed};
use super::{QuoteSink, SinkError, Tick, unix_us};
use crate::{Quote, Symbol};

pub use naming::{SymbolMap, UnnamedSource};
pub use recording::RecordingError;
pub use row::Format;

use recording::Recording;
use timeline::Timeline;
use track::{Problems, Track, TrackOptions};

/// What one line of a recording says of a symbol, if anything.
#[cfg(feature = "testing")]
pub(crate) fn quote_of_line(format: Format, bytes: &[u8], ended: bool, symbol: Symbol) -> Option<Quote> {
    format.parse(lines::Line { number: 1, bytes, ended }).ok()??.quote(symbol).ok()
}

/// Ticks that the reader hands over at a time, which is also the most that is offered at once.
const BATCH: usize = 256;
/// Batches that the reader may be ahead of the playback.
const BATCHES_AHEAD: usize = 4;

/// What to play and how.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayConfig {
    /// Recorded files, and folders that are searched for them.
    pub paths: Vec<PathBuf>,
    /// Which symbols the recorded instruments have.
    pub symbols: SymbolMap,
    /// Only these symbols are played; empty: all.
    pub only: Vec<Symbol>,
    /// The pace.
    pub speed: Speed,
    /// Whether every track starts again at its end.
    pub repeat: bool,
    /// UTC time of day at which quote CSVs start; `None`: at their first tick.
    pub csv_start: Option<Duration>,
}

impl ReplayConfig {
    /// 12:30 UTC: London and New York both trade, and the American figures come out.
    pub const BUSY_HOUR: Duration = Duration::from_secs(12 * 3600 + 30 * 60);

    /// Plays these paths once, at the recorded pace, with the built-in symbols.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self {
            paths,
            symbols: SymbolMap::default(),
            only: Vec::new(),
            speed: Speed::RECORDED,
            repeat: false,
            csv_start: Some(Self::BUSY_HOUR),
        }
    }
}

/// Why a replay cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A path is not there, or is no recording.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// A recording's name makes no symbol.
    #[error(transparent)]
    Unnamed(#[from] UnnamedSource),
    /// The quotes cannot be delivered.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// The kinds of input that cannot be played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadInput {
    /// A line that is not of the file's format, or half of one.
    Line,
    /// A gzip file that breaks off.
    Truncated,
    /// A file that the system, or the decompressor, does not give.
    Unreadable,
}

impl BadInput {
    /// Its name in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Truncated => "truncated",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Something in a file that could not be played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file as it was named or found.
    pub file: Arc<str>,
    /// The line, counted from 1; 0 if it is the file as a whole.
    pub line: u64,
    /// Its kind.
    pub kind: BadInput,
    /// What was seen and what was expected.
    pub what: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

/// How far a replay is, and at its end what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Quotes that the sink accepted.
    pub accepted: u64,
    /// Quotes that the sink refused.
    pub rejected: u64,
    /// Lines and files that could not be read, in the first pass.
    pub problems: u64,
    /// Bytes read from the files so far, compressed where they are; rises beyond `bytes_total` when tracks repeat.
    pub bytes_read: u64,
    /// Sum of the sizes of all files.
    pub bytes_total: u64,
    /// Where the playback is, in recorded time since its start.
    pub position: Duration,
    /// How often every track has been played to its end.
    pub passes: u64,
}

/// Is told how a replay goes. Called from the task that plays: it should return at once.
pub trait Observer: Send + Sync {
    /// After each batch.
    fn progress(&self, _progress: &Progress) {}
    /// For the first problems of each file; further ones are only in [`Progress::problems`].
    fn problem(&self, _problem: &Problem) {}
}

/// Nobody looks.
impl Observer for () {}

/// Recordings that were found and recognised, ready to be played.
pub struct Replay {
    tracks: Vec<Track>,
    files: usize,
    speed: Speed,
    bytes_read: Arc<AtomicU64>,
    bytes_total: u64,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").field("tracks", &self.tracks.len()).field("speed", &self.speed).finish_non_exhaustive()
    }
}

impl Replay {
    /// Finds the recordings and looks at the first lines of each. Blocks on the file system.
    ///
    /// # Errors
    /// If a path cannot be opened, is of no known format or holds no recordings, or if no symbol can be made of a name.
    pub fn open(config: ReplayConfig) -> Result<Self, ReplayError> {
        let recordings = recording::discover(&config.paths)?;
        let files = recordings.len();
        let bytes_total = recordings.iter().map(|recording| recording.size).sum();
        let bytes_read = Arc::<AtomicU64>::default();
        let options = TrackOptions {
            symbols: Arc::new(config.symbols),
            only: config.only.into(),
            csv_start: config.csv_start,
            repeat: config.repeat,
            bytes_read: bytes_read.clone(),
        };
        let tracks = by_source(recordings)
            .into_iter()
            .map(|recordings| Track::new(recordings, options.clone()))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { tracks, files, speed: config.speed, bytes_read, bytes_total })
    }

    /// How many recorded files were found.
    #[must_use]
    pub fn files(&self) -> usize {
        self.files
    }

    /// The sources that a [`SymbolMap`] can name, such as `oanda-eurusd`; `None` if a recorded stream is among the files, which names its
    /// instruments only as it plays.
    #[must_use]
    pub fn sources(&self) -> Option<Vec<&str>> {
        self.tracks.iter().map(Track::source).collect()
    }

    /// Sum of the sizes of all files in bytes, compressed where they are.
    #[must_use]
    pub fn bytes_total(&self) -> u64 {
        self.bytes_total
    }

    /// Plays to the end, or until cancelled, and returns how far it came. The files are read on a blocking thread of `tracker`; `name` is
    /// the feed's in metrics.
    ///
    /// # Errors
    /// If the sink cannot take quotes at all; a sink without room is waited for.
    pub async fn play<S: QuoteSink>(
        self,
        name: &str,
        sink: &S,
        observer: &dyn Observer,
        tracker: &TaskTracker,
        cancel: &CancellationToken,
    ) -> Result<Progress, ReplayError> {
        let Self { tracks, speed, bytes_read, bytes_total, .. } = self;
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        let reader = tracker.spawn_blocking(move || read(Timeline::new(tracks), &sender));
        let playback = Playback {
            delivery: Delivery::new(name, sink, Patience::Endless),
            observer,
            cancel,
            pacer: Pacer::new(speed, Instant::now(), unix_us()),
            progress: Progress { bytes_total, ..Progress::default() },
            bytes_read,
        };
        let progress = playback.run(receiver).await?;
        // The receiver is gone, so the reader has ended or ends with its next batch. Its panic is this unit's panic.
        if let Err(error) = reader.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
        Ok(progress)
    }
}

/// Recordings of one source make one track, in the order of their days. Tracks keep the order in which their sources were found.
fn by_source(recordings: Vec<Recording>) -> Vec<Vec<Recording>> {
    let mut index = BTreeMap::new();
    let mut tracks: Vec<Vec<Recording>> = Vec::new();
    for recording in recordings {
        let key = (recording.name.source.clone(), recording.format);
        let track = *index.entry(key).or_insert_with(|| {
            tracks.push(Vec::new());
            tracks.len() - 1
        });
        tracks[track].push(recording);
    }
    for track in &mut tracks {
        // Stable: the same day twice plays in the order in which it was named.
        track.sort_by_key(|recording| recording.name.day);
    }
    tracks
}

struct Batch {
    ticks: Vec<Tick>,
    problems: Problems,
    passes: u64,
}

/// Reads ahead of the playback until the time line ends or nobody listens any more.
fn read(mut timeline: Timeline, sender: &mpsc::Sender<Batch>) {
    loop {
        let mut ticks = Vec::with_capacity(BATCH);
        while ticks.len() < BATCH
            && let Some(tick) = timeline.next_tick()
        {
            ticks.push(tick);
        }
        let over = ticks.len() < BATCH;
        let batch = Batch { ticks, problems: timeline.take_problems(), passes: timeline.passes() };
        if sender.blocking_send(batch).is_err() || over {
            return;
        }
    }
}

/// The loop that waits for each tick's turn and offers what is due.
struct Playback<'a, S> {
    delivery: Delivery<'a, S>,
    observer: &'a dyn Observer,
    cancel: &'a CancellationToken,
    pacer: Pacer,
    progress: Progress,
    bytes_read: Arc<AtomicU64>,
}

impl<S: QuoteSink> Playback<'_, S> {
    async fn run(mut self, mut batches: mpsc::Receiver<Batch>) -> Result<Progress, ReplayError> {
        let cancel = self.cancel;
        let played = cancel.run_until_cancelled(async {
            while let Some(batch) = batches.recv().await {
                self.delivery.queued(batches.len(), BATCHES_AHEAD);
                for problem in &batch.problems.told {
                    self.delivery.bad_input(problem.kind.label());
                    self.observer.problem(problem);
                }
                self.progress.problems += batch.problems.counted;
                self.play_batch(batch.ticks).await?;
                self.progress.passes = batch.passes;
                self.report();
            }
            Ok::<_, SinkError>(())
        });
        if let Some(outcome) = played.await {
            outcome?;
        }
        self.report();
        Ok(self.progress)
    }

    async fn play_batch(&mut self, ticks: Vec<Tick>) -> Result<(), SinkError> {
        let mut ticks = ticks.into_iter().peekable();
        while let Some(first) = ticks.peek() {
            if let Some(due) = self.pacer.due(first.at) {
                tokio::time::sleep_until(due).await;
                self.pacer.slip(due, Instant::now());
            }
            let now = Instant::now();
            let mut quotes: Vec<Quote> = Vec::new();
            while let Some(tick) = ticks.next_if(|tick| self.pacer.due(tick.at).is_none_or(|due| due <= now)) {
                self.progress.position = tick.at;
                quotes.push(tick.quote.with_ts(self.pacer.stamp(tick.event, now)));
            }
            let delivered = self.delivery.deliver(quotes).await?;
            self.progress.accepted += delivered.accepted;
            self.progress.rejected += delivered.rejected;
            self.report();
        }
        Ok(())
    }

    fn report(&mut self) {
        self.progress.bytes_read = self.bytes_read.load(Ordering::Relaxed);
        self.observer.progress(&self.progress);
    }
}
