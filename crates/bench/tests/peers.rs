//! The bench against servers of others, where `deploy/install-peers` has installed them: what is published arrives once, in order, in time.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, says what it skips, and waits for a process that is not ours"
)]

use std::{
    env, fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tickwire_bench::{Load, Peer, Rate, Report, Target, run};

/// A server that ends with its test.
struct Server {
    child: Child,
    /// Its configuration.
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program of a server, if it is installed.
fn installed(name: &str) -> Option<PathBuf> {
    let target = env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    let path = target.join("peers").join(name);
    if !path.exists() {
        println!("skipped: {name}: it is not installed, deploy/install-peers does that");
        return None;
    }
    Some(path)
}

/// Ports that were free a moment ago.
fn ports<const N: usize>() -> [SocketAddr; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

fn start(mut command: Command, folder: tempfile::TempDir, listens: SocketAddr) -> Server {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let server = Server { child, _folder: folder };
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(listens).is_err() {
        assert!(Instant::now() < deadline, "{command:?} does not listen");
        thread::sleep(Duration::from_millis(20));
    }
    server
}

fn measure(server: &Server, peer: &str, load: &Load) -> Report {
    let peer: Peer = peer.parse().unwrap();
    let target = Target::peer(&peer).pid(Some(server.child.id()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(&target, load)).unwrap()
}

fn load(sockets: usize, storms: usize) -> Load {
    Load {
        scenario: "peer",
        sockets,
        symbols: 5,
        topics_per_socket: 2,
        rate: Rate::PerSecond(500),
        payload: 200,
        publishers: 1,
        batch: 256,
        readers: 1,
        storms,
        slow: None,
        warm_up: Duration::from_millis(100),
        duration: Duration::from_millis(500),
        cpu: None,
    }
}

/// 300 quotes of 5 symbols, each for two fifths of the sockets' joins.
fn arrived_whole(report: &Report, sockets: u64) {
    let (delivered, ingest) = (report.delivered.as_ref().unwrap(), report.ingest.as_ref().unwrap());
    assert!(report.clean(), "{report}");
    assert_eq!((ingest.sent, ingest.accepted), (300, 300), "{report}");
    assert_eq!(delivered.checks.deliveries, 300 * sockets * 2 / 5, "{report}");
    assert!(report.server.cpu_seconds.is_some(), "{report}");
}

#[test]
fn nats_delivers_what_is_published() {
    let Some(program) = installed("nats") else { return };
    let [socket, clients] = ports();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nats.conf");
    fs::write(&file, format!("listen: \"{clients}\"\nwebsocket {{ listen: \"{socket}\", no_tls: true }}\n")).unwrap();
    let mut command = Command::new(program);
    command.arg("-c").arg(&file);
    let server = start(command, folder, socket);
    let peer = format!("nats={socket},{clients}");
    arrived_whole(&measure(&server, &peer, &load(20, 0)), 20);
    let storm = measure(&server, &peer, &load(20, 2));
    arrived_whole(&storm, 20);
    assert_eq!(storm.storm.unwrap().seconds.len(), 2);
}

#[test]
fn centrifugo_delivers_what_is_published() {
    let Some(program) = installed("centrifugo") else { return };
    let [socket] = ports();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("centrifugo.json");
    let config = serde_json::json!({
        "http_server": {"address": "127.0.0.1", "port": socket.port()},
        "http_api": {"insecure": true},
        "client": {"insecure": true},
        "channel": {"without_namespace": {"allow_subscribe_for_client": true}},
        "usage_stats": {"disabled": true},
    });
    fs::write(&file, config.to_string()).unwrap();
    let mut command = Command::new(program);
    command.arg("-c").arg(&file);
    let server = start(command, folder, socket);
    arrived_whole(&measure(&server, &format!("centrifugo={socket}"), &load(20, 1)), 20);
}

#[test]
fn socket_io_delivers_what_is_published() {
    let Some(folder) = installed("socketio") else { return };
    let [socket] = ports();
    let mut command = Command::new("node");
    command.arg(folder.join("server.mjs")).arg(socket.port().to_string());
    let server = start(command, tempfile::tempdir().unwrap(), socket);
    arrived_whole(&measure(&server, &format!("socketio={socket}"), &load(20, 1)), 20);
}

#[test]
fn nobody_there_is_said_at_once() {
    let [socket, clients] = ports();
    let peer: Peer = format!("nats={socket},{clients}").parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(run(&Target::peer(&peer), &load(1, 0))).unwrap_err();
    assert!(error.to_string().contains(&socket.to_string()), "{error}");
}
