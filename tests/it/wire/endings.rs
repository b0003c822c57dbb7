//! §7: channels that stop or crash, and sockets that are closed by the server.

use serde_json::{Value, json};
use tickwire_channels::CloseReason;

use super::{client::Raw, demo::Demo};

fn close(join_ref: &str, topic: &str) -> Value {
    json!([join_ref, join_ref, topic, "phx_close", {}])
}

fn crash(join_ref: &str, topic: &str) -> Value {
    json!([join_ref, join_ref, topic, "phx_error", {"reason": "channel_crash"}])
}

#[track_caller]
fn expect_gone(client: &mut Raw, join_ref: &str, topic: &str) {
    client.say(&json!([join_ref, "gone", topic, "echo", {}]));
    client.expect(&json!([
        null, "gone", topic, "phx_reply", {"status": "error", "response": {"reason": "unmatched topic"}}
    ]));
}

#[test]
fn a_channel_that_stops_is_closed_behind_its_reply() {
    let demo = Demo::start();
    let mut client = demo.v2();
    client.join("1", "room:a", &json!({}));
    client.say(&json!(["1", "2", "room:a", "stop", {"bye": true}]));
    client.expect_ok("1", "2", "room:a", &json!({"bye": true}));
    client.expect(&close("1", "room:a"));
    expect_gone(&mut client, "1", "room:a");
    for event in ["stop_noreply", "stop_shutdown"] {
        client.join("3", "room:a", &json!({}));
        client.say(&json!(["3", "4", "room:a", event, {}]));
        client.expect(&close("3", "room:a"));
        expect_gone(&mut client, "3", "room:a");
    }
    client.expect_nothing();
}

#[test]
fn a_channel_that_fails_says_so_and_nothing_else_notices() {
    let demo = Demo::library();
    let (mut client, mut other) = (demo.v2(), demo.v2());
    client.join("b", "room:b", &json!({}));
    other.join("o", "room:a", &json!({}));
    for (round, event) in ["crash", "stop_reason", "crash"].into_iter().enumerate() {
        let join_ref = round.to_string();
        client.join(&join_ref, "room:a", &json!({}));
        client.say(&json!([join_ref, "x", "room:a", event, {}]));
        client.expect(&crash(&join_ref, "room:a"));
        expect_gone(&mut client, &join_ref, "room:a");
        client.say(&json!(["b", "2", "room:b", "echo", {}]));
        client.expect_ok("b", "2", "room:b", &json!({}));
        other.say(&json!(["o", "2", "room:a", "shout", {"round": round}]));
        other.expect(&json!([null, null, "room:a", "shout", {"round": round}]));
    }
    // What is pipelined behind the crash finds no channel; the client may join again at once.
    client.join("7", "room:a", &json!({}));
    for message in [
        json!(["7", "1", "room:a", "crash", {}]),
        json!(["7", "2", "room:a", "echo", {}]),
        json!(["8", "8", "room:a", "phx_join", {}]),
        json!(["8", "9", "room:a", "echo", {}]),
    ] {
        client.say(&message);
    }
    client.expect(&crash("7", "room:a"));
    client.expect(
        &json!([null, "2", "room:a", "phx_reply", {"status": "error", "response": {"reason": "unmatched topic"}}]),
    );
    client.expect_ok("8", "8", "room:a", &json!({}));
    client.expect_ok("8", "9", "room:a", &json!({}));
    // A member that crashed gets no more broadcasts, one that joined again gets each once.
    other.say(&json!(["o", "3", "room:a", "shout", {"last": 1}]));
    client.expect(&json!([null, null, "room:a", "shout", {"last": 1}]));
    client.expect_nothing();
    assert!(demo.workers().is_healthy());
}

/// §7, §4: an undecodable message ends every channel of its socket; the others of the topic go on.
#[test]
fn undecodable_input_ends_the_socket_with_all_its_channels() {
    let demo = Demo::library();
    let (mut client, mut other) = (demo.v2(), demo.v2());
    other.join("1", "room:a", &json!({}));
    for topic in ["room:a", "room:b", "lobby"] {
        client.join("1", topic, &json!({}));
    }
    client.send("nonsense");
    client.expect_close(1011);
    super::client::eventually("its channels have ended", || demo.workers().joins() == 1);
    other.say(&json!(["1", "2", "room:a", "shout_reply", {}]));
    other.expect(&json!([null, null, "room:a", "shout", {}]));
    other.expect_ok("1", "2", "room:a", &json!({}));
}

#[test]
fn what_was_answered_before_the_bad_message_is_still_sent() {
    let demo = Demo::start();
    let mut client = demo.v2();
    client.join("1", "room:a", &json!({}));
    client.say(&json!(["1", "2", "room:a", "push_n", {"n": 3}]));
    client.send("nonsense");
    client.say(&json!(["1", "3", "room:a", "echo", {}]));
    for i in 0..3 {
        client.expect(&json!(["1", null, "room:a", "seq", {"i": i}]));
    }
    client.expect_ok("1", "2", "room:a", &json!({}));
    client.expect_close(1011);
}

#[test]
fn a_socket_is_disconnected_by_its_id_with_1001_and_nothing_before() {
    let demo = Demo::library();
    let (mut one, mut two, mut three) = (
        Raw::open(demo.address, "vsn=2.0.0&socket_id=7"),
        Raw::open(demo.address, "vsn=1.0.0&socket_id=7"),
        Raw::open(demo.address, "vsn=2.0.0&socket_id=8"),
    );
    one.join("1", "room:a", &json!({}));
    two.expect_nothing_v1();
    three.join("1", "room:a", &json!({}));
    demo.workers().close_where(|info| info.id.as_deref() == Some("users_socket:7"), CloseReason::Disconnected);
    one.expect_close(1001);
    two.expect_close(1001);
    three.expect_nothing();
}

#[test]
fn a_drained_socket_is_closed_with_1012_and_nothing_before() {
    let demo = Demo::library();
    let (mut joined, mut idle) = (demo.v2(), demo.v2());
    joined.join("1", "room:a", &json!({}));
    idle.expect_nothing();
    let workers = demo.workers().clone();
    let draining = demo.runtime().spawn(async move { workers.drain(std::time::Duration::ZERO).await });
    joined.expect_close(1012);
    idle.expect_close(1012);
    drop((joined, idle));
    demo.runtime().block_on(draining).unwrap();
    assert_eq!(demo.workers().connections(), 0);
}
