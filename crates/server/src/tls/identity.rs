//! A certificate with its key, as two PEM files hold them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ring::digest::{Context, SHA256};
use rustls::{
    InconsistentKeys,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
    sign::CertifiedKey,
};
use x509_cert::der::Decode as _;

use crate::config::TlsFiles;

/// A chain of certificates is a few kilobytes; anything larger is a mix-up.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What a server shows of itself: its certificates and the key that proves them.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Ready to sign with.
    pub(super) certified: CertifiedKey,
    /// When the first of its certificates ends.
    pub(super) not_after: SystemTime,
    /// Of the contents of both files.
    pub(super) digest: Vec<u8>,
}

/// The files of `[listen.tls]` cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("{} cannot be read: {cause}; the server's user must be able to read it", file.display())]
    Unreadable {
        /// Which setting names it.
        setting: &'static str,
        /// Which file.
        file: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} holds {seen}; expected {expected}", file.display())]
    NotThat {
        /// Which setting names it.
        setting: &'static str,
        /// Which file.
        file: PathBuf,
        /// What was found.
        seen: String,
        /// What was looked for.
        expected: &'static str,
    },
    /// The key is not the certificate's.
    #[error(
        "{} is not the private key of the first certificate in {}; give the two files that were made together, the server's own certificate before those that signed it",
        key.display(),
        cert.display()
    )]
    Mismatch {
        /// The file with the key.
        key: PathBuf,
        /// The file with the certificate.
        cert: PathBuf,
    },
}

const CERT_EXPECTED: &str =
    "PEM with -----BEGIN CERTIFICATE-----, the server's own certificate first, then those that it was signed with";
const KEY_EXPECTED: &str = "PEM with -----BEGIN PRIVATE KEY----- (RSA of 2048 bits or more, ECDSA P-256 or P-384, or Ed25519), without a pass phrase";

impl IdentityError {
    /// The key of `[listen.tls]` to change.
    pub(crate) fn setting(&self) -> &'static str {
        match self {
            Self::Unreadable { setting, .. } | Self::NotThat { setting, .. } => setting,
            Self::Mismatch { .. } => "key",
        }
    }
}

impl Identity {
    /// Reads the files and checks that they belong together.
    ///
    /// # Errors
    /// They cannot be served with; which, and why.
    pub(crate) fn read(files: &TlsFiles) -> Result<Self, IdentityError> {
        let (cert, key) = (read("cert", &files.cert)?, read("key", &files.key)?);
        let mut digest = Context::new(&SHA256);
        digest.update(&(cert.len() as u64).to_be_bytes());
        digest.update(&cert);
        digest.update(&key);
        let not_cert =
            |seen| IdentityError::NotThat { setting: "cert", file: files.cert.clone(), seen, expected: CERT_EXPECTED };
        let not_key =
            |seen| IdentityError::NotThat { setting: "key", file: files.key.clone(), seen, expected: KEY_EXPECTED };
        let chain = CertificateDer::pem_slice_iter(&cert)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| not_cert(damaged(&error)))?;
        if chain.is_empty() {
            return Err(not_cert(kinds_of(&cert)));
        }
        let ends = chain.iter().map(not_after).collect::<Result<Vec<_>, _>>().map_err(not_cert)?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| match error {
            pem::Error::NoItemsFound => not_key(kinds_of(&key)),
            error => not_key(damaged(&error)),
        })?;
        let provider = provider();
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                IdentityError::Mismatch { key: files.key.clone(), cert: files.cert.clone() }
            }
            error => not_key(format!("a key that cannot be used ({error})")),
        })?;
        let not_after = ends.into_iter().min().unwrap_or(UNIX_EPOCH);
        Ok(Self { certified, not_after, digest: digest.finish().as_ref().to_vec() })
    }
}

/// Our one provider of cryptography, whatever the process may have installed.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(setting: &'static str, file: &Path) -> Result<Vec<u8>, IdentityError> {
    let unreadable = |cause| IdentityError::Unreadable { setting, file: file.to_owned(), cause };
    let length = fs::metadata(file).map_err(unreadable)?.len();
    if length > FILE_BYTES_MAX {
        let cause = io::Error::other(format!("it has {length} bytes, more than {FILE_BYTES_MAX}"));
        return Err(unreadable(cause));
    }
    fs::read(file).map_err(unreadable)
}

fn damaged(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "PEM that ends too early".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "PEM with a broken -----BEGIN line".to_owned(),
        pem::Error::Base64Decode(_) => "PEM that is not base64 between its lines".to_owned(),
        _ => "no PEM".to_owned(),
    }
}

/// What a file holds in place of what was looked for. Only the names between BEGIN and the dashes: the rest may be a key.
fn kinds_of(text: &[u8]) -> String {
    let known = [
        "CERTIFICATE REQUEST",
        "CERTIFICATE",
        "ENCRYPTED PRIVATE KEY",
        "RSA PRIVATE KEY",
        "EC PRIVATE KEY",
        "PRIVATE KEY",
        "PUBLIC KEY",
    ];
    let text = String::from_utf8_lossy(text);
    let found: Vec<_> = known.into_iter().filter(|kind| text.contains(&format!("-----BEGIN {kind}-----"))).collect();
    match found.as_slice() {
        [] if text.trim().is_empty() => "nothing".to_owned(),
        [] => "no PEM".to_owned(),
        kinds => kinds.join(" and "),
    }
}

fn not_after(certificate: &CertificateDer<'_>) -> Result<SystemTime, String> {
    let parsed = x509_cert::Certificate::from_der(certificate)
        .map_err(|error| format!("something that is no X.509 certificate ({error})"))?;
    let until: Duration = parsed.tbs_certificate().validity().not_after.to_unix_duration();
    UNIX_EPOCH.checked_add(until).ok_or_else(|| "a certificate that ends after the end of time".to_owned())
}
