//! From bytes to messages and back. What multiplies is counted before it is built: four megabytes may hold two million empty quotes or
//! names of topics, which would be a gigabyte of them.

use std::marker::PhantomData;

use bytes::Buf as _;
use prost::{
    Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use tickwire_market::{Batch, decode::decode_publish};
use tickwire_proto::v1 as pb;
use tonic::{
    Code, Status,
    codec::{DecodeBuf, Decoder},
};

use super::{
    encode::{Answer, AnswerEncoder},
    fault::Fault,
};
use crate::follow::FollowError;

/// A message, or why it is none: not an error of the transport, so that whoever reads it can say what became of those before it.
pub(super) type Decoded<D> = Result<D, Fault>;

/// What a client sends, as it is read.
pub(super) trait Read: Send + Sized + 'static {
    /// Reads a message, of whose parts that multiply there may be `limit`.
    fn read(message: &[u8], limit: usize) -> Decoded<Self>;
}

/// A `PublishRequest`: nothing lies between its bytes and the quotes.
impl Read for Batch {
    fn read(message: &[u8], limit: usize) -> Decoded<Self> {
        Ok(decode_publish(message, limit)?)
    }
}

impl Read for pb::SubscribeRequest {
    fn read(message: &[u8], limit: usize) -> Decoded<Self> {
        check_topics(message, limit)?;
        Self::decode(message).map_err(|error| malformed(&error))
    }
}

/// Nothing in it multiplies.
impl Read for pb::GetQuoteRequest {
    fn read(message: &[u8], _limit: usize) -> Decoded<Self> {
        Self::decode(message).map_err(|error| malformed(&error))
    }
}

/// Writes `E` and reads `D`.
#[derive(Debug)]
pub(super) struct Codec<E, D> {
    limit: usize,
    messages: PhantomData<fn(D) -> E>,
}

impl<E, D> Codec<E, D> {
    /// A codec that reads messages of at most `limit` parts.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, messages: PhantomData }
    }
}

impl<E: Answer, D: Read> tonic::codec::Codec for Codec<E, D> {
    type Encode = E;
    type Decode = Decoded<D>;
    type Encoder = AnswerEncoder<E>;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        AnswerEncoder::new()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Self::new(self.limit)
    }
}

impl<E, D: Read> Decoder for Codec<E, D> {
    type Item = Decoded<D>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Decoded<D>>, Status> {
        let length = buffer.remaining();
        // A message lies in one piece, and is read where it lies.
        let read = if buffer.chunk().len() == length {
            let read = D::read(buffer.chunk(), self.limit);
            buffer.advance(length);
            read
        } else {
            D::read(&buffer.copy_to_bytes(length), self.limit)
        };
        Ok(Some(read))
    }
}

/// Counts the topics of a `SubscribeRequest` without decoding it.
fn check_topics(mut message: &[u8], limit: usize) -> Result<(), Fault> {
    let mut seen = 0;
    while message.has_remaining() {
        let (tag, wire_type) = decode_key(&mut message).map_err(|error| malformed(&error))?;
        if (tag, wire_type) == (1, WireType::LengthDelimited) {
            seen += 1;
            if seen > limit {
                return Err(FollowError::TooMany { seen: limit }.into());
            }
            let length = decode_varint(&mut message).map_err(|error| malformed(&error))?;
            let length = usize::try_from(length).ok().filter(|&length| length <= message.remaining());
            message.advance(length.ok_or_else(|| malformed(&"a field is longer than its message"))?);
        } else {
            skip_field(wire_type, tag, &mut message, DecodeContext::default()).map_err(|error| malformed(&error))?;
        }
    }
    Ok(())
}

/// How many quotes a message holds, or what is said of it.
#[cfg(feature = "testing")]
pub(crate) fn count_quotes(message: &[u8], limit: usize) -> Result<usize, String> {
    Batch::read(message, limit).map(|batch| batch.len()).map_err(|fault| Status::from(fault).message().to_owned())
}

fn malformed(error: &impl std::fmt::Display) -> Fault {
    Fault::new(Code::InvalidArgument, "malformed", format!("the message cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use tickwire_proto::v1::{PublishRequest, Quote};
    use tonic_types::StatusExt as _;

    use super::*;

    fn read(message: &[u8]) -> Result<usize, (Code, String)> {
        told(Batch::read(message, 3).map(|batch| batch.len()))
    }

    fn told<T>(read: Decoded<T>) -> Result<T, (Code, String)> {
        read.map_err(|fault| {
            let status = Status::from(fault);
            (status.code(), status.get_details_error_info().unwrap().reason)
        })
    }

    fn quotes(count: usize) -> Vec<u8> {
        PublishRequest { quotes: vec![Quote::default(); count] }.encode_to_vec()
    }

    #[test]
    fn quotes_are_counted_before_they_are_decoded() {
        assert_eq!(read(&quotes(3)), Ok(3));
        assert_eq!(read(&quotes(4)), Err((Code::InvalidArgument, "too_large".to_owned())));
        // Two million of them have four megabytes; none is built.
        let many = [0x0a, 0x00].repeat(2_000_000);
        assert_eq!(read(&many), Err((Code::InvalidArgument, "too_large".to_owned())));
    }

    #[test]
    fn topics_are_counted_before_they_are_decoded() {
        let read = |message: &[u8]| told(pb::SubscribeRequest::read(message, 3).map(|request| request.topics.len()));
        let topics =
            |count| pb::SubscribeRequest { topics: vec![String::new(); count], max_rate_ms: 5 }.encode_to_vec();
        assert_eq!(read(&topics(3)), Ok(3));
        assert!(read(&topics(4)).is_err_and(|(code, _)| code != Code::Ok));
        assert!(read(&[0x0a, 0x00].repeat(2_000_000)).is_err());
        assert_eq!(read(&[0x0a, 0x05, 0x00]), Err((Code::InvalidArgument, "malformed".to_owned())));
    }

    #[test]
    fn unknown_fields_are_skipped_and_broken_messages_said() {
        let unknown = [&quotes(1)[..], &[0x10, 0x05, 0x1a, 0x01, b'x', 0x25, 1, 2, 3, 4]].concat();
        assert_eq!(read(&unknown), Ok(1));
        for broken in [
            &[0x0a][..],
            &[0x0a, 0x05, 0x00],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x08, 0x01],
            &[0x0f],
            &[0x00, 0x00],
            &[0x0a, 0x02, 0x0a, 0x09],
            &[0x0a, 0x03, 0x0a, 0x01, 0xff],
            &[0xff; 12],
        ] {
            let seen = read(broken);
            assert_eq!(seen, Err((Code::InvalidArgument, "malformed".to_owned())), "{broken:?}");
        }
    }
}
