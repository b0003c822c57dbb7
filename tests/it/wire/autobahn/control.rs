//! 2: pings and pongs. 7: closing.

use super::{Case, Want, echo, on_demo};
use crate::wire::client::{CLOSE, END, PING, PONG, TEXT, TEXT_BEGIN, frame};

fn pong(payload: &[u8]) -> Want {
    Want::Pong(payload.to_vec())
}

#[test]
fn autobahn_2_pings_and_pongs() {
    const PAYLOADS: [&[u8]; 4] = [b"", b"Hello, world!", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", &[0xfe; 125]];
    let mut cases: Vec<_> = (1..)
        .zip(PAYLOADS)
        .map(|(number, payload)| Case::new(format!("2.{number}")).write(frame(PING, payload)).want(pong(payload)))
        .collect();
    let ten = (0..10).map(|index| format!("payload-{index}").into_bytes()).collect::<Vec<_>>();
    let pings = ten.iter().flat_map(|payload| frame(PING, payload)).collect::<Vec<_>>();
    let pongs = ten.iter().map(|payload| pong(payload)).collect::<Vec<_>>();
    cases.extend([
        Case::new("2.5").write(frame(PING, &[0xfe; 126])).want(Want::Close(1002)),
        Case::new("2.6").chopped(&frame(PING, &[0xfe; 125]), 1).want(pong(&[0xfe; 125])),
        Case::new("2.7").write(frame(PONG, b"")),
        Case::new("2.8").write(frame(PONG, b"unsolicited pong payload")),
        Case::new("2.9")
            .write([frame(PONG, b"unsolicited pong payload"), frame(PING, b"ping payload")].concat())
            .want(pong(b"ping payload")),
        Case::new("2.10").write(&pings).wants(&pongs),
        Case::new("2.11").chopped(&pings, 1).wants(&pongs),
    ]);
    on_demo("2", &cases);
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(CLOSE, &[&code.to_be_bytes(), reason].concat())
}

#[test]
fn autobahn_7_closing() {
    let normal = close(1000, b"");
    let hello = || frame(TEXT, &echo("Hello World!"));
    let echoed = Want::Text("Hello World!".to_owned());
    let big = "BAsd7&jh23".repeat(26_214);
    let mut cases = vec![
        Case::new("7.1.1").write([hello(), normal.clone()].concat()).want(echoed.clone()).want(Want::Close(1000)),
        Case::new("7.1.2").write([normal.clone(), frame(CLOSE, b"")].concat()).want(Want::Close(1000)),
        Case::new("7.1.3").write([normal.clone(), frame(PING, b"")].concat()).want(Want::Close(1000)),
        Case::new("7.1.4").write([normal.clone(), hello()].concat()).want(Want::Close(1000)),
        Case::new("7.1.5")
            .write([frame(TEXT_BEGIN, b"fragment1"), normal.clone(), frame(END, b"fragment2")].concat())
            .want(Want::Close(1000)),
        // What was sent before the close is answered before it.
        Case::new("7.1.6")
            .write([frame(TEXT, &echo(&big)), hello(), normal.clone(), frame(PING, b"")].concat())
            .wants(&[Want::Text(big), echoed, Want::Close(1000)]),
        Case::new("7.3.1").write(frame(CLOSE, b"")).want(Want::Close(1000)),
        Case::new("7.3.2").write(frame(CLOSE, b"a")).want(Want::Close(1002)),
        Case::new("7.3.3").write(&normal).want(Want::Close(1000)),
        Case::new("7.3.4").write(close(1000, b"Hello World!")).want(Want::Close(1000)),
        Case::new("7.3.5").write(close(1000, &[b'*'; 123])).want(Want::Close(1000)),
        Case::new("7.3.6").write(close(1000, &[b'*'; 124])).want(Want::Close(1002)),
        Case::new("7.5.1")
            .write(close(1000, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"))
            .want(Want::Close(1002)),
    ];
    let valid = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999];
    let reserved = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999];
    for (group, codes, answer) in [(7, &valid[..], 1000), (9, &reserved[..], 1002)] {
        for (number, code) in (1..).zip(codes) {
            cases.push(Case::new(format!("7.{group}.{number}")).write(close(*code, b"")).want(Want::Close(answer)));
        }
    }
    // What these mean is not defined; they are taken, as by Phoenix.
    cases.push(Case::new("7.13.1").write(close(5000, b"")).want(Want::Close(1000)));
    cases.push(Case::new("7.13.2").write(close(65_535, b"")).want(Want::Close(1000)));
    on_demo("7", &cases);
}
