//! Represents a worker's time in milliseconds.

use std::time::Duration;

/// A span in milliseconds, or a moment in milliseconds since the owner's epoch.
///
/// The owner of the clock rounds moments down and spans up, so that nothing happens before its time.
pub type Millis = u64;

/// Converts a span to whole milliseconds, rounded up.
pub(crate) fn millis(span: Duration) -> Millis {
    u64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
