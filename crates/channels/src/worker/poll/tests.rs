use super::*;
use crate::{
    close::CloseCode,
    websocket::{Header, close_frame, pong_frame},
};

fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    [Header::new(opcode, payload.len()).as_ref(), payload].concat()
}

#[test]
fn an_id_survives_its_way_through_a_token() {
    let id = PollId::random(300).unwrap();
    assert_eq!(PollId::from_bytes(id.to_bytes()), id);
    assert_ne!(PollId::random(300), Some(id));
    assert_eq!(format!("{id:?}"), "PollId { worker: 300, .. }", "what it must keep secret it does not show");
}

#[test]
fn the_messages_of_frames_of_every_length_are_taken_out() {
    for len in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
        let text = "x".repeat(len);
        assert_eq!(message_of(&frame(Opcode::Text, text.as_bytes())).as_ref(), Some(&text));
    }
    assert_eq!(message_of(&frame(Opcode::Binary, "ü".as_bytes())), Some("ü".to_owned()));
}

#[test]
fn what_is_no_message_is_left_out() {
    assert_eq!(message_of(&frame(Opcode::Binary, &[0xff])), None);
    assert_eq!(message_of(&close_frame(CloseCode::GoingAway, "disconnected")), None);
    assert_eq!(message_of(&pong_frame(b"x")), None);
    for no_frame in [&b""[..], b"\x81", b"\x8f\x00", b"\x81\x7e\x00"] {
        assert_eq!(message_of(no_frame), None);
    }
}
