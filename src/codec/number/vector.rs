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
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;

/// The means of `vector/avx512.rs` in the processor: its intrinsics, whether it has the features, and the features of
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
#[allow(clippy::duplicate_mod, reason = "tests and fuzzing compile it a second time")]
pub(super) mod avx512;

#[cfg(any(test, fuzzing))]
mod emulated;

/// The same without a processor that has it.
#[cfg(any(test, fuzzing))]
macro_rules! avx512 {
    (intrinsics) => {
        use super::emulated::*;
    };
    (is_present) => {
        true
    };
    ($($function:item)+) => {$($function)+};
}

#[cfg(any(test, fuzzing))]
#[allow(unused_unsafe, reason = "functions without features are safe to call")]
#[allow(clippy::duplicate_mod, reason = "the macro differs")]
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

    /// Writes `at` plus the index of each bit of `mask` to the lowest indices of `ends`. It may write any position of
    /// the block at `at`, or that behind it, to others.
    fn positions(self, mask: u64, at: u32, ends: &mut [u32; BLOCK]);

    /// Decodes the first `count` queued lines with [`Queue::decode`].
    fn decode_queued<V: Handler<NumberDecoder>>(
        self,
        constants: &Self::Constants,
        decoder: &NumberDecoder,
        region: &[u8],
        lines: (&Queue, usize),
        batch: &mut Batch<'_, V>,
    );
}

/// The lines whose digits end in a block. Each has one to four.
struct ShortLines {
    /// The mask of the bytes behind the digits.
    ends: u64,
    /// The mask of the ends of negative lines.
    negatives: u64,
    /// The mask of the bytes that are no digits, for AVX-512.
    #[cfg_attr(
        not(any(target_arch = "x86_64", test, fuzzing)),
        expect(dead_code, reason = "for AVX-512")
    )]
    nondigits: u64,
    /// The same of the block in front.
    #[cfg_attr(
        not(any(target_arch = "x86_64", test, fuzzing)),
        expect(dead_code, reason = "for AVX-512")
    )]
    previous: u64,
}

/// Eight queued lines.
struct Group<'a> {
    /// The positions behind the digits of the lines in front of these.
    previous: &'a [u32; GROUP],
    /// The positions behind the digits of these lines.
    ends: &'a [u32; GROUP],
    /// The mask of the lines behind a carriage return, which is one more byte in front of the digits.
    returned: u8,
    /// The mask of the negative lines, which have one more byte in front of the digits.
    negatives: u8,
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
    let (mut lines, mut at) = (0, start);
    while at + BLOCK <= region.len() {
        let window: &Window = region[at - SHORT..].first_chunk().expect("whole blocks only");
        let block: &[u8; BLOCK] = window.last_chunk().expect("a window is longer");
        let (mut delimiters, others) = set.masks(&constants, block);
        lines += u64::from(delimiters.count_ones());
        let marks = if others == 0 && !carry.has_marks {
            Marks { ends: delimiters, returns: 0, negatives: 0, is_plain: true }
        } else {
            let next = region.get(at + BLOCK) == Some(&delimiter);
            let find = |byte| set.find(block, byte);
            let trims_return = decoder.framing.trims_return();
            Marks::new(delimiters, others, find, trims_return.then_some(next), &mut carry)
        };
        let mut nondigits = delimiters | others;
        if !marks.is_plain {
            note(Path::ByteByByte);
            queue.decode_all(set, &constants, decoder, region, batch);
            if delimiters != 0 {
                let end = at + after_last(delimiters);
                decoder.decode_bytes(&region[queue.start()..end], batch);
                queue.skip_to(end);
            }
        } else if delimiters.count_ones() >= FEWEST_SHORT
            && marks.ends & !carry.near(nondigits) == 0
        {
            note(Path::AtOnce);
            queue.decode_all(set, &constants, decoder, region, batch);
            let lines = ShortLines {
                // An empty line is a heartbeat.
                ends: marks.ends & !(nondigits << 1 | carry.nondigit),
                negatives: marks.negatives,
                nondigits,
                previous: carry.previous,
            };
            let count = set.decode_short(&constants, window, &lines, batch.spare::<LINES>());
            batch.keep(count);
            // The delimiter behind a carriage return may be the first byte of the next block.
            let is_cut = marks.returns >> (BLOCK - 1) != 0;
            queue.skip_to(at + if is_cut { BLOCK + 1 } else { after_last(delimiters) });
        } else {
            note(Path::InEights);
            queue.push(set, &marks, at);
            if queue.count >= QUEUED {
                queue.decode_oldest(set, &constants, decoder, region, batch);
            }
            // The blocks of long lines without marks are frequent, so they have a loop of their own.
            while !carry.has_marks && at + 2 * BLOCK <= region.len() {
                let block = region[at + BLOCK..].first_chunk().expect("whole blocks only");
                let (next, others) = set.masks(&constants, block);
                if others != 0 || next.count_ones() >= FEWEST_SHORT {
                    break;
                }
                note(Path::InEights);
                at += BLOCK;
                delimiters = next;
                nondigits = next;
                lines += u64::from(next.count_ones());
                queue.push_ends(set, next, at);
                if queue.count >= QUEUED {
                    queue.decode_oldest(set, &constants, decoder, region, batch);
                }
            }
        }
        carry.delimiter = delimiters >> (BLOCK - 1);
        carry.nondigit = nondigits >> (BLOCK - 1);
        carry.previous = nondigits;
        at += BLOCK;
    }
    queue.decode_all(set, &constants, decoder, region, batch);
    // The delimiter behind a carriage return at the end of the last block is counted here.
    (lines + carry.returned, queue.start())
}

/// The state that a block leaves to the next one.
struct Carry {
    /// 1 if the byte in front is a delimiter.
    delimiter: u64,
    /// 1 if the byte in front is no digit.
    nondigit: u64,
    /// The mask of the bytes in front that are no digits.
    previous: u64,
    /// Whether any of the following is set.
    has_marks: bool,
    /// 1 if the byte in front is a minus at the start of a line.
    minus: u64,
    /// 1 if all bytes of the unfinished line are a minus and digits.
    signed: u64,
    /// 1 if the byte in front is a carriage return whose line is decoded, and the next one its delimiter.
    returned: u64,
    /// Whether the unfinished line is not to be decoded in vectors.
    is_bad: bool,
}

impl Carry {
    /// The carry of the first block, in front of which is a delimiter.
    const AFTER_DELIMITER: Carry = Carry {
        delimiter: 1,
        nondigit: 1,
        previous: 1 << (BLOCK - 1),
        has_marks: false,
        minus: 0,
        signed: 0,
        returned: 0,
        is_bad: false,
    };

    /// Returns the mask of the bytes with at least one of these among the `SHORT + 1` in front of them.
    #[inline(always)]
    fn near(&self, nondigits: u64) -> u64 {
        let pairs = nondigits | nondigits << 1;
        let fives = pairs | pairs << 2 | nondigits << SHORT;
        let digits = self.previous.leading_zeros().min(u64::BITS - 1);
        fives << 1 | ((1 << (SHORT + 1)) - 1) >> digits
    }
}

/// The meaning of the other bytes of a block.
struct Marks {
    /// The bytes behind the digits of each line: its delimiter, or the carriage return in front of it.
    ends: u64,
    /// The carriage returns in front of a delimiter.
    returns: u64,
    /// The ends of negative lines.
    negatives: u64,
    /// Whether each line that ends in this block, and the unfinished one, has a minus at most, digits, and a carriage
    /// return at most.
    is_plain: bool,
}

impl Marks {
    /// Finds the marks of a block.
    ///
    /// `find` returns the mask of a byte. `next` is whether the byte behind the block is a delimiter, or `None` if
    /// carriage returns are bytes like any other.
    #[inline(always)]
    fn new(
        delimiters: u64,
        others: u64,
        find: impl Fn(u8) -> u64,
        next: Option<bool>,
        carry: &mut Carry,
    ) -> Marks {
        let nondigits = delimiters | others;
        let minuses = find(b'-') & (delimiters << 1 | carry.delimiter);
        let returns =
            next.map_or(0, |next| find(b'\r') & (delimiters >> 1 | u64::from(next) << (BLOCK - 1)));
        let bad = others & !(minuses | returns) | nondigits & (minuses << 1 | carry.minus);
        // The carry of this sum runs from a minus through the digits to the byte behind them.
        let (sum, is_signed) = (!nondigits).overflowing_add(minuses << 1 | carry.signed);
        let ends = delimiters & !(returns << 1 | carry.returned) | returns;
        let is_plain = bad == 0 && !carry.is_bad;
        carry.minus = minuses >> (BLOCK - 1);
        carry.signed = u64::from(is_signed) | carry.minus;
        carry.returned = 0;
        let last_return = returns >> (BLOCK - 1);
        if is_plain {
            carry.returned = last_return;
        } else {
            // The bytes at higher indices than the last delimiter belong to the next line. A carriage return at the
            // end is the end of a line that is not decoded with this block.
            let tail = delimiters.leading_zeros();
            carry.is_bad &= delimiters == 0;
            carry.is_bad |= tail != 0 && bad >> (u64::BITS - tail) != 0 || last_return != 0;
        }
        carry.has_marks = carry.signed | carry.returned != 0 || carry.is_bad;
        Marks { ends, returns, negatives: sum & nondigits & ends, is_plain }
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
    /// The positions behind the digits of the line in front of the queued ones, and of those. Later entries are
    /// stale.
    ///
    /// Invariant: each is within the region or behind its last byte, and from index 1 on, at least `LOOK_BACK`.
    ends: [u32; 1 + QUEUED + BLOCK],
    /// The masks of the lines behind a carriage return, and of the negative ones. The next line may have a bit in
    /// the first.
    returned: u128,
    negatives: u128,
    /// The number of queued lines. Invariant: less than `QUEUED` between two blocks.
    count: usize,
}

/// The queued lines at which groups are decoded: 64, so that most are full.
const QUEUED: usize = 64;

/// The fewest queued lines that are then kept: 24, whose positions may still be in the processor's store buffer.
///
/// A processor stalls on a load of bytes that it has just stored in pieces of another size.
const KEPT: usize = 24;

const _: () = assert!(KEPT + GROUP < QUEUED && QUEUED + BLOCK < u128::BITS as usize + 1);

impl Queue {
    /// Makes an empty queue for the lines that begin at `start` or later.
    #[inline(always)]
    fn new(start: usize) -> Queue {
        // The start of the first block is a valid position for the entries that are not stored yet.
        let mut queue = Queue { ends: [position(start); _], returned: 0, negatives: 0, count: 0 };
        queue.skip_to(start);
        queue
    }

    /// Returns the start of the unfinished line. No line may be queued.
    #[inline(always)]
    fn start(&self) -> usize {
        debug_assert_eq!(self.count, 0);
        self.line_start(0)
    }

    /// Continues with the line that begins at `start`. No line may be queued.
    #[inline(always)]
    fn skip_to(&mut self, start: usize) {
        debug_assert_eq!((self.count, self.negatives), (0, 0));
        self.ends[0] = position(start - 1);
        self.returned = 0;
    }

    /// Queues the lines whose digits end in the block at `at`.
    #[inline(always)]
    fn push<I: InstructionSet>(&mut self, set: I, marks: &Marks, at: usize) {
        let first = self.count;
        self.push_ends(set, marks.ends, at);
        if marks.returns | marks.negatives != 0 {
            for line in first..self.count {
                let index = self.ends[1 + line] as usize - at;
                let bit = |mask: u64| u128::from(mask >> index & 1);
                self.negatives |= bit(marks.negatives) << line;
                // The last line of a full queue has none behind it.
                self.returned |= (bit(marks.returns) << line) << 1;
            }
        }
    }

    #[inline(always)]
    fn push_ends<I: InstructionSet>(&mut self, set: I, ends: u64, at: usize) {
        let to = self.ends[1 + self.count..].first_chunk_mut().expect("the array is longer");
        set.positions(ends, position(at), to);
        self.count += ends.count_ones() as usize;
    }

    /// Decodes full groups, and keeps the latest lines.
    #[inline(always)]
    fn decode_oldest<I: InstructionSet, V: Handler<NumberDecoder>>(
        &mut self,
        set: I,
        constants: &I::Constants,
        decoder: &NumberDecoder,
        region: &[u8],
        batch: &mut Batch<'_, V>,
    ) {
        let full = (self.count - KEPT) / GROUP * GROUP;
        let rest = self.count - full;
        set.decode_queued(constants, decoder, region, (self, full), batch);
        self.ends.copy_within(full..=full + KEPT + GROUP, 0);
        self.returned >>= full;
        self.negatives >>= full;
        self.count = rest;
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
        if self.count > 0 {
            set.decode_queued(constants, decoder, region, (self, self.count), batch);
            self.ends[0] = self.ends[self.count];
            self.returned >>= self.count;
            (self.count, self.negatives) = (0, 0);
        }
    }

    /// Decodes the first `count` queued lines, which stay in the queue.
    ///
    /// `decode` decodes the first of some lines, whatever is in the others. It writes the multiples of the divisor to
    /// the lowest indices, and returns their number, or `None` if a line has more than [`SAFE_DIGITS`]. It panics if
    /// an end, of any of the eight lines, is less than [`LOOK_BACK`] or more than the length of the region.
    #[inline(always)]
    fn decode<V: Handler<NumberDecoder>>(
        &self,
        count: usize,
        decoder: &NumberDecoder,
        region: &[u8],
        batch: &mut Batch<'_, V>,
        decode: impl Fn(&Group<'_>, usize, &mut [i64; GROUP]) -> Option<usize>,
    ) {
        // A line and its bit in a mask: the first of a group is in the lowest bit of a byte.
        let (returned, negatives) = (self.returned.to_le_bytes(), self.negatives.to_le_bytes());
        for first in (0..count).step_by(GROUP) {
            let count = GROUP.min(count - first);
            let (returned, negatives) = (returned[first / 8], negatives[first / 8]);
            let previous = self.ends[first..].first_chunk().expect("the array is longer");
            let ends = self.ends[first + 1..].first_chunk().expect("the array is longer");
            let group = Group { previous, ends, returned, negatives };
            if let Some(kept) = decode(&group, count, batch.spare::<GROUP>()) {
                batch.keep(kept);
            } else {
                note(Path::NotInEights);
                let [start, end] = [first, first + count].map(|line| self.line_start(line));
                decoder.decode_bytes(&region[start..end], batch);
            }
        }
    }

    /// Returns the position of the first byte of a line, which may be the one behind the queued lines.
    #[inline(always)]
    fn line_start(&self, line: usize) -> usize {
        self.ends[line] as usize + 1 + usize::from(self.returned >> line & 1 != 0)
    }
}

/// Returns a pointer to the byte this far below an end of the region, which must have that many in front of it.
#[cfg(any(target_arch = "x86_64", test, fuzzing))]
#[inline(always)]
fn below(region: &[u8], end: u32, distance: usize) -> *const u8 {
    debug_assert!(distance <= end as usize && end as usize <= region.len());
    region.as_ptr().wrapping_add((end as usize).wrapping_sub(distance))
}

#[inline(always)]
fn position(at: usize) -> u32 {
    u32::try_from(at).expect("the region is shorter")
}

#[cfg(test)]
mod tests;
