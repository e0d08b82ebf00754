//! Pools for random tests, and what their space must add up to.

use std::path::{Path, PathBuf};

use daxite_core::{CreateOptions, LogicalRange, PAGE, PAGES_PER_HUGE, Pool, Volume};
use tempfile::TempDir;

/// Where pools are made.
pub enum Place {
    /// In memory; a pool is gone when it is dropped.
    Memory,
    /// In this folder, which goes with the place.
    Folder(TempDir),
}

impl Place {
    /// A new folder in `parent`.
    pub fn in_folder(parent: &Path) -> Self {
        Self::Folder(tempfile::tempdir_in(parent).expect("a temporary folder"))
    }

    /// Where its pool can be opened again, if it can.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Memory => None,
            Self::Folder(folder) => Some(folder.path().join("pool")),
        }
    }

    /// A new pool, in place of the one that was there.
    pub fn create(&self, len_bytes: u64) -> Pool {
        match self.path() {
            None => Pool::in_memory(len_bytes).expect("a pool in memory"),
            Some(path) => {
                let options = CreateOptions { len_bytes, overwrite: true, ..Default::default() };
                Pool::create(&path, &options).expect("a pool in a folder")
            }
        }
    }
}

/// A folder for pools. `DAXITE_TEST_DIR` chooses where; otherwise it is memory if there is any.
pub fn test_folder(prefix: &str) -> TempDir {
    let parent = std::env::var_os("DAXITE_TEST_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() }
    });
    TempDir::with_prefix_in(prefix, parent).expect("a folder for the test")
}

/// Panics unless pages of the pool, at rest, are free, mapped or bad, and mapped are exactly those that
/// extents, tables, superblocks and lists of bad pages account for.
pub fn check_space(pool: &Pool) {
    let space = pool.space();
    assert_eq!(space.reserved_pages, 0);
    assert_eq!(space.free_pages + space.mapped_pages + space.bad_pages, space.total_pages);
    let of_volumes =
        pool.volumes().expect("volumes").into_iter().map(|stats| {
            stats.huge_extents * PAGES_PER_HUGE + stats.page_extents + stats.table_pages
        });
    let uses = pool.occupancy().expect("words that verify");
    let of_superblocks: u64 = uses.iter().map(|huge| u64::from(huge.superblock_pages)).sum();
    assert_eq!(of_volumes.sum::<u64>() + of_superblocks, space.mapped_pages, "mapped pages");
    let bad: u64 = uses.iter().map(|huge| u64::from(huge.bad_pages)).sum();
    assert_eq!(bad, space.bad_pages, "bad pages");
}

/// How much of `bytes` stands at `start` after a write that found the pool full: a prefix up to the
/// end of a page. Panics unless `old` stands behind it; no more than `old` is looked at.
pub fn written_until_full(volume: &Volume, start: u64, old: &[u8], bytes: &[u8]) -> u64 {
    let mut actual = vec![0; old.len()];
    if !old.is_empty() {
        volume.read(start, &mut actual).expect("bytes without a guard");
    }
    let within = LogicalRange::new(start, old.len() as u64);
    let is_there = |cut: usize| actual[..cut] == bytes[..cut] && actual[cut..] == old[cut..];
    let ends = (within.start / PAGE + 1..).map(|page| page * PAGE - within.start);
    let inside = ends.take_while(|cut| *cut < within.len_bytes);
    let mut cuts = std::iter::once(0).chain(inside).chain([within.len_bytes]);
    let found = cuts.find(|cut| is_there(*cut as usize));
    found.expect("a prefix of what was written, and behind it what was there")
}
