//! A bounded, lock-free ring from one producer to one consumer, and the doorbell beside it.
//!
//! N workers hold one [`Producer`] each; one printer thread holds the N [`Consumer`]s and the one
//! [`Doorbell`] on which it sleeps. Neither side spins, takes a lock, or waits for the other in
//! any call but [`Doorbell::sleep_unless`], which is the printer's sleep.
//!
//! # How to drive it
//!
//! The producer asks for [`room`](Producer::room), [`stage`](Producer::stage)s records behind the
//! published ones, and [`publish`](Producer::publish)es a batch with one store. When the ring is
//! full it [`wait`s_for_room](Producer::wait_for_room): that does not block, since a poll loop has
//! timers and other sockets to serve; the consumer calls `wake_producer` once the room is there.
//! Dropping the producer publishes what is staged and closes the ring.
//!
//! The consumer [`read`](Consumer::read)s slices until nothing is left, drops what
//! [`is_finished`](Consumer::is_finished), and sleeps unless a ring
//! [`is_ready`](Consumer::is_ready):
//!
//! ```
//! use std::thread;
//! use tcpcore::internals::ring::{Doorbell, Wait, ring};
//!
//! let mut bell = Doorbell::new();
//! let worker = thread::current();
//! let (mut producer, consumer) = ring(4, &bell, move || worker.unpark());
//!
//! let printer = thread::spawn(move || {
//!     let mut consumers = vec![consumer];
//!     let mut printed = Vec::new();
//!     while !consumers.is_empty() {
//!         let mut count = 0;
//!         for consumer in &mut consumers {
//!             count += consumer.read(64, |records| printed.extend_from_slice(records));
//!         }
//!         consumers.retain(|consumer| !consumer.is_finished());
//!         if count == 0 && !consumers.is_empty() {
//!             bell.sleep_unless(|| consumers.iter().any(|consumer| consumer.is_ready()));
//!         }
//!     }
//!     printed
//! });
//!
//! for number in 0..100_i64 {
//!     while producer.room(1) < 1 {
//!         match producer.wait_for_room(2) {
//!             Wait::Over => {}
//!             Wait::Pending => thread::park(), // A worker goes back to its poll instead.
//!             Wait::Abandoned => return,
//!         }
//!     }
//!     producer.stage(&[number]);
//!     producer.publish();
//! }
//! drop(producer);
//! assert_eq!(printer.join().unwrap(), (0..100).collect::<Vec<_>>());
//! ```
//!
//! # The hand-off of records
//!
//! `tail` counts the records ever published and is written by the producer only; `head` counts the
//! records ever released and is written by the consumer only. Both wrap round `usize`, which a
//! power of two as capacity divides, so a position's slot is its low bits. The slots from `head` to
//! `tail` are the consumer's, all others the producer's. A slot changes hands by a Release store
//! of `tail` (its record was written before) that an Acquire load sees, and goes back by a Release
//! store of `head` (its record was read before) that an Acquire load sees. Each side keeps a copy
//! of the other's count and loads it anew only when the copy does not suffice: counts only grow,
//! so an old copy errs on the safe side, and while neither full nor empty the sides leave each
//! other's cache lines alone.
//!
//! `closed` is stored (Release) after the last `tail` and loaded (Acquire) before it, so whoever
//! sees it set sees the last record too.
//!
//! # The hand-off of sleep
//!
//! Both wake-ups, on empty and on full, are one pattern, store buffering:
//!
//! ```text
//!           the side that acts                      the side that waits
//!   empty   tail = t            (Release)           sleeping = true
//!           fence               (SeqCst)            fence           (SeqCst)
//!           sleeping?           -> unpark           tail?           -> do not park
//!
//!   full    head = h            (Release)           wanted = n
//!           fence               (SeqCst)            fence           (SeqCst)
//!           wanted?             -> wake_producer    head?           -> do not wait
//! ```
//!
//! Each side stores, then loads what the other stored. Release and Acquire allow both loads to miss
//! both stores (a processor's store buffer does just that), and then one side sleeps on work and
//! nobody wakes it. The two fences stand in one total order: the loads after the later fence see
//! the stores before the earlier one. So either the acting side sees the announcement, or the
//! waiting side sees the work. If both see, the announcement is taken back by whoever swaps it
//! first, and the worst is a wake-up too many, which costs one look.
//!
//! Announcements are rare and the flags are otherwise only read: a doorbell that nobody waits on
//! costs a fence a batch, and no system call. The flags are written by swaps alone, so that their
//! writes form one chain, in which no announcement is missed or answered twice.
//!
//! `RUSTFLAGS="--cfg loom"` replaces the atomics by the model checker's; the `model` module
//! runs the whole protocol under it, and shows for each step named in `Step` that without it a
//! record is torn or a wake-up lost.

#![expect(unsafe_code, reason = "two threads share the slots; who owns which is in the indices")]

mod doorbell;
#[cfg(all(test, loom))]
mod model;
mod slots;
mod sync;
#[cfg(all(test, not(loom)))]
mod tests;

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

pub use doorbell::Doorbell;

use doorbell::BellShared;
use slots::{Shared, Slots};
use sync::{Arc, AtomicBool, AtomicUsize, CacheLine, Step, acquire, fence, kept, release};

/// Makes a ring of `capacity` records, rounded up to a power of two (0 and 1 make 1).
///
/// The thread that owns `bell` is woken for records published and for the producer's end.
/// `wake_producer` is called on the consumer's thread: once for each [`Wait::Pending`], as soon as
/// the room asked for is there, and once when the consumer is dropped. It must not block; a `mio`
/// waker or an unpark is what it is for. A wake-up is a hint: whoever is woken looks again.
///
/// # Panics
///
/// If the rounded capacity overflows `usize`, or its bytes `isize`.
pub fn ring<T: Copy + Send>(
    capacity: usize,
    bell: &Doorbell,
    wake_producer: impl Fn() + Send + 'static,
) -> (Producer<T>, Consumer<T>) {
    ring_from(0, capacity, bell, wake_producer)
}

/// A ring whose counts start at `origin`, so that tests reach the end of `usize`.
fn ring_from<T: Copy + Send>(
    origin: usize,
    capacity: usize,
    bell: &Doorbell,
    wake_producer: impl Fn() + Send + 'static,
) -> (Producer<T>, Consumer<T>) {
    let capacity = capacity.checked_next_power_of_two().expect("the capacity overflows usize");
    let shared = Arc::new(Shared {
        tail: CacheLine(AtomicUsize::new(origin)),
        head: CacheLine(AtomicUsize::new(origin)),
        slots: Slots::new(capacity),
        wanted: AtomicUsize::new(0),
        closed: AtomicBool::new(false),
        abandoned: AtomicBool::new(false),
    });
    let producer = Producer {
        shared: Arc::clone(&shared),
        bell: Arc::clone(&bell.shared),
        tail: origin,
        published: origin,
        head: origin,
        not_sync: PhantomData,
    };
    let consumer =
        Consumer { shared, head: origin, tail: origin, wake_producer: Box::new(wake_producer) };
    (producer, consumer)
}

/// The writing side of a ring. It can be sent to another thread, but not shared or cloned.
///
/// Dropping it publishes what is staged, closes the ring and rings the doorbell.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    bell: Arc<BellShared>,
    /// Where the next record goes: `published` and the staged ones.
    tail: usize,
    /// What `shared.tail` holds.
    published: usize,
    /// The last `shared.head` seen. Invariant: `tail - head <= capacity`.
    head: usize,
    not_sync: PhantomData<Cell<()>>,
}

impl<T: Copy + Send> Producer<T> {
    /// The number of records the ring holds: the capacity asked for, rounded up to a power of two.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.slots.capacity()
    }

    /// The number of free slots, where staged records count as used.
    ///
    /// This is what was last known, and exact only when that is less than `want`: no more is
    /// looked up than the question needs, so that the consumer's cache line stays its own.
    /// `room(n) >= n` is the test whether `n` records can be staged.
    #[must_use]
    pub fn room(&mut self, want: usize) -> usize {
        if self.known_room() < want {
            self.head = self.shared.head.load(acquire(Step::HeadLoad));
        }
        self.known_room()
    }

    /// Copies `records` behind those already published or staged. The consumer does not see them
    /// before they are [published](Self::publish).
    ///
    /// # Panics
    ///
    /// If there is no [`room`](Self::room) for all of them; nothing is staged then.
    pub fn stage(&mut self, records: &[T]) {
        let room = self.room(records.len());
        assert!(records.len() <= room, "{} records staged in room for {room}", records.len());
        // SAFETY: `tail + len - head <= capacity`, as just asserted, so the slots written lie in
        // `tail .. head + capacity`. Those are the producer's: the consumer reads none at or behind
        // `published <= tail`, and has released all before `head`, which an Acquire load brought
        // here. `&mut self` of the only producer excludes a second writer.
        unsafe { self.shared.slots.write(self.tail, records) };
        self.tail = self.tail.wrapping_add(records.len());
    }

    /// The number of records staged and not yet published.
    #[must_use]
    pub fn staged(&self) -> usize {
        self.tail.wrapping_sub(self.published)
    }

    /// Hands everything staged to the consumer at once, and wakes its thread if that sleeps.
    /// Does nothing when nothing is staged.
    pub fn publish(&mut self) {
        if self.staged() == 0 {
            return;
        }
        self.published = self.tail;
        self.shared.tail.store(self.published, release(Step::TailStore));
        self.bell.ring();
    }

    /// Asks to be woken when `want` slots are free, unless they are already.
    ///
    /// Publishes what is staged first: records held back would keep their slots for ever. An
    /// announcement that still stands is replaced. Ask for a good part of the ring, such as half
    /// of it, and the two threads do not wake each other for every record.
    ///
    /// # Panics
    ///
    /// If `want` is 0 or more than the [`capacity`](Self::capacity): no wake-up would come.
    pub fn wait_for_room(&mut self, want: usize) -> Wait {
        let capacity = self.capacity();
        assert!((1..=capacity).contains(&want), "a wait for {want} of {capacity} slots");
        self.publish();
        // Release, so that a consumer that sees the announcement judges it by the tail of its time.
        self.shared.wanted.swap(want, Release);
        fence(Step::WaitFence);
        let wait = if self.is_abandoned() {
            Wait::Abandoned
        } else if kept(Step::WaitLook) && self.room(want) >= want {
            Wait::Over
        } else {
            return Wait::Pending;
        };
        // The consumer may have taken the announcement before this; that wake-up is one too many.
        self.shared.wanted.swap(0, Relaxed);
        wait
    }

    /// True once the consumer is gone: what is staged or published now is never read.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        // The flag guards no data, and the wake-up that follows its store makes it visible.
        self.shared.abandoned.load(Relaxed)
    }

    fn known_room(&self) -> usize {
        let used = self.tail.wrapping_sub(self.head);
        debug_assert!(used <= self.capacity());
        self.capacity() - used
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("tail", &self.tail).finish_non_exhaustive()
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.shared.tail.store(self.tail, release(Step::TailStore));
        self.shared.closed.store(true, release(Step::ClosedStore));
        self.bell.ring();
    }
}

/// What [`Producer::wait_for_room`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Wait {
    /// The room is there; no wake-up is due.
    Over,
    /// `wake_producer` will be called once, when the room is there or the consumer is gone.
    Pending,
    /// The consumer is gone; no wake-up is due.
    Abandoned,
}

/// The reading side of a ring. It can be sent to another thread, but not shared or cloned.
///
/// Dropping it marks the ring abandoned and calls `wake_producer`, whether the producer waits for
/// room or not: a worker whose servers are silent learns of it as well.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    /// What `shared.head` holds.
    head: usize,
    /// The last `shared.tail` seen. Invariant: `tail - head <= capacity`.
    tail: usize,
    wake_producer: Box<dyn Fn() + Send>,
}

impl<T: Copy + Send> Consumer<T> {
    /// Passes the oldest records to `f`, at most `max` of them, and then frees their slots; returns
    /// how many.
    ///
    /// They are those that lie in one piece, which at the end of the storage may be fewer than
    /// there are. 0 means that there was nothing to read (or `max` is 0), and `f` was not called.
    /// If `f` panics its records stay in the ring.
    pub fn read(&mut self, max: usize, f: impl FnOnce(&[T])) -> usize {
        if self.tail == self.head {
            self.tail = self.shared.tail.load(acquire(Step::TailLoad));
        }
        let unread = self.tail.wrapping_sub(self.head);
        debug_assert!(unread <= self.shared.slots.capacity());
        let len = unread.min(max).min(self.shared.slots.contiguous(self.head));
        if len == 0 {
            return 0;
        }
        // SAFETY: `len <= tail - head`, so the slots lie in `head .. tail`. Those are the
        // consumer's: the producer wrote them before the store of `tail` that an Acquire load
        // brought here, and writes none of them again before the store of `head` in `free`, after
        // `f`. `len` is at most what lies in one piece.
        unsafe { self.shared.slots.read(self.head, len, f) };
        self.free(len);
        len
    }

    /// True if [`read`](Self::read) would find a record, or the producer is gone. This is the look
    /// for [`Doorbell::sleep_unless`]; drop a consumer that [`is_finished`](Self::is_finished), or
    /// nobody ever sleeps.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        // No record is read on the strength of these loads, so they need no Acquire.
        self.shared.tail.load(Relaxed) != self.head || self.shared.closed.load(Relaxed)
    }

    /// True once the producer is gone and everything it published was read.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        // In this order: the tail seen after `closed` is the last one.
        self.shared.closed.load(acquire(Step::ClosedLoad))
            && self.shared.tail.load(Relaxed) == self.head
    }

    /// Gives the oldest `len` slots back, and wakes a producer that waits for them.
    fn free(&mut self, len: usize) {
        self.head = self.head.wrapping_add(len);
        self.shared.head.store(self.head, release(Step::HeadStore));
        fence(Step::FreeFence);
        let wanted = self.shared.wanted.load(Acquire);
        if wanted == 0 {
            return;
        }
        let unread = self.shared.tail.load(Relaxed).wrapping_sub(self.head);
        let room = self.shared.slots.capacity() - unread;
        if room >= wanted && self.shared.wanted.swap(0, Relaxed) != 0 {
            (self.wake_producer)();
        }
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("head", &self.head).finish_non_exhaustive()
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.shared.abandoned.store(true, Relaxed);
        (self.wake_producer)();
    }
}
