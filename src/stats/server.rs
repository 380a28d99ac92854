//! The figures of one server.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU32};

use super::cell::Cell;
use super::counters::Counters;
use super::reason::{DisconnectReason, FailureReason, LastError};
use crate::address::Server;

/// The state of a server's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ServerState {
    /// It waits for its next attempt.
    Waiting,
    /// Its name is being looked up.
    Resolving,
    /// It is being connected.
    Connecting,
    /// It is connected.
    Connected,
    /// It is given up or has failed with `--once`.
    Failed,
    /// It was read to its end with `--once`, or the job has stopped.
    Ended,
}

impl ServerState {
    /// All states, in the order of their numbers.
    pub const ALL: [ServerState; 6] = [
        ServerState::Waiting,
        ServerState::Resolving,
        ServerState::Connecting,
        ServerState::Connected,
        ServerState::Failed,
        ServerState::Ended,
    ];

    /// Returns the name, as metrics and the page show it.
    pub const fn name(self) -> &'static str {
        match self {
            ServerState::Waiting => "waiting",
            ServerState::Resolving => "resolving",
            ServerState::Connecting => "connecting",
            ServerState::Connected => "connected",
            ServerState::Failed => "failed",
            ServerState::Ended => "ended",
        }
    }

    /// Returns whether there will be no further attempt.
    pub const fn is_final(self) -> bool {
        matches!(self, ServerState::Failed | ServerState::Ended)
    }
}

/// The state of a link after a change. Times are milliseconds since the epoch of the job.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// The time of the change.
    pub now: u64,
    /// The state.
    pub state: ServerState,
    /// The failures in a row.
    pub failures: u32,
    /// The time of the next attempt, if one is due.
    pub next_attempt: Option<u64>,
}

/// The figures that a worker publishes of one server. Only that worker writes them, and it keeps no copy of them.
#[derive(Debug)]
pub struct ServerStats {
    number: usize,
    server: Server,
    /// A number that the worker keeps here: the id of the link.
    handle: Cell,
    bytes: Cell,
    lines: Cell,
    matched: Cell,
    last_received: Cell,
    /// The time of the last change between connected and not connected.
    since: Cell,
    /// The milliseconds without a connection, up to `since`.
    down_ms: Cell,
    next_attempt: Cell,
    connects: Cell,
    attempts: Cell,
    /// The figures of what went wrong. Most servers of a long list have none, so they take memory when they are needed.
    faults: OnceLock<Box<Faults>>,
    worker: u32,
    failures_in_row: AtomicU32,
    state: AtomicU8,
}

/// The figures of a server that has failed, or that has sent a line which was rejected.
#[derive(Debug)]
struct Faults {
    malformed: Cell,
    oversized: Cell,
    truncated: Cell,
    attempts_failed: [Cell; FailureReason::ALL.len()],
    disconnects: [Cell; DisconnectReason::ALL.len()],
    last_error: Cell,
    last_error_at: Cell,
}

/// The value of a time that there is none of.
const NEVER: u64 = u64::MAX;

// There is one for each server, so its size decides the memory of a long list.
const _: () = assert!(size_of::<ServerStats>() <= 168);

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            malformed: Cell::default(),
            oversized: Cell::default(),
            truncated: Cell::default(),
            attempts_failed: Default::default(),
            disconnects: Default::default(),
            last_error: Cell::default(),
            last_error_at: Cell::new(NEVER),
        }
    }
}

impl ServerStats {
    /// Makes the figures of a server that has not been dialed. `number` goes with its records.
    pub fn new(number: usize, worker: usize, server: Server) -> ServerStats {
        ServerStats {
            number,
            server,
            handle: Cell::default(),
            bytes: Cell::default(),
            lines: Cell::default(),
            matched: Cell::default(),
            last_received: Cell::new(NEVER),
            since: Cell::default(),
            down_ms: Cell::default(),
            next_attempt: Cell::new(NEVER),
            connects: Cell::default(),
            attempts: Cell::default(),
            faults: OnceLock::new(),
            worker: u32::try_from(worker).expect("fewer than 2^32 workers"),
            failures_in_row: AtomicU32::new(0),
            state: AtomicU8::new(ServerState::Waiting as u8),
        }
    }

    /// Returns the number that goes with the server's records.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Returns the index of the worker that dials it.
    pub fn worker(&self) -> usize {
        self.worker as usize
    }

    /// Returns the server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Keeps a number for the worker.
    pub(crate) fn set_handle(&self, handle: u64) {
        self.handle.set(handle);
    }

    /// Returns the number that the worker keeps.
    pub(crate) fn handle(&self) -> u64 {
        self.handle.get()
    }

    /// Publishes that the server was added at this time.
    pub(crate) fn added(&self, now: u64) {
        self.since.set(now);
    }

    /// Publishes a change.
    pub(crate) fn update(&self, update: &Update) {
        let Update { now, state, failures, next_attempt } = update;
        let was_connected = self.state() == ServerState::Connected;
        let is_connected = *state == ServerState::Connected;
        if was_connected != is_connected {
            if is_connected {
                self.down_ms.add(now.saturating_sub(self.since.get()));
            }
            self.since.set(*now);
        }
        if !was_connected && *state == ServerState::Ended && self.state() != ServerState::Ended {
            // The time without a connection ends with the server.
            self.down_ms.add(now.saturating_sub(self.since.get()));
            self.since.set(*now);
        }
        self.failures_in_row.store(*failures, Relaxed);
        self.next_attempt.set(next_attempt.unwrap_or(NEVER));
        if let Some(faults) = self.faults.get()
            && faults.last_error_at.get() == NEVER
            && faults.last_error.get() != 0
        {
            faults.last_error_at.set(*now);
        }
        // A reader that sees the last state sees the last figures.
        self.state.store(*state as u8, Release);
    }

    /// Counts the start of an attempt.
    pub(crate) fn attempt(&self) {
        self.attempts.add(1);
    }

    /// Counts a connection.
    pub(crate) fn connected(&self) {
        self.connects.add(1);
    }

    /// Counts received bytes. [`received_at`](Self::received_at) gives them their time.
    pub(crate) fn received(&self, bytes: usize) {
        self.bytes.add(bytes as u64);
    }

    /// Publishes the time of the last received bytes.
    pub(crate) fn received_at(&self, now: u64) {
        self.last_received.set(now);
    }

    /// Counts whole lines.
    pub(crate) fn lines(&self, lines: u64) {
        self.lines.add(lines);
    }

    /// Counts numbers that are multiples of the divisor.
    pub(crate) fn matched(&self, numbers: u64) {
        self.matched.add(numbers);
    }

    /// Counts a malformed line.
    pub(crate) fn malformed(&self) {
        self.faults_to_write().malformed.add(1);
    }

    /// Counts an oversized line.
    pub(crate) fn oversized(&self) {
        self.faults_to_write().oversized.add(1);
    }

    /// Counts a truncated line.
    pub(crate) fn truncated(&self) {
        self.faults_to_write().truncated.add(1);
    }

    /// Counts a failed attempt or an ended connection, and keeps it as the last error. The next
    /// [`update`](Self::update) gives it its time.
    pub(crate) fn failed(&self, error: LastError) {
        let faults = self.faults_to_write();
        match error {
            LastError::Failure(reason, _) => faults.attempts_failed[reason as usize].add(1),
            LastError::Disconnect(reason, _) => faults.disconnects[reason as usize].add(1),
        }
        faults.last_error.set(error.pack());
        faults.last_error_at.set(NEVER);
    }

    /// Returns whether there is memory for what went wrong.
    #[cfg(test)]
    pub(super) fn has_faults(&self) -> bool {
        self.faults.get().is_some()
    }

    /// Returns the figures of what went wrong, for their writer. The first call takes memory for them.
    fn faults_to_write(&self) -> &Faults {
        self.faults.get_or_init(Box::default)
    }

    /// Returns the state.
    pub fn state(&self) -> ServerState {
        ServerState::ALL[usize::from(self.state.load(Acquire))]
    }

    /// Returns the counters.
    pub fn counters(&self) -> Counters {
        let counters = Counters {
            connects: self.connects.get(),
            bytes: self.bytes.get(),
            lines: self.lines.get(),
            matched: self.matched.get(),
            ..Counters::default()
        };
        let Some(faults) = self.faults.get() else { return counters };
        Counters {
            failures: faults.failures(),
            malformed: faults.malformed.get(),
            oversized: faults.oversized.get(),
            truncated: faults.truncated.get(),
            ..counters
        }
    }

    /// Returns the number of connections made.
    pub(crate) fn connects(&self) -> u64 {
        self.connects.get()
    }

    /// Returns the number of received bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Returns the numbers of whole lines and of malformed ones.
    pub(crate) fn lines_and_malformed(&self) -> (u64, u64) {
        (self.lines.get(), self.faults.get().map_or(0, |faults| faults.malformed.get()))
    }

    pub(super) fn since(&self) -> u64 {
        self.since.get()
    }

    /// Returns the milliseconds without a connection up to `now`.
    pub(super) fn down_ms(&self, now: u64) -> u64 {
        let state = self.state();
        let since = match state {
            ServerState::Connected | ServerState::Ended => 0,
            _ => now.saturating_sub(self.since.get()),
        };
        self.down_ms.get() + since
    }

    pub(super) fn last_received(&self) -> Option<u64> {
        time(&self.last_received)
    }

    pub(super) fn next_attempt(&self) -> Option<u64> {
        time(&self.next_attempt)
    }

    pub(super) fn failures_in_row(&self) -> u64 {
        self.failures_in_row.load(Relaxed).into()
    }

    pub(super) fn attempts(&self) -> u64 {
        self.attempts.get()
    }

    pub(super) fn attempts_failed(&self) -> [u64; FailureReason::ALL.len()] {
        self.faults.get().map_or_else(Default::default, |faults| counts(&faults.attempts_failed))
    }

    pub(super) fn disconnects(&self) -> [u64; DisconnectReason::ALL.len()] {
        self.faults.get().map_or_else(Default::default, |faults| counts(&faults.disconnects))
    }

    pub(super) fn last_error(&self) -> Option<(LastError, u64)> {
        let faults = self.faults.get()?;
        Some((LastError::unpack(faults.last_error.get())?, time(&faults.last_error_at)?))
    }
}

impl Faults {
    /// Returns the failures that [`Counters`] counts. The removal of a server is none.
    fn failures(&self) -> u64 {
        let removed = self.disconnects[DisconnectReason::Removed as usize].get();
        let all = self.attempts_failed.iter().chain(&self.disconnects).map(Cell::get);
        all.sum::<u64>().saturating_sub(removed)
    }
}

fn counts<const N: usize>(cells: &[Cell; N]) -> [u64; N] {
    cells.each_ref().map(Cell::get)
}

fn time(cell: &Cell) -> Option<u64> {
    Some(cell.get()).filter(|time| *time != NEVER)
}
