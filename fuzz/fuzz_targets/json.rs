//! The canonical form of a client's JSON: the value stays, against `serde_json` as a second reader.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tickwire_channels::json::{JsonError, canonical, write_string};
use tickwire_fuzz::{Json, peak_of};

fuzz_target!(|data: &[u8]| {
    let text = Bytes::copy_from_slice(data);
    let (ours, held) = peak_of(|| canonical(&text));
    // Small objects' keys stand in place; beyond that a key costs some 12 bytes and its place in a table.
    assert!(held <= 4096 + 64 * data.len(), "{held} bytes were held for {}", data.len());
    let theirs = serde_json::from_slice::<Json>(data);
    match (&ours, theirs) {
        (Ok(canonical_text), theirs) => {
            assert!(canonical_text.len() <= text.len(), "it grew");
            let again = canonical(canonical_text).expect("the canonical form is valid");
            assert_eq!(again, canonical_text, "it has a form of its own");
            assert_eq!(again.as_ptr(), canonical_text.as_ptr(), "what has the form already is copied");
            match theirs {
                Ok(value) => assert_eq!(value, Json::of(canonical_text)),
                // It recurses, and reads whole numbers of any length as doubles.
                Err(error) => {
                    let error = error.to_string();
                    assert!(
                        error.starts_with("recursion limit") || error.starts_with("number out of range"),
                        "{error}"
                    );
                }
            }
        }
        (Err(JsonError::Overflow { at }), Ok(_)) => {
            let number = data[*at..].iter().take_while(|byte| b"+-.eE0123456789".contains(byte));
            let number = String::from_utf8(number.copied().collect()).expect("ASCII");
            assert!(number.parse::<f64>().is_ok_and(f64::is_infinite), "{number} is a double");
        }
        (Err(error), Ok(value)) => panic!("{error}, but it is {value:?}"),
        (Err(_), Err(_)) => {}
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let mut string = Vec::new();
        write_string(&mut string, text);
        assert_eq!(serde_json::from_slice::<String>(&string).expect("a string"), text);
        let string = Bytes::from(string);
        assert_eq!(canonical(&string), Ok(string));
    }
});
