//! The layer of the TOML file: its values with line and column, and its syntax errors with their cures.

use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::layers::{Item, Node};
use super::problem::{Origin, Problem};

/// Reads a file's text. Every syntax error is reported; what could be understood nonetheless is returned.
pub(super) fn parse_file(name: &str, text: &str, problems: &mut Vec<Problem>) -> Node {
    let places = Places { file: name.into(), text };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        let origin = places.origin(at);
        // One slip makes the parser stumble several times; the first place is where it happened.
        if !problems.iter().any(|problem| same_line(&problem.origin, &origin)) {
            let message = syntax_message(error.message(), places.line_at(at));
            problems.push(Problem { key: String::new(), origin, message });
        }
    }
    places.table(table.get_ref(), 0)
}

/// Reads one value that stands alone, where nobody asks for its place.
pub(super) fn parse_value(text: &str) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    Some(Places { file: "".into(), text }.node(value.get_ref(), 0, 0))
}

fn same_line(a: &Origin, b: &Origin) -> bool {
    matches!((a, b), (Origin::File { line: a, .. }, Origin::File { line: b, .. }) if a == b)
}

/// What is said of a broken section header.
pub(super) const HEADER_HINT: &str = "; a section is written [name], an entry of a list [[name]]";

/// A syntax error with the cure for the mistakes that people really make. What stands behind the `=` may be a secret that
/// lacks its quotes, so only what stands before it is repeated.
fn syntax_message(message: &str, line: &str) -> String {
    let value = line.split_once('=').map(|(_, value)| value.trim());
    let hint = match value {
        Some("") => "; a key needs a value behind the `=`",
        Some(value) if value.starts_with(|c: char| c.is_alphanumeric() || c == '/' || c == '*') => {
            "; text stands in quotes, for example key = \"value\""
        }
        None if line.trim_start().starts_with('[') => HEADER_HINT,
        None if line.contains(':') => "; a setting is written key = value",
        _ => "",
    };
    // What the parser would have taken instead helps less than the cure.
    let message = if hint.is_empty() { message } else { message.split(", expected").next().unwrap_or(message) };
    let seen = line.split('=').next().unwrap_or("").trim();
    if seen.is_empty() { format!("{message}{hint}") } else { format!("{message}{hint} (at {seen:?})") }
}

/// Turns byte offsets into lines and columns.
struct Places<'a> {
    file: Arc<str>,
    text: &'a str,
}

impl Places<'_> {
    fn origin(&self, at: usize) -> Origin {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Origin::File { file: self.file.clone(), line, column }
    }

    fn line_at(&self, at: usize) -> &str {
        let at = at.min(self.text.len());
        let start = self.text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
        self.text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or("")
    }

    fn table(&self, table: &DeTable<'_>, at: usize) -> Node {
        let entries = table.iter().map(|(key, value)| {
            (key.get_ref().to_string(), self.node(value.get_ref(), value.span().start, key.span().start))
        });
        Node::new(self.origin(at), Item::Table(entries.collect()))
    }

    /// `at` is where the value stands, `key_at` where its key does: a table is best shown by its header.
    fn node(&self, value: &DeValue<'_>, at: usize, key_at: usize) -> Node {
        let item = match value {
            DeValue::String(text) => Item::Text(text.to_string()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(value) => Item::Int(value),
                Err(_) => Item::Other(number.to_string()),
            },
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(value) => Item::Float(value),
                Err(_) => Item::Other(number.to_string()),
            },
            DeValue::Boolean(value) => Item::Flag(*value),
            DeValue::Datetime(value) => Item::Other(value.to_string()),
            DeValue::Array(list) => {
                let nodes = list.iter().map(|value| self.node(value.get_ref(), value.span().start, value.span().start));
                Item::List(nodes.collect())
            }
            DeValue::Table(table) => return self.table(table, key_at),
        };
        Node { origin: self.origin(at), key_origin: self.origin(key_at), item }
    }
}
