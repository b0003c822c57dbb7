//! What messages cost between bytes and meaning: the codec of both formats, and the frames of WebSockets around them.

use bytes::Bytes;
use divan::{Bencher, black_box, counter::BytesCount};
use tickwire_channels::{
    Payload, Status, Wire, WireFormat,
    message::Ref,
    serializer::{Push, Reply, broadcast_frame},
    websocket::{Decoder, Limits, Opcode, write_masked_frame},
};

/// Allocations are counted beside the time.
#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

const FORMATS: [WireFormat; 2] = WireFormat::ALL;
const TOPIC: &str = "ticker:EURUSD";
const UPDATE: &[u8] = br#"{"symbol":"EURUSD","bid":"1.12345","ask":"1.12348","bid_size":"100.50","ask_size":"250.00","ts":1700000000000000,"epoch":"AbCdEfGhIjK","seq":123456}"#;

fn update() -> Payload {
    Payload::Json(Bytes::from_static(UPDATE))
}

/// A client's message as both formats write it.
fn message(format: WireFormat) -> Bytes {
    Bytes::from_static(match format {
        WireFormat::V1 => br#"{"topic":"room:lobby","event":"shout","payload":{"body":"good morning","from":"ann"},"ref":"17","join_ref":"3"}"#,
        WireFormat::V2 => br#"["3","17","room:lobby","shout",{"body":"good morning","from":"ann"}]"#,
    })
}

#[divan::bench(args = FORMATS)]
fn decode_text(bencher: Bencher<'_, '_>, format: WireFormat) {
    let text = message(format);
    bencher.counter(BytesCount::new(text.len())).bench(|| format.decode_text(black_box(&text)).is_ok());
}

#[divan::bench]
fn decode_heartbeat(bencher: Bencher<'_, '_>) {
    let text = Bytes::from_static(br#"[null,"17","phoenix","heartbeat",{}]"#);
    bencher.bench(|| WireFormat::V2.decode_text(black_box(&text)).is_ok());
}

#[divan::bench(args = [64, 4_096])]
fn decode_binary(bencher: Bencher<'_, '_>, payload: usize) {
    // Kind 0, the sizes of join_ref, ref, topic and event, then these and the payload.
    let mut data = vec![0, 1, 2, 10, 5];
    data.extend_from_slice(b"317room:lobbyshout");
    data.resize(data.len() + payload, 7);
    let data = Bytes::from(data);
    assert!(WireFormat::V2.decode_binary(&data).is_ok());
    bencher.counter(BytesCount::new(data.len())).bench(|| WireFormat::V2.decode_binary(black_box(&data)).is_ok());
}

#[divan::bench(args = FORMATS)]
fn encode_reply(bencher: Bencher<'_, '_>, format: WireFormat) {
    let (join_ref, msg_ref, response) = (Ref::text("3"), Ref::text("17"), update());
    let reply = Reply {
        join_ref: Some(&join_ref),
        msg_ref: Some(&msg_ref),
        topic: TOPIC,
        status: Status::Ok,
        response: &response,
    };
    bencher.bench(|| format.reply(black_box(&reply)));
}

#[divan::bench(args = FORMATS)]
fn encode_push(bencher: Bencher<'_, '_>, format: WireFormat) {
    let (join_ref, payload) = (Ref::text("3"), update());
    let push = Push { join_ref: Some(&join_ref), topic: TOPIC, event: "update", payload: &payload };
    bencher.bench(|| format.push(black_box(&push)));
}

#[divan::bench(args = FORMATS)]
fn encode_broadcast(bencher: Bencher<'_, '_>, format: WireFormat) {
    let payload = update();
    bencher.bench(|| broadcast_frame(Wire::from(format), TOPIC, "update", black_box(&payload)));
}

#[divan::bench(args = FORMATS)]
fn encode_conflated(bencher: Bencher<'_, '_>, format: WireFormat) {
    let payload = update();
    bencher.bench(|| format.conflated(TOPIC, "update", black_box(&payload), 17));
}

/// A client's frame of so many bytes, masked; it is unmasked, and its text checked.
#[divan::bench(args = [16, 128, 4_096, 65_536])]
fn websocket_decode(bencher: Bencher<'_, '_>, len: usize) {
    let mut frame = Vec::new();
    write_masked_frame(&mut frame, Opcode::Text, &vec![b'x'; len], [0x37, 0xfa, 0x21, 0x3d]);
    let limits = Limits { frame_max: 1 << 20, message_max: 1 << 20 };
    let mut decoder = Decoder::default();
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        decoder.decode(&mut black_box(frame.as_slice()), &limits).is_ok_and(|message| message.is_some())
    });
}
