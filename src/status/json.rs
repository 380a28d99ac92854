//! Renders a page of the servers as JSON.

mod query;

use std::time::{Duration, SystemTime};

use humantime::format_rfc3339_millis;
use serde::{Serialize, Serializer};

use super::history::{History, INTERVAL, Rate};
use super::{Context, Shard};
use crate::stats::{
    Counters, DisconnectReason, FailureReason, LastError, ServerSnapshot, ServerState, Snapshot,
    TotalsSnapshot, WorkerSnapshot,
};

pub use query::{List, QueryError};
use query::{Order, is_down};

impl List {
    /// Renders the totals and the servers that were asked for.
    pub fn render(&self, snapshot: &Snapshot, history: &History, context: &Context) -> Vec<u8> {
        let (matching, shown) = self.select(snapshot, history);
        let now = snapshot.now;
        let (states, workers) = count(snapshot);
        let document = Document {
            version: env!("CARGO_PKG_VERSION"),
            shard: context.shard,
            now: Time(now),
            started: Time(snapshot.started),
            uptime_seconds: seconds(snapshot.started, now),
            stopping: context.is_stopping,
            states,
            rate: history.total_rate().into(),
            sparkline: Sparkline {
                seconds_per_sample: INTERVAL.as_secs(),
                lines_per_second: history.total_lines().map(rounded).collect(),
            },
            totals: Totals::new(&snapshot.totals),
            output: Output {
                records: snapshot.output.written,
                blocked_seconds: snapshot.output.blocked.as_secs_f64(),
            },
            workers,
            reload: Reload {
                successful: snapshot.reload.is_successful,
                last_success: snapshot.reload.last_success.map(Time),
            },
            log_lines_dropped: context.log_lines_dropped,
            matching,
            offset: self.offset,
            servers: shown.into_iter().map(|server| Server::new(server, now, history)).collect(),
        };
        serde_json::to_vec(&document).expect("all keys are strings")
    }

    /// Returns how many servers match, and those of the page in their order.
    fn select<'a>(
        &self,
        snapshot: &'a Snapshot,
        history: &History,
    ) -> (usize, Vec<&'a ServerSnapshot>) {
        let matches = snapshot.servers.iter().enumerate().filter(|(_, server)| {
            self.states.is_none_or(|states| states.contains(server.state))
                && (self.text.is_empty() || has_text(server, &self.text))
        });
        let mut keyed: Vec<_> =
            matches.map(|(index, server)| (self.key(server, history), index)).collect();
        let matching = keyed.len();
        // Those that are equal are in the order of the list, so a server is on one page alone.
        let order = |(a, at): &(Key, usize), (b, other): &(Key, usize)| {
            let ordering = if self.is_reversed { b.cmp(a) } else { a.cmp(b) };
            ordering.then(at.cmp(other))
        };
        // Only those that are shown are sorted: a long list costs its length, without the logarithm.
        let start = self.offset.min(matching);
        let len = self.limit.min(matching - start);
        if start > 0 && start < matching {
            keyed.select_nth_unstable_by(start, order);
        }
        let page = &mut keyed[start..];
        if len < page.len() {
            page.select_nth_unstable_by(len, order);
        }
        let page = &mut page[..len];
        page.sort_unstable_by(order);
        (matching, page.iter().map(|(_, index)| &snapshot.servers[*index]).collect())
    }

    fn key(&self, server: &ServerSnapshot, history: &History) -> Key {
        let time = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH);
        let millis = |time_of: SystemTime| {
            let since = time(time_of).unwrap_or_default().as_millis();
            u64::try_from(since).unwrap_or(u64::MAX)
        };
        let number = |number| Key { number, label: String::new() };
        match self.order {
            Order::Down if is_down(server.state) => number(millis(server.since)),
            Order::Down => {
                Key { number: u64::MAX, label: server.stats.server().label().into_owned() }
            }
            Order::Name => Key { number: 0, label: server.stats.server().label().into_owned() },
            Order::State => number(server.state as u64),
            // Rates are not negative, so their bits are in their order.
            Order::Rate => number(history.rate(server.stats.number()).lines.to_bits().into()),
            Order::Failures => number(server.counters.failures),
            Order::LastReceived => number(server.last_received.map_or(0, millis)),
            Order::Lines => number(server.counters.lines),
        }
    }
}

/// The value by which servers are sorted.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    number: u64,
    label: String,
}

/// Returns whether the name or the address has this text, which is in lower case.
fn has_text(server: &ServerSnapshot, text: &str) -> bool {
    let server = server.stats.server();
    let has_text = |shown: &str| shown.to_lowercase().contains(text);
    server.name().is_some_and(has_text) || has_text(&server.address())
}

/// A moment, in UTC with milliseconds.
struct Time(SystemTime);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A clock that was not set yet may be at 1970, and no earlier time can be shown.
        let time = self.0.max(SystemTime::UNIX_EPOCH);
        serializer.collect_str(&format_rfc3339_millis(time))
    }
}

/// The whole.
#[derive(Serialize)]
struct Document {
    version: &'static str,
    shard: Option<Shard>,
    now: Time,
    started: Time,
    uptime_seconds: f64,
    stopping: bool,
    states: States,
    rate: RateJson,
    sparkline: Sparkline,
    totals: Totals,
    output: Output,
    workers: Vec<Worker>,
    reload: Reload,
    log_lines_dropped: u64,
    /// The servers that match, shown or not.
    matching: usize,
    offset: usize,
    servers: Vec<Server>,
}

/// The number of servers in each state, by [`ServerState`].
#[derive(Default)]
struct States([usize; ServerState::ALL.len()]);

impl Serialize for States {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(ServerState::ALL.map(ServerState::name).iter().zip(&self.0))
    }
}

#[derive(Serialize)]
struct RateJson {
    lines_per_second: f64,
    bytes_per_second: f64,
}

impl From<Rate> for RateJson {
    fn from(rate: Rate) -> RateJson {
        let Rate { lines, bytes } = rate;
        RateJson { lines_per_second: rounded(lines), bytes_per_second: rounded(bytes) }
    }
}

/// Samples, the oldest first.
#[derive(Serialize)]
struct Sparkline {
    seconds_per_sample: u64,
    lines_per_second: Vec<f64>,
}

#[derive(Serialize)]
struct Totals {
    #[serde(flatten)]
    counters: CountersJson,
    attempts: u64,
    attempts_failed: Reasons<{ FailureReason::ALL.len() }>,
    disconnects: Reasons<{ DisconnectReason::ALL.len() }>,
    downtime_seconds: f64,
}

impl Totals {
    fn new(totals: &TotalsSnapshot) -> Totals {
        Totals {
            counters: totals.counters.into(),
            attempts: totals.attempts,
            attempts_failed: Reasons(
                FailureReason::ALL.map(FailureReason::name),
                totals.attempts_failed,
            ),
            disconnects: Reasons(
                DisconnectReason::ALL.map(DisconnectReason::name),
                totals.disconnects,
            ),
            downtime_seconds: totals.downtime.as_secs_f64(),
        }
    }
}

/// The counts by reason.
struct Reasons<const N: usize>([&'static str; N], [u64; N]);

impl<const N: usize> Serialize for Reasons<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().zip(&self.1))
    }
}

#[derive(Serialize)]
struct CountersJson {
    connects: u64,
    failures: u64,
    bytes: u64,
    lines: u64,
    records: u64,
    malformed: u64,
    oversized: u64,
    truncated: u64,
}

impl From<Counters> for CountersJson {
    fn from(counters: Counters) -> CountersJson {
        CountersJson {
            connects: counters.connects,
            failures: counters.failures,
            bytes: counters.bytes,
            lines: counters.lines,
            records: counters.matched,
            malformed: counters.malformed,
            oversized: counters.oversized,
            truncated: counters.truncated,
        }
    }
}

#[derive(Serialize)]
struct Output {
    records: u64,
    blocked_seconds: f64,
}

#[derive(Serialize)]
struct Worker {
    index: usize,
    servers: usize,
    connected: usize,
    queued_records: u64,
}

/// Counts the servers by state and by worker, in one pass.
fn count(snapshot: &Snapshot) -> (States, Vec<Worker>) {
    let worker = |(index, worker): (usize, &WorkerSnapshot)| Worker {
        index,
        servers: 0,
        connected: 0,
        queued_records: worker.queued,
    };
    let mut workers: Vec<_> = snapshot.workers.iter().enumerate().map(worker).collect();
    let mut states = States::default();
    for server in &snapshot.servers {
        states.0[server.state as usize] += 1;
        if let Some(worker) = workers.get_mut(server.stats.worker()) {
            worker.servers += 1;
            worker.connected += usize::from(server.state == ServerState::Connected);
        }
    }
    (states, workers)
}

#[derive(Serialize)]
struct Reload {
    successful: bool,
    last_success: Option<Time>,
}

#[derive(Serialize)]
struct Server {
    /// It never changes, and no other server gets it.
    number: usize,
    name: Option<String>,
    address: String,
    worker: usize,
    state: &'static str,
    since: Time,
    /// The time since it is down; `null` for others.
    down_seconds: Option<f64>,
    /// The time since it is connected; `null` for others.
    up_seconds: Option<f64>,
    downtime_seconds: f64,
    last_error: Option<LastErrorJson>,
    next_attempt: Option<Time>,
    failures_in_row: u64,
    last_received: Option<Time>,
    rate: RateJson,
    attempts: u64,
    counters: CountersJson,
    /// Lines a second, in samples as those of all servers.
    sparkline: Vec<f64>,
}

impl Server {
    fn new(server: &ServerSnapshot, now: SystemTime, history: &History) -> Server {
        let number = server.stats.number();
        let since = seconds(server.since, now);
        Server {
            number,
            name: server.stats.server().name().map(str::to_owned),
            address: server.stats.server().address(),
            worker: server.stats.worker(),
            state: server.state.name(),
            since: Time(server.since),
            down_seconds: is_down(server.state).then_some(since),
            up_seconds: (server.state == ServerState::Connected).then_some(since),
            downtime_seconds: server.downtime.as_secs_f64(),
            last_error: server.last_error.map(LastErrorJson::from),
            next_attempt: server.next_attempt.map(Time),
            failures_in_row: server.failures_in_row,
            last_received: server.last_received.map(Time),
            rate: history.rate(number).into(),
            attempts: server.attempts,
            counters: server.counters.into(),
            sparkline: history.lines(number).map(rounded).collect(),
        }
    }
}

#[derive(Serialize)]
struct LastErrorJson {
    text: String,
    reason: &'static str,
    time: Time,
}

impl From<(LastError, SystemTime)> for LastErrorJson {
    fn from((error, time): (LastError, SystemTime)) -> LastErrorJson {
        let reason = match error {
            LastError::Failure(reason, _) => reason.name(),
            LastError::Disconnect(reason, _) => reason.name(),
        };
        LastErrorJson { text: error.text(), reason, time: Time(time) }
    }
}

/// Returns the seconds between two times, in milliseconds; 0 if the first is the later one.
fn seconds(from: SystemTime, to: SystemTime) -> f64 {
    let millis = to.duration_since(from).unwrap_or_default().as_millis();
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)).as_secs_f64()
}

/// Rounds a rate to a tenth, or to a thousandth if it is less than ten: a plot of 120 samples stays short.
fn rounded(rate: f32) -> f64 {
    let digits = if rate < 10.0 { 1000.0 } else { 10.0 };
    (f64::from(rate) * digits).round() / digits
}

#[cfg(test)]
mod tests;
