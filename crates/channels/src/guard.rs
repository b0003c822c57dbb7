//! Futures of the application's: they may panic when they are polled, and when they are dropped.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use metrics::counter;

use crate::{channel::guarded, metrics as names};

/// Resolves to what a future resolves to, or to what its panic said. It is dropped as soon as it has ended; should that panic, it counts as
/// its panic. Dropping this before its end is safe, whatever it does to the future.
pub(crate) struct Guarded<T>(Option<BoxFuture<'static, T>>);

impl<T> Guarded<T> {
    pub(crate) fn new(future: BoxFuture<'static, T>) -> Self {
        Self(Some(future))
    }

    fn discard(&mut self) -> Result<(), String> {
        let future = self.0.take();
        guarded(|| drop(future))
    }
}

impl<T> Future for Guarded<T> {
    type Output = Result<T, String>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T, String>> {
        let Some(future) = self.0.as_mut() else { return Poll::Ready(Err("polled after its end".to_owned())) };
        let outcome = match guarded(|| future.as_mut().poll(context)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(value)) => Ok(value),
            Err(panic) => Err(panic),
        };
        Poll::Ready(match (outcome, self.discard()) {
            (Ok(value), Err(panic)) => {
                let _ = guarded(|| drop(value));
                Err(panic)
            }
            (outcome, _) => outcome,
        })
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        if self.discard().is_err() {
            counter!(names::CHANNEL_CRASHES).increment(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics when it is dropped.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("told to panic when dropped");
        }
    }

    #[tokio::test]
    async fn a_panic_is_an_outcome_whenever_it_comes() {
        assert_eq!(Guarded::new(Box::pin(async { 7 })).await, Ok(7));
        let polled = Guarded::<()>::new(Box::pin(async { panic!("when polled") })).await;
        assert_eq!(polled, Err("when polled".to_owned()));
        let bomb = Bomb;
        let dropped = Guarded::new(Box::pin(async move {
            let _bomb = bomb;
        }));
        assert_eq!(dropped.await, Err("told to panic when dropped".to_owned()));
        let bomb = Bomb;
        drop(Guarded::new(Box::pin(async move { drop(bomb) })));
        assert!(Guarded::new(Box::pin(async { Bomb })).await.map(std::mem::forget).is_ok());
    }
}
