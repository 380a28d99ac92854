//! Holds the settings of links.

use crate::codec::Framing;
use crate::proto::backoff::Backoff;
use crate::proto::time::Duration;

/// The settings that links need, a part of the configuration.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The delays between attempts.
    pub backoff: Backoff,
    /// The time after which a connection resets the back-off.
    pub reset_backoff_threshold: Duration,
    /// The duration of an outage after which the server is given up; `None` for never.
    pub give_up_after: Option<Duration>,
    /// The longest time of a lookup, and then again of connecting.
    pub connect_timeout: Duration,
    /// The time without a received byte after which a connection counts as lost; `None` for never.
    pub idle_timeout: Option<Duration>,
    /// The delimiter and the longest line.
    pub framing: Framing,
    /// Whether the bytes after the last delimiter are a line when the server has closed in good order.
    pub keep_truncated: bool,
    /// Whether a worker without a server stays, because servers may be added.
    pub stays: bool,
    /// Whether each server has one attempt only and is read to the end of its stream.
    pub once: bool,
}
