//! The configuration: a TOML file, the environment over it, `--set` over that. [`Config::load`] reads all three, reports every
//! problem at once, and remembers where each value came from. Nothing else in this crate reads environment or arguments.

mod dev_key;
mod file;
mod layers;
mod overrides;
mod problem;
mod read;
mod reader;
mod render;
mod secret;
mod settings;
mod units;
mod values;

use std::path::PathBuf;

pub use self::dev_key::{DevKey, DevPort};
pub(crate) use self::layers::read_key_file;
pub use self::problem::{ConfigErrors, Origin, Problem};
pub(crate) use self::read::STRONG_SECRET_BYTES;
pub use self::reader::Entry;
pub use self::secret::Secret;
pub(crate) use self::secret::{digest_of, digests_equal};
pub use self::settings::*;
pub use self::units::{parse_duration, parse_size, show_duration, show_size};

use self::file::parse_file;
use self::layers::{Node, overlay, unreadable};
use self::overrides::{from_env, from_set};
use self::reader::Reader;

/// A configuration file is written by people; anything larger is a mix-up.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Everything that can be set, with what was not set at its default.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who this node is.
    pub node: NodeConfig,
    /// The addresses to bind.
    pub listen: ListenConfig,
    /// Which nodes belong together.
    pub cluster: ClusterConfig,
    /// Who may do what.
    pub auth: AuthConfig,
    /// What clients may take.
    pub limits: LimitsConfig,
    /// How the node says goodbye.
    pub drain: DrainConfig,
    /// The playground for conformance suites.
    pub demo: DemoConfig,
    /// Mounts of the Channels protocol, at least one.
    pub sockets: Vec<SocketMount>,
    /// What is behind which topics; the first match decides.
    pub channels: Vec<ChannelRule>,
    /// Where quotes come from without a publisher.
    pub feeds: Vec<tickwire_market::feed::FeedConfig>,
    /// The state behind the quotes.
    pub market: tickwire_market::MarketConfig,
    /// How its updates reach a socket.
    pub delivery: DeliveryConfig,
    /// Threads.
    pub runtime: RuntimeConfig,
    /// Logs.
    pub log: LogConfig,
    /// What an operator should know before it surprises: insecure modes by name, names in the environment that are none.
    pub warnings: Vec<String>,
    /// Every setting with its value and origin, in the order of the default file.
    pub entries: Vec<Entry>,
}

/// Where a configuration is read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file, if any.
    pub file: Option<PathBuf>,
    /// The environment; only names that begin with `TICKWIRE_` are looked at.
    pub env: Vec<(String, String)>,
    /// `KEY=VALUE`, the later ones win.
    pub sets: Vec<String>,
}

impl Config {
    /// Reads all sources.
    ///
    /// # Errors
    ///
    /// Every problem of every source, each with the key, what was seen, what was expected and what to change.
    pub fn load(sources: Sources) -> Result<Self, ConfigErrors> {
        let mut problems = Vec::new();
        let mut warnings = Vec::new();
        let mut tree = match &sources.file {
            Some(path) => read_file(path, &mut problems),
            None => Node::table(Origin::Default),
        };
        let syntax: Vec<Problem> = problems.clone();
        overlay(&mut tree, from_env(sources.env, &read::SECTIONS, &mut problems, &mut warnings));
        for set in &sources.sets {
            if let Some(node) = from_set(set, &mut problems) {
                overlay(&mut tree, node);
            }
        }
        Self::read(&tree, problems, &syntax, warnings)
    }

    /// Reads the text of one file and nothing else; `name` is what problems call it.
    ///
    /// # Errors
    ///
    /// Every problem, as [`load`](Self::load) has them.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigErrors> {
        let mut problems = Vec::new();
        let tree = parse_file(name, text, &mut problems);
        let syntax = problems.clone();
        Self::read(&tree, problems, &syntax, Vec::new())
    }

    fn read(
        tree: &Node,
        mut problems: Vec<Problem>,
        syntax: &[Problem],
        warnings: Vec<String>,
    ) -> Result<Self, ConfigErrors> {
        let reader = Reader::default();
        let mut config = reader.root(tree, |root| read::config(root, warnings));
        let findings = reader.finish();
        problems.extend(findings.problems.into_iter().filter(|problem| !follows_from(syntax, problem)));
        if !problems.is_empty() {
            // As a reader goes through the file; the sort keeps the order of what has no place there.
            problems.sort_by_key(|problem| match problem.origin {
                Origin::File { line, column, .. } => (line, column),
                _ => (usize::MAX, 0),
            });
            return Err(ConfigErrors(problems));
        }
        config.entries = findings.entries;
        let place =
            |entry: &Entry| read::SECTIONS.iter().position(|name| entry.key.split(['.', '[']).next() == Some(name));
        config.entries.sort_by_key(place);
        Ok(config)
    }
}

impl Default for Config {
    /// What a node runs with when nothing is set.
    fn default() -> Self {
        Self::load(Sources::default()).expect("the defaults are valid, which a test states")
    }
}

/// The commented default file, for `tickwire config default`.
pub fn default_text() -> &'static str {
    include_str!("default.toml")
}

/// Whether a problem is but the echo of a syntax error: a line that is no TOML leaves half a setting behind, and behind a
/// broken `[section]` every key stands in the wrong one. What is said about such a line is said once.
fn follows_from(syntax: &[Problem], problem: &Problem) -> bool {
    let line_of = |problem: &Problem| match problem.origin {
        Origin::File { line, .. } => Some(line),
        _ => None,
    };
    let Some(line) = line_of(problem) else { return false };
    let broken_header = |error: &Problem| error.message.contains(file::HEADER_HINT);
    syntax.iter().any(|error| line_of(error).is_some_and(|at| at == line || (at < line && broken_header(error))))
}

fn read_file(path: &std::path::Path, problems: &mut Vec<Problem>) -> Node {
    let read = || {
        let length = std::fs::metadata(path)?.len();
        if length > FILE_BYTES_MAX {
            return Ok(Err(format!(
                "{} has {length} bytes, a configuration has at most {FILE_BYTES_MAX}",
                path.display()
            )));
        }
        std::fs::read_to_string(path).map(Ok)
    };
    match read().unwrap_or_else(|error| Err(unreadable(path, &error))) {
        Ok(text) => parse_file(&path.display().to_string(), &text, problems),
        Err(message) => {
            problems.push(Problem { key: String::new(), origin: Origin::Default, message });
            Node::table(Origin::Default)
        }
    }
}

#[cfg(test)]
mod tests;
