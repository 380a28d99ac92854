//! Makes a decoder of a user's function for one line.

use std::error::Error;
use std::fmt::Debug;

use memchr::memchr_iter;

use super::{Decoder, Framing, Handler};

/// Decodes one line at a time. [`ByLine`] makes a [`Decoder`] of it.
pub trait LineDecoder: Clone + Debug + Send + 'static {
    /// The type of a record, which a slot of a ring holds. It should be small, as it is copied.
    type Record: Copy + Debug + Send + 'static;

    /// The reason why a line is malformed. The log shows it.
    type Error: Error + 'static;

    /// Decodes a line, given without its delimiter. `Ok(None)` skips the line.
    ///
    /// If the delimiter is a line feed, one carriage return in front of it is also removed.
    ///
    /// # Errors
    ///
    /// Fails if the line is malformed. The line is then counted and, within a limit, logged.
    fn decode_line(&self, line: &[u8]) -> Result<Option<Self::Record>, Self::Error>;
}

/// A [`Decoder`] that passes each line to a [`LineDecoder`].
#[derive(Clone, Copy, Debug)]
pub struct ByLine<L> {
    decoder: L,
    framing: Framing,
}

impl<L: LineDecoder> ByLine<L> {
    /// Makes a decoder for the lines of `framing`. Longer lines are oversized.
    pub fn new(decoder: L, framing: Framing) -> ByLine<L> {
        ByLine { decoder, framing }
    }
}

impl<L: LineDecoder> Decoder for ByLine<L> {
    type Record = L::Record;
    type Error = L::Error;

    fn decode(&self, lines: &[u8], handler: &mut impl Handler<Self>) -> u64 {
        let (mut count, mut start) = (0, 0);
        for end in memchr_iter(self.framing.delimiter(), lines) {
            let line = &lines[start..end];
            (count, start) = (count + 1, end + 1);
            if line.len() > self.framing.max_line() {
                handler.oversized();
                continue;
            }
            match self.decoder.decode_line(self.framing.trim(line)) {
                Ok(Some(record)) => handler.records(&[record]),
                Ok(None) => {}
                Err(error) => handler.malformed(line, error),
            }
        }
        count
    }

    // Each delimiter may end a line with a record, as even an empty line may have one.
    fn max_records(_held: usize, bytes: usize) -> usize {
        bytes
    }

    fn max_bytes(_held: usize, room: usize) -> usize {
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::decode_all;
    use std::num::ParseIntError;

    /// Hexadecimal bytes; `-` is skipped.
    #[derive(Clone, Debug)]
    struct Hex;

    impl LineDecoder for Hex {
        type Record = u8;
        type Error = ParseIntError;

        fn decode_line(&self, line: &[u8]) -> Result<Option<u8>, ParseIntError> {
            let text = String::from_utf8_lossy(line);
            if text == "-" { Ok(None) } else { u8::from_str_radix(&text, 16).map(Some) }
        }
    }

    #[test]
    fn each_line_is_a_record_or_skipped_or_malformed_or_oversized() {
        let (found, count) =
            decode_all(&ByLine::new(Hex, Framing::new(3)), b"ff\r\n-\nzz\r\n0ab\n0abc\n\n");
        assert_eq!(count, 6);
        assert_eq!(found.records, [0xff, 0xab]);
        let malformed: Vec<_> = found.malformed.into_iter().map(|(line, _)| line).collect();
        assert_eq!(malformed, [b"zz\r".to_vec(), vec![]], "with their carriage return");
        assert_eq!(found.oversized, 1);
    }

    #[test]
    fn another_delimiter_ends_lines_in_which_a_carriage_return_stays() {
        let framing = Framing::new(3).with_delimiter(b';');
        let (found, count) = decode_all(&ByLine::new(Hex, framing), b"ff;-;a\r;\n;0abc;");
        assert_eq!((found.records, count), (vec![0xff], 5));
        let malformed: Vec<_> = found.malformed.into_iter().map(|(line, _)| line).collect();
        assert_eq!((malformed, found.oversized), (vec![b"a\r".to_vec(), b"\n".to_vec()], 1));
    }

    #[test]
    fn as_many_bytes_are_read_as_records_fit_because_each_may_end_a_line() {
        assert_eq!(ByLine::<Hex>::max_records(2, 64), 64);
        assert_eq!(ByLine::<Hex>::max_bytes(2, 64), 64);
    }
}
