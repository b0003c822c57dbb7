//! What a client of long polling sends in one request, taken apart. Pure.
//!
//! Sessions are opened, polled and published to by [`Workers`](crate::Workers::open).

use base64::{
    Engine, alphabet,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;

use crate::worker::PollMessage;

/// The content type of a body with a message on each line. WIRE: exactly this, without parameters.
pub const BATCH: &[u8] = b"application/x-ndjson";

/// Lines of a batch that are handled. WIRE: the rest is dropped without a word.
pub const LINES_MAX: usize = 100;

/// As strict as Phoenix: padded, but with any bits behind the last byte.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// Why a body cannot be taken apart. Nothing of it is handled then, and its session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    /// Neither a text message nor base64.
    #[error("line {line} of the batch neither starts with [ nor is it base64")]
    Base64 {
        /// Counted from 1.
        line: usize,
    },
    /// A message above the limit of frames.
    #[error("a message of {len} bytes, the limit is {max}")]
    TooBig {
        /// Its length in bytes.
        len: usize,
        /// The limit.
        max: usize,
    },
}

/// The messages in a body, none of which may be longer than `message_max` bytes.
///
/// A batch has one on each line, ended by `\n` or `\r\n`: text if it starts with `[`, base64 of a binary message if not. Empty lines are no
/// messages. A body of any other type is one text message.
///
/// # Errors
/// If a line is neither, or a message is too long.
pub fn messages(content_type: Option<&[u8]>, body: &Bytes, message_max: usize) -> Result<Vec<PollMessage>, BadBody> {
    let messages = if content_type == Some(BATCH) {
        let lines = lines(body).take(LINES_MAX).enumerate().filter(|(_, line)| !line.is_empty());
        lines.map(|(at, line)| message(body, line, at + 1)).collect::<Result<Vec<_>, _>>()?
    } else {
        vec![PollMessage::Text(body.clone())]
    };
    let too_big = messages.iter().map(PollMessage::len).find(|len| *len > message_max);
    too_big.map_or(Ok(messages), |len| Err(BadBody::TooBig { len, max: message_max }))
}

fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(body);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = memchr::memchr(b'\n', text) else { return rest.take() };
        rest = Some(&text[end + 1..]);
        let line = &text[..end];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    })
}

fn message(body: &Bytes, line: &[u8], number: usize) -> Result<PollMessage, BadBody> {
    if line.starts_with(b"[") {
        return Ok(PollMessage::Text(body.slice_ref(line)));
    }
    let data = BASE64.decode(line).map_err(|_| BadBody::Base64 { line: number })?;
    Ok(PollMessage::Binary(data.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANY: usize = usize::MAX;

    fn text(text: &'static str) -> PollMessage {
        PollMessage::Text(Bytes::from_static(text.as_bytes()))
    }

    fn binary(data: &'static [u8]) -> PollMessage {
        PollMessage::Binary(Bytes::from_static(data))
    }

    fn check(body: &'static str, expected: &[PollMessage]) {
        assert_eq!(
            messages(Some(BATCH), &Bytes::from_static(body.as_bytes()), ANY).as_deref(),
            Ok(expected),
            "{body:?}"
        );
    }

    #[test]
    fn a_batch_has_a_message_on_each_line() {
        check("[1]\n[2]", &[text("[1]"), text("[2]")]);
        check("[1]\r\n[2]", &[text("[1]"), text("[2]")]);
        check("[1]\nAAECAw==", &[text("[1]"), binary(&[0, 1, 2, 3])]);
        // Many writers of such lines end the last one too.
        check("[1]\n", &[text("[1]")]);
        check("", &[]);
        check("\r\n\n", &[]);
        // A carriage return alone ends no line; in JSON it is space.
        check("[1]\r[2]", &[text("[1]\r[2]")]);
        check("[1]\r", &[text("[1]\r")]);
    }

    #[test]
    fn what_is_no_base64_is_named_and_nothing_is_taken() {
        for (body, line) in [("{}", 1), ("[1]\n!", 2), ("AAEC Aw==", 1), ("\nAAE", 2), ("AA-_", 1), (" [1]", 1)] {
            let refused = messages(Some(BATCH), &Bytes::from_static(body.as_bytes()), ANY);
            assert_eq!(refused, Err(BadBody::Base64 { line }), "{body:?}");
        }
    }

    #[test]
    fn only_the_first_hundred_lines_are_looked_at() {
        let body = Bytes::from(format!("{}!", "[1]\n".repeat(LINES_MAX)));
        assert_eq!(messages(Some(BATCH), &body, ANY).unwrap().len(), LINES_MAX);
    }

    #[test]
    fn any_other_type_is_one_text_message() {
        let body = Bytes::from_static(b"[1]\n[2]");
        for content_type in [
            None,
            Some(&b"application/json"[..]),
            Some(b"application/x-ndjson; charset=utf-8"),
            Some(b"Application/X-NDJSON"),
        ] {
            assert_eq!(messages(content_type, &body, ANY), Ok(vec![PollMessage::Text(body.clone())]));
        }
    }

    #[test]
    fn a_message_above_the_limit_of_frames_is_refused() {
        let body = Bytes::from_static(b"[1]\n[1234]");
        assert_eq!(messages(Some(BATCH), &body, 5), Err(BadBody::TooBig { len: 6, max: 5 }));
        assert_eq!(messages(Some(BATCH), &body, 6).unwrap().len(), 2);
        assert_eq!(messages(None, &body, 9), Err(BadBody::TooBig { len: 10, max: 9 }));
    }

    proptest! {
        #[test]
        fn whatever_a_batch_is_made_of_comes_out_again(
            sent in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 1..40)), 0..LINES_MAX),
            crlf in any::<bool>(),
        ) {
            let (mut lines, mut expected) = (Vec::new(), Vec::new());
            for (is_text, data) in sent {
                if is_text {
                    let line: Vec<u8> = std::iter::once(b'[').chain(data.into_iter().filter(|byte| *byte != b'\n' && *byte != b'\r')).collect();
                    expected.push(PollMessage::Text(line.clone().into()));
                    lines.push(line);
                } else {
                    lines.push(BASE64.encode(&data).into_bytes());
                    expected.push(PollMessage::Binary(data.into()));
                }
            }
            let body = lines.join(if crlf { &b"\r\n"[..] } else { b"\n" });
            prop_assert_eq!(messages(Some(BATCH), &body.into(), ANY), Ok(expected));
        }

        #[test]
        fn no_body_is_too_strange(body in prop::collection::vec(any::<u8>(), 0..2_000), max in 0usize..3_000) {
            for content_type in [None, Some(BATCH)] {
                let taken = messages(content_type, &body.clone().into(), max);
                prop_assert!(taken.is_err() || taken.unwrap().len() <= LINES_MAX);
            }
        }
    }
}
