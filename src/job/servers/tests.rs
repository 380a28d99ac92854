use super::*;
use crate::Config;
use crate::job::Job;
use crate::partition::ShardBy;
use crate::report::ExitReason;
use crate::stats::ServerState;
use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use std::{io, thread};

/// A job whose servers change, and the lines that it prints.
struct Running {
    job: Job,
    servers: ServersHandle,
    lines: BufReader<PipeReader>,
}

impl Running {
    fn start(adjust: impl FnOnce(crate::ConfigBuilder) -> crate::ConfigBuilder) -> Running {
        let config = adjust(Config::builder().wait_for_servers(true).parallelism(2));
        let (reader, writer) = io::pipe().unwrap();
        let job = Job::builder(config.build().unwrap()).lines().start(writer).unwrap();
        Running { servers: job.servers_handle(), job, lines: BufReader::new(reader) }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }
}

fn listen() -> (TcpListener, Server) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap().to_string().parse().unwrap();
    (listener, server)
}

fn send(mut peer: &TcpStream, text: &str) {
    peer.write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_server_that_stays_keeps_its_connection_and_its_unfinished_line() {
    let (first, first_server) = listen();
    let (second, second_server) = listen();
    let mut running = Running::start(|config| config);
    let replaced = running.servers.replace([first_server.clone()]);
    assert_eq!(replaced, Replaced { kept: 0, added: 1, removed: 0 });
    let (first_peer, _) = first.accept().unwrap();
    send(&first_peer, "begun\nto be con");
    assert_eq!(running.line(), "begun\n");

    let replaced = running.servers.replace([second_server.clone(), first_server.clone()]);
    assert_eq!(replaced, Replaced { kept: 1, added: 1, removed: 0 });
    let (second_peer, _) = second.accept().unwrap();
    send(&second_peer, "other\n");
    assert_eq!(running.line(), "other\n");
    send(&first_peer, "tinued\n");
    assert_eq!(running.line(), "to be continued\n");

    let replaced = running.servers.replace([first_server]);
    assert_eq!(replaced, Replaced { kept: 1, added: 0, removed: 1 });
    assert_eq!((&second_peer).read(&mut [0]).unwrap(), 0, "the removed server is closed");
    send(&first_peer, "alone\n");
    assert_eq!(running.line(), "alone\n");
    running.job.stop_handle().stop();
    let report = running.job.wait().unwrap();
    assert_eq!((report.reason, report.totals.printed), (ExitReason::Stopped, 4));
    assert_eq!((report.totals.servers, report.totals.counters.connects), (1, 2));
}

#[test]
fn new_servers_go_to_the_worker_with_the_fewest() {
    let running = Running::start(|config| config);
    let server = |port: u16| -> Server { format!("192.0.2.1:{port}").parse().unwrap() };
    let workers = || -> Vec<_> {
        let servers = running.job.stats().servers();
        servers.iter().map(|stats| (stats.server().port(), stats.worker())).collect()
    };
    running.servers.replace([1, 2, 3].map(server));
    assert_eq!(workers(), [(1, 0), (2, 1), (3, 0)]);
    running.servers.replace([2, 4, 5].map(server));
    assert_eq!(workers(), [(2, 1), (4, 0), (5, 0)]);
    running.job.stop_handle().stop();
    running.job.wait().unwrap();
}

#[test]
fn a_server_listed_twice_is_two_and_one_less_closes_one() {
    let (listener, server) = listen();
    let running = Running::start(|config| config);
    running.servers.replace([server.clone(), server.clone()]);
    let (first, second) = (listener.accept().unwrap().0, listener.accept().unwrap().0);
    let replaced = running.servers.replace([server]);
    assert_eq!(replaced, Replaced { kept: 1, added: 0, removed: 1 });
    let closed = [first, second]
        .map(|mut peer| thread::spawn(move || peer.read(&mut [0]).is_ok_and(|len| len == 0)));
    running.job.stop_handle().stop();
    running.job.wait().unwrap();
    assert_eq!(closed.map(|thread| thread.join().unwrap()), [true; 2]);
}

#[test]
fn a_list_without_servers_does_not_end_the_job_and_one_whose_servers_have_all_ended_does() {
    let refusing: Vec<Server> = (0..3)
        .map(|_| {
            let (listener, server) = listen();
            drop(listener);
            server
        })
        .collect();
    let running = Running::start(|config| config.once(true));
    let (listener, server) = listen();
    running.servers.replace([server]);
    let (peer, _) = listener.accept().unwrap();
    running.servers.replace([]);
    // It is removed before it has ended, so the job has no server and waits.
    assert_eq!((&peer).read(&mut [0]).unwrap(), 0);
    running.servers.replace(refusing);
    let report = running.job.wait().unwrap();
    assert_eq!(report.reason, ExitReason::Finished { failed: 3 });
}

#[test]
fn an_attempt_now_does_not_wait_for_the_delay() {
    let (listener, server) = listen();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let hour = Duration::from_secs(3600);
    let running = Running::start(|config| config.initial_backoff(hour).max_backoff(hour));
    running.servers.replace([server]);
    let stats = running.job.stats().servers().remove(0);
    while stats.counters().failures == 0 || stats.state() != ServerState::Waiting {
        thread::yield_now();
    }
    let listener = TcpListener::bind(address).unwrap();
    running.servers.retry_now();
    listener.accept().unwrap();
    running.job.stop_handle().stop();
    running.job.wait().unwrap();
}

#[test]
fn a_change_after_the_end_of_the_job_does_nothing() {
    let (_listener, server) = listen();
    let Running { job, servers, .. } = Running::start(|config| config);
    job.stop_handle().stop();
    job.wait().unwrap();
    assert_eq!(servers.replace([server]), Replaced { kept: 0, added: 1, removed: 0 });
    servers.retry_now();
}

#[test]
fn ten_thousand_servers_are_replaced_while_lines_arrive_and_none_is_lost() {
    const LINES: usize = 200_000;
    let (listener, server) = listen();
    let mut running = Running::start(|config| config.connect_timeout(Duration::from_secs(1)));
    running.servers.replace([server.clone()]);
    let (peer, _) = listener.accept().unwrap();
    let feed = thread::spawn(move || {
        for part in 0..LINES / 1000 {
            let text: Vec<_> = (0..1000).map(|line| format!("{}\n", part * 1000 + line)).collect();
            send(&peer, &text.concat());
        }
        peer
    });
    let handle = running.servers.clone();
    let changes = thread::spawn(move || {
        // Addresses of this machine on which nothing listens.
        let others = |from: usize| {
            (from..from + 5000)
                .map(|i| -> Server { format!("127.77.{}.{}:9", i / 256, i % 256).parse().unwrap() })
        };
        for round in 0..6 {
            let replaced = handle.replace(others(round * 5000).chain([server.clone()]));
            let removed = if round == 0 { 0 } else { 5000 };
            assert_eq!(replaced, Replaced { kept: 1, added: 5000, removed });
        }
    });
    for line in 0..LINES {
        assert_eq!(running.line(), format!("{line}\n"));
    }
    changes.join().unwrap();
    drop(feed.join().unwrap());
    running.job.stop_handle().stop();
    assert_eq!(running.job.wait().unwrap().totals.printed, LINES as u64);
}

#[test]
fn a_job_with_a_shard_takes_its_part_of_each_list() {
    let (listener, server) = listen();
    let others: Vec<Server> = (1..=3).map(|n| format!("192.0.2.{n}:9").parse().unwrap()).collect();
    let last = Shard::new(3, 4, ShardBy::Slice).unwrap();
    let mut running = Running::start(|config| config.shard(last));
    let none = Replaced { kept: 0, added: 0, removed: 0 };
    assert_eq!(running.servers.replace(others.clone()), none);
    let list: Vec<Server> = others.into_iter().chain([server]).collect();
    assert_eq!(running.servers.replace(list.clone()), Replaced { added: 1, ..none });
    let (peer, _) = listener.accept().unwrap();
    send(&peer, "here\n");
    assert_eq!(running.line(), "here\n");
    assert_eq!(running.servers.replace(list), Replaced { kept: 1, ..none });
    running.job.stop_handle().stop();
    assert!(running.job.wait().unwrap().is_success());
}
