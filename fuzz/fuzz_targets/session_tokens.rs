//! Session tokens of long polling: texts of anybody's, and anything behind a good signature.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tickwire_server::testing::{issued_session_token, session_of, session_token};

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        assert_eq!(session_of(text), None, "nobody but us can make one");
    }
    let signed = session_token(data);
    if let Some(session) = session_of(&signed) {
        assert!(data.len() >= session.len() && data.windows(session.len()).any(|window| window == session));
    }
    if let Some((time, rest)) = data.split_first_chunk::<4>()
        && let Some((session, rest)) = rest.split_first_chunk()
    {
        let issued = u64::from(u32::from_be_bytes(*time)) % 2_000_000;
        let token = issued_session_token(*session, issued);
        assert_eq!(session_of(&token), Some(*session));
        // Changed anywhere it is none.
        let mut changed = token.into_bytes();
        let at = rest.first().map_or(0, |at| usize::from(*at) % changed.len());
        changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
        assert_eq!(session_of(std::str::from_utf8(&changed).expect("ASCII")), None);
    }
});
