//! Events worth noting, as values: for the log and for counters.

use std::error::Error;
use std::fmt::Debug;
use std::net::SocketAddr;

use crate::address::Server;
use crate::proto::connection_error::ConnectionError;
use crate::proto::time::Millis;

/// Takes note of what happens.
pub trait Notices: Debug {
    /// Takes one notice. It is called in the middle of a worker's turn, so it must not block.
    fn notice(&mut self, notice: Notice<'_>);
}

/// Ignores all notices.
impl Notices for () {
    fn notice(&mut self, _: Notice<'_>) {}
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// Something happened to a server.
    Server {
        /// Which server.
        server: &'a Server,
        /// What happened.
        what: ServerNotice<'a>,
    },
    /// Each server of a worker has been connected at least once.
    AllConnected {
        /// The index of the worker.
        worker: usize,
    },
    /// A worker did not run for a time, which does not count for its timeouts.
    StoodStill {
        /// The index of the worker.
        worker: usize,
        /// For how long.
        late: Millis,
    },
}

/// Something that happened to a server.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum ServerNotice<'a> {
    /// An attempt begins.
    Trying {
        /// Whether it is one of many in a long outage.
        is_repeat: bool,
    },
    /// The lookup of an earlier attempt goes on, and serves this one.
    LookupPending,
    /// A lookup ended after its attempt had failed. Its answer serves the next attempt.
    LateAnswer,
    /// An address is tried.
    Dialing {
        /// The address.
        address: SocketAddr,
    },
    /// There is a connection.
    Connected {
        /// The failures in a row before it.
        failures: u32,
        /// The time since the first of them.
        span: Millis,
        /// Whether it is one of many connections that the server closes again.
        is_repeat: bool,
    },
    /// An attempt has failed, or a connection has ended.
    Failed {
        /// Why.
        error: &'a ConnectionError,
        /// Whether there was a connection.
        was_connected: bool,
        /// The attempt that follows; `None` if there is none.
        retry: Option<Retry>,
        /// Whether it is one of many in a long outage.
        is_repeat: bool,
    },
    /// An outage has become long. Each outage has one such notice.
    Down {
        /// How long it has lasted.
        span: Millis,
    },
    /// The server is given up.
    GaveUp {
        /// The failures in a row.
        failures: u32,
        /// How long the outage has lasted.
        span: Millis,
        /// The last failure; `None` if the first attempt had no answer.
        error: Option<&'a ConnectionError>,
    },
    /// The server has closed its only connection in good order.
    ReadToEnd {
        /// The lines that it sent.
        lines: u64,
        /// Whether any of them was neither malformed nor oversized, or there was none.
        success: bool,
    },
    /// A line is malformed.
    Malformed {
        /// The line without its line feed.
        line: &'a [u8],
        /// What is wrong with it.
        error: &'a dyn Error,
        /// The number of such lines without a notice since the last notice.
        skipped: u64,
    },
    /// A line was skipped, as it is longer than the limit.
    Oversized {
        /// The limit in bytes.
        max_line: usize,
        /// The number of such lines without a notice since the last notice.
        skipped: u64,
    },
    /// A connection ended within a line.
    Truncated {
        /// The bytes of the line that came.
        line: &'a [u8],
        /// The number of such lines without a notice since the last notice.
        skipped: u64,
    },
    /// The job ended within a line.
    Unfinished {
        /// The bytes of the line that came.
        line: &'a [u8],
    },
}

/// The attempt that follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Its number: 1 after the first failure in a row.
    pub attempt: u32,
    /// The delay before it.
    pub delay: Millis,
}
