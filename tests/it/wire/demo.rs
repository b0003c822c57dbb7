//! The channel that can be made to do anything, at `/socket`: of the real binary with `config/demo.toml`, or of a server of the library's
//! public API alone, where a test looks inside or wants limits of its own.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::Deserialize;
use tickwire_channels::{
    Context, Endpoint, Flow, JoinRequest, Joined, Joining, Kind, MountLimits, Payload, Refusal, Router, SocketInfo,
    Workers, WorkersConfig,
    handshake::{AuthToken, Protocols},
    listen,
    websocket::Limits,
};
use tickwire_pubsub::{LoneNode, NodeId, PubSub};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_util::task::TaskTracker;

use super::{client::Raw, playground::Playground};

/// A server that ends with the test.
pub(super) struct Demo {
    pub(super) address: SocketAddr,
    backend: Backend,
}

enum Backend {
    Binary { _process: Box<Playground> },
    Library { workers: Workers, runtime: Runtime },
}

/// The limits that Phoenix has, and none on the rate: some tests send thousands of messages at once.
pub(super) fn limits() -> MountLimits {
    MountLimits {
        idle_timeout: Duration::from_secs(60),
        websocket: Limits { frame_max: 10_000_000, message_max: 8_000_000 },
        channels_max: 1_000,
        messages_per_second: None,
    }
}

impl Demo {
    /// The real binary.
    pub(super) fn start() -> Self {
        let process = Playground::start();
        Self { address: process.address, backend: Backend::Binary { _process: Box::new(process) } }
    }

    /// The library, with the same limits.
    pub(super) fn library() -> Self {
        Self::with(limits())
    }

    pub(super) fn with(limits: MountLimits) -> Self {
        Self::of(Endpoint::new("/socket").limits(limits))
    }

    /// One that compresses for clients that offer it.
    pub(super) fn compressing(limits: MountLimits) -> Self {
        Self::of(Endpoint::new("/socket").limits(limits).compress(true))
    }

    /// One that takes tokens as subprotocols.
    pub(super) fn with_tokens() -> Self {
        Self::of(Endpoint::new("/socket").protocols(Protocols { auth_token: true, own: Vec::new() }))
    }

    fn of(endpoint: Endpoint) -> Self {
        // Two workers, so that what goes from one socket to another crosses threads.
        let config = WorkersConfig { workers: 2, ..WorkersConfig::default() };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let pubsub = PubSub::new(Arc::new(LoneNode::new(NodeId::new("demo", 1))));
        let workers = Workers::start(config, router(), &pubsub, runtime.handle(), &TaskTracker::new()).unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = listen(listener, endpoint.connect(connect), workers.clone());
        TaskTracker::new().spawn_on(serving, runtime.handle());
        Self { address, backend: Backend::Library { workers, runtime } }
    }

    /// The library's workers.
    #[track_caller]
    pub(super) fn workers(&self) -> &Workers {
        match &self.backend {
            Backend::Library { workers, .. } => workers,
            Backend::Binary { .. } => panic!("nobody looks into a process"),
        }
    }

    /// The library's runtime.
    #[track_caller]
    pub(super) fn runtime(&self) -> &Runtime {
        match &self.backend {
            Backend::Library { runtime, .. } => runtime,
            Backend::Binary { .. } => panic!("nobody looks into a process"),
        }
    }

    #[track_caller]
    pub(super) fn v2(&self) -> Raw {
        Raw::v2(self.address)
    }

    #[track_caller]
    pub(super) fn v1(&self) -> Raw {
        Raw::v1(self.address)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if let Backend::Library { workers, .. } = &self.backend {
            workers.shutdown();
        }
    }
}

fn connect(mut info: SocketInfo, token: Option<AuthToken>) -> Option<SocketInfo> {
    match tickwire_demo::connect(&info.params) {
        tickwire_demo::Connect::Refuse => return None,
        tickwire_demo::Connect::Accept { id } => info.id = id,
    }
    info.assigns = Arc::new(token);
    Some(info)
}

fn token_of(socket: &SocketInfo) -> Option<&str> {
    socket.assigned::<Option<AuthToken>>()?.as_ref().map(AuthToken::expose)
}

/// The demo's topics, with joins that are decided later and refused at will, and what of the library they do not touch: broadcasts under any
/// name, on `as:*`.
fn router() -> Router {
    let demo = tickwire_demo::routes(Router::new(), token_of);
    let delayed = Delayed(Arc::clone(demo.find("room:").unwrap()));
    let router = Router::new().on("as:*", |_: JoinRequest| Joining::from(Joined::new(shout_as))).unwrap();
    tickwire_demo::routes(router.on("room:*", delayed).unwrap(), token_of)
}

/// Joins of the demo channel that take time.
struct Delayed(Arc<dyn Kind>);

#[derive(Deserialize, Default)]
struct JoinParams {
    #[serde(default)]
    refuse: bool,
}

impl Kind for Delayed {
    fn join(&self, request: JoinRequest) -> Joining {
        if request.parse::<JoinParams>().unwrap_or_default().refuse {
            return Refusal::reason("as you wish").into();
        }
        match request.topic.as_str() {
            "room:crash_join_later" => Joining::later(async { panic!("the join crashes later") }),
            "room:later" => {
                let inner = Arc::clone(&self.0);
                Joining::later(async move {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    match inner.join(request) {
                        Joining::Ready(decision) => decision,
                        Joining::Pending(decision) => decision.await,
                    }
                })
            }
            _ => self.0.join(request),
        }
    }
}

fn shout_as(event: &str, _: &Payload, context: &mut Context<'_>) -> Flow {
    context.broadcast(event, Payload::Binary(Bytes::from_static(b"shouted"))).unwrap();
    Flow::Continue
}
