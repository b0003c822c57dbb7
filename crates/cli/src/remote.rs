//! Speaking to a server: where it is, with which key, and publishing to it over HTTP.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{StatusCode, header};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde::Deserialize;
use tickwire_server::config::{DevKey, parse_duration};

use crate::failure::Failure;

/// Where a server listens unless it is told otherwise.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:4000";

/// How long a server may take to answer a request: longer than it waits itself for the owners of symbols.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that is at capacity and does not say for how long is asked again after this.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_millis(200);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// How to reach a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// `http`, `https`; `ws` and `wss` stand for them, so that one `TICKWIRE_URL` serves every command.
    Http,
    /// `grpc`, `grpcs`.
    Grpc,
}

/// Where a server is.
#[derive(Debug, Clone)]
pub(crate) struct Url(reqwest::Url);

impl Url {
    /// Reads the argument of `--url`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const EXPECTED: &str =
            "expected http://HOST:PORT, ws://HOST:PORT/socket or grpc://HOST:PORT, for example http://127.0.0.1:4000";
        let url = reqwest::Url::parse(text).map_err(|error| format!("{text:?} is no URL ({error}); {EXPECTED}"))?;
        let known = ["http", "https", "ws", "wss", "grpc", "grpcs"].contains(&url.scheme());
        if known && url.host().is_some() {
            Ok(Self(url))
        } else {
            Err(format!("{text:?} is not the URL of a server; {EXPECTED}"))
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) fn protocol(&self) -> Protocol {
        if self.0.scheme().starts_with("grpc") { Protocol::Grpc } else { Protocol::Http }
    }

    /// `http://host:port` or `https://host:port`, without a path.
    pub(crate) fn origin(&self) -> String {
        let (scheme, port) = match self.0.scheme() {
            "https" | "wss" | "grpcs" => ("https", 443),
            _ => ("http", 80),
        };
        let port = self.0.port().unwrap_or(if self.protocol() == Protocol::Grpc { 4001 } else { port });
        format!("{scheme}://{}:{port}", self.0.host_str().unwrap_or_default())
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str().trim_end_matches('/'))
    }
}

/// Reads a duration such as `250ms`, `10s`, `1h`.
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| format!("{text:?} is not a duration, for example 250ms, 10s or 1h"))
}

/// The key that a publisher shows.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct KeyArg {
    /// The API key; without it the development key of a server on this machine is found by itself
    #[arg(long, env = "TICKWIRE_KEY", hide_env_values = true, value_name = "KEY")]
    key: Option<String>,
}

impl KeyArg {
    /// The key to show at `url`, if there is one.
    pub(crate) fn find(&self, url: &Url) -> Result<Option<String>, Failure> {
        if self.key.is_some() {
            return Ok(self.key.clone());
        }
        let found = DevKey::find(url.as_str())
            .map_err(|error| Failure::Failed(anyhow::Error::from(error).context("read the development key")))?;
        Ok(found.map(|key| String::from_utf8_lossy(key.api_key.expose()).into_owned()))
    }
}

/// Whom to trust.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct CaArg {
    /// Certificates of the authorities that may have signed the server's, PEM, in place of the usual ones
    #[arg(long, env = "TICKWIRE_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl CaArg {
    /// The certificates, if there is a file of them.
    pub(crate) fn certificates(&self) -> Result<Option<Vec<CertificateDer<'static>>>, Failure> {
        let Some(file) = &self.ca else { return Ok(None) };
        let expected = "expected PEM with -----BEGIN CERTIFICATE-----";
        let bad = |seen: String| Failure::Usage(format!("--ca: {}: {seen}; {expected}", file.display()));
        let text = std::fs::read(file).map_err(|error| bad(error.to_string()))?;
        let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
        match found.map_err(|error| bad(error.to_string()))? {
            found if found.is_empty() => Err(bad("holds no certificate".to_owned())),
            found => Ok(Some(found)),
        }
    }

    /// How a client that trusts only them shakes hands.
    pub(crate) fn tls(&self) -> Result<Option<Arc<ClientConfig>>, Failure> {
        let Some(certificates) = self.certificates()? else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate).map_err(|error| Failure::Usage(format!("--ca: not an authority's: {error}")))?;
        }
        Ok(Some(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())))
    }
}

/// What a server says about a quote that it did not take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Refused {
    /// Its place in the request, from 0.
    pub(crate) index: usize,
    /// Why.
    pub(crate) error: String,
    /// The stable name of the reason.
    #[serde(default)]
    pub(crate) code: String,
    /// Whether it may be taken if it is sent again.
    #[serde(default)]
    pub(crate) retryable: bool,
}

/// What became of the quotes of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) accepted: u64,
    /// How many of the accepted ones had been taken before; gRPC does not tell.
    pub(crate) duplicates: u64,
    pub(crate) refused: Vec<Refused>,
    /// When to send again what may be.
    pub(crate) retry_after: Option<Duration>,
}

/// The body of an answer to `POST /v1/quotes` that took quotes.
#[derive(Debug, Deserialize)]
struct TakenBody {
    accepted: u64,
    #[serde(default)]
    duplicates: u64,
    #[serde(default)]
    rejected: Vec<Refused>,
}

/// The body of any other answer.
#[derive(Debug, Default, Deserialize)]
struct AnswerBody {
    #[serde(default)]
    accepted: u64,
    #[serde(default)]
    duplicates: u64,
    #[serde(default)]
    rejected: Vec<Refused>,
    /// Problem JSON: what the matter is.
    title: Option<String>,
    detail: Option<String>,
}

/// The forms in which quotes are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentType {
    Json,
    Ndjson,
    Csv,
}

impl ContentType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
        }
    }
}

/// Publishes over HTTP.
#[derive(Debug, Clone)]
pub(crate) struct HttpPublisher {
    client: reqwest::Client,
    endpoint: String,
    key: Option<String>,
}

impl HttpPublisher {
    pub(crate) fn new(url: &Url, key: Option<String>, ca: &CaArg) -> Result<Self, Failure> {
        let mut client = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(ANSWER_TIMEOUT);
        if let Some(tls) = ca.tls()? {
            client = client.tls_backend_preconfigured(ClientConfig::clone(&tls));
        }
        let client = client.build();
        let client =
            client.map_err(|error| Failure::Failed(anyhow::Error::from(error).context("set up the HTTP client")))?;
        Ok(Self { client, endpoint: format!("{}/v1/quotes", url.origin()), key })
    }

    /// Sends `count` quotes in one request.
    pub(crate) async fn send(&self, form: ContentType, body: Bytes, count: usize) -> Result<Report, Failure> {
        let mut request = self.client.post(&self.endpoint).header(header::CONTENT_TYPE, form.as_str()).body(body);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let response = request.send().await.map_err(|error| self.explain(&error))?;
        let (status, retry_after) = (response.status(), retry_after(response.headers()));
        let text = response.text().await.map_err(|error| self.explain(&error))?;
        if status.is_success() {
            let TakenBody { accepted, duplicates, rejected } = taken(&self.endpoint, status, &text)?;
            return Ok(Report { accepted, duplicates, refused: rejected, retry_after });
        }
        let body: AnswerBody = serde_json::from_str(&text).unwrap_or_default();
        if status == StatusCode::TOO_MANY_REQUESTS {
            let wait = retry_after.unwrap_or(RETRY_AFTER_DEFAULT).min(RETRY_AFTER_MAX);
            return Ok(busy(body, count, wait));
        }
        Err(self.refusal(status, &body, &text))
    }

    fn refusal(&self, status: StatusCode, body: &AnswerBody, text: &str) -> Failure {
        let said = body.detail.as_deref().or(body.title.as_deref()).unwrap_or(text).trim();
        let cure = match (status, &self.key) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, None) => {
                "\nno key was sent: give --key or set TICKWIRE_KEY; a development key is found only where `serve` runs on this machine"
            }
            _ => "",
        };
        Failure::failed(format!("POST {} was refused: {status}: {said}{cure}", self.endpoint))
    }

    fn explain(&self, error: &reqwest::Error) -> Failure {
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        if error.is_connect() || error.is_timeout() {
            return Failure::Unreachable(format!(
                "cannot connect to {}: {cause}; is the server running?",
                self.endpoint
            ));
        }
        Failure::failed(format!("POST {}: {cause}", self.endpoint))
    }
}

/// Other servers say 200 as well, our own gRPC port among them: what does not say how many it took has taken none.
fn taken(endpoint: &str, status: StatusCode, text: &str) -> Result<TakenBody, Failure> {
    serde_json::from_str(text).map_err(|_| {
        Failure::failed(format!(
            "POST {endpoint} was answered with {status} and no count of accepted quotes, so none is known to be published; \
             expected the port of listen.http, by default 4000"
        ))
    })
}

/// What is not named as refused or accepted was not taken.
fn busy(body: AnswerBody, count: usize, wait: Duration) -> Report {
    let refused = if body.rejected.is_empty() && body.accepted == 0 {
        let error = body.detail.or(body.title).unwrap_or_else(|| "the node is at capacity".to_owned());
        let refuse = |index| Refused { index, error: error.clone(), code: "busy".to_owned(), retryable: true };
        (0..count).map(refuse).collect()
    } else {
        body.rejected
    };
    Report { accepted: body.accepted, duplicates: body.duplicates, refused, retry_after: Some(wait) }
}

/// The header in its form of whole seconds; the form with a date is not sent by our servers.
fn retry_after(headers: &header::HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_url_serves_every_command() {
        for (text, protocol, origin) in [
            ("http://127.0.0.1:4000", Protocol::Http, "http://127.0.0.1:4000"),
            ("ws://localhost:4000/socket", Protocol::Http, "http://localhost:4000"),
            ("https://quotes.example/", Protocol::Http, "https://quotes.example:443"),
            ("grpc://[::1]:4001", Protocol::Grpc, "http://[::1]:4001"),
            ("grpcs://quotes.example", Protocol::Grpc, "https://quotes.example:4001"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.protocol(), url.origin().as_str()), (protocol, origin), "{text}");
        }
        for bad in ["", "localhost:4000", "4000", "ftp://host", "http://"] {
            let error = Url::parse(bad).unwrap_err();
            assert!(error.contains("for example"), "{error}");
        }
    }

    #[test]
    fn a_success_that_counts_nothing_is_none() {
        for text in ["", "{}", "<html>"] {
            let failure = taken("http://a/v1/quotes", StatusCode::OK, text).unwrap_err();
            assert!(failure.message().unwrap().contains("listen.http"), "{text}");
        }
        assert_eq!(taken("http://a/v1/quotes", StatusCode::ACCEPTED, r#"{"accepted":0}"#).unwrap().accepted, 0);
    }

    #[test]
    fn a_busy_server_has_taken_only_what_it_says() {
        let whole = busy(AnswerBody::default(), 3, Duration::from_secs(1));
        assert_eq!((whole.accepted, whole.refused.len()), (0, 3));
        assert!(whole.refused.iter().all(|refused| refused.retryable));
        let text = r#"{"title":"busy","accepted":2,"rejected":[{"index":1,"error":"no room","code":"busy","retryable":true}]}"#;
        let part = busy(serde_json::from_str(text).unwrap(), 3, Duration::from_secs(1));
        assert_eq!((part.accepted, part.refused.len(), part.refused[0].index), (2, 1, 1));
    }
}
