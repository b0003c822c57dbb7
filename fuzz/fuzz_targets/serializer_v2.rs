//! Messages of protocol V2, text and binary: read as another reader would, written so that our own client reads them.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tickwire_channels::{
    Status, WireFormat,
    json::{canonical, write_string},
    message::{Message, Payload, Ref},
    serializer::{EncodeError, Encoded, Push, REPLY, Reply},
    websocket::Opcode,
};
use tickwire_client::wire::{self, Body, Incoming};
use tickwire_fuzz::{Json, nests_deeper_than};

const V2: WireFormat = WireFormat::V2;

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    check_text(data, &bytes);
    if let Ok(message) = V2.decode_binary(&bytes) {
        check_binary_back(&message);
        check_written(&message);
    }
    // What a client may be sent must not harm it either.
    let _ = wire::decode_binary(&bytes);
    let _ = std::str::from_utf8(data).map(wire::decode_text);
});

fn check_text(data: &[u8], bytes: &Bytes) {
    let decoded = V2.decode_text(bytes);
    let theirs = serde_json::from_slice::<Json>(data).ok();
    match (&decoded, &theirs) {
        (Ok(message), theirs) => {
            if let Some(theirs) = theirs {
                check_fields(message, theirs);
            }
            check_text_back(message);
            if theirs.is_some() && !nests_deeper_than(data, 100) {
                check_written(message);
            }
        }
        (Err(error), Some(theirs)) => {
            let string = |index| theirs.at(index).is_some_and(|value| value.as_text().is_some());
            let whole = string(2) && string(3) && theirs.at(4).is_some();
            assert!(!whole || error.to_string().contains("beyond the range"), "{error}");
        }
        (Err(_), None) => {}
    }
}

fn check_fields(message: &Message, theirs: &Json) {
    for (index, reference) in [&message.join_ref, &message.msg_ref].into_iter().enumerate() {
        let seen = reference.as_ref().map_or(Json::Null, |reference| Json::of(reference.as_json()));
        assert_eq!(theirs.at(index), Some(&seen));
    }
    assert_eq!(theirs.at(2).and_then(Json::as_text), Some(message.topic.as_str()));
    assert_eq!(theirs.at(3).and_then(Json::as_text), Some(message.event.as_str()));
    assert_eq!(theirs.at(4), Some(&Json::of(message.payload.bytes())));
}

fn check_text_back(message: &Message) {
    assert_eq!(canonical(message.payload.bytes()).as_ref(), Ok(message.payload.bytes()));
    let mut text = b"[".to_vec();
    for reference in [&message.join_ref, &message.msg_ref] {
        text.extend_from_slice(reference.as_ref().map_or(b"null".as_slice(), Ref::as_json));
        text.push(b',');
    }
    for name in [&message.topic, &message.event] {
        write_string(&mut text, name);
        text.push(b',');
    }
    text.extend_from_slice(message.payload.bytes());
    text.push(b']');
    assert_eq!(V2.decode_text(&Bytes::from(text)).as_ref(), Ok(message));
}

fn check_binary_back(message: &Message) {
    let fields = [
        message.join_ref.as_ref().map(Ref::to_plain).unwrap_or_default().into_owned(),
        message.msg_ref.as_ref().map(Ref::to_plain).unwrap_or_default().into_owned(),
        message.topic.clone().into_bytes(),
        message.event.clone().into_bytes(),
    ];
    let mut binary = vec![0];
    binary.extend(fields.iter().map(|field| u8::try_from(field.len()).expect("it came in one byte")));
    binary.extend(fields.concat());
    binary.extend_from_slice(message.payload.bytes());
    assert_eq!(V2.decode_binary(&Bytes::from(binary)).as_ref(), Ok(message));
}

/// The reference as our client knows it: it makes strings only.
fn plain(reference: Option<&Ref>) -> Option<Option<String>> {
    let Some(reference) = reference else { return Some(None) };
    serde_json::from_slice(reference.as_json()).ok().map(Some)
}

/// As a client reads what was written. A missing reference is an empty one in a binary message.
fn read(encoded: Encoded) -> Incoming {
    let binary = encoded.opcode() == Opcode::Binary;
    let message = encoded.into_message();
    let read = if binary {
        wire::decode_binary(&message)
    } else {
        wire::decode_text(std::str::from_utf8(&message).expect("a text is UTF-8"))
    };
    read.unwrap_or_else(|error| panic!("{}: {error}", message.escape_ascii()))
}

fn too_long(error: EncodeError, fields: &[&[u8]], binary: bool) {
    assert!(matches!(error, EncodeError::FieldTooLong { .. }), "{error}");
    assert!(binary && fields.iter().any(|field| field.len() > 255), "{error}");
}

fn check_written(Message { join_ref, msg_ref, topic, event, payload }: &Message) {
    let binary = matches!(payload, Payload::Binary(_));
    let (Some(join), Some(msg)) = (plain(join_ref.as_ref()), plain(msg_ref.as_ref())) else { return };
    let known = |reference: &Option<String>| reference.clone().filter(|text| !binary || !text.is_empty());
    if event != REPLY {
        match V2.push(&Push { join_ref: join_ref.as_ref(), topic, event, payload }) {
            Ok(encoded) => {
                let body = Body::Event { event: event.clone(), payload: payload.clone() };
                assert_eq!(
                    read(encoded),
                    Incoming { join_ref: known(&join), msg_ref: None, topic: topic.clone(), body }
                );
            }
            Err(error) => {
                too_long(error, &[topic.as_bytes(), event.as_bytes(), join.as_deref().unwrap_or("").as_bytes()], binary)
            }
        }
        match V2.broadcast(topic, event, payload) {
            Ok(encoded) => {
                let body = Body::Event { event: event.clone(), payload: payload.clone() };
                assert_eq!(read(encoded), Incoming { join_ref: None, msg_ref: None, topic: topic.clone(), body });
            }
            Err(error) => too_long(error, &[topic.as_bytes(), event.as_bytes()], binary),
        }
    }
    let reply =
        Reply { join_ref: join_ref.as_ref(), msg_ref: msg_ref.as_ref(), topic, status: Status::Ok, response: payload };
    match V2.reply(&reply) {
        Ok(encoded) => {
            let body = Body::Reply { ok: true, response: payload.clone() };
            let expected = Incoming { join_ref: known(&join), msg_ref: known(&msg), topic: topic.clone(), body };
            assert_eq!(read(encoded), expected);
        }
        Err(error) => {
            let refs = [join.as_deref().unwrap_or("").as_bytes(), msg.as_deref().unwrap_or("").as_bytes()];
            too_long(error, &[topic.as_bytes(), refs[0], refs[1]], binary);
        }
    }
}
