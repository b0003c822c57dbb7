//! The limit of the machine: a bare loop that does nothing but write the bytes of each update to every socket.
//!
//! It runs in a process of its own, so that its CPU time is read as any server's. Updates come to it ready made over one connection and
//! leave as they came: no topics, no formats, no sessions, one system call for each socket and `per_call` updates. It speaks just enough of
//! Tickwire's wire for the same reader to check and time what it sends. A server that does its work well comes near it; none passes it.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use socket2::{Domain, Type};
use tickwire_channels::websocket::Header;

use crate::{
    BenchError,
    dialect::{Dialect, Due, Heard, Publisher, Taken, Work},
    frames::{self, Opcode},
    machine,
    payload::{self, Maker},
    scan,
    tickwire::{message, upgrade},
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// How long a step of opening may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// A request is shorter.
const HEAD_MAX: usize = 8 << 10;
/// What stands for an epoch: as long as one of a server.
const EPOCH: &str = "bench-limit";

/// What the bare loop is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitServer {
    /// Sockets that it waits for.
    pub sockets: usize,
    /// Updates that one system call carries.
    pub per_call: usize,
    /// The core that it is started on.
    pub cpu: Option<usize>,
}

impl LimitServer {
    /// Runs the loop: says where its two ports are (for sockets, and for updates), opens the sockets, writes all updates, and stays until
    /// `until` returns.
    ///
    /// # Errors
    /// If a port cannot be opened, or a connection breaks.
    pub fn run(
        self,
        announce: impl FnOnce(SocketAddr, SocketAddr) -> io::Result<()>,
        until: impl FnOnce(),
    ) -> Result<(), BenchError> {
        machine::allow_files(self.sockets as u64 + 64)?;
        let ports = Ports::open().map_err(BenchError::machine("open a port"))?;
        let done = announce(ports.sockets.local_addr().map_err(lost)?, ports.feed.local_addr().map_err(lost)?)
            .and_then(|()| ports.serve(self, |frame, out| out.extend_from_slice(frame)));
        let sockets = done.map_err(lost)?;
        until();
        drop(sockets);
        Ok(())
    }
}

fn lost(error: io::Error) -> BenchError {
    BenchError::machine("write updates")(error)
}

/// The two ports of the loop.
pub(crate) struct Ports {
    pub(crate) sockets: TcpListener,
    pub(crate) feed: TcpListener,
}

impl Ports {
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { sockets: listen()?, feed: listen()? })
    }

    /// Opens the sockets, then writes every update that comes, made by `make` of its frame, to each of them, until no more come.
    pub(crate) fn serve(
        &self,
        work: LimitServer,
        mut make: impl FnMut(&[u8], &mut Vec<u8>),
    ) -> io::Result<Vec<TcpStream>> {
        let mut sockets = Vec::with_capacity(work.sockets);
        while sockets.len() < work.sockets {
            sockets.push(accept(&self.sockets)?);
        }
        let (mut feed, _) = self.feed.accept()?;
        let (mut buffer, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
        let (mut out, mut updates) = (Vec::new(), 0);
        loop {
            let len = feed.read(&mut chunk)?;
            buffer.extend_from_slice(&chunk[..len]);
            let mut used = 0;
            while let Some(frame) = frames::split(&buffer[used..]) {
                make(&buffer[used..used + frame.len], &mut out);
                used += frame.len;
                updates += 1;
                if updates == work.per_call {
                    write(&mut sockets, &mut out);
                    updates = 0;
                }
            }
            buffer.drain(..used);
            if len == 0 {
                write(&mut sockets, &mut out);
                return Ok(sockets);
            }
        }
    }
}

/// Writes to every socket. One that has gone gets no more; whoever reads knows that.
fn write(sockets: &mut Vec<TcpStream>, out: &mut Vec<u8>) {
    sockets.retain_mut(|socket| socket.write_all(out).is_ok());
    out.clear();
}

fn listen() -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Takes a socket: its request, answered by a handshake and a join's reply.
fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (mut socket, _) = listener.accept()?;
    socket.set_nodelay(true)?;
    let (mut head, mut len) = ([0; HEAD_MAX], 0);
    while !head[..len].ends_with(b"\r\n\r\n") {
        match socket.read(&mut head[len..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => len += read,
        }
    }
    let mut answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".to_vec();
    let reply = format!(
        r#"["1","1","ticker:{}","phx_reply",{{"status":"ok","response":{{"quote":null,"epoch":"{EPOCH}","seq":0}}}}]"#,
        payload::name(0)
    );
    answer.extend_from_slice(Header::new(Opcode::Text, reply.len()).as_ref());
    answer.extend_from_slice(reply.as_bytes());
    socket.write_all(&answer)?;
    Ok(socket)
}

/// The bare loop as a server that can be measured.
#[derive(Debug)]
pub(crate) struct Limit {
    sockets: SocketAddr,
    feed: SocketAddr,
    /// Ended with it.
    child: Option<Mutex<Child>>,
}

impl Limit {
    /// The loop that has those ports.
    #[cfg(test)]
    pub(crate) fn at(sockets: SocketAddr, feed: SocketAddr) -> Self {
        Self { sockets, feed, child: None }
    }

    /// Starts `program bench limit-server`; its process id comes with it.
    pub(crate) fn start(program: &Path, work: LimitServer) -> Result<(Self, u32), BenchError> {
        if work.per_call == 0 {
            return Err(BenchError::Option("a system call carries at least one update".to_owned()));
        }
        let mut command = Command::new(program);
        command.args(["bench", "limit-server"]);
        command.args(["--sockets", &work.sockets.to_string(), "--per-call", &work.per_call.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = machine::spawn_on(command, work.cpu)?;
        let pid = child.id();
        let mut line = String::new();
        let ports = child.stdout.take().and_then(|out| BufReader::new(out).read_line(&mut line).ok()).and_then(|_| {
            let (sockets, feed) = line.trim().split_once(' ')?;
            Some((sockets.parse().ok()?, feed.parse().ok()?))
        });
        let child = Some(Mutex::new(child));
        let Some((sockets, feed)) = ports else {
            let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            drop(Self { sockets: nowhere, feed: nowhere, child });
            return Err(BenchError::TimedOut("the bare loop has ended before its work".to_owned()));
        };
        Ok((Self { sockets, feed, child }, pid))
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            let mut child = child.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Dialect for Limit {
    fn address(&self) -> SocketAddr {
        self.sockets
    }

    fn upgrade(&self) -> Vec<u8> {
        upgrade("localhost", "socket/websocket", "")
    }

    fn subscribe(&self, _symbols: &mut dyn Iterator<Item = usize>, _out: &mut Vec<u8>) {}

    #[inline]
    fn message(&self, payload: &[u8], heard: &mut Heard<'_>) {
        match scan::update(payload) {
            Some(update) => heard.update(&update),
            None => message(payload, heard),
        }
    }

    fn heartbeat(&self, _out: &mut Vec<u8>) {}

    fn publisher(&self, work: &Work) -> Result<Box<dyn Publisher>, BenchError> {
        let unreachable = BenchError::unreachable(self.feed);
        let stream = TcpStream::connect_timeout(&self.feed, TIMEOUT).map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        stream.set_read_timeout(Some(TIMEOUT)).map_err(unreachable)?;
        Ok(Box::new(Feed { stream, maker: Maker::new(work.payload), text: Vec::new(), out: Vec::new(), sent: 0 }))
    }
}

/// Updates on their way to the loop, as the frames that it shall write.
struct Feed {
    stream: TcpStream,
    maker: Maker,
    text: Vec<u8>,
    out: Vec<u8>,
    sent: u64,
}

impl Publisher for Feed {
    fn send(&mut self, batch: &[Due]) -> Result<(), BenchError> {
        self.out.clear();
        for due in batch {
            self.text.clear();
            let _ = write!(self.text, r#"[null,null,"ticker:{}","update","#, payload::name(due.symbol));
            self.maker.update(due, EPOCH, &mut self.text);
            self.text.push(b']');
            self.out.extend_from_slice(Header::new(Opcode::Text, self.text.len()).as_ref());
            self.out.extend_from_slice(&self.text);
        }
        self.sent += batch.len() as u64;
        self.stream.write_all(&self.out).map_err(lost)
    }

    fn finish(mut self: Box<Self>, _patience: Duration) -> Result<Taken, BenchError> {
        self.stream.shutdown(Shutdown::Write).map_err(lost)?;
        // It closes its end when all is written.
        self.stream.read_to_end(&mut Vec::new()).map_err(lost)?;
        Ok(Taken { accepted: self.sent, ..Taken::new() })
    }
}
