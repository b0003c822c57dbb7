//! The upgrade of a request to a socket, which a worker owns from then on.

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use hyper::upgrade::OnUpgrade;
use hyper_util::{rt::TokioIo, server::conn::auto::upgrade::downcast};
use tickwire_channels::{
    SocketInfo,
    handshake::{self, Params, Refusal, UpgradeRequest},
};
use tokio::net::TcpStream;

use super::{connection, mount::Mount};
use crate::{
    access::{self, SocketOwner},
    app::Node,
    auth::{AuthError, Principal, unix_now},
    listener::Connection,
    metrics,
    telemetry::Throttle,
};

/// Answers a request to a socket's path: 101, or why not.
pub(super) async fn upgrade(node: Arc<Node>, mount: Arc<Mount>, mut request: Request) -> Response {
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let connection = connection(&request);
    let upgrade = match check(&request, &mount) {
        Ok(upgrade) => upgrade,
        Err(refusal) => return refuse(&refusal),
    };
    if node.health.is_draining() && node.accepting.cancelled().is_cancelled() {
        metrics::refused("draining");
        return with_reason(empty(StatusCode::SERVICE_UNAVAILABLE), "draining");
    }
    let principal = match identify(&node, &request, &upgrade.params) {
        Ok(principal) => principal,
        Err(error) => return refuse_credential(&error),
    };
    let (Some(on_upgrade), Some(connection)) = (on_upgrade, connection) else {
        // HTTP/2 has another way to a socket (RFC 8441), which no Phoenix client takes.
        return refuse(&Refusal::NotAnUpgrade("the connection must be HTTP/1.1"));
    };
    let accept = HeaderValue::try_from(&upgrade.accept).expect("base64 is valid in a header");
    let info = Arc::new(socket_info(&mount, connection, upgrade, principal));
    let adopter = Arc::clone(&node);
    node.inner.spawn("upgrade", async move { adopt(&adopter, on_upgrade, info).await });
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let fields = response.headers_mut();
    fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    fields.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

fn check(request: &Request, mount: &Mount) -> Result<handshake::Upgrade, Refusal> {
    let headers: Vec<_> = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let request = UpgradeRequest { method: request.method().as_str(), query: request.uri().query(), headers: &headers };
    handshake::check(&request, &mount.rules.origins)
}

/// Who opens the socket: by its parameter `token`, or by what a client that is no browser can put into its headers.
fn identify(node: &Node, request: &Request, params: &Params) -> Result<Principal, AuthError> {
    match params.get("token").filter(|token| !token.is_empty()) {
        Some(token) => node.live().auth.bearer(token, unix_now()),
        None => node.live().auth.request(request.headers(), unix_now()),
    }
}

fn socket_info(mount: &Mount, connection: Connection, upgrade: handshake::Upgrade, principal: Principal) -> SocketInfo {
    let mut info = SocketInfo::new(connection.peer, upgrade.format, Arc::clone(&mount.limits));
    info.params = upgrade.params;
    info.user = principal.user().map(|user| user.to_string());
    info.id = info.user.as_ref().map(|user| format!("users_socket:{user}"));
    info.expires_at = access::expiry(&principal);
    info.assigns = Arc::new(SocketOwner::new(principal, connection.permit));
    info
}

/// Takes the bare socket out of the HTTP server's hands and gives it to a worker.
async fn adopt(node: &Node, on_upgrade: OnUpgrade, info: Arc<SocketInfo>) {
    // The client went before it had our answer.
    let Ok(upgraded) = on_upgrade.await else { return };
    let Ok(parts) = downcast::<TokioIo<TcpStream>>(upgraded) else {
        tracing::error!("an upgraded connection is not one of our listener's");
        return;
    };
    // Only this much is kept of hyper's buffer: it has 8 KiB, and most sockets have sent nothing yet.
    let leftover = bytes::Bytes::copy_from_slice(&parts.read_buf);
    drop(parts.read_buf);
    let adopted = parts.io.into_inner().into_std().map(|stream| node.workers.adopt(stream, info, leftover));
    match adopted {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            metrics::refused("not_adopted");
            log_refusal("not_adopted", &error);
        }
        Err(error) => tracing::debug!(%error, "a connection was lost while it was upgraded"),
    }
}

/// WIRE: refusals have an empty body. What was wrong is said in a header, where the developer tools of a browser show it.
fn refuse(refusal: &Refusal) -> Response {
    metrics::refused(refusal.code());
    log_refusal(refusal.code(), refusal);
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::FORBIDDEN);
    with_reason(empty(status), refusal.code())
}

fn refuse_credential(error: &AuthError) -> Response {
    metrics::refused(error.code());
    log_refusal(error.code(), error);
    with_reason(empty(StatusCode::FORBIDDEN), error.code())
}

fn with_reason(mut response: Response, code: &'static str) -> Response {
    response.headers_mut().insert("x-tickwire-reason", HeaderValue::from_static(code));
    response
}

fn log_refusal(code: &'static str, reason: &dyn std::fmt::Display) {
    static REFUSED: Throttle = Throttle::new(std::time::Duration::from_secs(1));
    if let Some(held_back) = REFUSED.pass(Instant::now()) {
        tracing::warn!(code, %reason, held_back, "socket refused");
    }
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
