//! Where a replay's quotes go: a server, over HTTP or gRPC.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use tickwire_market::{
    Quote,
    feed::{Offered, QuoteSink, SinkError},
};
use tickwire_proto::v1::{PublishRequest, PublishResponse, market_service_client::MarketServiceClient};
use tokio::sync::mpsc;
use tonic::{Code, Request, Streaming, metadata::MetadataValue, transport::Endpoint};

use crate::{
    failure::Failure,
    remote::{CaArg, ContentType, HttpPublisher, Protocol, Refused, Report, Url},
    wire,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the owners of symbols may take to answer a batch.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Reasons of rejection that are kept apart; a server has fewer.
const REASONS_MAX: usize = 64;

/// A server that takes quotes.
pub(crate) struct ServerSink {
    transport: Transport,
    told: Mutex<Told>,
}

enum Transport {
    Http(HttpPublisher),
    /// Only one batch is under way at a time, so that the quotes of a symbol stay in order.
    Grpc(Box<tokio::sync::Mutex<GrpcStream>>),
}

/// What the user hears at the end.
#[derive(Default)]
struct Told {
    failure: Option<Failure>,
    reasons: BTreeMap<String, Reason>,
}

/// A reason of rejection, with an example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) count: u64,
    pub(crate) example: String,
}

/// The sink can take nothing more; why, [`ServerSink::failure`] knows.
#[derive(Debug)]
struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server takes no more quotes")
    }
}

impl std::error::Error for Gone {}

impl ServerSink {
    /// Connects to a server, by HTTP or gRPC as the URL says.
    pub(crate) async fn connect(url: &Url, key: Option<String>, ca: &CaArg) -> Result<Self, Failure> {
        let transport = match url.protocol() {
            Protocol::Http => Transport::Http(HttpPublisher::new(url, key, ca)?),
            Protocol::Grpc => Transport::Grpc(Box::new(tokio::sync::Mutex::new(GrpcStream::connect(url, key).await?))),
        };
        Ok(Self { transport, told: Mutex::default() })
    }

    /// Why it could not go on, if so; once.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.told().failure.take()
    }

    /// Why quotes were rejected, by the stable name of the reason.
    pub(crate) fn reasons(&self) -> BTreeMap<String, Reason> {
        self.told().reasons.clone()
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, quotes: &[Quote], refused: &Refused) {
        let reasons = &mut self.told().reasons;
        if let Some(reason) = reasons.get_mut(&refused.code) {
            reason.count += 1;
        } else if reasons.len() < REASONS_MAX {
            let symbol = quotes.get(refused.index).map_or("?", |quote| quote.symbol().as_str());
            let example = format!("{symbol}: {}", refused.error);
            reasons.insert(refused.code.clone(), Reason { count: 1, example });
        }
    }
}

impl QuoteSink for ServerSink {
    async fn offer(&self, quotes: Vec<Quote>) -> Result<Offered, SinkError> {
        let sent = match &self.transport {
            Transport::Http(publisher) => {
                let lines: Vec<String> = quotes.iter().map(|quote| wire::quote_json(quote).to_string()).collect();
                publisher.send(ContentType::Ndjson, Bytes::from(lines.join("\n")), quotes.len()).await
            }
            Transport::Grpc(stream) => stream.lock().await.send(&quotes).await,
        };
        let report = sent.map_err(|failure| {
            self.told().failure = Some(failure);
            SinkError::from(Box::<dyn std::error::Error + Send + Sync>::from(Gone))
        })?;
        for refused in report.refused.iter().filter(|refused| !refused.retryable) {
            self.tell(&quotes, refused);
        }
        Ok(sort_out(quotes, &report))
    }
}

/// Tells what is to be offered again from what is refused for good.
fn sort_out(quotes: Vec<Quote>, report: &Report) -> Offered {
    let again = |index: usize| report.refused.iter().any(|refused| refused.retryable && refused.index == index);
    let rest: Vec<Quote> =
        quotes.into_iter().enumerate().filter(|(index, _)| again(*index)).map(|(_, quote)| quote).collect();
    let rejected = report.refused.iter().filter(|refused| !refused.retryable).count() as u64;
    Offered { accepted: report.accepted, rejected, rest, retry_after: report.retry_after }
}

/// An acknowledged stream of batches.
struct GrpcStream {
    address: String,
    requests: mpsc::Sender<PublishRequest>,
    responses: Streaming<PublishResponse>,
}

impl GrpcStream {
    async fn connect(url: &Url, key: Option<String>) -> Result<Self, Failure> {
        let address = url.to_string();
        let endpoint = Endpoint::from_shared(url.origin())
            .map_err(|error| Failure::usage(format!("--to {address}: {error}")))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true);
        let channel = endpoint.connect().await.map_err(|error| {
            let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Failure::Unreachable(format!("cannot connect to {address}: {cause}; is the server running?"))
        })?;
        let (requests, receiver) = mpsc::channel(1);
        let outgoing = stream::unfold(receiver, async |mut receiver: mpsc::Receiver<PublishRequest>| {
            receiver.recv().await.map(|request| (request, receiver))
        });
        let mut request = Request::new(outgoing);
        if let Some(key) = key {
            let value: MetadataValue<_> = format!("Bearer {key}")
                .parse()
                .map_err(|_| Failure::usage("--key holds characters that a header cannot carry"))?;
            request.metadata_mut().insert("authorization", value);
        }
        let opened = MarketServiceClient::new(channel).publish_acked(request).await;
        let responses = opened.map_err(|status| refusal(&address, &status))?.into_inner();
        Ok(Self { address, requests, responses })
    }

    async fn send(&mut self, quotes: &[Quote]) -> Result<Report, Failure> {
        // A closed stream says why in its responses.
        let _ = self.requests.send(wire::request(quotes)).await;
        match tokio::time::timeout(ANSWER_TIMEOUT, self.responses.message()).await {
            Ok(Ok(Some(response))) => Ok(wire::report(response)),
            Ok(Ok(None)) => Err(Failure::failed(format!("{}: the server has ended the stream", self.address))),
            Ok(Err(status)) => Err(refusal(&self.address, &status)),
            Err(_) => Err(Failure::failed(format!("{}: no answer within {ANSWER_TIMEOUT:?}", self.address))),
        }
    }
}

fn refusal(address: &str, status: &tonic::Status) -> Failure {
    let text = format!("{address}: {}: {}", status.code(), status.message());
    match status.code() {
        Code::Unavailable => Failure::Unreachable(text),
        // What a client makes of an answer that is no gRPC.
        Code::Internal | Code::Unknown | Code::Unimplemented => {
            Failure::failed(format!("{text}\nis that the port of listen.grpc, by default 4001?"))
        }
        _ => Failure::failed(text),
    }
}

#[cfg(test)]
mod tests {
    use tickwire_market::{QuoteFields, Symbol};

    use super::*;

    #[test]
    fn what_may_be_sent_again_keeps_its_order() {
        let quote = |symbol: &str| {
            let mut fields = QuoteFields::new(Symbol::new(symbol).unwrap());
            fields.bid = Some("1".parse().unwrap());
            Quote::new(fields).unwrap()
        };
        let refused = |index, retryable| Refused { index, error: "no".to_owned(), code: "c".to_owned(), retryable };
        let refused = vec![refused(3, true), refused(0, false), refused(1, true)];
        let report = Report { accepted: 1, refused, ..Report::default() };
        let offered = sort_out(vec![quote("A"), quote("B"), quote("C"), quote("D")], &report);
        let rest: Vec<_> = offered.rest.iter().map(|quote| quote.symbol().as_str()).collect();
        assert_eq!((rest, offered.accepted, offered.rejected), (vec!["B", "D"], 1, 1));
    }
}
