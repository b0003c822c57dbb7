//! Session tokens of long polling: what a client shows to say which session is its own.
//!
//! A token names the node that the session lives on, so that any node of a cluster can tell where it belongs. It is signed, and bound to the
//! mount that gave it; without the key nobody can make one, and none says anything about its client.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use tickwire_channels::PollId;
use tickwire_pubsub::NodeId;

/// How every token begins: a client's own token in the same query is not taken for one, whatever it is.
const PREFIX: &str = "twlp1.";

/// The longest token that is looked at, in bytes. Ours have a hundred and the node's name.
const LEN_MAX: usize = 1_024;

const SIGNATURE_LEN: usize = 32;
const ISSUED_LEN: usize = 8;
const INCARNATION_LEN: usize = 8;
const FIXED_LEN: usize = ISSUED_LEN + PollId::LEN + INCARNATION_LEN;

/// Makes tokens and reads them.
pub(crate) struct SessionTokens {
    key: hmac::Key,
    node: NodeId,
}

/// Why a token is of no use. Its client is told the same in every case, 410.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadToken {
    /// Not one of ours, or not of this mount, or changed.
    #[error("it was not signed here")]
    Signature,
    /// It is older than `longpoll_token_max_age`.
    #[error("it has expired")]
    Expired,
    /// Its session lives, or lived, on another node, or before a restart of this one.
    #[error("its session is not on this node")]
    OtherNode,
}

impl SessionTokens {
    /// Those of a node, signed with a key that all nodes share which are to know each other's.
    pub(crate) fn new(key: &[u8; SIGNATURE_LEN], node: NodeId) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), node }
    }

    /// Those of a node that nobody else has to know. `None` if the system has no randomness to give.
    pub(crate) fn random(node: NodeId) -> Option<Self> {
        let mut key = [0; SIGNATURE_LEN];
        SystemRandom::new().fill(&mut key).ok()?;
        Some(Self::new(&key, node))
    }

    /// Whether a text has the form of a session token, valid or not.
    pub(super) fn is_one(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// A token for a session of a mount, at a time in Unix milliseconds.
    pub(crate) fn issue(&self, session: PollId, mount: &str, now_ms: u64) -> String {
        let mut bytes = Vec::with_capacity(FIXED_LEN + self.node.name.len() + SIGNATURE_LEN);
        bytes.extend_from_slice(&now_ms.to_be_bytes());
        bytes.extend_from_slice(&session.to_bytes());
        bytes.extend_from_slice(&self.node.incarnation.to_be_bytes());
        bytes.extend_from_slice(self.node.name.as_bytes());
        self.sign(bytes, mount)
    }

    /// A token with this content.
    pub(crate) fn sign(&self, mut bytes: Vec<u8>, mount: &str) -> String {
        let signature = hmac::sign(&self.key, &signed(&bytes, mount));
        bytes.extend_from_slice(signature.as_ref());
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The session of a token.
    pub(crate) fn read(&self, token: &str, mount: &str, now_ms: u64, max_age: Duration) -> Result<PollId, BadToken> {
        let encoded =
            token.strip_prefix(PREFIX).filter(|encoded| encoded.len() <= LEN_MAX).ok_or(BadToken::Signature)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| BadToken::Signature)?;
        let (bytes, signature) = bytes.split_last_chunk::<SIGNATURE_LEN>().ok_or(BadToken::Signature)?;
        // Takes the same time wherever the difference is.
        hmac::verify(&self.key, &signed(bytes, mount), signature).map_err(|_| BadToken::Signature)?;
        let (issued, rest) = bytes.split_first_chunk::<ISSUED_LEN>().ok_or(BadToken::Signature)?;
        let (session, rest) = rest.split_first_chunk::<{ PollId::LEN }>().ok_or(BadToken::Signature)?;
        let (incarnation, name) = rest.split_first_chunk::<INCARNATION_LEN>().ok_or(BadToken::Signature)?;
        let age = Duration::from_millis(now_ms.saturating_sub(u64::from_be_bytes(*issued)));
        if age >= max_age {
            return Err(BadToken::Expired);
        }
        if u64::from_be_bytes(*incarnation) != self.node.incarnation || name != self.node.name.as_bytes() {
            return Err(BadToken::OtherNode);
        }
        Ok(PollId::from_bytes(*session))
    }
}

/// Says nothing of the key.
impl std::fmt::Debug for SessionTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionTokens").field("node", &self.node).finish_non_exhaustive()
    }
}

/// What is signed: the token, and the mount that it is good for.
fn signed(bytes: &[u8], mount: &str) -> Vec<u8> {
    [b"tickwire longpoll 1\0", bytes, mount.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn tokens(node: &str, incarnation: u64) -> SessionTokens {
        SessionTokens::new(&[7; 32], NodeId::new(node, incarnation))
    }

    fn session() -> PollId {
        PollId::from_bytes(std::array::from_fn(|index| u8::try_from(index).unwrap()))
    }

    #[test]
    fn a_token_names_its_session_until_it_expires() {
        let tokens = tokens("a", 1);
        let token = tokens.issue(session(), "/socket", 1_000);
        assert!(SessionTokens::is_one(&token));
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)), "{token}");
        assert_eq!(tokens.read(&token, "/socket", 1_000 + 2_999, Duration::from_secs(3)), Ok(session()));
        assert_eq!(tokens.read(&token, "/socket", 1_000 + 3_000, Duration::from_secs(3)), Err(BadToken::Expired));
        // A clock that was set back makes it no older.
        assert_eq!(tokens.read(&token, "/socket", 0, DAY), Ok(session()));
    }

    #[test]
    fn a_token_is_good_for_its_own_mount_and_node_alone() {
        let token = tokens("a", 1).issue(session(), "/socket", 0);
        assert_eq!(tokens("a", 1).read(&token, "/other", 0, DAY), Err(BadToken::Signature));
        assert_eq!(tokens("a", 2).read(&token, "/socket", 0, DAY), Err(BadToken::OtherNode));
        assert_eq!(tokens("b", 1).read(&token, "/socket", 0, DAY), Err(BadToken::OtherNode));
        let other_key = SessionTokens::new(&[8; 32], NodeId::new("a", 1));
        assert_eq!(other_key.read(&token, "/socket", 0, DAY), Err(BadToken::Signature));
    }

    #[test]
    fn a_token_that_was_changed_anywhere_is_none() {
        let tokens = tokens("node-1", 1);
        let token = tokens.issue(session(), "/socket", 0);
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(tokens.read(&changed, "/socket", 0, DAY), Err(BadToken::Signature), "at {at}");
            assert_eq!(tokens.read(&token[..at], "/socket", 0, DAY), Err(BadToken::Signature), "up to {at}");
        }
        for garbage in ["", "x", PREFIX, "twlp1.AAAA", &format!("{PREFIX}{}", "A".repeat(100_000)), "twlp1.é"] {
            assert_eq!(tokens.read(garbage, "/socket", 0, DAY), Err(BadToken::Signature));
        }
    }
}
