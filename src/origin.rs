//! Says where a record comes from.

use std::fmt::Display;
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

    /// Returns [`time`](Self::time) as RFC 3339 writes it, in UTC with milliseconds. A later year counts as the end
    /// of the year 9999, the last one of RFC 3339.
    pub(crate) fn rfc3339(&self) -> impl Display {
        const LAST: Duration = Duration::from_millis(253_402_300_799_999);
        humantime::format_rfc3339_millis(self.time().min(SystemTime::UNIX_EPOCH + LAST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_the_end_of_the_year_9999_have_a_text_and_a_later_one_is_that_end() {
        for (time_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_795_610_096_789, "2026-11-25T12:34:56.789Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (253_402_300_800_000, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            let origin = Origin { time_ms, server: 0, worker: 0 };
            assert_eq!(origin.rfc3339().to_string(), expected);
        }
    }
}
