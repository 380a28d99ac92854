//! Represents moments and spans of a worker's time as two types.
//!
//! Both count whole milliseconds. Moments are rounded down and spans up, so that nothing happens before its time.

use std::ops::{Add, AddAssign, Div, Mul, Sub};

/// A moment: the whole milliseconds since the epoch of a clock.
///
/// ```
/// use tcpcore::internals::proto::time::{Duration, Instant};
///
/// let start = Instant::from_millis(1500);
/// let deadline = start + Duration::from_secs(10);
/// assert_eq!(deadline, Instant::from_millis(11_500));
/// assert_eq!(deadline - start, Duration::from_millis(10_000));
/// ```
///
/// Two moments have no sum:
///
/// ```compile_fail,E0308
/// # use tcpcore::internals::proto::time::{Duration, Instant};
/// # let start = Instant::from_millis(1500);
/// let deadline = start + Instant::from_millis(10_000);
/// ```
///
/// A moment and a span have no order:
///
/// ```compile_fail,E0308
/// # use tcpcore::internals::proto::time::{Duration, Instant};
/// # let start = Instant::from_millis(1500);
/// assert!(start < Duration::from_secs(10));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The epoch.
    pub const ZERO: Instant = Instant(0);

    /// The last moment. No clock reaches it.
    pub const MAX: Instant = Instant(u64::MAX);

    /// Makes the moment that is so many milliseconds after the epoch.
    #[inline]
    pub const fn from_millis(millis: u64) -> Instant {
        Instant(millis)
    }

    /// Makes the moment that is so long after the epoch, rounded down.
    ///
    /// # Panics
    ///
    /// If `elapsed` is longer than half a billion years.
    #[inline]
    pub fn from_elapsed(elapsed: std::time::Duration) -> Instant {
        Instant(u64::try_from(elapsed.as_millis()).expect("half a billion years of uptime"))
    }

    /// Returns the milliseconds since the epoch.
    #[inline]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns the moment that is `span` later, or [`MAX`](Instant::MAX) if there is none.
    #[inline]
    pub const fn saturating_add(self, span: Duration) -> Instant {
        Instant(self.0.saturating_add(span.0))
    }

    /// Returns the span since `earlier`. It is zero if that is later.
    #[inline]
    pub const fn saturating_duration_since(self, earlier: Instant) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    #[inline]
    fn add(self, span: Duration) -> Instant {
        Instant(self.0 + span.0)
    }
}

impl AddAssign<Duration> for Instant {
    #[inline]
    fn add_assign(&mut self, span: Duration) {
        *self = *self + span;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    #[inline]
    fn sub(self, span: Duration) -> Instant {
        Instant(self.0 - span.0)
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;

    #[inline]
    fn sub(self, earlier: Instant) -> Duration {
        Duration(self.0 - earlier.0)
    }
}

/// A span, in whole milliseconds.
///
/// It is coarser than [`std::time::Duration`], so each conversion from that is a decision about rounding. There is
/// one such conversion, which rounds up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(u64);

impl Duration {
    /// No time at all.
    pub const ZERO: Duration = Duration(0);

    /// Makes a span of so many milliseconds.
    #[inline]
    pub const fn from_millis(millis: u64) -> Duration {
        Duration(millis)
    }

    /// Makes a span of so many seconds.
    #[inline]
    pub const fn from_secs(secs: u64) -> Duration {
        Duration(secs * 1000)
    }

    /// Returns the milliseconds.
    #[inline]
    pub const fn as_millis(self) -> u64 {
        self.0
    }
}

/// Rounds up to whole milliseconds. The longest span stands for all that are longer.
impl From<std::time::Duration> for Duration {
    fn from(span: std::time::Duration) -> Duration {
        Duration(u64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }
}

impl From<Duration> for std::time::Duration {
    fn from(span: Duration) -> std::time::Duration {
        std::time::Duration::from_millis(span.0)
    }
}

impl Add for Duration {
    type Output = Duration;

    #[inline]
    fn add(self, other: Duration) -> Duration {
        Duration(self.0 + other.0)
    }
}

impl AddAssign for Duration {
    #[inline]
    fn add_assign(&mut self, other: Duration) {
        *self = *self + other;
    }
}

impl Sub for Duration {
    type Output = Duration;

    #[inline]
    fn sub(self, other: Duration) -> Duration {
        Duration(self.0 - other.0)
    }
}

impl Mul<u64> for Duration {
    type Output = Duration;

    #[inline]
    fn mul(self, factor: u64) -> Duration {
        Duration(self.0 * factor)
    }
}

impl Div<u64> for Duration {
    type Output = Duration;

    #[inline]
    fn div(self, divisor: u64) -> Duration {
        Duration(self.0 / divisor)
    }
}

/// Makes moments in tests.
#[cfg(test)]
pub(crate) const fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// Makes spans in tests.
#[cfg(test)]
pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time;

    const NS: time::Duration = time::Duration::from_nanos(1);

    #[test]
    fn a_moment_is_rounded_down_and_a_span_up_to_a_whole_millisecond() {
        let three = time::Duration::from_millis(3);
        for (elapsed, moment, span) in [
            (time::Duration::ZERO, at(0), ms(0)),
            (NS, at(0), ms(1)),
            (three - NS, at(2), ms(3)),
            (three, at(3), ms(3)),
            (three + NS, at(3), ms(4)),
        ] {
            assert_eq!((Instant::from_elapsed(elapsed), Duration::from(elapsed)), (moment, span));
        }
    }

    #[test]
    fn the_longest_span_stands_for_all_that_are_longer() {
        let longest = time::Duration::from(ms(u64::MAX));
        assert_eq!(Duration::from(longest), ms(u64::MAX));
        assert_eq!(Duration::from(longest - NS), ms(u64::MAX));
        assert_eq!(Duration::from(longest + NS), ms(u64::MAX));
        assert_eq!(Duration::from(time::Duration::MAX), ms(u64::MAX));
    }

    #[test]
    fn a_deadline_beyond_the_last_moment_is_the_last_moment() {
        let late = at(u64::MAX - 5);
        assert_eq!(late.saturating_add(ms(4)), at(u64::MAX - 1));
        assert_eq!(late.saturating_add(ms(5)), Instant::MAX);
        assert_eq!(late.saturating_add(ms(6)), Instant::MAX);
    }

    #[test]
    fn the_span_since_a_later_moment_is_zero() {
        let since = |earlier| at(1000).saturating_duration_since(at(earlier));
        assert_eq!([999, 1000, 1001].map(since), [ms(1), ms(0), ms(0)]);
    }
}
