//! Formats log records as lines and writes them to stderr, on the log thread.
//!
//! A thread that logs never waits for the reader of stderr. It formats its line and pushes it to a bounded
//! queue. A full queue drops the line and counts it. A later line reports the count. Lines of one thread stay
//! in order. The time of a line is that of its record.
//!
//! `RUST_LOG` is a list of levels with commas: `debug` for all modules, `tcpcore::link=off` for some.
//! `RUST_LOG_STYLE` is `auto`, `always` or `never`. With `auto`, the default, levels are colored if stderr is
//! a terminal, `NO_COLOR` is unset or empty, and `TERM` is set and not `dumb`.

mod filter;
mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::env;
use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::panic;
use std::thread;
use std::time::{Duration, SystemTime};

use crate::descriptor::{wait_writable, write_waiting};
use crate::threads;
use filter::Filter;
use log::{Level, LevelFilter, Log, Metadata, Record};
use queue::Intake;

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
    /// Whether a line names the module of its record. The default is `false`.
    pub show_target: bool,
}

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
    let format = Format { style, show_target: options.show_target };
    let report = move |dropped, error: Option<&io::Error>| {
        let text = dropped_text(dropped, error);
        format.line(SystemTime::now(), Level::Warn, module_path!(), &format_args!("{text}"))
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

/// Waits, when dropped, until stderr has accepted all lines logged earlier.
///
/// It waits for at most a second while stderr accepts nothing, and for at most ten seconds in all.
#[derive(Debug)]
#[must_use = "the last lines are written when it is dropped"]
pub struct FlushOnDrop(&'static Logger);

impl Drop for FlushOnDrop {
    fn drop(&mut self) {
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
        self.intake.push(self.format.line(SystemTime::now(), level, target, message));
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        self.filter.enabled(metadata.level(), metadata.target())
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            self.write(record.level(), record.target(), record.args());
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

/// The form of a line.
#[derive(Clone, Copy, Debug)]
struct Format {
    style: Style,
    show_target: bool,
}

impl Format {
    /// Formats a line, which ends with a line feed. Further lines of the message are indented, so that no
    /// message looks like two.
    fn line(
        &self,
        now: SystemTime,
        level: Level,
        target: &str,
        message: &fmt::Arguments,
    ) -> String {
        let [dim, color, reset] = self.style.codes(level);
        let time = humantime::format_rfc3339_millis(now);
        let [gap, target] = if self.show_target { [" ", target] } else { [""; 2] };
        let mut line = String::with_capacity(USUAL_LENGTH);
        // If a `Display` fails, the line lacks its text.
        _ = write!(line, "{dim}[{reset}{time} {color}{level:<5}{reset}{gap}{target}{dim}]{reset} ");
        _ = write!(Indented(&mut line), "{message}");
        line.push('\n');
        line
    }
}

/// Indents all lines except the first.
struct Indented<'a>(&'a mut String);

impl fmt::Write for Indented<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut lines = text.split('\n');
        self.0.extend(lines.next());
        for line in lines {
            self.0.push_str("\n    ");
            self.0.push_str(line);
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
