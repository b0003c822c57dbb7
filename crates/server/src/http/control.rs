//! What operators ask of the public port: closing a user's sockets, refreshing a symbol on all nodes.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use tickwire_channels::{CloseReason, SocketInfo};
use tickwire_market::LatestError;

use super::{PathText, Writer, body, problem::Problem, quotes::json_answer, symbol};
use crate::app::Node;

/// Whose sockets are closed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with user or id")]
struct Disconnect {
    /// All of a user's, by the `sub` of their tokens.
    user: Option<String>,
    /// Those of one socket id, such as `users_socket:ann`.
    id: Option<String>,
}

/// `POST /v1/disconnect`: closes the sockets of a user or of a socket id, 1001. The user's token stays valid: whoever must not come back
/// needs another secret or a short life of tokens.
pub(super) async fn disconnect(
    State(node): State<Arc<Node>>,
    writer: Writer,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    writer.principal.may_administer()?;
    let Disconnect { user, id } = body::read_json(&headers, body, node.live().config.limits.body_bytes).await?;
    let picks: Box<dyn Fn(&SocketInfo) -> bool + Send + Sync> = match (user, id) {
        (Some(user), None) if !user.is_empty() => Box::new(move |socket| socket.user.as_deref() == Some(&user)),
        (None, Some(id)) if !id.is_empty() => Box::new(move |socket| socket.id.as_deref() == Some(&id)),
        _ => {
            let detail = "Expected either user, the `sub` of a token, or id, a socket id such as \"users_socket:ann\"; not empty.";
            return Err(Problem::bad_request("invalid_user", detail));
        }
    };
    tracing::info!(by = ?writer.principal.who(), "sockets are disconnected");
    node.workers.close_where(picks, CloseReason::Disconnected);
    Ok(StatusCode::ACCEPTED.into_response())
}

/// `POST /v1/cache/{symbol}/refresh`: what each node has of a symbol, once it is fresh. A lone node owns every symbol and is always fresh.
pub(super) async fn refresh(
    State(node): State<Arc<Node>>,
    writer: Writer,
    PathText(rest): PathText,
) -> Result<Response, Problem> {
    writer.principal.may_administer()?;
    let text = rest
        .strip_suffix("/refresh")
        .ok_or_else(|| Problem::not_found("no_such_path", "Symbols are refreshed at /v1/cache/SYMBOL/refresh."))?;
    let symbol = symbol(text)?;
    let began = std::time::Instant::now();
    let outcome = match node.market.latest(&symbol).wait().await {
        Ok(_) => "ok",
        Err(LatestError::UnknownSymbol) => "unknown_symbol",
        Err(LatestError::OwnerUnreachable) => "owner_unreachable",
    };
    let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let answer =
        json!({"symbol": symbol.as_str(), "nodes": [{"node": node.id.name, "result": outcome, "took_us": took_us}]});
    Ok(json_answer(answer.to_string()))
}
