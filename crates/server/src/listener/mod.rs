//! Binding ports and serving their connections: one accept loop for HTTP, gRPC and administration.

mod bind;
mod door;
mod pulse;
mod refuse;
mod serve;

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use socket2::SockRef;
use tickwire_faults::{Unit, point};
use tokio::net::{TcpListener, TcpStream};

pub use self::bind::BindError;
pub(crate) use self::{
    bind::{address_of, bind},
    door::{Connection, Door, Permit, SocketPermit},
    serve::into_transport,
};
use crate::{
    admission::Via,
    lifecycle::Tasks,
    metrics::{self, Counted},
    telemetry::Throttle,
    tls::Tls,
};

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
    /// The certificate, where the port speaks TLS.
    pub(crate) tls: Option<Arc<Tls>>,
    /// How long a client may take for the head of a request, and for the handshake of TLS before it.
    pub(crate) header_timeout: Duration,
    /// How long a connection may wait for its next request.
    pub(crate) keep_alive_timeout: Duration,
    /// Whether only HTTP/2 is spoken, as gRPC does.
    pub(crate) http2_only: bool,
}

/// Accepts connections until the branch is cancelled; those that are open then finish the request they are at.
pub(crate) async fn serve(port: Arc<Port>, tasks: Tasks) {
    let server = Arc::new(serve::Server::new(&port, &tasks));
    loop {
        let accepted = tokio::select! {
            accepted = port.listener.accept() => accepted,
            () = tasks.cancelled().cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                accept_failed(port.name, &error).await;
                continue;
            }
        };
        point(Unit::Accept, || port.name);
        set_options(&stream);
        let connection = match &port.door {
            None => Connection { peer, via: Via::Direct, permit: None, address: None },
            Some(door) => match door.connect(peer, Instant::now()) {
                Ok(connection) => connection,
                Err(refused) => {
                    refuse::connection(&port, door, stream, peer, refused, &tasks);
                    continue;
                }
            },
        };
        let (server, counted) = (Arc::clone(&server), Counted::new(metrics::OPEN, "port", port.name));
        tasks.spawn("connection", async move {
            let _counted = counted;
            server.serve(stream, connection).await;
        });
        if let Some(door) = &port.door {
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
