//! The stages with vectors of 64 bytes: AVX-512 with VBMI2, Intel since Ice Lake, AMD since Zen 4.
//!
//! The macro `avx512` adds the features to each function. Tests compile this file a second time, without features and
//! with intrinsics in plain Rust, as most machines lack them.

#![expect(
    unsafe_code,
    reason = "vector loads and stores, and calls that need a processor's features"
)]

avx512!(intrinsics);

use super::{
    BLOCK, Batch, Divisor, GROUP, Group, Handler, InstructionSet, LINES, LOOK_BACK, NumberDecoder,
    Queue, SAFE_DIGITS, SHORT, ShortLines, Window,
};

/// The proof that the processor has the features that this module needs.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Avx512(());

impl Avx512 {
    /// Checks the features of the processor. The standard library caches the answer.
    pub(in super::super) fn detect() -> Option<Avx512> {
        avx512!(is_present).then_some(Avx512(()))
    }

    /// Decodes in blocks: see [`decode_blocks`](super::decode_blocks).
    pub(in super::super) fn decode<V: Handler<NumberDecoder>>(
        self,
        decoder: &NumberDecoder,
        region: &[u8],
        start: usize,
        batch: &mut Batch<'_, V>,
    ) -> (u64, usize) {
        // SAFETY: an `Avx512` exists only if `detect` has found the features.
        unsafe { decode(self, decoder, region, start, batch) }
    }
}

impl InstructionSet for Avx512 {
    type Constants = Constants;

    #[inline(always)]
    fn prepare(self, divisor: Divisor, delimiter: u8) -> Constants {
        // SAFETY: an `Avx512` exists only if `detect` has found the features.
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
        // SAFETY: as above.
        unsafe { positions(mask, at, ends) }
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
    delimiter: __m512i,
    short: ShortDivisor,
    long: LongDivisor,
}

/// A [`Divisor`] for 32 numbers of 16 bits at once.
struct ShortDivisor {
    inverse: __m512i,
    shift: __m512i,
    limit: __m512i,
}

/// A [`Divisor`] for eight numbers of 64 bits at once.
struct LongDivisor {
    inverse: __m512i,
    shift: __m512i,
    limit: __m512i,
}

/// Masks of the bytes that have at least one to four digits in front of them.
struct Runs {
    two: u64,
    three: u64,
    four: u64,
}

impl Runs {
    /// Makes the masks for bytes with at least one digit in front of them.
    #[inline]
    fn new(nondigits: u64, previous: u64) -> Runs {
        let is_digit = |back: u32| !(nondigits << back | previous >> (u64::BITS - back));
        let two = is_digit(2);
        let three = two & is_digit(3);
        let four = three & is_digit(4);
        Runs { two, three, four }
    }
}

/// The index of each byte of a vector.
static INDICES: [u8; BLOCK] = {
    let mut indices = [0; BLOCK];
    let mut index: u8 = 0;
    while (index as usize) < BLOCK {
        indices[index as usize] = index;
        index += 1;
    }
    indices
};

avx512! {
    fn decode<V: Handler<NumberDecoder>>(
        set: Avx512,
        decoder: &NumberDecoder,
        region: &[u8],
        start: usize,
        batch: &mut Batch<'_, V>,
    ) -> (u64, usize) {
        super::decode_blocks(set, decoder, region, start, batch)
    }

    #[inline]
    fn prepare(divisor: Divisor, delimiter: u8) -> Constants {
        let (inverse, shift, limit) = divisor.short();
        Constants {
            delimiter: _mm512_set1_epi8(delimiter.cast_signed()),
            short: ShortDivisor {
                inverse: _mm512_set1_epi16(inverse.cast_signed()),
                shift: _mm512_set1_epi16(shift.cast_signed()),
                limit: _mm512_set1_epi16(limit.cast_signed()),
            },
            long: LongDivisor {
                inverse: _mm512_set1_epi64(divisor.inverse.cast_signed()),
                shift: _mm512_set1_epi64(i64::from(divisor.shift)),
                limit: _mm512_set1_epi64(divisor.limit.cast_signed()),
            },
        }
    }

    #[inline]
    fn masks(constants: &Constants, block: &[u8; BLOCK]) -> (u64, u64) {
        let bytes = load(block, 0);
        let delimiters = _mm512_cmpeq_epi8_mask(bytes, constants.delimiter);
        let digits = _mm512_sub_epi8(bytes, _mm512_set1_epi8(0x30));
        (delimiters, _mm512_cmpgt_epu8_mask(digits, _mm512_set1_epi8(9)) & !delimiters)
    }

    #[inline]
    fn find(block: &[u8; BLOCK], byte: u8) -> u64 {
        _mm512_cmpeq_epi8_mask(load(block, 0), _mm512_set1_epi8(byte.cast_signed()))
    }

    #[inline]
    fn decode_short(
        constants: &Constants,
        window: &Window,
        lines: &ShortLines,
        numbers: &mut [i64; LINES],
    ) -> usize {
        let ends = lines.ends;
        let runs = Runs::new(lines.nondigits, lines.previous);
        let zero = _mm512_set1_epi8(0x30);
        let tens = _mm512_broadcast_i32x4(_mm_setr_epi8(
            0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 0, 0, 0, 0, 0, 0,
        ));
        // At the end of each line: its last digit, its second last digit, and so on, or 0 if it has fewer.
        let ones_digit = _mm512_sub_epi8(load(window, SHORT - 1), zero);
        let tens_digit = _mm512_maskz_sub_epi8(runs.two, load(window, SHORT - 2), zero);
        let hundreds_digit = _mm512_maskz_sub_epi8(runs.three, load(window, SHORT - 3), zero);
        let thousands_digit = _mm512_maskz_sub_epi8(runs.four, load(window, SHORT - 4), zero);
        let low = _mm512_add_epi8(ones_digit, _mm512_shuffle_epi8(tens, tens_digit));
        let high = _mm512_add_epi8(hundreds_digit, _mm512_shuffle_epi8(tens, thousands_digit));
        // The bytes at the ends, compressed. There are at most `LINES` of them, so half a vector holds all.
        let low = _mm512_castsi512_si256(_mm512_maskz_compress_epi8(ends, low));
        let high = _mm512_castsi512_si256(_mm512_maskz_compress_epi8(ends, high));
        let values = _mm512_add_epi16(
            _mm512_cvtepu8_epi16(low),
            _mm512_mullo_epi16(_mm512_cvtepu8_epi16(high), _mm512_set1_epi16(100)),
        );
        let hits = divides_short(&constants.short, values) & _bzhi_u32(u32::MAX, ends.count_ones());
        #[expect(clippy::cast_possible_truncation, reason = "at most `LINES` ends, so as many bits")]
        let negatives = _pext_u64(lines.negatives, ends) as u32;
        let values = _mm512_mask_sub_epi16(values, negatives, _mm512_set1_epi16(0), values);
        let values = _mm512_maskz_compress_epi16(hits, values);

        let count = hits.count_ones() as usize;
        store_widened(&mut numbers[..8], _mm512_castsi512_si128(values));
        if count > 8 {
            store_widened(&mut numbers[8..16], _mm512_extracti32x4_epi32::<1>(values));
            store_widened(&mut numbers[16..24], _mm512_extracti32x4_epi32::<2>(values));
            store_widened(&mut numbers[24..], _mm512_extracti32x4_epi32::<3>(values));
        }
        count
    }

    /// Returns a mask of the numbers that are multiples of the divisor.
    #[inline]
    fn divides_short(divisor: &ShortDivisor, numbers: __m512i) -> u32 {
        let product = _mm512_mullo_epi16(numbers, divisor.inverse);
        let rotated = _mm512_shrdv_epi16(product, product, divisor.shift);
        _mm512_cmple_epu16_mask(rotated, divisor.limit)
    }

    #[inline]
    fn positions(mask: u64, at: u32, ends: &mut [u32; BLOCK]) {
        let places = _mm512_maskz_compress_epi8(mask, load(&INDICES, 0));
        let block = _mm512_set1_epi32(at.cast_signed());
        let count = mask.count_ones() as usize;
        for (number, ends) in ends.chunks_exact_mut(16).enumerate().take(count.div_ceil(16)) {
            let places = match number {
                0 => _mm512_castsi512_si128(places),
                1 => _mm512_extracti32x4_epi32::<1>(places),
                2 => _mm512_extracti32x4_epi32::<2>(places),
                _ => _mm512_extracti32x4_epi32::<3>(places),
            };
            // The entries after the last bit get the start of the block.
            let positions = _mm512_add_epi32(_mm512_cvtepu8_epi32(places), block);
            // SAFETY: the store writes the 16 numbers of four bytes of `ends` and needs no alignment.
            unsafe { _mm512_storeu_si512(ends.as_mut_ptr().cast(), positions) };
        }
    }

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

    #[inline]
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
        let number = |at: usize| {
            _mm256_set1_epi32(i32::try_from(at).expect("the region is shorter"))
        };
        let outside = _mm256_cmplt_epu32_mask(ends, number(LOOK_BACK))
            | _mm256_cmpgt_epu32_mask(ends, number(region.len()));
        assert_eq!(outside, 0, "an end is outside of the region");
        let one = _mm256_set1_epi32(1);
        let lens = _mm256_sub_epi32(_mm256_sub_epi32(ends, previous), one);
        let lens = _mm256_mask_sub_epi32(lens, lines.returned, lens, one);
        let lens = _mm256_mask_sub_epi32(lens, lines.negatives, lens, one);
        let wanted = u8::MAX >> (GROUP - count);
        if _mm256_cmpgt_epu32_mask(lens, number(SAFE_DIGITS)) & wanted != 0 {
            return None;
        }
        // An empty line is a heartbeat.
        let wanted = wanted & _mm256_test_epi32_mask(lens, lens);
        let values = values(region, lines.ends, lens);
        let hits = divides_long(&constants.long, values) & wanted;
        let zero = _mm512_set1_epi64(0);
        let values = _mm512_mask_sub_epi64(values, lines.negatives, zero, values);
        // SAFETY: the store writes eight numbers of eight bytes and needs no alignment.
        unsafe {
            let kept = _mm512_maskz_compress_epi64(hits, values);
            _mm512_storeu_si512(numbers.as_mut_ptr().cast(), kept);
        }
        Some(hits.count_ones() as usize)
    }

    /// Returns the numbers of the lines that end at `ends` and have `lens` digits, at most [`SAFE_DIGITS`]. Each end
    /// must be at least [`LOOK_BACK`] and within the region.
    #[inline]
    fn values(region: &[u8], ends: &[u32; GROUP], lens: __m256i) -> __m512i {
        // The length of a line in each byte of its lane.
        let lens = _mm256_mullo_epi32(lens, _mm256_set1_epi32(0x0101_0101));
        // The last sixteen bytes of the even lines, and of the odd ones. A byte is a digit of its line if its
        // distance from the end is less than the length. Pairs of digits become numbers below 100. Pairs of
        // those become numbers below 10^4, and then below 10^8.
        let from_end = _mm512_broadcast_i32x4(_mm_setr_epi8(
            15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0,
        ));
        let fours = |lines: [usize; 4], of_line| {
            let bytes = load_lasts(region, lines.map(|line| ends[line]));
            let lens = _mm512_permutexvar_epi32(of_line, _mm512_castsi256_si512(lens));
            let is_digit = _mm512_cmplt_epu8_mask(from_end, lens);
            let ones = _mm512_maskz_sub_epi8(is_digit, bytes, _mm512_set1_epi8(0x30));
            let pairs = _mm512_maddubs_epi16(ones, _mm512_set1_epi16(0x010a));
            _mm512_madd_epi16(pairs, _mm512_set1_epi32(0x0001_0064))
        };
        let even = _mm512_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6);
        let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        let fours = _mm512_packus_epi32(fours([0, 2, 4, 6], even), fours([1, 3, 5, 7], odd));
        // The packing has restored the order of the lines. Each becomes two numbers below 10^8.
        let eights = _mm512_madd_epi16(fours, _mm512_set1_epi32(0x0001_2710));
        let upper = _mm512_mul_epu32(eights, _mm512_set1_epi64(100_000_000));
        let lower = _mm512_srli_epi64::<32>(eights);
        // The four bytes at the next lower indices, in the same way.
        let [a, b, c, d, e, f, g, h] = ends.map(|end| load_front(region, end));
        let bytes = _mm256_setr_epi32(a, b, c, d, e, f, g, h);
        let is_digit = _mm256_cmplt_epu8_mask(_mm256_set1_epi32(0x1011_1213), lens);
        let ones = _mm256_maskz_sub_epi8(is_digit, bytes, _mm256_set1_epi8(0x30));
        let pairs = _mm256_maddubs_epi16(ones, _mm256_set1_epi16(0x010a));
        let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x0001_0064));
        let fronts = _mm512_cvtepu32_epi64(fours);
        let front = _mm512_mullo_epi64(fronts, _mm512_set1_epi64(10_000_000_000_000_000));
        _mm512_add_epi64(front, _mm512_add_epi64(upper, lower))
    }

    /// Loads the sixteen bytes at the indices below each of these ends.
    #[inline]
    fn load_lasts(region: &[u8], ends: [u32; 4]) -> __m512i {
        let [a, b, c, d] = ends.map(|end| {
            // SAFETY: the end is at least `LOOK_BACK`, which is more than 16, and within the region.
            unsafe { _mm_loadu_si128(super::below(region, end, 16).cast()) }
        });
        let ab = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(a), b);
        let cd = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(c), d);
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(ab), cd)
    }

    /// Loads the four bytes at the indices below those of [`load_lasts`].
    #[inline]
    fn load_front(region: &[u8], end: u32) -> i32 {
        // SAFETY: the end is at least `LOOK_BACK`, which is more than 20, and within the region.
        unsafe { super::below(region, end, 20).cast::<i32>().read_unaligned() }
    }

    /// Returns a mask of the numbers that are multiples of the divisor. None of them is negative.
    #[inline]
    fn divides_long(divisor: &LongDivisor, numbers: __m512i) -> u8 {
        let product = _mm512_mullo_epi64(numbers, divisor.inverse);
        _mm512_cmple_epu64_mask(_mm512_rorv_epi64(product, divisor.shift), divisor.limit)
    }

    #[inline]
    fn load(bytes: &[u8], at: usize) -> __m512i {
        let bytes: &[u8; BLOCK] = bytes[at..].first_chunk().expect("whole blocks only");
        // SAFETY: the load reads 64 bytes and needs no alignment.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    /// Stores eight numbers of 16 bits as eight of 64.
    #[inline]
    fn store_widened(numbers: &mut [i64], values: __m128i) {
        let numbers: &mut [i64; 8] = numbers.try_into().expect("eight numbers");
        // SAFETY: the store writes eight numbers of eight bytes and needs no alignment.
        unsafe { _mm512_storeu_si512(numbers.as_mut_ptr().cast(), _mm512_cvtepi16_epi64(values)) };
    }
}
