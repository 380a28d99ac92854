//! Tests the list file: its servers, its errors, and the check without dialing.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::{Program, Server};
use crate::tcpcore;

/// A list file, removed on drop.
pub(crate) struct ListFile(PathBuf);

impl ListFile {
    pub(crate) fn new(name: &str, text: impl AsRef<[u8]>) -> ListFile {
        let name = format!("tcpcore-list-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        ListFile(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for ListFile {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}

fn program(args: &[&str]) -> Command {
    let mut command = Program::command(env!("CARGO_BIN_EXE_tcpcore"));
    command.args(args);
    command
}

/// Returns the status, stdout and stderr of a program that ends by itself.
fn output(args: &[&str]) -> (Option<i32>, Vec<String>, Vec<String>) {
    let mut program = Program::spawn(&mut program(args));
    let status = program.wait_exit().code();
    (status, program.remaining_lines(), program.log().to_vec())
}

/// Returns the stderr of a program that refuses `args`.
fn refusal(args: &[&str]) -> Vec<String> {
    let (status, stdout, stderr) = output(args);
    assert_eq!((status, stdout), (Some(2), vec![]), "{args:?}: {stderr:?}");
    stderr
}

#[test]
fn the_servers_of_a_file_come_after_those_of_the_arguments_and_are_shown_by_name() {
    let servers = [Server::bind(), Server::bind(), Server::bind()];
    let [first, second, third] = servers.each_ref().map(Server::address);
    let text = format!("# gates\r\n{second}\tname=gate-7 # north\r\n\r\n{third}\r\n");
    let file = ListFile::new("names", text);
    let flags = format!("--once -p 1 -d 1 --format tsv -f {}", file.path());
    let mut program = Program::spawn(&mut tcpcore(&flags, [first]));
    program.wait_for_log("allocated servers 0 to 3");
    program.wait_for_log(&format!("Connected successfully to gate-7 ({second})"));
    for (server, number) in servers.iter().zip(["1\n", "2\n", "3\n"]) {
        server.accept().send(number);
    }
    assert_eq!(program.wait_exit().code(), Some(0), "{:?}", program.log());
    let mut lines = program.remaining_lines();
    lines.sort_by_key(|line| line.split('\t').nth(1).unwrap().to_owned());
    assert_eq!(lines, [format!("{first}\t1"), "gate-7\t2".into(), format!("{third}\t3")]);
}

#[test]
fn a_json_record_has_the_name_of_its_server() {
    let server = Server::bind();
    let file = ListFile::new("json", format!("{} name=m\u{fc}hle\\1\n", server.address()));
    let flags = format!("--once --lines --format json -f {}", file.path());
    let mut program = Program::spawn(&mut tcpcore(&flags, [""; 0]));
    server.accept().send("x\n");
    assert_eq!(program.wait_exit().code(), Some(0), "{:?}", program.log());
    let line = program.next_line().unwrap();
    let record: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(record["server"], "m\u{fc}hle\\1");
}

#[test]
fn a_list_is_read_from_stdin() {
    let mut command = program(&["--check", "-f", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (text, status, stdout, stderr) in [
        ("a:1\nb:2 name=x\n", 0, "2 servers, 1 worker: ok\n", ""),
        ("a:1\nb\n", 2, "", "tcpcore: stdin:2:1: \"b\": no port, expected host:port\n"),
    ] {
        let mut child = command.arg("-p1").spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(status));
        assert_eq!(String::from_utf8_lossy(&output.stdout), stdout);
        assert_eq!(String::from_utf8_lossy(&output.stderr), stderr);
    }
}

#[test]
fn a_check_prints_one_line_and_dials_nothing() {
    let server = Server::bind();
    let address = server.address().to_string();
    let file = ListFile::new("check", "a:1\nb:2\nc:3\n");
    for (args, summary) in [
        (&["--check", &address][..], "1 server, 1 worker: ok"),
        (&[&address, "--check", "-p", "2", "-f", file.path()], "4 servers, 2 workers: ok"),
        (&["--check", "-p9", "-f", file.path(), "--watch"], "3 servers, 9 workers: ok"),
    ] {
        assert_eq!(output(args), (Some(0), vec![summary.into()], vec![]), "{args:?}");
    }
    assert!(server.accept_within(Duration::ZERO).is_none(), "it was dialed");
    assert_eq!(refusal(&["--check", "a"]), ["tcpcore: \"a\": no port, expected host:port"]);
    assert_eq!(refusal(&["--check", &address, "-d0"]).len(), 1);
}

#[test]
fn each_wrong_line_is_named_up_to_eight_and_nothing_is_dialed() {
    let server = Server::bind();
    let text = format!("{} name=x\na:1 nmae=y\n  b\n{}", server.address(), "c:\n".repeat(8));
    let file = ListFile::new("errors", text);
    for args in [&["-f", file.path()][..], &["--check", "-f", file.path()]] {
        let lines = refusal(args);
        assert_eq!(lines.len(), 9, "{lines:#?}");
        let start = format!("tcpcore: {}", file.path());
        assert_eq!(
            lines[..2],
            [
                format!(
                    "{start}:2:5: \"nmae\": no such field, expected name=VALUE; did you mean name=?"
                ),
                format!("{start}:3:3: \"b\": no port, expected host:port"),
            ]
        );
        assert_eq!(lines[8], "tcpcore: and 2 more lines with errors");
    }
    assert!(server.accept_within(Duration::ZERO).is_none(), "it was dialed");
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_remedy() {
    let expected = "expected a file with a server a line";
    let folder = std::env::temp_dir();
    let absent = folder.join("tcpcore-no-such-list");
    for (path, problem) in [
        (absent.to_str().unwrap(), format!("no such file, {expected}; check the path")),
        (folder.to_str().unwrap(), format!("a directory, {expected}; name a file in it")),
    ] {
        assert_eq!(refusal(&["-f", path]), [format!("tcpcore: {path}: {problem}")]);
    }
}

#[test]
fn a_file_may_have_no_server_yet_and_stdin_needs_one() {
    let file = ListFile::new("none", "# none yet\n");
    let (status, stdout, _) = output(&["--check", "-p", "2", "-f", file.path()]);
    assert_eq!((status, stdout), (Some(0), vec!["0 servers, 2 workers: ok".into()]));
    // The stdin of the program is empty.
    assert_eq!(
        refusal(&["-f", "-"]),
        ["tcpcore: stdin: no servers in it, expected at least one, as host:port on a line"]
    );
}

#[test]
fn bad_usage_is_named_before_the_file_is_read() {
    assert_eq!(
        refusal(&["-f", "/no/such/file", "-d", "0"]),
        ["tcpcore: -d: 0 is not allowed, expected a whole number from 1 to 9223372036854775807"]
    );
}
