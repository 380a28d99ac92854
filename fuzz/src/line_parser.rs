//! Checks framing and decoding, with the input split into reads anywhere. The result must equal that of
//! splitting and parsing the whole input.

use std::num::NonZeroU64;

use tcpcore::internals::codec::framer::{Framed, Framer};
use tcpcore::internals::codec::number::{Divisor, NumberDecoder, NumberError, parse};
use tcpcore::internals::codec::{Decoder, Framing, Handler};

/// Limits of a line, in bytes: the default, small ones, and those around special sizes. 18 digits always
/// fit in an i64, and vectors may be used from there on. The longest i64 has 20 bytes, and a vector has 64.
const MAX_LINES: [usize; 12] = [4096, 1, 2, 3, 7, 17, 18, 19, 20, 63, 64, 65];

/// Delimiters: the default, the usual ones of other feeds, the blanks that may surround a number, and the first and
/// the last byte.
const DELIMITERS: [u8; 7] = *b"\n\r;\0 \t\xff";

/// Divisors: the default, odd ones, even ones, powers of two, and the ends of the range. Divisors up to
/// four digits or 16 bits may have faster code.
const DIVISORS: [u64; 12] =
    [6, 1, 2, 3, 7, 9999, 10_000, 65_535, 65_536, 1 << 63, i64::MAX.cast_unsigned(), u64::MAX];

/// Panics unless `read`, on each path, and `naive` agree on `input`.
///
/// An input is the choice of a limit and a delimiter, the choice of a divisor, the sizes of the reads, and the bytes of
/// a server.
pub fn check(input: &[u8]) {
    let [limit_choice, divisor_choice, size_count, rest @ ..] = input else {
        return;
    };
    let limit_choice = usize::from(*limit_choice);
    let max_line = MAX_LINES[limit_choice % MAX_LINES.len()];
    let delimiter = DELIMITERS[limit_choice / MAX_LINES.len() % DELIMITERS.len()];
    let framing = Framing::new(max_line).with_delimiter(delimiter);
    let divisor = DIVISORS[usize::from(*divisor_choice) % DIVISORS.len()];
    let divisor = NonZeroU64::new(divisor).expect("the table holds no zero");
    let (sizes, bytes) = rest.split_at(rest.len().min(usize::from(*size_count)));

    let expected = naive(bytes, framing, divisor);
    let mut framer = Framer::default();
    // Two runs are two connections of one server. The second must not see the unfinished line of the first.
    let divisor = Divisor::new(divisor);
    for decoder in NumberDecoder::on_all_paths(divisor, framing) {
        assert_eq!(read(&mut framer, bytes, sizes, framing, decoder), expected, "{decoder:?}");
    }
}

/// All observable results of a connection.
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

/// Reads one connection from its first read to its end, as the program does.
fn read(
    framer: &mut Framer,
    bytes: &[u8],
    sizes: &[u8],
    framing: Framing,
    decoder: NumberDecoder,
) -> Seen {
    let max_line = framing.max_line();
    let mut seen = Seen::default();
    for chunk in chunks(bytes, sizes) {
        framer.feed(chunk, framing, |framed| match framed {
            Framed::Lines(region) => {
                assert_eq!(
                    region.last(),
                    Some(&framing.delimiter()),
                    "a region ends with a delimiter"
                );
                seen.lines += decoder.decode(region, &mut seen);
            }
            Framed::Oversized => {
                seen.lines += 1;
                seen.oversized();
            }
        });
        // Two bytes of a byte order mark may be longer than the limit.
        assert!(framer.held() <= max_line.max(2), "{} bytes held of {max_line}", framer.held());
    }
    seen.truncated = !framer.finish().is_empty();
    seen
}

/// Splits `bytes` into reads of these sizes, repeatedly. If no size is above zero, there is one read. A
/// size above 127 stands for 16 bytes per unit above 120, which gives long reads too.
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

/// Decodes all bytes at once in the shortest code: a split at delimiters, `str::parse` and `%`.
fn naive(bytes: &[u8], framing: Framing, divisor: NonZeroU64) -> Seen {
    let (delimiter, max_line) = (framing.delimiter(), framing.max_line());
    let mut seen = Seen::default();
    // No delimiter of the table is a byte of the mark.
    let mark = b"\xef\xbb\xbf";
    if mark[..2].starts_with(bytes) {
        seen.truncated = !bytes.is_empty();
        return seen;
    }
    let bytes = bytes.strip_prefix(mark).unwrap_or(bytes);
    let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == delimiter).collect();
    let tail = lines.pop().expect("split yields at least one piece");
    if tail.len() > max_line {
        lines.push(tail); // It counts as soon as it is oversized, whether it ends or not.
    } else {
        seen.truncated = !tail.is_empty();
    }
    for line in lines {
        seen.lines += 1;
        if line.len() > max_line {
            seen.oversized += 1;
            continue;
        }
        let trimmed = match delimiter {
            b'\n' => line.strip_suffix(b"\r").unwrap_or(line),
            _ => line,
        };
        let kind = naive_parse(trimmed);
        assert_eq!(parse(trimmed), kind, "{}", line.escape_ascii());
        match kind {
            Ok(Some(number)) if number.unsigned_abs() % divisor == 0 => seen.matched.push(number),
            Ok(_) => {}
            Err(error) => seen.malformed.push((line.to_vec(), error)),
        }
    }
    seen
}

/// Applies the rules for one line by other means than [`parse`]: a char for each byte, and `str::parse`.
fn naive_parse(line: &[u8]) -> Result<Option<i64>, NumberError> {
    let text: String = line.iter().copied().map(char::from).collect();
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
