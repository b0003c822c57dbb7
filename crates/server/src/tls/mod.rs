//! TLS on the public ports: the certificate that is served, and its replacement while connections live.

mod identity;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ::metrics::{counter, gauge};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{
    ServerConfig,
    crypto::ring::Ticketer,
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub(crate) use self::identity::Identity;
pub use self::identity::IdentityError;
use crate::{config::TlsFiles, metrics};

/// What a port speaks behind TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alpn {
    /// HTTP/2 or HTTP/1.1, as the client prefers.
    Http,
    /// HTTP/2, as gRPC does.
    Grpc,
}

/// The certificate of the public ports. New handshakes are served with the newest good one; connections that are open keep theirs.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsFiles,
    served: ArcSwap<Served>,
    /// The last problem with the files, so that it is told once and not every few seconds.
    problem: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Served {
    http: Arc<ServerConfig>,
    grpc: Arc<ServerConfig>,
    not_after: SystemTime,
    digest: Vec<u8>,
}

/// What a look at the files found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reloaded {
    /// What is served already.
    Unchanged,
    /// Another certificate, which is served from now on.
    Replaced,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// They cannot be served with.
    pub(crate) fn new(files: TlsFiles) -> Result<Self, IdentityError> {
        let served = Served::new(Identity::read(&files)?);
        served.count();
        Ok(Self { files, served: ArcSwap::from_pointee(served), problem: Mutex::default() })
    }

    /// How to shake hands now.
    pub(crate) fn config(&self, alpn: Alpn) -> Arc<ServerConfig> {
        let served = self.served.load();
        match alpn {
            Alpn::Http => Arc::clone(&served.http),
            Alpn::Grpc => Arc::clone(&served.grpc),
        }
    }

    /// Looks at the files and serves what is new in them. Blocks for as long as reading them takes.
    ///
    /// # Errors
    /// They cannot be served with: what was served so far still is.
    pub(crate) fn reload(&self) -> Result<Reloaded, IdentityError> {
        let identity = Identity::read(&self.files).inspect_err(|error| self.complain(error.to_string()))?;
        *self.problem.lock() = None;
        if identity.digest == self.served.load().digest {
            return Ok(Reloaded::Unchanged);
        }
        let served = Served::new(identity);
        served.count();
        self.served.store(Arc::new(served));
        counter!(metrics::TLS_RELOADS, "outcome" => "replaced").increment(1);
        tracing::info!(cert = %self.files.cert.display(), "new TLS handshakes are served with the certificate that has come; open connections keep theirs");
        Ok(Reloaded::Replaced)
    }

    fn complain(&self, problem: String) {
        let mut last = self.problem.lock();
        if last.as_ref() != Some(&problem) {
            counter!(metrics::TLS_RELOADS, "outcome" => "failed").increment(1);
            tracing::error!(
                problem,
                "the files of listen.tls cannot be used; the certificate that was read before is served on"
            );
            *last = Some(problem);
        }
    }

    /// Looks again and again until it is cancelled. The contents decide and not the times: a Kubernetes secret is replaced by turning a
    /// symbolic link, behind which the file may be older than the one before.
    pub(crate) async fn watch(self: Arc<Self>, every: Duration, cancel: CancellationToken) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut warned = None;
        while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
            let tls = Arc::clone(&self);
            // What it found is told where it was found.
            let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
            self.warn_of_the_end(&mut warned);
        }
    }

    /// Says once a day that the certificate is about to end.
    fn warn_of_the_end(&self, warned: &mut Option<SystemTime>) {
        const EARLY: Duration = Duration::from_secs(7 * 24 * 3600);
        const AGAIN: Duration = Duration::from_secs(24 * 3600);
        let (now, end) = (SystemTime::now(), self.served.load().not_after);
        let left = end.duration_since(now).unwrap_or_default();
        let recently = warned.is_some_and(|at| now.duration_since(at).is_ok_and(|ago| ago < AGAIN));
        if left < EARLY && !recently {
            *warned = Some(now);
            let (cert, hours) = (self.files.cert.display(), left.as_secs() / 3600);
            if left.is_zero() {
                tracing::error!(%cert, "the certificate of listen.tls has expired: clients refuse to connect; replace the files");
            } else {
                tracing::warn!(%cert, hours, "the certificate of listen.tls is about to expire; replace the files");
            }
        }
    }
}

impl Served {
    fn new(Identity { certified, not_after, digest }: Identity) -> Self {
        let http = config(certified);
        let mut grpc = http.clone();
        let mut http = http;
        http.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        grpc.alpn_protocols = vec![b"h2".to_vec()];
        Self { http: Arc::new(http), grpc: Arc::new(grpc), not_after, digest }
    }

    fn count(&self) {
        let end = self.not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
        gauge!(metrics::TLS_EXPIRY).set(end.as_secs_f64());
    }
}

/// TLS 1.2 and 1.3 with the suites that rustls has for safe. A client that comes back resumes its session by a ticket: a herd does not
/// cost a signature each, and the node remembers nothing for it. The keys of the tickets are made anew with each certificate, so that no
/// session outlives it.
fn config(certified: CertifiedKey) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(identity::provider())
        .with_safe_default_protocol_versions()
        .expect("ring has the suites of both versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    match Ticketer::new() {
        Ok(ticketer) => config.ticketer = ticketer,
        // The system has no randomness to give: handshakes will fail as well, and say so.
        Err(error) => tracing::warn!(%error, "TLS sessions cannot be resumed"),
    }
    config
}

#[cfg(test)]
mod tests;
