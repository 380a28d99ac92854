//! Renders metrics in the text format of Prometheus.
//!
//! A family `tcpcore_x` is of all servers together, those that were removed included. A family `tcpcore_server_x`
//! has a series for each present server. So no sum over a family counts anything twice.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet,
    prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::{Context, Process};
use crate::stats::{
    CONNECT_BUCKETS_MS, Counters, DisconnectReason, FailureReason, ServerSnapshot, ServerState,
    Snapshot,
};

/// About the bytes of all series of a server, so that the text is seldom moved while it grows.
const BYTES_PER_SERVER: usize = 1800;

/// The parts of `/metrics`.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// The figures.
    pub snapshot: Arc<Snapshot>,
    /// The figures that the snapshot does not have.
    pub context: Context,
    /// The figures of the process, where the system gives them.
    pub process: Option<Process>,
    /// The most servers that have series of their own. A longer list has none of a single server.
    pub max_servers: usize,
}

impl Metrics {
    /// Encodes the metrics.
    pub fn encode(self) -> String {
        let capacity = match self.snapshot.servers.len() {
            servers if servers <= self.max_servers => servers * BYTES_PER_SERVER,
            _ => 0,
        };
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::with_capacity(capacity);
        prometheus_text::encode(&mut text, &registry).expect("a string takes all text");
        text
    }
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        families.program(self)?;
        families.aggregates(&self.snapshot)?;
        if self.snapshot.servers.len() <= self.max_servers {
            let labels = labels(&self.snapshot.servers);
            families.servers(&Servers { servers: &self.snapshot.servers, labels: &labels })?;
        }
        self.process.map_or(Ok(()), |process| families.process(process))
    }
}

/// Returns the labels of the servers. A server that is listed again has its count in its label: `host:9000#2`.
fn labels(servers: &[ServerSnapshot]) -> Vec<String> {
    // By label: how often it was met.
    let mut met: HashMap<String, usize> = HashMap::with_capacity(servers.len());
    let unique = |server: &ServerSnapshot| {
        let label = server.stats.server().label().into_owned();
        loop {
            let count = met.entry(label.clone()).or_insert(0);
            *count += 1;
            let numbered = match *count {
                1 => return label,
                count => format!("{label}#{count}"),
            };
            // A name may look like a numbered label.
            if met.insert(numbered.clone(), 1).is_none() {
                return numbered;
            }
        }
    };
    servers.iter().map(unique).collect()
}

/// The servers that have series of their own.
struct Servers<'a> {
    servers: &'a [ServerSnapshot],
    labels: &'a [String],
}

impl Servers<'_> {
    /// Returns each server's labels and its value.
    fn each<T>(
        &self,
        value: impl Fn(&ServerSnapshot) -> T,
    ) -> impl Iterator<Item = ([(&'static str, &str); 1], T)> {
        self.servers
            .iter()
            .zip(self.labels)
            .map(move |(server, label)| ([("server", label.as_str())], value(server)))
    }

    /// Returns each server's labels with each of the reasons, and its values.
    fn each_reason<const N: usize>(
        &self,
        reasons: [&'static str; N],
        values: impl Fn(&ServerSnapshot) -> [u64; N],
    ) -> impl Iterator<Item = ([(&'static str, &str); 2], u64)> {
        self.servers.iter().zip(self.labels).flat_map(move |(server, label)| {
            let labels = reasons.map(|reason| [("server", label.as_str()), ("reason", reason)]);
            labels.into_iter().zip(values(server))
        })
    }
}

/// The families, written one after the other.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn program(&mut self, metrics: &Metrics) -> fmt::Result {
        let Metrics { snapshot, context, .. } = metrics;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        self.info("tcpcore_build", "The version of the program.", &version)?;
        if let Some(shard) = context.shard {
            let labels = [("index", shard.index), ("count", shard.count)];
            self.info("tcpcore_shard", "The part of the list that this process takes.", &labels)?;
        }
        self.counter(
            "tcpcore_written_records",
            "The records written to the output.",
            snapshot.output.written,
        )?;
        self.counter(
            "tcpcore_output_blocked_seconds",
            "The time that writes to the output took.",
            snapshot.output.blocked.as_secs_f64(),
        )?;
        let workers: Vec<String> = (0..snapshot.workers.len()).map(|i| i.to_string()).collect();
        self.gauges(
            "tcpcore_queue_records",
            "The records in the queue of a worker, which wait for the output. A record of a whole line is a byte.",
            snapshot.workers.iter().zip(&workers).map(|(worker, index)| {
                ([("worker", index.as_str())], worker.queued)
            }),
        )?;
        self.gauge(
            "tcpcore_reload_successful",
            "Whether the last load of the list succeeded: 1 or 0.",
            u64::from(snapshot.reload.is_successful),
        )?;
        self.gauge(
            "tcpcore_reload_success_timestamp_seconds",
            "The time of the last successful load of the list, in seconds since 1970.",
            timestamp(snapshot.reload.last_success),
        )?;
        self.counter(
            "tcpcore_log_lines_dropped",
            "The log lines dropped because stderr was not read.",
            context.log_lines_dropped,
        )
    }

    fn aggregates(&mut self, snapshot: &Snapshot) -> fmt::Result {
        let Snapshot { servers, totals, .. } = snapshot;
        let counters = totals.counters;
        let states =
            ServerState::ALL.map(|state| ([("state", state.name())], snapshot.count(state) as u64));
        self.gauges("tcpcore_servers", "The servers of the list in this state.", states)?;
        self.counter(
            "tcpcore_connect_attempts",
            "The attempts to connect, at any number of addresses each.",
            totals.attempts,
        )?;
        let reasons = FailureReason::ALL.map(FailureReason::name).map(|name| [("reason", name)]);
        self.counters(
            "tcpcore_connect_failures",
            "The failed attempts to connect.",
            reasons.into_iter().zip(totals.attempts_failed),
        )?;
        let reasons =
            DisconnectReason::ALL.map(DisconnectReason::name).map(|name| [("reason", name)]);
        self.counters(
            "tcpcore_disconnects",
            "The ended connections.",
            reasons.into_iter().zip(totals.disconnects),
        )?;
        self.counter("tcpcore_received_bytes", "The bytes received.", counters.bytes)?;
        self.counter("tcpcore_received_lines", "The whole lines received.", counters.lines)?;
        let reasons = DISCARDED.map(|reason| [("reason", reason)]);
        self.counters(
            "tcpcore_discarded_lines",
            "The lines discarded.",
            reasons.into_iter().zip(discarded(counters)),
        )?;
        self.gauge(
            "tcpcore_last_received_timestamp_seconds",
            "The time of the last received bytes of any server, in seconds since 1970. 0 is never.",
            timestamp(servers.iter().filter_map(|server| server.last_received).max()),
        )?;
        self.gauge(
            "tcpcore_next_attempt_timestamp_seconds",
            "The time of the next attempt to connect to any server, in seconds since 1970. 0 is none.",
            timestamp(servers.iter().filter_map(|server| server.next_attempt).min()),
        )?;
        self.counter(
            "tcpcore_downtime_seconds",
            "The time without a connection, summed over all servers.",
            totals.downtime.as_secs_f64(),
        )?;
        self.connect_durations(snapshot)
    }

    fn connect_durations(&mut self, snapshot: &Snapshot) -> fmt::Result {
        let mut counts = [0; CONNECT_BUCKETS_MS.len() + 1];
        let mut sum = Duration::ZERO;
        for worker in &snapshot.workers {
            sum += worker.connect_time;
            for (count, more) in counts.iter_mut().zip(worker.connect_durations) {
                *count += more;
            }
        }
        let bounds = CONNECT_BUCKETS_MS.map(|ms| Duration::from_millis(ms).as_secs_f64());
        let buckets: Vec<(f64, u64)> =
            bounds.into_iter().chain([f64::INFINITY]).zip(counts).collect();
        let mut family = self.0.encode_descriptor(
            "tcpcore_connect_duration_seconds",
            "The durations of the attempts that connected, without the lookup of the name.",
            None,
            MetricType::Histogram,
        )?;
        let count = counts.iter().sum();
        family.encode_histogram::<NoLabelSet>(sum.as_secs_f64(), count, &buckets, None)
    }

    fn servers(&mut self, servers: &Servers<'_>) -> fmt::Result {
        self.gauges(
            "tcpcore_server_up",
            "Whether the server is connected: 1 or 0.",
            servers.each(|server| u64::from(server.state == ServerState::Connected)),
        )?;
        self.counters(
            "tcpcore_server_connect_attempts",
            "The attempts to connect to the server.",
            servers.each(|server| server.attempts),
        )?;
        self.counters(
            "tcpcore_server_connect_failures",
            "The failed attempts to connect to the server.",
            servers.each_reason(FailureReason::ALL.map(FailureReason::name), |server| {
                server.attempts_failed
            }),
        )?;
        self.counters(
            "tcpcore_server_disconnects",
            "The ended connections of the server.",
            servers.each_reason(DisconnectReason::ALL.map(DisconnectReason::name), |server| {
                server.disconnects
            }),
        )?;
        self.counters(
            "tcpcore_server_received_bytes",
            "The bytes received from the server.",
            servers.each(|server| server.counters.bytes),
        )?;
        self.counters(
            "tcpcore_server_received_lines",
            "The whole lines received from the server.",
            servers.each(|server| server.counters.lines),
        )?;
        self.counters(
            "tcpcore_server_discarded_lines",
            "The lines of the server discarded.",
            servers.each_reason(DISCARDED, |server| discarded(server.counters)),
        )?;
        self.gauges(
            "tcpcore_server_last_received_timestamp_seconds",
            "The time of the last received bytes of the server, in seconds since 1970. 0 is never.",
            servers.each(|server| timestamp(server.last_received)),
        )?;
        self.gauges(
            "tcpcore_server_next_attempt_timestamp_seconds",
            "The time of the next attempt to connect to the server, in seconds since 1970. 0 is none.",
            servers.each(|server| timestamp(server.next_attempt)),
        )?;
        self.counters(
            "tcpcore_server_downtime_seconds",
            "The time without a connection to the server.",
            servers.each(|server| server.downtime.as_secs_f64()),
        )
    }

    fn process(&mut self, process: Process) -> fmt::Result {
        self.counter(
            "process_cpu_seconds",
            "Total user and system CPU time spent in seconds.",
            process.cpu_seconds,
        )?;
        self.gauge(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            process.resident_bytes,
        )?;
        self.gauge(
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            process.virtual_bytes,
        )?;
        self.gauge("process_open_fds", "Number of open file descriptors.", process.open_fds)?;
        self.gauge("process_max_fds", "Maximum number of open file descriptors.", process.max_fds)?;
        self.gauge(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            process.start_seconds,
        )
    }

    fn info(&mut self, name: &str, help: &str, labels: &impl EncodeLabelSet) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(labels)
    }

    /// Writes a counter without labels. Its name has no `_total`, which is added.
    fn counter(&mut self, name: &str, help: &str, value: impl EncodeCounterValue) -> fmt::Result {
        self.counters::<[(&str, &str); 0], _>(name, help, [([], value)])
    }

    /// Writes a counter with labels. Its name has no `_total`, which is added.
    fn counters<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.gauges::<[(&str, &str); 0], _>(name, help, [([], value)])
    }

    fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in series {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }
}

/// The reasons for which lines are discarded.
const DISCARDED: [&str; 3] = ["malformed", "oversized", "truncated"];

/// Returns the lines discarded, by [`DISCARDED`].
fn discarded(counters: Counters) -> [u64; DISCARDED.len()] {
    [counters.malformed, counters.oversized, counters.truncated]
}

/// Returns the seconds since 1970; 0 for no time.
fn timestamp(time: Option<SystemTime>) -> f64 {
    let since = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    // The clocks of a snapshot are read in milliseconds.
    since.map_or(0.0, |since| Duration::from_millis(millis(since)).as_secs_f64())
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
