//! Volumes: sparse, named, byte-addressed spaces in a pool.
//!
//! Holes read as zeros and cost nothing; extents come by faults and go by punching.
//! 1. A range is answered slot by slot (2 MiB): a map call returns the longest contiguous prefix
//!    of what was asked for, and the caller asks again for the rest.
//! 2. Lock order: slot or entries, then the extent map, then the allocator. Pins are a leaf.
//!
//! Knows nothing of what the bytes mean.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::entry::SlotState;
use crate::error::{Error, Result};
use crate::extent::{Appender, Extent};
use crate::extent_map::{ExtentMap, Word};
use crate::fault::{Access, Request};
use crate::guard::{ReadGuard, WriteGuard};
use crate::index::EntryIndex;
use crate::persist::{fence, fence_all, flush_range, store_zeros};
use crate::pins::PinTable;
use crate::pool::PoolShared;
use crate::units::{
    ByteRange, ExtentSize, HUGE, HugeNo, LINE, LogicalRange, Offset, PAGE, PAGES_PER_HUGE, PageNo,
    SlotNo,
};

pub(crate) struct VolumeShared {
    pub pool: Arc<PoolShared>,
    pub id: u32,
    pub name: String,
    len_bytes: AtomicU64,
    pub map: ExtentMap,
    pub index: EntryIndex,
    pub pins: PinTable,
    /// Where the last huge page was given; the next one is looked for behind it.
    huge_goal: AtomicU64,
}

/// A sparse space of bytes in a pool, by name. Cheap to clone; every clone is the same volume.
///
/// ```
/// # fn main() -> daxite_core::Result<()> {
/// use daxite_core::{LogicalRange, Pool};
/// let pool = Pool::in_memory(16 << 20)?;
/// let volume = pool.create_volume("scratch", 1 << 40)?;
/// volume.write(700 << 30, b"far out")?;
/// let guard = volume.map(LogicalRange::new(700 << 30, 7))?;
/// assert_eq!(&*guard, b"far out");
/// assert!(volume.map(LogicalRange::new(0, 4096))?.is_hole());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Volume(pub(crate) Arc<VolumeShared>);

/// A mapped part of a volume; physically neighbouring pages are one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ExtentInfo {
    /// The range of the volume.
    pub logical: LogicalRange,
    /// Where it is in the pool.
    pub physical: Offset,
    /// Whether it is one huge page or a run of pages.
    pub size: ExtentSize,
}

impl VolumeShared {
    pub(crate) fn new(
        pool: Arc<PoolShared>,
        id: u32,
        name: String,
        len_bytes: u64,
        map: ExtentMap,
    ) -> Self {
        let index = EntryIndex::new(len_bytes.div_ceil(PAGE), Arc::clone(&pool.counters));
        Self {
            pool,
            id,
            name,
            len_bytes: AtomicU64::new(len_bytes),
            map,
            index,
            pins: PinTable::default(),
            huge_goal: AtomicU64::new(0),
        }
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.len_bytes.load(Ordering::Acquire)
    }

    /// The part of `range` in its first slot.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::OutOfRange`] for an empty range or one past the end.
    pub(crate) fn clip(&self, range: LogicalRange) -> Result<LogicalRange> {
        self.pool.require_open()?;
        self.check_range(range)?;
        let in_slot = HUGE - range.start % HUGE;
        Ok(LogicalRange::new(range.start, range.len_bytes.min(in_slot)))
    }

    pub(crate) fn next_huge_goal(&self) -> HugeNo {
        // ORDERING: Relaxed; a hint.
        HugeNo(self.huge_goal.load(Ordering::Relaxed))
    }

    /// `range`, and all of the last page if it reaches the end of the volume: behind the end there
    /// is nothing to keep.
    fn with_last_page(&self, range: LogicalRange) -> LogicalRange {
        let end = range.start + range.len_bytes;
        match end == self.len_bytes() {
            true => LogicalRange::new(range.start, end.next_multiple_of(PAGE) - range.start),
            false => range,
        }
    }

    /// A huge page was allocated; the next one had better be behind it.
    pub(crate) fn set_huge_goal(&self, given: PageNo) {
        self.huge_goal.store(given.huge().0 + 1, Ordering::Relaxed);
    }

    fn check_range(&self, range: LogicalRange) -> Result<()> {
        let fits = range.end().is_some_and(|end| end <= self.len_bytes());
        if fits && range.len_bytes > 0 {
            return Ok(());
        }
        Err(Error::OutOfRange {
            start: range.start,
            len_bytes: range.len_bytes,
            volume_bytes: self.len_bytes(),
        })
    }
}

impl Volume {
    /// The number of the volume in its pool; never used twice.
    pub fn id(&self) -> u32 {
        self.0.id
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Length of the logical space in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.0.len_bytes()
    }

    /// Maps `range` for reading. A hole is answered by the shared zero extent, without allocating.
    ///
    /// Returns the longest contiguous prefix, at least one byte; call again for the rest.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Busy`] if a write guard overlaps, [`Error::Corrupt`],
    /// [`Error::Closed`].
    pub fn map(&self, range: LogicalRange) -> Result<ReadGuard> {
        ReadGuard::fault(&self.0, range)
    }

    /// Maps `range` for writing; holes get extents of zeros, 2 MiB where possible.
    ///
    /// Returns the longest contiguous prefix, at least one byte; call again for the rest.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Busy`] if any guard overlaps, [`Error::Full`] when no page
    /// is free (nothing is changed), [`Error::ReadOnly`], [`Error::Corrupt`], [`Error::Io`],
    /// [`Error::Closed`].
    pub fn map_mut(&self, range: LogicalRange) -> Result<WriteGuard> {
        self.0.pool.medium.require_writable()?;
        WriteGuard::fault(&self.0, range)
    }

    /// Maps a hole for appending: it gets an extent, and its bytes are *not* zeroed, since nothing
    /// can be read of them but what is appended. Only the first and the last 128 bytes are zero, so
    /// that after a crash no header or footer of an earlier owner stands there.
    ///
    /// `range` starts on a slot. A range of 2 MiB tries a huge page first; otherwise, and for
    /// shorter ranges, it gets the longest run of pages that can be had at once, of at most
    /// `range` and at least `pages_min` pages.
    ///
    /// # Durability
    /// In a slot without extents, the whole extent is mapped or nothing, whenever a crash comes;
    /// and punching the whole slot takes it away at once.
    ///
    /// # Errors
    /// [`Error::Full`] (nothing is changed), [`Error::InvalidArgument`] if it is no hole or not at
    /// a slot, [`Error::Busy`], [`Error::OutOfRange`], [`Error::ReadOnly`], [`Error::Corrupt`],
    /// [`Error::Io`], [`Error::Closed`].
    pub fn map_append(
        &self,
        range: LogicalRange,
        pages_min: u64,
    ) -> Result<(Appender, Arc<Extent>)> {
        self.0.pool.medium.require_writable()?;
        if !range.start.is_multiple_of(HUGE) || !range.len_bytes.is_multiple_of(PAGE) {
            return Err(Error::InvalidArgument("appending starts at a slot and maps whole pages"));
        }
        let huge_allowed = range.len_bytes >= HUGE;
        let request = Request { range, access: Access::Append, huge_allowed, pages_min };
        let mapped = Extent::fault(&self.0, request)?;
        Ok(mapped.unwrap_or_else(|| unreachable!("an append fault left a hole")))
    }

    /// Maps what an earlier life appended at the head of `range`; `None` for a hole.
    ///
    /// Nothing is frozen yet: look with [`Appender::bytes`], then [`Appender::adopt`] what is good.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if `range` does not start at a line, [`Error::Busy`],
    /// [`Error::OutOfRange`], [`Error::Corrupt`], [`Error::Closed`].
    pub fn map_existing(&self, range: LogicalRange) -> Result<Option<(Appender, Arc<Extent>)>> {
        if !range.start.is_multiple_of(LINE) {
            return Err(Error::InvalidArgument("what was appended starts at a line"));
        }
        let request = Request { range, access: Access::Adopt, huge_allowed: true, pages_min: 1 };
        Extent::fault(&self.0, request)
    }

    /// Copies bytes from `start` on into `into`; holes read as zeros.
    ///
    /// # Errors
    /// As [`Volume::map`].
    pub fn read(&self, start: u64, into: &mut [u8]) -> Result<()> {
        self.0.check_range(LogicalRange::new(start, into.len() as u64))?;
        let mut done = 0;
        while done < into.len() {
            let rest = LogicalRange::new(start + done as u64, (into.len() - done) as u64);
            let guard = self.map(rest)?;
            into[done..done + guard.len()].copy_from_slice(&guard);
            done += guard.len();
        }
        Ok(())
    }

    /// Writes `bytes` from `start` on.
    ///
    /// # Durability
    /// Durable when it returns. Not atomic: after a crash in between, any part may be there.
    ///
    /// # Errors
    /// As [`Volume::map_mut`]; what was written before the error stays written.
    pub fn write(&self, start: u64, bytes: &[u8]) -> Result<()> {
        self.0.check_range(LogicalRange::new(start, bytes.len() as u64))?;
        let mut done = 0;
        while done < bytes.len() {
            let rest = LogicalRange::new(start + done as u64, (bytes.len() - done) as u64);
            let mut guard = self.map_mut(rest)?;
            let len = guard.len();
            guard.copy_from_slice(&bytes[done..done + len]);
            guard.persist()?;
            done += len;
        }
        Ok(())
    }

    /// Makes durable what was stored through write guards into `range`; whole entries are
    /// flushed, and entries that are not dirty cost nothing.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Io`], [`Error::Closed`].
    pub fn sync(&self, range: LogicalRange) -> Result<()> {
        self.0.pool.require_open()?;
        self.0.check_range(range)?;
        let end = range.start + range.len_bytes;
        let slots = SlotNo(range.start / HUGE)..=SlotNo((end - 1) / HUGE);
        let touched = self.0.index.touched_slots().skip_while(|slot| slot < slots.start());
        for slot in touched.take_while(|slot| slot <= slots.end()) {
            self.sync_slot(slot, range)?;
        }
        Ok(())
    }

    /// Gives the extents of `range` back; it reads as zeros. Bytes of pages that are only touched
    /// in part, and part of a huge page, are zeroed in place.
    ///
    /// # Durability
    /// Durable when it returns; a crash in between leaves each page either as it was or punched.
    ///
    /// # Errors
    /// [`Error::Busy`] while a guard or handle is alive in the range: nothing is changed, unless
    /// it came after the check. [`Error::OutOfRange`], [`Error::ReadOnly`], [`Error::Corrupt`],
    /// [`Error::Io`], [`Error::Closed`].
    pub fn punch(&self, range: LogicalRange) -> Result<()> {
        self.0.pool.medium.require_writable()?;
        self.0.pool.require_open()?;
        self.0.check_range(range)?;
        let parts = split_by_slot(self.0.with_last_page(range));
        if let Some(busy) = parts.clone().find(|part| self.0.pins.is_pinned(*part)) {
            return Err(Error::Busy { start: busy.start, len_bytes: busy.len_bytes });
        }
        parts.into_iter().try_for_each(|part| self.punch_slot(part))
    }

    /// All extents in logical order.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a word of the extent map does not verify.
    pub fn extents(&self) -> Result<Vec<ExtentInfo>> {
        let mut extents: Vec<ExtentInfo> = Vec::new();
        self.0.map.walk(&mut |_| Ok(()), &mut |extent| {
            let start = extent.logical.0 * PAGE;
            let physical = extent.physical.offset();
            let follows = |last: &&mut ExtentInfo| {
                last.size == ExtentSize::Page
                    && extent.size == ExtentSize::Page
                    && last.logical.start / HUGE == start / HUGE
                    && last.logical.start + last.logical.len_bytes == start
                    && last.physical.0 + last.logical.len_bytes == physical.0
            };
            match extents.last_mut().filter(follows) {
                Some(last) => last.logical.len_bytes += PAGE,
                None => extents.push(ExtentInfo {
                    logical: LogicalRange::new(start, extent.size.bytes()),
                    physical,
                    size: extent.size,
                }),
            }
            Ok(())
        })?;
        Ok(extents)
    }

    /// Panics unless the entries are legal and nobody is in them. For tests.
    #[doc(hidden)]
    pub fn check_idle(&self) {
        self.0.index.check_idle();
    }

    fn sync_slot(&self, slot: SlotNo, range: LogicalRange) -> Result<()> {
        let medium = &self.0.pool.medium;
        let mut locked = self.0.index.lock_slot(slot);
        let mut flushed = Vec::new();
        let mut clean = Vec::new();
        for entry in locked.dirty_entries() {
            let start = (slot.first_page().0 + entry.index as u64) * PAGE;
            let logical = LogicalRange::new(start, entry.size.bytes());
            if !logical.overlaps(range) {
                continue;
            }
            // Asked before flushing: a guard that is dropped meanwhile may have stored behind it.
            // A new one cannot, since its fault waits for the slot.
            if !self.0.pins.is_pinned_for_writing(logical) {
                clean.push(entry);
            }
            let physical = ByteRange::new(entry.physical.offset(), entry.size.bytes());
            flushed.push(flush_range(medium, physical));
        }
        if !flushed.is_empty() {
            fence_all(medium, flushed)?;
        }
        clean.into_iter().for_each(|entry| locked.set_clean(entry));
        Ok(())
    }

    /// Punches a range within one slot.
    fn punch_slot(&self, range: LogicalRange) -> Result<()> {
        let slot = range.first_page().slot();
        // Nothing to lock, and no memory spent on it: whoever maps it now comes after.
        if !self.0.index.is_touched(slot) && self.0.map.slot(slot)? == Word::Hole {
            return Ok(());
        }
        let mut locked = self.0.index.lock_slot(slot);
        if self.0.pins.is_pinned(range) {
            return Err(Error::Busy { start: range.start, len_bytes: range.len_bytes });
        }
        let pages = whole_pages(range);
        let covers_slot = pages.len() as u64 == PAGES_PER_HUGE;
        if !covers_slot && matches!(self.0.map.slot(slot)?, Word::Huge(_)) {
            return self.zero_in_place(range);
        }
        page_parts(range).into_iter().try_for_each(|part| self.zero_in_place(part))?;
        if covers_slot || matches!(locked.state(), SlotState::Table { .. }) {
            locked.delete(pages.clone());
        }
        self.0.map.unmap(slot, pages)
    }

    /// Zeroes bytes of one page, or of one huge page, if they are mapped. The caller holds the slot, and no guard
    /// reaches them.
    fn zero_in_place(&self, range: LogicalRange) -> Result<()> {
        if range.len_bytes == 0 {
            return Ok(());
        }
        let medium = &self.0.pool.medium;
        let start = match self.0.map.page(range.first_page())? {
            Word::Page(page) => page.offset().0 + range.start % PAGE,
            Word::Huge(first) => first.offset().0 + range.start % HUGE,
            _ => return Ok(()),
        };
        let stored = store_zeros(medium, ByteRange::new(Offset(start), range.len_bytes));
        let [_] = fence(medium, [stored.flush(medium)])?;
        Ok(())
    }
}

/// The parts of `range` by slot, in order.
fn split_by_slot(range: LogicalRange) -> impl Iterator<Item = LogicalRange> + Clone {
    let end = range.start + range.len_bytes;
    (range.start / HUGE..end.div_ceil(HUGE)).map(move |slot| {
        let start = range.start.max(slot * HUGE);
        LogicalRange::new(start, end.min((slot + 1) * HUGE) - start)
    })
}

/// The pages of a range within one slot that it covers whole, by their position in the slot.
fn whole_pages(range: LogicalRange) -> std::ops::Range<usize> {
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

    #[test]
    fn a_page_whose_word_could_not_be_persisted_gets_no_second_owner() {
        let Some((_folder, pool, volume)) = volume_in_a_file() else { return };
        volume.write(0, &[1; 10]).unwrap();
        volume.0.pool.medium.fail_syncs();
        let slots = [SlotNo(1), SlotNo(2)];
        for slot in slots {
            let error = volume.map_append(slot.range(), 1).map(|_| ()).unwrap_err();
            assert!(matches!(error, Error::Io { .. }), "{error}");
        }
        let guards = slots.map(|slot| volume.map_mut(slot.range()));
        if let [Ok(one), Ok(two)] = &guards {
            assert_ne!(one.physical(), two.physical());
        }
        volume.0.pool.allocator.check();
        drop(guards);
        drop(volume);
        assert!(matches!(pool.remove_volume("v"), Err(Error::Io { .. })));
        assert!(pool.volume("v").unwrap().is_some(), "its name is still taken");
    }

    /// A volume on a medium that can fail; none where temporary files are in memory.
    fn volume_in_a_file() -> Option<(tempfile::TempDir, crate::Pool, Volume)> {
        let folder = tempfile::tempdir().unwrap();
        let options = crate::CreateOptions { len_bytes: 32 << 20, ..Default::default() };
        let pool = crate::Pool::create(&folder.path().join("pool"), &options).unwrap();
        let volume = pool.create_volume("v", 64 * HUGE).unwrap();
        let can_fail = pool.info().persistence == crate::Persistence::Msync;
        can_fail.then_some((folder, pool, volume))
    }

    #[test]
    fn a_range_splits_at_slots() {
        let parts: Vec<_> = split_by_slot(LogicalRange::new(HUGE - 5, HUGE + 10)).collect();
        let expected = [(HUGE - 5, 5), (HUGE, HUGE), (2 * HUGE, 5)];
        assert_eq!(parts, expected.map(|(start, len)| LogicalRange::new(start, len)));
    }
}
