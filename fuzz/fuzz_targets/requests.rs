//! What else comes with requests: gRPC messages that are counted before they are decoded, forwarding headers, rates.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use tickwire_proto::v1::PublishRequest;
use tickwire_server::testing::{forwarded_for, grpc_quotes, max_rate};

/// Quotes that a message may hold here.
const MAX: usize = 4;

fuzz_target!(|data: &[u8]| {
    let theirs = PublishRequest::decode(data).ok().map(|request| request.quotes.len());
    match (grpc_quotes(Bytes::copy_from_slice(data), MAX), theirs) {
        (Ok(ours), theirs) => assert!(ours <= MAX && theirs == Some(ours)),
        (Err(error), Some(theirs)) => assert!(theirs > MAX && error.contains("at most 4"), "{theirs}: {error}"),
        (Err(error), None) => assert!(!error.is_empty()),
    }
    let values: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    if let Some(client) = forwarded_for(&values) {
        // What is written in front of it changes nothing: a client can write anything there.
        let mut longer = vec![&b"203.0.113.9, nonsense"[..]];
        longer.extend(&values);
        let proxy = client.ip().to_string();
        let is_proxy = proxy.starts_with("10.") || proxy.starts_with("fd00:");
        assert!(is_proxy || forwarded_for(&longer) == Some(client), "{client}");
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(Some(interval)) = max_rate(text)
    {
        assert!(!interval.is_zero() && interval.as_secs() <= 3_600, "{text}: {interval:?}");
    }
});
