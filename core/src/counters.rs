//! What the DAX layer counts, for observers and for tests that must not believe but see.
//!
//! Counters move only in faults, waits, upgrades and entry changes, never per record or per lookup
//! of an extent that is mapped already.

use std::array;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::entry::{Entry, EntryCounts};
use crate::units::{ExtentSize, PageNo};

/// An enum whose values have names and are counted: all of them in order, and how each is shown.
macro_rules! counted {
    ($(#[$about:meta])* $name:ident { $($(#[$note:meta])* $value:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$note])* $value,)+
        }

        impl $name {
            /// All of them, in order.
            pub const ALL: [Self; [$($text),+].len()] = [$(Self::$value),+];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self {
                    $(Self::$value => $text,)+
                })
            }
        }
    };
}

counted! {
    /// What a fault is for.
    Access {
        /// Reading; holes stay holes.
        Read = "read",
        /// Writing; holes get extents of zeros, and the entry becomes dirty.
        Write = "write",
        /// Appending to a hole; it gets an extent whose bytes the caller owns and persists itself.
        Append = "append",
        /// Taking over what an earlier life appended; holes stay holes.
        Adopt = "adopt",
    }
}

counted! {
    /// How a fault ended.
    FaultOutcome {
        /// Answered by a 2 MiB extent.
        Huge = "huge",
        /// Answered by 4 KiB extents.
        Page = "page",
        /// Answered by the shared zero extent: a hole of the whole slot.
        HugeZero = "huge-zero",
        /// Answered by a page of the shared zero extent.
        PageZero = "page-zero",
        /// Refused, with an error.
        Failed = "failed",
    }
}

counted! {
    /// Why a 2 MiB fault went on at 4 KiB. Not an error: the caller goes on.
    ///
    /// In the order in which they are checked. Source: the conditions for `VM_FAULT_FALLBACK` in
    /// `dax_iomap_pmd_fault`, as far as they exist where nothing is mapped at a user's address:
    /// docs/decisions/0007-kernel-dax-bugs.md says what became of the others.
    FallbackReason {
        /// The request covers only part of the slot, and asked for no more.
        RangeTooShort = "range-too-short",
        /// The slot reaches past the end of the volume.
        PastEnd = "past-end",
        /// The slot has a 4 KiB entry; 4 KiB entries are favoured.
        SmallerEntry = "smaller-entry",
        /// The slot has 4 KiB extents.
        ExtentTooShort = "extent-too-short",
        /// No whole huge page is free.
        NoHugePage = "no-huge-page",
    }
}

counted! {
    /// Why 4 KiB extents were not upgraded to a 2 MiB one. Not an error: nothing was changed.
    Refusal {
        /// The slot reaches past the end of the volume.
        PastEnd = "past-end",
        /// Operations inside the slot did not end in time.
        InUse = "in-use",
        /// Fewer pages are mapped than asked for.
        TooFewPages = "too-few-pages",
        /// The pages would have to be moved, and a guard reaches them.
        Pinned = "pinned",
        /// The pages would have to be moved, and no whole huge page is free.
        NoHugePage = "no-huge-page",
    }
}

/// What the DAX layer of a pool did since it was opened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct FaultCounts {
    /// Extents that a fault allocated: 2 MiB.
    pub allocated_huge: u64,
    /// Extents that a fault allocated: 4 KiB.
    pub allocated_pages: u64,
    /// 2 MiB entries that made way for 4 KiB entries.
    pub downgrades: u64,
    /// Slots whose pages were one aligned run and became a 2 MiB extent where they are.
    pub upgraded_in_place: u64,
    /// Slots whose pages were moved to a whole huge page.
    pub relocated: u64,
    /// Sleeps on a locked entry.
    pub waits: u64,
    /// Wake-ups sent.
    pub wakes: u64,
    faults: [[u64; FaultOutcome::ALL.len()]; Access::ALL.len()],
    fallbacks: [u64; FallbackReason::ALL.len()],
    refusals: [u64; Refusal::ALL.len()],
}

impl FaultCounts {
    /// Faults for `access` that ended with `outcome`. What is found by a lookup, without a fault, is
    /// not counted.
    pub fn faults(&self, access: Access, outcome: FaultOutcome) -> u64 {
        self.faults[access as usize][outcome as usize]
    }

    /// Faults that ended with `outcome`, whatever they were for.
    pub fn outcomes(&self, outcome: FaultOutcome) -> u64 {
        self.faults.iter().map(|of_access| of_access[outcome as usize]).sum()
    }

    /// How many 2 MiB faults fell back for `reason`.
    pub fn fallbacks(&self, reason: FallbackReason) -> u64 {
        self.fallbacks[reason as usize]
    }

    /// How many fell back at all.
    pub fn all_fallbacks(&self) -> u64 {
        self.fallbacks.iter().sum()
    }

    /// How many upgrades were refused for `reason`.
    pub fn refusals(&self, reason: Refusal) -> u64 {
        self.refusals[reason as usize]
    }
}

/// The counters of one pool, in stripes, so that threads that fault side by side share no line.
#[derive(Default)]
pub(crate) struct Counters {
    stripes: [Stripe; STRIPES],
}

const STRIPES: usize = 8;

/// What one of every [`STRIPES`] threads counted.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Stripe {
    pub allocated_huge: Counter,
    pub allocated_pages: Counter,
    pub downgrades: Counter,
    pub upgraded_in_place: Counter,
    pub relocated: Counter,
    pub waits: Counter,
    pub wakes: Counter,
    faults: [[Counter; FaultOutcome::ALL.len()]; Access::ALL.len()],
    fallbacks: [Counter; FallbackReason::ALL.len()],
    refusals: [Counter; Refusal::ALL.len()],
    /// Entries by size and kind: 4 KiB empty, zero, mapping, then 2 MiB. They come in one stripe and
    /// go in another, so only the sum over all stripes is a number of entries.
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
        self.0.fetch_sub(count, Ordering::Relaxed);
    }
}

impl Stripe {
    pub(crate) fn faulted(&self, access: Access, outcome: FaultOutcome) {
        self.faults[access as usize][outcome as usize].add(1);
    }

    pub(crate) fn fell_back(&self, reason: FallbackReason) {
        self.fallbacks[reason as usize].add(1);
    }

    pub(crate) fn refused(&self, reason: Refusal) {
        self.refusals[reason as usize].add(1);
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

    fn entries_of(&self, size: ExtentSize, entry: Entry) -> &Counter {
        let kind = match entry {
            Entry::Empty => 0,
            Entry::Zero => 1,
            Entry::Mapping(_) => 2,
        };
        &self.entries[usize::from(size == ExtentSize::Huge)][kind]
    }
}

impl Counters {
    /// Where the current thread counts.
    pub(crate) fn mine(&self) -> &Stripe {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
        }
        // A thread that is being torn down counts with the first.
        &self.stripes[MINE.try_with(|mine| *mine).unwrap_or(0)]
    }

    pub(crate) fn entry_counts(&self) -> EntryCounts {
        let mut counts = EntryCounts::default();
        for size in [ExtentSize::Page, ExtentSize::Huge] {
            for entry in [Entry::Empty, Entry::Zero, Entry::Mapping(PageNo(0))] {
                *counts.of(entry, size) = self.sum(|stripe| stripe.entries_of(size, entry));
            }
        }
        counts
    }

    pub(crate) fn fault_counts(&self) -> FaultCounts {
        FaultCounts {
            allocated_huge: self.sum(|stripe| &stripe.allocated_huge),
            allocated_pages: self.sum(|stripe| &stripe.allocated_pages),
            downgrades: self.sum(|stripe| &stripe.downgrades),
            upgraded_in_place: self.sum(|stripe| &stripe.upgraded_in_place),
            relocated: self.sum(|stripe| &stripe.relocated),
            waits: self.sum(|stripe| &stripe.waits),
            wakes: self.sum(|stripe| &stripe.wakes),
            faults: array::from_fn(|access| {
                array::from_fn(|outcome| self.sum(|stripe| &stripe.faults[access][outcome]))
            }),
            fallbacks: array::from_fn(|reason| self.sum(|stripe| &stripe.fallbacks[reason])),
            refusals: array::from_fn(|reason| self.sum(|stripe| &stripe.refusals[reason])),
        }
    }

    fn sum(&self, counter: impl Fn(&Stripe) -> &Counter) -> u64 {
        let counts = self.stripes.iter().map(|stripe| counter(stripe).0.load(Ordering::Relaxed));
        counts.fold(0, u64::wrapping_add)
    }
}
