//! The layers of a configuration (file, environment, `--set`), merged into one tree whose every value knows its origin.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value as Json;
use toml::de::{DeTable, DeValue};

use super::problem::{Origin, Problem};

/// A mounted secret is a line or a page, never a disk image.
const SECRET_FILE_BYTES_MAX: u64 = 256 * 1024;

/// Names with our prefix that the command line and the test suite read themselves.
const RESERVED: [&str; 9] = [
    "TICKWIRE_CONFIG",
    "TICKWIRE_URL",
    "TICKWIRE_GRPC_URL",
    "TICKWIRE_KEY",
    "TICKWIRE_TOKEN",
    "TICKWIRE_DATA",
    "TICKWIRE_REQUIRE_DATA",
    "TICKWIRE_BIN",
    "TICKWIRE_REGENERATE",
];

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) origin: Origin,
    /// Where its key stands, which is what an unknown key is shown by.
    pub(super) key_origin: Origin,
    pub(super) item: Item,
}

/// The values that TOML and JSON share.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// A text.
    Text(String),
    /// A value from the environment or `--set`: what it is, the reader of the key decides.
    Raw(String),
    Int(i64),
    Float(f64),
    Flag(bool),
    /// A date, or an integer that does not fit 64 bits: kept as written.
    Other(String),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
}

impl Node {
    pub(super) fn new(origin: Origin, item: Item) -> Self {
        Self { key_origin: origin.clone(), origin, item }
    }

    pub(super) fn table(origin: Origin) -> Self {
        Self::new(origin, Item::Table(Vec::new()))
    }

    /// What to show of it in a message: the value itself where it is short, else its kind.
    pub(super) fn seen(&self) -> String {
        match &self.item {
            Item::Text(text) | Item::Raw(text) if text.chars().count() <= 80 => format!("{text:?}"),
            Item::Text(text) | Item::Raw(text) => {
                format!("{:?}…", text.chars().take(60).collect::<String>())
            }
            Item::Int(value) => value.to_string(),
            Item::Float(value) => value.to_string(),
            Item::Flag(value) => value.to_string(),
            Item::Other(text) => text.clone(),
            Item::List(_) => "a list".to_owned(),
            Item::Table(_) => "a table".to_owned(),
        }
    }
}

/// Lays `upper` over `lower`: tables are merged key by key, anything else is replaced.
pub(super) fn overlay(lower: &mut Node, upper: Node) {
    match (&mut lower.item, upper.item) {
        (Item::Table(below), Item::Table(above)) => {
            for (key, node) in above {
                match below.iter_mut().find(|(name, _)| *name == key) {
                    Some((_, existing)) => overlay(existing, node),
                    None => below.push((key, node)),
                }
            }
        }
        (slot, item) => {
            *slot = item;
            lower.origin = upper.origin;
            lower.key_origin = upper.key_origin;
        }
    }
}

/// Wraps a value into the tables of a dotted path.
pub(super) fn at_path(path: &[String], leaf: Node) -> Node {
    let wrap = |node: Node, key: &String| Node::new(node.origin.clone(), Item::Table(vec![(key.clone(), node)]));
    path.iter().rev().fold(leaf, wrap)
}

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

/// Reads a value from the environment or `--set`. Lists and tables may be written in TOML or JSON; what is neither stays
/// raw text (an IPv6 address begins with a bracket, too) until the reader of the key says what it should be.
pub(super) fn raw_value(text: &str, origin: &Origin) -> Node {
    let trimmed = text.trim();
    let item = match trimmed.chars().next() {
        Some('[' | '{') => match serde_json::from_str::<Json>(trimmed) {
            Ok(json) => json_item(json, origin),
            Err(_) => toml_item(trimmed, origin).unwrap_or_else(|| Item::Raw(text.to_owned())),
        },
        Some('"' | '\'') => match toml_item(trimmed, origin) {
            Some(item @ Item::Text(_)) => item,
            _ => Item::Raw(text.to_owned()),
        },
        _ => Item::Raw(text.to_owned()),
    };
    Node::new(origin.clone(), item)
}

fn toml_item(text: &str, origin: &Origin) -> Option<Item> {
    let value = DeValue::parse(text).ok()?;
    let mut node = Places { file: "".into(), text }.node(value.get_ref(), 0, 0);
    set_origin(&mut node, origin);
    Some(node.item)
}

fn set_origin(node: &mut Node, origin: &Origin) {
    node.origin = origin.clone();
    node.key_origin = origin.clone();
    match &mut node.item {
        Item::List(nodes) => nodes.iter_mut().for_each(|node| set_origin(node, origin)),
        Item::Table(entries) => entries.iter_mut().for_each(|(_, node)| set_origin(node, origin)),
        _ => {}
    }
}

fn json_item(json: Json, origin: &Origin) -> Item {
    let node = |json| Node::new(origin.clone(), json_item(json, origin));
    match json {
        Json::Null => Item::Other("null".to_owned()),
        Json::Bool(value) => Item::Flag(value),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(value), _) => Item::Int(value),
            (None, Some(value)) => Item::Float(value),
            (None, None) => Item::Other(number.to_string()),
        },
        Json::String(text) => Item::Text(text),
        Json::Array(values) => Item::List(values.into_iter().map(node).collect()),
        Json::Object(entries) => Item::Table(entries.into_iter().map(|(key, value)| (key, node(value))).collect()),
    }
}

/// The environment as a tree. `TICKWIRE_A__B` is `a.b`; `TICKWIRE_A__B_FILE` is `a.b` with the content of the named file.
///
/// Names without a double underscore are ours only where they are a whole section: Kubernetes puts names like
/// `TICKWIRE_PORT_4000_TCP` into every container beside a service called `tickwire`.
pub(super) fn from_env(
    variables: impl IntoIterator<Item = (String, String)>,
    sections: &[&str],
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<String>,
) -> Node {
    let mut variables: Vec<_> = variables.into_iter().filter(|(name, _)| name.starts_with("TICKWIRE_")).collect();
    variables.sort();
    let mut tree = Node::table(Origin::Default);
    let mut set: Vec<(Vec<String>, String)> = Vec::new();
    for (name, value) in variables {
        let origin = Origin::Env(name.as_str().into());
        let (key, from_file) = match name["TICKWIRE_".len()..].strip_suffix("_FILE") {
            Some(key) => (key, true),
            None => (&name["TICKWIRE_".len()..], false),
        };
        let path: Vec<String> = key.split("__").map(str::to_ascii_lowercase).collect();
        if path.len() == 1 && !sections.contains(&path[0].as_str()) {
            warnings.extend(stray(&name));
            continue;
        }
        if let Some((_, other)) = set.iter().find(|(earlier, _)| *earlier == path) {
            problems.push(Problem {
                key: path.join("."),
                origin,
                message: format!("is also set by {other}; remove one of the two"),
            });
            continue;
        }
        let value = if from_file { read_secret(&value) } else { Ok(value) };
        match value {
            Ok(text) => overlay(&mut tree, at_path(&path, raw_value(&text, &origin))),
            Err(message) => problems.push(Problem { key: path.join("."), origin, message }),
        }
        set.push((path, name));
    }
    tree
}

/// A name that begins like ours and is none: worth a warning, unless others put it there.
fn stray(name: &str) -> Option<String> {
    let of_kubernetes = name.ends_with("_SERVICE_HOST")
        || name.ends_with("_PORT")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_");
    if of_kubernetes || RESERVED.contains(&name) {
        return None;
    }
    Some(format!(
        "environment: {name} is no setting and is ignored; a setting reads TICKWIRE_SECTION__KEY, with two underscores"
    ))
}

/// Reads a mounted secret; the newline that editors and `echo` leave at its end is no part of it.
pub(super) fn read_secret(path: &str) -> Result<String, String> {
    let path = Path::new(path);
    let length = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?.len();
    if length > SECRET_FILE_BYTES_MAX {
        return Err(format!("{} has {length} bytes, a secret has at most {SECRET_FILE_BYTES_MAX}", path.display()));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// Why a file could not be read, in words that name it.
pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> String {
    let cure = match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file; check the path",
        std::io::ErrorKind::PermissionDenied => "this user may not read it; check its owner and mode",
        std::io::ErrorKind::IsADirectory => "it is a directory; name a file in it",
        std::io::ErrorKind::InvalidData => "it is not UTF-8 text",
        _ => return format!("cannot read {}: {error}", path.display()),
    };
    format!("cannot read {}: {cure}", path.display())
}

/// One `--set KEY=VALUE`.
pub(super) fn from_set(text: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    let problem = |message: String| Problem { key: String::new(), origin: Origin::Set, message };
    let Some((key, value)) = text.split_once('=') else {
        problems.push(problem(format!("{text:?} is not KEY=VALUE, for example limits.connections=1000")));
        return None;
    };
    let path: Vec<String> = key.trim().split('.').map(str::to_owned).collect();
    if path.iter().any(String::is_empty) {
        problems.push(problem(format!("{key:?} is not a key, for example listen.http")));
        return None;
    }
    Some(at_path(&path, raw_value(value, &Origin::Set)))
}
