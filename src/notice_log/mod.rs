//! Words the notices of the core for the log.
//!
//! The wording follows the log lines of the Flink job that tcpcore is modeled on.
//!
//! Of each kind of notice about servers, 100 lines a second are logged. A thread sums up the others: at most one line
//! a second for each kind, a second after the first one that was not logged. It sleeps while all are logged. Notices
//! about workers have no such limit, because a worker has few of them.

mod kind;
mod limit;

use std::fmt;
use std::io;
use std::thread::JoinHandle;

use log::{Level, info, log, log_enabled, warn};

use crate::address::Server;
use crate::notice_log::kind::{Kind, Reason};
use crate::notice_log::limit::{Intake, Summary, Tally, WINDOW, limit};
use crate::proto::connection_error::ConnectionError;
use crate::proto::notice::{Hint, Notice, Notices, Retry, ServerNotice};
use crate::proto::time::{Duration, Instant};
use crate::text::{count, delimiter};
use crate::threads::spawn;

/// The target of what happens to a server, for the filter of the log.
const LINK: &str = "tcpcore::link";

/// The target of what happens to a worker.
const WORKER: &str = "tcpcore::worker";

/// The most bytes of a line that are shown.
const LINE_SHOWN: usize = 64;

/// Logs notices, each as one line, by the logger of the process, and within the limit that all its clones share.
#[derive(Clone, Debug)]
pub(crate) struct NoticeLog {
    intake: Intake,
    epoch: std::time::Instant,
}

impl NoticeLog {
    /// Starts the thread that sums up what is not logged. It ends when all clones are dropped.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses the thread.
    pub(crate) fn start() -> io::Result<(NoticeLog, JoinHandle<()>)> {
        let (intake, tally) = limit();
        let thread = spawn("notices", || sum_up(tally))?;
        Ok((NoticeLog { intake, epoch: std::time::Instant::now() }, thread))
    }

    /// Returns whether a notice is to be logged. A notice below the level of the log is not counted either.
    fn admit(&self, kind: Kind, server: &Server, what: &ServerNotice<'_>) -> bool {
        let now = || Instant::from_elapsed(self.epoch.elapsed());
        log_enabled!(target: LINK, kind.level())
            && self.intake.admit(kind, Reason::of(what), server, now())
    }
}

impl Notices for NoticeLog {
    fn notice(&mut self, notice: Notice<'_>) {
        match notice {
            Notice::Server { server, what } => {
                let kind = Kind::of(&what);
                if self.admit(kind, server, &what) {
                    log_server(kind.level(), server, what);
                }
            }
            // The notice of its last failure or of its end says so.
            Notice::Ended { .. } => {}
            Notice::AllConnected { worker } => info!(
                target: WORKER, worker; "Initialized sockets and readers for task index {worker}"
            ),
            Notice::StoodStill { worker, late } => {
                let late_ms = late.as_millis();
                let (s, ms) = (late_ms / 1000, late_ms % 1000);
                warn!(
                    target: WORKER, worker, late_ms;
                    "Worker {worker} stood still for {s}.{ms:03}s; its timeouts go on from here"
                );
            }
        }
    }
}

/// Logs a line for all that is not logged within a second, until all intakes are dropped.
fn sum_up(mut tally: Tally) {
    let window = std::time::Duration::from_millis(WINDOW.as_millis());
    while let Ok(first) = tally.receiver.recv() {
        tally.note(first);
        let start = std::time::Instant::now();
        // It is disconnected when the workers have ended, and the last summary is then due at once.
        while let Ok(left_out) = tally.receiver.recv_timeout(window.saturating_sub(start.elapsed()))
        {
            tally.note(left_out);
        }
        tally.take().iter().for_each(log_summary);
    }
    // The last counts may have come after their message.
    tally.take().iter().for_each(log_summary);
}

fn log_summary(summary: &Summary) {
    let (noun, rest) = summary.kind.noun();
    log!(
        target: LINK, summary.kind.level(),
        kind:% = format_args!("{noun}{rest}"), not_logged = summary.total(),
        reasons = summary.reasons().as_str(), servers = summary.servers().as_str();
        "{summary}"
    );
}

fn log_server(level: Level, server: &Server, what: ServerNotice<'_>) {
    match what {
        ServerNotice::Trying { .. } => log!(
            target: LINK, level, server:%; "Trying to connect to {server}"
        ),
        ServerNotice::LookupPending => log!(
            target: LINK, level, server:%; "The lookup for {server} is still under way"
        ),
        ServerNotice::LateAnswer => log!(
            target: LINK, level, server:%; "The lookup for {server} ended late; its answer is kept"
        ),
        ServerNotice::Dialing { address } => log!(
            target: LINK, level, server:%, address:%; "Dialing {server} at {address}"
        ),
        ServerNotice::Connected { failures: 0, .. } => log!(
            target: LINK, level, server:%, failures = 0; "Connected successfully to {server}"
        ),
        ServerNotice::Connected { failures, span, .. } => log!(
            target: LINK, level,
            server:%, failures, span_ms = span.as_millis();
            "Connected successfully to {server} after {} in {}", count(failures, "failure"), Span(span)
        ),
        ServerNotice::Failed { error, was_connected, retry, .. } => {
            log_failure(level, &Failure { server, error, was_connected }, retry);
        }
        ServerNotice::Down { span } => log!(
            target: LINK, level, server:%, span_ms = span.as_millis();
            "{server} has been down for {}", Span(span)
        ),
        ServerNotice::GaveUp { failures, span, error, .. } => {
            let error: &dyn fmt::Display = error.map_or(&"no answer", |error| error);
            log!(
                target: LINK, level, server:%, failures, span_ms = span.as_millis(), error:%;
                "Gave up on {server} after {} and {}: {error}", count(failures, "failure"), Span(span)
            );
        }
        ServerNotice::ReadToEnd { lines, success: true } => log!(
            target: LINK, level, server:%, lines; "Read {server} to its end"
        ),
        ServerNotice::ReadToEnd { lines, success: false } => log!(
            target: LINK, level, server:%, lines;
            "Read {server} to its end: it sent {}, but only malformed or oversized ones",
            count(lines, "line")
        ),
        ServerNotice::Malformed { line, error, skipped } => log!(
            target: LINK, level, server:%, error:%, skipped;
            "Malformed line from {server}: \"{}\": {error}{}", Shown(line), Skipped(skipped)
        ),
        ServerNotice::Oversized { max_line, skipped } => log!(
            target: LINK, level, server:%, max_line, skipped;
            "Skipped a line of {server} longer than {}{}",
            count(max_line as u64, "byte"), Skipped(skipped)
        ),
        ServerNotice::Truncated { line, skipped } => log!(
            target: LINK, level, server:%, skipped;
            "Dropped a line from {server} that ended without its delimiter: \"{}\"{}",
            Shown(line), Skipped(skipped)
        ),
        ServerNotice::Hint { hint: Hint::NoDelimiter { bytes, delimiter } } => log!(
            target: LINK, level, server:%, bytes, delimiter;
            "No delimiter ({}) in {bytes} bytes from {server}: do its lines end with another byte? \
             (--delimiter sets it)",
            delimiter::show(delimiter)
        ),
        ServerNotice::Hint { hint: Hint::OnlyMalformed { lines } } => log!(
            target: LINK, level, server:%, lines;
            "Only malformed lines from {server} on this connection ({}): is it another kind of feed? \
             (--lines passes on any line)",
            count(u64::from(lines), "line")
        ),
        ServerNotice::Unfinished { line } => log!(
            target: LINK, level, server:%; "Dropped an unfinished line from {server}: \"{}\"", Shown(line)
        ),
    }
}

fn log_failure(level: Level, failure: &Failure<'_>, retry: Option<Retry>) {
    let Failure { server, error, was_connected } = failure;
    match retry {
        Some(Retry { attempt, delay }) => log!(
            target: LINK, level,
            server:%, error:%, was_connected, attempt, delay_ms = delay.as_millis();
            "{failure}; attempt {attempt} in {}", Span(delay)
        ),
        None => log!(
            target: LINK, level, server:%, error:%, was_connected; "{failure}; not tried again"
        ),
    }
}

/// Says how many notices like this one there were since the last.
struct Skipped(u64);

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            more => write!(f, " ({more} more since the last such line)"),
        }
    }
}

/// A failure as the log shows it.
struct Failure<'a> {
    server: &'a Server,
    error: &'a ConnectionError,
    was_connected: bool,
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { server, error, was_connected } = self;
        match error {
            _ if *was_connected => write!(f, "Connection lost to {server}: {error}"),
            ConnectionError::Refused => write!(f, "Connection refused by {server}"),
            _ => write!(f, "Could not connect to {server}: {error}"),
        }
    }
}

/// A line as the log shows it: printable, and not too much of it.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..LINE_SHOWN) {
            Some(start) if start.len() < self.0.len() => write!(f, "{}...", start.escape_ascii()),
            _ => write!(f, "{}", self.0.escape_ascii()),
        }
    }
}

/// A span in the log, to three figures or so.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            ms @ ..1000 => write!(f, "{ms}ms"),
            ms @ ..60_000 => write!(f, "{}.{:02}s", ms / 1000, ms % 1000 / 10),
            ms => write!(f, "{}m {:02}s", ms / 60_000, ms % 60_000 / 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::time::ms;
    use std::io;

    #[test]
    fn of_a_long_line_its_beginning_is_shown() {
        assert_eq!(Shown(b"a\0\x1b[2J").to_string(), "a\\x00\\x1b[2J");
        let text = "x".repeat(LINE_SHOWN);
        assert_eq!(Shown(text.as_bytes()).to_string(), text);
        assert_eq!(Shown(format!("{text}y").as_bytes()).to_string(), format!("{text}..."));
    }

    #[test]
    fn spans_read_like_spans() {
        let texts = [0, 999, 1000, 1999, 59_999, 60_000, 3_723_000]
            .map(|millis| Span(ms(millis)).to_string());
        assert_eq!(texts, ["0ms", "999ms", "1.00s", "1.99s", "59.99s", "1m 00s", "62m 03s"]);
    }

    #[test]
    fn failures_say_what_happened() {
        let server = &"127.0.0.1:8001".parse().unwrap();
        let text = |error: &ConnectionError, was_connected| {
            Failure { server, error, was_connected }.to_string()
        };
        let reset = io::Error::from(io::ErrorKind::ConnectionReset).into();
        let (closed, refused) = (&ConnectionError::Closed, &ConnectionError::Refused);
        assert_eq!(text(closed, true), "Connection lost to 127.0.0.1:8001: closed by the server");
        assert_eq!(text(refused, false), "Connection refused by 127.0.0.1:8001");
        assert_eq!(text(&reset, false), "Could not connect to 127.0.0.1:8001: connection reset");
    }
}
