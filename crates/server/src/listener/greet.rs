//! Requests for sockets that need no HTTP server: most clients of a herd send one well-formed upgrade and nothing else.
//!
//! Nothing is decided here. What is not plainly such a request, whole in the first piece that was read, goes to the HTTP server, byte for
//! byte; about what is, the code behind that server decides, as it does about any other upgrade.

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::response::Response;
use bytes::{BufMut as _, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header, request::Parts};

use super::Connection;
use crate::{
    app::Node,
    http::{self as answers, Greeting},
};

/// Headers of a request that is taken here; the HTTP server takes more.
const HEADERS_MAX: usize = 64;

/// The head of a request and its length, if it is whole, and has the form of an upgrade without a body. The parser is that of the HTTP
/// server.
fn read_head(bytes: &[u8]) -> Option<(Parts, usize)> {
    if !bytes.starts_with(b"GET /") {
        return None;
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(len) = request.parse(bytes).ok()? else { return None };
    if request.version != Some(1) {
        return None;
    }
    let mut fields = HeaderMap::with_capacity(request.headers.len());
    for field in &*request.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        fields.append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    // Whatever a body, or a wish for a `100 Continue`, means is known to the HTTP server.
    let has_body = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::EXPECT]
        .iter()
        .any(|name| fields.contains_key(name));
    if has_body || !fields.contains_key(header::UPGRADE) {
        return None;
    }
    let (mut head, ()) = http::Request::new(()).into_parts();
    (head.method, head.version, head.headers) = (Method::GET, Version::HTTP_11, fields);
    head.uri = request.path?.parse::<Uri>().ok()?;
    Some((head, len))
}

/// What is to become of a connection whose first bytes are these, and where its request ends. `None`: the HTTP server is to read them.
pub(super) fn greet(node: &Arc<Node>, bytes: &[u8], connection: &Connection) -> Option<(Greeting, usize)> {
    let (head, len) = read_head(bytes)?;
    // What panics here does so again behind the HTTP server, which has an answer for that.
    let greeting = std::panic::catch_unwind(AssertUnwindSafe(|| answers::greet(node, head, connection)));
    Some((greeting.ok()??, len))
}

/// Writes the head of an answer that has no body and ends the connection's life as one of HTTP.
pub(super) fn write_head(answer: &Response) -> Bytes {
    let mut bytes = Vec::with_capacity(256);
    bytes.put_slice(b"HTTP/1.1 ");
    bytes.put_slice(answer.status().as_str().as_bytes());
    bytes.put_u8(b' ');
    bytes.put_slice(answer.status().canonical_reason().unwrap_or_default().as_bytes());
    bytes.put_slice(b"\r\n");
    for (name, value) in answer.headers() {
        bytes.put_slice(name.as_str().as_bytes());
        bytes.put_slice(b": ");
        bytes.put_slice(value.as_bytes());
        bytes.put_slice(b"\r\n");
    }
    bytes.put_slice(b"\r\n");
    bytes.into()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    const UPGRADE: &str = "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n";

    #[test]
    fn a_whole_upgrade_is_read_with_its_end() {
        let request = format!("{UPGRADE}Cookie: a=1\r\nCookie:  b=2 \r\n\r\nframes");
        let (head, len) = read_head(request.as_bytes()).unwrap();
        assert_eq!(&request[len..], "frames");
        assert_eq!((head.uri.path(), head.uri.query()), ("/socket/websocket", Some("vsn=2.0.0")));
        let cookies: Vec<_> = head.headers.get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
    }

    #[test]
    fn whatever_else_it_may_be_is_left_to_the_http_server() {
        let parts = ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST /v1/quotes HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n"];
        for request in parts {
            assert!(read_head(request.as_bytes()).is_none(), "{request}");
        }
        for rest in [
            "Content-Length: 0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n",
            "Expect: 100-continue\r\n\r\n",
            "a b: c\r\n\r\n",
            " folded\r\n\r\n",
            "\r",
            "",
        ] {
            assert!(read_head(format!("{UPGRADE}{rest}").as_bytes()).is_none(), "{rest:?}");
        }
        let whole = format!("{UPGRADE}\r\n");
        for (from, to) in [("HTTP/1.1", "HTTP/1.0"), ("/socket", "http://a/socket"), ("/socket", "*"), ("GET", "get")] {
            assert!(read_head(whole.replacen(from, to, 1).as_bytes()).is_none(), "{to}");
        }
        let many = format!("{UPGRADE}{}\r\n", "a: b\r\n".repeat(HEADERS_MAX));
        assert!(read_head(many.as_bytes()).is_none());
        assert!(read_head(b"\x16\x03\x01").is_none() && read_head(b"").is_none());
        assert!(read_head(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").is_none());
    }

    #[test]
    fn an_answer_is_written_as_http() {
        let answer = http::Response::builder().status(101).header("upgrade", "websocket").body(Body::empty()).unwrap();
        assert_eq!(write_head(&answer), "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n",);
    }
}
