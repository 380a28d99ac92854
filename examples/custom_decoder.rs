//! Decodes lines of one's own: readings like `temp=23.5`, written as CSV.
//!
//! ```text
//! cargo run --example custom_decoder -- localhost:8001
//! ```

#![expect(clippy::print_stderr, reason = "stdout has the records")]

use std::env;
use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::str;

use tcpcore::{Config, Encoder, Job, LineDecoder, Report, Server};

/// The longest name of a sensor in bytes. A record is copied as bytes, so it has no heap.
const NAME_MAX: usize = 15;

/// A reading of a sensor.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Reading {
    name: [u8; NAME_MAX],
    name_len: u8,
    value: f64,
}

/// Says why a line is no reading. The log of the job shows it.
#[derive(Debug, PartialEq)]
enum ReadingError {
    NoEqualsSign,
    Name,
    Value,
}

impl fmt::Display for ReadingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadingError::NoEqualsSign => write!(f, "no '=', expected name=value"),
            ReadingError::Name => {
                write!(f, "a bad name, expected 1 to {NAME_MAX} letters, digits or '_'")
            }
            ReadingError::Value => write!(f, "a bad value, expected a decimal number"),
        }
    }
}

impl Error for ReadingError {}

/// Decodes `name=value`. An empty line is skipped.
#[derive(Clone, Debug)]
struct Readings;

impl LineDecoder for Readings {
    type Record = Reading;
    type Error = ReadingError;

    fn decode_line(&self, line: &[u8]) -> Result<Option<Reading>, ReadingError> {
        if line.is_empty() {
            return Ok(None);
        }
        let at = line.iter().position(|byte| *byte == b'=').ok_or(ReadingError::NoEqualsSign)?;
        let (text, value) = (&line[..at], &line[at + 1..]);
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        if !(1..=NAME_MAX).contains(&text.len()) || !text.iter().all(is_name) {
            return Err(ReadingError::Name);
        }
        let value = str::from_utf8(value).ok().and_then(|value| value.parse().ok());
        let value = value.filter(|value: &f64| value.is_finite()).ok_or(ReadingError::Value)?;
        let mut name = [0; NAME_MAX];
        name[..text.len()].copy_from_slice(text);
        let name_len = u8::try_from(text.len()).expect("the length was checked");
        Ok(Some(Reading { name, name_len, value }))
    }
}

/// The longest line of a reading in bytes: a name, a comma, the longest f64 (`{:?}` has an exponent), a line feed.
const LINE_MAX: usize = NAME_MAX + 1 + 32 + 1;

/// Encodes readings as CSV: name, value.
struct Csv;

impl Encoder<Reading> for Csv {
    fn max_len(&self, readings: &[Reading]) -> usize {
        readings.len() * LINE_MAX
    }

    fn encode(&mut self, readings: &[Reading], mut to: &mut [u8]) -> usize {
        let before = to.len();
        for Reading { name, name_len, value } in readings {
            let name = str::from_utf8(&name[..usize::from(*name_len)]).expect("names are ASCII");
            writeln!(to, "{name},{value:?}").expect("LINE_MAX bytes are free for each reading");
        }
        before - to.len()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let servers = env::args().skip(1).map(|argument| argument.parse());
    let report = collect(servers.collect::<Result<_, _>>()?, io::stdout())?;
    eprintln!("{}", report.totals);
    Ok(())
}

/// Reads each server once, to its end, and writes its readings to `output`.
fn collect(
    servers: Vec<Server>,
    output: impl Write + Send + 'static,
) -> Result<Report, Box<dyn Error>> {
    let config = Config::builder().servers(servers).once(true).build()?;
    Ok(Job::builder(config).line_decoder(Readings).encoder(Csv).start(output)?.wait()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    #[test]
    fn a_line_is_a_reading_or_says_what_is_wrong_with_it() {
        let reading = Readings.decode_line(b"temp=23.5").unwrap().unwrap();
        assert_eq!(&reading.name[..usize::from(reading.name_len)], b"temp");
        assert_eq!(reading.value, 23.5);
        assert_eq!(Readings.decode_line(b""), Ok(None));
        assert_eq!(Readings.decode_line(b"temp"), Err(ReadingError::NoEqualsSign));
        assert_eq!(Readings.decode_line(b"=1"), Err(ReadingError::Name));
        assert_eq!(Readings.decode_line(b"a_name_that_is_too_long=1"), Err(ReadingError::Name));
        assert_eq!(Readings.decode_line(b"temp=inf"), Err(ReadingError::Value));
    }

    #[test]
    fn the_longest_reading_fits() {
        for value in [f64::MIN, f64::MAX, f64::MIN_POSITIVE, -1.234_567_890_123_456_7e-300] {
            let line = format!("a23456789012345={value:?}");
            let reading = Readings.decode_line(line.as_bytes()).unwrap().unwrap();
            let mut to = [0; LINE_MAX];
            let len = Csv.encode(&[reading], &mut to);
            let text = String::from_utf8_lossy(&to[..len]).into_owned();
            assert_eq!(text, format!("a23456789012345,{value:?}\n"));
        }
    }

    #[test]
    fn readings_are_written_as_csv_and_other_lines_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().to_string().parse().unwrap();
        let feed = thread::spawn(move || {
            let text = b"temp=23.5\r\nhumidity=40\n\nfoo\ntemp=-1e-9\n";
            listener.accept().unwrap().0.write_all(text).unwrap();
        });
        let (output, writer) = io::pipe().unwrap();
        let report = collect(vec![server], writer).unwrap();
        feed.join().unwrap();
        assert_eq!(io::read_to_string(output).unwrap(), "temp,23.5\nhumidity,40.0\ntemp,-1e-9\n");
        let counters = report.totals.counters;
        assert_eq!((counters.lines, counters.malformed, report.totals.printed), (5, 1, 3));
    }
}
