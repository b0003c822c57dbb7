//! Sessions of long polling: how requests reach them, and what they do there.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tickwire_faults::{Unit, point};
use tokio::sync::oneshot;

use super::{
    AdoptError, Command, Link, PollAnswer, PollId, PollMessage, PublishAnswer, Shared, Workers,
    poll::{PollLink, PollReply, PollRequest},
    run::Worker,
};
use crate::{channel::guarded, close::CloseReason, serializer::DecodeError, socket::SocketInfo};

/// Tells a session that a request waits no more, unless the session has answered it: to be dropped after the receiver of the answer.
struct Leaving<'a> {
    id: PollId,
    home: &'a Shared,
    waits: bool,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if self.waits {
            self.home.command(Command::Poll(self.id, PollRequest::Left));
        }
    }
}

impl Workers {
    /// Opens a session for a client that polls. It is ended once it has not been polled for 1.5 to 3 `window`s.
    ///
    /// # Errors
    /// If no worker can take it.
    pub fn open(&self, info: Arc<SocketInfo>, window: Duration) -> Result<PollId, AdoptError> {
        if self.0.node.draining.load(Ordering::Relaxed) {
            return Err(AdoptError::Draining);
        }
        let mut opened = None;
        let worker = self.hand_over(info, Bytes::new(), |worker, home| {
            let id = PollId::random(worker).ok_or(AdoptError::Broken)?;
            opened = Some(id);
            Ok(Link::Poll(Box::new(PollLink::new(id, window, Arc::clone(home), Instant::now()))))
        })?;
        worker.ring();
        opened.ok_or(AdoptError::Broken)
    }

    /// Asks a session for its messages: those that wait, or the first to come within the window.
    ///
    /// May be dropped while it waits: no message is lost by that.
    pub async fn poll(&self, id: PollId, window: Duration) -> PollAnswer {
        let deadline = tokio::time::Instant::now() + window;
        let Some(home) = self.home(id) else { return PollAnswer::Gone };
        let Some(permit) = home.request_permit().await else { return PollAnswer::Gone };
        // Dropped after the receiver: the session looks whether that is still there.
        let mut leaving = Leaving { id, home, waits: false };
        let (reply, mut waiting) = oneshot::channel();
        if !home.command(Command::Poll(id, PollRequest::Wait(reply, permit))) {
            return PollAnswer::Gone;
        }
        leaving.waits = true;
        let reply = match tokio::time::timeout_at(deadline, &mut waiting).await {
            Ok(reply) => reply,
            Err(_) => {
                // An answer may have come with the last moment.
                waiting.close();
                match waiting.try_recv() {
                    Ok(reply) => Ok(reply),
                    Err(_) => return PollAnswer::Nothing,
                }
            }
        };
        leaving.waits = false;
        match reply {
            Ok(PollReply::Messages(parcel)) => PollAnswer::Messages(parcel.open()),
            Ok(PollReply::Ended) => PollAnswer::Nothing,
            Ok(PollReply::Superseded) => {
                // Answered at once, two requests of one client would chase each other.
                tokio::time::sleep_until(deadline).await;
                PollAnswer::Nothing
            }
            Ok(PollReply::Gone) | Err(_) => PollAnswer::Gone,
        }
    }

    /// Has a session handle what its client sent, in that order. Messages are handled whether or not anybody waits for the answer.
    pub async fn publish(&self, id: PollId, messages: Vec<PollMessage>) -> PublishAnswer {
        let Some(home) = self.home(id) else { return PublishAnswer::Gone };
        let Some(permit) = home.request_permit().await else { return PublishAnswer::Gone };
        let (answer, answered) = oneshot::channel();
        home.command(Command::Poll(id, PollRequest::Publish(messages, answer, permit)));
        answered.await.unwrap_or(PublishAnswer::Gone)
    }

    fn home(&self, id: PollId) -> Option<&Arc<Shared>> {
        self.0.workers.get(usize::from(id.worker))
    }
}

impl Worker {
    pub(super) fn poll_request(&mut self, id: PollId, request: PollRequest) {
        let Some(&key) = self.polls.get(&id) else { return refuse(request) };
        let now = self.now;
        let Some(socket) = self.sockets.get_mut(key).filter(|socket| socket.is_open()) else { return refuse(request) };
        let Some(link) = socket.link.as_poll() else { return };
        match request {
            PollRequest::Wait(reply, permit) => {
                drop(permit);
                link.wait(reply, now);
                self.sockets.writable(key);
            }
            PollRequest::Publish(messages, answer, permit) => {
                drop(permit);
                let answered = guarded(|| self.publish(key, messages)).unwrap_or_else(|panic| {
                    self.connection_crashed(key, &panic);
                    PublishAnswer::Gone
                });
                // If its client has gone, its messages were handled all the same.
                let _ = answer.send(answered);
            }
            PollRequest::Left => {
                link.left(now);
                self.sockets.writable(key);
            }
            PollRequest::Return(messages, number) => {
                link.take_back(messages, number);
                self.sockets.writable(key);
            }
        }
    }

    fn publish(&mut self, key: usize, messages: Vec<PollMessage>) -> PublishAnswer {
        point(Unit::Poll, || self.sockets.get_mut(key).map_or(String::new(), |socket| socket.info.peer.to_string()));
        for message in messages {
            let Some(socket) = self.sockets.get_mut(key).filter(|socket| socket.is_open()) else {
                return PublishAnswer::Gone;
            };
            if !socket.spend_quota(self.now) {
                self.sockets.doom(key, CloseReason::MessageRate);
                return PublishAnswer::Gone;
            }
            let format = socket.info.format;
            let decoded = match message {
                PollMessage::Text(text) if simdutf8::basic::from_utf8(&text).is_err() => {
                    Err(DecodeError::Utf8 { field: "the text" })
                }
                PollMessage::Text(text) => format.decode_text(&text),
                PollMessage::Binary(data) => format.decode_binary(&data),
            };
            let malformed = decoded.is_err();
            self.take_decoded(key, decoded);
            if malformed {
                return PublishAnswer::Malformed;
            }
        }
        PublishAnswer::Taken
    }

    /// Ends a session that nobody asks any more, or whose client may not be here any more.
    pub(super) fn check_poll_life(&mut self, key: usize, patience: Duration, forsaken: bool) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let expires_at = socket.expires_at;
        if expires_at.is_some_and(|at| at <= self.now) {
            self.sockets.doom(key, CloseReason::TokenExpired);
        } else if forsaken {
            self.sockets.doom(key, CloseReason::IdleTimeout);
        } else {
            let next = self.now + patience;
            self.sockets.arm_life(key, expires_at.map_or(next, |at| at.min(next)));
        }
    }
}

/// Tells a request that there is no such session.
fn refuse(request: PollRequest) {
    // Whoever does not wait any more need not know.
    match request {
        PollRequest::Wait(reply, _) => drop(reply.send(PollReply::Gone)),
        PollRequest::Publish(_, answer, _) => drop(answer.send(PublishAnswer::Gone)),
        PollRequest::Return(messages, _) => {
            tickwire_pubsub::metrics::dropped(crate::metrics::POLL_LOST, messages.len() as u64);
        }
        PollRequest::Left => {}
    }
}
