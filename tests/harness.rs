//! Tests the tools of the other tests on plain sockets and standard programs. A test that passes because a
//! reset was never sent is worse than no test.
#![cfg(all(feature = "cli", unix))]

mod common;

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use common::{DEADLINE, Peer, Program, Server, Signal};

#[test]
fn closing_a_peer_ends_the_stream_after_all_sent_bytes() {
    let (mut peer, mut client) = connected(&Server::bind());
    peer.send("12\n");
    peer.close();
    let mut received = String::new();
    client.read_to_string(&mut received).unwrap();
    assert_eq!(received, "12\n");
}

#[test]
fn resetting_a_peer_is_an_error_for_its_client() {
    let (peer, mut client) = connected(&Server::bind());
    peer.reset();
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn wait_closed_returns_after_a_close_and_after_a_reset() {
    let server = Server::bind();
    let (peer, client) = connected(&server);
    drop(client);
    peer.wait_closed();

    let (peer, client) = connected(&server);
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    peer.wait_closed();
}

#[test]
fn a_closed_server_refuses_keeps_its_peers_and_can_listen_again_on_its_port() {
    let server = Server::bind();
    let (mut peer, mut client) = connected(&server);
    let address = server.close();
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    peer.send("6");
    client.read_exact(&mut [0]).unwrap();

    let again = Server::bind_at(address);
    assert_eq!(again.address(), address);
    connected(&again);
}

#[test]
fn accept_within_ends_without_a_connection() {
    assert!(Server::bind().accept_within(Duration::from_millis(1)).is_none());
}

#[test]
fn log_lines_are_found_in_any_order_and_returned_once() {
    let mut program = shell("echo one one >&2; echo two >&2; echo one >&2");
    assert_eq!(program.wait_for_log("two"), "two");
    assert_eq!(program.wait_for_log("one"), "one one");
    assert_eq!(program.wait_for_log("one"), "one");
    assert_eq!(program.wait_exit().code(), Some(0));
    assert_eq!(program.log(), ["one one", "two", "one"]);
}

#[test]
#[should_panic(expected = "stderr ended without \"two\"; the program wrote\n--- stdout")]
fn a_missing_log_line_fails_with_the_output() {
    shell("echo one >&2").wait_for_log("two");
}

#[test]
fn lines_of_stdout_can_be_read_after_the_program_has_ended() {
    let mut program = shell("printf '6\\n12\\n18'; exit 3");
    assert_eq!(program.next_line().as_deref(), Some("6"));
    assert_eq!(program.wait_exit().code(), Some(3));
    assert_eq!(program.remaining_lines(), ["12", "18"]);
    assert_eq!(program.next_line(), None);
}

#[test]
fn a_signal_ends_a_program() {
    let mut program = shell("echo ready; exec sleep 3600");
    program.next_line();
    program.signal(Signal::TERM);
    assert_eq!(program.wait_exit().signal(), Some(Signal::TERM.as_raw()));
}

#[test]
fn a_dropped_program_is_killed_and_reaped() {
    let mut program = shell("echo ready; exec sleep 3600");
    program.next_line();
    let pid = program.pid();
    drop(program);
    let probed = rustix::process::test_kill_process(pid);
    assert_eq!(probed, Err(rustix::io::Errno::SRCH));
}

fn connected(server: &Server) -> (Peer, TcpStream) {
    let client = TcpStream::connect(server.address()).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    (server.accept(), client)
}

fn shell(script: &str) -> Program {
    Program::spawn(Program::command("sh").args(["-c", script]))
}
