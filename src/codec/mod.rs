//! Bytes to records. Everything here is pure.
//!
//! A [`Decoder`] takes regions of whole lines, so that it can decode many lines in a step. A [`LineDecoder`]
//! takes one line at a time; [`ByLine`] makes a `Decoder` of it.

mod by_line;
pub mod framer;
mod lines;
pub mod number;

use std::error::Error;
use std::fmt::Debug;

pub use by_line::{ByLine, LineDecoder};
pub use lines::Lines;

/// Decodes regions of whole lines into records.
///
/// A job has one decoder; each worker gets a clone.
pub trait Decoder: Clone + Debug + Send + 'static {
    /// The type of a record, which a slot of a ring holds. It should be small, as it is copied.
    type Record: Copy + Debug + Send + 'static;

    /// The reason why a line is malformed. The log shows it.
    type Error: Error + 'static;

    /// Decodes all lines of a region and returns how many there were.
    ///
    /// `lines` is empty or ends with a line feed. The records come in the order of their lines.
    fn decode(&self, lines: &[u8], handler: &mut impl Handler<Self>) -> u64;

    /// The most records that a connection may yield whose decoder gets `bytes` more bytes while `held` bytes
    /// of an unfinished line are held.
    fn max_records(held: usize, bytes: usize) -> usize;

    /// The most bytes that may be read so that they yield no more records than `room`: the inverse of
    /// [`max_records`](Self::max_records). It is 0 if the line that is held might yield more.
    fn max_bytes(held: usize, room: usize) -> usize;
}

/// Takes what a [`Decoder`] finds in a region, in the order of the lines within each method.
pub trait Handler<D: Decoder> {
    /// Takes records.
    fn records(&mut self, records: &[D::Record]);

    /// Takes a line that the decoder rejects, without its line feed.
    fn malformed(&mut self, line: &[u8], error: D::Error);

    /// Takes note of a line that is longer than the limit.
    fn oversized(&mut self);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a decoder found in a region.
    #[derive(Debug, PartialEq)]
    pub(crate) struct Found<T> {
        pub(crate) records: Vec<T>,
        pub(crate) malformed: Vec<Vec<u8>>,
        pub(crate) oversized: usize,
    }

    impl<D: Decoder> Handler<D> for Found<D::Record> {
        fn records(&mut self, records: &[D::Record]) {
            self.records.extend_from_slice(records);
        }
        fn malformed(&mut self, line: &[u8], _: D::Error) {
            self.malformed.push(line.to_vec());
        }
        fn oversized(&mut self) {
            self.oversized += 1;
        }
    }

    pub(crate) fn decode_all<D: Decoder>(decoder: &D, lines: &[u8]) -> (Found<D::Record>, u64) {
        let mut found = Found { records: Vec::new(), malformed: Vec::new(), oversized: 0 };
        let count = decoder.decode(lines, &mut found);
        (found, count)
    }

    fn assert_inverse<D: Decoder>(held: usize, room: usize, bytes: usize) {
        let most = D::max_bytes(held, room);
        assert!(most == 0 || D::max_records(held, most) <= room, "{most} bytes yield too many");
        assert!(bytes <= most || D::max_records(held, bytes) > room, "{bytes} bytes would do");
    }

    proptest! {
        #[test]
        fn the_most_bytes_are_the_inverse_of_the_most_records(
            held in 0..5000_usize, room in 0..5000_usize, bytes in 1..20_000_usize,
        ) {
            assert_inverse::<Lines>(held, room, bytes);
            assert_inverse::<number::NumberDecoder>(held, room, bytes);
        }
    }
}
