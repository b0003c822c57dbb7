//! What the server spends: its CPU time and memory, as the system counts them, and its own histogram of lag.

use std::{net::SocketAddr, time::Duration};

use crate::{BenchError, report::ServerLag, system};

const TIMEOUT: Duration = Duration::from_secs(5);
/// The histogram of coverage lag on the metrics page.
const LAG_BUCKET: &str = "tickwire_delivery_lag_seconds_bucket{";

/// Where to look.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    pid: Option<u32>,
    /// The page of metrics, if the server has one, and who asks for it.
    metrics: Option<(String, reqwest::Client)>,
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
    /// Looks at a process of this machine, the one that listens where the sockets connect to unless `pid` names another, and at the
    /// metrics page of an admin port.
    ///
    /// # Errors
    /// If there is no process `pid`.
    pub(crate) fn new(pid: Option<u32>, listens: SocketAddr, admin: Option<&str>) -> Result<Self, BenchError> {
        let metrics = admin.map(|admin| {
            let client = reqwest::Client::builder().timeout(TIMEOUT).build();
            let client = client.map_err(|error| BenchError::Option(format!("set up the HTTP client: {error}")))?;
            Ok::<_, BenchError>((format!("{}/metrics", admin.trim_end_matches('/')), client))
        });
        if let Some(pid) = pid.filter(|pid| system::rss(*pid).is_none()) {
            return Err(BenchError::Option(format!(
                "there is no process {pid} here; without --pid it is found by its port"
            )));
        }
        let pid = pid.or_else(|| system::listener(listens));
        Ok(Self { pid, metrics: metrics.transpose()? })
    }

    /// Looks. What cannot be seen stays unknown.
    pub(crate) async fn sample(&self) -> Sample {
        let page = match &self.metrics {
            Some((page, client)) => match client.get(page).send().await {
                Ok(response) => response.text().await.unwrap_or_default(),
                Err(_) => String::new(),
            },
            None => String::new(),
        };
        let mut sample = read_metrics(&page);
        if let Some(pid) = self.pid {
            sample.cpu_seconds = system::cpu_seconds(pid).or(sample.cpu_seconds);
            sample.rss = system::rss(pid).or(sample.rss);
        }
        sample
    }

    /// Resident bytes now, without asking the server.
    pub(crate) fn rss(&self) -> Option<u64> {
        system::rss(self.pid?)
    }

    /// Where the CPU time is read.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.pid
    }
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
