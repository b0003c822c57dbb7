//! Binding the addresses of the configuration.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

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
    const BACKLOG: i32 = 16_384;
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
        // A restart must not wait for the connections of the process before it to time out.
        socket.set_reuse_address(true)?;
        set_options(&socket)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    open().map_err(|cause| BindError { key, address, cure: cure_for(&cause), cause })
}

/// The options of a port's connections, which inherit them from their listener: to set them on each would be three system calls more.
fn set_options(socket: &Socket) -> io::Result<()> {
    /// A client that acknowledges nothing for so long, or has no room for a byte, is gone for all we know: every write has a deadline.
    const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(60);
    /// Bytes that the kernel may hold unsent. Its own choice is megabytes, behind which a slow client would read minutes of old prices;
    /// what it does not take yet stays with us, where a newer update replaces it.
    const UNSENT_MAX: u32 = 64 * 1024;
    // What we write is written whole; waiting for more would only make it late.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    socket.set_tcp_notsent_lowat(UNSENT_MAX)
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

    #[test]
    fn a_connection_has_the_options_of_its_listener() {
        let listener = bind("listen.http", "127.0.0.1:0".parse().unwrap()).unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = loop {
            match listener.accept() {
                Ok((stream, _)) => break Socket::from(stream),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        };
        assert!(accepted.tcp_nodelay().unwrap());
        assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(Duration::from_secs(60)));
        assert_eq!(accepted.tcp_notsent_lowat().unwrap(), 64 * 1024);
        drop(client);
    }

    #[test]
    fn a_port_in_use_is_named_with_its_key_and_cure() {
        let first = bind("listen.http", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind("listen.http", address).unwrap_err().to_string();
        assert!(error.starts_with(&format!("listen.http: cannot listen on {address}")), "{error}");
        assert!(error.contains("another process has it"), "{error}");
    }
}
