use super::*;
use crate::partition::{Shard, ShardBy};
use socket2::{Domain, Socket, Type};
use std::io::ErrorKind::{BrokenPipe, StorageFull, TimedOut};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

#[test]
fn refused_descriptors_are_named_with_the_remedy() {
    assert_eq!(
        no_descriptors(3, &io::Error::other("try again")).to_string(),
        "no descriptors for worker-3, \
         raise the limit of open files (ulimit -n) or lower the parallelism (-p): try again"
    );
}

#[test]
fn a_line_of_more_records_than_a_usual_ring_holds_arrives() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap().to_string().parse().unwrap();
    let line = [vec![b'x'; 4 * RING_BYTES], b"\n".to_vec()].concat();
    let text = line.clone();
    let feed = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        // The line does not come at once, so the worker holds a part of it.
        for part in text.chunks(10_000) {
            peer.write_all(part).unwrap();
        }
    });
    let config =
        Config::builder().servers([server]).once(true).max_line(line.len()).build().unwrap();
    let (reader, writer) = io::pipe().unwrap();
    let job = Job::builder(config).lines().start(writer).unwrap();
    assert!(io::read_to_string(reader).unwrap().into_bytes() == line);
    feed.join().unwrap();
    assert!(job.wait().unwrap().is_success());
}

#[test]
fn a_job_that_prints_numbers_refuses_a_delimiter_that_they_may_contain() {
    let server = "192.0.2.1:9000".parse().unwrap();
    let config = Config::builder().servers([server]).delimiter(b'0').build().unwrap();
    let error = Job::start(config, io::sink()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().starts_with("delimiter: 0x30 may be a part of"), "{error}");
}

#[test]
fn a_job_whose_shard_has_no_server_ends_at_once() {
    let server = "192.0.2.1:9000".parse().unwrap();
    let shard = Shard::new(1, 2, ShardBy::Slice).unwrap();
    let config = Config::builder().servers([server]).shard(shard).build().unwrap();
    let report = Job::start(config, io::sink()).unwrap().wait().unwrap();
    assert_eq!((report.is_success(), report.totals.servers), (true, 0));
}

#[test]
fn at_most_eight_repeated_servers_are_named() {
    let warning = |count: u16| {
        let servers = (0..2 * count).map(|i| format!("a:{}", i % count + 1).parse().unwrap());
        repeated_warning(&servers.collect::<Vec<_>>())
    };
    let none = (1..=9).map(|port| format!("a:{port}").parse().unwrap()).collect::<Vec<_>>();
    assert_eq!(repeated_warning(&none), None);
    let eight = (1..=8).map(|port| format!("a:{port} (2 times)")).collect::<Vec<_>>().join(", ");
    let start = "Listed more than once, and read as often: ";
    assert_eq!(warning(1), Some(format!("{start}a:1 (2 times)")));
    assert_eq!(warning(8), Some(format!("{start}{eight}")));
    assert_eq!(warning(9), Some(format!("{start}{eight} and 1 other")));
    assert_eq!(warning(10), Some(format!("{start}{eight} and 2 others")));
}

/// Starts a job with one server, which is connected and sends nothing.
fn idle_job() -> (Job, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap().to_string().parse().unwrap();
    let config = Config::builder().servers([server]).build().unwrap();
    (Job::start(config, io::sink()).unwrap(), listener)
}

#[test]
fn a_job_whose_servers_have_all_ended_has_finished() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // A bound port that nothing listens on refuses connections.
    let down = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    down.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let down_address = down.local_addr().unwrap().as_socket().unwrap();
    let addresses = [listener.local_addr().unwrap(), down_address];
    let servers = addresses.map(|address| address.to_string().parse().unwrap());
    let config = Config::builder().servers(servers).once(true).build().unwrap();
    let job = Job::start(config, io::sink()).unwrap();
    drop(listener.accept().unwrap());
    let report = job.wait().unwrap();
    assert_eq!(report.reason, ExitReason::Finished { failed: 1 });
    assert!(!report.is_success());
}

#[test]
fn an_output_that_is_closed_while_no_data_arrives_ends_the_job() {
    let (job, _listener) = idle_job();
    job.stop_handle().output_failed(BrokenPipe.into());
    assert!(job.stop_handle().is_stopped());
    let report = job.wait().unwrap();
    assert_eq!(report.reason, ExitReason::OutputClosed);
    assert!(report.is_success());
}

#[test]
fn an_output_that_fails_while_no_data_arrives_fails_the_job() {
    let (job, _listener) = idle_job();
    job.stop_handle().output_failed(io::Error::new(TimedOut, "the reader does not answer"));
    // A consequence of the first error.
    job.stop_handle().output_failed(BrokenPipe.into());
    let error = job.wait().unwrap_err();
    assert_eq!((error.kind(), error.lost()), (TimedOut, 0));
    assert!(error.to_string().contains("the reader does not answer"), "{error}");
}

#[test]
fn a_stopped_job_whose_output_is_closed_ends_as_stopped() {
    for is_stopped_first in [false, true] {
        let (job, _listener) = idle_job();
        let stop = job.stop_handle();
        if is_stopped_first {
            stop.stop();
        }
        stop.output_failed(BrokenPipe.into());
        stop.stop();
        assert_eq!(job.wait().unwrap().reason, ExitReason::Stopped);
    }
}

#[test]
fn an_output_that_fails_also_fails_a_stopped_job() {
    let (job, _listener) = idle_job();
    job.stop_handle().stop();
    job.stop_handle().output_failed(TimedOut.into());
    assert_eq!(job.wait().unwrap_err().kind(), TimedOut);
}

#[test]
fn the_more_specific_of_two_output_errors_is_reported() {
    let kinds = [
        ((None, None), None),
        ((Some(BrokenPipe), None), Some(BrokenPipe)),
        ((None, Some(TimedOut)), Some(TimedOut)),
        ((Some(BrokenPipe), Some(TimedOut)), Some(TimedOut)),
        ((Some(StorageFull), Some(BrokenPipe)), Some(StorageFull)),
        ((Some(StorageFull), Some(TimedOut)), Some(StorageFull)),
    ];
    for ((written, reported), expected) in kinds {
        let error = root_error(written.map(io::Error::from), reported.map(io::Error::from));
        assert_eq!(error.map(|error| error.kind()), expected);
    }
}
