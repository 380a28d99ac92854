use super::*;
use crate::codec::tests::cut;
use proptest::prelude::*;

/// Feeds chunks to a framer. Returns the lines, without delimiters and `None` for an oversized one, and
/// whether the end truncates a line.
fn feed_all(chunks: &[&[u8]], framing: Framing) -> (Vec<Option<Vec<u8>>>, bool) {
    let (delimiter, max_line) = (framing.delimiter(), framing.max_line());
    let mut framer = Framer::default();
    let mut found = Vec::new();
    for chunk in chunks {
        framer.feed(chunk, framing, |framed| match framed {
            Framed::Oversized => found.push(None),
            Framed::Lines(region) => {
                let lines =
                    region.strip_suffix(&[delimiter]).expect("a region ends with a delimiter");
                for line in lines.split(|&byte| byte == delimiter) {
                    // A decoder also rejects a whole line over the limit.
                    found.push((line.len() <= max_line).then(|| line.to_vec()));
                }
            }
        });
    }
    let is_truncated = !framer.finish().is_empty();
    (found, is_truncated)
}

/// Finds the same in the simplest way: splits all bytes together at delimiters.
fn naive(bytes: &[u8], framing: Framing) -> (Vec<Option<Vec<u8>>>, bool) {
    let max_line = framing.max_line();
    let may_have_mark = !BYTE_ORDER_MARK.contains(&framing.delimiter());
    if may_have_mark && BYTE_ORDER_MARK[..2].starts_with(bytes) {
        return (vec![], !bytes.is_empty());
    }
    let mark = if may_have_mark { &BYTE_ORDER_MARK[..] } else { &[] };
    let bytes = bytes.strip_prefix(mark).unwrap_or(bytes);
    let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == framing.delimiter()).collect();
    let tail = lines.pop().expect("split yields at least one piece");
    let mut found: Vec<Option<Vec<u8>>> =
        lines.iter().map(|line| (line.len() <= max_line).then(|| line.to_vec())).collect();
    if tail.len() > max_line {
        found.push(None);
    }
    (found, !tail.is_empty() && tail.len() <= max_line)
}

#[test]
fn a_line_in_two_chunks_is_joined() {
    let (found, is_truncated) = feed_all(&[b"12", b"66\n7"], Framing::new(16));
    assert_eq!(found, [Some(b"1266".to_vec())]);
    assert!(is_truncated);
}

#[test]
fn whole_lines_of_a_chunk_are_one_region() {
    let mut regions = Vec::new();
    let mut framer = Framer::default();
    for chunk in [&b"1\n2\n3"[..], b"4\n5\n6\n"] {
        framer.feed(chunk, Framing::new(16), |framed| regions.push(format!("{framed:?}")));
    }
    let expected: Vec<String> = [&b"1\n2\n"[..], b"34\n", b"5\n6\n"]
        .map(|lines| format!("{:?}", Framed::Lines(lines)))
        .into();
    assert_eq!(regions, expected);
}

#[test]
fn a_line_of_the_limit_is_kept_and_one_byte_more_is_oversized() {
    for (text, kept) in [(&b"1234\n"[..], true), (b"12345\n", false)] {
        for at in 0..text.len() {
            let (found, _) = feed_all(&[&text[..at], &text[at..]], Framing::new(4));
            assert_eq!(found, [kept.then(|| text[..text.len() - 1].to_vec())], "split at {at}");
        }
    }
}

#[test]
fn an_endless_line_is_oversized_once_and_its_memory_bounded() {
    let mut framer = Framer::default();
    let mut oversized = 0;
    for _ in 0..1000 {
        framer.feed(&[b'7'; 100], Framing::new(256), |framed| {
            assert_eq!(framed, Framed::Oversized);
            oversized += 1;
        });
        assert!(framer.tail.capacity() <= 256);
    }
    assert_eq!(oversized, 1);
    assert!(framer.finish().is_empty(), "already counted as oversized");
}

#[test]
fn the_line_after_a_skipped_one_is_whole() {
    let (found, is_truncated) = feed_all(&[b"99999999", b"9\n12\n"], Framing::new(4));
    assert_eq!(found, [None, Some(b"12".to_vec())]);
    assert!(!is_truncated);
}

#[test]
fn a_line_is_never_joined_with_bytes_of_the_next_connection() {
    for first in [&b"12"[..], b"123456789"] {
        let mut framer = Framer::default();
        framer.feed(first, Framing::new(4), |_| ());
        framer.finish();
        let mut found = Vec::new();
        framer.feed(b"6\n", Framing::new(4), |framed| found.push(format!("{framed:?}")));
        assert_eq!(found, [format!("{:?}", Framed::Lines(b"6\n"))]);
    }
}

#[test]
fn a_buffer_doubles_up_to_the_limit() {
    let mut framer = Framer::default();
    let mut sizes = Vec::new();
    for len in [10, 1, 9, 1, 40, 3] {
        framer.feed(&vec![b'7'; len], Framing::new(64), |_| ());
        sizes.push((framer.held(), framer.tail.capacity()));
    }
    assert_eq!(sizes, [(10, 20), (11, 20), (20, 20), (21, 42), (61, 64), (64, 64)]);
}

#[test]
fn bytes_since_the_last_delimiter_are_counted_in_a_skipped_line_too() {
    let mut framer = Framer::default();
    let mut undelimited = Vec::new();
    for chunk in [&b"12"[..], b"345", b"67", b"8\n9", b"\n", b"123456", b"\n1"] {
        framer.feed(chunk, Framing::new(4), |_| ());
        undelimited.push(framer.undelimited());
    }
    assert_eq!(undelimited, [2, 5, 7, 1, 0, 6, 1]);
    framer.finish();
    assert_eq!(framer.undelimited(), 0);
}

#[test]
fn no_buffer_is_held_between_two_lines() {
    let mut framer = Framer::default();
    framer.feed(b"12", Framing::new(64), |_| ());
    framer.feed(b"3\n", Framing::new(64), |_| ());
    assert_eq!(framer.tail.capacity(), 0);
}

#[test]
fn a_byte_order_mark_at_the_start_is_dropped_at_any_split() {
    let text = b"\xef\xbb\xbf12\n";
    for first in 0..=text.len() {
        for second in first..=text.len() {
            let chunks = [&text[..first], &text[first..second], &text[second..]];
            // The mark counts for no limit.
            let (found, is_truncated) = feed_all(&chunks, Framing::new(2));
            assert_eq!((found, is_truncated), (vec![Some(b"12".to_vec())], false), "{chunks:?}");
        }
    }
}

#[test]
fn a_part_of_a_byte_order_mark_is_an_ordinary_line_and_at_the_end_a_truncated_one() {
    for text in
        [&b"\xef\xbb12"[..], b"\xef12", b"\xef\xbb\xef\xbb\xbf", b"\xbb\xbf1", b"\xef", b"\xef\xbb"]
    {
        for at in 0..=text.len() {
            let chunks = [&text[..at], &text[at..]];
            assert_eq!(feed_all(&chunks, Framing::new(9)), (vec![], true), "{chunks:?}");
            let (found, is_truncated) = feed_all(&[chunks[0], chunks[1], b"\n"], Framing::new(9));
            assert_eq!((found, is_truncated), (vec![Some(text.to_vec())], false), "{chunks:?}");
            let (found, _) = feed_all(&[chunks[0], chunks[1], b"\n"], Framing::new(text.len() - 1));
            assert_eq!(found, [None], "{chunks:?}");
        }
    }
}

#[test]
fn only_the_first_byte_order_mark_of_each_connection_is_dropped() {
    let mark = BYTE_ORDER_MARK.as_slice();
    let (found, _) = feed_all(&[mark, mark, b"1\n", mark, b"2\n"], Framing::new(9));
    assert_eq!(found, [Some([mark, b"1"].concat()), Some([mark, b"2"].concat())]);
    let mut framer = Framer::default();
    for _ in 0..2 {
        let mut found = Vec::new();
        for byte in [mark, b"1\n\xef"].concat() {
            framer.feed(&[byte], Framing::new(9), |framed| found.push(format!("{framed:?}")));
        }
        assert_eq!(found, [format!("{:?}", Framed::Lines(b"1\n"))]);
        assert_eq!(framer.finish(), b"\xef");
    }
}

#[test]
fn a_delimiter_that_is_a_byte_of_the_mark_leaves_no_mark_to_drop() {
    let mark = BYTE_ORDER_MARK.as_slice();
    for (at, delimiter) in mark.iter().enumerate() {
        let (found, _) = feed_all(&[mark], Framing::new(9).with_delimiter(*delimiter));
        assert_eq!(found, [Some(mark[..at].to_vec())]);
    }
}

proptest! {
    #[test]
    fn any_bytes_in_any_chunks_equal_split(
        bytes in prop::collection::vec(
            prop_oneof![3 => b'0'..=b'9', 2 => Just(b'\n'), 1 => Just(b';'), 1 => any::<u8>()], 0..200),
        mark in 0_usize..=3,
        sizes in prop::collection::vec(1_usize..20, 1..20),
        max_line in 1_usize..12,
        delimiter in prop_oneof![Just(b'\n'), Just(b';'), any::<u8>()],
    ) {
        let framing = Framing::new(max_line).with_delimiter(delimiter);
        // A whole byte order mark, a part of it, or none.
        let bytes = [&BYTE_ORDER_MARK[..mark], &bytes].concat();
        prop_assert_eq!(feed_all(&cut(&bytes, &sizes), framing), naive(&bytes, framing));
    }
}
