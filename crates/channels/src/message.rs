//! What clients and channels say to each other, in no particular encoding.

use std::{borrow::Cow, fmt};

use smallvec::SmallVec;
pub use tickwire_pubsub::Payload;

use crate::json;

/// A message as a client sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Which join of its topic it belongs to; `None` for `null` or absent.
    pub join_ref: Option<Ref>,
    /// What its reply is matched by; `None` for `null`.
    pub msg_ref: Option<Ref>,
    /// Any text, also one that no route matches.
    pub topic: String,
    /// Any text.
    pub event: String,
    /// A JSON text in canonical form (see [`json`]), of any type, or raw bytes.
    pub payload: Payload,
}

/// A reference that a client chose and that we echo: any JSON value but `null`.
///
/// It is kept as canonical JSON text, in place when short: `"12"` in V2, `12` from some V1 clients. Two are equal if they are the same JSON
/// value, so `3` is not `"3"`, and `3` is not `3.0`. (Arrays and objects, which no client sends, compare by their text.)
#[derive(Clone)]
pub struct Ref(SmallVec<[u8; 16]>);

impl Ref {
    /// A string reference.
    #[must_use]
    pub fn text(text: &str) -> Self {
        let mut json = Vec::with_capacity(text.len() + 2);
        json::write_string(&mut json, text);
        Self(SmallVec::from_slice(&json))
    }

    /// Takes canonical JSON, as [`json`] makes it; `null` is no reference.
    pub(crate) fn from_canonical(json: &[u8]) -> Option<Self> {
        (json != b"null").then(|| Self(SmallVec::from_slice(json)))
    }

    /// The reference as JSON text.
    #[must_use]
    pub fn as_json(&self) -> &[u8] {
        &self.0
    }

    /// The reference as a binary message carries it: a string without its quotes, anything else as JSON.
    #[must_use]
    pub fn to_plain(&self) -> Cow<'_, [u8]> {
        json::unquote(&self.0).unwrap_or(Cow::Borrowed(&self.0))
    }

    /// The value of a number that is not an integer: such numbers have more than one spelling.
    fn as_double(&self) -> Option<f64> {
        let number = self.0.first().is_some_and(|byte| *byte == b'-' || byte.is_ascii_digit());
        if !number || !self.0.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
            return None;
        }
        std::str::from_utf8(&self.0).ok()?.parse().ok()
    }
}

impl PartialEq for Ref {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || self.as_double().is_some_and(|value| other.as_double() == Some(value))
    }
}

impl Eq for Ref {}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ref({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Ref {
        Ref::from_canonical(text.as_bytes()).unwrap()
    }

    #[test]
    fn refs_compare_as_json_values() {
        assert_eq!(json("3"), json("3"));
        assert_ne!(json("3"), json("\"3\""));
        assert_ne!(json("3"), json("3.0"));
        assert_eq!(json("1.50"), json("15e-1"));
        assert_eq!(json("\"a\\\"b\""), Ref::text("a\"b"));
        assert_ne!(json("90071992547409930"), json("90071992547409931"));
        assert_eq!(Ref::from_canonical(b"null"), None);
    }

    #[test]
    fn binary_messages_carry_a_string_without_quotes() {
        assert_eq!(Ref::text("7").to_plain().as_ref(), b"7");
        assert_eq!(Ref::text("a\"\u{1}é").to_plain().as_ref(), "a\"\u{1}é".as_bytes());
        assert_eq!(json("7").to_plain().as_ref(), b"7");
    }
}
