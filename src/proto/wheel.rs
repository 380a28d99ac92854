//! Provides timers, one per id, that are armed and canceled in constant time.
//!
//! This is a hierarchical timing wheel (Varghese and Lauck, *Hashed and Hierarchical Timing Wheels*, 1987),
//! as in the Linux kernel and in tokio. Two differences suit a loop which must not wake up without a reason:
//!
//! - [`Wheel::next_deadline`] is the earliest deadline itself, not the start of the slot that holds it.
//! - There is a level for each base-64 digit of a `u64`. So each deadline has a slot, and no timer is kept
//!   outside the wheel.
//!
//! A tick may be any unit of time. The fleet uses milliseconds.

/// A set of timers, at most one for each id.
///
/// The owner arms timers, waits until [`next_deadline`](Self::next_deadline) and then calls
/// [`expire`](Self::expire) until it returns `None`:
///
/// ```
/// use tcpcore::internals::proto::wheel::Wheel;
///
/// let mut wheel = Wheel::new(0);
/// wheel.arm(7, 2000);
/// wheel.arm(3, 1000);
/// assert_eq!(wheel.next_deadline(), Some(1000));
///
/// assert_eq!(wheel.expire(999), None);
/// assert_eq!(wheel.expire(1000), Some(3));
/// assert_eq!(wheel.expire(1000), None);
/// assert_eq!(wheel.next_deadline(), Some(2000));
/// ```
///
/// Ids should be small and dense, such as the keys of a slab. The wheel takes 16 bytes for each id up to the
/// largest that was ever armed, and 11 KiB for its slots.
///
/// A canceled timer is unlinked immediately, not marked and dropped when its slot is due. A mark would be cheaper by
/// some nanoseconds, but the slot of a marked timer would cost a wake-up, which takes microseconds. Each connection
/// cancels the timer of its attempt, so an idle program would wake up for nothing.
#[derive(Debug)]
pub struct Wheel {
    /// The latest time that a caller has passed.
    now_tick: u64,
    /// The time relative to which timers are sorted into slots.
    ///
    /// Each timer is linked in `Place::of(cursor_tick, its deadline)`. So the cursor may pass empty slots,
    /// but may enter an occupied slot only when that slot is sorted again.
    ///
    /// Invariant: `cursor_tick <= now_tick`, and no deadline is earlier than the cursor.
    cursor_tick: u64,
    /// One bit for each slot, by level. Invariant: set if and only if the slot's list is not empty.
    occupied: [u64; LEVELS],
    /// The heads of the slots of all levels, `SLOTS` each, then the timers by id.
    ///
    /// Heads and timers share one array, so that a timer is unlinked without knowing its slot. Only the last timer
    /// of a slot has its head as both neighbors.
    nodes: Vec<Node>,
    /// The number of armed timers.
    len: usize,
}

impl Wheel {
    /// Makes a wheel without timers, at this time.
    #[must_use]
    pub fn new(now_tick: u64) -> Wheel {
        Wheel {
            now_tick,
            cursor_tick: now_tick,
            occupied: [0; LEVELS],
            nodes: (0..HEADS).map(Node::head).collect(),
            len: 0,
        }
    }

    /// Allocates the memory for so many more ids.
    pub fn reserve(&mut self, ids: usize) {
        self.nodes.reserve_exact(ids);
    }

    /// Arms the timer of `id`, or gives it a new deadline if it is armed.
    ///
    /// A deadline that has passed is due immediately: it counts as the current time. While the caller takes
    /// the due timers, it counts as the deadline of the timer taken last.
    ///
    /// # Panics
    ///
    /// If `id` is above `u32::MAX - 705`.
    pub fn arm(&mut self, id: usize, deadline_tick: u64) {
        let index = HEADS.saturating_add(id);
        match self.nodes.get(index) {
            Some(node) if node.is_linked() => self.unlink(index),
            Some(_) => self.len += 1,
            None => {
                assert!(index < NONE as usize, "timer id {id} is too large");
                self.nodes.resize(index + 1, Node::IDLE);
                self.len += 1;
            }
        }
        let deadline_tick = deadline_tick.max(self.cursor_tick);
        self.nodes[index].deadline_tick = deadline_tick;
        self.link(link_to(index), deadline_tick);
    }

    /// Disarms the timer of `id`. Returns whether it was armed.
    pub fn cancel(&mut self, id: usize) -> bool {
        let index = HEADS.saturating_add(id);
        let is_armed = self.nodes.get(index).is_some_and(Node::is_linked);
        if is_armed {
            self.disarm(index);
        }
        is_armed
    }

    /// Returns the deadline of the timer of `id`, or `None` if it is not armed.
    #[must_use]
    pub fn deadline(&self, id: usize) -> Option<u64> {
        let node = self.nodes.get(HEADS.saturating_add(id))?;
        node.is_linked().then_some(node.deadline_tick)
    }

    /// Returns the time of the next call of [`expire`](Self::expire), or `None` if no timer is armed.
    ///
    /// It is at most the earliest deadline, and usually equal to it. An exception is a timer that was the
    /// earliest of its slot and was canceled or armed again. Then the result may be the old deadline of that
    /// timer. The call of `expire` at that time returns no id, but finds the new earliest deadline of the
    /// slot. So each such timer costs at most one spare wake-up.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.first().map(|place| self.nodes[place.slot()].deadline_tick)
    }

    /// Takes the earliest due timer, and returns its id. Call it until it returns `None`.
    ///
    /// Timers expire in the order of their deadlines, and never early. Timers with the same deadline expire
    /// in the order in which they were armed. A `now_tick` that is earlier than the latest counts as the
    /// latest.
    ///
    /// The returned id may be armed again immediately. With a deadline at or before `now_tick` it is due
    /// again in the same run of calls.
    pub fn expire(&mut self, now_tick: u64) -> Option<usize> {
        self.now_tick = self.now_tick.max(now_tick);
        while let Some(place) = self.first() {
            let start_tick = place.start_tick(self.cursor_tick);
            if start_tick > self.now_tick {
                break;
            }
            if place.level == 0 {
                self.cursor_tick = start_tick;
                let index = self.nodes[place.slot()].next as usize;
                debug_assert_eq!(self.nodes[index].deadline_tick, start_tick);
                self.disarm(index);
                return Some(index - HEADS);
            }
            self.cascade(place);
        }
        self.cursor_tick = self.now_tick;
        None
    }

    /// Returns the number of armed timers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether no timer is armed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the slot that holds the earliest deadline.
    ///
    /// A timer and the cursor have the same digits above the level of the timer. In the digit of that level,
    /// the timer is ahead. So all timers of a level are earlier than all timers of the levels above. The
    /// slots of one level are in the order of time, and do not wrap.
    fn first(&self) -> Option<Place> {
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        let index = self.occupied[level].trailing_zeros() as usize;
        Some(Place { level, index })
    }

    /// Sorts the timers of the first slot again, from a cursor within that slot.
    ///
    /// Each of them moves down by at least one level, so a timer is moved less than `LEVELS` times.
    fn cascade(&mut self, place: Place) {
        debug_assert_eq!(Some(place), self.first());
        let head = place.slot();
        let Node { deadline_tick: min_deadline_tick, next: mut index, .. } = self.nodes[head];
        self.nodes[head] = Node::head(head);
        self.occupied[place.level] &= !place.bit();

        // The cursor jumps to the earliest timer in one step, not from slot to slot. It stays at or before
        // the current time, as otherwise a timer that is armed next could have a deadline before the cursor.
        let cursor_tick = min_deadline_tick.min(self.now_tick);
        debug_assert!(cursor_tick >= place.start_tick(self.cursor_tick));
        self.cursor_tick = cursor_tick;

        while index as usize != head {
            let Node { deadline_tick, next, .. } = self.nodes[index as usize];
            self.link(index, deadline_tick);
            index = next;
        }
    }

    /// Appends the timer with this deadline to the list of its slot.
    ///
    /// This keeps timers with the same deadline in the order in which they were armed. A later one cannot be
    /// on a lower level until the slot above was cascaded.
    fn link(&mut self, index: u32, deadline_tick: u64) {
        let place = Place::of(self.cursor_tick, deadline_tick);
        self.occupied[place.level] |= place.bit();
        let head = &mut self.nodes[place.slot()];
        head.deadline_tick = head.deadline_tick.min(deadline_tick);
        let tail = std::mem::replace(&mut head.prev, index);
        self.nodes[tail as usize].next = index;
        let node = &mut self.nodes[index as usize];
        (node.prev, node.next) = (tail, link_to(place.slot()));
    }

    /// Removes an armed timer from its slot, and marks it.
    fn disarm(&mut self, index: usize) {
        self.unlink(index);
        self.nodes[index].next = NONE;
        self.len -= 1;
    }

    /// Removes an armed timer from its slot. Its own links keep their values.
    fn unlink(&mut self, index: usize) {
        let Node { prev, next, .. } = self.nodes[index];
        self.nodes[prev as usize].next = next;
        let after = &mut self.nodes[next as usize];
        after.prev = prev;
        if prev == next {
            // No other timer is left, so both are the head.
            after.deadline_tick = u64::MAX;
            let slot = next as usize;
            debug_assert!(self.occupied[slot / SLOTS] & (1 << (slot % SLOTS)) != 0);
            self.occupied[slot / SLOTS] &= !(1 << (slot % SLOTS));
        }
    }
}

/// The number of bits of a deadline that one level sorts by: one digit in base `SLOTS`.
const SLOT_BITS: usize = 6;
/// The number of slots of a level. A `u64` has a bit for each.
const SLOTS: usize = 1 << SLOT_BITS;
/// The mask of the lowest digit of a number.
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;
/// The number of levels, one for each digit of a `u64`.
const LEVELS: usize = 64_usize.div_ceil(SLOT_BITS);
/// The number of slots of all levels.
const HEADS: usize = LEVELS * SLOTS;
/// The value of `next` of a timer that is not armed.
const NONE: u32 = u32::MAX;

const _: () = assert!(SLOTS == 64 && size_of::<Node>() == 16);

/// The timer of one id, or the head of a slot.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// The deadline. Of a head: the earliest deadline of all timers that were linked since the slot was last empty.
    ///
    /// That is at most the earliest deadline of the timers that are still linked.
    deadline_tick: u64,
    /// The neighbors in the ring of a slot's head and timers, by index. The timer after the head was linked first.
    /// `next` is `NONE` if the timer is not armed.
    prev: u32,
    next: u32,
}

impl Node {
    const IDLE: Node = Node { deadline_tick: 0, prev: NONE, next: NONE };

    /// Makes the head of an empty slot.
    fn head(slot: usize) -> Node {
        Node { deadline_tick: u64::MAX, prev: link_to(slot), next: link_to(slot) }
    }

    fn is_linked(&self) -> bool {
        self.next != NONE
    }
}

/// Returns the link to a node of the wheel, which has at most `NONE` of them.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a checked conversion would cost a branch for each link"
)]
fn link_to(index: usize) -> u32 {
    debug_assert!(index < NONE as usize);
    index as u32
}

/// The place at which a timer is linked: a slot of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    level: usize,
    index: usize,
}

impl Place {
    /// Returns the place of a deadline.
    ///
    /// The level is the position of the highest digit in which the deadline differs from the cursor. The
    /// index is that digit of the deadline.
    fn of(cursor_tick: u64, deadline_tick: u64) -> Place {
        debug_assert!(cursor_tick <= deadline_tick);
        let highest_bit = ((cursor_tick ^ deadline_tick) | 1).ilog2() as usize;
        let level = highest_bit / SLOT_BITS;
        let index = ((deadline_tick >> (level * SLOT_BITS)) & SLOT_MASK) as usize;
        Place { level, index }
    }

    /// Returns the first tick of the slot. On level 0 it is the only one.
    fn start_tick(self, cursor_tick: u64) -> u64 {
        let shift = self.level * SLOT_BITS;
        let above = (cursor_tick >> shift) & !SLOT_MASK;
        (above | self.index as u64) << shift
    }

    fn slot(self) -> usize {
        self.level * SLOTS + self.index
    }

    fn bit(self) -> u64 {
        1 << self.index
    }
}

#[cfg(test)]
mod tests;
