//! The atomics and threads of `std` or of the model checker, and the steps that the model leaves out.

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

/// Keeps its content clear of its neighbours' cache lines. 128 bytes: x86-64 fetches lines in
/// pairs, and Apple's are that long.
#[repr(align(128))]
pub(super) struct CacheLine<T>(pub(super) T);

impl<T> std::ops::Deref for CacheLine<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// The steps the protocol stands on. The model leaves out one at a time, and must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Release of `tail`: the records were written before it.
    TailStore,
    /// Acquire of `tail`: the records are read after it.
    TailLoad,
    /// Release of `head`: the records were read before it.
    HeadStore,
    /// Acquire of `head`: the slots are written again after it.
    HeadLoad,
    /// Release of `closed`: the last `tail` was stored before it.
    ClosedStore,
    /// Acquire of `closed`: the last `tail` is loaded after it.
    ClosedLoad,
    /// Between publishing (or closing) and the look for a sleeper.
    RingFence,
    /// Between announcing the sleep and the last look for records.
    SleepFence,
    /// Between freeing slots and the look for a waiting producer.
    FreeFence,
    /// Between announcing the wait and the last look for room.
    WaitFence,
    /// The last look for room.
    WaitLook,
    /// The last look for records.
    SleepLook,
}

/// Whether a step is taken: always, except in the model.
#[cfg(not(loom))]
pub(super) const fn kept(_: Step) -> bool {
    true
}

#[cfg(loom)]
pub(super) fn kept(step: Step) -> bool {
    LEFT_OUT.get() != Some(step)
}

#[cfg(loom)]
thread_local! {
    /// The step that the model of this test leaves out. (The threads of a model are coroutines on
    /// the thread of its test.)
    pub(super) static LEFT_OUT: Cell<Option<Step>> = const { Cell::new(None) };
}

pub(super) fn release(step: Step) -> Ordering {
    if kept(step) { Release } else { Relaxed }
}

pub(super) fn acquire(step: Step) -> Ordering {
    if kept(step) { Acquire } else { Relaxed }
}

pub(super) fn fence(step: Step) {
    if kept(step) {
        memory_fence(SeqCst);
    }
}
