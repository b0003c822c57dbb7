//! Opening one WebSocket, as plainly as the protocol allows.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tickwire_client::Options;

use crate::BenchError;

const TIMEOUT: Duration = Duration::from_secs(10);
/// The head of an answer is shorter than this, or no answer to us.
const HEAD_MAX: usize = 8 << 10;
/// Connections from one loopback address; there are some 28,000 ports for outgoing connections by default.
const PER_ADDRESS: usize = 20_000;

/// Opens the socket with that number. The stream blocks.
pub(super) fn open(options: &Options, address: SocketAddr, number: usize) -> Result<TcpStream, BenchError> {
    let unreachable =
        |error: io::Error| BenchError::Unreachable { address: address.to_string(), problem: error.to_string() };
    let mut stream = connect(address, number).map_err(unreachable)?;
    let uri: http::Uri =
        options.request_uri().parse().map_err(|_| BenchError::Option("the URL is not one".to_owned()))?;
    let (path, host) =
        (uri.path_and_query().map_or("/", |path| path.as_str()), uri.authority().map_or("", |host| host.as_str()));
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGlja3dpcmUgYmVuY2ghIQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(unreachable)?;
    let head = read_head(&mut stream).map_err(unreachable)?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("101") {
        let problem = format!("socket {number} was refused: {status}");
        return Err(BenchError::Refused { address: address.to_string(), problem });
    }
    Ok(stream)
}

fn connect(address: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if let IpAddr::V4(Ipv4Addr::LOCALHOST) = address.ip() {
        let host = u8::try_from(1 + number / PER_ADDRESS).unwrap_or(u8::MAX);
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)).into())?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.connect_timeout(&address.into(), TIMEOUT)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// Reads up to the blank line, byte by byte: what follows belongs to the WebSocket, and an answer is short.
fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::with_capacity(256);
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_MAX {
            return Err(io::Error::other("the answer to the upgrade has no end"));
        }
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
