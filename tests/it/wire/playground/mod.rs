//! The demo endpoint as `tickwire serve -c config/demo.toml` has it: its mounts, topics, events and controls.

mod controls;
mod events;
mod longpoll;
mod mounts;
mod realtime;
mod tokens;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tickwire_tests::Process;
use tokio::runtime::Runtime;

use super::client::{Answer, Raw, method_request, request, upgrade_headers};

/// A process that ends with the test.
pub(super) struct Playground {
    process: Process,
    runtime: Runtime,
    pub(super) address: SocketAddr,
    _folder: Option<TempDir>,
}

impl Playground {
    pub(super) fn start() -> Self {
        Self::with(&[])
    }

    /// With settings over those of the file.
    pub(super) fn with(sets: &[&str]) -> Self {
        Self::of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/demo.toml"), sets, None)
    }

    /// By another file.
    pub(super) fn by_file(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file: PathBuf = folder.path().join("other.toml");
        std::fs::write(&file, text).unwrap();
        Self::of(&file, &[], Some(folder))
    }

    fn of(file: &Path, sets: &[&str], folder: Option<TempDir>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let sets: Vec<&str> = ["drain.delay=0s", "drain.spread=0s"].iter().chain(sets).copied().collect();
        let process = runtime.block_on(Process::start_file(file, &sets));
        let address = process.http;
        Self { process, runtime, address, _folder: folder }
    }

    #[track_caller]
    pub(super) fn v2(&self) -> Raw {
        Raw::v2(self.address)
    }

    #[track_caller]
    pub(super) fn v1(&self) -> Raw {
        Raw::v1(self.address)
    }

    /// The answer to an upgrade at a mount, on a connection of its own.
    #[track_caller]
    fn upgrade(&self, target: &str, headers: &[(&str, &str)]) -> (Raw, Answer) {
        let all: Vec<_> = upgrade_headers().into_iter().chain(headers.iter().copied()).collect();
        let mut client = Raw::connect(self.address);
        client.write(request(target, &all).as_bytes());
        let answer = client.answer();
        (client, answer)
    }

    /// A V2 socket of a mount.
    #[track_caller]
    fn open(&self, mount: &str, query: &str) -> Raw {
        let (client, answer) = self.upgrade(&format!("{mount}/websocket?vsn=2.0.0{query}"), &[]);
        assert_eq!(answer.status, 101, "{answer:?}");
        client
    }

    /// The answer to a request with a body.
    #[track_caller]
    fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let length = body.len().to_string();
        let own = [("Host", "localhost"), ("Content-Length", length.as_str())];
        let headers: Vec<_> = own.into_iter().chain(headers.iter().copied()).collect();
        let mut client = Raw::connect(self.address);
        client.write(&[method_request(method, target, &headers).as_bytes(), body].concat());
        client.answer_to(method)
    }

    /// Uses one of the controls.
    #[track_caller]
    fn control(&self, target: &str, body: &[u8]) {
        let answer = self.ask("POST", target, &[], body);
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }

    /// Drains it, and returns its exit code.
    fn drain(&mut self) -> Option<i32> {
        self.runtime.block_on(self.process.drain())
    }

    fn log(&self) -> String {
        self.process.log()
    }

    fn metric(&self, name: &str, labels: &str) -> f64 {
        self.runtime.block_on(self.process.metric(name, labels))
    }
}
