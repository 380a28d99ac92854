//! Compares framing and decoding, cut into reads anywhere, with splitting and parsing the whole.

use std::num::NonZeroU64;

use tcpcore::internals::codec::framer::{Framed, Framer};
use tcpcore::internals::codec::number::{Divisor, NumberDecoder, NumberError, parse};
use tcpcore::internals::codec::{Decoder, Handler};

/// The default; the least; the 18 digits that always fit, from which on vectors may be used; the
/// longest i64; and a vector's 64 bytes.
const MAX_LINES: [usize; 12] = [4096, 1, 2, 3, 7, 17, 18, 19, 20, 63, 64, 65];

/// The default; odd, even and powers of two; the limits of four digits and of 16 bits, for which there
/// may be quicker ways; and the ends of the range.
const DIVISORS: [u64; 12] =
    [6, 1, 2, 3, 7, 9999, 10_000, 65_535, 65_536, 1 << 63, i64::MAX.cast_unsigned(), u64::MAX];

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
    let divisor = Divisor::new(divisor);
    for decoder in
        [NumberDecoder::new(divisor, max_line), NumberDecoder::fallback(divisor, max_line)]
    {
        assert_eq!(read(&mut framer, bytes, sizes, max_line, decoder), expected, "{decoder:?}");
    }
}

/// All that can be told of what a connection brought.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    matched: Vec<i64>,
    malformed: Vec<(Vec<u8>, NumberError)>,
    oversized: u64,
    lines: u64,
    truncated: bool,
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

/// The way of the program: one connection, from its first read to its end.
fn read(
    framer: &mut Framer,
    bytes: &[u8],
    sizes: &[u8],
    max_line: usize,
    decoder: NumberDecoder,
) -> Seen {
    let mut seen = Seen::default();
    for chunk in chunks(bytes, sizes) {
        framer.feed(chunk, max_line, |framed| match framed {
            Framed::Lines(region) => {
                assert_eq!(region.last(), Some(&b'\n'), "a region ends in a newline");
                seen.lines += decoder.decode(region, &mut seen);
            }
            Framed::Oversized => {
                seen.lines += 1;
                seen.oversized();
            }
        });
        assert!(framer.held() <= max_line, "{} bytes held of {max_line}", framer.held());
    }
    seen.truncated = !framer.finish().is_empty();
    seen
}

/// Cuts `bytes` into reads of these sizes, over and over; what no size is left for is one read.
/// A size above 127 counts 16 bytes for each that it is above 120, so that there are long reads too.
fn chunks<'a>(mut bytes: &'a [u8], sizes: &[u8]) -> Vec<&'a [u8]> {
    let sizes = sizes.iter().map(|&size| match usize::from(size) {
        size @ ..128 => size,
        size => (size - 120) * 16,
    });
    let mut chunks = Vec::new();
    if sizes.clone().any(|size| size > 0) {
        for size in sizes.cycle() {
            if bytes.is_empty() {
                break;
            }
            let (chunk, rest) = bytes.split_at(bytes.len().min(size));
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
        seen.truncated = !tail.is_empty();
    }
    for line in lines {
        seen.lines += 1;
        if line.len() > max_line {
            seen.oversized += 1;
            continue;
        }
        let kind = naive_parse(line);
        assert_eq!(parse(line), kind, "{}", line.escape_ascii());
        match kind {
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
