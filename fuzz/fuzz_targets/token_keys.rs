//! Keys of tokens: PEM files and JSON Web Key Sets.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tickwire_fuzz::contains;

fuzz_target!(|data: &[u8]| {
    let (pem, jwks) = tickwire_server::testing::are_keys(data);
    assert!(!pem || contains(data, b"-----BEGIN"));
    assert!(!jwks || contains(data, b"keys"));
    assert!(!(pem && jwks), "nothing is both");
});
