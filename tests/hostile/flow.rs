//! Tests excess: an endless line, endless junk, and a slow reader.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{DEADLINE, Peer, Server, Signal};
use crate::ledger::{self, Ledger};
use crate::runner::{Form, Outcome};
use crate::subject::{Chunk, Subject, Tally, firehose, memory_kib, percentiles};

/// Checks that a line of a gigabyte is skipped in constant memory and counted once, and that the next line
/// is read.
pub(crate) fn endless_line(form: Form) -> Outcome {
    const CHUNK: usize = 1 << 20;
    let chunks = form.pick(1024, 16 * 1024);
    let server = Server::bind();
    let mut subject = Subject::start(form.mode, "", &[server.address()]);
    let mut ledger = Ledger::new(1, form.mode);
    let mut peer = server.accept();
    peer.send(ledger::lines(0, 1, 0, 1));
    subject.read_until(&mut ledger, |ledger| ledger.lines == 1);
    let before_kib = memory_kib(&subject.program, "VmRSS");
    let start = Instant::now();
    let digits = vec![b'6'; CHUNK];
    for _ in 0..chunks {
        peer.send(&digits);
    }
    peer.send("\n");
    peer.send(ledger::lines(0, 1, 1, 1));
    subject.read_until(&mut ledger, |ledger| ledger.lines == 2);
    let took = start.elapsed();
    let ended = subject.stop(|line| ledger.enter(line));
    let most_kib = ended.peak_kib;
    assert!(most_kib < before_kib + 2048, "{before_kib} KiB became {most_kib} KiB");
    assert_eq!((ended.total("oversized"), ended.total("lines")), (1, 3));
    let figures =
        format!("{chunks} MiB in one line, skipped in {took:.1?}, with {before_kib} KiB before it");
    Outcome::Passed(figures, ended.tally())
}

/// Checks that servers with endless junk do not starve a good server of the same worker.
pub(crate) fn junk_flood(form: Form) -> Outcome {
    const FLOODS: usize = 2;
    let watched = form.pick(Duration::from_secs(3), Duration::from_secs(30));
    let (good, bad) = (Server::bind(), [(); FLOODS].map(|()| Server::bind()));
    let mut addresses = vec![good.address()];
    addresses.extend(bad.iter().map(Server::address));
    let mut subject = Subject::start(form.mode, "-p 1", &addresses);
    let mut ledger = Ledger::new(1, form.mode);
    let mut peer = good.accept();
    let floods = bad.map(|server| server.accept());
    let calm = latencies(&mut subject, &mut ledger, &mut peer, watched);

    let is_over = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let floods = floods.map(|peer| {
        thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || flood(peer, &is_over)
        })
    });
    let flooded = latencies(&mut subject, &mut ledger, &mut peer, watched);
    is_over.store(true, Relaxed);
    let sent: u64 = floods.map(|flood| flood.join().expect("a flood does not panic")).iter().sum();
    let took = start.elapsed();

    let ended = subject.stop(|line| ledger.enter(line));
    let logged = ended.count("Malformed line");
    let most = FLOODS * usize::try_from(1 + took.as_secs() / 10).expect("a short time");
    assert!((1..=most).contains(&logged), "{logged} lines in the log, {most} at most");
    assert_eq!(ended.total("malformed") + ledger.lines, ended.total("lines"));
    let (usual, flooded_usual) = (usual(&calm), usual(&flooded));
    let ((median, p99), (flooded_median, flooded_p99)) = (percentiles(calm), percentiles(flooded));
    // Only starvation matters, not the speed of this machine. Noise does not last for half of the time.
    let limit = usual + Duration::from_millis(20);
    assert!(flooded_usual <= limit, "a good line usually took {flooded_usual:?}, {usual:?} before");
    assert!(flooded_p99 < Duration::from_secs(1), "a good line took {flooded_p99:?} (99%)");
    let ratio = |flooded: Duration, calm: Duration| flooded.as_secs_f64() / calm.as_secs_f64();
    let figures = format!(
        "{} of {sent} lines of junk read in {took:.1?}, {logged} logged; a good line took \
         {median:.0?} (median), {p99:.0?} (99%) before, and {flooded_median:.0?}, {flooded_p99:.0?} \
         in the flood: {:.1} and {:.1} times as long; half the time it took {usual:.0?} or more before, \
         and {flooded_usual:.0?} or more in the flood",
        ended.total("malformed"),
        ratio(flooded_median, median),
        ratio(flooded_p99, p99),
    );
    Outcome::Passed(figures, ended.tally())
}

/// Sends single lines for `watched`, each after the previous one is printed. Returns the latency of each.
fn latencies(
    subject: &mut Subject,
    ledger: &mut Ledger,
    peer: &mut Peer,
    watched: Duration,
) -> Vec<Duration> {
    let start = Instant::now();
    let mut latencies = Vec::new();
    while start.elapsed() < watched {
        let sequence = ledger.lines;
        let sent = Instant::now();
        peer.send(ledger::lines(0, 1, sequence, 1));
        while ledger.lines == sequence {
            let chunk = subject.stdout.read(DEADLINE, |line| ledger.enter(line));
            assert_eq!(chunk, Chunk::Some, "no line within {DEADLINE:?}");
        }
        latencies.push(sent.elapsed());
        thread::sleep(Duration::from_millis(1));
    }
    latencies
}

/// Returns the latency of a line that is sent at a random time. Half of the time is spent on lines with
/// this latency or a longer one. No other line is sent during a delay, so the plain median hardly shows it.
fn usual(latencies: &[Duration]) -> Duration {
    let mut latencies = latencies.to_vec();
    latencies.sort_unstable();
    let half = latencies.iter().sum::<Duration>() / 2;
    let mut spent = Duration::ZERO;
    let reached = |latency: &Duration| {
        spent += *latency;
        spent >= half
    };
    latencies.into_iter().find(reached).expect("a line was sent")
}

/// Sends junk until `is_over`, and returns the number of lines.
fn flood(mut peer: Peer, is_over: &AtomicBool) -> u64 {
    const KINDS: [&str; 6] = ["junk", "12x", "6 6", "-", "99999999999999999999", "\u{1b}[2J\0"];
    let junk = KINDS.join("\n").repeat(1000) + "\n";
    let lines = memchr::memchr_iter(b'\n', junk.as_bytes()).count() as u64;
    let mut sent = 0;
    while !is_over.load(Relaxed) && peer.stream().write_all(junk.as_bytes()).is_ok() {
        sent += lines;
    }
    sent
}

/// Checks that SIGTERM under full load prints all lines that were read, though the reader is slow.
pub(crate) fn sigterm_with_a_slow_reader(form: Form) -> Outcome {
    const SERVERS: usize = 4;
    let rounds = form.pick(3, 100);
    let mut bytes = 0;
    let mut tally = Tally::default();
    let mut endings = Vec::new();
    for _ in 0..rounds {
        let addresses: Vec<_> = (0..SERVERS).map(firehose).collect();
        let mut subject = Subject::start(form.mode, "-p 2", &addresses);
        let mut ledger = Ledger::new(SERVERS, form.mode);
        // After this many lines both rings are full.
        let enough = 500_000;
        while ledger.lines < enough {
            let chunk = subject.stdout.read(DEADLINE, |line| ledger.enter(line));
            assert_eq!(chunk, Chunk::Some, "no lines within {DEADLINE:?}");
            thread::sleep(Duration::from_millis(1));
        }
        let peak_kib = memory_kib(&subject.program, "VmHWM");
        subject.program.signal(Signal::TERM);
        let start = Instant::now();
        let read = ledger.lines;
        while subject.stdout.read(DEADLINE, |line| ledger.enter(line)) == Chunk::Some {
            thread::sleep(Duration::from_millis(1));
        }
        endings.push((start.elapsed(), ledger.lines - read));
        let ended = subject.wait_end(|line| ledger.enter(line), 0, peak_kib);
        assert_eq!(ended.total("lines"), ledger.lines, "lines read, and lines printed");
        tally = tally.and(ended.tally());
        bytes += ended.total("bytes");
    }
    let (last, after) = *endings.iter().max().expect("a round");
    let figures = format!(
        "{rounds} times {SERVERS} servers, {bytes} bytes, all lines that were read were printed; at \
         most {after} of them and {last:.1?} after the signal"
    );
    Outcome::Passed(figures, tally)
}
