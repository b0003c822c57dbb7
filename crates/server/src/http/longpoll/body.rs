//! Reading what a client publishes, within bounds of size and time.
//!
//! A body that is refused is read all the same, up to a point, and thrown away: many clients look for an answer only once they have sent all, and
//! closing a connection with unread bytes resets it, and the answer with it.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;

/// The longest body, in bytes.
const LEN_MAX: usize = 8_000_000;

/// What is read of a body that is refused, in bytes.
const DISCARDED_MAX: usize = 4 * LEN_MAX;

/// A client that takes longer to send what a request may have is not sending.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no body. The name is a code of `docs/codes.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadBody {
    #[error("the body has more than {LEN_MAX} bytes")]
    TooLarge,
    #[error("the body ended too early")]
    Incomplete,
    #[error("the body was not there in time")]
    Timeout,
}

impl BadBody {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::TooLarge => "body_too_large",
            Self::Incomplete => "body_incomplete",
            Self::Timeout => "body_timeout",
        }
    }
}

/// Reads all of a body, and keeps nothing of it unless `wanted`. A client that `waits` for our consent has not sent any of it yet.
pub(super) async fn read(body: Body, wanted: bool, waits: bool) -> Result<Bytes, BadBody> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > DISCARDED_MAX || (announced > LEN_MAX && waits) {
        return Err(BadBody::TooLarge);
    }
    let reading = collect(body, wanted && announced <= LEN_MAX);
    tokio::time::timeout(TIMEOUT, reading).await.unwrap_or(Err(BadBody::Timeout))
}

async fn collect(mut body: Body, mut wanted: bool) -> Result<Bytes, BadBody> {
    let (mut kept, mut len) = (BytesMut::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BadBody::Incomplete)?.into_data() else { continue };
        len += data.len();
        if len > DISCARDED_MAX {
            return Err(BadBody::TooLarge);
        }
        if len > LEN_MAX {
            (wanted, kept) = (false, BytesMut::new());
        }
        if wanted {
            kept.extend_from_slice(&data);
        }
    }
    if len > LEN_MAX { Err(BadBody::TooLarge) } else { Ok(kept.freeze()) }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;

    fn check(body: Body, wanted: bool, waits: bool, expected: Result<usize, BadBody>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        assert_eq!(runtime.block_on(read(body, wanted, waits)).map(|body| body.len()), expected);
    }

    /// A body of `pieces` pieces of 100,000 bytes, without an announced length.
    fn chunked(pieces: usize) -> Body {
        let piece = Bytes::from(vec![b'x'; 100_000]);
        Body::from_stream(stream::iter((0..pieces).map(move |_| Ok::<_, Infallible>(piece.clone()))))
    }

    #[test]
    fn a_body_is_read_up_to_its_limit() {
        check(Body::empty(), true, false, Ok(0));
        check(Body::from(vec![b'x'; LEN_MAX]), true, false, Ok(LEN_MAX));
        check(chunked(80), true, false, Ok(LEN_MAX));
        check(chunked(80), false, false, Ok(0));
        check(Body::from(vec![b'x'; LEN_MAX + 1]), true, false, Err(BadBody::TooLarge));
        check(Body::from(vec![b'x'; LEN_MAX + 1]), true, true, Err(BadBody::TooLarge));
        check(chunked(81), true, false, Err(BadBody::TooLarge));
        check(chunked(1_000), true, false, Err(BadBody::TooLarge));
        let broken = stream::iter([Ok(Bytes::from_static(b"x")), Err(std::io::Error::other("cut"))]);
        check(Body::from_stream(broken), true, false, Err(BadBody::Incomplete));
    }

    /// A client that sends and sends is read for so long and no longer.
    #[test]
    fn an_endless_body_is_given_up() {
        let piece = Bytes::from(vec![b'x'; 100_000]);
        let endless = stream::repeat_with(move || Ok::<_, Infallible>(piece.clone()));
        check(Body::from_stream(endless), true, false, Err(BadBody::TooLarge));
    }
}
