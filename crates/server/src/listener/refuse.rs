//! Telling clients of a port why they cannot come in.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::response::{IntoResponse as _, Response};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;
use tonic::Status;

use super::{Door, Port};
use crate::{admission::Refused, http::problem::Problem, lifecycle::Tasks, telemetry, tls::Alpn};

/// Refuses a connection that has just been accepted, and says why if not too many are being told at the moment.
pub(super) fn connection(
    port: &Port,
    door: &Door,
    stream: TcpStream,
    peer: SocketAddr,
    refused: Refused,
    tasks: &Tasks,
) {
    const PATIENCE: Duration = Duration::from_secs(1);
    refused.tell(peer);
    let Ok(permit) = Arc::clone(&door.explanations).try_acquire_owned() else { return };
    let tls = port.tls.as_ref().map(|tls| TlsAcceptor::from(tls.config(Alpn::Http)));
    tasks.spawn("refusal", async move {
        let _permit = permit;
        let explained = async {
            match tls {
                None => explain(stream, refused).await,
                Some(tls) => explain(tls.accept(stream).await?, refused).await,
            }
        };
        // Who does not listen need not know.
        let _ = tokio::time::timeout(PATIENCE, explained).await;
    });
}

async fn explain(mut stream: impl AsyncRead + AsyncWrite + Unpin, refused: Refused) -> io::Result<()> {
    // Closing a connection with unread bytes resets it, and the answer with it: read the request first.
    let mut head = [0; 2048];
    let _ = stream.read(&mut head).await?;
    let (code, status, detail) = (refused.code(), refused.status(), refused.detail());
    let body = format!(
        r#"{{"type":"urn:tickwire:problem:{code}","title":"Too many connections","status":{},"code":"{code}","detail":"{detail}"}}"#,
        status.as_u16(),
    );
    let retry_after = refused.retry_after();
    let retry_after = retry_after.to_str().unwrap_or("1");
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\nretry-after: {retry_after}\r\nx-tickwire-reason: {code}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// Refuses a request, in the language of its port.
pub(super) fn request(peer: SocketAddr, refused: Refused, grpc: bool) -> Response {
    refused.tell(peer);
    if grpc {
        return Status::from(refused).into_http();
    }
    let mut response = Problem::from(refused).into_response();
    response.headers_mut().insert("x-tickwire-reason", http::HeaderValue::from_static(refused.code()));
    response
}

/// Answers a client that speaks plain HTTP to a port with TLS, in the form that it understands.
pub(super) async fn plain_on_tls(mut stream: TcpStream, port: &'static str, peer: SocketAddr) -> io::Result<()> {
    const BODY: &str = "This port speaks TLS: use https:// or wss:// instead of http:// or ws://.\n";
    log("not_tls", port, peer, "a client speaks without TLS to a port with listen.tls");
    let mut head = [0; 2048];
    let _ = stream.read(&mut head).await?;
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nx-tickwire-reason: not_tls\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// Answers a client that speaks TLS to a port without: with the alert that ends a handshake, since it cannot read anything else.
pub(super) async fn tls_on_plain(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    port: &'static str,
    peer: SocketAddr,
) -> io::Result<()> {
    /// A fatal alert, handshake_failure (RFC 8446, sections 5.1 and 6.2).
    const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];
    log(
        "tls_unexpected",
        port,
        peer,
        "a client speaks TLS to a port without; it should use http:// or ws://, or listen.tls be set",
    );
    let mut hello = [0; 2048];
    let _ = stream.read(&mut hello).await?;
    stream.write_all(&ALERT).await?;
    stream.shutdown().await
}

/// Counts and logs a refusal outside of any request.
pub(super) fn log(code: &'static str, port: &'static str, peer: SocketAddr, why: &str) {
    telemetry::refused(code, "a connection is refused", &format_args!("{why} (from {peer}, port {port})"));
}
