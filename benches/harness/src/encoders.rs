//! Measures the encoder [`Plain`] against other code that writes numbers as lines, and the encoders of all formats.

use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, SystemTime};

use tcpcore::internals::codec::Framing;
use tcpcore::internals::output::encode::{
    ENCODE_SLACK, Encoder, NUMBER_MAX_LEN, Plain, PlainLines, TaggedLines, TaggedNumbers,
};
use tcpcore::{Format, Origin, Server};

use crate::payload::Payload;
use crate::programs::Programs;
use crate::stats::{Clock, race};
use crate::table::{Goal, Report, Row, figure};
use crate::{Options, Result};

/// Bytes of text that the output writes at once.
const WRITE_SIZE: usize = 64 * 1024;

/// Bytes of records that the output adds at once.
const ADD_BYTES: usize = 16 * 1024;

pub fn run(options: &Options, _: &Programs, report: &mut Report) -> Result<()> {
    run_plain(options, report)?;
    run_formats(options, report);
    Ok(())
}

fn run_plain(options: &Options, report: &mut Report) -> Result<()> {
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

/// Measures batches of one origin, as the output adds them.
fn run_formats(options: &Options, report: &mut Report) {
    let numbers: Vec<i64> = Payload::Short
        .numbers()
        .map(u64::cast_signed)
        .filter(|number| number % 6 == 0)
        .take(ADD_BYTES / size_of::<i64>())
        .collect();
    let lines = Payload::Text.lines(ADD_BYTES);
    let framing = Framing::new(4096);
    let servers: [Server; 1] = ["localhost:8001".parse().expect("it is well formed")];
    let origin = Origin::new(0, 0, SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_610_096));
    let mut figures = Vec::new();
    for format in Format::ALL {
        let [number, line] = if format == Format::Plain {
            [
                rate(options, Plain::default(), origin, &numbers),
                rate(options, PlainLines::new(framing), origin, &lines.text),
            ]
        } else {
            [
                rate(options, TaggedNumbers::new(format, &servers), origin, &numbers),
                rate(options, TaggedLines::new(format, framing, &servers), origin, &lines.text),
            ]
        };
        let goal = match format {
            Format::Tsv => 80.0,
            Format::Json => 60.0,
            _ => 0.0,
        };
        if goal > 0.0 {
            report.rows.push(Row {
                what: format!("encoder alone, 1..666 as {format}, one core"),
                measured: number,
                goal: Goal::AtLeast(goal),
                unit: " M records/s",
                detail: format!("lines of 40 bytes: {} M/s", figure(line)),
            });
        }
        figures.push(vec![format.to_string(), figure(number), figure(line)]);
    }
    report.add_table(&["format, M records/s", "1..666", "lines of 40 bytes"], &figures);
}

/// Returns the millions of records per second, with all calls that the output makes for a batch.
fn rate<T>(options: &Options, mut encoder: impl Encoder<T>, origin: Origin, records: &[T]) -> f64 {
    let repeats = if options.quick { 1 } else { 100 };
    encoder.set_origin(origin);
    let count = encoder.count(records);
    let mut text = vec![0; encoder.max_len(records) + ENCODE_SLACK];
    let [time] = race(
        Clock::Thread,
        options.rounds * 2 + 1,
        [&mut || {
            for _ in 0..repeats {
                let records = black_box(records);
                black_box((encoder.count(records), encoder.max_len(records)));
                black_box(encoder.encode(records, &mut text));
            }
        }],
    );
    (count * repeats) as f64 / time / 1e6
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
