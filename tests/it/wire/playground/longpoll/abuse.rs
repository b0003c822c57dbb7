//! What nobody should send.

use serde_json::json;

use super::{
    super::super::client::{Raw, eventually},
    BATCH, JOIN, JOINED, Playground, Poller, method_request,
};

#[test]
fn tampered_tokens_are_no_tokens() {
    let playground = Playground::start();
    let poller = Poller::v2(&playground);
    for at in (0..poller.token.len()).step_by(7) {
        let mut changed = poller.token.clone().into_bytes();
        changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
        let changed = String::from_utf8(changed).unwrap();
        let answer = playground.ask("POST", &format!("/socket/longpoll?token={changed}"), &[], JOIN.as_bytes());
        assert_eq!(answer.body, br#"{"status":410}"#);
    }
    for garbage in ["%00", "%ff", "%F0%9F%92%A9", &"A".repeat(8_000), "twlp1.", "twlp1.%20", "&token", "[]"] {
        let answer = playground.ask("POST", &format!("/socket/longpoll?token={garbage}"), &[], JOIN.as_bytes());
        assert!(matches!(answer.status, 200 | 400), "{garbage}: {answer:?}");
    }
    poller.send(&[JOIN]);
    poller.expect(&[JOINED]);
    let log = playground.log();
    assert!(!log.contains(&poller.token) && !log.contains(&poller.token[20..60]), "a token appears in no log");
}

/// A body that is announced and never sent holds its own connection and nothing else.
#[test]
fn a_body_that_does_not_come_holds_up_nobody() {
    let playground = Playground::start();
    let poller = Poller::v2(&playground);
    let mut slow = Raw::connect(playground.address);
    let headers = [("Host", "localhost"), ("Content-Length", "1000")];
    slow.write(method_request("POST", &format!("/socket/longpoll?token={}", poller.token), &headers).as_bytes());
    slow.write(b"[");
    poller.send(&[JOIN]);
    poller.expect(&[JOINED]);
}

#[test]
fn polls_and_posts_of_many_clients_at_once() {
    const CLIENTS: usize = 40;
    const MESSAGES: usize = 50;
    let playground = Playground::start();
    let (address, tokens): (_, Vec<_>) =
        (playground.address, (0..CLIENTS).map(|_| Poller::v2(&playground).token).collect());
    let threads: Vec<_> =
        tokens.into_iter().map(|token| std::thread::spawn(move || talk(address, &token, MESSAGES))).collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(playground.metric("tickwire_poll_sessions", ""), 40.0);
}

/// One client: posts on one connection, polls on another, and gets all of its own in order.
fn talk(address: std::net::SocketAddr, token: &str, messages: usize) {
    let target = format!("/socket/longpoll?token={token}");
    let (mut post, mut poll) = (Raw::connect(address), Raw::connect(address));
    let mut send = |body: &str| {
        let length = body.len().to_string();
        let headers = [("Host", "localhost"), ("Content-Type", BATCH), ("Content-Length", length.as_str())];
        post.write(format!("{}{body}", method_request("POST", &target, &headers)).as_bytes());
        assert_eq!(post.answer().body, br#"{"status":200}"#);
    };
    send(r#"["1","1","room:own","phx_join",{}]"#);
    for i in 0..messages {
        send(&format!(r#"["1","m","room:own","push_me",{{"i":{i}}}]"#));
    }
    let mut next = 0;
    while next < messages {
        poll.write(method_request("GET", &target, &[("Host", "localhost")]).as_bytes());
        let answer: serde_json::Value = serde_json::from_slice(&poll.answer().body).unwrap();
        for message in answer["messages"].as_array().unwrap() {
            let message: serde_json::Value = serde_json::from_str(message.as_str().unwrap()).unwrap();
            if message[3] == json!("pushed") {
                assert_eq!(message[4]["i"], json!(next));
                next += 1;
            }
        }
    }
}

/// Many connections that poll with one token at once: its owner still gets every message, once.
#[test]
fn a_flood_of_polls_with_one_token() {
    let playground = Playground::start();
    let poller = Poller::open(&playground, "/socket_fast", "vsn=2.0.0");
    poller.send(&[JOIN]);
    poller.expect(&[JOINED]);
    let mut flood: Vec<_> = (0..100).map(|_| poller.begin_poll()).collect();
    eventually("one of them waits", || playground.metric("tickwire_polls_waiting", "") == 1.0);
    poller.send(&[r#"["1","2","room:a","shout",{}]"#]);
    let mut got = 0;
    for poll in &mut flood {
        let answer: serde_json::Value = serde_json::from_slice(&poll.answer().body).unwrap();
        got += answer["messages"].as_array().unwrap().len();
    }
    assert_eq!(got, 1);
}

#[test]
fn sessions_are_bounded_and_keep_no_socket_out() {
    let playground = Playground::with(&["limits.connections=30"]);
    let mut client = Raw::connect(playground.address);
    let mut opened = 0;
    let refused = loop {
        client.write(method_request("GET", "/socket/longpoll?vsn=2.0.0", &[("Host", "localhost")]).as_bytes());
        let answer = client.answer();
        if answer.status != 200 {
            break answer;
        }
        opened += 1;
    };
    assert_eq!(opened, 15, "half of the connections");
    assert_eq!((refused.status, refused.body.as_slice()), (503, &br#"{"status":500}"#[..]));
    assert!(refused.header("retry-after").is_some());
    let sockets: Vec<_> = (0..20).map(|_| playground.upgrade("/socket/websocket?vsn=2.0.0", &[])).collect();
    assert!(sockets.iter().all(|(_, answer)| answer.status == 101));
}
