//! Wakes the thread that holds the consumers. See "Wake-ups" in the module above.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::sync::{Arc, AtomicBool, CacheLine, Step, Thread, fence, kept, thread};

/// Wakes the one consumer thread, for all its rings together.
///
/// It belongs to the first thread that sleeps on it. It can be created on another thread and moved to
/// that one first.
pub struct Doorbell {
    pub(super) shared: Arc<BellShared>,
}

impl Doorbell {
    /// Creates a doorbell that no ring is connected to yet.
    #[must_use]
    pub fn new() -> Self {
        let sleeping = CacheLine(AtomicBool::new(false));
        Self { shared: Arc::new(BellShared { sleeping, thread: OnceLock::new() }) }
    }

    /// Parks this thread until a producer publishes or is dropped, unless `is_ready` returns true.
    ///
    /// `is_ready` checks every ring of this doorbell. It is called after the sleep is announced, so a
    /// change that it does not see rings the doorbell. The call may also return for no reason, as a
    /// park may.
    ///
    /// # Panics
    ///
    /// If another thread has already slept on this doorbell: only that thread would be woken.
    pub fn sleep_unless(&mut self, is_ready: impl FnOnce() -> bool) {
        let owner = self.shared.thread.get_or_init(thread::current);
        assert_eq!(owner.id(), thread::current().id(), "a doorbell belongs to one thread");
        // Release: a producer that sees the announcement also sees the thread.
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

/// Holds the state that the doorbell and its producers share.
pub(super) struct BellShared {
    /// Set by the consumer thread before its last check. A producer that swaps it back must then
    /// unpark the thread.
    pub(super) sleeping: CacheLine<AtomicBool>,
    /// The consumer thread. Set before `sleeping` is set for the first time.
    thread: OnceLock<Thread>,
}

impl BellShared {
    /// Wakes the consumer thread if it has announced its sleep. Call it after a store that the
    /// thread's last check looks for.
    pub(super) fn ring(&self) {
        fence(Step::RingFence);
        if self.sleeping.load(Relaxed) && self.sleeping.swap(false, Acquire) {
            self.thread.get().expect("the thread is set before it announces its sleep").unpark();
        }
    }
}
