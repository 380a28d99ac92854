//! Decodes regions of whole lines into the multiples of a divisor.
//!
//! [`parse`] defines the rule for one line. [`NumberDecoder`] applies it to a region of many lines in one pass.
//! Tests and the fuzzer check that both agree on all bytes.

use std::fmt;
use std::num::NonZeroU64;

use memchr::memchr;

use super::{Decoder, Framing, Handler};

mod path;
mod portable;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", test, fuzzing))]
mod vector;

use path::Path;
pub use path::{DecoderPath, PathError};

/// The reason why a line is malformed: it is not a whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NumberError {
    /// No digits: only blanks, or a sign alone.
    NoDigits,
    /// This byte, which is not a decimal digit, or a blank or sign in the wrong place.
    NotADigit(u8),
    /// Only digits, but below [`i64::MIN`] or above [`i64::MAX`].
    OutOfRange,
}

impl fmt::Display for NumberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NumberError::NoDigits => write!(f, "no digits, expected a whole number"),
            NumberError::NotADigit(byte) => {
                write!(f, "unexpected '{}', expected a whole number", byte.escape_ascii())
            }
            NumberError::OutOfRange => {
                write!(f, "out of range, expected a whole number from {} to {}", i64::MIN, i64::MAX)
            }
        }
    }
}

impl std::error::Error for NumberError {}

/// Parses one line, [trimmed](Framing::trim) and without its delimiter. `Ok(None)` is an empty line: a heartbeat.
///
/// Blanks and tabs around the number are allowed, and so is one leading `+` or `-`.
///
/// # Errors
///
/// Fails if the line is neither empty nor a whole number in the range of an `i64`.
///
/// ```
/// use tcpcore::internals::codec::number::{NumberError, parse};
/// assert_eq!(parse(b" +12\t"), Ok(Some(12)));
/// assert_eq!(parse(b""), Ok(None));
/// assert_eq!(parse(b"12a"), Err(NumberError::NotADigit(b'a')));
/// ```
pub fn parse(line: &[u8]) -> Result<Option<i64>, NumberError> {
    if line.is_empty() {
        return Ok(None);
    }
    let text = trim_blanks(line);
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return Err(NumberError::NoDigits);
    }
    if let Some(&byte) = digits.iter().find(|byte| !byte.is_ascii_digit()) {
        return Err(NumberError::NotADigit(byte));
    }
    // The value is negative at first, because i64::MIN has no positive counterpart.
    digits
        .iter()
        .try_fold(0_i64, |value, byte| value.checked_mul(10)?.checked_sub(i64::from(byte - b'0')))
        .and_then(|value| if negative { Some(value) } else { value.checked_neg() })
        .map(Some)
        .ok_or(NumberError::OutOfRange)
}

fn trim_blanks(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// A divisor whose multiples are found with a multiplication instead of a division.
///
/// Let `d = odd * 2^shift`, and let `inverse` be the inverse of `odd` modulo 2^64. Then `n` is a multiple of
/// `d` exactly if `n * inverse`, rotated right by `shift`, is at most `(2^64 - 1) / d`. The rule comes from
/// Hacker's Delight, section 10-17.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divisor {
    divisor: NonZeroU64,
    inverse: u64,
    shift: u32,
    limit: u64,
}

impl Divisor {
    /// Computes the constants of a divisor.
    pub fn new(divisor: NonZeroU64) -> Divisor {
        let shift = divisor.trailing_zeros();
        let odd = divisor.get() >> shift;
        // Newton's iteration doubles the number of correct bits. An odd number is its own inverse modulo 8, so
        // five rounds extend 3 correct bits beyond 64.
        let inverse = (0..5).fold(odd, |inverse, _| {
            inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)))
        });
        Divisor { divisor, inverse, shift, limit: u64::MAX / divisor }
    }

    /// Returns whether `number` is a multiple of the divisor.
    #[inline]
    pub fn divides(self, number: i64) -> bool {
        self.divides_unsigned(number.unsigned_abs())
    }

    #[inline]
    fn divides_unsigned(self, number: u64) -> bool {
        let product = number.wrapping_mul(self.inverse);
        product.rotate_right(self.shift) <= self.limit
    }

    /// Returns the inverse, the shift and the limit for numbers of 16 bits.
    fn short(self) -> (u16, u16, u16) {
        match u16::try_from(self.divisor.get()) {
            Ok(divisor) => {
                let [low, high, ..] = self.inverse.to_le_bytes();
                let shift = u16::try_from(self.shift).expect("a shift is less than 64");
                (u16::from_le_bytes([low, high]), shift, u16::MAX / divisor)
            }
            // All numbers of 16 bits are smaller than the divisor, so only 0 is a multiple.
            Err(_) => (1, 0, 0),
        }
    }
}

/// Decodes lines into whole numbers, and passes on the multiples of a divisor.
///
/// An empty line is a heartbeat, and a line without a number is malformed: see [`NumberError`]. On x86-64 with
/// AVX2, or with AVX-512 and VBMI2, it decodes blocks of 64 bytes with vectors.
#[derive(Clone, Copy, Debug)]
pub struct NumberDecoder {
    divisor: Divisor,
    framing: Framing,
    path: Path,
}

/// The most digits that always fit an `i64`: 18.
const SAFE_DIGITS: usize = 18;

impl NumberDecoder {
    /// Makes a decoder for the multiples of `divisor` in the lines of `framing`. Longer lines are oversized.
    ///
    /// It uses the fastest path that the processor has.
    ///
    /// # Panics
    ///
    /// Panics if a number may contain the delimiter: see [`is_delimiter`](Self::is_delimiter).
    pub fn new(divisor: Divisor, framing: Framing) -> NumberDecoder {
        NumberDecoder::made(divisor, framing, Path::fastest())
    }

    /// Makes a decoder on one path of the machine, for tests and benchmarks.
    ///
    /// # Errors
    ///
    /// Fails if the machine does not have the path.
    ///
    /// # Panics
    ///
    /// Panics where [`new`](Self::new) does.
    #[doc(hidden)]
    pub fn on_path(
        divisor: Divisor,
        framing: Framing,
        path: DecoderPath,
    ) -> Result<NumberDecoder, PathError> {
        let found = Path::detect(path).ok_or(PathError(path))?;
        Ok(NumberDecoder::made(divisor, framing, found))
    }

    /// Makes a decoder on each path of the machine. Byte by byte comes first. Unit tests and fuzzing have one on each
    /// emulated path, too.
    #[doc(hidden)]
    pub fn on_all_paths(divisor: Divisor, framing: Framing) -> impl Iterator<Item = NumberDecoder> {
        Path::all().map(move |path| NumberDecoder::made(divisor, framing, path))
    }

    /// Returns the path on which it decodes.
    #[doc(hidden)]
    pub fn path(&self) -> DecoderPath {
        self.path.name()
    }

    /// Returns whether this byte can end numbers: any byte except for a digit, `+` and `-`.
    pub const fn is_delimiter(byte: u8) -> bool {
        !matches!(byte, b'0'..=b'9' | b'+' | b'-')
    }

    fn made(divisor: Divisor, framing: Framing, path: Path) -> NumberDecoder {
        let delimiter = framing.delimiter();
        assert!(
            NumberDecoder::is_delimiter(delimiter),
            "numbers may contain the delimiter '{}'",
            delimiter.escape_ascii()
        );
        // With a lower limit, a line that is decoded in blocks or words may be oversized.
        let path = if framing.max_line() < SAFE_DIGITS + 2 { Path::ByteByByte } else { path };
        NumberDecoder { divisor, framing, path }
    }

    /// Decodes byte by byte, for any lines.
    ///
    /// Numbers that are negative or end with a carriage return are common, so they have no path of their own.
    fn decode_bytes<V: Handler<NumberDecoder>>(
        &self,
        region: &[u8],
        batch: &mut Batch<'_, V>,
    ) -> u64 {
        let delimiter = self.framing.delimiter();
        // With a sign and a carriage return, a line of that many digits is within the limit.
        let safe_digits = SAFE_DIGITS.min(self.framing.max_line().saturating_sub(2));
        let trims_return = self.framing.trims_return();
        // The start of the line, and its first digit.
        let (mut lines, mut start, mut first, mut at) = (0, 0, 0, 0);
        let (mut value, mut sign) = (0_u64, 0_i64);
        // In a register, unlike the length of the batch.
        let mut kept = batch.len;
        while let Some(&byte) = region.get(at) {
            let digit = byte.wrapping_sub(b'0');
            if digit <= 9 {
                value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
                at += 1;
                continue;
            }
            let is_safe = (at - first).wrapping_sub(1) < safe_digits;
            if byte == delimiter && is_safe {
                kept = batch.put(kept, value, sign);
            } else if byte == b'-' && at == start {
                at += 1;
                (first, sign) = (at, -1);
                continue;
            } else if byte == b'\r'
                && trims_return
                && is_safe
                && region.get(at + 1) == Some(&delimiter)
            {
                kept = batch.put(kept, value, sign);
                at += 1;
            } else {
                batch.len = kept;
                at = start + self.decode_any(&region[start..], batch);
                kept = batch.len;
            }
            lines += 1;
            at += 1;
            (start, first) = (at, at);
            (value, sign) = (0, 0);
        }
        batch.len = kept;
        lines
    }

    /// Decodes any line, the first of these bytes. Returns its length without the delimiter.
    #[cold]
    fn decode_any<V: Handler<NumberDecoder>>(
        &self,
        rest: &[u8],
        batch: &mut Batch<'_, V>,
    ) -> usize {
        let len = memchr(self.framing.delimiter(), rest).unwrap_or(rest.len());
        let line = &rest[..len];
        if len > self.framing.max_line() {
            batch.handler.oversized();
            return len;
        }
        match parse(self.framing.trim(line)) {
            Ok(Some(value)) => batch.take(value),
            Ok(None) => {}
            Err(error) => batch.handler.malformed(line, error),
        }
        len
    }
}

impl Decoder for NumberDecoder {
    type Record = i64;
    type Error = NumberError;

    fn decode(&self, region: &[u8], handler: &mut impl Handler<Self>) -> u64 {
        debug_assert!(region.last().is_none_or(|&byte| byte == self.framing.delimiter()));
        let mut batch = Batch::new(self.divisor, handler);
        let lines = self.path.decode(self, region, &mut batch);
        batch.flush();
        lines
    }

    fn path_name(&self) -> Option<DecoderPath> {
        Some(self.path())
    }

    // The shortest line with a number is a digit and a delimiter. The first delimiter may also end the line that
    // is held.
    fn max_records(_held: usize, bytes: usize) -> usize {
        bytes.div_ceil(2)
    }

    fn max_bytes(_held: usize, room: usize) -> usize {
        room.saturating_mul(2)
    }
}

/// Collects the multiples of the divisor, and passes them to the handler in batches to save calls.
struct Batch<'a, V> {
    divisor: Divisor,
    handler: &'a mut V,
    numbers: [i64; BATCH],
    /// The first `len` of `numbers` are multiples. Invariant: less than `BATCH` between two calls.
    len: usize,
}

/// The most numbers in a batch: 64, twice as many as a block may yield.
///
/// It is small because each region initializes a batch, and a region may be one short line.
const BATCH: usize = 64;

impl<'a, V: Handler<NumberDecoder>> Batch<'a, V> {
    fn new(divisor: Divisor, handler: &'a mut V) -> Batch<'a, V> {
        Batch { divisor, handler, numbers: [0; BATCH], len: 0 }
    }

    /// Returns space for `N` numbers, of which [`keep`](Batch::keep) then keeps the first ones.
    #[inline]
    fn spare<const N: usize>(&mut self) -> &mut [i64; N] {
        if self.len + N > BATCH {
            self.flush();
        }
        self.numbers[self.len..].first_chunk_mut().expect("N is at most BATCH")
    }

    #[inline]
    fn keep(&mut self, count: usize) {
        self.len += count;
        if self.len == BATCH {
            self.flush();
        }
    }

    #[inline]
    fn take(&mut self, number: i64) {
        self.len = self.put(self.len, number.unsigned_abs(), number >> (i64::BITS - 1));
    }

    /// Puts a number, given by its absolute value and -1 if it is negative, else 0, behind the first `kept`. Returns
    /// how many are then kept. `len` must be set to that in the end.
    #[inline]
    fn put(&mut self, kept: usize, value: u64, sign: i64) -> usize {
        // The number is stored even if it is no multiple. A branch that depends on the data would cost more.
        self.numbers[kept % BATCH] = (value.cast_signed() ^ sign).wrapping_sub(sign);
        let kept = kept + usize::from(self.divisor.divides_unsigned(value));
        if kept < BATCH {
            return kept;
        }
        self.len = kept;
        self.flush();
        0
    }

    fn flush(&mut self) {
        if self.len > 0 {
            self.handler.records(&self.numbers[..self.len]);
            self.len = 0;
        }
    }
}

#[cfg(test)]
mod tests;
