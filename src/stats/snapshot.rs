//! A copy of all figures.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::reason::{DisconnectReason, FailureReason, LastError};
use super::server::{ServerState, ServerStats};
use super::worker::{CONNECT_BUCKETS_MS, WorkerStats};
use super::{Counters, Removed, Stats};

/// The figures of a job at about one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The time of the snapshot.
    pub now: SystemTime,
    /// The time at which the job started.
    pub started: SystemTime,
    /// The servers, in the order of the list.
    pub servers: Vec<ServerSnapshot>,
    /// The workers, by index.
    pub workers: Vec<WorkerSnapshot>,
    /// The sums of all servers, removed ones included.
    pub totals: TotalsSnapshot,
    /// The output.
    pub output: OutputSnapshot,
    /// The reloads of the list.
    pub reload: ReloadSnapshot,
}

/// The figures of one server.
#[derive(Clone, Debug)]
pub struct ServerSnapshot {
    /// The server and its cells.
    pub stats: Arc<ServerStats>,
    /// The state.
    pub state: ServerState,
    /// The counters.
    pub counters: Counters,
    /// The time of the last change between connected and not connected, or of the start.
    pub since: SystemTime,
    /// The time of the last received bytes.
    pub last_received: Option<SystemTime>,
    /// The time of the next attempt, if it waits for one.
    pub next_attempt: Option<SystemTime>,
    /// The last failure, and its time.
    pub last_error: Option<(LastError, SystemTime)>,
    /// The failures in a row.
    pub failures_in_row: u64,
    /// The time without a connection.
    pub downtime: Duration,
    /// The attempts.
    pub attempts: u64,
    /// The failed attempts, by [`FailureReason`].
    pub attempts_failed: [u64; FailureReason::ALL.len()],
    /// The ended connections, by [`DisconnectReason`].
    pub disconnects: [u64; DisconnectReason::ALL.len()],
}

/// The figures of one worker.
#[derive(Clone, Debug)]
pub struct WorkerSnapshot {
    /// The records in its queue.
    pub queued: u64,
    /// The connect durations by bucket of [`CONNECT_BUCKETS_MS`], the last one without a bound. Each counts once.
    pub connect_durations: [u64; CONNECT_BUCKETS_MS.len() + 1],
    /// The sum of the connect durations.
    pub connect_time: Duration,
}

/// The sums of many servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TotalsSnapshot {
    /// The counters.
    pub counters: Counters,
    /// The attempts.
    pub attempts: u64,
    /// The failed attempts, by [`FailureReason`].
    pub attempts_failed: [u64; FailureReason::ALL.len()],
    /// The ended connections, by [`DisconnectReason`].
    pub disconnects: [u64; DisconnectReason::ALL.len()],
    /// The time without a connection.
    pub downtime: Duration,
}

/// The figures of the output.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutputSnapshot {
    /// The records written.
    pub written: u64,
    /// The time that writes have taken, most of which the reader takes.
    pub blocked: Duration,
}

/// The reloads of the list of servers.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReloadSnapshot {
    /// Whether the last one succeeded. The start counts as one.
    pub is_successful: bool,
    /// The time of the last successful one.
    pub last_success: Option<SystemTime>,
}

impl Snapshot {
    /// Returns the number of servers in this state.
    pub fn count(&self, state: ServerState) -> usize {
        self.servers.iter().filter(|server| server.state == state).count()
    }
}

impl ServerSnapshot {
    /// Returns whether the first attempt has ended, well or badly.
    pub fn was_tried(&self) -> bool {
        self.counters.connects + self.counters.failures > 0 || self.state.is_final()
    }
}

impl TotalsSnapshot {
    fn add(&mut self, server: &ServerSnapshot) {
        self.counters += server.counters;
        self.attempts += server.attempts;
        for (sum, count) in self.attempts_failed.iter_mut().zip(server.attempts_failed) {
            *sum += count;
        }
        for (sum, count) in self.disconnects.iter_mut().zip(server.disconnects) {
            *sum += count;
        }
        self.downtime += server.downtime;
    }
}

impl Stats {
    /// Copies all figures.
    pub fn snapshot(&self) -> Snapshot {
        let clock = self.clock();
        let list = self.list();
        let (present, removed) = (list.servers.clone(), list.removed.clone());
        let (mut totals, reload) = (list.sums, list.reload);
        drop(list);
        for Removed { server, .. } in removed {
            totals.add(&clock.server(server));
        }
        let servers: Vec<_> = present.into_iter().map(|server| clock.server(server)).collect();
        for server in &servers {
            totals.add(server);
        }
        let workers = self.workers.iter().map(|worker| {
            let (connect_durations, connect_ms) = worker.connect_durations();
            let connect_time = Duration::from_millis(connect_ms);
            WorkerSnapshot { queued: worker.queued(), connect_durations, connect_time }
        });
        let workers = workers.collect();
        let blocked = Duration::from_nanos(self.output.blocked_ns.get());
        let output = OutputSnapshot { written: self.output.written.get(), blocked };
        let (now, started) = (clock.now, self.started);
        Snapshot { now, started, servers, workers, totals, output, reload }
    }

    pub(super) fn clock(&self) -> Clock {
        let (now, elapsed) = (SystemTime::now(), self.epoch.elapsed());
        Clock { now, elapsed: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX) }
    }
}

impl super::List {
    /// Adds the removed servers to the sums whose workers have ended them, and of which the output has no record left.
    pub(super) fn fold_removed(&mut self, clock: &Clock, workers: &[Arc<WorkerStats>]) {
        let sums = &mut self.sums;
        self.removed.retain_mut(|Removed { server, pushed }| {
            if !server.state().is_final() {
                return true;
            }
            let worker = &workers[server.worker()];
            let is_drained = worker.taken_count() >= *pushed.get_or_insert(worker.pushed_count());
            if is_drained {
                sums.add(&clock.server(Arc::clone(server)));
            }
            !is_drained
        });
    }
}

/// The present time, by the system's clock and as the workers count it.
pub(super) struct Clock {
    now: SystemTime,
    elapsed: u64,
}

impl Clock {
    /// Converts a time of the workers to one of the system's clock.
    fn time(&self, ms: u64) -> SystemTime {
        match ms.checked_sub(self.elapsed) {
            Some(ahead) => self.now + Duration::from_millis(ahead),
            None => self.now - Duration::from_millis(self.elapsed - ms),
        }
    }

    fn server(&self, stats: Arc<ServerStats>) -> ServerSnapshot {
        ServerSnapshot {
            state: stats.state(),
            counters: stats.counters(),
            since: self.time(stats.since()),
            last_received: stats.last_received().map(|ms| self.time(ms)),
            next_attempt: stats.next_attempt().map(|ms| self.time(ms)),
            last_error: stats.last_error().map(|(error, ms)| (error, self.time(ms))),
            failures_in_row: stats.failures_in_row(),
            downtime: Duration::from_millis(stats.down_ms(self.elapsed)),
            attempts: stats.attempts(),
            attempts_failed: stats.attempts_failed(),
            disconnects: stats.disconnects(),
            stats,
        }
    }
}
