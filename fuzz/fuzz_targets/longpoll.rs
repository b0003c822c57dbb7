//! Bodies of long polling: the first byte says whether it is a batch, the others are the body.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tickwire_channels::{
    PollMessage, WireFormat,
    longpoll::{BATCH, BadBody, LINES_MAX, messages},
};

fuzz_target!(|data: &[u8]| {
    let Some((kind, body)) = data.split_first() else { return };
    let body = Bytes::copy_from_slice(body);
    let content_type = (kind & 1 == 1).then_some(BATCH);
    let taken = messages(content_type, &body, usize::MAX);
    match &taken {
        Ok(messages) => check(content_type, &body, messages),
        Err(BadBody::Base64 { line }) => assert!((1..=LINES_MAX).contains(line)),
        Err(error @ BadBody::TooBig { .. }) => panic!("{error}"),
    }
    let bounded = messages(content_type, &body, 16);
    assert!(bounded.is_err() || bounded == taken, "a bound changes nothing that is within it");
});

fn check(content_type: Option<&[u8]>, body: &Bytes, messages: &[PollMessage]) {
    if content_type.is_none() {
        assert_eq!(messages, [PollMessage::Text(body.clone())]);
    }
    assert!(messages.len() <= LINES_MAX);
    for message in messages {
        let (PollMessage::Text(bytes) | PollMessage::Binary(bytes)) = message;
        assert!(bytes.len() <= body.len(), "nothing is made of nothing");
        // What a session does with them next.
        for format in WireFormat::ALL {
            let _ = match message {
                // One that is no UTF-8 is refused before.
                PollMessage::Text(text) if std::str::from_utf8(text).is_err() => continue,
                PollMessage::Text(text) => format.decode_text(text),
                PollMessage::Binary(data) => format.decode_binary(data),
            };
        }
    }
}
