//! Measures the cost of a line, of an idle connection and of a lost connection, with ten thousand
//! connections.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::floor;
use crate::load::{ClosedPort, Load};
use crate::process::Process;
use crate::programs::{Program, Programs};
use crate::stats::{median, micros};
use crate::table::{Goal, Report, Row, figure};
use crate::{Options, Result, note};

/// Listening ports. With this many, neither a listener's queue nor a port's share of the addresses runs
/// out.
const LISTENERS: usize = 16;

/// Measures the CPU per line against the floor, with one line at a time to every connection.
pub fn run_lines(options: &Options, programs: &Programs, report: &mut Report) -> Result<()> {
    let count = options.connections;
    let [floor, one, floor_in_two, two] = {
        let mut contestants = [
            (Program::Floor, 1),
            (Program::Product, 1),
            (Program::FloorInTwo, 2),
            (Program::Product, 2),
        ]
        .map(|c| (c, vec![]));
        for round in 0..options.rounds {
            for ((program, workers), times) in &mut contestants {
                let time = sweep(options, programs.once(*program, *workers, [].into_iter()))?;
                note!(
                    "{}, {workers} threads, round {round}: {} us a line",
                    program.name(),
                    figure(time)
                );
                times.push(time);
            }
        }
        contestants.map(|(_, times)| times)
    };
    for (workers, times, floors) in [(1, &one, &floor), (2, &two, &floor_in_two)] {
        let us = |times: &[f64]| figure(median(times.iter().copied()));
        report.rows.push(Row {
            what: format!(
                "{count} connections, one short line at a time each, `-p {workers}`: CPU per line"
            ),
            measured: median(times.iter().zip(floors).map(|(its, floor)| its / floor)),
            goal: Goal::AtMost(1.0),
            unit: "x the floor",
            detail: format!("{} µs, the floor's {} µs, of as many threads", us(times), us(floors)),
        });
    }
    Ok(())
}

/// Sweeps over all connections, and returns the microseconds of CPU per line.
fn sweep(options: &Options, command: Command) -> Result<f64> {
    let crowd = Crowd::connect(options.connections, command)?;
    let sweeps = if options.quick { 2 } else { 20 };
    crowd.cost(sweeps * options.connections as u64, |load| {
        load.sweep(sweeps, Duration::from_millis(100))
    })
}

/// Compares the CPU per line of ten thousand connections with that of one, at the same rate.
pub fn run_flat(options: &Options, programs: &Programs, report: &mut Report) -> Result<()> {
    let many = options.connections;
    let mut growths = [vec![], vec![]];
    let mut figures = Vec::new();
    // All rounds, since the times of one vary by a third.
    for round in 0..options.rounds {
        for (program, growths) in [Program::Floor, Program::Product].into_iter().zip(&mut growths) {
            let [few_us, many_us] =
                [1, many].map(|count| spaced_lines(options, programs, program, count));
            let (few_us, many_us) = (few_us?, many_us?);
            let name = program.name();
            note!("{name}, round {round}: {} and {} us", figure(few_us), figure(many_us));
            growths.push(many_us / few_us);
            figures.push((program, few_us, many_us));
        }
    }
    let [floor, product] = growths;
    let of = |program: Program, what: fn(&(Program, f64, f64)) -> f64| {
        figure(median(figures.iter().filter(|f| f.0 == program).map(what)))
    };
    report.rows.push(Row {
        what: format!("CPU per line, {many} connections against one at the same rate"),
        measured: median(product.iter().zip(&floor).map(|(product, floor)| product / floor)),
        goal: Goal::AtMost(1.1),
        unit: "x the floor's growth",
        detail: format!(
            "{} to {} µs, the floor {} to {} µs",
            of(Program::Product, |f| f.1),
            of(Program::Product, |f| f.2),
            of(Program::Floor, |f| f.1),
            of(Program::Floor, |f| f.2),
        ),
    });
    Ok(())
}

/// Sends lines at a fixed interval, and returns the microseconds of CPU per line.
fn spaced_lines(
    options: &Options,
    programs: &Programs,
    program: Program,
    count: usize,
) -> Result<f64> {
    let crowd = Crowd::connect(count, programs.once(program, 1, [].into_iter()))?;
    let lines = if options.quick { 2_000 } else { 40_000 };
    // At this interval each line is a wake-up of its own, from the same connection as the last line or not.
    crowd.cost(lines, |load| load.spaced(lines, Duration::from_micros(50)))
}

/// Measures the memory and the wake-ups of connections that have become silent.
pub fn run_idle(options: &Options, programs: &Programs, report: &mut Report) -> Result<()> {
    let count = options.connections;
    let few = 10;
    let idle = Duration::from_secs(if options.quick { 1 } else { 5 });
    let mut sizes = Vec::new();
    let mut sleeps = 0;
    for count in [few, count] {
        let command = programs.once(Program::Product, 2, [].into_iter());
        let mut crowd = Crowd::connect(count, command)?;
        // Each idle connection has received lines before. The memory for reading them must have been
        // released.
        crowd.load.sweep(3, Duration::from_millis(100))?;
        crowd.load.done()?;
        settle(&crowd.process)?;
        let before = crowd.process.sleeps()?;
        thread::sleep(idle);
        sleeps += crowd.process.sleeps()? - before;
        sizes.push(crowd.process.rss()? as f64);
        crowd.end()?;
    }
    report.rows.push(Row {
        what: format!("{count} idle connections: memory per connection"),
        measured: (sizes[1] - sizes[0]) / (count - few) as f64,
        goal: Goal::AtMost(512.0),
        unit: " bytes",
        detail: format!(
            "{} MiB with {count}, {} MiB with {few}",
            figure(sizes[1] / 1024.0 / 1024.0),
            figure(sizes[0] / 1024.0 / 1024.0)
        ),
    });
    report.rows.push(Row {
        what: format!("{count} idle connections: wake-ups in {} s", idle.as_secs()),
        measured: sleeps as f64,
        goal: Goal::AtMost(0.0),
        unit: "",
        detail: "all threads".into(),
    });
    Ok(())
}

/// Measures the time and the CPU of reconnecting after all servers are lost at once and come back.
pub fn run_reconnect(options: &Options, programs: &Programs, report: &mut Report) -> Result<()> {
    let count = options.connections;
    let gone = Duration::from_secs(if options.quick { 1 } else { 5 });
    // The default delays are 1, 2, 4, ... seconds, each with a jitter of a tenth. The first attempt after
    // the servers are back succeeds. A tenth of a second is allowed for the connects.
    let (attempts, due) = if options.quick { (2, 3.3) } else { (3, 7.7) };
    let (mut times, mut ratios, mut costs) = (vec![], vec![], vec![]);
    for _ in 0..options.slow_rounds().div_ceil(2) {
        let single_us = connect_loop(programs, count, 1)?;
        let bare_us = connect_loop(programs, count, attempts)?;
        let mut command = programs.product(2);
        command.args(["--give-up-after", "1m"]);
        let Crowd { mut load, process } = Crowd::connect(count, command)?;
        let before = process.cpu()?;
        load.vanish()?;
        let lost = Instant::now();
        thread::sleep(gone.saturating_sub(lost.elapsed()));
        load.listen()?;
        load.accept(count)?;
        load.done()?;
        let time = lost.elapsed().as_secs_f64();
        settle(&process)?;
        let cost_us = micros(process.cpu()? - before) / count as f64;
        note!("back after {time:.2} s, {cost_us:.1} us each, a bare loop {bare_us:.1} us");
        times.push(time);
        ratios.push(cost_us / bare_us);
        costs.push((cost_us, bare_us, single_us));
    }
    report.rows.push(Row {
        what: format!(
            "{count} servers lost at once and back after {} s: all connected",
            gone.as_secs()
        ),
        measured: times.into_iter().fold(0.0, f64::max),
        goal: Goal::AtMost(due + 0.1),
        unit: " s",
        detail: format!("the latest of the successful attempts is due at {due} s"),
    });
    report.rows.push(Row {
        what: format!("{count} servers lost and back: CPU per reconnect"),
        measured: median(ratios),
        goal: Goal::AtMost(3.0),
        unit: "x a bare loop",
        detail: format!(
            "{} µs for {attempts} attempts, of which the last succeeds; a bare loop {} µs, for the \
             last alone {} µs",
            figure(median(costs.iter().map(|c| c.0))),
            figure(median(costs.iter().map(|c| c.1))),
            figure(median(costs.iter().map(|c| c.2)))
        ),
    });
    Ok(())
}

/// Returns the microseconds of CPU per connection of a loop that only connects. All attempts but the last
/// are refused.
fn connect_loop(programs: &Programs, count: usize, attempts: usize) -> Result<f64> {
    let mut load = Load::start(LISTENERS)?;
    load.accept(count)?;
    let closed = ClosedPort::bind()?;
    let refused = std::iter::repeat_n(closed.address()?, count * (attempts - 1));
    let mut command = programs.floor(floor::CONNECT, refused.chain(load.addresses(count)));
    let mut process = Process::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
    let stdout = process.child().stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut String::new())?;
    load.done()?;
    Ok(micros(process.cpu()?) / count as f64)
}

/// A program, and the servers to which it is connected.
struct Crowd {
    load: Load,
    process: Process,
}

impl Crowd {
    /// Starts `command` with `count` servers as its last arguments, and waits until all are connected.
    fn connect(count: usize, mut command: Command) -> Result<Crowd> {
        let mut load = Load::start(LISTENERS.min(count))?;
        load.accept(count)?;
        let process = Process::start(command.args(load.addresses(count)).stdout(Stdio::null()))?;
        load.done()?;
        settle(&process)?;
        Ok(Crowd { load, process })
    }

    /// Sends `lines` lines with `send`, twice. Returns the program's microseconds of CPU per line of the
    /// second time.
    fn cost(mut self, lines: u64, send: impl Fn(&mut Load) -> Result<()>) -> Result<f64> {
        let mut cost = Duration::ZERO;
        for _ in 0..2 {
            let before = self.process.cpu()?;
            send(&mut self.load)?;
            self.load.done()?;
            settle(&self.process)?;
            cost = self.process.cpu()? - before;
        }
        self.end()?;
        Ok(micros(cost) / lines as f64)
    }

    /// Closes the connections, which ends the program, and waits for it.
    fn end(mut self) -> Result<()> {
        self.load.vanish()?;
        self.process.wait().map(drop)
    }
}

/// Waits until a process uses no more CPU.
fn settle(process: &Process) -> Result<()> {
    let limit = Instant::now() + Duration::from_secs(120);
    let mut before = process.cpu()?;
    loop {
        thread::sleep(Duration::from_millis(100));
        let now = process.cpu()?;
        if now == before {
            return Ok(());
        }
        if Instant::now() > limit {
            return Err("the program does not become idle".into());
        }
        before = now;
    }
}
