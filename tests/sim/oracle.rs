//! What each link must be doing: the contract once more, by other means than the fleet's.
//!
//! The oracle sees what the fleet is told and what it asks for. It keeps no timer of its own: where
//! a moment is the fleet's to choose (a jittered delay, an idle time-out), the oracle has bounds.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use tcpcore::fleet::Fleet;
use tcpcore::link::{Action, Cause, Counters, DOWN_ALARM, Millis};
use tcpcore::{Config, Host, Server};

use super::chance::{Chance, Kind};
use super::net::Lines;
use super::{Violation, ensure};

/// The policy in milliseconds, but for the back-off's own reckoning, which is in seconds.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    initial_backoff_s: f64,
    max_backoff_s: f64,
    multiplier: f64,
    jitter: f64,
    pub(super) threshold: Millis,
    pub(super) give_up_after: Option<Millis>,
    pub(super) connect_timeout: Millis,
    pub(super) idle_timeout: Option<Millis>,
    pub(super) max_line: usize,
    pub(super) once: bool,
    pub(super) divisor: u64,
}

impl From<&Config> for Rules {
    fn from(config: &Config) -> Rules {
        let backoff = config.backoff();
        Rules {
            initial_backoff_s: backoff.initial().as_secs_f64(),
            max_backoff_s: backoff.max().as_secs_f64(),
            multiplier: backoff.multiplier(),
            jitter: backoff.jitter(),
            threshold: ms(config.reset_backoff_threshold()),
            give_up_after: config.give_up_after().map(ms),
            connect_timeout: ms(config.connect_timeout()),
            idle_timeout: config.idle_timeout().map(ms),
            max_line: config.max_line().get(),
            once: config.once(),
            divisor: config.divisor().get(),
        }
    }
}

impl Rules {
    /// The shortest and the longest delay before a retry, by the contract's formula and with less
    /// than a millisecond on either side for rounding.
    pub(super) fn delay_bounds(&self, retry: u32) -> (Millis, Millis) {
        // No multiplier of a world needs as many steps to the cap, unless it is 1.
        let growth: f64 = (0..retry.min(64)).map(|_| self.multiplier).product();
        let delay_s = (self.initial_backoff_s * growth).min(self.max_backoff_s);
        let [low, high] = [1.0 - self.jitter, 1.0 + self.jitter]
            .map(|share| Duration::from_secs_f64(delay_s * share));
        (ms(low).max(1), ms(high) + 1)
    }

    /// How long it may take to be back after the last fault: an attempt that is still to fail, and
    /// the longest delay.
    pub(super) fn recovery(&self) -> Millis {
        self.connect_timeout + self.delay_bounds(u32::MAX).1
    }
}

/// The whole milliseconds of a span.
fn ms(span: Duration) -> Millis {
    u64::try_from(span.as_millis()).expect("within years")
}

#[derive(Clone, Debug)]
enum State {
    Waiting { since: Millis, low: Millis, high: Millis },
    Resolving { attempt: Option<u32>, deadline: Millis },
    Connecting { rest: VecDeque<SocketAddr>, deadline: Millis, attempt_deadline: Millis },
    Connected { since: Millis, read_last: Millis, busy_last: Millis },
    Ended,
}

#[derive(Clone, Debug)]
struct Peer {
    server: Server,
    state: State,
    retries: u32,
    down_since: Millis,
    last_attempt: u32,
    /// Whether it was ever tried: only then can it be down.
    is_begun: bool,
    /// Whether it has failed since it last sent a byte or stood for the threshold.
    is_out: bool,
    /// What the fleet must ask for now. Closing is not among it: that is seen by the sockets.
    owed: VecDeque<SocketAddr>,
    owes_lookup: bool,
    /// Whether the fleet owes the connection a turn of reading.
    is_queued: bool,
}

pub(super) struct Oracle {
    rules: Rules,
    peers: Vec<Peer>,
    queue: VecDeque<usize>,
    pub(super) counters: Counters,
    failed: usize,
    /// How often a timer may have been moved, each of which excuses one wake-up that finds nothing.
    moves: u64,
    spare_wakes: u64,
    /// Whether anything has happened since the last turn began.
    has_moved: bool,
    /// The time up to which timers were run.
    timed_until: Millis,
}

impl Oracle {
    pub(super) fn new(rules: Rules, now: Millis) -> Oracle {
        Oracle {
            rules,
            peers: Vec::new(),
            queue: VecDeque::new(),
            counters: Counters::default(),
            failed: 0,
            moves: 0,
            spare_wakes: 0,
            has_moved: false,
            timed_until: now,
        }
    }

    pub(super) fn add(&mut self, server: Server, now: Millis) {
        self.peers.push(Peer {
            server,
            state: State::Waiting { since: now, low: 0, high: 0 },
            retries: 0,
            down_since: now,
            last_attempt: 0,
            is_begun: false,
            is_out: false,
            owed: VecDeque::new(),
            owes_lookup: false,
            is_queued: false,
        });
    }

    pub(super) fn is_connected(&self, id: usize) -> bool {
        matches!(self.peers[id].state, State::Connected { .. })
    }

    pub(super) fn is_queued(&self, id: usize) -> bool {
        self.peers[id].is_queued
    }

    /// Whether the link must have a socket once all it asked for has been done.
    pub(super) fn needs_socket(&self, id: usize) -> bool {
        matches!(self.peers[id].state, State::Connecting { .. } | State::Connected { .. })
    }

    pub(super) fn has_ended(&self, id: usize) -> bool {
        matches!(self.peers[id].state, State::Ended)
    }

    pub(super) fn is_finished(&self) -> bool {
        (0..self.peers.len()).all(|id| self.has_ended(id))
    }

    pub(super) fn queue_len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn state(&self, id: usize) -> String {
        format!("{:?}", self.peers[id])
    }

    // What the fleet is told.

    pub(super) fn on_connected(&mut self, id: usize, now: Millis) {
        if matches!(self.peers[id].state, State::Connecting { .. }) {
            self.has_moved = true;
            self.counters.connects += 1;
            self.moves += 1;
            self.peers[id].state = State::Connected { since: now, read_last: now, busy_last: now };
            self.on_ready(id);
        }
    }

    pub(super) fn on_failed(
        &mut self,
        id: usize,
        cause: &Cause,
        has_tail: bool,
        now: Millis,
        chance: &mut Chance<'_>,
    ) {
        match &self.peers[id].state {
            State::Connecting { .. } => self.try_next(id, now, chance),
            State::Connected { .. } => {
                self.lose(id, matches!(cause, Cause::Closed), has_tail, now, chance);
            }
            _ => {}
        }
    }

    /// An answer, with the addresses if there are any.
    pub(super) fn on_answer(
        &mut self,
        id: usize,
        attempt: u32,
        addresses: Option<&[SocketAddr]>,
        now: Millis,
        chance: &mut Chance<'_>,
    ) {
        let State::Resolving { attempt: asked, deadline } = self.peers[id].state else { return };
        if asked != Some(attempt) {
            chance.saw(Kind::AnswerToAnOlderAttempt);
            return;
        }
        let rest = addresses.unwrap_or_default().iter().copied().collect();
        self.peers[id].state = State::Connecting { rest, deadline, attempt_deadline: deadline };
        self.connect(id, now, chance);
    }

    pub(super) fn on_ready(&mut self, id: usize) {
        if self.is_connected(id) && !self.peers[id].is_queued {
            self.peers[id].is_queued = true;
            self.queue.push_back(id);
        }
    }

    /// The fleet says whose turn it is; those before it have lost their connection.
    pub(super) fn on_next_ready(&mut self, turn: Option<usize>) -> Result<(), Violation> {
        loop {
            let next = self.queue.pop_front();
            if let Some(id) = next {
                self.peers[id].is_queued = false;
                if !self.is_connected(id) {
                    continue;
                }
            }
            ensure!(next == turn, "it is the turn of {next:?}, not of {turn:?}");
            self.has_moved = true;
            return Ok(());
        }
    }

    /// A turn of reading has brought so many bytes, without an end.
    pub(super) fn on_read(&mut self, id: usize, bytes: usize, lines: Lines, now: Millis) {
        self.counters.bytes += bytes as u64;
        self.counters.lines += lines.lines;
        self.counters.malformed += lines.malformed;
        self.counters.too_long += lines.too_long;
        if let State::Connected { read_last, busy_last, .. } = &mut self.peers[id].state {
            *busy_last = now;
            if bytes > 0 {
                self.moves += 1;
                *read_last = now;
                self.peers[id].is_out = false;
            }
        }
    }

    pub(super) fn on_sink_full(&mut self, id: usize) {
        self.peers[id].is_queued = true;
        self.queue.push_front(id);
    }

    // What the fleet does.

    /// What it asked for when it was told of something other than the time.
    pub(super) fn check_asked(&mut self, asked: &[(usize, Action)]) -> Result<(), Violation> {
        for &(id, action) in asked {
            self.has_moved = true;
            self.take(id, action)?;
        }
        self.check_owed()
    }

    /// What it asked for when it was told the time.
    pub(super) fn check_timed(
        &mut self,
        asked: &[(usize, Action)],
        tails: &[bool],
        now: Millis,
        chance: &mut Chance<'_>,
    ) -> Result<(), Violation> {
        for (id, has_tail) in tails.iter().enumerate() {
            let mine = |wanted: fn(Action) -> bool| {
                asked.iter().any(|&(whose, action)| whose == id && wanted(action))
            };
            let dials = mine(|action| action != Action::Close);
            let closes = mine(|action| action == Action::Close);
            self.pass_time(id, dials, closes, *has_tail, now, chance)?;
        }
        self.check_asked(asked)?;
        self.timed_until = now;
        Ok(())
    }

    fn pass_time(
        &mut self,
        id: usize,
        dials: bool,
        closes: bool,
        has_tail: bool,
        now: Millis,
        chance: &mut Chance<'_>,
    ) -> Result<(), Violation> {
        let alarm_at = self.peers[id].down_since.saturating_add(DOWN_ALARM);
        if self.is_down(id) && (self.timed_until + 1..=now).contains(&alarm_at) {
            chance.saw(Kind::DownForLong);
            self.has_moved = true;
        }
        if self.is_down(id) && self.give_up_at(id) <= now {
            self.give_up(id, chance);
            return Ok(());
        }
        match self.peers[id].state {
            State::Waiting { since, low, high } if dials => {
                ensure!(now >= since + low, "dials {id} at {now}, before {since} + {low}");
                if high == self.rules.delay_bounds(u32::MAX).1 {
                    chance.saw(Kind::DelayAtTheCap);
                }
                self.begin(id, now, chance);
            }
            State::Waiting { since, high, .. } => {
                ensure!(since + high > now, "does not dial {id} at {now}, {since} + {high}");
            }
            State::Resolving { deadline, .. } if deadline <= now => {
                chance.saw(Kind::ResolveTimedOut);
                self.fail(id, false, now, chance);
            }
            State::Connecting { .. } => {
                // After a jump of the clock, the time of the other addresses may be over, too.
                while let State::Connecting { deadline, .. } = self.peers[id].state
                    && deadline <= now
                {
                    chance.saw(Kind::ConnectTimedOut);
                    self.try_next(id, now, chance);
                }
            }
            State::Connected { read_last, busy_last, .. } => {
                let is_queued = self.peers[id].is_queued;
                let idle = self.rules.idle_timeout.unwrap_or(Millis::MAX);
                if is_queued && read_last.saturating_add(idle) <= now {
                    // It is woken, and is not idle, for its bytes wait for room.
                    self.has_moved = true;
                }
                if closes {
                    let is_idle = read_last.saturating_add(idle) <= now && !is_queued;
                    ensure!(is_idle, "drops {id} at {now}, though it is not idle");
                    chance.saw(Kind::IdleLost);
                    self.lose(id, false, has_tail, now, chance);
                } else {
                    let is_idle = busy_last.saturating_add(idle) <= now && !is_queued;
                    ensure!(!is_idle, "keeps {id} at {now}, though it is idle");
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, id: usize, action: Action) -> Result<(), Violation> {
        let peer = &mut self.peers[id];
        match action {
            Action::Close => {}
            Action::Connect(address) => {
                let owed = peer.owed.pop_front();
                ensure!(owed == Some(address), "{id} dials {address}, not {owed:?}");
            }
            Action::Resolve { attempt: asked } => {
                ensure!(std::mem::take(&mut peer.owes_lookup), "{id} resolves unasked");
                ensure!(asked != peer.last_attempt, "{id} resolves twice for attempt {asked}");
                peer.last_attempt = asked;
                if let State::Resolving { attempt, .. } = &mut peer.state {
                    *attempt = Some(asked);
                }
            }
        }
        Ok(())
    }

    fn check_owed(&self) -> Result<(), Violation> {
        for (id, peer) in self.peers.iter().enumerate() {
            ensure!(
                peer.owed.is_empty() && !peer.owes_lookup,
                "{id} did not ask for what was due: {peer:?}"
            );
        }
        Ok(())
    }

    /// After a turn: a timer for each link that needs one, none for the others, and each at its time.
    /// None is past that was due when the fleet was `told` the time.
    pub(super) fn check_deadlines(&self, fleet: &Fleet, told: Millis) -> Result<(), Violation> {
        let mut first = None;
        for id in 0..self.peers.len() {
            let (deadline, bounds) = (fleet.deadline(id), self.deadline_bounds(id, told));
            let is_right = match (deadline, &bounds) {
                (Some(at), Some(bounds)) => bounds.contains(&at),
                (None, None) => true,
                _ => false,
            };
            ensure!(
                is_right,
                "{id} has a timer at {deadline:?}, not {bounds:?}: {}",
                self.state(id)
            );
            first = first.into_iter().chain(deadline).min();
        }
        let next = fleet.next_deadline();
        ensure!(next.is_none_or(|at| at > told), "{next:?} is past at {told}");
        let is_right = next.is_some() == first.is_some() && next <= first;
        ensure!(is_right, "the next deadline is {next:?}, but the first {first:?}");
        Ok(())
    }

    /// When a link's timer may be due; `None` if it must not have one.
    fn deadline_bounds(&self, id: usize, told: Millis) -> Option<RangeInclusive<Millis>> {
        let peer = &self.peers[id];
        let (seen, low, high) = match peer.state {
            // With the failure, the fleet has seen how late it was.
            State::Waiting { since, low, high } => (told.max(since), since + low, since + high),
            State::Resolving { deadline, .. } | State::Connecting { deadline, .. } => {
                (told, deadline, deadline)
            }
            State::Connected { since, busy_last, .. } => {
                let idle = self.rules.idle_timeout?;
                // The timer is moved when it is due, not with each read.
                let busy_last = if peer.is_queued { told.max(busy_last) } else { busy_last };
                return Some(since + idle..=busy_last + idle);
            }
            State::Ended => return None,
        };
        let alarm_at = peer.down_since + DOWN_ALARM;
        let alarm_at = if alarm_at > seen { alarm_at } else { Millis::MAX };
        let outage_at = alarm_at.min(self.give_up_at(id));
        Some(low.min(outage_at)..=high.min(outage_at))
    }

    pub(super) fn begin_turn(&mut self) {
        self.has_moved = false;
    }

    /// After a turn that nothing but the clock has called for.
    pub(super) fn check_wake(&mut self, chance: &mut Chance<'_>) -> Result<(), Violation> {
        if !self.has_moved {
            self.spare_wakes += 1;
            chance.saw(Kind::SpareWake);
            let (spare, moves) = (self.spare_wakes, self.moves);
            ensure!(spare <= moves, "{spare} wake-ups for nothing, with {moves} timers moved");
        }
        Ok(())
    }

    pub(super) fn spare_wakes(&self) -> u64 {
        self.spare_wakes
    }

    pub(super) fn check_totals(&self, totals: (Counters, usize)) -> Result<(), Violation> {
        ensure!(totals.0 == self.counters, "{:?}, but it was {:?}", totals.0, self.counters);
        ensure!(totals.1 == self.failed, "{} failed, but it was {}", totals.1, self.failed);
        Ok(())
    }

    /// The fleet has been shut down; these links held a tail.
    pub(super) fn on_shut_down(&mut self, tails: &[bool]) {
        for (id, has_tail) in tails.iter().enumerate() {
            self.counters.cut += u64::from(self.is_connected(id) && *has_tail);
            self.peers[id].state = State::Ended;
        }
    }

    // The contract.

    fn is_down(&self, id: usize) -> bool {
        self.peers[id].is_begun && !self.is_connected(id) && !self.has_ended(id)
    }

    fn give_up_at(&self, id: usize) -> Millis {
        let down_since = self.peers[id].down_since;
        self.rules.give_up_after.map_or(Millis::MAX, |span| down_since.saturating_add(span))
    }

    fn give_up(&mut self, id: usize, chance: &mut Chance<'_>) {
        chance.saw(Kind::GivenUp);
        self.has_moved = true;
        self.moves += 1;
        self.failed += 1;
        self.peers[id].state = State::Ended;
    }

    fn begin(&mut self, id: usize, now: Millis, chance: &mut Chance<'_>) {
        let deadline = now.saturating_add(self.rules.connect_timeout);
        let peer = &mut self.peers[id];
        if !peer.is_begun {
            (peer.is_begun, peer.down_since) = (true, now);
        }
        self.moves += 1;
        match peer.server.host() {
            Host::Name(_) => {
                peer.owes_lookup = true;
                peer.state = State::Resolving { attempt: None, deadline };
            }
            Host::Ip(ip) => {
                let rest = [SocketAddr::new(*ip, peer.server.port())].into();
                peer.state = State::Connecting { rest, deadline, attempt_deadline: deadline };
                self.connect(id, now, chance);
            }
        }
    }

    fn try_next(&mut self, id: usize, now: Millis, chance: &mut Chance<'_>) {
        if let State::Connecting { rest, .. } = &self.peers[id].state
            && !rest.is_empty()
        {
            chance.saw(Kind::NextAddressTried);
        }
        self.connect(id, now, chance);
    }

    /// Tries the next address, which gets an equal share of the attempt's time.
    fn connect(&mut self, id: usize, now: Millis, chance: &mut Chance<'_>) {
        self.has_moved = true;
        self.moves += 1;
        let peer = &mut self.peers[id];
        let State::Connecting { rest, deadline, attempt_deadline } = &mut peer.state else {
            return;
        };
        let sharers = rest.len() as u64;
        let Some(address) = rest.pop_front() else {
            return self.fail(id, false, now, chance);
        };
        *deadline = now + attempt_deadline.saturating_sub(now).div_ceil(sharers);
        peer.owed.push_back(address);
    }

    fn lose(
        &mut self,
        id: usize,
        is_closed: bool,
        has_tail: bool,
        now: Millis,
        chance: &mut Chance<'_>,
    ) {
        let peer = &mut self.peers[id];
        let State::Connected { since, .. } = peer.state else { return };
        if now - since >= self.rules.threshold {
            if peer.retries > 0 {
                chance.saw(Kind::BackoffStartedOver);
            }
            (peer.retries, peer.is_out) = (0, false);
        }
        if !peer.is_out {
            peer.down_since = now;
        }
        if has_tail {
            self.counters.cut += 1;
            chance.saw(Kind::Cut);
        }
        self.fail(id, is_closed, now, chance);
    }

    fn fail(&mut self, id: usize, is_well: bool, now: Millis, chance: &mut Chance<'_>) {
        self.has_moved = true;
        self.moves += 1;
        self.counters.failures += u64::from(!(self.rules.once && is_well));
        let peer = &mut self.peers[id];
        peer.is_out = true;
        if self.rules.once {
            chance.saw(if is_well { Kind::OnceEndedWell } else { Kind::OnceEndedBadly });
            self.failed += usize::from(!is_well);
            peer.state = State::Ended;
            return;
        }
        let (low, high) = self.rules.delay_bounds(peer.retries);
        peer.retries = peer.retries.saturating_add(1);
        peer.state = State::Waiting { since: now, low, high };
        if self.give_up_at(id) <= now {
            self.give_up(id, chance);
        }
    }
}
