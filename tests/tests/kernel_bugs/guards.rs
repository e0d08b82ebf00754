//! Guards and handles against whatever takes extents away.

use std::sync::atomic::{AtomicBool, Ordering};

use daxite_core::{Error, HUGE, PAGE};

use super::*;

/// Bug 26: pages were freed and given to another file while a device still wrote to them.
#[test]
fn pages_that_a_guard_reaches_get_no_new_owner() {
    for (pool_bytes, step) in [(PAGES_ONLY, PAGE), (WITH_HUGE, HUGE)] {
        let (pool, volume) = volume_in_memory(pool_bytes);
        let other = pool.create_volume("other", 1 << 40).unwrap();
        let mut guard = volume.map_mut(range(0, step)).unwrap();
        let physical = guard.physical();
        assert!(matches!(volume.punch(slot(0)), Err(Error::Busy { .. })));
        let waiting = volume.with_patience(STUCK);
        let punch = thread::spawn(move || waiting.punch(slot(0)).is_ok());
        let mut taken = 0;
        while other.write(taken * step, &[0xab; 64]).is_ok() {
            taken += 1;
        }
        assert_ne!(taken, 0);
        guard.fill(0xcd);
        for number in 0..taken {
            assert_eq!(bytes_at(&other, number * step), [0xab; 64]);
        }
        assert!(!punch.is_finished(), "it did not wait for the guard");
        drop(guard);
        assert_eq!(join(vec![punch]), [true]);
        let next = other.map_mut(range(taken * step, step)).unwrap();
        assert!(next.iter().all(|&byte| byte == 0), "bytes of the earlier owner");
        let reused = next.physical();
        assert!(reused == physical || pool_bytes == PAGES_ONLY, "the only huge page that is free");
        drop(next);
        pool.check();
    }
}

/// Bug 26 again, as xfstests generic/503 looks for it: stores race with punches and allocations.
#[test]
fn stores_punches_and_allocations_race_and_nobody_finds_foreign_bytes() {
    for pool_bytes in [PAGES_ONLY, 8 << 20] {
        let (pool, volume) = volume_in_memory(pool_bytes);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for owner in 1..4u64 {
                let other = pool.create_volume(&format!("other {owner}"), 1 << 30).unwrap();
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let Ok(mut guard) = other.map_mut(range(0, 3 * PAGE)) else { continue };
                        assert!(guard.iter().all(|&byte| byte == 0), "foreign bytes");
                        guard.fill(owner as u8);
                        thread::yield_now();
                        assert!(guard.iter().all(|&byte| byte == owner as u8), "foreign stores");
                        drop(guard);
                        other.punch(slot(0)).unwrap();
                    }
                });
            }
            let punching = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    match volume.punch(slot(0)) {
                        Ok(()) | Err(Error::Busy { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
            for round in 0..5_000u64 {
                if let Ok(mut guard) = volume.map_mut(range(round % 3 * PAGE, PAGE)) {
                    guard.fill(0xff);
                }
            }
            stop.store(true, Ordering::Relaxed);
            punching.join().unwrap();
        });
        pool.check();
    }
}

/// Bug 28: a file system was unmounted under pages that were still in use.
#[test]
fn guards_outlive_a_close_and_hold_their_volume() {
    let (pool, volume) = volume_in_memory(WITH_HUGE);
    let free = pool.space().free_pages;
    volume.write(0, b"read").unwrap();
    let reader = volume.map(range(0, 4)).unwrap();
    let mut writer = volume.map_mut(range(HUGE, 5)).unwrap();
    drop(volume);
    assert!(matches!(pool.remove_volume("v"), Err(Error::Busy { .. })), "guards reach it");
    let volume = pool.volume("v").unwrap().unwrap();
    pool.close().unwrap();
    assert!(matches!(volume.map(range(0, 4)), Err(Error::Closed)));
    assert!(matches!(volume.punch(slot(0)), Err(Error::Closed)));
    assert!(matches!(pool.remove_volume("v"), Err(Error::Closed)));
    assert_eq!(&*reader, b"read");
    writer.copy_from_slice(b"store");
    assert_eq!(&*writer, b"store");
    let weak = pool.clone();
    drop((volume, pool));
    assert_eq!(weak.entry_counts().huge_mapping, 2);
    drop((reader, writer));
    weak.check();
    // The same without a close: then the volume can go, and nothing of it is left.
    let (pool, volume) = volume_in_memory(WITH_HUGE);
    let guard = volume.map_mut(slot(3)).unwrap();
    drop(volume);
    drop(guard);
    assert!(pool.remove_volume("v").unwrap());
    assert_eq!(pool.entry_counts(), Default::default());
    assert!(pool.space().free_pages >= free);
    pool.check();
}

/// Bug 29: "not mapped" was taken for "not in use".
#[test]
fn a_handle_that_was_never_looked_through_blocks_a_punch() {
    for (pool_bytes, pages) in [(PAGES_ONLY, 8), (WITH_HUGE, 512)] {
        let (pool, volume) = volume_in_memory(pool_bytes);
        let (appender, extent) = volume.map_append(range(0, pages * PAGE), 1).unwrap();
        let part = range(2 * PAGE, PAGE);
        let is_refused = || {
            let results = [volume.punch(part), volume.zero(part), volume.set_len(1)];
            results.iter().all(|result| matches!(result, Err(Error::Busy { .. })))
        };
        assert!(is_refused());
        drop(appender);
        assert!(is_refused(), "a reader's handle is left");
        assert_eq!(extent.frozen_bytes(), 0, "and it can read nothing");
        drop(extent);
        volume.punch(slot(0)).unwrap();
        assert_eq!(volume.stats().unwrap().pins, 0);
        pool.check();
    }
}
