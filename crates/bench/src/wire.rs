//! The bench's quotes on their way over gRPC.

use std::time::Duration;

use futures_util::stream;
use tickwire_proto::v1::{PublishRequest, PublishResponse, Quote, market_service_client::MarketServiceClient};
use tokio::sync::mpsc;
use tonic::{Request, Streaming, metadata::MetadataValue, transport::Endpoint};

use crate::{BenchError, scan::symbol_name};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Batches that may wait in front of the connection: enough to fill its pipe, few enough to notice that it is full.
const QUEUED_MAX: usize = 16;

/// The quotes of the bench's symbols.
///
/// Prices move by a digit from quote to quote, so that nothing on the way can take one for another.
#[derive(Debug, Default)]
pub(crate) struct QuoteMaker {
    /// By the symbols' numbers, as far as they were needed.
    names: Vec<String>,
}

impl QuoteMaker {
    /// The quote with that number in a run, due at `ts` (microseconds since 1970).
    pub(crate) fn quote(&mut self, symbol: usize, number: u64, ts: i64) -> Quote {
        while self.names.len() <= symbol {
            self.names.push(symbol_name(self.names.len()));
        }
        let digit = number % 1000;
        Quote {
            symbol: self.names[symbol].clone(),
            bid: format!("1.08{digit:03}"),
            ask: format!("1.09{digit:03}"),
            bid_size: "1000000".to_owned(),
            ask_size: "1500000".to_owned(),
            ts,
            ..Quote::default()
        }
    }
}

/// The sending half of an acknowledged stream.
pub(crate) struct Requests(mpsc::Sender<PublishRequest>);

/// The answering half.
pub(crate) struct Answers {
    address: String,
    stream: Streaming<PublishResponse>,
}

/// What became of one batch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    /// The first reason.
    pub(crate) reason: Option<String>,
}

/// Opens an acknowledged stream to `origin`, such as `http://127.0.0.1:4001`.
pub(crate) async fn open(origin: &str, key: Option<&str>) -> Result<(Requests, Answers), BenchError> {
    let address = origin.to_owned();
    let refused = |problem: String| BenchError::Refused { address: address.clone(), problem };
    let endpoint = Endpoint::from_shared(address.clone()).map_err(|error| BenchError::Option(error.to_string()))?;
    let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true).connect().await.map_err(|error| {
        let problem = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        BenchError::Unreachable { address: address.clone(), problem }
    })?;
    let (sender, receiver) = mpsc::channel(QUEUED_MAX);
    let outgoing = stream::unfold(receiver, async |mut receiver: mpsc::Receiver<PublishRequest>| {
        receiver.recv().await.map(|request| (request, receiver))
    });
    let mut request = Request::new(outgoing);
    if let Some(key) = key {
        let value: MetadataValue<_> = format!("Bearer {key}")
            .parse()
            .map_err(|_| BenchError::Option("the key holds characters that a header cannot carry".to_owned()))?;
        request.metadata_mut().insert("authorization", value);
    }
    let opened = MarketServiceClient::new(channel).publish_acked(request).await;
    let stream = opened.map_err(|status| refused(format!("{}: {}", status.code(), status.message())))?.into_inner();
    Ok((Requests(sender), Answers { address, stream }))
}

impl Requests {
    /// Sends a batch, waiting while the connection is full. `false` if it is gone: its answers say why.
    pub(crate) async fn send(&self, quotes: Vec<Quote>) -> bool {
        self.0.send(PublishRequest { quotes }).await.is_ok()
    }
}

impl Answers {
    /// The answer to the oldest batch without one; `None` when all are answered and the stream is closed.
    pub(crate) async fn next(&mut self) -> Result<Option<Answer>, BenchError> {
        let message = self.stream.message().await.map_err(|status| BenchError::Refused {
            address: self.address.clone(),
            problem: format!("{}: {}", status.code(), status.message()),
        })?;
        Ok(message.map(|message| Answer {
            accepted: message.accepted,
            rejected: message.rejected_total.max(message.rejected.len() as u64),
            reason: message.rejected.into_iter().next().map(|rejection| rejection.error),
        }))
    }
}
