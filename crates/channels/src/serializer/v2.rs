//! Format V2: `[join_ref, ref, topic, event, payload]`, and a binary form with one-byte sizes in front.

use std::borrow::Cow;

use bytes::Bytes;

use super::{DecodeError, EncodeError, Encoded, Push, Reply, Text, write_ref};
use crate::{
    json::{self, Scanner},
    message::{Message, Payload, Ref},
    websocket::Opcode,
};

const SHAPE: DecodeError =
    DecodeError::Shape { expected: "an array [join_ref, ref, topic, event, payload] with strings for topic and event" };

/// Reads an array of at least five elements. Those after the fifth must be JSON and are ignored.
pub(super) fn decode(text: &Bytes) -> Result<Message, DecodeError> {
    let mut scanner = Scanner::new(text)?;
    scanner.skip_space();
    if scanner.peek() != Some(b'[') {
        // What is not JSON at all is told as such.
        scanner.value()?;
        scanner.end()?;
        return Err(SHAPE);
    }
    scanner.expect(b'[')?;
    scanner.skip_space();
    if scanner.peek() == Some(b']') {
        return Err(SHAPE);
    }
    let join_ref = scanner.value()?;
    next(&mut scanner)?;
    let msg_ref = scanner.value()?;
    next(&mut scanner)?;
    let topic = string(&mut scanner)?;
    next(&mut scanner)?;
    let event = string(&mut scanner)?;
    next(&mut scanner)?;
    let payload = scanner.value()?;
    scanner.skip_space();
    while !scanner.take(b']') {
        scanner.expect(b',')?;
        scanner.skip_space();
        scanner.value()?;
        scanner.skip_space();
    }
    scanner.end()?;
    Ok(Message {
        join_ref: Ref::from_canonical(&join_ref),
        msg_ref: Ref::from_canonical(&msg_ref),
        topic,
        event,
        payload: Payload::Json(json::shared(text, payload)),
    })
}

/// Goes on to the next of the five elements.
fn next(scanner: &mut Scanner<'_>) -> Result<(), DecodeError> {
    scanner.skip_space();
    if scanner.peek() == Some(b']') {
        return Err(SHAPE);
    }
    scanner.expect(b',')?;
    scanner.skip_space();
    Ok(())
}

fn string(scanner: &mut Scanner<'_>) -> Result<String, DecodeError> {
    if scanner.peek() == Some(b'"') {
        return Ok(scanner.text()?.into_owned());
    }
    scanner.value()?;
    Err(SHAPE)
}

pub(super) fn encode(out: &mut Vec<u8>, message: &Text<'_>) {
    out.push(b'[');
    write_ref(out, message.join_ref);
    out.push(b',');
    write_ref(out, message.msg_ref);
    out.push(b',');
    json::write_string(out, message.topic);
    out.push(b',');
    json::write_string(out, message.event);
    out.push(b',');
    message.write_payload(out);
    out.push(b']');
}

/// What a binary message is, by its first byte. A client's push has a ref, ours has none.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Push = 0,
    Reply = 1,
    Broadcast = 2,
}

/// Reads `0, len(join_ref), len(ref), len(topic), len(event), join_ref, ref, topic, event, data`.
pub(super) fn decode_binary(message: &Bytes) -> Result<Message, DecodeError> {
    const FIELDS: [&str; 4] = ["join_ref", "ref", "topic", "event"];
    const SIZES_END: usize = 1 + FIELDS.len();
    if message.first() != Some(&(Kind::Push as u8)) {
        return Err(DecodeError::Kind { seen: message.first().copied() });
    }
    let sizes = message.get(1..SIZES_END).ok_or(DecodeError::Short { seen: message.len(), expected: SIZES_END })?;
    let data_at = SIZES_END + sizes.iter().map(|size| usize::from(*size)).sum::<usize>();
    if message.len() < data_at {
        return Err(DecodeError::Short { seen: message.len(), expected: data_at });
    }
    let mut texts = [""; FIELDS.len()];
    let mut at = SIZES_END;
    for ((text, size), field) in texts.iter_mut().zip(sizes).zip(FIELDS) {
        let end = at + usize::from(*size);
        *text = std::str::from_utf8(&message[at..end]).map_err(|_| DecodeError::Utf8 { field })?;
        at = end;
    }
    let [join_ref, msg_ref, topic, event] = texts;
    Ok(Message {
        join_ref: Some(Ref::text(join_ref)),
        msg_ref: Some(Ref::text(msg_ref)),
        topic: topic.to_owned(),
        event: event.to_owned(),
        payload: Payload::Binary(message.slice(data_at..)),
    })
}

pub(super) fn binary_push(push: &Push<'_>, data: &[u8]) -> Result<Encoded, EncodeError> {
    let join_ref = plain(push.join_ref);
    let fields = [("join_ref", &*join_ref), ("topic", push.topic.as_bytes()), ("event", push.event.as_bytes())];
    binary(Kind::Push, &fields, data)
}

pub(super) fn binary_reply(reply: &Reply<'_>, data: &[u8]) -> Result<Encoded, EncodeError> {
    let (join_ref, msg_ref) = (plain(reply.join_ref), plain(reply.msg_ref));
    let fields = [
        ("join_ref", &*join_ref),
        ("ref", &*msg_ref),
        ("topic", reply.topic.as_bytes()),
        ("status", reply.status.as_str().as_bytes()),
    ];
    binary(Kind::Reply, &fields, data)
}

pub(super) fn binary_broadcast(topic: &str, event: &str, data: &[u8]) -> Result<Encoded, EncodeError> {
    binary(Kind::Broadcast, &[("topic", topic.as_bytes()), ("event", event.as_bytes())], data)
}

/// A reference as binary messages carry it; none is the empty string.
fn plain(reference: Option<&Ref>) -> Cow<'_, [u8]> {
    reference.map_or(Cow::Borrowed(b""), Ref::to_plain)
}

/// Writes the kind, every field's size, every field, and the data.
fn binary(kind: Kind, fields: &[(&'static str, &[u8])], data: &[u8]) -> Result<Encoded, EncodeError> {
    const FIELDS_MAX: usize = 4;
    let mut sizes = [0; FIELDS_MAX];
    for (size, (field, bytes)) in sizes.iter_mut().zip(fields) {
        *size = u8::try_from(bytes.len()).map_err(|_| EncodeError::FieldTooLong { field, len: bytes.len() })?;
    }
    let len = 1 + fields.len() + fields.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() + data.len();
    Ok(Encoded::build(Opcode::Binary, len, |out| {
        out.push(kind as u8);
        out.extend_from_slice(&sizes[..fields.len()]);
        for (_, bytes) in fields {
            out.extend_from_slice(bytes);
        }
        out.extend_from_slice(data);
    }))
}
