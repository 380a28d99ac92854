//! How long a server is down, and how often in a row it has failed.

use crate::proto::time::Millis;

/// A server that has been down for this long is worth one line at level ERROR.
pub(crate) const DOWN_ALARM: Millis = 3 * 60 * 1000;

/// The first so many failures in a row are logged each; after that, those at powers of two.
const FAILURES_LOGGED_EACH: u32 = 8;

/// The period in which a server is down.
///
/// It begins with the first attempt or the loss of a connection. It ends with a byte received or with a
/// connection that stands for the reset threshold: a server that accepts and closes immediately counts as
/// down.
#[derive(Debug)]
pub(crate) struct Outage {
    since: Millis,
    /// Whether the ERROR about the outage is logged.
    is_alarmed: bool,
}

impl Outage {
    pub(crate) fn new(since: Millis) -> Outage {
        Outage { since, is_alarmed: false }
    }

    /// For how long it has lasted.
    pub(crate) fn span(&self, now: Millis) -> Millis {
        now.saturating_sub(self.since)
    }

    /// When it will have lasted for `span`.
    pub(crate) fn end_of(&self, span: Millis) -> Millis {
        self.since.saturating_add(span)
    }

    /// When the ERROR is due; `None` once it is logged.
    pub(crate) fn alarm_at(&self) -> Option<Millis> {
        (!self.is_alarmed).then(|| self.end_of(DOWN_ALARM))
    }

    /// Whether the ERROR is due now; true once.
    pub(crate) fn take_alarm(&mut self, now: Millis) -> bool {
        let is_due = self.alarm_at().is_some_and(|at| at <= now);
        self.is_alarmed |= is_due;
        is_due
    }
}

/// Failures in a row: attempts that failed and connections that ended, since the last connection that stood
/// for the reset threshold. Their number is the back-off's exponent, and the number of the attempt that
/// follows.
#[derive(Debug, Default)]
pub(crate) struct Streak {
    failures: u32,
    /// When the first of them was; without a meaning while there is none.
    since: Millis,
    /// Whether an attempt has failed since the last connection.
    attempt_failed: bool,
}

impl Streak {
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// The time since the first failure.
    pub(crate) fn span(&self, now: Millis) -> Millis {
        now.saturating_sub(self.since)
    }

    /// Counts a failed attempt, or the loss of a connection.
    pub(crate) fn count_failure(&mut self, was_connected: bool, now: Millis) {
        if self.failures == 0 {
            self.since = now;
        }
        self.failures = self.failures.saturating_add(1);
        self.attempt_failed |= !was_connected;
    }

    /// Takes note of a connection, which may not be the end of the streak. Returns whether it is a repeat:
    /// a server that comes back never is, one that only closes again may be.
    pub(crate) fn note_connection(&mut self) -> bool {
        let is_return = std::mem::take(&mut self.attempt_failed);
        !is_return && self.is_repeat()
    }

    /// Whether its news are repeats: the longer it lasts, the more of them are.
    pub(crate) fn is_repeat(&self) -> bool {
        self.failures > FAILURES_LOGGED_EACH && !self.failures.is_power_of_two()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alarm_is_due_once_after_three_minutes() {
        let mut outage = Outage::new(1000);
        assert_eq!(outage.alarm_at(), Some(181_000));
        assert!(!outage.take_alarm(180_999));
        assert!(outage.take_alarm(181_000));
        assert!(!outage.take_alarm(181_001));
        assert_eq!((outage.alarm_at(), outage.span(181_000)), (None, 180_000));
    }

    #[test]
    fn failures_beyond_the_first_eight_are_logged_at_powers_of_two() {
        let mut streak = Streak::default();
        let mut logged = Vec::new();
        for failure in 1..=40 {
            streak.count_failure(false, Millis::from(failure) * 100);
            assert_eq!(streak.failures(), failure);
            if !streak.is_repeat() {
                logged.push(failure);
            }
        }
        assert_eq!(logged, [1, 2, 3, 4, 5, 6, 7, 8, 16, 32]);
        assert_eq!((streak.is_repeat(), streak.span(4100)), (true, 4000));
    }

    #[test]
    fn a_return_is_always_logged_and_accepting_and_closing_is_not() {
        let mut streak = Streak::default();
        for _ in 0..9 {
            streak.count_failure(false, 0);
        }
        assert!(!streak.note_connection(), "an attempt had failed");
        streak.count_failure(true, 0);
        assert!(streak.note_connection(), "only connections have ended since");
        streak.count_failure(false, 0);
        assert!(!streak.note_connection());
    }
}
