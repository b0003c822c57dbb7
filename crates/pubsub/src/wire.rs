//! What this crate says to its twin on another node, as protobuf.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message as _;
use tickwire_proto::mesh::v1 as pb;

use crate::{Broadcast, Class, Epoch, Payload, Role, Stamp, Topic, interest::InterestChange};

/// A peer's message makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Not protobuf, or not of this message.
    #[error("not a message of this kind: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A field that must be there is not, or has a value that it cannot have.
    #[error("field {0} is missing or out of range")]
    Field(&'static str),
}

/// Encodes a stamp.
#[must_use]
pub fn stamp_to_wire(stamp: Stamp) -> pb::Stamp {
    let Epoch { clock, incarnation, node } = stamp.epoch;
    pb::Stamp { epoch: Some(pb::Epoch { clock, incarnation, node }), seq: stamp.seq }
}

/// Decodes a stamp.
///
/// # Errors
/// If it has no epoch.
pub fn stamp_from_wire(stamp: &pb::Stamp) -> Result<Stamp, WireError> {
    let epoch = stamp.epoch.as_ref().ok_or(WireError::Field("stamp.epoch"))?;
    Ok(Stamp { epoch: Epoch { clock: epoch.clock, incarnation: epoch.incarnation, node: epoch.node }, seq: stamp.seq })
}

pub(crate) fn encode_broadcast(message: &Broadcast) -> Bytes {
    let class = match message.class {
        Class::Lossless => pb::Class::Lossless,
        Class::Latest(Role::Update) => pb::Class::Update,
        Class::Latest(Role::Snapshot) => pb::Class::Snapshot,
        Class::Latest(Role::Status) => pb::Class::Status,
    };
    let residence = message.accepted_at.elapsed().as_micros();
    let encoded = pb::Broadcast {
        topic: Bytes::copy_from_slice(message.topic.as_bytes()),
        event: Bytes::copy_from_slice(message.event.as_bytes()),
        payload: message.payload.bytes().clone(),
        binary: matches!(message.payload, Payload::Binary(_)),
        class: class.into(),
        stamp: message.stamp.map(stamp_to_wire),
        residence_us: u64::try_from(residence).unwrap_or(u64::MAX),
    };
    encoded.encode_to_vec().into()
}

pub(crate) fn decode_broadcast(bytes: &Bytes) -> Result<Broadcast, WireError> {
    let encoded = pb::Broadcast::decode(bytes.clone())?;
    let topic = topic_from_wire(&encoded.topic)?;
    let event: Arc<str> = Arc::from(std::str::from_utf8(&encoded.event).map_err(|_| WireError::Field("event"))?);
    let payload = if encoded.binary { Payload::Binary(encoded.payload) } else { Payload::Json(encoded.payload) };
    let stamp = encoded.stamp.as_ref().map(stamp_from_wire).transpose()?;
    let now = Instant::now();
    let accepted_at = now.checked_sub(Duration::from_micros(encoded.residence_us)).unwrap_or(now);
    let role = match pb::Class::try_from(encoded.class) {
        Ok(pb::Class::Lossless) => {
            let message = Broadcast::lossless(topic, event, payload, accepted_at);
            return Ok(match stamp {
                Some(stamp) => message.stamped(stamp),
                None => message,
            });
        }
        Ok(pb::Class::Update) => Role::Update,
        Ok(pb::Class::Snapshot) => Role::Snapshot,
        Ok(pb::Class::Status) => Role::Status,
        Ok(pb::Class::Unspecified) | Err(_) => return Err(WireError::Field("class")),
    };
    let stamp = stamp.ok_or(WireError::Field("stamp"))?;
    Ok(Broadcast::latest(topic, event, payload, role, stamp, accepted_at))
}

/// Generation 1 marks a change that starts anew, 0 one that adds to what was said before.
pub(crate) fn encode_interest(reset: bool, add: &[Topic], remove: &[Topic]) -> Bytes {
    let bytes = |topics: &[Topic]| topics.iter().map(|topic| Bytes::copy_from_slice(topic.as_bytes())).collect();
    let encoded = pb::Interest { generation: u64::from(reset), add: bytes(add), remove: bytes(remove) };
    encoded.encode_to_vec().into()
}

pub(crate) fn decode_interest(bytes: &Bytes) -> Result<InterestChange, WireError> {
    let encoded = pb::Interest::decode(bytes.clone())?;
    let topics = |list: &[Bytes]| list.iter().map(|text| topic_from_wire(text)).collect::<Result<Vec<_>, _>>();
    Ok(InterestChange { reset: encoded.generation != 0, add: topics(&encoded.add)?, remove: topics(&encoded.remove)? })
}

fn topic_from_wire(bytes: &[u8]) -> Result<Topic, WireError> {
    let text = std::str::from_utf8(bytes).map_err(|_| WireError::Field("topic"))?;
    Topic::new(text).map_err(|_| WireError::Field("topic"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broadcast_survives_the_wire() {
        let stamp = Stamp { epoch: Epoch { clock: 1, incarnation: 2, node: u64::MAX }, seq: 4 };
        let topic = Topic::new("ticker:EURUSD").unwrap();
        let payload = Payload::Json(Bytes::from_static(b"{\"bid\":\"1.10\"}"));
        let sent = Broadcast::latest(topic, "update".into(), payload, Role::Update, stamp, Instant::now());
        let got = decode_broadcast(&encode_broadcast(&sent)).unwrap();
        assert_eq!((&got.topic, &got.event, &got.payload), (&sent.topic, &sent.event, &sent.payload));
        assert_eq!((got.class, got.stamp), (sent.class, sent.stamp));
    }

    #[test]
    fn what_is_not_a_broadcast_is_refused() {
        assert!(decode_broadcast(&Bytes::from_static(b"\xff\xff")).is_err());
        assert!(matches!(decode_broadcast(&Bytes::new()), Err(WireError::Field("class"))));
    }
}
