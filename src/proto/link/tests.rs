use rand::SeedableRng;
use rand::rngs::SmallRng;

use std::iter::repeat_n;
use std::time::Duration;

use super::*;
use crate::codec::number::{Divisor, NumberDecoder};
use crate::config::Config;
use crate::proto::outage::DOWN_ALARM;
use crate::proto::time::{at, ms};

/// The notices so far, in short.
#[derive(Debug, Default)]
struct Recorder(Vec<String>);

impl Notices for Recorder {
    fn notice(&mut self, notice: Notice<'_>) {
        let Notice::Server { what, .. } = notice else { panic!("{notice:?} is no link's") };
        self.0.push(match what {
            ServerNotice::Trying { is_repeat } => format!("trying, repeat: {is_repeat}"),
            ServerNotice::Dialing { address } => format!("dialing {address}"),
            ServerNotice::Connected { failures, span, is_repeat, .. } => {
                let span_ms = span.as_millis();
                format!("connected after {failures} in {span_ms}, repeat: {is_repeat}")
            }
            ServerNotice::Failed { error, was_connected, retry, is_repeat } => {
                let retry = retry.map(|Retry { attempt, delay }| (attempt, delay.as_millis()));
                format!("failed: {error}, {was_connected}, {retry:?}, repeat: {is_repeat}")
            }
            ServerNotice::Down { span } => format!("down for {}", span.as_millis()),
            ServerNotice::GaveUp { failures, span, error, .. } => {
                let error = error.map(ToString::to_string);
                let span_ms = span.as_millis();
                format!("gave up after {failures} in {span_ms}: {error:?}")
            }
            ServerNotice::ReadToEnd { lines, success } => format!("read {lines}, {success}"),
            ServerNotice::Malformed { line, error, skipped } => {
                format!("malformed {}: {error}, {skipped}", line.escape_ascii())
            }
            ServerNotice::Oversized { max_line, skipped } => {
                format!("oversized {max_line}, {skipped}")
            }
            ServerNotice::Truncated { line, skipped } => {
                format!("truncated {}, {skipped}", line.escape_ascii())
            }
            ServerNotice::Unfinished { line } => format!("unfinished {}", line.escape_ascii()),
            ServerNotice::Hint { hint } => format!("{hint:?}"),
            ServerNotice::LookupPending => "lookup pending".into(),
            ServerNotice::LateAnswer => "late answer".into(),
        });
    }
}

/// The link's.
const ID: LinkId = LinkId { index: 7, generation: 3 };

/// A link with no jitter, the world that drives it, and what it asked for.
struct Bench {
    link: Link,
    policy: Policy,
    rng: SmallRng,
    actions: VecDeque<(LinkId, Action)>,
    sockets: Slab<LinkId>,
    now: Instant,
    pushed: Vec<i64>,
    room: usize,
    trusts_short_reads: bool,
    notices: Recorder,
}

impl Bench {
    fn new(server: &str) -> Bench {
        Bench::with(server, |config| config)
    }

    fn with(
        server: &str,
        adjust: impl FnOnce(crate::ConfigBuilder) -> crate::ConfigBuilder,
    ) -> Bench {
        let server: Server = server.parse().unwrap();
        let config = Config::builder().servers([server.clone()]).jitter_factor(0.0);
        Bench {
            link: Link::new(ID, Arc::new(ServerStats::new(7, 0, server)), at(0)),
            policy: Policy::from(&adjust(config).build().unwrap()),
            rng: SmallRng::seed_from_u64(1),
            actions: VecDeque::new(),
            sockets: Slab::new(),
            now: at(0),
            pushed: Vec::new(),
            room: usize::MAX / 4,
            trusts_short_reads: true,
            notices: Recorder::default(),
        }
    }

    fn handle(&mut self, event: Event) {
        let mut cx = Context {
            notices: &mut self.notices,
            now: self.now,
            policy: &self.policy,
            rng: &mut self.rng,
            actions: &mut self.actions,
            sockets: &mut self.sockets,
        };
        self.link.handle(event, &mut cx);
    }

    /// What the link asked for. As in a fleet, the number of a socket is free once it is closed.
    fn actions(&mut self) -> Vec<Action> {
        self.actions
            .drain(..)
            .map(|(id, action)| {
                assert_eq!(id, ID);
                if let Action::Close(socket) = action {
                    assert_eq!(self.sockets.remove(socket.0), ID);
                }
                action
            })
            .collect()
    }

    /// The addresses that the link asked to connect to, which must be all that it asked for.
    fn dialed(&mut self) -> Vec<(usize, String)> {
        let dialed = |action| match action {
            Action::Connect { socket, address } => (socket.0, address.to_string()),
            other => panic!("{other:?}"),
        };
        self.actions().into_iter().map(dialed).collect()
    }

    fn connected(&mut self, socket: usize) {
        self.handle(Event::Connected { socket: SocketId(socket), error: None });
    }

    fn failed(&mut self, socket: usize, error: ConnectionError) {
        self.handle(Event::Failed { socket: SocketId(socket), error });
    }

    /// The socket of the connection, or the oldest one of the attempt.
    fn socket(&self) -> usize {
        match &self.link.state {
            State::Connected(connection) => connection.socket.0,
            State::Connecting(attempt) => attempt.sockets().next().expect("one is open").0,
            state => panic!("no socket in {state:?}"),
        }
    }

    fn refused(&mut self) {
        self.failed(self.socket(), ConnectionError::Refused);
    }

    fn closed(&mut self) {
        self.failed(self.socket(), ConnectionError::Closed);
    }

    fn has_alarmed(&self) -> bool {
        self.link.outage.as_ref().is_some_and(|outage| outage.alarm_at().is_none())
    }

    /// When the present outage began.
    fn down_since(&self) -> Instant {
        self.link.outage.as_ref().expect("an outage").end_of(ms(0))
    }

    fn resolved(&mut self, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        self.handle(Event::Resolved(Ok(addresses)));
    }

    fn wake_at(&self) -> Option<Instant> {
        self.link.wake_at(&self.policy)
    }

    /// Jumps to when the link wants to be woken, and wakes it.
    fn wake(&mut self) {
        self.now = self.wake_at().expect("the link waits for nothing");
        self.handle(Event::Wake);
    }

    /// Brings a link with an address from any failure to a connection.
    fn connect(&mut self) {
        self.wake();
        assert_eq!(self.dialed().len(), 1);
        self.connected(0);
        assert!(self.link.is_connected());
    }

    fn read(&mut self, io: &mut impl Read) -> Progress {
        struct Room<'a>(&'a mut Vec<i64>, usize);
        impl Sink<i64> for Room<'_> {
            fn room(&mut self, _: usize) -> usize {
                self.1 - self.0.len()
            }
            fn begin(&mut self, server: usize) {
                assert_eq!(server, 7, "the number of the link");
            }
            fn push(&mut self, numbers: &[i64]) {
                self.0.extend_from_slice(numbers);
                assert!(self.0.len() <= self.1, "more numbers than room");
            }
            fn publish(&mut self) {}
            fn wait_for_room(&mut self) -> bool {
                false
            }
        }
        let mut sink = Room(&mut self.pushed, self.room);
        let divisor = Divisor::new(6.try_into().unwrap());
        let decoder = NumberDecoder::new(divisor, self.policy.framing);
        let mut cx = ReadContext {
            now: self.now,
            policy: &self.policy,
            decoder: &decoder,
            notices: &mut self.notices,
            scratch: &mut [0; 4096],
            short_read_means_drained: self.trusts_short_reads,
        };
        self.link.read(io, &mut sink, &mut cx)
    }
}

/// A source that yields the given results, one a read, and then would block.
struct Script(VecDeque<io::Result<Vec<u8>>>);

impl Script {
    fn new(steps: impl IntoIterator<Item = io::Result<&'static [u8]>>) -> Script {
        Script(steps.into_iter().map(|step| step.map(<[u8]>::to_vec)).collect())
    }
}

impl Read for Script {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.0.pop_front().unwrap_or(Err(io::ErrorKind::WouldBlock.into()))?;
        buf[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

/// What a connect to the only address asks for.
fn connect_to(text: &str) -> Vec<Action> {
    vec![Action::Connect { socket: SocketId(0), address: address(text) }]
}

fn reset() -> ConnectionError {
    io::Error::from(io::ErrorKind::ConnectionReset).into()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn the_first_attempt_is_due_at_once_and_the_next_after_1_2_4_seconds() {
    let mut bench = Bench::new("127.0.0.1:8001");
    assert_eq!(bench.wake_at(), Some(at(0)));
    for delay in [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000] {
        bench.wake();
        assert_eq!(bench.actions(), connect_to("127.0.0.1:8001"));
        bench.refused();
        assert_eq!(bench.actions(), [Action::Close(SocketId(0))]);
        assert_eq!(bench.wake_at(), Some(bench.now + ms(delay)));
    }
}

#[test]
fn a_wake_up_before_its_time_changes_nothing() {
    let mut bench = Bench::new("127.0.0.1:8001");
    bench.wake();
    bench.refused();
    bench.actions();
    bench.now = at(999);
    bench.handle(Event::Wake);
    assert_eq!((bench.actions(), bench.wake_at()), (vec![], Some(at(1000))));
}

#[test]
fn the_back_off_starts_over_at_the_threshold_and_not_a_millisecond_earlier() {
    for (stood, delay) in [(179_999, 2000), (180_000, 1000)] {
        let mut bench = Bench::new("127.0.0.1:8001");
        bench.wake();
        bench.refused();
        bench.actions();
        bench.connect();
        bench.now += ms(stood);
        bench.closed();
        assert_eq!(bench.wake_at(), Some(bench.now + ms(delay)), "after {stood} ms");
    }
}

#[test]
fn accepting_and_closing_at_once_makes_no_storm() {
    let mut bench = Bench::new("127.0.0.1:8001");
    for delay in [1000, 2000, 4000, 8000] {
        bench.connect();
        bench.closed();
        bench.actions();
        assert_eq!(bench.wake_at(), Some(bench.now + ms(delay)));
    }
}

#[test]
fn accepting_and_closing_at_once_is_an_outage_and_ends_in_giving_up() {
    let span = Duration::from_secs(5);
    let mut bench = Bench::with("127.0.0.1:8001", |config| config.give_up_after(span));
    bench.connect();
    bench.closed();
    bench.actions();
    for _ in 0..2 {
        bench.connect();
        bench.closed();
        bench.actions();
    }
    assert_eq!((bench.now, bench.wake_at()), (at(3000), Some(at(5000))));
    bench.wake();
    assert_eq!(bench.link.ended(), Some(false));
}

#[test]
fn a_byte_and_standing_for_the_threshold_each_end_an_outage_but_only_the_latter_the_streak() {
    for (bytes, stood, failures, is_same) in
        [(0, 179_999, 3, true), (1, 0, 3, false), (0, 180_000, 1, false)]
    {
        let mut bench = Bench::new("127.0.0.1:8001");
        for _ in 0..2 {
            bench.wake();
            bench.refused();
            bench.actions();
        }
        let since = bench.down_since();
        bench.connect();
        bench.read(&mut Script::new([Ok(&b"\n"[..bytes])].into_iter().take(bytes)));
        bench.now += ms(stood);
        bench.closed();
        assert_eq!(bench.link.streak.failures(), failures, "{bytes} bytes, {stood} ms");
        assert_eq!(bench.down_since() == since, is_same, "{bytes} bytes, {stood} ms");
    }
}

#[test]
fn the_number_of_an_attempt_is_that_of_its_delay_though_each_connection_brings_a_byte() {
    let mut bench = Bench::new("127.0.0.1:8001");
    for (failures, delay) in (1..).zip([1000, 2000, 4000, 8000]) {
        bench.connect();
        bench.read(&mut Script::new([Ok(&b"6\n"[..])]));
        bench.closed();
        bench.actions();
        assert_eq!(bench.wake_at(), Some(bench.now + ms(delay)));
        assert_eq!(bench.link.streak.failures(), failures);
    }
}

#[test]
fn a_name_is_resolved_anew_for_every_attempt() {
    let mut bench = Bench::new("name.test:8001");
    for (attempt, host) in ["192.0.2.1:8001", "192.0.2.2:8001"].into_iter().enumerate() {
        bench.wake();
        assert_eq!(bench.actions(), [Action::Resolve], "attempt {attempt}");
        bench.resolved(&[host]);
        assert_eq!(bench.actions(), connect_to(host));
        bench.refused();
        bench.actions();
    }
}

#[test]
fn a_lookup_that_outlasts_its_attempt_serves_the_next_one() {
    let mut bench = Bench::new("name.test:8001");
    bench.wake();
    bench.actions();
    bench.wake();
    assert_eq!(
        (bench.now, bench.wake_at()),
        (at(10_000), Some(at(11_000))),
        "the lookup has timed out"
    );
    bench.wake();
    assert_eq!(bench.actions(), [], "the first lookup is still under way");
    assert_eq!(bench.wake_at(), Some(at(21_000)));
    bench.now = at(15_000);
    bench.resolved(&["192.0.2.1:8001"]);
    assert_eq!(bench.actions(), connect_to("192.0.2.1:8001"));
}

#[test]
fn an_answer_between_two_attempts_is_kept_for_the_next_one_and_used_once() {
    let mut bench = Bench::new("name.test:8001");
    bench.wake();
    bench.actions();
    bench.wake();
    bench.now = at(10_500);
    bench.resolved(&["192.0.2.1:8001"]);
    assert_eq!((bench.actions(), bench.wake_at()), (vec![], Some(at(11_000))));
    bench.wake();
    assert_eq!(bench.actions(), connect_to("192.0.2.1:8001"));
    bench.refused();
    bench.actions();
    bench.wake();
    assert_eq!(bench.actions(), [Action::Resolve], "it may have moved since");
}

#[test]
fn a_late_error_and_a_late_answer_without_addresses_are_not_kept() {
    for result in [Ok(vec![]), Err(io::ErrorKind::NotFound.into())] {
        let mut bench = Bench::new("name.test:8001");
        bench.wake();
        bench.actions();
        bench.wake();
        bench.handle(Event::Resolved(result));
        bench.wake();
        assert_eq!(bench.actions(), [Action::Resolve]);
        assert_eq!(bench.link.counters().failures, 1);
    }
}

#[test]
fn an_answer_that_was_not_asked_for_changes_nothing() {
    let mut bench = Bench::new("name.test:8001");
    bench.resolved(&["192.0.2.1:8001"]);
    bench.wake();
    assert_eq!(bench.actions(), [Action::Resolve]);
    bench.resolved(&["192.0.2.2:8001"]);
    bench.resolved(&["192.0.2.3:8001"]);
    assert_eq!(bench.actions(), connect_to("192.0.2.2:8001"));
}

#[test]
fn connecting_has_the_whole_timeout_however_long_the_lookup_took() {
    let mut bench = Bench::new("name.test:8001");
    bench.wake();
    bench.actions();
    bench.now = at(9_999);
    bench.resolved(&["192.0.2.1:8001"]);
    assert_eq!(bench.wake_at(), Some(at(19_999)));
    bench.wake();
    assert_eq!(bench.wake_at(), Some(at(20_999)), "timed out, and to be tried again after 1 s");
}

#[test]
fn a_name_without_addresses_and_one_not_found_fail_the_attempt() {
    for result in [Ok(vec![]), Err(io::ErrorKind::NotFound.into())] {
        let mut bench = Bench::new("name.test:8001");
        bench.wake();
        bench.handle(Event::Resolved(result));
        assert_eq!(bench.wake_at(), Some(at(1000)));
        assert_eq!(bench.link.counters().failures, 1);
    }
}

#[test]
fn all_addresses_are_tried_in_one_attempt_the_next_one_when_the_last_has_failed() {
    let mut bench = Bench::new("localhost:8001");
    bench.wake();
    bench.actions();
    bench.resolved(&["[::1]:8001", "127.0.0.1:8001"]);
    assert_eq!(bench.dialed(), [(0, "[::1]:8001".into())]);
    bench.refused();
    let next = Action::Connect { socket: SocketId(1), address: address("127.0.0.1:8001") };
    assert_eq!(bench.actions(), [Action::Close(SocketId(0)), next]);
    assert_eq!(bench.link.counters().failures, 0, "the attempt has not failed yet");
    bench.refused();
    assert_eq!(bench.actions(), [Action::Close(SocketId(1))]);
    assert_eq!((bench.link.counters().failures, bench.wake_at()), (1, Some(at(1000))));
}

#[test]
fn a_silent_address_does_not_keep_the_next_one_waiting_and_the_first_to_connect_wins() {
    for winner in 0..3 {
        let mut bench = Bench::new("name.test:8001");
        bench.wake();
        bench.actions();
        bench.resolved(&["192.0.2.1:8001", "192.0.2.2:8001", "192.0.2.3:8001"]);
        assert_eq!(bench.dialed(), [(0, "192.0.2.1:8001".into())]);
        for (socket, due) in [(1, at(250)), (2, at(500))] {
            assert_eq!(bench.wake_at(), Some(due));
            bench.wake();
            assert_eq!(bench.dialed(), [(socket, format!("192.0.2.{}:8001", socket + 1))]);
        }
        assert_eq!(bench.wake_at(), Some(at(10_000)), "none is closed before the attempt ends");
        bench.connected(winner);
        let others = [0, 1, 2].into_iter().filter(|socket| *socket != winner);
        let closes: Vec<_> = others.map(|socket| Action::Close(SocketId(socket))).collect();
        assert_eq!(bench.actions(), closes);
        assert_eq!(bench.link.connection(), Some(SocketId(winner)));
        let loser = (winner + 1) % 3;
        bench.connected(loser);
        bench.failed(loser, ConnectionError::Refused);
        assert_eq!(bench.link.connection(), Some(SocketId(winner)), "a late event of another");
        assert_eq!(bench.link.counters().connects, 1);
    }
}

#[test]
fn at_the_end_of_the_attempt_every_socket_is_closed() {
    let mut bench = Bench::new("name.test:8001");
    bench.wake();
    bench.actions();
    bench.resolved(&["192.0.2.1:8001", "192.0.2.2:8001"]);
    bench.wake();
    bench.actions();
    bench.now = at(9_999);
    bench.handle(Event::Wake);
    assert_eq!(bench.actions(), []);
    bench.wake();
    assert_eq!(bench.actions(), [0, 1].map(|socket| Action::Close(SocketId(socket))));
    assert_eq!((bench.wake_at(), bench.link.counters().failures), (Some(at(11_000)), 1));
}

#[test]
fn an_attempt_takes_64_sockets_at_most() {
    let mut bench = Bench::new("name.test:8001");
    bench.wake();
    bench.actions();
    let addresses: Vec<_> = (0..70).map(|last| format!("192.0.2.{last}:8001")).collect();
    bench.resolved(&addresses.iter().map(String::as_str).collect::<Vec<_>>());
    let mut most = 0;
    while bench.now < at(9000) {
        bench.actions();
        most = most.max(bench.sockets.len());
        bench.now = bench.wake_at().unwrap().min(at(9000));
        bench.handle(Event::Wake);
    }
    bench.actions();
    assert_eq!((most, bench.sockets.len()), (64, 64));
}

#[test]
fn a_connection_that_was_lost_before_it_was_seen_is_read_to_its_end_and_lost_with_its_error() {
    for once in [false, true] {
        let mut bench = Bench::with("127.0.0.1:8001", |config| config.once(once));
        bench.wake();
        bench.actions();
        bench.handle(Event::Connected { socket: SocketId(0), error: Some(reset()) });
        assert_eq!(bench.link.counters().connects, 1);
        let mut io = Script::new([Ok(&b"6\n"[..]), Ok(b"12\n"), Ok(b"")]);
        let Progress::Failed(error) = bench.read(&mut io) else { panic!("not at its end") };
        assert_eq!(error.to_string(), "connection reset");
        bench.failed(0, error);
        assert_eq!(bench.pushed, [6, 12]);
        assert_eq!(bench.link.ended(), once.then_some(false), "it did not end well");
        assert_eq!(bench.link.counters().failures, 1);
    }
}

#[test]
fn a_link_gives_up_when_it_is_told_to_and_not_before() {
    let span = Duration::from_millis(2500);
    let mut bench = Bench::with("127.0.0.1:8001", |config| config.give_up_after(span));
    bench.wake();
    bench.refused();
    bench.wake();
    bench.refused();
    assert_eq!(bench.wake_at(), Some(at(2500)), "before the next attempt, which is due at 3000");
    bench.now = at(2499);
    bench.handle(Event::Wake);
    assert_eq!(bench.link.ended(), None);
    bench.wake();
    assert_eq!((bench.link.ended(), bench.wake_at()), (Some(false), None));
    assert_eq!(bench.link.counters().failures, 2);
}

#[test]
fn no_link_is_given_up_before_its_first_attempt() {
    let span = Duration::from_millis(1);
    let mut bench = Bench::with("127.0.0.1:8001", |config| config.give_up_after(span));
    bench.now = at(5);
    bench.handle(Event::Wake);
    assert_eq!(bench.actions().len(), 1);
    assert_eq!(bench.wake_at(), Some(at(6)), "its time begins with the attempt");
    bench.wake();
    assert_eq!(bench.link.ended(), Some(false));
}

#[test]
fn giving_up_closes_the_socket_that_is_being_connected() {
    let span = Duration::from_secs(5);
    let mut bench = Bench::with("192.0.2.1:8001", |config| config.give_up_after(span));
    bench.wake();
    bench.actions();
    bench.wake();
    assert_eq!(bench.now, at(5000));
    assert_eq!(bench.actions(), [Action::Close(SocketId(0))]);
    assert_eq!(bench.link.ended(), Some(false));
    assert_eq!(bench.link.counters().failures, 1, "that attempt has failed");
}

#[test]
fn the_alarm_wakes_once_in_an_outage_of_three_minutes() {
    let mut bench = Bench::with("127.0.0.1:8001", |config| {
        let day = Duration::from_secs(86_400);
        config.initial_backoff(day).max_backoff(day)
    });
    bench.wake();
    bench.refused();
    assert_eq!(bench.wake_at(), Some(at(0) + DOWN_ALARM));
    assert!(!bench.has_alarmed());
    bench.wake();
    assert!(bench.has_alarmed());
    assert_eq!(bench.wake_at(), Some(at(86_400_000)));
}

#[test]
fn an_idle_connection_is_lost_at_the_timeout_after_the_last_byte() {
    let idle = Duration::from_secs(5);
    let mut bench = Bench::with("127.0.0.1:8001", |config| config.idle_timeout(idle));
    bench.connect();
    bench.now = at(3000);
    assert!(matches!(bench.read(&mut Script::new([Ok(&b"6\n"[..])])), Progress::Drained));
    assert_eq!(bench.wake_at(), Some(at(8000)));
    bench.now = at(7999);
    bench.handle(Event::Wake);
    assert!(bench.link.is_connected());
    bench.wake();
    assert_eq!(bench.actions(), [Action::Close(SocketId(0))]);
    assert!(!bench.link.is_connected());
}

#[test]
fn without_an_idle_timeout_a_connected_link_wants_no_wake_up() {
    let mut bench = Bench::new("127.0.0.1:8001");
    bench.connect();
    assert_eq!(bench.wake_at(), None);
}

#[test]
fn once_ends_well_only_for_a_connection_that_the_server_closed() {
    let connected_and = |error| {
        let mut bench = Bench::with("127.0.0.1:8001", |config| config.once(true));
        bench.connect();
        bench.failed(0, error);
        (bench.link.ended(), bench.wake_at())
    };
    assert_eq!(connected_and(ConnectionError::Closed), (Some(true), None));
    assert_eq!(connected_and(reset()), (Some(false), None));
    let mut bench = Bench::with("127.0.0.1:8001", |config| config.once(true));
    bench.wake();
    bench.refused();
    assert_eq!((bench.link.ended(), bench.wake_at()), (Some(false), None));
}

#[test]
fn once_ends_badly_for_a_server_that_sent_nothing_but_malformed_lines() {
    for (sent, success) in [
        (&b""[..], true),
        (b"junk", true),
        (b"junk\n", false),
        (b"junk\n6.0\n12345\n", false),
        (b"junk\n\n", true),
        (b"junk\n7\n", true),
    ] {
        let mut bench = Bench::with("127.0.0.1:8001", |config| config.once(true).max_line(4));
        bench.connect();
        bench.read(&mut Script::new([Ok(sent)].into_iter().take(sent.len())));
        bench.closed();
        assert_eq!(bench.link.ended(), Some(success), "{}", sent.escape_ascii());
        assert_eq!(bench.link.counters().failures, 0);
    }
}

#[test]
fn a_tail_without_its_newline_is_counted_and_joins_nothing() {
    let mut bench = Bench::new("127.0.0.1:8001");
    bench.connect();
    bench.link.read_on();
    let mut io = Script::new([Ok(&b"1266\n12"[..]), Ok(b"")]);
    assert!(matches!(bench.read(&mut io), Progress::Failed(ConnectionError::Closed)));
    bench.closed();
    bench.actions();
    bench.connect();
    bench.read(&mut Script::new([Ok(&b"6\n"[..])]));
    assert_eq!(bench.pushed, [1266, 6]);
    assert_eq!(bench.link.counters().truncated, 1);
}

#[test]
fn a_tail_is_kept_as_a_line_only_if_asked_for_and_the_server_has_closed_in_good_order() {
    // The tail, and whether it is a number, malformed, or of no line.
    for (tail, numbers, malformed) in
        [(&b"12"[..], &[6, 12][..], 0), (b"12\r", &[6, 12], 0), (b"x", &[6], 1), (b"", &[6], 0)]
    {
        let (line, truncated) = (u64::from(!tail.is_empty()), u64::from(!tail.is_empty()));
        let mut kept = Bench::with("127.0.0.1:8001", |config| config.keep_truncated(true));
        let text: &[u8] = &[b"6\n", tail].concat();
        let end = |bench: &mut Bench, end: io::Result<Vec<u8>>| {
            bench.connect();
            bench.link.read_on();
            let mut io = Script([Ok(text.to_vec()), end].into());
            let Progress::Failed(error) = bench.read(&mut io) else { panic!("it has ended") };
            bench.failed(0, error);
            let Counters { lines, malformed, truncated, .. } = bench.link.counters();
            (std::mem::take(&mut bench.pushed), lines, malformed, truncated)
        };
        assert_eq!(end(&mut kept, Ok(vec![])), (numbers.to_vec(), 1 + line, malformed, 0));
        kept.actions();
        let reset = || Err(io::ErrorKind::ConnectionReset.into());
        assert_eq!(end(&mut kept, reset()), (vec![6], 2 + line, malformed, truncated));
        let mut dropped = Bench::new("127.0.0.1:8001");
        assert_eq!(end(&mut dropped, Ok(vec![])), (vec![6], 1, 0, truncated));
    }
}

#[test]
fn a_tail_is_never_kept_after_an_error_of_the_handshake_an_idle_timeout_or_a_stop() {
    let idle = Duration::from_secs(5);
    let bench = || {
        let set = |config: crate::ConfigBuilder| config.keep_truncated(true).idle_timeout(idle);
        let mut bench = Bench::with("127.0.0.1:8001", set);
        bench.wake();
        bench.actions();
        bench
    };
    let mut lost = bench();
    lost.handle(Event::Connected { socket: SocketId(0), error: Some(reset()) });
    let progress = lost.read(&mut Script::new([Ok(&b"6\n12"[..]), Ok(b"")]));
    assert!(matches!(progress, Progress::Failed(ConnectionError::Io(_))), "{progress:?}");
    lost.failed(0, reset());
    let mut idle = bench();
    idle.connected(0);
    idle.read(&mut Script::new([Ok(&b"6\n12"[..])]));
    idle.wake();
    let mut stopped = bench();
    stopped.connected(0);
    stopped.read(&mut Script::new([Ok(&b"6\n12"[..])]));
    stopped.link.shut_down(&mut ());
    for bench in [lost, idle, stopped] {
        assert!(!bench.link.is_connected());
        assert_eq!((bench.pushed.clone(), bench.link.counters().truncated), (vec![6], 1));
    }
}

#[test]
fn an_oversized_tail_stays_oversized_and_a_kept_one_needs_no_more_room_than_a_byte() {
    let mut bench =
        Bench::with("127.0.0.1:8001", |config| config.keep_truncated(true).max_line(4).once(true));
    bench.connect();
    bench.link.read_on();
    bench.read(&mut Script::new([Ok(&b"6\n12345"[..]), Ok(b"")]));
    let Counters { lines, oversized, truncated, .. } = bench.link.counters();
    assert_eq!((bench.pushed.clone(), lines, oversized, truncated), (vec![6], 2, 1, 0));

    let mut bench = Bench::with("127.0.0.1:8001", |config| config.keep_truncated(true));
    bench.connect();
    bench.link.read_on();
    bench.room = MIN_ROOM;
    bench.read(&mut Script::new([Ok(&b"6"[..]), Ok(b"")]));
    assert_eq!((bench.pushed.clone(), bench.link.counters().lines), (vec![6], 1));
}

impl Bench {
    /// Reads text to its end, and returns the hints since the last call.
    fn hints(&mut self, text: &[u8]) -> Vec<String> {
        let mut rest = text;
        while !rest.is_empty() {
            self.read(&mut rest);
        }
        let notices = std::mem::take(&mut self.notices.0);
        let is_hint =
            |text: &String| text.contains("NoDelimiter") || text.contains("OnlyMalformed");
        notices.into_iter().filter(is_hint).collect()
    }

    fn reconnect(&mut self) {
        if self.link.is_connected() {
            self.closed();
        }
        self.actions();
        self.connect();
    }
}

#[test]
fn a_server_has_one_hint_at_64_kib_without_a_delimiter_and_none_a_byte_earlier() {
    let mut bench = Bench::with("127.0.0.1:8001", |config| config.delimiter(0));
    bench.reconnect();
    let long = vec![b'\n'; HINT_BYTES - 1];
    assert_eq!(bench.hints(&long), [""; 0]);
    assert_eq!(bench.hints(b"\0\n"), [""; 0], "the count starts over");
    assert_eq!(bench.hints(&long), ["NoDelimiter { bytes: 65536, delimiter: 0 }"]);
    bench.reconnect();
    assert_eq!(bench.hints(&[&long[..], &long].concat()), [""; 0], "it had its hint");
}

#[test]
fn lines_up_to_a_longer_limit_are_worth_no_hint() {
    let max_line = 2 * HINT_BYTES;
    let mut bench = Bench::with("127.0.0.1:8001", |config| config.max_line(max_line));
    bench.reconnect();
    assert_eq!(bench.hints(&vec![b'6'; max_line - 1]), [""; 0]);
    assert_eq!(bench.hints(b"6"), ["NoDelimiter { bytes: 131072, delimiter: 10 }"]);
}

#[test]
fn a_server_has_one_hint_after_100_lines_all_malformed_and_none_a_line_earlier() {
    let mut bench = Bench::new("127.0.0.1:8001");
    bench.reconnect();
    assert_eq!(bench.hints(&b"x\n".repeat(99)), [""; 0]);
    assert_eq!(bench.hints(b"x\n"), ["OnlyMalformed { lines: 100 }"]);
    assert_eq!(bench.hints(&b"x\n".repeat(100)), [""; 0], "it had its hint");
    bench.reconnect();
    assert_eq!(bench.hints(&b"x\n".repeat(100)), [""; 0], "it had its hint");
}

#[test]
fn a_connection_that_ends_after_malformed_lines_alone_is_worth_a_hint() {
    for (text, lines) in [
        (&b""[..], None),
        (b"x", None),
        (b"x\n", Some(1)),
        (b"x\ny\n1", Some(2)),
        (b"x\n\n", None),
        (b"x\n7\n", None),
        (b"7\nx\n", None),
        // An oversized line is not malformed.
        (b"x\n12345\n", None),
        (b"x\n12345", None),
    ] {
        let mut bench = Bench::with("127.0.0.1:8001", |config| config.max_line(4));
        // A good connection says nothing about the next one.
        for before in [&b""[..], b"7\n"] {
            bench.reconnect();
            assert_eq!(bench.hints(before), [""; 0]);
        }
        bench.reconnect();
        assert_eq!(bench.hints(text), [""; 0]);
        bench.failed(0, reset());
        let hint = lines.map(|lines| format!("OnlyMalformed {{ lines: {lines} }}"));
        assert_eq!(bench.hints(b""), Vec::from_iter(hint), "{}", text.escape_ascii());
    }
    let mut kept = Bench::with("127.0.0.1:8001", |config| config.keep_truncated(true));
    kept.reconnect();
    kept.link.read_on();
    kept.read(&mut Script::new([Ok(&b"x"[..]), Ok(b"")]));
    kept.closed();
    assert_eq!(kept.hints(b""), ["OnlyMalformed { lines: 1 }"]);
}

#[test]
fn a_short_read_ends_the_turn_unless_the_poll_or_the_transport_says_otherwise() {
    for (read_on, trusts_short_reads, ends) in
        [(false, true, false), (true, true, true), (false, false, true)]
    {
        let mut bench = Bench::new("127.0.0.1:8001");
        bench.trusts_short_reads = trusts_short_reads;
        bench.connect();
        if read_on {
            bench.link.read_on();
        }
        let mut io = Script::new([Ok(&b"6\n"[..]), Ok(b"12\n"), Ok(b"")]);
        let progress = bench.read(&mut io);
        assert_eq!(matches!(progress, Progress::Failed(ConnectionError::Closed)), ends);
        assert_eq!(bench.pushed.len(), if ends { 2 } else { 1 });
    }
}

#[test]
fn reading_on_ends_when_a_read_would_block() {
    let mut bench = Bench::new("127.0.0.1:8001");
    bench.connect();
    bench.link.read_on();
    let would_block = || Err(io::ErrorKind::WouldBlock.into());
    let mut io = Script::new([Ok(&b"6\n"[..]), would_block(), Ok(b"12\n"), Ok(b"18\n")]);
    assert!(matches!(bench.read(&mut io), Progress::Drained));
    assert!(matches!(bench.read(&mut io), Progress::Drained));
    assert_eq!(bench.pushed, [6, 12], "short reads are trusted again");
}

#[test]
fn an_interrupted_read_is_repeated() {
    let mut bench = Bench::new("127.0.0.1:8001");
    bench.connect();
    let mut io = Script::new([Err(io::ErrorKind::Interrupted.into()), Ok(&b"6\n"[..])]);
    assert!(matches!(bench.read(&mut io), Progress::Drained));
    assert_eq!(bench.pushed, [6]);
    let mut io = io::repeat(b'\n').take(u64::MAX);
    assert!(matches!(bench.read(&mut io), Progress::More), "the bytes fill the buffer");
    assert_eq!(bench.link.counters().bytes, 2 + 4096);
    let mut io =
        Script(repeat_n(io::ErrorKind::Interrupted, 5000).map(|kind| Err(kind.into())).collect());
    assert!(matches!(bench.read(&mut io), Progress::More), "signals do not hold the loop");
}

#[test]
fn a_full_sink_stops_reading_and_a_nearly_full_one_shortens_it() {
    let mut bench = Bench::new("127.0.0.1:8001");
    bench.connect();
    bench.room = MIN_ROOM - 1;
    let mut io = Script::new([Ok(&b"6\n"[..])]);
    assert!(matches!(bench.read(&mut io), Progress::SinkFull));
    assert_eq!(io.0.len(), 1, "nothing was read");

    struct Sixes;
    impl Read for Sixes {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            // The worst case: after a digit that is held, each newline ends a number.
            for (place, byte) in buf.iter_mut().enumerate() {
                *byte = if place % 2 == 0 { b'\n' } else { b'6' };
            }
            Ok(buf.len())
        }
    }
    bench.room = MIN_ROOM + 10;
    bench.read(&mut Script::new([Ok(&b"6"[..])]));
    assert!(matches!(bench.read(&mut Sixes), Progress::SinkFull));
    assert!(bench.pushed.len() > 10);
}

#[test]
fn malformed_lines_are_counted_each_and_logged_within_a_limit() {
    let mut bench = Bench::new("127.0.0.1:8001");
    bench.connect();
    bench.read(&mut Script::new([Ok(&b"junk\n\x00\n6\n"[..])]));
    assert_eq!(bench.link.counters().malformed, 2);
    assert_eq!(bench.link.admit_malformed(at(10_000)), Some(1), "of two, one was logged");
}

#[test]
fn a_dropped_tail_is_logged_within_the_same_limit() {
    let mut bench = Bench::new("127.0.0.1:8001");
    for (tail, skipped) in [(&b"126"[..], Some(0)), (b"", None), (b"junk\n1", Some(1))] {
        bench.connect();
        bench.read(&mut Script::new([Ok(tail)].into_iter().take(tail.len())));
        bench.closed();
        bench.actions();
        if let Some(skipped) = skipped {
            assert_eq!(bench.link.admit_malformed(bench.now + ms(10_000)), Some(skipped));
        }
        bench.link.malformed_log = None;
    }
    assert_eq!(bench.link.counters().truncated, 2);
}

#[test]
fn what_is_received_is_counted() {
    let mut bench = Bench::with("127.0.0.1:8001", |config| config.max_line(4));
    bench.connect();
    let chunks = [&b"6\n1\n\n12345\nx\n"[..], b"12", b"\n123", b"45", b"6\n66\n123"];
    for chunk in chunks {
        bench.read(&mut Script::new([Ok(chunk)]));
    }
    let received = Counters {
        connects: 1,
        failures: 0,
        bytes: chunks.concat().len() as u64,
        lines: 8,
        matched: 3,
        malformed: 1,
        oversized: 2,
        truncated: 0,
    };
    assert_eq!(bench.link.counters(), received);
    assert_eq!((bench.pushed.clone(), bench.link.held()), (vec![6, 12, 66], 3));
    bench.closed();
    let lost = Counters { failures: 1, truncated: 1, ..received };
    assert_eq!((bench.link.counters(), bench.link.held()), (lost, 0));
    let mut sum = lost;
    sum += lost;
    sum += lost;
    let thrice = Counters {
        connects: 3,
        failures: 3,
        bytes: 3 * lost.bytes,
        lines: 24,
        matched: 9,
        malformed: 3,
        oversized: 6,
        truncated: 3,
    };
    assert_eq!(sum, thrice);
}

#[test]
fn a_read_that_would_block_is_no_failure_and_any_other_error_is() {
    let mut bench = Bench::new("127.0.0.1:8001");
    bench.connect();
    bench.link.read_on();
    let mut io = Script::new([Ok(&b"6\n"[..])]);
    assert!(matches!(bench.read(&mut io), Progress::Drained));
    let reset = io::Error::from(io::ErrorKind::ConnectionReset);
    let progress = bench.read(&mut Script::new([Err(reset)]));
    assert!(matches!(progress, Progress::Failed(ConnectionError::Io(_))), "{progress:?}");
}

#[test]
fn endless_interruptions_end_the_turn() {
    struct Interrupted;
    impl Read for Interrupted {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::Interrupted.into())
        }
    }
    let mut bench = Bench::new("127.0.0.1:8001");
    bench.connect();
    assert!(matches!(bench.read(&mut Interrupted), Progress::More));
}

#[test]
fn as_much_room_as_the_least_is_enough() {
    let mut bench = Bench::new("127.0.0.1:8001");
    bench.connect();
    bench.room = MIN_ROOM;
    assert!(matches!(bench.read(&mut Script::new([Ok(&b"6\n"[..])])), Progress::Drained));
}

#[test]
fn a_wake_up_for_the_alarm_ends_no_attempt() {
    let timeout = Duration::from(DOWN_ALARM * 2);
    for server in ["127.0.0.1:8001", "name.example:8001"] {
        let mut bench = Bench::with(server, |config| config.connect_timeout(timeout));
        bench.wake();
        bench.actions();
        bench.now = at(0) + DOWN_ALARM;
        bench.handle(Event::Wake);
        assert!(bench.has_alarmed());
        assert_eq!((bench.actions(), bench.link.counters().failures), (vec![], 0));
        bench.now = at(0) + DOWN_ALARM * 2;
        bench.handle(Event::Wake);
        assert_eq!(bench.link.counters().failures, 1);
    }
}

#[test]
fn a_wake_up_while_connected_is_no_outage() {
    let span = Duration::from(DOWN_ALARM);
    let mut bench =
        Bench::with("127.0.0.1:8001", |config| config.idle_timeout(2 * span).give_up_after(span));
    bench.connect();
    bench.now = at(0) + DOWN_ALARM;
    bench.read(&mut Script::new([Ok(&b"6\n"[..])]));
    bench.now = at(0) + DOWN_ALARM * 2;
    bench.handle(Event::Wake);
    assert!(bench.link.is_connected() && bench.link.outage.is_none());
}

#[test]
fn each_step_of_an_outage_is_a_notice() {
    let mut bench = Bench::with("127.0.0.1:8001", |config| {
        config
            .give_up_after(Duration::from(DOWN_ALARM * 2))
            .connect_timeout(Duration::from_secs(3600))
            .max_line(4)
    });
    bench.connect();
    bench.read(&mut Script::new([Ok(&b"6\nx\n12345\n66"[..])]));
    bench.failed(0, reset());
    for _ in 0..3 {
        bench.wake();
    }
    assert_eq!(
        bench.notices.0,
        [
            "trying, repeat: false",
            "dialing 127.0.0.1:8001",
            "connected after 0 in 0, repeat: false",
            "malformed x: unexpected 'x', expected a whole number, 0",
            "failed: connection reset, true, Some((1, 1000)), repeat: false",
            "trying, repeat: false",
            "dialing 127.0.0.1:8001",
            "down for 180000",
            "gave up after 2 in 360000: Some(\"connection reset\")",
        ]
    );
}

#[test]
fn an_unfinished_line_at_the_end_of_the_job_is_a_notice() {
    let mut bench = Bench::new("127.0.0.1:8001");
    bench.connect();
    bench.read(&mut Script::new([Ok(&b"66"[..])]));
    bench.notices.0.clear();
    bench.link.shut_down(&mut bench.notices);
    assert_eq!(bench.notices.0, ["unfinished 66"]);
    assert_eq!(bench.link.counters().truncated, 1);
}
