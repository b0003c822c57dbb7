//! Cutting a server's byte stream into frames, without copying those that arrive whole.

pub(crate) use tickwire_channels::websocket::Opcode;

/// What a frame is, as far as a load generator cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A whole message, text or binary.
    Message,
    Close,
    Ping,
    Pong,
    /// A fragment, a mask, a reserved bit: what no server that is measured here sends.
    Unexpected,
}

/// A frame at the start of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    pub(crate) payload: &'a [u8],
    /// Bytes of the whole frame.
    pub(crate) len: usize,
}

/// The first frame, if it is there whole.
#[inline]
pub(crate) fn split(bytes: &[u8]) -> Option<Frame<'_>> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (header, payload) = match second & 0x7f {
        126 => (4usize, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => {
            let len: [u8; 8] = bytes.get(2..10)?.try_into().ok()?;
            (10, usize::try_from(u64::from_be_bytes(len)).ok()?)
        }
        len => (2, usize::from(len)),
    };
    let kind = match first {
        _ if second & 0x80 != 0 => Kind::Unexpected,
        0x81 | 0x82 => Kind::Message,
        0x88 => Kind::Close,
        0x89 => Kind::Ping,
        0x8a => Kind::Pong,
        _ => Kind::Unexpected,
    };
    let len = header.checked_add(payload)?;
    Some(Frame { kind, payload: bytes.get(header..len)?, len })
}

#[cfg(test)]
mod tests {
    use tickwire_channels::websocket::Header;

    use super::*;

    #[test]
    fn frames_of_all_lengths_are_cut_at_their_end() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let mut bytes = Header::new(Opcode::Text, len).as_ref().to_vec();
            bytes.resize(bytes.len() + len, b'x');
            let whole = bytes.len();
            bytes.extend_from_slice(b"next");
            let frame = split(&bytes).unwrap();
            assert_eq!((frame.kind, frame.payload.len(), frame.len), (Kind::Message, len, whole));
            assert_eq!(split(&bytes[..whole - 1]).filter(|_| len > 0), None);
        }
        assert_eq!(split(&[]), None);
        assert_eq!(split(&[0x88, 2, 3]), None);
        // A fragment, one in the middle, a compressed message, a masked one.
        for first in [[0x01, 0], [0x00, 0], [0xc1, 0], [0x81, 0x80]] {
            assert_eq!(split(&first).unwrap().kind, Kind::Unexpected);
        }
    }
}
