//! Measures a worker's time, without the time in which the process did not run.
//!
//! A stopped process, a paused container and a suspended machine have the same effect: the clock jumps. Each
//! deadline in between would seem to be missed, although the servers may have answered in time. So the time
//! by which the worker was late does not count. A deadline that passed in that time is extended.

use crate::proto::time::{Duration, Instant};

/// The lateness above which a worker did not run, as a turn takes a few milliseconds.
///
/// It is long enough for a busy machine, and short compared to the usual timeouts.
pub const STANDSTILL: Duration = Duration::from_millis(100);

/// The extension of a deadline that passed in a standstill.
///
/// It is long enough for other threads and servers of the same machine to continue, too. The extension is at
/// most as long as the sleep before the deadline.
pub const GRACE: Duration = Duration::from_secs(1);

/// Derives a worker's time from the system's monotonic clock.
///
/// The worker states when it will wake up. If it is late by more than [`STANDSTILL`], that time does not
/// count, and the planned moment is delayed by [`GRACE`]. Each moment is delayed only once, so that time
/// passes even on a machine that is always late.
#[derive(Debug)]
pub struct Clock {
    /// The last reading of the system's clock.
    raw: Instant,
    /// The latest moment at which the worker plans to read the clock again, in the system's time.
    expected: Instant,
    /// The total time that did not count.
    lost: Duration,
    /// The latest moment that was delayed, in the worker's time.
    delayed: Option<Instant>,
}

impl Clock {
    /// Makes a clock whose time begins at this reading.
    pub fn new(raw: Instant) -> Clock {
        Clock { raw, expected: raw, lost: Duration::ZERO, delayed: None }
    }

    /// Returns the worker's time at the last reading.
    pub fn now(&self) -> Instant {
        self.raw - self.lost
    }

    /// Returns the total time that did not count.
    pub fn lost(&self) -> Duration {
        self.lost
    }

    /// Sets the latest moment at which the worker will wake up, in its time; `None` for no limit.
    ///
    /// Returns the moment in the system's time.
    pub fn sleep_until(&mut self, until: Option<Instant>) -> Option<Instant> {
        let until = until.map(|moment| moment.saturating_add(self.lost));
        self.expected = until.map_or(Instant::MAX, |moment| moment.max(self.raw));
        until
    }

    /// Takes a reading of the system's clock, and returns how late the worker is if it stood still.
    ///
    /// A reading that is earlier than the last one counts as the last one.
    pub fn read(&mut self, raw: Instant) -> Option<Duration> {
        let raw = raw.max(self.raw);
        let late = raw.saturating_duration_since(self.expected);
        let has_stood = late > STANDSTILL;
        if has_stood {
            let expected = Some(self.expected - self.lost);
            if expected > self.delayed {
                self.delayed = expected;
                self.lost += late + GRACE.min(self.expected - self.raw);
            } else {
                self.lost += late - STANDSTILL;
            }
        }
        self.raw = raw;
        self.expected = raw;
        has_stood.then_some(late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::time::{at, ms};
    use proptest::prelude::*;

    #[test]
    fn a_worker_that_is_late_by_100_ms_was_busy_and_by_101_ms_it_stood_still() {
        let mut clock = Clock::new(at(1000));
        assert_eq!((clock.read(at(1100)), clock.now()), (None, at(1100)));
        assert_eq!((clock.read(at(1201)), clock.now()), (Some(ms(101)), at(1100)));
        assert_eq!(clock.lost(), ms(101));
        assert_eq!(clock.sleep_until(Some(at(5000))), Some(at(5101)));
        assert_eq!((clock.read(at(5201)), clock.now()), (None, at(5100)));
    }

    #[test]
    fn a_missed_deadline_is_extended_by_a_second_or_by_the_time_of_a_shorter_sleep() {
        for (sleep, grace) in [(5000, 1000), (1000, 1000), (999, 999), (7, 7)] {
            let (sleep, grace) = (ms(sleep), ms(grace));
            let mut clock = Clock::new(at(1000));
            let deadline = at(1000) + sleep;
            assert_eq!(clock.sleep_until(Some(deadline)), Some(deadline));
            let raw = deadline + ms(60_000);
            assert_eq!((clock.read(raw), clock.now()), (Some(ms(60_000)), deadline - grace));
            assert_eq!(clock.sleep_until(Some(deadline)), Some(raw + grace));
            assert_eq!((clock.read(raw + grace), clock.now()), (None, deadline));
        }
    }

    #[test]
    fn a_deadline_is_delayed_once() {
        let mut clock = Clock::new(at(0));
        clock.sleep_until(Some(at(500)));
        assert_eq!(
            (clock.read(at(10_000)), clock.now()),
            (Some(ms(9500)), at(0)),
            "less than the grace"
        );
        assert_eq!(clock.sleep_until(Some(at(500))), Some(at(10_500)));
        assert_eq!((clock.read(at(20_000)), clock.now()), (Some(ms(9500)), at(600)));
        // The next deadline is delayed again.
        clock.sleep_until(Some(at(700)));
        assert_eq!((clock.read(at(30_000)), clock.now()), (Some(ms(9900)), at(600)));
    }

    #[test]
    fn a_sleep_without_a_limit_is_no_standstill() {
        let mut clock = Clock::new(at(0));
        assert_eq!(clock.sleep_until(None), None);
        assert_eq!((clock.read(at(1 << 40)), clock.now()), (None, at(1 << 40)));
        assert_eq!(clock.read(at((1 << 40) + 101)), Some(ms(101)), "the next turn is not a sleep");
    }

    #[test]
    fn a_sleep_until_the_past_ends_immediately() {
        let mut clock = Clock::new(at(1000));
        assert_eq!(clock.sleep_until(Some(at(10))), Some(at(10)));
        assert_eq!((clock.read(at(1101)), clock.now()), (Some(ms(101)), at(1000)));
    }

    #[test]
    fn a_clock_that_goes_back_counts_as_the_last_reading() {
        let mut clock = Clock::new(at(1000));
        assert_eq!((clock.read(at(900)), clock.now()), (None, at(1000)));
        assert_eq!((clock.read(at(1001)), clock.now()), (None, at(1001)));
    }

    proptest! {
        #[test]
        fn a_deadline_is_delayed_by_the_lateness_and_a_second_at_most(
            sleeps in prop::collection::vec((0_u64..5000, 0_u64..1000), 1..50),
        ) {
            let mut clock = Clock::new(at(7));
            let mut raw = at(7);
            for (sleep, late) in sleeps {
                let (sleep, late) = (ms(sleep), ms(late));
                let deadline = clock.now() + sleep;
                let due = raw + sleep;
                for attempt in 0.. {
                    prop_assert!(attempt < 2, "the deadline is delayed again");
                    prop_assert!(raw + (deadline - clock.now()) <= due + (late + GRACE) * attempt);
                    let before = clock.now();
                    let until = clock.sleep_until(Some(deadline)).expect("the sleep has a limit");
                    prop_assert_eq!(until - raw, deadline - before);
                    raw = until + late;
                    let stood = clock.read(raw);
                    prop_assert_eq!(stood, (late > STANDSTILL).then_some(late));
                    if clock.now() >= deadline {
                        prop_assert!(clock.now() <= deadline + STANDSTILL);
                        break;
                    }
                    prop_assert_eq!((clock.now() >= before, stood.is_some()), (true, true));
                }
            }
        }
    }
}
