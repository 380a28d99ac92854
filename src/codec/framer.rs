//! Joins chunks of a connection, split at any byte, to regions of whole lines.
//!
//! [`Framer`] holds the unfinished line of one connection. It is pure: bytes come in and go out as slices. So
//! a socket, a fuzzer and a simulator can all drive it.
//!
//! It does not split lines one by one. It passes on all whole lines of a chunk as one *region*, a slice that
//! ends with a delimiter. So the decoder can decode many lines in one step.
//!
//! A byte order mark of UTF-8 at the start of a connection is dropped.

use memchr::{memchr, memrchr};

use super::Framing;

/// The byte order mark of UTF-8. Some programs write it at the start of a text.
const BYTE_ORDER_MARK: [u8; 3] = *b"\xef\xbb\xbf";

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
    /// The unfinished line without a delimiter. At the start of a connection, it may be a part of a byte order mark.
    ///
    /// Invariant: at most `max_line` bytes, or a part of a mark; empty while skipping.
    tail: Vec<u8>,
    /// Whether the connection has sent more than a part of a byte order mark.
    has_begun: bool,
    /// The bytes so far of a line over the limit, which is skipped up to its delimiter; 0 if it is not skipped.
    skipped: usize,
}

impl Framer {
    /// Takes the next bytes of the connection, and passes the lines that they complete to `found`.
    ///
    /// `framing` is the same for all bytes of a connection. Its longest line bounds the bytes that are held between
    /// two calls. A longer line that is whole within a chunk is passed on in a region, and the decoder rejects it.
    pub fn feed(&mut self, chunk: &[u8], framing: Framing, mut found: impl FnMut(Framed<'_>)) {
        let chunk = if self.has_begun { chunk } else { self.drop_mark(chunk, framing) };
        if chunk.is_empty() {
            return;
        }
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
        debug_assert!(self.skipped == 0 || self.tail.is_empty());
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

    /// Returns the number of bytes since the last delimiter, or since the start of the connection.
    pub fn undelimited(&self) -> usize {
        // One of them is 0.
        self.skipped + self.tail.len()
    }

    /// Drops a byte order mark at the start of the connection, and returns the bytes that follow it.
    ///
    /// A part of a mark is held as an unfinished line until the next bytes show whether it is one. If a byte of the
    /// mark is the delimiter, the stream is not UTF-8, and there is no mark.
    fn drop_mark<'a>(&mut self, chunk: &'a [u8], framing: Framing) -> &'a [u8] {
        self.has_begun = true;
        if BYTE_ORDER_MARK.contains(&framing.delimiter()) {
            return chunk;
        }
        let missing = &BYTE_ORDER_MARK[self.tail.len()..];
        if let Some(rest) = chunk.strip_prefix(missing) {
            self.tail = Vec::new();
            return rest;
        }
        if missing.starts_with(chunk) {
            self.has_begun = false;
            self.tail.extend_from_slice(chunk);
            return &[];
        }
        chunk
    }

    /// Completes the line that an earlier chunk began, and returns the bytes that follow it. Returns `None` if
    /// `chunk` does not complete the line.
    fn finish_line<'a>(
        &mut self,
        chunk: &'a [u8],
        framing: Framing,
        found: &mut impl FnMut(Framed<'_>),
    ) -> Option<&'a [u8]> {
        if self.undelimited() == 0 {
            return Some(chunk);
        }
        let Some(len) = memchr(framing.delimiter(), chunk) else {
            if self.skipped > 0 {
                self.skipped = self.skipped.saturating_add(chunk.len());
            } else {
                self.keep(chunk, framing, found);
            }
            return None;
        };
        let (end, rest) = chunk.split_at(len + 1);
        if self.skipped > 0 {
            self.skipped = 0;
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
            self.skipped = self.tail.len() + bytes.len();
            self.tail = Vec::new();
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
mod tests;
