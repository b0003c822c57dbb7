//! A server of the library's public API alone, with a channel that can be made to do anything.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tickwire_channels::{
    Channel, Context, Endpoint, Flow, JoinRequest, Joined, Joining, MountLimits, Payload, Refusal, Router, SocketInfo,
    Status, Stop, Workers, WorkersConfig, handshake::AuthToken, listen, websocket::Limits,
};
use tickwire_pubsub::{LoneNode, NodeId, PubSub};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_util::task::TaskTracker;

use super::client::Raw;

/// A server that ends with the test.
pub(super) struct Demo {
    pub(super) address: SocketAddr,
    pub(super) workers: Workers,
    pub(super) runtime: Runtime,
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
    pub(super) fn start() -> Self {
        Self::with(limits())
    }

    pub(super) fn with(limits: MountLimits) -> Self {
        Self::of(Endpoint::new("/socket").limits(limits))
    }

    /// One that compresses for clients that offer it.
    pub(super) fn compressing(limits: MountLimits) -> Self {
        Self::of(Endpoint::new("/socket").limits(limits).compress(true))
    }

    fn of(endpoint: Endpoint) -> Self {
        // Two workers, so that what goes from one socket to another crosses threads.
        let config = WorkersConfig { workers: 2, ..WorkersConfig::default() };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let pubsub = PubSub::new(Arc::new(LoneNode::new(NodeId::new("demo", 1))));
        let router = Router::new().on("room:*", join).unwrap().on("lobby", join).unwrap();
        let workers = Workers::start(config, router, &pubsub, runtime.handle(), &TaskTracker::new()).unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = listen(listener, endpoint.connect(connect), workers.clone());
        TaskTracker::new().spawn_on(serving, runtime.handle());
        Self { address, workers, runtime }
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
        self.workers.shutdown();
    }
}

fn connect(mut info: SocketInfo, _token: Option<AuthToken>) -> Option<SocketInfo> {
    if info.params.get("reject").is_some() {
        return None;
    }
    info.id = info.params.get("socket_id").map(|id| format!("users_socket:{id}"));
    Some(info)
}

/// What a join may ask for.
#[derive(Deserialize, Default)]
struct JoinParams {
    #[serde(default)]
    echo_params: bool,
    #[serde(default)]
    push_on_join: bool,
    #[serde(default)]
    refuse: bool,
}

fn join(request: JoinRequest) -> Joining {
    match request.topic.as_str() {
        "room:forbidden" => return Refusal::reason("unauthorized").into(),
        "room:crash_join" => panic!("the join crashes"),
        "room:crash_join_later" => return Joining::later(async { panic!("the join crashes later") }),
        "room:later" => {
            return Joining::later(async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(Joined::new(Playground))
            });
        }
        _ => {}
    }
    // Parameters of another shape, or raw bytes, ask for nothing.
    let asked: JoinParams = request.parse().unwrap_or_default();
    if asked.refuse {
        return Refusal::reason("as you wish").into();
    }
    let mut joined = Joined::new(Playground);
    if asked.echo_params {
        let reply = [b"{\"params\":", request.params.bytes().as_ref(), b"}"].concat();
        joined = joined.reply(Payload::Json(reply.into()));
    }
    if asked.push_on_join {
        joined = joined.push("hello", Payload::empty());
    }
    joined.into()
}

struct Playground;

impl Channel for Playground {
    fn handle(&mut self, event: &str, payload: &Payload, context: &mut Context<'_>) -> Flow {
        match event {
            "echo" | "binary_echo" => context.reply(Status::Ok, payload.clone()),
            "echo_error" | "binary_error" => context.reply(Status::Error, payload.clone()),
            "reply_status_only" => context.reply(Status::Ok, Payload::empty()),
            "late_reply" => {
                let payload = payload.clone();
                context.defer(async move {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    (Status::Ok, payload)
                });
            }
            "push_me" => context.push("pushed", payload.clone()),
            "shout" | "binary_shout" => context.broadcast(event, payload.clone()).unwrap(),
            "shout_from" => context.broadcast_from(event, payload.clone()).unwrap(),
            "shout_reply" => {
                context.broadcast("shout", payload.clone()).unwrap();
                context.reply(Status::Ok, Payload::empty());
            }
            "push_n" | "shout_n" => {
                for i in 0..number(payload) {
                    let payload = json_payload(&json!({"i": i}));
                    match event {
                        "push_n" => context.push("seq", payload),
                        _ => context.broadcast("seq", payload).unwrap(),
                    }
                }
                context.reply(Status::Ok, Payload::empty());
            }
            "binary_push" => context.push("binary_pushed", payload.clone()),
            "binary_out" => {
                let asked: Value = serde_json::from_slice(payload.bytes()).unwrap();
                let byte = u8::try_from(asked["b"].as_u64().unwrap()).unwrap();
                let data = vec![byte; usize::try_from(number(payload)).unwrap()];
                context.push(asked["event"].as_str().unwrap_or("binary_pushed"), Payload::Binary(data.into()));
                context.reply(Status::Ok, Payload::empty());
            }
            "binary_shout_as" => {
                let asked: Value = serde_json::from_slice(payload.bytes()).unwrap();
                let data = Payload::Binary(Bytes::from_static(b"shouted"));
                context.broadcast(asked["event"].as_str().unwrap(), data).unwrap();
            }
            "crash" => panic!("the channel crashes"),
            "stop" => {
                context.reply(Status::Ok, payload.clone());
                return Flow::Stop(Stop::Normal);
            }
            "stop_noreply" => return Flow::Stop(Stop::Normal),
            "stop_shutdown" => return Flow::Stop(Stop::Shutdown),
            "stop_reason" => return Flow::Stop(Stop::Failed("as it was told".to_owned())),
            "connect_info" => {
                let params: serde_json::Map<_, _> =
                    context.socket().params.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
                context.reply(Status::Ok, json_payload(&json!({"auth_token": null, "params": params})));
            }
            // `noreply`, and whatever nobody has heard of.
            _ => {}
        }
        Flow::Continue
    }
}

fn json_payload(value: &Value) -> Payload {
    Payload::Json(Bytes::from(value.to_string()))
}

fn number(payload: &Payload) -> u64 {
    serde_json::from_slice::<Value>(payload.bytes()).unwrap()["n"].as_u64().unwrap()
}
