//! From whole lines to numbers, and to the kind on each.
//!
//! [`parse`] is the rule for one line, written to be read. [`NumberDecoder`] applies it to a region of
//! many lines in one pass and must agree with it on every byte; tests and the fuzzer hold it to that.

use std::fmt;
use std::num::NonZeroU64;

use memchr::memchr;

use super::{Decoder, Handler};

#[cfg(target_arch = "x86_64")]
mod vector;

/// Why a line is not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NumberError {
    /// No digit where one was due: only blanks, or a sign with nothing behind it.
    NoDigits,
    /// A byte that is no decimal digit, or a blank or sign in the wrong place.
    NotADigit(u8),
    /// Digits only, but below [`i64::MIN`] or above [`i64::MAX`].
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

/// Reads one line, given without its newline.
///
/// One carriage return at the end is dropped; blanks and tabs round the number are allowed, and one
/// leading `+` or `-`. `Ok(None)` is an empty line: a heartbeat.
///
/// ```
/// use tcpcore::internals::codec::number::{NumberError, parse};
/// assert_eq!(parse(b" +12\t\r"), Ok(Some(12)));
/// assert_eq!(parse(b""), Ok(None));
/// assert_eq!(parse(b"12a"), Err(NumberError::NotADigit(b'a')));
/// ```
pub fn parse(line: &[u8]) -> Result<Option<i64>, NumberError> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
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
    // Counted downwards from zero, as i64::MIN has no positive twin.
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

/// A divisor, prepared so that testing a number costs a multiplication instead of a division.
///
/// With `d = odd * 2^shift` and `inverse` the inverse of `odd` modulo 2^64, `d` divides `n` exactly
/// if `n * inverse`, rotated right by `shift`, is at most `(2^64 - 1) / d` (Hacker's Delight, 10-17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divisor {
    divisor: NonZeroU64,
    inverse: u64,
    shift: u32,
    limit: u64,
}

impl Divisor {
    /// Prepares a divisor.
    pub fn new(divisor: NonZeroU64) -> Divisor {
        let shift = divisor.trailing_zeros();
        let odd = divisor.get() >> shift;
        // Newton's iteration doubles the right bits each time; an odd number is its own inverse
        // modulo 8, so five rounds take 3 bits past 64.
        let inverse = (0..5).fold(odd, |inverse, _| {
            inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)))
        });
        Divisor { divisor, inverse, shift, limit: u64::MAX / divisor }
    }

    /// Whether the divisor divides `number`.
    #[inline]
    pub fn divides(self, number: i64) -> bool {
        let product = number.unsigned_abs().wrapping_mul(self.inverse);
        product.rotate_right(self.shift) <= self.limit
    }

    /// Inverse, shift and limit for numbers of 16 bits.
    #[cfg(target_arch = "x86_64")]
    fn short(self) -> (u16, u16, u16) {
        match u16::try_from(self.divisor.get()) {
            Ok(divisor) => {
                let [low, high, ..] = self.inverse.to_le_bytes();
                let shift = u16::try_from(self.shift).expect("a shift is less than 64");
                (u16::from_le_bytes([low, high]), shift, u16::MAX / divisor)
            }
            // Of numbers that are all smaller, a divisor divides 0 alone.
            Err(_) => (1, 0, 0),
        }
    }
}

/// Judges regions of whole lines.
#[derive(Clone, Copy, Debug)]
pub struct NumberDecoder {
    divisor: Divisor,
    max_line: usize,
    path: Path,
}

/// As many digits fit an i64 whatever they are.
const SAFE_DIGITS: usize = 18;

impl NumberDecoder {
    /// A decoder for numbers that `divisor` divides, on lines of at most `max_line` bytes. It takes the
    /// fastest path that the processor has.
    pub fn new(divisor: Divisor, max_line: usize) -> NumberDecoder {
        NumberDecoder { divisor, max_line, path: Path::detect(max_line) }
    }

    /// A decoder on the fallback path, which every processor has, to compare with.
    pub fn fallback(divisor: Divisor, max_line: usize) -> NumberDecoder {
        NumberDecoder { divisor, max_line, path: Path::Fallback }
    }

    /// Judges byte by byte: the way for any processor and any input.
    fn decode_fallback<V: Handler<NumberDecoder>>(
        &self,
        region: &[u8],
        batch: &mut Batch<'_, V>,
    ) -> u64 {
        let safe_digits = SAFE_DIGITS.min(self.max_line);
        let (mut lines, mut start, mut at, mut value) = (0, 0, 0, 0_i64);
        while let Some(&byte) = region.get(at) {
            let digit = byte.wrapping_sub(b'0');
            if digit <= 9 {
                value = value.wrapping_mul(10).wrapping_add(i64::from(digit));
                at += 1;
                continue;
            }
            if byte == b'\n' && (1..=safe_digits).contains(&(at - start)) {
                batch.take(value);
            } else {
                at = self.decode_line(region, start, batch);
            }
            lines += 1;
            at += 1;
            (start, value) = (at, 0);
        }
        lines
    }

    /// Judges the line that begins at `start`, and returns where it ends. Numbers that are negative or
    /// end in a carriage return are common enough to be worth a way of their own.
    fn decode_line<V: Handler<NumberDecoder>>(
        &self,
        region: &[u8],
        start: usize,
        batch: &mut Batch<'_, V>,
    ) -> usize {
        let is_at = |at, byte| region.get(at) == Some(&byte);
        let is_negative = is_at(start, b'-');
        let first = start + usize::from(is_negative);
        let (mut at, mut value) = (first, 0_i64);
        while let Some(digit @ 0..=9) = region.get(at).map(|byte| byte.wrapping_sub(b'0')) {
            value = value.wrapping_mul(10).wrapping_add(i64::from(digit));
            at += 1;
        }
        let end = at + usize::from(is_at(at, b'\r'));
        let is_plain = is_at(end, b'\n') && (1..=SAFE_DIGITS).contains(&(at - first));
        if is_plain && end - start <= self.max_line {
            batch.take(if is_negative { -value } else { value });
            return end;
        }
        let end = memchr(b'\n', &region[at..]).map_or(region.len(), |newline| at + newline);
        self.decode_any(&region[start..end], batch);
        end
    }

    /// Judges what lies too near an end of the region line by line, and all between by blocks.
    #[cfg(target_arch = "x86_64")]
    fn decode_by_vector<V: Handler<NumberDecoder>>(
        &self,
        vector: vector::Vector,
        region: &[u8],
        batch: &mut Batch<'_, V>,
    ) -> u64 {
        let from = vector::LOOK_BACK - 1;
        let newline = region.get(from..).and_then(|rest| memchr(b'\n', rest));
        let Some(newline) = newline.filter(|_| region.len() <= vector::MAX_REGION) else {
            return self.decode_fallback(region, batch);
        };
        let start = from + newline + 1;
        let before = self.decode_fallback(&region[..start], batch);
        let (lines, end) = vector.decode(self, region, start, batch);
        before + lines + self.decode_fallback(&region[end..], batch)
    }

    /// Judges a line, whatever it is, given without its newline.
    #[cold]
    fn decode_any<V: Handler<NumberDecoder>>(&self, line: &[u8], batch: &mut Batch<'_, V>) {
        if line.len() > self.max_line {
            batch.handler.oversized();
            return;
        }
        match parse(line) {
            Ok(Some(value)) => batch.take(value),
            Ok(None) => {}
            Err(error) => batch.handler.malformed(line, error),
        }
    }
}

impl Decoder for NumberDecoder {
    type Record = i64;
    type Error = NumberError;

    fn decode(&self, region: &[u8], handler: &mut impl Handler<Self>) -> u64 {
        debug_assert!(region.last().is_none_or(|&byte| byte == b'\n'));
        let mut batch = Batch::new(self.divisor, handler);
        let lines = match self.path {
            Path::Fallback => self.decode_fallback(region, &mut batch),
            #[cfg(target_arch = "x86_64")]
            Path::Vector(vector) => self.decode_by_vector(vector, region, &mut batch),
        };
        batch.flush();
        lines
    }

    // The shortest line with a number is a digit and a line feed. The first line feed may end a line that is
    // held.
    fn max_records(_held: usize, bytes: usize) -> usize {
        bytes.div_ceil(2)
    }

    fn max_bytes(_held: usize, room: usize) -> usize {
        room.saturating_mul(2)
    }
}

/// How a region is decoded. All paths find the same.
#[derive(Clone, Copy, Debug)]
enum Path {
    Fallback,
    #[cfg(target_arch = "x86_64")]
    Vector(vector::Vector),
}

impl Path {
    /// The fastest way on this processor.
    fn detect(max_line: usize) -> Path {
        #[cfg(target_arch = "x86_64")]
        if let Some(vector) = vector::Vector::detect()
            // So that no line of which it reads the number is over the limit.
            && max_line >= SAFE_DIGITS
        {
            return Path::Vector(vector);
        }
        _ = max_line;
        Path::Fallback
    }
}

/// Numbers on their way to the caller: the divisor picks, and batches save calls.
struct Batch<'a, V> {
    divisor: Divisor,
    handler: &'a mut V,
    numbers: [i64; BATCH],
    /// How many of `numbers` are taken.
    len: usize,
}

/// As many matched numbers are handed on at once. Not many more than a block may yield: a batch is
/// made for every region, and a region may be one short line.
const BATCH: usize = 64;

impl<'a, V: Handler<NumberDecoder>> Batch<'a, V> {
    fn new(divisor: Divisor, handler: &'a mut V) -> Batch<'a, V> {
        Batch { divisor, handler, numbers: [0; BATCH], len: 0 }
    }

    /// Room for `N` numbers, of which [`keep`](Batch::keep) then keeps the first.
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
    }

    #[inline]
    fn take(&mut self, number: i64) {
        // Written whether it stays or not: a branch that depends on the data would cost more.
        let is_match = self.divisor.divides(number);
        self.spare::<1>()[0] = number;
        self.keep(usize::from(is_match));
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
