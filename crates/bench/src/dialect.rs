//! What server is loaded, and how one speaks with it.
//!
//! A [`Dialect`] is all that differs between the servers that can be measured: how a socket is opened and subscribed, what its messages
//! say, and how quotes are published. Everything else is the same for all of them: the sockets and the reader (`socket`, `reader`), the
//! schedule and its thread (`publisher`), the check of every delivery (`check`), the bytes of a payload (`payload`), the report.
//!
//! To add a server, implement [`Dialect`] and [`Publisher`]:
//!
//! 1. The reader connects to [`Dialect::address`], sends [`Dialect::upgrade`], waits for the blank line behind a `101`, sends
//!    [`Dialect::subscribe`], and hands each WebSocket message that follows to [`Dialect::message`], in order, masked and framed by nobody.
//!    Pings of the WebSocket layer are answered by the reader. A message may tell several deliveries, or a part of one
//!    ([`Heard::carry`] keeps bytes from one message to the next).
//! 2. `message` tells what it found: [`Heard::joined`] once for each topic, whose position the first update continues; [`Heard::update`]
//!    for each delivery; [`Heard::failed`] for anything that should not be. [`Heard::say`] sends bytes back, such as an answer to a ping.
//! 3. A server that stamps nothing carries the stamps of its publisher: `payload::Maker::update` writes the very JSON that Tickwire
//!    would send, with [`Due::seq`] (1, 2, 3… of each symbol) and an epoch that `joined` named; `scan::payload` reads it, wherever it came.
//! 4. [`Dialect::publisher`] is called on the thread that then sends: [`Publisher::send`] gets what is due now.
//!
//! Symbols are numbers below the run's count; `payload::name` gives them names.

use std::{
    fmt,
    net::SocketAddr,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use crate::{BenchError, check::Pair, frames::Opcode, pace, report::histogram, tally::Tally};

/// A server that can be measured.
pub(crate) trait Dialect: fmt::Debug + Send + Sync {
    /// Where its sockets connect to.
    fn address(&self) -> SocketAddr;

    /// The request that opens a socket, up to its blank line; nothing of it is shown to anybody, since it may carry a token.
    fn upgrade(&self) -> Vec<u8>;

    /// Appends the frames (masked, as clients send) that subscribe a socket to symbols, once it is open.
    fn subscribe(&self, symbols: &mut dyn Iterator<Item = usize>, out: &mut Vec<u8>);

    /// Reads one message of the server, text or binary.
    fn message(&self, payload: &[u8], heard: &mut Heard<'_>);

    /// Appends what a socket says every 25 s to stay alive; nothing, if it need not.
    fn heartbeat(&self, out: &mut Vec<u8>);

    /// Connects a publisher.
    ///
    /// # Errors
    /// If nobody is there, or it refuses.
    fn publisher(&self, work: &Work) -> Result<Box<dyn Publisher>, BenchError>;
}

/// What a publisher is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// Bytes of the JSON payload that a socket shall receive, about.
    pub(crate) payload: usize,
    /// Whether each batch is to be answered, so that its answer can be timed. Otherwise the cheapest way for the server that still tells
    /// at the end what was refused.
    pub(crate) acknowledged: bool,
}

/// A quote that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) symbol: usize,
    /// The place among all quotes of the symbol, from 1.
    pub(crate) seq: u64,
    /// When it was due, in microseconds since 1970: the `ts` that it carries.
    pub(crate) due_us: i64,
}

/// The sending end of a run. It lives on one thread.
pub(crate) trait Publisher {
    /// Sends a batch, and waits while the server takes no more. Nothing may be held back for later.
    ///
    /// # Errors
    /// If the connection is lost, or the server refuses.
    fn send(&mut self, batch: &[Due]) -> Result<(), BenchError>;

    /// Waits until it is time, meanwhile doing for the connection what must be done.
    ///
    /// # Errors
    /// If the connection is lost.
    fn wait_until(&mut self, time: Instant) -> Result<(), BenchError> {
        pace::sleep_until(time);
        Ok(())
    }

    /// Waits until the server has taken all that was sent, and says what became of it.
    ///
    /// # Errors
    /// If that takes longer than `patience`, or the connection is lost.
    fn finish(self: Box<Self>, patience: Duration) -> Result<Taken, BenchError>;
}

/// What became of quotes.
#[derive(Debug)]
pub(crate) struct Taken {
    /// What the server says that it took. A server that says nothing has taken what it let us send.
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    /// The first reason.
    pub(crate) reason: Option<String>,
    /// From when a batch was sent until its answer, in microseconds, where answers come.
    pub(crate) acknowledged: Histogram<u64>,
}

impl Taken {
    pub(crate) fn new() -> Self {
        Self { accepted: 0, rejected: 0, reason: None, acknowledged: histogram() }
    }
}

/// An update as a message tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Update<'a> {
    pub(crate) symbol: usize,
    pub(crate) epoch: &'a [u8],
    pub(crate) seq: u64,
    /// The updates that it stands for.
    pub(crate) n: u64,
    /// When it was due, in microseconds since 1970.
    pub(crate) ts: i64,
}

/// Where a dialect tells what it read on a socket.
pub(crate) struct Heard<'a> {
    pub(crate) pairs: &'a mut [Pair],
    /// Of the symbols: which is at which place of `pairs`.
    pub(crate) layout: Layout,
    pub(crate) socket: usize,
    pub(crate) now_us: i64,
    pub(crate) tally: &'a mut Tally,
    pub(crate) carry: &'a mut Vec<u8>,
    pub(crate) outgoing: &'a mut Vec<u8>,
    /// Joins that were answered for the first time on this connection.
    pub(crate) answered: &'a mut usize,
}

impl Heard<'_> {
    /// A topic is joined, or continues from a snapshot: the next update is the one behind `seq`.
    pub(crate) fn joined(&mut self, symbol: usize, epoch: &[u8], seq: u64) {
        let Some(pair) = self.layout.slot(self.socket, symbol).and_then(|slot| self.pairs.get_mut(slot)) else {
            return self.tally.fail(format!("a reply for symbol {symbol}, which was not joined"));
        };
        if pair.start(epoch, seq) {
            *self.answered += 1;
        }
    }

    /// All topics of the socket are joined, from the beginning of an epoch.
    pub(crate) fn joined_all(&mut self, epoch: &[u8]) {
        for slot in 0..self.layout.topics_per_socket {
            self.joined(self.layout.symbol(self.socket, slot), epoch, 0);
        }
    }

    /// An update arrived.
    #[inline]
    pub(crate) fn update(&mut self, update: &Update<'_>) {
        let pair = self.layout.slot(self.socket, update.symbol).and_then(|slot| self.pairs.get_mut(slot));
        let Some(pair) = pair else {
            return self.tally.fail(format!("an update of symbol {}, which was not joined", update.symbol));
        };
        pair.deliver(update.epoch, update.seq, update.n, &mut self.tally.checks);
        self.tally.time(update.ts, update.n, self.now_us);
    }

    /// Something that should not be.
    pub(crate) fn failed(&mut self, problem: String) {
        self.tally.fail(problem);
    }

    /// Bytes that a dialect keeps from one message of this socket to the next; empty at first, and emptied when it connects again.
    pub(crate) fn carry(&mut self) -> &mut Vec<u8> {
        self.carry
    }

    /// Sends a message back.
    pub(crate) fn say(&mut self, opcode: Opcode, payload: &[u8]) {
        say(self.outgoing, opcode, payload);
    }
}

/// Appends a message as clients frame it. The mask hides nothing and need not be chosen by chance here.
pub(crate) fn say(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    tickwire_channels::websocket::write_masked_frame(out, opcode, payload, [1, 2, 3, 4]);
}

/// Which socket joins which symbols: socket `i` those from `i` × `topics_per_socket` on, wrapping around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) symbols: usize,
    pub(crate) topics_per_socket: usize,
}

impl Layout {
    /// The symbol of a socket's join.
    pub(crate) fn symbol(&self, socket: usize, slot: usize) -> usize {
        (socket * self.topics_per_socket + slot) % self.symbols
    }

    /// Which of a socket's joins a symbol is.
    #[inline]
    pub(crate) fn slot(&self, socket: usize, symbol: usize) -> Option<usize> {
        let first = self.symbol(socket, 0);
        let slot = (symbol + self.symbols).checked_sub(first)? % self.symbols;
        (slot < self.topics_per_socket).then_some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_join_finds_its_slot() {
        let layout = Layout { symbols: 5, topics_per_socket: 2 };
        for socket in 0..4 {
            for slot in 0..layout.topics_per_socket {
                assert_eq!(layout.slot(socket, layout.symbol(socket, slot)), Some(slot));
            }
            let joined = (0..layout.symbols).filter(|symbol| layout.slot(socket, *symbol).is_some()).count();
            assert_eq!(joined, layout.topics_per_socket);
        }
    }
}
