//! From chunks, cut anywhere, to whole lines.
//!
//! [`Framer`] remembers what one connection has sent of a line that is not whole yet. It is pure: it
//! sees bytes as slices and hands bytes on as slices, so a socket, a fuzzer and a simulator drive it
//! alike.
//!
//! Lines are not cut one by one. All whole lines of a chunk are handed on as one *region*, a slice
//! that ends in a newline, so that the judge behind it can take many lines in a step.

use memchr::{memchr, memrchr};

/// What [`Framer::feed`] finds in a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// One or more whole lines, each with its newline; the last byte is a newline.
    Lines(&'a [u8]),
    /// A line outgrew the limit. It is said once a line, when the limit is passed; the rest of the
    /// line, up to its newline, is then thrown away unseen.
    Oversized,
}

/// The bytes of one connection's unfinished line, bounded.
///
/// An idle connection, which stands between two lines, holds no buffer.
#[derive(Debug, Default)]
pub struct Framer {
    /// The line so far, without a newline: at most `max_line` bytes, and empty while skipping.
    tail: Vec<u8>,
    /// Whether the current line has outgrown the limit and is thrown away up to its newline.
    skipping: bool,
}

impl Framer {
    /// Takes the next bytes of the connection and hands on what they complete.
    ///
    /// `max_line` is the longest line that is kept, in bytes without its newline. It bounds what is
    /// held between two calls; a longer line that lies whole within a chunk is handed on as it is,
    /// and is the judge's to refuse.
    pub fn feed(&mut self, chunk: &[u8], max_line: usize, mut found: impl FnMut(Framed<'_>)) {
        let Some(rest) = self.finish_line(chunk, max_line, &mut found) else {
            return;
        };
        let tail_start = memrchr(b'\n', rest).map_or(0, |newline| newline + 1);
        let (lines, tail) = rest.split_at(tail_start);
        if !lines.is_empty() {
            found(Framed::Lines(lines));
        }
        self.keep(tail, max_line, &mut found);
        debug_assert!(self.tail.len() <= max_line);
        debug_assert!(!self.skipping || self.tail.is_empty());
    }

    /// Ends the connection: gives up the unfinished line, so that it never meets the bytes of the
    /// next connection, and returns it. It is empty if there was none.
    ///
    /// A line that had outgrown the limit is not returned.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(self).tail
    }

    /// The bytes held for the unfinished line.
    pub fn held(&self) -> usize {
        self.tail.len()
    }

    /// Ends the line that an earlier chunk began and returns what follows it, or `None` if `chunk`
    /// does not reach its end.
    fn finish_line<'a>(
        &mut self,
        chunk: &'a [u8],
        max_line: usize,
        found: &mut impl FnMut(Framed<'_>),
    ) -> Option<&'a [u8]> {
        if self.tail.is_empty() && !self.skipping {
            return Some(chunk);
        }
        let Some(newline) = memchr(b'\n', chunk) else {
            if !self.skipping {
                self.keep(chunk, max_line, found);
            }
            return None;
        };
        let (end, rest) = chunk.split_at(newline + 1);
        if self.skipping {
            self.skipping = false;
        } else {
            let mut line = std::mem::take(&mut self.tail);
            if line.len() + newline > max_line {
                found(Framed::Oversized);
            } else {
                line.extend_from_slice(end);
                found(Framed::Lines(&line));
            }
        }
        Some(rest)
    }

    /// Adds bytes without a newline to the unfinished line.
    fn keep(&mut self, bytes: &[u8], max_line: usize, found: &mut impl FnMut(Framed<'_>)) {
        if self.tail.len() + bytes.len() > max_line {
            self.tail = Vec::new();
            self.skipping = true;
            found(Framed::Oversized);
        } else {
            // Doubled as vectors are, but never beyond the limit.
            let wanted = self.tail.len() + bytes.len();
            if wanted > self.tail.capacity() {
                self.tail.reserve_exact((2 * wanted).min(max_line) - self.tail.len());
            }
            self.tail.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a framer said of some chunks: the lines, without newline, and `None` for one too long.
    fn feed_all(chunks: &[&[u8]], max_line: usize) -> (Vec<Option<Vec<u8>>>, bool) {
        let mut framer = Framer::default();
        let mut said = Vec::new();
        for chunk in chunks {
            framer.feed(chunk, max_line, |framed| match framed {
                Framed::Oversized => said.push(None),
                Framed::Lines(region) => {
                    let lines = region.strip_suffix(b"\n").expect("a region ends in a newline");
                    for line in lines.split(|&byte| byte == b'\n') {
                        // What the judge does with a whole line over the limit.
                        said.push((line.len() <= max_line).then(|| line.to_vec()));
                    }
                }
            });
        }
        let cut = !framer.finish().is_empty();
        (said, cut)
    }

    /// The same by the shortest way: all bytes at once, split at newlines.
    fn naive(bytes: &[u8], max_line: usize) -> (Vec<Option<Vec<u8>>>, bool) {
        let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
        let tail = lines.pop().expect("split yields at least one piece");
        let mut said: Vec<Option<Vec<u8>>> =
            lines.iter().map(|line| (line.len() <= max_line).then(|| line.to_vec())).collect();
        if tail.len() > max_line {
            said.push(None);
        }
        (said, !tail.is_empty() && tail.len() <= max_line)
    }

    #[test]
    fn a_line_cut_in_the_middle_is_joined() {
        let (said, cut) = feed_all(&[b"12", b"66\n7"], 16);
        assert_eq!(said, [Some(b"1266".to_vec())]);
        assert!(cut);
    }

    #[test]
    fn whole_lines_of_a_chunk_are_one_region() {
        let mut regions = Vec::new();
        let mut framer = Framer::default();
        for chunk in [&b"1\n2\n3"[..], b"4\n5\n6\n"] {
            framer.feed(chunk, 16, |framed| regions.push(format!("{framed:?}")));
        }
        let expected: Vec<String> = [&b"1\n2\n"[..], b"34\n", b"5\n6\n"]
            .map(|lines| format!("{:?}", Framed::Lines(lines)))
            .into();
        assert_eq!(regions, expected);
    }

    #[test]
    fn a_line_at_the_limit_is_kept_and_one_byte_more_is_not() {
        for (text, kept) in [(&b"1234\n"[..], true), (b"12345\n", false)] {
            for cut in 0..text.len() {
                let (said, _) = feed_all(&[&text[..cut], &text[cut..]], 4);
                assert_eq!(said, [kept.then(|| text[..text.len() - 1].to_vec())], "cut at {cut}");
            }
        }
    }

    #[test]
    fn an_endless_line_is_said_once_and_held_in_bounds() {
        let mut framer = Framer::default();
        let mut oversized = 0;
        for _ in 0..1000 {
            framer.feed(&[b'7'; 100], 256, |framed| {
                assert_eq!(framed, Framed::Oversized);
                oversized += 1;
            });
            assert!(framer.tail.capacity() <= 256);
        }
        assert_eq!(oversized, 1);
        assert!(framer.finish().is_empty(), "already counted as too long");
    }

    #[test]
    fn the_line_after_a_skipped_one_is_whole() {
        let (said, cut) = feed_all(&[b"99999999", b"9\n12\n"], 4);
        assert_eq!(said, [None, Some(b"12".to_vec())]);
        assert!(!cut);
    }

    #[test]
    fn nothing_of_one_connection_joins_the_next() {
        for first in [&b"12"[..], b"123456789"] {
            let mut framer = Framer::default();
            framer.feed(first, 4, |_| ());
            framer.finish();
            let mut said = Vec::new();
            framer.feed(b"6\n", 4, |framed| said.push(format!("{framed:?}")));
            assert_eq!(said, [format!("{:?}", Framed::Lines(b"6\n"))]);
        }
    }

    #[test]
    fn a_buffer_doubles_up_to_the_limit() {
        let mut framer = Framer::default();
        let mut sizes = Vec::new();
        for len in [10, 1, 9, 1, 40, 3] {
            framer.feed(&vec![b'7'; len], 64, |_| ());
            sizes.push((framer.held(), framer.tail.capacity()));
        }
        assert_eq!(sizes, [(10, 20), (11, 20), (20, 20), (21, 42), (61, 64), (64, 64)]);
    }

    #[test]
    fn between_two_lines_no_buffer_is_held() {
        let mut framer = Framer::default();
        framer.feed(b"12", 64, |_| ());
        framer.feed(b"3\n", 64, |_| ());
        assert_eq!(framer.tail.capacity(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_cut_anywhere_equal_split(
            chunks in prop::collection::vec(prop::collection::vec(
                prop_oneof![3 => b'0'..=b'9', 2 => Just(b'\n'), 1 => any::<u8>()], 0..20), 0..20),
            max_line in 1_usize..12,
        ) {
            let slices: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(feed_all(&slices, max_line), naive(&chunks.concat(), max_line));
        }
    }
}
