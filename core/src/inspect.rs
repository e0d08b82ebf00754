//! What a volume says about itself: figures for its users, and a check for tests.

use std::collections::BTreeMap;

use crate::entry::{Entry, EntryCounts};
use crate::error::Result;
use crate::extent_map::{ALL_SLOTS, Owned, Word};
use crate::index::{Found, Need};
use crate::units::{ExtentSize, LogicalPage, LogicalRange, Offset, PAGE, SlotNo};
use crate::volume::{Volume, VolumeShared};

/// What a volume is, and what it takes up.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct VolumeStats {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Length of the logical space in bytes.
    pub len_bytes: u64,
    /// 2 MiB extents.
    pub huge_extents: u64,
    /// 4 KiB extents.
    pub page_extents: u64,
    /// Pages of its extent map.
    pub table_pages: u64,
    /// Bytes of entries that were handed out for writing since they were last synced: whole
    /// entries, of 4 KiB or 2 MiB.
    pub dirty_bytes: u64,
    /// Guards and handles that are alive and reach bytes of the pool.
    pub pins: u64,
    /// Entries by kind, which faults made since the pool was opened.
    pub entries: EntryCounts,
    /// DRAM that the entry index takes, in bytes.
    pub index_bytes: u64,
}

/// A slot of a volume that has an extent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SlotInfo {
    /// Which slot: the 2 MiB from `slot.range().start` on.
    pub slot: SlotNo,
    /// What answers for it.
    pub extents: SlotExtents,
    /// As in [`VolumeStats::dirty_bytes`], of this slot alone.
    pub dirty_bytes: u64,
}

/// What answers for a slot that is no hole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotExtents {
    /// 4 KiB extents, for so many of its 512 pages; the others are holes.
    Pages(u16),
    /// One 2 MiB extent.
    Huge,
}

impl Volume {
    /// The slots that `range` touches and that have extents, in order: whole slots, and what is not
    /// listed is a hole. Takes time and space by what is mapped, however long the volume is.
    ///
    /// ```
    /// # fn main() -> daxite_core::Result<()> {
    /// use daxite_core::{HUGE, LogicalRange, Pool, SlotExtents};
    /// let pool = Pool::in_memory(16 << 20)?;
    /// let volume = pool.create_volume("matrix", 256 << 40)?;
    /// volume.write(100 << 40, b"far out")?;
    /// let slots = volume.slots(LogicalRange::new(0, volume.len_bytes()))?;
    /// assert_eq!(slots.len(), 1);
    /// assert_eq!(slots[0].slot.range().start, 100 << 40);
    /// assert_eq!((slots[0].extents, slots[0].dirty_bytes), (SlotExtents::Huge, HUGE));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`], [`crate::Error::Closed`], [`crate::Error::Corrupt`] where a word
    /// of the extent map does not verify.
    pub fn slots(&self, range: LogicalRange) -> Result<Vec<SlotInfo>> {
        self.check_open(range)?;
        self.shared.slots(range)
    }

    /// Panics unless entries, extent map, pins and summaries agree, and nobody is in them: the
    /// invariants of docs/DAX.md that can be seen at rest. For tests.
    #[doc(hidden)]
    pub fn check(&self) {
        self.shared.check();
    }

    /// Where the byte at `start` is in the pool, if a lookup without fault can tell; a hole has no
    /// place. For benchmarks: the part of a map call that the CPU's page table would do.
    #[doc(hidden)]
    #[inline]
    pub fn lookup(&self, start: u64) -> Option<Offset> {
        let page = LogicalPage(start / PAGE);
        match self.shared.index.lookup(page, 1, Need::Mapped)? {
            Found::Zero { .. } => None,
            Found::Mapping { run, .. } => Some(Offset(run.first.offset().0 + start % PAGE)),
        }
    }

    /// Takes the lock of the entry that serves `start` at `size`, and gives it back. For benchmarks.
    #[doc(hidden)]
    pub fn lock_and_unlock(&self, start: u64, size: ExtentSize) {
        let page = LogicalPage(start / PAGE);
        match size {
            ExtentSize::Huge => drop(self.shared.index.lock_huge(page.slot())),
            ExtentSize::Page => drop(self.shared.index.lock_page(page)),
        }
    }
}

impl VolumeShared {
    pub(crate) fn stats(&self) -> Result<VolumeStats> {
        let (mut table_pages, mut huge_extents, mut page_extents) = (0, 0, 0);
        self.map.walk(ALL_SLOTS, &mut |owned| {
            match owned {
                Owned::Table(_) => table_pages += 1,
                Owned::Extent(extent) if extent.size == ExtentSize::Huge => huge_extents += 1,
                Owned::Extent(_) => page_extents += 1,
            }
            Ok(())
        })?;
        Ok(VolumeStats {
            id: self.id,
            name: self.name.clone(),
            len_bytes: self.len_bytes(),
            huge_extents,
            page_extents,
            table_pages,
            dirty_bytes: self.index.dirty_bytes(),
            pins: self.pins.len() as u64,
            entries: self.entries(),
            index_bytes: self.index.bytes(),
        })
    }

    fn slots(&self, range: LogicalRange) -> Result<Vec<SlotInfo>> {
        let mut slots: Vec<SlotInfo> = Vec::new();
        self.map.walk(range.slots(), &mut |owned| {
            let Owned::Extent(extent) = owned else { return Ok(()) };
            let slot = extent.logical.slot();
            let last = slots.last_mut().filter(|last| last.slot == slot);
            match (extent.size, last.map(|last| &mut last.extents)) {
                (ExtentSize::Page, Some(SlotExtents::Pages(pages))) => *pages += 1,
                (size, _) => slots.push(SlotInfo {
                    slot,
                    extents: match size {
                        ExtentSize::Page => SlotExtents::Pages(1),
                        ExtentSize::Huge => SlotExtents::Huge,
                    },
                    dirty_bytes: self.index.dirty_bytes_of(slot),
                }),
            }
            Ok(())
        })?;
        Ok(slots)
    }

    /// See [`crate::Volume::check`].
    pub(crate) fn check(&self) {
        self.index.check_idle();
        let mut slots = BTreeMap::new();
        self.index.for_each_entry(&mut |slot, size, page, entry| {
            let page = LogicalPage(slot.first_page().0 + page as u64);
            let word = self.map.page(page).expect("a word that verifies");
            match (size, entry) {
                (_, Entry::Empty) => {}
                (_, Entry::Zero) => assert_eq!(word, Word::Hole, "zero entry of {page:?}"),
                (ExtentSize::Page, Entry::Mapping(first)) => assert_eq!(word, Word::Page(first)),
                (ExtentSize::Huge, Entry::Mapping(first)) => assert_eq!(word, Word::Huge(first)),
            }
            let sizes = slots.entry(slot).or_insert(size);
            assert_eq!(*sizes, size, "entries of both sizes in {slot:?}");
        });
        let len_bytes = self.len_bytes();
        let inside = &mut |owned| {
            if let Owned::Extent(extent) = owned {
                assert!(extent.logical.0 * PAGE < len_bytes, "an extent past the end");
            }
            Ok(())
        };
        self.map.walk(ALL_SLOTS, inside).expect("words that verify");
    }

    pub(crate) fn entries(&self) -> EntryCounts {
        let mut counts = EntryCounts::default();
        self.index.for_each_entry(&mut |_, size, _, entry| *counts.of(entry, size) += 1);
        counts
    }
}
