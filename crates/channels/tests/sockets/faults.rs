//! What goes wrong stays where it went wrong.

use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use tickwire_channels::{MountLimits, Payload, WorkersConfig, websocket::Opcode};
use tickwire_faults::{Unit, arm};
use tickwire_pubsub::{Broadcast, Role, Topic};

use crate::support::{Frame, Server, eventually, hush, stamp};

fn limits(change: impl FnOnce(&mut MountLimits)) -> Server {
    let mut limits = MountLimits::default();
    change(&mut limits);
    Server::with(WorkersConfig { workers: 1, ..WorkersConfig::default() }, limits)
}

#[test]
fn a_panic_in_a_channel_ends_that_channel_alone() {
    let server = Server::start();
    let (mut crashing, mut other) = (server.v2(), server.v2());
    crashing.join("room:a", "{}");
    crashing.join("room:b", "{}");
    other.join("room:a", "{}");
    for _ in 0..20 {
        crashing.send(r#"["j","1","room:a","crash",{}]"#);
        crashing.expect(&[
            r#"["j",null,"room:a","before_the_crash",{}]"#,
            r#"["j","j","room:a","phx_error",{"reason":"channel_crash"}]"#,
        ]);
        crashing.send(r#"["j","2","room:b","echo",{}]"#);
        crashing.expect(&[r#"["j","2","room:b","phx_reply",{"status":"ok","response":{}}]"#]);
        crashing.join("room:a", "{}");
    }
    other.expect_nothing();
    assert!(server.workers.is_healthy());
}

/// Both messages are there when the worker comes to read: the second socket is read in the same turn, after the crash.
#[test]
fn a_connection_that_crashes_takes_no_other_with_it() {
    let server = limits(|_| {});
    let (mut blocking, mut crashing, mut other) = (server.v2(), server.v2(), server.v2());
    crashing.join("room:a", "{}");
    other.join("room:a", "{}");
    server.gate.add_permits(1);
    blocking.send(r#"["1","1","room:block","phx_join",{}]"#);
    eventually("the worker is held up", || server.gate.available_permits() == 0);
    let armed = arm(Unit::Connection, crashing.stream.local_addr().unwrap(), 1);
    crashing.send(r#"["j","1","room:a","echo",{}]"#);
    other.send(r#"["j","1","room:a","echo",{}]"#);
    server.gate.add_permits(1);
    crashing.expect_close(1011, "internal_error");
    other.expect(&[r#"["j","1","room:a","phx_reply",{"status":"ok","response":{}}]"#]);
    assert_eq!(armed.fired(), 1);
}

/// Nothing else happens on this node: the frame that says so must not wait for a turn that something else brings.
#[test]
fn a_socket_that_crashes_while_it_is_written_is_told_at_once() {
    let server = limits(|_| {});
    let (mut crashing, mut other) = (server.v2(), server.v2());
    crashing.join("room:a", "{}");
    other.join("room:a", "{}");
    let armed = arm(Unit::Write, crashing.stream.local_addr().unwrap(), 1);
    other.send(r#"["j","1","room:a","shout_from",{}]"#);
    crashing.expect_close(1011, "internal_error");
    other.send(r#"["j","2","room:a","shout",{}]"#);
    other.expect(&[r#"[null,null,"room:a","shout",{}]"#]);
    assert_eq!(armed.fired(), 1);
}

/// What a channel asked for is its code too when it is thrown away.
#[test]
fn an_answer_that_crashes_when_it_is_dropped_ends_its_channel_alone() {
    let server = Server::start();
    let mut client = server.v2();
    client.join("room:a", "{}");
    client.join("room:b", "{}");
    client.send(r#"["j","1","room:a","crash_in_drop",{}]"#);
    client.expect(&[r#"["j","j","room:a","phx_error",{"reason":"channel_crash"}]"#]);
    client.send(r#"["j","1","room:b","late_crash_in_drop",{}]"#);
    client.expect(&[r#"["j","j","room:b","phx_error",{"reason":"channel_crash"}]"#]);
    client.expect_nothing();
}

/// It is nobody's but the application's: what it sent before goes out, and the channel goes on.
#[test]
fn a_task_that_crashes_takes_its_handle_with_it_and_nothing_else() {
    hush();
    let server = Server::start();
    let mut client = server.v2();
    client.join("room:a", "{}");
    for _ in 0..1_000 {
        client.send(r#"["j","1","room:a","task_crash",{}]"#);
        client.expect(&[r#"["j",null,"room:a","pushed",{}]"#]);
    }
    client.send(r#"["j","1","room:a","echo",{}]"#);
    client.expect(&[r#"["j","1","room:a","phx_reply",{"status":"ok","response":{}}]"#]);
    assert_eq!(server.workers.joins(), 1);
}

/// Joins and answers that take time, and crash then.
#[test]
fn ten_thousand_futures_that_crash_leave_nothing() {
    hush();
    let server = limits(|limits| limits.messages_per_second = None);
    let mut client = server.v2();
    for _ in 0..5_000 {
        client.send(r#"["j","j","room:crash_later","phx_join",{}]"#);
        client.expect(&[
            r#"["j","j","room:crash_later","phx_reply",{"status":"error","response":{"reason":"join crashed"}}]"#,
        ]);
        client.join("room:a", "{}");
        client.send(r#"["j","1","room:a","late_crash",{}]"#);
        client.expect(&[r#"["j","j","room:a","phx_error",{"reason":"channel_crash"}]"#]);
    }
    client.expect_nothing();
    eventually("no future is left", || server.tasks.is_empty());
    assert!(server.workers.joins() == 0 && server.workers.is_healthy());
}

#[test]
fn a_message_that_cannot_be_read_closes_its_socket_alone() {
    for bad in
        ["", "not json", "{}", "[1,2,3]", r#"["1","1","room:a","x","\ud800"]"#, r#"["1","1","room:a","x",1e999]"#]
    {
        let server = Server::start();
        let (mut client, mut other) = (server.v2(), server.v2());
        client.join("room:a", "{}");
        other.join("room:a", "{}");
        client.send(bad);
        client.send(r#"["j","1","room:a","shout",{}]"#);
        client.expect_close(1011, "undecodable_message");
        other.expect_nothing();
        eventually("its channel ends", || server.workers.joins() == 1);
    }
}

#[test]
fn what_breaks_the_websocket_protocol_is_closed_with_its_code() {
    let rows: [(&[u8], u16, &str); 5] = [
        (b"\x81\x01a", 1002, "protocol_error"),
        (b"\xc1\x81\0\0\0\0a", 1002, "protocol_error"),
        (b"\x83\x81\0\0\0\0a", 1002, "protocol_error"),
        (b"\x81\x81\0\0\0\0\xff", 1007, "invalid_utf8"),
        (b"\x82\xff\0\0\0\0\x7f\xff\xff\xff\0\0\0\0", 1009, "frame_too_big"),
    ];
    for (bytes, code, reason) in rows {
        let server = Server::start();
        let mut client = server.v2();
        std::io::Write::write_all(&mut client.stream, bytes).unwrap();
        client.expect_close(code, reason);
    }
}

#[test]
fn a_clients_close_is_answered_with_1000() {
    let server = Server::start();
    for payload in [b"".as_slice(), b"\x03\xe8bye", b"\x0f\xa0"] {
        let mut client = server.v2();
        client.join("room:a", "{}");
        client.frame(Opcode::Close, payload);
        client.expect_close(1000, "");
    }
    let mut client = server.v2();
    client.frame(Opcode::Close, b"\x03");
    client.expect_close(1002, "protocol_error");
    drop(client);
    eventually("nothing is left", || server.workers.connections() == 0 && server.workers.joins() == 0);
}

#[test]
fn pings_are_answered() {
    let server = Server::start();
    let mut client = server.v2();
    client.frame(Opcode::Ping, b"are you there");
    assert_eq!(client.next(), Some(Frame::Pong(b"are you there".to_vec())));
}

#[test]
fn a_connection_that_is_lost_ends_its_channels() {
    let server = Server::start();
    let mut client = server.v2();
    client.join("room:a", "{}");
    client.join("room:b", "{}");
    drop(client);
    eventually("its channels end", || {
        server.left.load(std::sync::atomic::Ordering::Relaxed) == 2 && server.workers.connections() == 0
    });
    assert_eq!(server.workers.joins(), 0);
}

/// Traffic from the server does not count, a ping of the client's does.
#[test]
fn a_silent_client_is_closed() {
    let server = limits(|limits| limits.idle_timeout = Duration::from_millis(300));
    let mut client = server.v2();
    client.join("ticker:A", "{}");
    let started = std::time::Instant::now();
    client.frame(Opcode::Ping, b"");
    let publisher = server.pubsub.clone();
    let mut seq = 0;
    loop {
        seq += 1;
        publisher.broadcast(&[crate::support::update("ticker:A", seq)]);
        match client.next() {
            Some(Frame::Text(_) | Frame::Pong(_)) => {}
            other => {
                assert_eq!(other, Some(Frame::Close(1002, "idle_timeout".to_owned())));
                break;
            }
        }
    }
    assert!(started.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_client_that_talks_too_much_is_closed() {
    let server = limits(|limits| limits.messages_per_second = NonZeroU32::new(50));
    let mut client = server.v2();
    for _ in 0..100 {
        client.frame(Opcode::Pong, b"");
    }
    client.expect_close(1008, "message_rate");
}

#[test]
fn a_socket_has_so_many_channels_and_no_more() {
    let server = limits(|limits| limits.channels_max = 2);
    let mut client = server.v2();
    client.join("room:a", "{}");
    client.join("room:b", "{}");
    client.send(r#"["1","1","room:c","phx_join",{}]"#);
    client.expect(&[
        r#"["1","1","room:c","phx_reply",{"status":"error","response":{"reason":"too many channels joined"}}]"#,
    ]);
    client.send(r#"["2","2","room:b","phx_join",{}]"#);
    client.expect(&[
        r#"["2","2","room:b","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["j","j","room:b","phx_close",{}]"#,
    ]);
}

#[test]
fn a_join_that_takes_too_long_is_refused() {
    let config = WorkersConfig { workers: 1, join_timeout: Duration::from_millis(50), ..WorkersConfig::default() };
    let server = Server::with(config, MountLimits::default());
    let mut client = server.v2();
    client.send(r#"["1","1","room:never","phx_join",{}]"#);
    client.expect(&[r#"["1","1","room:never","phx_reply",{"status":"error","response":{"reason":"join timeout"}}]"#]);
}

#[test]
fn joins_beyond_the_nodes_rate_are_refused() {
    let config = WorkersConfig { workers: 1, joins_per_second: NonZeroU32::new(2), ..WorkersConfig::default() };
    let server = Server::with(config, MountLimits::default());
    let mut client = server.v2();
    client.join("room:a", "{}");
    client.join("room:b", "{}");
    client.send(r#"["1","1","room:c","phx_join",{}]"#);
    client.expect(&[r#"["1","1","room:c","phx_reply",{"status":"error","response":{"reason":"busy"}}]"#]);
}

/// Its kernel buffers are full and stay so: no close frame gets through, the connection is cut.
#[test]
fn a_client_that_takes_nothing_is_cut() {
    let config = WorkersConfig {
        workers: 1,
        send_buffer: Some(4_096),
        write_timeout: Duration::from_millis(200),
        ..WorkersConfig::default()
    };
    let server = Server::with(config, MountLimits::default());
    let mut client = server.v2();
    client.join("ticker:A", "{}");
    let payload = Payload::Json(format!("\"{}\"", "x".repeat(100_000)).into());
    let topic = Topic::new("ticker:A").unwrap();
    let mut seq = 0;
    eventually("it is cut", || {
        seq += 1;
        let (event, now) = ("update".into(), Instant::now());
        let update = Broadcast::latest(topic.clone(), event, payload.clone(), Role::Update, stamp(seq), now);
        server.pubsub.broadcast(&[Arc::new(update)]);
        server.workers.connections() == 0
    });
}
