use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::output::encode::ENCODE_SLACK;
use crate::partition::ShardBy;

fn servers() -> Vec<Server> {
    ["127.0.0.1:9001", "[::1]:9002"].map(|server| server.parse().unwrap()).into()
}

/// 2026-11-25T12:34:56.789Z.
const TIME_MS: u64 = 1_795_610_096_789;

fn origin(server: usize, later_ms: u64) -> Origin {
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(TIME_MS + later_ms);
    Origin::new(server + 1, server, time)
}

/// Encodes into exactly the space that the encoder asks for.
fn encode<T>(encoder: &mut impl Encoder<T>, records: &[T]) -> String {
    let space = encoder.max_len(records);
    let mut to = vec![b'x'; space + ENCODE_SLACK];
    let len = encoder.encode(records, &mut to);
    assert!(len <= space, "{len} bytes in {space}");
    to.truncate(len);
    String::from_utf8(to).expect("all formats are UTF-8 if the lines are")
}

#[test]
fn a_named_server_is_its_name() {
    let server = servers()[0].clone().with_name("a\\b").unwrap();
    for (format, expected) in
        [(Format::Tsv, "a\\\\b\t6\n"), (Format::Json, "{\"server\":\"a\\\\b\",")]
    {
        let mut encoder = TaggedNumbers::new(format, std::slice::from_ref(&server));
        encoder.set_origin(origin(0, 0));
        let text = encode(&mut encoder, &[6]);
        assert!(text.starts_with(expected), "{text}");
    }
}

fn numbers(format: Format, server: usize, numbers: &[i64]) -> String {
    let mut encoder = TaggedNumbers::new(format, &servers());
    assert!(Encoder::<i64>::needs_origin(&encoder));
    encoder.set_origin(origin(server, 0));
    encode(&mut encoder, numbers)
}

fn lines(format: Format, delimiter: u8, text: &[u8]) -> String {
    let framing = Framing::new(4096).with_delimiter(delimiter);
    let mut encoder = TaggedLines::new(format, framing, &servers());
    encoder.set_origin(origin(0, 0));
    encode(&mut encoder, text)
}

#[test]
fn numbers_in_each_format() {
    let max = i64::MAX;
    assert_eq!(numbers(Format::Plain, 1, &[216, -6]), "216\n-6\n");
    assert_eq!(numbers(Format::Task, 1, &[216, -6]), "3> 216\n3> -6\n");
    assert_eq!(numbers(Format::Tsv, 1, &[0, max]), format!("[::1]:9002\t0\n[::1]:9002\t{max}\n"));
    let head = r#"{"server":"127.0.0.1:9001","time":"2026-11-25T12:34:56.789Z","number":"#;
    assert_eq!(
        numbers(Format::Json, 0, &[i64::MIN, 6]),
        format!("{head}-9223372036854775808}}\n{head}6}}\n")
    );
}

#[test]
fn lines_in_each_format() {
    let text = b"a\tb\\\r\n\n\"\x01\r\r\n";
    assert_eq!(lines(Format::Plain, b'\n', text), "a\tb\\\n\n\"\x01\r\n");
    assert_eq!(lines(Format::Task, b'\n', text), "2> a\tb\\\n2> \n2> \"\x01\r\n");
    let server = "127.0.0.1:9001";
    assert_eq!(
        lines(Format::Tsv, b'\n', text),
        format!("{server}\ta\\tb\\\\\n{server}\t\n{server}\t\"\x01\\r\n")
    );
    let head = format!(r#"{{"server":"{server}","time":"2026-11-25T12:34:56.789Z","line":""#);
    assert_eq!(
        lines(Format::Json, b'\n', text),
        format!("{head}a\\tb\\\\\"}}\n{head}\"}}\n{head}\\\"\\u0001\\r\"}}\n")
    );
}

#[test]
fn with_another_delimiter_a_line_with_line_feeds_is_one_line_in_each_format() {
    let text = b"a\nb\\\tc\r;\n;;";
    let server = "127.0.0.1:9001";
    assert_eq!(lines(Format::Plain, b';', text), "a\\nb\\\\\tc\r\n\\n\n\n");
    assert_eq!(lines(Format::Task, b';', text), "2> a\\nb\\\\\tc\r\n2> \\n\n2> \n");
    assert_eq!(
        lines(Format::Tsv, b';', text),
        format!("{server}\ta\\nb\\\\\\tc\\r\n{server}\t\\n\n{server}\t\n")
    );
    let head = format!(r#"{{"server":"{server}","time":"2026-11-25T12:34:56.789Z","line":""#);
    assert_eq!(
        lines(Format::Json, b';', text),
        format!("{head}a\\nb\\\\\\tc\\r\"}}\n{head}\\n\"}}\n{head}\"}}\n")
    );
}

#[test]
fn a_line_of_line_feeds_alone_fits_in_each_format() {
    for format in Format::ALL {
        let text = [&[b'\n'; 1000][..], b"\0"].concat();
        let lines = lines(format, 0, &text);
        assert_eq!((lines.matches('\n').count(), lines.matches("\\n").count()), (1, 1000));
    }
}

#[test]
fn a_line_that_is_not_utf_8_is_written_in_base64() {
    assert!(lines(Format::Json, b'\n', b"\xff\xfe\n").ends_with("\"line_base64\":\"//4=\"}\n"));
}

#[test]
fn a_server_that_is_not_in_the_list_is_named_by_its_index() {
    assert_eq!(numbers(Format::Tsv, 12, &[6]), "#12\t6\n");
}

#[test]
fn json_names_the_shard_after_the_time_and_the_other_formats_do_not() {
    let shard = Some(Shard::new(1, 4, ShardBy::Hash).unwrap());
    for format in Format::ALL {
        let mut encoder = TaggedNumbers::new(format, &servers()).with_shard(shard);
        encoder.set_origin(origin(0, 0));
        let text = encode(&mut encoder, &[6]);
        let framing = Framing::new(100);
        let mut encoder = TaggedLines::new(format, framing, &servers()).with_shard(shard);
        encoder.set_origin(origin(0, 0));
        let line = encode(&mut encoder, b"x\n");
        if format == Format::Json {
            assert!(text.contains("Z\",\"shard\":\"1/4\",\"number\":6}"), "{text}");
            assert!(line.contains("Z\",\"shard\":\"1/4\",\"line\":\"x\"}"), "{line}");
        } else {
            assert_eq!(text, numbers(format, 0, &[6]));
            assert_eq!(line, lines(format, b'\n', b"x\n"));
        }
    }
}

#[test]
fn a_new_origin_replaces_the_last_one() {
    let mut encoder = TaggedNumbers::new(Format::Tsv, &servers());
    for (server, name) in [(1, "[::1]:9002"), (0, "127.0.0.1:9001"), (1, "[::1]:9002")] {
        encoder.set_origin(origin(server, 0));
        assert_eq!(encode(&mut encoder, &[6]), format!("{name}\t6\n"));
    }
}

#[test]
fn a_line_in_slices_is_encoded_once_it_is_whole() {
    let framing = Framing::new(4096);
    let mut encoder = TaggedLines::new(Format::Task, framing, &servers());
    encoder.set_origin(origin(0, 0));
    assert_eq!(encode(&mut encoder, b"one\ntw"), "2> one\n");
    assert!(encoder.is_within_line());
    assert_eq!((encode(&mut encoder, b"o"), encoder.count(b"o")), (String::new(), 0));
    assert_eq!(encode(&mut encoder, b"\n\n"), "2> two\n2> \n");
    assert!(!encoder.is_within_line());
    assert_eq!(encoder.count(b"\n\n"), 2);
}

fn base64(bytes: &[u8]) -> String {
    let mut to = vec![0; bytes.len().div_ceil(3) * 4];
    STANDARD.encode_slice(bytes, &mut to).unwrap();
    String::from_utf8(to).unwrap()
}

/// Lines of text, of any bytes and of escapes.
fn any_lines() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let line = prop_oneof![
        any::<String>().prop_map(String::into_bytes),
        any::<Vec<u8>>(),
        prop::collection::vec(prop::sample::select(&b"\x00\t\r\"\\\x1f\x7f\xff"[..]), 0..30),
    ];
    let line = line.prop_map(|mut line| {
        line.retain(|byte| *byte != b'\n');
        line
    });
    prop::collection::vec(line, 0..10)
}

proptest! {
    #[test]
    fn json_of_any_lines_in_any_slices_parses_to_the_same(
        lines in any_lines(), cuts in prop::collection::vec(0_usize..200, 0..5), later_ms in 0..1_000_000_000_000_u64,
    ) {
        let text = lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect::<Vec<u8>>();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let mut encoder = TaggedLines::new(Format::Json, Framing::new(usize::MAX), &servers());
        encoder.set_origin(origin(1, later_ms));
        let slices = cuts.windows(2).map(|cut| encode(&mut encoder, &text[cut[0]..cut[1]]));
        let json: String = slices.collect();
        prop_assert!(!encoder.is_within_line());
        let objects: Vec<Value> =
            json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(TIME_MS + later_ms);
        let time = humantime::format_rfc3339_millis(time).to_string();
        let expected: Vec<Value> = lines.iter().map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            match str::from_utf8(line) {
                Ok(line) => json!({"server": "[::1]:9002", "time": time, "line": line}),
                Err(_) => {
                    let line = base64(line);
                    json!({"server": "[::1]:9002", "time": time, "line_base64": line})
                }
            }
        }).collect();
        prop_assert_eq!(objects, expected);
    }

    #[test]
    fn json_of_any_numbers_parses_to_the_same(numbers in any::<Vec<i64>>()) {
        let json = self::numbers(Format::Json, 0, &numbers);
        let parsed = json.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let parsed: Vec<i64> = parsed.map(|object| object["number"].as_i64().unwrap()).collect();
        prop_assert_eq!(parsed, numbers);
    }

    #[test]
    fn tsv_of_any_lines_has_two_fields_that_are_read_back(lines in any_lines()) {
        let lines: Vec<String> =
            lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        let text = lines.iter().flat_map(|line| [line, "\n"].concat().into_bytes());
        let tsv = self::lines(Format::Tsv, b'\n', &text.collect::<Vec<u8>>());
        let mut read = Vec::new();
        for line in tsv.split_terminator('\n') {
            let (server, line) = line.split_once('\t').unwrap();
            prop_assert!(server == "127.0.0.1:9001" && !line.contains(['\t', '\r']));
            let mut unescaped = String::new();
            let mut chars = line.chars();
            while let Some(char) = chars.next() {
                unescaped.push(match char {
                    '\\' => match chars.next().unwrap() {
                        't' => '\t',
                        'r' => '\r',
                        'n' => '\n',
                        other => other,
                    },
                    char => char,
                });
            }
            read.push(unescaped);
        }
        let expected: Vec<&str> =
            lines.iter().map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
        prop_assert_eq!(read, expected);
    }
}
