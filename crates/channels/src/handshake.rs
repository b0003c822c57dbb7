//! Whether an HTTP request becomes a socket: the upgrade of RFC 6455 §4.2, the connection's parameters, and where it comes from.
//!
//! Nothing here reads or writes; the HTTP server asks [`check`] and answers what it says.

mod origin;
mod protocols;

use std::{collections::BTreeMap, fmt};

use base64::{
    Engine, alphabet,
    engine::{GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
pub use origin::{OriginMismatch, OriginRule, OriginRuleError, Origins};
pub use protocols::{AuthToken, Chosen, ProtocolError, Protocols};
use ring::digest;

use crate::{
    deflate::{self, Deflate},
    serializer::{BadVsn, WireFormat},
};

/// What of an HTTP request decides about its upgrade.
#[derive(Clone, Copy)]
pub struct UpgradeRequest<'a> {
    /// In capitals, as HTTP has it.
    pub method: &'a str,
    /// What follows the `?`, undecoded.
    pub query: Option<&'a str>,
    /// Names, in any case, and values. A name may come more than once.
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// What an endpoint asks of a request beyond a valid upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// From which pages.
    pub origins: Origins,
    /// Which subprotocols.
    pub protocols: Protocols,
    /// Whether messages are compressed for clients that offer it.
    pub compress: bool,
}

/// A request that may be upgraded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// The value of the answer's `Sec-WebSocket-Accept`.
    pub accept: String,
    /// How messages are to be written.
    pub format: WireFormat,
    /// Everything from the query, `vsn` included, for the application.
    pub params: Params,
    /// The value of the answer's `Sec-WebSocket-Protocol`, if it has one.
    pub protocol: Option<String>,
    /// The token that came as a subprotocol.
    pub auth_token: Option<AuthToken>,
    /// What was agreed about compression; the answer's `Sec-WebSocket-Extensions` says so.
    pub deflate: Option<Deflate>,
}

/// Why a request is not upgraded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a valid upgrade to a WebSocket.
    #[error("no WebSocket upgrade: {0}")]
    NotAnUpgrade(&'static str),
    /// The query cannot be decoded.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// An unknown wire format.
    #[error(transparent)]
    Vsn(#[from] BadVsn),
    /// A page that may not connect.
    #[error(transparent)]
    Origin(#[from] OriginMismatch),
    /// Subprotocols that are not taken here.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

impl Refusal {
    /// The HTTP status to answer with.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::NotAnUpgrade(_) | Self::Query(_) => 400,
            Self::Vsn(_) | Self::Origin(_) => 403,
            Self::Protocol(error) => error.status(),
        }
    }

    /// The stable name, for metrics and `docs/codes.md`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAnUpgrade(_) => "not_an_upgrade",
            Self::Query(_) => "bad_query",
            Self::Vsn(_) => "bad_vsn",
            Self::Origin(_) => "origin_not_allowed",
            Self::Protocol(error) => error.code(),
        }
    }
}

/// Decides about an upgrade.
///
/// # Errors
/// If it is refused; the error has the status to answer with.
pub fn check(request: &UpgradeRequest<'_>, policy: &Policy) -> Result<Upgrade, Refusal> {
    let accept = check_upgrade(request).map_err(Refusal::NotAnUpgrade)?;
    let params = Params::parse(request.query.unwrap_or_default())?;
    let format = WireFormat::from_vsn(params.get("vsn"))?;
    policy.origins.check(request.single("origin"), request.single("host"))?;
    let Chosen { protocol, auth_token } = policy.protocols.choose(request.values("sec-websocket-protocol"))?;
    let deflate = if policy.compress { deflate::negotiate(request.values("sec-websocket-extensions")) } else { None };
    Ok(Upgrade { accept, format, params, protocol, auth_token, deflate })
}

fn check_upgrade(request: &UpgradeRequest<'_>) -> Result<String, &'static str> {
    if request.method != "GET" {
        return Err("the method must be GET");
    }
    if !request.has_token("upgrade", "websocket") {
        return Err("the header Upgrade must be websocket");
    }
    if !request.has_token("connection", "upgrade") {
        return Err("the header Connection must contain upgrade");
    }
    if request.single("sec-websocket-version") != Some(b"13") {
        return Err("the header Sec-WebSocket-Version must be 13");
    }
    if request.single("host").is_none() {
        return Err("the header Host must come exactly once");
    }
    // What stood there would be taken for frames.
    let has_length = request.values("content-length").any(|length| length.trim_ascii() != b"0");
    if has_length || request.values("transfer-encoding").next().is_some() {
        return Err("the request must have no body");
    }
    // Read as absent, a repeated one would pass as a client that is no browser.
    if request.values("origin").count() > 1 {
        return Err("the header Origin must come only once");
    }
    let key = request.single("sec-websocket-key").unwrap_or_default();
    // The key proves nothing, so bits that its last character has too many do not matter.
    let lenient =
        GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));
    if lenient.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
        Ok(accept_key(key))
    } else {
        Err("the header Sec-WebSocket-Key must be 16 bytes in base64")
    }
}

/// What `Sec-WebSocket-Accept` answers to a `Sec-WebSocket-Key`, RFC 6455 §4.2.2. SHA-1 is what the RFC demands; nothing rests on its strength.
#[must_use]
pub fn accept_key(key: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(context.finish())
}

impl<'a> UpgradeRequest<'a> {
    fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// The value of a header that may come only once; `None` too if it comes more often.
    fn single(&self, name: &str) -> Option<&'a [u8]> {
        let mut values = self.values(name);
        let first = values.next()?;
        values.next().is_none().then(|| first.trim_ascii())
    }

    /// Whether a header that is a list contains a token, in any case.
    fn has_token(&self, name: &str, token: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }
}

impl fmt::Debug for UpgradeRequest<'_> {
    /// Says nothing of the query and the headers: there are tokens in them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradeRequest").field("method", &self.method).finish_non_exhaustive()
    }
}

/// The parameters of a connection. Of equal names the last one counts.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Params(BTreeMap<String, String>);

/// Why a query is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A `%` without two hexadecimal digits behind it.
    #[error("the query has a % that is not followed by two hexadecimal digits")]
    Percent,
    /// Bytes that are no text.
    #[error("the query is not UTF-8 once it is decoded")]
    Utf8,
}

impl Params {
    /// Decodes a query, `name=value&…`, with `%xx` for bytes and `+` for spaces. A name alone has the empty value.
    ///
    /// # Errors
    /// If it cannot be decoded.
    pub fn parse(query: &str) -> Result<Self, QueryError> {
        let mut params = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            params.insert(decode_component(name)?, decode_component(value)?);
        }
        Ok(Self(params))
    }

    /// A parameter's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Params {
    /// Shows names only: a value may be a token, and tokens appear in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn decode_component(text: &str) -> Result<String, QueryError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let (digits, tail) = tail.split_first_chunk::<2>().ok_or(QueryError::Percent)?;
                rest = tail;
                hex_byte(*digits).ok_or(QueryError::Percent)?
            }
            other => *other,
        });
    }
    String::from_utf8(bytes).map_err(|_| QueryError::Utf8)
}

fn hex_byte([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |byte| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests;
