//! Limits how often a repeated event is logged, such as malformed lines of a server or standstills.

use crate::proto::time::Millis;

/// The shortest gap in milliseconds between two log lines about the same kind of event.
const MIN_GAP_MS: Millis = 10_000;

/// The longest gap in milliseconds: a feed of the wrong kind is still logged once an hour.
const MAX_GAP_MS: Millis = 60 * 60 * 1000;

/// A limit on the log lines about one kind of event, such as the malformed lines of one server.
///
/// The gap after a log line doubles while events continue. It starts over when the last gap is over and no
/// event has come for as long again.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    /// The gap after the last log line; 0 before the first.
    gap: Millis,
    /// The end of the gap. Nothing is logged earlier.
    quiet_until: Millis,
    /// The number of events without a log line since the last log line.
    skipped: u64,
}

impl LogLimit {
    /// Returns the number of events that were skipped since the last log line, if one may be logged now.
    pub(crate) fn admit(&mut self, now: Millis) -> Option<u64> {
        if now < self.quiet_until {
            self.skipped += 1;
            return None;
        }
        let is_calm = now >= self.quiet_until.saturating_add(self.gap);
        self.gap = if is_calm { MIN_GAP_MS } else { (2 * self.gap).min(MAX_GAP_MS) };
        self.quiet_until = now.saturating_add(self.gap);
        Some(std::mem::take(&mut self.skipped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the moments of the log lines when an event happens each second up to `end`.
    fn logged(limit: &mut LogLimit, from: Millis, end: Millis) -> Vec<Millis> {
        (from..end).step_by(1000).filter(|now| limit.admit(*now).is_some()).collect()
    }

    #[test]
    fn gaps_double_while_malformed_lines_continue_up_to_an_hour() {
        let mut limit = LogLimit::default();
        let moments = logged(&mut limit, 0, 1 << 25);
        let gaps: Vec<_> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let expected = [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600];
        assert_eq!(moments[0], 0);
        assert_eq!(gaps[..12], expected.map(|seconds| seconds * 1000));
    }

    #[test]
    fn nothing_is_logged_a_millisecond_before_the_end_of_the_gap() {
        let mut limit = LogLimit::default();
        assert_eq!(limit.admit(5), Some(0));
        assert_eq!((limit.admit(6), limit.admit(10_004)), (None, None));
        assert_eq!(limit.admit(10_005), Some(2), "two were not logged");
        assert_eq!(limit.admit(30_004), None);
        assert_eq!(limit.admit(30_005), Some(1));
    }

    #[test]
    fn the_gap_starts_over_after_a_whole_gap_without_a_malformed_line() {
        for (pause, next_gap) in [(19_999, 20_000), (20_000, 10_000)] {
            let mut limit = LogLimit::default();
            assert!(limit.admit(0).is_some());
            let again = pause;
            assert!(limit.admit(again).is_some());
            assert!(limit.admit(again + next_gap - 1).is_none(), "after {pause} ms");
            assert!(limit.admit(again + next_gap).is_some(), "after {pause} ms");
        }
    }
}
