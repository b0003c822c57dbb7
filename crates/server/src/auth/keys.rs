//! Where the keys of tokens come from: the configuration, files that are read again when they change, a URL that is read now and then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::metrics::{counter, gauge};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::jwks::{Jwks, JwksOrigin};
use super::key::{KeyFault, TokenAlgorithm, VerifyKey};
use super::keyring::{KeyRing, RemoteKeys};
use super::pem;
use super::refresh::{Asked, Refresh};
use super::unix_now;
use crate::config::{JwtConfig, digest_of, read_key_file};
use crate::metrics;
use crate::telemetry::Throttle;

/// How long the verification of a token waits for a key that may have been published since the set was read.
const PATIENCE: Duration = Duration::from_secs(2);

/// Checks a file of public keys, for the configuration.
///
/// # Errors
/// It holds none, something else, or one for another algorithm.
pub(crate) fn check_pem(contents: &[u8], algorithm: Option<TokenAlgorithm>) -> Result<(), KeyFault> {
    read_pem(contents, algorithm, None).map(drop)
}

/// Checks a file with a key set, for the configuration.
///
/// # Errors
/// It is none, or nothing in it can be used.
pub(crate) fn check_jwks_file(contents: &[u8]) -> Result<(), KeyFault> {
    Jwks::parse(contents, JwksOrigin::File).map(drop)
}

fn read_pem(contents: &[u8], algorithm: Option<TokenAlgorithm>, kid: Option<&str>) -> Result<Vec<VerifyKey>, KeyFault> {
    let keys = pem::public_keys(contents)?;
    for key in &keys {
        if let Some(expected) = algorithm.filter(|expected| *expected != key.algorithm()) {
            return Err(KeyFault::Algorithm { seen: key.algorithm(), expected: expected.name() });
        }
    }
    Ok(keys.into_iter().map(|key| key.named(kid)).collect())
}

/// The keys of all sources, and what is needed to keep them up to date.
#[derive(Debug)]
pub(super) struct TokenKeys {
    config: JwtConfig,
    ring: ArcSwap<KeyRing>,
    /// What was last read of each file.
    files: Mutex<Vec<FileKeys>>,
    refresh: Mutex<Refresh>,
    last_error: Mutex<Option<String>>,
    wanted: Notify,
    /// Counts the readings of the URL that have ended.
    finished: watch::Sender<u64>,
}

#[derive(Clone, Debug, Default)]
struct FileKeys {
    /// The digest of the contents, or why there are none.
    seen: Option<Result<[u8; 32], String>>,
    keys: Arc<[VerifyKey]>,
}

impl TokenKeys {
    /// Reads the files. What the URL says, `before` may know already.
    pub(super) fn new(config: &JwtConfig, before: Option<&Self>) -> Self {
        let secret = config.hs256_secret.as_ref().map(|secret| Arc::new(VerifyKey::secret(secret.expose())));
        let same = before.filter(|before| before.config.jwks_url == config.jwks_url);
        let remote = match (&config.jwks_url, same) {
            (None, _) => RemoteKeys::None,
            (Some(_), None) => RemoteKeys::Pending,
            (Some(_), Some(before)) => before.ring.load().remote.clone(),
        };
        let now = Instant::now();
        let is_known = matches!(remote, RemoteKeys::Fetched(_));
        let refresh = Refresh::new(config.jwks_refresh, config.jwks_cooldown, now, is_known);
        let count = config.pem.len() + usize::from(config.jwks_file.is_some());
        let keys = Self {
            config: config.clone(),
            ring: ArcSwap::from_pointee(KeyRing { secret, files: [].into(), remote }),
            files: Mutex::new(vec![FileKeys::default(); count]),
            refresh: Mutex::new(refresh),
            last_error: Mutex::new(same.and_then(|before| before.last_error.lock().clone())),
            wanted: Notify::new(),
            finished: watch::Sender::new(0),
        };
        gauge!(metrics::TOKEN_KEYS, "source" => "secret").set(if config.hs256_secret.is_some() { 1.0 } else { 0.0 });
        keys.read_files();
        keys
    }

    pub(super) fn ring(&self) -> Arc<KeyRing> {
        self.ring.load_full()
    }

    /// Where the keys are to be fetched from.
    pub(super) fn url(&self) -> Option<&str> {
        self.config.jwks_url.as_deref()
    }

    /// Why tokens of the URL's keys cannot be verified, or only with keys that may be out of date.
    pub(super) fn note(&self) -> Option<String> {
        let error = self.last_error.lock().clone();
        match (&self.ring.load().remote, error) {
            (RemoteKeys::Pending, None) => Some("auth.jwt.jwks_url has not been read yet".to_owned()),
            (RemoteKeys::Pending, Some(error)) => Some(format!("auth.jwt.jwks_url cannot be read: {error}")),
            (_, Some(error)) => {
                Some(format!("auth.jwt.jwks_url could not be read again, its old keys are used: {error}"))
            }
            (_, None) => None,
        }
    }

    /// Looks at each file, and takes what has changed and can be used. Blocks: files may be slow.
    pub(super) fn read_files(&self) {
        let mut files = self.files.lock();
        let mut changed = false;
        let paths = self.config.pem.iter().map(|pem| pem.file.as_path()).chain(self.config.jwks_file.as_deref());
        for (index, (path, file)) in paths.zip(files.iter_mut()).enumerate() {
            let contents = read_key_file(path);
            let seen = Some(contents.as_ref().map(|contents| digest_of(contents)).map_err(Clone::clone));
            if file.seen == seen {
                continue;
            }
            file.seen = seen;
            let read = contents.and_then(|contents| {
                self.parse_file(index, &contents).map_err(|fault| format!("{} {fault}", path.display()))
            });
            match read {
                Ok(keys) => {
                    loaded("file");
                    log_keys(&path.display().to_string(), &keys);
                    file.keys = keys.keys.into();
                    changed = true;
                }
                Err(error) => {
                    counter!(metrics::TOKEN_KEY_LOADS, "source" => "file", "outcome" => "error").increment(1);
                    let kept = file.keys.len();
                    tracing::error!(
                        error,
                        kept,
                        "a file of token keys cannot be used; what was read of it before stays"
                    );
                }
            }
        }
        if changed {
            let keys: Arc<[Arc<[VerifyKey]>]> = files.iter().map(|file| Arc::clone(&file.keys)).collect();
            let count: usize = keys.iter().map(|keys| keys.len()).sum();
            gauge!(metrics::TOKEN_KEYS, "source" => "file").set(count as f64);
            self.ring.rcu(|ring| KeyRing { files: Arc::clone(&keys), ..KeyRing::clone(ring) });
        }
    }

    fn parse_file(&self, index: usize, contents: &[u8]) -> Result<Jwks, KeyFault> {
        match self.config.pem.get(index) {
            Some(pem) => {
                let keys = read_pem(contents, pem.algorithm, pem.kid.as_deref())?;
                Ok(Jwks { keys, skipped: Vec::new() })
            }
            None => Jwks::parse(contents, JwksOrigin::File),
        }
    }

    /// Whether the URL is to be read now; if so, [`fetched`](Self::fetched) must follow.
    pub(super) fn begin_fetch(&self, now: Instant) -> bool {
        self.refresh.lock().begin(now)
    }

    /// When the URL is to be read next.
    pub(super) fn next_fetch(&self) -> Instant {
        self.refresh.lock().due()
    }

    /// Resolves when somebody waits for the URL to be read.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Takes what the URL said. What it said before stays in force while it says nothing of use.
    pub(super) fn fetched(&self, document: Result<Vec<u8>, String>, now: Instant) {
        static FAILED: Throttle = Throttle::new(Duration::from_secs(60));
        let parsed = document.and_then(|document| {
            Jwks::parse(&document, JwksOrigin::Url).map_err(|fault| format!("the document {fault}"))
        });
        self.refresh.lock().end(now, parsed.is_ok(), fastrand::f64());
        match parsed {
            Ok(jwks) => {
                loaded("url");
                gauge!(metrics::TOKEN_KEYS, "source" => "url").set(jwks.keys.len() as f64);
                self.take_remote(jwks);
                *self.last_error.lock() = None;
            }
            Err(error) => {
                counter!(metrics::TOKEN_KEY_LOADS, "source" => "url", "outcome" => "error").increment(1);
                if let Some(held_back) = FAILED.pass(now) {
                    tracing::error!(
                        error,
                        held_back,
                        "auth.jwt.jwks_url cannot be read; the keys that are known stay in force"
                    );
                }
                *self.last_error.lock() = Some(error);
            }
        }
        self.finished.send_modify(|count| *count += 1);
    }

    fn take_remote(&self, jwks: Jwks) {
        let names = |keys: &[VerifyKey]| keys.iter().map(|key| (key.kid.clone(), key.algorithm())).collect::<Vec<_>>();
        let is_news = match &self.ring.load().remote {
            RemoteKeys::Fetched(before) => names(before) != names(&jwks.keys),
            RemoteKeys::None | RemoteKeys::Pending => true,
        };
        if is_news {
            log_keys("auth.jwt.jwks_url", &jwks);
        }
        let keys: Arc<[VerifyKey]> = jwks.keys.into();
        self.ring.rcu(|ring| KeyRing { remote: RemoteKeys::Fetched(Arc::clone(&keys)), ..KeyRing::clone(ring) });
    }

    /// Has the URL read, if it may be read again already, and waits a moment for it. All who wait share one reading.
    pub(super) async fn refreshed(&self) {
        let mut finished = self.finished.subscribe();
        match self.refresh.lock().ask(Instant::now()) {
            Asked::Refused => return,
            Asked::UnderWay => {}
            Asked::Granted => self.wanted.notify_one(),
        }
        // The sender lives as long as we do.
        let _ = tokio::time::timeout(PATIENCE, finished.changed()).await;
    }
}

fn loaded(source: &'static str) {
    counter!(metrics::TOKEN_KEY_LOADS, "source" => source, "outcome" => "ok").increment(1);
    gauge!(metrics::TOKEN_KEYS_LOADED, "source" => source).set(unix_now() as f64);
}

fn log_keys(source: &str, jwks: &Jwks) {
    let keys: Vec<_> =
        jwks.keys.iter().map(|key| format!("{} {}", key.algorithm(), key.kid.as_deref().unwrap_or("-"))).collect();
    tracing::info!(source, ?keys, "keys of client tokens are in force");
    if !jwks.skipped.is_empty() {
        tracing::warn!(source, skipped = ?jwks.skipped, "keys are left out");
    }
}
