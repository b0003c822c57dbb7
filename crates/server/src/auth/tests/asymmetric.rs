//! Keys in pairs: which are taken, and what somebody may try who has only the public half.

use std::path::{Path, PathBuf};

use super::super::jwks::{Jwks, JwksOrigin};
use super::super::key::VerifyKey;
use super::super::pem;
use super::*;
use crate::config::PemConfig;

/// The keys are made for these tests; `tokens.json` was signed by another implementation.
pub(super) fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name)
}

pub(super) fn text(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap()
}

pub(super) fn pem_config(name: &str, kid: Option<&str>) -> PemConfig {
    PemConfig { file: file(name), algorithm: None, kid: kid.map(str::to_owned) }
}

/// A server with these files of keys.
fn auth_with(pem: Vec<PemConfig>, jwks: Option<&str>) -> Auth {
    let mut config = Config::default().auth;
    config.jwt.pem = pem;
    config.jwt.jwks_file = jwks.map(file);
    Auth::new(&config)
}

fn grant() -> Grant {
    Grant { user: "ada".to_owned(), allow: vec![], publish: None, ttl: Duration::from_secs(60) }
}

pub(super) fn minted(key: &str, kid: Option<&str>) -> String {
    let key = SigningKey::from_pem(text(key).as_bytes()).unwrap();
    mint_with(Signer::Key { key: &key, kid }, &Config::default().auth.jwt, &grant(), NOW).unwrap()
}

#[track_caller]
fn check(auth: &Auth, token: &str, expected: Result<(), &str>) {
    match (auth.token(token, NOW), expected) {
        (Ok(principal), Ok(())) => assert_eq!(principal.user().map(AsRef::as_ref), Some("ada")),
        (Err(error), Err(fragment)) => {
            assert_eq!(error.code(), "token_invalid", "{error}");
            assert!(error.to_string().contains(fragment), "{error}\n  does not say: {fragment}");
        }
        (outcome, _) => panic!("{outcome:?}"),
    }
}

const PAIRS: [(&str, &str, &str); 3] =
    [("rsa", "RS256", "rsa.pub.pem"), ("p256", "ES256", "p256.pub.pem"), ("ed25519", "EdDSA", "ed25519.pub.pem")];

#[test]
fn each_kind_of_key_takes_its_own_tokens_and_no_others() {
    let foreign: Value = serde_json::from_str(&text("tokens.json")).unwrap();
    for (name, algorithm, public) in PAIRS {
        let auth = auth_with(vec![pem_config(public, None)], None);
        let jwks = auth_with(vec![], Some("jwks.json"));
        check(&auth, &minted(&format!("{name}.pem"), None), Ok(()));
        check(&auth, foreign[algorithm].as_str().unwrap(), Ok(()));
        check(&jwks, foreign[algorithm].as_str().unwrap(), Ok(()));
        check(&jwks, &minted(&format!("{name}.pem"), None), Ok(()));
        for (other, other_algorithm, _) in PAIRS.iter().filter(|(other, ..)| *other != name) {
            let expected = format!("signed with {other_algorithm:?}, expected {algorithm}");
            check(&auth, &minted(&format!("{other}.pem"), None), Err(&expected));
        }
    }
}

/// The signer's other half is public: who knows it must not be able to sign with it.
#[test]
fn a_public_key_is_no_secret() {
    for (name, algorithm, public) in PAIRS {
        let auth = auth_with(vec![pem_config(public, None)], Some("jwks.json"));
        let claims = json!({"exp": NOW + 60, "sub": "ada"});
        let pem_text = text(public);
        let header = |alg: &str| json!({"alg": alg, "kid": name});
        for secret in [pem_text.as_str(), pem_text.trim_end(), ""] {
            check(&auth, &signed(&header("HS256"), &claims, secret), Err("signed with \"HS256\""));
            check(&auth, &signed(&header("none"), &claims, secret), Err("signed with \"none\""));
            check(&auth, &signed(&header(algorithm), &claims, secret), Err("signature"));
        }
        // With a secret beside it, each key still takes its own only.
        let mut config = config();
        config.jwt.pem = vec![pem_config(public, None)];
        let both = Auth::new(&config);
        check(&both, &signed(&header("HS256"), &claims, &pem_text), Err("signature"));
        check(&both, &signed(&header("HS256"), &claims, SECRET), Ok(()));
        check(&both, &minted(&format!("{name}.pem"), Some("x")), Ok(()));
    }
}

#[test]
fn a_changed_token_is_not_signed() {
    for (name, _, public) in PAIRS {
        let auth = auth_with(vec![pem_config(public, None)], None);
        let token = minted(&format!("{name}.pem"), None);
        let (message, signature) = token.rsplit_once('.').unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        check(&auth, &format!("{message}."), Err("signature"));
        check(&auth, &format!("{message}.{}", URL_SAFE_NO_PAD.encode(&bytes[1..])), Err("signature"));
        // All zeros was once a valid signature of ECDSA in a well-known library.
        check(&auth, &format!("{message}.{}", URL_SAFE_NO_PAD.encode(vec![0; bytes.len()])), Err("signature"));
        bytes[3] ^= 1;
        check(&auth, &format!("{message}.{}", URL_SAFE_NO_PAD.encode(&bytes)), Err("signature"));
        let claims = URL_SAFE_NO_PAD.encode(json!({"exp": NOW + 60, "sub": "eve"}).to_string());
        let header = message.split('.').next().unwrap();
        check(&auth, &format!("{header}.{claims}.{signature}"), Err("signature"));
    }
}

#[test]
fn the_name_of_a_key_selects_it() {
    let auth = auth_with(vec![pem_config("p256.pub.pem", Some("a")), pem_config("ed25519.pub.pem", None)], None);
    check(&auth, &minted("p256.pem", Some("a")), Ok(()));
    check(&auth, &minted("p256.pem", None), Ok(()));
    check(&auth, &minted("p256.pem", Some("b")), Err("the key \"b\", which this server does not have"));
    // A key without a name takes tokens of any.
    check(&auth, &minted("ed25519.pem", Some("b")), Ok(()));
    // One name for two keys: each takes its own algorithm.
    let twins = auth_with(vec![pem_config("p256.pub.pem", Some("a")), pem_config("rsa.pub.pem", Some("a"))], None);
    check(&twins, &minted("p256.pem", Some("a")), Ok(()));
    check(&twins, &minted("rsa.pem", Some("a")), Ok(()));
}

#[test]
fn files_that_hold_no_public_key_say_what_to_do() {
    let check = |contents: &str, says: &str| {
        let fault = pem::public_keys(contents.as_bytes()).map(drop).unwrap_err().to_string();
        assert!(fault.contains(says), "{fault}\n  does not say: {says}");
    };
    check(&text("rsa.pem"), "private key, which only the signer needs");
    check(&text("p256.pem"), "private key");
    check(&format!("{}{}", text("p256.pub.pem"), text("ed25519.pem")), "private key");
    check(&text("rsa-1024.pub.pem"), "RSA key of 1024 bits, expected 2048 to 8192");
    check(&text("p384.pub.pem"), "expected RSA, EC on the curve P-256, or Ed25519");
    check(&text("cert.pem"), "openssl x509");
    check("", "-----BEGIN PUBLIC KEY-----");
    check("ssh-ed25519 AAAA", "-----BEGIN PUBLIC KEY-----");
    check("-----BEGIN PUBLIC KEY-----\nAAAA\n", "damaged");
    check("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "damaged");
    check("-----BEGIN PUBLIC KEY-----\n!!!!\n-----END PUBLIC KEY-----\n", "damaged");
    assert_eq!(
        pem::public_keys(format!("{}{}", text("rsa.pub.pem"), text("p256.pub.pem")).as_bytes()).unwrap().len(),
        2
    );
}

/// Each byte of a key file cut off or changed: a fault or another key, never a panic.
#[test]
fn damaged_keys_do_not_panic() {
    for (_, _, public) in PAIRS {
        let text = text(public);
        let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        let der = base64::engine::general_purpose::STANDARD.decode(body).unwrap();
        let wrap = |der: &[u8]| {
            let body = base64::engine::general_purpose::STANDARD.encode(der);
            format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
        };
        for index in 0..der.len() {
            let _ = pem::public_keys(wrap(&der[..index]).as_bytes());
            for bit in [1, 0x80, 0xff] {
                let mut changed = der.clone();
                changed[index] ^= bit;
                if let Ok(keys) = pem::public_keys(wrap(&changed).as_bytes()) {
                    let verifies = |key: &VerifyKey| key.verifies(b"message", &[0; 64]);
                    assert!(!keys.iter().any(verifies));
                }
            }
        }
    }
}

fn jwks(keys: &Value, origin: JwksOrigin) -> Result<(usize, Vec<String>), String> {
    let document = json!({ "keys": keys }).to_string();
    let jwks = Jwks::parse(document.as_bytes(), origin).map_err(|fault| fault.to_string())?;
    Ok((jwks.keys.len(), jwks.skipped))
}

#[test]
fn a_set_is_used_as_far_as_it_can_be() {
    let good: Value = serde_json::from_str(&text("jwks.json")).unwrap();
    let (rsa, p256, ed25519) = (&good["keys"][0], &good["keys"][1], &good["keys"][2]);
    let with = |key: &Value, member: &str, value: Value| {
        let mut key = key.clone();
        key[member] = value;
        key
    };
    for (key, says) in [
        (with(rsa, "use", json!("enc")), "use is \"enc\""),
        (with(rsa, "alg", json!("RS512")), "alg is \"RS512\", expected RS256"),
        (with(rsa, "alg", json!("HS256")), "alg is \"HS256\""),
        (with(rsa, "alg", json!("none")), "alg is \"none\""),
        (with(rsa, "n", json!("AQAB")), "RSA key of 17 bits"),
        (with(rsa, "e", json!("AQ")), "exponent"),
        (with(rsa, "e", json!("AAAA")), "exponent"),
        (with(rsa, "d", json!("AQAB")), "private key"),
        (with(p256, "crv", json!("P-384")), "P-384"),
        (with(p256, "crv", json!("secp256k1")), "secp256k1"),
        (with(p256, "x", json!("AQAB")), "no uncompressed point"),
        (with(p256, "y", json!(null)), "its y is missing"),
        (with(p256, "y", json!(7)), "wrong type"),
        (with(ed25519, "crv", json!("X25519")), "X25519"),
        (with(ed25519, "x", json!("AQAB")), "32 bytes"),
        (with(ed25519, "x", json!("=")), "not base64url"),
        (with(ed25519, "key_ops", json!(["encrypt"])), "key_ops"),
        (json!({"kty": "oct", "k": "c2hvcnQ"}), "shared secret"),
        (json!({"kty": "dsa"}), "kty is \"dsa\""),
        (json!({"kid": "x"}), "no \"kty\""),
        (json!(7), "no \"kty\""),
        (json!(null), "no \"kty\""),
    ] {
        let (used, skipped) = jwks(&json!([key, p256]), JwksOrigin::Url).unwrap();
        assert_eq!(used, 1, "{key}");
        assert!(skipped[0].contains(says), "{skipped:?}\n  does not say: {says}");
        let alone = jwks(&json!([key]), JwksOrigin::Url).unwrap_err();
        assert!(alone.contains("no key") && alone.contains(says), "{alone}");
    }
    assert_eq!(jwks(&json!([rsa, rsa, p256]), JwksOrigin::Url).unwrap().0, 3, "the same name twice");
    assert_eq!(jwks(&json!([with(ed25519, "alg", json!("Ed25519"))]), JwksOrigin::Url).unwrap().0, 1);
}

#[test]
fn a_shared_secret_is_taken_from_a_file_only() {
    let secret = URL_SAFE_NO_PAD.encode(SECRET);
    let set = json!([{"kty": "oct", "k": secret, "alg": "HS256", "kid": "s"}]);
    assert_eq!(jwks(&set, JwksOrigin::File).unwrap().0, 1);
    assert!(jwks(&set, JwksOrigin::Url).unwrap_err().contains("no URL may tell"));
}

#[test]
fn documents_that_are_no_set_say_so_without_quoting_them() {
    let parse = |document: &str| Jwks::parse(document.as_bytes(), JwksOrigin::Url).map(drop).unwrap_err().to_string();
    for document in ["", "<html>", "[]", "7", "{}", "{\"keys\": 7}", "{\"keys\": [{]}", "{\"keys\": {}}"] {
        assert!(parse(document).contains("no JSON Web Key Set"), "{document}: {}", parse(document));
    }
    assert!(!parse("{\"keys\": \"hunter2\"}").contains("hunter2"));
    assert!(parse("{\"keys\": []}").contains("no key"));
    assert!(parse(&" ".repeat(300 << 10)).contains("at most"));
    let many =
        json!({ "keys": vec![json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([1; 32])}); 500] });
    let many = Jwks::parse(many.to_string().as_bytes(), JwksOrigin::Url).unwrap();
    assert_eq!((many.keys.len(), many.skipped.len()), (64, 1));
}

#[test]
fn private_keys_are_read_to_sign_with() {
    for (name, algorithm, public) in PAIRS {
        let key = SigningKey::from_pem(text(&format!("{name}.pem")).as_bytes()).unwrap();
        assert_eq!(key.algorithm().name(), algorithm);
        assert!(!format!("{key:?}").contains("BEGIN"));
        assert!(matches!(SigningKey::from_pem(text(public).as_bytes()), Err(KeyFault::NoPrivateKey)));
    }
    for name in TokenAlgorithm::ALL.map(TokenAlgorithm::name) {
        assert_eq!(TokenAlgorithm::from_name(name).map(TokenAlgorithm::name), Some(name));
    }
    for name in ["none", "None", "", "rs256", "RS384", "PS256", "ES384", "HS512"] {
        assert_eq!(TokenAlgorithm::from_name(name), None);
    }
}
