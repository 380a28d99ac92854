//! What the tests of this module render.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::stats::{
    CONNECT_BUCKETS_MS, OutputSnapshot, ReloadSnapshot, ServerSnapshot, ServerState, ServerStats,
    Snapshot, TotalsSnapshot, WorkerSnapshot,
};

/// The seconds since 1970 at which the snapshots are taken.
pub(super) const NOW: u64 = 1_700_000_000;

/// A server of a snapshot.
pub(super) type Feed = ServerSnapshot;

/// Returns the time so many seconds before the snapshot.
pub(super) fn ago(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW - seconds)
}

impl ServerSnapshot {
    /// Counts lines and bytes.
    pub(super) fn count(&mut self, lines: u64, bytes: u64) {
        self.counters.lines += lines;
        self.counters.bytes += bytes;
    }
}

/// Makes a server that has not been dialed, and was added ten seconds ago.
pub(super) fn feed(number: usize, server: &str) -> Feed {
    let server = server.parse().unwrap();
    ServerSnapshot {
        stats: Arc::new(ServerStats::new(number, number % 2, server)),
        state: ServerState::Waiting,
        counters: Default::default(),
        since: ago(10),
        last_received: None,
        next_attempt: None,
        last_error: None,
        failures_in_row: 0,
        downtime: Duration::ZERO,
        attempts: 0,
        attempts_failed: Default::default(),
        disconnects: Default::default(),
    }
}

/// Makes servers with ascending numbers and addresses.
pub(super) fn feeds(count: usize) -> Vec<Feed> {
    let server = |i| format!("10.{}.{}.{}:9000", i / 65_536, i / 256 % 256, i % 256);
    (0..count).map(|number| feed(number, &server(number))).collect()
}

/// Makes a snapshot of two workers and these servers.
pub(super) fn snapshot(servers: &[Feed]) -> Snapshot {
    let mut totals = TotalsSnapshot::default();
    for server in servers {
        totals.counters += server.counters;
        totals.attempts += server.attempts;
        totals.downtime += server.downtime;
        for (sum, count) in totals.attempts_failed.iter_mut().zip(server.attempts_failed) {
            *sum += count;
        }
        for (sum, count) in totals.disconnects.iter_mut().zip(server.disconnects) {
            *sum += count;
        }
    }
    let worker = WorkerSnapshot {
        queued: 0,
        connect_durations: [0; CONNECT_BUCKETS_MS.len() + 1],
        connect_time: Duration::ZERO,
    };
    Snapshot {
        now: ago(0),
        started: ago(3600),
        servers: servers.to_vec(),
        workers: vec![worker.clone(), worker],
        totals,
        output: OutputSnapshot::default(),
        reload: ReloadSnapshot { is_successful: true, last_success: Some(ago(3600)) },
    }
}

/// Runs it a few times, and returns the shortest time. In others, the machine may do something else.
pub(super) fn shortest<T>(run: impl Fn() -> T) -> (T, Duration) {
    let timed = |_| {
        let start = Instant::now();
        let result = run();
        (result, start.elapsed())
    };
    (0..5).map(timed).min_by_key(|timed| timed.1).expect("there are five")
}
