use super::super::tests::{LF, naive};
use super::*;
use crate::codec::number::Path;
use crate::codec::tests::Found;
use proptest::collection::vec;
use proptest::prelude::*;
use std::num::NonZeroU64;

/// Decodes the first block of these bytes at once, checks its numbers, and returns the lines and bytes of it.
fn at_once(text: &[u8], delimiter: u8) -> Option<(u64, usize)> {
    let framing = LF.with_delimiter(delimiter);
    let divisor = Divisor::new(NonZeroU64::MIN);
    let decoder = NumberDecoder::made(divisor, framing, Path::Portable);
    // The bytes in front may be any, but the last ends a line.
    let window: Vec<u8> = [b"999", &[delimiter][..], text].concat();
    let mut found = Found::default();
    let mut batch = Batch::new(divisor, &mut found);
    let window = window.first_chunk().expect("a whole block");
    let decoded = decoder.decode_short(ShortDivisor::new(divisor), window, &mut batch);
    batch.flush();
    match decoded {
        Some((lines, len)) => assert_eq!((found, lines), naive(&text[..len], 1, framing)),
        None => assert_eq!(found, Found::default()),
    }
    decoded
}

/// Returns the lines and bytes of a block that are decoded at once, by the rules for each line.
fn expected(block: &[u8], delimiter: u8) -> Option<(u64, usize)> {
    let len = block.iter().rposition(|&byte| byte == delimiter)? + 1;
    let lines: Vec<_> = block[..len - 1].split(|&byte| byte == delimiter).collect();
    let is_short = |line: &&[u8]| {
        // A minus without a digit is no number.
        let unsigned = line.strip_prefix(b"-");
        let line =
            unsigned.filter(|rest| rest.first().is_some_and(u8::is_ascii_digit)).unwrap_or(line);
        let trimmed = if delimiter == b'\n' { line.strip_suffix(b"\r") } else { None };
        let digits = trimmed.unwrap_or(line);
        digits.len() <= SHORT && digits.iter().all(u8::is_ascii_digit)
    };
    let are_short = lines.len() >= FEWEST as usize && lines.iter().all(is_short);
    are_short.then_some((lines.len() as u64, len))
}

/// Returns a line, which is short as a rule.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => "-?[0-9]{1,4}\r?",
        2 => "",
        1 => "-?[0-9]{5,20}\r?",
        1 => "[-+x\r0-9]{0,6}",
    ]
}

/// Returns a block of lines, some of which are joined with the next.
fn blocks() -> impl Strategy<Value = Vec<u8>> {
    vec((line(), prop::bool::weighted(0.98)), 80).prop_map(|lines| {
        let text: String = lines
            .into_iter()
            .map(|(line, has_end)| if has_end { line + "\n" } else { line })
            .collect();
        text.into_bytes()[..BLOCK].to_vec()
    })
}

proptest! {
    #[test]
    fn blocks_of_short_lines_and_no_others_are_decoded_at_once(block in blocks()) {
        prop_assert_eq!(at_once(&block, b'\n'), expected(&block, b'\n'));
        let other: Vec<_> =
            block.iter().map(|&byte| if byte == b'\n' { b';' } else { byte }).collect();
        prop_assert_eq!(at_once(&other, b';'), expected(&other, b';'));
    }

    #[test]
    fn lines_are_decoded_one_by_one_to_the_end_of_a_stretch_or_near_that_of_the_region(
        lines in vec(line(), 1..40),
        len in 0..200_usize,
    ) {
        let region: Vec<u8> = lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect();
        let divisor = Divisor::new(NonZeroU64::MIN);
        let decoder = NumberDecoder::made(divisor, LF, Path::Portable);
        let mut found = Found::default();
        let mut batch = Batch::new(divisor, &mut found);
        let (count, end) = decoder.decode_stretch(&region, len, &mut batch);
        batch.flush();
        prop_assert_eq!((found, count), naive(&region[..end], 1, LF));
        let is_last = end >= len || end + REACH > region.len();
        let before = lines[..usize::try_from(count).unwrap()].split_last().map_or(0, |(_, before)| {
            before.iter().map(|line| line.len() + 1).sum()
        });
        prop_assert!(is_last, "{end} of {len}");
        prop_assert!(count == 0 || before < len && before + REACH <= region.len(), "{before} of {len}");
    }
}

#[test]
fn a_block_is_decoded_at_once_from_8_lines_on() {
    let lines = |count| [b"1234\n".repeat(count), vec![b'5'; BLOCK]].concat();
    assert_eq!(at_once(&lines(7), b'\n'), None);
    assert_eq!(at_once(&lines(8), b'\n'), Some((8, 40)));
    assert_eq!(at_once(&lines(12), b'\n'), Some((12, 60)));
    assert_eq!(at_once(&b"1\n".repeat(32), b'\n'), Some((32, 64)));
    assert_eq!(at_once(&b"\n".repeat(64), b'\n'), Some((64, 64)));
    assert_eq!(at_once(&[&b"-\r\n"[..], &lines(12)].concat(), b'\n'), None);
}

#[test]
fn leading_digits_end_at_any_other_byte() {
    let all = *b"123456789012345678901234";
    assert_eq!(leading_digits(&all).1, all.len());
    for len in 0..all.len() {
        let number = std::str::from_utf8(&all[..len]).unwrap().parse().unwrap_or(0);
        for other in (0..=u8::MAX).filter(|byte| !byte.is_ascii_digit()) {
            let mut bytes = all;
            bytes[len] = other;
            let (value, digits) = leading_digits(&bytes);
            assert_eq!(digits, len, "{other}");
            assert!(value == number || len > SAFE_DIGITS, "{value} for {number}");
        }
    }
}
