//! Makes numbers that encode their origin, and checks the printed ones with a ledger.
//!
//! A number encodes its server, its connection and its position there. With `--divisor 1` all of them are
//! printed. A number that is lost, repeated, truncated, joined to another or out of order fails at once.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

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

/// The account of all printed numbers.
#[derive(Debug)]
pub(crate) struct Ledger {
    servers: Vec<Progress>,
    records: Arc<Records>,
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
    pub(crate) fn new(servers: usize) -> Ledger {
        Ledger::with_records(&Records::new(servers))
    }

    /// Creates a ledger that compares each connection with its record.
    pub(crate) fn with_records(records: &Arc<Records>) -> Ledger {
        let servers = vec![Progress::default(); records.0.len()];
        Ledger { servers, records: Arc::clone(records), lines: 0 }
    }

    pub(crate) fn progress(&self, server: usize) -> Progress {
        self.servers[server]
    }

    /// Enters a printed line. It must be the next number of its server's connection, or the first number of
    /// a later connection.
    pub(crate) fn enter(&mut self, line: &[u8]) {
        self.lines += 1;
        let text = str::from_utf8(line).expect("numbers are ASCII");
        let number: u64 = text.parse().unwrap_or_else(|_| panic!("no server sent {text:?}"));
        let (rest, sequence) = (number / SEQUENCES, number % SEQUENCES);
        let (server, connection) = (rest / CONNECTIONS, rest % CONNECTIONS);
        let server = usize::try_from(server).expect("a server has an index");
        assert!(server < self.servers.len(), "no server sent {text:?}");
        let progress = self.servers[server];
        if connection != progress.connection {
            assert!(connection > progress.connection, "{text} comes after {progress:?}");
            self.settle(server, connection);
            self.servers[server] = Progress { connection, next: 0 };
        }
        let progress = &mut self.servers[server];
        assert_eq!(
            sequence, progress.next,
            "server {server}, connection {connection}: the printed and the expected number"
        );
        progress.next += 1;
    }

    /// Settles all connections whose end has been recorded. All their numbers must have been read.
    pub(crate) fn settle_all(&self) {
        for server in 0..self.servers.len() {
            self.settle(server, u64::MAX);
        }
    }

    /// Compares the connections below the number `before` with their records.
    fn settle(&self, server: usize, before: u64) {
        let progress = self.servers[server];
        let mut records = self.records.0[server].lock().expect("no thread panics with the lock");
        while records.front().is_some_and(|record| record.connection < before)
            && let Some(record) = records.pop_front()
        {
            let is_last = record.connection == progress.connection;
            let printed = if is_last { progress.next } else { 0 };
            let is_right =
                if record.is_whole { printed == record.sent } else { printed <= record.sent };
            assert!(is_right, "server {server}: {printed} records printed, {record:?}");
        }
    }
}
