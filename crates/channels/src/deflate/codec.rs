//! One message in, one message out. Each thread that needs them has one compressor per [`Window`] and one inflater, made when they are first
//! needed; every message begins with them as if they were new.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use metrics::{Counter, counter};

use super::Window;
use crate::{
    metrics as names,
    websocket::{Header, Opcode},
};

/// Updates are short. Below it they lose most of what there is to win, above it costs more and wins next to nothing.
const LEVEL: u32 = 2;

/// What a flush leaves at the end of a message, and what is not sent: an empty block without compression, less its first bits. RFC 7692 §7.2.1.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// The tail of a message, and one more block, empty and the last one. Only a message that is complete leads the inflater to exactly its end.
const TAIL_AND_END: [u8; 9] = [0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];

/// A message may consist of several deflate streams (RFC 7692 §7.2.3.4). Nobody needs as many of them as this; each costs a reset.
const STREAMS_MAX: usize = 1_024;

/// Memory for what is being compressed that a thread keeps, in bytes.
const SCRATCH_KEPT: usize = 64 * 1024;

thread_local! {
    static CODEC: RefCell<Codec> = RefCell::default();
}

#[derive(Default)]
struct Codec {
    compressors: [Option<Compress>; Window::COUNT],
    inflater: Option<Decompress>,
    scratch: Vec<u8>,
    meters: Option<Meters>,
}

struct Meters {
    before: Counter,
    after: Counter,
}

/// Why a message is not inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// Not deflate, or only the beginning of it.
    #[error("the compressed message is not a complete deflate stream")]
    Invalid,
    /// It was given up at this length.
    #[error("the compressed message has more than {max} bytes")]
    TooBig {
        /// The limit in bytes.
        max: usize,
    },
}

/// The message, compressed, as one whole unmasked frame.
#[must_use]
pub fn compressed_frame(opcode: Opcode, message: &[u8], window: Window) -> Bytes {
    CODEC.with_borrow_mut(|codec| {
        let Codec { compressors, scratch, meters, .. } = codec;
        let compressor = compressors[window.index()].get_or_insert_with(|| {
            Compress::new_with_window_bits(Compression::new(LEVEL), false, window.compressor_bits())
        });
        compress(compressor, message, scratch);
        let meters = meters.get_or_insert_with(|| Meters {
            before: counter!(names::DEFLATE_BYTES, "stage" => "before"),
            after: counter!(names::DEFLATE_BYTES, "stage" => "after"),
        });
        meters.before.increment(message.len() as u64);
        meters.after.increment(scratch.len() as u64);
        let header = Header::new(opcode, scratch.len()).compressed();
        let mut frame = BytesMut::with_capacity(header.as_ref().len() + scratch.len());
        frame.extend_from_slice(header.as_ref());
        frame.extend_from_slice(scratch);
        scratch.clear();
        scratch.shrink_to(SCRATCH_KEPT);
        frame.freeze()
    })
}

/// RFC 7692 §7.2.1. An empty message becomes one byte, the first of an empty block.
fn compress(compressor: &mut Compress, message: &[u8], out: &mut Vec<u8>) {
    compressor.reset();
    out.clear();
    let mut rest = message;
    loop {
        // For most messages once is enough.
        out.reserve(rest.len() + rest.len() / 8 + 64);
        let before = compressor.total_in();
        let status = compressor.compress_vec(rest, out, FlushCompress::Sync);
        status.expect("the state of a compressor that was reset is valid");
        let taken = usize::try_from(compressor.total_in() - before).unwrap_or(usize::MAX);
        rest = rest.get(taken..).unwrap_or_default();
        // As long as it fills all the room that it gets it may have more.
        if rest.is_empty() && out.len() < out.capacity() {
            break;
        }
    }
    debug_assert!(out.ends_with(&TAIL));
    out.truncate(out.len().saturating_sub(TAIL.len()));
}

/// A compressed message as it was. Memory is taken for what has come out, and for a little more, up to `max` bytes.
///
/// # Errors
/// If it is not deflate, or longer than `max`.
pub fn inflate(compressed: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
    CODEC.with_borrow_mut(|codec| {
        let inflater = codec.inflater.get_or_insert_with(|| Decompress::new(false));
        inflater.reset(false);
        let mut message = Inflating { inflater, out: Vec::new(), max, streams: 0 };
        // One that ends with a last block, and has no tail at all, is not what the RFC asks for, but complete.
        if message.take(compressed)? || message.take(&TAIL_AND_END)? {
            let Inflating { mut out, .. } = message;
            if out.capacity() / 2 > out.len() {
                out.shrink_to_fit();
            }
            Ok(out)
        } else {
            Err(InflateError::Invalid)
        }
    })
}

/// A message that is being inflated.
struct Inflating<'a> {
    inflater: &'a mut Decompress,
    out: Vec<u8>,
    max: usize,
    streams: usize,
}

impl Inflating<'_> {
    /// Inflates some bytes; tells whether a stream ended with the last of them.
    fn take(&mut self, mut input: &[u8]) -> Result<bool, InflateError> {
        loop {
            self.make_room(input.len());
            let (taken, given) = (self.inflater.total_in(), self.out.len());
            let status = self.inflater.decompress_vec(input, &mut self.out, FlushDecompress::Sync);
            let status = status.map_err(|_| InflateError::Invalid)?;
            if self.out.len() > self.max {
                return Err(InflateError::TooBig { max: self.max });
            }
            let taken = usize::try_from(self.inflater.total_in() - taken).unwrap_or(usize::MAX);
            input = input.get(taken..).unwrap_or_default();
            if status == Status::StreamEnd {
                self.streams += 1;
                if self.streams > STREAMS_MAX {
                    return Err(InflateError::Invalid);
                }
                self.inflater.reset(false);
                if input.is_empty() {
                    return Ok(true);
                }
            } else if self.out.len() < self.out.capacity() {
                // It had room left: either it wants more, or it is stuck.
                return if input.is_empty() { Ok(false) } else { Err(InflateError::Invalid) };
            } else if taken == 0 && self.out.len() == given {
                return Err(InflateError::Invalid);
            }
        }
    }

    /// Makes room for at least one more byte, of which there may be one more than `max`.
    fn make_room(&mut self, input: usize) {
        if self.out.len() == self.out.capacity() {
            let wanted = self.out.len().max(input.saturating_mul(3)).max(256);
            self.out.reserve_exact(wanted.min(self.max.saturating_add(1).saturating_sub(self.out.len())).max(1));
        }
    }
}
