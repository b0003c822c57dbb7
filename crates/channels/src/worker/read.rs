//! From the sockets to the sessions.

use std::{
    io::{self, Read},
    sync::atomic::Ordering,
    time::Duration,
};

use mio::Token;
use tickwire_faults::{Unit, point};

use super::{
    run::Worker,
    shared::Adoption,
    sockets::{Socket, State},
};
use crate::{
    close::CloseReason,
    message::Message,
    serializer::DecodeError,
    websocket::{Incoming, pong_frame},
};

/// How far ahead of its rate a client may be.
const BURST: Duration = Duration::from_secs(1);

/// Where messages may be compressed, a kilobyte of them can be a megabyte to be inflated and parsed: each so many bytes count as a message, so that
/// the bound on messages bounds that work, too.
const INFLATED_PER_MESSAGE: usize = 16 * 1024;

impl Worker {
    /// Takes a connection over.
    pub(super) fn adopt(&mut self, Adoption { mut link, info, leftover }: Adoption) {
        self.shared.adopting.fetch_sub(1, Ordering::Relaxed);
        if let Some(bytes) = self.config.send_buffer
            && let Err(error) = link.set_send_buffer(bytes)
        {
            tracing::debug!(%error, "the send buffer of a connection keeps its size");
        }
        let entry = self.sockets.slab.vacant_entry();
        let key = entry.key();
        if let Err(error) = link.register(self.poll.registry(), Token(key)) {
            tracing::warn!(%error, "a connection cannot be polled and is dropped");
            return self.forget_connection();
        }
        self.next_socket += 1;
        if let Some(link) = link.as_poll() {
            self.polls.insert(link.id, key);
        }
        entry.insert(Box::new(Socket::new(self.next_socket, link, info, self.now)));
        self.meters.connections.increment(1.0);
        self.check_life(key);
        if self.sockets.get_mut(key).is_some_and(|socket| socket.link.has_more()) {
            self.sockets.mark_ready(key);
        }
        if self.shared.node.draining.load(Ordering::Relaxed) {
            return self.sockets.doom(key, CloseReason::Shutdown);
        }
        if !leftover.is_empty()
            && let Err(panic) = crate::channel::guarded(|| self.take_bytes(key, &leftover))
        {
            self.connection_crashed(key, &panic);
        }
    }

    /// Reads once from a socket; if that was not all, the next turn goes on, so that one busy client does not hold up the others.
    pub(super) fn read(&mut self, key: usize) {
        if !self.sockets.may_read(key) {
            return;
        }
        let Some(socket) = self.sockets.slab.get_mut(key) else { return };
        let read = match socket.link.read(&mut self.read_buffer) {
            Ok(0) => return self.sockets.doom(key, CloseReason::ConnectionLost),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return self.sockets.mark_ready(key),
            Err(_) => return self.sockets.doom(key, CloseReason::ConnectionLost),
        };
        // A short read has emptied the kernel's buffer: the poll tells when there is more. An end that it has told already, it will not tell
        // again.
        if read == self.read_buffer.len() || socket.read_closed || socket.link.has_more() {
            self.sockets.mark_ready(key);
        }
        let buffer = std::mem::take(&mut self.read_buffer);
        self.take_bytes(key, &buffer[..read]);
        self.read_buffer = buffer;
    }

    /// Takes what a client sent. Once its socket is being closed, nothing that it says matters.
    fn take_bytes(&mut self, key: usize, mut bytes: &[u8]) {
        point(Unit::Connection, || {
            self.sockets.get_mut(key).map_or(String::new(), |socket| socket.info.peer.to_string())
        });
        while let Some(socket) = self.sockets.get_mut(key).filter(|socket| socket.state == State::Open) {
            socket.heard_at = self.now;
            let limits = socket.info.limits.websocket;
            match socket.decoder.decode(&mut bytes, &limits) {
                Ok(None) => return,
                Ok(Some(incoming)) => self.take_incoming(key, incoming),
                Err(error) => {
                    tracing::debug!(peer = %socket.info.peer, %error, "a client broke the WebSocket protocol");
                    self.sockets.doom(key, error.reason());
                }
            }
        }
    }

    fn take_incoming(&mut self, key: usize, incoming: Incoming) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let messages = if socket.info.deflate.is_some() { 1 + incoming.len() / INFLATED_PER_MESSAGE } else { 1 };
        if !socket.spend_quota_for(messages, self.now) {
            return self.sockets.doom(key, CloseReason::MessageRate);
        }
        match incoming {
            Incoming::Text(text) => {
                let decoded = socket.info.format.decode_text(&text);
                self.take_decoded(key, decoded);
            }
            Incoming::Binary(data) => {
                let decoded = socket.info.format.decode_binary(&data);
                self.take_decoded(key, decoded);
            }
            Incoming::Ping(payload) => {
                socket.outbox.push_control(pong_frame(&payload));
                self.sockets.queued(key);
            }
            Incoming::Pong(_) => {}
            Incoming::Close(_) => {
                socket.client_closed = true;
                self.sockets.doom(key, CloseReason::ClientClose);
            }
        }
    }

    pub(super) fn take_decoded(&mut self, key: usize, decoded: Result<Message, DecodeError>) {
        match decoded {
            Ok(message) => self.message(key, message),
            Err(error) => {
                let peer = self.sockets.get_mut(key).map(|socket| socket.info.peer);
                tracing::debug!(?peer, %error, "a client sent a message that cannot be read");
                self.sockets.doom(key, CloseReason::UndecodableMessage);
            }
        }
    }

    pub(super) fn forget_connection(&self) {
        if self.shared.connections.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.node.empty.notify_waiters();
        }
    }
}

impl Socket {
    /// Takes one message out of the client's quota; `false` if there is none left. The generic cell rate algorithm (ITU-T I.371): one time
    /// instead of a bucket, a second's worth as burst.
    pub(super) fn spend_quota(&mut self, now: std::time::Instant) -> bool {
        self.spend_quota_for(1, now)
    }

    /// The same for what counts as several messages; for as many as a whole burst at most, so that there is a time at which it may be sent.
    fn spend_quota_for(&mut self, messages: usize, now: std::time::Instant) -> bool {
        let Some(rate) = self.info.limits.messages_per_second else { return true };
        let messages = u32::try_from(messages).unwrap_or(u32::MAX).min(rate.get());
        let used_up = self.quota_at.max(now) + BURST * messages / rate.get();
        if used_up > now + BURST {
            return false;
        }
        self.quota_at = used_up;
        true
    }
}
