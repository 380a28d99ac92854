//! Times work over several rounds and takes the median, as other load on the machine affects few rounds.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Returns the middle value, or the mean of the two in the middle.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[len / 2],
        len => (values[len / 2 - 1] + values[len / 2]) / 2.0,
    }
}

/// Returns the value that `share` of the sorted values do not exceed.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// The clock that times a piece of work.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// For work of several threads.
    Wall,
    /// For work of this thread alone. The work of other threads and processes does not count.
    Thread,
}

impl Clock {
    /// Returns the seconds that `work` takes.
    pub fn time(self, work: impl FnOnce()) -> f64 {
        let id = match self {
            Clock::Wall => ClockId::Monotonic,
            Clock::Thread => ClockId::ThreadCPUTime,
        };
        let started = clock_gettime(id);
        work();
        let taken = clock_gettime(id) - started;
        taken.tv_sec as f64 + taken.tv_nsec as f64 / 1e9
    }
}

/// Runs the contestants in turn, and returns the median seconds of each.
pub fn race<const N: usize>(
    clock: Clock,
    rounds: usize,
    mut contestants: [&mut dyn FnMut(); N],
) -> [f64; N] {
    let mut times = [const { Vec::new() }; N];
    // An extra round at the start warms up caches, branch predictors and the allocator.
    for round in 0..=rounds {
        for (contestant, times) in contestants.iter_mut().zip(&mut times) {
            let time = clock.time(contestant);
            if round > 0 {
                times.push(time);
            }
        }
    }
    times.map(median)
}

pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
