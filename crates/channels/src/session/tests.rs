use bytes::Bytes;

use super::*;
use crate::{
    channel::{JoinRequest, Joined, Joining},
    serializer::{Reply, WireFormat},
};

const BOUNDS: Bounds = Bounds { channels_max: 3, pending_messages_max: 4, pending_bytes_max: 4_096 };

/// A session, and what it asks for as text: messages as they go out in V2, and `→` in front of what it asks of its owner.
struct Rig {
    session: Session,
    router: Router,
    format: WireFormat,
}

impl Rig {
    fn new(format: WireFormat) -> Self {
        let kind = |_: JoinRequest| -> Joining {
            Joined::new(|_: &str, _: &Payload, _: &mut crate::Context<'_>| crate::Flow::Continue).into()
        };
        let router = Router::new().on("room:*", kind).unwrap().on("lobby", kind).unwrap();
        Self { session: Session::default(), router, format }
    }

    fn send(&mut self, text: &str) -> Vec<String> {
        let message = self.format.decode_text(&Bytes::copy_from_slice(text.as_bytes())).unwrap();
        self.message(message)
    }

    fn message(&mut self, message: Message) -> Vec<String> {
        let mut actions = Vec::new();
        self.session.handle(message, &self.router, &BOUNDS, &mut actions);
        actions.into_iter().map(show).collect()
    }

    /// Decides on a join; then handles what waited for it.
    fn decide(&mut self, slot: u32, decision: Result<&'static str, &'static str>) -> Vec<String> {
        let payload = |text: &'static str| Payload::Json(Bytes::from_static(text.as_bytes()));
        let mut actions = Vec::new();
        let backlog = self.session.join_done(slot, decision.map(payload).map_err(payload), &mut actions);
        let mut shown: Vec<String> = actions.into_iter().map(show).collect();
        for message in backlog {
            shown.extend(self.message(message));
        }
        shown
    }

    fn stop(&mut self, slot: u32, stop: &Stop) -> Vec<String> {
        let mut actions = Vec::new();
        self.session.stopped(slot, stop, &mut actions);
        actions.into_iter().map(show).collect()
    }
}

fn show(action: Action) -> String {
    let written = |encoded: crate::serializer::Encoded| String::from_utf8(encoded.into_message().to_vec()).unwrap();
    match action {
        Action::Reply(ControlReply { join_ref, msg_ref, topic, status, response }) => {
            let (join_ref, msg_ref) = (join_ref.as_ref(), msg_ref.as_ref());
            let reply = Reply { join_ref, msg_ref, topic: &topic, status, response: &response };
            written(WireFormat::V2.reply(&reply).unwrap())
        }
        Action::Close { join_ref, topic } => written(WireFormat::V2.close(join_ref.as_ref(), &topic)),
        Action::Error { join_ref, topic } => written(WireFormat::V2.error(join_ref.as_ref(), &topic)),
        Action::Join { slot, topic, params, .. } => format!("→ join {slot} {topic} {params:?}"),
        Action::Event { slot, event, msg_ref, .. } => {
            format!("→ event {slot} {event} {}", msg_ref.map_or("null".to_owned(), |reference| reference.to_string()))
        }
        Action::End { slot, left } => format!("→ end {slot} {left:?}"),
        Action::Refused(reason) => format!("→ refused {reason}"),
    }
}

#[track_caller]
fn check(rig: &mut Rig, steps: &[(&str, &[&str])]) {
    for (input, expected) in steps {
        let mut words = input.split(' ');
        let seen = match (words.next(), words.next().and_then(|slot| slot.parse().ok())) {
            (Some("accept"), Some(slot)) => rig.decide(slot, Ok("{}")),
            (Some("refuse"), Some(slot)) => rig.decide(slot, Err(r#"{"reason":"no"}"#)),
            (Some("stop"), Some(slot)) => rig.stop(slot, &Stop::Normal),
            (Some("shutdown"), Some(slot)) => rig.stop(slot, &Stop::Shutdown),
            (Some("fail"), Some(slot)) => rig.stop(slot, &Stop::Failed(String::new())),
            _ => rig.send(input),
        };
        assert_eq!(seen, *expected, "after {input}");
    }
}

const JOIN: (&str, &[&str]) = (r#"["1","1","room:a","phx_join",{}]"#, &["→ join 0 room:a Json({})"]);
const ACCEPT: (&str, &[&str]) = ("accept 0", &[r#"["1","1","room:a","phx_reply",{"status":"ok","response":{}}]"#]);

#[test]
fn the_socket_itself_answers() {
    const OK: &str = r#"{"status":"ok","response":{}}"#;
    const UNMATCHED: &str = r#"{"status":"error","response":{"reason":"unmatched topic"}}"#;
    let rows = [
        // Heartbeats, whatever they carry; their join_ref is not echoed.
        (r#"[null,"9","phoenix","heartbeat",{}]"#, format!(r#"[null,"9","phoenix","phx_reply",{OK}]"#)),
        (r#"["1","9","phoenix","heartbeat",[1]]"#, format!(r#"[null,"9","phoenix","phx_reply",{OK}]"#)),
        (r#"[null,null,"phoenix","heartbeat",{}]"#, format!(r#"[null,null,"phoenix","phx_reply",{OK}]"#)),
        // References are echoed as the JSON that they are.
        (r#"[null,9,"phoenix","heartbeat",{}]"#, format!(r#"[null,9,"phoenix","phx_reply",{OK}]"#)),
        // Anything else on `phoenix`, joins included, and joins that no route matches.
        (r#"["1","2","phoenix","phx_join",{}]"#, format!(r#"[null,"2","phoenix","phx_reply",{UNMATCHED}]"#)),
        (r#"["1","2","phoenix","other",{}]"#, format!(r#"[null,"2","phoenix","phx_reply",{UNMATCHED}]"#)),
        (r#"["1","2","nosuch:a","phx_join",{}]"#, format!(r#"[null,"2","nosuch:a","phx_reply",{UNMATCHED}]"#)),
        (r#"["1","2","Room:a","phx_join",{}]"#, format!(r#"[null,"2","Room:a","phx_reply",{UNMATCHED}]"#)),
        (r#"["1","2","lobby2","phx_join",{}]"#, format!(r#"[null,"2","lobby2","phx_reply",{UNMATCHED}]"#)),
        // Events on a topic that is not joined; a leave of one is fine.
        (r#"["1","2","room:a","echo",{}]"#, format!(r#"[null,"2","room:a","phx_reply",{UNMATCHED}]"#)),
        (r#"["1","2","room:a","phx_leave",{}]"#, format!(r#"["1","2","room:a","phx_reply",{OK}]"#)),
        (r#"["1","2","nosuch:a","phx_leave",{}]"#, format!(r#"["1","2","nosuch:a","phx_reply",{OK}]"#)),
    ];
    for (input, expected) in rows {
        check(&mut Rig::new(WireFormat::V2), &[(input, &[&expected])]);
    }
}

#[test]
fn events_reach_a_joined_channel_with_its_reference_or_none() {
    check(
        &mut Rig::new(WireFormat::V2),
        &[
            JOIN,
            ACCEPT,
            (r#"["1","2","room:a","echo",{}]"#, &[r#"→ event 0 echo "2""#]),
            (r#"[null,"3","room:a","echo",{}]"#, &[r#"→ event 0 echo "3""#]),
            (r#"["1",null,"room:a","echo",{}]"#, &["→ event 0 echo null"]),
            // From an earlier join, and of another type: dropped.
            (r#"["0","4","room:a","echo",{}]"#, &[]),
            (r#"[1,"4","room:a","echo",{}]"#, &[]),
            (r#"["","4","room:a","echo",{}]"#, &[]),
            (r#"["0","5","room:a","phx_leave",{}]"#, &[]),
            // The reply to a leave carries the join's reference even if the leave had none.
            (
                r#"[null,"6","room:a","phx_leave",{}]"#,
                &[
                    "→ end 0 Leave",
                    r#"["1","6","room:a","phx_reply",{"status":"ok","response":{}}]"#,
                    r#"["1","1","room:a","phx_close",{}]"#,
                ],
            ),
        ],
    );
}

/// V1 clients join without a reference, and so may others.
#[test]
fn a_join_without_a_reference_is_known_by_its_own() {
    let mut rig = Rig::new(WireFormat::V2);
    check(
        &mut rig,
        &[
            (r#"[null,"7","room:a","phx_join",{}]"#, &["→ join 0 room:a Json({})"]),
            ("accept 0", &[r#"[null,"7","room:a","phx_reply",{"status":"ok","response":{}}]"#]),
            (r#"["7","8","room:a","echo",{}]"#, &[]),
            (r#"[null,"8","room:a","echo",{}]"#, &[r#"→ event 0 echo "8""#]),
        ],
    );
    assert_eq!(rig.session.push_ref(0), Some(&Ref::text("7")));
    check(
        &mut rig,
        &[(
            r#"[null,"9","room:a","phx_leave",{}]"#,
            &[
                "→ end 0 Leave",
                r#"["7","9","room:a","phx_reply",{"status":"ok","response":{}}]"#,
                r#"[null,null,"room:a","phx_close",{}]"#,
            ],
        )],
    );
}

#[test]
fn a_duplicate_join_is_answered_first_and_closes_the_old_reference() {
    for (second, old_close) in
        [("2", r#"["1","1","room:a","phx_close",{}]"#), ("1", r#"["1","1","room:a","phx_close",{}]"#)]
    {
        let input = format!(r#"["{second}","5","room:a","phx_join",{{}}]"#);
        let reply = format!(r#"["{second}","5","room:a","phx_reply",{{"status":"ok","response":{{}}}}]"#);
        let refused =
            format!(r#"["{second}","5","room:a","phx_reply",{{"status":"error","response":{{"reason":"no"}}}}]"#);
        let rejoin: (&str, &[&str]) = (&input, &["→ end 0 Rejoin", "→ join 0 room:a Json({})"]);
        check(&mut Rig::new(WireFormat::V2), &[JOIN, ACCEPT, rejoin, ("accept 0", &[&reply, old_close])]);
        check(&mut Rig::new(WireFormat::V2), &[JOIN, ACCEPT, rejoin, ("refuse 0", &[&refused, old_close])]);
    }
}

#[test]
fn channels_that_end_are_not_joined_any_more() {
    let unmatched: (&str, &[&str]) = (
        r#"["1","3","room:a","echo",{}]"#,
        &[r#"[null,"3","room:a","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#],
    );
    let closed = r#"["1","1","room:a","phx_close",{}]"#;
    let failed = r#"["1","1","room:a","phx_error",{"reason":"channel_crash"}]"#;
    for (how, said) in [("stop 0", closed), ("shutdown 0", closed), ("fail 0", failed)] {
        check(&mut Rig::new(WireFormat::V2), &[JOIN, ACCEPT, (how, &[said]), unmatched, JOIN, ACCEPT]);
    }
    let refused = r#"["1","1","room:a","phx_reply",{"status":"error","response":{"reason":"no"}}]"#;
    check(&mut Rig::new(WireFormat::V2), &[JOIN, ("refuse 0", &[refused]), unmatched, JOIN, ACCEPT]);
}

#[test]
fn the_channel_limit_does_not_count_a_duplicate() {
    check(
        &mut Rig::new(WireFormat::V2),
        &[
            (r#"["1","1","room:a","phx_join",{}]"#, &["→ join 0 room:a Json({})"]),
            (r#"["2","2","room:b","phx_join",{}]"#, &["→ join 1 room:b Json({})"]),
            (r#"["3","3","lobby","phx_join",{}]"#, &["→ join 2 lobby Json({})"]),
            (
                r#"["4","4","room:d","phx_join",{}]"#,
                &[
                    "→ refused too_many_channels",
                    r#"["4","4","room:d","phx_reply",{"status":"error","response":{"reason":"too many channels joined"}}]"#,
                ],
            ),
            ACCEPT,
            (r#"["5","5","room:a","phx_join",{}]"#, &["→ end 0 Rejoin", "→ join 0 room:a Json({})"]),
        ],
    );
}

#[test]
fn what_follows_a_join_waits_for_it_in_order_and_within_bounds() {
    check(
        &mut Rig::new(WireFormat::V2),
        &[
            JOIN,
            (r#"["1","2","room:a","echo",{}]"#, &[]),
            (r#"["1","3","room:a","phx_leave",{}]"#, &[]),
            (r#"["4","4","room:a","phx_join",{}]"#, &[]),
            (r#"["4","5","room:a","echo",{}]"#, &[]),
            (
                r#"["4","6","room:a","echo",{}]"#,
                &[
                    "→ refused join_pending",
                    r#"["4","6","room:a","phx_reply",{"status":"error","response":{"reason":"join pending"}}]"#,
                ],
            ),
            // Other topics go on.
            (r#"["7","7","room:b","phx_join",{}]"#, &["→ join 1 room:b Json({})"]),
            (
                "accept 0",
                &[
                    r#"["1","1","room:a","phx_reply",{"status":"ok","response":{}}]"#,
                    r#"→ event 0 echo "2""#,
                    "→ end 0 Leave",
                    r#"["1","3","room:a","phx_reply",{"status":"ok","response":{}}]"#,
                    r#"["1","1","room:a","phx_close",{}]"#,
                    "→ join 0 room:a Json({})",
                ],
            ),
            ("accept 0", &[r#"["4","4","room:a","phx_reply",{"status":"ok","response":{}}]"#, r#"→ event 0 echo "5""#]),
        ],
    );
}

#[test]
fn the_bytes_behind_pending_joins_are_bounded_and_given_back() {
    let mut rig = Rig::new(WireFormat::V2);
    check(&mut rig, &[JOIN]);
    let big = format!(r#"["1","2","room:a","echo","{}"]"#, "x".repeat(3_000));
    assert!(rig.send(&big).is_empty());
    assert_eq!(rig.send(&big)[0], "→ refused join_pending");
    assert_eq!(rig.decide(0, Ok("{}")).len(), 2);
    assert_eq!(rig.session.pending_bytes, 0);
}

#[test]
fn a_topic_that_is_too_long_is_refused() {
    let mut rig = Rig::new(WireFormat::V2);
    let topic = format!("room:{}", "x".repeat(Topic::MAX_BYTES));
    let shown = rig.send(&format!(r#"["1","1","{topic}","phx_join",{{}}]"#));
    assert_eq!(shown[0], "→ refused topic_too_long");
    assert!(shown[1].contains("topic too long"));
}
