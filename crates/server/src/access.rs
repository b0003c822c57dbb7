//! Who somebody is, at the doors of this server: what a request or a socket shows, and what its channel lets it do.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tickwire_channels::{SocketInfo, handshake::AuthToken};

use crate::{
    auth::{AuthError, Principal, unix_now},
    config::{Access, ChannelRule, digest_of, digests_equal},
    listener::SocketPermit,
    telemetry,
};

/// Who may join the topics of a channel, and send there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gate {
    join: Access,
    write: Access,
}

/// How many new tokens a socket may try at once, and how often after that: verifying one costs as much as a hundred messages.
const TRIALS_MAX: u32 = 5;
const TRIAL_EVERY: Duration = Duration::from_secs(1);

/// What this server remembers of a socket.
#[derive(Debug)]
pub(crate) struct SocketOwner {
    standing: Mutex<Standing>,
    /// The token that it came with, for the playground; nobody else has a use for it.
    shown: Option<AuthToken>,
    /// Its places among the connections, for as long as it lives.
    _permit: SocketPermit,
}

/// Who a socket belongs to, which its client can renew.
#[derive(Debug)]
struct Standing {
    principal: Arc<Principal>,
    /// The digest of the last token that it was renewed with.
    renewed_with: Option<[u8; 32]>,
    /// When its client will have used up its trials, if it goes on at the full rate.
    trials_until: Option<Instant>,
}

impl SocketOwner {
    /// Who opened a socket, and the places that it has.
    pub(crate) fn new(principal: Principal, permit: SocketPermit) -> Self {
        let standing = Standing { principal: Arc::new(principal), renewed_with: None, trials_until: None };
        Self { standing: Mutex::new(standing), shown: None, _permit: permit }
    }

    /// Who it belongs to, with the rights of the token that was shown last.
    pub(crate) fn principal(&self) -> Arc<Principal> {
        Arc::clone(&self.standing.lock().principal)
    }

    /// Goes on with another token of the same user.
    pub(crate) fn renew(&self, principal: Principal, token: &str) -> Arc<Principal> {
        let principal = Arc::new(principal);
        let mut standing = self.standing.lock();
        standing.principal = Arc::clone(&principal);
        standing.renewed_with = Some(digest_of(token.as_bytes()));
        principal
    }

    /// Whether it goes on with this token already.
    pub(crate) fn has_shown(&self, token: &str) -> bool {
        let digest = digest_of(token.as_bytes());
        self.standing.lock().renewed_with.is_some_and(|known| digests_equal(&known, &digest))
    }

    /// Whether it may try another token now.
    pub(crate) fn may_try(&self, now: Instant) -> bool {
        let mut standing = self.standing.lock();
        let until = standing.trials_until.map_or(now, |until| until.max(now)) + TRIAL_EVERY;
        let allowed = until <= now + TRIAL_EVERY * TRIALS_MAX;
        if allowed {
            standing.trials_until = Some(until);
        }
        allowed
    }

    /// The same, with the token that it came with.
    pub(crate) fn showing(self, token: Option<AuthToken>) -> Self {
        Self { shown: token, ..self }
    }
}

impl Gate {
    /// The gate of a channel.
    pub(crate) fn new(rule: &ChannelRule) -> Self {
        Self { join: rule.join, write: rule.write }
    }

    /// Whether somebody may join a topic.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check_join(&self, principal: &Principal, topic: &str) -> Result<(), AuthError> {
        principal.may_join(topic, self.join)
    }

    /// Whether the owner of a socket may join a topic.
    pub(crate) fn may_join(&self, socket: &SocketInfo, topic: &str) -> bool {
        owner(socket).is_some_and(|owner| self.check_join(&owner.principal(), topic).is_ok())
    }

    /// Whether the owner of a socket may send on a topic.
    pub(crate) fn may_write(&self, socket: &SocketInfo, topic: &str) -> bool {
        owner(socket).is_some_and(|owner| owner.principal().may_send(topic, self.write).is_ok())
    }
}

/// The token that a socket came with, where the node keeps it: only the playground shows it to its client.
pub(crate) fn shown_token(socket: &SocketInfo) -> Option<&str> {
    owner(socket)?.shown.as_ref().map(AuthToken::expose)
}

/// What this server remembers of a socket; nothing of one that it has not opened.
pub(crate) fn owner(socket: &SocketInfo) -> Option<&SocketOwner> {
    socket.assigned()
}

/// Counts and logs that a request was refused for what it shows, or does not.
pub(crate) fn note_denied(cause: &AuthError) {
    telemetry::refused(cause.code(), "a request is denied", cause);
}

/// When a credential ends, by the monotonic clock.
pub(crate) fn expiry(principal: &Principal) -> Option<Instant> {
    let left = principal.expires_at()?.saturating_sub(unix_now());
    Instant::now().checked_add(Duration::from_secs(left))
}
