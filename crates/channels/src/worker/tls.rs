//! A socket behind TLS.
//!
//! The worker does the encryption of its sockets itself: a task between it and the connection would be a second queue, behind which
//! nothing can be replaced by something newer, and a second thread to wake for every message.

use std::{
    io::{self, IoSlice, Read, Write},
    net::Shutdown,
};

use mio::net::TcpStream;
use rustls::ServerConnection;

/// Encrypted bytes that wait for the kernel at most. What is encrypted cannot be replaced any more, so that this stays below what is
/// allowed to wait in the kernel; two records are enough to keep a call worth its cost.
const PENDING_BYTES_MAX: usize = 32 * 1024;

/// Bytes that are decrypted for one read at most. Records may be empty: without a bound a client that sends nothing else would keep its
/// worker from all other sockets.
const TURN_BYTES_MAX: usize = 128 * 1024;

/// A connection whose handshake is done.
///
/// It reads and writes like a bare connection that a poll watches at its edges: a read that fills less than it was given has emptied the
/// kernel's buffer, unless [`has_more`](Self::has_more) says otherwise, and a write or a flush that would block is told of by the poll.
/// What a write has taken may still wait here; [`flush`](Write::flush) tells.
pub(crate) struct TlsLink {
    stream: TcpStream,
    session: Box<ServerConnection>,
    /// The last read stopped before the kernel's buffer was empty.
    more: bool,
    /// The kernel has taken something since this was last asked.
    took: bool,
}

impl TlsLink {
    pub(super) fn new(stream: TcpStream, mut session: Box<ServerConnection>) -> Self {
        session.set_buffer_limit(Some(PENDING_BYTES_MAX));
        // What came with the end of the handshake is decrypted already, and no poll will tell of it.
        Self { stream, session, more: true, took: false }
    }

    /// The connection itself.
    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// The connection itself.
    pub(super) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether there may be something to read of which the poll will not tell.
    pub(super) fn has_more(&self) -> bool {
        self.more
    }

    /// Whether something waits to be written that no outbox knows of.
    pub(super) fn wants_write(&self) -> bool {
        self.session.wants_write()
    }

    /// Whether the kernel has taken something since the last call.
    pub(super) fn took(&mut self) -> bool {
        std::mem::take(&mut self.took)
    }

    /// Says goodbye, and that nothing follows. What the kernel does not take of it at once is not worth waiting for: the client has had
    /// its close frame.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.session.send_close_notify();
        let _ = self.flush();
        self.stream.shutdown(Shutdown::Write)
    }

    /// Takes what the kernel has into the session; returns how many bytes, 0 at the connection's end.
    fn receive(&mut self) -> io::Result<usize> {
        let read = self.session.read_tls(&mut self.stream)?;
        let processed = self.session.process_new_packets();
        // An alert, or the answer to a change of keys. If the kernel does not take it now, the poll will tell when it does.
        match self.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(read)
    }
}

impl Read for TlsLink {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.more = false;
        let (mut filled, mut received) = (0, 0);
        while filled < into.len() {
            match self.session.reader().read(&mut into[filled..]) {
                // The client has said goodbye; what it sent before that is taken first, and this is asked again.
                Ok(0) => {
                    self.more = filled > 0;
                    return Ok(filled);
                }
                Ok(read) => filled += read,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return keep(filled, error, &mut self.more),
                Err(_) if received > TURN_BYTES_MAX => {
                    return keep(filled, io::ErrorKind::Interrupted.into(), &mut self.more);
                }
                Err(_) => match self.receive() {
                    // The session knows whether the end was one without a goodbye, and says so next.
                    Ok(read) => received += read,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && filled > 0 => return Ok(filled),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                    Err(error) => return keep(filled, error, &mut self.more),
                },
            }
        }
        Ok(filled)
    }
}

/// What has been read is worth more than the error behind it, which will be met again.
fn keep(filled: usize, error: io::Error, more: &mut bool) -> io::Result<usize> {
    *more = true;
    if filled > 0 { Ok(filled) } else { Err(error) }
}

impl Write for TlsLink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    /// Encrypts as much as may wait, but nothing before the kernel has taken what was encrypted earlier.
    fn write_vectored(&mut self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flush()?;
        let taken = self.session.writer().write_vectored(frames)?;
        match self.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.stream) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => self.took = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
