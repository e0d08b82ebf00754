//! What the benchmarks share: where the pool lives, keys and values, and the raw log append that
//! stands beside every put as the limit.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use daxite_core::{Appender, CreateOptions, Extent, HUGE, LogicalRange, Pool, SlotNo, Volume};

/// Bytes of a key and of a value, unless a benchmark says otherwise.
pub const KEY_LEN: usize = 16;
/// See [`KEY_LEN`].
pub const VALUE_LEN: usize = 100;

/// A file for a pool, removed in the end; on `DAXITE_BENCH_POOL` (a folder), or else on tmpfs.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Default for Place {
    fn default() -> Self {
        let given = std::env::var_os("DAXITE_BENCH_POOL").map(PathBuf::from);
        let shared_memory = Path::new("/dev/shm");
        let parent = match given {
            Some(folder) => folder,
            None if shared_memory.is_dir() => shared_memory.to_path_buf(),
            None => std::env::temp_dir(),
        };
        Self { folder: tempfile::tempdir_in(parent).expect("a folder for the pool") }
    }
}

impl Place {
    /// A path for a pool that does not exist yet.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new pool of `len_bytes` bytes.
    pub fn pool(&self, name: &str, len_bytes: u64) -> Pool {
        let options = CreateOptions { len_bytes, ..CreateOptions::default() };
        Pool::create(&self.path(name), &options).expect("a pool")
    }
}

/// How many keys are there before a benchmark begins: `DAXITE_BENCH_KEYS`, or a million.
pub fn keys() -> u64 {
    let given = std::env::var("DAXITE_BENCH_KEYS").ok();
    given.map_or(1_000_000, |given| given.parse().expect("DAXITE_BENCH_KEYS is a number"))
}

/// The key number `number`: 16 bytes, spread over the whole space.
pub fn key(number: u64) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    key[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Numbers below `below` in an order that no prefetcher guesses.
pub struct Random(u64);

impl Random {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next one.
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * u128::from(below)) >> 64) as u64
    }
}

/// A log that does nothing but append: the same lines, stores and fence as a put, and no more.
pub struct RawLog {
    pool: Pool,
    volume: Volume,
    slot: u64,
    open: (Appender, Arc<Extent>),
}

/// Slots that the raw log cycles through.
const RAW_SLOTS: u64 = 64;

impl RawLog {
    /// A raw log in a volume of its own.
    pub fn new(pool: &Pool) -> Self {
        let volume = pool.create_volume("raw", RAW_SLOTS * HUGE).expect("a volume");
        let open = Self::open(&volume, 0);
        Self { pool: pool.clone(), volume, slot: 0, open }
    }

    /// Appends whole lines, durably.
    pub fn append(&mut self, lines: &[u8]) {
        if self.open.0.remaining_bytes() < lines.len() as u64 {
            self.slot = (self.slot + 1) % RAW_SLOTS;
            let range: LogicalRange = SlotNo(self.slot).range();
            self.volume.punch(range).expect("the slot is not in use");
            self.open = Self::open(&self.volume, self.slot);
        }
        let flushed = self.open.0.append(lines).expect("the pool is writable");
        let [durable] = self.pool.fence([flushed]).expect("memory does not fail");
        self.open.1.freeze(durable);
    }

    fn open(volume: &Volume, slot: u64) -> (Appender, Arc<Extent>) {
        volume.map_append(SlotNo(slot).range(), 1).expect("room for a segment")
    }
}
