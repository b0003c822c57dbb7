//! The bench's quotes on their way over gRPC.
//!
//! The stream is driven by the thread that publishes: a runtime of its own that turns while something is sent or awaited, so that no quote
//! waits for another thread to wake up.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use prost::Message as _;
use tickwire_proto::v1::PublishResponse;
use tokio::{
    runtime::Runtime,
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

use crate::{
    BenchError,
    dialect::{Due, Publisher, Taken, Work},
    pace,
    payload::Maker,
    report::record,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Batches that may wait in front of the connection: enough to fill its pipe, few enough to notice that it is full.
const QUEUED_MAX: usize = 16;

/// Batches on their way without an answer, where answers come.
const WINDOW: usize = 64;

/// Turns of the runtime that carry a message from the queue through HTTP/2 into the kernel.
const TURNS: usize = 4;

/// A timer of the runtime fires up to so late.
const COARSE: Duration = Duration::from_millis(3);

/// Publishes over one stream.
pub(crate) struct GrpcPublisher {
    runtime: Runtime,
    address: String,
    maker: Maker,
    buffer: BytesMut,
    /// `None` once no more come.
    requests: Option<mpsc::Sender<Bytes>>,
    /// Ends when the server has answered all, or the stream is lost.
    answers: Option<JoinHandle<Result<Taken, Status>>>,
    acknowledged: Option<Arc<Acknowledged>>,
}

/// Batches that wait for their answer.
struct Acknowledged {
    window: Semaphore,
    sent: Mutex<VecDeque<Instant>>,
}

impl GrpcPublisher {
    /// Opens a stream to `origin`, such as `http://127.0.0.1:4001`.
    ///
    /// # Errors
    /// If nobody is there, or it refuses.
    pub(crate) fn open(origin: &str, key: Option<&str>, work: &Work) -> Result<Self, BenchError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(BenchError::machine("start a runtime"))?;
        let address = origin.to_owned();
        let endpoint = Endpoint::from_shared(address.clone()).map_err(|error| BenchError::Option(error.to_string()))?;
        let connected = runtime.block_on(endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true).connect());
        let channel = connected.map_err(|error| {
            let problem = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            BenchError::Unreachable { address: address.clone(), problem }
        })?;
        let (requests, receiver) = mpsc::channel::<Bytes>(QUEUED_MAX);
        let outgoing = stream::unfold(receiver, async |mut receiver| {
            let message = receiver.recv().await?;
            Some((message, receiver))
        });
        let mut request = Request::new(outgoing);
        if let Some(key) = key {
            let value: MetadataValue<_> = format!("Bearer {key}")
                .parse()
                .map_err(|_| BenchError::Option("the key holds characters that a header cannot carry".to_owned()))?;
            request.metadata_mut().insert("authorization", value);
        }
        let acknowledged = work
            .acknowledged
            .then(|| Arc::new(Acknowledged { window: Semaphore::new(WINDOW), sent: Mutex::default() }));
        let client = Grpc::new(channel);
        let answers = match &acknowledged {
            Some(acknowledged) => {
                let acknowledged = acknowledged.clone();
                runtime.spawn(async move {
                    let taken = answered(client, request, &acknowledged).await;
                    // Whoever waits for an answer waits no longer.
                    acknowledged.window.close();
                    taken
                })
            }
            None => runtime.spawn(answered_once(client, request)),
        };
        let maker = Maker::new(work.payload);
        let (requests, answers) = (Some(requests), Some(answers));
        let mut publisher = Self { runtime, address, maker, buffer: BytesMut::new(), requests, answers, acknowledged };
        // A key that may not publish is refused before the first quote is due.
        publisher.wait_until(Instant::now() + 2 * COARSE)?;
        Ok(publisher)
    }

    /// Why the stream has ended, if it has.
    fn lost(&mut self) -> Option<BenchError> {
        let answers = self.answers.take_if(|answers| answers.is_finished())?;
        Some(match self.runtime.block_on(answers) {
            Ok(Err(status)) => refused(&self.address, &status),
            Ok(Ok(_)) => ended(&self.address),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        })
    }
}

impl Publisher for GrpcPublisher {
    fn send(&mut self, batch: &[Due]) -> Result<(), BenchError> {
        for due in batch {
            // `PublishRequest.quotes`, one after the other.
            prost::encoding::message::encode(1, self.maker.quote(due), &mut self.buffer);
        }
        let message = self.buffer.split().freeze();
        let Some(requests) = &self.requests else { return Err(ended(&self.address)) };
        let sent = self.runtime.block_on(async {
            if let Some(acknowledged) = &self.acknowledged {
                let permit = acknowledged.window.acquire().await.map_err(|_| ())?;
                permit.forget();
                acknowledged.sent.lock().unwrap_or_else(PoisonError::into_inner).push_back(Instant::now());
            }
            requests.send(message).await.map_err(|_| ())?;
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
            Ok::<_, ()>(())
        });
        match sent {
            Ok(()) => Ok(()),
            Err(()) => {
                self.runtime.block_on(async { tokio::time::sleep(COARSE).await });
                Err(self.lost().unwrap_or_else(|| ended(&self.address)))
            }
        }
    }

    fn wait_until(&mut self, time: Instant) -> Result<(), BenchError> {
        let left = time.saturating_duration_since(Instant::now());
        if self.acknowledged.is_some() {
            // Answers are timed, and quotes need not be: nobody measures their way to a socket.
            if !left.is_zero() {
                self.runtime.block_on(async { tokio::time::sleep_until(time.into()).await });
            }
        } else {
            if left > COARSE {
                self.runtime.block_on(async { tokio::time::sleep_until((time - COARSE).into()).await });
            }
            pace::sleep_until(time);
        }
        match self.lost() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn finish(mut self: Box<Self>, patience: Duration) -> Result<Taken, BenchError> {
        self.requests = None;
        let Some(answers) = self.answers.take() else { return Err(ended(&self.address)) };
        match self.runtime.block_on(async { tokio::time::timeout(patience, answers).await }) {
            Ok(Ok(Ok(taken))) => Ok(taken),
            Ok(Ok(Err(status))) => Err(refused(&self.address, &status)),
            Ok(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            Err(_) => Err(BenchError::TimedOut(format!("not all quotes were answered within {patience:?}"))),
        }
    }
}

fn refused(address: &str, status: &Status) -> BenchError {
    BenchError::Refused { address: address.to_owned(), problem: format!("{}: {}", status.code(), status.message()) }
}

fn ended(address: &str) -> BenchError {
    BenchError::Refused { address: address.to_owned(), problem: "the server has ended the stream".to_owned() }
}

/// `Publish`: the answer at the end says what became of all.
async fn answered_once(
    mut client: Grpc<Channel>,
    request: Request<impl futures_util::Stream<Item = Bytes> + Send + 'static>,
) -> Result<Taken, Status> {
    ready(&mut client).await?;
    let path = http::uri::PathAndQuery::from_static("/tickwire.v1.MarketService/Publish");
    let answer = client.client_streaming(request, path, Raw).await?.into_inner();
    let mut taken = Taken::new();
    add(&mut taken, answer);
    Ok(taken)
}

/// `PublishAcked`: an answer to each batch.
async fn answered(
    mut client: Grpc<Channel>,
    request: Request<impl futures_util::Stream<Item = Bytes> + Send + 'static>,
    acknowledged: &Acknowledged,
) -> Result<Taken, Status> {
    ready(&mut client).await?;
    let path = http::uri::PathAndQuery::from_static("/tickwire.v1.MarketService/PublishAcked");
    let mut answers = client.streaming(request, path, Raw).await?.into_inner();
    let mut taken = Taken::new();
    while let Some(answer) = answers.message().await? {
        add(&mut taken, answer);
        acknowledged.window.add_permits(1);
        let sent = acknowledged.sent.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if let Some(sent) = sent {
            record(&mut taken.acknowledged, sent.elapsed());
        }
    }
    Ok(taken)
}

async fn ready(client: &mut Grpc<Channel>) -> Result<(), Status> {
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))
}

fn add(taken: &mut Taken, answer: PublishResponse) {
    taken.accepted += answer.accepted;
    taken.rejected += answer.rejected_total.max(answer.rejected.len() as u64);
    if taken.reason.is_none() {
        taken.reason = answer.rejected.into_iter().next().map(|rejection| rejection.error);
    }
}

/// Sends messages that are encoded already: encoding a batch of quotes from structures would make the bench the bottleneck.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = PublishResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = PublishResponse;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<PublishResponse>, Status> {
        let answer = PublishResponse::decode(from);
        answer.map(Some).map_err(|error| Status::internal(format!("an answer is not understood: {error}")))
    }
}
