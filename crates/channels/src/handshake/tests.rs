use super::*;

const UPGRADE: [(&str, &[u8]); 5] = [
    ("Host", b"shop.example:4000"),
    ("Upgrade", b"websocket"),
    ("Connection", b"Upgrade"),
    ("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", b"13"),
];

fn get(query: &str, changes: &[(&str, &str)], origins: &Origins) -> Result<Upgrade, Refusal> {
    let changed = |name: &str| changes.iter().any(|(changed, _)| changed.eq_ignore_ascii_case(name));
    let kept = UPGRADE.iter().filter(|(name, _)| !changed(name)).copied();
    let new = changes.iter().filter(|(_, value)| *value != "absent").map(|(name, value)| (*name, value.as_bytes()));
    let headers: Vec<_> = kept.chain(new).collect();
    let policy = Policy { origins: origins.clone(), ..Policy::default() };
    check(&UpgradeRequest { method: "GET", query: Some(query), headers: &headers }, &policy)
}

fn status(changes: &[(&str, &str)]) -> u16 {
    get("vsn=2.0.0", changes, &Origins::SameHost).map_or_else(|refusal| refusal.status(), |_| 101)
}

#[test]
fn the_example_of_the_rfc() {
    let upgrade = get("vsn=2.0.0&token=abc", &[], &Origins::SameHost).unwrap();
    assert_eq!(upgrade.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(upgrade.format, WireFormat::V2);
    assert_eq!(upgrade.params.get("token"), Some("abc"));
    assert!(!format!("{upgrade:?}").contains("abc"), "a token must appear in no log");
}

#[test]
fn headers_are_case_insensitive_and_connection_is_a_list() {
    for (changes, expected) in [
        (&[("upgrade", "WebSocket")][..], 101),
        (&[("CONNECTION", "keep-alive, UPGRADE")], 101),
        (&[("connection", "keep-alive"), ("Connection", "upgrade")], 101),
        (&[("Sec-WebSocket-Protocol", "foo, bar")], 101),
        (&[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZR==")], 101),
        (&[("Upgrade", "absent")], 400),
        (&[("Upgrade", "h2c")], 400),
        (&[("Connection", "absent")], 400),
        (&[("Connection", "keep-alive")], 400),
        (&[("Connection", "upgraded")], 400),
        (&[("Sec-WebSocket-Key", "absent")], 400),
        (&[("Sec-WebSocket-Key", "dGhlIHNhbXBsZQ==")], 400),
        (&[("Sec-WebSocket-Key", "not base64 at all!!!!")], 400),
        (&[("Sec-WebSocket-Version", "absent")], 400),
        (&[("Sec-WebSocket-Version", "8")], 400),
        (&[("Host", "absent")], 400),
        (&[("Host", "a"), ("host", "b")], 400),
        (&[("Content-Length", "0")], 101),
        (&[("Content-Length", "5")], 400),
        (&[("Transfer-Encoding", "chunked")], 400),
    ] {
        assert_eq!(status(changes), expected, "{changes:?}");
    }
}

#[test]
fn other_methods_are_400() {
    for method in ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "get"] {
        let request = UpgradeRequest { method, query: None, headers: &UPGRADE };
        assert_eq!(check(&request, &Policy::default()).unwrap_err().status(), 400, "{method}");
    }
}

#[test]
fn vsn_selects_the_format_or_is_403() {
    for (query, expected) in [
        ("", Ok(WireFormat::V1)),
        ("a=b", Ok(WireFormat::V1)),
        ("vsn=1.0.0", Ok(WireFormat::V1)),
        ("vsn=2.0.17", Ok(WireFormat::V2)),
        ("vsn=1.0.0&vsn=2.0.0", Ok(WireFormat::V2)),
        ("vsn=%32.0.0", Ok(WireFormat::V2)),
        ("vsn=3.0.0", Err(403)),
        ("vsn", Err(403)),
        ("vsn=", Err(403)),
        ("vsn=+2.0.0", Err(403)),
        ("vsn=2.0.0%", Err(400)),
        ("vsn=2.0.0&name=%ff", Err(400)),
        ("vsn=2.0.0&%zz", Err(400)),
    ] {
        let seen = get(query, &[], &Origins::Any).map(|upgrade| upgrade.format).map_err(|refusal| refusal.status());
        assert_eq!(seen, expected, "{query}");
    }
}

#[test]
fn a_query_is_decoded() {
    let params = Params::parse("a=1&b=x+y%2Bz&&a=2&caf%C3%A9=%E2%82%AC=&c&=empty").unwrap();
    let all: Vec<_> = params.iter().collect();
    assert_eq!(all, [("", "empty"), ("a", "2"), ("b", "x y+z"), ("c", ""), ("café", "€=")]);
    assert_eq!(Params::parse("a=%+1"), Err(QueryError::Percent));
    assert_eq!(Params::parse("a=%4"), Err(QueryError::Percent));
    assert_eq!(Params::parse("a=%c3"), Err(QueryError::Utf8));
}

fn rules(rules: &[&str]) -> Origins {
    Origins::List(rules.iter().map(|rule| rule.parse().unwrap()).collect())
}

#[test]
fn origins_are_compared_by_their_rule() {
    let list = rules(&[
        "https://allowed.example",
        "http://dev.example:8080",
        "//*.wild.example",
        "//bare.example",
        "https://[::1]:4443",
    ]);
    for (origin, same_host, listed) in [
        ("absent", true, true),
        ("http://shop.example", true, false),
        ("https://SHOP.example:9999", true, false),
        ("https://shop.example.evil.example", false, false),
        ("https://evilshop.example", false, false),
        ("null", false, false),
        ("", false, false),
        ("https://", false, false),
        ("https://allowed.example", false, true),
        ("https://allowed.example:443", false, true),
        ("https://Allowed.Example", false, true),
        ("http://allowed.example", false, false),
        ("https://allowed.example:444", false, false),
        ("https://sub.allowed.example", false, false),
        ("http://dev.example:8080", false, true),
        ("http://dev.example", false, false),
        ("http://wild.example:81", false, true),
        ("ftp://a.b.wild.example", false, true),
        ("https://evilwild.example", false, false),
        ("https://evil.example\\.wild.example", false, false),
        ("https://wild.example.evil", false, false),
        ("https://bare.example:1", false, true),
        ("https://sub.bare.example", false, false),
        ("https://[::1]:4443", false, true),
        ("https://[::1]", false, false),
        ("https://allowed.example:99999", false, false),
        ("https://user@allowed.example", false, false),
    ] {
        let header = &[("Origin", origin)];
        assert_eq!(get("", header, &Origins::SameHost).is_ok(), same_host, "{origin} on its own host");
        assert_eq!(get("", header, &list).is_ok(), listed, "{origin} in the list");
        assert!(get("", header, &Origins::Any).is_ok());
    }
}

#[test]
fn a_mismatch_says_what_was_seen_and_what_was_expected() {
    let refusal = get("", &[("Origin", "https://evil.example")], &Origins::SameHost).unwrap_err();
    assert_eq!(refusal.status(), 403);
    assert_eq!(
        refusal.to_string(),
        "origin \"https://evil.example\" is not allowed: expected the request's own host \"shop.example\""
    );
    let long = format!("https://{}.example", "x".repeat(50_000));
    assert!(get("", &[("Origin", &long)], &Origins::SameHost).unwrap_err().to_string().len() < 500);
    let list = rules(&["https://a.example:443", "http://b.example:81", "//*.c.example"]);
    let refusal = get("", &[("Origin", "https://evil.example")], &list).unwrap_err().to_string();
    assert!(refusal.contains("expected https://a.example or http://b.example:81 or //*.c.example"), "{refusal}");
}

#[test]
fn two_origins_are_refused() {
    let twice = &[("Origin", "http://shop.example"), ("Origin", "http://shop.example")];
    assert_eq!(get("", twice, &Origins::SameHost).unwrap_err().status(), 400);
}

#[test]
fn rules_are_checked() {
    for bad in [
        "",
        "*",
        "example.com",
        "https://",
        "https://a.example/path",
        "https://*.a.example",
        "//*.",
        "//a*b",
        "https://a:b",
        "://a",
    ] {
        assert!(bad.parse::<OriginRule>().is_err(), "{bad}");
    }
}
