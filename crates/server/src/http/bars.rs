//! `GET /v1/bars/{symbol}`: open, high, low and close of the mid price.

use std::sync::Arc;

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tickwire_market::{
    bars::{Bar, BarsQuery, Interval},
    parse_ts,
};

use super::{
    Client, PathText, may_read,
    problem::{Problem, shown},
    quotes::json_answer,
    symbol,
};
use crate::app::Node;

/// Bars of an answer that asks for no number, and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;

#[derive(Debug, Deserialize)]
pub(super) struct Params {
    interval: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
}

/// Answers the bars of a symbol, oldest first, and the extremes of its day.
pub(super) async fn read(
    State(node): State<Arc<Node>>,
    client: Client,
    PathText(text): PathText,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<Response, Problem> {
    let symbol = symbol(&text)?;
    may_read(&node, &client.principal, &symbol)?;
    let Query(params) = params.map_err(|error| invalid(error.body_text()))?;
    let query = query(&params)?;
    let answer = node.bars.query(&symbol, query);
    if answer.bars.is_empty() && answer.day.is_none() {
        let detail = format!("There are no bars of {symbol}; they begin with its first two-sided quote.");
        return Err(Problem::not_found("unknown_symbol", detail));
    }
    let day = answer.day.map(
        |day| json!({"start": day.start, "high": day.high.to_string(), "low": day.low.to_string(), "gap": day.gap}),
    );
    let bars: Vec<_> = answer.bars.iter().map(bar).collect();
    let body = json!({"symbol": symbol.as_str(), "interval": query.interval.name(), "bars": bars, "day": day});
    Ok(json_answer(body.to_string()))
}

fn query(params: &Params) -> Result<BarsQuery, Problem> {
    let interval: Interval =
        params.interval.as_deref().unwrap_or("1m").parse().map_err(|error| invalid(format!("{error}.")))?;
    let limit = params.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(invalid(format!("limit is {limit}, expected 1 to {LIMIT_MAX}.")));
    }
    let (from, to) = (time("from", params.from.as_deref())?, time("to", params.to.as_deref())?);
    Ok(BarsQuery { interval, from, to, limit })
}

/// Microseconds since 1970, or RFC 3339.
fn time(name: &str, text: Option<&str>) -> Result<Option<i64>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let time = text.parse().ok().or_else(|| parse_ts(text.as_bytes()).ok());
    let wrong = || {
        invalid(format!(
            "{name} is {:?}, expected microseconds since 1970, or a time such as 2026-03-04T12:30:00Z.",
            shown(text)
        ))
    };
    time.map(Some).ok_or_else(wrong)
}

fn bar(bar: &Bar) -> Value {
    let mut json = json!({
        "start": bar.start,
        "open": bar.open.to_string(),
        "high": bar.high.to_string(),
        "low": bar.low.to_string(),
        "close": bar.close.to_string(),
        "count": bar.count,
    });
    // What is out of the ordinary is said; the ordinary is not repeated bar by bar.
    if bar.revision > 0 {
        json["revision"] = json!(bar.revision);
    }
    if bar.gap {
        json["gap"] = json!(true);
    }
    json
}

fn invalid(detail: String) -> Problem {
    Problem::bad_request("invalid_params", detail)
}
