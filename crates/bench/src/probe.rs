//! What the server spends: its CPU time and memory, and its own histogram of lag.

use std::{fs, time::Duration};

use crate::{BenchError, report::ServerLag};

const TIMEOUT: Duration = Duration::from_secs(5);
/// The histogram of coverage lag on the metrics page.
const LAG_BUCKET: &str = "tickwire_delivery_lag_seconds_bucket{";

/// Where to look.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    pid: Option<u32>,
    metrics: String,
    client: reqwest::Client,
}

/// What was seen at one time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) rss: Option<u64>,
    /// Cumulative counts by upper bound.
    lag: Vec<(f64, u64)>,
}

impl Probe {
    /// Looks at a process of this machine by its id, and at the metrics page of an admin port; without a process, at that alone.
    pub(crate) fn new(pid: Option<u32>, admin: &str) -> Result<Self, BenchError> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).build();
        let client = client.map_err(|error| BenchError::Option(format!("set up the HTTP client: {error}")))?;
        Ok(Self { pid, metrics: format!("{}/metrics", admin.trim_end_matches('/')), client })
    }

    /// Looks. What cannot be seen stays unknown.
    pub(crate) async fn sample(&self) -> Sample {
        let page = match self.client.get(&self.metrics).send().await {
            Ok(response) => response.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        };
        let mut sample = read_metrics(&page);
        if let Some(pid) = self.pid {
            sample.cpu_seconds = process_cpu(pid).or(sample.cpu_seconds);
            sample.rss = process_rss(pid).or(sample.rss);
        }
        sample
    }
}

/// User and system time of a process (proc(5), `/proc/pid/stat`, fields 14 and 15).
fn process_cpu(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = cpu_ticks(&stat)?;
    #[expect(clippy::cast_precision_loss, reason = "ticks of a process that lives for years fit")]
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn cpu_ticks(stat: &str) -> Option<u64> {
    // The second field is the command in parentheses, and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident bytes of a process (proc(5), `/proc/pid/statm`, field 2).
fn process_rss(pid: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn read_metrics(page: &str) -> Sample {
    let mut sample = Sample::default();
    for line in page.lines() {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        match name {
            "process_cpu_seconds_total" => sample.cpu_seconds = value.parse().ok(),
            "process_resident_memory_bytes" => sample.rss = value.parse::<f64>().ok().map(whole),
            _ => sample.lag.extend(bucket(name, value)),
        }
    }
    sample
}

/// `name{le="0.005"} 17`
fn bucket(name: &str, value: &str) -> Option<(f64, u64)> {
    let bound = name.strip_prefix(LAG_BUCKET)?.strip_prefix("le=\"")?.strip_suffix("\"}")?;
    Some((bound.parse().ok()?, value.parse().ok()?))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count that is written as a float")]
fn whole(value: f64) -> u64 {
    value as u64
}

impl Sample {
    /// CPU seconds since an earlier sample.
    pub(crate) fn cpu_since(&self, earlier: &Self) -> Option<f64> {
        Some(self.cpu_seconds? - earlier.cpu_seconds?)
    }

    /// The lag of what was delivered since an earlier sample.
    pub(crate) fn lag_since(&self, earlier: &Self) -> Option<ServerLag> {
        let buckets: Vec<(f64, u64)> = self
            .lag
            .iter()
            .map(|&(bound, count)| {
                let before = earlier.lag.iter().find(|(other, _)| other.to_bits() == bound.to_bits());
                (bound, count - before.map_or(0, |(_, count)| *count).min(count))
            })
            .collect();
        let count = buckets.last()?.1;
        if count == 0 {
            return None;
        }
        let at = |per_mille: u64| {
            let rank = (count * per_mille).div_ceil(1000);
            buckets.iter().find(|(_, below)| *below >= rank).map_or(f64::INFINITY, |(bound, _)| *bound)
        };
        Some(ServerLag { p50: at(500), p99: at(990), p999: at(999), count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_command_name() {
        let stat = "77 (a) b (c)) S 1 77 77 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 9 0 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert!(process_rss(std::process::id()).is_some_and(|bytes| bytes > 100_000));
    }

    #[test]
    fn quantiles_are_of_what_came_between_two_samples() {
        let page = |counts: [u64; 3]| {
            let [a, b, c] = counts;
            read_metrics(&format!(
                "# TYPE x histogram\nprocess_cpu_seconds_total 1.5\nprocess_resident_memory_bytes 4096\n\
                 {LAG_BUCKET}le=\"0.001\"}} {a}\n{LAG_BUCKET}le=\"0.05\"}} {b}\n{LAG_BUCKET}le=\"+Inf\"}} {c}\n"
            ))
        };
        let (before, after) = (page([10, 10, 10]), page([70, 110, 110]));
        assert_eq!((after.cpu_seconds, after.rss), (Some(1.5), Some(4096)));
        let lag = after.lag_since(&before).unwrap();
        assert_eq!(lag, ServerLag { p50: 0.001, p99: 0.05, p999: 0.05, count: 100 });
        assert_eq!(before.lag_since(&before), None);
    }
}
