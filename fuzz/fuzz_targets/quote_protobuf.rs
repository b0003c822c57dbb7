//! Quotes as protobuf, and updates read back from their JSON.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use tickwire_fuzz::quotes::{QUOTES_MAX, check_batch};
use tickwire_market::decode::{decode_publish, update_from_json};
use tickwire_proto::v1 as pb;

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = pb::PublishRequest::decode(data) {
        let sent = request.quotes.len();
        match decode_publish(request, QUOTES_MAX) {
            Ok(batch) => {
                assert_eq!(batch.len(), sent);
                check_batch(&batch, data, data.len() % 8 == 0);
            }
            Err(error) => assert!(error.code() == "too_large" && sent > QUOTES_MAX),
        }
    }
    let _ = update_from_json(&Bytes::copy_from_slice(data));
});
