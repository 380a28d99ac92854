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

use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::io::Errno;

use crate::descriptor::wait_writable;
use crate::threads;
use filter::Filter;
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
        loop {
            match rustix::io::write(&self.0, bytes) {
                Err(Errno::AGAIN) => wait_writable(&self.0)?,
                result => return Ok(result?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::{self, Receiver, Sender};

    /// 2026-11-23T05:19:54.001Z.
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_411_194_001)
    }

    fn line(style: Style, show_target: bool, level: Level, message: &str) -> String {
        let format = Format { style, show_target };
        format.line(now(), level, "tcpcore::link", &format_args!("{message}"))
    }

    #[test]
    fn a_line_has_the_time_the_level_in_five_columns_and_the_message() {
        let plain = |level, message| line(Style::Plain, false, level, message);
        assert_eq!(plain(Level::Info, "text"), "[2026-11-23T05:19:54.001Z INFO ] text\n");
        assert_eq!(plain(Level::Error, ""), "[2026-11-23T05:19:54.001Z ERROR] \n");
    }

    #[test]
    fn a_line_names_its_target_on_request() {
        let line = line(Style::Plain, true, Level::Warn, "text");
        assert_eq!(line, "[2026-11-23T05:19:54.001Z WARN  tcpcore::link] text\n");
    }

    #[test]
    fn line_feeds_of_a_message_are_followed_by_blanks() {
        let message = "one\ntwo\n\nthree";
        let line = line(Style::Plain, false, Level::Info, message);
        assert_eq!(line, "[2026-11-23T05:19:54.001Z INFO ] one\n    two\n    \n    three\n");
    }

    #[test]
    fn brackets_are_gray_and_each_level_has_its_color() {
        for (level, shown) in [
            (Level::Error, "\x1b[1m\x1b[31mERROR"),
            (Level::Warn, "\x1b[33mWARN "),
            (Level::Info, "\x1b[32mINFO "),
            (Level::Debug, "\x1b[34mDEBUG"),
            (Level::Trace, "\x1b[36mTRACE"),
        ] {
            let expected = format!(
                "\x1b[90m[\x1b[0m2026-11-23T05:19:54.001Z {shown}\x1b[0m\x1b[90m]\x1b[0m text\n"
            );
            assert_eq!(line(Style::Colored, false, level, "text"), expected);
        }
    }

    #[test]
    fn levels_are_colored_on_a_capable_terminal_unless_refused_or_as_rust_log_style_says() {
        for (is_terminal, vars, is_colored) in [
            (true, &[("TERM", "xterm")][..], true),
            (false, &[("TERM", "xterm")], false),
            (true, &[], false),
            (true, &[("TERM", "dumb")], false),
            (true, &[("TERM", "xterm"), ("NO_COLOR", "1")], false),
            (true, &[("TERM", "xterm"), ("NO_COLOR", "")], true),
            (true, &[("TERM", "xterm"), ("RUST_LOG_STYLE", "auto")], true),
            (true, &[("TERM", "xterm"), ("RUST_LOG_STYLE", "")], true),
            (true, &[("TERM", "xterm"), ("RUST_LOG_STYLE", "never")], false),
            (false, &[("NO_COLOR", "1"), ("RUST_LOG_STYLE", "always")], true),
        ] {
            let mut complaints = Vec::new();
            let var = |name| vars.iter().find(|var| var.0 == name).map(|var| var.1.into());
            let style = Style::from_env(var, is_terminal, &mut complaints);
            let expected = if is_colored { Style::Colored } else { Style::Plain };
            assert_eq!((style, complaints), (expected, vec![]), "{is_terminal}, {vars:?}");
        }
    }

    #[test]
    fn another_rust_log_style_is_as_auto_and_complained_of() {
        for (is_terminal, style) in [(true, Style::Colored), (false, Style::Plain)] {
            let mut complaints = Vec::new();
            let var = |name| Some(if name == "NO_COLOR" { "" } else { "NEVER" }.into());
            assert_eq!(Style::from_env(var, is_terminal, &mut complaints), style);
            let complaint = "RUST_LOG_STYLE: \"NEVER\" is ignored, expected auto, always or never";
            assert_eq!(complaints, [complaint]);
        }
    }

    /// An output that takes a moment for each write and passes it on.
    struct Slow(Sender<String>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // So that a flush that does not wait is seen. One that waits does so for any time.
            thread::sleep(Duration::from_millis(20));
            self.0.send(String::from_utf8(bytes.into()).unwrap()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A logger that is not that of the process, and what its thread writes.
    fn logger(filter: Filter) -> (&'static Logger, Receiver<String>) {
        let (sender, written) = mpsc::channel();
        let report = |_, _: Option<&io::Error>| panic!("nothing was dropped");
        let (intake, drain) = queue::queue(CAPACITY, Slow(sender), report);
        thread::spawn(|| drain.run());
        let format = Format { style: Style::Plain, show_target: true };
        let flush_patience = Duration::from_secs(60);
        (Box::leak(Box::new(Logger { filter, format, intake, flush_patience })), written)
    }

    fn log(logger: &Logger, level: Level, message: &str) {
        let mut record = Record::builder();
        logger.log(&record.level(level).target("x").args(format_args!("{message}")).build());
    }

    #[test]
    fn records_that_pass_the_filter_are_written_by_the_end_of_a_flush_with_their_time() {
        let (logger, written) = logger(Filter::new(LevelFilter::Info));
        let before = SystemTime::now();
        log(logger, Level::Debug, "left out");
        log(logger, Level::Info, "taken");
        let after = SystemTime::now();
        assert!(!logger.enabled(&Metadata::builder().level(Level::Debug).build()));
        Log::flush(logger);
        let line = written.try_recv().unwrap();
        let time = line.strip_prefix('[').unwrap().strip_suffix(" INFO  x] taken\n").unwrap();
        let in_millis = |time| humantime::format_rfc3339_millis(time).to_string();
        assert!((in_millis(before)..=in_millis(after)).contains(&time.to_owned()), "{time}");
        assert!(written.try_recv().is_err());
    }

    #[test]
    fn what_was_logged_is_written_when_the_guard_is_dropped() {
        let (logger, written) = logger(Filter::new(LevelFilter::Off));
        logger.write(Level::Error, "x", &format_args!("past the filter"));
        drop(FlushOnDrop(logger));
        assert!(written.try_recv().unwrap().ends_with("ERROR x] past the filter\n"));
    }

    #[test]
    fn a_panic_is_told_with_its_thread_and_the_backtrace_that_was_asked_for() {
        let message = |backtrace| panic_message("worker-6", &"panicked at x:\nwhy", &backtrace);
        let without = "thread 'worker-6' panicked at x:\nwhy";
        assert_eq!(message(Backtrace::disabled()), without);
        let with = message(Backtrace::force_capture());
        assert!(with.strip_prefix(without).unwrap().starts_with("\n  "), "{with}");
    }

    #[test]
    fn dropped_lines_are_told_with_their_number_and_the_reason() {
        let text = "127 log lines were dropped, as stderr was not read fast enough";
        assert_eq!(dropped_text(127, None), text);
        let error = io::Error::other("the disk is full");
        let text = "1 log line was dropped, as stderr did not take it: the disk is full";
        assert_eq!(dropped_text(1, Some(&error)), text);
    }

    #[test]
    fn more_than_a_nonblocking_descriptor_holds_is_written_in_the_end() {
        let (writer, mut reader) = UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        let sent: Vec<u8> = (0..4 << 20).map(|i: u32| i.to_le_bytes()[1]).collect();
        thread::scope(|scope| {
            let received = scope.spawn(move || {
                let mut received = Vec::new();
                reader.read_to_end(&mut received).map(|_| received)
            });
            Waiting(writer).write_all(&sent).unwrap();
            assert!(received.join().unwrap().unwrap() == sent);
        });
    }

    #[test]
    fn a_reader_that_leaves_while_a_write_waits_is_a_broken_pipe() {
        let (writer, reader) = UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        let error = thread::scope(|scope| {
            let writer = scope.spawn(move || Waiting(writer).write_all(&vec![b'6'; 4 << 20]));
            drop(reader);
            writer.join().unwrap().unwrap_err()
        });
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
