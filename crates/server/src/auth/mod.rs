//! Who may do what: API keys for publishers and operators, signed tokens for clients, and what a stranger may do.
//!
//! [`Auth`] turns what a request or a socket presents into a [`Principal`], or says why not; a principal then answers what it may do.
//! All of it is pure: the time is an argument, in Unix seconds.

mod error;
mod pattern;
mod principal;
mod token;

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;

pub use self::error::{AuthError, Missing, TokenFault};
pub use self::pattern::{PatternError, TopicPattern};
pub use self::principal::{Principal, Who};
pub use self::token::{Grant, MintError, mint};

use self::token::Verifier;
use crate::config::{AnonymousRights, AuthConfig, PublishMode, Scope, digest_of, digests_equal};

/// The header for clients that cannot set `Authorization`.
const API_KEY_HEADER: &str = "x-api-key";

/// Knows every key and secret that the configuration names.
#[derive(Debug)]
pub struct Auth {
    keys: Vec<Key>,
    tokens: Option<Verifier>,
    anonymous: AnonymousRights,
    /// In the insecure mode everybody has the scope `publish`.
    open: bool,
}

#[derive(Debug)]
struct Key {
    name: Arc<str>,
    digest: [u8; 32],
    scopes: Vec<Scope>,
    expires: Option<u64>,
}

impl Auth {
    /// Prepares the keys and secrets of a configuration.
    pub fn new(config: &AuthConfig) -> Self {
        let key = |key: &crate::config::ApiKeyConfig| Key {
            name: key.name.as_str().into(),
            digest: digest_of(key.secret.expose()),
            scopes: key.scopes.clone(),
            expires: key.expires,
        };
        Self {
            keys: config.keys.iter().map(key).collect(),
            tokens: Verifier::new(&config.jwt),
            anonymous: config.anonymous,
            open: config.publish == PublishMode::Open,
        }
    }

    /// Who makes an HTTP or gRPC request, by `Authorization: Bearer …` (an API key or a token) or `x-api-key: …` at the time `now`.
    ///
    /// # Errors
    ///
    /// What is presented is not valid. Nothing presented is a stranger, not an error.
    pub fn request(&self, headers: &HeaderMap, now: u64) -> Result<Principal, AuthError> {
        if let Some(key) = headers.get(API_KEY_HEADER) {
            return self.api_key(key.to_str().map_err(|_| AuthError::KeyUnknown)?, now);
        }
        let Some(value) = headers.get(AUTHORIZATION) else { return Ok(self.stranger()) };
        let value = value.to_str().map_err(|_| AuthError::NotBearer)?;
        match value.split_once(' ') {
            Some((scheme, credential)) if scheme.eq_ignore_ascii_case("bearer") => self.bearer(credential.trim(), now),
            _ => Err(AuthError::NotBearer),
        }
    }

    /// Who presents an API key or a token, at the time `now`.
    ///
    /// # Errors
    ///
    /// It is neither, or it is no longer valid.
    pub fn bearer(&self, credential: &str, now: u64) -> Result<Principal, AuthError> {
        match self.api_key(credential, now) {
            // Three parts between dots is the form of a token.
            Err(AuthError::KeyUnknown) if credential.matches('.').count() == 2 => self.token(credential, now),
            outcome => outcome,
        }
    }

    /// Who presents an API key at the time `now`.
    ///
    /// # Errors
    ///
    /// The key is not known, or it has expired.
    pub fn api_key(&self, presented: &str, now: u64) -> Result<Principal, AuthError> {
        let presented = digest_of(presented.as_bytes());
        // All keys are looked at, so that the duration does not tell which one came close.
        let matches = |key: &&Key| digests_equal(&key.digest, &presented);
        let found = self.keys.iter().fold(None, |found, key| if matches(&key) { Some(key) } else { found });
        let key = found.ok_or(AuthError::KeyUnknown)?;
        if key.expires.is_some_and(|expires| now >= expires) {
            return Err(AuthError::KeyExpired);
        }
        Ok(Principal::of_key(key.name.clone(), self.scopes(&key.scopes), key.expires))
    }

    /// Who presents a client token at the time `now`.
    ///
    /// # Errors
    ///
    /// The token is malformed, not signed by us, or not valid at this time.
    pub fn token(&self, token: &str, now: u64) -> Result<Principal, AuthError> {
        let verifier = self.tokens.as_ref().ok_or(AuthError::TokensOff)?;
        let rights = verifier.verify(token, now)?;
        Ok(Principal::of_token(rights, self.scopes(&[])))
    }

    /// Who presents nothing.
    pub fn stranger(&self) -> Principal {
        Principal::stranger(self.anonymous, self.scopes(&[]))
    }

    fn scopes(&self, own: &[Scope]) -> Vec<Scope> {
        let mut scopes = own.to_vec();
        if self.open && !scopes.contains(&Scope::Publish) {
            scopes.push(Scope::Publish);
        }
        scopes
    }
}

/// The time as this module takes it: Unix seconds.
pub fn unix_now() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.map_or(0, |duration| duration.as_secs())
}

#[cfg(test)]
mod tests;
