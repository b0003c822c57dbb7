//! Quotes as protobuf, which mean what prost says they mean, and updates read back from their JSON.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use tickwire_fuzz::{
    peak_of,
    quotes::{QUOTES_MAX, check_batch, numbers},
};
use tickwire_market::decode::{decode_publish, update_from_json};
use tickwire_proto::v1 as pb;

fuzz_target!(|data: &[u8]| {
    let theirs = pb::PublishRequest::decode(data);
    let (ours, held) = peak_of(|| decode_publish(data, QUOTES_MAX));
    assert!(held <= 32 * 1024 + 16 * data.len(), "{held} bytes were held for {}", data.len());
    match (ours, theirs) {
        (Ok(batch), Ok(request)) => {
            assert_eq!(batch.len(), request.quotes.len());
            let mut rejected = batch.rejected().iter().map(|rejected| rejected.index as usize).peekable();
            let taken = request.quotes.iter().enumerate().filter(|(place, _)| rejected.next_if_eq(place).is_none());
            for (ours, (_, theirs)) in batch.quotes().zip(taken) {
                assert_eq!(ours.symbol().as_str(), theirs.symbol);
                assert_eq!(ours.ts().unwrap_or_default(), theirs.ts);
                assert_eq!(ours.id().map_or("", |id| id.as_str()), theirs.id);
                assert_eq!(ours.mark().map_or("", |mark| mark.publisher.as_str()), theirs.publisher);
                assert_eq!(ours.mark().map_or(0, |mark| mark.pseq), theirs.pseq);
                let texts =
                    [&theirs.bid, &theirs.ask, &theirs.bid_size, &theirs.ask_size, &theirs.last, &theirs.last_size];
                let texts: Vec<_> = texts.into_iter().filter(|text| !text.is_empty()).collect();
                assert!(numbers(ours).iter().map(|(_, digits)| digits).eq(texts));
            }
            check_batch(&batch, data, data.len() % 8 == 0);
        }
        (Err(error), Ok(request)) => assert!(error.code() == "too_large" && request.quotes.len() > QUOTES_MAX),
        (Err(error), Err(_)) => assert!(error.to_string().len() < 400),
        (Ok(batch), Err(error)) => panic!("{} quotes of a message that is none: {error}", batch.len()),
    }
    let _ = update_from_json(&Bytes::copy_from_slice(data));
});
