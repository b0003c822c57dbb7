//! Who somebody is, at the doors of this server: what a request or a socket shows, and what its channel lets it do.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tickwire_channels::{SocketInfo, handshake::AuthToken};

use crate::{
    auth::{AuthError, Principal, unix_now},
    config::{Access, ChannelRule},
    listener::Permit,
};

/// Who may join the topics of a channel, and send there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gate {
    join: Access,
    write: Access,
}

/// What this server remembers of a socket.
#[derive(Debug)]
pub(crate) struct SocketOwner {
    /// Who it belongs to.
    pub(crate) principal: Principal,
    /// The token that it came with, for the playground; nobody else has a use for it.
    shown: Option<AuthToken>,
    /// Its place among the connections, for as long as it lives.
    _permit: Option<Arc<Permit>>,
}

impl SocketOwner {
    /// Who opened a socket, and the place that it has.
    pub(crate) fn new(principal: Principal, permit: Option<Arc<Permit>>) -> Self {
        Self { principal, shown: None, _permit: permit }
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
        owner(socket).is_some_and(|owner| self.check_join(&owner.principal, topic).is_ok())
    }

    /// Whether the owner of a socket may send on a topic.
    pub(crate) fn may_write(&self, socket: &SocketInfo, topic: &str) -> bool {
        owner(socket).is_some_and(|owner| owner.principal.may_send(topic, self.write).is_ok())
    }
}

/// The token that a socket came with, where the node keeps it: only the playground shows it to its client.
pub(crate) fn shown_token(socket: &SocketInfo) -> Option<&str> {
    owner(socket)?.shown.as_ref().map(AuthToken::expose)
}

fn owner(socket: &SocketInfo) -> Option<&SocketOwner> {
    socket.assigned()
}

/// When a credential ends, by the monotonic clock.
pub(crate) fn expiry(principal: &Principal) -> Option<Instant> {
    let left = principal.expires_at()?.saturating_sub(unix_now());
    Instant::now().checked_add(Duration::from_secs(left))
}
