//! Who may do what: API keys for publishers and operators, signed tokens for clients, and what a stranger may do.
//!
//! [`Auth`] turns what a request or a socket presents into a [`Principal`], or says why not; a principal then answers what it may do.
//! Deciding is pure: the time is an argument, in Unix seconds. Only `keys` and `fetch` read files and a URL, beside it; the `identify_…`
//! methods wait a moment where a newer key may be on its way.

mod claims;
mod error;
mod fetch;
mod jwks;
mod jws;
mod key;
mod keyring;
mod keys;
mod mint;
mod pattern;
mod pem;
mod principal;
mod refresh;

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;

pub use self::error::{AuthError, Missing, TokenFault};
pub(crate) use self::fetch::keep_keys;
pub use self::key::{KeyFault, TokenAlgorithm};
pub(crate) use self::keys::{check_jwks_file, check_pem};
pub use self::mint::{Grant, MintError, Signer, mint, mint_with};
pub use self::pattern::{PatternError, TopicPattern};
pub use self::pem::SigningKey;
pub use self::principal::{Principal, Who};

use self::claims::ClaimRules;
use self::jws::Jws;
use self::keyring::Unverified;
use self::keys::TokenKeys;
use crate::config::{AnonymousRights, AuthConfig, PublishMode, Scope, digest_of, digests_equal};

/// The header for clients that cannot set `Authorization`.
const API_KEY_HEADER: &str = "x-api-key";

/// Knows every key and secret that the configuration names.
#[derive(Debug)]
pub struct Auth {
    keys: Vec<Key>,
    token_keys: TokenKeys,
    claims: ClaimRules,
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
    /// Prepares the keys and secrets of a configuration. Files of keys are read; the keys of a URL come later, see [`keep_keys`].
    pub fn new(config: &AuthConfig) -> Self {
        Self::after(config, None)
    }

    /// The same of another configuration, which goes on with what this one has learnt from its URL.
    #[must_use]
    pub(crate) fn renewed(&self, config: &AuthConfig) -> Self {
        Self::after(config, Some(self))
    }

    fn after(config: &AuthConfig, before: Option<&Self>) -> Self {
        let key = |key: &crate::config::ApiKeyConfig| Key {
            name: key.name.as_str().into(),
            digest: digest_of(key.secret.expose()),
            scopes: key.scopes.clone(),
            expires: key.expires,
        };
        Self {
            keys: config.keys.iter().map(key).collect(),
            token_keys: TokenKeys::new(&config.jwt, before.map(|before| &before.token_keys)),
            claims: ClaimRules::new(&config.jwt),
            anonymous: config.anonymous,
            open: config.publish == PublishMode::Open,
        }
    }

    /// Who makes an HTTP or gRPC request, as [`request`](Self::request) says; waits a moment for a key that it may be signed with. May be
    /// dropped midway.
    ///
    /// # Errors
    ///
    /// What is presented is not valid.
    pub async fn identify_request(&self, headers: &HeaderMap) -> Result<Principal, AuthError> {
        self.identify(|now| self.request_at(headers, now)).await
    }

    /// Who presents an API key or a token, as [`bearer`](Self::bearer) says; waits a moment for a key that it may be signed with. May be
    /// dropped midway.
    ///
    /// # Errors
    ///
    /// It is neither, or it is not valid.
    pub async fn identify_bearer(&self, credential: &str) -> Result<Principal, AuthError> {
        self.identify(|now| self.bearer_at(credential, now)).await
    }

    /// Who presents a token, likewise.
    ///
    /// # Errors
    ///
    /// It is none, or it is not valid.
    pub async fn identify_token(&self, token: &str) -> Result<Principal, AuthError> {
        self.identify(|now| self.token_at(token, now)).await
    }

    async fn identify(&self, look: impl Fn(u64) -> Result<Principal, Unsure>) -> Result<Principal, AuthError> {
        match look(unix_now()) {
            Err(unsure) if unsure.newer_keys_may_help => {
                self.token_keys.refreshed().await;
                look(unix_now()).map_err(|unsure| unsure.error)
            }
            outcome => outcome.map_err(|unsure| unsure.error),
        }
    }

    /// Who makes an HTTP or gRPC request, by `Authorization: Bearer …` (an API key or a token) or `x-api-key: …` at the time `now`.
    ///
    /// # Errors
    ///
    /// What is presented is not valid. Nothing presented is a stranger, not an error.
    pub fn request(&self, headers: &HeaderMap, now: u64) -> Result<Principal, AuthError> {
        self.request_at(headers, now).map_err(|unsure| unsure.error)
    }

    fn request_at(&self, headers: &HeaderMap, now: u64) -> Result<Principal, Unsure> {
        if let Some(key) = headers.get(API_KEY_HEADER) {
            return Ok(self.api_key(key.to_str().map_err(|_| AuthError::KeyUnknown)?, now)?);
        }
        let Some(value) = headers.get(AUTHORIZATION) else { return Ok(self.stranger()) };
        let value = value.to_str().map_err(|_| AuthError::NotBearer)?;
        match value.split_once(' ') {
            Some((scheme, credential)) if scheme.eq_ignore_ascii_case("bearer") => {
                self.bearer_at(credential.trim(), now)
            }
            _ => Err(AuthError::NotBearer.into()),
        }
    }

    /// Whether a request presents anything for [`request`](Self::request) to look at.
    pub(crate) fn is_shown_by(headers: &HeaderMap) -> bool {
        headers.contains_key(API_KEY_HEADER) || headers.contains_key(AUTHORIZATION)
    }

    /// Who presents an API key or a token, at the time `now`.
    ///
    /// # Errors
    ///
    /// It is neither, or it is no longer valid.
    pub fn bearer(&self, credential: &str, now: u64) -> Result<Principal, AuthError> {
        self.bearer_at(credential, now).map_err(|unsure| unsure.error)
    }

    fn bearer_at(&self, credential: &str, now: u64) -> Result<Principal, Unsure> {
        match self.api_key(credential, now) {
            // Three parts between dots is the form of a token.
            Err(AuthError::KeyUnknown) if credential.matches('.').count() == 2 => self.token_at(credential, now),
            outcome => Ok(outcome?),
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
        self.token_at(token, now).map_err(|unsure| unsure.error)
    }

    /// As [`token`](Self::token), with whether it is worth [waiting](Self::identify_token).
    pub(crate) fn token_for_now(&self, token: &str, now: u64) -> Result<Principal, Unsure> {
        self.token_at(token, now)
    }

    /// Verifies the signature first and reads claims only then.
    fn token_at(&self, token: &str, now: u64) -> Result<Principal, Unsure> {
        let ring = self.token_keys.ring();
        if ring.is_empty() {
            return Err(AuthError::TokensOff.into());
        }
        let token = Jws::parse(token).map_err(AuthError::from)?;
        ring.verify(&token)?;
        let rights = self.claims.read(&token.claims().map_err(AuthError::from)?, now)?;
        Ok(Principal::of_token(rights, self.scopes(&[])))
    }

    /// The keys that verify tokens.
    fn keys(&self) -> &TokenKeys {
        &self.token_keys
    }

    /// What an operator should know about the keys of tokens: those of the URL are missing, or may be out of date.
    pub(crate) fn note(&self) -> Option<String> {
        self.token_keys.note()
    }

    /// Whether the keys of tokens come from a URL.
    pub(crate) fn has_url(&self) -> bool {
        self.token_keys.url().is_some()
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

/// A refusal, and whether keys that are newer than ours could change it.
#[derive(Debug)]
pub(crate) struct Unsure {
    pub(crate) error: AuthError,
    pub(crate) newer_keys_may_help: bool,
}

impl From<AuthError> for Unsure {
    fn from(error: AuthError) -> Self {
        Self { error, newer_keys_may_help: false }
    }
}

impl From<Unverified> for Unsure {
    fn from(unverified: Unverified) -> Self {
        match unverified {
            Unverified::Fault(fault) => Self { error: fault.into(), newer_keys_may_help: false },
            Unverified::Outdated(fault) => Self { error: fault.into(), newer_keys_may_help: true },
            Unverified::Pending => Self { error: AuthError::KeysUnavailable, newer_keys_may_help: true },
        }
    }
}

/// The time as this module takes it: Unix seconds.
pub fn unix_now() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.map_or(0, |duration| duration.as_secs())
}

#[cfg(test)]
mod tests;
