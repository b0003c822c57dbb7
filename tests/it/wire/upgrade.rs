//! §1: paths, methods, `vsn`, headers, origins. Of the library's own listener and of the product.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{
    client::{ACCEPT, Answer, KEY, Raw, TEXT, frame, method_request, request, upgrade_headers},
    demo::Demo,
    product::Product,
};

/// The upgrade headers with one of them replaced, or removed.
fn with<'a>(name: &'a str, value: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    let others = upgrade_headers().into_iter().filter(|(known, _)| *known != name);
    others.chain(value.map(|value| (name, value))).collect()
}

fn ask(address: SocketAddr, request: &str) -> Answer {
    let mut client = Raw::connect(address);
    client.write(request.as_bytes());
    client.answer_to(request.split(' ').next().unwrap())
}

fn get(address: SocketAddr, target: &str) -> u16 {
    ask(address, &request(target, &upgrade_headers())).status
}

fn both(check: impl Fn(SocketAddr)) {
    check(Demo::library().address);
    check(Product::start(&[]).address);
}

#[test]
fn a_valid_upgrade_is_answered_as_rfc_6455_says_and_without_what_was_not_asked_for() {
    both(|address| {
        let mut headers = upgrade_headers();
        headers.push(("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"));
        let answer = ask(address, &request("/socket/websocket?vsn=2.0.0", &headers));
        assert_eq!(answer.status, 101);
        assert_eq!(answer.header("sec-websocket-accept"), Some(ACCEPT));
        assert_eq!(answer.header("upgrade").map(str::to_ascii_lowercase).as_deref(), Some("websocket"));
        assert_eq!(answer.header("connection").map(str::to_ascii_lowercase).as_deref(), Some("upgrade"));
        assert_eq!(answer.header("sec-websocket-protocol"), None);
        assert_eq!(answer.header("sec-websocket-extensions"), None);
    });
}

/// The product takes tokens by default, the library where it is told to.
#[test]
fn subprotocols_are_ignored_where_nobody_asked_for_them() {
    let offer =
        [upgrade_headers(), vec![("Sec-WebSocket-Protocol", "alpha, phoenix, base64url.bearer.phx.MTIzNA")]].concat();
    for (address, expected) in [
        (Demo::library().address, None),
        (Demo::with_tokens().address, Some("phoenix")),
        (Product::start(&[r#"socket=[{path="/socket",auth_token=false}]"#]).address, None),
    ] {
        let answer = ask(address, &request("/socket/websocket?vsn=2.0.0", &offer));
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, expected));
    }
    let library = Demo::with_tokens();
    let mut client = Raw::connect(library.address);
    client.write(request("/socket/websocket?vsn=2.0.0", &offer).as_bytes());
    assert_eq!(client.answer().status, 101);
    client.join("1", "lobby", &json!({}));
    client.say(&json!(["1", "2", "lobby", "connect_info", {}]));
    client.expect_ok("1", "2", "lobby", &json!({"auth_token": "1234", "params": {"vsn": "2.0.0"}}));
    let other = [upgrade_headers(), vec![("Sec-WebSocket-Protocol", "alpha")]].concat();
    for address in [library.address, Product::start(&[]).address] {
        let answer = ask(address, &request("/socket/websocket", &other));
        assert_eq!((answer.status, answer.body), (403, vec![]));
    }
}

#[test]
fn a_socket_is_below_its_mount_and_nowhere_else() {
    both(|address| {
        assert_eq!(get(address, "/socket/websocket"), 101);
        assert_eq!(get(address, "/socket/websocket/"), 101);
        assert_eq!(get(address, "/socket/websocket/?vsn=2.0.0"), 101);
        for path in
            ["/socket", "/socket/", "/socket/foo", "/socket/websocket2", "/socket/websocket/x", "/other/websocket"]
        {
            assert_eq!(get(address, path), 404, "{path}");
        }
    });
}

#[test]
fn vsn_selects_the_serializer_or_is_refused() {
    const V1: [&str; 5] = ["", "?vsn=1.0.0", "?vsn=1.0.7", "?other=1", "?vsn=1.0.12345"];
    const V2: [&str; 4] = ["?vsn=2.0.0", "?vsn=2.0.9", "?a=b&vsn=2.0.0&c", "?vsn=%32.0.0"];
    const REFUSED: [&str; 13] = [
        "3.0.0",
        "2.1.0",
        "1.1.0",
        "2",
        "2.0",
        "",
        "v2.0.0",
        "02.0.0",
        "%202.0.0",
        "2.0.0-rc.1",
        "2.0.x",
        "2.0.0.0",
        "2.0.0%0a",
    ];
    both(|address| {
        for query in V1 {
            let mut client = Raw::open(address, query.trim_start_matches('?'));
            client.expect_nothing_v1();
        }
        for query in V2 {
            let mut client = Raw::open(address, query.trim_start_matches('?'));
            client.expect_nothing();
        }
        for vsn in REFUSED {
            assert_eq!(get(address, &format!("/socket/websocket?vsn={vsn}")), 403, "{vsn:?}");
        }
    });
}

#[test]
fn what_is_no_upgrade_is_a_bad_request() {
    both(|address| {
        for (name, value) in [
            ("Upgrade", None),
            ("Upgrade", Some("h2c")),
            ("Connection", None),
            ("Connection", Some("keep-alive")),
            ("Sec-WebSocket-Key", None),
            ("Sec-WebSocket-Key", Some("")),
            ("Sec-WebSocket-Key", Some("c2hvcnQ=")),
            ("Sec-WebSocket-Key", Some("not base64 at all!!!!!!!")),
            ("Sec-WebSocket-Version", None),
            ("Sec-WebSocket-Version", Some("8")),
            ("Sec-WebSocket-Version", Some("14")),
            ("Host", None),
            ("Content-Length", Some("5")),
        ] {
            let answer = ask(address, &request("/socket/websocket?vsn=2.0.0", &with(name, value)));
            assert_eq!(answer.status, 400, "{name}: {value:?}");
            assert_eq!(answer.body, b"", "{name}: {value:?}");
        }
        for method in ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"] {
            let answer = ask(address, &method_request(method, "/socket/websocket?vsn=2.0.0", &upgrade_headers()));
            assert_eq!((answer.status, answer.body), (400, vec![]), "{method}");
            let plain = method_request(method, "/socket/websocket", &[("Host", "localhost"), ("Content-Length", "0")]);
            assert_eq!(ask(address, &plain).status, 400, "{method} without upgrade");
        }
        // A plain visit of a browser.
        assert_eq!(ask(address, &request("/socket/websocket", &[("Host", "localhost")])).status, 400);
    });
}

#[test]
fn header_names_and_tokens_are_case_insensitive_and_connection_is_a_list() {
    both(|address| {
        for (connection, upgrade) in [
            ("upgrade", "WebSocket"),
            ("UPGRADE", "WEBSOCKET"),
            ("keep-alive, Upgrade", "websocket"),
            ("Upgrade , keep-alive", "websocket"),
            ("foo,uPgRaDe,bar", "websocket"),
        ] {
            let head = format!(
                "GET /socket/websocket HTTP/1.1\r\nHOST: x\r\nconnection: {connection}\r\nUPGRADE: {upgrade}\r\nsec-websocket-VERSION: 13\r\nsEc-wEbSoCkEt-kEy:{KEY}\r\n\r\n"
            );
            assert_eq!(ask(address, &head).status, 101, "{connection}; {upgrade}");
        }
    });
}

#[test]
fn the_application_may_refuse_and_gets_every_connect_parameter() {
    let demo = Demo::start();
    let refused = ask(demo.address, &request("/socket/websocket?vsn=2.0.0&reject=error", &upgrade_headers()));
    assert_eq!((refused.status, refused.body), (403, vec![]));
    let mut client = Raw::open(demo.address, "vsn=2.0.0&token=a%20b%2Bc&empty=&plus=1+1&%C3%A9=%e2%82%ac&flag");
    client.join("1", "room:a", &json!({}));
    client.say(&json!(["1", "2", "room:a", "connect_info", {}]));
    client.expect_ok(
        "1",
        "2",
        "room:a",
        &json!({
            "auth_token": null,
            "params": {"vsn": "2.0.0", "token": "a b+c", "empty": "", "plus": "1 1", "é": "€", "flag": ""}
        }),
    );
}

#[test]
fn after_a_refusal_the_connection_stays_usable() {
    both(|address| {
        let mut client = Raw::connect(address);
        for _ in 0..3 {
            client.write(request("/socket/websocket?vsn=3.0.0", &upgrade_headers()).as_bytes());
            let refused = client.answer();
            assert_eq!((refused.status, refused.body), (403, vec![]));
        }
        client.write(request("/socket/websocket?vsn=2.0.0", &upgrade_headers()).as_bytes());
        assert_eq!(client.answer().status, 101);
        client.expect_nothing();
    });
}

fn origin(address: SocketAddr, origin: Option<&str>) -> u16 {
    let mut headers = upgrade_headers();
    headers.extend(origin.map(|origin| ("Origin", origin)));
    ask(address, &request("/socket/websocket", &headers)).status
}

#[test]
fn by_default_only_pages_of_the_own_host_connect() {
    both(|address| {
        assert_eq!(origin(address, None), 101);
        assert_eq!(origin(address, Some("http://localhost")), 101);
        assert_eq!(origin(address, Some("https://localhost:8443")), 101);
        for other in ["http://evil.example", "https://localhost.evil.example", "null", "nonsense", "http://"] {
            assert_eq!(origin(address, Some(other)), 403, "{other}");
        }
    });
}

#[test]
fn a_list_of_origins_means_scheme_host_and_port() {
    let list = r#"socket=[{path="/socket",origins=["https://allowed.example","http://ported.example:8080","//any.example","//*.wild.example"]}]"#;
    let product = Product::start(&[list]);
    for (seen, status) in [
        (None, 101),
        (Some("https://allowed.example"), 101),
        (Some("https://allowed.example:443"), 101),
        (Some("https://allowed.example:444"), 403),
        (Some("http://allowed.example"), 403),
        (Some("https://sub.allowed.example"), 403),
        (Some("http://ported.example:8080"), 101),
        (Some("http://ported.example"), 403),
        (Some("http://any.example"), 101),
        (Some("https://any.example:9999"), 101),
        (Some("https://x.any.example"), 403),
        (Some("https://wild.example"), 101),
        (Some("http://a.b.wild.example:3000"), 101),
        (Some("https://notwild.example"), 403),
        (Some("https://wild.example.evil"), 403),
        (Some("http://localhost"), 403),
    ] {
        assert_eq!(origin(product.address, seen), status, "{seen:?}");
    }
    let any = Product::start(&[r#"socket=[{path="/socket",origins="any"}]"#]);
    assert_eq!(origin(any.address, Some("https://evil.example")), 101);
}

#[test]
fn messages_may_travel_with_the_upgrade_request() {
    both(|address| {
        let mut behind = Vec::new();
        for message in [
            json!([null, "0", "phoenix", "heartbeat", {}]),
            json!(["1", "1", "room:early", "phx_join", {}]),
            json!(["1", "2", "room:early", "echo", {"x": 1}]),
        ] {
            behind.extend(frame(TEXT, message.to_string().as_bytes()));
        }
        // The last message arrives in two parts: one with the request, one after the answer.
        let (now, later) = behind.split_at(behind.len() - 7);
        let mut client = Raw::open_with(address, "vsn=2.0.0", now);
        client.write(later);
        client.expect(&json!([null, "0", "phoenix", "phx_reply", {"status": "ok", "response": {}}]));
        client.expect_ok("1", "1", "room:early", &json!({}));
        client.expect_ok("1", "2", "room:early", &json!({"x": 1}));
    });
}

#[test]
fn the_server_never_speaks_first() {
    both(|address| {
        let mut client = Raw::v2(address);
        let mut other = Raw::v2(address);
        other.join("1", "room:loud", &json!({}));
        other.say(&json!(["1", "2", "room:loud", "shout", {}]));
        other.text();
        client.expect_nothing();
    });
}

/// The same table once more through the product's own kinds, so that its glue is known to change nothing.
#[test]
fn the_products_room_speaks_the_protocol() {
    let product = Product::start(&[]);
    let (mut ann, mut bob) = (Raw::v2(product.address), Raw::v1(product.address));
    ann.join("1", "room:x", &json!({}));
    bob.say(&json!({"topic": "room:x", "event": "phx_join", "payload": {}, "ref": "1"}));
    let ok = |msg_ref: Value| json!({"topic": "room:x", "event": "phx_reply", "payload": {"status": "ok", "response": {}}, "ref": msg_ref});
    bob.expect(&ok(json!("1")));
    ann.say(&json!(["1", "2", "room:x", "shout", {"n": 1}]));
    ann.expect_ok("1", "2", "room:x", &json!({}));
    bob.expect(&json!({"topic": "room:x", "event": "shout", "payload": {"n": 1}, "ref": null}));
    ann.say(&json!(["9", "3", "room:x", "echo", {"stale": true}]));
    ann.say(&json!(["1", "4", "room:x", "echo", {"stale": false}]));
    ann.expect_ok("1", "4", "room:x", &json!({"stale": false}));
    ann.say(&json!(["1", "5", "room:x", "phx_leave", {}]));
    ann.expect_ok("1", "5", "room:x", &json!({}));
    ann.expect(&json!(["1", "1", "room:x", "phx_close", {}]));
    ann.say(&json!(["7", "7", "nosuch:x", "phx_join", {}]));
    ann.expect(&json!([
        null, "7", "nosuch:x", "phx_reply", {"status": "error", "response": {"reason": "unmatched topic"}}
    ]));
    ann.send("{}");
    ann.expect_close(1011);
    bob.expect_nothing_v1();
}

#[test]
fn a_drained_node_closes_with_1012_and_nothing_before() {
    let product = Product::start(&[]);
    let (mut joined, mut idle) = (Raw::v2(product.address), Raw::v2(product.address));
    joined.join("1", "room:x", &json!({}));
    idle.expect_nothing();
    product.drain();
    joined.expect_close(1012);
    idle.expect_close(1012);
}
