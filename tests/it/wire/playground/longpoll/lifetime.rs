//! How sessions end, and what outlives a poll.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{super::super::client::eventually, BATCH, JOIN, JOINED, Playground, Poller, body};

const WINDOW: Duration = Duration::from_millis(800);

#[test]
fn a_poll_waits_for_its_window_and_then_says_204() {
    let playground = Playground::start();
    let poller = Poller::open(&playground, "/socket_fast", "vsn=2.0.0");
    let started = Instant::now();
    assert_eq!(poller.poll(), json!({"status": 204, "token": poller.token, "messages": []}));
    assert!(started.elapsed() >= WINDOW);
}

#[test]
fn a_session_that_nobody_polls_ends_and_leaves_its_channels() {
    let playground = Playground::with(&[r#"socket=[{path="/socket_fast",longpoll_window="400ms",origins="any"}]"#]);
    let began = Instant::now();
    let poller = Poller::open(&playground, "/socket_fast", "vsn=2.0.0");
    poller.send(&[JOIN]);
    eventually("it ends, whatever is posted", || poller.post(BATCH, b"").1 == json!({"status": 410}));
    assert!(began.elapsed() >= Duration::from_millis(600));
    poller.expect_gone();
    assert_eq!(playground.metric("tickwire_joins", ""), 0.0);
}

#[test]
fn a_client_that_polls_keeps_its_session() {
    let playground = Playground::with(&[r#"socket=[{path="/socket_fast",longpoll_window="200ms",origins="any"}]"#]);
    let poller = Poller::open(&playground, "/socket_fast", "vsn=2.0.0");
    poller.send(&[JOIN]);
    poller.expect(&[JOINED]);
    for _ in 0..6 {
        assert_eq!(poller.poll()["status"], json!(204));
    }
    assert_eq!(playground.metric("tickwire_joins", ""), 1.0);
}

#[test]
fn a_token_expires_even_in_use() {
    let playground = Playground::start();
    let began = Instant::now();
    let poller = Poller::open(&playground, "/socket_fast", "vsn=2.0.0");
    let renewed = loop {
        let answer = poller.poll();
        if answer["status"] == json!(410) {
            break answer["token"].clone();
        }
        assert_eq!(answer["status"], json!(204));
        assert_eq!(answer["token"], json!(poller.token), "a token is not renewed");
    };
    assert!(began.elapsed() >= Duration::from_millis(2_900));
    assert_ne!(renewed, json!(poller.token));
    assert_eq!(poller.post(BATCH, JOIN.as_bytes()), (200, json!({"status": 410})));
}

#[test]
fn a_disconnect_ends_a_session_and_answers_its_poll() {
    let playground = Playground::start();
    let poller = Poller::open(&playground, "/socket", "vsn=2.0.0&socket_id=7");
    let other = Poller::open(&playground, "/socket", "vsn=2.0.0&socket_id=8");
    poller.send(&[JOIN]);
    poller.expect(&[JOINED]);
    let mut waiting = poller.begin_poll();
    eventually("the poll waits", || playground.metric("tickwire_polls_waiting", "") == 1.0);
    playground.control("/demo/disconnect?id=users_socket:7", b"");
    assert_eq!(body(&waiting.answer()), json!({"status": 204, "token": poller.token, "messages": []}));
    poller.expect_gone();
    other.send(&[JOIN]);
    other.expect(&[JOINED]);
}

#[test]
fn messages_outlive_a_poll_whose_client_has_gone() {
    let playground = Playground::start();
    let poller = Poller::v2(&playground);
    poller.send(&[JOIN]);
    poller.expect(&[JOINED]);
    for i in 0..20 {
        let lost = poller.begin_poll();
        eventually("the poll waits", || playground.metric("tickwire_polls_waiting", "") == 1.0);
        drop(lost);
        eventually("it waits no more", || playground.metric("tickwire_polls_waiting", "") == 0.0);
        poller.send(&[&format!(r#"["1","2","room:a","shout",{{"i":{i}}}]"#)]);
        poller.expect(&[&format!(r#"[null,null,"room:a","shout",{{"i":{i}}}]"#)]);
    }
}

#[test]
fn of_two_polls_the_later_one_gets_the_messages() {
    let playground = Playground::start();
    let poller = Poller::open(&playground, "/socket_fast", "vsn=2.0.0");
    poller.send(&[JOIN]);
    poller.expect(&[JOINED]);
    let mut earlier = poller.begin_poll();
    eventually("the first poll waits", || playground.metric("tickwire_polls_waiting", "") == 1.0);
    let depth = || playground.metric("http_requests_total", r#"status="200",method="POST""#);
    let mut later = poller.begin_poll();
    // It has come once an answer to it, and not to the one before, is possible: the heartbeat's.
    let before = depth();
    let mut answers: Vec<Value> = Vec::new();
    poller.send(&[r#"[null,"h","phoenix","heartbeat",{}]"#]);
    assert!(depth() > before);
    answers.push(body(&earlier.answer()));
    answers.push(body(&later.answer()));
    let statuses: Vec<_> = answers.iter().map(|answer| answer["status"].as_u64().unwrap()).collect();
    assert!(statuses == [204, 200] || statuses == [200, 204], "exactly one gets it: {statuses:?}");
}

/// Sessions count as sockets: the gauge says so, and a drained node ends them.
#[test]
fn a_drained_node_answers_polls_that_wait() {
    let mut playground = Playground::start();
    let mut waiting = {
        let poller = Poller::v2(&playground);
        let waiting = poller.begin_poll();
        eventually("the poll waits", || playground.metric("tickwire_polls_waiting", "") == 1.0);
        assert_eq!(playground.metric("tickwire_connections", ""), 1.0);
        assert_eq!(playground.metric("tickwire_poll_sessions", ""), 1.0);
        waiting
    };
    let began = Instant::now();
    assert_eq!(playground.drain(), Some(0));
    assert_eq!(body(&waiting.answer())["status"], json!(204));
    assert!(began.elapsed() < Duration::from_secs(8), "well before its window");
}
