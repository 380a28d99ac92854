//! Sockets as the kernel shows them to a poll loop, and what the servers at their other ends send.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::chance::{Chance, Kind};
use super::codec::{Codec, Fate};
use super::oracle::Rules;

/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// The kind of a line that is read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineKind {
    Number(i64),
    Heartbeat,
    Malformed,
    Oversized,
}

/// How far a socket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    /// It failed. The error is reported once, as `SO_ERROR` is.
    Failed {
        reported: bool,
    },
    Established,
    Itself,
}

/// Readiness that the poll has not mentioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    None,
    /// It has arisen, and the poll's list does not have it yet.
    New,
    /// It stands in the poll's list since after this reading of the clock, counted from 0.
    Since(u64),
}

/// How the server ended its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    Reset,
}

/// A socket, both ends of it.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) server: usize,
    /// How many sockets were opened to the server before.
    connection: u64,
    pub(super) phase: Phase,
    pub(super) is_open: bool,
    /// Since when there is readiness that the poll has not mentioned. Edge-triggered: set when something
    /// arrives.
    pub(super) edge: Edge,
    pub(super) end: Option<End>,
    /// Whether the error of a reset was reported: the system does so once.
    pub(super) is_end_reported: bool,
    /// What has arrived, and up to where it was read.
    inbox: Vec<u8>,
    read_at: usize,
    /// The last urgent byte: a read stops before it.
    urgent_at: Option<usize>,
    /// Whole lines in order, with the offset behind each one's newline.
    lines: VecDeque<(usize, LineKind)>,
    /// The rest of a byte order mark that the server has begun to send.
    rest_of_mark: &'static [u8],
    /// The line that the server has begun and not ended.
    open_line: Option<OpenLine>,
    /// Where the line that is being read began.
    line_start: usize,
    /// Whether that line has been counted as too long before its end.
    is_skipping: bool,
    /// How many lines this connection has begun.
    sequence: u64,
}

#[derive(Debug)]
struct OpenLine {
    /// Without its newline.
    sent: usize,
    rest: Vec<u8>,
    kind: LineKind,
}

/// What a socket's lines were found to be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lines {
    pub(super) lines: u64,
    pub(super) malformed: u64,
    pub(super) oversized: u64,
    /// Those that are passed on.
    pub(super) matched: u64,
}

impl Lines {
    /// Counts a line that is not oversized.
    pub(super) fn add(&mut self, fate: Fate) {
        self.lines += 1;
        self.matched += u64::from(fate == Fate::PassedOn);
        self.malformed += u64::from(fate == Fate::Malformed);
    }

    /// Counts an oversized line.
    pub(super) fn add_oversized(&mut self) {
        self.lines += 1;
        self.oversized += 1;
    }
}

impl Socket {
    pub(super) fn new(server: usize, connection: u64) -> Socket {
        Socket {
            server,
            connection,
            phase: Phase::Connecting,
            is_open: true,
            edge: Edge::None,
            end: None,
            is_end_reported: false,
            inbox: Vec::new(),
            read_at: 0,
            urgent_at: None,
            lines: VecDeque::new(),
            rest_of_mark: b"",
            open_line: None,
            line_start: 0,
            is_skipping: false,
            sequence: 0,
        }
    }

    pub(super) fn unread(&self) -> usize {
        self.inbox.len() - self.read_at
    }

    pub(super) fn sent(&self) -> usize {
        self.inbox.len()
    }

    /// Whether the server can still send.
    pub(super) fn is_live(&self) -> bool {
        self.is_open && self.phase == Phase::Established && self.end.is_none()
    }

    pub(super) fn close(&mut self) {
        self.is_open = false;
        self.edge = Edge::None;
        self.inbox = Vec::new();
        self.read_at = 0;
    }

    /// Something has arrived.
    pub(super) fn wake(&mut self) {
        if self.edge == Edge::None {
            self.edge = Edge::New;
        }
    }

    /// Whether an event says that a short read does not mean that nothing is left.
    pub(super) fn read_on(&self) -> bool {
        self.end.is_some() || self.urgent_at.is_some_and(|at| at >= self.read_at)
    }

    pub(super) fn end_with(&mut self, end: End, chance: &mut Chance<'_>) {
        self.end = Some(end);
        self.wake();
        // Some systems throw away what was received before a reset, others hand it out first.
        if end == End::Reset && chance.one_in(2) {
            self.inbox.truncate(self.read_at);
            self.urgent_at = None;
        }
    }

    /// The server ends a line, an empty one if it has begun none, with a newline that is urgent data.
    pub(super) fn send_urgent(&mut self, rules: &Rules) {
        self.finish_mark();
        let empty = OpenLine { sent: 0, rest: Vec::new(), kind: LineKind::Heartbeat };
        let at = self.inbox.len() + self.open_line.get_or_insert(empty).rest.len();
        self.end_line(rules);
        self.urgent_at = Some(at);
    }

    /// The server sends a line, or first the rest of the one it has begun.
    pub(super) fn send_line(&mut self, rules: &Rules, chance: &mut Chance<'_>) {
        if self.open_line.is_some() {
            return self.end_line(rules);
        }
        self.begin_line(usize::MAX, rules, chance);
        self.end_line(rules);
    }

    /// The server sends more than may be read in a turn, in lines of one length.
    pub(super) fn send_much(&mut self, len: usize, rules: &Rules) {
        self.end_line(rules);
        self.finish_mark();
        let digits = rules.max_line.min(64);
        for _ in 0..len.div_ceil(digits + 1) {
            let number = self.next_number(rules.max_line);
            write!(self.inbox, "{number:0digits$}").expect("a vector takes all");
            self.inbox.push(rules.delimiter);
            self.lines.push_back((self.inbox.len(), LineKind::Number(number)));
        }
        self.wake();
    }

    /// The server sends malformed lines.
    pub(super) fn send_junk(&mut self, lines: usize, rules: &Rules) {
        self.end_line(rules);
        for _ in 0..lines {
            self.arrive(&[b'x', rules.delimiter]);
            self.lines.push_back((self.inbox.len(), LineKind::Malformed));
        }
    }

    /// The server sends up to `limit` bytes of a line.
    pub(super) fn begin_line(&mut self, limit: usize, rules: &Rules, chance: &mut Chance<'_>) {
        if self.open_line.is_some() {
            return;
        }
        let (mut text, kind) = line(self.next_number(rules.max_line), rules, chance);
        let rest = text.split_off(limit.min(text.len()));
        self.open_line = Some(OpenLine { sent: text.len(), rest, kind });
        self.arrive(&text);
    }

    /// Whether the server has begun a line and not ended it.
    pub(super) fn has_begun_line(&self) -> bool {
        self.open_line.is_some()
    }

    /// The server goes on with a line that has no end in sight.
    pub(super) fn send_endless(&mut self, len: usize, rules: &Rules) {
        if self.open_line.as_ref().is_some_and(|line| line.kind != LineKind::Malformed) {
            self.end_line(rules);
        }
        let line = self.open_line.get_or_insert(OpenLine {
            sent: 0,
            rest: b"x".to_vec(),
            kind: LineKind::Malformed,
        });
        line.sent += len;
        self.arrive(&vec![b'x'; len]);
    }

    /// The server ends the line that it has begun, if any.
    pub(super) fn end_line(&mut self, rules: &Rules) {
        let Some(mut line) = self.open_line.take() else { return };
        let is_too_long = line.sent + line.rest.len() > rules.max_line;
        line.rest.push(rules.delimiter);
        self.arrive(&line.rest);
        let kind = if is_too_long { LineKind::Oversized } else { line.kind };
        self.lines.push_back((self.inbox.len(), kind));
    }

    /// A number that says whose it is: in its digits are the server, the connection and the line, as
    /// much of each as the lines have room for. The last digits count, so that any divisor divides
    /// some of them.
    fn next_number(&mut self, max_line: usize) -> i64 {
        self.sequence += 1;
        let (connections, lines) = match max_line {
            ..6 => (1, 10),
            6..16 => (100, 1000),
            _ => (100_000, 10_000_000),
        };
        let connection = (self.server as u64 + 1) * connections + self.connection % connections;
        let number = connection * lines + self.sequence % lines;
        let number = if max_line == 1 { number % 10 } else { number };
        i64::try_from(number).expect("at most 13 digits")
    }

    /// The server begins its stream with a byte order mark, whole or with a pause in it, or with a part of one, which
    /// belongs to its first line.
    pub(super) fn begin_mark(&mut self, rules: &Rules, chance: &mut Chance<'_>) {
        let len = 1 + chance.index(2);
        if chance.fault(Kind::Mark, 3) {
            self.arrive(MARK);
        } else if chance.fault(Kind::SplitMark, 3) {
            self.arrive(&MARK[..len]);
            self.rest_of_mark = &MARK[len..];
        } else if chance.fault(Kind::PartOfMark, 3) {
            self.arrive(&MARK[..len]);
            let rest = self.next_number(rules.max_line).to_string().into_bytes();
            self.open_line = Some(OpenLine { sent: len, rest, kind: LineKind::Malformed });
        }
    }

    fn finish_mark(&mut self) {
        self.inbox.extend_from_slice(std::mem::take(&mut self.rest_of_mark));
    }

    fn arrive(&mut self, bytes: &[u8]) {
        self.finish_mark();
        self.inbox.extend_from_slice(bytes);
        self.wake();
    }

    /// Takes the lines that were read since the last call. The records that `C` must make of them go to `records`.
    pub(super) fn settle<C: Codec>(
        &mut self,
        rules: &Rules,
        records: &mut Vec<C::Record>,
        chance: &mut Chance<'_>,
    ) -> Lines {
        let max_line = rules.max_line;
        let mut found = Lines::default();
        if self.is_within_mark() {
            return found;
        }
        if self.line_start == 0 && self.inbox.starts_with(MARK) {
            self.line_start = MARK.len();
            chance.saw(Kind::MarkDropped);
        }
        while let Some(&(end, kind)) = self.lines.front().filter(|line| line.0 <= self.read_at) {
            self.lines.pop_front();
            let line = &self.inbox[self.line_start..end - 1];
            let len = line.len();
            self.line_start = end;
            if std::mem::take(&mut self.is_skipping) {
                continue;
            }
            match kind {
                LineKind::Oversized => found.add_oversized(),
                _ => found.add(C::expect(line, kind, rules, records, chance)),
            }
            if len == max_line && kind != LineKind::Malformed {
                chance.saw(Kind::LineAtTheLimit);
            } else if len == max_line + 1 {
                chance.saw(Kind::LineOneOverTheLimit);
            }
        }
        if self.read_at - self.line_start > max_line && !self.is_skipping {
            self.is_skipping = true;
            found.add_oversized();
            chance.saw(Kind::EndlessLineSkipped);
        }
        found
    }

    /// Whether no more was read than a part of a byte order mark.
    fn is_within_mark(&self) -> bool {
        self.read_at < MARK.len() && MARK.starts_with(&self.inbox[..self.read_at])
    }

    /// The number of bytes read since the last delimiter, or since the start.
    pub(super) fn undelimited(&self) -> usize {
        self.read_at - self.line_start
    }

    /// How many bytes of a line would be cut if the connection ended now.
    pub(super) fn held(&self) -> usize {
        if self.is_skipping { 0 } else { self.undelimited() }
    }

    /// Whether a line would be cut if the connection ended now.
    pub(super) fn holds_a_tail(&self) -> bool {
        self.held() > 0
    }

    /// The line that would be cut if the connection ended now.
    pub(super) fn tail(&self) -> &[u8] {
        &self.inbox[self.line_start..self.read_at]
    }

    /// What that line is, if there is one.
    pub(super) fn tail_kind(&self, rules: &Rules, chance: &mut Chance<'_>) -> Option<LineKind> {
        if !self.holds_a_tail() {
            return None;
        }
        if self.is_within_mark() {
            chance.saw(Kind::MarkCut);
        }
        let line = match rules.delimiter {
            b'\n' => self.tail().strip_suffix(b"\r").unwrap_or(self.tail()),
            _ => self.tail(),
        };
        Some(match std::str::from_utf8(line).map(|text| text.trim_matches([' ', '\t']).parse()) {
            _ if self.tail().len() > rules.max_line => LineKind::Oversized,
            _ if line.is_empty() => LineKind::Heartbeat,
            Ok(Ok(number)) => LineKind::Number(number),
            _ => LineKind::Malformed,
        })
    }
}

/// A line without its newline, and what it is if it is not too long.
fn line(number: i64, rules: &Rules, chance: &mut Chance<'_>) -> (Vec<u8>, LineKind) {
    let (text, kind) = line_with_line_feed(number, rules.max_line, chance);
    if text.contains(&rules.delimiter) {
        return (number.to_string().into_bytes(), LineKind::Number(number));
    }
    let is_malformed = rules.delimiter != b'\n' && text.contains(&b'\r');
    (text, if is_malformed { LineKind::Malformed } else { kind })
}

/// The same if the delimiter is a line feed.
fn line_with_line_feed(
    number: i64,
    max_line: usize,
    chance: &mut Chance<'_>,
) -> (Vec<u8>, LineKind) {
    let valid = |text: String, number| (text.into_bytes(), LineKind::Number(number));
    match chance.below(24) {
        1 => valid(format!("-{number}"), -number),
        2 => valid(format!("+{number}"), number),
        3 => valid(format!("{number}\r"), number),
        4 => valid(format!(" \t{number}\t \r"), number),
        5 => valid(format!("{number:0>max_line$}"), number),
        6 => valid(format!("{number:0>max_line$} "), number),
        7 => valid(i64::MIN.to_string(), i64::MIN),
        8 => valid(i64::MAX.to_string(), i64::MAX),
        9 => (Vec::new(), LineKind::Heartbeat),
        10 => (b"\r".to_vec(), LineKind::Heartbeat),
        11..16 if chance.fault(Kind::Junk, 2) => {
            (junk(number, max_line, chance), LineKind::Malformed)
        }
        _ => valid(number.to_string(), number),
    }
}

/// A line that is not a number, nor empty.
fn junk(number: i64, max_line: usize, chance: &mut Chance<'_>) -> Vec<u8> {
    match chance.below(8) {
        0 => format!("{number}x").into_bytes(),
        1 => b"9223372036854775808".to_vec(),
        2 => b"-9223372036854775809".to_vec(),
        3 => b"+".to_vec(),
        4 => b" ".to_vec(),
        5 => vec![0; 1 + chance.index(max_line.min(64))],
        6 => format!("{number} {number}").into_bytes(),
        _ => {
            let mut bytes: Vec<u8> =
                (0..chance.below(40)).map(|_| chance.pick(b"0\xff\x00 \r-7\x80+")).collect();
            bytes.push(b'!');
            bytes
        }
    }
}

impl Socket {
    /// Reads as the system does: up to what has arrived, and not past an urgent byte. If short reads mean
    /// that nothing is left, one that is short for no reason makes an event of the rest.
    pub(super) fn read(
        &mut self,
        buf: &mut [u8],
        short_read_means_drained: bool,
        chance: &mut Chance<'_>,
    ) -> io::Result<usize> {
        if self.phase != Phase::Established {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if chance.fault(Kind::Interrupted, 4) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let unread = self.unread();
        if unread == 0 {
            return match self.end {
                None => Err(io::ErrorKind::WouldBlock.into()),
                Some(End::Reset) if !self.is_end_reported => {
                    self.is_end_reported = true;
                    Err(io::ErrorKind::ConnectionReset.into())
                }
                Some(_) => Ok(0),
            };
        }
        let mut len = unread.min(buf.len());
        if let Some(at) = self.urgent_at
            && (self.read_at + 1..self.read_at + len).contains(&at)
        {
            len = at - self.read_at;
            chance.saw(Kind::StoppedAtTheMark);
        } else if len > 1 && chance.fault(Kind::ShortRead, 3) {
            len = if chance.one_in(2) { 1 } else { 1 + chance.index(len - 1) };
            if short_read_means_drained {
                self.wake();
            }
        }
        buf[..len].copy_from_slice(&self.inbox[self.read_at..][..len]);
        self.read_at += len;
        Ok(len)
    }
}

/// The address of a server, or one of them: every other one of a name is an IPv6 address.
pub(super) fn address(server: usize, number: usize) -> SocketAddr {
    let [server, number] = [server, number].map(|n| u8::try_from(n).expect("worlds are small"));
    let ip: IpAddr = match number {
        2.. => Ipv6Addr::from([0x2001, 0xdb8, 0, 0, 0, 0, server.into(), number.into()]).into(),
        _ => [192, 0, server, number].into(),
    };
    SocketAddr::new(ip, 9000)
}

/// The server that has this address.
pub(super) fn server_at(address: SocketAddr) -> usize {
    match address.ip() {
        IpAddr::V4(ip) => ip.octets()[2].into(),
        IpAddr::V6(ip) => ip.segments()[6].into(),
    }
}
