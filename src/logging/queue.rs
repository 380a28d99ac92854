//! Lines on their way to stderr: many threads push, one drains, and no push waits.
//!
//! The queue is std's unbounded channel, behind a bound of its own. A push is one atomic step on the
//! bound and one `send`. Neither depends on what the draining thread does with a line, so a write
//! that is stuck stops no push. An idle queue holds no memory for lines to come, and the draining
//! thread waits in `recv` without a timeout.
//!
//! Each pushed line is written once or counted as dropped. A line of its own reports the count once,
//! in the place of the dropped lines.

use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::Duration;

/// The most bytes of whole lines in one write. Linux writes as much to a pipe in one piece
/// (`PIPE_BUF`). Lines then do not mix with those of other writers, and a process that ends during
/// the write leaves no part of a line.
const WRITE_SIZE: usize = 4096;

/// How often a flush waits for some progress: ten seconds in all in the program.
const FLUSH_ROUNDS: u32 = 10;

/// The cost in bytes of a waiting line besides its text: its slot in the channel and the overhead of
/// an allocation. It bounds the number of short lines.
const LINE_COST: u64 = 64;

/// Creates a queue of at most `capacity` bytes, counting each line's text and [`LINE_COST`]. It drains
/// to `out`. `report` makes the line that tells how many lines were dropped, and why if `out` failed.
pub(super) fn queue<W: Write, R>(capacity: u64, out: W, report: R) -> (Intake, Drain<W, R>)
where
    R: Fn(u64, Option<&io::Error>) -> String,
{
    assert!((1..=Load::MAX_USED).contains(&capacity), "a load has room for the capacity");
    let (sender, receiver) = mpsc::channel();
    let load = Arc::new(SharedLoad::default());
    let intake = Intake { capacity, sender, load: Arc::clone(&load) };
    (intake, Drain { receiver, load, batch: Batch::default(), charge: 0, out, report })
}

#[derive(Debug)]
enum Entry {
    Line {
        text: String,
        /// Its part of the load.
        charge: u64,
        /// How many lines were dropped since the last admitted one.
        dropped_before: u64,
    },
    /// Asks for an answer when all entries before it are written or dropped.
    Flush(SyncSender<()>),
}

/// The end of the queue that all threads push to.
#[derive(Debug)]
pub(super) struct Intake {
    capacity: u64,
    sender: Sender<Entry>,
    load: Arc<SharedLoad>,
}

impl Intake {
    /// Queues a line, which ends with a line feed. Drops and counts it if the queue is full.
    pub(super) fn push(&self, text: String) {
        // The allocation is what a line holds. A line beyond the capacity takes all of it, so that an
        // empty queue admits it.
        let charge = (text.capacity() as u64).saturating_add(LINE_COST).min(self.capacity);
        let admitted = self.load.update(|load| load.admit(charge, self.capacity));
        if let Some(dropped_before) = admitted {
            // Fails only without a drain. Nothing can be written then.
            _ = self.sender.send(Entry::Line { text, charge, dropped_before });
        }
    }

    /// Waits until all lines pushed before are written or dropped, and returns whether they are.
    ///
    /// Gives up when nothing was written for `patience`, and after [`FLUSH_ROUNDS`] times that: a reader
    /// on a busy machine is waited for, one that is stuck is not.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let (done, answer) = mpsc::sync_channel(1);
        if self.sender.send(Entry::Flush(done)).is_err() {
            return false;
        }
        let mut used = self.load.used();
        for _ in 0..FLUSH_ROUNDS {
            match answer.recv_timeout(patience) {
                Ok(()) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let before = mem::replace(&mut used, self.load.used());
            if used >= before {
                return false;
            }
        }
        false
    }
}

/// The end of the queue that one thread writes from.
#[derive(Debug)]
pub(super) struct Drain<W, R> {
    receiver: Receiver<Entry>,
    load: Arc<SharedLoad>,
    batch: Batch,
    /// The load of the lines in `batch`.
    charge: u64,
    out: W,
    report: R,
}

impl<W: Write, R: Fn(u64, Option<&io::Error>) -> String> Drain<W, R> {
    /// Writes what is pushed until the intake is gone.
    pub(super) fn run(mut self) {
        while let Ok(entry) = self.receiver.recv() {
            self.write_queued(entry);
        }
    }

    /// Writes an entry and all that are queued behind it.
    fn write_queued(&mut self, first: Entry) {
        let mut next = Some(first);
        while let Some(entry) = next {
            match entry {
                Entry::Line { text, charge, dropped_before } => {
                    if dropped_before > 0 || !self.batch.has_room(text.len()) {
                        self.write_out();
                    }
                    self.batch.dropped += dropped_before;
                    self.batch.report_dropped(&self.report);
                    self.batch.push(&text);
                    self.charge += charge;
                }
                Entry::Flush(done) => {
                    self.write_out();
                    // Nobody waits any more if the time is over.
                    _ = done.try_send(());
                }
            }
            next = self.receiver.try_recv().ok();
        }
        self.write_out();
    }

    fn write_out(&mut self) {
        self.batch.write_to(&mut self.out);
        // Only now, as the memory was held until now.
        let charge = mem::take(&mut self.charge);
        let dropped = self.load.update(|load| load.release(charge));
        if dropped > 0 {
            // No line is queued that could bring the count.
            self.batch.dropped += dropped;
            self.batch.report_dropped(&self.report);
            self.batch.write_to(&mut self.out);
        }
    }
}

/// How full the queue is, and how many lines it has dropped for that.
///
/// Invariant: `dropped` is positive only while `used` is. Each drop is thus followed by an admission or
/// by the release of the last line, which take the count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    /// The charges of all lines that are queued or being written, in bytes. At most `MAX_USED`.
    used: u64,
    /// The lines dropped since the last admitted one. At most `MAX_DROPPED`.
    dropped: u64,
}

impl Load {
    const USED_BITS: u32 = 24;
    const MAX_USED: u64 = (1 << Self::USED_BITS) - 1;
    /// A million lines a second take twelve days to get here.
    const MAX_DROPPED: u64 = u64::MAX >> Self::USED_BITS;

    /// Takes a line in and returns how many were dropped before it, or drops it.
    fn admit(&mut self, charge: u64, capacity: u64) -> Option<u64> {
        if self.used + charge > capacity {
            self.dropped = Self::MAX_DROPPED.min(self.dropped + 1);
            return None;
        }
        self.used += charge;
        Some(mem::take(&mut self.dropped))
    }

    /// Lets lines out. Returns how many lines were dropped after the last one, if that is out.
    fn release(&mut self, charge: u64) -> u64 {
        self.used -= charge;
        if self.used > 0 { 0 } else { mem::take(&mut self.dropped) }
    }

    fn pack(self) -> u64 {
        debug_assert!(self.used > 0 || self.dropped == 0, "{self:?}");
        self.dropped << Self::USED_BITS | self.used
    }

    fn unpack(packed: u64) -> Load {
        Load { used: packed & Self::MAX_USED, dropped: packed >> Self::USED_BITS }
    }
}

/// A [`Load`] that all threads change, each change in one step.
#[derive(Debug, Default)]
struct SharedLoad(AtomicU64);

impl SharedLoad {
    fn used(&self) -> u64 {
        Load::unpack(self.0.load(Relaxed)).used
    }

    fn update<T>(&self, change: impl Fn(&mut Load) -> T) -> T {
        // The order of other memory does not matter: the channel carries the lines.
        let mut packed = self.0.load(Relaxed);
        loop {
            let mut load = Load::unpack(packed);
            let result = change(&mut load);
            match self.0.compare_exchange_weak(packed, load.pack(), Relaxed, Relaxed) {
                Ok(_) => return result,
                Err(current) => packed = current,
            }
        }
    }
}

/// Lines that are written together.
#[derive(Debug, Default)]
struct Batch {
    /// Whole lines. The first `written` bytes are written.
    text: Vec<u8>,
    written: usize,
    /// The lines of `text`, in order.
    lines: Vec<Line>,
    /// Dropped lines that no line of `text` reports.
    dropped: u64,
    /// Why the last write failed, until one succeeds.
    error: Option<io::Error>,
}

#[derive(Debug)]
struct Line {
    /// Where it ends in the text.
    end: usize,
    /// How many dropped lines it reports: 0 for a line that was pushed.
    reports: u64,
}

impl Batch {
    /// Whether so many bytes may be written together with those that are here.
    fn has_room(&self, len: usize) -> bool {
        self.text.is_empty() || self.text.len() + len <= WRITE_SIZE
    }

    fn push(&mut self, text: &str) {
        self.push_line(text, 0);
    }

    /// Makes a line of the count of dropped lines, if there are any.
    fn report_dropped(&mut self, report: impl Fn(u64, Option<&io::Error>) -> String) {
        let dropped = mem::take(&mut self.dropped);
        if dropped > 0 {
            let text = report(dropped, self.error.as_ref());
            self.push_line(&text, dropped);
        }
    }

    fn push_line(&mut self, text: &str, reports: u64) {
        self.text.extend_from_slice(text.as_bytes());
        self.lines.push(Line { end: self.text.len(), reports });
    }

    /// Writes all of it, or drops it at an error.
    fn write_to(&mut self, out: &mut impl Write) {
        while self.written < self.text.len() {
            match out.write(&self.text[self.written..]) {
                Ok(0) => return self.fail(ErrorKind::WriteZero.into()),
                Ok(len) => self.written += len,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.fail(error),
            }
        }
        self.clear();
        self.error = None;
    }

    /// Drops the lines of which nothing is written. The rest of a line that is written in part stays,
    /// as the next line would continue it otherwise.
    fn fail(&mut self, error: io::Error) {
        self.error = Some(error);
        let mut torn = None;
        let mut start = 0;
        for line in mem::take(&mut self.lines) {
            let end = line.end;
            if start >= self.written {
                // What a lost report tells of has to be reported again.
                self.dropped += line.reports.max(1);
            } else if end > self.written {
                torn = Some(line);
            }
            start = end;
        }
        match torn {
            Some(line) => {
                self.text.truncate(line.end);
                self.lines.push(line);
            }
            None => self.clear(),
        }
    }

    fn clear(&mut self) {
        self.text.clear();
        // A long line leaves no memory behind.
        self.text.shrink_to(WRITE_SIZE);
        self.lines.clear();
        self.written = 0;
    }
}

#[cfg(test)]
mod tests;
