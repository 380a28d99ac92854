//! The worker's loop, with a clock that jumps and a net in memory in place of the system.
//!
//! The order within a turn is that of the real loop: readiness, answers, time, actions, reading, what
//! that leads to, publishing. As there, time may pass before each connection is read. What the fleet
//! asks for is taken from it at once, so that the oracle sees it at the moment of the decision, and is
//! carried out in its place.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tcpcore::fleet::{Fleet, READ_BUDGET};
use tcpcore::link::{Action, Cause, Event, MIN_ROOM, Millis, Policy, Sink};
use tcpcore::{Config, Host, Server};

use super::chance::{Chance, Kind};
use super::net::{self, End, Phase, Reading, Socket};
use super::oracle::{Oracle, Rules};
use super::{Outcome, Step, Trace, Violation, ensure};

/// A world that has faults ends them after so many turns, if its bytes last that long.
const TURNS_WITH_FAULTS: u64 = 2000;

/// No world needs more turns than this to come to rest, unless the loop spins.
const TURNS_MAX: u64 = 50_000;

/// The servers of a world at first; one more may be added.
const SERVERS_MAX: u32 = 6;

/// A server whose sink is this large is never stopped by it in a world.
const LARGE_SINK: usize = 64 * 1024;

/// Something that the world does by itself at its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A socket is connected, or its connect fails.
    Dialled { socket: usize, accepted: bool },
    /// The server at the other end of a socket does something.
    Serve { socket: usize },
    /// The resolver answers.
    Answer { id: usize, attempt: u32, addresses: Option<usize> },
    /// The printer goes on.
    Print,
    /// A server is added.
    Add,
}

pub(super) struct World<'a, 'b> {
    chance: Chance<'a>,
    trace: &'b mut Trace,
    rules: Rules,
    fleet: Fleet,
    oracle: Oracle,
    now: Millis,
    /// When the fleet was last told the time.
    told: Millis,
    /// By time; the middle number keeps the order of those at the same time.
    due: BinaryHeap<Reverse<(Millis, u64, Due)>>,
    scheduled: u64,
    /// All sockets there ever were, and by link the one that is open.
    sockets: Vec<Socket>,
    open: Vec<Option<usize>>,
    closed: usize,
    answers: VecDeque<(usize, u32, Option<usize>)>,
    /// What the fleet has asked for and is still to be done.
    actions: VecDeque<(usize, Action)>,
    events_per_turn: usize,
    numbers: Numbers,
    is_full: bool,
    is_printing: bool,
    calm_until: Option<Millis>,
    turns: u64,
}

/// The ring and the printer.
struct Numbers {
    capacity: usize,
    /// What waits for the printer.
    len: usize,
    /// What was pushed in this turn of reading.
    pushed: Vec<i64>,
    /// Whether `room` looks further than it was asked to.
    is_exact: bool,
    has_overflown: bool,
}

impl Numbers {
    fn free(&self) -> usize {
        self.capacity - self.len
    }
}

impl Sink for Numbers {
    fn room(&mut self, want: usize) -> usize {
        if self.is_exact { self.free() } else { self.free().min(want) }
    }

    fn push(&mut self, numbers: &[i64]) {
        self.has_overflown |= numbers.len() > self.free();
        self.len = self.capacity.min(self.len + numbers.len());
        self.pushed.extend_from_slice(numbers);
    }
}

impl<'a, 'b> World<'a, 'b> {
    pub(super) fn new(entropy: &'a [u8], trace: &'b mut Trace) -> World<'a, 'b> {
        let mut chance = Chance::new(entropy);
        let config = config(&mut chance);
        let now = chance.pick(&[0, 1, 63, 4095, 1 << 40]);
        let rules = Rules::from(&config);
        let fleet = Fleet::new(0, Policy::from(&config), u64::from(chance.below(256)), now);
        let is_small = chance.fault(Kind::PrinterStalls, 2);
        let capacity = if is_small { MIN_ROOM + chance.index(64) } else { LARGE_SINK };
        let is_exact = chance.one_in(2);
        let servers = 1 + chance.below(SERVERS_MAX);
        trace.step(Step::World { servers: servers as usize, faults: chance.faults });
        let mut world = World {
            trace,
            fleet,
            oracle: Oracle::new(rules.clone(), now),
            rules,
            now,
            told: now,
            due: BinaryHeap::new(),
            scheduled: 0,
            sockets: Vec::new(),
            open: Vec::new(),
            closed: 0,
            answers: VecDeque::new(),
            actions: VecDeque::new(),
            events_per_turn: 1024,
            numbers: Numbers { capacity, len: 0, pushed: vec![], is_exact, has_overflown: false },
            is_full: false,
            is_printing: true,
            calm_until: None,
            turns: 0,
            chance,
        };
        if world.chance.fault(Kind::FewEvents, 2) {
            world.events_per_turn = 1 + world.chance.index(3);
        }
        for _ in 0..servers {
            world.add();
        }
        if world.chance.fault(Kind::ServerAddedLate, 2) {
            let later = world.moment();
            world.schedule(later, Due::Add);
        }
        world
    }

    pub(super) fn run(mut self) -> Result<Outcome, Violation> {
        let stops_early = self.chance.one_in(8);
        while self.calm_until.is_none() && !self.fleet.is_finished() {
            self.turn()?;
            if self.turns == TURNS_WITH_FAULTS || self.chance.is_spent() {
                if stops_early {
                    self.chance.saw(Kind::StoppedInTheMiddle);
                    break;
                }
                self.calm();
            }
        }
        if self.calm_until.is_some() {
            self.recover()?;
        }
        self.stop()?;
        Ok(Outcome {
            hash: self.trace.hash(),
            coverage: self.chance.coverage,
            turns: self.turns,
            spare_wakes: self.oracle.spare_wakes(),
        })
    }

    /// Ends all faults: every server is there, says what it has begun to say, and talks on.
    fn calm(&mut self) {
        let until = self.now + self.rules.recovery();
        self.trace.step(Step::Calm { until });
        self.calm_until = Some(until);
        self.chance.calm();
        self.events_per_turn = 1024;
        self.is_printing = true;
        self.print();
        for socket in 0..self.sockets.len() {
            if self.sockets[socket].is_live() {
                self.sockets[socket].end_line(self.rules.max_line);
                self.serve(socket);
            }
        }
    }

    /// Waits for as long as recovering may take, and looks whether all have recovered.
    fn recover(&mut self) -> Result<(), Violation> {
        while !self.has_recovered() {
            self.turn()?;
        }
        for id in 0..self.open.len() {
            let is_back = self.oracle.is_connected(id) || self.oracle.has_ended(id);
            ensure!(is_back, "{id} is not back: {}", self.oracle.state(id));
            let socket = self.open[id].filter(|_| self.oracle.is_connected(id));
            let unread = socket.map_or(0, |at| self.sockets[at].unread());
            ensure!(unread == 0, "{unread} bytes of {id} are not read");
        }
        ensure!(self.numbers.len == 0, "{} numbers are not printed", self.numbers.len);
        self.chance.saw(Kind::Recovered);
        if self.rules.once && !self.fleet.is_finished() {
            for socket in &mut self.sockets {
                if socket.is_live() {
                    socket.end = Some(End::Closed);
                    socket.edge = true;
                }
            }
            for _ in 0..3 {
                self.turn()?;
            }
            ensure!(self.fleet.is_finished(), "all servers have closed, but it is not finished");
        }
        Ok(())
    }

    /// Whether the time is over, and what came last has been dealt with.
    fn has_recovered(&self) -> bool {
        self.fleet.is_finished() || (self.calm_until == Some(self.now) && self.is_at_rest())
    }

    /// As the worker does after its loop. The sockets that are open, by the last turn's check none but
    /// those of links that are connecting or connected, go with the worker.
    fn stop(&mut self) -> Result<(), Violation> {
        self.trace.step(Step::Stop);
        if self.fleet.is_finished() {
            self.chance.saw(Kind::Finished);
        }
        let tails = self.tails();
        self.fleet.shut_down();
        self.oracle.on_shut_down(&tails);
        ensure!(self.fleet.is_finished(), "shut down, but not finished");
        ensure!(!self.fleet.has_ready(), "shut down, but somebody is to be read");
        ensure!(self.fleet.next_action().is_none(), "shut down, but something is to be done");
        self.oracle.check_totals(self.fleet.totals())
    }

    fn turn(&mut self) -> Result<(), Violation> {
        self.turns += 1;
        ensure!(self.turns < TURNS_MAX, "the loop does not come to rest");
        self.oracle.begin_turn();
        let called_by_the_clock = self.wait();
        self.take_due();
        self.take_events()?;
        self.take_answers()?;
        self.pass_time()?;
        self.dawdle();
        self.act()?;
        self.read()?;
        self.dawdle();
        self.act()?;
        self.print();
        self.check()?;
        if called_by_the_clock {
            self.oracle.check_wake(&mut self.chance)?;
        }
        Ok(())
    }

    /// Whether nothing will happen before time passes.
    fn is_at_rest(&self) -> bool {
        let has_events = self.sockets.iter().any(|socket| socket.edge);
        let has_due = self.due.peek().is_some_and(|Reverse((at, ..))| *at <= self.now);
        !has_events && !has_due && !self.fleet.has_ready() && self.numbers.len == 0
    }

    /// Sleeps until something is due, and says whether it is only the fleet's time.
    fn wait(&mut self) -> bool {
        if self.is_full {
            self.is_full = self.numbers.free() < MIN_ROOM;
        }
        let has_events = self.sockets.iter().any(|socket| socket.edge);
        let has_turn = self.fleet.has_ready() && !self.is_full;
        if has_events || has_turn {
            return false;
        }
        let deadline = self.fleet.next_deadline();
        let due = self.due.peek().map(|Reverse((at, ..))| *at);
        let next = [deadline, due, self.calm_until].into_iter().flatten().min();
        let until = next.unwrap_or(self.now).max(self.now);
        if next.is_none() {
            // Nothing would ever happen again: time for the calm.
            self.chance.calm();
        }
        let mut is_clock =
            deadline.is_some_and(|at| at <= until) && due.is_none_or(|due| due > until);
        if self.chance.fault(Kind::EarlyWake, 8) {
            is_clock = false;
            self.now += self.chance.span(until - self.now);
        } else {
            self.now = until;
        }
        if self.chance.fault(Kind::ClockJump, 16) {
            self.now += self.chance.span(1 << 32);
        }
        self.trace.step(Step::Woke { now: self.now });
        is_clock
    }

    /// Lets time pass within a turn, as it does on a busy machine; the world goes on meanwhile.
    fn dawdle(&mut self) {
        if self.chance.fault(Kind::SlowTurn, 16) {
            self.now += self.chance.span(2 * self.rules.recovery());
            self.take_due();
        }
    }

    /// Lets the world do what is due.
    fn take_due(&mut self) {
        while let Some(&Reverse((at, _, due))) = self.due.peek() {
            if at > self.now {
                break;
            }
            self.due.pop();
            match due {
                Due::Dialled { socket, accepted } => self.dialled(socket, accepted),
                Due::Serve { socket } => self.serve(socket),
                Due::Answer { id, attempt, addresses } => {
                    self.answers.push_back((id, attempt, addresses));
                }
                Due::Print => self.is_printing = true,
                Due::Add => self.add(),
            }
        }
    }

    fn take_events(&mut self) -> Result<(), Violation> {
        let mut events = Vec::new();
        for id in 0..self.open.len() {
            let Some(socket) = self.open[id] else { continue };
            let socket = &mut self.sockets[socket];
            if socket.edge && events.len() < self.events_per_turn {
                socket.edge = false;
                events.push((id, socket.end.is_some()));
            }
        }
        if self.chance.fault(Kind::SpuriousEvent, 4) {
            events.push((self.chance.index(self.open.len() + 1), self.chance.one_in(2)));
        }
        for (id, closing) in events {
            self.take_event(id, closing)?;
        }
        Ok(())
    }

    fn take_event(&mut self, id: usize, closing: bool) -> Result<(), Violation> {
        self.trace.step(Step::Event { id, closing });
        let Some(Some(socket)) = self.open.get(id).copied() else {
            self.chance.saw(Kind::StaleEvent);
            // The loop would not tell the fleet, but the fleet must not mind.
            self.fleet.on_ready(id, closing);
            return self.check_queue();
        };
        if !self.fleet.is_connected(id) {
            match self.connection(socket) {
                Ok(true) => {
                    self.trace.step(Step::Connected { id });
                    self.fleet.handle(id, Event::Connected, self.now);
                    self.oracle.on_connected(id, self.now);
                    self.check_asked()?;
                }
                Ok(false) => return Ok(()),
                Err(cause) => {
                    self.close(id);
                    self.fail(id, cause)?;
                }
            }
        }
        self.fleet.on_ready(id, closing);
        self.oracle.on_ready(id);
        self.check_queue()
    }

    /// Whether a socket is connected, as `SO_ERROR` and `getpeername` tell it.
    fn connection(&mut self, socket: usize) -> Result<bool, Cause> {
        let socket = &mut self.sockets[socket];
        match socket.phase {
            Phase::Connecting | Phase::Failed { told: true } => Ok(false),
            Phase::Failed { told: false } => {
                socket.phase = Phase::Failed { told: true };
                Err(io::Error::from(io::ErrorKind::ConnectionRefused).into())
            }
            Phase::Itself => Err(Cause::ConnectedToItself),
            Phase::Established if socket.end == Some(End::Reset) => {
                Err(io::Error::from(io::ErrorKind::ConnectionReset).into())
            }
            Phase::Established => Ok(true),
        }
    }

    fn take_answers(&mut self) -> Result<(), Violation> {
        while let Some((id, attempt, addresses)) = self.answers.pop_front() {
            self.trace.step(Step::Answered { id, attempt, addresses });
            let list: Option<Vec<SocketAddr>> =
                addresses.map(|count| (0..count).map(|number| net::address(id, number)).collect());
            let now = self.now;
            self.oracle.on_answer(id, attempt, list.as_deref(), now, &mut self.chance);
            let result = list.ok_or_else(|| io::ErrorKind::NotFound.into());
            self.fleet.handle(id, Event::Resolved { attempt, result }, now);
            self.check_asked()?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), Violation> {
        for _ in 0..self.fleet.ready_len() {
            if self.is_full {
                break;
            }
            let turn = self.fleet.next_ready();
            self.oracle.on_next_ready(turn)?;
            let Some(id) = turn else { break };
            self.dawdle();
            let Some(socket) = self.open[id] else { continue };
            self.read_one(id, socket)?;
        }
        Ok(())
    }

    fn read_one(&mut self, id: usize, at: usize) -> Result<(), Violation> {
        let socket = &mut self.sockets[at];
        let chance = &mut self.chance;
        let mut reading = Reading { socket, chance, bytes: 0, cost: 0, end: None };
        let has_room = self.fleet.read(id, &mut reading, &mut self.numbers, self.now);
        let Reading { bytes, cost, end, .. } = reading;
        self.is_full = !has_room;
        let numbers = self.numbers.pushed.len();
        self.trace.step(Step::Read { id, bytes, numbers, has_room });
        ensure!(cost <= READ_BUDGET, "{id} was read {cost} bytes in one turn");
        ensure!(!self.numbers.has_overflown, "{id} pushes more than there is room for");

        self.settle(id, at, bytes)?;
        if let Some(end) = end {
            let cause = match end {
                End::Closed => Cause::Closed,
                End::Reset => Cause::Io(io::ErrorKind::ConnectionReset.into()),
            };
            let has_tail = self.sockets[at].holds_a_tail();
            self.oracle.on_failed(id, &cause, has_tail, self.now, &mut self.chance);
        } else if !has_room {
            self.chance.saw(Kind::SinkFull);
            self.oracle.on_sink_full(id);
        } else if cost == READ_BUDGET {
            self.chance.saw(Kind::BudgetUsedUp);
            self.oracle.on_ready(id);
        }
        self.check_asked()?;
        self.check_queue()
    }

    /// Compares what was pushed with what was read: all of it, in order, and nothing else.
    fn settle(&mut self, id: usize, at: usize, bytes: usize) -> Result<(), Violation> {
        let mut numbers = Vec::new();
        let lines = self.sockets[at].settle(self.rules.max_line, &mut numbers, &mut self.chance);
        numbers.retain(|number| number.unsigned_abs().is_multiple_of(self.rules.divisor));
        let pushed = std::mem::take(&mut self.numbers.pushed);
        ensure!(pushed == numbers, "{id} printed {pushed:?}, but was sent {numbers:?}");
        self.oracle.counters.matched += numbers.len() as u64;
        self.oracle.on_read(id, bytes, lines, self.now);
        Ok(())
    }

    fn pass_time(&mut self) -> Result<(), Violation> {
        let tails = self.tails();
        self.told = self.now;
        self.fleet.on_time(self.now);
        let asked = self.asked();
        self.oracle.check_timed(&asked, &tails, self.now, &mut self.chance)
    }

    fn act(&mut self) -> Result<(), Violation> {
        while let Some((id, action)) = self.actions.pop_front() {
            match action {
                Action::Close => {
                    self.trace.step(Step::Close { id });
                    self.close(id);
                }
                Action::Connect(address) => {
                    self.trace.step(Step::Connect { id, address });
                    if let Err(cause) = self.connect(id)? {
                        self.fail(id, cause)?;
                    }
                }
                Action::Resolve { attempt } => {
                    self.trace.step(Step::Resolve { id, attempt });
                    self.resolve(id, attempt);
                }
            }
        }
        Ok(())
    }

    fn print(&mut self) {
        if self.is_printing && self.chance.fault(Kind::PrinterStalls, 8) {
            self.is_printing = false;
            let later = self.moment();
            self.schedule(later, Due::Print);
        }
        if self.is_printing && self.numbers.len > 0 {
            self.trace.step(Step::Printed { numbers: self.numbers.len });
            self.numbers.len = 0;
        }
    }

    /// What must hold between any two turns.
    fn check(&mut self) -> Result<(), Violation> {
        self.oracle.check_deadlines(&self.fleet, self.told)?;
        self.oracle.check_totals(self.fleet.totals())?;
        let is_finished = self.fleet.is_finished();
        ensure!(is_finished == self.oracle.is_finished(), "is_finished is {is_finished}");
        ensure!(self.fleet.next_action().is_none(), "actions from nowhere");
        ensure!(self.actions.is_empty(), "actions are left");
        for id in 0..self.open.len() {
            let is_connected = self.fleet.is_connected(id);
            ensure!(is_connected == self.oracle.is_connected(id), "{id}: {is_connected}");
            let held = self.fleet.held(id);
            ensure!(held <= self.rules.max_line, "{id} holds {held} bytes of a line");
            self.check_socket(id)?;
        }
        let open = self.open.iter().flatten().count();
        ensure!(self.sockets.len() - self.closed == open, "sockets leak");
        Ok(())
    }

    fn check_socket(&self, id: usize) -> Result<(), Violation> {
        let socket = self.open[id].map(|at| &self.sockets[at]);
        let is_needed = self.oracle.needs_socket(id);
        ensure!(socket.is_some() == is_needed, "{id}: {socket:?} in {}", self.oracle.state(id));
        let Some(socket) = socket.filter(|_| self.oracle.is_connected(id)) else { return Ok(()) };
        ensure!(socket.phase == Phase::Established, "{id} is connected to {socket:?}");
        let has_news = socket.unread() > 0 || socket.end.is_some();
        let is_known = socket.edge || self.oracle.is_queued(id);
        ensure!(!has_news || is_known, "{id} is never read again: {socket:?}");
        Ok(())
    }

    fn check_queue(&self) -> Result<(), Violation> {
        let (len, expected) = (self.fleet.ready_len(), self.oracle.queue_len());
        ensure!(len == expected, "{len} wait to be read, not {expected}");
        Ok(())
    }

    /// Takes what the fleet asks for.
    fn asked(&mut self) -> Vec<(usize, Action)> {
        let asked: Vec<_> = std::iter::from_fn(|| self.fleet.next_action()).collect();
        self.actions.extend(&asked);
        asked
    }

    fn check_asked(&mut self) -> Result<(), Violation> {
        let asked = self.asked();
        self.oracle.check_asked(&asked)
    }

    /// By link: whether it holds a tail that would be cut.
    fn tails(&self) -> Vec<bool> {
        let tail = |at: &Option<usize>| at.is_some_and(|at| self.sockets[at].holds_a_tail());
        self.open.iter().map(tail).collect()
    }

    fn fail(&mut self, id: usize, cause: Cause) -> Result<(), Violation> {
        self.trace.step(Step::Failed { id, cause: cause.to_string() });
        let has_tail = self.open[id].is_some_and(|at| self.sockets[at].holds_a_tail());
        self.oracle.on_failed(id, &cause, has_tail, self.now, &mut self.chance);
        self.fleet.handle(id, Event::Failed(cause), self.now);
        self.check_asked()
    }

    // The system.

    fn connect(&mut self, id: usize) -> Result<Result<(), Cause>, Violation> {
        const EMFILE: i32 = 24;
        ensure!(self.open[id].is_none(), "{id} has a socket already");
        if self.chance.fault(Kind::NoDescriptors, 4) {
            return Ok(Err(io::Error::from_raw_os_error(EMFILE).into()));
        }
        if self.chance.fault(Kind::Unreachable, 4) {
            return Ok(Err(io::Error::from(io::ErrorKind::NetworkUnreachable).into()));
        }
        let socket = self.sockets.len();
        let before = self.sockets.iter().filter(|socket| socket.server == id).count();
        self.sockets.push(Socket::new(id, before as u64));
        self.open[id] = Some(socket);
        if self.chance.fault(Kind::NeverAnswers, 4) {
            return Ok(Ok(()));
        }
        let accepted = !self.chance.fault(Kind::Refused, 3);
        let delay = self.chance.span(self.rules.connect_timeout);
        self.schedule(self.now + delay, Due::Dialled { socket, accepted });
        Ok(Ok(()))
    }

    fn close(&mut self, id: usize) {
        if let Some(socket) = self.open[id].take() {
            self.sockets[socket].close();
            self.closed += 1;
        }
    }

    fn resolve(&mut self, id: usize, attempt: u32) {
        let timeout = self.rules.connect_timeout;
        let mut delay = self.chance.span(timeout / 2);
        if self.chance.fault(Kind::NoAnswer, 6) {
            return;
        }
        if self.chance.fault(Kind::LateAnswer, 4) {
            delay = timeout + self.chance.span(2 * self.rules.recovery());
        }
        let addresses = if self.chance.fault(Kind::NotResolved, 4) {
            None
        } else if self.chance.fault(Kind::NoAddress, 6) {
            Some(0)
        } else if self.chance.fault(Kind::SeveralAddresses, 2) {
            Some(2 + self.chance.index(3))
        } else {
            Some(1)
        };
        let due = Due::Answer { id, attempt, addresses };
        self.schedule(self.now + delay, due);
        if self.chance.fault(Kind::AnsweredTwice, 4) {
            let delay = self.chance.span(timeout);
            self.schedule(self.now + delay, due);
        }
    }

    // The servers.

    fn add(&mut self) {
        let id = self.open.len();
        let name = match self.chance.below(3) {
            0 => format!("s{id}.test:9000"),
            _ => net::address(id, 0).to_string(),
        };
        let server: Server = name.parse().expect("both are well formed");
        assert_eq!(matches!(server.host(), Host::Name(_)), name.starts_with('s'));
        assert_eq!(self.fleet.add(server.clone(), self.now), id);
        self.oracle.add(server, self.now);
        self.open.push(None);
    }

    fn dialled(&mut self, at: usize, accepted: bool) {
        let socket = &mut self.sockets[at];
        if !socket.is_open {
            return;
        }
        socket.edge = true;
        if !accepted {
            socket.phase = Phase::Failed { told: false };
        } else if self.chance.fault(Kind::ConnectedToItself, 16) {
            socket.phase = Phase::Itself;
        } else {
            socket.phase = Phase::Established;
            if self.chance.fault(Kind::AcceptsAndCloses, 4) {
                let end = self.chance.pick(&[End::Closed, End::Reset]);
                socket.end_with(end, &mut self.chance);
            }
            self.serve(at);
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
        let max_line = self.rules.max_line;
        if chance.fault(Kind::StallsOnHalfALine, 6) {
            let len = chance.index(12);
            socket.begin_line(len, max_line, chance);
            return;
        }
        if chance.fault(Kind::EndlessLine, 8) {
            let len =
                chance.pick(&[1, max_line - 1, max_line, max_line + 1, 100, READ_BUDGET * 3 / 2]);
            socket.send_endless(len, max_line);
            return;
        }
        // Shorter lines would be more than the oracle has time for.
        if max_line >= 24 && chance.fault(Kind::Firehose, 64) {
            socket.send_much(READ_BUDGET * 5 / 4, max_line);
        }
        for _ in 0..1 + chance.below(6) {
            socket.send_line(max_line, chance);
        }
        if chance.fault(Kind::CutInMidLine, 8) {
            socket.begin_line(3, max_line, chance);
            socket.end_with(End::Closed, chance);
        } else if chance.fault(Kind::Closes, 8) {
            socket.end_with(End::Closed, chance);
        } else if chance.fault(Kind::Resets, 8) {
            socket.end_with(End::Reset, chance);
        }
    }

    // The clock.

    /// Some later moment: one that matters to the rules, or any.
    fn moment(&mut self) -> Millis {
        let rules = &self.rules;
        let spans = [
            1,
            0,
            rules.threshold,
            rules.connect_timeout,
            rules.delay_bounds(0).1,
            rules.idle_timeout.unwrap_or(100),
        ];
        let longest = self.chance.pick(&spans);
        let span = if self.chance.one_in(2) { longest } else { self.chance.span(longest) };
        self.now + span.max(1)
    }

    fn schedule(&mut self, at: Millis, due: Due) {
        self.scheduled += 1;
        self.due.push(Reverse((at, self.scheduled, due)));
    }
}

/// A policy, the default one if chance says nothing else.
fn config(chance: &mut Chance<'_>) -> Config {
    let ms = Duration::from_millis;
    let initial_ms = chance.pick(&[1000, 1, 5, 100, 60_000]);
    let max_ms = initial_ms * chance.pick(&[60, 1, 4, 1000]);
    let connect_timeout_ms = chance.pick(&[10_000, 1, 50, 1000, 600_000]);
    let builder = Config::builder()
        .servers(["192.0.2.1:9000".parse().expect("well formed")])
        .initial_backoff(ms(initial_ms))
        .max_backoff(ms(max_ms))
        .backoff_multiplier(chance.pick(&[2.0, 1.0, 1.5, 10.0]))
        .jitter_factor(chance.pick(&[0.1, 0.0, 0.5, 1.0]))
        .reset_backoff_threshold(ms(chance.pick(&[180_000, 0, 1, 5000, 60_000])))
        .connect_timeout(ms(connect_timeout_ms))
        .divisor(chance.pick(&[6, 1, 1, 2, 7]))
        .once(chance.one_in(8));
    let max_line = match chance.below(4) {
        0 => 4096,
        1 => 1 + chance.index(8),
        _ => 8 + chance.index(64),
    };
    let give_up_after = match chance.below(4) {
        3 => Some(ms(1 + chance.span(400_000))),
        _ => None,
    };
    let idle_timeout = match chance.below(3) {
        // Not so short that the calm takes thousands of turns.
        2 => Some(ms((connect_timeout_ms + 2 * max_ms) / 16 + 2 + chance.span(10_000))),
        _ => None,
    };
    builder
        .max_line(max_line)
        .give_up_after(give_up_after)
        .idle_timeout(idle_timeout)
        .build()
        .expect("all within their bounds")
}
