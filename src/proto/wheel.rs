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
    /// The slots of all levels, `SLOTS` each.
    slots: Box<[Slot]>,
    /// The timers, by id.
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
            slots: vec![Slot::EMPTY; LEVELS * SLOTS].into_boxed_slice(),
            nodes: Vec::new(),
            len: 0,
        }
    }

    /// Arms the timer of `id`, or gives it a new deadline if it is armed.
    ///
    /// A deadline that has passed is due immediately: it counts as the current time. While the caller takes
    /// the due timers, it counts as the deadline of the timer taken last.
    ///
    /// # Panics
    ///
    /// If `id` is not below `u32::MAX`.
    pub fn arm(&mut self, id: usize, deadline_tick: u64) {
        self.cancel(id);
        let link = u32::try_from(id).unwrap_or(NONE);
        assert!(link != NONE, "timer id {id} is too large");
        if id >= self.nodes.len() {
            self.nodes.resize(id + 1, Node::IDLE);
        }
        self.nodes[id].deadline_tick = deadline_tick.max(self.cursor_tick);
        self.link(link);
        self.len += 1;
    }

    /// Disarms the timer of `id`. Returns whether it was armed.
    pub fn cancel(&mut self, id: usize) -> bool {
        if self.deadline(id).is_none() {
            return false;
        }
        self.unlink(id);
        true
    }

    /// Returns the deadline of the timer of `id`, or `None` if it is not armed.
    #[must_use]
    pub fn deadline(&self, id: usize) -> Option<u64> {
        let node = self.nodes.get(id)?;
        (node.next != NONE).then_some(node.deadline_tick)
    }

    /// Returns the time of the next call of [`expire`](Self::expire), or `None` if no timer is armed.
    ///
    /// It is at most the earliest deadline, and usually equal to it. An exception is a timer that was the
    /// earliest of its slot and was canceled or armed again. Then the result may be the old deadline of that
    /// timer. The call of `expire` at that time returns no id, but finds the new earliest deadline of the
    /// slot. So each such timer costs at most one spare wake-up.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.first().map(|place| self.slots[place.slot()].min_deadline_tick)
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
                let id = self.slots[place.slot()].head as usize;
                debug_assert_eq!(self.nodes[id].deadline_tick, start_tick);
                self.unlink(id);
                return Some(id);
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
        let slot = &mut self.slots[place.slot()];
        let Slot { min_deadline_tick, head } = *slot;
        *slot = Slot::EMPTY;
        self.occupied[place.level] &= !place.bit();

        // The cursor jumps to the earliest timer in one step, not from slot to slot. It stays at or before
        // the current time, as otherwise a timer that is armed next could have a deadline before the cursor.
        let cursor_tick = min_deadline_tick.min(self.now_tick);
        debug_assert!(cursor_tick >= place.start_tick(self.cursor_tick));
        self.cursor_tick = cursor_tick;

        let mut id = head;
        loop {
            let next = self.nodes[id as usize].next;
            self.link(id);
            if next == head {
                break;
            }
            id = next;
        }
    }

    /// Appends the timer to the list of its slot.
    ///
    /// This keeps timers with the same deadline in the order in which they were armed. A later one cannot be
    /// on a lower level until the slot above was cascaded.
    fn link(&mut self, id: u32) {
        let deadline_tick = self.nodes[id as usize].deadline_tick;
        let place = Place::of(self.cursor_tick, deadline_tick);
        let slot = &mut self.slots[place.slot()];
        slot.min_deadline_tick = slot.min_deadline_tick.min(deadline_tick);
        if slot.head == NONE {
            slot.head = id;
            self.occupied[place.level] |= place.bit();
        }
        let head = slot.head;
        // A single timer is its own neighbor.
        let tail = if head == id { id } else { self.nodes[head as usize].prev };
        self.nodes[id as usize].prev = tail;
        self.nodes[id as usize].next = head;
        self.nodes[tail as usize].next = id;
        self.nodes[head as usize].prev = id;
    }

    /// Removes an armed timer from its slot.
    fn unlink(&mut self, id: usize) {
        let Node { deadline_tick, prev, next } = self.nodes[id];
        let place = Place::of(self.cursor_tick, deadline_tick);
        debug_assert!(self.occupied[place.level] & place.bit() != 0);
        let slot = &mut self.slots[place.slot()];
        if next as usize == id {
            debug_assert_eq!(slot.head as usize, id);
            *slot = Slot::EMPTY;
            self.occupied[place.level] &= !place.bit();
        } else {
            if slot.head as usize == id {
                slot.head = next;
            }
            self.nodes[prev as usize].next = next;
            self.nodes[next as usize].prev = prev;
        }
        self.nodes[id] = Node::IDLE;
        self.len -= 1;
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
/// The value of the links of a timer that is not armed, and of the head of an empty slot.
const NONE: u32 = u32::MAX;

const _: () = assert!(SLOTS == 64 && size_of::<Node>() == 16);

/// The timer of one id.
#[derive(Clone, Copy, Debug)]
struct Node {
    deadline_tick: u64,
    /// The neighbors in the ring of the slot's timers; `NONE` if the timer is not armed.
    prev: u32,
    next: u32,
}

impl Node {
    const IDLE: Node = Node { deadline_tick: 0, prev: NONE, next: NONE };
}

/// A ring of timers. Its head is the timer that was linked first.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The earliest deadline of all timers that were linked since the slot was last empty.
    ///
    /// It is at most the earliest deadline of the timers that are still linked.
    min_deadline_tick: u64,
    head: u32,
}

impl Slot {
    const EMPTY: Slot = Slot { min_deadline_tick: u64::MAX, head: NONE };
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
