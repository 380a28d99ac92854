use super::*;
use proptest::prelude::*;

const STOPS: [i32; 3] = [SIGHUP, SIGINT, SIGTERM];
const MS: Duration = Duration::from_millis(1);

/// Makes one check, as a caller does.
fn look(stopping: &mut Stopping, signals: &[i32], now: Duration) -> Vec<Decision> {
    let decisions = signals.iter().map(|&signal| stopping.on_signal(signal, now)).collect();
    stopping.on_look(now);
    decisions
}

/// Returns a `Stopping` that has found `first` at 10 s and has checked for repeats on time.
fn stopped(first: i32) -> (Stopping, Duration) {
    let (mut stopping, at) = (Stopping::default(), Duration::from_secs(10));
    assert_eq!(look(&mut stopping, &[first], at), [Decision::Stop]);
    assert_eq!(look(&mut stopping, &[], at + SETTLE_TIME), []);
    (stopping, at)
}

#[test]
fn a_second_signal_ends_the_process_from_500_ms_on_and_is_a_repeat_at_499_ms() {
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
fn the_statuses_are_those_of_shells() {
    for (signal, status) in [(SIGHUP, 129), (SIGINT, 130), (SIGTERM, 143)] {
        let (mut stopping, at) = stopped(SIGTERM);
        let decision = stopping.on_signal(signal, at + REPEAT_WINDOW);
        assert_eq!(decision, Decision::EndNow { status });
    }
}

#[test]
fn one_of_the_signals_of_one_check_stops_and_the_others_are_repeats() {
    let mut stopping = Stopping::default();
    let expected = [Decision::Stop, Decision::Nothing, Decision::Nothing];
    assert_eq!(look(&mut stopping, &STOPS, 3 * MS), expected);
}

#[test]
fn sigusr1_and_sigusr2_neither_stop_nor_end() {
    let others = [SIGUSR1, SIGUSR2];
    let requests = [Request::Report, Request::RetryNow].map(Decision::Request);
    let mut stopping = Stopping::default();
    assert_eq!(look(&mut stopping, &others, MS), requests);
    assert_eq!(stopping.pause(MS), None);
    let (mut stopping, at) = stopped(SIGINT);
    assert_eq!(look(&mut stopping, &others, at + 500 * MS), requests);
    assert_eq!(look(&mut stopping, &others, at + 5000 * MS), requests);
}

#[test]
fn sighup_is_a_request_if_there_is_a_list_to_read_again_and_else_a_stop() {
    let mut stopping = Stopping::new(true);
    let reload = Decision::Request(Request::Reload);
    assert_eq!(look(&mut stopping, &[SIGHUP, SIGHUP], MS), [reload, reload]);
    assert_eq!(stopping.pause(MS), None);
    assert_eq!(look(&mut stopping, &[SIGTERM, SIGHUP], 2 * MS), [Decision::Stop, reload]);
    assert_eq!(look(&mut Stopping::new(false), &[SIGHUP], MS), [Decision::Stop]);
}

#[test]
fn the_pause_after_the_first_signal_is_100_ms_and_otherwise_has_no_limit() {
    let mut stopping = Stopping::default();
    assert_eq!(stopping.pause(7 * MS), None);
    look(&mut stopping, &[SIGTERM], 10 * MS);
    assert_eq!(stopping.pause(10 * MS), Some(100 * MS));
    // An early check does not count.
    look(&mut stopping, &[SIGTERM], 109 * MS);
    assert_eq!(stopping.pause(109 * MS), Some(MS));
    assert_eq!(stopping.pause(200 * MS), Some(Duration::ZERO));
    look(&mut stopping, &[SIGTERM], 209 * MS);
    assert_eq!(stopping.pause(209 * MS), None);
}

#[test]
fn signals_of_a_check_that_is_100_ms_late_are_repeats_and_another_check_follows() {
    for late in [100, 400, 60_000] {
        let (mut stopping, mut now) = (Stopping::default(), Duration::ZERO);
        look(&mut stopping, &[SIGTERM], now);
        for _ in 0..3 {
            now += SETTLE_TIME + late * MS;
            assert_eq!(look(&mut stopping, &[SIGTERM, SIGHUP], now), [Decision::Nothing; 2]);
            assert_eq!(stopping.pause(now), Some(SETTLE_TIME));
        }
        now += SETTLE_TIME + 99 * MS;
        assert_eq!(look(&mut stopping, &[SIGTERM], now), [Decision::Nothing]);
        now = now.max(REPEAT_WINDOW);
        assert_eq!(look(&mut stopping, &[SIGTERM], now), [Decision::EndNow { status: 143 }]);
    }
}

/// Returns the decisions of a process about signals sent at these times, and when it found each.
///
/// The process wakes up late by each of `delays` in turn.
fn run(sent: &[(u64, i32)], delays: &[u64]) -> Vec<(Duration, u64, Decision)> {
    let millis = Duration::from_millis;
    let mut stopping = Stopping::default();
    let mut delays = delays.iter().cycle();
    let (mut now, mut taken, mut decisions) = (Duration::ZERO, 0, Vec::new());
    // Each signal takes a check, and so does each delay that makes the check for repeats too late.
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
    panic!("the checks for repeats do not end");
}

/// Generates one of the caught signals.
fn any_signal() -> impl Strategy<Value = i32> {
    prop::sample::select(CAUGHT.to_vec())
}

/// Generates signals in order of time, with many close to each other.
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
    fn only_the_first_signal_stops_and_none_within_100_ms_of_it_ends_a_late_process(
        sent in any_sent(),
        // One delay is 0, as otherwise the checks for repeats may not end.
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
    fn a_process_that_is_on_time_ends_at_each_signal_500_ms_after_it_found_the_first(
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
