//! Sends the lines of a file.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// The lines of a file, byte for byte. After the last line, the first one follows again. Clones share the
/// bytes.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    /// Never empty, and the last byte is a newline.
    bytes: Arc<Vec<u8>>,
    /// The index of the next line's first byte.
    next: usize,
}

/// The size of the largest file, 1 GiB, because the whole file is kept in memory.
const MAX_BYTES: u64 = 1 << 30;

impl Lines {
    /// Reads a file. A newline is added to a last line that has none, because another line follows it.
    ///
    /// # Errors
    /// Returns the problem of a file that cannot be read, is empty or is larger than 1 GiB.
    pub(crate) fn read(path: &Path) -> Result<Lines, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        Lines::from_reader(file, MAX_BYTES)
    }

    fn from_reader(file: impl Read, max_bytes: u64) -> Result<Lines, String> {
        let mut bytes = Vec::new();
        let length = file.take(max_bytes + 1).read_to_end(&mut bytes);
        let length = length.map_err(|error| error.to_string())?;
        if u64::try_from(length).is_ok_and(|length| length > max_bytes) {
            return Err("it is larger".to_owned());
        }
        match bytes.last() {
            None => return Err("it is empty".to_owned()),
            Some(b'\n') => {}
            Some(_) => bytes.push(b'\n'),
        }
        Ok(Lines { bytes: Arc::new(bytes), next: 0 })
    }

    /// Appends the next line.
    pub(super) fn push_line(&mut self, lines: &mut Vec<u8>) {
        let rest = &self.bytes[self.next..];
        let line = rest.split_inclusive(|byte| *byte == b'\n').next().unwrap_or(rest);
        lines.extend_from_slice(line);
        self.next += line.len();
        if self.next == self.bytes.len() {
            self.next = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_byte_for_byte_in_order_and_again() {
        let file: &[u8] = b"one\r\n\n\xff\x00\tthree\n";
        let mut lines = Lines::from_reader(file, 100).unwrap();
        let expected: [&[u8]; 5] = [b"one\r\n", b"\n", b"\xff\x00\tthree\n", b"one\r\n", b"\n"];
        for line in expected {
            let mut sent = b"before ".to_vec();
            lines.push_line(&mut sent);
            assert_eq!(sent, [b"before ", line].concat());
        }
    }

    #[test]
    fn a_last_line_without_a_newline_gets_one() {
        let mut lines = Lines::from_reader(&b"1\n2"[..], 3).unwrap();
        let mut sent = Vec::new();
        for _ in 0..3 {
            lines.push_line(&mut sent);
        }
        assert_eq!(sent, b"1\n2\n1\n");
    }

    #[test]
    fn an_empty_file_and_one_over_the_limit_are_refused() {
        let problem = |file: &[u8]| Lines::from_reader(file, 4).unwrap_err();
        assert_eq!(problem(b""), "it is empty");
        assert_eq!(problem(b"1\n2\n3"), "it is larger");
        assert!(Lines::from_reader(&b"1\n2\n"[..], 4).is_ok());
    }
}
