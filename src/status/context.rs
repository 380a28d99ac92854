//! Holds the figures that a snapshot does not have.

use serde::Serialize;

/// The figures that a snapshot does not have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context {
    /// The log lines that were dropped.
    pub log_lines_dropped: u64,
    /// The part of the list that this process takes, if it takes a part.
    pub shard: Option<Shard>,
    /// Whether the job is stopping.
    pub is_stopping: bool,
}

/// A part of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Shard {
    /// The index, from 0.
    pub index: u64,
    /// The number of parts.
    pub count: u64,
}
