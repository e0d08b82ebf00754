//! Models of the locks of the index: every schedule of three or four threads in one slot, by loom.
//!
//! A lock of a page is the right to one cell, a lock of the slot or of its 2 MiB entry the right to
//! all. loom finds two holders at once, a holder that does not see what the one before it did, and a
//! thread that is never woken; what stands in the words at the end is checked after that.

use std::sync::Arc;
use std::time::Instant;

use loom::cell::UnsafeCell;

use super::*;
use crate::entry::{Entry, SlotState};
use crate::models::explore;
use crate::units::{ExtentSize, LogicalPage, PAGES_PER_HUGE, PageNo, SlotNo};
use crate::wait;

const SLOT: SlotNo = SlotNo(0);

/// Makes the words of the first slots, and the cells for their tables, before there are threads: both
/// come by a pointer that loom does not know, and so does not know to order anything.
pub(crate) fn make_cells(index: &EntryIndex) {
    drop(index.lock_page(SLOT.first_page()));
    index.lock_slot(SLOT).delete(0..PAGES_PER_HUGE as usize);
}

/// The index, and what its locks protect.
struct Locks {
    index: EntryIndex,
    cells: [UnsafeCell<()>; PAGES_PER_HUGE as usize],
}

// SAFETY: nothing is stored in the cells; that they are accessed one thread at a time is what the
// models find out.
unsafe impl Sync for Locks {}

impl Locks {
    fn new() -> Self {
        let index = EntryIndex::new(Arc::default()).unwrap();
        make_cells(&index);
        Self { index, cells: std::array::from_fn(|_| UnsafeCell::new(())) }
    }

    fn with_huge(self, entry: Entry) -> Self {
        self.index.lock_huge(SLOT).expect("no table").set(entry);
        self
    }

    /// With all pages mapped.
    fn with_pages(self) -> Self {
        (0..PAGES_PER_HUGE).for_each(|page| self.map_page(page));
        self
    }

    fn map_page(&self, page: u64) {
        match self.index.lock_page(LogicalPage(page)) {
            LockedPage::Page(mut locked) => {
                if !matches!(locked.entry(0), Entry::Mapping(_)) {
                    locked.set(0, Entry::Mapping(PageNo(page)));
                }
                self.touch_page(page);
            }
            LockedPage::Huge(_) => self.touch_all(),
        }
    }

    fn lock_page(&self, page: u64) {
        match self.index.lock_page(LogicalPage(page)) {
            LockedPage::Page(_locked) => self.touch_page(page),
            LockedPage::Huge(_locked) => self.touch_all(),
        }
    }

    fn lock_two_pages(&self, page: u64) {
        match self.index.lock_page(LogicalPage(page)) {
            LockedPage::Page(mut locked) => {
                locked.extend();
                self.touch_page(page);
                self.touch_page(page + 1);
            }
            LockedPage::Huge(_locked) => self.touch_all(),
        }
    }

    /// As a write fault.
    fn write_page(&self, page: u64) {
        match self.index.lock_page(LogicalPage(page)) {
            LockedPage::Page(mut locked) => {
                if !matches!(locked.entry(0), Entry::Mapping(_)) {
                    locked.set(0, Entry::Mapping(PageNo(page)));
                }
                locked.set_dirty(0);
                self.touch_page(page);
            }
            LockedPage::Huge(mut locked) => {
                locked.set_dirty();
                self.touch_all();
            }
        }
    }

    /// Whether there was no smaller entry in the way.
    fn lock_huge(&self) -> bool {
        let locked = self.index.lock_huge(SLOT);
        if locked.is_ok() {
            self.touch_all();
        }
        locked.is_ok()
    }

    fn delete(&self) {
        let mut locked = self.index.lock_slot(SLOT);
        self.touch_all();
        locked.delete(0..PAGES_PER_HUGE as usize);
    }

    fn upgrade(&self) {
        let mut locked = self.index.lock_slot(SLOT);
        self.touch_all();
        locked.upgrade(PageNo(PAGES_PER_HUGE));
    }

    /// As a sync: what is dirty becomes clean.
    fn sync(&self) {
        for slot in self.index.dirty_slots(SLOT..=SLOT) {
            let mut locked = self.index.lock_slot(slot);
            for entry in locked.dirty_entries() {
                locked.set_clean(entry);
            }
        }
    }

    /// Locks the slot unless a deadline passes, which it may do at any moment.
    fn lock_slot_impatiently(&self) {
        if let Some(_locked) = self.index.lock_slot_until(SLOT, Some(Instant::now())) {
            self.touch_all();
        }
    }

    fn touch_page(&self, page: u64) {
        self.cells[page as usize].with_mut(|_| ());
    }

    fn touch_all(&self) {
        self.cells.iter().for_each(|cell| cell.with_mut(|_| ()));
    }

    fn check(&self) {
        self.index.check_idle();
    }
}

#[test]
fn a_2_mib_entry_has_one_holder_at_a_time() {
    explore::<Locks, _>(
        2,
        Locks::new,
        [|on| assert!(on.lock_huge()), |on| assert!(on.lock_huge()), |on| assert!(on.lock_huge())],
        Locks::check,
    );
}

#[test]
fn a_4_kib_entry_has_one_holder_at_a_time() {
    explore::<Locks, _>(
        1,
        Locks::new,
        [|on| on.lock_page(1), |on| on.lock_page(1), |on| on.lock_page(1)],
        Locks::check,
    );
}

#[test]
fn neighbours_are_locked_without_deadlock() {
    explore::<Locks, _>(
        1,
        || Locks::new().with_pages(),
        [|on| on.lock_two_pages(0), |on| on.lock_two_pages(1), |on| on.lock_page(1)],
        Locks::check,
    );
}

#[test]
fn a_downgrade_wakes_all_who_want_2_mib() {
    explore::<Locks, _>(
        2,
        || Locks::new().with_huge(Entry::Zero),
        [
            |on| {
                on.lock_huge();
            },
            |on| {
                on.lock_huge();
            },
            |on| on.lock_page(1),
        ],
        |on| {
            on.check();
            assert!(!on.lock_huge(), "4 KiB wins");
        },
    );
}

#[test]
fn a_downgrade_wakes_all_who_want_4_kib() {
    explore::<Locks, _>(
        2,
        || Locks::new().with_huge(Entry::Empty),
        [
            |on| on.lock_page(0),
            |on| on.lock_page(1),
            |on| {
                on.lock_huge();
            },
        ],
        |on| {
            on.check();
            assert_eq!(on.index.counters.entry_counts().page_empty, 2);
        },
    );
}

/// A 2 MiB entry that is locked by an actor to come.
fn with_huge_held() -> Locks {
    let on = Locks::new().with_huge(Entry::Zero);
    std::mem::forget(on.index.lock_huge(SLOT));
    on
}

/// The holder of the 2 MiB entry, and who makes a table of it between its unlock and its wake.
fn unlock_then_downgrade_then_wake(on: &Locks) {
    let word = on.index.directory.place(SLOT).word();
    let has_waiters = locks::unlock(word, |seen| seen);
    on.lock_page(0);
    if has_waiters {
        wait::wake_one(word);
    }
}

#[test]
fn a_wake_that_ends_at_a_table_is_passed_on() {
    explore::<Locks, _>(
        2,
        with_huge_held,
        [
            |on| {
                on.lock_huge();
            },
            |on| {
                on.lock_huge();
            },
            unlock_then_downgrade_then_wake,
        ],
        Locks::check,
    );
}

#[test]
fn who_enters_a_table_after_a_wake_wakes_the_others() {
    explore::<Locks, _>(
        2,
        with_huge_held,
        [|on| on.lock_page(1), |on| on.lock_page(2), unlock_then_downgrade_then_wake],
        Locks::check,
    );
}

#[test]
fn a_wake_reaches_those_who_slept_on_the_entry_before_the_table() {
    explore::<Locks, _>(
        1,
        || Locks::new().with_huge(Entry::Zero),
        [
            |on| {
                on.lock_huge();
            },
            |on| {
                on.lock_huge();
            },
            |on| on.lock_page(0),
            |on| on.delete(),
        ],
        Locks::check,
    );
}

#[test]
fn a_slot_lock_wakes_all_whose_2_mib_entry_it_deleted() {
    explore::<Locks, _>(
        2,
        || Locks::new().with_huge(Entry::Mapping(PageNo(PAGES_PER_HUGE))),
        [
            |on| on.lock_page(0),
            |on| {
                on.lock_huge();
            },
            |on| on.delete(),
        ],
        Locks::check,
    );
}

#[test]
fn a_slot_lock_excludes_all_pages_whether_they_have_entries_or_not() {
    explore::<Locks, _>(
        2,
        || {
            let on = Locks::new();
            on.map_page(0);
            on
        },
        [|on| on.lock_page(0), |on| on.lock_page(1), |on| on.delete()],
        Locks::check,
    );
}

#[test]
fn an_upgrade_wakes_all_and_loses_no_dirt() {
    explore::<Locks, _>(
        2,
        || Locks::new().with_pages(),
        [|on| on.write_page(1), |on| on.lock_page(1), |on| on.upgrade()],
        |on| {
            on.check();
            let locked = on.index.lock_slot(SLOT);
            let sizes: Vec<_> = locked.dirty_entries().iter().map(|entry| entry.size).collect();
            assert_eq!(sizes, [ExtentSize::Huge]);
            assert!(matches!(locked.state(), SlotState::Huge(Entry::Mapping(_))));
        },
    );
}

#[test]
fn a_slot_with_a_dirty_entry_is_marked_and_one_without_is_not() {
    explore::<Locks, _>(
        2,
        || {
            let on = Locks::new();
            on.write_page(0);
            on
        },
        [|on| on.write_page(1), |on| on.delete(), |on| on.sync()],
        Locks::check,
    );
}

#[test]
fn upgrades_and_syncs_agree_about_dirt() {
    explore::<Locks, _>(
        2,
        || {
            let on = Locks::new().with_pages();
            on.write_page(0);
            on
        },
        [|on| on.write_page(1), |on| on.upgrade(), |on| on.sync()],
        Locks::check,
    );
}

#[test]
fn a_drain_that_gives_up_leaves_nobody_asleep() {
    explore::<Locks, _>(
        2,
        || Locks::new().with_pages(),
        [|on| on.lock_page(0), |on| on.lock_page(1), |on| on.lock_slot_impatiently()],
        Locks::check,
    );
}

#[test]
fn drains_with_and_without_a_deadline_leave_nobody_asleep() {
    explore::<Locks, _>(
        1,
        || Locks::new().with_pages(),
        [
            |on| on.lock_page(0),
            |on| on.lock_page(1),
            |on| on.delete(),
            |on| on.lock_slot_impatiently(),
        ],
        Locks::check,
    );
}
