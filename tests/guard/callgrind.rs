//! What callgrind has counted.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader},
    ops::Sub,
    path::Path,
};

use anyhow::{Context as _, Result};

/// What some work has cost, or, divided by how much it was, what one piece of it costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Count {
    /// Instructions in user space.
    pub(crate) instructions: f64,
    /// System calls that write: to sockets, and those that wake a thread through a descriptor.
    pub(crate) writes: f64,
}

impl Count {
    pub(crate) fn per(self, pieces: f64) -> Self {
        Self { instructions: self.instructions / pieces, writes: self.writes / pieces }
    }
}

impl Sub for Count {
    type Output = Self;

    fn sub(self, less: Self) -> Self {
        Self { instructions: self.instructions - less.instructions, writes: self.writes - less.writes }
    }
}

/// The C library's functions that are system calls which write. A call that goes past the C library is not seen; its budget of writes
/// would then be undercut, which is told.
const WRITES: [&str; 6] = ["send", "sendto", "sendmsg", "sendmmsg", "write", "writev"];

/// Measures at the start how fast the processor's counter runs, in a loop that ends when it is sure: its millions of instructions are more or
/// fewer by chance. They belong to no piece of work and are left out.
const CALIBRATION: &str = "quanta::Calibration::calibrate";

/// What a function is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Write,
    Calibration,
    Other,
}

impl Role {
    fn of(name: &str) -> Self {
        match base_name(name) {
            name if WRITES.contains(&name) => Self::Write,
            CALIBRATION => Self::Calibration,
            _ => Self::Other,
        }
    }
}

pub(crate) fn read(path: &Path) -> Result<Count> {
    let file = File::open(path).with_context(|| format!("callgrind has left no {}", path.display()))?;
    parse(BufReader::new(file)).with_context(|| format!("read {}", path.display()))
}

/// Reads the format of <https://valgrind.org/docs/manual/cl-format.html>: `cfn=(ID) NAME` names the function that is called by the lines that
/// follow, `calls=COUNT …` and then a position and what the calls have cost. A name is written out only once, with its id, be it as `fn` or as
/// `cfn`.
fn parse(file: impl BufRead) -> Result<Count> {
    let mut roles = HashMap::<String, Role>::new();
    let (mut total, mut writes, mut calibration) = (None, 0, None);
    let mut callee = Role::Other;
    let mut lines = file.lines();
    while let Some(line) = lines.next().transpose()? {
        let number = |text: &str| text.parse::<u64>().with_context(|| format!("no number in {line:?}"));
        if let Some(sum) = line.strip_prefix("totals: ") {
            total = Some(number(sum.trim())?);
        } else if let Some((kind @ ("" | "c"), function)) = line.split_once("fn=") {
            let (id, name) = function.split_once(' ').unwrap_or((function, ""));
            if !name.is_empty() {
                roles.insert(id.to_owned(), Role::of(name));
            }
            if kind == "c" {
                callee = roles.get(id).copied().unwrap_or(Role::Other);
            }
        } else if let Some(calls) = line.strip_prefix("calls=") {
            let cost = lines.next().context("calls without a cost")??;
            match callee {
                Role::Write => writes += number(calls.split(' ').next().unwrap_or_default())?,
                Role::Calibration => {
                    let cost = cost.rsplit(' ').next().unwrap_or_default();
                    calibration = Some(calibration.unwrap_or(0) + number(cost)?);
                }
                Role::Other => {}
            }
        }
    }
    let total = total.context("it has no line of totals: the server has not ended as it should")?;
    let calibration = calibration.with_context(|| format!("no {CALIBRATION}: what was random before the work?"))?;
    Ok(Count { instructions: (total - calibration) as f64, writes: writes as f64 })
}

/// `__libc_send@@GLIBC_2.2.5` is `send`: what a function is called depends on whether the C library's symbols are installed.
fn base_name(name: &str) -> &str {
    let name = name.split(['@', '\'']).next().unwrap_or(name);
    let name = name.trim_start_matches('_');
    name.strip_prefix("libc_").unwrap_or(name).trim_end_matches("_nocancel")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_and_calls_are_read() {
        let file = "\
version: 1
events: Ir
summary: 99

fn=(1) main
16 400
cfn=(2) __send@@GLIBC_2.2.5
calls=3 50
16 400
cfn=(3) recv
calls=5 50
16 400

fn=(4) worker
cfn=(6) quanta::Calibration::calibrate
calls=1 0
* 234
cob=(2)
cfn=(2)
calls=4 0
* 12
cfn=(5) writev
calls=1 0
* 12
totals: 1234
";
        assert_eq!(parse(file.as_bytes()).unwrap(), Count { instructions: 1000.0, writes: 8.0 });
        assert!(parse("fn=(1) main\n".as_bytes()).is_err());
        assert!(parse("totals: 1000\n".as_bytes()).is_err());
    }

    #[test]
    fn a_cost_is_a_difference_by_piece() {
        let count = |instructions, writes| Count { instructions, writes };
        assert_eq!((count(900.0, 30.0) - count(100.0, 10.0)).per(4.0), count(200.0, 5.0));
    }
}
