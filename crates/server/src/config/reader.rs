//! Reads typed settings out of the merged tree. It gathers every problem instead of stopping at the first, records what is
//! in force and where it came from, and reports the keys that nobody asked for.

use std::cell::RefCell;

use super::layers::{Item, Node, read_secret};
use super::problem::{Origin, Problem};
use super::secret::Secret;
use super::values::Setting;

/// One setting in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The dotted path, with list entries as `socket[0]`.
    pub key: String,
    /// The value as TOML, masked where it is a secret; `None` where the setting is unset.
    pub value: Option<String>,
    /// Where it came from.
    pub origin: Origin,
}

/// Collects what reading a configuration finds.
#[derive(Debug, Default)]
pub(super) struct Reader {
    problems: RefCell<Vec<Problem>>,
    entries: RefCell<Vec<Entry>>,
    /// Every key that a reader asked for, with `[]` for the index of a list, and those that nobody knows.
    known: RefCell<Vec<String>>,
    unknown: RefCell<Vec<Unknown>>,
}

#[derive(Debug)]
struct Unknown {
    section: String,
    key: String,
    origin: Origin,
    siblings: Vec<String>,
}

/// What a finished reader hands over.
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    pub(super) entries: Vec<Entry>,
    #[cfg(test)]
    pub(super) known: Vec<String>,
}

impl Reader {
    /// Reports a problem with a setting.
    pub(super) fn problem(&self, key: impl Into<String>, origin: Origin, message: impl Into<String>) {
        self.problems.borrow_mut().push(Problem { key: key.into(), origin, message: message.into() });
    }

    /// Reads the root of the tree.
    pub(super) fn root<T>(&self, tree: &Node, read: impl FnOnce(&Section<'_>) -> T) -> T {
        self.within(String::new(), Some(tree), read)
    }

    /// Reads one table and then reports the keys in it that `read` did not ask for.
    fn within<T>(&self, path: String, node: Option<&Node>, read: impl FnOnce(&Section<'_>) -> T) -> T {
        let nodes = match node.map(|node| (&node.item, node)) {
            None => &[][..],
            Some((Item::Table(entries), _)) => entries,
            Some((_, node)) => {
                let message = format!("{} is not a table of settings, for example {{ key = value }}", node.seen());
                self.problem(path.clone(), node.origin.clone(), message);
                &[]
            }
        };
        let origin = node.map(|node| node.origin.clone()).unwrap_or_default();
        let section = Section { reader: self, path, nodes, origin, asked: RefCell::default() };
        let value = read(&section);
        section.report_unknown();
        value
    }

    /// Ends the reading: now that all keys are known, the unknown ones get their suggestions.
    pub(super) fn finish(self) -> Findings {
        let known = self.known.into_inner();
        let mut problems = self.problems.into_inner();
        for unknown in self.unknown.into_inner() {
            problems.push(unknown.problem(&known));
        }
        Findings {
            problems,
            entries: self.entries.into_inner(),
            #[cfg(test)]
            known,
        }
    }
}

impl Unknown {
    fn problem(self, known: &[String]) -> Problem {
        let Self { section, key, origin, siblings } = self;
        let full = join(&section, &key);
        let hint = if let Some(near) = nearest(&key, &siblings) {
            format!("did you mean {}?", join(&section, near))
        } else if let Some(elsewhere) = known.iter().find(|path| path.rsplit('.').next() == Some(key.as_str())) {
            format!("did you mean {elsewhere}?")
        } else if siblings.is_empty() {
            "remove it".to_owned()
        } else {
            format!("known here: {}", siblings.join(", "))
        };
        Problem { key: full, origin, message: format!("unknown key; {hint}") }
    }
}

/// The known key that an unknown one was probably meant to be.
fn nearest<'a>(key: &str, known: &'a [String]) -> Option<&'a str> {
    let score =
        |name: &String| strsim::normalized_damerau_levenshtein(key, name).max(strsim::jaro_winkler(key, name) - 0.25);
    let best = known.iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(best) >= 0.6).then_some(best)
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// The path with every index of a list left empty: `socket[3].path` becomes `socket[].path`.
fn without_indices(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        inside = (inside || c == '[') && c != ']';
        if !inside || c == '[' {
            out.push(c);
        }
    }
    out
}

/// One table of the configuration.
pub(super) struct Section<'r> {
    reader: &'r Reader,
    path: String,
    nodes: &'r [(String, Node)],
    origin: Origin,
    asked: RefCell<Vec<String>>,
}

impl<'r> Section<'r> {
    /// Where a key of it stands, or the table itself where the key is unset.
    pub(super) fn origin_of(&self, key: &str) -> Origin {
        self.nodes
            .iter()
            .find(|(name, _)| name == key)
            .map_or_else(|| self.origin.clone(), |(_, node)| node.origin.clone())
    }

    /// The dotted path of a key of it.
    pub(super) fn key(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Reports a problem with one of its keys.
    pub(super) fn problem(&self, key: &str, message: impl Into<String>) {
        self.reader.problem(self.key(key), self.origin_of(key), message);
    }

    /// Whether nothing was wrong with a key so far. What does not fit its neighbours is not worth telling of a key that is
    /// wrong by itself, since its default stands in for it.
    pub(super) fn is_sound(&self, key: &str) -> bool {
        let key = self.key(key);
        !self.reader.problems.borrow().iter().any(|problem| problem.key == key)
    }

    /// Whether a key is set to a table.
    pub(super) fn is_table(&self, key: &str) -> bool {
        self.nodes.iter().any(|(name, node)| name == key && matches!(node.item, Item::Table(_)))
    }

    /// Whether a key is set in any layer.
    pub(super) fn has(&self, key: &str) -> bool {
        self.nodes.iter().any(|(name, _)| name == key)
    }

    fn ask(&self, key: &str) -> Option<&'r Node> {
        self.asked.borrow_mut().push(key.to_owned());
        let path = without_indices(&self.key(key));
        let mut known = self.reader.known.borrow_mut();
        if !known.contains(&path) {
            known.push(path);
        }
        self.nodes.iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    fn record(&self, key: &str, value: Option<String>, origin: Origin) {
        self.reader.entries.borrow_mut().push(Entry { key: self.key(key), value, origin });
    }

    fn report_unknown(&self) {
        let asked = self.asked.borrow();
        for (key, node) in self.nodes.iter().filter(|(key, _)| !asked.contains(key)) {
            self.reader.unknown.borrow_mut().push(Unknown {
                section: self.path.clone(),
                key: key.clone(),
                origin: node.key_origin.clone(),
                siblings: asked.clone(),
            });
        }
    }

    /// A nested table.
    pub(super) fn section<T>(&self, key: &str, read: impl FnOnce(&Section<'_>) -> T) -> T {
        let node = self.ask(key);
        self.reader.within(self.key(key), node, read)
    }

    /// A list of tables, `None` where it is unset.
    pub(super) fn sections<T>(&self, key: &str, mut read: impl FnMut(&Section<'_>) -> T) -> Option<Vec<T>> {
        let node = self.ask(key)?;
        let Item::List(entries) = &node.item else {
            let cure =
                format!("an entry in the file begins with [[{key}]], in the environment the list is JSON, [{{…}}]");
            self.problem(key, format!("{} is not a list of tables; {cure}", node.seen()));
            return None;
        };
        let entry =
            |(i, node): (usize, &Node)| self.reader.within(format!("{}[{i}]", self.key(key)), Some(node), &mut read);
        Some(entries.iter().enumerate().map(entry).collect())
    }

    /// An entry of a list that nobody wrote, at its defaults.
    pub(super) fn section_of_default<T>(&self, key: &str, read: impl FnOnce(&Section<'_>) -> T) -> T {
        self.reader.within(self.key(key), None, read)
    }

    /// Records the entries of a list that nobody wrote.
    pub(super) fn record_built_in<T>(
        &self,
        key: &str,
        entries: &[T],
        show: impl Fn(&T) -> Vec<(&'static str, String)>,
    ) {
        for (i, entry) in entries.iter().enumerate() {
            for (name, value) in show(entry) {
                self.record(&format!("{key}[{i}].{name}"), Some(value), Origin::Default);
            }
        }
    }

    /// The names and texts of a table whose keys are free, in the order in which they stand.
    pub(super) fn texts_by_name(&self, key: &str) -> Vec<(String, String)> {
        let Some(node) = self.ask(key) else { return Vec::new() };
        let Item::Table(entries) = &node.item else {
            self.problem(
                key,
                format!("{} is not a table of names, for example {{ spot-btcusdt = \"BTCUSDT\" }}", node.seen()),
            );
            return Vec::new();
        };
        let mut pairs = Vec::new();
        for (name, node) in entries {
            match String::read(node) {
                Ok(text) => pairs.push((name.clone(), text)),
                Err(expected) => {
                    let message = format!("{} {expected}", node.seen());
                    self.reader.problem(join(&self.key(key), name), node.origin.clone(), message);
                }
            }
        }
        let shown = pairs.iter().map(|(name, text)| format!("{} = {}", name.show(), text.show())).collect::<Vec<_>>();
        self.record(key, Some(format!("{{ {} }}", shown.join(", "))), node.origin.clone());
        pairs
    }

    /// A setting that may be unset, read by the given function.
    pub(super) fn option_by<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Node) -> Result<T, String>,
        show: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let Some(node) = self.ask(key) else {
            self.record(key, None, Origin::Default);
            return None;
        };
        match read(node) {
            Ok(value) => {
                self.record(key, Some(show(&value)), node.origin.clone());
                Some(value)
            }
            Err(expected) => {
                self.problem(key, format!("{} {expected}", node.seen()));
                None
            }
        }
    }

    /// A setting with a default, read by the given function.
    pub(super) fn value_by<T>(
        &self,
        key: &str,
        default: T,
        read: impl FnOnce(&Node) -> Result<T, String>,
        show: impl FnOnce(&T) -> String,
    ) -> T {
        let Some(node) = self.ask(key) else {
            self.record(key, Some(show(&default)), Origin::Default);
            return default;
        };
        match read(node) {
            Ok(value) => {
                self.record(key, Some(show(&value)), node.origin.clone());
                value
            }
            Err(expected) => {
                self.problem(key, format!("{} {expected}", node.seen()));
                default
            }
        }
    }

    /// A setting that may be unset.
    pub(super) fn option<T: Setting>(&self, key: &str) -> Option<T> {
        self.option_by(key, T::read, T::show)
    }

    /// A setting with a default.
    pub(super) fn value<T: Setting>(&self, key: &str, default: T) -> T {
        self.value_by(key, default, T::read, T::show)
    }

    /// A setting with a default and bounds, both included.
    pub(super) fn between<T: Setting + PartialOrd>(&self, key: &str, default: T, low: T, high: T) -> T {
        self.value_by(key, default, |node| in_range(T::read(node)?, &low, &high), T::show)
    }

    /// A number that the machine can choose: `"auto"` is `None`.
    pub(super) fn auto<T: Setting + PartialOrd>(&self, key: &str, low: T, high: T) -> Option<T> {
        let read = |node: &Node| match &node.item {
            Item::Text(text) | Item::Raw(text) if text == "auto" => Ok(None),
            _ => match T::read(node) {
                Ok(value) => in_range(value, &low, &high).map(Some),
                Err(expected) => Err(format!("{expected}, nor \"auto\"")),
            },
        };
        self.value_by(key, None, read, |value| value.as_ref().map_or_else(|| "\"auto\"".to_owned(), T::show))
    }

    /// A limit that may be off: `"none"` is `None`, which is the default.
    pub(super) fn unlimited<T: Setting + PartialOrd>(&self, key: &str, low: T, high: T) -> Option<T> {
        let read = |node: &Node| match &node.item {
            Item::Text(text) | Item::Raw(text) if text == "none" => Ok(None),
            _ => match T::read(node) {
                Ok(value) => in_range(value, &low, &high).map(Some),
                Err(expected) => Err(format!("{expected}, nor \"none\"")),
            },
        };
        self.value_by(key, None, read, |value| value.as_ref().map_or_else(|| "\"none\"".to_owned(), T::show))
    }

    /// One of a few named values.
    pub(super) fn choice<T: Copy + PartialEq>(&self, key: &str, default: T, choices: &[(&str, T)]) -> T {
        let read = |node: &Node| {
            let text = String::read(node)?;
            choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| not_one_of(choices))
        };
        let show = |value: &T| {
            let name = choices.iter().find(|(_, choice)| choice == value).map_or("", |(name, _)| *name);
            name.to_owned().show()
        };
        self.value_by(key, default, read, show)
    }

    /// A secret, from the key itself or from the file that `<key>_file` names.
    pub(super) fn secret(&self, key: &str, bytes_min: usize) -> Option<Secret> {
        let file_key = format!("{key}_file");
        let direct = self.ask(key);
        let Some(from_file) = self.ask(&file_key) else {
            let node = direct.or_else(|| {
                self.record(key, None, Origin::Default);
                None
            })?;
            return self.accept_secret(key, String::read(node).ok(), bytes_min);
        };
        if direct.is_some() {
            self.problem(&file_key, format!("{} is set, too; remove one of the two", self.key(key)));
            return None;
        }
        match String::read(from_file).and_then(|path| read_secret(&path)) {
            Ok(text) => self.accept_secret(&file_key, Some(text), bytes_min),
            Err(message) => {
                self.problem(&file_key, message);
                None
            }
        }
    }

    /// The value of a secret is in no message, not even when it is wrong.
    fn accept_secret(&self, key: &str, text: Option<String>, bytes_min: usize) -> Option<Secret> {
        let Some(text) = text else {
            self.problem(key, "is not a text in quotes");
            return None;
        };
        if text.len() < bytes_min {
            let cure = "make one with: openssl rand -hex 32";
            self.problem(key, format!("has {} bytes, a secret here has at least {bytes_min}; {cure}", text.len()));
            return None;
        }
        self.record(key, Some(super::render::MASK.to_owned()), self.origin_of(key));
        Some(Secret::new(text))
    }

    /// A setting of which this version knows the name but can serve one value only.
    pub(super) fn only<T: Setting + PartialEq>(&self, key: &str, off: T, feature: &str) {
        let node = self.ask(key);
        let value = match node.map(T::read) {
            None => off,
            Some(Ok(value)) if value == off => value,
            Some(Ok(value)) => {
                let message = format!("{} asks for {feature}, which is not available in this version; ", value.show());
                return self.problem(key, message + &format!("remove the key or set it to {}", off.show()));
            }
            Some(Err(expected)) => {
                return self.problem(key, format!("{} {expected}", node.map(Node::seen).unwrap_or_default()));
            }
        };
        self.record(key, Some(value.show()), node.map(|node| node.origin.clone()).unwrap_or_default());
    }

    /// A setting of which this version knows the name but which it cannot serve at all.
    pub(super) fn absent(&self, key: &str, feature: &str) {
        if self.ask(key).is_some() {
            self.problem(key, format!("is about {feature}, not available in this version; remove the key"));
        } else {
            self.record(key, None, Origin::Default);
        }
    }
}

fn not_one_of<T>(choices: &[(&str, T)]) -> String {
    let names = choices.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>();
    match names.as_slice() {
        [only] => format!("is not {only}"),
        [first, second] => format!("is neither {first} nor {second}"),
        _ => format!("is none of {}", names.join(", ")),
    }
}

fn in_range<T: Setting + PartialOrd>(value: T, low: &T, high: &T) -> Result<T, String> {
    if value < *low || value > *high {
        return Err(format!("is out of range, expected {} to {}", low.show(), high.show()));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_their_indices() {
        assert_eq!(without_indices("socket[13].path"), "socket[].path");
        assert_eq!(without_indices("listen.http"), "listen.http");
    }
}
