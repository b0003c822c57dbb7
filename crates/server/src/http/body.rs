//! Reading a request's body, within bounds of size and time.

use std::time::Duration;

use axum::{
    body::{Body, HttpBody as _},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::problem::{Problem, shown};
use crate::telemetry;

/// A client that takes longer to send what a request may have is not sending.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Characters that are told of what is wrong with a body.
const ERROR_CHARS_MAX: usize = 200;

/// Reads all of a body. One that announces more than the limit is refused before it is sent.
pub(super) async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Problem> {
    refuse_encoded(headers)?;
    if body.size_hint().lower() > limit as u64 {
        return Err(Problem::body_too_large(limit));
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::body_too_large(limit)),
        Ok(Err(error)) => Err(Problem::bad_request("body_incomplete", format!("The body ended too early: {error}."))),
        Err(_) => {
            let detail = format!("The body was not there after {} seconds.", BODY_TIMEOUT.as_secs());
            telemetry::refused("body_timeout", "a request is refused", &detail);
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", "The body took too long", detail))
        }
    }
}

/// The media type of a body, in lower case, without parameters; empty if none is named.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Compressed bodies are not read: a small one may become a very large one.
fn refuse_encoded(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity") else {
        return Ok(());
    };
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_encoding",
        "The body's encoding is not read here",
        format!(
            "Content-Encoding is {:?}; send the body as it is, without one.",
            shown(&String::from_utf8_lossy(encoding.as_bytes()))
        ),
    )
    .header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity")))
}

/// A body of a type that is not read here.
pub(super) fn unsupported(seen: &str, accepted: &'static str) -> Problem {
    let seen = if seen.is_empty() { "none".to_owned() } else { format!("{:?}", shown(seen)) };
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        "The body's type is not read here",
        format!("Content-Type is {seen}, expected {accepted}."),
    )
    .header(HeaderName::from_static("accept-post"), HeaderValue::from_static(accepted))
}

/// Reads a JSON object of ours.
pub(super) async fn read_json<T: serde::de::DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<T, Problem> {
    let seen = media_type(headers);
    if seen != "application/json" {
        return Err(unsupported(&seen, "application/json"));
    }
    let body = read(headers, body, limit).await?;
    // What is of the wrong type is repeated by the error, however long it is.
    serde_json::from_slice(&body).map_err(|error| {
        let place = format!("line {} column {}", error.line(), error.column());
        let error = error.to_string();
        let error = error.strip_suffix(&format!(" at {place}")).unwrap_or(&error);
        let error: String = error.chars().take(ERROR_CHARS_MAX).collect();
        Problem::bad_request("invalid_json", format!("The body, at {place}: {error}."))
    })
}
