//! What a publisher says about a symbol.

use smol_str::SmolStr;

use crate::{Decimal, Field, Rejection, Symbol};

/// Both sides of the market, which a quote replaces together: what it does not name becomes absent, so that a lone `bid` is a
/// one-sided market.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sides {
    /// The best price that a buyer offers.
    pub bid: Option<Decimal>,
    /// The best price that a seller asks.
    pub ask: Option<Decimal>,
    /// How much is bid for, if there is a bid.
    pub bid_size: Option<Decimal>,
    /// How much is offered, if there is an ask.
    pub ask_size: Option<Decimal>,
}

/// The last trade, replaced as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastTrade {
    /// Its price.
    pub price: Decimal,
    /// Its size.
    pub size: Option<Decimal>,
}

/// Where quotes come from, if that must be said wherever they show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Made up by the simulated feed.
    Simulated,
}

impl Source {
    /// Its name in payloads.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Simulated => "simulated",
        }
    }

    /// The source of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        (name == Self::Simulated.as_str()).then_some(Self::Simulated)
    }
}

/// A publisher's place in its own stream: a lower or equal number never replaces what a higher one said of the same symbol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublisherMark {
    /// The publisher's name, 1 to [`Quote::MARK_BYTES_MAX`] bytes.
    pub publisher: SmolStr,
    /// Rises with each quote of the publisher, with gaps or without.
    pub pseq: u64,
}

/// The fields of a quote before they are checked together.
#[derive(Debug, Clone)]
pub struct QuoteFields {
    /// The instrument.
    pub symbol: Symbol,
    /// As in [`Sides`].
    pub bid: Option<Decimal>,
    /// As in [`Sides`].
    pub ask: Option<Decimal>,
    /// As in [`Sides`].
    pub bid_size: Option<Decimal>,
    /// As in [`Sides`].
    pub ask_size: Option<Decimal>,
    /// The price of the last trade.
    pub last: Option<Decimal>,
    /// The size of the last trade.
    pub last_size: Option<Decimal>,
    /// The publisher's time in microseconds since the Unix epoch.
    pub ts: Option<i64>,
    /// Makes a retry harmless: a second quote of the symbol with the same `id` changes nothing.
    pub id: Option<SmolStr>,
    /// Makes a retry harmless by the publisher's own numbers.
    pub mark: Option<PublisherMark>,
    /// Where it comes from, if that must be said.
    pub source: Option<Source>,
}

impl QuoteFields {
    /// A quote of a symbol that says nothing yet.
    #[must_use]
    pub fn new(symbol: Symbol) -> Self {
        Self {
            symbol,
            bid: None,
            ask: None,
            bid_size: None,
            ask_size: None,
            last: None,
            last_size: None,
            ts: None,
            id: None,
            mark: None,
            source: None,
        }
    }

    /// The number of that name.
    pub fn number_mut(&mut self, field: Field) -> &mut Option<Decimal> {
        match field {
            Field::Bid => &mut self.bid,
            Field::Ask => &mut self.ask,
            Field::BidSize => &mut self.bid_size,
            Field::AskSize => &mut self.ask_size,
            Field::Last => &mut self.last,
            Field::LastSize => &mut self.last_size,
        }
    }

    /// The number of that name.
    #[must_use]
    pub fn number(&self, field: Field) -> Option<Decimal> {
        match field {
            Field::Bid => self.bid,
            Field::Ask => self.ask,
            Field::BidSize => self.bid_size,
            Field::AskSize => self.ask_size,
            Field::Last => self.last,
            Field::LastSize => self.last_size,
        }
    }
}

/// A valid quote: it changes at least one group, its prices are positive, no size stands without its price.
#[derive(Debug, Clone)]
pub struct Quote {
    symbol: Symbol,
    sides: Option<Sides>,
    last: Option<LastTrade>,
    ts: Option<i64>,
    id: Option<SmolStr>,
    mark: Option<PublisherMark>,
    source: Option<Source>,
}

impl Quote {
    /// The longest `id` and the longest name of a publisher in bytes: both are kept for a while, so both are bounded.
    pub const MARK_BYTES_MAX: usize = 128;
    /// The latest time that a quote may carry: the end of the year 9999 in microseconds. Nanoseconds taken for microseconds lie beyond.
    pub const TS_MAX: i64 = 253_402_300_799_999_999;

    /// Checks the fields together.
    ///
    /// # Errors
    /// If a price is zero, a size stands without its price, nothing would change, or a time or a mark is out of bounds.
    pub fn new(fields: QuoteFields) -> Result<Self, Rejection> {
        for field in [Field::Bid, Field::Ask, Field::Last] {
            if fields.number(field).is_some_and(Decimal::is_zero) {
                return Err(Rejection::ZeroPrice { field });
            }
        }
        let QuoteFields { symbol, bid, ask, bid_size, ask_size, last, last_size, ts, id, mark, source } = fields;
        let sides = match (bid, ask) {
            (None, _) if bid_size.is_some() => return Err(Rejection::MissingField("bid_size needs bid")),
            (_, None) if ask_size.is_some() => return Err(Rejection::MissingField("ask_size needs ask")),
            (None, None) => None,
            _ => Some(Sides { bid, ask, bid_size, ask_size }),
        };
        let last = match last {
            None if last_size.is_some() => return Err(Rejection::MissingField("last_size needs last")),
            last => last.map(|price| LastTrade { price, size: last_size }),
        };
        if sides.is_none() && last.is_none() {
            return Err(Rejection::MissingField("a quote needs bid, ask or last"));
        }
        if let Some(ts) = ts.filter(|ts| !(0..=Self::TS_MAX).contains(ts)) {
            return Err(Rejection::ts(
                "must be microseconds since 1970, up to the year 9999",
                ts.to_string().as_bytes(),
            ));
        }
        let mark_fits = |text: &str| (1..=Self::MARK_BYTES_MAX).contains(&text.len());
        if id.as_deref().is_some_and(|id| !mark_fits(id)) {
            return Err(Rejection::InvalidMark("id must have 1 to 128 bytes"));
        }
        if mark.as_ref().is_some_and(|mark| !mark_fits(&mark.publisher)) {
            return Err(Rejection::InvalidMark("publisher must have 1 to 128 bytes"));
        }
        Ok(Self { symbol, sides, last, ts, id, mark, source })
    }

    /// The instrument.
    #[must_use]
    pub fn symbol(&self) -> &Symbol {
        &self.symbol
    }

    /// Both sides of the market, if the quote replaces them.
    #[must_use]
    pub fn sides(&self) -> Option<&Sides> {
        self.sides.as_ref()
    }

    /// The last trade, if the quote replaces it.
    #[must_use]
    pub fn last(&self) -> Option<&LastTrade> {
        self.last.as_ref()
    }

    /// The publisher's time in microseconds since the Unix epoch.
    #[must_use]
    pub fn ts(&self) -> Option<i64> {
        self.ts
    }

    /// The publisher's name for this very quote.
    #[must_use]
    pub fn id(&self) -> Option<&SmolStr> {
        self.id.as_ref()
    }

    /// The publisher's number of this quote.
    #[must_use]
    pub fn mark(&self) -> Option<&PublisherMark> {
        self.mark.as_ref()
    }

    /// Where it comes from, if that must be said.
    #[must_use]
    pub fn source(&self) -> Option<Source> {
        self.source
    }

    /// The same quote with another time: what a feed read is stamped when its turn comes. A time out of bounds is brought to the bound.
    #[must_use]
    pub(crate) fn with_ts(mut self, ts: i64) -> Self {
        self.ts = Some(ts.clamp(0, Self::TS_MAX));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(numbers: &[(Field, &str)]) -> QuoteFields {
        let mut fields = QuoteFields::new(Symbol::new("EURUSD").unwrap());
        for &(field, text) in numbers {
            *fields.number_mut(field) = Some(text.parse().unwrap());
        }
        fields
    }

    fn code(fields: QuoteFields) -> String {
        Quote::new(fields).map_or_else(|rejection| rejection.code().to_owned(), |_| "ok".to_owned())
    }

    #[test]
    fn a_quote_changes_something_and_no_size_stands_alone() {
        use Field::{Ask, AskSize, Bid, BidSize, Last, LastSize};
        assert_eq!(code(fields(&[])), "missing_field");
        assert_eq!(code(fields(&[(Bid, "1")])), "ok");
        assert_eq!(code(fields(&[(Bid, "1"), (BidSize, "0")])), "ok");
        assert_eq!(code(fields(&[(Bid, "2"), (Ask, "1")])), "ok");
        assert_eq!(code(fields(&[(Bid, "1"), (AskSize, "1")])), "missing_field");
        assert_eq!(code(fields(&[(LastSize, "1")])), "missing_field");
        assert_eq!(code(fields(&[(Last, "0.00")])), "invalid_price");
    }

    #[test]
    fn times_and_marks_are_bounded() {
        let bid = || fields(&[(Field::Bid, "1")]);
        assert_eq!(code(QuoteFields { ts: Some(1_700_000_000_000_000_000), ..bid() }), "invalid_ts");
        assert_eq!(code(QuoteFields { ts: Some(-1), ..bid() }), "invalid_ts");
        assert_eq!(code(QuoteFields { id: Some("".into()), ..bid() }), "invalid_mark");
        assert_eq!(code(QuoteFields { id: Some("x".repeat(129).into()), ..bid() }), "invalid_mark");
        let mark = Some(PublisherMark { publisher: "".into(), pseq: 1 });
        assert_eq!(code(QuoteFields { mark, ..bid() }), "invalid_mark");
    }
}
