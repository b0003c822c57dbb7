//! 6: text is UTF-8, and refused as soon as it is not.

use super::{BEFORE, Case, Want, echo, fragments, on_demo};
use crate::wire::client::{END, MORE, TEXT, TEXT_BEGIN, frame, header};

const HELLO: &str = "Hello-µ@ßöäüàá-UTF-8!!";
/// κόσμε, with the accent of ancient Greek.
const KOSME: &str = "\u{3ba}\u{1f79}\u{3c3}\u{3bc}\u{3b5}";
/// `KOSME`, a code point beyond the last one, and more. It is wrong from its thirteenth byte on.
const BEYOND: [&[u8]; 3] = [b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", b"\xf4\x90\x80\x80", b"edited"];

#[test]
fn autobahn_6_1_to_6_3_fragmented_text() {
    let text = |text: &str| Want::Text(text.to_owned());
    let message = echo("middle frame payload");
    let surrogate = echo(b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited");
    let (front, back) = HELLO.split_at("Hello-µ@ßöä".len());
    on_demo(
        "6.1, 6.2, 6.3",
        &[
            // An empty message is none in Phoenix, and a fragment that neither says nor ends anything is against its rules.
            Case::new("6.1.1").write(frame(TEXT, b"")).want(Want::Close(1011)),
            Case::new("6.1.2")
                .write([frame(TEXT_BEGIN, b""), frame(MORE, b""), frame(END, b"")].concat())
                .want(Want::Close(1008)),
            Case::new("6.1.3")
                .write([frame(TEXT_BEGIN, b""), frame(MORE, &message), frame(END, b"")].concat())
                .want(text("middle frame payload")),
            Case::new("6.2.1").write(frame(TEXT, &echo(HELLO))).want(text(HELLO)),
            Case::new("6.2.2")
                .write(
                    [
                        frame(TEXT_BEGIN, format!("{BEFORE}{front}").as_bytes()),
                        frame(END, format!("{back}\"]").as_bytes()),
                    ]
                    .concat(),
                )
                .want(text(HELLO)),
            Case::new("6.2.3").write(fragments(TEXT, &echo(HELLO), 1).concat()).want(text(HELLO)),
            Case::new("6.2.4").write(fragments(TEXT, &echo(KOSME), 1).concat()).want(text(KOSME)),
            Case::new("6.3.1").write(frame(TEXT, &surrogate)).want(Want::Close(1007)),
            Case::new("6.3.2").write(fragments(TEXT, &surrogate, 1).concat()).want(Want::Close(1007)),
        ],
    );
}

/// The rest of the message is never sent.
#[test]
fn autobahn_6_4_fail_fast() {
    let [valid, beyond, _] = BEYOND;
    let closed = Want::Close(1007);
    let message_len = BEYOND.concat().len();
    let begun = || {
        // The header of the whole message, with a mask that changes nothing.
        let mut bytes = header(TEXT, message_len);
        bytes.extend_from_slice(&[0; 4]);
        bytes
    };
    let to_the_fault = [valid, &beyond[..1]].concat();
    on_demo(
        "6.4",
        &[
            Case::new("6.4.1").write(frame(TEXT_BEGIN, valid)).write(frame(MORE, beyond)).want(closed.clone()),
            Case::new("6.4.2")
                .write(frame(TEXT_BEGIN, &to_the_fault))
                .write(frame(MORE, &beyond[1..2]))
                .want(closed.clone()),
            Case::new("6.4.3").write([begun(), valid.to_vec()].concat()).write(beyond).want(closed.clone()),
            Case::new("6.4.4").write([begun(), to_the_fault].concat()).write(&beyond[1..2]).want(closed),
        ],
    );
}

/// Markus Kuhn's sequences, by Autobahn's group and whether they are valid.
const SEQUENCES: [(u32, bool, &[&[u8]]); 18] = [
    (5, true, &[b"hello$world", b"hello\xc2\xa2world", b"hello\xe2\x82\xacworld", b"hello\xf0\xa4\xad\xa2world", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"]),
    (7, true, &[b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"]),
    (8, false, &[b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"]),
    (9, true, &[b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"]),
    (10, false, &[b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"]),
    (11, true, &[b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf"]),
    (11, false, &[b"\xf4\x90\x80\x80"]),
    (12, false, &[b"\x80", b"\xbf", b"\x80\xbf", b"\x80\xbf\x80", b"\x80\xbf\x80\xbf", b"\x80\xbf\x80\xbf\x80", b"\x80\xbf\x80\xbf\x80\xbf"]),
    (14, false, &[
        b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80",
        b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf",
    ]),
    (15, false, &[b"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xfc\x80\x80\x80\x80\xdf\xef\xbf\xf7\xbf\xbf\xfb\xbf\xbf\xbf\xfd\xbf\xbf\xbf\xbf"]),
    (16, false, &[b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"]),
    (17, false, &[b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf", b"\xfc\x80\x80\x80\x80\xaf"]),
    (18, false, &[b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf", b"\xfc\x83\xbf\xbf\xbf\xbf"]),
    (19, false, &[b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80", b"\xfc\x80\x80\x80\x80\x80"]),
    (20, false, &[b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf", b"\xed\xb0\x80", b"\xed\xbe\x80", b"\xed\xbf\xbf"]),
    (21, false, &[
        b"\xed\xa0\x80\xed\xb0\x80", b"\xed\xa0\x80\xed\xbf\xbf", b"\xed\xad\xbf\xed\xb0\x80", b"\xed\xad\xbf\xed\xbf\xbf",
        b"\xed\xae\x80\xed\xb0\x80", b"\xed\xae\x80\xed\xbf\xbf", b"\xed\xaf\xbf\xed\xb0\x80", b"\xed\xaf\xbf\xed\xbf\xbf",
    ]),
    (22, true, &[b"\xef\xbf\xbe", b"\xef\xbf\xbf"]),
    (23, true, &[b"\xef\xbf\xb9", b"\xef\xbf\xba", b"\xef\xbf\xbb", b"\xef\xbf\xbc", b"\xef\xbf\xbd", b"\xef\xbf\xbe", b"\xef\xbf\xbf"]),
];

/// All of them, those too that Autobahn makes by a rule.
fn sequences() -> Vec<(u32, bool, Vec<u8>)> {
    let mut all: Vec<_> = SEQUENCES
        .iter()
        .flat_map(|(group, valid, rows)| rows.iter().map(|row| (*group, *valid, row.to_vec())))
        .collect();
    for end in 1..=KOSME.len() {
        all.push((6, KOSME.is_char_boundary(end), KOSME.as_bytes()[..end].to_vec()));
    }
    all.push((12, false, (0x80..0xbf).collect()));
    for lonely in [0xc0..0xdf_u8, 0xe0..0xef, 0xf0..0xf7, 0xf8..0xfb, 0xfc..0xfd] {
        all.push((13, false, lonely.flat_map(|byte| [byte, b' ']).collect()));
    }
    // The last two code points of every plane but the first.
    for plane in 1..=0x10_u32 {
        for code in [plane << 16 | 0xfffe, plane << 16 | 0xffff] {
            all.push((22, true, char::from_u32(code).unwrap().to_string().into_bytes()));
        }
    }
    all
}

#[test]
fn autobahn_6_5_to_6_23_sequences() {
    let mut numbers = std::collections::BTreeMap::new();
    let cases: Vec<_> = sequences()
        .into_iter()
        .map(|(group, valid, bytes)| {
            let number = numbers.entry(group).and_modify(|number| *number += 1).or_insert(1);
            let want = match String::from_utf8(bytes.clone()) {
                // It is text, but no JSON.
                Ok(text) if text == "\0" => Want::Close(1011),
                Ok(text) => Want::Text(text),
                Err(_) => Want::Close(1007),
            };
            assert_eq!(valid, !matches!(want, Want::Close(1007)), "{bytes:x?}");
            Case::new(format!("6.{group}.{number}")).write(frame(TEXT, &echo(bytes))).want(want)
        })
        .collect();
    assert_eq!((numbers.len(), cases.len()), (19, 132));
    on_demo("6.5 to 6.23", &cases);
}
