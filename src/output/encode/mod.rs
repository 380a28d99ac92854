//! From records to lines of text.

mod plain;

pub use plain::{NUMBER_MAX_LEN, Plain};

/// The bytes that must be free beyond the longest lines: an [`Encoder`] may store more than it uses.
pub const ENCODE_SLACK: usize = 32;

/// Encodes records as lines of text, on the thread of the output.
pub trait Encoder<T>: Send + 'static {
    /// The most bytes that one record takes, with its line feed.
    const MAX_LEN: usize;

    /// Encodes each record as one line, which ends with its only line feed, from the start of `to`. Returns how
    /// many bytes that took.
    ///
    /// `to` has at least [`MAX_LEN`](Self::MAX_LEN) bytes for each record and [`ENCODE_SLACK`] more. The bytes
    /// after the last line may change.
    fn encode(&mut self, records: &[T], to: &mut [u8]) -> usize;
}
