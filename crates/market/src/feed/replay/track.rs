//! One instrument's recordings, day after day, as ticks on the time line of the playback.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::Symbol;
use crate::feed::Tick;

use super::lines::{Line, Lines, ReadError};
use super::naming::{SymbolMap, UnnamedSource};
use super::recording::Recording;
use super::row::{Format, Row};
use super::{BadInput, Problem};

/// The pause between two passes of a loop. It also keeps a file of a single line from becoming a busy loop.
const PASS_GAP: Duration = Duration::from_secs(1);
/// The longest pause between the last tick of one file and the first of the next: a night or a missing day is not waited for.
const FILE_GAP_MAX: Duration = Duration::from_secs(1);
/// So many problems of one file are told one by one, the others are counted.
const PROBLEMS_TOLD: u64 = 20;
const HOUR_NS: i64 = 3_600_000_000_000;
const DAY_NS: i64 = 24 * HOUR_NS;

/// What all tracks of a playback share.
#[derive(Debug, Clone)]
pub(super) struct TrackOptions {
    pub(super) symbols: Arc<SymbolMap>,
    /// Only these are played; empty: all.
    pub(super) only: Arc<[Symbol]>,
    /// UTC time of day at which quote CSVs start; `None`: at their first tick.
    pub(super) csv_start: Option<Duration>,
    pub(super) repeat: bool,
    pub(super) bytes_read: Arc<AtomicU64>,
}

/// What could not be read since it was last asked for.
#[derive(Debug, Default)]
pub(super) struct Problems {
    pub(super) told: Vec<Problem>,
    /// All of them, the told ones included.
    pub(super) counted: u64,
}

/// Plays the files of one source in the order of their days; reads them as it goes and never holds more than a line.
pub(super) struct Track {
    recordings: Vec<Recording>,
    options: TrackOptions,
    /// The symbol of a CSV, which its lines do not name.
    own_symbol: Option<Symbol>,
    /// Symbols of the instruments that a stream named so far; `None`: not to be played.
    stream_symbols: HashMap<Box<str>, Option<Symbol>>,
    clock: TrackClock,
    file: usize,
    lines: Option<Lines>,
    pass: u64,
    ticks_in_pass: u64,
    problems_of_file: u64,
    /// Set once the first CSV turned out to end before `csv_start`.
    from_first_tick: bool,
}

impl Track {
    /// A track of recordings of one source, sorted by day; there must be at least one.
    pub(super) fn new(recordings: Vec<Recording>, options: TrackOptions) -> Result<Self, UnnamedSource> {
        let csv = recordings.iter().find(|recording| recording.format == Format::QuoteCsv);
        let own_symbol = csv.map(|recording| options.symbols.symbol_of(&recording.name.source)).transpose()?;
        Ok(Self {
            recordings,
            options,
            own_symbol,
            stream_symbols: HashMap::new(),
            clock: TrackClock::default(),
            file: 0,
            lines: None,
            pass: 0,
            ticks_in_pass: 0,
            problems_of_file: 0,
            from_first_tick: false,
        })
    }

    /// The source of all files, if it stands in their names; streams name their instruments as they play.
    pub(super) fn source(&self) -> Option<&str> {
        self.own_symbol.as_ref()?;
        self.recordings.first().map(|recording| recording.name.source.as_str())
    }

    /// Passes that came to their end.
    pub(super) fn passes(&self) -> u64 {
        self.pass
    }

    /// The next tick; `None` when the track is over, which a repeated track with any tick never is.
    pub(super) fn next_tick(&mut self, problems: &mut Problems) -> Option<Tick> {
        loop {
            if self.lines.is_none() && !self.open_file(problems) {
                if self.file < self.recordings.len() {
                    continue;
                }
                if !self.begin_next_pass() {
                    return None;
                }
                continue;
            }
            if let Some(tick) = self.read_tick(problems) {
                self.ticks_in_pass += 1;
                return Some(tick);
            }
            self.end_file();
        }
    }

    /// Opens the file whose turn it is; one that cannot be opened is told and passed over.
    fn open_file(&mut self, problems: &mut Problems) -> bool {
        let Some(recording) = self.recordings.get(self.file) else { return false };
        self.problems_of_file = 0;
        match Lines::open(&recording.path, self.options.bytes_read.clone()) {
            Ok(lines) => {
                self.lines = Some(lines);
                true
            }
            Err(error) => {
                self.tell(problems, 0, BadInput::Unreadable, format!("cannot be opened: {error}"));
                self.file += 1;
                false
            }
        }
    }

    fn end_file(&mut self) {
        self.lines = None;
        let missed_start = self.file == 0 && self.ticks_in_pass == 0 && self.starts_late();
        if missed_start {
            // The whole file lies before the busy hour: better its quiet hours than nothing.
            self.from_first_tick = true;
        } else {
            self.file += 1;
            self.clock.cross_file();
        }
    }

    fn starts_late(&self) -> bool {
        let csv = self.recordings.first().is_some_and(|recording| recording.format == Format::QuoteCsv);
        csv && self.options.csv_start.is_some() && !self.from_first_tick
    }

    fn begin_next_pass(&mut self) -> bool {
        self.pass += 1;
        let silent = std::mem::take(&mut self.ticks_in_pass) == 0;
        if silent || !self.options.repeat {
            return false;
        }
        self.file = 0;
        self.clock.begin_pass();
        true
    }

    /// The next tick of the open file, `None` at its end.
    fn read_tick(&mut self, problems: &mut Problems) -> Option<Tick> {
        loop {
            let mut lines = self.lines.take()?;
            let step = match lines.next_line() {
                Ok(Some(line)) => self.read_line(line),
                Ok(None) => return None,
                Err(error) => {
                    let kind =
                        if matches!(error, ReadError::Truncated) { BadInput::Truncated } else { BadInput::Unreadable };
                    self.tell(problems, lines.number(), kind, format!("{error}; what comes before was played"));
                    return None;
                }
            };
            let number = lines.number();
            self.lines = Some(lines);
            match step {
                Ok(Some(tick)) => return Some(tick),
                Ok(None) => {}
                Err(what) => self.tell(problems, number, BadInput::Line, what),
            }
        }
    }

    /// The tick of a line; `None` if the line has none to play.
    fn read_line(&mut self, line: Line<'_>) -> Result<Option<Tick>, String> {
        let recording = &self.recordings[self.file];
        let Some(row) = recording.format.parse(line).map_err(|error| error.to_string())? else { return Ok(None) };
        if self.is_before_start(&row) {
            return Ok(None);
        }
        let symbol = match row.instrument {
            Some(instrument) => self.stream_symbol(instrument)?,
            None => self.own_symbol.clone().filter(|symbol| is_wanted(&self.options, symbol)),
        };
        let Some(symbol) = symbol else { return Ok(None) };
        let quote = row.quote(symbol).map_err(|error| error.to_string())?;
        let day_ns =
            if row.instrument.is_some() { 0 } else { self.recordings[self.file].name.day.saturating_mul(DAY_NS) };
        let (at, event) =
            self.clock.advance(row.received_ns.saturating_add(day_ns), row.venue_ns.saturating_add(day_ns));
        Ok(Some(Tick { at, event, quote }))
    }

    fn is_before_start(&self, row: &Row<'_>) -> bool {
        let Some(start) = self.options.csv_start.filter(|_| self.file == 0 && self.starts_late()) else { return false };
        let local_start = nanos(start) + self.recordings[0].name.utc_offset_hours() * HOUR_NS;
        row.received_ns < local_start
    }

    fn stream_symbol(&mut self, instrument: &str) -> Result<Option<Symbol>, String> {
        if let Some(known) = self.stream_symbols.get(instrument) {
            return Ok(known.clone());
        }
        let source = self.recordings[self.file].name.source_of_stream(instrument);
        let named = self.options.symbols.symbol_of(&source);
        let wanted = named.as_ref().ok().filter(|symbol| is_wanted(&self.options, symbol)).cloned();
        self.stream_symbols.insert(instrument.into(), wanted.clone());
        // Told once for each instrument; its further lines are passed over.
        named.map(|_| wanted).map_err(|error| error.to_string())
    }

    /// Tells a problem, in the first pass only: a loop would tell the same ones again and again.
    fn tell(&mut self, problems: &mut Problems, line: u64, kind: BadInput, what: String) {
        if self.pass > 0 {
            return;
        }
        problems.counted += 1;
        self.problems_of_file += 1;
        let what = match self.problems_of_file.cmp(&PROBLEMS_TOLD) {
            std::cmp::Ordering::Less => what,
            std::cmp::Ordering::Equal => format!("{what} (further problems of this file are only counted)"),
            std::cmp::Ordering::Greater => return,
        };
        let file = self.recordings[self.file].shown.clone();
        problems.told.push(Problem { file, line, kind, what });
    }
}

fn is_wanted(options: &TrackOptions, symbol: &Symbol) -> bool {
    options.only.is_empty() || options.only.contains(symbol)
}

/// Turns recorded times into offsets from the start of the playback.
///
/// The first tick of a pass is the zero of that pass for both its times. So the offset between the clocks of venue and recorder falls
/// out, their distances within the recording stay exact, and neither time ever goes back, across files and passes included.
#[derive(Debug, Default)]
struct TrackClock {
    /// Offset of the newest tick, and where the next pass begins.
    at: Duration,
    event: Duration,
    /// Recorded times of the newest tick of this pass.
    previous: Option<Recorded>,
    /// The next tick is the first of another file.
    crosses_file: bool,
}

#[derive(Debug, Clone, Copy)]
struct Recorded {
    received_ns: i64,
    venue_ns: i64,
}

impl TrackClock {
    fn cross_file(&mut self) {
        self.crosses_file = true;
    }

    fn begin_pass(&mut self) {
        self.at += PASS_GAP;
        // The venue's clock may have run ahead of the receiver's during the pass; from here both count from the same moment again,
        // unless that would turn event time back.
        self.event = self.at.max(self.event + Duration::from_micros(1));
        self.previous = None;
        self.crosses_file = false;
    }

    fn advance(&mut self, received_ns: i64, venue_ns: i64) -> (Duration, Duration) {
        let now = Recorded { received_ns, venue_ns };
        let previous = self.previous.replace(now).unwrap_or(now);
        let mut waited = between(previous.received_ns, received_ns);
        let mut event = between(previous.venue_ns, venue_ns);
        if std::mem::take(&mut self.crosses_file) {
            let cut = waited.saturating_sub(FILE_GAP_MAX);
            waited -= cut;
            event = event.saturating_sub(cut);
        }
        self.at += waited;
        self.event += event;
        (self.at, self.event)
    }
}

/// The time from one recorded moment to a later one; none if the clock of the recording went back.
fn between(from_ns: i64, to_ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(to_ns.saturating_sub(from_ns)).unwrap_or(0))
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    fn feed(clock: &mut TrackClock, received_ms: i64, venue_ms: i64) -> (Duration, Duration) {
        clock.advance(received_ms * 1_000_000, venue_ms * 1_000_000)
    }

    #[test]
    fn a_pass_begins_at_zero_and_keeps_its_distances() {
        let mut clock = TrackClock::default();
        assert_eq!(feed(&mut clock, 10_000, 11_200), (ms(0), ms(0)), "the offset of the venue's clock falls out");
        assert_eq!(feed(&mut clock, 10_040, 11_205), (ms(40), ms(5)));
        assert_eq!(feed(&mut clock, 10_030, 11_205), (ms(40), ms(5)), "a clock that goes back stands still");
    }

    #[test]
    fn time_goes_on_rising_over_passes_and_files() {
        let mut clock = TrackClock::default();
        feed(&mut clock, 0, 0);
        feed(&mut clock, 100, 5_000);
        clock.begin_pass();
        let (at, event) = feed(&mut clock, 0, 0);
        assert_eq!(at, ms(1_100));
        assert!(event > ms(5_000) && event < ms(5_001), "{event:?}");
        clock.cross_file();
        assert_eq!(feed(&mut clock, 3_600_000, 3_600_000).0, ms(2_100), "an hour between two files is cut to a second");
        clock.begin_pass();
        assert_eq!(feed(&mut clock, 0, 0).0, ms(3_100));
    }
}
