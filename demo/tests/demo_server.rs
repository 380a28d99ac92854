//! Tests `demo-server` from outside: the real program on free ports, with clients of these tests.
#![cfg(unix)]

#[path = "../../tests/common/mod.rs"]
mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{DEADLINE, Program};
use socket2::{Domain, SockAddr, Socket, Type};

/// Numbers that the server prepares, and repeats, for a client without pauses.
const BATCH_LINES: usize = 65536;

#[test]
fn sends_numbers_from_1_to_666_one_per_line() {
    let server = DemoServer::start(["--seed", "1", "--interval", "0", "0"]);
    let numbers = server.connect().numbers(20_000);
    assert_eq!(numbers.iter().min(), Some(&1));
    assert_eq!(numbers.iter().max(), Some(&666));
}

#[test]
fn the_first_number_comes_at_once_and_the_next_after_the_interval() {
    let server = DemoServer::start(["--interval", "100ms", "0"]);
    let started = Instant::now();
    let mut client = server.connect();
    client.numbers(4);
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());

    let server = DemoServer::start(["--interval", "1d", "0"]);
    server.connect().numbers(1);
}

#[test]
fn the_interval_is_a_second_by_default() {
    let server = DemoServer::start(["0"]);
    let started = Instant::now();
    server.connect().numbers(2);
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
}

#[test]
fn the_same_seed_gives_the_nth_client_of_a_port_the_same_numbers_at_any_interval() {
    let clients = |args: [&str; 5]| {
        let server = DemoServer::start(args);
        [server.connect().numbers(50), server.connect().numbers(50)]
    };
    let slow = clients(["--seed", "7", "--interval", "1ms", "0"]);
    let again = clients(["--seed", "7", "--interval", "0", "0"]);
    let other = clients(["--seed", "8", "--interval", "0", "0"]);
    assert_eq!(slow, again);
    assert_ne!(slow[0], slow[1], "clients differ");
    assert_ne!(slow[0], other[0], "seeds differ");
}

#[test]
fn a_random_seed_is_logged_and_repeats_the_numbers() {
    let mut server = DemoServer::start(["--interval", "0", "0"]);
    let numbers = server.connect().numbers(50);
    let log = server.program.wait_for_log("--seed ");
    let seed = log.split("--seed ").nth(1).unwrap().split_whitespace().next().unwrap();
    let again = DemoServer::start(["--interval", "0", "--seed", seed, "0"]);
    assert_eq!(again.connect().numbers(50), numbers);
}

#[test]
fn each_port_listens_and_counts_its_own_seed() {
    let mut command = demo_server(["--seed", "7", "--interval", "0", "0", "0"]);
    let mut both = Program::spawn(&mut command);
    let [first, second] = [wait_for_address(&mut both), wait_for_address(&mut both)];
    let alone = DemoServer::start(["--seed", "8", "--interval", "0", "0"]);
    let numbers = Client::connect(second).numbers(50);
    assert_ne!(Client::connect(first).numbers(50), numbers);
    assert_eq!(alone.connect().numbers(50), numbers);
}

#[test]
fn closes_after_count_lines_and_serves_the_next_client() {
    let mut server = DemoServer::start(["--interval", "1ms", "--count", "5", "0"]);
    for _ in 0..2 {
        let mut client = server.connect();
        client.numbers(5);
        assert_eq!(client.rest(), b"");
        server.program.wait_for_log(&format!("Accepted a connection from {}", client.address()));
        let closed = format!("Closed the connection to {}, numbers sent: 5", client.address());
        server.program.wait_for_log(&closed);
    }
}

#[test]
fn without_pauses_a_count_is_kept_across_batches_and_the_batch_repeats() {
    for count in [1, BATCH_LINES - 1, BATCH_LINES, BATCH_LINES + 1, 2 * BATCH_LINES + 5] {
        let server = DemoServer::start(["--interval", "0", "--count", &count.to_string(), "0"]);
        let mut client = server.connect();
        let numbers = client.numbers(count);
        assert_eq!(client.rest(), b"", "{count}");
        let repeats =
            numbers.iter().skip(BATCH_LINES).zip(&numbers).all(|(late, early)| late == early);
        assert!(repeats, "{count}");
    }
}

#[test]
fn serves_several_clients_at_a_time() {
    let server = DemoServer::start(["--interval", "1ms", "0"]);
    let (mut one, mut two) = (server.connect(), server.connect());
    for _ in 0..20 {
        one.numbers(1);
        two.numbers(1);
    }
}

#[test]
fn a_disconnect_is_detected_without_a_write_and_the_next_client_is_served() {
    let mut server = DemoServer::start(["--interval", "1d", "0"]);
    let mut gone = server.connect();
    gone.numbers(1);
    let address = gone.address();
    drop(gone);
    server.program.wait_for_log(&format!("Connection closed by {address}, numbers sent: 1"));
    server.connect().numbers(1);
}

#[test]
fn a_disconnect_is_detected_between_writes_without_pauses() {
    let mut server = DemoServer::start(["--interval", "0", "0"]);
    let mut gone = server.connect();
    gone.numbers(1);
    let address = gone.address();
    drop(gone);
    server.program.wait_for_log(&format!("Lost the connection to {address}"));
}

#[test]
fn bytes_from_a_client_neither_end_nor_speed_up_its_numbers() {
    let server = DemoServer::start(["--interval", "50ms", "0"]);
    let started = Instant::now();
    let mut client = server.connect();
    for _ in 0..4 {
        client.stream.get_mut().write_all(&[b'x'; 5000]).unwrap();
        client.numbers(1);
    }
    assert!(started.elapsed() >= Duration::from_millis(150), "{:?}", started.elapsed());
}

#[test]
fn after_a_kill_it_starts_again_on_the_same_port_at_once() {
    let server = DemoServer::start(["--interval", "1d", "0"]);
    let address = server.address;
    let mut client = server.connect();
    client.numbers(1);
    server.program.kill();
    // The client has not closed its end, so the dead server's half of the connection still exists. It
    // blocks the port for sockets without SO_REUSEADDR.
    let plain = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let blocked = plain.bind(&SockAddr::from(address)).unwrap_err();
    assert_eq!(blocked.kind(), io::ErrorKind::AddrInUse);

    let port = address.port().to_string();
    let again = DemoServer::start(["--interval", "1d", &port]);
    assert_eq!(again.address, address);
    again.connect().numbers(1);
    assert_eq!(client.rest(), b"", "the old connection is over");
}

#[test]
fn listens_on_an_ipv6_address() {
    if TcpListener::bind("[::1]:0").is_err() {
        return; // There is no IPv6 here.
    }
    let server = DemoServer::start(["--listen", "::1", "--interval", "0", "0"]);
    assert!(server.address.is_ipv6());
    server.connect().numbers(1);
}

#[test]
fn split_lines_arrive_in_pieces_and_lose_nothing() {
    let lines_in_pieces = |modes: &[&str]| {
        let args = ["--seed", "7", "--interval", "1ms", "--count", "100"];
        let server = DemoServer::start(args.iter().chain(modes).chain(&["0"]));
        let (mut received, mut pieces) = (Vec::new(), 0);
        let mut stream = server.connect().stream.into_inner();
        let mut chunk = [0; 4096];
        loop {
            let length = stream.read(&mut chunk).unwrap();
            if length == 0 {
                return (received, pieces);
            }
            received.extend_from_slice(&chunk[..length]);
            pieces += usize::from(!received.ends_with(b"\n"));
        }
    };
    let (whole, pieces) = lines_in_pieces(&[]);
    assert_eq!(pieces, 0, "a good server never stops in the middle of a line");
    let started = Instant::now();
    let (split, pieces) = lines_in_pieces(&["--misbehave", "split"]);
    assert!(pieces > 0);
    let pauses = Duration::from_millis(split.len().try_into().unwrap());
    assert!(started.elapsed() >= pauses, "a millisecond follows each byte");
    assert_eq!(split, whole);
}

#[test]
fn split_without_pauses_sends_the_same_bytes() {
    let received = |modes: &[&str]| {
        let args = ["--seed", "7", "--interval", "0", "--count", "5000"];
        DemoServer::start(args.iter().chain(modes).chain(&["0"])).connect().rest()
    };
    assert_eq!(received(&["--misbehave", "split"]), received(&[]));
}

#[test]
fn junk_follows_each_number_and_is_never_a_number() {
    let clean = DemoServer::start(["--seed", "7", "--interval", "0", "--count", "40", "0"]);
    let numbers = clean.connect().numbers(40);
    for interval in ["0", "1ms"] {
        let args =
            ["--seed", "7", "--interval", interval, "--count", "40", "--misbehave", "junk", "0"];
        let server = DemoServer::start(args);
        let received = server.connect().rest();
        let lines: Vec<&[u8]> =
            received.strip_suffix(b"\n").unwrap().split(|b| *b == b'\n').collect();
        assert_eq!(lines.len(), 80);
        for (pair, number) in lines.chunks(2).zip(&numbers) {
            assert_eq!(pair[0], number.to_string().as_bytes());
            let junk = String::from_utf8_lossy(pair[1]);
            assert!(junk.trim().parse::<i64>().is_err(), "{junk:?}");
        }
    }
}

#[test]
fn cut_closes_in_the_middle_of_a_line() {
    for (count, lines) in [(None, 10), (Some("3"), 3)] {
        let mut args = vec!["--seed", "7", "--interval", "1ms", "--misbehave", "cut"];
        args.extend(count.iter().flat_map(|count| ["--count", count]));
        let server = DemoServer::start(args.iter().chain(&["0"]));
        for _ in 0..2 {
            let mut client = server.connect();
            client.numbers(lines);
            let tail = String::from_utf8(client.rest()).unwrap();
            assert!(tail.parse::<u16>().is_ok_and(|number| number <= 666), "{tail:?}");
        }
    }
}

#[test]
fn endless_sends_a_line_without_an_end() {
    for interval in ["0", "1ms"] {
        let server = DemoServer::start(["--interval", interval, "--misbehave", "endless", "0"]);
        let mut client = server.connect();
        client.numbers(10);
        let mut line = vec![0; 1_000_000];
        client.stream.read_exact(&mut line).unwrap();
        assert!(line.iter().all(u8::is_ascii_digit));
    }
}

#[test]
fn hangup_accepts_and_closes_at_once() {
    let server = DemoServer::start(["--misbehave", "hangup", "0"]);
    for _ in 0..3 {
        assert_eq!(server.connect().rest(), b"");
    }
}

#[test]
fn silence_accepts_and_never_sends() {
    let mut server = DemoServer::start(["--interval", "0", "--misbehave", "silence", "0"]);
    let mut client = server.connect();
    let address = client.address();
    server.program.wait_for_log(&format!("Accepted a connection from {address}"));
    // Silence cannot be observed directly. The test shows that nothing had arrived by the end.
    client.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    server.program.wait_for_log(&format!("Connection closed by {address}, numbers sent: 0"));
    assert_eq!(client.rest(), b"");
}

#[test]
fn modes_of_several_flags_and_lists_are_combined() {
    let args =
        ["--interval", "1ms", "--misbehave", "split,junk", "--misbehave", "cut", "--count", "2"];
    let server = DemoServer::start(args.iter().chain(&["0"]));
    let received = server.connect().rest();
    let newlines = received.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(newlines, 4, "two numbers, each with its junk");
    assert!(!received.ends_with(b"\n"));
}

#[test]
fn lines_of_a_file_come_byte_for_byte_and_again_to_every_client() {
    // The carriage return, the empty line and the bytes that are not UTF-8 must stay, and a newline must
    // end the file.
    let file = TemporaryFile::new("lines", b"first\r\n\n\xff\x00 third\nlast");
    let expected = b"first\r\n\n\xff\x00 third\nlast\nfirst\r\n\n\xff\x00 third\nlast\nfirst\r\n";
    for interval in ["0", "1ms"] {
        let mut server = DemoServer::start([
            "--feed",
            "lines",
            file.path(),
            "--interval",
            interval,
            "--count",
            "9",
            "0",
        ]);
        for _ in 0..2 {
            let mut client = server.connect();
            assert_eq!(client.rest(), expected, "--interval {interval}");
            let closed = format!("Closed the connection to {}, lines sent: 9", client.address());
            server.program.wait_for_log(&closed);
        }
    }
}

#[test]
fn a_file_is_read_at_the_start_only() {
    let file = TemporaryFile::new("read-at-start", b"old\n");
    let server = DemoServer::start([
        "--feed",
        "lines",
        file.path(),
        "--interval",
        "1ms",
        "--count",
        "2",
        "0",
    ]);
    fs::write(&file.0, "new\n").unwrap();
    assert_eq!(server.connect().rest(), b"old\nold\n");
}

#[test]
fn without_pauses_a_file_keeps_its_order_across_writes() {
    let lines: Vec<String> = (0..50_000).map(|number| format!("line {number}\n")).collect();
    let file = TemporaryFile::new("order", lines.concat().as_bytes());
    let server = DemoServer::start([
        "--feed",
        "lines",
        file.path(),
        "--interval",
        "0",
        "--count",
        "120000",
        "0",
    ]);
    let received = server.connect().rest();
    let expected: String = lines.iter().map(String::as_str).cycle().take(120_000).collect();
    assert!(received == expected.as_bytes(), "{} bytes", received.len());
}

#[test]
fn nmea_sentences_have_checksums_and_times_that_advance() {
    for interval in ["0", "1ms"] {
        let server =
            DemoServer::start(["--feed", "nmea", "--interval", interval, "--count", "400", "0"]);
        let received = String::from_utf8(server.connect().rest()).unwrap();
        let mut times = Vec::new();
        for line in received.split_inclusive('\n') {
            let framed = line.strip_prefix('$').unwrap().strip_suffix("\r\n").unwrap();
            let (body, checksum) = framed.split_once('*').unwrap();
            let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
            assert_eq!(checksum, format!("{sum:02X}"), "{line:?}");
            let fields: Vec<&str> = body.split(',').collect();
            if fields[0] == "GPRMC" {
                let (date, time) = (fields[9], fields[1]);
                times.push(format!("{}{}{}{time}", &date[4..], &date[2..4], &date[..2]));
            }
        }
        assert_eq!(times.len(), 100, "one of four sentences");
        assert!(times.is_sorted_by(|one, next| one < next), "{times:?}");
    }
}

#[test]
fn sbs_messages_have_22_fields_and_come_from_several_aircraft() {
    for interval in ["0", "1ms"] {
        let server =
            DemoServer::start(["--feed", "sbs", "--interval", interval, "--count", "400", "0"]);
        let received = String::from_utf8(server.connect().rest()).unwrap();
        let messages: Vec<Vec<&str>> = received
            .split_inclusive('\n')
            .map(|line| line.strip_suffix("\r\n").unwrap().split(',').collect())
            .collect();
        assert_eq!(messages.len(), 400);
        assert!(messages.iter().all(|fields| fields.len() == 22 && fields[0] == "MSG"));
        let different = |index: usize| {
            let mut values: Vec<&str> = messages.iter().map(|fields| fields[index]).collect();
            values.sort_unstable();
            values.dedup();
            values
        };
        assert_eq!(different(1), ["1", "3", "4", "5", "6", "7", "8"]);
        assert_eq!(different(4).len(), 8, "{:?}", different(4));
    }
}

#[test]
fn a_port_has_the_same_ship_for_all_clients_in_every_run_and_another_port_another() {
    for feed in ["nmea", "sbs"] {
        let args = ["--feed", feed, "--interval", "0", "--count", "200"];
        let mut command = demo_server(args.iter().chain(&["0", "0"]));
        let mut both = Program::spawn(&mut command);
        let [first, second] = [wait_for_address(&mut both), wait_for_address(&mut both)];
        let voyage = Client::connect(first).rest();
        assert_eq!(Client::connect(first).rest(), voyage, "{feed}: clients of a port");
        let other_voyage = Client::connect(second).rest();
        assert_ne!(other_voyage, voyage, "{feed}: ports");
        both.kill();

        // The same port has the same ship, also in second place. 1 is the default seed.
        let ports = [second.port().to_string(), first.port().to_string()];
        for (seed, is_same) in [("1", true), ("2", false)] {
            let own = ["--seed", seed, &ports[0], &ports[1]];
            let mut again = Program::spawn(&mut demo_server(args.iter().chain(&own)));
            assert_eq!(wait_for_address(&mut again), second);
            assert_eq!(wait_for_address(&mut again), first);
            let rest_of = |address| Client::connect(address).rest();
            assert_eq!(rest_of(first) == voyage, is_same, "{feed}: seed {seed}");
            assert_eq!(rest_of(second) == other_voyage, is_same, "{feed}: seed {seed}");
            again.kill();
        }
    }
}

#[test]
fn every_feed_has_junk_and_half_lines_on_request() {
    let file = TemporaryFile::new("misbehave", b"one\ntwo\n");
    for feed in [&["lines", file.path()][..], &["numbers"], &["nmea"], &["sbs"]] {
        let args = ["--interval", "1ms", "--count", "3", "--misbehave", "junk,cut", "--feed"];
        let server = DemoServer::start(args.iter().chain(feed).chain(&["0"]));
        let received = server.connect().rest();
        let lines: Vec<&[u8]> = received.split(|byte| *byte == b'\n').collect();
        assert_eq!(lines.len(), 7, "{feed:?}: three lines, each with its junk, and a half");
        assert_eq!([lines[1], lines[3], lines[5]], [&b"junk"[..], b"12x", b"6 6"], "{feed:?}");
        assert!(!lines[6].is_empty() && !lines[6].ends_with(b"\r"), "{feed:?}");
    }
}

#[test]
fn each_bad_usage_is_one_line_that_names_the_argument_with_status_2() {
    let cases: &[(&[&str], &str)] = &[
        (&[], "PORT takes a number from 0 to 65535, and none is given"),
        (&["65536"], "PORT takes a number from 0 to 65535, not '65536'"),
        (&["8001", "localhost"], "PORT takes a number from 0 to 65535, not 'localhost'"),
        (&["a\nb"], "PORT takes a number from 0 to 65535, not 'a\\nb'"),
        (&["--feed", "ais", "0"], "--feed takes numbers, lines FILE, nmea or sbs, not 'ais'"),
        (&["--feed=", "0"], "--feed takes numbers, lines FILE, nmea or sbs, not ''"),
        (&["0", "--feed"], "--feed takes numbers, lines FILE, nmea or sbs, and none is given"),
        (&["0", "--feed", "lines"], "--feed lines takes a readable file of at least one byte"),
        (&["--feed", "lines", "0"], "at most 1 GiB, not '0': No such file"),
        (&["--feed", "lines", "/", "0"], "at most 1 GiB, not '/': Is a directory"),
        (&["--feed", "lines", "/dev/null", "0"], "at most 1 GiB, not '/dev/null': it is empty"),
        (&["--feed", "lines", "/etc/passwd"], "PORT takes a number from 0 to 65535, and none"),
        (
            &["--seed", "1", "--feed", "lines", "/etc/passwd", "0"],
            "--seed does not go with --feed lines",
        ),
        (&["--interval", "1", "0"], "--interval takes a duration such as 250ms, 1s or 3m"),
        (&["--interval=-1s", "0"], "--interval takes a duration"),
        (&["--interval=86401s", "0"], "--interval takes a duration"),
        (&["0", "--interval"], "--interval takes a duration"),
        (&["--count", "0", "0"], "--count takes a whole number from 1 "),
        (&["--count", "18446744073709551616", "0"], "--count takes a whole number from 1 "),
        (&["0", "--count"], "--count takes a whole number from 1 "),
        (&["--seed", "x", "0"], "--seed takes a whole number from 0 "),
        (&["0", "--seed"], "--seed takes a whole number from 0 "),
        (&["--listen", "localhost", "0"], "--listen takes an IP address"),
        (&["--misbehave", "nicely", "0"], "--misbehave takes split, junk and at most one of cut"),
        (&["--misbehave", "cut,", "0"], "--misbehave takes split, junk"),
        (&["--misbehave", "cut", "--misbehave", "hangup", "0"], "--misbehave takes split, junk"),
        (&["0", "--misbehave"], "--misbehave takes split, junk"),
        (&["--loud", "0"], "'--loud'; --help lists the options"),
        (&["-x", "0"], "'-x'; --help lists the options"),
    ];
    for (args, expected) in cases {
        let mut program = Program::spawn(&mut demo_server(*args));
        let status = program.wait_exit();
        assert_eq!(status.code(), Some(2), "{args:?}");
        let [line] = program.log() else { panic!("{args:?}: {:?}", program.log()) };
        assert!(line.starts_with("demo-server: ") && line.contains(expected), "{args:?}: {line}");
        assert_eq!(program.next_line(), None, "{args:?}");
    }
}

#[test]
fn a_port_in_use_is_named_with_status_1() {
    let taken = common::Server::bind();
    let mut program = Program::spawn(&mut demo_server(["0", &taken.port().to_string()]));
    assert_eq!(program.wait_exit().code(), Some(1));
    program.wait_for_log(&format!("demo-server: cannot listen on {}: ", taken.address()));
}

#[test]
fn help_names_every_option_on_stdout_and_fits_100_columns() {
    for flag in ["-h", "--help"] {
        let mut program = Program::spawn(&mut demo_server([flag]));
        assert_eq!(program.wait_exit().code(), Some(0));
        assert_eq!(program.log(), [""; 0]);
        let help = program.remaining_lines();
        assert!(help.iter().all(|line| line.len() <= 100));
        let options =
            ["--feed", "--listen", "--interval", "--count", "--seed", "--misbehave", "--help"];
        for option in options {
            assert!(help.iter().any(|line| line.contains(option)), "{option}");
        }
    }
}

#[test]
fn a_log_line_carries_milliseconds() {
    let mut server = DemoServer::start(["0"]);
    let line = server.program.wait_for_log("Opening the server on port 0");
    let (time, _) = line.split_once('Z').unwrap();
    let (_, fraction) = time.split_once('.').unwrap();
    assert_eq!(fraction.len(), 3, "{line}");
}

/// A running `demo-server`, with the address of its first port.
struct DemoServer {
    program: Program,
    address: SocketAddr,
}

impl DemoServer {
    fn start<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> DemoServer {
        let mut program = Program::spawn(&mut demo_server(args));
        let address = wait_for_address(&mut program);
        DemoServer { program, address }
    }

    fn connect(&self) -> Client {
        Client::connect(self.address)
    }
}

fn demo_server<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Program::command(env!("CARGO_BIN_EXE_demo-server"));
    command.args(args);
    command
}

/// Returns the address of the next "Listening on" in the log.
fn wait_for_address(program: &mut Program) -> SocketAddr {
    let line = program.wait_for_log("Listening on ");
    let (_, address) = line.split_once("Listening on ").expect("it was waited for");
    let address: SocketAddr = address.parse().expect("the log gives the address alone");
    assert_ne!(address.port(), 0);
    address
}

/// A file that is removed on drop.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(name: &str, bytes: &[u8]) -> TemporaryFile {
        let name = format!("demo-server-{}-{name}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, bytes).unwrap();
        TemporaryFile(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    /// Returns the address that the server sees.
    fn address(&self) -> SocketAddr {
        self.stream.get_ref().local_addr().unwrap()
    }

    /// Reads `count` lines, and asserts that each is a number as the server writes it.
    fn numbers(&mut self, count: usize) -> Vec<u16> {
        let mut line = String::new();
        let mut number = || {
            line.clear();
            self.stream.by_ref().take(100).read_line(&mut line).unwrap();
            let digits =
                line.strip_suffix('\n').unwrap_or_else(|| panic!("a truncated line: {line:?}"));
            let number: u16 = digits.parse().unwrap();
            assert!((1..=666).contains(&number), "{line:?}");
            assert_eq!(number.to_string(), digits);
            number
        };
        (0..count).map(|_| number()).collect()
    }

    /// Reads to the end of the connection, by a close or a reset, or up to 16 MiB.
    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.by_ref().take(1 << 24).read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error}"),
        }
        rest
    }
}
