//! Holds text on its way to the output, and counts the written and the lost records.

use std::io;
use std::marker::PhantomData;

use crate::origin::Origin;
use crate::output::encode::{ENCODE_SLACK, Encoder};
use crate::ring::records_in;

/// The bytes at which a buffer is full: 64 KiB make few system calls and fit the second-level cache.
pub(super) const WRITE_SIZE: usize = 64 * 1024;

/// The most bytes of records that are added at once: 16 KiB, or 2048 numbers. It bounds the memory beyond
/// [`WRITE_SIZE`].
const ADD_BYTES: usize = 16 * 1024;

/// Returns the most records that are added at once, at least one.
pub(super) const fn add_max<T>() -> usize {
    records_in::<T>(ADD_BYTES)
}

/// The lines that wait for the output, and the counts of the written and the lost records.
#[derive(Debug)]
pub(super) struct OutputBuffer<T, E> {
    encoder: E,
    records: PhantomData<fn(T)>,
    /// The lines are the first `len` bytes. It grows to the longest text that the encoder asks for.
    text: Vec<u8>,
    /// The origin of the records that were added last.
    origin: Option<Origin>,
    len: usize,
    /// The number of lines that end in `text[..len]`.
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
            text: Vec::new(),
            origin: None,
            len: 0,
            lines: 0,
            taken: 0,
            result: Drained::default(),
        }
    }

    /// Adds the lines of records. After an error, counts them as lost.
    ///
    /// # Panics
    ///
    /// Panics if there are more than [`add_max`] records, or the buffer [is full](Self::is_full).
    pub(super) fn add(&mut self, origin: Option<Origin>, records: &[T]) {
        debug_assert!(self.taken == 0 && !self.is_full() && records.len() <= add_max::<T>());
        let count = self.encoder.count(records);
        if self.result.error.is_some() {
            self.result.lost += count;
            return;
        }
        if let Some(origin) = origin
            && self.origin != Some(origin)
        {
            self.origin = Some(origin);
            self.encoder.set_origin(origin);
        }
        let needed = self.len + self.encoder.max_len(records) + ENCODE_SLACK;
        if needed > self.text.len() {
            self.text.resize(needed.max(WRITE_SIZE), 0);
        }
        let len = self.encoder.encode(records, &mut self.text[self.len..]);
        if len == 0 && self.len == 0 {
            // There is nothing to write. Lines that ended were passed elsewhere, also before a part of a line.
            self.result.written += count;
            return;
        }
        self.len += len;
        self.lines += count;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether the buffer must be written before records are added. Only whole lines are written.
    pub(super) fn is_full(&self) -> bool {
        self.len >= WRITE_SIZE && !self.is_within_line()
    }

    /// Returns whether the rest of a line must be added before anything else.
    pub(super) fn is_within_line(&self) -> bool {
        self.result.error.is_none() && self.encoder.is_within_line()
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
        let terminator = self.encoder.terminator();
        let lost = memchr::memchr_iter(terminator, self.unwritten()).count() as u64;
        self.result.error = Some(error);
        // An encoder of the user's may write a terminator within a line. No more lines are lost than were added.
        self.clear(lost.min(self.lines));
    }

    /// Counts the lines as written, except for `lost` of them, and removes all.
    fn clear(&mut self, lost: u64) {
        self.result.lost += lost;
        self.result.written += self.lines - lost;
        (self.len, self.lines, self.taken) = (0, 0, 0);
    }
}
