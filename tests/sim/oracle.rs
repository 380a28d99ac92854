//! What the worker must do: the contract once more, by other means than the worker's.
//!
//! The oracle sees what passes between the worker and the system, in order, and nothing else; after each
//! turn it compares what it knows with what the worker shows. It has a state for each server and knows at
//! each call what is owed: which sockets are to be opened and closed, which connection is to be read, how
//! far, and up to when the deadlines have passed. Where a moment is the worker's to choose (a delay with
//! jitter), it has bounds, and takes the moment from the worker once that has chosen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use tcpcore::internals::proto::fleet::{Fleet, READ_COST, READ_SIZE, SocketRole, TURN_BUDGET};
use tcpcore::internals::proto::link::MIN_ROOM;
use tcpcore::internals::proto::link_id::LinkId;
use tcpcore::internals::proto::socket_id::SocketId;
use tcpcore::internals::proto::time::{Duration, Instant};
use tcpcore::internals::proto::worker::Polled;
use tcpcore::internals::stats::{ServerState as Published, ServerStats};
use tcpcore::{Config, Counters, Host, Server};

use super::chance::{Chance, Kind};
use super::codec::Codec;
use super::net::{self, Lines};
use super::{Violation, ensure};

/// A server that has been down for so long is reported.
const ALARM: Duration = Duration::from_secs(180);

/// What a worker may be late by.
const STANDSTILL: Duration = Duration::from_millis(100);

/// How much more time a deadline has that was missed in a standstill.
const GRACE: Duration = Duration::from_secs(1);

/// The bytes without a delimiter, and the malformed lines alone, that are worth a hint.
const HINT_BYTES: usize = 65_536;
const HINT_LINES: u64 = 100;

/// The policy in whole milliseconds, but for the back-off's own reckoning, which is in seconds.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    initial_backoff_s: f64,
    max_backoff_s: f64,
    multiplier: f64,
    jitter: f64,
    pub(super) threshold: Duration,
    pub(super) give_up_after: Option<Duration>,
    pub(super) connect_timeout: Duration,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_line: usize,
    pub(super) delimiter: u8,
    pub(super) keep_truncated: bool,
    pub(super) once: bool,
    pub(super) divisor: u64,
}

impl From<&Config> for Rules {
    fn from(config: &Config) -> Rules {
        Rules {
            initial_backoff_s: config.initial_backoff().as_secs_f64(),
            max_backoff_s: config.max_backoff().as_secs_f64(),
            multiplier: config.backoff_multiplier(),
            jitter: config.jitter_factor(),
            threshold: ms(config.reset_backoff_threshold()),
            give_up_after: config.give_up_after().map(ms),
            connect_timeout: ms(config.connect_timeout()),
            idle_timeout: config.idle_timeout().map(ms),
            max_line: config.max_line().get(),
            delimiter: config.delimiter(),
            keep_truncated: config.keep_truncated(),
            once: config.once(),
            divisor: config.divisor().get(),
        }
    }
}

impl Rules {
    /// The shortest and the longest delay before a retry, by the contract's formula and with less
    /// than a millisecond on either side for rounding.
    pub(super) fn delay_bounds(&self, retry: u32) -> (Duration, Duration) {
        // No multiplier of a world needs as many steps to the cap, unless it is 1.
        let growth: f64 = (0..retry.min(64)).map(|_| self.multiplier).product();
        let delay_s = (self.initial_backoff_s * growth).min(self.max_backoff_s);
        let [low, high] = [1.0 - self.jitter, 1.0 + self.jitter]
            .map(|share| std::time::Duration::from_secs_f64(delay_s * share));
        let millisecond = Duration::from_millis(1);
        (ms(low).max(millisecond), ms(high) + millisecond)
    }

    /// How long it may take to be back after the last fault: a lookup and an attempt that are still to
    /// fail, and the longest delay.
    pub(super) fn recovery(&self) -> Duration {
        self.connect_timeout * 2 + self.delay_bounds(u32::MAX).1
    }
}

/// The whole milliseconds of a span.
fn ms(span: std::time::Duration) -> Duration {
    Duration::from_millis(u64::try_from(span.as_millis()).expect("within years"))
}

/// The worker's time: the system's, but for the time in which the worker stood still.
#[derive(Debug)]
struct Time {
    raw: Instant,
    /// Which reading it was.
    reading: u64,
    /// The worker's time at `raw`.
    now: Instant,
    /// The worker's moment at which it means to be back, if it sleeps.
    back_at: Option<Instant>,
    /// Up to which moment a standstill was granted.
    granted: Option<Instant>,
}

impl Time {
    fn read(&mut self, raw: Instant, chance: &mut Chance<'_>) {
        let passed = raw - self.raw;
        self.raw = raw;
        let back_at = self.back_at.map_or(self.now, |at| at.max(self.now));
        self.back_at = None;
        // Until it is back, time passes; then it may be late.
        let limit = back_at - self.now + STANDSTILL;
        if passed <= limit {
            self.now += passed;
        } else if self.granted.is_none_or(|granted| granted < back_at) {
            chance.saw(Kind::TimeStoodStill);
            self.granted = Some(back_at);
            self.now = back_at - GRACE.min(back_at - self.now);
        } else {
            chance.saw(Kind::TimeWentOn);
            self.now += limit;
        }
    }
}

#[derive(Clone, Debug)]
enum State {
    /// `until` is known once the worker has chosen it.
    Waiting {
        since: Instant,
        low: Duration,
        high: Duration,
        until: Option<Instant>,
    },
    Resolving {
        deadline: Instant,
    },
    Connecting {
        rest: VecDeque<SocketAddr>,
        /// In the order of their start; without a socket until the worker opens it.
        open: Vec<(Option<SocketId>, SocketAddr)>,
        next_at: Instant,
        delay: Duration,
        deadline: Instant,
    },
    Connected {
        socket: SocketId,
        since: Instant,
        last_received: Instant,
        /// Whether a short read does not mean that nothing is left.
        read_on: bool,
    },
    Ended {
        is_well: bool,
    },
    Removed,
}

#[derive(Clone, Debug)]
enum Lookup {
    Idle,
    Pending,
    Answered(Vec<SocketAddr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    None,
    Fresh,
    Backlog,
}

/// A period of being down.
#[derive(Clone, Debug)]
struct Down {
    since: Instant,
    is_reported: bool,
}

#[derive(Clone, Debug)]
struct Peer {
    id: LinkId,
    server: Server,
    /// The figures that the worker publishes of it.
    published: Option<Arc<ServerStats>>,
    state: State,
    lookup: Lookup,
    retries: u32,
    /// `None` before the first attempt, and from the first byte of a connection on.
    down: Option<Down>,
    /// Whether anything has failed since `down` began.
    has_failed: bool,
    queue: Queue,
    /// The worker's timer at the end of the last turn, unless the state has changed since.
    timer: Option<Instant>,
    has_changed: bool,
    /// The lines of the only connection, and those that were no good, with `once`.
    lines: Lines,
    /// The lines of the present connection.
    connection_lines: Lines,
    /// How many bytes of the connection's unfinished line are held.
    held: usize,
    /// Whether a hint was given: that the delimiter is missing, and that all lines are malformed.
    is_hinted: [bool; 2],
    /// What the worker must ask for before the next poll.
    owed_connects: VecDeque<SocketAddr>,
    owed_lookup: bool,
    /// Of the owed connects, those whose attempt has ended before they were carried out.
    futile: Vec<SocketAddr>,
}

/// Where the worker is in its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It takes events and answers.
    Events,
    /// It carries out what the links ask for.
    Acting,
    /// It reads.
    Reading,
}

/// A connection's turn of being read.
#[derive(Debug)]
struct Turn {
    id: usize,
    is_fresh: bool,
    /// The bytes that may still be read.
    left: usize,
    bytes: usize,
    /// How the last read ended.
    last: LastRead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastRead {
    None,
    Whole,
    Short,
    Interrupted,
    WouldBlock,
    /// The connection is lost.
    Ended,
}

pub(super) struct Oracle {
    rules: Rules,
    short_read_means_drained: bool,
    peers: Vec<Peer>,
    time: Time,
    pub(super) counters: Counters,
    /// The number of hints of each kind that were due.
    pub(super) hints: [u64; 2],
    failed: usize,
    owed_closes: BTreeSet<SocketId>,
    /// The open sockets, each with its server.
    sockets: BTreeMap<SocketId, usize>,
    phase: Phase,
    fresh: VecDeque<usize>,
    backlog: VecDeque<usize>,
    /// Those of each queue that are left to be read in this turn, and its budget.
    fresh_left: usize,
    backlog_left: usize,
    budget: usize,
    has_read_backlog: bool,
    turn: Option<Turn>,
    is_full: bool,
    /// The events of the last poll that the worker has not come to yet.
    batch: VecDeque<(SocketId, bool)>,
    /// By server: whether it holds a part of a line.
    pub(super) tails: Vec<bool>,
    /// The socket that could not be opened, until the worker has looked at the clock.
    refused: Option<SocketId>,
    /// Up to which reading of the clock the last poll was complete: its time, and which one it was.
    reported: Option<(Instant, u64)>,
    /// The readings before the first of the polls that were not complete, their events, and the most
    /// sockets that were open.
    polls_since: Option<(Instant, u64)>,
    polls_events: usize,
    polls_sockets: usize,
    /// The records that the sink has room for.
    pub(super) room: usize,
    /// [`Codec::most_bytes`].
    most_bytes: fn(usize, usize) -> usize,
    /// The worker's next deadline. It may be early, if a timer was moved: then it wakes for nothing.
    next_deadline: Option<Instant>,
    /// Whether the worker slept until its deadline and may have been woken by it.
    was_called: bool,
    /// How often a timer may have been moved, each of which excuses one wake-up for nothing.
    moves: u64,
    spare_wakes: u64,
}

type Checked = Result<(), Violation>;

impl Oracle {
    pub(super) fn new<C: Codec>(
        rules: Rules,
        short_read_means_drained: bool,
        raw: Instant,
    ) -> Oracle {
        Oracle {
            rules,
            short_read_means_drained,
            peers: Vec::new(),
            time: Time { raw, reading: 0, now: raw, back_at: None, granted: None },
            counters: Counters::default(),
            hints: [0; 2],
            failed: 0,
            owed_closes: BTreeSet::new(),
            sockets: BTreeMap::new(),
            phase: Phase::Acting,
            fresh: VecDeque::new(),
            backlog: VecDeque::new(),
            fresh_left: 0,
            backlog_left: 0,
            budget: 0,
            has_read_backlog: false,
            turn: None,
            is_full: false,
            batch: VecDeque::new(),
            tails: Vec::new(),
            refused: None,
            reported: None,
            polls_since: None,
            polls_events: 0,
            polls_sockets: 0,
            room: usize::MAX,
            most_bytes: C::most_bytes,
            next_deadline: Some(raw),
            was_called: false,
            moves: 0,
            spare_wakes: 0,
        }
    }

    pub(super) fn add(&mut self, id: LinkId, server: Server) {
        let now = self.time.now;
        self.peers.push(Peer {
            id,
            server,
            published: None,
            state: State::Waiting {
                since: now,
                low: Duration::ZERO,
                high: Duration::ZERO,
                until: Some(now),
            },
            lookup: Lookup::Idle,
            retries: 0,
            down: None,
            has_failed: false,
            queue: Queue::None,
            timer: Some(now),
            has_changed: false,
            lines: Lines::default(),
            connection_lines: Lines::default(),
            held: 0,
            is_hinted: [false; 2],
            owed_connects: VecDeque::new(),
            owed_lookup: false,
            futile: Vec::new(),
        });
    }

    /// A server is removed between two turns; `has_tail` says whether it holds a part of a line. Returns
    /// whether there still was one.
    pub(super) fn on_remove(&mut self, id: usize, has_tail: bool, chance: &mut Chance<'_>) -> bool {
        let peer = &mut self.peers[id];
        match &peer.state {
            State::Waiting { .. } => chance.saw(Kind::RemovedWaiting),
            State::Resolving { .. } => chance.saw(Kind::RemovedResolving),
            State::Connecting { .. } => chance.saw(Kind::RemovedConnecting),
            State::Connected { socket, .. } => {
                self.owed_closes.insert(*socket);
                if has_tail {
                    self.counters.truncated += 1;
                    chance.saw(Kind::RemovedInMidLine);
                }
                if peer.queue != Queue::None {
                    chance.saw(Kind::RemovedUnread);
                }
            }
            State::Ended { is_well: true } => {}
            State::Ended { is_well: false } => chance.saw(Kind::RemovedAfterFailing),
            State::Removed => {
                chance.saw(Kind::RemovedTwice);
                return false;
            }
        }
        let is_removed = |socket: &SocketId| {
            self.sockets
                .get(socket)
                .is_some_and(|id| matches!(self.peers[*id].state, State::Removed))
        };
        if self.owed_closes.iter().any(is_removed) {
            chance.saw(Kind::RemovedWithActionsQueued);
        }
        self.close_attempt(id, None);
        // The timer that it had.
        self.moves += 1;
        self.peers[id].state = State::Removed;
        self.peers[id].queue = Queue::None;
        self.fresh.retain(|queued| *queued != id);
        self.backlog.retain(|queued| *queued != id);
        if self.servers() == 0 {
            chance.saw(Kind::AllRemoved);
        }
        true
    }

    /// Whether there is a server that was not removed.
    /// The number of servers that were not removed.
    pub(super) fn servers(&self) -> usize {
        self.peers.iter().filter(|peer| !matches!(peer.state, State::Removed)).count()
    }

    pub(super) fn is_connected(&self, id: usize) -> bool {
        matches!(self.peers[id].state, State::Connected { .. })
    }

    /// The socket of the connection, if it need not be read before an event mentions it.
    pub(super) fn unqueued_socket(&self, id: usize) -> Option<SocketId> {
        match self.peers[id].state {
            State::Connected { socket, .. } if self.peers[id].queue == Queue::None => Some(socket),
            _ => None,
        }
    }

    pub(super) fn has_ended(&self, id: usize) -> bool {
        matches!(self.peers[id].state, State::Ended { .. } | State::Removed)
    }

    pub(super) fn is_finished(&self) -> bool {
        (0..self.peers.len()).all(|id| self.has_ended(id))
    }

    pub(super) fn time(&self) -> Instant {
        self.time.now
    }

    pub(super) fn state(&self, id: usize) -> String {
        format!("{:?}", self.peers[id])
    }

    // The calls of the worker, in the order of a turn.

    /// The worker polls. Returns whether it sleeps.
    pub(super) fn on_poll(
        &mut self,
        until: Option<Instant>,
        is_full: bool,
        chance: &mut Chance<'_>,
    ) -> Result<bool, Violation> {
        self.end_turn(chance)?;
        ensure!(self.phase != Phase::Events, "it polls before it has acted");
        self.check_owed("polls")?;
        self.check_all_read()?;
        self.is_full = is_full;
        let is_busy = !self.is_full && self.has_ready();
        let now = self.time.now;
        let moment = if is_busy { Some(now) } else { self.next_deadline };
        let expected = moment.map(|moment| self.time.raw + moment.saturating_duration_since(now));
        let is_late = expected.is_some_and(|at| at <= self.time.raw);
        let is_right = if is_late {
            until <= Some(self.time.raw) && until.is_some()
        } else {
            until == expected
        };
        ensure!(is_right, "it polls until {until:?}, not {expected:?}, at {:?}", self.time.raw);
        self.time.back_at = moment;
        if moment.is_none() {
            self.time.back_at = Some(Instant::from_millis(u64::MAX / 2));
        }
        self.was_called = is_late && !is_busy;
        Ok(!is_late)
    }

    /// The poll has returned.
    pub(super) fn on_polled(
        &mut self,
        polled: Polled,
        events: Vec<(SocketId, bool)>,
        chance: &mut Chance<'_>,
    ) {
        self.phase = Phase::Events;
        let before = (self.time.now, self.time.reading);
        let since = *self.polls_since.get_or_insert(before);
        self.polls_events += events.len();
        self.polls_sockets = self.polls_sockets.max(self.sockets.len());
        self.batch = events.into();
        self.reported = match polled {
            Polled::Complete => Some(before),
            Polled::Interrupted => None,
            Polled::Full => {
                chance.saw(Kind::PollFull);
                (self.polls_events > self.polls_sockets).then(|| {
                    chance.saw(Kind::PollsSufficed);
                    since
                })
            }
        };
        if self.reported.is_some() {
            (self.polls_since, self.polls_events, self.polls_sockets) = (None, 0, 0);
        }
    }

    /// Up to which reading of the clock the last poll was complete.
    pub(super) fn reported_at(&self) -> Option<u64> {
        self.reported.map(|(_, reading)| reading)
    }

    /// The worker looks at the clock: after a poll, after a socket could not be opened, or to read the
    /// next connection.
    pub(super) fn on_clock(
        &mut self,
        raw: Instant,
        reading: u64,
        chance: &mut Chance<'_>,
    ) -> Checked {
        self.end_turn(chance)?;
        self.time.read(raw, chance);
        self.time.reading = reading;
        if let Some(socket) = self.refused.take() {
            return self.socket_failed(socket, chance);
        }
        match self.phase {
            Phase::Events => Ok(()),
            Phase::Acting | Phase::Reading => self.begin_turn(),
        }
    }

    /// The worker takes the events up to the one for which it asks about `asked`, or all. It must ask about
    /// each socket that is being connected. Returns what that event says of reading on.
    fn take_events(&mut self, asked: Option<SocketId>) -> Result<bool, Violation> {
        while let Some((socket, read_on)) = self.batch.pop_front() {
            if let Some(id) = self.connected_by(socket) {
                self.on_ready(id, read_on);
            } else if self.connecting_by(socket).is_some() {
                ensure!(asked == Some(socket), "the event of {socket:?} was ignored");
                return Ok(read_on);
            }
        }
        ensure!(asked.is_none(), "it asks about {asked:?}, which has no event");
        Ok(false)
    }

    fn connected_by(&self, socket: SocketId) -> Option<usize> {
        let id = *self.sockets.get(&socket)?;
        let is_mine = |state: &State| matches!(state, State::Connected { socket: mine, .. } if *mine == socket);
        is_mine(&self.peers[id].state).then_some(id)
    }

    fn connecting_by(&self, socket: SocketId) -> Option<usize> {
        let id = *self.sockets.get(&socket)?;
        match &self.peers[id].state {
            State::Connecting { open, .. } => {
                open.iter().any(|(mine, _)| *mine == Some(socket)).then_some(id)
            }
            _ => None,
        }
    }

    /// The worker asks how far a socket is.
    pub(super) fn on_handshake(
        &mut self,
        socket: SocketId,
        result: Shaken,
        chance: &mut Chance<'_>,
    ) -> Checked {
        ensure!(self.phase == Phase::Events, "it asks about {socket:?} out of turn");
        let read_on = self.take_events(Some(socket))?;
        let Some(id) = self.connecting_by(socket) else {
            return Err(Violation(format!("{socket:?} is not being connected")));
        };
        match result {
            Shaken::Pending => Ok(()),
            Shaken::Failed => self.socket_failed(socket, chance),
            Shaken::Connected { is_lost } => {
                self.connected(id, socket, is_lost, chance);
                self.on_ready(id, read_on);
                Ok(())
            }
        }
    }

    /// The worker has taken an answer, or there is none left.
    pub(super) fn on_answer(
        &mut self,
        answer: Option<(usize, Option<Vec<SocketAddr>>)>,
        chance: &mut Chance<'_>,
    ) -> Checked {
        ensure!(self.phase == Phase::Events, "it takes answers out of turn");
        self.take_events(None)?;
        let Some((id, addresses)) = answer else {
            self.phase = Phase::Acting;
            return match self.reported.take() {
                Some((reported, _)) => self.pass_time(reported, chance),
                None => Ok(()),
            };
        };
        self.note_answer_for_removed(id, chance);
        let peer = &mut self.peers[id];
        ensure!(matches!(peer.lookup, Lookup::Pending), "an answer without a request");
        peer.lookup = Lookup::Idle;
        match (&peer.state, addresses) {
            (State::Resolving { .. }, Some(addresses)) if !addresses.is_empty() => {
                self.connect(id, addresses, self.time.now, chance)
            }
            (State::Resolving { .. }, _) => self.fail(id, self.time.now, chance),
            (State::Waiting { .. }, Some(addresses)) if !addresses.is_empty() => {
                peer.lookup = Lookup::Answered(addresses);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn note_answer_for_removed(&self, id: usize, chance: &mut Chance<'_>) {
        let peer = &self.peers[id];
        if !matches!(peer.state, State::Removed) {
            return;
        }
        chance.saw(Kind::AnswerForRemoved);
        let mut others = self.peers.iter().filter(|other| other.id.index == peer.id.index);
        if others.any(|other| matches!(other.state, State::Resolving { .. })) {
            chance.saw(Kind::AnswerBesideAnother);
        }
    }

    pub(super) fn on_resolve(&mut self, id: usize, server: &Server) -> Checked {
        ensure!(self.phase != Phase::Events, "it resolves before all events are used up");
        let peer = &mut self.peers[id];
        ensure!(*server == peer.server, "it resolves {server} for {id}");
        ensure!(peer.owed_lookup, "it resolves for {id}, which does not need it: {peer:?}");
        peer.owed_lookup = false;
        Ok(())
    }

    pub(super) fn on_connect(
        &mut self,
        socket: SocketId,
        address: SocketAddr,
        is_open: bool,
        chance: &mut Chance<'_>,
    ) -> Checked {
        self.end_turn(chance)?;
        ensure!(self.phase != Phase::Events, "it connects before all events are used up");
        ensure!(!self.sockets.contains_key(&socket), "{socket:?} is in use");
        let id = net::server_at(address);
        let peer = &mut self.peers[id];
        let owed = peer.owed_connects.pop_front();
        ensure!(owed == Some(address), "it connects to {address}, not to {owed:?}: {peer:?}");
        let entry = match &mut peer.state {
            State::Connecting { open, .. } => {
                open.iter_mut().find(|(number, mine)| number.is_none() && *mine == address)
            }
            _ => None,
        };
        match (peer.futile.iter().position(|futile| *futile == address), entry) {
            (Some(index), _) => {
                peer.futile.remove(index);
                self.owed_closes.insert(socket);
            }
            (None, Some(entry)) => entry.0 = Some(socket),
            (None, None) => return Err(Violation(format!("{address} is not due: {peer:?}"))),
        }
        self.sockets.insert(socket, id);
        if !is_open {
            self.refused = Some(socket);
        }
        Ok(())
    }

    pub(super) fn on_close(&mut self, socket: SocketId, chance: &mut Chance<'_>) -> Checked {
        self.end_turn(chance)?;
        ensure!(self.phase != Phase::Events, "it closes before all events are used up");
        ensure!(self.owed_closes.remove(&socket), "it closes {socket:?}, which it needs");
        ensure!(self.sockets.remove(&socket).is_some(), "{socket:?} was never opened");
        Ok(())
    }

    /// The worker wants to read so many bytes. Returns whether they may be read.
    pub(super) fn on_read(&self, socket: SocketId, len: usize, room: usize) -> Checked {
        let Some(turn) = &self.turn else {
            return Err(Violation(format!("{socket:?} is read out of turn")));
        };
        let id = self.connected_by(socket);
        ensure!(id == Some(turn.id), "{socket:?} is read in the turn of {}", turn.id);
        ensure!(
            matches!(turn.last, LastRead::None | LastRead::Whole | LastRead::Interrupted)
                || (turn.last == LastRead::Short && !self.is_drained_by_short_read(turn.id)),
            "{socket:?} is read on after {:?}",
            turn.last
        );
        ensure!(
            len > 0 && len <= turn.left.min(READ_SIZE),
            "{len} bytes at once, of {}",
            turn.left
        );
        let held = self.peers[turn.id].held;
        ensure!(
            self.is_room_enough(turn.id, room) && len <= (self.most_bytes)(held, room),
            "{len} bytes with room for {room} records and {held} bytes held"
        );
        Ok(())
    }

    /// Whether a connection is read with so much room.
    fn is_room_enough(&self, id: usize, room: usize) -> bool {
        room >= MIN_ROOM && (self.most_bytes)(self.peers[id].held, room) > 0
    }

    /// So many bytes were read, of as many as were asked for, with these lines in them. As many in a row were read
    /// since the last delimiter, and so many of them are held.
    pub(super) fn on_bytes(
        &mut self,
        bytes: usize,
        asked: usize,
        lines: Lines,
        (undelimited, held): (usize, usize),
        chance: &mut Chance<'_>,
    ) {
        let Some(turn) = &mut self.turn else { return };
        turn.left -= bytes;
        turn.bytes += bytes;
        turn.last = if bytes < asked { LastRead::Short } else { LastRead::Whole };
        self.moves += 1;
        self.counters.bytes += bytes as u64;
        let id = turn.id;
        self.on_lines(lines);
        if undelimited >= HINT_BYTES.max(self.rules.max_line) {
            self.hint(id, 0, Kind::HintAtManyBytes, chance);
        }
        self.hint_if_malformed(id, HINT_LINES, Kind::HintAtManyLines, chance);
        let peer = &mut self.peers[id];
        peer.held = held;
        (peer.down, peer.has_failed) = (None, false);
        if let State::Connected { last_received, .. } = &mut peer.state {
            *last_received = self.time.now;
        }
    }

    /// The connection that is being read has sent these lines.
    pub(super) fn on_lines(&mut self, lines: Lines) {
        let Some(turn) = &self.turn else { return };
        self.counters.lines += lines.lines;
        self.counters.malformed += lines.malformed;
        self.counters.oversized += lines.oversized;
        self.counters.matched += lines.matched;
        let peer = &mut self.peers[turn.id];
        for sum in [&mut peer.lines, &mut peer.connection_lines] {
            sum.lines += lines.lines;
            sum.malformed += lines.malformed;
            sum.oversized += lines.oversized;
        }
    }

    /// A hint is due, if the server has not had it.
    fn hint(&mut self, id: usize, which: usize, kind: Kind, chance: &mut Chance<'_>) {
        if !std::mem::replace(&mut self.peers[id].is_hinted[which], true) {
            self.hints[which] += 1;
            chance.saw(kind);
        }
    }

    /// A hint is due if the connection has had so many lines, all of them malformed.
    fn hint_if_malformed(&mut self, id: usize, least: u64, kind: Kind, chance: &mut Chance<'_>) {
        let Lines { lines, malformed, .. } = self.peers[id].connection_lines;
        if lines >= least && malformed == lines {
            self.hint(id, 1, kind, chance);
        }
    }

    pub(super) fn on_interrupted(&mut self) {
        if let Some(turn) = &mut self.turn {
            turn.left -= 1;
            turn.last = LastRead::Interrupted;
        }
    }

    pub(super) fn on_would_block(&mut self) {
        let Some(turn) = &mut self.turn else { return };
        turn.last = LastRead::WouldBlock;
        if let State::Connected { read_on, .. } = &mut self.peers[turn.id].state {
            *read_on = false;
        }
    }

    /// The connection has ended: in good order, or with an error.
    pub(super) fn on_end(
        &mut self,
        is_closed: bool,
        has_tail: bool,
        chance: &mut Chance<'_>,
    ) -> Checked {
        let Some(turn) = &mut self.turn else { return Ok(()) };
        turn.last = LastRead::Ended;
        let id = turn.id;
        self.lose(id, is_closed, has_tail, self.time.now, chance)
    }

    // Reading.

    fn on_ready(&mut self, id: usize, says_read_on: bool) {
        let peer = &mut self.peers[id];
        let State::Connected { read_on, .. } = &mut peer.state else { return };
        *read_on |= says_read_on;
        if peer.queue == Queue::None {
            peer.queue = Queue::Fresh;
            self.fresh.push_back(id);
        }
    }

    fn is_drained_by_short_read(&self, id: usize) -> bool {
        let reads_on = matches!(self.peers[id].state, State::Connected { read_on: true, .. });
        self.short_read_means_drained && !reads_on
    }

    /// The worker looks at the clock in order to read: the next connection has its turn.
    fn begin_turn(&mut self) -> Checked {
        if self.phase == Phase::Acting {
            self.check_owed("reads")?;
            self.phase = Phase::Reading;
            (self.fresh_left, self.backlog_left) = (self.fresh.len(), self.backlog.len());
            (self.budget, self.has_read_backlog) = (TURN_BUDGET, false);
        }
        ensure!(!self.is_full, "it reads while the sink is full");
        let Some((id, is_fresh)) = self.next_turn() else {
            return Err(Violation("it looks at the clock for nothing".into()));
        };
        self.turn = Some(Turn { id, is_fresh, left: READ_SIZE, bytes: 0, last: LastRead::None });
        Ok(())
    }

    fn has_ready(&self) -> bool {
        !self.fresh.is_empty() || !self.backlog.is_empty()
    }

    /// Whose turn it is: those that had run dry, then those with a backlog, in order.
    fn next_turn(&mut self) -> Option<(usize, bool)> {
        while self.fresh_left > 0 && self.budget > 0 {
            self.fresh_left -= 1;
            let id = self.fresh.pop_front()?;
            self.peers[id].queue = Queue::None;
            if self.is_connected(id) {
                return Some((id, true));
            }
        }
        while self.backlog_left > 0 && (self.budget > 0 || !self.has_read_backlog) {
            self.backlog_left -= 1;
            let id = self.backlog.pop_front()?;
            self.peers[id].queue = Queue::None;
            if self.is_connected(id) {
                self.has_read_backlog = true;
                return Some((id, false));
            }
        }
        None
    }

    /// The turn of a connection is over. The worker must not have stopped early.
    fn end_turn(&mut self, chance: &mut Chance<'_>) -> Checked {
        let Some(turn) = self.turn.take() else { return Ok(()) };
        let id = turn.id;
        self.budget = self.budget.saturating_sub(turn.bytes + READ_COST);
        let is_drained = match turn.last {
            LastRead::Ended => return Ok(()),
            LastRead::WouldBlock => true,
            LastRead::Short => self.is_drained_by_short_read(id),
            LastRead::None | LastRead::Whole | LastRead::Interrupted => false,
        };
        if is_drained {
            return Ok(());
        }
        if turn.left == 0 {
            chance.saw(Kind::BudgetUsedUp);
            self.peers[id].queue = Queue::Backlog;
            self.backlog.push_back(id);
            return Ok(());
        }
        let (room, held) = (self.room, self.peers[id].held);
        ensure!(
            !self.is_room_enough(id, room),
            "{id} is read no further, with room for {room} records and {held} bytes held"
        );
        chance.saw(if room < MIN_ROOM { Kind::SinkFull } else { Kind::SinkFullForTheLine });
        self.is_full = true;
        if turn.is_fresh {
            self.peers[id].queue = Queue::Fresh;
            self.fresh.push_front(id);
        } else {
            self.peers[id].queue = Queue::Backlog;
            self.backlog.push_front(id);
        }
        Ok(())
    }

    /// At the end of a turn, each connection that could be read in it was.
    fn check_all_read(&mut self) -> Checked {
        if self.phase == Phase::Acting {
            (self.fresh_left, self.backlog_left) = (self.fresh.len(), self.backlog.len());
            (self.budget, self.has_read_backlog) = (TURN_BUDGET, false);
        }
        if !self.is_full {
            let next = self.next_turn();
            ensure!(next.is_none(), "{next:?} was not read");
        }
        Ok(())
    }

    pub(super) fn has_backlog_left(&self) -> bool {
        self.phase == Phase::Reading && self.backlog_left > 0 && !self.is_full
    }

    // Time.

    /// All deadlines up to this moment pass.
    fn pass_time(&mut self, reported: Instant, chance: &mut Chance<'_>) -> Checked {
        let is_due = |oracle: &Oracle, id| oracle.timer(id).is_some_and(|timer| timer <= reported);
        let any_is_due = (0..self.peers.len()).any(|id| is_due(self, id));
        if self.was_called && !any_is_due {
            self.spare_wakes += 1;
            chance.saw(Kind::SpareWake);
            let (spare, moves) = (self.spare_wakes, self.moves);
            ensure!(spare <= moves, "{spare} wake-ups for nothing, with {moves} timers moved");
        }
        for id in 0..self.peers.len() {
            // The worker wakes a link when its timer is due.
            if is_due(self, id) {
                self.wake(id, reported, chance)?;
            }
        }
        Ok(())
    }

    /// When the worker's timer for a server is due.
    fn timer(&self, id: usize) -> Option<Instant> {
        match &self.peers[id] {
            peer if !peer.has_changed => peer.timer,
            _ => self.timer_bounds(id).map(|(low, _)| low),
        }
    }

    fn wake(&mut self, id: usize, now: Instant, chance: &mut Chance<'_>) -> Checked {
        if !self.is_connected(id) && !self.has_ended(id) {
            self.note_outage(id, now, chance);
        }
        let Peer { state, queue, .. } = &mut self.peers[id];
        match state {
            State::Waiting { until, .. } => {
                let Some(until) = *until else {
                    return Err(Violation(format!("{id} has no next attempt")));
                };
                if until <= now { self.begin(id, now, chance) } else { Ok(()) }
            }
            State::Resolving { deadline } if *deadline <= now => {
                chance.saw(Kind::ResolveTimedOut);
                self.fail(id, now, chance)
            }
            State::Connecting { deadline, .. } if *deadline <= now => {
                chance.saw(Kind::ConnectTimedOut);
                self.close_attempt(id, None);
                self.fail(id, now, chance)
            }
            State::Connecting { .. } => self.connect_next(id, false, now, chance),
            State::Connected { last_received, .. } => {
                if *queue != Queue::None {
                    *last_received = now;
                }
                let idle = self.rules.idle_timeout.expect("no other timer of a connection");
                if *last_received + idle > now {
                    return Ok(());
                }
                chance.saw(Kind::IdleLost);
                let has_tail = self.tails[id];
                self.lose(id, false, has_tail, now, chance)
            }
            _ => Ok(()),
        }
    }

    fn give_up_at(&self, id: usize) -> Option<Instant> {
        Some(self.peers[id].down.as_ref()?.since.saturating_add(self.rules.give_up_after?))
    }

    fn note_outage(&mut self, id: usize, now: Instant, chance: &mut Chance<'_>) {
        let give_up_at = self.give_up_at(id);
        let peer = &mut self.peers[id];
        if let Some(down) = &mut peer.down
            && !down.is_reported
            && down.since + ALARM <= now
        {
            down.is_reported = true;
            chance.saw(Kind::DownForLong);
        }
        if give_up_at.is_some_and(|at| at <= now) {
            chance.saw(Kind::GivenUp);
            if matches!(peer.state, State::Resolving { .. } | State::Connecting { .. }) {
                chance.saw(Kind::GivenUpInAnAttempt);
                self.counters.failures += 1;
            }
            self.close_attempt(id, None);
            self.moves += 1;
            self.failed += 1;
            self.peers[id].state = State::Ended { is_well: false };
        }
    }

    // Attempts.

    fn begin(&mut self, id: usize, now: Instant, chance: &mut Chance<'_>) -> Checked {
        self.moves += 1;
        let peer = &mut self.peers[id];
        peer.has_changed = true;
        peer.down.get_or_insert(Down { since: now, is_reported: false });
        if let State::Waiting { high, .. } = peer.state
            && high == self.rules.delay_bounds(u32::MAX).1
        {
            chance.saw(Kind::DelayAtTheCap);
        }
        if let Host::Ip(ip) = peer.server.host() {
            let address = SocketAddr::new(*ip, peer.server.port());
            return self.connect(id, vec![address], now, chance);
        }
        match std::mem::replace(&mut peer.lookup, Lookup::Pending) {
            Lookup::Answered(addresses) => {
                chance.saw(Kind::LateAnswerUsed);
                peer.lookup = Lookup::Idle;
                return self.connect(id, addresses, now, chance);
            }
            Lookup::Idle => peer.owed_lookup = true,
            Lookup::Pending => chance.saw(Kind::LookupOutlasted),
        }
        peer.state = State::Resolving { deadline: now + self.rules.connect_timeout };
        Ok(())
    }

    fn connect(
        &mut self,
        id: usize,
        addresses: Vec<SocketAddr>,
        now: Instant,
        chance: &mut Chance<'_>,
    ) -> Checked {
        let timeout = self.rules.connect_timeout;
        let gaps = (addresses.len() as u64).saturating_sub(1).max(1);
        self.peers[id].state = State::Connecting {
            rest: take_turns(&addresses),
            open: Vec::new(),
            next_at: now,
            delay: (timeout / 2 / gaps).min(Duration::from_millis(250)),
            deadline: now + timeout,
        };
        self.connect_next(id, false, now, chance)
    }

    fn connect_next(
        &mut self,
        id: usize,
        is_after_failure: bool,
        now: Instant,
        chance: &mut Chance<'_>,
    ) -> Checked {
        let peer = &mut self.peers[id];
        let State::Connecting { rest, open, next_at, delay, .. } = &mut peer.state else {
            return Ok(());
        };
        peer.has_changed = true;
        while *next_at <= now
            && let Some(address) = rest.pop_front()
        {
            if !open.is_empty() {
                chance.saw(Kind::NextAddressAfterDelay);
            } else if is_after_failure {
                chance.saw(Kind::NextAddressAfterFailure);
            }
            self.moves += 1;
            open.push((None, address));
            peer.owed_connects.push_back(address);
            *next_at = now + *delay;
        }
        if rest.is_empty() && open.is_empty() { self.fail(id, now, chance) } else { Ok(()) }
    }

    fn socket_failed(&mut self, socket: SocketId, chance: &mut Chance<'_>) -> Checked {
        let now = self.time.now;
        let Some(id) = self.connecting_by(socket) else { return Ok(()) };
        self.owed_closes.insert(socket);
        let State::Connecting { open, next_at, .. } = &mut self.peers[id].state else {
            return Ok(());
        };
        let was_newest = open.last().is_some_and(|(newest, _)| *newest == Some(socket));
        open.retain(|(mine, _)| *mine != Some(socket));
        if was_newest {
            *next_at = now;
        }
        self.connect_next(id, true, now, chance)
    }

    /// The sockets of an attempt are to be closed, but for the one that is connected.
    fn close_attempt(&mut self, id: usize, connected: Option<SocketId>) {
        let peer = &mut self.peers[id];
        let State::Connecting { open, .. } = &peer.state else { return };
        let unopened = open.iter().filter(|(socket, _)| socket.is_none());
        peer.futile.extend(unopened.map(|(_, address)| *address));
        let sockets = open.iter().filter_map(|(socket, _)| *socket);
        self.owed_closes.extend(sockets.filter(|socket| Some(*socket) != connected));
    }

    fn connected(&mut self, id: usize, socket: SocketId, is_lost: bool, chance: &mut Chance<'_>) {
        let now = self.time.now;
        if let State::Connecting { open, .. } = &self.peers[id].state
            && open.first().is_some_and(|(first, _)| *first != Some(socket))
        {
            chance.saw(Kind::LaterAddressWon);
        }
        if is_lost {
            chance.saw(Kind::LostBeforeSeen);
        }
        self.close_attempt(id, Some(socket));
        self.moves += 1;
        self.counters.connects += 1;
        let peer = &mut self.peers[id];
        peer.connection_lines = Lines::default();
        peer.held = 0;
        if !peer.has_failed {
            peer.down = None;
        }
        peer.state = State::Connected { socket, since: now, last_received: now, read_on: is_lost };
        peer.has_changed = true;
    }

    // Failures.

    fn lose(
        &mut self,
        id: usize,
        is_closed: bool,
        has_tail: bool,
        now: Instant,
        chance: &mut Chance<'_>,
    ) -> Checked {
        let State::Connected { socket, since, .. } = self.peers[id].state else { return Ok(()) };
        self.hint_if_malformed(id, 1, Kind::HintAtTheEnd, chance);
        let peer = &mut self.peers[id];
        if now.saturating_duration_since(since) >= self.rules.threshold {
            if peer.retries > 0 {
                chance.saw(Kind::BackoffStartedOver);
            }
            (peer.retries, peer.down, peer.has_failed) = (0, None, false);
        }
        if has_tail {
            self.counters.truncated += 1;
            chance.saw(Kind::Cut);
        }
        self.owed_closes.insert(socket);
        if self.rules.once && is_closed {
            let Lines { lines, malformed, oversized, .. } = peer.lines;
            let is_well = lines == 0 || lines > malformed + oversized;
            chance.saw(if is_well { Kind::OnceEndedWell } else { Kind::OnceOnlyMalformed });
            self.failed += usize::from(!is_well);
            peer.state = State::Ended { is_well };
            return Ok(());
        }
        self.fail(id, now, chance)
    }

    fn fail(&mut self, id: usize, now: Instant, chance: &mut Chance<'_>) -> Checked {
        self.moves += 1;
        self.counters.failures += 1;
        let peer = &mut self.peers[id];
        peer.has_changed = true;
        peer.down.get_or_insert(Down { since: now, is_reported: false });
        peer.has_failed = true;
        if self.rules.once {
            chance.saw(Kind::OnceEndedBadly);
            self.failed += 1;
            peer.state = State::Ended { is_well: false };
            return Ok(());
        }
        let (low, high) = self.rules.delay_bounds(peer.retries);
        peer.retries = peer.retries.saturating_add(1);
        peer.state = State::Waiting { since: now, low, high, until: None };
        self.note_outage(id, now, chance);
        Ok(())
    }

    // What must hold.

    pub(super) fn check_owed(&self, what: &str) -> Checked {
        let closes = &self.owed_closes;
        ensure!(closes.is_empty(), "it {what}, and did not close {closes:?}");
        for (id, peer) in self.peers.iter().enumerate() {
            ensure!(
                peer.owed_connects.is_empty() && !peer.owed_lookup,
                "it {what}, and {id} did not ask for what was due: {peer:?}"
            );
        }
        Ok(())
    }

    /// After a turn: the worker has asked for all that was due, and [its fleet](Self::check_fleet) is right.
    pub(super) fn check_turn<C: Codec>(
        &mut self,
        fleet: &Fleet<C>,
        chance: &mut Chance<'_>,
    ) -> Checked {
        self.end_turn(chance)?;
        self.check_owed("ends its turn")?;
        self.check_fleet(fleet)
    }

    /// Between two turns: each server has the timer that it needs, and the worker's own view is the same.
    pub(super) fn check_fleet<C: Codec>(&mut self, fleet: &Fleet<C>) -> Checked {
        let mut first = None;
        for id in 0..self.peers.len() {
            self.learn(id, fleet)?;
            self.check_server(id, fleet)?;
            let link = self.peers[id].id;
            let (timer, expected) = (fleet.deadline(link), self.timer_bounds(id));
            let is_right = match (timer, expected) {
                (Some(at), Some((low, high))) => (low..=high).contains(&at),
                (None, None) => true,
                _ => false,
            };
            ensure!(
                is_right,
                "{id} has a timer at {timer:?}, not {expected:?}: {}",
                self.state(id)
            );
            (self.peers[id].timer, self.peers[id].has_changed) = (timer, false);
            first = first.into_iter().chain(timer).min();
            let is_connected = fleet.is_connected(link);
            ensure!(is_connected == self.is_connected(id), "{id} is connected: {is_connected}");
            let held = fleet.held(link);
            // Two bytes of a byte order mark may be longer than the limit.
            let limit = self.rules.max_line.max(2);
            ensure!(held <= limit, "{id} holds {held} bytes of a line");
        }
        self.check_published(fleet)?;
        self.next_deadline = fleet.next_deadline();
        let next = self.next_deadline;
        let is_right = next.is_some() == first.is_some() && next <= first;
        ensure!(is_right, "the next deadline is {next:?}, but the first {first:?}");
        let is_finished = fleet.is_finished();
        ensure!(is_finished == self.is_finished(), "is_finished is {is_finished}");
        let has_ready = fleet.has_ready();
        ensure!(has_ready == self.has_ready(), "has_ready is {has_ready}");
        self.check_totals(fleet.totals())
    }

    /// Takes the moment of the next attempt from the worker, if it is within its bounds.
    fn learn<C: Codec>(&mut self, id: usize, fleet: &Fleet<C>) -> Checked {
        let chosen = fleet.next_attempt_at(self.peers[id].id);
        match &mut self.peers[id].state {
            State::Waiting { since, low, high, until } => {
                let Some(chosen) = chosen else {
                    return Err(Violation(format!("{id} does not wait")));
                };
                let is_right = (*since + *low..=*since + *high).contains(&chosen);
                ensure!(is_right, "{id} waits until {chosen:?}, not {since:?} + {low:?}..{high:?}");
                ensure!(until.is_none_or(|until| until == chosen), "{id} waits again");
                *until = Some(chosen);
            }
            _ => ensure!(chosen.is_none(), "{id} waits for an attempt"),
        }
        Ok(())
    }

    /// The worker knows each server by its id, and none of those that were removed.
    /// Checks what is published: the state of each server now, and counters that add up to those of the fleet.
    fn check_published<C: Codec>(&mut self, fleet: &Fleet<C>) -> Checked {
        let mut sum = Counters::default();
        for id in 0..self.peers.len() {
            if let Some(stats) = fleet.stats(self.peers[id].id) {
                self.peers[id].published = Some(Arc::clone(stats));
            }
            let Some(stats) = &self.peers[id].published else { continue };
            let expected = match &self.peers[id].state {
                State::Waiting { .. } => Published::Waiting,
                State::Resolving { .. } => Published::Resolving,
                State::Connecting { .. } => Published::Connecting,
                State::Connected { .. } => Published::Connected,
                State::Ended { is_well: false } => Published::Failed,
                State::Ended { is_well: true } => Published::Ended,
                // An earlier end keeps its result.
                State::Removed if stats.state() == Published::Failed => Published::Failed,
                State::Removed => Published::Ended,
            };
            let state = stats.state();
            ensure!(state == expected, "{id} is published as {state:?}, not {expected:?}");
            sum += stats.counters();
        }
        let (counters, _) = fleet.totals();
        ensure!(sum == counters, "{sum:?} are published, but {counters:?} were counted");
        Ok(())
    }

    fn check_server<C: Codec>(&self, id: usize, fleet: &Fleet<C>) -> Checked {
        let peer = &self.peers[id];
        let is_removed = matches!(peer.state, State::Removed);
        let expected = (!is_removed).then_some(&peer.server);
        let server = fleet.server(peer.id);
        ensure!(server == expected, "{id} is {server:?}, not {expected:?}");
        let held = fleet.held(peer.id);
        ensure!(!is_removed || held == 0, "{id} was removed, but {held} bytes of it are held");
        let sockets = || self.sockets.iter().filter(|(_, owner)| **owner == id);
        let role = |socket: &SocketId| fleet.role(*socket);
        ensure!(
            !is_removed || sockets().all(|(socket, _)| role(socket) == SocketRole::None),
            "{id} was removed, but its sockets have a role"
        );
        Ok(())
    }

    /// When a server's timer may be due; `None` if it must not have one.
    fn timer_bounds(&self, id: usize) -> Option<(Instant, Instant)> {
        let peer = &self.peers[id];
        let due = match &peer.state {
            // One that is not known yet was chosen in this turn, and is later than it.
            State::Waiting { until, .. } => until.unwrap_or(Instant::MAX),
            State::Resolving { deadline } => *deadline,
            State::Connecting { rest, next_at, deadline, .. } if !rest.is_empty() => {
                (*next_at).min(*deadline)
            }
            State::Connecting { deadline, .. } => *deadline,
            State::Connected { since, last_received, .. } => {
                // The timer is moved when it is due, not with each read.
                let idle = self.rules.idle_timeout?;
                return Some((*since + idle, *last_received + idle));
            }
            State::Ended { .. } | State::Removed => return None,
        };
        let alarm_at =
            peer.down.as_ref().filter(|down| !down.is_reported).map(|down| down.since + ALARM);
        let at = [alarm_at, self.give_up_at(id)].into_iter().flatten().chain([due]).min()?;
        Some((at, at))
    }

    pub(super) fn check_totals(&self, totals: (Counters, usize)) -> Checked {
        ensure!(totals.0 == self.counters, "{:?}, but it was {:?}", totals.0, self.counters);
        ensure!(totals.1 == self.failed, "{} failed, but it was {}", totals.1, self.failed);
        Ok(())
    }

    /// The worker has been shut down; these links held a tail.
    pub(super) fn on_shut_down(&mut self, tails: &[bool]) {
        for (id, has_tail) in tails.iter().enumerate() {
            self.counters.truncated += u64::from(self.is_connected(id) && *has_tail);
            self.peers[id].state = State::Ended { is_well: true };
        }
    }
}

/// The answer to the worker about a socket that is being connected.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shaken {
    Pending,
    Failed,
    Connected { is_lost: bool },
}

/// The addresses with the families in turns, that of the first one first.
fn take_turns(addresses: &[SocketAddr]) -> VecDeque<SocketAddr> {
    let is_first = |address: &SocketAddr| address.is_ipv6() == addresses[0].is_ipv6();
    let nth = |n: usize, first: bool| {
        addresses.iter().filter(|address| is_first(address) == first).nth(n)
    };
    (0..addresses.len()).flat_map(|n| [nth(n, true), nth(n, false)]).flatten().copied().collect()
}
