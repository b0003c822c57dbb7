//! What a client sends, and what comes back.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{super::super::client::push, BATCH, JOIN, JOINED, Playground, Poller, body};

fn echo(i: usize) -> String {
    format!(r#"["1","{i}","room:a","echo",{{"i":{i}}}]"#)
}

fn echoed(i: usize) -> String {
    format!(r#"["1","{i}","room:a","phx_reply",{{"status":"ok","response":{{"i":{i}}}}}]"#)
}

#[test]
fn what_waits_comes_at_once_and_in_order() {
    let playground = Playground::start();
    let poller = Poller::v2(&playground);
    poller.send(&[JOIN, &echo(2), &echo(3)]);
    poller.send(&[r#"["1","4","room:a","shout_reply",{"x":"ü\u0000"}]"#]);
    poller.expect(&[
        JOINED,
        &echoed(2),
        &echoed(3),
        r#"[null,null,"room:a","shout",{"x":"ü\u0000"}]"#,
        r#"["1","4","room:a","phx_reply",{"status":"ok","response":{}}]"#,
    ]);
}

#[test]
fn a_poll_that_waits_is_answered_by_what_others_send() {
    let playground = Playground::start();
    let poller = Poller::v2(&playground);
    poller.send(&[JOIN]);
    poller.expect(&[JOINED]);
    let mut waiting = poller.begin_poll();
    let mut other = playground.v2();
    other.join("9", "room:a", &json!({}));
    other.say(&json!(["9", null, "room:a", "shout", {"from": "afar"}]));
    let answer = body(&waiting.answer());
    let expected = r#"[null,null,"room:a","shout",{"from":"afar"}]"#;
    assert_eq!(answer, json!({"status": 200, "token": poller.token, "messages": [expected]}));
}

#[test]
fn a_batch_is_told_by_its_exact_content_type() {
    let playground = Playground::start();
    let poller = Poller::v2(&playground);
    poller.send(&[JOIN]);
    let batch = format!("{}\r\n{}\n", echo(2), echo(3));
    assert_eq!(poller.post(BATCH, batch.as_bytes()), (200, json!({"status": 200})));
    poller.expect(&[JOINED, &echoed(2), &echoed(3)]);
    for other in ["application/json", "text/plain", ""] {
        assert_eq!(poller.post(other, echo(4).as_bytes()), (200, json!({"status": 200})));
    }
    poller.expect(&[&echoed(4), &echoed(4), &echoed(4)]);
    // Of any other type, two lines are one message, which is none.
    assert_eq!(poller.post("application/x-ndjson; charset=utf-8", batch.as_bytes()), (200, json!({"status": 408})));
    poller.expect_gone();
}

#[test]
fn the_first_hundred_lines_are_handled_and_the_rest_is_dropped() {
    let playground = Playground::start();
    let poller = Poller::v2(&playground);
    let lines: Vec<String> = std::iter::once(JOIN.to_owned()).chain((1..150).map(echo)).collect();
    poller.send(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let messages = poller.poll()["messages"].as_array().unwrap().len();
    assert_eq!(messages, 100);
    poller.send(&[&echo(7)]);
    poller.expect(&[&echoed(7)]);
}

#[test]
fn binary_messages_are_sent_in_base64() {
    let playground = Playground::start();
    let poller = Poller::v2(&playground);
    let bytes = STANDARD.encode(push("1", "2", "room:a", "binary_echo", &[0, 1, 2]));
    let heartbeat = STANDARD.encode(push("", "3", "phoenix", "heartbeat", b"{}"));
    poller.send(&[JOIN, &heartbeat]);
    poller.expect(&[JOINED, r#"[null,"3","phoenix","phx_reply",{"status":"ok","response":{}}]"#]);
    // An answer in bytes is a string, as long as it can be one; one that cannot is left out, and nothing else is.
    poller.send(&[&bytes]);
    poller.expect(&["\u{1}\u{1}\u{1}\u{6}\u{2}12room:aok\u{0}\u{1}\u{2}"]);
    let unprintable = STANDARD.encode(push("1", "2", "room:a", "binary_echo", &[0xff, 0xfe]));
    poller.send(&[&unprintable, &echo(4)]);
    poller.expect(&[&echoed(4)]);
    assert!(playground.metric("tickwire_dropped_total", r#"reason="binary_by_longpoll""#) >= 1.0);
}

#[test]
fn a_line_that_is_no_base64_is_500_and_the_session_lives() {
    let playground = Playground::start();
    let poller = Poller::v2(&playground);
    for line in ["!!!", "{}", "AAE", "AA-_"] {
        let batch = format!("{}\n{line}", echo(1));
        assert_eq!(poller.post(BATCH, batch.as_bytes()), (500, json!({"status": 500})), "{line}");
    }
    // Nothing of such a batch is handled.
    poller.send(&[JOIN]);
    poller.expect(&[JOINED]);
}

#[test]
fn a_message_that_cannot_be_read_is_408_and_then_410() {
    let playground = Playground::start();
    for malformed in
        ["{", "", "[1,2]", "null", "\"\"", r#"["1","2","room:a","x","\ud800"]"#, "[1e999,1,\"a\",\"b\",{}]"]
    {
        let poller = Poller::v2(&playground);
        poller.send(&[JOIN]);
        let mut waiting = poller.begin_poll();
        assert_eq!(body(&waiting.answer())["messages"], json!([JOINED]));
        assert_eq!(poller.post("application/json", malformed.as_bytes()), (200, json!({"status": 408})), "{malformed}");
        poller.expect_gone();
    }
    let poller = Poller::v2(&playground);
    let kind = STANDARD.encode([9, 0, 0]);
    assert_eq!(poller.post(BATCH, format!("{JOIN}\n{kind}").as_bytes()), (200, json!({"status": 408})));
    poller.expect_gone();
}

#[test]
fn without_a_session_a_post_is_410_without_a_token() {
    let playground = Playground::start();
    for query in ["", "?token=garbled", "?vsn=2.0.0", "?token=twlp1.AAAA"] {
        let answer = playground.ask("POST", &format!("/socket/longpoll{query}"), &[], JOIN.as_bytes());
        assert_eq!(body(&answer), json!({"status": 410}), "{query}");
    }
}

#[test]
fn refused_joins_are_ordinary_replies() {
    let playground = Playground::start();
    let poller = Poller::v2(&playground);
    poller.send(&[r#"["1","1","room:forbidden","phx_join",{}]"#, r#"["2","2","nosuch:topic","phx_join",{}]"#]);
    poller.expect(&[
        r#"["1","1","room:forbidden","phx_reply",{"status":"error","response":{"reason":"unauthorized"}}]"#,
        r#"[null,"2","nosuch:topic","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
    ]);
}

#[test]
fn a_body_has_a_megabyte_but_not_more_than_eight() {
    let playground = Playground::start();
    let poller = Poller::v2(&playground);
    poller.send(&[JOIN]);
    let text = "x".repeat(1 << 20);
    let large = format!(r#"["1","2","room:a","echo",{{"text":"{text}"}}]"#);
    poller.send(&[&large]);
    let answer = poller.poll();
    let reply: Value = serde_json::from_str(answer["messages"][1].as_str().unwrap()).unwrap();
    assert_eq!(reply[4]["response"]["text"], json!(text));
    let above = vec![b' '; 8_000_001];
    let refused = playground.ask("POST", &format!("/socket/longpoll?token={}", poller.token), &[], &above);
    assert_eq!((refused.status, refused.body.as_slice()), (400, &br#"{"status":400}"#[..]));
    poller.send(&[&echo(3)]);
    poller.expect(&[&echoed(3)]);
}
