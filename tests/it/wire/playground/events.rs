//! The topics and events of the demo channel.

use serde_json::{Value, json};

use super::{Playground, Raw};
use crate::wire::client::{BINARY, Got, TEXT, frame, push};

const TOPIC: &str = "room:events";

/// What one event brings, in V2 notation; of messages to everyone, the null refs are part of it.
fn table() -> Vec<(&'static str, Value, Vec<Value>)> {
    let payload = json!({"text": "grüße\u{0}", "n": 3, "list": [null, true, 1.0]});
    let reply = |status: &str, response: &Value| json!(["1", "2", TOPIC, "phx_reply", {"status": status, "response": response}]);
    let ok = || reply("ok", &json!({}));
    let seq = |join_ref: Value, i: u64| json!([join_ref, null, TOPIC, "seq", {"i": i}]);
    let close = || json!(["1", "1", TOPIC, "phx_close", {}]);
    let error = || json!(["1", "1", TOPIC, "phx_error", {"reason": "channel_crash"}]);
    let no = |reason: &str| vec![reply("error", &json!({"reason": reason}))];
    vec![
        ("echo", payload.clone(), vec![reply("ok", &payload)]),
        ("echo", json!([1, "two"]), vec![reply("ok", &json!([1, "two"]))]),
        ("echo", json!(null), vec![reply("ok", &json!(null))]),
        ("echo_error", payload.clone(), vec![reply("error", &payload)]),
        ("reply_status_only", payload.clone(), vec![ok()]),
        ("noreply", payload.clone(), vec![]),
        ("late_reply", payload.clone(), vec![reply("ok", &payload)]),
        ("push_me", payload.clone(), vec![json!(["1", null, TOPIC, "pushed", payload])]),
        ("shout", payload.clone(), vec![json!([null, null, TOPIC, "shout", payload])]),
        ("shout_from", payload.clone(), vec![]),
        ("shout_reply", payload.clone(), vec![json!([null, null, TOPIC, "shout", payload]), ok()]),
        ("push_n", json!({"n": 2}), vec![seq(json!("1"), 0), seq(json!("1"), 1), ok()]),
        ("shout_n", json!({"n": 2}), vec![seq(json!(null), 0), seq(json!(null), 1), ok()]),
        ("push_n", json!({"n": 0}), vec![ok()]),
        ("push_n", json!({"n": -1}), no("expected {\"n\": how many}, at most 100000")),
        ("shout_n", json!({"n": 1e9}), no("expected {\"n\": how many}, at most 100000")),
        ("push_n", json!("many"), no("expected {\"n\": how many}, at most 100000")),
        (
            "binary_out",
            json!({"n": 1, "b": 256}),
            no("expected {\"n\": how many, \"b\": which byte, \"event\": name}, at most 16777216 bytes"),
        ),
        (
            "connect_info",
            json!({}),
            vec![reply("ok", &json!({"auth_token": null, "params": {"vsn": "2.0.0", "a": "b"}}))],
        ),
        ("presence_list", json!({}), no("presence is not available in this version")),
        ("update_meta", json!({}), no("presence is not available in this version")),
        ("untrack", json!({}), no("presence is not available in this version")),
        ("unheard_of", json!({}), no("unknown event")),
        ("stop", payload.clone(), vec![reply("ok", &payload), close()]),
        ("stop_noreply", payload.clone(), vec![close()]),
        ("stop_shutdown", payload.clone(), vec![close()]),
        ("stop_reason", payload.clone(), vec![error()]),
        ("crash", payload, vec![error()]),
    ]
}

/// A V2 message as V1 has it.
fn in_v1(message: &Value) -> Value {
    // WIRE: the ref of a close is the join_ref, which a V1 client that sends none has not.
    let control = ["phx_close", "phx_error"].iter().any(|event| message[3] == *event);
    let msg_ref = if control { json!(null) } else { message[1].clone() };
    json!({"topic": message[2], "event": message[3], "payload": message[4], "ref": msg_ref})
}

#[test]
fn each_event_does_what_its_name_says() {
    let playground = Playground::start();
    for (event, payload, expected) in table() {
        let mut client = playground.open("/socket", "&a=b");
        client.join("1", TOPIC, &json!({}));
        client.say(&json!(["1", "2", TOPIC, event, payload]));
        for message in &expected {
            client.expect(message);
        }
        client.expect_nothing();
    }
}

#[test]
fn each_event_does_the_same_for_the_old_serializer() {
    let playground = Playground::start();
    for (event, payload, expected) in table() {
        let mut client = playground.v1();
        client.say(&json!({"topic": TOPIC, "event": "phx_join", "payload": {}, "ref": "1"}));
        client.text();
        if event == "connect_info" {
            continue;
        }
        client.say(&json!({"topic": TOPIC, "event": event, "payload": payload, "ref": "2"}));
        for message in &expected {
            client.expect(&in_v1(message));
        }
        client.expect_nothing_v1();
    }
}

/// A client's binary message of the joined topic.
fn send(client: &mut Raw, event: &str, data: &[u8]) {
    client.write(&frame(BINARY, &push("1", "2", TOPIC, event, data)));
}

/// `kind`, the lengths of the names, the names, the data.
fn binary(kind: u8, names: &[&str], data: &[u8]) -> Vec<u8> {
    let lengths = names.iter().map(|name| u8::try_from(name.len()).unwrap());
    let mut out: Vec<u8> = [kind].into_iter().chain(lengths).collect();
    out.extend(names.iter().flat_map(|name| name.bytes()));
    out.extend_from_slice(data);
    out
}

#[test]
fn each_binary_event_does_what_its_name_says() {
    let playground = Playground::start();
    let data = [0, 1, 255, b'{', 0];
    for (event, expected) in [
        ("binary_echo", vec![binary(1, &["1", "2", TOPIC, "ok"], &data)]),
        ("echo", vec![binary(1, &["1", "2", TOPIC, "ok"], &data)]),
        ("binary_error", vec![binary(1, &["1", "2", TOPIC, "error"], &data)]),
        ("binary_shout", vec![binary(2, &[TOPIC, "binary_shout"], &data)]),
        ("shout_from", vec![]),
        ("binary_push", vec![binary(0, &["1", TOPIC, "binary_pushed"], &data)]),
        ("push_me", vec![binary(0, &["1", TOPIC, "pushed"], &data)]),
    ] {
        let (mut client, mut member, mut old) = (playground.v2(), playground.v2(), playground.v1());
        client.join("1", TOPIC, &json!({}));
        member.join("m", TOPIC, &json!({}));
        old.say(&json!({"topic": TOPIC, "event": "phx_join", "payload": {}, "ref": "1"}));
        old.text();
        send(&mut client, event, &data);
        for message in &expected {
            assert_eq!(client.binary(), *message, "{event}");
        }
        client.expect_nothing();
        match event {
            "binary_shout" | "shout_from" => assert_eq!(member.binary(), binary(2, &[TOPIC, event], &data)),
            _ => {}
        }
        member.expect_nothing();
        // The old wire format has no form for bytes: its members are passed by.
        old.expect_nothing_v1();
    }
}

#[test]
fn bytes_are_asked_for_in_text() {
    let playground = Playground::start();
    let mut client = playground.v2();
    client.join("1", TOPIC, &json!({}));
    client.say(&json!(["1", "2", TOPIC, "binary_out", {"n": 3, "b": 7}]));
    assert_eq!(client.binary(), binary(0, &["1", TOPIC, "binary_pushed"], &[7; 3]));
    client.expect_ok("1", "2", TOPIC, &json!({}));
    let longest = "e".repeat(255);
    client.say(&json!(["1", "2", TOPIC, "binary_out", {"n": 0, "event": longest}]));
    assert_eq!(client.binary(), binary(0, &["1", TOPIC, &longest], &[]));
    client.expect_ok("1", "2", TOPIC, &json!({}));
    client.say(&json!(["1", "2", TOPIC, "binary_out", {"n": 5_000_000, "b": 255}]));
    assert_eq!(client.binary().len(), 5_000_000 + binary(0, &["1", TOPIC, "binary_pushed"], &[]).len());
    client.expect_ok("1", "2", TOPIC, &json!({}));
    // A name that its byte of length cannot count: the channel fails, the socket does not.
    client.say(&json!(["1", "2", TOPIC, "binary_out", {"n": 1, "event": "e".repeat(256)}]));
    client.expect(&json!(["1", "1", TOPIC, "phx_error", {"reason": "channel_crash"}]));
    client.expect_nothing();
    client.join("3", TOPIC, &json!({}));
}

#[test]
fn topics_and_joins() {
    let playground = Playground::start();
    let mut client = playground.v2();
    let error = |topic: &str, reason: &str| json!(["1", "1", topic, "phx_reply", {"status": "error", "response": {"reason": reason}}]);
    for (topic, expected) in [
        ("room:forbidden", error("room:forbidden", "unauthorized")),
        ("room:crash_join", error("room:crash_join", "join crashed")),
        (
            "nosuch:1",
            json!([null, "1", "nosuch:1", "phx_reply", {"status": "error", "response": {"reason": "unmatched topic"}}]),
        ),
        (
            "lobby:1",
            json!([null, "1", "lobby:1", "phx_reply", {"status": "error", "response": {"reason": "unmatched topic"}}]),
        ),
    ] {
        client.say(&json!(["1", "1", topic, "phx_join", {}]));
        client.expect(&expected);
    }
    client.join("1", "room:", &json!({"user_id": "ann", "meta": {"a": 1}}));
    client.join("2", "lobby", &json!(null));
    client.say(&json!(["3", "3", "room:a", "phx_join", {"push_on_join": true}]));
    client.expect_ok("3", "3", "room:a", &json!({}));
    client.expect(&json!(["3", null, "room:a", "hello", {}]));
    // The parameters come back in their own digits.
    client.send(r#"["4","4","room:b","phx_join",{"echo_params":true, "big":123456789012345678901234567890,"one":1.0,"zero":"\u0000"}]"#);
    assert_eq!(
        client.text(),
        r#"["4","4","room:b","phx_reply",{"status":"ok","response":{"params":{"echo_params":true,"big":123456789012345678901234567890,"one":1.0,"zero":"\u0000"}}}]"#
    );
    client.say(&json!(["5", "5", "room:c", "phx_join", {"echo_params": "yes", "push_on_join": 1}]));
    client.expect_ok("5", "5", "room:c", &json!({}));
    client.expect_nothing();
}

#[test]
fn the_ticker_is_the_real_one() {
    let playground = Playground::start();
    let mut client = playground.v2();
    client.say(&json!(["1", "1", "ticker:EURUSD", "phx_join", {}]));
    let joined: Value = serde_json::from_str(&client.text()).unwrap();
    assert_eq!(joined[4]["status"], "ok");
    assert_eq!(joined[4]["response"]["quote"], Value::Null);
    client.say(&json!(["1", "2", "ticker:EURUSD", "ping", {}]));
    let pong: Value = serde_json::from_str(&client.text()).unwrap();
    assert_eq!(pong[3], "pong");
    assert!(pong[4]["timestamp"].as_i64().unwrap() > 1_700_000_000_000);
}

#[test]
fn digits_and_bytes_of_a_payload_are_the_senders() {
    let playground = Playground::start();
    let mut client = playground.v2();
    client.join("1", TOPIC, &json!({}));
    for payload in [
        "1",
        "1.0",
        "-0.0",
        "1e300",
        "123456789012345678901234567890123456789012345678901234567890",
        "0.1234567890123456789",
        r#""\u0000é😀\"\\""#,
        r#"{"b":1,"a":{"":[]},"\u0000":null}"#,
    ] {
        client.send(&format!(r#"["1","2","{TOPIC}","echo",{payload}]"#));
        let expected = format!(r#"["1","2","{TOPIC}","phx_reply",{{"status":"ok","response":{payload}}}]"#);
        assert_eq!(client.text(), expected);
    }
}

/// More than an outbox of the product holds, to a client that reads late: the file gives the playground room for it.
#[test]
fn a_hundred_thousand_messages_arrive_in_order() {
    const COUNT: usize = 100_000;
    let playground = Playground::start();
    for event in ["push_n", "shout_n"] {
        let (mut client, mut other) = (playground.v2(), playground.v2());
        client.join("1", TOPIC, &json!({}));
        other.join("1", "room:other", &json!({}));
        client.say(&json!(["1", "2", TOPIC, event, {"n": COUNT}]));
        // Nobody else waits for it, wherever their sockets live.
        other.expect_nothing();
        let join_ref = if event == "push_n" { "\"1\"" } else { "null" };
        for i in 0..COUNT {
            assert_eq!(client.text(), format!(r#"[{join_ref},null,"{TOPIC}","seq",{{"i":{i}}}]"#));
        }
        client.expect_ok("1", "2", TOPIC, &json!({}));
    }
}

/// Ten thousand messages at once from one socket, each answered.
#[test]
fn a_burst_of_messages_is_answered_in_full() {
    const COUNT: usize = 10_000;
    let playground = Playground::start();
    let mut client = playground.v2();
    client.join("1", TOPIC, &json!({}));
    let mut burst = Vec::new();
    for i in 0..COUNT {
        burst.extend(frame(TEXT, json!(["1", i.to_string(), TOPIC, "echo", i]).to_string().as_bytes()));
    }
    let mut writer = client.stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| std::io::Write::write_all(&mut writer, &burst).unwrap());
        for i in 0..COUNT {
            client.expect_ok("1", &i.to_string(), TOPIC, &json!(i));
        }
    });
}

#[test]
fn many_late_replies_may_be_under_way() {
    const COUNT: usize = 500;
    let playground = Playground::start();
    let mut client = playground.v2();
    client.join("1", TOPIC, &json!({}));
    for i in 0..COUNT {
        client.say(&json!(["1", i.to_string(), TOPIC, "late_reply", {"i": i}]));
    }
    client.say(&json!(["1", "now", TOPIC, "echo", {}]));
    let mut seen = vec![false; COUNT];
    let mut now = false;
    while !now || seen.contains(&false) {
        let message: Value = serde_json::from_str(&client.text()).unwrap();
        assert_eq!(message[4]["status"], "ok", "{message}");
        match message[4]["response"]["i"].as_u64() {
            Some(i) => assert!(!std::mem::replace(&mut seen[usize::try_from(i).unwrap()], true), "{i} twice"),
            None => now = true,
        }
    }
}

/// Whoever asks for crashes all day does not fill the disk of the log.
#[test]
fn crashes_are_counted_and_the_log_of_them_is_bounded() {
    const COUNT: usize = 500;
    let playground = Playground::start();
    let mut client = playground.v2();
    for i in 0..COUNT {
        let join_ref = i.to_string();
        client.join(&join_ref, TOPIC, &json!({}));
        client.say(&json!([join_ref, null, TOPIC, "crash", {}]));
        client.expect(&json!([join_ref, join_ref, TOPIC, "phx_error", {"reason": "channel_crash"}]));
    }
    client.expect_nothing();
    assert!(playground.metric("tickwire_channel_crashes_total", "") >= 500.0);
    let lines = playground.log().lines().count();
    assert!(lines < COUNT, "{lines} lines for {COUNT} crashes");
}

/// What is no message ends the socket, whatever is joined.
#[test]
fn a_close_frame_of_the_playground_says_why() {
    let playground = Playground::start();
    let mut client = playground.v2();
    client.join("1", TOPIC, &json!({}));
    client.send("{}");
    match client.next() {
        Some(Got::Close(Some(1011), _)) => {}
        other => panic!("{other:?}"),
    }
}
