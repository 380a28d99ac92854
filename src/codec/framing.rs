//! Defines where a line ends and how long it may be.

use memchr::memchr_iter;

/// The rule by which a stream becomes lines: the byte that ends a line, and the longest line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    delimiter: u8,
    max_line: usize,
}

impl Framing {
    /// The default delimiter: a line feed.
    pub const DEFAULT_DELIMITER: u8 = b'\n';

    /// Makes the rule for lines that end with a line feed and have at most `max_line` bytes without it.
    pub const fn new(max_line: usize) -> Framing {
        Framing { delimiter: Framing::DEFAULT_DELIMITER, max_line }
    }

    /// Returns the same rule with another byte that ends a line.
    #[must_use]
    pub const fn with_delimiter(self, delimiter: u8) -> Framing {
        Framing { delimiter, ..self }
    }

    /// Returns the byte that ends a line.
    #[inline]
    pub const fn delimiter(self) -> u8 {
        self.delimiter
    }

    /// Returns the most bytes of a line, without its delimiter. A longer line is oversized.
    #[inline]
    pub const fn max_line(self) -> usize {
        self.max_line
    }

    /// Returns whether a carriage return in front of the delimiter belongs to it: only if that is a line feed.
    #[inline]
    pub(crate) const fn trims_return(self) -> bool {
        self.delimiter == b'\n'
    }

    /// Returns the number of lines that end in these bytes.
    pub fn count(self, bytes: &[u8]) -> u64 {
        memchr_iter(self.delimiter, bytes).count() as u64
    }

    /// Removes the carriage return that belongs to the delimiter. `line` is given without its delimiter.
    ///
    /// One carriage return in front of a line feed is removed. With another delimiter, a carriage return is a byte
    /// like any other.
    #[inline]
    pub fn trim(self, line: &[u8]) -> &[u8] {
        match line {
            [line @ .., b'\r'] if self.trims_return() => line,
            line => line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_carriage_return_is_trimmed_and_only_in_front_of_a_line_feed() {
        let line_feed = Framing::new(9);
        assert_eq!((line_feed.delimiter(), line_feed.max_line()), (b'\n', 9));
        for (line, trimmed) in
            [("6\r", "6"), ("6\r\r", "6\r"), ("\r6", "\r6"), ("\r", ""), ("", "")]
        {
            assert_eq!(line_feed.trim(line.as_bytes()), trimmed.as_bytes());
            for delimiter in [b'\r', 0, b';', 0xff] {
                let framing = line_feed.with_delimiter(delimiter);
                assert_eq!((framing.delimiter(), framing.max_line()), (delimiter, 9));
                assert_eq!(framing.trim(line.as_bytes()), line.as_bytes());
            }
        }
    }
}
