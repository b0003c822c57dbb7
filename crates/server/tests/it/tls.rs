//! TLS on the public ports: sockets, requests and calls over it, its certificate's replacement, and clients that do not speak it.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use futures_util::future::join_all;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tokio_tungstenite::{Connector, client_async_tls_with_config, tungstenite};

use crate::node::{PATIENCE, PUBLISHER, Socket, TestNode, eventually};

const ROOM: &str = r#"channel=[{"pattern":"ticker:*","kind":"ticker"},{"pattern":"room:*","kind":"room","write":"anyone","broadcast":["shout"],"echo":["ping"]}]"#;

/// An authority and the files of a certificate that it signed.
struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        let authority = Self { folder: tempfile::tempdir().unwrap(), issuer: Issuer::new(params, key), root };
        authority.sign(2090);
        authority
    }

    /// Signs a certificate that ends in `year`, in place of the one before.
    fn sign(&self, year: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.write(&certificate.pem(), &key.serialize_pem());
        certificate.der().clone()
    }

    fn write(&self, certificate: &str, key: &str) {
        fs::write(self.path("tls.key"), key).unwrap();
        fs::write(self.path("tls.crt"), certificate).unwrap();
    }

    fn path(&self, name: &str) -> impl AsRef<Path> + std::fmt::Debug {
        self.folder.path().join(name)
    }

    /// A node that serves with it.
    async fn node(&self, sets: &[&str]) -> TestNode {
        let file = |key: &str, name: &str| format!("listen.tls.{key}={}", self.path(name).as_ref().display());
        let own = [file("cert", "tls.crt"), file("key", "tls.key"), ROOM.to_owned()];
        let sets: Vec<_> = own.iter().map(String::as_str).chain(sets.iter().copied()).collect();
        TestNode::start(&sets).await
    }

    fn client_config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
    }

    fn client(&self) -> reqwest::ClientBuilder {
        reqwest::Client::builder().tls_certs_only([reqwest::Certificate::from_der(&self.root).unwrap()])
    }

    async fn try_open(&self, address: SocketAddr, stream: TcpStream) -> Result<Socket, tungstenite::Error> {
        let url = format!("wss://{address}/socket/websocket?vsn=2.0.0");
        let connector = Connector::Rustls(Arc::new(self.client_config()));
        let opened = client_async_tls_with_config(url, stream, None, Some(connector)).await;
        opened.map(|(stream, _)| Socket::on(stream))
    }

    async fn open(&self, node: &TestNode) -> Socket {
        let stream = TcpStream::connect(node.addresses.http).await.unwrap();
        self.try_open(node.addresses.http, stream).await.unwrap()
    }

    /// The certificate that a new connection is shown.
    async fn shown(&self, address: SocketAddr) -> CertificateDer<'static> {
        let stream = TcpStream::connect(address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(self.client_config()));
        let stream = connector.connect(address.ip().into(), stream).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

async fn publish(client: &reqwest::Client, node: &TestNode, bid: &str) -> reqwest::Response {
    let quote = json!({"symbol": "EURUSD", "bid": bid, "ask": "9.99"});
    let url = format!("https://{}/v1/quotes", node.addresses.http);
    client.post(url).bearer_auth(PUBLISHER).json(&quote).send().await.unwrap()
}

#[tokio::test]
async fn both_versions_of_http_serve_the_api() {
    let authority = Authority::new();
    let node = authority.node(&[]).await;
    for (client, version) in [
        (authority.client().build().unwrap(), reqwest::Version::HTTP_2),
        (authority.client().http1_only().build().unwrap(), reqwest::Version::HTTP_11),
    ] {
        let answer = publish(&client, &node, "1.10").await;
        assert_eq!((answer.status().as_u16(), answer.version()), (202, version));
    }
    node.end().await;
}

#[tokio::test]
async fn grpc_is_served() {
    let authority = Authority::new();
    let node = authority.node(&[]).await;
    let url = format!("https://{}/grpc.health.v1.Health/Check", node.addresses.grpc);
    let call = authority.client().build().unwrap().post(url);
    let answer = call.header("content-type", "application/grpc").header("te", "trailers").body(vec![0; 5]).send().await;
    let answer = answer.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
    // A frame of a message whose first field, the status, is 1: serving.
    assert_eq!(answer.bytes().await.unwrap().as_ref(), [0, 0, 0, 0, 2, 8, 1]);
    node.end().await;
}

/// A worker takes the connection over with its session: what came behind the request, and messages of many records.
#[tokio::test]
async fn a_socket_joins_gets_updates_and_echoes_large_messages() {
    let authority = Authority::new();
    let node = authority.node(&[]).await;
    let client = authority.client().build().unwrap();
    let mut socket = authority.open(&node).await;
    assert_eq!(socket.join("ticker:EURUSD", json!({})).await.0, "ok");
    publish(&client, &node, "1.10").await;
    assert_eq!(socket.next().await[4]["bid"], "1.10");
    let mut socket = authority.open(&node).await;
    assert_eq!(socket.join("room:1", json!({})).await.0, "ok");
    for size in [1, 16_384, 700_000, 16_385, 300_000] {
        let text = "x".repeat(size);
        socket.send(json!(["1", "2", "room:1", "ping", {"text": text}])).await;
        assert_eq!(socket.reply().await.1["text"].as_str().unwrap().len(), size);
    }
    node.end().await;
}

#[tokio::test]
async fn the_older_version_of_tls_carries_sockets_as_well() {
    let authority = Authority::new();
    let node = authority.node(&[]).await;
    let mut roots = RootCertStore::empty();
    roots.add(authority.root.clone()).unwrap();
    let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12]);
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(node.addresses.http).await.unwrap();
    let url = format!("wss://{}/socket/websocket?vsn=2.0.0", node.addresses.http);
    let connector = Connector::Rustls(Arc::new(config));
    let (stream, _) = client_async_tls_with_config(url, stream, None, Some(connector)).await.unwrap();
    let mut socket = Socket::on(stream);
    assert_eq!(socket.join("room:1", json!({})).await.0, "ok");
    let text = "x".repeat(100_000);
    socket.send(json!(["1", "2", "room:1", "ping", {"text": text}])).await;
    assert_eq!(socket.reply().await.1["text"].as_str().unwrap().len(), text.len());
    node.end().await;
}

/// A herd that comes back must not cost a signature for each of its clients.
#[tokio::test]
async fn a_client_that_comes_back_resumes_its_session() {
    let authority = Authority::new();
    let node = authority.node(&[]).await;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(authority.client_config()));
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let stream = TcpStream::connect(node.addresses.http).await.unwrap();
        let mut stream = connector.connect(node.addresses.http.ip().into(), stream).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        kinds.push(stream.get_ref().1.handshake_kind());
    }
    use rustls::HandshakeKind::{Full, Resumed};
    assert_eq!(kinds, [Some(Full), Some(Resumed)]);
    node.end().await;
}

#[tokio::test]
async fn many_sockets_get_every_update() {
    let authority = Authority::new();
    let node = authority.node(&[]).await;
    let client = authority.client().build().unwrap();
    let mut sockets = join_all((0..200).map(|_| authority.open(&node))).await;
    join_all(sockets.iter_mut().map(async |socket| {
        assert_eq!(socket.join("ticker:EURUSD", json!({})).await.0, "ok");
    }))
    .await;
    for bid in ["1.10", "1.11", "1.12"] {
        publish(&client, &node, bid).await;
        let update = async |socket: &mut Socket| loop {
            let message = socket.next().await;
            // A symbol of which nothing was known has a status to tell as well.
            if message[3] != "status" {
                return message;
            }
        };
        for update in join_all(sockets.iter_mut().map(update)).await {
            assert_eq!(update[4]["bid"], bid, "{update}");
        }
    }
    node.end().await;
}

/// What has been encrypted cannot be replaced: if too much of it could wait, a slow reader would get old prices, or be cut.
#[tokio::test]
async fn a_slow_reader_gets_newer_updates_in_place_of_all() {
    let authority = Authority::new();
    let node = authority.node(&[r#"feed=[{"kind":"simulated","rate":5000,"count":1}]"#]).await;
    let client = authority.client().build().unwrap();
    let mut symbol = None;
    eventually("there is a quote", async || {
        let url = format!("https://{}/v1/quotes", node.addresses.http);
        let answer: Value = client.get(url).send().await.unwrap().json().await.unwrap();
        symbol =
            answer.to_string().split("\"symbol\":\"").nth(1).map(|rest| rest.split('"').next().unwrap().to_owned());
        symbol.is_some()
    })
    .await;
    let topic = format!("ticker:{}", symbol.unwrap());
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    let stream = socket.connect(node.addresses.http).await.unwrap();
    let mut socket = authority.try_open(node.addresses.http, stream).await.unwrap();
    let (_, reply) = socket.join(&topic, json!({})).await;
    let mut seq = reply["seq"].as_u64().unwrap();
    let target = seq + 5_000;
    eventually("more is published than any buffer holds", async || {
        let url = format!("https://{}/v1/quotes/{}", node.addresses.http, topic.trim_start_matches("ticker:"));
        let answer: Value = client.get(url).send().await.unwrap().json().await.unwrap();
        answer["seq"].as_u64().unwrap() > target
    })
    .await;
    let (mut messages, begun) = (0, seq);
    while seq < target {
        let update = socket.next().await;
        if update[3] == "update" {
            let n = update[4].get("n").map_or(1, |n| n.as_u64().unwrap());
            assert_eq!(update[4]["seq"].as_u64().unwrap(), seq + n, "every gap is explained");
            (seq, messages) = (seq + n, messages + 1);
        }
    }
    assert!(messages < (seq - begun) / 2, "{messages} messages for {} updates", seq - begun);
    node.end().await;
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_open_ones_stay() {
    let authority = Authority::new();
    let first = authority.sign(2090);
    let node = authority.node(&[]).await;
    let mut socket = authority.open(&node).await;
    assert_eq!(socket.join("room:1", json!({})).await.0, "ok");
    assert_eq!(authority.shown(node.addresses.http).await, first);
    authority.write("nothing of use", "nothing either");
    eventually("the bad files are told of", async || {
        !node.metrics().await.contains("tickwire_tls_reloads_total{outcome=\"failed\"} 0\n")
    })
    .await;
    assert_eq!(authority.shown(node.addresses.http).await, first);
    let second = authority.sign(2091);
    eventually("the new certificate is served", async || authority.shown(node.addresses.http).await == second).await;
    assert_eq!(authority.shown(node.addresses.grpc).await, second);
    assert!(node.metrics().await.contains("tickwire_tls_certificate_expiry_timestamp_seconds 3818448000"));
    socket.send(json!(["1", "2", "room:1", "ping", {"still": "here"}])).await;
    assert_eq!(socket.reply().await.1["still"], "here");
    node.end().await;
}

#[tokio::test]
async fn a_drain_says_goodbye() {
    let authority = Authority::new();
    let node = authority.node(&[]).await;
    let mut socket = authority.open(&node).await;
    assert_eq!(socket.join("room:1", json!({})).await.0, "ok");
    node.stop.request();
    assert_eq!(socket.closed().await, (1012, "shutdown".to_owned()));
    tokio::time::timeout(PATIENCE, node.ended).await.unwrap().unwrap().unwrap();
}

async fn answer_to(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // A reset ends it as well.
    let _ = read.expect("the node ends the connection in time");
    answer
}

#[tokio::test]
async fn who_speaks_no_tls_is_told_so_and_who_dawdles_is_cut() {
    let authority = Authority::new();
    let node = authority.node(&["limits.header_timeout=1s"]).await;
    let address = node.addresses.http;
    let plain = answer_to(address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let plain = String::from_utf8(plain).unwrap();
    assert!(plain.starts_with("HTTP/1.1 400") && plain.contains("x-tickwire-reason: not_tls"), "{plain}");
    assert!(plain.contains("use https:// or wss://"), "{plain}");
    // A record that announces a handshake and breaks off, one of a size that there is not, and one that is garbage.
    for bytes in
        [&b"\x16"[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"\x16\x03\x01\xff\xff\x01", b"\x16garbage garbage"]
    {
        answer_to(address, bytes).await;
    }
    answer_to(address, b"").await;
    let metrics = node.metrics().await;
    for reason in ["not_tls", "tls_handshake", "header_timeout"] {
        assert!(metrics.contains(&format!("tickwire_refused_total{{reason=\"{reason}\"}}")), "{reason}");
    }
    let answer = publish(&authority.client().build().unwrap(), &node, "1.10").await;
    assert_eq!(answer.status(), 202, "the others are served on");
    node.end().await;
}

/// A session that breaks ends its own socket only, with whatever garbage it does so.
#[tokio::test]
async fn garbage_inside_a_session_ends_its_socket_only() {
    let authority = Authority::new();
    let node = authority.node(&[]).await;
    let mut healthy = authority.open(&node).await;
    assert_eq!(healthy.join("room:1", json!({})).await.0, "ok");
    let stream = TcpStream::connect(node.addresses.http).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(authority.client_config()));
    let mut session = connector.connect(node.addresses.http.ip().into(), stream).await.unwrap();
    let upgrade = "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    session.write_all(upgrade.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    session.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    let (mut stream, _) = session.into_inner();
    stream.write_all(&[23, 3, 3, 0, 40].into_iter().chain([7; 40]).collect::<Vec<_>>()).await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it is ended");
    healthy.send(json!(["1", "2", "room:1", "ping", {"a": 1}])).await;
    assert_eq!(healthy.reply().await.1["a"], 1);
    node.end().await;
}

#[tokio::test]
async fn tls_to_a_plain_port_ends_with_an_alert() {
    let authority = Authority::new();
    let node = TestNode::start(&[]).await;
    let stream = TcpStream::connect(node.addresses.http).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(authority.client_config()));
    let connecting = connector.connect(node.addresses.http.ip().into(), stream);
    let error = tokio::time::timeout(Duration::from_secs(5), connecting).await.unwrap().unwrap_err().to_string();
    assert!(error.contains("HandshakeFailure"), "{error}");
    assert!(node.metrics().await.contains(r#"tickwire_refused_total{reason="tls_unexpected"}"#));
    node.end().await;
}
