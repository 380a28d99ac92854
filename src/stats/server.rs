//! The figures of one server.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

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
    /// The counters.
    pub counters: Counters,
    /// The failures in a row.
    pub failures: u32,
    /// The time of the next attempt, if one is due.
    pub next_attempt: Option<u64>,
}

/// The figures that a worker publishes of one server. Only that worker writes them.
#[derive(Debug)]
pub struct ServerStats {
    number: usize,
    worker: usize,
    server: Server,
    /// A number that the worker keeps here: the id of the link.
    handle: Cell,
    bytes: Cell,
    lines: Cell,
    matched: Cell,
    last_received: Cell,
    malformed: Cell,
    oversized: Cell,
    truncated: Cell,
    state: AtomicU64,
    /// The time of the last change between connected and not connected.
    since: Cell,
    /// The milliseconds without a connection, up to `since`.
    down_ms: Cell,
    next_attempt: Cell,
    failures_in_row: Cell,
    connects: Cell,
    failures: Cell,
    attempts: Cell,
    attempts_failed: [Cell; FailureReason::ALL.len()],
    disconnects: [Cell; DisconnectReason::ALL.len()],
    last_error: Cell,
    last_error_at: Cell,
}

/// The value of a time that there is none of.
const NEVER: u64 = u64::MAX;

impl ServerStats {
    /// Makes the figures of a server that has not been dialed. `number` goes with its records.
    pub fn new(number: usize, worker: usize, server: Server) -> ServerStats {
        let never = || {
            let cell = Cell::default();
            cell.set(NEVER);
            cell
        };
        ServerStats {
            number,
            worker,
            server,
            handle: Cell::default(),
            bytes: Cell::default(),
            lines: Cell::default(),
            matched: Cell::default(),
            last_received: never(),
            malformed: Cell::default(),
            oversized: Cell::default(),
            truncated: Cell::default(),
            state: AtomicU64::new(ServerState::Waiting as u64),
            since: Cell::default(),
            down_ms: Cell::default(),
            next_attempt: never(),
            failures_in_row: Cell::default(),
            connects: Cell::default(),
            failures: Cell::default(),
            attempts: Cell::default(),
            attempts_failed: Default::default(),
            disconnects: Default::default(),
            last_error: Cell::default(),
            last_error_at: never(),
        }
    }

    /// Returns the number that goes with the server's records.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Returns the index of the worker that dials it.
    pub fn worker(&self) -> usize {
        self.worker
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
        let Update { now, state, counters, failures, next_attempt } = update;
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
        if self.bytes.get() != counters.bytes {
            self.bytes.set(counters.bytes);
            self.last_received.set(*now);
        }
        self.lines.set(counters.lines);
        self.matched.set(counters.matched);
        self.malformed.set(counters.malformed);
        self.oversized.set(counters.oversized);
        self.truncated.set(counters.truncated);
        self.connects.set(counters.connects);
        self.failures.set(counters.failures);
        self.failures_in_row.set(u64::from(*failures));
        self.next_attempt.set(next_attempt.unwrap_or(NEVER));
        if self.last_error_at.get() == NEVER && self.last_error.get() != 0 {
            self.last_error_at.set(*now);
        }
        // A reader that sees the last state sees the last figures.
        self.state.store(*state as u64, Release);
    }

    /// Counts the start of an attempt.
    pub(crate) fn attempt(&self) {
        self.attempts.add(1);
    }

    /// Counts a failed attempt or an ended connection, and keeps it as the last error. The next
    /// [`update`](Self::update) gives it its time.
    pub(crate) fn failed(&self, error: LastError) {
        match error {
            LastError::Failure(reason, _) => self.attempts_failed[reason as usize].add(1),
            LastError::Disconnect(reason, _) => self.disconnects[reason as usize].add(1),
        }
        self.last_error.set(error.pack());
        self.last_error_at.set(NEVER);
    }

    /// Returns the state.
    pub fn state(&self) -> ServerState {
        let number = usize::try_from(self.state.load(Acquire)).expect("the number of a state");
        ServerState::ALL[number]
    }

    /// Returns the counters.
    pub fn counters(&self) -> Counters {
        Counters {
            connects: self.connects.get(),
            failures: self.failures.get(),
            bytes: self.bytes.get(),
            lines: self.lines.get(),
            matched: self.matched.get(),
            malformed: self.malformed.get(),
            oversized: self.oversized.get(),
            truncated: self.truncated.get(),
        }
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
        self.failures_in_row.get()
    }

    pub(super) fn attempts(&self) -> u64 {
        self.attempts.get()
    }

    pub(super) fn attempts_failed(&self) -> [u64; FailureReason::ALL.len()] {
        self.attempts_failed.each_ref().map(Cell::get)
    }

    pub(super) fn disconnects(&self) -> [u64; DisconnectReason::ALL.len()] {
        self.disconnects.each_ref().map(Cell::get)
    }

    pub(super) fn last_error(&self) -> Option<(LastError, u64)> {
        Some((LastError::unpack(self.last_error.get())?, time(&self.last_error_at)?))
    }
}

fn time(cell: &Cell) -> Option<u64> {
    Some(cell.get()).filter(|time| *time != NEVER)
}
