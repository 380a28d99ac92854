//! Reads and shows durations and delimiters, quotes a user's text, finds names near to a mistyped one, and words
//! counts in messages.

pub mod delimiter;
pub mod duration;
pub(crate) mod echo;
pub(crate) mod nearest;

use std::fmt;

/// Words a count of things in the singular or the plural: `1 line`, `2 lines`.
pub fn count<N: fmt::Display + PartialEq + From<u8>>(number: N, thing: &str) -> String {
    let s = if number == N::from(1) { "" } else { "s" };
    format!("{number} {thing}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_has_the_singular() {
        let counted = [0u64, 1, 2].map(|number| count(number, "line"));
        assert_eq!(counted, ["0 lines", "1 line", "2 lines"]);
    }
}
