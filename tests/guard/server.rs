//! A server that runs under callgrind.
#![expect(clippy::disallowed_methods, reason = "its clients are threads that block; one of them waits for a process")]

use std::{
    fs::File,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tickwire_tests::ready_addresses;

use crate::callgrind::{self, Count};

/// Under valgrind everything takes fifty times as long, on a machine that builds something else meanwhile even more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// What makes two runs alike. One worker and one thread of the runtime: who gets what is no matter of chance. Nothing happens by the clock:
/// no update counts as late, no symbol as stale, and the end comes before the drain begins to close sockets.
const SETS: [&str; 9] = [
    "runtime.workers=1",
    "market.conflate_after=60s",
    "market.stale_after=1h",
    "market.ring_age=1h",
    "drain.delay=1m",
    "drain.deadline=2m",
    "auth.publish=open",
    "auth.anonymous.write=true",
    "log.format=json",
];

/// A server that is ready.
pub(crate) struct Server {
    child: Child,
    folder: TempDir,
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
}

impl Server {
    pub(crate) fn start(binary: &Path, sets: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = File::create(folder.path().join("log"))?;
        let mut command = Command::new("valgrind");
        // Without lines: only sums and calls are read.
        command.args(["--tool=callgrind", "--dump-line=no"]);
        command.arg(format!("--callgrind-out-file={}", folder.path().join("count").display()));
        command.arg(binary).arg("serve");
        let listen = ["listen.http", "listen.grpc", "listen.admin"].map(|port| format!("{port}=127.0.0.1:0"));
        for set in SETS.iter().chain(sets).copied().chain(listen.iter().map(String::as_str)) {
            command.args(["--set", set]);
        }
        // A fresh machine: no setting of ours, and no more threads than this one.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TICKWIRE_")) {
            command.env_remove(name);
        }
        command.env("TOKIO_WORKER_THREADS", "1").env("XDG_RUNTIME_DIR", folder.path());
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let child = child.context("start valgrind: is it installed? (tests/install-valgrind)")?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { child, folder, http: any, grpc: any };
        [server.http, server.grpc, _] = server.wait("ready", |log| log.lines().find_map(ready_addresses))?;
        Ok(server)
    }

    /// Ends it and returns what it has cost since its start.
    pub(crate) fn stop(mut self) -> Result<Count> {
        // The second signal ends it at once, whatever is open.
        self.signal(Signal::TERM)?;
        self.wait("draining", |log| log.contains("draining").then_some(()))?;
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("the server does not end:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        callgrind::read(&self.folder.path().join("count"))
    }

    fn wait<T>(&mut self, what: &str, mut look: impl FnMut(&str) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if let Some(found) = look(&log) {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended before it was {what}, {status}:\n{log}");
            }
            if Instant::now() > deadline {
                bail!("the server is not {what} after {PATIENCE:?}:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).context("signal the server")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended, unless the measurement was given up.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
