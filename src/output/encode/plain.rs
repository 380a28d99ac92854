//! Encodes numbers as lines of text.
//!
//! [`Plain::write`] looks up four digits at a time and stores them with a fixed size. A copy of variable size
//! would be a call, and would take longer than the lookup of the digits.

use std::fmt;

use super::{ENCODE_SLACK, Encoder};
use crate::codec::Framing;

/// The longest line of a number in bytes: a sign, 19 digits and a line feed.
pub const NUMBER_MAX_LEN: usize = "-9223372036854775808\n".len();

// A store of eight bytes fits at each position of a line.
const _: () = assert!(NUMBER_MAX_LEN + size_of::<u64>() <= ENCODE_SLACK);

/// Encodes numbers as lines: a `-` if negative, decimal digits, and a line feed.
#[derive(Debug)]
pub struct Plain {
    /// The lines of all numbers below 10^4. The last byte of each is the length of its line.
    lines: Box<[[u8; 8]; FOURS]>,
    /// All numbers below 10^4 as four digits, with leading zeros.
    fours: Box<[[u8; 4]; FOURS]>,
}

/// The number of values of four digits.
const FOUR_DIGITS: u64 = 10_000;

/// The number of entries of a table of these.
const FOURS: usize = 10_000;

/// The number of values of eight digits.
const EIGHT_DIGITS: u64 = FOUR_DIGITS * FOUR_DIGITS;

impl Default for Plain {
    fn default() -> Plain {
        let digits = || b'0'..=b'9';
        let pairs = || digits().flat_map(move |a| digits().map(move |b| (a, b)));
        let fours = || pairs().flat_map(move |(a, b)| pairs().map(move |(c, d)| [a, b, c, d]));
        let line = |[a, b, c, d]: [u8; 4]| match [a, b, c] {
            [b'0', b'0', b'0'] => [d, b'\n', 0, 0, 0, 0, 0, 2],
            [b'0', b'0', _] => [c, d, b'\n', 0, 0, 0, 0, 3],
            [b'0', _, _] => [b, c, d, b'\n', 0, 0, 0, 4],
            _ => [a, b, c, d, b'\n', 0, 0, 5],
        };
        Plain { lines: table(fours().map(line)), fours: table(fours()) }
    }
}

impl Encoder<i64> for Plain {
    fn max_len(&self, numbers: &[i64]) -> usize {
        numbers.len() * NUMBER_MAX_LEN
    }

    fn encode(&mut self, numbers: &[i64], to: &mut [u8]) -> usize {
        let mut len = 0;
        for &number in numbers {
            len += self.write(number, &mut to[len..]);
        }
        len
    }
}

impl Plain {
    /// Writes the line of `number` to the start of `to` and returns its length, at most [`NUMBER_MAX_LEN`].
    ///
    /// It may overwrite all of the first [`ENCODE_SLACK`] bytes of `to`.
    ///
    /// # Panics
    ///
    /// Panics if `to` has fewer than [`ENCODE_SLACK`] bytes.
    // Several encoders use it. As a call, it would take twice the instructions for a short number.
    #[inline(always)]
    pub fn write(&self, number: i64, to: &mut [u8]) -> usize {
        let to: &mut [u8; ENCODE_SLACK] =
            to.first_chunk_mut().expect("the caller provides the space");
        to[0] = b'-';
        let mut len = usize::from(number < 0);
        let number = number.unsigned_abs();
        if number < FOUR_DIGITS {
            return len + self.write_line(number, &mut to[len..]);
        }
        // The first one to eight digits, and then groups of eight digits with all their zeros.
        let (front, low) = (number / EIGHT_DIGITS, number % EIGHT_DIGITS);
        if front == 0 {
            len += self.write_first(low, &mut to[len..]);
        } else {
            let (high, middle) = (front / EIGHT_DIGITS, front % EIGHT_DIGITS);
            if high == 0 {
                len += self.write_first(middle, &mut to[len..]);
            } else {
                len += self.write_first(high, &mut to[len..]);
                len += self.write_eight(middle, &mut to[len..]);
            }
            len += self.write_eight(low, &mut to[len..]);
        }
        to[len] = b'\n';
        len + 1
    }

    /// Writes a number below 10^8 without leading zeros, and returns the number of its digits.
    #[inline]
    fn write_first(&self, number: u64, to: &mut [u8]) -> usize {
        let to: &mut [u8; 8] = to.first_chunk_mut().expect("space for eight bytes");
        let (first, last) = (number / FOUR_DIGITS, number % FOUR_DIGITS);
        if first == 0 {
            return self.write_line(last, to) - 1;
        }
        // The next digits overwrite the line feed.
        let len = self.write_line(first, to) - 1;
        to[len..][..4].copy_from_slice(self.four(last));
        len + 4
    }

    /// Writes the line of a number below 10^4 and returns its length.
    #[inline]
    fn write_line(&self, number: u64, to: &mut [u8]) -> usize {
        let line = &self.lines[index(number)];
        to[..8].copy_from_slice(line);
        usize::from(line[7])
    }

    /// Writes a number below 10^8 as eight digits and returns 8.
    #[inline]
    fn write_eight(&self, number: u64, to: &mut [u8]) -> usize {
        let to: &mut [u8; 8] = to.first_chunk_mut().expect("space for eight bytes");
        to[..4].copy_from_slice(self.four(number / FOUR_DIGITS));
        to[4..].copy_from_slice(self.four(number % FOUR_DIGITS));
        to.len()
    }

    #[inline]
    fn four(&self, number: u64) -> &[u8; 4] {
        &self.fours[index(number)]
    }
}

/// Encodes lines byte for byte, with their delimiters.
#[derive(Debug)]
pub struct PlainLines {
    framing: Framing,
    is_within_line: bool,
}

impl PlainLines {
    /// Makes an encoder. `framing` is that of the decoder.
    pub fn new(framing: Framing) -> PlainLines {
        PlainLines { framing, is_within_line: false }
    }
}

impl Encoder<u8> for PlainLines {
    fn max_len(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }

    fn encode(&mut self, bytes: &[u8], to: &mut [u8]) -> usize {
        to[..bytes.len()].copy_from_slice(bytes);
        if let Some(last) = bytes.last() {
            self.is_within_line = *last != self.framing.delimiter();
        }
        bytes.len()
    }

    fn count(&self, bytes: &[u8]) -> u64 {
        self.framing.count(bytes)
    }

    fn is_within_line(&self) -> bool {
        self.is_within_line
    }

    fn terminator(&self) -> u8 {
        self.framing.delimiter()
    }
}

/// Makes a table of all numbers below 10^4. Its size is a part of the type, so that no lookup checks it.
fn table<T: fmt::Debug>(entries: impl Iterator<Item = T>) -> Box<[T; FOURS]> {
    let entries: Box<[T]> = entries.collect();
    entries.try_into().expect("there is an entry for each number")
}

#[inline]
fn index(number: u64) -> usize {
    usize::try_from(number).expect("a number of four digits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    fn line(number: i64) -> String {
        static FORMATTER: LazyLock<Plain> = LazyLock::new(Plain::default);
        let mut to = [b'x'; ENCODE_SLACK];
        let len = FORMATTER.write(number, &mut to);
        assert!(len <= NUMBER_MAX_LEN);
        String::from_utf8(to[..len].to_vec()).unwrap()
    }

    #[test]
    fn every_number_of_digits_and_each_side_of_its_bounds() {
        let bounds = (0..19).map(|digits| 10_i64.pow(digits));
        for bound in bounds.chain([i64::MAX - 1]) {
            for number in
                [bound - 1, bound, bound + 1, -bound - 1, -bound, 1 - bound, 9 * (bound / 10)]
            {
                assert_eq!(line(number), format!("{number}\n"));
            }
        }
        assert_eq!(line(i64::MIN), "-9223372036854775808\n");
    }

    #[test]
    fn every_four_digits_in_every_place() {
        for four in 0..10_000 {
            for unit in [1, 10_000, 100_000_000, 1_000_000_000_000] {
                for number in [four * unit, 1_000_000_000_000_000_000 + four * unit] {
                    assert_eq!(line(number), format!("{number}\n"));
                }
            }
        }
        for high in 1..=922 {
            let number = high * 10_000_000_000_000_000;
            assert_eq!(line(number), format!("{number}\n"));
        }
    }

    #[test]
    #[should_panic = "the space"]
    fn less_space_than_required_panics() {
        Plain::default().write(1, &mut [0; ENCODE_SLACK - 1]);
    }

    proptest! {
        #[test]
        fn any_number_is_written_as_std_does(number: i64, shift in 0_u32..64) {
            prop_assert_eq!(line(number >> shift), format!("{}\n", number >> shift));
        }
    }
}
