//! The extent map of a volume: a page table on the medium, and the only owner of its pages.
//!
//! Four levels of tables of 512 eight-byte words, like the page table of the CPU. A word of level
//! 1 stands for one slot of 2 MiB: a hole, one huge page, or a table of level 0 with a word for
//! each of its 512 pages. Levels 2 and 3 only lead there.
//!
//! 1. A word is stored whole. It carries a check over pool, volume, level, index and payload, and
//!    so does a hole: a word that is zero, stale, moved or foreign never verifies.
//! 2. A page is mapped by persisting its contents first (unless the caller owns the bytes) and its
//!    word second. A crash in between leaves a page that no word names: a free page.
//! 3. It is unmapped by persisting the hole first; then it may be given to someone else.
//! 4. From the store of its word on, a page belongs to the map: if the fence then fails, the word
//!    may be on the medium or not, and the page is not given to anyone else.
//! 5. Changes in a slot are made under the lock in `changing` that its number falls to; the tables
//!    above the slots come under `upper`, which is held until they are durable, so that nothing is
//!    acknowledged under a word that may be lost. Lookups take no lock: a fault that reads a word holds the
//!    entry lock that whoever changes the word must hold too.
//!
//! 6. What a killed process stored is persisted again before anything is done under it.
//!
//! Knows nothing of entries, guards or the log.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64_with_seed};

use crate::allocator::{Allocator, Goal, Reserved};
use crate::error::{Error, Result, io_error};
use crate::medium::Medium;
use crate::persist::{fence, load_word, store_lines, store_word, store_words};
use crate::primitives::coarse::{Mutex, MutexGuard};
use crate::set_once::SetOnceArray;
use crate::units::{
    ByteRange, ExtentSize, LogicalPage, Offset, PAGE, PAGES_PER_HUGE, PageNo, PageRun, SlotNo,
};

/// Words in a table.
const WORDS: u64 = PAGES_PER_HUGE;
/// Bits of an index that choose the word in a table.
pub(crate) const LEVEL_BITS: u32 = WORDS.ilog2();
/// Locks over the words of slots, so that faults side by side do not wait for each other's fence.
const SHARDS: usize = 16;
/// The level of the root table; its words stand for 512 GiB each.
const ROOT_LEVEL: u32 = 3;
/// Every slot that four levels reach.
pub(crate) const ALL_SLOTS: RangeInclusive<SlotNo> =
    SlotNo(0)..=SlotNo((1 << (LEVEL_BITS * ROOT_LEVEL)) - 1);
/// Longest logical space: 256 TiB, what four levels reach.
pub(crate) const VOLUME_BYTES_MAX: u64 = 1 << 48;

/// A word of a table, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Word {
    Hole,
    /// A 4 KiB extent (level 0).
    Page(PageNo),
    /// A 2 MiB extent (level 1).
    Huge(PageNo),
    /// A table of the level below (levels 1 to 3).
    Table(PageNo),
}

/// What a map owns, as it is met in logical order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owned {
    /// A table; those under it, and its extents, follow.
    Table(PageNo),
    Extent(Extent),
}

impl Owned {
    /// The pages that are owned.
    pub(crate) fn run(self) -> PageRun {
        match self {
            Self::Table(first) => PageRun { first, pages: 1 },
            Self::Extent(extent) => PageRun { first: extent.physical, pages: extent.size.pages() },
        }
    }
}

/// One extent of the map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Extent {
    pub logical: LogicalPage,
    pub physical: PageNo,
    pub size: ExtentSize,
}

/// What a word names, as a walk meets it; the root is met as if a word named it.
pub(crate) struct Met {
    /// Level of the word; a table that it names has the level below.
    pub level: u32,
    /// First page that the word stands for.
    pub logical: LogicalPage,
    /// Where the word is; `None` for the root.
    pub word: Option<Offset>,
    /// What it names; the error where it does not verify.
    pub owned: Result<Owned>,
}

/// Where a walk goes from what it met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// On to what is under it.
    Down,
    /// On to what is behind it.
    Past,
}

/// What the pages of a map are.
pub(crate) struct Claimed {
    /// As [`ExtentMap::seal`] answers it.
    pub digest: u64,
    pub tables: Vec<PageNo>,
}

pub(crate) struct ExtentMap {
    medium: Arc<Medium>,
    allocator: Arc<Allocator>,
    /// Ties the check of every word to this pool and volume.
    seed: u64,
    root: PageNo,
    /// Each guards the words of the slots that fall to it, and the coming and going of their tables.
    changing: [Mutex<()>; SHARDS],
    /// No word changes any more; read and written under the locks of `changing`.
    sealed: AtomicBool,
    /// Guards the coming of the tables above; they never go.
    upper: Mutex<()>,
    /// For each GiB, the page of the table with its slots, once the words that lead there are known
    /// to be durable.
    known: SetOnceArray<PageNo>,
}

impl ExtentMap {
    /// The map at `root` of the volume `volume_id` of the pool with `pool_seed`.
    ///
    /// # Errors
    /// [`Error::Io`] without address space for it.
    pub(crate) fn new(
        medium: Arc<Medium>,
        allocator: Arc<Allocator>,
        pool_seed: u64,
        volume_id: u32,
        root: PageNo,
    ) -> Result<Self> {
        let seed = xxh3_64_with_seed(&volume_id.to_le_bytes(), pool_seed);
        let changing = std::array::from_fn(|_| Mutex::new(()));
        let known = SetOnceArray::new(WORDS.pow(ROOT_LEVEL - 1) as usize)
            .map_err(io_error("reserve address space for", medium.path()))?;
        let (sealed, upper) = (AtomicBool::new(false), Mutex::new(()));
        Ok(Self { medium, allocator, seed, root, changing, sealed, upper, known })
    }

    /// Makes the empty map of a new volume. Nothing on the medium names it yet.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Io`].
    pub(crate) fn create(
        medium: Arc<Medium>,
        allocator: Arc<Allocator>,
        pool_seed: u64,
        volume_id: u32,
    ) -> Result<Self> {
        let reserved = reserve_table(&allocator)?;
        let root = reserved.run().first;
        let map = Self::new(medium, Arc::clone(&allocator), pool_seed, volume_id, root)?;
        map.write_table(root, ROOT_LEVEL, 0, &[], 0)?;
        reserved.into_mapped();
        Ok(map)
    }

    /// The map at `root`, to be looked at only: it owns no page of an allocator.
    ///
    /// # Errors
    /// As [`ExtentMap::new`].
    pub(crate) fn reader(
        medium: Arc<Medium>,
        pool_seed: u64,
        volume_id: u32,
        root: PageNo,
    ) -> Result<Self> {
        Self::new(medium, Arc::new(Allocator::new(0)), pool_seed, volume_id, root)
    }

    pub(crate) fn root(&self) -> PageNo {
        self.root
    }

    /// What stands for `slot`: a hole, a huge page, or the table of its pages.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a word does not verify.
    pub(crate) fn slot(&self, slot: SlotNo) -> Result<Word> {
        if let Some(table) = self.known_table(slot) {
            return self.load(table, 1, slot.0);
        }
        let mut table = self.root;
        for level in (1..=ROOT_LEVEL).rev() {
            match self.load(table, level, slot.0 >> (LEVEL_BITS * (level - 1)))? {
                Word::Table(child) if level > 1 => table = child,
                word => return Ok(word),
            }
        }
        unreachable!("the loop returns at level 1")
    }

    /// What stands for `page`; a huge page answers for each of its 512.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a word does not verify.
    pub(crate) fn page(&self, page: LogicalPage) -> Result<Word> {
        match self.slot(page.slot())? {
            Word::Table(table) => self.load(table, 0, page.0),
            word => Ok(word),
        }
    }

    /// How many pages from `page` on, within its slot and at most `pages_max`, are holes.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a word does not verify.
    pub(crate) fn hole_run(&self, page: LogicalPage, pages_max: u64) -> Result<u64> {
        let in_slot = PAGES_PER_HUGE - page.index_in_slot() as u64;
        let pages_max = pages_max.min(in_slot);
        let table = match self.slot(page.slot())? {
            Word::Hole => return Ok(pages_max),
            Word::Table(table) => table,
            _ => return Ok(0),
        };
        for pages in 0..pages_max {
            if self.load(table, 0, page.0 + pages)? != Word::Hole {
                return Ok(pages);
            }
        }
        Ok(pages_max)
    }

    /// Makes the hole `slot` the huge page that is reserved. Its contents are persisted already.
    /// The caller holds the entry of the slot.
    ///
    /// # Errors
    /// [`Error::Full`] without a page for a table, and the map is unchanged; [`Error::Io`], and
    /// the slot may be mapped.
    pub(crate) fn map_huge(&self, slot: SlotNo, reserved: Reserved<'_>) -> Result<PageNo> {
        let _changing = self.lock_changing(slot)?;
        let table = self.table_of_slots(slot)?;
        debug_assert_eq!(self.load(table, 1, slot.0)?, Word::Hole);
        let first = reserved.into_mapped().first;
        self.persist(table, 1, slot.0, Word::Huge(first))?;
        Ok(first)
    }

    /// Makes the holes from `page` on the pages of the run that is reserved, within one slot.
    /// The caller holds the entries of all of them. In a slot without extents that is one step:
    /// all of them are mapped, or none.
    ///
    /// # Errors
    /// [`Error::Full`] without a page for a table, and the map is unchanged; [`Error::Io`], and
    /// any of the pages may be mapped.
    pub(crate) fn map_pages(&self, page: LogicalPage, reserved: Reserved<'_>) -> Result<PageRun> {
        let _changing = self.lock_changing(page.slot())?;
        let slots = self.table_of_slots(page.slot())?;
        let run = reserved.run();
        let words: Vec<Word> = (0..run.pages).map(|nth| Word::Page(run.first.plus(nth))).collect();
        match self.load(slots, 1, page.slot().0)? {
            Word::Hole => {
                let table = reserve_table(&self.allocator)?;
                reserved.into_mapped();
                self.add_table(table, slots, 1, page.slot().0, &words, page)?;
            }
            Word::Table(table) => {
                reserved.into_mapped();
                self.persist_words(table, page, &words)?;
            }
            word => unreachable!("{word:?} under the entry of a page"),
        }
        Ok(run)
    }

    /// Makes `pages` of `slot` holes and frees what stood there; a huge page only as a whole.
    /// The caller holds the slot alone, and no guard reaches the pages.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`].
    pub(crate) fn unmap(&self, slot: SlotNo, pages: Range<usize>) -> Result<()> {
        if pages.is_empty() {
            return Ok(());
        }
        let _changing = self.lock_changing(slot)?;
        let (table, slots) = match self.slot(slot)? {
            Word::Hole => return Ok(()),
            Word::Huge(first) => {
                assert_eq!(pages, 0..PAGES_PER_HUGE as usize, "part of a huge page unmapped");
                let slots = self.table_of_slots(slot)?;
                self.persist(slots, 1, slot.0, Word::Hole)?;
                self.allocator.release(PageRun { first, pages: PAGES_PER_HUGE });
                return Ok(());
            }
            Word::Table(table) => (table, self.table_of_slots(slot)?),
            Word::Page(_) => unreachable!("level 1 has no pages"),
        };
        let mut freed = Vec::new();
        let mut others = false;
        for index in 0..PAGES_PER_HUGE as usize {
            match self.load(table, 0, slot.first_page().0 + index as u64)? {
                Word::Page(page) if pages.contains(&index) => freed.push(page),
                Word::Page(_) => others = true,
                _ => {}
            }
        }
        if others {
            let first = LogicalPage(slot.first_page().0 + pages.start as u64);
            self.persist_words(table, first, &vec![Word::Hole; pages.len()])?;
        } else {
            self.persist(slots, 1, slot.0, Word::Hole)?;
            freed.push(table);
        }
        for page in freed {
            self.allocator.release(PageRun { first: page, pages: 1 });
        }
        Ok(())
    }

    /// The slots of `slots` that are not holes, in order.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a word does not verify.
    pub(crate) fn mapped_slots(&self, slots: RangeInclusive<SlotNo>) -> Result<Vec<SlotNo>> {
        let mut mapped = Vec::new();
        self.add_mapped_slots(self.root, ROOT_LEVEL, 0, &slots, &mut mapped)?;
        Ok(mapped)
    }

    /// Adds those under `table`, whose first word is number `first_index` of its level.
    fn add_mapped_slots(
        &self,
        table: PageNo,
        level: u32,
        first_index: u64,
        slots: &RangeInclusive<SlotNo>,
        mapped: &mut Vec<SlotNo>,
    ) -> Result<()> {
        for index in indices(slots, level, first_index) {
            match self.load(table, level, index)? {
                Word::Hole => {}
                Word::Table(child) if level > 1 => {
                    self.add_mapped_slots(child, level - 1, index * WORDS, slots, mapped)?;
                }
                _ => mapped.push(SlotNo(index)),
            }
        }
        Ok(())
    }

    /// The pages of `slot` by their position, where it has a table of them; `None` where it has not.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a word does not verify.
    pub(crate) fn pages(&self, slot: SlotNo) -> Result<Option<Vec<Option<PageNo>>>> {
        let Word::Table(table) = self.slot(slot)? else { return Ok(None) };
        let page = |index: u64| match self.load(table, 0, slot.first_page().0 + index)? {
            Word::Page(page) => Ok(Some(page)),
            _ => Ok(None),
        };
        (0..WORDS).map(page).collect::<Result<_>>().map(Some)
    }

    /// Makes the table of `slot`, whose 512 pages are one aligned run, that huge page, by one word.
    /// The caller holds the slot.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; [`Error::Io`], and the map says what it said before.
    pub(crate) fn join_pages(&self, slot: SlotNo, first: PageNo) -> Result<()> {
        let _changing = self.lock_changing(slot)?;
        let table = self.replace_table(slot, first)?;
        self.allocator.release(PageRun { first: table, pages: 1 });
        Ok(())
    }

    /// Makes `slot`, which has a table, the huge page that is reserved, and frees what the table
    /// named. The huge page holds the same bytes, durably. The caller holds the slot alone, and no
    /// guard reaches its pages.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; [`Error::Io`], and the map says what it said before, but the medium may
    /// say either: nothing is freed.
    pub(crate) fn move_pages(&self, slot: SlotNo, reserved: Reserved<'_>) -> Result<PageNo> {
        let pages = self.pages(slot)?.unwrap_or_default();
        let _changing = self.lock_changing(slot)?;
        let first = reserved.into_mapped().first;
        let table = self.replace_table(slot, first)?;
        for page in pages.into_iter().flatten().chain([table]) {
            self.allocator.release(PageRun { first: page, pages: 1 });
        }
        Ok(first)
    }

    /// Persists a huge page in place of the table of `slot`, and says which page the table was.
    fn replace_table(&self, slot: SlotNo, first: PageNo) -> Result<PageNo> {
        let slots = self.table_of_slots(slot)?;
        let Word::Table(table) = self.load(slots, 1, slot.0)? else {
            unreachable!("a slot without a table is upgraded")
        };
        let replaced = self.persist(slots, 1, slot.0, Word::Huge(first));
        if replaced.is_err() {
            // Nobody will be told that the medium is fine again; what is visible stays consistent.
            let word = self.encode(1, slot.0, Word::Table(table));
            let _lost = store_word(&self.medium, word_offset(slots, slot.0), word);
        }
        replaced.map(|()| table)
    }

    /// Calls `visit` for everything that the map owns in `slots`, tables above them included, in
    /// logical order. It must not change the map.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a word does not verify; what the visitor returns.
    pub(crate) fn walk(
        &self,
        slots: RangeInclusive<SlotNo>,
        visit: &mut dyn FnMut(Owned) -> Result<()>,
    ) -> Result<()> {
        let _all = self.lock_all();
        self.walk_all(&slots, &mut |met| visit(met.owned?).map(|()| Step::Down))
    }

    /// Calls `visit` for everything that the map names, and for every word that does not verify, in
    /// logical order. What is under a table is met only if the visitor says so: under words that say
    /// anything, a table may be met again and again.
    pub(crate) fn explore(&self, visit: &mut dyn FnMut(Met) -> Step) {
        let explored = self.walk_all(&ALL_SLOTS, &mut |met| Ok(visit(met)));
        explored.expect("a visitor without errors");
    }

    /// Takes every page of the map, of a volume of `len_bytes`, from the allocator, as their owner.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a page outside the pool or with two owners, and for an extent past
    /// the end of the volume.
    pub(crate) fn claim_pages(&self, len_bytes: u64) -> Result<Claimed> {
        let (mut digest, mut tables) = (Digest::default(), Vec::new());
        self.walk(ALL_SLOTS, &mut |owned| {
            let run = owned.run();
            if let Owned::Extent(extent) = owned
                // The last one may reach past the end: the volume was cut in the middle of it.
                && extent.logical.0 * PAGE >= len_bytes
            {
                return Err(damaged(run.first.offset(), "it lies past its volume"));
            }
            if !run.first.0.is_multiple_of(run.pages) || !self.allocator.claim(run) {
                let detail = "it is owned twice, misaligned, or outside the pool".to_string();
                let offset = run.first.0.saturating_mul(PAGE);
                return Err(Error::Corrupt { what: "page", offset, detail });
            }
            digest.take(owned);
            if let Owned::Table(table) = owned {
                tables.push(table);
            }
            Ok(())
        })?;
        Ok(Claimed { digest: digest.finish(), tables })
    }

    /// Refuses all changes from now on, and answers with a digest of what the map says: the same for
    /// the same words, so that a table that falls back to an earlier state of itself is noticed.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a word does not verify.
    pub(crate) fn seal(&self) -> Result<u64> {
        let _all = self.lock_all();
        // ORDERING: Relaxed; read and written under the locks of `changing`.
        self.sealed.store(true, Ordering::Relaxed);
        let mut digest = Digest::default();
        self.walk_all(&ALL_SLOTS, &mut |met| {
            digest.take(met.owned?);
            Ok(Step::Down)
        })?;
        Ok(digest.finish())
    }

    /// Frees every page of the map. The caller made sure that nothing on the medium names it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a word does not verify; nothing is freed.
    pub(crate) fn release_pages(self) -> Result<()> {
        let mut runs = Vec::new();
        self.walk(ALL_SLOTS, &mut |owned| {
            runs.push(owned.run());
            Ok(())
        })?;
        runs.into_iter().for_each(|run| self.allocator.release(run));
        Ok(())
    }

    /// The caller holds all locks of `changing`, or nobody changes the map.
    fn walk_all(
        &self,
        slots: &RangeInclusive<SlotNo>,
        visit: &mut dyn FnMut(Met) -> Result<Step>,
    ) -> Result<()> {
        let (logical, owned) = (LogicalPage(0), Ok(Owned::Table(self.root)));
        match visit(Met { level: ROOT_LEVEL + 1, logical, word: None, owned })? {
            Step::Down => self.walk_table(self.root, ROOT_LEVEL, 0, slots, visit),
            Step::Past => Ok(()),
        }
    }

    fn walk_table(
        &self,
        table: PageNo,
        level: u32,
        first_index: u64,
        slots: &RangeInclusive<SlotNo>,
        visit: &mut dyn FnMut(Met) -> Result<Step>,
    ) -> Result<()> {
        let page = ByteRange::new(table.offset(), PAGE);
        if page.end().0 <= self.medium.len_bytes()
            && let Err(error) = self.medium.require_readable(page)
        {
            let logical = LogicalPage(first_index << (LEVEL_BITS * level));
            let word = Some(word_offset(table, first_index));
            return visit(Met { level, logical, word, owned: Err(error) }).map(|_| ());
        }
        for index in indices(slots, level, first_index) {
            let logical = LogicalPage(index << (LEVEL_BITS * level));
            let word = Some(word_offset(table, index));
            let extent = |physical, size| Owned::Extent(Extent { logical, physical, size });
            let owned = match self.load(table, level, index) {
                Ok(Word::Hole) => continue,
                Ok(Word::Page(physical)) => Ok(extent(physical, ExtentSize::Page)),
                Ok(Word::Huge(physical)) => Ok(extent(physical, ExtentSize::Huge)),
                Ok(Word::Table(child)) => Ok(Owned::Table(child)),
                Err(error) => Err(error),
            };
            let child = match owned {
                Ok(Owned::Table(child)) => Some(child),
                _ => None,
            };
            let step = visit(Met { level, logical, word, owned })?;
            if let (Step::Down, Some(child)) = (step, child) {
                self.walk_table(child, level - 1, index * WORDS, slots, visit)?;
            }
        }
        Ok(())
    }

    fn lock_all(&self) -> Vec<MutexGuard<'_, ()>> {
        self.changing.iter().map(|lock| lock.lock()).collect()
    }

    /// The right to change words of `slot`.
    ///
    /// # Errors
    /// [`Error::Closed`] once the map is sealed.
    fn lock_changing(&self, slot: SlotNo) -> Result<MutexGuard<'_, ()>> {
        let changing = self.changing[slot.0 as usize % SHARDS].lock();
        match self.sealed.load(Ordering::Relaxed) {
            true => Err(Error::Closed),
            false => Ok(changing),
        }
    }

    fn known_table(&self, slot: SlotNo) -> Option<PageNo> {
        self.known.get((slot.0 / WORDS) as usize).copied()
    }

    /// The table of level 1 that has the word of `slot`, with the tables above it. The words that
    /// lead there are durable: whoever makes one holds `upper` until it is.
    fn table_of_slots(&self, slot: SlotNo) -> Result<PageNo> {
        if let Some(table) = self.known_table(slot) {
            return Ok(table);
        }
        let _upper = self.upper.lock();
        let mut table = self.root;
        for level in (2..=ROOT_LEVEL).rev() {
            let index = slot.0 >> (LEVEL_BITS * (level - 1));
            table = match self.load(table, level, index)? {
                Word::Table(child) => child,
                _ => {
                    let reserved = reserve_table(&self.allocator)?;
                    self.add_table(reserved, table, level, index, &[], LogicalPage(0))?
                }
            };
        }
        self.known.get_or_init((slot.0 / WORDS) as usize, || Box::new(table));
        Ok(table)
    }

    /// Puts the new table `reserved` under word `index` of `parent`, which has `level`. It holds
    /// `words` from `first` on, and holes.
    fn add_table(
        &self,
        reserved: Reserved<'_>,
        parent: PageNo,
        level: u32,
        index: u64,
        words: &[Word],
        first: LogicalPage,
    ) -> Result<PageNo> {
        let table = reserved.run().first;
        self.write_table(table, level - 1, index * WORDS, words, (first.0 % WORDS) as usize)?;
        reserved.into_mapped();
        self.persist(parent, level, index, Word::Table(table))?;
        Ok(table)
    }

    /// Fills and persists a table that nothing names yet.
    fn write_table(
        &self,
        table: PageNo,
        level: u32,
        first_index: u64,
        words: &[Word],
        at: usize,
    ) -> Result<()> {
        let word = |nth: usize| {
            let word = nth.checked_sub(at).and_then(|nth| words.get(nth)).copied();
            self.encode(level, first_index + nth as u64, word.unwrap_or(Word::Hole))
        };
        let encoded: Vec<u64> = (0..WORDS as usize).map(word).collect();
        let stored = store_lines(&self.medium, table.offset(), bytemuck::cast_slice(&encoded))?;
        let [_] = fence(&self.medium, [stored])?;
        Ok(())
    }

    pub(crate) fn persist(&self, table: PageNo, level: u32, index: u64, word: Word) -> Result<()> {
        let offset = word_offset(table, index);
        let stored = store_word(&self.medium, offset, self.encode(level, index, word))?;
        let [_] = fence(&self.medium, [stored.flush(&self.medium)?])?;
        Ok(())
    }

    /// Stores neighbouring words of a table of level 0, then persists them by one fence.
    fn persist_words(&self, table: PageNo, first: LogicalPage, words: &[Word]) -> Result<()> {
        let words = (first.0..).zip(words).map(|(index, &word)| self.encode(0, index, word));
        let stored = store_words(&self.medium, word_offset(table, first.0), words)?;
        let [_] = fence(&self.medium, [stored.flush(&self.medium)?])?;
        Ok(())
    }

    /// Word `index` of `level`, which stands in `table`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where it does not verify.
    fn load(&self, table: PageNo, level: u32, index: u64) -> Result<Word> {
        let offset = word_offset(table, index);
        if offset.0 + 8 > self.medium.len_bytes() {
            return Err(damaged(offset, "its table is outside the pool"));
        }
        self.decode(level, index, load_word(&self.medium, offset)?)
            .ok_or_else(|| damaged(offset, "its check does not match"))
    }

    /// bits 0-2 kind, bits 3-7 zero, bits 8-47 page number, bits 48-63 check.
    fn encode(&self, level: u32, index: u64, word: Word) -> u64 {
        let (kind, page) = match word {
            Word::Hole => (1, 0),
            Word::Page(page) => (2, page.0),
            Word::Huge(page) => (3, page.0),
            Word::Table(page) => (4, page.0),
        };
        debug_assert!(page < 1 << 40);
        let payload = kind | page << 8;
        payload | self.check(level, index, payload) << 48
    }

    fn decode(&self, level: u32, index: u64, raw: u64) -> Option<Word> {
        let payload = raw & ((1 << 48) - 1);
        if raw >> 48 != self.check(level, index, payload) {
            return None;
        }
        let page = PageNo(payload >> 8);
        match (payload & 0xff, level) {
            (1, _) if page.0 == 0 => Some(Word::Hole),
            (2, 0) => Some(Word::Page(page)),
            (3, 1) => Some(Word::Huge(page)),
            (4, 1..) => Some(Word::Table(page)),
            _ => None,
        }
    }

    /// 16 bits over everything that the word belongs to.
    pub(crate) fn check(&self, level: u32, index: u64, payload: u64) -> u64 {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(u64::from(level) | index << 8).to_le_bytes());
        bytes[8..].copy_from_slice(&payload.to_le_bytes());
        xxh3_64_with_seed(&bytes, self.seed) >> 48
    }
}

/// What a map says, in 8 bytes.
#[derive(Default)]
pub(crate) struct Digest(Xxh3Default);

impl Digest {
    pub(crate) fn take(&mut self, owned: Owned) {
        let logical = match owned {
            Owned::Table(_) => u64::MAX,
            Owned::Extent(extent) => extent.logical.0,
        };
        let run = owned.run();
        self.0.update(bytemuck::cast_slice(&[logical, run.first.0, run.pages]));
    }

    pub(crate) fn finish(self) -> u64 {
        self.0.digest()
    }
}

/// The words of a table of `level` that stand for something in `slots`; its first word is number
/// `first_index` of the level.
fn indices(slots: &RangeInclusive<SlotNo>, level: u32, first_index: u64) -> RangeInclusive<u64> {
    let (start, end) = (slots.start().first_page().0, slots.end().first_page().0 + WORDS - 1);
    let shift = LEVEL_BITS * level;
    (start >> shift).max(first_index)..=(end >> shift).min(first_index + WORDS - 1)
}

fn reserve_table(allocator: &Allocator) -> Result<Reserved<'_>> {
    allocator.reserve_run(1, 1, Goal::Any).ok_or(Error::Full { needed_bytes: PAGE, free_bytes: 0 })
}

fn word_offset(table: PageNo, index: u64) -> Offset {
    Offset(table.offset().0 + index % WORDS * 8)
}

fn damaged(offset: Offset, detail: &str) -> Error {
    Error::Corrupt { what: "extent map word", offset: offset.0, detail: detail.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::HUGE;

    #[test]
    fn an_extent_past_the_end_of_its_volume_is_damage() {
        let medium = Arc::new(Medium::anonymous(4 * HUGE).unwrap());
        let allocator = Arc::new(Allocator::new(4 * PAGES_PER_HUGE));
        let map = ExtentMap::create(Arc::clone(&medium), Arc::clone(&allocator), 5, 1).unwrap();
        let huge = allocator.reserve_huge(crate::units::HugeNo(2)).unwrap();
        map.map_huge(SlotNo(0), huge).unwrap();
        let page = allocator.reserve_run(1, 1, Goal::Any).unwrap();
        map.map_pages(LogicalPage(PAGES_PER_HUGE), page).unwrap();
        for (len_bytes, fits) in [(1, false), (HUGE, false), (HUGE + 1, true), (1 << 40, true)] {
            let allocator = Arc::new(Allocator::new(4 * PAGES_PER_HUGE));
            let again = ExtentMap::new(Arc::clone(&medium), allocator, 5, 1, map.root()).unwrap();
            assert_eq!(again.claim_pages(len_bytes).is_ok(), fits, "{len_bytes} bytes");
        }
    }
}
