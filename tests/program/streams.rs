//! Tests data at inconvenient moments: on a connect that the program has not handled yet, beside urgent
//! data, and while the program is suspended. Also tests names with several addresses, some of which are
//! silent.
//!
//! The tests suspend the program with SIGSTOP, so that their own steps certainly come first.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use crate::common::{DEADLINE, Program, Server, Signal};
use crate::failure::{in_namespaces, isolated};
use crate::{Totals, skip, start, stop, tcpcore};

/// A listener that does not answer: the system drops packets while the queue of connections to accept is
/// full. The client repeats its first packet after 1, 3 and 7 seconds.
struct Silent {
    listener: TcpListener,
    _queued: TcpStream,
}

impl Silent {
    fn bind(address: SocketAddr) -> Option<Silent> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&address.into()).ok()?;
        socket.listen(0).unwrap();
        // This ends a test that fails.
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let listener = TcpListener::from(socket);
        let queued = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        Some(Silent { listener, _queued: queued })
    }

    fn new() -> Silent {
        Silent::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap()
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Answers from now on, and returns the next connection from another process.
    fn accept(&self) -> TcpStream {
        drop(self.listener.accept().unwrap());
        self.listener.accept().unwrap().0
    }
}

/// Returns whether a socket of this machine is connecting to `address`.
fn is_connecting(address: SocketAddr) -> bool {
    let remote = format!("0100007F:{:04X}", address.port());
    // Columns: number, local and remote address, state, ... State 02 is SYN_SENT.
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.any(|row| row.len() > 3 && row[2] == remote && row[3] == "02")
}

/// Suspends a program while it connects, and returns it with its connection, which it has not handled yet.
fn suspended_in_connect(flags: &str) -> (Program, TcpStream) {
    loop {
        let server = Silent::new();
        let mut program = start(&format!("-p 1 -v {flags}"), [server.address()]);
        // The line in the log comes before the first packet.
        program.wait_for_log("Dialing ");
        let deadline = Instant::now() + DEADLINE;
        while !is_connecting(server.address()) {
            assert!(Instant::now() < deadline, "no socket is connecting to {}", server.address());
            thread::sleep(Duration::from_millis(1));
        }
        program.signal(Signal::STOP);
        // On a slow machine the attempt may have timed out before the program was suspended.
        if is_connecting(server.address()) {
            let peer = server.accept();
            peer.set_nodelay(true).unwrap();
            return (program, peer);
        }
    }
}

fn send(peer: &TcpStream, bytes: &[u8]) {
    use std::io::Write;
    let mut peer = peer;
    peer.write_all(bytes).unwrap();
}

fn reset(peer: TcpStream) {
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn lines_before_a_reset_are_printed_though_the_connect_was_not_handled_yet() {
    for once in [false, true] {
        let flags = if once { "--once" } else { "--initial-backoff 1h --max-backoff 1h" };
        let (mut program, peer) = suspended_in_connect(flags);
        send(&peer, b"6\n12\n18\n");
        reset(peer);
        program.signal(Signal::CONT);
        for number in ["6", "12", "18"] {
            assert_eq!(program.next_line().as_deref(), Some(number));
        }
        program.wait_for_log("Connected successfully to");
        let line = program.wait_for_log("Connection lost to");
        assert!(line.contains("reset"), "{line}");
        let totals = if once {
            assert_eq!(program.wait_exit().code(), Some(1), "a reset is a failure");
            Totals::of(&program)
        } else {
            stop(&mut program)
        };
        assert_eq!((totals.get("connects"), totals.get("records printed")), (1, 3));
    }
}

#[test]
fn lines_after_urgent_data_are_printed_though_the_server_is_silent_after_them() {
    let (mut program, peer) = suspended_in_connect("");
    send(&peer, b"6\n");
    SockRef::from(&peer).send_out_of_band(b"\n").unwrap();
    send(&peer, b"12\n");
    program.signal(Signal::CONT);
    assert_eq!(program.next_line().as_deref(), Some("6"));
    assert_eq!(program.next_line().as_deref(), Some("12"));
    assert_eq!(stop(&mut program).get("lines"), 3);
}

#[test]
fn a_newline_that_is_sent_as_urgent_data_ends_its_line() {
    let server = Server::bind();
    let mut program = start("-d 1", [server.address()]);
    let mut peer = server.accept();
    program.wait_for_log("Connected successfully to");
    for _ in 0..20 {
        let stream = peer.stream();
        send(stream, b"126");
        SockRef::from(&*stream).send_out_of_band(b"\n").unwrap();
        send(stream, b"12\n");
        assert_eq!(program.next_line().as_deref(), Some("126"));
        assert_eq!(program.next_line().as_deref(), Some("12"));
    }
}

#[test]
fn a_connection_that_was_answered_while_the_program_was_suspended_has_not_timed_out() {
    let (mut program, peer) = suspended_in_connect("--connect-timeout 4s");
    // The timeout must pass while the program is suspended.
    thread::sleep(Duration::from_millis(4100));
    send(&peer, b"6\n");
    program.signal(Signal::CONT);
    assert_eq!(program.next_line().as_deref(), Some("6"));
    program.wait_for_log("stood still");
    assert_eq!(stop(&mut program).get("failures"), 0);
}

#[test]
fn time_in_which_the_program_is_suspended_does_not_count_for_give_up_after() {
    let (mut program, peer) = suspended_in_connect("--give-up-after 4s");
    thread::sleep(Duration::from_millis(4100));
    send(&peer, b"6\n");
    program.signal(Signal::CONT);
    assert_eq!(program.next_line().as_deref(), Some("6"));
    stop(&mut program);
}

#[test]
fn a_connection_with_lines_to_read_is_not_idle_after_a_suspension() {
    let server = Server::bind();
    let mut program = start("-p 1 --idle-timeout 3s", [server.address()]);
    let mut peer = server.accept();
    // The server sends until the connection is closed, whether the program runs or not.
    let heartbeats = peer.stream().try_clone().unwrap();
    thread::spawn(move || {
        use std::io::Write;
        while (&heartbeats).write_all(b"\n").is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    });
    peer.send("6\n");
    assert_eq!(program.next_line().as_deref(), Some("6"));
    for number in [12, 18] {
        program.signal(Signal::STOP);
        peer.send(format!("{number}\n"));
        thread::sleep(Duration::from_millis(3100));
        program.signal(Signal::CONT);
        assert_eq!(program.next_line(), Some(number.to_string()));
    }
    assert_eq!(stop(&mut program).get("failures"), 0);
}

/// Writes a file that maps `name` to `addresses`. Returns it with the shell script that mounts it over the
/// system's.
fn hosts(name: &str, addresses: &[String]) -> (std::path::PathBuf, String) {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("hosts-{name}-{}", std::process::id()));
    let lines: String = addresses.iter().map(|address| format!("{address} {name}\n")).collect();
    std::fs::write(&path, lines).unwrap();
    // Not every system's resolver reads this file first.
    let setup =
        format!("mount --bind '{}' /etc/hosts; getent hosts {name} >/dev/null", path.display());
    (path, setup)
}

/// Opens `count` silent listeners on one port, each on its own address.
fn silent(count: u8) -> Vec<Silent> {
    loop {
        let port = Silent::new().address().port();
        let bind = |last| Silent::bind(SocketAddr::from(([127, 9, 0, last], port)));
        if let Some(servers) = (1..=count).map(bind).collect() {
            return servers;
        }
    }
}

/// Returns a program that connects to a name with these addresses, which are on loopback.
fn connect_to(name: &str, servers: &[SocketAddr], flags: &str) -> Option<Command> {
    let addresses: Vec<_> = servers.iter().map(|server| server.ip().to_string()).collect();
    let (_, setup) = hosts(name, &addresses);
    let server = format!("{name}:{}", servers[0].port());
    let command = in_namespaces(&["--mount"], &setup, flags, &server);
    if command.is_none() {
        skip("cannot mount a hosts file");
    }
    command
}

#[test]
fn a_slow_address_is_not_closed_in_favor_of_the_next_ones() {
    let servers = silent(16);
    let addresses: Vec<_> = servers.iter().map(Silent::address).collect();
    let Some(mut command) = connect_to("pool", &addresses, "-v") else { return };
    let mut program = Program::spawn(&mut command);
    let first = program.wait_for_log("Dialing pool:");
    let first = servers.iter().find(|server| first.ends_with(&server.address().to_string()));
    // The answer comes after a second, when the share of the address would be over.
    let peer = first.expect("it is one of them").accept();
    send(&peer, b"6\n");
    assert_eq!(program.next_line().as_deref(), Some("6"));
    let is_failure = |line: &&String| line.contains("Could not connect");
    assert_eq!(program.log().iter().find(is_failure), None);
    assert_eq!(stop(&mut program).get("failures"), 0);
}

#[test]
fn a_silent_address_delays_the_next_one_by_a_moment_and_not_by_its_share_of_the_timeout() {
    let servers = silent(2);
    let addresses: Vec<_> = servers.iter().map(Silent::address).collect();
    let Some(mut command) = connect_to("pair", &addresses, "-v --connect-timeout 1h") else {
        return;
    };
    let mut program = Program::spawn(&mut command);
    // The share of the first address would be half an hour.
    let [_, second] = [(); 2].map(|()| program.wait_for_log("Dialing pair:"));
    let second = servers.iter().find(|server| second.ends_with(&server.address().to_string()));
    let peer = second.expect("it is one of them").accept();
    send(&peer, b"6\n");
    assert_eq!(program.next_line().as_deref(), Some("6"));
}

#[test]
fn when_all_addresses_fail_each_is_named_with_its_reason() {
    let addresses = ["2001:db8::1".to_owned(), "127.0.0.1".to_owned()];
    let (_, setup) = hosts("both", &addresses);
    let setup = format!("ip link set lo up; {setup}");
    let Some(mut command) = isolated(&setup, "", "both:7099") else {
        return skip("cannot create a network namespace");
    };
    let mut program = Program::spawn(&mut command);
    let line = program.wait_for_log("Could not connect to both:7099: ");
    assert!(line.contains("[2001:db8::1]:7099: "), "{line}");
    assert!(line.contains("127.0.0.1:7099: connection refused"), "{line}");
}

#[test]
fn a_socket_option_that_the_system_refuses_causes_one_warning_and_no_failure() {
    let strace = Command::new("strace").arg("-V").output();
    if !strace.is_ok_and(|output| output.status.success()) {
        return skip("there is no strace");
    }
    let servers = [Server::bind(), Server::bind()];
    let mut command = Program::command("strace");
    command.args("-f -qq -o /dev/null -e trace=setsockopt".split(' '));
    command.args("-e inject=setsockopt:error=EPERM".split(' '));
    command.arg(env!("CARGO_BIN_EXE_tcpcore")).args(["-p", "1", "--once"]);
    command.args(crate::addresses(&servers).iter().map(ToString::to_string));
    let mut program = Program::spawn(&mut command);
    for server in &servers {
        server.accept().send("6\n");
        assert_eq!(program.next_line().as_deref(), Some("6"));
    }
    assert_eq!(program.wait_exit().code(), Some(0));
    let count = |part: &str| program.log().iter().filter(|line| line.contains(part)).count();
    assert_eq!((count("refuses TCP keepalive"), count("refuses SO_OOBINLINE")), (1, 1));
}

#[test]
fn a_truncated_line_is_logged_in_a_warning() {
    let server = Server::bind();
    let mut program = start("--once", [server.address()]);
    let mut peer = server.accept();
    peer.send("6\n12\x1b[");
    peer.close();
    let line = program.wait_for_log("ended without its delimiter");
    assert!(line.contains(" WARN") && line.ends_with(": \"12\\x1b[\""), "{line}");
    assert!(line.contains(&server.address().to_string()), "{line}");
    assert_eq!(program.wait_exit().code(), Some(0));
    assert_eq!(program.remaining_lines(), ["6"]);
}

#[test]
fn once_on_nothing_but_malformed_lines_ends_with_status_1() {
    let servers = [Server::bind(), Server::bind()];
    let mut program = Program::spawn(&mut tcpcore("--once", crate::addresses(&servers)));
    servers[0].accept().send("6\n");
    servers[1].accept().send("temp=23.5\n6.0\n");
    let line = program.wait_for_log("but only malformed or oversized ones");
    assert!(line.contains(&servers[1].address().to_string()), "{line}");
    assert_eq!(program.wait_exit().code(), Some(1));
    assert_eq!(program.remaining_lines(), ["6"]);
}
