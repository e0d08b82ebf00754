//! What a sync, or a fault, must have put on the medium when it returns.

use daxite_core::{ExtentSize, HUGE, PAGE};

use super::*;

/// Bug 6: `write` dropped the dirty entry of a store beside it, and sync then passed it over.
#[test]
fn a_write_beside_a_store_loses_neither() {
    for pool_bytes in [PAGES_ONLY, WITH_HUGE] {
        let (recorder, pool, volume) = recorded(pool_bytes);
        volume.map_mut(range(HUGE, 3)).unwrap().copy_from_slice(b"map");
        volume.write(HUGE + 100, b"written").unwrap();
        volume.sync(slot(1)).unwrap();
        after_power_failure(&recorder, |volume| {
            assert_eq!(&bytes_at(volume, HUGE), b"map");
            assert_eq!(&bytes_at(volume, HUGE + 100), b"written");
        });
        pool.check();
    }
}

/// Bug 7: sync passed over an entry because it was locked just then.
#[test]
fn a_sync_waits_for_a_fault_in_its_slot_and_then_flushes() {
    let (recorder, pool, volume) = recorded(PAGES_ONLY);
    volume.map_mut(range(5 * PAGE, 5)).unwrap().copy_from_slice(b"dirty");
    let syncing = volume.clone();
    let sync: Box<dyn FnOnce() -> bool + Send> = Box::new(move || syncing.sync(page(5)).is_ok());
    let beside = stop_until_all_sleep(&recorder, &pool, vec![sync]);
    drop(volume.map_mut(page(6)).unwrap());
    assert_eq!(beside.join(1), [true]);
    after_power_failure(&recorder, |volume| assert_eq!(&bytes_at(volume, 5 * PAGE), b"dirty"));
    pool.check();
}

/// Bug 8: once clean, an entry that was still mapped for writing was never flushed again.
#[test]
fn what_is_stored_after_a_sync_through_the_same_guard_is_synced_by_the_next() {
    for (pool_bytes, mapped) in [(PAGES_ONLY, page(5)), (WITH_HUGE, slot(0)), (WITH_HUGE, page(5))]
    {
        let (recorder, pool, volume) = recorded(pool_bytes);
        let mut guard = volume.map_mut(mapped).unwrap();
        let size = guard.size().bytes();
        let last = guard.len() - 1;
        guard[0] = 1;
        volume.sync(slot(0)).unwrap();
        assert_eq!(volume.stats().unwrap().dirty_bytes, size, "the guard may still store");
        guard[last] = 2;
        volume.sync(slot(0)).unwrap();
        let end = mapped.start + last as u64;
        after_power_failure(&recorder, move |volume| {
            assert_eq!(bytes_at(volume, mapped.start), [1]);
            assert_eq!(bytes_at(volume, end), [2]);
        });
        guard[1] = 3;
        drop(guard);
        volume.sync(slot(0)).unwrap();
        assert_eq!(volume.stats().unwrap().dirty_bytes, 0, "nobody can store any more");
        after_power_failure(&recorder, move |volume| {
            assert_eq!(bytes_at(volume, mapped.start), [1, 3]);
        });
        pool.check();
    }
}

/// Bug 18: a sync never came to its end, or went over the same entries again and again.
#[test]
fn a_sync_visits_what_was_dirty_when_it_began_and_nothing_else() {
    let (recorder, pool, volume) = recorded(10 * HUGE);
    for number in 0..6 {
        volume.write(number * HUGE, &[1]).unwrap();
    }
    volume.sync(range(0, 6 * HUGE)).unwrap();
    for number in [0, 2, 4] {
        volume.map_mut(range(number * HUGE, 1)).unwrap()[0] = 2;
    }
    let before = recorder.fences();
    let writer = volume.clone();
    recorder.on_fence(move |point| {
        // Behind it and ahead of it, each time; the slot that it holds is one of the other three.
        let held = [0, 2, 4][(point.fences() - before) as usize];
        for number in [0, 1, 3, 5].into_iter().filter(|number| *number != held) {
            drop(writer.map_mut(range(number * HUGE, 1)).unwrap());
        }
    });
    volume.sync(range(0, 6 * HUGE)).unwrap();
    recorder.on_fence(|_| {});
    assert_eq!(recorder.fences(), before + 3, "one fence for each slot that was dirty");
    assert_eq!(volume.stats().unwrap().dirty_bytes, 4 * HUGE, "0, 1, 3 and 5 are for the next");
    volume.sync(range(0, 6 * HUGE)).unwrap();
    assert_eq!(recorder.fences(), before + 7);
    pool.check();
}

/// Bug 19: a sync that began inside a huge page flushed from there on.
#[test]
fn a_sync_of_the_middle_of_a_huge_page_flushes_its_head() {
    let (recorder, pool, volume) = recorded(WITH_HUGE);
    volume.map_mut(range(HUGE, 4)).unwrap().copy_from_slice(b"head");
    volume.sync(range(HUGE + HUGE / 2, PAGE)).unwrap();
    assert_eq!(volume.stats().unwrap().dirty_bytes, 0);
    after_power_failure(&recorder, |volume| assert_eq!(&bytes_at(volume, HUGE), b"head"));
    pool.check();
}

/// Bug 20: only 4 KiB of a huge page were flushed.
#[test]
fn a_sync_of_the_head_of_a_huge_page_flushes_its_tail() {
    let (recorder, pool, volume) = recorded(WITH_HUGE);
    let places = [PAGE, HUGE / 2, HUGE - 4];
    for at in places {
        let mut guard = volume.map_mut(range(HUGE + at, 4)).unwrap();
        assert_eq!(guard.size(), ExtentSize::Huge);
        guard.copy_from_slice(b"tail");
    }
    volume.sync(range(HUGE, 1)).unwrap();
    assert_eq!(volume.stats().unwrap().dirty_bytes, 0);
    after_power_failure(&recorder, move |volume| {
        assert!(places.iter().all(|at| &bytes_at(volume, HUGE + at) == b"tail"));
    });
    pool.check();
}

/// Bug 32: bytes were stored into an extent that the file system could still forget.
#[test]
fn an_extent_is_durable_before_it_is_handed_out() {
    for pool_bytes in [PAGES_ONLY, WITH_HUGE] {
        let (recorder, pool, volume) = recorded(pool_bytes);
        let mut guard = volume.map_mut(range(HUGE + 5 * PAGE, 5)).unwrap();
        let physical = guard.physical();
        after_power_failure(&recorder, move |volume| {
            let guard = volume.map(range(HUGE + 5 * PAGE, 5)).unwrap();
            assert_eq!(guard.physical(), Some(physical));
            assert_eq!(*guard, [0; 5], "zeros before the extent, never an earlier owner's bytes");
        });
        guard.copy_from_slice(b"first");
        guard.persist().unwrap();
        after_power_failure(&recorder, |volume| {
            assert_eq!(&bytes_at(volume, HUGE + 5 * PAGE), b"first");
        });
        drop(guard);
        pool.check();
    }
}
