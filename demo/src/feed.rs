//! A TCP server of random numbers, to try a collector on: one thread accepts, one thread serves each
//! client. It can be told to misbehave in the ways that real feeds do.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::{info, warn};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};

/// A running server. Dropping it is what killing the process is to a stand-alone one: the port refuses
/// connections and every client has been cut off once `drop` returns, and the port can be bound again
/// at once.
pub(crate) struct Feed {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    /// `None` only while dropping.
    acceptor: Option<JoinHandle<()>>,
}

/// What a server sends.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// From one line to the next. Zero: as fast as the client takes them, from a buffer of
    /// [`BATCH_LINES`] prepared numbers sent over and over. At most a day.
    pub(crate) interval: Duration,
    /// The n-th client since the start gets the same numbers whenever the seed is the same.
    pub(crate) seed: u64,
    /// Numbers a client gets before its connection is closed. `None`: there is no end, but for a
    /// [`Course`] that needs one, which takes [`DEFAULT_TURN`].
    pub(crate) count: Option<u64>,
    /// How the server departs from a good feed.
    pub(crate) misbehaviour: Misbehaviour,
}

/// How a server departs from a good feed; by default not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Misbehaviour {
    /// Each byte is a write of its own, and a pause keeps it from arriving with the next.
    split: bool,
    /// A line that is not a number follows each number.
    junk: bool,
    course: Course,
}

/// What a connection comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Course {
    /// Numbers, and a close after the last of them if there is a last one.
    #[default]
    Numbers,
    /// Numbers, half a line, a close.
    Cut,
    /// Numbers, then a line without an end.
    Endless,
    /// A close at once.
    Hangup,
    /// Nothing, ever.
    Silence,
}

/// Numbers sent before a cut or an endless line when no count is given.
const DEFAULT_TURN: u64 = 10;

/// Numbers prepared for a client that is served without pauses: large enough that the generator costs
/// nothing against the sending, small enough to stay in a core's cache.
const BATCH_LINES: u64 = 1 << 16;

/// Keeps the bytes of a split line apart on the way. A pause is no more than that: a receiver that was
/// held up still sees them in one piece.
const SPLIT_PAUSE: Duration = Duration::from_millis(1);

/// Keeps a failing `accept`, say for want of file descriptors, from spinning.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Lines that are not numbers, though most begin, end or look like one.
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
    /// Listens on `address` (port 0: on any free port, see [`Feed::address`]) and serves whoever
    /// connects.
    ///
    /// # Errors
    /// What `bind` says, of which "address in use" is the likely one, or that no thread could be had.
    pub(crate) fn start(address: SocketAddr, settings: Settings) -> io::Result<Feed> {
        info!("Opening the server on port {}", address.port());
        // On Unix the standard library sets SO_REUSEADDR, without which the connections of a server
        // that was just killed would keep its port from the next one for a minute.
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let acceptor = thread::Builder::new().name(format!("accept {address}")).spawn({
            let stopping = Arc::clone(&stopping);
            move || accept_until_stopped(listener, &settings, &stopping)
        })?;
        let feed = Feed { address, stopping, acceptor: Some(acceptor) };
        info!("Listening on {}", feed.address());
        Ok(feed)
    }

    /// Where it listens, with the real port.
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
        // `accept` has no portable way to be interrupted but a connection. That one may fail, for want
        // of file descriptors for instance, and is then tried again.
        while !acceptor.is_finished() {
            match TcpStream::connect_timeout(&reachable(self.address), Duration::from_secs(1)) {
                Ok(_) => break,
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
        if acceptor.join().is_err() {
            warn!("The server on {} ended by a panic", self.address);
        }
    }
}

impl FromStr for Misbehaviour {
    /// What is wrong, to be read after the flag's name.
    type Err = String;

    /// Reads a list with commas: `split` and `junk`, and at most one of the courses.
    fn from_str(list: &str) -> Result<Misbehaviour, String> {
        let mut parsed = Misbehaviour::default();
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
            if parsed.course != Course::Numbers && parsed.course != course {
                return Err(format!("not two of these four in '{}'", list.escape_debug()));
            }
            parsed.course = course;
        }
        Ok(parsed)
    }
}

/// The acceptor's thread. Returns with the port closed and all clients gone.
fn accept_until_stopped(listener: TcpListener, settings: &Settings, stopping: &Arc<AtomicBool>) {
    // A seed for each client in turn, so that clients differ and yet repeat.
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
        // Weak, so that the socket is closed by the end of the client's thread and not when the next
        // client comes.
        let handle = Arc::downgrade(&stream);
        let client = Client::new(stream, peer, settings.clone(), seeds.next_u64());
        let stopping = Arc::clone(stopping);
        match thread::Builder::new().name(peer.to_string()).spawn(move || client.run(&stopping)) {
            Ok(thread) => clients.push((handle, thread)),
            Err(error) => warn!("Closed the connection to {peer}: no thread for it: {error}"),
        }
    }
    drop(listener);
    for (stream, _) in &clients {
        if let Some(stream) = stream.upgrade() {
            // Fails only if the connection is gone, which is what it is for.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
    for (_, thread) in clients {
        if thread.join().is_err() {
            warn!("A client's thread ended by a panic");
        }
    }
}

/// One client and what it is sent.
struct Client {
    stream: Arc<TcpStream>,
    peer: SocketAddr,
    settings: Settings,
    numbers: Numbers,
    /// Numbers sent, less those of a batch that the end of the connection cut short.
    sent: u64,
}

impl Client {
    fn new(stream: Arc<TcpStream>, peer: SocketAddr, settings: Settings, seed: u64) -> Client {
        let numbers = Numbers::new(seed, settings.misbehaviour.junk);
        Client { stream, peer, settings, numbers, sent: 0 }
    }

    /// The client's thread.
    fn run(mut self, stopping: &AtomicBool) {
        let outcome = self.serve();
        let Client { stream, peer, sent, .. } = self;
        // The log tells of a connection that is closed, not of one that is about to be.
        drop(stream);
        // Whatever a stop made of the connection, it was the server that ended it.
        let stopped = stopping.load(Ordering::Acquire);
        match outcome {
            Err(error) if !stopped && error.kind() == io::ErrorKind::UnexpectedEof => {
                info!("Connection closed by {peer}, numbers sent: {sent}");
            }
            Err(error) if !stopped => {
                info!("Lost the connection to {peer}, numbers sent: {sent}: {error}");
            }
            _ => info!("Closed the connection to {peer}, numbers sent: {sent}"),
        }
    }

    /// Sends what there is to be sent. `Ok` is for a connection that we end, `UnexpectedEof` for one
    /// that the peer closed.
    fn serve(&mut self) -> io::Result<()> {
        // Each line, and each piece of a split one, is to leave when it is written.
        self.stream.set_nodelay(true)?;
        let turn = self.settings.count.unwrap_or(DEFAULT_TURN);
        match self.settings.misbehaviour.course {
            Course::Numbers => self.send_numbers(self.settings.count.unwrap_or(u64::MAX)),
            Course::Cut => {
                self.send_numbers(turn)?;
                let half = self.numbers.half_a_line();
                self.send(&half)
            }
            Course::Endless => {
                self.send_numbers(turn)?;
                self.send_digits()
            }
            Course::Hangup => Ok(()),
            Course::Silence => loop {
                self.wait(Duration::from_secs(3600))?;
            },
        }
    }

    fn send_numbers(&mut self, count: u64) -> io::Result<()> {
        if self.settings.interval.is_zero() {
            return self.send_numbers_in_batches(count);
        }
        let mut due = Instant::now();
        for _ in 0..count {
            // By the clock and not by the pause, so that the rate is kept on average.
            self.wait_until(due)?;
            due += self.settings.interval;
            let line = self.numbers.lines(1);
            self.send(&line)?;
            self.sent += 1;
        }
        Ok(())
    }

    fn send_numbers_in_batches(&mut self, count: u64) -> io::Result<()> {
        let batch = self.numbers.clone().lines(BATCH_LINES.min(count));
        for _ in 0..count / BATCH_LINES {
            self.send(&batch)?;
            self.sent += BATCH_LINES;
        }
        let rest = self.numbers.lines(count % BATCH_LINES);
        self.send(&rest)?;
        self.sent += count % BATCH_LINES;
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
        if !self.settings.misbehaviour.split {
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

    /// Waits by reading, so that a client that goes away is noticed at once and not at a later write.
    /// What it sends is thrown away. A client that closes only its sending side is taken for gone.
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

/// A client's numbers, with junk between them if so wished.
#[derive(Clone)]
struct Numbers {
    rng: Xoshiro256PlusPlus,
    junk: Option<std::iter::Cycle<std::array::IntoIter<&'static [u8], { JUNK.len() }>>>,
}

impl Numbers {
    fn new(seed: u64, junk: bool) -> Numbers {
        Numbers {
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            junk: junk.then(|| JUNK.into_iter().cycle()),
        }
    }

    /// The next `count` numbers as lines.
    fn lines(&mut self, count: u64) -> Vec<u8> {
        let mut lines = Vec::new();
        for _ in 0..count {
            self.push_number(&mut lines);
            lines.push(b'\n');
            if let Some(junk) = self.junk.as_mut().and_then(Iterator::next) {
                lines.extend_from_slice(junk);
                lines.push(b'\n');
            }
        }
        lines
    }

    /// The next number without its newline and, where more than one digit is there, without its last
    /// digit: what is left still reads as a number, and a wrong one.
    fn half_a_line(&mut self) -> Vec<u8> {
        let mut half = Vec::new();
        self.push_number(&mut half);
        half.truncate(half.len().saturating_sub(1).max(1));
        half
    }

    fn push_number(&mut self, line: &mut Vec<u8>) {
        let number: u16 = self.rng.random_range(1..=666);
        line.extend_from_slice(number.to_string().as_bytes());
    }
}

/// An address to connect to for a listener, which may listen on all.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Whether a read ended without anything having happened. Which of the first two a timeout is depends
/// on the platform.
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
        Settings { interval, seed: 1, count: None, misbehaviour: Misbehaviour::default() }
    }

    fn connect(address: SocketAddr) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        BufReader::new(stream)
    }

    #[test]
    fn dropping_ends_the_port_and_the_clients_and_starting_again_works_at_once() {
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
            assert_eq!(client.read_line(&mut String::new()).unwrap(), 0, "the client is cut off");
            let refused = TcpStream::connect(address).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            // The client is still there, so its connection still holds the port.
            feed = Feed::start(address, settings.clone()).unwrap();
        }
        assert!(first_lines.iter().all(|line| *line == first_lines[0]), "{first_lines:?}");
    }

    #[test]
    fn dropping_ends_a_client_that_does_not_read() {
        let feed = Feed::start(ANY_PORT, settings(Duration::ZERO)).unwrap();
        let client = TcpStream::connect(feed.address()).unwrap();
        // Its first bytes show that it is being served. From then on the server fills the buffers
        // between the two, up to a write that blocks.
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
        let parse = |list: &str| list.parse::<Misbehaviour>();
        let all = Misbehaviour { split: true, junk: true, course: Course::Cut };
        assert_eq!(parse("split,junk,cut"), Ok(all));
        assert_eq!(parse("cut,split,cut,junk"), Ok(all));
        assert_eq!(parse("silence").unwrap().course, Course::Silence);
        assert!(parse("cut,hangup").is_err());
        assert!(parse("split,").is_err());
        assert!(parse("").is_err());
        assert!(parse("Split").is_err());
    }

    #[test]
    fn half_a_line_is_never_empty_and_never_the_whole_number_of_more_digits() {
        let mut numbers = Numbers::new(1, false);
        for _ in 0..10_000 {
            let whole = String::from_utf8(numbers.clone().lines(1)).unwrap();
            let half = String::from_utf8(numbers.half_a_line()).unwrap();
            assert!(whole.starts_with(&half) && !half.is_empty(), "{half:?} of {whole:?}");
            assert_eq!(half.len(), (whole.len() - 2).max(1), "{half:?} of {whole:?}");
        }
    }
}
