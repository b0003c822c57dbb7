//! `GET /v1/stream`: the updates of topics as server-sent events.

use std::{
    convert::Infallible,
    io::Write as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use hyper::body::Frame;
use serde::Deserialize;
use tickwire_channels::json;
use tickwire_market::{JoinSnapshot, Since};
use tickwire_pubsub::{Broadcast, Class, Delivery, FRAME_SLOTS, Payload, Role, Topic};

use super::{Client, problem::Problem};
use crate::{
    app::Node,
    follow::{self, Ended, FollowError, Follower, News, Subject},
    topics::ticker::read_max_rate,
};

/// The place of an event stream's frames in a [`Broadcast`], behind those of the wire formats.
const FRAME_SLOT: usize = FRAME_SLOTS - 1;

/// A comment is sent after so much silence: proxies close what is silent for a minute, and we learn that a reader is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize)]
pub(crate) struct Params {
    #[serde(default)]
    topics: String,
    max_rate: Option<String>,
}

/// Answers with a stream that ends when the client goes, its token expires or the node is drained.
pub(crate) async fn follow(
    State(node): State<Arc<Node>>,
    params: Result<Query<Params>, QueryRejection>,
    client: Client,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(params) = params.map_err(|error| Problem::bad_request("invalid_params", error.body_text()))?;
    let subjects = follow::subjects(&node, &client.principal, params.topics.split(',')).map_err(refusal)?;
    let min_interval = match params.max_rate.as_deref() {
        Some(text) => read_max_rate(text).map_err(|message| Problem::bad_request("invalid_params", message))?,
        None => None,
    };
    let since = last_event(&headers, &subjects);
    let mut follower =
        Follower::new(&node, &client.principal, "sse", min_interval).map_err(refusal)?.keep_alive(KEEP_ALIVE);
    let mut events = Vec::from(&b"retry: 1000\n\n"[..]);
    for subject in &subjects {
        if let Some(snapshot) = follower.follow(subject, since.as_ref()).await {
            write_snapshot(&mut events, &subject.topic, &snapshot);
        }
    }
    events.shrink_to_fit();
    let mut response = Response::new(Body::new(Reader::new(follower, events.into())));
    *response.status_mut() = StatusCode::OK;
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx collects an answer before it passes it on unless it is told not to.
    fields.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn refusal(error: FollowError) -> Problem {
    let (code, detail) = (error.code(), error.to_string());
    match error {
        FollowError::Denied { cause, .. } => Problem::denied(&cause, detail),
        FollowError::UnknownSymbol { .. } | FollowError::Unmatched { .. } => Problem::not_found(code, detail),
        FollowError::TooManyStreams => Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, "Too many streams", detail)
            .header(header::RETRY_AFTER, HeaderValue::from_static("1")),
        FollowError::NoTopic | FollowError::TooMany { .. } => Problem::bad_request(code, detail),
    }
}

/// Where a client that comes back goes on. An id names a place in the order of one symbol, so that a stream of several topics begins anew,
/// with their snapshots; so does one whose id is not ours: browsers send what they have, and give up for good when they are refused.
fn last_event(headers: &HeaderMap, subjects: &[Subject]) -> Option<Since> {
    let [_] = subjects else { return None };
    let (epoch, seq) = headers.get("last-event-id")?.to_str().ok()?.rsplit_once('/')?;
    Since::new(epoch, seq.parse().ok()?).ok()
}

/// Bytes that are handed to the connection at once, if there are so many; a single event may be longer.
const CHUNK_BYTES: usize = 16 * 1024;

/// A stream on its way to a client.
#[derive(Debug)]
struct Reader {
    follower: Follower,
    /// What is handed to the connection next, if it is not empty; at first the snapshots.
    next: Bytes,
    /// Messages that were taken and not written yet, the next one last.
    taken: Vec<Delivery>,
    ended: bool,
}

impl Reader {
    fn new(follower: Follower, first: Bytes) -> Self {
        Self { follower, next: first, taken: Vec::new(), ended: false }
    }

    /// What has been taken, as much as makes one chunk.
    fn chunk(&mut self) -> Bytes {
        let mut chunk = Chunk::default();
        while chunk.len() < CHUNK_BYTES
            && let Some(delivery) = self.taken.pop()
        {
            chunk.push(&delivery);
        }
        if self.taken.is_empty() {
            // An idle stream is to cost as little as if it had never been busy.
            self.taken = Vec::new();
        }
        chunk.into_bytes()
    }
}

impl HttpBody for Reader {
    type Data = Bytes;
    type Error = Infallible;

    /// Called only when the connection can take the next bytes, so that a slow reader's updates wait, and are merged, in its mailbox.
    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let reader = self.get_mut();
        loop {
            if !reader.next.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut reader.next)))));
            }
            if !reader.taken.is_empty() {
                reader.next = reader.chunk();
                continue;
            }
            if reader.ended {
                return Poll::Ready(None);
            }
            match ready!(reader.follower.poll_take(context, &mut reader.taken)) {
                Ok(News::Messages) => reader.taken.reverse(),
                Ok(News::Silence) => reader.next = Bytes::from_static(b": keep-alive\n\n"),
                Err(ended) => {
                    // Of one that crashed, what it took before has no order any more.
                    (reader.ended, reader.next, reader.taken) = (true, farewell(ended), Vec::new());
                }
            }
        }
    }
}

/// Events that are written at once: one alone stays the bytes that all streams share.
#[derive(Default)]
struct Chunk {
    alone: Bytes,
    many: Vec<u8>,
}

impl Chunk {
    fn len(&self) -> usize {
        self.alone.len() + self.many.len()
    }

    fn push(&mut self, delivery: &Delivery) {
        let Some(event) = shared(&delivery.message) else { return };
        if self.len() == 0 && delivery.n == 1 {
            self.alone = event.clone();
            return;
        }
        self.many.reserve(event.len() + self.alone.len() + N_BYTES_MAX);
        self.many.extend_from_slice(&std::mem::take(&mut self.alone));
        match event.strip_suffix(b"}\n\n") {
            Some(body) if delivery.n > 1 => {
                self.many.extend_from_slice(body);
                // Writing to memory cannot fail.
                let _ = write!(self.many, ",\"n\":{}}}\n\n", delivery.n);
            }
            _ => self.many.extend_from_slice(event),
        }
    }

    fn into_bytes(self) -> Bytes {
        if self.alone.is_empty() { self.many.into() } else { self.alone }
    }
}

/// What the number of merged updates adds to an event at most.
const N_BYTES_MAX: usize = 32;

fn farewell(ended: Ended) -> Bytes {
    format!("event: close\ndata: {{\"reason\":\"{}\"}}\n\n", ended.as_str()).into()
}

/// A message as an event that stands for itself alone, built once for all streams.
fn shared(message: &Broadcast) -> Option<&Bytes> {
    message.frame(FRAME_SLOT, || build(message))
}

/// A message as an event. Payloads are compact JSON, which has no line break that would end the data.
fn build(message: &Broadcast) -> Option<Bytes> {
    let Payload::Json(payload) = &message.payload else { return None };
    let mut out = Vec::with_capacity(payload.len() + 96);
    match (message.class, message.stamp) {
        (Class::Latest(Role::Update), Some(stamp)) => {
            out.extend_from_slice(format!("event: update\nid: {}/{}\ndata: ", stamp.epoch.tag(), stamp.seq).as_bytes());
            out.extend_from_slice(payload);
        }
        (Class::Latest(Role::Snapshot), Some(stamp)) => {
            out.extend_from_slice(
                format!("event: snapshot\nid: {}/{}\ndata: ", stamp.epoch.tag(), stamp.seq).as_bytes(),
            );
            write_with_topic(&mut out, &message.topic, payload);
        }
        (Class::Latest(_), _) => {
            out.extend_from_slice(b"event: status\ndata: ");
            write_with_topic(&mut out, &message.topic, payload);
        }
        // The name of a room's event is its sender's choice and could be that of one of ours.
        (Class::Lossless, _) => {
            out.extend_from_slice(b"event: broadcast\ndata: {\"topic\":");
            json::write_string(&mut out, &message.topic);
            out.extend_from_slice(b",\"event\":");
            json::write_string(&mut out, &message.event);
            out.extend_from_slice(b",\"payload\":");
            out.extend_from_slice(payload);
            out.push(b'}');
        }
    }
    out.extend_from_slice(b"\n\n");
    Some(out.into())
}

fn write_snapshot(out: &mut Vec<u8>, topic: &Topic, snapshot: &JoinSnapshot) {
    out.extend_from_slice(format!("event: snapshot\nid: {}/{}\ndata: ", snapshot.epoch, snapshot.seq).as_bytes());
    write_with_topic(out, topic, &snapshot.to_json());
    out.extend_from_slice(b"\n\n");
}

/// An object with the topic as its first member: a stream may have several of them.
fn write_with_topic(out: &mut Vec<u8>, topic: &Topic, object: &[u8]) {
    out.extend_from_slice(b"{\"topic\":");
    json::write_string(out, topic);
    match object.strip_prefix(b"{") {
        Some(b"}") | None => out.push(b'}'),
        Some(members) => {
            out.push(b',');
            out.extend_from_slice(members);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tickwire_pubsub::{Epoch, Stamp};

    use super::*;

    fn text(message: Broadcast, n: u64) -> String {
        let mut chunk = Chunk::default();
        chunk.push(&Delivery { message: message.into(), n });
        String::from_utf8(chunk.into_bytes().to_vec()).unwrap()
    }

    fn update(seq: u64) -> Broadcast {
        let stamp = Stamp { epoch: Epoch { clock: 1, incarnation: 2, node: 3 }, seq };
        let payload = Payload::Json(format!(r#"{{"symbol":"EURUSD","seq":{seq}}}"#).into());
        let topic = Topic::new("ticker:EURUSD").unwrap();
        Broadcast::latest(topic, "update".into(), payload, Role::Update, stamp, Instant::now())
    }

    #[test]
    fn updates_carry_their_place_and_what_they_stand_for() {
        let tag = update(7).stamp.unwrap().epoch.tag();
        assert_eq!(
            text(update(7), 1),
            format!("event: update\nid: {tag}/7\ndata: {{\"symbol\":\"EURUSD\",\"seq\":7}}\n\n")
        );
        assert_eq!(
            text(update(7), 3),
            format!("event: update\nid: {tag}/7\ndata: {{\"symbol\":\"EURUSD\",\"seq\":7,\"n\":3}}\n\n")
        );
    }

    #[test]
    fn events_that_wait_are_written_at_once_and_one_alone_is_shared() {
        let deliveries = [(1, 1), (4, 3), (5, 1)].map(|(seq, n)| Delivery { message: update(seq).into(), n });
        let mut chunk = Chunk::default();
        deliveries.iter().for_each(|delivery| chunk.push(delivery));
        let expected: String =
            deliveries.iter().map(|delivery| text(update(delivery.message.stamp.unwrap().seq), delivery.n)).collect();
        assert_eq!(chunk.into_bytes(), expected);
        let mut alone = Chunk::default();
        alone.push(&deliveries[0]);
        assert_eq!(alone.into_bytes().as_ptr(), shared(&deliveries[0].message).unwrap().as_ptr());
    }

    #[test]
    fn what_a_room_sends_cannot_forge_an_event() {
        let payload = Payload::Json(Bytes::from_static(b"{}"));
        let message =
            Broadcast::lossless(Topic::new("room:a\nb").unwrap(), "x\nevent: update".into(), payload, Instant::now());
        assert_eq!(
            text(message, 1),
            "event: broadcast\ndata: {\"topic\":\"room:a\\nb\",\"event\":\"x\\nevent: update\",\"payload\":{}}\n\n"
        );
    }

    #[test]
    fn a_topic_becomes_the_first_member() {
        let mut out = Vec::new();
        write_with_topic(&mut out, &Topic::new("a").unwrap(), b"{\"b\":1}");
        write_with_topic(&mut out, &Topic::new("a").unwrap(), b"{}");
        assert_eq!(out, b"{\"topic\":\"a\",\"b\":1}{\"topic\":\"a\"}");
    }
}
