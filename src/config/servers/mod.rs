//! Parses a list file of servers, reads one, and compares two lists.
//!
//! A list file has one server a line, with optional fields after it:
//!
//! ```text
//! # The gates of the north side.
//! 10.0.0.7:9000        name=gate-7
//! gate8.example:9000   # shown by its address
//! ```
//!
//! Blanks and tabs separate. A `#` at the start of a line or after a blank begins a comment. A carriage return at
//! the end of a line and a UTF-8 byte order mark are dropped.

mod difference;
mod file;

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fmt;
use std::num::NonZeroU16;

use crate::address::{Host, Server, ServerError, ServerErrorKind};
use crate::text::count;
use crate::text::echo::quoted;
use crate::text::nearest::nearest;

pub use difference::{Difference, difference};
pub use file::{STDIN, load, read, reread};

/// The largest list file: 64 MiB, or about a million servers. It bounds the memory that a wrong file takes.
pub const MAX_BYTES: usize = 64 << 20;

/// The longest line of a list file, in bytes without its end. The longest host and name take 400.
pub const MAX_LINE: usize = 4096;

/// The most lines with errors that are described. It bounds the text of a file of another kind.
const MAX_ERRORS: usize = 8;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The keys of all fields.
const KEYS: [&str; 1] = ["name"];

/// The error of a list file: the first error of each of its wrong lines, or why it cannot be read.
///
/// [`messages`](Self::messages) describes up to eight lines. `Display` describes the first on one line, with the
/// number of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListError {
    /// Invariant: from one to [`MAX_ERRORS`].
    messages: Vec<String>,
    /// The further lines with errors.
    more: usize,
    was_read: bool,
}

impl ListError {
    /// Makes the error of a whole file.
    fn of_file(source: &str, problem: &str) -> ListError {
        ListError { messages: vec![format!("{source}: {problem}")], more: 0, was_read: true }
    }

    /// Makes the error of a file that could not be read.
    fn unread(source: &str, problem: &str) -> ListError {
        ListError { was_read: false, ..ListError::of_file(source, problem) }
    }

    /// Returns whether the file was read. The same content then has the same error again.
    pub fn was_read(&self) -> bool {
        self.was_read
    }

    /// Returns the messages, each one line: `servers.txt:3:1: "localhost": no port, expected host:port`.
    ///
    /// The numbers are those of the line and of the character, both from 1. A last message counts the lines with
    /// errors beyond the eighth.
    pub fn messages(&self) -> impl Iterator<Item = String> {
        let more = (self.more > 0).then(|| format!("and {} with errors", further_lines(self.more)));
        self.messages.iter().cloned().chain(more)
    }
}

impl Error for ListError {}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.messages[0])?;
        match self.messages.len() - 1 + self.more {
            0 => Ok(()),
            more => write!(f, " (and {} with errors)", further_lines(more)),
        }
    }
}

fn further_lines(number: usize) -> String {
    count(number, "more line")
}

/// Parses a list file.
///
/// `source` is the name of the file in an error. `arguments` are the servers that do not come from the file. A name
/// in the file must differ from the label of each of them.
///
/// # Errors
///
/// Fails if a line is not a server with fields, if a server or a name is listed twice, or if a name is the label of
/// another server. A server is listed twice if another line has its address, whatever the names.
pub fn parse(source: &str, bytes: &[u8], arguments: &[Server]) -> Result<Vec<Server>, ListError> {
    if bytes.len() > MAX_BYTES {
        return Err(too_large(source));
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(ListError::of_file(source, "UTF-16, expected UTF-8; save it as UTF-8"));
    }
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let mut list = List::new(arguments);
    let mut error = ListError { messages: Vec::new(), more: 0, was_read: true };
    for (line, number) in bytes.split(|byte| *byte == b'\n').zip(1..) {
        let Err(Mistake { column, problem }) = list.add(line, number) else {
            continue;
        };
        if error.messages.len() < MAX_ERRORS {
            error.messages.push(format!("{source}:{number}:{column}: {problem}"));
        } else {
            error.more += 1;
        }
    }
    if error.messages.is_empty() { Ok(list.servers) } else { Err(error) }
}

fn too_large(source: &str) -> ListError {
    let problem = format!("too large, expected at most {} MiB", MAX_BYTES >> 20);
    ListError::of_file(source, &problem)
}

/// The first error of a line.
struct Mistake {
    /// The number of the character, from 1.
    column: usize,
    problem: String,
}

/// The servers of the lines so far.
struct List {
    servers: Vec<Server>,
    /// By [`Server::identity`]: the number of its line.
    addresses: HashMap<(Host, NonZeroU16), usize>,
    /// By label: the number of its line.
    labels: HashMap<String, usize>,
    /// The labels of the servers that do not come from the file.
    arguments: HashSet<String>,
}

impl List {
    fn new(arguments: &[Server]) -> List {
        List {
            servers: Vec::new(),
            addresses: HashMap::new(),
            labels: HashMap::new(),
            arguments: arguments.iter().map(|server| server.label().into_owned()).collect(),
        }
    }

    /// Adds the server of a line, if it has one.
    fn add(&mut self, line: &[u8], number: usize) -> Result<(), Mistake> {
        let Some(Entry { server, at, name_at }) = parse_line(line)? else {
            return Ok(());
        };
        let mistake = |column, problem| Err(Mistake { column, problem });
        let address = server.identity();
        if let Some(first) = self.addresses.get(&address) {
            let address = quoted(server.address());
            return mistake(
                at,
                format!(
                    "{address}: listed on line {first} too, expected each server once; \
                     remove one of the two lines"
                ),
            );
        }
        let label = server.label().into_owned();
        let taken_by = match self.labels.get(&label) {
            Some(first) => Some(format!("the server of line {first}")),
            None if server.name().is_some() && self.arguments.contains(&label) => {
                Some("a server of the arguments".into())
            }
            None => None,
        };
        if let Some(other) = taken_by {
            let label = quoted(label);
            let problem = format!(
                "{label} also stands for {other}, expected a name of its own; change the name"
            );
            return mistake(name_at.unwrap_or(at), problem);
        }
        self.addresses.insert(address, number);
        self.labels.insert(label, number);
        self.servers.push(server);
        Ok(())
    }
}

/// A line with a server.
struct Entry {
    server: Server,
    /// The column of the server.
    at: usize,
    /// The column of its name.
    name_at: Option<usize>,
}

/// Parses a line without its line feed.
fn parse_line(line: &[u8]) -> Result<Option<Entry>, Mistake> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > MAX_LINE {
        let column = characters(&line[..MAX_LINE]) + 1;
        let problem = format!("the line is too long, expected at most {MAX_LINE} bytes");
        return Err(Mistake { column, problem });
    }
    // Only the text in front of a comment has to be UTF-8.
    let line = &line[..comment_at(line)];
    let text = str::from_utf8(line).map_err(|error| {
        let valid = &line[..error.valid_up_to()];
        let byte = line[valid.len()];
        Mistake {
            column: characters(valid) + 1,
            problem: format!("byte {byte:#04x} is not UTF-8, expected UTF-8; save it as UTF-8"),
        }
    })?;
    let mut tokens = tokens(text);
    let Some(first) = tokens.next() else {
        return Ok(None);
    };
    let mut server = parse_server(first)?;
    let mut name_at = None;
    for field in tokens {
        let Some((key, value)) = field.split() else {
            return Err(field.mistake(not_a_field(field.text)));
        };
        match key {
            "name" if name_at.is_none() => {
                server = server.with_name(value.text).map_err(|error| {
                    value.mistake(format!("{}: {error}{}", quoted(value.text), unquoted(value)))
                })?;
                name_at = Some(value.column);
            }
            "name" => {
                let problem = "a second name, expected one; remove one of the two";
                return Err(field.mistake(problem.into()));
            }
            _ => return Err(field.mistake(unknown_key(key))),
        }
    }
    Ok(Some(Entry { server, at: first.column, name_at }))
}

/// Returns the index of the `#` that begins a comment, or the length of the line.
fn comment_at(line: &[u8]) -> usize {
    let is_start = |at: &usize| line[*at] == b'#' && (*at == 0 || is_blank(line[at - 1]));
    (0..line.len()).find(is_start).unwrap_or(line.len())
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Counts the characters of a text. Bytes that are not UTF-8 count as a user's editor shows them.
fn characters(bytes: &[u8]) -> usize {
    String::from_utf8_lossy(bytes).chars().count()
}

/// A part of a line between blanks.
#[derive(Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    /// The number of its first character, from 1.
    column: usize,
}

fn tokens(line: &str) -> impl Iterator<Item = Token<'_>> {
    let mut column = 1;
    let pieces = line.split([' ', '\t']).map(move |text| {
        let token = Token { text, column };
        column += text.chars().count() + 1;
        token
    });
    pieces.filter(|token| !token.text.is_empty())
}

impl<'a> Token<'a> {
    fn mistake(self, problem: String) -> Mistake {
        Mistake { column: self.column, problem }
    }

    /// Splits a field into its key and its value.
    fn split(self) -> Option<(&'a str, Token<'a>)> {
        let (key, text) = self.text.split_once('=')?;
        Some((key, Token { text, column: self.column + key.chars().count() + 1 }))
    }
}

fn parse_server(token: Token<'_>) -> Result<Server, Mistake> {
    token.text.parse().map_err(|error: ServerError| {
        let is_field = token.split().is_some_and(|(key, _)| KEYS.contains(&key));
        let shown = quoted(token.text);
        token.mistake(if is_field {
            format!("{shown}: a field without a server, expected host:port before it")
        } else if error.kind() == ServerErrorKind::List {
            format!("{shown}: a list, expected one server a line; write each on a line of its own")
        } else if is_foreign_comment(token.text) {
            format!("{shown}: not a server, expected host:port; begin a comment with #")
        } else {
            error.to_string()
        })
    })
}

/// Returns whether other kinds of files have comments that begin so.
fn is_foreign_comment(text: &str) -> bool {
    ["//", ";", "--"].iter().any(|start| text.starts_with(start))
}

/// Describes a text after the server that has no `=`.
fn not_a_field(text: &str) -> String {
    let remedy = if text.parse::<Server>().is_ok() {
        "write each server on a line of its own".into()
    } else if KEYS.contains(&text) {
        format!("write {text}=VALUE without blanks")
    } else if is_foreign_comment(text) {
        "begin a comment with #".into()
    } else {
        "a value has no blanks, and a comment begins with #".to_owned()
    };
    format!("{}: not a field, expected {}; {remedy}", quoted(text), expected_fields())
}

fn unknown_key(key: &str) -> String {
    let meant = nearest(key, KEYS.into_iter());
    let remedy = meant.first().map_or(String::new(), |key| format!("; did you mean {key}=?"));
    format!("{}: no such field, expected {}{remedy}", quoted(key), expected_fields())
}

fn expected_fields() -> String {
    format!("{}=VALUE", KEYS.join("=VALUE or "))
}

/// Proposes a quoted value without its quotes.
fn unquoted(value: Token<'_>) -> String {
    let inner = value.text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let server: Server = "localhost:1".parse().expect("it is well formed");
    match inner.filter(|name| server.with_name(*name).is_ok()) {
        Some(name) => format!("; write name={name}"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests;
