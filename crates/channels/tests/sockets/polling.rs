//! Sessions of long polling.

use std::{
    num::NonZeroU32,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::join_all};
use tickwire_channels::{
    AdoptError, CloseReason, MountLimits, Payload, PollAnswer, PollId, PollMessage, PublishAnswer, SocketInfo,
    WireFormat, WorkersConfig,
};
use tickwire_pubsub::{Broadcast, Topic};

use crate::support::{PATIENCE, Server, eventually, update};

/// A client of long polling.
struct Poller<'a> {
    server: &'a Server,
    id: PollId,
}

impl<'a> Poller<'a> {
    fn open(server: &'a Server) -> Self {
        Self::open_for(server, PATIENCE, |info| info)
    }

    fn open_for(server: &'a Server, window: Duration, change: impl FnOnce(SocketInfo) -> SocketInfo) -> Self {
        let info = SocketInfo::new(server.address, WireFormat::V2, Arc::default());
        Self { server, id: server.workers.open(Arc::new(change(info)), window).unwrap() }
    }

    fn poll(&self) -> PollAnswer {
        self.poll_for(PATIENCE)
    }

    fn poll_for(&self, window: Duration) -> PollAnswer {
        self.server.runtime.block_on(self.server.workers.poll(self.id, window))
    }

    fn publish(&self, texts: &[&str]) -> PublishAnswer {
        let text = |text: &&str| PollMessage::Text(Bytes::copy_from_slice(text.as_bytes()));
        let messages = texts.iter().map(text).collect();
        self.server.runtime.block_on(self.server.workers.publish(self.id, messages))
    }

    fn take(&self, texts: &[&str]) {
        assert_eq!(self.publish(texts), PublishAnswer::Taken);
    }

    #[track_caller]
    fn expect(&self, texts: &[&str]) {
        assert_eq!(self.poll(), PollAnswer::Messages(texts.iter().map(|text| (*text).to_owned()).collect()));
    }

    #[track_caller]
    fn join(&self, topic: &str) {
        self.take(&[&format!(r#"["j","j","{topic}","phx_join",{{}}]"#)]);
        self.expect(&[&format!(r#"["j","j","{topic}","phx_reply",{{"status":"ok","response":{{}}}}]"#)]);
    }

    fn is_gone(&self) -> bool {
        self.publish(&[]) == PublishAnswer::Gone
    }
}

const HEARTBEAT: &str = r#"[null,"h","phoenix","heartbeat",{}]"#;
const HEARTBEAT_REPLY: &str = r#"[null,"h","phoenix","phx_reply",{"status":"ok","response":{}}]"#;

fn pushed(i: u64) -> String {
    format!(r#"["j",null,"room:a","pushed",{{"i":{i}}}]"#)
}

fn push_me(i: u64) -> String {
    format!(r#"["j",null,"room:a","push_me",{{"i":{i}}}]"#)
}

#[test]
fn all_that_waits_comes_in_one_answer_in_order() {
    let server = Server::start();
    let poller = Poller::open(&server);
    poller.take(&[r#"["j","1","room:a","phx_join",{}]"#, r#"["j","2","room:a","echo",{"x":1}]"#]);
    poller.take(&[r#"["j","3","room:a","shout_n",{"n":100}]"#]);
    let PollAnswer::Messages(messages) = poller.poll() else { panic!("there is something") };
    assert_eq!(messages.len(), 103);
    assert_eq!(messages[1], r#"["j","2","room:a","phx_reply",{"status":"ok","response":{"x":1}}]"#);
    for (i, message) in messages[2..102].iter().enumerate() {
        assert_eq!(*message, format!(r#"[null,null,"room:a","seq",{{"i":{i}}}]"#));
    }
    assert_eq!(poller.poll_for(Duration::from_millis(50)), PollAnswer::Nothing);
}

#[test]
fn a_poll_that_waits_is_answered_with_the_first_that_comes() {
    let server = Server::start();
    let poller = Poller::open(&server);
    poller.join("ticker:A");
    let started = Instant::now();
    let mut waiting = pin!(server.workers.poll(poller.id, PATIENCE));
    server.runtime.block_on(async {
        assert!(waiting.as_mut().now_or_never().is_none());
        server.update("ticker:A", 1);
        let expected = r#"[null,null,"ticker:A","update",{"seq":1}]"#.to_owned();
        assert_eq!(waiting.await, PollAnswer::Messages(vec![expected]));
    });
    assert!(started.elapsed() < PATIENCE / 2);
}

#[test]
fn updates_are_merged_while_nobody_polls() {
    let server = Server::start();
    let poller = Poller::open(&server);
    poller.take(&[r#"["j","j","ticker:A","phx_join",{"floor":0}]"#]);
    poller.expect(&[r#"["j","j","ticker:A","phx_reply",{"status":"ok","response":{}}]"#]);
    for seq in 1..=1_000 {
        server.update("ticker:A", seq);
        if seq % 100 == 0 {
            poller.take(&[]);
        }
    }
    poller.expect(&[r#"[null,null,"ticker:A","update",{"seq":1000,"n":1000}]"#]);
}

#[test]
fn a_poll_that_is_lost_loses_no_message() {
    let server = Server::start();
    let poller = Poller::open(&server);
    poller.join("room:a");
    server.runtime.block_on(async {
        // It goes before there is anything.
        assert!(pin!(server.workers.poll(poller.id, PATIENCE)).now_or_never().is_none());
    });
    {
        // It goes when it has been answered, and nobody has looked at the answer yet.
        let mut lost = pin!(server.workers.poll(poller.id, PATIENCE));
        server.runtime.block_on(async { assert!(lost.as_mut().now_or_never().is_none()) });
        poller.take(&[&push_me(1)]);
        poller.take(&[]);
    }
    poller.take(&[&push_me(2)]);
    poller.expect(&[&pushed(1), &pushed(2)]);
}

/// A client whose polls are all cut off, at any moment, gets everything in order in the end.
#[test]
fn polls_that_are_cut_off_at_any_moment_keep_the_order() {
    let server = Server::start();
    let poller = Poller::open(&server);
    poller.join("room:a");
    let mut seen = Vec::new();
    for i in 0..300 {
        poller.take(&[&push_me(i)]);
        let cut_off = Duration::from_micros(fastrand::u64(..300));
        server.runtime.block_on(async {
            let answer = tokio::time::timeout(cut_off, server.workers.poll(poller.id, PATIENCE)).await;
            if let Ok(PollAnswer::Messages(messages)) = answer {
                seen.extend(messages);
            }
        });
    }
    while let PollAnswer::Messages(messages) = poller.poll_for(Duration::from_millis(100)) {
        seen.extend(messages);
    }
    assert_eq!(seen, (0..300).map(pushed).collect::<Vec<_>>());
}

#[test]
fn of_two_polls_the_later_one_is_answered() {
    let server = Server::start();
    let poller = Poller::open(&server);
    let window = Duration::from_millis(300);
    server.runtime.block_on(async {
        let started = Instant::now();
        let mut earlier = pin!(server.workers.poll(poller.id, window));
        assert!(earlier.as_mut().now_or_never().is_none());
        let mut later = pin!(server.workers.poll(poller.id, PATIENCE));
        assert!(later.as_mut().now_or_never().is_none());
        let heartbeat = PollMessage::Text(Bytes::from_static(HEARTBEAT.as_bytes()));
        assert_eq!(server.workers.publish(poller.id, vec![heartbeat]).await, PublishAnswer::Taken);
        assert_eq!(later.await, PollAnswer::Messages(vec![HEARTBEAT_REPLY.to_owned()]));
        assert_eq!(earlier.await, PollAnswer::Nothing);
        assert!(started.elapsed() >= window, "it is not answered earlier than any other");
    });
}

#[test]
fn a_message_that_cannot_be_read_ends_the_session() {
    let server = Server::start();
    for malformed in [&b"{"[..], b"", b"[1,2]", b"\xff", br#"["j","1","room:a","x","\ud800"]"#] {
        let poller = Poller::open(&server);
        poller.join("room:a");
        let mut waiting = pin!(server.workers.poll(poller.id, PATIENCE));
        server.runtime.block_on(async { assert!(waiting.as_mut().now_or_never().is_none()) });
        let left = server.left.load(Ordering::Relaxed);
        let text = |bytes: &[u8]| PollMessage::Text(Bytes::copy_from_slice(bytes));
        let messages = vec![text(push_me(1).as_bytes()), text(malformed), text(push_me(2).as_bytes())];
        let answer = server.runtime.block_on(server.workers.publish(poller.id, messages));
        assert_eq!(answer, PublishAnswer::Malformed);
        // What came before it was handled, and the poll that waited need not wait any more.
        assert_eq!(server.runtime.block_on(waiting), PollAnswer::Messages(vec![pushed(1)]));
        assert_eq!(poller.poll(), PollAnswer::Gone);
        assert!(poller.is_gone());
        assert_eq!(server.left.load(Ordering::Relaxed), left + 1);
    }
    assert_eq!((server.workers.connections(), server.workers.joins()), (0, 0));
}

#[test]
fn a_session_is_disconnected_like_a_socket_and_its_poll_answered_at_once() {
    let server = Server::start();
    let poller = Poller::open_for(&server, PATIENCE, |info| SocketInfo { id: Some("x".to_owned()), ..info });
    poller.join("room:a");
    server.runtime.block_on(async {
        let mut waiting = pin!(server.workers.poll(poller.id, PATIENCE));
        assert!(waiting.as_mut().now_or_never().is_none());
        let started = Instant::now();
        server.workers.close_where(|info| info.id.as_deref() == Some("x"), CloseReason::Disconnected);
        assert_eq!(waiting.await, PollAnswer::Nothing);
        assert!(started.elapsed() < PATIENCE / 2);
        assert_eq!(server.workers.poll(poller.id, PATIENCE).await, PollAnswer::Gone);
    });
    assert_eq!((server.workers.connections(), server.workers.joins()), (0, 0));
}

#[test]
fn sessions_are_drained() {
    let server = Server::start();
    let pollers: Vec<_> = (0..20).map(|_| Poller::open(&server)).collect();
    // Once it is answered, a session has reached its worker: one that is on its way when the draining begins is gone from the start.
    pollers.iter().for_each(|poller| poller.take(&[]));
    server.runtime.block_on(async {
        let polls = join_all(pollers.iter().map(|poller| server.workers.poll(poller.id, PATIENCE)));
        let started = Instant::now();
        let (answers, ()) = tokio::join!(polls, server.workers.drain(Duration::from_millis(200)));
        assert_eq!(answers, vec![PollAnswer::Nothing; 20]);
        assert!(started.elapsed() < PATIENCE / 2);
    });
    assert!(pollers.iter().all(Poller::is_gone));
    let info = SocketInfo::new(server.address, WireFormat::V2, Arc::default());
    assert_eq!(server.workers.open(Arc::new(info), PATIENCE), Err(AdoptError::Draining));
}

#[test]
fn a_session_that_nobody_polls_ends_whatever_is_published() {
    let server = Server::start();
    let window = Duration::from_millis(200);
    let forsaken = Poller::open_for(&server, window, |info| info);
    let polled = Poller::open_for(&server, window, |info| info);
    let started = Instant::now();
    eventually("the session ends", || {
        assert_eq!(polled.poll_for(window / 4), PollAnswer::Nothing);
        assert!(!polled.is_gone());
        forsaken.publish(&[HEARTBEAT]) == PublishAnswer::Gone
    });
    assert!(started.elapsed() >= window * 3 / 2);
    assert_eq!(forsaken.poll(), PollAnswer::Gone);
    assert_eq!(server.workers.connections(), 1);
}

#[test]
fn a_poll_that_waits_keeps_its_session_alive() {
    let server = Server::start();
    let poller = Poller::open_for(&server, Duration::from_millis(50), |info| info);
    assert_eq!(poller.poll_for(Duration::from_millis(400)), PollAnswer::Nothing);
    assert!(!poller.is_gone());
}

#[test]
fn a_session_ends_with_its_clients_token() {
    let server = Server::start();
    let expires_at = Some(Instant::now() + Duration::from_millis(200));
    let poller = Poller::open_for(&server, PATIENCE, |info| SocketInfo { expires_at, ..info });
    assert_eq!(poller.poll(), PollAnswer::Nothing);
    assert!(Some(Instant::now()) >= expires_at);
    assert_eq!(poller.poll(), PollAnswer::Gone);
}

#[test]
fn what_must_not_be_lost_is_kept_within_bounds() {
    const BEHIND: usize = 64 * 1024;
    let config = WorkersConfig { workers: 1, outbox_bytes_max: BEHIND, ..WorkersConfig::default() };
    let server = Server::with(config, MountLimits::default());
    let mut limits = MountLimits::default();
    limits.websocket.message_max = BEHIND;
    let limits = Arc::new(limits);
    let poller = Poller::open_for(&server, PATIENCE, |info| SocketInfo { limits, ..info });
    poller.join("room:a");
    let large = format!(r#"["j","1","room:a","echo","{}"]"#, "x".repeat(BEHIND / 2));
    // One may always wait, and behind it as much as a request carries beyond what any socket may have.
    for _ in 0..4 {
        poller.take(&[&large]);
    }
    poller.publish(&[&large]);
    eventually("it ends", || poller.is_gone());
    assert_eq!(server.workers.connections(), 0);
}

#[test]
fn a_batch_of_large_answers_reaches_a_client_that_polls() {
    let server = Server::start();
    let poller = Poller::open(&server);
    poller.join("room:a");
    let large = format!(r#"["j","1","room:a","echo","{}"]"#, "x".repeat(100_000));
    server.runtime.block_on(async {
        let mut waiting = pin!(server.workers.poll(poller.id, PATIENCE));
        assert!(waiting.as_mut().now_or_never().is_none());
        let messages = vec![PollMessage::Text(large.clone().into()); 75];
        assert_eq!(server.workers.publish(poller.id, messages).await, PublishAnswer::Taken);
        let mut seen = 0;
        let mut answer = waiting.await;
        while let PollAnswer::Messages(messages) = answer {
            seen += messages.len();
            if seen == 75 {
                return;
            }
            answer = server.workers.poll(poller.id, PATIENCE).await;
        }
        panic!("{seen} of 75 answers came");
    });
}

#[test]
fn a_client_that_publishes_too_fast_loses_its_session() {
    let server = Server::start();
    let limits = MountLimits { messages_per_second: NonZeroU32::new(10), ..MountLimits::default() };
    let poller = Poller::open_for(&server, PATIENCE, |info| SocketInfo { limits: Arc::new(limits), ..info });
    assert_eq!(poller.publish(&[HEARTBEAT; 100]), PublishAnswer::Gone);
    assert!(poller.is_gone());
}

#[test]
fn a_binary_message_travels_as_a_string_or_not_at_all() {
    let server = Server::start();
    let poller = Poller::open(&server);
    poller.join("room:a");
    let binary = |bytes: &'static [u8]| {
        let topic = Topic::new("room:a").unwrap();
        Arc::new(Broadcast::lossless(topic, "b".into(), Payload::Binary(Bytes::from_static(bytes)), Instant::now()))
    };
    server.pubsub.broadcast(&[binary(b"text"), binary(&[0xff, 0xfe])]);
    poller.take(&[&push_me(1)]);
    poller.expect(&["\u{2}\u{6}\u{1}room:abtext", &pushed(1)]);
    // A client may send them as it likes.
    let message = b"\x00\x01\x01\x06\x04j1room:aecho\xff".to_vec();
    let published = server.workers.publish(poller.id, vec![PollMessage::Binary(message.into())]);
    assert_eq!(server.runtime.block_on(published), PublishAnswer::Taken);
    poller.take(&[&push_me(2)]);
    poller.expect(&[&pushed(2)]);
}

#[test]
fn a_fault_of_ours_ends_the_session_alone() {
    let server = Server::start();
    let (poller, other) = (Poller::open(&server), Poller::open(&server));
    poller.join("room:a");
    other.join("room:b");
    let armed = tickwire_faults::arm(tickwire_faults::Unit::Poll, server.address, 1);
    assert_eq!(poller.publish(&[r#"["j","1","room:a","echo",{}]"#]), PublishAnswer::Gone);
    assert_eq!(armed.fired(), 1);
    assert!(poller.is_gone() && !other.is_gone());
}

/// Sessions, polls and publications, as many as come: each session gets its own, and nothing is left in the end.
#[test]
fn thousands_of_sessions_at_once() {
    const SESSIONS: usize = 2_000;
    let server = Server::start();
    let pollers: Vec<_> = (0..SESSIONS).map(|_| Poller::open(&server)).collect();
    assert_eq!(server.workers.connections(), SESSIONS);
    let joined = r#"["j","j","room:a","phx_reply",{"status":"ok","response":{}}]"#.to_owned();
    server.runtime.block_on(join_all(pollers.iter().map(async |poller| {
        let join = Bytes::from_static(br#"["j","j","room:a","phx_join",{}]"#);
        let publish = server.workers.publish(poller.id, vec![PollMessage::Text(join)]);
        let (answer, published) = tokio::join!(server.workers.poll(poller.id, PATIENCE), publish);
        assert_eq!(published, PublishAnswer::Taken);
        assert_eq!(answer, PollAnswer::Messages(vec![joined.clone()]));
    })));
    server.runtime.block_on(async {
        let polls = join_all(pollers.iter().map(|poller| server.workers.poll(poller.id, PATIENCE)));
        let all = async {
            // Once a few of them wait, all get the same.
            tokio::task::yield_now().await;
            server.pubsub.broadcast(&[update("room:a", 1)]);
        };
        let (answers, ()) = tokio::join!(polls, all);
        assert!(answers.iter().all(|answer| matches!(answer, PollAnswer::Messages(messages) if messages.len() == 1)));
    });
    server.workers.close_where(|_| true, CloseReason::Disconnected);
    eventually("all end", || server.workers.connections() == 0);
    assert_eq!(server.workers.joins(), 0);
}

/// Many polls of one client at once: all but the last wait in vain, none is answered twice.
#[test]
fn a_flood_of_polls_with_one_token_is_a_queue_of_one() {
    let server = Server::start();
    let poller = Poller::open(&server);
    server.runtime.block_on(async {
        let window = Duration::from_millis(500);
        let polls = join_all((0..3_000).map(|_| server.workers.poll(poller.id, window)));
        let heartbeats = async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let heartbeat = PollMessage::Text(Bytes::from_static(HEARTBEAT.as_bytes()));
                server.workers.publish(poller.id, vec![heartbeat]).await;
            }
        };
        let (answers, ()) = tokio::join!(polls, heartbeats);
        let answered = answers.iter().filter(|answer| matches!(answer, PollAnswer::Messages(_))).count();
        assert!((1..=5).contains(&answered), "{answered}");
        assert!(answers.iter().all(|answer| *answer != PollAnswer::Gone));
    });
}
