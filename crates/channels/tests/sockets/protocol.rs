//! The wire, byte for byte.

use tickwire_channels::websocket::Opcode;

use crate::support::{Client, Frame, Server};

#[test]
fn v2_joins_replies_and_leaves() {
    let server = Server::start();
    let mut client = server.v2();
    client.send(r#"["1","2","room:a","phx_join",{"x":1.0}]"#);
    client.expect(&[r#"["1","2","room:a","phx_reply",{"status":"ok","response":{"x":1.0}}]"#]);
    client.send(r#"["1","3","room:a","echo",{"big":123456789012345678901234567890}]"#);
    client.expect(&[
        r#"["1","3","room:a","phx_reply",{"status":"ok","response":{"big":123456789012345678901234567890}}]"#,
    ]);
    client.send(r#"[null,"4","room:a","echo_error","é"]"#);
    client.expect(&[r#"["1","4","room:a","phx_reply",{"status":"error","response":"é"}]"#]);
    client.send(r#"["1",null,"room:a","echo",{}]"#);
    client.expect(&[r#"["1",null,"room:a","phx_reply",{"status":"ok","response":{}}]"#]);
    client.send(r#"["1","5","room:a","push_me",{"y":2}]"#);
    client.expect(&[r#"["1",null,"room:a","pushed",{"y":2}]"#]);
    client.send(r#"["1","6","room:a","phx_leave",{}]"#);
    client.expect(&[
        r#"["1","6","room:a","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","1","room:a","phx_close",{}]"#,
    ]);
    client.send(r#"["1","7","room:a","echo",{}]"#);
    client.expect(&[r#"[null,"7","room:a","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#]);
}

#[test]
fn v1_joins_replies_and_leaves() {
    let server = Server::start();
    let mut client = server.v1();
    client.send(r#"{"topic":"room:a","event":"phx_join","payload":{},"ref":"1"}"#);
    let mut messages = vec![client.text()];
    client.send(r#"{"topic":"room:a","event":"push_me","payload":{"y":2},"ref":"2"}"#);
    messages.push(client.text());
    client.send(r#"{"topic":"room:a","event":"shout","payload":{"z":3},"ref":"3"}"#);
    messages.push(client.text());
    client.send(r#"{"topic":"room:a","event":"phx_leave","payload":{},"ref":"4"}"#);
    messages.push(client.text());
    messages.push(client.text());
    let seen: Vec<serde_json::Value> = messages.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let expected = [
        serde_json::json!({"topic":"room:a","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"1"}),
        serde_json::json!({"topic":"room:a","event":"pushed","payload":{"y":2},"ref":null}),
        serde_json::json!({"topic":"room:a","event":"shout","payload":{"z":3},"ref":null}),
        serde_json::json!({"topic":"room:a","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"4"}),
        serde_json::json!({"topic":"room:a","event":"phx_close","payload":{},"ref":null}),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn refused_and_crashed_joins_leave_nothing_behind() {
    let server = Server::start();
    let mut client = server.v2();
    client.send(r#"["1","1","room:forbidden","phx_join",{}]"#);
    client.send(r#"["2","2","room:crash_join","phx_join",{}]"#);
    client.send(r#"["3","3","nosuch:a","phx_join",{}]"#);
    client.send(r#"["1","4","room:forbidden","echo",{}]"#);
    client.expect(&[
        r#"["1","1","room:forbidden","phx_reply",{"status":"error","response":{"reason":"unauthorized"}}]"#,
        r#"["2","2","room:crash_join","phx_reply",{"status":"error","response":{"reason":"join crashed"}}]"#,
        r#"[null,"3","nosuch:a","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
        r#"[null,"4","room:forbidden","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
    ]);
    client.send(r#"["5","5","room:crash_later","phx_join",{}]"#);
    client.expect(&[
        r#"["5","5","room:crash_later","phx_reply",{"status":"error","response":{"reason":"join crashed"}}]"#,
    ]);
    assert_eq!(server.workers.joins(), 0);
}

/// phoenix.js tears the fresh channel down if the old one's close comes first, or carries the new reference.
#[test]
fn a_duplicate_join_is_answered_before_the_old_channel_is_closed() {
    let server = Server::start();
    let mut client = server.v2();
    client.send(r#"["1","1","room:a","phx_join",{}]"#);
    client.send(r#"["2","2","room:a","phx_join",{}]"#);
    client.send(r#"["1","3","room:a","echo","stale"]"#);
    client.send(r#"["2","4","room:a","push_me",{}]"#);
    client.expect(&[
        r#"["1","1","room:a","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["2","2","room:a","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","1","room:a","phx_close",{}]"#,
        r#"["2",null,"room:a","pushed",{}]"#,
    ]);
    client.send(r#"["2","5","room:a","shout",{}]"#);
    client.expect(&[r#"[null,null,"room:a","shout",{}]"#]);
    client.expect_nothing();
}

#[test]
fn binary_messages_are_answered_by_what_their_reply_holds() {
    let server = Server::start();
    let mut client = server.v2();
    client.join("room:a", "{}");
    client.frame(Opcode::Binary, b"\0\x01\x01");
    assert_eq!(client.next(), Some(Frame::Close(1011, "undecodable_message".to_owned())));

    let mut client = server.v2();
    client.join("room:a", "{}");
    client.frame(Opcode::Binary, b"\0\x01\x01\x06\x04j9room:aecho\xff\x00");
    assert_eq!(client.next(), Some(Frame::Binary(b"\x01\x01\x01\x06\x02j9room:aok\xff\x00".to_vec())));
    client.frame(Opcode::Binary, b"\0\x01\x01\x06\x07j9room:apush_me\xfe");
    assert_eq!(client.next(), Some(Frame::Binary(b"\0\x01\x06\x06jroom:apushed\xfe".to_vec())));
    client.frame(Opcode::Binary, b"\0\x01\x01\x06\x05j9room:ashout\xfd");
    assert_eq!(client.next(), Some(Frame::Binary(b"\x02\x06\x05room:ashout\xfd".to_vec())));
    // An empty reference is not null: on a joined topic it is stale.
    client.frame(Opcode::Binary, b"\0\0\x01\x06\x049room:aecho\xff");
    client.expect_nothing();
    client.frame(Opcode::Binary, b"\0\0\x01\x07\x09hphoenixheartbeat");
    client.expect(&[r#"[null,"h","phoenix","phx_reply",{"status":"ok","response":{}}]"#]);
}

#[test]
fn a_binary_event_that_cannot_be_encoded_crashes_its_channel_alone() {
    let server = Server::start();
    let mut client = server.v2();
    client.join("room:a", "{}");
    client.join("room:b", "{}");
    client.send(r#"["j","1","room:a","binary_out",{"n":3}]"#);
    client.expect(&[r#"["j","j","room:a","phx_error",{"reason":"channel_crash"}]"#]);
    client.send(r#"["j","2","room:b","echo",{}]"#);
    client.expect(&[r#"["j","2","room:b","phx_reply",{"status":"ok","response":{}}]"#]);
}

/// Phoenix crashes the broadcaster; here the member that cannot be told is skipped.
#[test]
fn a_binary_broadcast_skips_v1_members() {
    let server = Server::start();
    let (mut old, mut new) = (server.v1(), server.v2());
    old.send(r#"{"topic":"room:a","event":"phx_join","payload":{},"ref":"1"}"#);
    old.text();
    new.join("room:a", "{}");
    new.frame(Opcode::Binary, b"\0\x01\x01\x06\x05j9room:ashout\xfd");
    assert!(matches!(new.next(), Some(Frame::Binary(_))));
    new.send(r#"["j","1","room:a","shout",{}]"#);
    assert!(old.text().contains("\"shout\""));
}

#[test]
fn channels_stop_and_crash_as_phoenix_channels_do() {
    let server = Server::start();
    let mut client = server.v2();
    for (event, expected) in [
        (
            "stop",
            vec![
                r#"["j","1","room:a","phx_reply",{"status":"ok","response":{}}]"#,
                r#"["j","j","room:a","phx_close",{}]"#,
            ],
        ),
        ("stop_noreply", vec![r#"["j","j","room:a","phx_close",{}]"#]),
        ("stop_shutdown", vec![r#"["j","j","room:a","phx_close",{}]"#]),
        ("stop_reason", vec![r#"["j","j","room:a","phx_error",{"reason":"channel_crash"}]"#]),
        (
            "crash",
            vec![
                r#"["j",null,"room:a","before_the_crash",{}]"#,
                r#"["j","j","room:a","phx_error",{"reason":"channel_crash"}]"#,
            ],
        ),
        ("late_crash", vec![r#"["j","j","room:a","phx_error",{"reason":"channel_crash"}]"#]),
    ] {
        client.join("room:a", "{}");
        client.send(&format!(r#"["j","1","room:a","{event}",{{}}]"#));
        client.expect(&expected);
        client.send(r#"["j","2","room:a","echo",{}]"#);
        client
            .expect(&[r#"[null,"2","room:a","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#]);
    }
}

/// What a channel does, it does in that order, whatever way each thing takes.
#[test]
fn a_broadcast_comes_before_the_reply_that_follows_it() {
    let server = Server::start();
    let mut client = server.v2();
    client.join("room:a", "{}");
    for _ in 0..100 {
        client.send(r#"["j","1","room:a","shout_reply",{}]"#);
        client.expect(&[
            r#"[null,null,"room:a","shout",{}]"#,
            r#"["j","1","room:a","phx_reply",{"status":"ok","response":{}}]"#,
        ]);
        client.send(r#"["j","2","room:a","from_task",{}]"#);
        client.expect(&[r#"[null,null,"room:a","shouted",{}]"#, r#"["j",null,"room:a","pushed",{}]"#]);
        client.expect(&[r#"["j","2","room:a","phx_reply",{"status":"ok","response":{}}]"#]);
    }
}

#[test]
fn pushes_made_during_a_join_follow_its_reply() {
    let server = Server::start();
    let mut client = server.v2();
    client.send(r#"["1","1","room:hello","phx_join",{}]"#);
    client.expect(&[
        r#"["1","1","room:hello","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1",null,"room:hello","hello",{}]"#,
        r#"["1",null,"room:hello","pushed_during_join",{}]"#,
    ]);
}

#[test]
fn only_the_joining_topic_waits_for_its_join() {
    let server = Server::start();
    let mut client = server.v2();
    client.join("room:a", "{}");
    client.send(r#"["1","1","room:slow","phx_join",{}]"#);
    client.send(r#"["1","2","room:slow","echo",2]"#);
    client.send(r#"["1","3","room:slow","phx_leave",{}]"#);
    client.send(r#"["4","4","room:slow","phx_join",{}]"#);
    client.send(r#"["4","5","room:slow","echo",5]"#);
    client.send(r#"["j","6","room:a","echo",6]"#);
    client.expect(&[r#"["j","6","room:a","phx_reply",{"status":"ok","response":6}]"#]);
    client.expect_nothing();
    server.gate.add_permits(1);
    client.expect(&[
        r#"["1","1","room:slow","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","2","room:slow","phx_reply",{"status":"ok","response":2}]"#,
        r#"["1","3","room:slow","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","1","room:slow","phx_close",{}]"#,
    ]);
    client.expect_nothing();
    server.gate.add_permits(1);
    client.expect(&[
        r#"["4","4","room:slow","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["4","5","room:slow","phx_reply",{"status":"ok","response":5}]"#,
    ]);
}

#[test]
fn what_waits_behind_a_refused_join_finds_no_channel() {
    let server = Server::start();
    let mut client = server.v2();
    client.send(r#"["1","1","room:slow_refused","phx_join",{}]"#);
    client.send(r#"["1","2","room:slow_refused","echo",{}]"#);
    server.gate.add_permits(1);
    client.expect(&[
        r#"["1","1","room:slow_refused","phx_reply",{"status":"error","response":{"reason":"no"}}]"#,
        r#"[null,"2","room:slow_refused","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
    ]);
}

#[test]
fn a_request_that_is_no_upgrade_is_answered_as_http() {
    let server = Server::start();
    for (line, status) in [
        ("GET /socket/websocket?vsn=3.0.0 HTTP/1.1", "403"),
        ("POST /socket/websocket HTTP/1.1", "400"),
        ("GET /elsewhere HTTP/1.1", "404"),
        ("nonsense", "400"),
    ] {
        let head = Client::request(server.address, line, "").head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {head}");
    }
    let long = format!("GET /socket/websocket?{} HTTP/1.1", "x".repeat(20_000));
    assert!(Client::request(server.address, &long, "").head().starts_with("HTTP/1.1 431 "));
    // A trailing slash is tolerated, and frames may follow the request at once.
    let mut client = Client::request(server.address, "GET /socket/websocket/?vsn=2.0.0 HTTP/1.1", "\u{1}");
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.next(), None);
}

/// Our own client could share a misunderstanding with the server; this one was written by others.
#[test]
fn a_websocket_client_of_others_is_served() {
    use futures_util::{SinkExt as _, StreamExt as _};
    use tokio_tungstenite::tungstenite::Message;

    let server = Server::start();
    let url = format!("ws://{}/socket/websocket?vsn=2.0.0", server.address);
    server.runtime.block_on(async {
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        socket.send(Message::text(r#"["1","1","room:a","phx_join",{}]"#)).await.unwrap();
        let big = "é".repeat(100_000);
        socket.send(Message::text(format!(r#"["1","2","room:a","echo","{big}"]"#))).await.unwrap();
        socket.send(Message::Ping("p".into())).await.unwrap();
        socket.send(Message::binary(&b"\0\x01\x01\x06\x0413room:aecho\xff"[..])).await.unwrap();
        socket.send(Message::Close(None)).await.unwrap();
        let mut seen = Vec::new();
        while let Some(message) = socket.next().await {
            seen.push(message.unwrap());
        }
        assert!(seen.contains(&Message::text(format!(
            r#"["1","2","room:a","phx_reply",{{"status":"ok","response":"{big}"}}]"#
        ))));
        assert!(seen.contains(&Message::Pong("p".into())));
        assert!(matches!(seen.last(), Some(Message::Close(Some(close))) if u16::from(close.code) == 1000));
    });
}
