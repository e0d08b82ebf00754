//! What holds a lock of the index; dropping it unlocks.

use std::sync::Arc;

use super::directory::{Place, exchange_word};
use super::locks::EntryIndex;
use super::table::Table;
use crate::entry::{DIRTY, Entry, LOCKED, PageWord, SlotState, SlotWord};
use crate::epoch::{Pin, pin};
use crate::primitives::atomic::{AtomicU64, Ordering};
use crate::units::{ExtentSize, LogicalPage, PAGES_PER_HUGE, PageNo};

/// The lock of a 2 MiB entry. Dropping it unlocks and wakes one.
pub(crate) struct LockedHuge<'a> {
    pub(super) index: &'a EntryIndex,
    pub(super) place: Place<'a>,
}

impl LockedHuge<'_> {
    pub(crate) fn entry(&self) -> Entry {
        match self.place.load().state() {
            SlotState::Huge(entry) => entry,
            state => unreachable!("{state:?} under the lock of a 2 MiB entry"),
        }
    }

    /// Replaces a zero or empty entry; a mapping is never replaced by a fault.
    pub(crate) fn set(&mut self, entry: Entry) {
        let old = self.entry();
        assert!(!matches!(old, Entry::Mapping(_)), "a mapping was replaced");
        change_locked(self.place, |seen| seen.with_state(SlotState::Huge(entry)).0);
        self.index.counters.mine().entry_changed(ExtentSize::Huge, Some(old), Some(entry));
    }

    /// Its bytes are about to be handed out for writing.
    pub(crate) fn set_dirty(&mut self) {
        debug_assert!(matches!(self.entry(), Entry::Mapping(_)), "a hole cannot be dirty");
        change_locked(self.place, |seen| seen.0 | DIRTY);
        self.place.mark_dirty();
    }
}

impl Drop for LockedHuge<'_> {
    fn drop(&mut self) {
        self.index.unlock_one(self.place.word());
    }
}

/// Changes a locked slot word; only waiters that announce themselves can interfere.
fn change_locked(place: Place<'_>, new: impl Fn(SlotWord) -> u64) {
    loop {
        let seen = place.load();
        if place.exchange(seen, new(seen)) {
            return;
        }
    }
}

/// What serves a 4 KiB request.
pub(crate) enum LockedPage<'a> {
    /// A 2 MiB mapping, which is used as it is.
    Huge(LockedHuge<'a>),
    /// A 4 KiB entry; its neighbours can be locked too.
    Page(LockedEntries<'a>),
}

/// The locks of neighbouring 4 KiB entries of one slot, taken in ascending order. Dropping it
/// unlocks them, wakes one sleeper of each, and leaves the table.
pub(crate) struct LockedEntries<'a> {
    pub(super) index: &'a EntryIndex,
    pub(super) place: Place<'a>,
    /// Counted, and not under an epoch pin: that would hold back what everyone in the process retires
    /// for as long as this sleeps, or waits for the medium.
    pub(super) table: Arc<Table>,
    pub(super) first: LogicalPage,
    pub(super) count: usize,
}

impl LockedEntries<'_> {
    /// Locks the entry after the last one too. It waits for it holding those before: all who hold
    /// several take them in ascending order, so that is no cycle. The caller stays in the slot.
    pub(crate) fn extend(&mut self) {
        let word = self.word(self.count);
        loop {
            // ORDERING: Acquire; pairs with the Release in `unlock`.
            let seen = PageWord(word.load(Ordering::Acquire));
            if seen.is_locked() {
                self.index.sleep(word, seen.0, None);
                continue;
            }
            let locked = match seen.entry() {
                Some(_) => seen.0 | LOCKED,
                None => seen.with_entry(Entry::Empty).0 | LOCKED,
            };
            if exchange_word(word, seen.0, locked) {
                if seen.entry().is_none() {
                    self.table.added();
                    let counters = self.index.counters.mine();
                    counters.entry_changed(ExtentSize::Page, None, Some(Entry::Empty));
                }
                break;
            }
        }
        self.count += 1;
    }

    /// What entry `nth` of those that are locked says.
    pub(crate) fn entry(&self, nth: usize) -> Entry {
        debug_assert!(nth < self.count, "not locked");
        self.table.entry(self.first.index_in_slot() + nth).expect("an entry while it is locked")
    }

    /// Replaces a zero or empty entry; a mapping is never replaced by a fault.
    pub(crate) fn set(&mut self, nth: usize, entry: Entry) {
        let old = self.entry(nth);
        assert!(!matches!(old, Entry::Mapping(_)), "a mapping was replaced");
        let word = self.word(nth);
        let mut seen = word.load(Ordering::Relaxed);
        while !exchange_word(word, seen, PageWord(seen).with_entry(entry).0) {
            seen = word.load(Ordering::Relaxed);
        }
        self.index.counters.mine().entry_changed(ExtentSize::Page, Some(old), Some(entry));
    }

    /// Its bytes are about to be handed out for writing.
    pub(crate) fn set_dirty(&mut self, nth: usize) {
        debug_assert!(matches!(self.entry(nth), Entry::Mapping(_)), "a hole cannot be dirty");
        self.table.set_dirty(self.first.index_in_slot() + nth);
        self.place.mark_dirty();
    }

    fn word(&self, nth: usize) -> &AtomicU64 {
        &self.table.words[self.first.index_in_slot() + nth]
    }
}

impl Drop for LockedEntries<'_> {
    fn drop(&mut self) {
        for nth in 0..self.count {
            self.index.unlock_one(self.word(nth));
        }
        self.index.leave(self.place);
    }
}

/// A slot locked whole. Dropping it unlocks and wakes all, since anything may have changed.
pub(crate) struct LockedSlot<'a> {
    pub(super) index: &'a EntryIndex,
    pub(super) place: Place<'a>,
}

/// A dirty range of a slot: which page of it, and the physical page where it starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DirtyEntry {
    pub index: usize,
    pub size: ExtentSize,
    pub physical: PageNo,
}

impl LockedSlot<'_> {
    pub(crate) fn state(&self) -> SlotState {
        self.place.load().state()
    }

    /// Deletes the entries of `pages`; the 2 MiB entry, if there is one.
    pub(crate) fn delete(&mut self, pages: std::ops::Range<usize>) {
        let counters = self.index.counters.mine();
        match self.state() {
            SlotState::None => {}
            SlotState::Huge(old) => {
                change_locked(self.place, |seen| seen.with_state(SlotState::None).0);
                counters.entry_changed(ExtentSize::Huge, Some(old), None);
            }
            SlotState::Table { .. } => {
                let pin = pin();
                let Some(table) = self.table(&pin) else { return };
                for old in pages.filter_map(|page| table.delete(page)) {
                    counters.entry_changed(ExtentSize::Page, Some(old), None);
                }
            }
        }
    }

    /// Makes whatever entries there are one 2 MiB mapping that starts at `first`; dirty if any of
    /// them was, since what was stored to their bytes may not be on the medium.
    pub(crate) fn upgrade(&mut self, first: PageNo) {
        let is_dirty = self.is_dirty();
        self.delete(0..PAGES_PER_HUGE as usize);
        let entry = Entry::Mapping(first);
        change_locked(self.place, |seen| {
            let upgraded = seen.with_state(SlotState::Huge(entry)).0;
            if is_dirty { upgraded | DIRTY } else { upgraded }
        });
        self.index.counters.mine().entry_changed(ExtentSize::Huge, None, Some(entry));
    }

    /// The entries whose bytes were handed out for writing since they were last marked clean.
    pub(crate) fn dirty_entries(&self) -> Vec<DirtyEntry> {
        let word = self.place.load();
        match word.state() {
            SlotState::Huge(Entry::Mapping(physical)) if word.is_dirty() => {
                vec![DirtyEntry { index: 0, size: ExtentSize::Huge, physical }]
            }
            SlotState::Table { .. } => {
                let pin = pin();
                let Some(table) = self.table(&pin) else { return Vec::new() };
                let dirty = (0..PAGES_PER_HUGE as usize).filter(|&index| table.is_dirty(index));
                let entries = dirty.map(|index| match table.entry(index) {
                    Some(Entry::Mapping(physical)) => {
                        DirtyEntry { index, size: ExtentSize::Page, physical }
                    }
                    entry => unreachable!("{entry:?} is dirty"),
                });
                entries.collect()
            }
            _ => Vec::new(),
        }
    }

    /// The bytes of `entry` are on the medium, and nobody can still store to them.
    pub(crate) fn set_clean(&mut self, entry: DirtyEntry) {
        match entry.size {
            ExtentSize::Huge => change_locked(self.place, |seen| seen.0 & !DIRTY),
            ExtentSize::Page => {
                let pin = pin();
                self.table(&pin).expect("the table of a dirty entry").set_clean(entry.index);
            }
        }
    }

    fn is_dirty(&self) -> bool {
        let pin = pin();
        self.place.load().is_dirty() || self.table(&pin).is_some_and(Table::has_dirty)
    }

    fn table<'p>(&'p self, pin: &'p Pin) -> Option<&'p Table> {
        match self.state() {
            SlotState::Table { .. } => self.place.table(pin),
            _ => None,
        }
    }
}

impl Drop for LockedSlot<'_> {
    fn drop(&mut self) {
        let is_bare = {
            let pin = pin();
            self.table(&pin).is_some_and(|table| table.entries() == 0)
        };
        if is_bare {
            change_locked(self.place, |seen| seen.with_state(SlotState::None).0);
        }
        if !matches!(self.state(), SlotState::Table { .. }) {
            self.place.drop_table();
        }
        if self.place.is_marked_dirty() && !self.is_dirty() {
            self.place.mark_clean();
        }
        self.index.unlock_all(self.place.word(), |seen| seen);
    }
}
