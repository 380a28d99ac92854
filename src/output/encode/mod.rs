//! Encodes records as lines of text.

mod plain;

pub use plain::{NUMBER_MAX_LEN, Plain};

/// The free bytes that an [`Encoder`] gets beyond the longest lines: 32, as it may store more than it uses.
pub const ENCODE_SLACK: usize = 32;

/// Encodes records as lines of text, on the output thread.
///
/// A job has one encoder. [`Plain`] encodes numbers.
pub trait Encoder<T>: Send + 'static {
    /// The longest line of a record in bytes, with its line feed. It sets the size of the output buffer.
    const MAX_LEN: usize;

    /// Encodes each record as one line at the start of `to`, and returns the length of all lines in bytes.
    ///
    /// Each line ends with its only line feed. `to` has at least [`MAX_LEN`](Self::MAX_LEN) bytes for each
    /// record and [`ENCODE_SLACK`] more. The encoder may overwrite bytes after the last line.
    fn encode(&mut self, records: &[T], to: &mut [u8]) -> usize;
}
