//! Names of instruments.

use std::{borrow::Borrow, fmt, str::FromStr};

use smol_str::SmolStr;
use tickwire_pubsub::Topic;

use crate::rejection::excerpt;

/// The name of an instrument: `[A-Za-z0-9._:/-]{1,64}`, compared byte for byte. Cloning is cheap.
///
/// A name of up to 23 bytes, which is nearly every one, lies in the symbol itself: reading a quote allocates nothing for it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbol(SmolStr);

/// The text is not a symbol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{seen:?} is not a symbol: 1 to 64 of the characters A-Z a-z 0-9 . _ : / -")]
pub struct SymbolError {
    /// The text, shortened.
    pub seen: String,
}

impl SymbolError {
    /// The error of a text, UTF-8 or not, that is no symbol.
    pub(crate) fn of(seen: &[u8]) -> Self {
        Self { seen: excerpt(seen) }
    }
}

impl Symbol {
    /// The longest symbol in bytes.
    pub const MAX_BYTES: usize = 64;

    /// Takes a text as a symbol.
    ///
    /// # Errors
    /// If it is empty, too long or has a character that is not allowed.
    pub fn new(text: &str) -> Result<Self, SymbolError> {
        let fits = (1..=Self::MAX_BYTES).contains(&text.len()) && text.bytes().all(is_symbol_byte);
        if fits { Ok(Self(SmolStr::new(text))) } else { Err(SymbolError::of(text.as_bytes())) }
    }

    /// The symbol's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The topic that its updates are published under: `ticker:` and the symbol.
    #[must_use]
    pub fn ticker_topic(&self) -> Topic {
        let mut text = String::with_capacity(TICKER_PREFIX.len() + self.0.len());
        text.push_str(TICKER_PREFIX);
        text.push_str(&self.0);
        Topic::new(&text).expect("a symbol of 64 bytes fits into a topic")
    }
}

/// What the topics of quotes begin with.
pub const TICKER_PREFIX: &str = "ticker:";

const fn is_symbol_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'/' | b'-')
}

impl FromStr for Symbol {
    type Err = SymbolError;

    fn from_str(text: &str) -> Result<Self, SymbolError> {
        Self::new(text)
    }
}

impl Borrow<str> for Symbol {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_is_short_and_plain() {
        for text in ["EURUSD", "BTCUSDT.P", "a", "X:Y/Z_1-2", &"S".repeat(64)] {
            assert_eq!(Symbol::new(text).unwrap().ticker_topic().as_str(), format!("ticker:{text}"));
        }
        for text in ["", "EUR USD", "EUR\"USD", "€", "a\n", "EUR,USD", &"S".repeat(65)] {
            assert_eq!(Symbol::new(text), Err(SymbolError::of(text.as_bytes())), "{text}");
        }
    }
}
