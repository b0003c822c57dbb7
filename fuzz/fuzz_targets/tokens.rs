//! Client tokens: what is behind a good signature (a line for the header, the rest for the claims), and texts that have none.
#![no_main]

use std::sync::LazyLock;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use ring::hmac;
use serde::de::IgnoredAny;
use serde_json::Value;
use tickwire_server::{
    auth::{Auth, AuthError, Principal},
    config::{Access, Config},
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_700_000_000;

static AUTH: LazyLock<Auth> = LazyLock::new(|| {
    let text = format!("[auth.jwt]\nhs256_secret = \"{SECRET}\"\nleeway = \"30s\"\n");
    Auth::new(&Config::parse("fuzz.toml", &text).expect("a valid configuration").auth)
});
static KEY: LazyLock<hmac::Key> = LazyLock::new(|| hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()));

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        check_unsigned(text);
    }
    let (header, claims) = match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (&br#"{"alg":"HS256"}"#[..], data),
    };
    let message = format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(claims));
    let tag = hmac::sign(&KEY, message.as_bytes());
    let token = format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag.as_ref()));
    match AUTH.token(&token, NOW) {
        Ok(principal) => check_principal(&principal, header, claims, &token),
        Err(error) => check_error(&error, &token),
    }
});

fn is_signed(token: &str) -> bool {
    token.rsplit_once('.').is_some_and(|(message, tag)| {
        BASE64_URL_SAFE_NO_PAD.decode(tag).is_ok_and(|tag| hmac::verify(&KEY, message.as_bytes(), &tag).is_ok())
    })
}

fn check_unsigned(text: &str) {
    match AUTH.token(text, NOW) {
        Ok(_) => assert!(is_signed(text), "{text} is accepted"),
        Err(error) => check_error(&error, text),
    }
    // Whatever comes as a credential, nobody becomes an API key or a user by it.
    assert!(AUTH.bearer(text, NOW).is_err() || is_signed(text));
    assert!(AUTH.api_key(text, NOW).is_err(), "there is no API key");
}

/// What is said of a token goes to logs and clients: nothing that would help whoever reads it there.
fn check_error(error: &AuthError, token: &str) {
    let said = error.to_string();
    assert!(
        said.len() < 400 && !error.code().is_empty() && matches!(error.status().as_u16(), 401 | 403 | 503),
        "{said}"
    );
    for part in token.split('.').filter(|part| part.len() > 40 && !part.contains(' ')) {
        assert!(!said.contains(part), "{said}");
    }
}

fn check_principal(principal: &Principal, header: &[u8], claims: &[u8], token: &str) {
    // What nobody reads may be deeper, or larger, than this reader can take.
    let (Ok(header), Ok(claims)) = (serde_json::from_slice::<Value>(header), serde_json::from_slice::<Value>(claims))
    else {
        assert!(
            serde_json::from_slice::<IgnoredAny>(header).is_ok()
                && serde_json::from_slice::<IgnoredAny>(claims).is_ok()
        );
        return;
    };
    assert_eq!(header["alg"], "HS256", "the algorithm is the key's");
    let exp = claims["exp"].as_f64().expect("a token ends");
    assert!(exp > NOW as f64 && principal.expires_at().is_some_and(|end| end > NOW));
    assert!(claims["nbf"].as_f64().is_none_or(|begin| begin < NOW as f64 + 31.0));
    let user = claims["sub"].as_str().filter(|user| !user.is_empty());
    assert_eq!(principal.user().map(|user| &**user), user);
    let (join, send) = (principal.may_join("ticker:A", Access::Token), principal.may_send("ticker:A", Access::Token));
    if claims.get("allow").is_none_or(Value::is_null) {
        assert!(join.is_ok(), "a token that names no topics is for all of them");
    }
    if claims["allow"].as_array().is_some_and(Vec::is_empty) {
        assert!(join.is_err() && (send.is_err() || !claims["publish"].is_null()));
    }
    assert!(principal.may_publish().is_err() && principal.may_administer().is_err(), "a token has no scopes");
    assert!(AUTH.token(token, u64::MAX).is_err(), "no token is for ever");
    // The last character of a tag has bits that nobody reads; the first has none.
    let at = token.rfind('.').expect("three parts") + 1;
    let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
    let forged = format!("{}{other}{}", &token[..at], &token[at + 1..]);
    assert!(AUTH.token(&forged, NOW).is_err(), "a changed signature");
}
