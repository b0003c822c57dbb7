//! Which kind of channel a topic is.

use std::{fmt, sync::Arc};

use crate::channel::{Common, Kind};

/// Topics to kinds: the first route that matches counts.
#[derive(Clone, Default)]
pub struct Router {
    routes: Vec<Route>,
    common: Option<Arc<dyn Common>>,
}

#[derive(Clone)]
struct Route {
    pattern: Pattern,
    kind: Arc<dyn Kind>,
}

/// A set of topics: one (`lobby`), or all that begin alike (`room:*`). Compared byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// This topic only.
    Exact(Box<str>),
    /// Topics that begin so, whatever follows, be it nothing.
    Prefix(Box<str>),
}

/// A text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the topic pattern {seen:?} has a `*` that is not its last character: expected a topic such as `lobby`, or a prefix such as `room:*`"
)]
pub struct BadPattern {
    /// The text.
    pub seen: String,
}

impl Pattern {
    /// Whether a topic is one of the set.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *topic,
            Self::Prefix(prefix) => topic.starts_with(&**prefix),
        }
    }
}

impl std::str::FromStr for Pattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        match text.split_once('*') {
            None => Ok(Self::Exact(text.into())),
            Some((prefix, "")) => Ok(Self::Prefix(prefix.into())),
            Some(_) => Err(BadPattern { seen: text.to_owned() }),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => f.write_str(exact),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl Router {
    /// A router that matches nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Has all channels answer alike to what this takes.
    #[must_use]
    pub fn common(mut self, common: Arc<dyn Common>) -> Self {
        self.common = Some(common);
        self
    }

    pub(crate) fn asks(&self) -> Option<&Arc<dyn Common>> {
        self.common.as_ref()
    }

    /// Adds a route behind those that are there.
    ///
    /// # Errors
    /// If the pattern is none.
    pub fn on(self, pattern: &str, kind: impl Kind) -> Result<Self, BadPattern> {
        Ok(self.route(pattern.parse()?, Arc::new(kind)))
    }

    /// Adds a route to a kind that others may share, behind those that are there.
    #[must_use]
    pub fn route(mut self, pattern: Pattern, kind: Arc<dyn Kind>) -> Self {
        self.routes.push(Route { pattern, kind });
        self
    }

    /// The kind of a topic.
    #[must_use]
    pub fn find(&self, topic: &str) -> Option<&Arc<dyn Kind>> {
        self.routes.iter().find(|route| route.pattern.matches(topic)).map(|route| &route.kind)
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.routes.iter().map(|route| &route.pattern)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_byte_for_byte() {
        let matches = |pattern: &str, topic: &str| pattern.parse::<Pattern>().unwrap().matches(topic);
        assert!(matches("lobby", "lobby"));
        assert!(!matches("lobby", "Lobby") && !matches("lobby", "lobby:") && !matches("lobby", ""));
        assert!(matches("room:*", "room:") && matches("room:*", "room:a:b*c\u{0}"));
        assert!(!matches("room:*", "room") && !matches("room:*", "Room:a"));
        assert!(matches("*", ""));
        // é as one and as two code points are two topics.
        assert!(!matches("caf\u{e9}", "cafe\u{301}"));
    }

    #[test]
    fn a_star_inside_is_refused_and_quoted() {
        let error = "a*b".parse::<Pattern>().unwrap_err();
        assert!(error.to_string().contains("\"a*b\""));
    }
}
