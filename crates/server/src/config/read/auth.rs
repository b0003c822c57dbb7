//! `[auth]`: keys, tokens and the rights of strangers.

mod jwt;

use tickwire_market::parse_ts;

use crate::config::reader::Section;
use crate::config::settings::{AnonymousRights, ApiKeyConfig, AuthConfig, PublishMode, Scope};
use crate::config::units::{UNIX_SECONDS_MAX, show_time};
use crate::config::values::Setting;

/// An API key: what cannot be guessed over the network.
const API_KEY_BYTES: usize = 16;

pub(super) fn auth(s: &Section<'_>) -> AuthConfig {
    let publish = s.choice("publish", PublishMode::Key, &[("key", PublishMode::Key), ("open", PublishMode::Open)]);
    let anonymous =
        s.section("anonymous", |a| AnonymousRights { read: a.value("read", true), write: a.value("write", false) });
    let jwt = s.section("jwt", jwt::jwt);
    let mut keys: Vec<ApiKeyConfig> = Vec::new();
    s.sections("key", |k| {
        let key = api_key(k)?;
        if keys.iter().any(|earlier| earlier.name == key.name) {
            k.problem("name", format!("{} names an earlier key, too; names are unique", key.name.show()));
        }
        if keys.iter().any(|earlier| earlier.secret == key.secret) {
            k.problem("secret", "is the secret of an earlier key, too; each key has its own");
        }
        keys.push(key);
        Some(())
    });
    AuthConfig { publish, anonymous, keys, jwt }
}

fn api_key(s: &Section<'_>) -> Option<ApiKeyConfig> {
    let name = s.option::<String>("name");
    if name.as_ref().is_some_and(|name| name.trim().is_empty()) {
        s.problem("name", "is empty; it is what logs call the key");
    }
    let secret = s.secret("secret", API_KEY_BYTES);
    let read_scope = |name: &String| match name.as_str() {
        "publish" => Ok(Scope::Publish),
        "admin" => Ok(Scope::Admin),
        _ => Err(format!("holds {name:?}, expected \"publish\" or \"admin\"")),
    };
    let scopes = s.option_by(
        "scopes",
        |node| Vec::<String>::read(node)?.iter().map(read_scope).collect(),
        |scopes: &Vec<Scope>| scopes.iter().map(|scope| scope.name().to_owned()).collect::<Vec<_>>().show(),
    );
    if scopes.as_ref().is_some_and(Vec::is_empty) {
        s.problem("scopes", "is empty; name \"publish\" or \"admin\", or remove it for a key that only reads");
    }
    let expires = s.option_by("expires", |node| unix_seconds(&node.seen()), |seconds| show_time(*seconds));
    if !s.has("name") {
        s.problem("name", "is missing; it is what logs call the key");
    }
    if !s.has("secret") && !s.has("secret_file") {
        s.problem("secret", "is missing; make one with: openssl rand -hex 32");
    }
    Some(ApiKeyConfig { name: name?, secret: secret?, scopes: scopes.unwrap_or_default(), expires })
}

impl Scope {
    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Admin => "admin",
        }
    }
}

/// Reads `2027-01-01T00:00:00Z`, quoted or not, as Unix seconds.
fn unix_seconds(text: &str) -> Result<u64, String> {
    let text = text.trim_matches('"');
    // Bare digits would be microseconds.
    let read = text.contains(':').then(|| parse_ts(text.as_bytes()).ok()).flatten();
    let seconds = read.and_then(|microseconds| u64::try_from(microseconds / 1_000_000).ok());
    seconds
        .filter(|seconds| *seconds <= UNIX_SECONDS_MAX)
        .ok_or_else(|| "is not a time with its zone, for example 2027-01-01T00:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_unix_seconds() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2027-01-01T00:00:00+01:00", 1_798_758_000),
            ("\"2027-01-01T00:00:00Z\"", 1_798_761_600),
        ] {
            assert_eq!(unix_seconds(text), Ok(seconds), "{text}");
        }
        for text in ["2027-01-01", "2027-01-01T00:00:00", "soon", "1969-12-31T00:00:00Z"] {
            assert!(unix_seconds(text).is_err(), "{text}");
        }
    }
}
