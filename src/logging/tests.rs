use super::*;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, Sender};

/// Returns 2026-11-23T05:19:54.001Z.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_411_194_001)
}

fn line(style: Style, show_target: bool, level: Level, message: &str) -> String {
    form_line(Form::Text(style), show_target, level, message)
}

fn form_line(form: Form, show_target: bool, level: Level, message: &str) -> String {
    let format = Format { form, show_target, shard: None };
    format.line(now(), (level, "tcpcore::link", &format_args!("{message}")), &NO_FIELDS)
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
fn further_lines_of_a_message_are_indented() {
    let message = "one\ntwo\n\nthree";
    let line = line(Style::Plain, false, Level::Info, message);
    assert_eq!(line, "[2026-11-23T05:19:54.001Z INFO ] one\n    two\n    \n    three\n");
}

#[test]
fn each_line_for_the_journal_begins_with_its_priority() {
    for (level, priority) in [
        (Level::Error, "<3>"),
        (Level::Warn, "<4>"),
        (Level::Info, "<6>"),
        (Level::Debug, "<7>"),
        (Level::Trace, "<7>"),
    ] {
        let line = form_line(Form::Journal, false, level, "one\ntwo");
        assert_eq!(line, format!("{priority}one\n{priority}    two\n"));
    }
    let line = form_line(Form::Journal, true, Level::Warn, "text");
    assert_eq!(line, "<4>tcpcore::link: text\n");
}

#[test]
fn a_log_format_is_parsed_from_its_name_and_from_nothing_else() {
    for format in LogFormat::ALL {
        assert_eq!(format.name().parse(), Ok(format));
    }
    for other in ["", "JSON", "json ", "logfmt"] {
        assert_eq!(other.parse::<LogFormat>(), Err(UnknownLogFormat));
    }
}

#[test]
fn a_json_line_has_the_fields_of_its_record() {
    let line = |fields: &dyn Source| {
        let record = (Level::Info, "x", &format_args!("text"));
        Format { form: Form::Json, show_target: false, shard: None }.line(now(), record, fields)
    };
    let begin =
        r#"{"time":"2026-11-23T05:19:54.001Z","level":"INFO","target":"x","message":"text""#;
    assert_eq!(line(&NO_FIELDS), format!("{begin}}}\n"));
    assert_eq!(line(&[("worker", 2)]), format!("{begin},\"worker\":2}}\n"));
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
fn levels_are_colored_by_rust_log_style_or_else_on_a_capable_terminal_without_no_color() {
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
fn an_unknown_rust_log_style_is_auto_with_a_complaint() {
    for (is_terminal, style) in [(true, Style::Colored), (false, Style::Plain)] {
        let mut complaints = Vec::new();
        let var = |name| Some(if name == "NO_COLOR" { "" } else { "NEVER" }.into());
        assert_eq!(Style::from_env(var, is_terminal, &mut complaints), style);
        let complaint = "RUST_LOG_STYLE: \"NEVER\" is ignored, expected auto, always or never";
        assert_eq!(complaints, [complaint]);
    }
}

/// An output that delays each write by 20 ms and passes it on.
struct Slow(Sender<String>);

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // With the delay, the test fails if a flush does not wait.
        thread::sleep(Duration::from_millis(20));
        self.0.send(String::from_utf8(bytes.into()).unwrap()).unwrap();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a logger separate from that of the process, and the receiver of its written text.
fn logger(filter: Filter) -> (&'static Logger, Receiver<String>) {
    let (sender, written) = mpsc::channel();
    let report = |_, _: Option<&io::Error>| panic!("nothing was dropped");
    let (intake, drain) = queue::queue(CAPACITY, Slow(sender), report);
    thread::spawn(|| drain.run());
    let format = Format { form: Form::Text(Style::Plain), show_target: true, shard: None };
    let flush_patience = Duration::from_secs(60);
    (Box::leak(Box::new(Logger { filter, format, intake, flush_patience })), written)
}

fn log(logger: &Logger, level: Level, message: &str) {
    let mut record = Record::builder();
    logger.log(&record.level(level).target("x").args(format_args!("{message}")).build());
}

#[test]
fn a_flush_waits_until_records_that_pass_the_filter_are_written_with_their_time() {
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
fn all_logged_lines_are_written_when_the_guard_is_dropped() {
    let (logger, written) = logger(Filter::new(LevelFilter::Off));
    logger.write(Level::Error, "x", &format_args!("past the filter"));
    drop(FlushOnDrop(logger));
    assert!(written.try_recv().unwrap().ends_with("ERROR x] past the filter\n"));
}

#[test]
fn a_panic_message_has_the_thread_and_a_captured_backtrace() {
    let message = |backtrace| panic_message("worker-6", &"panicked at x:\nwhy", &backtrace);
    let without = "thread 'worker-6' panicked at x:\nwhy";
    assert_eq!(message(Backtrace::disabled()), without);
    let with = message(Backtrace::force_capture());
    assert!(with.strip_prefix(without).unwrap().starts_with("\n  "), "{with}");
}

#[test]
fn dropped_lines_are_reported_with_their_number_and_the_reason() {
    let text = "127 log lines were dropped, as stderr was not read fast enough";
    assert_eq!(dropped_text(127, None), text);
    let error = io::Error::other("the disk is full");
    let text = "1 log line was dropped, as stderr did not take it: the disk is full";
    assert_eq!(dropped_text(1, Some(&error)), text);
}

#[test]
fn a_write_of_more_than_a_nonblocking_descriptor_holds_is_completed() {
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
fn a_reader_that_closes_while_a_write_waits_is_a_broken_pipe() {
    let (writer, reader) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    let error = thread::scope(|scope| {
        let writer = scope.spawn(move || Waiting(writer).write_all(&vec![b'6'; 4 << 20]));
        drop(reader);
        writer.join().unwrap().unwrap_err()
    });
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}
