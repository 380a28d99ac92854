//! Joins bytes to whole lines.

use memchr::{memchr, memchr_iter, memrchr};

use crate::codec::Framing;

/// The part of a line that has come so far.
///
/// The bytes of a ring come in slices that may end within a line. Most lines are whole in a slice and are passed
/// on from there. Only the others are copied.
#[derive(Debug)]
pub(super) struct LineJoiner {
    framing: Framing,
    partial: Vec<u8>,
}

impl LineJoiner {
    pub(super) fn new(framing: Framing) -> LineJoiner {
        LineJoiner { framing, partial: Vec::new() }
    }

    /// Returns the number of bytes held of an unfinished line.
    pub(super) fn held(&self) -> usize {
        self.partial.len()
    }

    /// Returns whether the bytes so far end within a line.
    pub(super) fn is_within_line(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Returns the number of lines that end in these bytes.
    pub(super) fn count(&self, bytes: &[u8]) -> u64 {
        self.framing.count(bytes)
    }

    /// Takes the next bytes, and passes each line that they complete to `f`, without its delimiter and without the
    /// carriage return that [belongs to it](Framing::trim).
    pub(super) fn feed(&mut self, bytes: &[u8], mut f: impl FnMut(&[u8])) {
        let (framing, delimiter) = (self.framing, self.framing.delimiter());
        let mut rest = bytes;
        if !self.partial.is_empty() {
            let Some(end) = memchr(delimiter, rest) else {
                return self.partial.extend_from_slice(rest);
            };
            self.partial.extend_from_slice(&rest[..end]);
            f(framing.trim(&self.partial));
            self.partial.clear();
            rest = &rest[end + 1..];
        }
        let (lines, tail) = rest.split_at(memrchr(delimiter, rest).map_or(0, |end| end + 1));
        let mut start = 0;
        for end in memchr_iter(delimiter, lines) {
            f(framing.trim(&lines[start..end]));
            start = end + 1;
        }
        self.partial.extend_from_slice(tail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_slices_of_whole_lines_are_joined(
            lines in prop::collection::vec(prop::collection::vec(b'a'..=b'c', 0..6), 0..20),
            ends in prop::collection::vec(0_usize..100, 0..10),
        ) {
            let text: Vec<u8> = lines.iter().flat_map(|line| [&line[..], b";"].concat()).collect();
            let mut ends: Vec<usize> = ends.into_iter().map(|end| end.min(text.len())).collect();
            ends.extend([0, text.len()]);
            ends.sort_unstable();
            let framing = Framing::new(usize::MAX).with_delimiter(b';');
            let (mut joiner, mut found) = (LineJoiner::new(framing), Vec::new());
            for slice in ends.windows(2) {
                joiner.feed(&text[slice[0]..slice[1]], |line| found.push(line.to_vec()));
            }
            prop_assert_eq!((found, joiner.held()), (lines, 0));
        }
    }
}
