//! The public port: sockets, the HTTP API and the page.

mod bars;
mod body;
mod broadcast;
mod control;
mod demo;
mod identify;
pub(crate) mod longpoll;
pub(crate) mod mount;
mod openapi;
mod page;
pub(crate) mod problem;
mod quotes;
mod stream;
mod unread;
mod ws;

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, LazyLock},
    time::Instant,
};

use ::metrics::{Counter, Histogram, counter, histogram};
use axum::{
    Router,
    extract::{FromRequestParts, Path, Request},
    http::{HeaderMap, Method, StatusCode, Uri, header, request::Parts},
    middleware::{Next, from_fn},
    response::{IntoResponse as _, Response},
    routing::{any, get, post},
};
use futures_util::FutureExt as _;
use tickwire_channels::handshake;
use tickwire_faults::{Unit, point};

use self::problem::Problem;
pub(crate) use self::ws::{Decided, Greeting, adopt_into, greet};
use crate::{
    app::Node,
    auth::{AuthError, Principal},
    listener::Connection,
    metrics, telemetry,
};

/// Everything that the public port answers.
pub(crate) fn router(node: &Arc<Node>) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/assets/{*name}", get(page::asset))
        .route("/v1/openapi.json", get(openapi::document))
        .route("/v1/quotes", get(quotes::list).post(quotes::publish))
        .route("/v1/quotes/{*symbol}", get(quotes::one))
        .route("/v1/bars/{*symbol}", get(bars::read))
        .route("/v1/stream", get(stream::follow))
        .route("/v1/topics/{*rest}", post(broadcast::publish))
        .route("/v1/disconnect", post(control::disconnect))
        .route("/v1/cache/{*rest}", post(control::refresh))
        .route("/demo/publish", any(demo::publish))
        .route("/demo/publish_binary", any(demo::publish_binary))
        .route("/demo/disconnect", any(demo::disconnect))
        .fallback(mount::answer)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(from_fn(observe))
        .with_state(Arc::clone(node))
}

/// Counts requests and times them.
async fn observe(request: Request, next: Next) -> Response {
    let request = unread::read_on(request);
    let (method, uri) = (request.method().clone(), request.uri().clone());
    observed(&method, &uri, next.run(request)).await
}

/// Answers a request, counts and times it, and outlives a panic.
async fn observed(method: &Method, uri: &Uri, answer: impl Future<Output = Response>) -> Response {
    let began = Instant::now();
    let answered = AssertUnwindSafe(async {
        point(Unit::Request, || uri.path());
        answer.await
    });
    // The panic itself is logged by the hook, with its place; to the client it is our fault and nothing more.
    let response = answered.catch_unwind().await.unwrap_or_else(|_| Problem::internal().into_response());
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && method == Method::GET {
        count_upgrade(began);
        return response;
    }
    let method = method_label(method);
    let status = response.status().as_str().to_owned();
    histogram!(metrics::HTTP_DURATION, "status" => status.clone(), "method" => method).record(began.elapsed());
    counter!(metrics::HTTP_REQUESTS, "status" => status, "method" => method).increment(1);
    response
}

/// The same as for any other answer, for one of which a herd gets thousands: its meters are looked up once.
fn count_upgrade(began: Instant) {
    static METERS: LazyLock<(Histogram, Counter)> = LazyLock::new(|| {
        let duration = histogram!(metrics::HTTP_DURATION, "status" => "101", "method" => "GET");
        (duration, counter!(metrics::HTTP_REQUESTS, "status" => "101", "method" => "GET"))
    });
    let (duration, requests) = &*METERS;
    duration.record(began.elapsed());
    requests.increment(1);
}

/// A method as a label: clients may invent methods, labels come from a closed set.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Who makes a request.
#[derive(Debug)]
pub(crate) struct Client {
    /// By what it shows.
    pub(crate) principal: Principal,
}

impl FromRequestParts<Arc<Node>> for Client {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Result<Self, Problem> {
        Ok(Self { principal: node.live().auth.identify_request(&parts.headers).await? })
    }
}

/// A client that wants to change something. A browser sends credentials that it has for us along with the requests of any page: only pages
/// of the host that the request names may change anything.
#[derive(Debug)]
pub(crate) struct Writer {
    /// By what it shows.
    pub(crate) principal: Principal,
}

impl FromRequestParts<Arc<Node>> for Writer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Result<Self, Problem> {
        let origin = parts.headers.get(header::ORIGIN).map(|origin| origin.as_bytes());
        let host = host(&parts.headers, &parts.uri);
        handshake::Origins::SameHost.check(origin, host.as_deref()).map_err(|mismatch| {
            let detail = format!("A page of another host may not change anything here: {mismatch}");
            telemetry::refused("origin_not_allowed", "a request is refused", &detail);
            Problem::forbidden("origin_not_allowed", detail)
        })?;
        let Client { principal } = Client::from_request_parts(parts, node).await?;
        Ok(Self { principal })
    }
}

/// The host that a request names: HTTP/2 has it in the target.
fn host(headers: &HeaderMap, uri: &Uri) -> Option<Vec<u8>> {
    let header = headers.get(header::HOST).map(|host| host.as_bytes().to_vec());
    header.or_else(|| uri.authority().map(|authority| authority.as_str().as_bytes().to_vec()))
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let detail = error.to_string();
        Self::denied(&error, detail)
    }
}

/// Whether somebody may read the values of a symbol: who may join its topic may.
fn may_read(node: &Node, principal: &Principal, symbol: &tickwire_market::Symbol) -> Result<(), Problem> {
    let topic = symbol.ticker_topic();
    match node.live().channel_of(&topic) {
        Some(setting) => principal.may_join(&topic, setting.rule.join)?,
        None => principal.may_read()?,
    }
    Ok(())
}

/// A symbol in a path.
fn symbol(text: &str) -> Result<tickwire_market::Symbol, Problem> {
    tickwire_market::Symbol::new(text).map_err(|error| Problem::bad_request("invalid_symbol", format!("{error}.")))
}

/// The rest of a path, decoded.
pub(crate) struct PathText(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::from_request_parts(parts, state).await.map_err(|error| {
            Problem::bad_request("invalid_path", format!("{}; expected percent-encoded UTF-8.", error.body_text()))
        })?;
        Ok(Self(text))
    }
}

/// The connection of a request.
fn connection(request: &Request) -> Option<Connection> {
    request.extensions().get::<Connection>().cloned()
}

#[cfg(test)]
mod tests;
