//! A plain WebSocket echo of this crate's frames alone, without Phoenix, to be asked by protocol test suites (`make test-autobahn`).
//!
//! Takes the address to listen on, and says which it got. One thread per connection: it is not meant to be fast.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    time::Duration,
};

use tickwire_channels::{
    close::CloseCode,
    deflate::compressed_frame,
    handshake::{self, Origins, Policy, UpgradeRequest},
    websocket::{Decoder, Header, Incoming, Limits, Opcode, close_frame, pong_frame},
};

/// The biggest message of Autobahn's cases has 16 MiB.
const LIMITS: Limits = Limits { frame_max: 32 << 20, message_max: 32 << 20 };

#[expect(clippy::print_stdout, reason = "whoever starts it wants to know the port")]
fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address)?;
    println!("{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            // Clients of test suites go as they like.
            let _ = serve(stream);
        });
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (head, behind) = read_head(&mut stream)?;
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(&head).map_err(io::Error::other)?;
    let fields: Vec<(&str, &[u8])> = request.headers.iter().map(|field| (field.name, field.value)).collect();
    let asked = UpgradeRequest { method: request.method.unwrap_or_default(), query: None, headers: &fields };
    let policy = Policy { origins: Origins::Any, compress: true, ..Policy::default() };
    let upgrade = handshake::check(&asked, &policy).map_err(io::Error::other)?;
    let extension = upgrade.deflate.map(|deflate| format!("sec-websocket-extensions: {}\r\n", deflate.answer()));
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {}\r\n{}\r\n",
        upgrade.accept,
        extension.unwrap_or_default()
    );
    stream.write_all(answer.as_bytes())?;
    let window = upgrade.deflate.map(|deflate| deflate.window());
    let mut decoder = if window.is_some() { Decoder::with_deflate() } else { Decoder::default() };
    let mut buffer = behind;
    loop {
        let mut input = buffer.as_slice();
        loop {
            let (opcode, message) = match decoder.decode(&mut input, &LIMITS) {
                Ok(None) => break,
                Ok(Some(Incoming::Text(text))) => (Opcode::Text, text),
                Ok(Some(Incoming::Binary(data))) => (Opcode::Binary, data),
                Ok(Some(Incoming::Ping(payload))) => {
                    stream.write_all(&pong_frame(&payload))?;
                    continue;
                }
                Ok(Some(Incoming::Pong(_))) => continue,
                Ok(Some(Incoming::Close(_))) => return close(&mut stream, CloseCode::Normal, ""),
                Err(error) => {
                    let reason = error.reason();
                    return close(&mut stream, reason.code().unwrap_or(CloseCode::Protocol), reason.as_str());
                }
            };
            match window {
                Some(window) => stream.write_all(&compressed_frame(opcode, &message, window))?,
                None => {
                    stream.write_all(Header::new(opcode, message.len()).as_ref())?;
                    stream.write_all(&message)?;
                }
            }
        }
        buffer.resize(64 * 1024, 0);
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        buffer.truncate(read);
    }
}

/// Reads up to the end of the request's head; also returns what came behind it.
fn read_head(stream: &mut TcpStream) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut head = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer)?;
        head.extend_from_slice(&buffer[..read]);
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            let behind = head.split_off(end + 4);
            return Ok((head, behind));
        }
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Says why, then takes what is still on its way, so that the connection is not reset before the client has read it.
fn close(stream: &mut TcpStream, code: CloseCode, reason: &str) -> io::Result<()> {
    stream.write_all(&close_frame(code, reason))?;
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    let mut sink = [0; 4096];
    while stream.read(&mut sink)? > 0 {}
    Ok(())
}
