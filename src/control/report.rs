//! Words the state of the servers for the log.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use log::info;

use crate::partition::Shard;
use crate::stats::{ServerSnapshot, ServerState, Snapshot};
use crate::text::count;

/// The most servers between two flushes of the log. A flush waits for the reader, so that no line is dropped.
const LINES_PER_FLUSH: usize = 500;

/// Logs a line for each server, those that are down first. The headline names the shard, if there is one.
pub(super) fn log_table(snapshot: &Snapshot, shard: Option<Shard>) {
    let shard = shard.map_or(String::new(), |shard| format!("Shard {shard}: "));
    info!("{shard}{}", headline(snapshot));
    let mut servers: Vec<_> = snapshot.servers.iter().collect();
    servers.sort_by_key(|server| (server.state == ServerState::Connected, server.since));
    for (index, server) in servers.into_iter().enumerate() {
        info!("{}", row(server, snapshot.now));
        if (index + 1) % LINES_PER_FLUSH == 0 {
            log::logger().flush();
        }
    }
}

/// Says how many servers are connected: `8 of 10 connected`.
pub(super) fn headline(snapshot: &Snapshot) -> String {
    let connected = snapshot.count(ServerState::Connected);
    let mut text = format!("{connected} of {} connected", snapshot.servers.len());
    for state in ServerState::ALL {
        let count = snapshot.count(state);
        if state != ServerState::Connected && count > 0 {
            _ = write!(text, ", {count} {}", state.name());
        }
    }
    text
}

fn row(server: &ServerSnapshot, now: SystemTime) -> String {
    let counters = &server.counters;
    let (state, age) = (server.state.name(), since(server.since, now));
    let mut text = format!("{}: {state}, ", server.stats.server());
    text += if server.state == ServerState::Connected { "up" } else { "down" };
    _ = write!(text, " for {age}, {}", count(counters.lines, "line"));
    match server.last_received {
        Some(at) => _ = write!(text, ", last received {} ago", since(at, now)),
        None => text += ", nothing received",
    }
    if server.failures_in_row > 0 {
        _ = write!(text, ", {} in a row", count(server.failures_in_row, "failure"));
    }
    if let Some((error, at)) = &server.last_error
        && server.state != ServerState::Connected
    {
        _ = write!(text, ", {} {} ago", error.text(), since(*at, now));
    }
    if let Some(at) = server.next_attempt {
        _ = write!(text, ", next attempt in {}", since(now, at));
    }
    text
}

/// Returns the time from one moment to the next, in whole seconds.
fn since(from: SystemTime, to: SystemTime) -> humantime::FormattedDuration {
    let span = to.duration_since(from).unwrap_or_default();
    humantime::format_duration(Duration::from_secs(span.as_secs()))
}

/// The figures at the last line of totals, for rates.
#[derive(Debug, Default)]
pub(super) struct Rates {
    at: Option<SystemTime>,
    lines: u64,
    bytes: u64,
}

impl Rates {
    /// Takes note of the figures.
    pub(super) fn note(&mut self, snapshot: &Snapshot) {
        let counters = &snapshot.totals.counters;
        self.at = Some(snapshot.now);
        (self.lines, self.bytes) = (counters.lines, counters.bytes);
    }

    /// Words the line of totals, with the rates since the last one.
    pub(super) fn totals(&mut self, snapshot: &Snapshot) -> String {
        let counters = &snapshot.totals.counters;
        let span = self.at.and_then(|at| snapshot.now.duration_since(at).ok()).unwrap_or_default();
        let rate = |now: u64, before: u64| {
            let more = now.saturating_sub(before) as f64;
            if span.is_zero() { 0.0 } else { more / span.as_secs_f64() }
        };
        let (lines, bytes) = (rate(counters.lines, self.lines), rate(counters.bytes, self.bytes));
        self.note(snapshot);
        format!(
            "{}; {lines:.0} lines/s, {bytes:.0} bytes/s; {}, {} printed, {} malformed, {}",
            headline(snapshot),
            count(counters.lines, "line"),
            count(snapshot.output.written, "record"),
            counters.malformed,
            count(counters.failures, "failure"),
        )
    }
}
