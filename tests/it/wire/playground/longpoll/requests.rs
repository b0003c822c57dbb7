//! Opening, polling, and what else may be asked.

use serde_json::{Value, json};

use super::{JOIN, JOINED, Playground, Poller, body, check_head};

#[test]
fn a_get_without_a_valid_token_opens_a_session() {
    let playground = Playground::start();
    let foreign = Poller::open(&playground, "/socket_small", "vsn=2.0.0").token;
    let mut seen = std::collections::HashSet::new();
    for query in [
        "".to_owned(),
        "?vsn=1.0.0".to_owned(),
        "?vsn=2.0.0&token=".to_owned(),
        "?vsn=2.0.0&token=garbled".to_owned(),
        "?vsn=2.0.0&token=twlp1.AAAA".to_owned(),
        // One of another mount is none here.
        format!("?vsn=2.0.0&token={foreign}"),
        format!("/?vsn=2.0.0&token={foreign}"),
    ] {
        let answer = playground.ask("GET", &format!("/socket/longpoll{query}"), &[], b"");
        let answer = body(&answer);
        assert_eq!(answer.as_object().unwrap().len(), 3);
        assert_eq!((&answer["status"], &answer["messages"]), (&json!(410), &json!([])), "{query}");
        let token = answer["token"].as_str().unwrap().to_owned();
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_~".contains(&byte)), "{token}");
        assert!(seen.insert(token), "each session has a token of its own");
    }
}

#[test]
fn refusals_are_403_without_a_token() {
    let playground = Playground::start();
    let refused = |target: &str, headers: &[(&str, &str)]| {
        for method in ["GET", "POST", "OPTIONS", "PUT"] {
            if method != "GET" && headers.is_empty() {
                continue;
            }
            let answer = playground.ask(method, target, headers, b"");
            assert_eq!(body(&answer), json!({"status": 403}), "{method} {target}");
        }
    };
    for vsn in ["3.0.0", "2.1.0", "2", "2.0", "", "v2.0.0", "02.0.0", "2.0.0-rc.1"] {
        refused(&format!("/socket/longpoll?vsn={vsn}"), &[]);
    }
    refused("/socket/longpoll?vsn=2.0.0&reject=error", &[]);
    refused("/socket/longpoll?vsn=2.0.0&reject=reason", &[]);
    // The origin is looked at with every request.
    let origin = |origin| [("Origin", origin)];
    for page in ["https://evil.example", "null", "https://allowed.example.evil", "http://allowed.example"] {
        refused("/socket_origin/longpoll?vsn=2.0.0", &origin(page));
    }
    refused("/socket_origin/longpoll?vsn=2.0.0", &[("Origin", "https://allowed.example"); 2]);
    for page in ["https://allowed.example", "http://a.b.wild.example:8080"] {
        let answer = playground.ask("GET", "/socket_origin/longpoll?vsn=2.0.0", &origin(page), b"");
        assert_eq!(body(&answer)["status"], json!(410));
    }
    let poller = Poller::open(&playground, "/socket_origin", "vsn=2.0.0");
    refused(&format!("/socket_origin/longpoll?token={}", poller.token), &origin("https://evil.example"));
    poller.send(&[JOIN]);
}

#[test]
fn of_repeated_tokens_the_last_wins_and_a_header_wins_over_all() {
    let playground = Playground::start();
    let (first, second) = (Poller::v2(&playground), Poller::v2(&playground));
    let polled = |query: String, headers: &[(&str, &str)]| {
        let answer = body(&playground.ask("GET", &format!("/socket/longpoll?vsn=2.0.0{query}"), headers, b""));
        answer["token"].as_str().unwrap().to_owned()
    };
    for poller in [&first, &second] {
        poller.send(&[JOIN]);
    }
    assert_eq!(polled(format!("&token={}&token={}", second.token, first.token), &[]), first.token);
    let header = [("X-Phoenix-LongPoll-Token", second.token.as_str())];
    assert_eq!(polled(format!("&token={}", first.token), &header), second.token);
    // Both were answered with their messages; the last of them is what counts, whatever it is.
    let last = polled(format!("&token={}&token=garbled", first.token), &[]);
    assert!(last != first.token && last != second.token);
    let garbled = [("x-phoenix-longpoll-token", "garbled")];
    assert_ne!(polled(format!("&token={}", first.token), &garbled), first.token);
    let post = playground.ask("POST", "/socket/longpoll", &header, JOIN.as_bytes());
    assert_eq!(body(&post), json!({"status": 200}));
}

/// The parameter `token` of a client's own is the application's, and comes again with each poll.
#[test]
fn parameters_are_those_of_the_first_request() {
    let playground = Playground::start();
    let poller = Poller::open(&playground, "/socket", "vsn=2.0.0&token=own&a=1&a=2&b=%C3%BC");
    let ask = r#"["1","2","room:a","connect_info",{}]"#;
    let target = format!("/socket/longpoll?vsn=1.0.0&a=3&token=own&token={}", poller.token);
    let answer = playground.ask("POST", &target, &[], JOIN.as_bytes());
    assert_eq!(body(&answer), json!({"status": 200}));
    poller.send(&[ask]);
    let answer = body(&playground.ask("GET", &target, &[], b""));
    assert_eq!(answer["messages"][0], json!(JOINED), "the format does not change either");
    let info: Value = serde_json::from_str(answer["messages"][1].as_str().unwrap()).unwrap();
    let params = &info[4]["response"]["params"];
    assert_eq!(*params, json!({"vsn": "2.0.0", "token": "own", "a": "2", "b": "ü"}));
}

#[test]
fn the_auth_token_comes_raw_in_a_header_of_the_first_get() {
    let playground = Playground::start();
    let shown = |mount: &'static str, headers: &[(&str, &str)]| {
        let answer = body(&playground.ask("GET", &format!("{mount}/longpoll?vsn=2.0.0"), headers, b""));
        let token = answer["token"].as_str().unwrap().to_owned();
        let poller = Poller { playground: &playground, mount, token };
        poller.send(&[JOIN, r#"["1","2","room:a","connect_info",{}]"#]);
        let info: Value = serde_json::from_str(poller.poll()["messages"][1].as_str().unwrap()).unwrap();
        info[4]["response"]["auth_token"].clone()
    };
    assert_eq!(shown("/socket", &[("X-Phoenix-AuthToken", "to+ken/=")]), json!("to+ken/="));
    assert_eq!(shown("/socket", &[]), Value::Null);
    assert_eq!(shown("/socket_compress", &[("X-Phoenix-AuthToken", "token")]), Value::Null, "it is off there");
}

#[test]
fn v1_clients_poll_like_others() {
    let playground = Playground::start();
    let poller = Poller::open(&playground, "/socket", "vsn=1.0.0");
    let join = r#"{"topic":"room:a","event":"phx_join","payload":{},"ref":"1"}"#;
    assert_eq!(poller.post("application/json", join.as_bytes()), (200, json!({"status": 200})));
    let answer = poller.poll();
    let reply: Value = serde_json::from_str(answer["messages"][0].as_str().unwrap()).unwrap();
    let expected =
        json!({"topic": "room:a", "event": "phx_reply", "ref": "1", "payload": {"status": "ok", "response": {}}});
    assert_eq!(reply, expected);
}

#[test]
fn a_browser_is_told_what_it_may_send() {
    let playground = Playground::start();
    let asked = [("Access-Control-Request-Headers", "content-type, x-phoenix-longpoll-token")];
    let answer = playground.ask("OPTIONS", "/socket/longpoll?vsn=2.0.0", &asked, b"");
    check_head(&answer);
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    for (name, value) in [
        ("access-control-allow-headers", "content-type, x-phoenix-longpoll-token"),
        ("access-control-allow-methods", "get, post, options"),
        ("access-control-max-age", "3600"),
    ] {
        assert_eq!(answer.header(name), Some(value));
    }
}

#[test]
fn other_methods_are_400_and_empty() {
    let playground = Playground::start();
    for method in ["PUT", "DELETE", "PATCH", "HEAD", "BREW"] {
        let answer = playground.ask(method, "/socket/longpoll?vsn=2.0.0", &[], b"");
        check_head(&answer);
        assert_eq!((answer.status, answer.body.len()), (400, 0), "{method}");
    }
    for path in ["/socket", "/socket/longpol", "/socket/longpoll/x", "/nosuch/longpoll"] {
        assert_eq!(playground.ask("GET", path, &[], b"").status, 404, "{path}");
    }
    let answer = playground.ask("GET", "/socket/longpoll?vsn=%", &[], b"");
    assert_eq!((answer.status, answer.body.as_slice()), (400, &br#"{"status":400}"#[..]));
}
