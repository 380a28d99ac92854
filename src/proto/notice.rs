//! Represents events of note as values, for the log and for counters.

use std::error::Error;
use std::fmt::Debug;
use std::net::SocketAddr;

use crate::address::Server;
use crate::proto::connection_error::ConnectionError;
use crate::proto::time::Duration;

/// A receiver of notices.
pub trait Notices: Debug {
    /// Takes one notice. It must not block, as it is called in the middle of a worker's turn.
    fn notice(&mut self, notice: Notice<'_>);
}

/// Ignores all notices.
impl Notices for () {
    fn notice(&mut self, _: Notice<'_>) {}
}

/// An event of note.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// An event of one server.
    Server {
        /// The server.
        server: &'a Server,
        /// The event.
        what: ServerNotice<'a>,
    },
    /// A server has ended or was removed before its end: it is not dialed again.
    Ended {
        /// The server.
        server: &'a Server,
    },
    /// A worker has connected to each of its servers at least once.
    AllConnected {
        /// The index of the worker.
        worker: usize,
    },
    /// A worker did not run for a while. That time does not count toward its timeouts.
    StoodStill {
        /// The index of the worker.
        worker: usize,
        /// The time for which it did not run.
        late: Duration,
    },
}

/// An event of one server.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum ServerNotice<'a> {
    /// An attempt begins.
    Trying {
        /// Whether it is one of many in a long outage.
        is_repeat: bool,
    },
    /// The lookup of an earlier attempt is still under way. The attempt uses its answer.
    LookupPending,
    /// A lookup ended after its attempt had failed. The next attempt uses its answer.
    LateAnswer,
    /// An attempt tries an address.
    Dialing {
        /// The address.
        address: SocketAddr,
    },
    /// A connection was made.
    Connected {
        /// The number of failures in a row before the connection.
        failures: u32,
        /// The time since the first of the failures.
        span: Duration,
        /// The time from the first address of the attempt to the connection.
        took: Duration,
        /// Whether it is one of many connections that the server closes soon.
        is_repeat: bool,
    },
    /// An attempt has failed, or a connection has ended.
    Failed {
        /// The reason.
        error: &'a ConnectionError,
        /// Whether a connection ended, rather than an attempt.
        was_connected: bool,
        /// The next attempt; `None` if there is none.
        retry: Option<Retry>,
        /// Whether it is one of many in a long outage.
        is_repeat: bool,
    },
    /// An outage has become long. Each outage has at most one such notice.
    Down {
        /// The duration of the outage so far.
        span: Duration,
    },
    /// The server is given up.
    GaveUp {
        /// The number of failures in a row.
        failures: u32,
        /// The duration of the outage.
        span: Duration,
        /// The last failure; `None` if the first attempt has not ended.
        error: Option<&'a ConnectionError>,
        /// Whether the last failure ended a connection, rather than an attempt.
        was_connected: bool,
    },
    /// The server has closed its only connection regularly.
    ReadToEnd {
        /// The number of lines received.
        lines: u64,
        /// Whether a line was neither malformed nor oversized, or the server sent no line.
        success: bool,
    },
    /// A line is malformed.
    Malformed {
        /// The line without its delimiter.
        line: &'a [u8],
        /// The error of the decoder.
        error: &'a dyn Error,
        /// The number of such lines without a notice since the last notice.
        skipped: u64,
    },
    /// A line was skipped because it is longer than the limit.
    Oversized {
        /// The limit in bytes.
        max_line: usize,
        /// The number of such lines without a notice since the last notice.
        skipped: u64,
    },
    /// A connection ended within a line.
    Truncated {
        /// The received part of the line.
        line: &'a [u8],
        /// The number of such lines without a notice since the last notice.
        skipped: u64,
    },
    /// The feed may be of another kind than the settings say. Each server has at most one notice of each hint.
    Hint {
        /// The hint.
        hint: Hint,
    },
    /// The job ended within a line.
    Unfinished {
        /// The received part of the line.
        line: &'a [u8],
    },
}

/// The likely reason why a server yields no records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hint {
    /// A connection has sent many bytes in a row without a delimiter: its lines may end with another byte.
    NoDelimiter {
        /// The number of bytes.
        bytes: usize,
        /// The delimiter that is missing.
        delimiter: u8,
    },
    /// All lines of a connection so far are malformed: they may be records of another kind.
    OnlyMalformed {
        /// The number of lines.
        lines: u32,
    },
}

/// The next attempt after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The number of the attempt: 1 after the first failure in a row.
    pub attempt: u32,
    /// The delay before the attempt.
    pub delay: Duration,
}
