//! Quotes, the same ones in every run, and the ways in which they are published.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use futures_util::stream;
use tickwire_proto::v1::{self as pb, market_service_client::MarketServiceClient};
use tokio::{runtime::Runtime, sync::mpsc};
use tonic::Streaming;

use crate::{server::Server, socket::Http};

/// As many symbols as there are in the market of docs/performance.md.
pub(crate) const SYMBOLS: usize = 500;

pub(crate) fn symbol(number: usize) -> String {
    format!("SYM{:03}", number % SYMBOLS)
}

/// The quote with this number: five digits behind the point, sizes, a time that rises; its update has some 200 bytes.
pub(crate) fn quote(symbol: String, number: usize) -> pb::Quote {
    let ticks = 112_000 + number * 7 % 1_000;
    let price = |ticks: usize| format!("{}.{:05}", ticks / 100_000, ticks % 100_000);
    let ts = 1_700_000_000_000_000 + i64::try_from(number).unwrap_or(i64::MAX);
    let size = |scale: usize| format!("{}.50", 100 + number * scale % 900);
    pb::Quote {
        symbol,
        bid: price(ticks),
        ask: price(ticks + 3),
        bid_size: size(3),
        ask_size: size(7),
        ts,
        ..pb::Quote::default()
    }
}

/// A media type of `POST /v1/quotes`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Body {
    Json,
    Ndjson,
    Csv,
}

impl Body {
    fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
        }
    }

    fn write(self, quotes: &[pb::Quote]) -> Result<String> {
        let object = |quote: &pb::Quote| {
            let pb::Quote { symbol, bid, ask, bid_size, ask_size, ts, .. } = quote;
            format!(
                r#"{{"symbol":"{symbol}","bid":"{bid}","ask":"{ask}","bid_size":"{bid_size}","ask_size":"{ask_size}","ts":{ts}}}"#
            )
        };
        let objects = quotes.iter().map(object);
        Ok(match self {
            Self::Json => format!("[{}]", objects.collect::<Vec<_>>().join(",")),
            Self::Ndjson => objects.map(|object| object + "\n").collect(),
            Self::Csv => {
                let mut text = "symbol,bid,ask,bid_size,ask_size,ts\n".to_owned();
                for pb::Quote { symbol, bid, ask, bid_size, ask_size, ts, .. } in quotes {
                    writeln!(text, "{symbol},{bid},{ask},{bid_size},{ask_size},{ts}")?;
                }
                text
            }
        })
    }
}

/// Publishes over one HTTP connection.
pub(crate) struct HttpPublisher(Http);

impl HttpPublisher {
    pub(crate) fn connect(server: &Server) -> Result<Self> {
        Http::connect(server.http).map(Self)
    }

    /// Publishes a batch and waits until it has been taken.
    pub(crate) fn publish(&mut self, body: Body, quotes: &[pb::Quote]) -> Result<()> {
        let text = body.write(quotes)?;
        let media_type = body.media_type();
        let head = format!(
            "POST /v1/quotes HTTP/1.1\r\nhost: guard\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\n\r\n",
            text.len()
        );
        self.0.send((head + &text).as_bytes())?;
        let (status, length) = self.0.head()?;
        let answer = self.0.body(length.context("an answer without a length")?)?;
        let answer = String::from_utf8_lossy(&answer);
        let taken = format!(r#""accepted":{},"#, quotes.len());
        ensure!(status.starts_with("HTTP/1.1 202") && answer.contains(&taken), "{status}: {answer}");
        Ok(())
    }
}

/// Publishes over one gRPC stream.
pub(crate) struct GrpcPublisher {
    runtime: Runtime,
    batches: mpsc::Sender<pb::PublishRequest>,
    answers: Streaming<pb::PublishResponse>,
}

impl GrpcPublisher {
    pub(crate) fn connect(server: &Server) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (batches, outgoing) = mpsc::channel(1);
        let outgoing = stream::unfold(outgoing, async |mut queue| Some((queue.recv().await?, queue)));
        let answers = runtime.block_on(async {
            let mut client = MarketServiceClient::connect(format!("http://{}", server.grpc)).await?;
            anyhow::Ok(client.publish_acked(outgoing).await?.into_inner())
        })?;
        Ok(Self { runtime, batches, answers })
    }

    /// Publishes a batch and waits until it has been taken.
    pub(crate) fn publish(&mut self, quotes: Vec<pb::Quote>) -> Result<()> {
        let count = quotes.len();
        let answer = self.runtime.block_on(async {
            self.batches.send(pb::PublishRequest { quotes }).await?;
            anyhow::Ok(self.answers.message().await?.context("the server has ended the stream")?)
        })?;
        ensure!(answer.accepted == count as u64 && answer.rejected.is_empty(), "{answer:?}");
        Ok(())
    }
}
