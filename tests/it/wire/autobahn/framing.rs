//! 1: sizes. 3: reserved bits. 4: reserved opcodes. 5: fragments. 10: fragments of a fixed size.

use super::{Case, Want, binary_echo, bytes_of, echo, fragments, on_demo, text_of};
use crate::wire::client::{BINARY, CLOSE, END, MORE, PING, TEXT, TEXT_BEGIN, frame};

const HELLO: &str = "Hello, world!";

fn hello() -> Vec<u8> {
    frame(TEXT, &echo(HELLO))
}

fn hello_echo() -> Want {
    Want::Text(HELLO.to_owned())
}

#[test]
fn autobahn_1_sizes() {
    // An empty message is none in Phoenix.
    let mut cases = vec![
        Case::new("1.1.1").write(frame(TEXT, b"")).want(Want::Close(1011)),
        Case::new("1.2.1").write(frame(BINARY, b"")).want(Want::Close(1011)),
    ];
    for (number, len) in (2..).zip([125, 126, 127, 128, 65_535, 65_536, 65_536]) {
        let (text, data) = (text_of(len), bytes_of(len));
        // The last one goes out in chops.
        let chop = if number == 8 { 997 } else { len + 14 };
        let (text_case, data_case) = (Case::new(format!("1.1.{number}")), Case::new(format!("1.2.{number}")));
        cases.push(text_case.chopped(&frame(TEXT, &echo(&text)), chop).want(Want::Text(text)));
        cases.push(data_case.chopped(&frame(BINARY, &binary_echo(&data)), chop).want(Want::Binary(data)));
    }
    on_demo("1", &cases);
}

#[test]
fn autobahn_3_reserved_bits() {
    let message = echo(HELLO);
    let second = [hello(), frame(TEXT | 0x20, &message), frame(PING, b"")];
    let third = [hello(), frame(TEXT | 0x30, &message), frame(PING, b"")];
    let fourth = [hello(), frame(TEXT | 0x40, &message), frame(PING, b"")].concat();
    let closed = Want::Close(1002);
    let after_hello = [hello_echo(), closed.clone()];
    on_demo(
        "3",
        &[
            Case::new("3.1").write(frame(TEXT | 0x10, &message)).want(closed.clone()),
            Case::new("3.2").write(second.concat()).wants(&after_hello),
            third.iter().fold(Case::new("3.3"), Case::write).wants(&after_hello),
            Case::new("3.4").chopped(&fourth, 1).wants(&after_hello),
            Case::new("3.5").write(frame(BINARY | 0x50, HELLO.as_bytes())).want(closed.clone()),
            Case::new("3.6").write(frame(PING | 0x60, HELLO.as_bytes())).want(closed.clone()),
            Case::new("3.7").write(frame(CLOSE | 0x70, b"")).want(closed),
        ],
    );
}

#[test]
fn autobahn_4_reserved_opcodes() {
    let mut cases = Vec::new();
    for (group, first_opcode) in [(1, 3), (2, 11)] {
        for (number, opcode) in (1..=5).zip(first_opcode..) {
            let payload: &[u8] = if number == 1 || number == 3 { b"" } else { HELLO.as_bytes() };
            let bad = frame(0x80 | opcode, payload);
            let case = Case::new(format!("4.{group}.{number}"));
            let closed = Want::Close(1002);
            let behind_hello = [hello(), bad.clone(), frame(PING, b"")].concat();
            cases.push(match number {
                1 | 2 => case.write(&bad).want(closed),
                5 => case.chopped(&behind_hello, 1).wants(&[hello_echo(), closed]),
                _ => case.write(behind_hello).wants(&[hello_echo(), closed]),
            });
        }
    }
    on_demo("4", &cases);
}

#[test]
fn autobahn_5_fragments() {
    let message = echo("fragment1fragment2");
    let (one, two) = message.split_at(message.len() / 2);
    let echoed = Want::Text("fragment1fragment2".to_owned());
    let (pong, closed) = (Want::Pong(b"pongme".to_vec()), Want::Close(1002));
    let (begin, end, ping) = (frame(TEXT_BEGIN, one), frame(END, two), frame(PING, b"pongme"));
    let stray = |first| frame(first, b"non-continuation payload");
    let mut cases = vec![
        Case::new("5.1")
            .write([frame(PING & 0x0f, b"fragment1"), frame(END, b"fragment2")].concat())
            .want(closed.clone()),
        Case::new("5.2").write([frame(0x0a, b"fragment1"), frame(END, b"fragment2")].concat()).want(closed.clone()),
    ];
    cases.extend(Case::three(["5.3", "5.4", "5.5"], &[begin.clone(), end.clone()], std::slice::from_ref(&echoed)));
    let with_ping = [begin.clone(), ping, end.clone()];
    cases.extend(Case::three(["5.6", "5.7", "5.8"], &with_ping, &[pong, echoed.clone()]));
    let closes = [closed.clone()];
    cases.extend(Case::three(["5.9", "5.10", "5.11"], &[stray(END), hello()], &closes));
    cases.extend(Case::three(["5.12", "5.13", "5.14"], &[stray(MORE), hello()], &closes));
    let behind = [begin.clone(), end.clone(), stray(MORE), hello()].concat();
    cases.push(Case::new("5.15").write(behind).wants(&[echoed, closed.clone()]));
    for (id, first) in [("5.16", MORE), ("5.17", END)] {
        let twice = [stray(first), begin.clone(), end.clone()].concat().repeat(2);
        cases.push(Case::new(id).write(twice).want(closed.clone()));
    }
    cases.push(Case::new("5.18").write([begin, frame(TEXT, two)].concat()).want(closed));
    cases.extend(["5.19", "5.20"].map(pings_between_fragments));
    on_demo("5", &cases);
}

/// The pings are answered while the message is incomplete. In 5.20 every frame goes out on its own.
fn pings_between_fragments(id: &str) -> Case {
    let text = "fragment1fragment2fragment3fragment4fragment5";
    let message = echo(text);
    let parts = fragments(TEXT, &message, message.len().div_ceil(5));
    let case = Case::new(id);
    let write = |case: Case, frames: &[Vec<u8>]| match id {
        "5.19" => case.write(frames.concat()),
        _ => frames.iter().fold(case, Case::write),
    };
    let case = write(case, &[&parts[..2], &[frame(PING, b"pongme 1!")]].concat());
    let case = case.want(Want::Pong(b"pongme 1!".to_vec()));
    let case = write(case, &[&parts[2..4], &[frame(PING, b"pongme 2!")], &parts[4..]].concat());
    case.want(Want::Pong(b"pongme 2!".to_vec())).want(Want::Text(text.to_owned()))
}

#[test]
fn autobahn_10_automatic_fragments() {
    let text = text_of(65_536);
    let frames = fragments(TEXT, &echo(&text), 1_300);
    assert_eq!(frames.len(), 51);
    on_demo("10", &[frames.iter().fold(Case::new("10.1.1"), Case::write).want(Want::Text(text))]);
}
