//! The HTTP API as a hostile or careless client sees it: raw requests, and answers that are problem JSON with a code of `docs/codes.md`.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::node::{ADMIN, PATIENCE, PUBLISHER, TestNode};

/// What came back.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (seen, value) = line.split_once(':')?;
            seen.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The code of a problem, which must be one in every respect.
    fn code(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}\n{text}", self.head);
        let problem: Value = serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(problem["status"], self.status);
        assert!(self.body.len() < 1_024, "an answer repeats what it was sent: {text}");
        let code = problem["code"].as_str().unwrap().to_owned();
        assert_eq!(problem["type"], format!("urn:tickwire:problem:{code}"));
        code
    }
}

/// Sends bytes and reads until the server closes.
async fn exchange(node: &TestNode, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(node.addresses.http).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    read.unwrap_or_else(|_| panic!("no end: {:?}", String::from_utf8_lossy(&answer))).unwrap();
    parse(&answer)
}

fn parse(answer: &[u8]) -> Answer {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: answer[end + 4..].to_vec() }
}

/// A request that closes its connection afterwards.
fn request(line: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{line} HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    if !body.is_empty() {
        write!(head, "content-length: {}\r\n", body.len()).unwrap();
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

const JSON: (&str, &str) = ("content-type", "application/json");
const KEY: (&str, &str) = ("x-api-key", ADMIN);

#[tokio::test]
async fn hostile_targets_get_a_clean_problem() {
    let node = TestNode::start(&[]).await;
    let long = format!("GET /v1/quotes/{}", "x".repeat(5_000));
    let long_query = format!("GET /v1/bars/A?interval={}", "x".repeat(5_000));
    let long_topic = format!("GET /v1/stream?topics={}", "x".repeat(5_000));
    let long_rate = format!("GET /v1/stream?topics=ticker:A&max_rate={}", "9".repeat(5_000));
    for (line, status, code) in [
        ("GET /v1/quotes/%", 400, "invalid_symbol"),
        ("GET /v1/quotes/%zz", 400, "invalid_symbol"),
        ("GET /v1/quotes/%00", 400, "invalid_symbol"),
        ("GET /v1/quotes/%ff%fe", 400, "invalid_path"),
        ("GET /v1/quotes/A%0d%0aB", 400, "invalid_symbol"),
        ("GET /v1/quotes/..%2f..%2fetc", 404, "unknown_symbol"),
        (&long, 400, "invalid_symbol"),
        ("GET /v1/quotes/", 404, "no_such_path"),
        ("GET /v1/quotes?limit=99999999999999999999999999", 400, "invalid_params"),
        ("GET /v1/quotes?limit=-1", 400, "invalid_params"),
        ("GET /v1/quotes?limit=1&limit=2", 400, "invalid_params"),
        ("GET /v1/quotes?limit=%ff", 400, "invalid_params"),
        ("GET /v1/quotes?after=%00", 400, "invalid_params"),
        ("GET /v1/bars/A?from=99999999999999999999", 400, "invalid_params"),
        ("GET /v1/bars/A?from=2026-02-30T00:00:00Z", 400, "invalid_params"),
        (&long_query, 400, "invalid_params"),
        ("GET /v1/stream?topics=", 400, "no_topic"),
        ("GET /v1/stream?topics=,%20,", 400, "no_topic"),
        ("GET /v1/stream?topics=%00", 404, "unmatched_topic"),
        (&long_topic, 404, "unmatched_topic"),
        (&long_rate, 400, "invalid_params"),
        ("GET /v1//quotes", 404, "no_such_path"),
        ("GET /V1/quotes", 404, "no_such_path"),
        ("GET //", 404, "no_such_path"),
        ("POST /v1/cache/refresh", 404, "no_such_path"),
        ("POST /v1/topics/room:a", 404, "no_such_path"),
        ("PUT /v1/quotes", 405, "method_not_allowed"),
        ("TRACE /v1/stream?topics=ticker:A", 405, "method_not_allowed"),
        ("NONSENSE /v1/disconnect", 405, "method_not_allowed"),
    ] {
        let answer = exchange(&node, &request(line, &[KEY], b"")).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{line}");
        assert_eq!(answer.header("allow").is_some(), status == 405, "{line}");
    }
    node.end().await;
}

#[tokio::test]
async fn hostile_bodies_get_a_clean_problem() {
    let node = TestNode::start(&["limits.body_bytes=1MiB"]).await;
    let deep = |depth: usize| format!(r#"{{"event":"e","payload":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let csv = ("content-type", "text/csv");
    let room = "POST /v1/topics/room:a/broadcast";
    let long_type = ("content-type", &*"x".repeat(5_000));
    for (line, header, body, status, code) in [
        ("POST /v1/quotes", JSON, b"".to_vec(), 400, "malformed"),
        ("POST /v1/quotes", JSON, b"\xff\xfe{}".to_vec(), 400, "malformed"),
        ("POST /v1/quotes", JSON, b"null".to_vec(), 400, "malformed"),
        ("POST /v1/quotes", JSON, b"{}{}".to_vec(), 400, "malformed"),
        ("POST /v1/quotes", JSON, [b"[".repeat(100_000), b"1".to_vec()].concat(), 400, "malformed"),
        ("POST /v1/quotes", JSON, vec![b' '; (1 << 20) + 1], 413, "body_too_large"),
        ("POST /v1/quotes", JSON, format!("[{}{{}}]", "{},".repeat(10_000)).into_bytes(), 413, "too_large"),
        ("POST /v1/quotes", csv, b"bid,bid\n1,1\n".to_vec(), 400, "malformed"),
        ("POST /v1/quotes", csv, b"\0".to_vec(), 400, "malformed"),
        ("POST /v1/quotes", ("content-type", ";"), b"{}".to_vec(), 415, "unsupported_media_type"),
        ("POST /v1/quotes", ("content-type", "\u{e9}"), b"{}".to_vec(), 415, "unsupported_media_type"),
        ("POST /v1/quotes", long_type, b"{}".to_vec(), 415, "unsupported_media_type"),
        (room, ("content-type", "text/plain"), b"{}".to_vec(), 415, "unsupported_media_type"),
        (room, JSON, b"{\"event\":\"a\",\"event\":\"b\"}".to_vec(), 400, "invalid_json"),
        (room, JSON, b"{\"event\":\"a\",\"more\":1}".to_vec(), 400, "invalid_json"),
        (room, JSON, b"{\"event\":\"\\ud800\"}".to_vec(), 400, "invalid_json"),
        (room, JSON, b"{\"event\":\"a\",\"payload\":\"\\ud800\"}".to_vec(), 400, "invalid_json"),
        (room, JSON, b"{\"event\":\"a\",\"payload\":1e999}".to_vec(), 400, "invalid_json"),
        (room, JSON, b"{\"event\":\"a\xff\"}".to_vec(), 400, "invalid_json"),
        (room, JSON, deep(50_000).into_bytes(), 400, "invalid_json"),
        (room, JSON, format!("\"{}\"", "x".repeat(100_000)).into_bytes(), 400, "invalid_json"),
        (room, JSON, b"{\"event\":\"\"}".to_vec(), 400, "invalid_event"),
        (room, JSON, b"{\"event\":\"phx_reply\"}".to_vec(), 400, "invalid_event"),
        (room, JSON, format!(r#"{{"event":"{}"}}"#, "e".repeat(256)).into_bytes(), 400, "invalid_event"),
        ("POST /v1/topics/ticker:A/broadcast", JSON, b"{\"event\":\"a\"}".to_vec(), 422, "not_a_room"),
        ("POST /v1/topics/nosuch/broadcast", JSON, b"{\"event\":\"a\"}".to_vec(), 404, "unmatched_topic"),
        ("POST /v1/disconnect", JSON, b"{}".to_vec(), 400, "invalid_user"),
        ("POST /v1/disconnect", JSON, b"{\"user\":7}".to_vec(), 400, "invalid_json"),
    ] {
        let answer = exchange(&node, &request(line, &[KEY, header], &body)).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{line} {shown}");
        assert_eq!(answer.header("accept-post").is_some(), status == 415, "{line} {shown}");
    }
    let long = format!(r#"{{"event":"{}","payload":{{"n":{}}}}}"#, "é".repeat(255), "9".repeat(1_000));
    for body in [deep(900).into_bytes(), long.into_bytes()] {
        assert_eq!(exchange(&node, &request(room, &[KEY, JSON], &body)).await.status, 202);
    }
    node.end().await;
}

#[tokio::test]
async fn a_body_in_chunks_is_a_body() {
    let node = TestNode::start(&["limits.body_bytes=1KiB"]).await;
    let head = request("POST /v1/quotes", &[KEY, JSON, ("transfer-encoding", "chunked")], b"");
    let quote = r#"{"symbol":"A","bid":"1"}"#;
    let chunks = |body: &str| {
        let pieces =
            body.as_bytes().chunks(7).map(|piece| [format!("{:x}\r\n", piece.len()).as_bytes(), piece].concat());
        [pieces.collect::<Vec<_>>().join(&b"\r\n"[..]), b"\r\n0\r\n\r\n".to_vec()].concat()
    };
    let answer = exchange(&node, &[head.clone(), chunks(quote)].concat()).await;
    assert_eq!(answer.status, 202, "{}", answer.head);
    let answer = exchange(&node, &[head.clone(), chunks(&" ".repeat(2_000))].concat()).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));
    // A client that goes midway is answered, if it still listens.
    let mut stream = TcpStream::connect(node.addresses.http).await.unwrap();
    stream.write_all(&[head.clone(), b"zz\r\n".to_vec()].concat()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert_eq!(parse(&answer).code(), "body_incomplete");
    node.end().await;
}

#[tokio::test]
async fn head_answers_wherever_get_does() {
    let node = TestNode::start(&[]).await;
    node.publish(json!({"symbol": "A", "bid": "1", "ask": "2"})).await;
    for path in
        ["/", "/v1/openapi.json", "/v1/quotes", "/v1/quotes/A", "/v1/quotes/NOSUCH", "/v1/stream?topics=ticker:A", "/x"]
    {
        let head = exchange(&node, &request(&format!("HEAD {path}"), &[], b"")).await;
        assert_eq!(head.body.len(), 0, "{path}");
        if !path.starts_with("/v1/stream") {
            let get = exchange(&node, &request(&format!("GET {path}"), &[], b"")).await;
            assert_eq!((head.status, head.header("content-type")), (get.status, get.header("content-type")), "{path}");
        } else {
            assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        }
    }
    node.end().await;
}

#[tokio::test]
async fn an_idempotency_key_is_one_plain_word() {
    let node = TestNode::start(&[]).await;
    let send = async |keys: &[&str], payload: u32| {
        let mut headers = vec![("x-api-key", PUBLISHER), JSON];
        headers.extend(keys.iter().map(|key| ("idempotency-key", *key)));
        let body = format!(r#"{{"event":"e","payload":{payload}}}"#);
        exchange(&node, &request("POST /v1/topics/room:a/broadcast", &headers, body.as_bytes())).await
    };
    let long = "k".repeat(257);
    for keys in [&[""][..], &["two words"], &["é"], &[&long], &["a", "b"]] {
        let answer = send(keys, 1).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_idempotency_key"), "{keys:?}");
    }
    let key = &long[..256];
    let first = send(&[key], 1).await;
    assert_eq!((first.status, first.header("idempotent-replayed")), (202, None));
    let again = send(&[key], 1).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (202, Some("true")));
    let other = send(&[key], 2).await;
    assert_eq!((other.status, other.code().as_str()), (409, "idempotency_key_reused"));
    node.end().await;
}

/// Reads one answer with a length from a connection that stays open.
async fn next_answer(stream: &mut TcpStream) -> Answer {
    let mut read = Vec::new();
    loop {
        let mut piece = [0; 4_096];
        let count = tokio::time::timeout(PATIENCE, stream.read(&mut piece)).await.unwrap().unwrap();
        assert_ne!(count, 0, "the connection ended without an answer");
        read.extend_from_slice(&piece[..count]);
        if !read.windows(4).any(|four| four == b"\r\n\r\n") {
            continue;
        }
        let answer = parse(&read);
        let length: usize = answer.header("content-length").unwrap().parse().unwrap();
        if answer.body.len() >= length {
            return answer;
        }
    }
}

#[tokio::test]
async fn a_publisher_on_a_lasting_connection_is_told_that_a_drain_ends_it() {
    let node = TestNode::start(&[]).await;
    let body = r#"{"symbol":"A","bid":"1"}"#;
    let publish = format!(
        "POST /v1/quotes HTTP/1.1\r\nhost: a\r\nx-api-key: {PUBLISHER}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut publisher = TcpStream::connect(node.addresses.http).await.unwrap();
    let mut idle = TcpStream::connect(node.addresses.http).await.unwrap();
    for stream in [&mut publisher, &mut idle] {
        stream.write_all(publish.as_bytes()).await.unwrap();
        let answer = next_answer(stream).await;
        assert_eq!((answer.status, answer.header("connection")), (202, None));
    }
    node.stop.request();
    // One request after the other: none of them goes without an answer, and the last answer says that it is the last.
    loop {
        publisher.write_all(publish.as_bytes()).await.unwrap();
        let answer = next_answer(&mut publisher).await;
        assert_eq!(answer.status, 202);
        if answer.header("connection") == Some("close") {
            break;
        }
    }
    for mut stream in [publisher, idle] {
        let mut rest = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert_eq!(rest, b"");
    }
    tokio::time::timeout(PATIENCE, node.ended).await.unwrap().unwrap().unwrap();
}
