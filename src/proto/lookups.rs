//! Which name is looked up next, on which thread, and how many threads there are.
//!
//! The system's lookup blocks its thread and cannot be cancelled: it takes 10 s when a name server does
//! not answer, and some name services never return. [`Lookups`] keeps such names from holding up the
//! others. It knows no thread and no clock: the owner tells it what was asked and which lookup has
//! ended, carries out each [`Order`], and waits until [`Lookups::next_deadline`].
//!
//! - **Lanes.** A name waits in one of three lanes, by how its last lookup went: [`Lane`]. A lane is
//!   served only while those before it are empty, and the later lanes leave some threads to the earlier.
//! - **Growth.** [`FEW`] threads start at once. More start only while names wait, in steps: every
//!   [`STEP_MS`] the lookups under way may double, up to [`MANY`] beside those that hang, and as long as
//!   that makes more of them return. A burst of names that are answered promptly is served by few threads,
//!   and so is no burst for the name server either. When nearly all lookups hang, a queue behind them
//!   gets all threads in eight steps.
//! - **Shrinking.** A thread that was idle for [`IDLE_MS`] ends, except for the last [`FEW`]. Those wait
//!   without a deadline.
//! - **Sharing.** A name is never looked up twice at once: all who ask meanwhile get the same answer. No
//!   answer is kept after that.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use slab::Slab;

/// The lookups that are started at once, and the idle threads that are kept.
const FEW: usize = 4;

/// The lookups that may be under way beside those that hang. Each is two queries, and some forwarders take
/// no more than 150 at once (dnsmasq does by default).
const MANY: usize = 64;

/// Lookups hang when fewer than one in so many comes back: then their number doubles, beyond `MANY`, too.
const NEARLY_ALL: usize = 16;

/// The most lookups that are ever under way.
const MOST: usize = 1000;

/// With fewer lookups, there would be too few left for the reserves.
const FEWEST: usize = 16;

/// The time from one step of growth to the next: most lookups return within it.
const STEP_MS: u64 = 100;

/// The pool does not grow while the lookups return so fast that the queue is empty in so many steps.
const STEPS_TO_CLEAR: usize = 5;

/// A lookup that took so long was slow. Any that runs into a timeout of the system's resolver takes
/// longer: its shortest timeout is a second.
const SLOW_MS: u64 = 1000;

/// The time after which an idle thread ends: longer than a hanging lookup, so that a pool which is
/// needed again and again is not built again and again.
const IDLE_MS: u64 = 15_000;

/// The pause after the system has refused a thread.
const REFUSED_MS: u64 = 1000;

/// The names whose last lookup is remembered: so many at least, twice as many at most.
const REMEMBERED: usize = 65_536;

const LANES: usize = 3;

const _: () = assert!(FEW < MANY && MANY < bounds(MOST)[2]);
const _: () = assert!(FEW < bounds(FEWEST)[2] && bounds(FEWEST)[2] < bounds(FEWEST)[1]);

/// By lane, the lookups that may be under way when another of the lane starts, of at most `most`. The other
/// threads are a reserve for the earlier lanes, in case that all of these hang: as wide as what starts at
/// once, at least. Half of 1,000 is enough for 3,000 names that each hang for 10 s and are asked for again
/// after 60 s.
const fn bounds(most: usize) -> [usize; LANES] {
    let reserve = if most / 10 > FEW { most / 10 } else { FEW };
    [most, most - reserve, most / 2]
}

/// Where a name waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// Its last lookup was prompt, whether it found an address or an error.
    Prompt = 0,
    /// Its last lookup is not known.
    New = 1,
    /// Its last lookup was slow.
    Slow = 2,
}

/// What the owner is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Start a thread that looks up this name. If that fails, call [`Lookups::refused`] next.
    Start { thread: usize, name: Box<str> },
    /// Let an idle thread look up this name.
    LookUp { thread: usize, name: Box<str> },
    /// End an idle thread. Its number may be given to another.
    End { thread: usize },
}

/// The names that are asked for, and the threads that look them up.
///
/// Call [`ask`](Self::ask) or [`found`](Self::found) when that happens. After each, and at
/// [`next_deadline`](Self::next_deadline), call [`next_order`](Self::next_order) until it returns `None`.
/// `W` is what the owner needs to deliver an answer. Moments are milliseconds since any epoch.
#[derive(Debug)]
pub(crate) struct Lookups<W> {
    /// Who waits for which name. Invariant: a name is here if and only if it is in one queue or looked
    /// up by one thread.
    waiting: HashMap<Box<str>, Vec<W>>,
    /// By lane, the names that wait for a thread.
    queues: [VecDeque<Box<str>>; LANES],
    /// By number, what a thread is doing; `None` if it is idle.
    threads: Slab<Option<Running>>,
    /// The idle threads, the one that has been idle for longest first.
    idle: VecDeque<Idle>,
    /// By lane, the lookups that may be under way when another starts.
    bounds: [usize; LANES],
    /// By lane, the lookups under way. Invariant: the sum is at most `bounds[0]`.
    running: [usize; LANES],
    /// Present only while a name waits because no idle thread is free for it.
    growth: Option<Growth>,
    /// No thread is started before, since the system has refused one.
    refused_until_ms: u64,
    history: History,
}

#[derive(Debug)]
struct Running {
    name: Box<str>,
    lane: Lane,
    since_ms: u64,
}

#[derive(Debug)]
struct Idle {
    thread: usize,
    since_ms: u64,
}

/// The growth of the pool while names wait.
#[derive(Debug)]
struct Growth {
    /// When the next step is due.
    due_ms: u64,
    /// The lookups that have returned since the last step.
    returned: usize,
    /// Those of the step before, if there was one.
    returned_before: Option<usize>,
    /// The lookups that may be under way beside those that hang. Invariant: at most `MANY`.
    live: usize,
    /// The lookups that had returned when `live` grew last.
    returned_at_growth: usize,
    /// The threads that may still be started in this step.
    granted: usize,
}

impl<W> Lookups<W> {
    /// No names. At most `most` lookups will be under way, in the bounds of [`FEWEST`] and [`MOST`].
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

    /// Takes `waiter` among those who wait for the answer to `name`.
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

    /// The lookup of `thread` has returned. The answer is for those whom this returns.
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

    /// The system has refused to start `thread`. Its name waits for another thread; if there is none at
    /// all, this returns all who wait, and they are to be given the error.
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

    /// The threads there are, idle or not.
    pub(crate) fn threads(&self) -> usize {
        self.threads.len()
    }

    /// When to call [`next_order`](Self::next_order) even if nothing happens; `None` if only an event
    /// can change anything.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let growth = self.growth.as_ref().map(|growth| growth.due_ms);
        let idle = self.idle.front().filter(|_| self.idle.len() > FEW);
        growth.into_iter().chain(idle.map(|idle| idle.since_ms + IDLE_MS)).min()
    }

    /// What is to be done now; `None` if that is nothing.
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

    /// The lane whose first name is next, if that name may have a thread.
    fn next_lane(&self) -> Option<Lane> {
        let lanes = [Lane::Prompt, Lane::New, Lane::Slow];
        let lane = lanes.into_iter().find(|&lane| !self.queues[lane as usize].is_empty())?;
        (self.running.iter().sum::<usize>() < self.bounds[lane as usize]).then_some(lane)
    }

    /// The idle threads that a name of `lane` leaves to others. They are the reserve where the system refuses
    /// threads long before there are `bounds` of them.
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

    /// Whether a thread may be started for the first name of `lane`, as no idle one is free for it.
    fn may_start(&mut self, lane: Lane, now_ms: u64) -> bool {
        let growth = self.growth.get_or_insert_with(|| Growth::new(now_ms));
        if now_ms < self.refused_until_ms {
            growth.due_ms = growth.due_ms.max(self.refused_until_ms);
            return false;
        }
        // Lookups of the later lanes neither take the place of these nor make them grow faster.
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

    fn end_idle(&mut self, now_ms: u64) -> Option<Order> {
        self.next_deadline().filter(|&deadline_ms| deadline_ms <= now_ms)?;
        let Idle { thread, .. } = self.idle.pop_front()?;
        self.threads.remove(thread);
        Some(Order::End { thread })
    }
}

/// How many lookups of `lane` and those before it have been under way for as long as a slow one.
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

    /// Grants threads for the `waiting` names, beside `width` lookups of which some are `hanging`.
    fn step(&mut self, waiting: usize, width: usize, hanging: usize, now_ms: u64) {
        // Lookups that were started together return together, and none in the step between. So one
        // step tells too little.
        let returned = self.returned + self.returned_before.unwrap_or(self.returned);
        let is_cleared_soon = returned * STEPS_TO_CLEAR >= 2 * waiting;
        let wanted = if is_cleared_soon { 0 } else { self.grow(returned, width, hanging) };
        self.granted = wanted.min(waiting);
        self.due_ms = now_ms + STEP_MS;
        self.returned_before = Some(self.returned);
        self.returned = 0;
    }

    fn grow(&mut self, returned: usize, width: usize, hanging: usize) -> usize {
        if returned < (width / NEARLY_ALL).max(1) {
            // They hang, or the name server is so far away that none has returned yet.
            self.live = self.live.max(2 * width).min(MANY);
            self.returned_at_growth = returned;
            return width;
        }
        // Where all processors are busy with lookups, more threads make no more of them return. Where
        // one in eight hangs, that is not the reason for which few return.
        if 2 * returned >= 3 * self.returned_at_growth || 8 * hanging >= width {
            self.live = (2 * self.live).min(MANY);
            self.returned_at_growth = returned;
        }
        (self.live + hanging).saturating_sub(width)
    }
}

/// How the last lookups went, by the hash of the name: two names with the same one share a lane, which
/// costs a place in a queue and nothing else.
///
/// Invariant: the recent map is shorter than `REMEMBERED`, the older one not longer. When the recent one is
/// full, it replaces the older one.
#[derive(Debug, Default)]
struct History {
    recent: HashMap<u64, Lane>,
    older: HashMap<u64, Lane>,
}

impl History {
    fn lane(&self, name: &str) -> Lane {
        let key = History::key(name);
        let lane = self.recent.get(&key).or_else(|| self.older.get(&key));
        lane.copied().unwrap_or(Lane::New)
    }

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
