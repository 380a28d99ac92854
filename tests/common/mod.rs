//! Provides the black-box tests with a program under test, and with a TCP server that a test controls.
//!
//! Every wait has one generous deadline, after which the test fails and shows the program's output. Nothing
//! outlives its test: a dropped program is killed and reaped.

// Each test binary compiles this module for itself and uses a part of it.
#![allow(dead_code)]

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use rustix::process::{Pid, Signal};

/// The longest wait of a test. It is generous, since only a failing test reaches it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Returns the count of `what`, for example `connects` or `oversized`, in a line of totals. For a count of
/// one, the line has the singular.
pub(crate) fn total(line: &str, what: &str) -> Option<u64> {
    let (_, totals) = line.split_once("Totals: ")?;
    let (things, rest) = what.split_once(' ').unwrap_or((what, ""));
    let one = format!("1 {} {rest}", things.strip_suffix('s').unwrap_or(things));
    totals.split(", ").find_map(|part| match part.strip_suffix(what) {
        Some(count) => count.trim().parse().ok(),
        None => (part == one.trim_end()).then_some(1),
    })
}

/// A program under test. Threads read its output, so that it never waits for the test. It is killed and
/// reaped on drop.
pub(crate) struct Program {
    child: Child,
    stdout: Output,
    stderr: Output,
    /// For each line of stderr, whether [`Program::wait_for_log`] has returned it.
    claimed: Vec<bool>,
}

impl Program {
    /// Returns the command for a program, for example `env!("CARGO_BIN_EXE_tcpcore")`. Variables that would
    /// change its log are removed from its environment.
    pub(crate) fn command(path: &str) -> Command {
        let mut command = Command::new(path);
        command.env_remove("RUST_LOG").env_remove("RUST_LOG_STYLE");
        command
    }

    /// Starts a program.
    pub(crate) fn spawn(command: &mut Command) -> Program {
        let (mut program, stdout) = Program::spawn_unread(command);
        program.stdout = Output::read_from(stdout);
        program
    }

    /// Starts a program and leaves its stdout to the test, which may read it slowly, in part or not at all.
    pub(crate) fn spawn_unread(command: &mut Command) -> (Program, ChildStdout) {
        let mut command = with_default_signals(command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = Output::read_from(child.stderr.take().expect("stderr is piped"));
        let program = Program { child, stdout: Output::none(), stderr, claimed: Vec::new() };
        (program, stdout)
    }

    /// Returns the process id, which is valid until [`Program::wait_exit`] reaps the program.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Returns the next line of stdout without its newline, or `None` at the end.
    pub(crate) fn next_line(&mut self) -> Option<String> {
        match self.stdout.next(Instant::now() + DEADLINE) {
            Ok(line) => line,
            Err(Overdue) => self.fail("no line on stdout"),
        }
    }

    /// Returns the lines of stdout from here to its end.
    pub(crate) fn remaining_lines(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next_line()).collect()
    }

    /// Waits for a line on stderr that contains `part`. Each line is returned once, so that two calls wait
    /// for two lines. Lines in between are kept for later calls.
    pub(crate) fn wait_for_log(&mut self, part: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        let mut index = 0;
        loop {
            while index < self.stderr.lines.len() {
                self.claimed.resize(self.stderr.lines.len(), false);
                if !self.claimed[index] && self.stderr.lines[index].contains(part) {
                    self.claimed[index] = true;
                    return self.stderr.lines[index].clone();
                }
                index += 1;
            }
            match self.stderr.next(deadline) {
                Ok(Some(_)) => {}
                Ok(None) => self.fail(&format!("stderr ended without {part:?}")),
                Err(Overdue) => self.fail(&format!("no {part:?} on stderr")),
            }
        }
    }

    /// Returns the lines of stderr that were read so far: all of them after [`Program::wait_exit`].
    pub(crate) fn log(&self) -> &[String] {
        &self.stderr.lines
    }

    /// Sends a signal to the program, which must not have ended.
    pub(crate) fn signal(&mut self, signal: Signal) {
        // Only a child that has not been reaped is certain to own its process id.
        if !matches!(self.child.try_wait(), Ok(None)) {
            self.fail("ended before the signal");
        }
        rustix::process::kill_process(self.pid(), signal).expect("the program is running");
    }

    /// Waits for the program to end by itself and reads its stderr to the end. Lines of stdout remain for
    /// [`Program::next_line`].
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.stderr.next(deadline) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(Overdue) => self.fail("did not end"),
            }
        }
        // Stderr is closed a moment before the program can be reaped.
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status,
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
                Ok(None) => self.fail("closed its stderr and did not end"),
                Err(error) => self.fail(&error.to_string()),
            }
        }
    }

    /// Kills the program with SIGKILL and reaps it. On return all its sockets are closed.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Both fail only for a child that has been reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn fail(&self, what: &str) -> ! {
        let mut message = format!("{what}; the program wrote");
        for (name, output) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let shown = output.lines.len().min(200);
            let _ = write!(message, "\n--- {name}, the last {shown} of {}", output.lines.len());
            for line in &output.lines[output.lines.len() - shown..] {
                let _ = write!(message, "\n{line}");
            }
        }
        panic!("{message}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}

/// Returns the same command with the default actions of signals that the test run ignores. `nohup` and a
/// script's background jobs make it ignore some. The program would inherit that, and outlive a test that
/// sends such a signal.
pub(crate) fn with_default_signals(command: &Command) -> Command {
    let mut wrapped = Command::new(command.get_program());
    if !ignored_signals().is_empty() {
        wrapped = Command::new("env");
        wrapped.arg(format!("--default-signal={}", ignored_signals().join(",")));
        wrapped.arg(command.get_program());
    }
    wrapped.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    assert_eq!(command.get_current_dir(), None, "it would be lost");
    wrapped
}

/// Returns the signals of the program that this process ignores. Linux alone reports them.
fn ignored_signals() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.map_or(0, |mask| u128::from_str_radix(mask.trim(), 16).expect("a mask"));
    [Signal::HUP, Signal::INT, Signal::TERM, Signal::USR1, Signal::USR2]
        .map(Signal::as_raw)
        .into_iter()
        .filter(|signal| mask >> (signal - 1) & 1 == 1)
        .map(|signal| signal.to_string())
        .collect()
}

/// The lines of one of a program's pipes.
struct Output {
    /// Receives from the reading thread, which ends with the pipe.
    receiver: Receiver<String>,
    /// All lines received so far.
    lines: Vec<String>,
}

/// The deadline has passed.
struct Overdue;

impl Output {
    fn none() -> Output {
        Output { receiver: mpsc::channel().1, lines: Vec::new() }
    }

    fn read_from(pipe: impl Read + Send + 'static) -> Output {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n') {
                let line = line.expect("a pipe of our child is readable");
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        Output { receiver, lines: Vec::new() }
    }

    fn next(&mut self, deadline: Instant) -> Result<Option<String>, Overdue> {
        match self.receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                self.lines.push(line.clone());
                Ok(Some(line))
            }
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(Overdue),
        }
    }
}

/// A TCP server that a test controls step by step.
pub(crate) struct Server {
    listener: TcpListener,
}

impl Server {
    /// Listens on a free port of 127.0.0.1.
    pub(crate) fn bind() -> Server {
        Server::bind_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// Listens on a given address, for example that of a dropped server. Remaining connections of that
    /// server do not prevent it.
    pub(crate) fn bind_at(address: SocketAddr) -> Server {
        let listener =
            TcpListener::bind(address).unwrap_or_else(|error| panic!("bind {address}: {error}"));
        listener.set_nonblocking(true).expect("a fresh socket takes it");
        Server { listener }
    }

    /// Returns the address on which it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound socket has an address")
    }

    pub(crate) fn port(&self) -> u16 {
        self.address().port()
    }

    /// Accepts the next connection, and waits for it up to the deadline.
    pub(crate) fn accept(&self) -> Peer {
        self.accept_within(DEADLINE)
            .unwrap_or_else(|| panic!("no connection to {} in {DEADLINE:?}", self.address()))
    }

    /// Accepts the next connection if one arrives in time.
    pub(crate) fn accept_within(&self, wait: Duration) -> Option<Peer> {
        let deadline = Instant::now() + wait;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => return Some(Peer::new(stream)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("accept: {error}"),
            }
            if !self.wait_for_connection(deadline) {
                return None;
            }
        }
    }

    /// Stops listening, so that connections are refused. Accepted connections stay open. Returns the
    /// address for [`Server::bind_at`].
    pub(crate) fn close(self) -> SocketAddr {
        self.address()
    }

    fn wait_for_connection(&self, deadline: Instant) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};

        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).expect("a wait is short");
        match poll(&mut [PollFd::new(&self.listener, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => ready > 0,
            Err(rustix::io::Errno::INTR) => true,
            Err(error) => panic!("poll: {error}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A program that another test is spawning holds a copy of the socket until its `exec`. The port
        // would accept connections until then. Where a listener cannot be shut down, closing it must
        // suffice.
        let _ = socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both);
    }
}

/// The server's end of a connection. Dropping it closes it.
pub(crate) struct Peer {
    stream: TcpStream,
}

impl Peer {
    fn new(stream: TcpStream) -> Peer {
        // On some platforms the socket inherits the mode of the listener.
        stream.set_nonblocking(false).expect("an accepted socket takes it");
        stream.set_nodelay(true).expect("an accepted socket takes it");
        stream.set_read_timeout(Some(DEADLINE)).expect("the deadline is not zero");
        stream.set_write_timeout(Some(DEADLINE)).expect("the deadline is not zero");
        Peer { stream }
    }

    /// Passes `bytes` to the kernel, which does not mean that they are received.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap_or_else(|error| panic!("send: {error}"));
    }

    /// Closes the connection with a FIN. All bytes that were sent before arrive.
    pub(crate) fn close(self) {}

    /// Resets the connection with an RST. Bytes that were sent and not read may be lost.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .expect("a connected socket takes it");
    }

    /// Waits until the other side has closed or reset the connection.
    pub(crate) fn wait_closed(mut self) {
        let mut discarded = [0; 4096];
        loop {
            match self.stream.read(&mut discarded) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return,
                Err(error) => panic!("the connection was not closed: {error}"),
            }
        }
    }

    /// Returns the socket, for tests that need more than this.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}
