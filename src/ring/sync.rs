//! Provides the atomics and threads of `std`, or under `--cfg loom` those of the model checker.
//!
//! The orderings and fences of the protocol are functions of a [`Step`] here, so that the model can
//! leave one out.

#[cfg(loom)]
use std::cell::Cell;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release, SeqCst};

#[cfg(loom)]
pub(super) use loom::{
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicUsize},
    thread::{self, Thread},
};
#[cfg(not(loom))]
pub(super) use std::{
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicUsize},
    thread::{self, Thread},
};

#[cfg(loom)]
use loom::sync::atomic::fence as memory_fence;
#[cfg(not(loom))]
use std::sync::atomic::fence as memory_fence;

/// Keeps its content off the cache lines of its neighbors.
///
/// It is aligned to 128 bytes. x86-64 processors fetch cache lines in pairs, and Apple's have lines of
/// that length.
#[repr(align(128))]
pub(super) struct CacheLine<T>(pub(super) T);

impl<T> std::ops::Deref for CacheLine<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Names the steps that the protocol depends on. The model leaves out one at a time and must fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The Release store of `tail`: the records are written before it.
    TailStore,
    /// The Acquire load of `tail`: the records are read after it.
    TailLoad,
    /// The Release store of `head`: the records are read before it.
    HeadStore,
    /// The Acquire load of `head`: the slots are written again after it.
    HeadLoad,
    /// The Release store of `closed`: the last `tail` is stored before it.
    ClosedStore,
    /// The Acquire load of `closed`: the last `tail` is loaded after it.
    ClosedLoad,
    /// The fence between publishing (or closing) and the check for a sleeping thread.
    RingFence,
    /// The fence between announcing the sleep and the last check for records.
    SleepFence,
    /// The fence between freeing slots and the check for a waiting producer.
    FreeFence,
    /// The fence between announcing the wait and the last check for room.
    WaitFence,
    /// The last check for room.
    WaitLook,
    /// The last check for records.
    SleepLook,
    /// The publishing of the records of a frame before that of the frame.
    RecordsFirst,
}

/// Returns whether a step is taken: always, except in the model.
#[cfg(not(loom))]
pub(super) const fn kept(_: Step) -> bool {
    true
}

/// Returns whether a step is taken: always, unless the model leaves it out.
#[cfg(loom)]
pub(super) fn kept(step: Step) -> bool {
    LEFT_OUT.get() != Some(step)
}

#[cfg(loom)]
thread_local! {
    /// The step that the model of this test leaves out. The threads of a model are coroutines on the
    /// thread of its test.
    pub(super) static LEFT_OUT: Cell<Option<Step>> = const { Cell::new(None) };
}

/// Returns Release, or Relaxed for a step that is left out.
pub(super) fn release(step: Step) -> Ordering {
    if kept(step) { Release } else { Relaxed }
}

/// Returns Acquire, or Relaxed for a step that is left out.
pub(super) fn acquire(step: Step) -> Ordering {
    if kept(step) { Acquire } else { Relaxed }
}

/// Issues a SeqCst fence, unless the step is left out.
pub(super) fn fence(step: Step) {
    if kept(step) {
        memory_fence(SeqCst);
    }
}
