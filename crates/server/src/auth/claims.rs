//! What a token says, once its signature is known to be good.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::error::{AuthError, TokenFault};
use super::pattern::TopicPattern;
use crate::config::JwtConfig;

/// Patterns are compared one by one at each join.
pub(super) const PATTERNS_MAX: usize = 256;
/// A user's name is kept for each socket.
pub(super) const USER_BYTES_MAX: usize = 256;

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
    iss: Option<String>,
    aud: Option<Value>,
    allow: Option<Vec<String>>,
    publish: Option<Vec<String>>,
}

/// What the claims of every token must be.
#[derive(Clone, Debug)]
pub(super) struct ClaimRules {
    issuer: Option<String>,
    audience: Option<String>,
    leeway: u64,
}

impl ClaimRules {
    pub(super) fn new(config: &JwtConfig) -> Self {
        Self { issuer: config.issuer.clone(), audience: config.audience.clone(), leeway: config.leeway.as_secs() }
    }

    /// Reads the claims of a token whose signature is good.
    pub(super) fn read(&self, json: &[u8], now: u64) -> Result<TokenRights, AuthError> {
        // Of bytes the parser would pass over some that are no text, in claims that it need not read.
        let json = std::str::from_utf8(json).map_err(|_| TokenFault::Claims)?;
        // It would take a list of the claims' values as well.
        if !json.starts_with('{') {
            return Err(TokenFault::Claims.into());
        }
        let claims: Claims = serde_json::from_str(json).map_err(|_| TokenFault::Claims)?;
        let exp = claims.exp.ok_or(TokenFault::ClaimMissing("exp"))?;
        let expires_at = unix_seconds(exp);
        if now >= expires_at {
            return Err(AuthError::TokenExpired);
        }
        if claims.nbf.is_some_and(|nbf| unix_seconds(nbf) > now.saturating_add(self.leeway)) {
            return Err(TokenFault::TooEarly.into());
        }
        self.check_issuer(claims.iss.as_deref())?;
        self.check_audience(claims.aud.as_ref())?;
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

    fn check_issuer(&self, seen: Option<&str>) -> Result<(), TokenFault> {
        match (&self.issuer, seen) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(TokenFault::ClaimMissing("iss")),
            (Some(expected), Some(seen)) if expected == seen => Ok(()),
            (Some(_), Some(_)) => {
                Err(TokenFault::Claim { claim: "iss", expected: "is not the server's auth.jwt.issuer" })
            }
        }
    }

    /// RFC 7519 §4.1.3: one name or a list of them. Whoever is not named refuses; a server without a name is never named.
    fn check_audience(&self, seen: Option<&Value>) -> Result<(), TokenFault> {
        let foreign = TokenFault::Claim { claim: "aud", expected: "is not the server's auth.jwt.audience" };
        let names: Vec<&str> = match seen {
            None | Some(Value::Null) if self.audience.is_some() => return Err(TokenFault::ClaimMissing("aud")),
            None | Some(Value::Null) => return Ok(()),
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => {
                names.iter().map(Value::as_str).collect::<Option<_>>().ok_or(TokenFault::Claims)?
            }
            Some(_) => return Err(TokenFault::Claims),
        };
        match &self.audience {
            Some(expected) if names.contains(&expected.as_str()) => Ok(()),
            _ => Err(foreign),
        }
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
