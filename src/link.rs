//! One server: its state, its unfinished line, its counters.
//!
//! A [`Link`] knows no socket, no clock and no timer. It is told what happened ([`Event`]) and when,
//! and answers with what is to be done ([`Action`]); [`Link::wake_at`] says when it wants to be woken.
//! An event that does not fit the state is a no-op: late answers and spurious wake-ups do no harm.
//!
//! ```text
//!            wake             resolved           connected
//!  Waiting ───────► Resolving ────────► Connecting ───────► Connected
//!     ▲   ╲            │      (an address   │ ▲ │ next          │
//!     │    ╲           │      needs no      │ └─┘ address       │
//!     │     ╲          │      resolving)    │                   │
//!     └──────┴─────────┴────────────────────┴───────────────────┘
//!                         failed, or lost                ──────► Ended
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::Duration;
use std::vec;

use log::{Level, debug, error, info, log, warn};
use rand::Rng;

use crate::backoff::Backoff;
use crate::config::Config;
use crate::line::{Framed, Framer};
use crate::number::{Divisor, Judge, NumberError, Verdicts};
use crate::server::{Host, Server};

/// A moment, or a span, in milliseconds since the owner's epoch. The owner of the clock rounds
/// moments down and spans up, so that nothing happens before its time.
pub type Millis = u64;

/// A server that has been down for this long is worth one line at level ERROR.
pub const DOWN_ALARM: Millis = 3 * 60 * 1000;

/// The first so many failures of an outage are logged each; after that, those at powers of two.
const FAILURES_LOGGED_EACH: u32 = 8;

/// At most one line per server and this long is logged about malformed input.
const MALFORMED_LOG_GAP: Millis = 10_000;

/// At most so many bytes of a malformed line are shown.
const MALFORMED_SHOWN: usize = 64;

/// Why an attempt failed or a connection ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// Nobody listens there: the connection was refused.
    Refused,
    /// No answer within the connect timeout.
    TimedOut,
    /// The name was not resolved.
    NotResolved(io::Error),
    /// A local port, picked for dialling a server of this machine that is down, happened to be the
    /// server's own, and TCP's simultaneous open connected the socket to itself (RFC 9293, 3.5).
    ConnectedToItself,
    /// The server closed the connection.
    Closed,
    /// Nothing came within the idle timeout.
    Idle,
    /// Anything else the system said: unreachable, reset, out of file descriptors.
    Io(io::Error),
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Cause {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Cause::Refused,
            _ => Cause::Io(error),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Refused => write!(f, "connection refused"),
            Cause::TimedOut => write!(f, "no answer within the connect timeout"),
            Cause::NotResolved(error) => write!(f, "name not resolved: {error}"),
            Cause::ConnectedToItself => write!(f, "the socket connected to itself"),
            Cause::Closed => write!(f, "closed by the server"),
            Cause::Idle => write!(f, "nothing received within the idle timeout"),
            Cause::Io(error) => write!(f, "{error}"),
        }
    }
}

/// What happened to a link.
#[derive(Debug)]
pub enum Event {
    /// The time of [`Link::wake_at`] has come, or may have.
    Wake,
    /// The answer to [`Action::Resolve`] with the same attempt.
    Resolved {
        /// The attempt that asked: an answer that comes after its attempt has failed is ignored.
        attempt: u32,
        /// The addresses, with the server's port.
        result: io::Result<Vec<SocketAddr>>,
    },
    /// The socket of [`Action::Connect`] is connected.
    Connected,
    /// The socket of [`Action::Connect`] could not be opened or connected, or the connection ended.
    Failed(Cause),
}

/// What is to be done for a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look the server's name up and answer with [`Event::Resolved`].
    Resolve {
        /// To be given back with the answer.
        attempt: u32,
    },
    /// Open a socket to this address and answer with [`Event::Connected`] or [`Event::Failed`].
    Connect(SocketAddr),
    /// Close the socket, if there is one.
    Close,
}

/// How links behave: the part of the configuration that they need, in their units.
#[derive(Clone, Debug)]
pub struct Policy {
    backoff: Backoff,
    reset_backoff_threshold: Millis,
    give_up_after: Option<Millis>,
    connect_timeout: Millis,
    idle_timeout: Option<Millis>,
    max_line: usize,
    once: bool,
    judge: Judge,
}

impl From<&Config> for Policy {
    fn from(config: &Config) -> Policy {
        Policy {
            backoff: *config.backoff(),
            reset_backoff_threshold: millis(config.reset_backoff_threshold()),
            give_up_after: config.give_up_after().map(millis),
            connect_timeout: millis(config.connect_timeout()),
            idle_timeout: config.idle_timeout().map(millis),
            max_line: config.max_line().get(),
            once: config.once(),
            judge: Judge::new(Divisor::new(config.divisor()), config.max_line().get()),
        }
    }
}

/// A span in whole milliseconds, rounded up.
fn millis(span: Duration) -> Millis {
    u64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Where the numbers of a link go.
pub trait Sink {
    /// How many more numbers may be pushed now. It need not look further than `want`.
    fn room(&mut self, want: usize) -> usize;
    /// Takes numbers that the divisor divides; never more than there is room for.
    fn push(&mut self, numbers: &[i64]);
}

/// What one server has done so far. Each whole line is counted once in `lines`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Connections made.
    pub connects: u64,
    /// Attempts that failed and connections that ended, other than as `once` wants it.
    pub failures: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Whole lines received: numbers, heartbeats, malformed and too long ones.
    pub lines: u64,
    /// Numbers that the divisor divides.
    pub matched: u64,
    /// Lines that were neither a number nor empty.
    pub malformed: u64,
    /// Lines that were longer than the limit.
    pub too_long: u64,
    /// Lines that the end of their connection cut before their newline.
    pub cut: u64,
}

impl std::ops::AddAssign for Counters {
    fn add_assign(&mut self, other: Counters) {
        self.connects += other.connects;
        self.failures += other.failures;
        self.bytes += other.bytes;
        self.lines += other.lines;
        self.matched += other.matched;
        self.malformed += other.malformed;
        self.too_long += other.too_long;
        self.cut += other.cut;
    }
}

/// How a turn of reading ended.
#[derive(Debug)]
pub enum Progress {
    /// All there was has been read: the next readiness will tell of more.
    Drained,
    /// The budget is used up and there may be more.
    More,
    /// The sink has no room; nothing was read that it could not take.
    SinkFull,
    /// The connection has ended.
    Failed(Cause),
}

/// A link reads only while the sink has room for so many numbers, so that a nearly full sink does
/// not make for reads of a few bytes.
pub const MIN_ROOM: usize = 1024;

/// How many numbers so many bytes may hold at most: the shortest line is a digit and a newline, and
/// the first newline may end a line that an earlier read began.
const fn numbers_in(bytes: usize) -> usize {
    bytes.div_ceil(2)
}

/// How many bytes may be read while the sink has room for so many numbers.
const fn readable(numbers: usize) -> usize {
    numbers.saturating_mul(2)
}

/// The time and the means of one call.
#[derive(Debug)]
pub struct Context<'a, R> {
    /// The present moment.
    pub now: Millis,
    /// How the link behaves.
    pub policy: &'a Policy,
    /// The source of jitter.
    pub rng: &'a mut R,
    /// Where actions go, with the link's id.
    pub actions: &'a mut VecDeque<(usize, Action)>,
}

#[derive(Debug)]
enum State {
    /// Between two attempts.
    Waiting { until: Millis },
    /// Its name is being looked up.
    Resolving { deadline: Millis },
    /// A socket is being connected.
    Connecting {
        /// The addresses still to be tried in this attempt.
        rest: vec::IntoIter<SocketAddr>,
        /// When the present address has had its share of the attempt's time.
        deadline: Millis,
        /// When the attempt has to be over.
        attempt_deadline: Millis,
    },
    /// Connected.
    Connected {
        /// Since when.
        since: Millis,
        /// When bytes were last received, or the connection made.
        heard: Millis,
        /// The other side has shut down or reset: read on to the end, however short a read is.
        closing: bool,
    },
    /// Over for good.
    Ended { success: bool },
}

/// One server and all that is known of it.
#[derive(Debug)]
pub struct Link {
    id: usize,
    server: Server,
    state: State,
    framer: Framer,
    counters: Counters,
    /// The number of the current or last attempt, to tell late answers from new ones.
    attempt: u32,
    /// The back-off's exponent: failures since the last connection that stood for the threshold.
    retries: u32,
    /// Failures in the present outage. A connection ends it by a byte, or by standing for the reset
    /// threshold: whoever accepts and closes at once is as good as down.
    failures: u32,
    /// Whether an attempt has failed since the last connection.
    attempt_failed: bool,
    /// When the present outage began; without a meaning before the first attempt, and on a connection
    /// that has ended one.
    down_since: Millis,
    was_tried: bool,
    /// Whether the ERROR about the present outage has been logged.
    alarmed: bool,
    /// Until when nothing is logged about malformed lines, and how many were not logged.
    malformed_quiet_until: Millis,
    malformed_unlogged: u64,
}

impl Link {
    /// A link to `server` that wants to be woken at once. `id` goes with its actions.
    pub fn new(id: usize, server: Server, now: Millis) -> Link {
        Link {
            id,
            server,
            state: State::Waiting { until: now },
            framer: Framer::default(),
            counters: Counters::default(),
            attempt: 0,
            retries: 0,
            failures: 0,
            attempt_failed: false,
            down_since: now,
            was_tried: false,
            alarmed: false,
            malformed_quiet_until: 0,
            malformed_unlogged: 0,
        }
    }

    /// The server that is dialled.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected { .. })
    }

    /// `None` while the server is still dialled or read; then whether it ended well.
    pub fn ended(&self) -> Option<bool> {
        match self.state {
            State::Ended { success } => Some(success),
            _ => None,
        }
    }

    /// The bytes held for an unfinished line.
    pub fn held(&self) -> usize {
        self.framer.held()
    }

    /// When [`Event::Wake`] is due; `None` if nothing is.
    pub fn wake_at(&self, policy: &Policy) -> Option<Millis> {
        let due = match self.state {
            State::Waiting { until } => until,
            State::Resolving { deadline } | State::Connecting { deadline, .. } => deadline,
            State::Connected { heard, .. } => {
                return policy.idle_timeout.map(|idle| heard.saturating_add(idle));
            }
            State::Ended { .. } => return None,
        };
        let alarm = if self.alarmed { Millis::MAX } else { self.alarm_at() };
        Some(due.min(alarm).min(self.give_up_at(policy)))
    }

    /// Takes an event; one that does not fit the state changes nothing.
    pub fn handle<R: Rng>(&mut self, event: Event, cx: &mut Context<'_, R>) {
        if matches!(event, Event::Wake) && !self.is_connected() {
            self.note_outage(cx);
        }
        let now = cx.now;
        match (&mut self.state, event) {
            (State::Waiting { until }, Event::Wake) if *until <= now => self.begin_attempt(cx),
            (State::Resolving { deadline }, Event::Wake) if *deadline <= now => {
                let late = io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
                self.fail(Cause::NotResolved(late), cx);
            }
            (State::Resolving { deadline }, Event::Resolved { attempt, result })
                if attempt == self.attempt =>
            {
                let attempt_deadline = *deadline;
                match result {
                    Ok(addresses) => {
                        let none = io::Error::new(io::ErrorKind::NotFound, "it has no address");
                        let rest = addresses.into_iter();
                        self.connect_next(rest, attempt_deadline, Cause::NotResolved(none), cx);
                    }
                    Err(error) => self.fail(Cause::NotResolved(error), cx),
                }
            }
            (State::Connecting { rest, deadline, attempt_deadline }, Event::Wake)
                if *deadline <= now =>
            {
                let (rest, attempt_deadline) = (std::mem::take(rest), *attempt_deadline);
                self.act(Action::Close, cx);
                self.connect_next(rest, attempt_deadline, Cause::TimedOut, cx);
            }
            (State::Connecting { rest, attempt_deadline, .. }, Event::Failed(cause)) => {
                let (rest, attempt_deadline) = (std::mem::take(rest), *attempt_deadline);
                self.act(Action::Close, cx);
                self.connect_next(rest, attempt_deadline, cause, cx);
            }
            (State::Connecting { .. }, Event::Connected) => self.connected(now),
            (State::Connected { .. }, Event::Failed(cause)) => self.lose(cause, cx),
            (State::Connected { heard, .. }, Event::Wake) => {
                let heard = *heard;
                if cx.policy.idle_timeout.is_some_and(|idle| heard.saturating_add(idle) <= now) {
                    self.lose(Cause::Idle, cx);
                }
            }
            _ => {}
        }
    }

    /// The other side has shut down or reset the connection: what is left can be read to its end.
    pub fn closing(&mut self) {
        if let State::Connected { closing, .. } = &mut self.state {
            *closing = true;
        }
    }

    /// The connection has bytes that wait for room in the sink, so it is not idle.
    pub fn not_idle(&mut self, now: Millis) {
        if let State::Connected { heard, .. } = &mut self.state {
            *heard = now;
        }
    }

    /// Reads for one turn: until the source is drained, `budget` bytes are read, or the sink is full.
    ///
    /// `io` must be nonblocking and may return fewer bytes than asked for only when it has no more
    /// for now, as a stream socket does (epoll(7)), unless it is closing.
    pub fn read(
        &mut self,
        io: &mut impl Read,
        scratch: &mut [u8],
        budget: usize,
        sink: &mut impl Sink,
        policy: &Policy,
        now: Millis,
    ) -> Progress {
        let mut left = budget;
        while left > 0 {
            let State::Connected { heard, closing, .. } = &mut self.state else {
                return Progress::Drained;
            };
            let len = scratch.len().min(left);
            let room = sink.room(numbers_in(len).max(MIN_ROOM));
            if room < MIN_ROOM {
                return Progress::SinkFull;
            }
            let len = len.min(readable(room));
            match io.read(&mut scratch[..len]) {
                Ok(0) => return Progress::Failed(Cause::Closed),
                Ok(n) => {
                    *heard = now;
                    self.failures = 0;
                    // Where readiness comes from epoll or kqueue, a short read tells as much as the
                    // next one, which would block.
                    let drained = cfg!(unix) && n < len && !*closing;
                    self.take(&scratch[..n], sink, policy, now);
                    if drained {
                        return Progress::Drained;
                    }
                    left -= n;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    *closing = false;
                    return Progress::Drained;
                }
                // A signal's interruption costs a byte of the budget, so that no stream of signals
                // can keep the loop here.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => left -= 1,
                Err(error) => return Progress::Failed(Cause::Io(error)),
            }
        }
        Progress::More
    }

    /// Stops for good, without a word: the program ends.
    pub fn shut_down(&mut self) {
        self.counters.cut += u64::from(self.framer.finish());
        if self.ended().is_none() {
            self.state = State::Ended { success: true };
        }
    }

    fn take(&mut self, chunk: &[u8], sink: &mut impl Sink, policy: &Policy, now: Millis) {
        self.counters.bytes += chunk.len() as u64;
        let mut framer = std::mem::take(&mut self.framer);
        let mut reader = Reader { link: self, sink, policy, now };
        framer.feed(chunk, policy.max_line, |framed| match framed {
            Framed::Lines(region) => {
                reader.link.counters.lines += policy.judge.judge(region, &mut reader);
            }
            Framed::TooLong => {
                reader.link.counters.lines += 1;
                reader.too_long();
            }
        });
        self.framer = framer;
    }

    fn alarm_at(&self) -> Millis {
        self.down_since.saturating_add(DOWN_ALARM)
    }

    fn give_up_at(&self, policy: &Policy) -> Millis {
        policy.give_up_after.map_or(Millis::MAX, |span| self.down_since.saturating_add(span))
    }

    /// Says once that an outage has become long, and ends the link when it has become too long.
    fn note_outage<R>(&mut self, cx: &mut Context<'_, R>) {
        if self.ended().is_some() || !self.was_tried {
            return;
        }
        if !self.alarmed && self.alarm_at() <= cx.now {
            self.alarmed = true;
            error!("{} has been down for {}", self.server, Span(cx.now - self.down_since));
        }
        if self.give_up_at(cx.policy) <= cx.now {
            self.give_up(cx);
        }
    }

    fn give_up<R>(&mut self, cx: &mut Context<'_, R>) {
        self.act(Action::Close, cx);
        let down = Span(cx.now - self.down_since);
        error!("Gave up {} after {} failures and {down}", self.server, self.failures);
        self.state = State::Ended { success: false };
    }

    fn begin_attempt<R: Rng>(&mut self, cx: &mut Context<'_, R>) {
        if !self.was_tried {
            (self.was_tried, self.down_since) = (true, cx.now);
        }
        self.attempt = self.attempt.wrapping_add(1);
        log!(self.failure_level(Level::Info), "Trying to connect to {}", self.server);
        let deadline = cx.now.saturating_add(cx.policy.connect_timeout);
        match self.server.host() {
            Host::Name(_) => {
                self.state = State::Resolving { deadline };
                self.act(Action::Resolve { attempt: self.attempt }, cx);
            }
            Host::Ip(ip) => {
                let address = SocketAddr::new(*ip, self.server.port());
                // With an address at hand the cause is never used.
                self.connect_next(vec![address].into_iter(), deadline, Cause::TimedOut, cx);
            }
        }
    }

    /// Tries the next address, within its fair share of what is left of the attempt's time; when
    /// there is none left, the attempt has failed for the `last` cause.
    fn connect_next<R: Rng>(
        &mut self,
        mut rest: vec::IntoIter<SocketAddr>,
        attempt_deadline: Millis,
        last: Cause,
        cx: &mut Context<'_, R>,
    ) {
        let waiting = rest.len() as u64;
        let Some(address) = rest.next() else { return self.fail(last, cx) };
        let share = attempt_deadline.saturating_sub(cx.now).div_ceil(waiting);
        debug!("Dialling {} at {address}", self.server);
        let deadline = cx.now.saturating_add(share);
        self.state = State::Connecting { rest, deadline, attempt_deadline };
        self.act(Action::Connect(address), cx);
    }

    fn connected(&mut self, now: Millis) {
        self.counters.connects += 1;
        let server = &self.server;
        match self.failures {
            0 => info!("Connected successfully to {server}"),
            failures => {
                // A return is always told, but not each time of a server that closes at once.
                let is_return = self.attempt_failed;
                let level = if is_return { Level::Info } else { self.failure_level(Level::Info) };
                let down = Span(now - self.down_since);
                let s = if failures == 1 { "" } else { "s" };
                log!(
                    level,
                    "Connected successfully to {server} after {failures} failure{s} in {down}"
                );
            }
        }
        self.attempt_failed = false;
        self.state = State::Connected { since: now, heard: now, closing: false };
    }

    /// The connection has ended.
    fn lose<R: Rng>(&mut self, cause: Cause, cx: &mut Context<'_, R>) {
        let State::Connected { since, .. } = self.state else { return };
        if cx.now - since >= cx.policy.reset_backoff_threshold {
            (self.retries, self.failures) = (0, 0);
        }
        if self.failures == 0 {
            (self.down_since, self.alarmed) = (cx.now, false);
        }
        self.counters.cut += u64::from(self.framer.finish());
        self.act(Action::Close, cx);
        self.fail(cause, cx);
    }

    /// An attempt or a connection has failed: settles when the next attempt is due, if ever.
    fn fail<R: Rng>(&mut self, cause: Cause, cx: &mut Context<'_, R>) {
        let was_connected = self.is_connected();
        if cx.policy.once && was_connected && matches!(cause, Cause::Closed) {
            info!("Read {} to its end", self.server);
            self.state = State::Ended { success: true };
            return;
        }
        self.counters.failures += 1;
        self.failures = self.failures.saturating_add(1);
        self.attempt_failed |= !was_connected;
        let failure = Failure { server: &self.server, cause: &cause, was_connected };
        if cx.policy.once {
            warn!("{failure}; not tried again");
            self.state = State::Ended { success: false };
            return;
        }
        let delay = millis(cx.policy.backoff.delay(self.retries, cx.rng));
        self.retries = self.retries.saturating_add(1);
        log!(
            self.failure_level(Level::Warn),
            "{failure}; attempt {} in {}",
            self.retries,
            Span(delay)
        );
        self.state = State::Waiting { until: cx.now.saturating_add(delay) };
        self.note_outage(cx);
    }

    /// The level at which the news of an outage is logged: the longer it lasts, the rarer.
    fn failure_level(&self, level: Level) -> Level {
        if self.failures <= FAILURES_LOGGED_EACH || self.failures.is_power_of_two() {
            level
        } else {
            Level::Debug
        }
    }

    fn act<R>(&self, action: Action, cx: &mut Context<'_, R>) {
        cx.actions.push_back((self.id, action));
    }
}

/// A link while a chunk of its bytes is judged.
struct Reader<'a, S> {
    link: &'a mut Link,
    sink: &'a mut S,
    policy: &'a Policy,
    now: Millis,
}

impl<S: Sink> Verdicts for Reader<'_, S> {
    fn matched(&mut self, numbers: &[i64]) {
        self.link.counters.matched += numbers.len() as u64;
        self.sink.push(numbers);
    }

    fn malformed(&mut self, line: &[u8], error: NumberError) {
        self.link.counters.malformed += 1;
        if let Some(more) = self.link.may_log_malformed(self.now) {
            let shown = Shown(line);
            warn!("Malformed line from {}: \"{shown}\": {error}{more}", self.link.server);
        }
    }

    fn too_long(&mut self) {
        self.link.counters.too_long += 1;
        if let Some(more) = self.link.may_log_malformed(self.now) {
            let max_line = self.policy.max_line;
            warn!("Skipped a line of {} longer than {max_line} bytes{more}", self.link.server);
        }
    }
}

impl Link {
    /// Whether a malformed line may be logged now, and if so with what to add about those before.
    fn may_log_malformed(&mut self, now: Millis) -> Option<Unlogged> {
        if now < self.malformed_quiet_until {
            self.malformed_unlogged += 1;
            return None;
        }
        self.malformed_quiet_until = now.saturating_add(MALFORMED_LOG_GAP);
        Some(Unlogged(std::mem::take(&mut self.malformed_unlogged)))
    }
}

/// A line as the log shows it: printable, and not too much of it.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..MALFORMED_SHOWN) {
            Some(start) if start.len() < self.0.len() => write!(f, "{}...", start.escape_ascii()),
            _ => write!(f, "{}", self.0.escape_ascii()),
        }
    }
}

struct Unlogged(u64);

impl fmt::Display for Unlogged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            more => write!(f, " ({more} more since the last such line)"),
        }
    }
}

/// A failure as the log tells it.
struct Failure<'a> {
    server: &'a Server,
    cause: &'a Cause,
    was_connected: bool,
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { server, cause, was_connected } = self;
        match cause {
            _ if *was_connected => write!(f, "Connection lost to {server}: {cause}"),
            Cause::Refused => write!(f, "Connection refused by {server}"),
            _ => write!(f, "Could not connect to {server}: {cause}"),
        }
    }
}

/// A span in the log, to three figures or so.
struct Span(Millis);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms @ ..1000 => write!(f, "{ms}ms"),
            ms @ ..60_000 => write!(f, "{}.{:02}s", ms / 1000, ms % 1000 / 10),
            ms => write!(f, "{}m {:02}s", ms / 60_000, ms % 60_000 / 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    /// A link with no jitter, the world that drives it, and what it asked for.
    struct Bench {
        link: Link,
        policy: Policy,
        rng: SmallRng,
        actions: VecDeque<(usize, Action)>,
        now: Millis,
        pushed: Vec<i64>,
        room: usize,
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
                link: Link::new(7, server, 0),
                policy: Policy::from(&adjust(config).build().unwrap()),
                rng: SmallRng::seed_from_u64(1),
                actions: VecDeque::new(),
                now: 0,
                pushed: Vec::new(),
                room: usize::MAX / 4,
            }
        }

        fn handle(&mut self, event: Event) {
            let mut cx = Context {
                now: self.now,
                policy: &self.policy,
                rng: &mut self.rng,
                actions: &mut self.actions,
            };
            self.link.handle(event, &mut cx);
        }

        fn actions(&mut self) -> Vec<Action> {
            self.actions
                .drain(..)
                .map(|(id, action)| {
                    assert_eq!(id, 7);
                    action
                })
                .collect()
        }

        fn wake_at(&self) -> Option<Millis> {
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
            assert!(matches!(self.actions()[..], [Action::Connect(_)]));
            self.handle(Event::Connected);
            assert!(self.link.is_connected());
        }

        fn read(&mut self, io: &mut impl Read) -> Progress {
            struct Room<'a>(&'a mut Vec<i64>, usize);
            impl Sink for Room<'_> {
                fn room(&mut self, _: usize) -> usize {
                    self.1 - self.0.len()
                }
                fn push(&mut self, numbers: &[i64]) {
                    self.0.extend_from_slice(numbers);
                    assert!(self.0.len() <= self.1, "more numbers than room");
                }
            }
            let mut sink = Room(&mut self.pushed, self.room);
            let mut scratch = [0; 4096];
            self.link.read(io, &mut scratch, 8192, &mut sink, &self.policy, self.now)
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

    fn refused_cause() -> Cause {
        io::Error::from(io::ErrorKind::ConnectionRefused).into()
    }

    fn refused() -> Event {
        Event::Failed(refused_cause())
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_attempt_is_due_at_once_and_the_next_after_1_2_4_seconds() {
        let mut bench = Bench::new("127.0.0.1:8001");
        assert_eq!(bench.wake_at(), Some(0));
        for delay in [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000] {
            bench.wake();
            assert_eq!(bench.actions(), [Action::Connect(address("127.0.0.1:8001"))]);
            bench.handle(refused());
            assert_eq!(bench.actions(), [Action::Close]);
            assert_eq!(bench.wake_at(), Some(bench.now + delay));
        }
    }

    #[test]
    fn a_wake_up_before_its_time_changes_nothing() {
        let mut bench = Bench::new("127.0.0.1:8001");
        bench.wake();
        bench.handle(refused());
        bench.actions();
        bench.now = 999;
        bench.handle(Event::Wake);
        assert_eq!((bench.actions(), bench.wake_at()), (vec![], Some(1000)));
    }

    #[test]
    fn the_back_off_starts_over_at_the_threshold_and_not_a_millisecond_earlier() {
        for (stood, delay) in [(179_999, 2000), (180_000, 1000)] {
            let mut bench = Bench::new("127.0.0.1:8001");
            bench.wake();
            bench.handle(refused());
            bench.actions();
            bench.connect();
            bench.now += stood;
            bench.handle(Event::Failed(Cause::Closed));
            assert_eq!(bench.wake_at(), Some(bench.now + delay), "after {stood} ms");
        }
    }

    #[test]
    fn accepting_and_closing_at_once_makes_no_storm() {
        let mut bench = Bench::new("127.0.0.1:8001");
        for delay in [1000, 2000, 4000, 8000] {
            bench.connect();
            bench.handle(Event::Failed(Cause::Closed));
            bench.actions();
            assert_eq!(bench.wake_at(), Some(bench.now + delay));
        }
    }

    #[test]
    fn accepting_and_closing_at_once_is_an_outage_and_ends_in_giving_up() {
        let span = Duration::from_secs(5);
        let mut bench = Bench::with("127.0.0.1:8001", |config| config.give_up_after(span));
        bench.connect();
        bench.handle(Event::Failed(Cause::Closed));
        bench.actions();
        for _ in 0..2 {
            bench.connect();
            bench.handle(Event::Failed(Cause::Closed));
            bench.actions();
        }
        assert_eq!((bench.now, bench.wake_at()), (3000, Some(5000)));
        bench.wake();
        assert_eq!(bench.link.ended(), Some(false));
    }

    #[test]
    fn a_byte_and_standing_for_the_threshold_each_end_an_outage() {
        for (bytes, stood, failures) in [(0, 179_999, 3), (1, 0, 1), (0, 180_000, 1)] {
            let mut bench = Bench::new("127.0.0.1:8001");
            for _ in 0..2 {
                bench.wake();
                bench.handle(refused());
                bench.actions();
            }
            let down_since = bench.link.down_since;
            bench.connect();
            bench.read(&mut Script::new([Ok(&b"\n"[..bytes])].into_iter().take(bytes)));
            bench.now += stood;
            bench.handle(Event::Failed(Cause::Closed));
            assert_eq!(bench.link.failures, failures, "{bytes} bytes, {stood} ms");
            assert_eq!(bench.link.down_since == down_since, failures == 3);
        }
    }

    #[test]
    fn a_name_is_resolved_anew_for_every_attempt_and_a_late_answer_is_ignored() {
        let mut bench = Bench::new("name.test:8001");
        bench.wake();
        assert_eq!(bench.actions(), [Action::Resolve { attempt: 1 }]);
        bench.now = 10_000;
        bench.handle(Event::Wake);
        assert_eq!(bench.wake_at(), Some(11_000), "the lookup has timed out");
        bench.wake();
        assert_eq!(bench.actions(), [Action::Resolve { attempt: 2 }]);
        bench.handle(Event::Resolved { attempt: 1, result: Ok(vec![address("192.0.2.1:8001")]) });
        assert_eq!(bench.actions(), []);
        bench.handle(Event::Resolved { attempt: 2, result: Ok(vec![address("192.0.2.2:8001")]) });
        assert_eq!(bench.actions(), [Action::Connect(address("192.0.2.2:8001"))]);
    }

    #[test]
    fn a_name_without_addresses_and_one_not_found_fail_the_attempt() {
        for result in [Ok(vec![]), Err(io::ErrorKind::NotFound.into())] {
            let mut bench = Bench::new("name.test:8001");
            bench.wake();
            bench.handle(Event::Resolved { attempt: 1, result });
            assert_eq!(bench.wake_at(), Some(1000));
            assert_eq!(bench.link.counters().failures, 1);
        }
    }

    #[test]
    fn all_addresses_are_tried_in_one_attempt() {
        let mut bench = Bench::new("localhost:8001");
        bench.wake();
        bench.actions();
        let both = vec![address("[::1]:8001"), address("127.0.0.1:8001")];
        bench.handle(Event::Resolved { attempt: 1, result: Ok(both) });
        assert_eq!(bench.actions(), [Action::Connect(address("[::1]:8001"))]);
        bench.handle(refused());
        let next = [Action::Close, Action::Connect(address("127.0.0.1:8001"))];
        assert_eq!(bench.actions(), next);
        assert_eq!(bench.link.counters().failures, 0, "the attempt has not failed yet");
        bench.handle(Event::Connected);
        assert!(bench.link.is_connected());
    }

    #[test]
    fn addresses_share_the_connect_timeout() {
        let mut bench = Bench::new("name.test:8001");
        bench.wake();
        bench.actions();
        bench.now = 1000;
        let three = (1..=3).map(|i| SocketAddr::from(([192, 0, 2, i], 8001))).collect();
        bench.handle(Event::Resolved { attempt: 1, result: Ok(three) });
        for (wake_at, actions) in [(4000, 2), (7000, 2), (10_000, 1)] {
            assert_eq!(bench.wake_at(), Some(wake_at));
            bench.actions();
            bench.wake();
            assert_eq!(bench.actions.len(), actions, "close, and connect if there is one more");
        }
        assert_eq!(bench.wake_at(), Some(11_000));
        assert_eq!(bench.link.counters().failures, 1);
    }

    #[test]
    fn a_link_gives_up_when_it_is_told_to_and_not_before() {
        let span = Duration::from_millis(2500);
        let mut bench = Bench::with("127.0.0.1:8001", |config| config.give_up_after(span));
        bench.wake();
        bench.handle(refused());
        bench.wake();
        bench.handle(refused());
        assert_eq!(bench.wake_at(), Some(2500), "before the next attempt, which is due at 3000");
        bench.now = 2499;
        bench.handle(Event::Wake);
        assert_eq!(bench.link.ended(), None);
        bench.wake();
        assert_eq!((bench.link.ended(), bench.wake_at()), (Some(false), None));
    }

    #[test]
    fn no_link_is_given_up_before_its_first_attempt() {
        let span = Duration::from_millis(1);
        let mut bench = Bench::with("127.0.0.1:8001", |config| config.give_up_after(span));
        bench.now = 5;
        bench.handle(Event::Wake);
        assert_eq!(bench.actions().len(), 1);
        assert_eq!(bench.wake_at(), Some(6), "its time begins with the attempt");
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
        assert_eq!(bench.now, 5000);
        assert_eq!(bench.actions(), [Action::Close]);
        assert_eq!(bench.link.ended(), Some(false));
    }

    #[test]
    fn the_alarm_wakes_once_in_an_outage_of_three_minutes() {
        let mut bench = Bench::with("127.0.0.1:8001", |config| {
            let day = Duration::from_secs(86_400);
            config.initial_backoff(day).max_backoff(day)
        });
        bench.wake();
        bench.handle(refused());
        assert_eq!(bench.wake_at(), Some(DOWN_ALARM));
        assert!(!bench.link.alarmed);
        bench.wake();
        assert!(bench.link.alarmed);
        assert_eq!(bench.wake_at(), Some(86_400_000));
    }

    #[test]
    fn an_idle_connection_is_lost_at_the_timeout_after_the_last_byte() {
        let idle = Duration::from_secs(5);
        let mut bench = Bench::with("127.0.0.1:8001", |config| config.idle_timeout(idle));
        bench.connect();
        bench.now = 3000;
        assert!(matches!(bench.read(&mut Script::new([Ok(&b"6\n"[..])])), Progress::Drained));
        assert_eq!(bench.wake_at(), Some(8000));
        bench.now = 7999;
        bench.handle(Event::Wake);
        assert!(bench.link.is_connected());
        bench.wake();
        assert_eq!(bench.actions(), [Action::Close]);
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
        let connected_and = |event| {
            let mut bench = Bench::with("127.0.0.1:8001", |config| config.once(true));
            bench.connect();
            bench.handle(event);
            (bench.link.ended(), bench.wake_at())
        };
        assert_eq!(connected_and(Event::Failed(Cause::Closed)), (Some(true), None));
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(connected_and(Event::Failed(reset.into())), (Some(false), None));
        let mut bench = Bench::with("127.0.0.1:8001", |config| config.once(true));
        bench.wake();
        bench.handle(refused());
        assert_eq!((bench.link.ended(), bench.wake_at()), (Some(false), None));
    }

    #[test]
    fn a_tail_without_its_newline_is_counted_and_joins_nothing() {
        let mut bench = Bench::new("127.0.0.1:8001");
        bench.connect();
        bench.link.closing();
        let mut io = Script::new([Ok(&b"1266\n12"[..]), Ok(b"")]);
        assert!(matches!(bench.read(&mut io), Progress::Failed(Cause::Closed)));
        bench.handle(Event::Failed(Cause::Closed));
        bench.actions();
        bench.connect();
        bench.read(&mut Script::new([Ok(&b"6\n"[..])]));
        assert_eq!(bench.pushed, [1266, 6]);
        assert_eq!(bench.link.counters().cut, 1);
    }

    #[test]
    fn a_short_read_ends_the_turn_unless_the_other_side_has_closed() {
        for closing in [false, true] {
            let mut bench = Bench::new("127.0.0.1:8001");
            bench.connect();
            if closing {
                bench.link.closing();
            }
            let mut io = Script::new([Ok(&b"6\n"[..]), Ok(b"12\n"), Ok(b"")]);
            let progress = bench.read(&mut io);
            assert_eq!(matches!(progress, Progress::Failed(Cause::Closed)), closing);
            assert_eq!(bench.pushed.len(), if closing { 2 } else { 1 });
        }
    }

    #[test]
    fn an_interrupted_read_is_repeated_within_the_budget() {
        let mut bench = Bench::new("127.0.0.1:8001");
        bench.connect();
        let mut io = Script::new([Err(io::ErrorKind::Interrupted.into()), Ok(&b"6\n"[..])]);
        assert!(matches!(bench.read(&mut io), Progress::Drained));
        assert_eq!(bench.pushed, [6]);
        let mut io = io::repeat(b'\n').take(u64::MAX);
        assert!(matches!(bench.read(&mut io), Progress::More), "8192 bytes are the budget");
        assert_eq!(bench.link.counters().bytes, 2 + 8192);
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
        assert_eq!(bench.link.malformed_unlogged, 1);
        assert!(bench.link.may_log_malformed(MALFORMED_LOG_GAP - 1).is_none());
        let unlogged = bench.link.may_log_malformed(MALFORMED_LOG_GAP).unwrap();
        assert_eq!(unlogged.to_string(), " (2 more since the last such line)");
    }

    #[test]
    fn failures_beyond_the_first_eight_are_logged_at_powers_of_two() {
        let mut bench = Bench::new("127.0.0.1:8001");
        let mut logged = Vec::new();
        for failure in 1..=40 {
            bench.now = DOWN_ALARM * failure;
            bench.handle(Event::Wake);
            bench.handle(refused());
            if bench.link.failure_level(Level::Warn) == Level::Warn {
                logged.push(failure);
            }
        }
        assert_eq!(logged, [1, 2, 3, 4, 5, 6, 7, 8, 16, 32]);
        assert_eq!(bench.link.counters().failures, 40);
        bench.actions();
        bench.connect();
        bench.handle(Event::Failed(Cause::Closed));
        bench.actions();
        assert_eq!(bench.link.failure_level(Level::Warn), Level::Debug, "it has sent nothing");
        bench.connect();
        bench.read(&mut Script::new([Ok(&b"\n"[..])]));
        bench.handle(Event::Failed(Cause::Closed));
        assert_eq!(bench.link.failure_level(Level::Warn), Level::Warn);
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
            too_long: 2,
            cut: 0,
        };
        assert_eq!(bench.link.counters(), received);
        assert_eq!((bench.pushed.clone(), bench.link.held()), (vec![6, 12, 66], 3));
        bench.handle(Event::Failed(Cause::Closed));
        let lost = Counters { failures: 1, cut: 1, ..received };
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
            too_long: 6,
            cut: 3,
        };
        assert_eq!(sum, thrice);
    }

    #[test]
    fn a_read_that_would_block_is_no_failure_and_any_other_error_is() {
        let mut bench = Bench::new("127.0.0.1:8001");
        bench.connect();
        bench.link.closing();
        let mut io = Script::new([Ok(&b"6\n"[..])]);
        assert!(matches!(bench.read(&mut io), Progress::Drained));
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let progress = bench.read(&mut Script::new([Err(reset)]));
        assert!(matches!(progress, Progress::Failed(Cause::Io(_))), "{progress:?}");
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
        assert_eq!([0, 1, 2, 3, 4].map(numbers_in), [0, 1, 1, 2, 2]);
    }

    #[test]
    fn a_wake_up_for_the_alarm_ends_no_attempt() {
        let timeout = Duration::from_millis(2 * DOWN_ALARM);
        for server in ["127.0.0.1:8001", "name.example:8001"] {
            let mut bench = Bench::with(server, |config| config.connect_timeout(timeout));
            bench.wake();
            bench.actions();
            bench.now = DOWN_ALARM;
            bench.handle(Event::Wake);
            assert!(bench.link.alarmed);
            assert_eq!((bench.actions(), bench.link.counters().failures), (vec![], 0));
            bench.now = 2 * DOWN_ALARM;
            bench.handle(Event::Wake);
            assert_eq!(bench.link.counters().failures, 1);
        }
    }

    #[test]
    fn a_wake_up_while_connected_is_no_outage() {
        let span = Duration::from_millis(DOWN_ALARM);
        let mut bench = Bench::with("127.0.0.1:8001", |config| {
            config.idle_timeout(2 * span).give_up_after(span)
        });
        bench.connect();
        bench.now = DOWN_ALARM;
        bench.read(&mut Script::new([Ok(&b"6\n"[..])]));
        bench.now = 2 * DOWN_ALARM;
        bench.handle(Event::Wake);
        assert!(bench.link.is_connected() && !bench.link.alarmed);
    }

    #[test]
    fn failures_say_what_happened() {
        let io_error = || io::Error::from(io::ErrorKind::ConnectionReset);
        let texts = [
            (refused_cause(), "connection refused"),
            (Cause::TimedOut, "no answer within the connect timeout"),
            (Cause::NotResolved(io_error()), "name not resolved: connection reset"),
            (Cause::ConnectedToItself, "the socket connected to itself"),
            (Cause::Closed, "closed by the server"),
            (Cause::Idle, "nothing received within the idle timeout"),
            (io_error().into(), "connection reset"),
        ];
        assert!(matches!(texts[0].0, Cause::Refused));
        let server = &"127.0.0.1:8001".parse().unwrap();
        for (cause, text) in &texts {
            assert_eq!(cause.to_string(), *text);
            let failure = Failure { server, cause, was_connected: true };
            assert_eq!(failure.to_string(), format!("Connection lost to 127.0.0.1:8001: {text}"));
            let failure = Failure { server, cause, was_connected: false };
            let expected = match cause {
                Cause::Refused => "Connection refused by 127.0.0.1:8001".to_owned(),
                _ => format!("Could not connect to 127.0.0.1:8001: {text}"),
            };
            assert_eq!(failure.to_string(), expected);
        }
    }

    #[test]
    fn of_a_long_line_its_beginning_is_shown() {
        assert_eq!(Shown(b"a\0\x1b[2J").to_string(), "a\\x00\\x1b[2J");
        let text = "x".repeat(MALFORMED_SHOWN);
        assert_eq!(Shown(text.as_bytes()).to_string(), text);
        assert_eq!(Shown(format!("{text}y").as_bytes()).to_string(), format!("{text}..."));
    }

    #[test]
    fn spans_read_like_spans() {
        let texts = [0, 999, 1000, 1999, 59_999, 60_000, 3_723_000].map(|ms| Span(ms).to_string());
        assert_eq!(texts, ["0ms", "999ms", "1.00s", "1.99s", "59.99s", "1m 00s", "62m 03s"]);
    }
}
