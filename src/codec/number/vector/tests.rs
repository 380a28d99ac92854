use super::super::tests::{decode, naive};
use super::*;
use std::cell::RefCell;

thread_local! {
    pub(super) static PATHS: RefCell<Vec<Path>> = const { RefCell::new(Vec::new()) };
}

/// The ways of the blocks of a region without empty lines, decoded as by the line-by-line rule.
fn ways(lines: &[String]) -> Vec<Path> {
    let region = lines.concat();
    PATHS.take();
    let (seen, decoded) = decode(region.as_bytes(), 1, 4096);
    assert_eq!(decoded, lines.len() as u64);
    assert_eq!(seen.matched.len() + seen.malformed.len(), lines.len());
    assert_eq!((seen, decoded), naive(region.as_bytes(), 1, 4096));
    let mut ways = PATHS.take();
    let safe = lines.iter().all(|line| line.len() <= SAFE_DIGITS + 1);
    assert!(!safe || !ways.contains(&Path::NotInEights));
    ways.retain(|&way| way != Path::NotInEights);
    // All whole blocks from the first line on that begins far enough behind the beginning.
    let start = LOOK_BACK + region[LOOK_BACK - 1..].find('\n').unwrap();
    let whole = (region.len() - start) / BLOCK;
    assert_eq!(ways.len(), if Vector::detect().is_some() { whole } else { 0 });
    ways
}

#[test]
fn short_lines_go_at_once_and_long_ones_in_eights() {
    let has_vectors = std::arch::is_x86_feature_detected!("avx512vbmi2");
    assert_eq!(Vector::detect().is_some(), has_vectors);
    for digits in 1..=18 {
        let line = format!("{}\n", "6".repeat(digits));
        // Also where there is less than a block, and just one.
        for count in [40, 48, 70, 700] {
            let way = if digits <= 4 { Path::AtOnce } else { Path::InEights };
            assert!(ways(&vec![line.clone(); count]).iter().all(|&its| its == way), "{line}");
        }
    }
}

#[test]
fn only_the_blocks_of_another_line_go_byte_by_byte() {
    for digits in [1, 3, 18] {
        for other in ["x\n", "-6\n", "x\nx\n", "6xx\n"] {
            for place in 100..200 {
                let mut lines = vec![format!("{}\n", "6".repeat(digits)); 300];
                lines.splice(place..place, other.split_inclusive('\n').map(str::to_owned));
                let slow = ways(&lines).iter().filter(|&&way| way == Path::ByteByByte).count();
                assert!(slow <= 2, "{slow} blocks for {other:?} at {place}");
            }
        }
    }
}
