use super::*;
use crate::address::Server;
use crate::config::ConfigBuilder;
use crate::partition;
use crate::report::Report;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SERVERS: usize = 3;
const WORKERS: usize = 2;

/// More lines than a ring holds, with empty ones, and oversized ones that are dropped.
const LINES: usize = 60_000;

/// The longest line in the tests, without its line feed.
const MAX_LINE: usize = 64;

/// Starts servers that send these texts once, each in pieces that end anywhere. Returns the settings of a job.
fn serve(texts: [Vec<u8>; SERVERS]) -> (ConfigBuilder, Vec<JoinHandle<()>>) {
    let feeds = texts.into_iter().map(|text| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().to_string().parse().unwrap();
        let feed = thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            for piece in text.chunks(70_001) {
                peer.write_all(piece).unwrap();
            }
        });
        (server, feed)
    });
    let (servers, feeds): (Vec<Server>, _) = feeds.unzip();
    let builder =
        Config::builder().servers(servers).parallelism(WORKERS).max_line(MAX_LINE).once(true);
    (builder, feeds)
}

/// Returns the lines of a server that arrive, in order and without their line feeds.
fn lines(server: usize) -> Vec<String> {
    (0..LINES)
        .map(|line| match line % 10 {
            3 => String::new(),
            _ => format!("{server} {line} {}", "x".repeat(line % 40)),
        })
        .collect()
}

/// Returns the text of a server, with an oversized line after every hundredth line and no end of the last one.
fn text(server: usize) -> Vec<u8> {
    let mut text = String::new();
    for (index, line) in lines(server).into_iter().enumerate() {
        text += &line;
        text.push('\n');
        if index % 100 == 0 {
            text += &"y".repeat(MAX_LINE + 1);
            text.push('\n');
        }
    }
    (text + "unfinished").into_bytes()
}

/// Checks the origins of all records, and returns the records of each server in the order of their arrival.
fn by_server<T>(
    received: Vec<(Origin, T)>,
    start: SystemTime,
    report: &Report,
) -> [Vec<T>; SERVERS] {
    assert_eq!(report.totals.printed, received.len() as u64);
    assert_eq!(report.totals.counters.matched, received.len() as u64);
    let mut sorted = [const { Vec::new() }; SERVERS];
    let mut times = [start - Duration::from_millis(1); SERVERS];
    for (origin, record) in received {
        let server = origin.server();
        assert!(partition::slice(SERVERS, WORKERS, origin.worker()).contains(&server));
        assert!(origin.time() >= times[server], "{origin:?} comes after {times:?}");
        times[server] = origin.time();
        assert_eq!(origin.time(), UNIX_EPOCH + Duration::from_millis(origin.time_ms()));
        sorted[server].push(record);
    }
    assert!(times.into_iter().all(|time| time <= SystemTime::now()));
    sorted
}

/// Waits for the end of a job and of its servers, and returns all that was received.
fn wait<T>(job: Job, feeds: Vec<JoinHandle<()>>, receiver: &Receiver<T>) -> (Vec<T>, Report) {
    let report = job.wait().unwrap();
    assert!(report.is_success());
    for feed in feeds {
        feed.join().unwrap();
    }
    (receiver.try_iter().collect(), report)
}

#[test]
fn lines_of_several_workers_are_written_byte_for_byte_and_never_within_each_other() {
    struct Channel(mpsc::Sender<Vec<u8>>);
    impl Write for Channel {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.send(text.to_vec()).unwrap();
            Ok(text.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (builder, feeds) = serve([0, 1, 2].map(text));
    let (sender, receiver) = mpsc::channel();
    let job = Job::builder(builder.build().unwrap()).lines().start(Channel(sender)).unwrap();
    let (writes, report) = wait(job, feeds, &receiver);
    assert!(writes.iter().all(|write| write.ends_with(b"\n")), "a write ends within a line");
    let text = String::from_utf8(writes.concat()).unwrap();
    assert_eq!(report.totals.printed, (SERVERS * LINES) as u64);
    let empty = text.lines().filter(|line| line.is_empty()).count();
    assert_eq!(empty, SERVERS * LINES / 10);
    for server in 0..SERVERS {
        let start = format!("{server} ");
        let received: Vec<&str> = text.lines().filter(|line| line.starts_with(&start)).collect();
        let expected = lines(server).into_iter().filter(|line| !line.is_empty());
        assert!(received.into_iter().eq(expected), "the lines of server {server}");
    }
    let counters = report.totals.counters;
    assert_eq!((counters.oversized, counters.truncated), (3 * LINES as u64 / 100, 3));
}

#[test]
fn each_line_is_passed_on_once_in_order_with_its_origin() {
    let (builder, feeds) = serve([0, 1, 2].map(text));
    let (sender, receiver) = mpsc::channel();
    let start = SystemTime::now();
    let job = Job::builder(builder.build().unwrap())
        .lines()
        .for_each_line(move |origin, line| {
            sender.send((origin, String::from_utf8(line.to_vec()).unwrap())).unwrap();
        })
        .unwrap();
    let (received, report) = wait(job, feeds, &receiver);
    assert!(by_server(received, start, &report) == [0, 1, 2].map(lines));
}

#[test]
fn each_record_is_passed_on_once_in_order_with_its_origin() {
    let numbers = |server: usize| {
        (0..LINES).map(move |line| i64::try_from(SERVERS * line + server).expect("it is small"))
    };
    let text = |server| numbers(server).map(|number| format!("{number}\n")).collect::<String>();
    let (builder, feeds) = serve([0, 1, 2].map(|server| text(server).into_bytes()));
    let (sender, receiver) = mpsc::channel();
    let start = SystemTime::now();
    let config = builder.divisor(2).build().unwrap();
    let job = Job::builder(config)
        .for_each(move |origin, number| sender.send((origin, *number)).unwrap())
        .unwrap();
    let (received, report) = wait(job, feeds, &receiver);
    let even = |server| numbers(server).filter(|number| number % 2 == 0).collect::<Vec<i64>>();
    assert!(by_server(received, start, &report) == [0, 1, 2].map(even));
}

#[test]
fn a_panic_in_the_closure_ends_the_job_and_its_wait_panics() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap().to_string().parse::<Server>().unwrap();
    let config = || Config::builder().servers([server.clone()]).divisor(1).build().unwrap();
    let jobs = [
        Job::builder(config()).for_each(|_, number| panic!("on {number}")),
        Job::builder(config()).lines().for_each_line(|_, line| panic!("on {}", line[0] - b'0')),
    ];
    // Each has a connection, which stays, so that only the panic can end the job.
    let _peers = [(); 2].map(|()| {
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"7\n8\n").unwrap();
        peer
    });
    for job in jobs {
        let job = job.unwrap();
        let panic = catch_unwind(AssertUnwindSafe(|| job.wait())).unwrap_err();
        assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some("on 7"));
    }
}
