//! Ways to format numbers into lines.

use std::hint::black_box;
use std::io::Write;

use crate::payload::Payload;
use crate::programs::Programs;
use crate::stats::{Clock, race};
use crate::table::{Report, figure};
use crate::{Options, Result};

/// The text that is written out at once.
const PAGE: usize = 64 * 1024;

/// The longest line: a sign, 19 digits, a newline.
const LINE_MAX: usize = 21;

pub fn run(options: &Options, _: &Programs, report: &mut Report) -> Result<()> {
    let repeats = if options.quick { 1 } else { 100 };
    let mut figures = Vec::new();
    for payload in [Payload::Short, Payload::Long, Payload::Mixed] {
        let numbers: Vec<i64> = payload
            .numbers()
            .map(|number| i64::try_from(number).expect("18 digits fit"))
            .filter(|number| number % 6 == 0)
            .take(PAGE / LINE_MAX)
            .collect();
        let quads = Quads::new();
        let mut texts: [Vec<u8>; 4] = [const { Vec::new() }; 4];
        let [a, b, c, d] = &mut texts;
        let mut page = vec![0; PAGE + LINE_MAX];
        let times = race(
            Clock::Thread,
            options.rounds * 2 + 1,
            [
                &mut || (0..repeats).for_each(|_| with_write(black_box(&numbers), a)),
                &mut || (0..repeats).for_each(|_| with_itoa(black_box(&numbers), b)),
                &mut || {
                    (0..repeats).for_each(|_| with_itoa_in_page(black_box(&numbers), &mut page, c))
                },
                &mut || (0..repeats).for_each(|_| quads.format(black_box(&numbers), d)),
            ],
        );
        if texts.iter().any(|text| *text != texts[0]) {
            return Err(format!("the formatters disagree on {payload}").into());
        }
        let nanos = times.map(|time| time * 1e9 / (numbers.len() * repeats) as f64);
        figures.push(std::iter::once(payload.to_string()).chain(nanos.map(figure)).collect());
    }
    let head = [
        "ns per number",
        "write!",
        "itoa, extend",
        "itoa into a page",
        "four-digit table into a page",
    ];
    report.add_table(&head, &figures);
    Ok(())
}

fn with_write(numbers: &[i64], text: &mut Vec<u8>) {
    text.clear();
    for number in numbers {
        writeln!(text, "{number}").expect("a vector takes everything");
    }
}

fn with_itoa(numbers: &[i64], text: &mut Vec<u8>) {
    text.clear();
    let mut digits = itoa::Buffer::new();
    for number in numbers {
        text.extend_from_slice(digits.format(*number).as_bytes());
        text.push(b'\n');
    }
}

/// A copy of fixed size is a few instructions, one of the length of the text a call.
fn with_itoa_in_page(numbers: &[i64], page: &mut [u8], text: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    let mut len = 0;
    for number in numbers {
        let digits = digits.format(*number).as_bytes();
        page[len..len + digits.len()].copy_from_slice(digits);
        len += digits.len();
        page[len] = b'\n';
        len += 1;
    }
    text.clear();
    text.extend_from_slice(&page[..len]);
}

/// Four digits at a time from a table, right-aligned in a small buffer, copied whole.
struct Quads {
    /// For 0 to 9999 their four digits.
    quads: Vec<[u8; 4]>,
}

impl Quads {
    fn new() -> Quads {
        let digit = |n: usize| b'0' + u8::try_from(n % 10).expect("a digit");
        let quads = (0..10_000)
            .map(|n| [digit(n / 1000), digit(n / 100), digit(n / 10), digit(n)])
            .collect();
        Quads { quads }
    }

    fn format(&self, numbers: &[i64], text: &mut Vec<u8>) {
        text.clear();
        text.resize(numbers.len() * LINE_MAX + 32, 0);
        let mut len = 0;
        for &number in numbers {
            len += self.line(number, &mut text[len..]);
        }
        text.truncate(len);
    }

    /// Writes a line to the start of `to` and returns its length.
    #[inline]
    fn line(&self, number: i64, to: &mut [u8]) -> usize {
        let mut len = 0;
        to[0] = b'-';
        len += usize::from(number < 0);
        let mut rest = number.unsigned_abs();
        if rest < 10_000 {
            return len + self.last(rest, &mut to[len..]);
        }
        let mut buffer = [b'0'; 24];
        let mut start = 20;
        while rest >= 10_000 {
            buffer[start..start + 4].copy_from_slice(&self.quads[(rest % 10_000) as usize]);
            rest /= 10_000;
            start -= 4;
        }
        buffer[start..start + 4].copy_from_slice(&self.quads[rest as usize]);
        start += 4 - digits(rest);
        let count = 24 - start;
        to[len..len + count].copy_from_slice(&buffer[start..]);
        to[len + count] = b'\n';
        len + count + 1
    }

    #[inline]
    fn last(&self, number: u64, to: &mut [u8]) -> usize {
        let count = digits(number);
        let quad = u32::from_le_bytes(self.quads[number as usize]);
        let line = (u64::from(quad) | 10 << 32) >> (8 * (4 - count));
        to[..8].copy_from_slice(&line.to_le_bytes());
        count + 1
    }
}

/// How many digits a number below 10,000 has.
#[inline]
fn digits(number: u64) -> usize {
    1 + usize::from(number >= 10) + usize::from(number >= 100) + usize::from(number >= 1000)
}
