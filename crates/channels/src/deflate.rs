//! permessage-deflate (RFC 7692): smaller messages for more CPU time.
//!
//! [`negotiate`] picks one of a client's offers. No context is taken over from message to message, in either direction: a broadcast is
//! compressed once for all sockets with the same [`Window`], and a socket owns no compressor and no window. What compresses and inflates
//! belongs to the thread ([`codec`]).

mod codec;
mod negotiate;

#[cfg(test)]
mod tests;

pub use self::{
    codec::{InflateError, compressed_frame, inflate},
    negotiate::{Deflate, negotiate},
};

/// How far back what we send may refer.
///
/// A client may choose any power of two between 256 bytes and 32 KiB. What is written for the smallest window can be read with every other,
/// so that there need not be eight forms of a broadcast: whoever asks for less than everything gets the smallest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// 32 KiB: what browsers, and all who ask for nothing, have.
    Full,
    /// 256 bytes.
    Small,
}

impl Window {
    /// How many there are.
    pub const COUNT: usize = 2;

    /// A number below [`COUNT`](Self::COUNT), for tables with an entry per window.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Full => 0,
            Self::Small => 1,
        }
    }

    /// What the compressor is told, as the logarithm of a size. It refers back by at most its window less 262 bytes (its longest match, and
    /// what it looks ahead): by 250 bytes with the smallest that it knows. That is within 256, which it cannot be asked for.
    const fn compressor_bits(self) -> u8 {
        match self {
            Self::Full => 15,
            Self::Small => 9,
        }
    }
}
