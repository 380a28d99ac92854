//! What the black-box tests share: a program under test, and a TCP server that does what a test says.
//!
//! Every wait has one generous deadline, after which the test fails and shows what the program wrote.
//! Nothing outlives its test: programs are killed and reaped when they are dropped.

// Each test binary compiles this module for itself and uses the part that it needs.
#![allow(dead_code)]

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use rustix::process::{Pid, Signal};

/// For anything that a test waits for. Long, since it is met only by a test that fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// How many there were of `what`, say `connects` or `oversized`, by a line of totals. Of one thing the line
/// has the singular.
pub(crate) fn total(line: &str, what: &str) -> Option<u64> {
    let (_, totals) = line.split_once("Totals: ")?;
    let (things, rest) = what.split_once(' ').unwrap_or((what, ""));
    let one = format!("1 {} {rest}", things.strip_suffix('s').unwrap_or(things));
    totals.split(", ").find_map(|part| match part.strip_suffix(what) {
        Some(count) => count.trim().parse().ok(),
        None => (part == one.trim_end()).then_some(1),
    })
}

/// A program under test, with its output read by threads of its own, so that it never waits for the
/// test. Killed and reaped when dropped.
pub(crate) struct Program {
    child: Child,
    stdout: Output,
    stderr: Output,
    /// By line of stderr: whether [`Program::wait_for_log`] has given it out.
    claimed: Vec<bool>,
}

impl Program {
    /// The command for a program, say `env!("CARGO_BIN_EXE_tcpcore")`, without what the environment of
    /// whoever runs the tests would change in its log.
    pub(crate) fn command(path: &str) -> Command {
        let mut command = Command::new(path);
        command.env_remove("RUST_LOG").env_remove("RUST_LOG_STYLE");
        command
    }

    pub(crate) fn spawn(command: &mut Command) -> Program {
        let (mut program, stdout) = Program::spawn_unread(command);
        program.stdout = Output::read_from(stdout);
        program
    }

    /// Leaves stdout to the test, which may read it slowly, in part or not at all.
    pub(crate) fn spawn_unread(command: &mut Command) -> (Program, ChildStdout) {
        let mut command = with_default_signals(command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = Output::read_from(child.stderr.take().expect("stderr is piped"));
        let program = Program { child, stdout: Output::none(), stderr, claimed: Vec::new() };
        (program, stdout)
    }

    /// The program's, until it is reaped by [`Program::wait_exit`].
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The next line of stdout without its newline, or `None` at its end.
    pub(crate) fn next_line(&mut self) -> Option<String> {
        match self.stdout.next(Instant::now() + DEADLINE) {
            Ok(line) => line,
            Err(Overdue) => self.fail("no line on stdout"),
        }
    }

    /// The lines of stdout from here to its end.
    pub(crate) fn remaining_lines(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next_line()).collect()
    }

    /// Waits for a line on stderr that contains `part`. Each line is given out once, so that waiting
    /// twice waits for two lines; those in between are kept for later calls.
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

    /// The lines of stderr as far as they were waited for; all of them after
    /// [`Program::wait_exit`].
    pub(crate) fn log(&self) -> &[String] {
        &self.stderr.lines
    }

    /// Sends a signal to the program, which must not have ended.
    pub(crate) fn signal(&mut self, signal: Signal) {
        // Only a child that was not reaped is sure to own its number still.
        if !matches!(self.child.try_wait(), Ok(None)) {
            self.fail("ended before the signal");
        }
        rustix::process::kill_process(self.pid(), signal)
            .expect("the program is there to be signalled");
    }

    /// Waits for the program to end by itself and reads its stderr to the end. Lines of stdout stay
    /// for [`Program::next_line`].
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

    /// Kills it at once (SIGKILL) and reaps it: all its sockets are closed on return.
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

/// The same command, without the signals that whoever runs the tests ignores, as `nohup` and a script's
/// background jobs do. The program would ignore them, too, and outlive a test that sends them.
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
    assert_eq!(command.get_current_dir(), None, "not handed on");
    wrapped
}

/// The signals with a meaning to the program that this process ignores, on Linux, which tells.
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
    /// From the reading thread, which ends, and hangs up, with the pipe.
    receiver: Receiver<String>,
    /// All lines received so far.
    lines: Vec<String>,
}

/// The deadline passed.
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

/// A TCP server that a test plays by hand.
pub(crate) struct Server {
    listener: TcpListener,
}

impl Server {
    /// Listens on a free port of 127.0.0.1.
    pub(crate) fn bind() -> Server {
        Server::bind_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// Listens on a given address, say that of a server that was dropped: what is left of its
    /// connections does not stand in the way.
    pub(crate) fn bind_at(address: SocketAddr) -> Server {
        let listener =
            TcpListener::bind(address).unwrap_or_else(|error| panic!("bind {address}: {error}"));
        listener.set_nonblocking(true).expect("a fresh socket takes it");
        Server { listener }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound socket has an address")
    }

    pub(crate) fn port(&self) -> u16 {
        self.address().port()
    }

    /// Takes the next connection, waiting for it up to the deadline.
    pub(crate) fn accept(&self) -> Peer {
        self.accept_within(DEADLINE)
            .unwrap_or_else(|| panic!("no connection to {} in {DEADLINE:?}", self.address()))
    }

    /// Takes the next connection if one comes in time.
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

    /// Stops listening, so that connections are refused. Those that were accepted live on. Returns
    /// the address for [`Server::bind_at`].
    pub(crate) fn close(self) -> SocketAddr {
        self.address()
    }

    fn wait_for_connection(&self, deadline: Instant) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};

        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).expect("a test waits for less than an age");
        match poll(&mut [PollFd::new(&self.listener, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => ready > 0,
            Err(rustix::io::Errno::INTR) => true,
            Err(error) => panic!("poll: {error}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A program that another test is spawning right now holds a copy of the socket up to its
        // `exec`, and the port would take connections until then. Where shutting down a listener is an
        // error, closing it has to do.
        let _ = socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both);
    }
}

/// The server's end of a connection. Dropping it closes it.
pub(crate) struct Peer {
    stream: TcpStream,
}

impl Peer {
    fn new(stream: TcpStream) -> Peer {
        // Some platforms hand the listener's mode on.
        stream.set_nonblocking(false).expect("an accepted socket takes it");
        stream.set_nodelay(true).expect("an accepted socket takes it");
        stream.set_read_timeout(Some(DEADLINE)).expect("the deadline is not zero");
        stream.set_write_timeout(Some(DEADLINE)).expect("the deadline is not zero");
        Peer { stream }
    }

    /// Hands `bytes` to the kernel; whether they were received is another question.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap_or_else(|error| panic!("send: {error}"));
    }

    /// Ends the connection in good order (FIN); what was sent before arrives.
    pub(crate) fn close(self) {}

    /// Ends the connection by a reset (RST); what was sent and not read may be lost with it.
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

    /// For a test that needs more than this.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}
