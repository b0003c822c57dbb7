//! Keys and tokens as publishers and clients present them, good and bad.

mod asymmetric;
mod sources;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::config::{Access, ApiKeyConfig, Config, Secret};

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn config() -> AuthConfig {
    let mut config = Config::default().auth;
    config.jwt.hs256_secret = Some(Secret::new(SECRET));
    let key = |name: &str, scopes: &[Scope], expires| ApiKeyConfig {
        name: name.to_owned(),
        secret: Secret::new(format!("the-secret-of-{name}")),
        scopes: scopes.to_vec(),
        expires,
    };
    config.keys = vec![
        key("engine", &[Scope::Publish], None),
        key("operator", &[Scope::Admin], None),
        key("old", &[Scope::Publish], Some(NOW)),
        key("soon-old", &[], Some(NOW + 1)),
    ];
    config
}

fn auth() -> Auth {
    Auth::new(&config())
}

/// Signs arbitrary claims, as no honest signer would.
fn signed(header: &Value, claims: &Value, secret: &str) -> String {
    let encode = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, message.as_bytes()));
    format!("{message}.{signature}")
}

fn hs256(claims: &Value) -> String {
    signed(&json!({"alg": "HS256", "typ": "JWT"}), claims, SECRET)
}

#[track_caller]
fn check_token(token: &str, expected: Result<(), (&str, &str)>) {
    match (auth().token(token, NOW), expected) {
        (Ok(_), Ok(())) => {}
        (Err(error), Err((code, fragment))) => {
            assert_eq!(error.code(), code, "{error}");
            assert!(error.to_string().contains(fragment), "{error}\n  does not say: {fragment}");
            assert_eq!(error.status(), StatusCode::UNAUTHORIZED);
        }
        (outcome, _) => panic!("{outcome:?}"),
    }
}

#[test]
fn tokens_are_taken_or_refused_by_code() {
    let later = NOW + 60;
    for (claims, expected) in [
        (json!({"exp": later}), Ok(())),
        (json!({"exp": later, "sub": "ada", "nbf": NOW, "iat": NOW}), Ok(())),
        (json!({"exp": later as f64 + 0.5}), Ok(())),
        (json!({"exp": 1e300}), Ok(())),
        // What has ended has ended; what has only just been made may come from a clock that is ahead by the leeway of 5 s.
        (json!({"exp": NOW + 1}), Ok(())),
        (json!({"exp": NOW}), Err(("token_expired", "expired"))),
        (json!({"exp": -1}), Err(("token_expired", ""))),
        (json!({"exp": later, "nbf": NOW + 5}), Ok(())),
        (json!({"exp": later, "nbf": NOW + 6}), Err(("token_invalid", "not valid yet"))),
        (json!({"sub": "ada"}), Err(("token_invalid", "claim \"exp\" is missing"))),
        (json!({"exp": "soon"}), Err(("token_invalid", "wrong types"))),
        (json!({"exp": later, "allow": "ticker:*"}), Err(("token_invalid", "wrong types"))),
        (
            json!({"exp": later, "allow": ["a*b"]}),
            Err(("token_invalid", "claim \"allow\" holds what is no topic pattern")),
        ),
        (
            json!({"exp": later, "publish": vec!["a"; 257]}),
            Err(("token_invalid", "claim \"publish\" has more than 256")),
        ),
        (json!({"exp": later, "sub": "x".repeat(257)}), Err(("token_invalid", "claim \"sub\""))),
        (json!({"exp": later, "x": "x".repeat(8192)}), Err(("token_invalid", "bytes, expected at most 8192"))),
        (json!({"exp": later, "aud": "someone else"}), Err(("token_invalid", "claim \"aud\""))),
        (json!([1]), Err(("token_invalid", "wrong types"))),
        (json!(["ada", later, null, null, null, null, null]), Err(("token_invalid", "wrong types"))),
        (json!("ada"), Err(("token_invalid", "wrong types"))),
        (json!(null), Err(("token_invalid", "wrong types"))),
        (json!({"exp": null}), Err(("token_invalid", "claim \"exp\" is missing"))),
        (json!({"exp": [later]}), Err(("token_invalid", "wrong types"))),
        (json!({"exp": later, "sub": 7}), Err(("token_invalid", "wrong types"))),
        (json!({"exp": later, "sub": ["ada"]}), Err(("token_invalid", "wrong types"))),
        (json!({"exp": later, "aud": []}), Err(("token_invalid", "claim \"aud\""))),
        (json!({"exp": later, "aud": [7]}), Err(("token_invalid", "wrong types"))),
        (json!({"exp": later, "aud": {"a": 1}}), Err(("token_invalid", "wrong types"))),
        (json!({"exp": later, "aud": null, "sub": null, "allow": null, "nbf": null}), Ok(())),
        (json!({"exp": later, "allow": [["a"]]}), Err(("token_invalid", "wrong types"))),
        (json!({"exp": later, "nbf": 1e300}), Err(("token_invalid", "not valid yet"))),
        (json!({"exp": later, "nbf": -1e300}), Ok(())),
        (json!({"exp": later, "x": {"y": [[[[[[]]]]]]}}), Ok(())),
    ] {
        check_token(&hs256(&claims), expected);
    }
}

#[test]
fn the_algorithm_is_the_keys_and_never_the_tokens() {
    let claims = json!({"exp": NOW + 60});
    for alg in ["none", "None", "HS384", "HS512", "RS256", "ES256", "hs256"] {
        let token = signed(&json!({"alg": alg}), &claims, SECRET);
        check_token(&token, Err(("token_invalid", "expected HS256")));
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        check_token(&unsigned, Err(("token_invalid", "expected HS256")));
    }
    // A key that the token brings along is no key of ours.
    let jwk = json!({"alg": "HS256", "jwk": {"kty": "oct", "k": "AAAA"}});
    check_token(&signed(&jwk, &claims, "AAAA"), Err(("token_invalid", "signature")));
}

#[test]
fn headers_that_ask_for_more_are_refused() {
    let claims = json!({"exp": NOW + 60});
    for (header, says) in [
        (json!({"alg": "HS256", "crit": ["exp"], "exp": 1}), "crit"),
        (json!({"alg": "HS256", "crit": []}), "crit"),
        (json!({"alg": "HS256", "b64": false, "crit": ["b64"]}), "crit"),
        (json!({"typ": "JWT"}), "not a signed"),
        (json!({"alg": null}), "not a signed"),
        (json!({"alg": ["HS256"]}), "not a signed"),
        (json!({"alg": "HS256", "kid": 7}), "not a signed"),
        (json!(["HS256", null, null, null]), "not a signed"),
        (json!("HS256"), "not a signed"),
    ] {
        check_token(&signed(&header, &claims, SECRET), Err(("token_invalid", says)));
    }
    // What names no extension is nobody's business, and neither are keys that a token brings along.
    for header in [
        json!({"alg": "HS256", "kid": "any"}),
        json!({"alg": "HS256", "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/", "x5c": ["AAAA"], "cty": "x"}),
        json!({"alg": "HS256", "typ": "at+jwt", "zip": "DEF"}),
    ] {
        check_token(&signed(&header, &claims, SECRET), Ok(()));
    }
}

#[test]
fn claims_that_are_no_json_are_refused() {
    for payload in ["", "{", "{\"exp\":1e999}", "{\"exp\":9,\"exp\":9999999999}", "\u{0}", "{\"exp\":99999999999}x"] {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode("{\"alg\":\"HS256\"}"), URL_SAFE_NO_PAD.encode(payload));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, message.as_bytes()));
        check_token(&format!("{message}.{signature}"), Err(("token_invalid", "wrong types")));
    }
    // Nor is a text that is none, though it is in what nobody reads.
    for (header, payload, said) in [
        (&b"{\"alg\":\"HS256\"}"[..], &b"{\"exp\":9999999999,\"x\":\"\xff\"}"[..], "wrong types"),
        (b"{\"alg\":\"HS256\",\"typ\":\"\xff\"}", b"{\"exp\":9999999999}", ""),
    ] {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, message.as_bytes()));
        check_token(&format!("{message}.{signature}"), Err(("token_invalid", said)));
    }
    // What nobody reads may be as deep as it likes, what is read may not.
    let deep = format!("{}1{}", "[".repeat(2000), "]".repeat(2000));
    for (claim, expected) in [("x", Ok(())), ("aud", Err(("token_invalid", "wrong types")))] {
        let payload = URL_SAFE_NO_PAD.encode(format!("{{\"exp\":9999999999,\"{claim}\":{deep}}}"));
        let message = format!("{}.{payload}", URL_SAFE_NO_PAD.encode("{\"alg\":\"HS256\"}"));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, message.as_bytes()));
        check_token(&format!("{message}.{signature}"), expected);
    }
}

#[test]
fn changed_and_foreign_tokens_are_refused() {
    let good = hs256(&json!({"exp": NOW + 60, "sub": "ada"}));
    check_token(&good, Ok(()));
    check_token(
        &signed(&json!({"alg": "HS256"}), &json!({"exp": NOW + 60}), "another secret"),
        Err(("token_invalid", "signature")),
    );
    let parts: Vec<_> = good.split('.').collect();
    let other_claims = URL_SAFE_NO_PAD.encode(json!({"exp": NOW + 60, "sub": "eve"}).to_string());
    check_token(&format!("{}.{other_claims}.{}", parts[0], parts[2]), Err(("token_invalid", "signature")));
    check_token(&format!("{}.{}.", parts[0], parts[1]), Err(("token_invalid", "signature")));
    for text in ["", ".", "..", "a.b.c", "€.€.€", &good[1..], &"x".repeat(10_000), parts[0]] {
        check_token(text, Err(("token_invalid", "")));
    }
}

#[test]
fn issuer_and_audience_are_compared_when_configured() {
    let mut config = config();
    config.jwt.issuer = Some("id.example".to_owned());
    config.jwt.audience = Some("tickwire".to_owned());
    let auth = Auth::new(&config);
    for (claims, says) in [
        (json!({"exp": NOW + 60, "iss": "id.example", "aud": ["other", "tickwire"]}), None),
        (json!({"exp": NOW + 60, "iss": "id.example"}), Some("claim \"aud\" is missing")),
        (json!({"exp": NOW + 60, "aud": "tickwire"}), Some("claim \"iss\" is missing")),
        (json!({"exp": NOW + 60, "aud": "tickwire", "iss": "x"}), Some("auth.jwt.issuer")),
        (json!({"exp": NOW + 60, "aud": "x", "iss": "id.example"}), Some("auth.jwt.audience")),
    ] {
        match (auth.token(&hs256(&claims), NOW), says) {
            (Ok(_), None) => {}
            (Err(error), Some(says)) => assert!(error.to_string().contains(says), "{error}"),
            (outcome, _) => panic!("{claims}: {outcome:?}"),
        }
    }
    let grant = Grant { user: "ada".to_owned(), allow: vec![], publish: None, ttl: Duration::from_secs(60) };
    assert!(auth.token(&mint(&config.jwt, &grant, NOW).unwrap(), NOW).is_ok());
}

#[test]
fn a_token_says_all_that_its_holder_may_do() {
    let rights = |claims: Value| auth().token(&hs256(&claims), NOW).unwrap();
    let narrow = rights(json!({"exp": NOW + 60, "sub": "ada", "allow": ["ticker:EUR*", "lobby"]}));
    for (topic, may) in [("ticker:EURUSD", true), ("lobby", true), ("ticker:GBPUSD", false), ("lobby2", false)] {
        for access in [Access::Anyone, Access::Token] {
            let expected = if may { Ok(()) } else { Err(AuthError::Forbidden(Missing::Join)) };
            assert_eq!(narrow.may_join(topic, access), expected, "{topic}");
            assert_eq!(narrow.may_send(topic, access).is_ok(), may, "{topic}: publish follows allow");
        }
    }
    assert_eq!(narrow.user().map(AsRef::as_ref), Some("ada"));
    assert_eq!(narrow.expires_at(), Some(NOW + 60));
    assert_eq!(narrow.may_publish().map_err(|error| error.code()), Err("unauthorized"));
    assert_eq!(narrow.may_send("lobby", Access::Nobody), Err(AuthError::Forbidden(Missing::Closed)));

    let listener = rights(json!({"exp": NOW + 60, "publish": []}));
    assert_eq!(listener.may_join("room:1", Access::Token), Ok(()));
    assert_eq!(listener.may_send("room:1", Access::Anyone), Err(AuthError::Forbidden(Missing::Send)));
    assert_eq!(listener.user(), None);
}

#[test]
fn a_stranger_may_do_what_is_anyones() {
    let stranger = auth().stranger();
    assert_eq!(stranger.may_join("ticker:EURUSD", Access::Anyone), Ok(()));
    assert_eq!(stranger.may_join("room:1", Access::Token).map_err(|error| error.code()), Err("unauthorized"));
    assert_eq!(stranger.may_send("room:1", Access::Token).map_err(|error| error.code()), Err("unauthorized"));
    assert_eq!(stranger.may_publish().map_err(|error| error.code()), Err("unauthorized"));
    assert_eq!(stranger.may_administer().map_err(|error| error.code()), Err("unauthorized"));
    assert_eq!(stranger.may_read(), Ok(()));
    let mut closed = config();
    closed.anonymous.read = false;
    assert!(Auth::new(&closed).stranger().may_read().is_err());
    let mut open = config();
    open.publish = PublishMode::Open;
    let open = Auth::new(&open);
    assert_eq!(open.stranger().may_publish(), Ok(()));
    assert_eq!(open.token(&hs256(&json!({"exp": NOW + 60})), NOW).unwrap().may_publish(), Ok(()));
    assert!(open.stranger().may_administer().is_err());
}

#[test]
fn keys_have_scopes_and_an_end() {
    let auth = auth();
    let engine = auth.api_key("the-secret-of-engine", NOW).unwrap();
    assert_eq!(engine.who(), &Who::Key("engine".into()));
    assert_eq!(engine.may_publish(), Ok(()));
    assert_eq!(engine.may_administer(), Err(AuthError::Forbidden(Missing::Scope(Scope::Admin))));
    assert_eq!(engine.may_administer().unwrap_err().status(), StatusCode::FORBIDDEN);
    assert_eq!(engine.may_join("ticker:X", Access::Token), Ok(()));
    let operator = auth.api_key("the-secret-of-operator", NOW).unwrap();
    assert_eq!(operator.may_administer(), Ok(()));
    assert_eq!(operator.may_send("room:1", Access::Token), Err(AuthError::Forbidden(Missing::Send)));
    assert_eq!(auth.api_key("the-secret-of-old", NOW).map(drop), Err(AuthError::KeyExpired));
    assert_eq!(auth.api_key("the-secret-of-soon-old", NOW).unwrap().expires_at(), Some(NOW + 1));
    for wrong in ["", "the-secret-of-engin", "the-secret-of-engine ", "THE-SECRET-OF-ENGINE"] {
        assert_eq!(auth.api_key(wrong, NOW).map(drop), Err(AuthError::KeyUnknown), "{wrong}");
    }
}

#[test]
fn requests_present_keys_and_tokens_in_headers() {
    let auth = auth();
    let token = hs256(&json!({"exp": NOW + 60, "sub": "ada"}));
    let bearer = |text: &str| format!("Bearer {text}");
    for (name, value, expected) in [
        ("authorization", bearer("the-secret-of-engine"), Ok(Who::Key("engine".into()))),
        ("authorization", "bearer  the-secret-of-engine ".to_owned(), Ok(Who::Key("engine".into()))),
        ("x-api-key", "the-secret-of-engine".to_owned(), Ok(Who::Key("engine".into()))),
        ("authorization", bearer(&token), Ok(Who::User(Some("ada".into())))),
        ("x-api-key", token.clone(), Err("key_invalid")),
        ("authorization", bearer("wrong"), Err("key_invalid")),
        ("authorization", bearer("a.b.c"), Err("token_invalid")),
        ("authorization", "Basic YTpi".to_owned(), Err("unauthorized")),
        ("authorization", "the-secret-of-engine".to_owned(), Err("unauthorized")),
        ("x-other", String::new(), Ok(Who::Stranger)),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(&value).unwrap());
        let outcome =
            auth.request(&headers, NOW).map(|principal| principal.who().clone()).map_err(|error| error.code());
        assert_eq!(outcome, expected, "{name}: {value}");
    }
}

#[test]
fn without_a_secret_there_are_no_tokens() {
    let auth = Auth::new(&Config::default().auth);
    let error = auth.token(&hs256(&json!({"exp": NOW + 60})), NOW).unwrap_err();
    assert_eq!((error.code(), &error), ("token_invalid", &AuthError::TokensOff));
}

#[test]
fn minted_tokens_are_accepted_and_end() {
    let jwt = config().jwt;
    let pattern = |text: &str| text.parse().unwrap();
    let grant = Grant {
        user: "ada".to_owned(),
        allow: vec![pattern("ticker:*")],
        publish: Some(vec![pattern("room:1")]),
        ttl: Duration::from_secs(3600),
    };
    let token = mint(&jwt, &grant, NOW).unwrap();
    let principal = auth().token(&token, NOW).unwrap();
    assert_eq!(principal.may_join("ticker:X", Access::Token), Ok(()));
    assert!(principal.may_join("room:1", Access::Token).is_err());
    assert_eq!(principal.may_send("room:1", Access::Token), Ok(()));
    assert_eq!(auth().token(&token, NOW + 3605).map(drop), Err(AuthError::TokenExpired));

    assert_eq!(mint(&Config::default().auth.jwt, &grant, NOW), Err(MintError::NoSecret));
    let weak = crate::config::JwtConfig { hs256_secret: Some(Secret::new("short")), ..jwt.clone() };
    assert_eq!(mint(&weak, &grant, NOW), Err(MintError::WeakSecret(5)));
    assert_eq!(mint(&jwt, &Grant { user: String::new(), ..grant }, NOW), Err(MintError::User(0)));
}

#[test]
fn secrets_are_in_no_debug_output() {
    let shown = format!("{:?}", auth());
    assert!(!shown.contains("the-secret-of") && !shown.contains(SECRET), "{shown}");
}
