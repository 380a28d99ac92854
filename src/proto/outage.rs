//! Measures how long a server is down, and counts its failures in a row.

use crate::proto::time::{Duration, Instant};

/// The duration after which an outage is worth one log line at level ERROR.
pub(crate) const DOWN_ALARM: Duration = Duration::from_secs(3 * 60);

/// The number of failures in a row that are each logged. Of later ones, those at powers of two are logged.
const FAILURES_LOGGED_EACH: u32 = 8;

/// The period in which a server is down.
///
/// It begins with the first attempt or the loss of a connection. It ends with a received byte, or with a
/// connection that lasts for the reset threshold. So a server that accepts and closes immediately counts as
/// down.
#[derive(Debug)]
pub(crate) struct Outage {
    since: Instant,
    /// Whether the outage was logged at level ERROR.
    is_alarmed: bool,
}

impl Outage {
    /// Starts an outage.
    pub(crate) fn new(since: Instant) -> Outage {
        Outage { since, is_alarmed: false }
    }

    /// Returns how long the outage has lasted.
    pub(crate) fn span(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Returns the moment at which the outage will have lasted for `span`.
    pub(crate) fn end_of(&self, span: Duration) -> Instant {
        self.since.saturating_add(span)
    }

    /// Returns the moment at which the ERROR is due, or `None` once it was logged.
    pub(crate) fn alarm_at(&self) -> Option<Instant> {
        (!self.is_alarmed).then(|| self.end_of(DOWN_ALARM))
    }

    /// Returns whether the ERROR is due now. It is due once.
    pub(crate) fn take_alarm(&mut self, now: Instant) -> bool {
        let is_due = self.alarm_at().is_some_and(|at| at <= now);
        self.is_alarmed |= is_due;
        is_due
    }
}

/// The failures in a row: attempts that failed and connections that ended.
///
/// A connection that lasts for the reset threshold ends the streak. The number of failures is the exponent of
/// the back-off, and the number of the next attempt.
#[derive(Debug, Default)]
pub(crate) struct Streak {
    failures: u32,
    /// The moment of the first failure. It has no meaning while there is none.
    since: Instant,
    /// Whether an attempt has failed since the last connection.
    attempt_failed: bool,
}

impl Streak {
    /// Returns the number of failures.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Returns the time since the first failure.
    pub(crate) fn span(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Counts a failed attempt, or the loss of a connection.
    pub(crate) fn count_failure(&mut self, was_connected: bool, now: Instant) {
        if self.failures == 0 {
            self.since = now;
        }
        self.failures = self.failures.saturating_add(1);
        self.attempt_failed |= !was_connected;
    }

    /// Notes a connection, which may not end the streak. Returns whether it is a repeat.
    ///
    /// The first connection after a failed attempt is no repeat. The connections of a server that accepts and
    /// closes again may be repeats.
    pub(crate) fn note_connection(&mut self) -> bool {
        let is_return = std::mem::take(&mut self.attempt_failed);
        !is_return && self.is_repeat()
    }

    /// Returns whether a notice about the streak is a repeat now. In a longer streak, more notices are.
    pub(crate) fn is_repeat(&self) -> bool {
        self.failures > FAILURES_LOGGED_EACH && !self.failures.is_power_of_two()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::time::{at, ms};

    #[test]
    fn the_alarm_is_due_once_after_three_minutes() {
        let mut outage = Outage::new(at(1000));
        assert_eq!(outage.alarm_at(), Some(at(181_000)));
        assert!(!outage.take_alarm(at(180_999)));
        assert!(outage.take_alarm(at(181_000)));
        assert!(!outage.take_alarm(at(181_001)));
        assert_eq!((outage.alarm_at(), outage.span(at(181_000))), (None, ms(180_000)));
    }

    #[test]
    fn failures_after_the_first_eight_are_logged_at_powers_of_two() {
        let mut streak = Streak::default();
        let mut logged = Vec::new();
        for failure in 1..=40 {
            streak.count_failure(false, at(u64::from(failure) * 100));
            assert_eq!(streak.failures(), failure);
            if !streak.is_repeat() {
                logged.push(failure);
            }
        }
        assert_eq!(logged, [1, 2, 3, 4, 5, 6, 7, 8, 16, 32]);
        assert_eq!((streak.is_repeat(), streak.span(at(4100))), (true, ms(4000)));
    }

    #[test]
    fn a_connection_after_a_failed_attempt_is_always_logged_and_one_of_many_that_close_is_not() {
        let mut streak = Streak::default();
        for _ in 0..9 {
            streak.count_failure(false, at(0));
        }
        assert!(!streak.note_connection(), "an attempt had failed");
        streak.count_failure(true, at(0));
        assert!(streak.note_connection(), "no attempt has failed since the last connection");
        streak.count_failure(false, at(0));
        assert!(!streak.note_connection());
    }
}
