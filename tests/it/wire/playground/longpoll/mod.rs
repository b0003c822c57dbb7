//! Long polling: every row of its table, and clients that lose polls, share tokens and send what nobody should.

mod abuse;
mod lifetime;
mod publish;
mod requests;

use serde_json::{Value, json};

use super::{Answer, Playground, Raw, method_request};

/// A client of long polling.
pub(super) struct Poller<'a> {
    playground: &'a Playground,
    mount: &'static str,
    pub(super) token: String,
}

pub(super) const JOIN: &str = r#"["1","1","room:a","phx_join",{}]"#;
pub(super) const JOINED: &str = r#"["1","1","room:a","phx_reply",{"status":"ok","response":{}}]"#;
pub(super) const BATCH: &str = "application/x-ndjson";

impl<'a> Poller<'a> {
    /// Opens a session.
    #[track_caller]
    pub(super) fn open(playground: &'a Playground, mount: &'static str, query: &str) -> Self {
        let answer = body(&playground.ask("GET", &format!("{mount}/longpoll?{query}"), &[], b""));
        assert_eq!((&answer["status"], &answer["messages"]), (&json!(410), &json!([])), "{answer}");
        let token = answer["token"].as_str().expect("a session that is opened has a token").to_owned();
        Self { playground, mount, token }
    }

    #[track_caller]
    pub(super) fn v2(playground: &'a Playground) -> Self {
        Self::open(playground, "/socket", "vsn=2.0.0")
    }

    fn target(&self) -> String {
        format!("{}/longpoll?vsn=2.0.0&token={}", self.mount, self.token)
    }

    /// Polls once.
    #[track_caller]
    pub(super) fn poll(&self) -> Value {
        body(&self.playground.ask("GET", &self.target(), &[], b""))
    }

    /// Begins a poll; its answer is still to be read.
    #[track_caller]
    pub(super) fn begin_poll(&self) -> Raw {
        let mut client = Raw::connect(self.playground.address);
        client.write(method_request("GET", &self.target(), &[("Host", "localhost")]).as_bytes());
        client
    }

    /// Publishes a body, and returns the status of HTTP and that of its body.
    #[track_caller]
    pub(super) fn post(&self, content_type: &str, body: &[u8]) -> (u16, Value) {
        let answer = self.playground.ask("POST", &self.target(), &[("Content-Type", content_type)], body);
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }

    #[track_caller]
    pub(super) fn send(&self, lines: &[&str]) {
        assert_eq!(self.post(BATCH, lines.join("\n").as_bytes()), (200, json!({"status": 200})));
    }

    /// Demands that these messages wait, and no others.
    #[track_caller]
    pub(super) fn expect(&self, messages: &[&str]) {
        assert_eq!(self.poll(), json!({"status": 200, "token": self.token, "messages": messages}));
    }

    #[track_caller]
    pub(super) fn expect_gone(&self) {
        let post = self.post(BATCH, JOIN.as_bytes());
        assert_eq!(post, (200, json!({"status": 410})), "without a token");
        let poll = self.poll();
        assert_eq!((&poll["status"], &poll["messages"]), (&json!(410), &json!([])));
        assert_ne!(poll["token"], json!(self.token), "it is another session");
    }
}

/// The body of an answer of long polling, whose head is as it must be.
#[track_caller]
pub(super) fn body(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    check_head(answer);
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    serde_json::from_slice(&answer.body).unwrap()
}

#[track_caller]
fn check_head(answer: &Answer) {
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
}
