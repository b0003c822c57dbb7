//! What clients do wrong with frames.

use super::CONTROL_PAYLOAD_MAX;
use crate::{close::CloseReason, deflate::InflateError};

/// What a client did wrong. Nothing it sends afterwards can be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Clients must mask every frame.
    #[error("the client's frame is not masked")]
    Unmasked,
    /// No extension has been negotiated that gives them a meaning on this frame.
    #[error("reserved bits are set in the frame header {first:#04x}")]
    ReservedBits {
        /// The header's first byte.
        first: u8,
    },
    /// An opcode that RFC 6455 keeps for later.
    #[error("opcode {opcode:#x} is reserved")]
    ReservedOpcode {
        /// What arrived.
        opcode: u8,
    },
    /// Close, ping and pong are one frame.
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// Close, ping and pong are short.
    #[error("a control frame has more than {CONTROL_PAYLOAD_MAX} bytes")]
    LongControl,
    /// There is no message to go on with.
    #[error("a continuation frame without a message that it continues")]
    StrayContinuation,
    /// The message before is not finished.
    #[error("a new message inside of a fragmented one")]
    Interleaved,
    /// A length must take as few bytes as it can.
    #[error("the length {len} is not in its shortest form")]
    LongLength {
        /// The announced length in bytes.
        len: u64,
    },
    /// A close frame with one byte of payload, with a code that must not be sent, or with a reason that is not UTF-8.
    #[error("a close frame with {payload}")]
    BadClose {
        /// What is wrong with it.
        payload: BadClose,
    },
    /// A text message that is not UTF-8.
    #[error("a text message is not UTF-8")]
    InvalidUtf8,
    /// The frame is above the limit.
    #[error("a frame of {len} bytes, the limit is {max}")]
    FrameTooBig {
        /// The announced length in bytes.
        len: u64,
        /// [`Limits::frame_max`].
        max: usize,
    },
    /// The fragments together are above the limit.
    #[error("a fragmented message of at least {len} bytes, the limit is {max}")]
    MessageTooBig {
        /// The length with the fragment that is announced, in bytes.
        len: usize,
        /// [`Limits::message_max`].
        max: usize,
    },
    /// A compressed message that cannot be inflated, or not within the limit.
    #[error(transparent)]
    Inflate(#[from] InflateError),
    /// A fragment that neither adds to its message nor ends it.
    #[error("an empty continuation frame that does not end its message")]
    EmptyFragment,
}

/// What is wrong with a client's close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadClose {
    /// One byte is half of a code.
    OneByte,
    /// A code that must not be sent.
    Code(u16),
    /// The reason is not UTF-8.
    Reason,
}

impl std::fmt::Display for BadClose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OneByte => f.write_str("one byte of payload"),
            Self::Code(code) => write!(f, "the code {code}"),
            Self::Reason => f.write_str("a reason that is not UTF-8"),
        }
    }
}

impl ProtocolError {
    /// What the client is told.
    #[must_use]
    pub fn reason(&self) -> CloseReason {
        match self {
            Self::InvalidUtf8 => CloseReason::InvalidUtf8,
            Self::FrameTooBig { .. } => CloseReason::FrameTooBig,
            Self::MessageTooBig { .. } | Self::Inflate(InflateError::TooBig { .. }) => CloseReason::MessageTooBig,
            Self::Inflate(InflateError::Invalid) => CloseReason::InvalidDeflate,
            Self::EmptyFragment => CloseReason::EmptyFragment,
            Self::Unmasked
            | Self::ReservedBits { .. }
            | Self::ReservedOpcode { .. }
            | Self::FragmentedControl
            | Self::LongControl
            | Self::StrayContinuation
            | Self::Interleaved
            | Self::LongLength { .. }
            | Self::BadClose { .. } => CloseReason::ProtocolError,
        }
    }
}
