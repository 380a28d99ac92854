use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;

const NS: Duration = Duration::from_nanos(1);

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn delays_without_jitter<const N: usize>(backoff: Backoff) -> [Duration; N] {
    std::array::from_fn(|n| backoff.delay_without_jitter(u32::try_from(n).expect("N is small")))
}

#[test]
fn the_default_passes_its_own_checks() {
    assert_eq!(Backoff::new(s(1), s(60), 2.0, 0.1), Ok(Backoff::default()));
}

#[test]
fn the_settings_can_be_read() {
    let backoff = Backoff::new(ms(20), ms(70), 3.5, 0.25).unwrap();
    assert_eq!((backoff.initial(), backoff.max()), (ms(20), ms(70)));
    assert_eq!((backoff.multiplier(), backoff.jitter()), (3.5, 0.25));
}

#[test]
fn the_delay_doubles_from_attempt_0_up_to_the_cap() {
    assert_eq!(
        delays_without_jitter(Backoff::default()),
        [s(1), s(2), s(4), s(8), s(16), s(32), s(60), s(60)]
    );
}

#[test]
fn the_jitter_spreads_to_both_sides_at_attempt_0_and_at_the_cap() {
    let backoff = Backoff::default();
    assert_eq!(backoff.bounds(0), ms(900)..=ms(1100));
    assert_eq!(backoff.bounds(6), s(54)..=s(66));
}

#[test]
fn delays_at_the_cap_fill_their_bounds_evenly() {
    let mut rng = SmallRng::seed_from_u64(6);
    let mut tenths = [0_u32; 12];
    for _ in 0..12_000 {
        let delay = Backoff::default().delay(100, &mut rng);
        let second = usize::try_from((delay - s(54)).as_secs()).expect("within the bounds");
        tenths[second] += 1;
    }
    assert!(tenths.iter().all(|count| (800..1200).contains(count)), "{tenths:?}");
}

#[test]
fn the_exponent_saturates_after_a_month_and_at_u32_max() {
    for attempt in [7, 63, 64, 1023, 1024, 43_200, u32::MAX - 1, u32::MAX] {
        assert_eq!(Backoff::default().bounds(attempt), s(54)..=s(66), "attempt {attempt}");
    }
}

#[test]
fn a_multiplier_of_1_keeps_the_delay() {
    let backoff = Backoff::new(s(5), s(60), 1.0, 0.0).expect("within the bounds");
    assert_eq!(backoff.bounds(0), s(5)..=s(5));
    assert_eq!(backoff.bounds(u32::MAX), s(5)..=s(5));
}

#[test]
fn a_jitter_of_0_makes_each_delay_exact() {
    let backoff = Backoff::new(ms(1), s(1), 3.0, 0.0).expect("within the bounds");
    assert_eq!(delays_without_jitter(backoff), [ms(1), ms(3), ms(9), ms(27), ms(81)]);
    assert_eq!(backoff.delay(2, &mut SmallRng::seed_from_u64(0)), ms(9));
}

#[test]
fn a_jitter_of_1_makes_no_delay_below_1_ms() {
    let backoff = Backoff::new(ms(1), s(60), 2.0, 1.0).expect("within the bounds");
    assert_eq!(backoff.bounds(0), ms(1)..=ms(2));
    assert_eq!(backoff.bounds(u32::MAX), ms(1)..=s(120));
}

#[test]
fn the_largest_settings_do_not_overflow() {
    let backoff = Backoff::new(MAX_DELAY, MAX_DELAY, MAX_MULTIPLIER, 1.0);
    let backoff = backoff.expect("within the bounds");
    assert_eq!(backoff.bounds(0), ms(1)..=2 * MAX_DELAY);
    assert_eq!(backoff.bounds(u32::MAX), ms(1)..=2 * MAX_DELAY);
}

#[test]
fn the_initial_delay_is_1_ms_to_365_days() {
    assert!(Backoff::new(ms(1), s(60), 2.0, 0.1).is_ok());
    assert!(Backoff::new(MAX_DELAY, MAX_DELAY, 2.0, 0.1).is_ok());
    for initial in [Duration::ZERO, ms(1) - NS, MAX_DELAY + NS, Duration::MAX] {
        let error = Backoff::new(initial, Duration::MAX, 2.0, 0.1);
        assert_eq!(error, Err(BackoffError::Initial { initial }));
    }
}

#[test]
fn the_cap_is_the_initial_delay_to_365_days() {
    assert!(Backoff::new(s(1), s(1), 2.0, 0.1).is_ok());
    assert!(Backoff::new(s(1), MAX_DELAY, 2.0, 0.1).is_ok());
    for max in [Duration::ZERO, s(1) - NS, MAX_DELAY + NS, Duration::MAX] {
        let error = Backoff::new(s(1), max, 2.0, 0.1);
        assert_eq!(error, Err(BackoffError::Max { max, initial: s(1) }));
    }
}

#[test]
fn the_multiplier_is_1_to_a_million() {
    assert!(Backoff::new(s(1), s(60), MAX_MULTIPLIER, 0.1).is_ok());
    for multiplier in [1.0_f64.next_down(), MAX_MULTIPLIER.next_up(), -2.0, f64::INFINITY] {
        let error = Backoff::new(s(1), s(60), multiplier, 0.1);
        assert_eq!(error, Err(BackoffError::Multiplier { multiplier }));
    }
    let error = Backoff::new(s(1), s(60), f64::NAN, 0.1);
    assert!(matches!(error, Err(BackoffError::Multiplier { .. })));
}

#[test]
fn the_jitter_is_0_to_1() {
    assert!(Backoff::new(s(1), s(60), 2.0, 0.0).is_ok());
    assert!(Backoff::new(s(1), s(60), 2.0, 1.0).is_ok());
    for jitter in [0.0_f64.next_down(), 1.0_f64.next_up(), f64::NEG_INFINITY, f64::INFINITY] {
        let error = Backoff::new(s(1), s(60), 2.0, jitter);
        assert_eq!(error, Err(BackoffError::Jitter { jitter }));
    }
    let error = Backoff::new(s(1), s(60), 2.0, f64::NAN);
    assert!(matches!(error, Err(BackoffError::Jitter { .. })));
}

#[test]
fn an_error_names_its_setting_the_value_and_what_was_expected() {
    let error_of = |initial, max, multiplier, jitter| {
        let error = Backoff::new(initial, max, multiplier, jitter).expect_err("out of bounds");
        (error.setting(), error.to_string())
    };
    assert_eq!(
        error_of(s(0), s(60), 2.0, 0.1),
        ("initial-backoff", "the initial back-off is 0s, but must be 1ms to 365d".to_owned())
    );
    assert_eq!(
        error_of(s(2), s(1), 2.0, 0.1),
        (
            "max-backoff",
            "the maximum back-off is 1s, but must be 2s (the initial back-off) to 365d".to_owned()
        )
    );
    assert_eq!(
        error_of(s(1), s(60), 0.5, 0.1),
        (
            "backoff-multiplier",
            "the back-off multiplier is 0.5, but must be 1 to 1000000".to_owned()
        )
    );
    assert_eq!(
        error_of(s(1), s(60), 2.0, 1.5),
        ("jitter-factor", "the jitter factor is 1.5, but must be 0 to 1".to_owned())
    );
}

/// Generates valid settings, including the extremes.
fn backoffs() -> impl Strategy<Value = Backoff> {
    let delay_ms = || prop_oneof![Just(1), 1..100_000_u64, Just(31_536_000_000)];
    let multiplier = prop_oneof![Just(1.0), 1.0..4.0, Just(MAX_MULTIPLIER)];
    let jitter = prop_oneof![Just(0.0), 0.0..=1.0, Just(1.0)];
    (delay_ms(), delay_ms(), multiplier, jitter).prop_map(|(a, b, multiplier, jitter)| {
        Backoff::new(ms(a.min(b)), ms(a.max(b)), multiplier, jitter).expect("within the bounds")
    })
}

fn attempts() -> impl Strategy<Value = u32> {
    prop_oneof![0..64_u32, any::<u32>(), Just(u32::MAX)]
}

proptest! {
    #[test]
    fn a_delay_is_within_its_bounds_and_those_of_the_settings(
        backoff in backoffs(),
        attempt in attempts(),
        seed: u64,
    ) {
        let delay = backoff.delay(attempt, &mut SmallRng::seed_from_u64(seed));
        prop_assert!(backoff.bounds(attempt).contains(&delay));
        prop_assert!(delay >= MIN_DELAY);
        prop_assert!(delay <= backoff.max.mul_f64(1.0 + backoff.jitter) + NS * 10);
    }

    #[test]
    fn a_later_attempt_never_has_a_shorter_delay(backoff in backoffs(), a in attempts(), b in attempts()) {
        let (earlier, later) = (backoff.bounds(a.min(b)), backoff.bounds(a.max(b)));
        prop_assert!(earlier.start() <= later.start());
        prop_assert!(earlier.end() <= later.end());
    }
}
