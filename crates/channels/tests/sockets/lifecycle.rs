//! Ends that the server decides on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tickwire_channels::{
    AdoptError, CloseCode, CloseReason, Endpoint, MountLimits, SocketInfo, WireFormat, WorkersConfig,
};

use crate::support::Server;

#[test]
fn draining_closes_all_sockets_and_takes_no_more() {
    let server = Server::start();
    let mut clients: Vec<_> = (0..20).map(|_| server.v2()).collect();
    for client in &mut clients[..10] {
        client.join("room:a", "{}");
    }
    let started = Instant::now();
    let drained = server.runtime.spawn({
        let workers = server.workers.clone();
        async move { workers.drain(Duration::from_millis(300)).await }
    });
    for mut client in clients {
        client.expect_close(1012, "shutdown");
    }
    server.runtime.block_on(drained).unwrap();
    assert!(started.elapsed() >= Duration::from_millis(150), "they are spread");
    assert_eq!((server.workers.connections(), server.workers.joins()), (0, 0));
    assert_eq!(server.left.load(Ordering::Relaxed), 10);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let info = SocketInfo::new(listener.local_addr().unwrap(), WireFormat::V2, Arc::default());
    assert_eq!(server.workers.adopt(stream, Arc::new(info), Bytes::new()), Err(AdoptError::Draining));
    // Its upgrade was answered when the draining began: it is told why it ends.
    let mut told = Vec::new();
    std::io::Read::read_to_end(&mut listener.accept().unwrap().0, &mut told).unwrap();
    assert_eq!(told, tickwire_channels::websocket::close_frame(CloseCode::ServiceRestart, "shutdown"));
}

#[test]
fn sockets_are_disconnected_by_what_is_known_of_them() {
    let endpoint = Endpoint::new("/socket").connect(|info, _| {
        let id = info.params.get("id").map(str::to_owned);
        (id.as_deref() != Some("nobody")).then_some(SocketInfo { id, ..info })
    });
    let server = Server::with_endpoint(WorkersConfig { workers: 2, ..WorkersConfig::default() }, endpoint);
    let connect = |id: &str| crate::support::Client::connect(server.address, &format!("vsn=2.0.0&id={id}"));
    let (mut first, mut second, mut other) = (connect("x"), connect("x"), connect("y"));
    first.join("room:a", "{}");
    server.workers.close_where(|info| info.id.as_deref() == Some("x"), CloseReason::Disconnected);
    first.expect_close(1001, "disconnected");
    second.expect_close(1001, "disconnected");
    other.expect_nothing();
    let mut refused = crate::support::Client::request(server.address, "GET /socket/websocket?id=nobody HTTP/1.1", "");
    assert!(refused.head().starts_with("HTTP/1.1 403 "));
}

#[test]
fn a_socket_ends_with_its_token() {
    let endpoint = Endpoint::new("/socket").connect(|info, _| {
        let expires_at = Some(Instant::now() + Duration::from_millis(100));
        Some(SocketInfo { expires_at, ..info })
    });
    let server = Server::with_endpoint(WorkersConfig { workers: 1, ..WorkersConfig::default() }, endpoint);
    let mut client = server.v2();
    client.join("room:a", "{}");
    client.expect_close(1001, "token_expired");
}

#[test]
fn workers_share_the_sockets_and_end_when_told() {
    let started = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&started);
    let config = WorkersConfig {
        workers: 3,
        on_thread_start: Some(Arc::new(move |_| {
            counting.fetch_add(1, Ordering::Relaxed);
        })),
        ..WorkersConfig::default()
    };
    let server = Server::with(config, MountLimits::default());
    let mut clients: Vec<_> = (0..9).map(|_| server.v2()).collect();
    for client in &mut clients {
        client.join("room:a", "{}");
    }
    // Everyone hears everyone, whichever worker they are with.
    for client in &mut clients {
        client.send(r#"["j",null,"room:a","shout",{}]"#);
    }
    for client in &mut clients {
        client.expect(&[r#"[null,null,"room:a","shout",{}]"#; 9]);
    }
    assert_eq!(started.load(Ordering::Relaxed), 3);
    server.workers.shutdown();
    for client in &mut clients {
        assert_eq!(client.next(), None);
    }
    assert_eq!((server.workers.connections(), server.left.load(Ordering::Relaxed)), (0, 9));
}
