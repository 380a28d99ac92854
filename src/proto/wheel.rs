//! Timers: one per id, armed and cancelled in constant time.
//!
//! A hierarchical timing wheel (Varghese and Lauck, *Hashed and Hierarchical Timing Wheels*, 1987),
//! as in the Linux kernel and in tokio, with two differences that suit a loop which must not wake
//! for nothing. The wheel tells the earliest deadline itself, not the start of the slot that holds
//! it. And there are as many levels as a `u64` has digits to the base of 64, so that every
//! deadline has a place and none has to wait outside of the wheel.
//!
//! The wheel does not know what a tick is. The fleet counts milliseconds.

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
/// Ids are meant to be small and dense, such as a slab's keys: the wheel holds 16 bytes for every id
/// up to the largest that was ever armed, and 11 KiB of its own.
#[derive(Debug)]
pub struct Wheel {
    /// The latest time that was given.
    now_tick: u64,
    /// The time from which timers are sorted into slots: each is linked in
    /// `Place::of(cursor_tick, its deadline)`. Hence the cursor may pass empty slots, but may enter
    /// an occupied one only with that slot being sorted anew. Invariant: `cursor_tick <= now_tick`,
    /// and no deadline is before it.
    cursor_tick: u64,
    /// For each level a bit per slot. Invariant: set if and only if the slot's list is not empty.
    occupied: [u64; LEVELS],
    /// The slots of all levels, `SLOTS` each.
    slots: Box<[Slot]>,
    /// The timers, by id.
    nodes: Vec<Node>,
    /// How many of the nodes are armed.
    len: usize,
}

impl Wheel {
    /// A wheel without timers, at this time.
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

    /// Arms the timer of `id`, in place of the one it may have.
    ///
    /// A deadline that has passed is due at once: it counts as the present, or while the timers that
    /// are due are being taken, as the deadline of the one taken last.
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

    /// When the timer of `id` is due, or `None` if it is not armed.
    #[must_use]
    pub fn deadline(&self, id: usize) -> Option<u64> {
        let node = self.nodes.get(id)?;
        (node.next != NONE).then_some(node.deadline_tick)
    }

    /// When to call [`expire`](Self::expire) next, or `None` if no timer is armed.
    ///
    /// This is never later than the earliest deadline. It is the earliest deadline exactly, unless
    /// the timer that had been the earliest of its slot was cancelled or armed anew. Then it may be
    /// that timer's deadline, and the call of `expire` at that time, though it yields nothing, finds
    /// the slot's new earliest: one spare wake-up for one such timer at most.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.first().map(|place| self.slots[place.slot()].min_deadline_tick)
    }

    /// Takes the earliest timer that is due, and returns its id. Call it until it returns `None`.
    ///
    /// Timers come in the order of their deadlines, those of one deadline in the order in which they
    /// were armed, and never early. Time does not go back: an earlier `now_tick` than the latest
    /// stands for the latest. The returned id may be armed again at once, but with a deadline at or
    /// before `now_tick` it is due again in the same run of calls.
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

    /// How many timers are armed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is armed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The slot that holds the earliest deadline.
    ///
    /// A timer shares with the cursor all digits above that of its level, and is ahead of it in that
    /// one. So whatever is on a level comes before everything on the levels above, and on one level
    /// the slots are in the order of time, without wrapping round.
    fn first(&self) -> Option<Place> {
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        let index = self.occupied[level].trailing_zeros() as usize;
        Some(Place { level, index })
    }

    /// Sorts the timers of the first slot anew, from a cursor within that slot. Each of them goes
    /// down by at least one level, so a timer is moved less than `LEVELS` times in its life.
    fn cascade(&mut self, place: Place) {
        debug_assert_eq!(Some(place), self.first());
        let slot = &mut self.slots[place.slot()];
        let Slot { min_deadline_tick, head } = *slot;
        *slot = Slot::EMPTY;
        self.occupied[place.level] &= !place.bit();

        // Straight to the earliest timer, however far, and not from slot to slot. But not beyond the
        // present, or a timer that is armed next could not be placed before it.
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

    /// Appends the timer to the list of its slot, which keeps those of one deadline in the order of
    /// their arming: a later one cannot be on a lower level until the slot above was cascaded.
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
        // A timer that is alone is its own neighbour.
        let tail = if head == id { id } else { self.nodes[head as usize].prev };
        self.nodes[id as usize].prev = tail;
        self.nodes[id as usize].next = head;
        self.nodes[tail as usize].next = id;
        self.nodes[head as usize].prev = id;
    }

    /// Takes an armed timer out of its slot.
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

/// The bits of a deadline that one level sorts by: a digit to the base of `SLOTS`.
const SLOT_BITS: usize = 6;
/// The slots of a level, as many as a `u64` has bits for.
const SLOTS: usize = 1 << SLOT_BITS;
/// Cuts a number down to its lowest digit.
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;
/// The digits of a `u64`.
const LEVELS: usize = 64_usize.div_ceil(SLOT_BITS);
/// The link of a timer that is not armed, and the head of an empty slot.
const NONE: u32 = u32::MAX;

const _: () = assert!(SLOTS == 64 && size_of::<Node>() == 16);

/// The timer of one id.
#[derive(Clone, Copy, Debug)]
struct Node {
    deadline_tick: u64,
    /// The neighbours in the ring of the slot's timers. `NONE` if the timer is not armed.
    prev: u32,
    next: u32,
}

impl Node {
    const IDLE: Node = Node { deadline_tick: 0, prev: NONE, next: NONE };
}

/// A ring of timers, the head the one that was linked first.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The earliest deadline of those linked since the slot was last empty, and so not later than
    /// the earliest of those that still are.
    min_deadline_tick: u64,
    head: u32,
}

impl Slot {
    const EMPTY: Slot = Slot { min_deadline_tick: u64::MAX, head: NONE };
}

/// Where a timer is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    level: usize,
    index: usize,
}

impl Place {
    /// The level is the highest digit in which the deadline differs from the cursor, the index is
    /// the deadline's digit there.
    fn of(cursor_tick: u64, deadline_tick: u64) -> Place {
        debug_assert!(cursor_tick <= deadline_tick);
        let highest_bit = ((cursor_tick ^ deadline_tick) | 1).ilog2() as usize;
        let level = highest_bit / SLOT_BITS;
        let index = ((deadline_tick >> (level * SLOT_BITS)) & SLOT_MASK) as usize;
        Place { level, index }
    }

    /// The first tick of the slot, which is the only one on level 0.
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
