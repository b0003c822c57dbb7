//! From the merged tree to settings: every key, its default, its bounds, and what must hold between keys.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tickwire_channels::WorkersConfig;
use tickwire_channels::handshake::{OriginRule, Origins};
use tickwire_market::feed::binance::BinanceConfig;
use tickwire_market::feed::replay::{ReplayConfig, SymbolMap};
use tickwire_market::feed::simulated::SimulatedConfig;
use tickwire_market::feed::{FeedConfig, FeedKind, RestartPolicy, Speed};
use tickwire_market::{MarketConfig, OutOfOrder, Symbol, Symbols};
use toml::value::{Datetime, Offset};
use tracing_subscriber::EnvFilter;

use super::Config;
use super::layers::{Item, Node};
use super::reader::{Section, Setting, Size};
use super::settings::*;
use crate::auth::TopicPattern;

/// The sections of the file, which are also the names that one variable of the environment may set as a whole.
pub(super) const SECTIONS: [&str; 14] = [
    "node", "listen", "cluster", "auth", "limits", "drain", "demo", "socket", "channel", "feed", "market", "runtime",
    "log", "otel",
];

/// A cluster secret or a token secret: as long as the digest that it keys.
const STRONG_SECRET_BYTES: usize = 32;
/// An API key: what cannot be guessed over the network.
const API_KEY_BYTES: usize = 16;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Reads everything, in the order of the default file.
pub(super) fn config(root: &Section<'_>, mut warnings: Vec<String>) -> Config {
    let listen = root.section("listen", listen);
    let node = root.section("node", |s| node(s, listen.mesh));
    let cluster = root.section("cluster", cluster);
    let auth = root.section("auth", auth);
    let limits = root.section("limits", limits);
    let drain = root.section("drain", drain);
    root.section("demo", |s| s.only("enabled", false, "the demo endpoint"));
    let sockets = sockets(root);
    let channels = channels(root, auth.anonymous);
    let feeds = feeds(root);
    let (market, delivery) = root.section("market", |s| (market(s), delivery(s)));
    let runtime = root.section("runtime", runtime);
    let log = root.section("log", log);
    root.section("otel", |s| s.absent("endpoint", "traces over OTLP"));
    warnings.extend(insecure(&auth, &listen));
    let entries = Vec::new();
    Config {
        node,
        listen,
        cluster,
        auth,
        limits,
        drain,
        sockets,
        channels,
        feeds,
        market,
        delivery,
        runtime,
        log,
        warnings,
        entries,
    }
}

/// What an operator should have decided on purpose.
fn insecure(auth: &AuthConfig, listen: &ListenConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    if auth.publish == PublishMode::Open {
        warnings.push(
            "auth.publish = \"open\": whoever reaches the public ports may publish quotes without a key".to_owned(),
        );
    }
    if auth.anonymous.write {
        warnings.push("auth.anonymous.write = true: clients without a token may send in rooms".to_owned());
    }
    let can = |scope| auth.keys.iter().any(|key| key.scopes.contains(&scope));
    let loopback = listen.http.ip().is_loopback() && listen.grpc.ip().is_loopback();
    if !loopback && auth.publish == PublishMode::Key && !can(Scope::Publish) {
        warnings
            .push("no [[auth.key]] has the scope \"publish\": nobody can publish quotes over HTTP or gRPC".to_owned());
    }
    if !listen.admin.ip().is_loopback() && !can(Scope::Admin) {
        warnings.push(
            "no [[auth.key]] has the scope \"admin\": calls to listen.admin that change or debug are refused"
                .to_owned(),
        );
    }
    warnings
}

fn listen(s: &Section<'_>) -> ListenConfig {
    let local = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let listen = ListenConfig {
        http: s.value("http", local(4000)),
        grpc: s.value("grpc", local(4001)),
        admin: s.value("admin", local(4040)),
        mesh: s.value("mesh", local(4100)),
    };
    let named = [("http", listen.http), ("grpc", listen.grpc), ("admin", listen.admin), ("mesh", listen.mesh)];
    for (i, (name, address)) in named.iter().enumerate() {
        if let Some((other, _)) = named[..i].iter().find(|(_, earlier)| collide(*earlier, *address)) {
            // The one that somebody set is the one to change.
            let (at, of) = if s.has(name) { (name, other) } else { (other, name) };
            let message = format!("{} is also the address of {}; give each its own port", address.show(), s.key(of));
            s.problem(at, message);
        }
    }
    s.section("tls", |tls| {
        tls.absent("cert", "TLS on the public ports");
        tls.absent("key", "TLS on the public ports");
    });
    listen
}

/// Whether two listeners would fight for a port: the unspecified address takes it on all others, too.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

fn node(s: &Section<'_>, mesh: SocketAddr) -> NodeConfig {
    let read = |node: &Node| match String::read(node)? {
        id if id.is_empty() || id.len() > 128 || id.chars().any(|c| c.is_whitespace() || c.is_control()) => {
            Err("is no name of a node: 1 to 128 bytes without spaces".to_owned())
        }
        id => Ok(id),
    };
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let default = format!("{}:{}", if host.is_empty() { "localhost" } else { &host }, mesh.port());
    NodeConfig { id: s.value_by("id", default, read, String::show), zone: s.value("zone", String::new()) }
}

fn cluster(s: &Section<'_>) -> ClusterConfig {
    let config = ClusterConfig {
        name: s.value("name", "tickwire".to_owned()),
        advertise: s.option("advertise"),
        secret: s.secret("secret", STRONG_SECRET_BYTES),
        secret_previous: s.secret("secret_previous", STRONG_SECRET_BYTES),
        poll_interval: s.between("poll_interval", secs(10), millis(100), HOUR),
        join_timeout: s.between("join_timeout", millis(500), Duration::ZERO, secs(60)),
        expect: s.option("expect"),
        require: s.value("require", false),
    };
    if config.require && config.expect.is_none() && s.is_sound("expect") {
        s.problem("require", format!("needs {}, the number of nodes to require", s.key("expect")));
    }
    if config.secret_previous.is_some() && config.secret.is_none() && s.is_sound("secret") {
        s.problem("secret_previous", format!("needs {} beside it, the secret that replaces it", s.key("secret")));
    }
    s.only("discovery", "none".to_owned(), "a cluster of several nodes");
    for key in ["seeds", "dns_name", "namespace", "service"] {
        s.absent(key, "a cluster of several nodes");
    }
    s.section("tls", |tls| {
        for key in ["cert", "key", "ca", "server_name"] {
            tls.absent(key, "mutual TLS between nodes");
        }
    });
    config
}

fn auth(s: &Section<'_>) -> AuthConfig {
    let publish = s.choice("publish", PublishMode::Key, &[("key", PublishMode::Key), ("open", PublishMode::Open)]);
    let anonymous =
        s.section("anonymous", |a| AnonymousRights { read: a.value("read", true), write: a.value("write", false) });
    let jwt = s.section("jwt", |jwt| {
        let config = JwtConfig {
            hs256_secret: jwt.secret("hs256_secret", STRONG_SECRET_BYTES),
            issuer: jwt.option("issuer"),
            audience: jwt.option("audience"),
            leeway: jwt.between("leeway", secs(5), Duration::ZERO, secs(300)),
        };
        for key in ["pem_file", "jwks_file", "jwks_url"] {
            jwt.absent(key, "tokens that are signed with a private key");
        }
        config
    });
    let mut keys: Vec<ApiKeyConfig> = Vec::new();
    s.sections("key", |k| {
        let key = api_key(k)?;
        if keys.iter().any(|earlier| earlier.name == key.name) {
            k.problem("name", format!("{} names an earlier key, too; names are unique", key.name.show()));
        }
        if keys.iter().any(|earlier| earlier.secret == key.secret) {
            k.problem("secret", "is the secret of an earlier key, too; each key has its own");
        }
        keys.push(key);
        Some(())
    });
    AuthConfig { publish, anonymous, keys, jwt }
}

fn api_key(s: &Section<'_>) -> Option<ApiKeyConfig> {
    let name = s.option::<String>("name");
    let secret = s.secret("secret", API_KEY_BYTES);
    let read_scope = |name: &String| match name.as_str() {
        "publish" => Ok(Scope::Publish),
        "admin" => Ok(Scope::Admin),
        _ => Err(format!("holds {name:?}, expected \"publish\" or \"admin\"")),
    };
    let scopes = s.value_by(
        "scopes",
        Vec::new(),
        |node| Vec::<String>::read(node)?.iter().map(read_scope).collect(),
        |scopes: &Vec<Scope>| scopes.iter().map(|scope| scope.name().to_owned()).collect::<Vec<_>>().show(),
    );
    let expires = s.option_by("expires", |node| unix_seconds(&node.seen()), ToString::to_string);
    if !s.has("name") {
        s.problem("name", "is missing; it is what logs call the key");
    }
    if !s.has("secret") && !s.has("secret_file") {
        s.problem("secret", "is missing; make one with: openssl rand -hex 32");
    }
    Some(ApiKeyConfig { name: name?, secret: secret?, scopes, expires })
}

impl Scope {
    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Admin => "admin",
        }
    }
}

/// Reads `2027-01-01T00:00:00Z`, quoted or not, as Unix seconds.
fn unix_seconds(text: &str) -> Result<u64, String> {
    let read = || {
        let Datetime { date: Some(date), time: Some(time), offset: Some(offset) } =
            text.trim_matches('"').parse().ok()?
        else {
            return None;
        };
        let offset_minutes = match offset {
            Offset::Z => 0,
            Offset::Custom { minutes } => i64::from(minutes),
        };
        let days = days_from_civil(i64::from(date.year), i64::from(date.month), i64::from(date.day));
        let minutes = days * 1440 + i64::from(time.hour) * 60 + i64::from(time.minute) - offset_minutes;
        u64::try_from(minutes * 60 + i64::from(time.second.unwrap_or(0))).ok()
    };
    read().ok_or_else(|| "is not a time with its zone, for example 2027-01-01T00:00:00Z".to_owned())
}

/// Days since 1970-01-01 of a date of the Gregorian calendar (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn limits(s: &Section<'_>) -> LimitsConfig {
    let rate_max = 10_000_000;
    LimitsConfig {
        connections: s.auto("connections", 1, 10_000_000),
        accepts_per_second: s.between("accepts_per_second", 10_000, 1, rate_max),
        joins_per_second: s.between("joins_per_second", 50_000, 1, rate_max),
        messages_per_second: s.between("messages_per_second", 2_000, 1, rate_max),
        outbox_bytes: s
            .between("outbox_bytes", Size(WorkersConfig::default().outbox_bytes_max), Size(16 << 10), Size(1 << 30))
            .0,
        body_bytes: s.between("body_bytes", Size(8 << 20), Size(1 << 10), Size(1 << 30)).0,
        header_timeout: s.between("header_timeout", secs(10), millis(100), HOUR),
    }
}

fn drain(s: &Section<'_>) -> DrainConfig {
    let config = DrainConfig {
        // Discovery is always off in this version: a lone node has nobody to hand its clients to, so it does not wait.
        delay: s.between("delay", Duration::ZERO, Duration::ZERO, HOUR),
        spread: s.between("spread", secs(10), Duration::ZERO, HOUR),
        deadline: s.between("deadline", secs(60), secs(1), DAY),
    };
    if config.delay + config.spread > config.deadline {
        let sum = (config.delay + config.spread).show();
        s.problem(
            "deadline",
            format!("{} is shorter than drain.delay and drain.spread together, {sum}", config.deadline.show()),
        );
    }
    config
}

fn sockets(root: &Section<'_>) -> Vec<SocketMount> {
    let mut paths: Vec<String> = Vec::new();
    let entries = root.sections("socket", |s| {
        let mount = socket(s);
        if s.is_sound("path") && paths.contains(&mount.path) {
            s.problem("path", format!("{} is the path of an earlier [[socket]], too", mount.path.show()));
        }
        paths.push(mount.path.clone());
        mount
    });
    match entries {
        Some(entries) if !entries.is_empty() => entries,
        Some(_) => {
            root.problem("socket", "is empty; a server has at least one, or remove the key for the one at \"/socket\"");
            Vec::new()
        }
        None => vec![root.section_of_default("socket[0]", socket)],
    }
}

fn socket(s: &Section<'_>) -> SocketMount {
    let read_path = |node: &Node| match String::read(node)? {
        path if path.starts_with("/v1/") || path == "/v1" || path.starts_with("/assets/") => {
            Err("belongs to the HTTP API or the page; mount sockets elsewhere, for example \"/socket\"".to_owned())
        }
        path if path.len() > 1
            && path.starts_with('/')
            && !path.ends_with('/')
            && !path.contains("//")
            && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_.~".contains(&b)) =>
        {
            Ok(path)
        }
        _ => Err("is not a path, for example \"/socket\": it begins with a slash and ends without one".to_owned()),
    };
    let frame_max = Size(64 << 20);
    let mount = SocketMount {
        path: s.value_by("path", "/socket".to_owned(), read_path, String::show),
        websocket: s.value("websocket", true),
        idle_timeout: s.between("idle_timeout", secs(90), millis(100), DAY),
        max_frame: s.between("max_frame", Size(1 << 20), Size(1 << 10), frame_max).0,
        max_message: s.between("max_message", Size(1 << 20), Size(1 << 10), frame_max).0,
        max_channels: s.between("max_channels", 1_000, 1, 1_000_000),
        origins: s.value("origins", Origins::SameHost),
    };
    s.only("longpoll", false, "long polling");
    s.only("compress", false, "compression");
    s.only("auth_token", false, "the authToken subprotocol");
    s.only("subprotocols", Vec::<String>::new(), "choosing among subprotocols");
    s.absent("longpoll_window", "long polling");
    s.absent("longpoll_token_max_age", "long polling");
    if !mount.websocket {
        s.problem("websocket", "is false, and this version has no other transport; remove the key or the [[socket]]");
    }
    if s.has("max_message") && mount.max_message < mount.max_frame {
        let message =
            format!("{} is smaller than max_frame; a message is at least a frame", Size(mount.max_message).show());
        s.problem("max_message", message);
    }
    SocketMount { max_message: mount.max_message.max(mount.max_frame), ..mount }
}

impl Setting for Origins {
    fn read(node: &Node) -> Result<Self, String> {
        match &node.item {
            Item::Text(text) | Item::Raw(text) if text == "same-host" => return Ok(Self::SameHost),
            Item::Text(text) | Item::Raw(text) if text == "any" => return Ok(Self::Any),
            Item::Text(_) => return Err("is neither \"same-host\", nor \"any\", nor a list of origins".to_owned()),
            _ => {}
        }
        let rule = |text: String| text.parse::<OriginRule>().map_err(|error| format!("holds {error}"));
        let rules = Vec::<String>::read(node)?.into_iter().map(rule).collect::<Result<Vec<_>, _>>()?;
        if rules.is_empty() {
            Err("lets no page in; name origins, or use \"same-host\"".to_owned())
        } else {
            Ok(Self::List(rules))
        }
    }

    fn show(&self) -> String {
        match self {
            Self::SameHost => "\"same-host\"".to_owned(),
            Self::Any => "\"any\"".to_owned(),
            Self::List(rules) => rules.iter().map(ToString::to_string).collect::<Vec<_>>().show(),
        }
    }
}

impl Setting for TopicPattern {
    fn read(node: &Node) -> Result<Self, String> {
        String::read(node)?.parse().map_err(|error| format!("{error}"))
    }

    fn show(&self) -> String {
        self.to_string().show()
    }
}

/// Every symbol has its ticker; rooms take what the generators of Phoenix make: `shout` and `new_msg` go to all, `ping` comes back.
fn built_in_channels(rights: AnonymousRights) -> Vec<ChannelRule> {
    let (join, write) = default_access(rights);
    let pattern = |prefix: &str| prefix.parse().expect("a prefix and a star is a pattern");
    let broadcast = vec!["shout".to_owned(), "new_msg".to_owned()];
    let room = ChannelKind::Room { broadcast, echo: vec!["ping".to_owned()], history: 0 };
    vec![
        ChannelRule { pattern: pattern("ticker:*"), kind: ChannelKind::Ticker, join, write: Access::Nobody },
        ChannelRule { pattern: pattern("room:*"), kind: room, join, write },
    ]
}

fn default_access(rights: AnonymousRights) -> (Access, Access) {
    let access = |anyone| if anyone { Access::Anyone } else { Access::Token };
    (access(rights.read), access(rights.write))
}

fn channels(root: &Section<'_>, rights: AnonymousRights) -> Vec<ChannelRule> {
    let mut patterns: Vec<TopicPattern> = Vec::new();
    let entries = root.sections("channel", |s| {
        let rule = channel(s, rights)?;
        if patterns.contains(&rule.pattern) {
            s.problem("pattern", format!("{} stands in an earlier [[channel]], which decides", rule.pattern.show()));
        }
        patterns.push(rule.pattern.clone());
        Some(rule)
    });
    match entries {
        Some(entries) => entries.into_iter().flatten().collect(),
        None => {
            let rules = built_in_channels(rights);
            root.record_built_in("channel", &rules, show_channel);
            rules
        }
    }
}

const ACCESS: [(&str, Access); 3] = [("anyone", Access::Anyone), ("token", Access::Token), ("nobody", Access::Nobody)];

fn channel(s: &Section<'_>, rights: AnonymousRights) -> Option<ChannelRule> {
    let pattern = s.option::<TopicPattern>("pattern");
    if !s.has("pattern") {
        s.problem("pattern", "is missing, for example \"room:*\"");
    }
    let kind = s.option_by("kind", String::read, String::show);
    let (join, write) = default_access(rights);
    let join = s.choice("join", join, &ACCESS[..2]);
    let kind = match kind.as_deref() {
        Some("ticker") => {
            return Some(ChannelRule { pattern: pattern?, kind: ChannelKind::Ticker, join, write: Access::Nobody });
        }
        Some("room") => ChannelKind::Room {
            broadcast: events(s, "broadcast"),
            echo: events(s, "echo"),
            history: s.between("history", 0, 0, 1_000),
        },
        Some(later @ ("trades" | "bars" | "book" | "watch")) => {
            s.problem("kind", format!("{later:?} is not available in this version; use \"ticker\" or \"room\""));
            return None;
        }
        Some(other) => {
            s.problem("kind", format!("{other:?} is neither \"ticker\" nor \"room\""));
            return None;
        }
        None => {
            if !s.has("kind") {
                s.problem("kind", "is missing; \"ticker\" or \"room\"");
            }
            return None;
        }
    };
    let write = s.choice("write", write, &ACCESS);
    s.only("presence", false, "presence");
    Some(ChannelRule { pattern: pattern?, kind, join, write })
}

/// Names of client events; those of the protocol itself cannot be given away.
fn events(s: &Section<'_>, key: &str) -> Vec<String> {
    let read = |node: &Node| {
        let names = Vec::<String>::read(node)?;
        match names.iter().find(|name| {
            name.is_empty() || name.starts_with("phx_") || name.starts_with("presence_") || name.len() > 64
        }) {
            Some(wrong) => Err(format!("holds {wrong:?}, which is no name for an event of your own")),
            None => Ok(names),
        }
    };
    s.value_by(key, Vec::new(), read, Vec::show)
}

/// The built-in rules as the file would write them, for `config print`.
fn show_channel(rule: &ChannelRule) -> Vec<(&'static str, String)> {
    let access =
        |access| ACCESS.iter().find(|(_, value)| *value == access).map_or("", |(name, _)| name).to_owned().show();
    let mut shown = vec![("pattern", rule.pattern.show())];
    match &rule.kind {
        ChannelKind::Ticker => shown.extend([("kind", "\"ticker\"".to_owned()), ("join", access(rule.join))]),
        ChannelKind::Room { broadcast, echo, history } => shown.extend([
            ("kind", "\"room\"".to_owned()),
            ("join", access(rule.join)),
            ("broadcast", broadcast.show()),
            ("echo", echo.show()),
            ("history", history.show()),
            ("write", access(rule.write)),
            ("presence", "false".to_owned()),
        ]),
    }
    shown
}

fn feeds(root: &Section<'_>) -> Vec<FeedConfig> {
    let mut names: Vec<String> = Vec::new();
    let entries = root.sections("feed", |s| {
        let feed = feed(s)?;
        if names.contains(&feed.name) {
            s.problem("name", format!("{} names an earlier [[feed]], too; give each its own name", feed.name.show()));
        }
        names.push(feed.name.clone());
        Some(feed)
    });
    entries.unwrap_or_default().into_iter().flatten().collect()
}

fn feed(s: &Section<'_>) -> Option<FeedConfig> {
    let kind = s.option::<String>("kind");
    let name = s.value("name", kind.clone().unwrap_or_default());
    let kind = match kind.as_deref() {
        Some("replay") => FeedKind::Replay(replay(s)?),
        Some("binance") => FeedKind::Binance(binance(s)),
        Some("simulated") => FeedKind::Simulated(SimulatedConfig {
            seed: s.value("seed", SimulatedConfig::default().seed),
            rate: s.between("rate", SimulatedConfig::default().rate, 0.1, 1_000_000.0),
            count: s.between("count", SimulatedConfig::default().count, 1, 100_000),
        }),
        Some(other) => {
            s.problem("kind", format!("{other:?} is none of \"replay\", \"binance\", \"simulated\""));
            return None;
        }
        None => {
            if !s.has("kind") {
                s.problem("kind", "is missing; \"replay\", \"binance\" or \"simulated\"");
            }
            return None;
        }
    };
    Some(FeedConfig { name, kind, restart: RestartPolicy::default() })
}

fn replay(s: &Section<'_>) -> Option<ReplayConfig> {
    // One path is a text, several are a list.
    let read_paths = |node: &Node| match &node.item {
        Item::Text(_) | Item::Raw(_) => PathBuf::read(node).map(|path| vec![path]),
        _ => match Vec::read(node)? {
            paths if paths.is_empty() => Err("names no file".to_owned()),
            paths => Ok(paths),
        },
    };
    let paths = s.option_by("path", read_paths, Vec::show);
    if !s.has("path") {
        s.problem("path", "is missing: a recorded file, a directory of them, or a list");
    }
    let symbols = SymbolMap::new(symbols_by_name(s));
    let only = s.value("only", Vec::new());
    let speed = s.value("speed", Speed::RECORDED);
    let repeat = s.value("loop", true);
    let csv_start = s.value("csv_start", CsvStart(Some(ReplayConfig::BUSY_HOUR))).0;
    Some(ReplayConfig { paths: paths?, symbols, only, speed, repeat, csv_start })
}

fn binance(s: &Section<'_>) -> BinanceConfig {
    let read_url = |node: &Node| match String::read(node)? {
        url if url.starts_with("wss://") || url.starts_with("ws://") => Ok(url),
        _ => Err(format!("is not the URL of a WebSocket, for example {:?}", BinanceConfig::URL)),
    };
    let url = s.value_by("url", BinanceConfig::URL.to_owned(), read_url, String::show);
    let silence = s.between("silence", BinanceConfig::default().silence, secs(1), HOUR);
    // A list takes the venue's own names, a table renames.
    let by_name = s.is_table("symbols").then(|| symbols_by_name(s));
    let symbols: BTreeMap<String, Symbol> = match by_name {
        Some(pairs) => pairs.into_iter().collect(),
        None => {
            let own_names = BinanceConfig::default().symbols.into_values().collect();
            let symbols: Vec<Symbol> = s.value("symbols", own_names);
            symbols.into_iter().map(|symbol| (symbol.to_string(), symbol)).collect()
        }
    };
    if symbols.is_empty() && s.is_sound("symbols") {
        s.problem("symbols", "names nothing to follow, for example [\"BTCUSDT\"] or { BTCUSDT = \"BTC-USDT\" }");
    }
    BinanceConfig { silence, symbols, ..BinanceConfig::of(&url, []) }
}

/// The table from recorded or venue's names to symbols.
fn symbols_by_name(s: &Section<'_>) -> Vec<(String, Symbol)> {
    let read = |(name, text): (String, String)| match Symbol::new(&text) {
        Ok(symbol) => Some((name, symbol)),
        Err(error) => {
            s.problem("symbols", format!("{name} = {text:?}: {error}"));
            None
        }
    };
    s.texts_by_name("symbols").into_iter().filter_map(read).collect()
}

/// UTC time of day at which a CSV of a whole day starts; `None`: at its first tick.
#[derive(Clone, Copy)]
struct CsvStart(Option<Duration>);

impl Setting for CsvStart {
    fn read(node: &Node) -> Result<Self, String> {
        let text = String::read(node)?;
        let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.len() == 2);
        match text.split_once(':').map(|(hours, minutes)| (number(hours), number(minutes))) {
            None if text == "first" => Ok(Self(None)),
            Some((Some(hours @ 0..24), Some(minutes @ 0..60))) => Ok(Self(Some(secs(hours * 3600 + minutes * 60)))),
            _ => Err("is no time of day such as \"12:30\", nor \"first\" for the first tick".to_owned()),
        }
    }

    fn show(&self) -> String {
        self.0.map_or_else(
            || "\"first\"".to_owned(),
            |start| format!("\"{:02}:{:02}\"", start.as_secs() / 3600, start.as_secs() / 60 % 60),
        )
    }
}

impl Setting for Symbol {
    fn read(node: &Node) -> Result<Self, String> {
        Self::new(&String::read(node)?).map_err(|error| format!("is no symbol: {error}"))
    }

    fn show(&self) -> String {
        self.to_string().show()
    }
}

impl Setting for Speed {
    fn read(node: &Node) -> Result<Self, String> {
        let speed = match &node.item {
            Item::Text(text) | Item::Raw(text) => text.parse().ok(),
            _ => f64::read(node).ok().and_then(|times| Self::times(times).ok()),
        };
        speed.ok_or_else(|| "is no speed, expected a number such as 1 or 10, or \"max\"".to_owned())
    }

    fn show(&self) -> String {
        self.factor().map_or_else(|| "\"max\"".to_owned(), |times| times.show())
    }
}

/// The market's own defaults are the ones that hold here.
fn market(s: &Section<'_>) -> MarketConfig {
    let default = MarketConfig::default();
    let million = 1_000_000;
    let lateness = [("reject", OutOfOrder::Reject), ("accept", OutOfOrder::Accept)];
    MarketConfig {
        symbols: symbols(s),
        symbols_max: s.between("symbols_max", default.symbols_max, 1, 100 * million),
        shards: s.between("shards", default.shards, 1, 1_024),
        ring: s.between("ring", default.ring, 1, million),
        ring_age: s.between("ring_age", default.ring_age, millis(100), DAY),
        ring_bytes: s.between("ring_bytes", Size(default.ring_bytes), Size(64 << 10), Size(1 << 40)).0,
        resume_max: s.between("resume_max", default.resume_max, 0, million),
        stale_after: s.between("stale_after", default.stale_after, millis(100), DAY),
        out_of_order: s.choice("out_of_order", default.out_of_order, &lateness),
        ts_ahead_max: s.between("ts_ahead_max", default.ts_ahead_max, Duration::ZERO, 366 * DAY),
        ids_max: s.between("dedupe_ids", default.ids_max, 0, 100 * million),
        ids_age: s.between("dedupe_age", default.ids_age, secs(1), DAY),
        batch_max: s.between("batch_max", default.batch_max, 1, million),
        // There is no other node to wait for in this version.
        owner_timeout: default.owner_timeout,
    }
}

fn symbols(s: &Section<'_>) -> Symbols {
    let open = s.choice("symbols", true, &[("open", true), ("listed", false)]);
    let listed: Vec<Symbol> = s.value("listed", Vec::new());
    if open && s.is_sound("symbols") && !listed.is_empty() {
        s.problem("listed", format!("has no effect while {} is \"open\"; set that to \"listed\"", s.key("symbols")));
    }
    if !open && s.is_sound("listed") && listed.is_empty() {
        s.problem("symbols", format!("is \"listed\", and {} names none", s.key("listed")));
    }
    if open { Symbols::Open } else { Symbols::Listed(listed.into_iter().collect()) }
}

fn delivery(s: &Section<'_>) -> DeliveryConfig {
    let default = WorkersConfig::default();
    DeliveryConfig {
        conflate_after: s.between("conflate_after", default.conflate_after, Duration::ZERO, secs(60)),
        join_deadline: s.between("join_deadline", default.join_timeout, millis(10), secs(60)),
    }
}

fn runtime(s: &Section<'_>) -> RuntimeConfig {
    RuntimeConfig {
        workers: s.auto("workers", 1, 1_024),
        compute_threads: s.between("compute_threads", 1, 1, 64),
        pin: s.value("pin", false),
    }
}

fn log(s: &Section<'_>) -> LogConfig {
    let read_level = |node: &Node| match String::read(node)? {
        text if !text.trim().is_empty() && EnvFilter::try_new(&text).is_ok() => Ok(text),
        _ => {
            Err("is no level: error, warn, info, debug, trace, or for parts \"info,tickwire_market=debug\"".to_owned())
        }
    };
    let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    LogConfig {
        level: s.value_by("level", "info".to_owned(), read_level, String::show),
        format: s.choice("format", LogFormat::Auto, &formats),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_unix_seconds() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2027-01-01T00:00:00+01:00", 1_798_758_000),
            ("\"2027-01-01T00:00:00Z\"", 1_798_761_600),
        ] {
            assert_eq!(unix_seconds(text), Ok(seconds), "{text}");
        }
        for text in ["2027-01-01", "2027-01-01T00:00:00", "soon", "1969-12-31T00:00:00Z"] {
            assert!(unix_seconds(text).is_err(), "{text}");
        }
    }
}
