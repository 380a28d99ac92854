use super::*;
use crate::status::tests::{NOW, ago, feed, feeds, shortest, snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

const PROCESS: Process = Process {
    cpu_seconds: 1.5,
    resident_bytes: 4096,
    virtual_bytes: 8192,
    open_fds: 7,
    max_fds: f64::INFINITY,
    start_seconds: 1_600_000_000.25,
};

fn metrics(servers: &[ServerSnapshot], max_servers: usize) -> Metrics {
    Metrics {
        snapshot: Arc::new(snapshot(servers)),
        context: Context::default(),
        process: Some(PROCESS),
        max_servers,
    }
}

/// Parses the text format: the series of each family, without their values, and its type. Panics if it is malformed.
fn families(text: &str) -> BTreeMap<String, (String, Vec<String>)> {
    let mut families: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    let mut series = BTreeSet::new();
    let mut current = String::new();
    let mut help = String::new();
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("# HELP ") {
            help = line.split_once(' ').unwrap().0.to_owned();
            assert!(line.ends_with('.'), "{line}");
        } else if let Some(line) = line.strip_prefix("# TYPE ") {
            let (name, kind) = line.split_once(' ').unwrap();
            assert_eq!(name, help);
            current = name.to_owned();
            let is_new = families.insert(name.into(), (kind.into(), Vec::new())).is_none();
            assert!(is_new, "{name} twice");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            assert!(series.insert(name.to_owned()), "{name} twice");
            let (kind, all) = families.get_mut(&current).unwrap();
            let base = name.split('{').next().unwrap();
            let suffix = base.strip_prefix(&current).unwrap();
            assert!(suffix.is_empty() || kind == "histogram", "{line}");
            all.push(name.strip_prefix(&current).unwrap().to_owned());
        }
    }
    families
}

fn value<'a>(text: &'a str, series: &str) -> &'a str {
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {series}"))
}

#[test]
fn all_series_are_there_and_0_before_anything_has_happened() {
    let text = metrics(&feeds(1), 1000).encode();
    let families = families(&text);
    let states: Vec<_> = ServerState::ALL.iter().map(|state| state.name()).collect();
    assert_eq!(
        families["tcpcore_servers"].1,
        states.iter().map(|state| format!("{{state=\"{state}\"}}")).collect::<Vec<_>>()
    );
    let labels = |reasons: &[&str], server: &str| -> Vec<String> {
        reasons.iter().map(|reason| format!("{{{server}reason=\"{reason}\"}}")).collect()
    };
    for (family, reasons) in [
        (
            "connect_failures_total",
            &["resolve", "refused", "timeout", "unreachable", "descriptors", "self", "other"][..],
        ),
        ("disconnects_total", &["eof", "reset", "idle", "removed", "other"]),
        ("discarded_lines_total", &["malformed", "oversized", "truncated"]),
    ] {
        assert_eq!(families[&format!("tcpcore_{family}")].1, labels(reasons, ""));
        let of_server = labels(reasons, "server=\"10.0.0.0:9000\",");
        assert_eq!(families[&format!("tcpcore_server_{family}")].1, of_server);
    }
    let not_0 = [
        "tcpcore_build_info{version=",
        "tcpcore_servers{state=\"waiting\"}",
        "tcpcore_reload_success",
        "process_",
    ];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let value: f64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
        let is_0 = !not_0.iter().any(|series| line.starts_with(series));
        assert_eq!(value == 0.0, is_0, "{line}");
    }
}

#[test]
fn the_names_and_types_are_those_of_the_document() {
    let mut metrics = metrics(&feeds(1), 1);
    metrics.context.shard = Some(crate::status::Shard { index: 1, count: 3 });
    let found = families(&metrics.encode());
    let document = include_str!("../../../docs/metrics.md");
    let rows = document.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split(" | ").collect();
        let (name, kind) = (cells[0].trim_end_matches('`'), cells[1]);
        let labels: BTreeSet<String> =
            cells[2].split(", ").map(|label| label.trim_matches('`').to_owned()).collect();
        Some((name.to_owned(), (kind.to_owned(), labels)))
    });
    let label_names = |series: &String| -> Vec<String> {
        let labels = series.split_once('{').map_or("", |(_, labels)| labels);
        let names = labels.split("\"").step_by(2).map(|part| part.trim_matches([',', '=', '}']));
        names.filter(|name| !name.is_empty() && *name != "le").map(str::to_owned).collect()
    };
    let found: BTreeMap<_, _> = found
        .into_iter()
        .map(|(name, (kind, series))| {
            let labels: BTreeSet<String> = series.iter().flat_map(label_names).collect();
            let none = BTreeSet::from([String::new()]);
            (name, (kind, if labels.is_empty() { none } else { labels }))
        })
        .collect();
    assert_eq!(rows.collect::<BTreeMap<_, _>>(), found);
}

#[test]
fn figures_are_those_of_the_snapshot() {
    let mut servers = feeds(3);
    servers[0].state = ServerState::Connected;
    servers[0].count(10, 100);
    servers[0].last_received = Some(ago(5));
    servers[1].count(1, 7);
    servers[1].counters.malformed = 2;
    servers[1].last_received = Some(ago(60));
    servers[1].next_attempt = Some(ago(0) + Duration::from_millis(1500));
    servers[1].downtime = Duration::from_millis(2500);
    servers[1].attempts = 4;
    servers[1].attempts_failed[FailureReason::Refused as usize] = 3;
    servers[1].disconnects[DisconnectReason::Eof as usize] = 1;
    servers[2].next_attempt = Some(ago(0) + Duration::from_secs(9));
    let mut snapshot = snapshot(&servers);
    // Removed servers have counted too.
    snapshot.totals.counters.lines += 1000;
    snapshot.output.written = 6;
    snapshot.output.blocked = Duration::from_millis(250);
    snapshot.workers[1].queued = 5;
    snapshot.workers[0].connect_durations[0] = 2;
    snapshot.workers[1].connect_durations[3] = 1;
    snapshot.workers[1].connect_durations[13] = 1;
    snapshot.workers[1].connect_time = Duration::from_millis(12_010);
    snapshot.reload.is_successful = false;
    let context = Context {
        log_lines_dropped: 8,
        shard: Some(crate::status::Shard { index: 1, count: 3 }),
        is_stopping: false,
    };
    let metrics =
        Metrics { snapshot: Arc::new(snapshot), context, process: Some(PROCESS), max_servers: 3 };
    let text = metrics.encode();
    families(&text);
    for (series, expected) in [
        ("tcpcore_shard_info{index=\"1\",count=\"3\"}", "1"),
        ("tcpcore_servers{state=\"connected\"}", "1"),
        ("tcpcore_servers{state=\"waiting\"}", "2"),
        ("tcpcore_server_up{server=\"10.0.0.0:9000\"}", "1"),
        ("tcpcore_server_up{server=\"10.0.0.1:9000\"}", "0"),
        ("tcpcore_connect_attempts_total", "4"),
        ("tcpcore_server_connect_attempts_total{server=\"10.0.0.1:9000\"}", "4"),
        ("tcpcore_connect_failures_total{reason=\"refused\"}", "3"),
        ("tcpcore_disconnects_total{reason=\"eof\"}", "1"),
        ("tcpcore_received_bytes_total", "107"),
        ("tcpcore_received_lines_total", "1011"),
        ("tcpcore_server_received_lines_total{server=\"10.0.0.0:9000\"}", "10"),
        ("tcpcore_discarded_lines_total{reason=\"malformed\"}", "2"),
        ("tcpcore_written_records_total", "6"),
        ("tcpcore_output_blocked_seconds_total", "0.25"),
        ("tcpcore_queue_records{worker=\"1\"}", "5"),
        ("tcpcore_last_received_timestamp_seconds", "1699999995.0"),
        ("tcpcore_next_attempt_timestamp_seconds", "1700000001.5"),
        ("tcpcore_downtime_seconds_total", "2.5"),
        ("tcpcore_connect_duration_seconds_bucket{le=\"0.001\"}", "2"),
        ("tcpcore_connect_duration_seconds_bucket{le=\"0.005\"}", "2"),
        ("tcpcore_connect_duration_seconds_bucket{le=\"0.01\"}", "3"),
        ("tcpcore_connect_duration_seconds_bucket{le=\"10\"}", "3"),
        ("tcpcore_connect_duration_seconds_bucket{le=\"+Inf\"}", "4"),
        ("tcpcore_connect_duration_seconds_count", "4"),
        ("tcpcore_connect_duration_seconds_sum", "12.01"),
        ("tcpcore_reload_successful", "0"),
        ("tcpcore_reload_success_timestamp_seconds", &format!("{}.0", NOW - 3600)),
        ("tcpcore_log_lines_dropped_total", "8"),
        ("process_cpu_seconds_total", "1.5"),
        ("process_max_fds", "+Inf"),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
}

#[test]
fn a_list_over_the_limit_has_aggregates_alone() {
    let at_limit = metrics(&feeds(3), 3).encode();
    let over = metrics(&feeds(3), 2).encode();
    assert!(at_limit.contains("tcpcore_server_up{server=\"10.0.0.2:9000\"} 0\n"));
    assert!(!over.contains("server="));
    assert!(!metrics(&feeds(1), 0).encode().contains("server="));
    let (at_limit, over) = (families(&at_limit), families(&over));
    let dropped = at_limit.keys().filter(|name| !over.contains_key(*name));
    assert!(dropped.clone().all(|name| name.starts_with("tcpcore_server_")));
    assert_eq!(dropped.count(), 10);
}

#[test]
fn a_server_that_is_listed_again_has_a_label_of_its_own() {
    let servers = ["a:1", "a:1", "b:1", "a:1"];
    let servers: Vec<_> = servers.iter().enumerate().map(|(i, server)| feed(i, server)).collect();
    assert_eq!(labels(&servers), ["a:1", "a:1#2", "b:1", "a:1#3"]);
    families(&metrics(&servers, 10).encode());
}

#[test]
fn a_label_cannot_end_its_quotes_or_its_line() {
    let mut text = String::new();
    let mut registry = Registry::default();
    #[derive(Debug)]
    struct Hostile;
    impl Collector for Hostile {
        fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
            let label = [("server", "a\"} 1\nb\\<script>")];
            Families(encoder).gauges("g", "A gauge.", [(label, 1_u64)])
        }
    }
    registry.register_collector(Box::new(Hostile));
    prometheus_text::encode(&mut text, &registry).unwrap();
    assert!(text.ends_with("\ng{server=\"a\\\"} 1\\nb\\\\<script>\"} 1\n"), "{text}");
}

#[test]
#[expect(clippy::print_stdout, reason = "a skipped test is named")]
fn promtool_finds_nothing_to_criticize() {
    let Ok(mut promtool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
    else {
        println!("SKIPPED: there is no promtool (package prometheus)");
        return;
    };
    let mut metrics = metrics(&feeds(20), 20);
    metrics.context.shard = Some(crate::status::Shard { index: 1, count: 3 });
    // One that does not run has closed its end.
    _ = promtool.stdin.take().unwrap().write_all(metrics.encode().as_bytes());
    let output = promtool.wait_with_output().unwrap();
    if output.status.code() == Some(127) {
        println!("SKIPPED: an emulator does not run promtool");
        return;
    }
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// With the default limit, a release build takes less than 50 ms for any list; a debug build is not asked.
#[test]
#[expect(clippy::print_stdout, reason = "the times are for a run in a release build")]
fn ten_thousand_servers_take_less_than_50_ms() {
    for (servers, max_servers) in [(10_000, 1000), (1000, 1000), (10_000, 10_000)] {
        let metrics = metrics(&feeds(servers), max_servers);
        let (text, took) = shortest(|| metrics.clone().encode());
        println!("{servers} servers: {} bytes in {took:?}", text.len());
        let is_bounded = !cfg!(debug_assertions) && max_servers == 1000;
        assert!(!is_bounded || took < Duration::from_millis(50), "{took:?}");
    }
}
