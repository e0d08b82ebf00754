//! Physical space: which pages and huge pages are free.
//!
//! DRAM only. Rebuilt at open from the extent maps, so it cannot disagree with them.
//! 1. A page is in exactly one of: free, reserved, mapped, bad.
//! 2. `free + reserved + mapped + bad == total`, checked at open and close.
//! 3. Huge pages are kept whole: pages come out of huge pages that are already broken, as long as
//!    those can serve.
//! 4. A page that was quarantined is bad as soon as nobody owns it, and not free again before it is
//!    forgiven.
//!
//! Knows nothing of volumes, logs, or who asked.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::units::{HugeNo, PAGES_PER_HUGE, PageNo, PageRun};

/// How the pages of a pool are used, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Space {
    /// All pages of the pool, superblocks included.
    pub total_pages: u64,
    /// Pages that nothing owns.
    pub free_pages: u64,
    /// Pages promised to a fault that is under way.
    pub reserved_pages: u64,
    /// Pages of extents, tables and superblocks.
    pub mapped_pages: u64,
    /// Pages that nothing owns and that had a media error: they are given to nobody.
    pub bad_pages: u64,
    /// Free pages that form whole huge pages, in huge pages.
    pub free_huge_pages: u64,
    /// The longest run of free pages within one huge page.
    pub longest_run_pages: u64,
}

pub(crate) struct Allocator {
    state: Mutex<State>,
}

struct State {
    /// Free pages of each huge page; a huge page is whole exactly if all 512 are.
    groups: Vec<Group>,
    /// How many are whole, so that nobody looks for one in vain.
    whole: u64,
    /// No huge page before this one has a free page, so that a full head is not looked at again.
    first_free: usize,
    total_pages: u64,
    free_pages: u64,
    reserved_pages: u64,
    mapped_pages: u64,
    /// Those that had a media error, whoever owns them.
    quarantined: BTreeSet<PageNo>,
    /// Those of them that nobody owns.
    bad: BTreeSet<PageNo>,
}

/// One huge page: a bit per page, set if free. 66 bytes per 2 MiB.
#[derive(Clone)]
struct Group {
    free: [u64; 8],
    count: u16,
}

/// Where a run of pages had best come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Goal {
    /// A huge page that is broken already.
    Any,
    /// Here, so that logical neighbours are physical ones.
    At(PageNo),
    /// A whole huge page, from this position on: what comes before and after it in its slot finds
    /// its place beside it, so that the slot can become a huge page where it is.
    ///
    /// Source: the reservations of Navarro et al., "Practical, transparent operating system support
    /// for superpages" (OSDI 2002); here others may use what is left.
    Fresh { position: usize },
}

/// Pages that are promised to the holder: it makes them mapped, or they become free again.
#[must_use]
pub(crate) struct Reserved<'a> {
    allocator: &'a Allocator,
    run: PageRun,
}

impl Reserved<'_> {
    pub(crate) fn run(&self) -> PageRun {
        self.run
    }

    /// Now a word of an extent map, or a superblock, names the pages.
    pub(crate) fn into_mapped(self) -> PageRun {
        let run = self.run;
        let mut state = self.allocator.state.lock();
        state.reserved_pages -= run.pages;
        state.mapped_pages += run.pages;
        drop(state);
        std::mem::forget(self);
        run
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut state = self.allocator.state.lock();
        state.reserved_pages -= self.run.pages;
        state.give_back(self.run);
    }
}

impl Allocator {
    /// All of `total_pages` pages are free.
    pub(crate) fn new(total_pages: u64) -> Self {
        let groups = (0..total_pages.div_ceil(PAGES_PER_HUGE))
            .map(|group| {
                let pages = (total_pages - group * PAGES_PER_HUGE).min(PAGES_PER_HUGE);
                let mut all = Group { free: [0; 8], count: 0 };
                all.set(0, pages as usize);
                all
            })
            .collect();
        let state = State {
            groups,
            whole: total_pages / PAGES_PER_HUGE,
            first_free: 0,
            total_pages,
            free_pages: total_pages,
            reserved_pages: 0,
            mapped_pages: 0,
            quarantined: BTreeSet::new(),
            bad: BTreeSet::new(),
        };
        Self { state: Mutex::new(state) }
    }

    /// Marks `run` as mapped because the medium says so. False, and nothing is changed, if it
    /// is not all free, not inside the pool, or crosses a huge page.
    pub(crate) fn claim(&self, run: PageRun) -> bool {
        let mut state = self.state.lock();
        let (group, first) = (run.first.huge().0, (run.first.0 % PAGES_PER_HUGE) as usize);
        let fits = first as u64 + run.pages <= PAGES_PER_HUGE;
        let Some(group) = state.groups.get(group as usize).filter(|_| fits) else {
            return false;
        };
        if group.run_from(first) < run.pages as usize {
            return false;
        }
        state.take(run);
        state.mapped_pages += run.pages;
        true
    }

    /// Reserves a whole huge page, the first one at or after `goal` if there is one.
    pub(crate) fn reserve_huge(&self, goal: HugeNo) -> Option<Reserved<'_>> {
        let mut state = self.state.lock();
        if state.whole == 0 {
            return None;
        }
        let start = (goal.0 as usize).min(state.groups.len());
        let (before, after) = state.groups.split_at(start);
        let found = match after.iter().position(Group::is_whole) {
            Some(index) => start + index,
            None => before.iter().position(Group::is_whole)?,
        };
        let run = PageRun { first: HugeNo(found as u64).first_page(), pages: PAGES_PER_HUGE };
        Some(self.reserve(&mut state, run))
    }

    /// Reserves a run of at most `pages_max` and at least `pages_min` pages within one huge page:
    /// at `goal` if that can be had, else the first broken huge page with room for all, else a part
    /// of a whole one, else the longest run there is.
    pub(crate) fn reserve_run(
        &self,
        pages_max: u64,
        pages_min: u64,
        goal: Goal,
    ) -> Option<Reserved<'_>> {
        let mut state = self.state.lock();
        let at_goal = match goal {
            Goal::Any => None,
            Goal::At(first) => state.run_at(first, pages_max),
            Goal::Fresh { position } => state.run_of_whole(position, pages_max),
        };
        let run = at_goal
            .filter(|run| run.pages >= pages_min)
            .or_else(|| state.best_run(pages_max.min(PAGES_PER_HUGE)))
            .filter(|run| run.pages >= pages_min)?;
        Some(self.reserve(&mut state, run))
    }

    /// Makes mapped pages free. The caller made sure that no word of an extent map names them
    /// any more, durably, and that no guard reaches them.
    pub(crate) fn release(&self, run: PageRun) {
        let mut state = self.state.lock();
        state.mapped_pages -= run.pages;
        state.give_back(run);
    }

    /// Keeps `page` from being given to anyone, from now on or from when its owner gives it back.
    pub(crate) fn quarantine(&self, page: PageNo) {
        let mut state = self.state.lock();
        let Some(group) = state.groups.get(page.huge().0 as usize) else { return };
        let is_free = group.is_free((page.0 % PAGES_PER_HUGE) as usize);
        if state.quarantined.insert(page) && is_free {
            state.take(PageRun { first: page, pages: 1 });
            state.bad.insert(page);
        }
    }

    /// Lets `page` be given away again, now if nobody owns it.
    pub(crate) fn forgive(&self, page: PageNo) {
        let mut state = self.state.lock();
        state.quarantined.remove(&page);
        if state.bad.remove(&page) {
            state.give_back(PageRun { first: page, pages: 1 });
        }
    }

    pub(crate) fn space(&self) -> Space {
        let state = self.state.lock();
        let longest = state.groups.iter().map(|group| group.longest_run(PAGES_PER_HUGE as usize).1);
        Space {
            total_pages: state.total_pages,
            free_pages: state.free_pages,
            reserved_pages: state.reserved_pages,
            mapped_pages: state.mapped_pages,
            bad_pages: state.bad.len() as u64,
            free_huge_pages: state.whole,
            longest_run_pages: longest.max().unwrap_or(0) as u64,
        }
    }

    /// Pages that are free, in whatever pieces.
    pub(crate) fn free_pages(&self) -> u64 {
        self.state.lock().free_pages
    }

    /// Pages that nobody owns and nobody gets, ascending.
    pub(crate) fn bad_pages(&self) -> Vec<PageNo> {
        self.state.lock().bad.iter().copied().collect()
    }

    /// Free pages of each huge page, in order.
    pub(crate) fn free_by_huge_page(&self) -> Vec<u16> {
        self.state.lock().groups.iter().map(|group| group.count).collect()
    }

    /// Panics unless every page is in exactly one state, by count and by bit.
    pub(crate) fn check(&self) {
        let state = self.state.lock();
        let free: u64 = state.groups.iter().map(|group| u64::from(group.count)).sum();
        assert_eq!(free, state.free_pages, "free pages by huge page and in all");
        let bad_pages = state.bad.len() as u64;
        let sum = state.free_pages + state.reserved_pages + state.mapped_pages + bad_pages;
        assert_eq!(sum, state.total_pages, "free + reserved + mapped + bad");
        let whole = state.groups.iter().filter(|group| group.is_whole()).count();
        assert_eq!(whole as u64, state.whole, "whole huge pages");
        let is_full = |group: &Group| group.count == 0;
        assert!(state.groups[..state.first_free].iter().all(is_full), "free pages are overlooked");
        for group in &state.groups {
            let bits: u32 = group.free.iter().map(|word| word.count_ones()).sum();
            assert_eq!(bits, u32::from(group.count), "free bits of a huge page");
        }
    }

    fn reserve(&self, state: &mut State, run: PageRun) -> Reserved<'_> {
        state.take(run);
        state.reserved_pages += run.pages;
        Reserved { allocator: self, run }
    }
}

impl State {
    fn take(&mut self, run: PageRun) {
        let group = &mut self.groups[run.first.huge().0 as usize];
        self.whole -= u64::from(group.is_whole());
        group.clear((run.first.0 % PAGES_PER_HUGE) as usize, run.pages as usize);
        self.free_pages -= run.pages;
    }

    fn give_back(&mut self, run: PageRun) {
        let index = run.first.huge().0 as usize;
        let group = &mut self.groups[index];
        group.set((run.first.0 % PAGES_PER_HUGE) as usize, run.pages as usize);
        self.whole += u64::from(group.is_whole());
        self.first_free = self.first_free.min(index);
        self.free_pages += run.pages;
        let end = run.first.plus(run.pages);
        let bad: Vec<PageNo> = self.quarantined.range(run.first..end).copied().collect();
        for page in bad {
            self.take(PageRun { first: page, pages: 1 });
            self.bad.insert(page);
        }
    }

    /// The run of free pages that starts at `goal` in a broken huge page, cut to `pages_max`.
    fn run_at(&self, goal: PageNo, pages_max: u64) -> Option<PageRun> {
        let group = self.groups.get(goal.huge().0 as usize)?;
        if group.is_whole() {
            return None;
        }
        let pages = group.run_from((goal.0 % PAGES_PER_HUGE) as usize) as u64;
        (pages > 0).then(|| PageRun { first: goal, pages: pages.min(pages_max) })
    }

    /// The run from `position` on in the first whole huge page, cut to `pages_max`.
    fn run_of_whole(&self, position: usize, pages_max: u64) -> Option<PageRun> {
        if self.whole == 0 {
            return None;
        }
        let whole = self.groups.iter().position(Group::is_whole)?;
        let first = HugeNo(whole as u64).first_page().plus(position as u64);
        Some(PageRun { first, pages: pages_max.min(PAGES_PER_HUGE - position as u64) })
    }

    fn best_run(&mut self, pages_max: u64) -> Option<PageRun> {
        let has_free = |group: &Group| group.count > 0;
        self.first_free += self.groups[self.first_free..].iter().position(has_free)?;
        let mut longest: Option<PageRun> = None;
        let mut whole = None;
        for (index, group) in self.groups.iter().enumerate().skip(self.first_free) {
            let huge = HugeNo(index as u64);
            if group.is_whole() {
                whole = whole.or(Some(huge));
                continue;
            }
            if u64::from(group.count) <= longest.map_or(0, |run| run.pages) {
                continue;
            }
            let (first, pages) = group.longest_run(pages_max as usize);
            if pages as u64 > longest.map_or(0, |run| run.pages) {
                let first = huge.first_page().plus(first as u64);
                longest = Some(PageRun { first, pages: pages as u64 });
            }
            if pages as u64 >= pages_max {
                return longest;
            }
        }
        let part = whole.map(|huge| PageRun { first: huge.first_page(), pages: pages_max });
        part.or(longest)
    }
}

impl Group {
    fn is_whole(&self) -> bool {
        u64::from(self.count) == PAGES_PER_HUGE
    }

    fn set(&mut self, first: usize, pages: usize) {
        for page in first..first + pages {
            let (word, bit) = (page / 64, 1 << (page % 64));
            assert_eq!(self.free[word] & bit, 0, "page {page} of a huge page freed twice");
            self.free[word] |= bit;
        }
        self.count += pages as u16;
    }

    fn clear(&mut self, first: usize, pages: usize) {
        for page in first..first + pages {
            let (word, bit) = (page / 64, 1 << (page % 64));
            assert_ne!(self.free[word] & bit, 0, "page {page} of a huge page taken twice");
            self.free[word] &= !bit;
        }
        self.count -= pages as u16;
    }

    fn is_free(&self, page: usize) -> bool {
        self.free[page / 64] & (1 << (page % 64)) != 0
    }

    /// Length of the run of free pages that starts at `first`.
    fn run_from(&self, first: usize) -> usize {
        (first..PAGES_PER_HUGE as usize).take_while(|&page| self.is_free(page)).count()
    }

    /// The first run of at least `enough` free pages, cut to that, or else the longest one:
    /// where it starts and its length.
    fn longest_run(&self, enough: usize) -> (usize, usize) {
        let mut best = (0, 0);
        let mut page = 0;
        while page < PAGES_PER_HUGE as usize {
            let pages = self.run_from(page);
            if pages > best.1 {
                best = (page, pages.min(enough));
            }
            if best.1 >= enough {
                break;
            }
            page += pages + 1;
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64, pages: u64) -> PageRun {
        PageRun { first: PageNo(first), pages }
    }

    #[test]
    fn reserved_pages_return_unless_they_are_mapped() {
        let allocator = Allocator::new(1024);
        let reserved = allocator.reserve_run(3, 3, Goal::Any).unwrap();
        assert_eq!(allocator.space().reserved_pages, 3);
        drop(reserved);
        assert_eq!(allocator.space().free_pages, 1024);
        let mapped = allocator.reserve_run(3, 3, Goal::Any).unwrap().into_mapped();
        assert_eq!(allocator.space().mapped_pages, 3);
        allocator.release(mapped);
        allocator.check();
        assert_eq!(allocator.space().free_huge_pages, 2);
    }

    #[test]
    fn a_quarantined_page_is_given_to_nobody_whoever_had_it() {
        let allocator = Allocator::new(1024);
        let mapped = allocator.reserve_run(3, 3, Goal::Any).unwrap().into_mapped();
        let reserved = allocator.reserve_huge(HugeNo(1)).unwrap();
        for page in [1, 400, 600, 600, 5000].map(PageNo) {
            allocator.quarantine(page);
            allocator.check();
        }
        assert_eq!(allocator.space().bad_pages, 1, "only the free one yet");
        drop(reserved);
        allocator.release(mapped);
        allocator.check();
        let space = allocator.space();
        assert_eq!((space.bad_pages, space.free_pages, space.free_huge_pages), (3, 1021, 0));
        let rest =
            std::iter::from_fn(|| allocator.reserve_run(1, 1, Goal::Any)).collect::<Vec<_>>();
        assert_eq!(rest.len(), 1021);
        assert!(rest.iter().all(|one| ![1, 400, 600].contains(&one.run().first.0)));
    }

    #[test]
    fn a_page_that_is_forgiven_is_as_any_other() {
        let allocator = Allocator::new(1024);
        let mapped = allocator.reserve_run(2, 2, Goal::Any).unwrap().into_mapped();
        [0, 600].map(PageNo).into_iter().for_each(|page| allocator.quarantine(page));
        for page in [0, 600, 601].map(PageNo) {
            allocator.forgive(page);
            allocator.check();
        }
        assert_eq!(allocator.space().free_huge_pages, 1);
        allocator.release(mapped);
        allocator.check();
        assert_eq!((allocator.space().free_pages, allocator.space().bad_pages), (1024, 0));
    }

    #[test]
    fn pages_come_out_of_broken_huge_pages_first() {
        let allocator = Allocator::new(2048);
        assert!(allocator.claim(run(600, 1)));
        let page = allocator.reserve_run(1, 1, Goal::Any).unwrap();
        assert_eq!(page.run().first.huge(), HugeNo(1));
        assert_eq!(allocator.space().free_huge_pages, 3);
    }

    #[test]
    fn a_goal_keeps_neighbours_together() {
        let allocator = Allocator::new(1024);
        let first = allocator.reserve_run(1, 1, Goal::Any).unwrap().into_mapped();
        let goal = first.first.plus(1);
        let next = allocator.reserve_run(4, 1, Goal::At(goal)).unwrap();
        assert_eq!(next.run(), PageRun { first: goal, pages: 4 });
    }

    #[test]
    fn a_fresh_run_breaks_a_whole_huge_page_at_its_position() {
        let allocator = Allocator::new(1024);
        assert!(allocator.claim(run(3, 1)));
        let fresh = allocator.reserve_run(9, 1, Goal::Fresh { position: 510 }).unwrap();
        assert_eq!(fresh.run(), run(1022, 2));
        let none_is_whole = allocator.reserve_run(9, 1, Goal::Fresh { position: 510 }).unwrap();
        assert_eq!(none_is_whole.run(), run(4, 9));
    }

    #[test]
    fn a_full_pool_gives_the_longest_run_and_then_nothing() {
        let allocator = Allocator::new(512);
        assert!(allocator.claim(run(0, 200)));
        assert!(allocator.claim(run(300, 200)));
        let longest = allocator.reserve_run(512, 1, Goal::Any).unwrap();
        assert_eq!(longest.run(), run(200, 100));
        assert!(allocator.reserve_run(64, 13, Goal::Any).is_none());
        assert!(allocator.reserve_huge(HugeNo(0)).is_none());
        let rest = allocator.reserve_run(64, 12, Goal::Any).unwrap();
        assert_eq!(rest.run(), run(500, 12));
        assert!(allocator.reserve_run(1, 1, Goal::Any).is_none());
        allocator.check();
    }

    #[test]
    fn claims_of_owned_or_impossible_pages_are_refused() {
        let allocator = Allocator::new(700);
        assert!(allocator.claim(run(10, 5)));
        assert!(!allocator.claim(run(14, 1)));
        assert!(!allocator.claim(run(699, 2)));
        assert!(!allocator.claim(run(510, 4)), "crosses a huge page");
        assert!(!allocator.claim(run(u64::MAX / PAGES_PER_HUGE, 1)));
        allocator.check();
    }

    #[test]
    fn huge_pages_follow_the_goal_and_wrap_around() {
        let allocator = Allocator::new(4 * 512);
        let at_two = allocator.reserve_huge(HugeNo(2)).unwrap();
        assert_eq!(at_two.run().first.huge(), HugeNo(2));
        let next = allocator.reserve_huge(HugeNo(2)).unwrap();
        assert_eq!(next.run().first.huge(), HugeNo(3));
        let wrapped = allocator.reserve_huge(HugeNo(9)).unwrap();
        assert_eq!(wrapped.run().first.huge(), HugeNo(0));
    }

    #[test]
    fn in_a_full_pool_nobody_looks_at_every_huge_page_again_and_again() {
        let huge_pages = 1 << 17;
        let allocator = Allocator::new(huge_pages * PAGES_PER_HUGE);
        assert!((0..huge_pages).all(|nth| allocator.claim(run(nth * 512, 512))));
        allocator.release(run((huge_pages - 1) * 512 + 7, 1));
        let started = std::time::Instant::now();
        for _ in 0..1000 {
            assert!(allocator.reserve_huge(HugeNo(5)).is_none());
            let last = allocator.reserve_run(9, 1, Goal::Fresh { position: 3 }).unwrap();
            assert_eq!(last.run(), run((huge_pages - 1) * 512 + 7, 1));
        }
        // They took 3 s when each looked at all 256 GiB.
        assert!(started.elapsed().as_millis() < 500, "{:?}", started.elapsed());
        allocator.release(run(3, 2));
        assert_eq!(allocator.reserve_run(9, 1, Goal::Any).unwrap().run(), run(3, 2));
        allocator.check();
    }
}
