//! Counts the connections, failures, bytes and lines of a server.

/// The counters of one server, since the start of the job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Connections made.
    pub connects: u64,
    /// Attempts that failed and connections that ended, except one that the server closes with
    /// `once` and one whose server is removed.
    pub failures: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Whole lines received, each counted once: numbers, heartbeats, malformed and oversized lines.
    pub lines: u64,
    /// Numbers that are multiples of the divisor.
    pub matched: u64,
    /// Lines that are neither a number nor empty.
    pub malformed: u64,
    /// Lines that are longer than the limit.
    pub oversized: u64,
    /// Lines whose connection ended before their delimiter.
    pub truncated: u64,
}

impl std::ops::AddAssign for Counters {
    fn add_assign(&mut self, other: Counters) {
        self.connects += other.connects;
        self.failures += other.failures;
        self.bytes += other.bytes;
        self.lines += other.lines;
        self.matched += other.matched;
        self.malformed += other.malformed;
        self.oversized += other.oversized;
        self.truncated += other.truncated;
    }
}
