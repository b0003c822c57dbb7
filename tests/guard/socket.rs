//! A client that costs nothing and hides nothing: blocking, one step at a time.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::server::PATIENCE;

/// A connection that speaks HTTP/1.1.
pub(crate) struct Http(pub(crate) BufReader<TcpStream>);

impl Http {
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.get_mut().write_all(bytes)?)
    }

    /// The head of an answer: its status and the length of its body, if it says one.
    pub(crate) fn head(&mut self) -> Result<(String, Option<usize>)> {
        let (mut status, mut length) = (String::new(), None);
        loop {
            let mut line = String::new();
            ensure!(self.0.read_line(&mut line)? > 0, "the server has hung up");
            let line = line.trim_end();
            if line.is_empty() {
                return Ok((status, length));
            }
            if status.is_empty() {
                status = line.to_owned();
            } else if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse().context("content-length")?);
            }
        }
    }

    pub(crate) fn body(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(body)
    }
}

/// A WebSocket that speaks Phoenix V2, or V1.
pub(crate) struct Socket {
    http: Http,
    format: Format,
    next_ref: u32,
}

/// How its messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    V1,
    V2,
    /// V2, what comes compressed.
    Deflate,
}

impl Socket {
    pub(crate) fn open(address: SocketAddr, format: Format) -> Result<Self> {
        let mut http = Http::connect(address)?;
        let vsn = if format == Format::V1 { "1.0.0" } else { "2.0.0" };
        let extension = if format == Format::Deflate { "sec-websocket-extensions: permessage-deflate\r\n" } else { "" };
        // The headers of a browser, for they cost something to read.
        let request = format!(
            "GET /socket/websocket?vsn={vsn} HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\npragma: no-cache\r\n\
             cache-control: no-cache\r\nuser-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0\r\n\
             upgrade: websocket\r\norigin: http://{address}\r\nsec-websocket-version: 13\r\naccept-encoding: gzip, deflate, br\r\n\
             accept-language: en-GB,en;q=0.9\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extension}\r\n"
        );
        http.send(request.as_bytes())?;
        let (status, _) = http.head()?;
        ensure!(status.starts_with("HTTP/1.1 101"), "the upgrade is answered with {status}");
        Ok(Self { http, format, next_ref: 0 })
    }

    /// Sends a message and waits for its answer.
    pub(crate) fn ask(&mut self, topic: &str, event: &str, payload: &str) -> Result<()> {
        self.next_ref += 1;
        let number = self.next_ref;
        let text = match self.format {
            Format::V1 => {
                format!(
                    r#"{{"topic":"{topic}","event":"{event}","payload":{payload},"ref":"{number}","join_ref":"1"}}"#
                )
            }
            // The ref of a join is its first one; a channel's messages carry it, the socket's own none.
            Format::V2 | Format::Deflate if topic == "phoenix" => {
                format!(r#"[null,"{number}","{topic}","{event}",{payload}]"#)
            }
            Format::V2 | Format::Deflate if event == "phx_join" => {
                format!(r#"["{number}","{number}","{topic}","{event}",{payload}]"#)
            }
            Format::V2 | Format::Deflate => format!(r#"["1","{number}","{topic}","{event}",{payload}]"#),
        };
        self.send(text.as_bytes())?;
        let (_, answer) = self.frame()?;
        // What is compressed is believed.
        let ok = self.format == Format::Deflate || contains(&answer, br#""status":"ok""#);
        ensure!(ok, "{text} is answered with {}", String::from_utf8_lossy(&answer));
        Ok(())
    }

    pub(crate) fn join(&mut self, topic: &str) -> Result<()> {
        self.ask(topic, "phx_join", "{}")
    }

    fn send(&mut self, text: &[u8]) -> Result<()> {
        const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        let mut frame = vec![0x81];
        match u8::try_from(text.len()) {
            Ok(len) if len < 126 => frame.push(0x80 | len),
            _ => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(text.len()).context("a message of 64 KiB")?.to_be_bytes());
            }
        }
        frame.extend(MASK);
        frame.extend(text.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.http.send(&frame)
    }

    /// Reads so many broadcasts of an event. One that stands for several would make a cheaper run than the one that it is compared with,
    /// and so would one that is not waited for.
    pub(crate) fn deliveries(&mut self, event: &str, count: usize) -> Result<()> {
        let event = format!("\"{event}\"");
        for _ in 0..count {
            let (compressed, payload) = self.frame()?;
            ensure!(compressed == (self.format == Format::Deflate), "a frame of the wrong form");
            let good = compressed || contains(&payload, event.as_bytes()) && !contains(&payload, br#","n":"#);
            ensure!(good, "expected one {event}, seen {}", String::from_utf8_lossy(&payload));
        }
        Ok(())
    }

    /// A frame: whether it is compressed, and what is in it.
    fn frame(&mut self) -> Result<(bool, Vec<u8>)> {
        let stream = &mut self.http.0;
        let mut head = [0; 2];
        stream.read_exact(&mut head)?;
        let len = match head[1] {
            126 => {
                let mut len = [0; 2];
                stream.read_exact(&mut len)?;
                u16::from_be_bytes(len).into()
            }
            127.. => bail!("a frame of {head:?}, masked or longer than 64 KiB"),
            len => usize::from(len),
        };
        let mut payload = vec![0; len];
        stream.read_exact(&mut payload)?;
        ensure!(head[0] & !0x40 == 0x81, "a frame that is no text: {head:?} {}", String::from_utf8_lossy(&payload));
        Ok((head[0] & 0x40 != 0, payload))
    }
}

/// A stream of server-sent events.
pub(crate) struct Events(BufReader<TcpStream>);

impl Events {
    /// Opens one and reads the snapshot that it begins with.
    pub(crate) fn open(address: SocketAddr, topic: &str) -> Result<Self> {
        let mut http = Http::connect(address)?;
        http.send(format!("GET /v1/stream?topics={topic} HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes())?;
        let (status, _) = http.head()?;
        ensure!(status.starts_with("HTTP/1.1 200"), "the stream is answered with {status}");
        let mut events = Self(http.0);
        events.deliveries("snapshot", 1)?;
        Ok(events)
    }

    /// Reads so many events of one kind.
    pub(crate) fn deliveries(&mut self, event: &str, count: usize) -> Result<()> {
        let mut line = String::new();
        let mut seen = 0;
        while seen < count {
            line.clear();
            ensure!(self.0.read_line(&mut line)? > 0, "the stream has ended");
            ensure!(!line.contains(r#","n":"#), "{line}");
            if let Some(kind) = line.strip_prefix("event:") {
                ensure!(kind.trim() == event, "expected {event}, seen {line}");
            }
            seen += usize::from(line.starts_with("data:"));
        }
        Ok(())
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
