//! Binding ports and serving their connections: one accept loop for HTTP, gRPC and administration.

mod bind;
mod door;
mod doorstep;
mod greet;
mod pulse;
mod refuse;
mod replay;
mod serve;

use std::{net::TcpListener, sync::Arc, time::Duration};

use axum::Router;

pub use self::bind::BindError;
pub(crate) use self::{
    bind::{address_of, bind},
    door::{Connection, Door, Permit, SocketPermit},
    doorstep::Doorstep,
    serve::into_transport,
};
use crate::{app::Node, lifecycle::Tasks, tls::Tls};

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
    /// The node whose sockets are mounted here, where their requests come without TLS: those need no HTTP server.
    pub(crate) sockets: Option<Arc<Node>>,
    /// The connections that have not said anything yet, while the port is served.
    pub(crate) doorstep: tokio::sync::Mutex<Option<Doorstep>>,
}

/// Accepts connections until the branch is cancelled; those that are open then finish the request they are at.
pub(crate) async fn serve(port: Arc<Port>, tasks: Tasks) {
    // It outlives a crash of the loop, so that only the connection at hand is lost then.
    let mut doorstep = port.doorstep.lock().await;
    let doorstep_of_port = &mut *doorstep;
    let waiting = match doorstep_of_port {
        Some(waiting) => waiting,
        None => match Doorstep::new(&port, &tasks) {
            Ok(new) => doorstep_of_port.insert(new),
            Err(error) => {
                tracing::error!(port = port.name, %error, "connections cannot be polled");
                return;
            }
        },
    };
    waiting.run(&port).await;
    *doorstep = None;
}
