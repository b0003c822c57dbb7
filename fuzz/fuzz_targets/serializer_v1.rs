//! Messages of protocol V1: read as another reader would, written so that they read back.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tickwire_channels::{
    Status, WireFormat,
    json::{canonical, write_string},
    message::{Message, Payload, Ref},
    serializer::{Push, Reply},
};
use tickwire_fuzz::{Json, nests_deeper_than};

fuzz_target!(|data: &[u8]| {
    let text = Bytes::copy_from_slice(data);
    let decoded = WireFormat::V1.decode_text(&text);
    assert_eq!(decoded, WireFormat::V1.decode_binary(&text), "old clients send the same text as binary");
    let theirs = serde_json::from_slice::<Json>(data).ok();
    match (&decoded, &theirs) {
        (Ok(message), theirs) => {
            if let Some(theirs) = theirs {
                check_fields(message, theirs);
            }
            check_back(message);
            if !nests_deeper_than(data, 100) && theirs.is_some() {
                check_written(message);
            }
        }
        (Err(error), Some(theirs)) => {
            let string = |key| theirs.get(key).is_some_and(|value| value.as_text().is_some());
            let whole =
                string("topic") && string("event") && theirs.get("ref").is_some() && theirs.get("payload").is_some();
            // A key that counts twice is decided by its first.
            assert!(!whole || error.to_string().contains("beyond the range"), "{error}");
        }
        (Err(_), None) => {}
    }
});

fn check_fields(message: &Message, theirs: &Json) {
    assert_eq!(theirs.get("topic").and_then(Json::as_text), Some(message.topic.as_str()));
    assert_eq!(theirs.get("event").and_then(Json::as_text), Some(message.event.as_str()));
    assert_eq!(theirs.get("payload"), Some(&Json::of(message.payload.bytes())));
    for (key, reference) in [("ref", &message.msg_ref), ("join_ref", &message.join_ref)] {
        let seen = reference.as_ref().map_or(Json::Null, |reference| Json::of(reference.as_json()));
        assert_eq!(*theirs.get(key).unwrap_or(&Json::Null), seen, "{key}");
    }
}

fn json_of(reference: Option<&Ref>) -> &[u8] {
    reference.map_or(b"null", Ref::as_json)
}

/// As a client would send it.
fn check_back(message: &Message) {
    assert_eq!(canonical(message.payload.bytes()).as_ref(), Ok(message.payload.bytes()));
    let mut text = br#"{"join_ref":"#.to_vec();
    text.extend_from_slice(json_of(message.join_ref.as_ref()));
    text.extend_from_slice(br#","ref":"#);
    text.extend_from_slice(json_of(message.msg_ref.as_ref()));
    for (key, value) in [("topic", &message.topic), ("event", &message.event)] {
        text.extend_from_slice(format!(",\"{key}\":").as_bytes());
        write_string(&mut text, value);
    }
    text.extend_from_slice(br#","payload":"#);
    text.extend_from_slice(message.payload.bytes());
    text.push(b'}');
    assert_eq!(WireFormat::V1.decode_text(&Bytes::from(text)).as_ref(), Ok(message));
}

/// As the server sends it.
fn check_written(Message { join_ref, msg_ref, topic, event, payload }: &Message) {
    let v1 = WireFormat::V1;
    let push = v1.push(&Push { join_ref: join_ref.as_ref(), topic, event, payload }).expect("JSON").into_message();
    assert_eq!(push, v1.broadcast(topic, event, payload).expect("JSON").into_message(), "V1 has no join_ref");
    let push = Json::of(&push);
    assert_eq!(push.get("topic").and_then(Json::as_text), Some(topic.as_str()));
    assert_eq!(push.get("event").and_then(Json::as_text), Some(event.as_str()));
    assert_eq!((push.get("ref"), push.get("payload")), (Some(&Json::Null), Some(&Json::of(payload.bytes()))));

    let (join, msg) = (join_ref.as_ref(), msg_ref.as_ref());
    let reply = Reply { join_ref: join, msg_ref: msg, topic, status: Status::Error, response: payload };
    let reply = Json::of(&v1.reply(&reply).expect("JSON").into_message());
    assert_eq!(reply.get("ref"), Some(&Json::of(json_of(msg))));
    let inner = reply.get("payload").expect("a payload");
    assert_eq!(
        (inner.get("status"), inner.get("response")),
        (Some(&Json::Text("error".into())), Some(&Json::of(payload.bytes())))
    );

    let conflated = Json::of(&v1.conflated(topic, event, payload, 7).expect("JSON").into_message());
    let mut expected = Json::of(payload.bytes());
    if let Json::Object(members) = &mut expected
        && !members.iter().any(|(key, _)| key == "n")
    {
        members.push(("n".into(), Json::Unsigned(7)));
    }
    assert_eq!(conflated.get("payload"), Some(&expected));
    let binary = Payload::Binary(payload.bytes().clone());
    assert!(v1.broadcast(topic, event, &binary).is_err(), "V1 has no binary form");
}
