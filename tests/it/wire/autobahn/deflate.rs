//! 12, 13: permessage-deflate, by kinds of data, sizes, fragments, and what is offered. Autobahn sends 1,000 messages a case; these are few, one
//! after the other, and no two of them alike.

use super::{Case, Want, binary_echo, echo, run_all};
use crate::wire::{
    client::{BINARY, COMPRESSED, Raw, TEXT, deflate, frame},
    demo::{Demo, limits},
};

/// Length of the payload, and of the fragments that it is sent in; 0: in one frame.
const SIZES: [(usize, usize); 18] = [
    (16, 0),
    (64, 0),
    (256, 0),
    (1024, 0),
    (4096, 0),
    (8192, 0),
    (16_384, 0),
    (32_768, 0),
    (65_536, 0),
    (131_072, 0),
    (8192, 256),
    (16_384, 256),
    (32_768, 256),
    (65_536, 256),
    (131_072, 256),
    (131_072, 1024),
    (131_072, 4096),
    (131_072, 32_768),
];

#[derive(Clone, Copy)]
enum Data {
    /// Objects with keys that repeat.
    Json,
    /// Bytes with nothing to win.
    Noise,
    /// Sentences.
    Prose,
    /// Tags.
    Markup,
    /// Long runs.
    Runs,
}

impl Data {
    fn make(self, len: usize, seed: u64) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut out = Vec::with_capacity(len + 200);
        while out.len() < len {
            match self {
                // A string in a message cannot have the quotes.
                Self::Json => {
                    out.extend(format!("{{'id':{},'name':'n{}','on':true}},", random.u32(..), random.u8(..)).bytes())
                }
                Self::Noise => out.push(random.u8(..)),
                Self::Prose => out.extend(
                    random
                        .choice(["Habe nun, ach! ", "Philosophie, ", "Juristerei ", "und Medizin, ", "süß ", "鐵 "])
                        .unwrap()
                        .bytes(),
                ),
                Self::Markup => out.extend(format!("<p class=c{}>{}</p>", random.u8(..8), random.u16(..)).bytes()),
                Self::Runs => out.extend(std::iter::repeat_n(random.u8(..), random.usize(1..300))),
            }
        }
        // Not in the middle of a letter.
        let text = !matches!(self, Self::Noise | Self::Runs);
        let end = (0..=len).rev().find(|end| !text || std::str::from_utf8(&out[..*end]).is_ok()).unwrap();
        out.truncate(end);
        out
    }

    fn is_text(self) -> bool {
        !matches!(self, Self::Noise | Self::Runs)
    }
}

fn case(id: String, data: Data, (len, fragment): (usize, usize), bits: u8) -> Case {
    let mut case = Case::new(id);
    let messages = if len > 20_000 { 1 } else { 4 };
    for seed in 0..messages {
        let payload = data.make(len, seed);
        let (first, message, want) = if data.is_text() {
            (TEXT, echo(&payload), Want::Text(String::from_utf8(payload).unwrap()))
        } else {
            (BINARY, binary_echo(&payload), Want::Binary(payload))
        };
        let compressed = deflate(&message, bits);
        let frames = match fragment {
            0 => frame(first | COMPRESSED, &compressed),
            size => super::fragments(first | COMPRESSED, &compressed, size).concat(),
        };
        case = case.write(frames).want(want);
    }
    case
}

const PLAIN: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

fn offering<'a>(demo: &'a Demo, offer: &'a str, answer: &'a str) -> impl Fn() -> Raw + 'a {
    move || {
        let (client, got) = Raw::offer(demo.address, offer);
        assert_eq!(got.as_deref(), Some(answer), "{offer}");
        client
    }
}

#[test]
fn autobahn_12_kinds_of_data() {
    let demo = Demo::compressing(limits());
    let mut cases = Vec::new();
    for (kind, data) in (1..).zip([Data::Json, Data::Noise, Data::Prose, Data::Markup, Data::Runs]) {
        for (number, size) in (1..).zip(SIZES) {
            cases.push(case(format!("12.{kind}.{number}"), data, size, 15));
        }
    }
    run_all(
        "12",
        &cases,
        offering(&demo, "permessage-deflate; client_no_context_takeover; client_max_window_bits", PLAIN),
    );
}

#[test]
fn autobahn_13_offers() {
    const OFFER: &str = "permessage-deflate; client_no_context_takeover; client_max_window_bits";
    let demo = Demo::compressing(limits());
    let no_takeover = format!("{OFFER}; server_no_context_takeover");
    for (kind, offer, bits) in [
        (1, OFFER.to_owned(), None),
        (2, no_takeover.clone(), None),
        (3, format!("{OFFER}; server_max_window_bits=9"), Some(9)),
        (4, format!("{OFFER}; server_max_window_bits=15"), Some(15)),
        (5, format!("{no_takeover}; server_max_window_bits=9"), Some(9)),
        (6, format!("{no_takeover}; server_max_window_bits=15"), Some(15)),
        (7, format!("{no_takeover}; server_max_window_bits=9, {no_takeover}, {OFFER}"), Some(9)),
    ] {
        let answer = bits.map_or(PLAIN.to_owned(), |bits| format!("{PLAIN}; server_max_window_bits={bits}"));
        // What the client's own window is, the server need not know.
        let cases: Vec<_> = (1..)
            .zip(SIZES)
            .map(|(number, size)| {
                case(format!("13.{kind}.{number}"), Data::Json, size, if kind % 2 == 0 { 9 } else { 15 })
            })
            .collect();
        run_all(&format!("13.{kind}"), &cases, offering(&demo, &offer, &answer));
    }
}
