//! Measures the cost of a timer with one server and with a hundred thousand.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::load::ClosedPort;
use crate::process::Process;
use crate::programs::Programs;
use crate::stats::{median, micros};
use crate::table::{Goal, Report, Row, figure};
use crate::{Options, Result, note};

pub fn run(options: &Options, programs: &Programs, report: &mut Report) -> Result<()> {
    let closed = ClosedPort::bind()?;
    let server = closed.address()?;
    let many = options.servers;
    // Both cases make the same number of attempts a second, each at its own time. One server is tried every
    // millisecond or two. Each of many is tried after a delay of up to twice the mean.
    let delay = format!("{}ms", many * 7 / 10);
    let mut costs = Vec::new();
    for round in 0..options.slow_rounds() {
        let few_us = cost(options, programs, &server, 1, "1ms", "0")?;
        let many_us = cost(options, programs, &server, many, &delay, "1")?;
        note!("round {round}: {} and {} us an attempt", figure(few_us), figure(many_us));
        costs.push((few_us, many_us));
    }
    report.rows.push(Row {
        what: format!("CPU per timer and attempt, {many} servers configured against one"),
        measured: median(costs.iter().map(|(few, many)| many / few)),
        goal: Goal::AtMost(1.1),
        unit: "x",
        detail: format!(
            "{} to {} µs, most of it the refused connect",
            figure(median(costs.iter().map(|c| c.0))),
            figure(median(costs.iter().map(|c| c.1)))
        ),
    });
    Ok(())
}

/// Returns the microseconds of CPU per attempt. All attempts are refused.
fn cost(
    options: &Options,
    programs: &Programs,
    server: &str,
    count: usize,
    delay: &str,
    jitter: &str,
) -> Result<f64> {
    let mut command = programs.product(1);
    command.args(["--initial-backoff", delay, "--max-backoff", delay]);
    command.args(["--backoff-multiplier", "1", "--jitter-factor", jitter, "--give-up-after", "2m"]);
    command.args(std::iter::repeat_n(server, count));
    let process = Process::start(command.stdout(Stdio::null()))?;
    wait_for_first_attempts(&process)?;
    let (cpu, attempts) = (process.cpu()?, refused()?);
    thread::sleep(Duration::from_secs(if options.quick { 1 } else { 5 }));
    let (cpu, attempts) = (process.cpu()? - cpu, refused()? - attempts);
    Ok(micros(cpu) / attempts as f64)
}

/// Waits until the first attempts, which all start at once, are over. Then few sockets are open.
fn wait_for_first_attempts(process: &Process) -> Result<()> {
    let limit = Instant::now() + Duration::from_secs(120);
    let mut quiet = 0;
    while quiet < 5 {
        if Instant::now() > limit {
            return Err("the first attempts were not over within two minutes".into());
        }
        thread::sleep(Duration::from_millis(200));
        quiet = if process.descriptors()? < 64 { quiet + 1 } else { 0 };
    }
    Ok(())
}

/// Returns the system's count of refused connects.
fn refused() -> Result<u64> {
    let text = fs::read_to_string("/proc/net/snmp")?;
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut fields = names.split(' ').zip(values.split(' '));
    let (_, value) = fields.find(|(name, _)| *name == "AttemptFails").ok_or("no such count")?;
    Ok(value.parse()?)
}
