//! §9: permessage-deflate, where it is on.

use serde_json::json;
use tickwire_channels::{MountLimits, websocket::Limits};

use super::{
    client::{
        BINARY, CLOSE, COMPRESSED, END, Got, MORE, PING, Raw, TEXT, TEXT_BEGIN, deflate, frame, push, request,
        upgrade_headers,
    },
    demo::{Demo, limits},
    product::Product,
};

const OFFER: &str = "permessage-deflate; client_max_window_bits";
const ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// A socket on which everything that the server says must be compressed.
#[track_caller]
fn open(demo: &Demo) -> Raw {
    let (client, answer) = Raw::offer(demo.address, OFFER);
    assert_eq!(answer.as_deref(), Some(ANSWER));
    client
}

fn compressed(first: u8, message: impl AsRef<[u8]>) -> Vec<u8> {
    frame(first | COMPRESSED, &deflate(message.as_ref(), 15))
}

#[track_caller]
fn closes(demo: &Demo, bytes: &[u8], code: u16, reason: &str) {
    let mut client = open(demo);
    client.join("1", "room:a", &json!({}));
    client.write(bytes);
    assert_eq!(client.next(), Some(Got::Close(Some(code), reason.to_owned())));
    assert_eq!(client.next(), None);
}

#[test]
fn it_is_not_negotiated_where_it_is_off() {
    let demo = Demo::start();
    let product = Product::start(&[]);
    for address in [demo.address, product.address] {
        let (mut client, answer) = Raw::offer(address, OFFER);
        assert_eq!(answer, None);
        client.join("1", "room:a", &json!({}));
        client.write(&compressed(TEXT, r#"["1","2","room:a","echo",{}]"#));
        client.expect_close(1002);
    }
}

#[test]
fn the_first_offer_that_can_be_kept_is_answered() {
    let demo = Demo::compressing(limits());
    for (offer, answer) in [
        (OFFER, Some(String::new())),
        ("permessage-deflate", Some(String::new())),
        ("permessage-deflate; server_max_window_bits=8", Some("; server_max_window_bits=8".to_owned())),
        ("permessage-deflate; client_max_window_bits=\"10\"", Some("; client_max_window_bits=10".to_owned())),
        ("permessage-deflate; server_max_window_bits=7, permessage-deflate", Some(String::new())),
        ("permessage-deflate; foo=bar, x-other; a=\"b, permessage-deflate\", permessage-deflate", Some(String::new())),
        ("permessage-deflate; client_no_context_takeover=1", None),
        ("permessage-deflate; server_max_window_bits=9; server_max_window_bits=9", None),
        ("x-webkit-deflate-frame", None),
        ("permessage-deflate;;", None),
        ("\"", None),
    ] {
        let (mut client, got) = Raw::offer(demo.address, offer);
        assert_eq!(got, answer.map(|more| format!("{ANSWER}{more}")), "{offer}");
        client.join("1", "room:a", &json!({}));
        client.say(&json!(["1", "2", "room:a", "echo", {"t": "text"}]));
        client.expect_ok("1", "2", "room:a", &json!({"t": "text"}));
    }
    // Offers may come in several headers.
    let mut client = Raw::connect(demo.address);
    let mut headers = upgrade_headers();
    headers.extend([("Sec-WebSocket-Extensions", "x-other"), ("sec-websocket-extensions", OFFER)]);
    client.write(request("/socket/websocket?vsn=2.0.0", &headers).as_bytes());
    assert_eq!(client.answer().header("sec-websocket-extensions"), Some(ANSWER));
}

/// [`Raw`] demands the compression of every data frame, and that no other frame has it.
#[test]
fn everything_is_compressed_and_clients_may_mix() {
    let demo = Demo::compressing(limits());
    let mut client = open(&demo);
    client.write(&compressed(TEXT, r#"["1","1","room:a","phx_join",{"push_on_join":true}]"#));
    client.expect_ok("1", "1", "room:a", &json!({}));
    client.expect(&json!(["1", null, "room:a", "hello", {}]));
    for round in 0..3 {
        client.say(&json!(["1", round, "room:a", "echo", {"plain": round}]));
        client.expect(&json!(["1", round, "room:a", "phx_reply", {"status": "ok", "response": {"plain": round}}]));
        client.write(&compressed(TEXT, format!(r#"["1","2","room:a","echo",{{"t":{round}}}]"#)));
        client.expect_ok("1", "2", "room:a", &json!({"t": round}));
        client.write(&compressed(BINARY, push("1", "3", "room:a", "binary_echo", b"data")));
        assert!(client.binary().ends_with(b"okdata"));
        client.write(&frame(BINARY, &push("1", "3", "room:a", "binary_shout", b"data")));
        assert!(client.binary().ends_with(b"data"));
        client.write(&frame(PING, b"p"));
        assert_eq!(client.next(), Some(Got::Pong(b"p".to_vec())));
    }
    // In fragments of a byte, only the first of which says that they are compressed, with pings between them.
    let message = deflate(br#"["1","2","room:a","echo","fragments"]"#, 15);
    let mut bytes = frame(TEXT_BEGIN | COMPRESSED, &message[..1]);
    for byte in &message[1..] {
        bytes.extend([frame(MORE, &[*byte]), frame(PING, b"")].concat());
    }
    bytes.extend(frame(END, b""));
    client.write(&bytes);
    for _ in 1..message.len() {
        assert_eq!(client.next(), Some(Got::Pong(vec![])));
    }
    client.expect_ok("1", "2", "room:a", &json!("fragments"));
    client.write(&frame(CLOSE, &[3, 232]));
    client.expect_close(1000);
}

#[test]
fn a_broadcast_reaches_everyone_in_the_form_that_was_agreed() {
    let demo = Demo::compressing(limits());
    let mut clients = vec![
        demo.v2(),
        open(&demo),
        open(&demo),
        Raw::offer(demo.address, "permessage-deflate; server_max_window_bits=9").0,
        Raw::offer(demo.address, "permessage-deflate; server_max_window_bits=14").0,
    ];
    for client in &mut clients {
        client.join("1", "room:a", &json!({}));
    }
    let mut v1 = demo.v1();
    v1.say(&json!({"topic": "room:a", "event": "phx_join", "payload": {}, "ref": "1"}));
    assert!(v1.text().contains("phx_reply"));
    for len in [0, 1, 100, 1_000, 100_000] {
        let text = "ab cd".repeat(len);
        clients[1].write(&compressed(TEXT, json!(["1", "2", "room:a", "shout", {"t": text}]).to_string()));
        for client in &mut clients {
            client.expect(&json!([null, null, "room:a", "shout", {"t": text}]));
        }
        v1.expect(&json!({"topic": "room:a", "event": "shout", "payload": {"t": text}, "ref": null}));
    }
    for client in &mut clients {
        client.expect_nothing();
    }
}

#[test]
fn what_cannot_be_inflated_is_closed_with_1007() {
    let demo = Demo::compressing(limits());
    let whole = deflate(br#"["1","2","room:a","echo",{"a":"a part is not the whole"}]"#, 15);
    for bad in [&b"Hello"[..], b"\xff", b"", &whole[..whole.len() / 2], b"\xf2\x00\x11\x00\x00"] {
        for first in [TEXT, BINARY] {
            closes(&demo, &frame(first | COMPRESSED, bad), 1007, "invalid_deflate");
        }
        closes(&demo, &[frame(TEXT_BEGIN | COMPRESSED, b""), frame(END, bad)].concat(), 1007, "invalid_deflate");
    }
    // It is text only once it is inflated.
    closes(&demo, &compressed(TEXT, b"[\"\xed\xa0\x80\"]"), 1007, "invalid_utf8");
    // The empty message, which is none of Phoenix', has one byte.
    closes(&demo, &compressed(TEXT, b""), 1011, "undecodable_message");
}

#[test]
fn the_bit_belongs_to_the_first_frame_of_a_message() {
    let demo = Demo::compressing(limits());
    let part = deflate(b"[]", 15);
    for bytes in [
        frame(PING | COMPRESSED, b""),
        frame(CLOSE | COMPRESSED, b""),
        frame(TEXT | 0x20, b"[]"),
        frame(TEXT | COMPRESSED | 0x10, &part),
        [frame(TEXT_BEGIN | COMPRESSED, &part[..1]), frame(END | COMPRESSED, &part[1..])].concat(),
        [frame(TEXT_BEGIN, b"["), frame(MORE | COMPRESSED, b"]")].concat(),
    ] {
        closes(&demo, &bytes, 1002, "protocol_error");
    }
}

/// A megabyte that is a gigabyte: given up at the limit, and nobody else feels it.
#[test]
fn bombs_are_refused() {
    let small = MountLimits { websocket: Limits { frame_max: 2_000_000, message_max: 100_000 }, ..limits() };
    let demo = Demo::compressing(small);
    let mut witness = demo.v2();
    witness.join("1", "room:witness", &json!({}));
    let zeros = deflate(&vec![0; 1 << 20], 15);
    // Without its end it can be repeated: the blocks of one stream.
    let bomb = zeros.repeat(500);
    for first in [TEXT, BINARY] {
        closes(&demo, &frame(first | COMPRESSED, &bomb), 1009, "message_too_big");
    }
    closes(&demo, &frame(TEXT | COMPRESSED, &deflate(&[b' '; 100_001], 15)), 1009, "message_too_big");
    // Of what is fragmented, the length counts before it is inflated, too.
    let parts = [frame(TEXT_BEGIN | COMPRESSED, &bomb[..60_000]), frame(END, &bomb[..60_000])].concat();
    closes(&demo, &parts, 1009, "message_too_big");
    let text = format!(r#"["1","2","room:a","echo","{}"]"#, "x".repeat(99_900));
    let mut client = open(&demo);
    client.join("1", "room:a", &json!({}));
    client.write(&compressed(TEXT, &text));
    client.expect_ok("1", "2", "room:a", &json!("x".repeat(99_900)));
    witness.expect_nothing();
    assert!(demo.workers().is_healthy());
}

/// Small on the wire and big to be read, again and again: the bound on messages holds for the work that they are.
#[test]
fn big_messages_count_for_more_than_one() {
    let demo = Demo::compressing(MountLimits { messages_per_second: std::num::NonZeroU32::new(100), ..limits() });
    let message = compressed(TEXT, format!(r#"["1","2","room:a","noreply","{}"]"#, "x".repeat(1_000_000)));
    assert!(message.len() < 5_000, "{}", message.len());
    let mut client = open(&demo);
    client.join("1", "room:a", &json!({}));
    client.write(&message.repeat(50));
    assert_eq!(client.next(), Some(Got::Close(Some(1008), "message_rate".to_owned())));
    // One that is as much as a second allows, or more, may come all the same.
    let mut client = open(&demo);
    client.write(&compressed(TEXT, format!(r#"[null,"1","phoenix","heartbeat","{}"]"#, "x".repeat(5_000_000))));
    client.expect(&json!([null, "1", "phoenix", "phx_reply", {"status": "ok", "response": {}}]));
}

#[test]
fn the_product_compresses_where_its_configuration_says_so() {
    let product = Product::start(&[r#"socket=[{path="/socket", compress=true}]"#]);
    let (mut client, answer) = Raw::offer(product.address, "permessage-deflate; server_max_window_bits=10");
    assert_eq!(answer, Some(format!("{ANSWER}; server_max_window_bits=10")));
    client.write(&compressed(TEXT, r#"["1","1","room:a","phx_join",{}]"#));
    let (_, reply) = client.raw_reply();
    assert_eq!(reply.status, "ok");
    client.write(&compressed(TEXT, r#"["1","2","room:a","echo",{"t":"é"}]"#));
    client.expect_ok("1", "2", "room:a", &json!({"t": "é"}));
    let mut plain = Raw::v2(product.address);
    plain.say(&json!(["1", "2", "phoenix", "heartbeat", {}]));
    assert!(plain.text().contains("phx_reply"));
    product.drain();
    client.expect_close(1012);
}
