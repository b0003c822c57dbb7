//! §3: the text forms of messages, and what becomes of JSON on its way through.

use serde_json::{Value, json};

use super::demo::Demo;

#[test]
fn v2_replies_and_pushes_have_five_elements() {
    let demo = Demo::start();
    let mut client = demo.v2();
    client.say(&json!(["j", "r", "room:a", "phx_join", {"echo_params": true, "x": [1]}]));
    client.expect_ok("j", "r", "room:a", &json!({"params": {"echo_params": true, "x": [1]}}));
    client.say(&json!(["j", "1", "room:a", "echo", {"a": 1}]));
    client.expect_ok("j", "1", "room:a", &json!({"a": 1}));
    client.say(&json!(["j", "2", "room:a", "echo_error", {"a": 2}]));
    client.expect(&json!(["j", "2", "room:a", "phx_reply", {"status": "error", "response": {"a": 2}}]));
    client.say(&json!(["j", "3", "room:a", "reply_status_only", {"a": 3}]));
    client.expect_ok("j", "3", "room:a", &json!({}));
    client.say(&json!(["j", "4", "room:a", "push_me", {"a": 4}]));
    client.expect(&json!(["j", null, "room:a", "pushed", {"a": 4}]));
    client.say(&json!(["j", "5", "room:a", "shout", {"a": 5}]));
    client.expect(&json!([null, null, "room:a", "shout", {"a": 5}]));
    client.say(&json!(["j", "6", "room:a", "noreply", {}]));
    client.expect_nothing();
    client.say(&json!(["j", "7", "room:a", "of which nobody has heard", {}]));
    client.expect(&json!([
        "j", "7", "room:a", "phx_reply", {"status": "error", "response": {"reason": "unknown event"}}
    ]));
}

#[test]
fn v1_messages_have_exactly_four_keys() {
    let demo = Demo::start();
    let mut client = demo.v1();
    let say = |event: &str, payload: Value, msg_ref: &str| json!({"topic": "room:a", "event": event, "payload": payload, "ref": msg_ref});
    let reply = |status: &str, response: Value, msg_ref: Value| json!({"topic": "room:a", "event": "phx_reply", "payload": {"status": status, "response": response}, "ref": msg_ref});
    client.say(&say("phx_join", json!({}), "1"));
    client.expect(&reply("ok", json!({}), json!("1")));
    client.say(&say("echo", json!({"a": 1}), "2"));
    client.expect(&reply("ok", json!({"a": 1}), json!("2")));
    client.say(&say("echo_error", json!({}), "3"));
    client.expect(&reply("error", json!({}), json!("3")));
    client.say(&say("push_me", json!({"p": 1}), "4"));
    client.expect(&json!({"topic": "room:a", "event": "pushed", "payload": {"p": 1}, "ref": null}));
    client.say(&say("shout_reply", json!({"s": 1}), "5"));
    client.expect(&json!({"topic": "room:a", "event": "shout", "payload": {"s": 1}, "ref": null}));
    client.expect(&reply("ok", json!({}), json!("5")));
    client.say(&say("stop", json!({"bye": 1}), "6"));
    client.expect(&reply("ok", json!({"bye": 1}), json!("6")));
    client.expect(&json!({"topic": "room:a", "event": "phx_close", "payload": {}, "ref": null}));
    client.say(&say("echo", json!({}), "7"));
    client.expect(&reply("error", json!({"reason": "unmatched topic"}), json!("7")));
    client.say(&say("phx_join", json!({}), "8"));
    client.expect(&reply("ok", json!({}), json!("8")));
    client.say(&say("crash", json!({}), "9"));
    client.expect(&json!({
        "topic": "room:a", "event": "phx_error", "payload": {"reason": "channel_crash"}, "ref": null
    }));
}

/// As realtime-js speaks: V1 with a `join_ref`.
#[test]
fn v1_honours_an_extra_join_ref_and_ignores_other_keys() {
    let demo = Demo::start();
    let mut client = demo.v1();
    client.send(
        r#"{"join_ref":"j","x":[1,{"topic":"no"}],"payload":{},"ref":"1","event":"phx_join","topic":"room:a","y":null}"#,
    );
    client.expect(
        &json!({"topic": "room:a", "event": "phx_reply", "payload": {"status": "ok", "response": {}}, "ref": "1"}),
    );
    client.send(r#"{"topic":"room:a","event":"echo","payload":{"stale":1},"ref":"2","join_ref":"other"}"#);
    client.send(r#"{"topic":"room:a","event":"echo","payload":{"fresh":1},"ref":"3","join_ref":"j"}"#);
    client.expect(&json!({
        "topic": "room:a", "event": "phx_reply", "payload": {"status": "ok", "response": {"fresh": 1}}, "ref": "3"
    }));
    client.send(r#"{"topic":"room:a","event":"phx_leave","payload":{},"ref":"4","join_ref":"j"}"#);
    client.expect(
        &json!({"topic": "room:a", "event": "phx_reply", "payload": {"status": "ok", "response": {}}, "ref": "4"}),
    );
    client.expect(&json!({"topic": "room:a", "event": "phx_close", "payload": {}, "ref": "j"}));
}

#[test]
fn references_are_echoed_whatever_json_they_are() {
    let demo = Demo::start();
    let mut client = demo.v2();
    for (index, (join_ref, msg_ref)) in [
        (r#""a""#, r#""b""#),
        ("3", "4"),
        ("-7", "0"),
        ("1.5", "2.25"),
        ("true", "false"),
        (r#"["x",1]"#, r#"{"k":[null]}"#),
        ("123456789012345678901234567890", "98765432109876543210987654321"),
        (r#""é\"\\\n""#, r#""""#),
        (r#""7""#, "null"),
    ]
    .into_iter()
    .enumerate()
    {
        let topic = format!("room:{index}");
        client.send(&format!(r#"[{join_ref},{msg_ref},"{topic}","phx_join",{{}}]"#));
        let text = client.text();
        assert!(text.starts_with(&format!(r#"[{join_ref},{msg_ref},"{topic}","phx_reply","#)), "{text}");
        client.send(&format!(r#"[{join_ref},{msg_ref},"{topic}","echo",{{"i":1}}]"#));
        let text = client.text();
        assert!(text.starts_with(&format!(r#"[{join_ref},{msg_ref},"{topic}","phx_reply","#)), "{text}");
        client.send(&format!(r#"[{join_ref},{msg_ref},"{topic}","phx_leave",{{}}]"#));
        client.text();
        let text = client.text();
        assert!(text.starts_with(&format!(r#"[{join_ref},{join_ref},"{topic}","phx_close","#)), "{text}");
    }
}

#[test]
fn a_number_is_not_the_string_of_its_digits() {
    let demo = Demo::start();
    let mut client = demo.v2();
    client.send(r#"[3,3,"room:a","phx_join",{}]"#);
    client.expect(&json!([3, 3, "room:a", "phx_reply", {"status": "ok", "response": {}}]));
    client.send(r#"["3",4,"room:a","echo",{}]"#);
    client.send(r#"["3",5,"room:a","phx_leave",{}]"#);
    client.send(r#"[3,"6","room:a","echo",{}]"#);
    client.expect(&json!([3, "6", "room:a", "phx_reply", {"status": "ok", "response": {}}]));
}

#[test]
fn elements_after_the_fifth_are_ignored() {
    let demo = Demo::start();
    let mut client = demo.v2();
    client.send(r#"["1","1","room:a","phx_join",{},{"six":[]},7,null]"#);
    client.expect_ok("1", "1", "room:a", &json!({}));
    client.send(" \r\n\t[ \"1\" , \"2\" , \"room:a\" , \"echo\" , { } , 6 ]\n ");
    client.expect_ok("1", "2", "room:a", &json!({}));
}

/// Payloads of any type reach the channel, and come back with all their digits.
#[test]
fn payloads_pass_without_loss() {
    let demo = Demo::start();
    let (mut client, mut listener) = (demo.v2(), demo.v1());
    client.join("1", "room:a", &json!({}));
    listener.say(&json!({"topic": "room:a", "event": "phx_join", "payload": {}, "ref": "1"}));
    listener.text();
    for payload in [
        "null",
        "true",
        "\"text\"",
        "1",
        "1.0",
        "-0.5",
        "0.1",
        "[]",
        "[1,[2,{}]]",
        "{}",
        r#"{"":""}"#,
        "12345678901234567890",
        "-170141183460469231731687303715884105728",
        "123456789012345678901234567890123456789012345678901234567890",
        r#"{"int":1,"float":1.0,"more":[1,1.0,100,100.0]}"#,
        r#"{"nul":"a\u0000b"}"#,
        r#"{"text":"žluťoučký 🐎"}"#,
        r#"{"escaped":"\"\\/"}"#,
    ] {
        client.send(&format!(r#"["1","2","room:a","echo",{payload}]"#));
        let (head, reply) = client.raw_reply();
        assert_eq!(head, [json!("1"), json!("2"), json!("room:a")]);
        assert_eq!((reply.status.as_str(), reply.response.get()), ("ok", payload));
        client.send(&format!(r#"["1","3","room:a","shout",{payload}]"#));
        assert_eq!(client.text(), format!(r#"[null,null,"room:a","shout",{payload}]"#));
        let text = listener.text();
        assert!(text.contains(&format!(r#""payload":{payload}"#)), "{text}");
    }
}

#[test]
fn json_on_output_is_utf8_and_not_escaped_beyond_need() {
    let demo = Demo::start();
    let mut client = demo.v2();
    client.join("1", "room:a", &json!({}));
    client.send(r#"["1","2","room:a","\u0065cho",{"t":"\u00e9\ud83d\ude00\u0041"}]"#);
    let (_, reply) = client.raw_reply();
    assert_eq!(reply.response.get(), r#"{"t":"é😀A"}"#);
    // Doubles keep their value in the shortest form that gives it back.
    for (sent, value) in [("1e2", 100.0), ("1.50", 1.5), ("5e-324", 5e-324), ("1.7976931348623157e308", f64::MAX)] {
        client.send(&format!(r#"["1","3","room:a","echo",[{sent}]]"#));
        let (_, reply) = client.raw_reply();
        let back: Vec<f64> = serde_json::from_str(reply.response.get()).unwrap();
        assert_eq!(back, [value], "{sent}: {}", reply.response);
        let digits = reply.response.get().trim_matches(['[', ']']);
        assert!(digits.contains(['.', 'e', 'E']), "a double stays one: {digits}");
    }
}

#[test]
fn of_duplicate_keys_the_first_wins() {
    let demo = Demo::start();
    let mut client = demo.v2();
    client.join("1", "room:a", &json!({}));
    client.send(r#"["1","2","room:a","echo",{"a":1,"b":{"c":1,"c":2},"a":2,"\u0061":3}]"#);
    let (_, reply) = client.raw_reply();
    assert_eq!(reply.response.get(), r#"{"a":1,"b":{"c":1}}"#);
    let mut client = demo.v1();
    client.send(
        r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"1","topic":"room:x","event":"echo","ref":"2"}"#,
    );
    client.expect(
        &json!({"topic": "phoenix", "event": "phx_reply", "payload": {"status": "ok", "response": {}}, "ref": "1"}),
    );
}

/// §7: what cannot be understood ends the socket, with nothing said before, and no other socket notices.
#[test]
fn undecodable_text_closes_with_1011() {
    let demo = Demo::start();
    let mut witness = demo.v2();
    witness.join("1", "room:a", &json!({}));
    for text in [
        "",
        " ",
        "x",
        "nul",
        "{}",
        "[]",
        "null",
        "1",
        "\"text\"",
        r#"["1","2","room:a","echo"]"#,
        r#"{"topic":"room:a","event":"echo","payload":{},"ref":"1"}"#,
        r#"["1","2","room:a","echo",{}"#,
        r#"["1","2","room:a","echo",{}]]"#,
        r#"["1","2","room:a","echo",{}] []"#,
        r#"["1","2","room:a","echo",{},]"#,
        r#"["1","2","room:a","echo",{"a":01}]"#,
        r#"["1","2","room:a","echo",{"a":.5}]"#,
        r#"["1","2","room:a","echo",{"a":1.}]"#,
        r#"["1","2","room:a","echo",{"a":+1}]"#,
        r#"["1","2","room:a","echo",{"a":NaN}]"#,
        r#"["1","2","room:a","echo",{"a":1e400}]"#,
        r#"["1","2","room:a","echo",{"a":-1e400}]"#,
        r#"["1","2","room:a","echo",{a:1}]"#,
        r#"["1","2","room:a","echo",{'a':1}]"#,
        r#"["1","2","room:a","echo",{"a":"\ud800"}]"#,
        r#"["1","2","room:a","echo",{"a":"\udc00\ud800"}]"#,
        r#"["1","2","room:a","echo",{"a":"\x41"}]"#,
        r#"["1","2","room:a","echo",{"a":"\u12"}]"#,
        "[\"1\",\"2\",\"room:a\",\"echo\",{\"a\":\"\n\"}]",
        "[\"1\",\"2\",\"room:a\",\"echo\",{\"a\":\"\u{0}\"}]",
        "\u{feff}[\"1\",\"2\",\"room:a\",\"echo\",{}]",
    ] {
        let mut client = demo.v2();
        client.join("1", "room:a", &json!({}));
        client.send(text);
        client.expect_close(1011);
    }
    witness.expect_nothing();
    let mut client = demo.v1();
    for missing in ["topic", "event", "payload", "ref"] {
        let mut message = json!({"topic": "room:a", "event": "phx_join", "payload": {}, "ref": "1"});
        message.as_object_mut().unwrap().remove(missing);
        let mut other = demo.v1();
        other.say(&message);
        other.expect_close(1011);
    }
    client.expect_nothing_v1();
    client.send(r#"["1","2","room:a","echo",{}]"#);
    client.expect_close(1011);
}
