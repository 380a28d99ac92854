//! Durations as users type them: read exactly, and shown in the same form.
//!
//! The units are ms, s, m, h and d. Longer ones are left out: a month has no fixed length, and `M`
//! for one is too easily taken for a minute.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::text::echo::quoted;

/// The nanoseconds of a second.
const SECOND: u128 = 1_000_000_000;

/// The units from the longest down, each with its nanoseconds.
const UNITS: [(&str, u128); 5] = [
    ("d", 24 * 60 * 60 * SECOND),
    ("h", 60 * 60 * SECOND),
    ("m", 60 * SECOND),
    ("s", SECOND),
    ("ms", SECOND / 1000),
];

/// The most digits after the point that any unit divides into whole nanoseconds, zeros at the end
/// aside: a day is 2^16 * 5^11 * 27 of them, and such a fraction needs 2^n or 5^n for n digits.
const MAX_FRACTION_DIGITS: usize = 16;

/// Reads a duration: one or more numbers, each with its unit, which add up.
///
/// A number may have a fraction, and blanks may stand between the parts. Only `0` needs no unit.
///
/// ```
/// use std::time::Duration;
/// use tcpcore::internals::text::duration::parse;
///
/// assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
/// assert_eq!(parse("1.5s"), Ok(Duration::from_millis(1500)));
/// assert_eq!(parse("1h30m"), parse("90m"));
/// assert!(parse("10").is_err());
/// ```
///
/// # Errors
///
/// Any other text, a duration that is no whole number of nanoseconds, and one that a [`Duration`]
/// cannot hold.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    parse_nanos(text)
        .and_then(|nanos| to_duration(nanos).ok_or(Fault::TooLong))
        .map_err(|fault| DurationError { text: text.into(), fault })
}

/// Shows a duration in the form that [`parse`] reads, with the largest units that fit: `1h30m`.
///
/// Below a second it is in milliseconds, above it the seconds have the fraction: `1.5ms`, `1m2.5s`.
pub fn show(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    if rest == 0 {
        return "0s".into();
    }
    let [longer @ .., second, millisecond] = UNITS;
    let mut text = String::new();
    for (unit, nanos) in longer {
        if rest >= nanos {
            text += &format!("{}{unit}", rest / nanos);
            rest %= nanos;
        }
    }
    let (unit, nanos) = if rest >= SECOND { second } else { millisecond };
    if rest > 0 {
        text += &format!("{}{unit}", show_decimal(rest, nanos));
    }
    text
}

/// The quotient of two numbers as a decimal, exactly. `divisor` is a power of ten.
fn show_decimal(number: u128, divisor: u128) -> String {
    let places = usize::try_from(divisor.ilog10()).expect("a number of digits is small");
    let decimal = format!("{}.{:0places$}", number / divisor, number % divisor);
    decimal.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What is wrong with a text that is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    NotADuration,
    NoUnit,
    UnknownUnit,
    UpperCase,
    TooFine,
    TooLong,
}

fn parse_nanos(text: &str) -> Result<u128, Fault> {
    if text == "0" {
        return Ok(0);
    }
    let mut sum = 0_u128;
    let mut rest = text;
    loop {
        let (number, after) = split_while(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = split_while(after, |c| c.is_ascii_alphabetic());
        if unit.is_empty() && !(after.is_empty() || after.starts_with(' ')) {
            return Err(Fault::NotADuration);
        }
        let part = parse_part(number, unit)?;
        sum = sum.checked_add(part).ok_or(Fault::TooLong)?;
        if after.is_empty() {
            return Ok(sum);
        }
        rest = after.trim_start_matches(' ');
    }
}

fn parse_part(number: &str, unit: &str) -> Result<u128, Fault> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(Fault::NotADuration);
    }
    let nanos = nanos_of(unit)?;
    // Only too many digits are left to go wrong.
    let whole: u128 = whole.parse().map_err(|_| Fault::TooLong)?;
    let whole = whole.checked_mul(nanos).ok_or(Fault::TooLong)?;
    whole.checked_add(parse_fraction(fraction, nanos)?).ok_or(Fault::TooLong)
}

/// The nanoseconds of the digits after a point.
fn parse_fraction(digits: &str, nanos: u128) -> Result<u128, Fault> {
    let digits = digits.trim_end_matches('0');
    if digits.len() > MAX_FRACTION_DIGITS {
        return Err(Fault::TooFine);
    }
    let (numerator, denominator) = digits.bytes().fold((0, 1), |(number, power), digit| {
        (number * 10 + u128::from(digit - b'0'), power * 10)
    });
    let product = numerator * nanos;
    if product.is_multiple_of(denominator) {
        Ok(product / denominator)
    } else {
        Err(Fault::TooFine)
    }
}

fn nanos_of(unit: &str) -> Result<u128, Fault> {
    let find = |unit: &str| UNITS.iter().find(|(name, _)| *name == unit);
    match find(unit) {
        Some((_, nanos)) => Ok(*nanos),
        None if unit.is_empty() => Err(Fault::NoUnit),
        None if find(&unit.to_ascii_lowercase()).is_some() => Err(Fault::UpperCase),
        None => Err(Fault::UnknownUnit),
    }
}

fn to_duration(nanos: u128) -> Option<Duration> {
    let seconds = u64::try_from(nanos / SECOND).ok()?;
    let subsec = u32::try_from(nanos % SECOND).expect("a part of a second fits");
    Some(Duration::new(seconds, subsec))
}

/// Splits a text before the first character that is not wanted.
fn split_while(text: &str, is_wanted: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !is_wanted(c)).unwrap_or(text.len()))
}

/// A text that is not a duration. Its `Display` names it, what was expected, and what to write
/// instead where that can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurationError {
    text: Box<str>,
    fault: Fault,
}

impl DurationError {
    /// What is wrong, to stand after the text.
    pub(crate) fn problem(&self) -> &'static str {
        match self.fault {
            Fault::NotADuration => "is not a duration",
            Fault::NoUnit => "lacks a unit",
            Fault::UnknownUnit => "has an unknown unit",
            Fault::UpperCase => "has a unit in upper case",
            Fault::TooFine => "is finer than a nanosecond",
            Fault::TooLong => "is too long",
        }
    }

    /// What to write instead, if the text leaves no doubt about what was meant.
    pub(crate) fn remedy(&self) -> Option<String> {
        let text = reword(&self.text)?;
        parse(&text).is_ok().then_some(text)
    }
}

impl Error for DurationError {}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = self.problem();
        write!(f, "{} {problem}, expected one in ms, s, m, h or d", quoted(&*self.text))?;
        self.remedy().map_or(Ok(()), |remedy| write!(f, "; write {remedy}"))
    }
}

/// Rewrites a duration as other programs take it: words for units, upper case, a decimal comma,
/// blanks anywhere. A lone number is taken for seconds, as `sleep` and `timeout` take it.
fn reword(text: &str) -> Option<String> {
    let text = text.to_lowercase().replace(',', ".");
    let mut words = String::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (number, after) = split_while(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = split_while(after.trim_start(), |c| c.is_ascii_alphabetic());
        words += &match unit {
            "" if words.is_empty() && after.is_empty() => format!("{number}s"),
            "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => {
                format!("{number}ms")
            }
            "s" | "sec" | "secs" | "second" | "seconds" => format!("{number}s"),
            "m" | "min" | "mins" | "minute" | "minutes" => format!("{number}m"),
            "h" | "hr" | "hrs" | "hour" | "hours" => format!("{number}h"),
            "d" | "day" | "days" => format!("{number}d"),
            "w" | "wk" | "wks" | "week" | "weeks" => {
                format!("{}d", number.parse::<u32>().ok()?.checked_mul(7)?)
            }
            _ => return None,
        };
        rest = after.trim_start();
    }
    Some(words)
}

#[cfg(test)]
mod tests {
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
            // No float has as many digits.
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
    fn what_a_duration_cannot_hold_is_an_error() {
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
    fn anything_else_is_refused_for_its_own_reason() {
        for text in [
            "", " ", "s", "ms", "soon", "-1s", "+1s", "1.s", ".5s", ".s", "1..5s", "1.2.3s",
            "1,5s", "1s,", "1s ", " 1s", "1s\t1s", "1s-1s", "1s\n", "\u{661}s", "1h m", "inf",
            "NaN", "10\n", "1\u{b5}s", ".", "1..", "1.",
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
    fn the_remedy_is_what_was_meant() {
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
        // A month has no length, and the others have no meaning.
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
        fn what_is_shown_is_read_back(duration in durations()) {
            prop_assert_eq!(parse(&show(duration)), Ok(duration));
        }

        #[test]
        fn what_humantime_reads_too_is_the_same(text in texts()) {
            // It refuses some fractions that are exact, for want of digits.
            if let Ok(expected) = humantime::parse_duration(&text) {
                prop_assert_eq!(parse(&text), Ok(expected));
            }
        }

        #[test]
        fn what_humantime_shows_is_understood(duration in durations()) {
            // It has months, which differ in length, and units below a millisecond.
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
}
