use proptest::prelude::*;

use super::*;

fn nanos(text: &str) -> Option<u128> {
    parse(text).ok().map(|duration| duration.as_nanos())
}

fn fault(text: &str) -> Fault {
    match parse(text) {
        Ok(duration) => panic!("{text:?} was taken as {duration:?}"),
        Err(error) => error.fault,
    }
}

fn remedy(text: &str) -> Option<String> {
    parse(text).unwrap_err().remedy()
}

#[test]
fn each_unit_has_its_length() {
    for (text, ms) in [
        ("1ms", 1),
        ("250ms", 250),
        ("1s", 1000),
        ("3m", 180_000),
        ("1h", 3_600_000),
        ("365d", 31_536_000_000),
        ("31536000000ms", 31_536_000_000),
        ("0s", 0),
        ("0", 0),
        ("007s", 7000),
    ] {
        assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
    }
}

#[test]
fn parts_add_up_with_and_without_blanks() {
    for text in ["1h30m", "1h 30m", "1h   30m", "30m1h", "1.5h", "90m", "80m600s", "0d1h30m"] {
        assert_eq!(parse(text), Ok(Duration::from_secs(5400)), "{text}");
    }
}

#[test]
fn fractions_are_exact_down_to_a_nanosecond() {
    for (text, expected) in [
        ("1.5s", 1_500_000_000),
        ("0.25ms", 250_000),
        ("0.000001ms", 1),
        ("0.000000001s", 1),
        ("0.1d", 8_640_000_000_000),
        ("0.1s", 100_000_000),
        ("1.50000000000000000000000000000000000000000s", 1_500_000_000),
        // No float has this many digits.
        ("18446744073709551614.999999999s", 18_446_744_073_709_551_614_999_999_999),
        // The longest fraction: 27 * 5^11 * 2^16 ns, of which 5^16 / 10^16 is 27 * 5^11.
        ("0.0000152587890625d", 1_318_359_375),
    ] {
        assert_eq!(nanos(text), Some(expected), "{text}");
    }
    for text in [
        "0.0000001ms",
        "1.0000000001s",
        "0.00000152587890625s",
        "0.00001525878906250001d",
        "0.00001525878906251d",
        "0.33333333333333333333333333333333333333333333333333333d",
    ] {
        assert_eq!(fault(text), Fault::TooFine, "{text}");
    }
}

#[test]
fn a_sum_beyond_the_longest_duration_is_an_error() {
    assert_eq!(parse("18446744073709551615.999999999s"), Ok(Duration::MAX));
    assert_eq!(parse("18446744073709551615s999.999999ms"), Ok(Duration::MAX));
    for text in [
        "18446744073709551616s",
        "18446744073709551615s1000ms",
        "213503982334602d",
        // The product, the sum, the digits and the fraction are each beyond 128 bits.
        "340282366920938463463374607431768211455d",
        "340282366920938463463374607431ms340282366920938463463374607431768ms",
        "340282366920938463463374607431768211456ms",
        "340282366920938463463374607431768.211456ms",
        "999999999999999999999999999999999999999999999999s",
    ] {
        assert_eq!(fault(text), Fault::TooLong, "{text}");
    }
    let half = format!("{}ms", u128::MAX / 1_000_000);
    assert_eq!(fault(&format!("{half}{half}")), Fault::TooLong);
    assert_eq!(fault("340282366920938463463374607431768.999999ms"), Fault::TooLong);
}

#[test]
fn any_other_text_is_refused_for_its_own_reason() {
    for text in [
        "", " ", "s", "ms", "soon", "-1s", "+1s", "1.s", ".5s", ".s", "1..5s", "1.2.3s", "1,5s",
        "1s,", "1s ", " 1s", "1s\t1s", "1s-1s", "1s\n", "\u{661}s", "1h m", "inf", "NaN", "10\n",
        "1\u{b5}s", ".", "1..", "1.",
    ] {
        assert_eq!(fault(text), Fault::NotADuration, "{text:?}");
    }
    for text in ["1", "10", "00", "1 s", "1m30", "1m30 5s", "10 "] {
        assert_eq!(fault(text), Fault::NoUnit, "{text:?}");
    }
    for text in ["1w", "1y", "1us", "1ns", "1month", "2days", "1hour", "1sec", "1min", "1e3s"] {
        assert_eq!(fault(text), Fault::UnknownUnit, "{text:?}");
    }
    for text in ["1M", "1S", "1MS", "1mS", "1H30M", "1h30M", "1D"] {
        assert_eq!(fault(text), Fault::UpperCase, "{text:?}");
    }
}

#[test]
fn each_likely_intent_has_its_remedy() {
    for (text, expected) in [
        ("1M", "1m"),
        ("1H 30M", "1h30m"),
        ("500MS", "500ms"),
        ("10", "10s"),
        ("0.5", "0.5s"),
        ("1,5s", "1.5s"),
        ("1 s", "1s"),
        (" 1s\n", "1s"),
        ("2 weeks", "14d"),
        ("1wk", "7d"),
        ("1w2d", "7d2d"),
        ("1 day 2 hours 3 minutes 4 seconds 5 milliseconds", "1d2h3m4s5ms"),
        ("1days 2hr 3mins 4secs 5msec", "1d2h3m4s5ms"),
        ("2hours 3min 4sec 5millis", "2h3m4s5ms"),
        ("2hrs 3minute 4second 5msecs", "2h3m4s5ms"),
        ("1hour 2millisecond", "1h2ms"),
        ("3wks", "21d"),
        ("3week", "21d"),
    ] {
        assert_eq!(remedy(text).as_deref(), Some(expected), "{text:?}");
    }
    // A month has no fixed length, and the other texts have no clear intent.
    for text in ["", "s", "1month", "1y", "1us", "soon", "-1s", "1m30", "1.5w", "1h and 5m"] {
        assert_eq!(remedy(text), None, "{text:?}");
    }
    assert_eq!(remedy("4294967295w"), None);
    assert_eq!(remedy("99999999999999999999999s"), None);
}

#[test]
fn an_error_names_the_text_and_what_was_expected() {
    let message = |text: &str| parse(text).unwrap_err().to_string();
    let expected = "expected one in ms, s, m, h or d";
    assert_eq!(message("10"), format!("\"10\" lacks a unit, {expected}; write 10s"));
    assert_eq!(message("1M"), format!("\"1M\" has a unit in upper case, {expected}; write 1m"));
    assert_eq!(message("1y"), format!("\"1y\" has an unknown unit, {expected}"));
    assert_eq!(message("a\n"), format!("\"a\\n\" is not a duration, {expected}"));
    assert_eq!(message("0.1ms0.0000001ms"), {
        format!("\"0.1ms0.0000001ms\" is finer than a nanosecond, {expected}")
    });
    assert_eq!(
        message("213503982334602d"),
        format!("\"213503982334602d\" is too long, {expected}")
    );
}

#[test]
fn a_duration_is_shown_as_users_type_it() {
    for text in [
        "0s",
        "1ms",
        "250ms",
        "1s",
        "1.5s",
        "59.999s",
        "1m",
        "3m",
        "1m250ms",
        "1m1.25s",
        "1h30m",
        "1h1ms",
        "1d",
        "1d12h",
        "365d",
        "1d1h1m1s",
        "0.000001ms",
        "999.999999ms",
        "1.000000001s",
    ] {
        assert_eq!(show(parse(text).unwrap()), text);
    }
    assert_eq!(show(Duration::from_secs(31_622_400)), "366d");
    assert_eq!(show(Duration::MAX), "213503982334601d7h15.999999999s");
}

fn durations() -> impl Strategy<Value = Duration> {
    let seconds = prop_oneof![0..200_000_u64, any::<u64>(), Just(u64::MAX)];
    let nanos = prop_oneof![
        Just(0),
        (0..1000_u32).prop_map(|ms| ms * 1_000_000),
        0..1_000_000_000_u32,
        Just(999_999_999)
    ];
    (seconds, nanos).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
}

fn texts() -> impl Strategy<Value = String> {
    let part = "[0-9]{1,9}(\\.[0-9]{1,9})?(ms|s|m|h|d)";
    prop::collection::vec(part, 1..4).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn a_shown_duration_is_read_back(duration in durations()) {
        prop_assert_eq!(parse(&show(duration)), Ok(duration));
    }

    #[test]
    fn humantime_reads_the_same_durations(text in texts()) {
        // humantime refuses some exact fractions, because it has fewer digits.
        if let Ok(expected) = humantime::parse_duration(&text) {
            prop_assert_eq!(parse(&text), Ok(expected));
        }
    }

    #[test]
    fn the_output_of_humantime_is_read_or_corrected(duration in durations()) {
        // humantime also has months, which differ in length, and units below a millisecond.
        let duration = Duration::from_millis(u64::try_from(duration.as_millis() % 2_600_000_000).unwrap());
        let text = humantime::format_duration(duration).to_string();
        let ours = parse(&text).or_else(|error| parse(&error.remedy().unwrap_or_default()));
        prop_assert_eq!(ours, Ok(duration), "{}", text);
    }

    #[test]
    fn any_text_is_a_duration_or_an_error(
        text in prop_oneof![any::<String>(), "[0-9.]{0,60}[a-zA-Z ]{0,4}[0-9.]{0,20}(ms|s|d|w)?"],
    ) {
        if let Err(error) = parse(&text) {
            if let Some(remedy) = error.remedy() {
                prop_assert!(parse(&remedy).is_ok());
            }
            prop_assert!(!error.to_string().contains(char::is_control));
        }
    }
}
