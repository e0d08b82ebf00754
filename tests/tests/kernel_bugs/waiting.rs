//! Locks, wake-ups, and what a fault does that meets another one.

use daxite_core::{Error, ExtentSize, FallbackReason, FaultOutcome, HUGE, PAGE, Volume};

use super::*;

/// A call for a thread beside a fault.
fn call<T>(
    volume: &Volume,
    act: impl FnOnce(&Volume) -> T + Send + 'static,
) -> Box<dyn FnOnce() -> T + Send> {
    let volume = volume.clone();
    Box::new(move || act(&volume))
}

/// Bug 1, and 15: a downgrade that failed half-way left a lock, or was counted twice.
#[test]
fn a_fault_that_fails_after_its_downgrade_leaves_no_lock_and_counts_once() {
    let (pool, volume) = volume_in_memory(PAGES_ONLY);
    let filler = pool.create_volume("filler", 64 * HUGE).unwrap();
    assert!(volume.map(slot(1)).unwrap().is_hole());
    assert_eq!(pool.entry_counts().huge_zero, 1);
    let mut filled = 0;
    while filler.write(filled * PAGE, &[1]).is_ok() {
        filled += 1;
    }
    let before = pool.fault_counts().downgrades;
    let empty = pool.entry_counts().page_empty;
    for _ in 0..3 {
        assert!(matches!(volume.map_mut(page(512 + 9)), Err(Error::Full { .. })));
        assert_eq!(pool.fault_counts().downgrades, before + 1);
        assert_eq!((pool.entry_counts().huge_zero, pool.entry_counts().page_empty), (0, empty + 1));
        pool.check();
    }
    filler.punch(range(0, filler.len_bytes())).unwrap();
    let guard = volume.map_mut(page(512 + 9)).unwrap();
    assert_eq!(guard.len() as u64, PAGE);
    drop(guard);
    assert_eq!(pool.fault_counts().downgrades, before + 1);
    assert_eq!((pool.entry_counts().page_mapping, pool.entry_counts().page_empty), (1, 0));
    pool.check();
}

/// Bug 2: of three readers of one hole the third slept for ever.
#[test]
fn many_readers_that_wait_for_one_page_all_get_on() {
    let (recorder, pool, volume) = recorded(PAGES_ONLY);
    let read = |volume: &Volume| volume.map(range(5 * PAGE + 100, 8)).unwrap().is_hole();
    let readers = (0..9).map(|_| call(&volume, read)).collect();
    let beside = stop_until_all_sleep(&recorder, &pool, readers);
    let guard = volume.map_mut(range(5 * PAGE, 8)).unwrap();
    assert_eq!(beside.join(9), [false; 9]);
    drop(guard);
    pool.check();
}

/// Bug 3: what size to map was decided before the lock, so a page was put under a huge page.
#[test]
fn small_writes_and_huge_reads_that_collide_agree_on_what_is_mapped() {
    for pool_bytes in [PAGES_ONLY, WITH_HUGE] {
        let (pool, volume) = volume_in_memory(pool_bytes);
        for round in 0..1_500u64 {
            let at = HUGE + round % 512 * PAGE;
            thread::scope(|scope| {
                let writer = scope.spawn(|| write_when_free(&volume, at, round as u8));
                match volume.map(slot(1)) {
                    // From before the write, or from after it.
                    Ok(guard) => guard.iter().enumerate().for_each(|(place, &byte)| {
                        let is_written = (at..at + 3).contains(&(HUGE + place as u64));
                        assert!(byte == 0 || is_written && byte == round as u8, "byte {place}");
                    }),
                    Err(error) => assert!(matches!(error, Error::Busy { .. }), "{error}"),
                }
                writer.join().unwrap();
            });
            assert_eq!(bytes_at(&volume, at), [round as u8; 3]);
            pool.check();
            volume.punch(slot(1)).unwrap();
        }
    }
}

fn write_when_free(volume: &Volume, start: u64, fill: u8) {
    let mut done = Err(Error::Closed);
    until("the reader goes", || {
        done = volume.write(start, &[fill; 3]);
        !matches!(done, Err(Error::Busy { .. }))
    });
    done.unwrap();
}

/// Bug 4: the second of two huge faults took the first one's entry for a smaller one.
#[test]
fn two_huge_faults_of_one_hole_share_one_huge_page() {
    let (recorder, pool, volume) = recorded(WITH_HUGE);
    let other = call(&volume, |volume| {
        let guard = volume.map_mut(range(HUGE + 9 * PAGE, 10)).unwrap();
        (guard.size(), guard.physical().0)
    });
    let beside = stop_until_all_sleep(&recorder, &pool, vec![other]);
    let guard = volume.map_mut(range(HUGE, 10)).unwrap();
    assert_eq!(guard.size(), ExtentSize::Huge);
    assert_eq!(beside.join(1), [(ExtentSize::Huge, guard.physical().0 + 9 * PAGE)]);
    assert_eq!(pool.fault_counts().all_fallbacks(), 0);
    assert_eq!(pool.fault_counts().allocated_huge, 1);
    drop(guard);
    pool.check();
}

/// Bug 12: three wait to delete an entry, and a fault for the entry; who deletes it woke one.
#[test]
fn punches_and_faults_that_wait_for_one_slot_all_get_on() {
    let (recorder, pool, volume) = recorded(PAGES_ONLY);
    let mut calls: Vec<_> = (0..3)
        .map(|nth| call(&volume, move |volume| volume.punch(page(100 + nth)).is_ok()))
        .collect();
    calls.push(call(&volume, |volume| volume.map(page(200)).is_ok()));
    let beside = stop_until_all_sleep(&recorder, &pool, calls);
    let guard = volume.map_mut(page(5)).unwrap();
    assert_eq!(beside.join(4), [true; 4]);
    drop(guard);
    pool.check();
}

/// Bug 13: a huge fault slept on a locked smaller entry, by a key that nobody woke.
#[test]
fn a_huge_fault_that_meets_a_locked_page_falls_back_at_once() {
    let (recorder, pool, volume) = recorded(PAGES_ONLY);
    volume.write(0, &[1]).unwrap();
    let (seen, looker) = (pool.clone(), volume.clone());
    let before = pool.fault_counts();
    let (send, looked) = std::sync::mpsc::channel();
    at_next_fence(&recorder, move || {
        let reader =
            thread::spawn(move || looker.map(range(8 * PAGE, HUGE - 8 * PAGE)).unwrap().len());
        let len = join(vec![reader])[0];
        send.send((len as u64, seen.fault_counts())).unwrap();
    });
    drop(volume.map_mut(range(5 * PAGE, 10)).unwrap());
    let (len, during) = looked.try_recv().expect("the fault was stopped");
    assert_eq!(len, PAGE);
    assert_eq!(during.waits, before.waits, "it slept");
    let conflicts = FallbackReason::SmallerEntry;
    // The one that was stopped, and the one that met it.
    assert_eq!(during.fallbacks(conflicts), before.fallbacks(conflicts) + 2);
    pool.check();
}

/// Bug 14: nothing was taken for a smaller entry, so huge pages were never used again.
#[test]
fn huge_faults_succeed_and_do_so_again_where_pages_were() {
    let (pool, volume) = volume_in_memory(WITH_HUGE);
    for number in 0..4 {
        assert!(volume.map(slot(number)).unwrap().is_hole());
        assert_eq!(volume.map_mut(slot(number)).unwrap().size(), ExtentSize::Huge);
    }
    let counts = pool.fault_counts();
    assert_eq!(counts.outcomes(FaultOutcome::HugeZero), 4);
    assert_eq!(counts.outcomes(FaultOutcome::Huge), 4);
    assert_eq!((counts.all_fallbacks(), counts.downgrades), (0, 0));
    volume.punch(range(0, 4 * HUGE)).unwrap();
    // Pages in the last slot of a volume that ends in it; then they go, and the end with them.
    volume.set_len(2 * HUGE - PAGE).unwrap();
    volume.write(HUGE + 9 * PAGE, &[1]).unwrap();
    assert_eq!(pool.entry_counts().page_mapping, 1);
    volume.punch(range(HUGE, HUGE - PAGE)).unwrap();
    volume.set_len(2 * HUGE).unwrap();
    let before = pool.fault_counts().all_fallbacks();
    assert_eq!(volume.map_mut(slot(1)).unwrap().size(), ExtentSize::Huge);
    assert_eq!(pool.fault_counts().all_fallbacks(), before);
    pool.check();
}

/// Bug 17: a lock that was taken by an address inside a huge entry was given back by the word of a
/// page.
#[test]
fn a_lock_by_an_address_inside_a_huge_page_gives_the_same_entry_back() {
    let (pool, volume) = volume_in_memory(WITH_HUGE);
    volume.write(HUGE, &[7; 10]).unwrap();
    let before = volume.stats().unwrap();
    assert_eq!((before.entries.huge_mapping, before.dirty_bytes), (1, HUGE));
    let physical = volume.lookup(HUGE + 37 * PAGE).unwrap();
    for size in [ExtentSize::Page, ExtentSize::Huge] {
        volume.lock_and_unlock(HUGE + 37 * PAGE, size);
        assert_eq!(volume.stats().unwrap(), before);
        assert_eq!(volume.lookup(HUGE + 37 * PAGE), Some(physical));
        pool.check();
    }
}

/// Bug 27: a scan that met a locked entry waited, and went on behind it; here a sync, whose own lock
/// is that of the slot.
#[test]
fn a_sync_that_waits_for_a_page_in_the_middle_skips_none() {
    let (recorder, pool, volume) = recorded(PAGES_ONLY);
    for number in (90..111).filter(|number| *number != 100) {
        volume.map_mut(page(number)).unwrap().fill(number as u8);
    }
    let sync = call(&volume, |volume| volume.sync(range(90 * PAGE, 21 * PAGE)).is_ok());
    let beside = stop_until_all_sleep(&recorder, &pool, vec![sync]);
    volume.map_mut(page(100)).unwrap().fill(100);
    assert_eq!(beside.join(1), [true]);
    after_power_failure(&recorder, |volume| {
        for number in (90..111).filter(|number| *number != 100) {
            assert_eq!(bytes_at(volume, number * PAGE), [number as u8; PAGE as usize]);
        }
    });
    pool.check();
}

/// Bug 35: entries were locked out only for the first half of a punch.
#[test]
fn a_fault_in_the_middle_of_a_punch_waits_and_finds_the_hole() {
    for (pool_bytes, punched) in [(PAGES_ONLY, page(5)), (WITH_HUGE, slot(0))] {
        let (recorder, pool, volume) = recorded(pool_bytes);
        volume.write(5 * PAGE, &[9; PAGE as usize]).unwrap();
        let reader = call(&volume, |volume| {
            let guard = volume.map(page(5)).unwrap();
            (guard.is_hole(), guard[0])
        });
        let beside = stop_until_all_sleep(&recorder, &pool, vec![reader]);
        volume.punch(punched).unwrap();
        assert_eq!(beside.join(1), [(true, 0)]);
        pool.check();
    }
}
