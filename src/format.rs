//! Names the formats of the output.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// The format in which records are written. Each record is one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// The record alone: `216`. This is the default.
    #[default]
    Plain,
    /// The number of the worker, counted from 1, and the record: `2> 216`. Flink's print sink writes the same.
    ///
    /// If lines end with another delimiter than a line feed, they may contain line feeds. A line feed and a backslash
    /// in a line are then written as `\n` and `\\`.
    Task,
    /// The server, a tab and the record. In both, a tab, a carriage return, a line feed and a backslash are written
    /// as `\t`, `\r`, `\n` and `\\`.
    Tsv,
    /// A JSON object: `server`, `time`, `shard` if the job has one, and `number` or `line`.
    ///
    /// `time` is when the record was read, by RFC 3339, in UTC with milliseconds. A line that is not UTF-8 has
    /// `line_base64` instead of `line`.
    Json,
}

impl Format {
    /// All formats, in the order of the help.
    pub const ALL: [Format; 4] = [Format::Plain, Format::Task, Format::Tsv, Format::Json];

    /// The names of all formats, as a message lists them.
    pub(crate) const NAMES: &str = "plain, task, tsv or json";

    /// Returns the name, as [`FromStr`] takes it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Plain => "plain",
            Format::Task => "task",
            Format::Tsv => "tsv",
            Format::Json => "json",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(name: &str) -> Result<Format, FormatError> {
        Format::ALL.into_iter().find(|format| format.name() == name).ok_or(FormatError(()))
    }
}

/// The error of an unknown name of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError(());

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", Format::NAMES)
    }
}

impl Error for FormatError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_parsed_from_its_name_and_from_nothing_else() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        for other in ["", "JSON", "json ", "csv"] {
            let error = other.parse::<Format>().unwrap_err().to_string();
            assert!(Format::ALL.iter().all(|format| error.contains(format.name())), "{error}");
        }
    }
}
