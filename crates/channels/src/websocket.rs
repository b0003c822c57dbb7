//! WebSocket frames (RFC 6455 §5), the server's side.
//!
//! [`Decoder`] takes bytes as they come from the socket, in pieces of any size, and yields whole messages. It owns memory only while a frame
//! or a fragmented message is incomplete: an idle socket costs the size of the struct. [`Header`], [`close_frame`] and [`pong_frame`] write.

use bytes::{Bytes, BytesMut};

use crate::close::{CloseCode, CloseReason};

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

/// What a client did wrong. Nothing it sends afterwards can be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Clients must mask every frame.
    #[error("the client's frame is not masked")]
    Unmasked,
    /// No extension has been negotiated that gives them a meaning.
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
            Self::MessageTooBig { .. } => CloseReason::MessageTooBig,
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

/// Turns one client's bytes into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The part of a header that has arrived.
    header: [u8; ClientHeader::LEN_MAX],
    header_len: usize,
    /// The frame whose header is complete and whose payload is not.
    frame: Option<ClientHeader>,
    /// The payload of a control frame so far; it may stand between the fragments of a message.
    control: Vec<u8>,
    /// The data message that is incomplete.
    message: Option<Partial>,
}

/// A client's frame: its header, less what has been taken of its payload.
#[derive(Debug, Clone, Copy)]
struct ClientHeader {
    opcode: Opcode,
    fin: bool,
    /// Turned, so that its first byte is for the next byte of the payload.
    mask: [u8; 4],
    remaining: usize,
}

/// A data message so far.
#[derive(Debug)]
struct Partial {
    text: bool,
    data: Vec<u8>,
    /// How much of a text is known to be UTF-8.
    checked: usize,
}

impl Decoder {
    /// Takes bytes from the front of `input` up to the end of the next message, and returns that. `None` once `input` is used up: to be called
    /// again with what arrives next.
    ///
    /// # Errors
    /// If the client breaks the protocol or a limit. The connection is to be closed, and the decoder not to be used any more.
    pub fn decode(&mut self, input: &mut &[u8], limits: &Limits) -> Result<Option<Incoming>, ProtocolError> {
        loop {
            let frame = match self.frame.take() {
                Some(frame) => frame,
                None => match self.read_header(input, limits)? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            let frame = self.read_payload(frame, input)?;
            if frame.remaining > 0 {
                self.frame = Some(frame);
                return Ok(None);
            }
            if let Some(incoming) = self.end_frame(frame)? {
                return Ok(Some(incoming));
            }
        }
    }

    /// Takes a header, in one or more pieces; each part of it is checked as soon as it is there.
    fn read_header(&mut self, input: &mut &[u8], limits: &Limits) -> Result<Option<ClientHeader>, ProtocolError> {
        if !self.fill_header(input, 2) {
            return Ok(None);
        }
        let [first, second, ..] = self.header;
        let opcode = self.check_start(first, second)?;
        let fin = first & FIN != 0;
        let len_end = match second & LEN {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        if !self.fill_header(input, len_end) {
            return Ok(None);
        }
        let len = self.header[2..len_end].iter().fold(0, |len: u64, byte| len << 8 | u64::from(*byte));
        let len = if len_end == 2 { u64::from(second & LEN) } else { len };
        if (len_end == 4 && len < 126) || (len_end == 10 && len <= u64::from(u16::MAX)) {
            return Err(ProtocolError::LongLength { len });
        }
        let remaining = self.check_len(opcode, fin, len, limits)?;
        if !self.fill_header(input, len_end + 4) {
            return Ok(None);
        }
        self.header_len = 0;
        let mut mask = [0; 4];
        mask.copy_from_slice(&self.header[len_end..len_end + 4]);
        self.begin_message(opcode, remaining.min(input.len()));
        Ok(Some(ClientHeader { opcode, fin, mask, remaining }))
    }

    /// Moves bytes over until the header has `len` of them; tells whether it has.
    fn fill_header(&mut self, input: &mut &[u8], len: usize) -> bool {
        let missing = len.saturating_sub(self.header_len).min(input.len());
        let (taken, rest) = input.split_at(missing);
        self.header[self.header_len..self.header_len + missing].copy_from_slice(taken);
        self.header_len += missing;
        *input = rest;
        self.header_len >= len
    }

    /// Checks the first two bytes of a header.
    fn check_start(&self, first: u8, second: u8) -> Result<Opcode, ProtocolError> {
        // Once permessage-deflate can be negotiated, its bit (0x40) is allowed on the first frame of a data message.
        if first & RESERVED != 0 {
            return Err(ProtocolError::ReservedBits { first });
        }
        let opcode = Opcode::new(first & 0x0f).ok_or(ProtocolError::ReservedOpcode { opcode: first & 0x0f })?;
        if second & MASKED == 0 {
            return Err(ProtocolError::Unmasked);
        }
        let fin = first & FIN != 0;
        match opcode {
            Opcode::Close | Opcode::Ping | Opcode::Pong if !fin => Err(ProtocolError::FragmentedControl),
            Opcode::Close | Opcode::Ping | Opcode::Pong if usize::from(second & LEN) > CONTROL_PAYLOAD_MAX => {
                Err(ProtocolError::LongControl)
            }
            Opcode::Continuation if self.message.is_none() => Err(ProtocolError::StrayContinuation),
            Opcode::Continuation if !fin && second & LEN == 0 => Err(ProtocolError::EmptyFragment),
            Opcode::Text | Opcode::Binary if self.message.is_some() => Err(ProtocolError::Interleaved),
            _ => Ok(opcode),
        }
    }

    /// Checks an announced length before any of the payload is waited for. One with its top bit set is just another that is too big.
    fn check_len(&self, opcode: Opcode, fin: bool, len: u64, limits: &Limits) -> Result<usize, ProtocolError> {
        let max = limits.frame_max;
        let payload = usize::try_from(len).ok().filter(|len| *len <= max || opcode.is_control());
        let payload = payload.ok_or(ProtocolError::FrameTooBig { len, max })?;
        let fragment = match opcode {
            Opcode::Continuation => true,
            Opcode::Text | Opcode::Binary => !fin,
            Opcode::Close | Opcode::Ping | Opcode::Pong => false,
        };
        if fragment {
            let before = self.message.as_ref().map_or(0, |message| message.data.len());
            let (len, max) = (before.saturating_add(payload), limits.message_max);
            if len > max {
                return Err(ProtocolError::MessageTooBig { len, max });
            }
        }
        Ok(payload)
    }

    /// Makes room for what is there of the payload, and not for what is announced: a client must send what it wants us to hold.
    fn begin_message(&mut self, opcode: Opcode, available: usize) {
        if matches!(opcode, Opcode::Text | Opcode::Binary) {
            let data = Vec::with_capacity(available);
            self.message = Some(Partial { text: opcode == Opcode::Text, data, checked: 0 });
        }
    }

    /// Takes what is there of a frame's payload, and returns the frame less that.
    fn read_payload(&mut self, mut frame: ClientHeader, input: &mut &[u8]) -> Result<ClientHeader, ProtocolError> {
        let (taken, rest) = input.split_at(frame.remaining.min(input.len()));
        *input = rest;
        let data = match &mut self.message {
            Some(message) if !frame.opcode.is_control() => &mut message.data,
            _ => &mut self.control,
        };
        let start = data.len();
        data.extend_from_slice(taken);
        apply_mask(&mut data[start..], frame.mask);
        frame.mask.rotate_left(taken.len() % 4);
        frame.remaining -= taken.len();
        match &mut self.message {
            Some(message) if !frame.opcode.is_control() => message.check(frame.fin && frame.remaining == 0)?,
            _ => {}
        }
        Ok(frame)
    }

    /// What a frame that has been taken whole amounts to; nothing yet if it is a fragment with more to come.
    fn end_frame(&mut self, frame: ClientHeader) -> Result<Option<Incoming>, ProtocolError> {
        if !frame.opcode.is_control() {
            let message = if frame.fin { self.message.take() } else { None };
            return Ok(message.map(|Partial { text, data, .. }| {
                let data = Bytes::from(data);
                if text { Incoming::Text(data) } else { Incoming::Binary(data) }
            }));
        }
        let payload = Bytes::from(std::mem::take(&mut self.control));
        match frame.opcode {
            Opcode::Ping => Ok(Some(Incoming::Ping(payload))),
            Opcode::Close => parse_close(&payload).map(Some),
            _ => Ok(Some(Incoming::Pong(payload))),
        }
    }
}

impl ClientHeader {
    /// Two bytes, a length of eight, and the mask.
    const LEN_MAX: usize = 14;
}

impl Partial {
    /// Checks the part of a text that has not been checked, so that a bad one is refused before its end. Only the end of a `complete` one may
    /// not be in the middle of a character.
    fn check(&mut self, complete: bool) -> Result<(), ProtocolError> {
        if !self.text {
            return Ok(());
        }
        match simdutf8::compat::from_utf8(&self.data[self.checked..]) {
            Ok(text) => self.checked += text.len(),
            Err(error) if error.error_len().is_none() && !complete => self.checked += error.valid_up_to(),
            Err(_) => return Err(ProtocolError::InvalidUtf8),
        }
        Ok(())
    }
}

/// Which codes may be sent: those that mean something to both sides, RFC 6455 §7.4. Codes from 1012 to 2999 count as reserved, as the RFC has
/// them and as Phoenix answers them; from 3000 on they are the application's.
fn parse_close(payload: &[u8]) -> Result<Incoming, ProtocolError> {
    let (code, reason) = match payload {
        [] => return Ok(Incoming::Close(None)),
        [_] => return Err(ProtocolError::BadClose { payload: BadClose::OneByte }),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if matches!(code, 0..=999 | 1004..=1006 | 1012..=2999) {
        return Err(ProtocolError::BadClose { payload: BadClose::Code(code) });
    }
    let Ok(reason) = std::str::from_utf8(reason) else {
        return Err(ProtocolError::BadClose { payload: BadClose::Reason });
    };
    Ok(Incoming::Close(Some((code, reason.to_owned()))))
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
