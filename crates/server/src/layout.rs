//! Which threads a node has and where they may run: what `[runtime]` asks for, on the machine that there is.
//!
//! A node has three kinds of threads: socket workers, which write; those of tokio, which read requests and apply quotes; those of derived
//! computations. The operating system divides the cores among them.

use std::{num::NonZeroUsize, sync::Arc};

use ::metrics::gauge;

use crate::{config::RuntimeConfig, metrics};

/// What the system lets this process use.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Machine {
    /// How many cores' worth of time: the affinity mask, and the quota of a container rounded down to whole cores.
    cores: NonZeroUsize,
    /// The numbers of the cores in the affinity mask, ascending. Empty if the system does not tell.
    allowed: Vec<usize>,
}

impl Machine {
    fn here() -> Self {
        // The standard library looks at the affinity mask and at the quotas of both versions of Linux's control groups.
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self { cores, allowed: affinity::allowed() }
    }
}

/// The threads of a node. Take it on a thread that is not pinned itself: what the calling thread may use is what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    cores: usize,
    workers: usize,
    compute_threads: usize,
    /// Where workers are pinned, in turn. Empty: they are not.
    pins: Vec<usize>,
    /// Whether pins are wanted but the system does not say which cores there are.
    is_blind: bool,
}

impl Layout {
    /// The threads that these settings mean here.
    #[must_use]
    pub fn of(runtime: &RuntimeConfig) -> Self {
        Self::on(&Machine::here(), runtime)
    }

    fn on(machine: &Machine, runtime: &RuntimeConfig) -> Self {
        let cores = machine.cores.get();
        Self {
            cores,
            workers: runtime.workers.unwrap_or(cores),
            compute_threads: runtime.compute_threads,
            pins: if runtime.pin { machine.allowed.clone() } else { Vec::new() },
            is_blind: runtime.pin && machine.allowed.is_empty(),
        }
    }

    /// Threads for requests, gRPC streams, feeds and timers: one for each core, since a thread that ingests also applies the quotes.
    #[must_use]
    pub fn io_threads(&self) -> usize {
        self.cores
    }

    /// Threads that own sockets.
    pub(crate) fn workers(&self) -> usize {
        self.workers
    }

    /// Threads for derived computations.
    pub(crate) fn compute_threads(&self) -> usize {
        self.compute_threads
    }

    /// The core that a worker is to keep to.
    fn core_of(&self, worker: usize) -> Option<usize> {
        self.pins.get(worker.checked_rem(self.pins.len())?).copied()
    }

    /// What each worker's thread does first: it goes to its core, if it has one. A system that refuses gets a log line, and the worker runs
    /// wherever it is put.
    pub(crate) fn on_worker_start(&self) -> Option<Arc<dyn Fn(usize) + Send + Sync>> {
        if self.pins.is_empty() {
            return None;
        }
        let layout = self.clone();
        Some(Arc::new(move |worker| {
            if let Some(core) = layout.core_of(worker)
                && let Err(error) = affinity::keep_to(core)
            {
                tracing::warn!(worker, core, %error, "a socket worker cannot be pinned and runs on any core");
            }
        }))
    }

    /// Says it in the log and in the metrics. `io_threads` is what the runtime really has.
    pub(crate) fn report(&self, io_threads: usize) {
        let Self { cores, workers, compute_threads, .. } = *self;
        for (kind, threads) in [("worker", workers), ("compute", compute_threads), ("io", io_threads)] {
            gauge!(metrics::THREADS, "kind" => kind).set(threads as f64);
        }
        gauge!(metrics::CORES).set(cores as f64);
        let taken = &self.pins[..self.pins.len().min(workers)];
        let pinned = if taken.is_empty() { "no".to_owned() } else { ranges(taken) };
        tracing::info!(cores, workers, compute_threads, io_threads, pinned, "threads");
        if workers > cores {
            tracing::warn!(workers, cores, "there are more socket workers than cores, which costs time and gains none");
        }
        if self.is_blind {
            tracing::warn!("runtime.pin is not in force: the system does not say which cores this process may use");
        }
    }
}

/// Numbers as `0-3,8`, the way the system writes sets of cores.
fn ranges(ascending: &[usize]) -> String {
    let runs = ascending.chunk_by(|left, right| left + 1 == *right);
    let texts: Vec<_> = runs
        .filter_map(|run| match (run.first()?, run.last()?) {
            (first, last) if first == last => Some(first.to_string()),
            (first, last) => Some(format!("{first}-{last}")),
        })
        .collect();
    texts.join(",")
}

#[cfg(target_os = "linux")]
mod affinity {
    use std::io;

    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    /// The cores that the calling thread may run on.
    pub(super) fn allowed() -> Vec<usize> {
        // A kernel with more cores than a set has places for says so with an error.
        let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
        (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
    }

    /// Keeps the calling thread to one core.
    pub(super) fn keep_to(core: usize) -> io::Result<()> {
        let mut set = CpuSet::new();
        set.set(core);
        sched_setaffinity(None, &set).map_err(io::Error::from)
    }
}

#[cfg(not(target_os = "linux"))]
mod affinity {
    use std::io;

    pub(super) fn allowed() -> Vec<usize> {
        Vec::new()
    }

    pub(super) fn keep_to(_: usize) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cores: usize, allowed: &[usize]) -> Machine {
        Machine { cores: NonZeroUsize::new(cores).unwrap(), allowed: allowed.to_vec() }
    }

    fn asked(workers: Option<usize>, pin: bool) -> RuntimeConfig {
        RuntimeConfig { workers, compute_threads: 3, pin }
    }

    fn cores_of(layout: &Layout) -> Vec<Option<usize>> {
        (0..layout.workers()).map(|worker| layout.core_of(worker)).collect()
    }

    #[test]
    fn without_a_word_there_is_a_worker_for_each_core_and_none_is_pinned() {
        let layout = Layout::on(&machine(4, &[0, 1, 2, 3]), &asked(None, false));
        assert_eq!((layout.workers(), layout.io_threads(), layout.compute_threads()), (4, 4, 3));
        assert_eq!(cores_of(&layout), [None; 4]);
        assert!(layout.on_worker_start().is_none());
    }

    #[test]
    fn workers_are_pinned_in_turn_to_the_cores_of_the_mask_alone() {
        let layout = Layout::on(&machine(3, &[2, 5, 70]), &asked(Some(5), true));
        assert_eq!(cores_of(&layout), [Some(2), Some(5), Some(70), Some(2), Some(5)]);
    }

    /// A container with half a core on a machine of 64 may run on all of them, but not at once.
    #[test]
    fn a_quota_makes_fewer_threads_and_takes_no_core_away() {
        let all: Vec<_> = (0..64).collect();
        let layout = Layout::on(&machine(1, &all), &asked(None, true));
        assert_eq!((layout.workers(), layout.io_threads()), (1, 1));
        assert_eq!(cores_of(&layout), [Some(0)]);
    }

    #[test]
    fn a_system_that_does_not_tell_its_cores_pins_nothing_and_that_is_said() {
        let layout = Layout::on(&machine(2, &[]), &asked(None, true));
        assert_eq!(cores_of(&layout), [None, None]);
        assert!(layout.is_blind && layout.on_worker_start().is_none());
    }

    #[test]
    fn sets_of_cores_read_as_the_system_writes_them() {
        for (cores, text) in [(&[0, 1, 2, 3, 8][..], "0-3,8"), (&[5], "5"), (&[0, 2, 4], "0,2,4"), (&[], "")] {
            assert_eq!(ranges(cores), text);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_worker_that_starts_keeps_to_its_core_and_a_core_that_is_not_there_harms_nothing() {
        let here = affinity::allowed();
        assert!(!here.is_empty());
        let layout = Layout::of(&asked(Some(here.len() + 1), true));
        let start = layout.on_worker_start().unwrap();
        let on_a_thread = |start: Arc<dyn Fn(usize) + Send + Sync>, worker| {
            std::thread::spawn(move || {
                start(worker);
                affinity::allowed()
            })
            .join()
            .unwrap()
        };
        assert_eq!(on_a_thread(Arc::clone(&start), 0), here[..1]);
        assert_eq!(on_a_thread(start, here.len()), here[..1], "in turn");
        assert_eq!(affinity::allowed(), here, "the others stay where they were");
        let beyond = Layout { pins: vec![1023], ..layout };
        assert!(!here.contains(&1023), "a machine as large as this needs another number here");
        assert_eq!(on_a_thread(beyond.on_worker_start().unwrap(), 0), here);
    }
}
