//! Tests servers that are killed, suspended, reset, closed too early, too many, or back after an outage.

use std::env;
use std::fs::File;
use std::io::{self, BufRead, BufReader, PipeReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use rustix::process::set_parent_process_death_signal;

use crate::common::{DEADLINE, Program, Server, Signal};
use crate::ledger::{self, Ledger, Record, Records};
use crate::runner::{Form, Outcome};
use crate::subject::{Chunk, Subject, demo_server, memory_kib, own_address, percentiles, pour};

/// The argument that makes this program a server. The address to listen on follows. The server sends its
/// stdin.
pub(crate) const SERVE: &str = "serve";

/// Serves one connection, in a process of its own that can be killed.
pub(crate) fn serve() -> ! {
    // Otherwise the server would outlive a scenario that is killed.
    set_parent_process_death_signal(Some(Signal::KILL)).expect("any process may ask for it");
    let address = env::args().nth(2).expect("called by `ServerProcess::start`");
    let address: SocketAddr = address.parse().expect("an address");
    let listener = TcpListener::bind(address).expect("the address is free");
    writeln!(io::stdout(), "listening").expect("a pipe");
    let (mut stream, _) = listener.accept().expect("a connection");
    let feed = io::stdin().as_fd().try_clone_to_owned().expect("there are descriptors");
    // From a pipe to a socket this is splice(2). It removes only bytes that the socket has taken, even if
    // the process is killed in the middle of the call.
    io::copy(&mut File::from(feed), &mut stream).expect("the program reads");
    unreachable!("it is killed");
}

/// A server that can be killed.
struct ServerProcess {
    process: Child,
    /// The first number of its connection.
    first: u64,
    /// The server's stdin, which is refilled as fast as the server reads it.
    feed: PipeReader,
}

/// The bytes and whole lines that the kernel took from a killed server.
struct Taken {
    bytes: u64,
    lines: u64,
    /// Whether a part of a line follows them.
    is_truncated: bool,
}

impl ServerProcess {
    fn start(address: SocketAddr, connection: u64) -> ServerProcess {
        let (feed, mut filler) = io::pipe().expect("there are descriptors");
        let mut command = Command::new(env::current_exe().expect("this program has a path"));
        command.args([SERVE, &address.to_string()]).stdout(Stdio::piped());
        command.stdin(feed.try_clone().expect("there are descriptors"));
        let mut process = command.spawn().expect("this program runs");
        thread::spawn(move || pour(&mut filler, 0, connection));
        let stdout = process.stdout.take().expect("stdout is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("a pipe of ours");
        assert_eq!(line, "listening\n", "the output of the server");
        ServerProcess { process, first: ledger::number(0, connection, 0), feed }
    }

    fn kill(mut self) -> Taken {
        self.end();
        // The pipe still holds the bytes that the kernel did not take. They are the rest of a line, or a
        // whole line, and then a line whose number gives the count of lines before it.
        let mut left = BufReader::new(&self.feed).lines().map(|line| line.expect("a pipe of ours"));
        let mut next = || left.next().expect("the pipe is always refilled");
        let (rest, number) = (next(), next());
        let lines = number.parse::<u64>().expect("a number") - self.first - 1;
        // All lines of a connection are equally long.
        let part = number.len() - rest.len();
        let line = number.len() as u64 + 1;
        Taken { bytes: lines * line + part as u64, lines, is_truncated: part > 0 }
    }

    fn end(&mut self) {
        // Both fail only for a child that has been reaped.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.end();
    }
}

/// Kills a server process that sends as fast as it can, and starts it again. The bytes that the kernel took
/// must arrive, up to a truncated line.
pub(crate) fn killed_server(form: Form) -> Outcome {
    let rounds = form.pick(5, 100);
    let address = Server::bind_at(own_address(0)).close();
    // Each connection resets the back-off, so that each loss is logged.
    let backoff = "--initial-backoff 20ms --max-backoff 20ms --reset-backoff-threshold 0s";
    let mut subject = Subject::start(form.mode, backoff, &[address]);
    let records = Records::new(1);
    let mut ledger = Ledger::with_records(&records, form.mode);
    let (mut bytes, mut lines, mut truncated) = (0, 0, 0);
    let mut returns = Vec::new();
    for connection in 1..=rounds {
        let start = Instant::now();
        let server = ServerProcess::start(address, connection);
        // The first line of a connection settles the previous connection against its record.
        subject.read_until(&mut ledger, |ledger| ledger.progress(0).connection == connection);
        returns.push(start.elapsed());
        let enough = ledger.lines + 50_000;
        subject.read_until(&mut ledger, |ledger| ledger.lines >= enough);
        let taken = server.kill();
        records.add(0, Record { connection, sent: taken.lines, is_whole: true });
        bytes += taken.bytes;
        lines += taken.lines;
        truncated += u64::from(taken.is_truncated);
    }
    subject.read_until(&mut ledger, |ledger| ledger.lines == lines);
    for _ in 0..rounds {
        subject.program.wait_for_log("Connection lost");
    }
    let ended = subject.stop(|line| ledger.enter(line));
    ledger.settle_all();
    let totals = ["connects", "bytes", "lines", "truncated"].map(|words| ended.total(words));
    assert_eq!(
        totals,
        [rounds, bytes, lines, truncated],
        "connects, bytes, lines and truncated lines"
    );
    let (median, p99) = percentiles(returns);
    let figures = format!(
        "{rounds} kills, {bytes} bytes that the kernel took, each whole line of them printed \
         exactly once, {truncated} lines truncated; lines after a start in {median:.0?} (median), {p99:.0?} (99%)"
    );
    Outcome::Passed(figures, ended.tally())
}

/// Checks that the idle timeout detects a suspended server. TCP sees no failure, as the server's kernel
/// answers. The kernel also accepts new connections, each of which takes the timeout again.
pub(crate) fn stopped_server(form: Form) -> Outcome {
    let stopped_for = form.pick(Duration::from_secs(4), Duration::from_secs(60));
    let mut server =
        Program::spawn(Program::command(&demo_server()).args(["--interval", "20ms", "0"]));
    let line = server.wait_for_log("Listening on");
    let (_, address) = line.rsplit_once(' ').expect("the line names an address");
    let flags = "--idle-timeout 1s --initial-backoff 100ms --max-backoff 400ms";
    let mut subject = Subject::start(form.mode, flags, &[address.parse().expect("an address")]);
    assert_eq!(subject.stdout.read(DEADLINE, |_| {}), Chunk::Some, "no numbers");

    server.signal(Signal::STOP);
    let start = Instant::now();
    subject.program.wait_for_log("nothing received within the idle timeout");
    let found = start.elapsed();
    assert!(found < Duration::from_secs(11), "an idle timeout of 1 s took {found:?}");
    while start.elapsed() < stopped_for {
        let left = stopped_for.saturating_sub(start.elapsed());
        // These numbers were in transit when the server was suspended.
        subject.stdout.read(left, |_| {});
    }
    let start = Instant::now();
    server.signal(Signal::CONT);
    assert_eq!(subject.stdout.read(DEADLINE, |_| {}), Chunk::Some, "no numbers any more");
    let back = start.elapsed();
    let ended = subject.stop(|_| {});
    let figures = format!(
        "detected in {found:.1?} with an idle timeout of 1 s, again {} times in {stopped_for:?}, \
         numbers again {back:.1?} after it continued",
        ended.total("failures") - 1,
    );
    Outcome::Passed(figures, ended.tally())
}

/// Resets each connection after some lines and half of another one, whose digits alone would be a number.
pub(crate) fn reset_in_mid_line(form: Form) -> Outcome {
    const LINES: u64 = 100;
    let connections = form.pick(200, 5000);
    let server = Server::bind();
    let mut subject =
        Subject::start(form.mode, "--initial-backoff 1ms --max-backoff 5ms", &[server.address()]);
    let mut ledger = Ledger::new(1, form.mode);
    for connection in 1..=connections {
        let mut peer = server.accept();
        let text = ledger::lines(0, connection, 0, LINES + 1);
        // The newline is missing, and up to nine digits before it.
        let missing = usize::try_from(connection % 10).expect("a digit") + 1;
        peer.send(&text[..text.len() - missing]);
        // A reset may discard unread bytes, so the lines must be read before it.
        let read = |ledger: &Ledger| ledger.progress(0).connection == connection;
        subject.read_until(&mut ledger, |l| read(l) && l.progress(0).next == LINES);
        peer.reset();
    }
    server.close();
    let ended = subject.stop(|line| ledger.enter(line));
    let lines = connections * LINES;
    assert_eq!((ended.total("lines"), ledger.lines), (lines, lines), "read, and printed");
    let figures = format!(
        "{connections} resets, {} half lines read and none printed",
        ended.total("truncated"),
    );
    Outcome::Passed(figures, ended.tally())
}

/// Checks that the back-off grows for a server that accepts and closes at once, as for one that refuses.
pub(crate) fn accept_then_close(form: Form) -> Outcome {
    let (flags, first, max, watched) = form.pick(
        ("--initial-backoff 50ms --max-backoff 800ms", 50, 800, Duration::from_secs(4)),
        ("", 1000, 60_000, Duration::from_secs(60)),
    );
    let server = Server::bind();
    let subject = Subject::start(form.mode, flags, &[server.address()]);
    server.accept().close();
    let start = Instant::now();
    let mut closed = start;
    let mut accepts = 1;
    let mut delay = first;
    while let Some(peer) = server.accept_within(watched.saturating_sub(start.elapsed())) {
        let gap = closed.elapsed();
        // Jitter shortens the delay by up to a tenth.
        let least = Duration::from_millis(delay) * 9 / 10;
        assert!(gap >= least, "attempt {accepts} came after {gap:?}, expected at least {least:?}");
        accepts += 1;
        delay = max.min(delay * 2);
        // The delay starts at this moment.
        closed = Instant::now();
        peer.close();
    }
    assert!(accepts > 3, "too few attempts: {accepts} connections in {watched:?}");
    let ended = subject.stop(|line| panic!("no server sent {line:?}"));
    let figures = format!(
        "{accepts} connections in {watched:?}, none before its delay, which starts at {first} ms, \
         {} lines in the log",
        ended.log.len(),
    );
    Outcome::Passed(figures, ended.tally())
}

/// Takes a thousand servers down at the same moment, and brings them back at the same moment.
pub(crate) fn thousand_down_and_back(form: Form) -> Outcome {
    const SERVERS: usize = 1000;
    // `longest` is the longest delay in milliseconds that the back-off reaches while the servers are down.
    let (flags, down, longest) = form.pick(
        ("--initial-backoff 100ms --max-backoff 1s", Duration::from_secs(2), 1100),
        ("", Duration::from_secs(30), 35_200),
    );
    let addresses: Vec<SocketAddr> = (0..SERVERS).map(own_address).collect();
    let mut crowd = Crowd::listen(&addresses);
    let addresses = crowd.addresses();
    let mut subject =
        Subject::start(form.mode, &format!("{flags} --connect-timeout 60s"), &addresses);
    let mut ledger = Ledger::new(SERVERS, form.mode);
    crowd.accept(SERVERS, DEADLINE, |server| ledger::lines(server, 1, 0, 1));
    subject.read_until(&mut ledger, |ledger| ledger.lines == SERVERS as u64);
    let before_kib = memory_kib(&subject.program, "VmRSS");
    drop(crowd);
    thread::sleep(down);

    let mut crowd = Crowd::listen(&addresses);
    let back = crowd.accept(SERVERS, DEADLINE, |server| ledger::lines(server, 2, 0, 1));
    subject.read_until(&mut ledger, |ledger| ledger.lines == 2 * SERVERS as u64);
    let last = *back.iter().max().expect("a thousand");
    let (median, p99) = percentiles(back);
    // The margin is for slow machines. In the full form, a server that waits for another delay would exceed
    // it.
    let limit = Duration::from_millis(longest) + Duration::from_secs(10);
    assert!(last < limit, "the last one came back after {last:?}");
    let more = crowd.accept(1, Duration::from_millis(500), |_| Vec::new());
    assert!(more.is_empty(), "a connected server was dialed");
    let ended = subject.stop(|line| ledger.enter(line));
    assert_eq!(ended.total("connects"), 2 * SERVERS as u64);
    let figures = format!(
        "down for {down:?}, all connected again: median {median:.1?}, 99% {p99:.1?}, last \
         {last:.1?}, with {before_kib} KiB before it"
    );
    Outcome::Passed(figures, ended.tally())
}

/// Checks that servers without a descriptor wait for one that becomes free.
pub(crate) fn descriptor_limit(form: Form) -> Outcome {
    const LIMIT: usize = 48;
    let servers = form.pick(150, 1000);
    let addresses: Vec<SocketAddr> = (0..servers).map(own_address).collect();
    let mut crowd = Crowd::listen(&addresses);
    let command = Subject::command(
        form.mode,
        "--initial-backoff 20ms --max-backoff 100ms -p 2",
        &crowd.addresses(),
    );
    let mut limited = Program::command("sh");
    limited.args(["-c", &format!("ulimit -n {LIMIT}; exec \"$@\""), "sh"]);
    limited.arg(command.get_program()).args(command.get_args());
    let mut subject = Subject::spawn(&mut limited);
    let mut ledger = Ledger::new(servers, form.mode);
    let mut rounds = 0;
    let mut most = 0;
    let start = Instant::now();
    while ledger.lines < servers as u64 {
        assert!(start.elapsed() < DEADLINE, "{} of {servers} served", ledger.lines);
        let pause = Duration::from_millis(300);
        let count = crowd.accept(servers, pause, |server| ledger::lines(server, 1, 0, 1)).len();
        subject.read_until(&mut ledger, |ledger| ledger.lines >= crowd.accepted);
        rounds += 1;
        most = most.max(count);
        crowd.close_accepted();
    }
    assert!(most < LIMIT, "{most} connections with {LIMIT} descriptors");
    let ended = subject.stop(|line| ledger.enter(line));
    let warnings = ended.count("Too many open files");
    assert!(warnings > 0, "the log does not name the reason: {:#?}", ended.log);
    let figures = format!(
        "{servers} servers with {LIMIT} descriptors: served in {rounds} rounds of at most {most}, \
         {warnings} lines about it in the log"
    );
    Outcome::Passed(figures, ended.tally())
}

/// Many servers in one thread.
struct Crowd {
    poll: Poll,
    listeners: Vec<Option<mio::net::TcpListener>>,
    streams: Vec<(usize, mio::net::TcpStream)>,
    /// The connections so far.
    accepted: u64,
}

impl Crowd {
    fn listen(addresses: &[SocketAddr]) -> Crowd {
        let poll = Poll::new().expect("there are descriptors");
        let listen = |(server, address): (usize, &SocketAddr)| {
            let mut listener = mio::net::TcpListener::bind(*address)
                .unwrap_or_else(|error| panic!("bind {address}: {error}"));
            poll.registry()
                .register(&mut listener, Token(server), Interest::READABLE)
                .expect("a fresh socket can be polled");
            Some(listener)
        };
        let listeners = addresses.iter().enumerate().map(listen).collect();
        Crowd { poll, listeners, streams: Vec::new(), accepted: 0 }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        let address = |l: &mio::net::TcpListener| l.local_addr().expect("it is bound");
        self.listeners.iter().flatten().map(address).collect()
    }

    /// Accepts `count` connections, or those that arrive before a pause of this length. Sends each the
    /// `text` of its server, and returns the times of their arrival.
    fn accept(
        &mut self,
        count: usize,
        pause: Duration,
        text: impl Fn(usize) -> Vec<u8>,
    ) -> Vec<Duration> {
        let start = Instant::now();
        let mut came = Vec::new();
        let mut events = Events::with_capacity(1024);
        while came.len() < count {
            self.poll.poll(&mut events, Some(pause)).expect("a poll without signals");
            if events.is_empty() {
                break;
            }
            for event in &events {
                let server = event.token().0;
                let Some(listener) = &self.listeners[server] else { continue };
                while let Ok((mut stream, _)) = listener.accept() {
                    came.push(start.elapsed());
                    self.accepted += 1;
                    // A few bytes always fit into a fresh socket.
                    stream.write_all(&text(server)).expect("the connection is open");
                    self.streams.push((server, stream));
                }
            }
        }
        came
    }

    /// Closes the accepted connections, and their listeners.
    fn close_accepted(&mut self) {
        for (server, _) in self.streams.drain(..) {
            self.listeners[server] = None;
        }
    }
}
