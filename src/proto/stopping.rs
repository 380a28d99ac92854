//! Decides what a signal does: the first one stops the job, a second one ends the process immediately, and some
//! signals are requests.
//!
//! Some senders send a signal more than once: `timeout` signals its child and then the child's whole group,
//! and supervisors do the same. So signals soon after the first one are repeats, and change nothing.

use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

/// The signals that the process catches.
pub(crate) const CAUGHT: [i32; 5] = [SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2];

/// The time after the first signal within which found signals are repeats: 500 ms.
///
/// Senders repeat a signal within a few milliseconds. A user takes longer to decide.
pub(crate) const REPEAT_WINDOW: Duration = Duration::from_millis(500);

/// The delay from the first signal to the check for repeats, and the lateness that voids a check: 100 ms.
const SETTLE_TIME: Duration = Duration::from_millis(100);

/// Decides what to do about signals, for a caller that checks for them from time to time.
///
/// The time at which a signal is found is known, the time at which it was sent is not. Usually both are the
/// same. But a process that was starved or suspended after the first signal finds a repeat much later.
/// Therefore no signal ends the process until one check has been on time, and has taken the repeats.
///
/// A check has four steps: wait for [`pause`](Self::pause); read the clock; take all signals and pass each
/// to [`on_signal`](Self::on_signal); call [`on_look`](Self::on_look). `now` is a time since any fixed start.
#[derive(Debug, Default)]
pub(crate) struct Stopping {
    first: Option<First>,
    /// Whether SIGHUP asks to read the list of servers again, and does not stop.
    reloads: bool,
}

#[derive(Debug)]
struct First {
    at: Duration,
    /// The time of the check for repeats; `None` once a check was on time.
    look_at: Option<Duration>,
}

/// The reaction to a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Stop the job: read no more, and write the data that was read.
    Stop,
    /// Do nothing: the signal repeats the first one.
    Nothing,
    /// Carry out a request. The job goes on.
    Request(Request),
    /// End the process immediately, with this status.
    EndNow {
        /// 128 plus the number of the signal: the status that shells show for a process killed by it.
        status: i32,
    },
}

/// A request that the job's operator makes by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Read the list of servers again: SIGHUP, if there is a list file.
    Reload,
    /// Log a table of all servers: SIGUSR1.
    Report,
    /// Try all waiting servers now: SIGUSR2.
    RetryNow,
}

impl Stopping {
    /// Makes the state before the first signal. `reloads` says whether there is a list file to read again.
    pub(crate) fn new(reloads: bool) -> Stopping {
        Stopping { first: None, reloads }
    }

    /// Returns the time to wait until the next check, or `None` to wait for a signal.
    pub(crate) fn pause(&self, now: Duration) -> Option<Duration> {
        let look_at = self.first.as_ref()?.look_at?;
        Some(look_at.saturating_sub(now))
    }

    /// Decides about a signal that a check at `now` has found.
    pub(crate) fn on_signal(&mut self, signal: i32, now: Duration) -> Decision {
        match signal {
            SIGUSR1 => return Decision::Request(Request::Report),
            SIGUSR2 => return Decision::Request(Request::RetryNow),
            SIGHUP if self.reloads => return Decision::Request(Request::Reload),
            SIGHUP | SIGINT | SIGTERM => {}
            _ => return Decision::Nothing,
        }
        match &self.first {
            None => {
                self.first = Some(First { at: now, look_at: Some(now + SETTLE_TIME) });
                Decision::Stop
            }
            Some(First { at, look_at: None }) if now >= *at + REPEAT_WINDOW => {
                Decision::EndNow { status: 128 + signal }
            }
            Some(_) => Decision::Nothing,
        }
    }

    /// Ends a check that has taken all signals at `now`.
    pub(crate) fn on_look(&mut self, now: Duration) {
        let Some(first) = &mut self.first else {
            return;
        };
        first.look_at = match first.look_at {
            // Too late: the process did not run, and repeats may still be pending.
            Some(due) if now >= due + SETTLE_TIME => Some(now + SETTLE_TIME),
            Some(due) if now >= due => None,
            look_at => look_at,
        };
    }
}

#[cfg(test)]
mod tests;
