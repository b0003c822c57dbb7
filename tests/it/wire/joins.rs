//! §§4 to 6: the socket's own events, joins, leaves, and what belongs to which join.

use serde_json::{Value, json};

use super::{
    client::{Raw, TEXT, frame},
    demo::{Demo, limits},
};
use tickwire_channels::MountLimits;

fn unmatched(msg_ref: &Value, topic: &str) -> Value {
    json!([null, msg_ref, topic, "phx_reply", {"status": "error", "response": {"reason": "unmatched topic"}}])
}

fn refused(join_ref: &str, topic: &str, reason: &str) -> Value {
    json!([join_ref, join_ref, topic, "phx_reply", {"status": "error", "response": {"reason": reason}}])
}

/// Several messages in one segment.
fn pipeline(client: &mut Raw, messages: &[Value]) {
    let bytes: Vec<u8> = messages.iter().flat_map(|message| frame(TEXT, message.to_string().as_bytes())).collect();
    client.write(&bytes);
}

#[test]
fn heartbeats_are_answered_whatever_they_carry() {
    let demo = Demo::start();
    let mut client = demo.v2();
    for (join_ref, payload) in [(json!(null), json!({})), (json!("1"), json!("x")), (json!(5), json!([null]))] {
        client.say(&json!([join_ref, "r", "phoenix", "heartbeat", payload]));
        client.expect(&json!([null, "r", "phoenix", "phx_reply", {"status": "ok", "response": {}}]));
    }
    client.say(&json!([null, null, "phoenix", "heartbeat", {}]));
    client.expect(&json!([null, null, "phoenix", "phx_reply", {"status": "ok", "response": {}}]));
    for event in ["phx_join", "phx_leave", "other", "Heartbeat"] {
        client.say(&json!(["1", "r", "phoenix", event, {}]));
        client.expect(&unmatched(&json!("r"), "phoenix"));
    }
}

#[test]
fn topics_are_matched_byte_for_byte() {
    let demo = Demo::start();
    let mut client = demo.v2();
    for topic in
        ["lobby", "room:", "room:a", "room:a:b:c", "room:*", "room: ", "room:\u{e9}", "room:e\u{301}", "room:\u{0}"]
    {
        client.join("1", topic, &json!({}));
    }
    for topic in ["Lobby", "lobby2", "lobb", "lobby:", "Room:a", "room", "xroom:a", "", " room:a", "nosuch:x"] {
        client.say(&json!(["1", "2", topic, "phx_join", {}]));
        client.expect(&unmatched(&json!("2"), topic));
    }
    // Two spellings of one letter are two topics.
    client.say(&json!(["1", "3", "room:\u{e9}", "phx_leave", {}]));
    client.expect_ok("1", "3", "room:\u{e9}", &json!({}));
    client.expect(&json!(["1", "1", "room:\u{e9}", "phx_close", {}]));
    client.say(&json!(["1", "4", "room:e\u{301}", "echo", {}]));
    client.expect_ok("1", "4", "room:e\u{301}", &json!({}));
}

#[test]
fn events_on_a_topic_that_is_not_joined_are_unmatched() {
    let demo = Demo::start();
    let mut client = demo.v2();
    for (join_ref, msg_ref) in [(json!("1"), json!("2")), (json!(null), json!(null)), (json!(1), json!(2))] {
        client.say(&json!([join_ref, msg_ref, "room:a", "echo", {}]));
        client.expect(&unmatched(&msg_ref, "room:a"));
    }
    // An event that comes before its join is not kept for it.
    pipeline(&mut client, &[json!(["1", "3", "room:a", "echo", {}]), json!(["1", "4", "room:a", "phx_join", {}])]);
    client.expect(&unmatched(&json!("3"), "room:a"));
    client.expect_ok("1", "4", "room:a", &json!({}));
    client.expect_nothing();
}

#[test]
fn a_refused_or_crashed_join_leaves_nothing_behind() {
    let demo = Demo::library();
    let mut client = demo.v2();
    for (topic, reason) in [
        ("room:forbidden", "unauthorized"),
        ("room:crash_join", "join crashed"),
        ("room:crash_join_later", "join crashed"),
    ] {
        client.say(&json!(["1", "1", topic, "phx_join", {}]));
        client.expect(&refused("1", topic, reason));
        client.expect_nothing();
        client.say(&json!(["1", "2", topic, "echo", {}]));
        client.expect(&unmatched(&json!("2"), topic));
        client.say(&json!(["1", "3", topic, "phx_leave", {}]));
        client.expect_ok("1", "3", topic, &json!({}));
        client.expect_nothing();
    }
    client.join("4", "room:a", &json!({}));
}

#[test]
fn what_is_pipelined_behind_a_join_is_handled_after_it() {
    let demo = Demo::library();
    for topic in ["room:a", "room:later"] {
        let mut client = demo.v2();
        pipeline(
            &mut client,
            &[
                json!(["1", "1", topic, "phx_join", {}]),
                json!(["1", "2", topic, "echo", {"n": 2}]),
                json!([null, "3", topic, "push_me", {}]),
                json!(["1", "4", topic, "phx_leave", {}]),
                json!(["1", "5", topic, "echo", {}]),
            ],
        );
        client.expect_ok("1", "1", topic, &json!({}));
        client.expect_ok("1", "2", topic, &json!({"n": 2}));
        client.expect(&json!(["1", null, topic, "pushed", {}]));
        client.expect_ok("1", "4", topic, &json!({}));
        client.expect(&json!(["1", "1", topic, "phx_close", {}]));
        client.expect(&unmatched(&json!("5"), topic));
    }
}

#[test]
fn joins_over_the_limit_are_refused_with_their_join_ref() {
    let demo = Demo::with(MountLimits { channels_max: 3, ..limits() });
    let mut client = demo.v2();
    for topic in ["room:1", "room:2", "room:3"] {
        client.join("1", topic, &json!({}));
    }
    client.say(&json!(["4", "4", "room:4", "phx_join", {}]));
    client.expect(&refused("4", "room:4", "too many channels joined"));
    // A duplicate join takes no further place.
    client.say(&json!(["5", "5", "room:3", "phx_join", {}]));
    client.expect_ok("5", "5", "room:3", &json!({}));
    client.expect(&json!(["1", "1", "room:3", "phx_close", {}]));
    // A topic that no route matches is that, full or not.
    client.say(&json!(["6", "6", "nosuch:x", "phx_join", {}]));
    client.expect(&unmatched(&json!("6"), "nosuch:x"));
    // A place that gets free is free: by a leave, a stop and a crash.
    client.say(&json!(["1", "7", "room:1", "phx_leave", {}]));
    client.expect_ok("1", "7", "room:1", &json!({}));
    client.expect(&json!(["1", "1", "room:1", "phx_close", {}]));
    client.join("8", "room:4", &json!({}));
    client.say(&json!(["8", "9", "room:4", "stop_noreply", {}]));
    client.expect(&json!(["8", "8", "room:4", "phx_close", {}]));
    client.join("9", "room:5", &json!({}));
    client.say(&json!(["9", "10", "room:5", "crash", {}]));
    client.expect(&json!(["9", "9", "room:5", "phx_error", {"reason": "channel_crash"}]));
    client.join("11", "room:6", &json!({}));
    client.say(&json!(["12", "12", "room:7", "phx_join", {}]));
    client.expect(&refused("12", "room:7", "too many channels joined"));
}

#[test]
fn a_leave_is_answered_then_closed_and_elsewhere_just_answered() {
    let demo = Demo::start();
    let mut client = demo.v2();
    client.join("1", "room:a", &json!({}));
    client.say(&json!(["1", "2", "room:a", "phx_leave", {"any": "payload"}]));
    client.expect_ok("1", "2", "room:a", &json!({}));
    client.expect(&json!(["1", "1", "room:a", "phx_close", {}]));
    for (join_ref, topic) in [(json!("1"), "room:a"), (json!(null), "room:b"), (json!(7), "nosuch:x")] {
        client.say(&json!([join_ref, "3", topic, "phx_leave", {}]));
        client.expect(&json!([join_ref, "3", topic, "phx_reply", {"status": "ok", "response": {}}]));
    }
    client.expect_nothing();
    // With a null join_ref, too.
    client.join("4", "room:a", &json!({}));
    client.say(&json!([null, "5", "room:a", "phx_leave", {}]));
    client.expect_ok("4", "5", "room:a", &json!({}));
    client.expect(&json!(["4", "4", "room:a", "phx_close", {}]));
}

#[test]
fn messages_of_an_earlier_join_are_dropped_silently() {
    let demo = Demo::start();
    let mut client = demo.v2();
    client.join("1", "room:a", &json!({}));
    for join_ref in [json!("0"), json!(1), json!(""), json!(["1"]), json!(true)] {
        client.say(&json!([join_ref, "2", "room:a", "echo", {}]));
        client.say(&json!([join_ref, "3", "room:a", "phx_leave", {}]));
        client.say(&json!([join_ref, "4", "room:a", "crash", {}]));
    }
    client.expect_nothing();
    client.say(&json!(["1", "5", "room:a", "echo", {}]));
    client.expect_ok("1", "5", "room:a", &json!({}));
}

#[test]
fn a_null_join_ref_is_delivered_and_answered_with_that_of_the_join() {
    let demo = Demo::start();
    let mut client = demo.v2();
    client.join("j", "room:a", &json!({}));
    client.say(&json!([null, "2", "room:a", "echo", {}]));
    client.expect_ok("j", "2", "room:a", &json!({}));
    client.say(&json!([null, null, "room:a", "echo", {}]));
    client.expect(&json!(["j", null, "room:a", "phx_reply", {"status": "ok", "response": {}}]));
    // References are not deduplicated.
    for _ in 0..3 {
        client.say(&json!(["j", "same", "room:a", "echo", {}]));
        client.expect_ok("j", "same", "room:a", &json!({}));
    }
}

#[test]
fn a_join_without_join_ref_puts_its_ref_in_that_place() {
    let demo = Demo::start();
    let mut client = demo.v2();
    client.say(&json!([null, "r", "room:a", "phx_join", {"push_on_join": true}]));
    client.expect(&json!([null, "r", "room:a", "phx_reply", {"status": "ok", "response": {}}]));
    client.expect(&json!(["r", null, "room:a", "hello", {}]));
    client.say(&json!([null, "2", "room:a", "echo", {}]));
    client.expect_ok("r", "2", "room:a", &json!({}));
    // Any join_ref is from another join, even the one that it is answered with.
    client.say(&json!(["r", "3", "room:a", "echo", {}]));
    client.say(&json!(["x", "4", "room:a", "phx_leave", {}]));
    client.expect_nothing();
    client.say(&json!([null, "5", "room:a", "phx_leave", {}]));
    client.expect_ok("r", "5", "room:a", &json!({}));
    client.expect(&json!([null, null, "room:a", "phx_close", {}]));
    client.say(&json!([null, "6", "room:a", "phx_join", {}]));
    client.expect(&json!([null, "6", "room:a", "phx_reply", {"status": "ok", "response": {}}]));
    client.say(&json!([null, "7", "room:a", "crash", {}]));
    client.expect(&json!([null, null, "room:a", "phx_error", {"reason": "channel_crash"}]));
}

#[test]
fn topics_of_one_socket_may_share_a_join_ref() {
    let demo = Demo::start();
    let mut client = demo.v2();
    client.join("1", "room:a", &json!({}));
    client.join("1", "room:b", &json!({}));
    client.say(&json!(["1", "2", "room:a", "phx_leave", {}]));
    client.expect_ok("1", "2", "room:a", &json!({}));
    client.expect(&json!(["1", "1", "room:a", "phx_close", {}]));
    client.say(&json!(["1", "3", "room:b", "echo", {}]));
    client.expect_ok("1", "3", "room:b", &json!({}));
}

#[test]
fn a_duplicate_join_is_answered_before_the_old_one_is_closed() {
    let demo = Demo::start();
    let (mut client, mut other) = (demo.v2(), demo.v2());
    other.join("1", "room:a", &json!({}));
    client.join("1", "room:a", &json!({}));
    // Different join_refs, then equal ones, then none.
    client.say(&json!(["2", "9", "room:a", "phx_join", {"push_on_join": true}]));
    client.expect_ok("2", "9", "room:a", &json!({}));
    client.expect(&json!(["1", "1", "room:a", "phx_close", {}]));
    client.expect(&json!(["2", null, "room:a", "hello", {}]));
    client.say(&json!(["2", "10", "room:a", "phx_join", {"push_on_join": true}]));
    client.expect_ok("2", "10", "room:a", &json!({}));
    client.expect(&json!(["2", "2", "room:a", "phx_close", {}]));
    client.expect(&json!(["2", null, "room:a", "hello", {}]));
    client.say(&json!([null, "11", "room:a", "phx_join", {}]));
    client.expect(&json!([null, "11", "room:a", "phx_reply", {"status": "ok", "response": {}}]));
    client.expect(&json!(["2", "2", "room:a", "phx_close", {}]));
    client.say(&json!(["3", "12", "room:a", "phx_join", {}]));
    client.expect_ok("3", "12", "room:a", &json!({}));
    client.expect(&json!([null, null, "room:a", "phx_close", {}]));
    // What is from the old join is stale, and a broadcast comes once.
    client.say(&json!(["2", "13", "room:a", "echo", {}]));
    for i in 0..2 {
        other.say(&json!(["1", "2", "room:a", "shout", {"i": i}]));
        client.expect(&json!([null, null, "room:a", "shout", {"i": i}]));
    }
    client.expect_nothing();
}

#[test]
fn a_duplicate_join_that_is_refused_has_ended_the_old_one() {
    let demo = Demo::library();
    let mut client = demo.v2();
    client.join("1", "room:a", &json!({}));
    client.say(&json!(["2", "2", "room:a", "phx_join", {"refuse": true}]));
    client.expect(&refused("2", "room:a", "as you wish"));
    client.expect(&json!(["1", "1", "room:a", "phx_close", {}]));
    client.say(&json!(["1", "3", "room:a", "echo", {}]));
    client.expect(&unmatched(&json!("3"), "room:a"));
    client.join("4", "room:a", &json!({}));
    client.expect_nothing();
}

#[test]
fn a_duplicate_join_that_waits_replaces_the_old_one_all_the_same() {
    let demo = Demo::library();
    let mut client = demo.v2();
    client.join("1", "room:later", &json!({}));
    pipeline(
        &mut client,
        &[
            json!(["2", "2", "room:later", "phx_join", {}]),
            json!(["1", "3", "room:later", "echo", {"stale": 1}]),
            json!(["2", "4", "room:later", "echo", {}]),
            json!(["5", "5", "room:later", "phx_join", {}]),
        ],
    );
    client.expect_ok("2", "2", "room:later", &json!({}));
    client.expect(&json!(["1", "1", "room:later", "phx_close", {}]));
    client.expect_ok("2", "4", "room:later", &json!({}));
    client.expect_ok("5", "5", "room:later", &json!({}));
    client.expect(&json!(["2", "2", "room:later", "phx_close", {}]));
}

#[test]
fn only_the_joining_topic_waits_for_its_join() {
    let demo = Demo::library();
    let mut client = demo.v2();
    client.join("1", "room:a", &json!({}));
    pipeline(
        &mut client,
        &[
            json!(["2", "2", "room:later", "phx_join", {}]),
            json!(["2", "3", "room:later", "echo", {}]),
            json!(["1", "4", "room:a", "echo", {}]),
            json!([null, "5", "phoenix", "heartbeat", {}]),
        ],
    );
    client.expect_ok("1", "4", "room:a", &json!({}));
    client.expect(&json!([null, "5", "phoenix", "phx_reply", {"status": "ok", "response": {}}]));
    client.expect_ok("2", "2", "room:later", &json!({}));
    client.expect_ok("2", "3", "room:later", &json!({}));
}

#[test]
fn a_leave_followed_at_once_by_a_join_closes_the_old_channel_once() {
    let demo = Demo::library();
    for topic in ["room:a", "room:later"] {
        let mut client = demo.v2();
        client.join("1", topic, &json!({}));
        for round in 1..20_u32 {
            let (old, new) = (round.to_string(), (round + 1).to_string());
            pipeline(
                &mut client,
                &[json!([old, "l", topic, "phx_leave", {}]), json!([new, new, topic, "phx_join", {}])],
            );
            // The reply to the leave may be missing where the two race. Here they never do.
            client.expect_ok(&old, "l", topic, &json!({}));
            client.expect(&json!([old, old, topic, "phx_close", {}]));
            client.expect_ok(&new, &new, topic, &json!({}));
        }
        client.expect_nothing();
    }
}
