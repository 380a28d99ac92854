//! Ending.

use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::common::{DEADLINE, Pid, Program, Server, Signal};
use crate::flow::send_until_held_back;
use crate::{AT_ONCE, Down, Totals, addresses, lines_of, start, tcpcore};

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
    assert_eq!((totals.get("cut"), totals.get("numbers printed")), (2, 4));
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
fn a_signal_ends_a_program_that_was_never_connected() {
    let down = Down::new();
    let mut program = start("--initial-backoff 1h --max-backoff 1h", [&down]);
    program.wait_for_log("Connection refused by");
    assert_eq!(crate::stop(&mut program).get("failures"), 1);
    assert_eq!(program.next_line(), None);
}

/// So many numbers are more than a pipe holds, and less than the ring.
const NUMBERS: usize = 20_000;

/// A program that has read [`NUMBERS`] numbers and cannot print them all, as nobody reads its stdout.
fn stuck(server: &Server) -> (Program, ChildStdout) {
    let (mut program, stdout) = Program::spawn_unread(&mut tcpcore("", [server.address()]));
    let text: String = (0..NUMBERS).map(|index| format!("{}\n", index * 6)).collect();
    server.accept().send(text + "x\n");
    program.wait_for_log("Malformed line");
    (program, stdout)
}

#[test]
fn what_was_read_before_a_signal_is_printed_after_it() {
    let server = Server::bind();
    let (mut program, stdout) = stuck(&server);
    program.signal(Signal::TERM);
    program.wait_for_log("Stopping on SIGTERM");
    assert!(lines_of(stdout).eq((0..NUMBERS).map(|index| (index * 6).to_string())));
    assert_eq!(program.wait_exit().code(), Some(0));
    assert_eq!(Totals::of(&program).get("numbers printed"), NUMBERS as u64);
}

fn assert_second_signal_ends_at_once(second: Signal, status: i32) {
    let server = Server::bind();
    let (mut program, _stdout) = stuck(&server);
    program.signal(Signal::INT);
    program.wait_for_log("Stopping on SIGINT");
    program.signal(second);
    assert_eq!(program.wait_exit().code(), Some(status));
}

#[test]
fn a_second_sigint_ends_at_once_with_130_though_stdout_is_stuck() {
    assert_second_signal_ends_at_once(Signal::INT, 130);
}

#[test]
fn a_second_sigterm_ends_at_once_with_143_though_stdout_is_stuck() {
    assert_second_signal_ends_at_once(Signal::TERM, 143);
}

#[test]
fn a_second_signal_ends_at_once_though_nobody_reads_the_log_either() {
    let server = Server::bind();
    let (_unread, pipe) = std::io::pipe().unwrap();
    let mut command = tcpcore("", [server.address()]);
    command.stdin(Stdio::null()).stdout(pipe.try_clone().unwrap()).stderr(pipe);
    let mut child = KilledOnDrop(command.spawn().unwrap());
    send_until_held_back(&mut server.accept());
    // Different ones, as two of a kind may arrive as one.
    for signal in [Signal::INT, Signal::TERM] {
        rustix::process::kill_process(Pid::from_child(&child.0), signal).unwrap();
    }
    let (status, exited) = mpsc::channel();
    thread::scope(|scope| {
        let pid = Pid::from_child(&child.0);
        scope.spawn(move || status.send(child.0.wait().unwrap()));
        let Ok(status) = exited.recv_timeout(DEADLINE) else {
            _ = rustix::process::kill_process(pid, Signal::KILL);
            panic!("two signals did not end the program");
        };
        // Sent at the same moment, either of them may be the second one.
        assert!(matches!(status.code(), Some(130 | 143)), "{status}");
    });
}

struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        // Nothing is killed that has been waited for.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn once_reads_each_server_to_its_end_and_ends_with_status_0() {
    let servers = [Server::bind(), Server::bind(), Server::bind()];
    let mut program = start("--once -p 2", addresses(&servers));
    let mut peers = servers.each_ref().map(Server::accept).map(Some);
    // The last one to end is neither the last nor the first, and sends after the others have ended.
    for index in [2, 0, 1] {
        let mut peer = peers[index].take().unwrap();
        peer.send(format!("{}\njunk\n{}\n12", index * 6, index * 60));
        peer.close();
        assert_eq!(program.next_line(), Some((index * 6).to_string()));
        assert_eq!(program.next_line(), Some((index * 60).to_string()));
    }
    assert_eq!(program.next_line(), None);
    assert_eq!(program.wait_exit().code(), Some(0));
    for server in &servers {
        assert!(server.accept_within(Duration::ZERO).is_none(), "dialled once");
    }
}

#[test]
fn once_ends_with_status_1_if_a_server_could_not_be_connected_and_reads_the_others() {
    let (server, down) = (Server::bind(), Down::new());
    let mut program = start("--once -p 1", [down.address, server.address()]);
    program.wait_for_log(&format!("Connection refused by {down}"));
    let mut peer = server.accept();
    peer.send("6\n");
    peer.close();
    assert_eq!(program.remaining_lines(), ["6"]);
    assert_eq!(program.wait_exit().code(), Some(1));
    let attempts = program.log().iter().filter(|line| line.contains("Trying to connect to"));
    assert_eq!(attempts.count(), 2, "one each");
}

#[test]
fn once_ends_with_status_1_if_a_connection_ended_by_an_error() {
    let server = Server::bind();
    let mut program = start("--once", [server.address()]);
    let mut peer = server.accept();
    peer.send("6\n");
    assert_eq!(program.next_line().as_deref(), Some("6"));
    peer.reset();
    assert_eq!(program.wait_exit().code(), Some(1));
    assert_eq!(program.next_line(), None);
    assert!(server.accept_within(Duration::ZERO).is_none(), "dialled once");
}

#[test]
fn once_counts_all_addresses_of_a_name_as_one_attempt() {
    let server = Server::bind();
    let mut program = start("--once", [format!("localhost:{}", server.port())]);
    let mut peer = server.accept();
    peer.send("6\n");
    peer.close();
    assert_eq!(program.remaining_lines(), ["6"]);
    assert_eq!(program.wait_exit().code(), Some(0));
}
