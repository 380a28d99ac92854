//! Keeps the servers of one worker: links, timers, sockets, and the order in which connections are read.
//!
//! A [`Fleet`] does no I/O: it has no socket, no clock and no thread. Its driver, a
//! [`Worker`](crate::proto::worker::Worker),
//!
//! 1. reports readiness with [`on_ready`](Fleet::on_ready) and everything else with
//!    [`handle`](Fleet::handle),
//! 2. reports the time with [`on_time`](Fleet::on_time),
//! 3. carries out all that [`next_action`](Fleet::next_action) yields, before the next event,
//! 4. begins a turn of reading with [`begin_reads`](Fleet::begin_reads) and reads with
//!    [`next_read`](Fleet::next_read) and [`read`](Fleet::read), and
//! 5. sleeps until [`next_deadline`](Fleet::next_deadline), or not at all while a connection
//!    [waits to be read](Fleet::has_ready).
//!
//! Calls that come too often or too late are no-ops, as are calls for a removed server or one in another state.
//!
//! # Which connection is read next
//!
//! A turn reads a bounded number of bytes, no matter how many connections are ready. Connections that had run
//! dry go first. Those with a backlog follow in rotation. So a quiet connection never waits for a busy one.
//! (fq_codel, RFC 8290, treats new and old flows alike.) Each turn reads at least one connection with a backlog,
//! so none of them starves.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use slab::Slab;

use crate::address::Server;
use crate::codec::Decoder;
use crate::proto::link::{Action, Context, Event, Link, Progress, ReadContext, Sink};
use crate::proto::link_id::{LinkId, LinkMap};
use crate::proto::notice::{Notice, Notices};
use crate::proto::policy::Policy;
use crate::proto::socket_id::SocketId;
use crate::proto::time::{Duration, Instant};
use crate::proto::wheel::Wheel;
use crate::stats::Counters;
use crate::stats::ServerStats;

/// The size in bytes of one read, and the most bytes that a connection is read before others have their turn.
pub const READ_SIZE: usize = 64 * 1024;

/// The most bytes that a turn reads from all connections together. Timers, attempts and quiet connections wait for
/// one turn, which takes about a millisecond beside thousands of busy connections. A larger budget was not faster.
pub const TURN_BUDGET: usize = 256 * 1024;

/// The cost in bytes of reading one connection, in addition to its bytes: about that of a system call. It bounds
/// the number of connections that a turn reads.
pub const READ_COST: usize = 2048;

const _: () = assert!(TURN_BUDGET >= READ_SIZE && READ_COST < READ_SIZE);

/// The most timers that expire in a turn: 16. Ten thousand servers that are due at once then do not delay the
/// connected ones. Each may begin an attempt, which takes up to 0.1 ms with its handshake on loopback. With 64 a turn
/// took 5 to 8 ms.
pub const TIMERS_PER_TURN: usize = 16;

/// The links of one worker.
#[derive(Debug)]
pub struct Fleet<D> {
    /// The index of the worker, for notices.
    index: usize,
    policy: Policy,
    decoder: D,
    notices: Box<dyn Notices + Send>,
    links: LinkMap<Member>,
    /// The sockets in use, each with the id of its link. A socket stays until its close is carried out, so that
    /// its number is not used again while its events may come.
    sockets: Slab<LinkId>,
    /// At most one timer per link, by the index of the link. It is due at the link's `wake_at`. For a connection
    /// that has received bytes since, it is due earlier.
    wheel: Wheel,
    rng: SmallRng,
    /// The connections that had run dry and may be ready again, each once.
    fresh: VecDeque<LinkId>,
    /// The connections that had more to read after their last share, each once, in rotation.
    backlog: VecDeque<LinkId>,
    turn: Turn,
    actions: VecDeque<(LinkId, Action)>,
    /// The buffer that all links read to. Each copies the bytes that it keeps.
    scratch: Box<[u8]>,
    /// The number of links that have never been connected.
    unconnected: usize,
    /// The number of links that have not ended.
    alive: usize,
    /// The counters of removed links, and how many of these links had ended badly.
    removed: (Counters, usize),
    /// The time that the worker does not count: see [`Clock`](crate::proto::clock::Clock).
    lost: Duration,
}

#[derive(Debug)]
struct Member {
    link: Link,
    queue: Queue,
}

// There is one for each server, so its size decides the memory of a long list.
const _: () = assert!(size_of::<Member>() <= 184);

/// The queue in which a link waits to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    None,
    Fresh,
    Backlog,
}

/// The rest of this turn of reading.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    /// The connections of each queue that waited when the turn began and were not read since.
    fresh: usize,
    backlog: usize,
    /// The bytes left, including those of [`READ_COST`].
    budget: usize,
    /// Whether a connection with a backlog was read.
    has_read_backlog: bool,
}

/// A connection that is to be read now.
#[derive(Debug, PartialEq, Eq)]
pub struct NextRead {
    /// The link's id.
    pub id: LinkId,
    /// The connection's socket.
    pub socket: SocketId,
    is_fresh: bool,
}

/// The role of a socket for its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketRole {
    /// It is being connected.
    Connecting {
        /// The link's id.
        id: LinkId,
    },
    /// It is the connection.
    Connected {
        /// The link's id.
        id: LinkId,
    },
    /// It is to be closed, or it is unknown.
    None,
}

impl<D: Decoder> Fleet<D> {
    /// Makes an empty fleet of the worker `index`. `seed` decides the jitter.
    pub fn new(
        index: usize,
        policy: Policy,
        decoder: D,
        notices: Box<dyn Notices + Send>,
        seed: u64,
        now: Instant,
    ) -> Fleet<D> {
        Fleet {
            index,
            policy,
            decoder,
            notices,
            links: LinkMap::new(),
            sockets: Slab::new(),
            wheel: Wheel::new(now.as_millis()),
            rng: SmallRng::seed_from_u64(seed),
            fresh: VecDeque::new(),
            backlog: VecDeque::new(),
            turn: Turn::default(),
            actions: VecDeque::new(),
            scratch: vec![0; READ_SIZE].into(),
            unconnected: 0,
            alive: 0,
            removed: (Counters::default(), 0),
            lost: Duration::ZERO,
        }
    }

    /// Allocates the memory for so many more servers at once. A table that grows step by step leaves gaps in the heap,
    /// and is up to twice as long as needed.
    pub fn reserve(&mut self, servers: usize) {
        self.links.reserve(servers);
        self.sockets.reserve_exact(servers);
        self.wheel.reserve(servers);
    }

    /// Notes that the worker did not run for a time.
    pub(crate) fn note_standstill(&mut self, late: Duration) {
        self.notices.notice(Notice::StoodStill { worker: self.index, late });
    }

    /// Sets the time that the worker does not count. Published times include it.
    pub(crate) fn set_lost(&mut self, lost: Duration) {
        self.lost = lost;
    }

    /// Adds a server and returns its id, as [`add_published`](Fleet::add_published) does.
    pub fn add(&mut self, number: usize, server: Server, now: Instant) -> LinkId {
        self.add_published(Arc::new(ServerStats::new(number, self.index, server)), now)
    }

    /// Adds a server and returns its id. The next [`on_time`](Fleet::on_time) begins its first attempt. The sink
    /// gets its records with the number in `stats`, where its state and counters are published.
    pub fn add_published(&mut self, stats: Arc<ServerStats>, now: Instant) -> LinkId {
        stats.added(now.saturating_add(self.lost).as_millis());
        let id = self.links.insert_with(|id| Member {
            link: Link::new(id, Arc::clone(&stats), now),
            queue: Queue::None,
        });
        stats.set_handle(id.pack());
        self.unconnected += 1;
        self.alive += 1;
        self.arm(id);
        id
    }

    /// Removes a server, and returns whether there was one with this id.
    ///
    /// Its sockets are to be closed. Its other actions are not carried out. Its unfinished line is dropped and
    /// counts as truncated. Its counters stay in the [totals](Fleet::totals).
    pub fn remove(&mut self, id: LinkId, now: Instant) -> bool {
        let Some(mut member) = self.links.remove(id) else { return false };
        self.unqueue(id, member.queue);
        self.wheel.cancel(id.at());
        let link = &mut member.link;
        if link.ended().is_none() {
            self.alive -= 1;
            self.notices.notice(Notice::Ended { server: link.server() });
        }
        let mut cx = Context {
            now,
            policy: &self.policy,
            rng: &mut self.rng,
            notices: &mut *self.notices,
            actions: &mut self.actions,
            sockets: &mut self.sockets,
        };
        link.remove(&mut cx);
        link.publish(now, self.lost);
        let (counters, failed) = &mut self.removed;
        *counters += link.counters();
        *failed += usize::from(link.ended() == Some(false));
        if link.stats().connects() == 0 {
            self.one_less_unconnected();
        }
        true
    }

    /// Returns the server with this id, if there is one.
    pub fn server(&self, id: LinkId) -> Option<&Server> {
        Some(self.links.get(id)?.link.server())
    }

    /// Returns what is published of the server with this id, if there is one.
    pub fn stats(&self, id: LinkId) -> Option<&Arc<ServerStats>> {
        Some(self.links.get(id)?.link.stats())
    }

    /// Returns whether the server with this id is connected.
    pub fn is_connected(&self, id: LinkId) -> bool {
        self.links.get(id).is_some_and(|member| member.link.is_connected())
    }

    /// Returns the number of bytes held of the unfinished line of the server with this id.
    pub fn held(&self, id: LinkId) -> usize {
        self.links.get(id).map_or(0, |member| member.link.held())
    }

    /// Returns when the timer of the server with this id is due; `None` if it has none. A server that waits or
    /// connects has one. A connected server has one only with an idle timeout. It may be early by the time in which
    /// the connection has received bytes since it was set.
    pub fn deadline(&self, id: LinkId) -> Option<Instant> {
        self.links.get(id)?;
        self.wheel.deadline(id.at()).map(Instant::from_millis)
    }

    /// Returns when the next attempt of the server with this id begins; `None` if it is not waiting for one.
    pub fn next_attempt_at(&self, id: LinkId) -> Option<Instant> {
        self.links.get(id)?.link.next_attempt_at()
    }

    /// Returns the present role of a socket.
    pub fn role(&self, socket: SocketId) -> SocketRole {
        let Some(&id) = self.sockets.get(socket.0) else { return SocketRole::None };
        let Some(Member { link, .. }) = self.links.get(id) else { return SocketRole::None };
        if link.connection() == Some(socket) {
            SocketRole::Connected { id }
        } else if link.is_connecting(socket) {
            SocketRole::Connecting { id }
        } else {
            SocketRole::None
        }
    }

    /// Returns the number of sockets in use, including those that are to be closed.
    pub fn sockets_len(&self) -> usize {
        self.sockets.len()
    }

    /// Takes an event of a link. Call [`on_ready`](Fleet::on_ready) after [`Event::Connected`], because the event of
    /// the first bytes may have been the same.
    pub fn handle(&mut self, id: LinkId, event: Event, now: Instant) {
        let Some(member) = self.links.get_mut(id) else { return };
        let link = &mut member.link;
        if member.queue != Queue::None {
            // It has unread bytes, so it is not idle.
            link.not_idle(now);
        }
        let (was_connected, had_ended) = (link.is_connected(), link.ended().is_some());
        let mut cx = Context {
            now,
            policy: &self.policy,
            rng: &mut self.rng,
            notices: &mut *self.notices,
            actions: &mut self.actions,
            sockets: &mut self.sockets,
        };
        link.handle(event, &mut cx);
        link.publish(now, self.lost);
        if link.ended().is_some() && !had_ended {
            self.alive -= 1;
            self.notices.notice(Notice::Ended { server: link.server() });
        }
        if link.is_connected() && !was_connected && link.stats().connects() == 1 {
            self.one_less_unconnected();
        }
        self.arm(id);
    }

    /// Notes that a link was connected for the first time, or removed before that.
    fn one_less_unconnected(&mut self) {
        self.unconnected -= 1;
        // Without any link there is nothing to note.
        if self.unconnected == 0 && !self.links.is_empty() {
            self.notices.notice(Notice::AllConnected { worker: self.index });
        }
    }

    /// Notes that a connection may be ready to read. `read_on` means that a short read does not mean drained: see
    /// [`Link::read_on`].
    pub fn on_ready(&mut self, id: LinkId, read_on: bool) {
        let Some(member) = self.links.get_mut(id) else { return };
        if !member.link.is_connected() {
            return;
        }
        if read_on {
            member.link.read_on();
        }
        if member.queue == Queue::None {
            member.queue = Queue::Fresh;
            self.fresh.push_back(id);
        }
    }

    /// Returns whether a connection waits to be read.
    pub fn has_ready(&self) -> bool {
        !self.fresh.is_empty() || !self.backlog.is_empty()
    }

    /// Begins a turn of reading.
    pub fn begin_reads(&mut self) {
        self.turn = Turn {
            fresh: self.fresh.len(),
            backlog: self.backlog.len(),
            budget: TURN_BUDGET,
            has_read_backlog: false,
        };
    }

    /// Returns the connection to [read](Fleet::read) next; `None` ends the turn.
    pub fn next_read(&mut self) -> Option<NextRead> {
        while self.turn.fresh > 0 && self.turn.budget > 0 {
            self.turn.fresh -= 1;
            let id = self.fresh.pop_front()?;
            if let Some(next) = self.take_turn(id, true) {
                return Some(next);
            }
        }
        while self.turn.backlog > 0 && (self.turn.budget > 0 || !self.turn.has_read_backlog) {
            self.turn.backlog -= 1;
            let id = self.backlog.pop_front()?;
            if let Some(next) = self.take_turn(id, false) {
                self.turn.has_read_backlog = true;
                return Some(next);
            }
        }
        None
    }

    /// Takes a link out of the queue in which it waits to be read, and out of the count of this turn.
    fn unqueue(&mut self, id: LinkId, queue: Queue) {
        let (ids, left) = match queue {
            Queue::None => return,
            Queue::Fresh => (&mut self.fresh, &mut self.turn.fresh),
            Queue::Backlog => (&mut self.backlog, &mut self.turn.backlog),
        };
        let place = ids.iter().position(|queued| *queued == id).expect("it is in its queue");
        ids.remove(place);
        *left -= usize::from(place < *left);
    }

    /// Returns the next read of a link that left its queue, unless it has lost its connection meanwhile.
    fn take_turn(&mut self, id: LinkId, is_fresh: bool) -> Option<NextRead> {
        let member = self.links.get_mut(id)?;
        member.queue = Queue::None;
        let socket = member.link.connection()?;
        Some(NextRead { id, socket, is_fresh })
    }

    /// Reads up to [`READ_SIZE`] bytes of a connection. If there is more to read, the connection joins the backlog.
    ///
    /// `io` must be nonblocking. `short_read_means_drained` says whether a short read means that nothing is left,
    /// unless `on_ready` has reported otherwise. Returns whether the sink still has room. If it has none, nothing
    /// was read that it could not take, and the connection keeps its place.
    pub fn read(
        &mut self,
        next: NextRead,
        io: &mut impl Read,
        short_read_means_drained: bool,
        sink: &mut impl Sink<D::Record>,
        now: Instant,
    ) -> bool {
        let NextRead { id, socket, is_fresh } = next;
        let Some(member) = self.links.get_mut(id) else { return true };
        let bytes_before = member.link.stats().bytes();
        let mut cx = ReadContext {
            decoder: &self.decoder,
            notices: &mut *self.notices,
            now,
            policy: &self.policy,
            scratch: &mut self.scratch,
            short_read_means_drained,
        };
        let progress = member.link.read(io, sink, &mut cx);
        let bytes = member.link.stats().bytes() - bytes_before;
        if bytes > 0 {
            member.link.publish_received(now, self.lost);
        }
        member.link.publish(now, self.lost);
        let bytes = usize::try_from(bytes);
        let cost = bytes.unwrap_or(usize::MAX).saturating_add(READ_COST);
        self.turn.budget = self.turn.budget.saturating_sub(cost);
        match progress {
            Progress::Drained => {}
            Progress::More => {
                member.queue = Queue::Backlog;
                self.backlog.push_back(id);
            }
            Progress::SinkFull => {
                let (queue, ids) = match is_fresh {
                    true => (Queue::Fresh, &mut self.fresh),
                    false => (Queue::Backlog, &mut self.backlog),
                };
                member.queue = queue;
                ids.push_front(id);
                return false;
            }
            Progress::Failed(error) => self.handle(id, Event::Failed { socket, error }, now),
        }
        true
    }

    /// Wakes the links that are due, up to a bounded number. There are more if
    /// [`next_deadline`](Fleet::next_deadline) is still past.
    pub fn on_time(&mut self, now: Instant) {
        for _ in 0..TIMERS_PER_TURN {
            let Some(index) = self.wheel.expire(now.as_millis()) else { break };
            let id = self.links.id_at(index).expect("a timer has a link");
            self.handle(id, Event::Wake, now);
        }
    }

    /// Returns when to call [`on_time`](Fleet::on_time) next; `None` if nothing will be due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.wheel.next_deadline().map(Instant::from_millis)
    }

    /// Returns the next action and the id of its link. Of a removed link, only closes are left. The number of a
    /// socket that is to be closed may be used again from now on.
    pub fn next_action(&mut self) -> Option<(LinkId, Action)> {
        while let Some((id, action)) = self.actions.pop_front() {
            if let Action::Close(socket) = action {
                self.sockets.remove(socket.0);
            } else if self.links.get(id).is_none() {
                continue;
            }
            return Some((id, action));
        }
        None
    }

    /// Returns whether all links have ended or were removed, and no server will be added.
    pub fn is_finished(&self) -> bool {
        self.alive == 0 && !self.policy.stays
    }

    /// Begins the next attempt of all servers that wait for one with the next [`on_time`](Fleet::on_time).
    pub fn retry_now(&mut self, now: Instant) {
        let waiting: Vec<LinkId> = self.links.ids().collect();
        for id in waiting {
            if self.links.get_mut(id).is_some_and(|member| member.link.retry_now(now)) {
                self.arm(id);
            }
        }
    }

    /// Ends all links for good. The driver may close their sockets without further actions.
    pub fn shut_down(&mut self, now: Instant) {
        for member in self.links.values_mut() {
            member.link.shut_down(&mut *self.notices);
            member.link.publish(now, self.lost);
            member.queue = Queue::None;
        }
        self.alive = 0;
        self.fresh.clear();
        self.backlog.clear();
        self.actions.clear();
        self.sockets.clear();
    }

    /// Returns the counters of all links, removed ones included, and how many links have ended badly.
    pub fn totals(&self) -> (Counters, usize) {
        let (mut counters, mut failed) = self.removed;
        for member in self.links.values() {
            counters += member.link.counters();
            failed += usize::from(member.link.ended() == Some(false));
        }
        (counters, failed)
    }

    /// Sets the timer of a link to its next wake-up.
    fn arm(&mut self, id: LinkId) {
        match self.links.get(id).and_then(|member| member.link.wake_at(&self.policy)) {
            Some(deadline) => self.wheel.arm(id.at(), deadline.as_millis()),
            None => _ = self.wheel.cancel(id.at()),
        }
    }
}

#[cfg(test)]
mod tests;
