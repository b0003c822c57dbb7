//! The layers above the file: the environment and `--set`.

use serde_json::Value as Json;

use super::file::parse_value;
use super::layers::{Item, Node, at_path, overlay, read_secret};
use super::problem::{Origin, Problem};

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
    let mut node = parse_value(text)?;
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
