//! §3: binary messages of V2.

use serde_json::json;

use super::{
    client::{Raw, push},
    demo::Demo,
};

/// The header fields of a binary message, their lengths in front.
fn layout(kind: u8, fields: &[&str], data: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(fields.iter().map(|field| u8::try_from(field.len()).unwrap()));
    out.extend(fields.iter().flat_map(|field| field.bytes()));
    out.extend_from_slice(data);
    out
}

fn joined(demo: &Demo) -> Raw {
    let mut client = demo.v2();
    client.join("j1", "room:a", &json!({}));
    client
}

#[test]
fn replies_pushes_and_broadcasts_have_their_own_layouts() {
    let demo = Demo::start();
    let mut client = joined(&demo);
    let data: Vec<u8> = (0..=255).collect();
    client.send_binary(&push("j1", "r2", "room:a", "binary_echo", &data));
    assert_eq!(client.binary(), layout(1, &["j1", "r2", "room:a", "ok"], &data));
    client.send_binary(&push("j1", "r3", "room:a", "binary_error", b"\xff"));
    assert_eq!(client.binary(), layout(1, &["j1", "r3", "room:a", "error"], b"\xff"));
    client.send_binary(&push("j1", "r4", "room:a", "binary_push", &data));
    assert_eq!(client.binary(), layout(0, &["j1", "room:a", "binary_pushed"], &data));
    client.send_binary(&push("j1", "r5", "room:a", "binary_shout", &data));
    assert_eq!(client.binary(), layout(2, &["room:a", "binary_shout"], &data));
    client.send_binary(&push("j1", "r6", "room:a", "binary_echo", b""));
    assert_eq!(client.binary(), layout(1, &["j1", "r6", "room:a", "ok"], b""));
    client.say(&json!(["j1", "r7", "room:a", "binary_out", {"n": 3, "b": 9, "event": "out"}]));
    assert_eq!(client.binary(), layout(0, &["j1", "room:a", "out"], &[9; 3]));
    client.expect_ok("j1", "r7", "room:a", &json!({}));
}

#[test]
fn the_payload_alone_decides_whether_a_reply_is_binary() {
    let demo = Demo::start();
    let mut client = joined(&demo);
    client.send_binary(&push("j1", "2", "room:a", "reply_status_only", b"\x00\x01"));
    client.expect_ok("j1", "2", "room:a", &json!({}));
    client.say(&json!(["j1", "3", "room:a", "binary_echo", {"text": 1}]));
    client.expect_ok("j1", "3", "room:a", &json!({"text": 1}));
}

#[test]
fn control_messages_work_in_binary_and_are_answered_in_text() {
    let demo = Demo::start();
    let mut client = demo.v2();
    client.send_binary(&push("", "h", "phoenix", "heartbeat", b""));
    client.expect(&json!([null, "h", "phoenix", "phx_reply", {"status": "ok", "response": {}}]));
    let unmatched = json!({"status": "error", "response": {"reason": "unmatched topic"}});
    client.send_binary(&push("j", "1", "room:a", "binary_echo", b"x"));
    client.expect(&json!([null, "1", "room:a", "phx_reply", unmatched]));
    client.send_binary(&push("j", "2", "nosuch:a", "phx_join", b"x"));
    client.expect(&json!([null, "2", "nosuch:a", "phx_reply", unmatched]));
    client.send_binary(&push("j", "3", "room:a", "phx_join", b"\xff\xfe"));
    client.expect_ok("j", "3", "room:a", &json!({}));
    client.send_binary(&push("j", "4", "room:a", "binary_echo", b"x"));
    assert_eq!(client.binary(), layout(1, &["j", "4", "room:a", "ok"], b"x"));
    client.send_binary(&push("j", "5", "room:a", "phx_leave", b""));
    client.expect_ok("j", "5", "room:a", &json!({}));
    client.expect(&json!(["j", "j", "room:a", "phx_close", {}]));
    client.send_binary(&push("k", "6", "room:a", "phx_leave", b""));
    client.expect_ok("k", "6", "room:a", &json!({}));
}

#[test]
fn an_empty_join_ref_is_not_null() {
    let demo = Demo::start();
    let mut client = joined(&demo);
    client.send_binary(&push("", "2", "room:a", "binary_echo", b"stale"));
    client.send_binary(&push("other", "3", "room:a", "binary_echo", b"stale"));
    client.send_binary(&push("", "4", "room:a", "phx_leave", b""));
    client.send_binary(&push("j1", "5", "room:a", "binary_echo", b"fresh"));
    assert_eq!(client.binary(), layout(1, &["j1", "5", "room:a", "ok"], b"fresh"));
    // A join with the empty string has that as its join_ref.
    client.send_binary(&push("", "6", "room:b", "phx_join", b""));
    client.expect_ok("", "6", "room:b", &json!({}));
    client.send_binary(&push("", "7", "room:b", "binary_echo", b"y"));
    assert_eq!(client.binary(), layout(1, &["", "7", "room:b", "ok"], b"y"));
    // An empty ref comes back as it was.
    client.send_binary(&push("j1", "", "room:a", "reply_status_only", b""));
    client.expect_ok("j1", "", "room:a", &json!({}));
}

#[test]
fn what_is_null_is_written_as_an_empty_field() {
    let demo = Demo::start();
    let mut client = demo.v2();
    client.say(&json!([null, null, "room:a", "phx_join", {}]));
    client.expect(&json!([null, null, "room:a", "phx_reply", {"status": "ok", "response": {}}]));
    client.say(&json!([null, null, "room:a", "binary_out", {"n": 1, "b": 7}]));
    assert_eq!(client.binary(), layout(0, &["", "room:a", "binary_pushed"], &[7]));
    client.expect(&json!([null, null, "room:a", "phx_reply", {"status": "ok", "response": {}}]));
}

#[test]
fn fields_of_up_to_255_bytes_fit_and_longer_ones_crash_their_channel_alone() {
    let demo = Demo::library();
    let mut client = joined(&demo);
    client.join("j2", "room:b", &json!({}));
    let longest = "e".repeat(255);
    client.say(&json!(["j1", "2", "room:a", "binary_out", {"n": 1, "b": 7, "event": longest}]));
    assert_eq!(client.binary(), layout(0, &["j1", "room:a", &longest], &[7]));
    client.expect_ok("j1", "2", "room:a", &json!({}));
    let too_long = "e".repeat(256);
    client.say(&json!(["j1", "3", "room:a", "binary_out", {"n": 1, "b": 7, "event": too_long}]));
    client.expect(&json!(["j1", "j1", "room:a", "phx_error", {"reason": "channel_crash"}]));
    client.expect_nothing();
    client.say(&json!(["j2", "4", "room:b", "echo", {}]));
    client.expect_ok("j2", "4", "room:b", &json!({}));
    // A topic that has no binary form works in text.
    let topic = format!("room:{}", "t".repeat(251));
    client.join("j3", &topic, &json!({}));
    client.say(&json!(["j3", "5", topic, "echo", {"x": 1}]));
    client.expect_ok("j3", "5", &topic, &json!({"x": 1}));
    client.say(&json!(["j3", "6", topic, "binary_out", {"n": 1, "b": 7}]));
    client.expect(&json!(["j3", "j3", topic, "phx_error", {"reason": "channel_crash"}]));
    client.expect_nothing();
    // A broadcast crashes its sender, not those that it was for.
    let mut member = demo.v2();
    member.join("m", "as:b", &json!({}));
    client.join("j4", "as:b", &json!({}));
    client.say(&json!(["j4", "7", "as:b", too_long, {}]));
    client.expect(&json!(["j4", "j4", "as:b", "phx_error", {"reason": "channel_crash"}]));
    member.say(&json!(["m", "8", "as:b", longest, {}]));
    assert_eq!(member.binary(), layout(2, &["as:b", &longest], b"shouted"));
    client.expect_nothing();
}

#[test]
fn a_binary_broadcast_passes_by_v1_members() {
    let demo = Demo::start();
    let (mut client, mut old) = (joined(&demo), demo.v1());
    old.say(&json!({"topic": "room:a", "event": "phx_join", "payload": {}, "ref": "1"}));
    old.text();
    client.send_binary(&push("j1", "2", "room:a", "binary_shout", b"x"));
    assert_eq!(client.binary(), layout(2, &["room:a", "binary_shout"], b"x"));
    client.say(&json!(["j1", "3", "room:a", "shout", {"after": 1}]));
    client.expect(&json!([null, null, "room:a", "shout", {"after": 1}]));
    old.expect(&json!({"topic": "room:a", "event": "shout", "payload": {"after": 1}, "ref": null}));
}

#[test]
fn v1_takes_its_json_in_binary_frames() {
    let demo = Demo::start();
    let mut client = demo.v1();
    client.send_binary(br#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"1"}"#);
    client.expect(
        &json!({"topic": "phoenix", "event": "phx_reply", "payload": {"status": "ok", "response": {}}, "ref": "1"}),
    );
    client.send_binary(b"\x00");
    client.expect_close(1011);
}

#[test]
fn undecodable_binary_closes_with_1011() {
    let demo = Demo::start();
    let mut witness = joined(&demo);
    let good = push("j1", "2", "room:a", "binary_echo", b"");
    let mut cases: Vec<Vec<u8>> = (0..good.len()).map(|len| good[..len].to_vec()).collect();
    for kind in [1, 2, 3, 0x5b, 255] {
        let mut other = good.clone();
        other[0] = kind;
        cases.push(other);
    }
    // Text in V2 is not to come in binary frames; and what is text must be UTF-8.
    cases.push(br#"[null,"1","phoenix","heartbeat",{}]"#.to_vec());
    cases.push(vec![0, 1, 1, 1, 1, 0xff, b'1', b't', b'e']);
    cases.push(vec![0, 1, 1, 1, 1, b'j', b'1', 0xc0, b'e']);
    for case in cases {
        let mut client = joined(&demo);
        client.send_binary(&case);
        client.expect_close(1011);
    }
    witness.expect_nothing();
}
