//! Random numbers that a seed repeats, and how long random tests run.

use std::thread;
use std::time::{Duration, Instant};

/// Tests that share the time of [`for_seeds`].
const TESTS: u32 = 4;

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

/// Runs `sequence` for one seed after the other, `sequences_min` of them at least, until a fourth of
/// `DAXITE_RANDOM_SECONDS` (8) is over. `DAXITE_RANDOM_SEED` is the first seed; a failure prints what
/// replays it.
pub fn for_seeds(sequences_min: u64, mut sequence: impl FnMut(u64)) {
    let first = number("DAXITE_RANDOM_SEED").unwrap_or(1);
    let time = Duration::from_secs(number("DAXITE_RANDOM_SECONDS").unwrap_or(8)) / TESTS;
    let start = Instant::now();
    for seed in first.. {
        let replay = Replay { seed };
        sequence(seed);
        drop(replay);
        let ran = seed - first + 1;
        if ran >= sequences_min && start.elapsed() >= time {
            println!("{ran} sequences");
            return;
        }
    }
}

/// Says how to see a failure again.
struct Replay {
    seed: u64,
}

impl Drop for Replay {
    fn drop(&mut self) {
        if thread::panicking() {
            let (seed, thread) = (self.seed, thread::current());
            let test = thread.name().unwrap_or_default();
            println!("to replay it: DAXITE_RANDOM_SEED={seed} cargo test -p daxite-tests {test}");
        }
    }
}

/// The number in an environment variable, if it is set.
pub fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}
