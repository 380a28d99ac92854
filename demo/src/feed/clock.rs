//! Keeps the time of a made-up feed.

use std::time::{Duration, UNIX_EPOCH};

use humantime::format_rfc3339_millis;
use rand::{Rng, RngExt};

/// The time of a made-up feed. Each line advances it, and the time of the system does not. So a seed gives
/// the same lines in every run and at every interval.
#[derive(Clone)]
pub(super) struct Clock {
    /// The time since 1970, at most [`LAST`].
    since_epoch: Duration,
}

/// 2026-01-01, midnight.
const FIRST: Duration = Duration::from_secs(1_767_225_600);

/// A year.
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The last time before a clock starts over. Seven thousand years fit into the four digits of a year. Without
/// pauses they pass within days.
const LAST: Duration = Duration::from_secs(FIRST.as_secs() + 7000 * YEAR.as_secs());

impl Clock {
    /// Returns a clock at a second of 2026.
    pub(super) fn new(rng: &mut impl Rng) -> Clock {
        let second = rng.random_range(0..YEAR.as_secs());
        Clock { since_epoch: FIRST + Duration::from_secs(second) }
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.since_epoch += by;
        if self.since_epoch > LAST {
            self.since_epoch = FIRST;
        }
    }

    /// Returns a clock that is later by `by`.
    pub(super) fn later(&self, by: Duration) -> Clock {
        let mut later = self.clone();
        later.advance(by);
        later
    }

    /// Returns the date as `2026-12-31`, and the time of day as `23:59:59.999`.
    pub(super) fn date_and_time(&self) -> (String, String) {
        let text = format_rfc3339_millis(UNIX_EPOCH + self.since_epoch).to_string();
        let (date, time) = text.split_once('T').expect("RFC 3339 separates date and time by a T");
        (date.to_owned(), time.trim_end_matches('Z').to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::Xoshiro256PlusPlus;

    #[test]
    fn it_starts_within_2026_and_crosses_the_end_of_a_year() {
        assert_eq!(texts(FIRST), ["2026-01-01", "00:00:00.000"]);
        let mut clock = Clock { since_epoch: FIRST + YEAR - Duration::from_millis(1) };
        assert_eq!(texts(clock.since_epoch), ["2026-12-31", "23:59:59.999"]);
        clock.advance(Duration::from_millis(1));
        assert_eq!(texts(clock.since_epoch), ["2027-01-01", "00:00:00.000"]);
        for seed in 0..100 {
            let clock = Clock::new(&mut Xoshiro256PlusPlus::seed_from_u64(seed));
            assert!(clock.date_and_time().0.starts_with("2026-"));
        }
    }

    #[test]
    fn it_starts_over_after_the_last_time_that_has_a_text() {
        let mut clock = Clock { since_epoch: LAST };
        assert!(clock.date_and_time().0.starts_with("90"), "{:?}", clock.date_and_time());
        clock.advance(Duration::from_millis(1));
        assert_eq!(texts(clock.since_epoch), ["2026-01-01", "00:00:00.000"]);
    }

    fn texts(since_epoch: Duration) -> [String; 2] {
        Clock { since_epoch }.date_and_time().into()
    }
}
