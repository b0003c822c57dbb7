//! What each mount of the file says, and that another file is obeyed alike.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Playground, Raw};
use crate::wire::client::{END, TEXT, TEXT_BEGIN, frame, header, request, upgrade_headers};

const BEARER: &str = "base64url.bearer.phx.bXkgdG9rZW4";

/// What is answered as subprotocol, or the status of the refusal.
#[track_caller]
fn protocol(playground: &Playground, mount: &str, offered: Option<&str>) -> Result<Option<String>, u16> {
    let headers: Vec<_> = offered.map(|offered| ("Sec-WebSocket-Protocol", offered)).into_iter().collect();
    let (_, answer) = playground.upgrade(&format!("{mount}/websocket?vsn=2.0.0"), &headers);
    match answer.status {
        101 => Ok(answer.header("sec-websocket-protocol").map(str::to_owned)),
        status => {
            assert_eq!(answer.body, b"", "{mount}, {offered:?}");
            Err(status)
        }
    }
}

#[test]
fn subprotocols_are_those_of_the_mount() {
    let playground = Playground::start();
    let with_token = format!("phoenix, {BEARER}");
    let turned = format!("{BEARER},phoenix");
    let twice = format!("phoenix, {BEARER}, {BEARER}");
    let answer = |name: &str| Ok(Some(name.to_owned()));
    for (mount, offered, expected) in [
        ("/socket", None, Ok(None)),
        ("/socket", Some("phoenix"), answer("phoenix")),
        ("/socket", Some(with_token.as_str()), answer("phoenix")),
        ("/socket", Some(&turned), answer("phoenix")),
        ("/socket", Some(BEARER), Ok(None)),
        ("/socket", Some(&twice), answer("phoenix")),
        ("/socket", Some("alpha, beta"), Err(403)),
        ("/socket", Some("phoenix, base64url.bearer.phx.not-base64"), Err(400)),
        ("/socket_protos", None, Ok(None)),
        ("/socket_protos", Some("alpha"), answer("alpha")),
        ("/socket_protos", Some("beta"), answer("beta")),
        ("/socket_protos", Some("beta, alpha"), answer("alpha")),
        ("/socket_protos", Some("other,beta"), answer("beta")),
        ("/socket_protos", Some("other"), Err(403)),
        ("/socket_protos", Some("phoenix"), Err(403)),
        ("/socket_protos", Some(&with_token), Err(403)),
        // With neither feature, whatever is offered is ignored.
        ("/socket_compress", Some(&with_token), Ok(None)),
        ("/socket_compress", Some("alpha"), Ok(None)),
        ("/socket_fast", Some("base64url.bearer.phx.!"), Ok(None)),
    ] {
        assert_eq!(protocol(&playground, mount, offered), expected, "{mount}, {offered:?}");
    }
}

#[test]
fn offers_may_come_in_several_lines() {
    let playground = Playground::start();
    let lines = [("sec-websocket-protocol", BEARER), ("Sec-WebSocket-Protocol", "phoenix")];
    let (mut client, answer) = playground.upgrade("/socket/websocket?vsn=2.0.0", &lines);
    assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, Some("phoenix")));
    client.join("1", "lobby", &json!({}));
    client.say(&json!(["1", "2", "lobby", "connect_info", {}]));
    client.expect_ok("1", "2", "lobby", &json!({"auth_token": "my token", "params": {"vsn": "2.0.0"}}));
}

#[test]
fn origins_are_those_of_the_mount_and_a_refusal_says_what_to_change() {
    let playground = Playground::start();
    for (mount, origin, expected) in [
        ("/socket", Some("https://anything.example"), 101),
        ("/socket", Some("null"), 101),
        ("/socket_origin", None, 101),
        ("/socket_origin", Some("https://allowed.example"), 101),
        ("/socket_origin", Some("https://allowed.example:443"), 101),
        ("/socket_origin", Some("https://allowed.example:444"), 403),
        ("/socket_origin", Some("http://allowed.example"), 403),
        ("/socket_origin", Some("https://sub.allowed.example"), 403),
        ("/socket_origin", Some("http://wild.example:8080"), 101),
        ("/socket_origin", Some("wss://a.b.wild.example"), 101),
        ("/socket_origin", Some("https://notwild.example"), 403),
        ("/socket_origin", Some("http://localhost"), 403),
        ("/socket_origin", Some("nonsense"), 403),
    ] {
        let headers: Vec<_> = origin.map(|origin| ("Origin", origin)).into_iter().collect();
        let (_, answer) = playground.upgrade(&format!("{mount}/websocket"), &headers);
        assert_eq!(answer.status, expected, "{mount}, {origin:?}");
    }
    let log = playground.log();
    for part in [
        "https://allowed.example:444",
        "expected https://allowed.example or //*.wild.example",
        "add it to socket[2].origins",
        "/socket_origin",
    ] {
        assert!(log.contains(part), "{part}\n{log}");
    }
    assert!(playground.metric("tickwire_refused_total", "origin_not_allowed") >= 6.0);
}

/// Connects anew, and from there on what is asked of the same connection.
#[test]
fn after_any_403_the_http_connection_stays_usable() {
    let playground = Playground::start();
    let mut client = Raw::connect(playground.address);
    let origin = [upgrade_headers(), vec![("Origin", "https://evil.example")]].concat();
    let protocol = [upgrade_headers(), vec![("Sec-WebSocket-Protocol", "other")]].concat();
    for (target, headers) in [
        ("/socket_origin/websocket", &origin),
        ("/socket_protos/websocket", &protocol),
        ("/socket/websocket?reject=error", &upgrade_headers()),
        ("/socket/websocket?reject=reason", &upgrade_headers()),
        ("/socket/websocket?vsn=2", &upgrade_headers()),
    ] {
        client.write(request(target, headers).as_bytes());
        let answer = client.answer();
        assert_eq!((answer.status, answer.body.as_slice()), (403, &b""[..]), "{target}");
    }
    client.write(request("/socket/websocket?vsn=2.0.0&reject=no", &upgrade_headers()).as_bytes());
    assert_eq!(client.answer().status, 101);
    client.join("1", "lobby", &json!({}));
}

#[test]
fn bare_mounts_and_unknown_suffixes_are_404_and_a_slash_at_the_end_is_none() {
    let playground = Playground::start();
    for mount in ["/socket", "/socket_compress", "/socket_origin", "/socket_fast", "/socket_small", "/socket_protos"] {
        for (suffix, expected) in [
            ("/websocket", 101),
            ("/websocket/", 101),
            ("", 404),
            ("/", 404),
            ("/websockets", 404),
            ("/websocket/x", 404),
        ] {
            let (_, answer) = playground.upgrade(&format!("{mount}{suffix}?vsn=2.0.0"), &[]);
            assert_eq!(answer.status, expected, "{mount}{suffix}");
        }
    }
}

/// Sends only the head of a frame, so that it is its announced length that decides.
#[track_caller]
fn announced(mut client: Raw, len: usize) -> Raw {
    client.write(&header(TEXT, len));
    client.write(&[0, 0, 0, 0]);
    client
}

#[test]
fn frames_and_messages_are_as_big_as_the_mount_says() {
    let playground = Playground::start();
    announced(playground.open("/socket", ""), 10_000_001).expect_close(1009);
    announced(playground.open("/socket_small", ""), 65_537).expect_close(1009);
    for (mount, len) in [("/socket", 9_000_000), ("/socket_small", 65_536)] {
        let mut client = playground.open(mount, "");
        client.join("1", "room:big", &json!({}));
        let (before, after) = (r#"["1","2","room:big","reply_status_only",""#, r#""]"#);
        let text = format!("{before}{}{after}", "x".repeat(len - before.len() - after.len()));
        client.write(&frame(TEXT, text.as_bytes()));
        client.expect_ok("1", "2", "room:big", &json!({}));
    }
    // Of several frames a message may be of 8,000,000 bytes.
    let mut client = playground.open("/socket", "");
    client.write(&frame(TEXT_BEGIN, &[b' '; 4_000_000]));
    client.write(&frame(0, &[b' '; 4_000_000]));
    client.write(&header(END, 1));
    client.expect_close(1009);
}

#[test]
fn a_socket_joins_as_many_topics_as_the_mount_says() {
    let playground = Playground::start();
    for (mount, max) in [("/socket_small", 3), ("/socket", 1000)] {
        let mut client = playground.open(mount, "");
        for i in 0..max {
            client.join("1", &format!("room:{i}"), &json!({}));
        }
        client.say(&json!(["9", "10", "room:more", "phx_join", {}]));
        client.expect(&json!([
            "9", "10", "room:more", "phx_reply", {"status": "error", "response": {"reason": "too many channels joined"}}
        ]));
        // A duplicate join is none more.
        client.say(&json!(["9", "11", "room:0", "phx_join", {}]));
        client.expect_ok("9", "11", "room:0", &json!({}));
    }
}

#[test]
fn a_silent_socket_is_closed_after_the_mounts_time() {
    let playground = Playground::start();
    let began = Instant::now();
    let (mut fast, mut other) = (playground.open("/socket_fast", ""), playground.open("/socket", ""));
    fast.expect_close(1002);
    assert!(began.elapsed() >= Duration::from_millis(1_400), "{:?}", began.elapsed());
    other.expect_nothing();
}

/// Its mounts, paths and numbers are configuration.
#[test]
fn another_file_is_obeyed() {
    let playground = Playground::by_file(
        r#"
            [demo]
            enabled = true
            [[socket]]
            path = "/deep/er"
            max_channels = 2
            max_frame = 2048
            subprotocols = ["gamma"]
            auth_token = true
            origins = ["//only.example"]
            [[socket]]
            path = "/demo"
            longpoll = false
            idle_timeout = "400ms"
        "#,
    );
    assert_eq!(playground.upgrade("/socket/websocket", &[]).1.status, 404);
    assert_eq!(protocol(&playground, "/deep/er", Some("gamma, phoenix")), Ok(Some("phoenix".to_owned())));
    assert_eq!(protocol(&playground, "/deep/er", Some("gamma")), Ok(Some("gamma".to_owned())));
    assert_eq!(protocol(&playground, "/deep/er", Some("alpha")), Err(403));
    assert_eq!(playground.upgrade("/deep/er/websocket", &[("Origin", "http://only.example")]).1.status, 101);
    assert_eq!(playground.upgrade("/deep/er/websocket", &[("Origin", "http://other.example")]).1.status, 403);
    announced(playground.open("/deep/er", ""), 2_049).expect_close(1009);
    let mut client = playground.open("/deep/er", "&socket_id=9");
    for topic in ["room:1", "lobby"] {
        client.join("1", topic, &json!({}));
    }
    client.say(&json!(["3", "3", "realtime:x", "phx_join", {}]));
    client.expect(&json!([
        "3", "3", "realtime:x", "phx_reply", {"status": "error", "response": {"reason": "too many channels joined"}}
    ]));
    // A mount may even share its first part with the controls.
    playground.open("/demo", "").expect_close(1002);
    playground.control("/demo/publish?topic=lobby&event=news", b"{}");
    client.expect(&json!([null, null, "lobby", "news", {}]));
    playground.control("/demo/disconnect?id=users_socket:9", b"");
    client.expect_close(1001);
}

#[test]
fn without_the_switch_there_is_nothing_of_it() {
    let playground = Playground::with(&["demo.enabled=false"]);
    for path in
        ["/demo/publish?topic=room:a&event=e", "/demo/publish_binary?topic=room:a&event=e", "/demo/disconnect?id=x"]
    {
        for method in ["POST", "GET", "DELETE"] {
            assert_eq!(
                playground.ask(method, path, &[("Origin", "https://evil.example")], b"{}").status,
                404,
                "{method} {path}"
            );
        }
    }
    let mut client = playground.open("/socket", "&reject=error");
    for topic in ["lobby", "realtime:x"] {
        client.say(&json!(["1", "1", topic, "phx_join", {}]));
        client.expect(&json!([
            null, "1", topic, "phx_reply", {"status": "error", "response": {"reason": "unmatched topic"}}
        ]));
    }
    assert!(!playground.log().contains("demo.enabled"));
    assert!(Playground::start().log().contains("demo.enabled is set"));
}
