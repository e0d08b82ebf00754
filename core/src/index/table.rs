//! The table of a slot that is used at 4 KiB: 512 entry words, and which of them are dirty.
//!
//! 8.2 bytes per page. What stands in a word changes under that word's lock, or with the slot locked.

use crate::entry::{Entry, PageWord};
use crate::primitives::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::units::PAGES_PER_HUGE;

pub(super) struct Table {
    pub words: [AtomicU64; PAGES_PER_HUGE as usize],
    /// A bit for each entry whose bytes were handed out for writing.
    dirty: [AtomicU64; (PAGES_PER_HUGE as usize).div_ceil(64)],
    /// Entries in the table; changed under the entry's lock.
    entries: AtomicU32,
    /// 2 MiB faults for writing that met this table since someone last tried to upgrade it.
    conflicts: AtomicU32,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            words: std::array::from_fn(|_| AtomicU64::new(0)),
            dirty: std::array::from_fn(|_| AtomicU64::new(0)),
            entries: AtomicU32::new(0),
            conflicts: AtomicU32::new(0),
        }
    }

    pub(super) fn load(&self, index: usize) -> PageWord {
        // ORDERING: Acquire; pairs with the Release of every unlock, and with `delete`.
        PageWord(self.words[index].load(Ordering::Acquire))
    }

    pub(super) fn entry(&self, index: usize) -> Option<Entry> {
        self.load(index).entry()
    }

    /// Entry `index` was born.
    pub(super) fn added(&self) {
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes entry `index` away and says what it was. The caller holds the slot.
    pub(super) fn delete(&self, index: usize) -> Option<Entry> {
        let old = self.entry(index)?;
        // ORDERING: Release; pairs with the Acquire in `load`.
        self.words[index].store(PageWord::NONE.0, Ordering::Release);
        self.set_clean(index);
        self.entries.fetch_sub(1, Ordering::Relaxed);
        Some(old)
    }

    pub(super) fn entries(&self) -> u32 {
        self.entries.load(Ordering::Relaxed)
    }

    pub(super) fn is_dirty(&self, index: usize) -> bool {
        self.dirty[index / 64].load(Ordering::Relaxed) & 1 << (index % 64) != 0
    }

    pub(super) fn has_dirty(&self) -> bool {
        self.dirty.iter().any(|word| word.load(Ordering::Relaxed) != 0)
    }

    pub(super) fn set_dirty(&self, index: usize) {
        self.dirty[index / 64].fetch_or(1 << (index % 64), Ordering::Relaxed);
    }

    pub(super) fn set_clean(&self, index: usize) {
        self.dirty[index / 64].fetch_and(!(1 << (index % 64)), Ordering::Relaxed);
    }

    /// One more 2 MiB fault fell back here.
    pub(super) fn count_conflict(&self) {
        self.conflicts.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether so many fell back; starts over if so.
    pub(super) fn take_conflicts(&self, wanted: u32) -> bool {
        let enough = self.conflicts.load(Ordering::Relaxed) >= wanted;
        if enough {
            self.conflicts.store(0, Ordering::Relaxed);
        }
        enough
    }
}
