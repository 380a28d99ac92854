//! Says where a record comes from.

use std::time::{Duration, SystemTime};

/// The server that sent a record, the worker that read it, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The number of milliseconds since 1970, UTC.
    time_ms: u64,
    server: u32,
    worker: u32,
}

impl Origin {
    /// Makes the origin of a record that was read at `time`. Indices beyond a `u32` count as the largest one.
    pub fn new(worker: usize, server: usize, time: SystemTime) -> Origin {
        // A system whose clock is before 1970 has no valid time.
        let time = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let index = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
        Origin {
            time_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            server: index(server),
            worker: index(worker),
        }
    }

    /// Returns the index of the server in [`Config::servers`](crate::Config::servers), counted from 0.
    pub fn server(&self) -> usize {
        self.server as usize
    }

    /// Returns the index of the worker, counted from 0.
    pub fn worker(&self) -> usize {
        self.worker as usize
    }

    /// Returns when the end of the record was read, by the system's clock, rounded down to milliseconds.
    pub fn time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.time_ms)
    }

    /// Returns [`time`](Self::time) in milliseconds since 1970, UTC.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }
}
