//! Checks that the slices cover all servers once, in order, with sizes that differ by at most one.

use std::ops::Range;

use tcpcore::internals::partition::slice;

/// Panics unless the slices are right. `input` is the number of servers, the number of workers, and the
/// index of a worker. Small numbers are checked completely, others around the index.
pub fn check(input: &[u8]) {
    let mut counts = input.chunks(size_of::<u64>()).map(count);
    let [servers, workers, index] = [(); 3].map(|()| counts.next().unwrap_or(0));
    let Some(last) = workers.checked_sub(1) else {
        return;
    };
    if servers <= 1000 && workers <= 1000 {
        let slices: Vec<_> = (0..workers).map(|index| slice(servers, workers, index)).collect();
        assert_eq!(slices, dealt(servers, workers), "{servers} over {workers}");
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

/// Computes the slices naively: deals the servers to the workers one by one, and puts the shares in a row.
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

/// Reads a little-endian number of up to eight bytes.
fn count(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |count, &byte| count << 8 | usize::from(byte))
}
