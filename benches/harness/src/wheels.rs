//! Measures the wheel against a binary heap, with up to a million timers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;

use tcpcore::internals::proto::wheel::Wheel;

use crate::payload::Random;
use crate::programs::Programs;
use crate::stats::{Clock, median};
use crate::table::{Report, figure};
use crate::{Options, Result};

/// The longest delay of a timer in milliseconds: that of the default back-off.
const DELAY_MAX: u64 = 60_000;

pub fn run(options: &Options, _: &Programs, report: &mut Report) -> Result<()> {
    let sizes: &[usize] = if options.quick { &[1_000] } else { &[1_000, 100_000, 1_000_000] };
    let mut figures = Vec::new();
    for &size in sizes {
        // Small sets need more repetitions for a stable figure.
        let repeats = 1_000_000 / size;
        let mut rounds = Vec::new();
        for _ in 0..options.rounds {
            for _ in 0..repeats.min(if options.quick { 1 } else { 100 }) {
                rounds.push((time_steps::<Wheel>(size), time_steps::<Heap>(size)));
            }
        }
        for (step, name) in ["arm", "rearm", "cancel", "expire"].into_iter().enumerate() {
            let wheel = median(rounds.iter().map(|(wheel, _)| wheel[step]));
            let heap = median(rounds.iter().map(|(_, heap)| heap[step]));
            figures.push(vec![
                format!("{name}, {size} timers"),
                figure(wheel),
                figure(heap),
                figure(heap / wheel),
            ]);
        }
    }
    report.add_table(&["ns per timer", "wheel", "binary heap", "heap / wheel"], &figures);
    Ok(())
}

trait Timers {
    fn new() -> Self;
    fn arm(&mut self, id: usize, deadline: u64);
    fn cancel(&mut self, id: usize);
    fn next_deadline(&mut self) -> Option<u64>;
    fn expire(&mut self, now: u64) -> Option<usize>;
}

/// Returns the nanoseconds per timer of four steps: arm, rearm, cancel and expire. The last one includes a
/// wake-up for each deadline.
fn time_steps<T: Timers>(size: usize) -> [f64; 4] {
    let mut random = Random::new(7);
    let delays: Vec<u64> = (0..2 * size).map(|_| 1 + random.below(DELAY_MAX)).collect();
    let (first, second) = delays.split_at(size);
    let mut timers = T::new();
    let arm = Clock::Thread.time(|| (0..size).for_each(|id| timers.arm(id, first[id])));
    let rearm = Clock::Thread.time(|| (0..size).for_each(|id| timers.arm(id, second[id])));
    let cancelled = size / 2;
    let cancel = Clock::Thread.time(|| (0..cancelled).for_each(|id| timers.cancel(id)));
    let mut expired = 0;
    let expire = Clock::Thread.time(|| {
        while let Some(deadline) = timers.next_deadline() {
            while let Some(id) = timers.expire(deadline) {
                black_box(id);
                expired += 1;
            }
        }
    });
    assert_eq!(expired, size - cancelled, "a timer was lost");
    let nanos = |seconds: f64, count: usize| seconds * 1e9 / count as f64;
    [nanos(arm, size), nanos(rearm, size), nanos(cancel, cancelled), nanos(expire, expired)]
}

impl Timers for Wheel {
    fn new() -> Wheel {
        Wheel::new(0)
    }
    fn arm(&mut self, id: usize, deadline: u64) {
        Wheel::arm(self, id, deadline);
    }
    fn cancel(&mut self, id: usize) {
        Wheel::cancel(self, id);
    }
    fn next_deadline(&mut self) -> Option<u64> {
        Wheel::next_deadline(self)
    }
    fn expire(&mut self, now: u64) -> Option<usize> {
        Wheel::expire(self, now)
    }
}

/// Timers in a binary heap. A canceled or rearmed timer leaves a stale entry, which is dropped when it
/// reaches the top.
struct Heap {
    entries: BinaryHeap<Reverse<(u64, usize)>>,
    deadlines: Vec<Option<u64>>,
}

impl Timers for Heap {
    fn new() -> Heap {
        Heap { entries: BinaryHeap::new(), deadlines: Vec::new() }
    }
    fn arm(&mut self, id: usize, deadline: u64) {
        if id >= self.deadlines.len() {
            self.deadlines.resize(id + 1, None);
        }
        self.deadlines[id] = Some(deadline);
        self.entries.push(Reverse((deadline, id)));
    }
    fn cancel(&mut self, id: usize) {
        self.deadlines[id] = None;
    }
    fn next_deadline(&mut self) -> Option<u64> {
        while let Some(&Reverse((deadline, id))) = self.entries.peek() {
            if self.deadlines[id] == Some(deadline) {
                return Some(deadline);
            }
            self.entries.pop();
        }
        None
    }
    fn expire(&mut self, now: u64) -> Option<usize> {
        if self.next_deadline()? > now {
            return None;
        }
        let Reverse((_, id)) = self.entries.pop()?;
        self.deadlines[id] = None;
        Some(id)
    }
}
