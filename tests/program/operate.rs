//! Tests what an operator asks of the running program: another list, a table, attempts now, totals, and its state for
//! systemd.

use std::fs;
#[cfg(target_os = "linux")]
use std::io::Read;
use std::os::unix::net::UnixDatagram;
#[cfg(target_os = "linux")]
use std::process::Stdio;
use std::time::Duration;

#[cfg(target_os = "linux")]
use rustix::{
    process::kill_process,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

#[cfg(target_os = "linux")]
use crate::common::Pid;
use crate::common::{DEADLINE, Program, Server, Signal};
use crate::list::ListFile;
use crate::{Down, addresses, lines_of, start, stop, tcpcore};

/// No server, beside those of the file.
const NONE: [&str; 0] = [];

#[test]
fn sighup_reads_the_list_again_and_a_server_that_stays_keeps_its_unfinished_line() {
    let servers = [Server::bind(), Server::bind()];
    let [first, second] = servers.each_ref().map(Server::address);
    let file = ListFile::new("reload", format!("{first}\n"));
    let mut program = start(&format!("-d 1 --format tsv -f {}", file.path()), NONE);
    let mut peer = servers[0].accept();
    peer.send("1\n2");
    assert_eq!(program.next_line(), Some(format!("{first}\t1")));

    fs::write(file.path(), format!("{second} name=new\n{first}\n")).unwrap();
    program.signal(Signal::HUP);
    program.wait_for_log("Read the servers again: 1 kept server, 1 added, 0 removed");
    let mut other = servers[1].accept();
    other.send("7\n");
    assert_eq!(program.next_line().as_deref(), Some("new\t7"));
    peer.send("3\n");
    assert_eq!(program.next_line(), Some(format!("{first}\t23")), "one line");

    fs::write(file.path(), format!("{second} name=new\n")).unwrap();
    program.signal(Signal::HUP);
    program.wait_for_log("Read the servers again: 1 kept server, 0 added, 1 removed");
    peer.wait_closed();
    other.send("8\n");
    assert_eq!(program.next_line().as_deref(), Some("new\t8"));
    let totals = stop(&mut program);
    assert_eq!((totals.get("servers"), totals.get("connects")), (1, 2));
    assert_eq!(totals.get("records printed"), 4);
}

#[test]
fn a_list_with_an_error_changes_nothing_and_its_line_is_named() {
    let server = Server::bind();
    let file = ListFile::new("error", format!("{}\n", server.address()));
    let mut program = start(&format!("-d 1 -f {}", file.path()), NONE);
    let mut peer = server.accept();
    fs::write(file.path(), "a:1\nb\n").unwrap();
    program.signal(Signal::HUP);
    let line = program.wait_for_log("The servers stay as they are: ");
    assert!(line.contains(":2:1: \"b\": no port"), "{line}");
    peer.send("5\n");
    assert_eq!(program.next_line().as_deref(), Some("5"));
    assert_eq!(stop(&mut program).get("connects"), 1);
}

#[test]
fn a_list_may_be_empty_and_get_servers_later() {
    let server = Server::bind();
    let file = ListFile::new("empty", "# none yet\n");
    let mut program = start(&format!("-d 1 -f {}", file.path()), NONE);
    program.wait_for_log("The list has no server yet");
    fs::write(file.path(), format!("{}\n", server.address())).unwrap();
    program.signal(Signal::HUP);
    server.accept().send("5\n");
    assert_eq!(program.next_line().as_deref(), Some("5"));
    stop(&mut program);
}

#[test]
fn a_list_that_is_watched_is_read_again_when_it_changes() {
    let servers = [Server::bind(), Server::bind()];
    let [first, second] = servers.each_ref().map(Server::address);
    let file = ListFile::new("watch", format!("{first}\n"));
    let mut program = start(&format!("-d 1 --watch -f {}", file.path()), NONE);
    let _peer = servers[0].accept();
    fs::write(file.path(), format!("{first}\n{second}\n")).unwrap();
    servers[1].accept().send("5\n");
    assert_eq!(program.next_line().as_deref(), Some("5"));
    stop(&mut program);
}

#[test]
fn the_program_ends_when_all_servers_of_a_list_are_given_up() {
    let down = [Down::new(), Down::new()];
    let file = ListFile::new("given-up", format!("{}\n{}\n", down[0], down[1]));
    let flags =
        format!("--initial-backoff 1ms --max-backoff 1ms --give-up-after 20ms -f {}", file.path());
    let mut program = start(&flags, NONE);
    assert_eq!(program.wait_exit().code(), Some(1));
}

#[test]
fn sigusr1_logs_a_table_with_the_servers_that_are_down_first() {
    let (server, down) = (Server::bind(), Down::new());
    let list = [server.address().to_string(), down.to_string()];
    let mut program = start("-d 1 --initial-backoff 1h --max-backoff 1h", &list);
    let mut peer = server.accept();
    peer.send("1\n2\n");
    assert_eq!(program.next_line().as_deref(), Some("1"));
    assert_eq!(program.next_line().as_deref(), Some("2"));
    program.wait_for_log("Connection refused by");
    program.signal(Signal::USR1);
    program.wait_for_log("1 of 2 connected, 1 waiting");
    program.wait_for_log(&format!("{down}: waiting, down for "));
    let row = program.wait_for_log(&format!("{}: connected, up for ", server.address()));
    assert!(row.contains(" 2 lines, last received "), "{row}");
    let log = program.log().join("\n");
    assert!(log.contains("1 failure in a row, connection refused "), "{log}");
    assert!(log.contains("next attempt in "), "{log}");
    assert!(log.find(": waiting") < log.find(": connected, up"), "{log}");
    stop(&mut program);
}

#[test]
fn sigusr2_tries_a_waiting_server_now() {
    let down = Down::new();
    let mut program = start("--initial-backoff 1h --max-backoff 1h", [&down]);
    program.wait_for_log("Connection refused by");
    let server = down.up();
    program.signal(Signal::USR2);
    let _peer = server.accept();
    program.wait_for_log("after 1 failure in");
    stop(&mut program);
}

#[test]
fn totals_are_logged_every_so_often_on_request() {
    let server = Server::bind();
    let mut program = start("-d 2 --stats 100ms", addresses(std::slice::from_ref(&server)));
    let mut peer = server.accept();
    peer.send("1\n2\nx\n");
    let line = program.wait_for_log("1 of 1 connected; ");
    assert!(line.contains(" lines/s, "), "{line}");
    program.wait_for_log("; 3 lines, 1 record printed, 1 malformed, 0 failures");
    stop(&mut program);
}

#[test]
fn a_service_manager_is_told_of_the_start_the_reload_the_watchdog_and_the_stop() {
    let server = Server::bind();
    let file = ListFile::new("systemd", format!("{}\n", server.address()));
    let path = std::env::temp_dir().join(format!("tcpcore-notify-{}", std::process::id()));
    _ = fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut command = tcpcore(&format!("-f {}", file.path()), NONE);
    // Half of it is the time between two reports.
    let watchdog = Duration::from_millis(200).as_micros().to_string();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", watchdog);
    let mut program = Program::spawn(&mut command);
    let wait_for = |expected: &str| {
        let mut buffer = [0; 4096];
        loop {
            let len =
                socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{expected}: {error}"));
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if text.contains(expected) {
                return text;
            }
        }
    };
    let ready = wait_for("READY=1");
    let _peer = server.accept();
    // It may have been connected before.
    if !ready.contains("STATUS=1 of 1 connected") {
        wait_for("STATUS=1 of 1 connected");
    }
    // The first report has nothing to compare with, the others follow turns of the workers.
    for _ in 0..4 {
        wait_for("WATCHDOG=1");
    }
    program.signal(Signal::HUP);
    let text = wait_for("RELOADING=1");
    assert!(text.contains("MONOTONIC_USEC="), "{text}");
    wait_for("READY=1");
    program.signal(Signal::TERM);
    wait_for("STOPPING=1");
    assert_eq!(program.wait_exit().code(), Some(0));
    fs::remove_file(&path).unwrap();
}

/// The master end of a terminal, and its other end as the stderr of a program.
#[cfg(target_os = "linux")]
fn terminal() -> (fs::File, Stdio) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let size = Winsize { ws_row: 24, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&master, size).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = fs::OpenOptions::new().read(true).write(true).open(name.to_str().unwrap());
    (master.into(), slave.unwrap().into())
}

#[cfg(target_os = "linux")]
#[test]
fn totals_on_a_terminal_are_one_line_that_never_tears_the_log() {
    let (server, down) = (Server::bind(), Down::new());
    let (mut master, stderr) = terminal();
    let list = [server.address().to_string(), down.to_string()];
    let mut command = tcpcore("-d 1 --initial-backoff 1h --max-backoff 1h --stats 100ms", &list);
    command.env_remove("NO_COLOR").env("TERM", "dumb").stdout(Stdio::piped()).stderr(stderr);
    let mut program = command.spawn().unwrap();
    // The other end is closed here, so that the end of the program is that of the terminal.
    drop(command);
    let mut peer = server.accept();
    let mut seen = String::new();
    let mut read_until = |done: &dyn Fn(&str) -> bool| {
        let mut buffer = [0; 4096];
        while !done(&seen) {
            match master.read(&mut buffer) {
                Ok(len) if len > 0 => seen += &String::from_utf8_lossy(&buffer[..len]),
                // The terminal has no other end left.
                _ => break,
            }
        }
        seen.clone()
    };
    read_until(&|seen| seen.contains("1 of 2 connected, 1 waiting; "));
    peer.send("1\n");
    let pid = Pid::from_child(&program);
    for tables in 1..=5 {
        kill_process(pid, Signal::USR1).unwrap();
        // The last row of a table.
        read_until(&|seen| seen.matches(": connected, up for ").count() == tables);
    }
    kill_process(pid, Signal::TERM).unwrap();
    let all = read_until(&|_| false);
    assert!(program.wait().unwrap().success());
    let mut lines: Vec<&str> = all.split("\r\n").collect();
    // It is cleared at the end, if it was shown after the last line.
    let last = lines.pop().unwrap();
    assert!(last.is_empty() || last.ends_with("\r\x1b[K"), "{all:?}");
    let mut renewed = 0;
    for line in lines {
        let (before, logged) = line.rsplit_once("\r\x1b[K").unwrap_or(("", line));
        assert!(logged.starts_with("[20"), "a torn line: {line:?}");
        for text in before.split("\r\x1b[K") {
            assert!(text.len() < 60 && !text.contains("[20"), "{text:?}");
            renewed += usize::from(text.contains(" of 2 connected"));
        }
    }
    assert!(renewed > 1, "{all:?}");
}

/// A socket in the place of systemd's, which has no room for a message until it is [emptied](Self::empty).
struct FullSocket {
    socket: UnixDatagram,
    path: std::path::PathBuf,
}

impl FullSocket {
    const FILLER: &'static [u8] = b"X=1";

    fn bind(name: &str) -> FullSocket {
        let path = std::env::temp_dir().join(format!("tcpcore-{name}-{}", std::process::id()));
        _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let full = FullSocket { socket, path };
        full.fill();
        full
    }

    fn fill(&self) {
        let sender = UnixDatagram::unbound().unwrap();
        sender.set_nonblocking(true).unwrap();
        while sender.send_to(Self::FILLER, &self.path).is_ok() {}
    }

    /// Receives messages until one has this text. Returns the messages.
    fn empty(&self, until: &str) -> Vec<String> {
        let mut buffer = [0; 4096];
        let mut received = Vec::new();
        loop {
            let len = self.socket.recv(&mut buffer).unwrap_or_else(|error| {
                panic!("{until}: {error} after {received:?}");
            });
            if &buffer[..len] != Self::FILLER {
                received.push(String::from_utf8_lossy(&buffer[..len]).into_owned());
            }
            if received.last().is_some_and(|message| message.contains(until)) {
                return received;
            }
        }
    }
}

impl Drop for FullSocket {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.path);
    }
}

#[test]
fn a_service_manager_that_does_not_read_holds_up_nothing_and_gets_its_messages_later() {
    let server = Server::bind();
    let file = ListFile::new("full-socket", format!("{}\n", server.address()));
    let full = FullSocket::bind("full-socket");
    let mut command = tcpcore(&format!("-d 1 -f {}", file.path()), NONE);
    command.env("NOTIFY_SOCKET", &full.path);
    // Stdout is not read, so the program cannot end before this test lets it.
    let (mut program, stdout) = Program::spawn_unread(&mut command);
    let mut peer = server.accept();
    program.wait_for_log("Connected successfully to");
    program.signal(Signal::USR1);
    program.wait_for_log("1 of 1 connected");
    full.empty("READY=1");

    full.fill();
    program.signal(Signal::HUP);
    program.wait_for_log("Read the servers again: 1 kept server");
    program.signal(Signal::HUP);
    program.wait_for_log("Read the servers again: 1 kept server");
    let received = full.empty("READY=1");
    let reloading = received.iter().position(|message| message.starts_with("RELOADING=1"));
    assert_eq!(reloading.map(|index| index + 2), Some(received.len()), "{received:?}");

    full.fill();
    // More than the pipe and the reader's first lines hold.
    peer.send((0..200_000).map(|number| format!("{number}\n")).collect::<String>());
    program.signal(Signal::TERM);
    program.wait_for_log("Stopping on SIGTERM");
    full.empty("STOPPING=1");
    lines_of(stdout).for_each(drop);
    assert_eq!(program.wait_exit().code(), Some(0));
}

#[test]
fn with_once_a_reload_adds_servers_that_are_read_once_also_to_a_worker_whose_own_have_ended() {
    let servers = [Server::bind(), Server::bind(), Server::bind()];
    let [first, second, third] = servers.each_ref().map(Server::address);
    let file = ListFile::new("once", format!("{first}\n{second}\n"));
    let mut program = start(&format!("--once -d 1 -p 2 -f {}", file.path()), NONE);
    let mut peer = servers[1].accept();
    // The first worker has this server alone.
    servers[0].accept().send("1\n");
    assert_eq!(program.next_line().as_deref(), Some("1"));
    program.wait_for_log(&format!("Read {first} to its end"));

    fs::write(file.path(), format!("{first}\n{second}\n{third}\n")).unwrap();
    program.signal(Signal::HUP);
    program.wait_for_log("Read the servers again: 2 kept servers, 1 added, 0 removed");
    servers[2].accept().send("3\n");
    assert_eq!(program.next_line().as_deref(), Some("3"));
    program.wait_for_log(&format!("Read {third} to its end"));
    assert!(servers[0].accept_within(Duration::ZERO).is_none(), "it was read once");
    peer.send("2\n");
    peer.close();
    assert_eq!(program.next_line().as_deref(), Some("2"));
    assert_eq!(program.wait_exit().code(), Some(0));
}

/// Sets the soft limit of the open files of a program.
#[cfg(target_os = "linux")]
fn limit_files(program: &Program, limit: u64) -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: Some(limit), maximum };
    prlimit(Some(program.pid()), Resource::Nofile, limit).unwrap().current
}

#[cfg(target_os = "linux")]
#[test]
fn a_list_that_is_watched_and_could_not_be_read_is_read_at_the_next_look() {
    let servers = [Server::bind(), Server::bind()];
    let [first, second] = servers.each_ref().map(Server::address);
    let file = ListFile::new("unread", format!("{first}\n"));
    let mut program = start(&format!("-d 1 --watch -f {}", file.path()), NONE);
    let _peer = servers[0].accept();
    // The program can open nothing more.
    let limit = limit_files(&program, 3).unwrap();
    fs::write(file.path(), format!("{first}\n{second}\n")).unwrap();
    let line = program.wait_for_log("The servers stay as they are: ");
    assert!(line.contains("Too many open files"), "{line}");
    limit_files(&program, limit);
    servers[1].accept().send("5\n");
    assert_eq!(program.next_line().as_deref(), Some("5"));
    stop(&mut program);
}
