//! Encodes records with their worker, or with their server and time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::address::Server;
use crate::codec::Framing;
use crate::format::Format;
use crate::origin::Origin;
use crate::partition::Shard;
use crate::stats::ServerNames;

use super::lines::LineJoiner;
use super::prefix::Prefix;
use super::{Encoder, NUMBER_MAX_LEN, Plain, escape};

/// Encodes numbers in any [`Format`].
#[derive(Debug)]
pub struct TaggedNumbers {
    prefix: Prefix,
    plain: Plain,
    is_json: bool,
}

impl TaggedNumbers {
    /// Makes an encoder. `servers` are those of the [`Config`](crate::Config), whose indices an [`Origin`] has.
    pub fn new(format: Format, servers: &[Server]) -> TaggedNumbers {
        TaggedNumbers {
            prefix: Prefix::new(format, servers, b"\"number\":"),
            plain: Plain::default(),
            is_json: format == Format::Json,
        }
    }

    /// Adds the shard to each object of [`Json`](Format::Json): `"shard":"1/4"`. With `None`, the default, there is none.
    #[must_use]
    pub fn with_shard(mut self, shard: Option<Shard>) -> Self {
        self.prefix.set_shard(shard);
        self
    }
}

impl Encoder<i64> for TaggedNumbers {
    fn needs_origin(&self) -> bool {
        true
    }

    fn set_servers(&mut self, servers: ServerNames) {
        self.prefix.set_servers(servers);
    }

    fn set_origin(&mut self, origin: Origin) {
        self.prefix.set_origin(origin);
    }

    fn max_len(&self, numbers: &[i64]) -> usize {
        // One more byte for the brace of JSON.
        numbers.len() * (self.prefix.space() + NUMBER_MAX_LEN + 1)
    }

    fn encode(&mut self, numbers: &[i64], to: &mut [u8]) -> usize {
        let mut len = 0;
        for &number in numbers {
            len += self.prefix.write(&mut to[len..]);
            len += self.plain.write(number, &mut to[len..]);
            if self.is_json {
                // The brace overwrites the line feed.
                to[len - 1..=len].copy_from_slice(b"}\n");
                len += 1;
            }
        }
        len
    }
}

/// Encodes lines, the records of [`Lines`](crate::Lines), in any [`Format`]. Each ends with a line feed.
///
/// A line is written without its delimiter, and without one carriage return in front of a line feed.
/// [`Plain`](Format::Plain) writes line feeds within a line as [`Task`](Format::Task) does. To pass lines on byte for
/// byte, use [`PlainLines`](crate::PlainLines).
#[derive(Debug)]
pub struct TaggedLines {
    format: Format,
    /// Lines end with another delimiter than a line feed, so that they may contain line feeds.
    has_line_feeds: bool,
    prefix: Prefix,
    joiner: LineJoiner,
}

/// The longest text of an object around a line, beyond the prefix.
const AROUND: usize = "\"line_base64\":\"\"}\n".len();

impl TaggedLines {
    /// Makes an encoder. `framing` is that of the decoder. `servers` are those of the [`Config`](crate::Config),
    /// whose indices an [`Origin`] has.
    pub fn new(format: Format, framing: Framing, servers: &[Server]) -> TaggedLines {
        TaggedLines {
            format,
            has_line_feeds: framing.delimiter() != b'\n',
            prefix: Prefix::new(format, servers, b""),
            joiner: LineJoiner::new(framing),
        }
    }

    /// Adds the shard to each object of [`Json`](Format::Json): `"shard":"1/4"`. With `None`, the default, there is none.
    #[must_use]
    pub fn with_shard(mut self, shard: Option<Shard>) -> Self {
        self.prefix.set_shard(shard);
        self
    }
}

impl Encoder<u8> for TaggedLines {
    fn needs_origin(&self) -> bool {
        true
    }

    fn set_servers(&mut self, servers: ServerNames) {
        self.prefix.set_servers(servers);
    }

    fn set_origin(&mut self, origin: Origin) {
        self.prefix.set_origin(origin);
    }

    fn max_len(&self, bytes: &[u8]) -> usize {
        let lines = usize::try_from(self.joiner.count(bytes)).expect("there are fewer than bytes");
        if lines == 0 {
            return 0;
        }
        let around = self.prefix.space() + AROUND;
        lines * around + escape::space(self.joiner.held() + bytes.len())
    }

    fn encode(&mut self, bytes: &[u8], to: &mut [u8]) -> usize {
        let TaggedLines { format, has_line_feeds, prefix, joiner } = self;
        let mut len = 0;
        joiner.feed(bytes, |line| {
            len += prefix.write(&mut to[len..]);
            let to = &mut to[len..];
            len += match format {
                Format::Json => json_line(line, to),
                Format::Tsv => end_line(escape::tsv(line, to), to),
                Format::Plain | Format::Task if *has_line_feeds => {
                    end_line(escape::one_line(line, to), to)
                }
                Format::Plain | Format::Task => {
                    to[..line.len()].copy_from_slice(line);
                    end_line(line.len(), to)
                }
            };
        });
        len
    }

    fn count(&self, bytes: &[u8]) -> u64 {
        self.joiner.count(bytes)
    }

    fn is_within_line(&self) -> bool {
        self.joiner.is_within_line()
    }
}

/// Ends a line of this length and returns its length with the line feed.
fn end_line(len: usize, to: &mut [u8]) -> usize {
    to[len] = b'\n';
    len + 1
}

/// Writes the member of a line, the end of its object and the line feed. Returns the length.
fn json_line(line: &[u8], to: &mut [u8]) -> usize {
    let is_text = str::from_utf8(line).is_ok();
    let key: &[u8] = if is_text { b"\"line\":\"" } else { b"\"line_base64\":\"" };
    to[..key.len()].copy_from_slice(key);
    let value = &mut to[key.len()..];
    let len = if is_text {
        escape::json(line, value)
    } else {
        STANDARD.encode_slice(line, value).expect("base64 is shorter than the longest escapes")
    };
    value[len..len + 3].copy_from_slice(b"\"}\n");
    key.len() + len + 3
}

#[cfg(test)]
mod tests;
