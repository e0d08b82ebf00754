//! Volumes: sparse, named, byte-addressed spaces in a pool.
//!
//! Holes read as zeros and cost nothing; extents come by faults and go by punching.
//! 1. A range is answered slot by slot (2 MiB): a map call returns the longest contiguous prefix
//!    of what was asked for, and the caller asks again for the rest.
//! 2. An operation that takes extents away never meets a guard that reaches them: it is refused, or
//!    waits as long as its handle is patient.
//!
//! `docs/DAX.md` has the protocol behind it. Knows nothing of what the bytes mean.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::counters::Access;
use crate::error::{Error, Result};
use crate::extent::{Appender, Extent};
use crate::extent_map::{ExtentMap, Owned};
use crate::fault::Request;
use crate::guard::{ReadGuard, WriteGuard};
use crate::index::EntryIndex;
use crate::inspect::VolumeStats;
use crate::persist::copy_out;
use crate::pins::PinTable;
use crate::pool::PoolShared;
use crate::primitives::Mutex;
use crate::primitives::atomic::{AtomicU64, Ordering};
use crate::units::{ExtentSize, HUGE, HugeNo, LINE, LogicalRange, Offset, PAGE, PageNo};
use crate::upgrade::UpgradeReport;

/// The longest patience: a time that never ends for anyone, and that can be added to any `Instant`.
const PATIENCE_MAX: Duration = Duration::from_secs(u32::MAX as u64);

pub(crate) struct VolumeShared {
    pub pool: Arc<PoolShared>,
    pub id: u32,
    pub name: String,
    len_bytes: AtomicU64,
    /// Where the volume ends; never before `len_bytes`. While it is being cut, still the old end,
    /// since the cut may be refused: what is behind `len_bytes` then is not lost.
    end_bytes: AtomicU64,
    pub map: ExtentMap,
    /// Held by whoever changes the length.
    pub resizing: Mutex<()>,
    pub index: EntryIndex,
    pub pins: PinTable,
    /// Where the last huge page was given; the next one is looked for behind it.
    huge_goal: std::sync::atomic::AtomicU64,
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
pub struct Volume {
    pub(crate) shared: Arc<VolumeShared>,
    /// How long operations wait for a guard that is in their way.
    patience: Duration,
}

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
        let index = EntryIndex::new(Arc::clone(&pool.counters));
        Self {
            pool,
            id,
            name,
            len_bytes: AtomicU64::new(len_bytes),
            end_bytes: AtomicU64::new(len_bytes),
            resizing: Mutex::new(()),
            map,
            index,
            pins: PinTable::default(),
            huge_goal: std::sync::atomic::AtomicU64::new(0),
        }
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        // ORDERING: Acquire; pairs with the Release in `set_len_bytes`.
        self.len_bytes.load(Ordering::Acquire)
    }

    /// The part of `range` in its first slot.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::OutOfRange`] for an empty range or one past the end.
    #[inline]
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

    /// A huge page was allocated; the next one had better be behind it.
    pub(crate) fn set_huge_goal(&self, given: PageNo) {
        self.huge_goal.store(given.huge().0 + 1, Ordering::Relaxed);
    }

    pub(crate) fn set_len_bytes(&self, len_bytes: u64) {
        // ORDERING: Release; pairs with the Acquire in `len_bytes`. Who shortens fences after it.
        self.len_bytes.store(len_bytes, Ordering::Release);
    }

    pub(crate) fn end_bytes(&self) -> u64 {
        // ORDERING: Acquire; pairs with the Release in `set_end_bytes`.
        self.end_bytes.load(Ordering::Acquire)
    }

    pub(crate) fn set_end_bytes(&self, end_bytes: u64) {
        // ORDERING: Release; who grows sets this before `len_bytes`, so whoever could store behind the
        // old end has seen the new one.
        self.end_bytes.store(end_bytes, Ordering::Release);
    }

    #[inline]
    pub(crate) fn check_range(&self, range: LogicalRange) -> Result<()> {
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
    pub(crate) fn new(shared: Arc<VolumeShared>) -> Self {
        Self { shared, patience: Duration::ZERO }
    }

    /// The same volume, by a handle whose operations wait up to `patience` for guards that are in
    /// their way. A handle has none at first: [`Error::Busy`] comes at once.
    ///
    /// Waiting holds nothing, so a thread that waits for a guard of its own waits in vain, and no
    /// more than that.
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), patience: patience.min(PATIENCE_MAX) }
    }

    /// The number of the volume in its pool; never used twice.
    pub fn id(&self) -> u32 {
        self.shared.id
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Length of the logical space in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.shared.len_bytes()
    }

    /// Maps `range` for reading. A hole is answered by the shared zero extent, without allocating.
    ///
    /// Returns the longest contiguous prefix, at least one byte; call again for the rest.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Busy`] if a write guard overlaps, [`Error::Corrupt`],
    /// [`Error::Closed`].
    #[inline]
    pub fn map(&self, range: LogicalRange) -> Result<ReadGuard> {
        ReadGuard::fault(&self.shared, range, self.deadline())
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
        self.shared.pool.require_writable()?;
        WriteGuard::fault(&self.shared, range, self.deadline())
    }

    /// Maps a hole for appending: it gets an extent, and its bytes are *not* zeroed. While the handles
    /// live, others read only what was appended and frozen; after that, [`Volume::map`] shows in the
    /// rest what an earlier owner left, of whatever volume. Only the first and the last 128 bytes are
    /// zero, so that after a crash no header or footer of an earlier owner stands there.
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
        self.shared.pool.require_writable()?;
        if !range.start.is_multiple_of(HUGE) || !range.len_bytes.is_multiple_of(PAGE) {
            return Err(Error::InvalidArgument("appending starts at a slot and maps whole pages"));
        }
        let huge_allowed = range.len_bytes >= HUGE;
        let request = Request { range, access: Access::Append, huge_allowed, pages_min };
        let mapped = Extent::fault(&self.shared, request, self.deadline())?;
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
        Extent::fault(&self.shared, request, self.deadline())
    }

    /// Copies bytes from `start` on into `into`; holes read as zeros.
    ///
    /// # Errors
    /// As [`Volume::map`]; [`Error::MediaError`] if the process handles those.
    pub fn read(&self, start: u64, into: &mut [u8]) -> Result<()> {
        self.shared.check_range(LogicalRange::new(start, into.len() as u64))?;
        let mut done = 0;
        while done < into.len() {
            let rest = LogicalRange::new(start + done as u64, (into.len() - done) as u64);
            let guard = self.map(rest)?;
            let part = &mut into[done..done + guard.len()];
            match guard.physical() {
                None => part.fill(0),
                Some(start) => copy_out(&self.shared.pool.medium, start, part)?,
            }
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
        self.shared.check_range(LogicalRange::new(start, bytes.len() as u64))?;
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

    /// Makes durable what was stored through write guards into `range`. Whole entries are flushed,
    /// 4 KiB or 2 MiB, and only dirty ones: those that were when the call began, and what got dirty
    /// in their slots meanwhile.
    ///
    /// An entry that a write guard reaches is flushed and stays dirty, so that the next sync looks
    /// at it again.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Io`], [`Error::Closed`].
    pub fn sync(&self, range: LogicalRange) -> Result<()> {
        self.check_open(range)?;
        self.shared.sync(range)
    }

    /// Gives the extents of `range` back; it reads as zeros. Bytes of pages that are only touched
    /// in part, and part of a huge page, are zeroed in place.
    ///
    /// # Durability
    /// Durable when it returns. A crash in between leaves each 4 KiB extent that the range covers
    /// whole as it was or punched; of what is zeroed in place, each byte as it was or zero.
    ///
    /// # Errors
    /// [`Error::Busy`] while a guard or handle is alive in the range: nothing is changed, unless
    /// it came after the check. [`Error::OutOfRange`], [`Error::ReadOnly`], [`Error::Corrupt`],
    /// [`Error::Io`], [`Error::Closed`].
    pub fn punch(&self, range: LogicalRange) -> Result<()> {
        self.shared.pool.require_writable()?;
        self.shared.check_range(range)?;
        self.shared.punch(range, self.deadline())
    }

    /// Zeroes `range` and keeps its extents; holes stay holes.
    ///
    /// # Durability
    /// Durable when it returns; a crash in between leaves each byte as it was or zero.
    ///
    /// # Errors
    /// As [`Volume::punch`].
    pub fn zero(&self, range: LogicalRange) -> Result<()> {
        self.shared.pool.require_writable()?;
        self.shared.check_range(range)?;
        self.shared.zero(range, self.deadline())
    }

    /// Makes the volume `len_bytes` long. What is cut off is given back, as by [`Volume::punch`];
    /// what is added reads as zeros.
    ///
    /// # Durability
    /// Durable when it returns. A crash in between leaves the old length or the new one; with the old
    /// one, what was to be cut off is as a crash in [`Volume::punch`] leaves it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a length of 0 or over 256 TiB, [`Error::Busy`] while a guard
    /// or handle is alive in what is cut off: the length is as it was. [`Error::ReadOnly`],
    /// [`Error::Corrupt`], [`Error::Io`], [`Error::Closed`].
    pub fn set_len(&self, len_bytes: u64) -> Result<()> {
        self.shared.pool.require_writable()?;
        self.shared.set_len(len_bytes, self.deadline())
    }

    /// Makes 2 MiB extents of the slots that `range` touches and that have at least `pages_min` of
    /// their 512 pages mapped. Where the pages are one aligned run, that is one word on the medium,
    /// and guards stay valid; otherwise they are moved to a whole huge page, and holes become zeros.
    ///
    /// Stops at nothing: what cannot be upgraded now is counted by [`crate::Refusal`] and stays as it is.
    /// 4 KiB operations in a slot are held up while it is copied, and waited for at most as long as
    /// the handle is patient, 1 ms at least.
    ///
    /// An extent that was mapped for appending gets longer where its pages did not fill the slot, and
    /// so does what [`Volume::map_existing`] answers with. A volume whose owner goes by that length,
    /// like the log of a store, is not to be upgraded by anyone else.
    ///
    /// # Durability
    /// The bytes are as durable as before, whenever a crash comes.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::ReadOnly`], [`Error::Corrupt`], [`Error::Io`],
    /// [`Error::Closed`].
    pub fn upgrade(&self, range: LogicalRange, pages_min: u64) -> Result<UpgradeReport> {
        self.shared.pool.require_writable()?;
        self.shared.check_range(range)?;
        self.shared.upgrade(range, pages_min, self.patience)
    }

    /// The extents that `range` touches, whole, in logical order.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Closed`], [`Error::Corrupt`] where a word of the extent map
    /// does not verify.
    pub fn extents(&self, range: LogicalRange) -> Result<Vec<ExtentInfo>> {
        self.check_open(range)?;
        let mut extents: Vec<ExtentInfo> = Vec::new();
        self.shared.map.walk(range.slots(), &mut |owned| {
            let Owned::Extent(extent) = owned else { return Ok(()) };
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
        extents.retain(|extent| extent.logical.overlaps(range));
        Ok(extents)
    }

    /// What the volume is, and what it takes up.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Corrupt`] where a word of the extent map does not verify.
    pub fn stats(&self) -> Result<VolumeStats> {
        self.shared.pool.require_open()?;
        self.shared.stats()
    }

    pub(crate) fn check_open(&self, range: LogicalRange) -> Result<()> {
        self.shared.pool.require_open()?;
        self.shared.check_range(range)
    }

    fn deadline(&self) -> Option<Instant> {
        (!self.patience.is_zero()).then(|| Instant::now() + self.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::SlotNo;

    #[test]
    fn a_page_whose_word_could_not_be_persisted_gets_no_second_owner() {
        let Some((_folder, pool, volume)) = volume_in_a_file() else { return };
        volume.write(0, &[1; 10]).unwrap();
        volume.shared.pool.medium.fail_syncs();
        let slots = [SlotNo(1), SlotNo(2)];
        for slot in slots {
            let error = volume.map_append(slot.range(), 1).map(|_| ()).unwrap_err();
            assert!(matches!(error, Error::Io { .. }), "{error}");
        }
        let guards = slots.map(|slot| volume.map_mut(slot.range()));
        if let [Ok(one), Ok(two)] = &guards {
            assert_ne!(one.physical(), two.physical());
        }
        volume.shared.pool.allocator.check();
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
}
