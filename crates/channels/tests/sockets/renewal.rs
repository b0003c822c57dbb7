//! Sockets that go on under another credential: another end, and fewer channels.

use std::time::{Duration, Instant};

use serde_json::Value;
use tickwire_channels::{Common, Context, Endpoint, Flow, Payload, Renewal, SocketInfo, Status, WorkersConfig};

use crate::support::Server;

/// Takes the event `renew` on any topic: `{"end_ms": N, "keeps": [TOPIC…], "later": true}`, all optional; the topic `panic` lets it panic.
pub(crate) struct Renewals;

impl Common for Renewals {
    fn handle(&self, event: &str, payload: &Payload, context: &mut Context<'_>) -> Option<Flow> {
        if event != "renew" {
            return None;
        }
        let wish: Value = serde_json::from_slice(payload.bytes()).unwrap();
        let expires_at = wish["end_ms"].as_u64().map(|end| Instant::now() + Duration::from_millis(end));
        let keeps = wish["keeps"].clone();
        let keeps = Box::new(move |topic: &tickwire_pubsub::Topic| {
            keeps.as_array().is_none_or(|keeps| {
                assert!(!keeps.contains(&Value::from("panic")), "told to panic");
                keeps.contains(&Value::from(topic.as_str()))
            })
        });
        let renewal = Renewal { expires_at, keeps };
        if wish["later"] == true {
            let handle = context.handle().clone();
            context.defer(async move {
                handle.renew(renewal).unwrap();
                (Status::Ok, Payload::empty())
            });
        } else {
            context.reply(Status::Ok, Payload::empty());
            context.renew(renewal);
        }
        Some(Flow::Continue)
    }
}

/// A server whose sockets end after a time.
fn server(life: Duration) -> Server {
    let endpoint = Endpoint::new("/socket")
        .connect(move |info, _| Some(SocketInfo { expires_at: Some(Instant::now() + life), ..info }));
    Server::with_endpoint(WorkersConfig { workers: 1, ..WorkersConfig::default() }, endpoint)
}

const OK: &str = r#"["j","2","room:a","phx_reply",{"status":"ok","response":{}}]"#;

#[test]
fn a_socket_ends_when_it_was_renewed_to() {
    for later in [false, true] {
        let server = server(Duration::from_secs(3600));
        let mut client = server.v2();
        client.join("room:a", "{}");
        client.send(&format!(r#"["j","2","room:a","renew",{{"end_ms":50,"later":{later}}}]"#));
        client.expect(&[OK]);
        client.expect_close(1001, "token_expired");
    }
}

#[test]
fn a_renewed_socket_outlives_its_first_end() {
    let server = server(Duration::from_millis(1000));
    let first_end = Instant::now() + Duration::from_millis(1500);
    let mut client = server.v2();
    client.join("room:a", "{}");
    // Often: each time the one timer of its life is set anew or left alone.
    for _ in 0..100 {
        client.send(r#"["j","2","room:a","renew",{"end_ms":3600000}]"#);
        client.expect(&[OK]);
    }
    while Instant::now() < first_end {
        client.send(r#"["j","2","room:a","echo",{}]"#);
        client.expect(&[OK]);
        std::thread::park_timeout(Duration::from_millis(20));
    }
    client.send(r#"["j","2","room:a","renew",{"end_ms":null}]"#);
    client.expect(&[OK]);
    client.send(r#"["j","2","room:a","renew",{"end_ms":0}]"#);
    client.expect(&[OK]);
    client.expect_close(1001, "token_expired");
}

#[test]
fn channels_that_are_not_kept_are_closed() {
    let server = server(Duration::from_secs(3600));
    let mut client = server.v2();
    for topic in ["room:a", "room:b", "room:c"] {
        client.send(&format!(r#"["{topic}","1","{topic}","phx_join",{{}}]"#));
        client.expect(&[&format!(r#"["{topic}","1","{topic}","phx_reply",{{"status":"ok","response":{{}}}}]"#)]);
    }
    // A join that has not been decided is refused; its permit changes nothing any more.
    client.send(r#"["s","s","room:slow","phx_join",{}]"#);
    client.send(r#"["room:a","2","room:a","renew",{"keeps":["room:b"],"end_ms":3600000}]"#);
    client.expect(&[
        r#"["room:a","2","room:a","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["room:a","room:a","room:a","phx_close",{}]"#,
        r#"["room:c","room:c","room:c","phx_close",{}]"#,
        r#"["s","s","room:slow","phx_reply",{"status":"error","response":{"reason":"unauthorized"}}]"#,
    ]);
    server.gate.add_permits(1);
    client.send(r#"["room:b","3","room:b","echo",{}]"#);
    client.expect(&[r#"["room:b","3","room:b","phx_reply",{"status":"ok","response":{}}]"#]);
    assert_eq!((server.workers.joins(), server.left.load(std::sync::atomic::Ordering::Relaxed)), (1, 2));
    // Code that fails to say so keeps nothing, and nothing else ends.
    client.send(r#"["room:b","4","room:b","renew",{"keeps":["panic"]}]"#);
    client.expect(&[
        r#"["room:b","4","room:b","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["room:b","room:b","room:b","phx_close",{}]"#,
    ]);
    client.join("room:a", "{}");
}

#[test]
fn what_is_in_common_is_asked_for_joined_topics_only() {
    let server = Server::start();
    let mut client = server.v2();
    client.send(r#"["j","2","room:a","renew",{"end_ms":0}]"#);
    client.expect(&[r#"[null,"2","room:a","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#]);
    client.join("room:a", "{}");
}
