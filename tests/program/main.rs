//! Tests the program from outside: by its stdout, its log and its exit status. The servers are on loopback,
//! and the tests control them step by step.
//!
//! Tests wait for events instead of fixed times. The few exceptions state their reason.
#![cfg(all(feature = "cli", unix))]

#[path = "../common/mod.rs"]
mod common;
mod exit;
mod failure;
mod flow;
mod formats;
mod lines;
mod list;
mod log;
mod messages;
mod names;
mod operate;
mod scale;
mod signals;
mod slices;
mod status;
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

/// Flags for tests that do not examine delays: each retry follows at once. After some failures in a row
/// most are not logged, until a connection lasts for the reset threshold.
const AT_ONCE: &str = "--initial-backoff 1ms --max-backoff 1ms";

/// Returns the command of the program with `flags`, which are separated by blanks, and `servers`.
fn tcpcore(flags: &str, servers: impl IntoIterator<Item = impl Display>) -> Command {
    let mut command = Program::command(env!("CARGO_BIN_EXE_tcpcore"));
    command.args(flags.split_whitespace());
    command.args(servers.into_iter().map(|server| server.to_string()));
    command
}

fn start(flags: &str, servers: impl IntoIterator<Item = impl Display>) -> Program {
    Program::spawn(&mut tcpcore(flags, servers))
}

/// Returns a shell that runs `prepare` and then becomes the program. `prepare` may end in a redirection of
/// the program's output.
fn by_shell(prepare: &str, program: &Command) -> Command {
    let mut shell = Program::command("sh");
    shell.arg("-c").arg(format!("{prepare} exec \"$0\" \"$@\""));
    shell.arg(program.get_program()).args(program.get_args());
    shell
}

fn addresses(servers: &[Server]) -> Vec<SocketAddr> {
    servers.iter().map(Server::address).collect()
}

/// Returns the lines of a stdout that was left to the test, each with the deadline. Only a few lines are
/// read in advance.
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

/// Stops the program with SIGTERM and returns its totals.
fn stop(program: &mut Program) -> Totals {
    program.signal(Signal::TERM);
    assert_eq!(program.wait_exit().code(), Some(0));
    Totals::of(program)
}

/// The address of a server that is down.
///
/// The port stays bound while this exists, so that no other socket gets it. In particular, a connecting
/// socket cannot get it as its own port and connect to itself.
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
        // On other systems a second socket cannot listen on a bound port.
        Down { address, _port: cfg!(target_os = "linux").then_some(port) }
    }

    /// Brings the server up. It is down again when the result is dropped.
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
    /// Returns the totals of a program that has ended.
    fn of(program: &Program) -> Totals {
        let mut lines = program.log().iter().filter(|line| line.contains(" INFO ] Totals: "));
        let line = lines.next().expect("there is a line of totals").clone();
        assert_eq!(lines.next(), None, "there is one line of totals");
        Totals(line)
    }

    /// Returns the count of `what`, for example `malformed`.
    fn get(&self, what: &str) -> u64 {
        total(&self.0, what).unwrap_or_else(|| panic!("{what} in {}", self.0))
    }
}

/// Returns the delay in milliseconds from a log line about a failure. It is below a second.
fn delay_ms(line: &str) -> u64 {
    let delay = line.rsplit_once(" in ").and_then(|(_, delay)| delay.strip_suffix("ms"));
    delay.and_then(|ms| ms.parse().ok()).unwrap_or_else(|| panic!("no delay in {line:?}"))
}

/// Returns a figure of `/proc/PID/status` in KiB. `VmRSS` is the memory in use, and `VmHWM` is its peak.
#[cfg(target_os = "linux")]
fn memory_kib(program: &Program, name: &str) -> u64 {
    let path = format!("/proc/{}/status", program.pid().as_raw_nonzero());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.expect("the kernel counts memory").parse().unwrap()
}

/// Reports that a test was skipped because this system lacks a requirement. cargo shows it with
/// `--nocapture`. The file that `TCPCORE_SKIPPED` names, if any, gets a line.
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
