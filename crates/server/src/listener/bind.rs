//! Binding the addresses of the configuration.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_key_and_cure() {
        let first = bind("listen.http", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind("listen.http", address).unwrap_err().to_string();
        assert!(error.starts_with(&format!("listen.http: cannot listen on {address}")), "{error}");
        assert!(error.contains("another process has it"), "{error}");
    }
}
