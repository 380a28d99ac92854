use super::*;
use crate::codec::tests::{Found, decode_all};
use proptest::prelude::*;

type Seen = Found<i64, NumberError>;

pub(super) fn decode(region: &[u8], divisor: u64, max_line: usize) -> (Seen, u64) {
    let divisor = Divisor::new(NonZeroU64::new(divisor).expect("tests divide by something"));
    let [fastest, fallback] = [NumberDecoder::new, NumberDecoder::fallback]
        .map(|new| decode_all(&new(divisor, max_line), region));
    assert_eq!(fastest, fallback, "the paths differ");
    fallback
}

/// Decodes a region by other means: text, `str::parse` and `%`.
pub(super) fn naive(region: &[u8], divisor: u64, max_line: usize) -> (Seen, u64) {
    let mut seen = Seen::default();
    let mut lines = 0;
    for line in region.split_inclusive(|&byte| byte == b'\n') {
        let line = &line[..line.len() - 1];
        lines += 1;
        if line.len() > max_line {
            seen.oversized += 1;
            continue;
        }
        let text: String = line.iter().copied().map(char::from).collect();
        let text = text.strip_suffix('\r').unwrap_or(&text);
        match text.trim_matches([' ', '\t']).parse::<i64>() {
            Ok(n) if n.unsigned_abs() % divisor == 0 => seen.records.push(n),
            Ok(_) => {}
            Err(_) if text.is_empty() => {}
            Err(_) => {
                let error = parse(line).expect_err("parse refuses the lines that str::parse does");
                seen.malformed.push((line.to_vec(), error));
            }
        }
    }
    (seen, lines)
}

#[test]
fn the_ends_of_i64_are_numbers_and_one_beyond_is_out_of_range() {
    for value in [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX] {
        assert_eq!(parse(value.to_string().as_bytes()), Ok(Some(value)));
    }
    for beyond in ["9223372036854775808", "-9223372036854775809", "99999999999999999999999"] {
        assert_eq!(parse(beyond.as_bytes()), Err(NumberError::OutOfRange), "{beyond}");
    }
}

#[test]
fn signs_blanks_and_one_carriage_return_are_allowed() {
    for (line, value) in [
        (&b"-6"[..], -6),
        (b"+12", 12),
        (b"-0", 0),
        (b"\t 18 \t", 18),
        (b"24\r", 24),
        (b" -30 \r", -30),
        (b"0000000000000000000000000000000006", 6),
    ] {
        assert_eq!(parse(line), Ok(Some(value)), "{}", line.escape_ascii());
    }
}

#[test]
fn any_other_line_is_malformed() {
    use NumberError::{NoDigits, NotADigit};
    for (line, error) in [
        (&b" "[..], NoDigits),
        (b"\t\r", NoDigits),
        (b"-", NoDigits),
        (b"+\r", NoDigits),
        (b"--6", NotADigit(b'-')),
        (b"+-6", NotADigit(b'-')),
        (b"- 6", NotADigit(b' ')),
        (b"6 6", NotADigit(b' ')),
        (b"6\r\r", NotADigit(b'\r')),
        (b"\r6", NotADigit(b'\r')),
        (b"0x6", NotADigit(b'x')),
        (b"6.0", NotADigit(b'.')),
        (b"\x006", NotADigit(0)),
        (b"\xd9\xa6", NotADigit(0xd9)),
    ] {
        assert_eq!(parse(line), Err(error), "{}", line.escape_ascii());
    }
}

#[test]
fn an_empty_line_is_a_heartbeat() {
    assert_eq!(parse(b""), Ok(None));
    assert_eq!(parse(b"\r"), Ok(None));
    let (seen, lines) = decode(b"\n\r\n6\n\n", 6, 4096);
    assert_eq!((seen.records, seen.malformed.len(), lines), (vec![6], 0, 4));
}

#[test]
fn numbers_of_18_and_19_digits_up_to_the_greatest_i64() {
    let region = b"999999999999999996\n9223372036854775806\n9223372036854775808\n";
    let (seen, lines) = decode(region, 6, 4096);
    assert_eq!(seen.records, [999_999_999_999_999_996, 9_223_372_036_854_775_806]);
    assert_eq!(seen.malformed.len(), 1);
    assert_eq!(lines, 3);
}

#[test]
fn a_number_of_the_limit_is_decoded_and_one_byte_more_is_oversized() {
    let (seen, lines) = decode(b"666\n6666\n   6\n  6\n", 6, 3);
    assert_eq!((seen.records, seen.oversized, lines), (vec![666, 6], 2, 4));
}

#[test]
fn more_matches_than_a_batch_keep_their_order() {
    let numbers: Vec<i64> = (0..1000).map(|i| i * 6).collect();
    let region: String = numbers.iter().map(|n| format!("{n}\n")).collect();
    assert_eq!(decode(region.as_bytes(), 6, 4096).0.records, numbers);
}

#[test]
fn an_error_names_the_expected_value() {
    let texts = [&b"-"[..], b"1\x002", b"99999999999999999999"]
        .map(|line| parse(line).unwrap_err().to_string());
    assert_eq!(
        texts,
        [
            "no digits, expected a whole number",
            "unexpected '\\x00', expected a whole number",
            "out of range, expected a whole number from -9223372036854775808 to 9223372036854775807",
        ]
    );
}

#[test]
fn a_long_line_among_any_number_of_empty_ones() {
    for empty in 0..70 {
        let lines = format!("{}123456\n", "\n".repeat(empty));
        let region = lines.repeat(20);
        let region = region.as_bytes();
        assert_eq!(decode(region, 6, 4096), naive(region, 6, 4096), "{empty} empty lines");
    }
}

proptest! {
    #[test]
    fn divides_equals_remainder(divisor in 1..=u64::MAX, small in 1_u64..100, n: i64) {
        for divisor in [divisor, small, divisor & divisor.wrapping_neg(), 1 << 63] {
            let prepared = Divisor::new(NonZeroU64::new(divisor).expect("not zero"));
            for n in [n, 0, i64::MIN, i64::MAX, n - n % small.cast_signed()] {
                prop_assert_eq!(prepared.divides(n), n.unsigned_abs() % divisor == 0);
            }
        }
    }

    #[test]
    fn any_region_equals_split_and_parse(
        mut region in prop::collection::vec(prop_oneof![
            8 => b'0'..=b'9', 4 => Just(b'\n'), 1 => prop::sample::select(b" \t\r+-x\0".to_vec()),
            1 => any::<u8>()], 0..300),
        divisor in prop_oneof![1_u64..20, 1..=u64::MAX],
        max_line in prop_oneof![1_usize..30, Just(4096)],
    ) {
        region.push(b'\n');
        prop_assert_eq!(decode(&region, divisor, max_line), naive(&region, divisor, max_line));
    }

    #[test]
    fn numbers_of_any_length_equal_split_and_parse(
        numbers in prop::collection::vec((any::<u64>(), 0_u32..64, 0_usize..3), 0..700),
        rare in prop::collection::vec((0_usize..2000, prop::sample::select(b"\n-\r x".to_vec())), 0..4),
        divisor in prop_oneof![1_u64..20, 1_u64..100_000, 1..=u64::MAX],
        longest in prop::sample::select(vec![10, 1_000, 10_000, 100_000, u64::MAX]),
    ) {
        let mut region: Vec<u8> = numbers
            .iter()
            .flat_map(|(n, shift, zeros)| format!("{:0zeros$}{}\n", 0, (n % longest) >> shift).into_bytes())
            .collect();
        for (place, byte) in rare {
            if let Some(at) = region.get_mut(place) {
                *at = byte;
            }
        }
        region.extend(b"7\n");
        let expected = naive(&region, divisor, 4096);
        prop_assert_eq!(decode(&region, divisor, 4096), expected);
    }

    #[test]
    fn signs_and_carriage_returns_equal_split_and_parse(
        lines in prop::collection::vec(
            (prop::sample::select(vec!["", "-", "+", "--"]), "[0-9]{0,20}",
             prop::sample::select(vec!["", "\r", "\r\r", "-"])), 0..200),
        divisor in 1_u64..20,
        max_line in prop_oneof![1_usize..24, Just(4096)],
    ) {
        let region: String =
            lines.iter().map(|(sign, digits, end)| format!("{sign}{digits}{end}\n")).collect();
        let expected = naive(region.as_bytes(), divisor, max_line);
        prop_assert_eq!(decode(region.as_bytes(), divisor, max_line), expected);
    }

    #[test]
    fn short_numbers_equal_split_and_parse(
        numbers in prop::collection::vec(0_u16..=9999, 0..500),
        width in 0_usize..=4,
        empty in prop::collection::vec(0_usize..500, 0..5),
        divisor in prop_oneof![1_u64..20, 1_u64..10_000, 60_000_u64..70_000, 1..=u64::MAX],
        max_line in prop_oneof![1_usize..6, Just(4096)],
    ) {
        let mut lines: Vec<String> = numbers.iter().map(|n| format!("{n:0width$}\n")).collect();
        for place in empty {
            lines.insert(place.min(lines.len()), "\n".into());
        }
        let region = lines.concat();
        prop_assert_eq!(
            decode(region.as_bytes(), divisor, max_line),
            naive(region.as_bytes(), divisor, max_line)
        );
    }
}
