//! §8: what order there is, who gets a broadcast, and who does not hold up whom.

use std::net::Shutdown;

use serde_json::json;

use super::{
    client::{Got, Raw},
    demo::Demo,
};

#[test]
fn replies_and_pushes_of_a_channel_keep_their_order() {
    let demo = Demo::start();
    let mut client = demo.v2();
    client.join("1", "room:a", &json!({}));
    client.say(&json!(["1", "2", "room:a", "push_n", {"n": 1000}]));
    client.say(&json!(["1", "3", "room:a", "echo", {}]));
    for i in 0..1000 {
        client.expect(&json!(["1", null, "room:a", "seq", {"i": i}]));
    }
    client.expect_ok("1", "2", "room:a", &json!({}));
    client.expect_ok("1", "3", "room:a", &json!({}));
}

#[test]
fn a_late_reply_holds_up_nothing() {
    let demo = Demo::start();
    let mut client = demo.v2();
    client.join("1", "room:a", &json!({}));
    client.say(&json!(["1", "2", "room:a", "late_reply", {"late": 1}]));
    client.say(&json!(["1", "3", "room:a", "echo", {}]));
    client.expect_ok("1", "3", "room:a", &json!({}));
    client.expect_ok("1", "2", "room:a", &json!({"late": 1}));
    // One of a channel that has ended is lost, and harms nobody.
    client.say(&json!(["1", "4", "room:a", "late_reply", {"late": 2}]));
    client.say(&json!(["1", "5", "room:a", "phx_leave", {}]));
    client.expect_ok("1", "5", "room:a", &json!({}));
    client.expect(&json!(["1", "1", "room:a", "phx_close", {}]));
    client.join("6", "room:a", &json!({}));
    client.say(&json!(["6", "7", "room:a", "late_reply", {"late": 3}]));
    client.expect_ok("6", "7", "room:a", &json!({"late": 3}));
}

#[test]
fn a_broadcast_then_a_reply_arrive_in_that_order_at_the_sender() {
    let demo = Demo::start();
    let mut client = demo.v2();
    client.join("1", "room:a", &json!({}));
    for i in 0..50 {
        client.say(&json!(["1", "2", "room:a", "shout_reply", {"i": i}]));
        client.expect(&json!([null, null, "room:a", "shout", {"i": i}]));
        client.expect_ok("1", "2", "room:a", &json!({}));
    }
}

#[test]
fn ten_thousand_broadcasts_arrive_in_order_at_every_member() {
    const COUNT: usize = 10_000;
    let demo = Demo::start();
    let mut members: Vec<Raw> = (0..4).map(|_| demo.v2()).collect();
    for member in &mut members {
        member.join("1", "room:a", &json!({}));
    }
    let mut old = demo.v1();
    old.say(&json!({"topic": "room:a", "event": "phx_join", "payload": {}, "ref": "1"}));
    old.text();
    members[0].say(&json!(["1", "2", "room:a", "shout_n", {"n": COUNT}]));
    std::thread::scope(|scope| {
        let (sender, others) = members.split_at_mut(1);
        for member in others {
            scope.spawn(|| expect_sequence(member, COUNT));
        }
        scope.spawn(|| {
            for i in 0..COUNT {
                let text = old.text();
                assert!(text.contains(&format!("{{\"i\":{i}}}")), "{i}: {text}");
            }
        });
        expect_sequence(&mut sender[0], COUNT);
        sender[0].expect_ok("1", "2", "room:a", &json!({}));
    });
}

fn expect_sequence(member: &mut Raw, count: usize) {
    for i in 0..count {
        assert_eq!(member.text(), format!(r#"[null,null,"room:a","seq",{{"i":{i}}}]"#));
    }
}

#[test]
fn broadcast_from_passes_by_the_one_channel_that_sent_it() {
    let demo = Demo::start();
    let (mut sender, mut second, mut third) = (demo.v2(), demo.v2(), demo.v2());
    for client in [&mut sender, &mut second, &mut third] {
        client.join("1", "room:a", &json!({}));
    }
    sender.join("b", "room:b", &json!({}));
    sender.say(&json!(["1", "2", "room:a", "shout_from", {"from": 1}]));
    sender.say(&json!(["1", "3", "room:a", "shout", {"all": 1}]));
    for client in [&mut second, &mut third] {
        client.expect(&json!([null, null, "room:a", "shout_from", {"from": 1}]));
        client.expect(&json!([null, null, "room:a", "shout", {"all": 1}]));
    }
    sender.expect(&json!([null, null, "room:a", "shout", {"all": 1}]));
    sender.expect_nothing();
    // A channel that joined anew is another one.
    sender.say(&json!(["4", "4", "room:a", "phx_join", {}]));
    sender.expect_ok("4", "4", "room:a", &json!({}));
    sender.expect(&json!(["1", "1", "room:a", "phx_close", {}]));
    second.say(&json!(["1", "5", "room:a", "shout_from", {"from": 2}]));
    sender.expect(&json!([null, null, "room:a", "shout_from", {"from": 2}]));
}

#[test]
fn who_left_or_went_gets_nothing_and_harms_nobody() {
    let demo = Demo::library();
    let (mut sender, mut left, mut other_topic, mut gone) = (demo.v2(), demo.v2(), demo.v2(), demo.v2());
    for client in [&mut sender, &mut left, &mut gone] {
        client.join("1", "room:a", &json!({}));
    }
    other_topic.join("1", "room:A", &json!({}));
    left.say(&json!(["1", "2", "room:a", "phx_leave", {}]));
    left.expect_ok("1", "2", "room:a", &json!({}));
    left.expect(&json!(["1", "1", "room:a", "phx_close", {}]));
    gone.stream.shutdown(Shutdown::Both).unwrap();
    drop(gone);
    super::client::eventually("the connection is forgotten", || demo.workers().connections() == 3);
    for i in 0..10 {
        sender.say(&json!(["1", "3", "room:a", "shout_reply", {"i": i}]));
        sender.expect(&json!([null, null, "room:a", "shout", {"i": i}]));
        sender.expect_ok("1", "3", "room:a", &json!({}));
    }
    left.expect_nothing();
    other_topic.expect_nothing();
}

/// A member that does not read, on every worker; those that do get everything.
#[test]
fn a_member_that_does_not_read_delays_nobody() {
    const ROUNDS: usize = 200;
    let demo = Demo::library();
    let (mut sender, mut reader) = (demo.v2(), demo.v1());
    let mut deaf: Vec<Raw> = (0..4).map(|_| demo.v2()).collect();
    for client in deaf.iter_mut().chain([&mut sender]) {
        client.join("1", "room:a", &json!({}));
    }
    reader.say(&json!({"topic": "room:a", "event": "phx_join", "payload": {}, "ref": "1"}));
    reader.text();
    // A server that waited for them would do so for longer than anyone here has patience.
    let payload = "x".repeat(100_000);
    for _ in 0..ROUNDS {
        sender.say(&json!(["1", "2", "room:a", "shout", payload]));
        assert!(sender.text().contains("shout"));
        assert!(reader.text().contains("shout"));
    }
    // Those that did not read in time are let go with a code that says so, and bounded memory: they find what was on its way, then that.
    for mut client in deaf {
        let mut texts = 0;
        loop {
            match client.next_or_cut() {
                Some(Got::Text(_)) => texts += 1,
                Some(Got::Close(code, _)) => {
                    assert_eq!(code, Some(1013));
                    break;
                }
                // They had their time to take the close frame, and were cut off wherever they stood.
                None => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(texts < ROUNDS, "{texts}");
    }
    sender.expect_nothing();
}
