//! The locks of the index, one thread at a time and several.

use super::locked::DirtyEntry;
use super::*;
use crate::entry::Entry;
use crate::epoch::{EpochCell, pin};
use crate::units::{ExtentSize, LogicalPage, PAGES_PER_HUGE, PageNo, SlotNo};
use crate::wait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

fn index() -> EntryIndex {
    EntryIndex::new(Arc::default()).unwrap()
}

/// Sets the entry of a page as a fault would.
fn set_page(index: &EntryIndex, page: u64, entry: Entry) {
    match index.lock_page(LogicalPage(page)) {
        LockedPage::Page(mut locked) => locked.set(0, entry),
        LockedPage::Huge(_) => panic!("a 2 MiB mapping"),
    }
}

fn page_of_table(index: &EntryIndex, page: u64) -> bool {
    matches!(index.lock_page(LogicalPage(page)), LockedPage::Page(_))
}

#[test]
fn entries_are_born_locked_and_empty_and_stay_when_a_fault_fails() {
    let index = index();
    assert_eq!(index.lock_huge(SlotNo(1)).unwrap().entry(), Entry::Empty);
    assert_eq!(index.counters.entry_counts().huge_empty, 1);
    assert!(page_of_table(&index, 3));
    assert_eq!(index.counters.entry_counts().page_empty, 1);
    index.check_idle();
}

#[test]
fn a_2_mib_request_meets_a_smaller_entry_without_waiting() {
    let index = index();
    let held = index.lock_page(LogicalPage(37));
    assert!(index.lock_huge(SlotNo(0)).is_err(), "though the entry is locked, and elsewhere");
    drop(held);
    assert!(index.lock_huge(SlotNo(0)).is_err());
    assert_eq!(index.counters.fault_counts().waits, 0);
    index.check_idle();
}

#[test]
fn zero_and_empty_make_way_for_pages_and_mappings_do_not() {
    let index = index();
    index.lock_huge(SlotNo(0)).unwrap().set(Entry::Zero);
    drop(index.lock_huge(SlotNo(1)).unwrap());
    index.lock_huge(SlotNo(2)).unwrap().set(Entry::Mapping(PageNo(512)));
    assert!(page_of_table(&index, 511));
    assert!(page_of_table(&index, 512));
    assert!(!page_of_table(&index, 1024 + 9));
    assert_eq!(index.counters.fault_counts().downgrades, 2);
    let counts = index.counters.entry_counts();
    assert_eq!((counts.huge_mapping, counts.page_empty), (1, 2));
    assert_eq!((counts.huge_zero, counts.huge_empty), (0, 0));
    index.check_idle();
}

#[test]
fn an_empty_or_zero_entry_becomes_a_mapping_in_place() {
    let index = index();
    let mut locked = index.lock_huge(SlotNo(3)).unwrap();
    locked.set(Entry::Zero);
    locked.set(Entry::Mapping(PageNo(1024)));
    locked.set_dirty();
    drop(locked);
    let locked = index.lock_slot(SlotNo(3));
    let dirty = DirtyEntry { index: 0, size: ExtentSize::Huge, physical: PageNo(1024) };
    assert_eq!(locked.dirty_entries(), [dirty]);
    drop(locked);
    index.check_idle();
}

#[test]
#[should_panic(expected = "a mapping was replaced")]
fn a_mapping_is_never_replaced_by_a_fault() {
    let index = index();
    set_page(&index, 5, Entry::Mapping(PageNo(7)));
    set_page(&index, 5, Entry::Zero);
}

#[test]
fn a_holder_that_panics_leaves_an_unlocked_legal_entry() {
    let index = index();
    let panicked = thread::scope(|scope| {
        scope
            .spawn(|| {
                let _held = index.lock_page(LogicalPage(9));
                panic!("on purpose");
            })
            .join()
    });
    assert!(panicked.is_err());
    index.check_idle();
    assert!(page_of_table(&index, 9));
}

#[test]
fn a_table_without_entries_turns_back_into_nothing() {
    let index = index();
    set_page(&index, 0, Entry::Zero);
    set_page(&index, 511, Entry::Mapping(PageNo(3)));
    let mut locked = index.lock_slot(SlotNo(0));
    locked.delete(0..511);
    drop(locked);
    assert!(index.lock_huge(SlotNo(0)).is_err(), "an entry is left");
    let mut locked = index.lock_slot(SlotNo(0));
    locked.delete(511..512);
    assert_eq!(locked.dirty_entries(), []);
    drop(locked);
    assert!(index.lock_huge(SlotNo(0)).is_ok(), "2 MiB is possible again");
    index.check_idle();
    let touched: Vec<_> = index.touched_slots(SlotNo(0)..=SlotNo(9)).collect();
    assert_eq!(touched, [SlotNo(0)]);
}

#[test]
fn all_who_wait_for_one_entry_get_it() {
    let index = index();
    let order = AtomicU64::new(0);
    thread::scope(|scope| {
        let held = index.lock_page(LogicalPage(100));
        for _ in 0..9 {
            scope.spawn(|| {
                let _mine = index.lock_page(LogicalPage(100));
                order.fetch_add(1, Ordering::Relaxed);
            });
        }
        while index.counters.fault_counts().waits < 9 {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(order.load(Ordering::Relaxed), 0);
        drop(held);
    });
    assert_eq!(order.load(Ordering::Relaxed), 9);
    index.check_idle();
}

#[test]
fn a_woken_waiter_that_cannot_lock_passes_the_wake_on() {
    // Three 2 MiB requests sleep on an empty entry that a 4 KiB request then downgrades.
    let index = index();
    thread::scope(|scope| {
        let held = index.lock_huge(SlotNo(0)).unwrap();
        let waiters: Vec<_> =
            (0..3).map(|_| scope.spawn(|| index.lock_huge(SlotNo(0)).is_err())).collect();
        while index.counters.fault_counts().waits < 3 {
            thread::sleep(Duration::from_millis(1));
        }
        let small = scope.spawn(|| page_of_table(&index, 5));
        while index.counters.fault_counts().waits < 4 {
            thread::sleep(Duration::from_millis(1));
        }
        drop(held);
        assert!(small.join().unwrap());
        for waiter in waiters {
            let _locked_or_conflict: bool = waiter.join().unwrap();
        }
    });
    index.check_idle();
}

#[test]
fn who_enters_a_table_wakes_those_who_slept_on_the_entry_before_it() {
    // Between an unlock and its wake the entry is downgraded by someone who sees no waiter. The
    // wake then reaches one of two sleepers, who enters the table and unlocks nothing.
    let index = index();
    let (finished, results) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let held = index.lock_huge(SlotNo(0)).unwrap();
        for page in [1, 2] {
            let (index, finished) = (&index, finished.clone());
            scope.spawn(move || finished.send(page_of_table(index, page)).unwrap());
        }
        while index.counters.fault_counts().waits < 2 {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(20));
        let word = held.place.word();
        std::mem::forget(held);
        assert!(super::locks::unlock(word, |seen| seen));
        assert!(page_of_table(&index, 3));
        wait::wake_one(word);
        let woken: Vec<_> = (0..2).map(|_| results.recv_timeout(Duration::from_secs(5))).collect();
        wait::wake_all(word);
        assert_eq!(woken, [Ok(true), Ok(true)]);
    });
    index.check_idle();
}

#[test]
fn a_slot_is_locked_whole_only_with_nobody_inside_and_nobody_enters_meanwhile() {
    let index = index();
    let whole = AtomicBool::new(false);
    thread::scope(|scope| {
        let inside = index.lock_page(LogicalPage(1));
        let locker = scope.spawn(|| {
            let locked = index.lock_slot(SlotNo(0));
            whole.store(true, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(20));
            whole.store(false, Ordering::SeqCst);
            drop(locked);
        });
        while index.counters.fault_counts().waits < 1 {
            thread::sleep(Duration::from_millis(1));
        }
        // No entry of its own yet, and locked out all the same.
        let newcomer = scope.spawn(|| {
            let _mine = index.lock_page(LogicalPage(400));
            assert!(!whole.load(Ordering::SeqCst));
        });
        thread::sleep(Duration::from_millis(5));
        assert!(!whole.load(Ordering::SeqCst), "someone is inside");
        drop(inside);
        locker.join().unwrap();
        newcomer.join().unwrap();
    });
    index.check_idle();
}

#[test]
fn who_gives_up_on_a_slot_takes_nothing_from_those_inside() {
    let index = index();
    let inside = index.lock_page(LogicalPage(1));
    let soon = Some(Instant::now() + Duration::from_millis(1));
    assert!(index.lock_slot_until(SlotNo(0), soon).is_none());
    assert!(page_of_table(&index, 2), "others enter again, and the table is still there");
    drop(inside);
    index.check_idle();
    let counts = index.counters.entry_counts();
    assert_eq!((counts.page_empty, counts.huge_empty), (2, 0));
}

#[test]
fn neighbours_are_locked_in_ascending_order_without_deadlock() {
    let index = index();
    thread::scope(|scope| {
        for thread in 0..4u64 {
            let index = &index;
            scope.spawn(move || {
                for round in 0..500 {
                    let first = (thread + round) % 8;
                    let LockedPage::Page(mut locked) = index.lock_page(LogicalPage(first)) else {
                        panic!("a 2 MiB mapping")
                    };
                    (0..5).for_each(|_| locked.extend());
                }
            });
        }
    });
    index.check_idle();
}

#[test]
fn every_mix_of_requests_ends_and_leaves_a_legal_index() {
    let index = index();
    thread::scope(|scope| {
        for thread in 0..6u64 {
            let index = &index;
            scope.spawn(move || {
                let mut random = thread.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                for _ in 0..20_000 {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    act(index, random);
                }
            });
        }
    });
    index.check_idle();
    let counters = Arc::clone(&index.counters);
    drop(index);
    assert_eq!(counters.entry_counts(), Default::default(), "zero at teardown");
}

/// One random request, as a fault, a punch or a sync would make it.
fn act(index: &EntryIndex, random: u64) {
    let slot = SlotNo(random >> 8 & 1);
    let page = LogicalPage(slot.first_page().0 + (random >> 16) % 6);
    match random % 8 {
        0 | 1 => {
            if let Ok(mut locked) = index.lock_huge(slot)
                && !matches!(locked.entry(), Entry::Mapping(_))
            {
                match random >> 24 & 1 {
                    0 => locked.set(Entry::Zero),
                    _ => locked.set(Entry::Mapping(PageNo(512))),
                }
            }
        }
        2..=5 => match index.lock_page(page) {
            LockedPage::Huge(mut locked) => locked.set_dirty(),
            LockedPage::Page(mut locked) => {
                if !matches!(locked.entry(0), Entry::Mapping(_)) {
                    locked.set(0, Entry::Mapping(PageNo(page.0)));
                }
                locked.set_dirty(0);
            }
        },
        6 => {
            let mut locked = index.lock_slot(slot);
            for entry in locked.dirty_entries() {
                locked.set_clean(entry);
            }
        }
        _ => {
            let mut locked = index.lock_slot(slot);
            locked.delete(0..PAGES_PER_HUGE as usize);
        }
    }
}

/// What others retire in this process, of whatever kind, comes back though an operation is inside a
/// table and waits, for another or for the medium.
#[test]
fn an_operation_that_is_inside_holds_back_nothing_that_is_retired() {
    let index = index();
    let held = index.lock_page(LogicalPage(7));
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| page_of_table(&index, 7));
        while !index.has_sleepers(SlotNo(0)) {
            thread::yield_now();
        }
        let (cell, retired) = (EpochCell::empty(), Arc::new(()));
        cell.replace(Some(Arc::clone(&retired)));
        cell.replace(None);
        // Pins of other tests of this process may hold it back for a while.
        let deadline = Instant::now() + Duration::from_secs(10);
        while Arc::strong_count(&retired) > 1 && Instant::now() < deadline {
            pin().flush();
            thread::yield_now();
        }
        assert_eq!(Arc::strong_count(&retired), 1);
        drop(held);
        assert!(sleeper.join().unwrap());
    });
    index.check_idle();
}
