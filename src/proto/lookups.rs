//! Decides which name is looked up next, on which thread, and how many threads there are.
//!
//! The system's lookup blocks its thread and cannot be canceled. It takes 10 s when a name server does not
//! answer, and some name services never return. [`Lookups`] keeps such names from delaying the others. It
//! uses no thread and no clock. The owner reports each request and each lookup that has ended, carries out
//! each [`Order`], and waits until [`Lookups::next_deadline`].
//!
//! - **Lanes.** A name waits in one of three lanes, by the duration of its last lookup: [`Lane`]. A lane is
//!   served only while the earlier lanes are empty. The later lanes leave some threads to the earlier ones.
//! - **Growth.** [`FEW`] threads start immediately. More start only while names wait, in steps: every
//!   [`STEP_MS`] the number of lookups under way may double. It grows up to [`MANY`], not counting lookups
//!   that hang, and only while more threads make more lookups return. So a few threads serve many names that
//!   are answered promptly, and the name server gets no burst of queries. When nearly all lookups hang, the
//!   names in the queue get all threads in eight steps.
//! - **Shrinking.** A thread that was idle for [`IDLE_MS`] ends, except for the last [`FEW`]. Those wait
//!   without a deadline.
//! - **Sharing.** A name has at most one lookup at a time. All requests during a lookup get the same answer.
//!   No answer is kept after that.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use slab::Slab;

/// The number of lookups that start without a delay, and of idle threads that are kept.
const FEW: usize = 4;

/// The most lookups under way that do not hang.
///
/// Each makes two queries, and some forwarders take at most 150 at once (the default of dnsmasq).
const MANY: usize = 64;

/// The number of lookups for each one that returns above which nearly all lookups hang.
///
/// Then the number of lookups doubles beyond `MANY`, too.
const NEARLY_ALL: usize = 16;

/// The most lookups under way, including those that hang.
const MOST: usize = 1000;

/// The least value of the most lookups under way, as a smaller one has no capacity for the reserves.
const FEWEST: usize = 16;

/// The time in milliseconds from one step of growth to the next: most lookups return within it.
const STEP_MS: u64 = 100;

/// The number of steps in which the queue must become empty for the pool not to grow.
const STEPS_TO_CLEAR: usize = 5;

/// The duration in milliseconds from which on a lookup is slow.
///
/// The shortest timeout of the system's resolver is a second. So each lookup with a timeout is slow.
const SLOW_MS: u64 = 1000;

/// The time in milliseconds after which an idle thread ends.
///
/// It is longer than a hanging lookup. So a pool that is needed repeatedly is not rebuilt each time.
const IDLE_MS: u64 = 15_000;

/// The pause in milliseconds after the system has refused a thread.
const REFUSED_MS: u64 = 1000;

/// The least number of names whose last lookup is remembered. The most is twice as many.
const REMEMBERED: usize = 65_536;

/// The number of lanes.
const LANES: usize = 3;

const _: () = assert!(FEW < MANY && MANY < bounds(MOST)[2]);
const _: () = assert!(FEW < bounds(FEWEST)[2] && bounds(FEWEST)[2] < bounds(FEWEST)[1]);

/// Returns the most lookups under way by lane, if `most` is the most of all.
///
/// A lookup of a lane starts only while fewer are under way in all lanes together. The other threads are a
/// reserve for the earlier lanes in case all of these lookups hang. The reserve is at least [`FEW`].
///
/// Half of 1,000 is enough for 3,000 names that each hang for 10 s and are requested again after 60 s.
const fn bounds(most: usize) -> [usize; LANES] {
    let reserve = if most / 10 > FEW { most / 10 } else { FEW };
    [most, most - reserve, most / 2]
}

/// The lane in which a name waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// The last lookup of the name was prompt, with an address or an error.
    Prompt = 0,
    /// No last lookup of the name is remembered.
    New = 1,
    /// The last lookup of the name was slow.
    Slow = 2,
}

/// An action that the owner carries out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Start a thread that looks up this name. If that fails, call [`Lookups::refused`] next.
    Start { thread: usize, name: Box<str> },
    /// Look up this name on an idle thread.
    LookUp { thread: usize, name: Box<str> },
    /// End an idle thread. Another thread may get its number.
    End { thread: usize },
}

/// The requested names, and the threads that look them up.
///
/// Call [`ask`](Self::ask) for each request and [`found`](Self::found) for each lookup that has ended. After
/// each, and at [`next_deadline`](Self::next_deadline), call [`next_order`](Self::next_order) until it
/// returns `None`.
///
/// `W` is a waiter: the data with which the owner delivers an answer. Moments are milliseconds since any
/// epoch.
#[derive(Debug)]
pub(crate) struct Lookups<W> {
    /// The waiters, by name.
    ///
    /// Invariant: it holds a name if and only if one queue or one busy thread has that name.
    waiting: HashMap<Box<str>, Vec<W>>,
    /// The names that wait for a thread, by lane.
    queues: [VecDeque<Box<str>>; LANES],
    /// The lookup of each thread, by the thread's number; `None` if the thread is idle.
    threads: Slab<Option<Running>>,
    /// The idle threads, in the order in which they became idle.
    idle: VecDeque<Idle>,
    /// The most lookups under way for another to start, by lane. See [`bounds`].
    bounds: [usize; LANES],
    /// The number of lookups under way, by lane. Invariant: the sum is at most `bounds[0]`.
    running: [usize; LANES],
    /// The growth of the pool, present only while a name waits because no idle thread is free for it.
    growth: Option<Growth>,
    /// The end of the pause after the system has refused a thread. No thread starts earlier.
    refused_until_ms: u64,
    history: History,
}

/// A lookup under way.
#[derive(Debug)]
struct Running {
    name: Box<str>,
    lane: Lane,
    since_ms: u64,
}

/// An idle thread.
#[derive(Debug)]
struct Idle {
    thread: usize,
    since_ms: u64,
}

/// The growth of the pool while names wait.
#[derive(Debug)]
struct Growth {
    /// The moment at which the next step is due.
    due_ms: u64,
    /// The number of lookups that have returned since the last step.
    returned: usize,
    /// The number of lookups that returned in the previous step, if there was one.
    returned_before: Option<usize>,
    /// The most lookups under way that do not hang. Invariant: at most `MANY`.
    live: usize,
    /// The number of lookups that had returned when `live` last grew.
    returned_at_growth: usize,
    /// The number of threads that may still start in this step.
    granted: usize,
}

impl<W> Lookups<W> {
    /// Makes a state without names and threads.
    ///
    /// At most `most` lookups will be under way, within the bounds [`FEWEST`] and [`MOST`].
    pub(crate) fn new(most: usize) -> Lookups<W> {
        Lookups {
            bounds: bounds(most.clamp(FEWEST, MOST)),
            waiting: HashMap::new(),
            queues: Default::default(),
            threads: Slab::new(),
            idle: VecDeque::new(),
            running: [0; LANES],
            growth: None,
            refused_until_ms: 0,
            history: History::default(),
        }
    }

    /// Adds `waiter` to the waiters for the answer to `name`.
    pub(crate) fn ask(&mut self, name: Box<str>, waiter: W) {
        match self.waiting.entry(name) {
            Entry::Occupied(mut waiting) => waiting.get_mut().push(waiter),
            Entry::Vacant(vacant) => {
                let lane = self.history.lane(vacant.key());
                self.queues[lane as usize].push_back(vacant.key().clone());
                vacant.insert(vec![waiter]);
            }
        }
    }

    /// Ends the lookup of `thread`, which has returned. Returns the waiters for its answer.
    pub(crate) fn found(&mut self, thread: usize, now_ms: u64) -> Vec<W> {
        let Running { name, lane, since_ms } =
            self.threads[thread].take().expect("a lookup returns once");
        let lane_next = if is_slow(since_ms, now_ms) { Lane::Slow } else { Lane::Prompt };
        self.history.note(&name, lane_next);
        self.running[lane as usize] -= 1;
        self.idle.push_back(Idle { thread, since_ms: now_ms });
        if let Some(growth) = &mut self.growth {
            growth.returned += 1;
        }
        self.waiting.remove(&name).expect("a name is waited for until its answer")
    }

    /// Removes `thread`, which the system has refused to start.
    ///
    /// Its name waits for another thread. Without any thread, this returns all waiters, and the owner
    /// delivers the error to them.
    pub(crate) fn refused(&mut self, thread: usize, now_ms: u64) -> Vec<W> {
        let running = self.threads.remove(thread).expect("it was to be started with a name");
        self.running[running.lane as usize] -= 1;
        self.queues[running.lane as usize].push_front(running.name);
        if !self.threads.is_empty() {
            self.refused_until_ms = now_ms + REFUSED_MS;
            return Vec::new();
        }
        self.queues.iter_mut().for_each(VecDeque::clear);
        self.waiting.drain().flat_map(|(_, waiters)| waiters).collect()
    }

    /// Returns the number of threads, idle or not.
    pub(crate) fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Returns the moment at which to call [`next_order`](Self::next_order) if nothing happens earlier.
    ///
    /// `None` means that only a request or the end of a lookup can change the state.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let growth = self.growth.as_ref().map(|growth| growth.due_ms);
        let idle = self.idle.front().filter(|_| self.idle.len() > FEW);
        growth.into_iter().chain(idle.map(|idle| idle.since_ms + IDLE_MS)).min()
    }

    /// Returns the next action, or `None` if there is none now.
    pub(crate) fn next_order(&mut self, now_ms: u64) -> Option<Order> {
        let Some(lane) = self.next_lane() else {
            self.growth = None;
            return self.end_idle(now_ms);
        };
        if self.idle.len() > self.spare(lane)
            && let Some(Idle { thread, .. }) = self.idle.pop_back()
        {
            let running = self.take(lane, now_ms);
            let name = running.name.clone();
            self.threads[thread] = Some(running);
            return Some(Order::LookUp { thread, name });
        }
        self.may_start(lane, now_ms).then(|| {
            let running = self.take(lane, now_ms);
            let name = running.name.clone();
            Order::Start { thread: self.threads.insert(Some(running)), name }
        })
    }

    /// Returns the first lane that is not empty, if its first name may have a thread.
    fn next_lane(&self) -> Option<Lane> {
        let lanes = [Lane::Prompt, Lane::New, Lane::Slow];
        let lane = lanes.into_iter().find(|&lane| !self.queues[lane as usize].is_empty())?;
        (self.running.iter().sum::<usize>() < self.bounds[lane as usize]).then_some(lane)
    }

    /// Returns the number of idle threads that a name of `lane` leaves to others.
    ///
    /// They are the reserve where the system refuses threads long before their number reaches `bounds`.
    fn spare(&self, lane: Lane) -> usize {
        match lane {
            Lane::Prompt | Lane::New => 0,
            Lane::Slow => FEW.min(self.threads.len() / 2),
        }
    }

    /// Takes the first name of a lane that is not empty.
    fn take(&mut self, lane: Lane, now_ms: u64) -> Running {
        self.running[lane as usize] += 1;
        let name = self.queues[lane as usize].pop_front().expect("the next lane has a name");
        Running { name, lane, since_ms: now_ms }
    }

    /// Returns whether a thread may start for the first name of `lane`, for which no idle thread is free.
    fn may_start(&mut self, lane: Lane, now_ms: u64) -> bool {
        let growth = self.growth.get_or_insert_with(|| Growth::new(now_ms));
        if now_ms < self.refused_until_ms {
            growth.due_ms = growth.due_ms.max(self.refused_until_ms);
            return false;
        }
        // Lookups of the later lanes do not count. They neither use up the growth of this lane nor speed it
        // up.
        let width: usize = self.running[..=lane as usize].iter().sum();
        if width < FEW {
            return true;
        }
        if growth.due_ms <= now_ms {
            let hanging = hanging(&self.threads, lane, now_ms);
            growth.step(self.queues[lane as usize].len(), width, hanging, now_ms);
        }
        let is_granted = growth.granted > 0;
        growth.granted = growth.granted.saturating_sub(1);
        is_granted
    }

    /// Ends the thread that has been idle for longest, if its time is over.
    fn end_idle(&mut self, now_ms: u64) -> Option<Order> {
        self.next_deadline().filter(|&deadline_ms| deadline_ms <= now_ms)?;
        let Idle { thread, .. } = self.idle.pop_front()?;
        self.threads.remove(thread);
        Some(Order::End { thread })
    }
}

/// Returns how many lookups of `lane` and the earlier lanes are slow and still under way.
fn hanging(threads: &Slab<Option<Running>>, lane: Lane, now_ms: u64) -> usize {
    let running = threads.iter().filter_map(|(_, thread)| thread.as_ref());
    let running = running.filter(|running| running.lane as usize <= lane as usize);
    running.filter(|running| is_slow(running.since_ms, now_ms)).count()
}

fn is_slow(since_ms: u64, now_ms: u64) -> bool {
    now_ms.saturating_sub(since_ms) >= SLOW_MS
}

impl Growth {
    fn new(now_ms: u64) -> Growth {
        Growth {
            due_ms: now_ms + STEP_MS,
            returned: 0,
            returned_before: None,
            live: FEW,
            returned_at_growth: 0,
            granted: 0,
        }
    }

    /// Grants threads for the `waiting` names, in addition to `width` lookups of which `hanging` hang.
    fn step(&mut self, waiting: usize, width: usize, hanging: usize, now_ms: u64) {
        // Lookups that start together return together, and in some steps none returns. So this counts the
        // lookups of two steps.
        let returned = self.returned + self.returned_before.unwrap_or(self.returned);
        let is_cleared_soon = returned * STEPS_TO_CLEAR >= 2 * waiting;
        let wanted = if is_cleared_soon { 0 } else { self.grow(returned, width, hanging) };
        self.granted = wanted.min(waiting);
        self.due_ms = now_ms + STEP_MS;
        self.returned_before = Some(self.returned);
        self.returned = 0;
    }

    /// Returns the number of threads to start, and lets `live` grow if that helps.
    fn grow(&mut self, returned: usize, width: usize, hanging: usize) -> usize {
        if returned < (width / NEARLY_ALL).max(1) {
            // The lookups hang, or the name server is so far away that none has returned yet.
            self.live = self.live.max(2 * width).min(MANY);
            self.returned_at_growth = returned;
            return width;
        }
        // If all processors are busy with lookups, more threads do not make more lookups return. If one in
        // eight lookups hangs, busy processors are not the reason why few return.
        if 2 * returned >= 3 * self.returned_at_growth || 8 * hanging >= width {
            self.live = (2 * self.live).min(MANY);
            self.returned_at_growth = returned;
        }
        (self.live + hanging).saturating_sub(width)
    }
}

/// The lanes of the names that were looked up last, by the hash of the name.
///
/// Two names with the same hash share a lane. The only cost is a later position in a queue.
///
/// Invariant: the recent map has fewer names than `REMEMBERED`, and the older map has at most as many. A full
/// recent map replaces the older one.
#[derive(Debug, Default)]
struct History {
    recent: HashMap<u64, Lane>,
    older: HashMap<u64, Lane>,
}

impl History {
    /// Returns the lane for the next lookup of `name`.
    fn lane(&self, name: &str) -> Lane {
        let key = History::key(name);
        let lane = self.recent.get(&key).or_else(|| self.older.get(&key));
        lane.copied().unwrap_or(Lane::New)
    }

    /// Sets the lane for the next lookup of `name`.
    fn note(&mut self, name: &str, lane: Lane) {
        self.recent.insert(History::key(name), lane);
        if self.recent.len() >= REMEMBERED {
            self.older = std::mem::take(&mut self.recent);
        }
    }

    fn key(name: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests;
