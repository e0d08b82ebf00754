//! Extents that are written once, front to back, by one and read by many meanwhile.
//!
//! 1. The bytes before `frozen` never change while the extent is mapped; anyone may read them.
//! 2. The bytes behind it belong to the [`Appender`]s alone: one at the front, and those that were
//!    split off the end. They are only ever split, never shared or copied.
//! 3. Bytes become frozen only against a [`Durable`] for exactly the next ones: what a reader sees
//!    is on the medium. A token of an earlier mapping of the same bytes is refused: the appender of
//!    this one has not passed them.
//! 4. The mapping is pinned until the last handle, reader or appender, is gone.
//!
//! Knows nothing of segments, frames or checksums.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::counters::Access;
use crate::error::{Error, Result};
use crate::fault::Request;
use crate::guard::{Faulted, Pinned};
use crate::medium::Mode;
use crate::persist::{
    Durable, Flushed, Writer, before_read, fence, flush_range, prefetch, store_lines, touch,
};
use crate::units::{ByteRange, ExtentSize, LINE, LogicalRange, Offset, PageNo};
use crate::volume::VolumeShared;

/// A mapped extent whose frozen prefix can be read. Pins the mapping while it lives.
pub struct Extent {
    pinned: Pinned,
    /// Tells the tokens of its appenders from all others.
    writer: Writer,
    /// Bytes from the start that no one can store to any more.
    frozen: AtomicU64,
}

static NEXT_MAPPING_ID: AtomicU64 = AtomicU64::new(1);

/// The exclusive right to bytes of an extent that are not frozen.
pub struct Appender {
    extent: Arc<Extent>,
    /// Next byte to be appended, from the start of the extent.
    position: u64,
    end: u64,
}

impl Extent {
    /// Resolves the head of the request, and gives the right to all of its bytes.
    pub(crate) fn fault(
        volume: &Arc<VolumeShared>,
        request: Request,
        deadline: Option<Instant>,
    ) -> Result<Option<(Appender, Arc<Self>)>> {
        debug_assert!(matches!(request.access, Access::Append | Access::Adopt));
        let Faulted::Pinned(pinned) = Pinned::fault(volume, request, deadline)? else {
            return Ok(None);
        };
        let end = pinned.physical.len_bytes;
        // ORDERING: Relaxed; the numbers only have to differ.
        let mapping_id = NEXT_MAPPING_ID.fetch_add(1, Ordering::Relaxed);
        let writer = Writer::Appender { mapping_id };
        let extent = Arc::new(Self { pinned, writer, frozen: AtomicU64::new(0) });
        Ok(Some((Appender { extent: Arc::clone(&extent), position: 0, end }, extent)))
    }

    /// Length of the mapping in bytes.
    #[inline]
    pub fn len_bytes(&self) -> u64 {
        self.pinned.physical.len_bytes
    }

    /// Whether it is one huge page or a run of pages.
    pub fn size(&self) -> ExtentSize {
        self.pinned.size
    }

    /// The range of the volume that it answers for.
    pub fn logical(&self) -> LogicalRange {
        self.pinned.logical()
    }

    /// Where it is in the pool.
    #[inline]
    pub fn physical(&self) -> Offset {
        self.pinned.physical.start
    }

    /// Bytes from the start that can be read.
    #[inline]
    pub fn frozen_bytes(&self) -> u64 {
        // ORDERING: Acquire; pairs with the Release in `freeze`.
        self.frozen.load(Ordering::Acquire)
    }

    /// Makes appended bytes readable.
    ///
    /// Panics unless `durable` is of an appender of this mapping, for exactly the bytes after the
    /// frozen ones: that would be a broken invariant of the caller.
    pub fn freeze(&self, durable: Durable) {
        let range = durable.range();
        let start = self.physical().0 + self.frozen.load(Ordering::Relaxed);
        assert_eq!(durable.writer(), self.writer, "token of another mapping");
        assert_eq!(range.start.0, start, "frozen out of order");
        assert!(range.end() <= self.pinned.physical.end(), "frozen past the extent");
        // ORDERING: Release; pairs with the Acquire in `frozen_bytes`, so that who sees the bytes
        // as frozen sees what was stored there.
        self.frozen.store(range.end().0 - self.physical().0, Ordering::Release);
    }

    /// `len_bytes` bytes from `start` on; `None` unless all of them are frozen.
    #[inline]
    pub fn bytes(&self, start: u64, len_bytes: u64) -> Option<&[u8]> {
        let end = start.checked_add(len_bytes)?;
        (end <= self.frozen_bytes()).then(|| {
            let address = self.address(start, len_bytes);
            // SAFETY: frozen bytes are stored to by no one (invariants 1 and 2) and stay mapped
            // while `self` lives (invariant 4); the Acquire made their stores visible.
            unsafe { std::slice::from_raw_parts(address, len_bytes as usize) }
        })
    }

    /// Makes sure that `len_bytes` bytes from `start` on can be read, where the process handles media
    /// errors ([`crate::install_sigbus_handler`]): bytes that are about to be handed out in place.
    /// Otherwise that is left to whoever reads them.
    ///
    /// Panics past the end of the extent.
    ///
    /// # Errors
    /// [`Error::MediaError`]; nobody else gets the page then.
    #[inline]
    pub fn touch(&self, start: u64, len_bytes: u64) -> Result<()> {
        touch(&self.pinned.volume.pool.medium, self.part(start, len_bytes))
    }

    /// All frozen bytes from `start` on; none if there are none.
    #[inline]
    pub fn bytes_from(&self, start: u64) -> &[u8] {
        let len_bytes = self.frozen_bytes().saturating_sub(start);
        if len_bytes == 0 {
            return &[];
        }
        let address = self.address(start, len_bytes);
        // SAFETY: as for `bytes`; the range ends where the frozen bytes do.
        unsafe { std::slice::from_raw_parts(address, len_bytes as usize) }
    }

    /// Asks for the lines of `len_bytes` bytes from `start` on to be brought near, since they will be read.
    /// A hint: any range will do.
    #[inline]
    pub fn prefetch(&self, start: u64, len_bytes: u64) {
        let medium = &self.pinned.volume.pool.medium;
        let first = self.physical().0.saturating_add(start).min(medium.len_bytes());
        let address = medium.address(Offset(first));
        for line in 0..(first % LINE + len_bytes).div_ceil(LINE) {
            prefetch(address.wrapping_add((line * LINE) as usize));
        }
    }

    /// An [`Error::MediaError`] for each page that holds any of `len_bytes` bytes from `start` on and
    /// cannot be read, as far as anyone knows. Nobody else gets one of them then.
    ///
    /// What the kernel knows is found out without a signal. What it does not know yet ends the process,
    /// unless it handles media errors ([`crate::install_sigbus_handler`]). Costs a system call.
    ///
    /// Panics past the end of the extent.
    pub fn unreadable(&self, start: u64, len_bytes: u64) -> Vec<Error> {
        let medium = &self.pinned.volume.pool.medium;
        let pages = medium.unreadable(self.part(start, len_bytes));
        pages.into_iter().map(|page| medium.bad_page(page)).collect()
    }

    /// Where the pages are that [`Extent::unreadable`] has an error for, ascending.
    pub fn bad_pages(&self, start: u64, len_bytes: u64) -> Vec<Offset> {
        let pages = self.pinned.volume.pool.medium.unreadable(self.part(start, len_bytes));
        pages.into_iter().map(PageNo::offset).collect()
    }

    #[inline]
    fn part(&self, start: u64, len_bytes: u64) -> ByteRange {
        let range = ByteRange::new(Offset(self.physical().0 + start), len_bytes);
        assert!(range.end() <= self.pinned.physical.end(), "a part past the extent");
        range
    }

    /// Where `len_bytes` bytes from `start` on are, which somebody is about to look at.
    #[inline]
    fn address(&self, start: u64, len_bytes: u64) -> *const u8 {
        let medium = &self.pinned.volume.pool.medium;
        let offset = Offset(self.physical().0 + start);
        before_read(medium, ByteRange::new(offset, len_bytes));
        medium.address(offset)
    }
}

impl Appender {
    /// The extent that the bytes belong to.
    pub fn extent(&self) -> &Arc<Extent> {
        &self.extent
    }

    /// Bytes that can still be appended.
    pub fn remaining_bytes(&self) -> u64 {
        self.end - self.position
    }

    /// Where the next byte goes, in bytes from the start of the extent.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// All bytes not yet appended, as they stand: what recovery looks at.
    pub fn bytes(&self) -> &[u8] {
        let address = self.extent.address(self.position, self.remaining_bytes());
        // SAFETY: the bytes from `position` to `end` belong to this appender alone (invariant 2),
        // which stores only through `&mut self`; they stay mapped by invariant 4.
        unsafe { std::slice::from_raw_parts(address, self.remaining_bytes() as usize) }
    }

    /// Takes the last `len_bytes` bytes away, into an appender of their own.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless it is whole lines that are left.
    pub fn split_end(&mut self, len_bytes: u64) -> Result<Self> {
        if len_bytes > self.remaining_bytes() || !len_bytes.is_multiple_of(LINE) {
            return Err(Error::InvalidArgument("an end of whole lines that are left"));
        }
        let end = self.end;
        self.end -= len_bytes;
        Ok(Self { extent: Arc::clone(&self.extent), position: self.end, end })
    }

    /// Stores whole lines past the cache, and moves on.
    ///
    /// Panics unless they are whole lines that fit ([`Appender::remaining_bytes`]).
    ///
    /// # Durability
    /// Durable when [`crate::Pool::fence`] has taken the token.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Closed`]; [`Error::Io`] where the medium reports that it failed.
    #[cfg_attr(feature = "sim", track_caller)]
    pub fn append(&mut self, lines: &[u8]) -> Result<Flushed> {
        let pool = &self.extent.pinned.volume.pool;
        pool.require_writable()?;
        let medium = &pool.medium;
        assert!(lines.len() as u64 <= self.remaining_bytes(), "appended past the end");
        let start = Offset(self.extent.physical().0 + self.position);
        let flushed = store_lines(medium, start, lines)?.by(self.extent.writer);
        self.position += lines.len() as u64;
        Ok(flushed)
    }

    /// Accepts the next `len_bytes` bytes as they stand, written by an earlier life, and freezes
    /// them. In a pool that is open for writing they are persisted again: a killed process may
    /// have left them in caches, and what is served from now on must survive the power too.
    ///
    /// Panics if so many bytes are not left, or if it is not the appender at the front.
    ///
    /// # Errors
    /// [`Error::Io`] where the medium reports that it failed.
    pub fn adopt(&mut self, len_bytes: u64) -> Result<()> {
        assert!(len_bytes <= self.remaining_bytes(), "adopted past the end");
        assert_eq!(self.position, self.extent.frozen_bytes(), "adopted out of order");
        let medium = &self.extent.pinned.volume.pool.medium;
        let start = Offset(self.extent.physical().0 + self.position);
        let range = ByteRange::new(start, len_bytes);
        if medium.mode() == Mode::ReadWrite {
            let [durable] = fence(medium, [flush_range(medium, range)?.by(self.extent.writer)])?;
            self.extent.freeze(durable);
        } else {
            // ORDERING: Release, as in `freeze`; nobody stores to a pool that is read-only.
            self.extent.frozen.store(self.position + len_bytes, Ordering::Release);
        }
        self.position += len_bytes;
        Ok(())
    }
}
