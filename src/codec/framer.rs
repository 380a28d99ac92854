//! Joins chunks of a connection, split at any byte, to regions of whole lines.
//!
//! [`Framer`] holds the unfinished line of one connection. It is pure: bytes come in and go out as slices. So
//! a socket, a fuzzer and a simulator can all drive it.
//!
//! It does not split lines one by one. It passes on all whole lines of a chunk as one *region*, a slice that
//! ends with a delimiter. So the decoder can decode many lines in one step.

use memchr::{memchr, memrchr};

use super::Framing;

/// A find of [`Framer::feed`] in a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// A region: one or more whole lines, the last byte a delimiter.
    Lines(&'a [u8]),
    /// A line that is over the limit.
    ///
    /// It is passed on once for a line, as soon as the line is over the limit. The rest of the line, up to its
    /// delimiter, is skipped.
    Oversized,
}

/// The bytes of one connection's unfinished line, bounded by the limit of a line.
///
/// Between two lines it holds no buffer, so an idle connection needs no memory for one.
#[derive(Debug, Default)]
pub struct Framer {
    /// The unfinished line without a delimiter. Invariant: at most `max_line` bytes, and empty while skipping.
    tail: Vec<u8>,
    /// Whether the current line is over the limit and is skipped up to its delimiter.
    skipping: bool,
}

impl Framer {
    /// Takes the next bytes of the connection, and passes the lines that they complete to `found`.
    ///
    /// `framing` is the same for all bytes of a connection. Its longest line bounds the bytes that are held between
    /// two calls. A longer line that is whole within a chunk is passed on in a region, and the decoder rejects it.
    pub fn feed(&mut self, chunk: &[u8], framing: Framing, mut found: impl FnMut(Framed<'_>)) {
        let Some(rest) = self.finish_line(chunk, framing, &mut found) else {
            return;
        };
        let tail_start = memrchr(framing.delimiter(), rest).map_or(0, |end| end + 1);
        let (lines, tail) = rest.split_at(tail_start);
        if !lines.is_empty() {
            found(Framed::Lines(lines));
        }
        self.keep(tail, framing, &mut found);
        debug_assert!(self.tail.len() <= framing.max_line());
        debug_assert!(!self.skipping || self.tail.is_empty());
    }

    /// Ends the connection: removes the unfinished line and returns it. It is empty if there is none.
    ///
    /// So the line is never joined with bytes of the next connection. A line over the limit is not returned.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(self).tail
    }

    /// Returns the number of bytes held for the unfinished line.
    pub fn held(&self) -> usize {
        self.tail.len()
    }

    /// Completes the line that an earlier chunk began, and returns the bytes that follow it. Returns `None` if
    /// `chunk` does not complete the line.
    fn finish_line<'a>(
        &mut self,
        chunk: &'a [u8],
        framing: Framing,
        found: &mut impl FnMut(Framed<'_>),
    ) -> Option<&'a [u8]> {
        if self.tail.is_empty() && !self.skipping {
            return Some(chunk);
        }
        let Some(len) = memchr(framing.delimiter(), chunk) else {
            if !self.skipping {
                self.keep(chunk, framing, found);
            }
            return None;
        };
        let (end, rest) = chunk.split_at(len + 1);
        if self.skipping {
            self.skipping = false;
        } else {
            let mut line = std::mem::take(&mut self.tail);
            if line.len() + len > framing.max_line() {
                found(Framed::Oversized);
            } else {
                line.extend_from_slice(end);
                found(Framed::Lines(&line));
            }
        }
        Some(rest)
    }

    /// Adds bytes without a delimiter to the unfinished line.
    fn keep(&mut self, bytes: &[u8], framing: Framing, found: &mut impl FnMut(Framed<'_>)) {
        if self.tail.len() + bytes.len() > framing.max_line() {
            self.tail = Vec::new();
            self.skipping = true;
            found(Framed::Oversized);
        } else {
            // The capacity doubles as that of any vector, but never beyond the limit.
            let wanted = self.tail.len() + bytes.len();
            if wanted > self.tail.capacity() {
                self.tail.reserve_exact((2 * wanted).min(framing.max_line()) - self.tail.len());
            }
            self.tail.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds chunks to a framer. Returns the lines, without delimiters and `None` for an oversized one, and
    /// whether the end truncates a line.
    fn feed_all(chunks: &[&[u8]], framing: Framing) -> (Vec<Option<Vec<u8>>>, bool) {
        let (delimiter, max_line) = (framing.delimiter(), framing.max_line());
        let mut framer = Framer::default();
        let mut found = Vec::new();
        for chunk in chunks {
            framer.feed(chunk, framing, |framed| match framed {
                Framed::Oversized => found.push(None),
                Framed::Lines(region) => {
                    let lines =
                        region.strip_suffix(&[delimiter]).expect("a region ends with a delimiter");
                    for line in lines.split(|&byte| byte == delimiter) {
                        // A decoder also rejects a whole line over the limit.
                        found.push((line.len() <= max_line).then(|| line.to_vec()));
                    }
                }
            });
        }
        let is_truncated = !framer.finish().is_empty();
        (found, is_truncated)
    }

    /// Finds the same in the simplest way: splits all bytes together at delimiters.
    fn naive(bytes: &[u8], framing: Framing) -> (Vec<Option<Vec<u8>>>, bool) {
        let max_line = framing.max_line();
        let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == framing.delimiter()).collect();
        let tail = lines.pop().expect("split yields at least one piece");
        let mut found: Vec<Option<Vec<u8>>> =
            lines.iter().map(|line| (line.len() <= max_line).then(|| line.to_vec())).collect();
        if tail.len() > max_line {
            found.push(None);
        }
        (found, !tail.is_empty() && tail.len() <= max_line)
    }

    #[test]
    fn a_line_in_two_chunks_is_joined() {
        let (found, is_truncated) = feed_all(&[b"12", b"66\n7"], Framing::new(16));
        assert_eq!(found, [Some(b"1266".to_vec())]);
        assert!(is_truncated);
    }

    #[test]
    fn whole_lines_of_a_chunk_are_one_region() {
        let mut regions = Vec::new();
        let mut framer = Framer::default();
        for chunk in [&b"1\n2\n3"[..], b"4\n5\n6\n"] {
            framer.feed(chunk, Framing::new(16), |framed| regions.push(format!("{framed:?}")));
        }
        let expected: Vec<String> = [&b"1\n2\n"[..], b"34\n", b"5\n6\n"]
            .map(|lines| format!("{:?}", Framed::Lines(lines)))
            .into();
        assert_eq!(regions, expected);
    }

    #[test]
    fn a_line_of_the_limit_is_kept_and_one_byte_more_is_oversized() {
        for (text, kept) in [(&b"1234\n"[..], true), (b"12345\n", false)] {
            for at in 0..text.len() {
                let (found, _) = feed_all(&[&text[..at], &text[at..]], Framing::new(4));
                assert_eq!(found, [kept.then(|| text[..text.len() - 1].to_vec())], "split at {at}");
            }
        }
    }

    #[test]
    fn an_endless_line_is_oversized_once_and_its_memory_bounded() {
        let mut framer = Framer::default();
        let mut oversized = 0;
        for _ in 0..1000 {
            framer.feed(&[b'7'; 100], Framing::new(256), |framed| {
                assert_eq!(framed, Framed::Oversized);
                oversized += 1;
            });
            assert!(framer.tail.capacity() <= 256);
        }
        assert_eq!(oversized, 1);
        assert!(framer.finish().is_empty(), "already counted as oversized");
    }

    #[test]
    fn the_line_after_a_skipped_one_is_whole() {
        let (found, is_truncated) = feed_all(&[b"99999999", b"9\n12\n"], Framing::new(4));
        assert_eq!(found, [None, Some(b"12".to_vec())]);
        assert!(!is_truncated);
    }

    #[test]
    fn a_line_is_never_joined_with_bytes_of_the_next_connection() {
        for first in [&b"12"[..], b"123456789"] {
            let mut framer = Framer::default();
            framer.feed(first, Framing::new(4), |_| ());
            framer.finish();
            let mut found = Vec::new();
            framer.feed(b"6\n", Framing::new(4), |framed| found.push(format!("{framed:?}")));
            assert_eq!(found, [format!("{:?}", Framed::Lines(b"6\n"))]);
        }
    }

    #[test]
    fn a_buffer_doubles_up_to_the_limit() {
        let mut framer = Framer::default();
        let mut sizes = Vec::new();
        for len in [10, 1, 9, 1, 40, 3] {
            framer.feed(&vec![b'7'; len], Framing::new(64), |_| ());
            sizes.push((framer.held(), framer.tail.capacity()));
        }
        assert_eq!(sizes, [(10, 20), (11, 20), (20, 20), (21, 42), (61, 64), (64, 64)]);
    }

    #[test]
    fn no_buffer_is_held_between_two_lines() {
        let mut framer = Framer::default();
        framer.feed(b"12", Framing::new(64), |_| ());
        framer.feed(b"3\n", Framing::new(64), |_| ());
        assert_eq!(framer.tail.capacity(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_chunks_equal_split(
            chunks in prop::collection::vec(prop::collection::vec(
                prop_oneof![3 => b'0'..=b'9', 2 => Just(b'\n'), 1 => Just(b';'), 1 => any::<u8>()], 0..20), 0..20),
            max_line in 1_usize..12,
            delimiter in prop_oneof![Just(b'\n'), Just(b';'), any::<u8>()],
        ) {
            let framing = Framing::new(max_line).with_delimiter(delimiter);
            let slices: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(feed_all(&slices, framing), naive(&chunks.concat(), framing));
        }
    }
}
