//! Keeps the keys of tokens up to date: the only part of `auth` that speaks to somebody else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Auth;
use super::jwks::JWKS_BYTES_MAX;

/// How often files are looked at.
const FILES_EVERY: Duration = Duration::from_secs(2);
/// A signer's server has so long for its answer, all of it.
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads files that change and the URL when it is due, for whichever `Auth` is in force. Runs until it is cancelled.
pub(crate) async fn keep_keys(current: impl Fn() -> Arc<Auth> + Send, cancel: CancellationToken) {
    let mut client = None;
    let mut files_at = Instant::now() + FILES_EVERY;
    while !cancel.is_cancelled() {
        let auth = current();
        let now = Instant::now();
        if now >= files_at {
            files_at = now + FILES_EVERY;
            let reader = Arc::clone(&auth);
            let read = tokio::task::spawn_blocking(move || reader.keys().read_files());
            if read.await.is_err() {
                tracing::error!("the reading of files of token keys crashed");
            }
        }
        if let Some(url) = auth.keys().url().filter(|_| auth.keys().begin_fetch(now)) {
            let document = cancel.run_until_cancelled(fetch(&mut client, url)).await;
            let Some(document) = document else { return };
            auth.keys().fetched(document, Instant::now());
        }
        let wake = auth.keys().url().map_or(files_at, |_| auth.keys().next_fetch().min(files_at));
        tokio::select! {
            () = cancel.cancelled() => return,
            () = auth.keys().wanted() => {}
            () = tokio::time::sleep_until(wake.into()) => {}
        }
    }
}

/// Reads a document, without following redirects: keys come from where the configuration says, or not at all.
async fn fetch(client: &mut Option<reqwest::Client>, url: &str) -> Result<Vec<u8>, String> {
    let client = match client {
        Some(client) => client,
        None => client.insert(build().map_err(|error| explain(&error))?),
    };
    let mut answer = client.get(url).send().await.map_err(|error| explain(&error))?;
    let status = answer.status();
    if status.is_redirection() {
        return Err(format!("it answers {status}; name the URL that it redirects to"));
    }
    if status != 200 {
        return Err(format!("it answers {status}, expected 200"));
    }
    let mut document = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| explain(&error))? {
        if document.len() + chunk.len() > JWKS_BYTES_MAX {
            return Err(format!("it answers with more than {JWKS_BYTES_MAX} bytes"));
        }
        document.extend_from_slice(&chunk);
    }
    Ok(document)
}

fn build() -> Result<reqwest::Client, reqwest::Error> {
    // The process may have chosen one already; it is the same one then.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(0)
        .user_agent(concat!("tickwire/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// What went wrong, down to its cause, without the URL: its query may hold what is nobody else's business.
fn explain(error: &reqwest::Error) -> String {
    let mut words = if error.is_timeout() { "it does not answer in time".to_owned() } else { error_text(error) };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words.push_str(&format!(": {error}"));
        cause = error.source();
    }
    words
}

fn error_text(error: &reqwest::Error) -> String {
    if error.is_connect() {
        "cannot connect".to_owned()
    } else if error.is_body() || error.is_decode() {
        "the answer broke off".to_owned()
    } else {
        "the request failed".to_owned()
    }
}
