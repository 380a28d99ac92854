//! The state that the two sides of a ring share.

#![expect(unsafe_code, reason = "two threads share the slots; who owns which is in the indices")]

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

use super::sync::{AtomicBool, AtomicUsize, CacheLine};

/// What the two sides of a ring share. Each count has a cache line to itself, since its writer
/// stores it for every batch; the rest is hardly ever written.
pub(super) struct Shared<T> {
    /// Records ever published, modulo 2^BITS. Written by the producer.
    pub(super) tail: CacheLine<AtomicUsize>,
    /// Records ever released, modulo 2^BITS. Written by the consumer. At most `capacity` behind.
    pub(super) head: CacheLine<AtomicUsize>,
    pub(super) slots: Slots<T>,
    /// The free slots that the producer waits for; 0 when it does not wait.
    pub(super) wanted: AtomicUsize,
    /// The producer is gone: `tail` is final.
    pub(super) closed: AtomicBool,
    /// The consumer is gone: `head` is final.
    pub(super) abandoned: AtomicBool,
}

// SAFETY: the atomics are `Sync`. Of the slots, one thread's producer writes and another thread's
// consumer reads, never the same at the same time (the arguments are at `stage` and `read`), and a
// record that crosses over is `Send`. Nothing gives out a reference to a `T` beyond one call.
unsafe impl<T: Send> Sync for Shared<T> {}

/// The storage: a power of two of slots, found by the low bits of a position.
pub(super) struct Slots<T> {
    cells: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// One beside each cell, through which the model sees who touches it when.
    #[cfg(loom)]
    watched: Box<[loom::cell::UnsafeCell<()>]>,
}

impl<T: Copy> Slots<T> {
    pub(super) fn new(capacity: usize) -> Self {
        debug_assert!(capacity.is_power_of_two());
        Self {
            cells: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
            #[cfg(loom)]
            watched: (0..capacity).map(|_| loom::cell::UnsafeCell::new(())).collect(),
        }
    }

    /// The number of slots from `position` to the end of the storage: at least 1.
    pub(super) fn contiguous(&self, position: usize) -> usize {
        self.capacity() - self.index(position)
    }

    /// Copies `records` to the slots from `position` on, past the end to the beginning.
    ///
    /// # Safety
    ///
    /// There are no more records than slots, and nobody else reads or writes these slots meanwhile.
    pub(super) unsafe fn write(&self, position: usize, records: &[T]) {
        #[cfg(loom)]
        (0..records.len()).for_each(|i| {
            self.watched[self.index(position.wrapping_add(i))].with_mut(|_| ());
        });
        let (first, rest) = records.split_at(records.len().min(self.contiguous(position)));
        // SAFETY: `first` ends at the end of the storage at the latest, and `rest`, which starts at
        // its beginning, ends before `index` since there are no more records than slots. The slots
        // are this call's alone, so `records` does not lie in them: whoever lent it may read it.
        unsafe {
            self.slot(self.index(position)).copy_from_nonoverlapping(first.as_ptr(), first.len());
            self.slot(0).copy_from_nonoverlapping(rest.as_ptr(), rest.len());
        }
    }

    /// Passes the `len` records from `position` on to `f`.
    ///
    /// # Safety
    ///
    /// The slots lie in one piece, a record was written to each, and nobody writes to them before
    /// this returns.
    pub(super) unsafe fn read(&self, position: usize, len: usize, f: impl FnOnce(&[T])) {
        debug_assert!(len <= self.contiguous(position));
        let index = self.index(position);
        #[cfg(loom)]
        let _watches: Vec<_> = self.watched[index..index + len].iter().map(|c| c.get()).collect();
        // SAFETY: the pointer is to `len` initialised records in one piece, which nobody writes to
        // before this returns, says the caller; and the slice is not handed out for longer.
        f(unsafe { std::slice::from_raw_parts(self.slot(index), len) });
    }

    /// The slot at `index`, which is less than the capacity, and with it all behind it.
    fn slot(&self, index: usize) -> *mut T {
        UnsafeCell::raw_get(self.cells[index..].as_ptr()).cast()
    }
}

impl<T> Slots<T> {
    pub(super) fn capacity(&self) -> usize {
        self.cells.len()
    }

    fn index(&self, position: usize) -> usize {
        position & (self.capacity() - 1)
    }
}
