//! The doorbell of one consumer thread.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::sync::{Arc, AtomicBool, CacheLine, Step, Thread, fence, kept, thread};

/// What the one consumer thread sleeps on, for all its rings together.
///
/// It belongs to the thread that sleeps first, and can be made and moved to that thread before.
pub struct Doorbell {
    pub(super) shared: Arc<BellShared>,
}

impl Doorbell {
    /// A doorbell that no ring is connected to yet.
    #[must_use]
    pub fn new() -> Self {
        let sleeping = CacheLine(AtomicBool::new(false));
        Self { shared: Arc::new(BellShared { sleeping, sleeper: OnceLock::new() }) }
    }

    /// Parks this thread until a producer publishes or is dropped, unless `is_ready` says that
    /// there is something to do already.
    ///
    /// `is_ready` looks at every ring of this doorbell, and is called after the sleep was
    /// announced: what it does not see rings. It may return without any of that, as a park may.
    ///
    /// # Panics
    ///
    /// If another thread has slept on this doorbell before: that is the one that would be woken.
    pub fn sleep_unless(&mut self, is_ready: impl FnOnce() -> bool) {
        let sleeper = self.shared.sleeper.get_or_init(thread::current);
        assert_eq!(sleeper.id(), thread::current().id(), "a doorbell belongs to one thread");
        // Release, so that whoever sees the announcement sees the sleeper too.
        self.shared.sleeping.swap(true, Release);
        fence(Step::SleepFence);
        if !(kept(Step::SleepLook) && is_ready()) {
            thread::park();
        }
        self.shared.sleeping.swap(false, Relaxed);
    }
}

impl fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doorbell").finish_non_exhaustive()
    }
}

impl Default for Doorbell {
    fn default() -> Self {
        Self::new()
    }
}

pub(super) struct BellShared {
    /// Set by the sleeper before its last look. Whoever swaps it back owes it the unpark.
    pub(super) sleeping: CacheLine<AtomicBool>,
    /// Set before `sleeping` is for the first time.
    sleeper: OnceLock<Thread>,
}

impl BellShared {
    /// Wakes the sleeper if there is one, after a store that its last look is for.
    pub(super) fn ring(&self) {
        fence(Step::RingFence);
        if self.sleeping.load(Relaxed) && self.sleeping.swap(false, Acquire) {
            self.sleeper.get().expect("the sleeper is set before it announces its sleep").unpark();
        }
    }
}
