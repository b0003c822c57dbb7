//! A connection of which a piece has been read already.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A connection that gives back first what was read from it before.
#[derive(Debug)]
pub(super) struct Replay {
    head: Bytes,
    stream: TcpStream,
    /// The client has ended its side; that is told at the next read.
    has_ended: bool,
}

impl Replay {
    pub(super) fn new(head: Bytes, stream: TcpStream) -> Self {
        Self { head, stream, has_ended: false }
    }

    /// The bare connection, and what of its beginning has not been read again.
    pub(super) fn into_parts(self) -> (Bytes, TcpStream) {
        (self.head, self.stream)
    }
}

impl Replay {
    /// Reads from the connection. Its end is told a turn after it was found: the HTTP server drops the request at hand when it reads the end
    /// before the answer is there, and a client that sends its request and ends its side at once, as `nc -N` does, waits for that answer.
    fn poll_stream(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, into);
        let is_end = matches!(read, Poll::Ready(Ok(()))) && into.filled().len() == before && into.remaining() > 0;
        if is_end && !std::mem::replace(&mut self.has_ended, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        read
    }
}

impl AsyncRead for Replay {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.head.is_empty() {
            return self.poll_stream(cx, into);
        }
        // The runtime has only just been told of the connection, and a first write would have to wait for its word. The HTTP server drops an
        // answer that has to wait when it is to close the connection behind it.
        ready!(self.stream.poll_write_ready(cx))?;
        let len = self.head.len().min(into.remaining());
        into.put_slice(&self.head[..len]);
        self.head.advance(len);
        if self.head.is_empty() {
            // It may be a part of a larger piece, which it would keep alive for as long as the connection lives.
            self.head = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replay {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn what_was_read_before_comes_first_and_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        client.write_all(b"world").await.unwrap();
        client.shutdown().await.unwrap();
        let mut replay = Replay::new(Bytes::from_static(b"hello, "), stream);
        let mut first = [0; 3];
        replay.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"hel");
        let mut rest = Vec::new();
        replay.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"lo, world");
        assert!(replay.into_parts().0.is_empty());
    }
}
