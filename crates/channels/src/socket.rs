//! What is known about a connection, for as long as it lives.

use std::{
    any::Any,
    fmt,
    net::SocketAddr,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    deflate::Deflate,
    handshake::Params,
    serializer::{Wire, WireFormat},
    websocket,
};

/// The bounds of the sockets of one mount. Shared by all of them.
#[derive(Debug, Clone)]
pub struct MountLimits {
    /// How long a client may say nothing at all before it is closed, 1002 `idle_timeout`.
    pub idle_timeout: Duration,
    /// How big a frame and a fragmented message may be.
    pub websocket: websocket::Limits,
    /// How many channels one socket may have joined; a join over it is refused, `too many channels joined`.
    pub channels_max: usize,
    /// How many messages and control frames a client may send per second, on average over the last one; a client that sends more is
    /// closed, 1008 `message_rate`. `None`: any number.
    pub messages_per_second: Option<NonZeroU32>,
}

impl Default for MountLimits {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(90),
            websocket: websocket::Limits::default(),
            channels_max: 1_000,
            messages_per_second: NonZeroU32::new(5_000),
        }
    }
}

/// A connection as those who accepted it know it. Channels read it, nobody changes it.
#[derive(Clone)]
pub struct SocketInfo {
    /// Where it comes from.
    pub peer: SocketAddr,
    /// What its client speaks.
    pub format: WireFormat,
    /// What was negotiated about the compression of messages.
    pub deflate: Option<Deflate>,
    /// The query parameters of its upgrade.
    pub params: Params,
    /// The name by which it can be disconnected.
    pub id: Option<String>,
    /// Who it belongs to.
    pub user: Option<String>,
    /// Whatever else the application wants to know about it in its channels, such as the claims of a token.
    pub assigns: Arc<dyn Any + Send + Sync>,
    /// The bounds of its mount.
    pub limits: Arc<MountLimits>,
    /// When it is closed, 1001 `token_expired`.
    pub expires_at: Option<Instant>,
}

impl SocketInfo {
    /// A connection of which no more is known than this.
    #[must_use]
    pub fn new(peer: SocketAddr, format: WireFormat, limits: Arc<MountLimits>) -> Self {
        Self {
            peer,
            format,
            deflate: None,
            params: Params::default(),
            id: None,
            user: None,
            assigns: Arc::new(()),
            limits,
            expires_at: None,
        }
    }

    /// How its frames are written.
    #[must_use]
    pub fn wire(&self) -> Wire {
        Wire { format: self.format, deflate: self.deflate.map(|deflate| deflate.window()) }
    }

    /// What the application attached, if it is a `T`.
    #[must_use]
    pub fn assigned<T: 'static>(&self) -> Option<&T> {
        self.assigns.downcast_ref()
    }
}

/// Without the parameters: one of them may be a token.
impl fmt::Debug for SocketInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketInfo")
            .field("peer", &self.peer)
            .field("format", &self.format)
            .field("id", &self.id)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}
