//! Sockets whose owner shows a new credential.

use std::time::Instant;

use super::{JoinFailure, run::Worker};
use crate::channel::{Refusal, Renewal, Stop, guarded};

impl Worker {
    /// Goes on with a socket under another credential: it ends at another time, and some of its channels at once.
    pub(super) fn renew(&mut self, key: usize, renewal: &Renewal) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        socket.expires_at = renewal.expires_at;
        let topics = socket.channels.iter().enumerate();
        let topics = topics.filter_map(|(slot, running)| Some((slot, running.as_ref()?.handle.clone())));
        let ended: Vec<_> = topics
            // Should the application's code fail, nobody keeps what they may have lost.
            .filter(|(_, handle)| !guarded(|| (renewal.keeps)(handle.topic())).unwrap_or(false))
            .collect();
        for (slot, handle) in ended {
            let Ok(slot) = u32::try_from(slot) else { continue };
            if !self.is_current(&handle) {
                continue;
            }
            let is_joined = self.sockets.get_mut(key).and_then(|socket| socket.running(slot));
            if is_joined.is_some_and(|running| running.channel.is_some()) {
                self.stop_channel(key, slot, &Stop::Normal);
            } else {
                self.join_decided(&handle, Err(JoinFailure::Refused(Refusal::reason("unauthorized"))));
            }
        }
        self.check_life(key);
    }

    /// The timer of a socket's life has come, unless an earlier one has taken its place.
    pub(super) fn life_timer(&mut self, key: usize, at: Instant) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        if socket.life_at == Some(at) {
            socket.life_at = None;
            self.check_life(key);
        }
    }
}
