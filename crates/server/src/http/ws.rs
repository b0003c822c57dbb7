//! The upgrade of a request to a socket, which a worker owns from then on.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::Response,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::upgrade::OnUpgrade;
use tickwire_channels::{
    Adopting, SocketInfo,
    deflate::Deflate,
    handshake::{self, Refusal, Upgrade, UpgradeRequest},
};

use super::{
    connection,
    identify::{self, Opening},
    mount::{Mount, Transport},
    observed,
};
use crate::{
    app::Node,
    listener::{Connection, into_transport},
};

/// What was decided on a request for a socket.
#[derive(Debug)]
pub(crate) struct Decided {
    /// The answer: 101, or why not.
    pub(crate) response: Response,
    /// What becomes of the connection behind a 101.
    pub(crate) socket: Option<Arc<SocketInfo>>,
}

/// A request for a socket that did not have to be read by the HTTP server.
pub(crate) struct Greeting {
    /// What becomes of it.
    pub(crate) decision: BoxFuture<'static, Decided>,
    /// Whether deciding takes more than a moment, as verifying a signature does.
    pub(crate) is_costly: bool,
}

/// Decides on a request that was read before any HTTP server saw it. `None`: it is not a request for a socket that could be let in, and
/// nothing has been done about it; the HTTP server is to answer it.
pub(crate) fn greet(node: &Arc<Node>, head: Parts, connection: &Connection) -> Option<Greeting> {
    let (mount, transport) = node.live().transport(head.uri.path())?;
    if transport != Transport::WebSocket {
        return None;
    }
    let upgrade = check(&head, &mount).ok()?;
    let connection = node.door.request(connection, &head.headers).ok()?;
    let is_costly = identify::shows_credential(&head.headers, &upgrade.params, upgrade.auth_token.as_ref());
    let node = Arc::clone(node);
    let decision = async move {
        let mut socket = None;
        let answer = async {
            let decided = open(&node, &mount, &head.headers, upgrade, Some(connection)).await;
            socket = decided.socket;
            decided.response
        };
        let response = observed(&head.method, &head.uri, answer).await;
        Decided { response, socket }
    };
    Some(Greeting { decision: Box::pin(decision), is_costly })
}

/// Answers a request to a socket's path: 101, or why not.
pub(super) async fn upgrade(node: Arc<Node>, mount: Arc<Mount>, mut request: Request) -> Response {
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let connection = connection(&request).filter(|_| on_upgrade.is_some());
    let (head, _) = request.into_parts();
    let upgrade = match check(&head, &mount) {
        Ok(upgrade) => upgrade,
        Err(refusal) => return refuse(&refusal, &mount),
    };
    let Decided { response, socket } = open(&node, &mount, &head.headers, upgrade, connection).await;
    if let (Some(on_upgrade), Some(info)) = (on_upgrade, socket) {
        let adopter = Arc::clone(&node);
        node.inner.spawn("upgrade", async move { adopt(&adopter, on_upgrade, info).await });
    }
    response
}

fn check(head: &Parts, mount: &Mount) -> Result<Upgrade, Refusal> {
    let headers: Vec<_> = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let request = UpgradeRequest { method: head.method.as_str(), query: head.uri.query(), headers: &headers };
    handshake::check(&request, &identify::policy(mount))
}

/// Decides on a valid upgrade: whether this node, and this client's rights and limits, allow the socket.
async fn open(
    node: &Node,
    mount: &Mount,
    headers: &HeaderMap,
    upgrade: Upgrade,
    connection: Option<Connection>,
) -> Decided {
    let refused = |response| Decided { response, socket: None };
    if node.health.is_draining() && node.accepting.cancelled().is_cancelled() {
        identify::log("draining", &"the node is being drained");
        return refused(with_reason(empty(StatusCode::SERVICE_UNAVAILABLE), "draining"));
    }
    let Some(connection) = connection else {
        // HTTP/2 has another way to a socket (RFC 8441), which no Phoenix client takes.
        return refused(refuse(&Refusal::NotAnUpgrade("the connection must be HTTP/1.1"), mount));
    };
    let Upgrade { accept, format, params, protocol, auth_token, deflate } = upgrade;
    let peer = connection.peer;
    let opening = Opening { connection, format, params, session: false, auth_token };
    match identify::open(node, mount, headers, opening).await {
        Ok(info) => Decided {
            response: switch(&accept, protocol, deflate),
            socket: Some(Arc::new(SocketInfo { deflate, ..info })),
        },
        Err(denied) => {
            denied.tell(peer);
            refused(with_reason(empty(denied.status()), denied.code()))
        }
    }
}

/// The answer that turns the connection into a socket.
fn switch(accept: &str, protocol: Option<String>, deflate: Option<Deflate>) -> Response {
    let accept = HeaderValue::try_from(accept).expect("base64 is valid in a header");
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let fields = response.headers_mut();
    fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    fields.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol {
        let protocol = HeaderValue::try_from(protocol).expect("a configured subprotocol is a token of HTTP");
        fields.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    if let Some(deflate) = deflate {
        let extension = HeaderValue::try_from(deflate.answer()).expect("names and numbers are valid in a header");
        fields.insert(header::SEC_WEBSOCKET_EXTENSIONS, extension);
    }
    response
}

/// Takes the bare socket out of the HTTP server's hands and gives it to a worker.
async fn adopt(node: &Node, on_upgrade: OnUpgrade, info: Arc<SocketInfo>) {
    // The client went before it had our answer.
    let Ok(upgraded) = on_upgrade.await else { return };
    let Some(transport) = into_transport(upgraded) else {
        tracing::error!("an upgraded connection is not one of our listener's");
        return;
    };
    match transport {
        Ok((transport, leftover)) => adopt_into(&mut node.workers.adopting(), transport, info, leftover),
        Err(error) => tracing::debug!(%error, "a connection was lost while it was upgraded"),
    }
}

/// Gives a connection whose upgrade has been answered to a worker.
pub(crate) fn adopt_into(
    workers: &mut Adopting<'_>,
    transport: tickwire_channels::Transport,
    info: Arc<SocketInfo>,
    leftover: Bytes,
) {
    if let Err(error) = workers.adopt(transport, info, leftover) {
        identify::log("not_adopted", &error);
    }
}

/// WIRE: refusals have an empty body. What was wrong is said in a header, where the developer tools of a browser show it.
fn refuse(refusal: &Refusal, mount: &Mount) -> Response {
    identify::log_handshake(refusal, mount);
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::FORBIDDEN);
    let mut response = with_reason(empty(status), refusal.code());
    if matches!(refusal, Refusal::NotAnUpgrade(_)) {
        // RFC 6455 §4.4: a client of another version learns which one is spoken.
        response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    response
}

fn with_reason(mut response: Response, code: &'static str) -> Response {
    response.headers_mut().insert("x-tickwire-reason", HeaderValue::from_static(code));
    response
}

/// An answer without a body; one that may be another one soon says when to come back.
fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_that_passes_says_when_to_come_back() {
        for (status, said) in [(429, true), (503, true), (403, false), (400, false)] {
            let answer = with_reason(empty(StatusCode::from_u16(status).unwrap()), "busy");
            assert_eq!(answer.headers().contains_key(header::RETRY_AFTER), said, "{status}");
        }
    }
}
