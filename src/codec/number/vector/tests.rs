use super::super::tests::{LF, decode, naive};
use super::*;
use std::cell::RefCell;

thread_local! {
    pub(super) static PATHS: RefCell<Vec<Path>> = const { RefCell::new(Vec::new()) };
}

/// Decodes a region without empty lines with some delimiters, compares the result with the naive one, and returns
/// the paths of the blocks, which are the same with each of them.
fn paths(lines: &[String]) -> Vec<Path> {
    let with_line_feeds = paths_with(lines, b'\n');
    assert_eq!(with_line_feeds, paths_with(lines, b';'));
    assert_eq!(with_line_feeds, paths_with(lines, b'\0'));
    with_line_feeds
}

fn paths_with(lines: &[String], delimiter: u8) -> Vec<Path> {
    let framing = LF.with_delimiter(delimiter);
    let region = lines.concat().replace('\n', &char::from(delimiter).to_string());
    PATHS.take();
    let (seen, decoded) = decode(region.as_bytes(), 1, framing);
    assert_eq!(decoded, lines.len() as u64);
    assert_eq!(seen.records.len() + seen.malformed.len(), lines.len());
    assert_eq!((seen, decoded), naive(region.as_bytes(), 1, framing));
    let mut paths = PATHS.take();
    let safe = lines.iter().all(|line| line.len() <= SAFE_DIGITS + 1);
    assert!(!safe || !paths.contains(&Path::NotInEights));
    paths.retain(|&path| path != Path::NotInEights);
    // The whole blocks from the first line that begins after `LOOK_BACK` bytes.
    let start = LOOK_BACK + region[LOOK_BACK - 1..].find(char::from(delimiter)).unwrap();
    let whole = (region.len() - start) / BLOCK;
    assert_eq!(paths.len(), if Vector::detect().is_some() { whole } else { 0 });
    paths
}

#[test]
fn lines_up_to_4_digits_are_decoded_at_once_and_longer_ones_in_eights() {
    let has_vectors = std::arch::is_x86_feature_detected!("avx512vbmi2");
    assert_eq!(Vector::detect().is_some(), has_vectors);
    for digits in 1..=18 {
        let line = format!("{}\n", "6".repeat(digits));
        // The smallest counts make less than a block, and one block.
        for count in [40, 48, 70, 700] {
            let expected = if digits <= 4 { Path::AtOnce } else { Path::InEights };
            let found = paths(&vec![line.clone(); count]);
            assert!(found.iter().all(|&path| path == expected), "{line}");
        }
    }
}

#[test]
fn only_the_blocks_of_another_line_are_decoded_byte_by_byte() {
    for digits in [1, 3, 18] {
        for other in ["x\n", "-6\n", "x\nx\n", "6xx\n"] {
            for place in 100..200 {
                let mut lines = vec![format!("{}\n", "6".repeat(digits)); 300];
                lines.splice(place..place, other.split_inclusive('\n').map(str::to_owned));
                let slow = paths(&lines).iter().filter(|&&path| path == Path::ByteByByte).count();
                assert!(slow <= 2, "{slow} blocks for {other:?} at {place}");
            }
        }
    }
}
