//! §9: WebSocket frames.

use std::time::{Duration, Instant};

use serde_json::json;
use tickwire_channels::{MountLimits, websocket::Limits};

use super::{
    client::{BINARY, CLOSE, END, Got, MORE, PATIENCE, PING, PONG, Raw, TEXT, TEXT_BEGIN, frame, header, pause, push},
    demo::{Demo, limits},
};

const HEARTBEAT: &str = r#"[null,"1","phoenix","heartbeat",{}]"#;

#[track_caller]
fn expect_heartbeat(client: &mut Raw) {
    client.expect(&json!([null, "1", "phoenix", "phx_reply", {"status": "ok", "response": {}}]));
}

/// What these bytes are answered with, on a socket that has joined a topic.
#[track_caller]
fn closes(demo: &Demo, bytes: &[u8], code: u16) {
    let mut client = demo.v2();
    client.join("1", "room:a", &json!({}));
    client.write(bytes);
    client.expect_close(code);
}

#[test]
fn a_broken_protocol_is_closed_with_1002() {
    let demo = Demo::start();
    // Unmasked.
    closes(&demo, &[0x81, 0x02, b'[', b']'], 1002);
    closes(&demo, &[0x89, 0x00], 1002);
    // Reserved bits, also on the frame of an extension that was not negotiated.
    for bits in [0x40, 0x20, 0x10, 0x70] {
        closes(&demo, &frame(TEXT | bits, HEARTBEAT.as_bytes()), 1002);
        closes(&demo, &frame(PING | bits, b""), 1002);
    }
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        closes(&demo, &frame(0x80 | opcode, b"x"), 1002);
    }
    for control in [CLOSE, PING, PONG] {
        closes(&demo, &frame(control & 0x0f, b""), 1002);
        closes(&demo, &frame(control, &[b'x'; 126]), 1002);
        closes(&demo, &header(control, 70_000), 1002);
    }
    // Nothing to continue, at first and after a whole message.
    closes(&demo, &frame(END, b"x"), 1002);
    closes(&demo, &frame(MORE, b"x"), 1002);
    // A new message inside of a fragmented one.
    for second in [TEXT, BINARY, TEXT_BEGIN] {
        closes(&demo, &[frame(TEXT_BEGIN, b"["), frame(second, b"x")].concat(), 1002);
    }
}

#[test]
fn text_that_is_not_utf8_is_closed_with_1007() {
    let demo = Demo::start();
    for text in [
        b"\xff".as_slice(),
        b"\"\xc3\x28\"",
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\x80",
        b"ok\xe2\x82",
    ] {
        closes(&demo, &frame(TEXT, text), 1007);
        for cut in 0..=text.len() {
            let parts = match cut {
                // An empty last frame ends a message, too.
                cut if cut == text.len() => [frame(TEXT_BEGIN, text), frame(END, b"")],
                cut => [frame(TEXT_BEGIN, &text[..cut]), frame(END, &text[cut..])],
            };
            closes(&demo, &parts.concat(), 1007);
        }
    }
    // What is not text may be anything.
    let mut client = demo.v2();
    client.join("1", "room:a", &json!({}));
    client.send_binary(&push("1", "2", "room:a", "binary_echo", b"\xff\xc0\x80"));
    assert!(client.binary().ends_with(b"\xff\xc0\x80"));
}

#[test]
fn an_empty_fragment_that_does_not_end_its_message_is_closed_with_1008() {
    let demo = Demo::start();
    closes(&demo, &[frame(TEXT_BEGIN, b"["), frame(MORE, b"")].concat(), 1008);
    // The first may be empty, and so may the last.
    let mut client = demo.v2();
    client.write(&[frame(TEXT_BEGIN, b""), frame(MORE, HEARTBEAT.as_bytes()), frame(END, b"")].concat());
    expect_heartbeat(&mut client);
}

#[test]
fn fragments_make_a_message_with_control_frames_between_them() {
    let demo = Demo::start();
    let mut client = demo.v2();
    client.join("1", "room:a", &json!({}));
    // One byte a fragment, so that letters are cut in two.
    let message = r#"["1","2","room:a","echo",{"t":"žluťoučký 🐎"}]"#.as_bytes();
    let mut bytes = frame(TEXT_BEGIN, &message[..1]);
    for (index, byte) in message[1..message.len() - 1].iter().enumerate() {
        bytes.extend(frame(MORE, &[*byte]));
        if index % 10 == 0 {
            bytes.extend(frame(PING, &[u8::try_from(index).unwrap()]));
        }
    }
    bytes.extend(frame(PONG, b"nobody asked"));
    bytes.extend(frame(END, &message[message.len() - 1..]));
    client.write(&bytes);
    for index in (0..message.len() - 2).step_by(10) {
        assert_eq!(client.next(), Some(Got::Pong(vec![u8::try_from(index).unwrap()])));
    }
    client.expect_ok("1", "2", "room:a", &json!({"t": "žluťoučký 🐎"}));
    // Binary, too.
    let message = push("1", "3", "room:a", "binary_echo", b"data");
    let (front, back) = message.split_at(9);
    client.write(&[frame(BINARY & 0x0f, front), frame(END, back)].concat());
    assert!(client.binary().ends_with(b"okdata"));
}

#[test]
fn pings_are_answered_with_their_payload_and_pongs_with_nothing() {
    let demo = Demo::start();
    let mut client = demo.v2();
    for payload in [b"".as_slice(), b"\x00\xff", &[7; 125]] {
        client.write(&frame(PING, payload));
        assert_eq!(client.next(), Some(Got::Pong(payload.to_vec())));
    }
    client.write(&frame(PONG, b""));
    client.write(&frame(PONG, &[1; 125]));
    client.expect_nothing();
}

#[test]
fn bytes_may_come_one_by_one() {
    let demo = Demo::start();
    let mut client = demo.v2();
    let mut bytes = frame(TEXT, br#"["1","1","room:a","phx_join",{}]"#);
    bytes.extend(frame(PING, b"p"));
    bytes.extend(frame(TEXT, format!(r#"["1","2","room:a","echo","{}"]"#, "y".repeat(130)).as_bytes()));
    bytes.extend(frame(BINARY, &push("1", "3", "room:a", "binary_echo", b"z")));
    for byte in bytes {
        client.write(&[byte]);
    }
    client.expect_ok("1", "1", "room:a", &json!({}));
    assert_eq!(client.next(), Some(Got::Pong(b"p".to_vec())));
    client.expect_ok("1", "2", "room:a", &json!("y".repeat(130)));
    assert!(client.binary().ends_with(b"okz"));
}

#[test]
fn thousands_of_messages_in_one_stream_are_all_answered() {
    const COUNT: usize = 5_000;
    let demo = Demo::start();
    let mut client = demo.v2();
    client.join("1", "room:a", &json!({}));
    let bytes: Vec<u8> =
        (0..COUNT).flat_map(|i| frame(TEXT, format!(r#"["1",{i},"room:a","echo",{{}}]"#).as_bytes())).collect();
    let mut writer = client.stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || std::io::Write::write_all(&mut writer, &bytes).unwrap());
        for i in 0..COUNT {
            client.expect(&json!(["1", i, "room:a", "phx_reply", {"status": "ok", "response": {}}]));
        }
    });
}

#[test]
fn a_clients_close_is_answered_with_1000_and_a_wrong_one_with_1002() {
    let demo = Demo::library();
    closes(&demo, &frame(CLOSE, b""), 1000);
    for code in [1000_u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        closes(&demo, &frame(CLOSE, &code.to_be_bytes()), 1000);
        closes(&demo, &frame(CLOSE, &[code.to_be_bytes().as_slice(), "bye é".as_bytes()].concat()), 1000);
    }
    closes(&demo, &frame(CLOSE, &[[3, 232].as_slice(), &[b'x'; 123]].concat()), 1000);
    // Codes from 5000 on have no meaning at all, not even that of being invalid: Phoenix takes them, and so may anyone.
    for code in [0_u16, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999] {
        closes(&demo, &frame(CLOSE, &code.to_be_bytes()), 1002);
    }
    closes(&demo, &frame(CLOSE, &[3]), 1002);
    // What was asked before is answered before.
    let mut client = demo.v2();
    client.write(&[frame(TEXT, HEARTBEAT.as_bytes()), frame(PING, b"p"), frame(CLOSE, &[3, 232])].concat());
    expect_heartbeat(&mut client);
    assert_eq!(client.next(), Some(Got::Pong(b"p".to_vec())));
    client.expect_close(1000);
    // What comes behind the close is not looked at.
    let mut client = demo.v2();
    client.write(&[frame(CLOSE, &[3, 232]), frame(TEXT, HEARTBEAT.as_bytes())].concat());
    client.expect_close(1000);
    super::client::eventually("all connections are gone", || demo.workers().connections() == 0);
    assert_eq!(demo.workers().joins(), 0);
}

#[test]
fn a_frame_above_the_limit_is_refused_at_its_announced_length() {
    let demo = Demo::start();
    closes(&demo, &header(TEXT, 10_000_001), 1009);
    closes(&demo, &header(BINARY, 10_000_001), 1009);
    closes(&demo, &[&[0x82, 0xff], u64::MAX.to_be_bytes().as_slice()].concat(), 1009);
    closes(&demo, &[&[0x82, 0xff], (1_u64 << 63).to_be_bytes().as_slice()].concat(), 1009);
    // Of fragments it is the sum that counts.
    let small = Demo::with(MountLimits { websocket: Limits { frame_max: 1_000, message_max: 600 }, ..limits() });
    closes(&small, &header(TEXT, 1_001), 1009);
    closes(&small, &[frame(TEXT_BEGIN, &[b' '; 400]), header(MORE, 201)].concat(), 1009);
    closes(&small, &[frame(BINARY & 0x0f, &[0; 300]), frame(MORE, &[0; 300]), header(END, 1)].concat(), 1009);
    let padded = |len: usize| format!("{HEARTBEAT}{}", " ".repeat(len - HEARTBEAT.len()));
    let mut client = small.v2();
    client.send(&padded(1_000));
    expect_heartbeat(&mut client);
    let text = padded(600);
    client.write(&[frame(TEXT_BEGIN, &text.as_bytes()[..300]), frame(END, &text.as_bytes()[300..])].concat());
    expect_heartbeat(&mut client);
}

/// The biggest message that Phoenix takes comes back whole.
#[test]
fn messages_of_the_biggest_size_come_back() {
    let demo = Demo::start();
    let mut client = demo.v2();
    client.join("1", "room:a", &json!({}));
    for len in [1_000_000, 4_000_000, 9_999_000] {
        let data = "x".repeat(len);
        client.send(&format!(r#"["1","2","room:a","echo","{data}"]"#));
        let text = client.text();
        assert!(text.len() > len && text.contains(&data), "{}", text.len());
        client.send_binary(&push("1", "3", "room:a", "binary_echo", data.as_bytes()));
        assert!(client.binary().ends_with(data.as_bytes()));
    }
    let data = vec![b'y'; 7_000_000];
    let message = push("1", "4", "room:a", "binary_shout", &data);
    let mut bytes = frame(BINARY & 0x0f, &message[..1]);
    for part in message[1..].chunks(1 << 20) {
        bytes.extend(frame(MORE, part));
    }
    bytes.extend(frame(END, b""));
    client.write(&bytes);
    assert!(client.binary().ends_with(&data));
    client.expect_nothing();
}

#[test]
fn a_silent_client_is_closed_with_1002_whatever_it_is_sent() {
    let demo = Demo::with(MountLimits { idle_timeout: Duration::from_millis(500), ..limits() });
    let (mut silent, mut talker) = (demo.v2(), demo.v2());
    silent.join("1", "room:a", &json!({}));
    talker.join("1", "room:a", &json!({}));
    std::thread::scope(|scope| {
        // What the server sends to it does not count.
        let talking = scope.spawn(|| {
            let started = Instant::now();
            while demo.workers().connections() == 2 {
                talker.say(&json!(["1", "2", "room:a", "shout", {}]));
                talker.text();
                pause(Duration::from_millis(20));
                assert!(started.elapsed() < PATIENCE);
            }
        });
        loop {
            match silent.next() {
                Some(Got::Text(_)) => {}
                Some(Got::Close(code, _)) => {
                    assert_eq!(code, Some(1002));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(silent.next(), None);
        drop(silent);
        talking.join().unwrap();
    });
    // One that never said anything, too.
    Raw::v2(demo.address).expect_close(1002);
}

#[test]
fn any_frame_of_the_client_counts_as_a_sign_of_life() {
    let demo = Demo::with(MountLimits { idle_timeout: Duration::from_millis(1_500), ..limits() });
    let mut clients: Vec<Raw> = (0..3).map(|_| demo.v2()).collect();
    let started = Instant::now();
    let whole = frame(TEXT, format!(r#"[null,"1","phoenix","heartbeat","{}"]"#, "x".repeat(60)).as_bytes());
    let mut sent = 0;
    while started.elapsed() < Duration::from_millis(2_500) {
        clients[0].write(&frame(PING, b""));
        assert_eq!(clients[0].next(), Some(Got::Pong(vec![])));
        clients[1].write(&frame(PONG, b""));
        // A part of a frame is data as well.
        clients[2].write(&whole[sent..=sent]);
        sent += 1;
        pause(Duration::from_millis(50));
    }
    clients[2].write(&whole[sent..]);
    expect_heartbeat(&mut clients[2]);
    clients[0].expect_nothing();
    clients[1].expect_nothing();
}
