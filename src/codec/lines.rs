//! Passes on whole lines byte for byte.

use std::convert::Infallible;

use memchr::{memchr, memrchr};

use super::{Decoder, Framing, Handler};

/// A [`Decoder`] whose records are the bytes of all lines, with their delimiters and including empty lines.
///
/// A line over the limit is dropped and counted as oversized.
#[derive(Clone, Copy, Debug)]
pub struct Lines {
    framing: Framing,
}

impl Lines {
    /// Makes a decoder for the lines of `framing`.
    pub fn new(framing: Framing) -> Lines {
        Lines { framing }
    }
}

impl Decoder for Lines {
    type Record = u8;
    type Error = Infallible;

    fn decode(&self, lines: &[u8], handler: &mut impl Handler<Self>) -> u64 {
        let (delimiter, max_line) = (self.framing.delimiter(), self.framing.max_line());
        let (mut start, mut kept) = (0, 0);
        // A step ends at the last delimiter that a line of the limit could have. All lines up to it are within the
        // limit, and most steps have many.
        while start < lines.len() {
            let rest = &lines[start..];
            let within = &rest[..rest.len().min(max_line.saturating_add(1))];
            if let Some(end) = memrchr(delimiter, within) {
                start += end + 1;
                continue;
            }
            // A region ends with a delimiter. Bytes of something else are passed on.
            let Some(end) = memchr(delimiter, rest) else { break };
            handler.records(&lines[kept..start]);
            handler.oversized();
            start += end + 1;
            kept = start;
        }
        handler.records(&lines[kept..]);
        self.framing.count(lines)
    }

    fn count(&self, records: &[u8]) -> u64 {
        self.framing.count(records)
    }

    fn max_records(held: usize, bytes: usize) -> usize {
        held.saturating_add(bytes)
    }

    fn max_bytes(held: usize, room: usize) -> usize {
        room.saturating_sub(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::{Found, decode_all};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_lines_within_the_limit_are_passed_on_and_all_others_are_oversized(
            lengths in prop::collection::vec(0_usize..12, 0..30), limit in 0_usize..12,
        ) {
            let lines: Vec<Vec<u8>> =
                lengths.iter().map(|len| [&vec![b'a'; *len][..], b"\n"].concat()).collect();
            let (found, count) = decode_all(&Lines::new(Framing::new(limit)), &lines.concat());
            let (kept, oversized): (Vec<_>, Vec<_>) =
                lines.into_iter().partition(|line| line.len() <= limit + 1);
            let (records, oversized) = (kept.concat(), oversized.len());
            prop_assert_eq!(found, Found { records, malformed: vec![], oversized });
            prop_assert_eq!(count, lengths.len() as u64);
        }
    }

    #[test]
    fn all_lines_are_passed_on_byte_for_byte_including_empty_ones() {
        let text = b"temp=23.5\r\n\n\xff\0\n";
        let (found, count) = decode_all(&Lines::new(Framing::new(9 + 1)), text);
        assert_eq!((found.records.as_slice(), count), (&text[..], 3));
    }

    #[test]
    fn a_line_of_the_limit_is_kept_and_one_byte_more_is_dropped() {
        for (text, kept) in
            [("1234\n12345\n\n12345\n", "1234\n\n"), ("12345\n1234\n", "1234\n"), ("12345\n", "")]
        {
            let (found, count) = decode_all(&Lines::new(Framing::new(4)), text.as_bytes());
            let oversized = text.matches("12345\n").count();
            assert_eq!(found, Found { records: kept.into(), malformed: vec![], oversized });
            assert_eq!(count, text.matches('\n').count() as u64);
        }
    }

    #[test]
    fn another_delimiter_ends_lines_and_is_passed_on() {
        let (found, count) =
            decode_all(&Lines::new(Framing::new(3).with_delimiter(0)), b"a\r\n\0four\0\0");
        assert_eq!(found, Found { records: b"a\r\n\0\0".into(), malformed: vec![], oversized: 1 });
        assert_eq!(count, 3);
    }
}
