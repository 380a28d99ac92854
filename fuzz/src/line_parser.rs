//! Framing and judging together, cut into reads anywhere, equal splitting and parsing the whole.

use std::num::NonZeroU64;

use tcpcore::line::{Framed, Framer};
use tcpcore::number::{Divisor, Judge, NumberError, Verdicts, parse};

/// Limits round which something changes: the least, the words of eight bytes that the judge reads,
/// the 18 digits that always fit and the longest i64; and the default, which few inputs outgrow.
const MAX_LINES: [usize; 12] = [1, 2, 3, 7, 8, 9, 16, 18, 19, 20, 64, 4096];

/// Odd, even, a power of two, both ends of the range, and the default.
const DIVISORS: [u64; 9] = [6, 1, 2, 3, 7, 10, 1 << 63, i64::MAX.cast_unsigned(), u64::MAX];

/// Reads `input` as one choice of a limit, one of a divisor, the sizes of the reads and the bytes
/// that a server sends, and panics unless the two ways agree on those.
pub fn check(input: &[u8]) {
    let [limit_choice, divisor_choice, size_count, rest @ ..] = input else {
        return;
    };
    let max_line = MAX_LINES[usize::from(*limit_choice) % MAX_LINES.len()];
    let divisor = DIVISORS[usize::from(*divisor_choice) % DIVISORS.len()];
    let divisor = NonZeroU64::new(divisor).expect("the table holds no zero");
    let (sizes, bytes) = rest.split_at(rest.len().min(usize::from(*size_count)));

    let expected = naive(bytes, max_line, divisor);
    let mut framer = Framer::default();
    // Twice, as two connections of one server: the second must not meet the first one's tail.
    for connection in ["first", "second"] {
        let seen = read(&mut framer, bytes, sizes, max_line, divisor);
        assert_eq!(seen, expected, "{connection} connection, limit {max_line}, divisor {divisor}");
    }
}

/// All that can be told of what a connection brought.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    matched: Vec<i64>,
    malformed: Vec<(Vec<u8>, NumberError)>,
    too_long: u64,
    lines: u64,
    cut: bool,
}

impl Verdicts for Seen {
    fn matched(&mut self, numbers: &[i64]) {
        self.matched.extend_from_slice(numbers);
    }

    fn malformed(&mut self, line: &[u8], error: NumberError) {
        self.malformed.push((line.to_vec(), error));
    }

    fn too_long(&mut self) {
        self.too_long += 1;
    }
}

/// The way of the program: one connection, from its first read to its end.
fn read(
    framer: &mut Framer,
    bytes: &[u8],
    sizes: &[u8],
    max_line: usize,
    divisor: NonZeroU64,
) -> Seen {
    let judge = Judge::new(Divisor::new(divisor), max_line);
    let mut seen = Seen::default();
    for chunk in chunks(bytes, sizes) {
        framer.feed(chunk, max_line, |framed| match framed {
            Framed::Lines(region) => {
                assert_eq!(region.last(), Some(&b'\n'), "a region ends in a newline");
                seen.lines += judge.judge(region, &mut seen);
            }
            Framed::TooLong => {
                seen.lines += 1;
                seen.too_long();
            }
        });
        assert!(framer.held() <= max_line, "{} bytes held of {max_line}", framer.held());
    }
    seen.cut = framer.finish();
    seen
}

/// Cuts `bytes` into reads of these sizes, over and over; what no size is left for is one read.
fn chunks<'a>(mut bytes: &'a [u8], sizes: &[u8]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    if sizes.iter().any(|&size| size > 0) {
        for &size in sizes.iter().cycle() {
            if bytes.is_empty() {
                break;
            }
            let (chunk, rest) = bytes.split_at(bytes.len().min(usize::from(size)));
            chunks.push(chunk);
            bytes = rest;
        }
    }
    chunks.push(bytes);
    chunks
}

/// The shortest way: all bytes at once, split at newlines, `str::parse` and `%`.
fn naive(bytes: &[u8], max_line: usize, divisor: NonZeroU64) -> Seen {
    let mut seen = Seen::default();
    let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    let tail = lines.pop().expect("split yields at least one piece");
    if tail.len() > max_line {
        lines.push(tail); // It counts as soon as it is too long, whether it ends or not.
    } else {
        seen.cut = !tail.is_empty();
    }
    for line in lines {
        seen.lines += 1;
        if line.len() > max_line {
            seen.too_long += 1;
            continue;
        }
        let verdict = naive_parse(line);
        assert_eq!(parse(line), verdict, "{}", line.escape_ascii());
        match verdict {
            Ok(Some(number)) if number.unsigned_abs() % divisor == 0 => seen.matched.push(number),
            Ok(_) => {}
            Err(error) => seen.malformed.push((line.to_vec(), error)),
        }
    }
    seen
}

/// The rules for one line, by other means than [`parse`]: a char for each byte, and `str::parse`.
fn naive_parse(line: &[u8]) -> Result<Option<i64>, NumberError> {
    let text: String = line.iter().copied().map(char::from).collect();
    let text = text.strip_suffix('\r').unwrap_or(&text);
    if text.is_empty() {
        return Ok(None);
    }
    let text = text.trim_matches([' ', '\t']);
    text.parse().map(Some).map_err(|_| {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        match digits.chars().find(|char| !char.is_ascii_digit()) {
            Some(char) => NumberError::NotADigit(u8::try_from(char).expect("made of one byte")),
            None if digits.is_empty() => NumberError::NoDigits,
            None => NumberError::OutOfRange,
        }
    })
}
