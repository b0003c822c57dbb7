//! Format V1: `{"topic":…,"event":…,"ref":…,"payload":…}`.

use std::borrow::Cow;

use bytes::Bytes;

use super::{DecodeError, Text, write_ref};
use crate::{
    json::{self, Scanner},
    message::{Message, Payload, Ref},
};

const SHAPE: DecodeError =
    DecodeError::Shape { expected: "an object with the keys topic and event (both strings), payload and ref" };

/// Reads an object: four keys are required, an extra `join_ref` is honoured, others are ignored. Of equal keys the first counts.
pub(super) fn decode(text: &Bytes) -> Result<Message, DecodeError> {
    let mut scanner = Scanner::new(text)?;
    scanner.skip_space();
    if scanner.peek() != Some(b'{') {
        // What is not JSON at all is told as such.
        scanner.value()?;
        scanner.end()?;
        return Err(SHAPE);
    }
    let mut fields = Fields::default();
    scanner.expect(b'{')?;
    scanner.skip_space();
    if !scanner.take(b'}') {
        loop {
            let key = scanner.text()?;
            scanner.skip_space();
            scanner.expect(b':')?;
            scanner.skip_space();
            let value = scanner.value()?;
            fields.keep(&key, value);
            scanner.skip_space();
            if scanner.take(b'}') {
                break;
            }
            scanner.expect(b',')?;
            scanner.skip_space();
        }
    }
    scanner.end()?;
    fields.message(text)
}

/// The values that count, in canonical form.
#[derive(Default)]
struct Fields<'a> {
    join_ref: Option<Cow<'a, [u8]>>,
    msg_ref: Option<Cow<'a, [u8]>>,
    topic: Option<Cow<'a, [u8]>>,
    event: Option<Cow<'a, [u8]>>,
    payload: Option<Cow<'a, [u8]>>,
}

impl<'a> Fields<'a> {
    fn keep(&mut self, key: &str, value: Cow<'a, [u8]>) {
        let field = match key {
            "join_ref" => &mut self.join_ref,
            "ref" => &mut self.msg_ref,
            "topic" => &mut self.topic,
            "event" => &mut self.event,
            "payload" => &mut self.payload,
            _ => return,
        };
        field.get_or_insert(value);
    }

    fn message(self, text: &Bytes) -> Result<Message, DecodeError> {
        let (Some(msg_ref), Some(topic), Some(event), Some(payload)) =
            (self.msg_ref, self.topic, self.event, self.payload)
        else {
            return Err(SHAPE);
        };
        let string = |json: &[u8]| -> Result<String, DecodeError> {
            String::from_utf8(json::unquote(json).ok_or(SHAPE)?.into_owned()).map_err(|_| SHAPE)
        };
        Ok(Message {
            join_ref: self.join_ref.and_then(|json| Ref::from_canonical(&json)),
            msg_ref: Ref::from_canonical(&msg_ref),
            topic: string(&topic)?,
            event: string(&event)?,
            payload: Payload::Json(json::shared(text, payload)),
        })
    }
}

/// Writes exactly the four keys, the payload last.
pub(super) fn encode(out: &mut Vec<u8>, message: &Text<'_>) {
    out.extend_from_slice(br#"{"topic":"#);
    json::write_string(out, message.topic);
    out.extend_from_slice(br#","event":"#);
    json::write_string(out, message.event);
    out.extend_from_slice(br#","ref":"#);
    write_ref(out, message.msg_ref);
    out.extend_from_slice(br#","payload":"#);
    message.write_payload(out);
    out.push(b'}');
}
