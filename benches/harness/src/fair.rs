//! Measures whether busy connections delay the others of their worker. Many connections always have data;
//! beside them are a quiet server and attempts to connect.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{ChildStdout, Stdio};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::load::Load;
use crate::payload::Random;
use crate::process::Process;
use crate::programs::Programs;
use crate::stats::{median, micros, quantile};
use crate::table::{Goal, Report, Row, figure};
use crate::{Options, Result, note};

/// Listening ports. With this many, no listener's queue runs out.
const LISTENERS: usize = 16;

/// The divisor. The busy servers send numbers up to 666, so only the quiet server sends multiples of it.
const DIVISOR: usize = 1000;

/// The mean time between two lines of the quiet server. The gaps vary, so that the lines do not synchronize
/// with the turns of the worker.
const QUIET_INTERVAL: Duration = Duration::from_millis(5);

/// Servers that refuse. With [`BACKOFF`] between the attempts, that makes 3,000 attempts a second.
const REFUSING: usize = 30;
const BACKOFF: &str = "10ms";

/// The time for the last lines to arrive.
const GRACE: Duration = Duration::from_millis(500);

pub fn run(options: &Options, programs: &Programs, report: &mut Report) -> Result<()> {
    let count = if options.quick { 100 } else { 3_000 };
    let mut rounds = Vec::new();
    for round in 0..options.rounds {
        let silent = measure(options, programs, count, Crowd::Silent)?;
        let busy = measure(options, programs, count, Crowd::Busy)?;
        for (name, m) in [("silent", &silent), ("busy", &busy)] {
            note!(
                "{name}, round {round}: {} attempts/s, quiet lines {} us, 99% {} us, {} GB/s",
                figure(m.attempts),
                figure(m.median_us),
                figure(m.tail_us),
                figure(m.gigabytes)
            );
        }
        rounds.push((silent, busy));
    }
    add_rows(count, &rounds, report);
    add_throughput(count, &rounds, report);
    Ok(())
}

/// The figures of each round: beside silent connections, and beside busy ones.
type Rounds = [(Measured, Measured)];

fn add_rows(count: usize, rounds: &Rounds, report: &mut Report) {
    let of = |what: fn(&Measured) -> f64| {
        let silent = median(rounds.iter().map(|(silent, _)| what(silent)));
        (silent, median(rounds.iter().map(|(_, busy)| what(busy))))
    };
    let (silent, busy) = of(|m| m.attempts);
    report.rows.push(Row {
        what: format!("{count} connections that always have data, `-p 1`: attempts beside them"),
        measured: median(rounds.iter().map(|(silent, busy)| busy.attempts / silent.attempts)),
        goal: Goal::AtLeast(0.9),
        unit: "x those beside silent ones",
        detail: format!("{} per second, beside silent ones {}", figure(busy), figure(silent)),
    });
    let (silent, busy) = of(|m| m.tail_us / 1e3);
    let (silent_median, busy_median) = of(|m| m.median_us / 1e3);
    report.rows.push(Row {
        what: format!("{count} connections that always have data, `-p 1`: a quiet line, 99%"),
        measured: busy,
        goal: Goal::AtMost(10.0),
        unit: " ms",
        detail: format!(
            "median {} ms; beside silent ones {} ms, median {} ms; all processes share the cores",
            figure(busy_median),
            figure(silent),
            figure(silent_median)
        ),
    });
}

/// Adds the throughput, without a goal: it is for comparing two programs.
fn add_throughput(count: usize, rounds: &Rounds, report: &mut Report) {
    let busy = rounds.iter().map(|(_, busy)| busy);
    let gigabytes = busy.clone().map(|m| m.gigabytes);
    let what = format!("{count} connections that always have data, `-p 1`");
    report.add_table(
        &[&what, "GB/s", "best", "CPU s/GB"],
        &[vec![
            "tcpcore, 1..666, and attempts and a quiet server beside them".into(),
            figure(median(gigabytes.clone())),
            figure(gigabytes.fold(0.0, f64::max)),
            figure(median(busy.map(|m| m.cores / m.gigabytes))),
        ]],
    );
}

/// The activity of the many connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crowd {
    /// They send nothing.
    Silent,
    /// They send as fast as they are read.
    Busy,
}

struct Measured {
    /// Attempts to connect, per second.
    attempts: f64,
    /// The median time from the quiet server's write to the reader of stdout.
    median_us: f64,
    /// The 99th percentile of that time.
    tail_us: f64,
    /// Gigabytes that were read from the many connections, per second.
    gigabytes: f64,
    /// Seconds of the program's processor time, per second.
    cores: f64,
}

fn measure(options: &Options, programs: &Programs, count: usize, crowd: Crowd) -> Result<Measured> {
    let Setup { mut load, process, stdout, totals, quiet, refusing } =
        Setup::start(programs, count)?;
    let (busy_since, cpu_before) = (Instant::now(), process.cpu()?);
    if crowd == Crowd::Busy {
        load.flood()?;
    }
    // Once each connection has been read, the buffers are full and the caches are warm.
    thread::sleep(Duration::from_secs(if options.quick { 1 } else { 2 }));
    let tried_since = Instant::now();
    // From here on these servers refuse. Their ports stay bound until the program has ended.
    let _ports: Vec<Socket> = refusing.into_iter().map(|(port, _)| port).collect();
    let span = Duration::from_secs(if options.quick { 1 } else { 5 });
    let (mut delays, cores) = thread::scope(|scope| -> Result<_> {
        let lines = scope.spawn(|| time_lines(quiet, stdout, span));
        // This leaves time for the last lines to arrive.
        thread::sleep(span + GRACE);
        let cpu = process.cpu()? - cpu_before;
        let cores = cpu.as_secs_f64() / busy_since.elapsed().as_secs_f64();
        // This ends the program, and so its stdout.
        process.terminate()?;
        Ok((lines.join().expect("it does not panic")?, cores))
    })?;
    let (ended, totals) = totals.recv_timeout(Duration::from_secs(60))?;
    process.wait()?;
    if crowd == Crowd::Busy {
        // The loss of the connections ends the flood.
        load.done()?;
    }
    let total = |name: &str| totals.get(name).copied().ok_or(format!("no {name} in the totals"));
    delays.sort_by(f64::total_cmp);
    // The first failure of each of these servers is the loss of its connection.
    let attempts = total("failures")?.saturating_sub(REFUSING as u64);
    Ok(Measured {
        attempts: attempts as f64 / (ended - tried_since).as_secs_f64(),
        median_us: median(delays.iter().copied()),
        tail_us: quantile(&delays, 0.99),
        gigabytes: total("bytes")? as f64 / 1e9 / (ended - busy_since).as_secs_f64(),
        cores,
    })
}

/// The program, connected to all servers before any of them has sent anything.
struct Setup {
    load: Load,
    process: Process,
    stdout: ChildStdout,
    totals: Receiver<Totals>,
    /// The quiet server's end of its connection.
    quiet: TcpStream,
    /// For each server that will refuse: its port, and its end of the connection.
    refusing: Vec<(Socket, TcpStream)>,
}

impl Setup {
    fn start(programs: &Programs, count: usize) -> Result<Setup> {
        let mut load = Load::start(LISTENERS.min(count))?;
        load.accept(count)?;
        let quiet = TcpListener::bind("127.0.0.1:0")?;
        let refusing = (0..REFUSING).map(|_| Refusing::bind()).collect::<Result<Vec<_>>>()?;
        let mut command = programs.product(1);
        // The totals are logged at this level.
        command.env("RUST_LOG", "info").args(["--divisor", &DIVISOR.to_string()]);
        command.args(["--initial-backoff", BACKOFF, "--max-backoff", BACKOFF]);
        command.args(["--jitter-factor", "0"]);
        command.arg(quiet.local_addr()?.to_string()).args(load.addresses(count));
        command.args(refusing.iter().map(|server| server.address.to_string()));
        let mut process = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let stdout = process.child().stdout.take().expect("it is piped");
        let totals = read_totals(process.child().stderr.take().expect("it is piped"));
        load.done()?;
        let (quiet, _) = quiet.accept()?;
        quiet.set_nodelay(true)?;
        let refusing = refusing.into_iter().map(Refusing::accept).collect::<Result<_>>()?;
        Ok(Setup { load, process, stdout, totals, quiet, refusing })
    }
}

/// A server that accepts one connection, and refuses after that is dropped. So the attempts begin only when
/// everything else is set up.
struct Refusing {
    /// Bound to the port and not listening, so that no other socket gets the port.
    port: Socket,
    listener: TcpListener,
    address: SocketAddr,
}

impl Refusing {
    fn bind() -> Result<Refusing> {
        let bind = |port: u16| -> Result<Socket> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            // Allows two sockets on the same port, of which only one listens.
            socket.set_reuse_address(true)?;
            socket.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, port))))?;
            Ok(socket)
        };
        let port = bind(0)?;
        let address = port.local_addr()?.as_socket().ok_or("a socket has no address")?;
        let listener = bind(address.port())?;
        listener.listen(1)?;
        Ok(Refusing { port, listener: listener.into(), address })
    }

    /// Waits for the connection, then stops listening.
    fn accept(self) -> Result<(Socket, TcpStream)> {
        let (connection, _) = self.listener.accept()?;
        Ok((self.port, connection))
    }
}

/// The arrival time of the totals, and their numbers by name.
type Totals = (Instant, HashMap<String, u64>);

/// Reads a log to its end, so that its writer never blocks, and sends the totals to the receiver.
fn read_totals(log: impl Read + Send + 'static) -> Receiver<Totals> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(io::Result::ok) {
            let Some((_, totals)) = line.split_once("Totals: ") else { continue };
            let fields = totals.split(", ").filter_map(|field| field.split_once(' '));
            let fields = fields
                .filter_map(|(number, name)| Some((name.to_owned(), number.parse().ok()?)))
                .collect();
            // This fails only if the receiver has ended by another failure.
            _ = sender.send((Instant::now(), fields));
        }
    });
    receiver
}

/// Sends lines at random intervals for `span`, and returns the microseconds that each took to stdout. Reads
/// stdout to its end. A line that has not arrived by then counts as arrived at the end.
fn time_lines(mut server: TcpStream, stdout: impl Read, span: Duration) -> io::Result<Vec<f64>> {
    let epoch = Instant::now();
    let most = 4 * span.div_duration_f64(QUIET_INTERVAL) as usize;
    // Zero marks a line that was not sent.
    let sent: Vec<AtomicU64> = (0..most).map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        let sender = scope.spawn(|| -> io::Result<()> {
            let mut random = Random::new(1);
            let twice = u64::try_from(2 * QUIET_INTERVAL.as_micros()).expect("it is short");
            for (index, sent) in sent.iter().enumerate() {
                thread::sleep(Duration::from_micros(random.below(twice)));
                if epoch.elapsed() > span {
                    break;
                }
                // The number of a line is its index times the divisor.
                let line = format!("{}\n", DIVISOR * index);
                sent.store(nanos(epoch), Relaxed);
                server.write_all(line.as_bytes())?;
            }
            Ok(())
        });
        let mut came: Vec<Option<u64>> = vec![None; most];
        for line in BufReader::new(stdout).lines() {
            let number = line?.parse::<usize>().map_err(io::Error::other)?;
            let came = came.get_mut(number / DIVISOR);
            *came.ok_or_else(|| io::Error::other("a line that was not sent"))? = Some(nanos(epoch));
        }
        let ended = nanos(epoch);
        sender.join().expect("it does not panic")?;
        let sent = sent.iter().map(|sent| sent.load(Relaxed));
        let lines = sent.zip(came).take_while(|(sent, _)| *sent > 0);
        let delays = lines.map(|(sent, came)| came.unwrap_or(ended).saturating_sub(sent));
        Ok(delays.map(|delay| micros(Duration::from_nanos(delay))).collect())
    })
}

fn nanos(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_nanos()).expect("it has not been 500 years")
}
