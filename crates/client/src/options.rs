//! How to reach a server, and how to behave towards it.

use std::{fmt, sync::Arc, time::Duration};

use http::Uri;
use rustls::ClientConfig;

use crate::Backoff;

/// How to reach a server, and how to behave towards it.
#[derive(Clone)]
pub struct Options {
    url: Uri,
    /// Sent as the parameter `token`.
    pub token: Option<String>,
    /// Further connect parameters.
    pub params: Vec<(String, String)>,
    /// How to shake hands over `wss`, such as with which authorities; `None` trusts those that browsers do.
    pub tls: Option<Arc<ClientConfig>>,
    /// How often to send a heartbeat; the connection is dropped when one is unanswered by the next.
    pub heartbeat: Duration,
    /// How long a join or a push may go unanswered, and the opening of a connection may take.
    pub timeout: Duration,
    /// How long to wait before a lost connection is opened again; `None` never opens it again.
    pub reconnect: Option<Backoff>,
    /// Events of one channel that may wait for its consumer; while they are full, the socket is not read.
    pub queue: usize,
    /// The longest message that is accepted, in bytes.
    pub max_message: usize,
}

/// A text that does not say where a server is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{seen:?} is not the URL of a socket: {problem}; for example \"ws://127.0.0.1:4000/socket\"")]
pub struct InvalidUrl {
    /// The text.
    pub seen: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Options {
    /// Options for the socket mounted at `url`, such as `ws://127.0.0.1:4000/socket`; `http` and `https` stand for `ws` and `wss`, and
    /// without a path it is `/socket`.
    ///
    /// # Errors
    /// If `url` is not one, or of another scheme.
    pub fn new(url: &str) -> Result<Self, InvalidUrl> {
        let invalid = |problem: &str| InvalidUrl { seen: url.to_owned(), problem: problem.to_owned() };
        let parsed: Uri = url.parse().map_err(|error: http::uri::InvalidUri| invalid(&error.to_string()))?;
        let scheme = match parsed.scheme_str() {
            Some("ws" | "http") => "ws",
            Some("wss" | "https") => "wss",
            Some(other) => return Err(invalid(&format!("its scheme is {other}, expected ws or wss"))),
            None => return Err(invalid("it has no scheme, expected ws or wss")),
        };
        let authority = parsed.authority().ok_or_else(|| invalid("it names no host"))?.clone();
        if parsed.query().is_some() {
            return Err(invalid("it has a query; parameters are options of their own"));
        }
        let path = match parsed.path().trim_end_matches('/') {
            "" => "/socket",
            path => path.strip_suffix("/websocket").unwrap_or(path),
        };
        let url = Uri::builder().scheme(scheme).authority(authority).path_and_query(format!("{path}/websocket"));
        Ok(Self {
            url: url.build().map_err(|error| invalid(&error.to_string()))?,
            token: None,
            params: Vec::new(),
            tls: None,
            heartbeat: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
            reconnect: Some(Backoff::default()),
            queue: 1024,
            max_message: 16 << 20,
        })
    }

    /// Sets the token.
    #[must_use]
    pub fn token(mut self, token: Option<String>) -> Self {
        self.token = token;
        self
    }

    /// Where the connection goes, without parameters: safe to show.
    #[must_use]
    pub fn address(&self) -> String {
        self.url.to_string()
    }

    /// Where the connection goes, with everything that the handshake sends. Holds the token: not to be shown.
    #[must_use]
    pub fn request_uri(&self) -> String {
        let mut uri = format!("{}?vsn=2.0.0", self.url);
        let token = self.token.iter().map(|token| ("token", token));
        for (name, value) in self.params.iter().map(|(name, value)| (name.as_str(), value)).chain(token) {
            uri.push('&');
            escape(&mut uri, name);
            uri.push('=');
            escape(&mut uri, value);
        }
        uri
    }
}

/// Percent-encodes all that RFC 3986 does not call unreserved.
fn escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("url", &self.url)
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("heartbeat", &self.heartbeat)
            .field("timeout", &self.timeout)
            .field("reconnect", &self.reconnect)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_may_be_given_in_several_ways() {
        for (given, address) in [
            ("ws://h:1/socket", "ws://h:1/socket/websocket"),
            ("ws://h:1/socket/websocket", "ws://h:1/socket/websocket"),
            ("http://h:1", "ws://h:1/socket/websocket"),
            ("https://h/live/", "wss://h/live/websocket"),
        ] {
            assert_eq!(Options::new(given).unwrap().address(), address);
        }
        for bad in ["", "h:1", "/socket", "ftp://h", "ws://h/socket?token=x"] {
            let error = Options::new(bad).unwrap_err().to_string();
            assert!(error.contains("for example"), "{error}");
        }
    }

    #[test]
    fn parameters_are_escaped_and_the_token_is_not_shown() {
        let mut options = Options::new("ws://h:1/socket").unwrap().token(Some("a.b+c/=".to_owned()));
        options.params.push(("user id".to_owned(), "ä".to_owned()));
        let expected = "ws://h:1/socket/websocket?vsn=2.0.0&user%20id=%C3%A4&token=a.b%2Bc%2F%3D";
        assert_eq!(options.request_uri(), expected);
        assert!(!format!("{options:?}").contains("a.b"));
    }
}
