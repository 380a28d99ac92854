//! Makes numbers that encode their origin, and checks the printed ones with a ledger.
//!
//! A number encodes its server, its connection and its position there. With `--divisor 1` or `--lines` all of them
//! are printed. A number that is lost, repeated, truncated, joined to another or out of order fails at once.
//!
//! Varied lines are written in several ways, and some have another line in front. The number decides that, so that
//! the ledger knows each line byte for byte.

use std::collections::{HashMap, VecDeque};
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::mode::Mode;

/// The most numbers of one connection.
const SEQUENCES: u64 = 1_000_000_000;
/// The most connections of one server.
const CONNECTIONS: u64 = 1_000_000;

/// Returns the number at position `sequence`, from 0, of a server's `connection`, from 1. For a server
/// below 9000 it fits in an `i64`.
pub(crate) fn number(server: usize, connection: u64, sequence: u64) -> u64 {
    assert!(server < 9000 && connection < CONNECTIONS && sequence < SEQUENCES);
    (server as u64 * CONNECTIONS + connection) * SEQUENCES + sequence
}

/// Returns `count` lines with the numbers of a connection from `first` on.
pub(crate) fn lines(server: usize, connection: u64, first: u64, count: u64) -> Vec<u8> {
    let mut text = Vec::new();
    for sequence in first..first + count {
        writeln!(text, "{}", number(server, connection, sequence)).expect("a vector takes all");
    }
    text
}

/// A line that precedes a number in varied text.
enum Preface {
    None,
    Empty,
    /// Without a number that could be printed.
    Malformed(Vec<u8>),
    /// So many bytes, more than the longest line.
    Oversized(usize),
}

/// Returns the line that precedes a number.
fn preface(number: u64) -> Preface {
    let chance = mix(number) / 20;
    match chance % 400 {
        0 => Preface::Malformed(format!("junk {number}").into()),
        1 => Preface::Malformed(
            [b"6 6\0\xff\x1b[2J\t\\\" ", number.to_string().as_bytes(), b"\r"].concat(),
        ),
        2 => Preface::Empty,
        3 => Preface::Malformed(format!("99999999999999999999{number:020}").into()),
        4 => {
            Preface::Oversized(usize::try_from(4097 + chance / 400 % 16_000).expect("it is small"))
        }
        _ => Preface::None,
    }
}

/// Returns the varied text of a number, without its line feed.
fn spelling(number: u64) -> Vec<u8> {
    let text = match mix(number) % 20 {
        0 => format!("{number}\r"),
        1 => format!("+{number}"),
        2 => format!(" \t{number}  "),
        3 => format!("000{number}"),
        _ => number.to_string(),
    };
    text.into_bytes()
}

/// Makes random bits of a number: one step of SplitMix64.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Adds the varied line of a number, and the line that precedes it, if any.
pub(crate) fn add_varied(text: &mut Vec<u8>, number: u64) {
    match preface(number) {
        Preface::None => {}
        Preface::Empty => text.push(b'\n'),
        Preface::Malformed(line) => {
            text.extend_from_slice(&line);
            text.push(b'\n');
        }
        Preface::Oversized(len) => {
            text.resize(text.len() + len, b'6');
            text.push(b'\n');
        }
    }
    text.extend_from_slice(&spelling(number));
    text.push(b'\n');
}

/// A server's record of a connection that has ended.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) connection: u64,
    /// Whole lines with numbers that were passed to the kernel, or may have been.
    pub(crate) sent: u64,
    /// Whether all of them must arrive. A reset may discard unread bytes.
    pub(crate) is_whole: bool,
}

/// The records of all servers, in the order of their connections. A server adds a record before it accepts
/// another connection.
#[derive(Debug)]
pub(crate) struct Records(Vec<Mutex<VecDeque<Record>>>);

impl Records {
    pub(crate) fn new(servers: usize) -> Arc<Records> {
        Arc::new(Records((0..servers).map(|_| Mutex::default()).collect()))
    }

    pub(crate) fn add(&self, server: usize, record: Record) {
        self.0[server].lock().expect("no thread panics with the lock").push_back(record);
    }
}

/// The account of all that was printed.
#[derive(Debug)]
pub(crate) struct Ledger {
    mode: Mode,
    servers: Vec<Progress>,
    records: Arc<Records>,
    /// By server: the number whose preface was printed last.
    prefaced: Vec<Option<u64>>,
    /// The servers by the names that records have in other formats than plain.
    names: HashMap<String, usize>,
    are_varied: bool,
    /// Empty lines that were printed, and those that precede the printed numbers.
    empty: u64,
    expected_empty: u64,
    /// The connections that were compared with their records.
    settled: u64,
    /// The lines so far.
    pub(crate) lines: u64,
}

/// The progress of a server's output: the connection, and its next number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Progress {
    pub(crate) connection: u64,
    pub(crate) next: u64,
}

impl Ledger {
    pub(crate) fn new(servers: usize, mode: Mode) -> Ledger {
        Ledger::with_records(&Records::new(servers), mode)
    }

    /// Creates a ledger that compares each connection with its record.
    pub(crate) fn with_records(records: &Arc<Records>, mode: Mode) -> Ledger {
        let servers = vec![Progress::default(); records.0.len()];
        Ledger {
            mode,
            prefaced: vec![None; servers.len()],
            servers,
            records: Arc::clone(records),
            names: HashMap::new(),
            are_varied: false,
            empty: 0,
            expected_empty: 0,
            settled: 0,
            lines: 0,
        }
    }

    /// Expects [varied lines](add_varied) of the servers at these addresses.
    pub(crate) fn varied(mut self, addresses: &[SocketAddr]) -> Ledger {
        self.are_varied = true;
        self.names = addresses.iter().map(SocketAddr::to_string).zip(0..).collect();
        self
    }

    pub(crate) fn progress(&self, server: usize) -> Progress {
        self.servers[server]
    }

    /// Enters a line of the output. It must be the next number of its server's connection, or the first number of
    /// a later connection, or a line that precedes that number.
    pub(crate) fn enter(&mut self, line: &[u8]) {
        self.lines += 1;
        let printed = self.mode.read(line);
        let text: &[u8] = &printed.text;
        if text.is_empty() && self.mode.lines && self.are_varied {
            self.empty += 1;
            return;
        }
        let shown = || line.escape_ascii();
        let number = last_number(text).unwrap_or_else(|| panic!("no server sent {}", shown()));
        let (rest, sequence) = (number / SEQUENCES, number % SEQUENCES);
        let (server, connection) = (rest / CONNECTIONS, rest % CONNECTIONS);
        let server = usize::try_from(server).expect("a server has an index");
        assert!(server < self.servers.len(), "no server sent {}", shown());
        if let Some(name) = &printed.server {
            assert_eq!(self.names.get(&**name), Some(&server), "not the server of {}", shown());
        }
        let progress = self.servers[server];
        if connection != progress.connection {
            assert!(connection > progress.connection, "{} comes after {progress:?}", shown());
            self.settle(server, connection);
            self.servers[server] = Progress { connection, next: 0 };
        }
        assert_eq!(
            sequence, self.servers[server].next,
            "server {server}, connection {connection}: the printed and the expected number"
        );
        if !self.is_number(server, number, text) {
            panic!("no server sent {}", shown());
        }
    }

    /// Enters a text that ends in the next number of a server. Returns `false` if it is neither the line of the number
    /// nor the line that precedes it.
    fn is_number(&mut self, server: usize, number: u64, text: &[u8]) -> bool {
        let preface = if self.are_varied { preface(number) } else { Preface::None };
        let was_prefaced = self.prefaced[server].take() == Some(number);
        let is_prefaced = match preface {
            Preface::Malformed(line) if self.mode.lines => {
                if !was_prefaced && text == self.mode.shown(&line) {
                    self.prefaced[server] = Some(number);
                    return true;
                }
                true
            }
            Preface::Empty if self.mode.lines => {
                self.expected_empty += 1;
                false
            }
            _ => false,
        };
        self.servers[server].next += 1;
        let is_spelled = self.are_varied && self.mode.lines;
        let line = if is_spelled { spelling(number) } else { number.to_string().into_bytes() };
        was_prefaced == is_prefaced && text == self.mode.shown(&line)
    }

    /// Settles all connections whose end has been recorded. All their numbers must have been read.
    pub(crate) fn settle_all(&mut self) {
        for server in 0..self.servers.len() {
            self.settle(server, u64::MAX);
        }
        // The end of a connection may come between an empty line and its number.
        let expected = self.expected_empty..=self.expected_empty + self.settled;
        assert!(expected.contains(&self.empty), "{} empty lines, not {expected:?}", self.empty);
    }

    /// Compares the connections below the number `before` with their records.
    fn settle(&mut self, server: usize, before: u64) {
        let progress = self.servers[server];
        let mut records = self.records.0[server].lock().expect("no thread panics with the lock");
        while records.front().is_some_and(|record| record.connection < before)
            && let Some(record) = records.pop_front()
        {
            self.settled += 1;
            let is_last = record.connection == progress.connection;
            let printed = if is_last { progress.next } else { 0 };
            let is_right =
                if record.is_whole { printed == record.sent } else { printed <= record.sent };
            assert!(is_right, "server {server}: {printed} records printed, {record:?}");
        }
    }
}

/// Returns the number at the end of a text, before blanks. Digits in front of its 20 digits do not belong to it.
fn last_number(text: &[u8]) -> Option<u64> {
    let end = text.iter().rposition(u8::is_ascii_digit)? + 1;
    let start = text[..end].iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |at| at + 1);
    let digits = &text[start.max(end.saturating_sub(20))..end];
    str::from_utf8(digits).ok()?.parse().ok()
}
