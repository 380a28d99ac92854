//! Measures the encoder [`Plain`] against other code that writes numbers as lines.

use std::hint::black_box;
use std::io::Write;

use tcpcore::internals::output::encode::{ENCODE_SLACK, NUMBER_MAX_LEN, Plain};

use crate::payload::Payload;
use crate::programs::Programs;
use crate::stats::{Clock, race};
use crate::table::{Report, figure};
use crate::{Options, Result};

/// Bytes of text that the output writes at once.
const WRITE_SIZE: usize = 64 * 1024;

pub fn run(options: &Options, _: &Programs, report: &mut Report) -> Result<()> {
    let repeats = if options.quick { 1 } else { 100 };
    let mut figures = Vec::new();
    for payload in [Payload::Short, Payload::Long, Payload::Mixed] {
        let numbers: Vec<i64> = payload
            .numbers()
            .map(|number| i64::try_from(number).expect("18 digits fit"))
            .filter(|number| number % 6 == 0)
            .take(WRITE_SIZE / NUMBER_MAX_LEN)
            .collect();
        let encoder = Plain::default();
        let mut texts: [Vec<u8>; 4] = [const { Vec::new() }; 4];
        let [a, b, c, d] = &mut texts;
        let mut buffer = vec![0; WRITE_SIZE + ENCODE_SLACK];
        let mut second_buffer = buffer.clone();
        let times = race(
            Clock::Thread,
            options.rounds * 2 + 1,
            [
                &mut || (0..repeats).for_each(|_| with_write(black_box(&numbers), a)),
                &mut || (0..repeats).for_each(|_| with_itoa(black_box(&numbers), b)),
                &mut || {
                    (0..repeats)
                        .for_each(|_| with_itoa_in_slice(black_box(&numbers), &mut buffer, c))
                },
                &mut || {
                    (0..repeats).for_each(|_| {
                        with_plain(&encoder, black_box(&numbers), &mut second_buffer, d)
                    })
                },
            ],
        );
        if texts.iter().any(|text| *text != texts[0]) {
            return Err(format!("the encoders disagree on {payload}").into());
        }
        let nanos = times.map(|time| time * 1e9 / (numbers.len() * repeats) as f64);
        figures.push(std::iter::once(payload.to_string()).chain(nanos.map(figure)).collect());
    }
    let head = ["ns per number", "write!", "itoa, extend", "itoa into a slice", "Plain"];
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

/// Writes each number into a slice. The length of the copy varies, so it is a call. A copy of fixed size
/// would be a few instructions.
fn with_itoa_in_slice(numbers: &[i64], buffer: &mut [u8], text: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    let mut len = 0;
    for number in numbers {
        let digits = digits.format(*number).as_bytes();
        buffer[len..len + digits.len()].copy_from_slice(digits);
        len += digits.len();
        buffer[len] = b'\n';
        len += 1;
    }
    text.clear();
    text.extend_from_slice(&buffer[..len]);
}

/// Writes the numbers with [`Plain`], as the program does.
fn with_plain(encoder: &Plain, numbers: &[i64], buffer: &mut [u8], text: &mut Vec<u8>) {
    let mut len = 0;
    for number in numbers {
        len += encoder.write(*number, &mut buffer[len..]);
    }
    text.clear();
    text.extend_from_slice(&buffer[..len]);
}
