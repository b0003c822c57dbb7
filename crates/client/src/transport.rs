//! Opening a WebSocket.

use std::{io, time::Duration};

use http::Response;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config,
    tungstenite::{Error, protocol::WebSocketConfig},
};

use crate::Options;

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How much of a refusal's body is worth repeating, in bytes.
const REFUSAL_MAX: usize = 300;

/// Where a socket is to be found: what to compare a URL with that leads elsewhere.
const EXPECTED: &str =
    "expected the port of listen.http, by default 4000, and the path of a socket, such as ws://127.0.0.1:4000/socket";

/// Why a connection could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers there.
    #[error("cannot connect to {address}: {problem}; is the server running?")]
    Unreachable {
        /// Where.
        address: String,
        /// The system's words.
        problem: String,
    },
    /// The server answered, and will not have this client.
    #[error("{address} refuses the connection: {status}{reason}{body}")]
    Refused {
        /// Where.
        address: String,
        /// The HTTP status.
        status: http::StatusCode,
        /// Its code, in brackets, if it gives one.
        reason: String,
        /// What it says, behind a colon.
        body: String,
    },
    /// The connection cannot be encrypted.
    #[error("{address}: TLS failed: {problem}")]
    Tls {
        /// Where.
        address: String,
        /// What went wrong.
        problem: String,
    },
    /// What answers there does not speak WebSocket.
    #[error("{address} is no WebSocket: {problem}; {}", EXPECTED)]
    NotWebSocket {
        /// Where.
        address: String,
        /// What it did instead.
        problem: String,
    },
    /// The handshake took too long.
    #[error("{address} did not answer within {timeout:?}")]
    TimedOut {
        /// Where.
        address: String,
        /// How long was waited.
        timeout: Duration,
    },
}

impl ConnectError {
    /// Whether it makes no sense to try again with the same token and parameters.
    #[must_use]
    pub fn is_final(&self) -> bool {
        use http::StatusCode as Status;
        match self {
            Self::Refused { status, .. } => {
                status.is_client_error() && ![Status::TOO_MANY_REQUESTS, Status::REQUEST_TIMEOUT].contains(status)
            }
            _ => false,
        }
    }
}

/// Opens a connection.
pub(crate) async fn open(options: &Options) -> Result<Socket, ConnectError> {
    let config = WebSocketConfig::default()
        .read_buffer_size(16 << 10)
        .max_message_size(Some(options.max_message))
        .max_frame_size(Some(options.max_message));
    let tls = options.tls.clone().map(Connector::Rustls);
    let connect = Box::pin(connect_async_tls_with_config(options.request_uri(), Some(config), true, tls));
    let address = options.address();
    match tokio::time::timeout(options.timeout, connect).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(error)) => Err(explain(address, error)),
        Err(_) => Err(ConnectError::TimedOut { address, timeout: options.timeout }),
    }
}

/// Never repeats the request: it may hold a token.
fn explain(address: String, error: Error) -> ConnectError {
    match error {
        Error::Http(response) => answered(address, &response),
        Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => no_tls(address, &error.to_string()),
        Error::Io(error) => ConnectError::Unreachable { address, problem: error.to_string() },
        Error::Url(error) => ConnectError::Unreachable { address, problem: error.to_string() },
        Error::Tls(error) => no_tls(address, &error.to_string()),
        other => ConnectError::NotWebSocket { address, problem: other.to_string() },
    }
}

/// An answer other than an upgrade: a refusal, or the voice of another kind of server.
fn answered(address: String, response: &Response<Option<Vec<u8>>>) -> ConnectError {
    let (status, headers) = (response.status(), response.headers());
    let is_grpc =
        headers.get(http::header::CONTENT_TYPE).is_some_and(|media| media.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        return ConnectError::NotWebSocket { address, problem: format!("it answers {status} as gRPC") };
    }
    if status.is_success() {
        return ConnectError::NotWebSocket { address, problem: format!("it answers {status} instead of an upgrade") };
    }
    let mut body = match explanation(response.body().as_deref().unwrap_or_default()) {
        text if text.is_empty() => text,
        text => format!(": {text}"),
    };
    if status == http::StatusCode::NOT_FOUND {
        body.push_str("; ");
        body.push_str(EXPECTED);
    }
    ConnectError::Refused { address, status, reason: reason(headers), body }
}

/// What a body says in words: the detail of problem JSON (RFC 9457), or else its beginning.
fn explanation(body: &[u8]) -> String {
    let problem: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let words = problem.as_ref().and_then(|problem| problem.get("detail").or(problem.get("title"))?.as_str());
    let text = words.map_or_else(|| String::from_utf8_lossy(&body[..body.len().min(REFUSAL_MAX)]), Into::into);
    text.trim().trim_end_matches('.').to_owned()
}

/// A failed handshake of TLS. A server without it is by far the most frequent cause, and its error the least readable: rustls meets the
/// plain text of HTTP as a message of a type that there is not.
fn no_tls(address: String, error: &str) -> ConnectError {
    let problem = if error.contains("InvalidContentType") {
        "what answers there speaks without it; expected TLS for wss:// and https://, so write ws:// or http:// instead, or give a port that has TLS"
    } else if error.contains("HandshakeFailure") {
        // A port of ours without TLS says so by this alert, another server that it has no cipher in common.
        "it refuses the handshake; if that port is without TLS, write ws:// or http:// instead"
    } else {
        error
    };
    ConnectError::Tls { address, problem: problem.to_owned() }
}

/// The code of a refusal: upgrades are refused without a body, as Phoenix does it, and say why in a header.
fn reason(headers: &http::HeaderMap) -> String {
    let code = headers.get("x-tickwire-reason").and_then(|code| code.to_str().ok());
    code.map(|code| format!(" ({})", code.escape_debug())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_why() {
        let refused = |code: Option<&str>, body: &str| {
            let mut response = http::Response::builder().status(403);
            if let Some(code) = code {
                response = response.header("x-tickwire-reason", code);
            }
            let body = Some(body.as_bytes().to_vec());
            explain("ws://a".to_owned(), Error::Http(Box::new(response.body(body).unwrap()))).to_string()
        };
        assert_eq!(refused(Some("token_expired"), ""), "ws://a refuses the connection: 403 Forbidden (token_expired)");
        assert_eq!(refused(None, "go away"), "ws://a refuses the connection: 403 Forbidden: go away");
    }

    #[test]
    fn a_wrong_port_says_which_is_right() {
        let answer = |status: u16, media: &str, body: &str| {
            let response = Response::builder().status(status).header("content-type", media);
            let response = response.body(Some(body.as_bytes().to_vec())).unwrap();
            explain("ws://a".to_owned(), Error::Http(Box::new(response))).to_string()
        };
        let grpc = answer(200, "application/grpc", "");
        assert!(grpc.starts_with("ws://a is no WebSocket: it answers 200 OK as gRPC; expected"), "{grpc}");
        let page = answer(200, "text/html", "<html>");
        assert!(page.contains("instead of an upgrade") && page.contains("listen.http"), "{page}");
        let admin = answer(404, "application/problem+json", r#"{"title":"t","detail":"There is nothing."}"#);
        let expected = format!("ws://a refuses the connection: 404 Not Found: There is nothing; {EXPECTED}");
        assert_eq!(admin, expected);
    }

    #[test]
    fn a_port_without_tls_is_not_taken_for_one_where_nobody_is() {
        let plain = io::Error::new(io::ErrorKind::InvalidData, "received corrupt message of type InvalidContentType");
        let text = explain("wss://a".to_owned(), Error::Io(plain)).to_string();
        assert!(text.contains("ws://") && !text.contains("corrupt") && !text.contains("running"), "{text}");
    }
}
