//! Protocol V2 as a client speaks it: what it sends, and what a server sends.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tickwire_channels::{
    message::Payload,
    serializer::{HEARTBEAT, REPLY, SOCKET_TOPIC},
};

/// A message to the server. References are numbers, written as strings as every known client does.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// The join that it belongs to; `None` on the socket's own topic.
    pub join_ref: Option<u64>,
    /// What its reply is matched by.
    pub msg_ref: u64,
    /// The channel's topic.
    pub topic: &'a str,
    /// What happened.
    pub event: &'a str,
    /// Any JSON value.
    pub payload: &'a serde_json::Value,
}

impl Outgoing<'_> {
    /// The text of the message.
    #[must_use]
    pub fn encode(&self) -> String {
        let join_ref = self.join_ref.map(|join_ref| join_ref.to_string());
        let message = (join_ref, self.msg_ref.to_string(), self.topic, self.event, self.payload);
        serde_json::to_string(&message).expect("strings and JSON values can be written as JSON")
    }

    /// The text of a heartbeat.
    #[must_use]
    pub fn heartbeat(msg_ref: u64) -> String {
        let payload = &serde_json::Value::Object(serde_json::Map::new());
        Outgoing { join_ref: None, msg_ref, topic: SOCKET_TOPIC, event: HEARTBEAT, payload }.encode()
    }
}

/// A message from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The join that it belongs to; `None` for broadcasts and for answers of the socket itself.
    pub join_ref: Option<String>,
    /// The message that it answers.
    pub msg_ref: Option<String>,
    /// The channel's topic.
    pub topic: String,
    /// What it is.
    pub body: Body,
}

/// What a message from the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The answer to one message.
    Reply {
        /// Whether it was accepted.
        ok: bool,
        /// What the channel says about it.
        response: Payload,
    },
    /// Anything else.
    Event {
        /// What happened; `phx_close` and `phx_error` among them.
        event: String,
        /// What there is to say about it.
        payload: Payload,
    },
}

/// A message that does not follow the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A text that is no V2 message.
    #[error("expected [join_ref, ref, topic, event, payload]: {0}")]
    Text(String),
    /// A binary message of a kind that servers do not send.
    #[error("binary message of kind {0:?}, expected 0, 1 or 2")]
    Kind(Option<u8>),
    /// A binary message that is shorter than its sizes announce, or whose names are not UTF-8.
    #[error("binary message of {0} bytes does not hold the fields that it announces")]
    Fields(usize),
}

#[derive(Deserialize)]
struct ReplyBody<'a> {
    status: String,
    #[serde(borrow)]
    response: &'a RawValue,
}

/// Reads a text message.
///
/// # Errors
/// If it is not a V2 message.
pub fn decode_text(text: &str) -> Result<Incoming, DecodeError> {
    type Parts<'a> = (Option<String>, Option<String>, String, String, &'a RawValue);
    let bad = |error: serde_json::Error| DecodeError::Text(error.to_string());
    let (join_ref, msg_ref, topic, event, payload): Parts<'_> = serde_json::from_str(text).map_err(bad)?;
    let body = if event == REPLY {
        let reply: ReplyBody<'_> = serde_json::from_str(payload.get()).map_err(bad)?;
        Body::Reply { ok: reply.status == "ok", response: json(reply.response) }
    } else {
        Body::Event { event, payload: json(payload) }
    };
    Ok(Incoming { join_ref, msg_ref, topic, body })
}

fn json(value: &RawValue) -> Payload {
    Payload::Json(Bytes::copy_from_slice(value.get().as_bytes()))
}

/// Reads a binary message: push (kind 0, without a ref), reply (1) or broadcast (2).
///
/// # Errors
/// If it is none of them.
pub fn decode_binary(data: &Bytes) -> Result<Incoming, DecodeError> {
    let mut fields = Fields { data, sizes: 1, at: 0 };
    match data.first() {
        Some(0) => {
            let [join_ref, topic, event] = fields.take()?;
            let body = Body::Event { event, payload: fields.rest() };
            Ok(Incoming { join_ref: non_empty(join_ref), msg_ref: None, topic, body })
        }
        Some(1) => {
            let [join_ref, msg_ref, topic, status] = fields.take()?;
            let body = Body::Reply { ok: status == "ok", response: fields.rest() };
            Ok(Incoming { join_ref: non_empty(join_ref), msg_ref: non_empty(msg_ref), topic, body })
        }
        Some(2) => {
            let [topic, event] = fields.take()?;
            let body = Body::Event { event, payload: fields.rest() };
            Ok(Incoming { join_ref: None, msg_ref: None, topic, body })
        }
        kind => Err(DecodeError::Kind(kind.copied())),
    }
}

/// A missing reference is an empty string in a binary message.
fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Walks over the one-byte sizes behind the kind, and the fields behind the sizes.
struct Fields<'a> {
    data: &'a Bytes,
    sizes: usize,
    at: usize,
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[String; N], DecodeError> {
        let short = || DecodeError::Fields(self.data.len());
        let sizes = self.data.get(self.sizes..self.sizes + N).ok_or_else(short)?;
        self.at = self.sizes + N;
        let mut fields = [const { String::new() }; N];
        for (field, size) in fields.iter_mut().zip(sizes) {
            let end = self.at + usize::from(*size);
            let bytes = self.data.get(self.at..end).ok_or_else(short)?;
            *field = std::str::from_utf8(bytes).map_err(|_| short())?.to_owned();
            self.at = end;
        }
        Ok(fields)
    }

    fn rest(&self) -> Payload {
        Payload::Binary(self.data.slice(self.at..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_written_as_arrays() {
        let payload = serde_json::json!({"a": 1});
        let message = Outgoing { join_ref: Some(3), msg_ref: 4, topic: "room:\"x\"", event: "say", payload: &payload };
        assert_eq!(message.encode(), r#"["3","4","room:\"x\"","say",{"a":1}]"#);
        assert_eq!(Outgoing::heartbeat(9), r#"[null,"9","phoenix","heartbeat",{}]"#);
    }

    #[test]
    fn replies_and_broadcasts_are_told_apart_and_keep_their_text() {
        let reply = decode_text(r#"["1","2","t","phx_reply",{"status":"ok","response":{"x": 1.0}}]"#).unwrap();
        let response = Payload::Json(Bytes::from_static(br#"{"x": 1.0}"#));
        assert_eq!(reply.body, Body::Reply { ok: true, response });
        let push = decode_text(r#"[null,null,"t","e",[]]"#).unwrap();
        assert_eq!((push.join_ref, push.msg_ref), (None, None));
        assert!(matches!(push.body, Body::Event { event, .. } if event == "e"));
        for bad in ["", "{}", "[1]", r#"[null,null,"t","phx_reply",{}]"#, r#"[1,null,"t","e",{}]"#] {
            assert!(matches!(decode_text(bad), Err(DecodeError::Text(_))), "{bad}");
        }
    }

    #[test]
    fn binary_messages_of_all_kinds() {
        let push = decode_binary(&Bytes::from_static(b"\0\x01\x01\x0217topic")).map(|message| message.topic);
        assert_eq!(push, Ok("7".to_owned()), "sizes decide, not content");
        let reply = decode_binary(&Bytes::from_static(b"\x01\x01\x01\x01\x0212tokdata")).unwrap();
        assert_eq!((reply.join_ref.as_deref(), reply.msg_ref.as_deref()), (Some("1"), Some("2")));
        assert_eq!(reply.body, Body::Reply { ok: true, response: Payload::Binary(Bytes::from_static(b"data")) });
        let broadcast = decode_binary(&Bytes::from_static(b"\x02\x01\x01te\xff")).unwrap();
        assert_eq!(broadcast.topic, "t");
        assert_eq!(decode_binary(&Bytes::new()), Err(DecodeError::Kind(None)));
        assert_eq!(decode_binary(&Bytes::from_static(b"\x02\x09\x01te")), Err(DecodeError::Fields(5)));
    }
}
