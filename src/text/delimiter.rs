//! Reads and shows a delimiter as a flag takes it: a word, or `0x` and two hexadecimal digits.

/// The delimiters that have a word.
const WORDS: [(&str, u8); 3] = [("lf", b'\n'), ("cr", b'\r'), ("nul", 0)];

/// Returns the delimiter that a text stands for, if it stands for one.
pub fn parse(text: &str) -> Option<u8> {
    if let Some((_, byte)) = WORDS.into_iter().find(|(word, _)| *word == text) {
        return Some(byte);
    }
    let hex = text.strip_prefix("0x").filter(|hex| hex.len() == 2)?;
    // The parser of the standard library also takes a sign.
    let is_hex = hex.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| u8::from_str_radix(hex, 16).ok())?
}

/// Returns the text of a delimiter.
pub fn show(delimiter: u8) -> String {
    match WORDS.into_iter().find(|(_, byte)| *byte == delimiter) {
        Some((word, _)) => word.into(),
        None => format!("{delimiter:#04x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delimiter_reads_as_its_flag_takes_it() {
        let texts = [b'\n', b'\r', 0, 9, b';', 0xff].map(show);
        assert_eq!(texts, ["lf", "cr", "nul", "0x09", "0x3b", "0xff"]);
        assert!((0..=u8::MAX).all(|byte| parse(&show(byte)) == Some(byte)));
    }
}
