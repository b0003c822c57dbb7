//! Quotes as CSV.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tickwire_fuzz::quotes::{QUOTES_MAX, check_batch};
use tickwire_market::decode::decode_csv;

fuzz_target!(|data: &[u8]| {
    match decode_csv(data, QUOTES_MAX) {
        Ok(batch) => {
            // A quoted cell may break its digits up: `"1""0"`.
            let unquoted: Vec<u8> = data.iter().copied().filter(|byte| *byte != b'"').collect();
            check_batch(&batch, &unquoted, false);
        }
        Err(error) => assert!(["malformed", "too_large"].contains(&error.code()) && error.to_string().len() < 400),
    }
});
