//! Tests how the program ends without a signal.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::common::{Program, Server};
use crate::{Down, Totals, addresses, by_shell, start, tcpcore};

/// A file of one test, removed at its end.
struct TestFile(PathBuf);

impl TestFile {
    fn new(name: &str) -> TestFile {
        TestFile(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}

/// Batch systems limit the sizes of files. The program must not be killed by SIGXFSZ.
#[test]
fn a_file_at_its_limit_keeps_whole_lines_and_the_error_counts_the_lost_numbers() {
    const LINES: usize = 20_000;
    for (index, traps) in ["", "trap '' XFSZ;"].into_iter().enumerate() {
        let server = Server::bind();
        let file = TestFile::new(&format!("limited-{index}"));
        fs::write(&file.0, "0\n").unwrap();
        // The unit is 512 or 1024 bytes. Either limit is too small for all lines.
        let prepare = format!("ulimit -c 0; ulimit -f 8; {traps} >> '{}'", file.0.display());
        let program = tcpcore("-d 1 --once", [server.address()]);
        let mut program = Program::spawn(&mut by_shell(&prepare, &program));
        let mut peer = server.accept();
        peer.send("123456\n".repeat(LINES));
        peer.close();
        assert_eq!(program.wait_exit().code(), Some(1), "{:?}", program.log());
        let text = fs::read_to_string(&file.0).unwrap();
        assert!((4000..=8192).contains(&text.len()), "{} bytes", text.len());
        let lines = text.strip_prefix("0\n").unwrap().split_inclusive('\n');
        let written = lines.inspect(|line| assert_eq!(*line, "123456\n")).count();
        let totals = Totals::of(&program);
        assert_eq!(totals.get("records printed"), written as u64);
        let lost = totals.get("lines") - written as u64;
        let errors: Vec<_> = program.log().iter().filter(|line| line.contains(" ERROR")).collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains("File too large"), "{errors:?}");
        let expected = format!("; {lost} records were read and not printed");
        assert!(errors[0].ends_with(&expected), "{errors:?}, {expected}");
    }
}

#[test]
fn a_log_file_at_its_limit_does_not_end_the_program() {
    let (server, file) = (Server::bind(), TestFile::new("limited-log"));
    let prepare = format!("ulimit -c 0; ulimit -f 0; 2> '{}'", file.0.display());
    let program = tcpcore("-vv --once", [server.address()]);
    let mut program = Program::spawn(&mut by_shell(&prepare, &program));
    let mut peer = server.accept();
    peer.send("6\nx\n12\n");
    peer.close();
    assert_eq!(program.remaining_lines(), ["6", "12"]);
    assert_eq!(program.wait_exit().code(), Some(0));
    assert_eq!(fs::read_to_string(&file.0).unwrap(), "");
}

#[test]
fn once_reads_each_server_to_its_end_and_ends_with_status_0() {
    let servers = [Server::bind(), Server::bind(), Server::bind()];
    let mut program = start("--once -p 2", addresses(&servers));
    let mut peers = servers.each_ref().map(Server::accept).map(Some);
    // The servers end in neither their order nor its reverse, and each sends after another has ended.
    for index in [2, 0, 1] {
        let mut peer = peers[index].take().unwrap();
        peer.send(format!("{}\njunk\n{}\n12", index * 6, index * 60));
        peer.close();
        assert_eq!(program.next_line(), Some((index * 6).to_string()));
        assert_eq!(program.next_line(), Some((index * 60).to_string()));
    }
    assert_eq!(program.next_line(), None);
    assert_eq!(program.wait_exit().code(), Some(0));
    for server in &servers {
        assert!(server.accept_within(Duration::ZERO).is_none(), "connected once");
    }
}

#[test]
fn once_ends_with_status_1_if_a_connect_failed_and_reads_the_other_servers() {
    let (server, down) = (Server::bind(), Down::new());
    let mut program = start("--once -p 1", [down.address, server.address()]);
    program.wait_for_log(&format!("Connection refused by {down}"));
    let mut peer = server.accept();
    peer.send("6\n");
    peer.close();
    assert_eq!(program.remaining_lines(), ["6"]);
    assert_eq!(program.wait_exit().code(), Some(1));
    let attempts = program.log().iter().filter(|line| line.contains("Trying to connect to"));
    assert_eq!(attempts.count(), 2, "one each");
}

#[test]
fn once_ends_with_status_1_if_a_connection_ended_by_an_error() {
    let server = Server::bind();
    let mut program = start("--once", [server.address()]);
    let mut peer = server.accept();
    peer.send("6\n");
    assert_eq!(program.next_line().as_deref(), Some("6"));
    peer.reset();
    assert_eq!(program.wait_exit().code(), Some(1));
    assert_eq!(program.next_line(), None);
    assert!(server.accept_within(Duration::ZERO).is_none(), "connected once");
}

#[test]
fn once_counts_all_addresses_of_a_name_as_one_attempt() {
    let server = Server::bind();
    let mut program = start("--once", [format!("localhost:{}", server.port())]);
    let mut peer = server.accept();
    peer.send("6\n");
    peer.close();
    assert_eq!(program.remaining_lines(), ["6"]);
    assert_eq!(program.wait_exit().code(), Some(0));
}
