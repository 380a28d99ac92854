use super::*;
use crate::codec::framer::{Framed, Framer};
use crate::codec::tests::{Found, cut, decode_all};
use proptest::prelude::*;

type Seen = Found<i64, NumberError>;

/// Lines that end with a line feed, up to the default limit.
pub(super) const LF: Framing = Framing::new(4096);

/// Returns a decoder on each path of this machine, and on those that are emulated. Byte by byte comes first.
pub(super) fn decoders(divisor: u64, framing: Framing) -> Vec<NumberDecoder> {
    let divisor = Divisor::new(NonZeroU64::new(divisor).expect("tests divide by something"));
    NumberDecoder::on_all_paths(divisor, framing).collect()
}

/// Reports that a path was not tried. cargo shows it with `--nocapture`, and the file that `TCPCORE_SKIPPED` names, if
/// any, gets a line.
#[expect(clippy::print_stderr, reason = "cargo shows it with --nocapture")]
fn skip(why: &str) {
    eprintln!("SKIPPED decoding: {why}");
    if let Some(path) = std::env::var_os("TCPCORE_SKIPPED") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        std::io::Write::write_all(&mut file.unwrap(), format!("decoding: {why}\n").as_bytes())
            .unwrap();
    }
}

/// Decodes on all paths, and compares their results.
pub(super) fn decode(region: &[u8], divisor: u64, framing: Framing) -> (Seen, u64) {
    let mut decoders = decoders(divisor, framing).into_iter();
    let reference = decode_all(&decoders.next().expect("it is first"), region);
    for decoder in decoders {
        assert_eq!(decode_all(&decoder, region), reference, "{:?} differs", decoder.path);
    }
    reference
}

/// Decodes a region by other means: text, `str::parse` and `%`.
pub(super) fn naive(region: &[u8], divisor: u64, framing: Framing) -> (Seen, u64) {
    let mut seen = Seen::default();
    let mut lines = 0;
    for line in region.split_inclusive(|&byte| byte == framing.delimiter()) {
        let line = &line[..line.len() - 1];
        lines += 1;
        if line.len() > framing.max_line() {
            seen.oversized += 1;
            continue;
        }
        let line_end: &[u8] = if framing.delimiter() == b'\n' { b"\r" } else { b"" };
        let trimmed = line.strip_suffix(line_end).unwrap_or(line);
        let text: String = trimmed.iter().copied().map(char::from).collect();
        match text.trim_matches([' ', '\t']).parse::<i64>() {
            Ok(n) if n.unsigned_abs() % divisor == 0 => seen.records.push(n),
            Ok(_) => {}
            Err(_) if text.is_empty() => {}
            Err(_) => {
                let error =
                    parse(trimmed).expect_err("parse refuses the lines that str::parse does");
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
        assert_eq!(parse(LF.trim(line)), Ok(Some(value)), "{}", line.escape_ascii());
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
        assert_eq!(parse(LF.trim(line)), Err(error), "{}", line.escape_ascii());
    }
}

#[test]
fn an_empty_line_is_a_heartbeat() {
    assert_eq!(parse(b""), Ok(None));
    assert_eq!(parse(LF.trim(b"\r")), Ok(None));
    let (seen, lines) = decode(b"\n\r\n6\n\n", 6, LF);
    assert_eq!((seen.records, seen.malformed.len(), lines), (vec![6], 0, 4));
}

#[test]
fn numbers_of_18_and_19_digits_up_to_the_greatest_i64() {
    let region = b"999999999999999996\n9223372036854775806\n9223372036854775808\n";
    let (seen, lines) = decode(region, 6, LF);
    assert_eq!(seen.records, [999_999_999_999_999_996, 9_223_372_036_854_775_806]);
    assert_eq!(seen.malformed.len(), 1);
    assert_eq!(lines, 3);
}

#[test]
fn a_number_of_the_limit_is_decoded_and_one_byte_more_is_oversized() {
    let (seen, lines) = decode(b"666\n6666\n   6\n  6\n", 6, Framing::new(3));
    assert_eq!((seen.records, seen.oversized, lines), (vec![666, 6], 2, 4));
}

#[test]
fn with_another_delimiter_a_carriage_return_and_a_line_feed_make_a_line_malformed() {
    let (seen, lines) = decode(b"6;-12;+18;12\r;\r;;24\n;30;", 6, LF.with_delimiter(b';'));
    assert_eq!((seen.records, lines), (vec![6, -12, 18, 30], 8));
    let malformed: Vec<_> = seen.malformed.into_iter().map(|(line, _)| line).collect();
    assert_eq!(malformed, [b"12\r".to_vec(), b"\r".to_vec(), b"24\n".to_vec()]);
    let (seen, lines) = decode(b"6\r\r-12\r+18\r", 6, LF.with_delimiter(b'\r'));
    assert_eq!((seen.records, seen.malformed.len(), lines), (vec![6, -12, 18], 0, 4));
    let (seen, lines) = decode(b"6  -12 +18 ", 6, LF.with_delimiter(b' '));
    assert_eq!((seen.records, seen.malformed.len(), lines), (vec![6, -12, 18], 0, 4));
}

#[test]
fn any_byte_but_a_digit_and_a_sign_is_a_delimiter_of_numbers() {
    let divisor = Divisor::new(NonZeroU64::MIN);
    for byte in 0..=u8::MAX {
        let is_part_of_numbers = byte.is_ascii_digit() || byte == b'+' || byte == b'-';
        assert_eq!(NumberDecoder::is_delimiter(byte), !is_part_of_numbers);
        let new = || NumberDecoder::new(divisor, LF.with_delimiter(byte));
        assert_eq!(std::panic::catch_unwind(new).is_err(), is_part_of_numbers);
    }
}

#[test]
fn a_path_is_found_by_its_name_or_the_error_names_those_of_the_machine() {
    let divisor = Divisor::new(NonZeroU64::MIN);
    let available: Vec<_> = DecoderPath::available().collect();
    assert_eq!(available.last(), Some(&DecoderPath::Fallback));
    assert_eq!(NumberDecoder::new(divisor, LF).path(), available[0], "the fastest");
    for path in DecoderPath::ALL {
        assert_eq!(path.name().parse(), Ok(path));
        match NumberDecoder::on_path(divisor, LF, path) {
            Ok(decoder) => {
                assert_eq!(decoder.path(), path);
                assert!(available.contains(&path));
            }
            Err(error) => {
                let names: Vec<_> = available.iter().map(|path| path.name()).collect();
                let names = names.join(", ");
                let expected = format!("this machine has no {path}, expected one of {names}");
                assert_eq!(error.to_string(), expected);
                skip(&format!("this machine has no {path}"));
            }
        }
    }
    assert!("AVX".parse::<DecoderPath>().unwrap_err().contains("\"AVX\""));
    // A line of 18 digits with a sign and a carriage return would be oversized.
    assert_eq!(NumberDecoder::new(divisor, Framing::new(19)).path(), DecoderPath::Fallback);
    assert_eq!(NumberDecoder::new(divisor, Framing::new(20)).path(), available[0]);
}

#[test]
fn more_matches_than_a_batch_keep_their_order() {
    let numbers: Vec<i64> = (0..1000).map(|i| i * 6).collect();
    let region: String = numbers.iter().map(|n| format!("{n}\n")).collect();
    assert_eq!(decode(region.as_bytes(), 6, LF).0.records, numbers);
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
        assert_eq!(decode(region, 6, LF), naive(region, 6, LF), "{empty} empty lines");
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
        prop_assert_eq!(decode(&region, divisor, Framing::new(max_line)), naive(&region, divisor, Framing::new(max_line)));
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
        let expected = naive(&region, divisor, LF);
        prop_assert_eq!(decode(&region, divisor, LF), expected);
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
        let expected = naive(region.as_bytes(), divisor, Framing::new(max_line));
        prop_assert_eq!(decode(region.as_bytes(), divisor, Framing::new(max_line)), expected);
    }

    #[test]
    fn short_and_long_runs_with_signs_and_returns_equal_split_and_parse(
        runs in prop::collection::vec(
            (prop_oneof!["[0-9]{1,4}", "[0-9]{1,18}", "[0-9]{0,19}"],
             prop::sample::select(vec!["", "-"]), prop::sample::select(vec!["", "\r"]), 1_usize..60), 1..12),
        rare in prop::collection::vec((0_usize..2000, prop::sample::select(b"\n-\r 7+".to_vec())), 0..4),
        divisor in prop_oneof![1_u64..20, 1_u64..10_000, 1..=u64::MAX],
        max_line in prop_oneof![Just(20_usize), Just(4096)],
    ) {
        let line = |(digits, sign, end, count): &(String, &str, &str, usize)| {
            format!("{sign}{digits}{end}\n").repeat(*count)
        };
        let mut region: Vec<u8> = runs.iter().map(line).collect::<String>().into_bytes();
        for (place, byte) in rare {
            if let Some(at) = region.get_mut(place) {
                *at = byte;
            }
        }
        region.extend(b"7\n");
        let framing = Framing::new(max_line);
        prop_assert_eq!(decode(&region, divisor, framing), naive(&region, divisor, framing));
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
            decode(region.as_bytes(), divisor, Framing::new(max_line)),
            naive(region.as_bytes(), divisor, Framing::new(max_line))
        );
    }

    #[test]
    fn any_delimiter_and_any_chunks_equal_split_and_parse(
        mut bytes in prop::collection::vec(prop_oneof![
            8 => b'0'..=b'9', 4 => Just(DELIMITER), 1 => prop::sample::select(b" \t\r\n+-x;\0\xff".to_vec()),
            1 => any::<u8>()], 0..600),
        delimiter in prop::sample::select(b"\n\r\0; \xff".to_vec()),
        sizes in prop::collection::vec(1_usize..100, 1..10),
        divisor in 1_u64..20,
        max_line in prop_oneof![1_usize..30, Just(4096)],
    ) {
        for byte in &mut bytes {
            if *byte == DELIMITER {
                *byte = delimiter;
            }
        }
        let framing = Framing::new(max_line).with_delimiter(delimiter);
        // The tail would need the rule of the end of a connection.
        bytes.push(delimiter);
        let expected = naive(&bytes, divisor, framing);
        prop_assert_eq!(decode(&bytes, divisor, framing), expected.clone(), "in one region");
        for decoder in decoders(divisor, framing) {
            prop_assert_eq!(decode_chunks(&decoder, &bytes, &sizes, framing), expected.clone());
        }
    }
}

/// Stands for the delimiter in the bytes of a property.
const DELIMITER: u8 = 0x80;

/// Frames and decodes bytes that come in chunks of these sizes, in turns.
fn decode_chunks(
    decoder: &NumberDecoder,
    bytes: &[u8],
    sizes: &[usize],
    framing: Framing,
) -> (Seen, u64) {
    let (mut framer, mut seen, mut lines) = (Framer::default(), Seen::default(), 0);
    for chunk in cut(bytes, sizes) {
        framer.feed(chunk, framing, |framed| match framed {
            Framed::Lines(region) => lines += decoder.decode(region, &mut seen),
            Framed::Oversized => {
                seen.oversized += 1;
                lines += 1;
            }
        });
    }
    assert_eq!(framer.held(), 0);
    (seen, lines)
}
