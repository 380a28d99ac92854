//! Maps a text to one of N shards, so that few texts move when N grows.
//!
//! The results are a part of the interface: all processes of all versions must agree on them. The tests hold fixed
//! results, and no change may alter them.

/// Returns the shard of `text` among `count` shards, from 0 to `count - 1`.
pub(super) fn shard_of(text: &[u8], count: u32) -> u32 {
    jump(hash(text), count)
}

/// Hashes a text: FNV-1a with 64 bits, and then the last step of MurmurHash3, which spreads each bit over all others.
///
/// FNV-1a alone leaves the highest bits of similar texts alike, and the jump uses the highest bits. Texts are short,
/// so a byte at a time is fast enough. A text that collides does no harm, so the hash has no key.
fn hash(text: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    let mut hash = text.iter().fold(OFFSET_BASIS, step);
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

/// Returns the bucket of `key`, by the jump consistent hash of Lamping and Veach (arXiv:1406.2294).
///
/// The key seeds random numbers. Each says at which number of buckets the key leaves its bucket for the newest one.
/// The last such move within `count` is the answer. It takes O(log `count`) steps.
fn jump(key: u64, count: u32) -> u32 {
    // 2^31 over a random number from 1 to 2^31: the next move is at that multiple of the buckets so far. Numbers
    // below 2^53 are exact, and IEEE 754 defines the rounding of the others, so all machines agree.
    const RANGE: f64 = (1_u64 << 31) as f64;
    let (mut random, mut bucket, mut next) = (key, 0, 0.0);
    while next < f64::from(count) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "below `count`"
        )]
        let moved = next as u32;
        bucket = moved;
        random = random.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let divisor = ((random >> 33) + 1) as f64;
        next = ((f64::from(bucket) + 1.0) * (RANGE / divisor)).floor();
    }
    bucket
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_hash_is_fnv_1a_with_the_last_step_of_murmur_hash_3() {
        // The step maps 0 to 0 and is invertible, so equal results mean that FNV-1a is as published.
        let finish = |hash: u64| {
            let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
            let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
            hash ^ (hash >> 33)
        };
        for (text, fnv) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            assert_eq!(hash(text.as_bytes()), finish(fnv), "{text:?}");
        }
        assert_eq!(hash(b"localhost:8001"), 0xdf7b_9c79_993e_a27b);
    }

    #[test]
    fn the_jump_has_the_results_of_other_implementations() {
        for (key, count, bucket) in [
            (1, 1, 0),
            (42, 57, 43),
            (0xdead_10cc, 1, 0),
            (0xdead_10cc, 666, 361),
            (256, 1024, 520),
        ] {
            assert_eq!(jump(key, count), bucket, "{key} {count}");
        }
    }

    /// Made by a program of another language. A difference would move servers between versions or machines.
    #[test]
    fn fixed_texts_have_fixed_shards() {
        const COUNTS: [u32; 7] = [1, 2, 3, 4, 8, 100, 1_000_000];
        for (text, shards) in [
            ("localhost:8001", [0, 1, 1, 3, 6, 27, 865_425]),
            ("10.0.0.7:9000", [0, 1, 1, 1, 4, 67, 162_013]),
            ("[2001:db8::1]:8001", [0, 0, 2, 2, 5, 79, 441_676]),
            ("[fe80::1%eth0]:80", [0, 1, 1, 3, 3, 73, 757_648]),
            ("gate8.example:9000", [0, 1, 1, 1, 1, 19, 326_870]),
        ] {
            assert_eq!(COUNTS.map(|count| shard_of(text.as_bytes(), count)), shards, "{text}");
        }
    }

    #[test]
    fn similar_texts_are_spread_evenly() {
        let texts = (0..12_000).map(|i| format!("10.0.{}.{}:9000", i / 250, i % 250));
        let mut counts = [0_i32; 12];
        for text in texts {
            counts[shard_of(text.as_bytes(), 12) as usize] += 1;
        }
        // 1000 each, with a standard deviation of 30.
        assert!(counts.iter().all(|count| (count - 1000).abs() < 120), "{counts:?}");
    }

    proptest! {
        #[test]
        fn a_shard_is_below_the_count_and_the_next_count_moves_it_to_the_new_shard_only(
            text: Vec<u8>, count in 1..=u32::MAX - 1,
        ) {
            let (now, next) = (shard_of(&text, count), shard_of(&text, count + 1));
            prop_assert!(now < count);
            prop_assert!(next == now || next == count);
        }
    }
}
