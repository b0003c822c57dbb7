//! The topics `realtime:*`, as supabase's `realtime-js` uses them: V1 messages with a `join_ref`.

use serde_json::{Value, json};

use super::{Playground, Raw};

const TOPIC: &str = "realtime:chat";

fn message(event: &str, payload: &Value, msg_ref: &str) -> Value {
    json!({"topic": TOPIC, "event": event, "payload": payload, "ref": msg_ref, "join_ref": "1"})
}

fn reply(status: &str, response: &Value, msg_ref: &str) -> Value {
    json!({"topic": TOPIC, "event": "phx_reply", "payload": {"status": status, "response": response}, "ref": msg_ref})
}

/// Joins as the client does, presence and a token of its own included.
fn subscribe(playground: &Playground, ack: bool, own: bool) -> Raw {
    let mut client = playground.v1();
    let config = json!({
        "broadcast": {"ack": ack, "self": own}, "presence": {"key": "", "enabled": false}, "postgres_changes": [], "private": false
    });
    client.say(&message("phx_join", &json!({"config": config, "access_token": "abc"}), "1"));
    client.expect(&reply("ok", &json!({"postgres_changes": []}), "1"));
    client.say(&message("access_token", &json!({"access_token": "def"}), "2"));
    client
}

#[test]
fn broadcasts_go_to_others_and_back_or_are_answered_as_the_join_asked() {
    let playground = Playground::start();
    let mut clients = [(false, false), (true, false), (false, true), (true, true)]
        .map(|(ack, own)| (subscribe(&playground, ack, own), ack, own));
    for sender in 0..clients.len() {
        let payload = json!({"type": "broadcast", "event": "cursor", "payload": {"x": 1.0, "from": sender}});
        let (client, ack, own) = &mut clients[sender];
        client.say(&message("broadcast", &payload, "3"));
        let seen = json!({"topic": TOPIC, "event": "broadcast", "payload": payload, "ref": null});
        if *own {
            client.expect(&seen);
        }
        if *ack {
            client.expect(&reply("ok", &json!({}), "3"));
        }
        client.expect_nothing_v1();
        for (other, ..) in clients.iter_mut().enumerate().filter(|(i, _)| *i != sender).map(|(_, other)| other) {
            other.expect(&seen);
        }
    }
}

#[test]
fn what_it_cannot_do_is_said() {
    let playground = Playground::start();
    let mut client = subscribe(&playground, true, true);
    client.say(&message("presence", &json!({"type": "presence", "event": "track", "payload": {}}), "3"));
    client.expect(&reply("error", &json!({"reason": "presence is not available in this version"}), "3"));
    client.say(&message("unheard_of", &json!({}), "4"));
    client.expect(&reply("error", &json!({"reason": "unknown event"}), "4"));
    let mut other = playground.v2();
    let wish = json!({"config": {"postgres_changes": [{"event": "*", "schema": "public"}]}});
    other.say(&json!(["1", "1", TOPIC, "phx_join", wish]));
    assert!(other.text().contains("there is no database"));
    // Parameters of any shape ask for nothing.
    for params in [json!({}), json!(null), json!({"config": 7}), json!({"config": {"broadcast": {"ack": "yes"}}})] {
        other.say(&json!(["2", "2", TOPIC, "phx_join", params]));
        assert!(other.text().contains("postgres_changes"));
        other.say(&json!(["2", "3", TOPIC, "phx_leave", {}]));
        other.text();
        other.text();
    }
}
