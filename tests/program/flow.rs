//! Flow.

use std::io::Write;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::common::{Peer, Program, Server, Signal};
use crate::{Down, Totals, lines_of, start, stop, tcpcore};

#[test]
fn a_number_is_out_while_its_server_stays_connected_and_silent() {
    let server = Server::bind();
    let mut program = start("", [server.address()]);
    let mut peer = server.accept();
    for number in ["6", "12", "18"] {
        // The line after it has no end yet, and does not hold it back.
        peer.send(format!("{number}\n66"));
        assert_eq!(program.next_line().as_deref(), Some(number));
        peer.send("6\n");
        assert_eq!(program.next_line().as_deref(), Some("666"));
    }
}

#[test]
fn only_numbers_are_on_stdout_whatever_happens() {
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
fn a_firehose_starves_neither_its_neighbour_nor_the_timers() {
    let (firehose, neighbour, down) = (Server::bind(), Server::bind(), Down::new());
    let servers = [firehose.address(), neighbour.address(), down.address];
    let flags = "-p 1 --initial-backoff 1ms --max-backoff 5ms";
    let mut program = start(flags, servers);
    let mut hose = firehose.accept();
    let mut peer = neighbour.accept();
    thread::scope(|scope| {
        scope.spawn(move || {
            // Nothing that 6 divides, so that the printer has no part in it. The end of the program
            // ends this.
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
fn a_signal_while_servers_are_held_back_prints_all_that_was_read() {
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
    assert_eq!((totals.get("lines"), totals.get("numbers printed")), (lines, lines));
}

/// Sends as much of [`text_from`] as is taken, in bytes, while nobody reads the program's stdout.
pub(crate) fn send_until_held_back(peer: &mut Peer) -> usize {
    let mut sent = 0;
    // Should this be taken for held back too soon, by a machine that stands still, nothing is lost.
    while is_writable(peer, Duration::from_secs(1)) {
        // What the kernel's buffers hold on both sides is its own affair; few hold half as much.
        assert!(sent < 64 << 20, "the server was not held back");
        sent += send_some(peer, sent);
    }
    sent
}

/// The length of a line of [`text_from`], with its newline.
const LINE: usize = 10;

/// So many bytes, from `start` on, of the text whose lines are the multiples of 6 in order, each with
/// nine digits.
fn text_from(start: usize, len: usize) -> Vec<u8> {
    let lines = (start / LINE..).map(|index| format!("{:09}\n", index * 6));
    lines.flat_map(String::into_bytes).skip(start % LINE).take(len).collect()
}

/// Sends what the kernel takes of that text at once, from `start` on; it must take something.
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
    // A datagram is one write.
    let (ours, stdout) = UnixDatagram::pair().unwrap();
    ours.set_read_timeout(Some(crate::common::DEADLINE)).unwrap();
    let mut command = tcpcore("", [server.address()]);
    command.stdin(Stdio::null()).stdout(OwnedFd::from(stdout));
    let _child = Killed(command.stderr(Stdio::null()).spawn().unwrap());
    let mut peer = server.accept();
    peer.send(text_from(0, LINES * LINE));
    let mut page = vec![0; 1 << 20];
    let (mut lines, mut writes) = (0, 0);
    while lines < LINES {
        let len = ours.recv(&mut page).unwrap();
        let text = std::str::from_utf8(&page[..len]).unwrap();
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
    // One by one and fast: a burst makes the output poll, and the end of the burst has to end that.
    peers[0].send("\n");
    for _ in 0..500 {
        peers[0].send("18\n");
    }
    assert_eq!(program.next_line().as_deref(), Some("12"));
    for _ in 0..500 {
        assert_eq!(program.next_line().as_deref(), Some("18"));
    }
    assert_asleep(&program);
}

#[test]
#[cfg(target_os = "linux")]
fn a_program_that_holds_its_servers_back_sleeps() {
    let server = Server::bind();
    let (program, _stdout) = Program::spawn_unread(&mut tcpcore("", [server.address()]));
    let mut peer = server.accept();
    send_until_held_back(&mut peer);
    assert_asleep(&program);
}

/// That nothing happens takes time to be seen. The threads may be on their way to sleep at first; what
/// sleeps for a moment has to sleep on, so that a timer that ticks every few seconds is seen, too.
#[cfg(target_os = "linux")]
fn assert_asleep(program: &Program) {
    let is_quiet_for = |seconds| {
        let before = activity(program);
        thread::sleep(Duration::from_secs(seconds));
        activity(program) == before
    };
    assert!((0..10).any(|_| is_quiet_for(1)), "{:?}", activity(program));
    assert!(is_quiet_for(6), "{:?}", activity(program));
}

/// By thread: how often it has gone to sleep, and the time it has run. A thread that makes a system
/// call now and then sleeps in between, and one that never sleeps runs, so this tells of any.
#[cfg(target_os = "linux")]
fn activity(program: &Program) -> Vec<(String, String, Vec<String>)> {
    let tasks = format!("/proc/{}/task", program.pid().as_raw_nonzero());
    let tasks = std::fs::read_dir(tasks).unwrap().map(|task| {
        let path = task.unwrap().path();
        let read = |name| std::fs::read_to_string(path.join(name)).unwrap();
        let status = read("status");
        let sleeps = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"));
        // Behind the name in parentheses; the times in user and in system mode, in ticks.
        let stat = read("stat");
        let times = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
        (read("comm"), sleeps.unwrap().to_owned(), times.map(str::to_owned).collect())
    });
    let mut tasks: Vec<_> = tasks.collect();
    tasks.sort();
    tasks
}
