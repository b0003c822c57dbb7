//! Upgrade requests: the first line is the query, the others are headers.
#![no_main]

use std::fmt::Write as _;

use libfuzzer_sys::fuzz_target;
use tickwire_channels::handshake::{Origins, Params, UpgradeRequest, accept_key, check};
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
    for origins in [Origins::SameHost, Origins::Any] {
        check_request(&UpgradeRequest { method: "GET", query, headers: &headers }, &origins);
    }
    let post = UpgradeRequest { method: "POST", query, headers: &headers };
    assert!(check(&post, &Origins::Any).is_err(), "only GET upgrades");
});

fn check_request(request: &UpgradeRequest<'_>, origins: &Origins) {
    let decided = check(request, origins);
    let shouted: Vec<_> = request.headers.iter().map(|(name, value)| (name.to_ascii_uppercase(), *value)).collect();
    let shouted: Vec<_> = shouted.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(check(&UpgradeRequest { headers: &shouted, ..*request }, origins), decided, "names have no case");
    match decided {
        Ok(upgrade) => {
            let keys: Vec<_> =
                request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key")).collect();
            assert_eq!(keys.len(), 1, "a repeated key is no key");
            assert_eq!(upgrade.accept, accept_key(keys[0].1.trim_ascii()));
            check_secrecy(&upgrade.params, &format!("{upgrade:?}"));
        }
        Err(refusal) => {
            assert!(matches!(refusal.status(), 400 | 403), "{refusal}");
            assert!(!refusal.code().is_empty() && !refusal.to_string().is_empty());
        }
    }
    assert!(format!("{request:?}").len() < 100, "there are tokens in a request");
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

/// A value may be a token, so what is shown for logs has names only.
fn check_secrecy(params: &Params, shown: &str) {
    for (_, value) in params.iter().filter(|(_, value)| value.len() >= 12) {
        let by_chance = params.iter().any(|(name, _)| format!("{name:?}").contains(value))
            || contains(value.as_bytes(), b"vsn")
            || "UpgradeacceptformatparamsSome".contains(value);
        assert!(by_chance || !shown.contains(value), "{value:?} in {shown}");
    }
}
