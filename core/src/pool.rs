//! Pools: a medium with a superblock, an allocator, and volumes.
//!
//! 1. Creating writes the superblock last: a crash before that leaves something that is no pool.
//! 2. Opening takes every page that an extent map names from the allocator, once. Two owners of a
//!    page, or a page outside the pool, are damage; whatever is left is free.
//! 3. A pool that is written to says so on the medium before anything else is changed; a clean close
//!    takes it back. So a pool that is opened, found damaged, and left is as it was. The mark takes
//!    the number of this life with it, so what is written later never has the number of another life.
//!    The list of bad pages alone may be written without it.
//! 4. A pool that is opened read-only is not changed by a single byte.
//!
//! Lock order: `volumes`, then what volumes lock, then `superblock`, then the list of bad pages.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::io::retry_on_intr;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::allocator::{Allocator, Space};
use crate::bad_pages::{self, BadPageList, BadPages};
use crate::counters::{Counters, FaultCounts};
use crate::entry::EntryCounts;
use crate::error::{Error, Result, io_error};
use crate::examine::Examination;
use crate::extent_map::{ALL_SLOTS, Claimed, ExtentMap, Owned, VOLUME_BYTES_MAX};
use crate::inspect::VolumeStats;
use crate::layout::{
    BAD_PAGES_OFFSETS, NAME_LEN_MAX, STATE_CLEAN, STATE_OPEN, SUPERBLOCK_OFFSETS, Superblock,
    VolumeRecord,
};
use crate::medium::{Medium, MediumKind, Mode, PageSizes, Persistence, Target};
use crate::persist::{Durable, FlushInstruction, Flushed, fence, fence_all, flush_range};
use crate::primitives::coarse::Mutex;
use crate::resize::check_len;
use crate::superblock::{self, POOL_BYTES_MIN};
use crate::units::{ByteRange, ExtentSize, Offset, PAGE, PAGES_PER_HUGE, PageNo, PageRun};
use crate::volume::{Volume, VolumeShared};

/// What volumes need of their pool.
pub(crate) struct PoolShared {
    pub medium: Arc<Medium>,
    pub allocator: Arc<Allocator>,
    pub counters: Arc<Counters>,
    bad_pages: Arc<BadPageList>,
    /// As it is on the medium.
    superblock: Mutex<Superblock>,
    /// Ties checksums to this pool.
    seed: u64,
    /// How often it was written to, this time included: what the superblock says from
    /// [`PoolShared::begin`] on.
    opens: u64,
    /// Whether the superblock on the medium says that the pool is open.
    begun: AtomicBool,
    closed: AtomicBool,
    /// Whether it is open for writing, and was not closed by whoever wrote to it before.
    pub was_killed: bool,
}

struct PoolInner {
    shared: Arc<PoolShared>,
    was_clean: bool,
    /// As it was at the opening.
    owner_digest: u64,
    /// Those that the superblock names.
    volumes: Mutex<Vec<Arc<VolumeShared>>>,
}

/// A pool of persistent memory. Cheap to clone; every clone is the same pool.
#[derive(Clone)]
pub struct Pool(Arc<PoolInner>);

/// How a pool is created.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// Length in bytes: whole pages, at least 4 MiB. 0 takes all of a device.
    pub len_bytes: u64,
    /// Whether something that is there already may be lost.
    pub overwrite: bool,
    /// Refuse media that are not persistent memory.
    pub require_dax: bool,
}

/// How a pool is opened.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Beside other readers, without changing a byte.
    pub read_only: bool,
    /// Refuse media that are not persistent memory.
    pub require_dax: bool,
}

/// What a pool is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PoolInfo {
    /// The file or device; `(memory)` for a pool in memory.
    pub path: PathBuf,
    /// Unique to the pool.
    pub uuid: [u8; 16],
    /// Version of the format on the medium.
    pub format_version: u32,
    /// Length in bytes.
    pub len_bytes: u64,
    /// What the medium is.
    pub kind: MediumKind,
    /// What a durable store is safe from.
    pub persistence: Persistence,
    /// How lines are written back.
    pub flush_instruction: FlushInstruction,
    /// How often it was opened and written to, this time included. No two lives of a pool that
    /// change anything have the same number.
    pub opens: u64,
    /// Whether it was closed in good order before.
    pub was_clean: bool,
    /// What its owner gave to [`Pool::close_with`] then; 0 without.
    pub owner_digest: u64,
    /// Seconds since 1970 at creation.
    pub created_unix_s: u64,
}

/// What one huge page of a pool is used for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct HugeUse {
    /// The volume that has it as one 2 MiB extent.
    pub huge_of: Option<u32>,
    /// Pages that are free.
    pub free_pages: u16,
    /// Pages of extent maps.
    pub table_pages: u16,
    /// Pages of superblocks, and of the list of bad pages beside them.
    pub superblock_pages: u16,
    /// Pages that nobody owns and nobody gets: they met a media error.
    pub bad_pages: u16,
    /// 4 KiB extents by volume.
    pub pages_of: Vec<(u32, u16)>,
}

impl PoolShared {
    pub(crate) fn require_open(&self) -> Result<()> {
        // ORDERING: Acquire; pairs with the Release in `Pool::close`.
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        self.medium.require_own_process()
    }

    /// The right to change the pool; says on the medium that it is open, the first time.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Closed`], [`Error::Forked`], [`Error::Io`].
    pub(crate) fn require_writable(&self) -> Result<()> {
        self.medium.require_writable()?;
        self.require_open()?;
        // ORDERING: Acquire; pairs with the Release in `begin`.
        if self.begun.load(Ordering::Acquire) { Ok(()) } else { self.begin() }
    }

    #[cold]
    fn begin(&self) -> Result<()> {
        let mut current = self.superblock.lock();
        // Under the lock that closing takes after it closed: a pool that is closed stays clean.
        self.require_open()?;
        self.write_superblock(&mut current, |superblock| {
            superblock.opens = self.opens;
            superblock.state = STATE_OPEN;
        })?;
        self.bad_pages.complete(&self.medium)?;
        // ORDERING: Release; pairs with the Acquire in `require_writable`. Doing it twice is harmless.
        self.begun.store(true, Ordering::Release);
        Ok(())
    }

    /// Writes the superblock as `change` makes it. If that fails the medium may say either, and
    /// nothing is changed here.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Io`].
    pub(crate) fn update_superblock(&self, change: impl FnOnce(&mut Superblock)) -> Result<()> {
        let mut current = self.superblock.lock();
        // Under the lock: a close says so before it takes it, so nothing comes after its mark.
        self.require_open()?;
        self.write_superblock(&mut current, change)
    }

    fn write_superblock(
        &self,
        current: &mut Superblock,
        change: impl FnOnce(&mut Superblock),
    ) -> Result<()> {
        let mut superblock = *current;
        change(&mut superblock);
        superblock::write(&self.medium, &mut superblock)?;
        *current = superblock;
        Ok(())
    }
}

impl Pool {
    /// Creates a pool on a new or empty file, or on a device.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] unless overwriting is allowed, [`Error::InvalidArgument`] for an
    /// impossible length, [`Error::NotPersistentMemory`], [`Error::Locked`], [`Error::ReadOnly`],
    /// [`Error::Io`]. A file that this call created is removed again, one that was empty is empty.
    pub fn create(path: &Path, options: &CreateOptions) -> Result<Self> {
        Self::create_with(path, options, Ok)
    }

    /// As [`Pool::create`], and `finish` makes of the pool what it is to be. If that fails there is no
    /// pool, just as if creating had failed; unless a handle of it is left, which keeps its file.
    ///
    /// # Errors
    /// Those of [`Pool::create`] and of `finish`.
    pub fn create_with<T, E: From<Error>>(
        path: &Path,
        options: &CreateOptions,
        finish: impl FnOnce(Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let (creation, mut target) = Target::create(path, options.overwrite)?;
        let len_bytes = Self::prepare(&mut target, options)?;
        let finished = finish(Self::format(target, len_bytes, options)?)?;
        creation.keep();
        Ok(finished)
    }

    /// Opens the pool at `path`.
    ///
    /// # Errors
    /// [`Error::NotAPool`], [`Error::UnsupportedVersion`], [`Error::UnsupportedFeature`],
    /// [`Error::Locked`], [`Error::ReadOnly`], [`Error::Truncated`], [`Error::Corrupt`],
    /// [`Error::NotPersistentMemory`], [`Error::MediaError`], [`Error::Io`]. The medium is unchanged in
    /// each case, but for the list of bad pages, if one was met.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self> {
        let mode = if options.read_only { Mode::ReadOnly } else { Mode::ReadWrite };
        let target = Target::open(path, mode)?;
        target.require_superblock()?;
        let len_bytes = target.len_bytes / PAGE * PAGE;
        let medium = Medium::map(target, len_bytes, mode)?;
        require_dax(&medium, options.require_dax)?;
        Self::load(medium)
    }

    /// Looks at everything in the pool at `path` that opening would look at, and names all damage
    /// instead of stopping at the first. Changes nothing.
    ///
    /// # Errors
    /// Those of [`Pool::open`] that leave nothing to look at: [`Error::NotAPool`],
    /// [`Error::UnsupportedVersion`], [`Error::UnsupportedFeature`], [`Error::Locked`],
    /// [`Error::Truncated`], [`Error::Io`].
    pub fn examine(path: &Path) -> Result<Examination> {
        crate::examine::examine(path)
    }

    /// A pool in memory of this process, for tests and for caches.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an impossible length, [`Error::Io`] without such memory.
    pub fn in_memory(len_bytes: u64) -> Result<Self> {
        let len_bytes = pool_len(len_bytes)?;
        Self::initialize(Medium::anonymous(len_bytes)?)
    }

    /// As [`Pool::close_with`], without a digest of the owner: what an earlier close left is gone if
    /// anything was written.
    ///
    /// # Errors
    /// As [`Pool::close_with`].
    pub fn close(&self) -> Result<()> {
        self.close_with(0)
    }

    /// Marks the pool clean. Later calls answer [`Error::Closed`]; guards that are alive stay
    /// valid. Closing twice is no error. A pool that was not written to stays as it is.
    ///
    /// A digest of every extent map is kept, so that the next opening notices a page of it that fell
    /// back to an earlier state; and `owner_digest`, by which whoever owns the volumes can do the same for
    /// what is in them ([`PoolInfo::owner_digest`]).
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a word of an extent map does not verify: the pool is not marked.
    /// [`Error::Forked`]; [`Error::Io`] where the medium reports that it failed.
    pub fn close_with(&self, owner_digest: u64) -> Result<()> {
        let shared = &self.0.shared;
        shared.medium.require_own_process()?;
        let volumes = self.0.volumes.lock();
        // ORDERING: AcqRel; pairs with the Acquire in `require_open`.
        if shared.closed.swap(true, Ordering::AcqRel) || self.is_read_only() {
            return Ok(());
        }
        let seals = volumes.iter().map(|volume| Ok((volume.id, volume.map.seal()?)));
        let digests = seals.collect::<Result<HashMap<u32, u64>>>()?;
        shared.allocator.check();
        let mut current = shared.superblock.lock();
        if current.state == STATE_CLEAN {
            return Ok(());
        }
        let opens = shared.opens;
        shared.write_superblock(&mut current, |superblock| {
            superblock.opens = opens;
            superblock.state = STATE_CLEAN;
            superblock.owner_digest = owner_digest;
            for record in superblock.volumes.iter_mut().filter(|record| record.is_used()) {
                record.map_digest = digests[&record.id];
            }
        })
    }

    /// An error in a process that was forked from the one that opened the pool: nothing of it is mapped
    /// there. All calls that reach the medium say so by themselves, before they take a lock.
    ///
    /// # Errors
    /// [`Error::Forked`].
    #[inline]
    pub fn require_own_process(&self) -> Result<()> {
        self.0.shared.medium.require_own_process()
    }

    /// Whether the pool was opened without the right to change it.
    pub fn is_read_only(&self) -> bool {
        self.0.shared.medium.mode() == Mode::ReadOnly
    }

    /// Waits until everything flushed is on the medium: one fence for all tokens.
    ///
    /// # Errors
    /// [`Error::Io`] where the medium reports that it failed.
    #[cfg_attr(feature = "sim", track_caller)]
    pub fn fence<const N: usize>(&self, flushed: [Flushed; N]) -> Result<[Durable; N]> {
        fence(&self.0.shared.medium, flushed)
    }

    /// Makes the empty volume `name`, `len_bytes` long and all hole.
    ///
    /// # Durability
    /// Durable when it returns; a crash in between leaves no trace of it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a name that is taken, empty, longer than 31 bytes or holds a
    /// zero byte, for a length of 0 or over 256 TiB, when there are 60 volumes, or when all ids
    /// were used;
    /// [`Error::Full`], [`Error::ReadOnly`], [`Error::Io`], [`Error::Closed`].
    pub fn create_volume(&self, name: &str, len_bytes: u64) -> Result<Volume> {
        let shared = &self.0.shared;
        shared.require_open()?;
        shared.require_writable()?;
        check_name(name)?;
        check_len(len_bytes)?;
        let mut volumes = self.0.volumes.lock();
        // Again, under the lock that closing holds: a volume that came after would have no digest.
        shared.require_open()?;
        if volumes.iter().any(|volume| volume.name == name) {
            return Err(Error::InvalidArgument("a volume of this name exists"));
        }
        let superblock = *shared.superblock.lock();
        let record = superblock.volumes.iter().position(|record| !record.is_used());
        let record = record.ok_or(Error::InvalidArgument("a pool has at most 60 volumes"))?;
        let id = superblock.next_volume_id;
        let next_volume_id = id.checked_add(1).ok_or(Error::InvalidArgument("no id is left"))?;
        let (medium, allocator) = (Arc::clone(&shared.medium), Arc::clone(&shared.allocator));
        let map = ExtentMap::create(medium, allocator, shared.seed, id)?;
        shared.update_superblock(|superblock| {
            superblock.next_volume_id = next_volume_id;
            superblock.volumes[record] = VolumeRecord::new(id, name, map.root(), len_bytes);
        })?;
        let name = name.to_string();
        let volume = VolumeShared::new(Arc::clone(shared), id, name, len_bytes, map);
        let volume = Arc::new(volume);
        volumes.push(Arc::clone(&volume));
        Ok(Volume::new(volume))
    }

    /// The volume `name`, if there is one.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn volume(&self, name: &str) -> Result<Option<Volume>> {
        self.0.shared.require_open()?;
        let volumes = self.0.volumes.lock();
        let found = volumes.iter().find(|volume| volume.name == name);
        Ok(found.map(|volume| Volume::new(Arc::clone(volume))))
    }

    /// Removes the volume `name` and frees its extents; false if there is none.
    ///
    /// # Durability
    /// Durable when it returns; a crash in between leaves it whole or gone.
    ///
    /// # Errors
    /// [`Error::Busy`] while a handle or guard of it is alive, [`Error::ReadOnly`],
    /// [`Error::Corrupt`], [`Error::Io`], [`Error::Closed`].
    pub fn remove_volume(&self, name: &str) -> Result<bool> {
        let shared = &self.0.shared;
        shared.require_open()?;
        shared.require_writable()?;
        let mut volumes = self.0.volumes.lock();
        shared.require_open()?;
        let Some(index) = volumes.iter().position(|volume| volume.name == name) else {
            return Ok(false);
        };
        let volume = volumes.swap_remove(index);
        let volume = Arc::try_unwrap(volume).map_err(|in_use| {
            let len_bytes = in_use.len_bytes();
            volumes.push(in_use);
            Error::Busy { start: 0, len_bytes }
        })?;
        let forgotten = shared.update_superblock(|superblock| {
            let records = superblock.volumes.iter_mut();
            let of_this = records.filter(|record| record.id == volume.id);
            of_this.for_each(|record| *record = bytemuck::Zeroable::zeroed());
        });
        if let Err(error) = forgotten {
            // Both may be on the medium, so the volume keeps its pages and its name.
            volumes.push(Arc::new(volume));
            return Err(error);
        }
        volume.map.release_pages()?;
        Ok(true)
    }

    /// What the pool is.
    pub fn info(&self) -> PoolInfo {
        let medium = &self.0.shared.medium;
        let superblock = self.0.shared.superblock.lock();
        PoolInfo {
            path: medium.path().to_path_buf(),
            uuid: superblock.uuid,
            format_version: superblock.version,
            len_bytes: superblock.pool_bytes,
            kind: medium.kind(),
            persistence: medium.persistence(),
            flush_instruction: medium.instruction(),
            opens: self.0.shared.opens,
            was_clean: self.0.was_clean,
            owner_digest: if self.0.was_clean { self.0.owner_digest } else { 0 },
            created_unix_s: superblock.created_unix_s,
        }
    }

    /// Pages that nothing owns: one of the figures of [`Pool::space`], for those who ask often.
    pub fn free_pages(&self) -> u64 {
        self.0.shared.allocator.free_pages()
    }

    /// How its pages are used. Looks at every huge page.
    pub fn space(&self) -> Space {
        self.0.shared.allocator.space()
    }

    /// Pages that met a media error, in this life or an earlier one.
    pub fn bad_pages(&self) -> BadPages {
        self.0.shared.bad_pages.snapshot()
    }

    /// Whether a media error was met since the pool was opened. Costs a load.
    #[inline]
    pub fn has_met_media_errors(&self) -> bool {
        self.0.shared.bad_pages.has_met()
    }

    /// Takes the page at `offset` off the list of bad pages, if it is on it (or would be, see
    /// [`BadPages::unlisted`]), and can be read again: something outside the pool healed it, for example
    /// a hole punched into the file and filled again, or `ndctl clear-errors`. From then on it is given
    /// away like any other. False if it is no bad page.
    ///
    /// Nothing else takes a page off the list: one that reads well at times is the worst kind.
    ///
    /// # Durability
    /// Durable when it returns.
    ///
    /// # Errors
    /// [`Error::MediaError`] if the page is as bad as it was, or the list cannot be written;
    /// [`Error::InvalidArgument`] for what is not the start of a page; [`Error::ReadOnly`],
    /// [`Error::Closed`], [`Error::Forked`], [`Error::Io`].
    pub fn forget_bad_page(&self, offset: Offset) -> Result<bool> {
        let shared = &self.0.shared;
        shared.require_writable()?;
        if !offset.0.is_multiple_of(PAGE) {
            return Err(Error::InvalidArgument("a page starts at a multiple of 4 KiB"));
        }
        shared.bad_pages.forget(&shared.medium, PageNo(offset.0 / PAGE))
    }

    /// Pages of the list of bad pages that can be read again now: those that
    /// [`Pool::forget_bad_page`] would take off. Reads each of them.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Forked`].
    pub fn healed_pages(&self) -> Result<Vec<Offset>> {
        self.0.shared.require_open()?;
        let medium = &self.0.shared.medium;
        let mut pages = self.bad_pages().listed;
        pages.retain(|page| medium.require_readable(ByteRange::new(*page, PAGE)).is_ok());
        Ok(pages)
    }

    /// Faults since it was opened.
    pub fn fault_counts(&self) -> FaultCounts {
        self.0.shared.counters.fault_counts()
    }

    /// Entries that exist now, in all volumes.
    pub fn entry_counts(&self) -> EntryCounts {
        self.0.shared.counters.entry_counts()
    }

    /// The page sizes that the kernel really uses for the pool now.
    pub fn page_sizes(&self) -> PageSizes {
        self.0.shared.medium.page_sizes()
    }

    /// All volumes, by id.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a word of an extent map does not verify; [`Error::Forked`].
    pub fn volumes(&self) -> Result<Vec<VolumeStats>> {
        self.require_own_process()?;
        let open = self.0.volumes.lock().clone();
        let mut stats = open.iter().map(|volume| volume.stats()).collect::<Result<Vec<_>>>()?;
        stats.sort_by_key(|stats| stats.id);
        Ok(stats)
    }

    /// What each huge page of the pool is used for, in order.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a word of an extent map does not verify; [`Error::Forked`].
    pub fn occupancy(&self) -> Result<Vec<HugeUse>> {
        self.require_own_process()?;
        let free = self.0.shared.allocator.free_by_huge_page();
        let mut uses: Vec<HugeUse> = free
            .into_iter()
            .map(|free_pages| HugeUse { free_pages, ..HugeUse::default() })
            .collect();
        for page in own_pages() {
            uses[page.huge().0 as usize].superblock_pages += 1;
        }
        for page in self.0.shared.allocator.bad_pages() {
            uses[page.huge().0 as usize].bad_pages += 1;
        }
        let open = self.0.volumes.lock().clone();
        for volume in open {
            volume.add_occupancy(&mut uses)?;
        }
        Ok(uses)
    }

    #[cfg(feature = "sim")]
    pub(crate) fn medium(&self) -> &Medium {
        &self.0.shared.medium
    }

    /// Free pages of each huge page. No lock is taken that is held over a fence, so a crash point may
    /// ask this of the pool that goes on.
    #[cfg(feature = "sim")]
    pub fn free_by_huge_page(&self) -> Vec<u16> {
        self.0.shared.allocator.free_by_huge_page()
    }

    /// Panics unless everything in DRAM agrees, and nobody is in it: [`Volume::check`] of each volume,
    /// and that counters and allocator say the same. For tests in which no write to the medium failed:
    /// pages that it may still name then belong to nobody.
    #[doc(hidden)]
    pub fn check(&self) {
        let open = self.0.volumes.lock().clone();
        let mut entries = EntryCounts::default();
        let mut mapped_pages = own_pages().count() as u64;
        for volume in open {
            volume.check();
            let stats = volume.stats().expect("words that verify");
            entries.add(stats.entries);
            mapped_pages += stats.table_pages + stats.page_extents;
            mapped_pages += stats.huge_extents * PAGES_PER_HUGE;
        }
        assert_eq!(self.entry_counts(), entries, "counters of entries");
        assert_eq!(self.space().mapped_pages, mapped_pages, "pages that something names");
        self.0.shared.allocator.check();
        assert_eq!(self.space().reserved_pages, 0, "pages that are reserved at rest");
    }

    /// Checks what may be lost, and reserves the space.
    fn prepare(target: &mut Target, options: &CreateOptions) -> Result<u64> {
        let is_device = target.kind == MediumKind::DeviceDax;
        let wanted = match options.len_bytes {
            0 if is_device => target.len_bytes / PAGE * PAGE,
            len_bytes => len_bytes,
        };
        let len_bytes = pool_len(wanted)?;
        if is_device && len_bytes > target.len_bytes {
            return Err(Error::InvalidArgument("the device is smaller than the pool"));
        }
        target.reserve_space(len_bytes)?;
        Ok(len_bytes)
    }

    fn format(target: Target, len_bytes: u64, options: &CreateOptions) -> Result<Self> {
        let medium = Medium::map(target, len_bytes, Mode::ReadWrite)?;
        require_dax(&medium, options.require_dax)?;
        // A file is new or empty then.
        let is_device = medium.kind() == MediumKind::DeviceDax;
        if is_device && !options.overwrite && superblock::is_present(&medium) {
            let path = medium.path().to_path_buf();
            return Err(Error::AlreadyExists { path, is_pool: true });
        }
        Self::initialize(medium)
    }

    /// Writes a superblock without volumes; what was there is gone.
    pub(crate) fn initialize(medium: Medium) -> Result<Self> {
        let mut uuid = [0; 16];
        retry_on_intr(|| getrandom(&mut uuid, GetRandomFlags::empty()))
            .map_err(|errno| io_error("get random bytes for", medium.path())(errno.into()))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let mut superblock = Superblock::new(uuid, medium.len_bytes(), now);
        superblock::create(&medium, &mut superblock)?;
        Self::load(medium)
    }

    /// Builds everything that is derived from the medium.
    pub(crate) fn load(medium: Medium) -> Result<Self> {
        let superblock = superblock::read(&medium)?;
        medium.fill_holes(superblock.pool_bytes)?;
        let was_clean = superblock.state == STATE_CLEAN;
        let was_killed = !was_clean && medium.mode() == Mode::ReadWrite;
        let medium = Arc::new(medium);
        let allocator = Arc::new(Allocator::new(superblock.pool_bytes / PAGE));
        for page in own_pages() {
            let claimed = allocator.claim(PageRun { first: page, pages: 1 });
            assert!(claimed, "a page of the pool's own in a pool of two huge pages");
        }
        let seed = superblock.seed();
        let listed = bad_pages::read(&medium, seed, superblock.pool_bytes / PAGE)?;
        if medium.mode() == Mode::ReadWrite {
            // Also if it was closed: the process may have been killed between a store and its fence, and
            // then the next version would go over the only durable copy.
            let mut visible = [superblock::copies(), bad_pages::copies()].concat();
            visible.retain(|copy| medium.unreadable(*copy).is_empty());
            persist_again(&medium, &visible)?;
        }
        let bad_pages = Arc::new(BadPageList::new(Arc::clone(&allocator), seed, listed));
        let list = Arc::clone(&bad_pages);
        medium.report_bad_pages(Box::new(move |medium, page| list.note(medium, page)));
        let shared = Arc::new(PoolShared {
            medium,
            allocator,
            counters: Arc::new(Counters::default()),
            bad_pages,
            superblock: Mutex::new(superblock),
            seed,
            opens: superblock.opens + 1,
            begun: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            was_killed,
        });
        let used = superblock.volumes.iter().filter(|record| record.is_used());
        let loaded = used
            .map(|record| VolumeShared::load(&shared, record, superblock.state))
            .collect::<Result<Vec<_>>>()?;
        shared.bad_pages.quarantine();
        shared.allocator.check();
        if was_killed {
            let tables = loaded.iter().flat_map(|(_, tables)| tables);
            let visible = tables.map(|table| ByteRange::new(table.offset(), PAGE));
            persist_again(&shared.medium, &visible.collect::<Vec<_>>())?;
        }
        let open = loaded.into_iter().map(|(volume, _)| Arc::new(volume)).collect();
        let (volumes, owner_digest) = (Mutex::new(open), superblock.owner_digest);
        Ok(Self(Arc::new(PoolInner { shared, was_clean, owner_digest, volumes })))
    }
}

/// The pages of the superblocks and of the list of bad pages.
fn own_pages() -> impl Iterator<Item = PageNo> {
    let starts = SUPERBLOCK_OFFSETS.into_iter().chain(BAD_PAGES_OFFSETS);
    starts.map(|offset| PageNo(offset / PAGE))
}

impl VolumeRecord {
    fn new(id: u32, name: &str, root: PageNo, len_bytes: u64) -> Self {
        let mut record: Self = bytemuck::Zeroable::zeroed();
        record.id = id;
        record.name_len = name.len() as u8;
        record.name[..name.len()].copy_from_slice(name.as_bytes());
        record.root_page = root.0;
        record.len_bytes = len_bytes;
        record
    }
}

impl VolumeShared {
    /// The volume of `record`, and the tables of its extent map.
    fn load(
        pool: &Arc<PoolShared>,
        record: &VolumeRecord,
        state: u32,
    ) -> Result<(Self, Vec<PageNo>)> {
        let name = record.name().expect("checked with the superblock").to_string();
        if check_len(record.len_bytes).is_err() {
            return Err(Error::Corrupt {
                what: "superblock",
                offset: 0,
                detail: format!("volume {name} has {} bytes", record.len_bytes),
            });
        }
        let root = PageNo(record.root_page);
        let (medium, allocator) = (Arc::clone(&pool.medium), Arc::clone(&pool.allocator));
        let map = ExtentMap::new(medium, allocator, pool.seed, record.id, root);
        let Claimed { digest, tables } = map.claim_pages(record.len_bytes)?;
        if state == STATE_CLEAN && digest != record.map_digest {
            return Err(Error::Corrupt {
                what: "extent map",
                offset: root.offset().0,
                detail: format!("volume {name} is not mapped as it was when the pool was closed"),
            });
        }
        Ok((Self::new(Arc::clone(pool), record.id, name, record.len_bytes, map), tables))
    }

    fn add_occupancy(&self, uses: &mut [HugeUse]) -> Result<()> {
        self.map.walk(ALL_SLOTS, &mut |owned| {
            let of_huge = &mut uses[owned.run().first.huge().0 as usize];
            match owned {
                Owned::Table(_) => of_huge.table_pages += 1,
                Owned::Extent(extent) if extent.size == ExtentSize::Huge => {
                    of_huge.huge_of = Some(self.id);
                }
                Owned::Extent(_) => match of_huge.pages_of.last_mut() {
                    Some((id, pages)) if *id == self.id => *pages += 1,
                    _ => of_huge.pages_of.push((self.id, 1)),
                },
            }
            Ok(())
        })
    }
}

/// Persists `ranges` as they stand. What is visible in a pool that was not closed may be there only in
/// caches that the power would take along: a killed process stored it. Nothing may be acknowledged
/// under such words, and no page be reused by them.
///
/// # Errors
/// [`Error::Io`] as the medium reports it.
fn persist_again(medium: &Medium, ranges: &[ByteRange]) -> Result<()> {
    let flushed = ranges.iter().map(|&range| flush_range(medium, range));
    fence_all(medium, flushed.collect::<Result<_>>()?)
}

fn require_dax(medium: &Medium, required: bool) -> Result<()> {
    if !required || medium.persistence().is_dax() {
        return Ok(());
    }
    let reason = match medium.kind() {
        MediumKind::Tmpfs | MediumKind::Hugetlbfs | MediumKind::Anonymous => {
            "it is volatile memory"
        }
        _ => "its file system does not grant MAP_SYNC",
    };
    Err(Error::NotPersistentMemory { path: medium.path().to_path_buf(), reason })
}

fn pool_len(len_bytes: u64) -> Result<u64> {
    let pages_max = VOLUME_BYTES_MAX / PAGE;
    if len_bytes < POOL_BYTES_MIN || len_bytes / PAGE > pages_max {
        return Err(Error::InvalidArgument("a pool has 4 MiB to 256 TiB"));
    }
    if !len_bytes.is_multiple_of(PAGE) {
        return Err(Error::InvalidArgument("a pool has whole pages of 4 KiB"));
    }
    Ok(len_bytes)
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > NAME_LEN_MAX || name.contains('\0') {
        return Err(Error::InvalidArgument("a volume name has 1 to 31 bytes and no zero byte"));
    }
    Ok(())
}

const _: () = assert!(POOL_BYTES_MIN / PAGE == 2 * PAGES_PER_HUGE);
