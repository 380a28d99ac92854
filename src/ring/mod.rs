//! Passes records from one producer to one consumer through a bounded, lock-free ring.
//!
//! Each of N workers holds one [`Producer`]. One output thread holds the N [`Consumer`]s and the one
//! [`Doorbell`] on which it sleeps. Neither side spins or takes a lock. The only call that waits for
//! the other side is [`Doorbell::sleep_unless`], in which the output thread sleeps.
//!
//! # Usage
//!
//! The producer checks for [`room`](Producer::room), [`stage`](Producer::stage)s records, and
//! [`publish`](Producer::publish)es a batch with one store. When the ring is full, it calls
//! [`wait_for_room`](Producer::wait_for_room). That does not block, since a poll loop has timers and
//! other sockets to serve. The consumer calls `wake_producer` once the room is free. Dropping the
//! producer publishes the staged records and closes the ring.
//!
//! The output thread [`read`](Consumer::read)s slices until the rings are empty. It drops each consumer
//! that [`is_finished`](Consumer::is_finished), and sleeps unless one
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
//! let output = thread::spawn(move || {
//!     let mut consumers = vec![consumer];
//!     let mut written = Vec::new();
//!     while !consumers.is_empty() {
//!         let mut count = 0;
//!         for consumer in &mut consumers {
//!             count += consumer.read(64, |records| written.extend_from_slice(records));
//!         }
//!         consumers.retain(|consumer| !consumer.is_finished());
//!         if count == 0 && !consumers.is_empty() {
//!             bell.sleep_unless(|| consumers.iter().any(|consumer| consumer.is_ready()));
//!         }
//!     }
//!     written
//! });
//!
//! for number in 0..100_i64 {
//!     while producer.room(1) < 1 {
//!         match producer.wait_for_room(2) {
//!             Wait::Over => {}
//!             Wait::Pending => thread::park(), // A worker returns to its poll instead.
//!             Wait::Abandoned => return,
//!         }
//!     }
//!     producer.stage(&[number]);
//!     producer.publish();
//! }
//! drop(producer);
//! assert_eq!(output.join().unwrap(), (0..100).collect::<Vec<_>>());
//! ```
//!
//! The `slots` module describes how the two sides share the slots.
//!
//! # Wake-ups
//!
//! The output thread sleeps when its rings are empty, and a producer waits when its ring is full. Both
//! wake-ups use one pattern, store buffering:
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
//! Each side stores, then loads the value that the other side stores. Release and Acquire allow both
//! loads to miss both stores, and the store buffer of a processor causes just that. Then one side
//! would sleep although there is work, and no wake-up would come.
//!
//! The two fences have one total order. The loads after the later fence see the stores before the
//! earlier one. So either the acting side sees the announcement, or the waiting side sees the work. If
//! both do, the first swap withdraws the announcement. At worst there is a superfluous wake-up, which
//! costs one check.
//!
//! Announcements are rare, and otherwise `sleeping` and `wanted` are only read. A doorbell without a
//! sleeping thread costs one fence per batch, and no system call. These two are written only by swaps,
//! so that their writes form one chain. In that chain no announcement is missed or answered twice.
//!
//! # Model
//!
//! `RUSTFLAGS="--cfg loom"` replaces the atomics by those of the model checker loom. The `model` module
//! runs the whole protocol under it. It also leaves out each step named in `Step`, one at a time. Each
//! time a record is torn or lost, or a wake-up is lost.

mod doorbell;
#[cfg(all(test, loom))]
mod model;
mod queue;
mod slots;
mod sync;
#[cfg(all(test, not(loom)))]
mod tests;

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

pub use doorbell::Doorbell;
#[cfg(all(test, feature = "cli"))]
pub(crate) use queue::queue_from;
pub use queue::{QueueConsumer, QueueProducer, queue};

use doorbell::BellShared;
use slots::{Reader, Writer};
use sync::{Arc, Step, acquire, fence, kept, release};

/// Returns the number of records that take so many bytes, at least one. A record without a size counts as a byte.
pub const fn records_in<T>(bytes: usize) -> usize {
    let size = if size_of::<T>() == 0 { 1 } else { size_of::<T>() };
    if size > bytes { 1 } else { bytes / size }
}

/// Creates a ring for `capacity` records, rounded up to a power of two (0 and 1 make 1).
///
/// The thread that sleeps on `bell` is woken when records are published, and when the producer is
/// dropped.
///
/// `wake_producer` is called on the consumer's thread. It is called once for each [`Wait::Pending`],
/// as soon as the requested room is free. It is also called once when the consumer is dropped. It must
/// not block: it is meant for a `mio` waker or an unpark. A wake-up is a hint, so the woken thread
/// checks again.
///
/// # Panics
///
/// If the rounded capacity overflows `usize`, or its size in bytes overflows `isize`.
pub fn ring<T: Copy + Send>(
    capacity: usize,
    bell: &Doorbell,
    wake_producer: impl Fn() + Send + 'static,
) -> (Producer<T>, Consumer<T>) {
    ring_from(0, capacity, bell, wake_producer)
}

/// Creates a ring whose counts start at `origin`, so that tests reach the end of `usize`.
fn ring_from<T: Copy + Send>(
    origin: usize,
    capacity: usize,
    bell: &Doorbell,
    wake_producer: impl Fn() + Send + 'static,
) -> (Producer<T>, Consumer<T>) {
    let (writer, reader) = slots::pair(origin, capacity);
    let producer = Producer { writer, bell: Arc::clone(&bell.shared), not_sync: PhantomData };
    let consumer = Consumer { reader, wake_producer: Box::new(wake_producer) };
    (producer, consumer)
}

/// Writes records to a ring. It can be sent to another thread, but not shared or cloned.
///
/// Dropping it publishes the staged records, closes the ring and rings the doorbell.
pub struct Producer<T> {
    writer: Writer<T>,
    bell: Arc<BellShared>,
    not_sync: PhantomData<Cell<()>>,
}

impl<T: Copy + Send> Producer<T> {
    /// Returns the number of records that the ring holds: the requested capacity, rounded up to a
    /// power of two.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.writer.capacity()
    }

    /// Returns the number of free slots. Staged records count as used.
    ///
    /// This is the last known number, and it is exact only if it is less than `want`. The consumer's
    /// count is loaded only when the known room is less than `want`: its cache line stays with the
    /// consumer. `room(n) >= n` tests whether `n` records can be staged.
    #[must_use]
    pub fn room(&mut self, want: usize) -> usize {
        self.writer.room(want)
    }

    /// Copies `records` into the slots that follow those already published or staged.
    ///
    /// The consumer does not see them before they are [published](Self::publish).
    ///
    /// # Panics
    ///
    /// If there is not enough [`room`](Self::room) for all of them. Then none of them is staged.
    pub fn stage(&mut self, records: &[T]) {
        self.writer.stage(records);
    }

    /// Returns the number of records staged and not yet published.
    #[must_use]
    pub fn staged(&self) -> usize {
        self.writer.staged()
    }

    /// Passes all staged records to the consumer, and wakes its thread if that sleeps. Does nothing
    /// when no record is staged.
    pub fn publish(&mut self) {
        if self.staged() == 0 {
            return;
        }
        self.writer.publish();
        self.bell.ring();
    }

    /// Passes all staged records to the consumer. Its thread is not woken: another ring of it wakes it.
    fn publish_silently(&mut self) {
        self.writer.publish();
    }

    /// Requests a wake-up when `want` slots are free, unless they are already.
    ///
    /// Staged records are published first: unpublished records would keep their slots forever. A
    /// pending request is replaced. Request a large part of the ring, such as half of it. Otherwise
    /// the two threads wake each other for every record.
    ///
    /// # Panics
    ///
    /// If `want` is 0 or more than the [`capacity`](Self::capacity): no wake-up would come.
    pub fn wait_for_room(&mut self, want: usize) -> Wait {
        let capacity = self.capacity();
        assert!((1..=capacity).contains(&want), "a wait for {want} of {capacity} slots");
        self.publish();
        // Release: a consumer that sees the announcement also sees the `tail` published before it. It
        // computes the room from that `tail` or a later one.
        self.writer.shared().wanted.swap(want, Release);
        fence(Step::WaitFence);
        let wait = if self.is_abandoned() {
            Wait::Abandoned
        } else if kept(Step::WaitLook) && self.room(want) >= want {
            Wait::Over
        } else {
            return Wait::Pending;
        };
        // The consumer may have answered the announcement already. That wake-up is superfluous.
        self.writer.shared().wanted.swap(0, Relaxed);
        wait
    }

    /// Returns whether the consumer is gone. Records staged or published from then on are never read.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        // Relaxed: the flag guards no data, and the wake-up after its store makes it visible.
        self.writer.shared().abandoned.load(Relaxed)
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("tail", &self.writer).finish_non_exhaustive()
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.writer.publish();
        self.writer.shared().closed.store(true, release(Step::ClosedStore));
        self.bell.ring();
    }
}

/// Describes the result of [`Producer::wait_for_room`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Wait {
    /// The room is free. No wake-up follows.
    Over,
    /// `wake_producer` will be called once, when the room is free or the consumer is dropped.
    Pending,
    /// The consumer is gone. No wake-up follows.
    Abandoned,
}

/// Reads records from a ring. It can be sent to another thread, but not shared or cloned.
///
/// Dropping it marks the ring as abandoned and calls `wake_producer`, whether or not the producer waits
/// for room. So the end also reaches a worker whose servers send nothing.
pub struct Consumer<T> {
    reader: Reader<T>,
    wake_producer: Box<dyn Fn() + Send>,
}

impl<T: Copy + Send> Consumer<T> {
    /// Passes the oldest records to `f`, at most `max` of them, and then frees their slots. Returns
    /// their number.
    ///
    /// The records are contiguous. At the end of the storage they may be fewer than the ring holds. 0
    /// means that the ring was empty or `max` is 0, and that `f` was not called. If `f` panics, its
    /// records stay in the ring.
    pub fn read(&mut self, max: usize, f: impl FnOnce(&[T])) -> usize {
        let len = self.reader.read(max, f);
        if len != 0 {
            self.wake_waiting_producer();
        }
        len
    }

    /// Returns whether [`read`](Self::read) would find a record or the producer is gone.
    ///
    /// This is the condition for [`Doorbell::sleep_unless`]. Drop a consumer that
    /// [`is_finished`](Self::is_finished): it stays ready, so its thread would never sleep.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        // No record is read on the basis of these loads, so they need no Acquire.
        self.reader.has_unread() || self.reader.shared().closed.load(Relaxed)
    }

    /// Returns whether the producer is gone and all its records were read.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        // The order matters: the `tail` loaded after `closed` is the last one.
        self.reader.shared().closed.load(acquire(Step::ClosedLoad)) && !self.reader.has_unread()
    }

    /// Wakes a producer that waits for slots, if as many as it requested are free. Call it after slots
    /// were released.
    fn wake_waiting_producer(&self) {
        fence(Step::FreeFence);
        let shared = self.reader.shared();
        let wanted = shared.wanted.load(Acquire);
        if wanted == 0 {
            return;
        }
        if self.reader.room() >= wanted && shared.wanted.swap(0, Relaxed) != 0 {
            (self.wake_producer)();
        }
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("head", &self.reader).finish_non_exhaustive()
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.reader.shared().abandoned.store(true, Relaxed);
        (self.wake_producer)();
    }
}
