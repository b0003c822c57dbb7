//! The token that comes as a subprotocol or a parameter, and where it must not appear.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use serde_json::{Value, json};
use tickwire_server::{
    auth::{Grant, mint, unix_now},
    config::{Config, Sources},
};
use tickwire_tests::TOKEN_SECRET;

use super::{Playground, Raw};
use crate::wire::product::Product;

/// What no log may show.
const SECRET: &str = "sésame~~~öffne dich";

fn bearer(token: &str) -> String {
    format!("phoenix, base64url.bearer.phx.{}", STANDARD_NO_PAD.encode(token))
}

/// A token for ann and the topics that she may join.
fn token(secret: &str, allow: &str) -> String {
    let sets = vec![format!("auth.jwt.hs256_secret={secret}")];
    let config = Config::load(Sources { sets, ..Sources::default() }).unwrap_or_else(|errors| panic!("{errors}"));
    let ttl = Duration::from_secs(3_600);
    let grant = Grant { user: "ann".to_owned(), allow: vec![allow.parse().unwrap()], publish: None, ttl };
    mint(&config.auth.jwt, &grant, unix_now()).unwrap()
}

#[track_caller]
fn shown(client: &mut Raw) -> Value {
    client.join("1", "lobby", &json!({}));
    client.say(&json!(["1", "2", "lobby", "connect_info", {}]));
    let reply: Value = serde_json::from_str(&client.text()).unwrap();
    reply[4]["response"].clone()
}

#[test]
fn any_text_is_a_token_here_and_comes_back_to_its_client_alone() {
    let playground = Playground::with(&["log.level=trace"]);
    for token in [SECRET, "1234", "a.b.c", "", "\u{0}"] {
        let protocol = bearer(token);
        let (mut client, answer) =
            playground.upgrade("/socket/websocket?vsn=2.0.0", &[("Sec-WebSocket-Protocol", &protocol)]);
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, Some("phoenix")), "{token:?}");
        assert_eq!(shown(&mut client), json!({"auth_token": token, "params": {"vsn": "2.0.0"}}));
    }
    // A parameter is a parameter.
    let mut client = playground.open("/socket", "&token=hello&authToken=x");
    let params = json!({"vsn": "2.0.0", "token": "hello", "authToken": "x"});
    assert_eq!(shown(&mut client), json!({"auth_token": null, "params": params}));
    // Where the mount takes none, there is none.
    let protocol = bearer(SECRET);
    let (mut client, answer) =
        playground.upgrade("/socket_compress/websocket?vsn=2.0.0", &[("Sec-WebSocket-Protocol", &protocol)]);
    assert_eq!(answer.header("sec-websocket-protocol"), None);
    assert_eq!(shown(&mut client)["auth_token"], json!(null));
    let bad = format!("phoenix, base64url.bearer.phx.{}-", STANDARD_NO_PAD.encode(SECRET));
    assert_eq!(playground.upgrade("/socket/websocket", &[("Sec-WebSocket-Protocol", &bad)]).1.status, 400);
    let log = playground.log();
    assert!(log.contains("bad_auth_token"), "{log}");
    for secret in [SECRET, &STANDARD_NO_PAD.encode(SECRET), "s\\u00e9same"] {
        assert!(!log.contains(secret), "{log}");
    }
}

/// Where no key is configured, somebody else's token is a text like any other: it is shown, and grants nothing.
#[test]
fn a_token_of_somebody_else_is_opaque_where_no_key_is_configured() {
    let playground = Playground::with(&[]);
    let foreign = token("another secret, also of 32 bytes or more", "*");
    let protocol = bearer(&foreign);
    let (mut client, answer) =
        playground.upgrade("/socket/websocket?vsn=2.0.0", &[("Sec-WebSocket-Protocol", &protocol)]);
    assert_eq!(answer.status, 101);
    assert_eq!(shown(&mut client)["auth_token"], json!(foreign));
}

/// A token that means something is judged as anywhere, and one of ours names its user's sockets.
#[test]
fn a_signed_token_is_verified_even_here() {
    let secret = format!("auth.jwt.hs256_secret={TOKEN_SECRET}");
    let playground = Playground::with(&[&secret]);
    let connect = |token: &str, query: &str| {
        let protocol = bearer(token);
        playground.upgrade(&format!("/socket/websocket?vsn=2.0.0{query}"), &[("Sec-WebSocket-Protocol", &protocol)])
    };
    let (_, refused) = connect(&token("another secret, also of 32 bytes or more", "*"), "");
    assert_eq!(refused.status, 403);
    // What is no token at all gets what nobody gets.
    let (mut stranger, answer) = connect("anything", "");
    assert_eq!(answer.status, 101);
    // The subprotocol goes before the parameter.
    let (mut ann, answer) = connect(&token(TOKEN_SECRET, "*"), "&token=a.b.c");
    assert_eq!(answer.status, 101);
    playground.control("/demo/disconnect?id=users_socket:ann", b"");
    ann.expect_close(1001);
    stranger.expect_nothing();
}

#[test]
fn the_product_takes_its_token_from_the_subprotocol() {
    let secret = format!("auth.jwt.hs256_secret={TOKEN_SECRET}");
    let product = Product::start(&[&secret, r#"channel=[{pattern="room:*",kind="room",join="token"}]"#]);
    let connect = |token: &str| {
        let mut client = Raw::connect(product.address);
        let protocol = bearer(token);
        let headers = [super::upgrade_headers(), vec![("Sec-WebSocket-Protocol", protocol.as_str())]].concat();
        client.write(super::request("/socket/websocket?vsn=2.0.0", &headers).as_bytes());
        let answer = client.answer();
        (client, answer)
    };
    let (mut ann, answer) = connect(&token(TOKEN_SECRET, "room:mine"));
    assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, Some("phoenix")));
    ann.join("1", "room:mine", &json!({}));
    ann.say(&json!(["2", "2", "room:other", "phx_join", {}]));
    assert!(ann.text().contains("\"error\""));
    for bad in ["opaque", "a.b.c"] {
        let (_, answer) = connect(bad);
        assert_eq!((answer.status, answer.body.as_slice()), (403, &b""[..]), "{bad}");
    }
}
