//! Keys in PEM (RFC 7468): public ones as `openssl pkey -pubout` writes them, private ones in PKCS #8.

use ring::{rand::SystemRandom, signature};
use rustls::pki_types::pem::{self, SectionKind};

use super::key::{KeyFault, TokenAlgorithm, VerifyKey};

/// What stands in a file of PEM: each section with its label, bounded by who read the file.
fn sections(text: &[u8]) -> Result<Vec<(SectionKind, Vec<u8>)>, KeyFault> {
    let mut rest = text;
    let mut found = Vec::new();
    loop {
        match pem::from_buf(&mut rest) {
            Ok(Some(section)) => found.push(section),
            Ok(None) => return Ok(found),
            Err(_) => return Err(KeyFault::Damaged("a section has no end, or what is in it is not base64")),
        }
    }
}

/// The public keys of a file, in their order: while keys are changed, a file may hold the next one as well.
pub(super) fn public_keys(text: &[u8]) -> Result<Vec<VerifyKey>, KeyFault> {
    let mut keys = Vec::new();
    let mut has_certificate = false;
    for (kind, der) in sections(text)? {
        match kind {
            SectionKind::PublicKey => keys.push(public_key(&der)?),
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                return Err(KeyFault::Private);
            }
            SectionKind::Certificate => has_certificate = true,
            _ => {}
        }
    }
    match keys.is_empty() {
        false => Ok(keys),
        true if has_certificate => Err(KeyFault::Certificate),
        true => Err(KeyFault::NoPublicKey),
    }
}

/// `1.2.840.113549.1.1.1`
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// `1.2.840.10045.2.1`
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// `1.2.840.10045.3.1.7`
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// `1.3.101.112`
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// A `SubjectPublicKeyInfo` (RFC 5280 §4.1): an algorithm, and a key as that algorithm writes it.
fn public_key(der: &[u8]) -> Result<VerifyKey, KeyFault> {
    let (algorithm, key) = info(der).ok_or(KeyFault::Damaged("it is no public key in DER"))?;
    let mut algorithm = Der(algorithm);
    let name = algorithm.take(OBJECT).ok_or(KeyFault::Kind)?;
    match name {
        RSA => {
            let (modulus, exponent) = rsa_numbers(key).ok_or(KeyFault::Damaged("it is no RSA key in DER"))?;
            VerifyKey::rsa(modulus, exponent)
        }
        EC if algorithm.take(OBJECT) == Some(P256) => VerifyKey::p256(key),
        ED25519 => VerifyKey::ed25519(key),
        _ => Err(KeyFault::Kind),
    }
}

fn info(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut outer = Der(der);
    let mut info = Der(outer.take(SEQUENCE)?);
    let algorithm = info.take(SEQUENCE)?;
    // The first byte says how many bits of the last one are unused: none, for a key.
    let key = info.take(BIT_STRING)?.strip_prefix(&[0])?;
    (info.0.is_empty() && outer.0.is_empty()).then_some((algorithm, key))
}

fn rsa_numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut outer = Der(der);
    let mut numbers = Der(outer.take(SEQUENCE)?);
    let (modulus, exponent) = (numbers.take(INTEGER)?, numbers.take(INTEGER)?);
    (numbers.0.is_empty() && outer.0.is_empty()).then_some((modulus, exponent))
}

/// What is left to read of a text in DER (X.690 §8.1, §10.1).
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The contents of the next element, if it is of this type.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&first, rest) = self.0.split_first()?;
        let (&length, rest) = rest.split_first()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
            0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), rest.get(2..)?),
            // No key that is accepted is longer.
            _ => return None,
        };
        if first != tag || rest.len() < length {
            return None;
        }
        let (contents, rest) = rest.split_at(length);
        self.0 = rest;
        Some(contents)
    }
}

/// A private key, with which development tokens are signed.
pub enum SigningKey {
    /// Signs RS256.
    Rsa(Box<signature::RsaKeyPair>),
    /// Signs ES256.
    P256(signature::EcdsaKeyPair),
    /// Signs EdDSA.
    Ed25519(signature::Ed25519KeyPair),
}

impl SigningKey {
    /// The first private key of a file.
    ///
    /// # Errors
    /// There is none, or it is of no kind that signs tokens.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyFault> {
        for (kind, der) in sections(text)? {
            match kind {
                SectionKind::PrivateKey => return Self::from_pkcs8(&der),
                SectionKind::RsaPrivateKey => {
                    let key = signature::RsaKeyPair::from_der(&der).map_err(|_| KeyFault::Rsa)?;
                    return Ok(Self::Rsa(Box::new(key)));
                }
                SectionKind::EcPrivateKey => return Err(KeyFault::Sec1),
                _ => {}
            }
        }
        Err(KeyFault::NoPrivateKey)
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyFault> {
        // What openssl writes for Ed25519 has no public half beside the private one.
        if let Ok(key) = signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Ok(Self::Ed25519(key));
        }
        let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        if let Ok(key) = signature::EcdsaKeyPair::from_pkcs8(algorithm, der, &SystemRandom::new()) {
            return Ok(Self::P256(key));
        }
        match signature::RsaKeyPair::from_pkcs8(der) {
            Ok(key) => Ok(Self::Rsa(Box::new(key))),
            Err(_) => Err(KeyFault::Kind),
        }
    }

    /// What it signs.
    #[must_use]
    pub fn algorithm(&self) -> TokenAlgorithm {
        match self {
            Self::Rsa(_) => TokenAlgorithm::Rs256,
            Self::P256(_) => TokenAlgorithm::Es256,
            Self::Ed25519(_) => TokenAlgorithm::EdDsa,
        }
    }

    /// Signs a message; `None` if the system gives no random bytes.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            Self::P256(key) => Some(key.sign(&random, message).ok()?.as_ref().to_vec()),
            Self::Ed25519(key) => Some(key.sign(message).as_ref().to_vec()),
        }
    }
}

/// Without the key.
impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("algorithm", &self.algorithm()).finish_non_exhaustive()
    }
}
