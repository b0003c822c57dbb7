//! A call on its way: how long it may take, and how it is counted when it ends.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use ::metrics::counter;
use axum::http::HeaderMap;
use futures_util::{FutureExt as _, Stream};
use tickwire_faults::{Unit, point};
use tokio::time::{Instant, Sleep};
use tonic::{Code, Response, Status};

use super::{Answers, fault::Fault};
use crate::metrics;

/// A call: its clones are the same one. It counts when the last of them is gone; as cancelled, unless it was said how it ended.
#[derive(Debug, Clone)]
pub(super) struct Call(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    method: &'static str,
    deadline: Option<Instant>,
    ended: AtomicI32,
}

impl Call {
    /// A call that begins now.
    pub(super) fn begin(method: &'static str, headers: &HeaderMap) -> Self {
        let timeout = headers.get("grpc-timeout").and_then(|value| timeout(value.as_bytes()));
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Self(Arc::new(Inner { method, deadline, ended: AtomicI32::new(Code::Cancelled as i32) }))
    }

    /// Waits for the call's deadline; for ever if it has none.
    pub(super) async fn deadline(&self) {
        match self.0.deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }

    /// A timer that ends at the call's deadline, if it has one.
    pub(super) fn timer(&self) -> Option<Pin<Box<Sleep>>> {
        self.0.deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)))
    }

    /// Does something that may be dropped midway, unless the deadline comes first.
    pub(super) async fn in_time<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        tokio::select! {
            done = work => done,
            () = self.deadline() => Err(Fault::deadline()),
        }
    }

    /// Answers the call.
    pub(super) async fn run<E: Send + 'static>(
        self,
        work: impl Future<Output = Result<Answers<E>, Fault>>,
    ) -> Result<Response<Answers<E>>, Status> {
        // The panic itself is logged by the hook, with its place; to the client it is our fault and nothing more.
        let method = self.0.method;
        let answered = AssertUnwindSafe(async {
            point(Unit::Call, || method);
            work.await
        });
        let answered = answered.catch_unwind().await.unwrap_or_else(|_| Err(Fault::internal()));
        match answered {
            Ok(answers) => Ok(Response::new(Box::pin(Counted { answers, call: self }))),
            Err(fault) => {
                let status = Status::from(fault);
                self.ended(status.code());
                Err(status)
            }
        }
    }

    fn ended(&self, code: Code) {
        self.0.ended.store(code as i32, Ordering::Relaxed);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let code = label(Code::from_i32(self.ended.load(Ordering::Relaxed)));
        counter!(metrics::GRPC_REQUESTS, "method" => self.method, "code" => code).increment(1);
    }
}

/// Answers that say to their call how they ended. Those that the client does not wait for are dropped.
struct Counted<E> {
    answers: Answers<E>,
    call: Call,
}

impl<E> Stream for Counted<E> {
    type Item = Result<E, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = AssertUnwindSafe(|| self.answers.as_mut().poll_next(context));
        let next =
            std::panic::catch_unwind(polled).unwrap_or_else(|_| Poll::Ready(Some(Err(Fault::internal().into()))));
        match &next {
            Poll::Ready(None) => self.call.ended(Code::Ok),
            Poll::Ready(Some(Err(status))) => self.call.ended(status.code()),
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        next
    }
}

/// `grpc-timeout`: at most eight digits and a unit. What is none is no deadline.
fn timeout(value: &[u8]) -> Option<Duration> {
    const DIGITS_MAX: usize = 8;
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3_600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// A code as a label, from a closed set.
fn label(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::PermissionDenied => "permission_denied",
        Code::Unauthenticated => "unauthenticated",
        Code::ResourceExhausted => "resource_exhausted",
        Code::Unavailable => "unavailable",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("0n", Some(Duration::ZERO)),
            ("100000000S", None),
            ("S", None),
            ("", None),
            ("1", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            ("1 S", None),
            ("1s", None),
            ("1é", None),
        ] {
            assert_eq!(timeout(text.as_bytes()), expected, "{text}");
        }
    }
}
