//! Quotes as JSON and as NDJSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tickwire_fuzz::{
    peak_of,
    quotes::{QUOTES_MAX, check_batch},
};
use tickwire_market::decode::{decode_json, decode_ndjson};

fuzz_target!(|data: &[u8]| {
    for decode in [decode_json, decode_ndjson] {
        let (decoded, held) = peak_of(|| decode(data, QUOTES_MAX));
        assert!(held <= 32 * 1024 + 16 * data.len(), "{held} bytes were held for {}", data.len());
        match decoded {
            Ok(batch) => check_batch(&batch, data, data.len() % 8 == 0),
            Err(error) => assert!(["malformed", "too_large"].contains(&error.code()) && error.to_string().len() < 400),
        }
    }
});
