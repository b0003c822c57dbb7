//! The web page, embedded in the binary.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use rust_embed::{EmbeddedFile, RustEmbed};

use super::{PathText, problem::Problem};

/// What the page's build has put into `page/dist`; nothing, if it was not built.
#[derive(RustEmbed)]
#[folder = "page/dist"]
#[allow_missing = true]
struct Assets;

/// The page loads nothing from elsewhere, speaks to nobody else and can be framed by nobody. `connect-src 'self'` covers the sockets of the
/// page's own host.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
     connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /`.
pub(crate) async fn index(headers: HeaderMap) -> Response {
    match Assets::get("index.html") {
        Some(file) => answer(&headers, file, "text/html; charset=utf-8", "no-cache"),
        None => not_built(),
    }
}

/// `GET /assets/{name}`. Names carry a hash of their content, so that they may be kept for ever.
pub(crate) async fn asset(PathText(name): PathText, headers: HeaderMap) -> Response {
    // Only what the build put there can be found: a path with `..` is the name of no embedded file. In a debug build the files are read
    // from the folder at run time by the same list.
    let safe = !name.split('/').any(|part| part.is_empty() || part.starts_with('.')) && !name.contains('\\');
    match safe.then(|| Assets::get(&format!("assets/{name}"))).flatten() {
        Some(file) => answer(&headers, file, content_type(&name), "public, max-age=31536000, immutable"),
        None => Problem::not_found("no_such_path", "The page has no such file.").into_response(),
    }
}

fn answer(headers: &HeaderMap, file: EmbeddedFile, content_type: &'static str, cache: &'static str) -> Response {
    let etag = etag(&file);
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let body = match file.data {
            std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
        };
        Response::new(Body::from(body))
    };
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    fields.insert(header::ETAG, etag);
    fields.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    fields.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn etag(file: &EmbeddedFile) -> HeaderValue {
    let hash = file.metadata.sha256_hash();
    let hex: String = hash[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::try_from(format!("\"{hex}\"")).expect("hexadecimal digits are valid in a header")
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("json" | "map") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("woff2") => "font/woff2",
        Some("html") => "text/html; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn not_built() -> Response {
    const TEXT: &str = "Tickwire is running, but this build has no web page in it. Build it with `make page` and build the server again.\n\
        The API is there all the same: try GET /v1/quotes.\n";
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")], TEXT).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_outside_the_page_is_served() {
        for name in ["../Cargo.toml", "..", "a/../../x", "", "a//b", ".hidden", "..\\x"] {
            assert_eq!(asset(PathText(name.to_owned()), HeaderMap::new()).await.status(), 404, "{name}");
        }
    }
}
