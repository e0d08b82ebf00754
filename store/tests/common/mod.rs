//! What the tests of the store share.
#![allow(dead_code, reason = "each test uses a part")]

use std::path::PathBuf;

use tempfile::TempDir;

/// Numbers that look random, from a seed that a failure can print.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A folder in memory if there is such a place, and the path of a pool in it.
pub(crate) fn pool_path() -> (TempDir, PathBuf) {
    let shm = PathBuf::from("/dev/shm");
    let folder = if shm.is_dir() { TempDir::new_in(shm) } else { TempDir::new() }.unwrap();
    let path = folder.path().join("pool");
    (folder, path)
}

/// `len_bytes` bytes that tell where they come from.
pub(crate) fn value_of(tag: u64, len_bytes: usize) -> Vec<u8> {
    let mut random = Random::new(tag);
    (0..len_bytes).map(|_| random.next() as u8).collect()
}
