//! What one task reads.

use std::{fmt, future::poll_fn, sync::Arc, task::Poll, task::Waker};

use tokio::time::{Duration, Instant, Sleep};

use super::{Mailroom, desk::Desk};
use crate::{Broadcast, PubSub, Stamp, Topic};

/// A message to write, and how many updates it stands for.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message.
    pub message: Arc<Broadcast>,
    /// Updates merged into this one, itself included; 1 for all that is not an update.
    pub n: u64,
}

/// Where the topics of one reader meet. Updates that the reader has not taken yet are replaced by newer ones; lossless messages wait in
/// a queue, and a reader that lets it overflow is [slow](MailboxEnd::SlowReader) and must be closed.
pub struct Mailbox {
    desk: Arc<Desk>,
    reader: u32,
}

/// A subscription that waits for its snapshot; give that to [`MailboxSubscription::start`].
#[must_use = "nothing is delivered before the subscription is started"]
pub struct MailboxSubscription<'a> {
    mailbox: &'a Mailbox,
    place: u32,
}

/// Why a reader gets nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MailboxEnd {
    /// It was too slow for lossless messages: some are gone, and it must be closed.
    #[error("the reader was too slow")]
    SlowReader,
    /// The mail room has closed.
    #[error("the mail room has closed")]
    Closed,
}

impl Mailbox {
    /// A reader that is alone in its mail room.
    #[must_use]
    pub fn new(pubsub: &PubSub, capacity: usize, min_interval: Option<Duration>) -> Self {
        Mailroom::new(pubsub, 1).mailbox(capacity, min_interval)
    }

    pub(super) fn at(desk: &Arc<Desk>, capacity: usize, min_interval: Option<Duration>) -> Self {
        Self { desk: Arc::clone(desk), reader: desk.enter(capacity, min_interval) }
    }

    /// Begins to receive a topic's messages, which wait until the subscription is started with its snapshot. `None`: already subscribed.
    pub fn subscribe(&mut self, topic: &Topic) -> Option<MailboxSubscription<'_>> {
        let place = self.desk.subscribe(self.reader, topic)?;
        Some(MailboxSubscription { mailbox: self, place })
    }

    /// Takes all messages that there are now, in the order of their topics' first waiting message. If there is none, `waker` is woken, once,
    /// when one has come; the time is returned when a reader with an interval may take what waits already.
    ///
    /// # Errors
    /// If there will be nothing more.
    pub fn take(
        &mut self,
        waker: &Waker,
        now: Instant,
        into: &mut Vec<Delivery>,
    ) -> Result<Option<Instant>, MailboxEnd> {
        self.desk.take(self.reader, waker, now, into)
    }

    /// Waits for messages and takes all that are there. May be dropped midway: nothing is lost.
    ///
    /// # Errors
    /// If lossless messages had to be dropped because this was not called often enough.
    pub async fn next(&self) -> Result<Vec<Delivery>, MailboxEnd> {
        let mut deliveries = Vec::new();
        let mut timer: Option<std::pin::Pin<Box<Sleep>>> = None;
        poll_fn(|context| {
            loop {
                let due = self.desk.take(self.reader, context.waker(), Instant::now(), &mut deliveries)?;
                if !deliveries.is_empty() {
                    return Poll::Ready(Ok(std::mem::take(&mut deliveries)));
                }
                let Some(due) = due else { return Poll::Pending };
                let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
                if timer.deadline() != due {
                    timer.as_mut().reset(due);
                }
                if timer.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }
}

impl MailboxSubscription<'_> {
    /// Lets messages through that the snapshot, taken at `floor` after the subscription began, does not contain.
    pub fn start(self, floor: Option<Stamp>) {
        self.mailbox.desk.start(self.mailbox.reader, self.place, floor);
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("reader", &self.reader).finish_non_exhaustive()
    }
}

impl fmt::Debug for MailboxSubscription<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailboxSubscription").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.desk.leave(self.reader);
    }
}
