use std::io;
use std::time::Duration;

use super::*;
use crate::codec::number::{Divisor, NumberDecoder};
use crate::config::{Config, ConfigBuilder};
use crate::proto::connection_error::ConnectionError;
use crate::proto::link::MIN_ROOM;

/// A fleet of so many servers with addresses, all dialled, and its numbers.
fn fleet(
    servers: usize,
    adjust: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
) -> Fleet<NumberDecoder> {
    let server: Server = "127.0.0.1:8001".parse().unwrap();
    let builder = Config::builder().servers([server.clone()]).jitter_factor(0.0);
    let policy = Policy::from(&adjust(builder).build().unwrap());
    let mut fleet = Fleet::new(0, policy, decoder(), 1, 0);
    for index in 0..servers {
        assert_eq!(fleet.add(server.clone(), 0).at(), index);
    }
    fleet
}

/// The id of the first link with this index.
fn id(index: u32) -> LinkId {
    LinkId { index, generation: 0 }
}

/// The default one.
fn decoder() -> NumberDecoder {
    NumberDecoder::new(Divisor::new(6.try_into().unwrap()), 4096)
}

fn connect_all(fleet: &mut Fleet<NumberDecoder>, now: Millis) {
    while fleet.next_deadline().is_some_and(|deadline| deadline <= now) {
        fleet.on_time(now);
    }
    while let Some((id, action)) = fleet.next_action() {
        if let Action::Connect { socket, .. } = action {
            fleet.handle(id, Event::Connected { socket, error: None }, now);
        }
    }
}

struct Numbers {
    numbers: Vec<i64>,
    room: usize,
}

impl Sink<i64> for Numbers {
    fn room(&mut self, _: usize) -> usize {
        self.room
    }
    fn push(&mut self, numbers: &[i64]) {
        self.numbers.extend_from_slice(numbers);
    }
    fn publish(&mut self) {}
    fn wait_for_room(&mut self) -> bool {
        self.room < MIN_ROOM
    }
}

/// Reads the connection whose turn it is, which must be this one's.
fn read(
    fleet: &mut Fleet<NumberDecoder>,
    index: u32,
    io: &mut impl Read,
    sink: &mut Numbers,
    now: Millis,
) -> bool {
    fleet.begin_reads();
    let next = fleet.next_read().expect("one waits to be read");
    assert_eq!((next.id, Some(next.socket)), (id(index), connection(fleet, index)));
    fleet.read(next, io, true, sink, now)
}

fn connection(fleet: &Fleet<NumberDecoder>, index: u32) -> Option<SocketId> {
    fleet.links.get(id(index))?.link.connection()
}

fn lose(fleet: &mut Fleet<NumberDecoder>, index: u32, error: ConnectionError, now: Millis) {
    let socket = connection(fleet, index).expect("it is connected");
    fleet.handle(id(index), Event::Failed { socket, error }, now);
}

fn reset() -> ConnectionError {
    io::Error::from(io::ErrorKind::ConnectionReset).into()
}

/// What is always ready, with a line that does not end.
fn firehose() -> impl Read {
    io::repeat(b'6')
}

fn numbers() -> Numbers {
    Numbers { numbers: Vec::new(), room: 1 << 20 }
}

#[test]
fn a_connection_that_had_run_dry_goes_before_those_with_a_backlog() {
    let mut fleet = fleet(3, |config| config);
    connect_all(&mut fleet, 0);
    fleet.on_ready(id(0), false);
    fleet.on_ready(id(1), false);
    fleet.on_ready(id(0), false);
    let mut sink = numbers();
    assert!(read(&mut fleet, 0, &mut firehose(), &mut sink, 0));
    assert_eq!(fleet.totals().0.bytes, READ_SIZE as u64, "one read at first");
    assert!(read(&mut fleet, 1, &mut firehose(), &mut sink, 0));
    fleet.on_ready(id(0), false);
    assert!(read(&mut fleet, 0, &mut firehose(), &mut sink, 0), "it stands in the queue once");
    assert_eq!(fleet.totals().0.bytes, (2 * READ_SIZE + READ_BUDGET) as u64, "then its budget");
    fleet.on_ready(id(2), false);
    assert!(read(&mut fleet, 2, &mut &b"6\n"[..], &mut sink, 0), "before the other two");
    assert!(read(&mut fleet, 1, &mut &b"6\n"[..], &mut sink, 0));
    assert!(read(&mut fleet, 0, &mut &b"6\n"[..], &mut sink, 0));
    assert!(!fleet.has_ready());
}

/// Reads a whole turn of firehoses, and returns whose turn it was.
fn turn(fleet: &mut Fleet<NumberDecoder>, sink: &mut Numbers) -> Vec<u32> {
    let mut ids = Vec::new();
    fleet.begin_reads();
    while let Some(next) = fleet.next_read() {
        ids.push(next.id.index);
        assert!(fleet.read(next, &mut firehose(), true, sink, 0));
    }
    ids
}

#[test]
fn a_turn_reads_a_bounded_number_of_bytes_and_those_with_a_backlog_share_it_in_rotation() {
    let mut fleet = fleet(100, |config| config);
    connect_all(&mut fleet, 0);
    for index in 0..100 {
        fleet.on_ready(id(index), false);
    }
    let mut sink = numbers();
    let mut firsts = 0;
    while firsts < 100 {
        for index in turn(&mut fleet, &mut sink) {
            assert!(index <= firsts, "first reads keep their order");
            firsts = firsts.max(index + 1);
        }
    }
    let before = fleet.totals().0.bytes;
    let mut turns = Vec::new();
    for _ in 0..50 {
        let ids = turn(&mut fleet, &mut sink);
        assert_eq!(ids.len(), 4);
        turns.extend(ids);
    }
    let bytes = usize::try_from(fleet.totals().0.bytes - before).unwrap();
    assert!(bytes / 50 <= TURN_BUDGET + READ_BUDGET, "{bytes} bytes in 50 turns");
    for index in 0..100 {
        assert_eq!(turns.iter().filter(|turn| **turn == index).count(), 2, "{index}");
    }
}

#[test]
fn first_reads_never_keep_the_backlog_from_being_read() {
    let mut fleet = fleet(1000, |config| config);
    connect_all(&mut fleet, 0);
    let mut sink = numbers();
    fleet.on_ready(id(0), false);
    assert_eq!(turn(&mut fleet, &mut sink), [0]);
    for _ in 0..3 {
        for index in 1..1000 {
            fleet.on_ready(id(index), false);
        }
        fleet.begin_reads();
        let mut ids = Vec::new();
        while let Some(next) = fleet.next_read() {
            let index = next.id.index;
            let mut line = &b"6\n"[..];
            let io: &mut dyn Read = if index == 0 { &mut firehose() } else { &mut line };
            assert!(fleet.read(next, &mut { io }, true, &mut sink, 0));
            ids.push(index);
        }
        assert_eq!(ids.len(), TURN_BUDGET.div_ceil(READ_COST + 2) + 1, "a read has its cost");
        assert_eq!(ids.last(), Some(&0));
    }
}

#[test]
fn a_full_sink_keeps_the_turn_and_waiting_for_room_is_not_idle() {
    let mut fleet = fleet(1, |config| config.idle_timeout(Duration::from_secs(5)));
    connect_all(&mut fleet, 0);
    fleet.on_ready(id(0), false);
    let mut sink = Numbers { numbers: Vec::new(), room: MIN_ROOM - 1 };
    assert!(!read(&mut fleet, 0, &mut &b"6\n"[..], &mut sink, 0));
    assert!(fleet.has_ready());
    fleet.on_time(5000);
    assert!(fleet.is_connected(id(0)));
    assert_eq!(fleet.next_deadline(), Some(10_000));
    assert!(read(&mut fleet, 0, &mut &b"6\n"[..], &mut numbers(), 5000));
}

#[test]
fn a_full_sink_keeps_the_places_of_both_queues() {
    let mut fleet = fleet(4, |config| config);
    connect_all(&mut fleet, 0);
    let mut sink = numbers();
    for index in [0, 1] {
        fleet.on_ready(id(index), false);
    }
    assert_eq!(turn(&mut fleet, &mut sink), [0, 1]);
    sink.room = 0;
    assert!(!read(&mut fleet, 0, &mut firehose(), &mut sink, 0));
    fleet.on_ready(id(2), false);
    fleet.on_ready(id(3), false);
    assert!(!read(&mut fleet, 2, &mut firehose(), &mut sink, 0));
    sink.room = 1 << 20;
    assert_eq!(turn(&mut fleet, &mut sink), [2, 3, 0, 1]);
}

#[test]
fn calls_that_do_not_fit_are_no_ops() {
    let mut fleet = fleet(1, |config| config);
    let connected = || Event::Connected { socket: SocketId(0), error: None };
    fleet.on_ready(id(0), true);
    fleet.on_ready(id(99), true);
    fleet.handle(id(99), connected(), 0);
    fleet.handle(id(0), connected(), 0);
    assert!(!fleet.is_connected(id(0)) && !fleet.is_connected(id(99)));
    fleet.begin_reads();
    assert_eq!((fleet.next_read(), fleet.next_action()), (None, None));
    assert_eq!(fleet.next_deadline(), Some(0));
}

#[test]
fn a_lost_connection_loses_its_turn() {
    let mut fleet = fleet(2, |config| config);
    connect_all(&mut fleet, 0);
    fleet.on_ready(id(0), false);
    fleet.on_ready(id(1), false);
    lose(&mut fleet, 0, reset(), 0);
    assert_eq!(turn(&mut fleet, &mut numbers()), [1]);
    assert_eq!(fleet.next_action(), Some((id(0), Action::Close(SocketId(0)))));
    assert_eq!(fleet.next_deadline(), Some(1000));
}

#[test]
fn a_socket_is_what_its_link_takes_it_for() {
    let mut fleet = fleet(2, |config| config);
    assert_eq!(fleet.role(SocketId(0)), SocketRole::None);
    fleet.on_time(0);
    let (first, second) = (SocketId(0), SocketId(1));
    assert_eq!(fleet.role(first), SocketRole::Connecting { id: id(0) });
    assert_eq!(fleet.role(second), SocketRole::Connecting { id: id(1) });
    fleet.handle(id(0), Event::Connected { socket: first, error: None }, 0);
    assert_eq!(fleet.role(first), SocketRole::Connected { id: id(0) });
    while fleet.next_action().is_some() {}
    lose(&mut fleet, 0, reset(), 0);
    assert_eq!((fleet.role(first), fleet.sockets_len()), (SocketRole::None, 2));
    // A socket that is opened before that one is closed has another number.
    fleet.on_time(1000);
    assert_eq!(fleet.role(SocketId(2)), SocketRole::Connecting { id: id(0) });
    assert_eq!(fleet.next_action(), Some((id(0), Action::Close(first))));
    assert_eq!(fleet.sockets_len(), 2);
}

#[test]
fn more_timers_than_a_turn_takes_stay_due() {
    let mut fleet = fleet(TIMERS_PER_TURN + 1, |config| config);
    fleet.on_time(0);
    assert_eq!(fleet.actions.len(), TIMERS_PER_TURN);
    assert_eq!(fleet.next_deadline(), Some(0));
    fleet.on_time(0);
    assert_eq!(fleet.actions.len(), TIMERS_PER_TURN + 1);
}

#[test]
fn connected_and_quiet_nothing_is_due() {
    let mut fleet = fleet(3, |config| config);
    connect_all(&mut fleet, 0);
    assert_eq!(fleet.next_deadline(), None);
    assert!(!fleet.has_ready() && fleet.next_action().is_none());
    assert_eq!(fleet.unconnected, 0);
}

#[test]
fn a_fleet_is_finished_when_its_last_link_has_ended() {
    let mut fleet = fleet(3, |config| config.once(true));
    connect_all(&mut fleet, 0);
    for index in [0, 1] {
        fleet.on_ready(id(index), true);
        assert!(read(&mut fleet, index, &mut &b"6\n"[..], &mut numbers(), 0));
    }
    assert!(!fleet.is_finished());
    lose(&mut fleet, 2, reset(), 0);
    assert!(fleet.is_finished());
    assert_eq!(fleet.totals().1, 1, "one of them badly");
}

#[test]
fn what_is_held_is_the_unfinished_line() {
    let mut fleet = fleet(2, |config| config);
    connect_all(&mut fleet, 0);
    fleet.on_ready(id(1), false);
    assert!(read(&mut fleet, 1, &mut &b"6\n12"[..], &mut numbers(), 0));
    assert_eq!([fleet.held(id(0)), fleet.held(id(1)), fleet.held(id(99))], [0, 2, 0]);
}

#[test]
fn who_waits_or_connects_has_a_timer_and_who_is_connected_only_with_an_idle_timeout() {
    for idle_ms in [None, Some(5000)] {
        let mut fleet = fleet(2, |config| config.idle_timeout(idle_ms.map(Duration::from_millis)));
        assert_eq!([fleet.deadline(id(0)), fleet.deadline(id(1))], [Some(0), Some(0)], "waiting");
        fleet.on_time(0);
        assert_eq!([fleet.deadline(id(0)), fleet.deadline(id(1))], [Some(10_000), Some(10_000)]);
        fleet.handle(id(1), Event::Connected { socket: SocketId(1), error: None }, 7);
        let idle_at = idle_ms.map(|idle| 7 + idle);
        assert_eq!([fleet.deadline(id(0)), fleet.deadline(id(1))], [Some(10_000), idle_at]);
        assert_eq!(fleet.deadline(id(99)), None);
    }
}

#[test]
fn shutting_down_counts_what_is_cut() {
    let mut fleet = fleet(1, |config| config);
    connect_all(&mut fleet, 0);
    let mut sink = numbers();
    fleet.on_ready(id(0), false);
    read(&mut fleet, 0, &mut &b"6\n12"[..], &mut sink, 0);
    fleet.shut_down();
    assert_eq!((sink.numbers, fleet.totals().0.truncated), (vec![6], 1));
    assert!(fleet.is_finished() && !fleet.has_ready());
}
