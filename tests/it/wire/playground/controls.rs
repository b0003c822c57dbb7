//! The controls over HTTP.

use std::{io::Read as _, time::Duration};

use serde_json::{Value, json};

use super::{Playground, Raw};
use crate::wire::client::pause;

#[test]
fn what_is_published_reaches_every_member() {
    let playground = Playground::start();
    let (mut new, mut old, mut elsewhere) = (playground.v2(), playground.v1(), playground.v2());
    new.join("1", "room:a b", &json!({}));
    elsewhere.join("1", "room:a", &json!({}));
    old.say(&json!({"topic": "room:a b", "event": "phx_join", "payload": {}, "ref": "1"}));
    old.text();
    let body = r#" {"text": "gr\u00fc\u00dfe", "big": 12345678901234567890, "one": 1.0} "#;
    playground.control("/demo/publish?topic=room%3Aa+b&event=news", body.as_bytes());
    assert_eq!(new.text(), r#"[null,null,"room:a b","news",{"text":"grüße","big":12345678901234567890,"one":1.0}]"#);
    let seen: Value = serde_json::from_str(&old.text()).unwrap();
    assert_eq!(
        (&seen["event"], &seen["payload"]["text"], &seen["ref"]),
        (&json!("news"), &json!("grüße"), &json!(null))
    );
    playground.control("/demo/publish_binary?topic=room:a%20b&event=raw", &[0, 255, 7]);
    assert_eq!(new.binary(), [&[2, 8, 3][..], b"room:a braw", &[0, 255, 7]].concat());
    playground.control("/demo/publish_binary?topic=room:a%20b&event=raw", b"");
    assert_eq!(new.binary(), [&[2, 8, 3][..], b"room:a braw"].concat());
    old.expect_nothing_v1();
    elsewhere.expect_nothing();
    // Where nobody is, nobody gets it.
    playground.control("/demo/publish?topic=nosuch:topic&event=news", b"{}");
    new.expect_nothing();
}

#[test]
fn sockets_are_disconnected_by_their_id_and_no_others() {
    let playground = Playground::start();
    let open = |query: &str| -> Raw { playground.open("/socket", query) };
    let (mut first, mut second) = (open("&socket_id=7"), open("&socket_id=7"));
    let (mut other, mut nameless) = (open("&socket_id=77"), open(""));
    for client in [&mut first, &mut other, &mut nameless] {
        client.join("1", "room:a", &json!({}));
    }
    playground.control("/demo/disconnect?id=users_socket:7", b"");
    // Nothing precedes the close.
    first.expect_close(1001);
    second.expect_close(1001);
    other.expect_nothing();
    nameless.expect_nothing();
    playground.control("/demo/disconnect?id=users_socket:nobody", b"");
    other.expect_nothing();
}

/// Who is megabytes behind, and reads on, gets them and learns why it was closed.
#[test]
fn a_slow_reader_is_told_why_it_is_disconnected() {
    const LEN: usize = 16 << 20;
    let playground = Playground::start();
    let mut client = playground.open("/socket", "&socket_id=7");
    client.join("1", "room:a", &json!({}));
    client.say(&json!(["1", "2", "room:a", "binary_out", {"n": LEN, "b": 7}]));
    // The first of it has come: all of it is queued.
    let mut chunk = vec![0; 256 << 10];
    let mut got = client.stream.read(&mut chunk).unwrap();
    playground.control("/demo/disconnect?id=users_socket:7", b"");
    let mut last = Vec::new();
    loop {
        let len = client.stream.read(&mut chunk).unwrap();
        if len == 0 {
            break;
        }
        got += len;
        last = [last.as_slice(), &chunk[..len]].concat().split_off((last.len() + len).saturating_sub(16));
        pause(Duration::from_millis(100));
    }
    assert!(got > LEN, "{got}");
    assert_eq!(last[..4], *b"\x88\x0e\x03\xe9".as_slice());
    assert_eq!(last[4..], *b"disconnected".as_slice());
}

/// The product's own call, which needs a key.
#[test]
fn operators_disconnect_by_id() {
    let playground = Playground::start();
    let (mut first, mut other) =
        (playground.open("/socket", "&socket_id=7"), playground.open("/socket", "&socket_id=8"));
    let key = format!("Bearer {}", playground.process.development_key());
    for (headers, body, status) in [
        (&[("Content-Type", "application/json")][..], r#"{"id":"users_socket:7"}"#, 401),
        (&[("Content-Type", "application/json"), ("Authorization", &key)], r#"{"id":""}"#, 400),
        (&[("Content-Type", "application/json"), ("Authorization", &key)], r#"{"id":"a","user":"b"}"#, 400),
        (&[("Content-Type", "application/json"), ("Authorization", &key)], r#"{"id":"users_socket:7"}"#, 202),
    ] {
        assert_eq!(playground.ask("POST", "/v1/disconnect", headers, body.as_bytes()).status, status, "{body}");
    }
    first.expect_close(1001);
    other.expect_nothing();
}

#[test]
fn bad_requests_are_answered_with_what_is_wrong() {
    let playground = Playground::start();
    let mut member = playground.v2();
    member.join("1", "room:a", &json!({}));
    let long = format!("/demo/publish_binary?topic=room:a&event={}", "e".repeat(256));
    let long_topic = format!("/demo/publish?topic={}&event=e", "t".repeat(1_025));
    for (method, target, headers, body, status, code) in [
        ("POST", "/demo/publish?topic=room:a", &[][..], "{}", 400, "invalid_parameter"),
        ("POST", "/demo/publish?event=e", &[], "{}", 400, "invalid_parameter"),
        ("POST", "/demo/publish?topic=&event=e", &[], "{}", 400, "invalid_parameter"),
        ("POST", "/demo/publish?topic=room:a&event=", &[], "{}", 400, "invalid_parameter"),
        ("POST", "/demo/publish", &[], "{}", 400, "invalid_parameter"),
        ("POST", "/demo/publish?topic=%ff&event=e", &[], "{}", 400, "bad_query"),
        ("POST", "/demo/publish?topic=%zz&event=e", &[], "{}", 400, "bad_query"),
        ("POST", "/demo/publish?topic=room:a&event=e", &[], "", 400, "invalid_json"),
        ("POST", "/demo/publish?topic=room:a&event=e", &[], "[]", 400, "invalid_json"),
        ("POST", "/demo/publish?topic=room:a&event=e", &[], "{\"a\":}", 400, "invalid_json"),
        ("POST", "/demo/publish?topic=room:a&event=e", &[], "{} {}", 400, "invalid_json"),
        ("POST", "/demo/publish?topic=room:a&event=e", &[], "{\"a\":\"\\ud800\"}", 400, "invalid_json"),
        ("POST", &long_topic, &[], "{}", 400, "invalid_topic"),
        ("POST", &long, &[], "x", 400, "invalid_parameter"),
        ("POST", "/demo/disconnect", &[], "", 400, "invalid_parameter"),
        ("POST", "/demo/disconnect?id=", &[], "", 400, "invalid_parameter"),
        ("GET", "/demo/publish?topic=room:a&event=e", &[], "", 405, "method_not_allowed"),
        ("PUT", "/demo/disconnect?id=x", &[], "", 405, "method_not_allowed"),
        ("POST", "/demo/nothing", &[], "", 404, "no_such_path"),
        ("POST", "/demo", &[], "", 404, "no_such_path"),
        (
            "POST",
            "/demo/publish?topic=room:a&event=e",
            &[("Origin", "https://evil.example")],
            "{}",
            403,
            "origin_not_allowed",
        ),
    ] {
        let answer = playground.ask(method, target, headers, body.as_bytes());
        let problem: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, &problem["code"]), (status, &json!(code)), "{method} {target}: {problem}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.header("allow"), (status == 405).then_some("POST"), "{method} {target}");
    }
    member.expect_nothing();
    let same_host = [("Origin", "http://localhost:9999")];
    assert_eq!(playground.ask("POST", "/demo/publish?topic=room:a&event=e", &same_host, b"{}").status, 200);
    member.expect(&json!([null, null, "room:a", "e", {}]));
}
