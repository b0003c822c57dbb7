//! From bytes to messages.

use bytes::Bytes;

use super::{
    BadClose, COMPRESSED, CONTROL_PAYLOAD_MAX, FIN, Incoming, LEN, Limits, MASKED, Opcode, ProtocolError, RESERVED,
    apply_mask,
};
use crate::deflate;

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
    /// Whether messages may be compressed.
    deflate: bool,
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
    compressed: bool,
    data: Vec<u8>,
    /// How much of a text is known to be UTF-8.
    checked: usize,
}

impl Decoder {
    /// For a connection on which permessage-deflate has been negotiated.
    #[must_use]
    pub fn with_deflate() -> Self {
        Self { deflate: true, ..Self::default() }
    }

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
            if let Some(incoming) = self.end_frame(frame, limits)? {
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
        self.begin_message(opcode, first & COMPRESSED != 0, remaining.min(input.len()));
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
        let opcode = Opcode::new(first & 0x0f).ok_or(ProtocolError::ReservedOpcode { opcode: first & 0x0f })?;
        // It stands on the first frame of a data message.
        let allowed = if self.deflate && matches!(opcode, Opcode::Text | Opcode::Binary) { COMPRESSED } else { 0 };
        if first & RESERVED & !allowed != 0 {
            return Err(ProtocolError::ReservedBits { first });
        }
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
    fn begin_message(&mut self, opcode: Opcode, compressed: bool, available: usize) {
        if matches!(opcode, Opcode::Text | Opcode::Binary) {
            let data = Vec::with_capacity(available);
            self.message = Some(Partial { text: opcode == Opcode::Text, compressed, data, checked: 0 });
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
    fn end_frame(&mut self, frame: ClientHeader, limits: &Limits) -> Result<Option<Incoming>, ProtocolError> {
        if !frame.opcode.is_control() {
            let message = if frame.fin { self.message.take() } else { None };
            return message.map(|message| message.finish(limits)).transpose();
        }
        let payload = Bytes::from(std::mem::take(&mut self.control));
        match frame.opcode {
            Opcode::Ping => Ok(Some(Incoming::Ping(payload))),
            Opcode::Close => parse_close(&payload).map(Some),
            _ => Ok(Some(Incoming::Pong(payload))),
        }
    }
}

#[cfg(test)]
impl Decoder {
    /// Bytes of memory that it has besides itself.
    pub(super) fn owned(&self) -> usize {
        self.control.capacity() + self.message.as_ref().map_or(0, |message| message.data.capacity())
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
        // Of a compressed one nothing is known before it is complete: nothing is inflated twice, and no socket has an inflater of its own.
        if !self.text || self.compressed {
            return Ok(());
        }
        match simdutf8::compat::from_utf8(&self.data[self.checked..]) {
            Ok(text) => self.checked += text.len(),
            Err(error) if error.error_len().is_none() && !complete => self.checked += error.valid_up_to(),
            Err(_) => return Err(ProtocolError::InvalidUtf8),
        }
        Ok(())
    }

    /// The message, now that all of it is there.
    fn finish(mut self, limits: &Limits) -> Result<Incoming, ProtocolError> {
        if self.compressed {
            self.data = deflate::inflate(&self.data, limits.message_max)?;
            self.compressed = false;
            self.check(true)?;
        }
        let data = Bytes::from(self.data);
        Ok(if self.text { Incoming::Text(data) } else { Incoming::Binary(data) })
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
