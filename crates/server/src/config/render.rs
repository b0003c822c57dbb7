//! What is in force, as TOML with the origin of every value, or as JSON.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use super::problem::Origin;
use super::{Config, Entry};

impl Config {
    /// The settings in force as a TOML file that can be read back, each with a comment that names where it came from. Secrets are
    /// masked and unset keys commented out.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut current: Option<&str> = None;
        for Entry { key, value, origin } in &self.entries {
            let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
            if current != Some(section) {
                let gap = if current.is_some() { "\n" } else { "" };
                let _ = writeln!(out, "{gap}{}", header(section));
                current = Some(section);
            }
            let line = match value {
                // A masked secret must not be read back as a secret of three stars.
                Some(value) if value == MASK => format!("# {name} = {value}"),
                Some(value) => format!("{name} = {value}"),
                None => format!("# {name} is not set"),
            };
            let _ = writeln!(out, "{line:<40} # {origin}");
        }
        out
    }

    /// The settings in force as a JSON list of `{key, value, origin}`. Secrets are masked, `null` is what is not set.
    pub fn to_json(&self) -> Json {
        let entry = |Entry { key, value, origin }: &Entry| {
            let mut entry = json!({"key": key, "value": value.as_deref().map(json_of), "source": source_of(origin)});
            match origin {
                Origin::File { file, line, column } => {
                    entry["file"] = json!(file.as_ref());
                    entry["line"] = json!(line);
                    entry["column"] = json!(column);
                }
                Origin::Env(name) => entry["variable"] = json!(name.as_ref()),
                Origin::Default | Origin::Set => {}
            }
            entry
        };
        Json::Array(self.entries.iter().map(entry).collect())
    }
}

pub(super) const MASK: &str = "\"***\"";

/// `listen` is a table, `socket[0]` an entry of a list.
fn header(section: &str) -> String {
    match section.split_once('[') {
        Some((list, _)) => format!("[[{list}]]"),
        None => format!("[{section}]"),
    }
}

fn source_of(origin: &Origin) -> &'static str {
    match origin {
        Origin::Default => "default",
        Origin::File { .. } => "file",
        Origin::Env(_) => "environment",
        Origin::Set => "set",
    }
}

/// The JSON form of a value that is written as TOML.
fn json_of(toml: &str) -> Json {
    let value = toml::de::ValueDeserializer::parse(toml).ok();
    value.and_then(|value| serde::Deserialize::deserialize(value).ok()).unwrap_or_else(|| Json::String(toml.to_owned()))
}
