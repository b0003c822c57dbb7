//! Bodies of requests that were answered without them.
//!
//! A refusal mostly goes out before the body is there. Over HTTP/2 a stream that is answered while its client still sends ends with RST_STREAM
//! and the code `NO_ERROR` behind the answer (RFC 9113, section 8.1), for which some clients, curl 7.88 among them, throw the answer away. What
//! little is still to come is therefore read, and thrown away here. HTTP/1 needs no such help: its server reads on by itself.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::Version,
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use tokio::runtime::Handle;

/// What is read at most of a body that nobody wants: the window of a stream that the client did not ask about.
const BYTES_MAX: usize = 64 * 1024;

/// How long it is waited for.
const WAIT: Duration = Duration::from_secs(1);

/// Has the body of an HTTP/2 request read to its end, whether its handler wants it or not.
pub(super) fn read_on(request: Request) -> Request {
    if request.version() != Version::HTTP_2 || request.body().is_end_stream() {
        return request;
    }
    request.map(|body| Body::new(Unread(Some(body))))
}

/// A body that reads on when it is dropped; `None` once it has ended.
struct Unread(Option<Body>);

impl HttpBody for Unread {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.0 = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(tokio::time::timeout(WAIT, discard(body)));
        }
    }
}

async fn discard(mut body: Body) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > BYTES_MAX {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use futures_util::stream;

    use super::*;

    /// A request whose body has so many pieces of 1 KiB, and how many of them were read; the end counts as one.
    fn request(version: Version, pieces: usize) -> (Request, Arc<AtomicUsize>) {
        let read = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&read);
        let pieces = stream::iter((0..=pieces).map(move |number| {
            count.fetch_add(1, Ordering::Relaxed);
            (number < pieces).then(|| Ok::<_, Infallible>(Bytes::from_static(&[0; 1024])))
        }));
        let body = Body::from_stream(futures_util::StreamExt::filter_map(pieces, std::future::ready));
        let mut request = Request::new(body);
        *request.version_mut() = version;
        (request, read)
    }

    async fn settled() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_little_nobody_wants_is_read_over_http_2() {
        for (version, pieces, expected) in [
            (Version::HTTP_2, 10, 11),
            // One more than fit tells that there are too many.
            (Version::HTTP_2, 1_000_000, 65),
            (Version::HTTP_11, 10, 0),
        ] {
            let (request, read) = request(version, pieces);
            drop(read_on(request));
            settled().await;
            assert_eq!(read.load(Ordering::Relaxed), expected, "{version:?}, {pieces} pieces");
        }
    }

    #[tokio::test]
    async fn a_body_that_is_wanted_is_all_there() {
        let (request, read) = request(Version::HTTP_2, 200);
        let body = read_on(request).into_body().collect().await.unwrap().to_bytes();
        assert_eq!((body.len(), read.load(Ordering::Relaxed)), (200 * 1024, 201));
    }
}
