use proptest::prelude::*;

use super::*;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's frame with any first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_masked_frame(&mut out, Opcode::Text, payload, MASK);
    out[0] = first;
    out
}

/// All that a stream gives, fed in pieces.
fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &Limits) -> (Vec<Incoming>, Option<ProtocolError>) {
    let mut decoder = Decoder::default();
    let mut seen = Vec::new();
    for mut piece in pieces {
        loop {
            match decoder.decode(&mut piece, limits) {
                Ok(Some(incoming)) => seen.push(incoming),
                Ok(None) => break,
                Err(error) => return (seen, Some(error)),
            }
        }
        assert!(piece.is_empty(), "None is returned only when the input is used up");
    }
    (seen, None)
}

fn check(frames: &[Vec<u8>], expected: &[Incoming], error: Option<ProtocolError>) {
    let stream = frames.concat();
    for size in [1, 2, 3, 7, stream.len().max(1)] {
        let (seen, failed) = feed(stream.chunks(size), &Limits::default());
        assert_eq!((seen.as_slice(), failed), (expected, error), "in pieces of {size}: {}", stream.escape_ascii());
    }
}

fn text(text: &'static str) -> Incoming {
    Incoming::Text(Bytes::from_static(text.as_bytes()))
}

fn binary(data: &'static [u8]) -> Incoming {
    Incoming::Binary(Bytes::from_static(data))
}

#[test]
fn the_example_of_the_rfc() {
    check(&[vec![0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]], &[text("Hello")], None);
}

#[test]
fn whole_and_fragmented_messages_with_control_frames_between() {
    check(&[frame(0x81, b""), frame(0x82, b"")], &[text(""), binary(b"")], None);
    check(
        &[
            frame(0x01, b"He"),
            frame(0x89, b"p"),
            frame(0x00, b"l"),
            frame(0x8a, b""),
            frame(0x80, b"lo"),
            frame(0x82, b"\xff\0"),
        ],
        &[Incoming::Ping(Bytes::from_static(b"p")), Incoming::Pong(Bytes::new()), text("Hello"), binary(b"\xff\0")],
        None,
    );
    check(&[frame(0x01, b""), frame(0x00, b"a"), frame(0x80, b"")], &[text("a")], None);
}

#[test]
fn characters_may_be_split_between_fragments() {
    check(&[frame(0x01, b"\xe2\x82"), frame(0x00, b"\xac\xf0"), frame(0x80, b"\x9f\x98\x80")], &[text("€😀")], None);
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let error = Some(ProtocolError::InvalidUtf8);
    for bad in [&b"\xff"[..], b"a\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80", b"\xf5"] {
        check(&[frame(0x81, b"ok"), frame(0x81, bad)], &[text("ok")], error);
        check(&[frame(0x01, bad), frame(0x80, b"x")], &[], error);
        check(&[frame(0x82, bad)], &[Incoming::Binary(Bytes::from_static(bad))], None);
    }
    check(&[frame(0x01, b"\xe2\x82"), frame(0x80, b"")], &[], error);
    // Refused as soon as it is seen, not only at its end.
    check(&[frame(0x01, b"a\xff")], &[], error);
    check(&[frame(0x81, b"a\xffbcdefgh")[..9].to_vec()], &[], error);
    assert_eq!(ProtocolError::InvalidUtf8.reason().code(), Some(CloseCode::InvalidData));
}

#[test]
fn broken_frames_are_1002() {
    let reserved = |first| ProtocolError::ReservedBits { first };
    let cases: Vec<(Vec<Vec<u8>>, ProtocolError)> = vec![
        (vec![vec![0x81, 0x05]], ProtocolError::Unmasked),
        (vec![vec![0x81, 0x00]], ProtocolError::Unmasked),
        (vec![frame(0xc1, b"a")], reserved(0xc1)),
        (vec![frame(0xa1, b"a")], reserved(0xa1)),
        (vec![frame(0x91, b"a")], reserved(0x91)),
        (vec![frame(0xc9, b"a")], reserved(0xc9)),
        (vec![frame(0x83, b"a")], ProtocolError::ReservedOpcode { opcode: 3 }),
        (vec![frame(0x8b, b"a")], ProtocolError::ReservedOpcode { opcode: 0xb }),
        (vec![frame(0x8f, b"a")], ProtocolError::ReservedOpcode { opcode: 0xf }),
        (vec![frame(0x09, b"a")], ProtocolError::FragmentedControl),
        (vec![frame(0x08, b"")], ProtocolError::FragmentedControl),
        (vec![frame(0x89, &[0; 126])], ProtocolError::LongControl),
        (vec![frame(0x88, &[0; 70_000])], ProtocolError::LongControl),
        (vec![frame(0x80, b"a")], ProtocolError::StrayContinuation),
        (vec![frame(0x00, b"")], ProtocolError::StrayContinuation),
        (vec![frame(0x01, b"a"), frame(0x81, b"b")], ProtocolError::Interleaved),
        (vec![frame(0x01, b"a"), frame(0x02, b"b")], ProtocolError::Interleaved),
        (vec![vec![0x81, 0xfe, 0, 125]], ProtocolError::LongLength { len: 125 }),
        (vec![vec![0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]], ProtocolError::LongLength { len: 65_535 }),
        (vec![frame(0x88, b"a")], ProtocolError::BadClose { payload: BadClose::OneByte }),
        (vec![frame(0x88, b"\x03\xe8\xff")], ProtocolError::BadClose { payload: BadClose::Reason }),
    ];
    for (frames, error) in cases {
        check(&frames, &[], Some(error));
        assert_eq!(error.reason().code(), Some(CloseCode::Protocol), "{error}");
    }
}

#[test]
fn an_empty_fragment_is_1008() {
    check(&[frame(0x01, b"a"), frame(0x00, b"")], &[], Some(ProtocolError::EmptyFragment));
    assert_eq!(ProtocolError::EmptyFragment.reason().code(), Some(CloseCode::Policy));
}

#[test]
fn limits_hold_at_the_announced_length() {
    let limits = Limits { frame_max: 1000, message_max: 800 };
    let decode = |stream: &[u8]| feed([stream], &limits);
    assert_eq!(decode(&frame(0x82, &[0; 1000])).0.len(), 1, "the limit of messages is for fragmented ones");
    // Only the header has arrived.
    assert_eq!(decode(&[0x82, 0xfe, 0x03, 0xe9]).1, Some(ProtocolError::FrameTooBig { len: 1001, max: 1000 }));
    let huge = [0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(decode(&huge).1, Some(ProtocolError::FrameTooBig { len: 1 << 63, max: 1000 }));
    let second = [&frame(0x02, &[0; 700])[..], &[0x80, 0xe5]].concat();
    assert_eq!(decode(&second).1, Some(ProtocolError::MessageTooBig { len: 801, max: 800 }));
    let fits = [frame(0x02, &[0; 700]), frame(0x80, &[0; 100])].concat();
    assert_eq!(decode(&fits).0.len(), 1);
    assert_eq!(decode(&frame(0x02, &[0; 801])).1, Some(ProtocolError::MessageTooBig { len: 801, max: 800 }));
    for error in [ProtocolError::FrameTooBig { len: 1, max: 0 }, ProtocolError::MessageTooBig { len: 1, max: 0 }] {
        assert_eq!(error.reason().code(), Some(CloseCode::TooBig));
    }
}

#[test]
fn an_announced_length_reserves_nothing() {
    let mut decoder = Decoder::default();
    let mut header = &[0x82, 0xff, 0, 0, 0, 0, 0, 0x98, 0x96, 0x80, 1, 2, 3, 4, 0][..];
    assert_eq!(decoder.decode(&mut header, &Limits::default()), Ok(None));
    assert!(decoder.owned() < 100);
}

#[test]
fn an_idle_decoder_owns_nothing() {
    let mut decoder = Decoder::default();
    let stream = [frame(0x01, b"a"), frame(0x89, b"b"), frame(0x80, b"c")].concat();
    for mut piece in stream.chunks(1) {
        let _incoming = decoder.decode(&mut piece, &Limits::default()).unwrap();
    }
    assert_eq!(decoder.owned(), 0);
    assert!(size_of::<Decoder>() <= 128, "{}", size_of::<Decoder>());
}

#[test]
fn closes_with_a_valid_code_or_none() {
    check(&[frame(0x88, b"")], &[Incoming::Close(None)], None);
    check(&[frame(0x88, b"\x03\xe8bye \xe2\x82\xac")], &[Incoming::Close(Some((1000, "bye €".to_owned())))], None);
    for (codes, valid) in [
        (vec![1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999], true),
        (vec![0, 1, 999, 1004, 1005, 1006, 1012, 1015, 1016, 1100, 2000, 2999], false),
    ] {
        for code in codes {
            let (seen, error) = feed([&frame(0x88, &u16::to_be_bytes(code))[..]], &Limits::default());
            assert_eq!((seen.len() == 1, error.is_none()), (valid, valid), "{code}");
        }
    }
}

#[test]
fn what_we_write() {
    for (len, header) in [
        (0, &b"\x81\x00"[..]),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65_535, b"\x81\x7e\xff\xff"),
        (65_536, b"\x81\x7f\0\0\0\0\0\x01\0\0"),
    ] {
        assert_eq!(Header::new(Opcode::Text, len).as_ref(), header);
    }
    assert_eq!(&close_frame(CloseCode::TryAgainLater, "slow_consumer")[..], b"\x88\x0f\x03\xf5slow_consumer");
    let cut = close_frame(CloseCode::Normal, &"é".repeat(100));
    assert_eq!(cut.len(), 2 + 2 + 122);
    assert_eq!(&pong_frame(b"hi")[..], b"\x8a\x02hi");
}

fn arbitrary_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => prop::sample::select(vec![0x81_u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a]),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        any::<String>().prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..40),
        (100..300_usize).prop_map(|len| vec![b'x'; len]),
    ];
    (first, payload, any::<[u8; 4]>()).prop_map(|(first, payload, mask)| {
        let mut out = Vec::new();
        write_masked_frame(&mut out, Opcode::Binary, &payload, mask);
        out[0] = first;
        out
    })
}

proptest! {
    #[test]
    fn pieces_never_change_the_result(
        frames in prop::collection::vec(arbitrary_frame(), 0..12),
        garbage in prop::collection::vec(any::<u8>(), 0..20),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let limits = Limits { frame_max: 280, message_max: 350 };
        let stream = [frames.concat(), garbage].concat();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let whole = feed([&stream[..]], &limits);
        let pieces = feed(cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]), &limits);
        prop_assert_eq!(&whole, &pieces);
        prop_assert_eq!(&whole, &feed(stream.chunks(1), &limits));
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let whole = feed([&bytes[..]], &Limits::default());
        prop_assert_eq!(whole, feed(bytes.chunks(3), &Limits::default()));
    }

    #[test]
    fn what_a_client_sends_is_what_arrives(
        payload in prop_oneof![prop::collection::vec(any::<u8>(), 0..300), (65_000..66_000_usize).prop_map(|len| vec![7; len])],
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        mask in any::<[u8; 4]>(),
    ) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
        cuts.extend([0, payload.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        let mut stream = Vec::new();
        let last = cuts.len().saturating_sub(2);
        let fragments: Vec<_> = if cuts.len() < 2 { vec![&payload[..]] } else { cuts.windows(2).map(|cut| &payload[cut[0]..cut[1]]).collect() };
        for (index, fragment) in fragments.into_iter().enumerate() {
            let start = stream.len();
            let opcode = if index == 0 { Opcode::Binary } else { Opcode::Continuation };
            write_masked_frame(&mut stream, opcode, fragment, mask);
            if index < last {
                stream[start] &= !FIN;
            }
        }
        let (seen, error) = feed(stream.chunks(1 + usize::from(mask[0])), &Limits::default());
        prop_assert_eq!((seen, error), (vec![Incoming::Binary(Bytes::from(payload))], None));
    }

    #[test]
    fn masking_is_bytewise(mut data in prop::collection::vec(any::<u8>(), 0..70), mask in any::<[u8; 4]>()) {
        let expected: Vec<u8> = data.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
        apply_mask(&mut data, mask);
        prop_assert_eq!(data, expected);
    }
}
