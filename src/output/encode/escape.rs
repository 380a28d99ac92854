//! Escapes text for JSON strings and for fields of TSV.

/// The most bytes that a byte becomes: `\u001f`.
const LONGEST: usize = 6;

/// The bytes that are examined and copied in one step.
const STEP: usize = size_of::<u64>();

/// The bytes that are examined and copied at once if none of them needs an escape, as in most text.
const BLOCK: usize = 32;

/// Returns the space that the escaped form of `len` bytes needs.
pub(super) fn space(len: usize) -> usize {
    len * LONGEST + BLOCK
}

/// Writes UTF-8 text as the content of a JSON string (RFC 8259), and returns the length.
///
/// # Panics
///
/// If `to` is shorter than the [`space`] of the text.
pub(super) fn json(text: &[u8], to: &mut [u8]) -> usize {
    let needs_escape = |bytes| below(bytes, 0x20) | equal(bytes, b'"') | equal(bytes, b'\\');
    escape(text, to, needs_escape, |byte, to| {
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            _ => {
                let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
                to[..6].copy_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
                return 6;
            }
        };
        to[..2].copy_from_slice(&[b'\\', short]);
        2
    })
}

/// Writes any bytes as a field of TSV, and returns the length.
///
/// A tab, a carriage return, a line feed and a backslash become `\t`, `\r`, `\n` and `\\`.
///
/// # Panics
///
/// If `to` is shorter than the [`space`] of the text.
pub(super) fn tsv(text: &[u8], to: &mut [u8]) -> usize {
    let needs_escape = |bytes| {
        equal(bytes, b'\t') | equal(bytes, b'\n') | equal(bytes, b'\r') | equal(bytes, b'\\')
    };
    escape(text, to, needs_escape, |byte, to| {
        let letter = match byte {
            b'\t' => b't',
            b'\n' => b'n',
            b'\r' => b'r',
            _ => byte,
        };
        to[..2].copy_from_slice(&[b'\\', letter]);
        2
    })
}

/// Writes any bytes as one line of text, for a line that another delimiter than a line feed ends. Returns the length.
///
/// A line feed and a backslash become `\n` and `\\`, so that the bytes can be read back.
///
/// # Panics
///
/// If `to` is shorter than the [`space`] of the text.
pub(super) fn one_line(text: &[u8], to: &mut [u8]) -> usize {
    let needs_escape = |bytes| equal(bytes, b'\n') | equal(bytes, b'\\');
    escape(text, to, needs_escape, |byte, to| {
        to[..2].copy_from_slice(&[b'\\', if byte == b'\n' { b'n' } else { byte }]);
        2
    })
}

/// Copies bytes, except for those that `needs_escape` marks in a word of them: `write` writes these.
///
/// A mark is the highest bit of a byte. Only the lowest mark has to be right.
#[inline]
fn escape(
    text: &[u8],
    to: &mut [u8],
    needs_escape: impl Fn(u64) -> u64,
    write: impl Fn(u8, &mut [u8]) -> usize,
) -> usize {
    let (mut at, mut len) = (0, 0);
    while at < text.len() {
        while let Some(block) = text[at..].first_chunk::<BLOCK>() {
            let steps = block.as_chunks::<STEP>().0.iter();
            if steps.fold(0, |marks, step| marks | needs_escape(u64::from_le_bytes(*step))) != 0 {
                break;
            }
            to[len..len + BLOCK].copy_from_slice(block);
            (at, len) = (at + BLOCK, len + BLOCK);
        }
        let mut step = [0; STEP];
        let count = match text[at..].first_chunk::<STEP>() {
            Some(whole) => {
                step = *whole;
                STEP
            }
            None => {
                let rest = &text[at..];
                step[..rest.len()].copy_from_slice(rest);
                rest.len()
            }
        };
        to[len..len + STEP].copy_from_slice(&step);
        let marks = needs_escape(u64::from_le_bytes(step));
        let plain = (marks.trailing_zeros() / u8::BITS) as usize;
        if plain >= count {
            (at, len) = (at + count, len + count);
            continue;
        }
        len += plain;
        len += write(step[plain], &mut to[len..]);
        at += plain + 1;
    }
    len
}

const ONES: u64 = u64::from_ne_bytes([1; STEP]);
const HIGHEST: u64 = ONES << 7;

/// Marks the bytes below `limit`, which is at most 128. Marks above the lowest one may be wrong, by a borrow.
#[inline]
fn below(bytes: u64, limit: u8) -> u64 {
    bytes.wrapping_sub(ONES * u64::from(limit)) & !bytes & HIGHEST
}

/// Marks the bytes equal to `byte`. Marks above the lowest one may be wrong, by a borrow.
#[inline]
fn equal(bytes: u64, byte: u8) -> u64 {
    below(bytes ^ (ONES * u64::from(byte)), 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escaped(text: &[u8], escape: fn(&[u8], &mut [u8]) -> usize) -> Vec<u8> {
        let mut to = vec![0; space(text.len())];
        let len = escape(text, &mut to);
        to.truncate(len);
        to
    }

    fn naive_one_line(text: &[u8]) -> Vec<u8> {
        let escape = |byte: &u8| match byte {
            b'\n' => b"\\n".to_vec(),
            b'\\' => b"\\\\".to_vec(),
            byte => vec![*byte],
        };
        text.iter().flat_map(escape).collect()
    }

    fn naive_tsv(text: &[u8]) -> Vec<u8> {
        let escape = |byte: &u8| match byte {
            b'\t' => b"\\t".to_vec(),
            b'\n' => b"\\n".to_vec(),
            b'\r' => b"\\r".to_vec(),
            b'\\' => b"\\\\".to_vec(),
            byte => vec![*byte],
        };
        text.iter().flat_map(escape).collect()
    }

    #[test]
    fn each_byte_in_each_place_of_a_step_and_of_a_block() {
        for byte in 0..=u8::MAX {
            for len in (1..20).chain([BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + STEP - 1]) {
                for at in 0..len {
                    let mut text = vec![b'a'; len];
                    text[at] = byte;
                    assert_eq!(escaped(&text, tsv), naive_tsv(&text));
                    assert_eq!(escaped(&text, one_line), naive_one_line(&text));
                    if byte.is_ascii() {
                        let json = [b"\"", &escaped(&text, json)[..], b"\""].concat();
                        let parsed: String = serde_json::from_slice(&json).unwrap();
                        assert_eq!(parsed.as_bytes(), text);
                    }
                }
            }
        }
    }

    #[test]
    fn the_longest_text_fits() {
        assert_eq!(escaped(&[0; 100], json).len(), 600);
    }

    proptest! {
        #[test]
        fn any_text_is_a_json_string(text: String) {
            let json = [b"\"", &escaped(text.as_bytes(), json)[..], b"\""].concat();
            prop_assert_eq!(serde_json::from_slice::<String>(&json).unwrap(), text);
        }

        #[test]
        fn any_bytes_are_a_field_of_tsv(text: Vec<u8>) {
            prop_assert_eq!(escaped(&text, tsv), naive_tsv(&text));
        }

        #[test]
        fn any_bytes_are_one_line(text: Vec<u8>) {
            prop_assert_eq!(escaped(&text, one_line), naive_one_line(&text));
        }
    }
}
