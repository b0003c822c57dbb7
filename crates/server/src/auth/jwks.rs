//! JSON Web Key Sets (RFC 7517 §5): what a signer publishes of its keys.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::key::{KeyFault, TokenAlgorithm, VerifyKey};
use crate::config::STRONG_SECRET_BYTES;

/// The largest document that is read. The sets of large signers have some ten kilobytes, certificates included.
pub(super) const JWKS_BYTES_MAX: usize = 256 << 10;

/// Keys of one set that are used: each of them may have to be tried for a token that names none.
const KEYS_MAX: usize = 64;

/// Where a document comes from decides what it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JwksOrigin {
    /// A file, which an operator has put there.
    File,
    /// A URL, which everybody can read: a secret in it is none.
    Url,
}

/// The keys of a document.
#[derive(Debug, Default)]
pub(super) struct Jwks {
    pub(super) keys: Vec<VerifyKey>,
    /// Those that are not used, with the reason.
    pub(super) skipped: Vec<String>,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
    d: Option<serde::de::IgnoredAny>,
}

impl Jwks {
    /// Reads a document. Keys that are of no use here are left out, since other programs share the set.
    pub(super) fn parse(document: &[u8], origin: JwksOrigin) -> Result<Self, KeyFault> {
        if document.len() > JWKS_BYTES_MAX {
            return Err(KeyFault::TooLarge { seen: document.len() as u64, max: JWKS_BYTES_MAX });
        }
        // Of what the parser says only the place: it may quote from the document.
        let place = |error: serde_json::Error| {
            let what = if error.is_data() { "it has no list \"keys\"" } else { "it is no JSON" };
            KeyFault::NotJwks(format!("{what} (line {}, column {})", error.line(), error.column()))
        };
        let Document { keys } = serde_json::from_slice(document).map_err(place)?;
        let mut jwks = Self::default();
        for (index, value) in keys.into_iter().enumerate() {
            let name = value.get("kid").and_then(Value::as_str).map(shown);
            let name = name.unwrap_or_else(|| format!("key {}", index + 1));
            match serde_json::from_value::<Jwk>(value) {
                _ if jwks.keys.len() >= KEYS_MAX => {
                    jwks.skipped.push(format!("{name}: only the first {KEYS_MAX} keys are used"));
                    break;
                }
                Err(_) => jwks.skipped.push(format!("{name}: it has no \"kty\", or a member of a wrong type")),
                Ok(jwk) => match jwk.read(origin) {
                    Ok(key) => jwks.keys.push(key.named(jwk.kid.as_deref())),
                    Err(why) => jwks.skipped.push(format!("{name}: {why}")),
                },
            }
        }
        if jwks.keys.is_empty() {
            let why = if jwks.skipped.is_empty() { String::new() } else { format!(" ({})", jwks.skipped.join("; ")) };
            return Err(KeyFault::NothingUsable(why));
        }
        Ok(jwks)
    }
}

impl Jwk {
    fn read(&self, origin: JwksOrigin) -> Result<VerifyKey, String> {
        if let Some(usage) = self.usage.as_deref().filter(|usage| *usage != "sig") {
            return Err(format!("its use is {:?}, not \"sig\"", shown(usage)));
        }
        if self.key_ops.as_ref().is_some_and(|operations| !operations.iter().any(|name| name == "verify")) {
            return Err("its key_ops do not include \"verify\"".to_owned());
        }
        if self.d.is_some() {
            return Err("it is a private key; publish its public half alone, and make a new pair".to_owned());
        }
        let key = self.material(origin)?;
        match &self.alg {
            Some(alg) if TokenAlgorithm::from_name(alg) != Some(key.algorithm()) => {
                Err(format!("its alg is {:?}, expected {}", shown(alg), key.algorithm()))
            }
            _ => Ok(key),
        }
    }

    fn material(&self, origin: JwksOrigin) -> Result<VerifyKey, String> {
        let fault = |fault: KeyFault| format!("it {fault}");
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => VerifyKey::rsa(&part("n", &self.n)?, &part("e", &self.e)?).map_err(fault),
            ("EC", Some("P-256")) => {
                let (x, y) = (part("x", &self.x)?, part("y", &self.y)?);
                // RFC 7518 §6.2.1.2: always 32 bytes, also where the first ones are zero.
                if x.len() != 32 || y.len() != 32 {
                    return Err(fault(KeyFault::Point));
                }
                VerifyKey::p256(&[&[4][..], &x, &y].concat()).map_err(fault)
            }
            ("OKP", Some("Ed25519")) => VerifyKey::ed25519(&part("x", &self.x)?).map_err(fault),
            ("oct", _) if origin == JwksOrigin::Url => Err("it is a shared secret, which no URL may tell".to_owned()),
            ("oct", _) => match part("k", &self.k)? {
                secret if secret.len() < STRONG_SECRET_BYTES => Err(fault(KeyFault::WeakSecret(secret.len()))),
                secret => Ok(VerifyKey::secret(&secret)),
            },
            (kind, None) => Err(format!("its kty is {:?}, expected RSA, EC, OKP or oct with its crv", shown(kind))),
            (kind, Some(curve)) => Err(format!(
                "its kty and crv are {:?} and {:?}, expected EC with P-256, or OKP with Ed25519",
                shown(kind),
                shown(curve)
            )),
        }
    }
}

fn part(name: &str, text: &Option<String>) -> Result<Vec<u8>, String> {
    let decoded = text.as_ref().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    decoded.ok_or_else(|| format!("its {name} is missing, or not base64url"))
}

/// Enough of a foreign text to recognise it.
fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}
