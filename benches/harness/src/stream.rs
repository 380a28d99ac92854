//! Measures the whole program against the floor, with four servers that send as fast as they can.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::load::Load;
use crate::payload::{NAME, Payload, Sum};
use crate::process::{Process, Usage};
use crate::programs::{Program, Programs};
use crate::stats::median;
use crate::table::{Goal, Report, Row, figure};
use crate::{Options, Result, note};

const SERVERS: usize = 4;

/// Bytes that are sent to check the output of each program before it is timed.
const CHECK_BYTES: u64 = 16 * 1024 * 1024;

const PROGRAMS: [Program; 3] = [Program::Floor, Program::Product, Program::Tokio];

pub fn run(options: &Options, programs: &Programs, report: &mut Report) -> Result<()> {
    let mut load = Load::start(SERVERS)?;
    let mut figures = Vec::new();
    for (payload, goal) in [(Payload::Short, 3.2), (Payload::Long, 1.8), (Payload::Text, 1.6)] {
        for program in [Program::Product, Program::Tokio] {
            check(&mut load, programs, program, payload)?;
        }
        let rounds = measure(options, &mut load, programs, payload)?;
        let wall =
            |index: usize| rounds.iter().map(move |round| round[index].usage.wall.as_secs_f64());
        let ratio = |index: usize| median(wall(index).zip(wall(0)).map(|(its, floor)| its / floor));
        let flags = if payload == Payload::Text { "`--lines -p 2`" } else { "`-p 2`" };
        report.rows.push(Row {
            what: format!("four connections, {payload}, {flags}: wall time of the whole program"),
            measured: ratio(1),
            goal: Goal::AtMost(goal),
            unit: "x the floor",
            detail: format!("tuned tokio: {}x", figure(ratio(2))),
        });
        if payload == Payload::Text {
            let of_tokio = median(wall(2).zip(wall(1)).map(|(tokio, its)| tokio / its));
            report.rows.push(Row {
                what: format!("four connections, {payload}, {flags}: wall time of tuned tokio"),
                measured: of_tokio,
                goal: Goal::AtLeast(2.0),
                unit: "x that of tcpcore",
                detail: "it writes whole lines as they were read, and does not look at each".into(),
            });
        }
        for (index, program) in PROGRAMS.into_iter().enumerate() {
            let of = |what: fn(&Measured) -> f64| median(rounds.iter().map(|r| what(&r[index])));
            let best =
                rounds.iter().map(|r| r[index].usage.wall.as_secs_f64() / r[index].gigabytes);
            let best = best.fold(f64::INFINITY, f64::min);
            figures.push(vec![
                format!("{}, {payload}", program.name()),
                figure(ratio(index)),
                figure(of(|m| m.usage.wall.as_secs_f64() / m.gigabytes)),
                figure(best),
                figure(of(|m| m.usage.cpu.as_secs_f64() / m.gigabytes)),
                figure(of(|m| m.lines / m.usage.wall.as_secs_f64() / 1e6)),
                figure(of(|m| m.usage.peak_rss as f64 / 1024.0 / 1024.0)),
            ]);
        }
    }
    let head = [
        "four connections",
        "x the floor",
        "wall s/GB",
        "best",
        "CPU s/GB",
        "M lines/s",
        "peak MiB",
    ];
    report.add_table(&head, &figures);
    Ok(())
}

struct Measured {
    usage: Usage,
    gigabytes: f64,
    lines: f64,
}

fn measure(
    options: &Options,
    load: &mut Load,
    programs: &Programs,
    payload: Payload,
) -> Result<Vec<[Measured; 3]>> {
    let mut rounds = Vec::new();
    for round in 0..options.rounds {
        let mut one = |program: Program| -> Result<Measured> {
            load.stream(SERVERS, payload, options.bytes)?;
            let mut command = command(programs, program, payload, load);
            let usage = Process::start(command.stdout(Stdio::null()))?.wait()?;
            let sent = load.sent()?;
            Ok(Measured { usage, gigabytes: sent.bytes as f64 / 1e9, lines: sent.lines as f64 })
        };
        let [floor, product, tokio] = PROGRAMS;
        let results = [one(floor)?, one(product)?, one(tokio)?];
        let walls = results.each_ref().map(|m| figure(m.usage.wall.as_secs_f64() / m.gigabytes));
        note!("{payload}, round {round}: s/GB of floor, tcpcore, tokio: {}", walls.join(" "));
        rounds.push(results);
    }
    Ok(rounds)
}

/// Returns the command that reads each server to its end.
fn command(programs: &Programs, program: Program, payload: Payload, load: &Load) -> Command {
    let mut command = programs.once(program, 2, load.addresses(SERVERS));
    if payload == Payload::Text && program != Program::Floor {
        command.arg("--lines");
    }
    command
}

/// Checks the output of a program by its sum, as a wrong program is not worth timing.
fn check(load: &mut Load, programs: &Programs, program: Program, payload: Payload) -> Result<()> {
    load.stream(SERVERS, payload, CHECK_BYTES)?;
    let mut command = command(programs, program, payload, load);
    let mut process = Process::start(command.stdout(Stdio::piped()))?;
    let stdout = process.child().stdout.take().expect("it is piped");
    let mut printed = Sum::default();
    for line in BufReader::with_capacity(1 << 16, stdout).lines() {
        let line = line?;
        let number =
            if payload == Payload::Text { line.strip_prefix(NAME) } else { Some(&line[..]) };
        printed.add(number.ok_or("a line without its start")?.parse()?);
    }
    process.wait()?;
    let sent = load.sent()?.sum;
    if printed != sent {
        let name = program.name();
        return Err(format!("{name} printed {printed:?}, expected {sent:?}").into());
    }
    Ok(())
}
