//! Punching and zeroing: taking bytes away that no guard reaches.
//!
//! 1. Guards are waited for with no lock held, since their holders may need one; then the slot is
//!    locked and pins are looked at again. Whoever pins later waits for the slot.
//! 2. Whole pages are given back; parts of pages, and part of a huge page, are zeroed in place. A 2 MiB
//!    mapping is never split: that would cost a table, and the huge page.
//! 3. Slots without entries and extents are passed over; no memory is spent on them.

use std::ops::Range;
use std::time::Instant;

use crate::entry::SlotState;
use crate::error::{Error, Result};
use crate::extent_map::Word;
use crate::index::LockedSlot;
use crate::persist::{Flushed, fence_all, store_zeros};
use crate::units::{
    ByteRange, HUGE, LogicalPage, LogicalRange, Offset, PAGE, PAGES_PER_HUGE, SlotNo,
};
use crate::volume::VolumeShared;

impl VolumeShared {
    pub(crate) fn punch(&self, range: LogicalRange, deadline: Option<Instant>) -> Result<()> {
        self.without_guards(range, deadline, |part, locked| self.punch_slot(part, locked))
    }

    pub(crate) fn zero(&self, range: LogicalRange, deadline: Option<Instant>) -> Result<()> {
        self.without_guards(range, deadline, |part, _| self.zero_mapped([part]))
    }

    /// Waits until no guard is in `range`, slot by slot, and says which slots have anything. The
    /// caller holds no lock that the holder of a guard needs.
    pub(crate) fn wait_unpinned(
        &self,
        range: LogicalRange,
        deadline: Option<Instant>,
    ) -> Result<Vec<SlotNo>> {
        let mut slots = self.map.mapped_slots(range.slots())?;
        slots.extend(self.index.touched_slots(range.slots()));
        slots.sort_unstable();
        slots.dedup();
        for slot in &slots {
            self.pins.wait_unpinned(range.within(*slot), deadline)?;
        }
        Ok(slots)
    }

    /// Calls `act` for the part of `range` in each slot that has anything, with the slot locked and
    /// no guard in that part.
    fn without_guards(
        &self,
        range: LogicalRange,
        deadline: Option<Instant>,
        act: impl Fn(LogicalRange, &mut LockedSlot<'_>) -> Result<()>,
    ) -> Result<()> {
        for slot in self.wait_unpinned(range, deadline)? {
            let part = range.within(slot);
            loop {
                let mut locked = self.index.lock_slot(slot);
                if !self.pins.is_pinned(part) {
                    act(part, &mut locked)?;
                    break;
                }
                drop(locked);
                self.pins.wait_unpinned(part, deadline)?;
            }
        }
        Ok(())
    }

    /// Punches a range within one slot, and all of the slot behind it if it reaches the end of the
    /// volume: there is nothing to keep there, neither of a page nor of a huge page that was cut in
    /// its middle. Whether it does is asked under the lock, and after pins were looked at: who stores
    /// behind an end that moved on meanwhile was seen, or waits for the slot.
    fn punch_slot(&self, part: LogicalRange, locked: &mut LockedSlot<'_>) -> Result<()> {
        let reaches_end = part.end() == Some(self.end_bytes());
        let range = if reaches_end { up_to_slot_end(part) } else { part };
        let slot = range.first_page().slot();
        let pages = whole_pages(range);
        let covers_slot = pages.len() as u64 == PAGES_PER_HUGE;
        if !covers_slot && matches!(self.map.slot(slot)?, Word::Huge(_)) {
            return self.zero_mapped([range]);
        }
        self.zero_mapped(page_parts(range))?;
        let unmapped = self.map.unmap(slot, pages.clone());
        // After an I/O error too the map says hole. Any other left it as it was, and with it the
        // entries, of which some may be dirty.
        let is_hole_now = matches!(unmapped, Ok(()) | Err(Error::Io { .. }));
        if is_hole_now && (covers_slot || matches!(locked.state(), SlotState::Table { .. })) {
            locked.delete(pages);
        }
        unmapped
    }

    /// Zeroes what is mapped of ranges within one slot, durably. The caller holds the slot, and no
    /// guard reaches them.
    fn zero_mapped<const N: usize>(&self, ranges: [LogicalRange; N]) -> Result<()> {
        let medium = &self.pool.medium;
        let mut flushed: Vec<Flushed> = Vec::new();
        let mut zero = |start: u64, len_bytes: u64| {
            let stored = store_zeros(medium, ByteRange::new(Offset(start), len_bytes))?;
            flushed.push(stored.flush(medium)?);
            Ok(())
        };
        for range in ranges.into_iter().filter(|range| range.len_bytes > 0) {
            if let Word::Huge(first) = self.map.slot(range.first_page().slot())? {
                zero(first.offset().0 + range.start % HUGE, range.len_bytes)?;
                continue;
            }
            let end = range.start + range.len_bytes;
            for page in range.start / PAGE..end.div_ceil(PAGE) {
                if let Word::Page(physical) = self.map.page(LogicalPage(page))? {
                    let start = range.start.max(page * PAGE);
                    let len_bytes = end.min((page + 1) * PAGE) - start;
                    zero(physical.offset().0 + start % PAGE, len_bytes)?;
                }
            }
        }
        fence_all(medium, flushed)
    }
}

/// `range`, and the rest of the slot in which it ends.
pub(crate) fn up_to_slot_end(range: LogicalRange) -> LogicalRange {
    let end = (range.start + range.len_bytes).next_multiple_of(HUGE);
    LogicalRange::new(range.start, end - range.start)
}

/// The pages of a range within one slot that it covers whole, by their position in the slot.
fn whole_pages(range: LogicalRange) -> Range<usize> {
    let slot_start = range.start / HUGE * HUGE;
    let first = (range.start - slot_start).div_ceil(PAGE) as usize;
    let end = ((range.start + range.len_bytes - slot_start) / PAGE) as usize;
    first..end.max(first)
}

/// The parts of a range that cover a page only in part: at most one at the head, one at the tail.
fn page_parts(range: LogicalRange) -> [LogicalRange; 2] {
    let end = range.start + range.len_bytes;
    let head_end = (range.start.div_ceil(PAGE) * PAGE).min(end);
    let tail_start = (end / PAGE * PAGE).max(head_end);
    [
        LogicalRange::new(range.start, head_end - range.start),
        LogicalRange::new(tail_start, end - tail_start),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pool;
    use crate::index::LockedPage;
    use crate::persist::store_word;

    /// A scan that met a locked entry waited for it, and then went on behind it: number 27 of
    /// docs/decisions/0007-kernel-dax-bugs.md.
    #[test]
    fn a_range_is_punched_whole_though_an_entry_in_its_middle_was_locked() {
        let pool = Pool::in_memory(4 << 20).unwrap();
        let volume = pool.create_volume("v", 4 * HUGE).unwrap();
        for slot in 0..4 {
            volume.write(slot * HUGE + 90 * PAGE, &[1; 21 * PAGE as usize]).unwrap();
        }
        let index = &volume.shared.index;
        std::thread::scope(|scope| {
            let LockedPage::Page(held) = index.lock_page(LogicalPage(512 + 100)) else {
                panic!("a 2 MiB mapping")
            };
            let punch = scope.spawn(|| volume.punch(LogicalRange::new(0, 4 * HUGE)));
            while !index.has_sleepers(SlotNo(1)) && !punch.is_finished() {
                std::thread::yield_now();
            }
            drop(held);
            punch.join().unwrap().unwrap();
        });
        assert_eq!(volume.extents(LogicalRange::new(0, 4 * HUGE)).unwrap(), []);
        assert_eq!(pool.entry_counts(), Default::default());
        pool.check();
    }

    /// Pages were freed under whoever reached them since the look at their references: number 26 of
    /// docs/decisions/0007-kernel-dax-bugs.md.
    #[test]
    fn a_guard_that_came_after_the_first_look_at_pins_is_seen_by_the_second() {
        let (first, second) = (SlotNo(0).range(), SlotNo(1).range());
        for pool_bytes in [4 << 20, 16 << 20] {
            let pool = Pool::in_memory(pool_bytes).unwrap();
            let volume = pool.create_volume("v", 2 * HUGE).unwrap();
            for slot in [first, second] {
                volume.write(slot.start, b"kept").unwrap();
            }
            std::thread::scope(|scope| {
                let held = volume.shared.index.lock_slot(SlotNo(0));
                // It has looked at the pins of both slots when it waits for the first one.
                let punch = scope.spawn(|| volume.punch(LogicalRange::new(0, 2 * HUGE)));
                while !volume.shared.index.has_sleepers(SlotNo(0)) && !punch.is_finished() {
                    std::thread::yield_now();
                }
                let guard = volume.map(LogicalRange::new(second.start, 4)).unwrap();
                drop(held);
                assert!(matches!(punch.join().unwrap(), Err(Error::Busy { .. })));
                assert_eq!(volume.extents(first).unwrap(), []);
                assert_eq!(volume.extents(second).unwrap()[0].physical, guard.physical().unwrap());
                assert_eq!(&*guard, b"kept");
            });
            pool.check();
        }
    }

    #[test]
    fn a_punch_that_damage_stops_leaves_what_is_dirty_to_the_next_sync() {
        let pool = Pool::in_memory(8 << 20).unwrap();
        let volume = pool.create_volume("v", HUGE - 1).unwrap();
        volume.map_mut(LogicalRange::new(0, 9)).unwrap().fill(1);
        let shared = &volume.shared;
        let Word::Table(table) = shared.map.slot(SlotNo(0)).unwrap() else { panic!("no table") };
        let damaged = Offset(table.offset().0 + 9 * 8);
        let _lost = store_word(&shared.pool.medium, damaged, 1).unwrap();
        let result = volume.punch(LogicalRange::new(0, HUGE - 1));
        assert!(matches!(result, Err(Error::Corrupt { .. })), "{result:?}");
        assert!(matches!(shared.map.page(LogicalPage(0)).unwrap(), Word::Page(_)));
        assert_eq!(shared.index.dirty_bytes(), PAGE);
    }

    #[test]
    fn a_range_is_its_whole_pages_and_the_parts_beside_them() {
        for start in [0, 1, PAGE - 1, PAGE, PAGE + 7, HUGE - PAGE - 3] {
            for len_bytes in [1, 9, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE - 5] {
                let range = LogicalRange::new(HUGE + start, len_bytes.min(HUGE - start));
                let pages = whole_pages(range);
                let parts = page_parts(range);
                let sum = pages.len() as u64 * PAGE + parts[0].len_bytes + parts[1].len_bytes;
                assert_eq!(sum, range.len_bytes, "{range:?}");
                assert!(parts.iter().all(|part| part.len_bytes < PAGE), "{range:?}");
            }
        }
    }
}
