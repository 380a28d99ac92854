//! Keeps a line at the bottom of a terminal, below the lines of the log.

use std::io::Write;

/// Goes to the start of the line and clears it.
const CLEAR: &[u8] = b"\r\x1b[K";

/// A line that renews itself. It is cleared before lines of the log are written, so that it never tears one.
#[derive(Debug, Default)]
pub(super) struct StatusLine {
    /// Without a line feed. Empty for no line.
    text: String,
    is_shown: bool,
}

impl StatusLine {
    /// Replaces the text. It is written by the next [`show`](Self::show).
    pub(super) fn set(&mut self, text: String, out: &mut impl Write) {
        self.hide(out);
        self.text = text;
    }

    /// Clears the line, so that whole lines may be written.
    pub(super) fn hide(&mut self, out: &mut impl Write) {
        if std::mem::take(&mut self.is_shown) {
            // A terminal that is gone shows nothing.
            _ = out.write_all(CLEAR);
        }
    }

    /// Writes the line, after whole lines.
    pub(super) fn show(&mut self, out: &mut impl Write) {
        if !self.is_shown && !self.text.is_empty() {
            self.is_shown = out.write_all(self.text.as_bytes()).is_ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_cleared_once_before_other_lines_and_written_once_after_them() {
        let (mut line, mut out) = (StatusLine::default(), Vec::new());
        line.hide(&mut out);
        line.show(&mut out);
        assert_eq!(out, b"", "there is no line");
        line.set("one".into(), &mut out);
        line.show(&mut out);
        line.show(&mut out);
        line.hide(&mut out);
        line.hide(&mut out);
        out.extend_from_slice(b"a line of the log\n");
        line.show(&mut out);
        line.set("two".into(), &mut out);
        line.show(&mut out);
        line.set(String::new(), &mut out);
        line.show(&mut out);
        let expected = "one\r\x1b[Ka line of the log\none\r\x1b[Ktwo\r\x1b[K";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
