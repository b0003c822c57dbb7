//! Compression: what was compressed comes back, nothing that is inflated exceeds its bound, frames mean the same however the bytes are cut, and an
//! answer to offers is an offer that would be accepted. The first byte says which.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tickwire_channels::{
    deflate::{Window, compressed_frame, inflate, negotiate},
    websocket::{Decoder, Incoming, Limits, Opcode},
};
use tickwire_fuzz::{Outcome, pieces};

const LIMITS: Limits = Limits { frame_max: 400, message_max: 2_000 };

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 4 {
        0 => there_and_back(data),
        1 => bounded(data),
        2 => framed(data),
        _ => offers(data),
    }
});

fn there_and_back(message: &[u8]) {
    for window in [Window::Full, Window::Small] {
        let frame = compressed_frame(Opcode::Binary, message, window);
        let start = match frame[1] {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        assert_eq!(frame[0], 0xc2);
        assert_eq!(inflate(&frame[start..], message.len()).as_deref(), Ok(message));
        if !message.is_empty() {
            assert!(inflate(&frame[start..], message.len() - 1).is_err(), "a byte more than the limit");
        }
    }
}

fn bounded(compressed: &[u8]) {
    let whole = inflate(compressed, 100_000);
    for max in [0, 1, 50] {
        match inflate(compressed, max) {
            Ok(message) => assert!(message.len() <= max && whole.as_ref() == Ok(&message)),
            // What is wrong behind the limit is never seen.
            Err(_) => assert!(whole.as_ref().map_or(true, |message| message.len() > max)),
        }
    }
}

fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    tickwire_fuzz::decode(Decoder::with_deflate(), &LIMITS, pieces)
}

fn framed(data: &[u8]) {
    let whole = decode([data]);
    assert_eq!(decode(pieces(data)), whole, "pieces make a difference");
    assert_eq!(decode(data.chunks(1)), whole, "single bytes make a difference");
    for incoming in &whole.0 {
        match incoming {
            Incoming::Text(text) => {
                assert!(text.len() <= LIMITS.message_max && std::str::from_utf8(text).is_ok());
            }
            Incoming::Binary(data) => assert!(data.len() <= LIMITS.message_max),
            Incoming::Ping(_) | Incoming::Pong(_) | Incoming::Close(_) => {}
        }
    }
}

fn offers(data: &[u8]) {
    let values: Vec<_> = data.split(|byte| *byte == b'\n').collect();
    let Some(agreed) = negotiate(values.iter().copied()) else { return };
    let answer = agreed.answer();
    assert_eq!(negotiate([answer.as_bytes()]), Some(agreed), "{answer}");
}
