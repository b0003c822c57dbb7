//! `tickwire token`

use std::{path::PathBuf, time::Duration};

use serde_json::json;
use tickwire_server::{
    auth::{Grant, Signer, SigningKey, TokenAlgorithm, TopicPattern, mint_with, unix_now},
    config::{DevKey, JwtConfig, Secret},
};

use crate::{
    config::Layers,
    failure::{Failure, Outcome},
    output,
    remote::{self, Url},
};

/// Mint a client token for development
///
/// It is signed with the private key of --key, with auth.jwt.hs256_secret of the configuration, or else with the development secret of the
/// server at --url.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tickwire token --sub alice
  tickwire token --sub bob --allow 'ticker:*' --allow room:lobby --ttl 15m
  tickwire watch EURUSD --token \"$(tickwire token --sub alice)\"
  tickwire token --sub ci -c tickwire.toml
  tickwire token --sub ci --key private.pem --kid 2030     a server with the public half in auth.jwt takes it")]
pub(crate) struct Args {
    /// The user
    #[arg(long, value_name = "USER")]
    sub: String,
    /// A topic pattern that may be joined, such as 'ticker:*'; may be repeated; without it all topics
    #[arg(long, value_name = "PATTERN")]
    allow: Vec<TopicPattern>,
    /// A topic pattern that may be sent on; may be repeated; without it those of --allow
    #[arg(long, value_name = "PATTERN")]
    publish: Option<Vec<TopicPattern>>,
    /// How long it is valid
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = remote::parse_time)]
    ttl: Duration,
    /// Sign with the secret in this file, instead of the configured one
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    secret_file: Option<PathBuf>,
    /// Sign with the private key in this file (PKCS #8 in PEM: RSA, EC on P-256, or Ed25519)
    #[arg(long, value_name = "FILE", conflicts_with = "secret_file")]
    key: Option<PathBuf>,
    /// What the key must sign: RS256, ES256 or EdDSA; without it whatever is its kind
    #[arg(long, value_name = "NAME", requires = "key", value_parser = algorithm)]
    alg: Option<TokenAlgorithm>,
    /// The name by which the server knows the key
    #[arg(long, value_name = "NAME", requires = "key")]
    kid: Option<String>,
    /// The server whose development secret signs
    #[arg(long, env = "TICKWIRE_URL", default_value = remote::DEFAULT_URL, value_parser = Url::parse)]
    url: Url,
    #[command(flatten)]
    layers: Layers,
    /// Print one JSON object, with the expiry
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let key = args.key.as_deref().map(|path| private_key(path, args.alg)).transpose()?;
    let (jwt, signer) = match &key {
        Some(key) => (args.layers.clone().load()?.auth.jwt, Signer::Key { key, kid: args.kid.as_deref() }),
        None => (secret(args)?, Signer::Secret),
    };
    let grant =
        Grant { user: args.sub.clone(), allow: args.allow.clone(), publish: args.publish.clone(), ttl: args.ttl };
    let now = unix_now();
    let token = mint_with(signer, &jwt, &grant, now).map_err(Failure::usage)?;
    if !args.json {
        return output::print(format_args!("{token}\n"));
    }
    output::print_json(&json!({"token": token, "sub": args.sub, "expires": now.saturating_add(args.ttl.as_secs())}))
}

fn algorithm(text: &str) -> Result<TokenAlgorithm, String> {
    let known = TokenAlgorithm::from_name(text).filter(|algorithm| algorithm.is_asymmetric());
    known.ok_or_else(|| format!("{text:?} is no algorithm of a private key, expected RS256, ES256 or EdDSA"))
}

fn private_key(path: &std::path::Path, algorithm: Option<TokenAlgorithm>) -> Result<SigningKey, Failure> {
    let wrong = |why: String| Failure::usage(format!("--key: {why}"));
    let text = std::fs::read(path).map_err(|error| wrong(format!("cannot read {}: {error}", path.display())))?;
    let key = SigningKey::from_pem(&text).map_err(|fault| wrong(format!("{} {fault}", path.display())))?;
    match algorithm {
        Some(expected) if expected != key.algorithm() => Err(wrong(format!(
            "{} signs {}, but --alg is {expected}; leave --alg out",
            path.display(),
            key.algorithm()
        ))),
        _ => Ok(key),
    }
}

/// What to sign with: the secret that was named, the configured one, or that of the development server.
fn secret(args: &Args) -> Result<JwtConfig, Failure> {
    let mut jwt = args.layers.clone().load()?.auth.jwt;
    if let Some(path) = &args.secret_file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("--secret-file: cannot read {}: {error}", path.display())))?;
        jwt.hs256_secret = Some(Secret::new(text.trim_end_matches(['\n', '\r'])));
    }
    if jwt.hs256_secret.is_none() {
        let key = DevKey::find(args.url.as_str()).map_err(anyhow::Error::from)?.ok_or_else(|| {
            Failure::usage(format!(
                "no secret to sign with: no configuration sets auth.jwt.hs256_secret, and there is no development server at {}; \
                 start `tickwire serve`, or give -c FILE or --secret-file FILE",
                args.url
            ))
        })?;
        key.sign_with(&mut jwt);
    }
    Ok(jwt)
}
