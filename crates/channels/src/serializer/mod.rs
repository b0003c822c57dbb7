//! Messages as bytes: what stands inside a WebSocket message, and the whole frame around it.
//!
//! A client chooses its [`WireFormat`] once, by the `vsn` parameter of its connection. What clients send is read by
//! [`WireFormat::decode_text`] and [`WireFormat::decode_binary`]. What we send is written with room in front for the WebSocket header, so that
//! it is copied once: see [`Encoded`].

mod v1;
mod v2;

#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;

use crate::{
    deflate::{Window, compressed_frame},
    json::JsonError,
    message::{Message, Payload, Ref},
    websocket::{Header, Opcode},
};

/// The event of a join.
pub const JOIN: &str = "phx_join";
/// The event of a leave.
pub const LEAVE: &str = "phx_leave";
/// The event of a reply.
pub const REPLY: &str = "phx_reply";
/// The event that says that a channel has ended as it should.
pub const CLOSE: &str = "phx_close";
/// The event that says that a channel has crashed.
pub const ERROR: &str = "phx_error";
/// The topic of the socket itself.
pub const SOCKET_TOPIC: &str = "phoenix";
/// The socket's own event.
pub const HEARTBEAT: &str = "heartbeat";

/// How a client wants messages to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WireFormat {
    /// Objects with four keys, JSON only. `vsn` absent or `1.0.x`.
    V1,
    /// Arrays of five elements, and a binary form. `vsn` `2.0.x`.
    V2,
}

/// How the frames of one connection are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Wire {
    /// How messages are written.
    pub format: WireFormat,
    /// Whether they are compressed, and for which window.
    pub deflate: Option<Window>,
}

impl From<WireFormat> for Wire {
    fn from(format: WireFormat) -> Self {
        Self { format, deflate: None }
    }
}

/// A `vsn` that names no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("vsn {seen:?} is not supported: expected 1.0.x or 2.0.x in full, such as 2.0.0")]
pub struct BadVsn {
    /// The parameter's value.
    pub seen: String,
}

/// Why a client's message cannot be read. The socket is closed, 1011: from here on nobody knows what its next message belongs to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or JSON that we refuse.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// JSON of another shape.
    #[error("the message is not {expected}")]
    Shape {
        /// What the format demands.
        expected: &'static str,
    },
    /// A binary message of an unknown kind.
    #[error("binary message of kind {seen:?}: clients send kind 0")]
    Kind {
        /// Its first byte; `None` if it is empty.
        seen: Option<u8>,
    },
    /// A binary message that is shorter than it announces.
    #[error("binary message of {seen} bytes, its sizes announce at least {expected}")]
    Short {
        /// Bytes that arrived.
        seen: usize,
        /// Bytes that the sizes add up to.
        expected: usize,
    },
    /// A name in a binary message that is not UTF-8.
    #[error("{field} of the binary message is not UTF-8")]
    Utf8 {
        /// Which one.
        field: &'static str,
    },
}

/// Why a message cannot be written. It is the sending channel's fault, and ends that channel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A binary message gives each field's size in one byte.
    #[error("{field} has {len} bytes, a binary message has room for 255")]
    FieldTooLong {
        /// Which one.
        field: &'static str,
        /// Its length in bytes.
        len: usize,
    },
    /// Format V1 has no binary form.
    #[error("a binary payload cannot be sent to a V1 client")]
    BinaryInV1,
}

/// How a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// It was accepted.
    Ok,
    /// It was refused.
    Error,
}

impl Status {
    /// As on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }
}

/// The answer to one message.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    /// The join that answers; `None` for answers of the socket itself.
    pub join_ref: Option<&'a Ref>,
    /// The message that is answered.
    pub msg_ref: Option<&'a Ref>,
    /// The channel's topic.
    pub topic: &'a str,
    /// How it went.
    pub status: Status,
    /// [`Payload::empty`] if there is nothing to say.
    pub response: &'a Payload,
}

/// A message to one channel that answers nothing.
#[derive(Debug, Clone, Copy)]
pub struct Push<'a> {
    /// The join that it is for.
    pub join_ref: Option<&'a Ref>,
    /// The channel's topic.
    pub topic: &'a str,
    /// What happened.
    pub event: &'a str,
    /// What there is to say about it.
    pub payload: &'a Payload,
}

impl WireFormat {
    /// How many formats there are.
    pub const COUNT: usize = 2;

    /// Every format, each at its [`index`](Self::index).
    pub const ALL: [Self; Self::COUNT] = [Self::V1, Self::V2];

    /// A number below [`COUNT`](Self::COUNT), for tables with an entry per format.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::V1 => 0,
            Self::V2 => 1,
        }
    }

    /// The format that a `vsn` parameter asks for: `1.0.x`, `2.0.x`, or V1 without one.
    ///
    /// # Errors
    /// For anything else, abbreviations and pre-releases included.
    pub fn from_vsn(vsn: Option<&str>) -> Result<Self, BadVsn> {
        let Some(vsn) = vsn else { return Ok(Self::V1) };
        let (format, patch) = match (vsn.strip_prefix("1.0."), vsn.strip_prefix("2.0.")) {
            (Some(patch), _) => (Self::V1, patch),
            (_, Some(patch)) => (Self::V2, patch),
            _ => return Err(BadVsn { seen: vsn.to_owned() }),
        };
        let number = patch == "0" || (!patch.starts_with('0') && !patch.is_empty());
        if number && patch.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(format)
        } else {
            Err(BadVsn { seen: vsn.to_owned() })
        }
    }

    /// Reads a text message. Topic and event must be strings (Phoenix would carry other values as far as the router, no client sends them);
    /// references may be any JSON value, and so may the payload.
    ///
    /// # Errors
    /// If it is not a message of this format.
    pub fn decode_text(self, text: &Bytes) -> Result<Message, DecodeError> {
        match self {
            Self::V1 => v1::decode(text),
            Self::V2 => v2::decode(text),
        }
    }

    /// Reads a binary message. In V1 that is JSON as in a text message, which old clients on some platforms send so.
    ///
    /// # Errors
    /// If it is not a message of this format.
    pub fn decode_binary(self, data: &Bytes) -> Result<Message, DecodeError> {
        match self {
            Self::V1 => v1::decode(data),
            Self::V2 => v2::decode_binary(data),
        }
    }

    /// Writes the answer to a message. It is binary if its payload is, whatever the message was.
    ///
    /// # Errors
    /// If the payload is binary and the format or a field's length does not allow it.
    pub fn reply(self, reply: &Reply<'_>) -> Result<Encoded, EncodeError> {
        let response = match (reply.response, self) {
            (Payload::Json(response), _) => response,
            (Payload::Binary(data), Self::V2) => return v2::binary_reply(reply, data),
            (Payload::Binary(_), Self::V1) => return Err(EncodeError::BinaryInV1),
        };
        let before: &[u8] = match reply.status {
            Status::Ok => br#"{"status":"ok","response":"#,
            Status::Error => br#"{"status":"error","response":"#,
        };
        Ok(self.text(&Text {
            join_ref: reply.join_ref,
            msg_ref: reply.msg_ref,
            topic: reply.topic,
            event: REPLY,
            payload: [before, response, b"}"],
        }))
    }

    /// Writes a message to one channel.
    ///
    /// # Errors
    /// If the payload is binary and the format or a field's length does not allow it.
    pub fn push(self, push: &Push<'_>) -> Result<Encoded, EncodeError> {
        match (push.payload, self) {
            (Payload::Json(payload), _) => Ok(self.text(&Text {
                join_ref: push.join_ref,
                msg_ref: None,
                topic: push.topic,
                event: push.event,
                payload: [payload, b"", b""],
            })),
            (Payload::Binary(data), Self::V2) => v2::binary_push(push, data),
            (Payload::Binary(_), Self::V1) => Err(EncodeError::BinaryInV1),
        }
    }

    /// Writes a message that every subscriber of a topic gets in the same form.
    ///
    /// # Errors
    /// If the payload is binary and the format or a field's length does not allow it.
    pub fn broadcast(self, topic: &str, event: &str, payload: &Payload) -> Result<Encoded, EncodeError> {
        match (payload, self) {
            (Payload::Json(payload), _) => Ok(self.text(&Text::shared(topic, event, [payload, b"", b""]))),
            (Payload::Binary(data), Self::V2) => v2::binary_broadcast(topic, event, data),
            (Payload::Binary(_), Self::V1) => Err(EncodeError::BinaryInV1),
        }
    }

    /// Writes a broadcast that stands for `n` of them: its payload gets a last key `n`. One that stands for itself alone stays as it is, and
    /// so does one whose payload is not an object.
    ///
    /// # Errors
    /// As [`broadcast`](Self::broadcast).
    pub fn conflated(self, topic: &str, event: &str, payload: &Payload, n: u64) -> Result<Encoded, EncodeError> {
        let members = match payload {
            Payload::Json(json) if n > 1 => {
                let json = json.trim_ascii();
                json.strip_prefix(b"{").and(json.strip_suffix(b"}"))
            }
            _ => None,
        };
        let Some(members) = members else { return self.broadcast(topic, event, payload) };
        let comma = if members.trim_ascii_end() == b"{" { "" } else { "," };
        let end = format!(r#"{comma}"n":{n}}}"#);
        Ok(self.text(&Text::shared(topic, event, [members, end.as_bytes(), b""])))
    }

    /// Writes that a channel has ended as it should: left, stopped or replaced by a newer join.
    #[must_use]
    pub fn close(self, join_ref: Option<&Ref>, topic: &str) -> Encoded {
        self.text(&Text { join_ref, msg_ref: join_ref, topic, event: CLOSE, payload: [b"{}", b"", b""] })
    }

    /// Writes that a channel has crashed.
    #[must_use]
    pub fn error(self, join_ref: Option<&Ref>, topic: &str) -> Encoded {
        let payload: [&[u8]; 3] = [br#"{"reason":"channel_crash"}"#, b"", b""];
        self.text(&Text { join_ref, msg_ref: join_ref, topic, event: ERROR, payload })
    }

    fn text(self, message: &Text<'_>) -> Encoded {
        Encoded::build(Opcode::Text, message.len_hint(), |out| match self {
            Self::V1 => v1::encode(out, message),
            Self::V2 => v2::encode(out, message),
        })
    }
}

/// The whole WebSocket frame of a broadcast, to be shared by all sockets that write alike.
///
/// # Errors
/// As [`WireFormat::broadcast`].
pub fn broadcast_frame(wire: Wire, topic: &str, event: &str, payload: &Payload) -> Result<Bytes, EncodeError> {
    wire.format.broadcast(topic, event, payload).map(|encoded| encoded.into_frame_for(wire))
}

/// The whole WebSocket frame of a broadcast that stands for `n`, for one socket.
///
/// # Errors
/// As [`WireFormat::conflated`].
pub fn conflated_frame(wire: Wire, topic: &str, event: &str, payload: &Payload, n: u64) -> Result<Bytes, EncodeError> {
    wire.format.conflated(topic, event, payload, n).map(|encoded| encoded.into_frame_for(wire))
}

/// A message to be sent, with a WebSocket header ready in front of it for those who want one.
#[derive(Clone, PartialEq, Eq)]
pub struct Encoded {
    opcode: Opcode,
    /// [`Header::LEN_MAX`] bytes of room, whose end is the header, then the message.
    bytes: Bytes,
}

impl Encoded {
    /// Lets `write` append the message behind the room for the header, then fills the header in.
    fn build(opcode: Opcode, len_hint: usize, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut out = Vec::with_capacity(Header::LEN_MAX + len_hint);
        out.resize(Header::LEN_MAX, 0);
        write(&mut out);
        let header = Header::new(opcode, out.len() - Header::LEN_MAX);
        out[Header::LEN_MAX - header.as_ref().len()..Header::LEN_MAX].copy_from_slice(header.as_ref());
        Self { opcode, bytes: Bytes::from(out) }
    }

    /// Text or binary.
    #[must_use]
    pub fn opcode(&self) -> Opcode {
        self.opcode
    }

    /// The message alone.
    #[must_use]
    pub fn into_message(mut self) -> Bytes {
        self.bytes.split_off(Header::LEN_MAX)
    }

    /// The message as one whole unmasked WebSocket frame.
    #[must_use]
    pub fn into_frame(mut self) -> Bytes {
        let header = Header::new(self.opcode, self.bytes.len() - Header::LEN_MAX);
        self.bytes.split_off(Header::LEN_MAX - header.as_ref().len())
    }

    /// The message as one whole frame, compressed where that was negotiated.
    #[must_use]
    pub fn into_frame_for(self, wire: Wire) -> Bytes {
        match wire.deflate {
            None => self.into_frame(),
            Some(window) => compressed_frame(self.opcode, &self.bytes[Header::LEN_MAX..], window),
        }
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({})", self.opcode, self.bytes[Header::LEN_MAX..].escape_ascii())
    }
}

/// A message with a JSON payload, to be written in either format.
struct Text<'a> {
    join_ref: Option<&'a Ref>,
    msg_ref: Option<&'a Ref>,
    topic: &'a str,
    event: &'a str,
    /// Parts of one JSON text.
    payload: [&'a [u8]; 3],
}

impl<'a> Text<'a> {
    fn shared(topic: &'a str, event: &'a str, payload: [&'a [u8]; 3]) -> Self {
        Self { join_ref: None, msg_ref: None, topic, event, payload }
    }

    /// How long the message will be, unless something in it has to be escaped.
    fn len_hint(&self) -> usize {
        const AROUND: usize = 48;
        let refs = [self.join_ref, self.msg_ref].into_iter().flatten().map(|one| one.as_json().len()).sum::<usize>();
        AROUND + refs + self.topic.len() + self.event.len() + self.payload.iter().map(|part| part.len()).sum::<usize>()
    }

    fn write_payload(&self, out: &mut Vec<u8>) {
        for part in self.payload {
            out.extend_from_slice(part);
        }
    }
}

fn write_ref(out: &mut Vec<u8>, reference: Option<&Ref>) {
    out.extend_from_slice(reference.map_or(b"null", Ref::as_json));
}
