//! The entry index of a volume: which entry covers a logical page, and who may change it.
//!
//! Two levels, like the page table that it mirrors: a slot for each 2 MiB, and in a slot that is
//! used at 4 KiB a table of 512 entries. DRAM only; it is rebuilt by faults.
//! 1. At most one entry covers a page: a slot holds a 2 MiB entry or a table, never both.
//! 2. Entries are born locked and empty. Only the holder of its lock changes an entry.
//! 3. A 4 KiB operation is inside the table (counted in the slot word) from before it locks its
//!    entry until after it unlocked it. So a slot with nobody inside has no locked entry and no
//!    sleeper in its table.
//! 4. A slot is locked whole ([`LockedSlot`]) only with nobody inside: that is the intention lock
//!    which keeps all 512 pages locked out, whether they have entries or not.
//! 5. A table without entries turns back into nothing, or its slot would never be 2 MiB again.
//! 6. A thread holds locks in one slot only, and several 4 KiB locks only in ascending order. So
//!    waits form no cycle: who waits for a slot holds nothing; who waits for a 4 KiB lock is inside
//!    and holds only lower ones of that table.
//!
//! Source: `fs/dax.c` of Linux commit 642261ac995e (`grab_mapping_entry`), with the lock above
//! the entries that a kernel radix tree has no place for.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::counters::Counters;
use crate::entry::{DIRTY, DRAINING, Entry, INSIDE_ONE, LOCKED, PageWord, SlotState, SlotWord};
use crate::epoch::{EpochCell, pin};
use crate::units::{ExtentSize, LogicalPage, PAGES_PER_HUGE, SlotNo};
use crate::wait::{self, WAITERS};

/// Slots in a node of the directory.
const NODE_SLOTS: u64 = 512;

pub(crate) struct EntryIndex {
    /// One node for each GiB of the volume, made when it is first touched.
    nodes: Box<[OnceLock<Box<Node>>]>,
    counters: Arc<Counters>,
}

type Node = [Slot; NODE_SLOTS as usize];

/// 16 bytes for each 2 MiB.
struct Slot {
    word: AtomicU64,
    table: EpochCell<Table>,
}

/// 8.25 bytes for each 4 KiB.
struct Table {
    words: [AtomicU64; PAGES_PER_HUGE as usize],
    /// A bit for each entry whose bytes were handed out for writing.
    dirty: [AtomicU64; 8],
    /// Entries in the table; changed under the entry's lock.
    entries: AtomicU64,
}

/// A 2 MiB request met a 4 KiB entry. It does not wait for it: 4 KiB wins.
#[derive(Debug)]
pub(crate) struct SmallerEntry;

impl EntryIndex {
    pub(crate) fn new(volume_pages: u64, counters: Arc<Counters>) -> Self {
        let nodes = volume_pages.div_ceil(PAGES_PER_HUGE).div_ceil(NODE_SLOTS);
        Self { nodes: (0..nodes).map(|_| OnceLock::new()).collect(), counters }
    }

    /// Locks the 2 MiB entry of `slot`, which is made if there is nothing.
    pub(crate) fn lock_huge(&self, slot: SlotNo) -> Result<LockedHuge<'_>, SmallerEntry> {
        let place = self.slot(slot);
        let mut slept = false;
        loop {
            let seen = place.load();
            let locked = match seen.state() {
                SlotState::Table { .. } if !seen.is_draining() => {
                    self.pass_wake_on(&place.word, slept);
                    return Err(SmallerEntry);
                }
                _ if seen.is_shut() => {
                    self.sleep(&place.word, seen.0);
                    slept = true;
                    continue;
                }
                SlotState::None => seen.with_state(SlotState::Huge(Entry::Empty)).0 | LOCKED,
                _ => seen.0 | LOCKED,
            };
            if place.exchange(seen, locked) {
                if seen.state() == SlotState::None {
                    self.counters.entry_changed(ExtentSize::Huge, None, Some(Entry::Empty));
                }
                return Ok(LockedHuge { index: self, slot: place });
            }
        }
    }

    /// Locks the entry that serves `page`: a 2 MiB mapping if there is one, else a 4 KiB entry,
    /// for which a 2 MiB entry that is zero or empty makes way.
    pub(crate) fn lock_page(&self, page: LogicalPage) -> LockedPage<'_> {
        let place = self.slot(page.slot());
        loop {
            let seen = place.load();
            match seen.state() {
                _ if seen.is_shut() => self.sleep(&place.word, seen.0),
                SlotState::Huge(Entry::Mapping(_)) => {
                    if place.exchange(seen, seen.0 | LOCKED) {
                        return LockedPage::Huge(LockedHuge { index: self, slot: place });
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
        let place = self.slot(slot);
        loop {
            let seen = place.load();
            match seen.state() {
                _ if seen.is_shut() => self.sleep(&place.word, seen.0),
                SlotState::Table { inside } if inside > 0 => {
                    if place.exchange(seen, seen.0 | DRAINING) {
                        self.drain(place);
                        return LockedSlot { index: self, slot: place };
                    }
                }
                _ => {
                    if place.exchange(seen, seen.0 | LOCKED) {
                        return LockedSlot { index: self, slot: place };
                    }
                }
            }
        }
    }

    /// Whether `slot` has, or is about to have, an entry.
    pub(crate) fn is_touched(&self, slot: SlotNo) -> bool {
        let node = self.nodes[(slot.0 / NODE_SLOTS) as usize].get();
        node.is_some_and(|node| node[(slot.0 % NODE_SLOTS) as usize].load().0 != 0)
    }

    /// Slots that were touched, in order.
    pub(crate) fn touched_slots(&self) -> impl Iterator<Item = SlotNo> + '_ {
        let nodes = self.nodes.iter().enumerate().filter_map(|(n, node)| Some((n, node.get()?)));
        nodes.flat_map(|(n, node)| {
            let touched = node.iter().enumerate().filter(|(_, slot)| slot.load().0 != 0);
            touched.map(move |(index, _)| SlotNo(n as u64 * NODE_SLOTS + index as u64))
        })
    }

    /// Panics unless the index is legal and nobody is in it. For tests, and for teardown.
    pub(crate) fn check_idle(&self) {
        for node in self.nodes.iter().filter_map(OnceLock::get) {
            for slot in node.iter() {
                let word = slot.load();
                assert!(!word.is_shut() && !word.has_waiters(), "a slot is in use: {word:?}");
                match word.state() {
                    SlotState::None => assert!(slot.table.load(&pin()).is_none(), "spare table"),
                    SlotState::Huge(entry) => {
                        assert!(slot.table.load(&pin()).is_none(), "a table under a 2 MiB entry");
                        let is_mapping = matches!(entry, Entry::Mapping(_));
                        assert!(is_mapping || !word.is_dirty(), "a dirty hole");
                    }
                    SlotState::Table { inside } => {
                        assert_eq!(inside, 0, "operations inside an idle table");
                        slot.table.load(&pin()).expect("a table").check_idle();
                    }
                }
            }
        }
    }

    fn slot(&self, slot: SlotNo) -> &Slot {
        let node = &self.nodes[(slot.0 / NODE_SLOTS) as usize];
        let node = node.get_or_init(|| {
            Box::new(std::array::from_fn(|_| Slot {
                word: AtomicU64::new(0),
                table: EpochCell::empty(),
            }))
        });
        &node[(slot.0 % NODE_SLOTS) as usize]
    }

    /// The holder of a zero or empty 2 MiB entry makes it a table with itself inside. The 2 MiB
    /// entry is gone, so everyone who slept on it must look again.
    fn downgrade<'a>(&'a self, place: &'a Slot, page: LogicalPage) -> LockedEntries<'a> {
        let SlotState::Huge(old) = place.load().state() else {
            unreachable!("lost a locked entry")
        };
        self.counters.entry_changed(ExtentSize::Huge, Some(old), None);
        self.counters.downgrades.add(1);
        let entered = SlotWord::of(SlotState::Table { inside: 1 });
        self.unlock_all(&place.word, |_| entered.0);
        self.lock_inside(place, page)
    }

    /// Enters a table that is not shut. Who enters unlocks no slot later, so it must wake all who
    /// still sleep on it: a wake that was meant for an entry before the table may have ended here.
    fn enter(&self, place: &Slot, seen: SlotWord, entered: SlotWord) -> bool {
        let done = place.exchange(seen, entered.0 & !WAITERS);
        if done && seen.has_waiters() {
            self.counters.wakes.add(1);
            wait::wake_all(&place.word);
        }
        done
    }

    /// Locks the 4 KiB entry of `page`; the caller is inside the table, which keeps it in place.
    fn lock_inside<'a>(&'a self, place: &'a Slot, page: LogicalPage) -> LockedEntries<'a> {
        let table = place.table_or_new();
        let mut locked = LockedEntries { index: self, slot: place, table, first: page, count: 0 };
        locked.extend();
        locked
    }

    /// Waits until nobody is inside, then turns the draining mark into the lock.
    fn drain(&self, place: &Slot) {
        loop {
            let seen = place.load();
            match seen.state() {
                SlotState::Table { inside: 0 } => {
                    if place.exchange(seen, seen.0 & !DRAINING | LOCKED) {
                        return;
                    }
                }
                _ => self.sleep(&place.word, seen.0),
            }
        }
    }

    /// One operation leaves the table of `place`. The last one wakes who waits to have it alone.
    fn leave(&self, place: &Slot) {
        let mut seen = place.load();
        loop {
            let left = seen.0 - INSIDE_ONE;
            let last = SlotWord(left).state() == SlotState::Table { inside: 0 };
            let wakes = last && seen.is_draining() && seen.has_waiters();
            let next = if wakes { left & !WAITERS } else { left };
            if place.exchange(seen, next) {
                if wakes {
                    self.counters.wakes.add(1);
                    wait::wake_all(&place.word);
                }
                return;
            }
            seen = place.load();
        }
    }

    fn sleep(&self, word: &AtomicU64, seen: u64) {
        self.counters.waits.add(1);
        wait::sleep_while(word, seen);
    }

    /// A waiter that was woken alone and does not lock wakes the next.
    fn pass_wake_on(&self, word: &AtomicU64, slept: bool) {
        if slept {
            self.counters.wakes.add(1);
            wait::wake_one(word);
        }
    }

    /// Unlocks; the entry goes on, so the one who has waited longest is woken.
    fn unlock_one(&self, word: &AtomicU64, new: impl Fn(u64) -> u64) {
        if self.unlock(word, new) {
            self.counters.wakes.add(1);
            wait::wake_one(word);
        }
    }

    /// Unlocks; the word has another meaning now, so all sleepers look again.
    fn unlock_all(&self, word: &AtomicU64, new: impl Fn(u64) -> u64) {
        if self.unlock(word, new) {
            self.counters.wakes.add(1);
            wait::wake_all(word);
        }
    }

    /// Replaces a locked word by `new` of it, unlocked, and says whether anyone waits.
    fn unlock(&self, word: &AtomicU64, new: impl Fn(u64) -> u64) -> bool {
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
}

impl Slot {
    fn load(&self) -> SlotWord {
        // ORDERING: Acquire; pairs with the Release in `unlock` and `exchange`.
        SlotWord(self.word.load(Ordering::Acquire))
    }

    fn exchange(&self, seen: SlotWord, new: u64) -> bool {
        exchange_word(&self.word, seen.0, new)
    }

    /// The table; made by the first who is inside. Only callers that are inside may ask.
    fn table_or_new(&self) -> Arc<Table> {
        let pin = pin();
        loop {
            if let Some(table) = self.table.load_arc(&pin) {
                return table;
            }
            // Another thread may be faster: then its table serves.
            let _ = self.table.set_if_empty(Arc::new(Table::new()));
        }
    }
}

fn exchange_word(word: &AtomicU64, seen: u64, new: u64) -> bool {
    // ORDERING: AcqRel; Acquire pairs with the Release of the last unlock, Release with the loads
    // of whoever finds the word locked.
    word.compare_exchange(seen, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

impl Table {
    fn new() -> Self {
        Self {
            words: std::array::from_fn(|_| AtomicU64::new(0)),
            dirty: std::array::from_fn(|_| AtomicU64::new(0)),
            entries: AtomicU64::new(0),
        }
    }

    fn entry(&self, index: usize) -> Option<Entry> {
        PageWord(self.words[index].load(Ordering::Acquire)).entry()
    }

    fn is_dirty(&self, index: usize) -> bool {
        self.dirty[index / 64].load(Ordering::Relaxed) & 1 << (index % 64) != 0
    }

    fn set_dirty(&self, index: usize, dirty: bool) {
        let bit = 1 << (index % 64);
        match dirty {
            true => self.dirty[index / 64].fetch_or(bit, Ordering::Relaxed),
            false => self.dirty[index / 64].fetch_and(!bit, Ordering::Relaxed),
        };
    }

    fn check_idle(&self) {
        let mut entries = 0;
        for index in 0..PAGES_PER_HUGE as usize {
            let word = PageWord(self.words[index].load(Ordering::Acquire));
            assert!(!word.is_locked() && !word.has_waiters(), "a 4 KiB entry is in use");
            let is_mapping = matches!(word.entry(), Some(Entry::Mapping(_)));
            assert!(is_mapping || !self.is_dirty(index), "a dirty hole");
            entries += u64::from(word.entry().is_some());
        }
        assert_eq!(entries, self.entries.load(Ordering::Relaxed), "entries of a table");
        assert_ne!(entries, 0, "a table without entries");
    }
}

/// The lock of a 2 MiB entry. Dropping it unlocks and wakes one.
pub(crate) struct LockedHuge<'a> {
    index: &'a EntryIndex,
    slot: &'a Slot,
}

impl LockedHuge<'_> {
    pub(crate) fn entry(&self) -> Entry {
        match self.slot.load().state() {
            SlotState::Huge(entry) => entry,
            state => unreachable!("{state:?} under the lock of a 2 MiB entry"),
        }
    }

    /// Replaces a zero or empty entry; a mapping is never replaced by a fault.
    pub(crate) fn set(&mut self, entry: Entry) {
        let old = self.entry();
        assert!(!matches!(old, Entry::Mapping(_)), "a mapping was replaced");
        self.change(|seen| seen.with_state(SlotState::Huge(entry)).0);
        self.index.counters.entry_changed(ExtentSize::Huge, Some(old), Some(entry));
    }

    /// Its bytes are about to be handed out for writing.
    pub(crate) fn set_dirty(&mut self) {
        debug_assert!(matches!(self.entry(), Entry::Mapping(_)), "a hole cannot be dirty");
        self.change(|seen| seen.0 | DIRTY);
    }

    /// Changes the word; only waiters announcing themselves can interfere.
    fn change(&self, new: impl Fn(SlotWord) -> u64) {
        change_locked(self.slot, new);
    }
}

impl Drop for LockedHuge<'_> {
    fn drop(&mut self) {
        self.index.unlock_one(&self.slot.word, |seen| seen);
    }
}

fn change_locked(slot: &Slot, new: impl Fn(SlotWord) -> u64) {
    loop {
        let seen = slot.load();
        if slot.exchange(seen, new(seen)) {
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
    index: &'a EntryIndex,
    slot: &'a Slot,
    table: Arc<Table>,
    first: LogicalPage,
    count: usize,
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
                self.index.sleep(word, seen.0);
                continue;
            }
            let locked = match seen.entry() {
                Some(_) => seen.0 | LOCKED,
                None => seen.with_entry(Entry::Empty).0 | LOCKED,
            };
            if exchange_word(word, seen.0, locked) {
                if seen.entry().is_none() {
                    self.table.entries.fetch_add(1, Ordering::Relaxed);
                    let counters = &self.index.counters;
                    counters.entry_changed(ExtentSize::Page, None, Some(Entry::Empty));
                }
                self.count += 1;
                return;
            }
        }
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
        self.index.counters.entry_changed(ExtentSize::Page, Some(old), Some(entry));
    }

    /// Its bytes are about to be handed out for writing.
    pub(crate) fn set_dirty(&mut self, nth: usize) {
        debug_assert!(matches!(self.entry(nth), Entry::Mapping(_)), "a hole cannot be dirty");
        self.table.set_dirty(self.first.index_in_slot() + nth, true);
    }

    fn word(&self, nth: usize) -> &AtomicU64 {
        &self.table.words[self.first.index_in_slot() + nth]
    }
}

impl Drop for LockedEntries<'_> {
    fn drop(&mut self) {
        for nth in 0..self.count {
            self.index.unlock_one(self.word(nth), |seen| seen);
        }
        self.index.leave(self.slot);
    }
}

/// A slot locked whole. Dropping it unlocks and wakes all, since anything may have changed.
pub(crate) struct LockedSlot<'a> {
    index: &'a EntryIndex,
    slot: &'a Slot,
}

/// A dirty range of a slot: which pages of it, the physical page where it starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DirtyEntry {
    pub index: usize,
    pub size: ExtentSize,
    pub physical: crate::units::PageNo,
}

impl LockedSlot<'_> {
    pub(crate) fn state(&self) -> SlotState {
        self.slot.load().state()
    }

    fn table(&self) -> Option<Arc<Table>> {
        match self.state() {
            SlotState::Table { .. } => self.slot.table.load_arc(&pin()),
            _ => None,
        }
    }

    /// Deletes the entries of `pages`; the 2 MiB entry, if there is one.
    pub(crate) fn delete(&mut self, pages: std::ops::Range<usize>) {
        match self.table() {
            Some(table) => pages.for_each(|index| {
                if let Some(old) = table.entry(index) {
                    table.words[index].store(PageWord::NONE.0, Ordering::Release);
                    table.set_dirty(index, false);
                    table.entries.fetch_sub(1, Ordering::Relaxed);
                    self.index.counters.entry_changed(ExtentSize::Page, Some(old), None);
                }
            }),
            None => {
                if let SlotState::Huge(old) = self.state() {
                    change_locked(self.slot, |seen| seen.with_state(SlotState::None).0);
                    self.index.counters.entry_changed(ExtentSize::Huge, Some(old), None);
                }
            }
        }
    }

    /// The entries whose bytes were handed out for writing since they were last marked clean.
    pub(crate) fn dirty_entries(&self) -> Vec<DirtyEntry> {
        let Some(table) = self.table() else {
            let word = self.slot.load();
            return match word.state() {
                SlotState::Huge(Entry::Mapping(physical)) if word.is_dirty() => {
                    vec![DirtyEntry { index: 0, size: ExtentSize::Huge, physical }]
                }
                _ => Vec::new(),
            };
        };
        let dirty = (0..PAGES_PER_HUGE as usize).filter(|&index| table.is_dirty(index));
        dirty
            .map(|index| match table.entry(index) {
                Some(Entry::Mapping(physical)) => {
                    DirtyEntry { index, size: ExtentSize::Page, physical }
                }
                entry => unreachable!("{entry:?} is dirty"),
            })
            .collect()
    }

    /// The bytes of `entry` are on the medium, and nobody can still store to them.
    pub(crate) fn set_clean(&mut self, entry: DirtyEntry) {
        match self.table() {
            Some(table) => table.set_dirty(entry.index, false),
            None => change_locked(self.slot, |seen| seen.0 & !DIRTY),
        }
    }
}

impl Drop for LockedSlot<'_> {
    fn drop(&mut self) {
        let is_bare = |table: &Table| table.entries.load(Ordering::Relaxed) == 0;
        if self.table().is_some_and(|table| is_bare(&table)) {
            change_locked(self.slot, |seen| seen.with_state(SlotState::None).0);
        }
        if !matches!(self.state(), SlotState::Table { .. }) {
            self.slot.table.replace(None);
        }
        self.index.unlock_all(&self.slot.word, |seen| seen);
    }
}

impl Drop for EntryIndex {
    /// Takes the entries out of the pool's counters, which then are zero for this volume.
    fn drop(&mut self) {
        for node in self.nodes.iter().filter_map(OnceLock::get) {
            for slot in node.iter() {
                match slot.load().state() {
                    SlotState::None => {}
                    SlotState::Huge(old) => {
                        self.counters.entry_changed(ExtentSize::Huge, Some(old), None);
                    }
                    SlotState::Table { .. } => {
                        let table = slot.table.load_arc(&pin()).expect("a table");
                        for old in (0..PAGES_PER_HUGE as usize).filter_map(|n| table.entry(n)) {
                            self.counters.entry_changed(ExtentSize::Page, Some(old), None);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::PageNo;
    use std::sync::atomic::AtomicBool;
    use std::thread;
    use std::time::Duration;

    const PAGES: u64 = 4 * PAGES_PER_HUGE;

    fn index() -> EntryIndex {
        EntryIndex::new(PAGES, Arc::default())
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
        assert_eq!(index.touched_slots().collect::<Vec<_>>(), [SlotNo(0)]);
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
            let word = &held.slot.word;
            std::mem::forget(held);
            assert!(index.unlock(word, |seen| seen));
            assert!(page_of_table(&index, 3));
            wait::wake_one(word);
            let woken: Vec<_> =
                (0..2).map(|_| results.recv_timeout(Duration::from_secs(5))).collect();
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
    fn neighbours_are_locked_in_ascending_order_without_deadlock() {
        let index = index();
        thread::scope(|scope| {
            for thread in 0..4u64 {
                let index = &index;
                scope.spawn(move || {
                    for round in 0..500 {
                        let first = (thread + round) % 8;
                        let LockedPage::Page(mut locked) = index.lock_page(LogicalPage(first))
                        else {
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
}
