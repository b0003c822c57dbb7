//! `tickwire version`

use serde_json::json;

use crate::{failure::Outcome, output};

/// Print the version of this binary
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tickwire version
  tickwire version --json | jq -r .version")]
pub(crate) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
const BUILD: &str = if cfg!(debug_assertions) { "debug" } else { "release" };
const TARGET: (&str, &str) = (std::env::consts::ARCH, std::env::consts::OS);

pub(crate) fn run(args: &Args) -> Outcome {
    let (arch, os) = TARGET;
    let rust = env!("CARGO_PKG_RUST_VERSION");
    if args.json {
        let version = json!({"version": VERSION, "build": BUILD, "arch": arch, "os": os, "rust_version": rust});
        return output::print_json(&version);
    }
    output::print(format_args!("tickwire {VERSION} ({BUILD}, {os} {arch})\n"))
}
