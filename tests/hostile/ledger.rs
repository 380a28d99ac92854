//! Numbers that say where they come from, and the book that is kept of them.
//!
//! A number names its server, its connection and its place in it. With `--divisor 1` all of them are
//! printed, and whatever is lost, doubled, cut, glued or out of order is seen at once.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

/// Numbers of one connection.
const SEQUENCES: u64 = 1_000_000_000;
/// Connections of one server.
const CONNECTIONS: u64 = 1_000_000;

/// The number at the place `sequence`, from 0, of a server's `connection`, from 1. Of a server that is
/// below 9000 it is an `i64`.
pub(crate) fn number(server: usize, connection: u64, sequence: u64) -> u64 {
    assert!(server < 9000 && connection < CONNECTIONS && sequence < SEQUENCES);
    (server as u64 * CONNECTIONS + connection) * SEQUENCES + sequence
}

/// The numbers of a connection from `first` on, `count` lines of them.
pub(crate) fn lines(server: usize, connection: u64, first: u64, count: u64) -> Vec<u8> {
    let mut text = Vec::new();
    for sequence in first..first + count {
        writeln!(text, "{}", number(server, connection, sequence)).expect("a vector takes all");
    }
    text
}

/// What a server knows of a connection that is over.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) connection: u64,
    /// The whole lines with numbers that were handed to the kernel, or may have been.
    pub(crate) sent: u64,
    /// Whether all of them must arrive: a reset may discard what was not read yet.
    pub(crate) is_whole: bool,
}

/// Where servers leave the records of their connections, in their order, before they take another one.
#[derive(Debug)]
pub(crate) struct Records(Vec<Mutex<VecDeque<Record>>>);

impl Records {
    pub(crate) fn new(servers: usize) -> Arc<Records> {
        Arc::new(Records((0..servers).map(|_| Mutex::default()).collect()))
    }

    pub(crate) fn add(&self, server: usize, record: Record) {
        self.0[server].lock().expect("nobody panics with the lock").push_back(record);
    }
}

/// The book of what was printed.
#[derive(Debug)]
pub(crate) struct Ledger {
    servers: Vec<Progress>,
    records: Arc<Records>,
    /// The lines so far.
    pub(crate) lines: u64,
}

/// How far the output of a server has come: the connection, and its next number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Progress {
    pub(crate) connection: u64,
    pub(crate) next: u64,
}

impl Ledger {
    pub(crate) fn new(servers: usize) -> Ledger {
        Ledger::with_records(&Records::new(servers))
    }

    /// A ledger that settles each connection against its record.
    pub(crate) fn with_records(records: &Arc<Records>) -> Ledger {
        let servers = vec![Progress::default(); records.0.len()];
        Ledger { servers, records: Arc::clone(records), lines: 0 }
    }

    pub(crate) fn progress(&self, server: usize) -> Progress {
        self.servers[server]
    }

    /// Enters a printed line, which must be the next number of its server's connection or the first
    /// one of a later connection.
    pub(crate) fn enter(&mut self, line: &[u8]) {
        self.lines += 1;
        let text = str::from_utf8(line).expect("numbers are ASCII");
        let number: u64 = text.parse().unwrap_or_else(|_| panic!("nobody sent {text:?}"));
        let (rest, sequence) = (number / SEQUENCES, number % SEQUENCES);
        let (server, connection) = (rest / CONNECTIONS, rest % CONNECTIONS);
        let server = usize::try_from(server).expect("a server has an index");
        assert!(server < self.servers.len(), "nobody sent {text:?}");
        let progress = self.servers[server];
        if connection != progress.connection {
            assert!(connection > progress.connection, "{text} comes after {progress:?}");
            self.settle(server, connection);
            self.servers[server] = Progress { connection, next: 0 };
        }
        let progress = &mut self.servers[server];
        assert_eq!(
            sequence, progress.next,
            "server {server}, connection {connection}: the number and the one that was due"
        );
        progress.next += 1;
    }

    /// Settles all connections whose end has been recorded. What they sent must have been read.
    pub(crate) fn settle_all(&self) {
        for server in 0..self.servers.len() {
            self.settle(server, u64::MAX);
        }
    }

    /// Compares the connections before a given one with their records.
    fn settle(&self, server: usize, before: u64) {
        let progress = self.servers[server];
        let mut records = self.records.0[server].lock().expect("nobody panics with the lock");
        while records.front().is_some_and(|record| record.connection < before)
            && let Some(record) = records.pop_front()
        {
            let is_last = record.connection == progress.connection;
            let printed = if is_last { progress.next } else { 0 };
            let is_right =
                if record.is_whole { printed == record.sent } else { printed <= record.sent };
            assert!(is_right, "server {server}: {printed} numbers printed, {record:?}");
        }
    }
}
