//! How links behave.

use crate::proto::backoff::Backoff;
use crate::proto::time::Millis;

/// How links behave: the part of the configuration that they need, in their units.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The delays between attempts.
    pub backoff: Backoff,
    /// How long a connection has to stand for the back-off to start over.
    pub reset_backoff_threshold: Millis,
    /// How long a server may fail without a break before it is given up; `None` for never.
    pub give_up_after: Option<Millis>,
    /// How long a lookup may take, and then again how long connecting may take.
    pub connect_timeout: Millis,
    /// How long a connection may bring nothing before it counts as lost; `None` for ever.
    pub idle_timeout: Option<Millis>,
    /// The longest line in bytes, without its line feed.
    pub max_line: usize,
    /// Whether each server gets one attempt and is read to its end.
    pub once: bool,
}
