//! Keys that verify tokens. The kind of a key is its algorithm: there is nothing in a token that could choose another one for it.

use std::fmt;

use ring::{
    hmac,
    signature::{self, RsaPublicKeyComponents, UnparsedPublicKey},
};

/// How tokens are signed. `none` is not one of the ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenAlgorithm {
    /// A secret that signer and server share (RFC 7518 §3.2).
    Hs256,
    /// RSA, PKCS #1 v1.5, SHA-256 (RFC 7518 §3.3).
    Rs256,
    /// ECDSA on P-256, SHA-256 (RFC 7518 §3.4).
    Es256,
    /// Ed25519 (RFC 8037 §3.1).
    EdDsa,
}

impl TokenAlgorithm {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Hs256, Self::Rs256, Self::Es256, Self::EdDsa];

    /// The `alg` of a token's header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of that name. RFC 9864 calls EdDSA on its one curve here by the curve's name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "Ed25519" {
            return Some(Self::EdDsa);
        }
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Whether the key that verifies is no secret.
    #[must_use]
    pub const fn is_asymmetric(self) -> bool {
        !matches!(self, Self::Hs256)
    }
}

impl fmt::Display for TokenAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is wrong with a key, or with a document of keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// No public key in PEM is in the file.
    #[error("holds no -----BEGIN PUBLIC KEY-----; make one with: openssl pkey -in private.pem -pubout")]
    NoPublicKey,
    /// No private key in PEM is in the file.
    #[error("holds no -----BEGIN PRIVATE KEY-----; make one with: openssl genpkey -algorithm ed25519")]
    NoPrivateKey,
    /// A private key in the form of RFC 5915.
    #[error("holds an EC PRIVATE KEY; bring it into PKCS #8: openssl pkcs8 -topk8 -nodes -in private.pem")]
    Sec1,
    /// What must stay with the signer.
    #[error(
        "holds a private key, which only the signer needs; put its public half here: openssl pkey -in private.pem -pubout"
    )]
    Private,
    /// A certificate instead of its key.
    #[error("holds a certificate; put its public key here: openssl x509 -in cert.pem -pubkey -noout")]
    Certificate,
    /// PEM that is cut or garbled.
    #[error("is damaged: {0}")]
    Damaged(&'static str),
    /// A key of another kind.
    #[error("holds a key of a kind that signs no tokens here; expected RSA, EC on the curve P-256, or Ed25519")]
    Kind,
    /// RSA of a wrong length.
    #[error("holds an RSA key of {0} bits, expected 2048 to 8192; make one with: openssl genrsa 3072")]
    RsaBits(usize),
    /// Numbers that are no RSA key.
    #[error("holds an RSA key with an exponent or a modulus that cannot be one")]
    Rsa,
    /// A point that is none.
    #[error("holds an EC key that is no uncompressed point of P-256")]
    Point,
    /// A secret that can be guessed.
    #[error("holds a shared secret of {0} bytes, expected at least 32")]
    WeakSecret(usize),
    /// Not the algorithm that the configuration names.
    #[error("holds a key for {seen}, but algorithm is {expected:?}; name \"{seen}\" or put another key there")]
    Algorithm {
        /// That of the key.
        seen: TokenAlgorithm,
        /// That of the configuration.
        expected: &'static str,
    },
    /// Not a JSON Web Key Set.
    #[error("is no JSON Web Key Set: {0}; it reads {{\"keys\": [{{\"kty\": …}}]}}")]
    NotJwks(String),
    /// A set of nothing that can be used.
    #[error("holds no key that verifies tokens here{0}")]
    NothingUsable(String),
    /// Larger than any set of keys.
    #[error("has {seen} bytes, at most {max} are read")]
    TooLarge {
        /// Its size.
        seen: u64,
        /// The bound.
        max: usize,
    },
}

/// The shortest modulus that is accepted: RFC 7518 §3.3.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// One key, with the name that its signer gives it.
pub(super) struct VerifyKey {
    pub(super) kid: Option<Box<str>>,
    material: Material,
}

enum Material {
    Secret(hmac::Key),
    Rsa(RsaPublicKeyComponents<Box<[u8]>>),
    /// An uncompressed point.
    P256(Box<[u8]>),
    Ed25519([u8; 32]),
}

impl VerifyKey {
    /// A shared secret.
    pub(super) fn secret(secret: &[u8]) -> Self {
        Self::of(Material::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// An RSA key of its two numbers, big-endian.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyFault> {
        let (n, e) = (without_zeros(modulus), without_zeros(exponent));
        let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) {
            return Err(KeyFault::RsaBits(bits));
        }
        let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
        // The library refuses exponents of more than 33 bits: they only make verifying expensive.
        if !is_odd(n) || !is_odd(e) || e.len() > 4 || e == [1] {
            return Err(KeyFault::Rsa);
        }
        Ok(Self::of(Material::Rsa(RsaPublicKeyComponents { n: n.into(), e: e.into() })))
    }

    /// A point of P-256 in its uncompressed form: 4, x, y.
    pub(super) fn p256(point: &[u8]) -> Result<Self, KeyFault> {
        if point.len() != 65 || point[0] != 4 {
            return Err(KeyFault::Point);
        }
        Ok(Self::of(Material::P256(point.into())))
    }

    /// A key of Ed25519.
    pub(super) fn ed25519(key: &[u8]) -> Result<Self, KeyFault> {
        let key = key.try_into().map_err(|_| KeyFault::Damaged("an Ed25519 key has 32 bytes"))?;
        Ok(Self::of(Material::Ed25519(key)))
    }

    fn of(material: Material) -> Self {
        Self { kid: None, material }
    }

    /// The same key under a name.
    pub(super) fn named(mut self, kid: Option<&str>) -> Self {
        self.kid = kid.map(Into::into);
        self
    }

    /// The one algorithm that it is for.
    pub(super) fn algorithm(&self) -> TokenAlgorithm {
        match self.material {
            Material::Secret(_) => TokenAlgorithm::Hs256,
            Material::Rsa(_) => TokenAlgorithm::Rs256,
            Material::P256(_) => TokenAlgorithm::Es256,
            Material::Ed25519(_) => TokenAlgorithm::EdDsa,
        }
    }

    /// Whether this key made the signature of a message.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Secret(key) => hmac::verify(key, message, signature),
            Material::Rsa(key) => key.verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, signature),
            Material::P256(point) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Material::Ed25519(key) => UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signature),
        }
        .is_ok()
    }
}

/// Without what the key is made of: one kind of it is a secret.
impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyKey").field("algorithm", &self.algorithm()).field("kid", &self.kid).finish()
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}
