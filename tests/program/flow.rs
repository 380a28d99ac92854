//! Tests the flow of numbers from the sockets to stdout.

use std::io::Write;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::common::{Peer, Program, Server, Signal};
use crate::{Down, Totals, lines_of, start, stop, tcpcore};

#[test]
fn a_number_is_printed_while_its_server_stays_connected_and_silent() {
    let server = Server::bind();
    let mut program = start("", [server.address()]);
    let mut peer = server.accept();
    for number in ["6", "12", "18"] {
        // The unfinished line after the number does not delay it.
        peer.send(format!("{number}\n66"));
        assert_eq!(program.next_line().as_deref(), Some(number));
        peer.send("6\n");
        assert_eq!(program.next_line().as_deref(), Some("666"));
    }
}

#[test]
fn only_numbers_are_on_stdout_despite_bad_lines_and_failures() {
    let (server, down) = (Server::bind(), Down::new());
    let mut program =
        start(&format!("-v -p 9 {}", crate::AT_ONCE), [server.address(), down.address]);
    let mut peer = server.accept();
    peer.send("abc\n6\n".to_owned() + &"9".repeat(5000) + "\n12\n1");
    peer.close();
    program.wait_for_log("Connection lost to");
    server.accept().send("18\n");
    assert_eq!([(); 3].map(|()| program.next_line().unwrap()), ["6", "12", "18"]);
    stop(&mut program);
    assert_eq!(program.remaining_lines(), Vec::<String>::new());
}

#[test]
fn a_firehose_starves_neither_its_neighbor_nor_the_timers() {
    let (firehose, neighbor, down) = (Server::bind(), Server::bind(), Down::new());
    let servers = [firehose.address(), neighbor.address(), down.address];
    let flags = "-p 1 --initial-backoff 1ms --max-backoff 5ms";
    let mut program = start(flags, servers);
    let mut hose = firehose.accept();
    let mut peer = neighbor.accept();
    thread::scope(|scope| {
        scope.spawn(move || {
            // There are no multiples of 6, so that the output thread takes no part. The end of the program
            // ends the loop.
            let lines = "7\n".repeat(256 << 10);
            while hose.stream().write_all(lines.as_bytes()).is_ok() {}
        });
        for number in (6..=120).step_by(6) {
            peer.send(format!("{number}\n"));
            assert_eq!(program.next_line(), Some(number.to_string()));
        }
        let mut late_peer = down.up().accept();
        late_peer.send("126\n");
        assert_eq!(program.next_line().as_deref(), Some("126"));
        program.kill();
    });
}

#[test]
fn a_stalled_reader_holds_the_servers_back_loses_nothing_and_stops_no_timer() {
    let (server, down) = (Server::bind(), Down::new());
    let flags = "-p 1 --initial-backoff 10ms --max-backoff 10ms";
    let mut command = tcpcore(flags, [server.address(), down.address]);
    let (mut program, stdout) = Program::spawn_unread(&mut command);
    let mut peer = server.accept();
    program.wait_for_log("Connected successfully to");
    #[cfg(target_os = "linux")]
    let before = crate::memory_kib(&program, "VmRSS");
    let sent = send_until_held_back(&mut peer);
    let _late_peer = down.up().accept();
    program.wait_for_log(&format!("Connected successfully to {down}"));
    #[cfg(target_os = "linux")]
    {
        let peak = crate::memory_kib(&program, "VmHWM");
        assert!(peak.saturating_sub(before) < 8 << 10, "from {before} KiB to {peak} KiB");
    }

    let lines = sent.div_ceil(LINE);
    let mut printed = lines_of(stdout);
    for index in 0..lines - 1 {
        assert_eq!(printed.next(), Some((index * 6).to_string()));
    }
    // The rest of the last line.
    peer.send(text_from(sent, lines * LINE - sent));
    assert_eq!(printed.next(), Some(((lines - 1) * 6).to_string()));
    assert_eq!(stop(&mut program).get("lines"), lines as u64);
    assert_eq!(printed.next(), None);
}

#[test]
fn after_a_signal_all_lines_that_were_read_are_printed_while_servers_are_held_back() {
    let server = Server::bind();
    let (mut program, stdout) = Program::spawn_unread(&mut tcpcore("", [server.address()]));
    let mut peer = server.accept();
    send_until_held_back(&mut peer);
    program.signal(Signal::TERM);
    program.wait_for_log("Stopping on SIGTERM");
    let mut lines = 0;
    for line in lines_of(stdout) {
        assert_eq!(line, (lines * 6).to_string());
        lines += 1;
    }
    assert_eq!(program.wait_exit().code(), Some(0));
    let totals = Totals::of(&program);
    assert_eq!((totals.get("lines"), totals.get("records printed")), (lines, lines));
}

/// Sends [`text_from`] until the server is held back, and returns the number of bytes. The program's stdout
/// must not be read meanwhile.
pub(crate) fn send_until_held_back(peer: &mut Peer) -> usize {
    let mut sent = 0;
    // A stalled machine can look like a server that is held back. Stopping too early does no harm.
    while is_writable(peer, Duration::from_secs(1)) {
        // The buffers of the kernel on both sides vary in size. Few hold half as much.
        assert!(sent < 64 << 20, "the server was not held back");
        sent += send_some(peer, sent);
    }
    sent
}

/// The length of a line of [`text_from`] in bytes, with its newline.
const LINE: usize = 10;

/// Returns `len` bytes from index `start` of a text. Its lines are the multiples of 6 in order, each with
/// nine digits.
fn text_from(start: usize, len: usize) -> Vec<u8> {
    let lines = (start / LINE..).map(|index| format!("{:09}\n", index * 6));
    lines.flat_map(String::into_bytes).skip(start % LINE).take(len).collect()
}

/// Makes one write of that text from index `start`, and returns its length. The kernel must take something.
fn send_some(peer: &mut Peer, start: usize) -> usize {
    let text = text_from(start, 64 << 10);
    peer.stream().set_nonblocking(true).unwrap();
    let sent = peer.stream().write(&text).unwrap();
    peer.stream().set_nonblocking(false).unwrap();
    sent
}

fn is_writable(peer: &mut Peer, wait: Duration) -> bool {
    let timeout = Timespec::try_from(wait).unwrap();
    poll(&mut [PollFd::new(peer.stream(), PollFlags::OUT)], Some(&timeout)).unwrap() > 0
}

#[test]
#[cfg(target_os = "linux")]
fn whole_lines_are_written_and_many_at_once_under_load() {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;
    use std::process::{Child, Stdio};

    /// A program that does not outlive its test.
    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            _ = self.0.kill();
            _ = self.0.wait();
        }
    }

    const LINES: usize = 40_000;
    let server = Server::bind();
    // Each write is a datagram.
    let (ours, stdout) = UnixDatagram::pair().unwrap();
    ours.set_read_timeout(Some(crate::common::DEADLINE)).unwrap();
    let mut command = tcpcore("", [server.address()]);
    command.stdin(Stdio::null()).stdout(OwnedFd::from(stdout));
    let _child = Killed(command.stderr(Stdio::null()).spawn().unwrap());
    let mut peer = server.accept();
    peer.send(text_from(0, LINES * LINE));
    let mut buffer = vec![0; 1 << 20];
    let (mut lines, mut writes) = (0, 0);
    while lines < LINES {
        let len = ours.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..len]).unwrap();
        assert!(text.ends_with('\n'), "a part of a line was written");
        for line in text.lines() {
            assert_eq!(line, (lines * 6).to_string());
            lines += 1;
        }
        writes += 1;
    }
    assert!(writes < LINES / 10, "{writes} writes");
}

#[test]
#[cfg(target_os = "linux")]
fn an_idle_program_sleeps() {
    let servers = [Server::bind(), Server::bind()];
    let named = format!("localhost:{}", servers[1].port());
    let mut program = start("-p 2", [servers[0].address().to_string(), named]);
    let mut peers = [servers[0].accept(), servers[1].accept()];
    for peer in &mut peers {
        peer.send("6\n12");
        assert_eq!(program.next_line().as_deref(), Some("6"));
    }
    // Single numbers in quick succession are a burst. Polling must end with it.
    peers[0].send("\n");
    for _ in 0..500 {
        peers[0].send("18\n");
    }
    assert_eq!(program.next_line().as_deref(), Some("12"));
    for _ in 0..500 {
        assert_eq!(program.next_line().as_deref(), Some("18"));
    }
    assert_idle(&program);
}

#[test]
#[cfg(target_os = "linux")]
fn a_program_that_holds_its_servers_back_sleeps() {
    let server = Server::bind();
    let (program, _stdout) = Program::spawn_unread(&mut tcpcore("", [server.address()]));
    let mut peer = server.accept();
    send_until_held_back(&mut peer);
    assert_idle(&program);
}

/// Asserts that no thread runs. The threads may be busy at first. After one quiet second they must stay
/// quiet, which also detects a timer that ticks every few seconds.
#[cfg(target_os = "linux")]
fn assert_idle(program: &Program) {
    let is_quiet_for = |seconds| {
        let before = activity(program);
        thread::sleep(Duration::from_secs(seconds));
        activity(program) == before
    };
    assert!((0..10).any(|_| is_quiet_for(1)), "{:?}", activity(program));
    assert!(is_quiet_for(6), "{:?}", activity(program));
}

/// Returns the name of each thread, the number of times that it has blocked, and its processor time. A
/// thread that makes occasional system calls blocks in between, and a thread that never blocks runs. So any
/// activity changes one of the figures.
#[cfg(target_os = "linux")]
fn activity(program: &Program) -> Vec<(String, String, Vec<String>)> {
    let tasks = format!("/proc/{}/task", program.pid().as_raw_nonzero());
    let tasks = std::fs::read_dir(tasks).unwrap().map(|task| {
        let path = task.unwrap().path();
        let read = |name| std::fs::read_to_string(path.join(name)).unwrap();
        let status = read("status");
        let sleeps = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"));
        // After the name in parentheses: the times in user and in system mode, in ticks.
        let stat = read("stat");
        let times = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
        (read("comm"), sleeps.unwrap().to_owned(), times.map(str::to_owned).collect())
    });
    let mut tasks: Vec<_> = tasks.collect();
    tasks.sort();
    tasks
}
