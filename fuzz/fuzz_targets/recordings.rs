//! Recorded files and a venue's messages, line by line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tickwire_fuzz::{contains, quotes};
use tickwire_market::testing::recorded_quotes;

fuzz_target!(|data: &[u8]| {
    for quote in recorded_quotes(data) {
        for (name, digits) in quotes::numbers(&quote) {
            assert!(contains(data, digits.as_bytes()), "{name} {digits} was never recorded");
        }
        quotes::check_quote(&quote, false);
    }
});
