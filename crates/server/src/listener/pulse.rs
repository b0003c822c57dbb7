//! Whether a connection still does what it is there for.
//!
//! A client that opens a connection and dawdles holds a place that others want. [`Pulse`] knows what a connection is at and decides, purely,
//! when it has taken too long; [`Watched`] and [`Answered`] tell it what passes through the connection and its answers.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use slab::Slab;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// How long a connection may take for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// The head of a request.
    pub(super) head: Duration,
    /// The next request.
    pub(super) idle: Duration,
    /// To take anything at all of an answer.
    pub(super) stuck: Duration,
}

/// Why a connection is cut: the `reason` of its metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The head of a request did not come in time.
    Head,
    /// No further request came.
    Idle,
    /// An answer is not being read.
    Stuck,
}

impl Cut {
    /// Its stable code.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Head => "header_timeout",
            Self::Idle => "keep_alive_timeout",
            Self::Stuck => "slow_reader",
        }
    }
}

/// What one connection is at. Shared by the connection's task and what passes through it.
#[derive(Debug, Clone)]
pub(super) struct Pulse(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Since when the head of a request is due: at first from the start, later from its first byte.
    head_since: Option<Instant>,
    /// Whether bytes between requests may be something else than the beginning of one, as in HTTP/2.
    multiplexed: bool,
    /// Requests that have not been answered to the end; each with the time since when a piece of its answer has waited to be taken.
    answers: Slab<Option<Instant>>,
    /// Since when there has been none.
    idle_since: Instant,
    /// Since when the connection has taken none of the bytes that wait.
    blocked_since: Option<Instant>,
}

impl Pulse {
    /// A connection that has just begun.
    pub(super) fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(State {
            head_since: Some(now),
            multiplexed: false,
            answers: Slab::new(),
            idle_since: now,
            blocked_since: None,
        })))
    }

    /// Takes note of a request; it is under way until what is returned is dropped.
    pub(super) fn request(&self, multiplexed: bool) -> UnderWay {
        let mut state = self.0.lock();
        state.head_since = None;
        state.multiplexed = multiplexed;
        UnderWay { pulse: self.clone(), key: state.answers.insert(None) }
    }

    /// Whether it has spoken HTTP/2.
    pub(super) fn is_multiplexed(&self) -> bool {
        self.0.lock().multiplexed
    }

    /// Whether the connection is to be cut.
    pub(super) fn verdict(&self, patience: Patience, now: Instant) -> Option<Cut> {
        let state = self.0.lock();
        let over = |since: Option<Instant>, patience| since.is_some_and(|since| since + patience <= now);
        if over(state.blocked_since, patience.stuck)
            || state.answers.iter().any(|(_, since)| over(*since, patience.stuck))
        {
            Some(Cut::Stuck)
        } else if over(state.head_since, patience.head) {
            Some(Cut::Head)
        } else if state.answers.is_empty() && over(Some(state.idle_since), patience.idle) {
            Some(Cut::Idle)
        } else {
            None
        }
    }

    fn has_read(&self) {
        let mut state = self.0.lock();
        if state.answers.is_empty() && !state.multiplexed && state.head_since.is_none() {
            state.head_since = Some(Instant::now());
        }
    }

    fn has_written(&self, blocked: bool) {
        let mut state = self.0.lock();
        if !blocked {
            state.blocked_since = None;
        } else if state.blocked_since.is_none() {
            state.blocked_since = Some(Instant::now());
        }
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    pulse: Pulse,
    key: usize,
}

impl UnderWay {
    /// Takes note that a piece of the answer waits to be taken, or that none does.
    fn waits(&self, since: Option<Instant>) {
        if let Some(waits) = self.pulse.0.lock().answers.get_mut(self.key) {
            *waits = since;
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.pulse.0.lock();
        state.answers.try_remove(self.key);
        state.idle_since = Instant::now();
    }
}

/// The bytes of a connection.
#[derive(Debug)]
pub(super) struct Watched<T> {
    inner: T,
    pulse: Pulse,
}

impl<T> Watched<T> {
    pub(super) fn new(inner: T, pulse: Pulse) -> Self {
        Self { inner, pulse }
    }

    /// The connection itself, once it is no longer HTTP.
    pub(crate) fn into_inner(self) -> T {
        self.inner
    }

    fn note<R>(&self, written: Poll<R>) -> Poll<R> {
        self.pulse.has_written(written.is_pending());
        written
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, into);
        if into.filled().len() > before {
            self.pulse.has_read();
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Behind TLS a write ends in a buffer, and it is here that the connection refuses.
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.note(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.note(ended)
    }
}

/// The body of an answer, which holds what its request holds until it has been taken whole.
pub(super) struct Answered<G> {
    body: Body,
    request: UnderWay,
    _held: G,
}

impl<G: Send + Unpin + 'static> Answered<G> {
    /// The body of the answer to a request; `held` is dropped with it.
    pub(super) fn body(body: Body, request: UnderWay, held: G) -> Body {
        Body::new(Self { body, request, _held: held }.boxed_unsync())
    }
}

impl<G: Unpin> HttpBody for Answered<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // Who asks for more has found room for what there was.
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.request.waits(matches!(polled, Poll::Ready(Some(_))).then(Instant::now));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { head: Duration::from_secs(10), idle: Duration::from_secs(75), stuck: Duration::from_secs(30) };

    fn after(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_head_is_due_from_the_start() {
        let pulse = Pulse::new(Instant::now());
        assert_eq!(pulse.verdict(PATIENCE, after(9)), None);
        assert_eq!(pulse.verdict(PATIENCE, after(10)), Some(Cut::Head));
        let request = pulse.request(false);
        assert_eq!(pulse.verdict(PATIENCE, after(10_000)), None, "a request may take as long as it takes");
        drop(request);
    }

    #[test]
    fn a_later_head_is_due_from_its_first_byte() {
        let pulse = Pulse::new(Instant::now());
        drop(pulse.request(false));
        assert_eq!(pulse.verdict(PATIENCE, after(74)), None);
        assert_eq!(pulse.verdict(PATIENCE, after(76)), Some(Cut::Idle));
        pulse.has_read();
        assert_eq!(pulse.verdict(PATIENCE, after(11)), Some(Cut::Head));
    }

    #[test]
    fn pings_of_http2_are_no_requests() {
        let pulse = Pulse::new(Instant::now());
        drop(pulse.request(true));
        pulse.has_read();
        assert_eq!(pulse.verdict(PATIENCE, after(70)), None);
        assert_eq!(pulse.verdict(PATIENCE, after(76)), Some(Cut::Idle));
        let request = pulse.request(true);
        assert_eq!(pulse.verdict(PATIENCE, after(1_000)), None);
        drop(request);
    }

    #[test]
    fn a_reader_that_takes_nothing_is_stuck() {
        let pulse = Pulse::new(Instant::now());
        let request = pulse.request(true);
        request.waits(Some(Instant::now()));
        assert_eq!(pulse.verdict(PATIENCE, after(31)), Some(Cut::Stuck));
        request.waits(None);
        assert_eq!(pulse.verdict(PATIENCE, after(31)), None);
        pulse.has_written(true);
        pulse.has_written(true);
        assert_eq!(pulse.verdict(PATIENCE, after(31)), Some(Cut::Stuck));
        pulse.has_written(false);
        assert_eq!(pulse.verdict(PATIENCE, after(31)), None);
        drop(request);
    }
}
