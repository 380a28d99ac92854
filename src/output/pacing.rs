//! Decides whether the output thread sleeps or polls.
//!
//! In a burst it polls, because a wake-up for each record would cost more than the records themselves.

use std::time::Duration;

/// The number of wake-ups within [`BURST_SPAN`] that make a burst.
const BURST_WAKEUPS: u32 = 16;

/// The longest time of [`BURST_WAKEUPS`] in a burst: 50 µs for each. A wake-up alone takes a good part of that.
const BURST_SPAN: Duration = Duration::from_micros(800);

/// The time between two polls in a burst: 0.1 ms. Polls need no wake-ups, and all records of an interval are
/// written together.
pub(super) const POLL_INTERVAL: Duration = Duration::from_micros(100);

/// Detects bursts. A burst begins after [`BURST_WAKEUPS`] sleeps within [`BURST_SPAN`]. It ends with the first
/// poll that finds no records.
#[derive(Debug)]
pub(super) struct Pacing {
    is_burst: bool,
    /// The number of sleeps since `counted_from`, at most [`BURST_WAKEUPS`].
    sleeps: u32,
    counted_from: Duration,
}

impl Pacing {
    pub(super) fn new(now: Duration) -> Pacing {
        Pacing { is_burst: false, sleeps: 0, counted_from: now }
    }

    /// Returns whether to poll after [`POLL_INTERVAL`]. Otherwise the thread sleeps until a worker rings.
    ///
    /// The caller calls it when all rings are empty. `has_read` is whether they had records since the last
    /// call. `now` is the time since any fixed moment.
    pub(super) fn should_poll(&mut self, has_read: bool, now: Duration) -> bool {
        if self.is_burst && !has_read {
            *self = Pacing::new(now);
        }
        if self.sleeps == BURST_WAKEUPS {
            // A clock that is set back starts a burst. The first idle poll ends it.
            let is_burst = now.saturating_sub(self.counted_from) < BURST_SPAN;
            *self = Pacing { is_burst, ..Pacing::new(now) };
        }
        if !self.is_burst {
            self.sleeps += 1;
        }
        self.is_burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_begins_after_16_short_sleeps_and_ends_with_an_idle_poll() {
        let mut now = Duration::ZERO;
        let mut pacing = Pacing::new(now);
        let mut polls_after = |pause, has_read| {
            now += pause;
            pacing.should_poll(has_read, now)
        };
        let longest = BURST_SPAN / BURST_WAKEUPS - Duration::from_nanos(1);
        for _ in 0..3 {
            for _ in 0..2 * BURST_WAKEUPS {
                assert!(!polls_after(BURST_SPAN, true));
            }
            let short = (0..).find(|_| polls_after(longest, true)).unwrap();
            assert!((BURST_WAKEUPS - 1..2 * BURST_WAKEUPS).contains(&short), "after {short}");
            for pause in [longest, POLL_INTERVAL, 100 * POLL_INTERVAL] {
                assert!(polls_after(pause, true));
            }
            assert!(!polls_after(POLL_INTERVAL, false));
        }
    }

    #[test]
    fn sixteen_sleeps_that_take_the_whole_span_are_no_burst() {
        let mut now = Duration::ZERO;
        let mut pacing = Pacing::new(now);
        for _ in 0..3 * BURST_WAKEUPS {
            now += BURST_SPAN / BURST_WAKEUPS;
            assert!(!pacing.should_poll(true, now));
        }
    }
}
