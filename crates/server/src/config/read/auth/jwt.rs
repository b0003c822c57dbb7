//! `[auth.jwt]`: the keys of client tokens. Files of keys are read here, so that a wrong one is found before a node starts.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use crate::auth::{KeyFault, TokenAlgorithm, check_jwks_file, check_pem};
use crate::config::layers::{Node, read_key_file};
use crate::config::read::{DAY, STRONG_SECRET_BYTES, secs};
use crate::config::reader::Section;
use crate::config::settings::{JwtConfig, PemConfig};
use crate::config::values::Setting;

/// Files of keys: more than any rotation needs.
const PEM_MAX: usize = 16;

pub(super) fn jwt(s: &Section<'_>) -> JwtConfig {
    let hs256_secret = s.secret("hs256_secret", STRONG_SECRET_BYTES);
    let mut pem = Vec::new();
    if let Some(file) = s.option::<PathBuf>("pem_file") {
        check(s, "pem_file", &file, |contents| check_pem(contents, None));
        pem.push(PemConfig { file, algorithm: None, kid: None });
    }
    let jwks_file = s.option::<PathBuf>("jwks_file");
    if let Some(file) = &jwks_file {
        check(s, "jwks_file", file, check_jwks_file);
    }
    let mut config = JwtConfig {
        hs256_secret,
        pem,
        jwks_file,
        jwks_url: s.option_by("jwks_url", url, String::show),
        jwks_refresh: s.between("jwks_refresh", secs(600), secs(1), DAY),
        jwks_cooldown: s.between("jwks_cooldown", secs(30), Duration::ZERO, DAY),
        issuer: s.option("issuer"),
        audience: s.option("audience"),
        leeway: s.between("leeway", secs(5), Duration::ZERO, secs(300)),
    };
    // Behind all others: in TOML, what follows a list of tables would belong to its last one.
    config.pem.extend(s.sections("pem", pem_key).unwrap_or_default().into_iter().flatten());
    if config.pem.len() > PEM_MAX {
        s.problem(
            "pem",
            format!("has {} entries, at most {PEM_MAX} are used; put keys into one file", config.pem.len()),
        );
    }
    config
}

fn pem_key(s: &Section<'_>) -> Option<PemConfig> {
    let file = s.option::<PathBuf>("file");
    let algorithm = s.option_by("algorithm", algorithm, |algorithm| algorithm.name().to_owned().show());
    let kid = s.option::<String>("kid");
    if kid.as_deref() == Some("") {
        s.problem("kid", "is empty; leave it out for keys that verify tokens of any name");
    }
    if !s.has("file") {
        s.problem("file", "is missing; it names a file that begins with -----BEGIN PUBLIC KEY-----");
    }
    let file = file?;
    if s.is_sound("algorithm") {
        check(s, "file", &file, |contents| check_pem(contents, algorithm));
    }
    Some(PemConfig { file, algorithm, kid })
}

fn algorithm(node: &Node) -> Result<TokenAlgorithm, String> {
    let known = TokenAlgorithm::from_name(&String::read(node)?).filter(|algorithm| algorithm.is_asymmetric());
    known.ok_or_else(|| "is no algorithm of a key pair; expected \"RS256\", \"ES256\" or \"EdDSA\"".to_owned())
}

fn check(s: &Section<'_>, key: &str, file: &std::path::Path, holds: impl FnOnce(&[u8]) -> Result<(), KeyFault>) {
    match read_key_file(file) {
        Err(message) => s.problem(key, message),
        Ok(contents) => {
            if let Err(fault) = holds(&contents) {
                s.problem(key, format!("{} {fault}", file.display()));
            }
        }
    }
}

/// The keys decide who is let in: only a server that proves its name may tell them, or one on this machine.
fn url(node: &Node) -> Result<String, String> {
    let text = String::read(node)?;
    let uri: Uri = text.parse().map_err(|_| EXPECTED.to_owned())?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("has a user or a password in it, which a set of public keys does not need".to_owned());
    }
    match uri.scheme_str() {
        Some("https") if !host.is_empty() => Ok(text),
        Some("http") if is_local => Ok(text),
        Some("http") => {
            Err("is not https, without which anybody in between could put keys of their own there".to_owned())
        }
        _ => Err(EXPECTED.to_owned()),
    }
}

const EXPECTED: &str = "is no URL of a key set, for example \"https://id.example/.well-known/jwks.json\"";
