//! One worker with very many servers, over a net in memory: memory per link, cost per attempt, and the storm of
//! attempts when all servers are lost at once.
//!
//! `cargo test --release --test crowd -- --ignored --nocapture` runs a million links and prints the figures of
//! docs/scaling.md. Time is simulated, so a storm of minutes takes seconds. All figures but those of CPU are the same
//! on every machine.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration as StdDuration;

use tcpcore::internals::codec::number::NumberDecoder;
use tcpcore::internals::proto::connection_error::ConnectionError;
use tcpcore::internals::proto::fleet::Fleet;
use tcpcore::internals::proto::link::Sink;
use tcpcore::internals::proto::link_id::LinkId;
use tcpcore::internals::proto::policy::Policy;
use tcpcore::internals::proto::socket_id::SocketId;
use tcpcore::internals::proto::time::Instant;
use tcpcore::internals::proto::worker::{Handshake, Io, Polled, Ready, Worker};
use tcpcore::{Config, Server};

/// The most events of a poll, as in `net`.
const EVENTS: usize = 1024;

/// The length of a bucket in which attempts are counted, in microseconds.
const BUCKET_US: u64 = 100_000;

/// The time of a connect in microseconds where it is not left out: that of one that a loopback refuses.
const BUSY_CONNECT_US: u64 = 50;

/// Counts the bytes of the heap that are in use, and their peak.
struct CountingAllocator;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: each method passes its arguments on to the system's allocator, which fulfills the contract.
#[expect(unsafe_code, reason = "the trait of an allocator is unsafe")]
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(IN_USE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller fulfills the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `memory` is from `alloc`, which had it from the system's allocator.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// The state of a socket.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Closed,
    Dialed { accepted: bool },
    Connected,
    Lost,
}

/// A net in which all servers are up or down together, and a clock that jumps to the next deadline.
struct Net {
    now_us: u64,
    /// The time that each connect takes, of the worker.
    connect_us: u64,
    /// The time from which on servers accept.
    up_from_us: u64,
    sockets: Vec<Phase>,
    ready: VecDeque<Ready>,
    connected: usize,
    /// The attempts, and the time of each connect that was accepted, by bucket.
    attempts: Vec<u32>,
    accepted: Vec<u32>,
    since_us: u64,
    polls: u64,
    /// Whether the worker has nothing to do until something happens.
    is_idle: bool,
}

impl Net {
    /// Its memory is allocated now, so that what is allocated later is the worker's.
    fn new(links: usize, connect_us: u64) -> Net {
        Net {
            now_us: 0,
            connect_us,
            up_from_us: 0,
            sockets: Vec::with_capacity(2 * links + EVENTS),
            ready: VecDeque::with_capacity(2 * links + EVENTS),
            connected: 0,
            attempts: vec![0; 36_000],
            accepted: vec![0; 36_000],
            since_us: 0,
            polls: 0,
            is_idle: false,
        }
    }

    /// Ends all connections now. Servers accept again after `down`.
    fn lose_all(&mut self, down: StdDuration) {
        self.since_us = self.now_us;
        self.up_from_us = self.now_us + u64::try_from(down.as_micros()).unwrap();
        self.attempts.fill(0);
        self.accepted.fill(0);
        self.polls = 0;
        self.is_idle = false;
        for (at, phase) in self.sockets.iter_mut().enumerate() {
            if *phase == Phase::Connected {
                *phase = Phase::Lost;
                self.connected -= 1;
                self.ready.push_back(Ready { socket: SocketId(at), read_on: true });
            }
        }
    }

    fn bucket(&self) -> usize {
        usize::try_from((self.now_us - self.since_us) / BUCKET_US).unwrap()
    }
}

impl Io for Net {
    const SHORT_READ_MEANS_DRAINED: bool = true;

    fn is_stopped(&self) -> bool {
        false
    }

    fn now(&mut self) -> Instant {
        Instant::from_millis(self.now_us / 1000)
    }

    fn poll(&mut self, until: Option<Instant>, events: &mut Vec<Ready>) -> Polled {
        self.polls += 1;
        events.clear();
        if self.ready.is_empty() {
            match until {
                Some(until) => self.now_us = self.now_us.max(until.as_millis() * 1000),
                None => self.is_idle = true,
            }
        }
        let count = self.ready.len().min(EVENTS);
        events.extend(self.ready.drain(..count));
        if count == EVENTS { Polled::Full } else { Polled::Complete }
    }

    fn connect(&mut self, socket: SocketId, _: SocketAddr) -> Result<(), ConnectionError> {
        self.now_us += self.connect_us;
        let accepted = self.now_us >= self.up_from_us;
        let bucket = self.bucket();
        self.attempts[bucket] += 1;
        self.accepted[bucket] += u32::from(accepted);
        if socket.0 >= self.sockets.len() {
            self.sockets.resize(socket.0 + 1, Phase::Closed);
        }
        self.sockets[socket.0] = Phase::Dialed { accepted };
        self.ready.push_back(Ready { socket, read_on: false });
        Ok(())
    }

    fn handshake(&mut self, socket: SocketId) -> Result<Handshake, ConnectionError> {
        match self.sockets[socket.0] {
            Phase::Dialed { accepted: true } => {
                self.sockets[socket.0] = Phase::Connected;
                self.connected += 1;
                Ok(Handshake::Connected)
            }
            _ => Err(ConnectionError::Refused),
        }
    }

    fn read(&mut self, socket: SocketId, _: &mut [u8]) -> io::Result<usize> {
        match self.sockets[socket.0] {
            Phase::Lost => Ok(0),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn close(&mut self, socket: SocketId) {
        self.sockets[socket.0] = Phase::Closed;
    }

    fn resolve(&mut self, _: LinkId, server: &Server) {
        unreachable!("{server} is an address")
    }

    fn answer(&mut self) -> Option<(LinkId, io::Result<Vec<SocketAddr>>)> {
        None
    }
}

/// Takes no records, as no server sends any.
struct Nowhere;

impl Sink<i64> for Nowhere {
    fn room(&mut self, want: usize) -> usize {
        want
    }

    fn begin(&mut self, _: usize) {}

    fn push(&mut self, _: &[i64]) {}

    fn publish(&mut self) {}

    fn wait_for_room(&mut self) -> bool {
        false
    }
}

/// The delays of a storm.
#[derive(Clone, Copy)]
struct Delays {
    initial_s: u64,
    max_s: u64,
    jitter: f64,
}

/// Those of the program by default.
const DEFAULT: Delays = Delays { initial_s: 1, max_s: 60, jitter: 0.1 };

/// A worker whose links are all connected.
struct Crowd {
    worker: Worker<NumberDecoder, Nowhere>,
    net: Net,
    /// The bytes of the heap for each link when it is added, and connected.
    added_bytes: usize,
    connected_bytes: usize,
}

impl Crowd {
    fn connect(links: usize, delays: Delays, connect_us: u64) -> Crowd {
        let net = Net::new(links, connect_us);
        let now = Instant::from_millis(0);
        let config = Config::builder()
            .servers(["192.0.2.1:9000".parse().unwrap()])
            .initial_backoff(StdDuration::from_secs(delays.initial_s))
            .max_backoff(StdDuration::from_secs(delays.max_s))
            .jitter_factor(delays.jitter)
            .build()
            .unwrap();
        let decoder = config.number_decoder().unwrap();
        let before = IN_USE.load(Relaxed);
        let mut fleet = Fleet::new(0, Policy::from(&config), decoder, Box::new(()), 1, now);
        for index in 0..links {
            let [_, a, b, c] = u32::try_from(index).unwrap().to_be_bytes();
            fleet.add(index, format!("10.{a}.{b}.{c}:9000").parse().unwrap(), now);
        }
        let added_bytes = (IN_USE.load(Relaxed) - before) / links;
        let worker = Worker::new(fleet, Nowhere, now);
        let mut crowd = Crowd { worker, net, added_bytes, connected_bytes: 0 };
        crowd.run();
        assert_eq!(crowd.net.connected, links);
        crowd.connected_bytes = (IN_USE.load(Relaxed) - before) / links;
        crowd
    }

    /// Runs until the worker has nothing more to do.
    fn run(&mut self) {
        while !self.net.is_idle {
            assert!(self.worker.turn(&mut self.net).is_continue());
        }
    }
}

/// The course of a storm of attempts.
struct Storm {
    attempts: u64,
    /// The most attempts in 100 ms and in a second.
    peak_100ms: u32,
    peak_1s: u32,
    /// The most attempts in a second that a server accepted.
    peak_1s_accepted: u32,
    /// The seconds from the return of the servers until half of them and all were connected.
    half_s: f64,
    all_s: f64,
    polls: u64,
}

impl Crowd {
    /// Loses all servers at once, and runs until all are connected again.
    fn storm(&mut self, down: StdDuration) -> Storm {
        let links = self.net.connected;
        self.net.lose_all(down);
        self.run();
        assert_eq!(self.net.connected, links);
        let Net { attempts, accepted, polls, .. } = &self.net;
        let peak = |counts: &[u32], buckets| {
            counts.windows(buckets).map(|window| window.iter().sum()).max().unwrap()
        };
        let seconds_until = |count: usize| {
            let mut sum = 0;
            let bucket = accepted.iter().position(|accepted| {
                sum += *accepted as usize;
                sum >= count
            });
            (bucket.unwrap() + 1) as f64 / 10.0 - down.as_secs_f64()
        };
        Storm {
            attempts: attempts.iter().copied().map(u64::from).sum(),
            peak_100ms: peak(attempts, 1),
            peak_1s: peak(attempts, 10),
            peak_1s_accepted: peak(accepted, 10),
            half_s: seconds_until(links / 2),
            all_s: seconds_until(links),
            polls: *polls,
        }
    }
}

/// The tests count the bytes of one heap, so they take turns.
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[test]
fn twenty_thousand_links_stay_within_their_memory_and_come_back_within_two_delays() {
    let _turn = TURN.lock();
    const LINKS: usize = 20_000;
    const DOWN_S: u64 = 5;
    let mut crowd = Crowd::connect(LINKS, DEFAULT, 0);
    // Tables double when they are full. So 20,000 links have tables for 32,768.
    assert!(crowd.connected_bytes <= 560, "{} bytes a link", crowd.connected_bytes);
    let storm = crowd.storm(StdDuration::from_secs(DOWN_S));
    // Attempts follow after 1, 3 and 7 s, each delay within a tenth. The third one finds the servers up.
    assert_eq!(storm.attempts, 3 * LINKS as u64);
    assert!((1.9..2.3).contains(&storm.half_s), "half are back after {} s", storm.half_s);
    assert!(storm.all_s <= 2.8, "all are back after {} s", storm.all_s);
    // The first ones are spread evenly over 200 ms.
    let half = u32::try_from(LINKS / 2).unwrap();
    assert!(storm.peak_100ms < half + half / 10, "{} attempts in 100 ms", storm.peak_100ms);
    // Each turn takes up to 64 timers, and a poll reports the answers of many attempts.
    assert!(storm.polls < 10_000, "{} polls", storm.polls);
    assert!(crowd.worker.fleet().next_deadline().is_none(), "a connected link has a timer");
}

#[test]
fn a_jitter_of_one_spreads_the_first_attempts_over_twice_the_delay() {
    let _turn = TURN.lock();
    const LINKS: usize = 20_000;
    let delays = Delays { initial_s: 60, max_s: 60, jitter: 1.0 };
    let storm = Crowd::connect(LINKS, delays, 0).storm(StdDuration::ZERO);
    assert_eq!(storm.attempts, LINKS as u64);
    let mean = u32::try_from(LINKS / 120).unwrap();
    assert!(storm.peak_1s < 2 * mean, "{} attempts in a second, {mean} in the mean", storm.peak_1s);
    assert!(storm.all_s <= 120.1, "all are back after {} s", storm.all_s);
}

#[test]
#[ignore = "takes minutes and 2 GiB of memory"]
#[expect(clippy::print_stdout, reason = "the figures are for reading")]
fn a_million_links() {
    let _turn = TURN.lock();
    const LINKS: usize = 1_000_000;
    let down = StdDuration::from_secs(30);
    let begin = cpu();
    let mut crowd = Crowd::connect(LINKS, DEFAULT, 0);
    let connect = cpu() - begin;
    println!("{LINKS} links in one worker");
    println!(
        "heap per link: {} bytes added, {} connected",
        crowd.added_bytes, crowd.connected_bytes
    );
    println!("CPU per first attempt, with the list and the net: {} ns", per(connect, LINKS as u64));
    let in_use = IN_USE.load(Relaxed);
    PEAK.store(in_use, Relaxed);
    let begin = cpu();
    let storm = crowd.storm(down);
    let storm_cpu = cpu() - begin;
    println!(
        "all lost for {} s: {} attempts, {} ns of CPU and {:.3} polls each; {} bytes more per link at the peak",
        down.as_secs(),
        storm.attempts,
        per(storm_cpu, storm.attempts),
        storm.polls as f64 / storm.attempts as f64,
        (PEAK.load(Relaxed) - in_use) / LINKS,
    );
    drop(crowd);
    println!();
    println!(
        "| delays, jitter | down | a connect takes | attempts each | most in 1 s | most accepted in 1 s \
         | half back | all back |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    let spread = Delays { initial_s: 10, max_s: 60, jitter: 1.0 };
    let wide = Delays { initial_s: 60, max_s: 300, jitter: 1.0 };
    for (delays, down_s, connect_us) in [
        (DEFAULT, 0, 0),
        (DEFAULT, 30, 0),
        (DEFAULT, 600, 0),
        (DEFAULT, 30, BUSY_CONNECT_US),
        (Delays { jitter: 1.0, ..DEFAULT }, 0, 0),
        (Delays { jitter: 1.0, ..DEFAULT }, 30, 0),
        (spread, 0, 0),
        (spread, 30, 0),
        (spread, 600, 0),
        (wide, 0, 0),
        (wide, 30, 0),
        (wide, 600, 0),
    ] {
        let mut crowd = Crowd::connect(LINKS, delays, connect_us);
        let storm = crowd.storm(StdDuration::from_secs(down_s));
        println!(
            "| {} s, {} s, {} | {down_s} s | {connect_us} µs | {:.1} | {} | {} | {:.1} s | {:.1} s |",
            delays.initial_s,
            delays.max_s,
            delays.jitter,
            storm.attempts as f64 / LINKS as f64,
            storm.peak_1s,
            storm.peak_1s_accepted,
            storm.half_s,
            storm.all_s,
        );
    }
}

/// Returns the processor time of this thread.
fn cpu() -> StdDuration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    StdDuration::from_nanos(nanos.unwrap_or_default())
}

fn per(time: StdDuration, count: u64) -> u128 {
    time.as_nanos() / u128::from(count)
}
