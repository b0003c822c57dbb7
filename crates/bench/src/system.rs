//! What the system counts: CPU time and memory of a process, its full accept queues, and what sockets have not read.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use serde::Serialize;

/// User and system time of a process with all its threads (proc(5), `/proc/pid/stat`, fields 14 and 15).
pub(crate) fn cpu_seconds(pid: u32) -> Option<f64> {
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
pub(crate) fn rss(pid: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Connections that the kernel turned away because nobody accepted in time, since the machine started: all its ports together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct AcceptQueue {
    /// `TcpExt: ListenOverflows`: the accept queue was full.
    pub overflows: u64,
    /// `TcpExt: ListenDrops`: the same, and what was dropped for other reasons.
    pub drops: u64,
}

impl AcceptQueue {
    /// What the system counts now; nothing, where it cannot be read.
    pub(crate) fn now() -> Self {
        fs::read_to_string("/proc/net/netstat").ok().and_then(|text| Self::read(&text)).unwrap_or_default()
    }

    /// Names on one line, values on the next, both behind `TcpExt:`.
    fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
        let (names, values) = (lines.next()?, lines.next()?);
        let value = |wanted: &str| {
            let mut both = names.split_ascii_whitespace().zip(values.split_ascii_whitespace());
            both.find(|(name, _)| *name == wanted)?.1.parse().ok()
        };
        Some(Self { overflows: value("ListenOverflows")?, drops: value("ListenDrops")? })
    }

    /// Since an earlier time.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            overflows: self.overflows.saturating_sub(earlier.overflows),
            drops: self.drops.saturating_sub(earlier.drops),
        }
    }
}

/// The process that listens at an address of this machine, if that may be seen.
pub(crate) fn listener(address: SocketAddr) -> Option<u32> {
    const LISTEN: &str = "0A";
    let local = match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback(),
    };
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().filter(|_| local).find_map(|path| {
        let text = fs::read_to_string(path).ok()?;
        text.lines()
            .filter_map(Row::read)
            .find(|row| row.port == address.port() && row.state == LISTEN)?
            .inode
            .parse::<u64>()
            .ok()
    })?;
    let socket = format!("socket:[{inode}]");
    let own = std::process::id();
    let pids = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != own).find(|pid| holds(*pid, &socket))
}

fn holds(pid: u32, socket: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|target| target == Path::new(socket)))
}

/// The most bytes that one connection of a port has sent and that its other end has not taken: what the kernel keeps for it.
pub(crate) fn unsent_max(port: u16) -> Option<u64> {
    let text = fs::read_to_string("/proc/net/tcp").ok()?;
    text.lines().filter_map(Row::read).filter(|row| row.port == port).map(|row| row.queued).max()
}

/// A line of `/proc/net/tcp`: `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode`.
struct Row<'a> {
    port: u16,
    state: &'a str,
    queued: u64,
    inode: &'a str,
}

impl<'a> Row<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (_, port) = fields.next()?.rsplit_once(':')?;
        let state = fields.nth(1)?;
        let (queued, _) = fields.next()?.split_once(':')?;
        let inode = fields.nth(4)?;
        Some(Self {
            port: u16::from_str_radix(port, 16).ok()?,
            state,
            queued: u64::from_str_radix(queued, 16).ok()?,
            inode,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_command_name() {
        let stat = "77 (a) b (c)) S 1 77 77 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 9 0 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert!(rss(std::process::id()).is_some_and(|bytes| bytes > 100_000));
    }

    #[test]
    fn full_accept_queues_are_found_by_name() {
        let text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops Other\nTcpExt: 1 22 33 4\nIpExt: InNoRoutes\nIpExt: 0\n";
        assert_eq!(AcceptQueue::read(text), Some(AcceptQueue { overflows: 22, drops: 33 }));
        assert_eq!(AcceptQueue::read("TcpExt: A\n"), None);
    }

    #[test]
    fn a_connection_says_what_it_holds() {
        let line =
            "   1: 0100007F:3908 0200007F:9C40 01 0000F00D:00000000 01:00000014 00000000  1000        0 123456 1 0 20";
        let row = Row::read(line).unwrap();
        assert_eq!((row.port, row.state, row.queued, row.inode), (14_600, "01", 0xf00d, "123456"));
        assert!(Row::read("  sl  local_address rem_address   st tx_queue").is_none());
    }
}
