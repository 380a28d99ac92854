use super::*;

fn server(port: u16) -> Server {
    format!("192.0.2.1:{port}").parse().unwrap()
}

fn update(now: u64, state: ServerState) -> Update {
    Update { now, state, failures: 0, next_attempt: None }
}

#[test]
fn the_time_without_a_connection_is_that_outside_of_connections() {
    let stats = ServerStats::new(0, 0, server(1));
    stats.added(100);
    assert_eq!(stats.down_ms(350), 250, "it waits from the start");
    stats.update(&update(1000, ServerState::Connected));
    assert_eq!((stats.since(), stats.down_ms(5000)), (1000, 900));
    stats.update(&update(6000, ServerState::Connected));
    assert_eq!(stats.since(), 1000, "it is still the same connection");
    stats.update(&update(7000, ServerState::Waiting));
    stats.update(&update(7500, ServerState::Connecting));
    assert_eq!((stats.since(), stats.down_ms(8000)), (7000, 1900));
    stats.update(&update(9000, ServerState::Failed));
    assert_eq!(stats.down_ms(10_000), 3900, "a server that is given up is down");
    let removed = ServerStats::new(1, 0, server(2));
    removed.update(&update(500, ServerState::Connecting));
    removed.update(&update(700, ServerState::Ended));
    removed.update(&update(800, ServerState::Ended));
    assert_eq!(removed.down_ms(9000), 700, "up to its end");
}

#[test]
fn the_last_received_time_is_that_of_the_last_new_byte() {
    let stats = ServerStats::new(0, 0, server(1));
    stats.update(&update(10, ServerState::Connected));
    assert_eq!(stats.last_received(), None);
    stats.received(5);
    stats.received_at(20);
    stats.update(&update(30, ServerState::Waiting));
    assert_eq!(stats.counters().bytes, 5);
    assert_eq!(stats.last_received(), Some(20));
}

#[test]
fn an_error_has_the_time_of_the_update_that_follows_it() {
    let stats = ServerStats::new(0, 0, server(1));
    assert_eq!(stats.last_error(), None);
    let error = LastError::Failure(FailureReason::Refused, None);
    stats.attempt();
    stats.failed(error);
    stats.update(&update(40, ServerState::Waiting));
    stats.update(&update(50, ServerState::Connecting));
    assert_eq!(stats.last_error(), Some((error, 40)));
    let other = LastError::Disconnect(DisconnectReason::Reset, Some(104));
    stats.failed(other);
    stats.update(&update(60, ServerState::Waiting));
    assert_eq!(stats.last_error(), Some((other, 60)));
    assert_eq!(stats.attempts(), 1);
    assert_eq!(stats.attempts_failed()[FailureReason::Refused as usize], 1);
    assert_eq!(stats.disconnects()[DisconnectReason::Reset as usize], 1);
}

#[test]
fn a_server_takes_memory_for_faults_once_it_has_one() {
    let stats = ServerStats::new(0, 0, server(1));
    stats.attempt();
    stats.connected();
    stats.received(9);
    stats.lines(3);
    stats.matched(2);
    let good = Counters { connects: 1, bytes: 9, lines: 3, matched: 2, ..Counters::default() };
    assert_eq!((stats.counters(), stats.has_faults()), (good, false));
    stats.malformed();
    stats.oversized();
    stats.truncated();
    stats.failed(LastError::Failure(FailureReason::Timeout, None));
    stats.failed(LastError::Disconnect(DisconnectReason::Eof, None));
    stats.failed(LastError::Disconnect(DisconnectReason::Removed, None));
    let bad = Counters { failures: 2, malformed: 1, oversized: 1, truncated: 1, ..good };
    assert_eq!((stats.counters(), stats.has_faults()), (bad, true), "a removal is no failure");
}

#[test]
fn each_error_is_unpacked_as_it_was_packed_and_no_error_is_none() {
    for code in [None, Some(1), Some(-1), Some(i32::MAX), Some(i32::MIN)] {
        let failures = FailureReason::ALL.map(|reason| LastError::Failure(reason, code));
        let ends = DisconnectReason::ALL.map(|reason| LastError::Disconnect(reason, code));
        for error in failures.into_iter().chain(ends) {
            assert_eq!(LastError::unpack(error.pack()), Some(error));
        }
    }
    assert_eq!(LastError::unpack(0), None);
}

#[test]
fn numbers_of_reasons_and_states_are_their_places_and_names_differ() {
    for (index, reason) in FailureReason::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, index);
    }
    for (index, reason) in DisconnectReason::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, index);
    }
    for (index, state) in ServerState::ALL.into_iter().enumerate() {
        assert_eq!(state as usize, index);
    }
    let names: std::collections::BTreeSet<_> = ServerState::ALL.map(ServerState::name).into();
    assert_eq!(names.len(), ServerState::ALL.len());
}

#[test]
fn the_text_of_an_error_names_the_error_of_the_system() {
    let text = |error: LastError| error.text();
    assert_eq!(text(LastError::Failure(FailureReason::Refused, None)), "connection refused");
    let unreachable = text(LastError::Failure(FailureReason::Unreachable, Some(113)));
    assert!(unreachable.ends_with("(os error 113)"), "{unreachable}");
    assert_eq!(text(LastError::Disconnect(DisconnectReason::Eof, None)), "closed by the server");
}

#[test]
fn a_duration_counts_in_the_first_bucket_whose_bound_it_does_not_exceed() {
    let worker = WorkerStats::default();
    for ms in [0, 1, 2, 3, 10_000, 10_001] {
        worker.connected(ms);
    }
    let (buckets, sum) = worker.connect_durations();
    assert_eq!(buckets[..3], [2, 1, 1]);
    assert_eq!(buckets[CONNECT_BUCKETS_MS.len() - 1..], [1, 1]);
    assert_eq!((buckets.iter().sum::<u64>(), sum), (6, 20_007));
}

#[test]
fn the_totals_keep_what_removed_servers_have_counted() {
    let stats = Stats::new(1);
    let [a, b, c] = [1, 2, 3].map(|port| stats.new_server(0, server(port)));
    let count = |server: &ServerStats, lines, state| {
        server.lines(lines);
        server.update(&update(1, state));
    };
    stats.set_servers(vec![a.clone(), b.clone()], vec![]);
    count(&a, 10, ServerState::Connected);
    count(&b, 20, ServerState::Connected);
    stats.set_servers(vec![b.clone()], vec![a.clone()]);
    // Its worker still counts.
    count(&a, 1, ServerState::Ended);
    let lines = || stats.snapshot().totals.counters.lines;
    assert_eq!(lines(), 31);
    stats.set_servers(vec![c.clone()], vec![b.clone()]);
    assert_eq!((lines(), stats.server(0).is_none()), (31, true), "a is final");
    assert_eq!(stats.server(1).unwrap().number(), 1, "the output may have records of b");
    stats.set_servers(vec![], vec![c]);
    count(&b, 5, ServerState::Ended);
    assert_eq!((lines(), stats.server(1).is_some()), (36, true), "b had not ended");
    stats.set_servers(vec![], vec![]);
    assert_eq!((lines(), stats.server(1).is_none()), (36, true));
}

#[test]
fn the_last_server_to_end_is_reported() {
    let stats = Stats::new(1);
    let servers = [1, 2].map(|port| stats.new_server(0, server(port)));
    stats.set_servers(servers.into(), vec![]);
    assert_eq!((stats.ended(), stats.ended(), stats.present()), (false, true, 2));
    stats.set_servers(vec![], vec![]);
    assert_eq!(stats.present(), 0);
}
