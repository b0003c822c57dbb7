//! `/v1/quotes`: publishing, and the latest values.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tickwire_market::{
    Batch, IngestReport, Latest, LatestError, Market, Rejected,
    decode::{BodyError, decode_csv, decode_json, decode_ndjson},
};

use super::{Client, PathText, Writer, body, may_read, problem::Problem, symbol};
use crate::{app::Node, auth::Principal};

const ACCEPTED_TYPES: &str = "application/json, application/x-ndjson, text/csv";

/// How many rejections an answer lists; all of them are counted.
const REJECTIONS_MAX: usize = 1_000;

/// Quotes of a page that asks for no number.
const PAGE: usize = 500;

/// Quotes that are written at once: some 16 KiB.
const PIECE: usize = 64;

/// `POST /v1/quotes`.
pub(super) async fn publish(
    State(node): State<Arc<Node>>,
    writer: Writer,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    writer.principal.may_publish()?;
    let media_type = body::media_type(&headers);
    let decode: fn(&[u8], usize) -> Result<Batch, BodyError> = match media_type.as_str() {
        "application/json" => decode_json,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => decode_ndjson,
        "text/csv" => decode_csv,
        seen => return Err(body::unsupported(seen, ACCEPTED_TYPES)),
    };
    let body = body::read(&headers, body, node.live().config.limits.body_bytes).await?;
    let batch = decode(&body, node.market.config().batch_max).map_err(refused_body)?;
    // What was read is not needed any more, and the owners may take a while.
    drop(body);
    let report = node.market.ingest(batch).await;
    if report.is_busy() {
        let detail =
            "The consumers of this node have no room. What is not in `rejected` was taken; send the rest again, later.";
        let (accepted, duplicates, rejected, total) = parts(&report);
        return Err(Problem::busy(detail)
            .with("accepted", accepted)
            .with("duplicates", duplicates)
            .with("rejected", rejected)
            .with("rejected_total", total));
    }
    let (accepted, duplicates, rejected, total) = parts(&report);
    let answer = json!({"accepted": accepted, "duplicates": duplicates, "rejected": rejected, "rejected_total": total});
    Ok((StatusCode::ACCEPTED, [(header::CACHE_CONTROL, "no-store")], axum::Json(answer)).into_response())
}

fn refused_body(error: BodyError) -> Problem {
    match error {
        BodyError::Malformed(_) => Problem::bad_request(error.code(), format!("The body cannot be read: {error}.")),
        BodyError::TooManyQuotes { .. } => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error.code(), "The body is too large", format!("{error}."))
        }
    }
}

fn parts(report: &IngestReport) -> (Value, Value, Value, Value) {
    let rejected: Vec<_> = report.rejected.iter().take(REJECTIONS_MAX).map(rejection).collect();
    (json!(report.accepted), json!(report.duplicates), json!(rejected), json!(report.rejected.len()))
}

fn rejection(rejected: &Rejected) -> Value {
    let Rejected { index, rejection } = rejected;
    json!({"index": index, "error": rejection.to_string(), "code": rejection.code(), "retryable": rejection.retryable()})
}

#[derive(Debug, Deserialize)]
pub(super) struct Page {
    after: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/quotes`: this node's symbols by name, as far as the client may read them.
pub(super) async fn list(
    State(node): State<Arc<Node>>,
    client: Client,
    page: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    client.principal.may_read()?;
    let Query(page) = page.map_err(|error| Problem::bad_request("invalid_params", error.body_text()))?;
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=Market::LIST_MAX).contains(&limit) {
        let detail = format!("limit is {limit}, expected 1 to {}.", Market::LIST_MAX);
        return Err(Problem::bad_request("invalid_params", detail));
    }
    let after = page.after.as_deref().filter(|after| !after.is_empty());
    if let Some(Err(error)) = after.map(tickwire_market::Symbol::new) {
        return Err(Problem::bad_request("invalid_params", format!("after: {error}.")));
    }
    let after = after.map(str::to_owned);
    let mut listing = Listing { node, principal: client.principal, after, left: limit, begun: false, listed: false };
    let first = listing.piece().unwrap_or_default();
    if listing.left == 0 {
        return Ok(json_answer(first));
    }
    let first = stream::iter([Ok::<_, Infallible>(first)]);
    let rest = stream::iter(std::iter::from_fn(move || listing.piece()).map(Ok));
    Ok(json_answer(Body::from_stream(first.chain(rest))))
}

/// A list that is being answered, piece by piece as its client takes it: one that asks for many and reads none of them makes us hold little.
struct Listing {
    node: Arc<Node>,
    principal: Principal,
    /// The last symbol that was looked at.
    after: Option<String>,
    /// Symbols that may follow; 0 once the answer is complete.
    left: usize,
    begun: bool,
    /// Whether a quote was written, behind which the next one needs a comma.
    listed: bool,
}

impl Listing {
    /// The next piece of the answer; `None` behind the last one.
    fn piece(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let asked = self.left.min(PIECE);
        let quotes = self.node.market.list(self.after.as_deref(), asked);
        let mut out = Vec::with_capacity(quotes.len() * 256 + 64);
        if !std::mem::replace(&mut self.begun, true) {
            out.extend_from_slice(b"{\"quotes\":[");
        }
        for latest in &quotes {
            if may_read(&self.node, &self.principal, &latest.symbol).is_err() {
                continue;
            }
            if std::mem::replace(&mut self.listed, true) {
                out.push(b',');
            }
            out.extend_from_slice(&latest.to_json());
        }
        // A page that is not full is the last one, whatever of it the client may see.
        let last = quotes.last().filter(|_| quotes.len() == asked).map(|last| last.symbol.to_string());
        self.left = if last.is_some() { self.left - asked } else { 0 };
        if self.left == 0 {
            out.extend_from_slice(b"],\"next\":");
            out.extend_from_slice(json!(last).to_string().as_bytes());
            out.push(b'}');
        }
        self.after = last;
        Some(out.into())
    }
}

/// `GET /v1/quotes/{symbol}`.
pub(super) async fn one(
    State(node): State<Arc<Node>>,
    client: Client,
    PathText(text): PathText,
) -> Result<Response, Problem> {
    let symbol = symbol(&text)?;
    may_read(&node, &client.principal, &symbol)?;
    let latest: Result<Latest, LatestError> = node.market.latest(&symbol).wait().await;
    match latest {
        Ok(latest) => Ok(json_answer(latest.to_json())),
        Err(LatestError::UnknownSymbol) => Err(Problem::not_found(
            "unknown_symbol",
            format!("Nobody has quoted {symbol} here; GET /v1/quotes lists the symbols that are."),
        )),
        Err(error @ LatestError::OwnerUnreachable) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "owner_unreachable",
            "The value cannot be read at the moment",
            format!("{error}."),
        )
        .header(header::RETRY_AFTER, HeaderValue::from_static("1"))),
    }
}

/// An answer that is true for the moment only.
pub(super) fn json_answer(body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body.into()).into_response()
}
