//! How values look in the log and in other messages.

use std::fmt;

use crate::proto::time::Millis;

/// At most so many bytes of a line are shown.
const LINE_SHOWN: usize = 64;

/// Gives a number of things their name in the singular or the plural: `1 line`, `2 lines`.
pub(crate) fn count<N: fmt::Display + PartialEq + From<u8>>(number: N, thing: &str) -> String {
    let s = if number == N::from(1) { "" } else { "s" };
    format!("{number} {thing}{s}")
}

/// A line as the log shows it: printable, and not too much of it.
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..LINE_SHOWN) {
            Some(start) if start.len() < self.0.len() => write!(f, "{}...", start.escape_ascii()),
            _ => write!(f, "{}", self.0.escape_ascii()),
        }
    }
}

/// A span in the log, to three figures or so.
pub(crate) struct Span(pub(crate) Millis);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms @ ..1000 => write!(f, "{ms}ms"),
            ms @ ..60_000 => write!(f, "{}.{:02}s", ms / 1000, ms % 1000 / 10),
            ms => write!(f, "{}m {:02}s", ms / 60_000, ms % 60_000 / 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_has_the_singular() {
        let counted = [0u64, 1, 2].map(|number| count(number, "line"));
        assert_eq!(counted, ["0 lines", "1 line", "2 lines"]);
    }

    #[test]
    fn of_a_long_line_its_beginning_is_shown() {
        assert_eq!(Shown(b"a\0\x1b[2J").to_string(), "a\\x00\\x1b[2J");
        let text = "x".repeat(LINE_SHOWN);
        assert_eq!(Shown(text.as_bytes()).to_string(), text);
        assert_eq!(Shown(format!("{text}y").as_bytes()).to_string(), format!("{text}..."));
    }

    #[test]
    fn spans_read_like_spans() {
        let texts = [0, 999, 1000, 1999, 59_999, 60_000, 3_723_000].map(|ms| Span(ms).to_string());
        assert_eq!(texts, ["0ms", "999ms", "1.00s", "1.99s", "59.99s", "1m 00s", "62m 03s"]);
    }
}
