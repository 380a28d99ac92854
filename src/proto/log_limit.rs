//! Limits how often a repeated event is logged, such as malformed lines of a server or standstills.

use crate::proto::time::{Duration, Instant};

/// The shortest gap between two log lines about the same kind of event.
const MIN_GAP: Duration = Duration::from_secs(10);

/// The longest gap: a feed of the wrong kind is still logged once an hour.
const MAX_GAP: Duration = Duration::from_secs(60 * 60);

/// A limit on the log lines about one kind of event, such as the malformed lines of one server.
///
/// The gap after a log line doubles while events continue. It starts over when the last gap is over and no
/// event has come for as long again.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    /// The gap after the last log line; zero before the first.
    gap: Duration,
    /// The end of the gap. Nothing is logged earlier.
    quiet_until: Instant,
    /// The number of events without a log line since the last log line.
    skipped: u64,
}

impl LogLimit {
    /// Returns the number of events that were skipped since the last log line, if one may be logged now.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        if now < self.quiet_until {
            self.skipped += 1;
            return None;
        }
        let is_calm = now >= self.quiet_until.saturating_add(self.gap);
        self.gap = if is_calm { MIN_GAP } else { (self.gap * 2).min(MAX_GAP) };
        self.quiet_until = now.saturating_add(self.gap);
        Some(std::mem::take(&mut self.skipped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::time::{at, ms};

    /// Returns the moments of the log lines when an event happens each second up to `end`.
    fn logged(limit: &mut LogLimit, from: u64, end: u64) -> Vec<Instant> {
        (from..end).step_by(1000).map(at).filter(|now| limit.admit(*now).is_some()).collect()
    }

    #[test]
    fn gaps_double_while_malformed_lines_continue_up_to_an_hour() {
        let mut limit = LogLimit::default();
        let moments = logged(&mut limit, 0, 1 << 25);
        let gaps: Vec<_> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let expected_s = [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600];
        assert_eq!(moments[0], at(0));
        assert_eq!(gaps[..12], expected_s.map(Duration::from_secs));
    }

    #[test]
    fn nothing_is_logged_a_millisecond_before_the_end_of_the_gap() {
        let mut limit = LogLimit::default();
        assert_eq!(limit.admit(at(5)), Some(0));
        assert_eq!((limit.admit(at(6)), limit.admit(at(10_004))), (None, None));
        assert_eq!(limit.admit(at(10_005)), Some(2), "two were not logged");
        assert_eq!(limit.admit(at(30_004)), None);
        assert_eq!(limit.admit(at(30_005)), Some(1));
    }

    #[test]
    fn the_gap_starts_over_after_a_whole_gap_without_a_malformed_line() {
        for (pause, next_gap) in [(19_999, 20_000), (20_000, 10_000)] {
            let mut limit = LogLimit::default();
            assert!(limit.admit(at(0)).is_some());
            let again = at(pause);
            assert!(limit.admit(again).is_some());
            assert!(limit.admit(again + ms(next_gap - 1)).is_none(), "after {pause} ms");
            assert!(limit.admit(again + ms(next_gap)).is_some(), "after {pause} ms");
        }
    }
}
