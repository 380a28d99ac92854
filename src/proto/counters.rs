//! What servers have done, in numbers.

/// What one server has done so far. Each whole line is counted once in `lines`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Connections made.
    pub connects: u64,
    /// Attempts that failed and connections that ended, other than as `once` wants it.
    pub failures: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Whole lines received: numbers, heartbeats, malformed and too long ones.
    pub lines: u64,
    /// Numbers that the divisor divides.
    pub matched: u64,
    /// Lines that were neither a number nor empty.
    pub malformed: u64,
    /// Lines that were longer than the limit.
    pub oversized: u64,
    /// Lines that the end of their connection cut before their newline.
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
