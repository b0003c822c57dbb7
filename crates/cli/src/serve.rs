//! `tickwire serve`: runs one node.

use std::time::Duration;

use tickwire_server::{
    App, BuildError, Layout,
    config::{Config, Sources},
    telemetry,
};

use crate::{
    config::Layers,
    failure::{Failure, Outcome},
    output,
};

/// Run one node
///
/// Serves sockets, the HTTP API and the web page on one port, gRPC on a second one, health and metrics on a third. Without a
/// configuration it listens on loopback only.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tickwire serve
  tickwire serve -c tickwire.toml
  tickwire serve --set listen.http=0.0.0.0:8080 --set log.level=debug
  tickwire serve --set 'feed=[{kind=\"simulated\"}]'

SIGTERM and SIGINT drain the node; a second signal ends it at once. SIGHUP reads the configuration again.")]
pub(crate) struct Args {
    #[command(flatten)]
    layers: Layers,
}

/// How long the runtime may take to let go of what is left when the node has ended.
const LAST_GRACE: Duration = Duration::from_secs(1);

pub(crate) fn run(args: Args) -> Outcome {
    let (config, sources) = args.layers.load_with_sources()?;
    telemetry::init(&config.log, output::stderr_colors()).map_err(Failure::usage)?;
    tickwire_server::raise_open_files();
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    // The sockets have threads of their own; what is left for the runtime is HTTP, gRPC, feeds and timers.
    let io_threads = Layout::of(&config.runtime).io_threads();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(io_threads).thread_name("runtime").enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(anyhow::Error::from(error).context("start the runtime")))?;
    let outcome = runtime.block_on(Box::pin(serve(config, sources)));
    runtime.shutdown_timeout(LAST_GRACE);
    outcome
}

async fn serve(config: Config, sources: Sources) -> Outcome {
    let tls = config.listen.tls.is_some();
    let app = App::build(config).map_err(|error: BuildError| Failure::failed(error))?.reloads_from(sources);
    let signals = app.stop_handle().on_signals();
    let page = page(app.addresses().http, tls);
    output::say(format_args!("tickwire {} is at {page}", env!("CARGO_PKG_VERSION")));
    tokio::select! {
        ended = app.run() => ended.map_err(Failure::failed),
        Err(error) = signals => Err(Failure::Failed(anyhow::Error::from(error).context("listen for signals"))),
    }
}

/// What to open in a browser on this machine.
fn page(http: std::net::SocketAddr, tls: bool) -> String {
    format!("{}://{}/", if tls { "https" } else { "http" }, reachable(http))
}

/// An address that a browser on this machine can open: nobody can connect to 0.0.0.0.
fn reachable(mut address: std::net::SocketAddr) -> std::net::SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_where_a_browser_can_open_it() {
        for (address, tls, url) in [
            ("127.0.0.1:4000", false, "http://127.0.0.1:4000/"),
            ("0.0.0.0:4000", true, "https://127.0.0.1:4000/"),
            ("[::]:4000", false, "http://[::1]:4000/"),
        ] {
            assert_eq!(page(address.parse().unwrap(), tls), url);
        }
    }
}
