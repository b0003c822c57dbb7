//! `GET /v1/openapi.json`: the HTTP API in words for machines.

use axum::{
    http::header,
    response::{IntoResponse as _, Response},
};

/// Written by hand beside this file; a test holds it against what is served.
const DOCUMENT: &str = include_str!("openapi.json");

/// Answers the document of this version.
pub(super) async fn document() -> Response {
    let text = DOCUMENT.replacen("VERSION", env!("CARGO_PKG_VERSION"), 1);
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}
