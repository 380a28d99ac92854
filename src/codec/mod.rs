//! Decodes bytes into records. All of it is pure.
//!
//! A [`Decoder`] takes regions of whole lines, so that it can decode many lines in one step. A [`LineDecoder`]
//! decodes one line at a time, and [`ByLine`] makes a `Decoder` of it.

mod by_line;
pub mod framer;
mod framing;
mod lines;
pub mod number;

use std::error::Error;
use std::fmt::Debug;

pub use by_line::{ByLine, LineDecoder};
pub use framing::Framing;
pub use lines::Lines;

/// Decodes regions of whole lines into records.
///
/// A job has one decoder, and each worker gets a clone of it.
pub trait Decoder: Clone + Debug + Send + 'static {
    /// The type of a record, which a slot of a ring holds. It should be small, as it is copied.
    type Record: Copy + Debug + Send + 'static;

    /// The reason why a line is malformed. The log shows it.
    type Error: Error + 'static;

    /// Decodes all lines of a region and returns their number.
    ///
    /// `lines` is empty or ends with a delimiter. The decoder passes records to `handler` in the order of their
    /// lines.
    fn decode(&self, lines: &[u8], handler: &mut impl Handler<Self>) -> u64;

    /// Returns the number of lines in these records, for the counters. The default is one for each record.
    fn count(&self, records: &[Self::Record]) -> u64 {
        records.len() as u64
    }

    /// Returns the path on which numbers are decoded, for the log.
    #[doc(hidden)]
    fn path_name(&self) -> Option<number::DecoderPath> {
        None
    }

    /// Returns the most records that `bytes` more bytes of a connection can yield. `held` is the length of its
    /// unfinished line in bytes.
    fn max_records(held: usize, bytes: usize) -> usize;

    /// Returns the most bytes that can be read without more records than `room`: the inverse of
    /// [`max_records`](Self::max_records).
    ///
    /// It is 0 if the line that is held may yield more records.
    fn max_bytes(held: usize, room: usize) -> usize;
}

/// Takes the records and the rejected lines of a region from a [`Decoder`].
///
/// Each method is called in the order of the lines. Calls of different methods may be in another order.
pub trait Handler<D: Decoder> {
    /// Takes records.
    fn records(&mut self, records: &[D::Record]);

    /// Takes a malformed line, without its delimiter.
    fn malformed(&mut self, line: &[u8], error: D::Error);

    /// Counts a line that is over the limit.
    fn oversized(&mut self);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The finds of a decoder in a region.
    #[derive(Clone, Debug, PartialEq)]
    pub(crate) struct Found<T, E> {
        pub(crate) records: Vec<T>,
        pub(crate) malformed: Vec<(Vec<u8>, E)>,
        pub(crate) oversized: usize,
    }

    impl<T, E> Default for Found<T, E> {
        fn default() -> Found<T, E> {
            Found { records: Vec::new(), malformed: Vec::new(), oversized: 0 }
        }
    }

    impl<D: Decoder> Handler<D> for Found<D::Record, D::Error> {
        fn records(&mut self, records: &[D::Record]) {
            self.records.extend_from_slice(records);
        }
        fn malformed(&mut self, line: &[u8], error: D::Error) {
            self.malformed.push((line.to_vec(), error));
        }
        fn oversized(&mut self) {
            self.oversized += 1;
        }
    }

    pub(crate) fn decode_all<D: Decoder>(
        decoder: &D,
        lines: &[u8],
    ) -> (Found<D::Record, D::Error>, u64) {
        let mut found = Found::default();
        let count = decoder.decode(lines, &mut found);
        (found, count)
    }

    /// Cuts bytes into chunks of these sizes, in turns.
    pub(crate) fn cut<'a>(bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
        let mut rest = bytes;
        let mut next = |size: &usize| {
            let (chunk, others) = rest.split_at((*size).min(rest.len()));
            rest = others;
            (!chunk.is_empty()).then_some(chunk)
        };
        sizes.iter().cycle().map_while(&mut next).collect()
    }

    fn assert_inverse<D: Decoder>(held: usize, room: usize, bytes: usize) {
        let most = D::max_bytes(held, room);
        assert!(most == 0 || D::max_records(held, most) <= room, "{most} bytes yield too many");
        assert!(bytes <= most || D::max_records(held, bytes) > room, "{bytes} bytes also fit");
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
