//! `tickwire bench suite`: the loads of docs/performance.md, each several times with a server of its own, and the machine's limit beside them.

mod rows;
mod server;

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;
use tickwire_bench::{
    LimitServer, Report,
    plot::{self, Curve},
};

use self::{
    rows::{Against, Metric, Row},
    server::Server,
};
use crate::{
    failure::{Failure, Outcome},
    output, remote,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only the loads whose name holds this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// How often each load runs; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    /// How long each is measured
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = remote::parse_time)]
    duration: Duration,
    /// How long the slow clients of `slow` do not read: long enough to fill what the kernel keeps for each. It runs once
    #[arg(long, value_name = "TIME", default_value = "200s", value_parser = remote::parse_time)]
    stall: Duration,
    /// Bytes of an update's payload, about
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    payload: usize,
    /// Keep the server to this core
    #[arg(long, value_name = "CORE")]
    server_cpu: Option<usize>,
    /// Keep the bench to this core
    #[arg(long, value_name = "CORE")]
    cpu: Option<usize>,
    /// Where results.json and the plots go
    #[arg(long, value_name = "FOLDER", default_value = "target/bench")]
    out: PathBuf,
    /// A key of the servers' configuration, such as runtime.workers=2
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// What came of one row.
#[derive(Debug, Serialize)]
struct Measured {
    name: &'static str,
    against: String,
    reports: Vec<Report>,
}

pub(super) async fn run(args: Args) -> Outcome {
    super::warn_of_debug_build();
    let rows = chosen(&args)?;
    std::fs::create_dir_all(&args.out)
        .map_err(|error| Failure::Failed(anyhow::Error::from(error).context(format!("make {}", args.out.display()))))?;
    let (mut measured, mut all_ran) = (Vec::new(), true);
    for row in &rows {
        let runs = if row.load.slow.is_some() { 1 } else { args.runs };
        let mut reports = Vec::new();
        for run in 1..=runs {
            output::say(format!("{}, {}: run {run} of {runs}", row.name, row.against));
            // One that fails does not take the others' figures with it.
            let report = match Box::pin(one(row, &args)).await {
                Ok(report) => report,
                Err(failure) => {
                    all_ran = false;
                    output::say_warning(format!("{}, {}: run {run} failed: {failure:?}", row.name, row.against));
                    continue;
                }
            };
            if !report.clean() {
                output::say_warning(format!("{}, {}: not clean\n{report}", row.name, row.against));
            }
            reports.push(report);
        }
        measured.push(Measured { name: row.name, against: row.against.to_string(), reports });
        write_results(&args.out, &rows[..measured.len()], &measured)?;
    }
    output::print(table(&rows, &measured))?;
    output::say(format!("results.json and plots are in {}", args.out.display()));
    let clean = all_ran && measured.iter().flat_map(|one| &one.reports).all(Report::clean);
    if clean { Ok(()) } else { Err(Failure::Told) }
}

/// The rows whose name holds what was asked for.
fn chosen(args: &Args) -> Result<Vec<Row>, Failure> {
    let Some(text) = &args.only else { return Ok(rows::all(args)) };
    let (rows, others): (Vec<Row>, Vec<Row>) = rows::all(args).into_iter().partition(|row| row.name.contains(text));
    if rows.is_empty() {
        let mut names: Vec<&str> = others.iter().map(|row| row.name).collect();
        names.dedup();
        return Err(Failure::usage(format!("--only {text:?} is in no load's name:\n  {}", names.join("\n  "))));
    }
    Ok(rows)
}

/// One run of a row, with a server of its own: none inherits the memory or the caches of another.
async fn one(row: &Row, args: &Args) -> Result<Report, Failure> {
    match row.against {
        Against::Tickwire(via) => {
            let server = Server::start(args.server_cpu, &args.set).await?;
            Ok(tickwire_bench::run(&server.target(via)?, &row.load).await?)
        }
        Against::Limit { per_call } => {
            let work = LimitServer { sockets: row.load.sockets, per_call, cpu: args.server_cpu };
            Ok(tickwire_bench::run(&super::limit(work)?, &row.load).await?)
        }
    }
}

/// The middle of the values, and the smallest and the largest.
fn median(mut values: Vec<f64>) -> Option<[f64; 3]> {
    values.sort_by(f64::total_cmp);
    let (first, last) = (values.first()?, values.last()?);
    let middle = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
    Some([middle, *first, *last])
}

fn figures(metric: Metric, reports: &[Report]) -> Option<[f64; 3]> {
    median(reports.iter().filter_map(|report| metric.of(report)).collect())
}

/// All rows as a table: what was measured, by whom, the median with its range, the goal.
fn table(rows: &[Row], measured: &[Measured]) -> String {
    let mut cells = vec![["load", "server", "what", "median", "least to most", "goal"].map(str::to_owned)];
    for (row, one) in rows.iter().zip(measured) {
        for (place, (metric, goal)) in row.metrics.iter().enumerate() {
            let Some([middle, least, most]) = figures(*metric, &one.reports) else { continue };
            let show = |value| metric.show(value);
            let [name, against] =
                if place == 0 { [row.name.to_owned(), one.against.clone()] } else { [String::new(), String::new()] };
            let what = metric.name().to_owned();
            cells.push([
                name,
                against,
                what,
                show(middle),
                format!("{} to {}", show(least), show(most)),
                (*goal).to_owned(),
            ]);
        }
    }
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = String::new();
    for (index, row) in cells.iter().enumerate() {
        let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "| {} |", line.join(" | "));
        if index == 0 {
            let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            let _ = writeln!(text, "| {} |", rule.join(" | "));
        }
    }
    text
}

/// `results.json`, a plot of latencies for each load that has some, and bars of what a CPU second delivers.
fn write_results(out: &Path, rows: &[Row], measured: &[Measured]) -> Outcome {
    let json = serde_json::to_string_pretty(measured)
        .map_err(|error| Failure::Failed(anyhow::Error::from(error).context("write results.json")))?;
    super::write_file(&out.join("results.json"), &json)?;
    let mut bars = Vec::new();
    for (row, one) in rows.iter().zip(measured) {
        let metric = Metric::DeliveriesPerCpu;
        if let Some([middle, ..]) = figures(metric, &one.reports) {
            bars.push((format!("{}, {}", row.name, one.against), middle, metric.show(middle)));
        }
    }
    super::write_file(&out.join("deliveries.svg"), &plot::bars("Deliveries per server CPU second", &bars))?;
    let mut names: Vec<&str> = rows.iter().map(|row| row.name).collect();
    names.dedup();
    for name in names {
        let curves: Vec<Curve> = measured.iter().filter(|one| one.name == name).filter_map(middle_curve).collect();
        if !curves.is_empty() {
            let file: String = name.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '-' }).collect();
            let title = format!("{name}: latency");
            super::write_file(&out.join(format!("latency-{file}.svg")), &plot::curves(&title, &curves))?;
        }
    }
    Ok(())
}

/// The curve of the run whose p50 is the median.
fn middle_curve(one: &Measured) -> Option<Curve> {
    let mut runs: Vec<_> = one.reports.iter().filter_map(|report| report.delivered.as_ref()).collect();
    runs.sort_by_key(|delivered| delivered.latency.p50_us);
    let points = runs.get(runs.len() / 2)?.curve.clone();
    (!points.is_empty()).then(|| Curve { label: one.against.clone(), points })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some([2.0, 1.0, 3.0]));
        assert_eq!(median(vec![4.0, 1.0]), Some([2.5, 1.0, 4.0]));
        assert_eq!(median(Vec::new()), None);
    }
}
