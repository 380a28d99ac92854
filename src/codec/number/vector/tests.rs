use super::super::path;
use super::super::tests::{LF, naive};
use super::*;
use crate::codec::tests::decode_all;
use std::cell::RefCell;
use std::num::NonZeroU64;

thread_local! {
    pub(super) static PATHS: RefCell<Vec<Path>> = const { RefCell::new(Vec::new()) };
}

/// Decodes a region without empty lines on each path with some delimiters, compares the result with the naive one, and
/// returns the paths of the blocks, which are the same for all.
fn paths(lines: &[String]) -> Vec<Path> {
    let mut all = Vec::new();
    for path in path::Path::in_blocks() {
        // Other delimiters have other code with AVX2.
        let delimiters: &[u8] =
            if matches!(path, path::Path::Avx512Emulated(_)) { b"\n" } else { b"\n;\0\xff" };
        all.extend(delimiters.iter().map(|&delimiter| paths_on(path, lines, delimiter)));
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
    all.pop().expect("one path is emulated")
}

fn paths_on(path: path::Path, lines: &[String], delimiter: u8) -> Vec<Path> {
    let framing = LF.with_delimiter(delimiter);
    let bytes = lines.iter().flat_map(|line| line.bytes());
    let region: Vec<u8> = bytes.map(|byte| if byte == b'\n' { delimiter } else { byte }).collect();
    PATHS.take();
    let decoder = NumberDecoder::made(Divisor::new(NonZeroU64::MIN), framing, path);
    let (seen, decoded) = decode_all(&decoder, &region);
    assert_eq!(decoded, lines.len() as u64);
    assert_eq!(seen.records.len() + seen.malformed.len(), lines.len());
    assert_eq!((seen, decoded), naive(&region, 1, framing));
    let mut paths = PATHS.take();
    let safe = lines.iter().all(|line| line.len() <= SAFE_DIGITS + 1);
    assert!(!safe || !paths.contains(&Path::NotInEights));
    paths.retain(|&path| path != Path::NotInEights);
    // The whole blocks from the first line that begins after `LOOK_BACK` bytes.
    let start = first_line(&region, delimiter).expect("a whole block");
    assert_eq!(paths.len(), (region.len() - start) / BLOCK);
    paths
}

#[test]
fn lines_up_to_4_digits_are_decoded_at_once_and_longer_ones_in_eights() {
    for digits in 1..=18 {
        let line = format!("{}\n", "6".repeat(digits));
        // The smallest counts make less than a block, and one block.
        for count in [70, 90, 700] {
            let expected = if digits <= 4 { Path::AtOnce } else { Path::InEights };
            let found = paths(&vec![line.clone(); count]);
            assert!(found.iter().all(|&path| path == expected), "{line}");
        }
    }
}

#[test]
fn only_the_blocks_of_another_line_are_decoded_byte_by_byte() {
    for digits in [1, 3, 18] {
        for other in ["x\n", "+6\n", "x\nx\n", "6xx\n", "6-\n", "--6\n", "-\n"] {
            for place in (20..120).step_by(3) {
                let mut lines = vec![format!("{}\n", "6".repeat(digits)); 150];
                lines.splice(place..place, other.split_inclusive('\n').map(str::to_owned));
                let slow = paths(&lines).iter().filter(|&&path| path == Path::ByteByByte).count();
                assert!(slow <= 2, "{slow} blocks for {other:?} at {place}");
            }
        }
    }
}

#[test]
fn signs_and_carriage_returns_stay_off_the_path_byte_by_byte() {
    for digits in [1, 2, 4, 5, 8, 16, 17, 18] {
        for place in (0..70).step_by(3) {
            let plain = format!("{}\n", "6".repeat(digits));
            let mut region = plain.repeat(70);
            region.insert_str(0, &"6".repeat(place));
            region.insert(place, '\n');
            let marked = format!("-{}\r\n{}\r\n-{plain}", "6".repeat(digits), "6".repeat(digits));
            region.push_str(&marked.repeat(40));
            for path in path::Path::in_blocks() {
                PATHS.take();
                let decoder = NumberDecoder::made(Divisor::new(NonZeroU64::MIN), LF, path);
                let found = decode_all(&decoder, region.as_bytes());
                assert_eq!(found, naive(region.as_bytes(), 1, LF), "{path:?}");
                let paths = PATHS.take();
                let slow = paths.iter().filter(|&&path| path == Path::ByteByByte).count();
                // The first line, and the block behind it, may be of too many digits.
                assert!(slow <= 2, "{slow} blocks of {digits} digits behind {place} bytes");
            }
        }
    }
}

#[test]
fn the_first_line_in_blocks_begins_right_after_the_bytes_that_are_looked_back() {
    for digits in [1, 4, 5, 18] {
        let line = format!("{}\n", "9".repeat(digits));
        let region = format!("{}\n{}", "1".repeat(LOOK_BACK - 1), line.repeat(100));
        assert_eq!(first_line(region.as_bytes(), b'\n'), Some(LOOK_BACK));
        for path in path::Path::in_blocks() {
            let decoder = NumberDecoder::made(Divisor::new(NonZeroU64::MIN), LF, path);
            let found = decode_all(&decoder, region.as_bytes());
            assert_eq!(found, naive(region.as_bytes(), 1, LF), "{path:?}");
        }
    }
}
