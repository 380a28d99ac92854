//! Which scenarios there are, which of them run, and how they end.

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use lexopt::Arg::{Long, Short, Value};
use rand::TryRng;
use rand::rngs::SysRng;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::subject::Tally;
use crate::{flow, namespaces, outages, soak};

/// What a scenario came to; one that fails panics.
pub(crate) enum Outcome {
    /// The contract was kept, and this is what it saw.
    Seen(String, Tally),
    /// Why it could not be tried.
    Skipped(String),
}

/// How a scenario is to be run.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    /// The long form, of minutes, instead of the short one, of seconds.
    pub(crate) full: bool,
    /// How long the soak's storm lasts.
    pub(crate) soak_seconds: u64,
    /// Decides what the soak's servers do.
    pub(crate) seed: u64,
}

impl Form {
    pub(crate) fn pick<T>(self, short: T, full: T) -> T {
        if self.full { full } else { short }
    }
}

type Scenario = fn(Form) -> Outcome;

const SCENARIOS: &[(&str, Scenario)] = &[
    ("killed_server", outages::killed_server),
    ("stopped_server", outages::stopped_server),
    ("reset_in_mid_line", outages::reset_in_mid_line),
    ("accept_then_close", outages::accept_then_close),
    ("thousand_down_and_back", outages::thousand_down_and_back),
    ("descriptor_limit", outages::descriptor_limit),
    ("endless_line", flow::endless_line),
    ("junk_flood", flow::junk_flood),
    ("sigterm_with_a_slow_reader", flow::sigterm_with_a_slow_reader),
    ("full_disk", namespaces::full_disk),
    ("late_name", namespaces::late_name),
    ("half_open", namespaces::half_open),
    ("soak", soak::soak),
];

const USAGE: &str = "\
usage: cargo test --release --test hostile -- [NAME...] [--full] [--seconds N] [--seed N] [--list]";

pub(crate) fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(outages::SERVE) {
        outages::serve();
    }
    let wish = match Wish::parse(lexopt::Parser::from_env()) {
        Ok(wish) => wish,
        Err(error) => {
            say(&format!("{error}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    if cfg!(debug_assertions) && !wish.is_explicit {
        say("hostile: skipped in a debug build; cargo test --release --test hostile runs it");
        return ExitCode::SUCCESS;
    }
    // The thousand servers of a scenario need a descriptor each. Without the raise they fail.
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let mut failed = 0;
    for (name, scenario) in SCENARIOS.iter().filter(|(name, _)| wish.wants(name)) {
        if wish.list {
            say(&format!("{name}: test"));
        } else if !run(name, *scenario, wish.form) {
            failed += 1;
        }
    }
    if failed > 0 {
        say(&format!("{failed} failed"));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Runs a scenario, prints its line, and returns whether the contract was kept.
fn run(name: &str, scenario: Scenario, form: Form) -> bool {
    let start = Instant::now();
    // A thread's end tells of its panic, and its name stands in the panic's message.
    let thread = thread::Builder::new().name(name.into()).spawn(move || scenario(form));
    let outcome = thread.expect("there is memory for a thread").join();
    let seconds = start.elapsed().as_secs_f64();
    match &outcome {
        Ok(Outcome::Seen(figures, tally)) => {
            say(&format!("{name}: ok in {seconds:.1} s: {figures}; {tally}"));
        }
        Ok(Outcome::Skipped(reason)) => say(&format!("{name}: SKIPPED: {reason}")),
        Err(_) => say(&format!("{name}: FAILED in {seconds:.1} s, with --seed {}", form.seed)),
    }
    outcome.is_ok()
}

/// What the command line asks for.
struct Wish {
    names: Vec<String>,
    form: Form,
    list: bool,
    /// Whether anything was asked for at all.
    is_explicit: bool,
}

impl Wish {
    fn parse(mut parser: lexopt::Parser) -> Result<Wish, lexopt::Error> {
        use lexopt::ValueExt;

        let seed = SysRng.try_next_u64().expect("the system has random numbers");
        let mut wish = Wish {
            names: Vec::new(),
            form: Form { full: false, soak_seconds: 0, seed },
            list: false,
            is_explicit: false,
        };
        let mut seconds = None;
        while let Some(argument) = parser.next()? {
            match argument {
                Value(name) => wish.names.push(name.string()?),
                Long("full") => wish.form.full = true,
                Long("seconds") => seconds = Some(parser.value()?.parse()?),
                Long("seed") => wish.form.seed = parser.value()?.parse()?,
                Long("list") => wish.list = true,
                // Meant for the tests that have the standard harness, and given to all.
                Long("nocapture" | "show-output" | "quiet" | "exact") | Short('q') => continue,
                other => return Err(other.unexpected()),
            }
            wish.is_explicit = true;
        }
        wish.form.soak_seconds = seconds.unwrap_or(wish.form.pick(30, 600));
        Ok(wish)
    }

    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|part| name.contains(part.as_str()))
    }
}

fn say(line: &str) {
    // Nobody is left to be told if it fails.
    let _ = writeln!(io::stdout(), "{line}");
}
