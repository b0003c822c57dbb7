//! Tickwire itself, as one of the servers that can be measured.

use std::net::{SocketAddr, ToSocketAddrs as _};

use tickwire_channels::serializer::{CLOSE, ERROR, JOIN};
use tickwire_client::{
    Options, Payload, Snapshot,
    wire::{self, Body, Outgoing},
};

use crate::{
    BenchError,
    dialect::{Dialect, Heard, Publisher, Work, say},
    frames::Opcode,
    http::HttpPublisher,
    payload, scan,
    wire::GrpcPublisher,
};

/// How quotes get to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Via {
    /// gRPC: `Publish`, or `PublishAcked` where answers are timed.
    #[default]
    Grpc,
    /// `POST /v1/quotes`, a JSON array.
    Json,
    /// `POST /v1/quotes`, a JSON object a line.
    Ndjson,
    /// `POST /v1/quotes`, a table.
    Csv,
}

/// A node of Tickwire.
#[derive(Debug)]
pub(crate) struct Tickwire {
    options: Options,
    address: SocketAddr,
    host: String,
    grpc: String,
    key: Option<String>,
    via: Via,
}

impl Tickwire {
    /// The node with that socket; `grpc` is its gRPC port, such as `http://127.0.0.1:4001`.
    pub(crate) fn new(options: Options, grpc: String, key: Option<String>, via: Via) -> Result<Self, BenchError> {
        let (address, host) = resolve(&options)?;
        Ok(Self { options, address, host, grpc, key, via })
    }
}

impl Dialect for Tickwire {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn upgrade(&self) -> Vec<u8> {
        let uri = self.options.request_uri();
        let path = uri.splitn(4, '/').nth(3).unwrap_or_default();
        upgrade(&self.host, path, "")
    }

    fn subscribe(&self, symbols: &mut dyn Iterator<Item = usize>, out: &mut Vec<u8>) {
        let payload = serde_json::json!({});
        for (symbol, msg_ref) in symbols.zip(1u64..) {
            let topic = format!("ticker:{}", payload::name(symbol));
            let join = Outgoing { join_ref: Some(msg_ref), msg_ref, topic: &topic, event: JOIN, payload: &payload };
            say(out, Opcode::Text, join.encode().as_bytes());
        }
    }

    #[inline]
    fn message(&self, payload: &[u8], heard: &mut Heard<'_>) {
        match scan::update(payload) {
            Some(update) => heard.update(&update),
            None => message(payload, heard),
        }
    }

    fn heartbeat(&self, out: &mut Vec<u8>) {
        say(out, Opcode::Text, Outgoing::heartbeat(0).as_bytes());
    }

    fn publisher(&self, work: &Work) -> Result<Box<dyn Publisher>, BenchError> {
        let key = self.key.as_deref();
        Ok(match self.via {
            Via::Grpc => Box::new(GrpcPublisher::open(&self.grpc, key, work)?),
            Via::Json | Via::Ndjson | Via::Csv => {
                Box::new(HttpPublisher::open(self.address, &self.host, key, self.via, work)?)
            }
        })
    }
}

/// The request that opens a WebSocket at a path (without its first slash); `more` are further header lines, each with its end.
pub(crate) fn upgrade(host: &str, path: &str, more: &str) -> Vec<u8> {
    format!(
        "GET /{path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGlja3dpcmUgYmVuY2ghIQ==\r\n{more}\r\n"
    )
    .into_bytes()
}

/// Anything but an update: the join's reply, most of all.
pub(crate) fn message(text: &[u8], heard: &mut Heard<'_>) {
    let message = std::str::from_utf8(text).map_err(|error| error.to_string());
    let message = match message.and_then(|text| wire::decode_text(text).map_err(|error| error.to_string())) {
        Ok(message) => message,
        Err(problem) => return heard.failed(format!("a message is not understood: {problem}")),
    };
    let number = message.topic.strip_prefix("ticker:").and_then(|symbol| symbol.strip_prefix(payload::PREFIX));
    let Some(symbol) = number.and_then(|number| number.parse().ok()) else { return };
    match message.body {
        Body::Reply { ok: true, response: Payload::Json(json) } => match Snapshot::parse(&json) {
            Ok(snapshot) => heard.joined(symbol, snapshot.mark.epoch.as_bytes(), snapshot.mark.seq),
            Err(problem) => heard.failed(format!("a join's reply is not understood: {problem}")),
        },
        Body::Reply { response, .. } => heard.failed(format!("a join was refused: {response:?}")),
        Body::Event { event, payload } => match event.as_str() {
            "snapshot" => match Snapshot::parse(payload.bytes()) {
                Ok(snapshot) => heard.joined(symbol, snapshot.mark.epoch.as_bytes(), snapshot.mark.seq),
                Err(problem) => heard.failed(format!("a snapshot is not understood: {problem}")),
            },
            "update" => heard.failed(format!("an update is not understood: {}", String::from_utf8_lossy(text))),
            CLOSE | ERROR => heard.failed(format!("{}: {event}", message.topic)),
            _ => {}
        },
    }
}

/// Where a socket's URL leads: an address, and the host as the URL names it.
fn resolve(socket: &Options) -> Result<(SocketAddr, String), BenchError> {
    let address = socket.address();
    let uri: http::Uri = address.parse().map_err(|_| BenchError::Option(format!("{address:?} is no URL")))?;
    if uri.scheme_str() != Some("ws") {
        return Err(BenchError::Option(format!(
            "{address}: the bench speaks ws only; measure behind TLS, or at its end"
        )));
    }
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let unreachable = |problem: String| BenchError::Unreachable { address: address.clone(), problem };
    let found = (host, uri.port_u16().unwrap_or(80)).to_socket_addrs();
    let mut found = found.map_err(|error| unreachable(error.to_string()))?;
    let found = found.next().ok_or_else(|| unreachable("the name has no address".to_owned()))?;
    Ok((found, uri.authority().map_or_else(|| host.to_owned(), ToString::to_string)))
}
