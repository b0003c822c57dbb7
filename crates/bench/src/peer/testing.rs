//! A socket that hears what a server said in real life.

use crate::{
    check::Pair,
    dialect::{Dialect, Due, Heard, Layout},
    payload::Maker,
    peer::EPOCH,
    tally::{Tally, Window},
};

/// Two joins of a socket, symbols 2 and 3.
pub(super) const LAYOUT: Layout = Layout { symbols: 5, topics_per_socket: 2 };
const SOCKET: usize = 1;

/// What came of it.
pub(super) struct Ear {
    pub(super) pairs: Vec<Pair>,
    pub(super) tally: Tally,
    pub(super) outgoing: Vec<u8>,
    pub(super) answered: usize,
    carry: Vec<u8>,
}

impl Ear {
    pub(super) fn new() -> Self {
        let window = Window { baseline_us: 0, from_us: 0, interval_us: 10, ..Window::CLOSED };
        Self {
            pairs: vec![Pair::default(); LAYOUT.topics_per_socket],
            tally: Tally { window, ..Tally::new() },
            outgoing: Vec::new(),
            answered: 0,
            carry: Vec::new(),
        }
    }

    pub(super) fn hear(&mut self, dialect: &dyn Dialect, message: &[u8]) {
        let mut heard = Heard {
            pairs: &mut self.pairs,
            layout: LAYOUT,
            socket: SOCKET,
            now_us: 2_000_000,
            tally: &mut self.tally,
            carry: &mut self.carry,
            outgoing: &mut self.outgoing,
            answered: &mut self.answered,
        };
        dialect.message(message, &mut heard);
    }

    /// Deliveries, and what was wrong.
    pub(super) fn told(&self) -> (u64, Option<&str>) {
        assert!(self.tally.checks.clean(), "{:?}", self.tally.checks);
        (self.tally.checks.deliveries, self.tally.failure.as_deref())
    }
}

/// What a socket says to subscribe, without its frames.
pub(super) fn subscription(dialect: &dyn Dialect) -> String {
    let mut frames = Vec::new();
    dialect.subscribe(&mut (0..LAYOUT.topics_per_socket).map(|slot| LAYOUT.symbol(SOCKET, slot)), &mut frames);
    text(&frames)
}

/// What client frames say, one after the other.
pub(super) fn text(frames: &[u8]) -> String {
    let mut said = Vec::new();
    let mut rest = frames;
    while let [_, len, after @ ..] = rest {
        assert_eq!(len & 0x80, 0x80, "clients mask");
        let (len, after) = match len & 0x7f {
            126 => (usize::from(u16::from_be_bytes([after[0], after[1]])), &after[2..]),
            len => (usize::from(len), after),
        };
        let (mask, payload) = after.split_at(4);
        said.extend(payload[..len].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        rest = &payload[len..];
    }
    String::from_utf8(said).unwrap()
}

/// The payload of a symbol's update with that number.
pub(super) fn update(symbol: usize, seq: u64) -> String {
    let mut json = Vec::new();
    Maker::new(200).update(&Due { symbol, seq, due_us: 1_999_000 }, EPOCH, &mut json);
    String::from_utf8(json).unwrap()
}
