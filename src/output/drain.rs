//! Decides what the output's thread does next.
//!
//! [`Drain::next_step`] names a step; the caller carries it out and reports the result by the method
//! that the step names. The rings are read in rounds. After a round that found nothing, the text is
//! written out, and the thread waits.

use std::io;
use std::time::Duration;

use super::buffer::{Drained, OutputBuffer};
use super::encode::Encoder;
use super::pacing::Pacing;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Read the ring of this index once: [`Drain::add`], then [`Drain::on_read`].
    Read(usize),
    /// Write [`Drain::unwritten`]: [`Drain::on_written`].
    Write,
    /// Flush the output: [`Drain::on_flushed`].
    Flush,
    /// Tell of the output's error: [`Drain::on_error_reported`]. This step comes at most once, and
    /// immediately after the error.
    ReportError,
    /// Drop the rings that are finished: [`Drain::on_finished_dropped`].
    DropFinished,
    /// Sleep until a producer rings, or for a poll interval: [`Drain::should_poll`] says which.
    Wait,
    /// Return [`Drain::into_result`].
    Done,
}

/// The state of the output's thread, without the rings and the output.
#[derive(Debug)]
pub(super) struct Drain<T, E> {
    buffer: OutputBuffer<T, E>,
    pacing: Pacing,
    rings: usize,
    /// Whether this round has found a record so far.
    has_read: bool,
    /// Whether any round since the last wait has found a record.
    has_read_since_wait: bool,
    is_error_unreported: bool,
    /// Whether the buffer has to be written out before `next`.
    is_writing: bool,
    next: Step,
}

impl<T, E: Encoder<T>> Drain<T, E> {
    /// The state before the number of rings is known. `now` counts from any origin.
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

    /// Takes the records of a ring, at most [`ADD_MAX`](super::buffer::ADD_MAX).
    pub(super) fn add(&mut self, records: &[T]) {
        self.buffer.add(records);
    }

    /// Goes on to the next ring. After the last one, another round follows if this one has found
    /// something.
    pub(super) fn on_read(&mut self, count: usize) {
        let Step::Read(ring) = self.next else { unreachable!("no read was asked for") };
        self.has_read |= count > 0;
        self.next = if ring + 1 < self.rings {
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

    /// The text to write.
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

    /// Waits for the rings that are left, or ends.
    pub(super) fn on_finished_dropped(&mut self, left: usize) {
        self.rings = left;
        self.next = if left > 0 { Step::Wait } else { Step::Done };
    }

    /// Says whether to wait for a poll interval only, and starts the round after the wait.
    pub(super) fn should_poll(&mut self, now: Duration) -> bool {
        self.next = Step::Read(0);
        self.pacing.should_poll(std::mem::take(&mut self.has_read_since_wait), now)
    }

    pub(super) fn into_result(self) -> Drained {
        self.buffer.into_result()
    }

    fn after_output(&mut self) {
        // An empty buffer is one that was flushed or has met an error; after that one nothing is
        // written any more.
        self.is_writing = !self.buffer.is_empty();
        self.is_error_unreported = self.buffer.result().error.is_some();
    }
}
