//! The figures of one worker.

use super::cell::Cell;

/// The upper bounds of the histogram of connect durations, in milliseconds.
pub const CONNECT_BUCKETS_MS: [u64; 13] =
    [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

/// The figures that a worker publishes of itself.
#[derive(Debug, Default)]
pub struct WorkerStats {
    /// The connect durations by bucket, the last one without a bound.
    connects: [Cell; CONNECT_BUCKETS_MS.len() + 1],
    /// The sum of the connect durations, in milliseconds.
    connect_ms: Cell,
    /// The records that the worker has put into its queue.
    pushed: Cell,
    /// The records that the output has taken from it. The output writes this cell.
    taken: Cell,
    /// The number of turns.
    turns: Cell,
}

impl WorkerStats {
    /// Adds the duration of an attempt that has connected, in milliseconds.
    pub(crate) fn connected(&self, ms: u64) {
        let bucket = CONNECT_BUCKETS_MS.partition_point(|bound| *bound < ms);
        self.connects[bucket].add(1);
        self.connect_ms.add(ms);
    }

    /// Counts records that the worker puts into its queue.
    pub(crate) fn pushed(&self, records: usize) {
        self.pushed.add(records as u64);
    }

    /// Counts records that the output takes from the queue.
    pub(crate) fn taken(&self, records: usize) {
        self.taken.add(records as u64);
    }

    /// Counts a turn.
    pub(crate) fn turned(&self) {
        self.turns.add(1);
    }

    /// Returns the number of turns.
    #[cfg(all(feature = "cli", unix))]
    pub(super) fn turns(&self) -> u64 {
        self.turns.get()
    }

    pub(super) fn pushed_count(&self) -> u64 {
        self.pushed.get()
    }

    pub(super) fn taken_count(&self) -> u64 {
        self.taken.get()
    }

    pub(super) fn queued(&self) -> u64 {
        // The two are read one after the other.
        self.pushed.get().saturating_sub(self.taken.get())
    }

    pub(super) fn connect_durations(&self) -> ([u64; CONNECT_BUCKETS_MS.len() + 1], u64) {
        (self.connects.each_ref().map(Cell::get), self.connect_ms.get())
    }
}
