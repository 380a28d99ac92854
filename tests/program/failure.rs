//! Tests failures, back-off and reconnects.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use crate::common::{Program, Server};
use crate::{AT_ONCE, Down, Totals, delay_ms, skip, start, stop};

/// Flags for delays that double from 10 ms to 80 ms, so that each shows the number of failures before it.
const DOUBLING: &str = "--initial-backoff 10ms --max-backoff 80ms --jitter-factor 0";

#[test]
fn delays_grow_by_the_multiplier_up_to_the_cap() {
    let down = Down::new();
    let mut program = start(DOUBLING, [&down]);
    for (attempt, delay) in (1..).zip([10, 20, 40, 80, 80, 80]) {
        program.wait_for_log(&format!("Trying to connect to {down}"));
        let line = program.wait_for_log("Connection refused by");
        let expected = format!("Connection refused by {down}; attempt {attempt} in {delay}ms");
        assert!(line.ends_with(&expected), "{line}");
    }
}

#[test]
fn a_flag_sets_the_multiplier() {
    let down = Down::new();
    let flags = "--initial-backoff 2ms --backoff-multiplier 10 --max-backoff 1s --jitter-factor 0";
    let mut program = start(flags, [&down]);
    let delays = [(); 3].map(|()| delay_ms(&program.wait_for_log("Connection refused by")));
    assert_eq!(delays, [2, 20, 200]);
}

#[test]
fn no_attempt_comes_before_its_delay_has_passed() {
    let down = Down::new();
    let mut program = start(DOUBLING, [&down]);
    program.wait_for_log("Trying to connect to");
    for _ in 0..5 {
        let refused = program.wait_for_log("Connection refused by");
        let next = program.wait_for_log("Trying to connect to");
        let gap = (milliseconds(&next) + DAY_MS - milliseconds(&refused)) % DAY_MS;
        // Both time stamps are rounded down.
        assert!(gap + 1 >= delay_ms(&refused), "{refused}, {next}");
    }
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Returns the time of day of a log line, `[2026-01-31T12:34:56.789Z INFO ] ...`, in milliseconds.
fn milliseconds(line: &str) -> u64 {
    let time = &line[12..24];
    let fields: Vec<u64> = time.split([':', '.']).map(|field| field.parse().unwrap()).collect();
    ((fields[0] * 60 + fields[1]) * 60 + fields[2]) * 1000 + fields[3]
}

#[test]
fn the_first_delay_is_a_second_within_a_tenth_by_default() {
    let down = Down::new();
    let mut program = start("", [&down]);
    let line = program.wait_for_log("Connection refused by");
    let delay = line.rsplit_once("attempt 1 in ").unwrap().1.strip_suffix('s').unwrap();
    let delay: f64 = match delay.strip_suffix('m') {
        Some(ms) => ms.parse::<f64>().unwrap() / 1000.0,
        None => delay.parse().unwrap(),
    };
    assert!((0.9..=1.1).contains(&delay), "{line}");
}

#[test]
fn jitter_spreads_the_delays_to_both_sides_at_the_cap_too() {
    let down = Down::new();
    let servers = [&down; 60];
    let flags = "--initial-backoff 500ms --max-backoff 500ms --jitter-factor 0.5";
    let mut program = start(flags, servers);
    let delays: Vec<_> =
        servers.iter().map(|_| delay_ms(&program.wait_for_log("; attempt 1 in"))).collect();
    assert!(delays.iter().all(|delay| (250..=750).contains(delay)), "{delays:?}");
    // Each of these fails by chance once in 10^18 runs.
    assert!(delays.iter().any(|&delay| delay < 500), "{delays:?}");
    assert!(delays.iter().any(|&delay| delay > 500), "{delays:?}");
}

#[test]
fn a_server_that_is_down_and_up_again_never_delays_another() {
    let (steady, down) = (Server::bind(), Down::new());
    let failing = down.up();
    let mut program = start(&format!("-p 1 {DOUBLING}"), [steady.address(), down.address]);
    let mut peer = steady.accept();
    let failing_peer = failing.accept();
    drop(failing);
    failing_peer.close();
    program.wait_for_log(&format!("Connection lost to {down}: closed by the server; attempt 1 in"));
    for number in (6..=42).step_by(6) {
        program.wait_for_log(&format!("Connection refused by {down}"));
        peer.send(format!("{number}\n"));
        assert_eq!(program.next_line(), Some(number.to_string()));
    }
    let back = down.up();
    let mut back_peer = back.accept();
    program.wait_for_log(&format!("Connected successfully to {down} after"));
    back_peer.send("66\n");
    assert_eq!(program.next_line().as_deref(), Some("66"));
    peer.send("72\n");
    assert_eq!(program.next_line().as_deref(), Some("72"));
    assert_eq!(stop(&mut program).get("connects"), 3, "the steady one stayed connected");
}

#[test]
fn each_server_has_its_own_back_off() {
    let (first, second) = (Down::new(), Server::bind());
    let mut program = start(&format!("-p 1 {DOUBLING}"), [first.address, second.address()]);
    let peer = second.accept();
    for _ in 0..4 {
        program.wait_for_log(&format!("Connection refused by {first}"));
    }
    peer.close();
    let line = program.wait_for_log("Connection lost to");
    assert_eq!(delay_ms(&line), 10, "the delay of a first failure: {line}");
}

#[test]
fn a_lost_connection_is_logged_with_its_server_error_delay_and_attempt() {
    let server = Server::bind();
    let mut program = start(DOUBLING, [server.address()]);
    server.accept().close();
    let line = program.wait_for_log("Connection lost to");
    let expected = format!("{}: closed by the server; attempt 1 in 10ms", server.address());
    assert!(line.ends_with(&expected), "{line}");
    let peer = server.accept();
    program.wait_for_log("Connected successfully to");
    program.wait_for_log("Connected successfully to");
    peer.reset();
    let line = program.wait_for_log("Connection lost to");
    let address = server.address().to_string();
    assert!(line.contains(&address) && line.ends_with("; attempt 2 in 20ms"), "{line}");
    assert!(line.contains("reset"), "{line}");
}

#[test]
fn accepting_and_closing_at_once_does_not_reset_the_back_off() {
    let server = Server::bind();
    let mut program = start(DOUBLING, [server.address()]);
    for delay in [10, 20, 40, 80, 80] {
        let mut peer = server.accept();
        peer.send("6\n");
        peer.close();
        assert_eq!(delay_ms(&program.wait_for_log("Connection lost to")), delay);
        assert_eq!(program.next_line().as_deref(), Some("6"));
    }
}

#[test]
fn a_connection_that_lasts_for_the_reset_threshold_resets_the_back_off() {
    let down = Down::new();
    let mut program = start(&format!("{DOUBLING} --reset-backoff-threshold 30ms"), [down.address]);
    for delay in [10, 20, 40] {
        assert_eq!(delay_ms(&program.wait_for_log("Connection refused by")), delay);
    }
    let server = down.up();
    let mut peer = server.accept();
    program.wait_for_log("Connected successfully to");
    // A received byte ends the outage, but only time resets the back-off.
    peer.send("\n");
    // The time itself is tested. A longer wait changes nothing.
    thread::sleep(Duration::from_millis(40));
    peer.close();
    assert_eq!(delay_ms(&program.wait_for_log("Connection lost to")), 10);
}

#[test]
fn with_a_reset_threshold_of_zero_every_connection_resets_the_back_off() {
    let server = Server::bind();
    let mut program =
        start(&format!("{DOUBLING} --reset-backoff-threshold 0s"), [server.address()]);
    for _ in 0..3 {
        server.accept().close();
        assert_eq!(delay_ms(&program.wait_for_log("Connection lost to")), 10);
    }
}

#[test]
fn give_up_after_applies_to_each_server_and_the_last_one_ends_the_program_with_status_1() {
    let (down, server) = (Down::new(), Server::bind());
    let flags = "--initial-backoff 5ms --max-backoff 10ms --give-up-after 400ms";
    let mut program = start(flags, [down.address, server.address()]);
    let mut peer = server.accept();
    let line = program.wait_for_log("Gave up on");
    assert!(line.contains(" ERROR") && line.contains(&down.to_string()), "{line}");
    assert!(line.ends_with(": connection refused"), "{line}");
    // There is no further attempt, even when the server is up.
    let late = down.up();
    peer.send("6\n");
    assert_eq!(program.next_line().as_deref(), Some("6"));
    let address = server.close();
    peer.close();
    program.wait_for_log(&format!("Gave up on {address}"));
    assert_eq!(program.wait_exit().code(), Some(1));
    assert!(late.accept_within(Duration::ZERO).is_none());
}

#[test]
fn repeated_failures_are_logged_with_growing_gaps_and_a_reconnect_logs_their_number() {
    let down = Down::new();
    let mut program = start(&format!("-p 1 {AT_ONCE}"), [down.address]);
    let mut attempts = Vec::new();
    while attempts.last().is_none_or(|&last| last < 200) {
        let line = program.wait_for_log("Connection refused by");
        let attempt = line.rsplit_once("attempt ").unwrap().1.split_once(' ').unwrap().0;
        attempts.push(attempt.parse::<u64>().unwrap());
    }
    assert_eq!(attempts[..3], [1, 2, 3], "the first ones are all logged");
    let gaps: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.is_sorted(), "{attempts:?}");
    assert!(gaps.last() > Some(&50), "{attempts:?}");
    let tries = program.log().iter().filter(|line| line.contains("Trying to connect to")).count();
    assert!(tries <= attempts.len() + 1, "{tries} attempts and {} failures", attempts.len());

    let server = down.up();
    let _peer = server.accept();
    let line = program.wait_for_log("Connected successfully to");
    let (failures, span) = line
        .rsplit_once(" after ")
        .and_then(|(_, rest)| rest.split_once(" failures in "))
        .unwrap_or_else(|| panic!("{line}"));
    assert!(failures.parse::<u64>().unwrap() >= 200, "{line}");
    assert!(span.ends_with('s'), "{line}");
}

#[test]
fn localhost_reaches_a_server_that_listens_on_ipv4_only() {
    let server = Server::bind();
    let name = format!("localhost:{}", server.port());
    let mut program = start("", [&name]);
    let mut peer = server.accept();
    peer.send("6\n");
    program.wait_for_log(&format!("Trying to connect to {name}"));
    program.wait_for_log(&format!("Connected successfully to {name}"));
    assert_eq!(program.next_line().as_deref(), Some("6"));
    assert_eq!(stop(&mut program).get("failures"), 0, "all addresses belong to one attempt");
}

#[test]
fn an_ipv6_address_is_logged_in_brackets() {
    let loopback = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    if TcpListener::bind(loopback).is_err() {
        return skip("there is no IPv6 on loopback");
    }
    let server = Server::bind_at(loopback);
    let mut program = start("", [server.address()]);
    let mut peer = server.accept();
    program.wait_for_log(&format!("Connected successfully to [::1]:{}", server.port()));
    peer.send("6\n");
    assert_eq!(program.next_line().as_deref(), Some("6"));
}

#[test]
fn a_name_that_does_not_resolve_is_retried_like_any_other_failure() {
    let server = Server::bind();
    // The timeout is for systems whose name server does not answer.
    let flags = format!("-p 1 --connect-timeout 2s {DOUBLING}");
    let mut program = start(&flags, ["name.invalid:1".into(), server.address().to_string()]);
    let mut peer = server.accept();
    for (attempt, delay) in (1..).zip([10, 20, 40]) {
        let line = program.wait_for_log("Could not connect to name.invalid:1: name not resolved: ");
        assert!(line.ends_with(&format!("; attempt {attempt} in {delay}ms")), "{line}");
        peer.send("6\n");
        assert_eq!(program.next_line().as_deref(), Some("6"), "the other goes on");
    }
}

/// Returns a command that runs the shell script `setup` and then the program, in network and mount
/// namespaces. Returns `None` where an ordinary user may not create them.
#[cfg(target_os = "linux")]
pub(crate) fn isolated(setup: &str, flags: &str, server: &str) -> Option<std::process::Command> {
    in_namespaces(&["--net", "--mount"], setup, flags, server)
}

/// Does the same with namespaces of these kinds only.
#[cfg(target_os = "linux")]
pub(crate) fn in_namespaces(
    kinds: &[&str],
    setup: &str,
    flags: &str,
    server: &str,
) -> Option<std::process::Command> {
    let shell = |script: &str| {
        let mut command = Program::command("unshare");
        command.arg("--map-root-user").args(kinds).args(["sh", "-ec", script, "sh"]);
        command
    };
    let works = shell(&format!("{setup}\n:")).output().is_ok_and(|output| output.status.success());
    works.then(|| {
        let mut command = shell(&format!("{setup}\nexec \"$@\""));
        command.arg(env!("CARGO_BIN_EXE_tcpcore")).args(flags.split_whitespace()).arg(server);
        command
    })
}

#[test]
#[cfg(target_os = "linux")]
fn connecting_to_itself_is_a_failed_attempt() {
    // With only one port to choose from, the socket's own port is the one that it connects to.
    let setup = "ip link set lo up; echo 40000 40000 > /proc/sys/net/ipv4/ip_local_port_range";
    let Some(mut command) = isolated(setup, DOUBLING, "127.0.0.1:40000") else {
        return skip("cannot create a network namespace");
    };
    let mut program = Program::spawn(&mut command);
    // It can happen again at once, since the port stays free, also for the server.
    for (attempt, delay) in (1..).zip([10, 20, 40]) {
        let line = program.wait_for_log("Could not connect to 127.0.0.1:40000: ");
        let expected = format!("itself; attempt {attempt} in {delay}ms");
        assert!(line.ends_with(&expected), "{line}");
    }
    assert!(!program.log().iter().any(|line| line.contains("Connected successfully")));
}

#[test]
#[cfg(target_os = "linux")]
fn an_unreachable_server_is_a_failed_attempt() {
    // In a new network namespace no interface is up.
    let Some(mut command) = isolated("", DOUBLING, "192.0.2.1:40000") else {
        return skip("cannot create a network namespace");
    };
    let mut program = Program::spawn(&mut command);
    for attempt in 1..=3 {
        let line = program.wait_for_log("Could not connect to 192.0.2.1:40000: ");
        let has_reason = line.contains("unreachable; ") || line.contains("unreachable (");
        assert!(has_reason && line.contains(&format!("; attempt {attempt} in")), "{line}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn all_addresses_of_a_name_are_tried_in_an_attempt_and_names_are_resolved_for_every_attempt() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let hosts = folder.join(format!("hosts-{}", std::process::id()));
    std::fs::write(&hosts, "127.0.0.9 feed\n127.0.0.8 feed\n").unwrap();
    let mount = format!("mount --bind '{}' /etc/hosts", hosts.display());
    // Not every system's resolver reads this file first.
    let setup = format!("ip link set lo up; {mount}; getent hosts feed");
    let Some(mut command) = isolated(&setup, &format!("-v {DOUBLING}"), "feed:40000") else {
        return skip("cannot mount a hosts file");
    };
    let mut program = Program::spawn(&mut command);
    let mut dialed = [(); 2].map(|()| program.wait_for_log("Dialing feed:40000 at "));
    dialed.sort_by_key(|line| line.rsplit_once(' ').unwrap().1.to_owned());
    assert!(dialed[0].ends_with("127.0.0.8:40000"), "{dialed:?}");
    assert!(dialed[1].ends_with("127.0.0.9:40000"), "{dialed:?}");
    program.wait_for_log("Connection refused by feed:40000; attempt 1 in");
    let failed = |line: &&String| line.contains("; attempt ");
    assert_eq!(program.log().iter().filter(failed).count(), 1, "two addresses, one attempt");
    // The file is overwritten in place, as this very file is mounted.
    std::fs::write(&hosts, "127.0.0.7 feed\n").unwrap();
    program.wait_for_log("Dialing feed:40000 at 127.0.0.7:40000");
    std::fs::remove_file(hosts).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn an_unanswered_attempt_times_out_and_delays_no_other_server() {
    use socket2::{Domain, Socket, Type};
    use std::net::TcpStream;

    // The kernel drops packets while the queue of connections to accept is full.
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    silent.listen(0).unwrap();
    let address = silent.local_addr().unwrap().as_socket().unwrap();
    let _queued = TcpStream::connect(address).unwrap();

    let server = Server::bind();
    let flags = format!("-p 1 --connect-timeout 100ms {DOUBLING}");
    let mut program = start(&flags, [address, server.address()]);
    let mut peer = server.accept();
    program.wait_for_log(&format!("Trying to connect to {address}"));
    peer.send("6\n");
    assert_eq!(program.next_line().as_deref(), Some("6"));
    for attempt in 1..=2 {
        let line = program.wait_for_log(&format!("Could not connect to {address}: no answer"));
        assert!(line.contains(&format!("attempt {attempt} in")), "{line}");
    }
}

#[test]
fn an_idle_timeout_ends_a_silent_connection_and_reconnects() {
    let server = Server::bind();
    let mut program = start(&format!("--idle-timeout 50ms {DOUBLING}"), [server.address()]);
    server.accept().wait_closed();
    let line = program.wait_for_log(&format!("Connection lost to {}: ", server.address()));
    assert!(line.contains("idle timeout"), "{line}");
    server.accept().wait_closed();
}

#[test]
#[cfg(target_os = "linux")]
fn keepalive_is_set_on_every_connection() {
    let servers = [Server::bind(), Server::bind()];
    let mut program = start("", crate::addresses(&servers));
    for server in &servers {
        let mut peer = server.accept();
        peer.send("6\n");
        program.next_line();
        let client = peer.stream().peer_addr().unwrap();
        // Columns: number, local and remote address, state, queues, timer:when, ... A timer of kind 2 is
        // keepalive. Its time is in hundredths of a second.
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let local = format!("0100007F:{:04X}", client.port());
        let remote = format!("0100007F:{:04X}", server.port());
        let timer = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|columns| columns[1..3] == [local.as_str(), remote.as_str()])
            .map(|columns| columns[5].to_owned())
            .expect("the connection is in the kernel's table");
        let (kind, when) = timer.split_once(':').unwrap();
        assert_eq!(kind, "02", "{timer}");
        assert!(u64::from_str_radix(when, 16).unwrap() <= 2000, "{timer}");
    }
}

#[test]
fn more_servers_than_the_soft_limit_of_descriptors_are_connected() {
    const SERVERS: u32 = 24;
    let server = Server::bind();
    let mut command = Program::command("sh");
    command.args(["-c", "ulimit -S -n 20; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_tcpcore")]);
    command.args(["-p", "1"]).args((0..SERVERS).map(|_| server.address().to_string()));
    let mut program = Program::spawn(&mut command);
    let _peers: Vec<_> = (0..SERVERS).map(|_| server.accept()).collect();
    program.wait_for_log("Initialized sockets and readers for task index 0");
    assert!(!program.log().iter().any(|line| line.contains("Too many open files")));
}

#[test]
fn all_servers_that_share_a_name_get_its_answer_at_once() {
    const SERVERS: usize = 200;
    // A failure without a socket causes no event, so nothing else wakes the worker meanwhile.
    let flags = "-p 1 --once --connect-timeout 1h";
    let mut program = start(flags, ["name.invalid:1"; SERVERS]);
    program.wait_for_log("Could not connect to name.invalid:1: name not resolved");
    assert_eq!(program.wait_exit().code(), Some(1));
    assert_eq!(Totals::of(&program).get("failures"), SERVERS as u64);
}

#[test]
fn without_descriptors_attempts_fail_and_later_retries_succeed() {
    const SERVERS: u32 = 24;
    let servers: Vec<_> = (0..SERVERS).map(|_| Server::bind()).collect();
    let mut command = Program::command("sh");
    command.args(["-c", "ulimit -n 20; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_tcpcore")]);
    command.args("-p 1 --initial-backoff 10ms --max-backoff 20ms".split(' '));
    command.args(servers.iter().map(|server| server.address().to_string()));
    let mut program = Program::spawn(&mut command);
    let last = servers[servers.len() - 1].address();
    let mut first_peer = servers[0].accept();
    for _ in 0..3 {
        program.wait_for_log(&format!("Could not connect to {last}: Too many open files"));
        first_peer.send("6\n");
        assert_eq!(program.next_line().as_deref(), Some("6"), "others go on");
    }
    // From here on each server closes after its first number, which frees a descriptor for another.
    first_peer.close();
    thread::scope(|scope| {
        for (number, server) in (1..).zip(servers) {
            scope.spawn(move || {
                if number > 1 {
                    server.accept().send(format!("{}\n", number * 6));
                }
            });
        }
        let mut printed: Vec<u32> =
            (1..SERVERS).map(|_| program.next_line().unwrap().parse().unwrap()).collect();
        printed.sort_unstable();
        assert!(printed.into_iter().eq((2..=SERVERS).map(|number| number * 6)));
    });
    stop(&mut program);
}
