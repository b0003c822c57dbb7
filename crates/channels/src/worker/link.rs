//! What carries a socket's bytes.

use std::{
    io::{self, IoSlice, Read, Write},
    net::Shutdown,
};

use mio::{Interest, Registry, Token, net::TcpStream};

/// The way to a socket's client.
pub(crate) enum Link {
    /// A connection.
    Tcp(TcpStream),
}

impl Link {
    /// Has the poll tell when there is something to do. A descriptor that cannot be polled is an error.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => registry.register(stream, token, Interest::READABLE | Interest::WRITABLE),
        }
    }

    /// Ends what [`register`](Self::register) began. If it fails, the descriptor is closed all the same.
    pub(super) fn deregister(&mut self, registry: &Registry) {
        let _ = match self {
            Self::Tcp(stream) => registry.deregister(stream),
        };
    }

    /// Chooses the size of the kernel's send buffer.
    pub(super) fn set_send_buffer(&self, bytes: usize) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => socket2::SockRef::from(stream).set_send_buffer_size(bytes),
        }
    }

    /// Says that nothing will be written any more. If it fails the connection is gone, which reading will tell.
    pub(super) fn finish(&mut self) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
        };
    }
}

impl Read for Link {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(frames),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
        }
    }
}
