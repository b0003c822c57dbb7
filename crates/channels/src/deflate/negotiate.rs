//! Offers and answers: `Sec-WebSocket-Extensions`, RFC 6455 §9.1 and RFC 7692 §7.

use super::Window;

const NAME: &[u8] = b"permessage-deflate";

/// What was agreed with a client about the compression of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deflate {
    /// The logarithm of the client's window, 8 to 15; `None` where it asked for no bound.
    server_max_window_bits: Option<u8>,
    /// The bound that the client proposed for itself.
    client_max_window_bits: Option<u8>,
}

impl Deflate {
    /// How what we send is to be compressed.
    #[must_use]
    pub fn window(&self) -> Window {
        match self.server_max_window_bits {
            None | Some(15) => Window::Full,
            Some(_) => Window::Small,
        }
    }

    /// The value of the answer's `Sec-WebSocket-Extensions`.
    #[must_use]
    pub fn answer(&self) -> String {
        let mut answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned();
        for (name, bits) in [
            ("server_max_window_bits", self.server_max_window_bits),
            ("client_max_window_bits", self.client_max_window_bits),
        ] {
            if let Some(bits) = bits {
                answer.push_str(&format!("; {name}={bits}"));
            }
        }
        answer
    }
}

/// Takes the first of a client's offers that we can keep. `values` are those of its `Sec-WebSocket-Extensions` headers, in their order.
///
/// Other extensions are declined, and so is an offer with a parameter that is unknown, comes twice, or has a value that it must not have. What
/// follows something that is no list of extensions at all is not looked at: such a client gets its socket, uncompressed.
pub fn negotiate<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Option<Deflate> {
    values.into_iter().find_map(|value| {
        let mut offers = Offers(value);
        std::iter::from_fn(|| offers.next_offer()).find_map(|offer| accept(&offer))
    })
}

/// One extension with its parameters, as they came.
struct Offer<'a> {
    name: &'a [u8],
    params: Vec<(&'a [u8], Option<Vec<u8>>)>,
}

fn accept(offer: &Offer<'_>) -> Option<Deflate> {
    if !offer.name.eq_ignore_ascii_case(NAME) {
        return None;
    }
    let mut agreed = Deflate::default();
    let mut seen: Vec<&[u8]> = Vec::new();
    for (name, value) in &offer.params {
        if seen.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            return None;
        }
        seen.push(name);
        match (name.to_ascii_lowercase().as_slice(), value.as_deref()) {
            // Both are so anyhow.
            (b"server_no_context_takeover" | b"client_no_context_takeover", None) => {}
            // It says only that the client could be bound, which we need not.
            (b"client_max_window_bits", None) => {}
            (b"client_max_window_bits", Some(value)) => agreed.client_max_window_bits = Some(window_bits(value)?),
            (b"server_max_window_bits", Some(value)) => agreed.server_max_window_bits = Some(window_bits(value)?),
            _ => return None,
        }
    }
    Some(agreed)
}

/// A number from 8 to 15 without leading zeros.
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// What has not been read of a header's value.
struct Offers<'a>(&'a [u8]);

impl<'a> Offers<'a> {
    /// The next extension of the list. `None` at its end, and where it is no list.
    fn next_offer(&mut self) -> Option<Offer<'a>> {
        // A list may have empty elements, RFC 9110 §5.6.1.
        while self.take(b',') {}
        let name = self.token()?;
        let mut params = Vec::new();
        while self.take(b';') {
            let name = self.token()?;
            let value = if self.take(b'=') { Some(self.value()?) } else { None };
            params.push((name, value));
        }
        if !self.0.is_empty() && !self.take(b',') {
            self.0 = b"";
            return None;
        }
        Some(Offer { name, params })
    }

    fn skip_space(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    /// Takes a separator, with the space around it.
    fn take(&mut self, separator: u8) -> bool {
        self.skip_space();
        let Some(rest) = self.0.strip_prefix(&[separator]) else { return false };
        self.0 = rest;
        self.skip_space();
        true
    }

    fn token(&mut self) -> Option<&'a [u8]> {
        let len = self.0.iter().position(|byte| !is_token(*byte)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(len);
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }

    /// A token, or one in quotes.
    fn value(&mut self) -> Option<Vec<u8>> {
        let Some(mut rest) = self.0.strip_prefix(b"\"") else { return self.token().map(<[u8]>::to_vec) };
        let mut value = Vec::new();
        loop {
            let (first, tail) = rest.split_first()?;
            let (byte, tail) = match first {
                b'"' => {
                    self.0 = tail;
                    return Some(value);
                }
                b'\\' => tail.split_first()?,
                other => (other, tail),
            };
            value.push(*byte);
            rest = tail;
        }
    }
}

/// The characters of a token, RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
