//! The form of a token: a JSON Web Signature in its compact serialization (RFC 7515 §7.1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::error::TokenFault;

/// A token travels in a header or a URL, which end at 8 KiB nearly everywhere.
pub(super) const BYTES_MAX: usize = 8 * 1024;

/// A token taken apart. Nothing in it is true before its signature is.
pub(super) struct Jws<'a> {
    /// The algorithm that its header names, as it stands there.
    pub(super) alg: String,
    /// The key that its header names.
    pub(super) kid: Option<String>,
    /// What is signed.
    pub(super) message: &'a [u8],
    payload: &'a str,
    pub(super) signature: Vec<u8>,
}

/// What is read of a header. A key that it brings along or points to (`jwk`, `jku`, `x5u`, `x5c`) is not looked at: whoever forges a token
/// would bring along their own.
#[derive(Deserialize)]
struct Header {
    alg: Option<Value>,
    kid: Option<Value>,
    crit: Option<IgnoredAny>,
    /// RFC 7797: the payload would be signed in another form.
    b64: Option<IgnoredAny>,
}

impl<'a> Jws<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, TokenFault> {
        if token.len() > BYTES_MAX {
            return Err(TokenFault::TooLong { seen: token.len(), max: BYTES_MAX });
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenFault::Malformed);
        };
        let message = &token.as_bytes()[..header.len() + 1 + payload.len()];
        // Of bytes the parser would pass over some that are no text, in what it need not read.
        let header = String::from_utf8(decoded(header)?).map_err(|_| TokenFault::Malformed)?;
        // It would take a list of the members' values as well.
        if !header.starts_with('{') {
            return Err(TokenFault::Malformed);
        }
        let header: Header = serde_json::from_str(&header).map_err(|_| TokenFault::Malformed)?;
        if header.crit.is_some() || header.b64.is_some() {
            return Err(TokenFault::Critical);
        }
        let Some(Value::String(alg)) = header.alg else { return Err(TokenFault::Malformed) };
        let kid = match header.kid {
            None => None,
            Some(Value::String(kid)) => Some(kid),
            Some(_) => return Err(TokenFault::Malformed),
        };
        Ok(Self { alg, kid, message, payload, signature: decoded(signature)? })
    }

    /// The claims, to be read once the signature has been verified.
    pub(super) fn claims(&self) -> Result<Vec<u8>, TokenFault> {
        decoded(self.payload)
    }
}

fn decoded(part: &str) -> Result<Vec<u8>, TokenFault> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Malformed)
}
