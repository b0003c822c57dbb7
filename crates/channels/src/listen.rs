//! Sockets without an HTTP framework: accepts connections, answers their upgrade requests and hands them to the workers.
//!
//! For programs that serve nothing but sockets. One that has an HTTP server lets that do the upgrade, by [`handshake::check`], and
//! calls [`Workers::adopt`] itself.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    handshake::{self, AuthToken, Origins, Policy, Protocols, Upgrade, UpgradeRequest},
    socket::{MountLimits, SocketInfo},
    worker::Workers,
};

/// The longest request head, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The most headers of a request.
const HEADERS_MAX: usize = 64;
/// How long a client may take for its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How many requests are read at the same time; further connections wait in the kernel's queue.
const HANDSHAKES_MAX: usize = 1_024;

/// Decides on a connection and says what its channels may know of it. `None` refuses it, 403.
type Connect = Arc<dyn Fn(SocketInfo, Option<AuthToken>) -> Option<SocketInfo> + Send + Sync>;

/// Where sockets connect to, and which may.
#[derive(Clone)]
pub struct Endpoint {
    path: String,
    policy: Policy,
    limits: Arc<MountLimits>,
    connect: Connect,
}

impl Endpoint {
    /// Takes WebSockets at `path/websocket`, from pages of its own host, all of them.
    #[must_use]
    pub fn new(path: &str) -> Self {
        let path = format!("{}/websocket", path.trim_end_matches('/'));
        Self { path, policy: Policy::default(), limits: Arc::default(), connect: Arc::new(|info, _| Some(info)) }
    }

    /// From which pages sockets are taken.
    #[must_use]
    pub fn origins(mut self, origins: Origins) -> Self {
        self.policy.origins = origins;
        self
    }

    /// Which subprotocols it takes, and whether a token may come as one.
    #[must_use]
    pub fn protocols(mut self, protocols: Protocols) -> Self {
        self.policy.protocols = protocols;
        self
    }

    /// Whether messages are compressed for clients that offer it (permessage-deflate).
    #[must_use]
    pub fn compress(mut self, compress: bool) -> Self {
        self.policy.compress = compress;
        self
    }

    /// The bounds of its sockets.
    #[must_use]
    pub fn limits(mut self, limits: MountLimits) -> Self {
        self.limits = Arc::new(limits);
        self
    }

    /// Lets `connect` decide on each connection, by what is known of it and the token that came as its subprotocol. It must not block.
    #[must_use]
    pub fn connect(
        mut self,
        connect: impl Fn(SocketInfo, Option<AuthToken>) -> Option<SocketInfo> + Send + Sync + 'static,
    ) -> Self {
        self.connect = Arc::new(connect);
        self
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("path", &self.path).field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// Why a request is answered with something else than 101. The answer itself has no body; the reason is for the log.
struct Rejected {
    status: &'static str,
    reason: String,
    /// Where the request ends, if another one may follow it.
    next: Option<usize>,
}

impl Rejected {
    fn new(status: &'static str, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), next: None }
    }
}

/// Accepts connections for as long as it is polled. Dropping it stops that; the sockets stay with the workers.
pub async fn listen(listener: TcpListener, endpoint: Endpoint, workers: Workers) {
    let endpoint = Arc::new(endpoint);
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if handshakes.len() < HANDSHAKES_MAX => match accepted {
                Ok((stream, peer)) => {
                    let (endpoint, workers) = (Arc::clone(&endpoint), workers.clone());
                    handshakes.spawn(async move {
                        let served = tokio::time::timeout(REQUEST_TIMEOUT, serve(stream, peer, &endpoint, &workers)).await;
                        if let Ok(Err(error)) = served {
                            tracing::debug!(%peer, %error, "a connection ended before its upgrade");
                        }
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: some will be given back.
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = handshakes.join_next() => {}
        }
    }
}

async fn serve(mut stream: TcpStream, peer: SocketAddr, endpoint: &Endpoint, workers: &Workers) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let answer = loop {
            match answer(&bytes, peer, endpoint) {
                Some(answer) => break answer,
                None if stream.read_buf(&mut bytes).await? == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                None => {}
            }
        };
        let Rejected { status, reason, next } = match answer {
            Ok(accepted) => return accepted.upgrade(stream, &bytes, workers).await,
            Err(rejected) => rejected,
        };
        tracing::debug!(%peer, status, reason, "a request is not upgraded");
        let connection = if next.is_some() { "keep-alive" } else { "close" };
        let answer = format!("HTTP/1.1 {status}\r\nconnection: {connection}\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
        match next {
            Some(next) => drop(bytes.drain(..next)),
            None => return stream.shutdown().await,
        }
    }
}

struct Accepted {
    accept: String,
    protocol: Option<String>,
    info: SocketInfo,
    /// Where the request ends and the client's first frames begin.
    head_len: usize,
}

impl Accepted {
    async fn upgrade(self, mut stream: TcpStream, bytes: &[u8], workers: &Workers) -> io::Result<()> {
        let protocol = self.protocol.map_or(String::new(), |name| format!("sec-websocket-protocol: {name}\r\n"));
        let extension = self.info.deflate.map(|deflate| format!("sec-websocket-extensions: {}\r\n", deflate.answer()));
        let extension = extension.unwrap_or_default();
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {}\r\n{protocol}{extension}\r\n",
            self.accept
        );
        stream.write_all(head.as_bytes()).await?;
        let leftover = Bytes::copy_from_slice(&bytes[self.head_len..]);
        workers.adopt(stream.into_std()?, Arc::new(self.info), leftover).map_err(io::Error::other)
    }
}

/// The answer to a request; `None` while it is incomplete.
fn answer(bytes: &[u8], peer: SocketAddr, endpoint: &Endpoint) -> Option<Result<Accepted, Rejected>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head_len = match request.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return None,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Some(Err(Rejected::new("431 Request Header Fields Too Large", "the request's head is too long")));
        }
        Err(error) => return Some(Err(Rejected::new("400 Bad Request", error.to_string()))),
    };
    Some(match decide(&request, peer, endpoint) {
        Ok((accept, protocol, info)) => Ok(Accepted { accept, protocol, info, head_len }),
        // A refused client may ask again on the same connection. Where there is a body, we would have to know its end.
        Err(refused) => Err(Rejected { next: (!has_body(&request)).then_some(head_len), ..refused }),
    })
}

fn has_body(request: &httparse::Request<'_, '_>) -> bool {
    let names = ["content-length", "transfer-encoding"];
    request.headers.iter().any(|header| names.iter().any(|name| header.name.eq_ignore_ascii_case(name)))
}

fn decide(
    request: &httparse::Request<'_, '_>,
    peer: SocketAddr,
    endpoint: &Endpoint,
) -> Result<(String, Option<String>, SocketInfo), Rejected> {
    let target = request.path.unwrap_or_default();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    if path.strip_suffix('/').unwrap_or(path) != endpoint.path {
        return Err(Rejected::new("404 Not Found", format!("sockets connect to {}", endpoint.path)));
    }
    let headers: Vec<(&str, &[u8])> = request.headers.iter().map(|header| (header.name, header.value)).collect();
    let upgrade = UpgradeRequest { method: request.method.unwrap_or_default(), query, headers: &headers };
    let upgrade = handshake::check(&upgrade, &endpoint.policy).map_err(|refusal| {
        let status = if refusal.status() == 403 { "403 Forbidden" } else { "400 Bad Request" };
        Rejected::new(status, refusal.to_string())
    })?;
    let Upgrade { accept, format, params, protocol, auth_token, deflate } = upgrade;
    let info = SocketInfo { params, deflate, ..SocketInfo::new(peer, format, Arc::clone(&endpoint.limits)) };
    let info = (endpoint.connect)(info, auth_token)
        .ok_or_else(|| Rejected::new("403 Forbidden", "the connection is refused"))?;
    Ok((accept, protocol, info))
}
