//! One connection, from its first byte to its last request.

use std::{fmt, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use futures_util::future::{Either, poll_immediate, ready};
use hyper::{Request, Version, body::Incoming, service::service_fn, upgrade::Upgraded};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::{self, upgrade::downcast},
};
use parking_lot::Mutex;
use rustls::server::Acceptor;
use tickwire_channels::Transport;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::Instant,
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tower::Service as _;

use super::{
    Connection, Door, Port,
    pulse::{Answered, Cut, Patience, Pulse, Watched},
    refuse,
    replay::Replay,
};
use crate::{
    lifecycle::Tasks,
    metrics,
    tls::{Alpn, Tls},
};

/// What serves the connections of a port.
pub(super) struct Server {
    name: &'static str,
    router: Router,
    door: Option<Arc<Door>>,
    tls: Option<Arc<Tls>>,
    patience: Patience,
    grpc: bool,
    builder: auto::Builder<Tasks>,
    tasks: Tasks,
}

/// The first byte of a TLS connection, a handshake record (RFC 8446, section 5.1), with which no HTTP begins.
const HANDSHAKE: u8 = 22;

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Server {
    pub(super) fn new(port: &Port, tasks: &Tasks) -> Self {
        /// How long a client may take nothing of an answer: as long as a socket may.
        const STUCK: Duration = Duration::from_secs(30);
        Self {
            name: port.name,
            router: port.router.clone(),
            door: port.door.clone(),
            tls: port.tls.clone(),
            patience: Patience { head: port.header_timeout, idle: port.keep_alive_timeout, stuck: STUCK },
            grpc: port.http2_only,
            builder: builder(tasks, port.http2_only),
            tasks: tasks.clone(),
        }
    }

    /// Serves a connection to its end, from which nothing has been read yet.
    pub(super) async fn serve(&self, stream: TcpStream, connection: Connection, started: Instant) {
        let peer = connection.peer;
        let greeted = tokio::time::timeout_at(started + self.patience.head, first_byte(&stream));
        let first = tokio::select! {
            first = greeted => first,
            () = self.tasks.cancelled().cancelled() => return,
        };
        let answered = match (first, &self.tls) {
            (Err(_), _) => return self.cut(Cut::Head, peer),
            // It left without a word, as probes of load balancers do.
            (Ok(None), _) => return,
            (Ok(Some(HANDSHAKE)), Some(tls)) => {
                return Box::pin(self.shake_hands(tls, stream, connection, started)).await;
            }
            (Ok(Some(_)), Some(_)) => self.in_time(refuse::plain_on_tls(stream, self.name, peer)).await,
            (Ok(Some(first)), None) => {
                let stream = Replay::new(Bytes::new(), stream);
                return Box::pin(self.serve_plain(first, stream, connection, started, None)).await;
            }
        };
        if let Some(Err(error)) = answered {
            tracing::debug!(%peer, %error, "a client did not wait for its refusal");
        }
    }

    /// Serves a connection without TLS to its end, which begins with this byte. The answer to its first request may be there already.
    pub(super) async fn serve_plain(
        &self,
        first: u8,
        stream: Replay,
        connection: Connection,
        started: Instant,
        answer: Option<Response>,
    ) {
        let peer = connection.peer;
        if first != HANDSHAKE {
            return Box::pin(self.serve_http(stream, connection, Pulse::new(started), answer)).await;
        }
        if let Some(Err(error)) = self.in_time(refuse::tls_on_plain(stream, self.name, peer)).await {
            tracing::debug!(%peer, %error, "a client did not wait for its refusal");
        }
    }

    /// How long a client may take for the head of its first request.
    pub(super) fn patience(&self) -> Duration {
        self.patience.head
    }

    /// Counts a connection that has taken too long, and tells of it.
    pub(super) fn cut(&self, cut: Cut, peer: SocketAddr) {
        match cut {
            Cut::Head => refuse::log(cut.code(), self.name, peer, "no head of a request came in limits.header_timeout"),
            Cut::Stuck => refuse::log(cut.code(), self.name, peer, "nothing of an answer was taken for too long"),
            // That is how most connections end that last.
            Cut::Idle => metrics::refused(cut.code()),
        }
    }

    async fn in_time<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        const PATIENCE: Duration = Duration::from_secs(1);
        tokio::time::timeout(PATIENCE, answer).await.ok()
    }

    async fn shake_hands(&self, tls: &Tls, stream: TcpStream, connection: Connection, started: Instant) {
        let alpn = if self.grpc { Alpn::Grpc } else { Alpn::Http };
        let shaken = tokio::select! {
            shaken = handshake(stream, tls.config(alpn), started, self.patience.head) => shaken,
            () = self.tasks.cancelled().cancelled() => return,
        };
        match shaken {
            Ok(stream) => Box::pin(self.serve_http(stream, connection, Pulse::new(Instant::now()), None)).await,
            Err(why) => refuse::log("tls_handshake", self.name, connection.peer, &why),
        }
    }

    /// Serves requests. The pulse tells when the client takes too long for what it is at.
    async fn serve_http<T>(&self, stream: T, connection: Connection, pulse: Pulse, first_answer: Option<Response>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = connection.peer;
        let first_answer = Mutex::new(first_answer);
        let service = service_fn(|request: Request<Incoming>| {
            let multiplexed = request.version() >= Version::HTTP_2;
            let under_way = pulse.request(multiplexed);
            let answer = match first_answer.lock().take() {
                Some(answer) => Either::Left(ready(Ok((answer, connection.clone())))),
                None => Either::Right(self.answer(&connection, request)),
            };
            let ending = self.tasks.cancelled().clone();
            async move {
                let (mut response, connection) = answer.await?;
                if ending.is_cancelled() && !multiplexed {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, std::convert::Infallible>(response.map(|body| Answered::body(body, under_way, connection)))
            }
        });
        let stream = TokioIo::new(Watched::new(stream, pulse.clone()));
        let mut served = pin!(self.builder.serve_connection_with_upgrades(stream, service));
        let mut look = tokio::time::interval(self.patience.head.min(self.patience.idle) / 4);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut finish = pin!(self.finish(&pulse));
        let mut finishing = false;
        let ended = loop {
            tokio::select! {
                // What has come is read before it is asked whether it came in time: a node that is behind must not blame its clients.
                biased;
                ended = served.as_mut() => break ended,
                // What is cut has taken its time: dropping the connection is all that is left to do.
                now = look.tick() => if let Some(cut) = pulse.verdict(self.patience, now) {
                    return self.cut(cut, peer);
                },
                // The request at hand is finished, no further one is taken.
                () = finish.as_mut(), if !finishing => {
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

    /// Waits until the connection is to end. HTTP/2 has a frame that says so. Over HTTP/1.1 only an answer can: a client that publishes
    /// again and again gets one more, with `Connection: close`, rather than to find its connection gone with a request on the way.
    async fn finish(&self, pulse: &Pulse) {
        const ONE_MORE_REQUEST: Duration = Duration::from_secs(1);
        self.tasks.cancelled().cancelled().await;
        // Administration has no door; it ends last, and nobody publishes there.
        if self.door.is_some() && !pulse.is_multiplexed() {
            tokio::time::sleep(ONE_MORE_REQUEST).await;
        }
    }

    /// Answers a request; what is returned with the answer is held until that has been taken.
    fn answer(
        &self,
        connection: &Connection,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Result<(Response, Connection), std::convert::Infallible>> + Send + 'static {
        let known = match &self.door {
            Some(door) => door.request(connection, request.headers()),
            None => Ok(connection.clone()),
        };
        let (mut router, grpc, own) = (self.router.clone(), self.grpc, connection.clone());
        async move {
            match known {
                Ok(connection) => {
                    request.extensions_mut().insert(connection.clone());
                    Ok((router.call(request.map(Body::new)).await?, connection))
                }
                Err((peer, refused)) => Ok((refuse::request(peer, refused, grpc), own)),
            }
        }
    }
}

/// Shakes hands. A client has `patience` for its first message, from `started` on, and again for its part after our answer: what the
/// signature takes, and waits for when a herd comes, is our time and not the client's.
async fn handshake(
    stream: TcpStream,
    config: Arc<rustls::ServerConfig>,
    started: Instant,
    patience: Duration,
) -> Result<TlsStream<TcpStream>, String> {
    let failed = |error: std::io::Error| format!("the TLS handshake failed: {error}");
    let late = |_| format!("no TLS handshake in {patience:?}, see limits.header_timeout");
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
    let hello = tokio::time::timeout_at(started + patience, hello).await.map_err(late)?.map_err(failed)?;
    let mut rest = pin!(hello.into_stream(config));
    // The signature is made here, at once.
    match poll_immediate(rest.as_mut()).await {
        Some(shaken) => shaken.map_err(failed),
        None => tokio::time::timeout(patience, rest).await.map_err(late)?.map_err(failed),
    }
}

/// The first byte that a client sends, which stays to be read; `None` if it sends none.
async fn first_byte(stream: &TcpStream) -> Option<u8> {
    let mut first = [0];
    let peeked = stream.peek(&mut first).await;
    matches!(peeked, Ok(1)).then_some(first[0])
}

fn builder(tasks: &Tasks, http2_only: bool) -> auto::Builder<Tasks> {
    const KEEP_ALIVE: Duration = Duration::from_secs(20);
    /// Requests that one connection may have under way.
    const STREAMS_MAX: u32 = 100;
    /// Streams that a client has opened and reset before we came to look: with more of them the connection ends (CVE-2023-44487).
    const RESETS_MAX: usize = 20;
    /// Streams that ended because a frame came that had no place any more. That is how a call ends that is refused before its message is
    /// there, and they are counted for as long as the connection lives: a proxy carries the calls of many clients over one for days.
    const LATE_FRAMES_MAX: usize = 1_000_000;
    /// Bytes of an answer that wait for a stream's client; with the streams this bounds what a connection can make us hold.
    const SEND_BUFFER: usize = 64 * 1024;
    let mut builder = auto::Builder::new(tasks.clone());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(64 * 1024).half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(LATE_FRAMES_MAX)
        .max_send_buf_size(SEND_BUFFER)
        // CONTINUATION frames beyond it end the connection as well (CVE-2024-27316).
        .max_header_list_size(16 * 1024);
    if http2_only { builder.http2_only() } else { builder }
}

/// Takes the bare connection out of the HTTP server's hands: what carries its bytes, and those that were read already. `None`: it is none
/// of our listeners'.
pub(crate) fn into_transport(upgraded: Upgraded) -> Option<std::io::Result<(Transport, Bytes)>> {
    // Only this much is kept of hyper's buffer: it has 8 KiB, and most sockets have sent nothing yet.
    let kept = |read: Bytes| Bytes::copy_from_slice(&read);
    let upgraded = match downcast::<TokioIo<Watched<Replay>>>(upgraded) {
        Ok(parts) => {
            let (unread, stream) = parts.io.into_inner().into_inner().into_parts();
            let read = if unread.is_empty() { kept(parts.read_buf) } else { [parts.read_buf, unread].concat().into() };
            return Some(stream.into_std().map(|stream| (Transport::Tcp(stream), read)));
        }
        Err(upgraded) => upgraded,
    };
    let parts = downcast::<TokioIo<Watched<TlsStream<TcpStream>>>>(upgraded).ok()?;
    let (stream, session) = parts.io.into_inner().into_inner().into_inner();
    Some(stream.into_std().map(|stream| (Transport::Tls(stream, Box::new(session)), kept(parts.read_buf))))
}
