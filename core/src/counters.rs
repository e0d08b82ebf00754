//! What the DAX layer counts, for observers and for tests that must not believe but see.
//!
//! Counters move only in faults, waits and entry changes, never per record or per read of a
//! mapped extent, so sharing them costs nothing that matters.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::entry::{Entry, EntryCounts};
use crate::units::ExtentSize;

/// Why a 2 MiB fault went on at 4 KiB. Not an error: the caller goes on.
///
/// Source: the conditions for `VM_FAULT_FALLBACK` in `dax_iomap_pmd_fault`, as far as they exist
/// where nothing is mapped at a user's address: a volume has no virtual colour.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum FallbackReason {
    /// The request covers only part of the slot, and asked for no more.
    RangeTooShort,
    /// The slot reaches past the end of the volume.
    PastEnd,
    /// The slot has a 4 KiB entry; 4 KiB entries are favoured.
    SmallerEntry,
    /// The slot has 4 KiB extents.
    ExtentTooShort,
    /// No whole huge page is free.
    NoHugePage,
}

impl FallbackReason {
    /// All reasons, in the order in which they are checked.
    pub const ALL: [Self; 5] = [
        Self::RangeTooShort,
        Self::PastEnd,
        Self::SmallerEntry,
        Self::ExtentTooShort,
        Self::NoHugePage,
    ];
}

impl fmt::Display for FallbackReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RangeTooShort => "range-too-short",
            Self::PastEnd => "past-end",
            Self::SmallerEntry => "smaller-entry",
            Self::ExtentTooShort => "extent-too-short",
            Self::NoHugePage => "no-huge-page",
        })
    }
}

/// Faults of a pool since it was opened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct FaultCounts {
    /// Answered by a 2 MiB extent.
    pub huge: u64,
    /// Answered by 4 KiB extents.
    pub page: u64,
    /// Answered by the shared zero extent.
    pub zero: u64,
    /// Extents that a fault allocated: 2 MiB.
    pub allocated_huge: u64,
    /// Extents that a fault allocated: 4 KiB.
    pub allocated_pages: u64,
    /// 2 MiB entries that made way for 4 KiB entries.
    pub downgrades: u64,
    /// Sleeps on a locked entry.
    pub waits: u64,
    /// Wake-ups sent.
    pub wakes: u64,
    /// 2 MiB faults that went on at 4 KiB, by reason, in the order of [`FallbackReason::ALL`].
    fallbacks: [u64; FallbackReason::ALL.len()],
}

impl FaultCounts {
    /// How many 2 MiB faults fell back for `reason`.
    pub fn fallbacks(&self, reason: FallbackReason) -> u64 {
        self.fallbacks[reason as usize]
    }

    /// How many fell back at all.
    pub fn all_fallbacks(&self) -> u64 {
        self.fallbacks.iter().sum()
    }
}

/// The counters of one pool.
#[derive(Default)]
pub(crate) struct Counters {
    pub huge: Counter,
    pub page: Counter,
    pub zero: Counter,
    pub allocated_huge: Counter,
    pub allocated_pages: Counter,
    pub downgrades: Counter,
    pub waits: Counter,
    pub wakes: Counter,
    fallbacks: [Counter; FallbackReason::ALL.len()],
    /// Entries by size and kind: 4 KiB empty, zero, mapping, then 2 MiB.
    entries: [[Counter; 3]; 2],
}

#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        // ORDERING: Relaxed throughout; counters order nothing.
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn subtract(&self, count: u64) {
        let before = self.0.fetch_sub(count, Ordering::Relaxed);
        debug_assert!(before >= count, "a counter of entries fell below zero");
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(crate) fn fell_back(&self, reason: FallbackReason) {
        self.fallbacks[reason as usize].add(1);
    }

    /// An entry of `size` came, went, or changed its kind.
    pub(crate) fn entry_changed(&self, size: ExtentSize, old: Option<Entry>, new: Option<Entry>) {
        if let Some(new) = new {
            self.entries_of(size, new).add(1);
        }
        if let Some(old) = old {
            self.entries_of(size, old).subtract(1);
        }
    }

    pub(crate) fn entry_counts(&self) -> EntryCounts {
        let mut counts = EntryCounts::default();
        for size in [ExtentSize::Page, ExtentSize::Huge] {
            for entry in [Entry::Empty, Entry::Zero, Entry::Mapping(crate::units::PageNo(0))] {
                *counts.of(entry, size) = self.entries_of(size, entry).get();
            }
        }
        counts
    }

    pub(crate) fn fault_counts(&self) -> FaultCounts {
        FaultCounts {
            huge: self.huge.get(),
            page: self.page.get(),
            zero: self.zero.get(),
            allocated_huge: self.allocated_huge.get(),
            allocated_pages: self.allocated_pages.get(),
            downgrades: self.downgrades.get(),
            waits: self.waits.get(),
            wakes: self.wakes.get(),
            fallbacks: self.fallbacks.each_ref().map(Counter::get),
        }
    }

    fn entries_of(&self, size: ExtentSize, entry: Entry) -> &Counter {
        let kind = match entry {
            Entry::Empty => 0,
            Entry::Zero => 1,
            Entry::Mapping(_) => 2,
        };
        &self.entries[usize::from(size == ExtentSize::Huge)][kind]
    }
}
