//! Runs the turns of a worker, over the [`Io`] that it needs of the system.
//!
//! A turn is: changes of the list, poll, events, answers of the resolver, timers, actions, reads, actions, publish.
//! `net` implements the I/O with mio, and the simulation implements it with a world of its own. [`Io`] states what a
//! worker may rely on. Servers may be added and removed between two turns; the next turn begins with the actions of that.
//!
//! - Sockets are opened only after the events of the turn. So no event is taken for one of a socket that was
//!   opened since.
//! - The state of the link decides the meaning of an event, never the flags of the event alone.
//! - Readiness is edge-triggered. A connection that is not drained keeps its place in the queues of the fleet, and
//!   the poll does not sleep. Otherwise no event would report it again.
//! - A deadline is final only when the system has nothing more to report. Timers run at the last clock reading
//!   before a complete poll, after the events of that poll and all answers. So no server is given up for lack of
//!   an event that was already there.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::address::Server;
use crate::codec::Decoder;
use crate::proto::clock::Clock;
use crate::proto::connection_error::ConnectionError;
use crate::proto::fleet::{Fleet, NextRead, SocketRole, TIMERS_PER_TURN};
use crate::proto::link::{Action, Event, Sink};
use crate::proto::link_id::LinkId;
use crate::proto::log_limit::LogLimit;
use crate::proto::socket_id::SocketId;
use crate::proto::time::{Duration, Instant};
use crate::stats::{Counters, ServerStats};

/// The most answers of the resolver that a turn takes. A name that a thousand servers share then does not delay
/// the connected ones. Each begins an attempt, as a [timer](TIMERS_PER_TURN) may.
pub const ANSWERS_PER_TURN: usize = TIMERS_PER_TURN;

/// The most changes of the list of servers that a turn takes. A long list then does not delay the connected servers:
/// each change costs up to some system calls, about a millisecond in all.
pub const CHANGES_PER_TURN: usize = 16;

/// The least duration of a standstill that is noted.
const STANDSTILL_LOGGED: Duration = Duration::from_secs(1);

/// The interface of a worker to the system.
pub trait Io {
    /// Whether a short read means that the socket is drained, unless the poll says [`Ready::read_on`].
    const SHORT_READ_MEANS_DRAINED: bool;

    /// Returns whether the worker has to stop.
    fn is_stopped(&self) -> bool;

    /// Returns the present moment, rounded down. It never goes back.
    fn now(&mut self) -> Instant;

    /// Replaces `events` by the sockets that have become ready since they were last reported. Returns whether these
    /// are all.
    ///
    /// Waits for readiness until `until`, or forever. A moment in the past does not wait. Only open sockets are
    /// reported. Ready sockets take turns: each is reported once before any other is reported twice.
    fn poll(&mut self, until: Option<Instant>, events: &mut Vec<Ready>) -> Polled;

    /// Opens a socket and begins to connect it to `address`.
    ///
    /// # Errors
    /// If the system refuses. Then there is no socket.
    fn connect(&mut self, socket: SocketId, address: SocketAddr) -> Result<(), ConnectionError>;

    /// Checks the progress of a socket that is being connected.
    ///
    /// # Errors
    /// If it could not be connected.
    fn handshake(&mut self, socket: SocketId) -> Result<Handshake, ConnectionError>;

    /// Reads from a connection, without blocking.
    ///
    /// # Errors
    /// Those of a nonblocking socket.
    fn read(&mut self, socket: SocketId, buf: &mut [u8]) -> io::Result<usize>;

    /// Closes a socket, if it is open.
    fn close(&mut self, socket: SocketId);

    /// Looks up the name of a link's server. Each call has one [`answer`](Io::answer).
    fn resolve(&mut self, id: LinkId, server: &Server);

    /// Returns the next answer to a lookup: the id of the link, and the addresses with the port of the server. A new
    /// answer ends a poll that waits.
    fn answer(&mut self) -> Option<(LinkId, io::Result<Vec<SocketAddr>>)>;

    /// Returns the next change of the list of servers. A new change ends a poll that waits.
    fn change(&mut self) -> Option<Change> {
        None
    }
}

/// A change of the servers of a worker, requested while it runs.
#[derive(Clone, Debug)]
pub enum Change {
    /// Dial this server, too.
    Add(Arc<ServerStats>),
    /// Close the connection of this server and dial it no more. It was added to the same worker before.
    Remove(Arc<ServerStats>),
    /// Try all servers now that wait for their next attempt.
    RetryNow,
}

/// A socket that has become ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Which socket.
    pub socket: SocketId,
    /// Whether to read on after a short read, until a read would block. The other side has shut down or reset the
    /// connection, or a read may stop early, as at TCP's urgent mark.
    pub read_on: bool,
}

/// The completeness of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// It reported all ready sockets.
    Complete,
    /// It reported as many as there was space for. There may be more.
    Full,
    /// A signal ended it before it could report anything.
    Interrupted,
}

/// The progress of a socket that is being connected.
#[derive(Debug)]
pub enum Handshake {
    /// There is no answer yet.
    Pending,
    /// It is connected.
    Connected,
    /// It was connected, and this error has ended the connection since. The bytes before it can be read.
    Lost(ConnectionError),
}

/// A worker: its servers, their time, and the sink of its records.
#[derive(Debug)]
pub struct Worker<D, S> {
    fleet: Fleet<D>,
    sink: S,
    clock: Clock,
    standstill_log: LogLimit,
    events: Vec<Ready>,
    polls: Polls,
    /// Whether the sink was full when last checked. Nothing is read until there is room again.
    is_full: bool,
    /// Whether the resolver may have more answers than the last turn took.
    has_answers: bool,
    /// Whether there may be more changes of the list than the last turn took.
    has_changes: bool,
}

impl<D: Decoder, S: Sink<D::Record>> Worker<D, S> {
    /// Makes a worker of the servers in `fleet`. Its time begins at this reading of the clock.
    pub fn new(fleet: Fleet<D>, sink: S, now: Instant) -> Worker<D, S> {
        Worker {
            fleet,
            sink,
            clock: Clock::new(now),
            standstill_log: LogLimit::default(),
            events: Vec::new(),
            polls: Polls::default(),
            is_full: false,
            has_answers: false,
            has_changes: false,
        }
    }

    /// Runs until the worker is stopped or no server is left. Returns the counters, and how many servers have ended
    /// badly.
    pub fn run(mut self, io: &mut impl Io) -> (Counters, usize) {
        while self.turn(io).is_continue() {}
        self.shut_down()
    }

    /// Does one turn. Returns whether another turn has to follow.
    pub fn turn<I: Io>(&mut self, io: &mut I) -> ControlFlow<()> {
        self.take_changes(io);
        // The poll may sleep long, and the sockets of a removed server must not stay open meanwhile.
        self.act(io);
        if self.fleet.is_finished() {
            return ControlFlow::Break(());
        }
        let polled = self.poll(io);
        if io.is_stopped() {
            return ControlFlow::Break(());
        }
        self.take_events(io);
        self.take_answers(io);
        self.pass_time(polled);
        self.act(io);
        self.read(io);
        self.act(io);
        self.sink.publish();
        ControlFlow::Continue(())
    }

    /// Takes the changes of the list of servers that wait, up to a bounded number.
    fn take_changes(&mut self, io: &mut impl Io) {
        for _ in 0..CHANGES_PER_TURN {
            match io.change() {
                None => {
                    self.has_changes = false;
                    return;
                }
                Some(Change::Add(server)) => _ = self.add(server),
                Some(Change::Remove(server)) => _ = self.remove(LinkId::unpack(server.handle())),
                Some(Change::RetryNow) => self.fleet.retry_now(self.clock.now()),
            }
        }
        self.has_changes = true;
    }

    /// Adds a server between two turns. The next turn does not sleep, so the first attempt begins immediately.
    pub fn add(&mut self, server: Arc<ServerStats>) -> LinkId {
        self.fleet.add_published(server, self.clock.now())
    }

    /// Removes a server between two turns, and returns whether there was one with this id. The next turn begins
    /// with closing its sockets. Its counters stay in the totals.
    pub fn remove(&mut self, id: LinkId) -> bool {
        self.fleet.remove(id, self.clock.now())
    }

    /// Ends all servers. Returns the counters, and how many servers have ended badly.
    pub fn shut_down(&mut self) -> (Counters, usize) {
        self.fleet.shut_down(self.clock.now());
        self.fleet.totals()
    }

    /// Returns the servers.
    pub fn fleet(&self) -> &Fleet<D> {
        &self.fleet
    }

    /// Sleeps until there is work. Returns the moment up to which everything has been reported.
    fn poll(&mut self, io: &mut impl Io) -> Option<Instant> {
        if self.is_full {
            self.is_full = self.sink.wait_for_room();
        }
        let is_busy =
            self.has_answers || self.has_changes || (self.fleet.has_ready() && !self.is_full);
        let until = if is_busy { Some(self.clock.now()) } else { self.fleet.next_deadline() };
        let before = self.clock.now();
        let until = self.clock.sleep_until(until);
        let polled = io.poll(until, &mut self.events);
        self.read_clock(io);
        self.polls.note(polled, before, self.events.len(), self.fleet.sockets_len())
    }

    fn read_clock(&mut self, io: &mut impl Io) -> Instant {
        let late = self.clock.read(io.now());
        if late.is_some() {
            self.fleet.set_lost(self.clock.lost());
        }
        if let Some(late) = late.filter(|late| *late >= STANDSTILL_LOGGED)
            && self.standstill_log.admit(self.clock.now()).is_some()
        {
            self.fleet.note_standstill(late);
        }
        self.clock.now()
    }

    /// Takes the events of this turn, by the roles of their sockets.
    fn take_events(&mut self, io: &mut impl Io) {
        let now = self.clock.now();
        for &Ready { socket, read_on } in &self.events {
            match self.fleet.role(socket) {
                SocketRole::Connected { id } => self.fleet.on_ready(id, read_on),
                SocketRole::Connecting { id } => {
                    let error = match io.handshake(socket) {
                        Ok(Handshake::Pending) => continue,
                        Ok(Handshake::Connected) => None,
                        Ok(Handshake::Lost(error)) => Some(error),
                        Err(error) => {
                            self.fleet.handle(id, Event::Failed { socket, error }, now);
                            continue;
                        }
                    };
                    self.fleet.handle(id, Event::Connected { socket, error }, now);
                    // The event may have been that of the first bytes, too.
                    self.fleet.on_ready(id, read_on);
                }
                SocketRole::None => {}
            }
        }
    }

    fn take_answers(&mut self, io: &mut impl Io) {
        let now = self.clock.now();
        for _ in 0..ANSWERS_PER_TURN {
            let Some((id, result)) = io.answer() else {
                self.has_answers = false;
                return;
            };
            self.fleet.handle(id, Event::Resolved(result), now);
        }
        self.has_answers = true;
    }

    /// Lets the final deadlines pass: those up to `told`, if all answers were taken.
    fn pass_time(&mut self, told: Option<Instant>) {
        if let Some(told) = told
            && !self.has_answers
        {
            self.fleet.on_time(told);
        }
    }

    /// Carries out all actions. So the open sockets are those of the links when the next events come. The events and
    /// timers of a turn bound their number.
    fn act(&mut self, io: &mut impl Io) {
        while let Some((id, action)) = self.fleet.next_action() {
            match action {
                Action::Close(socket) => io.close(socket),
                Action::Resolve => {
                    if let Some(server) = self.fleet.server(id) {
                        io.resolve(id, server);
                    }
                }
                Action::Connect { socket, address } => {
                    if let Err(error) = io.connect(socket, address) {
                        let now = self.read_clock(io);
                        self.fleet.handle(id, Event::Failed { socket, error }, now);
                    }
                }
            }
        }
    }

    /// Reads the ready connections, up to the budget of the turn.
    fn read<I: Io>(&mut self, io: &mut I) {
        self.fleet.begin_reads();
        while !self.is_full
            && let Some(next) = self.fleet.next_read()
        {
            // The reads before this one took time.
            let now = self.read_clock(io);
            self.is_full = !self.read_one(next, io, now);
        }
    }

    fn read_one<I: Io>(&mut self, next: NextRead, io: &mut I, now: Instant) -> bool {
        let mut socket = Socket { io, id: next.socket };
        let drained = I::SHORT_READ_MEANS_DRAINED;
        self.fleet.read(next, &mut socket, drained, &mut self.sink, now)
    }
}

/// A connection as a source of bytes.
struct Socket<'a, I> {
    io: &'a mut I,
    id: SocketId,
}

impl<I: Io> Read for Socket<'_, I> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.read(self.id, buf)
    }
}

/// The polls since everything was last reported.
///
/// A full poll may leave out sockets. But ready sockets take turns. After as many events as there are sockets, each
/// socket was reported that was ready when the first of the full polls began.
#[derive(Debug, Default)]
struct Polls {
    /// The clock reading before the first of them.
    since: Option<Instant>,
    /// The number of their events.
    events: usize,
    /// The most sockets at any of them.
    sockets: usize,
}

impl Polls {
    /// Takes note of a poll that began after the clock reading `before`. Returns the moment up to which everything
    /// has been reported, if there is a new one.
    fn note(
        &mut self,
        polled: Polled,
        before: Instant,
        events: usize,
        sockets: usize,
    ) -> Option<Instant> {
        let since = *self.since.get_or_insert(before);
        self.events += events;
        self.sockets = self.sockets.max(sockets);
        let told = match polled {
            Polled::Complete => before,
            Polled::Full if self.events > self.sockets => since,
            Polled::Full | Polled::Interrupted => return None,
        };
        *self = Polls::default();
        Some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::time::at;

    #[test]
    fn a_complete_poll_tells_of_everything_up_to_its_beginning() {
        let mut polls = Polls::default();
        assert_eq!(polls.note(Polled::Complete, at(5), 0, 10), Some(at(5)));
        assert_eq!(polls.note(Polled::Interrupted, at(6), 0, 10), None);
        assert_eq!(polls.note(Polled::Full, at(7), 4, 10), None);
        assert_eq!(polls.note(Polled::Complete, at(8), 1, 10), Some(at(8)));
    }

    #[test]
    fn full_polls_tell_of_everything_once_each_socket_has_had_its_turn() {
        let mut polls = Polls::default();
        assert_eq!(polls.note(Polled::Full, at(5), 4, 8), None);
        assert_eq!(polls.note(Polled::Interrupted, at(6), 0, 8), None);
        assert_eq!(polls.note(Polled::Full, at(7), 4, 7), None, "there were eight sockets");
        assert_eq!(polls.note(Polled::Full, at(8), 4, 7), Some(at(5)));
        assert_eq!(polls.note(Polled::Full, at(9), 4, 7), None, "from the beginning");
    }
}
