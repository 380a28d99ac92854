//! One turn of a worker: everything that its loop does, over the [`Io`] that it needs of the system.
//!
//! A turn is: poll, events, answers of the resolver, timers, actions, reads, actions, publish. `net` does
//! the I/O with mio; the simulation does it with a world of its own. What they must promise is written at
//! [`Io`]. Between two turns servers may be added and removed; the next turn begins with the actions of that.
//!
//! - Sockets are opened only when the events of the turn are used up, so that no event is taken for one of a
//!   socket that was opened since.
//! - The link's state decides what an event means, never the event's flags alone.
//! - Readiness is edge-triggered: a connection that is not read to its end keeps its place in the fleet's
//!   queues, and the poll does not sleep. Otherwise no event would mention it again.
//! - A deadline is final only when the system has nothing more to tell. A timer runs at the last clock
//!   reading before a poll that was complete, after that poll's events and all answers were taken. So
//!   nothing is given up for want of an event that was already there.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::ops::ControlFlow;

use crate::address::Server;
use crate::codec::Decoder;
use crate::proto::clock::Clock;
use crate::proto::connection_error::ConnectionError;
use crate::proto::counters::Counters;
use crate::proto::fleet::{Fleet, NextRead, SocketRole};
use crate::proto::link::{Action, Event, Sink};
use crate::proto::link_id::LinkId;
use crate::proto::log_limit::LogLimit;
use crate::proto::socket_id::SocketId;
use crate::proto::time::Millis;

/// The answers of the resolver that are taken in a turn, so that a name that a thousand servers share
/// does not keep the connected ones waiting.
pub const ANSWERS_PER_TURN: usize = 64;

/// A standstill of this length is worth a line in the log, within a limit.
const STANDSTILL_LOGGED: Millis = 1000;

/// What a worker needs of the system.
pub trait Io {
    /// Whether a read that returns less than it was asked for means that the socket is drained, unless the
    /// poll says [`Ready::read_on`].
    const SHORT_READ_MEANS_DRAINED: bool;

    /// Whether the worker was told to stop.
    fn is_stopped(&self) -> bool;

    /// The present moment, rounded down. It never goes back.
    fn now(&mut self) -> Millis;

    /// Replaces `events` by what has become ready since it was last mentioned, and says whether that is all
    /// of it. Waits for something to become ready until `until`, or without an end; a moment that has
    /// passed does not wait. Only open sockets are mentioned. Those that are ready take turns: each is
    /// mentioned once before any other is mentioned twice.
    fn poll(&mut self, until: Option<Millis>, events: &mut Vec<Ready>) -> Polled;

    /// Opens a socket and begins to connect it to `address`.
    ///
    /// # Errors
    /// If the system refuses; there is no socket then.
    fn connect(&mut self, socket: SocketId, address: SocketAddr) -> Result<(), ConnectionError>;

    /// Asks how far a socket is that is being connected.
    ///
    /// # Errors
    /// If it could not be connected.
    fn handshake(&mut self, socket: SocketId) -> Result<Handshake, ConnectionError>;

    /// Reads from a connection, without blocking.
    ///
    /// # Errors
    /// As those of a nonblocking socket.
    fn read(&mut self, socket: SocketId, buf: &mut [u8]) -> io::Result<usize>;

    /// Closes a socket, if it is open.
    fn close(&mut self, socket: SocketId);

    /// Looks up the name of a link's server. There is one [`answer`](Io::answer) to each call.
    fn resolve(&mut self, id: LinkId, server: &Server);

    /// The next answer to a lookup: the link's id, and the addresses with the server's port. A new
    /// answer ends a poll that waits.
    fn answer(&mut self) -> Option<(LinkId, io::Result<Vec<SocketAddr>>)>;
}

/// A socket that has become ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Which socket.
    pub socket: SocketId,
    /// Whether to read on after a short read, until a read would block: the other side has shut down or
    /// reset the connection, or a read may stop early, as at TCP's urgent mark.
    pub read_on: bool,
}

/// Whether a poll mentioned everything that was ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Everything.
    Complete,
    /// As much as there was space for; there may be more.
    Full,
    /// A signal ended it before it had looked.
    Interrupted,
}

/// How far a socket is that is being connected.
#[derive(Debug)]
pub enum Handshake {
    /// There is no answer yet.
    Pending,
    /// It is connected.
    Connected,
    /// It was connected, and this error has ended the connection since. What came before can be read.
    Lost(ConnectionError),
}

/// A worker: its servers, their time, and where their numbers go.
#[derive(Debug)]
pub struct Worker<D, S> {
    fleet: Fleet<D>,
    sink: S,
    clock: Clock,
    standstill_log: LogLimit,
    events: Vec<Ready>,
    polls: Polls,
    /// Whether the sink was full when last seen: nothing is read until there is room again.
    is_full: bool,
    /// Whether the resolver may have more answers than were taken in the last turn.
    has_answers: bool,
}

impl<D: Decoder, S: Sink<D::Record>> Worker<D, S> {
    /// A worker for the servers of `fleet`, whose time begins at this reading of the clock.
    pub fn new(fleet: Fleet<D>, sink: S, now: Millis) -> Worker<D, S> {
        Worker {
            fleet,
            sink,
            clock: Clock::new(now),
            standstill_log: LogLimit::default(),
            events: Vec::new(),
            polls: Polls::default(),
            is_full: false,
            has_answers: false,
        }
    }

    /// Works until it is told to stop or no server is left, and returns what was done and how many servers
    /// have ended badly.
    pub fn run(mut self, io: &mut impl Io) -> (Counters, usize) {
        while self.turn(io).is_continue() {}
        self.shut_down()
    }

    /// Does one turn, and says whether another is to follow.
    pub fn turn<I: Io>(&mut self, io: &mut I) -> ControlFlow<()> {
        // The poll may sleep for long, and the sockets of a removed server are not to stay open meanwhile.
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

    /// Adds a server between two turns. The next turn does not sleep, so that the server is dialed at once.
    pub fn add(&mut self, server: Server) -> LinkId {
        self.fleet.add(server, self.clock.now())
    }

    /// Removes a server between two turns, and returns whether there was one with this id. Its sockets are
    /// closed as the next turn begins. What it has done stays in the totals.
    pub fn remove(&mut self, id: LinkId) -> bool {
        self.fleet.remove(id, self.clock.now())
    }

    /// Ends all servers, and returns what was done and how many have ended badly.
    pub fn shut_down(&mut self) -> (Counters, usize) {
        self.fleet.shut_down();
        self.fleet.totals()
    }

    /// The servers.
    pub fn fleet(&self) -> &Fleet<D> {
        &self.fleet
    }

    /// Sleeps until there is something to do, and says up to when the poll tells of everything.
    fn poll(&mut self, io: &mut impl Io) -> Option<Millis> {
        if self.is_full {
            self.is_full = self.sink.wait_for_room();
        }
        let is_busy = self.has_answers || (self.fleet.has_ready() && !self.is_full);
        let until = if is_busy { Some(self.clock.now()) } else { self.fleet.next_deadline() };
        let before = self.clock.now();
        let until = self.clock.sleep_until(until);
        let polled = io.poll(until, &mut self.events);
        self.read_clock(io);
        self.polls.note(polled, before, self.events.len(), self.fleet.sockets_len())
    }

    fn read_clock(&mut self, io: &mut impl Io) -> Millis {
        let late = self.clock.read(io.now());
        if let Some(late) = late.filter(|late| *late >= STANDSTILL_LOGGED)
            && self.standstill_log.admit(self.clock.now()).is_some()
        {
            self.fleet.note_standstill(late);
        }
        self.clock.now()
    }

    /// Sorts the events of this turn by what their sockets are to their links.
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

    /// Lets the deadlines pass that are final: those up to `told`, if all answers were taken, too.
    fn pass_time(&mut self, told: Option<Millis>) {
        if let Some(told) = told
            && !self.has_answers
        {
            self.fleet.on_time(told);
        }
    }

    /// Carries out all that the fleet has asked for, so that when events come, the open sockets are those
    /// that the links believe to have. How much it is in a turn is bounded by what asks for it.
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

    /// Reads the connections that have something to read, as far as the budget of a turn goes.
    fn read<I: Io>(&mut self, io: &mut I) {
        self.fleet.begin_reads();
        while !self.is_full
            && let Some(next) = self.fleet.next_read()
        {
            // By now others have been read.
            let now = self.read_clock(io);
            self.is_full = !self.read_one(next, io, now);
        }
    }

    fn read_one<I: Io>(&mut self, next: NextRead, io: &mut I, now: Millis) -> bool {
        let mut socket = Socket { io, id: next.socket };
        let drained = I::SHORT_READ_MEANS_DRAINED;
        self.fleet.read(next, &mut socket, drained, &mut self.sink, now)
    }
}

/// A connection as something to read from.
struct Socket<'a, I> {
    io: &'a mut I,
    id: SocketId,
}

impl<I: Io> Read for Socket<'_, I> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.read(self.id, buf)
    }
}

/// The last polls: up to when they told of everything.
///
/// A poll that is full may leave sockets unmentioned. But those that are ready take turns, so after as many
/// events as there are sockets, each was mentioned that was ready when the first of the full polls began.
#[derive(Debug, Default)]
struct Polls {
    /// The clock reading before the first of the polls since then that were not complete.
    since: Option<Millis>,
    /// The events of those polls.
    events: usize,
    /// The most sockets that there were at one of them.
    sockets: usize,
}

impl Polls {
    /// Takes note of a poll that was begun after the clock was read as `before`. Returns the moment up to
    /// which everything has been mentioned, if there is a new one.
    fn note(
        &mut self,
        polled: Polled,
        before: Millis,
        events: usize,
        sockets: usize,
    ) -> Option<Millis> {
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

    #[test]
    fn a_complete_poll_tells_of_everything_up_to_its_beginning() {
        let mut polls = Polls::default();
        assert_eq!(polls.note(Polled::Complete, 5, 0, 10), Some(5));
        assert_eq!(polls.note(Polled::Interrupted, 6, 0, 10), None);
        assert_eq!(polls.note(Polled::Full, 7, 4, 10), None);
        assert_eq!(polls.note(Polled::Complete, 8, 1, 10), Some(8));
    }

    #[test]
    fn full_polls_tell_of_everything_once_each_socket_has_had_its_turn() {
        let mut polls = Polls::default();
        assert_eq!(polls.note(Polled::Full, 5, 4, 8), None);
        assert_eq!(polls.note(Polled::Interrupted, 6, 0, 8), None);
        assert_eq!(polls.note(Polled::Full, 7, 4, 7), None, "there were eight sockets");
        assert_eq!(polls.note(Polled::Full, 8, 4, 7), Some(5));
        assert_eq!(polls.note(Polled::Full, 9, 4, 7), None, "from the beginning");
    }
}
