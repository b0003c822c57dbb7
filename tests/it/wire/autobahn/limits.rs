//! 9: big messages and many of them, within the limits of Phoenix: 10,000,000 bytes in one frame, 8,000,000 in fragments.

use super::{BEFORE, BEHIND, Case, Want, binary_echo, bytes_of, echo, fragments, on_demo, text_of};
use crate::wire::client::{BINARY, TEXT, frame};

const MEGABYTE: usize = 1 << 20;

#[test]
fn autobahn_9_1_and_9_2_big_messages() {
    let mut cases = Vec::new();
    for (number, len) in (1..).zip([MEGABYTE / 16, MEGABYTE / 4, MEGABYTE, 4 * MEGABYTE, 8 * MEGABYTE, 16 * MEGABYTE]) {
        let (text, data) = (text_of(len), bytes_of(len));
        let (text_case, data_case) = (Case::new(format!("9.1.{number}")), Case::new(format!("9.2.{number}")));
        let (text_frame, data_frame) = (frame(TEXT, &echo(&text)), frame(BINARY, &binary_echo(&data)));
        cases.push(match len {
            // Its header alone is enough for a refusal.
            len if len > 10_000_000 => text_case.write(&text_frame[..10]).want(Want::Close(1009)),
            _ => text_case.write(text_frame).want(Want::Text(text)),
        });
        cases.push(match len {
            len if len > 10_000_000 => data_case.write(&data_frame[..10]).want(Want::Close(1009)),
            _ => data_case.write(data_frame).want(Want::Binary(data)),
        });
    }
    on_demo("9.1, 9.2", &cases);
}

#[test]
fn autobahn_9_3_and_9_4_big_messages_in_fragments() {
    let mut cases = Vec::new();
    let len = 4 * MEGABYTE;
    for (number, size) in (1..).zip([64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, MEGABYTE, len]) {
        let (text, data) = (text_of(len), bytes_of(len));
        let (text_case, data_case) = (Case::new(format!("9.3.{number}")), Case::new(format!("9.4.{number}")));
        cases.push(text_case.write(fragments(TEXT, &echo(&text), size).concat()).want(Want::Text(text)));
        cases.push(data_case.write(fragments(BINARY, &binary_echo(&data), size).concat()).want(Want::Binary(data)));
    }
    on_demo("9.3, 9.4", &cases);
}

#[test]
fn autobahn_9_5_and_9_6_big_messages_in_chops() {
    let mut cases = Vec::new();
    for (number, size) in (1..).zip([64, 128, 256, 512, 1024, 2048]) {
        let (text, data) = (text_of(MEGABYTE), bytes_of(MEGABYTE));
        let (text_case, data_case) = (Case::new(format!("9.5.{number}")), Case::new(format!("9.6.{number}")));
        cases.push(text_case.chopped(&frame(TEXT, &echo(&text)), size).want(Want::Text(text)));
        cases.push(data_case.chopped(&frame(BINARY, &binary_echo(&data)), size).want(Want::Binary(data)));
    }
    on_demo("9.5, 9.6", &cases);
}

/// One after the other, each once the one before has been answered.
#[test]
fn autobahn_9_7_and_9_8_round_trips() {
    const COUNT: usize = 1_000;
    let mut cases = Vec::new();
    for (number, len) in (1..).zip([0, 16, 64, 256, 1024, 4096]) {
        let (text, data) = ("*".repeat(len), vec![0xfe; len]);
        let (mut text_case, mut data_case) = (Case::new(format!("9.7.{number}")), Case::new(format!("9.8.{number}")));
        for _ in 0..COUNT {
            text_case = text_case.write(frame(TEXT, &echo(&text))).want(Want::Text(text.clone()));
            data_case = data_case.write(frame(BINARY, &binary_echo(&data))).want(Want::Binary(data.clone()));
        }
        cases.extend([text_case, data_case]);
    }
    on_demo("9.7, 9.8", &cases);
    assert_eq!(echo("").len(), BEFORE.len() + BEHIND.len());
}
