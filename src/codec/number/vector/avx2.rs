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
    SAFE_DIGITS, SHORT, ShortLines, Window,
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
    fn positions(self, mask: u64, at: u32, ends: &mut [u32; BLOCK], nexts: &mut [u32; BLOCK]) {
        super::positions_one_by_one(mask, at, ends, nexts);
    }

    #[inline(always)]
    fn decode_group(
        self,
        constants: &Constants,
        region: &[u8],
        lines: &Group<'_>,
        count: usize,
        numbers: &mut [i64; GROUP],
    ) -> Option<usize> {
        // SAFETY: as above.
        unsafe { decode_group(constants, region, lines, count, numbers) }
    }
}

pub(super) struct Constants {
    divisor: Divisor,
    delimiter: __m256i,
    /// All ones if the delimiter is more than the digit 9, which `sub` alone does not tell from a digit.
    is_high: __m256i,
    inverse: __m256i,
    limit: __m256i,
    low_bits: __m256i,
}

#[inline]
#[target_feature(enable = "avx2")]
fn prepare(divisor: Divisor, delimiter: u8) -> Constants {
    let (inverse, shift, limit) = divisor.short();
    let is_high = (b'9' + 1..=0x7f + b'0').contains(&delimiter);
    Constants {
        divisor,
        delimiter: _mm256_set1_epi8(delimiter.cast_signed()),
        is_high: _mm256_set1_epi8(-i8::from(is_high)),
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
    let mut values = [0_u16; BLOCK];
    let lower = decode_half(constants, window, 0, &mut values);
    let upper = decode_half(constants, window, VECTOR, &mut values);
    let mut hits = join(lower, upper) & lines.ends;
    let count = hits.count_ones() as usize;
    let mut at = 0;
    loop {
        // More than needed, as a branch on each hit would be mispredicted.
        for number in &mut numbers[at..at + HITS] {
            let end = hits.trailing_zeros() as usize % BLOCK;
            let sign = -((lines.negatives >> end & 1).cast_signed());
            *number = (i64::from(values[end]) ^ sign) - sign;
            hits &= hits.wrapping_sub(1);
        }
        at += HITS;
        if at >= count {
            return count;
        }
    }
}

/// The multiples that are taken from a block without a branch: four. The mean of 1..666 is three.
const HITS: usize = 4;

/// Decodes the up to four digits in front of each of 32 bytes. Writes their values, and returns the mask of multiples.
///
/// There is no value where the byte in front is no digit.
#[inline]
#[target_feature(enable = "avx2")]
fn decode_half(
    constants: &Constants,
    window: &Window,
    half: usize,
    values: &mut [u16; BLOCK],
) -> u32 {
    // The byte at this distance in front: 0 to 9 for a digit, and the highest bit is set for any other.
    let in_front = |distance| {
        let bytes = load(window, half + SHORT - distance);
        let is_delimiter = _mm256_cmpeq_epi8(bytes, constants.delimiter);
        let digits = _mm256_sub_epi8(bytes, _mm256_set1_epi8(0x30));
        _mm256_or_si256(digits, _mm256_and_si256(is_delimiter, constants.is_high))
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

/// Decodes eight lines of up to 18 digits.
#[inline]
#[target_feature(enable = "avx2,bmi1,lzcnt,popcnt")]
fn decode_group(
    constants: &Constants,
    region: &[u8],
    lines: &Group<'_>,
    count: usize,
    numbers: &mut [i64; GROUP],
) -> Option<usize> {
    // SAFETY: each load reads eight numbers of four bytes and needs no alignment.
    let (starts, ends) = unsafe {
        (
            _mm256_loadu_si256(lines.starts.as_ptr().cast()),
            _mm256_loadu_si256(lines.ends.as_ptr().cast()),
        )
    };
    let lowest = _mm256_set1_epi32(LOOK_BACK as i32);
    let highest = _mm256_set1_epi32(i32::try_from(region.len()).expect("a shorter region") - 1);
    let outside =
        _mm256_or_si256(_mm256_cmpgt_epi32(lowest, ends), _mm256_cmpgt_epi32(ends, highest));
    assert!(_mm256_testz_si256(outside, outside) == 1, "an end is outside of the region");
    let wanted = u32::from(u8::MAX >> (GROUP - count));
    let lens = _mm256_sub_epi32(ends, starts);
    let longer_than = |digits: i32| {
        let longer = _mm256_cmpgt_epi32(lens, _mm256_set1_epi32(digits));
        _mm256_movemask_ps(_mm256_castsi256_ps(longer)).cast_unsigned() & wanted
    };
    if longer_than(SAFE_DIGITS as i32) != 0 {
        return None;
    }
    // An empty line is a heartbeat.
    let wanted = longer_than(0);
    let load_last = |line: usize| {
        // SAFETY: each end is at least `LOOK_BACK`, which is more than 16, and less than the length of the region.
        unsafe { _mm_loadu_si128(super::below(region, lines.ends[line], 16).cast()) }
    };
    // The last sixteen bytes of one of the first four lines, and of one of the last four. A byte is a digit of its
    // line if its distance from the end is less than the length. Pairs of digits become numbers below 100, and pairs
    // of those become numbers below 10^4.
    let from_end = _mm256_broadcastsi128_si256(_mm_setr_epi8(
        15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0,
    ));
    let fours = |line: usize| {
        let bytes = _mm256_inserti128_si256::<1>(
            _mm256_castsi128_si256(load_last(line)),
            load_last(line + GROUP / 2),
        );
        let len = _mm256_shuffle_epi8(lens, _mm256_set1_epi8(4 * line as i8));
        let is_digit = _mm256_cmpgt_epi8(len, from_end);
        let digits = _mm256_and_si256(_mm256_sub_epi8(bytes, _mm256_set1_epi8(0x30)), is_digit);
        let pairs = _mm256_maddubs_epi16(digits, _mm256_set1_epi16(0x010a));
        _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x0001_0064))
    };
    // Pairs of numbers below 10^4 become two numbers below 10^8 of each line, and then one.
    let sixteens = |first: __m256i, second: __m256i| {
        let fours = _mm256_packus_epi32(first, second);
        let eights = _mm256_madd_epi16(fours, _mm256_set1_epi32(0x0001_2710));
        let upper = _mm256_mul_epu32(eights, _mm256_set1_epi64x(100_000_000));
        _mm256_add_epi64(upper, _mm256_srli_epi64::<32>(eights))
    };
    let mut values = [0_u64; GROUP];
    for (at, of_lines) in [(0, sixteens(fours(0), fours(1))), (2, sixteens(fours(2), fours(3)))] {
        store(&mut values, at, _mm256_castsi256_si128(of_lines));
        store(&mut values, at + GROUP / 2, _mm256_extracti128_si256::<1>(of_lines));
    }
    if longer_than(16) != 0 {
        // The two bytes at the next lower indices, in the same way.
        let load_front = |line: usize| {
            // SAFETY: each end is at least `LOOK_BACK`, which is more than 18, and less than the length.
            unsafe { super::below(region, lines.ends[line], 18).cast::<i16>().read_unaligned() }
        };
        let bytes = _mm_setr_epi16(
            load_front(0),
            load_front(1),
            load_front(2),
            load_front(3),
            load_front(4),
            load_front(5),
            load_front(6),
            load_front(7),
        );
        let lens =
            _mm_packus_epi32(_mm256_castsi256_si128(lens), _mm256_extracti128_si256::<1>(lens));
        let lens = _mm_or_si128(lens, _mm_slli_epi16::<8>(lens));
        let is_digit = _mm_cmpgt_epi8(lens, _mm_set1_epi16(0x1011));
        let digits = _mm_and_si128(_mm_sub_epi8(bytes, _mm_set1_epi8(0x30)), is_digit);
        let mut fronts = [0_u16; GROUP];
        store(&mut fronts, 0, _mm_maddubs_epi16(digits, _mm_set1_epi16(0x010a)));
        for (value, front) in values.iter_mut().zip(fronts) {
            *value += u64::from(front) * 10_000_000_000_000_000;
        }
    }
    let mut kept = 0;
    for (line, value) in values.into_iter().enumerate() {
        let value = value.cast_signed();
        let is_hit = constants.divisor.divides(value) as u32 & wanted >> line;
        let sign = lines.signs.map_or(0, |signs| i64::from(signs[line]));
        numbers[kept % GROUP] = (value ^ sign) - sign;
        kept += is_hit as usize;
    }
    Some(kept)
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
