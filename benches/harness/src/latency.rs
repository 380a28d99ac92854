//! Measures the time from a server's write to the reader of the pipe.

use std::array;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use crate::floor;
use crate::process::Process;
use crate::programs::{Program, Programs};
use crate::stats::{median, micros, quantile};
use crate::table::{Goal, Report, Row, figure};
use crate::{Options, Result};

const SERVERS: usize = 4;

/// The time between two lines: 2,000 lines a second from all servers.
const INTERVAL: Duration = Duration::from_micros(500);

/// Lines that do not count, since caches are still cold.
const SKIPPED: usize = 100;

pub fn run(options: &Options, programs: &Programs, report: &mut Report) -> Result<()> {
    let count = if options.quick { 500 } else { 2_500 };
    let goals = [("median", 0.5, 1.3), ("99%", 0.99, 1.2)];
    let mut rounds = Vec::new();
    for _ in 0..2 * options.rounds {
        let delays = [
            measure(programs.floor(floor::ECHO, [].into_iter()), count)?,
            measure(programs.floor(floor::ECHO_IN_TWO, [].into_iter()), count)?,
            measure(programs.once(Program::Product, 2, [].into_iter()), count)?,
        ];
        rounds.push(delays.map(|mut delays| {
            delays.sort_by(f64::total_cmp);
            goals.map(|(_, share, _)| quantile(&delays, share))
        }));
    }
    for (index, (name, _, goal)) in goals.into_iter().enumerate() {
        let figures = || rounds.iter().map(|programs| programs.map(|quantiles| quantiles[index]));
        let [floor, in_two, product] =
            array::from_fn(|program| median(figures().map(|figures| figures[program])));
        report.rows.push(Row {
            what: format!("latency, four servers, 2000 lines/s: {name}"),
            // The ratio is taken within a round, since other load on the machine comes and goes.
            measured: median(figures().map(|[floor, _, product]| product / floor)),
            goal: Goal::AtMost(goal),
            unit: "x one thread",
            detail: format!(
                "{} µs, a one-thread loop {} µs, one that writes in a second thread {} µs",
                figure(product),
                figure(floor),
                figure(in_two)
            ),
        });
    }
    Ok(())
}

/// Starts `command` with the servers as its last arguments, and sends it `count` lines. Returns the delays of those that
/// count, in microseconds.
fn measure(mut command: Command, count: usize) -> Result<Vec<f64>> {
    let listeners: Vec<_> =
        (0..SERVERS).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<_>>()?;
    let mut servers = Vec::new();
    for listener in &listeners {
        servers.push(listener.local_addr()?.to_string());
    }
    let mut process = Process::start(command.args(servers).stdout(Stdio::piped()))?;
    let stdout = process.child().stdout.take().expect("it is piped");
    let mut connections = Vec::new();
    for listener in &listeners {
        let (connection, _) = listener.accept()?;
        connection.set_nodelay(true)?;
        connections.push(connection);
    }

    // The number of a line is six times its index.
    let epoch = Instant::now();
    let sent: Vec<AtomicU64> = (0..count).map(|_| AtomicU64::new(0)).collect();
    let delays = thread::scope(|scope| -> Result<Vec<f64>> {
        let sender = scope.spawn(|| -> std::io::Result<()> {
            for (index, mut connection) in (0..count).zip(connections.iter().cycle()) {
                let due = INTERVAL * u32::try_from(index).expect("they are few");
                thread::sleep(due.saturating_sub(epoch.elapsed()));
                let line = format!("{}\n", 6 * index);
                sent[index].store(nanos(epoch), Relaxed);
                connection.write_all(line.as_bytes())?;
            }
            Ok(())
        });
        let mut delays = Vec::with_capacity(count);
        for line in BufReader::new(stdout).lines().take(count) {
            let index = line?.parse::<usize>()? / 6;
            let delay = nanos(epoch).saturating_sub(sent[index].load(Relaxed));
            if index >= SKIPPED {
                delays.push(micros(Duration::from_nanos(delay)));
            }
        }
        sender.join().expect("it does not panic")?;
        Ok(delays)
    })?;
    drop(connections);
    process.wait()?;
    Ok(delays)
}

fn nanos(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_nanos()).expect("it has not been 500 years")
}
