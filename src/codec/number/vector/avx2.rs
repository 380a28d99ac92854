//! The stages with vectors of 32 bytes: Intel since Haswell, AMD since Excavator.
//!
//! It uses neither gathers nor `pext` and `pdep`, which are slow on Zen 1 and 2.

#![expect(
    unsafe_code,
    reason = "vector loads and stores, and calls that need a processor's features"
)]

use std::arch::x86_64::*;

use super::{
    BLOCK, Batch, Divisor, GROUP, Group, Handler, InstructionSet, LINES, LOOK_BACK, NumberDecoder,
    Queue, SAFE_DIGITS, SHORT, ShortLines, Window,
};

/// The bytes of a vector.
const VECTOR: usize = 32;

/// The proof that the processor has the features that this module needs.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Avx2(());

impl Avx2 {
    /// Checks the features of the processor. The standard library caches the answer.
    pub(in super::super) fn detect() -> Option<Avx2> {
        let features = [
            is_x86_feature_detected!("avx2"),
            is_x86_feature_detected!("bmi1"),
            is_x86_feature_detected!("bmi2"),
            is_x86_feature_detected!("lzcnt"),
            is_x86_feature_detected!("popcnt"),
        ];
        features.into_iter().all(|is_present| is_present).then_some(Avx2(()))
    }

    /// Decodes in blocks: see [`decode_blocks`](super::decode_blocks).
    pub(in super::super) fn decode<V: Handler<NumberDecoder>>(
        self,
        decoder: &NumberDecoder,
        region: &[u8],
        start: usize,
        batch: &mut Batch<'_, V>,
    ) -> (u64, usize) {
        // SAFETY: an `Avx2` exists only if `detect` has found the features.
        unsafe { decode(self, decoder, region, start, batch) }
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn decode<V: Handler<NumberDecoder>>(
    set: Avx2,
    decoder: &NumberDecoder,
    region: &[u8],
    start: usize,
    batch: &mut Batch<'_, V>,
) -> (u64, usize) {
    super::decode_blocks(set, decoder, region, start, batch)
}

impl InstructionSet for Avx2 {
    type Constants = Constants;

    #[inline(always)]
    fn prepare(self, divisor: Divisor, delimiter: u8) -> Constants {
        // SAFETY: an `Avx2` exists only if `detect` has found the features.
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
    fn positions(self, mask: u64, at: u32, ends: &mut [u32; BLOCK]) {
        positions(mask, at, ends);
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

pub(super) struct Constants {
    delimiter: __m256i,
    /// Whether the delimiter is more than the digit 9, and not so much more that it has the highest bit set.
    is_high: bool,
    inverse: __m256i,
    limit: __m256i,
    low_bits: __m256i,
    divisor: Divisor,
}

#[inline]
#[target_feature(enable = "avx2")]
fn prepare(divisor: Divisor, delimiter: u8) -> Constants {
    let (inverse, shift, limit) = divisor.short();
    Constants {
        divisor,
        delimiter: _mm256_set1_epi8(delimiter.cast_signed()),
        is_high: (b'9' + 1..=0x7f + b'0').contains(&delimiter),
        inverse: _mm256_set1_epi16(inverse.cast_signed()),
        limit: _mm256_set1_epi16((limit << shift).cast_signed()),
        low_bits: _mm256_set1_epi16(((1 << shift) - 1_u16).cast_signed()),
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn masks(constants: &Constants, block: &[u8; BLOCK]) -> (u64, u64) {
    let of_half = |half| {
        let bytes = load(block, half);
        let is_delimiter = _mm256_cmpeq_epi8(bytes, constants.delimiter);
        let digits = _mm256_sub_epi8(bytes, _mm256_set1_epi8(0x30));
        let is_digit = _mm256_cmpeq_epi8(_mm256_min_epu8(digits, _mm256_set1_epi8(9)), digits);
        let is_known = _mm256_or_si256(is_delimiter, is_digit);
        [is_delimiter, is_known].map(|is| mask(is))
    };
    let [[delimiters, known], [upper_delimiters, upper_known]] = [of_half(0), of_half(VECTOR)];
    (join(delimiters, upper_delimiters), !join(known, upper_known))
}

#[inline]
#[target_feature(enable = "avx2")]
fn find(block: &[u8; BLOCK], byte: u8) -> u64 {
    let byte = _mm256_set1_epi8(byte.cast_signed());
    let of_half = |half| mask(_mm256_cmpeq_epi8(load(block, half), byte));
    join(of_half(0), of_half(VECTOR))
}

/// Returns the highest bit of each byte.
#[inline]
#[target_feature(enable = "avx2")]
fn mask(bytes: __m256i) -> u32 {
    _mm256_movemask_epi8(bytes).cast_unsigned()
}

#[inline]
fn join(lower: u32, upper: u32) -> u64 {
    u64::from(lower) | u64::from(upper) << u32::BITS
}

/// Decodes the digits in front of each byte of the block, and then takes only the multiples at `ends`.
///
/// All steps but the last are the same for each byte, so there is no branch on the lengths of lines.
#[inline]
#[target_feature(enable = "avx2,bmi1,lzcnt,popcnt")]
fn decode_short(
    constants: &Constants,
    window: &Window,
    lines: &ShortLines,
    numbers: &mut [i64; LINES],
) -> usize {
    if constants.is_high {
        decode_block::<true>(constants, window, lines, numbers)
    } else {
        decode_block::<false>(constants, window, lines, numbers)
    }
}

#[inline]
#[target_feature(enable = "avx2,bmi1,lzcnt,popcnt")]
fn decode_block<const IS_HIGH: bool>(
    constants: &Constants,
    window: &Window,
    lines: &ShortLines,
    numbers: &mut [i64; LINES],
) -> usize {
    let mut values = [0_u16; BLOCK];
    let lower = decode_half::<IS_HIGH>(constants, window, 0, &mut values);
    let upper = decode_half::<IS_HIGH>(constants, window, VECTOR, &mut values);
    let mut hits = join(lower, upper) & lines.ends;
    let count = hits.count_ones() as usize;
    for numbers in numbers.chunks_exact_mut(HITS).take(count.div_ceil(HITS).max(1)) {
        // More than needed, as a branch on each hit would be mispredicted.
        for number in numbers {
            let end = hits.trailing_zeros() as usize % BLOCK;
            let value = i64::from(values[end]);
            *number = if lines.negatives >> end & 1 != 0 { -value } else { value };
            hits &= hits.wrapping_sub(1);
        }
    }
    count
}

/// The multiples that are taken from a block without a branch: four. The mean of 1..666 is three.
const HITS: usize = 4;

/// Decodes the up to four digits in front of each of 32 bytes. Writes their values, and returns the mask of multiples.
///
/// There is no value where the byte in front is no digit.
#[inline]
#[target_feature(enable = "avx2")]
fn decode_half<const IS_HIGH: bool>(
    constants: &Constants,
    window: &Window,
    half: usize,
    values: &mut [u16; BLOCK],
) -> u32 {
    // The byte at this distance in front: 0 to 9 for a digit, and the highest bit is set for any other.
    let in_front = |distance| {
        let bytes = load(window, half + SHORT - distance);
        let digits = _mm256_sub_epi8(bytes, _mm256_set1_epi8(0x30));
        if IS_HIGH {
            _mm256_or_si256(digits, _mm256_cmpeq_epi8(bytes, constants.delimiter))
        } else {
            digits
        }
    };
    // A shuffle takes the low bits as an index, and yields 0 if the highest bit is set.
    let ones =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 0, 0, 0));
    let tens = _mm256_broadcastsi128_si256(_mm_setr_epi8(
        0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 0, 0, 0, 0, 0, 0,
    ));
    let highest_bits = _mm256_set1_epi8(i8::MIN);
    let after = |bytes, lower| _mm256_or_si256(bytes, _mm256_and_si256(lower, highest_bits));
    let second = in_front(2);
    let third = after(in_front(3), second);
    let fourth = after(in_front(4), third);
    let low = _mm256_add_epi8(in_front(1), _mm256_shuffle_epi8(tens, second));
    let high = _mm256_add_epi8(_mm256_shuffle_epi8(ones, third), _mm256_shuffle_epi8(tens, fourth));
    let weights = _mm256_set1_epi16(0x6401);
    let mut decode = |pairs, at: usize| {
        let numbers = _mm256_maddubs_epi16(pairs, weights);
        store(values, at, _mm256_castsi256_si128(numbers));
        store(values, at + VECTOR / 2, _mm256_extracti128_si256::<1>(numbers));
        // A multiple of `odd * 2^shift` times the inverse is a multiple of `2^shift` and at most the limit.
        let products = _mm256_mullo_epi16(numbers, constants.inverse);
        let above = _mm256_subs_epu16(products, constants.limit);
        let rest = _mm256_or_si256(above, _mm256_and_si256(products, constants.low_bits));
        _mm256_cmpeq_epi16(rest, _mm256_setzero_si256())
    };
    let lower = decode(_mm256_unpacklo_epi8(low, high), half);
    let upper = decode(_mm256_unpackhi_epi8(low, high), half + VECTOR / 4);
    mask(_mm256_packs_epi16(lower, upper))
}

/// Writes the positions one by one, as there is no compression of vectors.
#[inline(always)]
fn positions(mut mask: u64, at: u32, ends: &mut [u32; BLOCK]) {
    // Four at a time, which are all of a block of the longest lines, as a branch on each bit would be mispredicted.
    for ends in ends.chunks_exact_mut(4) {
        for end in ends {
            // SAFETY: it is a reference. Without `volatile`, the compiler joins the positions in a vector, one by one.
            unsafe { std::ptr::write_volatile(end, at + mask.trailing_zeros()) };
            mask &= mask.wrapping_sub(1);
        }
        if mask == 0 {
            break;
        }
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
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

/// Decodes eight lines of up to 18 digits.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn decode_group(
    constants: &Constants,
    region: &[u8],
    lines: &Group<'_>,
    count: usize,
    numbers: &mut [i64; GROUP],
) -> Option<usize> {
    // SAFETY: each load reads eight numbers of four bytes and needs no alignment.
    let (previous, ends) = unsafe {
        (
            _mm256_loadu_si256(lines.previous.as_ptr().cast()),
            _mm256_loadu_si256(lines.ends.as_ptr().cast()),
        )
    };
    let number = |at: usize| _mm256_set1_epi32(i32::try_from(at).expect("the region is shorter"));
    let outside = _mm256_or_si256(
        _mm256_cmpgt_epi32(number(LOOK_BACK), ends),
        _mm256_cmpgt_epi32(ends, number(region.len())),
    );
    assert!(_mm256_testz_si256(outside, outside) == 1, "an end is outside of the region");
    let mut lens = _mm256_sub_epi32(_mm256_sub_epi32(ends, previous), _mm256_set1_epi32(1));
    if lines.returned | lines.negatives != 0 {
        // A lane of a mask is -1.
        lens = _mm256_add_epi32(lens, lanes(lines.returned));
        lens = _mm256_add_epi32(lens, lanes(lines.negatives));
    }
    let wanted = u8::MAX >> (GROUP - count);
    // An empty line is a heartbeat.
    let is_filled = _mm256_cmpgt_epi32(lens, _mm256_setzero_si256());
    let filled = mask_of_lanes(is_filled) & wanted;
    let longer_than = |digits| mask_of_lanes(_mm256_cmpgt_epi32(lens, number(digits))) & wanted;
    if longer_than(SAFE_DIGITS) != 0 {
        return None;
    }
    let below = |line: usize, distance| super::below(region, lines.ends[line], distance);
    // The lengths of lines 0, 1, 4 and 5, and those of 2, 3, 6 and 7.
    let lens = _mm256_permute4x64_epi64::<0b11_01_10_00>(lens);
    // The last sixteen bytes of a line, and of the second next. A byte is a digit of its line if its distance from
    // the end is less than the length. Pairs of digits become numbers below 100, and pairs of those become numbers
    // below 10^4.
    let from_end = _mm256_broadcastsi128_si256(_mm_setr_epi8(
        15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0,
    ));
    let fours = |line: usize, lane: i8| {
        let last = |line| {
            // SAFETY: each end is at least `LOOK_BACK`, which is more than 16, and within the region.
            unsafe { _mm_loadu_si128(below(line, 16).cast()) }
        };
        let bytes =
            _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(last(line)), last(line + 2));
        let len = _mm256_shuffle_epi8(lens, _mm256_set1_epi8(4 * lane));
        four_digits(bytes, _mm256_cmpgt_epi8(len, from_end))
    };
    // Pairs of numbers below 10^4 become two numbers below 10^8 of each of four lines, and then one.
    let sixteen_digits = |first: __m256i, second: __m256i| {
        let fours = _mm256_packus_epi32(first, second);
        let eights = _mm256_madd_epi16(fours, _mm256_set1_epi32(0x0001_2710));
        let upper = _mm256_mul_epu32(eights, _mm256_set1_epi64x(100_000_000));
        _mm256_add_epi64(upper, _mm256_srli_epi64::<32>(eights))
    };
    let mut lower = sixteen_digits(fours(0, 0), fours(1, 1));
    let mut upper = sixteen_digits(fours(4, 2), fours(5, 3));
    if longer_than(16) != 0 {
        // The four bytes at the next lower indices, in the same way and in the order of the lengths.
        let front = |line| {
            // SAFETY: each end is at least `LOOK_BACK`, which is more than 20, and within the region.
            unsafe { _mm_cvtsi32_si128(below(line, 20).cast::<i32>().read_unaligned()) }
        };
        let pair = |line| _mm_unpacklo_epi32(front(line), front(line + 1));
        let half = |line| _mm_unpacklo_epi64(pair(line), pair(line + 4));
        let bytes = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(half(0)), half(2));
        let of_lane = _mm256_broadcastsi128_si256(_mm_setr_epi8(
            0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12,
        ));
        let len = _mm256_shuffle_epi8(lens, of_lane);
        let is_digit = _mm256_cmpgt_epi8(len, _mm256_set1_epi32(0x1011_1213));
        let fronts = four_digits(bytes, is_digit);
        let zero = _mm256_setzero_si256();
        lower = _mm256_add_epi64(lower, times_ten_to_16(_mm256_unpacklo_epi32(fronts, zero)));
        upper = _mm256_add_epi64(upper, times_ten_to_16(_mm256_unpackhi_epi32(fronts, zero)));
    }
    let mut values = [0_u64; GROUP];
    // SAFETY: the stores write four numbers of eight bytes each and need no alignment.
    unsafe {
        _mm256_storeu_si256(values[..4].as_mut_ptr().cast(), lower);
        _mm256_storeu_si256(values[4..].as_mut_ptr().cast(), upper);
    }
    let divisor = constants.divisor;
    Some(if (lines.negatives, filled) == (0, u8::MAX) {
        keep(&values, numbers, |_, value| (value.cast_signed(), divisor.divides_unsigned(value)))
    } else {
        keep(&values, numbers, |line, value| {
            let sign = -i64::from(lines.negatives >> line & 1);
            let is_hit = divisor.divides_unsigned(value) & (filled >> line & 1 != 0);
            ((value.cast_signed() ^ sign) - sign, is_hit)
        })
    })
}

/// Writes the numbers that are hits to the lowest indices, and returns how many there are.
///
/// It is not in vectors, which have no product of 64 bits and enough to do.
#[inline(always)]
fn keep(
    values: &[u64; GROUP],
    numbers: &mut [i64; GROUP],
    number: impl Fn(usize, u64) -> (i64, bool),
) -> usize {
    let mut kept = 0;
    for (line, &value) in values.iter().enumerate() {
        let (number, is_hit) = number(line, value);
        // It is stored even if it is no hit, as a branch would be mispredicted.
        numbers[kept % GROUP] = number;
        kept += usize::from(is_hit);
    }
    kept
}

/// Returns the numbers of four bytes each, of which those of the mask are digits.
#[inline]
#[target_feature(enable = "avx2")]
fn four_digits(bytes: __m256i, is_digit: __m256i) -> __m256i {
    let digits = _mm256_and_si256(_mm256_sub_epi8(bytes, _mm256_set1_epi8(0x30)), is_digit);
    let pairs = _mm256_maddubs_epi16(digits, _mm256_set1_epi16(0x010a));
    _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x0001_0064))
}

/// Multiplies numbers below 100 by 10^16.
#[inline]
#[target_feature(enable = "avx2")]
fn times_ten_to_16(numbers: __m256i) -> __m256i {
    // 10^16 is 10^8 * 10^8, and the first product has less than 32 bits if it is of half that power.
    let upper = _mm256_mul_epu32(numbers, _mm256_set1_epi64x(10_000_000_000_000_000 >> 32));
    let lower = _mm256_mul_epu32(numbers, _mm256_set1_epi64x(10_000_000_000_000_000));
    _mm256_add_epi64(_mm256_slli_epi64::<32>(upper), lower)
}

/// Returns -1 in each lane of the mask, and 0 in all others.
#[inline]
#[target_feature(enable = "avx2")]
fn lanes(mask: u8) -> __m256i {
    let bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(mask.into()), bits), bits)
}

#[inline]
#[target_feature(enable = "avx2")]
fn mask_of_lanes(lanes: __m256i) -> u8 {
    _mm256_movemask_ps(_mm256_castsi256_ps(lanes)).to_le_bytes()[0]
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8], at: usize) -> __m256i {
    let bytes: &[u8; VECTOR] = bytes[at..].first_chunk().expect("whole vectors only");
    // SAFETY: the load reads 32 bytes and needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Stores sixteen bytes as numbers.
#[inline]
#[target_feature(enable = "avx2")]
fn store<T>(numbers: &mut [T], at: usize, vector: __m128i) {
    let numbers = &mut numbers[at..at + size_of::<__m128i>() / size_of::<T>()];
    // SAFETY: the store writes sixteen bytes, which is the size of the numbers, and needs no alignment.
    unsafe { _mm_storeu_si128(numbers.as_mut_ptr().cast(), vector) };
}
