//! `Publish` and `PublishAcked`: batches of quotes in, what became of them out.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{future::BoxFuture, stream};
use tickwire_market::{Batch, IngestReport, Rejected};
use tickwire_proto::v1 as pb;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request};

use super::{Answers, Incoming, call::Call, fault::Fault};
use crate::{access, app::Node, auth::Who};

/// Rejections that an answer lists, as the API says.
const REJECTIONS_MAX: usize = 1_000;

/// A busy node is asked again after these pauses, while HTTP/2's flow control slows the publisher down; then the quotes are rejected.
const BUSY_FIRST: Duration = Duration::from_millis(1);
const BUSY_LONGEST: Duration = Duration::from_millis(50);
const BUSY_PATIENCE: Duration = Duration::from_secs(5);

/// `Publish`: one answer at the end.
pub(super) async fn once(
    node: Arc<Node>,
    request: Request<Incoming<Batch>>,
    call: Call,
) -> Result<Answers<pb::PublishResponse>, Fault> {
    let mut batches = Batches::begin(node, request, call).await?;
    let mut total = Total::default();
    loop {
        match batches.ingest_next().await {
            Ok(Some((report, quotes))) => total.add(report, quotes),
            Ok(None) => return Ok(Box::pin(stream::iter([Ok(total.answer)]))),
            // Only here does the publisher learn what became of the batches before the one that failed.
            Err(fault) => {
                let taken = total.answer.accepted;
                let words = format!("{taken} quotes of this stream were taken");
                return Err(fault.telling(&words, "taken", taken.to_string()));
            }
        }
    }
}

/// `PublishAcked`: an answer to each batch.
pub(super) async fn acked(
    node: Arc<Node>,
    request: Request<Incoming<Batch>>,
    call: Call,
) -> Result<Answers<pb::PublishResponse>, Fault> {
    let batches = Batches::begin(node, request, call).await?;
    Ok(Box::pin(stream::try_unfold(batches, |mut batches| async {
        let Some((report, quotes)) = batches.ingest_next().await? else { return Ok(None) };
        let mut total = Total::default();
        total.add(report, quotes);
        Ok(Some((total.answer, batches)))
    })))
}

/// The batches of a publisher, until it ends, the node is drained, or the publisher's credential or time ends.
struct Batches {
    node: Arc<Node>,
    incoming: Incoming<Batch>,
    /// What ends the stream before its publisher does. It lives as long as the stream: timers that each message set anew would cost more
    /// than a quote.
    ended: BoxFuture<'static, Fault>,
    call: Call,
}

impl Batches {
    async fn begin(node: Arc<Node>, request: Request<Incoming<Batch>>, call: Call) -> Result<Self, Fault> {
        let principal = node.live().auth.identify_request(request.metadata().as_ref()).await?;
        principal.may_publish()?;
        let expired = if matches!(principal.who(), Who::Key(_)) { "key_expired" } else { "token_expired" };
        let ended = Box::pin(ended(node.streams_cancelled(), access::expiry(&principal), expired, call.clone()));
        Ok(Self { node, incoming: request.into_inner(), ended, call })
    }

    /// Takes the next batch in: what became of it, and how many quotes it had. A batch that is begun is finished.
    async fn ingest_next(&mut self) -> Result<Option<(IngestReport, u64)>, Fault> {
        // In this order: a publisher that always has a further batch ready is ended all the same.
        let next = tokio::select! {
            biased;
            fault = &mut self.ended => return Err(fault),
            next = self.incoming.message() => next?,
        };
        let Some(batch) = next.transpose()? else { return Ok(None) };
        let quotes = batch.len() as u64;
        if self.node.pubsub.admit().is_err() {
            self.call.in_time(room(&self.node)).await?;
        }
        Ok(Some((self.node.market.ingest(batch).await, quotes)))
    }
}

/// Waits until the node is drained, the credential has ended, which `reason` tells, or the call's time is over.
async fn ended(cancelled: CancellationToken, expires_at: Option<Instant>, reason: &'static str, call: Call) -> Fault {
    let expired = async {
        match expires_at {
            Some(time) => tokio::time::sleep_until(time.into()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = cancelled.cancelled() => Fault::draining(),
        () = expired => expired_fault(reason),
        () = call.deadline() => Fault::deadline(),
    }
}

fn expired_fault(reason: &'static str) -> Fault {
    Fault::new(Code::Unauthenticated, reason, "the key or token has expired; get a new one and publish again")
}

/// Waits while the node has no room: the publisher's next batch then waits in HTTP/2's window, and so does the publisher. After some
/// seconds the market itself says that it is busy, quote by quote.
async fn room(node: &Node) -> Result<(), Fault> {
    let deadline = tokio::time::Instant::now() + BUSY_PATIENCE;
    let mut pause = BUSY_FIRST;
    while node.pubsub.admit().is_err() && tokio::time::Instant::now() < deadline {
        let woken = node.accepting.cancelled().run_until_cancelled(tokio::time::sleep(pause)).await;
        woken.ok_or_else(Fault::draining)?;
        pause = (pause * 2).min(BUSY_LONGEST);
    }
    Ok(())
}

/// The counts of a stream of batches.
#[derive(Default)]
struct Total {
    answer: pb::PublishResponse,
    quotes: u64,
}

impl Total {
    /// Adds what became of a batch of so many quotes.
    fn add(&mut self, report: IngestReport, quotes: u64) {
        self.answer.accepted += report.accepted;
        self.answer.rejected_total += report.rejected.len() as u64;
        let room = REJECTIONS_MAX.saturating_sub(self.answer.rejected.len());
        let before = self.quotes;
        self.answer.rejected.extend(report.rejected.iter().take(room).map(|rejected| rejection(rejected, before)));
        self.quotes += quotes;
    }
}

fn rejection(Rejected { index, rejection }: &Rejected, before: u64) -> pb::Rejection {
    pb::Rejection {
        index: before + u64::from(*index),
        error: rejection.to_string(),
        code: rejection.code().to_owned(),
        retryable: rejection.retryable(),
    }
}
