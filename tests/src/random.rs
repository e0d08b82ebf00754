//! Random numbers that a seed repeats, and how long random tests run.

use std::time::Duration;

/// A stream of numbers from a seed (xorshift): the same on every machine.
pub struct Random(u64);

impl Random {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number from 0 to `end`, without `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 9) % end
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// So many bytes, of which hardly one is 0 and no page is like another.
    pub fn bytes(&mut self, len: u64) -> Vec<u8> {
        let (first, step) = (self.below(256), 1 + 2 * self.below(64));
        (0..len).map(|at| (first + at * step + at / 251) as u8).collect()
    }
}

/// The first seed of random tests: `DAXITE_RANDOM_SEED`, so that a failure can be replayed.
pub fn random_seed() -> u64 {
    number("DAXITE_RANDOM_SEED").unwrap_or(1)
}

/// How long the tests of `random_ops` run in all, one after the other: `DAXITE_RANDOM_SECONDS`.
pub fn random_time() -> Duration {
    Duration::from_secs(number("DAXITE_RANDOM_SECONDS").unwrap_or(8))
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}
