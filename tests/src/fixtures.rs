//! Recordings made up for tests, in the formats of the real ones.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};

/// A best bid and ask as text.
pub type Pair = (String, String);

/// A price of the row with this number: some have trailing zeros, as real ones do.
fn price(row: u64, offset: u64) -> String {
    let ticks = 138_000 + row * 7 % 1_000 + offset;
    format!("{}.{:05}", ticks / 100_000, ticks % 100_000)
}

/// Rows of a quote CSV (`ms since midnight,bid,ask`), a few milliseconds apart; and what they hold.
#[must_use]
pub fn quote_csv(rows: u64) -> (String, Vec<Pair>) {
    let mut text = String::new();
    let mut pairs = Vec::new();
    for row in 0..rows {
        let pair = (price(row, 0), price(row, 10));
        writeln!(text, "{},{},{}", 45_000_000 + row * 3, pair.0, pair.1).unwrap();
        pairs.push(pair);
    }
    (text, pairs)
}

/// A recorded combined stream with quotes, trades and depth, and what its quotes hold.
#[must_use]
pub fn book_tickers(symbol: &str, quotes: u64) -> (String, Vec<Pair>) {
    let mut text = String::new();
    let mut pairs = Vec::new();
    let lower = symbol.to_lowercase();
    for row in 0..quotes {
        let ns = 1_723_161_253_000_000_000 + row * 2_000_000;
        let pair = (format!("{}.10", 55_000 + row % 97), format!("{}.20", 55_000 + row % 97));
        writeln!(
            text,
            r#"{ns} {{"stream":"{lower}@bookTicker","data":{{"u":{row},"s":"{symbol}","b":"{}","B":"1.50000000","a":"{}","A":"0.25000000"}}}}"#,
            pair.0, pair.1
        )
        .unwrap();
        if row % 5 == 0 {
            writeln!(
                text,
                r#"{ns} {{"stream":"{lower}@trade","data":{{"e":"trade","s":"{symbol}","p":"{}","q":"0.1"}}}}"#,
                pair.0
            )
            .unwrap();
        }
        pairs.push(pair);
    }
    (text, pairs)
}

/// Writes a file, gzipped if its name says so.
///
/// # Panics
/// If it cannot be written.
pub fn write(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    if name.ends_with(".gz") {
        let mut encoder = GzEncoder::new(fs::File::create(&path).unwrap(), Compression::fast());
        encoder.write_all(content.as_bytes()).unwrap();
        encoder.finish().unwrap();
    } else {
        fs::write(&path, content).unwrap();
    }
    path
}
