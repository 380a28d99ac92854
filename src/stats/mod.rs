//! Publishes what a job does: counters and states in atomics, each with one writer and any number of readers.
//!
//! A worker writes the cells of its servers when it has read or changed them, without a lock. A reader takes a
//! [`Snapshot`] from any thread. Its figures are each correct, but not of the same instant.

mod cell;
mod counters;
mod reason;
mod server;
mod snapshot;
mod worker;

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::address::Server;

pub(crate) use cell::Cell;
pub use counters::Counters;
pub use reason::{DisconnectReason, FailureReason, LastError};
pub use server::{ServerState, ServerStats, Update};
pub use snapshot::{
    OutputSnapshot, ReloadSnapshot, ServerSnapshot, Snapshot, TotalsSnapshot, WorkerSnapshot,
};
pub use worker::{CONNECT_BUCKETS_MS, WorkerStats};

/// The figures of a job.
pub struct Stats {
    /// The moment from which the workers count their time.
    epoch: Instant,
    started: SystemTime,
    workers: Box<[Arc<WorkerStats>]>,
    output: OutputStats,
    list: Mutex<List>,
    /// The number of the next server.
    next: AtomicUsize,
    /// The number of present servers.
    present: AtomicUsize,
    /// The number of servers that have not ended.
    alive: AtomicUsize,
}

/// The servers of a job. A worker never locks it.
#[derive(Debug, Default)]
struct List {
    /// The present servers, in the order of the list.
    servers: Vec<Arc<ServerStats>>,
    /// The servers that the last change removed, and earlier ones whose workers may still count for them. The output
    /// may still have records of them.
    removed: Vec<Removed>,
    /// The servers of both, by number.
    by_number: Box<[Arc<ServerStats>]>,
    /// The sums of earlier removed servers.
    sums: TotalsSnapshot,
    reload: ReloadSnapshot,
}

/// A removed server.
#[derive(Clone, Debug)]
struct Removed {
    server: Arc<ServerStats>,
    /// The records that its worker had put into its queue when the server was seen to have ended. Once the output has
    /// taken as many, it has no record of the server left.
    pushed: Option<u64>,
}

/// The figures that the output thread publishes.
#[derive(Debug, Default)]
pub struct OutputStats {
    /// The records written.
    written: Cell,
    /// The nanoseconds that writes and flushes have taken.
    blocked_ns: Cell,
}

impl OutputStats {
    /// Sets the number of records written.
    pub(crate) fn set_written(&self, records: u64) {
        self.written.set(records);
    }

    /// Adds the time that a write or flush has taken.
    pub(crate) fn add_blocked(&self, time: Duration) {
        self.blocked_ns.add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }
}

impl Stats {
    /// Makes the figures of a job with so many workers and no server. Their time begins now.
    pub fn new(workers: usize) -> Stats {
        Stats {
            epoch: Instant::now(),
            started: SystemTime::now(),
            workers: (0..workers).map(|_| Arc::default()).collect(),
            output: OutputStats::default(),
            list: Mutex::default(),
            next: AtomicUsize::new(0),
            present: AtomicUsize::new(0),
            alive: AtomicUsize::new(0),
        }
    }

    /// Returns the moment from which the workers count their time.
    pub(crate) fn epoch(&self) -> Instant {
        self.epoch
    }

    /// Returns the figures of a worker.
    pub(crate) fn worker(&self, index: usize) -> &Arc<WorkerStats> {
        &self.workers[index]
    }

    /// Returns the turns that each worker has done.
    #[cfg(all(feature = "cli", unix))]
    pub(crate) fn turns(&self) -> Vec<u64> {
        self.workers.iter().map(|worker| worker.turns()).collect()
    }

    /// Returns the figures of the output.
    pub(crate) fn output(&self) -> &OutputStats {
        &self.output
    }

    /// Makes the figures of a new server that this worker will dial. Numbers are never used again. The server is
    /// present after the next [`set_servers`](Self::set_servers).
    pub fn new_server(&self, worker: usize, server: Server) -> Arc<ServerStats> {
        let number = self.next.fetch_add(1, Relaxed);
        self.alive.fetch_add(1, AcqRel);
        Arc::new(ServerStats::new(number, worker, server))
    }

    /// Notes that a server has ended or was removed before its end. Returns whether it was the last one.
    pub(crate) fn ended(&self) -> bool {
        self.alive.fetch_sub(1, AcqRel) == 1
    }

    /// Returns the number of present servers.
    pub(crate) fn present(&self) -> usize {
        self.present.load(Acquire)
    }

    /// Returns the number of servers that have not ended.
    pub fn alive(&self) -> usize {
        self.alive.load(Acquire)
    }

    /// Returns the present servers, in the order of the list.
    pub fn servers(&self) -> Vec<Arc<ServerStats>> {
        self.list().servers.clone()
    }

    /// Returns the server with this number, present or removed a moment ago.
    pub fn server(&self, number: usize) -> Option<Arc<ServerStats>> {
        let list = self.list();
        let place = list.by_number.binary_search_by_key(&number, |server| server.number()).ok()?;
        Some(Arc::clone(&list.by_number[place]))
    }

    /// Replaces the present servers. `removed` are those that are gone.
    pub fn set_servers(&self, servers: Vec<Arc<ServerStats>>, removed: Vec<Arc<ServerStats>>) {
        self.present.store(servers.len(), Release);
        let clock = self.clock();
        let mut list = self.list();
        list.fold_removed(&clock, &self.workers);
        list.servers = servers;
        list.servers.shrink_to_fit();
        let removed = removed.into_iter().map(|server| Removed { server, pushed: None });
        list.removed.extend(removed);
        list.removed.shrink_to_fit();
        let removed = list.removed.iter().map(|removed| &removed.server);
        let mut by_number: Vec<_> = list.servers.iter().chain(removed).cloned().collect();
        by_number.sort_unstable_by_key(|server| server.number());
        list.by_number = by_number.into();
    }

    /// Notes the end of a reload, successful or not.
    pub(crate) fn note_reload(&self, is_successful: bool) {
        let mut list = self.list();
        list.reload.is_successful = is_successful;
        if is_successful {
            list.reload.last_success = Some(SystemTime::now());
        }
    }

    fn list(&self) -> MutexGuard<'_, List> {
        // A panic of another thread leaves a complete list.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The servers of a running job, by the number that an [`Origin`](crate::Origin) has.
#[derive(Clone, Debug)]
pub struct ServerNames(pub(crate) Arc<Stats>);

impl ServerNames {
    /// Returns the server with this number, also if it was removed a moment ago.
    pub fn get(&self, number: usize) -> Option<Server> {
        self.0.server(number).map(|server| server.server().clone())
    }
}

impl fmt::Debug for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stats").field("started", &self.started).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
