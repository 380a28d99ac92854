//! Servers that are killed, stopped, reset, too quick to close, too many, and back.

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

/// Tells this program to be a server: then follows the address to listen on. What it sends is its
/// stdin.
pub(crate) const SERVE: &str = "serve";

/// A server that is a process of its own, so that it can be killed. It serves one connection.
pub(crate) fn serve() -> ! {
    // Nobody else would end it if the scenario itself were killed.
    set_parent_process_death_signal(Some(Signal::KILL)).expect("any process may ask for it");
    let address = env::args().nth(2).expect("called by `ServerProcess::start`");
    let address: SocketAddr = address.parse().expect("an address");
    let listener = TcpListener::bind(address).expect("the address is free");
    writeln!(io::stdout(), "listening").expect("a pipe");
    let (mut stream, _) = listener.accept().expect("a connection");
    let feed = io::stdin().as_fd().try_clone_to_owned().expect("there are descriptors");
    // From a pipe to a socket this is splice(2), by which nothing ever leaves the pipe that the socket
    // has not taken, not even if the process is killed in the middle of it.
    io::copy(&mut File::from(feed), &mut stream).expect("the program reads");
    unreachable!("it is killed");
}

struct ServerProcess {
    process: Child,
    /// The first number of its connection.
    first: u64,
    /// The server's stdin, which is filled as fast as it is emptied.
    feed: PipeReader,
}

/// What the kernel took from a killed server, in bytes and in whole lines.
struct Taken {
    bytes: u64,
    lines: u64,
    /// Whether a part of a line came after them.
    is_cut: bool,
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
        assert_eq!(line, "listening\n", "what the server says");
        ServerProcess { process, first: ledger::number(0, connection, 0), feed }
    }

    fn kill(mut self) -> Taken {
        self.end();
        // What the kernel did not take is still in the pipe: the rest of a line, or all of it, and then
        // a line that tells by its number how many came before it.
        let mut left = BufReader::new(&self.feed).lines().map(|line| line.expect("a pipe of ours"));
        let mut next = || left.next().expect("the pipe is filled for ever");
        let (rest, number) = (next(), next());
        let lines = number.parse::<u64>().expect("a number") - self.first - 1;
        // All lines of a connection are equally long.
        let part = number.len() - rest.len();
        let line = number.len() as u64 + 1;
        Taken { bytes: lines * line + part as u64, lines, is_cut: part > 0 }
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

/// A server process is killed while it sends as fast as it can, and started again. What the kernel
/// took from it arrives, up to a line that was cut.
pub(crate) fn killed_server(form: Form) -> Outcome {
    let rounds = form.pick(5, 100);
    let address = Server::bind_at(own_address(0)).close();
    // With each connection the back-off starts over, so that each loss is logged.
    let backoff = "--initial-backoff 20ms --max-backoff 20ms --reset-backoff-threshold 0s";
    let mut subject = Subject::start(backoff, &[address]);
    let records = Records::new(1);
    let mut ledger = Ledger::with_records(&records);
    let (mut bytes, mut lines, mut cut) = (0, 0, 0);
    let mut returns = Vec::new();
    for connection in 1..=rounds {
        let start = Instant::now();
        let server = ServerProcess::start(address, connection);
        // With its first line the connection before is settled against its record.
        subject.read_until(&mut ledger, |ledger| ledger.progress(0).connection == connection);
        returns.push(start.elapsed());
        let enough = ledger.lines + 50_000;
        subject.read_until(&mut ledger, |ledger| ledger.lines >= enough);
        let taken = server.kill();
        records.add(0, Record { connection, sent: taken.lines, is_whole: true });
        bytes += taken.bytes;
        lines += taken.lines;
        cut += u64::from(taken.is_cut);
    }
    subject.read_until(&mut ledger, |ledger| ledger.lines == lines);
    for _ in 0..rounds {
        subject.program.wait_for_log("Connection lost");
    }
    let ended = subject.stop(|line| ledger.enter(line));
    ledger.settle_all();
    let totals = ["connects", "bytes", "lines", "truncated"].map(|words| ended.total(words));
    assert_eq!(totals, [rounds, bytes, lines, cut], "connects, bytes, lines and cut lines");
    let (median, p99) = percentiles(returns);
    let figures = format!(
        "{rounds} kills, {bytes} bytes that the kernel took, each whole line of them printed \
         exactly once, {cut} lines cut; lines after a start in {median:.0?} (median), {p99:.0?} (99%)"
    );
    Outcome::Seen(figures, ended.tally())
}

/// A stopped process looks alive to TCP, as its kernel answers, so it takes the idle timeout to find
/// it, and to find it again after each connection that the kernel accepts in its name.
pub(crate) fn stopped_server(form: Form) -> Outcome {
    let stopped_for = form.pick(Duration::from_secs(4), Duration::from_secs(60));
    let mut server =
        Program::spawn(Program::command(&demo_server()).args(["--interval", "20ms", "0"]));
    let line = server.wait_for_log("Listening on");
    let (_, address) = line.rsplit_once(' ').expect("the line names an address");
    let flags = "--idle-timeout 1s --initial-backoff 100ms --max-backoff 400ms";
    let mut subject = Subject::start(flags, &[address.parse().expect("an address")]);
    assert_eq!(subject.stdout.read(DEADLINE, |_| {}), Chunk::Some, "no numbers");

    server.signal(Signal::STOP);
    let start = Instant::now();
    subject.program.wait_for_log("nothing received within the idle timeout");
    let found = start.elapsed();
    assert!(found < Duration::from_secs(11), "an idle timeout of 1 s took {found:?}");
    while start.elapsed() < stopped_for {
        let left = stopped_for.saturating_sub(start.elapsed());
        // What was on its way when the server was stopped.
        subject.stdout.read(left, |_| {});
    }
    let start = Instant::now();
    server.signal(Signal::CONT);
    assert_eq!(subject.stdout.read(DEADLINE, |_| {}), Chunk::Some, "no numbers any more");
    let back = start.elapsed();
    let ended = subject.stop(|_| {});
    let figures = format!(
        "found in {found:.1?} with an idle timeout of 1 s, found again {} times in {stopped_for:?}, \
         numbers again {back:.1?} after it went on",
        ended.total("failures") - 1,
    );
    Outcome::Seen(figures, ended.tally())
}

/// Each connection brings a few lines and half of another one, whose digits alone would be a number,
/// and is reset.
pub(crate) fn reset_in_mid_line(form: Form) -> Outcome {
    const LINES: u64 = 100;
    let connections = form.pick(200, 5000);
    let server = Server::bind();
    let mut subject =
        Subject::start("--initial-backoff 1ms --max-backoff 5ms", &[server.address()]);
    let mut ledger = Ledger::new(1);
    for connection in 1..=connections {
        let mut peer = server.accept();
        let text = ledger::lines(0, connection, 0, LINES + 1);
        // What is cut off is the newline, then one digit more at a time, up to nine of them.
        let cut = usize::try_from(connection % 10).expect("a digit") + 1;
        peer.send(&text[..text.len() - cut]);
        // What is not read yet may be lost by a reset, so that it has to be read before.
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
    Outcome::Seen(figures, ended.tally())
}

/// A server that accepts and closes at once is dialled ever more slowly, as if it had refused.
pub(crate) fn accept_then_close(form: Form) -> Outcome {
    let (flags, first, max, watched) = form.pick(
        ("--initial-backoff 50ms --max-backoff 800ms", 50, 800, Duration::from_secs(4)),
        ("", 1000, 60_000, Duration::from_secs(60)),
    );
    let server = Server::bind();
    let subject = Subject::start(flags, &[server.address()]);
    server.accept().close();
    let start = Instant::now();
    let mut closed = start;
    let mut accepts = 1;
    let mut delay = first;
    while let Some(peer) = server.accept_within(watched.saturating_sub(start.elapsed())) {
        let gap = closed.elapsed();
        // Jitter makes it a tenth less.
        let least = Duration::from_millis(delay) * 9 / 10;
        assert!(gap >= least, "attempt {accepts} came after {gap:?}, {least:?} at the earliest");
        accepts += 1;
        delay = max.min(delay * 2);
        // Whatever follows, follows this moment.
        closed = Instant::now();
        peer.close();
    }
    assert!(accepts > 3, "it was not dialled again: {accepts} connections in {watched:?}");
    let ended = subject.stop(|line| panic!("nobody sent {line:?}"));
    let figures = format!(
        "{accepts} connections in {watched:?}, each no sooner than its back-off of {first} ms and \
         more, {} lines in the log",
        ended.log.len(),
    );
    Outcome::Seen(figures, ended.tally())
}

/// A thousand servers break down at the same moment, stay down, and come back at the same moment.
pub(crate) fn thousand_down_and_back(form: Form) -> Outcome {
    const SERVERS: usize = 1000;
    // The longest delay: of a server that was down for less, the back-off has come no further.
    let (flags, down, longest) = form.pick(
        ("--initial-backoff 100ms --max-backoff 1s", Duration::from_secs(2), 1100),
        ("", Duration::from_secs(30), 35_200),
    );
    let addresses: Vec<SocketAddr> = (0..SERVERS).map(own_address).collect();
    let mut crowd = Crowd::listen(&addresses);
    let addresses = crowd.addresses();
    let mut subject = Subject::start(&format!("{flags} --connect-timeout 60s"), &addresses);
    let mut ledger = Ledger::new(SERVERS);
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
    // The machine may be slow; a server that waits for another delay would be later than that.
    let limit = Duration::from_millis(longest) + Duration::from_secs(10);
    assert!(last < limit, "the last one came back after {last:?}");
    let more = crowd.accept(1, Duration::from_millis(500), |_| Vec::new());
    assert!(more.is_empty(), "a server was dialled though it was connected");
    let ended = subject.stop(|line| ledger.enter(line));
    assert_eq!(ended.total("connects"), 2 * SERVERS as u64);
    let figures = format!(
        "down for {down:?}, all connected again: median {median:.1?}, 99% {p99:.1?}, last \
         {last:.1?}, with {before_kib} KiB before it"
    );
    Outcome::Seen(figures, ended.tally())
}

/// With fewer descriptors than servers, the rest wait until there are some.
pub(crate) fn descriptor_limit(form: Form) -> Outcome {
    const LIMIT: usize = 48;
    let servers = form.pick(150, 1000);
    let addresses: Vec<SocketAddr> = (0..servers).map(own_address).collect();
    let mut crowd = Crowd::listen(&addresses);
    let command =
        Subject::command("--initial-backoff 20ms --max-backoff 100ms -p 2", &crowd.addresses());
    let mut limited = Program::command("sh");
    limited.args(["-c", &format!("ulimit -n {LIMIT}; exec \"$@\""), "sh"]);
    limited.arg(command.get_program()).args(command.get_args());
    let mut subject = Subject::spawn(&mut limited);
    let mut ledger = Ledger::new(servers);
    let mut turns = 0;
    let mut most = 0;
    let start = Instant::now();
    while ledger.lines < servers as u64 {
        assert!(start.elapsed() < DEADLINE, "{} of {servers} served", ledger.lines);
        let pause = Duration::from_millis(300);
        let turn = crowd.accept(servers, pause, |server| ledger::lines(server, 1, 0, 1)).len();
        subject.read_until(&mut ledger, |ledger| ledger.lines >= crowd.accepted);
        turns += 1;
        most = most.max(turn);
        crowd.close_accepted();
    }
    assert!(most < LIMIT, "{most} connections with {LIMIT} descriptors");
    let ended = subject.stop(|line| ledger.enter(line));
    let complaints = ended.count("Too many open files");
    assert!(complaints > 0, "nothing said why: {:#?}", ended.log);
    let figures = format!(
        "{servers} servers with {LIMIT} descriptors: served in {turns} turns of {most} at most, \
         {complaints} complaints about it in the log"
    );
    Outcome::Seen(figures, ended.tally())
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

    /// Takes so many connections, or those that come before a pause of this length, sends each what
    /// `text` says for its server, and returns when they came.
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
                    stream.write_all(&text(server)).expect("the connection stands");
                    self.streams.push((server, stream));
                }
            }
        }
        came
    }

    /// Closes what was accepted, and the listeners with it.
    fn close_accepted(&mut self) {
        for (server, _) in self.streams.drain(..) {
            self.listeners[server] = None;
        }
    }
}
