//! Reports of several servers, side by side: the median of each figure, and how many times better the first server is.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::BenchError;

/// One run of one server: what a script notes around the report that the bench printed.
#[derive(Debug, Clone, Deserialize)]
struct Run {
    server: String,
    /// What was measured, as a title; runs of one title are compared.
    row: String,
    /// The bench's report; absent if there is none.
    report: Option<Value>,
    /// Why there is none.
    failure: Option<String>,
}

/// All rows, in the order of their first run.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// What was measured.
    pub rows: Vec<Row>,
}

/// The same work by several servers.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What it was.
    pub title: String,
    /// The servers in the order of their first run; ratios are to the first one.
    pub servers: Vec<String>,
    /// How often each was measured.
    pub runs: Vec<usize>,
    /// The figures.
    pub figures: Vec<Figure>,
    /// Why runs have no report, by server.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: BTreeMap<String, String>,
}

/// One figure of every server.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// Its name, with its unit.
    pub name: &'static str,
    /// Of each server: the median of its runs.
    pub medians: Vec<Option<f64>>,
    /// Of each server: the least and the most.
    pub ranges: Vec<Option<[f64; 2]>>,
    /// Of each server: how many times better the first server is; `None` for a figure that is only told.
    pub ratios: Vec<Option<f64>>,
    #[serde(skip)]
    digits: usize,
}

/// Which way a figure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Better {
    Higher,
    Lower,
    /// Told, so that the others can be judged.
    Told,
}

/// Where a figure is in a report, by what it is divided, and how many digits it is shown with.
struct Kind {
    name: &'static str,
    paths: &'static [&'static str],
    unit: f64,
    digits: usize,
    better: Better,
}

const fn kind(name: &'static str, paths: &'static [&'static str], unit: f64, digits: usize, better: Better) -> Kind {
    Kind { name, paths, unit, digits, better }
}

const KIB: f64 = 1024.0;
const MS: f64 = 1000.0;

/// The figures, where a row has them. Of several paths the sum is taken; of a list, its median.
const KINDS: &[Kind] = &[
    kind("deliveries per server CPU second", &["/server/deliveries_per_cpu_second"], 1.0, 0, Better::Higher),
    kind("deliveries per second", &["/delivered/per_second"], 1.0, 0, Better::Told),
    kind("came one by one, share", &["/delivered/share_unconflated"], 1.0, 3, Better::Told),
    kind("server CPU, cores", &["/server/cores"], 1.0, 2, Better::Told),
    kind("latency p50, ms", &["/delivered/latency/p50_us"], MS, 2, Better::Lower),
    kind("latency p99, ms", &["/delivered/latency/p99_us"], MS, 2, Better::Lower),
    kind("latency p99 before they stop, ms", &["/slow/others_before/p99_us"], MS, 2, Better::Lower),
    kind("messages per read", &["/delivered/per_read/mean"], 1.0, 1, Better::Told),
    kind("bytes per delivery", &["/delivered/bytes_per_delivery"], 1.0, 0, Better::Told),
    kind("publisher late p99, ms", &["/ingest/lateness/p99_us"], MS, 2, Better::Told),
    kind("bench busy, share of a core", &["/delivered/reader_busy"], 1.0, 2, Better::Told),
    kind("lost, repeated or out of order", LOST, 1.0, 0, Better::Told),
    kind("sockets that failed", &["/delivered/failed"], 1.0, 0, Better::Told),
    kind("slow sockets cut", &["/slow/cut"], 1.0, 0, Better::Told),
    kind("merged for slow sockets", &["/slow/conflated"], 1.0, 0, Better::Told),
    kind("memory per slow socket, KiB", &["/slow/rss_per_slow_socket"], KIB, 0, Better::Told),
    kind("memory per socket, KiB", &["/server/rss_per_socket"], KIB, 1, Better::Lower),
    kind("server CPU per connect and join, µs", &["/opening/server_cpu_us_per_socket"], 1.0, 0, Better::Lower),
    kind("all joined after, s", &["/opening/seconds"], 1.0, 2, Better::Told),
    kind("all joined again after, s", &["/storm/seconds"], 1.0, 2, Better::Lower),
    kind("server CPU per reconnect, µs", &["/storm/server_cpu_us_per_socket"], 1.0, 0, Better::Lower),
    kind("accept queue overflows", &["/storm/accept_queue/overflows"], 1.0, 0, Better::Told),
];

const LOST: &[&str] = &[
    "/delivered/lost",
    "/delivered/repeated",
    "/delivered/missing",
    "/delivered/behind",
    "/delivered/disordered",
    "/delivered/overcounted",
    "/delivered/unannounced",
];

/// Compares runs, noted as JSON, one a line: `{"server":"nats","row":"fanout 50/s","report":{…}}`, or `"failure"` in place of the report.
///
/// # Errors
/// If a line is not such a run, or there is none.
pub fn compare(lines: &str) -> Result<Comparison, BenchError> {
    let mut runs: Vec<Run> = Vec::new();
    for (line, number) in lines.lines().zip(1u64..).filter(|(line, _)| !line.trim().is_empty()) {
        let run = serde_json::from_str(line);
        runs.push(run.map_err(|error| BenchError::Option(format!("line {number} is no run: {error}")))?);
    }
    if runs.is_empty() {
        return Err(BenchError::Option("there are no runs to compare".to_owned()));
    }
    let titles = in_order(runs.iter().map(|run| &run.row));
    Ok(Comparison { rows: titles.into_iter().map(|title| row(title, &runs)).collect() })
}

fn in_order<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in names {
        if !all.contains(name) {
            all.push(name.clone());
        }
    }
    all
}

fn row(title: String, runs: &[Run]) -> Row {
    let runs: Vec<&Run> = runs.iter().filter(|run| run.row == title).collect();
    let servers = in_order(runs.iter().map(|run| &run.server));
    let reports: Vec<Vec<&Value>> = servers
        .iter()
        .map(|server| runs.iter().filter(|run| run.server == *server).filter_map(|run| run.report.as_ref()).collect())
        .collect();
    let figures = KINDS.iter().filter_map(|kind| figure(kind, &reports)).collect();
    let failed = |run: &&Run| run.failure.clone().map(|failure| (run.server.clone(), failure));
    let failures = runs.iter().filter_map(failed).collect();
    Row { title, runs: reports.iter().map(Vec::len).collect(), servers, figures, failures }
}

/// A figure, if any server has it.
fn figure(kind: &Kind, reports: &[Vec<&Value>]) -> Option<Figure> {
    let values: Vec<Vec<f64>> =
        reports.iter().map(|reports| reports.iter().filter_map(|report| value(kind, report)).collect()).collect();
    let medians: Vec<Option<f64>> = values.iter().map(|values| median(values)).collect();
    medians.iter().flatten().next()?;
    let first = medians.first().copied().flatten();
    let ratio = |median: Option<f64>| {
        let (over, under) = match kind.better {
            Better::Higher => (first?, median?),
            Better::Lower => (median?, first?),
            Better::Told => return None,
        };
        (under > 0.0).then(|| over / under)
    };
    let range = |values: &Vec<f64>| {
        let least = values.iter().copied().reduce(f64::min)?;
        Some([least, values.iter().copied().reduce(f64::max)?])
    };
    Some(Figure {
        name: kind.name,
        ratios: medians.iter().map(|median| ratio(*median)).collect(),
        ranges: values.iter().map(range).collect(),
        medians,
        digits: kind.digits,
    })
}

fn value(kind: &Kind, report: &Value) -> Option<f64> {
    let found: Vec<f64> = kind.paths.iter().filter_map(|path| number(report.pointer(path)?)).collect();
    (!found.is_empty()).then(|| found.iter().sum::<f64>() / kind.unit)
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Array(list) => median(&list.iter().filter_map(Value::as_f64).collect::<Vec<f64>>()),
        other => other.as_f64(),
    }
}

/// The middle one, of an even number the lower of both.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

/// Tables as Markdown writes them, one a row.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, row) in self.rows.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{row}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = std::iter::once(self.title.clone()).chain(self.servers.iter().cloned());
        let mut lines: Vec<Vec<String>> = vec![head.collect()];
        for figure in &self.figures {
            let cells = figure.medians.iter().zip(&figure.ratios).enumerate();
            let cells = cells.map(|(server, (median, ratio))| cell(server, *median, *ratio, figure.digits));
            lines.push(std::iter::once(figure.name.to_owned()).chain(cells).collect());
        }
        let columns = self.servers.len() + 1;
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (index, line) in lines.iter().enumerate() {
            for (cell, width) in line.iter().zip(&widths) {
                write!(f, "| {cell:width$} ")?;
            }
            writeln!(f, "|")?;
            if index == 0 {
                let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
                writeln!(f, "| {} |", rules.join(" | "))?;
            }
        }
        for (server, failure) in &self.failures {
            writeln!(f, "\n{server}: {failure}")?;
        }
        Ok(())
    }
}

fn cell(server: usize, median: Option<f64>, ratio: Option<f64>, digits: usize) -> String {
    let Some(median) = median else { return "–".to_owned() };
    let mut text = grouped(&format!("{median:.digits$}"));
    if let Some(ratio) = ratio.filter(|_| server > 0) {
        // Writing to memory does not fail.
        let _ = write!(text, " ({ratio:.2}×)");
    }
    text
}

/// `1234567.8` as `1,234,567.8`.
fn grouped(number: &str) -> String {
    let (whole, rest) = number.split_at(number.find('.').unwrap_or(number.len()));
    let mut text = String::with_capacity(number.len() + number.len() / 3);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(server: &str, per_cpu: u64, p50_us: u64) -> String {
        let report = serde_json::json!({
            "server": {"deliveries_per_cpu_second": per_cpu},
            "delivered": {"latency": {"p50_us": p50_us}, "lost": 1, "missing": 2},
        });
        serde_json::json!({"server": server, "row": "fanout 50/s", "report": report}).to_string() + "\n"
    }

    #[test]
    fn medians_are_compared_with_the_first_server() {
        let runs = [
            line("tickwire", 100, 2_000),
            line("nats", 90, 8_000),
            line("tickwire", 200, 3_000),
            line("nats", 100, 9_000),
            line("tickwire", 1_200_000, 1_000),
            line("nats", 110, 7_000),
        ];
        let compared = compare(&runs.concat()).unwrap();
        let row = &compared.rows[0];
        assert_eq!((row.servers.join(" "), row.runs.as_slice()), ("tickwire nats".to_owned(), &[3, 3][..]));
        let per_cpu = &row.figures[0];
        assert_eq!(per_cpu.medians, [Some(200.0), Some(100.0)]);
        assert_eq!(per_cpu.ratios, [Some(1.0), Some(2.0)]);
        assert_eq!(per_cpu.ranges[0], Some([100.0, 1_200_000.0]));
        // Half the latency is twice as good; what is lost is told, and is the sum of all that is wrong.
        assert_eq!((row.figures[1].name, row.figures[1].ratios[1]), ("latency p50, ms", Some(4.0)));
        let lost = &row.figures[2];
        assert_eq!((lost.name, lost.medians[1], lost.ratios[1]), ("lost, repeated or out of order", Some(3.0), None));
        let text = compared.to_string();
        assert!(text.starts_with("| fanout 50/s                      | tickwire | nats         |\n| ---"), "{text}");
        assert!(text.contains("| 200      | 100 (2.00×)  |"), "{text}");
    }

    #[test]
    fn a_server_without_reports_says_why() {
        let failed = r#"{"server":"nats","row":"fanout 50/s","failure":"it did not start"}"#;
        let compared = compare(&(line("tickwire", 1, 1) + failed)).unwrap();
        assert_eq!(compared.rows[0].figures[0].medians, [Some(1.0), None]);
        let text = compared.to_string();
        assert!(text.contains("| –") && text.ends_with("nats: it did not start\n"), "{text}");
        assert!(compare("").is_err());
        assert!(compare("{}").unwrap_err().to_string().starts_with("line 1"));
    }

    #[test]
    fn thousands_are_grouped() {
        for (number, shown) in [("1", "1"), ("999.5", "999.5"), ("1000", "1,000"), ("1234567.8", "1,234,567.8")] {
            assert_eq!(grouped(number), shown);
        }
    }
}
