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
//! `RUSTFLAGS="--cfg loom"` replaces the atomics by the model checker's; the `model` module below
//! runs the whole protocol under it, and shows for each step named in `Step` that without it a
//! record is torn or a wake-up lost.

#![expect(unsafe_code, reason = "two threads share the slots; who owns which is in the indices")]

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release, SeqCst};

use sync::{Arc, AtomicBool, AtomicUsize, Thread, thread};

#[cfg(not(loom))]
mod sync {
    pub(super) use std::sync::Arc;
    pub(super) use std::sync::atomic::{AtomicBool, AtomicUsize, fence};
    pub(super) use std::thread::{self, Thread};
}

#[cfg(loom)]
mod sync {
    pub(super) use loom::sync::Arc;
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicUsize, fence};
    pub(super) use loom::thread::{self, Thread};
}

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

/// What the one consumer thread sleeps on, for all its rings together.
///
/// It belongs to the thread that sleeps first, and can be made and moved to that thread before.
pub struct Doorbell {
    shared: Arc<BellShared>,
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

struct BellShared {
    /// Set by the sleeper before its last look. Whoever swaps it back owes it the unpark.
    sleeping: CacheLine<AtomicBool>,
    /// Set before `sleeping` is for the first time.
    sleeper: OnceLock<Thread>,
}

impl BellShared {
    /// Wakes the sleeper if there is one, after a store that its last look is for.
    fn ring(&self) {
        fence(Step::RingFence);
        if self.sleeping.load(Relaxed) && self.sleeping.swap(false, Acquire) {
            self.sleeper.get().expect("the sleeper is set before it announces its sleep").unpark();
        }
    }
}

/// What the two sides of a ring share. Each count has a cache line to itself, since its writer
/// stores it for every batch; the rest is hardly ever written.
struct Shared<T> {
    /// Records ever published, modulo 2^BITS. Written by the producer.
    tail: CacheLine<AtomicUsize>,
    /// Records ever released, modulo 2^BITS. Written by the consumer. At most `capacity` behind.
    head: CacheLine<AtomicUsize>,
    slots: Slots<T>,
    /// The free slots that the producer waits for; 0 when it does not wait.
    wanted: AtomicUsize,
    /// The producer is gone: `tail` is final.
    closed: AtomicBool,
    /// The consumer is gone: `head` is final.
    abandoned: AtomicBool,
}

// SAFETY: the atomics are `Sync`. Of the slots, one thread's producer writes and another thread's
// consumer reads, never the same at the same time (the arguments are at `stage` and `read`), and a
// record that crosses over is `Send`. Nothing gives out a reference to a `T` beyond one call.
unsafe impl<T: Send> Sync for Shared<T> {}

/// Keeps its content clear of its neighbours' cache lines. 128 bytes: x86-64 fetches lines in
/// pairs, and Apple's are that long.
#[repr(align(128))]
struct CacheLine<T>(T);

impl<T> std::ops::Deref for CacheLine<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// The storage: a power of two of slots, found by the low bits of a position.
struct Slots<T> {
    cells: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// One beside each cell, through which the model sees who touches it when.
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

    /// The number of slots from `position` to the end of the storage: at least 1.
    fn contiguous(&self, position: usize) -> usize {
        self.capacity() - self.index(position)
    }

    /// Copies `records` to the slots from `position` on, past the end to the beginning.
    ///
    /// # Safety
    ///
    /// There are no more records than slots, and nobody else reads or writes these slots meanwhile.
    unsafe fn write(&self, position: usize, records: &[T]) {
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
    unsafe fn read(&self, position: usize, len: usize, f: impl FnOnce(&[T])) {
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
    fn capacity(&self) -> usize {
        self.cells.len()
    }

    fn index(&self, position: usize) -> usize {
        position & (self.capacity() - 1)
    }
}

/// The steps the protocol stands on. The model leaves out one at a time, and must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
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
const fn kept(_: Step) -> bool {
    true
}

#[cfg(loom)]
fn kept(step: Step) -> bool {
    LEFT_OUT.get() != Some(step)
}

#[cfg(loom)]
thread_local! {
    /// The step that the model of this test leaves out. (The threads of a model are coroutines on
    /// the thread of its test.)
    static LEFT_OUT: Cell<Option<Step>> = const { Cell::new(None) };
}

fn release(step: Step) -> Ordering {
    if kept(step) { Release } else { Relaxed }
}

fn acquire(step: Step) -> Ordering {
    if kept(step) { Acquire } else { Relaxed }
}

fn fence(step: Step) {
    if kept(step) {
        sync::fence(SeqCst);
    }
}

#[cfg(all(test, loom))]
mod model {
    //! Run by: RUSTFLAGS="--cfg loom" cargo test --release --lib ring::model
    use std::mem::ManuallyDrop;
    use std::ops::{Deref, DerefMut, Range};

    use super::*;

    /// Dropped as ever, but leaked when a model has failed: its threads are unwound outside of the
    /// execution then, and the atomics of the model checker panic there.
    struct Held<T>(ManuallyDrop<T>);

    impl<T> Held<T> {
        fn new(value: T) -> Self {
            Self(ManuallyDrop::new(value))
        }
    }

    impl<T> Deref for Held<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }

    impl<T> DerefMut for Held<T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.0
        }
    }

    impl<T> Drop for Held<T> {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                // SAFETY: this is the only place that drops it, and it runs once.
                unsafe { ManuallyDrop::drop(&mut self.0) };
            }
        }
    }

    /// Runs `execution` in every interleaving with up to 3 preemptions that the memory model
    /// allows, without one step if given. A lost wake-up shows as a deadlock.
    fn check(left_out: Option<Step>, execution: fn()) {
        LEFT_OUT.set(left_out);
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(execution);
    }

    fn held_ring(
        capacity: usize,
        bell: &Doorbell,
        wake_producer: impl Fn() + Send + 'static,
    ) -> (Held<Producer<u32>>, Held<Consumer<u32>>) {
        let (producer, consumer) = ring(capacity, bell, wake_producer);
        (Held::new(producer), Held::new(consumer))
    }

    /// A waker for the thread that calls this. That thread joins none: loom lets an unpark end a
    /// join too.
    fn wake_me() -> impl Fn() + Send + 'static {
        let me = thread::current();
        move || me.unpark()
    }

    /// The worker: stages what fits, and waits when nothing does.
    fn produce(producer: &mut Producer<u32>, numbers: Range<u32>) {
        for number in numbers {
            while producer.room(1) < 1 {
                match producer.wait_for_room(1) {
                    Wait::Over => {}
                    Wait::Pending => thread::park(),
                    Wait::Abandoned => return,
                }
            }
            producer.stage(&[number]);
            producer.publish();
        }
    }

    /// The printer: reads what there is one by one, and sleeps otherwise, until all producers are
    /// gone.
    fn consume(mut bell: Held<Doorbell>, mut consumers: Vec<Held<Consumer<u32>>>) -> Vec<u32> {
        let mut printed = Vec::new();
        while !consumers.is_empty() {
            let mut count = 0;
            for consumer in &mut consumers {
                count += consumer.read(1, |records| printed.extend_from_slice(records));
            }
            consumers.retain(|consumer| !consumer.is_finished());
            if count == 0 && !consumers.is_empty() {
                bell.sleep_unless(|| consumers.iter().any(|consumer| consumer.is_ready()));
            }
        }
        printed
    }

    /// Both directions at once: the printer sleeps on empty, the worker waits on full, and the
    /// producer is dropped while the printer reads or sleeps.
    fn both_directions() {
        let bell = Held::new(Doorbell::new());
        let (mut producer, consumer) = held_ring(1, &bell, wake_me());
        thread::spawn(move || assert_eq!(consume(bell, vec![consumer]), [0, 1]));
        produce(&mut producer, 0..2);
    }

    /// The last record and the end in one step, with no fence between them.
    fn staged_at_the_end() {
        let bell = Held::new(Doorbell::new());
        let (mut producer, consumer) = held_ring(2, &bell, wake_me());
        thread::spawn(move || assert_eq!(consume(bell, vec![consumer]), [0, 1]));
        produce(&mut producer, 0..1);
        producer.stage(&[1]);
    }

    /// Two workers ring for the same sleeper, and only one of them has to wake it.
    fn two_producers_one_bell() {
        let bell = Held::new(Doorbell::new());
        let (first, consumer) = held_ring(1, &bell, || {});
        let (second, other_consumer) = held_ring(1, &bell, || {});
        for mut producer in [first, second] {
            thread::spawn(move || produce(&mut producer, 0..1));
        }
        assert_eq!(consume(bell, vec![consumer, other_consumer]), [0, 0]);
    }

    /// The worker waits for the whole ring, and is woken once: not for the first slot already.
    fn one_wake_for_the_room_asked_for() {
        use std::sync::atomic::AtomicU32;
        let bell = Held::new(Doorbell::new());
        let wakes = std::sync::Arc::new(AtomicU32::new(0));
        let (wake, count) = (wake_me(), std::sync::Arc::clone(&wakes));
        let (mut producer, consumer) = held_ring(2, &bell, move || {
            count.fetch_add(1, Relaxed);
            wake();
        });
        producer.stage(&[0, 1]);
        producer.publish();
        // The consumer's end, which would wake as well, comes after the producer's.
        thread::spawn(move || assert_eq!(consume(bell, vec![consumer]), [0, 1]));
        if producer.wait_for_room(2) == Wait::Pending {
            thread::park();
            assert_eq!(wakes.load(Relaxed), 1);
        }
        assert_eq!(producer.room(2), 2);
        assert!(wakes.load(Relaxed) <= 1);
    }

    /// The consumer goes after one record; the worker has two more, and then nothing to say.
    fn consumer_gone() {
        let bell = Held::new(Doorbell::new());
        let (mut producer, mut consumer) = held_ring(1, &bell, wake_me());
        thread::spawn(move || consumer.read(1, |_| ()));
        produce(&mut producer, 0..3);
        while !producer.is_abandoned() {
            thread::park();
        }
    }

    #[test]
    fn every_record_arrives_and_every_wake_up() {
        check(None, both_directions);
    }

    #[test]
    fn what_is_staged_arrives_with_the_end() {
        check(None, staged_at_the_end);
    }

    #[test]
    fn two_producers_wake_one_printer() {
        check(None, two_producers_one_bell);
    }

    #[test]
    fn a_worker_is_woken_once_for_the_room_it_asked_for() {
        check(None, one_wake_for_the_room_asked_for);
    }

    #[test]
    fn a_worker_learns_that_the_consumer_is_gone() {
        check(None, consumer_gone);
    }

    /// The model without one step has to fail, in the way that step prevents.
    macro_rules! each_step_is_needed {
        ($($name:ident: $step:ident, $execution:ident, $symptom:literal;)*) => {$(
            #[test]
            #[should_panic(expected = $symptom)]
            fn $name() {
                check(Some(Step::$step), $execution);
            }
        )*};
    }

    each_step_is_needed! {
        without_tail_store: TailStore, both_directions, "Concurrent read and write";
        without_tail_load: TailLoad, both_directions, "Concurrent read and write";
        without_head_store: HeadStore, both_directions, "Concurrent read and write";
        without_head_load: HeadLoad, both_directions, "Concurrent read and write";
        without_closed_store: ClosedStore, staged_at_the_end, "left: [0]";
        without_closed_load: ClosedLoad, both_directions, "left: [0]";
        without_ring_fence: RingFence, both_directions, "deadlock";
        without_sleep_fence: SleepFence, both_directions, "deadlock";
        without_free_fence: FreeFence, both_directions, "deadlock";
        without_wait_fence: WaitFence, both_directions, "deadlock";
        without_wait_look: WaitLook, both_directions, "deadlock";
        without_sleep_look: SleepLook, both_directions, "deadlock";
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::VecDeque;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::AtomicU32;

    use proptest::prelude::*;

    use super::*;

    /// A record with padding, which is copied but never read.
    type Record = (u8, u64);

    fn silent_ring(capacity: usize) -> (Producer<u32>, Consumer<u32>) {
        ring(capacity, &Doorbell::new(), || {})
    }

    /// A ring, and the number of times its producer was woken.
    fn counting_ring(capacity: usize) -> (Producer<u32>, Consumer<u32>, Arc<AtomicU32>) {
        let wakes = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&wakes);
        let wake = move || {
            count.fetch_add(1, Relaxed);
        };
        let (producer, consumer) = ring(capacity, &Doorbell::new(), wake);
        (producer, consumer, wakes)
    }

    fn read_all<T: Copy + Send>(consumer: &mut Consumer<T>) -> Vec<T> {
        let mut all = Vec::new();
        while consumer.read(usize::MAX, |records| all.extend_from_slice(records)) > 0 {}
        all
    }

    #[test]
    fn capacity_is_rounded_up_to_a_power_of_two_from_1_on() {
        for (asked, made) in [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (1000, 1024)] {
            let (mut producer, _consumer) = silent_ring(asked);
            assert_eq!((producer.capacity(), producer.room(made)), (made, made));
        }
    }

    #[test]
    #[should_panic(expected = "overflows")]
    fn a_capacity_past_the_last_power_of_two_panics() {
        let _ = silent_ring(usize::MAX / 2 + 2);
    }

    #[test]
    fn staged_records_are_seen_only_when_published() {
        let (mut producer, mut consumer) = silent_ring(4);
        producer.stage(&[1, 2]);
        producer.stage(&[3]);
        assert_eq!((producer.staged(), producer.room(4)), (3, 1));
        assert!(!consumer.is_ready());
        assert_eq!(read_all(&mut consumer), []);

        producer.publish();
        assert_eq!((producer.staged(), producer.room(4)), (0, 1));
        assert!(consumer.is_ready());
        assert_eq!(read_all(&mut consumer), [1, 2, 3]);
        assert_eq!(producer.room(4), 4);
    }

    #[test]
    fn a_ring_of_one_holds_one() {
        let (mut producer, mut consumer) = silent_ring(1);
        for number in 0..3 {
            assert_eq!(producer.room(1), 1);
            producer.stage(&[number]);
            assert_eq!(producer.room(1), 0);
            producer.publish();
            assert_eq!(read_all(&mut consumer), [number]);
        }
    }

    #[test]
    fn the_consumer_is_asked_only_when_the_known_room_does_not_suffice() {
        let (mut producer, mut consumer) = silent_ring(4);
        producer.stage(&[1, 2]);
        producer.publish();
        assert_eq!(read_all(&mut consumer), [1, 2]);
        assert_eq!(producer.room(2), 2);
        assert_eq!(producer.room(3), 4);
    }

    #[test]
    fn one_record_more_than_there_is_room_for_panics_and_stages_nothing() {
        let (mut producer, mut consumer) = silent_ring(2);
        producer.stage(&[1]);
        let overflow = AssertUnwindSafe(|| producer.stage(&[2, 3]));
        assert!(catch_unwind(overflow).is_err());
        producer.stage(&[4]);
        producer.publish();
        assert_eq!(read_all(&mut consumer), [1, 4]);
    }

    #[test]
    fn a_read_ends_at_max_and_at_the_end_of_the_storage() {
        let (mut producer, mut consumer) = silent_ring(4);
        producer.stage(&[1, 2, 3]);
        producer.publish();
        assert_eq!(consumer.read(0, |_| unreachable!("nothing was asked for")), 0);
        assert_eq!(consumer.read(2, |records| assert_eq!(records, [1, 2])), 2);
        producer.stage(&[4, 5, 6]);
        producer.publish();
        assert_eq!(consumer.read(9, |records| assert_eq!(records, [3])), 1);
        assert_eq!(consumer.read(9, |records| assert_eq!(records, [4])), 1);
        assert_eq!(consumer.read(9, |records| assert_eq!(records, [5, 6])), 2);
        assert_eq!(consumer.read(9, |_| unreachable!("the ring is empty")), 0);
    }

    #[test]
    fn records_stay_when_their_reader_panics() {
        let (mut producer, mut consumer) = silent_ring(4);
        producer.stage(&[1, 2]);
        producer.publish();
        let reader = AssertUnwindSafe(|| consumer.read(1, |_| panic!("the reader's own")));
        assert!(catch_unwind(reader).is_err());
        assert_eq!(read_all(&mut consumer), [1, 2]);
    }

    #[test]
    fn records_can_be_staged_from_the_slice_that_is_read() {
        let (mut producer, mut consumer) = silent_ring(4);
        producer.stage(&[1, 2]);
        producer.publish();
        consumer.read(2, |records| producer.stage(records));
        producer.publish();
        assert_eq!(read_all(&mut consumer), [1, 2]);
    }

    #[test]
    fn a_dropped_producer_publishes_and_the_ring_is_finished_after_the_last_record() {
        let (mut producer, mut consumer) = silent_ring(4);
        producer.stage(&[1]);
        producer.publish();
        producer.stage(&[2]);
        assert!(!consumer.is_finished());
        drop(producer);
        assert!(consumer.is_ready() && !consumer.is_finished());
        assert_eq!(consumer.read(1, |records| assert_eq!(records, [1])), 1);
        assert!(consumer.is_ready() && !consumer.is_finished());
        assert_eq!(consumer.read(1, |records| assert_eq!(records, [2])), 1);
        assert!(consumer.is_ready() && consumer.is_finished());
    }

    #[test]
    fn a_dropped_consumer_wakes_a_producer_whether_it_waits_or_not() {
        let (mut producer, consumer, wakes) = counting_ring(2);
        producer.stage(&[1]);
        producer.publish();
        assert!(!producer.is_abandoned());
        drop(consumer);
        assert!(producer.is_abandoned());
        assert_eq!(wakes.load(Relaxed), 1);
        assert_eq!(producer.wait_for_room(1), Wait::Abandoned);
        producer.stage(&[2]);
        producer.publish();
        assert_eq!(producer.wait_for_room(1), Wait::Abandoned);

        let (mut producer, consumer, wakes) = counting_ring(1);
        producer.stage(&[1]);
        assert_eq!(producer.wait_for_room(1), Wait::Pending);
        drop(consumer);
        assert_eq!(wakes.load(Relaxed), 1);
    }

    #[test]
    fn a_wake_comes_once_and_not_before_the_last_slot_asked_for() {
        let (mut producer, mut consumer, wakes) = counting_ring(4);
        producer.stage(&[1, 2, 3, 4]);
        producer.publish();
        assert_eq!(producer.wait_for_room(3), Wait::Pending);
        for (read, woken) in [(1, 0), (2, 0), (3, 1), (4, 1)] {
            consumer.read(1, |records| assert_eq!(records, [read]));
            assert_eq!(wakes.load(Relaxed), woken);
        }
    }

    #[test]
    fn a_wait_that_is_over_at_once_is_no_announcement() {
        let (mut producer, mut consumer, wakes) = counting_ring(4);
        producer.stage(&[1, 2]);
        assert_eq!(producer.wait_for_room(2), Wait::Over);
        assert_eq!(read_all(&mut consumer), [1, 2]);
        assert_eq!(wakes.load(Relaxed), 0);
    }

    #[test]
    fn a_second_announcement_replaces_the_first() {
        let (mut producer, mut consumer, wakes) = counting_ring(2);
        producer.stage(&[1, 2]);
        assert_eq!(producer.wait_for_room(1), Wait::Pending);
        assert_eq!(producer.wait_for_room(2), Wait::Pending);
        consumer.read(1, |_| ());
        assert_eq!(wakes.load(Relaxed), 0);
        consumer.read(1, |_| ());
        assert_eq!(wakes.load(Relaxed), 1);
    }

    #[test]
    fn a_wait_publishes_what_is_staged() {
        let (mut producer, mut consumer, wakes) = counting_ring(2);
        producer.stage(&[1, 2]);
        assert_eq!(producer.wait_for_room(2), Wait::Pending);
        assert_eq!(producer.staged(), 0);
        assert_eq!(read_all(&mut consumer), [1, 2]);
        assert_eq!(wakes.load(Relaxed), 1);
    }

    #[test]
    fn a_wait_for_0_or_for_more_than_the_ring_holds_panics() {
        let (mut producer, _consumer) = silent_ring(2);
        for want in [0, 3] {
            assert!(catch_unwind(AssertUnwindSafe(|| producer.wait_for_room(want))).is_err());
        }
    }

    #[test]
    fn a_doorbell_belongs_to_the_thread_that_slept_first() {
        let mut bell = Doorbell::new();
        bell.sleep_unless(|| true);
        let other = thread::spawn(move || bell.sleep_unless(|| true));
        assert!(other.join().is_err());
    }

    #[test]
    fn a_sleep_that_did_not_happen_is_withdrawn() {
        let mut bell = Doorbell::new();
        let mut announced = false;
        let shared = Arc::clone(&bell.shared);
        bell.sleep_unless(|| {
            announced = shared.sleeping.load(Relaxed);
            true
        });
        assert!(announced && !shared.sleeping.load(Relaxed));
    }

    /// Compiles only while `$type` does not implement `$trait`: else `name` has two meanings.
    macro_rules! assert_not_impl {
        ($type:ty, $trait:path) => {
            const _: fn() = || {
                trait Ambiguous<Marker> {
                    fn name() {}
                }
                impl<T: ?Sized> Ambiguous<()> for T {}
                impl<T: ?Sized + $trait> Ambiguous<u8> for T {}
                let _ = <$type>::name;
            };
        };
    }

    assert_not_impl!(Producer<u32>, Sync);
    assert_not_impl!(Producer<u32>, Clone);
    assert_not_impl!(Consumer<u32>, Sync);
    assert_not_impl!(Consumer<u32>, Clone);
    assert_not_impl!(Doorbell, Clone);

    #[test]
    fn both_sides_and_the_doorbell_can_be_sent() {
        fn assert_send<T: Send>() {}
        assert_send::<(Producer<u32>, Consumer<u32>, Doorbell)>();
    }

    /// A worker as the poll loop is one: it stages as much of a batch as fits, and otherwise waits
    /// for half the ring.
    fn produce(producer: &mut Producer<Record>, id: u8, count: u64) {
        let half = producer.capacity().div_ceil(2);
        let mut next = 0;
        while next < count {
            let batch = (next % 7 + 1).min(count - next);
            for value in next..next + batch {
                while producer.room(1) < 1 {
                    match producer.wait_for_room(half) {
                        Wait::Over => {}
                        Wait::Pending => thread::park(),
                        Wait::Abandoned => panic!("the consumer went away"),
                    }
                }
                producer.stage(&[(id, value)]);
            }
            producer.publish();
            next += batch;
        }
    }

    fn consume(mut bell: Doorbell, mut consumers: Vec<Consumer<Record>>) -> [u64; 2] {
        let mut expected = [0; 2];
        while !consumers.is_empty() {
            let mut count = 0;
            for consumer in &mut consumers {
                count += consumer.read(5, |records| {
                    for &(id, value) in records {
                        assert_eq!(value, expected[usize::from(id)]);
                        expected[usize::from(id)] += 1;
                    }
                });
            }
            consumers.retain(|consumer| !consumer.is_finished());
            if count == 0 && !consumers.is_empty() {
                bell.sleep_unless(|| consumers.iter().any(Consumer::is_ready));
            }
        }
        expected
    }

    #[test]
    fn two_threads_hand_everything_in_order_to_a_third() {
        for (capacity, count) in [(1, 10_000), (2, 10_000), (8, 100_000), (64, 200_000)] {
            let count = if cfg!(miri) { 50 } else { count };
            let bell = Doorbell::new();
            let (workers, consumers): (Vec<_>, Vec<_>) = (0..2)
                .map(|id| {
                    let (to_worker, its_own) = std::sync::mpsc::channel();
                    let worker = thread::spawn(move || {
                        let mut producer = its_own.recv().expect("the test sends it");
                        produce(&mut producer, id, count);
                    });
                    let to_wake = worker.thread().clone();
                    let (producer, consumer) = ring(capacity, &bell, move || to_wake.unpark());
                    to_worker.send(producer).expect("the worker receives it");
                    (worker, consumer)
                })
                .unzip();
            assert_eq!(consume(bell, consumers), [count; 2]);
            for worker in workers {
                worker.join().expect("the consumer stays to the end");
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Stage(usize),
        Publish,
        Read(usize),
        Wait(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0..12_usize).prop_map(Op::Stage),
            Just(Op::Publish),
            (0..12_usize).prop_map(Op::Read),
            (1..9_usize).prop_map(Op::Wait),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 2 } else { 512 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// The ring against two queues, with counts that pass the end of `usize` on the way.
        #[test]
        fn a_ring_is_a_bounded_queue(
            capacity in 1..9_usize,
            before_the_end in 0..40_usize,
            ops in prop::collection::vec(op(), 1..if cfg!(miri) { 20 } else { 100 }),
        ) {
            let origin = usize::MAX - before_the_end;
            let (mut producer, mut consumer) =
                ring_from::<Record>(origin, capacity, &Doorbell::new(), || {});
            let capacity = capacity.next_power_of_two();
            let (mut staged, mut published) = (VecDeque::new(), VecDeque::new());
            let mut records = (0..).map(|value| (7, value));
            for op in ops {
                let room = capacity - staged.len() - published.len();
                match op {
                    Op::Stage(len) => {
                        prop_assert_eq!(producer.room(len) >= len, room >= len);
                        let batch: Vec<_> = records.by_ref().take(len.min(room)).collect();
                        producer.stage(&batch);
                        staged.extend(batch);
                    }
                    Op::Publish => {
                        producer.publish();
                        published.append(&mut staged);
                    }
                    Op::Read(max) => {
                        let mut read = Vec::new();
                        let len = consumer.read(max, |records| read.extend_from_slice(records));
                        prop_assert_eq!(len == 0, max == 0 || published.is_empty());
                        prop_assert!(len <= max);
                        let expected: Vec<_> = published.drain(..len).collect();
                        prop_assert_eq!(read, expected);
                    }
                    Op::Wait(want) => {
                        let over = producer.wait_for_room(want.min(capacity)) == Wait::Over;
                        prop_assert_eq!(over, room >= want.min(capacity));
                        published.append(&mut staged);
                    }
                }
                prop_assert_eq!(producer.staged(), staged.len());
                prop_assert_eq!(consumer.is_ready(), !published.is_empty());
            }
            drop(producer);
            published.append(&mut staged);
            prop_assert_eq!(read_all(&mut consumer), Vec::from(published));
            prop_assert!(consumer.is_finished());
        }
    }
}
