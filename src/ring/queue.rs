//! Passes records from one producer to one consumer, each with a tag such as the server that sent it.
//!
//! A [`QueueProducer`] writes records to one ring. If the queue is tagged, it writes frames to a second ring.
//! A [`Frame`] is a tag and the number of consecutive records that it belongs to. So a tag costs nothing per
//! record, and a queue without tags costs what its ring costs.
//!
//! The records of a frame are published before the frame. A consumer that finds the frame therefore finds its
//! records. The consumer sleeps until a frame comes, so only the ring of frames rings the doorbell.

use super::sync::{Step, kept};
use super::{Consumer, Doorbell, Producer, Wait, ring};

/// The most frames that wait, per queue: 8192. A producer with more waits for room.
const FRAMES: usize = 8192;

/// The free slots for frames that are needed before the next [`begin`](QueueProducer::begin): one for the frame
/// that it ends, and one for the frame that it begins.
const FRAMES_NEEDED: usize = 2;

/// A tag, and the number of consecutive records that it belongs to.
#[derive(Clone, Copy, Debug)]
struct Frame<G> {
    tag: G,
    len: usize,
}

/// Creates a queue for `capacity` records, rounded up to a power of two. It carries tags if `is_tagged`.
///
/// `bell` and `wake_producer` are those of a [`ring`]. `wake_producer` may be called twice when the consumer
/// is dropped.
///
/// # Panics
///
/// If the rounded capacity overflows `usize`, or its size in bytes overflows `isize`.
pub fn queue<T: Copy + Send, G: Copy + Eq + Send>(
    capacity: usize,
    is_tagged: bool,
    bell: &Doorbell,
    wake_producer: impl Fn() + Clone + Send + 'static,
) -> (QueueProducer<T, G>, QueueConsumer<T, G>) {
    queue_from(capacity, is_tagged.then_some(FRAMES), bell, wake_producer)
}

/// Creates a queue with space for a number of frames, so that tests fill it.
pub(crate) fn queue_from<T: Copy + Send, G: Copy + Eq + Send>(
    capacity: usize,
    frames: Option<usize>,
    bell: &Doorbell,
    wake_producer: impl Fn() + Clone + Send + 'static,
) -> (QueueProducer<T, G>, QueueConsumer<T, G>) {
    let (records, records_out) = ring(capacity, bell, wake_producer.clone());
    let (frames, frames_out) = frames.map(|frames| ring(frames, bell, wake_producer)).unzip();
    let producer = QueueProducer { records, frames, open: None };
    (producer, QueueConsumer { records: records_out, frames: frames_out, open: None })
}

/// Writes records to a queue. Dropping it publishes the staged records and closes the queue.
#[derive(Debug)]
pub struct QueueProducer<T: Copy + Send, G: Copy + Eq + Send> {
    // This ring is closed first: the consumer sees the end of the frames only after that of the records.
    records: Producer<T>,
    frames: Option<Producer<Frame<G>>>,
    /// The frame of the records that are staged and not published. Invariant: while it has records, a slot for
    /// it is free.
    open: Option<Frame<G>>,
}

impl<T: Copy + Send, G: Copy + Eq + Send> QueueProducer<T, G> {
    /// Returns whether the queue carries tags.
    pub fn is_tagged(&self) -> bool {
        self.frames.is_some()
    }

    /// Returns the number of records that the queue holds.
    pub fn capacity(&self) -> usize {
        self.records.capacity()
    }

    /// Returns the free space in records, as [`Producer::room`] does. It is 0 if there is no space for a frame.
    pub fn room(&mut self, want: usize) -> usize {
        if self.has_room_for_frames() { self.records.room(want) } else { 0 }
    }

    /// Sets the tag of the records that are staged next. Does nothing if the queue carries no tags.
    ///
    /// [`room`](Self::room) must have found space since the last call.
    pub fn begin(&mut self, tag: G) {
        if self.open.is_none_or(|open| open.tag != tag) {
            self.end_frame();
            self.open = self.is_tagged().then_some(Frame { tag, len: 0 });
        }
    }

    /// Copies records to the queue. The consumer sees them after [`publish`](Self::publish).
    ///
    /// # Panics
    ///
    /// If there is not enough room, or the queue carries tags and none was set. Then no record is staged.
    pub fn stage(&mut self, records: &[T]) {
        assert!(self.open.is_some() || !self.is_tagged(), "records without a tag");
        self.records.stage(records);
        if let Some(open) = &mut self.open {
            open.len += records.len();
        }
    }

    /// Publishes the staged records if there are at least `count`, unless the last space for a frame is needed
    /// for the records of the same tag that follow.
    pub fn publish_from(&mut self, count: usize) {
        if self.records.staged() >= count && self.has_room_for_frames() {
            self.publish();
        }
    }

    /// Passes all staged records to the consumer, and wakes its thread if that sleeps.
    pub fn publish(&mut self) {
        self.end_frame();
        let Some(frames) = &mut self.frames else { return self.records.publish() };
        if kept(Step::RecordsFirst) {
            self.records.publish_silently();
            frames.publish();
        } else {
            frames.publish();
            self.records.publish_silently();
        }
    }

    /// Requests a wake-up when `want` slots for records are free, as [`Producer::wait_for_room`] does, or when
    /// half of the frames are free if they are short. All staged records are published first.
    ///
    /// After [`Wait::Over`], call [`room`](Self::room) again. One of the two may be short when the other is not.
    pub fn wait_for_room(&mut self, want: usize) -> Wait {
        self.publish();
        if self.has_room_for_frames() {
            return self.records.wait_for_room(want);
        }
        let frames = self.frames.as_mut().expect("a queue without tags is never short of frames");
        let want = (frames.capacity() / 2).max(FRAMES_NEEDED);
        frames.wait_for_room(want)
    }

    fn has_room_for_frames(&mut self) -> bool {
        self.frames.as_mut().is_none_or(|frames| frames.room(FRAMES_NEEDED) >= FRAMES_NEEDED)
    }

    /// Stages the open frame if it has records. Later records of its tag get a frame of their own.
    fn end_frame(&mut self) {
        if let (Some(open), Some(frames)) = (&mut self.open, &mut self.frames)
            && open.len > 0
        {
            frames.stage(&[*open]);
            open.len = 0;
        }
    }
}

impl<T: Copy + Send, G: Copy + Eq + Send> Drop for QueueProducer<T, G> {
    fn drop(&mut self) {
        self.publish();
    }
}

/// Reads records from a queue.
///
/// Dropping it marks the queue as abandoned and wakes the producer.
#[derive(Debug)]
pub struct QueueConsumer<T, G> {
    records: Consumer<T>,
    frames: Option<Consumer<Frame<G>>>,
    /// The unread part of the frame that was taken last.
    open: Option<Frame<G>>,
}

impl<T: Copy + Send, G: Copy + Eq + Send> QueueConsumer<T, G> {
    /// Passes the oldest records to `f`, at most `max` of them, with their tag if the queue carries tags. Returns
    /// their number. They have the same tag. All else is as for [`Consumer::read`].
    pub fn read(&mut self, max: usize, f: impl FnOnce(Option<G>, &[T])) -> usize {
        let Some(frames) = &mut self.frames else {
            return self.records.read(max, |records| f(None, records));
        };
        if self.open.is_none() {
            frames.read(1, |frames| self.open = frames.first().copied());
        }
        let Some(open) = &mut self.open else { return 0 };
        let len = self.records.read(max.min(open.len), |records| f(Some(open.tag), records));
        debug_assert!(len > 0 || max == 0, "the records of a frame are published before it");
        open.len -= len;
        if open.len == 0 {
            self.open = None;
        }
        len
    }

    /// Returns whether [`read`](Self::read) would find a record or the producer is gone.
    pub fn is_ready(&self) -> bool {
        match &self.frames {
            Some(frames) => self.open.is_some() || frames.is_ready(),
            None => self.records.is_ready(),
        }
    }

    /// Returns whether the producer is gone and all its records were read.
    pub fn is_finished(&self) -> bool {
        match &self.frames {
            Some(frames) => self.open.is_none() && frames.is_finished(),
            None => self.records.is_finished(),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
