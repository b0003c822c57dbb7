use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn json(text: &str) -> Payload {
    Payload::Json(Bytes::copy_from_slice(text.as_bytes()))
}

/// A reference from its JSON text; `null` is none.
fn reference(json: &str) -> Option<Ref> {
    Ref::from_canonical(json.as_bytes())
}

fn text(encoded: Encoded) -> String {
    assert_eq!(encoded.opcode(), Opcode::Text);
    String::from_utf8(encoded.into_message().to_vec()).unwrap()
}

fn decode(format: WireFormat, message: &str) -> Result<Message, DecodeError> {
    format.decode_text(&Bytes::copy_from_slice(message.as_bytes()))
}

fn message(join_ref: &str, msg_ref: &str, topic: &str, event: &str, payload: &str) -> Message {
    Message {
        join_ref: reference(join_ref),
        msg_ref: reference(msg_ref),
        topic: topic.to_owned(),
        event: event.to_owned(),
        payload: json(payload),
    }
}

#[test]
fn vsn_is_a_full_version() {
    for (vsn, expected) in [
        (None, Some(WireFormat::V1)),
        (Some("1.0.0"), Some(WireFormat::V1)),
        (Some("1.0.10"), Some(WireFormat::V1)),
        (Some("2.0.0"), Some(WireFormat::V2)),
        (Some("2.0.123456789012345678901234567890"), Some(WireFormat::V2)),
    ] {
        assert_eq!(WireFormat::from_vsn(vsn).ok(), expected, "{vsn:?}");
    }
    for bad in [
        "3.0.0",
        "2.1.0",
        "1.1.0",
        "2",
        "2.0",
        "2.0.",
        "",
        "v2.0.0",
        "02.0.0",
        " 2.0.0",
        "2.0.0 ",
        "2.0.0-rc.1",
        "2.0.00",
        "2.0.01",
        "2.0.0.0",
        "2.0.x",
        "2.0.+1",
        "2.0.٣",
    ] {
        assert_eq!(WireFormat::from_vsn(Some(bad)), Err(BadVsn { seen: bad.to_owned() }));
    }
    assert_eq!(WireFormat::ALL.map(WireFormat::index), [0, 1]);
}

#[test]
fn v2_messages_are_read() {
    for (given, expected) in [
        (r#"["1","2","room:a","phx_join",{}]"#, message("\"1\"", "\"2\"", "room:a", "phx_join", "{}")),
        (r#"[null,"2","phoenix","heartbeat",{}]"#, message("null", "\"2\"", "phoenix", "heartbeat", "{}")),
        (r#" [ 1 , 2.0 , "a" , "b" , [ ] ] "#, message("1", "2.0", "a", "b", "[]")),
        (r#"[{"a":1},[2],"","",null]"#, message("{\"a\":1}", "[2]", "", "", "null")),
        (r#"[true,"\u0041","caf\u00e9 \"x\"","\n","\u00e9"]"#, message("true", "\"A\"", "café \"x\"", "\n", "\"é\"")),
        (r#"[null,null,"t","e",{"a":1,"a":2},"extra",{"x":[1]}]"#, message("null", "null", "t", "e", r#"{"a":1}"#)),
        (
            r#"[null,null,"t","e",123456789012345678901234567890.10]"#,
            message("null", "null", "t", "e", "123456789012345678901234567890.10"),
        ),
    ] {
        assert_eq!(decode(WireFormat::V2, given), Ok(expected), "{given}");
    }
}

#[test]
fn v2_shapes_are_checked() {
    for bad in [
        "{}",
        "null",
        "1",
        "\"text\"",
        "[]",
        "[ ]",
        r#"["1"]"#,
        r#"["1","1","t","e"]"#,
        r#"["1","1",null,"e",{}]"#,
        r#"["1","1",5,"e",{}]"#,
        r#"["1","1","t",["e"],{}]"#,
        r#"{"topic":"t","event":"e","payload":{},"ref":null}"#,
    ] {
        assert!(matches!(decode(WireFormat::V2, bad), Err(DecodeError::Shape { .. })), "{bad}");
    }
    for bad in [
        "",
        " ",
        "x",
        "{\"a\":}",
        "[",
        "[1",
        r#"["1","1","t","e",{}"#,
        r#"["1","1","t","e",{}]x"#,
        r#"["1","1","t","e",{},]"#,
        r#"["1","1","t","e",{} {}]"#,
        r#"["1","1","t","e",{},"\ud800"]"#,
        r#"["1","1","\udc00","e",{}]"#,
        r#"["1","1","t","e",1e999]"#,
    ] {
        assert!(matches!(decode(WireFormat::V2, bad), Err(DecodeError::Json(_))), "{bad}");
    }
    assert!(matches!(
        WireFormat::V2.decode_text(&Bytes::from_static(b"[\xff]")),
        Err(DecodeError::Json(JsonError::Utf8))
    ));
}

#[test]
fn v1_messages_are_read() {
    for (given, expected) in [
        (
            r#"{"topic":"room:a","event":"phx_join","payload":{},"ref":"1"}"#,
            message("null", "\"1\"", "room:a", "phx_join", "{}"),
        ),
        (r#"{"ref":1,"payload":null,"event":"e","topic":"t","join_ref":"7"}"#, message("\"7\"", "1", "t", "e", "null")),
        (
            r#" { "x" : [1,{"topic":2}] , "top\u0069c" : "t\/" , "topic" : 5 , "event" : "e" , "payload" : [ 1 ] , "ref" : null } "#,
            message("null", "null", "t/", "e", "[1]"),
        ),
        (
            r#"{"topic":"t","event":"e","payload":1,"payload":2,"ref":"a","ref":"b","join_ref":null,"join_ref":"1"}"#,
            message("null", "\"a\"", "t", "e", "1"),
        ),
    ] {
        assert_eq!(decode(WireFormat::V1, given), Ok(expected.clone()), "{given}");
        let bytes = Bytes::copy_from_slice(given.as_bytes());
        assert_eq!(WireFormat::V1.decode_binary(&bytes), Ok(expected), "V1 reads JSON in binary frames too");
    }
}

#[test]
fn v1_shapes_are_checked() {
    for bad in [
        "{}",
        "{ }",
        "[]",
        "1",
        r#"["1","1","t","e",{}]"#,
        r#"{"event":"e","payload":{},"ref":"1"}"#,
        r#"{"topic":"t","payload":{},"ref":"1"}"#,
        r#"{"topic":"t","event":"e","ref":"1"}"#,
        r#"{"topic":"t","event":"e","payload":{}}"#,
        r#"{"topic":1,"event":"e","payload":{},"ref":"1"}"#,
        r#"{"topic":"t","event":null,"payload":{},"ref":"1"}"#,
    ] {
        assert!(matches!(decode(WireFormat::V1, bad), Err(DecodeError::Shape { .. })), "{bad}");
    }
    for bad in [
        "",
        "{",
        "{1}",
        r#"{"topic"}"#,
        r#"{"topic":"t",}"#,
        r#"{"topic":"t" "event":"e"}"#,
        r#"{"x":1e999}"#,
        "{}x",
        "x",
    ] {
        assert!(matches!(decode(WireFormat::V1, bad), Err(DecodeError::Json(_))), "{bad}");
    }
}

#[test]
fn binary_messages_are_read() {
    let read = |bytes: &'static [u8]| WireFormat::V2.decode_binary(&Bytes::from_static(bytes));
    let expected = Message {
        join_ref: Some(Ref::text("1")),
        msg_ref: Some(Ref::text("23")),
        topic: "room:é".to_owned(),
        event: "ev".to_owned(),
        payload: Payload::Binary(Bytes::from_static(b"\0\xffdata")),
    };
    assert_eq!(read(b"\0\x01\x02\x07\x02123room:\xc3\xa9ev\0\xffdata"), Ok(expected));
    let empty = read(b"\0\0\0\0\0").unwrap();
    assert_eq!(empty.join_ref, Some(Ref::text("")), "the empty string, not null");
    assert_eq!((empty.topic.as_str(), empty.payload), ("", Payload::Binary(Bytes::new())));
    for (bad, error) in [
        (&b""[..], DecodeError::Kind { seen: None }),
        (b"\x01\0\0\0\0", DecodeError::Kind { seen: Some(1) }),
        (b"\x02\x01\x01te", DecodeError::Kind { seen: Some(2) }),
        (b"[null,\"1\",\"t\",\"e\",{}]", DecodeError::Kind { seen: Some(b'[') }),
        (b"\0\0\0\0", DecodeError::Short { seen: 4, expected: 5 }),
        (b"\0", DecodeError::Short { seen: 1, expected: 5 }),
        (b"\0\x01\x01\x01\x02abcd", DecodeError::Short { seen: 9, expected: 10 }),
        (b"\0\xff\xff\xff\xff", DecodeError::Short { seen: 5, expected: 1025 }),
        (b"\0\0\0\x01\0\xff", DecodeError::Utf8 { field: "topic" }),
        (b"\0\x01\0\0\0\xc3\xa9", DecodeError::Utf8 { field: "join_ref" }),
    ] {
        assert_eq!(WireFormat::V2.decode_binary(&Bytes::from_static(bad)), Err(error));
    }
}

#[test]
fn json_messages_are_written() {
    let (join_ref, msg_ref, response) = (reference("\"1\""), reference("3"), json(r#"{"a":"é"}"#));
    let reply = |status| Reply {
        join_ref: join_ref.as_ref(),
        msg_ref: msg_ref.as_ref(),
        topic: "room:\"é\"\u{1}",
        status,
        response: &response,
    };
    let push = Push { join_ref: join_ref.as_ref(), topic: "t", event: "e\\", payload: &response };
    let empty = Payload::empty();
    let unmatched = Reply { join_ref: None, msg_ref: None, topic: "", status: Status::Ok, response: &empty };
    let encoded = |format: WireFormat| {
        [
            format.reply(&reply(Status::Ok)),
            format.reply(&reply(Status::Error)),
            format.reply(&unmatched),
            format.push(&push),
            format.broadcast("t", "e", &json("[1]")),
            Ok(format.close(join_ref.as_ref(), "t")),
            Ok(format.error(join_ref.as_ref(), "t")),
            Ok(format.close(None, "t")),
        ]
        .map(|encoded| text(encoded.unwrap()))
    };
    assert_eq!(
        encoded(WireFormat::V2),
        [
            r#"["1",3,"room:\"é\"\u0001","phx_reply",{"status":"ok","response":{"a":"é"}}]"#,
            r#"["1",3,"room:\"é\"\u0001","phx_reply",{"status":"error","response":{"a":"é"}}]"#,
            r#"[null,null,"","phx_reply",{"status":"ok","response":{}}]"#,
            r#"["1",null,"t","e\\",{"a":"é"}]"#,
            r#"[null,null,"t","e",[1]]"#,
            r#"["1","1","t","phx_close",{}]"#,
            r#"["1","1","t","phx_error",{"reason":"channel_crash"}]"#,
            r#"[null,null,"t","phx_close",{}]"#,
        ]
    );
    assert_eq!(
        encoded(WireFormat::V1),
        [
            r#"{"topic":"room:\"é\"\u0001","event":"phx_reply","ref":3,"payload":{"status":"ok","response":{"a":"é"}}}"#,
            r#"{"topic":"room:\"é\"\u0001","event":"phx_reply","ref":3,"payload":{"status":"error","response":{"a":"é"}}}"#,
            r#"{"topic":"","event":"phx_reply","ref":null,"payload":{"status":"ok","response":{}}}"#,
            r#"{"topic":"t","event":"e\\","ref":null,"payload":{"a":"é"}}"#,
            r#"{"topic":"t","event":"e","ref":null,"payload":[1]}"#,
            r#"{"topic":"t","event":"phx_close","ref":"1","payload":{}}"#,
            r#"{"topic":"t","event":"phx_error","ref":"1","payload":{"reason":"channel_crash"}}"#,
            r#"{"topic":"t","event":"phx_close","ref":null,"payload":{}}"#,
        ]
    );
}

#[test]
fn binary_messages_are_written() {
    let (join_ref, msg_ref) = (Ref::text("12"), reference("345"));
    let payload = Payload::Binary(Bytes::from_static(b"\x01\xff"));
    let reply = Reply {
        join_ref: Some(&join_ref),
        msg_ref: msg_ref.as_ref(),
        topic: "r:é",
        status: Status::Error,
        response: &payload,
    };
    let push = Push { join_ref: Some(&join_ref), topic: "t", event: "ev", payload: &payload };
    let bare = Push { join_ref: None, topic: "t", event: "ev", payload: &payload };
    let format = WireFormat::V2;
    for (encoded, expected) in [
        (format.reply(&reply), &b"\x01\x02\x03\x04\x0512345r:\xc3\xa9error\x01\xff"[..]),
        (
            format.reply(&Reply { msg_ref: None, status: Status::Ok, ..reply }),
            b"\x01\x02\0\x04\x0212r:\xc3\xa9ok\x01\xff",
        ),
        (format.push(&push), b"\0\x02\x01\x0212tev\x01\xff"),
        (format.push(&bare), b"\0\0\x01\x02tev\x01\xff"),
        (format.broadcast("t", "ev", &payload), b"\x02\x01\x02tev\x01\xff"),
        (format.conflated("t", "ev", &payload, 7), b"\x02\x01\x02tev\x01\xff"),
    ] {
        let encoded = encoded.unwrap();
        assert_eq!(encoded.opcode(), Opcode::Binary);
        let whole = [&[0x82, u8::try_from(expected.len()).unwrap()], expected].concat();
        assert_eq!(&encoded.clone().into_frame()[..], &whole[..]);
        assert_eq!(&encoded.into_message()[..], expected);
    }
    let v1 = WireFormat::V1;
    let refused =
        [v1.reply(&reply), v1.push(&push), v1.broadcast("t", "e", &payload), v1.conflated("t", "e", &payload, 2)];
    assert!(refused.iter().all(|encoded| *encoded == Err(EncodeError::BinaryInV1)));
}

#[test]
fn a_long_field_cannot_be_binary() {
    let binary = Payload::Binary(Bytes::from_static(b"x"));
    let (long, longest) = ("t".repeat(256), "é".repeat(127));
    let too_long = |field, len| Err(EncodeError::FieldTooLong { field, len });
    let format = WireFormat::V2;
    assert!(format.broadcast(&longest, &longest, &binary).is_ok());
    assert_eq!(format.broadcast(&long, "e", &binary), too_long("topic", 256));
    let long_ref = Ref::text(&"1".repeat(300));
    let push = Push { join_ref: Some(&long_ref), topic: "t", event: "e", payload: &binary };
    assert_eq!(format.push(&push), too_long("join_ref", 300));
    assert_eq!(format.push(&Push { join_ref: None, event: &long, ..push }), too_long("event", 256));
    assert!(format.push(&Push { topic: &long, payload: &json("{}"), ..push }).is_ok(), "text has no such limit");
}

#[test]
fn conflated_updates_say_for_how_many_they_stand() {
    let conflated = |format: WireFormat, payload: &str, n| text(format.conflated("t", "e", &json(payload), n).unwrap());
    for (payload, n, expected) in [
        (r#"{"a":1}"#, 3, r#"{"a":1,"n":3}"#),
        (r#"{"a":{}}"#, u64::MAX, r#"{"a":{},"n":18446744073709551615}"#),
        ("{}", 2, r#"{"n":2}"#),
        ("{ }", 2, r#"{ "n":2}"#),
        (" {\"a\":1 } ", 2, r#"{"a":1 ,"n":2}"#),
        (r#"{"a":1}"#, 1, r#"{"a":1}"#),
        (r#"{"a":1}"#, 0, r#"{"a":1}"#),
        ("[{}]", 2, "[{}]"),
        ("\"{}\"", 2, "\"{}\""),
        ("null", 2, "null"),
    ] {
        assert_eq!(conflated(WireFormat::V2, payload, n), format!(r#"[null,null,"t","e",{expected}]"#));
        let v1 = format!(r#"{{"topic":"t","event":"e","ref":null,"payload":{expected}}}"#);
        assert_eq!(conflated(WireFormat::V1, payload, n), v1);
    }
}

#[test]
fn frames_have_the_header_of_their_length() {
    for len in [0, 1, 100, 125, 126, 1000, 65_535, 65_536, 70_000] {
        for format in WireFormat::ALL {
            let payload = json(&format!("\"{}\"", "x".repeat(len)));
            let message = format.broadcast("t", "e", &payload).unwrap().into_message();
            let frame = broadcast_frame(format.into(), "t", "e", &payload).unwrap();
            let header = Header::new(Opcode::Text, message.len());
            assert_eq!(frame, [header.as_ref(), &message[..]].concat());
        }
    }
    let frame = conflated_frame(WireFormat::V2.into(), "t", "e", &Payload::empty(), 5).unwrap();
    assert_eq!(&frame[..], b"\x81\x1b[null,null,\"t\",\"e\",{\"n\":5}]");
}

fn any_ref() -> impl Strategy<Value = Option<Ref>> {
    prop_oneof![
        Just(None),
        any::<String>().prop_map(|text| Some(Ref::text(&text))),
        any::<i64>().prop_map(|number| reference(&number.to_string())),
    ]
}

fn any_payload() -> impl Strategy<Value = String> {
    let leaf =
        prop_oneof![any::<i32>().prop_map(Value::from), any::<String>().prop_map(Value::from), Just(Value::Null)];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    });
    value.prop_map(|value| value.to_string())
}

proptest! {
    #[test]
    fn json_messages_survive_the_wire(
        join_ref in any_ref(), msg_ref in any_ref(), topic in any::<String>(), event in any::<String>(), payload in any_payload(), n in 2_u64..
    ) {
        let body = json(&payload);
        for format in WireFormat::ALL {
            let push = Push { join_ref: join_ref.as_ref(), topic: &topic, event: &event, payload: &body };
            let seen = format.decode_text(&format.push(&push).unwrap().into_message()).unwrap();
            // V1 has no join_ref.
            let join_ref = join_ref.clone().filter(|_| format == WireFormat::V2);
            let expected = Message { join_ref, msg_ref: None, topic: topic.clone(), event: event.clone(), payload: body.clone() };
            prop_assert_eq!(&seen, &expected);

            let reply = Reply { join_ref: None, msg_ref: msg_ref.as_ref(), topic: &topic, status: Status::Ok, response: &body };
            let seen = format.decode_text(&format.reply(&reply).unwrap().into_message()).unwrap();
            prop_assert_eq!(&seen.msg_ref, &msg_ref);
            let response = format!(r#"{{"status":"ok","response":{payload}}}"#);
            prop_assert_eq!(seen.payload, json(&response));

            let seen = format.decode_text(&format.conflated(&topic, &event, &body, n).unwrap().into_message()).unwrap();
            let mut value: Value = serde_json::from_str(&payload).unwrap();
            if let Value::Object(map) = &mut value {
                // The first of equal keys wins, here as with every reader of ours.
                map.entry("n").or_insert(n.into());
            }
            prop_assert_eq!(seen.payload, json(&value.to_string()));
        }
    }

    #[test]
    fn binary_messages_survive_the_wire(
        texts in prop::array::uniform4("\\PC{0,60}"), data in prop::collection::vec(any::<u8>(), 0..50), cut in any::<prop::sample::Index>()
    ) {
        let mut message = vec![0];
        message.extend(texts.iter().map(|text| u8::try_from(text.len()).unwrap()));
        texts.iter().for_each(|text| message.extend(text.bytes()));
        let data_at = message.len();
        message.extend(&data);
        let message = Bytes::from(message);
        let [join_ref, msg_ref, topic, event] = texts;
        let expected = Message {
            join_ref: Some(Ref::text(&join_ref)),
            msg_ref: Some(Ref::text(&msg_ref)),
            topic,
            event,
            payload: Payload::Binary(data.into()),
        };
        prop_assert_eq!(WireFormat::V2.decode_binary(&message), Ok(expected));
        let cut = cut.index(data_at.max(1));
        prop_assert!(WireFormat::V2.decode_binary(&message.slice(..cut)).is_err());
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), json in "[\\[\\]{}:,\"topicevnrayld 0-9]{0,40}") {
        for input in [Bytes::from(bytes), Bytes::from(json)] {
            for format in WireFormat::ALL {
                let _text = format.decode_text(&input);
                let _binary = format.decode_binary(&input);
            }
        }
    }
}
