//! Writing an outbox to its socket.

use std::{
    io::{self, IoSlice, Write},
    time::Instant,
};

use bytes::Bytes;
use smallvec::SmallVec;
use tickwire_pubsub::{Broadcast, Class, Cursor, Role};

use super::{BurstId, Bursts, Entry, Join, Outbox, burst::Owing, shared_frame};
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
    /// How often a socket was asked to take bytes, and how many it took.
    pub(crate) calls: u64,
    pub(crate) bytes: u64,
    pub(crate) lag: LagTally,
}

/// A socket that has taken so many bytes, and takes no more.
struct Took(usize);

impl Write for Took {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Ok(taken)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let all = slices.iter().map(|slice| slice.len()).sum::<usize>();
        if self.0 == 0 && all > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = all.min(self.0);
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
    pub(crate) fn write(
        &mut self,
        socket: &mut impl Write,
        bursts: &mut Bursts,
        tally: &mut Tally,
    ) -> io::Result<bool> {
        let mut progress = self.write_owed(socket, bursts, tally)?;
        progress |= self.write_entries(socket, tally)?;
        if !self.entries.is_empty() {
            return Ok(progress);
        }
        // A link may hold what it has taken, and is as good as full while it does.
        self.blocked = match socket.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
            flushed => flushed.map(|()| false)?,
        };
        self.shrink();
        Ok(progress)
    }

    /// Writes what is owed of the turn's bursts, in one call if nothing else is. What the socket leaves of it stands in the queue then.
    fn write_owed(&mut self, socket: &mut impl Write, bursts: &mut Bursts, tally: &mut Tally) -> io::Result<bool> {
        let Some(owing) = self.owing else { return Ok(false) };
        let bytes = if self.entries.is_empty() { bursts.bytes(owing, self.wire) } else { None };
        let Some(bytes) = bytes else {
            self.settle(bursts);
            return Ok(false);
        };
        let len = bytes.len();
        let result = socket.write(bytes);
        if matches!(result, Ok(taken) if taken == len) {
            self.owing = None;
            self.owed_written(owing, bursts);
            tally.bytes += len as u64;
            bursts.called(tally);
            return Ok(true);
        }
        self.settle(bursts);
        let calls = tally.calls + 1;
        let outcome = match result {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => self.write_entries(&mut Took(taken), tally),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(false),
            Err(error) => Err(error),
        };
        // However often it took to see what the socket has taken, it was asked once.
        tally.calls = calls;
        outcome
    }

    fn owed_written(&mut self, owing: Owing, bursts: &mut Bursts) {
        let mut owed: SmallVec<[(BurstId, u32); 16]> = SmallVec::new();
        owed.extend(bursts.owed(owing));
        for (id, slot) in owed {
            bursts.wrote(id);
            let burst = bursts.get(id);
            if burst.first_update().is_some()
                && let Some(Some(join)) = self.joins.get_mut(slot as usize)
            {
                let _ = join.cursor.write(burst.last_number());
            }
        }
    }

    /// Writes what stands in the queue until the socket refuses.
    fn write_entries(&mut self, socket: &mut impl Write, tally: &mut Tally) -> io::Result<bool> {
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
            tally.calls += 1;
            let written = match slices {
                [one] if !one.is_empty() => socket.write(one),
                all if all.iter().all(|slice| slice.is_empty()) => Ok(0),
                all => socket.write_vectored(all),
            };
            written.and_then(|written| {
                tally.bytes += written as u64;
                taken(&pieces, written)
            })
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
