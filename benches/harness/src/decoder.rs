//! Measures the decoder alone: a region of lines in the cache, on one core.

use std::hint::black_box;
use std::num::NonZeroU64;

use memchr::memchr_iter;
use tcpcore::internals::codec::number::{DecoderPath, Divisor, NumberDecoder, NumberError};
use tcpcore::internals::codec::{Decoder, Framing, Handler};

use crate::payload::{Payload, Sum};
use crate::programs::Programs;
use crate::stats::{Clock, race};
use crate::table::{Goal, Report, Row, figure};
use crate::{Options, Result};

/// Bytes of a region. It has too many lines for the branch predictor to memorize, and it fits in the cache.
const REGION_SIZE: usize = 1024 * 1024;

pub fn run(options: &Options, _: &Programs, report: &mut Report) -> Result<()> {
    let divisor = Divisor::new(NonZeroU64::new(6).expect("it is 6"));
    let framing = Framing::new(4096);
    let repeats = if options.quick { 1 } else { 32 };
    let fastest = NumberDecoder::new(divisor, framing).path();
    let mut figures = Vec::new();
    for path in DecoderPath::available() {
        let decoder = NumberDecoder::on_path(divisor, framing, path)?;
        for payload in Payload::NUMBERS {
            let lines = payload.lines(REGION_SIZE);
            let text = &lines.text[..];
            let mut sum = Sum::default();
            let mut decoded = Matched::default();
            decoder.decode(text, &mut decoded);
            plain_loop(text, |number| sum.add(number));
            if (decoded.0, sum) != (lines.sum, lines.sum) {
                return Err(format!("the decoders disagree on {payload} with {path}").into());
            }

            let times = race(
                Clock::Thread,
                options.rounds * 2 + 1,
                [
                    &mut || {
                        for _ in 0..repeats {
                            black_box(decoder.decode(black_box(text), &mut Sink));
                        }
                    },
                    &mut || {
                        let mut matched = Vec::with_capacity(text.len());
                        for _ in 0..repeats {
                            matched.clear();
                            plain_loop(black_box(text), |number| matched.push(number));
                            black_box(&matched);
                        }
                    },
                    &mut || {
                        for _ in 0..repeats {
                            let newlines = memchr_iter(b'\n', black_box(text));
                            newlines.for_each(|newline| {
                                black_box(newline);
                            });
                        }
                    },
                ],
            );
            let count = lines.count as f64 * f64::from(repeats);
            let [decoder, plain, found] = times.map(|time| count / time / 1e6);
            if let Some(goal) = goal(payload, path) {
                report.rows.push(Row {
                    what: format!("decoder alone with {path}, {payload}, one core"),
                    measured: decoder / plain,
                    goal: Goal::AtLeast(goal),
                    unit: "x a plain byte loop",
                    detail: format!(
                        "{} M lines/s, the plain loop {}, finding the newlines alone {}",
                        figure(decoder),
                        figure(plain),
                        figure(found)
                    ),
                });
            }
            let is_fastest = if path == fastest { " (the default)" } else { "" };
            figures.push(
                [format!("{path}{is_fastest}"), payload.to_string()]
                    .into_iter()
                    .chain([decoder, plain, decoder / plain, found].map(figure))
                    .collect(),
            );
        }
    }
    let head = [
        "decoder, M lines/s",
        "lines",
        "decoder",
        "plain loop",
        "decoder / plain",
        "newlines alone (memchr)",
    ];
    report.add_table(&head, &figures);
    Ok(())
}

/// Returns the least ratio to the plain loop, or `None` without a goal.
fn goal(payload: Payload, path: DecoderPath) -> Option<f64> {
    Some(match (path, payload) {
        (DecoderPath::Fallback, _) => 1.0,
        (DecoderPath::Avx512, Payload::Returns | Payload::Signs | Payload::Marks) => 4.0,
        (DecoderPath::Avx2, Payload::Short) => 3.5,
        (DecoderPath::Avx2, Payload::Long) => 3.0,
        (DecoderPath::Avx2, Payload::Mixed) => 2.5,
        (DecoderPath::Avx2, Payload::Counting) => 1.5,
        (DecoderPath::Avx2, Payload::Returns | Payload::Signs | Payload::Marks) => 2.0,
        _ => return None,
    })
}

/// Decodes byte by byte and checks only the digits: the straightforward loop to compare with.
fn plain_loop(text: &[u8], mut matched: impl FnMut(u64)) -> u64 {
    let (mut number, mut malformed) = (0_u64, 0);
    for &byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        } else if byte == b'\n' {
            if number % 6 == 0 {
                matched(number);
            }
            number = 0;
        } else {
            malformed += 1;
        }
    }
    malformed
}

/// Discards the batches, as the ring has its own benchmark.
struct Sink;

impl Handler<NumberDecoder> for Sink {
    fn records(&mut self, numbers: &[i64]) {
        black_box(numbers);
    }
    fn malformed(&mut self, line: &[u8], _: NumberError) {
        black_box(line);
    }
    fn oversized(&mut self) {}
}

#[derive(Default)]
struct Matched(Sum);

impl Handler<NumberDecoder> for Matched {
    fn records(&mut self, numbers: &[i64]) {
        numbers.iter().for_each(|number| self.0.add(number.unsigned_abs()));
    }
    fn malformed(&mut self, line: &[u8], error: NumberError) {
        panic!("{}: {error}", line.escape_ascii());
    }
    fn oversized(&mut self) {
        panic!("no line is oversized");
    }
}
