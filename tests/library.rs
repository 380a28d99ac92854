//! Tests the library as another program uses it, for faults that the program `tcpcore` would not show.
//!
//! There is only one test, since it counts the descriptors of the process.

use std::fs;
use std::io::{self, Write};
use std::net::TcpListener;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tcpcore::{Config, Job, Server};

/// The longest wait for the end of a job.
const DEADLINE: Duration = Duration::from_secs(60);

fn config(server: &str) -> Config {
    let server: Server = server.parse().unwrap();
    Config::builder().servers([server.clone(), server]).parallelism(2).build().unwrap()
}

#[cfg(target_os = "linux")]
fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[cfg(not(target_os = "linux"))]
fn descriptors() -> usize {
    fs::read_dir("/dev/fd").unwrap().count()
}

struct Panics;

impl Write for Panics {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        panic!("a bug in the output");
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn jobs_leak_no_descriptors_and_wait_passes_a_panic_of_the_output_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = config(&listener.local_addr().unwrap().to_string());
    let mut held = Vec::new();
    for _ in 0..5 {
        let job = Job::start(config.clone(), io::sink()).unwrap();
        let peers = [listener.accept().unwrap(), listener.accept().unwrap()];
        job.stop_handle().stop();
        assert!(job.wait().unwrap().is_success());
        drop(peers);
        held.push(descriptors());
    }
    assert!(held.iter().all(|count| *count == held[0]), "{held:?}");

    let job = Job::start(config, Panics).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    peer.write_all(b"6\n").unwrap();
    let (done, outcome) = mpsc::channel();
    thread::spawn(move || done.send(panic::catch_unwind(AssertUnwindSafe(|| job.wait()))));
    let outcome = outcome.recv_timeout(DEADLINE).expect("the job ends");
    let panic = outcome.expect_err("the panic is passed on");
    assert_eq!(panic.downcast_ref(), Some(&"a bug in the output"));
}
