//! Why a quote was not taken.

use crate::{DecimalError, Symbol, SymbolError};

/// The numbers of a quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// The best price that a buyer offers.
    Bid,
    /// The best price that a seller asks.
    Ask,
    /// How much is bid for.
    BidSize,
    /// How much is offered.
    AskSize,
    /// The price of the last trade.
    Last,
    /// The size of the last trade.
    LastSize,
}

impl Field {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 6] = [Self::Bid, Self::Ask, Self::BidSize, Self::AskSize, Self::Last, Self::LastSize];

    /// Its name in every text format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bid => "bid",
            Self::Ask => "ask",
            Self::BidSize => "bid_size",
            Self::AskSize => "ask_size",
            Self::Last => "last",
            Self::LastSize => "last_size",
        }
    }

    /// Whether it is a price, which must be positive, rather than a size, which may be zero.
    #[must_use]
    pub const fn is_price(self) -> bool {
        matches!(self, Self::Bid | Self::Ask | Self::Last)
    }
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why one quote was not taken. The others of its batch are not concerned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The record is not of the format at all: a broken line, a value that is not an object.
    #[error("{0}")]
    Malformed(String),
    /// The symbol is missing or not one.
    #[error("symbol: {0}")]
    InvalidSymbol(#[from] SymbolError),
    /// A price or a size is not a decimal that we keep exactly.
    #[error("{field} {problem}, seen {seen:?}")]
    InvalidNumber {
        /// Which one.
        field: Field,
        /// What is wrong with it.
        problem: DecimalError,
        /// The text, shortened.
        seen: String,
    },
    /// A price is zero.
    #[error("{field} must be above zero")]
    ZeroPrice {
        /// Which one.
        field: Field,
    },
    /// The time is not one.
    #[error("ts {seen} {problem}")]
    InvalidTs {
        /// What is wrong with it.
        problem: &'static str,
        /// The text, shortened.
        seen: String,
    },
    /// `id`, `publisher` or `pseq` cannot be used.
    #[error("{0}")]
    InvalidMark(&'static str),
    /// The quote lacks what its other fields need.
    #[error("{0}")]
    MissingField(&'static str),
    /// The publisher's time is older than that of the current value.
    #[error("ts {seen} is older than the current {current}; set market.out_of_order = \"accept\" to take late quotes")]
    OutOfOrder {
        /// The quote's time in microseconds.
        seen: i64,
        /// The current value's.
        current: i64,
    },
    /// Only listed symbols are taken, and this is none.
    #[error("unknown symbol {0}; only those that market.listed names are taken")]
    UnknownSymbol(Symbol),
    /// The node keeps as many symbols as it may.
    #[error("the node keeps {limit} symbols and takes no further one; raise market.symbols_max")]
    TooManySymbols {
        /// How many it keeps.
        limit: usize,
    },
    /// The consumers have no room.
    #[error("the node is at capacity")]
    Busy,
    /// The owner of the symbol did not answer; it may or may not have taken the quote.
    #[error("the symbol's owner cannot be reached")]
    OwnerUnreachable,
    /// The node that was asked does not own the symbol.
    #[error("the node asked does not own the symbol")]
    NotOwner,
    /// The shard crashed on this quote.
    #[error("internal error")]
    Internal,
    /// The owner, perhaps of another version, gave this reason.
    #[error("{message}")]
    Remote {
        /// Its stable code.
        code: String,
        /// Its words.
        message: String,
        /// Whether the same quote may be taken later.
        retryable: bool,
    },
}

impl Rejection {
    /// The stable code of `docs/codes.md`.
    #[must_use]
    pub fn code(&self) -> &str {
        if let Self::Remote { code, .. } = self { code } else { self.label() }
    }

    /// The code as a metric label: from a closed set, even when the owner's code is unknown here.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::InvalidSymbol(_) => "invalid_symbol",
            Self::InvalidNumber { field, .. } | Self::ZeroPrice { field } if field.is_price() => "invalid_price",
            Self::InvalidNumber { .. } | Self::ZeroPrice { .. } => "invalid_size",
            Self::InvalidTs { .. } => "invalid_ts",
            Self::InvalidMark(_) => "invalid_mark",
            Self::MissingField(_) => "missing_field",
            Self::OutOfOrder { .. } => "out_of_order",
            Self::UnknownSymbol(_) => "unknown_symbol",
            Self::TooManySymbols { .. } => "too_many_symbols",
            Self::Busy => "busy",
            Self::OwnerUnreachable => "owner_unreachable",
            Self::NotOwner => "not_owner",
            Self::Internal => "internal",
            Self::Remote { .. } => "remote",
        }
    }

    /// Whether the same quote may be taken if it is sent again, later.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Busy | Self::OwnerUnreachable | Self::NotOwner => true,
            Self::Remote { retryable, .. } => *retryable,
            _ => false,
        }
    }

    /// A number that could not be read.
    #[must_use]
    pub fn number(field: Field, problem: DecimalError, seen: &[u8]) -> Self {
        Self::InvalidNumber { field, problem, seen: excerpt(seen) }
    }

    /// A time that cannot be used.
    pub(crate) fn ts(problem: &'static str, seen: &[u8]) -> Self {
        Self::InvalidTs { problem, seen: excerpt(seen) }
    }

    /// Something that is not a quote at all.
    #[must_use]
    pub fn malformed(problem: impl Into<String>) -> Self {
        Self::Malformed(problem.into())
    }
}

/// The beginning of what was seen: enough to recognise it, too short to fill a log.
pub(crate) fn excerpt(seen: &[u8]) -> String {
    const BYTES_MAX: usize = 40;
    let mut text = String::from_utf8_lossy(&seen[..seen.len().min(BYTES_MAX)]).into_owned();
    if seen.len() > BYTES_MAX {
        text.push('…');
    }
    text
}
