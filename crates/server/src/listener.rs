//! Binding ports and serving their connections: one accept loop for HTTP, gRPC and administration.

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
};
use tower::Service as _;

use crate::{
    lifecycle::Tasks,
    metrics::{self, Counted},
    telemetry::Throttle,
};

/// A port could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("{key}: cannot listen on {address}: {cause}; {cure}")]
pub struct BindError {
    key: &'static str,
    address: SocketAddr,
    cause: io::Error,
    cure: &'static str,
}

/// Binds an address of the configuration.
pub(crate) fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    /// Connections that wait to be accepted while a herd comes back; the system may allow fewer.
    const BACKLOG: u32 = 4096;
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart must not wait for the connections of the process before it to time out.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|cause| BindError { key, address, cure: cure_for(&cause), cause })
}

/// The address that a listener has, with the port that the system chose where none was asked for.
pub(crate) fn address_of(
    key: &'static str,
    asked: SocketAddr,
    listener: &TcpListener,
) -> Result<SocketAddr, BindError> {
    listener.local_addr().map_err(|cause| BindError { key, address: asked, cure: cure_for(&cause), cause })
}

fn cure_for(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => "another process has it: stop that one or choose another port, 0 for any free one",
        io::ErrorKind::PermissionDenied => "choose a port from 1024 on, or allow the process to bind low ports",
        io::ErrorKind::AddrNotAvailable => "choose an address of this machine, or 0.0.0.0 for all of them",
        _ => "choose another address",
    }
}

/// The door that all public ports share: how many connections there may be, and how many may come in a second.
#[derive(Debug)]
pub(crate) struct Door {
    open: Arc<AtomicUsize>,
    open_max: usize,
    interval: Duration,
    /// When the next connection is due, if all that were due have come.
    next: parking_lot::Mutex<Instant>,
    /// Only so many refusals are explained at a time; the others are just closed.
    explanations: Arc<Semaphore>,
    refused: Throttle,
    /// Event streams and subscriptions: as many as connections, since one connection may carry many of them.
    streams: Arc<AtomicUsize>,
}

/// A place among the connections; dropping it makes room for another one.
#[derive(Debug)]
pub(crate) struct Permit(Arc<AtomicUsize>);

impl Door {
    /// A door for `open_max` connections and `per_second` new ones in a second.
    pub(crate) fn new(open_max: usize, per_second: u32) -> Self {
        Self {
            open: Arc::default(),
            open_max,
            interval: Duration::from_secs(1) / per_second.max(1),
            next: parking_lot::Mutex::new(Instant::now()),
            explanations: Arc::new(Semaphore::new(64)),
            refused: Throttle::new(Duration::from_secs(1)),
            streams: Arc::default(),
        }
    }

    /// How many connections there may be.
    pub(crate) fn open_max(&self) -> usize {
        self.open_max
    }

    /// How many there are.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Takes a place among the connections.
    fn enter(&self) -> Option<Permit> {
        self.place(&self.open)
    }

    /// Takes a place among the event streams and subscriptions.
    pub(crate) fn enter_stream(&self) -> Option<Permit> {
        self.place(&self.streams)
    }

    fn place(&self, taken: &Arc<AtomicUsize>) -> Option<Permit> {
        let more = |places| (places < self.open_max).then_some(places + 1);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok().then(|| Permit(Arc::clone(taken)))
    }

    /// How long the next connection has to wait so that a herd comes in at the rate we can greet it. Up to a tenth of a second's worth
    /// comes in at once; the rest waits in the system's queue, which costs nobody anything.
    fn pace(&self, now: Instant) -> Duration {
        const BURST: Duration = Duration::from_millis(100);
        let mut next = self.next.lock();
        let due = (*next).max(now.checked_sub(BURST).unwrap_or(now)) + self.interval;
        *next = due;
        due.saturating_duration_since(now)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a request knows of its connection.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    /// The client's address.
    pub(crate) peer: SocketAddr,
    /// The connection's place, which an upgraded socket takes along.
    pub(crate) permit: Option<Arc<Permit>>,
}

/// One port: its listener and what is behind it.
#[derive(Debug)]
pub(crate) struct Port {
    /// `http`, `grpc` or `admin`: the label of its metrics.
    pub(crate) name: &'static str,
    /// Where connections come in.
    pub(crate) listener: TcpListener,
    /// What answers them.
    pub(crate) router: Router,
    /// Who may come in; administration is never turned away.
    pub(crate) door: Option<Arc<Door>>,
    /// How long a client may take for the head of a request.
    pub(crate) header_timeout: Duration,
    /// Whether only HTTP/2 is spoken, as gRPC does.
    pub(crate) http2_only: bool,
}

/// Accepts connections until the branch is cancelled; those that are open then finish the request they are at.
pub(crate) async fn serve(port: Arc<Port>, tasks: Tasks) {
    let &Port { name, ref listener, ref router, ref door, header_timeout, http2_only } = &*port;
    let builder = connection_builder(&tasks, header_timeout, http2_only);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = tasks.cancelled().cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                accept_failed(name, &error).await;
                continue;
            }
        };
        set_options(&stream);
        let permit = match door {
            None => None,
            Some(door) => match door.enter() {
                Some(permit) => Some(Arc::new(permit)),
                None => {
                    refuse(door, stream, peer, &tasks);
                    continue;
                }
            },
        };
        let connection = Connection { peer, permit };
        let serving =
            serve_connection(stream, connection, router.clone(), builder.clone(), header_timeout, tasks.clone());
        let counted = Counted::new(metrics::OPEN, "port", name);
        tasks.spawn("connection", async move {
            let _counted = counted;
            serving.await;
        });
        if let Some(door) = door {
            let wait = door.pace(Instant::now());
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
    }
}

fn set_options(stream: &TcpStream) {
    /// A client that acknowledges nothing for so long, or has no room for a byte, is gone for all we know: every write has a deadline.
    const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(60);
    /// Bytes that the kernel may hold unsent. Its own choice is megabytes, behind which a slow client would read minutes of old prices;
    /// what it does not take yet stays with us, where a newer update replaces it.
    const UNSENT_MAX: u32 = 64 * 1024;
    // What we write is written whole; waiting for more would only make it late. All of these fail only for a connection that is gone already.
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX));
    let _ = socket.set_tcp_notsent_lowat(UNSENT_MAX);
}

fn connection_builder(tasks: &Tasks, header_timeout: Duration, http2_only: bool) -> auto::Builder<Tasks> {
    const KEEP_ALIVE: Duration = Duration::from_secs(20);
    /// Requests that one connection may have under way.
    const STREAMS_MAX: u32 = 100;
    let mut builder = auto::Builder::new(tasks.clone());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(64 * 1024)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(16 * 1024);
    if http2_only { builder.http2_only() } else { builder }
}

/// Serves one connection. It must send the head of a first request in time, in whatever protocol; later heads are timed by hyper.
async fn serve_connection(
    stream: TcpStream,
    connection: Connection,
    router: Router,
    builder: auto::Builder<Tasks>,
    header_timeout: Duration,
    tasks: Tasks,
) {
    let spoke = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let spoke = Arc::clone(&spoke);
        move |mut request: Request<Incoming>| {
            spoke.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(connection.clone());
            router.clone().call(request.map(Body::new))
        }
    });
    let mut served = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let mut silence = pin!(tokio::time::sleep(header_timeout));
    let (mut timed, mut finishing) = (true, false);
    let ended = loop {
        tokio::select! {
            ended = served.as_mut() => break ended,
            () = silence.as_mut(), if timed => {
                timed = false;
                if !spoke.load(Ordering::Relaxed) {
                    metrics::refused("header_timeout");
                    served.as_mut().graceful_shutdown();
                }
            }
            // The request at hand is finished, no further one is taken.
            () = tasks.cancelled().cancelled(), if !finishing => {
                finishing = true;
                served.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = ended {
        // A client that hangs up is not an error of ours.
        tracing::debug!(%error, "connection ended");
    }
}

/// The process is out of file descriptors, or a client was gone before we came: neither may end the loop, the first must not spin it.
async fn accept_failed(port: &'static str, error: &io::Error) {
    static FAILED: Throttle = Throttle::new(Duration::from_secs(1));
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        return;
    }
    metrics::refused("accept_error");
    if let Some(held_back) = FAILED.pass(Instant::now()) {
        tracing::error!(port, %error, held_back, "cannot accept connections; is the limit of open files too low?");
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// Tells a client in HTTP why it cannot come in, if not too many are being told at the moment.
fn refuse(door: &Door, stream: TcpStream, peer: SocketAddr, tasks: &Tasks) {
    metrics::refused("connections");
    if let Some(held_back) = door.refused.pass(Instant::now()) {
        let limit = door.open_max;
        tracing::warn!(%peer, limit, held_back, "connection refused, there are as many as limits.connections allows");
    }
    if let Ok(permit) = Arc::clone(&door.explanations).try_acquire_owned() {
        tasks.spawn("refusal", async move {
            let _permit = permit;
            let _ = tokio::time::timeout(Duration::from_secs(1), explain(stream)).await;
        });
    }
}

async fn explain(mut stream: TcpStream) -> io::Result<()> {
    const BODY: &str = r#"{"type":"urn:tickwire:problem:too_many_connections","title":"Too many connections","status":503,"code":"too_many_connections","detail":"The node has as many connections as limits.connections allows. Try again later or at another node."}"#;
    // Closing a connection with unread bytes resets it, and the answer with it: read the request first.
    let mut head = [0; 2048];
    let _ = stream.read(&mut head).await?;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_has_as_many_places_as_it_says_and_gives_them_back() {
        let door = Door::new(2, 100);
        let (first, second) = (door.enter(), door.enter());
        assert!(first.is_some() && second.is_some() && door.enter().is_none());
        drop(first);
        assert!(door.enter().is_some());
        assert_eq!((door.open(), door.open_max()), (1, 2));
    }

    #[test]
    fn a_herd_is_paced_after_its_first_burst() {
        let door = Door::new(1_000, 100);
        let now = Instant::now() + Duration::from_secs(10);
        let waits: Vec<_> = (0..30).map(|_| door.pace(now)).collect();
        assert!(waits[..10].iter().all(Duration::is_zero), "a tenth of a second's worth comes in at once");
        assert_eq!(waits[29], Duration::from_millis(200));
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_key_and_cure() {
        let first = bind("listen.http", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind("listen.http", address).unwrap_err().to_string();
        assert!(error.starts_with(&format!("listen.http: cannot listen on {address}")), "{error}");
        assert!(error.contains("another process has it"), "{error}");
    }
}
