//! Writing an outbox to its socket.

use std::{
    io::{self, IoSlice, Write},
    time::Instant,
};

use bytes::Bytes;
use smallvec::SmallVec;
use tickwire_pubsub::{Broadcast, Class, Cursor, Role};

use super::{Entry, Join, Outbox, shared_frame};
use crate::{
    lag::LagTally,
    serializer::{Wire, conflated_frame},
};

/// Frames per system call. More would gain little: at this number the call's own cost is a small part of the copying.
const FRAMES_PER_WRITE: usize = 64;

/// What was written in a turn, to be counted once at its end.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) deliveries: u64,
    pub(crate) conflated: u64,
    pub(crate) lag: LagTally,
}

/// An entry as bytes.
enum Piece<'a> {
    Shared(&'a Bytes),
    /// A frame for this socket alone.
    Own(Bytes),
}

impl Piece<'_> {
    fn bytes(&self) -> &Bytes {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Own(bytes) => bytes,
        }
    }
}

/// What an entry would change in its join, and what it was before.
struct Step {
    slot: u32,
    before: Cursor,
    n: u64,
}

impl Outbox {
    /// Writes until nothing is left or the socket refuses, which [`is_blocked`](Self::is_blocked) tells then. Returns whether the socket
    /// took anything at all.
    ///
    /// # Errors
    /// If the socket is broken.
    pub(crate) fn write(&mut self, socket: &mut impl Write, tally: &mut Tally) -> io::Result<bool> {
        let mut progress = false;
        while !self.entries.is_empty() {
            match self.write_some(socket, tally) {
                Ok(()) => progress = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(progress);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // A link may hold what it has taken, and is as good as full while it does.
        self.blocked = match socket.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
            flushed => flushed.map(|()| false)?,
        };
        self.shrink();
        Ok(progress)
    }

    /// One system call. Nothing counts as written that the socket has not taken: what it leaves may still be replaced.
    fn write_some(&mut self, socket: &mut impl Write, tally: &mut Tally) -> io::Result<()> {
        let mut steps: SmallVec<[Option<Step>; FRAMES_PER_WRITE]> = SmallVec::new();
        let result = {
            let Self { wire, entries, joins, .. } = self;
            let mut pieces: SmallVec<[Piece<'_>; FRAMES_PER_WRITE]> = SmallVec::new();
            for entry in entries.iter().take(FRAMES_PER_WRITE) {
                let (piece, step) = piece_of(entry, *wire, joins);
                pieces.push(piece);
                steps.push(step);
            }
            let mut slices = [IoSlice::new(&[]); FRAMES_PER_WRITE];
            for (slice, piece) in slices.iter_mut().zip(&pieces) {
                *slice = IoSlice::new(piece.bytes());
            }
            let slices = &slices[..pieces.len()];
            let written =
                if slices.iter().all(|slice| slice.is_empty()) { Ok(0) } else { socket.write_vectored(slices) };
            written.and_then(|written| taken(&pieces, written))
        };
        let (whole, rest) = match result {
            Ok(taken) => taken,
            Err(error) => {
                self.undo(&steps, 0);
                return Err(error);
            }
        };
        self.undo(&steps, whole + usize::from(rest.is_some()));
        let now = Instant::now();
        for step in &steps[..whole] {
            self.pop_written(step.as_ref(), now, tally);
        }
        if let Some(rest) = rest {
            self.pop_written(steps[whole].as_ref(), now, tally);
            self.bytes += rest.len();
            self.left -= 1;
            self.entries.push_front(Entry::Rest(rest));
        }
        Ok(())
    }

    fn undo(&mut self, steps: &[Option<Step>], from: usize) {
        for step in steps[from..].iter().rev().flatten() {
            if let Some(Some(join)) = self.joins.get_mut(step.slot as usize) {
                join.cursor = step.before;
            }
        }
    }

    /// Takes the first entry out, which has been written, and counts it.
    fn pop_written(&mut self, step: Option<&Step>, now: Instant, tally: &mut Tally) {
        let Some(entry) = self.entries.pop_front() else { return };
        let place = self.left;
        self.left += 1;
        self.bytes -= entry.len(self.wire);
        self.controls -= usize::from(matches!(entry, Entry::Control(_)));
        tally.deliveries += u64::from(matches!(entry, Entry::Latest { .. } | Entry::Lossless(_)));
        let Entry::Latest { message, slot, .. } = entry else { return };
        let Some(Some(join)) = self.joins.get_mut(slot as usize) else { return };
        for waits in [&mut join.update, &mut join.status] {
            if *waits == Some(place) {
                *waits = None;
            }
        }
        if let Some(step) = step
            && message.class == Class::Latest(Role::Update)
        {
            tally.conflated += step.n - 1;
            count_lag(join, &message, step.n, now, tally);
        }
    }

    /// Gives the memory of a burst back: an idle socket is to cost as little as if it had never been busy.
    fn shrink(&mut self) {
        const KEPT: usize = 8;
        if self.entries.capacity() > KEPT {
            self.entries.shrink_to(KEPT / 2);
        }
    }
}

/// The bytes of an entry, and what its join looks like once they are written.
fn piece_of<'a>(entry: &'a Entry, wire: Wire, joins: &mut [Option<Box<Join>>]) -> (Piece<'a>, Option<Step>) {
    static NOTHING: Bytes = Bytes::new();
    let (message, slot, number) = match entry {
        Entry::Frame(frame) | Entry::Control(frame) | Entry::Lossless(frame) | Entry::Rest(frame) => {
            return (Piece::Shared(frame), None);
        }
        Entry::Gone => return (Piece::Shared(&NOTHING), None),
        Entry::Latest { message, slot, number } => (message, *slot, *number),
    };
    let shared = Piece::Shared(shared_frame(wire, message).unwrap_or(&NOTHING));
    let Some(Some(join)) = joins.get_mut(slot as usize) else { return (shared, None) };
    let before = join.cursor;
    match message.class {
        Class::Latest(Role::Update) => {
            let n = join.cursor.write(number);
            let piece = if n == 1 { shared } else { conflated(wire, message, n).map_or(shared, Piece::Own) };
            (piece, Some(Step { slot, before, n }))
        }
        Class::Latest(Role::Snapshot) => {
            join.cursor.restart(number);
            (shared, Some(Step { slot, before, n: 1 }))
        }
        Class::Latest(Role::Status) | Class::Lossless => (shared, None),
    }
}

fn conflated(wire: Wire, message: &Broadcast, n: u64) -> Option<Bytes> {
    conflated_frame(wire, &message.topic, &message.event, &message.payload, n).ok()
}

/// How many pieces the socket took whole, and what is left of the one that it took in part.
fn taken(pieces: &[Piece<'_>], mut written: usize) -> io::Result<(usize, Option<Bytes>)> {
    if written == 0 && pieces.iter().any(|piece| !piece.bytes().is_empty()) {
        return Err(io::ErrorKind::WriteZero.into());
    }
    for (index, piece) in pieces.iter().enumerate() {
        let len = piece.bytes().len();
        if written < len {
            return Ok((index, (written > 0).then(|| piece.bytes().slice(written..))));
        }
        written -= len;
    }
    Ok((pieces.len(), None))
}

/// Counts how long an update took, and those that it stands for as long as the oldest of them. Who asked for an interval asked to wait.
fn count_lag(join: &mut Join, message: &Broadcast, n: u64, now: Instant, tally: &mut Tally) {
    let oldest = join.since.take();
    // Those that still wait came after this one, nobody remembers when.
    join.since = join.update.map(|_| message.accepted_at);
    if join.rate.is_some() {
        return;
    }
    tally.lag.record(now.saturating_duration_since(message.accepted_at), 1);
    if n > 1 {
        let since = oldest.unwrap_or(message.accepted_at).min(message.accepted_at);
        tally.lag.record(now.saturating_duration_since(since), n - 1);
    }
}
