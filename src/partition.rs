//! Cuts the list of servers over the shards, and the part of a shard into one contiguous slice per worker.
//!
//! Slices depend on counts alone, and a hash on one server. So all threads and processes compute the same cut.

mod hash;
mod shard;

use std::num::NonZeroUsize;
use std::ops::Range;

pub use shard::{Shard, ShardBy, ShardError};

/// Returns the slice of worker `index` of `workers`, as a range of list positions.
///
/// The slices are contiguous and cover `0..servers` in order. Their sizes differ by at most one, the larger
/// ones first. So each worker has a server unless there are fewer servers than workers. Slices of
/// `ceil(servers / workers)` would leave the last of 4 workers without any of 5 servers.
///
/// ```
/// use tcpcore::internals::partition::slice;
///
/// let cut: Vec<_> = (0..4).map(|index| slice(5, 4, index)).collect();
/// assert_eq!(cut, [0..2, 2..3, 3..4, 4..5]);
/// ```
///
/// # Panics
///
/// Panics if `index` is not below `workers`, as there is no such worker.
#[must_use]
pub fn slice(servers: usize, workers: usize, index: usize) -> Range<usize> {
    assert!(index < workers, "worker {index} of {workers}");
    let size = servers / workers;
    let larger = servers % workers;
    // `index < workers`, so this is at most `servers` and cannot overflow.
    let start = index * size + index.min(larger);
    start..start + size + usize::from(index < larger)
}

/// Returns the number of workers to start: as requested, else one per core, but at most one per server.
///
/// Further workers would have no servers. A caller that warns of them compares the result with `requested`.
/// Without servers the result is 0. If the list `may_grow`, all workers are started, as new servers need them.
#[must_use]
pub fn workers(
    servers: usize,
    requested: Option<NonZeroUsize>,
    cores: NonZeroUsize,
    may_grow: bool,
) -> usize {
    let workers = requested.unwrap_or(cores).get();
    if may_grow { workers } else { workers.min(servers) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(servers: usize, workers: usize) -> Vec<Range<usize>> {
        (0..workers).map(|index| slice(servers, workers, index)).collect()
    }

    fn count(n: usize) -> NonZeroUsize {
        NonZeroUsize::new(n).expect("tests count from 1")
    }

    #[test]
    fn four_over_four_is_one_each() {
        assert_eq!(cut(4, 4), [0..1, 1..2, 2..3, 3..4]);
    }

    #[test]
    fn four_over_two_is_two_each() {
        assert_eq!(cut(4, 2), [0..2, 2..4]);
    }

    #[test]
    fn three_over_two_gives_the_first_one_more() {
        assert_eq!(cut(3, 2), [0..2, 2..3]);
    }

    #[test]
    fn five_over_four_leaves_no_worker_without_servers() {
        assert_eq!(cut(5, 4), [0..2, 2..3, 3..4, 4..5]);
    }

    #[test]
    fn one_over_three_leaves_two_slices_empty() {
        assert_eq!(cut(1, 3), [0..1, 1..1, 1..1]);
    }

    #[test]
    fn none_over_two_is_two_empty_slices() {
        assert_eq!(cut(0, 2), [0..0, 0..0]);
    }

    #[test]
    fn the_largest_counts_do_not_overflow() {
        const MAX: usize = usize::MAX;
        assert_eq!(slice(MAX, 1, 0), 0..MAX);
        assert_eq!(slice(MAX, MAX, MAX - 1), MAX - 1..MAX);
        assert_eq!(slice(MAX, MAX - 1, 0), 0..2);
        assert_eq!(slice(MAX, MAX - 1, MAX - 2), MAX - 1..MAX);
        assert_eq!(slice(MAX - 1, MAX, MAX - 1), MAX - 1..MAX - 1);
    }

    #[test]
    #[should_panic(expected = "worker 2 of 2")]
    fn an_index_equal_to_the_number_of_workers_is_a_bug() {
        let _ = slice(4, 2, 2);
    }

    #[test]
    #[should_panic(expected = "worker 0 of 0")]
    fn no_workers_at_all_is_a_bug() {
        let _ = slice(4, 0, 0);
    }

    #[test]
    fn workers_default_to_the_cores_and_at_most_one_per_server() {
        assert_eq!(workers(9, None, count(8), false), 8);
        assert_eq!(workers(8, None, count(8), false), 8);
        assert_eq!(workers(7, None, count(8), false), 7);
        assert_eq!(workers(0, None, count(8), false), 0);
    }

    #[test]
    fn a_list_that_may_grow_has_all_workers_from_the_start() {
        assert_eq!(workers(0, None, count(8), true), 8);
        assert_eq!(workers(2, Some(count(3)), count(8), true), 3);
    }

    #[test]
    fn requested_workers_may_exceed_the_cores_but_not_the_servers() {
        assert_eq!(workers(9, Some(count(3)), count(2), false), 3);
        assert_eq!(workers(9, Some(count(1)), count(2), false), 1);
        assert_eq!(workers(2, Some(count(3)), count(8), false), 2);
        assert_eq!(workers(usize::MAX, Some(NonZeroUsize::MAX), count(1), false), usize::MAX);
    }

    proptest! {
        #[test]
        fn slices_cover_all_once_in_order_larger_first(servers in 0..10_000_usize, workers in 1..200_usize) {
            let cut = cut(servers, workers);
            prop_assert_eq!(cut[0].start, 0);
            prop_assert_eq!(cut[workers - 1].end, servers);
            for pair in cut.windows(2) {
                prop_assert_eq!(pair[0].end, pair[1].start);
                prop_assert!(pair[0].len() >= pair[1].len());
            }
            prop_assert!(cut[0].len() - cut[workers - 1].len() <= 1);
        }

        #[test]
        fn neighbors_meet_at_any_size(servers: usize, workers in 2..=usize::MAX, at: usize) {
            let index = at % (workers - 1);
            let (this, next) = (slice(servers, workers, index), slice(servers, workers, index + 1));
            prop_assert_eq!(this.end, next.start);
            prop_assert!(this.len() == next.len() || this.len() == next.len() + 1);
            prop_assert_eq!(slice(servers, workers, 0).start, 0);
            prop_assert_eq!(slice(servers, workers, workers - 1).end, servers);
        }
    }
}
