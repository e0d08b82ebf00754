//! Promise: holes cost nothing on the medium, and in memory no more than what was touched.
//!
//! Method: an empty volume of 1 TiB is read in single bytes, one for each page: of its first GiBs,
//! and then of one page in each slot. `DAXITE_SPARSE_PAGES=all` reads every page of all of it. A
//! failure means that reading allocates, or that the index grows by the page.

use daxite_core::{HUGE, LogicalRange, PAGE, Pool, Volume};

const VOLUME_BYTES: u64 = 1 << 40;
/// Of these every page is read.
const HEAD_BYTES: u64 = 4 << 30;
/// For each slot that was touched, and those near it.
const INDEX_BYTES_PER_SLOT: u64 = 16;
/// What an index takes however little is touched.
const INDEX_BYTES_MIN: u64 = 64 << 10;

/// Reads one byte of each page, or the like, from `start` to `end`.
fn read_every(volume: &Volume, step: u64, start: u64, end: u64) {
    for at in (start..end).step_by(step as usize) {
        let guard = volume.map(LogicalRange::new(at, 1)).unwrap();
        assert!(guard.is_hole() && guard[0] == 0, "at {at:#x}");
    }
}

/// Each slot of `bytes` has one zero entry of 2 MiB, and nothing else is there.
fn check(volume: &Volume, bytes: u64) {
    let stats = volume.stats().unwrap();
    let slots = bytes / HUGE;
    let (all, zeros) = (stats.entries, stats.entries.huge_zero);
    assert_eq!(zeros, slots);
    assert_eq!(all.huge_empty + all.huge_mapping, 0, "{all:?}");
    assert_eq!(all.page_empty + all.page_zero + all.page_mapping, 0, "{all:?}");
    let bound = INDEX_BYTES_PER_SLOT * slots + INDEX_BYTES_MIN;
    assert!(stats.index_bytes <= bound, "{} bytes for {slots} slots", stats.index_bytes);
    assert_eq!((stats.table_pages, stats.pins), (1, 0));
}

#[test]
fn reading_an_empty_volume_allocates_nothing() {
    let pool = Pool::in_memory(4 << 20).unwrap();
    let volume = pool.create_volume("v", VOLUME_BYTES).unwrap();
    let space = pool.space();
    read_every(&volume, PAGE, 0, HEAD_BYTES);
    check(&volume, HEAD_BYTES);
    let step = match std::env::var("DAXITE_SPARSE_PAGES").as_deref() {
        Ok("all") => PAGE,
        _ => HUGE,
    };
    read_every(&volume, step, HEAD_BYTES, VOLUME_BYTES);
    check(&volume, VOLUME_BYTES);
    assert_eq!(pool.space(), space);
    assert_eq!(volume.extents(LogicalRange::new(0, VOLUME_BYTES)).unwrap(), []);
}
