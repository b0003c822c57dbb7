//! Making tokens: for development and tests. In production somebody else signs, who knows the users.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

use super::claims::{PATTERNS_MAX, USER_BYTES_MAX};
use super::key::TokenAlgorithm;
use super::pattern::TopicPattern;
use super::pem::SigningKey;
use crate::config::{JwtConfig, STRONG_SECRET_BYTES};

/// What a token to be minted grants.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The user.
    pub user: String,
    /// Topics to join; empty is all of them.
    pub allow: Vec<TopicPattern>,
    /// Topics to send on; `None` is those of `allow`.
    pub publish: Option<Vec<TopicPattern>>,
    /// How long it is valid.
    pub ttl: Duration,
}

/// What signs a token.
#[derive(Clone, Copy, Debug)]
pub enum Signer<'a> {
    /// The secret `auth.jwt.hs256_secret` of the configuration.
    Secret,
    /// A private key, and the name by which verifiers know its public half.
    Key {
        /// The key.
        key: &'a SigningKey,
        /// The name, if it has one.
        kid: Option<&'a str>,
    },
}

/// Why no token can be minted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// There is nothing to sign with.
    #[error("no secret to sign with: set auth.jwt.hs256_secret to the server's own")]
    NoSecret,
    /// No server has such a secret.
    #[error(
        "the secret has {0} bytes, one that signs tokens has at least {STRONG_SECRET_BYTES}; make one with: openssl rand -hex 32"
    )]
    WeakSecret(usize),
    /// The server would refuse such a user.
    #[error("the user has {0} bytes, expected 1 to {USER_BYTES_MAX}")]
    User(usize),
    /// The server would refuse so many patterns.
    #[error("{0} patterns are too many, expected at most {PATTERNS_MAX}")]
    Patterns(usize),
    /// A signature needs them.
    #[error("the system gives no random bytes")]
    Random,
}

/// Signs a token that a server with this configuration accepts from `now` (Unix seconds) on.
///
/// # Errors
///
/// There is no secret, or the server would refuse what is granted.
pub fn mint(config: &JwtConfig, grant: &Grant, now: u64) -> Result<String, MintError> {
    mint_with(Signer::Secret, config, grant, now)
}

/// As [`mint`], signed with something else than the configuration's secret.
///
/// # Errors
///
/// There is nothing to sign with, or the server would refuse what is granted.
pub fn mint_with(signer: Signer<'_>, config: &JwtConfig, grant: &Grant, now: u64) -> Result<String, MintError> {
    if grant.user.is_empty() || grant.user.len() > USER_BYTES_MAX {
        return Err(MintError::User(grant.user.len()));
    }
    let patterns = grant.allow.len().max(grant.publish.as_ref().map_or(0, Vec::len));
    if patterns > PATTERNS_MAX {
        return Err(MintError::Patterns(patterns));
    }
    let claims = claims(config, grant, now);
    match signer {
        Signer::Secret => {
            let secret = config.hs256_secret.as_ref().ok_or(MintError::NoSecret)?.expose();
            if secret.len() < STRONG_SECRET_BYTES {
                return Err(MintError::WeakSecret(secret.len()));
            }
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            let message = message(TokenAlgorithm::Hs256, None, &claims);
            let tag = hmac::sign(&key, message.as_bytes());
            Ok(sealed(&message, tag.as_ref()))
        }
        Signer::Key { key, kid } => {
            let message = message(key.algorithm(), kid, &claims);
            let signature = key.sign(message.as_bytes()).ok_or(MintError::Random)?;
            Ok(sealed(&message, &signature))
        }
    }
}

fn claims(config: &JwtConfig, grant: &Grant, now: u64) -> Value {
    let mut claims = json!({"sub": grant.user, "iat": now, "exp": now.saturating_add(grant.ttl.as_secs())});
    let texts = |patterns: &[TopicPattern]| patterns.iter().map(ToString::to_string).collect::<Vec<_>>();
    if !grant.allow.is_empty() {
        claims["allow"] = texts(&grant.allow).into();
    }
    if let Some(publish) = &grant.publish {
        claims["publish"] = texts(publish).into();
    }
    for (claim, value) in [("iss", &config.issuer), ("aud", &config.audience)] {
        if let Some(value) = value {
            claims[claim] = value.as_str().into();
        }
    }
    claims
}

/// What is signed: RFC 7515 §5.1.
fn message(algorithm: TokenAlgorithm, kid: Option<&str>, claims: &Value) -> String {
    let mut header = json!({"typ": "JWT", "alg": algorithm.name()});
    if let Some(kid) = kid {
        header["kid"] = kid.into();
    }
    let encode = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}", encode(&header), encode(claims))
}

fn sealed(message: &str, signature: &[u8]) -> String {
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}
