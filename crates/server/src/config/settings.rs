//! What can be set. Plain values: durations carry their unit in the type, sizes are bytes, and whoever builds a part of the
//! server takes its own table from here. `default.toml` beside this file explains every key to its user.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use tickwire_channels::handshake::Origins;

use super::secret::Secret;
use crate::admission::Network;
use crate::auth::{TokenAlgorithm, TopicPattern};

/// `[node]`: who this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Unique in the cluster.
    pub id: String,
    /// The failure domain; empty where there is none.
    pub zone: String,
}

/// `[listen]`: the addresses to bind. Port 0 lets the system choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenConfig {
    /// Sockets, HTTP API and the web page.
    pub http: SocketAddr,
    /// The public gRPC API.
    pub grpc: SocketAddr,
    /// Health, metrics and administration.
    pub admin: SocketAddr,
    /// Node to node; not bound by a lone node.
    pub mesh: SocketAddr,
    /// TLS on the public ports.
    pub tls: Option<TlsFiles>,
}

/// `[listen.tls]`: the files that TLS is served with, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those that it was signed with, the server's own first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// `[cluster]`: which nodes belong together. This version serves lone nodes only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Nodes of different names never mix.
    pub name: String,
    /// The address that peers dial; `None` takes it from `listen.mesh`.
    pub advertise: Option<SocketAddr>,
    /// The same on every node, at least 32 bytes.
    pub secret: Option<Secret>,
    /// The secret before this one, accepted while it is being rotated.
    pub secret_previous: Option<Secret>,
    /// How often discovery looks again.
    pub poll_interval: Duration,
    /// How long a start waits for its peers.
    pub join_timeout: Duration,
    /// How many nodes there should be.
    pub expect: Option<u32>,
    /// Whether fewer than `expect` make the node unready.
    pub require: bool,
}

/// `[auth]`: who may do what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    /// Who may publish quotes.
    pub publish: PublishMode,
    /// What a client without a token may do.
    pub anonymous: AnonymousRights,
    /// API keys.
    pub keys: Vec<ApiKeyConfig>,
    /// Client tokens.
    pub jwt: JwtConfig,
}

/// Who may publish quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishMode {
    /// Who shows an API key with the scope `publish`.
    Key,
    /// Everybody who reaches the port: the insecure mode, for closed networks and trials.
    Open,
}

/// What a client without a token may do on a channel that does not say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnonymousRights {
    /// Join topics and read quotes.
    pub read: bool,
    /// Send in rooms.
    pub write: bool,
}

/// `[[auth.key]]`: one API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyConfig {
    /// What logs call it.
    pub name: String,
    /// The text to present.
    pub secret: Secret,
    /// What it may do beyond reading.
    pub scopes: Vec<Scope>,
    /// When it ends, in Unix seconds.
    pub expires: Option<u64>,
}

/// What an API key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Publish quotes and broadcasts.
    Publish,
    /// Change and debug the running server.
    Admin,
}

/// `[auth.jwt]`: how client tokens are verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtConfig {
    /// The shared secret of HS256 tokens, at least 32 bytes.
    pub hs256_secret: Option<Secret>,
    /// Files of public keys.
    pub pem: Vec<PemConfig>,
    /// A file with a JSON Web Key Set.
    pub jwks_file: Option<PathBuf>,
    /// Where a signer publishes its set.
    pub jwks_url: Option<String>,
    /// How often the URL is read again.
    pub jwks_refresh: Duration,
    /// How long after one reading of the URL a token with an unknown key may cause the next one.
    pub jwks_cooldown: Duration,
    /// The `iss` that a token must carry.
    pub issuer: Option<String>,
    /// The `aud` that a token must carry. Without it a token that carries one is refused: it was made for someone else.
    pub audience: Option<String>,
    /// How far the clock of the signer may be ahead: a grace for `nbf`, none for `exp`.
    pub leeway: Duration,
}

/// `pem_file`, or one `[[auth.jwt.pem]]`: public keys in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemConfig {
    /// The file; it is read again when it changes.
    pub file: PathBuf,
    /// What its keys must be for; `None` takes it from each key.
    pub algorithm: Option<TokenAlgorithm>,
    /// The `kid` of the tokens that they verify; `None` is any.
    pub kid: Option<String>,
}

/// `[limits]`: what one client, or all of them, may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Connections on the public ports; `None` follows the open-file limit, see [`LimitsConfig::connections_for`].
    pub connections: Option<usize>,
    /// Connections, and sessions of long polling, of one address; `None` is any number.
    pub connections_per_address: Option<u32>,
    /// Sockets of one user.
    pub connections_per_user: Option<u32>,
    /// New connections in a second.
    pub accepts_per_second: u32,
    /// New connections in a second of one address.
    pub accepts_per_second_per_address: Option<u32>,
    /// Joins in a second, all sockets together.
    pub joins_per_second: u32,
    /// Joins in a second from one address.
    pub joins_per_second_per_address: Option<u32>,
    /// Joins in a second of one user.
    pub joins_per_second_per_user: Option<u32>,
    /// Messages in a second from one socket.
    pub messages_per_second: u32,
    /// Unwritten bytes of one socket.
    pub outbox_bytes: usize,
    /// Bytes of a request body.
    pub body_bytes: usize,
    /// How long a client may take to send the head of a request, and for the handshake of TLS before it.
    pub header_timeout: Duration,
    /// How long a connection may wait for its next request.
    pub keep_alive_timeout: Duration,
    /// Who may say for whom they speak.
    pub trusted_proxies: Vec<Network>,
    /// The header in which they say it.
    pub client_address_header: HeaderName,
}

impl LimitsConfig {
    /// Descriptors that are not connections: listeners, pollers, logs, feeds and their files.
    const RESERVED_FILES: u64 = 256;

    /// The limit of connections of a process that may open so many files.
    pub fn connections_for(&self, open_files: u64) -> usize {
        let room = usize::try_from(open_files.saturating_sub(Self::RESERVED_FILES).max(16)).unwrap_or(usize::MAX);
        self.connections.unwrap_or(room).min(room)
    }
}

/// `[drain]`: how a node says goodbye.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainConfig {
    /// How long it stays open after it has become unready, so that load balancers notice.
    pub delay: Duration,
    /// Over how long the closing of sockets is spread.
    pub spread: Duration,
    /// When it ends in any case.
    pub deadline: Duration,
}

/// `[[socket]]`: one mount of the Channels protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketMount {
    /// `/socket` serves `/socket/websocket`.
    pub path: String,
    /// Whether the WebSocket transport is on.
    pub websocket: bool,
    /// Whether the long-polling transport is on.
    pub longpoll: bool,
    /// How long a poll waits for a message.
    pub longpoll_window: Duration,
    /// How long a long-polling session may live, even in use.
    pub longpoll_token_max_age: Duration,
    /// A socket that sends nothing for so long is closed.
    pub idle_timeout: Duration,
    /// Bytes of one frame.
    pub max_frame: usize,
    /// Bytes of one message of several frames.
    pub max_message: usize,
    /// Joined topics of one socket.
    pub max_channels: usize,
    /// Which pages may connect; clients that send no `Origin` always may.
    pub origins: Origins,
    /// Whether permessage-deflate is negotiated with clients that offer it.
    pub compress: bool,
    /// Whether the token may come as a subprotocol, the `authToken` of Phoenix 1.8, or as the header of a long poll.
    pub auth_token: bool,
    /// Subprotocols of the application's own; the first one that a client offers is chosen.
    pub subprotocols: Vec<String>,
}

/// `[demo]`: the playground for conformance suites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemoConfig {
    /// Whether its channels and controls are there.
    pub enabled: bool,
}

/// `[[channel]]`: what is behind the topics of a pattern. The first entry that matches decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRule {
    /// `ticker:*`, or one topic.
    pub pattern: TopicPattern,
    /// What is behind it.
    pub kind: ChannelKind,
    /// Who may join.
    pub join: Access,
    /// Who may send; without meaning where clients send nothing.
    pub write: Access,
}

/// What is behind a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    /// The quotes of the symbol that the topic names behind its colon.
    Ticker,
    /// A plain channel.
    Room {
        /// Events that go to all others.
        broadcast: Vec<String>,
        /// Events that come back in the reply.
        echo: Vec<String>,
        /// How many of the last messages a joiner gets.
        history: usize,
    },
}

/// Who may do something on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every client; one that shows a token only as far as the token allows.
    Anyone,
    /// Clients with a token that allows it.
    Token,
    /// No client.
    Nobody,
}

/// The keys of `[market]` that are not the market's own but govern how its updates reach a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryConfig {
    /// A worker whose oldest pending message is older keeps only the newest of each topic.
    pub conflate_after: Duration,
    /// How long a join may take.
    pub join_deadline: Duration,
}

/// `[runtime]`: threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// Socket workers; `None` makes one for each core.
    pub workers: Option<usize>,
    /// Threads for derived computations such as bars.
    pub compute_threads: usize,
    /// Whether each worker keeps to one core.
    pub pin: bool,
}

/// `[log]`: what is logged and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,tickwire_market=debug`.
    pub level: String,
    /// The form of a line.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}
