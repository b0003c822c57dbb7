//! From bytes to messages and back. A message is looked at before it is decoded: four megabytes may hold two million empty quotes, which
//! would be a gigabyte of them.

use std::marker::PhantomData;

use bytes::{Buf as _, Bytes};
use prost::{
    Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use tonic::{
    Code, Status,
    codec::{BufferSettings, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstEncoder};

use super::fault::Fault;

/// A message, or why it is none: not an error of the transport, so that whoever reads it can say what became of those before it.
pub(super) type Decoded<D> = Result<D, Fault>;

/// How often the first field of a message may be repeated, and what to say if it is more often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub(super) limit: usize,
    pub(super) fault: fn(usize) -> Fault,
}

/// Writes `E` and reads `D`.
#[derive(Debug)]
pub(super) struct Codec<E, D> {
    bound: Option<Bound>,
    messages: PhantomData<fn(D) -> E>,
}

impl<E, D> Codec<E, D> {
    /// A codec; without a bound where a message has nothing that multiplies.
    pub(super) fn new(bound: Option<Bound>) -> Self {
        Self { bound, messages: PhantomData }
    }
}

impl<E, D> tonic::codec::Codec for Codec<E, D>
where
    E: Message + 'static,
    D: Message + Default + 'static,
{
    type Encode = E;
    type Decode = Decoded<D>;
    type Encoder = ProstEncoder<E>;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<E, D>::raw_encoder(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        Self::new(self.bound)
    }
}

impl<E, D: Message + Default> Decoder for Codec<E, D> {
    type Item = Decoded<D>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Decoded<D>>, Status> {
        let message = buffer.copy_to_bytes(buffer.remaining());
        Ok(Some(decode(message, self.bound)))
    }
}

fn decode<D: Message + Default>(message: Bytes, bound: Option<Bound>) -> Decoded<D> {
    if let Some(bound) = bound {
        check_repeated(message.clone(), bound)?;
    }
    D::decode(message).map_err(|error| malformed(&error))
}

/// Counts the first field without decoding it.
fn check_repeated(mut message: Bytes, bound: Bound) -> Result<(), Fault> {
    let mut seen = 0;
    while message.has_remaining() {
        let (tag, wire_type) = decode_key(&mut message).map_err(|error| malformed(&error))?;
        if (tag, wire_type) == (1, WireType::LengthDelimited) {
            seen += 1;
            if seen > bound.limit {
                return Err((bound.fault)(bound.limit));
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
pub(crate) fn count_quotes(message: Bytes, limit: usize) -> Result<usize, String> {
    let fault = |limit| tickwire_market::decode::BodyError::TooManyQuotes { limit }.into();
    let decoded = decode::<tickwire_proto::v1::PublishRequest>(message, Some(Bound { limit, fault }));
    decoded.map(|request| request.quotes.len()).map_err(|fault| Status::from(fault).message().to_owned())
}

fn malformed(error: &impl std::fmt::Display) -> Fault {
    Fault::new(Code::InvalidArgument, "malformed", format!("the message cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use tickwire_market::decode::BodyError;
    use tickwire_proto::v1::{PublishRequest, Quote};
    use tonic_types::StatusExt as _;

    use super::*;

    fn read(message: Bytes) -> Result<usize, (Code, String)> {
        let bound = Bound { limit: 3, fault: |limit| BodyError::TooManyQuotes { limit }.into() };
        decode::<PublishRequest>(message, Some(bound)).map(|request| request.quotes.len()).map_err(|fault| {
            let status = Status::from(fault);
            (status.code(), status.get_details_error_info().unwrap().reason)
        })
    }

    fn quotes(count: usize) -> Bytes {
        PublishRequest { quotes: vec![Quote::default(); count] }.encode_to_vec().into()
    }

    #[test]
    fn quotes_are_counted_before_they_are_decoded() {
        assert_eq!(read(quotes(3)), Ok(3));
        assert_eq!(read(quotes(4)), Err((Code::InvalidArgument, "too_large".to_owned())));
        // Two million of them have four megabytes; none is built.
        let many = Bytes::from_static(&[0x0a, 0x00]).repeat(2_000_000);
        assert_eq!(read(many.into()), Err((Code::InvalidArgument, "too_large".to_owned())));
    }

    #[test]
    fn unknown_fields_are_skipped_and_broken_messages_said() {
        let unknown = [&quotes(1)[..], &[0x10, 0x05, 0x1a, 0x01, b'x', 0x25, 1, 2, 3, 4]].concat();
        assert_eq!(read(unknown.into()), Ok(1));
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
            let seen = read(Bytes::copy_from_slice(broken));
            assert_eq!(seen, Err((Code::InvalidArgument, "malformed".to_owned())), "{broken:?}");
        }
    }
}
