//! Queues lines on their way to stderr: many threads push, one drains, and no push waits.
//!
//! The queue is std's unbounded channel with a bound in front of it. A push is one atomic step on the bound
//! and one `send`. Neither depends on the writes of the draining thread, so a blocked write blocks no push.
//! An idle queue holds no memory for later lines, and the draining thread waits in `recv` without a timeout.
//!
//! Each pushed line is written once or counted as dropped. A separate line reports the count once, in the
//! place of the dropped lines.

use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::Duration;

use super::status_line::StatusLine;

/// The most bytes of whole lines in one write: `PIPE_BUF` of Linux, which a pipe accepts in one piece.
///
/// Such lines do not mix with those of other writers. A process that ends during the write leaves no part of a
/// line.
const WRITE_SIZE: usize = 4096;

/// The most times that a flush waits for progress: ten seconds in all in the program.
const FLUSH_ROUNDS: u32 = 10;

/// The cost of a waiting line in bytes, without its text: its slot in the channel and the overhead of its
/// allocation. It bounds the number of short lines.
const LINE_COST: u64 = 64;

/// Creates a queue of at most `capacity` bytes, which drains to `out`.
///
/// Each line counts with its text and [`LINE_COST`]. `report` makes the line that reports the number of
/// dropped lines, with the error if `out` has failed.
pub(super) fn queue<W: Write, R>(capacity: u64, out: W, report: R) -> (Intake, Drain<W, R>)
where
    R: Fn(u64, Option<&io::Error>) -> String,
{
    assert!((1..=Load::MAX_USED).contains(&capacity), "a load can hold the capacity");
    let (sender, receiver) = mpsc::channel();
    let load = Arc::new(SharedLoad::default());
    let (dropped, has_status) = (Arc::default(), Arc::<AtomicBool>::default());
    let status = (StatusLine::default(), Arc::clone(&has_status));
    let intake = Intake { capacity, sender, load: Arc::clone(&load), dropped, has_status };
    (intake, Drain { receiver, load, batch: Batch::default(), charge: 0, status, out, report })
}

#[derive(Debug)]
enum Entry {
    Line {
        text: String,
        /// Its part of the load.
        charge: u64,
        /// The lines that were dropped since the last admitted one.
        dropped_before: u64,
    },
    /// Replaces the line at the bottom of the terminal.
    Status(String),
    /// Requests an answer when all earlier entries are written or dropped.
    Flush(SyncSender<()>),
}

/// The pushing end of the queue, which all threads share.
#[derive(Debug)]
pub(super) struct Intake {
    capacity: u64,
    sender: Sender<Entry>,
    load: Arc<SharedLoad>,
    /// All lines that were dropped since the start.
    dropped: Arc<AtomicU64>,
    /// Whether a status line waits to be taken. A terminal that is stopped then holds no more than one.
    has_status: Arc<AtomicBool>,
}

impl Intake {
    /// Returns the number of all lines that were dropped since the start, which others may read.
    pub(super) fn dropped(&self) -> &Arc<AtomicU64> {
        &self.dropped
    }

    /// Queues a line, which ends with a line feed. Drops and counts it if the queue is full.
    pub(super) fn push(&self, text: String) {
        // The charge counts the allocation of the line. A line beyond the capacity takes all of it, so that
        // an empty queue admits it.
        let charge = (text.capacity() as u64).saturating_add(LINE_COST).min(self.capacity);
        let admitted = self.load.update(|load| load.admit(charge, self.capacity));
        match admitted {
            // The send fails only without a drain, when no line can be written.
            Some(dropped_before) => {
                _ = self.sender.send(Entry::Line { text, charge, dropped_before });
            }
            None => _ = self.dropped.fetch_add(1, Relaxed),
        }
    }

    /// Replaces the line at the bottom of the terminal, unless the last one has not been taken yet. An empty text clears
    /// it, and always comes through.
    pub(super) fn set_status(&self, text: String) {
        if !self.has_status.swap(true, Relaxed) || text.is_empty() {
            _ = self.sender.send(Entry::Status(text));
        }
    }

    /// Waits until all lines pushed earlier are written or dropped. Returns whether they are.
    ///
    /// It ends without them after `patience` without a write, and after [`FLUSH_ROUNDS`] times `patience`. So it
    /// waits for a slow reader of stderr, but not for a blocked one.
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

/// The draining end of the queue, which one thread owns.
#[derive(Debug)]
pub(super) struct Drain<W, R> {
    receiver: Receiver<Entry>,
    load: Arc<SharedLoad>,
    batch: Batch,
    /// The load of the lines in `batch`.
    charge: u64,
    /// The line at the bottom of the terminal, and whether another one waits.
    status: (StatusLine, Arc<AtomicBool>),
    out: W,
    report: R,
}

impl<W: Write, R: Fn(u64, Option<&io::Error>) -> String> Drain<W, R> {
    /// Writes all pushed lines until the intake is dropped.
    pub(super) fn run(mut self) {
        while let Ok(entry) = self.receiver.recv() {
            self.write_queued(entry);
        }
    }

    /// Writes an entry and all later ones that are queued.
    fn write_queued(&mut self, first: Entry) {
        let mut next = Some(first);
        while let Some(entry) = next {
            match entry {
                Entry::Line { text, charge, dropped_before } => {
                    if dropped_before > 0 || !self.batch.has_space(text.len()) {
                        self.write_out();
                    }
                    self.batch.dropped += dropped_before;
                    self.batch.report_dropped(&self.report);
                    self.batch.push(&text);
                    self.charge += charge;
                }
                Entry::Status(text) => {
                    self.status.1.store(false, Relaxed);
                    self.write_out();
                    self.status.0.set(text, &mut self.out);
                }
                Entry::Flush(done) => {
                    self.write_out();
                    // After its timeout, the flush has dropped the receiver.
                    _ = done.try_send(());
                }
            }
            next = self.receiver.try_recv().ok();
        }
        self.write_out();
        self.status.0.show(&mut self.out);
    }

    fn write_out(&mut self) {
        self.status.0.hide(&mut self.out);
        self.batch.write_to(&mut self.out);
        // The batch held the memory until now.
        let charge = mem::take(&mut self.charge);
        let dropped = self.load.update(|load| load.release(charge));
        if dropped > 0 {
            // No queued line carries the count.
            self.batch.dropped += dropped;
            self.batch.report_dropped(&self.report);
            self.batch.write_to(&mut self.out);
        }
    }
}

/// The load of the queue, and the number of lines it has dropped.
///
/// Invariant: `dropped` is positive only while `used` is. So each drop precedes an admission or the release of
/// the last line, which take the count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    /// The charges of all lines that are queued or being written, in bytes. Invariant: at most `MAX_USED`.
    used: u64,
    /// The lines dropped since the last admitted one. Invariant: at most `MAX_DROPPED`.
    dropped: u64,
}

impl Load {
    const USED_BITS: u32 = 24;
    const MAX_USED: u64 = (1 << Self::USED_BITS) - 1;
    /// The most dropped lines that are counted: 2^40 - 1, which a million lines a second reach in twelve days.
    const MAX_DROPPED: u64 = u64::MAX >> Self::USED_BITS;

    /// Admits a line and returns the number of lines dropped since the last one. Or drops the line.
    fn admit(&mut self, charge: u64, capacity: u64) -> Option<u64> {
        if self.used + charge > capacity {
            self.dropped = Self::MAX_DROPPED.min(self.dropped + 1);
            return None;
        }
        self.used += charge;
        Some(mem::take(&mut self.dropped))
    }

    /// Releases lines. If the queue is then empty, returns the number of lines dropped after the last one.
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

/// A [`Load`] that all threads change, each in one atomic step.
#[derive(Debug, Default)]
struct SharedLoad(AtomicU64);

impl SharedLoad {
    fn used(&self) -> u64 {
        Load::unpack(self.0.load(Relaxed)).used
    }

    fn update<T>(&self, change: impl Fn(&mut Load) -> T) -> T {
        // No other memory depends on the order, because the channel carries the lines.
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
    /// Whole lines, of which the first `written` bytes are written.
    text: Vec<u8>,
    written: usize,
    /// The lines of `text`, in order.
    lines: Vec<Line>,
    /// The dropped lines that no line of `text` reports.
    dropped: u64,
    /// The error of the last write, until one succeeds.
    error: Option<io::Error>,
}

#[derive(Debug)]
struct Line {
    /// The position of its end in the text.
    end: usize,
    /// The number of dropped lines that it reports: 0 for a line that was pushed.
    reports: u64,
}

impl Batch {
    /// Returns whether one write may hold `len` more bytes.
    fn has_space(&self, len: usize) -> bool {
        self.text.is_empty() || self.text.len() + len <= WRITE_SIZE
    }

    fn push(&mut self, text: &str) {
        self.push_line(text, 0);
    }

    /// Adds a line that reports the dropped lines, if there are any.
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

    /// Writes all lines. After an error, drops them.
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

    /// Drops all unwritten lines. The rest of a line that is written in part stays, because the next line would
    /// continue it otherwise.
    fn fail(&mut self, error: io::Error) {
        self.error = Some(error);
        let mut torn = None;
        let mut start = 0;
        for line in mem::take(&mut self.lines) {
            let end = line.end;
            if start >= self.written {
                // The count of a lost report must be reported again.
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
        // The memory of a long line is freed.
        self.text.shrink_to(WRITE_SIZE);
        self.lines.clear();
        self.written = 0;
    }
}

#[cfg(test)]
mod tests;
