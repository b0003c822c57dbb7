//! What the fuzz targets share: how input is cut into pieces, how much memory a decoder took, and JSON as another reader sees it.

mod json;
pub mod quotes;

use peak_alloc::PeakAlloc;
use tickwire_channels::websocket::{Decoder, Incoming, Limits, ProtocolError};

pub use json::{Json, nests_deeper_than};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Does something, and says how many bytes it held at most beyond what was there before.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let done = work();
    (done, ALLOCATOR.peak_usage().saturating_sub(before))
}

/// Cuts input into pieces of 1 to 16 bytes. Where, depends on the input alone, so that a finding can be run again and seeds are plain
/// protocol.
pub fn pieces(data: &[u8]) -> Vec<&[u8]> {
    // FNV-1a: any spread will do.
    let mut state = data
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let (mut pieces, mut rest) = (Vec::new(), data);
    while !rest.is_empty() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (piece, tail) = rest.split_at(rest.len().min(1 + (state >> 60) as usize));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

/// Everything that was understood of a client's frames, and what ended it.
pub type Outcome = (Vec<Incoming>, Option<ProtocolError>);

/// Decodes frames that come in pieces.
pub fn decode<'a>(mut decoder: Decoder, limits: &Limits, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut messages = Vec::new();
    for mut piece in pieces {
        loop {
            match decoder.decode(&mut piece, limits) {
                Ok(Some(incoming)) => messages.push(incoming),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
        assert!(piece.is_empty(), "bytes are left over");
    }
    (messages, None)
}

/// Whether one text is somewhere in another.
pub fn contains(data: &[u8], part: &[u8]) -> bool {
    part.is_empty() || data.windows(part.len()).any(|window| window == part)
}
