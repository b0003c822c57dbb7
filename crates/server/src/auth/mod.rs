//! Who may do what: API keys for publishers and operators, signed tokens for clients, and what a stranger may do.

mod pattern;

pub use self::pattern::{PatternError, TopicPattern};
