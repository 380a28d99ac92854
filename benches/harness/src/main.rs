//! Measures tcpcore: its parts against possible replacements, and the whole program against the floor. The
//! floor is a program that only reads the same bytes from the same sockets. All contestants alternate
//! within one run, so that they meet the same state of the machine.

mod crowd;
mod decoder;
mod encoders;
mod fair;
mod floor;
mod hosts;
mod latency;
mod load;
mod machine;
mod operate;
mod payload;
mod process;
mod programs;
mod rings;
mod stats;
mod stream;
mod svg;
mod table;
mod timers;
mod wheels;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::ValueExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::programs::Programs;
use crate::table::Report;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Reports progress on stderr, apart from the tables on stdout.
#[macro_export]
macro_rules! note {
    ($($arg:tt)*) => { eprintln!("bench: {}", format_args!($($arg)*)) };
}

const USAGE: &str = "\
Usage: cargo run --release --manifest-path benches/Cargo.toml -- [OPTIONS] [PART]...

Measures tcpcore and prints tables in markdown. Without a PART, all parts are run.

Parts:
  stream     four servers at full speed: wall time against the floor and tokio
  lines      many connections, a line at a time: CPU against the floor
  idle       many connections, silent: memory and wake-ups
  latency    from a server's write to the reader of the pipe, against one thread
  reconnect  many servers lost at once and back: time and CPU
  flat       the same lines from one connection and from many
  fair       many connections that always have data: attempts and a quiet server beside them
  reload     a reload that replaces half of many servers: its time, and a steady feed meanwhile
  status     the status server asked every second: CPU; its answers with many servers: time
  timers     one server configured, and many
  decoder    lines to numbers, against a plain byte loop
  ring       numbers between two threads, against rtrb and the standard channel
  wheel      up to a million timers, against a binary heap
  encoder    numbers to lines, against write! and itoa

Options:
  --rounds N      rounds, in which the programs alternate [5]
  --bytes N       bytes per program and round [1000000000]
  --program PATH  the program to measure, instead of building tcpcore
  --output DIR    write the tables to DIR/speed-V.md and a picture of the goals to DIR/speed-V.svg, where V
                  names the vectors of the processor: avx512, avx2 or the architecture
                  [default of a full run without --quick: benches]
  --quick         one small round of everything, to test the harness and not the speed
";

/// The amount of work to measure.
pub struct Options {
    pub rounds: usize,
    pub bytes: u64,
    pub quick: bool,
    /// The number of connections where a part has many.
    pub connections: usize,
    /// The number of servers where a part has many.
    pub servers: usize,
    program: Option<PathBuf>,
    output: Option<PathBuf>,
    parts: Vec<String>,
}

impl Options {
    /// Returns the rounds of the parts that take long.
    pub fn slow_rounds(&self) -> usize {
        self.rounds.div_ceil(2)
    }
}

type Part = (&'static str, fn(&Options, &Programs, &mut Report) -> Result<()>);

const PARTS: [Part; 14] = [
    ("stream", stream::run),
    ("lines", crowd::run_lines),
    ("idle", crowd::run_idle),
    ("latency", latency::run),
    ("reconnect", crowd::run_reconnect),
    ("flat", crowd::run_flat),
    ("fair", fair::run),
    ("reload", operate::run_reload),
    ("status", operate::run_status),
    ("timers", timers::run),
    ("decoder", decoder::run),
    ("ring", rings::run),
    ("wheel", wheels::run),
    ("encoder", encoders::run),
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let rest: Vec<String> = std::env::args().skip(2).collect();
    match args.next().as_deref() {
        Some(load::COMMAND) => return load::serve(rest[0].parse()?),
        Some(hosts::COMMAND) => return hosts::serve(),
        Some(floor::READ) => return floor::run_read(&rest),
        Some(floor::READ_IN_TWO) => return floor::run_read_in_two(&rest),
        Some(floor::ECHO) => return floor::run_echo(&rest),
        Some(floor::ECHO_IN_TWO) => return floor::run_echo_in_two(&rest),
        Some(floor::CONNECT) => return floor::run_connect(&rest),
        _ => {}
    }
    let Some(options) = parse()? else { return Ok(()) };
    // A hundred thousand servers as arguments need more memory than the usual stack limit allows.
    let stack = Rlimit { current: Some(64 * 1024 * 1024), ..getrlimit(Resource::Stack) };
    setrlimit(Resource::Stack, stack)?;
    let programs = Programs::build(options.program.clone())?;
    let mut report = Report::default();
    let mut failed = Vec::new();
    for (name, part) in PARTS {
        if options.parts.is_empty() || options.parts.iter().any(|part| part == name) {
            note!("{name}");
            // A failed part does not discard the figures of the others.
            if let Err(error) = part(&options, &programs, &mut report) {
                note!("{name}: {error}");
                failed.push(name);
            }
        }
    }
    let machine = machine::describe();
    let text = report.markdown(&machine);
    print!("{text}");
    // A partial table must not replace the full one.
    let is_whole = options.parts.is_empty() && !options.quick && failed.is_empty();
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    if let Some(output) = options.output.or(is_whole.then_some(usual)) {
        let name = format!("speed-{}", machine::vectors());
        fs::write(output.join(format!("{name}.md")), text)?;
        fs::write(output.join(format!("{name}.svg")), svg::draw(&report, &machine))?;
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", ")).into()) }
}

fn parse() -> Result<Option<Options>> {
    use lexopt::Arg;
    let mut options = Options {
        rounds: 5,
        bytes: 1_000_000_000,
        quick: false,
        connections: 10_000,
        servers: 100_000,
        program: None,
        output: None,
        parts: Vec::new(),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("rounds") => options.rounds = parser.value()?.parse()?,
            Arg::Long("bytes") => options.bytes = parser.value()?.parse()?,
            Arg::Long("program") => options.program = Some(parser.value()?.into()),
            Arg::Long("output") => options.output = Some(parser.value()?.into()),
            Arg::Long("quick") => {
                options = Options {
                    rounds: 1,
                    bytes: 20_000_000,
                    quick: true,
                    connections: 200,
                    servers: 1_000,
                    ..options
                };
            }
            Arg::Long("help") | Arg::Short('h') => {
                print!("{USAGE}");
                return Ok(None);
            }
            Arg::Value(part) => {
                let part = part.string()?;
                if !PARTS.iter().any(|(name, _)| *name == part) {
                    return Err(format!("no such part: {part}; see --help").into());
                }
                options.parts.push(part);
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    Ok(Some(options))
}
