//! Checks a client's JSON and brings it into the one form in which we pass it on.
//!
//! Payloads are relayed between clients, so they must not go through a type that loses anything. What goes out has the value that came in and:
//! - no whitespace between tokens;
//! - strings as UTF-8, with only what JSON demands escaped (`\"`, `\\`, `\b`, `\f`, `\n`, `\r`, `\t`, else `\u00xx` in lower case);
//! - numbers in the sender's own spelling, be it `1`, `1.0`, `1e3` or an integer of a thousand digits;
//! - of equal keys in an object the first, because clients differ in which one they keep, and nobody may make two of them see two messages.
//!
//! Refused are texts that are not UTF-8, half of a surrogate pair as an escape, numbers with a fraction or an exponent beyond the range of a
//! double, and nesting deeper than [`DEPTH_MAX`].
//!
//! The work is linear in the text's length, without recursion. A text that has the form already is not copied.

use std::{
    borrow::Cow,
    hash::{BuildHasher, RandomState},
    ops::Range,
};

use bytes::Bytes;
use hashbrown::HashTable;
use smallvec::SmallVec;

/// How deep arrays and objects may nest. Many JSON readers recurse: a deeper text could crash the clients that it is relayed to.
pub const DEPTH_MAX: usize = 1000;

/// From so many keys on an object's keys are looked up by hash; below, comparing them all is faster.
const KEYS_SCANNED_MAX: usize = 16;

/// Why a text is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text is not UTF-8.
    #[error("the text is not UTF-8")]
    Utf8,
    /// The text ends too early.
    #[error("the JSON text ends inside a value")]
    End,
    /// The text is longer than 4 GiB.
    #[error("the JSON text is longer than 4 GiB")]
    TooLong,
    /// Something other than JSON's grammar allows.
    #[error("no valid JSON at byte {at}")]
    Syntax {
        /// Offset from the start of the text.
        at: usize,
    },
    /// Half of a surrogate pair.
    #[error("a lone surrogate escape at byte {at}")]
    LoneSurrogate {
        /// Offset from the start of the text.
        at: usize,
    },
    /// A number that no double can hold.
    #[error("the number at byte {at} is beyond the range of a double")]
    Overflow {
        /// Offset from the start of the text.
        at: usize,
    },
    /// Too many levels.
    #[error("arrays and objects nest deeper than {DEPTH_MAX} at byte {at}")]
    Depth {
        /// Offset from the start of the text.
        at: usize,
    },
}

/// Checks a whole text that is one value, and returns it in canonical form.
///
/// # Errors
/// If the text is refused, see the module.
pub fn canonical(text: &Bytes) -> Result<Bytes, JsonError> {
    let mut scanner = Scanner::new(text)?;
    scanner.skip_space();
    let value = scanner.value()?;
    scanner.end()?;
    Ok(shared(text, value))
}

/// Canonical JSON as `Bytes`: a part of `text` where it was borrowed from it.
pub(crate) fn shared(text: &Bytes, canonical: Cow<'_, [u8]>) -> Bytes {
    match canonical {
        Cow::Borrowed(part) => text.slice_ref(part),
        Cow::Owned(rewritten) => Bytes::from(rewritten),
    }
}

/// Writes a text as a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    write_escaped(out, text.as_bytes());
    out.push(b'"');
}

/// Writes UTF-8 as it stands inside of a JSON string's quotes.
fn write_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let mut written = 0;
    for (at, byte) in text.iter().enumerate() {
        if PLAIN[usize::from(*byte)] {
            continue;
        }
        out.extend_from_slice(&text[written..at]);
        written = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (HEX[usize::from(control >> 4)], HEX[usize::from(control & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
    out.extend_from_slice(&text[written..]);
}

/// The UTF-8 that a valid JSON string stands for; `None` if the JSON is not a string.
pub(crate) fn unquote(json: &[u8]) -> Option<Cow<'_, [u8]>> {
    let inner = json.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    Some(if inner.contains(&b'\\') { Cow::Owned(unescape(inner)) } else { Cow::Borrowed(inner) })
}

/// Resolves the escapes in the inside of a string that has been checked.
fn unescape(inner: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let code = rest.get(at + 1).copied().unwrap_or(b'\\');
        rest = rest.get(at + 2..).unwrap_or_default();
        match code {
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let (character, len) = escaped_char(rest).unwrap_or((char::REPLACEMENT_CHARACTER, rest.len().min(4)));
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[len..];
            }
            itself => out.push(itself),
        }
    }
    out.extend_from_slice(rest);
    out
}

/// The character that follows `\u`, and the length of its digits: 4, or 10 for a pair (`d83d\ude00`). `None` if it is not one.
fn escaped_char(text: &[u8]) -> Option<(char, usize)> {
    let unit = hex4(text)?;
    if !(0xd800..0xdc00).contains(&unit) {
        return Some((char::from_u32(unit)?, 4));
    }
    let low = hex4(text.get(4..)?.strip_prefix(b"\\u")?)?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
    Some((char::from_u32(0x10000 + ((unit - 0xd800) << 10) + low)?, 10))
}

fn hex4(text: &[u8]) -> Option<u32> {
    text.get(..4)?.iter().try_fold(0, |unit, byte| Some(unit << 4 | char::from(*byte).to_digit(16)?))
}

/// Whether a byte of UTF-8 stands for itself inside a string.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        plain[byte] = false;
        byte += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain
};

/// A place in a JSON text.
pub(crate) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

/// A string as it stands in the text, quotes included, and what is special about it.
struct Token {
    start: usize,
    end: usize,
    escapes: bool,
    canonical: bool,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Result<Self, JsonError> {
        if u32::try_from(text.len()).is_err() {
            return Err(JsonError::TooLong);
        }
        simdutf8::basic::from_utf8(text).map_err(|_| JsonError::Utf8)?;
        Ok(Self { text, at: 0 })
    }

    pub(crate) fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Takes one byte if it comes next.
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Takes one byte that must come next.
    pub(crate) fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.take(byte) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// Nothing but whitespace may follow.
    pub(crate) fn end(&mut self) -> Result<(), JsonError> {
        self.skip_space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.unexpected()) }
    }

    /// Takes a value that starts here, and returns it in canonical form.
    pub(crate) fn value(&mut self) -> Result<Cow<'a, [u8]>, JsonError> {
        Canonicaliser::new(self).run()
    }

    /// Takes a string that starts here, and returns the text that it stands for.
    pub(crate) fn text(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let token = self.string()?;
        let inner = &self.text[token.start + 1..token.end - 1];
        if token.escapes {
            return String::from_utf8(unescape(inner)).map(Cow::Owned).map_err(|_| JsonError::Utf8);
        }
        std::str::from_utf8(inner).map(Cow::Borrowed).map_err(|_| JsonError::Utf8)
    }

    fn unexpected(&self) -> JsonError {
        if self.at < self.text.len() { JsonError::Syntax { at: self.at } } else { JsonError::End }
    }

    fn string(&mut self) -> Result<Token, JsonError> {
        let mut token = Token { start: self.at, end: self.at, escapes: false, canonical: true };
        self.expect(b'"')?;
        loop {
            let plain = self.text[self.at..].iter().take_while(|byte| PLAIN[usize::from(**byte)]).count();
            self.at += plain;
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    token.escapes = true;
                    token.canonical &= self.escape()?;
                }
                _ => return Err(self.unexpected()),
            }
        }
        self.at += 1;
        token.end = self.at;
        Ok(token)
    }

    /// Takes an escape; tells whether it is the one that we would write.
    fn escape(&mut self) -> Result<bool, JsonError> {
        let start = self.at;
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'/') => {
                self.at += 1;
                return Ok(false);
            }
            Some(b'u') => {
                let digits = &self.text[start + 2..];
                let unit = hex4(digits).ok_or(JsonError::Syntax { at: start })?;
                let (_, len) = escaped_char(digits).ok_or(JsonError::LoneSurrogate { at: start })?;
                self.at = start + 2 + len;
                let short = matches!(unit, 0x08 | 0x09 | 0x0a | 0x0c | 0x0d);
                return Ok(unit < 0x20 && !short && !digits[..4].iter().any(u8::is_ascii_uppercase));
            }
            _ => return Err(self.unexpected()),
        }
        Ok(true)
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), JsonError> {
        if !self.text[self.at..].starts_with(literal) {
            return Err(JsonError::Syntax { at: self.at });
        }
        self.at += literal.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        let mut double = false;
        if self.take(b'.') {
            double = true;
            self.digits()?;
        }
        let exponent = self.take(b'e') || self.take(b'E');
        if exponent {
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        // Without an exponent only a number of more than 300 digits can be too large.
        if exponent || (double && self.at - start > 300) {
            let number = std::str::from_utf8(&self.text[start..self.at]).map_err(|_| JsonError::Utf8)?;
            let finite = number.parse::<f64>().is_ok_and(f64::is_finite);
            return if finite { Ok(()) } else { Err(JsonError::Overflow { at: start }) };
        }
        Ok(())
    }

    /// Takes at least one digit.
    fn digits(&mut self) -> Result<(), JsonError> {
        let count = self.text[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(self.unexpected()) } else { Ok(()) }
    }
}

/// An array or an object that is open.
enum Level {
    Array,
    Object(Object),
}

struct Object {
    /// Where this object's keys start in [`Canonicaliser::keys`].
    first_key: usize,
    /// The same keys by hash, as places in [`Canonicaliser::keys`], once there are many.
    index: Option<Box<HashTable<u32>>>,
    /// How long the canonical form was before the comma in front of the present member.
    member_from: usize,
    /// Whether the present member has a key that was there before, so that it is dropped at its end.
    repeated: bool,
}

/// A key's canonical text, quotes included: in the input, or in [`Canonicaliser::rewritten_keys`]. Canonical texts are equal where keys are.
///
/// Small, because a client can make us keep one for every few bytes that it sends.
#[derive(Clone, Copy)]
struct Key {
    start: u32,
    end: u32,
    rewritten: bool,
}

impl Key {
    fn new(start: usize, end: usize, rewritten: bool) -> Self {
        Self { start: small(start), end: small(end), rewritten }
    }

    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// An offset into a text, or a count of what is in it. Canonical keys are never longer than what they are made from.
fn small(offset: usize) -> u32 {
    u32::try_from(offset).expect("Scanner::new refuses texts of 4 GiB and more")
}

/// Walks one value, with the levels that are open on a stack of its own.
struct Canonicaliser<'s, 'a> {
    scanner: &'s mut Scanner<'a>,
    start: usize,
    /// The canonical form of the input up to `copied`; from there on the input is canonical as it stands.
    out: Vec<u8>,
    copied: usize,
    levels: SmallVec<[Level; 4]>,
    keys: SmallVec<[Key; 16]>,
    rewritten_keys: Vec<u8>,
    /// Random, so that no client can choose keys that collide.
    hasher: Option<RandomState>,
}

impl<'s, 'a> Canonicaliser<'s, 'a> {
    fn new(scanner: &'s mut Scanner<'a>) -> Self {
        let start = scanner.at;
        Self {
            scanner,
            start,
            out: Vec::new(),
            copied: start,
            levels: SmallVec::new(),
            keys: SmallVec::new(),
            rewritten_keys: Vec::new(),
            hasher: None,
        }
    }

    fn run(mut self) -> Result<Cow<'a, [u8]>, JsonError> {
        loop {
            let complete = self.begin_value()?;
            if complete && self.end_value()? {
                break;
            }
        }
        let text = self.scanner.text;
        let end = self.scanner.at;
        if self.copied == self.start {
            return Ok(Cow::Borrowed(&text[self.start..end]));
        }
        self.out.extend_from_slice(&text[self.copied..end]);
        Ok(Cow::Owned(self.out))
    }

    /// Takes a scalar, an empty array or an empty object whole, and of others the part up to their first value. Tells whether it was whole.
    fn begin_value(&mut self) -> Result<bool, JsonError> {
        match self.scanner.peek() {
            Some(b'"') => {
                let token = self.scanner.string()?;
                self.keep_string(&token);
            }
            Some(b'-' | b'0'..=b'9') => self.scanner.number()?,
            Some(b't') => self.scanner.literal(b"true")?,
            Some(b'f') => self.scanner.literal(b"false")?,
            Some(b'n') => self.scanner.literal(b"null")?,
            Some(b'[') => {
                self.open(Level::Array)?;
                if !self.scanner.take(b']') {
                    return Ok(false);
                }
                self.levels.pop();
            }
            Some(b'{') => {
                let first_key = self.keys.len();
                self.open(Level::Object(Object { first_key, index: None, member_from: 0, repeated: false }))?;
                if !self.scanner.take(b'}') {
                    self.key()?;
                    return Ok(false);
                }
                self.levels.pop();
            }
            _ => return Err(self.scanner.unexpected()),
        }
        Ok(true)
    }

    fn open(&mut self, level: Level) -> Result<(), JsonError> {
        if self.levels.len() == DEPTH_MAX {
            return Err(JsonError::Depth { at: self.scanner.at });
        }
        self.scanner.at += 1;
        self.levels.push(level);
        self.skip_space();
        Ok(())
    }

    /// Goes on from the end of a value to the start of the next one, closing what ends between; tells whether nothing is open any more.
    fn end_value(&mut self) -> Result<bool, JsonError> {
        loop {
            let at = self.scanner.at;
            match self.levels.last() {
                None => return Ok(true),
                Some(Level::Object(object)) if object.repeated => self.truncate(object.member_from, at),
                Some(_) => {}
            }
            self.skip_space();
            let before_comma = self.len_at(self.scanner.at);
            match self.levels.last_mut() {
                Some(Level::Array) if self.scanner.take(b']') => {}
                Some(Level::Object(object)) if self.scanner.take(b'}') => self.keys.truncate(object.first_key),
                Some(Level::Array) => {
                    self.scanner.expect(b',')?;
                    self.skip_space();
                    return Ok(false);
                }
                Some(Level::Object(object)) => {
                    (object.member_from, object.repeated) = (before_comma, false);
                    self.scanner.expect(b',')?;
                    self.skip_space();
                    self.key()?;
                    return Ok(false);
                }
                None => return Ok(true),
            }
            self.levels.pop();
        }
    }

    /// Takes a key and its colon.
    fn key(&mut self) -> Result<(), JsonError> {
        let token = self.scanner.string()?;
        self.keep_string(&token);
        let key = if token.canonical {
            Key::new(token.start, token.end, false)
        } else {
            let start = self.rewritten_keys.len();
            rewrite_string(&mut self.rewritten_keys, &self.scanner.text[token.start..token.end]);
            Key::new(start, self.rewritten_keys.len(), true)
        };
        let repeated = !self.remember(key);
        if let Some(Level::Object(object)) = self.levels.last_mut() {
            object.repeated = repeated;
        }
        self.skip_space();
        self.scanner.expect(b':')?;
        self.skip_space();
        Ok(())
    }

    /// Adds a key to those of the innermost object, unless it is there already.
    fn remember(&mut self, key: Key) -> bool {
        let (input, rewritten) = (self.scanner.text, &self.rewritten_keys);
        let text = |key: Key| if key.rewritten { &rewritten[key.range()] } else { &input[key.range()] };
        let Some(Level::Object(object)) = self.levels.last_mut() else { return true };
        let known = &self.keys[object.first_key..];
        if known.len() < KEYS_SCANNED_MAX {
            let new = known.iter().all(|other| text(*other) != text(key));
            if new {
                self.keys.push(key);
            }
            return new;
        }
        let hasher = self.hasher.get_or_insert_with(RandomState::new);
        let index = object.index.get_or_insert_with(|| {
            let mut index = Box::new(HashTable::with_capacity(4 * KEYS_SCANNED_MAX));
            let text_at = |at: &u32| text(self.keys[*at as usize]);
            for at in object.first_key..self.keys.len() {
                let at = small(at);
                index.insert_unique(hasher.hash_one(text_at(&at)), at, |at| hasher.hash_one(text_at(at)));
            }
            index
        });
        let hash = hasher.hash_one(text(key));
        if index.find(hash, |at| text(self.keys[*at as usize]) == text(key)).is_some() {
            return false;
        }
        index.insert_unique(hash, small(self.keys.len()), |at| hasher.hash_one(text(self.keys[*at as usize])));
        self.keys.push(key);
        true
    }

    fn keep_string(&mut self, token: &Token) {
        if token.canonical {
            return;
        }
        self.cut(token.start, token.end);
        rewrite_string(&mut self.out, &self.scanner.text[token.start..token.end]);
    }

    fn skip_space(&mut self) {
        let start = self.scanner.at;
        self.scanner.skip_space();
        if self.scanner.at > start {
            self.cut(start, self.scanner.at);
        }
    }

    /// Leaves a part of the input out.
    fn cut(&mut self, from: usize, to: usize) {
        self.out.extend_from_slice(&self.scanner.text[self.copied..from]);
        self.copied = to;
    }

    /// How long the canonical form of the input up to here is.
    fn len_at(&self, at: usize) -> usize {
        self.out.len() + (at - self.copied)
    }

    /// Makes the canonical form of the input up to `at` end after `len` bytes of what it was.
    fn truncate(&mut self, len: usize, at: usize) {
        if len < self.out.len() {
            self.out.truncate(len);
            self.copied = at;
        } else {
            self.cut(self.copied + (len - self.out.len()), at);
        }
    }
}

/// Writes a checked string, quotes included, in canonical form.
fn rewrite_string(out: &mut Vec<u8>, raw: &[u8]) {
    out.push(b'"');
    write_escaped(out, &unescape(&raw[1..raw.len() - 1]));
    out.push(b'"');
}

#[cfg(test)]
mod tests;
