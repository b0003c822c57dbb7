//! Quotes on their way in, and what became of them.

use futures_util::future::BoxFuture;

use crate::{Quote, Rejection};

/// A quote and its place in what the publisher sent.
#[derive(Debug, Clone)]
pub(crate) struct Indexed {
    pub(crate) index: u32,
    pub(crate) quote: Quote,
}

/// The quotes of a batch that go to this node's shards: sorted by counting, in which the order of each shard's quotes stays.
pub(crate) struct Shares {
    /// Shard and place of each quote, as they came.
    placed: Vec<(usize, u32)>,
    /// How many quotes each shard gets.
    counts: Vec<usize>,
}

impl Shares {
    /// None yet, of a node with so many shards and a batch with so many quotes.
    pub(crate) fn new(shards: usize, quotes: usize) -> Self {
        Self { placed: Vec::with_capacity(quotes), counts: vec![0; shards] }
    }

    /// Adds the quote at a place of the batch.
    pub(crate) fn push(&mut self, shard: usize, place: u32) {
        self.counts[shard] += 1;
        self.placed.push((shard, place));
    }

    /// The places of the quotes of each shard that gets any.
    pub(crate) fn by_shard(self) -> impl Iterator<Item = (usize, Vec<u32>)> {
        let mut shares: Vec<_> = self.counts.iter().map(|&count| Vec::with_capacity(count)).collect();
        for (shard, place) in self.placed {
            shares[shard].push(place);
        }
        shares.into_iter().enumerate().filter(|(_, places)| !places.is_empty())
    }
}

/// What a publisher sent in one go: valid quotes, and what was no quote, each with its place.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub(crate) quotes: Vec<Indexed>,
    pub(crate) rejected: Vec<Rejected>,
    len: u32,
}

impl Batch {
    /// An empty batch with room for so many quotes.
    pub(crate) fn with_room(quotes: usize) -> Self {
        Self { quotes: Vec::with_capacity(quotes), ..Self::default() }
    }

    /// Whether what was added last is a quote.
    pub(crate) fn ends_with_quote(&self) -> bool {
        self.quotes.last().is_some_and(|quote| quote.index + 1 == self.len)
    }

    /// Adds what stands at the next place.
    pub fn push(&mut self, quote: Result<Quote, Rejection>) {
        let index = self.len;
        self.len += 1;
        match quote {
            Ok(quote) => self.quotes.push(Indexed { index, quote }),
            Err(rejection) => self.rejected.push(Rejected { index, rejection }),
        }
    }

    /// How many places there are, rejected ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether the publisher sent nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The valid quotes, in order.
    pub fn quotes(&self) -> impl ExactSizeIterator<Item = &Quote> {
        self.quotes.iter().map(|indexed| &indexed.quote)
    }

    /// What was no quote.
    #[must_use]
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }
}

impl From<Vec<Quote>> for Batch {
    fn from(quotes: Vec<Quote>) -> Self {
        quotes.into_iter().map(Ok).collect()
    }
}

impl FromIterator<Quote> for Batch {
    fn from_iter<I: IntoIterator<Item = Quote>>(quotes: I) -> Self {
        quotes.into_iter().map(Ok).collect()
    }
}

impl FromIterator<Result<Quote, Rejection>> for Batch {
    fn from_iter<I: IntoIterator<Item = Result<Quote, Rejection>>>(quotes: I) -> Self {
        let mut batch = Self::default();
        quotes.into_iter().for_each(|quote| batch.push(quote));
        batch
    }
}

/// A quote that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its place in what the publisher sent, from 0.
    pub index: u32,
    /// Why.
    pub rejection: Rejection,
}

/// What became of a batch, once the owners of all its symbols have answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IngestReport {
    /// How many quotes were taken: stamped in memory by their owners, or known as taken before.
    pub accepted: u64,
    /// How many of these had come before and changed nothing.
    pub duplicates: u64,
    /// The others, in order.
    pub rejected: Vec<Rejected>,
}

impl IngestReport {
    /// Whether some quote was not taken for want of capacity: the publisher should slow down.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.rejected.iter().any(|rejected| rejected.rejection == Rejection::Busy)
    }

    pub(crate) fn reject(&mut self, index: u32, rejection: Rejection) {
        self.rejected.push(Rejected { index, rejection });
    }
}

/// An answer that is there when this node owns the symbols, and comes later when others do.
pub enum Answer<T> {
    /// The answer.
    Ready(T),
    /// Resolves to the answer, within the configured time. What was asked has been sent already: dropping this forgets the answer only.
    Waiting(BoxFuture<'static, T>),
}

impl<T> Answer<T> {
    /// Waits for the answer.
    pub async fn wait(self) -> T {
        match self {
            Self::Ready(answer) => answer,
            Self::Waiting(answer) => answer.await,
        }
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ready(answer) => f.debug_tuple("Ready").field(answer).finish(),
            Self::Waiting(_) => f.write_str("Waiting"),
        }
    }
}
