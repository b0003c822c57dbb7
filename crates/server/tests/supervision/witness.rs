//! A node with somebody on it who must not notice, and what the process holds.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Mutex, MutexGuard},
};

use crate::node::{PATIENCE, PUBLISHER, Socket, TestNode, eventually};

/// Crashes of each unit.
pub(crate) const CRASHES: u64 = 10_000;
/// Clients that bring them about at the same time.
pub(crate) const CLIENTS: u64 = 8;

/// A node for one test alone, and a client that follows a quote and a room for as long as it takes.
pub(crate) struct Watched {
    pub(crate) node: TestNode,
    socket: Socket,
    quotes: u64,
    epoch: Value,
    held: Held,
    _turn: MutexGuard<'static, ()>,
}

impl Watched {
    pub(crate) async fn start(sets: &[&str]) -> Self {
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        tickwire_faults::hush();
        // Ten thousand crashes may take longer than a symbol counts as live, and the witness is to hear of nothing else.
        let own = ["runtime.workers=1", "limits.accepts_per_second=1000000", "market.stale_after=1h"];
        let sets: Vec<_> = sets.iter().copied().chain(own).collect();
        let node = TestNode::start(&sets).await;
        let mut socket = Socket::open(&node, "").await;
        node.publish(json!({"symbol": "WITNESS", "bid": 1})).await;
        let (status, reply) = socket.join("ticker:WITNESS", json!({})).await;
        assert_eq!((status.as_str(), &reply["seq"]), ("ok", &json!(1)));
        let epoch = reply["epoch"].clone();
        let held = Held::now(&node).await;
        Self { node, socket, quotes: 1, epoch, held, _turn: turn }
    }

    /// The next quote comes as if nothing had happened.
    pub(crate) async fn notices_nothing(&mut self) {
        self.publish_witness().await;
        let update = self.socket.next().await;
        assert_eq!((&update[3], &update[4]["epoch"]), (&json!("update"), &self.epoch), "{update}");
        assert_eq!((&update[4]["seq"], update[4].get("n")), (&json!(self.quotes), None), "{update}");
    }

    /// The next quote comes in a new epoch, whose snapshot comes first.
    pub(crate) async fn begins_anew(&mut self) {
        let mut snapshot = self.socket.next().await;
        // Each crash of a shard begins an epoch; those that follow each other closely are merged.
        while snapshot[4]["epoch"] != self.epoch {
            assert_eq!((&snapshot[3], &snapshot[4]["quote"]["bid"]), (&json!("snapshot"), &json!("1")), "{snapshot}");
            self.epoch = snapshot[4]["epoch"].clone();
            if tokio::time::timeout(Duration::from_millis(300), async { snapshot = self.socket.next().await })
                .await
                .is_err()
            {
                break;
            }
        }
        self.quotes = 0;
        self.notices_nothing().await;
    }

    async fn publish_witness(&mut self) {
        self.quotes += 1;
        let answer = self.node.publish(json!({"symbol": "WITNESS", "bid": 1})).await;
        assert_eq!(answer["accepted"], 1, "{answer}");
    }

    /// The lines of the verbose readiness answer that tell of something wrong.
    pub(crate) async fn problems(&self) -> Vec<String> {
        let answer = self.node.client.get(self.node.admin("/readyz?verbose")).send().await.unwrap();
        let lines = answer.text().await.unwrap();
        lines.lines().filter(|line| line.starts_with("[-]")).map(str::to_owned).collect()
    }

    /// The test is over: nothing that the crashes held is left.
    pub(crate) async fn end(mut self) {
        self.notices_nothing().await;
        self.held.is_all(&self.node).await;
        drop(self.socket);
        self.node.end().await;
    }
}

/// What a process holds that a crash might leave behind.
#[derive(Debug, Clone, PartialEq)]
struct Held {
    files: usize,
    tasks: usize,
    connections: f64,
    joins: f64,
    open: f64,
    resident: u64,
}

impl Held {
    async fn now(node: &TestNode) -> Self {
        let metrics = node.metrics().await;
        let sum = |name: &str| {
            let lines = metrics.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
            lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
        };
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        Self {
            files: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
            connections: sum("tickwire_connections"),
            joins: sum("tickwire_joins"),
            open: sum("tickwire_streams"),
            resident: resident.split_whitespace().next().unwrap().parse().unwrap(),
        }
    }

    /// Waits until no more is held than before.
    async fn is_all(&self, node: &TestNode) {
        /// Connections that the tests' own HTTP client keeps, each with a task on either side.
        const KEPT: usize = 8;
        /// An allocator keeps what it has got once; what 10,000 crashes leave behind each time is more. In kB.
        const RESIDENT: u64 = 48 * 1024;
        let mut seen = self.clone();
        let looked = async {
            loop {
                seen = Self::now(node).await;
                let gauges = (seen.connections, seen.joins, seen.open) == (self.connections, self.joins, self.open);
                if gauges && seen.files <= self.files + KEPT && seen.tasks <= self.tasks + 2 * KEPT {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, looked).await.is_ok(), "before {self:?}, after {seen:?}");
        assert!(seen.resident < self.resident + RESIDENT, "before {self:?}, after {seen:?}");
    }
}

/// Opens a connection for each client; whoever uses one has it to itself for as long.
pub(crate) async fn clients<T: Future<Output = Wire>>(open: impl Fn() -> T) -> Vec<Mutex<Wire>> {
    let wires = futures_util::future::join_all((0..CLIENTS).map(|_| open())).await;
    wires.into_iter().map(Mutex::new).collect()
}

/// Does something so many times, by several clients at once.
pub(crate) async fn many<T: Future<Output = ()>>(times: u64, one: impl Fn(u64) -> T) {
    let (one, began) = (&one, Instant::now());
    let clients = (0..CLIENTS).map(|client| async move {
        for index in (client..times).step_by(usize::try_from(CLIENTS).unwrap()) {
            one(index).await;
        }
    });
    futures_util::future::join_all(clients).await;
    println!("{times} in {:?}", began.elapsed());
}

/// A connection over which requests are made one after the other, byte by byte.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
}

impl Wire {
    pub(crate) async fn open(node: &TestNode) -> Self {
        let stream = TcpStream::connect(node.addresses.http).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::new() }
    }

    /// One that speaks Phoenix V2.
    pub(crate) async fn socket(node: &TestNode) -> Self {
        let mut wire = Self::open(node).await;
        let head = "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        wire.stream.write_all(head.as_bytes()).await.unwrap();
        let answer = wire.until(b"\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        wire
    }

    /// Sends a text over a socket.
    pub(crate) async fn say(&mut self, text: &str) {
        let mut frame = Vec::new();
        let opcode = tickwire_channels::websocket::Opcode::Text;
        tickwire_channels::websocket::write_masked_frame(&mut frame, opcode, text.as_bytes(), [1, 2, 3, 4]);
        self.stream.write_all(&frame).await.unwrap();
    }

    /// Demands that this text is what a socket says next.
    pub(crate) async fn hear(&mut self, text: &str) {
        let len = u8::try_from(text.len()).unwrap();
        let head = if len < 126 { vec![0x81, len] } else { vec![0x81, 126, 0, len] };
        let frame = self.take(head.len() + text.len()).await;
        assert_eq!(frame.escape_ascii().to_string(), [&head, text.as_bytes()].concat().escape_ascii().to_string());
    }

    /// Waits for the end that a fault of ours brings, whatever came before.
    pub(crate) async fn gone(&mut self) {
        let mut rest = std::mem::take(&mut self.received);
        tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.expect("in time").unwrap();
        assert!(rest.ends_with(b"\x88\x10\x03\xf3internal_error"), "{}", rest.escape_ascii());
    }

    /// Demands the close frame of a fault of ours, and the connection's end.
    pub(crate) async fn crashed(&mut self) {
        let mut rest = std::mem::take(&mut self.received);
        tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.expect("in time").unwrap();
        assert_eq!(rest.escape_ascii().to_string(), b"\x88\x10\x03\xf3internal_error".escape_ascii().to_string());
    }

    /// Makes a request and returns the answer's status and body.
    pub(crate) async fn request(&mut self, line: &str, body: &str) -> (u16, String) {
        let len = body.len();
        let head =
            format!("{line} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {PUBLISHER}\r\ncontent-length: {len}\r\n");
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        self.stream.write_all(format!("{head}{kind}\r\n{body}").as_bytes()).await.unwrap();
        let head = self.until(b"\r\n\r\n").await.to_ascii_lowercase();
        let status = head[9..12].parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        (status, String::from_utf8(self.take(length.parse().unwrap()).await).unwrap())
    }

    async fn until(&mut self, end: &[u8]) -> String {
        loop {
            if let Some(at) = self.received.windows(end.len()).position(|window| window == end) {
                let head = self.received.drain(..at + end.len()).collect();
                return String::from_utf8(head).unwrap();
            }
            self.fill().await;
        }
    }

    async fn take(&mut self, len: usize) -> Vec<u8> {
        while self.received.len() < len {
            self.fill().await;
        }
        self.received.drain(..len).collect()
    }

    async fn fill(&mut self) {
        let read =
            tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await.expect("in time").unwrap();
        assert!(read > 0, "the connection ended behind {:?}", self.received.escape_ascii().to_string());
    }
}

/// Waits until the point has panicked so often.
pub(crate) async fn fired(armed: &tickwire_faults::Armed, times: u64) {
    eventually("the fault strikes", async || armed.fired() >= times).await;
}
