//! Tests a list that is cut over several processes.

use std::fs;
use std::time::Duration;

use tcpcore::{Shard, ShardBy};

use crate::common::{Program, Server, Signal};
use crate::list::ListFile;
use crate::status::page;
use crate::{addresses, start, stop, tcpcore};

/// No server, beside those of the file.
const NONE: [&str; 0] = [];

fn servers(count: usize) -> Vec<Server> {
    (0..count).map(|_| Server::bind()).collect()
}

/// Returns the index of the shard that has each server.
fn owners(servers: &[Server], count: u32, by: ShardBy) -> Vec<usize> {
    let list: Vec<tcpcore::Server> =
        servers.iter().map(|server| server.address().to_string().parse().unwrap()).collect();
    let has = |index, server| Shard::new(index, count, by).unwrap().part(&list).contains(server);
    let owner = |server| (0..count).find(|index| has(*index, server)).unwrap();
    list.iter().map(|server| owner(server) as usize).collect()
}

/// Returns the text of a list file.
fn list_of<'a>(servers: impl IntoIterator<Item = &'a Server>) -> String {
    servers.into_iter().map(|server| format!("{}\n", server.address())).collect()
}

#[test]
fn the_outputs_of_three_shards_are_together_those_of_one_process() {
    for by in ["slice", "hash"] {
        let servers = servers(12);
        let file = ListFile::new(&format!("shards-{by}"), list_of(&servers[5..]));
        let mut programs: Vec<Program> = (0..3)
            .map(|index| {
                let flags =
                    format!("--once -d 1 --shard {index}/3 --shard-by {by} -f {}", file.path());
                start(&flags, addresses(&servers[..5]))
            })
            .collect();
        // Each number says which server has sent it: 3002 is the second one of server 3.
        for (number, server) in servers.iter().enumerate() {
            let first = 1000 * number + 1;
            server.accept().send(format!("{first}\n{}\n", first + 1));
        }
        let expected = owners(&servers, 3, by.parse().unwrap());
        let mut union = Vec::new();
        for (index, program) in programs.iter_mut().enumerate() {
            assert_eq!(program.wait_exit().code(), Some(0));
            let lines = program.remaining_lines();
            let numbers: Vec<usize> = lines.iter().map(|line| line.parse().unwrap()).collect();
            assert!(numbers.iter().all(|number| expected[number / 1000] == index), "{numbers:?}");
            union.extend(numbers);
        }
        union.sort_unstable();
        let all = (0..12).flat_map(|number| [1000 * number + 1, 1000 * number + 2]);
        assert_eq!(union, all.collect::<Vec<_>>());
        for server in &servers {
            assert!(server.accept_within(Duration::ZERO).is_none(), "it was dialed twice");
        }
    }
}

#[test]
fn the_log_the_records_the_metrics_and_the_table_name_the_shard() {
    let servers = servers(3);
    let flags = "-d 1 --format json --log-format json --status-addr 127.0.0.1:0 --shard auto";
    let mut command = tcpcore(flags, addresses(&servers));
    // The tests may themselves run in a pod or in a job.
    command.env_clear();
    command.env("TCPCORE_SLOT", "2").env("TCPCORE_SHARDS", "3");
    let mut program = Program::spawn(&mut command);
    let line = program.wait_for_log("Shard 1/3 takes 1 of 3 servers by slice");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["shard"], &line["servers"], &line["listed"]),
        (&"1/3".into(), &1.into(), &3.into())
    );
    let message = line["message"].as_str().unwrap();
    assert!(message.ends_with(", as said by TCPCORE_SHARDS, TCPCORE_SLOT"), "{message}");
    let mut peer = servers[1].accept();
    peer.send("7\n");
    let record: serde_json::Value = serde_json::from_str(&program.next_line().unwrap()).unwrap();
    assert_eq!((&record["shard"], &record["number"]), (&"1/3".into(), &7.into()));
    let connected = program.wait_for_log("Connected successfully to");
    assert!(connected.contains("\"shard\":\"1/3\""), "{connected}");
    let status = program.wait_for_log("Status on http://");
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let address = status["message"].as_str().unwrap().split("http://").nth(1).unwrap();
    let address = address.trim_end_matches('/').parse().unwrap();
    let (_, metrics) = page(address, "/metrics");
    assert!(metrics.contains("tcpcore_shard_info{index=\"1\",count=\"3\"} 1\n"), "{metrics}");
    let (_, json) = page(address, "/status.json");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["shard"], serde_json::json!({"index": 1, "count": 3}));
    program.signal(Signal::USR1);
    program.wait_for_log("Shard 1/3: 1 of 1 connected");
    program.signal(Signal::TERM);
    assert_eq!(program.wait_exit().code(), Some(0));
}

#[test]
fn without_a_shard_nothing_names_one() {
    let server = Server::bind();
    let flags = "-d 1 --format json --log-format json --status-addr 127.0.0.1:0";
    let mut program = start(flags, [server.address()]);
    server.accept().send("7\n");
    assert!(!program.next_line().unwrap().contains("shard"));
    program.signal(Signal::TERM);
    program.wait_exit();
    assert!(!program.log().join("\n").to_lowercase().contains("shard"));
}

#[test]
fn a_reload_cuts_the_new_list_and_a_server_that_stays_in_the_shard_keeps_its_connection() {
    let servers = servers(4);
    let file = ListFile::new("shard-reload", list_of(&servers));
    let mut programs =
        [0, 1].map(|index| start(&format!("-d 1 --shard {index}/2 -f {}", file.path()), NONE));
    let [mut first, mut second, mut third, fourth] =
        [0, 1, 2, 3].map(|server| servers[server].accept());
    first.send("1\n2");
    assert_eq!(programs[0].next_line().as_deref(), Some("1"));
    third.send("30\n");
    assert_eq!(programs[1].next_line().as_deref(), Some("30"));

    // Of four servers and of three, the first two are in the first shard.
    fs::write(file.path(), list_of(&servers[..3])).unwrap();
    for program in &mut programs {
        program.signal(Signal::HUP);
    }
    let kept = "Read the servers again: 2 kept servers, 0 added, 0 removed; shard 0/2 takes 2 of 3 servers";
    programs[0].wait_for_log(kept);
    let kept =
        "Read the servers again: 1 kept server, 0 added, 1 removed; shard 1/2 takes 1 of 3 servers";
    programs[1].wait_for_log(kept);
    fourth.wait_closed();
    first.send("3\n");
    second.send("20\n");
    third.send("31\n");
    let mut lines = [programs[0].next_line().unwrap(), programs[0].next_line().unwrap()];
    lines.sort();
    assert_eq!(lines, ["20", "23"], "an unfinished line stays");
    assert_eq!(programs[1].next_line().as_deref(), Some("31"));

    // One more at the front moves the second server from the first shard to the other one.
    let added = Server::bind();
    fs::write(file.path(), list_of([&added].into_iter().chain(&servers[..3]))).unwrap();
    for program in &mut programs {
        program.signal(Signal::HUP);
    }
    programs[0].wait_for_log("1 kept server, 1 added, 1 removed; shard 0/2 takes 2 of 4 servers");
    programs[1].wait_for_log("1 kept server, 1 added, 0 removed; shard 1/2 takes 2 of 4 servers");
    second.wait_closed();
    let mut moved = servers[1].accept();
    moved.send("21\n");
    assert_eq!(programs[1].next_line().as_deref(), Some("21"));
    let _added = added.accept();
    for program in &mut programs {
        stop(program);
    }
}

#[test]
fn an_edit_of_the_list_moves_no_server_by_hash() {
    let servers = servers(6);
    let file = ListFile::new("shard-hash", list_of(&servers[..5]));
    let before = owners(&servers, 2, ShardBy::Hash);
    let mut programs = [0, 1].map(|index| {
        start(&format!("-d 1 --shard {index}/2 --shard-by hash -f {}", file.path()), NONE)
    });
    let peers: Vec<_> = servers[..5].iter().map(Server::accept).collect();
    // The first one is removed, and one is added at the end.
    fs::write(file.path(), list_of(&servers[1..])).unwrap();
    for (index, program) in programs.iter_mut().enumerate() {
        program.signal(Signal::HUP);
        let of = |servers: &[usize]| servers.iter().filter(|owner| **owner == index).count();
        let (added, removed) = (of(&before[5..]), of(&before[..1]));
        program.wait_for_log(&format!(", {added} added, {removed} removed; shard {index}/2"));
    }
    let _added = servers[5].accept();
    for (index, mut peer) in peers.into_iter().enumerate().skip(1) {
        peer.send(format!("{index}\n"));
        assert_eq!(programs[before[index]].next_line(), Some(index.to_string()));
        assert!(servers[index].accept_within(Duration::ZERO).is_none());
    }
    for program in &mut programs {
        stop(program);
    }
}

#[test]
fn a_shard_without_a_server_ends_with_status_0_or_waits_if_it_has_a_list_file() {
    let server = Server::bind();
    let mut program = start("--shard 1/2", [server.address()]);
    assert_eq!(program.wait_exit().code(), Some(0));
    program.wait_for_log("Shard 1/2 takes 0 of 1 server by slice");
    program.wait_for_log("No server of the list is in shard 1/2; nothing to do");
    assert_eq!(program.next_line(), None);

    let file = ListFile::new("shard-empty", list_of([&server]));
    let mut program = start(&format!("-d 1 --shard 1/2 -f {}", file.path()), NONE);
    program.wait_for_log("No server of the list is in shard 1/2; waiting for a change");
    let second = Server::bind();
    fs::write(file.path(), list_of([&server, &second])).unwrap();
    program.signal(Signal::HUP);
    second.accept().send("5\n");
    assert_eq!(program.next_line().as_deref(), Some("5"));
    stop(&mut program);

    // A job that reads each server once has no server to wait for.
    fs::write(file.path(), list_of([&server])).unwrap();
    let mut program = start(&format!("--once --shard 1/2 -f {}", file.path()), NONE);
    assert_eq!(program.wait_exit().code(), Some(0));
    assert!(server.accept_within(Duration::ZERO).is_none(), "it is in the other shard");
}

#[test]
fn a_check_prints_how_many_servers_of_the_list_are_in_the_shard() {
    let file = ListFile::new("shard-check", "a:1\nb:2\nc:3\nd:4\n");
    let check = |flags: &str| {
        let mut program = start(&format!("--check -p 2 {flags} -f {}", file.path()), ["e:5"]);
        let status = program.wait_exit().code();
        (status, program.next_line().unwrap_or_else(|| program.log().join("\n")))
    };
    let expected = "2 of 5 servers in shard 0/3 by slice, 2 workers: ok";
    assert_eq!(check("--shard 0/3"), (Some(0), expected.into()));
    let expected = "0 of 5 servers in shard 7/9 by slice, 2 workers: ok";
    assert_eq!(check("--shard 7/9"), (Some(0), expected.into()));
    let expected = "5 of 5 servers in shard 0/1 by hash, 2 workers: ok";
    assert_eq!(check("--shard 0/1 --shard-by hash"), (Some(0), expected.into()));
}

#[test]
fn a_wrong_shard_is_bad_usage_and_nothing_is_dialed() {
    let server = Server::bind();
    for (flags, variables, error) in [
        (
            "--shard 3/3",
            "",
            "--shard: \"3/3\" is not allowed, expected I/N with an index I from 0 to N - 1, such as 0/4, or auto; write 2/3",
        ),
        ("--shard-by hash", "", "--shard-by: no shard, expected --shard too"),
        (
            "--shard auto",
            "TCPCORE_SHARDS=2",
            "--shard auto: no scheduler found, expected one of TCPCORE_SHARD, ",
        ),
        (
            "--shard auto",
            "POD_NAME=feeds-2",
            "--shard auto: TCPCORE_SHARDS: not set, expected the number of shards beside POD_NAME",
        ),
        (
            "--check --shard auto",
            "JOB_COMPLETION_INDEX=x",
            "--shard auto: JOB_COMPLETION_INDEX: \"x\" is not allowed, expected a whole number",
        ),
    ] {
        let mut command = tcpcore(flags, [server.address()]);
        // The tests may themselves run in a pod or in a job.
        command.env_clear();
        command.envs(variables.split_whitespace().map(|pair| pair.split_once('=').unwrap()));
        let mut program = Program::spawn(&mut command);
        assert_eq!(program.wait_exit().code(), Some(2), "{flags}");
        assert!(program.log()[0].starts_with(&format!("tcpcore: {error}")), "{:?}", program.log());
        assert_eq!(program.log().len(), 1);
    }
    assert!(server.accept_within(Duration::ZERO).is_none(), "it was dialed");
}
