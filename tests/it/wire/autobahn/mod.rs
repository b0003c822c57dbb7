//! The cases of Autobahn's test suite (https://github.com/crossbario/autobahn-testsuite), under its numbers, against a server of Phoenix
//! messages. That one does not answer with what it is sent: where Autobahn sends a text, here it is the payload of a message that the channel
//! echoes, and the frame around it is as long as Autobahn's where the length is what a case is about. `tests/autobahn/run` lets the suite
//! itself ask a plain echo of the same frames.

mod control;
mod deflate;
mod framing;
mod limits;
mod utf8;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::json;

use super::{
    client::{Got, MORE, Raw, frame, push},
    demo::Demo,
};

/// What is done in a case, in this order.
enum Step {
    /// Goes out in one piece.
    Write(Vec<u8>),
    /// Must come next.
    Want(Want),
}

/// What the server answers.
#[derive(Clone)]
enum Want {
    /// The echo of a text.
    Text(String),
    /// The echo of bytes.
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    /// A close with this code, and the end.
    Close(u16),
}

struct Case {
    id: String,
    steps: Vec<Step>,
}

impl Case {
    fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), steps: Vec::new() }
    }

    fn write(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.steps.push(Step::Write(bytes.as_ref().to_vec()));
        self
    }

    /// Writes so many bytes at a time.
    fn chopped(mut self, bytes: &[u8], size: usize) -> Self {
        self.steps.extend(bytes.chunks(size).map(|chop| Step::Write(chop.to_vec())));
        self
    }

    /// Writes frames in one piece, frame by frame and byte by byte: three cases that Autobahn has in a row.
    fn three(ids: [&str; 3], frames: &[Vec<u8>], wants: &[Want]) -> Vec<Self> {
        let all = frames.concat();
        let [whole, by_frame, by_byte] = ids.map(Self::new);
        let by_frame = frames.iter().fold(by_frame, Self::write);
        [whole.write(&all), by_frame, by_byte.chopped(&all, 1)].map(|case| case.wants(wants)).into()
    }

    fn want(mut self, want: Want) -> Self {
        self.steps.push(Step::Want(want));
        self
    }

    fn wants(self, wants: &[Want]) -> Self {
        wants.iter().cloned().fold(self, Self::want)
    }

    fn run(&self, mut client: Raw) {
        client.join("1", "room:a", &json!({}));
        for step in &self.steps {
            match step {
                Step::Write(bytes) => client.write(bytes),
                Step::Want(Want::Text(text)) => client.expect_ok("1", "2", "room:a", &json!(text)),
                Step::Want(Want::Binary(data)) => {
                    let got = client.binary();
                    assert!(
                        got.starts_with(b"\x01\x01\x01\x06\x0212room:aok") && got[15..] == data[..],
                        "{} bytes",
                        got.len()
                    );
                }
                Step::Want(Want::Pong(payload)) => assert_eq!(client.next(), Some(Got::Pong(payload.clone()))),
                Step::Want(Want::Close(code)) => return client.expect_close(*code),
            }
        }
        // Whatever it was, nothing comes behind it, and the socket goes on.
        client.expect_nothing();
    }
}

/// Runs all cases, each on a socket of its own; tells which failed.
#[expect(clippy::print_stdout, reason = "the count of cases is for whoever runs the list")]
fn run_all(name: &str, cases: &[Case], connect: impl Fn() -> Raw) {
    let failed: Vec<_> = cases
        .iter()
        .filter(|case| catch_unwind(AssertUnwindSafe(|| case.run(connect()))).is_err())
        .map(|case| case.id.as_str())
        .collect();
    println!("{name}: {} cases, {} failed", cases.len(), failed.len());
    assert!(failed.is_empty(), "failed: {failed:?}, each with its message above");
}

fn on_demo(name: &str, cases: &[Case]) {
    let demo = Demo::library();
    run_all(name, cases, || demo.v2());
    assert!(demo.workers().is_healthy());
}

const BEFORE: &str = r#"["1","2","room:a","echo",""#;
const BEHIND: &str = r#""]"#;

/// A message that is echoed. `text` must need no escapes.
fn echo(text: impl AsRef<[u8]>) -> Vec<u8> {
    [BEFORE.as_bytes(), text.as_ref(), BEHIND.as_bytes()].concat()
}

/// A text that makes a message of this length.
fn text_of(len: usize) -> String {
    "*".repeat(len - BEFORE.len() - BEHIND.len())
}

/// Bytes that are echoed.
fn binary_echo(data: &[u8]) -> Vec<u8> {
    push("1", "2", "room:a", "binary_echo", data)
}

/// Bytes that make a message of this length.
fn bytes_of(len: usize) -> Vec<u8> {
    vec![0xfe; len - binary_echo(b"").len()]
}

/// A message in fragments of `size` bytes. `first` is the first byte of the first one's header.
fn fragments(first: u8, message: &[u8], size: usize) -> Vec<Vec<u8>> {
    let count = message.len().div_ceil(size);
    let fragment = |(index, part)| {
        let opcode = if index == 0 { first & !0x80 } else { MORE };
        frame(opcode | if index + 1 == count { 0x80 } else { 0 }, part)
    };
    message.chunks(size).enumerate().map(fragment).collect()
}
