//! Tests a thousand servers that misbehave at random, for any duration. All their records must be printed
//! exactly once and in order, and memory must stay constant.
//!
//! Each round is a run of the program, with numbers or lines in one of the formats. First comes the storm. Then all
//! faults stop: every server must be connected again within the longest delay, and its numbers must be printed.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::common::{DEADLINE, Server};
use crate::ledger::{Ledger, Progress, Record, Records, add_varied, number};
use crate::mode::Mode;
use crate::runner::{Form, Outcome};
use crate::subject::{Chunk, Subject, Tally, memory_kib, own_address};

const SERVERS: usize = 1000;

/// Numbers of the one connection that each server accepts after the faults have stopped.
const LAST_LINES: u64 = 10;

/// The idle timeout of the program, which detects silent servers. All pauses of the other servers are
/// shorter.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

const FLAGS: &str = "-p 2 --initial-backoff 50ms --max-backoff 2s --reset-backoff-threshold 1s \
                     --idle-timeout 5s";

/// The limit of the program's memory, in KiB. With the servers' unfinished lines, rings and buffers it
/// needs a few MiB.
const MOST_KIB: u64 = 48 * 1024;

/// The shortest storm of a round. A shorter soak has fewer rounds.
const ROUND_SECONDS: u64 = 20;

pub(crate) fn soak(form: Form) -> Outcome {
    let mut modes = match form.soak_mode {
        Some(mode) => vec![mode],
        None => Mode::ALL.to_vec(),
    };
    // The seed decides what a short soak tests.
    let first = usize::try_from(form.seed % modes.len() as u64).expect("it is small");
    modes.rotate_left(first);
    let rounds = (form.soak_seconds / ROUND_SECONDS).clamp(1, modes.len() as u64);
    let seconds = form.soak_seconds / rounds;
    let mut figures = format!("seed {}", form.seed);
    let mut tally = Tally::default();
    for (mode, round) in modes.into_iter().zip(0..rounds) {
        let (its_figures, its_tally) =
            run_round(mode, seconds, form.seed.wrapping_add(round << 32));
        figures += &format!("; {mode}: {its_figures}");
        tally = tally.and(its_tally);
    }
    Outcome::Passed(figures, tally)
}

/// Runs a storm of so many seconds and the calm after it. Returns the figures.
fn run_round(mode: Mode, seconds: u64, seed: u64) -> (String, Tally) {
    let storm = Duration::from_secs(seconds);
    let world = Arc::new(World::new());
    let _over = OverOnDrop(Arc::clone(&world));
    let (servers, addresses) = open_servers(seed, &world);
    let mut command = Subject::command(mode, FLAGS, &addresses);
    // One line per failure would be a million lines in an hour.
    command.env("RUST_LOG", "error,tcpcore=info,tcpcore::link=off");
    let mut subject = Subject::spawn(&mut command);
    let mut ledger = Ledger::with_records(&world.records, mode).varied(&addresses);
    let mut memory = Memory::default();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);

    let start = Instant::now();
    let mut stall_at = Duration::from_secs(3);
    while start.elapsed() < storm {
        let chunk = subject.stdout.read(Duration::from_millis(100), |line| ledger.enter(line));
        assert_ne!(chunk, Chunk::End, "the program ended");
        memory.sample(&subject, start.elapsed());
        if start.elapsed() > stall_at {
            // The rings fill, and the servers are held back.
            thread::sleep(Duration::from_millis(rng.random_range(100..1500)));
            stall_at = start.elapsed() + Duration::from_secs(rng.random_range(2..10));
        }
    }
    let (stormed, storm_lines) = (start.elapsed(), ledger.lines);

    world.is_calm.store(true, Relaxed);
    let start = Instant::now();
    subject.read_until(&mut ledger, |ledger| {
        (0..SERVERS).all(|server| {
            let last = world.last[server].load(Relaxed);
            last > 0 && ledger.progress(server) >= Progress { connection: last, next: LAST_LINES }
        })
    });
    let calmed = start.elapsed();
    world.is_over.store(true, Relaxed);
    let ended = subject.stop(|line| ledger.enter(line));
    let most_kib = ended.peak_kib;
    for server in servers {
        server.join().expect("a server does not panic");
    }
    ledger.settle_all();
    assert!(most_kib < MOST_KIB, "{most_kib} KiB of memory");
    let (early_kib, late_kib) = memory.early_and_late(stormed);
    assert!(late_kib <= early_kib + early_kib / 4 + 2048, "{early_kib} KiB became {late_kib} KiB");
    let figures = format!(
        "{stormed:.0?} of storm, {storm_lines} lines ({:.0} a second), {} resets, {} \
         malformed, {} oversized, {} truncated; {} records printed, each exactly once; all back \
         {calmed:.1?} after the storm; {early_kib} KiB in its first third, {late_kib} KiB in its last",
        storm_lines as f64 / stormed.as_secs_f64(),
        world.resets.load(Relaxed),
        ended.total("malformed"),
        ended.total("oversized"),
        ended.total("truncated"),
        ended.total("records printed"),
    );
    (figures, ended.tally())
}

/// The state that the servers and the checks share.
struct World {
    records: Arc<Records>,
    /// For each server, its connection after the storm, once all lines of it are sent.
    last: Vec<AtomicU64>,
    resets: AtomicU64,
    /// Whether all faults have stopped.
    is_calm: AtomicBool,
    /// Whether the servers have to end.
    is_over: AtomicBool,
}

impl World {
    fn new() -> World {
        World {
            records: Records::new(SERVERS),
            last: (0..SERVERS).map(|_| AtomicU64::new(0)).collect(),
            resets: AtomicU64::new(0),
            is_calm: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        }
    }
}

/// Ends the servers when a check fails, so that they do not disturb the next scenario.
struct OverOnDrop(Arc<World>);

impl Drop for OverOnDrop {
    fn drop(&mut self) {
        self.0.is_over.store(true, Relaxed);
    }
}

fn open_servers(seed: u64, world: &Arc<World>) -> (Vec<JoinHandle<()>>, Vec<SocketAddr>) {
    let open = |index: usize| {
        let listener = Server::bind_at(own_address(index));
        let address = listener.address();
        let feed = Feed {
            index,
            address,
            connection: 0,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed.wrapping_add(index as u64 + 1)),
            world: Arc::clone(world),
        };
        // A thread of its own makes the code of a server sequential. It needs a small stack.
        let thread = thread::Builder::new().stack_size(128 * 1024);
        let thread = thread.spawn(move || feed.run(listener)).expect("there is memory for threads");
        (thread, address)
    };
    (0..SERVERS).map(open).unzip()
}

/// A server that misbehaves.
struct Feed {
    index: usize,
    address: SocketAddr,
    /// The number of its last connection.
    connection: u64,
    rng: Xoshiro256PlusPlus,
    world: Arc<World>,
}

impl Feed {
    fn run(mut self, mut listener: Server) {
        while !self.world.is_over.load(Relaxed) {
            if !self.world.is_calm.load(Relaxed) && self.rng.random_ratio(1, 8) {
                listener.close();
                self.pause(1000);
                listener = Server::bind_at(self.address);
            }
            if let Some(mut peer) = listener.accept_within(Duration::from_millis(100)) {
                self.connection += 1;
                let (sent, is_whole) = self.serve(peer.stream());
                let connection = self.connection;
                self.world.records.add(self.index, Record { connection, sent, is_whole });
            }
        }
    }

    /// Serves a connection to its end. Returns the count of the sent numbers, and whether all of them must
    /// have been read.
    fn serve(&mut self, stream: &mut TcpStream) -> (u64, bool) {
        let mut sent = 0;
        if self.world.is_calm.load(Relaxed) {
            return self.serve_last(stream);
        }
        let ending = self.rng.random_range(0..10);
        // One in ten is closed at once.
        let batches = if ending == 0 { 0 } else { self.rng.random_range(0..40) };
        for _ in 0..batches {
            if self.world.is_calm.load(Relaxed) {
                break;
            }
            if self.send_batch(stream, &mut sent).is_err() {
                return (sent, false);
            }
            self.pause(500);
        }
        match ending {
            // Silent until the idle timeout of the other side. If that expired before the last batch, the
            // batch is lost, and yet a read returns the FIN that came before the reset.
            1 => return (sent, is_open(stream) && reaches_end(stream)),
            2 | 3 => {
                // Half of the next line follows. Its digits are a number, which must not be printed.
                let next = number(self.index, self.connection, sent).to_string();
                let half = self.rng.random_range(1..next.len());
                if stream.write_all(&next.as_bytes()[..half]).is_err() {
                    return (sent, false);
                }
            }
            _ => {}
        }
        if ending % 3 == 0 && ending > 0 {
            self.world.resets.fetch_add(1, Relaxed);
            let linger = Some(Duration::ZERO);
            socket2::SockRef::from(&*stream).set_linger(linger).expect("a socket takes it");
            return (sent, false);
        }
        (sent, is_open(stream) && stream.shutdown(Shutdown::Write).is_ok() && reaches_end(stream))
    }

    /// Sends a few lines and keeps the connection, as the faults have stopped.
    fn serve_last(&mut self, stream: &mut TcpStream) -> (u64, bool) {
        for sequence in 0..LAST_LINES {
            let mut text = Vec::new();
            add_varied(&mut text, number(self.index, self.connection, sequence));
            if stream.write_all(&text).is_err() {
                return (sequence, false);
            }
        }
        self.world.last[self.index].store(self.connection, Relaxed);
        (LAST_LINES, reaches_end(stream))
    }

    /// Sends lines in one or several writes. After an error, `sent` is at least the number of lines that
    /// were received.
    fn send_batch(&mut self, stream: &mut TcpStream, sent: &mut u64) -> io::Result<()> {
        // A batch of a megabyte fills the sockets' buffers, so that writes wait for the program.
        let count = if self.rng.random_ratio(1, 500) { 50_000 } else { 30 };
        let mut text = Vec::new();
        for _ in 0..self.rng.random_range(1..=count) {
            add_varied(&mut text, number(self.index, self.connection, *sent));
            *sent += 1;
        }
        let mut rest = text.as_slice();
        if self.rng.random_ratio(1, 4) {
            for _ in 0..self.rng.random_range(1..10) {
                let (piece, more) = rest.split_at(self.rng.random_range(0..rest.len().min(60)));
                stream.write_all(piece)?;
                rest = more;
                self.pause(3);
            }
        }
        stream.write_all(rest)
    }

    /// Sleeps for up to `most_ms` milliseconds. Half of the pauses are much shorter.
    fn pause(&mut self, most_ms: u64) {
        let most_ms = if self.rng.random() { most_ms } else { most_ms / 10 };
        let pause = Duration::from_millis(self.rng.random_range(0..=most_ms));
        assert!(pause < IDLE_TIMEOUT);
        thread::sleep(pause);
    }
}

/// Returns whether the other side has not closed the connection first. On a busy machine its idle timeout
/// may expire.
fn is_open(stream: &TcpStream) -> bool {
    let peeked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    let is_open = peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
    is_open && stream.set_nonblocking(false).is_ok()
}

/// Waits until the other side closes the connection. Returns `true` for a FIN, by which it has read
/// everything that was sent while it [was open](is_open), and `false` for a reset.
fn reaches_end(stream: &mut TcpStream) -> bool {
    // The wait is long, as the program's reader may hold it back, but it has an end.
    debug_assert_eq!(stream.read_timeout().ok().flatten(), Some(DEADLINE));
    matches!(stream.read(&mut [0]), Ok(0))
}

/// The program's memory over time, with at most one sample a second.
#[derive(Default)]
struct Memory(Vec<(Duration, u64)>);

impl Memory {
    fn sample(&mut self, subject: &Subject, now: Duration) {
        let is_due = self.0.last().is_none_or(|(at, _)| now - *at > Duration::from_secs(1));
        if is_due {
            self.0.push((now, memory_kib(&subject.program, "VmRSS")));
        }
    }

    /// Returns the peaks in the first and in the last third of a span.
    fn early_and_late(&self, span: Duration) -> (u64, u64) {
        let most = |wanted: fn(Duration, Duration) -> bool| {
            let samples = self.0.iter().filter(|(at, _)| wanted(*at, span));
            samples.map(|(_, kib)| *kib).max().expect("a sample a second")
        };
        (most(|at, span| at <= span / 3), most(|at, span| at >= span * 2 / 3))
    }
}
