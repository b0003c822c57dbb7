//! The public gRPC API: publish, follow and read quotes; health and reflection.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use ::metrics::counter;
use axum::Router;
use futures_util::{Stream, StreamExt as _, stream};
use tickwire_market::{
    IngestReport, LatestError, Rejected,
    decode::{decode_publish, update_from_json},
};
use tickwire_market::{JoinSnapshot, Symbol};
use tickwire_proto::v1::{
    self as pb,
    market_service_server::{MarketService, MarketServiceServer},
    subscribe_response::Message,
};
use tickwire_pubsub::{Class, Delivery, Role, Topic};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, service::Routes};

use crate::{
    app::Node,
    auth::{AuthError, Principal, unix_now},
    follow::{self, Ended, FollowError, Follower},
    metrics,
    topics::ticker::MAX_RATE_LONGEST,
};

/// The longest message that is read; a batch of 10,000 quotes has about one megabyte.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Rejections that an answer lists, as the API says.
const REJECTIONS_MAX: usize = 1_000;

/// A busy node is asked again after these pauses, while HTTP/2's flow control slows the publisher down; then the quotes are rejected.
const BUSY_FIRST: Duration = Duration::from_millis(1);
const BUSY_LONGEST: Duration = Duration::from_millis(50);
const BUSY_PATIENCE: Duration = Duration::from_secs(5);

/// Everything that the gRPC port answers.
pub(crate) fn router(node: &Arc<Node>) -> Router {
    let service = MarketServiceServer::new(Service(Arc::clone(node))).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let (reporter, health) = tonic_health::server::health_reporter();
    let watched = Arc::clone(node);
    node.accepting.spawn("grpc health", async move {
        reporter.set_serving::<MarketServiceServer<Service>>().await;
        watched.stop.drained().await;
        reporter.set_not_serving::<MarketServiceServer<Service>>().await;
        reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        watched.accepting.cancelled().cancelled().await;
    });
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tickwire_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = reflection().build_v1().expect("the embedded descriptors are valid, which a test states");
    let v1alpha = reflection().build_v1alpha().expect("the embedded descriptors are valid, which a test states");
    Routes::new(service).add_service(health).add_service(v1).add_service(v1alpha).prepare().into_axum_router()
}

/// The service.
#[derive(Debug)]
pub(crate) struct Service(Arc<Node>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl MarketService for Service {
    async fn publish(
        &self,
        request: Request<Streaming<pb::PublishRequest>>,
    ) -> Result<Response<pb::PublishResponse>, Status> {
        counted("Publish", async {
            let principal = self.principal(&request)?;
            principal.may_publish().map_err(denied)?;
            let mut batches = Batches::new(&self.0, &principal, request.into_inner());
            let mut total = Total::default();
            // Only here does the publisher learn what became of the batches before the one that failed.
            let taken = |status: Status, taken: u64| {
                Status::new(status.code(), format!("{}; {taken} quotes of this stream were taken", status.message()))
            };
            loop {
                match batches.ingest_next().await {
                    Ok(Some((report, quotes))) => total.add(report, quotes),
                    Ok(None) => return Ok(Response::new(total.answer)),
                    Err(status) => return Err(taken(status, total.answer.accepted)),
                }
            }
        })
        .await
    }

    type PublishAckedStream = Answers<pb::PublishResponse>;

    async fn publish_acked(
        &self,
        request: Request<Streaming<pb::PublishRequest>>,
    ) -> Result<Response<Self::PublishAckedStream>, Status> {
        counted("PublishAcked", async {
            let principal = self.principal(&request)?;
            principal.may_publish().map_err(denied)?;
            let batches = Batches::new(&self.0, &principal, request.into_inner());
            let answers: Self::PublishAckedStream = Box::pin(stream::try_unfold(batches, |mut batches| async {
                let Some((report, quotes)) = batches.ingest_next().await? else { return Ok(None) };
                let mut total = Total::default();
                total.add(report, quotes);
                Ok(Some((total.answer, batches)))
            }));
            Ok(Response::new(answers))
        })
        .await
    }

    type SubscribeStream = Answers<pb::SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<pb::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        counted("Subscribe", async {
            let principal = self.principal(&request)?;
            let request = request.into_inner();
            let node = &self.0;
            let subjects =
                follow::subjects(node, &principal, request.topics.iter().map(String::as_str)).map_err(refused)?;
            let interval = Duration::from_millis(request.max_rate_ms.into());
            if interval > MAX_RATE_LONGEST {
                let longest = MAX_RATE_LONGEST.as_millis();
                return Err(Status::invalid_argument(format!(
                    "max_rate_ms is {}, at most {longest}",
                    request.max_rate_ms
                )));
            }
            let mut follower =
                Follower::new(node, &principal, "grpc", (!interval.is_zero()).then_some(interval)).map_err(refused)?;
            let mut first = Vec::with_capacity(subjects.len());
            for subject in &subjects {
                if let Some(snapshot) = follower.follow(node, subject, None).await {
                    first.push(Ok(snapshot_message(&subject.topic, &snapshot)));
                }
            }
            let live = stream::unfold(Some(follower), |follower| async {
                let follower = follower?;
                match follower.next().await {
                    Ok(deliveries) => {
                        let messages: Vec<_> = deliveries.iter().filter_map(message).map(Ok).collect();
                        Some((messages, Some(follower)))
                    }
                    Err(ended) => Some((vec![Err(farewell(ended))], None)),
                }
            });
            let answers: Self::SubscribeStream = Box::pin(stream::iter(first).chain(live.flat_map(stream::iter)));
            Ok(Response::new(answers))
        })
        .await
    }

    async fn get_quote(&self, request: Request<pb::GetQuoteRequest>) -> Result<Response<pb::GetQuoteResponse>, Status> {
        counted("GetQuote", async {
            let principal = self.principal(&request)?;
            let node = &self.0;
            let symbol = request.into_inner().symbol;
            let symbol = Symbol::new(&symbol)
                .map_err(|error| Status::invalid_argument(format!("symbol {symbol:?}: {error}")))?;
            let topic = symbol.ticker_topic();
            match node.live().channel_of(&topic) {
                Some(setting) => principal.may_join(&topic, setting.rule.join),
                None => principal.may_read(),
            }
            .map_err(denied)?;
            let latest = node.market.latest(&symbol).wait().await.map_err(|error| match error {
                LatestError::UnknownSymbol => Status::not_found(format!("nobody has quoted {symbol} here")),
                LatestError::OwnerUnreachable => Status::unavailable(error.to_string()),
            })?;
            let quote = update_from_json(&latest.quote).map_err(|_| Status::internal("the value cannot be read"))?;
            let age_us = u64::try_from(latest.age.as_micros()).unwrap_or(u64::MAX);
            let state = latest.status.state.as_str().to_owned();
            Ok(Response::new(pb::GetQuoteResponse { quote: Some(quote), state, age_us }))
        })
        .await
    }
}

impl Service {
    fn principal<T>(&self, request: &Request<T>) -> Result<Principal, Status> {
        self.0.live().auth.request(request.metadata().as_ref(), unix_now()).map_err(denied)
    }
}

/// Counts a call by how its head was answered.
async fn counted<T>(method: &'static str, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let answer = call.await;
    let code = answer.as_ref().map_or_else(|status| code_label(status.code()), |_| "ok");
    counter!(metrics::GRPC_REQUESTS, "method" => method, "code" => code).increment(1);
    answer
}

fn code_label(code: tonic::Code) -> &'static str {
    use tonic::Code;
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::InvalidArgument => "invalid_argument",
        Code::NotFound => "not_found",
        Code::PermissionDenied => "permission_denied",
        Code::Unauthenticated => "unauthenticated",
        Code::ResourceExhausted => "resource_exhausted",
        Code::Unavailable => "unavailable",
        Code::OutOfRange => "out_of_range",
        Code::Internal => "internal",
        _ => "other",
    }
}

/// The batches of a publisher, until it ends, the node is drained or the publisher's credential ends.
struct Batches {
    node: Arc<Node>,
    incoming: Streaming<pb::PublishRequest>,
    expires_at: Option<Instant>,
    cancelled: CancellationToken,
}

impl Batches {
    fn new(node: &Arc<Node>, principal: &Principal, incoming: Streaming<pb::PublishRequest>) -> Self {
        let expires_at = crate::access::expiry(principal);
        Self { node: Arc::clone(node), incoming, expires_at, cancelled: node.streams_cancelled() }
    }

    /// Takes the next batch in: what became of it, and how many quotes it had. A batch that is begun is finished.
    async fn ingest_next(&mut self) -> Result<Option<(IngestReport, u64)>, Status> {
        let expires_at = self.expires_at;
        let expired = async {
            match expires_at {
                Some(time) => tokio::time::sleep_until(time.into()).await,
                None => std::future::pending().await,
            }
        };
        // In this order: a publisher that always has a further batch ready is ended all the same.
        let next = tokio::select! {
            biased;
            () = self.cancelled.cancelled() => return Err(Status::unavailable("the node is being drained")),
            () = expired => return Err(Status::unauthenticated("the key or token has expired")),
            next = self.incoming.message() => next?,
        };
        let Some(batch) = next else { return Ok(None) };
        let quotes = batch.quotes.len() as u64;
        Ok(Some((ingest(&self.node, batch).await?, quotes)))
    }
}

/// Takes a batch in. While the node has no room it waits: the publisher's next batch then waits in HTTP/2's window, and so does the
/// publisher.
async fn ingest(node: &Node, request: pb::PublishRequest) -> Result<IngestReport, Status> {
    let deadline = tokio::time::Instant::now() + BUSY_PATIENCE;
    let mut pause = BUSY_FIRST;
    while node.pubsub.admit().is_err() && tokio::time::Instant::now() < deadline {
        let woken = node.accepting.cancelled().run_until_cancelled(tokio::time::sleep(pause)).await;
        if woken.is_none() {
            return Err(Status::unavailable("the node is being drained"));
        }
        pause = (pause * 2).min(BUSY_LONGEST);
    }
    let batch = decode_publish(request, node.market.config().batch_max)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(node.market.ingest(batch).await)
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

fn snapshot_message(topic: &Topic, snapshot: &JoinSnapshot) -> pb::SubscribeResponse {
    let quote = snapshot.quote.as_ref().and_then(|quote| update_from_json(quote).ok());
    let snapshot = pb::Snapshot {
        quote,
        epoch: snapshot.epoch.as_str().to_owned(),
        seq: snapshot.seq,
        state: snapshot.status.state.as_str().to_owned(),
    };
    pb::SubscribeResponse { topic: topic.to_string(), message: Some(Message::Snapshot(snapshot)) }
}

/// A message of a symbol; those of rooms have no form in this API.
fn message(delivery: &Delivery) -> Option<pb::SubscribeResponse> {
    let broadcast = &delivery.message;
    let payload = broadcast.payload.bytes();
    let Class::Latest(role) = broadcast.class else { return None };
    let message = match role {
        Role::Update => Message::Update(pb::Update { n: delivery.n, ..update_from_json(payload).ok()? }),
        Role::Snapshot => {
            let snapshot: SnapshotJson = serde_json::from_slice(payload).ok()?;
            Message::Snapshot(snapshot.into_proto())
        }
        Role::Status => {
            let status: StatusJson = serde_json::from_slice(payload).ok()?;
            Message::Status(pb::Status { state: status.state, since_us: status.since_us })
        }
    };
    Some(pb::SubscribeResponse { topic: broadcast.topic.to_string(), message: Some(message) })
}

#[derive(serde::Deserialize)]
struct StatusJson {
    state: String,
    since_us: i64,
}

#[derive(serde::Deserialize)]
struct SnapshotJson {
    quote: Option<Box<serde_json::value::RawValue>>,
    epoch: String,
    seq: u64,
    status: String,
}

impl SnapshotJson {
    fn into_proto(self) -> pb::Snapshot {
        let quote = self.quote.and_then(|quote| update_from_json(&quote.get().as_bytes().to_vec().into()).ok());
        pb::Snapshot { quote, epoch: self.epoch, seq: self.seq, state: self.status }
    }
}

fn denied(error: AuthError) -> Status {
    let words = error.to_string();
    denied_with(&error, words)
}

/// Other credentials would help, or these lack a right.
fn denied_with(cause: &AuthError, words: String) -> Status {
    if cause.status() == 403 { Status::permission_denied(words) } else { Status::unauthenticated(words) }
}

fn refused(error: FollowError) -> Status {
    match error {
        FollowError::Denied { ref cause, .. } => denied_with(cause, error.to_string()),
        FollowError::UnknownSymbol { .. } | FollowError::Unmatched { .. } => Status::not_found(error.to_string()),
        FollowError::TooManyStreams => Status::resource_exhausted(error.to_string()),
        FollowError::NoTopic | FollowError::TooMany { .. } => Status::invalid_argument(error.to_string()),
    }
}

fn farewell(ended: Ended) -> Status {
    match ended {
        Ended::SlowConsumer => Status::resource_exhausted(ended.as_str()),
        Ended::TokenExpired => Status::unauthenticated(ended.as_str()),
        Ended::Shutdown => Status::unavailable(ended.as_str()),
    }
}
