//! Decodes in plain Rust, for any processor: the fallback.
//!
//! Many short lines are decoded at once, with loops over the bytes of a block that compilers turn into vectors. Other
//! lines are decoded one by one, in words of eight bytes.
//!
//! A mask has one bit for each byte of a block. The bit of the first byte is the lowest.

use std::array;

use super::{Batch, Divisor, Handler, NumberDecoder, SAFE_DIGITS};

/// Whether the compiler has vectors for any processor of the target. Without them, byte by byte is faster.
pub(super) const HAS_VECTORS: bool = cfg!(any(target_feature = "sse2", target_feature = "neon"));

/// The bytes of a block. It begins with a line.
const BLOCK: usize = 64;

/// The most digits of a short line, and so the bytes in front of the block that are looked at, whatever they are.
const SHORT: usize = 4;

/// A block, and the `SHORT` bytes in front of it.
type Window = [u8; SHORT + BLOCK];

/// The most lines with a digit that end in a block.
const LINES: usize = BLOCK / 2;

/// The fewest lines of a block that are decoded at once. Fewer ones cost less one by one.
const FEWEST: u32 = 8;

/// The bytes behind a block of other lines that are decoded one by one, since the next blocks are often like it.
const STRETCH: usize = 8 * BLOCK;

/// The bytes of a word.
const WORD: usize = 8;

/// The bytes of a line that are looked at: a minus sign, three words of digits, a carriage return and the delimiter.
const REACH: usize = 1 + 3 * WORD + 2;

impl NumberDecoder {
    /// Decodes any lines.
    pub(super) fn decode_portably<V: Handler<NumberDecoder>>(
        &self,
        region: &[u8],
        batch: &mut Batch<'_, V>,
    ) -> u64 {
        let short = ShortDivisor::new(self.divisor);
        let (mut lines, mut start) = self.decode_stretch(region, SHORT, batch);
        let window = |start: usize| region.get(start.checked_sub(SHORT)?..)?.first_chunk();
        while let Some(window) = window(start) {
            let (count, len) = self
                .decode_short(short, window, batch)
                .unwrap_or_else(|| self.decode_stretch(&region[start..], STRETCH, batch));
            lines += count;
            start += len;
        }
        let (count, len) = self.decode_stretch(&region[start..], BLOCK, batch);
        lines + count + self.decode_bytes(&region[start + len..], batch)
    }

    /// Decodes the lines of a block, if all of them have at most `SHORT` digits, a minus sign in front and a carriage
    /// return behind. Returns their number, and that of their bytes.
    #[inline]
    fn decode_short<V: Handler<NumberDecoder>>(
        &self,
        divisor: ShortDivisor,
        window: &Window,
        batch: &mut Batch<'_, V>,
    ) -> Option<(u64, usize)> {
        let delimiter = self.framing.delimiter();
        let block: &[u8; BLOCK] = window.last_chunk().expect("a window is longer");
        let delimiters = mask(array::from_fn(|index| block[index] == delimiter));
        let count = delimiters.count_ones();
        if count < FEWEST {
            return None;
        }
        let is_other = block.map(|byte| !is_digit(digit(byte)) & (byte != delimiter));
        // Most blocks have none, and it costs less to find that out than to make a mask.
        let has_others = is_other.iter().fold(false, |has_others, is_other| has_others | is_other);
        let others = if has_others { mask(is_other) } else { 0 };
        let nondigits = delimiters | others;
        let (mut ends, mut negatives) = (delimiters, 0);
        if others != 0 {
            // Most streams have only one of the two, so the other is not looked for.
            let find = |byte, places: u64| match others & places {
                0 => 0,
                places => mask(array::from_fn(|index| block[index] == byte)) & places,
            };
            let minuses = find(b'-', delimiters << 1 | 1);
            let trims_return = self.framing.trims_return();
            let returns = if trims_return { find(b'\r', delimiters >> 1) } else { 0 };
            let bad = others & !(minuses | returns) | nondigits & minuses << 1;
            // The bytes behind the last delimiter belong to the next block.
            if bad << delimiters.leading_zeros() != 0 {
                return None;
            }
            ends |= returns;
            // The carry of this sum runs from a minus sign through the digits to the byte behind them.
            negatives = (!nondigits).wrapping_add(minuses << 1) & nondigits;
        }
        let pairs = nondigits | nondigits << 1;
        let fives = pairs | pairs << 2 | nondigits << SHORT;
        // The byte in front of the block is no digit.
        let is_short = fives << 1 | ((1 << (SHORT + 1)) - 1);
        if ends & !is_short != 0 {
            return None;
        }
        // An empty line is a heartbeat, and a delimiter behind a carriage return is no end of its own.
        let ends = ends & !(nondigits << 1 | 1);
        let values = short_values(window);
        let mut hits = ends & mask(values.map(|value| divisor.divides(value)));
        let hit_count = hits.count_ones() as usize;
        for number in &mut batch.spare::<LINES>()[..hit_count] {
            let end = hits.trailing_zeros();
            let value = i64::from(values[end as usize % BLOCK]);
            *number = if negatives >> end & 1 != 0 { -value } else { value };
            hits &= hits - 1;
        }
        batch.keep(hit_count);
        Some((u64::from(count), BLOCK - delimiters.leading_zeros() as usize))
    }

    /// Decodes the lines that begin in the first `len` bytes one by one, but for those close to the end of the region.
    /// Returns their number, and that of their bytes.
    #[inline]
    fn decode_stretch<V: Handler<NumberDecoder>>(
        &self,
        region: &[u8],
        len: usize,
        batch: &mut Batch<'_, V>,
    ) -> (u64, usize) {
        let delimiter = self.framing.delimiter();
        let trims_return = self.framing.trims_return();
        let (mut lines, mut start) = (0, 0);
        // In a register, unlike the length of the batch.
        let mut kept = batch.len;
        while start < len
            && let Some(line) = region[start..].first_chunk::<REACH>()
        {
            // The sign and the carriage return are branches. The processor predicts them and begins the next line.
            let mut first = 0;
            let (value, digits) = loop {
                let found = leading_digits(line[first..].first_chunk().expect("in reach"));
                if found.1 > 0 || first > 0 || line[0] != b'-' {
                    break found;
                }
                first = 1;
            };
            let end = first + digits;
            let is_number = digits.wrapping_sub(1) < SAFE_DIGITS;
            let sign = -i64::from(first > 0);
            if is_number && line[end] == delimiter {
                kept = batch.put(kept, value, sign);
                start += end + 1;
            } else if is_number && trims_return && line[end..].starts_with(&[b'\r', delimiter]) {
                kept = batch.put(kept, value, sign);
                start += end + 2;
            } else {
                batch.len = kept;
                let len = self.decode_any(&region[start..], batch);
                kept = batch.len;
                start = region.len().min(start + len + 1);
            }
            lines += 1;
        }
        batch.len = kept;
        (lines, start)
    }
}

/// A [`Divisor`] for numbers of 16 bits.
///
/// A number is a multiple if it has enough factors of two, and is a multiple of the odd part.
#[derive(Clone, Copy)]
struct ShortDivisor {
    /// The bits of a number that are zero if it has enough factors of two.
    low: u16,
    inverse: u16,
    limit: u16,
}

impl ShortDivisor {
    fn new(divisor: Divisor) -> ShortDivisor {
        let (inverse, shift, limit) = divisor.short();
        // The inverse of the odd part takes a multiple to its quotient by that part, which has the factors of two.
        ShortDivisor { low: (1 << shift) - 1, inverse, limit: limit << shift }
    }

    #[inline(always)]
    fn divides(self, number: u16) -> bool {
        // A difference, as vectors have no comparison of numbers without a sign.
        number.wrapping_mul(self.inverse).saturating_sub(self.limit) | number & self.low == 0
    }
}

#[inline(always)]
fn digit(byte: u8) -> u8 {
    byte.wrapping_sub(b'0')
}

#[inline(always)]
fn is_digit(digit: u8) -> bool {
    digit <= 9
}

/// Returns the mask of the bytes that are marked.
#[inline(always)]
fn mask(marks: [bool; BLOCK]) -> u64 {
    let bits: [u8; BLOCK] = array::from_fn(|index| u8::from(marks[index]) << (index % 8));
    let (words, _) = bits.as_chunks::<WORD>();
    words.iter().enumerate().fold(0, |mask, (index, &word)| {
        // The product adds all bytes in the highest one. Each has another bit.
        let bits = u64::from_le_bytes(word).wrapping_mul(0x0101_0101_0101_0101) >> 56;
        mask | bits << (8 * index)
    })
}

/// Returns the number of the digits in front of each byte of a block, up to `SHORT` of them. It is any number for a
/// byte with none in front, or more.
#[inline(always)]
fn short_values(window: &Window) -> [u16; BLOCK] {
    let digits: Window = window.map(digit);
    let tens = times_ten(digits.map(|digit| if is_digit(digit) { digit } else { 0 }));
    let low: [u8; BLOCK] = array::from_fn(|index| digits[index + 3].wrapping_add(tens[index + 2]));
    let high: [u8; BLOCK] = array::from_fn(|index| {
        let are_digits = is_digit(digits[index + 2]) && is_digit(digits[index + 1]);
        if are_digits { digits[index + 1] + tens[index] } else { 0 }
    });
    array::from_fn(|index| u16::from(low[index]) + 100 * u16::from(high[index]))
}

/// Multiplies digits by ten, two at a time, as vectors have no product of bytes. No product reaches the next byte.
#[inline(always)]
fn times_ten(digits: Window) -> Window {
    let mut tens = digits;
    let (pairs, _) = tens.as_chunks_mut();
    for pair in pairs {
        *pair = (u16::from_ne_bytes(*pair) * 10).to_ne_bytes();
    }
    tens
}

/// Returns the number of the digits in front, and how many of them there are. The number is right if they are at most
/// [`SAFE_DIGITS`].
#[inline(always)]
fn leading_digits(bytes: &[u8; 3 * WORD]) -> (u64, usize) {
    let (words, _) = bytes.as_chunks::<WORD>();
    let mut value = 0_u64;
    for (index, &word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(word);
        let nondigits = nondigits(word);
        if nondigits != 0 {
            let len = nondigits.trailing_zeros() / 8;
            // The first digits get into the highest bytes. One shift cannot remove a whole word.
            let half = (u64::BITS - 8 * len) / 2;
            let rest = eight_digits(word << half << half);
            let value = value.wrapping_mul(POWERS[len as usize % WORD]).wrapping_add(rest);
            return (value, WORD * index + len as usize);
        }
        value = value.wrapping_mul(100_000_000).wrapping_add(eight_digits(word));
    }
    (value, 3 * WORD)
}

/// Returns the highest bit of each byte of a word that is no digit.
#[inline(always)]
fn nondigits(word: u64) -> u64 {
    const HIGH: u64 = u64::from_le_bytes([0x80; WORD]);
    let digits = word ^ u64::from_le_bytes([b'0'; WORD]);
    // The sum of a byte reaches the highest bit from 10 on, and never the next byte.
    (((digits & !HIGH) + u64::from_le_bytes([0x80 - 10; WORD])) | digits) & HIGH
}

/// Returns the number of eight digits, the first of which is in the lowest bits. A byte of zero is the digit 0.
#[inline(always)]
fn eight_digits(word: u64) -> u64 {
    let digits = word & u64::from_le_bytes([0x0f; WORD]);
    let pairs = digits.wrapping_mul(10 << 8 | 1) >> 8 & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100 << 16 | 1) >> 16 & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(10_000 << 32 | 1) >> 32
}

/// The powers of ten below that of a word of digits.
const POWERS: [u64; WORD] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];

#[cfg(test)]
mod tests;
