//! Tests what is written for a record: numbers and whole lines, in each format.

use std::thread;

use crate::common::{Program, Server};
use crate::{Totals, start, stop, tcpcore};

/// Returns the whole output of a program whose server sends some bytes and closes, and the server's address.
fn written(flags: &str, bytes: &[u8]) -> (String, String) {
    let server = Server::bind();
    let mut command = tcpcore(&format!("--once {flags}"), [server.address()]);
    let program = thread::spawn(move || command.output().unwrap());
    let mut peer = server.accept();
    peer.send(bytes);
    peer.close();
    let output = program.join().unwrap();
    assert!(output.status.success(), "{output:?}");
    (String::from_utf8(output.stdout).unwrap(), server.address().to_string())
}

#[test]
fn numbers_are_written_in_the_format_of_the_flag() {
    let numbers = b"6\n7\n-12\r\n";
    assert_eq!(written("--format plain", numbers).0, "6\n-12\n");
    assert_eq!(written("--format task", numbers).0, "1> 6\n1> -12\n");
    let (text, server) = written("--format=tsv", numbers);
    assert_eq!(text, format!("{server}\t6\n{server}\t-12\n"));
    let (text, server) = written("--format json", numbers);
    let lines: Vec<&str> = text.lines().collect();
    for (line, number) in lines.iter().zip(["6", "-12"]) {
        let rest = line.strip_prefix(&format!("{{\"server\":\"{server}\",\"time\":\"")).unwrap();
        assert_eq!(rest.find("Z\","), Some("2026-11-25T12:34:56.789".len()));
        assert!(rest.ends_with(&format!("Z\",\"number\":{number}}}")), "{line}");
    }
    assert_eq!(lines.len(), 2);
}

#[test]
fn lines_are_passed_on_byte_for_byte_including_empty_ones() {
    let text = "temp=23.5\r\n\n\u{1f680}\t\\\nrest";
    assert_eq!(written("--lines", text.as_bytes()).0, "temp=23.5\r\n\n\u{1f680}\t\\\n");
    assert_eq!(written("--lines --keep-truncated", b"a\nb").0, "a\nb\n");
    assert_eq!(written("--lines --delimiter nul", b"a\nb\0c\0").0, "a\nb\0c\0");
    assert_eq!(written("--lines --max-line 3", b"abc\nabcd\nd\n").0, "abc\nd\n");
    assert_eq!(written("--lines --delimiter 0x30", b"a0b0").0, "a0b0", "lines may have digits");
}

#[test]
fn lines_are_written_in_the_format_of_the_flag() {
    let text = b"temp=23.5\r\na\tb\\\n";
    assert_eq!(written("--lines --format task", text).0, "1> temp=23.5\n1> a\tb\\\n");
    let (text, server) = written("--lines --format tsv", text);
    assert_eq!(text, format!("{server}\ttemp=23.5\n{server}\ta\\tb\\\\\n"));
    let (text, _) = written("--lines --format json", b"say \"hi\"\r\n\xff\n");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].ends_with("\"line\":\"say \\\"hi\\\"\"}"), "{text}");
    assert!(lines[1].ends_with("\"line_base64\":\"/w==\"}"), "{text}");
}

#[test]
fn a_line_with_line_feeds_is_one_line_in_each_tagged_format() {
    let text = b"a\nb\\\0\n\0";
    assert_eq!(written("--lines --delimiter nul --format task", text).0, "1> a\\nb\\\\\n1> \\n\n");
    let (tsv, server) = written("--lines --delimiter nul --format tsv", text);
    assert_eq!(tsv, format!("{server}\ta\\nb\\\\\n{server}\t\\n\n"));
    let (json, _) = written("--lines --delimiter nul --format json", text);
    let lines: Vec<&str> = json.lines().collect();
    assert!(lines[0].ends_with(r#","line":"a\nb\\"}"#), "{json}");
    assert!(lines[1].ends_with(r#","line":"\n"}"#) && lines.len() == 2, "{json}");
}

#[test]
fn each_record_has_the_server_that_sent_it_and_the_worker_that_read_it() {
    let servers: Vec<Server> = (0..3).map(|_| Server::bind()).collect();
    let addresses: Vec<_> = servers.iter().map(Server::address).collect();
    let mut program = start("-p 3 -d 1 --format tsv", &addresses);
    let mut peers: Vec<_> = servers.iter().map(Server::accept).collect();
    for number in 0..30 {
        peers[number % 3].send(format!("{number}\n"));
        let line = format!("{}\t{number}", addresses[number % 3]);
        assert_eq!(program.next_line(), Some(line));
    }
    stop(&mut program);
    let mut program = start("-p 3 --lines --format task", &addresses);
    let mut peers: Vec<_> = servers.iter().map(Server::accept).collect();
    for worker in [2, 0, 1] {
        peers[worker].send("a line\n");
        assert_eq!(program.next_line(), Some(format!("{}> a line", worker + 1)));
    }
    stop(&mut program);
}

#[test]
fn lines_of_several_workers_never_mix() {
    let servers: Vec<Server> = (0..4).map(|_| Server::bind()).collect();
    let mut program =
        start("-p 4 --once --lines --max-line 100000", servers.iter().map(Server::address));
    let mut senders = Vec::new();
    for (server, letter) in servers.into_iter().zip(['a', 'b', 'c', 'd']) {
        senders.push(thread::spawn(move || {
            let mut peer = server.accept();
            // More than the queue and the output's buffer hold.
            for len in (0..200).map(|line| 1 + line * 397 % 60_000) {
                peer.send(letter.to_string().repeat(len) + "\n");
            }
            peer.close();
        }));
    }
    let mut counts = [0; 4];
    for line in program.remaining_lines() {
        let letter = line.as_bytes()[0];
        let worker = usize::from(letter - b'a');
        let len = 1 + counts[worker] * 397 % 60_000;
        counts[worker] += 1;
        assert!(line.bytes().all(|byte| byte == letter) && line.len() == len, "a line is whole");
    }
    assert_eq!(counts, [200; 4]);
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    assert!(program.wait_exit().success());
    let totals = Totals::of(&program);
    assert_eq!([totals.get("lines"), totals.get("records printed")], [800, 800]);
}

/// Starts no server, as the usage is refused before.
#[test]
fn a_divisor_does_not_go_with_lines() {
    for flags in ["--lines -d 7", "-d 7 --lines"] {
        let mut program: Program = start(flags, ["localhost:1"]);
        assert_eq!(program.wait_exit().code(), Some(2));
        let [line] = program.log() else { panic!("{:?}", program.log()) };
        assert!(line.contains("-d: does not go with --lines"), "{line}");
    }
}
