//! Runs the program: parses the arguments, runs a job, and returns the exit status.

mod startup;

use std::env;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::mpsc;

use log::{debug, error, info, warn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tcpcore::internals::cli::{self, Command, ProgramOptions};
use tcpcore::internals::codec::number::DecoderPath;
use tcpcore::internals::config::servers::{self, ListError};
use tcpcore::internals::control::{self, ShowLine, Watch};
use tcpcore::internals::logging::{self, FlushOnDrop, Options};
use tcpcore::internals::output::stdout::Stdout;
use tcpcore::internals::signals::{self, CaughtSignals, Message};
use tcpcore::internals::status::{self, Bound, JobPages, PageOptions};
use tcpcore::internals::text::count;
use tcpcore::{Config, ExitReason, Job, Shard};

/// The exit status of bad usage: 2, as for most programs.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    // The handler comes first, because the help and the log are also written.
    if let Err(error) = signals::survive_sigxfsz() {
        complain(&format_args!("tcpcore: cannot handle SIGXFSZ: {error}"));
        return ExitCode::FAILURE;
    }
    let command = match cli::parse(env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            complain(&error);
            return ExitCode::from(USAGE);
        }
    };
    let result = match command {
        Command::Run { config, options } => match on_path_of_environment(config) {
            Ok(config) => start(config, options),
            Err(error) => {
                complain(&format_args!("tcpcore: {DECODER}: {error}"));
                return ExitCode::from(USAGE);
            }
        },
        Command::Check(config) => servers::load(config).map(|config| print(&summary(&config))),
        Command::Print(text) => Ok(print(&text)),
    };
    result.unwrap_or_else(|error: ListError| {
        for message in error.messages() {
            complain(&format_args!("tcpcore: {message}"));
        }
        ExitCode::from(USAGE)
    })
}

/// The environment variable that names the path on which numbers are decoded, for tests and benchmarks.
const DECODER: &str = "TCPCORE_DECODER";

/// Sets the path that the environment names, if any.
fn on_path_of_environment(config: Config) -> Result<Config, String> {
    match env::var_os(DECODER) {
        None => Ok(config),
        Some(name) => {
            let path = name.to_string_lossy().parse::<DecoderPath>()?;
            config.with_decoder_path(path).map_err(|error| error.to_string())
        }
    }
}

/// Reads the list file, starts the log and runs the job.
fn start(config: Config, options: ProgramOptions) -> Result<ExitCode, ListError> {
    let watch = config.watch().then(|| config.servers_file().map(Watch::new)).flatten();
    let config = servers::load(config)?;
    let (level, format, shard) = (options.log_level, options.log_format, config.shard());
    Ok(match logging::init(Options { level, format, shard, ..Options::default() }) {
        Ok(log) => run(config, watch, options, &log),
        Err(error) => {
            complain(&format_args!("tcpcore: cannot start the log: {error}"));
            ExitCode::FAILURE
        }
    })
}

/// Describes what a job with these settings would start.
fn summary(config: &Config) -> String {
    let workers = count(Job::workers(config), "worker");
    let servers = count(config.list().len(), "server");
    match config.shard() {
        Some(shard) => {
            let (part, by) = (config.servers().len(), shard.by());
            format!("{part} of {servers} in shard {shard} by {by}, {workers}: ok\n")
        }
        None => format!("{servers}, {workers}: ok\n"),
    }
}

/// Logs the part of the list that this process takes, and the variables that say so.
fn log_shard(config: &Config, shard: Shard, source: &[&str]) {
    let (part, list, by) = (config.servers().len(), config.list().len(), shard.by());
    let source = match source {
        [] => String::new(),
        names => format!(", as said by {}", names.join(", ")),
    };
    let servers = count(list, "server");
    info!(servers = part, listed = list; "Shard {shard} takes {part} of {servers} by {by}{source}");
}

/// Logs that there is no server to dial. Returns whether one can come later.
fn waits_without_servers(config: &Config) -> bool {
    let Some(shard) = config.shard().filter(|_| !config.list().is_empty()) else {
        // Only a list that can be read again may be empty.
        warn!("The list has no server yet; waiting for a change");
        return true;
    };
    // With `--once`, a server that comes later would not be one of those asked for.
    let waits = config.has_list_to_reload() && !config.once();
    let then = if waits { "waiting for a change" } else { "nothing to do" };
    info!("No server of the list is in shard {shard}; {then}");
    waits
}

fn run(
    config: Config,
    watch: Option<Watch>,
    options: ProgramOptions,
    log: &FlushOnDrop,
) -> ExitCode {
    raise_descriptor_limit();
    match run_job(config, watch, options, log) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the job to its end and returns whether it succeeded.
fn run_job(
    config: Config,
    watch: Option<Watch>,
    options: ProgramOptions,
    log: &FlushOnDrop,
) -> Result<bool, Box<dyn std::error::Error>> {
    let (sender, messages) = mpsc::channel();
    let signals = CaughtSignals::catch(config.has_list_to_reload(), sender.clone())?;
    if let Some(shard) = config.shard() {
        log_shard(&config, shard, &options.shard_source);
    }
    if config.servers().is_empty() && !waits_without_servers(&config) {
        return Ok(true);
    }
    let failed = |error: io::Error| format!("starting failed: {error}");
    // An address that is in use ends the program before a server is dialed.
    let bound = options.status_addr.map(Bound::new).transpose().map_err(failed)?;
    let kept = config.without_list();
    let (stdout, job) = open_stdout()
        .and_then(|stdout| Ok((stdout.clone(), Job::start(config, stdout)?)))
        .map_err(failed)?;
    let shard =
        kept.shard().map(|s| status::Shard { index: s.index().into(), count: s.count().into() });
    let page_options = PageOptions { shard, ..options.pages };
    let pages = || JobPages::new(job.stats(), page_options, job.stop_handle(), log.dropped_lines());
    let server = bound.map(|bound| bound.start(pages())).transpose().map_err(failed)?;
    signals.stop(job.stop_handle());
    stdout.stop_when_closed(job.stop_handle())?;
    // Records on the terminal would tear the line.
    let show_line = log.status_line().filter(|_| !io::stdout().is_terminal());
    let show_line = show_line.map(|show| Box::new(show) as ShowLine);
    let control = control::start(kept, watch, options.control, show_line, &job, messages)?;
    let result = job.wait();
    drop(server);
    _ = sender.send(Message::Ended);
    control.wait();
    signals.wait_logged();
    // The flush empties the queue of log lines. A full one would drop the totals.
    log::logger().flush();
    let report = result.inspect_err(|error| info!("Totals: {}", error.totals()))?;
    match report.reason {
        ExitReason::OutputClosed => info!("stdout was closed by its reader"),
        _ => info!("Totals: {}", report.totals),
    }
    Ok(report.is_success())
}

/// Opens stdout, or fails if it was closed when the program started.
///
/// Without that check, /dev/null would replace a closed stdout and discard all numbers.
fn open_stdout() -> io::Result<Stdout> {
    startup::stdout_was_open()?;
    Stdout::open()
}

/// Raises the soft limit of open files, as each server needs a descriptor.
///
/// The soft limit is often as low as 1024 for the sake of programs that use `select`. Servers beyond the
/// limit would fail and be retried.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    // macOS refuses more than this, although it reports no hard limit.
    let most = if cfg!(target_vendor = "apple") { Some(10_240) } else { limit.maximum };
    let raised = Rlimit { current: most, ..limit };
    let show = |limit: Option<u64>| limit.map_or("unlimited".into(), |limit| limit.to_string());
    let (from, to) = (show(limit.current), show(most));
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => debug!("Limit of open files raised from {from} to {to}"),
        Err(error) => debug!("Limit of open files left at {from}, not raised to {to}: {error}"),
    }
}

/// Prints the help or the version. A reader that closes stdout early is no failure.
fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout();
    let written = startup::stdout_was_open()
        .and_then(|()| stdout.write_all(text.as_bytes()))
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format_args!("tcpcore: cannot write to stdout: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Writes a line to stderr. An error is ignored, as there is no other place to report it.
fn complain(message: &dyn std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{message}");
}
