//! The name that messages are published under.

use std::{fmt, ops::Deref, sync::Arc};

/// A topic, such as `ticker:EURUSD`: 0 to [`Topic::MAX_BYTES`] bytes of UTF-8, compared byte for byte. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

/// Why a text is not a topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Longer than [`Topic::MAX_BYTES`].
    #[error("a topic of {seen} bytes is too long, the longest has {} bytes", Topic::MAX_BYTES)]
    TooLong {
        /// Its length in bytes.
        seen: usize,
    },
}

impl Topic {
    /// A topic is a key in many tables, here and on peers: one of unbounded length would let a client choose our memory.
    pub const MAX_BYTES: usize = 1024;

    /// Takes a text as a topic.
    ///
    /// # Errors
    /// If it is longer than [`Topic::MAX_BYTES`].
    pub fn new(text: &str) -> Result<Self, TopicError> {
        if text.len() > Self::MAX_BYTES {
            return Err(TopicError::TooLong { seen: text.len() });
        }
        Ok(Self(Arc::from(text)))
    }

    /// The topic's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Topic {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        Self::new(text)
    }
}

impl Deref for Topic {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
