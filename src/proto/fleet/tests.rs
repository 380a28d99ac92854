use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::*;
use crate::codec::Framing;
use crate::codec::number::{Divisor, NumberDecoder};
use crate::config::{Config, ConfigBuilder};
use crate::proto::connection_error::ConnectionError;
use crate::proto::link::MIN_ROOM;
use crate::proto::time::{at, ms};

/// A fleet of so many servers with addresses, all dialled, and its numbers.
fn fleet(
    servers: usize,
    adjust: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
) -> Fleet<NumberDecoder> {
    let server: Server = "127.0.0.1:8001".parse().unwrap();
    let builder = Config::builder().servers([server.clone()]).jitter_factor(0.0);
    let policy = Policy::from(&adjust(builder).build().unwrap());
    let mut fleet = Fleet::new(0, policy, decoder(), Box::new(()), 1, at(0));
    for index in 0..servers {
        assert_eq!(fleet.add(index, server.clone(), at(0)).at(), index);
    }
    fleet
}

/// The id of the first link with this index.
fn id(index: u32) -> LinkId {
    LinkId { index, generation: 0 }
}

/// The default one.
fn decoder() -> NumberDecoder {
    NumberDecoder::new(Divisor::new(6.try_into().unwrap()), Framing::new(4096))
}

fn connect_all(fleet: &mut Fleet<NumberDecoder>, now: Instant) {
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
    fn begin(&mut self, _: usize) {}
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
    now: Instant,
) -> bool {
    fleet.begin_reads();
    let next = fleet.next_read().expect("one waits to be read");
    assert_eq!((next.id, Some(next.socket)), (id(index), connection(fleet, index)));
    fleet.read(next, io, true, sink, now)
}

fn connection(fleet: &Fleet<NumberDecoder>, index: u32) -> Option<SocketId> {
    fleet.links.get(id(index))?.link.connection()
}

fn lose(fleet: &mut Fleet<NumberDecoder>, index: u32, error: ConnectionError, now: Instant) {
    let socket = connection(fleet, index).expect("it is connected");
    fleet.handle(id(index), Event::Failed { socket, error }, now);
}

fn reset() -> ConnectionError {
    io::Error::from(io::ErrorKind::ConnectionReset).into()
}

/// Returns a source that is always ready, with a line that does not end.
fn firehose() -> impl Read {
    io::repeat(b'6')
}

fn numbers() -> Numbers {
    Numbers { numbers: Vec::new(), room: 1 << 20 }
}

#[test]
fn a_connection_that_had_run_dry_goes_before_those_with_a_backlog() {
    let mut fleet = fleet(3, |config| config);
    connect_all(&mut fleet, at(0));
    fleet.on_ready(id(0), false);
    fleet.on_ready(id(1), false);
    fleet.on_ready(id(0), false);
    let mut sink = numbers();
    assert!(read(&mut fleet, 0, &mut firehose(), &mut sink, at(0)));
    assert_eq!(fleet.totals().0.bytes, READ_SIZE as u64, "one read at first");
    assert!(read(&mut fleet, 1, &mut firehose(), &mut sink, at(0)));
    fleet.on_ready(id(0), false);
    assert!(read(&mut fleet, 0, &mut firehose(), &mut sink, at(0)), "it stands in the queue once");
    assert_eq!(fleet.totals().0.bytes, 3 * READ_SIZE as u64, "and one read later");
    fleet.on_ready(id(2), false);
    assert!(read(&mut fleet, 2, &mut &b"6\n"[..], &mut sink, at(0)), "before the other two");
    assert!(read(&mut fleet, 1, &mut &b"6\n"[..], &mut sink, at(0)));
    assert!(read(&mut fleet, 0, &mut &b"6\n"[..], &mut sink, at(0)));
    assert!(!fleet.has_ready());
}

/// Reads a whole turn of firehoses, and returns whose turn it was.
fn turn(fleet: &mut Fleet<NumberDecoder>, sink: &mut Numbers) -> Vec<u32> {
    let mut ids = Vec::new();
    fleet.begin_reads();
    while let Some(next) = fleet.next_read() {
        ids.push(next.id.index);
        assert!(fleet.read(next, &mut firehose(), true, sink, at(0)));
    }
    ids
}

#[test]
fn a_turn_reads_a_bounded_number_of_bytes_and_those_with_a_backlog_share_it_in_rotation() {
    let mut fleet = fleet(100, |config| config);
    connect_all(&mut fleet, at(0));
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
    assert!(bytes / 50 <= TURN_BUDGET + READ_SIZE, "{bytes} bytes in 50 turns");
    for index in 0..100 {
        assert_eq!(turns.iter().filter(|turn| **turn == index).count(), 2, "{index}");
    }
}

#[test]
fn first_reads_never_keep_the_backlog_from_being_read() {
    let mut fleet = fleet(1000, |config| config);
    connect_all(&mut fleet, at(0));
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
            assert!(fleet.read(next, &mut { io }, true, &mut sink, at(0)));
            ids.push(index);
        }
        assert_eq!(ids.len(), TURN_BUDGET.div_ceil(READ_COST + 2) + 1, "a read has its cost");
        assert_eq!(ids.last(), Some(&0));
    }
}

#[test]
fn a_full_sink_keeps_the_turn_and_waiting_for_room_is_not_idle() {
    let mut fleet = fleet(1, |config| config.idle_timeout(Duration::from_secs(5)));
    connect_all(&mut fleet, at(0));
    fleet.on_ready(id(0), false);
    let mut sink = Numbers { numbers: Vec::new(), room: MIN_ROOM - 1 };
    assert!(!read(&mut fleet, 0, &mut &b"6\n"[..], &mut sink, at(0)));
    assert!(fleet.has_ready());
    fleet.on_time(at(5000));
    assert!(fleet.is_connected(id(0)));
    assert_eq!(fleet.next_deadline(), Some(at(10_000)));
    assert!(read(&mut fleet, 0, &mut &b"6\n"[..], &mut numbers(), at(5000)));
}

#[test]
fn a_full_sink_keeps_the_places_of_both_queues() {
    let mut fleet = fleet(4, |config| config);
    connect_all(&mut fleet, at(0));
    let mut sink = numbers();
    for index in [0, 1] {
        fleet.on_ready(id(index), false);
    }
    assert_eq!(turn(&mut fleet, &mut sink), [0, 1]);
    sink.room = 0;
    assert!(!read(&mut fleet, 0, &mut firehose(), &mut sink, at(0)));
    fleet.on_ready(id(2), false);
    fleet.on_ready(id(3), false);
    assert!(!read(&mut fleet, 2, &mut firehose(), &mut sink, at(0)));
    sink.room = 1 << 20;
    assert_eq!(turn(&mut fleet, &mut sink), [2, 3, 0, 1]);
}

#[test]
fn calls_that_do_not_fit_are_no_ops() {
    let mut fleet = fleet(1, |config| config);
    let connected = || Event::Connected { socket: SocketId(0), error: None };
    fleet.on_ready(id(0), true);
    fleet.on_ready(id(99), true);
    fleet.handle(id(99), connected(), at(0));
    fleet.handle(id(0), connected(), at(0));
    assert!(!fleet.is_connected(id(0)) && !fleet.is_connected(id(99)));
    fleet.begin_reads();
    assert_eq!((fleet.next_read(), fleet.next_action()), (None, None));
    assert_eq!(fleet.next_deadline(), Some(at(0)));
}

#[test]
fn a_lost_connection_loses_its_turn() {
    let mut fleet = fleet(2, |config| config);
    connect_all(&mut fleet, at(0));
    fleet.on_ready(id(0), false);
    fleet.on_ready(id(1), false);
    lose(&mut fleet, 0, reset(), at(0));
    assert_eq!(turn(&mut fleet, &mut numbers()), [1]);
    assert_eq!(fleet.next_action(), Some((id(0), Action::Close(SocketId(0)))));
    assert_eq!(fleet.next_deadline(), Some(at(1000)));
}

#[test]
fn a_socket_is_what_its_link_takes_it_for() {
    let mut fleet = fleet(2, |config| config);
    assert_eq!(fleet.role(SocketId(0)), SocketRole::None);
    fleet.on_time(at(0));
    let (first, second) = (SocketId(0), SocketId(1));
    assert_eq!(fleet.role(first), SocketRole::Connecting { id: id(0) });
    assert_eq!(fleet.role(second), SocketRole::Connecting { id: id(1) });
    fleet.handle(id(0), Event::Connected { socket: first, error: None }, at(0));
    assert_eq!(fleet.role(first), SocketRole::Connected { id: id(0) });
    while fleet.next_action().is_some() {}
    lose(&mut fleet, 0, reset(), at(0));
    assert_eq!((fleet.role(first), fleet.sockets_len()), (SocketRole::None, 2));
    // A socket that is opened before that one is closed has another number.
    fleet.on_time(at(1000));
    assert_eq!(fleet.role(SocketId(2)), SocketRole::Connecting { id: id(0) });
    assert_eq!(fleet.next_action(), Some((id(0), Action::Close(first))));
    assert_eq!(fleet.sockets_len(), 2);
}

#[test]
fn more_timers_than_a_turn_takes_stay_due() {
    let mut fleet = fleet(TIMERS_PER_TURN + 1, |config| config);
    fleet.on_time(at(0));
    assert_eq!(fleet.actions.len(), TIMERS_PER_TURN);
    assert_eq!(fleet.next_deadline(), Some(at(0)));
    fleet.on_time(at(0));
    assert_eq!(fleet.actions.len(), TIMERS_PER_TURN + 1);
}

#[test]
fn connected_and_quiet_nothing_is_due() {
    let mut fleet = fleet(3, |config| config);
    connect_all(&mut fleet, at(0));
    assert_eq!(fleet.next_deadline(), None);
    assert!(!fleet.has_ready() && fleet.next_action().is_none());
    assert_eq!(fleet.unconnected, 0);
}

#[test]
fn a_fleet_is_finished_when_its_last_link_has_ended() {
    let mut fleet = fleet(3, |config| config.once(true));
    connect_all(&mut fleet, at(0));
    for index in [0, 1] {
        fleet.on_ready(id(index), true);
        assert!(read(&mut fleet, index, &mut &b"6\n"[..], &mut numbers(), at(0)));
    }
    assert!(!fleet.is_finished());
    lose(&mut fleet, 2, reset(), at(0));
    assert!(fleet.is_finished());
    assert_eq!(fleet.totals().1, 1, "one of them badly");
}

#[test]
fn what_is_held_is_the_unfinished_line() {
    let mut fleet = fleet(2, |config| config);
    connect_all(&mut fleet, at(0));
    fleet.on_ready(id(1), false);
    assert!(read(&mut fleet, 1, &mut &b"6\n12"[..], &mut numbers(), at(0)));
    assert_eq!([fleet.held(id(0)), fleet.held(id(1)), fleet.held(id(99))], [0, 2, 0]);
}

#[test]
fn who_waits_or_connects_has_a_timer_and_who_is_connected_only_with_an_idle_timeout() {
    for idle_ms in [None, Some(5000)] {
        let mut fleet = fleet(2, |config| config.idle_timeout(idle_ms.map(Duration::from_millis)));
        assert_eq!(
            [fleet.deadline(id(0)), fleet.deadline(id(1))],
            [Some(at(0)), Some(at(0))],
            "waiting"
        );
        fleet.on_time(at(0));
        assert_eq!(
            [fleet.deadline(id(0)), fleet.deadline(id(1))],
            [Some(at(10_000)), Some(at(10_000))]
        );
        fleet.handle(id(1), Event::Connected { socket: SocketId(1), error: None }, at(7));
        let idle_at = idle_ms.map(|idle| at(7) + ms(idle));
        assert_eq!([fleet.deadline(id(0)), fleet.deadline(id(1))], [Some(at(10_000)), idle_at]);
        assert_eq!(fleet.deadline(id(99)), None);
    }
}

#[test]
fn shutting_down_counts_what_is_cut() {
    let mut fleet = fleet(1, |config| config);
    connect_all(&mut fleet, at(0));
    let mut sink = numbers();
    fleet.on_ready(id(0), false);
    read(&mut fleet, 0, &mut &b"6\n12"[..], &mut sink, at(0));
    fleet.shut_down(at(0));
    assert_eq!((sink.numbers, fleet.totals().0.truncated), (vec![6], 1));
    assert!(fleet.is_finished() && !fleet.has_ready());
}

/// All actions that are due.
fn actions(fleet: &mut Fleet<NumberDecoder>) -> Vec<(LinkId, Action)> {
    std::iter::from_fn(|| fleet.next_action()).collect()
}

/// Adds a server with a name.
fn add_name(fleet: &mut Fleet<NumberDecoder>, now: Instant) -> LinkId {
    fleet.add(0, "name.test:8001".parse().unwrap(), now)
}

fn resolved() -> Event {
    Event::Resolved(Ok(vec!["192.0.2.1:8001".parse().unwrap()]))
}

#[test]
fn the_id_of_a_removed_server_is_no_id_at_any_entrance_though_its_index_is_used_again() {
    let mut fleet = fleet(1, |config| config);
    connect_all(&mut fleet, at(0));
    fleet.on_ready(id(0), false);
    assert!(read(&mut fleet, 0, &mut &b"12"[..], &mut numbers(), at(0)));
    assert!(fleet.remove(id(0), at(5)));
    assert!(!fleet.remove(id(0), at(5)), "once");
    let new = fleet.add(0, "127.0.0.1:8001".parse().unwrap(), at(5));
    assert_eq!(new, LinkId { index: 0, generation: 1 });
    assert_eq!(actions(&mut fleet), [(id(0), Action::Close(SocketId(0)))]);
    fleet.on_time(at(5));
    fleet.handle(new, Event::Connected { socket: SocketId(0), error: None }, at(5));
    actions(&mut fleet);

    fleet.handle(id(0), Event::Wake, at(500_000));
    fleet.handle(id(0), Event::Failed { socket: SocketId(0), error: reset() }, at(5));
    fleet.on_ready(id(0), true);
    assert!(!fleet.remove(id(0), at(5)));
    assert_eq!((fleet.server(id(0)), fleet.deadline(id(0))), (None, None));
    assert_eq!((fleet.next_attempt_at(id(0)), fleet.held(id(0))), (None, 0));
    assert!(!fleet.is_connected(id(0)));

    assert!(fleet.is_connected(new) && fleet.server(new).is_some());
    assert!(!fleet.has_ready() && fleet.next_action().is_none() && !fleet.is_finished());
}

#[test]
fn the_answer_to_a_removed_servers_lookup_does_not_reach_the_server_with_its_index() {
    let mut fleet = fleet(0, |config| config);
    let old = add_name(&mut fleet, at(0));
    fleet.on_time(at(0));
    assert_eq!(actions(&mut fleet), [(old, Action::Resolve)]);
    fleet.remove(old, at(1));
    let new = add_name(&mut fleet, at(1));
    fleet.on_time(at(1));
    assert_eq!((new.index, actions(&mut fleet)), (old.index, vec![(new, Action::Resolve)]));
    fleet.handle(old, resolved(), at(2));
    assert_eq!(actions(&mut fleet), []);
    fleet.handle(new, resolved(), at(3));
    assert!(matches!(actions(&mut fleet)[..], [(id, Action::Connect { .. })] if id == new));
}

#[test]
fn what_a_removed_server_has_asked_for_is_not_done_but_its_sockets_are_closed() {
    let mut fleet = fleet(2, |config| config);
    let name = add_name(&mut fleet, at(0));
    fleet.on_time(at(0));
    assert_eq!(fleet.actions.len(), 3, "two to connect, one to look up");
    fleet.remove(name, at(0));
    fleet.remove(id(0), at(0));
    let new = add_name(&mut fleet, at(0));
    let address = "127.0.0.1:8001".parse().unwrap();
    let connect = Action::Connect { socket: SocketId(1), address };
    let close = Action::Close(SocketId(0));
    assert_eq!(actions(&mut fleet), [(id(1), connect), (id(0), close)]);
    assert_eq!((new.index, fleet.sockets_len()), (0, 1));
}

#[test]
fn each_socket_of_a_removed_server_is_closed_once_in_any_state() {
    let mut fleet = fleet(0, |config| config);
    let removed = |fleet: &mut Fleet<NumberDecoder>, id| {
        fleet.remove(id, at(1000));
        let closes = actions(fleet);
        assert!(
            closes.iter().all(|(its, action)| *its == id && matches!(action, Action::Close(_)))
        );
        assert_eq!((fleet.sockets_len(), fleet.next_deadline()), (0, None));
        closes.len()
    };
    let waiting = add_name(&mut fleet, at(0));
    assert_eq!(removed(&mut fleet, waiting), 0);

    let resolving = add_name(&mut fleet, at(0));
    fleet.on_time(at(0));
    actions(&mut fleet);
    assert_eq!(removed(&mut fleet, resolving), 0);

    let connecting = add_name(&mut fleet, at(0));
    fleet.on_time(at(0));
    let addresses = ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"].map(|text| text.parse().unwrap());
    fleet.handle(connecting, Event::Resolved(Ok(addresses.to_vec())), at(0));
    fleet.on_time(at(250));
    assert_eq!((actions(&mut fleet).len(), fleet.sockets_len()), (3, 2));
    assert_eq!(removed(&mut fleet, connecting), 2);

    for is_lost in [false, true] {
        let connected = add_name(&mut fleet, at(250));
        fleet.on_time(at(250));
        fleet.handle(connected, resolved(), at(250));
        let [.., (_, Action::Connect { socket, .. })] = actions(&mut fleet)[..] else { panic!() };
        fleet.handle(connected, Event::Connected { socket, error: None }, at(250));
        if is_lost {
            fleet.handle(connected, Event::Failed { socket, error: reset() }, at(250));
        }
        assert_eq!(removed(&mut fleet, connected), 1);
    }
}

#[test]
fn a_socket_that_a_removed_server_has_yet_to_close_is_none_of_the_server_with_its_index() {
    let mut fleet = fleet(1, |config| config);
    connect_all(&mut fleet, at(0));
    let old = SocketId(0);
    fleet.remove(id(0), at(0));
    assert_eq!((fleet.role(old), fleet.sockets_len()), (SocketRole::None, 1));
    let new = fleet.add(0, "127.0.0.1:8001".parse().unwrap(), at(0));
    fleet.on_time(at(0));
    assert_eq!(fleet.role(old), SocketRole::None);
    assert_eq!(fleet.role(SocketId(1)), SocketRole::Connecting { id: new }, "another number");
}

#[test]
fn a_removed_server_has_no_timer_left_for_the_server_with_its_index() {
    let mut fleet = fleet(1, |config| config.idle_timeout(Duration::from_secs(5)));
    connect_all(&mut fleet, at(0));
    assert_eq!(fleet.next_deadline(), Some(at(5000)));
    fleet.remove(id(0), at(10));
    assert_eq!(fleet.next_deadline(), None);
    fleet.on_time(at(5000));
    let new = fleet.add(0, "127.0.0.1:8001".parse().unwrap(), at(6000));
    assert_eq!((fleet.deadline(new), fleet.deadline(id(0))), (Some(at(6000)), None));
}

#[test]
fn a_removed_server_that_was_to_be_read_in_this_turn_gives_its_turn_to_no_other() {
    for queue in [Queue::Fresh, Queue::Backlog] {
        let mut fleet = fleet(4, |config| config);
        connect_all(&mut fleet, at(0));
        let mut sink = numbers();
        for index in 0..3 {
            fleet.on_ready(id(index), false);
        }
        if queue == Queue::Backlog {
            assert_eq!(turn(&mut fleet, &mut sink), [0, 1, 2]);
        }
        fleet.begin_reads();
        let mut next = |fleet: &mut Fleet<NumberDecoder>| {
            let next = fleet.next_read()?;
            let index = next.id.index;
            assert!(fleet.read(next, &mut firehose(), true, &mut sink, at(0)));
            Some(index)
        };
        assert_eq!(next(&mut fleet), Some(0));
        fleet.on_ready(id(3), false);
        assert_eq!(fleet.links.get(id(1)).unwrap().queue, queue);
        assert!(fleet.remove(id(1), at(0)));
        assert_eq!((next(&mut fleet), next(&mut fleet)), (Some(2), None), "{queue:?}");
    }
}

#[test]
fn a_removed_server_that_would_be_read_in_the_next_turn_takes_nothing_from_this_one() {
    let mut fleet = fleet(3, |config| config);
    connect_all(&mut fleet, at(0));
    for index in [0, 1] {
        fleet.on_ready(id(index), false);
    }
    fleet.begin_reads();
    fleet.on_ready(id(2), false);
    fleet.remove(id(2), at(0));
    assert_eq!(fleet.next_read().map(|next| next.id), Some(id(0)));
    assert_eq!(fleet.next_read().map(|next| next.id), Some(id(1)));
    assert_eq!(fleet.next_read(), None);
}

#[test]
fn a_server_that_is_removed_just_before_it_is_read_is_not_read() {
    let mut fleet = fleet(1, |config| config);
    connect_all(&mut fleet, at(0));
    fleet.on_ready(id(0), false);
    fleet.begin_reads();
    let next = fleet.next_read().unwrap();
    fleet.remove(id(0), at(0));
    let mut line = &b"6\n"[..];
    assert!(fleet.read(next, &mut line, true, &mut numbers(), at(0)), "the sink has room");
    assert_eq!((line.len(), fleet.totals().0.lines, fleet.has_ready()), (2, 0, false));
}

#[test]
fn the_last_one_that_waits_to_be_read_is_removed_and_nothing_is_ready() {
    let mut fleet = fleet(1, |config| config);
    connect_all(&mut fleet, at(0));
    fleet.on_ready(id(0), false);
    assert!(fleet.has_ready());
    fleet.remove(id(0), at(0));
    assert!(!fleet.has_ready());
}

#[test]
fn the_totals_keep_what_removed_servers_have_done_and_how_they_ended() {
    let mut fleet = fleet(3, |config| config.once(true));
    connect_all(&mut fleet, at(0));
    fleet.on_ready(id(0), false);
    assert!(read(&mut fleet, 0, &mut &b"6\n12"[..], &mut numbers(), at(0)));
    lose(&mut fleet, 1, reset(), at(0));
    assert_eq!((fleet.totals().0.truncated, fleet.totals().1), (0, 1));
    let before = fleet.totals().0;
    for index in [0, 1, 2] {
        assert!(fleet.remove(id(index), at(0)));
    }
    assert_eq!(fleet.totals(), (Counters { truncated: 1, ..before }, 1), "one ended badly before");
    fleet.add(0, "127.0.0.1:8001".parse().unwrap(), at(0));
    connect_all(&mut fleet, at(0));
    assert_eq!(fleet.totals(), (Counters { truncated: 1, connects: 4, ..before }, 1));
    fleet.shut_down(at(0));
    assert_eq!(fleet.totals(), (Counters { truncated: 1, connects: 4, ..before }, 1));
}

#[test]
fn a_fleet_is_finished_when_the_last_link_that_has_not_ended_is_removed() {
    let mut fleet = fleet(3, |config| config.once(true));
    connect_all(&mut fleet, at(0));
    lose(&mut fleet, 0, reset(), at(0));
    fleet.remove(id(0), at(0));
    fleet.remove(id(1), at(0));
    assert!(!fleet.is_finished());
    fleet.remove(id(2), at(0));
    assert!(fleet.is_finished());
    fleet.add(0, "127.0.0.1:8001".parse().unwrap(), at(0));
    assert!(!fleet.is_finished(), "there is one again");
}

#[test]
fn a_removed_server_counts_as_unconnected_no_longer_if_it_had_never_been_connected() {
    let mut fleet = fleet(3, |config| config);
    fleet.on_time(at(0));
    fleet.handle(id(0), Event::Connected { socket: SocketId(0), error: None }, at(0));
    lose(&mut fleet, 0, reset(), at(0));
    assert_eq!(fleet.unconnected, 2);
    fleet.remove(id(0), at(0));
    assert_eq!(fleet.unconnected, 2, "it had been connected once");
    fleet.remove(id(1), at(0));
    assert_eq!(fleet.unconnected, 1);
    fleet.handle(id(2), Event::Connected { socket: SocketId(2), error: None }, at(0));
    assert_eq!(fleet.unconnected, 0);
    fleet.remove(id(2), at(0));
    assert_eq!(fleet.unconnected, 0);
}

/// Counts the notices that all servers are connected.
#[derive(Clone, Debug, Default)]
struct AllConnected(Arc<AtomicUsize>);

impl Notices for AllConnected {
    fn notice(&mut self, notice: Notice<'_>) {
        if let Notice::AllConnected { worker } = notice {
            assert_eq!(worker, 0);
            self.0.fetch_add(1, Relaxed);
        }
    }
}

#[test]
fn the_first_connection_of_the_last_server_is_a_notice_and_a_later_one_is_not() {
    let notices = AllConnected::default();
    let mut fleet = fleet(2, |config| config);
    fleet.notices = Box::new(notices.clone());
    fleet.on_time(at(0));
    let mut count = 0;
    while let Some((id, action)) = fleet.next_action() {
        if let Action::Connect { socket, .. } = action {
            assert_eq!(notices.0.load(Relaxed), 0, "after {count} of 2");
            fleet.handle(id, Event::Connected { socket, error: None }, at(0));
            count += 1;
        }
    }
    assert_eq!((count, notices.0.load(Relaxed)), (2, 1));
    lose(&mut fleet, 0, reset(), at(1000));
    connect_all(&mut fleet, at(60_000));
    assert!(fleet.is_connected(id(0)));
    assert_eq!(notices.0.load(Relaxed), 1);
}
