//! Keeps how many lines and bytes arrived in the last ten minutes.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::time::Duration;

use crate::stats::{Counters, Snapshot};

/// The time from one sample to the next: 5 s, so that a plot of ten minutes has a point for two pixels of a small
/// screen.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// The samples that are kept: ten minutes. Each takes 4 bytes of each server.
pub const SAMPLES: usize = 120;

/// The samples whose mean is the present rate: 15 s, so that a feed with a line every few seconds has a steady one.
const RATE_SAMPLES: usize = 3;

/// The lines a second of the last ten minutes, of each server and of all together.
#[derive(Debug, Default)]
pub struct History {
    /// The time of the last sample.
    sampled: Option<Duration>,
    /// By [`ServerStats::number`](crate::stats::ServerStats::number): the servers of the last sample.
    servers: HashMap<usize, Series>,
    total: Series,
}

/// The lines and bytes that arrive in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// The whole lines.
    pub lines: f32,
    /// The bytes.
    pub bytes: f32,
}

impl History {
    /// Takes a sample, if half of [`INTERVAL`] has passed since the last one. `now` is the time since any fixed
    /// moment, by a clock that does not go back.
    ///
    /// The first sample is the start, and has no rate. After a pause, the missed samples are the mean of its time.
    pub fn sample(&mut self, now: Duration, snapshot: &Snapshot) {
        let is_first = self.sampled.is_none();
        let elapsed = now.saturating_sub(self.sampled.unwrap_or(now));
        let samples = (elapsed + INTERVAL / 2).as_millis() / INTERVAL.as_millis();
        if samples == 0 && !is_first {
            return;
        }
        let samples = usize::try_from(samples).unwrap_or(SAMPLES).min(SAMPLES);
        self.sampled = Some(now);
        self.total.add(snapshot.totals.counters, elapsed, samples);
        // Those that are gone are dropped with the old map.
        let mut known = mem::take(&mut self.servers);
        self.servers.reserve(snapshot.servers.len());
        for server in &snapshot.servers {
            let number = server.stats.number();
            // All that a new one has counted, it has counted since the last sample.
            let mut series = known.remove(&number).unwrap_or_default();
            series.add(server.counters, elapsed, samples);
            self.servers.insert(number, series);
        }
    }

    /// Returns the time at which the next sample is due.
    pub fn due(&self) -> Duration {
        self.sampled.map_or(Duration::ZERO, |sampled| sampled + INTERVAL)
    }

    /// Returns the present rate of a server.
    pub fn rate(&self, number: usize) -> Rate {
        self.servers.get(&number).map_or_else(Rate::default, |series| series.rate)
    }

    /// Returns the lines a second of a server, the oldest sample first.
    pub fn lines(&self, number: usize) -> impl Iterator<Item = f32> {
        self.servers.get(&number).into_iter().flat_map(|series| series.lines.iter().copied())
    }

    /// Returns the present rate of all servers together.
    pub fn total_rate(&self) -> Rate {
        self.total.rate
    }

    /// Returns the lines a second of all servers together, the oldest sample first.
    pub fn total_lines(&self) -> impl Iterator<Item = f32> {
        self.total.lines.iter().copied()
    }
}

/// The samples of one server, or of all.
#[derive(Debug, Default)]
struct Series {
    /// The counters at the last sample.
    last: Rated,
    /// The lines a second. Invariant: at most [`SAMPLES`].
    lines: VecDeque<f32>,
    /// The bytes a second of the last samples, in any order: that of sample n is at n modulo [`RATE_SAMPLES`].
    bytes: [f32; RATE_SAMPLES],
    /// The number of samples, modulo [`RATE_SAMPLES`].
    next: usize,
    /// The mean of the last samples. A sort by rate asks for those of all servers, so they are kept.
    rate: Rate,
}

/// The counters that have a rate.
#[derive(Clone, Copy, Debug, Default)]
struct Rated {
    lines: u64,
    bytes: u64,
}

impl Series {
    /// Adds so many samples, with the mean of all that was counted in this time.
    fn add(&mut self, counters: Counters, elapsed: Duration, samples: usize) {
        let last =
            mem::replace(&mut self.last, Rated { lines: counters.lines, bytes: counters.bytes });
        let lines = per_second(counters.lines.saturating_sub(last.lines), elapsed);
        let bytes = per_second(counters.bytes.saturating_sub(last.bytes), elapsed);
        for _ in 0..samples {
            if self.lines.len() == SAMPLES {
                self.lines.pop_front();
            }
            self.lines.push_back(lines);
            self.bytes[self.next] = bytes;
            self.next = (self.next + 1) % RATE_SAMPLES;
        }
        self.rate = self.mean();
    }

    /// Returns the mean of the last samples.
    fn mean(&self) -> Rate {
        let samples = self.lines.len().min(RATE_SAMPLES);
        if samples == 0 {
            return Rate::default();
        }
        // Those that are not taken yet are 0.
        let mean = |sum: f32| sum / f32::from(u16::try_from(samples).expect("it is small"));
        Rate {
            lines: mean(self.lines.iter().rev().take(samples).sum()),
            bytes: mean(self.bytes.iter().sum()),
        }
    }
}

/// Divides a count by a time. A plot needs no more digits than `f32` has.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
fn per_second(count: u64, elapsed: Duration) -> f32 {
    if elapsed.is_zero() { 0.0 } else { (count as f64 / elapsed.as_secs_f64()) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{Feed, feeds, snapshot};

    fn sample(history: &mut History, seconds: u64, feeds: &[Feed]) {
        history.sample(Duration::from_secs(seconds), &snapshot(feeds));
    }

    fn lines(history: &History, number: usize) -> Vec<f32> {
        history.lines(number).collect()
    }

    #[test]
    fn the_first_sample_is_the_start_and_later_ones_are_rates() {
        let mut feeds = feeds(2);
        feeds[0].count(1000, 9000);
        let mut history = History::default();
        assert_eq!(history.due(), Duration::ZERO);
        sample(&mut history, 100, &feeds);
        assert_eq!((history.rate(0), lines(&history, 0)), (Rate::default(), vec![]));
        assert_eq!(history.due(), Duration::from_secs(105));
        feeds[0].count(50, 500);
        feeds[1].count(5, 10);
        sample(&mut history, 105, &feeds);
        assert_eq!(history.rate(0), Rate { lines: 10.0, bytes: 100.0 });
        assert_eq!(history.rate(1), Rate { lines: 1.0, bytes: 2.0 });
        assert_eq!(history.total_rate(), Rate { lines: 11.0, bytes: 102.0 });
        assert_eq!(history.total_lines().collect::<Vec<_>>(), [11.0]);
    }

    #[test]
    fn the_rate_is_the_mean_of_the_last_three_samples() {
        let mut feeds = feeds(1);
        let mut history = History::default();
        sample(&mut history, 0, &feeds);
        for (sample_number, more) in [100, 20, 30, 40].into_iter().enumerate() {
            feeds[0].count(5 * more, 50 * more);
            sample(&mut history, 5 * (sample_number as u64 + 1), &feeds);
        }
        assert_eq!(lines(&history, 0), [100.0, 20.0, 30.0, 40.0]);
        assert_eq!(history.rate(0), Rate { lines: 30.0, bytes: 300.0 });
    }

    #[test]
    fn the_121st_sample_takes_the_place_of_the_first() {
        let mut feeds = feeds(1);
        let mut history = History::default();
        sample(&mut history, 0, &feeds);
        for number in 1..=121 {
            feeds[0].count(5 * number, 0);
            sample(&mut history, 5 * number, &feeds);
        }
        let lines = lines(&history, 0);
        assert_eq!((lines.len(), lines[0], lines[119]), (120, 2.0, 121.0));
    }

    #[test]
    fn a_sample_that_comes_too_early_waits_and_a_late_one_fills_the_pause() {
        let mut feeds = feeds(1);
        let mut history = History::default();
        history.sample(Duration::ZERO, &snapshot(&feeds));
        feeds[0].count(10, 0);
        history.sample(Duration::from_millis(2499), &snapshot(&feeds));
        assert_eq!(lines(&history, 0), [0.0; 0]);
        history.sample(Duration::from_millis(2500), &snapshot(&feeds));
        assert_eq!(lines(&history, 0), [4.0]);
        feeds[0].count(40, 0);
        history.sample(Duration::from_millis(22_500), &snapshot(&feeds));
        assert_eq!(lines(&history, 0), [4.0, 2.0, 2.0, 2.0, 2.0]);
        feeds[0].count(86_400, 0);
        history.sample(Duration::from_millis(86_422_500), &snapshot(&feeds));
        assert_eq!(lines(&history, 0), [1.0; 120]);
        history.sample(Duration::from_secs(u64::MAX), &snapshot(&feeds));
        assert_eq!(lines(&history, 0), [0.0; 120]);
        // A clock that goes back is as one that stands still.
        feeds[0].count(1, 0);
        history.sample(Duration::ZERO, &snapshot(&feeds));
        assert_eq!(lines(&history, 0), [0.0; 120]);
    }

    #[test]
    fn an_added_server_begins_with_its_first_sample_and_a_removed_one_is_forgotten() {
        let mut feeds = feeds(3);
        let mut history = History::default();
        sample(&mut history, 0, &feeds[..2]);
        feeds[1].count(10, 0);
        feeds[2].count(20, 0);
        sample(&mut history, 5, &feeds[1..]);
        assert_eq!([0, 1, 2].map(|number| lines(&history, number)), [vec![], vec![2.0], vec![4.0]]);
        assert_eq!(history.servers.len(), 2);
        sample(&mut history, 10, &feeds);
        assert_eq!(lines(&history, 0), [0.0], "the same number again is a new server");
    }
}
