//! What a signal means: the first one stops, repeats of it change nothing, a second one ends at once.
//!
//! Senders repeat themselves: `timeout` signals its child and then the child's whole group, and
//! supervisors do the like. So signals that follow the first one closely are repeats of it.

use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

/// The signals that have a meaning. SIGUSR1 and SIGUSR2 have none yet, but by default they would kill
/// the process in the middle of a line.
pub(crate) const CAUGHT: [i32; 5] = [SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2];

/// Signals that are found within 500 ms after the first one are repeats of it: senders that repeat
/// themselves do so within a few milliseconds, and a user takes longer to decide.
pub(crate) const REPEAT_WINDOW: Duration = Duration::from_millis(500);

/// The time from the first signal to the next look for repeats, 100 ms, and how late that look may be.
const SETTLE_TIME: Duration = Duration::from_millis(100);

/// Decides what to do about signals, for a caller that looks for them from time to time.
///
/// Nobody knows when a signal was sent, only when it was found. In most cases that is the same, but a
/// process that was starved or suspended right after the first signal finds a repeat of it much later.
/// Therefore nothing ends at once before a look has taken place on time, and has taken the repeats.
///
/// A look is: wait, by [`pause`](Self::pause); read the clock; take all signals and give each to
/// [`on_signal`](Self::on_signal); call [`on_look`](Self::on_look). `now` is a time since any fixed start.
#[derive(Debug, Default)]
pub(crate) struct Stopping {
    first: Option<First>,
}

#[derive(Debug)]
struct First {
    at: Duration,
    /// When to look for repeats; `None` once a look was on time.
    look_at: Option<Duration>,
}

/// What to do about a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Stop: read no more and write what was read.
    Stop,
    /// Nothing: the signal repeats the first one, or has no meaning.
    Nothing,
    /// End the process at once, with this status.
    EndNow {
        /// 128 and the number of the signal, as a shell shows a process that a signal has killed.
        status: i32,
    },
}

impl Stopping {
    /// How long to wait for the next look; `None` is until there is a signal.
    pub(crate) fn pause(&self, now: Duration) -> Option<Duration> {
        let look_at = self.first.as_ref()?.look_at?;
        Some(look_at.saturating_sub(now))
    }

    /// Decides about a signal that a look at `now` has found.
    pub(crate) fn on_signal(&mut self, signal: i32, now: Duration) -> Decision {
        if !matches!(signal, SIGHUP | SIGINT | SIGTERM) {
            return Decision::Nothing;
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

    /// Ends a look that took all signals there were at `now`.
    pub(crate) fn on_look(&mut self, now: Duration) {
        let Some(first) = &mut self.first else {
            return;
        };
        first.look_at = match first.look_at {
            // Too late: the process did not get to run, and repeats may still be on their way.
            Some(due) if now >= due + SETTLE_TIME => Some(now + SETTLE_TIME),
            Some(due) if now >= due => None,
            look_at => look_at,
        };
    }
}

#[cfg(test)]
mod tests;
