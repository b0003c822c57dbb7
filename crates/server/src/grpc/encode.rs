//! Messages on their way out.

use std::marker::PhantomData;

use bytes::{BufMut as _, Bytes};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};
use tickwire_market::decode::update_from_json;
use tickwire_proto::v1::{self as pb, subscribe_response};
use tickwire_pubsub::{Broadcast, Class, Delivery, FRAME_SLOTS, Role, Topic};
use tonic::{
    Status,
    codec::{BufferSettings, EncodeBuf, Encoder},
};

/// The place of a subscription's message in a [`Broadcast`], before that of event streams.
const FRAME_SLOT: usize = FRAME_SLOTS - 2;

/// What a server answers.
pub(super) trait Answer: Send + 'static {
    /// Appends the message.
    fn write(self, into: &mut EncodeBuf<'_>);
}

impl<M: Message + 'static> Answer for M {
    fn write(self, into: &mut EncodeBuf<'_>) {
        self.encode_raw(into);
    }
}

/// Writes `E`.
#[derive(Debug)]
pub(super) struct AnswerEncoder<E>(PhantomData<fn(E)>);

impl<E> AnswerEncoder<E> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E: Answer> Encoder for AnswerEncoder<E> {
    type Item = E;
    type Error = Status;

    fn encode(&mut self, answer: E, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        answer.write(into);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        /// Each call keeps a buffer of this size while it lives, and a subscription lives for days.
        const BUFFER: usize = 1024;
        /// Messages that are ready at the same time become one piece of data of about this size. The call keeps what is left of the memory of
        /// the last piece, up to twice as much: more would save little, at some fifty messages a piece, and be paid by all who are idle.
        const TOGETHER: usize = 4 * 1024;
        BufferSettings::new(BUFFER, TOGETHER)
    }
}

/// A `SubscribeResponse`, encoded once for all subscriptions.
#[derive(Debug)]
pub(super) enum Following {
    /// All of it.
    Whole(Bytes),
    /// An update: the `Update` without its `n`.
    Update {
        /// Of which topic.
        topic: Topic,
        /// The bytes of the update.
        body: Bytes,
        /// How many updates it stands for.
        n: u64,
    },
}

impl Following {
    /// The message of a delivery; those of rooms have no form in this API.
    pub(super) fn of(delivery: &Delivery) -> Option<Self> {
        let message = &delivery.message;
        let Class::Latest(role) = message.class else { return None };
        let frame = message.frame(FRAME_SLOT, || build(role, message))?.clone();
        Some(match role {
            Role::Update => Self::Update { topic: message.topic.clone(), body: frame, n: delivery.n },
            Role::Snapshot | Role::Status => Self::Whole(frame),
        })
    }
}

impl From<pb::SubscribeResponse> for Following {
    fn from(message: pb::SubscribeResponse) -> Self {
        Self::Whole(message.encode_to_vec().into())
    }
}

impl Answer for Following {
    fn write(self, into: &mut EncodeBuf<'_>) {
        const TOPIC: u32 = 1;
        const UPDATE: u32 = 3;
        const N: u32 = 11;
        /// Keys and lengths.
        const FRAMING_MAX: usize = 40;
        match self {
            Self::Whole(message) => into.put_slice(&message),
            Self::Update { topic, body, n } => {
                into.reserve(topic.len() + body.len() + FRAMING_MAX);
                encode_key(TOPIC, WireType::LengthDelimited, into);
                encode_varint(topic.len() as u64, into);
                into.put_slice(topic.as_bytes());
                encode_key(UPDATE, WireType::LengthDelimited, into);
                // One byte is the key of `n`: it is below 16.
                encode_varint((body.len() + 1 + encoded_len_varint(n)) as u64, into);
                into.put_slice(&body);
                encode_key(N, WireType::Varint, into);
                encode_varint(n, into);
            }
        }
    }
}

/// An update's own bytes, or all of another message.
fn build(role: Role, broadcast: &Broadcast) -> Option<Bytes> {
    let payload = broadcast.payload.bytes();
    let message = match role {
        Role::Update => {
            let update = pb::Update { n: 0, ..update_from_json(payload).ok()? };
            return Some(update.encode_to_vec().into());
        }
        Role::Snapshot => {
            let snapshot: SnapshotJson = serde_json::from_slice(payload).ok()?;
            subscribe_response::Message::Snapshot(snapshot.into_proto())
        }
        Role::Status => {
            let status: StatusJson = serde_json::from_slice(payload).ok()?;
            subscribe_response::Message::Status(pb::Status { state: status.state, since_us: status.since_us })
        }
    };
    let response = pb::SubscribeResponse { topic: broadcast.topic.to_string(), message: Some(message) };
    Some(response.encode_to_vec().into())
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tickwire_pubsub::{Epoch, Payload, Stamp};
    use tonic::codec::Codec as _;

    use super::*;
    use crate::grpc::codec::Codec;

    /// As a client reads it.
    fn read(delivery: &Delivery) -> pb::SubscribeResponse {
        let message = Following::of(delivery).unwrap();
        let mut codec = Codec::<Following, pb::SubscribeRequest>::new(0);
        let body = futures_util::stream::iter([Ok(message)]);
        let body = tonic::codec::EncodeBody::new_server(codec.encoder(), body, None, Default::default(), None);
        let bytes = futures_util::FutureExt::now_or_never(http_body_util::BodyExt::collect(body)).unwrap().unwrap();
        // Five bytes of framing come first.
        pb::SubscribeResponse::decode(&bytes.to_bytes()[5..]).unwrap()
    }

    fn delivery(role: Role, json: &str, n: u64) -> Delivery {
        let stamp = Stamp { epoch: Epoch { clock: 1, incarnation: 2, node: 3 }, seq: 7 };
        let (topic, payload) =
            (Topic::new("ticker:EURUSD").unwrap(), Payload::Json(Bytes::copy_from_slice(json.as_bytes())));
        Delivery { message: Broadcast::latest(topic, "update".into(), payload, role, stamp, Instant::now()).into(), n }
    }

    #[test]
    fn a_shared_update_reads_as_one_that_was_encoded_alone() {
        let json = r#"{"symbol":"EURUSD","bid":"1.5","ask":"1.6","ts":1700000000000000,"epoch":"AAAAAAAAAAA","seq":7,"crossed":true,"source":"simulated"}"#;
        for n in [1, 127, 128, u64::MAX] {
            let update = delivery(Role::Update, json, n);
            let expected = pb::Update { n, ..update_from_json(update.message.payload.bytes()).unwrap() };
            let message = Some(subscribe_response::Message::Update(expected));
            assert_eq!(read(&update), pb::SubscribeResponse { topic: "ticker:EURUSD".to_owned(), message });
        }
    }

    #[test]
    fn a_status_and_a_room_are_told_apart() {
        let status = read(&delivery(Role::Status, r#"{"state":"stale","since_us":5}"#, 1));
        let expected = pb::Status { state: "stale".to_owned(), since_us: 5 };
        assert_eq!(status.message, Some(subscribe_response::Message::Status(expected)));
        let topic = Topic::new("room:a").unwrap();
        let message = Broadcast::lossless(topic, "x".into(), Payload::empty(), Instant::now()).into();
        assert!(Following::of(&Delivery { message, n: 1 }).is_none());
    }
}
