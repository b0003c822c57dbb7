//! Client tokens: JSON web tokens (RFC 7519), signed with HS256.
//!
//! The algorithm belongs to the key, not to the token: what the header of a token names is compared, never obeyed (RFC 8725 §3.1).

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::Deserialize;

use super::error::{AuthError, TokenFault};
use super::pattern::TopicPattern;
use crate::config::{JwtConfig, STRONG_SECRET_BYTES};

/// A token travels in a header or a URL, which end at 8 KiB nearly everywhere.
const BYTES_MAX: usize = 8 * 1024;
/// Patterns are compared one by one at each join.
const PATTERNS_MAX: usize = 256;
/// A user's name is kept for each socket.
const USER_BYTES_MAX: usize = 256;

/// What a verified token grants.
#[derive(Clone, Debug)]
pub(super) struct TokenRights {
    pub(super) user: Option<Arc<str>>,
    pub(super) allow: Arc<[TopicPattern]>,
    pub(super) publish: Arc<[TopicPattern]>,
    /// Unix seconds.
    pub(super) expires_at: u64,
}

/// The claims that we know. Times are numbers that may have a fraction (RFC 7519 §2, NumericDate).
#[derive(Debug, Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
    allow: Option<Vec<String>>,
    publish: Option<Vec<String>>,
}

/// Verifies tokens with one secret.
pub(super) struct Verifier {
    key: DecodingKey,
    validation: Validation,
    leeway: u64,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("leeway", &self.leeway).finish_non_exhaustive()
    }
}

impl Verifier {
    /// `None` where no secret is configured.
    pub(super) fn new(config: &JwtConfig) -> Option<Self> {
        let secret = config.hs256_secret.as_ref()?;
        let mut validation = Validation::new(Algorithm::HS256);
        // Times are compared below, with the caller's clock. The library would take the system's, and knows no fractions.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.required_spec_claims = HashSet::new();
        if let Some(issuer) = &config.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        if let Some(audience) = &config.audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        let key = DecodingKey::from_secret(secret.expose());
        Some(Self { key, validation, leeway: config.leeway.as_secs() })
    }

    /// Checks the signature first and reads claims only then.
    pub(super) fn verify(&self, token: &str, now: u64) -> Result<TokenRights, AuthError> {
        if token.len() > BYTES_MAX {
            return Err(TokenFault::Malformed.into());
        }
        let claims =
            decode::<Claims>(token, &self.key, &self.validation).map_err(|error| fault(error.kind(), token))?.claims;
        let exp = claims.exp.ok_or(TokenFault::ClaimMissing("exp"))?;
        let expires_at = unix_seconds(exp);
        if now >= expires_at {
            return Err(AuthError::TokenExpired);
        }
        if claims.nbf.is_some_and(|nbf| unix_seconds(nbf) > now.saturating_add(self.leeway)) {
            return Err(TokenFault::TooEarly.into());
        }
        let user = match claims.sub {
            Some(sub) if sub.len() > USER_BYTES_MAX => {
                return Err(TokenFault::Claim { claim: "sub", expected: "is longer than 256 bytes" }.into());
            }
            sub => sub.filter(|sub| !sub.is_empty()).map(Arc::from),
        };
        let allow = match claims.allow {
            Some(texts) => patterns("allow", &texts)?,
            None => [TopicPattern::all()].into(),
        };
        let publish = match claims.publish {
            Some(texts) => patterns("publish", &texts)?,
            None => allow.clone(),
        };
        Ok(TokenRights { user, allow, publish, expires_at })
    }
}

/// Whole seconds; what is before 1970 is 1970, what is beyond all time is the end of it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from float saturates, which is what is meant"
)]
fn unix_seconds(numeric_date: f64) -> u64 {
    numeric_date as u64
}

fn patterns(claim: &'static str, texts: &[String]) -> Result<Arc<[TopicPattern]>, TokenFault> {
    if texts.len() > PATTERNS_MAX {
        return Err(TokenFault::Claim { claim, expected: "has more than 256 patterns" });
    }
    let wrong = |_| TokenFault::Claim { claim, expected: "holds what is no topic pattern, for example \"ticker:*\"" };
    texts.iter().map(|text| text.parse().map_err(wrong)).collect()
}

/// What the library found, in words that say what to change.
fn fault(kind: &ErrorKind, token: &str) -> TokenFault {
    match kind {
        // The library compares algorithms before signatures; names that it does not know, `none` among them, fail to parse.
        _ if algorithm_of(token).is_some_and(|name| name != "HS256") => {
            TokenFault::Algorithm { seen: algorithm_of(token).unwrap_or_default() }
        }
        ErrorKind::InvalidSignature => TokenFault::Signature,
        ErrorKind::MissingRequiredClaim(claim) => TokenFault::ClaimMissing(match claim.as_str() {
            "iss" => "iss",
            _ => "aud",
        }),
        ErrorKind::InvalidIssuer => TokenFault::Claim { claim: "iss", expected: "is not the server's auth.jwt.issuer" },
        ErrorKind::InvalidAudience => {
            TokenFault::Claim { claim: "aud", expected: "is not the server's auth.jwt.audience" }
        }
        // The header was understood, so what could not be read are the claims.
        ErrorKind::Json(_) if algorithm_of(token).is_some() => TokenFault::Claims,
        _ => TokenFault::Malformed,
    }
}

fn algorithm_of(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Alg {
        alg: String,
    }
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next()?).ok()?;
    let Alg { alg } = serde_json::from_slice(&header).ok()?;
    Some(alg.chars().take(32).collect())
}

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
}

/// Signs a token that a server with this configuration accepts from `now` (Unix seconds) on.
///
/// # Errors
///
/// There is no secret, or the server would refuse what is granted.
pub fn mint(config: &JwtConfig, grant: &Grant, now: u64) -> Result<String, MintError> {
    let secret = config.hs256_secret.as_ref().ok_or(MintError::NoSecret)?;
    if secret.expose().len() < STRONG_SECRET_BYTES {
        return Err(MintError::WeakSecret(secret.expose().len()));
    }
    if grant.user.is_empty() || grant.user.len() > USER_BYTES_MAX {
        return Err(MintError::User(grant.user.len()));
    }
    let patterns = grant.allow.len().max(grant.publish.as_ref().map_or(0, Vec::len));
    if patterns > PATTERNS_MAX {
        return Err(MintError::Patterns(patterns));
    }
    let mut claims = serde_json::json!({"sub": grant.user, "iat": now, "exp": now.saturating_add(grant.ttl.as_secs())});
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
    let key = EncodingKey::from_secret(secret.expose());
    Ok(encode(&Header::new(Algorithm::HS256), &claims, &key).expect("signing JSON with a shared secret cannot fail"))
}
