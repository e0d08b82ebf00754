//! What can be seen of the invariants when nobody is in the index.

use super::directory::Place;
use super::locks::{ALL_SLOTS, EntryIndex};
use crate::entry::{Entry, SlotState};
use crate::epoch::pin;
use crate::units::PAGES_PER_HUGE;
#[cfg(test)]
use {super::table::Table, crate::units::SlotNo};

impl EntryIndex {
    /// Panics unless the index is legal and nobody is in it. For tests, and for teardown.
    pub(crate) fn check_idle(&self) {
        for (slot, place) in self.directory.places(ALL_SLOTS) {
            let word = place.load();
            assert!(!word.is_shut() && !word.has_waiters(), "{slot:?} is in use: {word:?}");
            let is_dirty = match word.state() {
                SlotState::None => {
                    assert!(place.table(&pin()).is_none(), "a table under nothing");
                    false
                }
                SlotState::Huge(entry) => {
                    assert!(place.table(&pin()).is_none(), "a table under a 2 MiB entry");
                    let is_mapping = matches!(entry, Entry::Mapping(_));
                    assert!(is_mapping || !word.is_dirty(), "a dirty hole");
                    word.is_dirty()
                }
                SlotState::Table { inside } => {
                    assert_eq!(inside, 0, "operations inside an idle table");
                    check_table(place)
                }
            };
            assert_eq!(place.is_marked_dirty(), is_dirty, "dirty mark of {slot:?}");
        }
    }

    /// Whether anyone sleeps in `slot`, or is about to.
    #[cfg(test)]
    pub(crate) fn has_sleepers(&self, slot: SlotNo) -> bool {
        let place = self.directory.place(slot);
        let pin = pin();
        let table = place.table(&pin);
        let in_table = |table: &Table| {
            (0..PAGES_PER_HUGE as usize).any(|index| table.load(index).has_waiters())
        };
        place.load().has_waiters() || table.is_some_and(in_table)
    }
}

/// Panics unless the table of `place` is legal; says whether anything in it is dirty.
fn check_table(place: Place<'_>) -> bool {
    let pin = pin();
    let table = place.table(&pin).expect("a table");
    let mut entries = 0;
    for index in 0..PAGES_PER_HUGE as usize {
        let word = table.load(index);
        assert!(!word.is_locked() && !word.has_waiters(), "a 4 KiB entry is in use");
        let is_mapping = matches!(word.entry(), Some(Entry::Mapping(_)));
        assert!(is_mapping || !table.is_dirty(index), "a dirty hole");
        entries += u32::from(word.entry().is_some());
    }
    assert_eq!(entries, table.entries(), "entries of a table");
    assert_ne!(entries, 0, "a table without entries");
    table.has_dirty()
}
