//! Cutting a server's byte stream into frames, without copying those that arrive whole.

/// What a frame is, as far as a load generator cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Close,
    Ping,
    Other,
}

/// A frame at the start of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    pub(crate) payload: &'a [u8],
    /// Bytes of the whole frame.
    pub(crate) len: usize,
}

/// The first frame, if it is there whole. Servers neither mask nor fragment what they send.
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
    let kind = match first & 0x0f {
        1 => Kind::Text,
        8 => Kind::Close,
        9 => Kind::Ping,
        _ => Kind::Other,
    };
    let len = header.checked_add(payload)?;
    Some(Frame { kind, payload: bytes.get(header..len)?, len })
}

#[cfg(test)]
mod tests {
    use tickwire_channels::websocket::{Header, Opcode};

    use super::*;

    #[test]
    fn frames_of_all_lengths_are_cut_at_their_end() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let mut bytes = Header::new(Opcode::Text, len).as_ref().to_vec();
            bytes.resize(bytes.len() + len, b'x');
            let whole = bytes.len();
            bytes.extend_from_slice(b"next");
            let frame = split(&bytes).unwrap();
            assert_eq!((frame.kind, frame.payload.len(), frame.len), (Kind::Text, len, whole));
            assert_eq!(split(&bytes[..whole - 1]).filter(|_| len > 0), None);
        }
        assert_eq!(split(&[]), None);
        assert_eq!(split(&[0x88, 2, 3]), None);
    }
}
