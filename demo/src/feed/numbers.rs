//! Makes the lines of random numbers.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// Random numbers from 1 to 666, one a line.
#[derive(Clone)]
pub(super) struct Numbers {
    rng: Xoshiro256PlusPlus,
}

impl Numbers {
    pub(super) fn new(seed: u64) -> Numbers {
        Numbers { rng: Xoshiro256PlusPlus::seed_from_u64(seed) }
    }

    /// Appends the next line.
    pub(super) fn push_line(&mut self, lines: &mut Vec<u8>) {
        let number: u16 = self.rng.random_range(1..=666);
        lines.extend_from_slice(number.to_string().as_bytes());
        lines.push(b'\n');
    }
}
