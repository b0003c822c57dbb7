//! Connections as they are handed over.

use std::{io, net::TcpStream};

use rustls::ServerConnection;

use super::{link::Link, tls::TlsLink};

/// A connection whose upgrade is done.
#[derive(Debug)]
pub enum Transport {
    /// A bare one.
    Tcp(TcpStream),
    /// A bare one that does not block already, and sends what is written without delay.
    Prepared(TcpStream),
    /// One behind TLS, whose handshake is done.
    Tls(TcpStream, Box<ServerConnection>),
}

impl From<TcpStream> for Transport {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl Transport {
    /// Makes it ready for a poll.
    pub(super) fn into_link(self) -> io::Result<Link> {
        let ready = |stream: TcpStream| {
            stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true))?;
            Ok::<_, io::Error>(mio::net::TcpStream::from_std(stream))
        };
        Ok(match self {
            Self::Tcp(stream) => Link::Tcp(ready(stream)?),
            Self::Prepared(stream) => Link::Tcp(mio::net::TcpStream::from_std(stream)),
            Self::Tls(stream, session) => Link::Tls(Box::new(TlsLink::new(ready(stream)?, session))),
        })
    }
}
