//! The layers of a configuration, merged into one tree whose every value knows its origin.

use std::path::Path;

use super::problem::Origin;

/// A mounted secret is a line or a page, never a disk image.
const SECRET_FILE_BYTES_MAX: u64 = 256 * 1024;

/// Room for all keys of a large signer, as `auth` bounds the sets that it reads from elsewhere.
const KEY_FILE_BYTES_MAX: u64 = 256 * 1024;

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

/// Reads a file of public keys, which is looked at again while the node runs. The message follows the name of a setting.
pub(crate) fn read_key_file(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let mut contents = Vec::new();
    let opened = std::fs::File::open(path);
    // Bounded while it is read: what a path leads to may have no length to ask for.
    let read = opened.and_then(|file| file.take(KEY_FILE_BYTES_MAX + 1).read_to_end(&mut contents));
    read.map_err(|error| unreadable(path, &error))?;
    if contents.len() as u64 > KEY_FILE_BYTES_MAX {
        return Err(format!("{} has more than {KEY_FILE_BYTES_MAX} bytes; name a file of keys", path.display()));
    }
    Ok(contents)
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
