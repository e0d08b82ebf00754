//! Looking an entry up without a lock: what the CPU's page table is to the kernel's tree.
//!
//! 1. Only entries that are not locked answer, in slots that are not locked; anything else is
//!    nothing, and the caller faults.
//! 2. A zero is a view from some moment during the lookup. A mapping stays what it was if its
//!    range was pinned before: who takes mappings away locks the slot first and looks at pins
//!    second, so either it sees the pin, or the lookup sees the lock.

use super::directory::Place;
use super::locks::EntryIndex;
use crate::entry::{Entry, SlotState};
use crate::epoch::pin;
use crate::units::{ExtentSize, LogicalPage, PAGES_PER_HUGE, PageNo, PageRun};

/// What a mapping must be to answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    Mapped,
    /// For writing: then sync knows of it already.
    MappedAndDirty,
}

/// What a lookup found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// A hole of so many pages.
    Zero { pages: u64 },
    /// A run that starts at the page that was asked for.
    Mapping { run: PageRun, size: ExtentSize },
}

impl EntryIndex {
    /// The entry that covers `page`, and those after it that continue it, at most `pages_max` pages
    /// in all, within the slot.
    #[inline]
    pub(crate) fn lookup(&self, page: LogicalPage, pages_max: u64, need: Need) -> Option<Found> {
        let place = self.directory.existing(page.slot())?;
        let word = place.load();
        let Some(entry) = word.open_entry() else {
            return lookup_in_table(place, page, pages_max, need);
        };
        if need == Need::MappedAndDirty && !word.is_dirty() {
            return None;
        }
        let in_slot = page.index_in_slot() as u64;
        let pages = PAGES_PER_HUGE - in_slot;
        match entry {
            Entry::Empty => None,
            Entry::Zero => Some(Found::Zero { pages }),
            Entry::Mapping(first) => {
                let run = PageRun { first: first.plus(in_slot), pages };
                Some(Found::Mapping { run, size: ExtentSize::Huge })
            }
        }
    }
}

fn lookup_in_table(
    place: Place<'_>,
    page: LogicalPage,
    pages_max: u64,
    need: Need,
) -> Option<Found> {
    let word = place.load();
    if word.is_shut() || !matches!(word.state(), SlotState::Table { .. }) {
        return None;
    }
    let pin = pin();
    let table = place.table(&pin)?;
    let entry = |nth: u64| {
        let index = page.index_in_slot() + nth as usize;
        let word = table.load(index);
        let is_fit = need == Need::Mapped || table.is_dirty(index);
        word.entry().filter(|_| is_fit && !word.is_locked())
    };
    match entry(0)? {
        Entry::Empty => None,
        Entry::Zero => Some(Found::Zero { pages: 1 }),
        Entry::Mapping(first) => {
            let in_slot = PAGES_PER_HUGE - page.index_in_slot() as u64;
            let pages = run_from(first, pages_max.min(in_slot), entry)?;
            Some(Found::Mapping { run: PageRun { first, pages }, size: ExtentSize::Page })
        }
    }
}

/// How many entries from the first continue it. `None` where an entry is missing or locked, so that
/// only a fault can say whether the run goes on.
fn run_from(first: PageNo, pages_max: u64, entry: impl Fn(u64) -> Option<Entry>) -> Option<u64> {
    for nth in 1..pages_max {
        match entry(nth)? {
            Entry::Mapping(page) if page == first.plus(nth) => {}
            Entry::Empty => return None,
            Entry::Zero | Entry::Mapping(_) => return Some(nth),
        }
    }
    Some(pages_max.max(1))
}
