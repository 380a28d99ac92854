//! Decodes regions on processors with 64-byte vectors.
//!
//! It needs AVX-512 with VBMI2: Intel since Ice Lake, AMD since Zen 4.
//!
//! A region is decoded in blocks of 64 bytes. A few comparisons find the delimiters of a block, and whether
//! all other bytes are digits. The lines that end in the block are then decoded
//!
//! - all at once, if none has more than four digits,
//! - eight at a time, once enough of them are queued, if some are longer,
//! - byte by byte, if one of them has any other byte.
//!
//! A mask has one bit for each byte of a block. The bit of the first byte is the lowest.

#![expect(
    unsafe_code,
    reason = "vector loads and stores, and calls that need a processor's features"
)]

use std::arch::x86_64::*;

use super::{Batch, Divisor, Handler, NumberDecoder, SAFE_DIGITS};

/// The bytes of a vector and of a block.
const BLOCK: usize = 64;

/// The lowest index of the first block: 32 bytes, more than the digits that are loaded below the end of a line.
pub(super) const LOOK_BACK: usize = 32;

/// The longest region in bytes: 4 GiB - 1, as positions have 32 bits.
pub(super) const MAX_REGION: usize = u32::MAX as usize;

/// The most lines with a digit that end in a block: 32, as each has a digit and a delimiter.
const LINES: usize = BLOCK / 2;

/// The proof that the processor has the features that this module needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vector(());

impl Vector {
    /// Checks the features of the processor. The standard library caches the answer.
    pub(super) fn detect() -> Option<Vector> {
        let features = [
            is_x86_feature_detected!("avx512bw"),
            is_x86_feature_detected!("avx512dq"),
            is_x86_feature_detected!("avx512vl"),
            is_x86_feature_detected!("avx512vbmi2"),
            is_x86_feature_detected!("bmi1"),
            is_x86_feature_detected!("bmi2"),
            is_x86_feature_detected!("lzcnt"),
            is_x86_feature_detected!("popcnt"),
        ];
        features.into_iter().all(|is_present| is_present).then_some(Vector(()))
    }

    /// Decodes the lines that begin at `start` or later and end in a whole block. Returns their number and the
    /// start of the next line.
    ///
    /// # Panics
    ///
    /// Panics if `start` is less than [`LOOK_BACK`], or the region longer than [`MAX_REGION`].
    pub(super) fn decode<V: Handler<NumberDecoder>>(
        self,
        decoder: &NumberDecoder,
        region: &[u8],
        start: usize,
        batch: &mut Batch<'_, V>,
    ) -> (u64, usize) {
        assert!(start >= LOOK_BACK && region.len() <= MAX_REGION);
        if region.len() < start + BLOCK {
            return (0, start);
        }
        // SAFETY: a `Vector` exists only if `detect` has found the features.
        unsafe { decode_blocks(decoder, region, start, batch) }
    }
}

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vbmi2,bmi1,bmi2,lzcnt,popcnt")]
fn decode_blocks<V: Handler<NumberDecoder>>(
    decoder: &NumberDecoder,
    region: &[u8],
    start: usize,
    batch: &mut Batch<'_, V>,
) -> (u64, usize) {
    let delimiter = _mm512_set1_epi8(decoder.framing.delimiter().cast_signed());
    let short_divisor = ShortDivisor::new(decoder.divisor);
    let mut long_lines = LongLines::new(decoder, region, start);
    let mut lines = 0;
    // Whether all bytes of the unfinished line so far are digits.
    let mut is_plain = true;
    // The delimiters of the previous block. The byte in front of the first block is a delimiter.
    let mut previous = 1 << (BLOCK - 1);
    let mut at = start;
    while at + BLOCK <= region.len() {
        let bytes = load(region, at);
        let delimiters = _mm512_cmpeq_epi8_mask(bytes, delimiter);
        let digits = _mm512_sub_epi8(bytes, _mm512_set1_epi8(0x30));
        let others = _mm512_cmpgt_epu8_mask(digits, _mm512_set1_epi8(9)) & !delimiters;
        let count = delimiters.count_ones();
        lines += u64::from(count);
        if is_plain && others == 0 {
            let runs = Runs::new(delimiters, previous);
            if count >= FEWEST_SHORT && delimiters & runs.five == 0 {
                note(Path::AtOnce);
                long_lines.decode_queued(batch);
                decode_short(region, at, delimiters, &runs, &short_divisor, batch);
                long_lines.skip_to(last(delimiters, at));
            } else {
                note(Path::InEights);
                long_lines.push(delimiters, at, batch);
            }
        } else {
            note(Path::ByteByByte);
            long_lines.decode_queued(batch);
            if delimiters != 0 {
                let end = last(delimiters, at);
                decoder.decode_fallback(&region[long_lines.start()..=end], batch);
                long_lines.skip_to(end);
            }
            // The bytes at higher indices than the last delimiter belong to the next line.
            let tail = delimiters.leading_zeros();
            is_plain |= delimiters != 0;
            is_plain &= tail == 0 || others >> (u64::BITS - tail) == 0;
        }
        previous = delimiters;
        at += BLOCK;
    }
    long_lines.decode_queued(batch);
    (lines, long_lines.start())
}

/// The path of a block, and of eight lines in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    AtOnce,
    InEights,
    ByteByByte,
    /// The path of eight lines of an [`InEights`](Path::InEights) block if one has more than [`SAFE_DIGITS`].
    NotInEights,
}

/// Records a path for the tests, as the handler does not see it.
#[inline]
fn note(path: Path) {
    #[cfg(test)]
    tests::PATHS.with_borrow_mut(|paths| paths.push(path));
    _ = path;
}

/// Returns the position of the last delimiter of the block at `at`, which has one.
#[inline]
fn last(delimiters: u64, at: usize) -> usize {
    at + BLOCK - 1 - delimiters.leading_zeros() as usize
}

/// The fewest delimiters of a block whose lines have at most four digits: 12, one in each five bytes.
const FEWEST_SHORT: u32 = 12;

/// Masks of the bytes whose line has at least one to five bytes at lower indices.
struct Runs {
    one: u64,
    two: u64,
    three: u64,
    four: u64,
    five: u64,
}

impl Runs {
    #[inline]
    fn new(delimiters: u64, previous: u64) -> Runs {
        let no_delimiter = |back: u32| !(delimiters << back | previous >> (u64::BITS - back));
        let one = no_delimiter(1);
        let two = one & no_delimiter(2);
        let three = two & no_delimiter(3);
        let four = three & no_delimiter(4);
        let five = four & no_delimiter(5);
        Runs { one, two, three, four, five }
    }
}

/// Decodes all lines that end in the block at `at`. Each has at most four bytes, all of them digits.
#[inline]
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vbmi2,bmi1,bmi2,lzcnt,popcnt")]
fn decode_short<V: Handler<NumberDecoder>>(
    region: &[u8],
    at: usize,
    delimiters: u64,
    runs: &Runs,
    divisor: &ShortDivisor,
    batch: &mut Batch<'_, V>,
) {
    // An empty line is a heartbeat.
    let ends = delimiters & runs.one;
    let zero = _mm512_set1_epi8(0x30);
    let tens = _mm512_broadcast_i32x4(_mm_setr_epi8(
        0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 0, 0, 0, 0, 0, 0,
    ));
    // At the end of each line: its last digit, its second last digit, and so on, or 0 if it has fewer.
    let ones_digit = _mm512_sub_epi8(load(region, at - 1), zero);
    let tens_digit = _mm512_maskz_sub_epi8(runs.two, load(region, at - 2), zero);
    let hundreds_digit = _mm512_maskz_sub_epi8(runs.three, load(region, at - 3), zero);
    let thousands_digit = _mm512_maskz_sub_epi8(runs.four, load(region, at - 4), zero);
    let low = _mm512_add_epi8(ones_digit, _mm512_shuffle_epi8(tens, tens_digit));
    let high = _mm512_add_epi8(hundreds_digit, _mm512_shuffle_epi8(tens, thousands_digit));
    // The bytes at the ends, compressed. There are at most `LINES` of them, so half a vector holds all.
    let low = _mm512_castsi512_si256(_mm512_maskz_compress_epi8(ends, low));
    let high = _mm512_castsi512_si256(_mm512_maskz_compress_epi8(ends, high));
    let values = _mm512_add_epi16(
        _mm512_cvtepu8_epi16(low),
        _mm512_mullo_epi16(_mm512_cvtepu8_epi16(high), _mm512_set1_epi16(100)),
    );
    let hits = divisor.divides(values) & _bzhi_u32(u32::MAX, ends.count_ones());
    let values = _mm512_maskz_compress_epi16(hits, values);

    let spare = batch.spare::<LINES>();
    let count = hits.count_ones() as usize;
    store_widened(&mut spare[..8], _mm512_castsi512_si128(values));
    if count > 8 {
        store_widened(&mut spare[8..16], _mm512_extracti32x4_epi32::<1>(values));
        store_widened(&mut spare[16..24], _mm512_extracti32x4_epi32::<2>(values));
        store_widened(&mut spare[24..], _mm512_extracti32x4_epi32::<3>(values));
    }
    batch.keep(count);
}

/// Lines of digits alone, queued until many of them are decoded together.
struct LongLines<'a> {
    decoder: &'a NumberDecoder,
    divisor: LongDivisor,
    region: &'a [u8],
    /// The positions of delimiters: `1..=count` end the queued lines, and 0 ends the line in front of them.
    /// Later entries are stale.
    ///
    /// Invariant: each is at least `LOOK_BACK - 1` and less than the length of the region. From index 1 on,
    /// each is at least `LOOK_BACK`.
    ends: [u32; 1 + QUEUED + BLOCK],
    /// The number of queued lines. Invariant: less than `QUEUED` between two calls.
    count: usize,
}

/// The numbers of 64 bits that fit a vector.
const LONG: usize = BLOCK / 8;

/// The queued lines at which all are decoded: 256, many more than fit a vector.
///
/// A processor stalls on a load of bytes that it has just stored in pieces of another size.
const QUEUED: usize = 256;

impl<'a> LongLines<'a> {
    /// Makes an empty queue for the lines that begin at `start` or later.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512dq,avx512vl")]
    fn new(decoder: &'a NumberDecoder, region: &'a [u8], start: usize) -> LongLines<'a> {
        let previous_end = u32::try_from(start - 1).expect("the region is shorter");
        let divisor = LongDivisor::new(decoder.divisor);
        // The start of the first block is a valid position for the entries that are not stored yet.
        let mut ends = [previous_end + 1; 1 + QUEUED + BLOCK];
        ends[0] = previous_end;
        LongLines { decoder, divisor, region, ends, count: 0 }
    }

    /// Returns the start of the first queued line, or of the unfinished line if none is queued.
    #[inline]
    fn start(&self) -> usize {
        self.ends[0] as usize + 1
    }

    /// Continues with the line after the delimiter at `end`. No line may be queued.
    #[inline]
    fn skip_to(&mut self, end: usize) {
        debug_assert!(self.count == 0 && (LOOK_BACK - 1..self.region.len()).contains(&end));
        self.ends[0] = u32::try_from(end).expect("the region is shorter");
    }

    /// Queues the lines that end at the delimiters of the block at `at`.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vbmi2,popcnt")]
    fn push<V: Handler<NumberDecoder>>(
        &mut self,
        delimiters: u64,
        at: usize,
        batch: &mut Batch<'_, V>,
    ) {
        let places = _mm512_maskz_compress_epi8(delimiters, load(&INDICES, 0));
        let block =
            _mm512_set1_epi32(u32::try_from(at).expect("the region is shorter").cast_signed());
        let to = &mut self.ends[1 + self.count..][..BLOCK];
        let count = delimiters.count_ones() as usize;
        for (number, to) in to.chunks_exact_mut(16).enumerate().take(count.div_ceil(16)) {
            let places = match number {
                0 => _mm512_castsi512_si128(places),
                1 => _mm512_extracti32x4_epi32::<1>(places),
                2 => _mm512_extracti32x4_epi32::<2>(places),
                _ => _mm512_extracti32x4_epi32::<3>(places),
            };
            // The entries after the last delimiter get the start of the block.
            let ends = _mm512_add_epi32(_mm512_cvtepu8_epi32(places), block);
            // SAFETY: the store writes the 16 numbers of four bytes of `to` and needs no alignment.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), ends) };
        }
        self.count += count;
        if self.count >= QUEUED {
            self.decode_queued(batch);
        }
    }

    /// Decodes all queued lines.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,popcnt")]
    fn decode_queued<V: Handler<NumberDecoder>>(&mut self, batch: &mut Batch<'_, V>) {
        if self.count > 0 {
            self.decode_groups(batch);
        }
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,popcnt")]
    fn decode_groups<V: Handler<NumberDecoder>>(&mut self, batch: &mut Batch<'_, V>) {
        let mut first = 0;
        while first < self.count {
            let count = LONG.min(self.count - first);
            self.decode(first, count, batch);
            first += count;
        }
        self.ends[0] = self.ends[self.count];
        self.count = 0;
    }

    /// Decodes `count` queued lines, at most [`LONG`], from the one with index `first`.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,popcnt")]
    fn decode<V: Handler<NumberDecoder>>(
        &self,
        first: usize,
        count: usize,
        batch: &mut Batch<'_, V>,
    ) {
        let previous: &[u32; LONG] = self.ends[first..].first_chunk().expect("the array is longer");
        let ends: &[u32; LONG] = self.ends[first + 1..].first_chunk().expect("the array is longer");
        // SAFETY: each load reads eight numbers of four bytes and needs no alignment.
        let (previous, ends_v) = unsafe {
            (_mm256_loadu_si256(previous.as_ptr().cast()), _mm256_loadu_si256(ends.as_ptr().cast()))
        };
        let lens = _mm256_sub_epi32(_mm256_sub_epi32(ends_v, previous), _mm256_set1_epi32(1));
        let wanted = u8::MAX >> (LONG - count);
        let safe = i32::try_from(SAFE_DIGITS).expect("a small constant");
        let unsafe_lens = _mm256_cmpgt_epu32_mask(lens, _mm256_set1_epi32(safe));
        if unsafe_lens & wanted != 0 {
            note(Path::NotInEights);
            let start = self.ends[first] as usize + 1;
            let end = self.ends[first + count] as usize + 1;
            self.decoder.decode_fallback(&self.region[start..end], batch);
            return;
        }
        // An empty line is a heartbeat.
        let wanted = wanted & _mm256_test_epi32_mask(lens, lens);
        let values = self.values(ends, lens);
        let hits = self.divisor.divides(values) & wanted;
        let spare = batch.spare::<LONG>();
        // SAFETY: the store writes eight numbers of eight bytes and needs no alignment.
        unsafe {
            let kept = _mm512_maskz_compress_epi64(hits, values);
            _mm512_storeu_si512(spare.as_mut_ptr().cast(), kept);
        }
        batch.keep(hits.count_ones() as usize);
    }

    /// Returns the numbers of the lines that end at `ends` and have `lens` digits, at most [`SAFE_DIGITS`].
    #[inline]
    #[target_feature(enable = "avx512bw,avx512dq,avx512vl")]
    fn values(&self, ends: &[u32; LONG], lens: __m256i) -> __m512i {
        // The length of a line in each byte of its lane.
        let lens = _mm256_mullo_epi32(lens, _mm256_set1_epi32(0x0101_0101));
        // The last sixteen bytes of the even lines, and of the odd ones. A byte is a digit of its line if its
        // distance from the end is less than the length. Pairs of digits become numbers below 100. Pairs of
        // those become numbers below 10^4, and then below 10^8.
        let from_end = _mm512_broadcast_i32x4(_mm_setr_epi8(
            15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0,
        ));
        let fours = |lines: [usize; 4], of_line| {
            let bytes = self.load_lasts(lines.map(|line| ends[line]));
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
        let [a, b, c, d, e, f, g, h] = ends.map(|end| self.load_front(end));
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
    #[target_feature(enable = "avx512bw,avx512dq,avx512vl")]
    fn load_lasts(&self, ends: [u32; 4]) -> __m512i {
        let [a, b, c, d] = ends.map(|end| {
            debug_assert!((LOOK_BACK..self.region.len()).contains(&(end as usize)));
            // SAFETY: by the invariant of `ends`, `end` is at least `LOOK_BACK`, which is more than 16, and
            // less than the length of the region.
            unsafe { _mm_loadu_si128(self.region.as_ptr().add(end as usize - 16).cast()) }
        });
        let ab = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(a), b);
        let cd = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(c), d);
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(ab), cd)
    }

    /// Loads the four bytes at the indices below those of [`load_lasts`](Self::load_lasts).
    #[inline]
    fn load_front(&self, end: u32) -> i32 {
        debug_assert!((LOOK_BACK..self.region.len()).contains(&(end as usize)));
        // SAFETY: by the invariant of `ends`, `end` is at least `LOOK_BACK`, which is more than 20, and less
        // than the length of the region.
        unsafe { self.region.as_ptr().add(end as usize - 20).cast::<i32>().read_unaligned() }
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

/// A [`Divisor`] for eight numbers of 64 bits at once.
struct LongDivisor {
    inverse: __m512i,
    shift: __m512i,
    limit: __m512i,
}

impl LongDivisor {
    #[inline]
    #[target_feature(enable = "avx512bw,avx512dq,avx512vl")]
    fn new(divisor: Divisor) -> LongDivisor {
        LongDivisor {
            inverse: _mm512_set1_epi64(divisor.inverse.cast_signed()),
            shift: _mm512_set1_epi64(i64::from(divisor.shift)),
            limit: _mm512_set1_epi64(divisor.limit.cast_signed()),
        }
    }

    /// Returns a mask of the numbers that are multiples of the divisor. None of them is negative.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512dq,avx512vl")]
    fn divides(&self, numbers: __m512i) -> u8 {
        let product = _mm512_mullo_epi64(numbers, self.inverse);
        _mm512_cmple_epu64_mask(_mm512_rorv_epi64(product, self.shift), self.limit)
    }
}

/// A [`Divisor`] for 32 numbers of 16 bits at once.
struct ShortDivisor {
    inverse: __m512i,
    shift: __m512i,
    limit: __m512i,
}

impl ShortDivisor {
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vbmi2")]
    fn new(divisor: Divisor) -> ShortDivisor {
        let (inverse, shift, limit) = divisor.short();
        ShortDivisor {
            inverse: _mm512_set1_epi16(inverse.cast_signed()),
            shift: _mm512_set1_epi16(shift.cast_signed()),
            limit: _mm512_set1_epi16(limit.cast_signed()),
        }
    }

    /// Returns a mask of the numbers that are multiples of the divisor.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vbmi2")]
    fn divides(&self, numbers: __m512i) -> u32 {
        let product = _mm512_mullo_epi16(numbers, self.inverse);
        let rotated = _mm512_shrdv_epi16(product, product, self.shift);
        _mm512_cmple_epu16_mask(rotated, self.limit)
    }
}

#[inline]
#[target_feature(enable = "avx512bw")]
fn load(region: &[u8], at: usize) -> __m512i {
    let bytes: &[u8; BLOCK] = region[at..].first_chunk().expect("whole blocks only");
    // SAFETY: the load reads 64 bytes and needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Stores eight numbers of 16 bits as eight of 64.
#[inline]
#[target_feature(enable = "avx512bw")]
fn store_widened(numbers: &mut [i64], values: __m128i) {
    let numbers: &mut [i64; 8] = numbers.try_into().expect("eight numbers");
    // SAFETY: the store writes eight numbers of eight bytes and needs no alignment.
    unsafe { _mm512_storeu_si512(numbers.as_mut_ptr().cast(), _mm512_cvtepu16_epi64(values)) };
}

#[cfg(test)]
mod tests;
