//! The sockets and the threads that read them.

use std::{
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    BenchError,
    gather::ratio,
    machine,
    probe::Probe,
    reader::{self, Control, Plan, Seen},
    report::Opening,
    system::AcceptQueue,
};

/// How long all sockets together may take to open and join.
const OPENING_TIMEOUT: Duration = Duration::from_secs(120);
/// How often whoever waits for them looks.
const LOOK: Duration = Duration::from_millis(2);
/// Files that are not sockets.
const OTHER_FILES: u64 = 64;

/// Sockets that are open, and the threads that read them. Dropping it ends both.
pub(crate) struct Crowd {
    control: Arc<Control>,
    threads: Vec<JoinHandle<Result<Seen, BenchError>>>,
    /// What the first opening took.
    pub(crate) opening: Option<Opening>,
    address: String,
    sockets: usize,
    /// Joins of one round.
    joins: usize,
    rounds: usize,
}

impl Crowd {
    /// Opens the sockets of a plan, a few hundred at a time, and waits until all have joined.
    ///
    /// # Errors
    /// If one is refused, or this machine has not enough files.
    pub(crate) async fn open(
        plan: &Plan,
        readers: usize,
        cpu: Option<usize>,
        probe: &Probe,
    ) -> Result<Self, BenchError> {
        let mut crowd = Self {
            control: Arc::default(),
            threads: Vec::new(),
            opening: None,
            address: plan.dialect.address().to_string(),
            sockets: plan.sockets,
            joins: plan.sockets * plan.layout.topics_per_socket,
            rounds: 0,
        };
        if plan.sockets == 0 {
            return Ok(crowd);
        }
        machine::allow_files(plan.sockets as u64 + OTHER_FILES)?;
        crate::socket::begin_run();
        let share = plan.sockets.div_ceil(readers);
        let before = probe.sample().await;
        let queues = AcceptQueue::now();
        let began = Instant::now();
        for first in (0..plan.sockets).step_by(share) {
            let (plan, control) = (plan.clone(), crowd.control.clone());
            let numbers = first..(first + share).min(plan.sockets);
            crowd.threads.push(thread::spawn(move || {
                if let Some(cpu) = cpu {
                    machine::pin(cpu)?;
                }
                reader::run(&plan, numbers, &control)
            }));
        }
        crowd.opening = Some(crowd.opened(began, queues, before.cpu_seconds, probe).await?);
        Ok(crowd)
    }

    /// Drops all connections at once and waits until all are open and joined again.
    ///
    /// # Errors
    /// If one is refused.
    pub(crate) async fn storm(&mut self, probe: &Probe) -> Result<Opening, BenchError> {
        let before = probe.sample().await;
        let queues = AcceptQueue::now();
        let began = Instant::now();
        self.control.storms.fetch_add(1, Ordering::Relaxed);
        self.opened(began, queues, before.cpu_seconds, probe).await
    }

    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    async fn opened(
        &mut self,
        began: Instant,
        queues: AcceptQueue,
        cpu_before: Option<f64>,
        probe: &Probe,
    ) -> Result<Opening, BenchError> {
        self.rounds += 1;
        let joins = self.joins * self.rounds;
        while self.control.joined.load(Ordering::Relaxed) < joins {
            let failed = self.control.failed.load(Ordering::Relaxed) > 0;
            if failed || self.threads.iter().any(JoinHandle::is_finished) {
                let failure = self.end()?.into_iter().find_map(|seen| seen.tally.failure.or(seen.slow.failure));
                let problem = failure.unwrap_or_else(|| "not all sockets could be opened and joined".to_owned());
                return Err(BenchError::Refused { address: self.address.clone(), problem });
            }
            if began.elapsed() > OPENING_TIMEOUT {
                let missing = joins - self.control.joined.load(Ordering::Relaxed);
                return Err(BenchError::TimedOut(format!(
                    "{missing} of {} joins were not answered within {OPENING_TIMEOUT:?}",
                    self.joins
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
        let seconds = began.elapsed().as_secs_f64();
        let after = probe.sample().await;
        let cpu = after.cpu_seconds.zip(cpu_before).map(|(after, before)| after - before);
        Ok(Opening {
            seconds,
            per_second: ratio(self.sockets as u64, seconds),
            server_cpu_us_per_socket: cpu.map(|cpu| cpu * 1e6 * ratio(1, as_float(self.sockets))),
            accept_queue: AcceptQueue::now().since(queues),
        })
    }

    /// Lets the threads read what is on its way, and gathers what they have seen.
    pub(crate) fn finish(mut self) -> Result<Vec<Seen>, BenchError> {
        self.end()
    }

    fn end(&mut self) -> Result<Vec<Seen>, BenchError> {
        self.control.finish.store(true, Ordering::Relaxed);
        std::mem::take(&mut self.threads)
            .into_iter()
            .map(|thread| match thread.join() {
                Ok(seen) => seen,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // Threads of a run that has failed end by themselves.
        self.control.finish.store(true, Ordering::Relaxed);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of sockets")]
fn as_float(count: usize) -> f64 {
    count as f64
}
