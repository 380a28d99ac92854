//! Tests how servers are divided among workers.

use std::thread;
use std::time::Duration;

use crate::common::Server;
use crate::{AT_ONCE, Down, addresses, start, stop};

/// Asserts the slice in the log of each task, and that there is no other task.
fn assert_slices(flags: &str, servers: usize, expected: &[(usize, usize)]) {
    let server = Server::bind();
    let mut program = start(flags, vec![server.address(); servers]);
    let _peers: Vec<_> = (0..servers).map(|_| server.accept()).collect();
    stop(&mut program);
    let is_task = |line: &&String| line.contains("] Task index ");
    let tasks: Vec<&String> = program.log().iter().filter(is_task).collect();
    assert_eq!(tasks.len(), expected.len(), "{tasks:?}");
    let count = expected.len();
    for (index, (line, (start, end))) in tasks.iter().zip(expected).enumerate() {
        let expected =
            format!("] Task index {index} out of {count} allocated servers {start} to {end}");
        assert!(line.ends_with(&expected), "{line}");
    }
}

#[test]
fn four_servers_over_four_workers() {
    assert_slices("-p 4", 4, &[(0, 1), (1, 2), (2, 3), (3, 4)]);
}

#[test]
fn four_servers_over_two_workers() {
    assert_slices("-p 2", 4, &[(0, 2), (2, 4)]);
}

#[test]
fn three_servers_over_two_workers() {
    assert_slices("-p 2", 3, &[(0, 2), (2, 3)]);
}

#[test]
fn five_servers_over_four_workers_leave_none_idle() {
    assert_slices("-p 4", 5, &[(0, 2), (2, 3), (3, 4), (4, 5)]);
}

#[test]
fn without_parallelism_there_are_as_many_workers_as_cores_and_at_most_one_per_server() {
    let cores = thread::available_parallelism().unwrap().get();
    let mut expected = vec![(0, 2)];
    expected.extend((1..cores).map(|index| (index + 1, index + 2)));
    assert_slices("", cores + 1, &expected);
    assert_slices("", 1, &[(0, 1)]);
}

#[test]
fn surplus_workers_are_not_started_and_one_warning_says_so() {
    let servers = [Server::bind(), Server::bind()];
    let mut program = start("-p 5", addresses(&servers));
    program.wait_for_log("Task index 1 out of 2");
    let _peers = servers.each_ref().map(Server::accept);
    #[cfg(target_os = "linux")]
    {
        let tasks = format!("/proc/{}/task", program.pid().as_raw_nonzero());
        let names = std::fs::read_dir(tasks).unwrap().map(|task| {
            std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap().trim().to_owned()
        });
        let mut workers: Vec<_> = names.filter(|name| name.starts_with("worker-")).collect();
        workers.sort();
        assert_eq!(workers, ["worker-0", "worker-1"]);
    }
    stop(&mut program);
    let warnings: Vec<_> = program.log().iter().filter(|line| line.contains(" WARN ")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("Parallelism 5"), "{warnings:?}");
}

#[test]
fn a_task_is_initialized_once_all_of_its_slice_have_been_connected_for_the_first_time() {
    let (first, down, third) = (Server::bind(), Down::new(), Server::bind());
    let servers = [first.address(), down.address, third.address()];
    // So that each loss starts a new count of failures, and is logged.
    let flags = format!("-p 2 {AT_ONCE} --reset-backoff-threshold 0s");
    let mut program = start(&flags, servers);
    let (mut peer, _third_peer) = (first.accept(), third.accept());
    program.wait_for_log("Initialized sockets and readers for task index 1");
    program.wait_for_log(&format!("Connected successfully to {}", first.address()));
    // A reconnect of the first server does not replace the missing connect of another.
    peer.close();
    peer = first.accept();
    program.wait_for_log(&format!("Connected successfully to {}", first.address()));
    program.wait_for_log(&format!("Connection refused by {down}"));
    peer.send("6\n");
    assert_eq!(program.next_line().as_deref(), Some("6"));
    let early = program.log().iter().find(|line| line.contains("for task index 0"));
    assert_eq!(early, None);

    let second = down.up();
    let mut second_peer = second.accept();
    program.wait_for_log(&format!("Connected successfully to {down}"));
    program.wait_for_log("Initialized sockets and readers for task index 0");
    // The return after many failures does not count as another first connection.
    second_peer.send("\n");
    second_peer.close();
    let _second_peer = second.accept();
    program.wait_for_log(&format!("Connected successfully to {down}"));
    stop(&mut program);
    let initialized = program.log().iter().filter(|line| line.contains("Initialized"));
    assert_eq!(initialized.count(), 2, "each task once");
}

#[test]
fn each_server_is_dialed_by_one_worker_only() {
    let servers: Vec<_> = (0..5).map(|_| Server::bind()).collect();
    let mut program = start("-p 4", crate::addresses(&servers));
    let _peers: Vec<_> = servers.iter().map(Server::accept).collect();
    for _ in &servers {
        program.wait_for_log("Connected successfully to");
    }
    assert_eq!(stop(&mut program).get("connects"), 5);
    for server in &servers {
        assert!(server.accept_within(Duration::ZERO).is_none());
    }
}
