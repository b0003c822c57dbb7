//! `[[feed]]`: where quotes come from without a publisher.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tickwire_market::Symbol;
use tickwire_market::feed::binance::BinanceConfig;
use tickwire_market::feed::replay::{ReplayConfig, SymbolMap};
use tickwire_market::feed::simulated::SimulatedConfig;
use tickwire_market::feed::{FeedConfig, FeedKind, RestartPolicy, Speed};

use super::{HOUR, secs};
use crate::config::layers::{Item, Node};
use crate::config::reader::Section;
use crate::config::values::Setting;

pub(super) fn feeds(root: &Section<'_>) -> Vec<FeedConfig> {
    let mut names: Vec<String> = Vec::new();
    let entries = root.sections("feed", |s| {
        let feed = feed(s)?;
        if names.contains(&feed.name) {
            s.problem("name", format!("{} names an earlier [[feed]], too; give each its own name", feed.name.show()));
        }
        names.push(feed.name.clone());
        Some(feed)
    });
    entries.unwrap_or_default().into_iter().flatten().collect()
}

fn feed(s: &Section<'_>) -> Option<FeedConfig> {
    let kind = s.option::<String>("kind");
    let name = s.value("name", kind.clone().unwrap_or_default());
    let kind = match kind.as_deref() {
        Some("replay") => FeedKind::Replay(replay(s)?),
        Some("binance") => FeedKind::Binance(binance(s)),
        Some("simulated") => FeedKind::Simulated(SimulatedConfig {
            seed: s.value("seed", SimulatedConfig::default().seed),
            rate: s.between("rate", SimulatedConfig::default().rate, 0.1, 1_000_000.0),
            count: s.between("count", SimulatedConfig::default().count, 1, 100_000),
        }),
        Some(other) => {
            s.problem("kind", format!("{other:?} is none of \"replay\", \"binance\", \"simulated\""));
            return None;
        }
        None => {
            if !s.has("kind") {
                s.problem("kind", "is missing; \"replay\", \"binance\" or \"simulated\"");
            }
            return None;
        }
    };
    Some(FeedConfig { name, kind, restart: RestartPolicy::default() })
}

fn replay(s: &Section<'_>) -> Option<ReplayConfig> {
    // One path is a text, several are a list.
    let read_paths = |node: &Node| match &node.item {
        Item::Text(_) | Item::Raw(_) => PathBuf::read(node).map(|path| vec![path]),
        _ => match Vec::read(node)? {
            paths if paths.is_empty() => Err("names no file".to_owned()),
            paths => Ok(paths),
        },
    };
    let paths = s.option_by("path", read_paths, Vec::show);
    if !s.has("path") {
        s.problem("path", "is missing: a recorded file, a directory of them, or a list");
    }
    let symbols = SymbolMap::new(symbols_by_name(s));
    let only = s.value("only", Vec::new());
    let speed = s.value("speed", Speed::RECORDED);
    let repeat = s.value("loop", true);
    let csv_start = s.value("csv_start", CsvStart(Some(ReplayConfig::BUSY_HOUR))).0;
    Some(ReplayConfig { paths: paths?, symbols, only, speed, repeat, csv_start })
}

fn binance(s: &Section<'_>) -> BinanceConfig {
    let read_url = |node: &Node| match String::read(node)? {
        url if url.starts_with("wss://") || url.starts_with("ws://") => Ok(url),
        _ => Err(format!("is not the URL of a WebSocket, for example {:?}", BinanceConfig::URL)),
    };
    let url = s.value_by("url", BinanceConfig::URL.to_owned(), read_url, String::show);
    let silence = s.between("silence", BinanceConfig::default().silence, secs(1), HOUR);
    // A list takes the venue's own names, a table renames.
    let by_name = s.is_table("symbols").then(|| symbols_by_name(s));
    let symbols: BTreeMap<String, Symbol> = match by_name {
        Some(pairs) => pairs.into_iter().collect(),
        None => {
            let own_names = BinanceConfig::default().symbols.into_values().collect();
            let symbols: Vec<Symbol> = s.value("symbols", own_names);
            symbols.into_iter().map(|symbol| (symbol.to_string(), symbol)).collect()
        }
    };
    if symbols.is_empty() && s.is_sound("symbols") {
        s.problem("symbols", "names nothing to follow, for example [\"BTCUSDT\"] or { BTCUSDT = \"BTC-USDT\" }");
    }
    BinanceConfig { silence, symbols, ..BinanceConfig::of(&url, []) }
}

/// The table from recorded or venue's names to symbols.
fn symbols_by_name(s: &Section<'_>) -> Vec<(String, Symbol)> {
    let read = |(name, text): (String, String)| match Symbol::new(&text) {
        Ok(symbol) => Some((name, symbol)),
        Err(error) => {
            s.problem("symbols", format!("{name} = {text:?}: {error}"));
            None
        }
    };
    s.texts_by_name("symbols").into_iter().filter_map(read).collect()
}

/// UTC time of day at which a CSV of a whole day starts; `None`: at its first tick.
#[derive(Clone, Copy)]
struct CsvStart(Option<Duration>);

impl Setting for CsvStart {
    fn read(node: &Node) -> Result<Self, String> {
        let text = String::read(node)?;
        let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.len() == 2);
        match text.split_once(':').map(|(hours, minutes)| (number(hours), number(minutes))) {
            None if text == "first" => Ok(Self(None)),
            Some((Some(hours @ 0..24), Some(minutes @ 0..60))) => Ok(Self(Some(secs(hours * 3600 + minutes * 60)))),
            _ => Err("is no time of day such as \"12:30\", nor \"first\" for the first tick".to_owned()),
        }
    }

    fn show(&self) -> String {
        self.0.map_or_else(
            || "\"first\"".to_owned(),
            |start| format!("\"{:02}:{:02}\"", start.as_secs() / 3600, start.as_secs() / 60 % 60),
        )
    }
}

impl Setting for Symbol {
    fn read(node: &Node) -> Result<Self, String> {
        Self::new(&String::read(node)?)
            .map_err(|_| "is no symbol: expected 1 to 64 of the characters A-Z a-z 0-9 . _ : / -".to_owned())
    }

    fn show(&self) -> String {
        self.to_string().show()
    }
}

impl Setting for Speed {
    fn read(node: &Node) -> Result<Self, String> {
        let speed = match &node.item {
            Item::Text(text) | Item::Raw(text) => text.parse().ok(),
            _ => f64::read(node).ok().and_then(|times| Self::times(times).ok()),
        };
        speed.ok_or_else(|| "is no speed, expected a number such as 1 or 10, or \"max\"".to_owned())
    }

    fn show(&self) -> String {
        self.factor().map_or_else(|| "\"max\"".to_owned(), |times| times.show())
    }
}
