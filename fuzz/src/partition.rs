//! The slices cover all servers once, in order, with sizes that differ by one at most.

use std::ops::Range;

use tcpcore::internals::partition::slice;

/// Reads `input` as a number of servers, one of workers and the index of one, and panics unless the
/// cut is right: from end to end where that is affordable, and round the index at any size.
pub fn check(input: &[u8]) {
    let mut counts = input.chunks(size_of::<u64>()).map(count);
    let [servers, workers, index] = [(); 3].map(|()| counts.next().unwrap_or(0));
    let Some(last) = workers.checked_sub(1) else {
        return;
    };
    if servers <= 1000 && workers <= 1000 {
        let cut: Vec<_> = (0..workers).map(|index| slice(servers, workers, index)).collect();
        assert_eq!(cut, dealt(servers, workers), "{servers} over {workers}");
    }

    let (first_slice, final_slice) = (slice(servers, workers, 0), slice(servers, workers, last));
    assert_eq!((first_slice.start, final_slice.end), (0, servers), "{servers} over {workers}");
    let index = index.checked_rem(last).unwrap_or(0);
    let (this, next) =
        (slice(servers, workers, index), slice(servers, workers, last.min(index + 1)));
    assert!(last == 0 || this.end == next.start, "{servers} over {workers} at {index}");
    let sizes = [&first_slice, &this, &next, &final_slice].map(ExactSizeIterator::len);
    assert!(sizes.is_sorted_by(|one, other| one >= other), "{servers} over {workers}: {sizes:?}");
    assert!(first_slice.len() - final_slice.len() <= 1, "{servers} over {workers}: {sizes:?}");
}

/// The naive way: the servers are dealt to the workers one by one, and the hands laid in a row.
fn dealt(servers: usize, workers: usize) -> Vec<Range<usize>> {
    let mut sizes = vec![0; workers];
    (0..servers).for_each(|server| sizes[server % workers] += 1);
    let mut end = 0;
    let slices = sizes.into_iter().map(|size| {
        let start = end;
        end += size;
        start..end
    });
    slices.collect()
}

/// A count in little-endian order, of as many bytes as there are.
fn count(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |count, &byte| count << 8 | usize::from(byte))
}
