//! The upgrade of a request to a socket, which a worker owns from then on.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use hyper::upgrade::OnUpgrade;
use tickwire_channels::{
    SocketInfo,
    handshake::{self, Refusal, Upgrade, UpgradeRequest},
};

use super::{
    connection,
    identify::{self, Opening},
    mount::Mount,
};
use crate::{app::Node, listener::into_transport};

/// Answers a request to a socket's path: 101, or why not.
pub(super) async fn upgrade(node: Arc<Node>, mount: Arc<Mount>, mut request: Request) -> Response {
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let connection = connection(&request);
    let upgrade = match check(&request, &mount) {
        Ok(upgrade) => upgrade,
        Err(refusal) => return refuse(&refusal, &mount),
    };
    if node.health.is_draining() && node.accepting.cancelled().is_cancelled() {
        identify::log("draining", &"the node is being drained");
        return with_reason(empty(StatusCode::SERVICE_UNAVAILABLE), "draining");
    }
    let (Some(on_upgrade), Some(connection)) = (on_upgrade, connection) else {
        // HTTP/2 has another way to a socket (RFC 8441), which no Phoenix client takes.
        return refuse(&Refusal::NotAnUpgrade("the connection must be HTTP/1.1"), &mount);
    };
    let Upgrade { accept, format, params, protocol, auth_token, deflate } = upgrade;
    let peer = connection.peer;
    let opening = Opening { connection, format, params, session: false, auth_token };
    let info = match identify::open(&node, &mount, request.headers(), opening).await {
        Ok(info) => Arc::new(SocketInfo { deflate, ..info }),
        Err(denied) => {
            denied.tell(peer);
            return with_reason(empty(denied.status()), denied.code());
        }
    };
    let accept = HeaderValue::try_from(&accept).expect("base64 is valid in a header");
    let adopter = Arc::clone(&node);
    node.inner.spawn("upgrade", async move { adopt(&adopter, on_upgrade, info).await });
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

fn check(request: &Request, mount: &Mount) -> Result<Upgrade, Refusal> {
    let headers: Vec<_> = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let request = UpgradeRequest { method: request.method().as_str(), query: request.uri().query(), headers: &headers };
    handshake::check(&request, &identify::policy(mount))
}

/// Takes the bare socket out of the HTTP server's hands and gives it to a worker.
async fn adopt(node: &Node, on_upgrade: OnUpgrade, info: Arc<SocketInfo>) {
    // The client went before it had our answer.
    let Ok(upgraded) = on_upgrade.await else { return };
    let Some(transport) = into_transport(upgraded) else {
        tracing::error!("an upgraded connection is not one of our listener's");
        return;
    };
    let adopted = transport.map(|(transport, leftover)| node.workers.adopt(transport, info, leftover));
    match adopted {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            identify::log("not_adopted", &error);
        }
        Err(error) => tracing::debug!(%error, "a connection was lost while it was upgraded"),
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
