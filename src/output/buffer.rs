//! Holds text on its way to the output, and counts what was written and lost.

use std::io;

use std::marker::PhantomData;

use crate::output::encode::{ENCODE_SLACK, Encoder};

/// A buffer is written out when it holds so many bytes: few system calls, and text that a core's
/// second cache still holds.
pub(super) const WRITE_SIZE: usize = 64 * 1024;

/// The most numbers that are added at once.
pub(super) const ADD_MAX: usize = 2048;

/// Whole lines that wait for the output, and the counts of numbers written and lost.
#[derive(Debug)]
pub(super) struct OutputBuffer<T, E> {
    encoder: E,
    records: PhantomData<fn(T)>,
    /// The first `len` bytes are whole lines. While `len` is below [`WRITE_SIZE`], [`ADD_MAX`] more
    /// lines fit.
    text: Box<[u8]>,
    len: usize,
    /// The lines in `text[..len]`.
    lines: u64,
    /// The output has taken `text[..taken]`. Invariant: `taken <= len`, and 0 while lines are added.
    taken: usize,
    result: Drained,
}

/// What became of the numbers.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    /// The numbers whose whole lines the output took.
    pub(crate) written: u64,
    /// The numbers that it did not take, or took and then failed to flush.
    pub(crate) lost: u64,
    /// The error that the output met, if it met one.
    pub(crate) error: Option<io::Error>,
}

impl<T, E: Encoder<T>> OutputBuffer<T, E> {
    pub(super) fn new(encoder: E) -> OutputBuffer<T, E> {
        OutputBuffer {
            encoder,
            records: PhantomData,
            text: vec![0; WRITE_SIZE + ADD_MAX * E::MAX_LEN + ENCODE_SLACK].into(),
            len: 0,
            lines: 0,
            taken: 0,
            result: Drained::default(),
        }
    }

    /// Adds a line for each record. After an error it only counts them.
    ///
    /// # Panics
    /// If there are more than [`ADD_MAX`], or the buffer [is full](Self::is_full).
    pub(super) fn add(&mut self, records: &[T]) {
        debug_assert!(self.taken == 0 && !self.is_full() && records.len() <= ADD_MAX);
        let count = records.len() as u64;
        if self.result.error.is_some() {
            self.result.lost += count;
            return;
        }
        self.len += self.encoder.encode(records, &mut self.text[self.len..]);
        self.lines += count;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it has to be written out before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.len >= WRITE_SIZE
    }

    /// The text that the output has not taken yet. When there is none left, a flush is due.
    pub(super) fn unwritten(&self) -> &[u8] {
        &self.text[self.taken..self.len]
    }

    /// Notes the result of a write of [`unwritten`](Self::unwritten).
    ///
    /// # Panics
    /// If the output claims to have taken more than it was given.
    pub(super) fn on_written(&mut self, result: io::Result<usize>) {
        match result {
            Ok(0) => self.fail(io::ErrorKind::WriteZero.into()),
            Ok(len) => {
                assert!(len <= self.unwritten().len(), "the output took more than it was given");
                self.taken += len;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => self.fail(error),
        }
    }

    /// Notes the result of a flush, which is due when all text was taken.
    pub(super) fn on_flushed(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) => self.clear(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                // How much the output had passed on is unknown. A figure that is too high does less
                // harm than one that is too low.
                self.taken = 0;
                self.fail(error);
            }
        }
    }

    /// The result so far.
    pub(super) fn result(&self) -> &Drained {
        &self.result
    }

    pub(super) fn into_result(self) -> Drained {
        self.result
    }

    /// Counts what was not taken as lost. That includes a line of which a part was taken.
    fn fail(&mut self, error: io::Error) {
        let lost = memchr::memchr_iter(b'\n', self.unwritten()).count() as u64;
        self.result.error = Some(error);
        self.clear(lost);
    }

    fn clear(&mut self, lost: u64) {
        self.result.lost += lost;
        self.result.written += self.lines - lost;
        (self.len, self.lines, self.taken) = (0, 0, 0);
    }
}
