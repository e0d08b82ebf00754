//! Faults: resolving a logical range to an extent, allocating one where that is asked for.
//!
//! 2 MiB first, opportunistically; whatever stands in the way is a [`FallbackReason`], counted, and
//! the fault goes on at 4 KiB.
//! 1. The entry is locked before the extent map is asked, so what the map says cannot change until
//!    the entry says the same.
//! 2. Contents are persisted before the word that names them, unless the caller owns the bytes.
//! 3. A fault that fails leaves a legal index: an empty entry, unlocked, or what was there.
//! 4. Zero and empty entries are replaced by mappings of the same size; a mapping never is.
//! 5. A hole that is read gets no extent.
//! 6. The length of the volume is looked at again under the lock of the entry.
//!
//! Source: `dax_iomap_pmd_fault` and `dax_iomap_pte_fault` of Linux commit 642261ac995e.

use crate::allocator::{Goal, Reserved};
use crate::counters::{Access, FallbackReason, FaultOutcome};
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::extent_map::Word;
use crate::index::{Found, LockedEntries, LockedHuge, LockedPage, Need};
use crate::persist::{fence, store_zero_lines};
use crate::primitives::atomic::{self, Ordering};
use crate::units::{
    ByteRange, ExtentSize, HUGE, LINE, LogicalPage, LogicalRange, Offset, PAGE, PAGES_PER_HUGE,
    PageNo, PageRun,
};
use crate::volume::VolumeShared;

/// Bytes at the start and at the end of an extent for appending that are zero at first: two lines.
const APPEND_END_BYTES: u64 = 2 * LINE;

/// A range within one slot, and what is wanted of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub range: LogicalRange,
    pub access: Access,
    /// Whether 2 MiB may be used where the range is shorter.
    pub huge_allowed: bool,
    /// With [`Access::Append`]: the shortest run that is of use.
    pub pages_min: u64,
}

/// How a prefix of the range is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Resolved {
    /// By zeros, so many bytes.
    Zero { len_bytes: u64 },
    /// By an extent.
    Mapped { physical: ByteRange, size: ExtentSize },
}

/// How an attempt at 2 MiB ended, if not in an error.
enum Attempt {
    Done(Resolved),
    FellBack(FallbackReason),
}

impl Access {
    fn allocates(self) -> bool {
        matches!(self, Self::Write | Self::Append)
    }
}

impl VolumeShared {
    /// What earlier faults found out about the head of the request, without a lock; `None` if there
    /// must be a fault. A mapping is good only if the caller has pinned the range.
    #[inline]
    pub(crate) fn lookup(&self, request: Request) -> Option<Resolved> {
        let need = match request.access {
            Access::Read => Need::Mapped,
            Access::Write => Need::MappedAndDirty,
            Access::Append | Access::Adopt => return None,
        };
        let skipped = request.range.start % PAGE;
        let reach = |pages: u64| request.range.len_bytes.min(pages * PAGE - skipped);
        match self.index.lookup(request.range.first_page(), request.pages(), need)? {
            Found::Zero { pages } => Some(Resolved::Zero { len_bytes: reach(pages) }),
            Found::Mapping { run, size } => {
                let start = Offset(run.first.offset().0 + skipped);
                let physical = ByteRange::new(start, reach(run.pages));
                Some(Resolved::Mapped { physical, size })
            }
        }
    }

    /// Resolves the longest contiguous prefix of the request. The caller has pinned the range.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Corrupt`], [`Error::Io`], [`Error::OutOfRange`] if the volume was
    /// made shorter meanwhile, and [`Error::InvalidArgument`] for appending to something that is
    /// mapped.
    pub(crate) fn fault(&self, request: Request) -> Result<Resolved> {
        let resolved = match self.fault_huge(request) {
            Ok(Attempt::Done(resolved)) => Ok(resolved),
            Ok(Attempt::FellBack(reason)) => {
                self.pool.counters.mine().fell_back(reason);
                self.fault_pages(request)
            }
            Err(error) => Err(error),
        };
        if resolved.is_err() {
            self.pool.counters.mine().faulted(request.access, FaultOutcome::Failed);
        }
        resolved
    }

    fn fault_huge(&self, request: Request) -> Result<Attempt> {
        let slot = request.range.first_page().slot();
        let is_past_end = slot.range().end().is_none_or(|end| end > self.len_bytes());
        // A huge page of an earlier life has no entry yet, and must get a 2 MiB one, even if the
        // volume was cut in its middle. Whether there is one can be asked before locking: the
        // caller's pin keeps it from being punched.
        if (!request.huge_allowed || is_past_end) && !matches!(self.map.slot(slot)?, Word::Huge(_))
        {
            return Ok(Attempt::FellBack(match request.huge_allowed {
                true => FallbackReason::PastEnd,
                false => FallbackReason::RangeTooShort,
            }));
        }
        let Ok(mut locked) = self.index.lock_huge(slot) else {
            if request.access == Access::Write {
                self.index.count_conflict(slot);
            }
            return Ok(Attempt::FellBack(FallbackReason::SmallerEntry));
        };
        self.require_inside(request.range)?;
        if !matches!(locked.entry(), Entry::Mapping(_)) {
            match self.map.slot(slot)? {
                Word::Huge(first) => {
                    locked.set(Entry::Mapping(first));
                    if self.may_be_in_caches(request.access) {
                        locked.set_dirty();
                    }
                }
                Word::Hole if request.access.allocates() => {
                    let goal = self.next_huge_goal();
                    let reserved =
                        self.filled(request.access, || self.pool.allocator.reserve_huge(goal))?;
                    let Some(reserved) = reserved else {
                        return Ok(Attempt::FellBack(FallbackReason::NoHugePage));
                    };
                    let first = match self.map.map_huge(slot, reserved) {
                        // No page was left for the tables above: the huge page has some.
                        Err(Error::Full { .. }) => {
                            return Ok(Attempt::FellBack(FallbackReason::NoHugePage));
                        }
                        mapped => mapped?,
                    };
                    locked.set(Entry::Mapping(first));
                    self.set_huge_goal(first);
                    self.pool.counters.mine().allocated_huge.add(1);
                    return Ok(Attempt::Done(self.use_huge(&mut locked, request)));
                }
                Word::Hole => {
                    if locked.entry() == Entry::Empty {
                        locked.set(Entry::Zero);
                    }
                    self.pool.counters.mine().faulted(request.access, FaultOutcome::HugeZero);
                    let len_bytes = request.range.len_bytes;
                    return Ok(Attempt::Done(Resolved::Zero { len_bytes }));
                }
                _ => return Ok(Attempt::FellBack(FallbackReason::ExtentTooShort)),
            }
        }
        request.require_hole()?;
        Ok(Attempt::Done(self.use_huge(&mut locked, request)))
    }

    /// An error if the volume was made shorter after the range was checked. The caller holds an
    /// entry of the slot: whoever shortens the volume sees that, or is seen here (docs/DAX.md,
    /// Resizing).
    fn require_inside(&self, range: LogicalRange) -> Result<()> {
        // ORDERING: SeqCst; pairs with the fence in `VolumeShared::cut_off`.
        atomic::fence(Ordering::SeqCst);
        self.check_range(range)
    }

    /// Whether the bytes of an extent of an earlier life may be durable nowhere: whoever stored them was
    /// killed before they were written back. They count as dirty, so that a sync makes what is read
    /// now durable. An appender has a way of its own ([`crate::Appender::adopt`]).
    fn may_be_in_caches(&self, access: Access) -> bool {
        self.pool.was_killed && matches!(access, Access::Read | Access::Write)
    }

    /// Answers from a 2 MiB mapping, whatever size was asked for.
    fn use_huge(&self, locked: &mut LockedHuge<'_>, request: Request) -> Resolved {
        let Entry::Mapping(first) = locked.entry() else { unreachable!("not a mapping") };
        if request.access == Access::Write {
            locked.set_dirty();
        }
        self.pool.counters.mine().faulted(request.access, FaultOutcome::Huge);
        let start = Offset(first.offset().0 + request.range.start % HUGE);
        let physical = ByteRange::new(start, request.range.len_bytes);
        Resolved::Mapped { physical, size: ExtentSize::Huge }
    }

    fn fault_pages(&self, request: Request) -> Result<Resolved> {
        let page = request.range.first_page();
        let mut locked = match self.index.lock_page(page) {
            LockedPage::Huge(mut huge) => {
                self.require_inside(request.range)?;
                request.require_hole()?;
                return Ok(self.use_huge(&mut huge, request));
            }
            LockedPage::Page(locked) => locked,
        };
        self.require_inside(request.range)?;
        if !matches!(locked.entry(0), Entry::Mapping(_)) {
            match self.map.page(page)? {
                Word::Page(physical) => {
                    locked.set(0, Entry::Mapping(physical));
                    if self.may_be_in_caches(request.access) {
                        locked.set_dirty(0);
                    }
                }
                Word::Hole if request.access.allocates() => {
                    return self.allocate_pages(&mut locked, request);
                }
                Word::Hole => {
                    if locked.entry(0) == Entry::Empty {
                        locked.set(0, Entry::Zero);
                    }
                    self.pool.counters.mine().faulted(request.access, FaultOutcome::PageZero);
                    let len_bytes = request.range.len_bytes.min(PAGE - request.range.start % PAGE);
                    return Ok(Resolved::Zero { len_bytes });
                }
                word => unreachable!("{word:?} under the entry of a page"),
            }
        }
        request.require_hole()?;
        let run = self.extend_over_neighbours(&mut locked, request)?;
        Ok(self.use_pages(&mut locked, request, run))
    }

    /// Takes in the pages after the first as long as they are wanted and physically follow.
    fn extend_over_neighbours(
        &self,
        locked: &mut LockedEntries<'_>,
        request: Request,
    ) -> Result<PageRun> {
        let Entry::Mapping(first) = locked.entry(0) else { unreachable!("not a mapping") };
        let mut run = PageRun { first, pages: 1 };
        while run.pages < request.pages() {
            let next = LogicalPage(request.range.first_page().0 + run.pages);
            if self.map.page(next)? != Word::Page(first.plus(run.pages)) {
                break;
            }
            locked.extend();
            let nth = run.pages as usize;
            match locked.entry(nth) {
                Entry::Mapping(_) => {}
                _ => {
                    locked.set(nth, Entry::Mapping(first.plus(run.pages)));
                    if self.may_be_in_caches(request.access) {
                        locked.set_dirty(nth);
                    }
                }
            }
            run.pages += 1;
        }
        Ok(run)
    }

    /// Gives the hole at the head of the request the longest run of pages that can be had at once.
    fn allocate_pages(&self, locked: &mut LockedEntries<'_>, request: Request) -> Result<Resolved> {
        let page = request.range.first_page();
        let allocator = &self.pool.allocator;
        let holes = self.lock_holes(locked, request)?;
        let pages_min = match request.access {
            Access::Append if holes < request.pages() => {
                return Err(Error::InvalidArgument("appending to something that is mapped"));
            }
            Access::Append => request.pages_min.max(1),
            _ => 1,
        };
        let full = || Error::Full {
            needed_bytes: pages_min.saturating_mul(PAGE),
            free_bytes: allocator.free_pages() * PAGE,
        };
        let goal = self.goal(page, holes, request.access)?;
        let mut pages_max = holes;
        let run = loop {
            let reserve = || allocator.reserve_run(pages_max, pages_min, goal);
            let reserved = self.filled(request.access, reserve)?.ok_or_else(full)?;
            let pages = reserved.run().pages;
            match self.map.map_pages(page, reserved) {
                // No page was left for a table: the run does with one less. There are three at most.
                Err(Error::Full { .. }) if pages > pages_min => pages_max = pages - 1,
                mapped => break mapped?,
            }
        };
        for nth in 0..run.pages {
            locked.set(nth as usize, Entry::Mapping(run.first.plus(nth)));
        }
        self.pool.counters.mine().allocated_pages.add(run.pages);
        Ok(self.use_pages(locked, request, run))
    }

    /// Locks the holes at the head of the request, of which the first is locked already, and says
    /// how many there are. Each is looked at under its lock: the page that the request ends in may
    /// be mapped meanwhile by a neighbour who has the rest of its bytes.
    fn lock_holes(&self, locked: &mut LockedEntries<'_>, request: Request) -> Result<u64> {
        let page = request.range.first_page();
        let likely = self.map.hole_run(page, request.pages())?;
        for holes in 1..likely {
            locked.extend();
            if self.map.page(LogicalPage(page.0 + holes))? != Word::Hole {
                return Ok(holes);
            }
        }
        Ok(likely)
    }

    fn use_pages(
        &self,
        locked: &mut LockedEntries<'_>,
        request: Request,
        run: PageRun,
    ) -> Resolved {
        if request.access == Access::Write {
            (0..run.pages as usize).for_each(|nth| locked.set_dirty(nth));
        }
        self.pool.counters.mine().faulted(request.access, FaultOutcome::Page);
        let skipped = request.range.start % PAGE;
        let start = Offset(run.first.offset().0 + skipped);
        let len_bytes = request.range.len_bytes.min(run.pages * PAGE - skipped);
        Resolved::Mapped { physical: ByteRange::new(start, len_bytes), size: ExtentSize::Page }
    }

    /// Pages by `reserve`, made fit to be named. What turns out bad is given back, for nobody to get it
    /// again, and others are taken in its place: each attempt leaves a page less.
    fn filled<'a>(
        &self,
        access: Access,
        reserve: impl Fn() -> Option<Reserved<'a>>,
    ) -> Result<Option<Reserved<'a>>> {
        while let Some(reserved) = reserve() {
            // Not all of it is stored to here.
            if access == Access::Append && self.pool.medium.has_known_bad(reserved.run().bytes()) {
                continue;
            }
            match self.fill(&reserved, access) {
                Err(Error::MediaError { .. }) => {}
                filled => return filled.map(|()| Some(reserved)),
            }
        }
        Ok(None)
    }

    /// Makes fresh pages fit to be named: zeros, durably. An appender owns the bytes, and shows
    /// nothing of them but what it stored; it gets zeros only at both ends, so that no header or
    /// footer of an earlier owner stands there after a crash.
    fn fill(&self, reserved: &Reserved<'_>, access: Access) -> Result<()> {
        let medium = &self.pool.medium;
        let bytes = reserved.run().bytes();
        if access == Access::Write {
            let [_] = fence(medium, [store_zero_lines(medium, bytes)?])?;
            return Ok(());
        }
        let last = Offset(bytes.end().0 - APPEND_END_BYTES);
        let ends = [bytes.start, last].map(|start| ByteRange::new(start, APPEND_END_BYTES));
        let [first, last] = ends.map(|end| store_zero_lines(medium, end));
        fence(medium, [first?, last?])?;
        Ok(())
    }

    /// Where `holes` pages from `page` on had best be: beside their logical neighbours. The first pages
    /// of a slot that the volume does not have whole yet get a huge page to themselves if they can, so
    /// that the slot can be upgraded in place when it is.
    fn goal(&self, page: LogicalPage, holes: u64, access: Access) -> Result<Goal> {
        let (slot, position) = (page.slot(), page.index_in_slot());
        if position > 0
            && let Word::Page(before) = self.map.page(LogicalPage(page.0 - 1))?
        {
            return Ok(Goal::At(before.plus(1)));
        }
        if position as u64 + holes < PAGES_PER_HUGE
            && let Word::Page(after) = self.map.page(LogicalPage(page.0 + holes))?
            && after.0 % PAGES_PER_HUGE >= holes
        {
            return Ok(Goal::At(PageNo(after.0 - holes)));
        }
        let is_past_end = slot.range().end().is_none_or(|end| end > self.len_bytes());
        let is_first = access == Access::Write && self.map.slot(slot)? == Word::Hole;
        Ok(if is_past_end && is_first { Goal::Fresh { position } } else { Goal::Any })
    }
}

impl Request {
    /// Pages that the range touches.
    fn pages(self) -> u64 {
        let end = (self.range.start + self.range.len_bytes).div_ceil(PAGE);
        end - self.range.first_page().0
    }

    /// An error if this is an append, which wants a hole, and there is something.
    fn require_hole(self) -> Result<()> {
        match self.access {
            Access::Append => Err(Error::InvalidArgument("appending to something that is mapped")),
            _ => Ok(()),
        }
    }
}
