//! All tracks on one time line.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::feed::Tick;

use super::track::{Problems, Track};

/// Merges tracks by the time at which their ticks are to be played. Of ticks at the same time, the one of the earlier track comes first,
/// so that a playback is the same every time.
pub(super) struct Timeline {
    tracks: Vec<Track>,
    /// The next tick of each track that has one.
    pending: Vec<Option<Tick>>,
    order: BinaryHeap<Reverse<(Duration, usize)>>,
    problems: Problems,
}

impl Timeline {
    pub(super) fn new(tracks: Vec<Track>) -> Self {
        let mut timeline = Self {
            pending: tracks.iter().map(|_| None).collect(),
            order: BinaryHeap::with_capacity(tracks.len()),
            tracks,
            problems: Problems::default(),
        };
        for track in 0..timeline.tracks.len() {
            timeline.refill(track);
        }
        timeline
    }

    /// The next tick of all; `None` when every track is over.
    pub(super) fn next_tick(&mut self) -> Option<Tick> {
        let Reverse((_, track)) = self.order.pop()?;
        let tick = self.pending[track].take();
        self.refill(track);
        tick
    }

    /// What could not be read since the last call.
    pub(super) fn take_problems(&mut self) -> Problems {
        std::mem::take(&mut self.problems)
    }

    /// How often the track that has looped least has come to its end.
    pub(super) fn passes(&self) -> u64 {
        self.tracks.iter().map(Track::passes).min().unwrap_or(0)
    }

    fn refill(&mut self, track: usize) {
        if let Some(tick) = self.tracks[track].next_tick(&mut self.problems) {
            self.order.push(Reverse((tick.at, track)));
            self.pending[track] = Some(tick);
        }
    }
}
