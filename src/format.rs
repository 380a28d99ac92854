//! From numbers to lines of text.
//!
//! [`Formatter::write`] puts lines into a buffer of the caller's, by stores of fixed size: a copy of as
//! many bytes as a number has digits would be a call, and take longer than to find the digits.

/// The longest line: a sign, 19 digits and a newline.
pub const LINE_MAX: usize = "-9223372036854775808\n".len();

/// The bytes that must be there for a line to be written, of which it may use fewer.
pub const ROOM: usize = 32;

/// Writes numbers as lines: decimal digits, a `-` before a negative one, a newline.
#[derive(Debug)]
pub struct Formatter {
    /// For the numbers from 0 on, their line, and in the last byte its length.
    short: Box<[[u8; 8]]>,
}

/// The numbers of up to four digits have their lines ready.
const SHORT: u32 = 10_000;

impl Default for Formatter {
    fn default() -> Formatter {
        let line = |number: u32| {
            let mut entry = [0; 8];
            let line = format!("{number}\n");
            entry[..line.len()].copy_from_slice(line.as_bytes());
            entry[7] = u8::try_from(line.len()).expect("at most five bytes");
            entry
        };
        Formatter { short: (0..SHORT).map(line).collect() }
    }
}

impl Formatter {
    /// Writes the line of `number` to the start of `to` and returns its length, at most [`LINE_MAX`].
    /// What stands behind it, up to [`ROOM`], is overwritten.
    ///
    /// # Panics
    /// If `to` has fewer than [`ROOM`] bytes.
    #[inline]
    pub fn write(&self, number: i64, to: &mut [u8]) -> usize {
        let to: &mut [u8; ROOM] = to.first_chunk_mut().expect("the caller provides the room");
        let ready = usize::try_from(number).ok().and_then(|number| self.short.get(number));
        if let Some(line) = ready {
            to[..8].copy_from_slice(line);
            return usize::from(line[7]);
        }
        to[0] = b'-';
        let mut len = usize::from(number < 0);
        let number = number.unsigned_abs();
        let (front, low) = (number / EIGHT_DIGITS, number % EIGHT_DIGITS);
        let (high, middle) = (front / EIGHT_DIGITS, front % EIGHT_DIGITS);
        let mut is_leading = true;
        for part in [high, middle, low] {
            let text = eight_digits(part);
            // The first digit has the lowest bits.
            let zeros = if is_leading { (text ^ ZEROS).trailing_zeros() / 8 } else { 0 };
            if zeros < 8 {
                to[len..len + 8].copy_from_slice(&(text >> (8 * zeros)).to_le_bytes());
                len += 8 - zeros as usize;
                is_leading = false;
            }
        }
        to[len] = b'\n';
        len + 1
    }
}

/// Eight digits make numbers below this.
const EIGHT_DIGITS: u64 = 100_000_000;

/// Eight digits 0.
const ZEROS: u64 = u64::from_le_bytes(*b"00000000");

/// The eight digits of a number below 10^8 as text, the first one in the lowest bits.
#[inline]
fn eight_digits(number: u64) -> u64 {
    debug_assert!(number < EIGHT_DIGITS);
    // Two numbers of four digits side by side, then four of two, then eight of one. The factors
    // divide by 100 and by 10, and are exact for numbers below 10^4 and 100.
    let fours = (number / 10_000) | (number % 10_000) << 32;
    let hundreds = ((fours * 5243) >> 19) & 0x0000_007f_0000_007f;
    let pairs = hundreds | (fours - 100 * hundreds) << 16;
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    let ones = tens | (pairs - 10 * tens) << 8;
    ones + ZEROS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(number: i64) -> String {
        let mut to = [b'x'; ROOM];
        let len = Formatter::default().write(number, &mut to);
        assert!(len <= LINE_MAX);
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
    fn all_pairs_and_all_fours_of_digits() {
        for four in 0..10_000 {
            let expected = format!("{four:04}{:04}", 9999 - four);
            let number = four * 10_000 + 9999 - four;
            assert_eq!(eight_digits(number).to_le_bytes(), *expected.as_bytes());
        }
    }

    #[test]
    #[should_panic = "the room"]
    fn less_room_than_asked_for_is_a_bug() {
        Formatter::default().write(1, &mut [0; ROOM - 1]);
    }

    proptest! {
        #[test]
        fn any_number_is_written_as_std_does(number: i64, shift in 0_u32..64) {
            prop_assert_eq!(line(number >> shift), format!("{}\n", number >> shift));
        }
    }
}
