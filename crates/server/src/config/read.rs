//! From the merged tree to settings: every key, its default, its bounds, and what must hold between keys.

mod auth;
mod channel;
mod feed;
mod limits;
mod market;
mod socket;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::Config;
use super::layers::Node;
use super::reader::Section;
use super::settings::*;
use super::values::Setting;

/// The sections of the file, which are also the names that one variable of the environment may set as a whole.
pub(super) const SECTIONS: [&str; 14] = [
    "node", "listen", "cluster", "auth", "limits", "drain", "demo", "socket", "channel", "feed", "market", "runtime",
    "log", "otel",
];

/// A cluster secret or a token secret: as long as the digest that it keys.
pub(crate) const STRONG_SECRET_BYTES: usize = 32;

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
    let auth = root.section("auth", auth::auth);
    let limits = root.section("limits", limits::limits);
    let drain = root.section("drain", drain);
    let demo = root.section("demo", |s| DemoConfig { enabled: s.value("enabled", false) });
    let sockets = socket::sockets(root);
    let channels = channel::channels(root, auth.anonymous);
    let feeds = feed::feeds(root);
    let (market, delivery) = root.section("market", |s| (market::market(s), market::delivery(s)));
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
        demo,
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
        tls: None,
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
    ListenConfig { tls: s.section("tls", limits::tls), ..listen }
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

fn runtime(s: &Section<'_>) -> RuntimeConfig {
    RuntimeConfig {
        workers: s.auto("workers", 1, 1_024),
        compute_threads: s.between("compute_threads", 1, 1, 64),
        pin: pin(s),
    }
}

fn pin(s: &Section<'_>) -> bool {
    let pin = s.value("pin", false);
    if pin && !cfg!(target_os = "linux") {
        s.problem("pin", "threads can be kept to a core on Linux only; leave it false here");
    }
    pin
}

fn log(s: &Section<'_>) -> LogConfig {
    let read_level = |node: &Node| match String::read(node)? {
        text if is_level(&text) => Ok(text),
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

/// Whether a text says what to log. A bare word that is no level would be the name of a part, and silence all others.
fn is_level(text: &str) -> bool {
    let is_directive =
        |part: &str| part.contains('=') || part.trim().parse::<tracing::level_filters::LevelFilter>().is_ok();
    !text.trim().is_empty() && text.split(',').all(is_directive) && EnvFilter::try_new(text).is_ok()
}
