//! Which instrument a recorded file holds, read from its name, and which symbol that is here.

use std::collections::BTreeMap;
use std::path::Path;

use crate::{Symbol, timestamp::days_from_civil};

/// Names of venues as recordings carry them, before the first `-` of a file name.
struct Venue {
    name: &'static str,
    /// What the symbol of this venue's instruments ends in, so that the same pair of two venues stays apart.
    suffix: &'static str,
    /// Zone of the "local midnight" from which its quote CSV counts, in hours from UTC.
    utc_offset_hours: i64,
}

/// Oanda and Binance spot carry the plain symbols; `.P` marks a perpetual future, as charting tools write it.
const VENUES: [Venue; 5] = [
    Venue { name: "oanda", suffix: "", utc_offset_hours: 0 },
    Venue { name: "fxcm", suffix: ".FXCM", utc_offset_hours: -5 },
    Venue { name: "spot", suffix: "", utc_offset_hours: 0 },
    Venue { name: "usdm", suffix: ".P", utc_offset_hours: 0 },
    Venue { name: "cm", suffix: ".P", utc_offset_hours: 0 },
];

/// What a file name says of its content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileName {
    /// Venue and instrument, lower case, as in `oanda-eurusd`. Files of one source and several days continue one another.
    pub(super) source: String,
    /// Day of the recording, in days since the Unix epoch; 0 where the name has none.
    pub(super) day: i64,
}

impl FileName {
    /// Reads `oanda-eurusd-20140508-quote.csv.gz` as source `oanda-eurusd`, day 2014-05-08.
    pub(super) fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let stem = name.split('.').next().unwrap_or_default();
        let stem = stem.strip_suffix("-quote").or_else(|| stem.strip_suffix("_quote")).unwrap_or(stem);
        match split_date(stem) {
            Some((source, day)) => Self { source: source.to_owned(), day },
            None => Self { source: stem.to_owned(), day: 0 },
        }
    }

    /// The zone of local midnight in this file, in hours from UTC.
    pub(super) fn utc_offset_hours(&self) -> i64 {
        venue_of(&self.source).map_or(0, |(venue, _)| venue.utc_offset_hours)
    }

    /// The source of one instrument of a file that holds several: the file's venue and the name that the stream gives it.
    pub(super) fn source_of_stream(&self, instrument: &str) -> String {
        let instrument = instrument.to_lowercase();
        match venue_of(&self.source) {
            Some((venue, _)) => format!("{}-{instrument}", venue.name),
            None => instrument,
        }
    }
}

/// Splits `…-20140508` or `…_20140508` into what precedes the date and the day.
fn split_date(stem: &str) -> Option<(&str, i64)> {
    let (source, digits) = stem.rsplit_once(['-', '_'])?;
    if digits.len() != 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: i64 = digits.parse().ok()?;
    let (year, month, day) = (number / 10_000, number / 100 % 100, number % 100);
    ((1..=12).contains(&month) && (1..=31).contains(&day)).then(|| (source, days_from_civil(year, month, day)))
}

fn venue_of(source: &str) -> Option<(&'static Venue, &str)> {
    let (venue, instrument) = source.split_once('-')?;
    VENUES.iter().find(|known| known.name == venue).map(|known| (known, instrument))
}

/// Gives the instruments of recordings their symbols.
///
/// The built-in rules make `oanda-eurusd` `EURUSD`, `fxcm-eurusd` `EURUSD.FXCM`, `spot-btcusdt` `BTCUSDT`, `usdm-btcusdt` `BTCUSDT.P` and
/// `cm-btcusd_perp` `BTCUSD.P`; any other source is its own name in capitals. The configuration can say otherwise for each source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SymbolMap(BTreeMap<String, Symbol>);

/// No symbol can be made of a recording's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no symbol can be made of {source_name:?}; name one in the feed's symbols, for example symbols = {{ {source_name:?} = \"BTCUSDT\" }}"
)]
pub struct UnnamedSource {
    source_name: String,
}

impl SymbolMap {
    /// Symbols by source, where the built-in rules do not serve. Sources are compared in lower case.
    pub fn new(overrides: impl IntoIterator<Item = (String, Symbol)>) -> Self {
        Self(overrides.into_iter().map(|(source, symbol)| (source.to_lowercase(), symbol)).collect())
    }

    /// The symbol of a source such as `oanda-eurusd`.
    pub fn symbol_of(&self, source: &str) -> Result<Symbol, UnnamedSource> {
        if let Some(symbol) = self.0.get(source) {
            return Ok(symbol.clone());
        }
        let (suffix, instrument) = venue_of(source).map_or(("", source), |(venue, rest)| (venue.suffix, rest));
        let (suffix, instrument) = match instrument.strip_suffix("_perp") {
            Some(pair) => (".P", pair),
            None => (suffix, instrument),
        };
        let name = format!("{}{suffix}", instrument.to_uppercase());
        name.parse().map_err(|_| UnnamedSource { source_name: source.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol_of_file(name: &str) -> String {
        SymbolMap::default().symbol_of(&FileName::of(Path::new(name)).source).unwrap().to_string()
    }

    #[test]
    fn recorded_files_have_the_symbols_that_people_expect() {
        for (file, symbol) in [
            ("fx-ticks/oanda-eurusd-20140508-quote.csv.gz", "EURUSD"),
            ("fxcm-eurusd-20140508-quote.csv.gz", "EURUSD.FXCM"),
            ("oanda-xauusd-20140508-quote.csv", "XAUUSD"),
            ("spot-btcusdt_20240808.jsonl.gz", "BTCUSDT"),
            ("usdm-ethusdt_20240808.jsonl.gz", "ETHUSDT.P"),
            ("cm-btcusd_perp_20240809.jsonl.gz", "BTCUSD.P"),
            ("gbpjpy.csv", "GBPJPY"),
        ] {
            assert_eq!(symbol_of_file(file), symbol, "{file}");
        }
    }

    #[test]
    fn two_days_of_one_instrument_are_one_source() {
        let first = FileName::of(Path::new("spot-btcusdt_20240808.jsonl.gz"));
        let second = FileName::of(Path::new("spot-btcusdt_20240809.jsonl.gz"));
        assert_eq!(first.source, second.source);
        assert_eq!(second.day - first.day, 1);
        assert_eq!(first.day, 19_943);
    }

    #[test]
    fn a_date_that_is_none_stays_in_the_name() {
        assert_eq!(FileName::of(Path::new("abc-20141308.csv")), FileName { source: "abc-20141308".into(), day: 0 });
        assert_eq!(FileName::of(Path::new("")), FileName { source: String::new(), day: 0 });
    }

    #[test]
    fn the_configuration_overrules_the_rules() {
        let map = SymbolMap::new([("OANDA-EURUSD".to_owned(), "EUR/USD".parse().unwrap())]);
        assert_eq!(map.symbol_of("oanda-eurusd").unwrap().to_string(), "EUR/USD");
        assert_eq!(map.symbol_of("oanda-gbpusd").unwrap().to_string(), "GBPUSD");
    }

    #[test]
    fn a_source_that_makes_no_symbol_says_what_to_configure() {
        let error = SymbolMap::default().symbol_of("my prices").unwrap_err().to_string();
        assert!(error.contains("\"my prices\"") && error.contains("symbols"), "{error}");
        assert!(SymbolMap::default().symbol_of("").is_err());
    }

    #[test]
    fn a_stream_in_a_file_of_several_is_named_by_venue_and_stream() {
        let name = FileName::of(Path::new("usdm-all_20240808.jsonl"));
        assert_eq!(name.source_of_stream("ETHUSDT"), "usdm-ethusdt");
        assert_eq!(FileName::of(Path::new("capture.jsonl")).source_of_stream("ETHUSDT"), "ethusdt");
    }

    #[test]
    fn fxcm_counts_from_midnight_five_hours_west_of_greenwich() {
        assert_eq!(FileName::of(Path::new("fxcm-eurusd-20140508-quote.csv")).utc_offset_hours(), -5);
        assert_eq!(FileName::of(Path::new("oanda-eurusd-20140508-quote.csv")).utc_offset_hours(), 0);
    }
}
