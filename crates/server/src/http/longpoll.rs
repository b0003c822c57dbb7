//! Long polling: what a client does that cannot keep a WebSocket open.
//!
//! WIRE: every answer has the HTTP status 200 and says its real status in the body, but for a few that `docs/protocol.md` lists. A session that
//! is opened is answered with 410: to a client, that is a session which it has not yet.

mod body;
mod token;

use std::{sync::Arc, time::SystemTime};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    response::Response,
};
use serde::Serialize;
use tickwire_channels::{
    AdoptError, PollAnswer, PollId, PublishAnswer, WireFormat,
    handshake::{AuthToken, OriginMismatch, Params, QueryError, Refusal},
    longpoll::{self, BadBody},
};

pub(crate) use self::token::SessionTokens;
use super::{
    host,
    identify::{self, Opening},
    mount::Mount,
};
use crate::{app::Node, listener::Connection};

const SESSION_TOKEN: HeaderName = HeaderName::from_static("x-phoenix-longpoll-token");
const AUTH_TOKEN: HeaderName = HeaderName::from_static("x-phoenix-authtoken");

/// Answers a request to a mount's long polling.
pub(super) async fn answer(node: Arc<Node>, mount: Arc<Mount>, request: Request) -> Response {
    if let Err(refusal) = check_origin(&request, &mount) {
        return refuse(&refusal, &mount);
    }
    match *request.method() {
        Method::OPTIONS => return preflight(request.headers()),
        Method::GET | Method::POST => {}
        _ => return finish(StatusCode::BAD_REQUEST, Body::empty()),
    }
    let Query { session, params } = match Query::parse(request.uri().query().unwrap_or_default()) {
        Ok(query) => query,
        Err(error) => {
            let refusal = Refusal::Query(error);
            identify::log_handshake(&refusal, &mount);
            return fail(StatusCode::BAD_REQUEST, 400, refusal.code());
        }
    };
    let shown = request.headers().get(SESSION_TOKEN).map(|token| token.to_str().unwrap_or_default().to_owned());
    let session = shown.or(session).and_then(|token| read_token(&node, &mount, token));
    match *request.method() {
        Method::GET => {
            let (parts, _) = request.into_parts();
            match session {
                Some(session) => poll(&node, &mount, session, params, &parts).await,
                None => open(&node, &mount, params, &parts).await,
            }
        }
        _ => publish(&node, &mount, session, request).await,
    }
}

/// A session, and the token that its client showed for it.
struct Session {
    id: PollId,
    token: String,
}

fn read_token(node: &Node, mount: &Mount, token: String) -> Option<Session> {
    match node.session_tokens.read(&token, &mount.rules.path, now_ms(), mount.rules.longpoll_token_max_age) {
        Ok(id) => Some(Session { id, token }),
        Err(error) => {
            tracing::debug!(%error, "a session token is of no use");
            None
        }
    }
}

/// Opens a session.
async fn open(node: &Node, mount: &Mount, params: Params, request: &Parts) -> Response {
    let refused = |refusal: Refusal| refuse(&refusal, mount);
    let format = match WireFormat::from_vsn(params.get("vsn")) {
        Ok(format) => format,
        Err(error) => return refused(error.into()),
    };
    if node.health.is_draining() && node.accepting.cancelled().is_cancelled() {
        return turn_away(&AdoptError::Draining);
    }
    let Some(connection) = request.extensions.get::<Connection>().cloned() else {
        return turn_away(&AdoptError::Broken);
    };
    let auth_token = request.headers.get(AUTH_TOKEN).filter(|_| mount.rules.auth_token);
    let auth_token = auth_token.map(|token| AuthToken::new(String::from_utf8_lossy(token.as_bytes()).into_owned()));
    let peer = connection.peer;
    let opening = Opening { connection, format, params, session: true, auth_token };
    let info = match identify::open(node, mount, &request.headers, opening).await {
        Ok(info) => Arc::new(info),
        Err(denied) => {
            denied.tell(peer);
            return match denied.status() {
                StatusCode::FORBIDDEN => fail(StatusCode::OK, 403, denied.code()),
                status => later(status, denied.code()),
            };
        }
    };
    match node.workers.open(info, mount.rules.longpoll_window) {
        Ok(id) => {
            let token = node.session_tokens.issue(id, &mount.rules.path, now_ms());
            json(&Polled { status: 410, token: &token, messages: &[] })
        }
        Err(error) => turn_away(&error),
    }
}

/// Waits for a session's messages; where there is no session any more, opens another one.
async fn poll(node: &Node, mount: &Mount, session: Session, params: Params, request: &Parts) -> Response {
    let Session { id, token } = session;
    // A client that has hung up by now is noticed before its messages are taken, and the next poll gets them.
    tokio::task::yield_now().await;
    let answer = tokio::select! {
        biased;
        answer = node.workers.poll(id, mount.rules.longpoll_window) => answer,
        // The requests of a node that ends are not waited for beyond this.
        () = node.inner.cancelled().cancelled() => PollAnswer::Nothing,
    };
    match answer {
        PollAnswer::Messages(messages) => json(&Polled { status: 200, token: &token, messages: &messages }),
        PollAnswer::Nothing => json(&Polled { status: 204, token: &token, messages: &[] }),
        PollAnswer::Gone => open(node, mount, params, request).await,
    }
}

/// Hands a session what its client sent.
async fn publish(node: &Node, mount: &Mount, session: Option<Session>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let asked = body::Asked {
        wanted: session.is_some(),
        waits: parts.headers.contains_key(header::EXPECT),
        configured_max: node.live().config.limits.body_bytes,
    };
    let body = match body::read(body, asked).await {
        Ok(body) => body,
        Err(error) => {
            identify::log(error.code(), &error);
            return fail(StatusCode::BAD_REQUEST, 400, error.code());
        }
    };
    let Some(Session { id, .. }) = session else { return json(&Status { status: 410 }) };
    let mut types = parts.headers.get_all(header::CONTENT_TYPE).iter();
    let content_type = types.next().filter(|_| types.next().is_none()).map(HeaderValue::as_bytes);
    let messages = match longpoll::messages(content_type, &body, mount.limits.websocket.frame_max) {
        Ok(messages) => messages,
        Err(error) => {
            let (status, code) = match error {
                BadBody::Base64 { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "bad_base64"),
                BadBody::TooBig { .. } => (StatusCode::BAD_REQUEST, "frame_too_big"),
            };
            identify::log(code, &error);
            return fail(status, status.as_u16(), code);
        }
    };
    let status = match node.workers.publish(id, messages).await {
        PublishAnswer::Taken => 200,
        PublishAnswer::Malformed => 408,
        PublishAnswer::Gone => 410,
    };
    json(&Status { status })
}

/// The query of a request.
struct Query {
    /// The last `token`, which is the session's.
    session: Option<String>,
    /// All that is not, for the application: a client may well have a token of its own, which is a parameter of the same name.
    params: Params,
}

impl Query {
    fn parse(query: &str) -> Result<Self, QueryError> {
        let (mut session, mut own) = (None, Vec::new());
        for pair in query.split('&') {
            let token = Params::parse(pair)?.get("token").map(str::to_owned);
            if !token.as_deref().is_some_and(SessionTokens::is_one) {
                own.push(pair);
            }
            session = token.or(session);
        }
        Ok(Self { session, params: Params::parse(&own.join("&"))? })
    }
}

fn check_origin(request: &Request, mount: &Mount) -> Result<(), Refusal> {
    let mut origins = request.headers().get_all(header::ORIGIN).iter();
    let origin = origins.next().map(HeaderValue::as_bytes);
    if origins.next().is_some() {
        // Read as absent, a repeated one would pass as a client that is no browser.
        let (seen, expected) = ("more than one".to_owned(), "one Origin header or none".to_owned());
        return Err(OriginMismatch { seen, expected }.into());
    }
    Ok(mount.rules.origins.check(origin, host(request.headers(), request.uri()).as_deref())?)
}

/// What a browser asks before it lets a page of another host send a request.
fn preflight(asked: &HeaderMap) -> Response {
    let asked: Vec<_> =
        asked.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter().map(HeaderValue::as_bytes).collect();
    let mut response = finish(StatusCode::OK, Body::empty());
    let fields = response.headers_mut();
    if let Ok(asked) = HeaderValue::from_bytes(&asked.join(&b", "[..])) {
        fields.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
    }
    fields.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("get, post, options"));
    fields.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
    response
}

#[derive(Serialize)]
struct Polled<'a> {
    status: u16,
    token: &'a str,
    messages: &'a [String],
}

#[derive(Serialize)]
struct Status {
    status: u16,
}

fn refuse(refusal: &Refusal, mount: &Mount) -> Response {
    identify::log_handshake(refusal, mount);
    fail(StatusCode::OK, 403, refusal.code())
}

/// There is no room at this time.
fn turn_away(error: &AdoptError) -> Response {
    let code = match error {
        AdoptError::Draining => "draining",
        AdoptError::Busy | AdoptError::Broken => "not_adopted",
    };
    identify::log(code, error);
    later(StatusCode::SERVICE_UNAVAILABLE, code)
}

/// Clients know no other status of such a kind than 500, after which they come again later.
fn later(http: StatusCode, code: &'static str) -> Response {
    let mut response = fail(http, 500, code);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Says what was wrong: the status to the client, the code to whoever looks at the headers.
fn fail(http: StatusCode, status: u16, code: &'static str) -> Response {
    let mut response = json(&Status { status });
    *response.status_mut() = http;
    response.headers_mut().insert("x-tickwire-reason", HeaderValue::from_static(code));
    response
}

fn json(body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = finish(StatusCode::OK, Body::from(body));
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn finish(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let fields = response.headers_mut();
    // Any page may ask: which of them are answered is decided by their origin.
    fields.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_epoch.map_or(0, |duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, session: Option<&str>, own: Option<&str>) {
        let parsed = Query::parse(query).unwrap();
        assert_eq!((parsed.session.as_deref(), parsed.params.get("token")), (session, own), "{query}");
    }

    #[test]
    fn the_last_token_is_the_sessions_and_a_clients_own_one_stays_its_own() {
        check("vsn=2.0.0", None, None);
        check("token=jwt", Some("jwt"), Some("jwt"));
        check("token=twlp1.x", Some("twlp1.x"), None);
        check("token=jwt&vsn=2.0.0&token=twlp1.x", Some("twlp1.x"), Some("jwt"));
        check("token=twlp1.x&token=jwt", Some("jwt"), Some("jwt"));
        check("token=twlp1.x&token=twlp1.y", Some("twlp1.y"), None);
        check("token=jwt&to%6ben=twlp1%2ex", Some("twlp1.x"), Some("jwt"));
        check("token=", Some(""), Some(""));
        assert!(Query::parse("token=%").is_err());
    }
}
