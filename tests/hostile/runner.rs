//! Selects and runs the scenarios, and reports their outcomes.

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use lexopt::Arg::{Long, Short, Value};
use rand::TryRng;
use rand::rngs::SysRng;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::mode::{Format, Mode};
use crate::subject::Tally;
use crate::{flow, namespaces, outages, rude, soak};

/// The outcome of a scenario. A failed scenario panics.
pub(crate) enum Outcome {
    /// The contract was kept, with these figures.
    Passed(String, Tally),
    /// The scenario could not run, for this reason.
    Skipped(String),
}

/// The form in which a scenario runs.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    /// Whether the long form runs, of minutes, instead of the short form, of seconds.
    pub(crate) full: bool,
    /// The duration of the soak's storm.
    pub(crate) soak_seconds: u64,
    /// The seed of what the servers of the soak do at random.
    pub(crate) seed: u64,
    /// What the program prints.
    pub(crate) mode: Mode,
    /// What it prints in all rounds of the soak, instead of one form after the other.
    pub(crate) soak_mode: Option<Mode>,
}

impl Form {
    pub(crate) fn pick<T>(self, short: T, full: T) -> T {
        if self.full { full } else { short }
    }
}

type Scenario = fn(Form) -> Outcome;

/// The modes of a scenario that compares all that is printed, and of any other.
const BOTH: [Mode; 2] = [Mode::NUMBERS, Mode::LINES];
const NUMBERS: [Mode; 1] = [Mode::NUMBERS];

const SCENARIOS: &[(&str, Scenario, &[Mode])] = &[
    ("killed_server", outages::killed_server, &BOTH),
    ("stopped_server", outages::stopped_server, &NUMBERS),
    ("reset_in_mid_line", outages::reset_in_mid_line, &BOTH),
    ("accept_then_close", outages::accept_then_close, &NUMBERS),
    ("thousand_down_and_back", outages::thousand_down_and_back, &BOTH),
    ("descriptor_limit", outages::descriptor_limit, &BOTH),
    ("endless_line", flow::endless_line, &BOTH),
    ("junk_flood", flow::junk_flood, &NUMBERS),
    ("sigterm_with_a_slow_reader", flow::sigterm_with_a_slow_reader, &BOTH),
    ("rude_clients", rude::rude_clients, &BOTH),
    ("full_disk", namespaces::full_disk, &BOTH),
    ("late_name", namespaces::late_name, &NUMBERS),
    ("half_open", namespaces::half_open, &NUMBERS),
    ("soak", soak::soak, &NUMBERS),
];

const USAGE: &str = "\
usage: cargo test --release --test hostile -- [NAME...] [--full] [--seconds N] [--seed N] [--list] \
[--lines] [--format plain|tsv|json]";

pub(crate) fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(outages::SERVE) {
        outages::serve();
    }
    let request = match Request::parse(lexopt::Parser::from_env()) {
        Ok(request) => request,
        Err(error) => {
            print(&format!("{error}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    if cfg!(debug_assertions) && !request.is_explicit {
        print("hostile: skipped in a debug build; cargo test --release --test hostile runs it");
        return ExitCode::SUCCESS;
    }
    // The thousand servers of a scenario need a descriptor each. Without a higher limit the scenario fails.
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let mut failed = 0;
    for (name, scenario, modes) in SCENARIOS.iter().filter(|(name, ..)| request.selects(name)) {
        if request.list {
            print(&format!("{name}: test"));
            continue;
        }
        for &mode in *modes {
            let name = if mode.lines { format!("{name} --lines") } else { (*name).into() };
            failed += usize::from(!run(&name, *scenario, Form { mode, ..request.form }));
        }
    }
    if failed > 0 {
        print(&format!("{failed} failed"));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Runs a scenario, prints its line, and returns whether the contract was kept.
fn run(name: &str, scenario: Scenario, form: Form) -> bool {
    let start = Instant::now();
    // The result of a thread shows its panic, and the message of a panic contains the thread's name.
    let thread = thread::Builder::new().name(name.into()).spawn(move || scenario(form));
    let outcome = thread.expect("there is memory for a thread").join();
    let seconds = start.elapsed().as_secs_f64();
    match &outcome {
        Ok(Outcome::Passed(figures, tally)) => {
            print(&format!("{name}: ok in {seconds:.1} s: {figures}; {tally}"));
        }
        Ok(Outcome::Skipped(reason)) => print(&format!("{name}: SKIPPED: {reason}")),
        Err(_) => print(&format!("{name}: FAILED in {seconds:.1} s, with --seed {}", form.seed)),
    }
    outcome.is_ok()
}

/// The request of the command line.
struct Request {
    names: Vec<String>,
    form: Form,
    list: bool,
    /// Whether any argument was given.
    is_explicit: bool,
}

impl Request {
    fn parse(mut parser: lexopt::Parser) -> Result<Request, lexopt::Error> {
        use lexopt::ValueExt;

        let seed = SysRng.try_next_u64().expect("the system has random numbers");
        let mut request = Request {
            names: Vec::new(),
            form: Form { full: false, soak_seconds: 0, seed, mode: Mode::NUMBERS, soak_mode: None },
            list: false,
            is_explicit: false,
        };
        let mut seconds = None;
        while let Some(argument) = parser.next()? {
            match argument {
                Value(name) => request.names.push(name.string()?),
                Long("full") => request.form.full = true,
                Long("seconds") => seconds = Some(parser.value()?.parse()?),
                Long("lines") => soak_mode(&mut request.form).lines = true,
                Long("format") => {
                    soak_mode(&mut request.form).format = match parser.value()?.to_str() {
                        Some("plain") => Format::Plain,
                        Some("tsv") => Format::Tsv,
                        Some("json") => Format::Json,
                        _ => return Err("--format: expected plain, tsv or json".into()),
                    };
                }
                Long("seed") => request.form.seed = parser.value()?.parse()?,
                Long("list") => request.list = true,
                // These are for tests with the standard harness, but cargo passes them to all tests.
                Long("nocapture" | "show-output" | "quiet" | "exact") | Short('q') => continue,
                other => return Err(other.unexpected()),
            }
            request.is_explicit = true;
        }
        request.form.soak_seconds = seconds.unwrap_or(request.form.pick(30, 600));
        Ok(request)
    }

    fn selects(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|part| name.contains(part.as_str()))
    }
}

/// Returns the one mode of the soak.
fn soak_mode(form: &mut Form) -> &mut Mode {
    form.soak_mode.get_or_insert(Mode::NUMBERS)
}

fn print(line: &str) {
    // There is no other place to report a failure.
    let _ = writeln!(io::stdout(), "{line}");
}
