//! All keys that verify tokens, and which of them are tried for a token.

use std::sync::Arc;

use super::error::TokenFault;
use super::jws::Jws;
use super::key::{TokenAlgorithm, VerifyKey};

/// Keys that are tried for one token at most: a token may name none, and each trial costs as much as an honest one.
const TRIALS_MAX: usize = 8;

/// The keys in force. It is replaced as a whole, never changed.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyRing {
    /// Of the configuration itself.
    pub(super) secret: Option<Arc<VerifyKey>>,
    /// Of files, one by one.
    pub(super) files: Arc<[Arc<[VerifyKey]>]>,
    pub(super) remote: RemoteKeys,
}

/// The keys of a URL.
#[derive(Clone, Debug, Default)]
pub(super) enum RemoteKeys {
    /// There is no URL.
    #[default]
    None,
    /// It has not been read yet.
    Pending,
    /// What it said last.
    Fetched(Arc<[VerifyKey]>),
}

/// Why no key verifies a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unverified {
    /// None could.
    Fault(TokenFault),
    /// None could, but the URL may have a newer one by now.
    Outdated(TokenFault),
    /// The URL, which might have it, has not been read yet.
    Pending,
}

impl KeyRing {
    /// Whether there is any key, or will be.
    pub(super) fn is_empty(&self) -> bool {
        self.secret.is_none() && self.files.is_empty() && matches!(self.remote, RemoteKeys::None)
    }

    fn keys(&self) -> impl Iterator<Item = &VerifyKey> {
        let remote: &[VerifyKey] = match &self.remote {
            RemoteKeys::Fetched(keys) => keys,
            RemoteKeys::None | RemoteKeys::Pending => &[],
        };
        self.secret.as_deref().into_iter().chain(self.files.iter().flat_map(|keys| keys.iter())).chain(remote)
    }

    /// Whether one of the keys made the signature. RFC 8725 §3.1: a key is tried only for the algorithm that it is for.
    pub(super) fn verify(&self, token: &Jws<'_>) -> Result<(), Unverified> {
        let has_remote = !matches!(self.remote, RemoteKeys::None);
        let algorithm = TokenAlgorithm::from_name(&token.alg);
        let known = algorithm.filter(|algorithm| self.keys().any(|key| key.algorithm() == *algorithm));
        let Some(algorithm) = known else {
            let fault = self.wrong_algorithm(&token.alg);
            return Err(self.unverified(algorithm.is_some_and(|it| it.is_asymmetric() && has_remote), fault));
        };
        let named = |key: &&VerifyKey| key.algorithm() == algorithm && key.kid.as_deref() == token.kid.as_deref();
        let is_named = token.kid.is_some() && self.keys().any(|key| named(&key));
        // A key without a name may be anyone's; a token without one may be any key's.
        let nameless = |key: &&VerifyKey| key.algorithm() == algorithm && (token.kid.is_none() || key.kid.is_none());
        let tries = |key: &&VerifyKey| if is_named { named(key) } else { nameless(key) };
        let mut candidates = self.keys().filter(tries).take(TRIALS_MAX).peekable();
        let fault = match (&token.kid, candidates.peek()) {
            (Some(kid), None) => TokenFault::KeyUnknown { kid: kid.chars().take(64).collect() },
            _ => TokenFault::Signature,
        };
        if candidates.any(|key| key.verifies(token.message, &token.signature)) {
            return Ok(());
        }
        // A key that was found by its name is the right one: then the signature is wrong, and no newer set would help.
        Err(self.unverified(algorithm.is_asymmetric() && has_remote && !is_named, fault))
    }

    fn unverified(&self, may_be_remote: bool, fault: TokenFault) -> Unverified {
        match (&self.remote, may_be_remote) {
            (_, false) => Unverified::Fault(fault),
            (RemoteKeys::Pending, true) => Unverified::Pending,
            (_, true) => Unverified::Outdated(fault),
        }
    }

    fn wrong_algorithm(&self, seen: &str) -> TokenFault {
        let mut expected: Vec<_> = self.keys().map(|key| key.algorithm().name()).collect();
        expected.sort_unstable();
        expected.dedup();
        let expected = if expected.is_empty() { "the algorithm of a key".to_owned() } else { expected.join(" or ") };
        TokenFault::Algorithm { seen: seen.chars().take(32).collect(), expected }
    }
}
