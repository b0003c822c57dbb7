//! Everything that a node is made of, wired.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ::metrics::gauge;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tickwire_channels::Workers;
use tickwire_faults::{Unit, point};
use tickwire_market::{
    Clock, Market, MarketSeams, Moment,
    bars::{Bars, BarsWorkers},
    feed::FeedState,
};
use tickwire_pubsub::{LoneNode, NodeId, PubSub};
use tokio_util::sync::CancellationToken;

use crate::{
    admin,
    auth::{Auth, keep_keys},
    config::{AuthConfig, Config, DevKey, DevPort, DrainConfig, ListenConfig, Sources},
    feeds::RunningFeeds,
    follow::Following,
    grpc, http,
    idempotency::Idempotency,
    layout::Layout,
    lifecycle::{Check, Failed, Health, Stop, Tasks},
    listener::{self, BindError, Door, Port},
    live::Live,
    metrics, reload, settings, telemetry,
    tls::{IdentityError, Tls},
    topics::room::{RoomBounds, Rooms},
};

/// A node could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A port cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system has no randomness to make keys of.
    #[error("the system gives no random bytes, without which no key can be made")]
    Randomness,
    /// The system has no thread or poll left to give.
    #[error("cannot start {what}: {cause}")]
    Threads {
        /// What the threads are for.
        what: &'static str,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The certificate of the public ports cannot be served.
    #[error("listen.tls.{}: {}", .0.setting(), .0)]
    Tls(#[from] IdentityError),
    /// A pattern of the configuration is none.
    #[error("channel: {0}")]
    Pattern(#[from] tickwire_channels::BadPattern),
}

/// Where a node listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Sockets, HTTP API, page.
    pub http: SocketAddr,
    /// gRPC API.
    pub grpc: SocketAddr,
    /// Health, metrics, administration.
    pub admin: SocketAddr,
}

/// The parts of a node, as endpoints see them.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    live: ArcSwap<Live>,
    pub(crate) pubsub: PubSub,
    /// Event streams and gRPC subscriptions.
    pub(crate) following: Following,
    pub(crate) market: Market,
    pub(crate) bars: Bars,
    pub(crate) workers: Workers,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) idempotency: Idempotency,
    pub(crate) session_tokens: http::longpoll::SessionTokens,
    pub(crate) health: Health,
    pub(crate) stop: Stop,
    pub(crate) door: Arc<Door>,
    /// The certificate of the public ports, if they speak TLS.
    pub(crate) tls: Option<Arc<Tls>>,
    /// What accepts new connections and new work; ends first.
    pub(crate) accepting: Tasks,
    /// Feeds and what keeps the node's state in order; ends last.
    pub(crate) inner: Tasks,
    pub(crate) started: Instant,
    pub(crate) feeds: RunningFeeds,
    /// What stands in for the API keys that nobody has configured.
    development: Option<DevKey>,
    bars_workers: Mutex<Option<BarsWorkers>>,
}

impl Node {
    /// What is in force now. To be taken once for each request, which then sees one consistent state.
    pub(crate) fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Is cancelled when streams of calls are to end.
    pub(crate) fn streams_cancelled(&self) -> CancellationToken {
        self.accepting.cancelled().clone()
    }

    /// Puts another state in force.
    pub(crate) fn replace_live(&self, live: Live) {
        self.live.store(Arc::new(live));
    }

    /// Who may do what by a configuration, with the node's development key where that stands in for others.
    pub(crate) fn with_development_key(&self, config: &Config) -> AuthConfig {
        accepting(config, self.development.as_ref())
    }

    /// Every check of readiness, in a stable order.
    pub(crate) fn checks(&self) -> Vec<Check> {
        let mut checks = self.health.checks();
        checks.push(Check::new(
            "workers",
            (!self.workers.is_healthy()).then(|| "a socket worker has ended or crashes again and again".to_owned()),
        ));
        let crashing = |healthy: bool| (!healthy).then(|| "crashes again and again".to_owned());
        checks.push(Check::new("market", crashing(self.market.is_healthy())));
        checks.push(Check::new("bars", crashing(self.bars.is_healthy())));
        let live = self.live();
        let cluster = &live.config.cluster;
        let missing = cluster.expect.filter(|expected| cluster.require && *expected > 1);
        checks.push(Check::new("cluster", missing.map(|expected| format!("{expected} nodes expected, 1 seen"))));
        if live.auth.has_url() {
            // Tokens of other keys, API keys and strangers are served all the same.
            checks.push(Check::new("token keys", None).noting(live.auth.note()));
        }
        for feed in self.feeds.status() {
            let gave_up = || feed.last_error.clone().unwrap_or_else(|| "given up".to_owned());
            let check = Check::new(format!("feed {}", feed.name), (feed.state == FeedState::Failed).then(gave_up));
            // Its venue may be back at any moment: no reason to send clients elsewhere, where it is down as well.
            let silent = matches!(feed.state, FeedState::Reconnecting | FeedState::Restarting);
            let why = feed.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            checks.push(check.noting(silent.then(|| format!("{}{why}", feed.state.name()))));
        }
        checks
    }
}

/// A node: built and bound, not yet serving.
#[derive(Debug)]
pub struct App {
    node: Arc<Node>,
    addresses: Addresses,
    ports: Vec<Port>,
    root: Tasks,
    sources: Option<Sources>,
}

impl App {
    /// Builds every part and binds every port. Connections wait in the system's queue until [`run`](Self::run). Must be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// If a port cannot be bound, or keys cannot be used.
    pub fn build(config: Config) -> Result<Self, BuildError> {
        let started = Instant::now();
        telemetry::recorder();
        let http = listener::bind("listen.http", config.listen.http)?;
        let grpc = listener::bind("listen.grpc", config.listen.grpc)?;
        let admin = listener::bind("listen.admin", config.listen.admin)?;
        let addresses = Addresses {
            http: listener::address_of("listen.http", config.listen.http, &http)?,
            grpc: listener::address_of("listen.grpc", config.listen.grpc, &grpc)?,
            admin: listener::address_of("listen.admin", config.listen.admin, &admin)?,
        };
        let development = development_key(&config, &addresses);
        let root = Tasks::new();
        let node = Arc::new(build_node(config, development, &root, started)?);
        let (following, cancelled) = (node.following.clone(), node.accepting.cancelled().clone());
        node.accepting.spawn("streams", async move {
            cancelled.cancelled().await;
            following.end();
        });
        let live = node.live();
        let limits = &live.config.limits;
        let port = |name, listener, router| Port {
            name,
            listener,
            router,
            door: (name != "admin").then(|| Arc::clone(&node.door)),
            tls: node.tls.clone().filter(|_| name != "admin"),
            header_timeout: limits.header_timeout,
            keep_alive_timeout: limits.keep_alive_timeout,
            http2_only: name == "grpc",
            sockets: (name == "http" && node.tls.is_none()).then(|| Arc::clone(&node)),
            doorstep: tokio::sync::Mutex::default(),
        };
        let ports = vec![
            port("http", http, http::router(&node)),
            port("grpc", grpc, grpc::router(&node)),
            port("admin", admin, admin::router(&node)),
        ];
        Ok(Self { node, addresses, ports, root, sources: None })
    }

    /// Reads its configuration from here when it is asked to [reload](Stop::request_reload) it. Without this, it ignores such requests.
    #[must_use]
    pub fn reloads_from(self, sources: Sources) -> Self {
        Self { sources: Some(sources), ..self }
    }

    /// Where it listens: the ports that the system chose where the configuration says 0.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Its parts.
    #[cfg(test)]
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Asks the node to end, from wherever it is cloned to.
    #[must_use]
    pub fn stop_handle(&self) -> Stop {
        self.node.stop.clone()
    }

    /// Serves until it is asked to end, then drains: unready, a pause, sockets closed in a spread, everything else ended, all of it
    /// within the deadline.
    ///
    /// # Errors
    /// If it ended because a part of it could not be kept running.
    pub async fn run(self) -> Result<(), Failed> {
        let Self { node, addresses, ports, root, sources } = self;
        let admin_tasks = root.branch();
        for port in ports {
            let tasks = if port.name == "admin" { admin_tasks.clone() } else { node.accepting.clone() };
            let (port, branch) = (Arc::new(port), tasks.clone());
            tasks.supervise("accept loop", &node.stop, move || listener::serve(Arc::clone(&port), branch.clone()));
        }
        start_housekeeping(&node);
        let feeds = node.live().config.feeds.clone();
        node.feeds.replace(&feeds).await;
        if let Some(sources) = sources {
            let keeper = Arc::clone(&node);
            node.inner.supervise("reload", &node.stop, move || reload::obey(Arc::clone(&keeper), sources.clone()));
        }
        node.health.set_started();
        let took = node.started.elapsed();
        tracing::info!(node = %node.id, http = %addresses.http, grpc = %addresses.grpc, admin = %addresses.admin, ?took, "ready");
        node.stop.drained().await;
        drain(&node, &admin_tasks, &root).await;
        if node.development.is_some() {
            let ports = dev_ports(&node.live().config.listen, &addresses);
            // Nobody will find a key by a port that no server has again on purpose.
            forget_development(&ports.iter().filter(|port| port.chosen).map(|port| port.port).collect::<Vec<_>>());
        }
        node.stop.outcome()
    }
}

fn dev_ports(listen: &ListenConfig, addresses: &Addresses) -> [DevPort; 3] {
    [(listen.http, addresses.http), (listen.grpc, addresses.grpc), (listen.admin, addresses.admin)]
        .map(|(wanted, bound)| DevPort { port: bound.port(), chosen: wanted.port() == 0 })
}

fn forget_development(ports: &[u16]) {
    if let Err(error) = DevKey::forget(ports) {
        tracing::debug!(%error, "an old development key cannot be removed");
    }
}

/// On loopback with no key configured, whoever can read this user's files may publish and administer. A node whose system has no place
/// for such a file serves readers all the same.
fn development_key(config: &Config, addresses: &Addresses) -> Option<DevKey> {
    let ports = dev_ports(&config.listen, addresses);
    if !DevKey::is_wanted(config) {
        // Those of a server that had these ports before would be offered to this one, and refused.
        forget_development(&ports.map(|port| port.port));
        return None;
    }
    match DevKey::create(&ports) {
        Ok(key) => {
            let file = DevKey::path(ports[0].port);
            tracing::info!(file = %file.display(), "no API key is configured: a development key is in this file, where the command line finds it");
            Some(key)
        }
        Err(error) => {
            tracing::warn!(%error, "no API key is configured and no development key can be kept: nobody may publish until there is an [[auth.key]]");
            None
        }
    }
}

/// Who may do what by a configuration.
fn accepting(config: &Config, development: Option<&DevKey>) -> AuthConfig {
    let mut auth = config.auth.clone();
    if let Some(key) = development.filter(|_| DevKey::is_wanted(config)) {
        key.allow(&mut auth);
    }
    auth
}

fn build_node(config: Config, development: Option<DevKey>, root: &Tasks, started: Instant) -> Result<Node, BuildError> {
    let id = NodeId::new(&config.node.id, Moment::now().unix_us.unsigned_abs());
    let lone = Arc::new(LoneNode::new(id.clone()));
    count_members(config.cluster.expect);
    let session_tokens = http::longpoll::SessionTokens::random(id.clone()).ok_or(BuildError::Randomness)?;
    let pubsub = PubSub::new(lone.clone());
    let auth = Arc::new(Auth::new(&accepting(&config, development.as_ref())));
    let layout = Layout::of(&config.runtime);
    layout.report(tokio::runtime::Handle::current().metrics().num_workers());
    let (bars, bars_workers) =
        Bars::start(&settings::bars(&layout)).map_err(|cause| BuildError::Threads { what: "the bars", cause })?;
    let seams = MarketSeams {
        members: lone.clone(),
        peers: lone,
        pubsub: pubsub.clone(),
        clock: Clock::system(),
        tap: Some(Arc::new(bars.clone())),
    };
    let market = Market::new(config.market.clone(), seams);
    let rooms = Arc::new(Rooms::new(pubsub.clone(), &id, RoomBounds::default()));
    let live = Live::new(config, auth);
    let config = &live.config;
    let router = live.router(&market, &rooms)?;
    let inner = root.branch();
    let feeds = RunningFeeds::new(settings::MarketSink(market.clone()), inner.branch());
    let tls = config.listen.tls.clone().map(Tls::new).transpose()?.map(Arc::new);
    let door = Arc::new(Door::new(config.limits.connections_for(settings::open_files()), &config.limits));
    let mut workers = settings::workers(config, &layout);
    let limiting = Arc::clone(&door);
    workers.join_limit = Some(Arc::new(move |socket, now| limiting.admission.join(socket, now)));
    let workers = Workers::start(workers, router, &pubsub, &tokio::runtime::Handle::current(), inner.tracker())
        .map_err(|cause| BuildError::Threads { what: "the socket workers", cause })?;
    // As many desks as threads serve them.
    let following = Following::new(&pubsub, tokio::runtime::Handle::current().metrics().num_workers());
    Ok(Node {
        id,
        following,
        pubsub,
        market,
        bars,
        bars_workers: Mutex::new(Some(bars_workers)),
        workers,
        rooms,
        idempotency: Idempotency::default(),
        session_tokens,
        health: Health::default(),
        stop: Stop::default(),
        door,
        tls,
        accepting: root.branch(),
        inner,
        started,
        feeds,
        development,
        live: ArcSwap::from_pointee(live),
    })
}

/// A lone node sees itself. Fewer nodes than there should be are said, and can be watched.
fn count_members(expected: Option<u32>) {
    gauge!(metrics::MEMBERS, "state" => "alive").set(1.0);
    if let Some(expected) = expected {
        gauge!(metrics::MEMBERS, "state" => "missing").set(f64::from(expected.saturating_sub(1)));
        if expected > 1 {
            tracing::warn!(expected, seen = 1, "there are fewer nodes than cluster.expect names");
        }
    }
}

fn start_housekeeping(node: &Arc<Node>) {
    const UPKEEP: Duration = Duration::from_secs(5);
    let (market, cancel) = (node.market.clone(), node.inner.cancelled().clone());
    node.inner.supervise("market sweep", &node.stop, move || market.clone().run(cancel.clone()));
    let keeper = Arc::clone(node);
    node.inner.supervise("token keys", &node.stop, move || {
        let node = Arc::clone(&keeper);
        let cancel = node.inner.cancelled().clone();
        keep_keys(move || Arc::clone(&node.live().auth), cancel)
    });
    let keeper = Arc::clone(node);
    node.inner.supervise("housekeeping", &node.stop, move || keep_house(Arc::clone(&keeper), UPKEEP));
    if let Some(tls) = node.tls.clone() {
        let cancel = node.inner.cancelled().clone();
        node.inner.supervise("certificate", &node.stop, move || Arc::clone(&tls).watch(UPKEEP, cancel.clone()));
    }
}

async fn keep_house(node: Arc<Node>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while node.inner.cancelled().run_until_cancelled(ticks.tick()).await.is_some() {
        point(Unit::Upkeep, || "housekeeping");
        // Histograms keep each observation until they are drained.
        telemetry::recorder().run_upkeep();
        node.rooms.sweep(Instant::now());
        node.idempotency.sweep(Instant::now());
    }
}

async fn drain(node: &Arc<Node>, admin: &Tasks, root: &Tasks) {
    let DrainConfig { delay, spread, deadline } = node.live().config.drain;
    let sockets = node.workers.connections();
    tracing::info!(sockets, ?delay, ?spread, "draining");
    node.health.set_draining();
    tokio::select! {
        () = drain_in_order(node, delay, spread) => {}
        () = tokio::time::sleep(deadline) => tracing::warn!(?deadline, "the drain has reached its deadline"),
        () = node.stop.at_once() => tracing::warn!("the drain is cut short"),
    }
    // Threads wait for nobody, and what is left of the tasks holds nothing that is worth waiting for.
    let (workers, bars) = (node.workers.clone(), node.bars_workers.lock().take());
    let joined = tokio::task::spawn_blocking(move || {
        workers.shutdown();
        drop(bars);
    });
    let _ = tokio::time::timeout(Duration::from_secs(5), joined).await;
    let _ = tokio::time::timeout(Duration::from_secs(1), async {
        admin.end().await;
        root.end().await;
    })
    .await;
    tracing::info!("ended");
}

async fn drain_in_order(node: &Arc<Node>, delay: Duration, spread: Duration) {
    /// Requests under way may take so long beyond the spread; a client that stopped reading would hold up the end.
    const LAST_REQUESTS: Duration = Duration::from_secs(10);
    tokio::time::sleep(delay).await;
    // Both at once: a stream has nothing to wait for while sockets are being closed.
    let requests = tokio::time::timeout(spread + LAST_REQUESTS, node.accepting.end());
    let ((), requests) = tokio::join!(node.workers.drain(spread), requests);
    if requests.is_err() {
        tracing::warn!("requests are cut off that did not end in time");
    }
    node.feeds.end().await;
    node.inner.end().await;
}
