//! The list of bad pages: what met a media error once is given to nobody, in this life or a later one.
//!
//! 1. Generation N is written to copy N mod 2. An update writes generation N + 1 over the older copy,
//!    fences, then generation N + 2 over the other one, as the superblock does: a crash leaves one whole
//!    copy, and between updates both say the same.
//! 2. Where the older copy cannot be written, nothing is: the other one is the only one.
//! 3. A page that finds no place on the list is kept from everyone in this life, and counted.
//! 4. A page may be noted under any lock: nobody waits for the list, but who forgets a page of it, and the
//!    first change of a life.
//!
//! `docs/FORMAT.md` has the argument for crashes, `docs/DAX.md` who tells the list. Knows nothing of what
//! stands on a page.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytemuck::Zeroable;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::allocator::Allocator;
use crate::error::{Error, Result};
use crate::layout::{BAD_PAGES_MAGIC, BAD_PAGES_MAX, BAD_PAGES_OFFSETS, BadPagesCopy};
use crate::medium::Medium;
use crate::persist::{copy_out, fence, store_lines};
use crate::units::{ByteRange, Offset, PAGE, PageNo};

/// No list is written so often; the next generations fit any integer.
const GENERATION_MAX: u64 = 1 << 62;

/// Pages that met a media error, whoever owns them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct BadPages {
    /// Where those are that the list on the medium names, ascending: they are given to nobody, whether
    /// they read well again or not.
    pub listed: Vec<Offset>,
    /// Where those are that found no place there, ascending: they are given to nobody while the pool is
    /// open. The list is full, one of its copies cannot be written, or the pool is open read-only.
    pub unlisted: Vec<Offset>,
}

impl BadPages {
    /// How many pages the list has room for.
    pub const LISTED_MAX: usize = BAD_PAGES_MAX;
}

/// The list of a pool, on the medium and in DRAM.
pub(crate) struct BadPageList {
    allocator: Arc<Allocator>,
    /// Ties checksums to the pool.
    seed: u64,
    /// As it is on the medium. Held over its writes.
    written: Mutex<Written>,
    /// Guards nothing but itself: a leaf.
    known: Mutex<Known>,
    /// Whether a page was noted in this life.
    has_met: AtomicBool,
}

/// What the copies on the medium say.
struct Written {
    generation: u64,
    /// Whether both copies say it.
    is_twofold: bool,
}

/// A page is in one of these, and quarantined.
#[derive(Default)]
struct Known {
    listed: BTreeSet<PageNo>,
    /// Whoever holds `written` sees to these.
    waiting: BTreeSet<PageNo>,
    unlisted: BTreeSet<PageNo>,
}

/// What one copy turned out to be.
enum Copy {
    Valid(Box<BadPagesCopy>),
    /// There is a media error.
    Unreadable,
    Damaged,
}

/// The list that the medium has.
pub(crate) struct Found {
    generation: u64,
    is_twofold: bool,
    pages: BTreeSet<PageNo>,
}

impl Found {
    /// Where the pages are, ascending.
    pub(crate) fn offsets(&self) -> Vec<Offset> {
        offsets(&self.pages)
    }
}

/// Where the copies are.
pub(crate) fn copies() -> [ByteRange; 2] {
    BAD_PAGES_OFFSETS.map(|offset| ByteRange::new(Offset(offset), PAGE))
}

/// The list of a pool that is being made: half written.
#[must_use = "a pool that begins with a copy that is lost would never note anything"]
pub(crate) struct Begun(Written);

/// Writes the empty list of a new pool to one of its two places. The caller owns the whole medium.
///
/// # Errors
/// [`Error::Io`] as the medium reports it, [`Error::MediaError`].
pub(crate) fn begin(medium: &Medium, seed: u64) -> Result<Begun> {
    copies().into_iter().try_for_each(|copy| medium.require_readable(copy))?;
    let mut none = Written { generation: 0, is_twofold: false };
    none.write_next(medium, seed, &BTreeSet::new())?;
    Ok(Begun(none))
}

impl Begun {
    /// Writes it to the other place.
    ///
    /// # Errors
    /// As [`begin`].
    pub(crate) fn finish(mut self, medium: &Medium, seed: u64) -> Result<()> {
        self.0.write_next(medium, seed, &BTreeSet::new())
    }
}

/// Reads the newest copy.
///
/// # Errors
/// [`Error::Corrupt`], or [`Error::MediaError`], if neither copy is valid.
pub(crate) fn read(medium: &Medium, seed: u64, pool_pages: u64) -> Result<Found> {
    let copies = read_copies(medium, seed, pool_pages);
    let Some(newest) = newest_of(&copies) else {
        let unreadable = copies.iter().position(|copy| matches!(copy, Copy::Unreadable));
        return Err(match unreadable {
            Some(copy) => medium.bad_page(PageNo(BAD_PAGES_OFFSETS[copy] / PAGE)),
            None => Error::Corrupt {
                what: "list of bad pages",
                offset: BAD_PAGES_OFFSETS[0],
                detail: "neither copy has a valid checksum".to_string(),
            },
        });
    };
    let is_twofold = copies.iter().all(|copy| match copy {
        Copy::Valid(copy) => copy.pages == newest.pages,
        Copy::Unreadable | Copy::Damaged => false,
    });
    let pages = newest.listed().iter().copied().map(PageNo).collect();
    Ok(Found { generation: newest.generation, is_twofold, pages })
}

/// Where a copy is that could not stand in for the other one, and why.
pub(crate) fn flawed_copies(
    medium: &Medium,
    seed: u64,
    pool_pages: u64,
) -> Vec<(Offset, &'static str)> {
    let copies = read_copies(medium, seed, pool_pages);
    let newest = newest_of(&copies).map(|newest| newest.generation);
    let flaw = |(index, copy): (usize, &Copy)| {
        let detail = match copy {
            // A crash in an update leaves the generation before; nothing leaves an older one.
            Copy::Valid(copy) if newest.is_some_and(|newest| copy.generation + 1 < newest) => {
                "it is older than an update could leave it"
            }
            Copy::Valid(_) => return None,
            Copy::Unreadable => "it cannot be read: a media error",
            Copy::Damaged => "its checksum does not match",
        };
        Some((Offset(BAD_PAGES_OFFSETS[index]), detail))
    };
    copies.iter().enumerate().filter_map(flaw).collect()
}

impl BadPageList {
    pub(crate) fn new(allocator: Arc<Allocator>, seed: u64, found: Found) -> Self {
        let Found { generation, is_twofold, pages } = found;
        let written = Mutex::new(Written { generation, is_twofold });
        let known = Known { listed: pages, ..Known::default() };
        Self { allocator, seed, written, known: Mutex::new(known), has_met: AtomicBool::new(false) }
    }

    /// Keeps listed pages from the allocator, once their owners have claimed them.
    pub(crate) fn quarantine(&self) {
        let listed = self.known.lock().listed.clone();
        listed.into_iter().for_each(|page| self.allocator.quarantine(page));
    }

    /// Takes in `page`, which met a media error. The caller may hold any lock but the allocator's.
    pub(crate) fn note(&self, medium: &Medium, page: PageNo) {
        // ORDERING: Relaxed; whoever is told of the error sees it.
        self.has_met.store(true, Ordering::Relaxed);
        self.allocator.quarantine(page);
        if self.known.lock().take_in(page) {
            self.write_waiting(medium);
        }
    }

    /// Writes what an interrupted update left undone.
    ///
    /// # Errors
    /// [`Error::Io`] as the medium reports it.
    pub(crate) fn complete(&self, medium: &Medium) -> Result<()> {
        let mut written = self.written.lock();
        let listed = self.known.lock().listed.clone();
        let completed = match written.is_twofold {
            true => Ok(()),
            false => written.write(medium, self.seed, &listed),
        };
        drop(written);
        self.write_waiting(medium);
        match completed {
            // The other copy is good enough, and stays as it is.
            Err(Error::MediaError { .. }) => Ok(()),
            completed => completed,
        }
    }

    /// Takes `page` off, durably, and lets the allocator have it. False if it is not known as bad.
    ///
    /// # Errors
    /// [`Error::MediaError`] if the page, or the older copy of the list, cannot be reached;
    /// [`Error::Io`]. Then it stays.
    pub(crate) fn forget(&self, medium: &Medium, page: PageNo) -> Result<bool> {
        let mut written = self.written.lock();
        let forgotten = self.forget_locked(&mut written, medium, page);
        drop(written);
        self.write_waiting(medium);
        forgotten
    }

    fn forget_locked(&self, written: &mut Written, medium: &Medium, page: PageNo) -> Result<bool> {
        let mut rest = {
            let known = self.known.lock();
            if !known.listed.contains(&page) && !known.unlisted.contains(&page) {
                return Ok(false);
            }
            known.listed.clone()
        };
        medium.require_readable(ByteRange::new(page.offset(), PAGE))?;
        if rest.remove(&page) {
            written.write(medium, self.seed, &rest)?;
        }
        let mut known = self.known.lock();
        known.listed.remove(&page);
        known.unlisted.remove(&page);
        self.allocator.forgive(page);
        Ok(true)
    }

    /// Whether a media error was met in this life.
    #[inline]
    pub(crate) fn has_met(&self) -> bool {
        self.has_met.load(Ordering::Relaxed)
    }

    /// What is known. Takes no lock that is held over a fence.
    pub(crate) fn snapshot(&self) -> BadPages {
        let known = self.known.lock();
        let unlisted = known.unlisted.union(&known.waiting).copied().collect();
        BadPages { listed: offsets(&known.listed), unlisted: offsets(&unlisted) }
    }

    /// Writes pages that wait, unless somebody is at it, who will.
    fn write_waiting(&self, medium: &Medium) {
        while !self.known.lock().waiting.is_empty() {
            let Some(mut written) = self.written.try_lock() else { return };
            let (listed, waiting) = {
                let known = self.known.lock();
                (known.listed.clone(), known.waiting.clone())
            };
            let room = BAD_PAGES_MAX - listed.len();
            let new: BTreeSet<PageNo> = waiting.iter().copied().take(room).collect();
            let all = listed.union(&new).copied().collect();
            let is_noted = !new.is_empty() && written.write(medium, self.seed, &all).is_ok();
            let mut known = self.known.lock();
            for page in waiting {
                known.waiting.remove(&page);
                match is_noted && new.contains(&page) {
                    true => known.listed.insert(page),
                    false => known.unlisted.insert(page),
                };
            }
        }
    }
}

impl Known {
    /// Has `page` wait for its place on the list. False if it is known.
    fn take_in(&mut self, page: PageNo) -> bool {
        let is_new = !self.listed.contains(&page) && !self.unlisted.contains(&page);
        is_new && self.waiting.insert(page)
    }
}

impl Written {
    /// The copy that the next generation goes to.
    fn next_copy(&self) -> ByteRange {
        copies()[((self.generation + 1) % 2) as usize]
    }

    /// Writes `pages` over the older copy, and then over the other one.
    ///
    /// # Errors
    /// [`Error::MediaError`], [`Error::Io`], [`Error::ReadOnly`]: then the list is as it was.
    fn write(&mut self, medium: &Medium, seed: u64, pages: &BTreeSet<PageNo>) -> Result<()> {
        medium.require_writable()?;
        self.is_twofold = false;
        self.write_next(medium, seed, pages)?;
        // What is on one copy is on the list; the next change meets the error.
        self.is_twofold = self.write_next(medium, seed, pages).is_ok();
        Ok(())
    }

    fn write_next(&mut self, medium: &Medium, seed: u64, pages: &BTreeSet<PageNo>) -> Result<()> {
        let copy = self.next_copy();
        let list = BadPagesCopy::new(self.generation + 1, pages).sealed(seed);
        medium.require_readable(copy)?;
        let stored = store_lines(medium, copy.start, bytemuck::bytes_of(&list))?;
        let [_] = fence(medium, [stored])?;
        self.generation += 1;
        Ok(())
    }
}

impl BadPagesCopy {
    fn new(generation: u64, pages: &BTreeSet<PageNo>) -> Self {
        let mut list = Self { magic: BAD_PAGES_MAGIC, generation, ..Self::zeroed() };
        list.count = pages.len() as u64;
        list.pages.iter_mut().zip(pages).for_each(|(place, page)| *place = page.0);
        list
    }

    /// With the right checksum for the pool of `seed`.
    pub(crate) fn sealed(mut self, seed: u64) -> Self {
        self.checksum = 0;
        self.checksum = xxh3_64_with_seed(bytemuck::bytes_of(&self), seed);
        self
    }

    fn listed(&self) -> &[u64] {
        &self.pages[..self.count as usize]
    }

    /// Whether a pool of `pool_pages` pages could have written this as copy `index`.
    fn is_valid(&self, index: usize, seed: u64, pool_pages: u64) -> bool {
        self.magic == BAD_PAGES_MAGIC
            && self.sealed(seed).checksum == self.checksum
            && self.generation % 2 == index as u64
            && self.generation <= GENERATION_MAX
            && self.count <= BAD_PAGES_MAX as u64
            && self.reserved.iter().all(|&byte| byte == 0)
            && self.pages[self.count as usize..].iter().all(|&page| page == 0)
            && self.listed().is_sorted_by(|one, next| one < next)
            && self.listed().iter().all(|&page| page < pool_pages)
    }
}

fn offsets(pages: &BTreeSet<PageNo>) -> Vec<Offset> {
    pages.iter().map(|page| page.offset()).collect()
}

/// The valid copy of the latest generation.
fn newest_of(copies: &[Copy; 2]) -> Option<&BadPagesCopy> {
    let valid = copies.iter().filter_map(|copy| match copy {
        Copy::Valid(copy) => Some(&**copy),
        Copy::Unreadable | Copy::Damaged => None,
    });
    valid.max_by_key(|copy| copy.generation)
}

fn read_copies(medium: &Medium, seed: u64, pool_pages: u64) -> [Copy; 2] {
    [0, 1].map(|index| read_copy(medium, index, seed, pool_pages))
}

fn read_copy(medium: &Medium, index: usize, seed: u64, pool_pages: u64) -> Copy {
    let place = copies()[index];
    if medium.require_readable(place).is_err() {
        return Copy::Unreadable;
    }
    let mut copy = BadPagesCopy::zeroed();
    if copy_out(medium, place.start, bytemuck::bytes_of_mut(&mut copy)).is_err() {
        return Copy::Unreadable;
    }
    match copy.is_valid(index, seed, pool_pages) {
        true => Copy::Valid(Box::new(copy)),
        false => Copy::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "sim")]
    use crate::pool::Pool;
    use crate::units::HUGE;

    const SEED: u64 = 7;
    const PAGES: u64 = 2 * HUGE / PAGE;

    type Change = fn(&mut BadPagesCopy);

    /// A medium with a list of `pages`, written as generations 3 and 4.
    fn listed(pages: &[u64]) -> Medium {
        let medium = Medium::anonymous(2 * HUGE).unwrap();
        begin(&medium, SEED).unwrap().finish(&medium, SEED).unwrap();
        let pages = pages.iter().copied().map(PageNo).collect();
        Written { generation: 2, is_twofold: true }.write(&medium, SEED, &pages).unwrap();
        medium
    }

    fn put(medium: &Medium, index: usize, list: &BadPagesCopy) {
        let place = copies()[index].start;
        let [_] =
            fence(medium, [store_lines(medium, place, bytemuck::bytes_of(list)).unwrap()]).unwrap();
    }

    fn found(medium: &Medium) -> Vec<u64> {
        read(medium, SEED, PAGES).unwrap().pages.into_iter().map(|page| page.0).collect()
    }

    #[test]
    fn either_copy_says_all_of_it() {
        for index in [0, 1] {
            let medium = listed(&[5, 900]);
            put(&medium, index, &BadPagesCopy::zeroed());
            assert_eq!(found(&medium), [5, 900]);
            assert!(!read(&medium, SEED, PAGES).unwrap().is_twofold);
            let flawed = flawed_copies(&medium, SEED, PAGES);
            assert_eq!(flawed, [(copies()[index].start, "its checksum does not match")]);
            put(&medium, 1 - index, &BadPagesCopy::zeroed());
            assert!(matches!(read(&medium, SEED, PAGES), Err(Error::Corrupt { .. })));
        }
    }

    #[test]
    fn a_copy_that_is_left_behind_is_named() {
        let medium = listed(&[5]);
        let mut written = Written { generation: 4, is_twofold: true };
        written.write_next(&medium, SEED, &BTreeSet::from([PageNo(5), PageNo(6)])).unwrap();
        // As a crash leaves it.
        assert_eq!(found(&medium), [5, 6]);
        assert_eq!(flawed_copies(&medium, SEED, PAGES), []);
        assert!(!read(&medium, SEED, PAGES).unwrap().is_twofold);
        let older = BadPagesCopy::new(2, &BTreeSet::new()).sealed(SEED);
        put(&medium, 0, &older);
        let what = "it is older than an update could leave it";
        assert_eq!(flawed_copies(&medium, SEED, PAGES), [(copies()[0].start, what)]);
    }

    #[test]
    fn a_list_that_no_pool_could_have_written_is_damage_whatever_its_checksum() {
        let changes: [(&str, Change); 10] = [
            ("magic", |bad| bad.magic[0] ^= 1),
            ("place", |bad| bad.generation += 1),
            ("generation", |bad| bad.generation = u64::MAX - 1),
            ("count", |bad| bad.count = u64::MAX),
            ("short count", |bad| bad.count = 1),
            ("long count", |bad| bad.count = 3),
            ("reserved", |bad| bad.reserved[31] = 1),
            ("order", |bad| bad.pages.swap(0, 1)),
            ("twice", |bad| bad.pages[1] = 5),
            ("outside", |bad| bad.pages[1] = PAGES),
        ];
        for (what, change) in changes {
            let medium = listed(&[5, 900]);
            let mut list = BadPagesCopy::new(6, &BTreeSet::from([PageNo(5), PageNo(901)]));
            put(&medium, 0, &list.sealed(SEED));
            assert_eq!(found(&medium), [5, 901], "without the change: {what}");
            change(&mut list);
            put(&medium, 0, &list.sealed(SEED));
            assert_eq!(found(&medium), [5, 900], "{what}");
        }
    }

    #[test]
    fn a_list_of_another_pool_does_not_count() {
        let medium = listed(&[5]);
        assert!(matches!(read(&medium, SEED + 1, PAGES), Err(Error::Corrupt { .. })));
    }

    #[cfg(feature = "sim")]
    #[test]
    fn what_finds_no_place_is_kept_away_and_counted() {
        let pool = Pool::in_memory(4 * HUGE).unwrap();
        let page = |nth: u64| Offset((2 * PAGES_LISTED + nth) * PAGE);
        const PAGES_LISTED: u64 = BAD_PAGES_MAX as u64;
        (0..PAGES_LISTED + 2).for_each(|nth| pool.meet_bad_page(page(nth)));
        let pages = pool.bad_pages();
        assert_eq!(pages.listed.len(), BadPages::LISTED_MAX);
        assert_eq!(pages.unlisted, [page(PAGES_LISTED), page(PAGES_LISTED + 1)]);
        assert_eq!(pool.space().bad_pages, PAGES_LISTED + 2);
        // Memory is never bad, so all of them can be forgotten.
        assert_eq!(pool.healed_pages().unwrap().len(), BadPages::LISTED_MAX);
        for nth in 0..PAGES_LISTED + 2 {
            assert!(pool.forget_bad_page(page(nth)).unwrap());
            assert!(!pool.forget_bad_page(page(nth)).unwrap());
        }
        assert_eq!((pool.bad_pages(), pool.space().bad_pages), (BadPages::default(), 0));
        assert!(matches!(pool.forget_bad_page(Offset(1)), Err(Error::InvalidArgument(_))));
        pool.check();
    }

    #[cfg(feature = "sim")]
    #[test]
    fn a_page_is_listed_once_and_stays_with_its_owner() {
        let pool = Pool::in_memory(4 * HUGE).unwrap();
        let volume = pool.create_volume("v", HUGE).unwrap();
        volume.write(0, &[1]).unwrap();
        let page = volume.extents(crate::units::LogicalRange::new(0, 1)).unwrap()[0].physical;
        (0..3).for_each(|_| pool.meet_bad_page(Offset(page.0 + 77)));
        assert_eq!((pool.bad_pages().listed, pool.space().bad_pages), (vec![page], 0));
        drop(volume);
        pool.remove_volume("v").unwrap();
        assert_eq!(pool.space().bad_pages, 1);
        assert_eq!(pool.space().free_huge_pages, 1, "of four, two have superblocks");
        pool.check();
    }

    #[cfg(feature = "sim")]
    #[test]
    fn an_opening_completes_what_a_crash_interrupted_with_its_first_change() {
        let pool = Pool::in_memory(2 * HUGE).unwrap();
        pool.meet_bad_page(Offset(9 * PAGE));
        let mut image = pool.image();
        let at = BAD_PAGES_OFFSETS[0] as usize;
        image[at + 100] ^= 1;
        let pool = Pool::from_image(&image, None).unwrap();
        assert_eq!(pool.bad_pages().listed, [Offset(9 * PAGE)]);
        assert!(pool.image()[at..][..PAGE as usize] == image[at..][..PAGE as usize], "unchanged");
        pool.create_volume("v", 1).unwrap();
        let image = pool.image();
        let copies =
            BAD_PAGES_OFFSETS.map(|start| &image[start as usize + 24..][..PAGE as usize - 24]);
        assert!(copies[0] == copies[1]);
        let pool = Pool::from_image(&image, None).unwrap();
        assert_eq!((pool.bad_pages().listed.len(), pool.space().bad_pages), (1, 1));
    }
}
