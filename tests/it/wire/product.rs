//! A node as `tickwire serve` runs it.

use std::net::SocketAddr;

use tickwire_server::{
    App, Stop,
    config::{Config, Sources},
};
use tokio::runtime::Runtime;
use tokio_util::task::TaskTracker;

/// A node that ends with the test.
pub(super) struct Product {
    pub(super) address: SocketAddr,
    stop: Stop,
    runtime: Runtime,
    tasks: TaskTracker,
}

impl Product {
    /// A node with rooms in which anybody may talk, and these settings.
    pub(super) fn start(sets: &[&str]) -> Self {
        let own = [
            "listen.http=127.0.0.1:0",
            "listen.grpc=127.0.0.1:0",
            "listen.admin=127.0.0.1:0",
            "drain.delay=0s",
            "drain.spread=0s",
            "auth.anonymous.write=true",
            r#"channel=[{pattern="room:*",kind="room",broadcast=["shout"],echo=["echo"]},{pattern="ticker:*",kind="ticker"}]"#,
        ];
        let sets = own.iter().chain(sets).map(|set| (*set).to_owned()).collect();
        let config = Config::load(Sources { sets, ..Sources::default() }).unwrap_or_else(|errors| panic!("{errors}"));
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let tasks = TaskTracker::new();
        let (address, stop) = {
            let _context = runtime.enter();
            let app = App::build(config).unwrap();
            let (addresses, stop) = (app.addresses(), app.stop_handle());
            tasks.spawn_on(app.run(), runtime.handle());
            (addresses.http, stop)
        };
        Self { address, stop, runtime, tasks }
    }

    /// Drains it, as SIGTERM does.
    pub(super) fn drain(&self) {
        self.stop.request();
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        self.stop.request();
        self.stop.request();
        self.tasks.close();
        self.runtime.block_on(self.tasks.wait());
    }
}
