//! The forms in which the program writes records, and how they are read back.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The records that the program makes, and their format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode {
    /// Whether whole lines are the records, instead of numbers.
    pub(crate) lines: bool,
    pub(crate) format: Format,
}

/// A value of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Plain,
    Tsv,
    Json,
}

/// A record as it was printed.
#[derive(Debug)]
pub(crate) struct Printed<'a> {
    /// The server that the record names.
    pub(crate) server: Option<Cow<'a, str>>,
    /// The digits of a number, or a line. In other formats than plain, a line has lost one carriage return at its
    /// end.
    pub(crate) text: Cow<'a, [u8]>,
}

impl Mode {
    pub(crate) const NUMBERS: Mode = Mode { lines: false, format: Format::Plain };
    pub(crate) const LINES: Mode = Mode { lines: true, format: Format::Plain };
    pub(crate) const ALL: [Mode; 6] = [
        Mode::NUMBERS,
        Mode { lines: true, format: Format::Json },
        Mode { lines: false, format: Format::Tsv },
        Mode::LINES,
        Mode { lines: false, format: Format::Json },
        Mode { lines: true, format: Format::Tsv },
    ];

    /// Returns the flags with which the program prints all records.
    pub(crate) fn flags(self) -> impl Iterator<Item = &'static str> {
        let records: &[_] = if self.lines { &["--lines"] } else { &["--divisor", "1"] };
        let format: &[_] = match self.format {
            Format::Plain => &[],
            Format::Tsv => &["--format", "tsv"],
            Format::Json => &["--format", "json"],
        };
        records.iter().chain(format).copied()
    }

    /// Reads a line of the output, given without its line feed.
    pub(crate) fn read(self, line: &[u8]) -> Printed<'_> {
        match self.format {
            Format::Plain => Printed { server: None, text: line.into() },
            Format::Tsv => read_tsv(line),
            Format::Json => read_json(line, self.lines),
        }
    }

    /// Returns the text of a line of a server as it is read back.
    pub(crate) fn shown(self, line: &[u8]) -> &[u8] {
        match self.format {
            Format::Plain => line,
            Format::Tsv | Format::Json => line.strip_suffix(b"\r").unwrap_or(line),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = if self.lines { "lines" } else { "numbers" };
        match self.format {
            Format::Plain => f.write_str(records),
            format => write!(f, "{records} as {format:?}"),
        }
    }
}

fn read_tsv(line: &[u8]) -> Printed<'_> {
    let tab = memchr::memchr(b'\t', line).expect("a tab is behind the server");
    let (server, text) = (&line[..tab], &line[tab + 1..]);
    let mut unescaped = Vec::new();
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        unescaped.push(match byte {
            b'\\' => match bytes.next() {
                Some(b't') => b'\t',
                Some(b'r') => b'\r',
                Some(b'n') => b'\n',
                Some(b'\\') => b'\\',
                other => panic!("an escape of {other:?}"),
            },
            b'\t' | b'\r' => panic!("a bare byte {byte}"),
            byte => *byte,
        });
    }
    let server = str::from_utf8(server).expect("a server is text");
    Printed { server: Some(server.into()), text: unescaped.into() }
}

fn read_json(line: &[u8], is_line: bool) -> Printed<'static> {
    let object: Value = serde_json::from_slice(line).expect("an object of JSON");
    let member = |name: &str| object.get(name);
    let text = |name: &str| member(name).and_then(Value::as_str);
    let time = text("time").expect("a time");
    assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z'), "{time}");
    let record = match (is_line, text("line"), text("line_base64")) {
        (false, None, None) => member("number").expect("a number").to_string().into_bytes(),
        (true, Some(line), None) => line.into(),
        (true, None, Some(line)) => {
            let mut bytes = vec![0; line.len()];
            let len = STANDARD.decode_slice(line, &mut bytes).expect("base64");
            bytes.truncate(len);
            assert!(str::from_utf8(&bytes).is_err(), "text in base64: {line}");
            bytes
        }
        _ => panic!("no record: {object}"),
    };
    assert_eq!(object.as_object().map(|object| object.len()), Some(3), "{object}");
    let server = text("server").expect("a server").to_owned();
    Printed { server: Some(server.into()), text: record.into() }
}
