use tickwire_channels::websocket::Header;
use tickwire_client::Options;

use super::*;
use crate::{
    tally::Window,
    tickwire::{Tickwire, Via},
};

fn server() -> Tickwire {
    Tickwire::new(Options::new("ws://127.0.0.1:1/socket").unwrap(), String::new(), None, Via::Grpc).unwrap()
}

fn frame(text: &str) -> Vec<u8> {
    let mut bytes = Header::new(Opcode::Text, text.len()).as_ref().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn open_window() -> Window {
    Window { baseline_us: 0, from_us: 0, interval_us: 10, ..Window::CLOSED }
}

const HEAD: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n";

fn reply() -> Vec<u8> {
    frame(r#"["1","1","ticker:BENCH.00002","phx_reply",{"status":"ok","response":{"quote":null,"epoch":"a","seq":0}}]"#)
}

fn update(seq: u64, tail: &str) -> Vec<u8> {
    frame(&format!(
        r#"[null,null,"ticker:BENCH.00002","update",{{"symbol":"BENCH.00002","ts":{},"epoch":"a","seq":{seq}{tail}}}]"#,
        1_000_000 + seq * 10
    ))
}

/// A socket that takes the answer to its upgrade, and then `bytes`, in pieces of a size.
fn hear(bytes: &[u8], size: usize) -> (Socket, Tally, Result<(), String>) {
    let server = server();
    let line = Line { dialect: &server, layout: Layout { symbols: 5, topics_per_socket: 2 }, upgrade: b"" };
    let mut socket = Socket { phase: Phase::Upgrading, ..Socket::new(1, 2) };
    let mut tally = Tally { window: open_window(), ..Tally::new() };
    let mut taken = Ok(());
    for piece in [HEAD, bytes].concat().chunks(size) {
        taken = taken.and_then(|()| socket.take(line, piece, &mut tally));
    }
    (socket, tally, taken)
}

#[test]
fn bytes_in_any_pieces_make_the_same_deliveries() {
    let bytes = [reply(), update(1, ""), update(3, ",\"n\":2"), update(4, "")].concat();
    for size in [1, 7, 100, bytes.len()] {
        let (socket, tally, taken) = hear(&bytes, size);
        assert_eq!(taken, Ok(()));
        assert_eq!((socket.answered, tally.checks.deliveries, tally.checks.covered), (1, 3, 4));
        assert!(tally.checks.clean() && tally.failure.is_none() && !socket.cut_off(), "{:?}", tally.failure);
        assert_eq!((tally.coverage.len(), tally.latency.len(), socket.pairs[0].owed()), (4, 3, 4));
    }
}

#[test]
fn what_is_broken_is_told() {
    let half = update(2, "");
    let other =
        frame(r#"[null,null,"ticker:BENCH.00004","update",{"symbol":"BENCH.00004","ts":1,"epoch":"a","seq":1}]"#);
    let cut_json = frame(r#"[null,null,"ticker:BENCH.00002","update",{"symbol":"BENCH.00002","ts":1,"epoch":"a","se"#);
    let faults: [(&str, Vec<u8>, &str); 4] = [
        ("cut JSON", cut_json, "not understood"),
        ("another topic", other, "was not joined"),
        ("no join", frame(r#"["1","1","ticker:BENCH.00002","phx_reply",{"status":"error","response":{}}]"#), "refused"),
        ("a closed channel", frame(r#"["1",null,"ticker:BENCH.00002","phx_close",{}]"#), "phx_close"),
    ];
    for (fault, bytes, told) in faults {
        let (_, tally, taken) = hear(&[reply(), update(1, ""), bytes].concat(), 64);
        assert_eq!((taken, tally.failed), (Ok(()), 1), "{fault}");
        assert!(tally.failure.as_ref().unwrap().contains(told), "{fault}: {:?}", tally.failure);
    }
    let ends: [(&str, Vec<u8>, &str); 3] = [
        ("a close frame", vec![0x88, 2, 0x03, 0xf5], "1013"),
        ("a fragment", vec![0x01, 0], "fragmented"),
        ("a compressed message", vec![0xc1, 0], "compressed"),
    ];
    for (fault, bytes, told) in ends {
        let (_, _, taken) = hear(&[reply(), bytes].concat(), 64);
        assert!(taken.as_ref().unwrap_err().contains(told), "{fault}: {taken:?}");
    }
    let (socket, tally, taken) = hear(&[reply(), update(1, ""), half[..half.len() - 3].to_vec()].concat(), 64);
    assert_eq!((taken, tally.checks.deliveries), (Ok(()), 1));
    assert!(socket.cut_off() && socket.ended().contains("within a message"));
}

#[test]
fn a_refused_upgrade_is_no_socket() {
    for (answer, told) in [("HTTP/1.1 503 Busy\r\n\r\n", Some("503")), ("HTTP/1.1 101", None)] {
        assert_eq!(head(answer.as_bytes()).err().is_some_and(|problem| problem.contains("503")), told.is_some());
    }
    assert!(head(&[b'x'; HEAD_MAX + 1]).is_err());
    assert_eq!(head(HEAD), Ok(HEAD.len()));
}

#[test]
fn processes_and_rounds_have_addresses_of_their_own() {
    let addresses = [(7, 0), (7, 1), (8, 0), (257, 0)].map(|(process, place)| source(process, place));
    assert!(addresses.iter().all(Ipv4Addr::is_loopback));
    assert!((1..4).all(|other| addresses[..other].iter().all(|address| *address != addresses[other])), "{addresses:?}");
}
