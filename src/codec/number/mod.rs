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
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Default, PartialEq)]
    pub(super) struct Seen {
        pub(super) matched: Vec<i64>,
        pub(super) malformed: Vec<(Vec<u8>, NumberError)>,
        oversized: u64,
    }

    impl Handler<NumberDecoder> for Seen {
        fn records(&mut self, numbers: &[i64]) {
            self.matched.extend_from_slice(numbers);
        }
        fn malformed(&mut self, line: &[u8], error: NumberError) {
            self.malformed.push((line.to_vec(), error));
        }
        fn oversized(&mut self) {
            self.oversized += 1;
        }
    }

    pub(super) fn decode(region: &[u8], divisor: u64, max_line: usize) -> (Seen, u64) {
        let divisor = Divisor::new(NonZeroU64::new(divisor).expect("tests divide by something"));
        let [fastest, portable] = [NumberDecoder::new, NumberDecoder::fallback].map(|new| {
            let mut seen = Seen::default();
            let lines = new(divisor, max_line).decode(region, &mut seen);
            (seen, lines)
        });
        assert_eq!(fastest, portable, "the ways differ");
        portable
    }

    /// The rules once more, by other means: text, `str::parse` and `%`.
    pub(super) fn naive(region: &[u8], divisor: u64, max_line: usize) -> (Seen, u64) {
        let mut seen = Seen::default();
        let mut lines = 0;
        for line in region.split_inclusive(|&byte| byte == b'\n') {
            let line = &line[..line.len() - 1];
            lines += 1;
            if line.len() > max_line {
                seen.oversized += 1;
                continue;
            }
            let text: String = line.iter().copied().map(char::from).collect();
            let text = text.strip_suffix('\r').unwrap_or(&text);
            match text.trim_matches([' ', '\t']).parse::<i64>() {
                Ok(n) if n.unsigned_abs() % divisor == 0 => seen.matched.push(n),
                Ok(_) => {}
                Err(_) if text.is_empty() => {}
                Err(_) => {
                    let error = parse(line).expect_err("str::parse refuses it, so must parse");
                    seen.malformed.push((line.to_vec(), error));
                }
            }
        }
        (seen, lines)
    }

    #[test]
    fn whole_i64_range_and_one_beyond() {
        for value in [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX] {
            assert_eq!(parse(value.to_string().as_bytes()), Ok(Some(value)));
        }
        for beyond in ["9223372036854775808", "-9223372036854775809", "99999999999999999999999"] {
            assert_eq!(parse(beyond.as_bytes()), Err(NumberError::OutOfRange), "{beyond}");
        }
    }

    #[test]
    fn signs_blanks_and_one_carriage_return_are_allowed() {
        for (line, value) in [
            (&b"-6"[..], -6),
            (b"+12", 12),
            (b"-0", 0),
            (b"\t 18 \t", 18),
            (b"24\r", 24),
            (b" -30 \r", -30),
            (b"0000000000000000000000000000000006", 6),
        ] {
            assert_eq!(parse(line), Ok(Some(value)), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn anything_else_is_malformed() {
        use NumberError::{NoDigits, NotADigit};
        for (line, error) in [
            (&b" "[..], NoDigits),
            (b"\t\r", NoDigits),
            (b"-", NoDigits),
            (b"+\r", NoDigits),
            (b"--6", NotADigit(b'-')),
            (b"+-6", NotADigit(b'-')),
            (b"- 6", NotADigit(b' ')),
            (b"6 6", NotADigit(b' ')),
            (b"6\r\r", NotADigit(b'\r')),
            (b"\r6", NotADigit(b'\r')),
            (b"0x6", NotADigit(b'x')),
            (b"6.0", NotADigit(b'.')),
            (b"\x006", NotADigit(0)),
            (b"\xd9\xa6", NotADigit(0xd9)),
        ] {
            assert_eq!(parse(line), Err(error), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn an_empty_line_is_a_heartbeat() {
        assert_eq!(parse(b""), Ok(None));
        assert_eq!(parse(b"\r"), Ok(None));
        let (seen, lines) = decode(b"\n\r\n6\n\n", 6, 4096);
        assert_eq!((seen.matched, seen.malformed.len(), lines), (vec![6], 0, 4));
    }

    #[test]
    fn eighteen_nineteen_and_twenty_digits() {
        let region = b"999999999999999996\n9223372036854775806\n9223372036854775808\n";
        let (seen, lines) = decode(region, 6, 4096);
        assert_eq!(seen.matched, [999_999_999_999_999_996, 9_223_372_036_854_775_806]);
        assert_eq!(seen.malformed.len(), 1);
        assert_eq!(lines, 3);
    }

    #[test]
    fn a_line_over_the_limit_counts_even_when_it_would_be_a_number() {
        let (seen, lines) = decode(b"666\n6666\n   6\n  6\n", 6, 3);
        assert_eq!((seen.matched, seen.oversized, lines), (vec![666, 6], 2, 4));
    }

    #[test]
    fn more_matches_than_a_batch_keep_their_order() {
        let numbers: Vec<i64> = (0..1000).map(|i| i * 6).collect();
        let region: String = numbers.iter().map(|n| format!("{n}\n")).collect();
        assert_eq!(decode(region.as_bytes(), 6, 4096).0.matched, numbers);
    }

    #[test]
    fn an_error_says_what_was_expected() {
        let texts = [&b"-"[..], b"1\x002", b"99999999999999999999"]
            .map(|line| parse(line).unwrap_err().to_string());
        assert_eq!(
            texts,
            [
                "no digits, expected a whole number",
                "unexpected '\\x00', expected a whole number",
                "out of range, expected a whole number from -9223372036854775808 to 9223372036854775807",
            ]
        );
    }

    #[test]
    fn a_long_line_among_any_number_of_empty_ones() {
        for empty in 0..70 {
            let lines = format!("{}123456\n", "\n".repeat(empty));
            let region = lines.repeat(20);
            let region = region.as_bytes();
            assert_eq!(decode(region, 6, 4096), naive(region, 6, 4096), "{empty} empty lines");
        }
    }

    proptest! {
        #[test]
        fn divides_equals_remainder(divisor in 1..=u64::MAX, small in 1_u64..100, n: i64) {
            for divisor in [divisor, small, divisor & divisor.wrapping_neg(), 1 << 63] {
                let prepared = Divisor::new(NonZeroU64::new(divisor).expect("not zero"));
                for n in [n, 0, i64::MIN, i64::MAX, n - n % small.cast_signed()] {
                    prop_assert_eq!(prepared.divides(n), n.unsigned_abs() % divisor == 0);
                }
            }
        }

        #[test]
        fn any_region_equals_split_and_parse(
            mut region in prop::collection::vec(prop_oneof![
                8 => b'0'..=b'9', 4 => Just(b'\n'), 1 => prop::sample::select(b" \t\r+-x\0".to_vec()),
                1 => any::<u8>()], 0..300),
            divisor in prop_oneof![1_u64..20, 1..=u64::MAX],
            max_line in prop_oneof![1_usize..30, Just(4096)],
        ) {
            region.push(b'\n');
            prop_assert_eq!(decode(&region, divisor, max_line), naive(&region, divisor, max_line));
        }

        #[test]
        fn numbers_of_any_length_equal_split_and_parse(
            numbers in prop::collection::vec((any::<u64>(), 0_u32..64, 0_usize..3), 0..700),
            rare in prop::collection::vec((0_usize..2000, prop::sample::select(b"\n-\r x".to_vec())), 0..4),
            divisor in prop_oneof![1_u64..20, 1_u64..100_000, 1..=u64::MAX],
            longest in prop::sample::select(vec![10, 1_000, 10_000, 100_000, u64::MAX]),
        ) {
            let mut region: Vec<u8> = numbers
                .iter()
                .flat_map(|(n, shift, zeros)| format!("{:0zeros$}{}\n", 0, (n % longest) >> shift).into_bytes())
                .collect();
            for (place, byte) in rare {
                if let Some(at) = region.get_mut(place) {
                    *at = byte;
                }
            }
            region.extend(b"7\n");
            let expected = naive(&region, divisor, 4096);
            prop_assert_eq!(decode(&region, divisor, 4096), expected);
        }

        #[test]
        fn signs_and_carriage_returns_equal_split_and_parse(
            lines in prop::collection::vec(
                (prop::sample::select(vec!["", "-", "+", "--"]), "[0-9]{0,20}",
                 prop::sample::select(vec!["", "\r", "\r\r", "-"])), 0..200),
            divisor in 1_u64..20,
            max_line in prop_oneof![1_usize..24, Just(4096)],
        ) {
            let region: String =
                lines.iter().map(|(sign, digits, end)| format!("{sign}{digits}{end}\n")).collect();
            let expected = naive(region.as_bytes(), divisor, max_line);
            prop_assert_eq!(decode(region.as_bytes(), divisor, max_line), expected);
        }

        #[test]
        fn short_numbers_equal_split_and_parse(
            numbers in prop::collection::vec(0_u16..=9999, 0..500),
            width in 0_usize..=4,
            empty in prop::collection::vec(0_usize..500, 0..5),
            divisor in prop_oneof![1_u64..20, 1_u64..10_000, 60_000_u64..70_000, 1..=u64::MAX],
            max_line in prop_oneof![1_usize..6, Just(4096)],
        ) {
            let mut lines: Vec<String> = numbers.iter().map(|n| format!("{n:0width$}\n")).collect();
            for place in empty {
                lines.insert(place.min(lines.len()), "\n".into());
            }
            let region = lines.concat();
            prop_assert_eq!(
                decode(region.as_bytes(), divisor, max_line),
                naive(region.as_bytes(), divisor, max_line)
            );
        }
    }
}
