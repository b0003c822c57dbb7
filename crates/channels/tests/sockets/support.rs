//! A server with channels that can be made to do anything, and a client that shows every byte.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tickwire_channels::{
    Channel, Context, Endpoint, Flow, JoinRequest, Joined, Joining, Left, MountLimits, Payload, Refusal, Router,
    Status, Stop, Workers, WorkersConfig,
    websocket::{Opcode, write_masked_frame},
};
use tickwire_pubsub::{Broadcast, Epoch, LoneNode, NodeId, PubSub, Role, Stamp, Topic};
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    sync::{Semaphore, SemaphorePermit},
};
use tokio_util::task::TaskTracker;

/// What panics say that come by the thousand.
const QUIET: &str = "told to panic, again";

/// Keeps these panics out of the output of the tests.
pub(crate) fn hush() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload_as_str() != Some(QUIET) {
                told(info);
            }
        }));
    });
}

/// Longer than anything takes that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) workers: Workers,
    pub(crate) pubsub: PubSub,
    /// A permit lets one join of a `room:slow…` through.
    pub(crate) gate: Arc<Semaphore>,
    /// How many channels have been told that they ended.
    pub(crate) left: Arc<AtomicUsize>,
    pub(crate) runtime: Runtime,
    /// Futures of joins and of answers that are under way.
    pub(crate) tasks: TaskTracker,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(WorkersConfig { workers: 2, ..WorkersConfig::default() }, MountLimits::default())
    }

    pub(crate) fn with(config: WorkersConfig, limits: MountLimits) -> Self {
        Self::with_endpoint(config, Endpoint::new("/socket").limits(limits))
    }

    pub(crate) fn with_endpoint(config: WorkersConfig, endpoint: Endpoint) -> Self {
        let runtime = Runtime::new().unwrap();
        let pubsub = PubSub::new(Arc::new(LoneNode::new(NodeId::new("test", 1))));
        let (gate, left) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let router = router(&gate, &left);
        let tasks = TaskTracker::new();
        let workers = Workers::start(config, router, &pubsub, runtime.handle(), &tasks).unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let listening = tickwire_channels::listen(listener, endpoint, workers.clone());
        #[expect(clippy::let_underscore_future, reason = "it ends with the runtime")]
        let _ = runtime.spawn(listening);
        Self { address, workers, pubsub, gate, left, runtime, tasks }
    }

    pub(crate) fn v2(&self) -> Client {
        Client::connect(self.address, "vsn=2.0.0")
    }

    pub(crate) fn v1(&self) -> Client {
        Client::connect(self.address, "vsn=1.0.0")
    }

    /// Publishes an update of a ticker, with the sequence number as its payload.
    pub(crate) fn update(&self, topic: &str, seq: u64) {
        self.pubsub.broadcast(&[update(topic, seq)]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.workers.shutdown();
    }
}

pub(crate) fn stamp(seq: u64) -> Stamp {
    Stamp { epoch: Epoch { clock: 7, incarnation: 1, node: 1 }, seq }
}

pub(crate) fn update(topic: &str, seq: u64) -> Arc<Broadcast> {
    let payload = Payload::Json(format!("{{\"seq\":{seq}}}").into());
    let topic = Topic::new(topic).unwrap();
    Arc::new(Broadcast::latest(topic, "update".into(), payload, Role::Update, stamp(seq), Instant::now()))
}

pub(crate) fn status(topic: &str, seq: u64, state: &str) -> Arc<Broadcast> {
    let payload = Payload::Json(format!("{{\"state\":\"{state}\"}}").into());
    let topic = Topic::new(topic).unwrap();
    Arc::new(Broadcast::latest(topic, "status".into(), payload, Role::Status, stamp(seq), Instant::now()))
}

fn router(gate: &Arc<Semaphore>, left: &Arc<AtomicUsize>) -> Router {
    let (gate, left) = (Arc::clone(gate), Arc::clone(left));
    let room = move |request: JoinRequest| join_room(&request, &gate, &left);
    let room = Arc::new(room);
    Router::new()
        .common(Arc::new(crate::renewal::Renewals))
        .route("room:*".parse().unwrap(), room.clone())
        .route("lobby".parse().unwrap(), room)
        .on("ticker:*", join_ticker)
        .unwrap()
}

/// Joins with `{"floor": N, "min_interval_ms": M}`, both optional.
fn join_ticker(request: JoinRequest) -> Joining {
    let params: serde_json::Value = request.parse().unwrap();
    let mut joined = Joined::new(|_: &str, _: &Payload, _: &mut Context<'_>| Flow::Continue);
    if let Some(floor) = params["floor"].as_u64() {
        joined = joined.floor(stamp(floor));
    }
    if let Some(interval) = params["min_interval_ms"].as_u64() {
        joined = joined.min_interval(Duration::from_millis(interval));
    }
    joined.into()
}

fn join_room(request: &JoinRequest, gate: &Arc<Semaphore>, left: &Arc<AtomicUsize>) -> Joining {
    let room = Room { left: Arc::clone(left) };
    match request.topic.as_str() {
        "room:forbidden" => Refusal::reason("unauthorized").into(),
        "room:crash_join" => panic!("the join crashes"),
        "room:crash_later" => Joining::later(async { panic!("{QUIET}") }),
        "room:never" => Joining::later(std::future::pending()),
        "room:block" => {
            // Takes one permit to say that the worker is held up, and waits for another to let it go on.
            for _ in 0..2 {
                while gate.try_acquire().map(SemaphorePermit::forget).is_err() {
                    std::thread::yield_now();
                }
            }
            Joined::new(room).into()
        }
        "room:hello" => {
            request.handle.push("pushed_during_join", Payload::empty()).unwrap();
            Joined::new(room).push("hello", Payload::empty()).into()
        }
        topic if topic.starts_with("room:slow") => {
            let (gate, refuse) = (Arc::clone(gate), topic.ends_with("refused"));
            Joining::later(async move {
                gate.acquire().await.unwrap().forget();
                if refuse { Err(Refusal::reason("no")) } else { Ok(Joined::new(room)) }
            })
        }
        _ => Joined::new(room).reply(request.params.clone()).into(),
    }
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("told to panic when dropped");
    }
}

struct Room {
    left: Arc<AtomicUsize>,
}

impl Channel for Room {
    fn handle(&mut self, event: &str, payload: &Payload, context: &mut Context<'_>) -> Flow {
        match event {
            "echo" => context.reply(Status::Ok, payload.clone()),
            "echo_error" => context.reply(Status::Error, payload.clone()),
            "late_reply" => {
                let payload = payload.clone();
                context.defer(async move { (Status::Ok, payload) });
            }
            "late_crash" => context.defer(async { panic!("{QUIET}") }),
            "from_task" => {
                let (handle, reply) = (context.handle().clone(), context.reply_later());
                std::thread::spawn(move || {
                    handle.broadcast("shouted", Payload::empty()).unwrap();
                    handle.push("pushed", Payload::empty()).unwrap();
                    reply.send(Status::Ok, Payload::empty()).unwrap();
                });
            }
            "task_crash" => {
                let handle = context.handle().clone();
                std::thread::spawn(move || {
                    handle.push("pushed", Payload::empty()).unwrap();
                    panic!("{QUIET}");
                });
            }
            "push_me" => context.push("pushed", payload.clone()),
            "shout" => context.broadcast(event, payload.clone()).unwrap(),
            "shout_from" => context.broadcast_from(event, payload.clone()).unwrap(),
            "shout_reply" => {
                context.broadcast("shout", payload.clone()).unwrap();
                context.reply(Status::Ok, Payload::empty());
            }
            "shout_n" => {
                for i in 0..number(payload) {
                    context.broadcast("seq", Payload::Json(format!("{{\"i\":{i}}}").into())).unwrap();
                }
                context.reply(Status::Ok, Payload::empty());
            }
            "binary_out" => {
                let bytes = vec![7; usize::try_from(number(payload)).unwrap()];
                context.push(&"e".repeat(300), Payload::Binary(bytes.into()));
            }
            "crash" => {
                context.push("before_the_crash", Payload::empty());
                context.reply(Status::Ok, Payload::empty());
                panic!("the channel crashes");
            }
            "late_crash_in_drop" => {
                let bomb = Bomb;
                context.defer(async move {
                    let _bomb = bomb;
                    (Status::Ok, Payload::empty())
                });
            }
            "crash_in_drop" => {
                let bomb = Bomb;
                context.defer(async move {
                    drop(bomb);
                    (Status::Ok, Payload::empty())
                });
                return Flow::Stop(Stop::Failed("its deferred answer is dropped, which panics".to_owned()));
            }
            "stop" => {
                context.reply(Status::Ok, payload.clone());
                return Flow::Stop(Stop::Normal);
            }
            "stop_noreply" => return Flow::Stop(Stop::Normal),
            "stop_shutdown" => return Flow::Stop(Stop::Shutdown),
            "stop_reason" => {
                context.reply(Status::Ok, Payload::empty());
                return Flow::Stop(Stop::Failed("as it was told".to_owned()));
            }
            _ => {}
        }
        Flow::Continue
    }

    fn left(&mut self, _reason: Left) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }
}

fn number(payload: &Payload) -> u64 {
    serde_json::from_slice::<serde_json::Value>(payload.bytes()).unwrap()["n"].as_u64().unwrap()
}

/// A client that shows what it gets as it is.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
}

/// A frame from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Text(String),
    Binary(Vec<u8>),
    Close(u16, String),
    Pong(Vec<u8>),
}

impl Client {
    pub(crate) fn connect(address: SocketAddr, query: &str) -> Self {
        let mut client = Self::request(address, &format!("GET /socket/websocket?{query} HTTP/1.1"), "");
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        client
    }

    /// Sends an upgrade request, and with it what follows it.
    pub(crate) fn request(address: SocketAddr, line: &str, behind: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let request = format!(
            "{line}\r\nhost: localhost\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(&[request.as_bytes(), behind.as_bytes()].concat()).unwrap();
        Self { stream, received: Vec::new() }
    }

    pub(crate) fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                return String::from_utf8(self.received.drain(..end + 4).collect()).unwrap();
            }
            assert!(self.fill(), "the connection ended inside of the response's head");
        }
    }

    fn fill(&mut self) -> bool {
        let mut buffer = [0; 65_536];
        let read = self.stream.read(&mut buffer).expect("the server answers in time");
        self.received.extend_from_slice(&buffer[..read]);
        read > 0
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.frame(Opcode::Text, text.as_bytes());
    }

    pub(crate) fn frame(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut bytes = Vec::new();
        write_masked_frame(&mut bytes, opcode, payload, [1, 2, 3, 4]);
        self.stream.write_all(&bytes).unwrap();
    }

    /// The next frame; `None` once the connection has ended.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, len)) = parse(&self.received) {
                self.received.drain(..len);
                return Some(frame);
            }
            if !self.fill() {
                assert!(self.received.is_empty(), "the connection ended inside of a frame");
                return None;
            }
        }
    }

    pub(crate) fn text(&mut self) -> String {
        match self.next() {
            Some(Frame::Text(text)) => text,
            other => panic!("expected a text, got {other:?}"),
        }
    }

    /// Demands these texts in this order.
    #[track_caller]
    pub(crate) fn expect(&mut self, texts: &[&str]) {
        for expected in texts {
            assert_eq!(self.text(), *expected);
        }
    }

    /// Demands a close frame next, and then the connection's end.
    #[track_caller]
    pub(crate) fn expect_close(&mut self, code: u16, reason: &str) {
        assert_eq!(self.next(), Some(Frame::Close(code, reason.to_owned())));
        assert_eq!(self.next(), None);
    }

    /// Joins, and takes the reply.
    #[track_caller]
    pub(crate) fn join(&mut self, topic: &str, params: &str) {
        self.send(&format!(r#"["j","j","{topic}","phx_join",{params}]"#));
        let reply = self.text();
        assert!(reply.starts_with(&format!(r#"["j","j","{topic}","phx_reply",{{"status":"ok""#)), "{reply}");
    }

    /// Demands that nothing is on its way: the next that comes is the answer to a heartbeat.
    #[track_caller]
    pub(crate) fn expect_nothing(&mut self) {
        self.send(r#"[null,"hb","phoenix","heartbeat",{}]"#);
        self.expect(&[r#"[null,"hb","phoenix","phx_reply",{"status":"ok","response":{}}]"#]);
    }
}

fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert_eq!(second & 0x80, 0, "a server does not mask");
    assert_eq!(first & 0xf0, 0x80, "a server does not fragment");
    let (len, start) = match second {
        126 => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()), 10),
        len => (u64::from(len), 2),
    };
    let end = start + usize::try_from(len).unwrap();
    let payload = bytes.get(start..end)?.to_vec();
    let frame = match first & 0x0f {
        1 => Frame::Text(String::from_utf8(payload).unwrap()),
        2 => Frame::Binary(payload),
        8 => {
            let code = u16::from_be_bytes([payload[0], payload[1]]);
            Frame::Close(code, String::from_utf8(payload[2..].to_vec()).unwrap())
        }
        10 => Frame::Pong(payload),
        opcode => panic!("unexpected opcode {opcode}"),
    };
    Some((frame, end))
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::yield_now();
    }
}
