//! Reports the end of a job and its totals.

use std::fmt;
use std::io;

use crate::stats::Counters;
use crate::text::count;

/// The end of a job and its totals.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The reason of the end.
    pub reason: ExitReason,
    /// The counts over all servers, up to the end.
    pub totals: Totals,
}

impl Report {
    /// Returns whether the job succeeded. The program then exits with status 0.
    ///
    /// A job fails only if it [has finished](ExitReason::Finished) and a server failed.
    pub fn is_success(&self) -> bool {
        !matches!(self.reason, ExitReason::Finished { failed: 1.. })
    }
}

/// The reason of a job's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitReason {
    /// [`StopHandle::stop`](crate::StopHandle::stop) was called.
    Stopped,
    /// The reader of the output has closed it.
    OutputClosed,
    /// No server is left to dial: each was read to its end or given up.
    Finished {
        /// The number of failed servers: given up, not connected, ended by an error, or sent only
        /// malformed or oversized lines.
        failed: usize,
    },
}

/// The counts of a job over all servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// The servers of its configuration. A server that is listed twice counts twice.
    pub servers: usize,
    /// The counts of connections, bytes and lines.
    pub counters: Counters,
    /// The records whose lines the output accepted.
    pub printed: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { servers, counters, printed } = self;
        let Counters { connects, failures, bytes, lines, malformed, oversized, truncated, .. } =
            counters;
        let (servers, connects) = (count(*servers, "server"), count(*connects, "connect"));
        let (failures, bytes) = (count(*failures, "failure"), count(*bytes, "byte"));
        let (lines, numbers) = (count(*lines, "line"), count(*printed, "record"));
        write!(f, "{servers}, {connects}, {failures}, {bytes}, {lines}, ")?;
        write!(
            f,
            "{malformed} malformed, {oversized} oversized, {truncated} truncated, {numbers} printed"
        )
    }
}

/// The error of a job whose output failed.
///
/// An output that its reader has closed is no error: see [`ExitReason::OutputClosed`].
#[derive(Debug)]
pub struct OutputError {
    pub(crate) error: io::Error,
    pub(crate) lost: u64,
    pub(crate) totals: Totals,
}

impl OutputError {
    /// Returns the kind of the output's error.
    pub fn kind(&self) -> io::ErrorKind {
        self.error.kind()
    }

    /// Returns the number of records that were read and not printed.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Returns the totals of the job.
    pub fn totals(&self) -> Totals {
        self.totals
    }
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OutputError { error, lost, .. } = self;
        let numbers = count(*lost, "record");
        let were = if *lost == 1 { "was" } else { "were" };
        write!(f, "writing the output failed: {error}; {numbers} {were} read and not printed")
    }
}

impl std::error::Error for OutputError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The text already has the error itself.
        self.error.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_count_one_in_the_singular() {
        let totals = |n: u64| {
            let counters = Counters {
                connects: n,
                failures: n,
                bytes: n,
                lines: n,
                malformed: n,
                oversized: n,
                truncated: n,
                ..Counters::default()
            };
            let servers = usize::try_from(n).unwrap();
            Totals { servers, counters, printed: n }.to_string()
        };
        assert_eq!(
            totals(1),
            "1 server, 1 connect, 1 failure, 1 byte, 1 line, \
             1 malformed, 1 oversized, 1 truncated, 1 record printed"
        );
        for n in [0, 2] {
            assert_eq!(
                totals(n),
                format!(
                    "{n} servers, {n} connects, {n} failures, {n} bytes, {n} lines, \
                     {n} malformed, {n} oversized, {n} truncated, {n} records printed"
                )
            );
        }
    }

    #[test]
    fn an_output_error_counts_one_in_the_singular() {
        let counters = Counters::default();
        let message = |lost| {
            let totals = Totals { servers: 1, counters, printed: 0 };
            OutputError { error: io::Error::other("full"), lost, totals }.to_string()
        };
        assert!(message(1).ends_with("; 1 record was read and not printed"), "{}", message(1));
        for lost in [0, 2] {
            let ending = format!("; {lost} records were read and not printed");
            assert!(message(lost).ends_with(&ending), "{}", message(lost));
        }
    }
}
