//! The words of the entry index: six kinds of entry, and the lock that each is born with.
//!
//! 1. There is a payload only where there is a mapping; the types know no other.
//! 2. A slot word is one of: none, one 2 MiB entry, or a table of 4 KiB entries with the number of
//!    4 KiB operations inside it (an intention lock).
//! 3. [`LOCKED`] in a slot word with a 2 MiB entry is that entry's lock; with a table or nothing it
//!    locks the whole slot, and is set over a table only when nobody is inside.
//!
//! Source: the radix tree entries of Linux commit 642261ac995e ("dax: add struct iomap based DAX
//! PMD support"); the level above the entries is ours.

use crate::units::{ExtentSize, PageNo};
use crate::wait::WAITERS;

/// The entry, or the slot, is locked.
pub(crate) const LOCKED: u64 = 1 << 2;
/// Someone waits for the operations inside the table to leave; no new ones enter.
pub(crate) const DRAINING: u64 = 1 << 4;
const ZERO: u64 = 1 << 5;
const EMPTY: u64 = 1 << 6;
/// Bytes of a 2 MiB entry were handed out for writing.
pub(crate) const DIRTY: u64 = 1 << 7;
const KIND: u64 = 0b11;
const KIND_NONE: u64 = 0;
const KIND_ENTRY: u64 = 1;
const KIND_TABLE: u64 = 2;
const INSIDE_SHIFT: u32 = 8;
const INSIDE: u64 = 0xffff << INSIDE_SHIFT;
/// One more operation inside a table.
pub(crate) const INSIDE_ONE: u64 = 1 << INSIDE_SHIFT;
const PAYLOAD_SHIFT: u32 = 24;

/// What an entry says about its range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// Nothing yet: it exists to hold the lock during a fault.
    Empty,
    /// A hole, answered by the shared zero extent.
    Zero,
    /// An extent that starts at this page.
    Mapping(PageNo),
}

/// What a slot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SlotState {
    None,
    Huge(Entry),
    /// 4 KiB entries, with so many operations inside.
    Table {
        inside: u64,
    },
}

/// The word of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SlotWord(pub u64);

impl SlotWord {
    pub(crate) fn state(self) -> SlotState {
        match self.0 & KIND {
            KIND_NONE => SlotState::None,
            KIND_ENTRY => SlotState::Huge(decode(self.0)),
            _ => SlotState::Table { inside: (self.0 & INSIDE) >> INSIDE_SHIFT },
        }
    }

    /// The 2 MiB entry, if nobody has locked it: what most lookups find, by one comparison.
    #[inline]
    pub(crate) fn open_entry(self) -> Option<Entry> {
        (self.0 & (KIND | LOCKED | DRAINING) == KIND_ENTRY).then(|| decode(self.0))
    }

    /// Whether nobody may enter now.
    pub(crate) fn is_shut(self) -> bool {
        self.0 & (LOCKED | DRAINING) != 0
    }

    pub(crate) fn is_draining(self) -> bool {
        self.0 & DRAINING != 0
    }

    pub(crate) fn is_dirty(self) -> bool {
        self.0 & DIRTY != 0
    }

    pub(crate) fn has_waiters(self) -> bool {
        self.0 & WAITERS != 0
    }

    /// The same lock bits over another state; a new state is clean.
    pub(crate) fn with_state(self, state: SlotState) -> Self {
        let locks = self.0 & (LOCKED | WAITERS | DRAINING);
        Self(locks | Self::of(state).0)
    }

    /// `state`, unlocked, clean and with nobody waiting.
    pub(crate) fn of(state: SlotState) -> Self {
        Self(match state {
            SlotState::None => KIND_NONE,
            SlotState::Huge(entry) => KIND_ENTRY | encode(entry),
            SlotState::Table { inside } => KIND_TABLE | inside << INSIDE_SHIFT,
        })
    }
}

/// The word of a 4 KiB entry in a table; zero if there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PageWord(pub u64);

impl PageWord {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn entry(self) -> Option<Entry> {
        (self.0 & KIND == KIND_ENTRY).then(|| decode(self.0))
    }

    pub(crate) fn is_locked(self) -> bool {
        self.0 & LOCKED != 0
    }

    pub(crate) fn has_waiters(self) -> bool {
        self.0 & WAITERS != 0
    }

    /// The same lock bits over another entry.
    pub(crate) fn with_entry(self, entry: Entry) -> Self {
        Self(self.0 & (LOCKED | WAITERS) | KIND_ENTRY | encode(entry))
    }
}

fn encode(entry: Entry) -> u64 {
    match entry {
        Entry::Empty => EMPTY,
        Entry::Zero => ZERO,
        Entry::Mapping(page) => page.0 << PAYLOAD_SHIFT,
    }
}

#[inline]
fn decode(word: u64) -> Entry {
    if word & EMPTY != 0 {
        Entry::Empty
    } else if word & ZERO != 0 {
        Entry::Zero
    } else {
        Entry::Mapping(PageNo(word >> PAYLOAD_SHIFT))
    }
}

/// Number of entries in an index by kind; all zero when the index is torn down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct EntryCounts {
    /// 4 KiB, only a lock.
    pub page_empty: u64,
    /// 4 KiB holes.
    pub page_zero: u64,
    /// 4 KiB extents.
    pub page_mapping: u64,
    /// 2 MiB, only a lock.
    pub huge_empty: u64,
    /// 2 MiB holes.
    pub huge_zero: u64,
    /// 2 MiB extents.
    pub huge_mapping: u64,
}

impl EntryCounts {
    pub(crate) fn add(&mut self, other: Self) {
        self.page_empty += other.page_empty;
        self.page_zero += other.page_zero;
        self.page_mapping += other.page_mapping;
        self.huge_empty += other.huge_empty;
        self.huge_zero += other.huge_zero;
        self.huge_mapping += other.huge_mapping;
    }

    /// The counter of `entry` at `size`.
    pub(crate) fn of(&mut self, entry: Entry, size: ExtentSize) -> &mut u64 {
        match (size, entry) {
            (ExtentSize::Page, Entry::Empty) => &mut self.page_empty,
            (ExtentSize::Page, Entry::Zero) => &mut self.page_zero,
            (ExtentSize::Page, Entry::Mapping(_)) => &mut self.page_mapping,
            (ExtentSize::Huge, Entry::Empty) => &mut self.huge_empty,
            (ExtentSize::Huge, Entry::Zero) => &mut self.huge_zero,
            (ExtentSize::Huge, Entry::Mapping(_)) => &mut self.huge_mapping,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRIES: [Entry; 4] = [
        Entry::Empty,
        Entry::Zero,
        Entry::Mapping(PageNo(0)),
        Entry::Mapping(PageNo((1 << 40) - 1)),
    ];

    #[test]
    fn slot_words_decode_to_what_was_encoded_whatever_the_lock_bits() {
        let tables = [0, 1, 0xffff].map(|inside| SlotState::Table { inside });
        let states =
            ENTRIES.map(SlotState::Huge).into_iter().chain(tables).chain([SlotState::None]);
        for state in states {
            for locks in [0, LOCKED, WAITERS, DRAINING, LOCKED | WAITERS, WAITERS | DRAINING] {
                let word = SlotWord(SlotWord::of(state).0 | locks);
                assert_eq!(word.state(), state);
                assert_eq!(word.is_shut(), locks & (LOCKED | DRAINING) != 0);
                assert_eq!(word.has_waiters(), locks & WAITERS != 0);
                assert_eq!(word.with_state(SlotState::None).0, locks);
                let open = match state {
                    SlotState::Huge(entry) if !word.is_shut() => Some(entry),
                    _ => None,
                };
                assert_eq!(word.open_entry(), open);
            }
        }
    }

    #[test]
    fn page_words_decode_to_what_was_encoded() {
        assert_eq!(PageWord::NONE.entry(), None);
        for entry in ENTRIES {
            let word = PageWord(LOCKED).with_entry(entry);
            assert_eq!(word.entry(), Some(entry));
            assert!(word.is_locked());
            assert!(!word.has_waiters());
        }
    }
}
