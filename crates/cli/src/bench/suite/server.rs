//! A server for one run.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tickwire_bench::{Target, Via};
use tickwire_client::Options;

use crate::{
    failure::Failure,
    remote::{KeyArg, Url},
};

/// How long a server may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How often it is asked whether it is ready.
const ASK: Duration = Duration::from_millis(50);

/// A running server; dropping it ends it.
pub(super) struct Server {
    child: Child,
    http: SocketAddr,
    grpc: SocketAddr,
    admin: SocketAddr,
}

impl Server {
    /// Starts this program's `serve` with defaults, on ports that are free, and waits until it is ready.
    pub(super) async fn start(cpu: Option<usize>, set: &[String]) -> Result<Self, Failure> {
        let [http, grpc, admin] = free_ports().map_err(|error| failed(error, "find free ports"))?;
        let program = std::env::current_exe().map_err(|error| failed(error, "find this program"))?;
        let mut command = Command::new(program);
        command.arg("serve").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let listen = [("http", http), ("grpc", grpc), ("admin", admin)].map(|(name, at)| format!("listen.{name}={at}"));
        for setting in listen.iter().chain(&["log.level=warn".to_owned()]).chain(set) {
            command.args(["--set", setting]);
        }
        let child = tickwire_bench::spawn_on(command, cpu)?;
        let mut server = Self { child, http, grpc, admin };
        server.ready().await?;
        Ok(server)
    }

    async fn ready(&mut self) -> Result<(), Failure> {
        let client = reqwest::Client::builder().timeout(START_TIMEOUT).build();
        let client = client.map_err(|error| Failure::Failed(anyhow::Error::from(error).context("ask the server")))?;
        let page = format!("http://{}/readyz", self.admin);
        let began = Instant::now();
        while began.elapsed() < START_TIMEOUT {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(Failure::Failed(anyhow::anyhow!("the server has ended: {status}; try `tickwire serve`")));
            }
            if client.get(&page).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(ASK).await;
        }
        Err(Failure::Failed(anyhow::anyhow!("the server was not ready within {START_TIMEOUT:?}")))
    }

    /// The server as a target.
    pub(super) fn target(&self, via: Via) -> Result<Target, Failure> {
        let options =
            Options::new(&format!("ws://{}/socket", self.http)).map_err(|error| Failure::usage(error.to_string()))?;
        let grpc = Url::parse(&format!("grpc://{}", self.grpc)).map_err(Failure::usage)?;
        let key = KeyArg::default().find(&grpc)?;
        let target = Target::tickwire(options, grpc.origin(), key, via)?;
        Ok(target.admin(format!("http://{}", self.admin)).pid(Some(self.child.id())))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ports that nobody has now.
fn free_ports() -> std::io::Result<[SocketAddr; 3]> {
    let open = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let ports = [open()?, open()?, open()?];
    Ok([ports[0].local_addr()?, ports[1].local_addr()?, ports[2].local_addr()?])
}

fn failed(error: std::io::Error, what: &'static str) -> Failure {
    Failure::Failed(anyhow::Error::from(error).context(what))
}
