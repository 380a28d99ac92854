//! Reads durations exactly as users type them, and shows them in the same form.
//!
//! The units are ms, s, m, h and d. There is no month, because it has no fixed length and its `M` is easily
//! mistaken for a minute.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::text::echo::quoted;

/// The nanoseconds of a second.
const SECOND: u128 = 1_000_000_000;

/// The units, each with its nanoseconds, the longest unit first.
const UNITS: [(&str, u128); 5] = [
    ("d", 24 * 60 * 60 * SECOND),
    ("h", 60 * 60 * SECOND),
    ("m", 60 * SECOND),
    ("s", SECOND),
    ("ms", SECOND / 1000),
];

/// The most digits after the point with which a part can be a whole number of nanoseconds.
///
/// Zeros at the end do not count. A fraction of n digits needs a unit that is a multiple of 2^n or of 5^n
/// nanoseconds. The unit with the highest such power is the day: it is 2^16 * 5^11 * 27 nanoseconds.
const MAX_FRACTION_DIGITS: usize = 16;

/// Reads a duration: the sum of one or more numbers, each with its unit.
///
/// A number may have a fraction. Blanks may separate the parts. Only `0` needs no unit.
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
/// Fails for any other text, for a fraction of a nanosecond, and for more than [`Duration::MAX`].
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    parse_nanos(text)
        .and_then(|nanos| to_duration(nanos).ok_or(Fault::TooLong))
        .map_err(|fault| DurationError { text: text.into(), fault })
}

/// Shows a duration in the form that [`parse`] reads, with the longest units that fit: `1h30m`.
///
/// The last unit may have a fraction: milliseconds if less than a second is left, else seconds. Examples are
/// `1.5ms` and `1m2.5s`.
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

/// Shows the exact quotient of two numbers as a decimal. `divisor` is a power of ten.
fn show_decimal(number: u128, divisor: u128) -> String {
    let places = usize::try_from(divisor.ilog10()).expect("a number of digits is small");
    let decimal = format!("{}.{:0places$}", number / divisor, number % divisor);
    decimal.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The reason why a text is not a duration.
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
    // Digits alone can only be too many.
    let whole: u128 = whole.parse().map_err(|_| Fault::TooLong)?;
    let whole = whole.checked_mul(nanos).ok_or(Fault::TooLong)?;
    whole.checked_add(parse_fraction(fraction, nanos)?).ok_or(Fault::TooLong)
}

/// Returns the nanoseconds of the digits after a point, for a unit of `nanos`.
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

/// Splits a text in front of the first character that is not wanted.
fn split_while(text: &str, is_wanted: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !is_wanted(c)).unwrap_or(text.len()))
}

/// The error of parsing a text that is not a duration.
///
/// Its `Display` names the text, the reason and the expected form. It also proposes a duration if the text
/// leaves no doubt about the intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurationError {
    text: Box<str>,
    fault: Fault,
}

impl DurationError {
    /// Returns the reason, worded to follow the text.
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

    /// Returns a duration to write instead, if the text leaves no doubt about the intent.
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

/// Rewrites a duration from the forms that other programs accept.
///
/// These are words for units, upper case, a decimal comma, and blanks anywhere. A number alone becomes
/// seconds, as in `sleep` and `timeout`.
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
mod tests;
