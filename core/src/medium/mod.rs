//! The medium: byte-addressable memory behind a path, mapped once, linearly, 2 MiB aligned.
//!
//! 1. Address and offset agree modulo 2 MiB, or the kernel would silently use 4 KiB pages.
//! 2. There is one mapping per pool, never one per extent: at about 65,500 mappings the kernel
//!    refuses more, and takes the host program's `malloc` and threads with it.
//! 3. All of a file is backed (`fallocate`) before any of it is touched, since touching a hole on
//!    a full file system is a fatal signal, on tmpfs even for a read.
//! 4. What the medium promises is found out by asking it ([`Persistence`]), never assumed.
//!
//! Knows nothing of superblocks, extents or who reads; storing is the business of `persist`.

mod backing;
mod creation;
mod detect;
mod group_sync;
mod locked_file;
mod mapping;
mod page_sizes;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result, io_error};
use crate::persist::{self, Fault, FlushInstruction};
use crate::sigbus::Registered;
use crate::superblock::POOL_BYTES_MIN;
use crate::units::{ByteRange, Offset, PAGE, PageNo};

pub(crate) use detect::Target;
use group_sync::GroupSync;
use locked_file::LockedFile;
use mapping::Mapping;
pub use page_sizes::PageSizes;

/// When a store that was flushed and fenced is safe, and from what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Persistence {
    /// CPU caches are in the persistence domain: a fence is enough.
    Eadr,
    /// DAX: durable once its lines are written back and fenced.
    CacheFlush,
    /// Page cache of an ordinary file: durable after `msync`. Slow and correct.
    Msync,
    /// Memory: survives the process, not the power.
    Volatile,
}

impl Persistence {
    /// Whether data survives a power failure.
    pub fn survives_power_failure(self) -> bool {
        self != Self::Volatile
    }

    /// Whether the medium is persistent memory, addressed without a page cache.
    pub fn is_dax(self) -> bool {
        matches!(self, Self::Eadr | Self::CacheFlush)
    }
}

impl fmt::Display for Persistence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eadr => "eadr",
            Self::CacheFlush => "cache-flush",
            Self::Msync => "msync",
            Self::Volatile => "volatile",
        })
    }
}

/// What kind of thing the medium is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MediumKind {
    /// A device-dax character device, `/dev/daxX.Y`.
    DeviceDax,
    /// A file on a file system mounted with DAX: `MAP_SYNC` was granted.
    DaxFile,
    /// A file behind the page cache.
    File,
    /// A file on tmpfs.
    Tmpfs,
    /// A file on hugetlbfs.
    Hugetlbfs,
    /// Memory of this process.
    Anonymous,
}

impl fmt::Display for MediumKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DeviceDax => "device-dax",
            Self::DaxFile => "dax-file",
            Self::File => "file",
            Self::Tmpfs => "tmpfs",
            Self::Hugetlbfs => "hugetlbfs",
            Self::Anonymous => "anonymous",
        })
    }
}

/// Whether bytes may be stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Read and write; one handle at a time.
    ReadWrite,
    /// Read only, beside other readers; not a byte of the medium changes.
    ReadOnly,
}

/// Who is told of pages that cannot be reached, and sees to it that nobody gets them.
type BadPageSink = Box<dyn Fn(&Medium, PageNo) + Send + Sync>;

/// Mapped memory of a pool. Shared by everything that reads or stores; unmapped by the last.
pub(crate) struct Medium {
    /// Goes before the mapping does.
    _registered: Registered,
    mapping: Mapping,
    /// Tells tokens of one medium from those of another.
    id: u64,
    kind: MediumKind,
    persistence: Persistence,
    instruction: FlushInstruction,
    mode: Mode,
    /// Carries the lock for as long as the mapping lives; `None` for anonymous memory.
    file: Option<Arc<LockedFile>>,
    path: PathBuf,
    group_sync: GroupSync,
    on_bad_page: OnceLock<BadPageSink>,
    #[cfg(feature = "sim")]
    observer: Option<crate::sim::Observer>,
}

static NEXT_MEDIUM_ID: AtomicU64 = AtomicU64::new(1);

impl Medium {
    /// Maps `len_bytes` bytes of `target`. There is space behind the superblocks then; behind the
    /// rest when the caller has reserved it, or asked for it by [`Medium::fill_holes`].
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses the mapping, or has no space.
    pub(crate) fn map(target: Target, len_bytes: u64, mode: Mode) -> Result<Self> {
        let Target { path, file, kind, .. } = target;
        let (mapping, kind) = Mapping::of_file(&path, &file, kind, len_bytes, mode)?;
        let persistence = detect::persistence_of(kind);
        let medium = Self::assemble(mapping, kind, persistence, mode, Some(file), path);
        medium.fill_holes(POOL_BYTES_MIN.min(len_bytes))?;
        Ok(medium)
    }

    /// Maps `len_bytes` bytes of zeroed memory of this process.
    ///
    /// # Errors
    /// [`Error::Io`] where the system has no such memory.
    pub(crate) fn anonymous(len_bytes: u64) -> Result<Self> {
        let path = PathBuf::from("(memory)");
        let mapping = Mapping::anonymous(&path, len_bytes)?;
        let kind = MediumKind::Anonymous;
        Ok(Self::assemble(mapping, kind, Persistence::Volatile, Mode::ReadWrite, None, path))
    }

    fn assemble(
        mapping: Mapping,
        kind: MediumKind,
        persistence: Persistence,
        mode: Mode,
        file: Option<Arc<LockedFile>>,
        path: PathBuf,
    ) -> Self {
        let (start, len_bytes) =
            (mapping.address(Offset(0)) as usize, mapping.len_bytes() as usize);
        #[cfg(feature = "sim")]
        if file.is_some() {
            crate::sim::mapped(start, len_bytes);
        }
        Self {
            _registered: Registered::new(start, len_bytes),
            mapping,
            id: NEXT_MEDIUM_ID.fetch_add(1, Ordering::Relaxed),
            kind,
            persistence,
            instruction: FlushInstruction::detect(),
            mode,
            file,
            path,
            group_sync: GroupSync::default(),
            on_bad_page: OnceLock::new(),
            #[cfg(feature = "sim")]
            observer: None,
        }
    }

    /// From now on everything that is done to it is reported to `observer`.
    #[cfg(feature = "sim")]
    pub(crate) fn observe(&mut self, observer: crate::sim::Observer) {
        self.observer = Some(observer);
    }

    /// Who watches, if anyone does.
    #[cfg(feature = "sim")]
    pub(crate) fn observer(&self) -> Option<&crate::sim::Observer> {
        self.observer.as_ref()
    }

    /// Another medium on the same memory of this process, watched by `observer`. Whoever shares it sees
    /// to it that only one is used at a time.
    #[cfg(feature = "sim")]
    pub(crate) fn share(&self, observer: crate::sim::Observer) -> Self {
        let (mapping, path) = (self.mapping.share(), self.path.clone());
        let (kind, persistence) = (self.kind, self.persistence);
        let mut medium = Self::assemble(mapping, kind, persistence, self.mode, None, path);
        medium.observe(observer);
        medium
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    #[inline]
    pub(crate) fn len_bytes(&self) -> u64 {
        self.mapping.len_bytes()
    }

    pub(crate) fn kind(&self) -> MediumKind {
        self.kind
    }

    #[inline]
    pub(crate) fn persistence(&self) -> Persistence {
        self.persistence
    }

    pub(crate) fn instruction(&self) -> FlushInstruction {
        self.instruction
    }

    #[inline]
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// An error in a process that was forked from the one that opened it, where it is not mapped.
    #[inline]
    pub(crate) fn require_own_process(&self) -> Result<()> {
        match self.mapping.is_of_parent() {
            false => Ok(()),
            true => Err(Error::Forked { path: self.path.clone() }),
        }
    }

    /// An error unless bytes may be stored.
    pub(crate) fn require_writable(&self) -> Result<()> {
        match self.mode {
            Mode::ReadWrite => Ok(()),
            Mode::ReadOnly => Err(Error::ReadOnly { path: self.path.clone() }),
        }
    }

    /// Puts space behind holes that a copying program may have left in the first `len_bytes` bytes
    /// of the file, before anyone comes near them.
    ///
    /// # Errors
    /// [`Error::Io`], for example when the file system is full.
    pub(crate) fn fill_holes(&self, len_bytes: u64) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        backing::fill_holes(file, &self.mapping, self.kind, self.mode, len_bytes)
            .map_err(io_error("reserve space in", &self.path))
    }

    /// The page sizes that the kernel really uses for the mapping at this moment.
    pub(crate) fn page_sizes(&self) -> PageSizes {
        page_sizes::of_address(self.mapping.address(Offset(0)) as usize, self.kind)
    }

    /// From now on every sync of a page-cache medium fails.
    #[cfg(test)]
    pub(crate) fn fail_syncs(&self) {
        let fail = |_| Err(std::io::Error::other("on purpose"));
        let _ = self.group_sync.run(&[ByteRange::new(Offset(0), 1)], fail);
    }

    /// Address of the byte at `offset`, for the modules that hold the right to dereference it.
    #[inline]
    pub(crate) fn address(&self, offset: Offset) -> *mut u8 {
        self.mapping.address(offset)
    }

    /// From now on `sink` is told of every page that cannot be reached, before anyone else is.
    pub(crate) fn report_bad_pages(&self, sink: BadPageSink) {
        let first = self.on_bad_page.set(sink).is_ok();
        assert!(first, "bad pages are reported to someone already");
    }

    /// The error for an access that met a bad page.
    #[cold]
    pub(crate) fn failed(&self, fault: Fault) -> Error {
        let offset = (fault.address - self.mapping.address(Offset(0)) as usize) as u64;
        self.bad_page(PageNo(offset / PAGE))
    }

    /// The pages of `range` that cannot be read, as far as anyone knows: what the kernel knows is found
    /// out without a signal, and the rest by loading from it, if the process handles media errors.
    ///
    /// Costs a system call, and with the handler a look at each line: for what is read once.
    pub(crate) fn unreadable(&self, range: ByteRange) -> Vec<PageNo> {
        let pages = range.start.0 / PAGE..range.end().0.div_ceil(PAGE);
        if self.is_readable(pages.clone()) {
            return Vec::new();
        }
        let bad: Vec<PageNo> =
            pages.filter(|page| !self.is_readable(*page..*page + 1)).map(PageNo).collect();
        bad.iter().for_each(|page| drop(self.bad_page(*page)));
        bad
    }

    /// Whether the kernel knows of a bad page in `range`. Costs a system call and no look at the bytes.
    pub(crate) fn has_known_bad(&self, range: ByteRange) -> bool {
        !self.mapping.populate(range) && !self.unreadable(range).is_empty()
    }

    /// # Errors
    /// [`Error::MediaError`] for the first page of `range` that cannot be read, see
    /// [`Medium::unreadable`].
    pub(crate) fn require_readable(&self, range: ByteRange) -> Result<()> {
        match self.unreadable(range).first() {
            None => Ok(()),
            Some(page) => Err(self.bad_page(*page)),
        }
    }

    fn is_readable(&self, pages: Range<u64>) -> bool {
        let range = ByteRange::new(Offset(pages.start * PAGE), (pages.end - pages.start) * PAGE);
        persist::is_bench(self)
            || self.mapping.populate(range) && persist::try_touch(self, range).is_ok()
    }

    /// The error for `page`, which cannot be reached.
    pub(crate) fn bad_page(&self, page: PageNo) -> Error {
        if let Some(sink) = self.on_bad_page.get() {
            sink(self, page);
        }
        let path = self.path.clone();
        Error::MediaError { path, offset: page.offset().0, len_bytes: PAGE }
    }

    /// Writes `ranges` of a page-cache medium to its file and waits for it. Callers that meet
    /// here share the system's work.
    ///
    /// # Errors
    /// [`Error::Io`] as `msync` reports it, from the first failure on for ever.
    pub(crate) fn sync_to_file(&self, ranges: &[ByteRange]) -> Result<()> {
        let synced = self.group_sync.run(ranges, |range| self.mapping.sync(range));
        synced.map_err(io_error("msync", &self.path))
    }
}
