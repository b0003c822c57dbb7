//! What nodes say to each other: what can be read is written so that it reads the same.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    let messages = tickwire_market::testing::mesh_messages(&bytes);
    for (read, again) in messages.into_iter().chain(tickwire_pubsub::testing::mesh_messages(&bytes)) {
        assert_eq!(read, again);
    }
});
