//! Promise: whatever the DAX layer was doing when the power failed, the pool opens, every page has
//! one owner, nothing leaks, and everything that was acknowledged is there.
//!
//! Method: random operations on volumes of a recorded pool, and upgrades of slots that were made for
//! it. Before every fence, and around every operation, the images that a power failure could leave
//! are made (all of them where they are few, else extremes and samples), opened, and compared with
//! what was acknowledged; of the operation under way any byte may be there or not, and of a punch each
//! 4 KiB extent that it covers whole. What an image names must not be free in the pool that goes on:
//! it would be given away while a crash still leads back to it. A failure prints the seed, the fence and the image's choice, which replay it:
//! `DAXITE_CRASH_SEED=N cargo test -p daxite-tests --test crash_volumes`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use daxite_core::sim::{CrashPoint, Recorder};
use daxite_core::{Error, ExtentSize, HUGE, LogicalRange, PAGE, PAGES_PER_HUGE, Pool, Volume};
use daxite_tests::{Model, Random, check_space, crash_seed};
use parking_lot::Mutex;

/// What the volumes must hold.
type Models = BTreeMap<String, Model>;

/// What was acknowledged, and what is under way and leads to it or not.
#[derive(Default)]
struct Expectation {
    acknowledged: Models,
    under_way: Option<Models>,
    /// 4 KiB extents that a punch under way covers whole, by volume and page: as they were or gone.
    punched_whole: Vec<(String, u64)>,
}

const SLOTS: u64 = 3;
const VOLUME_BYTES_MAX: u64 = SLOTS * HUGE;
/// Pages at the head of each slot that operations use.
const PAGES: u64 = 5;
const SUPERBLOCK_PAGES: u64 = 2;

fn range(start: u64, len_bytes: u64) -> LogicalRange {
    LogicalRange::new(start, len_bytes)
}

fn all(volume: &Volume) -> LogicalRange {
    range(0, volume.len_bytes())
}

/// Opens every image of a crash point and compares it with what is expected.
fn check(
    point: &CrashPoint<'_>,
    expectation: &Expectation,
    alive: Option<&Pool>,
    seed: u64,
    budget: usize,
) -> u64 {
    let choices = point.choices(budget, seed ^ point.fences());
    let states = choices.len() as u64;
    for choice in choices {
        let context = || format!("seed {seed}, fence {}, choice {choice}", point.fences());
        let pool = match Pool::from_image(&point.image(&choice), None) {
            Ok(pool) => pool,
            // Before the first superblock is whole there is nothing to lose.
            Err(Error::NotAPool { .. }) if point.fences() < 4 => continue,
            Err(error) => panic!("{}: {error}", context()),
        };
        let named_but_free = alive.and_then(|alive| given_away(alive, &pool));
        let result = named_but_free.map_or(Ok(()), Err).and_then(|()| compare(&pool, expectation));
        result.unwrap_or_else(|difference| panic!("{}: {difference}", context()));
        remove_everything(&pool);
        pool.close().unwrap();
    }
    states
}

/// A huge page of which more is free in the pool that goes on than in the image of it.
fn given_away(alive: &Pool, image: &Pool) -> Option<String> {
    let (alive, image) = (alive.free_by_huge_page(), image.free_by_huge_page());
    let given = alive.iter().zip(&image).position(|(alive, image)| alive > image)?;
    Some(format!("{} pages of huge page {given} are free, not {}", alive[given], image[given]))
}

/// Nothing may be left of a pool without volumes: what nobody names is free.
fn remove_everything(pool: &Pool) {
    pool.check();
    check_space(pool);
    for info in pool.volumes().unwrap() {
        assert!(pool.remove_volume(&info.name).unwrap());
    }
    assert_eq!(pool.space().mapped_pages, SUPERBLOCK_PAGES, "pages leaked");
    pool.check();
}

fn compare(pool: &Pool, expectation: &Expectation) -> Result<(), String> {
    let before = &expectation.acknowledged;
    let after = expectation.under_way.as_ref().unwrap_or(before);
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
                let of_this = expectation.punched_whole.iter().filter(|(of, _)| of == name);
                for (_, page) in of_this {
                    is_one_of(&volume, *page, either)?;
                }
            }
        }
    }
    Ok(())
}

/// The length is one of both, each byte before the end is, and behind it there are zeros: the volume
/// is made as long as it can be to see that.
fn compare_volume(volume: &Volume, either: [&Model; 2]) -> Result<(), String> {
    let len_bytes = volume.len_bytes();
    if !either.iter().any(|model| model.len_bytes() == len_bytes) {
        return Err(format!("it is {len_bytes:#x} bytes long"));
    }
    volume.set_len(VOLUME_BYTES_MAX).map_err(|error| error.to_string())?;
    let mut bytes = vec![0; HUGE as usize];
    for slot in 0..SLOTS {
        let start = slot * HUGE;
        volume.read(start, &mut bytes).map_err(|error| format!("slot {slot}: {error}"))?;
        let mut allowed = either.map(|model| model.read(range(start, HUGE)));
        let inside = len_bytes.saturating_sub(start).min(HUGE) as usize;
        allowed.iter_mut().for_each(|allowed| allowed[inside..].fill(0));
        if allowed.contains(&bytes) {
            continue;
        }
        let is_wrong = |&at: &usize| allowed.iter().all(|allowed| allowed[at] != bytes[at]);
        if let Some(at) = (0..bytes.len()).find(is_wrong) {
            let allowed = allowed.map(|allowed| allowed[at]);
            return Err(format!("slot {slot} byte {at:#x} is {}, not {allowed:?}", bytes[at]));
        }
    }
    Ok(())
}

/// A page is as one of both has it, not a mix.
fn is_one_of(volume: &Volume, page: u64, either: [&Model; 2]) -> Result<(), String> {
    let mut bytes = vec![0; PAGE as usize];
    volume.read(page * PAGE, &mut bytes).map_err(|error| error.to_string())?;
    let is_this = |model: &&Model| model.read(range(page * PAGE, PAGE)) == bytes;
    let is_whole = either.iter().any(is_this);
    is_whole.then_some(()).ok_or_else(|| format!("page {page} of {} is torn", volume.name()))
}

/// When a slot is upgraded whose bytes were stored and not synced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UpgradeWhen {
    /// While the guard is alive.
    Guarded,
    /// When it is gone.
    Dirty,
}

struct Run {
    pool: Pool,
    recorder: Arc<Recorder>,
    expectation: Arc<Mutex<Expectation>>,
    states: Arc<AtomicU64>,
    random: Random,
}

impl Drop for Run {
    /// The hook knows the pool, and the pool the recorder that has the hook.
    fn drop(&mut self) {
        self.recorder.on_fence(|_| {});
    }
}

impl Run {
    fn start(seed: u64, pool_bytes: u64, budget: usize) -> Self {
        let recorder = Arc::new(Recorder::default());
        let expectation = Arc::new(Mutex::new(Expectation::default()));
        let states = Arc::new(AtomicU64::new(0));
        let alive = Arc::new(OnceLock::<Pool>::new());
        let (seen, counted, known) =
            (Arc::clone(&expectation), Arc::clone(&states), Arc::clone(&alive));
        recorder.on_fence(move |point| {
            let explored = check(point, &seen.lock(), known.get(), seed, budget);
            counted.fetch_add(explored, Ordering::Relaxed);
        });
        let pool = Pool::recorded(pool_bytes, &recorder).unwrap();
        assert!(alive.set(pool.clone()).is_ok());
        Self { pool, recorder, expectation, states, random: Random::new(seed) }
    }

    /// Runs `act`, which turns the acknowledged models into what `change` makes of them.
    fn step<T>(&self, change: impl FnOnce(&mut Models), act: impl FnOnce() -> T) -> T {
        let mut after = self.expectation.lock().acknowledged.clone();
        change(&mut after);
        self.expectation.lock().under_way = Some(after.clone());
        self.recorder.crash_point();
        let result = act();
        *self.expectation.lock() = Expectation { acknowledged: after, ..Expectation::default() };
        self.recorder.crash_point();
        result
    }

    /// [`Run::step`] for a volume.
    fn change<T>(
        &self,
        volume: &Volume,
        change: impl FnOnce(&mut Model),
        act: impl FnOnce(&Volume) -> T,
    ) -> T {
        let name = volume.name();
        self.step(|models| change(models.get_mut(name).expect("its model")), || act(volume))
    }

    fn create(&self, name: &str, len_bytes: u64) -> Volume {
        let make = |models: &mut Models| {
            models.insert(name.to_string(), Model::new(len_bytes));
        };
        self.step(make, || self.pool.create_volume(name, len_bytes).unwrap())
    }

    fn remove(&self, name: &str) {
        let remove = |models: &mut Models| {
            models.remove(name);
        };
        assert!(self.step(remove, || self.pool.remove_volume(name).unwrap()));
    }

    fn write(&self, volume: &Volume, start: u64, bytes: &[u8]) {
        let write = |volume: &Volume| volume.write(start, bytes).unwrap();
        self.change(volume, |model| model.write(start, bytes), write);
    }

    fn punch(&self, volume: &Volume, part: LogicalRange) {
        let pages = volume.extents(part).unwrap().into_iter();
        let pages = pages.filter(|extent| extent.size == ExtentSize::Page).flat_map(|extent| {
            let first = extent.logical.start / PAGE;
            first..first + extent.logical.len_bytes / PAGE
        });
        let end = part.start + part.len_bytes;
        let whole = pages.filter(|page| part.start <= page * PAGE && (page + 1) * PAGE <= end);
        let whole = whole.map(|page| (volume.name().to_string(), page));
        self.expectation.lock().punched_whole = whole.collect();
        self.change(volume, |model| model.punch(part), |volume| volume.punch(part).unwrap());
    }

    fn zero(&self, volume: &Volume, part: LogicalRange) {
        self.change(volume, |model| model.zero(part), |volume| volume.zero(part).unwrap());
    }

    fn set_len(&self, volume: &Volume, len_bytes: u64) {
        let set_len = |volume: &Volume| volume.set_len(len_bytes).unwrap();
        self.change(volume, |model| model.set_len(len_bytes), set_len);
    }

    fn upgrade(&self, volume: &Volume) {
        self.change(volume, |_| {}, |volume| volume.upgrade(all(volume), 1).unwrap());
    }

    /// Stores through a guard, and upgrades; only the sync makes what was stored durable.
    fn store_and_upgrade(&self, volume: &Volume, start: u64, bytes: &[u8], upgrade: UpgradeWhen) {
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
    fn map_the_last_slot(&self, volume: &Volume) {
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

    fn one_operation(&mut self) {
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
        match self.random.below(16) {
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
            _ => {
                drop(volume);
                self.remove(name);
            }
        }
    }
}

/// Volume "grown", whose first slot has a 4 KiB extent for each page but `holes`, and bytes in some
/// of them; whole huge pages have bytes of an earlier owner almost everywhere that it has not.
fn volume_of_pages(run: &Run, holes: &[u64]) -> Volume {
    let earlier = run.create("earlier", VOLUME_BYTES_MAX);
    for slot in 0..SLOTS {
        for page in [0, 7, 300, 511] {
            run.write(&earlier, slot * HUGE + page * PAGE, &[0xee; PAGE as usize]);
        }
    }
    drop(earlier);
    run.remove("earlier");
    let grown = run.create("grown", HUGE - PAGE);
    run.map_the_last_slot(&grown);
    for page in [0, 1, 255, 511] {
        run.write(&grown, page * PAGE + 9, &[page as u8 | 1; 2000]);
    }
    for &page in holes {
        run.punch(&grown, range(page * PAGE, PAGE));
    }
    grown
}

/// Runs what `act` does to a volume of pages, with and without holes in it, and says how many slots
/// were upgraded in place, and how many moved.
fn explore_upgrades(holes: &[u64], act: impl Fn(&mut Run, &Volume)) -> (u64, u64) {
    let mut run = Run::start(crash_seed(), 16 << 20, 12);
    let grown = volume_of_pages(&run, holes);
    act(&mut run, &grown);
    assert!(run.states.load(Ordering::Relaxed) > 200, "hardly anything was explored");
    let counts = run.pool.fault_counts();
    (counts.upgraded_in_place, counts.relocated)
}

#[test]
fn an_upgrade_in_place_survives_a_crash_anywhere() {
    let upgraded = explore_upgrades(&[], |run, grown| {
        run.upgrade(grown);
        run.write(grown, 2 * PAGE, &[7; 100]);
        run.set_len(grown, 77);
    });
    assert_eq!(upgraded, (1, 0));
}

#[test]
fn an_upgrade_in_place_under_a_guard_survives_a_crash_anywhere() {
    let upgraded = explore_upgrades(&[], |run, grown| {
        run.store_and_upgrade(grown, PAGE - 50, &[7; 100], UpgradeWhen::Guarded);
    });
    assert_eq!(upgraded, (1, 0));
}

#[test]
fn an_upgrade_by_moving_survives_a_crash_anywhere() {
    let upgraded = explore_upgrades(&[7, 300], |run, grown| {
        run.upgrade(grown);
        run.write(grown, 7 * PAGE, &[7; 100]);
        run.zero(grown, range(PAGE - 50, 100));
    });
    assert_eq!(upgraded, (0, 1));
}

#[test]
fn an_upgrade_by_moving_what_is_dirty_survives_a_crash_anywhere() {
    let upgraded = explore_upgrades(&[7, 300, 511], |run, grown| {
        run.store_and_upgrade(grown, PAGE - 50, &[7; 100], UpgradeWhen::Dirty);
    });
    assert_eq!(upgraded, (0, 1));
}

#[test]
fn a_volume_is_cut_and_grows_over_a_crash_anywhere() {
    for pool_bytes in [4 << 20, 16 << 20] {
        let run = Run::start(crash_seed(), pool_bytes, 12);
        let volume = run.create("v", VOLUME_BYTES_MAX);
        run.write(&volume, HUGE - 2 * PAGE, &[5; 4 * PAGE as usize]);
        let cuts = [2 * HUGE, HUGE + PAGE + 100, HUGE + 1, HUGE, HUGE - PAGE - 1, 1];
        cuts.into_iter().for_each(|len_bytes| run.set_len(&volume, len_bytes));
        run.write(&volume, 0, &[6]);
        run.set_len(&volume, 2 * HUGE);
        run.set_len(&volume, VOLUME_BYTES_MAX);
        assert!(run.states.load(Ordering::Relaxed) > 200, "hardly anything was explored");
    }
}

#[test]
fn a_pool_of_pages_survives_a_crash_anywhere() {
    for seed in crash_seed()..crash_seed() + 2 {
        let mut run = Run::start(seed, 4 << 20, 16);
        (0..40).for_each(|_| run.one_operation());
        assert!(run.states.load(Ordering::Relaxed) > 500, "hardly anything was explored");
    }
}

#[test]
fn a_pool_with_huge_pages_survives_a_crash_anywhere() {
    let mut run = Run::start(crash_seed(), 16 << 20, 6);
    (0..60).for_each(|_| run.one_operation());
    assert!(run.pool.fault_counts().allocated_huge > 0);
    assert!(run.states.load(Ordering::Relaxed) > 100, "hardly anything was explored");
}
