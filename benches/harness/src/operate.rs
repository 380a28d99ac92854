//! Measures what an operator does to a running job: a reload of its list, and questions to its status server.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{ChildStdout, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::hosts::Hosts;
use crate::load::Load;
use crate::payload::Payload;
use crate::process::{Process, thread_cpu};
use crate::programs::{Program, Programs};
use crate::stats::{median, quantile};
use crate::table::{Goal, Report, Row, figure};
use crate::{Options, Result, note};

/// The time between two lines of the steady feed.
const INTERVAL: Duration = Duration::from_micros(500);

/// The time in which a reload and its connections are done, and the time without one that it is compared with.
const SPAN: Duration = Duration::from_secs(3);

/// The longest wait for a line of the log.
const PATIENCE: Duration = Duration::from_secs(120);

/// The connections that always have data.
const BUSY: usize = 4;

/// The divisor. The busy servers send numbers up to 666, so only the steady feed sends multiples of it.
const DIVISOR: u128 = 1000;

/// Measures a reload that replaces half of the servers: its time, and the delay of a steady feed meanwhile.
pub fn run_reload(options: &Options, programs: &Programs, report: &mut Report) -> Result<()> {
    let count = options.connections;
    let what = format!("reload of {count} servers, half of them replaced");
    for (is_busy, beside) in [(false, "beside silent ones"), (true, "under full load")] {
        let rounds = reloads(options, programs, is_busy)?;
        let of = |what: fn(&Reload) -> f64| median(rounds.iter().map(what));
        report.rows.push(Row {
            what: format!("{what}, {beside}: from the signal to the line of the log"),
            measured: of(|r| r.logged),
            goal: Goal::AtMost(100.0),
            unit: " ms",
            detail: format!(
                "{} ms to the last of the new connections",
                figure(of(|r| r.connected))
            ),
        });
        report.rows.push(Row {
            what: format!(
                "{what}, {beside}: longest delay of a steady feed, beyond that without one"
            ),
            measured: of(|r| r.with.longest - r.without.longest),
            goal: Goal::AtMost(5.0),
            unit: " ms",
            detail: format!(
                "{} ms, without {} ms; 99.9% {} ms, without {} ms; a line every 0.5 ms, `-p 2`",
                figure(of(|r| r.with.longest)),
                figure(of(|r| r.without.longest)),
                figure(of(|r| r.with.tail)),
                figure(of(|r| r.without.tail)),
            ),
        });
    }
    Ok(())
}

/// The figures of one reload, in milliseconds.
struct Reload {
    /// From the signal to the line of the log.
    logged: f64,
    /// From the signal to the last of the new connections.
    connected: f64,
    without: Delays,
    with: Delays,
}

fn reloads(options: &Options, programs: &Programs, is_busy: bool) -> Result<Vec<Reload>> {
    let count = options.connections;
    let half = count / 2;
    let mut hosts = Hosts::start()?;
    // Each list has the first half. The other half is one of two.
    let all = hosts.addresses(3 * half);
    let (kept, others) = all.split_at(half);
    let lists = [&others[..half], &others[half..]];

    let mut load = Load::start(BUSY)?;
    load.accept(BUSY)?;
    let steady = TcpListener::bind("127.0.0.1:0")?;
    let file = ListFile::new()?;
    file.write(kept.iter().chain(lists[0]))?;
    let mut command = programs.product(2);
    command.env("RUST_LOG", "info").args(["--divisor", &DIVISOR.to_string(), "-f"]).arg(&file.0);
    command.arg(steady.local_addr()?.to_string()).args(load.addresses(BUSY));
    let mut process = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let stdout = process.child().stdout.take().expect("it is piped");
    let log = Log::read(process.child().stderr.take().expect("it is piped"));
    let mut steady = Steady::start(steady.accept()?.0, stdout)?;
    load.done()?;
    hosts.wait(2 * half, 0)?;
    if is_busy {
        load.flood()?;
    }
    // The first lines meet cold caches.
    thread::sleep(Duration::from_secs(1));

    let mut rounds = Vec::new();
    for round in 1..=2 * options.rounds {
        let without = steady.delays(|| {
            thread::sleep(SPAN);
            Ok(())
        })?;
        file.write(kept.iter().chain(lists[round % 2]))?;
        let (mut logged, mut connected) = (0.0, 0.0);
        let with = steady.delays(|| {
            let start = Instant::now();
            process.hang_up()?;
            let at = log.wait(&format!("{half} added, {half} removed"))?;
            hosts.wait((2 + round) * half, round * half)?;
            logged = (at - start).as_secs_f64() * 1e3;
            connected = start.elapsed().as_secs_f64() * 1e3;
            thread::sleep(SPAN.saturating_sub(start.elapsed()));
            Ok(())
        })?;
        note!(
            "reload, round {round}: {} ms, {} ms to the last connection; longest delay {} ms, without {} ms",
            figure(logged),
            figure(connected),
            figure(with.longest),
            figure(without.longest),
        );
        rounds.push(Reload { logged, connected, without, with });
    }
    drop(steady);
    process.terminate()?;
    process.wait()?;
    if is_busy {
        // The loss of the connections ends the flood.
        load.done()?;
    }
    Ok(rounds)
}

/// Measures the cost of a status server that is asked every second, and the time of its answers.
pub fn run_status(options: &Options, programs: &Programs, report: &mut Report) -> Result<()> {
    scraped(options, programs, report)?;
    answers(options, programs, report)
}

/// Compares a whole run with and without a status server that is asked every second.
fn scraped(options: &Options, programs: &Programs, report: &mut Report) -> Result<()> {
    const SERVERS: usize = 4;
    let mut load = Load::start(SERVERS)?;
    let mut shares = vec![];
    let mut one = |is_scraped: bool| -> Result<(f64, f64)> {
        // Long enough for several questions.
        load.stream(SERVERS, Payload::Short, 3 * options.bytes)?;
        let mut command = programs.once(Program::Product, 2, load.addresses(SERVERS));
        command.env("RUST_LOG", "info").stdout(Stdio::null()).stderr(Stdio::piped());
        if is_scraped {
            command.args(["--status-addr", "127.0.0.1:0"]);
        }
        let mut process = Process::start(&mut command)?;
        let log = Log::read(process.child().stderr.take().expect("it is piped"));
        let is_over = Arc::new(AtomicBool::new(false));
        let scraper =
            is_scraped.then(|| scrape(&log, process.id(), Arc::clone(&is_over))).transpose()?;
        let usage = process.wait()?;
        is_over.store(true, Relaxed);
        if let Some(scraper) = scraper {
            let (answers, cpu) = scraper.join().expect("it does not panic");
            let share = 100.0 * cpu.as_secs_f64() / usage.cpu.as_secs_f64();
            note!("status: {answers} answers, {} % of the CPU", figure(share));
            shares.push(share);
        }
        load.sent()?;
        Ok((usage.wall.as_secs_f64(), usage.cpu.as_secs_f64()))
    };
    let (mut walls, mut cpus) = (vec![], vec![]);
    for round in 0..options.rounds {
        // The order changes, as the second run of a pair meets a warmer machine.
        let (off, on) = match round % 2 {
            0 => (one(false)?, one(true)?),
            _ => {
                let on = one(true)?;
                (one(false)?, on)
            }
        };
        walls.push(on.0 / off.0);
        cpus.push(on.1 / off.1);
        let [wall, cpu] = [on.0 / off.0, on.1 / off.1].map(figure);
        note!("status, round {round}: wall time {wall}x, CPU {cpu}x");
    }
    report.rows.push(Row {
        what: "four connections, 1..666, `-p 2`, status server asked every second: CPU".into(),
        measured: median(cpus),
        goal: Goal::AtMost(1.03),
        unit: "x without one",
        detail: format!(
            "wall time {}x; the thread of the status server took {} % of the CPU",
            figure(median(walls)),
            figure(median(shares))
        ),
    });
    Ok(())
}

/// Asks for metrics and the list of servers every second. Returns the number of answers, and the processor time of the
/// thread that gave them.
fn scrape(
    log: &Log,
    process: u32,
    is_over: Arc<AtomicBool>,
) -> Result<thread::JoinHandle<(usize, Duration)>> {
    let address = log.status_address()?;
    let mut client = Client::connect(address)?;
    Ok(thread::spawn(move || {
        let (mut answers, mut cpu) = (0, Duration::ZERO);
        while !is_over.load(Relaxed) {
            for path in ["/metrics", "/status.json"] {
                // The program may end meanwhile.
                let Ok(_) = client.get(path) else { return (answers, cpu) };
                answers += 1;
            }
            cpu = thread_cpu(process, "status").unwrap_or(cpu);
            thread::sleep(Duration::from_secs(1));
        }
        (answers, cpu)
    }))
}

/// Times the answers of a status server with many servers.
fn answers(options: &Options, programs: &Programs, report: &mut Report) -> Result<()> {
    let count = options.connections;
    let mut hosts = Hosts::start()?;
    let file = ListFile::new()?;
    file.write(&hosts.addresses(count))?;
    let mut command = programs.product(2);
    command.env("RUST_LOG", "info").args(["--metrics-servers", &count.to_string()]);
    command.args(["--status-addr", "127.0.0.1:0", "-f"]).arg(&file.0);
    let mut process = Process::start(command.stdout(Stdio::null()).stderr(Stdio::piped()))?;
    let log = Log::read(process.child().stderr.take().expect("it is piped"));
    let mut client = Client::connect(log.status_address()?)?;
    hosts.wait(count, 0)?;
    thread::sleep(Duration::from_secs(1));
    let list = "/status.json?limit=100&sort=rate";
    for (path, goal) in [("/metrics", 50.0), (list, 5.0)] {
        let (mut times, mut cpus) = (vec![], vec![]);
        let mut bytes = 0;
        for _ in 0..8 * options.rounds {
            let (start, cpu) = (Instant::now(), process.cpu()?);
            bytes = client.get(path)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            // The other threads have nothing to do.
            cpus.push((process.cpu()? - cpu).as_secs_f64() * 1e3);
            thread::sleep(Duration::from_millis(50));
        }
        times.sort_by(f64::total_cmp);
        report.rows.push(Row {
            what: format!("{count} servers: time of `{path}`"),
            measured: median(times.iter().copied()),
            goal: Goal::AtMost(goal),
            unit: " ms",
            detail: format!(
                "{} KiB, {} ms of CPU; shortest {} ms, 90% {} ms",
                bytes / 1024,
                figure(median(cpus)),
                figure(times[0]),
                figure(quantile(&times, 0.9))
            ),
        });
    }
    process.terminate()?;
    process.wait()?;
    Ok(())
}

/// A connection to the status server that stays open.
struct Client {
    stream: BufReader<TcpStream>,
    body: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Client { stream: BufReader::new(stream), body: Vec::new() })
    }

    /// Returns the length of the body.
    fn get(&mut self, path: &str) -> Result<usize> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut status = String::new();
        self.stream.read_line(&mut status)?;
        if !status.starts_with("HTTP/1.1 200 ") {
            return Err(format!("{path}: {status:?}").into());
        }
        let mut len = None;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                len = Some(value.trim().parse()?);
            }
        }
        // The memory stays, as new pages take time that is not the program's.
        self.body.resize(len.ok_or("no length")?, 0);
        self.stream.read_exact(&mut self.body)?;
        Ok(self.body.len())
    }
}

/// A list file, removed on drop.
struct ListFile(PathBuf);

impl ListFile {
    fn new() -> Result<ListFile> {
        let path = std::env::temp_dir().join(format!("tcpcore-bench-{}.list", std::process::id()));
        fs::write(&path, "")?;
        Ok(ListFile(path))
    }

    fn write<'a>(&self, servers: impl IntoIterator<Item = &'a String>) -> Result<()> {
        let mut text = String::new();
        for server in servers {
            _ = writeln!(text, "{server}");
        }
        Ok(fs::write(&self.0, text)?)
    }
}

impl Drop for ListFile {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}

/// The lines of a log, each with the time of its arrival.
struct Log(Receiver<(Instant, String)>);

impl Log {
    fn read(log: impl Read + Send + 'static) -> Log {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(io::Result::ok) {
                // Without a receiver the log is still read, so that its writer does not block.
                _ = sender.send((Instant::now(), line));
            }
        });
        Log(receiver)
    }

    /// Waits for a line with this text, and returns the time of its arrival.
    fn wait(&self, text: &str) -> Result<Instant> {
        self.find(|line| line.contains(text)).map(|(at, _)| at)
    }

    fn status_address(&self) -> Result<SocketAddr> {
        let (_, line) = self.find(|line| line.contains("Status on http://"))?;
        let (_, address) = line.split_once("http://").ok_or("no address")?;
        Ok(address.trim_end_matches('/').parse()?)
    }

    fn find(&self, is_it: impl Fn(&str) -> bool) -> Result<(Instant, String)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (at, line) = self.0.recv_timeout(left)?;
            if is_it(&line) {
                return Ok((at, line));
            }
        }
    }
}

/// A feed with a line every [`INTERVAL`], and its lines on stdout.
struct Steady {
    arrivals: Arc<Mutex<Vec<(Instant, Instant)>>>,
    is_over: Arc<AtomicBool>,
    sender: Option<thread::JoinHandle<()>>,
}

impl Steady {
    fn start(mut connection: TcpStream, stdout: ChildStdout) -> Result<Steady> {
        connection.set_nodelay(true)?;
        let arrivals: Arc<Mutex<Vec<(Instant, Instant)>>> = Arc::default();
        let is_over = Arc::new(AtomicBool::new(false));
        let epoch = Instant::now();
        let over = Arc::clone(&is_over);
        let sender = thread::spawn(move || {
            // A line is the time at which it is sent, in nanoseconds, rounded to a multiple of the divisor.
            for turn in 1.. {
                thread::sleep((INTERVAL * turn).saturating_sub(epoch.elapsed()));
                let line = format!("{}\n", epoch.elapsed().as_nanos() / DIVISOR * DIVISOR);
                if over.load(Relaxed) || connection.write_all(line.as_bytes()).is_err() {
                    return;
                }
            }
        });
        let noted = Arc::clone(&arrivals);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(io::Result::ok) {
                let now = Instant::now();
                let Ok(nanos) = line.parse() else { continue };
                let sent = epoch + Duration::from_nanos(nanos);
                noted.lock().expect("no thread panics").push((sent, now));
            }
        });
        Ok(Steady { arrivals, is_over, sender: Some(sender) })
    }

    /// Returns the delays from the sending of a line to its arrival, of the lines that arrive while `what` runs.
    fn delays(&mut self, what: impl FnOnce() -> Result<()>) -> Result<Delays> {
        self.arrivals.lock().expect("no thread panics").clear();
        what()?;
        let arrivals = std::mem::take(&mut *self.arrivals.lock().expect("no thread panics"));
        let delays = arrivals.into_iter().map(|(sent, came)| (came - sent).as_secs_f64() * 1e3);
        Ok(Delays::of(delays.collect()))
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        if let Some(sender) = self.sender.take() {
            _ = sender.join();
        }
    }
}

/// The delays of one span, in milliseconds.
struct Delays {
    longest: f64,
    tail: f64,
}

impl Delays {
    fn of(mut delays: Vec<f64>) -> Delays {
        delays.sort_by(f64::total_cmp);
        Delays { longest: quantile(&delays, 1.0), tail: quantile(&delays, 0.999) }
    }
}
