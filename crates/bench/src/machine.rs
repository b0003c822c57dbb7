//! What the load asks of this machine: files, cores.

use std::{
    process::{Child, Command},
    thread,
};

use rustix::{
    process::{Resource, getrlimit, setrlimit},
    thread::{CpuSet, sched_setaffinity},
};

use crate::BenchError;

/// Raises the limit of open files as far as it may be and need be.
pub(crate) fn allow_files(wanted: u64) -> Result<(), BenchError> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < wanted) {
        return Err(BenchError::Option(format!(
            "the sockets need {wanted} open files, the limit is {}; raise it (ulimit -n) or open fewer sockets",
            limit.maximum.unwrap_or_default()
        )));
    }
    limit.current = Some(wanted);
    setrlimit(Resource::Nofile, limit)
        .map_err(|error| BenchError::machine("raise the limit of open files")(error.into()))
}

/// Binds the calling thread to a core.
pub(crate) fn pin(cpu: usize) -> Result<(), BenchError> {
    let none = || BenchError::Option(format!("this process has no core {cpu}; the first is 0, `nproc` counts them"));
    if cpu >= CpuSet::MAX_CPU {
        return Err(none());
    }
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    sched_setaffinity(None, &cpus).map_err(|error| match error {
        // The set has no core that is there and allowed.
        rustix::io::Errno::INVAL => none(),
        error => BenchError::machine("keep to a core")(error.into()),
    })
}

/// Starts a program on a core, all its threads, whatever core the caller keeps to.
///
/// # Errors
/// If there is no such core, or the program cannot be started.
pub fn spawn_on(mut command: Command, cpu: Option<usize>) -> Result<Child, BenchError> {
    // A child inherits the cores of the thread that starts it.
    let thread = thread::spawn(move || {
        if let Some(cpu) = cpu {
            pin(cpu)?;
        }
        command.spawn().map_err(BenchError::machine("start a server"))
    });
    match thread.join() {
        Ok(child) => child,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
