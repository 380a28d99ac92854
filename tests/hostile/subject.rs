//! Runs the program under test, and reads its output as a stream and its memory from the system.

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStdout, Command};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{DEADLINE, Program, Server, Signal, total};
use crate::ledger::{self, Ledger};
use crate::mode::Mode;

/// Builds `demo-server`, of another package, beside the program under test. Returns its path.
pub(crate) fn demo_server() -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_tcpcore"));
    let target_dir = program.ancestors().nth(2).expect("a program is in target/PROFILE");
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let status = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--package", "tcpcore-demo", "--bin", "demo-server"])
        .args(["--profile", profile, "--target-dir"])
        .arg(target_dir)
        .status();
    assert!(status.is_ok_and(|status| status.success()), "demo-server was not built");
    program.with_file_name("demo-server").to_str().expect("a path in UTF-8").to_owned()
}

/// The program, which prints all records. Its output is read on request only.
pub(crate) struct Subject {
    pub(crate) program: Program,
    pub(crate) stdout: Stdout,
}

impl Subject {
    pub(crate) fn start(mode: Mode, flags: &str, servers: &[SocketAddr]) -> Subject {
        Subject::spawn(&mut Subject::command(mode, flags, servers))
    }

    /// Returns the command with the flags of `mode`, with `flags`, which are separated by blanks, and `servers`.
    pub(crate) fn command(mode: Mode, flags: &str, servers: &[SocketAddr]) -> Command {
        let mut command = Program::command(env!("CARGO_BIN_EXE_tcpcore"));
        command.args(mode.flags()).args(flags.split_whitespace());
        command.args(servers.iter().map(SocketAddr::to_string));
        command
    }

    pub(crate) fn spawn(command: &mut Command) -> Subject {
        let (program, stdout) = Program::spawn_unread(command);
        Subject { program, stdout: Stdout::new(stdout) }
    }

    /// Reads into the ledger until `done` returns `true`.
    pub(crate) fn read_until(
        &mut self,
        ledger: &mut Ledger,
        mut done: impl FnMut(&Ledger) -> bool,
    ) {
        let deadline = Instant::now() + DEADLINE;
        while !done(ledger) {
            let wait = deadline.saturating_duration_since(Instant::now());
            assert!(!wait.is_zero(), "not within {DEADLINE:?}");
            // The wait is short, as `done` may depend on more than the ledger.
            let read = self.stdout.read(Duration::from_millis(10).min(wait), |l| ledger.enter(l));
            if read == Chunk::End {
                self.program.wait_exit();
                panic!("the program ended: {:#?}", self.program.log());
            }
        }
    }

    /// Stops the program, and passes the remaining lines to `each`.
    pub(crate) fn stop(mut self, each: impl FnMut(&[u8])) -> Ended {
        // A program that has ended has no memory to be read.
        let peak_kib = memory_kib(&self.program, "VmHWM");
        self.program.signal(Signal::TERM);
        self.wait_end(each, 0, peak_kib)
    }

    /// Passes all lines to `each` until the program ends by itself, with this exit status. The caller
    /// provides the peak of its memory.
    pub(crate) fn wait_end(mut self, each: impl FnMut(&[u8]), status: i32, peak_kib: u64) -> Ended {
        self.stdout.read_to_end(each);
        assert_eq!(self.program.wait_exit().code(), Some(status), "{:#?}", self.program.log());
        let ended = Ended { log: self.program.log().to_vec(), peak_kib };
        let printed = ended.total("records printed");
        assert_eq!(printed, self.stdout.lines, "the totals and the output");
        ended
    }
}

/// The log and the memory of a program that has ended.
pub(crate) struct Ended {
    pub(crate) log: Vec<String>,
    /// The peak of its memory before it was stopped.
    pub(crate) peak_kib: u64,
}

impl Ended {
    /// Returns a figure of the totals by its words.
    pub(crate) fn total(&self, words: &str) -> u64 {
        let line = self.log.iter().find(|line| line.contains("Totals: "));
        let line = line.unwrap_or_else(|| panic!("no totals: {:#?}", self.log));
        total(line, words).unwrap_or_else(|| panic!("{words}: {line}"))
    }

    /// Counts the lines of the log with these words.
    pub(crate) fn count(&self, words: &str) -> usize {
        self.log.iter().filter(|line| line.contains(words)).count()
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally {
            connects: self.total("connects"),
            failures: self.total("failures"),
            lines: self.total("lines"),
            peak_kib: self.peak_kib,
        }
    }
}

/// The figures of a scenario's program, or of all its programs.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    connects: u64,
    /// Attempts that failed and connections that ended.
    failures: u64,
    /// Lines as the program counts them, printed or not.
    lines: u64,
    peak_kib: u64,
}

impl Tally {
    /// Adds the figures of another program, which ran after this one.
    pub(crate) fn and(self, other: Tally) -> Tally {
        Tally {
            connects: self.connects + other.connects,
            failures: self.failures + other.failures,
            lines: self.lines + other.lines,
            peak_kib: self.peak_kib.max(other.peak_kib),
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { connects, failures, lines, peak_kib } = self;
        write!(f, "{connects} connects, {failures} failures, {lines} lines, {peak_kib} KiB at most")
    }
}

/// Stdout of the program. It is read on request, except for a few chunks in advance.
pub(crate) struct Stdout {
    chunks: Receiver<Vec<u8>>,
    /// The unfinished line.
    partial: Vec<u8>,
    /// The lines so far.
    pub(crate) lines: u64,
}

/// The result of an attempt to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    Some,
    /// Nothing arrived in time.
    Nothing,
    End,
}

impl Stdout {
    fn new(mut pipe: ChildStdout) -> Stdout {
        let (sender, chunks) = mpsc::sync_channel(2);
        thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Stdout { chunks, partial: Vec::new(), lines: 0 }
    }

    /// Waits for a chunk, and passes the lines that it completes to `each`, without their newlines.
    pub(crate) fn read(&mut self, wait: Duration, mut each: impl FnMut(&[u8])) -> Chunk {
        let chunk = match self.chunks.recv_timeout(wait) {
            Ok(chunk) => chunk,
            Err(RecvTimeoutError::Timeout) => return Chunk::Nothing,
            Err(RecvTimeoutError::Disconnected) => return Chunk::End,
        };
        let mut rest = chunk.as_slice();
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.partial.extend_from_slice(&rest[..end]);
            each(&self.partial);
            self.lines += 1;
            self.partial.clear();
            rest = &rest[end + 1..];
        }
        self.partial.extend_from_slice(rest);
        Chunk::Some
    }

    pub(crate) fn read_to_end(&mut self, mut each: impl FnMut(&[u8])) {
        loop {
            match self.read(DEADLINE, &mut each) {
                Chunk::Some => {}
                Chunk::Nothing => panic!("stdout has no end within {DEADLINE:?}"),
                Chunk::End => return,
            }
        }
    }
}

/// Returns a figure of /proc/PID/status in KiB, such as `VmRSS` or `VmHWM`.
pub(crate) fn memory_kib(program: &Program, name: &str) -> u64 {
    let pid = program.pid().to_string();
    status_kib(&pid, name).unwrap_or_else(|| panic!("no {name} of process {pid}"))
}

/// Does the same by process id. Returns `None` if the process has ended.
pub(crate) fn status_kib(pid: &str, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line?.trim().strip_suffix(" kB")?.parse().ok()
}

/// Returns the address of a server of a scenario, with any free port.
///
/// The program's end of a connection is always 127.0.0.1. So it can never get the port of a server that is
/// down.
pub(crate) fn own_address(server: usize) -> SocketAddr {
    let [.., high, low] = server.to_be_bytes();
    SocketAddr::from(([127, 77, high, low.saturating_add(1)], 0))
}

/// Starts a server that sends its first client the numbers of connection 1 as fast as possible, until that
/// fails.
pub(crate) fn firehose(server: usize) -> SocketAddr {
    let listener = Server::bind();
    let address = listener.address();
    thread::spawn(move || {
        let Some(mut peer) = listener.accept_within(DEADLINE) else { return };
        pour(peer.stream(), server, 1);
    });
    address
}

/// Sends numbers until the connection fails.
pub(crate) fn pour(stream: &mut impl Write, server: usize, connection: u64) {
    const BATCH: u64 = 4096;
    for batch in 0.. {
        let text = ledger::lines(server, connection, batch * BATCH, BATCH);
        if stream.write_all(&text).is_err() {
            return;
        }
    }
}

/// Returns the median and the 99th percentile.
pub(crate) fn percentiles<T: Copy + Ord>(mut values: Vec<T>) -> (T, T) {
    assert!(!values.is_empty(), "nothing was measured");
    values.sort_unstable();
    (values[values.len() / 2], values[values.len() * 99 / 100])
}
