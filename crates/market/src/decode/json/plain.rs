//! JSON as programs write it: flat objects of plain strings and plain numbers. They are read in one pass, without an allocation.
//!
//! This reader knows no errors. What is not so plain (escapes, nesting, exponents, literals, a key twice, anything broken) it leaves to
//! serde_json, which decides what it means and says what is wrong with it; of what it does read, it says the same as serde_json, which a
//! property test states.

use super::Record;

/// Reads an object at the beginning of a text: the record, and what follows it. `None`: not plain.
pub(super) fn record(text: &str) -> Option<(Record<'_>, &str)> {
    let mut reader = Reader { text, at: 0 };
    let mut record = Record::default();
    reader.expect(b'{')?;
    loop {
        let key = reader.string()?;
        reader.expect(b':')?;
        let value = reader.value()?;
        if !set(&mut record, &key[1..key.len() - 1], value)? {
            return None;
        }
        match reader.next()? {
            b',' => {}
            b'}' => return Some((record, &text[reader.at..])),
            _ => return None,
        }
    }
}

/// Notes a value; whether its key was not there before.
fn set<'a>(record: &mut Record<'a>, key: &str, value: &'a str) -> Option<bool> {
    let place = match key {
        "symbol" => &mut record.symbol,
        "bid" => &mut record.bid,
        "ask" => &mut record.ask,
        "bid_size" => &mut record.bid_size,
        "ask_size" => &mut record.ask_size,
        "last" => &mut record.last,
        "last_size" => &mut record.last_size,
        "ts" => &mut record.ts,
        "id" => &mut record.id,
        "publisher" => &mut record.publisher,
        "pseq" => return Some(record.pseq.replace(value.parse().ok()?).is_none()),
        _ => return Some(true),
    };
    Some(place.replace(value).is_none())
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// The next byte that is no white space.
    fn next(&mut self) -> Option<u8> {
        loop {
            let byte = self.peek()?;
            self.at += 1;
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(byte);
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn expect(&mut self, expected: u8) -> Option<()> {
        (self.next()? == expected).then_some(())
    }

    /// A string with its quotes.
    fn string(&mut self) -> Option<&'a str> {
        self.expect(b'"')?;
        self.string_tail()
    }

    fn value(&mut self) -> Option<&'a str> {
        match self.next()? {
            b'"' => self.string_tail(),
            b'0'..=b'9' => self.number_tail(),
            _ => None,
        }
    }

    /// What follows the opening quote, and the string as a whole.
    fn string_tail(&mut self) -> Option<&'a str> {
        let start = self.at - 1;
        let rest = &self.text.as_bytes()[self.at..];
        let length = rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < b' ')?;
        self.at += length + 1;
        (rest[length] == b'"').then(|| &self.text[start..self.at])
    }

    /// What follows the first digit, and the number as a whole: digits, perhaps a point and digits.
    fn number_tail(&mut self) -> Option<&'a str> {
        let start = self.at - 1;
        let leading_zero = self.text.as_bytes()[start] == b'0';
        if self.digits() > 0 && leading_zero {
            return None;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return None;
            }
        }
        // What follows a number is looked at by the caller, to whom an exponent is neither a comma nor the end.
        Some(&self.text[start..self.at])
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }
}
