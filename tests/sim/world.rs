//! The system that a worker sees, with a clock that jumps and a net in memory.
//!
//! The world is the worker's `Io`. Readiness is edge-triggered: the poll mentions a socket when something has
//! arrived, once, in batches, in the order of arrival, as epoll does. Between any two calls time may pass, a
//! little or much, and the world goes on meanwhile. Each call is shown to the oracle, which says whether it
//! was right; what is wrong first is kept until the turn is over.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tcpcore::Lines as WholeLines;
use tcpcore::internals::codec::number::NumberDecoder;
use tcpcore::internals::proto::fleet::{Fleet, READ_SIZE, TIMERS_PER_TURN};
use tcpcore::internals::proto::link::Sink;
use tcpcore::internals::proto::link_id::LinkId;
use tcpcore::internals::proto::policy::Policy;
use tcpcore::internals::proto::socket_id::SocketId;
use tcpcore::internals::proto::time::{Duration, Instant};
use tcpcore::internals::proto::worker::{Handshake, Io, Polled, Ready, Worker};
use tcpcore::internals::stats::ServerStats;
use tcpcore::{Config, ConnectionError, Host, Server};

use super::chance::{Chance, Kind};
use super::codec::{Codec, Fate};
use super::net::{self, Edge, End, LineKind, Lines, Phase, Socket};
use super::noted::Noted;
use super::oracle::{Oracle, Rules, Shaken};
use super::{Outcome, Step, Trace, Violation, ensure};

/// A world that has faults ends them after so many turns, if its bytes last that long.
const TURNS_WITH_FAULTS: u64 = 2000;

/// No world needs more turns than this to come to rest, unless the loop spins.
const TURNS_MAX: u64 = 50_000;

/// The servers that a world begins with, and those that it has in the course of time.
const SERVERS_MAX: u32 = 7;
const SERVERS_EVER: usize = 40;

/// The most servers at one time. All timers of as many may expire in one turn, which the oracle expects.
const SERVERS_AT_ONCE: usize = TIMERS_PER_TURN;

/// A server whose sink is this large is never stopped by it in a world.
const LARGE_SINK: usize = 1024 * 1024;

/// Something that the world does by itself at its time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A socket is connected, or its connect fails.
    Dialed { socket: usize, accepted: bool },
    /// The server at the other end of a socket does something.
    Serve { socket: usize },
    /// The resolver answers.
    Answer { server: usize, addresses: Option<Vec<SocketAddr>> },
    /// The output goes on.
    Print,
}

struct World<'a, 'b, C: Codec, const SHORT_READ_MEANS_DRAINED: bool> {
    chance: Chance<'a>,
    trace: &'b mut Trace,
    rules: Rules,
    oracle: Oracle,
    violation: Option<Violation>,
    now: Instant,
    /// How often the worker has read the clock.
    readings: u64,
    /// By time; the middle number keeps the order of those at the same time.
    due: BinaryHeap<Reverse<(Instant, u64, Due)>>,
    scheduled: u64,
    /// All sockets there ever were, and the open ones by their number.
    sockets: Vec<Socket>,
    open: BTreeMap<SocketId, usize>,
    /// The poll's list: the sockets with something to mention, in the order of its arrival.
    ready: VecDeque<SocketId>,
    answers: VecDeque<(usize, Option<Vec<SocketAddr>>)>,
    /// Whether an answer has come since the poll last returned: it ends one that sleeps.
    is_woken: bool,
    /// By server: whether its name is being looked up.
    lookups: Vec<bool>,
    /// By server: its link's id, and the other way round.
    ids: Vec<LinkId>,
    servers: BTreeMap<LinkId, usize>,
    events_per_poll: usize,
    queue: Rc<RefCell<Queue<C::Record>>>,
    /// What was read and must be pushed next.
    expected: Records<C::Record>,
    /// A buffer for what is expected of one read.
    buffer: Vec<C::Record>,
    is_output_running: bool,
    calm_until: Option<Instant>,
    is_stopped: bool,
    turns: u64,
    noted: Noted,
}

/// Records in order, with the server of each run of them.
#[derive(Debug, PartialEq)]
struct Records<T> {
    records: Vec<T>,
    /// The server of each run, and where the run ends. No run is empty, and the next is of another server.
    runs: Vec<(usize, usize)>,
}

impl<T: Copy> Records<T> {
    fn new() -> Records<T> {
        Records { records: Vec::new(), runs: Vec::new() }
    }

    fn add(&mut self, server: usize, records: &[T]) {
        if records.is_empty() {
            return;
        }
        self.records.extend_from_slice(records);
        let end = self.records.len();
        match self.runs.last_mut() {
            Some((last, its_end)) if *last == server => *its_end = end,
            _ => self.runs.push((server, end)),
        }
    }

    fn clear(&mut self) {
        self.records.clear();
        self.runs.clear();
    }
}

/// The ring and the output.
#[derive(Debug)]
struct Queue<T> {
    capacity: usize,
    /// The room that the worker waits for once it has found the ring full.
    wanted: usize,
    /// The records that wait for the output.
    len: usize,
    /// What was pushed and not published yet.
    staged: usize,
    /// What was pushed and not compared yet.
    pushed: Records<T>,
    /// The server of what is pushed next.
    server: usize,
    /// Whether `room` looks further than it was asked to.
    is_exact: bool,
    has_overflown: bool,
    /// Whether the worker is to be woken when there is room.
    is_awaited: bool,
}

impl<T> Queue<T> {
    fn free(&self) -> usize {
        self.capacity - self.len - self.staged
    }

    /// Whether there is the room for which the worker waits.
    fn has_room(&self) -> bool {
        self.is_awaited && self.free() >= self.wanted
    }
}

#[derive(Debug)]
struct Ring<T>(Rc<RefCell<Queue<T>>>);

impl<T: Copy> Sink<T> for Ring<T> {
    fn room(&mut self, want: usize) -> usize {
        let queue = self.0.borrow();
        if queue.is_exact { queue.free() } else { queue.free().min(want) }
    }

    fn begin(&mut self, server: usize) {
        self.0.borrow_mut().server = server;
    }

    fn push(&mut self, pushed: &[T]) {
        let queue = &mut *self.0.borrow_mut();
        queue.has_overflown |= pushed.len() > queue.free();
        queue.staged += pushed.len().min(queue.free());
        queue.pushed.add(queue.server, pushed);
    }

    fn publish(&mut self) {
        let mut queue = self.0.borrow_mut();
        queue.len += std::mem::take(&mut queue.staged);
    }

    fn wait_for_room(&mut self) -> bool {
        let mut queue = self.0.borrow_mut();
        queue.is_awaited = queue.free() < queue.wanted;
        queue.is_awaited
    }
}

/// Lives through the world that these bytes make.
pub(super) fn run(entropy: &[u8], trace: &mut Trace) -> Result<Outcome, Violation> {
    let mut chance = Chance::new(entropy);
    match (chance.one_in(2), chance.one_in(4)) {
        (false, false) => live(World::<NumberDecoder, true>::new(chance, trace)),
        (false, true) => live(World::<NumberDecoder, false>::new(chance, trace)),
        (true, false) => live(World::<WholeLines, true>::new(chance, trace)),
        (true, true) => live(World::<WholeLines, false>::new(chance, trace)),
    }
}

fn live<C: Codec, const D: bool>(
    (mut world, fleet): (World<'_, '_, C, D>, Fleet<C>),
) -> Result<Outcome, Violation> {
    let mut worker = Worker::new(fleet, Ring(Rc::clone(&world.queue)), world.now);
    let stops_early = world.chance.one_in(8);
    while world.calm_until.is_none() && !worker.fleet().is_finished() {
        world.turn(&mut worker)?;
        world.change_servers(&mut worker)?;
        if world.turns == TURNS_WITH_FAULTS || world.chance.is_spent() {
            if stops_early {
                world.chance.saw(Kind::StoppedInTheMiddle);
                break;
            }
            world.calm();
        }
    }
    if world.calm_until.is_some() {
        world.recover(&mut worker)?;
    }
    world.stop(&mut worker)?;
    Ok(Outcome { hash: world.trace.hash(), coverage: world.chance.coverage, turns: world.turns })
}

impl<'a, 'b, C: Codec, const D: bool> World<'a, 'b, C, D> {
    fn new(mut chance: Chance<'a>, trace: &'b mut Trace) -> (World<'a, 'b, C, D>, Fleet<C>) {
        let config = config(&mut chance);
        let now = Instant::from_millis(chance.pick(&[0, 1, 63, 4095, 1 << 40]));
        let rules = Rules::from(&config);
        let decoder = C::new(&config);
        let seed = u64::from(chance.below(256));
        let noted = Noted::default();
        let mut fleet =
            Fleet::new(0, Policy::from(&config), decoder, Box::new(noted.clone()), seed, now);
        let is_small = chance.fault(Kind::OutputStalls, 2);
        let wanted = C::least_room(&rules);
        let capacity = if is_small { wanted + chance.index(64) } else { LARGE_SINK };
        let is_exact = chance.one_in(2);
        let servers = 1 + chance.below(SERVERS_MAX);
        trace.step(Step::World { servers: servers as usize, faults: chance.faults });
        let queue = Queue {
            capacity,
            wanted,
            len: 0,
            staged: 0,
            pushed: Records::new(),
            server: usize::MAX,
            is_exact,
            has_overflown: false,
            is_awaited: false,
        };
        let mut world = World {
            trace,
            oracle: Oracle::new::<C>(rules.clone(), D, now),
            rules,
            violation: None,
            now,
            readings: 0,
            due: BinaryHeap::new(),
            scheduled: 0,
            sockets: Vec::new(),
            open: BTreeMap::new(),
            ready: VecDeque::new(),
            answers: VecDeque::new(),
            is_woken: false,
            lookups: Vec::new(),
            ids: Vec::new(),
            servers: BTreeMap::new(),
            events_per_poll: 1024,
            queue: Rc::new(RefCell::new(queue)),
            expected: Records::new(),
            buffer: Vec::new(),
            is_output_running: true,
            calm_until: None,
            is_stopped: false,
            turns: 0,
            noted,
            chance,
        };
        if world.chance.fault(Kind::FewEvents, 2) {
            world.events_per_poll = 1 + world.chance.index(3);
        }
        for _ in 0..servers {
            world.add(|number, server| fleet.add(number, server, now));
        }
        (world, fleet)
    }

    /// Adds a server with a number of its own, which no other has later.
    fn add(&mut self, add: impl FnOnce(usize, Server) -> LinkId) {
        let number = self.ids.len();
        let name = match self.chance.below(2) {
            0 => format!("s{number}.test:9000"),
            _ => net::address(number, 0).to_string(),
        };
        let server: Server = name.parse().expect("both are well formed");
        assert_eq!(matches!(server.host(), Host::Name(_)), name.starts_with('s'));
        let id = add(number, server.clone());
        let had_it = self.servers.insert(id, number);
        self.check(match had_it {
            None => Ok(()),
            Some(other) => Err(Violation(format!("{id:?} is the id of {other}, too"))),
        });
        self.oracle.add(id, server);
        self.ids.push(id);
        self.lookups.push(false);
        let LinkId { index, generation } = id;
        self.trace.step(Step::Added { server: number, index, generation });
        self.note_used_index(number);
    }

    /// Takes note of a server that has the index of one that was removed.
    fn note_used_index(&mut self, number: usize) {
        let is_before = |other: &usize| self.ids[*other].index == self.ids[number].index;
        let Some(before) = (0..number).rev().find(is_before) else { return };
        self.chance.saw(Kind::IndexUsedAgain);
        if self.lookups[before] {
            self.chance.saw(Kind::IndexUsedInLookup);
        }
        if self.open.values().any(|at| self.sockets[*at].server == before) {
            self.chance.saw(Kind::IndexUsedWithSocketsOpen);
        }
    }

    /// Adds and removes servers between two turns.
    fn change_servers(&mut self, worker: &mut Worker<C, Ring<C::Record>>) -> Result<(), Violation> {
        while self.oracle.servers() > 0 && self.chance.fault(Kind::ServerRemoved, 8) {
            self.remove(worker)?;
            if self.chance.one_in(2) {
                self.add_between_turns(worker)?;
            }
        }
        while self.chance.fault(Kind::ServerAdded, 8) {
            self.add_between_turns(worker)?;
        }
        self.violation.take().map_or(Ok(()), Err)
    }

    fn add_between_turns(
        &mut self,
        worker: &mut Worker<C, Ring<C::Record>>,
    ) -> Result<(), Violation> {
        if self.ids.len() == SERVERS_EVER || self.oracle.servers() == SERVERS_AT_ONCE {
            return Ok(());
        }
        if self.oracle.servers() == 0 {
            self.chance.saw(Kind::AddedToNone);
        }
        self.add(|number, server| worker.add(Arc::new(ServerStats::new(number, 0, server))));
        self.oracle.check_fleet(worker.fleet())
    }

    fn remove(&mut self, worker: &mut Worker<C, Ring<C::Record>>) -> Result<(), Violation> {
        let number = self.chance.index(self.ids.len());
        let id = self.ids[number];
        let tails = self.tails();
        let is_known = self.oracle.on_remove(number, tails[number], &mut self.chance);
        self.trace.step(Step::Removed { server: number });
        ensure!(worker.remove(id) == is_known, "{number} is removed: {}", !is_known);
        self.oracle.check_fleet(worker.fleet())
    }

    fn turn(&mut self, worker: &mut Worker<C, Ring<C::Record>>) -> Result<(), Violation> {
        self.turns += 1;
        self.trace.step(Step::Turn { now: self.now, time: self.oracle.time() });
        ensure!(self.turns < TURNS_MAX, "the loop does not come to rest");
        self.flood();
        let goes_on = worker.turn(self).is_continue();
        self.note_pushed();
        if let Some(violation) = self.violation.take() {
            return Err(violation);
        }
        ensure!(goes_on, "it ends of its own accord");
        if self.oracle.has_backlog_left() {
            self.chance.saw(Kind::TurnUsedUp);
        }
        self.oracle.check_turn(worker.fleet(), &mut self.chance)?;
        self.check_sockets()?;
        self.noted.check_hints(self.oracle.hints)?;
        self.print();
        self.violation.take().map_or(Ok(()), Err)
    }

    /// Lets all servers send much at once, if there are enough of them to use up a turn.
    fn flood(&mut self) {
        let max_line = self.rules.max_line;
        let live = self.sockets.iter().filter(|socket| socket.is_live()).count();
        if live >= 5 && max_line >= 24 && self.chance.fault(Kind::Flood, 32) {
            for socket in self.sockets.iter_mut().filter(|socket| socket.is_live()) {
                socket.send_much(2 * READ_SIZE, &self.rules);
            }
        }
    }

    /// Ends all faults: every server is there, says what it has begun to say, and talks on.
    fn calm(&mut self) {
        let until = self.now + self.rules.recovery();
        self.trace.step(Step::Calm { until });
        self.calm_until = Some(until);
        self.chance.calm();
        self.events_per_poll = 1024;
        self.is_output_running = true;
        self.print();
        for socket in 0..self.sockets.len() {
            if self.sockets[socket].is_live() {
                self.sockets[socket].end_line(&self.rules);
                self.serve(socket);
            }
        }
        // A lookup that would hang for ever ends, too.
        for server in 0..self.lookups.len() {
            if self.lookups[server] {
                self.schedule(self.now, Due::Answer { server, addresses: None });
            }
        }
    }

    /// Waits for as long as recovering may take, and looks whether all have recovered.
    fn recover(&mut self, worker: &mut Worker<C, Ring<C::Record>>) -> Result<(), Violation> {
        while !self.has_recovered(worker) {
            self.turn(worker)?;
        }
        for id in 0..self.lookups.len() {
            let is_back = self.oracle.is_connected(id) || self.oracle.has_ended(id);
            ensure!(is_back, "{id} is not back: {}", self.oracle.state(id));
        }
        // Those of a removed server are still to be closed if it was the last one.
        let is_read = |at: &&usize| !self.oracle.has_ended(self.sockets[**at].server);
        for at in self.open.values().filter(is_read) {
            let unread = self.sockets[*at].unread();
            ensure!(unread == 0, "{unread} bytes of {} are not read", self.sockets[*at].server);
        }
        let len = self.queue.borrow().len;
        ensure!(len == 0, "{len} records are not printed");
        self.chance.saw(Kind::Recovered);
        if self.rules.once && !worker.fleet().is_finished() {
            for socket in self.sockets.iter_mut().filter(|socket| socket.is_live()) {
                socket.end = Some(End::Closed);
                socket.wake();
            }
            for _ in 0..3 {
                if !worker.fleet().is_finished() {
                    self.turn(worker)?;
                }
            }
            let is_finished = worker.fleet().is_finished();
            ensure!(is_finished, "all servers have closed, but it is not finished");
        }
        Ok(())
    }

    /// Whether the time is over, and what came last has been dealt with.
    fn has_recovered(&self, worker: &Worker<C, Ring<C::Record>>) -> bool {
        let is_over = self.calm_until.is_some_and(|until| until <= self.now);
        worker.fleet().is_finished() || (is_over && self.is_at_rest(worker.fleet()))
    }

    /// Whether nothing will happen before time passes.
    fn is_at_rest(&self, fleet: &Fleet<C>) -> bool {
        let has_events = self.sockets.iter().any(|socket| socket.edge != Edge::None);
        let has_due = self.due.peek().is_some_and(|Reverse((at, ..))| *at <= self.now);
        let is_due = fleet.next_deadline().is_some_and(|at| at <= self.oracle.time());
        let is_empty = self.queue.borrow().len == 0 && self.answers.is_empty();
        !has_events && !has_due && !is_due && !fleet.has_ready() && is_empty
    }

    /// Does what the worker does after its loop, which ends on a stop or without servers.
    fn stop(&mut self, worker: &mut Worker<C, Ring<C::Record>>) -> Result<(), Violation> {
        self.trace.step(Step::Stop);
        if worker.fleet().is_finished() {
            self.chance.saw(Kind::Finished);
        }
        self.is_stopped = true;
        ensure!(worker.turn(self).is_break(), "it goes on though it is to stop");
        self.oracle.check_owed("stops")?;
        let tails = self.tails();
        let totals = worker.shut_down();
        self.oracle.on_shut_down(&tails);
        let fleet = worker.fleet();
        ensure!(fleet.is_finished(), "shut down, but not finished");
        ensure!(!fleet.has_ready(), "shut down, but a connection is to be read");
        self.noted.check(&totals.0)?;
        self.noted.check_hints(self.oracle.hints)?;
        self.oracle.check_totals(totals)?;
        self.violation.take().map_or(Ok(()), Err)
    }

    // The calls of the worker.

    /// Keeps what was wrong first.
    fn check(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.violation.get_or_insert(violation);
        }
    }

    /// Begins a call: what was pushed is compared, and time may pass.
    fn enter(&mut self) {
        self.note_pushed();
        if self.chance.fault(Kind::SlowCall, 64) {
            self.now += ms(1) + self.chance.span(ms(150));
        } else if self.chance.fault(Kind::Standstill, 128) {
            self.now += self.chance.span(self.rules.recovery() * 2);
            self.trace.step(Step::Stood { until: self.now });
        }
        self.take_due();
    }

    /// Compares what was pushed with what was read: all of it, in order, and nothing else.
    fn note_pushed(&mut self) {
        let result = {
            let Queue { pushed, has_overflown, .. } = &*self.queue.borrow();
            let expected = &self.expected;
            let compared = || {
                ensure!(!has_overflown, "more is pushed than there is room for");
                ensure!(pushed == expected, "it pushed {pushed:?}, but was sent {expected:?}");
                Ok(())
            };
            compared()
        };
        self.check(result);
        self.expected.clear();
        let mut queue = self.queue.borrow_mut();
        queue.pushed.clear();
        self.oracle.room = queue.free();
    }

    /// Lets the world do what is due.
    fn take_due(&mut self) {
        while let Some(Reverse((at, ..))) = self.due.peek() {
            if *at > self.now {
                break;
            }
            let Some(Reverse((_, _, due))) = self.due.pop() else { break };
            match due {
                Due::Dialed { socket, accepted } => self.dialed(socket, accepted),
                Due::Serve { socket } => self.serve(socket),
                Due::Answer { server, addresses } => {
                    if std::mem::take(&mut self.lookups[server]) {
                        self.answers.push_back((server, addresses));
                        self.is_woken = true;
                    }
                }
                Due::Print => {
                    self.is_output_running = true;
                    self.print();
                }
            }
        }
        self.list_edges();
    }

    /// Puts the sockets that have become ready on the poll's list.
    fn list_edges(&mut self) {
        for (id, at) in &self.open {
            let socket = &mut self.sockets[*at];
            if socket.edge == Edge::New {
                socket.edge = Edge::Since(self.readings);
                self.ready.push_back(*id);
            }
        }
    }

    /// Sleeps until something is ready or the moment has come.
    fn sleep(&mut self, until: Option<Instant>) {
        loop {
            self.take_due();
            if !self.ready.is_empty() || self.is_woken || self.queue.borrow().has_room() {
                return;
            }
            let due = self.due.peek().map(|Reverse((at, ..))| *at);
            let next = [until, due, self.calm_until.filter(|at| *at > self.now)];
            let Some(next) = next.into_iter().flatten().min() else {
                // Nothing would ever happen again: time for the calm.
                self.chance.calm();
                return;
            };
            if self.chance.fault(Kind::EarlyWake, 16) {
                self.now += self.chance.span(next.saturating_duration_since(self.now));
                return;
            }
            self.now = self.now.max(next);
            if until.is_some_and(|until| until <= self.now) {
                self.take_due();
                return;
            }
            if self.calm_until == Some(self.now) {
                return;
            }
        }
    }

    /// Mentions what is ready, as much as there is space for.
    fn mention(&mut self, events: &mut Vec<Ready>) -> Polled {
        while events.len() < self.events_per_poll
            && let Some(id) = self.ready.pop_front()
        {
            let Some(at) = self.open.get(&id) else { continue };
            let socket = &mut self.sockets[*at];
            if socket.edge != Edge::None {
                socket.edge = Edge::None;
                events.push(Ready { socket: id, read_on: socket.read_on() });
            }
        }
        if events.len() == self.events_per_poll {
            return Polled::Full;
        }
        if self.chance.fault(Kind::SpuriousEvent, 4) {
            let index = self.chance.index(self.open.len() + 1);
            let socket = self.open.keys().nth(index).copied().unwrap_or_else(|| {
                self.chance.saw(Kind::StaleEvent);
                SocketId(1000)
            });
            events.push(Ready { socket, read_on: self.chance.one_in(2) });
        }
        Polled::Complete
    }

    /// What must hold when the worker goes to sleep: nothing is left that no event will mention.
    fn check_sleep(&self) -> Result<(), Violation> {
        let staged = self.queue.borrow().staged;
        ensure!(staged == 0, "it sleeps with {staged} records that are not published");
        let is_known = self.answers.is_empty() || self.is_woken;
        ensure!(is_known, "it sleeps with answers to take");
        for (id, at) in &self.open {
            let socket = &self.sockets[*at];
            if socket.edge != Edge::None {
                continue;
            }
            match socket.phase {
                Phase::Connecting => {}
                Phase::Established => {
                    let is_idle = self.oracle.unqueued_socket(socket.server) == Some(*id);
                    let has_news = socket.unread() > 0 || socket.end.is_some();
                    ensure!(!has_news || !is_idle, "{id:?} is never read again: {socket:?}");
                    let is_taken = self.oracle.is_connected(socket.server);
                    ensure!(is_taken, "{id:?} is connected, which was ignored: {socket:?}");
                }
                Phase::Failed { .. } | Phase::Itself => {
                    return Err(Violation(format!("{id:?} has failed, which was ignored")));
                }
            }
        }
        Ok(())
    }

    /// When deadlines pass up to a moment, the worker knows of all that had arrived by then.
    fn check_reported(&self) -> Result<(), Violation> {
        let Some(reported) = self.oracle.reported_at() else { return Ok(()) };
        for (id, at) in &self.open {
            let edge = self.sockets[*at].edge;
            let is_known = !matches!(edge, Edge::Since(since) if since < reported);
            ensure!(
                is_known,
                "deadlines up to reading {reported} pass, but {id:?} is ready: {edge:?}"
            );
        }
        Ok(())
    }

    fn check_sockets(&self) -> Result<(), Violation> {
        let mut connected = 0;
        for id in 0..self.lookups.len() {
            connected += usize::from(self.oracle.is_connected(id));
        }
        let mine = |at: &usize| self.oracle.is_connected(self.sockets[*at].server);
        let open = self.open.values().filter(|at| mine(at)).count();
        ensure!(open == connected, "{connected} connections have {open} sockets");
        Ok(())
    }

    /// By link: whether it holds a tail that would be cut.
    fn tails(&self) -> Vec<bool> {
        let mut tails = vec![false; self.lookups.len()];
        for at in self.open.values() {
            let socket = &self.sockets[*at];
            tails[socket.server] |= socket.phase == Phase::Established && socket.holds_a_tail();
        }
        tails
    }

    /// The connection of a socket has read lines, which must be pushed as far as they are passed on.
    fn settle(&mut self, at: usize) -> Lines {
        let socket = &mut self.sockets[at];
        self.buffer.clear();
        let lines = socket.settle::<C>(&self.rules, &mut self.buffer, &mut self.chance);
        self.expected.add(socket.server, &self.buffer);
        lines
    }

    /// The end of the stream that is being read counts as a line.
    fn keep_tail(&mut self, at: usize, kind: LineKind) {
        let mut lines = Lines::default();
        let (socket, rules, chance) = (&self.sockets[at], &self.rules, &mut self.chance);
        self.buffer.clear();
        if kind == LineKind::Oversized {
            lines.add_oversized();
        } else {
            let fate = C::expect(socket.tail(), kind, rules, &mut self.buffer, chance);
            match (fate, kind) {
                (_, LineKind::Number(_)) => chance.saw(Kind::TailKept),
                (Fate::Malformed, _) => chance.saw(Kind::TailKeptMalformed),
                (Fate::PassedOn, _) => chance.saw(Kind::TailKeptWhole),
                (Fate::Skipped, _) => {}
            }
            lines.add(fate);
        }
        self.expected.add(socket.server, &self.buffer);
        self.oracle.on_lines(lines);
    }

    // The servers and the output.

    fn print(&mut self) {
        if self.is_output_running && self.chance.fault(Kind::OutputStalls, 8) {
            self.is_output_running = false;
            let later = self.moment();
            self.schedule(later, Due::Print);
        }
        let mut queue = self.queue.borrow_mut();
        if self.is_output_running && queue.len > 0 {
            self.trace.step(Step::Printed { records: queue.len });
            queue.len = 0;
        }
    }

    fn dialed(&mut self, at: usize, accepted: bool) {
        let socket = &mut self.sockets[at];
        if !socket.is_open {
            return;
        }
        socket.wake();
        if !accepted {
            socket.phase = Phase::Failed { reported: false };
        } else if self.chance.fault(Kind::ConnectedToItself, 16) {
            socket.phase = Phase::Itself;
        } else {
            socket.phase = Phase::Established;
            socket.begin_mark(&self.rules, &mut self.chance);
            let is_junk = self.chance.fault(Kind::JunkOnly, 4);
            if is_junk {
                socket.send_junk(self.chance.pick(&[120, 100, 99, 3]), &self.rules);
            }
            if self.chance.fault(Kind::AcceptsAndCloses, 4) {
                if self.chance.one_in(2) {
                    socket.send_line(&self.rules, &mut self.chance);
                }
                let end = self.chance.pick(&[End::Closed, End::Reset]);
                socket.end_with(end, &mut self.chance);
            }
            if is_junk {
                let later = self.moment();
                self.schedule(later, Due::Serve { socket: at });
            } else {
                self.serve(at);
            }
        }
    }

    fn serve(&mut self, at: usize) {
        if !self.sockets[at].is_live() {
            return;
        }
        self.misbehave(at);
        let bytes = self.sockets[at].sent();
        self.trace.step(Step::Sent { socket: at, bytes });
        // In the calm it talks often enough not to be taken for idle, or once and no more.
        let next = match (self.calm_until, self.rules.idle_timeout) {
            (None, _) => self.moment(),
            (Some(_), Some(idle)) => self.now + idle / 2,
            (Some(_), None) => return,
        };
        self.schedule(next, Due::Serve { socket: at });
    }

    fn misbehave(&mut self, at: usize) {
        let (socket, chance) = (&mut self.sockets[at], &mut self.chance);
        let (rules, max_line) = (&self.rules, self.rules.max_line);
        if chance.fault(Kind::StallsOnHalfALine, 6) {
            let was_stalled = socket.has_begun_line();
            let len = chance.index(12);
            socket.begin_line(len, rules, chance);
            // The end comes alone, after other connections may have been read.
            if was_stalled && chance.fault(Kind::CutInMidLine, 2) {
                socket.end_with(End::Closed, chance);
            }
            return;
        }
        if chance.fault(Kind::EndlessLine, 8) {
            let len =
                chance.pick(&[1, max_line - 1, max_line, max_line + 1, 100, READ_SIZE * 3 / 2]);
            socket.send_endless(len, rules);
            return;
        }
        // Shorter lines would be more than the oracle has time for.
        if max_line >= 24 && chance.fault(Kind::Firehose, 128) {
            socket.send_much(READ_SIZE * 5 / 4, rules);
        }
        for _ in 0..1 + chance.below(6) {
            socket.send_line(rules, chance);
            if chance.fault(Kind::Urgent, 4) {
                socket.send_urgent(rules);
            }
        }
        if chance.fault(Kind::CutInMidLine, 8) {
            socket.begin_line(3, rules, chance);
            socket.end_with(End::Closed, chance);
        } else if chance.fault(Kind::Closes, 8) {
            socket.end_with(End::Closed, chance);
        } else if chance.fault(Kind::Resets, 8) {
            socket.end_with(End::Reset, chance);
        }
    }

    // The clock.

    /// Some later moment: one that matters to the rules, or any.
    fn moment(&mut self) -> Instant {
        let rules = &self.rules;
        let spans = [
            ms(1),
            ms(0),
            rules.threshold,
            rules.connect_timeout,
            rules.delay_bounds(0).1,
            rules.idle_timeout.unwrap_or(ms(100)),
        ];
        let longest = self.chance.pick(&spans);
        let span = if self.chance.one_in(2) { longest } else { self.chance.span(longest) };
        self.now + span.max(ms(1))
    }

    fn schedule(&mut self, at: Instant, due: Due) {
        self.scheduled += 1;
        self.due.push(Reverse((at, self.scheduled, due)));
    }

    /// The addresses that a lookup finds, in some order.
    fn addresses(&mut self, id: usize) -> Option<Vec<SocketAddr>> {
        if self.chance.fault(Kind::NotResolved, 4) {
            return None;
        }
        if self.chance.fault(Kind::NoAddress, 6) {
            return Some(Vec::new());
        }
        let count =
            if self.chance.fault(Kind::SeveralAddresses, 2) { 2 + self.chance.index(3) } else { 1 };
        let first = self.chance.index(4);
        Some((0..count).map(|number| net::address(id, (first + number) % 4)).collect())
    }
}

impl<C: Codec, const D: bool> Io for World<'_, '_, C, D> {
    const SHORT_READ_MEANS_DRAINED: bool = D;

    fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    fn now(&mut self) -> Instant {
        self.enter();
        self.readings += 1;
        let result = self.oracle.on_clock(self.now, self.readings, &mut self.chance);
        self.check(result);
        self.now
    }

    fn poll(&mut self, until: Option<Instant>, events: &mut Vec<Ready>) -> Polled {
        self.note_pushed();
        let is_awaited = self.queue.borrow().is_awaited;
        events.clear();
        match self.oracle.on_poll(until, is_awaited, &mut self.chance) {
            Ok(true) => {
                let result = self.check_sleep();
                self.check(result);
                self.enter();
                self.sleep(until);
            }
            Ok(false) => self.enter(),
            Err(violation) => self.check(Err(violation)),
        }
        if self.chance.fault(Kind::ClockJump, 32) {
            self.now += self.chance.span(ms(1 << 32));
            self.take_due();
        }
        let polled = if self.chance.fault(Kind::PollInterrupted, 8) {
            Polled::Interrupted
        } else {
            self.mention(events)
        };
        let name = match polled {
            Polled::Complete => "complete",
            Polled::Full => "full",
            Polled::Interrupted => "interrupted",
        };
        self.trace.step(Step::Polled { until, now: self.now, events: events.len(), polled: name });
        for Ready { socket, read_on } in events.iter() {
            self.trace.step(Step::Event { socket: socket.0, read_on: *read_on });
        }
        let mentioned = events.iter().map(|ready| (ready.socket, ready.read_on)).collect();
        self.queue.borrow_mut().is_awaited = false;
        self.is_woken = false;
        self.oracle.on_polled(polled, mentioned, &mut self.chance);
        polled
    }

    fn connect(&mut self, id: SocketId, address: SocketAddr) -> Result<(), ConnectionError> {
        self.enter();
        let server = net::server_at(address);
        let error = if self.chance.fault(Kind::NoDescriptors, 4) {
            const EMFILE: i32 = 24;
            Some(io::Error::from_raw_os_error(EMFILE))
        } else if self.chance.fault(Kind::Unreachable, 4) {
            Some(io::ErrorKind::NetworkUnreachable.into())
        } else {
            None
        };
        let is_open = error.is_none();
        self.trace.step(Step::Connect { socket: id.0, address, is_open });
        let result = self.oracle.on_connect(id, address, is_open, &mut self.chance);
        self.check(result);
        if let Some(error) = error {
            return Err(error.into());
        }
        let at = self.sockets.len();
        let before = self.sockets.iter().filter(|socket| socket.server == server).count();
        self.sockets.push(Socket::new(server, before as u64));
        let was_open = self.open.insert(id, at);
        self.check(match was_open {
            None => Ok(()),
            Some(_) => Err(Violation(format!("{id:?} is open already"))),
        });
        if !self.chance.fault(Kind::NeverAnswers, 4) {
            let accepted = !self.chance.fault(Kind::Refused, 3);
            let delay = self.chance.span(self.rules.connect_timeout);
            self.schedule(self.now + delay, Due::Dialed { socket: at, accepted });
        }
        Ok(())
    }

    fn handshake(&mut self, id: SocketId) -> Result<Handshake, ConnectionError> {
        self.enter();
        let reset = || ConnectionError::from(io::Error::from(io::ErrorKind::ConnectionReset));
        let Some(at) = self.open.get(&id).copied() else {
            self.check(Err(Violation(format!("it asks about {id:?}, which is closed"))));
            return Ok(Handshake::Pending);
        };
        let socket = &mut self.sockets[at];
        let (shaken, name, result) = match socket.phase {
            Phase::Connecting | Phase::Failed { reported: true } => {
                (Shaken::Pending, "pending", Ok(Handshake::Pending))
            }
            Phase::Failed { reported: false } => {
                socket.phase = Phase::Failed { reported: true };
                (Shaken::Failed, "refused", Err(ConnectionError::Refused))
            }
            Phase::Itself => (Shaken::Failed, "itself", Err(ConnectionError::ConnectedToItself)),
            Phase::Established if socket.end == Some(End::Reset) && !socket.is_end_reported => {
                socket.is_end_reported = true;
                let shaken = Shaken::Connected { is_lost: true };
                (shaken, "lost", Ok(Handshake::Lost(reset())))
            }
            Phase::Established => {
                let shaken = Shaken::Connected { is_lost: false };
                (shaken, "connected", Ok(Handshake::Connected))
            }
        };
        self.trace.step(Step::Handshake { socket: id.0, result: name });
        let checked = self.oracle.on_handshake(id, shaken, &mut self.chance);
        self.check(checked);
        result
    }

    fn read(&mut self, id: SocketId, buf: &mut [u8]) -> io::Result<usize> {
        self.enter();
        let room = self.queue.borrow().free();
        let result = self.oracle.on_read(id, buf.len(), room);
        self.check(result);
        let Some(at) = self.open.get(&id).copied() else {
            self.check(Err(Violation(format!("it reads {id:?}, which is closed"))));
            return Err(io::ErrorKind::NotConnected.into());
        };
        let socket = &mut self.sockets[at];
        let result = socket.read(buf, D, &mut self.chance);
        match &result {
            Ok(0) => {
                let was_reset = socket.end == Some(End::Reset);
                let tail = socket.tail_kind(&self.rules, &mut self.chance);
                self.trace.step(Step::Read { socket: id.0, bytes: 0 });
                if let Some(kind) = tail.filter(|_| !was_reset && self.rules.keep_truncated) {
                    self.keep_tail(at, kind);
                }
                let has_tail = tail.is_some() && (was_reset || !self.rules.keep_truncated);
                let checked = self.oracle.on_end(!was_reset, has_tail, &mut self.chance);
                self.check(checked);
            }
            Ok(bytes) => {
                let (bytes, asked) = (*bytes, buf.len());
                self.trace.step(Step::Read { socket: id.0, bytes });
                let lines = self.settle(at);
                let socket = &self.sockets[at];
                let unfinished = (socket.undelimited(), socket.held());
                self.oracle.on_bytes(bytes, asked, lines, unfinished, &mut self.chance);
            }
            Err(error) => {
                let has_tail = socket.holds_a_tail();
                self.trace.step(Step::ReadFailed { socket: id.0, error: error.to_string() });
                match error.kind() {
                    io::ErrorKind::WouldBlock => self.oracle.on_would_block(),
                    io::ErrorKind::Interrupted => self.oracle.on_interrupted(),
                    _ => {
                        let checked = self.oracle.on_end(false, has_tail, &mut self.chance);
                        self.check(checked);
                    }
                }
            }
        }
        self.list_edges();
        result
    }

    fn close(&mut self, id: SocketId) {
        self.enter();
        self.trace.step(Step::Close { socket: id.0 });
        let result = self.oracle.on_close(id, &mut self.chance);
        self.check(result);
        if let Some(at) = self.open.remove(&id) {
            self.sockets[at].close();
        }
    }

    fn resolve(&mut self, id: LinkId, server: &Server) {
        self.enter();
        let Some(&number) = self.servers.get(&id) else {
            return self.check(Err(Violation(format!("it resolves {server} for {id:?}"))));
        };
        self.trace.step(Step::Resolve { server: number });
        let result = self.oracle.on_resolve(number, server);
        self.check(result);
        if std::mem::replace(&mut self.lookups[number], true) {
            self.check(Err(Violation(format!("{number} is looked up twice at once"))));
        }
        if self.chance.fault(Kind::NoAnswer, 12) {
            return;
        }
        let timeout = self.rules.connect_timeout;
        let mut delay = self.chance.span(timeout / 2);
        if self.chance.fault(Kind::LateAnswer, 4) {
            delay = timeout + self.chance.span(self.rules.recovery() * 2);
        }
        let addresses = self.addresses(number);
        self.schedule(self.now + delay, Due::Answer { server: number, addresses });
    }

    fn answer(&mut self) -> Option<(LinkId, io::Result<Vec<SocketAddr>>)> {
        self.enter();
        let answer = self.answers.pop_front();
        if let Some((server, addresses)) = &answer {
            let len = addresses.as_ref().map(Vec::len);
            self.trace.step(Step::Answered { server: *server, addresses: len });
        } else {
            let result = self.check_reported();
            self.check(result);
        }
        self.oracle.tails = self.tails();
        let result = self.oracle.on_answer(answer.clone(), &mut self.chance);
        self.check(result);
        let (server, addresses) = answer?;
        Some((self.ids[server], addresses.ok_or_else(|| io::ErrorKind::NotFound.into())))
    }
}

/// A span of so many milliseconds.
fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A policy, the default one if chance says nothing else.
fn config(chance: &mut Chance<'_>) -> Config {
    let initial = ms(chance.pick(&[1000, 1, 5, 100, 60_000]));
    let max = initial * chance.pick(&[60, 1, 4, 1000]);
    let connect_timeout = ms(chance.pick(&[10_000, 1, 50, 1000, 600_000]));
    let builder = Config::builder()
        .servers(["192.0.2.1:9000".parse().expect("well formed")])
        .initial_backoff(initial.into())
        .max_backoff(max.into())
        .backoff_multiplier(chance.pick(&[2.0, 1.0, 1.5, 10.0]))
        .jitter_factor(chance.pick(&[0.1, 0.0, 0.5, 1.0]))
        .reset_backoff_threshold(ms(chance.pick(&[180_000, 0, 1, 5000, 60_000])).into())
        .connect_timeout(connect_timeout.into())
        .divisor(chance.pick(&[6, 1, 1, 2, 7]))
        .once(chance.one_in(8))
        .delimiter(chance.pick(b"\n\n\n\r\0; \xff"))
        .keep_truncated(chance.one_in(2));
    let max_line = match chance.below(4) {
        0 => 4096,
        1 => 1 + chance.index(8),
        _ => 8 + chance.index(64),
    };
    let give_up_after = match chance.below(4) {
        3 => Some(ms(1) + chance.span(ms(400_000))),
        _ => None,
    };
    let idle_timeout = match chance.below(3) {
        // Not so short that the calm takes thousands of turns.
        2 => Some((connect_timeout + max * 2) / 16 + ms(2) + chance.span(ms(10_000))),
        _ => None,
    };
    builder
        .max_line(max_line)
        .give_up_after(give_up_after.map(Into::into))
        .idle_timeout(idle_timeout.map(Into::into))
        .build()
        .expect("all within their bounds")
}
