//! What a signal means: the first one stops, repeats of it change nothing, a second one ends at once.
//!
//! Senders repeat themselves: `timeout` signals its child and then the child's whole group, and
//! supervisors do the like. So signals that follow the first one closely are repeats of it.

use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

/// The signals that have a meaning. SIGUSR1 and SIGUSR2 have none yet, but by default they would kill
/// the process in the middle of a line.
pub(crate) const CAUGHT: [i32; 5] = [SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2];

/// Signals that are found within 500 ms after the first one are repeats of it: senders that repeat
/// themselves do so within a few milliseconds, and a user takes longer to decide.
pub(crate) const REPEAT_WINDOW: Duration = Duration::from_millis(500);

/// The time from the first signal to the next look for repeats, 100 ms, and how late that look may be.
const SETTLE_TIME: Duration = Duration::from_millis(100);

/// Decides what to do about signals, for a caller that looks for them from time to time.
///
/// Nobody knows when a signal was sent, only when it was found. In most cases that is the same, but a
/// process that was starved or suspended right after the first signal finds a repeat of it much later.
/// Therefore nothing ends at once before a look has taken place on time, and has taken the repeats.
///
/// A look is: wait, by [`pause`](Self::pause); read the clock; take all signals and give each to
/// [`on_signal`](Self::on_signal); call [`on_look`](Self::on_look). `now` is a time since any fixed start.
#[derive(Debug, Default)]
pub(crate) struct Stopping {
    first: Option<First>,
}

#[derive(Debug)]
struct First {
    at: Duration,
    /// When to look for repeats; `None` once a look was on time.
    look_at: Option<Duration>,
}

/// What to do about a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Stop: read no more and write what was read.
    Stop,
    /// Nothing: the signal repeats the first one, or has no meaning.
    Nothing,
    /// End the process at once, with this status.
    EndNow {
        /// 128 and the number of the signal, as a shell shows a process that a signal has killed.
        status: i32,
    },
}

impl Stopping {
    /// How long to wait for the next look; `None` is until there is a signal.
    pub(crate) fn pause(&self, now: Duration) -> Option<Duration> {
        let look_at = self.first.as_ref()?.look_at?;
        Some(look_at.saturating_sub(now))
    }

    /// Decides about a signal that a look at `now` has found.
    pub(crate) fn on_signal(&mut self, signal: i32, now: Duration) -> Decision {
        if !matches!(signal, SIGHUP | SIGINT | SIGTERM) {
            return Decision::Nothing;
        }
        match &self.first {
            None => {
                self.first = Some(First { at: now, look_at: Some(now + SETTLE_TIME) });
                Decision::Stop
            }
            Some(First { at, look_at: None }) if now >= *at + REPEAT_WINDOW => {
                Decision::EndNow { status: 128 + signal }
            }
            Some(_) => Decision::Nothing,
        }
    }

    /// Ends a look that took all signals there were at `now`.
    pub(crate) fn on_look(&mut self, now: Duration) {
        let Some(first) = &mut self.first else {
            return;
        };
        first.look_at = match first.look_at {
            // Too late: the process did not get to run, and repeats may still be on their way.
            Some(due) if now >= due + SETTLE_TIME => Some(now + SETTLE_TIME),
            Some(due) if now >= due => None,
            look_at => look_at,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STOPS: [i32; 3] = [SIGHUP, SIGINT, SIGTERM];
    const MS: Duration = Duration::from_millis(1);

    /// Looks once, as a caller does.
    fn look(stopping: &mut Stopping, signals: &[i32], now: Duration) -> Vec<Decision> {
        let decisions = signals.iter().map(|&signal| stopping.on_signal(signal, now)).collect();
        stopping.on_look(now);
        decisions
    }

    /// That has found `first` at 10 s and has looked for repeats on time.
    fn stopped(first: i32) -> (Stopping, Duration) {
        let (mut stopping, at) = (Stopping::default(), Duration::from_secs(10));
        assert_eq!(look(&mut stopping, &[first], at), [Decision::Stop]);
        assert_eq!(look(&mut stopping, &[], at + SETTLE_TIME), []);
        (stopping, at)
    }

    #[test]
    fn a_second_signal_ends_at_once_from_500_ms_on_and_a_repeat_before_changes_nothing() {
        for (first, second) in STOPS.iter().flat_map(|&first| STOPS.map(|second| (first, second))) {
            let (mut stopping, at) = stopped(first);
            for after in [100, 101, 250, 499] {
                let decisions = look(&mut stopping, &[second, first], at + after * MS);
                assert_eq!(decisions, [Decision::Nothing; 2], "after {after} ms");
            }
            let decisions = look(&mut stopping, &[second], at + 500 * MS);
            assert_eq!(decisions, [Decision::EndNow { status: 128 + second }]);
        }
    }

    #[test]
    fn statuses_are_those_that_shells_show() {
        for (signal, status) in [(SIGHUP, 129), (SIGINT, 130), (SIGTERM, 143)] {
            let (mut stopping, at) = stopped(SIGTERM);
            let decision = stopping.on_signal(signal, at + REPEAT_WINDOW);
            assert_eq!(decision, Decision::EndNow { status });
        }
    }

    #[test]
    fn of_signals_that_one_look_finds_one_stops_and_the_others_repeat_it() {
        let mut stopping = Stopping::default();
        let expected = [Decision::Stop, Decision::Nothing, Decision::Nothing];
        assert_eq!(look(&mut stopping, &STOPS, 3 * MS), expected);
    }

    #[test]
    fn signals_without_a_meaning_neither_stop_nor_end() {
        let others = [SIGUSR1, SIGUSR2];
        let mut stopping = Stopping::default();
        assert_eq!(look(&mut stopping, &others, MS), [Decision::Nothing; 2]);
        assert_eq!(stopping.pause(MS), None);
        let (mut stopping, at) = stopped(SIGINT);
        assert_eq!(look(&mut stopping, &others, at + 500 * MS), [Decision::Nothing; 2]);
        assert_eq!(look(&mut stopping, &others, at + 5000 * MS), [Decision::Nothing; 2]);
    }

    #[test]
    fn it_waits_for_a_signal_then_100_ms_for_repeats_and_then_for_a_signal_again() {
        let mut stopping = Stopping::default();
        assert_eq!(stopping.pause(7 * MS), None);
        look(&mut stopping, &[SIGTERM], 10 * MS);
        assert_eq!(stopping.pause(10 * MS), Some(100 * MS));
        // A look that is early is none.
        look(&mut stopping, &[SIGTERM], 109 * MS);
        assert_eq!(stopping.pause(109 * MS), Some(MS));
        assert_eq!(stopping.pause(200 * MS), Some(Duration::ZERO));
        look(&mut stopping, &[SIGTERM], 209 * MS);
        assert_eq!(stopping.pause(209 * MS), None);
    }

    #[test]
    fn what_a_look_finds_that_is_100_ms_late_is_a_repeat_and_it_looks_again() {
        for late in [100, 400, 60_000] {
            let (mut stopping, mut now) = (Stopping::default(), Duration::ZERO);
            look(&mut stopping, &[SIGTERM], now);
            for _ in 0..3 {
                now += SETTLE_TIME + late * MS;
                assert_eq!(look(&mut stopping, &[SIGTERM, SIGUSR1], now), [Decision::Nothing; 2]);
                assert_eq!(stopping.pause(now), Some(SETTLE_TIME));
            }
            now += SETTLE_TIME + 99 * MS;
            assert_eq!(look(&mut stopping, &[SIGTERM], now), [Decision::Nothing]);
            now = now.max(REPEAT_WINDOW);
            assert_eq!(look(&mut stopping, &[SIGTERM], now), [Decision::EndNow { status: 143 }]);
        }
    }

    /// What a process decides about signals sent at these times, and when it has found each. It gets to
    /// run as late as `delays` say, one after the other.
    fn run(sent: &[(u64, i32)], delays: &[u64]) -> Vec<(Duration, u64, Decision)> {
        let millis = Duration::from_millis;
        let mut stopping = Stopping::default();
        let mut delays = delays.iter().cycle();
        let (mut now, mut taken, mut decisions) = (Duration::ZERO, 0, Vec::new());
        // Each signal takes a look, and so does each delay that makes the look for repeats too late.
        for _ in 0..100 {
            match (stopping.pause(now), sent.get(taken)) {
                (Some(pause), _) => now += pause,
                (None, Some(&(at, _))) => now = now.max(millis(at)),
                (None, None) => return decisions,
            }
            now += millis(*delays.next().unwrap());
            let found = sent[taken..].iter().take_while(|&&(at, _)| millis(at) <= now);
            for &(at, signal) in found {
                taken += 1;
                decisions.push((now, at, stopping.on_signal(signal, now)));
            }
            stopping.on_look(now);
        }
        panic!("it looks for repeats without an end");
    }

    fn any_signal() -> impl Strategy<Value = i32> {
        prop::sample::select(CAUGHT.to_vec())
    }

    /// In order of time, with many close to each other.
    fn any_sent() -> impl Strategy<Value = Vec<(u64, i32)>> {
        let gap = prop_oneof![0..=5_u64, 0..=200_u64, 400..=700_u64];
        prop::collection::vec((gap, any_signal()), 0..8).prop_map(|gaps| {
            let mut time = 0;
            let add = |(gap, signal)| {
                time += gap;
                (time, signal)
            };
            gaps.into_iter().map(add).collect()
        })
    }

    proptest! {
        #[test]
        fn only_the_first_stops_and_nothing_within_100_ms_of_it_ends_however_late_the_process_runs(
            sent in any_sent(),
            // One of them is on time, or it would look for repeats forever.
            mut delays in prop::collection::vec(0..=1000_u64, 0..6),
        ) {
            delays.push(0);
            let decisions = run(&sent, &delays);
            prop_assert_eq!(decisions.len(), sent.len());
            let stops = decisions.iter().filter(|(.., decision)| *decision == Decision::Stop);
            let is_stop = |&(_, signal): &(u64, i32)| STOPS.contains(&signal);
            prop_assert_eq!(stops.count(), usize::from(sent.iter().any(is_stop)));
            let first = sent.iter().position(is_stop);
            let Some(first) = first else { return Ok(()) };
            let (found_at, sent_at, decision) = decisions[first];
            prop_assert_eq!(decision, Decision::Stop);
            for (index, &(now, at, decision)) in decisions.iter().enumerate() {
                if let Decision::EndNow { status } = decision {
                    prop_assert_eq!(status, 128 + sent[index].1);
                    prop_assert!(now >= found_at + REPEAT_WINDOW);
                    prop_assert!(at > sent_at + 100, "sent {} ms after the first", at - sent_at);
                }
            }
        }

        #[test]
        fn a_process_that_gets_to_run_ends_at_each_signal_500_ms_after_it_found_the_first(
            sent in any_sent(),
            delays in prop::collection::vec(0..100_u64, 1..6),
        ) {
            let decisions = run(&sent, &delays);
            let Some(first) = decisions.iter().find(|(.., decision)| *decision == Decision::Stop)
            else { return Ok(()) };
            let window_end = first.0 + REPEAT_WINDOW;
            for (&(_, signal), &(_, at, decision)) in sent.iter().zip(&decisions) {
                let (at, may_end) = (Duration::from_millis(at), STOPS.contains(&signal));
                if at >= window_end && may_end {
                    prop_assert_eq!(decision, Decision::EndNow { status: 128 + signal });
                }
                if at + 100 * MS <= window_end || !may_end {
                    let ends = matches!(decision, Decision::EndNow { .. });
                    prop_assert!(!ends, "sent {at:?}, {decision:?}");
                }
            }
        }
    }
}
