//! Tests standard output that is closed from the start, closed by its reader, or failing otherwise.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{DEADLINE, Peer, Program, Server};
use crate::{Down, Totals, lines_of, tcpcore};

/// Returns a shell that starts the program with these `redirections` and `arguments`.
fn redirected(redirections: &str, arguments: &[&str]) -> Command {
    let mut shell = Program::command("sh");
    let script = format!("exec \"$0\" \"$@\" {redirections}");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_tcpcore")]).args(arguments);
    shell
}

/// Returns the only log line at level ERROR.
fn the_error(program: &Program) -> String {
    let mut errors = program.log().iter().filter(|line| line.contains(" ERROR"));
    let error = errors.next().unwrap_or_else(|| panic!("no error: {:?}", program.log())).clone();
    assert_eq!(errors.next(), None);
    error
}

#[test]
fn a_stdout_that_is_closed_at_the_start_is_an_error_and_nothing_is_dialed() {
    let server = Server::bind();
    let mut program = Program::spawn(&mut redirected(">&-", &[&server.address().to_string()]));
    assert_eq!(program.wait_exit().code(), Some(1));
    let error = the_error(&program);
    assert!(error.contains("stdout is closed, expected a file or a pipe"), "{error}");
    assert!(error.contains("/dev/null"), "the remedy is missing: {error}");
    assert!(server.accept_within(Duration::ZERO).is_none(), "it was dialed");
}

#[test]
fn a_stdout_that_is_closed_with_stdin_and_stderr_is_an_error_too() {
    let server = Server::bind();
    let command = &mut redirected("<&- >&- 2>&-", &[&server.address().to_string()]);
    assert_eq!(Program::spawn(command).wait_exit().code(), Some(1));
    assert!(server.accept_within(Duration::ZERO).is_none(), "it was dialed");
}

#[test]
fn a_closed_stdin_or_stderr_is_no_error() {
    for redirections in ["<&-", "2>&-", "<&- 2>&-"] {
        let server = Server::bind();
        let arguments = ["--once", &server.address().to_string()];
        let mut program = Program::spawn(&mut redirected(redirections, &arguments));
        server.accept().send("6\n");
        assert_eq!(program.remaining_lines(), ["6"], "{redirections}");
        assert_eq!(program.wait_exit().code(), Some(0), "{redirections}");
    }
}

#[test]
fn a_help_that_cannot_be_printed_is_an_error() {
    for flag in ["-h", "--help", "--version"] {
        let mut program = Program::spawn(&mut redirected(">&-", &[flag]));
        assert_eq!(program.wait_exit().code(), Some(1), "{flag}");
        assert_eq!(program.log().len(), 1, "{:?}", program.log());
        assert!(program.log()[0].contains("stdout is closed"), "{:?}", program.log());
    }
}

#[test]
fn dev_null_discards_the_numbers_in_either_open_mode() {
    // The runtime opens /dev/null for reading and writing in place of a closed stdout. Some parents give
    // the same to programs to discard their output.
    for redirection in ["> /dev/null", "1<> /dev/null"] {
        let server = Server::bind();
        let arguments = ["--once", &server.address().to_string()];
        let mut program = Program::spawn(&mut redirected(redirection, &arguments));
        server.accept().send("6\n");
        assert_eq!(program.wait_exit().code(), Some(0), "{redirection}");
        assert_eq!(Totals::of(&program).get("records printed"), 1, "{redirection}");
    }
}

#[test]
fn a_stdout_that_is_open_for_reading_only_is_an_error_and_nothing_is_dialed() {
    let server = Server::bind();
    let mut program =
        Program::spawn(&mut redirected("1< /dev/null", &[&server.address().to_string()]));
    assert_eq!(program.wait_exit().code(), Some(1));
    let error = the_error(&program);
    assert!(error.contains("stdout is open for reading only, expected a file"), "{error}");
    assert!(server.accept_within(Duration::ZERO).is_none(), "it was dialed");
}

fn assert_closed_by_reader(program: &mut Program) {
    assert_eq!(program.wait_exit().code(), Some(0));
    let log = program.log();
    assert!(log.last().unwrap().ends_with("INFO ] stdout was closed by its reader"), "{log:?}");
    assert!(log.iter().all(|line| line.contains(" INFO ")), "{log:?}");
}

#[test]
fn a_closed_reader_ends_the_program_though_its_servers_are_silent() {
    for flags in ["", "--once", "-p 2"] {
        let servers = [Server::bind(), Server::bind()];
        let mut command = tcpcore(flags, crate::addresses(&servers));
        let (mut program, stdout) = Program::spawn_unread(&mut command);
        let mut peers = servers.each_ref().map(Server::accept);
        // As `| head -1` does.
        peers[0].send("6\n12");
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "6\n");
        drop(stdout);
        assert_closed_by_reader(&mut program);
        peers.into_iter().for_each(Peer::wait_closed);
    }
}

#[test]
fn a_closed_reader_ends_a_program_that_waits_for_its_next_attempt() {
    let down = Down::new();
    let mut command = tcpcore("--initial-backoff 1h --max-backoff 1h", [&down]);
    let (mut program, stdout) = Program::spawn_unread(&mut command);
    program.wait_for_log("Connection refused by");
    drop(stdout);
    assert_eq!(program.wait_exit().code(), Some(0));
    program.wait_for_log("stdout was closed by its reader");
}

/// Starts the program with one end of a socket pair as stdout, and returns the other end.
fn with_socket(server: &Server) -> (Killed, UnixStream) {
    let (ours, stdout) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut command = tcpcore("", [server.address()]);
    command.stdin(Stdio::null()).stdout(OwnedFd::from(stdout)).stderr(Stdio::null());
    (Killed(command.spawn().unwrap()), ours)
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail for a child that has been waited for.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
#[cfg(not(target_vendor = "apple"))]
fn a_reader_that_is_closed_for_sending_does_not_end_the_program_and_a_closed_one_does() {
    let server = Server::bind();
    let (mut child, mut ours) = with_socket(&server);
    let mut peer = server.accept();
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    let mut line = [0; 2];
    for _ in 0..3 {
        peer.send("6\n");
        ours.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"6\n");
    }
    drop(ours);
    peer.wait_closed();
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_closed_reader_under_load_ends_the_program_with_status_0_and_no_error() {
    let server = Server::bind();
    let (mut program, stdout) = Program::spawn_unread(&mut tcpcore("", [server.address()]));
    let mut peer = server.accept();
    // As `| head -1` does.
    peer.send("6\n");
    assert_eq!(lines_of(stdout).next().as_deref(), Some("6"));
    // One number is not enough. The thread that reads the pipe ends only after it has read another line.
    // And a program that another test starts has a copy of the pipe until its `exec`.
    let deadline = Instant::now() + DEADLINE;
    while is_open(&mut peer) && Instant::now() < deadline {
        // This fails if the connection was closed just now.
        _ = peer.stream().write_all(b"12\n");
    }
    assert_closed_by_reader(&mut program);
}

/// Returns whether the connection stays open for 10 ms.
fn is_open(peer: &mut Peer) -> bool {
    peer.stream().set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let waited = peer.stream().read(&mut [0]);
    waited.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

#[test]
#[cfg(target_os = "linux")]
fn another_write_error_is_logged_with_the_loss_and_status_1() {
    let server = Server::bind();
    let mut shell = Program::command("sh");
    shell.args(["-c", "exec \"$0\" \"$1\" > /dev/full", env!("CARGO_BIN_EXE_tcpcore")]);
    let mut program = Program::spawn(shell.arg(server.address().to_string()));
    // This is small enough to arrive and be read at once.
    server.accept().send("6\n7\n12\n18\n");
    assert_eq!(program.wait_exit().code(), Some(1));
    let errors: Vec<_> = program.log().iter().filter(|line| line.contains(" ERROR")).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("No space left on device"), "{errors:?}");
    assert!(errors[0].contains("3 records were read and not printed"), "{errors:?}");
}
