//! `Subscribe` and `GetQuote`: values out.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{Stream, stream};
use tickwire_market::{JoinSnapshot, Symbol, decode::update_from_json};
use tickwire_proto::v1::{self as pb, subscribe_response::Message};
use tickwire_pubsub::{Delivery, Topic};
use tokio::time::Sleep;
use tonic::{Code, Request, Status};

use super::{Answers, Incoming, call::Call, encode::Following, fault::Fault};
use crate::{
    app::Node,
    follow::{self, Follower},
    topics::ticker::MAX_RATE_LONGEST,
};

/// `Subscribe`: per topic a snapshot, then what is published, until the client goes, its time or token ends, or the node is drained.
pub(super) async fn subscribe(
    node: Arc<Node>,
    request: Request<Incoming<pb::SubscribeRequest>>,
    call: Call,
) -> Result<Answers<Following>, Fault> {
    let principal = node.live().auth.identify_request(request.metadata().as_ref()).await?;
    let request = call.in_time(only(request.into_inner())).await?;
    let subjects = follow::subjects(&node, &principal, request.topics.iter().map(String::as_str))?;
    let interval = min_interval(request.max_rate_ms)?;
    let mut follower = Follower::new(&node, &principal, "grpc", interval)?;
    let first = async {
        let mut first = Vec::with_capacity(subjects.len());
        for subject in &subjects {
            if let Some(snapshot) = follower.follow(subject, None).await {
                first.push(snapshot_message(&subject.topic, &snapshot).into());
            }
        }
        first.reverse();
        Ok(first)
    };
    let first = call.in_time(first).await?;
    Ok(Box::pin(Live { follower, first, taken: Vec::new(), deadline: call.timer(), ended: false }))
}

/// A subscription on its way to a client.
struct Live {
    follower: Follower,
    /// The snapshots that are not written yet, the next one last.
    first: Vec<Following>,
    /// Messages that were taken and not written yet, the next one last.
    taken: Vec<Delivery>,
    deadline: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl Stream for Live {
    type Item = Result<Following, Status>;

    /// Called only when the connection can take the next message, so that a slow reader's updates wait, and are merged, in its mailbox.
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            self.ended = true;
            return Poll::Ready(Some(Err(Fault::deadline().into())));
        }
        loop {
            if let Some(next) = self.next_taken() {
                return Poll::Ready(Some(Ok(next)));
            }
            let Self { follower, taken, .. } = &mut *self;
            match ready!(follower.poll_take(context, taken)) {
                Ok(_) => taken.reverse(),
                Err(ended) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(Fault::from(ended).into())));
                }
            }
        }
    }
}

impl Live {
    /// The next message of those that are there.
    fn next_taken(&mut self) -> Option<Following> {
        let next = self.first.pop();
        if self.first.is_empty() {
            // An idle subscription is to cost as little as if it had never been busy.
            self.first = Vec::new();
        }
        if next.is_some() {
            return next;
        }
        while let Some(delivery) = self.taken.pop() {
            if let Some(message) = Following::of(&delivery) {
                return Some(message);
            }
        }
        self.taken = Vec::new();
        None
    }
}

/// `GetQuote`: the latest value of a symbol.
pub(super) async fn get_quote(
    node: Arc<Node>,
    request: Request<Incoming<pb::GetQuoteRequest>>,
    call: Call,
) -> Result<Answers<pb::GetQuoteResponse>, Fault> {
    let live = node.live();
    let principal = live.auth.identify_request(request.metadata().as_ref()).await?;
    let request = call.in_time(only(request.into_inner())).await?;
    let symbol = Symbol::new(&request.symbol)?;
    let topic = symbol.ticker_topic();
    match live.channel_of(&topic) {
        Some(setting) => principal.may_join(&topic, setting.rule.join)?,
        None => principal.may_read()?,
    }
    let latest = call.in_time(async { Ok(node.market.latest(&symbol).wait().await?) }).await?;
    let quote = update_from_json(&latest.quote).map_err(|_| Fault::internal())?;
    let age_us = u64::try_from(latest.age.as_micros()).unwrap_or(u64::MAX);
    let state = latest.status.state.as_str().to_owned();
    Ok(Box::pin(stream::iter([Ok(pb::GetQuoteResponse { quote: Some(quote), state, age_us })])))
}

/// The one message of a call that has one.
async fn only<D>(mut incoming: Incoming<D>) -> Result<D, Fault> {
    let missing = || Fault::new(Code::InvalidArgument, "malformed", "the call has no message, expected one");
    incoming.message().await?.ok_or_else(missing)?
}

fn min_interval(max_rate_ms: u32) -> Result<Option<Duration>, Fault> {
    let interval = Duration::from_millis(max_rate_ms.into());
    if interval > MAX_RATE_LONGEST {
        let longest = MAX_RATE_LONGEST.as_millis();
        let message = format!("max_rate_ms is {max_rate_ms}, expected at most {longest}");
        return Err(Fault::field("max_rate_ms", "invalid_params", message));
    }
    Ok((!interval.is_zero()).then_some(interval))
}

fn snapshot_message(topic: &Topic, snapshot: &JoinSnapshot) -> pb::SubscribeResponse {
    let quote = snapshot.quote.as_ref().and_then(|quote| update_from_json(quote).ok());
    let snapshot = pb::Snapshot {
        quote,
        epoch: snapshot.epoch.as_str().to_owned(),
        seq: snapshot.seq,
        state: snapshot.status.state.as_str().to_owned(),
    };
    pb::SubscribeResponse { topic: topic.to_string(), message: Some(Message::Snapshot(snapshot)) }
}
