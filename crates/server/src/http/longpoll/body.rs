//! Reading what a client publishes, within bounds of size and time.
//!
//! A body that is refused is read all the same, up to a point, and thrown away: many clients look for an answer only once they have sent all, and
//! closing a connection with unread bytes resets it, and the answer with it.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;

/// The longest body, in bytes, as Phoenix has it; `limits.body_bytes` may say less.
const LEN_MAX: usize = 8_000_000;

/// What is read of a body that is refused, in bytes.
const DISCARDED_MAX: usize = 4 * LEN_MAX;

/// A client that takes longer to send what a request may have is not sending.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no body. The name is a code of `docs/codes.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadBody {
    #[error("the body has more than {max} bytes; send less at once, or raise limits.body_bytes up to {LEN_MAX}")]
    TooLarge { max: usize },
    #[error("the body ended too early")]
    Incomplete,
    #[error("the body was not there in time")]
    Timeout,
}

impl BadBody {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "body_too_large",
            Self::Incomplete => "body_incomplete",
            Self::Timeout => "body_timeout",
        }
    }
}

/// What there is to know before a body is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// Nothing of it is kept otherwise.
    pub(super) wanted: bool,
    /// The client waits for our consent and has not sent any of it yet.
    pub(super) waits: bool,
    /// `limits.body_bytes`.
    pub(super) configured_max: usize,
}

/// Reads all of a body.
pub(super) async fn read(body: Body, Asked { wanted, waits, configured_max }: Asked) -> Result<Bytes, BadBody> {
    let max = configured_max.min(LEN_MAX);
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > DISCARDED_MAX || (announced > max && waits) {
        return Err(BadBody::TooLarge { max });
    }
    let reading = collect(body, wanted && announced <= max, max);
    tokio::time::timeout(TIMEOUT, reading).await.unwrap_or(Err(BadBody::Timeout))
}

async fn collect(mut body: Body, mut wanted: bool, max: usize) -> Result<Bytes, BadBody> {
    let (mut kept, mut len) = (BytesMut::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BadBody::Incomplete)?.into_data() else { continue };
        len += data.len();
        if len > DISCARDED_MAX {
            return Err(BadBody::TooLarge { max });
        }
        if len > max {
            (wanted, kept) = (false, BytesMut::new());
        }
        if wanted {
            kept.extend_from_slice(&data);
        }
    }
    if len > max { Err(BadBody::TooLarge { max }) } else { Ok(kept.freeze()) }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;

    const TOO_LARGE: BadBody = BadBody::TooLarge { max: LEN_MAX };

    fn check(body: Body, wanted: bool, waits: bool, expected: Result<usize, BadBody>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let asked = Asked { wanted, waits, configured_max: 8 << 20 };
        assert_eq!(runtime.block_on(read(body, asked)).map(|body| body.len()), expected);
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
        check(Body::from(vec![b'x'; LEN_MAX + 1]), true, false, Err(TOO_LARGE));
        check(Body::from(vec![b'x'; LEN_MAX + 1]), true, true, Err(TOO_LARGE));
        check(chunked(81), true, false, Err(TOO_LARGE));
        check(chunked(1_000), true, false, Err(TOO_LARGE));
        let broken = stream::iter([Ok(Bytes::from_static(b"x")), Err(std::io::Error::other("cut"))]);
        check(Body::from_stream(broken), true, false, Err(BadBody::Incomplete));
    }

    /// A client that sends and sends is read for so long and no longer.
    #[test]
    fn an_endless_body_is_given_up() {
        let piece = Bytes::from(vec![b'x'; 100_000]);
        let endless = stream::repeat_with(move || Ok::<_, Infallible>(piece.clone()));
        check(Body::from_stream(endless), true, false, Err(TOO_LARGE));
    }

    #[tokio::test]
    async fn the_configuration_may_allow_less() {
        let asked = Asked { wanted: true, waits: false, configured_max: 1_000 };
        assert_eq!(read(Body::from(vec![b'x'; 1_000]), asked).await.map(|body| body.len()), Ok(1_000));
        assert_eq!(read(Body::from(vec![b'x'; 1_001]), asked).await, Err(BadBody::TooLarge { max: 1_000 }));
    }
}
