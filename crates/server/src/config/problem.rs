//! What can be wrong with a configuration, and how it is told.

use std::fmt;
use std::sync::Arc;

/// Where a value came from. Later layers win: default, file, environment, `--set`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    #[default]
    Default,
    /// The configuration file, at a line and a column that count from 1.
    File {
        /// The path as the user gave it.
        file: Arc<str>,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// An environment variable, by name.
    Env(Arc<str>),
    /// `--set KEY=VALUE`, or a flag of the command line that stands for one.
    Set,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Env(name) => f.write_str(name),
            Self::Set => f.write_str("--set"),
        }
    }
}

/// One thing to repair: what it is about, what was seen, what was expected and what to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The dotted key (`listen.http`, `socket[1].path`), or empty where the file as a whole is meant.
    pub key: String,
    /// Where the offending value stands.
    pub origin: Origin,
    /// What was seen, what was expected, and what to change.
    pub message: String,
}

impl fmt::Display for Problem {
    /// A place in a file comes first, as compilers print it, so that editors can jump there; other origins come last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Origin::File { .. } = self.origin {
            write!(f, "{}: ", self.origin)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        match &self.origin {
            Origin::Env(name) => write!(f, " (from the environment: {name})"),
            Origin::Set => f.write_str(" (from --set)"),
            Origin::Default | Origin::File { .. } => Ok(()),
        }
    }
}

/// All problems of a configuration at once, one per line. The command line exits with 2 on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Problem>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
