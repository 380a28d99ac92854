//! Shares the slots of a ring between its producer and its consumer.
//!
//! All `unsafe` code of the ring is here. [`Writer`] and [`Reader`] are the only paths to the slots,
//! and [`pair`] makes exactly one of each per ring. Their positions are private to this module, so
//! the safety arguments depend on no code elsewhere.
//!
//! # Ownership of the slots
//!
//! `tail` counts all records ever published, and only the producer writes it. `head` counts all
//! records ever released, and only the consumer writes it. Both counts wrap around `usize`. The
//! capacity is a power of two and divides their range. So the low bits of a position are the index of
//! its slot. The consumer owns the slots from `head` up to `tail`. The producer owns all others.
//!
//! A slot passes to the consumer by a Release store of `tail` that an Acquire load sees. Its record
//! was written before that store. The slot returns to the producer by a Release store of `head` that
//! an Acquire load sees. Its record was read before that store.
//!
//! Each side keeps a copy of the other side's count. It loads the count again only when the copy does
//! not suffice. Counts only grow, so an old copy errs on the safe side. While the ring is neither
//! full nor empty, each side leaves the other's cache line alone.
//!
//! `closed` is stored (Release) after the last `tail`, and loaded (Acquire) before `tail`. A consumer
//! that sees it set therefore also sees the last record.

#![expect(
    unsafe_code,
    reason = "two threads share the slots; the counts say which side owns which"
)]

use std::cell::UnsafeCell;
use std::fmt;
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering::Relaxed;

use super::sync::{Arc, AtomicBool, AtomicUsize, CacheLine, Step, acquire, release};

/// Creates the slots of a ring, and the one access to them for each side.
///
/// The capacity is rounded up to a power of two. The counts start at `origin`.
pub(super) fn pair<T: Copy>(origin: usize, capacity: usize) -> (Writer<T>, Reader<T>) {
    let capacity = capacity.checked_next_power_of_two().expect("the capacity overflows usize");
    let shared = Arc::new(Shared {
        tail: CacheLine(AtomicUsize::new(origin)),
        head: CacheLine(AtomicUsize::new(origin)),
        slots: Slots::new(capacity),
        wanted: AtomicUsize::new(0),
        closed: AtomicBool::new(false),
        abandoned: AtomicBool::new(false),
    });
    let writer =
        Writer { shared: Arc::clone(&shared), tail: origin, published: origin, head: origin };
    (writer, Reader { shared, head: origin, tail: origin })
}

/// Writes records to the slots, for the producer.
pub(super) struct Writer<T> {
    shared: Arc<Shared<T>>,
    /// The position of the next record: `published` plus the number of staged records.
    tail: usize,
    /// The value of `shared.tail`.
    published: usize,
    /// The last value seen of `shared.head`. Invariant: `tail - head <= capacity`.
    head: usize,
}

impl<T: Copy> Writer<T> {
    /// Copies `records` into the slots from `tail` on. See [`Producer::stage`](super::Producer::stage).
    pub(super) fn stage(&mut self, records: &[T]) {
        let room = self.room(records.len());
        assert!(records.len() <= room, "{} records staged in room for {room}", records.len());
        // SAFETY: the assertion says that `tail + len - head <= capacity`. So the written slots lie
        // in `tail .. head + capacity`, which the producer owns. The consumer reads no slot at or
        // above `published <= tail`. It has released all slots below `head`: an Acquire load brought
        // that count here. There is one writer per ring, and `&mut self` excludes a second write.
        unsafe { self.shared.slots.write(self.tail, records) };
        self.tail = self.tail.wrapping_add(records.len());
    }
}

impl<T> Writer<T> {
    pub(super) fn shared(&self) -> &Shared<T> {
        &self.shared
    }

    pub(super) fn capacity(&self) -> usize {
        self.shared.slots.capacity()
    }

    /// Returns the known room, and loads `head` again if that is less than `want`.
    pub(super) fn room(&mut self, want: usize) -> usize {
        if self.known_room() < want {
            self.head = self.shared.head.load(acquire(Step::HeadLoad));
        }
        self.known_room()
    }

    /// Returns the number of staged records.
    pub(super) fn staged(&self) -> usize {
        self.tail.wrapping_sub(self.published)
    }

    /// Passes all staged records to the consumer with one store.
    pub(super) fn publish(&mut self) {
        self.published = self.tail;
        self.shared.tail.store(self.published, release(Step::TailStore));
    }

    fn known_room(&self) -> usize {
        let used = self.tail.wrapping_sub(self.head);
        debug_assert!(used <= self.capacity());
        self.capacity() - used
    }
}

/// Shows the position of the next record.
impl<T> fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tail.fmt(f)
    }
}

/// Reads records from the slots, for the consumer.
pub(super) struct Reader<T> {
    shared: Arc<Shared<T>>,
    /// The value of `shared.head`.
    head: usize,
    /// The last value seen of `shared.tail`. Invariant: `tail - head <= capacity`.
    tail: usize,
}

impl<T: Copy> Reader<T> {
    /// Passes the oldest contiguous records to `f`, at most `max`, then releases their slots. Returns
    /// their number. See [`Consumer::read`](super::Consumer::read).
    pub(super) fn read(&mut self, max: usize, f: impl FnOnce(&[T])) -> usize {
        if self.tail == self.head {
            self.tail = self.shared.tail.load(acquire(Step::TailLoad));
        }
        let unread = self.tail.wrapping_sub(self.head);
        debug_assert!(unread <= self.shared.slots.capacity());
        let len = unread.min(max).min(self.shared.slots.contiguous(self.head));
        if len == 0 {
            return 0;
        }
        // SAFETY: `len <= tail - head`, so the slots lie in `head .. tail`, which the consumer owns.
        // The producer wrote them before the store of `tail` that an Acquire load brought here. It
        // writes none of them again before the store of `head` below, which comes after `f`. `len` is
        // at most the number of contiguous slots.
        unsafe { self.shared.slots.read(self.head, len, f) };
        self.head = self.head.wrapping_add(len);
        self.shared.head.store(self.head, release(Step::HeadStore));
        len
    }
}

impl<T> Reader<T> {
    pub(super) fn shared(&self) -> &Shared<T> {
        &self.shared
    }

    /// Returns whether a published record is unread. The load is Relaxed, so it does not permit a read.
    pub(super) fn has_unread(&self) -> bool {
        self.shared.tail.load(Relaxed) != self.head
    }

    /// Returns the number of slots that hold no published record. The load is Relaxed.
    pub(super) fn room(&self) -> usize {
        let unread = self.shared.tail.load(Relaxed).wrapping_sub(self.head);
        self.shared.slots.capacity() - unread
    }
}

/// Shows the position of the oldest unread record.
impl<T> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head.fmt(f)
    }
}

/// Holds the state that the two sides of a ring share.
///
/// Each count has a cache line to itself, because its writer stores it for every batch. The other
/// fields are rarely written.
pub(super) struct Shared<T> {
    /// The number of records ever published, modulo 2^BITS. Written by the producer.
    tail: CacheLine<AtomicUsize>,
    /// The number of records ever released, modulo 2^BITS. Written by the consumer. It is at most
    /// `capacity` less than `tail`.
    head: CacheLine<AtomicUsize>,
    slots: Slots<T>,
    /// The number of free slots that the producer waits for; 0 when it does not wait.
    pub(super) wanted: AtomicUsize,
    /// Set when the producer is gone: `tail` is final.
    pub(super) closed: AtomicBool,
    /// Set when the consumer is gone: `head` is final.
    pub(super) abandoned: AtomicBool,
}

// SAFETY: the atomics are `Sync`. One thread's writer writes the slots, and another thread's reader
// reads them. They never access the same slot at the same time, as `Writer::stage` and `Reader::read`
// argue. A record that crosses threads is `Send`. No reference to a `T` outlives the call that made it.
unsafe impl<T: Send> Sync for Shared<T> {}

/// Stores the records in a power of two of slots. The low bits of a position are its index.
struct Slots<T> {
    cells: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// One per cell. They show the model which thread accesses a cell, and when.
    #[cfg(loom)]
    watched: Box<[loom::cell::UnsafeCell<()>]>,
}

impl<T: Copy> Slots<T> {
    fn new(capacity: usize) -> Self {
        debug_assert!(capacity.is_power_of_two());
        Self {
            cells: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
            #[cfg(loom)]
            watched: (0..capacity).map(|_| loom::cell::UnsafeCell::new(())).collect(),
        }
    }

    /// Returns the number of slots from `position` to the end of the storage: at least 1.
    fn contiguous(&self, position: usize) -> usize {
        self.capacity() - self.index(position)
    }

    /// Copies `records` to the slots from `position` on. They continue at index 0 after the last slot.
    ///
    /// # Safety
    ///
    /// There are at most as many records as slots. No other code reads or writes these slots during
    /// the call.
    unsafe fn write(&self, position: usize, records: &[T]) {
        #[cfg(loom)]
        (0..records.len()).for_each(|i| {
            self.watched[self.index(position.wrapping_add(i))].with_mut(|_| ());
        });
        let (first, rest) = records.split_at(records.len().min(self.contiguous(position)));
        // SAFETY: `first` ends at the latest at the end of the storage. `rest` starts at index 0. It
        // ends at or below the index of `position`, since there are at most as many records as slots.
        // Only this call accesses these slots. Other code may read the borrowed `records`, so they do
        // not overlap these slots.
        unsafe {
            self.slot(self.index(position)).copy_from_nonoverlapping(first.as_ptr(), first.len());
            self.slot(0).copy_from_nonoverlapping(rest.as_ptr(), rest.len());
        }
    }

    /// Passes the `len` records from `position` on to `f`.
    ///
    /// # Safety
    ///
    /// The slots are contiguous and a record was written to each. No code writes to them before this
    /// call returns.
    unsafe fn read(&self, position: usize, len: usize, f: impl FnOnce(&[T])) {
        debug_assert!(len <= self.contiguous(position));
        let index = self.index(position);
        #[cfg(loom)]
        let _watches: Vec<_> = self.watched[index..index + len].iter().map(|c| c.get()).collect();
        // SAFETY: the caller guarantees `len` initialized, contiguous records from this pointer on. It
        // also guarantees that no code writes to them before this call returns. The slice does not
        // outlive the call.
        f(unsafe { std::slice::from_raw_parts(self.slot(index), len) });
    }

    /// Returns a pointer that is valid for the slot at `index` and all slots with higher indices.
    /// `index` is less than the capacity.
    fn slot(&self, index: usize) -> *mut T {
        UnsafeCell::raw_get(self.cells[index..].as_ptr()).cast()
    }
}

impl<T> Slots<T> {
    fn capacity(&self) -> usize {
        self.cells.len()
    }

    fn index(&self, position: usize) -> usize {
        position & (self.capacity() - 1)
    }
}
