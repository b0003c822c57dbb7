//! Upgrade requests: the first line is the query, the others are headers.
#![no_main]

use std::fmt::Write as _;

use libfuzzer_sys::fuzz_target;
use tickwire_channels::handshake::{Origins, Params, Policy, Protocols, Upgrade, UpgradeRequest, accept_key, check};
use tickwire_fuzz::contains;

fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|byte| *byte == b'\n');
    let query = lines.next().and_then(|query| std::str::from_utf8(query).ok());
    let headers: Vec<(&str, &[u8])> = lines
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((std::str::from_utf8(&line[..colon]).ok()?, &line[colon + 1..]))
        })
        .take(32)
        .collect();
    check_params(query.unwrap_or_default());
    let request = UpgradeRequest { method: "GET", query, headers: &headers };
    let protocols = Protocols { auth_token: true, own: vec!["mine".to_owned()] };
    check_request(&request, &Policy::default());
    check_request(&request, &Policy { origins: Origins::Any, protocols, compress: true });
    let post = UpgradeRequest { method: "POST", ..request };
    assert!(check(&post, &Policy::default()).is_err(), "only GET upgrades");
});

fn check_request(request: &UpgradeRequest<'_>, policy: &Policy) {
    let decided = check(request, policy);
    let shouted: Vec<_> = request.headers.iter().map(|(name, value)| (name.to_ascii_uppercase(), *value)).collect();
    let shouted: Vec<_> = shouted.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(check(&UpgradeRequest { headers: &shouted, ..*request }, policy), decided, "names have no case");
    match decided {
        Ok(upgrade) => {
            let keys: Vec<_> =
                request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key")).collect();
            assert_eq!(keys.len(), 1, "a repeated key is no key");
            assert_eq!(upgrade.accept, accept_key(keys[0].1.trim_ascii()));
            check_secrecy(&upgrade.params, &format!("{upgrade:?}"));
            check_answer(request, policy, &upgrade);
        }
        Err(refusal) => {
            assert!(matches!(refusal.status(), 400 | 403), "{refusal}");
            // What a refusal says goes to the log.
            for (_, token) in request.headers.iter().flat_map(|(name, value)| bearer(name, value)) {
                // A word of our own may be a token by chance; one with a digit is none.
                let telling = token.len() >= 8 && token.bytes().any(|byte| byte.is_ascii_digit());
                assert!(!telling || !refusal.to_string().contains(token), "{refusal}");
            }
            assert!(!refusal.code().is_empty() && !refusal.to_string().is_empty());
        }
    }
    assert!(format!("{request:?}").len() < 100, "there are tokens in a request");
}

/// The tokens that a header offers as subprotocols, with their place.
fn bearer<'a>(name: &str, value: &'a [u8]) -> Vec<(usize, &'a str)> {
    let value = if name.eq_ignore_ascii_case("sec-websocket-protocol") { value } else { b"" };
    let entries = value.split(|byte| *byte == b',').enumerate();
    let tokens = entries.filter_map(|(place, entry)| {
        Some((place, std::str::from_utf8(entry.trim_ascii().strip_prefix(b"base64url.bearer.phx.")?).ok()?))
    });
    tokens.collect()
}

/// A client must not be answered with what it did not offer (RFC 6455 §4.1): it would fail the connection.
fn check_answer(request: &UpgradeRequest<'_>, policy: &Policy, upgrade: &Upgrade) {
    let offers = |name: &str, wanted: &[u8]| {
        let values = request.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        values.flat_map(|(_, value)| value.split(|byte| *byte == b',')).any(|item| item.trim_ascii() == wanted)
    };
    if let Some(protocol) = &upgrade.protocol {
        assert!(offers("sec-websocket-protocol", protocol.as_bytes()), "{protocol} was not offered");
        assert!(["phoenix", "mine"].contains(&protocol.as_str()));
    }
    if let Some(deflate) = &upgrade.deflate {
        assert!(policy.compress);
        let offered = request.headers.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case("sec-websocket-extensions")
                && contains(&value.to_ascii_lowercase(), b"permessage-deflate")
        });
        assert!(offered && deflate.answer().starts_with("permessage-deflate"));
        assert_eq!(contains(deflate.answer().as_bytes(), b"client_max_window_bits"), {
            let values =
                request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-extensions"));
            let offered = values
                .map(|(_, value)| value.to_ascii_lowercase())
                .any(|value| contains(&value, b"client_max_window_bits="));
            offered && contains(deflate.answer().as_bytes(), b"client_max_window_bits")
        });
    }
    if let Some(token) = &upgrade.auth_token {
        assert!(token.expose().len() < 8 || !format!("{upgrade:?}").contains(token.expose()), "a token is shown");
    }
}

fn check_params(query: &str) {
    let Ok(params) = Params::parse(query) else { return };
    let mut again = String::new();
    for (name, value) in params.iter() {
        let _ = write!(again, "{}={}&", escaped(name), escaped(value));
    }
    assert_eq!(Params::parse(&again).as_ref(), Ok(&params));
    // Of equal names the last one counts.
    if let Some((name, _)) = params.iter().next() {
        let twice = format!("{again}{}=the+last", escaped(name));
        assert_eq!(Params::parse(&twice).expect("it was valid").get(name), Some("the last"));
    }
    check_secrecy(&params, &format!("{params:?}"));
}

fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "%{byte:02x}");
        out
    })
}

/// A value may be a token, so what is shown for logs has names only: it is the same whatever the values are.
fn check_secrecy(params: &Params, shown: &str) {
    let own = format!("{params:?}");
    let others = params.iter().fold(String::new(), |query, (name, _)| query + &escaped(name) + "=other&");
    assert_eq!(own, format!("{:?}", Params::parse(&others).expect("the names were valid")));
    let around = shown.replace(&own, "");
    for (_, value) in params.iter().filter(|(_, value)| value.len() >= 12) {
        let by_chance = "UpgradeacceptformatparamsSome".contains(value);
        assert!(by_chance || !around.contains(value), "{value:?} in {shown}");
    }
}
