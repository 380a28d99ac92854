//! The stages with vectors of 16 bytes, which all processors of aarch64 have.

#![expect(
    unsafe_code,
    reason = "vector loads and stores, and calls that need a processor's features"
)]

use std::arch::aarch64::*;

use super::{
    BLOCK, Batch, Divisor, GROUP, Group, Handler, InstructionSet, LINES, NumberDecoder, Queue,
    SAFE_DIGITS, SHORT, ShortLines, Window,
};

/// The bytes of a vector.
const VECTOR: usize = 16;

/// The stages with NEON, which this architecture always has.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Neon;

impl Neon {
    /// Decodes in blocks: see [`decode_blocks`](super::decode_blocks).
    pub(in super::super) fn decode<V: Handler<NumberDecoder>>(
        self,
        decoder: &NumberDecoder,
        region: &[u8],
        start: usize,
        batch: &mut Batch<'_, V>,
    ) -> (u64, usize) {
        super::decode_blocks(self, decoder, region, start, batch)
    }
}

pub(super) struct Constants {
    divisor: Divisor,
    delimiter: uint8x16_t,
    inverse: uint16x8_t,
    /// To the right, which is negative.
    shift: int16x8_t,
    /// To the left.
    back_shift: int16x8_t,
    limit: uint16x8_t,
}

impl InstructionSet for Neon {
    type Constants = Constants;

    #[inline(always)]
    fn prepare(self, divisor: Divisor, delimiter: u8) -> Constants {
        // SAFETY: this architecture has NEON.
        unsafe { prepare(divisor, delimiter) }
    }

    #[inline(always)]
    fn masks(self, constants: &Constants, block: &[u8; BLOCK]) -> (u64, u64) {
        // SAFETY: as above.
        unsafe { masks(constants, block) }
    }

    #[inline(always)]
    fn find(self, block: &[u8; BLOCK], byte: u8) -> u64 {
        // SAFETY: as above.
        unsafe { find(block, byte) }
    }

    #[inline(always)]
    fn decode_short(
        self,
        constants: &Constants,
        window: &Window,
        lines: &ShortLines,
        numbers: &mut [i64; LINES],
    ) -> usize {
        // SAFETY: as above.
        unsafe { decode_short(constants, window, lines, numbers) }
    }

    #[inline(always)]
    fn positions(self, mut mask: u64, at: u32, ends: &mut [u32; BLOCK]) {
        // More than most blocks have, as a branch on each bit would be mispredicted.
        for ends in ends.chunks_exact_mut(8) {
            for end in ends {
                *end = at + mask.trailing_zeros();
                mask &= mask.wrapping_sub(1);
            }
            if mask == 0 {
                break;
            }
        }
    }

    #[inline(always)]
    fn decode_queued<V: Handler<NumberDecoder>>(
        self,
        constants: &Constants,
        decoder: &NumberDecoder,
        region: &[u8],
        lines: (&Queue, usize),
        batch: &mut Batch<'_, V>,
    ) {
        // SAFETY: as above.
        unsafe { decode_queued(constants, decoder, region, lines, batch) }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn prepare(divisor: Divisor, delimiter: u8) -> Constants {
    let (inverse, shift, limit) = divisor.short();
    let shift = shift.cast_signed();
    Constants {
        divisor,
        delimiter: vdupq_n_u8(delimiter),
        inverse: vdupq_n_u16(inverse),
        shift: vdupq_n_s16(-shift),
        back_shift: vdupq_n_s16(16 - shift),
        limit: vdupq_n_u16(limit),
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn masks(constants: &Constants, block: &[u8; BLOCK]) -> (u64, u64) {
    let vectors = [0, 1, 2, 3].map(|number| load(block, VECTOR * number));
    let delimiters = vectors.map(|bytes| vceqq_u8(bytes, constants.delimiter));
    let digits = vectors.map(|bytes| is_digit(vsubq_u8(bytes, vdupq_n_u8(b'0'))));
    let delimiters = mask(delimiters);
    (delimiters, !(delimiters | mask(digits)))
}

#[inline]
#[target_feature(enable = "neon")]
fn find(block: &[u8; BLOCK], byte: u8) -> u64 {
    let found = |number| vceqq_u8(load(block, VECTOR * number), vdupq_n_u8(byte));
    mask([0, 1, 2, 3].map(found))
}

/// Decodes the digits in front of each byte of the block, and then takes only the multiples at the ends.
#[inline]
#[target_feature(enable = "neon")]
fn decode_short(
    constants: &Constants,
    window: &Window,
    lines: &ShortLines,
    numbers: &mut [i64; LINES],
) -> usize {
    let mut values = [0_u16; BLOCK];
    let hits = [0, 1, 2, 3].map(|number| {
        let at = VECTOR * number;
        decode_vector(constants, window, at, &mut values)
    });
    let mut hits = mask(hits) & lines.ends;
    let count = hits.count_ones() as usize;
    for number in &mut numbers[..count] {
        let end = hits.trailing_zeros() as usize;
        let value = i64::from(values[end]);
        *number = if lines.negatives >> end & 1 != 0 { -value } else { value };
        hits &= hits - 1;
    }
    count
}

#[inline]
#[target_feature(enable = "neon")]
fn decode_queued<V: Handler<NumberDecoder>>(
    constants: &Constants,
    decoder: &NumberDecoder,
    region: &[u8],
    (queue, count): (&Queue, usize),
    batch: &mut Batch<'_, V>,
) {
    queue.decode(count, decoder, region, batch, |lines, count, numbers| {
        decode_group(constants, region, lines, count, numbers)
    });
}

/// Decodes the up to four digits in front of each of 16 bytes. Writes their values, and returns all ones for multiples.
///
/// There is no value where the byte in front is no digit.
#[inline]
#[target_feature(enable = "neon")]
fn decode_vector(
    constants: &Constants,
    window: &Window,
    at: usize,
    values: &mut [u16; BLOCK],
) -> uint8x16_t {
    let in_front = |distance| vsubq_u8(load(window, at + SHORT - distance), vdupq_n_u8(b'0'));
    let [first, second, third, fourth] = [1, 2, 3, 4].map(in_front);
    let has_two = is_digit(second);
    let has_three = vandq_u8(has_two, is_digit(third));
    let has_four = vandq_u8(has_three, is_digit(fourth));
    let ten = vdupq_n_u8(10);
    let low = vmlaq_u8(first, vandq_u8(second, has_two), ten);
    let high = vmlaq_u8(vandq_u8(third, has_three), vandq_u8(fourth, has_four), ten);
    let hundred = vdup_n_u8(100);
    let lower = vmlal_u8(vmovl_u8(vget_low_u8(low)), vget_low_u8(high), hundred);
    let upper = vmlal_u8(vmovl_u8(vget_high_u8(low)), vget_high_u8(high), hundred);
    let values: &mut [u16; VECTOR] = values[at..].first_chunk_mut().expect("one for each byte");
    // SAFETY: the stores write eight numbers of two bytes each, the halves of the array.
    unsafe {
        vst1q_u16(values.as_mut_ptr(), lower);
        vst1q_u16(values.as_mut_ptr().add(VECTOR / 2), upper);
    }
    let is_multiple = |numbers| {
        let product = vmulq_u16(numbers, constants.inverse);
        let rotated = vorrq_u16(
            vshlq_u16(product, constants.shift),
            vshlq_u16(product, constants.back_shift),
        );
        vmovn_u16(vcleq_u16(rotated, constants.limit))
    };
    vcombine_u8(is_multiple(lower), is_multiple(upper))
}

/// Decodes lines of up to 18 digits.
#[inline]
#[target_feature(enable = "neon")]
fn decode_group(
    constants: &Constants,
    region: &[u8],
    lines: &Group<'_>,
    count: usize,
    numbers: &mut [i64; GROUP],
) -> Option<usize> {
    let mut lens = [0; GROUP];
    for (line, len) in lens.iter_mut().enumerate().take(count) {
        let sign_and_return = (lines.negatives >> line & 1) + (lines.returned >> line & 1);
        *len =
            (lines.ends[line] - lines.previous[line] - 1) as usize - usize::from(sign_and_return);
        if *len > SAFE_DIGITS {
            return None;
        }
    }
    let mut kept = 0;
    for (line, &len) in lens.iter().enumerate().take(count) {
        let value = value(region, lines.ends[line] as usize, len);
        let sign = -i64::from(lines.negatives >> line & 1);
        numbers[kept % GROUP] = (value.cast_signed() ^ sign) - sign;
        // An empty line is a heartbeat.
        kept += usize::from(len > 0 && constants.divisor.divides_unsigned(value));
    }
    Some(kept)
}

/// Returns the number of `len` digits, at most [`SAFE_DIGITS`], that ends at `end`, which is at least `LOOK_BACK`.
#[inline]
#[target_feature(enable = "neon")]
fn value(region: &[u8], end: usize, len: usize) -> u64 {
    // A byte is a digit of the line if its distance from the end is less than the length.
    const FROM_END: [u8; VECTOR] = [15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0];
    let of_line = vcgtq_u8(vdupq_n_u8(len.to_le_bytes()[0]), load(&FROM_END, 0));
    let ones = vandq_u8(vsubq_u8(load(region, end - VECTOR), vdupq_n_u8(b'0')), of_line);
    // Weights of a digit and the next one, and of the numbers that these become.
    let tens = vreinterpretq_u8_u16(vdupq_n_u16(0x010a));
    let hundreds = vreinterpretq_u16_u32(vdupq_n_u32(0x0001_0064));
    let myriads = vreinterpretq_u32_u64(vdupq_n_u64(0x0000_0001_0000_2710));
    let pairs = vpaddlq_u8(vmulq_u8(ones, tens));
    let fours = vpaddlq_u16(vmulq_u16(pairs, hundreds));
    let eights = vpaddlq_u32(vmulq_u32(fours, myriads));
    let value = vgetq_lane_u64::<0>(eights) * 100_000_000 + vgetq_lane_u64::<1>(eights);
    let digit = |distance: usize| {
        let digit = u64::from(region[end - distance].wrapping_sub(b'0'));
        if len >= distance { digit } else { 0 }
    };
    if len <= VECTOR {
        return value;
    }
    value + (10 * digit(VECTOR + 2) + digit(VECTOR + 1)) * 10_000_000_000_000_000
}

/// Returns all ones for each byte up to 9.
#[inline]
#[target_feature(enable = "neon")]
fn is_digit(digits: uint8x16_t) -> uint8x16_t {
    vcleq_u8(digits, vdupq_n_u8(9))
}

/// Returns a bit for each byte, all of whose bits are the same.
#[inline]
#[target_feature(enable = "neon")]
fn mask(vectors: [uint8x16_t; 4]) -> u64 {
    let bits = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
    let [a, b, c, d] = vectors.map(|bytes| vandq_u8(bytes, bits));
    // Three sums of neighbors join the bits of eight bytes each.
    let fours = vpaddq_u8(vpaddq_u8(a, b), vpaddq_u8(c, d));
    vgetq_lane_u64::<0>(vreinterpretq_u64_u8(vpaddq_u8(fours, fours)))
}

#[inline]
#[target_feature(enable = "neon")]
fn load(bytes: &[u8], at: usize) -> uint8x16_t {
    let bytes: &[u8; VECTOR] = bytes[at..].first_chunk().expect("whole vectors only");
    // SAFETY: the load reads 16 bytes and needs no alignment.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}
