use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

impl Wheel {
    /// Asserts the invariants of the fields.
    fn check(&self) {
        assert!(self.cursor_tick <= self.now_tick);
        let mut linked = 0;
        for (number, head) in self.nodes[..HEADS].iter().enumerate() {
            let here = Place { level: number / SLOTS, index: number % SLOTS };
            let is_occupied = self.occupied[here.level] & here.bit() != 0;
            assert_eq!(is_occupied, head.next as usize != number, "{here:?}");
            assert!(is_occupied || head.deadline_tick == u64::MAX, "{here:?}");
            let mut index = number;
            loop {
                let next = self.nodes[index].next as usize;
                assert_eq!(self.nodes[next].prev as usize, index);
                if next == number {
                    break;
                }
                let deadline_tick = self.nodes[next].deadline_tick;
                assert!(head.deadline_tick <= deadline_tick);
                assert_eq!(Place::of(self.cursor_tick, deadline_tick), here);
                linked += 1;
                index = next;
            }
        }
        assert_eq!(linked, self.len);
        assert_eq!(self.nodes[HEADS..].iter().filter(|node| node.is_linked()).count(), self.len);
    }

    fn expire_all(&mut self, now_tick: u64) -> Vec<usize> {
        std::iter::from_fn(|| self.expire(now_tick)).collect()
    }
}

/// Returns the distances at which a timer changes its slot or its level, and their neighbors.
fn boundaries() -> Vec<u64> {
    let mut ticks: Vec<u64> = (0..64)
        .map(|bit| 1 << bit)
        .flat_map(|power: u64| [power - 1, power, power + 1])
        .chain([u64::MAX - 1, u64::MAX])
        .collect();
    ticks.sort_unstable();
    ticks.dedup();
    ticks
}

/// Asserts that a single timer has the exact deadline, is not a tick early, and takes one wake-up.
fn fires_exactly_at(start_tick: u64, deadline_tick: u64) {
    let mut wheel = Wheel::new(start_tick);
    wheel.arm(0, deadline_tick);
    wheel.check();
    assert_eq!(wheel.next_deadline(), Some(deadline_tick));
    if deadline_tick > start_tick {
        assert_eq!(wheel.expire(deadline_tick - 1), None);
        wheel.check();
        assert_eq!(wheel.next_deadline(), Some(deadline_tick));
    }
    assert_eq!(wheel.expire(deadline_tick), Some(0));
    assert_eq!(wheel.expire(deadline_tick), None);
    wheel.check();
    assert_eq!(wheel.next_deadline(), None);
}

#[test]
fn fires_exactly_at_63_64_65() {
    for deadline_tick in [63, 64, 65] {
        fires_exactly_at(0, deadline_tick);
    }
}

#[test]
fn fires_exactly_at_4095_4096_4097() {
    for deadline_tick in [4095, 4096, 4097] {
        fires_exactly_at(0, deadline_tick);
    }
}

#[test]
fn fires_exactly_next_to_each_power_of_two_and_at_u64_max() {
    for deadline_tick in boundaries() {
        fires_exactly_at(0, deadline_tick);
    }
}

#[test]
fn fires_exactly_from_a_start_at_and_next_to_a_boundary() {
    for start_tick in boundaries() {
        for delay in boundaries() {
            if let Some(deadline_tick) = start_tick.checked_add(delay) {
                fires_exactly_at(start_tick, deadline_tick);
            }
        }
    }
}

#[test]
fn the_deadlines_0_and_u64_max_are_on_levels_0_and_10() {
    assert_eq!(Place::of(0, 0), Place { level: 0, index: 0 });
    assert_eq!(Place::of(0, 63), Place { level: 0, index: 63 });
    assert_eq!(Place::of(0, 64), Place { level: 1, index: 1 });
    assert_eq!(Place::of(63, 64), Place { level: 1, index: 1 });
    assert_eq!(Place::of(64, 127), Place { level: 0, index: 63 });
    assert_eq!(Place::of(0, 4095), Place { level: 1, index: 63 });
    assert_eq!(Place::of(0, 4096), Place { level: 2, index: 1 });
    assert_eq!(Place::of(0, u64::MAX), Place { level: 10, index: 15 });
    assert_eq!(Place::of(u64::MAX, u64::MAX), Place { level: 0, index: 63 });
}

#[test]
fn one_jump_to_u64_max_expires_all_in_the_order_of_deadlines() {
    let ticks = boundaries();
    let mut wheel = Wheel::new(0);
    for (id, &deadline_tick) in ticks.iter().enumerate().rev() {
        wheel.arm(id, deadline_tick);
    }
    wheel.check();
    assert_eq!(wheel.len(), ticks.len());
    assert_eq!(wheel.expire_all(u64::MAX), (0..ticks.len()).collect::<Vec<_>>());
    wheel.check();
    assert!(wheel.is_empty());
}

#[test]
fn an_empty_wheel_works_after_a_jump_to_u64_max() {
    let mut wheel = Wheel::new(0);
    assert_eq!(wheel.expire(u64::MAX), None);
    wheel.arm(0, 5);
    assert_eq!(wheel.deadline(0), Some(u64::MAX));
    assert_eq!(wheel.next_deadline(), Some(u64::MAX));
    assert_eq!(wheel.expire(u64::MAX), Some(0));
    assert_eq!(wheel.expire(u64::MAX), None);
}

#[test]
fn a_deadline_now_or_earlier_is_due_at_the_next_expire() {
    let mut wheel = Wheel::new(100);
    wheel.arm(0, 100);
    wheel.arm(1, 99);
    wheel.arm(2, 0);
    assert_eq!(wheel.next_deadline(), Some(100));
    assert_eq!(wheel.expire_all(100), [0, 1, 2]);
}

#[test]
fn timers_with_one_deadline_expire_in_the_order_of_arming_across_a_cascade() {
    let mut wheel = Wheel::new(0);
    for id in [4, 0, 3] {
        wheel.arm(id, 5000);
    }
    assert_eq!(wheel.expire(4990), None);
    for id in [2, 1] {
        wheel.arm(id, 5000);
    }
    wheel.arm(4, 5000);
    assert_eq!(wheel.expire_all(5000), [0, 3, 2, 1, 4]);
}

#[test]
fn time_does_not_go_back_between_two_timers_of_one_run() {
    let mut wheel = Wheel::new(0);
    wheel.arm(0, 10);
    wheel.arm(1, 90);
    wheel.arm(2, 101);
    assert_eq!(wheel.expire(100), Some(0));
    assert_eq!(wheel.expire(20), Some(1));
    assert_eq!(wheel.expire(0), None);
    wheel.arm(0, 30);
    assert_eq!(wheel.deadline(0), Some(100));
}

#[test]
fn a_returned_id_can_be_armed_again_within_the_run() {
    let mut wheel = Wheel::new(0);
    wheel.arm(0, 10);
    wheel.arm(1, 70);
    assert_eq!(wheel.expire(100), Some(0));
    wheel.arm(0, 80);
    assert_eq!(wheel.expire(100), Some(1));
    wheel.arm(1, 5000);
    assert_eq!(wheel.expire(100), Some(0));
    wheel.arm(0, 20);
    assert_eq!(wheel.expire(100), Some(0));
    assert_eq!(wheel.expire(100), None);
    assert_eq!(wheel.next_deadline(), Some(5000));
}

#[test]
fn arming_again_replaces_the_timer() {
    let mut wheel = Wheel::new(0);
    wheel.arm(0, 10);
    wheel.arm(0, 5000);
    wheel.check();
    assert_eq!(wheel.len(), 1);
    assert_eq!(wheel.deadline(0), Some(5000));
    assert_eq!(wheel.next_deadline(), Some(5000));
    assert_eq!(wheel.expire(4999), None);
    assert_eq!(wheel.expire(5000), Some(0));
}

#[test]
fn a_canceled_timer_never_fires_and_an_unknown_id_has_no_timer() {
    let mut wheel = Wheel::new(0);
    wheel.arm(1, 10);
    assert!(wheel.cancel(1));
    assert!(!wheel.cancel(1));
    assert!(!wheel.cancel(0));
    assert!(!wheel.cancel(usize::MAX));
    assert_eq!(wheel.deadline(usize::MAX), None);
    assert_eq!(wheel.next_deadline(), None);
    assert_eq!(wheel.expire(10), None);
}

#[test]
fn a_canceled_earliest_timer_costs_one_spare_wake_up() {
    let mut wheel = Wheel::new(0);
    wheel.arm(0, 4100);
    wheel.arm(1, 4200);
    wheel.arm(2, 8191);
    wheel.cancel(0);
    assert_eq!(wheel.next_deadline(), Some(4100));
    assert_eq!(wheel.expire(4100), None);
    assert_eq!(wheel.next_deadline(), Some(4200));
    assert_eq!(wheel.expire_all(4200), [1]);
    assert_eq!(wheel.next_deadline(), Some(8191));
}

#[test]
#[should_panic(expected = "timer id 4294966591 is too large")]
fn an_id_above_u32_max_minus_705_panics() {
    Wheel::new(0).arm(4_294_966_591, 1);
}

#[test]
#[should_panic(expected = "is too large")]
fn an_id_of_usize_max_panics() {
    Wheel::new(0).arm(usize::MAX, 1);
}

/// A slow model of the wheel: timers sorted by deadline, then by the order of arming.
#[derive(Default)]
struct Model {
    now_tick: u64,
    cursor_tick: u64,
    armings: u64,
    timers: BTreeMap<(u64, u64), usize>,
}

impl Model {
    fn arm(&mut self, id: usize, deadline_tick: u64) {
        self.cancel(id);
        self.armings += 1;
        self.timers.insert((deadline_tick.max(self.cursor_tick), self.armings), id);
    }

    fn cancel(&mut self, id: usize) -> bool {
        let before = self.timers.len();
        self.timers.retain(|_, &mut other| other != id);
        self.timers.len() < before
    }

    fn deadline(&self, id: usize) -> Option<u64> {
        let timer = self.timers.iter().find(|&(_, &other)| other == id);
        timer.map(|(&(deadline_tick, _), _)| deadline_tick)
    }

    fn next_deadline(&self) -> Option<u64> {
        self.timers.keys().next().map(|&(deadline_tick, _)| deadline_tick)
    }

    fn expire(&mut self, now_tick: u64) -> Option<usize> {
        self.now_tick = self.now_tick.max(now_tick);
        match self.timers.first_entry() {
            Some(timer) if timer.key().0 <= self.now_tick => {
                self.cursor_tick = timer.key().0;
                Some(timer.remove())
            }
            _ => {
                self.cursor_tick = self.now_tick;
                None
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Arm {
        id: usize,
        delay: u64,
    },
    ArmLate {
        id: usize,
        lateness: u64,
    },
    Cancel {
        id: usize,
    },
    /// One call of `expire`, without the rest of its run.
    ExpireOne {
        jump: u64,
    },
    /// A whole run of calls, in which the first returned ids are armed again with these delays.
    ExpireAll {
        jump: u64,
        rearm: Vec<u64>,
    },
    ExpireEarlier {
        by: u64,
    },
    /// A run of calls at the time of `next_deadline`.
    Wake,
}

const IDS: usize = 24;

fn delays() -> impl Strategy<Value = u64> {
    let boundary = prop::sample::select(boundaries());
    prop_oneof![
        4 => 0..200_u64,
        4 => 0..10_000_u64,
        3 => 0..1_u64 << 24,
        2 => 0..1_u64 << 44,
        2 => boundary,
        1 => any::<u64>(),
    ]
}

fn arms() -> impl Strategy<Value = Op> {
    (0..IDS, delays()).prop_map(|(id, delay)| Op::Arm { id, delay })
}

fn turns() -> impl Strategy<Value = Op> {
    let rearm = prop::collection::vec(delays(), 0..4);
    prop_oneof![
        delays().prop_map(|jump| Op::ExpireOne { jump }),
        (delays(), rearm).prop_map(|(jump, rearm)| Op::ExpireAll { jump, rearm }),
        delays().prop_map(|by| Op::ExpireEarlier { by }),
        Just(Op::Wake),
        Just(Op::Wake),
    ]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let late = (0..IDS, delays()).prop_map(|(id, lateness)| Op::ArmLate { id, lateness });
    let cancel = (0..IDS).prop_map(|id| Op::Cancel { id });
    let op = prop_oneof![5 => arms(), 1 => late, 2 => cancel, 4 => turns()];
    prop::collection::vec(op, 0..120)
}

/// The wheel and the model side by side.
struct Pair {
    wheel: Wheel,
    model: Model,
    /// The number of timers that were canceled or armed again.
    removals: usize,
}

impl Pair {
    fn new(start_tick: u64) -> Pair {
        let model = Model { now_tick: start_tick, cursor_tick: start_tick, ..Model::default() };
        Pair { wheel: Wheel::new(start_tick), model, removals: 0 }
    }

    fn apply(&mut self, op: &Op) {
        let now_tick = self.model.now_tick;
        match *op {
            Op::Arm { id, delay } => self.arm(id, now_tick.saturating_add(delay)),
            Op::ArmLate { id, lateness } => self.arm(id, now_tick.saturating_sub(lateness)),
            Op::Cancel { id } => {
                let was_armed = self.model.cancel(id);
                assert_eq!(self.wheel.cancel(id), was_armed);
                self.removals += usize::from(was_armed);
            }
            Op::ExpireOne { jump } => {
                self.expire(now_tick.saturating_add(jump));
            }
            Op::ExpireAll { jump, ref rearm } => {
                self.expire_all(now_tick.saturating_add(jump), rearm);
            }
            Op::ExpireEarlier { by } => self.expire_all(now_tick.saturating_sub(by), &[]),
            Op::Wake => {
                if let Some(deadline_tick) = self.wheel.next_deadline() {
                    self.expire_all(deadline_tick, &[]);
                }
            }
        }
        self.check();
    }

    fn arm(&mut self, id: usize, deadline_tick: u64) {
        self.removals += usize::from(self.wheel.deadline(id).is_some());
        self.wheel.arm(id, deadline_tick);
        self.model.arm(id, deadline_tick);
    }

    fn expire(&mut self, now_tick: u64) -> Option<usize> {
        let id = self.wheel.expire(now_tick);
        assert_eq!(id, self.model.expire(now_tick));
        id
    }

    fn expire_all(&mut self, now_tick: u64, rearm: &[u64]) {
        let mut rearm = rearm.iter();
        while let Some(id) = self.expire(now_tick) {
            if let Some(&delay) = rearm.next() {
                self.arm(id, now_tick.saturating_add(delay));
            }
            self.check();
        }
    }

    fn check(&self) {
        self.wheel.check();
        assert_eq!(self.wheel.len(), self.model.timers.len());
        assert_eq!(self.wheel.is_empty(), self.model.timers.is_empty());
        for id in 0..IDS {
            assert_eq!(self.wheel.deadline(id), self.model.deadline(id));
        }
        let (next, earliest) = (self.wheel.next_deadline(), self.model.next_deadline());
        assert_eq!(next.is_some(), earliest.is_some());
        assert!(next <= earliest, "next {next:?}, but the earliest is {earliest:?}");
        if self.removals == 0 {
            assert_eq!(next, earliest);
        }
    }

    /// Wakes up at the time of `next_deadline` until the wheel is empty.
    ///
    /// Returns the number of wake-ups, and the number of those at which no timer was due.
    fn wake_until_empty(&mut self) -> (usize, usize) {
        let (mut wake_ups, mut spare) = (0, 0);
        while let Some(deadline_tick) = self.wheel.next_deadline() {
            let before = self.wheel.len();
            self.expire_all(deadline_tick, &[]);
            wake_ups += 1;
            spare += usize::from(self.wheel.len() == before);
            assert!(wake_ups <= 10_000, "the wake-ups do not end");
        }
        (wake_ups, spare)
    }
}

proptest! {
    #[test]
    fn the_wheel_behaves_as_a_sorted_map(start_tick in delays(), ops in ops()) {
        let mut pair = Pair::new(start_tick);
        for op in &ops {
            pair.apply(op);
        }
        let (_, spare) = pair.wake_until_empty();
        prop_assert!(spare <= pair.removals);
    }

    #[test]
    fn without_a_cancel_no_wake_up_is_spare(
        start_tick in delays(),
        turns in prop::collection::vec((delays(), turns()), 0..IDS),
    ) {
        let mut pair = Pair::new(start_tick);
        for (id, (delay, turn)) in turns.iter().enumerate() {
            // Each turn has its own id, and only ids that were just returned are armed again. So no timer
            // is removed before its time.
            pair.apply(&Op::Arm { id, delay: *delay });
            pair.apply(turn);
        }
        prop_assert_eq!(pair.removals, 0);
        let (_, spare) = pair.wake_until_empty();
        prop_assert_eq!(spare, 0);
    }

    #[test]
    fn a_wake_up_is_spare_at_most_once_for_each_cancel(
        deadlines in prop::collection::vec(delays(), IDS),
        canceled in prop::collection::vec(0..IDS, 0..IDS),
    ) {
        let mut pair = Pair::new(0);
        for (id, &delay) in deadlines.iter().enumerate() {
            pair.apply(&Op::Arm { id, delay });
        }
        for &id in &canceled {
            pair.apply(&Op::Cancel { id });
        }
        let (_, spare) = pair.wake_until_empty();
        prop_assert!(spare <= pair.removals);
    }
}
