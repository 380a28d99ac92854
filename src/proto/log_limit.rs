//! How often something that may repeat without end is logged: malformed lines of a server, standstills.

use crate::proto::time::Millis;

/// The shortest time between two log lines about the same thing.
const MIN_GAP: Millis = 10_000;

/// The longest: a feed of the wrong kind is still mentioned once an hour.
const MAX_GAP: Millis = 60 * 60 * 1000;

/// A limit on the log lines about one thing, say one server's malformed lines.
///
/// The gap between two log lines doubles while they keep coming. It starts over when none came for a whole
/// gap after the last one had passed.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    /// The gap after the last log line; 0 before the first.
    gap: Millis,
    /// Until when nothing is logged.
    quiet_until: Millis,
    /// The lines that were not logged since the last log line.
    skipped: u64,
}

impl LogLimit {
    /// Whether a line may be logged now; if so, returns how many were not logged since the last one.
    pub(crate) fn admit(&mut self, now: Millis) -> Option<u64> {
        if now < self.quiet_until {
            self.skipped += 1;
            return None;
        }
        let is_calm = now >= self.quiet_until.saturating_add(self.gap);
        self.gap = if is_calm { MIN_GAP } else { (2 * self.gap).min(MAX_GAP) };
        self.quiet_until = now.saturating_add(self.gap);
        Some(std::mem::take(&mut self.skipped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The moments at which something is logged of a line each second, up to `end`.
    fn logged(limit: &mut LogLimit, from: Millis, end: Millis) -> Vec<Millis> {
        (from..end).step_by(1000).filter(|now| limit.admit(*now).is_some()).collect()
    }

    #[test]
    fn gaps_double_while_malformed_lines_keep_coming_and_end_at_an_hour() {
        let mut limit = LogLimit::default();
        let moments = logged(&mut limit, 0, 1 << 25);
        let gaps: Vec<_> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let expected = [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600];
        assert_eq!(moments[0], 0);
        assert_eq!(gaps[..12], expected.map(|seconds| seconds * 1000));
    }

    #[test]
    fn nothing_is_logged_a_millisecond_before_the_gap_is_over() {
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
