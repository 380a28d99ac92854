//! Passes a worker's records to its ring, with their origin if the encoder needs it.

use std::sync::Arc;
use std::time::SystemTime;

use crate::origin::Origin;
use crate::proto::link::Sink;
use crate::ring::{QueueProducer, Wait, records_in};
use crate::stats::WorkerStats;

/// The bytes of staged records at which they are published before the turn ends: 32 KiB, or 4096 numbers.
const PUBLISH_AT: usize = 32 * 1024;

/// The producing end of a worker's queue.
#[derive(Debug)]
pub(crate) struct QueueSink<T: Copy + Send> {
    queue: QueueProducer<T, Origin>,
    worker: usize,
    stats: Arc<WorkerStats>,
}

impl<T: Copy + Send> QueueSink<T> {
    /// Makes the sink of the worker with this index.
    pub(crate) fn new(
        queue: QueueProducer<T, Origin>,
        worker: usize,
        stats: Arc<WorkerStats>,
    ) -> QueueSink<T> {
        QueueSink { queue, worker, stats }
    }
}

impl<T: Copy + Send> Sink<T> for QueueSink<T> {
    fn room(&mut self, want: usize) -> usize {
        self.queue.room(want)
    }

    fn begin(&mut self, server: usize) {
        if self.queue.is_tagged() {
            self.queue.begin(Origin::new(self.worker, server, SystemTime::now()));
        }
    }

    fn push(&mut self, records: &[T]) {
        self.queue.stage(records);
        self.stats.pushed(records.len());
        self.queue.publish_from(records_in::<T>(PUBLISH_AT));
    }

    fn publish(&mut self) {
        self.queue.publish();
        self.stats.turned();
    }

    fn wait_for_room(&mut self) -> bool {
        // Half of the ring, so that the two threads do not wake each other for every few records.
        self.queue.wait_for_room(self.queue.capacity() / 2) == Wait::Pending
    }
}
