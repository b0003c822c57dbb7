//! The HTTP API, with what goes wrong.

use serde_json::{Value, json};

use crate::node::{PUBLISHER, TestNode, eventually};

async fn post(
    node: &TestNode,
    key: Option<&str>,
    content_type: &str,
    body: impl Into<reqwest::Body>,
) -> (u16, reqwest::header::HeaderMap, Value) {
    let mut request = node.client.post(node.http("/v1/quotes")).header("content-type", content_type).body(body);
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    (status, headers, answer.json().await.unwrap())
}

#[tokio::test]
async fn quotes_are_taken_in_every_form() {
    let node = TestNode::start(&[]).await;
    for (content_type, body) in [
        ("application/json", r#"{"symbol":"A","bid":"1","ask":2}"#),
        ("application/json; charset=utf-8", r#"[{"symbol":"B","bid":"1"}]"#),
        ("application/x-ndjson", "{\"symbol\":\"C\",\"bid\":\"1\"}\n"),
        ("text/csv", "symbol,bid,ask\nX/Y:Z,1,2\n"),
    ] {
        let (status, _, answer) = post(&node, Some(PUBLISHER), content_type, body).await;
        assert_eq!(
            (status, &answer["accepted"], &answer["rejected"]),
            (202, &json!(1), &json!([])),
            "{content_type}: {answer}"
        );
    }
    let (status, list) = node.get("/v1/quotes").await;
    let symbols: Vec<_> = list["quotes"].as_array().unwrap().iter().map(|quote| quote["symbol"].clone()).collect();
    assert_eq!(
        (status, symbols, &list["next"]),
        (200, vec![json!("A"), json!("B"), json!("C"), json!("X/Y:Z")], &Value::Null)
    );
    let (_, page) = node.get("/v1/quotes?limit=2&after=A").await;
    assert_eq!((page["quotes"].as_array().unwrap().len(), &page["next"]), (2, &json!("C")));
    for path in ["/v1/quotes/X/Y:Z", "/v1/quotes/X%2FY%3AZ"] {
        let (status, quote) = node.get(path).await;
        assert_eq!((status, &quote["bid"], &quote["status"]), (200, &json!("1"), &json!("ok")), "{path}");
        assert!(quote["age_us"].is_u64() && quote["epoch"].is_string());
    }
    node.end().await;
}

/// A long list is written piece by piece: the pieces make one whole, wherever a page ends.
#[tokio::test]
async fn a_list_of_any_length_is_whole() {
    let node = TestNode::start(&[]).await;
    let names: Vec<_> = (0..200).map(|number| format!("S{number:03}")).collect();
    let quotes: Vec<_> = names.iter().map(|name| json!({"symbol": name, "bid": "1"})).collect();
    node.publish(quotes.into()).await;
    for limit in [1, 63, 64, 65, 127, 128, 129, 199, 200, 201, 1000] {
        let (mut walked, mut after) = (Vec::new(), String::new());
        loop {
            let (status, page) = node.get(&format!("/v1/quotes?limit={limit}&after={after}")).await;
            let symbols = page["quotes"].as_array().unwrap().iter().map(|quote| quote["symbol"].as_str().unwrap());
            let symbols: Vec<_> = symbols.map(str::to_owned).collect();
            assert!(status == 200 && symbols.len() <= limit, "limit {limit} after {after:?}");
            walked.extend(symbols);
            let Some(next) = page["next"].as_str() else { break };
            assert_eq!(walked.last().map(String::as_str), Some(next), "limit {limit}");
            next.clone_into(&mut after);
        }
        assert_eq!(walked, names, "limit {limit}");
    }
    node.end().await;
}

#[tokio::test]
async fn a_bad_quote_costs_itself_only() {
    let node = TestNode::start(&[]).await;
    let answer =
        node.publish(json!([{"symbol": "A", "bid": "1"}, {"symbol": "A", "bid": "-1"}, {"symbol": "A"}])).await;
    assert_eq!(answer["accepted"], 1);
    assert_eq!(answer["rejected"][0]["index"], 1);
    assert_eq!(answer["rejected"][0]["code"], "invalid_price");
    assert_eq!(answer["rejected"][0]["retryable"], false);
    assert_eq!(answer["rejected"][1]["code"], "missing_field");
    node.end().await;
}

#[tokio::test]
async fn wrong_requests_get_a_problem_that_says_what_to_change() {
    let node = TestNode::start(&["limits.body_bytes=1KiB"]).await;
    let json = "application/json";
    let cases: [(Option<&str>, &str, String, u16, &str); 7] = [
        (None, json, "{}".to_owned(), 401, "unauthorized"),
        (Some("no-such-key-at-all-here"), json, "{}".to_owned(), 401, "key_invalid"),
        (Some(PUBLISHER), json, "{".to_owned(), 400, "malformed"),
        (Some(PUBLISHER), "application/xml", "<x/>".to_owned(), 415, "unsupported_media_type"),
        (Some(PUBLISHER), "", String::new(), 415, "unsupported_media_type"),
        (Some(PUBLISHER), json, "x".repeat(1025), 413, "body_too_large"),
        (Some(PUBLISHER), "text/csv", "nosuch\n1\n".to_owned(), 400, "malformed"),
    ];
    for (key, content_type, body, status, code) in cases {
        let (seen, headers, problem) = post(&node, key, content_type, body).await;
        assert_eq!((seen, &problem["code"]), (status, &json!(code)), "{problem}");
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!(headers.contains_key("www-authenticate"), status == 401);
        assert_eq!(headers.contains_key("accept-post"), status == 415);
    }
    for (path, code) in [
        ("/v1/quotes/NOSUCH", "unknown_symbol"),
        ("/v1/bars/NOSUCH", "unknown_symbol"),
        ("/v1/nothing", "no_such_path"),
        ("/v1/stream?topics=nosuch:a", "unmatched_topic"),
    ] {
        let (status, problem) = node.get(path).await;
        assert_eq!((status, &problem["code"]), (404, &json!(code)), "{path}");
    }
    for path in [
        "/v1/quotes?limit=0",
        "/v1/quotes?limit=x",
        "/v1/bars/A?interval=2m",
        "/v1/bars/A?from=yesterday",
        "/v1/stream?topics=ticker:A&max_rate=fast",
        "/v1/stream",
        "/v1/stream?topics=ticker:A&topics=ticker:B",
        "/v1/quotes/%20",
    ] {
        let (status, problem) = node.get(path).await;
        assert_eq!(status, 400, "{path}: {problem}");
        assert_eq!(problem["status"], 400);
    }
    let answer = node.client.delete(node.http("/v1/quotes")).send().await.unwrap();
    assert_eq!(answer.status(), 405);
    let allow = answer.headers()["allow"].to_str().unwrap().to_owned();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], "method_not_allowed");
    node.end().await;
}

#[tokio::test]
async fn pages_of_other_hosts_may_not_write() {
    let node = TestNode::start(&["auth.publish=open"]).await;
    let send = async |origin: &str| {
        let request =
            node.client.post(node.http("/v1/quotes")).header("origin", origin).json(&json!({"symbol": "A", "bid": 1}));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(send("https://evil.example").await, 403);
    assert_eq!(send(&format!("http://{}", node.addresses.http)).await, 202);
    node.end().await;
}

#[tokio::test]
async fn bars_of_the_mid_price_are_rolled_up() {
    let node = TestNode::start(&[]).await;
    node.publish(json!([
        {"symbol": "A", "bid": "1", "ask": "3", "ts": 60_000_000_i64},
        {"symbol": "A", "bid": "3", "ask": "5", "ts": 70_000_000_i64},
        {"symbol": "A", "bid": "2", "ask": "4", "ts": 130_000_000_i64},
    ]))
    .await;
    eventually("the bars are there", async || {
        let (status, answer) = node.get("/v1/bars/A?interval=1m").await;
        status == 200 && answer["bars"].as_array().is_some_and(|bars| bars.len() == 2)
    })
    .await;
    let (_, answer) = node.get("/v1/bars/A?interval=1m").await;
    let bar = &answer["bars"][0];
    assert_eq!(
        (&bar["open"], &bar["high"], &bar["low"], &bar["close"], &bar["count"]),
        (&json!("2"), &json!("4"), &json!("2"), &json!("4"), &json!(2))
    );
    assert_eq!(answer["day"]["high"], "4");
    let (_, answer) = node.get("/v1/bars/A?interval=1m&from=1970-01-01T00:02:00Z").await;
    assert_eq!(answer["bars"].as_array().unwrap().len(), 1);
    node.end().await;
}

#[tokio::test]
async fn the_page_is_served_with_its_rules() {
    let node = TestNode::start(&[]).await;
    let answer = node.client.get(node.http("/")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    // A checkout whose page was not built says so instead.
    if let Some(etag) = answer.headers().get("etag").cloned() {
        assert!(answer.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
        let again = node.client.get(node.http("/")).header("if-none-match", etag).send().await.unwrap();
        assert_eq!(again.status(), 304);
    }
    assert_eq!(node.client.get(node.http("/assets/nosuch.js")).send().await.unwrap().status(), 404);
    node.end().await;
}

#[tokio::test]
async fn http2_without_an_upgrade_is_spoken_too() {
    let node = TestNode::start(&[]).await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let answer = client.get(node.http("/v1/quotes")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
    node.end().await;
}

#[tokio::test]
async fn a_symbol_is_refreshed_node_by_node() {
    let node = TestNode::start(&[]).await;
    node.publish(json!({"symbol": "A", "bid": "1"})).await;
    let ask = |key: &str| node.client.post(node.http("/v1/cache/A/refresh")).bearer_auth(key).send();
    assert_eq!(ask(PUBLISHER).await.unwrap().status(), 403);
    let answer: Value = ask(crate::node::ADMIN).await.unwrap().json().await.unwrap();
    assert_eq!(answer["nodes"][0]["result"], "ok");
    node.end().await;
}

/// Every path and method of the document is answered by something, and every reference leads somewhere.
#[tokio::test]
async fn the_api_describes_itself() {
    let node = TestNode::start(&[]).await;
    let (status, document) = node.get("/v1/openapi.json").await;
    assert_eq!((status, &document["info"]["version"]), (200, &json!(env!("CARGO_PKG_VERSION"))));
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{symbol}", "A").replace("{topic}", "room:a");
        for method in methods.as_object().unwrap().keys() {
            let method: reqwest::Method = method.to_uppercase().parse().unwrap();
            let answer = node.client.request(method.clone(), node.http(&path)).send().await.unwrap();
            let code = match answer.status().as_u16() {
                200 => Value::Null,
                _ => answer.json::<Value>().await.unwrap()["code"].clone(),
            };
            assert!(code != "no_such_path" && code != "method_not_allowed", "{method} {path}: {code}");
        }
    }
    let text = document.to_string();
    for reference in text.split("\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
    node.end().await;
}
