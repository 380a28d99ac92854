//! The program from outside: what stdout, the log and the exit status show, against servers on loopback
//! that the tests play by hand.
//!
//! Nothing here waits for a time to pass where an event can be waited for; the few exceptions say why.
#![cfg(all(feature = "cli", unix))]

#[path = "../common/mod.rs"]
mod common;
mod ending;
mod failure;
mod flow;
mod lines;
mod log;
mod messages;
mod names;
mod signals;
mod slices;
mod stdout;
#[cfg(target_os = "linux")]
mod streams;
mod usage;

use std::fmt::Display;
use std::io::{BufRead, BufReader};
use std::iter;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{ChildStdout, Command};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use common::{DEADLINE, Program, Server, Signal, total};
use socket2::{Domain, Socket, Type};

/// Flags for tests that are not about delays: a server that failed is dialled again at once. After some
/// failures in a row most are not logged any more, until the server sends something.
const AT_ONCE: &str = "--initial-backoff 1ms --max-backoff 1ms";

/// The program with `flags`, which are separated by blanks, and `servers`.
fn tcpcore(flags: &str, servers: impl IntoIterator<Item = impl Display>) -> Command {
    let mut command = Program::command(env!("CARGO_BIN_EXE_tcpcore"));
    command.args(flags.split_whitespace());
    command.args(servers.into_iter().map(|server| server.to_string()));
    command
}

fn start(flags: &str, servers: impl IntoIterator<Item = impl Display>) -> Program {
    Program::spawn(&mut tcpcore(flags, servers))
}

/// A program that a shell becomes after `prepare`, which may end in a redirection of the program's output.
fn by_shell(prepare: &str, program: &Command) -> Command {
    let mut shell = Program::command("sh");
    shell.arg("-c").arg(format!("{prepare} exec \"$0\" \"$@\""));
    shell.arg(program.get_program()).args(program.get_args());
    shell
}

fn addresses(servers: &[Server]) -> Vec<SocketAddr> {
    servers.iter().map(Server::address).collect()
}

/// The lines of a stdout that was left to the test, each waited for up to the deadline. They are read
/// ahead of whoever takes them by a few only.
fn lines_of(stdout: ChildStdout) -> impl Iterator<Item = String> {
    let (sender, receiver) = mpsc::sync_channel(64);
    thread::spawn(move || {
        let lines = BufReader::new(stdout).lines();
        lines.map_while(|line| sender.send(line.unwrap()).ok()).for_each(drop);
    });
    iter::from_fn(move || match receiver.recv_timeout(DEADLINE) {
        Ok(line) => Some(line),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => panic!("no line on stdout"),
    })
}

/// Ends the program by SIGTERM and returns its totals.
fn stop(program: &mut Program) -> Totals {
    program.signal(Signal::TERM);
    assert_eq!(program.wait_exit().code(), Some(0));
    Totals::of(program)
}

/// The address of a server that is down.
///
/// The port is bound for as long as this lives, so nobody else gets it, and a socket that dials it
/// cannot be given it as its own and be connected to itself.
struct Down {
    address: SocketAddr,
    _port: Option<Socket>,
}

impl Down {
    fn new() -> Down {
        let port = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        port.set_reuse_address(true).unwrap();
        port.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let address = port.local_addr().unwrap().as_socket().unwrap();
        // Elsewhere a bound port cannot be listened on through another socket.
        Down { address, _port: cfg!(target_os = "linux").then_some(port) }
    }

    /// The server comes up; when dropped, it is down again.
    fn up(&self) -> Server {
        Server::bind_at(self.address)
    }
}

impl Display for Down {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address.fmt(f)
    }
}

/// The line of totals that a program logs at its end.
struct Totals(String);

impl Totals {
    /// Of a program that has ended.
    fn of(program: &Program) -> Totals {
        let mut lines = program.log().iter().filter(|line| line.contains(" INFO ] Totals: "));
        let line = lines.next().expect("there is a line of totals").clone();
        assert_eq!(lines.next(), None, "there is one line of totals");
        Totals(line)
    }

    /// How many there were of `what`, say `malformed`.
    fn get(&self, what: &str) -> u64 {
        total(&self.0, what).unwrap_or_else(|| panic!("{what} in {}", self.0))
    }
}

/// The delay in milliseconds that a line of the log about a failure names, which is below a second.
fn delay_ms(line: &str) -> u64 {
    let delay = line.rsplit_once(" in ").and_then(|(_, delay)| delay.strip_suffix("ms"));
    delay.and_then(|ms| ms.parse().ok()).unwrap_or_else(|| panic!("no delay in {line:?}"))
}

/// A figure of `/proc/PID/status` in KiB, say `VmRSS`, the memory in use, or `VmHWM`, its peak.
#[cfg(target_os = "linux")]
fn memory_kib(program: &Program, name: &str) -> u64 {
    let path = format!("/proc/{}/status", program.pid().as_raw_nonzero());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.expect("the kernel counts memory").parse().unwrap()
}

/// Says that a test has not tested because this system lacks what it takes. cargo shows it with
/// `--nocapture`; the file that `TCPCORE_SKIPPED` names, if any, gets a line.
#[expect(clippy::print_stderr, reason = "cargo shows it with --nocapture")]
fn skip(why: &str) {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("SKIPPED {test}: {why}");
    if let Some(path) = std::env::var_os("TCPCORE_SKIPPED") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        std::io::Write::write_all(&mut file.unwrap(), format!("{test}: {why}\n").as_bytes())
            .unwrap();
    }
}
