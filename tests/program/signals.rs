//! Tests the signals that end the program, and those that must not.

use std::io::{Read, Write};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{kill_process, kill_process_group};

use crate::common::{DEADLINE, Pid, Program, Server, Signal, with_default_signals};
use crate::flow::send_until_held_back;
use crate::{AT_ONCE, Down, Totals, addresses, by_shell, lines_of, start, tcpcore};

/// The time in which further signals count as repeats of the first, by contract. Tests wait for it, since
/// they test the time itself.
const REPEAT_WINDOW: Duration = Duration::from_millis(500);

fn assert_ends_well(signal: Signal) {
    let servers = [Server::bind(), Server::bind()];
    let down = Down::new();
    let mut all = addresses(&servers);
    all.push(down.address);
    let mut program = start(&format!("-p 2 {AT_ONCE}"), all);
    let mut peers = [servers[0].accept(), servers[1].accept()];
    for peer in &mut peers {
        peer.send("6\n7\n12\n1");
        assert_eq!(program.next_line().as_deref(), Some("6"));
        assert_eq!(program.next_line().as_deref(), Some("12"));
    }
    program.signal(signal);
    assert_eq!(program.wait_exit().code(), Some(0));
    assert_eq!(program.next_line(), None);
    let totals = Totals::of(&program);
    assert_eq!((totals.get("servers"), totals.get("connects")), (3, 2));
    assert_eq!((totals.get("lines"), totals.get("bytes")), (6, 16));
    assert_eq!((totals.get("truncated"), totals.get("records printed")), (2, 4));
    for peer in peers {
        peer.wait_closed();
    }
}

#[test]
fn sigint_ends_with_one_line_of_totals_and_status_0() {
    assert_ends_well(Signal::INT);
}

#[test]
fn sigterm_ends_with_one_line_of_totals_and_status_0() {
    assert_ends_well(Signal::TERM);
}

#[test]
fn sighup_ends_with_one_line_of_totals_and_status_0() {
    assert_ends_well(Signal::HUP);
}

#[test]
fn the_log_names_the_signal_before_the_totals() {
    let down = Down::new();
    // There are many runs, since a program that does not wait for the line would lose it in a few of a
    // hundred.
    for signal in [Signal::INT, Signal::TERM, Signal::HUP].repeat(20) {
        let mut program = start("", [&down]);
        program.wait_for_log("Connection refused by");
        program.signal(signal);
        assert_eq!(program.wait_exit().code(), Some(0));
        let [.., stopping, totals] = program.log() else { panic!("{:?}", program.log()) };
        let name =
            format!("Stopping on {}; a second signal after 0.5 s ends at once", name(signal));
        assert!(stopping.ends_with(&name), "{stopping}");
        assert!(totals.contains("Totals: "), "{totals}");
    }
}

fn name(signal: Signal) -> &'static str {
    match signal {
        Signal::HUP => "SIGHUP",
        Signal::INT => "SIGINT",
        Signal::TERM => "SIGTERM",
        other => panic!("{other:?} does not stop the program"),
    }
}

#[test]
fn a_signal_ends_a_program_that_was_never_connected() {
    let down = Down::new();
    let mut program = start("--initial-backoff 1h --max-backoff 1h", [&down]);
    program.wait_for_log("Connection refused by");
    assert_eq!(crate::stop(&mut program).get("failures"), 1);
    assert_eq!(program.next_line(), None);
}

#[test]
fn sigusr1_and_sigusr2_change_nothing() {
    let server = Server::bind();
    let mut program = start("", [server.address()]);
    let mut peer = server.accept();
    for signal in [Signal::USR1, Signal::USR2] {
        peer.send("6\n");
        assert_eq!(program.next_line().as_deref(), Some("6"));
        program.signal(signal);
    }
    peer.send("12\n");
    assert_eq!(program.next_line().as_deref(), Some("12"));
    assert_eq!(crate::stop(&mut program).get("records printed"), 3);
}

/// Numbers that fill more than a pipe, and less than the ring.
const NUMBERS: usize = 20_000;

/// Starts a program that has read [`NUMBERS`] numbers and cannot print them all, as its stdout is not read.
fn blocked(server: &Server) -> (Program, ChildStdout) {
    let (mut program, stdout) = Program::spawn_unread(&mut tcpcore("", [server.address()]));
    let text: String = (0..NUMBERS).map(|index| format!("{}\n", index * 6)).collect();
    server.accept().send(text + "x\n");
    program.wait_for_log("Malformed line");
    (program, stdout)
}

/// Reads stdout, and asserts that all numbers are printed.
fn assert_prints_all(mut program: Program, stdout: ChildStdout) {
    assert!(lines_of(stdout).eq((0..NUMBERS).map(|index| (index * 6).to_string())));
    assert_eq!(program.wait_exit().code(), Some(0));
    assert_eq!(Totals::of(&program).get("records printed"), NUMBERS as u64);
}

#[test]
fn numbers_that_were_read_before_a_signal_are_printed_after_it() {
    let server = Server::bind();
    let (mut program, stdout) = blocked(&server);
    program.signal(Signal::TERM);
    program.wait_for_log("Stopping on SIGTERM");
    assert_prints_all(program, stdout);
}

#[test]
fn numbers_that_were_read_before_repeated_signals_are_printed_to_a_slow_reader() {
    for pause in [Duration::ZERO, Duration::from_millis(5)] {
        let server = Server::bind();
        let (mut program, stdout) = blocked(&server);
        for signal in [Signal::TERM, Signal::TERM, Signal::HUP] {
            program.signal(signal);
            thread::sleep(pause);
        }
        program.wait_for_log("Stopping on SIG");
        assert_prints_all(program, stdout);
    }
}

fn assert_second_signal_ends_at_once(first: Signal, second: Signal, status: i32) {
    let server = Server::bind();
    let (mut program, _stdout) = blocked(&server);
    program.signal(first);
    program.wait_for_log(&format!("Stopping on {}", name(first)));
    thread::sleep(REPEAT_WINDOW);
    program.signal(second);
    assert_eq!(program.wait_exit().code(), Some(status));
}

#[test]
fn a_second_sigint_after_500_ms_ends_at_once_with_130_though_stdout_is_blocked() {
    assert_second_signal_ends_at_once(Signal::INT, Signal::INT, 130);
}

#[test]
fn a_second_sigterm_after_500_ms_ends_at_once_with_143_though_stdout_is_blocked() {
    assert_second_signal_ends_at_once(Signal::INT, Signal::TERM, 143);
}

#[test]
fn a_second_sighup_after_500_ms_ends_at_once_with_129_though_stdout_is_blocked() {
    assert_second_signal_ends_at_once(Signal::TERM, Signal::HUP, 129);
}

#[test]
fn a_second_signal_ends_at_once_though_stdout_and_log_are_not_read() {
    let server = Server::bind();
    let (_unread, pipe) = std::io::pipe().unwrap();
    let mut command = with_default_signals(&tcpcore("", [server.address()]));
    command.stdin(Stdio::null()).stdout(pipe.try_clone().unwrap()).stderr(pipe);
    let mut child = KilledOnDrop(command.spawn().unwrap());
    let mut peer = server.accept();
    send_until_held_back(&mut peer);
    let pid = Pid::from_child(&child.0);
    kill_process(pid, Signal::INT).unwrap();
    // The log cannot show that the signal was handled. The closed connection does.
    peer.wait_closed();
    thread::sleep(REPEAT_WINDOW);
    kill_process(pid, Signal::TERM).unwrap();
    let status = child.wait();
    assert_eq!(status.code(), Some(143), "{status}");
}

struct KilledOnDrop(Child);

impl KilledOnDrop {
    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it did not end");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        // Both fail for a child that has been waited for.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Servers that send numbers as fast as they are taken.
struct Feeds {
    servers: [Server; 4],
    threads: Vec<JoinHandle<()>>,
}

/// The line that they send. All lines have its length, which reveals a partial line.
const LINE: &str = "1234567\n";

impl Feeds {
    fn bind() -> Feeds {
        Feeds { servers: [(); 4].map(|()| Server::bind()), threads: Vec::new() }
    }

    /// Sends numbers to a program that was just started, until it ends.
    fn feed(&mut self) {
        for server in &self.servers {
            let mut peer = server.accept();
            let lines = LINE.repeat(1 << 13);
            self.threads.push(thread::spawn(move || {
                while peer.stream().write_all(lines.as_bytes()).is_ok() {}
            }));
        }
    }
}

/// Starts `command`, a program that reads `feeds` and prints all numbers. Ends it by `end` once it prints.
/// Asserts that all lines that it has read are printed whole.
fn assert_ends_whole(command: &mut Command, feeds: &mut Feeds, end: impl FnOnce(&mut Program)) {
    let (mut program, mut stdout) = Program::spawn_unread(command);
    // `timeout` creates a process group, which would outlive it.
    let group = KilledGroup(Some(program.pid()));
    feeds.feed();
    let mut text = vec![0; LINE.len()];
    stdout.read_exact(&mut text).unwrap();
    let reader = thread::spawn(move || {
        stdout.read_to_end(&mut text).unwrap();
        text
    });
    end(&mut program);
    let status = program.wait_exit();
    group.has_ended();
    let text = reader.join().unwrap();
    assert_eq!(status.code(), Some(0), "{status} {:?}", program.log());
    let totals = Totals::of(&program);
    assert!(text.chunks(LINE.len()).all(|line| line == LINE.as_bytes()), "a line was truncated");
    let lines = (text.len() / LINE.len()) as u64;
    assert_eq!((totals.get("lines"), totals.get("records printed")), (lines, lines));
}

/// The process group of a program, if the program has created one.
struct KilledGroup(Option<Pid>);

impl KilledGroup {
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for KilledGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[test]
fn signals_0_and_1_and_5_ms_apart_are_one_stop() {
    for pause in [0, 1, 5] {
        for signals in [[Signal::TERM, Signal::TERM], [Signal::INT, Signal::TERM]].repeat(3) {
            let mut feeds = Feeds::bind();
            let mut command = tcpcore("-p 2 -d 1", addresses(&feeds.servers));
            assert_ends_whole(&mut command, &mut feeds, |program| {
                program.signal(signals[0]);
                thread::sleep(Duration::from_millis(pause));
                // The program may have ended, but it has not been reaped.
                kill_process(program.pid(), signals[1]).unwrap();
            });
        }
    }
}

/// `timeout` signals its child and then its whole group: when its time is up or, as here, when it gets a
/// signal itself.
#[test]
#[cfg(target_os = "linux")]
fn runs_under_timeout_end_with_their_totals_and_whole_lines() {
    for _ in 0..12 {
        let mut feeds = Feeds::bind();
        let program = tcpcore("-p 2 -d 1", addresses(&feeds.servers));
        let mut timeout = Program::command("timeout");
        timeout.arg("1h").arg(program.get_program()).args(program.get_args());
        assert_ends_whole(&mut timeout, &mut feeds, |timeout| timeout.signal(Signal::TERM));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let server = Server::bind();
    let program = tcpcore("", [server.address()]);
    let mut program = Program::spawn(&mut by_shell("trap '' HUP INT;", &program));
    let mut peer = server.accept();
    for signal in [Signal::HUP, Signal::INT] {
        peer.send("6\n");
        assert_eq!(program.next_line().as_deref(), Some("6"));
        program.signal(signal);
    }
    peer.send("12\n");
    assert_eq!(program.next_line().as_deref(), Some("12"));
    assert_eq!(crate::stop(&mut program).get("records printed"), 3);
    let stops = program.log().iter().filter(|line| line.contains("Stopping on"));
    let stops: Vec<_> = stops.collect();
    assert_eq!(stops.len(), 1, "{stops:?}");
    assert!(stops[0].contains("Stopping on SIGTERM"), "{stops:?}");
}
