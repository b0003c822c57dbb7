//! The ends of sockets.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    Command,
    run::Worker,
    sockets::{LINGER, Running, State},
    timers::Why,
    topics::Subscriber,
};
use crate::{
    channel::{Left, guarded},
    close::CloseReason,
    metrics as names,
    socket::SocketInfo,
    websocket::close_frame,
};

/// Whether a socket ends because its client broke a rule or a limit. Ends of other kinds are everyday, or have been told already.
const fn is_refusal(reason: CloseReason) -> bool {
    !matches!(
        reason,
        CloseReason::ClientClose
            | CloseReason::ConnectionLost
            | CloseReason::IdleTimeout
            | CloseReason::InternalError
            | CloseReason::Disconnected
            | CloseReason::TokenExpired
            | CloseReason::Shutdown
    )
}

impl Worker {
    /// Closes the sockets that this turn has given up.
    pub(super) fn close_doomed(&mut self) {
        while let Some((key, reason)) = self.sockets.doomed.pop() {
            self.close(key, reason);
        }
    }

    fn close(&mut self, key: usize, reason: CloseReason) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        if matches!(socket.state, State::Closing | State::Lingering) {
            return self.remove(key);
        }
        if reason == CloseReason::SlowConsumer || reason == CloseReason::InternalError {
            // The one would not take it, the other cannot trust it.
            socket.outbox.clear();
        }
        let socket_is_poll = socket.link.is_poll();
        names::disconnected(reason);
        if is_refusal(reason) {
            self.tell_refusal(key, reason.as_str(), "a socket is closed for what its client does");
        }
        self.end_channels(key, reason);
        if socket_is_poll {
            // Without a connection there is no close frame. What is queued goes to a request that waits, or nowhere.
            self.sockets.write(key);
            return self.remove(key);
        }
        match reason.code() {
            // Its own close is answered with the code alone, as clients expect.
            Some(code) if reason == CloseReason::ClientClose => {
                self.sockets.begin_close(key, close_frame(code, ""), self.now);
            }
            Some(code) => self.sockets.begin_close(key, close_frame(code, reason.as_str()), self.now),
            None => self.remove(key),
        }
    }

    /// Looks whether a client still takes what was queued before its close frame: who reads slowly is to learn why it was closed, who has
    /// stopped reading keeps nobody waiting.
    pub(super) fn check_linger(&mut self, key: usize, until: Instant) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let again =
            socket.blocked_since.filter(|_| socket.state == State::Closing).map(|since| (since + LINGER).min(until));
        match again {
            Some(at) if at > self.now => self.sockets.set_timer(key, at, Why::Linger { until }),
            _ => self.sockets.doom(key, CloseReason::ConnectionLost),
        }
    }

    fn end_channels(&mut self, key: usize, reason: CloseReason) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        for slot in 0..u32::try_from(socket.channels.len()).unwrap_or(u32::MAX) {
            self.end_channel(key, slot, Some(Left::Socket(reason)));
        }
        if let Some(socket) = self.sockets.get_mut(key) {
            socket.channels = Vec::new();
            socket.session = crate::session::Session::default();
        }
    }

    /// Ends a channel, or a join that has not been decided. `left` is `None` after a panic: its code is not called again then.
    pub(super) fn end_channel(&mut self, key: usize, slot: u32, left: Option<Left>) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let Some(Running { handle, channel, place, held }) =
            socket.channels.get_mut(slot as usize).and_then(Option::take)
        else {
            return;
        };
        self.sockets.close_slot(key, slot);
        handle.end();
        drop(held);
        if let Some(Subscriber { socket, slot }) = self.topics.unsubscribe(handle.topic(), place)
            && let Some(moved) = self.sockets.get_mut(socket).and_then(|socket| socket.running(slot))
        {
            moved.place = place;
        }
        let Some(mut channel) = channel else { return };
        self.shared.joins.fetch_sub(1, Ordering::Relaxed);
        self.meters.joins.decrement(1.0);
        let ended = guarded(|| {
            if let Some(left) = left {
                channel.left(left);
            }
        });
        if let Err(panic) = ended.and_then(|()| guarded(|| drop(channel))) {
            self.channel_crashed(key, handle.topic(), &panic);
        }
    }

    fn remove(&mut self, key: usize) {
        let Some(mut socket) = self.sockets.slab.try_remove(key) else { return };
        socket.link.deregister(self.poll.registry());
        if let Some(link) = socket.link.as_poll() {
            self.polls.remove(&link.id);
        }
        self.meters.connections.decrement(1.0);
        self.forget_connection();
    }

    pub(super) fn open_sockets(&self) -> Vec<(usize, Arc<SocketInfo>)> {
        let open = self.sockets.slab.iter().filter(|(_, socket)| socket.is_open());
        open.map(|(key, socket)| (key, Arc::clone(&socket.info))).collect()
    }

    /// Closes every socket at a time of its own within `spread`, the first at once: their clients come back elsewhere one after the other,
    /// and a node with a single client does not keep it waiting.
    pub(super) fn drain(&mut self, spread: Duration) {
        let sockets = self.open_sockets();
        let Ok(count) = u32::try_from(sockets.len()) else { return };
        for (index, (key, _)) in (0..).zip(sockets) {
            let at = spread * index / count;
            self.sockets.set_timer(key, self.now + at, Why::Drain);
        }
    }

    /// Ends all channels and drops all sockets, those too that were on their way.
    pub(super) fn exit(mut self) {
        let keys: Vec<usize> = self.sockets.slab.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.end_channels(key, CloseReason::Shutdown);
            self.remove(key);
        }
        self.commands.extend(self.shared.refuse_commands());
        for command in std::mem::take(&mut self.commands) {
            if matches!(command, Command::Adopt(_)) {
                self.forget_connection();
            }
        }
        self.shared.pubsub().detach(self.shared.sink);
        // Nothing comes any more; should the inbox press, it lets go.
        self.shared.inbox.take(&mut Vec::new());
    }
}
