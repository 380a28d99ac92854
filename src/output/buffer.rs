//! Holds text on its way to the output, and counts the written and the lost records.

use std::io;
use std::marker::PhantomData;

use crate::output::encode::{ENCODE_SLACK, Encoder};

/// The bytes at which a buffer is full: 64 KiB make few system calls and fit the second-level cache.
pub(super) const WRITE_SIZE: usize = 64 * 1024;

/// The most records that are added at once. It bounds the memory beyond [`WRITE_SIZE`].
pub(super) const ADD_MAX: usize = 2048;

/// The lines that wait for the output, and the counts of the written and the lost records.
#[derive(Debug)]
pub(super) struct OutputBuffer<T, E> {
    encoder: E,
    records: PhantomData<fn(T)>,
    /// Whole lines in the first `len` bytes. [`ADD_MAX`] more lines fit while `len` is below [`WRITE_SIZE`].
    text: Box<[u8]>,
    len: usize,
    /// The number of lines in `text[..len]`.
    lines: u64,
    /// The output has accepted `text[..taken]`. Invariant: `taken <= len`, and 0 while lines are added.
    taken: usize,
    result: Drained,
}

/// The counts of the written and the lost records, and the error of the output.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    /// The records whose whole lines the output accepted.
    pub(crate) written: u64,
    /// The records that the output did not accept, or accepted before a failed flush.
    pub(crate) lost: u64,
    /// The error of the output, if it has failed.
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

    /// Adds a line for each record. After an error, counts the records as lost.
    ///
    /// # Panics
    ///
    /// Panics if there are more than [`ADD_MAX`] records, or the buffer [is full](Self::is_full).
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

    /// Returns whether the buffer must be written before records are added.
    pub(super) fn is_full(&self) -> bool {
        self.len >= WRITE_SIZE
    }

    /// Returns the text that the output has not accepted yet. If it is empty, a flush is due.
    pub(super) fn unwritten(&self) -> &[u8] {
        &self.text[self.taken..self.len]
    }

    /// Notes the result of a write of [`unwritten`](Self::unwritten).
    ///
    /// # Panics
    ///
    /// Panics if the output returns more bytes than it was given.
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

    /// Notes the result of a flush, which is due when the output has accepted all text.
    pub(super) fn on_flushed(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) => self.clear(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                // The output may have passed on any part of the text. All of it counts as lost, because a
                // count that is too high does less harm than one that is too low.
                self.taken = 0;
                self.fail(error);
            }
        }
    }

    /// Returns the result so far.
    pub(super) fn result(&self) -> &Drained {
        &self.result
    }

    pub(super) fn into_result(self) -> Drained {
        self.result
    }

    /// Counts the lines that were not accepted as lost, including a line that was accepted in part.
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
