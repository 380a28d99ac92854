//! How long to wait before a server is tried again.
//!
//! The delay before retry `n`, counted from 0, is `min(initial * multiplier^n, max)`, spread evenly
//! over plus and minus a share of itself. The settings and their names are those of Flink's
//! exponential-delay restart strategy (`restart-strategy.exponential-delay.*`). The jitter is that
//! of gRPC's connection back-off, added after the cap is applied: Flink cuts the jittered delay at
//! the maximum, which makes half of all servers that have been down for long retry at the same
//! moment.

use std::error::Error;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::{Rng, RngExt};

use crate::text::duration::show;

/// The shortest delay that is ever waited, and the lower bound of the initial one.
const MIN_DELAY: Duration = Duration::from_millis(1);
/// The upper bound of the settings: beyond it a server is as good as given up.
const MAX_DELAY: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// The upper bound of the multiplier, there to catch a delay given in its place.
const MAX_MULTIPLIER: f64 = 1e6;

/// An exponential back-off: the settings alone, without a state.
///
/// The caller counts the attempts, and starts over at 0 when it trusts a server again. The default
/// is 1 s, 60 s, 2 and 0.1.
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
    /// A back-off with these settings, each checked against its bounds:
    ///
    /// - `initial`, the delay before the first retry: 1 ms to 365 days.
    /// - `max`, the cap of the delay before its jitter: `initial` to 365 days. The longest delay is
    ///   `max * (1 + jitter)`.
    /// - `multiplier`, what the delay grows by from one retry to the next: 1 to 1000000. With 1 the
    ///   delay stays as it is (Flink wants more than 1, and has another strategy for that).
    /// - `jitter`, the share of the delay by which it is spread to either side: 0 to 1.
    ///
    /// # Errors
    ///
    /// The first setting in this order that is outside its bounds.
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

    /// The delay before the first retry, without its jitter.
    #[must_use]
    pub fn initial(&self) -> Duration {
        self.initial
    }

    /// The cap of the delay before its jitter.
    #[must_use]
    pub fn max(&self) -> Duration {
        self.max
    }

    /// What the delay grows by from one retry to the next.
    #[must_use]
    pub fn multiplier(&self) -> f64 {
        self.multiplier
    }

    /// The share of the delay by which it is spread to either side.
    #[must_use]
    pub fn jitter(&self) -> f64 {
        self.jitter
    }

    /// The delay before retry `attempt`, counted from 0: one of [`bounds`](Self::bounds), all of
    /// them equally likely.
    #[must_use]
    pub fn delay(&self, attempt: u32, rng: &mut impl Rng) -> Duration {
        rng.random_range(self.bounds(attempt))
    }

    /// The shortest and the longest delay before retry `attempt`, counted from 0.
    ///
    /// The shortest is never below 1 ms, so that no setting makes a busy loop.
    #[must_use]
    pub fn bounds(&self, attempt: u32) -> RangeInclusive<Duration> {
        let delay = self.delay_without_jitter(attempt);
        let spread = delay.mul_f64(self.jitter);
        delay.saturating_sub(spread).max(MIN_DELAY)..=delay + spread
    }

    fn delay_without_jitter(&self, attempt: u32) -> Duration {
        // The power soon is more than a `Duration` holds and then infinite, but never NaN, for the
        // multiplier is at least 1. All of that is beyond the cap.
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
    /// The name of the setting, as Flink has it after `restart-strategy.exponential-delay.`.
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
