//! `Subscribe` and `GetQuote`: values out.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tickwire_market::{JoinSnapshot, Symbol, decode::update_from_json};
use tickwire_proto::v1::{self as pb, subscribe_response::Message};
use tickwire_pubsub::{Class, Delivery, Role, Topic};
use tonic::{Code, Request};

use super::{Answers, Incoming, call::Call, fault::Fault};
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
) -> Result<Answers<pb::SubscribeResponse>, Fault> {
    let principal = node.live().auth.identify_request(request.metadata().as_ref()).await?;
    let request = call.in_time(only(request.into_inner())).await?;
    let subjects = follow::subjects(&node, &principal, request.topics.iter().map(String::as_str))?;
    let interval = min_interval(request.max_rate_ms)?;
    let mut follower = Follower::new(&node, &principal, "grpc", interval)?;
    let first = async {
        let mut first = Vec::with_capacity(subjects.len());
        for subject in &subjects {
            if let Some(snapshot) = follower.follow(&node, subject, None).await {
                first.push(Ok(snapshot_message(&subject.topic, &snapshot)));
            }
        }
        Ok(first)
    };
    let first = call.in_time(first).await?;
    let live = stream::unfold(Some((follower, call)), |following| async {
        let (follower, call) = following?;
        let next = call.in_time(async { follower.next().await.map_err(Fault::from) }).await;
        match next {
            Ok(deliveries) => {
                let messages: Vec<_> = deliveries.iter().filter_map(message).map(Ok).collect();
                Some((messages, Some((follower, call))))
            }
            Err(fault) => Some((vec![Err(fault.into())], None)),
        }
    });
    Ok(Box::pin(stream::iter(first).chain(live.flat_map(stream::iter))))
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

/// A message of a symbol; those of rooms have no form in this API.
fn message(delivery: &Delivery) -> Option<pb::SubscribeResponse> {
    let broadcast = &delivery.message;
    let payload = broadcast.payload.bytes();
    let Class::Latest(role) = broadcast.class else { return None };
    let message = match role {
        Role::Update => Message::Update(pb::Update { n: delivery.n, ..update_from_json(payload).ok()? }),
        Role::Snapshot => {
            let snapshot: SnapshotJson = serde_json::from_slice(payload).ok()?;
            Message::Snapshot(snapshot.into_proto())
        }
        Role::Status => {
            let status: StatusJson = serde_json::from_slice(payload).ok()?;
            Message::Status(pb::Status { state: status.state, since_us: status.since_us })
        }
    };
    Some(pb::SubscribeResponse { topic: broadcast.topic.to_string(), message: Some(message) })
}

#[derive(serde::Deserialize)]
struct StatusJson {
    state: String,
    since_us: i64,
}

#[derive(serde::Deserialize)]
struct SnapshotJson {
    quote: Option<Box<serde_json::value::RawValue>>,
    epoch: String,
    seq: u64,
    status: String,
}

impl SnapshotJson {
    fn into_proto(self) -> pb::Snapshot {
        let quote = self.quote.and_then(|quote| update_from_json(&quote.get().as_bytes().to_vec().into()).ok());
        pb::Snapshot { quote, epoch: self.epoch, seq: self.seq, state: self.status }
    }
}
