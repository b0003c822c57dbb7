//! No input panics the server, grows it without bound, or is felt by anyone else.

use std::{net::Shutdown, time::Instant};

use serde_json::json;

use super::{
    client::{BINARY, Got, PATIENCE, Raw, TEXT, TEXT_BEGIN, eventually, frame, header, push},
    demo::Demo,
};

/// A small generator of our own (xorshift64), so that a failure can be played again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// Bytes that are nonsense at one of several depths: no frames, no messages, no fields.
fn nonsense(random: &mut Random) -> Vec<u8> {
    const MESSAGES: [&str; 6] = [
        r#"["1","1","room:a","phx_join",{"echo_params":true}]"#,
        r#"["1","2","room:a","echo",{"a":[1,2.5e3,"\u00e9\ud83d\ude00"]}]"#,
        r#"[null,"3","phoenix","heartbeat",{}]"#,
        r#"["1","4","room:a","phx_leave",{}]"#,
        r#"["1","5","room:forbidden","phx_join",null]"#,
        r#"["1","6","room:crash_join","phx_join",[]]"#,
    ];
    let len = random.below(200);
    match random.below(6) {
        0 => random.bytes(len),
        1 => {
            let opcode = random.next().to_le_bytes()[0];
            let payload = random.bytes(len);
            frame(opcode, &payload)
        }
        2 => {
            let payload = random.bytes(len);
            frame(BINARY, &[&[0], payload.as_slice()].concat())
        }
        3 => {
            // A good message with some bytes changed, behind good ones.
            let mut out = Vec::new();
            for _ in 0..random.below(4) {
                out.extend(frame(TEXT, MESSAGES[random.below(MESSAGES.len())].as_bytes()));
            }
            let mut message = MESSAGES[random.below(MESSAGES.len())].as_bytes().to_vec();
            for _ in 0..=random.below(3) {
                let at = random.below(message.len());
                message[at] = random.next().to_le_bytes()[0] & 0x7f;
            }
            out.extend(frame(TEXT, &message));
            out
        }
        4 => {
            let message = MESSAGES[random.below(MESSAGES.len())].as_bytes();
            let cut = random.below(message.len());
            let payload = random.bytes(len);
            [frame(TEXT_BEGIN, &message[..cut]), frame(random.next().to_le_bytes()[0], &payload)].concat()
        }
        _ => {
            let mut out = frame(BINARY, &push("1", "1", "room:a", "phx_join", b"x"));
            let cut = random.below(out.len());
            out.truncate(cut);
            out
        }
    }
}

#[test]
fn ten_thousand_sockets_of_nonsense_harm_nobody() {
    const THREADS: u64 = 4;
    const SOCKETS: u64 = 10_000;
    let demo = Demo::library();
    let mut witness = demo.v2();
    witness.join("1", "room:witness", &json!({}));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let demo = &demo;
            scope.spawn(move || {
                let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ thread << 32);
                for _ in 0..SOCKETS / THREADS {
                    one_of_nonsense(demo, &mut random);
                }
            });
        }
        for i in 0..100 {
            witness.say(&json!(["1", i, "room:witness", "echo", {"i": i}]));
            witness.expect(&json!(["1", i, "room:witness", "phx_reply", {"status": "ok", "response": {"i": i}}]));
        }
    });
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    eventually("only the witness is left", || demo.workers().connections() == 1 && demo.workers().joins() == 1);
    witness.expect_nothing();
    assert!(demo.workers().is_healthy());
}

fn one_of_nonsense(demo: &Demo, random: &mut Random) {
    use std::io::Write as _;
    let mut client = if random.below(4) == 0 { demo.v1() } else { demo.v2() };
    for _ in 0..=random.below(3) {
        // The server may have closed already.
        if client.stream.write_all(&nonsense(random)).is_err() {
            return;
        }
    }
    // Some go without a word, in the middle of whatever they were saying; others wait for what the server says to it.
    if random.below(3) == 0 {
        return;
    }
    if client.stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    while let Some(got) = client.next() {
        if let Got::Close(code, reason) = got {
            assert_ne!(reason, "internal_error", "a fault of the server's: {code:?}");
        }
    }
}

#[test]
fn deep_nesting_neither_overflows_a_stack_nor_is_felt() {
    let demo = Demo::start();
    let mut witness = demo.v2();
    for depth in [100, 10_000, 1_000_000] {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let mut client = demo.v2();
            client.join("1", "room:a", &json!({}));
            let payload = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            client.send(&format!(r#"["1","2","room:a","echo",{payload}]"#));
            match client.next() {
                Some(Got::Text(text)) => assert!(text.contains(&payload)),
                Some(Got::Close(code, _)) => assert!(depth > 100 && code == Some(1011), "{depth}"),
                other => panic!("{depth}: {other:?}"),
            }
            witness.expect_nothing();
        }
    }
}

/// Whoever sends a megabyte may make the server read a megabyte, and no more than that.
#[test]
fn odd_shapes_cost_no_more_than_their_length() {
    let demo = Demo::start();
    let mut client = demo.v2();
    client.join("1", "room:a", &json!({}));
    let started = Instant::now();
    let many = |count: usize, key: &dyn Fn(usize) -> String| {
        format!("{{{}}}", (0..count).map(|i| format!("\"{}\":{i}", key(i))).collect::<Vec<_>>().join(","))
    };
    let escapes = |count: usize| format!("\"{}\"", r"\u0061".repeat(count));
    for (sent, answered) in [
        (many(50_000, &|i| format!("key{i}")), None),
        (many(50_000, &|_| "key".to_owned()), Some(r#"{"key":0}"#.to_owned())),
        (many(5_000, &|i| format!("{}{i}", "k".repeat(200))), None),
        ("9".repeat(500_000), None),
        (format!("-1.{}1", "0".repeat(300_000)), None),
        (escapes(150_000), Some(format!("\"{}\"", "a".repeat(150_000)))),
        (format!("[{}]", vec!["0"; 300_000].join(",")), None),
        (format!("[{}0{}]", " ".repeat(300_000), "\n".repeat(300_000)), Some("[0]".to_owned())),
        (
            format!("[{}0]", r#"{"a":{"a":1,"a":2}},"#.repeat(20_000)),
            Some(format!("[{}0]", r#"{"a":{"a":1}},"#.repeat(20_000))),
        ),
    ] {
        client.send(&format!(r#"["1","2","room:a","echo",{sent}]"#));
        let (_, reply) = client.raw_reply();
        let answered = answered.unwrap_or(sent);
        let start: String = answered.chars().take(40).collect();
        assert!(reply.response.get() == answered, "{start}");
    }
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
}

#[test]
fn announced_bytes_that_never_come_cost_nothing() {
    let demo = Demo::library();
    let mut witness = demo.v2();
    let before = resident();
    let clients: Vec<Raw> = (0..300)
        .map(|_| {
            let mut client = demo.v2();
            client.write(&[header(BINARY, 9_999_999), vec![0; 5]].concat());
            client
        })
        .collect();
    witness.expect_nothing();
    // All of them together would be 3 GB; the other tests of this process take some at the same time.
    let grown = resident().saturating_sub(before);
    assert!(grown < 1_000_000_000, "{grown} bytes");
    drop(clients);
    eventually("only the witness is left", || demo.workers().connections() == 1);
}

/// The memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// A client that asks for more than it reads: the server stops listening to it, and no other waits.
#[test]
fn who_does_not_read_its_replies_is_not_listened_to_without_bound() {
    use std::io::Write as _;
    let demo = Demo::start();
    let (mut greedy, mut other) = (demo.v2(), demo.v2());
    greedy.join("1", "room:a", &json!({}));
    other.join("1", "room:b", &json!({}));
    greedy.stream.set_nonblocking(true).unwrap();
    let message = frame(TEXT, format!(r#"["1","2","room:a","echo","{}"]"#, "x".repeat(10_000)).as_bytes());
    let (mut sent, started) = (0, Instant::now());
    // Until nothing more goes in for a while, or the server has given it up.
    let mut refused_since = None;
    while sent < 200 << 20 {
        assert!(started.elapsed() < PATIENCE);
        match greedy.stream.write(&message[sent % message.len()..]) {
            Ok(written) => (sent, refused_since) = (sent + written, None),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                other.expect_nothing();
                if refused_since.get_or_insert_with(Instant::now).elapsed().as_millis() > 300 {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    assert!(sent < 200 << 20, "the server took everything");
    other.say(&json!(["1", "2", "room:b", "echo", {}]));
    other.expect_ok("1", "2", "room:b", &json!({}));
    // It is heard again once it reads.
    greedy.stream.set_nonblocking(false).unwrap();
    let replies = sent.div_ceil(message.len());
    let rest = &message[message.len() - (replies * message.len() - sent)..];
    let mut writer = greedy.stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(rest).unwrap());
        for _ in 0..replies {
            assert!(greedy.text().starts_with(r#"["1","2","room:a","phx_reply","#));
        }
    });
    greedy.expect_nothing();
}
