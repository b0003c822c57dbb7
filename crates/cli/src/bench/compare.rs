//! `tickwire bench compare`

use std::path::PathBuf;

use crate::{
    failure::{Failure, Outcome},
    output,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A file of runs, one a line: {"server":"nats","row":"fanout 50/s","report":{…}}, where the report is what a scenario prints with --json
    #[arg(value_name = "FILE")]
    runs: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Outcome {
    let path = args.runs.display();
    let lines = std::fs::read_to_string(&args.runs).map_err(|error| Failure::usage(format!("{path}: {error}")))?;
    let compared = tickwire_bench::compare(&lines).map_err(|error| Failure::usage(format!("{path}: {error}")))?;
    if args.json { output::print_json(&compared) } else { output::print(&compared) }
}
