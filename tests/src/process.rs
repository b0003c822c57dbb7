//! A real `tickwire` process: its own ports, its own log, ended when the test ends.

use std::{
    env,
    ffi::OsStr,
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Once,
};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{eventually, soon};

/// The API key of all servers of tests, for everything.
pub const PUBLISH_KEY: &str = "a-key-for-the-tests-that-publish-quotes";
/// The secret of client tokens of all servers of tests.
pub const TOKEN_SECRET: &str = "a-secret-of-thirty-two-bytes-or-more-for-tests";

/// The binary under test: `TICKWIRE_BIN`, or what the build of this workspace has put beside the tests.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn binary() -> PathBuf {
    let built = || env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("tickwire");
    let path = env::var_os("TICKWIRE_BIN").map_or_else(built, PathBuf::from);
    assert!(path.is_file(), "{} is not there: cargo build --bin tickwire", path.display());
    path
}

/// A command that runs a program as on a fresh machine: no setting of ours in its environment, no input, killed when dropped.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TICKWIRE_")) {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A server that runs.
#[derive(Debug)]
pub struct Process {
    child: Child,
    folder: TempDir,
    file: Option<PathBuf>,
    sets: Vec<String>,
    /// Sockets and the HTTP API.
    pub http: SocketAddr,
    /// gRPC.
    pub grpc: SocketAddr,
    /// Health and metrics.
    pub admin: SocketAddr,
    /// For requests of the tests' own.
    pub client: reqwest::Client,
}

impl Process {
    /// Starts a server with these settings (`KEY=VALUE`) over those of all tests, and waits until it is ready.
    pub async fn start(sets: &[&str]) -> Self {
        let keys = json!([{"name": "tests", "secret": PUBLISH_KEY, "scopes": ["publish", "admin"]}]);
        let own = [
            "drain.spread=200ms".to_owned(),
            format!("auth.key={keys}"),
            format!("auth.jwt.hs256_secret={TOKEN_SECRET}"),
        ];
        Self::start_bare(own.into_iter().chain(sets.iter().map(|set| (*set).to_owned())).collect()).await
    }

    /// Starts a server with nothing but these settings and free ports, so that it makes a development key if none is among them.
    pub async fn start_bare(sets: Vec<String>) -> Self {
        Self::start_with(None, sets).await
    }

    /// Starts a server with a configuration file, these settings over it, and free ports.
    pub async fn start_file(file: &Path, sets: &[&str]) -> Self {
        Self::start_with(Some(file.to_owned()), sets.iter().map(|set| (*set).to_owned()).collect()).await
    }

    async fn start_with(file: Option<PathBuf>, sets: Vec<String>) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let folder = tempfile::tempdir().unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let child = spawn(&folder, file.as_deref(), &sets, [any; 3]);
        let client = reqwest::Client::new();
        let mut process = Self { child, folder, file, sets, http: any, grpc: any, admin: any, client };
        process.ready().await;
        process
    }

    /// Learns the addresses from the log.
    async fn ready(&mut self) {
        let log = self.folder.path().join("log");
        let child = &mut self.child;
        let [http, grpc, admin] = eventually("the server is ready", async || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let ready = text.lines().find_map(ready_addresses);
            if ready.is_none()
                && let Some(status) = child.try_wait().unwrap()
            {
                panic!("the server ended with {status}:\n{text}");
            }
            ready
        })
        .await;
        (self.http, self.grpc, self.admin) = (http, grpc, admin);
    }

    /// What it has written on its output since it was started.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The operating system's number of the process.
    ///
    /// # Panics
    /// If the process has ended.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id().expect("the process runs")
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If the process has ended.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        soon("the server ends", self.child.wait()).await.unwrap()
    }

    /// Asks it to drain and returns its exit code.
    pub async fn drain(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.ended().await.code()
    }

    /// Ends it with a signal and starts it again at the same addresses.
    pub async fn restart(&mut self, signal: Signal) {
        self.signal(signal);
        self.ended().await;
        self.child = spawn(&self.folder, self.file.as_deref(), &self.sets, [self.http, self.grpc, self.admin]);
        self.ready().await;
    }

    /// A command line of the user who runs this server: it finds the development key, if there is one.
    #[must_use]
    pub fn cli(&self, arguments: &[&str]) -> Command {
        let mut command = command(binary());
        self.environment(&mut command);
        command.args(arguments);
        command
    }

    /// Gives a command the environment of the user who runs this server.
    pub fn environment(&self, command: &mut Command) {
        command.env("XDG_RUNTIME_DIR", self.folder.path());
    }

    /// The key that it made for itself because none is configured.
    ///
    /// # Panics
    /// If it made none.
    #[must_use]
    pub fn development_key(&self) -> String {
        let file = self.folder.path().join(format!("tickwire/dev-{}.key", self.http.port()));
        std::fs::read_to_string(file).unwrap().lines().next().unwrap().to_owned()
    }

    /// The URL of something on its public port.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// The URL of its socket.
    #[must_use]
    pub fn socket(&self) -> String {
        format!("ws://{}/socket", self.http)
    }

    /// Publishes quotes and returns the answer.
    ///
    /// # Panics
    /// If they are refused as a whole.
    pub async fn publish(&self, quotes: Value) -> Value {
        let request = self.client.post(self.url("/v1/quotes")).bearer_auth(PUBLISH_KEY).json(&quotes);
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert_eq!(status, 202, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The answer to a GET of JSON on the public port.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.client.get(self.url(path)).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// The text of something on the admin port.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        let answer = self.client.get(format!("http://{}{path}", self.admin)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The sum of all series of a metric whose labels contain `labels`; zero if there is none.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        let (_, text) = self.admin("/metrics").await;
        let series = text.lines().filter_map(|line| line.split_once([' ', '{']).map(|(found, _)| (found, line)));
        let values = series.filter(|(found, line)| *found == name && line.contains(labels));
        values.filter_map(|(_, line)| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }
}

fn spawn(folder: &TempDir, file: Option<&Path>, sets: &[String], [http, grpc, admin]: [SocketAddr; 3]) -> Child {
    let log = File::create(folder.path().join("log")).unwrap();
    let mut command = command(binary());
    // A place of its own for the development key.
    command.arg("serve").env("XDG_RUNTIME_DIR", folder.path());
    if let Some(file) = file {
        command.arg("-c").arg(file);
    }
    let listen = [format!("listen.http={http}"), format!("listen.grpc={grpc}"), format!("listen.admin={admin}")];
    for set in listen.iter().map(String::as_str).chain(["log.format=json"]).chain(sets.iter().map(String::as_str)) {
        command.args(["--set", set]);
    }
    command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// The addresses of HTTP, gRPC and administration in the log line, as JSON, that says that a server is ready; `None` for other lines.
#[must_use]
pub fn ready_addresses(line: &str) -> Option<[SocketAddr; 3]> {
    let record: Value = serde_json::from_str(line).ok()?;
    let find = |name: &str| record.get(name).or_else(|| record.get("fields")?.get(name))?.as_str().map(str::to_owned);
    (find("message")? == "ready").then_some(())?;
    let mut found = ["http", "grpc", "admin"].map(|name| find(name)?.parse().ok());
    Some([found[0].take()?, found[1].take()?, found[2].take()?])
}
