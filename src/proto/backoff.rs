//! Computes the delay before a retry.
//!
//! The delay before retry `n`, counted from 0, is `min(initial * multiplier^n, max)`. A jitter spreads it
//! evenly over plus and minus a share of itself. The settings and their names are those of Flink's
//! exponential-delay restart strategy (`restart-strategy.exponential-delay.*`).
//!
//! The jitter is that of gRPC's connection back-off, added after the cap is applied. Flink cuts the jittered
//! delay at the maximum. Then half of all servers that have been down for long retry at the same moment.

use std::error::Error;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::{Rng, RngExt};

use crate::text::duration::show;

/// The shortest delay, and the lower bound of the initial one, so that no setting makes a busy loop.
const MIN_DELAY: Duration = Duration::from_millis(1);
/// The upper bound of both delays. A server with a longer delay is in effect given up.
const MAX_DELAY: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// The upper bound of the multiplier. It detects a delay that was given in its place.
const MAX_MULTIPLIER: f64 = 1e6;

/// The settings of an exponential back-off, without a state.
///
/// The caller counts the retries, and starts over at 0 after a connection that lasts. The default is an
/// initial delay of 1 s, a cap of 60 s, a multiplier of 2 and a jitter of 0.1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// Invariant: `MIN_DELAY <= initial <= max <= MAX_DELAY`.
    initial: Duration,
    max: Duration,
    /// Invariant: in `1.0..=MAX_MULTIPLIER`.
    multiplier: f64,
    /// Invariant: in `0.0..=1.0`.
    jitter: f64,
}

impl Backoff {
    /// Makes a back-off of these settings, and checks each against its bounds:
    ///
    /// - `initial`, the delay before the first retry, without jitter: 1 ms to 365 days.
    /// - `max`, the cap of the delay, without jitter: `initial` to 365 days. The longest delay with jitter is
    ///   `max * (1 + jitter)`.
    /// - `multiplier`, the factor from one delay to the next: 1 to 1000000. With 1 the delay is constant.
    ///   Flink requires more than 1, and has another strategy for a constant delay.
    /// - `jitter`, the share of the delay by which it is spread to either side: 0 to 1.
    ///
    /// # Errors
    ///
    /// If a setting is outside its bounds. The error names the first one in this order.
    pub fn new(
        initial: Duration,
        max: Duration,
        multiplier: f64,
        jitter: f64,
    ) -> Result<Backoff, BackoffError> {
        if !(MIN_DELAY..=MAX_DELAY).contains(&initial) {
            return Err(BackoffError::Initial { initial });
        }
        if !(initial..=MAX_DELAY).contains(&max) {
            return Err(BackoffError::Max { max, initial });
        }
        // No range contains NaN.
        if !(1.0..=MAX_MULTIPLIER).contains(&multiplier) {
            return Err(BackoffError::Multiplier { multiplier });
        }
        if !(0.0..=1.0).contains(&jitter) {
            return Err(BackoffError::Jitter { jitter });
        }
        Ok(Backoff { initial, max, multiplier, jitter })
    }

    /// Returns the delay before the first retry, without jitter.
    #[must_use]
    pub fn initial(&self) -> Duration {
        self.initial
    }

    /// Returns the cap of the delay, without jitter.
    #[must_use]
    pub fn max(&self) -> Duration {
        self.max
    }

    /// Returns the factor from one delay to the next.
    #[must_use]
    pub fn multiplier(&self) -> f64 {
        self.multiplier
    }

    /// Returns the share of the delay by which it is spread to either side.
    #[must_use]
    pub fn jitter(&self) -> f64 {
        self.jitter
    }

    /// Returns the delay before retry `attempt`, counted from 0.
    ///
    /// It is within [`bounds`](Self::bounds), where each value is equally likely.
    #[must_use]
    pub fn delay(&self, attempt: u32, rng: &mut impl Rng) -> Duration {
        rng.random_range(self.bounds(attempt))
    }

    /// Returns the shortest and the longest delay before retry `attempt`, counted from 0.
    ///
    /// The shortest is at least 1 ms, so that no setting makes a busy loop.
    #[must_use]
    pub fn bounds(&self, attempt: u32) -> RangeInclusive<Duration> {
        let delay = self.delay_without_jitter(attempt);
        let spread = delay.mul_f64(self.jitter);
        delay.saturating_sub(spread).max(MIN_DELAY)..=delay + spread
    }

    fn delay_without_jitter(&self, attempt: u32) -> Duration {
        // A large power exceeds a `Duration` or is infinite, and both are above the cap. It is never NaN,
        // as the multiplier is at least 1.
        let delay_s = self.initial.as_secs_f64() * self.multiplier.powf(f64::from(attempt));
        Duration::try_from_secs_f64(delay_s)
            .map_or(self.max, |delay| delay.clamp(self.initial, self.max))
    }
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(60),
            multiplier: 2.0,
            jitter: 0.1,
        }
    }
}

/// A setting of a [`Backoff`] that is outside its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum BackoffError {
    /// The initial delay is below 1 ms or above 365 days.
    Initial {
        /// The delay that was given.
        initial: Duration,
    },
    /// The cap is below the initial delay or above 365 days.
    Max {
        /// The cap that was given.
        max: Duration,
        /// The initial delay that was given with it.
        initial: Duration,
    },
    /// The multiplier is below 1, above 1000000 or not a number.
    Multiplier {
        /// The multiplier that was given.
        multiplier: f64,
    },
    /// The jitter is below 0, above 1 or not a number.
    Jitter {
        /// The jitter that was given.
        jitter: f64,
    },
}

impl BackoffError {
    /// Returns the name of the setting in Flink, without the prefix `restart-strategy.exponential-delay.`.
    #[must_use]
    pub fn setting(&self) -> &'static str {
        match self {
            BackoffError::Initial { .. } => "initial-backoff",
            BackoffError::Max { .. } => "max-backoff",
            BackoffError::Multiplier { .. } => "backoff-multiplier",
            BackoffError::Jitter { .. } => "jitter-factor",
        }
    }
}

impl fmt::Display for BackoffError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackoffError::Initial { initial } => {
                let (initial, min, max) = (show(*initial), show(MIN_DELAY), show(MAX_DELAY));
                write!(f, "the initial back-off is {initial}, but must be {min} to {max}")
            }
            BackoffError::Max { max, initial } => {
                let (max, initial, longest) = (show(*max), show(*initial), show(MAX_DELAY));
                write!(
                    f,
                    "the maximum back-off is {max}, \
                     but must be {initial} (the initial back-off) to {longest}"
                )
            }
            BackoffError::Multiplier { multiplier } => {
                write!(f, "the back-off multiplier is {multiplier}, but must be 1 to 1000000")
            }
            BackoffError::Jitter { jitter } => {
                write!(f, "the jitter factor is {jitter}, but must be 0 to 1")
            }
        }
    }
}

impl Error for BackoffError {}

#[cfg(test)]
mod tests;
