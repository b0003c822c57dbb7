//! `tickwire bench`

mod compare;
mod suite;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tickwire_bench::{
    BenchError, LimitServer, Load, Peer, Rate, Stall, Target, Via,
    plot::{self, Curve},
};
use tickwire_client::Options;

use crate::{
    failure::{Failure, Outcome},
    output,
    remote::{self, KeyArg, Url},
};

/// Load a running server: deliveries per CPU second, latency percentiles, loss, memory per connection
///
/// Quotes are published on a schedule that does not wait for the server, and latency counts from when a quote was due. Every delivery is
/// checked: each gap must be explained by `n`, nothing may come twice or go back. The symbols are BENCH.00000 and up.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tickwire bench ticker                              500 symbols, 1000 sockets × 10, 100000 quotes/s
  tickwire bench fanout --sockets 5000 --rate 100
  tickwire bench idle --sockets 10000 --pid \"$(pidof tickwire)\"
  tickwire bench ingest --via ndjson --for 10s --json
  tickwire bench limit --sockets 1000 --rate 50      what this machine allows at all
  tickwire bench suite                               the figures of docs/performance.md, each with a server of its own

Measure a release build, and give server and bench cores of their own where there are some (--cpu).
Exit code 1 if an update was lost, a quote rejected or a socket closed.")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    #[command(flatten)]
    Measure(Box<Scenario>),
    /// Reports of several servers side by side: medians, and how many times better the first server is
    #[command(after_help = "Examples:
  tickwire bench compare target/bench/peers.runs
  tickwire bench compare target/bench/peers.runs --json")]
    Compare(compare::Args),
    /// The loop of `limit`, which starts it
    #[command(hide = true)]
    LimitServer {
        #[arg(long)]
        sockets: usize,
        #[arg(long)]
        per_call: usize,
    },
    /// The figures of docs/performance.md: each load several times, each time with a server of its own, medians beside the goals
    #[command(after_help = "Examples:
  tickwire bench suite --server-cpu 0 --cpu 1
  tickwire bench suite --only fan-out --runs 3 --for 5s --out /tmp/figures")]
    Suite(suite::Args),
}

#[derive(Debug, clap::Subcommand)]
enum Scenario {
    /// One topic, many sockets: what one update costs per subscriber
    #[command(after_help = "Examples:
  tickwire bench fanout --sockets 1000 --rate 1000")]
    Fanout {
        /// Sockets to open
        #[arg(long, value_name = "N", default_value_t = 1000)]
        sockets: usize,
        /// Quotes per second
        #[arg(long, value_name = "N", default_value_t = 1000)]
        rate: u64,
        #[command(flatten)]
        common: Common,
    },
    /// Many symbols, many sockets that each join some of them: a market
    #[command(after_help = "Examples:
  tickwire bench ticker
  tickwire bench ticker --symbols 50 --sockets 200 --topics 5 --rate 5000 --json")]
    Ticker {
        /// Sockets to open
        #[arg(long, value_name = "N", default_value_t = 1000)]
        sockets: usize,
        /// Symbols
        #[arg(long, value_name = "N", default_value_t = 500)]
        symbols: usize,
        /// Symbols that each socket joins
        #[arg(long, value_name = "N", default_value_t = 10)]
        topics: usize,
        /// Quotes per second, all symbols together
        #[arg(long, value_name = "N", default_value_t = 100_000)]
        rate: u64,
        #[command(flatten)]
        common: Common,
    },
    /// Joined sockets on which nothing happens: memory per socket
    #[command(after_help = "Examples:
  tickwire bench idle --sockets 10000 --pid \"$(pidof tickwire)\"")]
    Idle {
        /// Sockets to open
        #[arg(long, value_name = "N", default_value_t = 10_000)]
        sockets: usize,
        /// Symbols that they are spread over
        #[arg(long, value_name = "N", default_value_t = 500)]
        symbols: usize,
        #[command(flatten)]
        common: Common,
    },
    /// All sockets drop and come back at once: time until all are joined, server CPU per connection, full accept queues
    #[command(after_help = "Examples:
  tickwire bench storm
  tickwire bench storm --sockets 18000 --times 5")]
    Storm {
        /// Sockets to open
        #[arg(long, value_name = "N", default_value_t = 10_000)]
        sockets: usize,
        /// Symbols that they are spread over
        #[arg(long, value_name = "N", default_value_t = 500)]
        symbols: usize,
        /// How often they drop
        #[arg(long, value_name = "N", default_value_t = 3)]
        times: usize,
        #[command(flatten)]
        common: Common,
    },
    /// Some clients stop reading: what the others notice, and what the server keeps for the slow
    #[command(after_help = "Examples:
  tickwire bench slow
  tickwire bench slow --sockets 100 --every 2 --rate 1000 --stall 60s

Before the clients stop, --for measures how it is without. The stall must be long enough to fill
what the kernel keeps for a socket, some megabytes: `conflated` tells whether it was.")]
    Slow {
        /// Sockets to open
        #[arg(long, value_name = "N", default_value_t = 500)]
        sockets: usize,
        /// Every N-th of them stops reading
        #[arg(long, value_name = "N", default_value_t = 10)]
        every: usize,
        /// Quotes per second, of one symbol
        #[arg(long, value_name = "N", default_value_t = 100)]
        rate: u64,
        /// How long they do not read
        #[arg(long, value_name = "TIME", default_value = "200s", value_parser = remote::parse_time)]
        stall: Duration,
        /// Bytes that the server is configured to keep for a socket, limits.outbox_bytes
        #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
        bound: u64,
        #[command(flatten)]
        common: Common,
    },
    /// A bare loop instead of a server: the same bytes to the same number of sockets, the physical limit of this machine
    #[command(after_help = "Examples:
  tickwire bench limit --sockets 1000 --rate 50 --server-cpu 0 --cpu 1
  tickwire bench limit --sockets 1000 --rate 1000 --per-call 16")]
    Limit {
        /// Sockets to open
        #[arg(long, value_name = "N", default_value_t = 1000)]
        sockets: usize,
        /// Updates per second
        #[arg(long, value_name = "N", default_value_t = 50)]
        rate: u64,
        /// Updates that one system call carries
        #[arg(long, value_name = "N", default_value_t = 1)]
        per_call: usize,
        /// Keep the loop to this core
        #[arg(long, value_name = "CORE")]
        server_cpu: Option<usize>,
        #[command(flatten)]
        measure: Measure,
    },
    /// Quotes and no subscriber: what taking them in costs
    #[command(after_help = "Examples:
  tickwire bench ingest
  tickwire bench ingest --via ndjson --batch 500 --publishers 2
  tickwire bench ingest --rate 50000 --publishers 4")]
    Ingest {
        /// How the quotes get to the server
        #[arg(long, value_enum, default_value_t = ViaArg::Grpc)]
        via: ViaArg,
        /// Symbols
        #[arg(long, value_name = "N", default_value_t = 500)]
        symbols: usize,
        /// Quotes per second, or max: as many as the server takes
        #[arg(long, value_name = "N|max", default_value = "max", value_parser = parse_rate)]
        rate: Rate,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    measure: Measure,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Server")]
struct ServerArgs {
    /// The server's socket
    #[arg(long, env = "TICKWIRE_URL", default_value = "ws://127.0.0.1:4000/socket", value_parser = super::watch::parse_url)]
    url: Options,
    /// The server's gRPC port
    #[arg(long, env = "TICKWIRE_GRPC_URL", default_value = "grpc://127.0.0.1:4001", value_parser = Url::parse)]
    grpc: Url,
    /// The server's admin port: its CPU time, memory and lag are read there
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4040", value_parser = Url::parse)]
    admin: Url,
    /// A server of others in place of ours, at its addresses: nats=WEBSOCKET,CLIENTS, centrifugo=ADDRESS or socketio=ADDRESS
    #[arg(long, value_name = "KIND=ADDRESS")]
    peer: Option<Peer>,
    /// The server's process, whose CPU time and memory are read from the system; by default the one that listens at --url
    #[arg(long)]
    pid: Option<u32>,
    #[command(flatten)]
    key: KeyArg,
    /// The client token
    #[arg(long, env = "TICKWIRE_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Measurement")]
struct Measure {
    /// How long to measure
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = remote::parse_time)]
    duration: Duration,
    /// How long to load before that
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = remote::parse_time)]
    warm_up: Duration,
    /// Threads that read the sockets
    #[arg(long, value_name = "N", default_value_t = 1)]
    readers: usize,
    /// Connections that publish
    #[arg(long, value_name = "N", default_value_t = 1)]
    publishers: usize,
    /// Quotes of a batch at the most
    #[arg(long, value_name = "N", default_value_t = 256)]
    batch: usize,
    /// Bytes of an update's payload, about
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    payload: usize,
    /// Keep the bench to this core
    #[arg(long, value_name = "CORE")]
    cpu: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Plot latency by percentile into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ViaArg {
    /// gRPC
    Grpc,
    /// POST /v1/quotes, an object a line
    Ndjson,
    /// POST /v1/quotes, an array
    Json,
    /// POST /v1/quotes, a table
    Csv,
}

impl From<ViaArg> for Via {
    fn from(via: ViaArg) -> Self {
        match via {
            ViaArg::Grpc => Self::Grpc,
            ViaArg::Ndjson => Self::Ndjson,
            ViaArg::Json => Self::Json,
            ViaArg::Csv => Self::Csv,
        }
    }
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    match text.parse() {
        _ if text == "max" => Ok(Rate::Max),
        Ok(rate) => Ok(Rate::PerSecond(rate)),
        Err(_) => Err(format!("{text:?} is neither a number of quotes per second nor \"max\"")),
    }
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Unreachable { .. } => Self::Unreachable(error.to_string()),
            BenchError::Option(problem) => Self::Usage(problem),
            BenchError::Refused { .. } | BenchError::Machine { .. } | BenchError::TimedOut(_) => Self::failed(error),
        }
    }
}

/// How long the load goes on when slow clients read again.
const RECOVERY: Duration = Duration::from_secs(5);

/// The least that can be measured.
const NOTHING: Duration = Duration::from_millis(100);

/// What a scenario is about, the options of measurement apart.
struct Shape {
    scenario: &'static str,
    sockets: usize,
    symbols: usize,
    topics_per_socket: usize,
    rate: Rate,
}

impl Shape {
    fn load(self, measure: &Measure) -> Load {
        let Self { scenario, sockets, symbols, topics_per_socket, rate } = self;
        let Measure { duration, warm_up, readers, publishers, batch, payload, cpu, .. } = *measure;
        Load {
            scenario,
            sockets,
            symbols,
            topics_per_socket,
            rate,
            payload,
            publishers,
            batch,
            readers,
            storms: 0,
            slow: None,
            warm_up,
            duration,
            cpu,
        }
    }
}

/// One topic of many sockets.
fn fanout(scenario: &'static str, sockets: usize, rate: u64) -> Shape {
    Shape { scenario, sockets, symbols: 1, topics_per_socket: 1, rate: Rate::PerSecond(rate) }
}

/// Sockets on which nothing happens.
fn idle(scenario: &'static str, sockets: usize, symbols: usize) -> Shape {
    Shape { scenario, sockets, symbols, topics_per_socket: 1, rate: Rate::None }
}

impl ServerArgs {
    fn target(self, via: Via) -> Result<Target, Failure> {
        let target = if let Some(peer) = &self.peer {
            Target::peer(peer)
        } else {
            let key = self.key.find(&self.grpc)?;
            let target = Target::tickwire(self.url.token(self.token), self.grpc.origin(), key, via)?;
            target.admin(self.admin.origin())
        };
        Ok(target.pid(self.pid))
    }
}

pub(crate) async fn run(args: Args) -> Outcome {
    match args.action {
        Action::Measure(scenario) => scenario.run().await,
        Action::Compare(args) => compare::run(&args),
        Action::LimitServer { sockets, per_call } => limit_server(LimitServer { sockets, per_call, cpu: None }),
        Action::Suite(args) => suite::run(args).await,
    }
}

impl Scenario {
    async fn run(self) -> Outcome {
        let mut via = Via::Grpc;
        let (load, common) = match self {
            Self::Fanout { sockets, rate, common } => (fanout("fanout", sockets, rate).load(&common.measure), common),
            Self::Ticker { sockets, symbols, topics, rate, common } => {
                let rate = Rate::PerSecond(rate);
                let shape = Shape { scenario: "ticker", sockets, symbols, topics_per_socket: topics, rate };
                (shape.load(&common.measure), common)
            }
            Self::Idle { sockets, symbols, common } => (idle("idle", sockets, symbols).load(&common.measure), common),
            Self::Storm { sockets, symbols, times, common } => {
                let calm = idle("storm", sockets, symbols).load(&common.measure);
                // Nothing is published: what is measured is over before a load would begin.
                (Load { storms: times, duration: NOTHING, warm_up: Duration::ZERO, ..calm }, common)
            }
            Self::Slow { sockets, every, rate, stall, bound, common } => {
                let slow = Some(Stall { every, duration: stall, recovery: RECOVERY, bound });
                (Load { slow, ..fanout("slow", sockets, rate).load(&common.measure) }, common)
            }
            Self::Ingest { via: chosen, symbols, rate, common } => {
                via = chosen.into();
                let shape = Shape { scenario: "ingest", sockets: 0, symbols, topics_per_socket: 1, rate };
                (shape.load(&common.measure), common)
            }
            Self::Limit { sockets, rate, per_call, server_cpu, measure } => {
                let load = fanout("limit", sockets, rate).load(&measure);
                let target = limit(LimitServer { sockets, per_call, cpu: server_cpu })?;
                return measure_and_tell(&target, &load, &measure).await;
            }
        };
        let target = common.server.target(via)?;
        measure_and_tell(&target, &load, &common.measure).await
    }
}

async fn measure_and_tell(target: &Target, load: &Load, measure: &Measure) -> Outcome {
    if measure.svg.is_some() && (load.sockets == 0 || load.rate == Rate::None) {
        return Err(Failure::usage(format!(
            "--svg: {} delivers nothing whose latency could be plotted",
            load.scenario
        )));
    }
    if let Some(path) = &measure.svg {
        // A path that cannot be written is told before the measurement, not after it.
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
        opened.map_err(|error| cannot_write(path, error))?;
    }
    warn_of_debug_build();
    let report = Box::pin(tickwire_bench::run(target, load)).await?;
    if measure.json {
        output::print_json(&report)?;
    } else {
        output::print(&report)?;
    }
    if let (Some(path), Some(delivered)) = (&measure.svg, &report.delivered) {
        let curve = Curve { label: load.scenario.to_owned(), points: delivered.curve.clone() };
        write_file(path, &plot::curves("Latency from when an update was due until it was read", &[curve]))?;
    }
    if report.clean() { Ok(()) } else { Err(Failure::Told) }
}

fn warn_of_debug_build() {
    if cfg!(debug_assertions) {
        output::say_warning("this is a debug build: its figures say nothing about a release");
    }
}

fn write_file(path: &Path, text: &str) -> Outcome {
    std::fs::write(path, text).map_err(|error| cannot_write(path, error))
}

fn cannot_write(path: &Path, error: std::io::Error) -> Failure {
    Failure::Failed(anyhow::Error::from(error).context(format!("write {}", path.display())))
}

/// The bare loop, as a process of its own.
fn limit(work: LimitServer) -> Result<Target, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::Failed(anyhow::Error::from(error).context("find this program")))?;
    Ok(Target::limit(&program, work)?)
}

/// Runs the bare loop until whoever started it ends, or closes its standard input.
fn limit_server(work: LimitServer) -> Outcome {
    let announce = |sockets, feed| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{sockets} {feed}")?;
        out.flush()
    };
    let stay = || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    };
    Ok(work.run(announce, stay)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_or_max() {
        assert_eq!(parse_rate("max"), Ok(Rate::Max));
        assert_eq!(parse_rate("50000"), Ok(Rate::PerSecond(50_000)));
        assert!(parse_rate("fast").is_err());
    }
}
