//! Requests that carry an `Idempotency-Key` are done once, however often they are sent.

use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;

/// How long an answer is kept for retries.
const AGE_MAX: Duration = Duration::from_secs(600);
/// How many are kept; beyond it the oldest eighth goes.
const KEYS_MAX: usize = 10_000;
/// The longest key.
pub(crate) const KEY_BYTES_MAX: usize = 256;

/// The keys of the last minutes. One that is forgotten, for age or number, is done again.
#[derive(Debug, Default)]
pub(crate) struct Idempotency(Mutex<HashMap<Key, Known>>);

/// A key belongs to who sends it: nobody can find out, or use up, the keys of others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Who.
    pub(crate) owner: String,
    /// What they chose.
    pub(crate) key: String,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    fingerprint: [u8; 32],
    at: Instant,
    done: bool,
}

/// What to do with a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is the first: do it, then say whether it was [done](Idempotency::finish).
    First,
    /// It was done before: answer as then.
    Done,
    /// The first one is still being done.
    UnderWay,
    /// The key was used for another request.
    Different,
}

impl Idempotency {
    /// Claims a key for a request with this fingerprint.
    pub(crate) fn claim(&self, key: &Key, fingerprint: [u8; 32], now: Instant) -> Claim {
        let mut keys = self.0.lock();
        match keys.get(key).filter(|known| now.saturating_duration_since(known.at) < AGE_MAX) {
            Some(known) if known.fingerprint != fingerprint => return Claim::Different,
            Some(known) if known.done => return Claim::Done,
            Some(_) => return Claim::UnderWay,
            None => {}
        }
        if keys.len() >= KEYS_MAX {
            let mut ages: Vec<_> = keys.values().map(|known| known.at).collect();
            let (_, &mut limit, _) = ages.select_nth_unstable(KEYS_MAX / 8);
            keys.retain(|_, known| known.at > limit);
        }
        keys.insert(key.clone(), Known { fingerprint, at: now, done: false });
        Claim::First
    }

    /// The first request was done; or it was not, and may be tried again.
    pub(crate) fn finish(&self, key: &Key, done: bool) {
        let mut keys = self.0.lock();
        if done {
            if let Some(known) = keys.get_mut(key) {
                known.done = true;
            }
        } else {
            keys.remove(key);
        }
    }

    /// Forgets what is too old.
    pub(crate) fn sweep(&self, now: Instant) {
        self.0.lock().retain(|_, known| now.saturating_duration_since(known.at) < AGE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(key: &str) -> Key {
        Key { owner: "ann".to_owned(), key: key.to_owned() }
    }

    #[test]
    fn a_key_is_done_once_and_means_one_request() {
        let (keys, now) = (Idempotency::default(), Instant::now());
        assert_eq!(keys.claim(&key("a"), [1; 32], now), Claim::First);
        assert_eq!(keys.claim(&key("a"), [1; 32], now), Claim::UnderWay);
        keys.finish(&key("a"), true);
        assert_eq!(keys.claim(&key("a"), [1; 32], now), Claim::Done);
        assert_eq!(keys.claim(&key("a"), [2; 32], now), Claim::Different);
        let other = Key { owner: "bob".to_owned(), key: "a".to_owned() };
        assert_eq!(keys.claim(&other, [2; 32], now), Claim::First);
        assert_eq!(keys.claim(&key("a"), [1; 32], now + AGE_MAX), Claim::First);
    }

    #[test]
    fn what_was_not_done_may_be_tried_again() {
        let (keys, now) = (Idempotency::default(), Instant::now());
        assert_eq!(keys.claim(&key("a"), [1; 32], now), Claim::First);
        keys.finish(&key("a"), false);
        assert_eq!(keys.claim(&key("a"), [1; 32], now), Claim::First);
    }

    #[test]
    fn there_are_never_more_than_so_many() {
        let (keys, start) = (Idempotency::default(), Instant::now());
        for index in 0..KEYS_MAX + 10 {
            let now = start + Duration::from_millis(index as u64);
            assert_eq!(keys.claim(&key(&index.to_string()), [1; 32], now), Claim::First);
        }
        assert!(keys.0.lock().len() <= KEYS_MAX);
        keys.sweep(start + Duration::from_secs(3600));
        assert!(keys.0.lock().is_empty());
    }
}
