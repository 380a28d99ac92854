//! The servers of one worker: its links, their timers, and whose turn it is.
//!
//! A [`Fleet`] is the whole of a worker but for the I/O: no socket, no clock, no thread. Whoever drives
//! it, a poll loop or a simulator,
//!
//! 1. tells it of readiness with [`on_ready`](Fleet::on_ready) and of everything else with
//!    [`handle`](Fleet::handle),
//! 2. lets it read with [`next_ready`](Fleet::next_ready) and [`read`](Fleet::read),
//! 3. tells it the time with [`on_time`](Fleet::on_time),
//! 4. carries out all that [`next_action`](Fleet::next_action) yields, before the next event, and
//! 5. sleeps until [`next_deadline`](Fleet::next_deadline), or not at all while somebody
//!    [has a turn](Fleet::has_ready).
//!
//! Calls that come too often, too late, or for a server that is in another state by now are no-ops.

use std::collections::VecDeque;
use std::io::Read;

use log::info;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use slab::Slab;

use crate::link::{Action, Context, Counters, Event, Link, Millis, Policy, Progress, Sink};
use crate::server::Server;
use crate::wheel::Wheel;

/// The bytes that are taken from the system at once.
const READ_SIZE: usize = 64 * 1024;

/// The bytes that one connection may be read in a turn, so that a firehose starves neither its
/// neighbours nor the timers.
pub const READ_BUDGET: usize = 256 * 1024;

// A turn is a number of whole reads, each of whole pages.
const _: () = assert!(READ_BUDGET.is_multiple_of(READ_SIZE) && READ_SIZE.is_power_of_two());

/// The timers that may expire in a turn, so that ten thousand servers to be dialled at once do not keep
/// the connected ones waiting.
pub const TIMERS_PER_TURN: usize = 64;

/// The links of one worker.
#[derive(Debug)]
pub struct Fleet {
    /// The worker's number, for the log.
    index: usize,
    policy: Policy,
    links: Slab<Member>,
    /// One timer a link at most, at the link's `wake_at` or, for a connected one that has been heard
    /// of since, earlier.
    wheel: Wheel,
    rng: SmallRng,
    /// The connected links that may have something to read, each once.
    ready: VecDeque<usize>,
    actions: VecDeque<(usize, Action)>,
    /// Where all links read to: what they keep of it is theirs.
    scratch: Box<[u8]>,
    /// How many links have never been connected.
    unconnected: usize,
    /// How many links have not ended.
    alive: usize,
}

#[derive(Debug)]
struct Member {
    link: Link,
    /// Whether the link stands in `ready`.
    queued: bool,
}

impl Fleet {
    /// An empty fleet. `index` is the worker's number in the log, `seed` decides the jitter.
    pub fn new(index: usize, policy: Policy, seed: u64, now: Millis) -> Fleet {
        Fleet {
            index,
            policy,
            links: Slab::new(),
            wheel: Wheel::new(now),
            rng: SmallRng::seed_from_u64(seed),
            ready: VecDeque::new(),
            actions: VecDeque::new(),
            scratch: vec![0; READ_SIZE].into(),
            unconnected: 0,
            alive: 0,
        }
    }

    /// Adds a server, which is dialled at the next [`on_time`](Fleet::on_time), and returns its id:
    /// small, dense, and the same until the fleet is dropped.
    pub fn add(&mut self, server: Server, now: Millis) -> usize {
        let entry = self.links.vacant_entry();
        let id = entry.key();
        entry.insert(Member { link: Link::new(id, server, now), queued: false });
        self.unconnected += 1;
        self.alive += 1;
        self.arm(id);
        id
    }

    /// The server with this id.
    ///
    /// # Panics
    /// If no such id was handed out.
    pub fn server(&self, id: usize) -> &Server {
        self.links[id].link.server()
    }

    /// Whether the server with this id is connected.
    pub fn is_connected(&self, id: usize) -> bool {
        self.links.get(id).is_some_and(|member| member.link.is_connected())
    }

    /// The bytes that are held of the unfinished line of the server with this id.
    pub fn held(&self, id: usize) -> usize {
        self.links.get(id).map_or(0, |member| member.link.held())
    }

    /// When the timer of the server with this id is due, or `None` if it has none. One that waits or
    /// connects has one; a connected one only with an idle timeout, and it may be early by as long as
    /// the server has been heard of since it was set.
    pub fn deadline(&self, id: usize) -> Option<Millis> {
        self.wheel.deadline(id)
    }

    /// Tells what happened to a link. After [`Event::Connected`], [`on_ready`](Fleet::on_ready) is due:
    /// what came with the last step of the handshake may not be told of again.
    pub fn handle(&mut self, id: usize, event: Event, now: Millis) {
        let Some(member) = self.links.get_mut(id) else { return };
        let link = &mut member.link;
        if member.queued {
            // It has bytes that wait for room in the sink, so it is not idle.
            link.not_idle(now);
        }
        let (was_connected, had_ended) = (link.is_connected(), link.ended().is_some());
        let mut cx =
            Context { now, policy: &self.policy, rng: &mut self.rng, actions: &mut self.actions };
        link.handle(event, &mut cx);
        if link.ended().is_some() && !had_ended {
            self.alive -= 1;
        }
        if link.is_connected() && !was_connected && link.counters().connects == 1 {
            self.unconnected -= 1;
            if self.unconnected == 0 {
                info!("Initialized sockets and readers for task index {}", self.index);
            }
        }
        self.arm(id);
    }

    /// Tells that a link's socket may have something to read; `closing`, that the other side has
    /// shut it down or reset it.
    pub fn on_ready(&mut self, id: usize, closing: bool) {
        let Some(member) = self.links.get_mut(id) else { return };
        if !member.link.is_connected() {
            return;
        }
        if closing {
            member.link.closing();
        }
        if !member.queued {
            member.queued = true;
            self.ready.push_back(id);
        }
    }

    /// Whether a connection waits for its turn to be read.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many connections wait for their turn to be read.
    pub fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// Takes the connection whose turn it is to be [read](Fleet::read).
    pub fn next_ready(&mut self) -> Option<usize> {
        while let Some(id) = self.ready.pop_front() {
            let member = &mut self.links[id];
            member.queued = false;
            if member.link.is_connected() {
                return Some(id);
            }
        }
        None
    }

    /// Reads a connection for one turn; one that has more gets another turn after the others.
    ///
    /// `io` must be nonblocking, and may return fewer bytes than asked for only when it has no more
    /// for now, as a stream socket does. Returns whether the sink still has room; if not, nothing
    /// was read that it could not take, and the connection keeps its turn.
    pub fn read(
        &mut self,
        id: usize,
        io: &mut impl Read,
        sink: &mut impl Sink,
        now: Millis,
    ) -> bool {
        let Some(member) = self.links.get_mut(id) else { return true };
        let scratch = &mut self.scratch;
        match member.link.read(io, scratch, READ_BUDGET, sink, &self.policy, now) {
            Progress::Drained => {}
            Progress::More => self.on_ready(id, false),
            Progress::SinkFull => {
                if !member.queued {
                    member.queued = true;
                    self.ready.push_front(id);
                }
                return false;
            }
            Progress::Failed(cause) => self.handle(id, Event::Failed(cause), now),
        }
        true
    }

    /// Wakes the links whose time has come, a bounded number of them: if
    /// [`next_deadline`](Fleet::next_deadline) is past after this, there are more.
    pub fn on_time(&mut self, now: Millis) {
        for _ in 0..TIMERS_PER_TURN {
            let Some(id) = self.wheel.expire(now) else { break };
            self.handle(id, Event::Wake, now);
        }
    }

    /// When to call [`on_time`](Fleet::on_time) next; `None` if nothing is due, ever.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.wheel.next_deadline()
    }

    /// What is to be done next, and for whom.
    pub fn next_action(&mut self) -> Option<(usize, Action)> {
        self.actions.pop_front()
    }

    /// Whether all links have ended.
    pub fn is_finished(&self) -> bool {
        self.alive == 0
    }

    /// Ends all links for good; their sockets may be closed without being asked for.
    pub fn shut_down(&mut self) {
        for (_, member) in &mut self.links {
            member.link.shut_down();
        }
        self.alive = 0;
        self.ready.clear();
        self.actions.clear();
    }

    /// What all links have done so far, and how many of them have ended badly.
    pub fn totals(&self) -> (Counters, usize) {
        let mut counters = Counters::default();
        let mut failed = 0;
        for (_, member) in &self.links {
            counters += member.link.counters();
            failed += usize::from(member.link.ended() == Some(false));
        }
        (counters, failed)
    }

    /// Sets the link's timer to when it wants to be woken.
    fn arm(&mut self, id: usize) {
        match self.links[id].link.wake_at(&self.policy) {
            Some(deadline) => self.wheel.arm(id, deadline),
            None => _ = self.wheel.cancel(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigBuilder};
    use crate::link::MIN_ROOM;
    use std::io;
    use std::time::Duration;

    /// A fleet of so many servers with addresses, all dialled, and its numbers.
    fn fleet(servers: usize, adjust: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Fleet {
        let server: Server = "127.0.0.1:8001".parse().unwrap();
        let builder = Config::builder().servers([server.clone()]).jitter_factor(0.0);
        let policy = Policy::from(&adjust(builder).build().unwrap());
        let mut fleet = Fleet::new(0, policy, 1, 0);
        for id in 0..servers {
            assert_eq!(fleet.add(server.clone(), 0), id);
        }
        fleet
    }

    fn connect_all(fleet: &mut Fleet, now: Millis) {
        while fleet.next_deadline().is_some_and(|deadline| deadline <= now) {
            fleet.on_time(now);
        }
        while let Some((id, action)) = fleet.next_action() {
            if let Action::Connect(_) = action {
                fleet.handle(id, Event::Connected, now);
            }
        }
    }

    struct Numbers {
        numbers: Vec<i64>,
        room: usize,
    }

    impl Sink for Numbers {
        fn room(&mut self, _: usize) -> usize {
            self.room
        }
        fn push(&mut self, numbers: &[i64]) {
            self.numbers.extend_from_slice(numbers);
        }
    }

    fn numbers() -> Numbers {
        Numbers { numbers: Vec::new(), room: 1 << 20 }
    }

    #[test]
    fn a_firehose_waits_for_the_others_after_its_budget() {
        let mut fleet = fleet(2, |config| config);
        connect_all(&mut fleet, 0);
        fleet.on_ready(0, false);
        fleet.on_ready(1, false);
        fleet.on_ready(0, false);
        assert_eq!(fleet.ready_len(), 2, "each stands in the queue once");
        let mut sink = numbers();
        assert_eq!(fleet.next_ready(), Some(0));
        assert!(fleet.read(0, &mut io::repeat(b'\n'), &mut sink, 0));
        assert_eq!(fleet.totals().0.bytes, READ_BUDGET as u64);
        assert_eq!(fleet.next_ready(), Some(1));
        assert_eq!(fleet.next_ready(), Some(0), "it has more, and no event will tell");
        assert_eq!(fleet.next_ready(), None);
    }

    #[test]
    fn a_full_sink_keeps_the_turn_and_waiting_for_room_is_not_idle() {
        let mut fleet = fleet(1, |config| config.idle_timeout(Duration::from_secs(5)));
        connect_all(&mut fleet, 0);
        fleet.on_ready(0, false);
        assert_eq!(fleet.next_ready(), Some(0));
        let mut sink = Numbers { numbers: Vec::new(), room: MIN_ROOM - 1 };
        assert!(!fleet.read(0, &mut &b"6\n"[..], &mut sink, 0));
        assert!(fleet.has_ready());
        fleet.on_time(5000);
        assert!(fleet.is_connected(0));
        assert_eq!(fleet.next_deadline(), Some(10_000));
        assert_eq!(fleet.next_ready(), Some(0));
        assert!(fleet.read(0, &mut &b"6\n"[..], &mut numbers(), 5000));
    }

    #[test]
    fn calls_that_do_not_fit_are_no_ops() {
        let mut fleet = fleet(1, |config| config);
        fleet.on_ready(0, true);
        fleet.on_ready(99, true);
        fleet.handle(99, Event::Connected, 0);
        fleet.handle(0, Event::Connected, 0);
        assert!(fleet.read(99, &mut io::empty(), &mut numbers(), 0));
        assert!(!fleet.is_connected(0) && !fleet.is_connected(99));
        assert_eq!((fleet.next_ready(), fleet.next_action()), (None, None));
        assert_eq!(fleet.next_deadline(), Some(0));
    }

    #[test]
    fn a_lost_connection_loses_its_turn() {
        let mut fleet = fleet(2, |config| config);
        connect_all(&mut fleet, 0);
        fleet.on_ready(0, false);
        fleet.on_ready(1, false);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        fleet.handle(0, Event::Failed(reset.into()), 0);
        assert_eq!(fleet.next_ready(), Some(1));
        assert_eq!(fleet.next_action(), Some((0, Action::Close)));
        assert_eq!(fleet.next_deadline(), Some(1000));
    }

    #[test]
    fn more_timers_than_a_turn_takes_stay_due() {
        let mut fleet = fleet(TIMERS_PER_TURN + 1, |config| config);
        fleet.on_time(0);
        assert_eq!(fleet.actions.len(), TIMERS_PER_TURN);
        assert_eq!(fleet.next_deadline(), Some(0));
        fleet.on_time(0);
        assert_eq!(fleet.actions.len(), TIMERS_PER_TURN + 1);
    }

    #[test]
    fn connected_and_quiet_nothing_is_due() {
        let mut fleet = fleet(3, |config| config);
        connect_all(&mut fleet, 0);
        assert_eq!(fleet.next_deadline(), None);
        assert!(!fleet.has_ready() && fleet.next_action().is_none());
        assert_eq!(fleet.unconnected, 0);
    }

    #[test]
    fn a_fleet_is_finished_when_its_last_link_has_ended() {
        let mut fleet = fleet(3, |config| config.once(true));
        connect_all(&mut fleet, 0);
        for id in [0, 1] {
            fleet.on_ready(id, true);
            assert!(fleet.read(id, &mut &b"6\n"[..], &mut numbers(), 0));
        }
        assert!(!fleet.is_finished());
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        fleet.handle(2, Event::Failed(reset.into()), 0);
        assert!(fleet.is_finished());
        assert_eq!(fleet.totals().1, 1, "one of them badly");
    }

    #[test]
    fn what_is_held_is_the_unfinished_line() {
        let mut fleet = fleet(2, |config| config);
        connect_all(&mut fleet, 0);
        fleet.on_ready(1, false);
        assert!(fleet.read(1, &mut &b"6\n12"[..], &mut numbers(), 0));
        assert_eq!([fleet.held(0), fleet.held(1), fleet.held(99)], [0, 2, 0]);
    }

    #[test]
    fn who_waits_or_connects_has_a_timer_and_who_is_connected_only_with_an_idle_timeout() {
        for idle_ms in [None, Some(5000)] {
            let mut fleet =
                fleet(2, |config| config.idle_timeout(idle_ms.map(Duration::from_millis)));
            assert_eq!([fleet.deadline(0), fleet.deadline(1)], [Some(0), Some(0)], "waiting");
            fleet.on_time(0);
            assert_eq!([fleet.deadline(0), fleet.deadline(1)], [Some(10_000), Some(10_000)]);
            fleet.handle(1, Event::Connected, 7);
            let idle_at = idle_ms.map(|idle| 7 + idle);
            assert_eq!([fleet.deadline(0), fleet.deadline(1)], [Some(10_000), idle_at]);
            assert_eq!(fleet.deadline(99), None);
        }
    }

    #[test]
    fn shutting_down_counts_what_is_cut() {
        let mut fleet = fleet(1, |config| config);
        connect_all(&mut fleet, 0);
        let mut sink = numbers();
        fleet.on_ready(0, false);
        fleet.read(0, &mut &b"6\n12"[..], &mut sink, 0);
        fleet.shut_down();
        assert_eq!((sink.numbers, fleet.totals().0.cut), (vec![6], 1));
        assert!(fleet.is_finished() && fleet.next_ready().is_none());
    }
}
