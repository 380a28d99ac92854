//! Quotes a user's text for a message: on one line, with all characters visible, and of bounded length.

use std::ffi::OsStr;

/// The most characters of a text that is shown whole. The longest name has 253, and an address fewer.
const MAX_SHOWN: usize = 300;

/// The characters that are shown of a longer text: enough to recognize it on one line of a terminal.
const SHOWN_OF_LONGER: usize = 60;

/// Shows a text in quotes.
///
/// Printable characters stay. Quotes, backslashes and all other characters are escaped. Of a text of more
/// than 300 characters, the start and the number of characters are shown.
pub(crate) fn quoted(text: impl AsRef<OsStr>) -> String {
    let (shown, more) = escape(text.as_ref());
    format!("\"{shown}\"{more}")
}

/// Shows a text as [`quoted`] does, without the quotes.
pub(crate) fn plain(text: impl AsRef<OsStr>) -> String {
    let (shown, more) = escape(text.as_ref());
    format!("{shown}{more}")
}

/// Shows a character and its code point, or the code point alone if the character is not visible by itself.
pub(crate) fn character(c: char) -> String {
    let number = format!("U+{:04X}", u32::from(c));
    if is_printable(c) && !is_mark(c) { format!("'{c}' ({number})") } else { number }
}

/// Escapes a text, and returns it with a note on its length if it is shortened.
fn escape(text: &OsStr) -> (String, String) {
    let mut units = Vec::new();
    // On Unix, these bytes are UTF-8 exactly where the text is.
    for chunk in text.as_encoded_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            let is_first = units.is_empty();
            units.push(escape_char(c, is_first));
        }
        units.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02X}")));
    }
    if units.len() <= MAX_SHOWN {
        return (units.concat(), String::new());
    }
    (units[..SHOWN_OF_LONGER].concat(), format!("... ({} characters)", units.len()))
}

fn escape_char(c: char, is_first: bool) -> String {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\0' => c.escape_debug().to_string(),
        // At the start, a mark would combine with the quote.
        c if is_printable(c) && !(is_first && is_mark(c)) => c.to_string(),
        c => c.escape_unicode().to_string(),
    }
}

/// Returns whether a character is visible, or combines with the previous one.
pub(crate) fn is_printable(c: char) -> bool {
    // The standard library has a table of printable characters. Within a string it escapes a mark only
    // at the start.
    let is_escaped = || ["a", c.encode_utf8(&mut [0; 4])].concat().escape_debug().count() > 2;
    is_quote(c) || !(is_invisible(c) || is_escaped())
}

/// Returns whether a printable character combines with the previous one.
fn is_mark(c: char) -> bool {
    !is_quote(c) && c.escape_debug().count() > 1
}

/// Returns whether the standard library escapes this character although it is printable.
fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '\\')
}

/// Returns whether a display shows nothing for this character.
///
/// These are the characters that Unicode marks as ignorable, except for format characters, and the blank of
/// Braille.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{34f}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{ffa0}'
            | '\u{e0100}'..='\u{e01ef}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn printable_text_of_any_script_is_shown_as_it_is() {
        for text in [
            "",
            "localhost:8001",
            "a b",
            "it's",
            "b\u{fc}cher",
            "bu\u{308}cher",
            "\u{440}\u{444}",
            "\u{5f}\u{4e2d}",
            "x\u{915}\u{93f}",
            "\u{1f600}:1",
            "'",
            "\u{fffd}",
        ] {
            assert_eq!(quoted(text), format!("\"{text}\""));
            assert_eq!(plain(text), text);
        }
    }

    #[test]
    fn invisible_and_moving_characters_are_escaped() {
        for (text, shown) in [
            ("a\nb\tc\rd\0", "a\\nb\\tc\\rd\\0"),
            ("\na", "\\na"),
            ("a\u{1b}[31m", "a\\u{1b}[31m"),
            ("\u{1b}", "\\u{1b}"),
            ("a\u{7f}\u{85}", "a\\u{7f}\\u{85}"),
            ("a\u{202e}b\u{2066}", "a\\u{202e}b\\u{2066}"),
            ("\u{200b}a\u{200b}\u{feff}", "\\u{200b}a\\u{200b}\\u{feff}"),
            ("a\u{a0}\u{2028}", "a\\u{a0}\\u{2028}"),
            ("\u{308}a", "\\u{308}a"),
            ("\u{2764}\u{fe0f}", "\u{2764}\\u{fe0f}"),
            ("a\u{3164}\u{2800}\u{e0100}\u{34f}", "a\\u{3164}\\u{2800}\\u{e0100}\\u{34f}"),
            ("a\"b\\n", "a\\\"b\\\\n"),
            ("\"", "\\\""),
        ] {
            assert_eq!(quoted(text), format!("\"{shown}\""));
        }
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_not_utf8_are_shown_in_hexadecimal() {
        use std::os::unix::ffi::OsStrExt;
        assert_eq!(quoted(OsStr::from_bytes(b"\xff\x1b:1\xc3")), "\"\\xFF\\u{1b}:1\\xC3\"");
    }

    #[test]
    fn text_of_more_than_300_characters_is_shortened_to_60_and_its_length() {
        let text = "\u{fc}".repeat(300);
        assert_eq!(quoted(&text), format!("\"{text}\""));
        let start = "\u{fc}".repeat(60);
        assert_eq!(quoted(format!("{text}x")), format!("\"{start}\"... (301 characters)"));
        assert_eq!(plain(format!("{text}x")), format!("{start}... (301 characters)"));
    }

    #[test]
    fn a_character_is_shown_with_its_code_point() {
        assert_eq!(character('\u{fc}'), "'\u{fc}' (U+00FC)");
        assert_eq!(character('\u{1f600}'), "'\u{1f600}' (U+1F600)");
        assert_eq!(character('\u{200b}'), "U+200B");
        assert_eq!(character('\u{308}'), "U+0308");
    }

    proptest! {
        #[test]
        fn any_quoted_text_is_one_line_of_visible_characters(text: String) {
            let shown = quoted(&text);
            prop_assert!(shown.chars().all(is_printable), "{shown:?}");
            prop_assert!(!shown.contains(|c: char| c.is_control()));
        }
    }
}
