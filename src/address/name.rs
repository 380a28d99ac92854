//! Checks the names of servers.

use std::error::Error;
use std::fmt;

use crate::text::echo::{character, is_printable};

/// The longest name, in bytes. It bounds the prefix of a record and the label of a metric.
const MAX_LEN: usize = 128;

/// The error of a text that cannot be the name of a [`Server`](crate::Server).
///
/// Its `Display` says the reason and what is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerNameError {
    /// The name is empty.
    Empty,
    /// The name has more than 128 bytes.
    TooLong,
    /// The name has this character: a blank, one that is not visible, or `"`.
    Character(char),
}

impl Error for ServerNameError {}

impl fmt::Display for ServerNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the name is empty, expected 1 to {MAX_LEN} bytes"),
            Self::TooLong => write!(f, "the name is too long, expected at most {MAX_LEN} bytes"),
            Self::Character(c) => write!(
                f,
                "{} in the name, expected visible characters without blanks and \"",
                character(*c)
            ),
        }
    }
}

/// Fails if a text cannot be a name.
///
/// A blank would end the name in a list file, and `"` promises quoting, which a list file does not have. An
/// invisible character would make two names look alike.
pub(super) fn check(name: &str) -> Result<(), ServerNameError> {
    if name.is_empty() {
        return Err(ServerNameError::Empty);
    }
    if name.len() > MAX_LEN {
        return Err(ServerNameError::TooLong);
    }
    // The first test is quick, and enough for most names.
    let is_visible = |c: char| c.is_ascii_graphic() || (is_printable(c) && !c.is_whitespace());
    let is_bad = |c: &char| *c == '"' || !is_visible(*c);
    name.chars().find(is_bad).map_or(Ok(()), |c| Err(ServerNameError::Character(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_1_to_128_bytes() {
        assert_eq!(check(""), Err(ServerNameError::Empty));
        assert_eq!(check("x"), Ok(()));
        assert_eq!(check(&"\u{fc}".repeat(64)), Ok(()));
        assert_eq!(check(&("\u{fc}".repeat(64) + "x")), Err(ServerNameError::TooLong));
    }

    #[test]
    fn a_name_is_visible_without_blanks_and_quotation_marks() {
        for name in ["gate-7", "a=b#c", "(x)", "m\u{fc}hle", "\u{6771}\u{4eac}", "it's", "\\"] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for c in " \t\n\r\0\"\u{7f}\u{85}\u{a0}\u{2028}\u{202e}\u{200b}\u{feff}".chars() {
            let name = format!("a{c}b");
            assert_eq!(check(&name), Err(ServerNameError::Character(c)), "{name:?}");
        }
    }

    #[test]
    fn the_error_says_what_is_expected() {
        assert_eq!(
            ServerNameError::Character('\u{202e}').to_string(),
            "U+202E in the name, expected visible characters without blanks and \""
        );
        assert_eq!(
            ServerNameError::TooLong.to_string(),
            "the name is too long, expected at most 128 bytes"
        );
    }
}
