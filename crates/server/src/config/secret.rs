//! A text that must not be shown.

use std::fmt;

use ring::digest;

/// A secret from the configuration. It shows itself as `***`, so that no log line, error or `config print` can carry it.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The bytes, for the one place that signs or compares with them.
    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares without telling by its duration how much of the other text is right.
    pub fn matches(&self, presented: &[u8]) -> bool {
        digests_equal(&digest_of(self.expose()), &digest_of(presented))
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.expose())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// SHA-256 of a presented secret. Comparing digests makes the time of the comparison say nothing about the secret: whoever
/// could learn a prefix of a digest would still not know a text that hashes to it.
pub(crate) fn digest_of(text: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, text).as_ref());
    out
}

/// Compares two digests, looking at every byte whatever the first ones say.
pub(crate) fn digests_equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0u8, |differing, (x, y)| differing | (x ^ y)) == 0
}
