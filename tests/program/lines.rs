//! Tests how lines become numbers.

use std::collections::VecDeque;
use std::thread;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::common::{Peer, Program, Server};
use crate::{AT_ONCE, Down, Totals, start, stop};

/// The output and the log of a program whose server sends some bytes and closes.
struct Outcome {
    printed: Vec<String>,
    totals: Totals,
    log: Vec<String>,
}

fn feed(flags: &str, send: impl FnOnce(&mut Peer)) -> Outcome {
    let server = Server::bind();
    let mut program = start(&format!("--once {flags}"), [server.address()]);
    let mut peer = server.accept();
    send(&mut peer);
    peer.close();
    let printed = program.remaining_lines();
    let status = program.wait_exit().code();
    let totals = Totals::of(&program);
    let (lines, bad) = (totals.get("lines"), totals.get("malformed") + totals.get("oversized"));
    // No line is fatal, but a feed with only bad lines is a failure.
    assert_eq!(status, Some(i32::from(lines > 0 && lines == bad)), "{lines} lines, {bad} bad");
    Outcome { printed, totals, log: program.log().to_vec() }
}

fn assert_printed(flags: &str, bytes: impl AsRef<[u8]>, expected: &[&str]) {
    assert_eq!(feed(flags, |peer| peer.send(&bytes)).printed, expected);
    let by_byte = |peer: &mut Peer| bytes.as_ref().iter().for_each(|byte| peer.send([*byte]));
    assert_eq!(feed(flags, by_byte).printed, expected, "byte by byte");
}

#[test]
fn multiples_of_6_are_printed_in_order_and_nothing_else() {
    assert_printed("", "5\n6\n7\n666\n665\n12\n6\n", &["6", "666", "12", "6"]);
}

#[test]
fn a_flag_sets_the_divisor() {
    assert_printed("-d 7", "6\n7\n14\n15\n-7\n", &["7", "14", "-7"]);
    assert_printed("--divisor 1", "6\n-7\n0\n", &["6", "-7", "0"]);
}

#[test]
fn one_carriage_return_before_the_newline_is_dropped_and_only_one() {
    let outcome = feed("", |peer| peer.send("6\r\n12\r\r\n\r18\n24\r\n"));
    assert_eq!(outcome.printed, ["6", "24"]);
    assert_eq!(outcome.totals.get("malformed"), 2);
}

#[test]
fn a_carriage_return_that_arrives_before_its_newline_is_dropped() {
    assert_printed("", "6\r\n12\r\n", &["6", "12"]);
}

#[test]
fn a_flag_sets_the_delimiter_and_a_carriage_return_is_dropped_before_a_line_feed_only() {
    assert_printed("--delimiter nul", b"6\n\x00 12\0-18\r\x0024\0", &["12", "24"]);
    assert_printed("--delimiter cr", "6\r12\r\n18\r\r24\r", &["6", "12", "24"]);
    let outcome = feed("--delimiter 0x3b", |peer| peer.send("6;;+12;18\r;\n24;1;30"));
    assert_eq!(outcome.printed, ["6", "12"]);
    let totals = ["lines", "malformed", "truncated"].map(|name| outcome.totals.get(name));
    assert_eq!(totals, [6, 2, 1]);
}

#[test]
fn a_byte_order_mark_at_the_start_of_a_connection_is_dropped() {
    assert_printed("", b"\xef\xbb\xbf6\n\xef\xbb\xbf12\n18\n", &["6", "18"]);
    assert_printed("", b"\xef\xbb6\n12\n", &["12"]);
}

#[test]
fn a_flag_keeps_what_follows_the_last_delimiter_if_the_server_closes_in_good_order() {
    assert_printed("--keep-truncated", "6\n12", &["6", "12"]);
    let outcome = feed("--keep-truncated", |peer| peer.send("6\n12\r"));
    assert_eq!(outcome.printed, ["6", "12"]);
    assert_eq!((outcome.totals.get("lines"), outcome.totals.get("truncated")), (2, 0));

    let server = Server::bind();
    let mut program = start("--once --keep-truncated", [server.address()]);
    let mut peer = server.accept();
    peer.send("6\n12");
    assert_eq!(program.next_line().as_deref(), Some("6"));
    peer.reset();
    assert_eq!(program.wait_exit().code(), Some(1));
    assert_eq!(program.remaining_lines(), Vec::<String>::new());
    assert_eq!(Totals::of(&program).get("truncated"), 1);
}

#[test]
fn blanks_and_tabs_around_a_number_are_allowed_and_within_it_are_not() {
    assert_printed("", " 6\n12 \n\t18\t\n \t 24 \t \r\n6 6\n- 6\n", &["6", "12", "18", "24"]);
}

#[test]
fn signs_and_zero_are_printed_in_their_shortest_form() {
    assert_printed("", "-6\n0\n+12\n-0\n+0\n", &["-6", "0", "12", "0", "0"]);
    assert_eq!(feed("", |peer| peer.send("--6\n+-6\n-\n+\n6-\n")).totals.get("malformed"), 5);
}

#[test]
fn leading_zeros_are_ignored() {
    assert_printed("", "006\n-00000000000000000000000000000012\n", &["6", "-12"]);
}

#[test]
fn the_ends_of_i64_are_numbers_and_one_beyond_is_malformed() {
    let ends = ["9223372036854775807", "-9223372036854775808"];
    assert_printed("-d 1", "9223372036854775807\n-9223372036854775808\n", &ends);
    let beyond = "9223372036854775808\n-9223372036854775809\n99999999999999999999999\n";
    let outcome = feed("-d 1", |peer| peer.send(beyond));
    assert_eq!((outcome.printed.len(), outcome.totals.get("malformed")), (0, 3));
}

#[test]
fn an_empty_line_is_a_heartbeat() {
    let outcome = feed("", |peer| peer.send("\n\r\n6\n\n"));
    assert_eq!((outcome.printed, outcome.totals.get("malformed")), (vec!["6".into()], 0));
    assert!(!outcome.log.iter().any(|line| line.contains("Malformed")));
}

#[test]
fn malformed_lines_are_counted_and_the_lines_around_them_printed() {
    let bytes = b"6\nabc\n6.0\n0x6\n6e1\n6,\n\xd9\xa6\n\xff\xfe\n6\0\n12\n";
    let outcome = feed("", |peer| peer.send(bytes));
    assert_eq!(outcome.printed, ["6", "12"]);
    assert_eq!((outcome.totals.get("malformed"), outcome.totals.get("lines")), (8, 10));
}

#[test]
fn a_malformed_line_is_logged_with_its_server_and_its_bytes_escaped() {
    let server = Server::bind();
    let mut program = start("", [server.address()]);
    let mut peer = server.accept();
    peer.send(b"\x1b[31m\0\x07\xff\"\\6\n");
    let line = program.wait_for_log("Malformed line");
    assert!(line.contains(&server.address().to_string()), "{line}");
    assert!(line.contains(r#"\x1b[31m\x00\x07\xff\"\\6"#), "{line}");
    stop(&mut program);
    // No byte can control a terminal, not even in lossy UTF-8.
    let is_plain = |line: &String| line.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    assert!(program.log().iter().all(is_plain), "{:?}", program.log());
}

#[test]
fn malformed_lines_are_logged_within_a_limit() {
    let junk = "z".repeat(4000);
    let outcome = feed("", |peer| (0..1000).for_each(|_| peer.send(format!("{junk}\n"))));
    assert_eq!(outcome.totals.get("malformed"), 1000);
    let logged = || outcome.log.iter().filter(|line| line.contains("zzz"));
    // One line per ten seconds is logged, and this takes far less than a minute.
    assert!((1..6).contains(&logged().count()), "{} lines", logged().count());
    assert!(logged().all(|line| line.len() < 400), "each is short");
}

#[test]
fn a_server_of_another_kind_is_worth_one_hint_that_names_the_flag() {
    let hints = |outcome: &Outcome| {
        let is_hint = |line: &&String| line.contains("another");
        outcome.log.iter().filter(is_hint).cloned().collect::<Vec<_>>()
    };
    let outcome = feed("", |peer| peer.send("6\0".repeat(64 * 1024)));
    let [hint] = &hints(&outcome)[..] else { panic!("{:?}", outcome.log) };
    assert!(hint.contains(" WARN") && hint.contains("No delimiter (lf) in "), "{hint}");
    assert!(hint.ends_with("do its lines end with another byte? (--delimiter sets it)"), "{hint}");

    let outcome = feed("", |peer| peer.send("temp=23.5\n".repeat(3)));
    let [hint] = &hints(&outcome)[..] else { panic!("{:?}", outcome.log) };
    assert!(hint.contains(" WARN") && hint.contains("on this connection (3 lines): "), "{hint}");
    assert!(hint.ends_with("is it another kind of feed? (--lines passes on any line)"), "{hint}");

    let outcome = feed("", |peer| peer.send("temp=23.5\n6\n"));
    assert_eq!(hints(&outcome), Vec::<String>::new());
}

#[test]
fn oversized_lines_are_logged_within_a_limit() {
    let outcome = feed("--max-line 4", |peer| peer.send("99999\n".repeat(1000)));
    assert_eq!(outcome.totals.get("oversized"), 1000);
    let logged = outcome.log.iter().filter(|line| line.contains("longer than 4 bytes")).count();
    assert!((1..6).contains(&logged), "{logged} lines");
}

#[test]
fn a_line_at_the_limit_is_read_and_one_byte_more_is_not() {
    assert_printed("--max-line 8", "00000006\n000000012\n18\n", &["6", "18"]);
    let (at, beyond) = ("0".repeat(4095), "0".repeat(4096));
    let outcome = feed("", |peer| peer.send(format!("{at}6\n{beyond}6\n12\n")));
    assert_eq!(outcome.printed, ["6", "12"]);
    assert_eq!((outcome.totals.get("oversized"), outcome.totals.get("malformed")), (1, 0));
}

#[test]
fn an_endless_line_is_skipped_in_constant_memory_counted_once_and_the_connection_stays() {
    const SIZE: usize = 64 << 20;
    let server = Server::bind();
    let mut program = start("", [server.address()]);
    let mut peer = server.accept();
    peer.send("6\n");
    assert_eq!(program.next_line().as_deref(), Some("6"));
    #[cfg(target_os = "linux")]
    let before = crate::memory_kib(&program, "VmRSS");
    for _ in 0..SIZE / (64 << 10) {
        peer.send([b'6'; 64 << 10]);
    }
    peer.send("\n12\n");
    assert_eq!(program.next_line().as_deref(), Some("12"));
    #[cfg(target_os = "linux")]
    {
        let peak = crate::memory_kib(&program, "VmHWM");
        assert!(peak.saturating_sub(before) < 4 << 10, "from {before} KiB to {peak} KiB");
    }
    let totals = stop(&mut program);
    assert_eq!((totals.get("oversized"), totals.get("lines")), (1, 3));
    assert_eq!((totals.get("connects"), totals.get("failures")), (1, 0));
}

#[test]
fn a_tail_without_its_newline_is_not_a_number_and_is_counted() {
    let outcome = feed("", |peer| peer.send("6\n126"));
    assert_eq!(outcome.printed, ["6"], "126 was truncated");
    assert_eq!((outcome.totals.get("truncated"), outcome.totals.get("lines")), (1, 1));
    assert_eq!(feed("", |peer| peer.send("6\n")).totals.get("truncated"), 0);
}

#[test]
fn nothing_of_one_connection_joins_the_next() {
    let server = Server::bind();
    let mut program = start(AT_ONCE, [server.address()]);
    // The last of these ends while a line is skipped. The first line after it must not be skipped.
    for (bytes, printed) in [("12", None), ("6\n", Some("6")), (&"9".repeat(5000), None)] {
        let mut peer = server.accept();
        peer.send(bytes);
        if let Some(printed) = printed {
            assert_eq!(program.next_line().as_deref(), Some(printed));
        }
        peer.close();
        program.wait_for_log("Connection lost to");
    }
    server.accept().send("18\n");
    assert_eq!(program.next_line().as_deref(), Some("18"));
    let totals = stop(&mut program);
    assert_eq!(
        (totals.get("truncated"), totals.get("oversized"), totals.get("malformed")),
        (1, 1, 0)
    );
}

/// The difference between the numbers of two neighboring servers, so that the output shows the server of a
/// number. It is a multiple of 6.
const SHIFT: i64 = 6000;

/// Runs a server that is killed and restarted several times. Each connection sends random numbers from 1 to
/// 666 in chunks of random sizes and closes, often in the middle of a line. Returns the multiples of 6
/// among the whole lines, and the last connection, still open.
fn play(address: &Down, index: i64) -> (VecDeque<i64>, Peer) {
    let mut rng = SmallRng::seed_from_u64(index.unsigned_abs());
    let mut expected = VecDeque::new();
    let mut connections = 30;
    loop {
        let mut peer = address.up().accept();
        let mut text = String::new();
        for _ in 0..rng.random_range(0..200) {
            let number = rng.random_range(1..=666) + index * SHIFT;
            text += &format!("{number}\n");
            if number % 6 == 0 {
                expected.push_back(number);
            }
        }
        if rng.random() {
            text += &(666 + index * SHIFT).to_string();
        }
        let mut rest = text.as_bytes();
        let longest = [1, 3, 16, 1000][rng.random_range(0..4)];
        while !rest.is_empty() {
            let (chunk, more) = rest.split_at(rng.random_range(1..=longest).min(rest.len()));
            peer.send(chunk);
            rest = more;
        }
        connections -= 1;
        if connections == 0 {
            return (expected, peer);
        }
        peer.close();
    }
}

#[test]
fn exactly_the_multiples_of_6_in_order_per_server_at_any_chunking_while_servers_are_restarted() {
    let servers = [(); 4].map(|()| Down::new());
    let mut program = start(&format!("-p 2 {AT_ONCE}"), &servers);
    let (mut expected, _peers): (Vec<VecDeque<i64>>, Vec<Peer>) = thread::scope(|scope| {
        let play = |(index, server)| scope.spawn(move || play(server, index));
        let players: Vec<_> = (0..).zip(&servers).map(play).collect();
        players.into_iter().map(|player| player.join().unwrap()).unzip()
    });
    for _ in 0..expected.iter().map(VecDeque::len).sum() {
        let number = next_number(&mut program);
        let index = usize::try_from(number / SHIFT).unwrap();
        assert_eq!(Some(number), expected[index].pop_front(), "of server {index}");
    }
    assert_eq!(stop(&mut program).get("malformed"), 0);
    assert_eq!(program.remaining_lines(), Vec::<String>::new());
}

#[test]
fn lines_before_a_reset_are_printed_once_and_the_unfinished_line_never() {
    let server = Server::bind();
    // Each connection resets the back-off, so that each loss is logged.
    let flags = format!("{AT_ONCE} --reset-backoff-threshold 0s");
    let mut program = start(&flags, [server.address()]);
    for round in 1..=20 {
        let mut peer = server.accept();
        let numbers = [round * 600, round * 600 + 6];
        peer.send(format!("{}\n{}\n12", numbers[0], numbers[1]));
        assert_eq!(next_number(&mut program), numbers[0]);
        assert_eq!(next_number(&mut program), numbers[1]);
        peer.reset();
        program.wait_for_log("Connection lost to");
    }
    let _peer = server.accept();
    stop(&mut program);
    assert_eq!(program.remaining_lines(), Vec::<String>::new());
}

fn next_number(program: &mut Program) -> i64 {
    program.next_line().expect("the program runs").parse().expect("only numbers are on stdout")
}
