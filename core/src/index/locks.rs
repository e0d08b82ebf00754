//! Taking the locks of the index: of a 2 MiB entry, of 4 KiB entries, of a whole slot.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use super::directory::{Directory, Place};
use super::locked::{LockedEntries, LockedHuge, LockedPage, LockedSlot};
use crate::counters::Counters;
use crate::entry::{DRAINING, Entry, INSIDE_ONE, LOCKED, SlotState, SlotWord};
use crate::epoch::{Pin, pin};
use crate::primitives::atomic::{AtomicU64, Ordering};
use crate::units::{ExtentSize, LogicalPage, PAGES_PER_HUGE, SlotNo};
use crate::wait::{self, WAITERS};

/// See the module: `index/mod.rs` has the invariants.
pub(crate) struct EntryIndex {
    pub(super) directory: Directory,
    pub(super) counters: Arc<Counters>,
}

/// A 2 MiB request met a 4 KiB entry. It does not wait for it: 4 KiB wins.
#[derive(Debug)]
pub(crate) struct SmallerEntry;

pub(super) const ALL_SLOTS: RangeInclusive<SlotNo> = SlotNo(0)..=SlotNo(u64::MAX);

impl EntryIndex {
    /// # Errors
    /// Without address space for it.
    pub(crate) fn new(counters: Arc<Counters>) -> io::Result<Self> {
        Ok(Self { directory: Directory::new()?, counters })
    }

    /// Locks the 2 MiB entry of `slot`, which is made if there is nothing.
    pub(crate) fn lock_huge(&self, slot: SlotNo) -> Result<LockedHuge<'_>, SmallerEntry> {
        let place = self.directory.place(slot);
        let mut slept = false;
        loop {
            let seen = place.load();
            let locked = match seen.state() {
                SlotState::Table { .. } if !seen.is_draining() => {
                    self.pass_wake_on(place.word(), slept);
                    return Err(SmallerEntry);
                }
                _ if seen.is_shut() => {
                    self.sleep(place.word(), seen.0, None);
                    slept = true;
                    continue;
                }
                SlotState::None => seen.with_state(SlotState::Huge(Entry::Empty)).0 | LOCKED,
                _ => seen.0 | LOCKED,
            };
            if place.exchange(seen, locked) {
                if seen.state() == SlotState::None {
                    self.counters.mine().entry_changed(ExtentSize::Huge, None, Some(Entry::Empty));
                }
                return Ok(LockedHuge { index: self, place });
            }
        }
    }

    /// Locks the entry that serves `page`: a 2 MiB mapping if there is one, else a 4 KiB entry,
    /// for which a 2 MiB entry that is zero or empty makes way.
    pub(crate) fn lock_page(&self, page: LogicalPage) -> LockedPage<'_> {
        let place = self.directory.place(page.slot());
        loop {
            let seen = place.load();
            match seen.state() {
                _ if seen.is_shut() => {
                    self.sleep(place.word(), seen.0, None);
                }
                SlotState::Huge(Entry::Mapping(_)) => {
                    if place.exchange(seen, seen.0 | LOCKED) {
                        return LockedPage::Huge(LockedHuge { index: self, place });
                    }
                }
                SlotState::Huge(_) => {
                    if place.exchange(seen, seen.0 | LOCKED) {
                        return LockedPage::Page(self.downgrade(place, page));
                    }
                }
                SlotState::None => {
                    let entered = seen.with_state(SlotState::Table { inside: 1 });
                    if self.enter(place, seen, entered) {
                        return LockedPage::Page(self.lock_inside(place, page));
                    }
                }
                SlotState::Table { .. } => {
                    if self.enter(place, seen, SlotWord(seen.0 + INSIDE_ONE)) {
                        return LockedPage::Page(self.lock_inside(place, page));
                    }
                }
            }
        }
    }

    /// Locks `slot` whole, whatever it holds, and every page of it that has no entry.
    pub(crate) fn lock_slot(&self, slot: SlotNo) -> LockedSlot<'_> {
        self.lock_slot_until(slot, None).expect("without a deadline it waits for ever")
    }

    /// As [`EntryIndex::lock_slot`]; `None` when `deadline` has passed, and nothing is changed.
    pub(crate) fn lock_slot_until(
        &self,
        slot: SlotNo,
        deadline: Option<Instant>,
    ) -> Option<LockedSlot<'_>> {
        let place = self.directory.place(slot);
        loop {
            let seen = place.load();
            match seen.state() {
                _ if seen.is_shut() => {
                    if !self.sleep(place.word(), seen.0, deadline) {
                        return None;
                    }
                }
                SlotState::Table { inside } if inside > 0 => {
                    if place.exchange(seen, seen.0 | DRAINING) {
                        let drained = self.drain(place, deadline);
                        // Not `then_some`: a lock that was not had must not be made, since it would
                        // be given back.
                        return drained.then(|| LockedSlot { index: self, place });
                    }
                }
                _ => {
                    if place.exchange(seen, seen.0 | LOCKED) {
                        return Some(LockedSlot { index: self, place });
                    }
                }
            }
        }
    }

    /// The slots of `slots` that have, or are about to have, an entry; in order.
    pub(crate) fn touched_slots(
        &self,
        slots: RangeInclusive<SlotNo>,
    ) -> impl Iterator<Item = SlotNo> {
        let places = self.directory.places(slots);
        places.filter(|(_, place)| place.load().0 != 0).map(|(slot, _)| slot)
    }

    /// The slots of `slots` with a dirty entry, in order: a snapshot.
    pub(crate) fn dirty_slots(&self, slots: RangeInclusive<SlotNo>) -> Vec<SlotNo> {
        self.directory.dirty_slots(slots)
    }

    /// Notes that a 2 MiB fault for writing met the 4 KiB entries of `slot`.
    pub(crate) fn count_conflict(&self, slot: SlotNo) {
        if let Some(table) = self.directory.place(slot).table(&pin()) {
            table.count_conflict();
        }
    }

    /// Whether `slot` has met `conflicts` such faults, and has `entries_min` entries. Says so once
    /// for every so many.
    pub(crate) fn wants_upgrade(&self, slot: SlotNo, conflicts: u32, entries_min: u32) -> bool {
        let Some(place) = self.directory.existing(slot) else { return false };
        if !matches!(place.load().state(), SlotState::Table { .. }) {
            return false;
        }
        let pin = pin();
        let table = place.table(&pin);
        table.is_some_and(|table| table.entries() >= entries_min && table.take_conflicts(conflicts))
    }

    /// Bytes of DRAM that it takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.directory.bytes(&pin())
    }

    /// Dirty bytes: 4 KiB or 2 MiB for each dirty entry. Right when nobody writes meanwhile.
    pub(crate) fn dirty_bytes(&self) -> u64 {
        let slots = self.dirty_slots(ALL_SLOTS).into_iter();
        slots.map(|slot| self.dirty_bytes_of(slot)).sum()
    }

    /// Those of `slot`.
    pub(crate) fn dirty_bytes_of(&self, slot: SlotNo) -> u64 {
        let Some(place) = self.directory.existing(slot) else { return 0 };
        let word = place.load();
        match word.state() {
            SlotState::Huge(_) if word.is_dirty() => ExtentSize::Huge.bytes(),
            SlotState::None | SlotState::Huge(_) => 0,
            SlotState::Table { .. } => {
                let pin = pin();
                let Some(table) = place.table(&pin) else { return 0 };
                let dirty = (0..PAGES_PER_HUGE as usize).filter(|&page| table.is_dirty(page));
                dirty.count() as u64 * ExtentSize::Page.bytes()
            }
        }
    }

    /// The holder of a zero or empty 2 MiB entry makes it a table with itself inside. The 2 MiB
    /// entry is gone, so everyone who slept on it must look again.
    fn downgrade<'a>(&'a self, place: Place<'a>, page: LogicalPage) -> LockedEntries<'a> {
        let SlotState::Huge(old) = place.load().state() else {
            unreachable!("lost a locked entry")
        };
        self.counters.mine().entry_changed(ExtentSize::Huge, Some(old), None);
        self.counters.mine().downgrades.add(1);
        let entered = SlotWord::of(SlotState::Table { inside: 1 });
        self.unlock_all(place.word(), |_| entered.0);
        self.lock_inside(place, page)
    }

    /// Enters a table that is not shut. Who enters unlocks no slot later, so it must wake all who
    /// still sleep on it: a wake that was meant for an entry before the table may have ended here.
    fn enter(&self, place: Place<'_>, seen: SlotWord, entered: SlotWord) -> bool {
        let done = place.exchange(seen, entered.0 & !WAITERS);
        if done && seen.has_waiters() {
            self.wake_all(place.word());
        }
        done
    }

    /// Locks the 4 KiB entry of `page`; the caller is inside the table, which keeps it in place.
    fn lock_inside<'a>(&'a self, place: Place<'a>, page: LogicalPage) -> LockedEntries<'a> {
        let table = place.table_or_new();
        let mut locked = LockedEntries { index: self, place, table, first: page, count: 0 };
        locked.extend();
        locked
    }

    /// Waits until nobody is inside, then turns the draining mark into the lock. Takes the mark
    /// back and says false when `deadline` has passed.
    fn drain(&self, place: Place<'_>, deadline: Option<Instant>) -> bool {
        loop {
            let seen = place.load();
            match seen.state() {
                SlotState::Table { inside: 0 } => {
                    if place.exchange(seen, seen.0 & !DRAINING | LOCKED) {
                        return true;
                    }
                }
                _ => {
                    if !self.sleep(place.word(), seen.0, deadline) && self.give_up(place) {
                        return false;
                    }
                }
            }
        }
    }

    /// Takes the draining mark back, so that those who slept on it enter; not if all have left now.
    fn give_up(&self, place: Place<'_>) -> bool {
        loop {
            let seen = place.load();
            if seen.state() == (SlotState::Table { inside: 0 }) {
                return false;
            }
            if place.exchange(seen, seen.0 & !(DRAINING | WAITERS)) {
                if seen.has_waiters() {
                    self.wake_all(place.word());
                }
                return true;
            }
        }
    }

    /// One operation leaves the table of `place`. The last one wakes who waits to have it alone.
    pub(super) fn leave(&self, place: Place<'_>) {
        loop {
            let seen = place.load();
            let left = seen.0 - INSIDE_ONE;
            let last = SlotWord(left).state() == SlotState::Table { inside: 0 };
            let wakes = last && seen.is_draining() && seen.has_waiters();
            let next = if wakes { left & !WAITERS } else { left };
            if place.exchange(seen, next) {
                if wakes {
                    self.wake_all(place.word());
                }
                return;
            }
        }
    }

    /// Sleeps while `word` is as it was seen; false when `deadline` has passed.
    pub(super) fn sleep(&self, word: &AtomicU64, seen: u64, deadline: Option<Instant>) -> bool {
        self.counters.mine().waits.add(1);
        wait::sleep_while(word, seen, deadline)
    }

    /// A waiter that was woken alone and does not lock wakes the next.
    fn pass_wake_on(&self, word: &AtomicU64, slept: bool) {
        if slept {
            self.counters.mine().wakes.add(1);
            wait::wake_one(word);
        }
    }

    fn wake_all(&self, word: &AtomicU64) {
        self.counters.mine().wakes.add(1);
        wait::wake_all(word);
    }

    /// Unlocks; the entry goes on, so the one who has waited longest is woken.
    pub(super) fn unlock_one(&self, word: &AtomicU64) {
        if unlock(word, |seen| seen) {
            self.counters.mine().wakes.add(1);
            wait::wake_one(word);
        }
    }

    /// Unlocks; the word has another meaning now, so all sleepers look again.
    pub(super) fn unlock_all(&self, word: &AtomicU64, new: impl Fn(u64) -> u64) {
        if unlock(word, new) {
            self.wake_all(word);
        }
    }
}

/// Replaces a locked word by `new` of it, unlocked, and says whether anyone waits.
pub(super) fn unlock(word: &AtomicU64, new: impl Fn(u64) -> u64) -> bool {
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        debug_assert_ne!(seen & LOCKED, 0, "unlocked twice");
        let next = new(seen) & !(LOCKED | WAITERS);
        // ORDERING: Release; pairs with the Acquire of whoever locks next.
        match word.compare_exchange_weak(seen, next, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return seen & WAITERS != 0,
            Err(changed) => seen = changed,
        }
    }
}

impl EntryIndex {
    /// Calls `visit` for every entry, with its position in its slot.
    pub(crate) fn for_each_entry(&self, visit: &mut dyn FnMut(SlotNo, ExtentSize, usize, Entry)) {
        let pin: Pin = pin();
        for (slot, place) in self.directory.places(ALL_SLOTS) {
            match place.load().state() {
                SlotState::None => {}
                SlotState::Huge(entry) => visit(slot, ExtentSize::Huge, 0, entry),
                SlotState::Table { .. } => {
                    let Some(table) = place.table(&pin) else { continue };
                    for page in 0..PAGES_PER_HUGE as usize {
                        if let Some(entry) = table.entry(page) {
                            visit(slot, ExtentSize::Page, page, entry);
                        }
                    }
                }
            }
        }
    }
}

impl Drop for EntryIndex {
    /// Takes the entries out of the pool's counters, which then are zero for this volume.
    fn drop(&mut self) {
        let counters = self.counters.mine();
        self.for_each_entry(&mut |_, size, _, old| counters.entry_changed(size, Some(old), None));
    }
}
