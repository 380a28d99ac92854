//! Serves made-up feeds over TCP, for trying a collector. One thread accepts, and one thread serves each
//! client. A server can misbehave in the ways that real feeds do.
//!
//! A [`Kind`] names the feed, and a [`Source`] makes its lines for one client. Each kind has a module.

mod clock;
mod craft;
mod lines;
mod nmea;
mod numbers;
mod sbs;

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::{info, warn};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

pub(crate) use lines::Lines;
use nmea::Ship;
use numbers::Numbers;
use sbs::Sky;

/// A running server. Dropping it has the effect of killing a stand-alone server. When `drop` returns, the
/// port refuses connections and all clients are disconnected. The port can be bound again immediately.
pub(crate) struct Feed {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    /// `None` only while dropping.
    acceptor: Option<JoinHandle<()>>,
}

/// The settings of a server.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The lines that it sends.
    pub(crate) kind: Kind,
    /// The time from one line to the next, at most a day. With zero, lines are sent as fast as the client
    /// takes them. Numbers are then [`BATCH_LINES`] prepared ones, repeatedly.
    pub(crate) interval: Duration,
    /// The seed of a made-up feed. [`Kind`] says what repeats with the same seed.
    pub(crate) seed: u64,
    /// Lines that a client gets before its connection is closed, without junk. `None` is no limit, but a
    /// [`Course`] that needs one uses [`DEFAULT_COUNT`].
    pub(crate) count: Option<u64>,
    /// The deviations from a good feed.
    pub(crate) misbehavior: Misbehavior,
}

/// The kind of a feed.
///
/// Each connection starts anew: with the first line of a file, at the start of a voyage. A client that
/// reconnects does not continue where it was. So clients share no state, and all clients of a port get the
/// same lines. With numbers, clients differ, so that their lines can be told apart in the output.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Random numbers. With the same seed, the n-th client since the start gets the same numbers.
    Numbers,
    /// The lines of a file, the same ones with any seed.
    Lines(Lines),
    /// NMEA 0183 sentences of a made-up ship. A seed and a port give the same one in every run.
    Nmea,
    /// SBS-1 messages of made-up aircraft. A seed and a port give the same ones in every run.
    Sbs,
}

/// The deviations of a server from a good feed; none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Misbehavior {
    /// Sends each byte in a write of its own. A pause keeps it from arriving with the next one.
    split: bool,
    /// Sends a line of junk after each line.
    junk: bool,
    course: Course,
}

/// The course of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Course {
    /// Lines, and a close after the last line if there is a limit.
    #[default]
    Lines,
    /// Lines, half a line, then a close.
    Cut,
    /// Lines, then an endless line.
    Endless,
    /// An immediate close.
    Hangup,
    /// No data and no close.
    Silence,
}

/// Lines before a truncated or an endless line, if no count is given.
const DEFAULT_COUNT: u64 = 10;

/// Numbers that are prepared for a client without pauses. With this many, generating costs little compared
/// to sending. They still fit in a core's cache.
const BATCH_LINES: u64 = 1 << 16;

/// The bytes that lines are collected up to for a write without pauses. With this many, a system call costs
/// little compared to making the lines. [`BATCH_LINES`] lines of a file could take any amount of memory.
const WRITE_BYTES: usize = 1 << 16;

/// The pause between the bytes of a split line, which keeps them apart in transit. It is no guarantee: a
/// delayed receiver still reads several bytes at once.
const SPLIT_PAUSE: Duration = Duration::from_millis(1);

/// The pause after a failed `accept`. It prevents a busy loop, for example when descriptors run out.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Lines that no feed has. They are not numbers, though most of them begin, end or look like one.
const JUNK: [&[u8]; 8] = [
    b"junk",
    b"12x",
    b"6 6",
    b"-",
    b"6.0",
    b"0x2a",
    b"99999999999999999999",
    b"\xff\xfe\x00\x1b[2J",
];

impl Feed {
    /// Listens on `address` and serves every client. Port 0 stands for any free port; see
    /// [`Feed::address`].
    ///
    /// # Errors
    /// Returns the error of `bind`, most likely "address in use", or that of starting a thread.
    pub(crate) fn start(address: SocketAddr, settings: Settings) -> io::Result<Feed> {
        info!("Opening the server on port {}", address.port());
        // On Unix the standard library sets SO_REUSEADDR. Without it the connections of a killed server
        // would block its port for a minute.
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let acceptor = thread::Builder::new().name(format!("accept {address}")).spawn({
            let stopping = Arc::clone(&stopping);
            move || accept_until_stopped(listener, address.port(), &settings, &stopping)
        })?;
        let feed = Feed { address, stopping, acceptor: Some(acceptor) };
        info!("Listening on {}", feed.address());
        Ok(feed)
    }

    /// Returns the address on which it listens, with the actual port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        let Some(acceptor) = self.acceptor.take() else {
            return;
        };
        // Only a connection interrupts `accept` on all systems. Connecting may fail, for example without
        // descriptors, and is then retried.
        while !acceptor.is_finished() {
            match TcpStream::connect_timeout(&reachable(self.address), Duration::from_secs(1)) {
                Ok(_) => break,
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
        if acceptor.join().is_err() {
            warn!("The server on {} panicked", self.address);
        }
    }
}

impl FromStr for Misbehavior {
    /// The problem, as text that follows the flag's name.
    type Err = String;

    /// Parses a comma-separated list of `split`, `junk` and at most one of the courses.
    fn from_str(list: &str) -> Result<Misbehavior, String> {
        let mut parsed = Misbehavior::default();
        for mode in list.split(',') {
            let course = match mode {
                "split" => {
                    parsed.split = true;
                    continue;
                }
                "junk" => {
                    parsed.junk = true;
                    continue;
                }
                "cut" => Course::Cut,
                "endless" => Course::Endless,
                "hangup" => Course::Hangup,
                "silence" => Course::Silence,
                _ => return Err(format!("not '{}'", mode.escape_debug())),
            };
            if parsed.course != Course::Lines && parsed.course != course {
                return Err(format!("not two of these four in '{}'", list.escape_debug()));
            }
            parsed.course = course;
        }
        Ok(parsed)
    }
}

/// Runs the acceptor's thread. When it returns, the port is closed and all clients are disconnected.
fn accept_until_stopped(
    listener: TcpListener,
    port: u16,
    settings: &Settings,
    stopping: &Arc<AtomicBool>,
) {
    // Each client gets its own seed in turn, so that numbers differ between clients and runs repeat.
    let mut seeds = Xoshiro256PlusPlus::seed_from_u64(settings.seed);
    let mut clients: Vec<(Weak<TcpStream>, JoinHandle<()>)> = Vec::new();
    loop {
        let accepted = listener.accept();
        if stopping.load(Ordering::Acquire) {
            break;
        }
        clients.retain(|(_, thread)| !thread.is_finished());
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!("Cannot accept a connection: {error}");
                thread::sleep(ACCEPT_RETRY_PAUSE);
                continue;
            }
        };
        info!("Accepted a connection from {peer}");
        let stream = Arc::new(stream);
        // A weak reference: the socket closes when the client's thread ends, not when the next client
        // connects.
        let handle = Arc::downgrade(&stream);
        let source = Source::new(settings, port, seeds.next_u64());
        let client = Client { stream, peer, settings: settings.clone(), source, sent: 0 };
        let stopping = Arc::clone(stopping);
        match thread::Builder::new().name(peer.to_string()).spawn(move || client.run(&stopping)) {
            Ok(thread) => clients.push((handle, thread)),
            Err(error) => warn!("Closed the connection to {peer}: cannot start a thread: {error}"),
        }
    }
    drop(listener);
    for (stream, _) in &clients {
        if let Some(stream) = stream.upgrade() {
            // This fails only if the connection is already gone, which is the goal.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
    for (_, thread) in clients {
        if thread.join().is_err() {
            warn!("A client's thread panicked");
        }
    }
}

/// A client, and the lines for it.
struct Client {
    stream: Arc<TcpStream>,
    peer: SocketAddr,
    settings: Settings,
    source: Source,
    /// Lines sent, without junk and without those of a write that the end of the connection interrupted.
    sent: u64,
}

impl Client {
    /// Runs the client's thread.
    fn run(mut self, stopping: &AtomicBool) {
        let outcome = self.serve();
        let Client { stream, peer, sent, settings, .. } = self;
        let what = match settings.kind {
            Kind::Numbers => "numbers",
            Kind::Lines(_) | Kind::Nmea | Kind::Sbs => "lines",
        };
        // The connection closes before the log reports it as closed.
        drop(stream);
        // During a stop the server ends the connection, regardless of the error.
        let stopped = stopping.load(Ordering::Acquire);
        match outcome {
            Err(error) if !stopped && error.kind() == io::ErrorKind::UnexpectedEof => {
                info!("Connection closed by {peer}, {what} sent: {sent}");
            }
            Err(error) if !stopped => {
                info!("Lost the connection to {peer}, {what} sent: {sent}: {error}");
            }
            _ => info!("Closed the connection to {peer}, {what} sent: {sent}"),
        }
    }

    /// Serves the client to the end of its course. Returns `Ok` if the server ended the connection, and
    /// `UnexpectedEof` if the peer closed it.
    fn serve(&mut self) -> io::Result<()> {
        // Each line, and each piece of a split line, must leave when it is written.
        self.stream.set_nodelay(true)?;
        let count = self.settings.count.unwrap_or(DEFAULT_COUNT);
        match self.settings.misbehavior.course {
            Course::Lines => self.send_lines(self.settings.count.unwrap_or(u64::MAX)),
            Course::Cut => {
                self.send_lines(count)?;
                let half = self.source.half_a_line();
                self.send(&half)
            }
            Course::Endless => {
                self.send_lines(count)?;
                self.send_digits()
            }
            Course::Hangup => Ok(()),
            Course::Silence => loop {
                self.wait(Duration::from_secs(3600))?;
            },
        }
    }

    fn send_lines(&mut self, count: u64) -> io::Result<()> {
        if self.settings.interval.is_zero() {
            return match self.settings.kind {
                Kind::Numbers => self.send_lines_in_batches(count),
                Kind::Lines(_) | Kind::Nmea | Kind::Sbs => self.send_lines_without_pauses(count),
            };
        }
        let mut due = Instant::now();
        for _ in 0..count {
            // An absolute deadline, instead of a pause, keeps the rate on average.
            self.wait_until(due)?;
            due += self.settings.interval;
            let line = self.source.lines(1);
            self.send(&line)?;
            self.sent += 1;
        }
        Ok(())
    }

    /// Sends the first lines repeatedly, which is faster than new ones.
    fn send_lines_in_batches(&mut self, count: u64) -> io::Result<()> {
        let batch = self.source.clone().lines(BATCH_LINES.min(count));
        for _ in 0..count / BATCH_LINES {
            self.send(&batch)?;
            self.sent += BATCH_LINES;
        }
        let rest = self.source.lines(count % BATCH_LINES);
        self.send(&rest)?;
        self.sent += count % BATCH_LINES;
        Ok(())
    }

    /// Sends new lines all the time, because a repeated batch would break the order of a file or set a
    /// clock back.
    fn send_lines_without_pauses(&mut self, count: u64) -> io::Result<()> {
        let mut left = count;
        let mut bytes = Vec::new();
        while left > 0 {
            bytes.clear();
            let mut lines = 0;
            while lines < left && bytes.len() < WRITE_BYTES {
                self.source.push_line(&mut bytes);
                lines += 1;
            }
            self.send(&bytes)?;
            self.sent += lines;
            left -= lines;
        }
        Ok(())
    }

    fn send_digits(&mut self) -> io::Result<()> {
        let digits = [b'6'; 4096];
        loop {
            self.send(&digits)?;
            self.wait(self.settings.interval)?;
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.settings.misbehavior.split {
            return (&*self.stream).write_all(bytes);
        }
        for byte in bytes.chunks(1) {
            (&*self.stream).write_all(byte)?;
            if !self.settings.interval.is_zero() {
                self.wait(SPLIT_PAUSE)?;
            }
        }
        Ok(())
    }

    fn wait(&self, pause: Duration) -> io::Result<()> {
        self.wait_until(Instant::now() + pause)
    }

    /// Waits by reading, which detects a disconnect immediately instead of at a later write. The received
    /// bytes are discarded. A client that closes only its sending side counts as disconnected.
    fn wait_until(&self, due: Instant) -> io::Result<()> {
        let mut discarded = [0; 1024];
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.stream.set_read_timeout(Some(left))?;
            match (&*self.stream).read(&mut discarded) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The lines for one client, optionally with junk between them.
#[derive(Clone)]
struct Source {
    generator: Generator,
    junk: Option<std::iter::Cycle<std::array::IntoIter<&'static [u8], { JUNK.len() }>>>,
}

/// The lines for one client, by the [`Kind`] of the feed.
#[derive(Clone)]
enum Generator {
    Numbers(Numbers),
    Lines(Lines),
    Nmea(Ship),
    Sbs(Sky),
}

impl Source {
    /// Returns the lines for a new client of `port`. Of the seeds, numbers use that of the client, and ships
    /// and aircraft that of the server.
    fn new(settings: &Settings, port: u16, client_seed: u64) -> Source {
        let port_seed = mixed(settings.seed, port);
        let generator = match &settings.kind {
            Kind::Numbers => Generator::Numbers(Numbers::new(client_seed)),
            Kind::Lines(lines) => Generator::Lines(lines.clone()),
            Kind::Nmea => Generator::Nmea(Ship::new(port_seed)),
            Kind::Sbs => Generator::Sbs(Sky::new(port_seed)),
        };
        let junk = settings.misbehavior.junk.then(|| JUNK.into_iter().cycle());
        Source { generator, junk }
    }

    /// Appends the next line, with its junk.
    fn push_line(&mut self, lines: &mut Vec<u8>) {
        self.generator.push_line(lines);
        if let Some(junk) = self.junk.as_mut().and_then(Iterator::next) {
            lines.extend_from_slice(junk);
            lines.push(b'\n');
        }
    }

    /// Returns the next `count` lines, each with its junk.
    fn lines(&mut self, count: u64) -> Vec<u8> {
        let mut lines = Vec::new();
        for _ in 0..count {
            self.push_line(&mut lines);
        }
        lines
    }

    /// Returns the next line without its end, and without its last byte if it has more than one. The rest
    /// of a number still parses as a number, and as a wrong one. An empty line has no half.
    fn half_a_line(&mut self) -> Vec<u8> {
        let mut half = Vec::new();
        self.generator.push_line(&mut half);
        half.pop_if(|byte| *byte == b'\n');
        half.pop_if(|byte| *byte == b'\r');
        if half.len() > 1 {
            half.pop();
        }
        half
    }
}

impl Generator {
    /// Appends the next line, with its newline.
    fn push_line(&mut self, lines: &mut Vec<u8>) {
        match self {
            Generator::Numbers(numbers) => numbers.push_line(lines),
            Generator::Lines(file) => file.push_line(lines),
            Generator::Nmea(ship) => ship.push_line(lines),
            Generator::Sbs(sky) => sky.push_line(lines),
        }
    }
}

/// Mixes a port into a seed, so that the ports of a program differ. No two pairs of a seed less than 2^48 and
/// a port give the same result.
fn mixed(seed: u64, port: u16) -> u64 {
    seed.rotate_left(16) ^ u64::from(port)
}

/// Returns an address that reaches a listener, which may listen on all addresses.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Returns whether a read ended without a result. A timeout is `WouldBlock` or `TimedOut`, depending on the
/// platform.
fn is_timeout(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};

    const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    fn settings(interval: Duration) -> Settings {
        let kind = Kind::Numbers;
        Settings { kind, interval, seed: 1, count: None, misbehavior: Misbehavior::default() }
    }

    fn connect(address: SocketAddr) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        BufReader::new(stream)
    }

    #[test]
    fn dropping_closes_the_port_and_the_clients_and_the_port_can_be_bound_at_once() {
        let settings = settings(Duration::from_secs(3600));
        let mut feed = Feed::start(ANY_PORT, settings.clone()).unwrap();
        let address = feed.address();
        let mut first_lines = Vec::new();
        for _ in 0..3 {
            let mut client = connect(address);
            let mut line = String::new();
            client.read_line(&mut line).unwrap();
            first_lines.push(line);

            drop(feed);
            assert_eq!(
                client.read_line(&mut String::new()).unwrap(),
                0,
                "the client is disconnected"
            );
            let refused = TcpStream::connect(address).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            // The client's connection is still open, so it still holds the port.
            feed = Feed::start(address, settings.clone()).unwrap();
        }
        assert!(first_lines.iter().all(|line| *line == first_lines[0]), "{first_lines:?}");
    }

    #[test]
    fn dropping_ends_a_client_that_does_not_read() {
        let feed = Feed::start(ANY_PORT, settings(Duration::ZERO)).unwrap();
        let client = TcpStream::connect(feed.address()).unwrap();
        // The first bytes show that the client is served. From then on the server fills the buffers between
        // the two, until a write blocks.
        client.peek(&mut [0]).unwrap();
        drop(feed);
    }

    #[test]
    fn dropping_ends_a_server_that_listens_on_all_addresses() {
        let all = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        drop(Feed::start(all, settings(Duration::ZERO)).unwrap());
    }

    #[test]
    fn a_list_of_modes_has_at_most_one_course() {
        let parse = |list: &str| list.parse::<Misbehavior>();
        let all = Misbehavior { split: true, junk: true, course: Course::Cut };
        assert_eq!(parse("split,junk,cut"), Ok(all));
        assert_eq!(parse("cut,split,cut,junk"), Ok(all));
        assert_eq!(parse("silence").unwrap().course, Course::Silence);
        assert!(parse("cut,hangup").is_err());
        assert!(parse("split,").is_err());
        assert!(parse("").is_err());
        assert!(parse("Split").is_err());
    }

    #[test]
    fn half_a_line_has_one_digit_less_than_its_number_and_at_least_one() {
        let mut numbers = Source::new(&settings(Duration::ZERO), 8001, 1);
        for _ in 0..10_000 {
            let whole = String::from_utf8(numbers.clone().lines(1)).unwrap();
            let half = String::from_utf8(numbers.half_a_line()).unwrap();
            assert!(whole.starts_with(&half) && !half.is_empty(), "{half:?} of {whole:?}");
            assert_eq!(half.len(), (whole.len() - 2).max(1), "{half:?} of {whole:?}");
        }
    }

    #[test]
    fn half_a_line_is_never_whole_and_has_no_carriage_return() {
        for kind in [Kind::Nmea, Kind::Sbs] {
            let settings = Settings { kind, ..settings(Duration::ZERO) };
            let mut source = Source::new(&settings, 8001, 1);
            for _ in 0..1000 {
                let whole = source.clone().lines(1);
                let half = source.half_a_line();
                assert_eq!(half, whole[..whole.len() - 3], "{}", String::from_utf8_lossy(&whole));
            }
        }
    }

    #[test]
    fn the_seed_and_the_port_choose_a_ship_and_the_client_does_not() {
        for kind in [Kind::Nmea, Kind::Sbs] {
            let lines = |seed, port, client_seed| {
                let kind = kind.clone();
                let settings = Settings { kind, seed, ..settings(Duration::ZERO) };
                Source::new(&settings, port, client_seed).lines(50)
            };
            let one = lines(1, 8001, 1);
            assert_eq!(one, lines(1, 8001, 2), "{kind:?}: clients of a port");
            assert_ne!(one, lines(1, 8002, 1), "{kind:?}: ports");
            assert_ne!(one, lines(2, 8001, 1), "{kind:?}: seeds");
            // What a seed counted up by port would have in common.
            assert_ne!(lines(1, 8002, 1), lines(2, 8001, 1), "{kind:?}: sums");
        }
    }
}
