//! Encodes records as lines of text.

mod each;
mod escape;
mod lines;
mod plain;
mod prefix;
mod tagged;

use crate::origin::Origin;
use crate::stats::ServerNames;

pub(crate) use each::{EachLine, EachRecord};
pub use plain::{NUMBER_MAX_LEN, Plain, PlainLines};
pub use tagged::{TaggedLines, TaggedNumbers};

/// The free bytes that an [`Encoder`] gets beyond the longest lines: 32, as it may store more than it uses.
pub const ENCODE_SLACK: usize = 32;

/// Encodes records as lines of text, on the output thread.
///
/// A job has one encoder. [`Plain`] and [`TaggedNumbers`] encode numbers, [`PlainLines`] and [`TaggedLines`] lines.
///
/// The job calls [`max_len`](Self::max_len) and [`encode`](Self::encode) for each batch of records. If
/// [`needs_origin`](Self::needs_origin) returns true, it calls [`set_origin`](Self::set_origin) before each batch
/// of another origin.
///
/// A record whose type is `u8` is usually a part of a line only: see [`count`](Self::count) and
/// [`is_within_line`](Self::is_within_line).
pub trait Encoder<T>: Send + 'static {
    /// Returns whether the encoder needs the origin of records. The default is no. It must not change.
    ///
    /// Without it, a job does not keep track of the origins, which costs some time per read of a connection.
    fn needs_origin(&self) -> bool {
        false
    }

    /// Takes the names of the servers, before any record. The default does nothing.
    fn set_servers(&mut self, servers: ServerNames) {
        _ = servers;
    }

    /// Sets the origin of the records that are encoded next. The default does nothing.
    fn set_origin(&mut self, origin: Origin) {
        _ = origin;
    }

    /// Returns an upper bound of the bytes that [`encode`](Self::encode) returns for these records.
    fn max_len(&self, records: &[T]) -> usize;

    /// Encodes each record as one line at the start of `to`, and returns the length of all lines in bytes.
    ///
    /// Each line ends with its only [terminator](Self::terminator). `to` has at least
    /// [`max_len`](Self::max_len) bytes and [`ENCODE_SLACK`] more. The encoder may overwrite bytes after the last
    /// line.
    ///
    /// An encoder that passes its records elsewhere returns 0. The records then count as written.
    fn encode(&mut self, records: &[T], to: &mut [u8]) -> usize;

    /// Returns the number of lines that end in these records. The default is one for each record.
    fn count(&self, records: &[T]) -> u64 {
        records.len() as u64
    }

    /// Returns whether the records so far end within a line. The rest of the line is then encoded next, before
    /// records of any other worker. The default is no.
    fn is_within_line(&self) -> bool {
        false
    }

    /// Returns the byte that ends each line. The default is a line feed.
    fn terminator(&self) -> u8 {
        b'\n'
    }
}
