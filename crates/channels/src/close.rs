//! Why a socket is closed: the code and the reason that its client sees.

use std::fmt;

/// A close code of RFC 6455 §7.4 that we send.
///
/// phoenix.js 1.6 and 1.7 do not reconnect after 1000: it is sent only in answer to a client that closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// 1000: the client has closed.
    Normal,
    /// 1001: this socket is disconnected by the server's side, for good or for now.
    GoingAway,
    /// 1002: the client broke the WebSocket protocol, or said nothing for too long.
    Protocol,
    /// 1007: text that is not UTF-8, or data that cannot be inflated.
    InvalidData,
    /// 1008: the client broke a rule of ours.
    Policy,
    /// 1009: a frame or a message is too big.
    TooBig,
    /// 1011: a message that cannot be understood, or a fault of ours.
    InternalError,
    /// 1012: the server restarts, come back at once.
    ServiceRestart,
    /// 1013: too much for now, come back later.
    TryAgainLater,
}

impl CloseCode {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::GoingAway => 1001,
            Self::Protocol => 1002,
            Self::InvalidData => 1007,
            Self::Policy => 1008,
            Self::TooBig => 1009,
            Self::InternalError => 1011,
            Self::ServiceRestart => 1012,
            Self::TryAgainLater => 1013,
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code())
    }
}

/// Why a socket ended: the label `reason` of `tickwire_disconnects_total`, and, where we close, the code and reason in the close frame. The
/// names are stable, `docs/codes.md` explains each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client sent a close frame.
    ClientClose,
    /// The connection ended without a close frame. Nothing can be sent any more.
    ConnectionLost,
    /// The client broke the WebSocket protocol.
    ProtocolError,
    /// The client said nothing for too long.
    IdleTimeout,
    /// Text that is not UTF-8.
    InvalidUtf8,
    /// A compressed message that cannot be inflated.
    InvalidDeflate,
    /// A frame above the limit.
    FrameTooBig,
    /// A fragmented or compressed message above the limit.
    MessageTooBig,
    /// A fragment that adds nothing: an endless message of them costs its sender nothing.
    EmptyFragment,
    /// A message that is not of the socket's format.
    UndecodableMessage,
    /// A fault of ours, caught at the socket's edge.
    InternalError,
    /// The client does not read what it must not miss.
    SlowConsumer,
    /// The client took nothing of what was written for too long. There is no room for a close frame either.
    WriteTimeout,
    /// The client sends more messages than it may.
    MessageRate,
    /// The server disconnects this socket by its id.
    Disconnected,
    /// The token that the socket was opened with has expired.
    TokenExpired,
    /// The server is being drained.
    Shutdown,
}

impl CloseReason {
    /// Every reason, for tables and tests.
    pub const ALL: [Self; 17] = [
        Self::ClientClose,
        Self::ConnectionLost,
        Self::ProtocolError,
        Self::IdleTimeout,
        Self::InvalidUtf8,
        Self::InvalidDeflate,
        Self::FrameTooBig,
        Self::MessageTooBig,
        Self::EmptyFragment,
        Self::UndecodableMessage,
        Self::InternalError,
        Self::SlowConsumer,
        Self::WriteTimeout,
        Self::MessageRate,
        Self::Disconnected,
        Self::TokenExpired,
        Self::Shutdown,
    ];

    /// The stable name: metric label, and reason in the close frame.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientClose => "client_close",
            Self::ConnectionLost => "connection_lost",
            Self::ProtocolError => "protocol_error",
            Self::IdleTimeout => "idle_timeout",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::InvalidDeflate => "invalid_deflate",
            Self::FrameTooBig => "frame_too_big",
            Self::MessageTooBig => "message_too_big",
            Self::EmptyFragment => "empty_fragment",
            Self::UndecodableMessage => "undecodable_message",
            Self::InternalError => "internal_error",
            Self::SlowConsumer => "slow_consumer",
            Self::WriteTimeout => "write_timeout",
            Self::MessageRate => "message_rate",
            Self::Disconnected => "disconnected",
            Self::TokenExpired => "token_expired",
            Self::Shutdown => "shutdown",
        }
    }

    /// The code that goes with it; `None` where nobody is left to read one.
    #[must_use]
    pub const fn code(self) -> Option<CloseCode> {
        Some(match self {
            Self::ConnectionLost | Self::WriteTimeout => return None,
            Self::ClientClose => CloseCode::Normal,
            Self::ProtocolError | Self::IdleTimeout => CloseCode::Protocol,
            Self::InvalidUtf8 | Self::InvalidDeflate => CloseCode::InvalidData,
            Self::FrameTooBig | Self::MessageTooBig => CloseCode::TooBig,
            Self::EmptyFragment | Self::MessageRate => CloseCode::Policy,
            Self::UndecodableMessage | Self::InternalError => CloseCode::InternalError,
            Self::SlowConsumer => CloseCode::TryAgainLater,
            Self::Disconnected | Self::TokenExpired => CloseCode::GoingAway,
            Self::Shutdown => CloseCode::ServiceRestart,
        })
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn reasons_are_distinct_labels_that_fit_a_close_frame() {
        let names: HashSet<_> = CloseReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), CloseReason::ALL.len());
        for name in names {
            assert!(
                name.len() <= 123 && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase() || byte == b'8')
            );
        }
    }

    #[test]
    fn only_the_clients_own_close_is_answered_with_1000() {
        for reason in CloseReason::ALL {
            assert_eq!(reason.code() == Some(CloseCode::Normal), reason == CloseReason::ClientClose);
        }
    }
}
