//! A report for people: a line for each thing, its name first.

use std::fmt::{self, Write as _};

use super::{Delivered, Ingest, Opening, PerRead, Report, Server, Setup, Slow, Storm};
use crate::{check::Checks, system::AcceptQueue};

impl Report {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let Setup { scenario, sockets, symbols, topics_per_socket, rate, seconds, .. } = &self.setup;
        let rate = rate.map_or_else(|| "as many as acknowledged".to_owned(), |rate| format!("{rate}/s"));
        let mut rows = vec![(
            *scenario,
            format!("{sockets} sockets × {topics_per_socket} topics, {symbols} symbols, quotes {rate}, {seconds:.1} s"),
        )];
        if let Some(opening) = &self.opening {
            opening.rows(&mut rows);
        }
        if let Some(storm) = &self.storm {
            storm.rows(&mut rows);
        }
        if let Some(ingest) = &self.ingest {
            ingest.rows(&mut rows);
        }
        if let Some(delivered) = &self.delivered {
            delivered.rows(&mut rows);
        }
        if let Some(slow) = &self.slow {
            slow.rows(&mut rows);
        }
        self.server.rows(&mut rows);
        rows
    }
}

impl Ingest {
    fn rows(&self, rows: &mut Vec<(&'static str, String)>) {
        let reason = self.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let Self { sent, accepted, rejected, per_second, .. } = self;
        rows.push((
            "quotes",
            format!("{sent} sent, {accepted} accepted, {rejected} rejected{reason}, {per_second:.0}/s"),
        ));
        if self.acknowledged.count > 0 {
            rows.push(("acknowledged after", self.acknowledged.to_string()));
        }
        if self.lateness.count > 0 {
            rows.push(("bench late by", self.lateness.to_string()));
        }
    }
}

impl Delivered {
    fn rows(&self, rows: &mut Vec<(&'static str, String)>) {
        let deliveries = self.checks.deliveries;
        rows.push((
            "deliveries",
            format!(
                "{deliveries}, {:.0}/s, {:.1} % of {} owed unconflated",
                self.per_second,
                self.share_unconflated * 100.0,
                self.owed
            ),
        ));
        rows.push(("coverage lag", self.coverage.to_string()));
        rows.push(("delivery latency", self.latency.to_string()));
        if let Some(last) = self.last_socket {
            rows.push(("all sockets after", last.to_string()));
        }
        let PerRead { mean, p50, max } = self.per_read;
        rows.push((
            "messages per read",
            format!("mean {mean:.2}, p50 {p50}, max {max}; {:.0} bytes each", self.bytes_per_delivery),
        ));
        let wrong = format!("{}, {} joins behind, {} updates missing", self.checks, self.behind, self.missing);
        rows.push(("checks", wrong));
        if let Some(failure) = &self.failure {
            rows.push(("failed", format!("{}, the first: {failure}", self.failed)));
        }
        let warning = if self.reader_busy > 0.9 { ": the bench is the bottleneck" } else { "" };
        rows.push(("bench reader busy", format!("{:.0} %{warning}", self.reader_busy * 100.0)));
    }
}

impl fmt::Display for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lost, repeated, disordered, overcounted, unannounced, .. } = self;
        write!(
            f,
            "{lost} lost, {repeated} repeated, {disordered} out of order, {overcounted} overcounted, {unannounced} of an unknown epoch"
        )
    }
}

impl Opening {
    fn rows(&self, rows: &mut Vec<(&'static str, String)>) {
        rows.push(("opened and joined", format!("in {:.2} s, {:.0} sockets/s", self.seconds, self.per_second)));
        if let Some(cpu) = self.server_cpu_us_per_socket {
            rows.push(("server CPU per socket", format!("{cpu:.0} µs to connect and join")));
        }
        rows.extend(self.accept_queue.row());
    }
}

impl AcceptQueue {
    fn row(&self) -> Option<(&'static str, String)> {
        let Self { overflows, drops } = self;
        (*self != Self::default()).then(|| ("accept queues", format!("{overflows} overflows, {drops} drops")))
    }
}

impl Storm {
    fn rows(&self, rows: &mut Vec<(&'static str, String)>) {
        let list = |values: &[f64], digits: usize| {
            let values: Vec<String> = values.iter().map(|value| format!("{value:.digits$}")).collect();
            values.join(", ")
        };
        rows.push(("all joined again after", format!("{} s", list(&self.seconds, 2))));
        if !self.server_cpu_us_per_socket.is_empty() {
            rows.push(("server CPU per socket", format!("{} µs", list(&self.server_cpu_us_per_socket, 0))));
        }
        let AcceptQueue { overflows, drops } = self.accept_queue;
        rows.push(("accept queues", format!("{overflows} overflows, {drops} drops")));
    }
}

impl Slow {
    fn rows(&self, rows: &mut Vec<(&'static str, String)>) {
        rows.push(("latency before", self.others_before.to_string()));
        let reason = self.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let Self { sockets, stalled_seconds, cut, conflated, checks, .. } = self;
        rows.push((
            "slow sockets",
            format!("{sockets} did not read for {stalled_seconds:.0} s; {cut} cut off{reason}, {conflated} updates conflated"),
        ));
        rows.push(("their checks", checks.to_string()));
        if let Some(bytes) = self.kernel_bytes_max {
            rows.push(("unread in the kernel", format!("at most {} KiB a socket", bytes / 1024)));
        }
        if let (Some(peak), Some(each)) = (self.rss_peak, self.rss_per_slow_socket) {
            let (each, bound) = (each / 1024, self.bound_per_socket / 1024);
            rows.push((
                "server memory, peak",
                format!("{} KiB, {each} KiB more for each slow socket; {bound} are allowed", peak / 1024),
            ));
        }
    }
}

impl Server {
    fn rows(&self, rows: &mut Vec<(&'static str, String)>) {
        if let Some(cpu) = self.cpu_seconds {
            let cores = self.cores.unwrap_or_default();
            let mut text = format!("{cpu:.2} s, {:.0} % of a core", cores * 100.0);
            for (value, name) in
                [(self.deliveries_per_cpu_second, "deliveries"), (self.quotes_per_cpu_second, "quotes")]
            {
                if let Some(value) = value.filter(|value| *value > 0.0) {
                    let _ = write!(text, ", {value:.0} {name} per CPU second");
                }
            }
            rows.push(("server CPU", text));
        } else {
            let unknown = "not known: neither its process (--pid) nor its admin port (--admin) can be seen from here";
            rows.push(("server CPU", unknown.to_owned()));
        }
        if let (Some(before), Some(after)) = (self.rss_before, self.rss_after) {
            let per_socket = self.rss_per_socket.map(|bytes| format!(", {bytes} bytes per socket")).unwrap_or_default();
            rows.push(("server memory", format!("{} KiB → {} KiB{per_socket}", before / 1024, after / 1024)));
        }
        if let Some(lag) = &self.lag {
            let [p50, p99, p999] = [lag.p50, lag.p99, lag.p999].map(|seconds| format!("≤ {} ms", seconds * 1000.0));
            rows.push(("server's lag", format!("p50 {p50}  p99 {p99}  p99.9 {p999}")));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, text) in rows {
            writeln!(f, "{name:width$}  {text}")?;
        }
        Ok(())
    }
}
