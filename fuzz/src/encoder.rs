//! Checks that any bytes, in any slices, are encoded as JSON, TSV and plain text with the same content.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tcpcore::{ENCODE_SLACK, Encoder, Format, Framing, Origin, Server, TaggedLines};

/// Panics unless all formats have the content of the lines. `input` is the delimiter, the size of the slices, and
/// the bytes of the stream.
pub fn check(input: &[u8]) {
    let [delimiter, size, stream @ ..] = input else { return };
    let framing = Framing::new(usize::MAX).with_delimiter(*delimiter);
    let mut stream = stream.to_vec();
    stream.push(*delimiter);
    let mut lines: Vec<&[u8]> =
        stream.split(|byte| byte == delimiter).map(|line| framing.trim(line)).collect();
    lines.pop();
    let size = usize::from(*size) + 1;

    let json = encode(Format::Json, framing, &stream, size);
    let objects: Vec<&[u8]> = json.split(|byte| *byte == b'\n').collect();
    assert_eq!(objects.len(), lines.len() + 1, "an object a line");
    for (object, line) in objects.iter().zip(&lines) {
        let object: Value = serde_json::from_slice(object).expect("it is valid JSON");
        assert_eq!(object["server"], "[::1]:1");
        assert_eq!(object["time"], "1970-01-01T00:00:01.234Z");
        assert_eq!(object.as_object().expect("it is an object").len(), 3);
        match (object["line"].as_str(), object["line_base64"].as_str()) {
            (Some(text), None) => assert_eq!(text.as_bytes(), *line),
            (None, Some(text)) => {
                let mut bytes = vec![0; text.len()];
                let len = STANDARD.decode_slice(text, &mut bytes).expect("it is valid base64");
                assert_eq!(&bytes[..len], *line);
                assert!(str::from_utf8(line).is_err(), "text is a string");
            }
            other => panic!("one of the two members is expected: {other:?}"),
        }
    }

    let tsv = encode(Format::Tsv, framing, &stream, size);
    let mut read = Vec::new();
    for line in tsv.strip_suffix(b"\n").expect("the last line has its end").split(|b| *b == b'\n') {
        let line = line.strip_prefix(b"[::1]:1\t").expect("the server stands in front");
        assert!(!line.iter().any(|byte| b"\t\r".contains(byte)), "both have to be escaped");
        read.push(unescape(line));
    }
    assert_eq!(read, lines);

    let plain = encode(Format::Plain, framing, &stream, size);
    if *delimiter == b'\n' {
        assert_eq!(
            plain,
            lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect::<Vec<_>>()
        );
    } else {
        let plain = plain.strip_suffix(b"\n").expect("the last line has its end");
        let read: Vec<_> = plain.split(|byte| *byte == b'\n').map(unescape).collect();
        assert_eq!(read, lines);
    }
}

fn encode(format: Format, framing: Framing, stream: &[u8], size: usize) -> Vec<u8> {
    let server: Server = "[::1]:1".parse().expect("it is well formed");
    let mut encoder = TaggedLines::new(format, framing, &[server]);
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1234);
    encoder.set_origin(Origin::new(0, 0, time));
    let mut text = Vec::new();
    for slice in stream.chunks(size) {
        let most = encoder.max_len(slice);
        let mut to = vec![0xaa; most + ENCODE_SLACK];
        let len = encoder.encode(slice, &mut to);
        assert!(len <= most, "{len} bytes, but at most {most} were announced");
        text.extend_from_slice(&to[..len]);
    }
    assert!(!encoder.is_within_line(), "the stream ends with a line");
    text
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = field.iter();
    let mut text = Vec::new();
    while let Some(byte) = bytes.next() {
        text.push(match byte {
            b'\\' => match bytes.next().expect("an escape has a letter") {
                b't' => b'\t',
                b'n' => b'\n',
                b'r' => b'\r',
                other => *other,
            },
            byte => *byte,
        });
    }
    text
}
