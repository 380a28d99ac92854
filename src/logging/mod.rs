//! Formats log records as lines of text or JSON and writes them to stderr, on the log thread.
//!
//! A thread that logs never waits for the reader of stderr. It formats its line and pushes it to a bounded
//! queue. A full queue drops the line and counts it. A later line reports the count. Lines of one thread stay
//! in order. The time of a line is that of its record.
//!
//! `RUST_LOG` is a list of levels with commas: `debug` for all modules, `tcpcore::link=off` for some.
//! `RUST_LOG_STYLE` is `auto`, `always` or `never`. With `auto`, the default, levels are colored if stderr is
//! a terminal, `NO_COLOR` is unset or empty, and `TERM` is set and not `dumb`.
//!
//! The systemd journal has a time and a priority for each line of its own. If stderr is the journal, lines of text
//! begin with the priority of sd-daemon(3), such as `<4>`, instead of time, level and color.

mod filter;
mod journal;
mod json;
mod queue;
mod status_line;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::env;
use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::panic;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, SystemTime};

use crate::descriptor::{wait_writable, write_waiting};
use crate::partition::Shard;
use crate::threads;
use filter::Filter;
use log::kv::Source;
use log::{Level, LevelFilter, Log, Metadata, Record};
use queue::Intake;
use rustix::termios::tcgetwinsize;

/// The most bytes of lines that wait for stderr: 1 MiB, about 5,000 lines of the usual length.
///
/// The lines of 2,500 reconnects fit while the log thread does not run. Memory is used only while lines wait.
const CAPACITY: u64 = 1 << 20;

const _: () = assert!(CAPACITY >= 256 << 10, "the lines of a busy start fit");

/// The time that a flush waits while stderr accepts nothing: 1 s.
///
/// The program flushes before its totals and at its end, so a blocked stderr delays the end by twice the time. A
/// thread that panics flushes, too.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// The name of the log thread.
const THREAD: &str = "log";

/// The bytes that are first allocated for a line. Most lines fit, and longer ones allocate again.
const USUAL_LENGTH: usize = 128;

/// Selects the records to log and the form of their lines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The least severe level of all modules. With `None`, `RUST_LOG` sets it; its default is info.
    pub level: Option<LevelFilter>,
    /// Whether a line of text names the module of its record. The default is `false`. A line of JSON always does.
    pub show_target: bool,
    /// The format of the lines.
    pub format: LogFormat,
    /// The shard of the job, which each line of JSON names. The lines of many shards are often gathered in one place.
    pub shard: Option<Shard>,
}

/// The format of the lines of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for a reader: `[2026-11-26T02:36:51.236Z INFO ] Trying to connect to localhost:8001`. The default.
    #[default]
    Text,
    /// A JSON object: `time`, `level`, `target`, `message`, and the fields of the record.
    Json,
}

impl LogFormat {
    /// All formats, in the order of the help.
    pub const ALL: [LogFormat; 2] = [LogFormat::Text, LogFormat::Json];

    /// Returns the name, as [`FromStr`] takes it.
    pub fn name(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

impl FromStr for LogFormat {
    type Err = UnknownLogFormat;

    fn from_str(name: &str) -> Result<LogFormat, UnknownLogFormat> {
        LogFormat::ALL.into_iter().find(|format| format.name() == name).ok_or(UnknownLogFormat)
    }
}

/// The error of an unknown name of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownLogFormat;

/// Starts the log thread and sets the logger of the process. Also logs panics from now on.
///
/// Logs a warning about each bad part of `RUST_LOG` and `RUST_LOG_STYLE`, at any level.
///
/// # Errors
///
/// Fails if the system refuses the thread, or the process already has a logger.
pub fn init(options: Options) -> io::Result<FlushOnDrop> {
    let mut complaints = Vec::new();
    let filter = match options.level {
        Some(level) => Filter::new(level),
        None => filter::from_env(env::var_os("RUST_LOG"), &mut complaints),
    };
    let style = Style::from_env(env::var_os, io::stderr().is_terminal(), &mut complaints);
    let form = match options.format {
        LogFormat::Json => Form::Json,
        LogFormat::Text if journal::is_stderr(env::var_os) => Form::Journal,
        LogFormat::Text => Form::Text(style),
    };
    let format = Format { form, show_target: options.show_target, shard: options.shard };
    let report = move |dropped, error: Option<&io::Error>| {
        let text = dropped_text(dropped, error);
        let record = (Level::Warn, module_path!(), &format_args!("{text}"));
        format.line(SystemTime::now(), record, &[("dropped", dropped)])
    };
    let (intake, drain) = queue::queue(CAPACITY, Waiting(io::stderr()), report);
    // A logger lives as long as the process.
    let logger = Logger { filter, format, intake, flush_patience: FLUSH_PATIENCE };
    let logger: &'static Logger = Box::leak(Box::new(logger));
    log::set_logger(logger).map_err(|error| io::Error::other(error.to_string()))?;
    threads::spawn(THREAD, move || drain.run())?;
    log::set_max_level(logger.filter.max_level());
    log_panics(logger);
    for complaint in complaints {
        logger.write(Level::Warn, module_path!(), &format_args!("{complaint}"));
    }
    Ok(FlushOnDrop(logger))
}

impl FlushOnDrop {
    /// Returns a function that shows a line at the bottom of the terminal, below the lines of the log. An empty one
    /// clears it. `None` if stderr is no terminal, or the lines of the log are not for a reader.
    pub fn status_line(&self) -> Option<impl Fn(String) + Send + 'static> {
        let logger = self.0;
        let is_text = matches!(logger.format.form, Form::Text(_));
        let show = move |text: String| {
            let columns = tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
            // A line that reaches the last column may wrap, and only its last part could be cleared.
            let fitting = text.chars().take(columns.saturating_sub(1)).collect();
            logger.intake.set_status(fitting);
        };
        (is_text && io::stderr().is_terminal()).then_some(show)
    }

    /// Returns a function that returns the number of lines that were dropped since the start.
    pub fn dropped_lines(&self) -> impl Fn() -> u64 + Send + 'static {
        let dropped = Arc::clone(self.0.intake.dropped());
        move || dropped.load(Relaxed)
    }
}

/// Waits, when dropped, until stderr has accepted all lines logged earlier.
///
/// It waits for at most a second while stderr accepts nothing, and for at most ten seconds in all.
#[derive(Debug)]
#[must_use = "the last lines are written when it is dropped"]
pub struct FlushOnDrop(&'static Logger);

impl Drop for FlushOnDrop {
    fn drop(&mut self) {
        self.0.intake.set_status(String::new());
        self.0.flush();
    }
}

#[derive(Debug)]
struct Logger {
    filter: Filter,
    format: Format,
    intake: Intake,
    flush_patience: Duration,
}

impl Logger {
    /// Logs a line without the filter.
    fn write(&self, level: Level, target: &str, message: &fmt::Arguments) {
        self.write_with((level, target, message), &NO_FIELDS);
    }

    fn write_with(&self, record: (Level, &str, &fmt::Arguments), fields: &dyn Source) {
        self.intake.push(self.format.line(SystemTime::now(), record, fields));
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        self.filter.enabled(metadata.level(), metadata.target())
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let fields = record.key_values();
            self.write_with((record.level(), record.target(), record.args()), &fields);
        }
    }

    fn flush(&self) {
        // Lines that are not written in time are lost.
        _ = self.intake.flush(self.flush_patience);
    }
}

/// Logs panic messages without the filter.
///
/// The standard hook writes to stderr itself. A thread could then wait for the reader of stderr, before it
/// unwinds and stops the job. The message could also end up within a line of the log.
fn log_panics(logger: &'static Logger) {
    let standard_hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("<unnamed>");
        if name == THREAD {
            // The queue has no other thread to drain it.
            return standard_hook(info);
        }
        let message = panic_message(name, info, &Backtrace::capture());
        logger.write(Level::Error, module_path!(), &format_args!("{message}"));
        // The process may abort without another flush. The wait delays no reads, as this thread has ended them.
        logger.flush();
    }));
}

/// Words a panic as the standard hook does, with a backtrace if `RUST_BACKTRACE` requests it.
fn panic_message(thread: &str, panic: &dyn fmt::Display, backtrace: &Backtrace) -> String {
    match backtrace.status() {
        BacktraceStatus::Captured => format!("thread '{thread}' {panic}\n{backtrace}"),
        _ => format!("thread '{thread}' {panic}"),
    }
}

/// Words the report of dropped lines.
fn dropped_text(dropped: u64, error: Option<&io::Error>) -> String {
    let [lines, them] = if dropped == 1 { ["line was", "it"] } else { ["lines were", "them"] };
    let reason = match error {
        Some(error) => format!("did not take {them}: {error}"),
        None => "was not read fast enough".into(),
    };
    format!("{dropped} log {lines} dropped, as stderr {reason}")
}

/// The fields of a line that has none.
const NO_FIELDS: Option<(&str, u64)> = None;

/// The format of a line, with all that it depends on.
#[derive(Clone, Copy, Debug)]
struct Format {
    form: Form,
    show_target: bool,
    shard: Option<Shard>,
}

/// The form of a line.
#[derive(Clone, Copy, Debug)]
enum Form {
    Text(Style),
    /// Text for the systemd journal.
    Journal,
    Json,
}

impl Format {
    /// Formats a line from a level, a target and a message. It ends with a line feed.
    ///
    /// Further lines of a text are indented, so that no message looks like two. A line of text has no fields,
    /// because its message has them.
    fn line(
        &self,
        now: SystemTime,
        (level, target, message): (Level, &str, &fmt::Arguments),
        fields: &dyn Source,
    ) -> String {
        let time = humantime::format_rfc3339_millis(now);
        let mut line = String::with_capacity(USUAL_LENGTH);
        // If a `Display` fails, the line lacks its text.
        match self.form {
            Form::Text(style) => {
                let [dim, color, reset] = style.codes(level);
                let [gap, target] = if self.show_target { [" ", target] } else { [""; 2] };
                _ = write!(
                    line,
                    "{dim}[{reset}{time} {color}{level:<5}{reset}{gap}{target}{dim}]{reset} "
                );
                _ = write!(Indented { line: &mut line, begin: "" }, "{message}");
            }
            Form::Journal => {
                let begin = journal::priority(level);
                let [target, colon] = if self.show_target { [target, ": "] } else { [""; 2] };
                _ = write!(line, "{begin}{target}{colon}");
                _ = write!(Indented { line: &mut line, begin }, "{message}");
            }
            Form::Json => {
                let time = time.to_string();
                json::write(&mut line, &time, (level, target, message), self.shard, fields);
            }
        }
        line.push('\n');
        line
    }
}

/// Indents all lines of a message except the first.
struct Indented<'a> {
    line: &'a mut String,
    /// The begin of a line. The journal takes each line as an entry of its own.
    begin: &'static str,
}

impl fmt::Write for Indented<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut lines = text.split('\n');
        self.line.extend(lines.next());
        for line in lines {
            for part in ["\n", self.begin, "    ", line] {
                self.line.push_str(part);
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Plain,
    Colored,
}

impl Style {
    /// Selects the style by the environment and by whether stderr is a terminal. `var` reads a variable.
    fn from_env(
        var: impl Fn(&'static str) -> Option<OsString>,
        is_terminal: bool,
        complaints: &mut Vec<String>,
    ) -> Style {
        let choice = var("RUST_LOG_STYLE").unwrap_or_default();
        match choice.to_str() {
            Some("always") => return Style::Colored,
            Some("never") => return Style::Plain,
            Some("" | "auto") => {}
            _ => complaints.push(format!(
                "RUST_LOG_STYLE: {choice:?} is ignored, expected auto, always or never"
            )),
        }
        let is_refused = var("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_capable = var("TERM").is_some_and(|term| term != "dumb");
        if is_terminal && is_capable && !is_refused { Style::Colored } else { Style::Plain }
    }

    /// Returns the escape sequences of brackets, of the level, and of the end of both.
    fn codes(self, level: Level) -> [&'static str; 3] {
        if self == Style::Plain {
            return [""; 3];
        }
        let color = match level {
            Level::Error => "\x1b[1m\x1b[31m",
            Level::Warn => "\x1b[33m",
            Level::Info => "\x1b[32m",
            Level::Debug => "\x1b[34m",
            Level::Trace => "\x1b[36m",
        };
        ["\x1b[90m", color, "\x1b[0m"]
    }
}

/// A descriptor, stderr in the program, whose writes wait even if it does not block.
///
/// Other processes may change whether it blocks, as the module `descriptor` explains. A write does not take
/// the lock of std's stderr, because a thread that holds it may be blocked in a write of its own.
#[derive(Debug)]
struct Waiting<F>(F);

impl<F: AsFd> Write for Waiting<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_waiting(|| Ok(rustix::io::write(&self.0, bytes)?), || wait_writable(&self.0))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
