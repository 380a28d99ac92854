//! Tests that the log never delays the data, that its lines arrive or are counted, and in which formats they are.

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, PipeReader, PipeWriter, Write};
#[cfg(target_os = "linux")]
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tcpcore::internals::codec::number::DecoderPath;
use tcpcore::internals::logging::{self, Options};

use crate::common::{DEADLINE, Pid, Program, Server, Signal};
use crate::{Down, addresses, lines_of, tcpcore};

/// A program whose stderr is left to the test. It does not outlive its test.
struct Unread {
    child: Child,
    stdout: Box<dyn Iterator<Item = String>>,
}

impl Unread {
    fn spawn(mut command: Command, stderr: PipeWriter) -> Unread {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().unwrap();
        let stdout = Box::new(lines_of(child.stdout.take().unwrap()));
        Unread { child, stdout }
    }

    fn signal(&mut self, signal: Signal) {
        assert!(matches!(self.child.try_wait(), Ok(None)), "it ended before the signal");
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the program has no thread of this name.
    fn wait_for_the_end_of(&self, thread: &str) {
        let has_thread = || {
            let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
            // A thread that ends meanwhile has no name any more.
            let names =
                tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
            names.into_iter().any(|name| name.trim_end() == thread)
        };
        let deadline = Instant::now() + DEADLINE;
        while has_thread() {
            assert!(Instant::now() < deadline, "{thread} does not end");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for the program to end by itself.
    fn wait_exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status,
                None if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
                None => panic!("it did not end"),
            }
        }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // Both fail only for a child that has been waited for.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Reads lines up to the end of a pipe.
fn read_lines(pipe: PipeReader) -> JoinHandle<Vec<String>> {
    thread::spawn(move || BufReader::new(pipe).lines().map(Result::unwrap).collect())
}

/// Creates a pipe whose writer does or does not block, as another process may have set it.
fn pipe(is_blocking: bool) -> (PipeReader, PipeWriter) {
    let (reader, writer) = io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, !is_blocking).unwrap();
    (reader, writer)
}

/// The time at which the log is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    FromTheStart,
    AfterTheNumbers,
    /// After all servers are read to their ends, when only the totals follow.
    BeforeTheTotals,
}

/// Returns the log of a job with this many short connections, each of which logs the same number of lines. They
/// are those of mio, because those of connections are limited. Asserts that all numbers arrive and all lines are
/// whole.
fn flood(connections: usize, is_blocking: bool, reading: Reading) -> Vec<String> {
    // A listener queues 128 connections.
    const SERVERS: usize = 40;
    let (steady, servers) = (Server::bind(), [(); SERVERS].map(|()| Server::bind()));
    let mut targets = vec![steady.address()];
    targets.extend(addresses(&servers).into_iter().cycle().take(connections));
    let (reader, writer) = pipe(is_blocking);
    let mut command = tcpcore("-p 1 --once", targets);
    command.env("RUST_LOG", "info,tcpcore::link=off,mio=trace");
    let mut program = Unread::spawn(command, writer);
    let read_log = match reading {
        Reading::FromTheStart => Ok(read_lines(reader)),
        Reading::AfterTheNumbers | Reading::BeforeTheTotals => Err(reader),
    };

    let mut steady_peer = steady.accept();
    for server in servers.iter().cycle().take(connections) {
        let mut peer = server.accept();
        peer.send("6\n");
        peer.close();
    }
    for _ in 0..connections {
        assert_eq!(program.stdout.next().as_deref(), Some("6"));
    }
    steady_peer.send("12\n");
    assert_eq!(program.stdout.next().as_deref(), Some("12"));
    let log = match reading {
        Reading::BeforeTheTotals => {
            steady_peer.close();
            program.wait_for_the_end_of("worker-0");
            read_log.unwrap_or_else(read_lines)
        }
        _ => {
            let log = read_log.unwrap_or_else(read_lines);
            steady_peer.close();
            log
        }
    };
    assert_eq!(program.wait_exit().code(), Some(0));
    let log = log.join().unwrap();
    for line in &log {
        assert!(line.starts_with("[20") && line.matches("Z ").count() == 1, "{line}");
    }
    let last = log.last().unwrap();
    assert!(last.ends_with(" records printed"), "the totals are the last line: {last}");
    log
}

/// Returns the number of dropped lines, if this line reports it.
fn dropped(line: &str) -> Option<usize> {
    let (text, _) = line.split_once(" dropped, as stderr was not read fast enough")?;
    let count = text.split_once("WARN ] ")?.1.split_once(" log line")?.0;
    Some(count.parse().unwrap())
}

/// Connections for which the log fits in the queue, but not in the pipe alone.
const SOME: usize = 200;

fn assert_complete(is_blocking: bool) {
    let some = flood(SOME, is_blocking, Reading::FromTheStart).len();
    assert_eq!(flood(SOME, is_blocking, Reading::AfterTheNumbers).len(), some);
    let half = flood(SOME / 2, is_blocking, Reading::FromTheStart);
    assert!(!half.iter().any(|line| dropped(line).is_some()));
    let each = (some - half.len()) / (SOME / 2);
    assert_eq!(some - half.len(), each * SOME / 2);

    // This is more than the pipe and the queue hold.
    let many = 20 * SOME;
    let log = flood(many, is_blocking, Reading::AfterTheNumbers);
    let reports: Vec<usize> = log.iter().filter_map(|line| dropped(line)).collect();
    assert!(!reports.is_empty());
    let arrived = log.len() - reports.len();
    assert_eq!(arrived + reports.iter().sum::<usize>(), some + (many - SOME) * each);
}

#[test]
fn an_unread_log_delays_no_number_and_its_lines_arrive_or_are_counted() {
    assert_complete(true);
}

#[test]
#[cfg(target_os = "linux")]
fn the_totals_are_logged_though_the_log_was_full() {
    let log = flood(20 * SOME, true, Reading::BeforeTheTotals);
    assert!(log.iter().any(|line| dropped(line).is_some()), "it was not full");
}

#[test]
fn a_nonblocking_stderr_loses_no_line_without_counting_it() {
    assert_complete(false);
}

#[test]
#[cfg(target_os = "linux")]
fn a_program_that_waits_for_stderr_uses_no_processor_time() {
    for is_blocking in [true, false] {
        let (_reader, writer) = full_pipe(is_blocking);
        let server = Server::bind();
        let mut program = Unread::spawn(tcpcore("", [server.address()]), writer);
        let mut peer = server.accept();
        peer.send("6\n");
        assert_eq!(program.stdout.next().as_deref(), Some("6"));
        // Inactivity takes time to observe.
        let is_idle = |_| {
            let before = processor_time(&program);
            thread::sleep(Duration::from_secs(1));
            processor_time(&program) == before
        };
        assert!((0..10).any(is_idle), "is_blocking: {is_blocking}");
    }
}

/// Returns the ticks of a program in user and in system mode.
#[cfg(target_os = "linux")]
fn processor_time(program: &Unread) -> Vec<String> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", program.child.id())).unwrap();
    // The fields follow the name, which is in parentheses.
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    fields.skip(11).take(2).map(str::to_owned).collect()
}

/// Creates a full pipe.
fn full_pipe(is_blocking: bool) -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe(false);
    let error = io::copy(&mut io::repeat(b'\n'), &mut writer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    // Single bytes fill the last gap.
    while writer.write(b"\n").is_ok() {}
    rustix::io::ioctl_fionbio(&writer, !is_blocking).unwrap();
    (reader, writer)
}

/// Asserts that a program whose stderr is `pipe` prints numbers and ends on a signal.
fn assert_works(reader: Option<PipeReader>, writer: PipeWriter) {
    let server = Server::bind();
    let mut program = Unread::spawn(tcpcore("-v", [server.address()]), writer);
    let mut peer = server.accept();
    for number in ["6", "12", "18"] {
        peer.send(format!("{number}\n"));
        assert_eq!(program.stdout.next().as_deref(), Some(number));
    }
    program.signal(Signal::TERM);
    assert_eq!(program.wait_exit().code(), Some(0));
    assert_eq!(program.stdout.next(), None);
    drop(reader);
}

#[test]
fn a_full_stderr_delays_neither_the_numbers_nor_the_end() {
    for is_blocking in [true, false] {
        let (reader, writer) = full_pipe(is_blocking);
        assert_works(Some(reader), writer);
    }
}

#[test]
fn a_stderr_without_a_reader_delays_neither_the_numbers_nor_the_end() {
    for is_blocking in [true, false] {
        let (reader, writer) = pipe(is_blocking);
        drop(reader);
        assert_works(None, writer);
    }
}

#[test]
fn queued_log_lines_are_written_before_the_end() {
    for is_blocking in [true, false] {
        let (reader, writer) = full_pipe(is_blocking);
        let server = Server::bind();
        let mut program = Unread::spawn(tcpcore("", [server.address()]), writer);
        let mut peer = server.accept();
        peer.send("6\n");
        assert_eq!(program.stdout.next().as_deref(), Some("6"));
        let log = read_lines(reader);
        program.signal(Signal::TERM);
        assert_eq!(program.wait_exit().code(), Some(0));
        let log = log.join().unwrap();
        for part in ["Trying to connect to", "Connected successfully to", "Stopping on SIGTERM"] {
            assert!(log.iter().any(|line| line.contains(part)), "{part}");
        }
        assert!(log.last().unwrap().ends_with(" 1 record printed"));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_stderr_that_is_closed_or_full_changes_neither_the_numbers_nor_the_status() {
    for redirection in ["2>&-", "2>/dev/full"] {
        let script = format!("exec \"$0\" --once \"$@\" {redirection}");
        let program = |addresses: &[String]| {
            let mut shell = Program::command("sh");
            shell.args(["-c", &script, env!("CARGO_BIN_EXE_tcpcore")]).args(addresses);
            Program::spawn(&mut shell)
        };
        let (server, down) = (Server::bind(), Down::new());
        for (down, status) in [(None, 0), (Some(down.to_string()), 1)] {
            let mut list = vec![server.address().to_string()];
            list.extend(down);
            let mut program = program(&list);
            let mut peer = server.accept();
            peer.send("6\n7\n12\n");
            peer.close();
            assert_eq!(program.remaining_lines(), ["6", "12"], "{redirection}");
            assert_eq!(program.wait_exit().code(), Some(status), "{redirection}");
        }
    }
}

#[test]
fn a_bad_part_of_rust_log_is_named_and_the_rest_applies() {
    let server = Server::bind();
    let mut command = tcpcore("", [server.address()]);
    let value = "error,tcpcore=loud,debgu";
    command.env("RUST_LOG", value).env("RUST_LOG_STYLE", "x");
    let mut program = Program::spawn(&mut command);
    for expected in [
        "RUST_LOG: \"tcpcore=loud\" is ignored, expected module=level",
        "RUST_LOG: \"debgu\" is ignored, expected a level (off, error",
        "RUST_LOG_STYLE: \"x\" is ignored, expected auto, always or never",
    ] {
        assert!(program.wait_for_log(expected).contains("Z WARN ] RUST_LOG"));
    }
    let _peer = server.accept();
    program.signal(Signal::TERM);
    assert_eq!(program.wait_exit().code(), Some(0));
    assert_eq!(program.log().len(), 3, "the others are below error: {:?}", program.log());
}

#[test]
fn verbose_names_the_path_of_decoding_which_the_environment_may_choose() {
    for path in DecoderPath::ALL {
        let server = Server::bind();
        let mut command = tcpcore("-v", [server.address()]);
        command.env("TCPCORE_DECODER", path.name());
        let mut program = Program::spawn(&mut command);
        if DecoderPath::available().any(|available| available == path) {
            program.wait_for_log(&format!("DEBUG] Decoding with {path}"));
            let mut peer = server.accept();
            peer.send("5\n6\n-12\r\n");
            assert_eq!(program.next_line().as_deref(), Some("6"));
            assert_eq!(program.next_line().as_deref(), Some("-12"));
            program.signal(Signal::TERM);
            assert_eq!(program.wait_exit().code(), Some(0));
        } else {
            program.wait_for_log(&format!(
                "tcpcore: TCPCORE_DECODER: this machine has no {path}, expected one of "
            ));
            assert_eq!(program.wait_exit().code(), Some(2));
        }
    }
}

#[test]
fn with_flags_rust_log_is_ignored() {
    let server = Server::bind();
    let mut command = tcpcore("-q", [server.address()]);
    command.env("RUST_LOG", "debug,debgu");
    let mut program = Program::spawn(&mut command);
    let _peer = server.accept();
    program.signal(Signal::TERM);
    assert_eq!(program.wait_exit().code(), Some(0));
    assert_eq!(program.log(), [""; 0]);
}

#[test]
fn rust_log_style_decides_whether_levels_are_colored() {
    for (style, begin) in [("always", "\x1b[90m[\x1b[0m20"), ("auto", "[20"), ("never", "[20")] {
        let server = Server::bind();
        let mut command = tcpcore("", [server.address()]);
        command.env("RUST_LOG_STYLE", style).env("TERM", "xterm").env_remove("NO_COLOR");
        let mut program = Program::spawn(&mut command);
        program.wait_for_log("Connected successfully to");
        program.signal(Signal::TERM);
        assert_eq!(program.wait_exit().code(), Some(0));
        for line in program.log() {
            assert!(line.starts_with(begin), "{line:?}");
        }
    }
}

/// The variable that is set for the child of the test below.
const PANICKING: &str = "TCPCORE_TEST_PANICKING";

/// No input makes the program panic, so this test runs itself as a child that panics.
#[test]
fn a_panic_is_logged_at_any_level_and_its_thread_unwinds() {
    if std::env::var_os(PANICKING).is_some() {
        return log_a_panic();
    }
    for (backtrace, is_shown) in [("0", false), ("1", true)] {
        let name = "log::a_panic_is_logged_at_any_level_and_its_thread_unwinds";
        let mut child = Program::command(std::env::current_exe().unwrap().to_str().unwrap());
        child.args([name, "--exact", "--nocapture"]).env(PANICKING, "1");
        child.env("RUST_BACKTRACE", backtrace);
        let mut child = Program::spawn(&mut child);
        assert_eq!(child.wait_exit().code(), Some(0));
        let log = child.log();
        assert!(
            log[0].contains("Z ERROR] thread 'worker-6' panicked at tests/program/"),
            "{log:?}"
        );
        assert_eq!(log[1], "    why");
        assert_eq!(log.len() > 2, is_shown, "{log:?}");
        assert!(log[1..].iter().all(|line| line.starts_with("    ")), "{log:?}");
    }
}

fn log_a_panic() {
    let _flushed =
        logging::init(Options { level: Some(log::LevelFilter::Off), ..Options::default() });
    let worker = thread::Builder::new().name("worker-6".into());
    let worker = worker.spawn(|| panic!("why")).unwrap();
    assert!(worker.join().is_err());
}

/// Returns the address of one of many servers that are down. They share a port, which `down` holds.
#[cfg(target_os = "linux")]
fn one_of_many(down: &Down, number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    SocketAddr::from(([127, 1, high, low], down.address.port()))
}

#[test]
#[cfg(target_os = "linux")]
fn of_two_thousand_refused_attempts_a_hundred_a_second_are_logged_and_the_others_counted() {
    const SERVERS: u64 = 2000;
    let down = Down::new();
    let servers = (0..2000).map(|number| one_of_many(&down, number));
    let start = Instant::now();
    // No retry ends the silence after the burst.
    let mut program = crate::start("-p 2 --initial-backoff 1h --max-backoff 1h", servers);
    for (logged, counted) in
        [("Connection refused by", " more failure"), ("Trying to connect to", " more attempt")]
    {
        let mut left_out = 0;
        let mut summaries = 0;
        loop {
            // At the end of the burst, a summary follows without another notice.
            let summary = program.wait_for_log(counted);
            summaries += 1;
            let (_, count) = summary.split_once("Not logged: ").unwrap();
            left_out += count.split_once(counted).unwrap().0.parse::<u64>().unwrap();
            let (_, named) = summary.split_once(", such as ").unwrap();
            assert!(named.split(", ").all(|server| server.starts_with("127.1.")), "{summary}");
            let lines = program.log().iter().filter(|line| line.contains(logged)).count() as u64;
            let seconds = start.elapsed().as_secs();
            assert!(lines <= 100 * (seconds + 1), "{lines} lines in {seconds} s");
            assert!(summaries <= seconds + 1, "{summaries} summaries in {seconds} s");
            assert!(lines + left_out <= SERVERS, "{lines} + {left_out}");
            if lines + left_out == SERVERS {
                break;
            }
        }
    }
    assert_eq!(crate::stop(&mut program).get("failures"), SERVERS);
}

#[test]
#[cfg(target_os = "linux")]
fn the_last_summary_precedes_the_totals() {
    let down = Down::new();
    let servers = (0..500).map(|number| one_of_many(&down, number));
    let mut program = crate::start("--once -q", servers);
    assert_eq!(program.wait_exit().code(), Some(1));
    let count = |line: &String| {
        let (_, count) = line.split_once("Not logged: ")?;
        count.split_once(" more failure")?.0.parse::<usize>().ok()
    };
    let left_out: usize = program.log().iter().filter_map(count).sum();
    let is_failure = |line: &&String| line.contains("Connection refused by");
    assert_eq!(program.log().iter().filter(is_failure).count() + left_out, 500);
    assert!(!program.log().iter().any(|line| line.contains("attempts")), "-q has no attempts");
}

#[test]
fn each_line_of_the_json_log_is_an_object_with_the_facts_as_fields() {
    let (server, down) = (Server::bind(), Down::new());
    let list = [server.address().to_string(), down.to_string()];
    let mut program = crate::start("--once -v --log-format json", list);
    let mut peer = server.accept();
    peer.send("x\"\\\x01\n6\n");
    peer.close();
    assert_eq!(program.wait_exit().code(), Some(1));
    let log: Vec<serde_json::Value> =
        program.log().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &log {
        let time = line["time"].as_str().unwrap();
        assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z'), "{line}");
        assert!(["WARN", "INFO", "DEBUG"].contains(&line["level"].as_str().unwrap()), "{line}");
        assert!(line["target"].as_str().unwrap().starts_with("tcpcore"), "{line}");
        assert!(line["message"].is_string(), "{line}");
    }
    let line = |begin: &str| {
        let mut lines =
            log.iter().filter(|line| line["message"].as_str().unwrap().starts_with(begin));
        lines.next().unwrap_or_else(|| panic!("no {begin:?} in {log:?}"))
    };
    let refused = line("Connection refused by");
    assert_eq!(refused["server"], down.to_string());
    assert_eq!(
        (&refused["was_connected"], &refused["error"]),
        (&false.into(), &"connection refused".into())
    );
    let connected = line("Connected successfully to");
    assert_eq!(
        (&connected["server"], &connected["failures"]),
        (&server.address().to_string().into(), &0.into())
    );
    assert!(line("Malformed line")["error"].as_str().unwrap().contains("unexpected 'x'"));
    line("Totals: ");
}

#[test]
fn lines_for_the_journal_have_a_priority_instead_of_the_time() {
    for (is_named, format) in [(true, "text"), (false, "text"), (true, "json")] {
        let (reader, writer) = pipe(true);
        let stat = rustix::fs::fstat(&writer).unwrap();
        let inode = if is_named { stat.st_ino } else { stat.st_ino + 1 };
        let down = Down::new();
        let mut command = tcpcore(&format!("--once --log-format {format}"), [&down]);
        command.env("JOURNAL_STREAM", format!("{}:{inode}", stat.st_dev));
        command.env("RUST_LOG_STYLE", "always");
        let mut program = Unread::spawn(command, writer);
        let log = read_lines(reader);
        assert_eq!(program.wait_exit().code(), Some(1));
        let log = log.join().unwrap();
        let begins = |text: &str| log.iter().any(|line| line.starts_with(text));
        let is_journal = is_named && format == "text";
        assert_eq!(begins("<6>Trying to connect to 127."), is_journal, "{log:?}");
        assert_eq!(begins("<4>Connection refused by 127."), is_journal, "{log:?}");
        let begin = if is_journal {
            "<"
        } else if format == "json" {
            "{\"time\""
        } else {
            "\x1b["
        };
        assert!(log.iter().all(|line| line.starts_with(begin)), "{log:?}");
    }
}
