//! Patterns of topics, as rights and channel rules write them.

use std::fmt;
use std::str::FromStr;

/// Long enough for any topic that a client may join.
const BYTES_MAX: usize = 256;

/// One topic, or with a `*` at its end all topics that begin so: `lobby`, `ticker:*`, `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPattern {
    prefix: Box<str>,
    open: bool,
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// There is nothing.
    #[error("is empty; a pattern reads \"ticker:*\" or \"lobby\"")]
    Empty,
    /// A star that is not the last character.
    #[error("has a * before its end; a pattern is one topic, or a beginning with one * behind it")]
    InnerStar,
    /// Longer than any topic.
    #[error("is longer than {BYTES_MAX} bytes, longer than any topic")]
    TooLong,
}

impl TopicPattern {
    /// The pattern of all topics.
    pub fn all() -> Self {
        Self { prefix: "".into(), open: true }
    }

    /// Whether the topic is one of those meant.
    pub fn matches(&self, topic: &str) -> bool {
        if self.open { topic.starts_with(&*self.prefix) } else { topic == &*self.prefix }
    }
}

impl FromStr for TopicPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (prefix, open) = text.strip_suffix('*').map_or((text, false), |prefix| (prefix, true));
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > BYTES_MAX {
            return Err(PatternError::TooLong);
        }
        if prefix.contains('*') {
            return Err(PatternError::InnerStar);
        }
        Ok(Self { prefix: prefix.into(), open })
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.prefix)?;
        f.write_str(if self.open { "*" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_its_topic_or_its_beginning() {
        for (pattern, topic, expected) in [
            ("lobby", "lobby", true),
            ("lobby", "lobby2", false),
            ("ticker:*", "ticker:EURUSD", true),
            ("ticker:*", "ticker:", true),
            ("ticker:*", "ticker", false),
            ("ticker:EUR*", "ticker:EURUSD", true),
            ("ticker:EUR*", "ticker:GBPUSD", false),
            ("*", "anything", true),
        ] {
            let parsed: TopicPattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(topic), expected, "{pattern} {topic}");
            assert_eq!(parsed.to_string(), pattern);
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for (text, error) in [
            ("", PatternError::Empty),
            ("a*b", PatternError::InnerStar),
            ("**", PatternError::InnerStar),
            (&"x".repeat(257), PatternError::TooLong),
        ] {
            assert_eq!(text.parse::<TopicPattern>(), Err(error));
        }
    }
}
