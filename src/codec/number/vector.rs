//! Decodes regions in blocks of 64 bytes, in two stages that each instruction set has.
//!
//! Stage 1 makes masks of a block: its delimiters, and its bytes that are neither delimiters nor digits. From these
//! masks follows where the digits of each line end, which lines are negative, and whether a line has any other byte
//! than digits, a minus in front and a carriage return behind. Stage 2 makes numbers of the lines that end in the
//! block, and keeps the multiples of the divisor:
//!
//! - all lines at once, if none has more than four digits,
//! - eight at a time, once enough of them are queued, if some are longer,
//! - byte by byte, if one of them has any other byte.
//!
//! A mask has one bit for each byte of a block. The bit of the first byte is the lowest.

use memchr::memchr;

use super::{Batch, Divisor, Handler, NumberDecoder, SAFE_DIGITS};

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;

/// What `vector/avx512.rs` has of the processor: its intrinsics, whether it has the features, and the features of
/// functions.
#[cfg(target_arch = "x86_64")]
macro_rules! avx512 {
    (intrinsics) => {
        use std::arch::x86_64::*;
    };
    (is_present) => {
        [
            is_x86_feature_detected!("avx512bw"),
            is_x86_feature_detected!("avx512dq"),
            is_x86_feature_detected!("avx512vl"),
            is_x86_feature_detected!("avx512vbmi2"),
            is_x86_feature_detected!("bmi1"),
            is_x86_feature_detected!("bmi2"),
            is_x86_feature_detected!("lzcnt"),
            is_x86_feature_detected!("popcnt"),
        ]
        .iter()
        .all(|&is_present| is_present)
    };
    ($($function:item)+) => {$(
        #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vbmi2,bmi1,bmi2,lzcnt,popcnt")]
        $function
    )+};
}

#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;

#[cfg(test)]
mod emulated;

/// The same without a processor that has it.
#[cfg(test)]
macro_rules! avx512 {
    (intrinsics) => {
        use super::emulated::*;
    };
    (is_present) => {
        true
    };
    ($($function:item)+) => {$($function)+};
}

#[cfg(test)]
#[allow(unused_unsafe, reason = "functions without features are safe to call")]
#[path = "vector/avx512.rs"]
pub(super) mod avx512_emulated;

/// The bytes of a block.
const BLOCK: usize = 64;

/// The lowest index of the first block: 32 bytes, more than the digits that are loaded below the end of a line.
const LOOK_BACK: usize = 32;

/// The longest region in bytes: 2 GiB - 1, as positions have 32 bits and comparisons a sign.
const MAX_REGION: usize = i32::MAX as usize;

/// The most lines with a digit that end in a block: 32, as each has a digit and a delimiter.
const LINES: usize = BLOCK / 2;

/// The digits of the lines that are decoded at once: up to 4.
const SHORT: usize = 4;

/// A block, and the `SHORT` bytes in front of it.
type Window = [u8; SHORT + BLOCK];

/// The lines that are decoded together if some are long.
const GROUP: usize = 8;

/// The two stages in vectors. A value of the type is the proof that the processor has the features.
trait InstructionSet: Copy {
    /// The divisor and the delimiter, prepared once for all blocks of a region.
    type Constants;

    fn prepare(self, divisor: Divisor, delimiter: u8) -> Self::Constants;

    /// Returns the masks of the delimiters, and of the bytes that are neither delimiters nor digits.
    fn masks(self, constants: &Self::Constants, block: &[u8; BLOCK]) -> (u64, u64);

    /// Returns the mask of a byte.
    fn find(self, block: &[u8; BLOCK], byte: u8) -> u64;

    /// Decodes all lines whose digits end in a block. Each has one to four.
    ///
    /// Writes the multiples of the divisor to the lowest indices of `numbers`, and returns their number.
    fn decode_short(
        self,
        constants: &Self::Constants,
        window: &Window,
        lines: &ShortLines,
        numbers: &mut [i64; LINES],
    ) -> usize;

    /// Writes `at` plus the index of each bit of `mask` to the lowest indices of `ends`, and one more to those of
    /// `nexts`. It may write any position of the block at `at`, or the next one, to others.
    fn positions(self, mask: u64, at: u32, ends: &mut [u32; BLOCK], nexts: &mut [u32; BLOCK]);

    /// Decodes the first `count` of these lines, whatever is in the others.
    ///
    /// Writes the multiples of the divisor to the lowest indices of `numbers`, and returns their number, or `None`
    /// if a line has more than [`SAFE_DIGITS`].
    ///
    /// # Panics
    ///
    /// Panics if an end, of any of the eight lines, is less than [`LOOK_BACK`] or not within the region.
    fn decode_group(
        self,
        constants: &Self::Constants,
        region: &[u8],
        lines: &Group<'_>,
        count: usize,
        numbers: &mut [i64; GROUP],
    ) -> Option<usize>;
}

/// The lines whose digits end in a block. Each has one to four.
struct ShortLines {
    /// The mask of the bytes behind the digits.
    ends: u64,
    /// The mask of the ends of negative lines.
    negatives: u64,
    /// The mask of the bytes that are no digits.
    others: u64,
    /// The same of the block in front.
    previous: u64,
}

/// Eight queued lines.
struct Group<'a> {
    /// The positions of the first digits.
    starts: &'a [u32; GROUP],
    /// The positions behind the last digits.
    ends: &'a [u32; GROUP],
    /// -1 for each negative line, and 0 for all others. `None` if no line is negative.
    signs: Option<&'a [i8; GROUP]>,
}

/// Returns the start of the first line that is decoded in blocks, or `None` if there is no whole block.
#[inline]
pub(super) fn first_line(region: &[u8], delimiter: u8) -> Option<usize> {
    let end = LOOK_BACK - 1 + memchr(delimiter, region.get(LOOK_BACK - 1..)?)?;
    let is_within = (end + 1 + BLOCK..=MAX_REGION).contains(&region.len());
    is_within.then_some(end + 1)
}

/// Decodes the lines that begin at `start` or later and end in a whole block. Returns their number and the start of
/// the next line.
///
/// # Panics
///
/// Panics if `start` is less than [`LOOK_BACK`], or the region longer than [`MAX_REGION`].
// It has the features of the function into which it is inlined.
#[inline(always)]
fn decode_blocks<I: InstructionSet, V: Handler<NumberDecoder>>(
    set: I,
    decoder: &NumberDecoder,
    region: &[u8],
    start: usize,
    batch: &mut Batch<'_, V>,
) -> (u64, usize) {
    assert!(start >= LOOK_BACK && region.len() <= MAX_REGION);
    let delimiter = decoder.framing.delimiter();
    let constants = set.prepare(decoder.divisor, delimiter);
    let mut queue = Queue::new(start);
    let mut carry = Carry::AFTER_DELIMITER;
    // Whether all bytes of the unfinished line so far are those of a number.
    let mut is_plain = true;
    let (mut lines, mut at) = (0, start);
    while at + BLOCK <= region.len() {
        let window: &Window = region[at - SHORT..].first_chunk().expect("whole blocks only");
        let block: &[u8; BLOCK] = window.last_chunk().expect("a window is longer");
        let (delimiters, others) = set.masks(&constants, block);
        lines += u64::from(delimiters.count_ones());
        let (mut minuses, mut returns) = (0, 0);
        if others != 0 {
            minuses = set.find(block, b'-') & (delimiters << 1 | carry.delimiter);
            if decoder.framing.trims_return() {
                let next = u64::from(region.get(at + BLOCK) == Some(&delimiter));
                returns = set.find(block, b'\r') & (delimiters >> 1 | next << (BLOCK - 1));
            }
        }
        let nondigits = delimiters | others;
        let bad = others & !(minuses | returns) | nondigits & (minuses << 1 | carry.minus);
        // The carry of this sum runs from a minus through the digits to the byte behind them.
        let (sum, is_signed) = (!nondigits).overflowing_add(minuses << 1 | carry.signed);
        if is_plain && bad == 0 {
            let ends = delimiters & !(returns << 1 | carry.returned) | returns;
            let negatives = sum & nondigits & ends;
            let ends_with_return = returns >> (BLOCK - 1) != 0;
            let is_short =
                delimiters.count_ones() >= FEWEST_SHORT && ends & !carry.near(nondigits) == 0;
            if is_short {
                note(Path::AtOnce);
                queue.decode_all(set, &constants, decoder, region, batch);
                let lines = ShortLines {
                    // An empty line is a heartbeat.
                    ends: ends & !(nondigits << 1 | carry.nondigit),
                    negatives,
                    others: nondigits,
                    previous: carry.previous,
                };
                let count = set.decode_short(&constants, window, &lines, batch.spare::<LINES>());
                batch.keep(count);
                let next = if ends_with_return { BLOCK + 1 } else { after_last(delimiters) };
                queue.skip_to(at + next);
            } else {
                note(Path::InEights);
                queue.push(set, ends, at, returns, negatives);
                if queue.count >= QUEUED {
                    queue.decode_all(set, &constants, decoder, region, batch);
                }
            }
            carry.returned = u64::from(ends_with_return);
        } else {
            note(Path::ByteByByte);
            queue.decode_all(set, &constants, decoder, region, batch);
            if delimiters != 0 {
                let end = at + after_last(delimiters);
                decoder.decode_fallback(&region[queue.start()..end], batch);
                queue.skip_to(end);
            }
            // The bytes at higher indices than the last delimiter belong to the next line.
            let tail = delimiters.leading_zeros();
            is_plain |= delimiters != 0;
            is_plain &= tail == 0 || bad >> (u64::BITS - tail) == 0;
            // This line has its end in this block, and was not decoded.
            is_plain &= returns >> (BLOCK - 1) == 0;
            carry.returned = 0;
        }
        carry.delimiter = delimiters >> (BLOCK - 1);
        carry.minus = minuses >> (BLOCK - 1);
        carry.signed = u64::from(is_signed) | carry.minus;
        carry.nondigit = nondigits >> (BLOCK - 1);
        carry.reach = (1 << SHORT + 1) - 1 >> nondigits.leading_zeros().min(u64::BITS - 1);
        carry.previous = nondigits;
        at += BLOCK;
    }
    queue.decode_all(set, &constants, decoder, region, batch);
    // The delimiter behind a carriage return at the end of the last block is counted here.
    (lines + carry.returned, queue.start())
}

/// What a block has of the one in front of it. All but `previous` are masks of the first bytes.
struct Carry {
    /// Whether the byte in front is a delimiter.
    delimiter: u64,
    /// Whether it is a minus at the start of a line.
    minus: u64,
    /// Whether it is a carriage return whose line is decoded.
    returned: u64,
    /// Whether all bytes of the unfinished line are a minus and digits.
    signed: u64,
    /// Whether the byte in front is no digit.
    nondigit: u64,
    /// The bytes with at least one of these among the `SHORT + 1` in front of them.
    reach: u64,
    /// The mask of the bytes that are no digits.
    previous: u64,
}

impl Carry {
    /// The carry of the first block, in front of which is a delimiter.
    const AFTER_DELIMITER: Carry = Carry {
        delimiter: 1,
        minus: 0,
        returned: 0,
        signed: 0,
        nondigit: 1,
        reach: (1 << (SHORT + 1)) - 1,
        previous: 1 << (BLOCK - 1),
    };

    /// Returns the mask of the bytes with at least one of these among the `SHORT + 1` in front of them.
    #[inline(always)]
    fn near(&self, nondigits: u64) -> u64 {
        let pairs = nondigits | nondigits << 1;
        let fives = pairs | pairs << 2 | nondigits << SHORT;
        fives << 1 | self.reach
    }
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
#[inline(always)]
fn note(path: Path) {
    #[cfg(test)]
    tests::PATHS.with_borrow_mut(|paths| paths.push(path));
    _ = path;
}

/// Returns the index behind the last delimiter of a block that has one.
#[inline(always)]
fn after_last(delimiters: u64) -> usize {
    BLOCK - delimiters.leading_zeros() as usize
}

/// The fewest delimiters of a block whose lines have at most four digits: 8. For fewer lines, a group costs less.
const FEWEST_SHORT: u32 = 8;

/// Lines that are queued until many of them are decoded together.
struct Queue {
    /// The positions of the first digits of the queued lines, and then the start of the line behind them.
    /// Later entries are stale.
    starts: [u32; 1 + QUEUED + BLOCK],
    /// The positions behind the last digits. Later entries are stale.
    ///
    /// Invariant: each is at least `LOOK_BACK` and less than the length of the region.
    ends: [u32; QUEUED + BLOCK],
    /// -1 for each negative line, and 0 for all others and for the line behind them.
    signs: [i8; 1 + QUEUED + BLOCK],
    is_signed: bool,
    /// The number of queued lines. Invariant: less than `QUEUED` between two blocks.
    count: usize,
}

/// The queued lines at which all are decoded: 64, many more than a group.
///
/// A processor stalls on a load of bytes that it has just stored in pieces of another size.
const QUEUED: usize = 64;

impl Queue {
    /// Makes an empty queue for the lines that begin at `start` or later.
    #[inline(always)]
    fn new(start: usize) -> Queue {
        let start = position(start);
        // The start of the first block is a valid position for the entries that are not stored yet.
        Queue { starts: [start; _], ends: [start; _], signs: [0; _], is_signed: false, count: 0 }
    }

    /// Returns the start of the unfinished line. No line may be queued.
    #[inline(always)]
    fn start(&self) -> usize {
        debug_assert_eq!(self.count, 0);
        self.starts[0] as usize
    }

    /// Continues with the line that begins at `start`. No line may be queued.
    #[inline(always)]
    fn skip_to(&mut self, start: usize) {
        debug_assert_eq!(self.count, 0);
        self.starts[0] = position(start);
    }

    /// Queues the lines whose digits end at `ends` in the block at `at`.
    #[inline(always)]
    fn push<I: InstructionSet>(
        &mut self,
        set: I,
        ends: u64,
        at: usize,
        returns: u64,
        negatives: u64,
    ) {
        let first = self.count;
        let ends_of_block = self.ends[first..].first_chunk_mut().expect("the array is longer");
        let nexts = self.starts[first + 1..].first_chunk_mut().expect("the array is longer");
        set.positions(ends, position(at), ends_of_block, nexts);
        self.count += ends.count_ones() as usize;
        self.signs[first..=first + BLOCK].fill(0);
        if returns | negatives != 0 {
            for line in first..self.count {
                let index = self.ends[line] as usize - at;
                let of_line = |mask: u64| mask >> index & 1;
                self.starts[line + 1] += u32::from(of_line(returns) != 0);
                let is_negative = of_line(negatives) != 0;
                self.starts[line] += u32::from(is_negative);
                self.signs[line] = -i8::from(is_negative);
            }
            self.is_signed |= negatives != 0;
        }
    }

    /// Decodes all queued lines.
    #[inline(always)]
    fn decode_all<I: InstructionSet, V: Handler<NumberDecoder>>(
        &mut self,
        set: I,
        constants: &I::Constants,
        decoder: &NumberDecoder,
        region: &[u8],
        batch: &mut Batch<'_, V>,
    ) {
        let mut first = 0;
        while first < self.count {
            let count = GROUP.min(self.count - first);
            let signs = self.signs[first..].first_chunk().expect("the array is longer");
            let group = Group {
                starts: self.starts[first..].first_chunk().expect("the array is longer"),
                ends: self.ends[first..].first_chunk().expect("the array is longer"),
                signs: self.is_signed.then_some(signs),
            };
            let spare = batch.spare::<GROUP>();
            if let Some(kept) = set.decode_group(constants, region, &group, count, spare) {
                batch.keep(kept);
            } else {
                note(Path::NotInEights);
                let [start, end] = [first, first + count].map(|line| self.line_start(line));
                decoder.decode_fallback(&region[start..end], batch);
            }
            first += count;
        }
        self.starts[0] = self.starts[self.count];
        self.signs[0] = 0;
        (self.count, self.is_signed) = (0, false);
    }

    /// Returns the position of the first byte of a line, which may be the one behind the queued lines.
    fn line_start(&self, line: usize) -> usize {
        self.starts[line] as usize - usize::from(self.signs[line] != 0)
    }
}

/// Returns a pointer to the byte this far below an end of the region, which must have that many in front of it.
#[inline(always)]
fn below(region: &[u8], end: u32, distance: usize) -> *const u8 {
    debug_assert!(distance <= end as usize && (end as usize) < region.len());
    region.as_ptr().wrapping_add((end as usize).wrapping_sub(distance))
}

#[inline(always)]
fn position(at: usize) -> u32 {
    u32::try_from(at).expect("the region is shorter")
}

/// Writes the positions of a mask's bits for instruction sets that cannot compress vectors.
#[inline(always)]
fn positions_one_by_one(mut mask: u64, at: u32, ends: &mut [u32; BLOCK], nexts: &mut [u32; BLOCK]) {
    for (ends, nexts) in ends.chunks_exact_mut(4).zip(nexts.chunks_exact_mut(4)) {
        for (end, next) in ends.iter_mut().zip(nexts) {
            // Without a bit left, it is the position behind the block, which may be behind the region.
            let index = mask.trailing_zeros() & 63;
            (*end, *next) = (at + index, at + index + 1);
            mask &= mask.wrapping_sub(1);
        }
        if mask == 0 {
            break;
        }
    }
}

#[cfg(test)]
mod tests;
