mod puff;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::websocket::{Decoder, Incoming, Limits, Opcode, ProtocolError, write_masked_frame};

const PLAIN: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// The answer to offers; `None` where the client gets no compression.
fn answer(values: &[&str]) -> Option<String> {
    negotiate(values.iter().map(|value| value.as_bytes())).map(|agreed| agreed.answer())
}

#[test]
fn offers_that_are_accepted() {
    for (offer, more) in [
        ("permessage-deflate", ""),
        ("permessage-deflate; client_max_window_bits", ""),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", ""),
        ("permessage-deflate;server_max_window_bits=15", "; server_max_window_bits=15"),
        ("permessage-deflate; server_max_window_bits=8", "; server_max_window_bits=8"),
        ("permessage-deflate; server_max_window_bits=\"12\"", "; server_max_window_bits=12"),
        ("permessage-deflate; server_max_window_bits=\"1\\2\"", "; server_max_window_bits=12"),
        (
            "permessage-deflate ; client_max_window_bits = 9 ;server_max_window_bits=10",
            "; server_max_window_bits=10; client_max_window_bits=9",
        ),
        ("PerMessage-Deflate; Client_Max_Window_Bits", ""),
        (",, permessage-deflate ,", ""),
        ("x-webkit-deflate-frame, permessage-deflate", ""),
        (
            "foo; a=\"x, permessage-deflate; y\"; b, permessage-deflate; client_max_window_bits=15",
            "; client_max_window_bits=15",
        ),
        // The first that can be kept.
        ("permessage-deflate; server_max_window_bits=16, permessage-deflate", ""),
        ("permessage-deflate; server_max_window_bits=9, permessage-deflate", "; server_max_window_bits=9"),
        ("permessage-deflate; unknown, permessage-deflate; client_max_window_bits", ""),
        ("\tpermessage-deflate\t", ""),
    ] {
        assert_eq!(answer(&[offer]).as_deref(), Some(format!("{PLAIN}{more}").as_str()), "{offer}");
    }
    assert_eq!(
        answer(&["foo", "permessage-deflate; server_max_window_bits=10"]),
        Some(format!("{PLAIN}; server_max_window_bits=10"))
    );
    // One header that is no list does not spoil the next.
    assert_eq!(answer(&["permessage-deflate; =", "permessage-deflate"]).as_deref(), Some(PLAIN));
}

#[test]
fn offers_that_are_declined() {
    for offer in [
        "",
        ",",
        "foo",
        "permessage-deflate2",
        "permessage-deflate; unknown",
        "permessage-deflate; unknown=1",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=08",
        "permessage-deflate; server_max_window_bits=1",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; server_max_window_bits=\"\"",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; client_max_window_bits=99999999999999999999",
        "permessage-deflate; client_max_window_bits=x",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=true",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; client_max_window_bits; Client_Max_Window_Bits",
        // No list of extensions.
        "permessage-deflate;",
        "permessage-deflate; ; client_max_window_bits",
        "permessage-deflate client_max_window_bits",
        "permessage-deflate; a=\"",
        "permessage-deflate; a=\"\\",
        "permessage-deflate; server_max_window_bits=\"10\" x",
        "=permessage-deflate",
        "foo bar, permessage-deflate",
        "permessage-deflate\u{e9}",
    ] {
        assert_eq!(answer(&[offer]), None, "{offer}");
    }
    assert_eq!(negotiate([]), None);
    assert_eq!(negotiate([&b"permessage-deflate; \xff"[..]]), None);
}

#[test]
fn a_window_is_the_clients_or_smaller() {
    let window = |offer: &str| negotiate([offer.as_bytes()]).map(|agreed| agreed.window());
    assert_eq!(window("permessage-deflate; client_max_window_bits=8"), Some(Window::Full));
    assert_eq!(window("permessage-deflate; server_max_window_bits=15"), Some(Window::Full));
    for bits in 8..15 {
        assert_eq!(window(&format!("permessage-deflate; server_max_window_bits={bits}")), Some(Window::Small));
    }
}

/// What a frame of ours says, as a client reads it.
fn payload(frame: &[u8]) -> &[u8] {
    let start = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    &frame[start..]
}

#[test]
fn the_examples_of_the_rfc() {
    for (compressed, text) in [
        (&b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..], "Hello"),
        // Without compression, with a last block, in two blocks: §7.2.3.3 to §7.2.3.5.
        (b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", "Hello"),
        (b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "Hello"),
        (b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", "Hello"),
        // Empty, §7.2.3.6, and what some send for it.
        (b"\x00", ""),
        (b"\x02\x00", ""),
        (b"\x03\x00", ""),
        // Several streams, and a last one without a tail.
        (b"\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00", "HelloHello"),
    ] {
        assert_eq!(inflate(compressed, 1_000).unwrap(), text.as_bytes(), "{compressed:x?}");
    }
    assert_eq!(compressed_frame(Opcode::Text, b"", Window::Full), &b"\xc1\x01\x00"[..]);
    assert_eq!(compressed_frame(Opcode::Binary, b"", Window::Small), &b"\xc2\x01\x00"[..]);
}

#[test]
fn what_is_not_deflate_is_refused() {
    // §7.2.3.2: its second message refers to the first one, which was not agreed to.
    assert_eq!(inflate(b"\xf2\x00\x11\x00\x00", 1_000), Err(InflateError::Invalid));
    for bad in
        [&b"\x06"[..], b"\xff", b"Hello", b"\x00\x05\x00\xfa\xff\x48\x65", b"\xf2\x48\xcd", b"\x00\x01\x00\x01\x00x"]
    {
        assert_eq!(inflate(bad, 1_000), Err(InflateError::Invalid), "{bad:x?}");
    }
    // A stream per two bytes would cost much more than they do.
    assert_eq!(inflate(&b"\x03\x00".repeat(STREAMS), 1_000), Err(InflateError::Invalid));
    assert_eq!(inflate(&b"\x03\x00".repeat(100), 1_000), Ok(vec![]));
}

const STREAMS: usize = 100_000;

/// The more so as a client needs no memory to make it: a megabyte of it is a gigabyte.
#[test]
fn a_bomb_is_given_up_at_the_limit() {
    let frame = compressed_frame(Opcode::Binary, &vec![0; 4 << 20], Window::Full);
    let bomb = payload(&frame);
    assert!(bomb.len() < 20_000, "{}", bomb.len());
    assert_eq!(inflate(bomb, 4 << 20).unwrap().len(), 4 << 20);
    for max in [0, 1, 1_000, (4 << 20) - 1] {
        assert_eq!(inflate(bomb, max), Err(InflateError::TooBig { max }));
    }
    assert_eq!(inflate(b"\x00", 0), Ok(vec![]));
}

#[test]
fn a_message_owns_little_more_than_its_length() {
    for len in [10, 300, 5_000, 100_000] {
        let frame = compressed_frame(Opcode::Binary, &vec![b'x'; len], Window::Full);
        let message = inflate(payload(&frame), 1 << 20).unwrap();
        assert_eq!(message.len(), len);
        assert!(message.capacity() <= 2 * len + 1, "{len}: {}", message.capacity());
    }
}

#[test]
fn only_the_first_frame_of_a_message_says_that_it_is_compressed() {
    let deflated = |opcode| {
        let frame = compressed_frame(opcode, b"Hello", Window::Full);
        payload(&frame).to_vec()
    };
    let hello = deflated(Opcode::Text);
    let reserved = |first| Err(ProtocolError::ReservedBits { first });
    let text = |text: &'static str| Ok(Incoming::Text(Bytes::from_static(text.as_bytes())));
    for (frames, expected) in [
        (vec![(0xc1, hello.as_slice())], vec![text("Hello")]),
        (vec![(0x81, b"Hello"), (0xc1, &hello)], vec![text("Hello"), text("Hello")]),
        (
            vec![(0x41, &hello[..2]), (0x89, b""), (0x00, &hello[2..3]), (0x80, &hello[3..])],
            vec![Ok(Incoming::Ping(Bytes::new())), text("Hello")],
        ),
        (vec![(0x41, &hello), (0x80, b"")], vec![text("Hello")]),
        (vec![(0x41, &hello[..3]), (0xc0, &hello[3..])], vec![reserved(0xc0)]),
        (vec![(0x01, b"a"), (0xc0, b"b")], vec![reserved(0xc0)]),
        (vec![(0xc9, b"")], vec![reserved(0xc9)]),
        (vec![(0xca, b"")], vec![reserved(0xca)]),
        (vec![(0xc8, b"")], vec![reserved(0xc8)]),
        (vec![(0xe1, &hello)], vec![reserved(0xe1)]),
        (vec![(0xd1, &hello)], vec![reserved(0xd1)]),
        (vec![(0xa1, b"a")], vec![reserved(0xa1)]),
        (vec![(0xc1, b"Hello")], vec![Err(ProtocolError::Inflate(InflateError::Invalid))]),
        (vec![(0xc1, &deflated(Opcode::Text)[..4])], vec![Err(ProtocolError::Inflate(InflateError::Invalid))]),
    ] {
        let mut stream = Vec::new();
        for (first, payload) in &frames {
            let start = stream.len();
            write_masked_frame(&mut stream, Opcode::Text, payload, [1, 2, 3, 4]);
            stream[start] = *first;
        }
        for size in [1, 2, stream.len()] {
            assert_eq!(decode(stream.chunks(size), &Limits::default()), expected, "{frames:x?}");
        }
    }
}

/// The length that counts is the one without compression, and text is text once it is inflated.
#[test]
fn a_compressed_message_is_held_to_the_same_rules() {
    let decode_one = |message: &[u8]| {
        let mut frame = Vec::new();
        write_masked_frame(
            &mut frame,
            Opcode::Text,
            payload(&compressed_frame(Opcode::Text, message, Window::Full)),
            [9; 4],
        );
        frame[0] |= 0x40;
        decode([frame.as_slice()], &Limits { frame_max: 2_000, message_max: 1_000 }).remove(0)
    };
    assert!(decode_one(&[b'x'; 1_000]).is_ok());
    let too_big = decode_one(&[b'x'; 1_001]).unwrap_err();
    assert_eq!(too_big, ProtocolError::Inflate(InflateError::TooBig { max: 1_000 }));
    assert_eq!(too_big.reason().as_str(), "message_too_big");
    assert_eq!(decode_one(b"a\xffb").unwrap_err(), ProtocolError::InvalidUtf8);
    assert_eq!(decode_one("é".as_bytes().split_last().unwrap().1).unwrap_err(), ProtocolError::InvalidUtf8);
    assert_eq!(ProtocolError::Inflate(InflateError::Invalid).reason().as_str(), "invalid_deflate");
}

/// All that a stream gives, fed in pieces, up to its first fault.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &Limits) -> Vec<Result<Incoming, ProtocolError>> {
    let (mut decoder, mut seen) = (Decoder::with_deflate(), Vec::new());
    for mut piece in pieces {
        while let Some(one) = decoder.decode(&mut piece, limits).transpose() {
            let failed = one.is_err();
            seen.push(one);
            if failed {
                return seen;
            }
        }
    }
    seen
}

/// Messages as they are, and such as compress well.
fn message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..300),
        3 => (prop::collection::vec(any::<u8>(), 1..40), 1..200_usize).prop_map(|(word, count)| word.repeat(count)),
        1 => (any::<u64>(), 5_000..40_000_usize).prop_map(|(seed, len)| {
            let mut random = fastrand::Rng::with_seed(seed);
            // Every kind of distance and length: copies of earlier parts between noise.
            let mut out = vec![random.u8(..)];
            while out.len() < len {
                let (at, count) = (random.usize(..out.len()), random.usize(1..400));
                let copied = out[at..].iter().copied().take(count).collect::<Vec<_>>();
                out.extend(copied);
                out.push(random.u8(..));
            }
            out
        }),
    ]
}

fn window() -> impl Strategy<Value = Window> {
    prop_oneof![Just(Window::Full), Just(Window::Small)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_compressed_arrives_in_whatever_pieces(
        messages in prop::collection::vec((message(), window(), any::<[u8; 4]>()), 1..4),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for (message, window, mask) in messages {
            let compressed = compressed_frame(Opcode::Binary, &message, window);
            // In as many fragments as the mask says.
            let fragments: Vec<_> = payload(&compressed).chunks(1 + usize::from(mask[0]) * 16).collect();
            for (index, fragment) in fragments.iter().enumerate() {
                let start = stream.len();
                let opcode = if index == 0 { Opcode::Binary } else { Opcode::Continuation };
                write_masked_frame(&mut stream, opcode, fragment, mask);
                stream[start] |= if index == 0 { 0x40 } else { 0 };
                stream[start] &= if index + 1 == fragments.len() { 0xff } else { 0x7f };
            }
            expected.push(Ok(Incoming::Binary(message.into())));
        }
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]);
        prop_assert!(decode(pieces, &Limits::default()) == expected);
    }

    /// By another inflater than the library's, which looks at the distances, too.
    #[test]
    fn a_small_window_is_never_left(message in message()) {
        let frame = compressed_frame(Opcode::Binary, &message, Window::Small);
        let complete = [payload(&frame), &[0, 0, 0xff, 0xff]].concat();
        let (inflated, distance) = puff::inflate(&complete);
        prop_assert!(inflated == message);
        prop_assert!(distance <= 256, "{distance}");
    }

    /// Where nothing had to be left as it was: the tail could also be the end of a block that is.
    #[test]
    fn a_part_of_a_text_is_not_taken_for_the_whole(text in "([a-f]{1,20} ?){1,40}", cut in any::<prop::sample::Index>()) {
        let frame = compressed_frame(Opcode::Text, text.as_bytes(), Window::Full);
        let whole = payload(&frame);
        let part = &whole[..cut.index(whole.len())];
        prop_assert_eq!(inflate(part, usize::MAX), Err(InflateError::Invalid));
    }

    #[test]
    fn random_bytes_neither_panic_nor_exceed_the_limit(bytes in prop::collection::vec(any::<u8>(), 0..200), max in 0..2_000_usize) {
        if let Ok(message) = inflate(&bytes, max) {
            prop_assert!(message.len() <= max);
        }
    }
}
