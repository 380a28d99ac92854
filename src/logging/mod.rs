//! Turns log records into lines, which one thread writes to stderr.
//!
//! A thread that logs never waits for the reader of stderr. It formats its line and puts it into a
//! bounded queue. A full queue drops the line and counts it; a later line reports the count. Lines of
//! one thread stay in order. The time of a line is that of its record.
//!
//! `RUST_LOG` is a list of levels, separated by commas: `debug` for all modules, `tcpcore::link=off` for
//! some. `RUST_LOG_STYLE` is `auto`, `always` or `never`. With `auto`, the default, levels are colored if
//! stderr is a terminal, `NO_COLOR` is unset or empty, and `TERM` is set and not `dumb`.

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

/// The most bytes of lines that wait for stderr: about 5,000 lines of the usual length. The lines of
/// 2,500 reconnects fit while the log thread does not run. The memory is used only while lines wait.
const CAPACITY: u64 = 1 << 20;

const _: () = assert!(CAPACITY >= 256 << 10, "the lines of a busy start fit");

/// How long the end of the program, or of a thread that panics, waits for stderr to take more of the last
/// lines. One that is stuck delays the end by this.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// The name of the thread that writes.
const THREAD: &str = "log";

/// The bytes that are allocated for a line at first. Most lines fit; longer ones allocate again.
const USUAL_LENGTH: usize = 128;

/// Selects the records that are logged and the form of their lines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The least severe level, of all modules. `None`: `RUST_LOG` decides, or else it is info.
    pub level: Option<LevelFilter>,
    /// Whether a line names the module that it comes from.
    pub show_target: bool,
}

/// Starts the log thread and makes it the logger of the process. Panics are logged from now on, too.
///
/// Logs a warning about each bad part of `RUST_LOG` and `RUST_LOG_STYLE`, whatever the level.
///
/// # Errors
///
/// The system grants no thread, or the process has a logger already.
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

/// Waits, when dropped, until stderr has taken the lines that were logged before. It waits for a second
/// after the last line that stderr took, and ten seconds in all.
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
    /// Logs past the filter.
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
        // The lines that are not written by then are lost.
        _ = self.intake.flush(self.flush_patience);
    }
}

/// Sends panic messages through the log, past its filter.
///
/// The standard hook writes to stderr itself: a thread would wait there for the reader of the log,
/// before it unwinds and stops the job, and its text could end up within a line of the log.
fn log_panics(logger: &'static Logger) {
    let standard_hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("<unnamed>");
        if name == THREAD {
            // Nothing drains the queue any more.
            return standard_hook(info);
        }
        let message = panic_message(name, info, &Backtrace::capture());
        logger.write(Level::Error, module_path!(), &format_args!("{message}"));
        // The process may abort before anything else flushes. This thread reads no more data.
        logger.flush();
    }));
}

/// Says what the standard hook would, with a backtrace if `RUST_BACKTRACE` asks for it.
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
    /// Formats a line, which ends with a line feed. Each line feed within the message is followed by
    /// blanks, so that no message looks like two.
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
        // A `Display` that fails leaves a line that lacks its text.
        _ = write!(line, "{dim}[{reset}{time} {color}{level:<5}{reset}{gap}{target}{dim}]{reset} ");
        _ = write!(Indented(&mut line), "{message}");
        line.push('\n');
        line
    }
}

/// Indents each line but the first.
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
    /// Decides by the environment, which `var` reads, and by whether stderr is a terminal.
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

    /// The escape sequences of brackets and of the level, and what ends them.
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

/// Stderr in the program. Its writes wait until something can be written, even if the descriptor does not block.
///
/// Whether it blocks is set in the open file, which other processes share (a shell's terminal,
/// `ssh`), so any of them may change it at any time. The lock of std's stderr is not taken: a thread
/// that holds it may be stuck in a write of its own.
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
