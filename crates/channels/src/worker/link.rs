//! What carries a socket's bytes.

use std::{
    io::{self, IoSlice, Read, Write},
    net::Shutdown,
};

use mio::{Interest, Registry, Token, net::TcpStream};

use super::{poll::PollLink, tls::TlsLink};

/// The way to a socket's client.
pub(crate) enum Link {
    /// A connection.
    Tcp(TcpStream),
    /// A connection behind TLS.
    Tls(Box<TlsLink>),
    /// No connection: the client asks for its messages again and again.
    Poll(Box<PollLink>),
}

impl Link {
    /// Has the poll tell when there is something to do. A descriptor that cannot be polled is an error.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Poll(_) => Ok(()),
            Self::Tcp(stream) => registry.register(stream, token, Interest::READABLE | Interest::WRITABLE),
            Self::Tls(link) => registry.register(link.stream(), token, Interest::READABLE | Interest::WRITABLE),
        }
    }

    /// Ends what [`register`](Self::register) began. If it fails, the descriptor is closed all the same.
    pub(super) fn deregister(&mut self, registry: &Registry) {
        let _ = match self {
            Self::Tcp(stream) => registry.deregister(stream),
            Self::Tls(link) => registry.deregister(link.stream()),
            Self::Poll(_) => Ok(()),
        };
    }

    /// Chooses the size of the kernel's send buffer.
    pub(super) fn set_send_buffer(&self, bytes: usize) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => socket2::SockRef::from(stream).set_send_buffer_size(bytes),
            Self::Tls(link) => socket2::SockRef::from(link.socket()).set_send_buffer_size(bytes),
            Self::Poll(_) => Ok(()),
        }
    }

    /// Takes note that all was written that there is for now. Returns whether it is known to take no more: nothing has to be tried then.
    pub(super) fn settle(&mut self) -> bool {
        match self {
            Self::Tcp(_) | Self::Tls(_) => false,
            Self::Poll(link) => link.settle(),
        }
    }

    /// The session of long polling, if it is one.
    pub(super) fn as_poll(&mut self) -> Option<&mut PollLink> {
        match self {
            Self::Tcp(_) | Self::Tls(_) => None,
            Self::Poll(link) => Some(link),
        }
    }

    /// Whether it is a session of long polling.
    pub(super) fn is_poll(&self) -> bool {
        matches!(self, Self::Poll(_))
    }

    /// Whether there may be something to read of which the poll will not tell.
    pub(super) fn has_more(&self) -> bool {
        matches!(self, Self::Tls(link) if link.has_more())
    }

    /// Whether something waits to be written that the outbox does not know of.
    pub(super) fn wants_write(&self) -> bool {
        matches!(self, Self::Tls(link) if link.wants_write())
    }

    /// Whether the kernel has taken something since the last call that did not come from the outbox just then.
    pub(super) fn took(&mut self) -> bool {
        match self {
            Self::Tls(link) => link.took(),
            Self::Tcp(_) | Self::Poll(_) => false,
        }
    }

    /// Says that nothing will be written any more. If it fails the connection is gone, which reading will tell.
    pub(super) fn finish(&mut self) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Tls(link) => link.finish(),
            Self::Poll(_) => Ok(()),
        };
    }
}

impl Read for Link {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Tls(link) => link.read(into),
            // What its client sends comes as commands.
            Self::Poll(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Link {
    /// One piece goes by `send`, which costs the kernel less than `writev`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Tls(link) => link.write(bytes),
            Self::Poll(link) => link.write(&[IoSlice::new(bytes)]),
        }
    }

    fn write_vectored(&mut self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(frames),
            Self::Tls(link) => link.write_vectored(frames),
            Self::Poll(link) => link.write(frames),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Tls(link) => link.flush(),
            Self::Poll(_) => Ok(()),
        }
    }
}
