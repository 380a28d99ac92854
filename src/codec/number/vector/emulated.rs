//! The intrinsics of the AVX-512 path in plain Rust, by the names and with the results of `std::arch`.
//!
//! They check that path on any processor. A machine with AVX-512 runs the same tests with both.

#![expect(unsafe_code, reason = "loads and stores take pointers, as in `std::arch`")]
// The names are those of `std::arch`, and there a number is any bits of its size.
#![allow(
    non_camel_case_types,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::too_many_arguments,
    clippy::undocumented_unsafe_blocks,
    clippy::missing_safety_doc
)]

/// A vector of bytes. The first is the lowest.
#[derive(Clone, Copy)]
pub(super) struct Bytes<const SIZE: usize>([u8; SIZE]);

pub(super) type __m128i = Bytes<16>;
pub(super) type __m256i = Bytes<32>;
pub(super) type __m512i = Bytes<64>;

/// A number in a vector.
trait Lane: Copy {
    const SIZE: usize;
    fn from_bytes(bytes: &[u8]) -> Self;
    fn write_to(self, bytes: &mut [u8]);
}

macro_rules! lanes {
    ($($number:ty),+) => {$(
        impl Lane for $number {
            const SIZE: usize = size_of::<$number>();
            fn from_bytes(bytes: &[u8]) -> $number {
                <$number>::from_le_bytes(bytes.try_into().expect("bytes of one number"))
            }
            fn write_to(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }
        }
    )+};
}

lanes!(u8, i8, u16, i16, u32, i32, u64, i64);

impl<const SIZE: usize> Bytes<SIZE> {
    fn get<T: Lane>(self, lane: usize) -> T {
        T::from_bytes(&self.0[lane * T::SIZE..][..T::SIZE])
    }

    fn from_fn<T: Lane>(lane: impl FnMut(usize) -> T) -> Bytes<SIZE> {
        let mut bytes = Bytes([0; SIZE]);
        let lanes = (0..SIZE / T::SIZE).map(lane);
        for (to, lane) in bytes.0.chunks_exact_mut(T::SIZE).zip(lanes) {
            lane.write_to(to);
        }
        bytes
    }

    fn zip<T: Lane>(self, other: Bytes<SIZE>, number: impl Fn(T, T) -> T) -> Bytes<SIZE> {
        Bytes::from_fn(|lane| number(self.get(lane), other.get(lane)))
    }

    fn mask<T: Lane>(self, other: Bytes<SIZE>, is_set: impl Fn(T, T) -> bool) -> u64 {
        let bit = |lane| u64::from(is_set(self.get(lane), other.get(lane))) << lane;
        (0..SIZE / T::SIZE).map(bit).sum()
    }

    /// Takes the lanes of the mask from another vector.
    fn replace<T: Lane>(self, mask: u64, other: Bytes<SIZE>) -> Bytes<SIZE> {
        let source = |lane| if mask >> lane & 1 == 1 { other } else { self };
        Bytes::from_fn(|lane| source(lane).get::<T>(lane))
    }

    /// Moves the lanes of the mask to the lowest indices, and sets all others to zero.
    fn compress<T: Lane + Default>(self, mask: u64) -> Bytes<SIZE> {
        let mut kept = (0..SIZE / T::SIZE).filter(|lane| mask >> lane & 1 == 1);
        Bytes::from_fn(|_| kept.next().map_or_else(T::default, |lane| self.get(lane)))
    }

    /// Makes wider numbers of the lowest lanes.
    fn widen<T: Lane, W: Lane, const TO: usize>(self, widen: impl Fn(T) -> W) -> Bytes<TO> {
        Bytes::from_fn(|lane| widen(self.get(lane)))
    }

    /// Takes the bytes from this index on, and zeros behind the last.
    fn part<const TO: usize>(self, from: usize) -> Bytes<TO> {
        Bytes::from_fn(|at| self.0.get(from + at).copied().unwrap_or(0_u8))
    }

    /// Replaces the upper half.
    fn with_upper<const HALF: usize>(self, upper: Bytes<HALF>) -> Bytes<SIZE> {
        Bytes::from_fn(|at| if at < HALF { self.0[at] } else { upper.0[at - HALF] })
    }

    /// Multiplies unsigned bytes by signed ones, and adds the products in pairs, with saturation.
    fn maddubs(self, other: Bytes<SIZE>) -> Bytes<SIZE> {
        let product = |at| i32::from(self.get::<u8>(at)) * i32::from(other.get::<i8>(at));
        Bytes::from_fn(|lane| {
            let sum = product(2 * lane) + product(2 * lane + 1);
            sum.clamp(i16::MIN.into(), i16::MAX.into()) as i16
        })
    }

    /// Multiplies numbers of 16 bits, and adds the products in pairs.
    fn madd(self, other: Bytes<SIZE>) -> Bytes<SIZE> {
        let product = |at| i32::from(self.get::<i16>(at)) * i32::from(other.get::<i16>(at));
        Bytes::from_fn(|lane| product(2 * lane).wrapping_add(product(2 * lane + 1)))
    }
}

pub(super) fn _mm512_set1_epi8(number: i8) -> __m512i {
    Bytes::from_fn(|_| number)
}
pub(super) fn _mm512_set1_epi16(number: i16) -> __m512i {
    Bytes::from_fn(|_| number)
}
pub(super) fn _mm512_set1_epi32(number: i32) -> __m512i {
    Bytes::from_fn(|_| number)
}
pub(super) fn _mm512_set1_epi64(number: i64) -> __m512i {
    Bytes::from_fn(|_| number)
}
pub(super) fn _mm256_set1_epi8(number: i8) -> __m256i {
    Bytes::from_fn(|_| number)
}
pub(super) fn _mm256_set1_epi16(number: i16) -> __m256i {
    Bytes::from_fn(|_| number)
}
pub(super) fn _mm256_set1_epi32(number: i32) -> __m256i {
    Bytes::from_fn(|_| number)
}

#[rustfmt::skip]
pub(super) fn _mm_setr_epi8(
    a: i8, b: i8, c: i8, d: i8, e: i8, f: i8, g: i8, h: i8,
    i: i8, j: i8, k: i8, l: i8, m: i8, n: i8, o: i8, p: i8,
) -> __m128i {
    let numbers = [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p];
    Bytes::from_fn(|lane| numbers[lane])
}
#[rustfmt::skip]
pub(super) fn _mm256_setr_epi32(
    a: i32, b: i32, c: i32, d: i32, e: i32, f: i32, g: i32, h: i32,
) -> __m256i {
    let numbers = [a, b, c, d, e, f, g, h];
    Bytes::from_fn(|lane| numbers[lane])
}
#[rustfmt::skip]
pub(super) fn _mm512_setr_epi32(
    a: i32, b: i32, c: i32, d: i32, e: i32, f: i32, g: i32, h: i32,
    i: i32, j: i32, k: i32, l: i32, m: i32, n: i32, o: i32, p: i32,
) -> __m512i {
    let numbers = [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p];
    Bytes::from_fn(|lane| numbers[lane])
}

pub(super) unsafe fn _mm_loadu_si128(from: *const __m128i) -> __m128i {
    unsafe { from.read_unaligned() }
}
pub(super) unsafe fn _mm256_loadu_si256(from: *const __m256i) -> __m256i {
    unsafe { from.read_unaligned() }
}
pub(super) unsafe fn _mm512_loadu_si512(from: *const __m512i) -> __m512i {
    unsafe { from.read_unaligned() }
}
pub(super) unsafe fn _mm512_storeu_si512(to: *mut __m512i, vector: __m512i) {
    unsafe { to.write_unaligned(vector) }
}

pub(super) fn _mm512_broadcast_i32x4(a: __m128i) -> __m512i {
    Bytes::from_fn(|lane| a.get::<u8>(lane % 16))
}
pub(super) fn _mm256_castsi128_si256(a: __m128i) -> __m256i {
    a.part(0)
}
pub(super) fn _mm512_castsi256_si512(a: __m256i) -> __m512i {
    a.part(0)
}
pub(super) fn _mm512_castsi512_si128(a: __m512i) -> __m128i {
    a.part(0)
}
pub(super) fn _mm512_castsi512_si256(a: __m512i) -> __m256i {
    a.part(0)
}
pub(super) fn _mm512_extracti32x4_epi32<const PART: i32>(a: __m512i) -> __m128i {
    a.part(16 * PART as usize)
}
pub(super) fn _mm256_inserti128_si256<const PART: i32>(a: __m256i, b: __m128i) -> __m256i {
    assert_eq!(PART, 1);
    a.with_upper(b)
}
pub(super) fn _mm512_inserti64x4<const PART: i32>(a: __m512i, b: __m256i) -> __m512i {
    assert_eq!(PART, 1);
    a.with_upper(b)
}

pub(super) fn _mm512_cvtepu8_epi16(a: __m256i) -> __m512i {
    a.widen(|number: u8| u16::from(number))
}
pub(super) fn _mm512_cvtepu8_epi32(a: __m128i) -> __m512i {
    a.widen(|number: u8| u32::from(number))
}
pub(super) fn _mm512_cvtepi16_epi64(a: __m128i) -> __m512i {
    a.widen(|number: i16| i64::from(number))
}
pub(super) fn _mm512_cvtepu32_epi64(a: __m256i) -> __m512i {
    a.widen(|number: u32| u64::from(number))
}

pub(super) fn _mm512_maskz_compress_epi8(mask: u64, a: __m512i) -> __m512i {
    a.compress::<u8>(mask)
}
pub(super) fn _mm512_maskz_compress_epi16(mask: u32, a: __m512i) -> __m512i {
    a.compress::<u16>(mask.into())
}
pub(super) fn _mm512_maskz_compress_epi64(mask: u8, a: __m512i) -> __m512i {
    a.compress::<u64>(mask.into())
}
pub(super) fn _mm512_permutexvar_epi32(indices: __m512i, a: __m512i) -> __m512i {
    Bytes::from_fn(|lane| a.get::<u32>(indices.get::<u32>(lane) as usize % 16))
}
pub(super) fn _mm512_shuffle_epi8(a: __m512i, indices: __m512i) -> __m512i {
    Bytes::from_fn(|at| match indices.get::<u8>(at) {
        0x80.. => 0,
        index => a.get::<u8>(at / 16 * 16 + usize::from(index % 16)),
    })
}
pub(super) fn _mm512_packus_epi32(a: __m512i, b: __m512i) -> __m512i {
    Bytes::from_fn(|lane| {
        let (from, first) = if lane % 8 < 4 { (a, lane) } else { (b, lane - 4) };
        let number: i32 = from.get(first / 8 * 4 + first % 8);
        number.clamp(0, u16::MAX.into()) as u16
    })
}

pub(super) fn _mm512_add_epi8(a: __m512i, b: __m512i) -> __m512i {
    a.zip(b, u8::wrapping_add)
}
pub(super) fn _mm512_add_epi16(a: __m512i, b: __m512i) -> __m512i {
    a.zip(b, u16::wrapping_add)
}
pub(super) fn _mm512_add_epi32(a: __m512i, b: __m512i) -> __m512i {
    a.zip(b, u32::wrapping_add)
}
pub(super) fn _mm512_add_epi64(a: __m512i, b: __m512i) -> __m512i {
    a.zip(b, u64::wrapping_add)
}
pub(super) fn _mm512_sub_epi8(a: __m512i, b: __m512i) -> __m512i {
    a.zip(b, u8::wrapping_sub)
}
pub(super) fn _mm256_sub_epi32(a: __m256i, b: __m256i) -> __m256i {
    a.zip(b, u32::wrapping_sub)
}
pub(super) fn _mm256_maskz_sub_epi8(mask: u32, a: __m256i, b: __m256i) -> __m256i {
    Bytes([0; _]).replace::<u8>(mask.into(), a.zip(b, u8::wrapping_sub))
}
pub(super) fn _mm512_maskz_sub_epi8(mask: u64, a: __m512i, b: __m512i) -> __m512i {
    Bytes([0; _]).replace::<u8>(mask, a.zip(b, u8::wrapping_sub))
}
pub(super) fn _mm256_mask_sub_epi32(source: __m256i, mask: u8, a: __m256i, b: __m256i) -> __m256i {
    source.replace::<u32>(mask.into(), a.zip(b, u32::wrapping_sub))
}
pub(super) fn _mm512_mask_sub_epi16(source: __m512i, mask: u32, a: __m512i, b: __m512i) -> __m512i {
    source.replace::<u16>(mask.into(), a.zip(b, u16::wrapping_sub))
}
pub(super) fn _mm512_mask_sub_epi64(source: __m512i, mask: u8, a: __m512i, b: __m512i) -> __m512i {
    source.replace::<u64>(mask.into(), a.zip(b, u64::wrapping_sub))
}
pub(super) fn _mm512_mullo_epi16(a: __m512i, b: __m512i) -> __m512i {
    a.zip(b, u16::wrapping_mul)
}
pub(super) fn _mm256_mullo_epi32(a: __m256i, b: __m256i) -> __m256i {
    a.zip(b, u32::wrapping_mul)
}
pub(super) fn _mm512_mullo_epi64(a: __m512i, b: __m512i) -> __m512i {
    a.zip(b, u64::wrapping_mul)
}
pub(super) fn _mm512_mul_epu32(a: __m512i, b: __m512i) -> __m512i {
    a.zip(b, |a: u64, b| u64::from(a as u32) * u64::from(b as u32))
}
pub(super) fn _mm256_maddubs_epi16(a: __m256i, b: __m256i) -> __m256i {
    a.maddubs(b)
}
pub(super) fn _mm512_maddubs_epi16(a: __m512i, b: __m512i) -> __m512i {
    a.maddubs(b)
}
pub(super) fn _mm256_madd_epi16(a: __m256i, b: __m256i) -> __m256i {
    a.madd(b)
}
pub(super) fn _mm512_madd_epi16(a: __m512i, b: __m512i) -> __m512i {
    a.madd(b)
}
pub(super) fn _mm512_srli_epi64<const COUNT: u32>(a: __m512i) -> __m512i {
    a.widen(|number: u64| number >> COUNT)
}
pub(super) fn _mm512_rorv_epi64(a: __m512i, counts: __m512i) -> __m512i {
    a.zip(counts, |number: u64, count| number.rotate_right(count as u32 % 64))
}
pub(super) fn _mm512_shrdv_epi16(low: __m512i, high: __m512i, counts: __m512i) -> __m512i {
    Bytes::from_fn(|lane| {
        let pair = u32::from(high.get::<u16>(lane)) << 16 | u32::from(low.get::<u16>(lane));
        (pair >> (counts.get::<u16>(lane) % 16)) as u16
    })
}

pub(super) fn _mm512_cmpeq_epi8_mask(a: __m512i, b: __m512i) -> u64 {
    a.mask(b, |a: u8, b| a == b)
}
pub(super) fn _mm512_cmpgt_epu8_mask(a: __m512i, b: __m512i) -> u64 {
    a.mask(b, |a: u8, b| a > b)
}
pub(super) fn _mm512_cmplt_epu8_mask(a: __m512i, b: __m512i) -> u64 {
    a.mask(b, |a: u8, b| a < b)
}
pub(super) fn _mm256_cmplt_epu8_mask(a: __m256i, b: __m256i) -> u32 {
    a.mask(b, |a: u8, b| a < b) as u32
}
pub(super) fn _mm512_cmple_epu16_mask(a: __m512i, b: __m512i) -> u32 {
    a.mask(b, |a: u16, b| a <= b) as u32
}
pub(super) fn _mm256_cmpgt_epu32_mask(a: __m256i, b: __m256i) -> u8 {
    a.mask(b, |a: u32, b| a > b) as u8
}
pub(super) fn _mm256_cmplt_epu32_mask(a: __m256i, b: __m256i) -> u8 {
    a.mask(b, |a: u32, b| a < b) as u8
}
pub(super) fn _mm512_cmple_epu64_mask(a: __m512i, b: __m512i) -> u8 {
    a.mask(b, |a: u64, b| a <= b) as u8
}
pub(super) fn _mm256_test_epi32_mask(a: __m256i, b: __m256i) -> u8 {
    a.mask(b, |a: u32, b| a & b != 0) as u8
}

pub(super) fn _bzhi_u32(number: u32, bits: u32) -> u32 {
    if bits < u32::BITS { number & ((1 << bits) - 1) } else { number }
}
pub(super) fn _pext_u64(number: u64, mask: u64) -> u64 {
    let bits = (0..u64::BITS).filter(|bit| mask >> bit & 1 == 1);
    bits.enumerate().map(|(to, bit)| (number >> bit & 1) << to).sum()
}
