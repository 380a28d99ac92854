//! Tests the status server: what it serves, and that rude clients harm neither it nor the data.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::common::{DEADLINE, Program, Server, Signal};
use crate::list::ListFile;
use crate::{AT_ONCE, Down, addresses, by_shell, lines_of, start, stop, tcpcore};

/// No server, beside those of the file.
const NONE: [&str; 0] = [];

/// Returns the address that the log names.
fn status_address(program: &mut Program) -> SocketAddr {
    let line = program.wait_for_log("Status on http://");
    let (_, url) = line.split_once("http://").expect("it is part of the line");
    url.strip_suffix('/').and_then(|address| address.parse().ok()).expect("an address")
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the status server listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("the deadline is not zero");
    stream.set_write_timeout(Some(DEADLINE)).expect("the deadline is not zero");
    stream
}

/// Sends bytes and returns all that comes until the server closes.
fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = connect(address);
    // The server may have closed before it has read all.
    let _ = stream.write_all(bytes.as_ref());
    let mut text = Vec::new();
    let end = stream.read_to_end(&mut text);
    assert!(end.is_ok() || !text.is_empty(), "{end:?}");
    String::from_utf8(text).expect("text")
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
}

/// Returns the status and the body of a page.
pub(crate) fn page(address: SocketAddr, path: &str) -> (u16, String) {
    let response =
        exchange(address, get(path).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    let (head, body) = response.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

fn wait_for_page(address: SocketAddr, path: &str, expected: (u16, &str)) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (status, body) = page(address, path);
        if (status, body.as_str()) == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{path}: {status} {body}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

const OK: (u16, &str) = (200, "ok\n");

#[test]
fn a_job_is_ready_when_its_condition_holds() {
    let server = Server::bind();
    let down = Down::new();
    let servers = [server.address(), down.address];
    for (flags, expected) in [
        ("", OK),
        ("--ready started", OK),
        ("--ready any", OK),
        ("--ready 50%", OK),
        ("--ready 51%", (503, "not ready: 1 of 2 connected, 2 expected\n")),
        ("--ready all", (503, "not ready: 1 of 2 connected, 2 expected\n")),
    ] {
        let mut program = start(&format!("{flags} --status-addr 127.0.0.1:0"), servers);
        let address = status_address(&mut program);
        let _peer = server.accept();
        program.wait_for_log("Connected successfully to");
        program.wait_for_log("Connection refused by");
        wait_for_page(address, "/readyz", expected);
        assert_eq!(page(address, "/livez"), (200, "ok\n".into()));
        stop(&mut program);
    }
}

#[test]
fn a_job_that_stops_is_live_and_not_ready_until_it_ends() {
    let server = Server::bind();
    let mut command = tcpcore("-d 1 --status-addr 127.0.0.1:0", [server.address()]);
    let (mut program, stdout) = Program::spawn_unread(&mut command);
    let address = status_address(&mut program);
    let mut peer = server.accept();
    // More than the pipe and the reader's first lines hold, so that the output cannot end.
    let lines = 200_000;
    peer.send((0..lines).map(|number| format!("{number}\n")).collect::<String>());
    wait_for_page(address, "/readyz", OK);
    program.signal(Signal::TERM);
    wait_for_page(address, "/readyz", (503, "not ready: stopping\n"));
    assert_eq!(page(address, "/livez"), (200, "ok\n".into()));
    let idle = connect(address);
    assert!(lines_of(stdout).count() <= lines);
    assert_eq!(program.wait_exit().code(), Some(0));
    assert_eq!((&idle).read(&mut [0]).unwrap_or(0), 0);
    assert!(TcpStream::connect(address).is_err(), "the port is free again");
}

#[test]
fn other_paths_methods_and_bodies_are_refused() {
    let server = Server::bind();
    let mut program = start("--status-addr 127.0.0.1:0", [server.address()]);
    let address = status_address(&mut program);
    assert_eq!(page(address, "/nothing").0, 404);
    assert!(page(address, "/nothing").1.contains("/readyz\n"));
    let post = "POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let refused = exchange(address, post);
    assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
    assert!(refused.contains("\r\nAllow: GET, HEAD\r\n"), "{refused}");
    let head = exchange(address, "HEAD /livez HTTP/1.0\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.contains("\r\nContent-Length: 3\r\n"), "{head}");
    assert!(exchange(address, "\x16\x03\x01\x02\0\x01").starts_with("HTTP/1.1 400 "));
    // The server discards what it does not read, so that no reset follows the response.
    let mut stream = connect(address);
    stream.write_all(format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(60_000)).as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 431 "), "{text}");
    stop(&mut program);
}

#[test]
fn pipelined_requests_of_a_half_closed_client_are_answered() {
    let server = Server::bind();
    let mut program = start("--status-addr 127.0.0.1:0", [server.address()]);
    let address = status_address(&mut program);
    let mut stream = connect(address);
    stream.write_all(get("/livez").repeat(100).as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK\r\n").count(), 100);
    stop(&mut program);
}

#[test]
fn a_client_that_sends_requests_and_does_not_read_is_held_back() {
    let server = Server::bind();
    let mut program = start("--status-addr 127.0.0.1:0", [server.address()]);
    let address = status_address(&mut program);
    let mut stream = connect(address);
    stream.set_nonblocking(true).unwrap();
    let request = get("/livez");
    let requests = request.repeat(1000);
    let (mut sent, mut last) = (0, Instant::now());
    // Until nothing more is taken for a while, shorter than the 10 s after which the server closes.
    while last.elapsed() < Duration::from_secs(2) {
        match stream.write(&requests.as_bytes()[sent % request.len()..]) {
            Ok(len) => (sent, last) = (sent + len, Instant::now()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        assert!(sent < 256 << 20, "the server reads without an end");
    }
    assert_eq!(page(address, "/livez"), (200, "ok\n".into()));
    stream.set_nonblocking(false).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK\r\n").count(), sent / request.len());
    stop(&mut program);
}

#[test]
fn a_thousand_silent_clients_make_place_for_one_that_asks() {
    let server = Server::bind();
    let mut program = start("--status-addr 127.0.0.1:0", [server.address()]);
    let address = status_address(&mut program);
    let mut clients = Vec::new();
    for _ in 0..1000 {
        clients.push(connect(address));
    }
    assert_eq!(page(address, "/livez"), (200, "ok\n".into()));
    drop(clients);
    assert_eq!(page(address, "/livez"), (200, "ok\n".into()));
    stop(&mut program);
}

#[test]
fn sixty_four_slow_clients_keep_others_out_for_5_s() {
    let server = Server::bind();
    let mut program = start("--status-addr 127.0.0.1:0", [server.address()]);
    let address = status_address(&mut program);
    let slow_clients = || {
        let start = Instant::now();
        let clients: Vec<_> = (0..64).map(|_| connect(address)).collect();
        for mut client in &clients {
            client.write_all(b"GET /livez HT").unwrap();
        }
        (start, clients)
    };
    let (mut start, mut clients) = slow_clients();
    while page(address, "/livez") != (503, "too many connections\n".into()) {
        // Where the machine is so slow that their 5 s are over, others come.
        assert!(start.elapsed() >= Duration::from_secs(5), "the slow clients are not counted");
        (start, clients) = slow_clients();
    }
    wait_for_page(address, "/livez", OK);
    assert!(start.elapsed() >= Duration::from_secs(5), "{:?}", start.elapsed());
    let mut text = String::new();
    clients[0].read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    stop(&mut program);
}

#[test]
fn with_few_descriptors_silent_clients_make_place_and_slow_ones_time_out() {
    let server = Server::bind();
    let program = tcpcore("-p 1 --status-addr 127.0.0.1:0", [server.address()]);
    let mut program = Program::spawn(&mut by_shell("ulimit -n 32;", &program));
    let address = status_address(&mut program);
    let peer = server.accept();
    let silent: Vec<_> = (0..40).map(|_| connect(address)).collect();
    assert_eq!(page(address, "/livez"), (200, "ok\n".into()));
    drop(silent);
    let mut slow: Vec<_> = (0..40).map(|_| connect(address)).collect();
    for client in &mut slow {
        // The server may have no place for it.
        let _ = client.write_all(b"GET /livez HT");
    }
    // The slow ones have to time out first.
    wait_for_page(address, "/livez", OK);
    drop(slow);
    drop(peer);
    program.wait_for_log("Connection lost to");
    stop(&mut program);
}

#[test]
fn with_more_servers_than_descriptors_the_status_is_served_and_the_list_is_read_again() {
    const LIMIT: usize = 64;
    let servers: Vec<_> = (0..LIMIT).map(|_| Server::bind()).collect();
    let list = |count: usize| {
        servers[..count].iter().map(|server| format!("{}\n", server.address())).collect::<String>()
    };
    let file = ListFile::new("descriptors", list(LIMIT));
    // The attempts without a descriptor are repeated all the time, so each one that is free would be taken.
    let flags = format!("-p 1 --status-addr 127.0.0.1:0 {AT_ONCE} -f {}", file.path());
    let program = tcpcore(&flags, NONE);
    let mut program = Program::spawn(&mut by_shell(&format!("ulimit -n {LIMIT};"), &program));
    let address = status_address(&mut program);
    program.wait_for_log("Too many open files");
    // As many clients as there is place for keep their connections.
    let _clients: Vec<_> = (0..LIMIT).map(|_| connect(address)).collect();
    for _ in 0..20 {
        assert_eq!(page(address, "/livez"), (200, "ok\n".into()));
        let (status, metrics) = page(address, "/metrics");
        assert_eq!(status, 200);
        assert!(metrics.contains("\nprocess_open_fds "), "the system is asked: {metrics}");
    }

    std::fs::write(file.path(), list(3)).unwrap();
    program.signal(Signal::HUP);
    program.wait_for_log("Read the servers again: 3 kept servers, 0 added, 61 removed");
    stop(&mut program);
}

#[test]
fn an_address_in_use_ends_the_program_before_a_server_is_dialed() {
    let server = Server::bind();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let mut program = start(&format!("--status-addr {address}"), [server.address()]);
    assert_eq!(program.wait_exit().code(), Some(1));
    let expected = format!(
        "starting failed: cannot listen on {address} for --status-addr, end the program that \
         listens there, or select another port: "
    );
    assert!(program.log().iter().any(|line| line.contains(&expected)), "{:?}", program.log());
    assert!(server.accept_within(Duration::ZERO).is_none(), "it was dialed");
}

#[test]
fn an_address_that_other_hosts_reach_causes_a_warning() {
    let server = Server::bind();
    let mut program = start("--status-addr 0.0.0.0:0", [server.address()]);
    let address = status_address(&mut program);
    let local = SocketAddr::from(([127, 0, 0, 1], address.port()));
    assert_eq!(page(local, "/livez"), (200, "ok\n".into()));
    program.wait_for_log("open to other hosts, without a password");

    let mut program = start("--status-addr 127.0.0.1:0", addresses(&[server]));
    status_address(&mut program);
    stop(&mut program);
    assert!(!program.log().iter().any(|line| line.contains("other hosts")));
}

/// Returns how often the thread of the status server has slept.
#[cfg(target_os = "linux")]
fn sleeps(program: &Program) -> u64 {
    let tasks = format!("/proc/{}/task", program.pid().as_raw_nonzero());
    let status = std::fs::read_dir(tasks).unwrap().find_map(|task| {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).ok()?;
        status.starts_with("Name:\tstatus\n").then_some(status)
    });
    let status = status.expect("the thread has its name");
    let count =
        status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    count.trim().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn without_a_client_the_server_does_not_wake_up() {
    let server = Server::bind();
    let mut program = start("--status-addr 127.0.0.1:0", [server.address()]);
    let address = status_address(&mut program);
    assert_eq!(page(address, "/livez"), (200, "ok\n".into()));
    // The end of the connection is noticed.
    std::thread::sleep(Duration::from_millis(500));
    let before = sleeps(&program);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(sleeps(&program), before);
    stop(&mut program);
}
