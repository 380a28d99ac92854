//! Keeps the state of one server: its connection, its unfinished line, its counters.
//!
//! A [`Link`] has no socket, no clock and no timer. It takes events ([`Event`]) with their time, and emits
//! actions ([`Action`]). [`Link::wake_at`] is the time of its next wake-up. An event that does not fit the
//! state is a no-op. So late answers, events of sockets that are to be closed and spurious wake-ups do no harm.
//!
//! ```text
//!            wake             resolved           connected
//!  Waiting ───────► Resolving ────────► Connecting ───────► Connected
//!     ▲   ╲            │      (an address     │                │
//!     │    ╲           │      needs no        │                │
//!     │     ╲          │      resolving)      │                │
//!     └──────┴─────────┴──────────────────────┴────────────────┘
//!                         failed, or lost                ──────► Ended
//! ```
//!
//! An attempt has the connect timeout of [`Policy`] for the lookup, and the same time again for connecting. So a
//! lookup that takes almost as long as the timeout leaves time to connect. An answer that comes after its
//! attempt has failed serves the next attempt, which then needs no lookup.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;

use rand::Rng;
use slab::Slab;

use crate::address::{Host, Server};
use crate::codec::framer::{Framed, Framer};
use crate::codec::{Decoder, Framing, Handler};
use crate::proto::attempt::Attempt;
use crate::proto::connection_error::ConnectionError;
use crate::proto::link_id::LinkId;
use crate::proto::log_limit::LogLimit;
use crate::proto::notice::{Hint, Notice, Notices, Retry, ServerNotice};
use crate::proto::outage::{Outage, Streak};
use crate::proto::policy::Policy;
use crate::proto::socket_id::SocketId;
use crate::proto::time::{Duration, Instant};
use crate::stats::Counters;
use crate::stats::{DisconnectReason, LastError, ServerState, ServerStats, Update};

/// An event of a link.
#[derive(Debug)]
pub enum Event {
    /// The time of [`Link::wake_at`] has come, or may have.
    Wake,
    /// The answer to [`Action::Resolve`]: the addresses, with the server's port.
    Resolved(io::Result<Vec<SocketAddr>>),
    /// The socket of an [`Action::Connect`] is connected.
    Connected {
        /// The socket.
        socket: SocketId,
        /// The error that has ended the connection since. The bytes before it can still be read.
        error: Option<ConnectionError>,
    },
    /// The socket of an [`Action::Connect`] could not be opened or connected, or the connection ended.
    Failed {
        /// The socket.
        socket: SocketId,
        /// The reason.
        error: ConnectionError,
    },
}

/// An action that a link requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look the server's name up and answer once with [`Event::Resolved`], however late.
    Resolve,
    /// Open a socket to this address and answer with [`Event::Connected`] or [`Event::Failed`].
    Connect {
        /// The number of the socket.
        socket: SocketId,
        /// The address to connect to.
        address: SocketAddr,
    },
    /// Close the socket, if it is open.
    Close(SocketId),
}

fn not_resolved_in_time() -> ConnectionError {
    let late = io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    ConnectionError::NotResolved(late)
}

/// Takes the records of a worker.
pub trait Sink<T> {
    /// Returns how many more records may be pushed now. It need not look further than `want`.
    fn room(&mut self, want: usize) -> usize;
    /// Sets the server, by the number that it was added with, whose records are pushed next. They were read now.
    fn begin(&mut self, server: usize);
    /// Takes records, never more than there is room for.
    fn push(&mut self, records: &[T]);
    /// Passes on all pushed records.
    fn publish(&mut self);
    /// Requests a wake-up for when there is room again. Returns false, and requests nothing, if there is room
    /// already.
    fn wait_for_room(&mut self) -> bool;
}

/// The end of a turn of reading.
#[derive(Debug)]
pub enum Progress {
    /// The source is drained. An event reports later bytes.
    Drained,
    /// The bytes read fill the buffer, and there may be more.
    More,
    /// The sink has no room. Nothing was read that it could not take.
    SinkFull,
    /// The connection has ended.
    Failed(ConnectionError),
}

/// The least room in records with which a link reads. Less room, in a nearly full sink, would make for reads of a
/// few bytes.
pub const MIN_ROOM: usize = 1024;

/// The bytes in a row without a delimiter that are worth a hint: 64 KiB, many times a usual line.
///
/// A longer limit of a line takes its place, because lines up to the limit are expected.
pub const HINT_BYTES: usize = 64 * 1024;

/// The lines of a connection, all of them malformed, that are worth a hint before it ends. The first lines may be a
/// greeting.
pub const HINT_LINES: u32 = 100;

/// The time and the resources of one call.
#[derive(Debug)]
pub struct Context<'a, R> {
    /// The present moment.
    pub now: Instant,
    /// The settings of links.
    pub policy: &'a Policy,
    /// The source of jitter.
    pub rng: &'a mut R,
    /// The receiver of notices.
    pub notices: &'a mut dyn Notices,
    /// The queue of actions, each with the id of its link.
    pub actions: &'a mut VecDeque<(LinkId, Action)>,
    /// The sockets in use, each with the id of its link. The number of a socket is free again once its close is
    /// carried out.
    pub sockets: &'a mut Slab<LinkId>,
}

/// The time and the resources of one turn of reading.
#[derive(Debug)]
pub struct ReadContext<'a, D> {
    /// The present moment.
    pub now: Instant,
    /// The settings of links.
    pub policy: &'a Policy,
    /// The decoder of the lines.
    pub decoder: &'a D,
    /// The receiver of notices.
    pub notices: &'a mut dyn Notices,
    /// The buffer to read to. A link copies the bytes that it keeps. Its length is the most bytes to read.
    pub scratch: &'a mut [u8],
    /// Whether a short read means that nothing is left, unless the poll has reported otherwise.
    pub short_read_means_drained: bool,
}

#[derive(Debug)]
enum State {
    /// Between two attempts.
    Waiting { until: Instant },
    /// Its name is being looked up.
    Resolving { deadline: Instant },
    /// Sockets are being connected.
    Connecting(Box<Attempt>),
    /// Connected.
    Connected(Connection),
    /// Over for good.
    Ended { success: bool },
}

#[derive(Debug)]
struct Connection {
    socket: SocketId,
    /// The time of the connect.
    since: Instant,
    /// The time of the last received bytes, or of the connect.
    heard: Instant,
    /// Whether to read on after a short read, until a read would block. The poll has reported that the other side
    /// has shut down or reset, or that a read may stop early.
    read_on: bool,
    /// Whether a line was not malformed.
    has_other_line: bool,
    /// The number of malformed lines.
    malformed: u32,
    /// The error that takes the place of the end of the stream. The system reports an error once, and has done so
    /// to the check of the handshake.
    error: Option<Box<ConnectionError>>,
}

/// The lookup of a server's name, which may outlast its attempt.
#[derive(Debug)]
enum Lookup {
    /// There is no lookup.
    Idle,
    /// The answer has not come. There is no second lookup meanwhile.
    Pending,
    /// The answer came between two attempts, and serves the next one.
    Answered(Vec<SocketAddr>),
}

/// The state of one server.
#[derive(Debug)]
pub struct Link {
    id: LinkId,
    /// The server, and what is published of it.
    stats: Arc<ServerStats>,
    state: State,
    lookup: Lookup,
    framer: Framer,
    streak: Streak,
    /// The present outage. `None` before the first attempt, and while the server sends.
    outage: Option<Outage>,
    /// The last failure, and whether it ended a connection. It is kept while the next attempt is due.
    last_error: Option<Box<(ConnectionError, bool)>>,
    /// The limit of the log lines about its malformed, oversized and truncated lines, once it has sent one.
    malformed_log: Option<Box<LogLimit>>,
    hinted: Hinted,
}

/// The hints that a server has had.
#[derive(Clone, Copy, Debug, Default)]
struct Hinted {
    no_delimiter: bool,
    only_malformed: bool,
}

impl Link {
    /// Makes a link to the server of `stats` that is due for a wake-up immediately. `id` goes with its actions.
    pub fn new(id: LinkId, stats: Arc<ServerStats>, now: Instant) -> Link {
        Link {
            id,
            stats,
            state: State::Waiting { until: now },
            lookup: Lookup::Idle,
            framer: Framer::default(),
            streak: Streak::default(),
            outage: None,
            last_error: None,
            malformed_log: None,
            hinted: Hinted::default(),
        }
    }

    /// Returns the server.
    pub fn server(&self) -> &Server {
        self.stats.server()
    }

    /// Returns the cells to which the state is published.
    pub fn stats(&self) -> &Arc<ServerStats> {
        &self.stats
    }

    /// Publishes the state. The counters are published as they are counted. `lost` is the time that the worker does not
    /// count.
    pub fn publish(&self, now: Instant, lost: Duration) {
        let published = |moment: Instant| moment.saturating_add(lost).as_millis();
        self.stats.update(&Update {
            now: published(now),
            state: self.published_state(),
            failures: self.streak.failures(),
            next_attempt: self.next_attempt_at().map(published),
        });
    }

    /// Publishes that bytes were received at this time. `lost` is as for [`publish`](Self::publish).
    pub(crate) fn publish_received(&self, now: Instant, lost: Duration) {
        self.stats.received_at(now.saturating_add(lost).as_millis());
    }

    fn published_state(&self) -> ServerState {
        match self.state {
            State::Waiting { .. } => ServerState::Waiting,
            State::Resolving { .. } => ServerState::Resolving,
            State::Connecting(_) => ServerState::Connecting,
            State::Connected(_) => ServerState::Connected,
            State::Ended { success: false } => ServerState::Failed,
            State::Ended { success: true } => ServerState::Ended,
        }
    }

    /// Returns the counters.
    pub fn counters(&self) -> Counters {
        self.stats.counters()
    }

    /// Returns whether there is a connection.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected(_))
    }

    /// Returns whether this socket is being connected for this link.
    pub fn is_connecting(&self, socket: SocketId) -> bool {
        matches!(&self.state, State::Connecting(attempt) if attempt.has(socket))
    }

    /// Returns the socket of the connection, if there is one.
    pub fn connection(&self) -> Option<SocketId> {
        match &self.state {
            State::Connected(connection) => Some(connection.socket),
            _ => None,
        }
    }

    /// Returns whether the link ended well; `None` while it has not ended.
    pub fn ended(&self) -> Option<bool> {
        match self.state {
            State::Ended { success } => Some(success),
            _ => None,
        }
    }

    /// Returns the number of bytes held of an unfinished line.
    pub fn held(&self) -> usize {
        self.framer.held()
    }

    /// Returns when the next attempt begins; `None` if the link is not waiting for one.
    pub fn next_attempt_at(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } => Some(until),
            _ => None,
        }
    }

    /// Makes the next attempt due now, if the link waits for one. Returns whether it does.
    pub fn retry_now(&mut self, now: Instant) -> bool {
        let State::Waiting { until } = &mut self.state else { return false };
        *until = now.min(*until);
        true
    }

    /// Returns when [`Event::Wake`] is due; `None` if none is.
    pub fn wake_at(&self, policy: &Policy) -> Option<Instant> {
        let due = match &self.state {
            State::Waiting { until } => *until,
            State::Resolving { deadline } => *deadline,
            State::Connecting(attempt) => attempt.wake_at(),
            State::Connected(Connection { heard, .. }) => {
                return policy.idle_timeout.map(|idle| heard.saturating_add(idle));
            }
            State::Ended { .. } => return None,
        };
        let alarm_at = self.outage.as_ref().and_then(Outage::alarm_at);
        let give_up_at = self.give_up_at(policy);
        [alarm_at, give_up_at].into_iter().flatten().chain([due]).min()
    }

    /// Takes an event. An event that does not fit the state changes nothing.
    pub fn handle<R: Rng>(&mut self, event: Event, cx: &mut Context<'_, R>) {
        match event {
            Event::Wake => self.wake(cx),
            Event::Resolved(result) => self.resolved(result, cx),
            Event::Connected { socket, error } => self.connected(socket, error, cx),
            Event::Failed { socket, error } => self.socket_failed(socket, error, cx),
        }
    }

    /// Notes that a short read of this connection does not mean that it is drained. The other side has shut down or
    /// reset it, or a read may stop early, as at TCP's urgent mark.
    pub fn read_on(&mut self) {
        if let State::Connected(connection) = &mut self.state {
            connection.read_on = true;
        }
    }

    /// Notes that the connection has unread bytes, so it is not idle.
    pub fn not_idle(&mut self, now: Instant) {
        if let State::Connected(connection) = &mut self.state {
            connection.heard = now;
        }
    }

    /// Reads for one turn: until the source is drained, the bytes read fill the buffer, or the sink is full.
    ///
    /// `io` must be nonblocking.
    pub fn read<D: Decoder>(
        &mut self,
        io: &mut impl Read,
        sink: &mut impl Sink<D::Record>,
        cx: &mut ReadContext<'_, D>,
    ) -> Progress {
        let mut left = cx.scratch.len();
        while left > 0 {
            let State::Connected(connection) = &mut self.state else {
                return Progress::Drained;
            };
            let held = self.framer.held();
            let room = sink.room(D::max_records(held, left).max(MIN_ROOM));
            let len = left.min(D::max_bytes(held, room));
            if room < MIN_ROOM || len == 0 {
                return Progress::SinkFull;
            }
            match io.read(&mut cx.scratch[..len]) {
                Ok(0) => {
                    if let Some(error) = connection.error.take() {
                        return Progress::Failed(*error);
                    }
                    if cx.policy.keep_truncated {
                        self.take_tail(sink, cx);
                    }
                    return Progress::Failed(ConnectionError::Closed);
                }
                Ok(n) => {
                    connection.heard = cx.now;
                    self.outage = None;
                    let is_drained = cx.short_read_means_drained && n < len && !connection.read_on;
                    self.take(n, sink, cx);
                    if is_drained {
                        return Progress::Drained;
                    }
                    left -= n;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    connection.read_on = false;
                    return Progress::Drained;
                }
                // An interruption by a signal counts as one byte. So a stream of signals cannot hold the loop
                // here.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => left -= 1,
                Err(error) => return Progress::Failed(ConnectionError::Io(error)),
            }
        }
        Progress::More
    }

    /// Ends the link for good, at the end of the job.
    pub fn shut_down(&mut self, notices: &mut dyn Notices) {
        let tail = self.framer.finish();
        if !tail.is_empty() {
            self.stats.truncated();
            self.tell(ServerNotice::Unfinished { line: &tail }, notices);
        }
        if self.ended().is_none() {
            self.state = State::Ended { success: true };
        }
    }

    /// Ends the link for good when its server is removed, and closes its sockets. An earlier end keeps its result.
    pub fn remove<R>(&mut self, cx: &mut Context<'_, R>) {
        if let Some(socket) = self.connection() {
            self.stats.failed(LastError::Disconnect(DisconnectReason::Removed, None));
            self.act(Action::Close(socket), cx);
        }
        self.close_attempt(None, cx);
        self.shut_down(cx.notices);
    }

    fn wake<R: Rng>(&mut self, cx: &mut Context<'_, R>) {
        if !self.is_connected() {
            self.note_outage(cx);
        }
        let now = cx.now;
        match &mut self.state {
            State::Waiting { until } if *until <= now => self.begin_attempt(cx),
            State::Resolving { deadline } if *deadline <= now => {
                self.fail(not_resolved_in_time(), cx);
            }
            State::Connecting(attempt) if attempt.is_overdue(now) => self.fail_attempt(cx),
            State::Connecting(_) => self.connect_next(cx),
            State::Connected(Connection { heard, .. }) => {
                let heard = *heard;
                if cx.policy.idle_timeout.is_some_and(|idle| heard.saturating_add(idle) <= now) {
                    self.lose(ConnectionError::Idle, cx);
                }
            }
            _ => {}
        }
    }

    fn resolved<R: Rng>(&mut self, result: io::Result<Vec<SocketAddr>>, cx: &mut Context<'_, R>) {
        if !matches!(self.lookup, Lookup::Pending) {
            return;
        }
        self.lookup = Lookup::Idle;
        match (&self.state, result) {
            (State::Resolving { .. }, Ok(addresses)) => self.connect(addresses, cx),
            (State::Resolving { .. }, Err(error)) => {
                self.fail(ConnectionError::NotResolved(error), cx);
            }
            // Without an address, the next attempt looks the name up again.
            (State::Waiting { .. }, Ok(addresses)) if !addresses.is_empty() => {
                self.tell(ServerNotice::LateAnswer, cx.notices);
                self.lookup = Lookup::Answered(addresses);
            }
            _ => {}
        }
    }

    fn connected<R: Rng>(
        &mut self,
        socket: SocketId,
        error: Option<ConnectionError>,
        cx: &mut Context<'_, R>,
    ) {
        if !self.is_connecting(socket) {
            return;
        }
        let attempt = self.close_attempt(Some(socket), cx);
        let took = attempt.map_or(Duration::ZERO, |attempt| attempt.span(cx.now));
        self.stats.connected();
        self.note_connection(took, cx);
        self.state = State::Connected(Connection {
            socket,
            since: cx.now,
            heard: cx.now,
            read_on: error.is_some(),
            has_other_line: false,
            malformed: 0,
            error: error.map(Box::new),
        });
    }

    fn note_connection<R>(&mut self, took: Duration, cx: &mut Context<'_, R>) {
        let is_repeat = self.streak.note_connection();
        let failures = self.streak.failures();
        if failures == 0 {
            // It was not down.
            self.outage = None;
        }
        let span = if failures == 0 { Duration::ZERO } else { self.streak.span(cx.now) };
        self.tell(ServerNotice::Connected { failures, span, is_repeat, took }, cx.notices);
    }

    fn socket_failed<R: Rng>(
        &mut self,
        socket: SocketId,
        error: ConnectionError,
        cx: &mut Context<'_, R>,
    ) {
        let now = cx.now;
        match &mut self.state {
            State::Connecting(attempt) if attempt.has(socket) => {
                attempt.failed(socket, error, now);
                self.act(Action::Close(socket), cx);
                self.connect_next(cx);
            }
            State::Connected(connection) if connection.socket == socket => self.lose(error, cx),
            _ => {}
        }
    }

    /// Takes the first `len` bytes of the scratch, which were read.
    fn take<D: Decoder>(
        &mut self,
        len: usize,
        sink: &mut impl Sink<D::Record>,
        cx: &mut ReadContext<'_, D>,
    ) {
        self.stats.received(len);
        let scratch = std::mem::take(&mut cx.scratch);
        self.decode(&scratch[..len], sink, cx);
        cx.scratch = scratch;
        self.hint(cx.policy.framing, cx.notices);
    }

    /// Ends the unfinished line, if there is one, as if its delimiter had been read. The sink needs the room for
    /// that byte.
    fn take_tail<D: Decoder>(
        &mut self,
        sink: &mut impl Sink<D::Record>,
        cx: &mut ReadContext<'_, D>,
    ) {
        if self.framer.held() > 0 {
            self.decode(&[cx.policy.framing.delimiter()], sink, cx);
        }
    }

    /// Decodes the lines that the next bytes of the connection complete.
    fn decode<D: Decoder>(
        &mut self,
        bytes: &[u8],
        sink: &mut impl Sink<D::Record>,
        cx: &mut ReadContext<'_, D>,
    ) {
        let before = self.stats.lines_and_malformed();
        let (decoder, framing) = (cx.decoder, cx.policy.framing);
        let mut framer = std::mem::take(&mut self.framer);
        sink.begin(self.stats.number());
        let mut reader =
            Reader { link: self, decoder, sink, framing, now: cx.now, notices: cx.notices };
        framer.feed(bytes, framing, |framed| match framed {
            Framed::Lines(region) => {
                let lines = decoder.decode(region, &mut reader);
                reader.link.stats.lines(lines);
            }
            Framed::Oversized => {
                reader.link.stats.lines(1);
                reader.skipped();
            }
        });
        self.framer = framer;
        self.note_lines(before);
    }

    /// Notes what the lines of the connection are that were counted since all lines and the malformed ones were
    /// `before`.
    fn note_lines(&mut self, before: (u64, u64)) {
        let State::Connected(connection) = &mut self.state else { return };
        let (lines, malformed) = self.stats.lines_and_malformed();
        let (lines, malformed) = (lines - before.0, malformed - before.1);
        connection.has_other_line |= malformed < lines;
        let malformed = u32::try_from(malformed).unwrap_or(u32::MAX);
        connection.malformed = connection.malformed.saturating_add(malformed);
    }

    /// Gives the hints that are due during a connection.
    fn hint(&mut self, framing: Framing, notices: &mut dyn Notices) {
        let bytes = self.framer.undelimited();
        if bytes >= HINT_BYTES.max(framing.max_line()) && !self.hinted.no_delimiter {
            self.hinted.no_delimiter = true;
            let hint = Hint::NoDelimiter { bytes, delimiter: framing.delimiter() };
            self.tell(ServerNotice::Hint { hint }, notices);
        }
        self.hint_if_malformed(HINT_LINES, notices);
    }

    /// Gives the hint of a connection that has at least so many lines, all of them malformed.
    fn hint_if_malformed(&mut self, least: u32, notices: &mut dyn Notices) {
        let State::Connected(connection) = &self.state else { return };
        let lines = connection.malformed;
        if !connection.has_other_line && lines >= least && !self.hinted.only_malformed {
            self.hinted.only_malformed = true;
            self.tell(ServerNotice::Hint { hint: Hint::OnlyMalformed { lines } }, notices);
        }
    }

    fn give_up_at(&self, policy: &Policy) -> Option<Instant> {
        Some(self.outage.as_ref()?.end_of(policy.give_up_after?))
    }

    /// Notes once that an outage has become long, and gives the server up after the limit.
    fn note_outage<R>(&mut self, cx: &mut Context<'_, R>) {
        if self.ended().is_some() {
            return;
        }
        let Some(outage) = &mut self.outage else { return };
        if outage.take_alarm(cx.now) {
            let span = outage.span(cx.now);
            self.tell(ServerNotice::Down { span }, cx.notices);
        }
        if self.give_up_at(cx.policy).is_some_and(|at| at <= cx.now) {
            self.give_up(cx);
        }
    }

    fn give_up<R>(&mut self, cx: &mut Context<'_, R>) {
        let Some(outage) = &self.outage else { return };
        if matches!(self.state, State::Resolving { .. } | State::Connecting(_)) {
            // The attempt under way has failed, too: its time is over.
            self.streak.count_failure(false, cx.now);
            self.stats.failed(ConnectionError::TimedOut.summary(false));
        }
        let (failures, span) = (self.streak.failures(), outage.span(cx.now));
        let last = self.last_error.take();
        let (error, was_connected) = match last.as_deref() {
            Some((error, was_connected)) => (Some(error), *was_connected),
            None => (None, false),
        };
        self.tell(ServerNotice::GaveUp { failures, span, error, was_connected }, cx.notices);
        self.close_attempt(None, cx);
        self.state = State::Ended { success: false };
    }

    fn begin_attempt<R: Rng>(&mut self, cx: &mut Context<'_, R>) {
        self.outage.get_or_insert_with(|| Outage::new(cx.now));
        let is_repeat = self.streak.is_repeat();
        self.stats.attempt();
        self.tell(ServerNotice::Trying { is_repeat }, cx.notices);
        if let Host::Ip(ip) = self.server().host() {
            let address = SocketAddr::new(*ip, self.server().port());
            return self.connect(vec![address], cx);
        }
        match std::mem::replace(&mut self.lookup, Lookup::Pending) {
            Lookup::Answered(addresses) => {
                self.lookup = Lookup::Idle;
                return self.connect(addresses, cx);
            }
            Lookup::Idle => self.act(Action::Resolve, cx),
            Lookup::Pending => self.tell(ServerNotice::LookupPending, cx.notices),
        }
        let deadline = cx.now.saturating_add(cx.policy.connect_timeout);
        self.state = State::Resolving { deadline };
    }

    /// Begins to connect to these addresses.
    fn connect<R: Rng>(&mut self, addresses: Vec<SocketAddr>, cx: &mut Context<'_, R>) {
        let deadline = cx.now.saturating_add(cx.policy.connect_timeout);
        let attempt = Attempt::new(addresses, cx.now, deadline);
        self.state = State::Connecting(Box::new(attempt));
        self.connect_next(cx);
    }

    /// Tries the addresses that are due. The attempt fails when every address has failed.
    fn connect_next<R: Rng>(&mut self, cx: &mut Context<'_, R>) {
        let State::Connecting(attempt) = &mut self.state else { return };
        while let Some(address) = attempt.next_address(cx.now) {
            let what = ServerNotice::Dialing { address };
            cx.notices.notice(Notice::Server { server: self.stats.server(), what });
            let socket = SocketId(cx.sockets.insert(self.id));
            cx.actions.push_back((self.id, Action::Connect { socket, address }));
            if let Some(oldest) = attempt.opened(socket, address) {
                cx.actions.push_back((self.id, Action::Close(oldest)));
            }
        }
        if attempt.has_failed() {
            self.fail_attempt(cx);
        }
    }

    fn fail_attempt<R: Rng>(&mut self, cx: &mut Context<'_, R>) {
        let Some(attempt) = self.close_attempt(None, cx) else { return };
        self.fail(attempt.into_error(), cx);
    }

    /// Closes the sockets of the attempt, except for the connected one, and returns the attempt. The caller sets
    /// the next state.
    fn close_attempt<R>(
        &mut self,
        connected: Option<SocketId>,
        cx: &mut Context<'_, R>,
    ) -> Option<Box<Attempt>> {
        if !matches!(self.state, State::Connecting(_)) {
            return None;
        }
        let waiting = State::Waiting { until: cx.now };
        let State::Connecting(attempt) = std::mem::replace(&mut self.state, waiting) else {
            return None;
        };
        for socket in attempt.sockets().filter(|socket| Some(*socket) != connected) {
            self.act(Action::Close(socket), cx);
        }
        Some(attempt)
    }

    /// Ends the connection.
    fn lose<R: Rng>(&mut self, error: ConnectionError, cx: &mut Context<'_, R>) {
        let State::Connected(Connection { socket, since, .. }) = self.state else { return };
        if cx.now.saturating_duration_since(since) >= cx.policy.reset_backoff_threshold {
            (self.streak, self.outage) = (Streak::default(), None);
        }
        self.hint_if_malformed(1, cx.notices);
        self.drop_tail(cx);
        self.act(Action::Close(socket), cx);
        self.fail(error, cx);
    }

    /// Drops the line that the end of the connection truncated.
    fn drop_tail<R>(&mut self, cx: &mut Context<'_, R>) {
        let tail = self.framer.finish();
        if tail.is_empty() {
            return;
        }
        self.stats.truncated();
        if let Some(skipped) = self.admit_malformed(cx.now) {
            self.tell(ServerNotice::Truncated { line: &tail, skipped }, cx.notices);
        }
    }

    /// Returns the number of rejected lines that were not logged, if one may be logged now.
    fn admit_malformed(&mut self, now: Instant) -> Option<u64> {
        self.malformed_log.get_or_insert_default().admit(now)
    }

    /// Takes a failed attempt or connection: schedules the next attempt, if there is one.
    fn fail<R: Rng>(&mut self, error: ConnectionError, cx: &mut Context<'_, R>) {
        let was_connected = self.is_connected();
        if cx.policy.once && was_connected && matches!(error, ConnectionError::Closed) {
            return self.end_once(cx);
        }
        self.stats.failed(error.summary(was_connected));
        self.outage.get_or_insert_with(|| Outage::new(cx.now));
        let retry = self.streak.failures();
        self.streak.count_failure(was_connected, cx.now);
        let failed = |retry, is_repeat| ServerNotice::Failed {
            error: &error,
            was_connected,
            retry,
            is_repeat,
        };
        if cx.policy.once {
            self.tell(failed(None, false), cx.notices);
            self.state = State::Ended { success: false };
            return;
        }
        let delay = Duration::from(cx.policy.backoff.delay(retry, cx.rng));
        let attempt = self.streak.failures();
        let retry = Retry { attempt, delay };
        self.tell(failed(Some(retry), self.streak.is_repeat()), cx.notices);
        self.state = State::Waiting { until: cx.now.saturating_add(delay) };
        self.last_error = Some(Box::new((error, was_connected)));
        self.note_outage(cx);
    }

    /// Ends the link after its only connection ended in good order. That is a failure only if all its lines were
    /// malformed or oversized.
    fn end_once<R>(&mut self, cx: &mut Context<'_, R>) {
        let Counters { lines, malformed, oversized, .. } = self.counters();
        let success = lines == 0 || malformed + oversized < lines;
        self.tell(ServerNotice::ReadToEnd { lines, success }, cx.notices);
        self.state = State::Ended { success };
    }

    fn tell(&self, what: ServerNotice<'_>, notices: &mut dyn Notices) {
        notices.notice(Notice::Server { server: self.stats.server(), what });
    }

    fn act<R>(&self, action: Action, cx: &mut Context<'_, R>) {
        cx.actions.push_back((self.id, action));
    }
}

/// A link while a part of its stream is decoded.
struct Reader<'a, D, S> {
    link: &'a mut Link,
    decoder: &'a D,
    sink: &'a mut S,
    framing: Framing,
    now: Instant,
    notices: &'a mut dyn Notices,
}

impl<D: Decoder, S: Sink<D::Record>> Handler<D> for Reader<'_, D, S> {
    fn records(&mut self, records: &[D::Record]) {
        self.link.stats.matched(self.decoder.count(records));
        self.sink.push(records);
    }

    fn malformed(&mut self, line: &[u8], error: D::Error) {
        self.link.stats.malformed();
        if let Some(skipped) = self.link.admit_malformed(self.now) {
            let error = &error;
            self.link.tell(ServerNotice::Malformed { line, error, skipped }, self.notices);
        }
    }

    fn oversized(&mut self) {
        self.skipped();
    }
}

impl<D, S> Reader<'_, D, S> {
    /// Notes that an oversized line was skipped.
    fn skipped(&mut self) {
        self.link.stats.oversized();
        if let Some(skipped) = self.link.admit_malformed(self.now) {
            let max_line = self.framing.max_line();
            self.link.tell(ServerNotice::Oversized { max_line, skipped }, self.notices);
        }
    }
}

#[cfg(test)]
mod tests;
