//! Opening a WebSocket.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Error, protocol::WebSocketConfig},
};

use crate::Options;

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How much of a refusal's body is worth repeating, in bytes.
const REFUSAL_MAX: usize = 300;

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
    /// What answers there does not speak WebSocket.
    #[error("{address} is no WebSocket: {problem}")]
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
    let connect = Box::pin(connect_async_with_config(options.request_uri(), Some(config), true));
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
        Error::Http(response) => {
            let body = response.body().as_deref().unwrap_or_default();
            let text = String::from_utf8_lossy(&body[..body.len().min(REFUSAL_MAX)]).trim().to_owned();
            let body = if text.is_empty() { text } else { format!(": {text}") };
            ConnectError::Refused { address, status: response.status(), reason: reason(response.headers()), body }
        }
        Error::Io(error) => ConnectError::Unreachable { address, problem: error.to_string() },
        Error::Url(error) => ConnectError::Unreachable { address, problem: error.to_string() },
        Error::Tls(error) => ConnectError::Unreachable { address, problem: error.to_string() },
        other => ConnectError::NotWebSocket { address, problem: other.to_string() },
    }
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
}
