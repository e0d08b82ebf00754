//! What a fault must find: the right bytes, in the right place, in an extent of the right size.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use daxite_core::{Error, ExtentSize, FallbackReason, HUGE, PAGE, PAGES_PER_HUGE, Refusal};

use super::*;

/// Bug 5: a hole that was mapped and read went on reading as zeros after a `write`.
#[test]
fn a_hole_that_was_read_shows_what_is_written_next() {
    let write = |pool_bytes: u64, len_bytes: u64, bytes: &[u8]| {
        let (pool, volume) = volume_in_memory(pool_bytes);
        volume.set_len(len_bytes).unwrap();
        let view = volume.map(range(HUGE, 2 * PAGE)).unwrap();
        assert!(view.is_hole());
        let zeros = (pool.entry_counts().huge_zero, pool.entry_counts().page_zero);
        volume.write(HUGE + 7, bytes).unwrap();
        let guard = volume.map(range(HUGE + 7, bytes.len() as u64)).unwrap();
        assert_eq!(&*guard, bytes);
        assert!(view.iter().all(|&byte| byte == 0), "a view from before");
        drop(guard);
        pool.check();
        zeros
    };
    for bytes in [&[1][..], &[2; 100]] {
        assert_eq!(write(WITH_HUGE, 64 * HUGE, bytes), (1, 0), "2 MiB, then a huge page");
        assert_eq!(write(PAGES_ONLY, 64 * HUGE, bytes), (1, 0), "2 MiB, then a page");
        assert_eq!(write(WITH_HUGE, HUGE + 3 * PAGE, bytes), (0, 1), "4 KiB, then a page");
    }
}

/// Bug 9: the range of a huge mapping and that of its entry did not begin together.
#[test]
fn a_huge_extent_has_its_bytes_where_the_slot_has_them() {
    let (pool, volume) = volume_in_memory(WITH_HUGE);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..2_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let start = state % (4 * HUGE);
        let len_bytes = 1 + (state >> 32) % (2 * HUGE);
        let guard = volume.map_mut(range(start, len_bytes)).unwrap();
        assert_eq!(guard.size(), ExtentSize::Huge);
        assert_eq!(guard.physical().0 % HUGE, start % HUGE);
        assert_eq!(guard.len() as u64, len_bytes.min(HUGE - start % HUGE), "within its slot");
    }
    assert_eq!(pool.fault_counts().all_fallbacks(), 0);
    pool.check();
}

/// Bug 10: a fault that had found a hole put zeros over what was written since.
#[test]
fn a_fault_that_races_with_a_write_finds_what_was_written() {
    for pool_bytes in [PAGES_ONLY, WITH_HUGE] {
        let (recorder, pool, volume) = recorded(pool_bytes);
        let reader = volume.clone();
        let read: Box<dyn FnOnce() -> bool + Send> =
            Box::new(move || reader.map(range(HUGE + 100, 8)).unwrap().is_hole());
        let beside = stop_until_all_sleep(&recorder, &pool, vec![read]);
        drop(volume.map_mut(range(HUGE, 8)).unwrap());
        assert_eq!(beside.join(1), [false], "it looked before it had the lock");
        pool.check();
    }
    let (pool, volume) = volume_in_memory(PAGES_ONLY);
    let written = AtomicU64::new(0);
    let pages = 400;
    thread::scope(|scope| {
        for ahead in 0..2 {
            let (volume, written) = (&volume, &written);
            scope.spawn(move || {
                loop {
                    let done = written.load(Ordering::Acquire);
                    if done == pages {
                        return;
                    }
                    // A zero entry where the writer comes next, and a look at what it has done.
                    let _ = volume.map(page(done + ahead));
                    if let Some(last) = done.checked_sub(1) {
                        assert_eq!(bytes_at(volume, last * PAGE), [last as u8 | 1; 8]);
                    }
                }
            });
        }
        for number in 0..pages {
            until("readers go", || volume.write(number * PAGE, &[number as u8 | 1; 8]).is_ok());
            written.store(number + 1, Ordering::Release);
        }
    });
    pool.check();
}

/// Bug 10 once more, where a fault looks at several pages: those that it is yet to lock may be mapped
/// by someone who holds them now.
#[test]
fn a_fault_for_many_pages_takes_what_was_mapped_before_it_had_their_locks() {
    let (recorder, pool, volume) = recorded(PAGES_ONLY);
    let border = 7 * PAGE + PAGE / 2;
    let writer = volume.clone();
    let write: Box<dyn FnOnce() -> usize + Send> = Box::new(move || {
        let mut guard = writer.map_mut(range(0, border)).unwrap();
        guard.fill(1);
        guard.len()
    });
    let beside = stop_until_all_sleep(&recorder, &pool, vec![write]);
    volume.map_mut(range(border, PAGE)).unwrap().fill(2);
    assert_eq!(beside.join(1), [7 * PAGE as usize], "its own pages, and not the one it waited for");
    assert_eq!(bytes_at(&volume, border - 1), [0, 2, 2]);
    assert_eq!(bytes_at(&volume, 7 * PAGE - 1), [1, 0]);
    pool.check();
}

/// Bug 16: a fault for a page of a huge page changed who owns the other 511.
#[test]
fn small_requests_leave_a_huge_page_one_entry() {
    let (pool, volume) = volume_in_memory(WITH_HUGE);
    let first = volume.map_mut(slot(1)).unwrap().physical();
    for number in [0, 37, 300, 511] {
        let at = HUGE + number * PAGE;
        let guard = volume.map_mut(range(at, 10)).unwrap();
        assert_eq!(guard.physical().0, first.0 + number * PAGE);
        assert_eq!(guard.size(), ExtentSize::Huge);
        drop(guard);
        assert_eq!(
            volume.map(range(at, 10)).unwrap().physical().unwrap().0,
            first.0 + number * PAGE
        );
        assert_eq!(pool.entry_counts().huge_mapping, 1);
        assert_eq!(pool.entry_counts().page_mapping, 0);
    }
    pool.check();
}

/// Bug 22: a write after a read replaced the mapping blindly.
#[test]
fn a_write_after_a_read_maps_the_same_extent() {
    for pool_bytes in [PAGES_ONLY, WITH_HUGE] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pool");
        let options = daxite_core::CreateOptions { len_bytes: pool_bytes, ..Default::default() };
        let pool = Pool::create(&path, &options).unwrap();
        pool.create_volume("v", 64 * HUGE).unwrap().write(HUGE, &[3; 100]).unwrap();
        // Or else what is read might be in caches only, and count as dirty.
        pool.close().unwrap();
        drop(pool);
        let pool = Pool::open(&path, &daxite_core::OpenOptions::default()).unwrap();
        let volume = pool.volume("v").unwrap().unwrap();
        let read = volume.map(range(HUGE, 100)).unwrap().physical();
        assert_eq!(volume.stats().unwrap().dirty_bytes, 0, "read only so far");
        let guard = volume.map_mut(range(HUGE, 100)).unwrap();
        assert_eq!(Some(guard.physical()), read);
        assert_eq!(*guard, [3; 100]);
        assert_eq!(volume.stats().unwrap().dirty_bytes, guard.size().bytes());
        drop(guard);
        pool.check();
    }
}

/// Bug 23: each 4 KiB hole that was read cost a page of zeros.
#[test]
fn holes_cost_no_page_and_share_one_extent() {
    let pool = Pool::in_memory(PAGES_ONLY).unwrap();
    let volume = pool.create_volume("v", (1 << 40) + 5 * PAGE).unwrap();
    let free = pool.space().free_pages;
    let zeros = volume.map(range(0, 1)).unwrap().as_ptr();
    for gib in 0..1024 {
        let guard = volume.map(range(gib << 30, HUGE)).unwrap();
        assert_eq!((guard.as_ptr(), guard.len() as u64), (zeros, HUGE));
    }
    // The last slot goes by pages.
    for number in 0..5 {
        let guard = volume.map(range((1 << 40) + number * PAGE, PAGE)).unwrap();
        assert_eq!((guard.as_ptr(), guard.len() as u64), (zeros, PAGE));
    }
    assert_eq!((pool.entry_counts().huge_zero, pool.entry_counts().page_zero), (1024, 5));
    assert_eq!(pool.space().free_pages, free);
    let index_bytes = volume.stats().unwrap().index_bytes;
    assert!(index_bytes < 8 << 20, "{index_bytes} bytes for a look at each GiB");
    pool.check();
}

/// Bug 34: the last page was computed from a length of 0, and huge pages passed the end.
#[test]
fn every_length_has_its_last_byte_and_no_more() {
    for created in [true, false] {
        for len_bytes in [0, 1, PAGE - 1, PAGE, HUGE - 1, HUGE, HUGE + 1] {
            let pool = Pool::in_memory(WITH_HUGE).unwrap();
            let made = match created {
                true => pool.create_volume("v", len_bytes),
                false => {
                    let volume = pool.create_volume("v", 5 * HUGE).unwrap();
                    volume.write(0, &[1; 3 * HUGE as usize]).unwrap();
                    volume.set_len(len_bytes).map(|()| volume)
                }
            };
            let Ok(volume) = made else {
                assert!(matches!(made, Err(Error::InvalidArgument(_))));
                assert_eq!(len_bytes, 0);
                continue;
            };
            assert_ne!(len_bytes, 0, "a volume of nothing");
            check_end(&volume, len_bytes, if created { 0 } else { 1 });
            if created {
                let whole = volume.map_mut(range(0, len_bytes)).unwrap();
                let expected = if len_bytes < HUGE { ExtentSize::Page } else { ExtentSize::Huge };
                assert_eq!(whole.size(), expected, "{len_bytes} bytes");
            }
            pool.check();
        }
    }
}

/// Reads and writes up to the end, where `fill` stands, and tries to pass it.
fn check_end(volume: &Volume, len_bytes: u64, fill: u8) {
    let is_refused = |start: u64, len_bytes: u64| {
        let range = range(start, len_bytes);
        let results = [volume.map(range).map(drop), volume.map_mut(range).map(drop)];
        results.iter().all(|result| matches!(result, Err(Error::OutOfRange { .. })))
    };
    assert_eq!(bytes_at(volume, len_bytes - 1), [fill], "{len_bytes} bytes");
    volume.write(len_bytes - 1, &[9]).unwrap();
    assert_eq!(bytes_at(volume, len_bytes - 1), [9]);
    assert!(
        is_refused(len_bytes, 1) && is_refused(len_bytes - 1, 2) && is_refused(0, len_bytes + 1)
    );
    assert!(is_refused(0, 0) && is_refused(u64::MAX, 1));
    volume.set_len(len_bytes + 2 * HUGE).unwrap();
    assert_eq!(bytes_at(volume, len_bytes - 1), [9, 0, 0], "what is added is zero");
    volume.set_len(len_bytes).unwrap();
}

/// Bug 34 again: where a huge page would pass the end, pages serve, and that is counted.
#[test]
fn a_slot_that_passes_the_end_goes_by_pages() {
    let pool = Pool::in_memory(WITH_HUGE).unwrap();
    let volume = pool.create_volume("v", HUGE + 1).unwrap();
    assert_eq!(volume.map_mut(range(0, HUGE)).unwrap().size(), ExtentSize::Huge);
    let guard = volume.map_mut(range(HUGE, 1)).unwrap();
    assert_eq!((guard.size(), guard.len()), (ExtentSize::Page, 1));
    drop(guard);
    assert_eq!(pool.fault_counts().fallbacks(FallbackReason::PastEnd), 1);
    assert_eq!(pool.fault_counts().all_fallbacks(), 1);
    pool.check();
}

/// Bug 37: pages were thrown away for a huge page without a lock over all of them.
#[test]
fn stores_beside_an_upgrade_are_kept() {
    let pool = Pool::in_memory(32 << 20).unwrap();
    for _ in 0..30 {
        let volume = pool.create_volume("v", HUGE - PAGE).unwrap();
        volume.write(3 * PAGE, &[1]).unwrap();
        volume.set_len(HUGE).unwrap();
        let is_upgraded = AtomicBool::new(false);
        thread::scope(|scope| {
            for thread in 0..3 {
                let (volume, is_upgraded) = (&volume, &is_upgraded);
                scope.spawn(move || look_and_store(volume, thread, is_upgraded));
            }
            until("the slot is upgraded", || {
                let report = volume.upgrade(slot(0), 64).unwrap();
                report.relocated + report.in_place + report.already_huge == 1
            });
            is_upgraded.store(true, Ordering::Relaxed);
        });
        pool.check();
        drop(volume);
        pool.remove_volume("v").unwrap();
    }
    let counts = pool.fault_counts();
    assert_eq!(counts.relocated + counts.upgraded_in_place, 30);
}

/// Bug 37 once more: pages that would have to be moved are not, while a guard may store to them.
#[test]
fn an_upgrade_moves_nothing_that_a_guard_reaches() {
    let (pool, volume) = volume_in_memory(WITH_HUGE);
    volume.set_len(HUGE - PAGE).unwrap();
    for number in [9, 7] {
        volume.write(number * PAGE, &[1]).unwrap();
    }
    volume.set_len(HUGE).unwrap();
    let mut guard = volume.map_mut(range(7 * PAGE, 10)).unwrap();
    let report = volume.upgrade(slot(0), 1).unwrap();
    assert_eq!(report.refusals(Refusal::Pinned), 1, "{report:?}");
    guard.fill(2);
    drop(guard);
    assert_eq!(bytes_at(&volume, 7 * PAGE), [2; 10]);
    assert_eq!(volume.upgrade(slot(0), 1).unwrap().relocated, 1);
    assert_eq!(bytes_at(&volume, 7 * PAGE), [2; 10]);
    pool.check();
}

/// Goes over every third page again and again, until the slot is upgraded, and once more: each time
/// it finds what it stored the last time, and stores something else.
fn look_and_store(volume: &Volume, thread: u64, is_upgraded: &AtomicBool) {
    for pass in 0.. {
        let is_last = is_upgraded.load(Ordering::Relaxed);
        for number in (thread..PAGES_PER_HUGE).step_by(3) {
            let at = number * PAGE + 8;
            let content = |pass: u64| if pass == 0 { 0 } else { number << 32 | pass };
            assert_eq!(bytes_at(volume, at), content(pass).to_le_bytes(), "page {number}");
            volume.write(at, &content(pass + 1).to_le_bytes()).unwrap();
            thread::yield_now();
        }
        if is_last {
            return;
        }
    }
}
