//! One linear, 2 MiB aligned mapping. Every mapping system call of the crate is in this file.
//!
//! 1. The address range is reserved, and given back, by one `memmap2` map with 2 MiB of slack;
//!    a file is placed over its aligned part. So there is one owner and one unmap.
//! 2. `address(0)` is a multiple of 2 MiB.
//! 3. A forked child does not inherit the pages (`MADV_DONTFORK`): it would write without lock. And it
//!    knows: a word behind them is zero there (`MADV_WIPEONFORK`). What the child has mapped at their
//!    addresses since then is not ours, and is not unmapped.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use rustix::io::{Errno, retry_on_intr};
use rustix::mm::{Advice, MapFlags, MsyncFlags, ProtFlags, madvise, mmap, msync, munmap};

use super::{MediumKind, Mode};
use crate::error::{Error, Result, io_error};
use crate::units::{ByteRange, HUGE, Offset, PAGE};

pub(crate) struct Mapping {
    /// Owns the address range; its own bounds include the slack.
    reserved: ManuallyDrop<Arc<MmapRaw>>,
    base: NonNull<u8>,
    len_bytes: u64,
}

// SAFETY: the mapping is plain memory that stays mapped while `self` lives. Handing out an
// address touches nothing; each module that dereferences one states its own right to do so.
unsafe impl Send for Mapping {}
// SAFETY: as above; all methods take `&self` and leave the mapping in place.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Zeroed memory of this process.
    pub(crate) fn anonymous(path: &Path, len_bytes: u64) -> Result<Self> {
        let mapping = Self::reserve(path, len_bytes)?;
        mapping.advise(Advice::LinuxHugepage);
        mapping.advise(Advice::LinuxDontFork);
        Ok(mapping)
    }

    /// Bytes `0..len_bytes` of `file`, shared with it. A regular file for which the kernel grants
    /// `MAP_SYNC` turns out to be a [`MediumKind::DaxFile`].
    pub(crate) fn of_file(
        path: &Path,
        file: &File,
        kind: MediumKind,
        len_bytes: u64,
        mode: Mode,
    ) -> Result<(Self, MediumKind)> {
        if kind == MediumKind::Hugetlbfs && !len_bytes.is_multiple_of(HUGE) {
            // The kernel would round the length up, past the reservation.
            return Err(Error::InvalidArgument("a pool on hugetlbfs has whole huge pages"));
        }
        let mapping = Self::reserve(path, len_bytes)?;
        let sync = MapFlags::SHARED_VALIDATE | MapFlags::SYNC;
        let kind = match kind {
            MediumKind::File => match mapping.place(file, sync, mode) {
                Ok(()) => MediumKind::DaxFile,
                Err(_) => {
                    mapping.place(file, MapFlags::SHARED, mode).map_err(io_error("mmap", path))?;
                    kind
                }
            },
            MediumKind::DeviceDax => {
                mapping.place(file, sync, mode).map_err(io_error("mmap", path))?;
                kind
            }
            _ => {
                mapping.place(file, MapFlags::SHARED, mode).map_err(io_error("mmap", path))?;
                mapping.advise(Advice::LinuxHugepage);
                kind
            }
        };
        mapping.advise(Advice::LinuxDontFork);
        Ok((mapping, kind))
    }

    /// The same memory again.
    #[cfg(feature = "sim")]
    pub(crate) fn share(&self) -> Self {
        Self { reserved: ManuallyDrop::new(Arc::clone(&self.reserved)), ..*self }
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Address of the byte at `offset`. Panics past the end: every caller has checked its range
    /// against the pool, so that is a broken invariant of ours.
    #[inline]
    pub(crate) fn address(&self, offset: Offset) -> *mut u8 {
        assert!(offset.0 <= self.len_bytes, "offset {offset} past a pool of {}", self.len_bytes);
        self.base.as_ptr().wrapping_add(offset.0 as usize)
    }

    /// Puts 2 MiB pages behind as much of a new tmpfs file as the kernel agrees to. On a mount with
    /// `huge=never`, such as `/dev/shm`, collapsing is the only way to them; it is fast while just
    /// one page of the 2 MiB is there and mapped, and saves the work of allocating 512.
    pub(crate) fn fill_with_huge_pages(path: &Path, file: &File, len_bytes: u64) -> Result<()> {
        let mapping = Self::reserve(path, len_bytes)?;
        let placed = mapping.place(file, MapFlags::SHARED, Mode::ReadWrite);
        placed.map_err(io_error("mmap", path))?;
        mapping.advise(Advice::LinuxHugepage);
        for start in (0..len_bytes / HUGE).map(|huge| Offset(huge * HUGE)) {
            let address = mapping.address(start);
            // SAFETY: the page is inside the mapping of a file that nobody else has yet; running
            // out of memory is an error here, not a signal.
            let one = unsafe { madvise(address.cast(), PAGE as usize, Advice::LinuxPopulateWrite) };
            if one.is_err() {
                break;
            }
            // SAFETY: collapsing changes the page size of a range inside the mapping, never its
            // contents. rustix has no name for this advice (Linux 6.1).
            unsafe { libc::madvise(address.cast(), HUGE as usize, libc::MADV_COLLAPSE) };
        }
        Ok(())
    }

    /// Whether this process is a fork of the one that made the mapping, so that nothing is mapped here.
    #[inline]
    pub(crate) fn is_of_parent(&self) -> bool {
        // ORDERING: Relaxed; it changes in no process, only from a parent to its child.
        self.made_here().load(Ordering::Relaxed) == 0
    }

    /// Not zero in the process that made the mapping, zero in its children.
    #[inline]
    fn made_here(&self) -> &AtomicU64 {
        let word = self.base.as_ptr().wrapping_add(self.len_bytes.next_multiple_of(PAGE) as usize);
        // SAFETY: the word is at the start of a page behind the mapping, inside the reservation
        // (asserted in `reserve`), which stays mapped while `self` lives, in children too.
        unsafe { AtomicU64::from_ptr(word.cast()) }
    }

    /// Writes the pages of `range` to the file and waits.
    pub(crate) fn sync(&self, range: ByteRange) -> io::Result<()> {
        let start = range.start.0 / PAGE * PAGE;
        let end = range.end().0.div_ceil(PAGE) * PAGE;
        let address = self.address(Offset(start));
        // SAFETY: `start..end` is page aligned and inside the mapping; msync writes no memory.
        let sync = || unsafe { msync(address.cast(), (end - start) as usize, MsyncFlags::SYNC) };
        Ok(retry_on_intr(sync)?)
    }

    /// Brings the pages of `range`, which are whole, into the page table. False if one of them has a
    /// media error that the kernel knows of; no signal is raised for it.
    pub(crate) fn populate(&self, range: ByteRange) -> bool {
        // For these the kernel would raise SIGBUS for a load: a bad page, or one that the file has
        // not. Any other: it cannot tell, being older than Linux 5.14.
        !matches!(self.populate_read(range), Err(Errno::HWPOISON | Errno::FAULT))
    }

    /// Makes the kernel find a page for each of the first `len_bytes` bytes now, where it answers
    /// what later would be a signal. A media error is left to whoever meets it.
    pub(crate) fn back(&self, len_bytes: u64) -> io::Result<()> {
        let len_bytes = len_bytes.min(self.len_bytes);
        for start in (0..len_bytes).step_by(HUGE as usize) {
            let range = ByteRange::new(Offset(start), HUGE.min(len_bytes - start));
            match self.populate_read(range) {
                // For a file in memory it means this.
                Err(Errno::FAULT) => return Err(Errno::NOSPC.into()),
                Ok(()) | Err(Errno::HWPOISON | Errno::INVAL) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn populate_read(&self, range: ByteRange) -> Result<(), Errno> {
        let (address, len) = (self.address(range.start), range.len_bytes as usize);
        assert!(range.end().0 <= self.len_bytes, "populate past the pool");
        loop {
            // SAFETY: the range is inside the mapping; nothing in it is changed.
            let answer = unsafe { madvise(address.cast(), len, Advice::LinuxPopulateRead) };
            if !matches!(answer, Err(Errno::INTR | Errno::AGAIN)) {
                return answer;
            }
        }
    }

    fn reserve(path: &Path, len_bytes: u64) -> Result<Self> {
        let len = usize::try_from(len_bytes + HUGE)
            .map_err(|_| Error::InvalidArgument("the pool does not fit the address space"))?;
        let reserved = MmapOptions::new()
            .len(len)
            .no_reserve_swap()
            .map_anon()
            .map_err(io_error("reserve address space for", path))?;
        let reserved = ManuallyDrop::new(Arc::new(MmapRaw::from(reserved)));
        let start = reserved.as_mut_ptr();
        let slack = start.align_offset(HUGE as usize);
        let base = NonNull::new(start.wrapping_add(slack)).expect("a mapping is not at address 0");
        let mapping = Self { reserved, base, len_bytes };
        let word = ptr::from_ref(mapping.made_here());
        assert!(word as usize + PAGE as usize <= mapping.reserved_end(), "past the reservation");
        mapping.made_here().store(1, Ordering::Relaxed);
        // SAFETY: the page belongs to the reservation, and holds nothing but the word. The advice
        // changes nothing in this process; a kernel without it leaves children unwarned.
        let _ = unsafe { madvise(word.cast_mut().cast(), PAGE as usize, Advice::LinuxWipeOnFork) };
        Ok(mapping)
    }

    /// Replaces the aligned part of the reservation by the file. A `MAP_FIXED` that fails may leave
    /// its addresses unmapped, for another thread to get them from the kernel and to lose what it
    /// puts there; so the file is mapped elsewhere first, to see whether it can be.
    fn place(&self, file: &File, flags: MapFlags, mode: Mode) -> io::Result<()> {
        let protection = match mode {
            Mode::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
            Mode::ReadOnly => ProtFlags::READ,
        };
        let len = self.len_bytes as usize;
        assert!(self.base.as_ptr() as usize + len <= self.reserved_end(), "past the reservation");
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let elsewhere = unsafe { mmap(ptr::null_mut(), len, protection, flags, file, 0) }?;
        // SAFETY: the mapping was made just now, and nobody else knows it.
        unsafe { munmap(elsewhere, len) }?;
        // SAFETY: MAP_FIXED replaces only pages of `self.reserved`, which nobody else knows yet,
        // and whose owner unmaps whatever is there when it is dropped.
        let placed = unsafe {
            mmap(self.base.as_ptr().cast(), len, protection, flags | MapFlags::FIXED, file, 0)
        }?;
        assert_eq!(placed, self.base.as_ptr().cast(), "MAP_FIXED moved");
        Ok(())
    }

    fn reserved_end(&self) -> usize {
        self.reserved.as_ptr() as usize + self.reserved.len()
    }

    /// Advice is a wish; where the kernel does not know it, nothing is lost.
    fn advise(&self, advice: Advice) {
        // SAFETY: the advices given here (huge pages, no inheritance by children) do not change
        // the contents of the mapping.
        let _ = unsafe { madvise(self.base.as_ptr().cast(), self.len_bytes as usize, advice) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if !self.is_of_parent() {
            // SAFETY: it is dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.reserved) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    #[test]
    fn mapping_a_file_takes_no_address_from_other_threads() {
        // An ordinary file refuses MAP_SYNC; another thread maps memory all the while.
        let file = tempfile::NamedTempFile::new().unwrap();
        let len_bytes = 2 * HUGE;
        file.as_file().set_len(len_bytes).unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let mut own = MmapOptions::new().len(HUGE as usize).map_anon().unwrap();
                    own[0] = 1;
                    thread::sleep(std::time::Duration::from_micros(20));
                    assert_eq!(own[0], 1, "someone else's mapping took its place");
                }
            });
            for _ in 0..20_000 {
                let (path, kind, mode) = (file.path(), MediumKind::File, Mode::ReadWrite);
                Mapping::of_file(path, file.as_file(), kind, len_bytes, mode).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
            other.join().unwrap();
        });
    }
}
