//! What goes wrong over HTTP, as RFC 9457 problem JSON.

use std::borrow::Cow;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use crate::{auth::AuthError, telemetry};

/// An answer that is not what the client wanted: a status, a stable code of `docs/codes.md`, and words that say what to change.
#[derive(Debug)]
pub(crate) struct Problem(Box<Inner>);

#[derive(Debug)]
struct Inner {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    headers: Vec<(HeaderName, HeaderValue)>,
    extra: Map<String, Value>,
}

impl Problem {
    /// A problem of this kind; `detail` says what was seen, what was expected and what to change.
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Inner { status, code, title, detail: detail.into(), headers: Vec::new(), extra: Map::new() }))
    }

    /// 400: the request cannot be understood.
    pub(crate) fn bad_request(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, "The request cannot be understood", detail)
    }

    /// 404: there is no such thing.
    pub(crate) fn not_found(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, "There is no such thing", detail)
    }

    /// 401: who are you?
    pub(crate) fn unauthenticated(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, "Credentials are missing or not valid", detail)
            .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tickwire\""))
    }

    /// 403: you may not.
    pub(crate) fn forbidden(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, "This is not allowed", detail)
    }

    /// 401, 403 or 503, as the cause says: other credentials would help, these lack a right, or nobody can tell at the moment.
    pub(crate) fn denied(cause: &AuthError, detail: String) -> Self {
        crate::access::note_denied(cause);
        match cause.status() {
            StatusCode::FORBIDDEN => Self::forbidden(cause.code(), detail),
            StatusCode::UNAUTHORIZED => Self::unauthenticated(cause.code(), detail),
            status => Self::new(status, cause.code(), "This cannot be decided at the moment", detail)
                .header(header::RETRY_AFTER, HeaderValue::from_static("1")),
        }
    }

    /// 413: more than is read.
    pub(crate) fn body_too_large(limit: usize) -> Self {
        let detail = format!("The body has more than {limit} bytes; send it in parts, or raise limits.body_bytes.");
        telemetry::refused("body_too_large", "a request is refused", &detail);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large", detail)
    }

    /// 429: come back in a second.
    pub(crate) fn busy(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "busy", "The node is at capacity", detail)
            .header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// 500: a fault of ours.
    pub(crate) fn internal() -> Self {
        let detail = "Something went wrong in the server, which its log tells.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail)
    }

    /// Adds a header to the answer.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Adds a member to the answer's object.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        self.0.extra.insert(name.to_owned(), value);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Inner { status, code, title, detail, headers, extra } = *self.0;
        let mut body = Map::new();
        body.insert("type".to_owned(), json!(format!("urn:tickwire:problem:{code}")));
        body.insert("title".to_owned(), json!(title));
        body.insert("status".to_owned(), json!(status.as_u16()));
        body.insert("code".to_owned(), json!(code));
        body.insert("detail".to_owned(), json!(detail));
        body.extend(extra);
        let mut response = Response::new(Body::from(Value::Object(body).to_string()));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response.headers_mut().extend(headers);
        response
    }
}

/// A path that leads nowhere.
pub(crate) async fn not_found(uri: axum::http::Uri) -> Problem {
    let detail = format!(
        "There is nothing at {:?}. The public port has the API below /v1 and sockets below their mounts, such as /socket/websocket; \
         the admin port lists what it has at /.",
        shown(uri.path())
    );
    Problem::not_found("no_such_path", detail)
}

/// A path that leads somewhere, by another method.
pub(crate) async fn wrong_method(method: axum::http::Method, uri: axum::http::Uri) -> Problem {
    let detail = format!(
        "{method} is not what {:?} answers; the header Allow lists the methods that it does.",
        shown(uri.path())
    );
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "The method is not allowed here", detail)
}

/// The beginning of what a client sent, enough to recognise it: nobody gets megabytes of it back, or into a log.
pub(super) fn shown(path: &str) -> &str {
    let end = (0..=path.len().min(64)).rev().find(|&end| path.is_char_boundary(end)).unwrap_or(0);
    &path[..end]
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_problem_has_the_members_of_the_rfc_and_its_own() {
        let problem = Problem::busy("Nothing was taken.").with("accepted", json!(0));
        let response = problem.into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let body: Value = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
        assert_eq!(
            body,
            json!({"type": "urn:tickwire:problem:busy", "title": "The node is at capacity", "status": 429, "code": "busy",
                "detail": "Nothing was taken.", "accepted": 0})
        );
    }

    #[test]
    fn a_long_path_is_cut_between_characters() {
        assert_eq!(shown(&"é".repeat(80)).len(), 64);
        assert_eq!(shown("/short"), "/short");
    }
}
