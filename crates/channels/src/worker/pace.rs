//! When a worker writes again.
//!
//! A system call costs about as much with one message as with sixteen, so that a worker which is asked for more calls than its core has time for
//! does best to let messages gather: one that does not would write each alone, be late all the same, and leave nothing of the core to others.
//! A worker with time to spare writes at once.
//!
//! Pure: it is told of each pass over the dirty sockets, and says how long to wait before the next.

use std::time::{Duration, Instant};

/// How long what is observed counts.
const MEMORY: Duration = Duration::from_millis(50);

/// The share of its time that a worker may spend on writing before it lets messages gather. It is measured as if each message had a call of its
/// own, so that gathering does not hide the need for it.
const DEMAND_FREE: f64 = 0.8;

/// So much above that, pauses have their full length.
const DEMAND_RANGE: f64 = 0.5;

/// The longest pause in relation to the pass before it.
const PAUSE_PER_PASS: f64 = 1.6;

/// The longest pause at all. With the pass itself it is what a message waits at most for company.
const PAUSE_MAX: Duration = Duration::from_millis(8);

/// Shorter ones than this are left out: a poll waits in milliseconds, and there would be little to gather.
const PAUSE_MIN: Duration = Duration::from_micros(700);

/// Up to the first number of messages in a call, pauses are worth it in full; from the second on, more would hardly be cheaper.
const MESSAGES_PER_CALL: [f64; 2] = [12.0, 24.0];

/// The same for bytes: what takes the time of a big call is copying them.
const BYTES_PER_CALL: [f64; 2] = [16_384.0, 32_768.0];

/// One pass over the dirty sockets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass {
    pub(super) began: Instant,
    pub(super) ended: Instant,
    pub(super) deliveries: u64,
    pub(super) calls: u64,
    pub(super) bytes: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Seconds of calls that messages would have taken one by one, and seconds that went by, both fading.
    wanted: f64,
    elapsed: f64,
    last: Option<Instant>,
    pause: Duration,
    until: Option<Instant>,
}

impl Pace {
    /// Takes note of a pass.
    pub(super) fn passed(&mut self, pass: &Pass) {
        if pass.calls == 0 || pass.deliveries == 0 {
            return;
        }
        let took = pass.ended.saturating_duration_since(pass.began);
        let since = self.last.replace(pass.ended).map_or(MEMORY, |last| pass.ended.saturating_duration_since(last));
        let per_call = ratio(pass.deliveries, pass.calls);
        let fading = (-since.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.wanted = self.wanted * fading + took.as_secs_f64() * per_call;
        self.elapsed = self.elapsed * fading + since.as_secs_f64();
        if self.until.is_some() {
            // It wrote what clients asked for while messages gather, which they go on to do: nobody would wake the worker for them.
            return;
        }
        let demand = self.wanted / self.elapsed.max(f64::MIN_POSITIVE);
        let need = ((demand - DEMAND_FREE) / DEMAND_RANGE).clamp(0.0, 1.0);
        let use_of_it = left(per_call, MESSAGES_PER_CALL).min(left(ratio(pass.bytes, pass.calls), BYTES_PER_CALL));
        let pause = took.mul_f64(PAUSE_PER_PASS * need * use_of_it).min(PAUSE_MAX);
        self.pause = if pause < PAUSE_MIN { Duration::ZERO } else { pause };
        self.until = (!self.pause.is_zero()).then(|| pass.ended + self.pause);
    }

    /// How long the last pause was.
    pub(super) fn pause(&self) -> Duration {
        self.pause
    }

    /// Whether messages are still left to gather.
    pub(super) fn holds(&mut self, now: Instant) -> bool {
        self.until = self.until.filter(|until| now < *until);
        self.until.is_some()
    }

    /// How long until they are taken; `None`: as soon as there are any.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now))
    }
}

/// How much of the way from `full` to `none` is left.
fn left(seen: f64, [full, none]: [f64; 2]) -> f64 {
    ((none - seen) / (none - full)).clamp(0.0, 1.0)
}

fn ratio(part: u64, of: u64) -> f64 {
    part as f64 / of as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes over a thousand sockets, each call 4 µs and a little for each message in it, with so many messages for each socket per second.
    /// Returns the share of time spent on writing and how many messages a call carried in the end.
    fn run(messages_per_second: u32, bytes: u64) -> (f64, f64) {
        const SOCKETS: u64 = 1_000;
        let start = Instant::now();
        let (mut pace, mut now, mut taken) = (Pace::default(), start, 0);
        let (mut busy, mut calls, mut deliveries) = (Duration::ZERO, 0, 0);
        while now - start < Duration::from_secs(2) {
            let due = ((now - start) * messages_per_second).as_secs();
            if due <= taken {
                now += Duration::from_micros(100);
                continue;
            }
            let messages = due - taken;
            taken = due;
            let count = SOCKETS * messages;
            let took = Duration::from_nanos(SOCKETS * 4_000 + count * (50 + bytes / 10));
            let pass = Pass { began: now, ended: now + took, deliveries: count, calls: SOCKETS, bytes: count * bytes };
            pace.passed(&pass);
            now += took;
            (busy, calls, deliveries) = (busy + took, calls + SOCKETS, deliveries + count);
            while pace.holds(now) {
                now += pace.wait(now).unwrap();
            }
        }
        (busy.as_secs_f64() / 2.0, ratio(deliveries, calls))
    }

    #[test]
    fn a_worker_with_time_to_spare_writes_at_once() {
        for rate in [10, 50, 190] {
            let (busy, per_call) = run(rate, 200);
            assert!(per_call < 1.05, "{per_call} messages a call at {rate}/s, {busy} busy");
        }
    }

    #[test]
    fn one_that_is_asked_for_too_much_gathers_and_has_time_again() {
        for rate in [400, 1_000, 1_500] {
            let (busy, per_call) = run(rate, 200);
            assert!(busy < 0.6 && per_call > 3.0, "{per_call} messages a call at {rate}/s, {busy} busy");
        }
    }

    #[test]
    fn what_takes_its_time_by_the_byte_is_not_held_up() {
        let (busy, per_call) = run(400, 20_000);
        assert!(busy > 0.9, "{per_call} messages a call, {busy} busy");
    }

    /// What it is muted for would else never be looked at.
    #[test]
    fn a_pass_in_a_pause_does_not_end_it() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let pass = |began: Instant, us, deliveries, calls| Pass {
            began,
            ended: began + Duration::from_micros(us),
            deliveries,
            calls,
            bytes: deliveries * 200,
        };
        for turn in 0..20 {
            pace.passed(&pass(now + Duration::from_millis(turn * 5), 5_000, 2_000, 1_000));
            pace.holds(now + Duration::from_millis(turn * 5 + 5));
        }
        let later = now + Duration::from_millis(101);
        assert!(pace.holds(later));
        pace.passed(&pass(later, 10, 1, 1));
        assert!(pace.wait(later).is_some());
    }
}
