//! Prints the multiples of 6 that servers send. The servers are read by all hosts of Renoir, and host 0 prints.

use std::error::Error;
use std::io::{self, Write};
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use lexopt::ValueExt;
use log::{LevelFilter, Log, Metadata, Record};
use renoir::config::ConfigBuilder;
use renoir::{Replication, RuntimeConfig, StreamContext};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use tcpcore::{Config, Server};
use tcpcore_renoir::{SourceHandle, TcpSource};

const USAGE: &str = "\
Usage: tcpcore-renoir [--once] --local N HOST:PORT...
       NOIR_HOST_ID=I tcpcore-renoir [--once] --hosts FILE HOST:PORT...
Prints the multiples of 6 that servers send, by a dataflow of Renoir.

  --local N     One process with N replicas of the source
  --hosts FILE  A process per host of FILE; this one is host I, counted from 0
  --once        Read each server once, then end
";

fn main() -> ExitCode {
    let arguments = match Arguments::parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("tcpcore-renoir: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(arguments) {
        Ok(failures) if failures.is_empty() => ExitCode::SUCCESS,
        // They are in the log.
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tcpcore-renoir: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the dataflow to its end, and returns the failures of the source in this process.
fn run(Arguments { engine, once, servers }: Arguments) -> Result<Vec<String>, Box<dyn Error>> {
    log::set_logger(&Stderr)?;
    log::set_max_level(LevelFilter::Info);
    // With a divisor of 1, the source has all numbers, and the filter is one of the dataflow.
    let settings = Config::builder().once(once).divisor(1);
    let (source, handle) = TcpSource::new(settings, servers)?;
    stop_on_signals(handle.clone())?;

    let dataflow = StreamContext::new(engine);
    dataflow
        .stream(source)
        .filter(|number| number % 6 == 0)
        // All that follows is on host 0.
        .replication(Replication::One)
        .for_each(print);
    dataflow.execute_blocking();
    Ok(handle.failures())
}

fn print(number: i64) {
    if let Err(error) = writeln!(io::stdout(), "{number}") {
        eprintln!("tcpcore-renoir: stdout: {error}");
        // The other hosts end when they find their connections to this one closed.
        process::exit(1);
    }
}

/// Stops the source on the first signal. The second one ends the process at once.
fn stop_on_signals(source: SourceHandle) -> io::Result<()> {
    let is_second = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_default(signal, Arc::clone(&is_second))?;
        flag::register(signal, Arc::clone(&is_second))?;
    }
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || signals.forever().for_each(|_signal| source.stop()));
    Ok(())
}

struct Arguments {
    engine: RuntimeConfig,
    once: bool,
    servers: Vec<Server>,
}

impl Arguments {
    fn parse() -> Result<Arguments, Box<dyn Error>> {
        let (mut engine, mut once, mut servers) = (None, false, Vec::new());
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                lexopt::Arg::Long("local") => {
                    engine = Some(RuntimeConfig::local(parser.value()?.parse()?)?);
                }
                lexopt::Arg::Long("hosts") => {
                    let file = parser.value()?;
                    let mut hosts = ConfigBuilder::new_remote();
                    engine = Some(hosts.parse_file(file)?.host_id_from_env()?.build()?);
                }
                lexopt::Arg::Long("once") => once = true,
                lexopt::Arg::Value(server) => servers.push(server.parse()?),
                other => return Err(other.unexpected().into()),
            }
        }
        let engine = engine.ok_or("--local or --hosts is missing")?;
        if servers.is_empty() {
            return Err("no server is given".into());
        }
        Ok(Arguments { engine, once, servers })
    }
}

/// Logs to stderr: what the source says, and the warnings of the engine.
struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= LevelFilter::Warn || metadata.target().starts_with("tcpcore")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // A log that cannot be written is no reason to end.
            _ = writeln!(io::stderr(), "{:5} {}", record.level(), record.args());
        }
    }

    fn flush(&self) {}
}
