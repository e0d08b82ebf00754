//! Volumes: everything that can be done to them, at random, and upgrades that were made for it.
//!
//! Of the operation under way any byte may be there or not, and of a punch each 4 KiB extent that it
//! covers whole. What a state names must not be free in the pool that goes on: it would be given away
//! while a crash still leads back to it. Pages go bad meanwhile, and heal: the list is the one before or
//! the one after, and what is listed is never free.

use std::collections::{BTreeMap, BTreeSet};

use daxite_core::sim::{Journal, Subject};
use daxite_core::{
    Error, ExtentSize, HUGE, LogicalRange, Offset, PAGE, PAGES_PER_HUGE, Pool, Volume,
};

use super::Known;
use crate::{Model, Random, check_space};

/// What the volumes must hold.
type Models = BTreeMap<String, Model>;

/// What may be found in volumes.
#[derive(Clone, Default)]
pub struct VolumesExpected {
    models: Known<Models>,
    /// The pages that are listed as bad.
    bad_pages: Known<BTreeSet<Offset>>,
    /// 4 KiB extents that a punch under way covers whole, by volume and page: as they were or gone.
    punched_whole: Vec<(String, u64)>,
    /// The pool that goes on, which must not give away what a crash leads back to.
    alive: Option<Pool>,
}

/// Slots that operations use.
pub const SLOTS: u64 = 3;
/// How long volumes get.
pub const VOLUME_BYTES_MAX: u64 = SLOTS * HUGE;
/// Pages at the head of each slot that operations use.
const PAGES: u64 = 5;
/// Pages of superblocks and lists of bad pages.
const OWN_PAGES: u64 = 4;
/// Pages that are bad at once, at most.
const BAD_PAGES_MAX: usize = 6;

/// How volumes recover, and what they must hold.
#[derive(Clone, Copy, Default)]
pub struct Volumes;

impl Subject for Volumes {
    type Expected = VolumesExpected;
    type Recovered = Pool;

    fn recover(&self, pool: Pool) -> Result<Pool, String> {
        pool.check();
        check_space(&pool);
        Ok(pool)
    }

    fn check(&self, pool: &Pool, expected: &VolumesExpected) -> Result<(), String> {
        if let Some(alive) = &expected.alive {
            named_but_free(alive, pool).map_or(Ok(()), Err)?;
        }
        compare(pool, expected)
    }

    /// Behind the end there are zeros, and of a pool without volumes nothing is left: what nobody names
    /// is free.
    fn take_apart(&self, pool: Pool, _: &VolumesExpected) -> Result<(), String> {
        for info in pool.volumes().map_err(|error| error.to_string())? {
            let volume = pool.volume(&info.name).expect("an open pool").expect("a volume");
            let end = volume.len_bytes();
            volume.set_len(VOLUME_BYTES_MAX).map_err(|error| error.to_string())?;
            let mut not_zero = None;
            each_mapped_page(&volume, |page, bytes| {
                let behind = end.saturating_sub(page * PAGE).min(PAGE) as usize;
                if not_zero.is_none() && bytes[behind..].iter().any(|&byte| byte != 0) {
                    not_zero = Some(page);
                }
            });
            if let Some(page) = not_zero {
                return Err(format!("page {page} of {} is not zero behind {end}", info.name));
            }
        }
        remove_everything(&pool)
    }

    fn narrow(&self, pool: &Pool, expected: &mut VolumesExpected) {
        let mut shown = Models::new();
        for info in pool.volumes().expect("volumes that were just read") {
            let volume = pool.volume(&info.name).expect("an open pool").expect("a volume");
            let mut model = Model::new(volume.len_bytes());
            each_mapped_page(&volume, |page, bytes| model.write(page * PAGE, bytes));
            // What is shown of a volume is certain once it is synced.
            volume.sync(all(&volume)).expect("memory does not fail");
            shown.insert(info.name, model);
        }
        let alive = Some(pool.clone());
        let bad_pages = pool.bad_pages().listed.into_iter().collect();
        *expected = VolumesExpected {
            models: Known { acknowledged: shown, under_way: None },
            bad_pages: Known { acknowledged: bad_pages, under_way: None },
            alive,
            ..VolumesExpected::default()
        };
    }

    fn go_on(&self, pool: &Pool, journal: &Journal<VolumesExpected>) {
        let workload = VolumesWorkload::new(pool, journal);
        for info in pool.volumes().expect("volumes") {
            let volume = pool.volume(&info.name).expect("an open pool").expect("a volume");
            let len_bytes = volume.len_bytes().min(HUGE + 10 * PAGE);
            for start in [0, PAGE, HUGE + PAGE] {
                if start < len_bytes {
                    workload.write(
                        &volume,
                        start,
                        &[9; 100][..100.min((len_bytes - start) as usize)],
                    );
                }
            }
        }
        for info in pool.volumes().expect("volumes") {
            workload.set_len(&pool.volume(&info.name).unwrap().unwrap(), VOLUME_BYTES_MAX);
            workload.remove(&info.name);
        }
        remove_everything(pool).expect("volumes that are gone");
    }
}

/// The image of a pool with volumes of the names that operations use, and other bytes in them.
pub fn earlier_volumes(pool_bytes: u64) -> Vec<u8> {
    let pool = Pool::in_memory(pool_bytes).unwrap();
    for name in ["v", "a", "b"] {
        let volume = pool.create_volume(name, VOLUME_BYTES_MAX).unwrap();
        for page in 0..40 {
            volume.write(page * PAGE, &[0xee; PAGE as usize]).unwrap();
        }
    }
    pool.image()
}

fn remove_everything(pool: &Pool) -> Result<(), String> {
    for info in pool.volumes().map_err(|error| error.to_string())? {
        assert!(pool.remove_volume(&info.name).map_err(|error| error.to_string())?);
    }
    pool.check();
    let (space, listed) = (pool.space(), pool.bad_pages().listed.len() as u64);
    match (space.mapped_pages, space.bad_pages) {
        (OWN_PAGES, bad) if bad == listed => Ok(()),
        (OWN_PAGES, bad) => Err(format!("{bad} pages are kept away, and {listed} listed")),
        (pages, _) => Err(format!("{pages} pages leaked, those of the superblocks included")),
    }
}

fn range(start: u64, len_bytes: u64) -> LogicalRange {
    LogicalRange::new(start, len_bytes)
}

fn all(volume: &Volume) -> LogicalRange {
    range(0, volume.len_bytes())
}

/// A huge page of which more is free in the pool that goes on than in the state.
fn named_but_free(alive: &Pool, state: &Pool) -> Option<String> {
    let (alive, state) = (alive.free_by_huge_page(), state.free_by_huge_page());
    let given = alive.iter().zip(&state).position(|(alive, state)| alive > state)?;
    Some(format!("{} pages of huge page {given} are free, not {}", alive[given], state[given]))
}

/// Calls `look` with each page that has an extent, in order, and its bytes before the end.
fn each_mapped_page(volume: &Volume, mut look: impl FnMut(u64, &[u8])) {
    for extent in volume.extents(all(volume)).expect("words that verify") {
        let mut at = extent.logical.start;
        // A huge page may reach past the end.
        let end = (at + extent.logical.len_bytes).min(volume.len_bytes());
        while at < end {
            let guard = volume.map(range(at, end - at)).expect("bytes that are mapped");
            for bytes in guard.chunks(PAGE as usize) {
                look(at / PAGE, bytes);
                at += bytes.len() as u64;
            }
        }
    }
}

fn compare(pool: &Pool, expected: &VolumesExpected) -> Result<(), String> {
    let listed: BTreeSet<Offset> = pool.bad_pages().listed.into_iter().collect();
    let Known { acknowledged, under_way } = &expected.bad_pages;
    if listed != *acknowledged && Some(&listed) != under_way.as_ref() {
        return Err(format!("{listed:?} are listed as bad, not {acknowledged:?} or {under_way:?}"));
    }
    let before = &expected.models.acknowledged;
    let after = expected.models.under_way.as_ref().unwrap_or(before);
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for info in pool.volumes().map_err(|error| error.to_string())? {
        if !names.contains(&info.name) {
            return Err(format!("volume {} was never made, or is gone", info.name));
        }
    }
    for name in names {
        let (old, new) = (before.get(name), after.get(name));
        match pool.volume(name).map_err(|error| error.to_string())? {
            None if old.is_some() && new.is_some() => return Err(format!("volume {name} is lost")),
            None => {}
            Some(volume) => {
                let either = [old.or(new), new.or(old)].map(|model| model.expect("one of both"));
                compare_volume(&volume, either).map_err(|what| format!("volume {name}: {what}"))?;
                let of_this = expected.punched_whole.iter().filter(|(of, _)| of == name);
                for (_, page) in of_this.filter(|(_, page)| page * PAGE < volume.len_bytes()) {
                    is_one_of(&volume, *page, either)?;
                }
            }
        }
    }
    Ok(())
}

/// The length is one of both, and each byte before the end is.
fn compare_volume(volume: &Volume, either: [&Model; 2]) -> Result<(), String> {
    let len_bytes = volume.len_bytes();
    if !either.iter().any(|model| model.len_bytes() == len_bytes) {
        return Err(format!("it is {len_bytes:#x} bytes long"));
    }
    let mut wrong = None;
    let mut mapped = Vec::new();
    each_mapped_page(volume, |page, bytes| {
        mapped.push(page);
        wrong = wrong.take().or_else(|| first_wrong(page, bytes, either));
    });
    let of_models = either.iter().flat_map(|model| model.written_pages());
    let holes = of_models
        .filter(|page| page * PAGE < len_bytes && mapped.binary_search(page).is_err())
        .map(|page| (page, PAGE.min(len_bytes - page * PAGE)));
    let zeros = [0; PAGE as usize];
    let mut in_holes =
        holes.filter_map(|(page, inside)| first_wrong(page, &zeros[..inside as usize], either));
    wrong.or_else(|| in_holes.next()).map_or(Ok(()), Err)
}

/// The first byte of `page` that neither of both has.
fn first_wrong(page: u64, bytes: &[u8], either: [&Model; 2]) -> Option<String> {
    if either.iter().any(|model| model.begins_with(page, bytes)) {
        return None;
    }
    let allowed = either.map(|model| model.read(range(page * PAGE, bytes.len() as u64)));
    let is_wrong = |&at: &usize| allowed.iter().all(|allowed| allowed[at] != bytes[at]);
    let at = (0..bytes.len()).find(is_wrong)?;
    let allowed = allowed.map(|allowed| allowed[at]);
    Some(format!("page {page} byte {at:#x} is {}, not {allowed:?}", bytes[at]))
}

/// A page is as one of both has it, not a mix.
fn is_one_of(volume: &Volume, page: u64, either: [&Model; 2]) -> Result<(), String> {
    let mut bytes = vec![0; PAGE.min(volume.len_bytes() - page * PAGE) as usize];
    volume.read(page * PAGE, &mut bytes).expect("bytes that can be read");
    let is_whole = either.iter().any(|model| model.begins_with(page, &bytes));
    is_whole.then_some(()).ok_or_else(|| format!("page {page} of {} is torn", volume.name()))
}

/// When a slot is upgraded whose bytes were stored and not synced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum UpgradeWhen {
    /// While the guard is alive.
    Guarded,
    /// When it is gone.
    Dirty,
}

/// Operations on volumes, told to a journal.
pub struct VolumesWorkload<'a> {
    /// The pool.
    pub pool: &'a Pool,
    journal: &'a Journal<VolumesExpected>,
    random: Random,
}

impl<'a> VolumesWorkload<'a> {
    /// Operations on `pool`.
    pub fn new(pool: &'a Pool, journal: &'a Journal<VolumesExpected>) -> Self {
        journal.begin(|expected| expected.alive = Some(pool.clone()));
        Self { pool, journal, random: Random::new(journal.seed()) }
    }

    /// Runs `act`, which turns the acknowledged models into what `change` makes of them.
    fn step<T>(&self, change: impl FnOnce(&mut Models), act: impl FnOnce() -> T) -> T {
        self.journal.begin(|expected| expected.models.begin(change));
        let result = act();
        self.journal.end(|expected| {
            expected.models.end();
            expected.punched_whole.clear();
        });
        result
    }

    /// [`VolumesWorkload::step`] for a volume.
    fn change<T>(
        &self,
        volume: &Volume,
        change: impl FnOnce(&mut Model),
        act: impl FnOnce(&Volume) -> T,
    ) -> T {
        let name = volume.name();
        self.step(|models| change(models.get_mut(name).expect("its model")), || act(volume))
    }

    /// A page of the pool goes bad, or heals.
    fn change_bad_pages(&self, change: impl FnOnce(&mut BTreeSet<Offset>), act: impl FnOnce()) {
        self.journal.begin(|expected| expected.bad_pages.begin(change));
        act();
        self.journal.end(|expected| expected.bad_pages.end());
    }

    /// An access meets a media error in `page`.
    pub fn meet_bad_page(&self, page: Offset) {
        let insert = |pages: &mut BTreeSet<Offset>| {
            pages.insert(page);
        };
        self.change_bad_pages(insert, || self.pool.meet_bad_page(page));
    }

    /// A page that is listed as bad is called good.
    pub fn forget_bad_page(&self, page: Offset) {
        let remove = |pages: &mut BTreeSet<Offset>| {
            pages.remove(&page);
        };
        self.change_bad_pages(remove, || assert!(self.pool.forget_bad_page(page).unwrap()));
    }

    /// One more page goes bad, or a bad one is called good.
    fn change_a_bad_page(&mut self) {
        let listed = self.pool.bad_pages().listed;
        if listed.len() == BAD_PAGES_MAX || (!listed.is_empty() && self.random.below(3) == 0) {
            let page = self.random.pick(&listed);
            return self.forget_bad_page(page);
        }
        // Of the second huge page: as likely owned as free.
        let page = Offset(HUGE + (2 + self.random.below(60)) * PAGE);
        if !listed.contains(&page) {
            self.meet_bad_page(page);
        }
    }

    /// Makes a volume.
    pub fn create(&self, name: &str, len_bytes: u64) -> Volume {
        let make = |models: &mut Models| {
            models.insert(name.to_string(), Model::new(len_bytes));
        };
        self.step(make, || self.pool.create_volume(name, len_bytes).unwrap())
    }

    /// Removes a volume, of which no handle is left.
    pub fn remove(&self, name: &str) {
        let remove = |models: &mut Models| {
            models.remove(name);
        };
        assert!(self.step(remove, || self.pool.remove_volume(name).unwrap()));
    }

    /// Writes `bytes`.
    pub fn write(&self, volume: &Volume, start: u64, bytes: &[u8]) {
        let write = |volume: &Volume| volume.write(start, bytes).unwrap();
        self.change(volume, |model| model.write(start, bytes), write);
    }

    /// Punches `part`.
    pub fn punch(&self, volume: &Volume, part: LogicalRange) {
        let pages = volume.extents(part).unwrap().into_iter();
        let pages = pages.filter(|extent| extent.size == ExtentSize::Page).flat_map(|extent| {
            let first = extent.logical.start / PAGE;
            first..first + extent.logical.len_bytes / PAGE
        });
        let end = part.start + part.len_bytes;
        let whole = pages.filter(|page| part.start <= page * PAGE && (page + 1) * PAGE <= end);
        let whole = whole.map(|page| (volume.name().to_string(), page));
        let whole: Vec<_> = whole.collect();
        self.journal.begin(|expected| expected.punched_whole = whole);
        self.change(volume, |model| model.punch(part), |volume| volume.punch(part).unwrap());
    }

    /// Zeroes `part`.
    pub fn zero(&self, volume: &Volume, part: LogicalRange) {
        self.change(volume, |model| model.zero(part), |volume| volume.zero(part).unwrap());
    }

    /// Cuts or grows.
    pub fn set_len(&self, volume: &Volume, len_bytes: u64) {
        let set_len = |volume: &Volume| volume.set_len(len_bytes).unwrap();
        self.change(volume, |model| model.set_len(len_bytes), set_len);
    }

    /// Upgrades all of it.
    pub fn upgrade(&self, volume: &Volume) {
        self.change(volume, |_| {}, |volume| volume.upgrade(all(volume), 1).unwrap());
    }

    /// Stores through a guard, and upgrades; only the sync makes what was stored durable.
    pub fn store_and_upgrade(
        &self,
        volume: &Volume,
        start: u64,
        bytes: &[u8],
        upgrade: UpgradeWhen,
    ) {
        // A guard may reach less than was asked for, so ask what can be reached at once.
        let reached = volume.map_mut(range(start, bytes.len() as u64)).unwrap().len();
        let bytes = &bytes[..reached];
        let act = |volume: &Volume| {
            let mut guard = volume.map_mut(range(start, bytes.len() as u64)).unwrap();
            guard.copy_from_slice(bytes);
            if upgrade == UpgradeWhen::Guarded {
                volume.upgrade(all(volume), 1).unwrap();
            }
            drop(guard);
            if upgrade == UpgradeWhen::Dirty {
                volume.upgrade(all(volume), 1).unwrap();
            }
            volume.sync(all(volume)).unwrap();
        };
        self.change(volume, |model| model.write(start, bytes), act);
    }

    /// Gives every page of the last slot an extent of its own, in order, the way that a volume gets
    /// them that grows; then the volume ends behind the slot.
    pub fn map_the_last_slot(&self, volume: &Volume) {
        let (len_bytes, slot) = (volume.len_bytes(), (volume.len_bytes() - 1) / HUGE);
        self.map_all(volume, range(slot * HUGE, len_bytes - slot * HUGE));
        self.set_len(volume, (slot + 1) * HUGE);
        self.map_all(volume, range(slot * HUGE, HUGE));
    }

    /// Maps all of `part` for writing, and stores nothing.
    fn map_all(&self, volume: &Volume, part: LogicalRange) {
        self.change(
            volume,
            |_| {},
            |volume| {
                let mut done = 0;
                while done < part.len_bytes {
                    let rest = range(part.start + done, part.len_bytes - done);
                    done += match volume.map_mut(rest) {
                        Ok(guard) => guard.len() as u64,
                        Err(Error::Full { .. }) => return,
                        Err(error) => panic!("{error}"),
                    }
                }
            },
        );
    }

    /// Anything, at random.
    pub fn one_operation(&mut self) {
        let name = self.random.pick(&["a", "b"]);
        let lengths = [1, 3 * PAGE + 7, HUGE - PAGE, HUGE, 2 * HUGE + 300, VOLUME_BYTES_MAX];
        let len_bytes = self.random.pick(&lengths);
        let Some(volume) = self.pool.volume(name).unwrap() else {
            self.create(name, len_bytes);
            return;
        };
        let slot = self.random.below(volume.len_bytes().div_ceil(HUGE));
        let first = slot * PAGES_PER_HUGE + self.random.below(PAGES);
        let pages = 1 + self.random.below(PAGES - first % PAGES_PER_HUGE);
        let left = volume.len_bytes().saturating_sub(first * PAGE);
        let whole = range(first * PAGE, (pages * PAGE).min(left));
        if whole.len_bytes == 0 {
            return self.set_len(&volume, len_bytes);
        }
        let skipped = self.random.below(whole.len_bytes);
        let part = range(whole.start + skipped, 1 + self.random.below(whole.len_bytes - skipped));
        let bytes = vec![1 + self.random.below(250) as u8; whole.len_bytes as usize];
        match self.random.below(18) {
            0..=3 => self.write(&volume, whole.start, &bytes),
            4 => self.punch(&volume, whole),
            5 => self.punch(&volume, part),
            6 => {
                let end = volume.len_bytes().min((slot + 1) * HUGE);
                self.punch(&volume, range(slot * HUGE, end - slot * HUGE));
            }
            7 => self.zero(&volume, part),
            8..=9 => self.set_len(&volume, len_bytes),
            10 if self.pool.space().free_pages > PAGES_PER_HUGE + 100 => {
                self.map_the_last_slot(&volume);
            }
            10..=12 => self.upgrade(&volume),
            13 => self.store_and_upgrade(&volume, whole.start, &bytes, UpgradeWhen::Guarded),
            14 => self.store_and_upgrade(&volume, whole.start, &bytes, UpgradeWhen::Dirty),
            15 | 16 => self.change_a_bad_page(),
            _ => {
                drop(volume);
                self.remove(name);
            }
        }
    }

    /// Volume "grown", whose first slot has a 4 KiB extent for each page but `holes`, and bytes in some
    /// of them; whole huge pages have bytes of an earlier owner almost everywhere that it has not.
    pub fn volume_of_pages(&self, holes: &[u64]) -> Volume {
        let earlier = self.create("earlier", VOLUME_BYTES_MAX);
        for slot in 0..SLOTS {
            for page in [0, 7, 300, 511] {
                self.write(&earlier, slot * HUGE + page * PAGE, &[0xee; PAGE as usize]);
            }
        }
        drop(earlier);
        self.remove("earlier");
        let grown = self.create("grown", HUGE - PAGE);
        self.map_the_last_slot(&grown);
        for page in [0, 1, 255, 511] {
            self.write(&grown, page * PAGE + 9, &[page as u8 | 1; 2000]);
        }
        for &page in holes {
            self.punch(&grown, range(page * PAGE, PAGE));
        }
        grown
    }
}
