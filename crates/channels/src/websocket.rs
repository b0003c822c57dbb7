//! WebSocket frames (RFC 6455 §5), the server's side.
//!
//! [`Decoder`] takes bytes as they come from the socket, in pieces of any size, and yields whole messages. It owns memory only while a frame
//! or a fragmented message is incomplete: an idle socket costs the size of the struct. [`Header`], [`close_frame`] and [`pong_frame`] write.

mod decoder;
mod error;

use bytes::{Bytes, BytesMut};

pub use self::{
    decoder::Decoder,
    error::{BadClose, ProtocolError},
};
use crate::close::CloseCode;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// Goes on with a fragmented message.
    Continuation = 0x0,
    /// A text, UTF-8.
    Text = 0x1,
    /// Raw bytes.
    Binary = 0x2,
    /// The end of the connection.
    Close = 0x8,
    /// Asks for a pong.
    Ping = 0x9,
    /// Answers a ping.
    Pong = 0xA,
}

impl Opcode {
    fn new(bits: u8) -> Option<Self> {
        const ALL: [Opcode; 6] =
            [Opcode::Continuation, Opcode::Text, Opcode::Binary, Opcode::Close, Opcode::Ping, Opcode::Pong];
        ALL.into_iter().find(|opcode| *opcode as u8 == bits)
    }

    fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
/// The reserved bit that permessage-deflate gives a meaning, RFC 7692 §6.
const COMPRESSED: u8 = 0x40;
const MASKED: u8 = 0x80;
const LEN: u8 = 0x7f;
const CONTROL_PAYLOAD_MAX: usize = 125;

/// The header of an unmasked, unfragmented frame.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    bytes: [u8; Self::LEN_MAX],
    len: usize,
}

impl Header {
    /// The longest header of a server's frame, in bytes.
    pub const LEN_MAX: usize = 10;

    /// The header for a payload of `len` bytes.
    #[must_use]
    pub fn new(opcode: Opcode, len: usize) -> Self {
        let mut bytes = [0; Self::LEN_MAX];
        bytes[0] = FIN | opcode as u8;
        let header_len = write_len(&mut bytes, len);
        Self { bytes, len: header_len }
    }

    /// The same for a message that is compressed.
    #[must_use]
    pub fn compressed(mut self) -> Self {
        self.bytes[0] |= COMPRESSED;
        self
    }
}

impl AsRef<[u8]> for Header {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Writes a payload's length in its shortest form behind the first byte of a header, and returns where the length ends.
fn write_len(header: &mut [u8], len: usize) -> usize {
    if let Ok(len @ 0..=125) = u8::try_from(len) {
        header[1] = len;
        2
    } else if let Ok(len) = u16::try_from(len) {
        header[1] = 126;
        header[2..4].copy_from_slice(&len.to_be_bytes());
        4
    } else {
        header[1] = 127;
        header[2..10].copy_from_slice(&(len as u64).to_be_bytes());
        10
    }
}

/// What a frame is that we wrote, and its payload. `None` for what is no whole frame of ours.
#[must_use]
pub fn frame_payload(frame: &[u8]) -> Option<(Opcode, &[u8])> {
    let (first, second) = (frame.first()?, frame.get(1)?);
    let opcode = Opcode::new(first & 0x0f).filter(|_| first & RESERVED == 0)?;
    let payload = match *second {
        126 => frame.get(4..)?,
        127 => frame.get(Header::LEN_MAX..)?,
        _ => &frame[2..],
    };
    Some((opcode, payload))
}

/// A whole close frame. A reason of more than 123 bytes is cut.
#[must_use]
pub fn close_frame(code: CloseCode, reason: &str) -> Bytes {
    let reason = &reason[..reason.floor_char_boundary(CONTROL_PAYLOAD_MAX - 2)];
    let mut frame = BytesMut::with_capacity(Header::LEN_MAX + 2 + reason.len());
    frame.extend_from_slice(Header::new(Opcode::Close, 2 + reason.len()).as_ref());
    frame.extend_from_slice(&code.code().to_be_bytes());
    frame.extend_from_slice(reason.as_bytes());
    frame.freeze()
}

/// A whole pong frame that answers a ping.
#[must_use]
pub fn pong_frame(ping: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(Header::LEN_MAX + ping.len());
    frame.extend_from_slice(Header::new(Opcode::Pong, ping.len()).as_ref());
    frame.extend_from_slice(ping);
    frame.freeze()
}

/// Appends a whole masked frame, as clients send it.
pub fn write_masked_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: [u8; 4]) {
    let mut header = [0; Header::LEN_MAX];
    header[0] = FIN | opcode as u8;
    let len = write_len(&mut header, payload.len());
    header[1] |= MASKED;
    out.extend_from_slice(&header[..len]);
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], mask);
}

/// How much a client may send at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest payload of one frame, in bytes.
    pub frame_max: usize,
    /// The longest message that is put together from fragments, in bytes.
    pub message_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { frame_max: 10_000_000, message_max: 8_000_000 }
    }
}

/// What a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A text message: checked to be UTF-8.
    Text(Bytes),
    /// A binary message.
    Binary(Bytes),
    /// To be answered with [`pong_frame`].
    Ping(Bytes),
    /// Nothing to do, but the client lives.
    Pong(Bytes),
    /// The client closes, with a valid code and a reason, or without. To be answered with 1000, whatever its code.
    Close(Option<(u16, String)>),
}

impl Incoming {
    /// The length of its payload in bytes, without compression.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text(payload) | Self::Binary(payload) | Self::Ping(payload) | Self::Pong(payload) => payload.len(),
            Self::Close(close) => close.as_ref().map_or(0, |(_, reason)| 2 + reason.len()),
        }
    }
}

/// Masks or unmasks in place, eight bytes at a time.
fn apply_mask(data: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = data.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests;
