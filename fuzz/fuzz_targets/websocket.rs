//! A client's frames, with and without compression: the same messages however the bytes are cut, within the limits, whatever is sent.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tickwire_channels::websocket::{Decoder, Incoming, Limits, Opcode, write_masked_frame};
use tickwire_fuzz::{Outcome, peak_of, pieces};

/// Small, so that small inputs reach them.
const LIMITS: Limits = Limits { frame_max: 160, message_max: 200 };

fn decode<'a>(deflate: bool, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    tickwire_fuzz::decode(decoder(deflate), &LIMITS, pieces)
}

fn decoder(deflate: bool) -> Decoder {
    if deflate { Decoder::with_deflate() } else { Decoder::default() }
}

fuzz_target!(|data: &[u8]| {
    for deflate in [false, true] {
        let whole = decode(deflate, [data]);
        assert_eq!(decode(deflate, pieces(data)), whole, "pieces make a difference");
        assert_eq!(decode(deflate, data.chunks(1)), whole, "single bytes make a difference");
        whole.0.iter().for_each(check);
        if let Some(error) = whole.1 {
            assert!(error.reason().code().is_some(), "the client is told why: {error}");
        }
        let ((), held) = peak_of(|| {
            let mut decoder = decoder(deflate);
            for mut piece in data.chunks(3) {
                while let Ok(Some(_)) = decoder.decode(&mut piece, &LIMITS) {}
            }
        });
        assert!(held <= 2048, "{held} bytes are held, the limit of a message is {}", LIMITS.message_max);
    }
});

fn check(incoming: &Incoming) {
    let (opcode, payload, max) = match incoming {
        Incoming::Text(text) => {
            assert!(std::str::from_utf8(text).is_ok(), "a text that is none");
            (Opcode::Text, text.to_vec(), LIMITS.message_max)
        }
        Incoming::Binary(data) => (Opcode::Binary, data.to_vec(), LIMITS.message_max),
        Incoming::Ping(data) => (Opcode::Ping, data.to_vec(), 125),
        Incoming::Pong(data) => (Opcode::Pong, data.to_vec(), 125),
        Incoming::Close(None) => (Opcode::Close, Vec::new(), 125),
        Incoming::Close(Some((code, reason))) => {
            // What 5000 and more mean nobody says, not even that it is wrong.
            assert!(matches!(code, 1000..=1003 | 1007..=1011 | 3000..), "code {code} must not be sent");
            (Opcode::Close, [code.to_be_bytes().as_slice(), reason.as_bytes()].concat(), 125)
        }
    };
    assert!(payload.len() <= max, "{} bytes", payload.len());
    if payload.len() <= LIMITS.frame_max {
        let mut frame = Vec::new();
        write_masked_frame(&mut frame, opcode, &payload, [1, 0, 255, 7]);
        assert_eq!(decode(false, [frame.as_slice()]), (vec![incoming.clone()], None));
    }
}
