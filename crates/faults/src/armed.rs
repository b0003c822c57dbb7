//! Which points panic.

use std::sync::{
    Arc, Once,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use parking_lot::RwLock;

use crate::Unit;

/// How many points are armed: what a point looks at first.
static COUNT: AtomicUsize = AtomicUsize::new(0);
static ARMED: RwLock<Vec<Entry>> = RwLock::new(Vec::new());

/// What these panics say.
pub const MESSAGE: &str = "a fault on purpose";

struct Entry {
    unit: Unit,
    place: String,
    left: AtomicU64,
    fired: Arc<AtomicU64>,
}

/// A point that panics, until this is dropped.
#[derive(Debug)]
#[must_use = "dropping it disarms the point"]
pub struct Armed {
    fired: Arc<AtomicU64>,
}

/// Lets a unit panic at this place, the next `times` that it comes by. Others with the same place, in the same process, do so too.
pub fn arm(unit: Unit, place: impl ToString, times: u64) -> Armed {
    let fired = Arc::new(AtomicU64::new(0));
    let entry = Entry { unit, place: place.to_string(), left: AtomicU64::new(times), fired: Arc::clone(&fired) };
    ARMED.write().push(entry);
    COUNT.fetch_add(1, Ordering::Release);
    Armed { fired }
}

impl Armed {
    /// How often it has panicked.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.fired.load(Ordering::Acquire)
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        let mut armed = ARMED.write();
        if let Some(at) = armed.iter().position(|entry| Arc::ptr_eq(&entry.fired, &self.fired)) {
            armed.swap_remove(at);
            COUNT.fetch_sub(1, Ordering::Release);
        }
    }
}

/// Keeps these panics out of the output of the process: ten thousand of them are worth no line each.
pub fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload_as_str().is_some_and(|text| text.starts_with(MESSAGE)) {
                told(info);
            }
        }));
    });
}

/// Panics if a test has armed this place. `place` is asked only while something is armed.
#[expect(clippy::panic, reason = "it is what this is for")]
pub fn point<P: ToString>(unit: Unit, place: impl FnOnce() -> P) {
    if COUNT.load(Ordering::Acquire) == 0 || !ARMED.read().iter().any(|entry| entry.unit == unit) {
        return;
    }
    let place = place().to_string();
    let fires = ARMED.read().iter().any(|entry| entry.unit == unit && entry.place == place && entry.fire());
    if fires {
        panic!("{MESSAGE}: {unit:?} at {place}");
    }
}

impl Entry {
    fn fire(&self) -> bool {
        let fires = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok();
        if fires {
            self.fired.fetch_add(1, Ordering::AcqRel);
        }
        fires
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_panics_where_and_as_often_as_it_is_armed() {
        let crashes = |place: &'static str| std::panic::catch_unwind(|| point(Unit::Shard, || place)).is_err();
        let armed = arm(Unit::Shard, "A", 2);
        assert_eq!([crashes("B"), crashes("A"), crashes("A"), crashes("A")], [false, true, true, false]);
        assert_eq!(armed.fired(), 2);
        point(Unit::Bars, || "A");
        let again = arm(Unit::Shard, "A", 1);
        drop(again);
        assert!(!crashes("A"));
    }
}
