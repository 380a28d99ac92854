//! Decides the next step of the output thread.
//!
//! [`Drain::next_step`] returns a step. The caller carries it out and passes the result to the method that
//! the step names. The rings are read in rounds. After a round that found no records, the text is written,
//! and the thread waits.

use std::io;
use std::time::Duration;

use super::buffer::{Drained, OutputBuffer};
use super::encode::Encoder;
use super::pacing::Pacing;
use crate::origin::Origin;

/// The next step of the output thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Read the ring with this index once: [`Drain::add`], then [`Drain::on_read`].
    Read(usize),
    /// Write [`Drain::unwritten`]: [`Drain::on_written`].
    Write,
    /// Flush the output: [`Drain::on_flushed`].
    Flush,
    /// Report the output's error: [`Drain::on_error_reported`]. This step occurs at most once, immediately
    /// after the error.
    ReportError,
    /// Drop the rings that are finished: [`Drain::on_finished_dropped`].
    DropFinished,
    /// Sleep until a producer rings, or pause for a poll interval, as [`Drain::should_poll`] returns.
    Wait,
    /// Return [`Drain::into_result`].
    Done,
}

/// The state of the output thread, without the rings and the output.
#[derive(Debug)]
pub(super) struct Drain<T, E> {
    buffer: OutputBuffer<T, E>,
    pacing: Pacing,
    rings: usize,
    /// Whether this round has found a record.
    has_read: bool,
    /// Whether any round since the last wait has found a record.
    has_read_since_wait: bool,
    is_error_unreported: bool,
    /// Whether the buffer must be written before `next`.
    is_writing: bool,
    next: Step,
}

impl<T, E: Encoder<T>> Drain<T, E> {
    /// Makes the state before the number of rings is known. `now` is the time since any fixed moment.
    pub(super) fn new(encoder: E, now: Duration) -> Drain<T, E> {
        Drain {
            buffer: OutputBuffer::new(encoder),
            pacing: Pacing::new(now),
            rings: 0,
            has_read: false,
            has_read_since_wait: false,
            is_error_unreported: false,
            is_writing: false,
            next: Step::DropFinished,
        }
    }

    pub(super) fn next_step(&self) -> Step {
        if self.is_error_unreported {
            Step::ReportError
        } else if !self.is_writing {
            self.next
        } else if self.buffer.unwritten().is_empty() {
            Step::Flush
        } else {
            Step::Write
        }
    }

    /// Adds the records of a ring, at most [`add_max`](super::buffer::add_max).
    pub(super) fn add(&mut self, origin: Option<Origin>, records: &[T]) {
        self.buffer.add(origin, records);
    }

    /// Continues with the same ring if the records end within a line, else with the next ring. After the last
    /// ring, a new round starts if this one found records.
    pub(super) fn on_read(&mut self, count: usize) {
        let Step::Read(ring) = self.next else { unreachable!("no read was asked for") };
        self.has_read |= count > 0;
        self.next = if count > 0 && self.buffer.is_within_line() {
            // Its worker publishes whole lines, so the rest is there.
            Step::Read(ring)
        } else if ring + 1 < self.rings {
            Step::Read(ring + 1)
        } else if self.has_read {
            self.has_read_since_wait = true;
            self.has_read = false;
            Step::Read(0)
        } else {
            Step::DropFinished
        };
        self.is_writing =
            self.buffer.is_full() || (self.next == Step::DropFinished && !self.buffer.is_empty());
    }

    /// Returns the text to write.
    pub(super) fn unwritten(&self) -> &[u8] {
        self.buffer.unwritten()
    }

    pub(super) fn on_written(&mut self, result: io::Result<usize>) {
        self.buffer.on_written(result);
        self.after_output();
    }

    pub(super) fn on_flushed(&mut self, result: io::Result<()>) {
        self.buffer.on_flushed(result);
        self.after_output();
    }

    pub(super) fn on_error_reported(&mut self) {
        self.is_error_unreported = false;
    }

    /// Continues with a wait if rings are left, else with the end.
    pub(super) fn on_finished_dropped(&mut self, left: usize) {
        self.rings = left;
        self.next = if left > 0 { Step::Wait } else { Step::Done };
    }

    /// Returns whether to wait for a poll interval only. Starts the round after the wait.
    pub(super) fn should_poll(&mut self, now: Duration) -> bool {
        self.next = Step::Read(0);
        self.pacing.should_poll(std::mem::take(&mut self.has_read_since_wait), now)
    }

    /// Returns the number of records written.
    pub(super) fn written(&self) -> u64 {
        self.buffer.result().written
    }

    pub(super) fn into_result(self) -> Drained {
        self.buffer.into_result()
    }

    fn after_output(&mut self) {
        // An empty buffer was flushed or has met an error. After an error there are no more writes.
        self.is_writing = !self.buffer.is_empty();
        self.is_error_unreported = self.buffer.result().error.is_some();
    }
}
